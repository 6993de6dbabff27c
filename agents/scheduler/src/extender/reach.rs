//! Waiting for extenders: what is asked over HTTP, each within its deadline.

use super::asked::Asked;
use super::victims::narrow;
use super::wire::{Nodes, about_nodes, about_victims, binding, bound, bounded};
use crate::config::{Config, Extender};
use crate::object::Pod;
use crate::preempt::Candidate;
use crate::snapshot::Snapshot;
use agent_runtime::outgoing::{Outgoing, Trust};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// An answer repeats at the most what it was asked about, which Go may write at greater length, and has words for each node
/// beside that. What is larger comes from something broken and must not fill the memory of the scheduler.
const ANSWER_BYTES_MIN: usize = 16 << 20;

/// An extender, and the way to it.
pub(crate) struct Reached {
    pub(crate) config: Extender,
    server: Outgoing,
}

/// All extenders, in the order in which they are asked.
#[derive(Default)]
pub(crate) struct Extenders(Vec<Arc<Reached>>);

impl Config {
    /// Whether everything is there that extenders are to be trusted by. Reads files.
    pub fn check_extenders(&self) -> Result<(), String> {
        Extenders::new(self).map(drop)
    }
}

impl Extenders {
    /// Those of a configuration. Reads the files that it names.
    pub(crate) fn new(config: &Config) -> Result<Extenders, String> {
        let reached = config.extenders.iter().map(|extender| {
            let server = trust(extender).and_then(|trust| Outgoing::new(&trust, extender.timeout));
            let config = extender.clone();
            match server {
                Ok(server) => Ok(Arc::new(Reached { config, server })),
                Err(error) => Err(format!("{}.tlsConfig: {error}", extender.path)),
            }
        });
        reached.collect::<Result<_, _>>().map(Extenders)
    }

    /// Those with this verb that want to be asked about the pod.
    fn asked(&self, pod: &Pod, verb: fn(&Extender) -> &str) -> Vec<Arc<Reached>> {
        let asked = self.0.iter().filter(|reached| {
            !verb(&reached.config).is_empty() && reached.config.is_interested(pod)
        });
        asked.cloned().collect()
    }

    /// Whether any has a say in where the pod goes.
    pub(crate) fn decide_about(&self, pod: &Pod) -> bool {
        let decides = |extender: &Extender| {
            !extender.filter_verb.is_empty() || !extender.prioritize_verb.is_empty()
        };
        let mut all = self.0.iter();
        all.any(|reached| decides(&reached.config) && reached.config.is_interested(pod))
    }

    /// How long they may take to say what they have to say of the nodes of one pod: those that filter answer one after the
    /// other, and those that prioritize at once.
    pub(crate) fn patience(&self, pod: &Pod) -> Duration {
        let timeouts = |verb: fn(&Extender) -> &str| {
            let all = self.asked(pod, verb).into_iter();
            all.map(|reached| reached.config.timeout)
        };
        let filters = timeouts(|extender| &extender.filter_verb);
        let filters = filters.fold(Duration::ZERO, Duration::saturating_add);
        let longest = timeouts(|extender| &extender.prioritize_verb).max();
        filters.saturating_add(longest.unwrap_or_default())
    }

    /// The one that binds the pod in our place.
    pub(crate) fn binder_of(&self, pod: &Pod) -> Option<Arc<Reached>> {
        self.asked(pod, |extender| &extender.bind_verb).pop()
    }

    /// What they say of these nodes, which all plugins pass. `pod` comes as JSON as well, and so does what `node` gives by name.
    /// Those that were `silent` before are passed over if they may be; those that are now are added to them.
    pub(crate) async fn ask(
        &self,
        pod: &Pod,
        whole_pod: &str,
        nodes: Vec<String>,
        node: impl Fn(&str) -> Option<Arc<str>> + Send + Sync,
        silent: &mut BTreeSet<String>,
    ) -> Asked {
        let before = silent.clone();
        let mut asked = Asked::about(nodes);
        for reached in self.asked(pod, |extender| &extender.filter_verb) {
            if asked.left.is_empty() {
                return asked;
            }
            let extender = &reached.config;
            if extender.ignorable && before.contains(&extender.url_prefix) {
                continue;
            }
            let question = reached.question(whole_pod, &asked.left, &node);
            let answer = reached.ask(&extender.filter_verb, question).await;
            if answer.is_err() {
                silent.insert(extender.url_prefix.clone());
            }
            asked.sift(extender, answer);
            if asked.failed.is_some() {
                return asked;
            }
        }
        if asked.left.len() < 2 {
            return asked;
        }
        let mut open = JoinSet::new();
        for reached in self.asked(pod, |extender| &extender.prioritize_verb) {
            if before.contains(&reached.config.url_prefix) {
                continue;
            }
            let question = reached.question(whole_pod, &asked.left, &node);
            open.spawn(host::here(async move {
                let verb = &reached.config.prioritize_verb;
                let answer = reached.ask(verb, question).await;
                (reached, answer)
            }));
        }
        while let Some(done) = open.join_next().await {
            match done {
                Ok((reached, answer)) => {
                    if answer.is_err() {
                        silent.insert(reached.config.url_prefix.clone());
                    }
                    asked.value(&reached.config, answer);
                }
                Err(error) => tracing::error!(%error, "asking an extender ended abnormally"),
            }
        }
        asked
    }

    /// Whether any has a say in who makes room for the pod, and whether one of these wants to see pods as they are.
    pub(crate) fn decide_about_victims(&self, pod: &Pod) -> (bool, bool) {
        let all = self.asked(pod, |extender| &extender.preempt_verb);
        let whole = all.iter().any(|reached| !reached.config.node_cache_capable);
        (!all.is_empty(), whole)
    }

    /// What they leave of the nodes where room could be made. `whole` are the victims as JSON, by uid.
    pub(crate) async fn ask_about_victims(
        &self,
        pod: &Pod,
        whole_pod: &str,
        whole: &BTreeMap<String, Arc<str>>,
        mut candidates: Vec<Candidate>,
        snapshot: &Snapshot,
    ) -> Result<Vec<Candidate>, String> {
        for reached in self.asked(pod, |extender| &extender.preempt_verb) {
            if candidates.is_empty() {
                break;
            }
            let extender = &reached.config;
            let whole = Some(whole).filter(|_| !extender.node_cache_capable);
            let question = about_victims(whole_pod, &candidates, whole);
            let answer = reached.ask(&extender.preempt_verb, question).await;
            candidates = narrow(extender, answer, candidates, snapshot)?;
        }
        Ok(candidates)
    }
}

impl Reached {
    fn question(
        &self,
        pod: &str,
        names: &[String],
        node: &impl Fn(&str) -> Option<Arc<str>>,
    ) -> String {
        if self.config.node_cache_capable {
            return about_nodes(pod, &Nodes::Names(names));
        }
        let known = |name: &String| {
            // One that has just come, or is only supposed to be there.
            let stub = || json!({"metadata": {"name": name}}).to_string().into();
            node(name).unwrap_or_else(stub)
        };
        about_nodes(pod, &Nodes::Whole(names.iter().map(known).collect()))
    }

    /// Binds the pod.
    pub(crate) async fn bind(&self, pod: &Pod, node: &str) -> Result<(), String> {
        let answer = self.ask(&self.config.bind_verb, binding(pod, node)).await?;
        bound(&answer)
    }

    async fn ask(&self, verb: &str, body: String) -> Result<Value, String> {
        let url = format!("{}/{verb}", self.config.url_prefix.trim_end_matches('/'));
        let bytes_max = ANSWER_BYTES_MIN + 2 * body.len();
        let answer = self.server.post(&url, body, bytes_max).await;
        let answer = answer.map_err(|error| bounded(&error))?;
        if answer.code != 200 {
            let code = answer.code;
            return Err(format!(
                "failed {verb} with extender at URL {url}, code {code}"
            ));
        }
        // As in Go, nobody looks at what comes behind the first value.
        let mut values = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
        match values.next() {
            Some(value) => value.map_err(|error| format!("json: {error}")),
            None => Err("EOF".into()),
        }
    }
}

fn trust(extender: &Extender) -> Result<Trust, String> {
    let tls = &extender.tls;
    let shows = tls.certificate.is_given() && tls.key.is_given();
    Ok(Trust {
        insecure: tls.insecure,
        server_name: tls.server_name.clone(),
        ca_pem: tls.ca.read()?,
        identity: match shows {
            true => Some((tls.certificate.read()?, tls.key.read()?)),
            false => None,
        },
    })
}

/// An object as extenders get it: as the scheduler of Kubernetes has it, without what the API says around it.
pub(crate) fn whole(object: &Value) -> Arc<str> {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata {
        metadata.remove("managedFields");
    }
    object.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extenders: &str) -> Config {
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration";
        Config::parse(&format!("{head}\nextenders: [{extenders}]\n")).unwrap()
    }

    #[test]
    fn what_a_file_names_has_to_be_there() {
        let told = |extenders: &str| config(extenders).check_extenders();
        assert_eq!(told("{urlPrefix: 'https://h', enableHTTPS: true}"), Ok(()));
        let missing = told("{urlPrefix: 'https://h', tlsConfig: {caFile: /nowhere/ca}}");
        let error = missing.unwrap_err();
        assert!(
            error.starts_with("extenders[0].tlsConfig: open /nowhere/ca: "),
            "{error}"
        );
    }

    #[test]
    fn how_long_it_may_take_to_ask_about_a_pod() {
        let text = "{urlPrefix: 'http://a', filterVerb: f}, {urlPrefix: 'http://b', filterVerb: f, prioritizeVerb: p, \
            httpTimeout: 2s, weight: 1}, {urlPrefix: 'http://c', prioritizeVerb: p, httpTimeout: 1s, weight: 1}, \
            {urlPrefix: 'http://d', bindVerb: b, httpTimeout: 99s}";
        let patience = |text: &str| {
            let extenders = Extenders::new(&config(text)).unwrap();
            extenders.patience(&Pod::default())
        };
        assert_eq!(patience(text), Duration::from_secs(5 + 2 + 2));
        assert_eq!(
            patience("{urlPrefix: 'http://d', bindVerb: b}"),
            Duration::ZERO
        );
    }

    #[test]
    fn whom_to_ask() {
        let text = "{urlPrefix: 'http://a', filterVerb: f}, {urlPrefix: 'http://b', bindVerb: b, preemptVerb: p}";
        let extenders = Extenders::new(&config(text)).unwrap();
        let pod = Pod::default();
        assert!(extenders.decide_about(&pod));
        assert_eq!(extenders.decide_about_victims(&pod), (true, true));
        let binder = extenders.binder_of(&pod).unwrap();
        assert_eq!(binder.config.url_prefix, "http://b");
        let text = "{urlPrefix: 'http://b', bindVerb: b}";
        let extenders = Extenders::new(&config(text)).unwrap();
        assert!(!extenders.decide_about(&pod));
        assert_eq!(extenders.decide_about_victims(&pod), (false, false));
        let none = Extenders::default();
        assert!(!none.decide_about(&pod) && none.binder_of(&pod).is_none());
    }

    #[test]
    fn objects_are_sent_without_what_surrounds_them() {
        let object = json!({"kind": "Node", "apiVersion": "v1",
            "metadata": {"name": "n", "managedFields": []}, "spec": {"kind": "kept"}});
        assert_eq!(
            serde_json::from_str::<Value>(&whole(&object)).unwrap(),
            json!({"metadata": {"name": "n"}, "spec": {"kind": "kept"}})
        );
    }
}
