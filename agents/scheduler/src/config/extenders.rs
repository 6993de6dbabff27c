//! Extenders: servers of somebody else that have a say in decisions, as a file describes them.

use super::fields::{Fields, Problems};
use super::texts::{duration, qualified_name_errors};
use crate::object::Pod;
use agent_runtime::outgoing::from_base64;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// How long an answer may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One extender. A verb that is empty is one that it does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Extender {
    /// Where it stands in the file.
    pub path: String,
    /// Where it is; also what it is called.
    pub url_prefix: String,
    /// Sorts nodes out.
    pub filter_verb: String,
    /// Says which pods may leave which node.
    pub preempt_verb: String,
    /// Values nodes.
    pub prioritize_verb: String,
    /// Binds pods in the place of the scheduler.
    pub bind_verb: String,
    /// How much its values count.
    pub weight: i64,
    /// How long an answer may take.
    pub timeout: Duration,
    /// It knows the nodes: only their names are sent.
    pub node_cache_capable: bool,
    /// It is asked only about pods that ask for one of these; without any, about all.
    pub managed: BTreeSet<String>,
    /// Decisions go on when it fails.
    pub ignorable: bool,
    /// Whom to trust.
    pub tls: Tls,
}

/// Whom to trust in the place of an extender. What stands in the file itself comes before what it names.
#[derive(Clone, Default, PartialEq)]
pub struct Tls {
    /// Anybody.
    pub insecure: bool,
    /// Whom its certificate has to name, if that is not the host.
    pub server_name: String,
    /// The authority.
    pub ca: Material,
    /// The certificate that is shown.
    pub certificate: Material,
    /// Its key.
    pub key: Material,
}

/// Something in PEM.
#[derive(Clone, Default, PartialEq)]
pub struct Material {
    /// As it stands in the file.
    pub data: Vec<u8>,
    /// Where else it is.
    pub file: String,
}

impl Material {
    /// Whether it is given.
    pub fn is_given(&self) -> bool {
        !self.data.is_empty() || !self.file.is_empty()
    }

    /// What it is; empty if it is not given.
    pub fn read(&self) -> Result<Vec<u8>, String> {
        if !self.data.is_empty() || self.file.is_empty() {
            return Ok(self.data.clone());
        }
        std::fs::read(&self.file).map_err(|error| format!("open {}: {error}", self.file))
    }
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("insecure", &self.insecure)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl Extender {
    /// What stands for it beside the names of plugins.
    pub fn label(&self) -> String {
        format!("Extender {}", self.url_prefix)
    }

    /// Whether it wants to be asked about the pod.
    pub fn is_interested(&self, pod: &Pod) -> bool {
        // A limit of such a resource is a request for it, by default and by validation.
        let asked = || pod.requests.scalar.keys();
        self.managed.is_empty() || asked().any(|name| self.managed.contains(name))
    }

    /// Whether it wants to see nodes as they are.
    pub fn wants_nodes(&self) -> bool {
        let asks = !self.filter_verb.is_empty() || !self.prioritize_verb.is_empty();
        asks && !self.node_cache_capable
    }
}

/// What a file says of extenders.
#[derive(Default)]
pub(super) struct Taken {
    /// In the order in which they are asked: those that may fail come last.
    pub(super) extenders: Vec<Extender>,
    /// Resources that only they look at.
    pub(super) ignored: BTreeSet<String>,
}

/// Reads `extenders`.
pub(super) fn take(fields: &mut Fields<'_>, problems: &mut Problems) -> Taken {
    let mut taken = Taken::default();
    let mut known = BTreeSet::new();
    for (path, item) in fields.list("extenders", problems) {
        let mut fields = Fields::of(Some(item), &path, problems);
        let extender = take_one(&mut fields, &mut known, &mut taken.ignored, problems);
        fields.end(problems);
        taken.extenders.push(extender);
    }
    let binders = taken.extenders.iter().filter(|e| !e.bind_verb.is_empty());
    let binders = binders.count();
    if binders > 1 {
        let found = format!("\"found {binders} extenders implementing bind\"");
        problems.invalid("extenders", &found, "only one extender can implement bind");
    }
    taken.extenders.sort_by_key(|extender| extender.ignorable);
    taken
}

fn take_one(
    fields: &mut Fields<'_>,
    known: &mut BTreeSet<String>,
    ignored: &mut BTreeSet<String>,
    problems: &mut Problems,
) -> Extender {
    let mut text = |field: &'static str| {
        let text = fields.text(field, problems);
        text.unwrap_or_default().to_owned()
    };
    let url_prefix = text("urlPrefix");
    let [filter_verb, preempt_verb, prioritize_verb, bind_verb] =
        ["filterVerb", "preemptVerb", "prioritizeVerb", "bindVerb"].map(text);
    check_url(&fields.path_of("urlPrefix"), &url_prefix, problems);
    let weight = fields.number("weight", problems).unwrap_or(0);
    if !prioritize_verb.is_empty() && weight <= 0 {
        let why = "must have a positive weight applied to it";
        problems.invalid(&fields.path_of("weight"), &weight.to_string(), why);
    }
    let mut flag = |field| fields.flag(field, problems).unwrap_or(false);
    let https = flag("enableHTTPS");
    let (node_cache_capable, ignorable) = (flag("nodeCacheCapable"), flag("ignorable"));
    let timeout = take_timeout(fields, problems);
    let tls = take_tls(fields, https, problems);
    let mut managed = BTreeSet::new();
    for (path, item) in fields.list("managedResources", problems) {
        let mut resource = Fields::of(Some(item), &path, problems);
        let name = resource.text("name", problems).unwrap_or_default();
        check_resource(&resource.path_of("name"), name, problems);
        if !known.insert(name.to_owned()) {
            let why = "duplicate extender managed resource name";
            problems.invalid(&resource.path_of("name"), &format!("{name:?}"), why);
        }
        managed.insert(name.to_owned());
        if resource.flag("ignoredByScheduler", problems) == Some(true) {
            ignored.insert(name.to_owned());
        }
        resource.end(problems);
    }
    Extender {
        path: fields.path.clone(),
        url_prefix,
        filter_verb,
        preempt_verb,
        prioritize_verb,
        bind_verb,
        weight,
        timeout,
        node_cache_capable,
        managed,
        ignorable,
        tls,
    }
}

/// Kubernetes finds out when it asks; nobody can be asked there.
fn check_url(path: &str, url: &str, problems: &mut Problems) {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let is_url = rest.is_some_and(|rest| {
        !rest.is_empty()
            && !rest.starts_with('/')
            && url.chars().all(|c| c.is_ascii_graphic())
            && !url.contains(['?', '#'])
    });
    if !is_url {
        let why = "must be a URL of http or https without query";
        problems.invalid(path, &format!("{url:?}"), why);
    }
}

fn take_timeout(fields: &mut Fields<'_>, problems: &mut Problems) -> Duration {
    let Some(text) = fields.text("httpTimeout", problems) else {
        return TIMEOUT;
    };
    match duration(text) {
        Some(Duration::ZERO) => TIMEOUT,
        Some(timeout) => timeout,
        None => {
            let path = fields.path_of("httpTimeout");
            let why = "must be a duration such as 5s";
            problems.invalid(&path, &format!("{text:?}"), why);
            TIMEOUT
        }
    }
}

fn take_tls(fields: &mut Fields<'_>, https: bool, problems: &mut Problems) -> Tls {
    let mut given = fields.object("tlsConfig", problems);
    let mut tls = Tls {
        insecure: given.flag("insecure", problems).unwrap_or(false),
        server_name: given
            .text("serverName", problems)
            .unwrap_or_default()
            .to_owned(),
        ca: take_material(&mut given, "caFile", "caData", problems),
        certificate: take_material(&mut given, "certFile", "certData", problems),
        key: take_material(&mut given, "keyFile", "keyData", problems),
    };
    if tls.insecure && tls.ca.is_given() {
        let why = "specifying a root certificates file with the insecure flag is not allowed";
        problems.invalid(&given.path_of("insecure"), "true", why);
    }
    given.end(problems);
    tls.insecure |= https && !tls.ca.is_given();
    tls
}

fn take_material(
    fields: &mut Fields<'_>,
    file: &'static str,
    data: &'static str,
    problems: &mut Problems,
) -> Material {
    let file = fields.text(file, problems).unwrap_or_default().to_owned();
    let text = fields.text(data, problems).unwrap_or_default();
    let decoded = from_base64(text);
    if decoded.is_none() {
        let path = fields.path_of(data);
        problems
            .decoding
            .push(format!("field {path:?}: not base64"));
    }
    Material {
        data: decoded.unwrap_or_default(),
        file,
    }
}

/// Whether it can be the name of an extended resource.
fn check_resource(path: &str, name: &str, problems: &mut Problems) {
    let value = format!("{name:?}");
    let errors = qualified_name_errors(name);
    for error in &errors {
        problems.invalid(path, &value, error);
    }
    let quota = format!("requests.{name}");
    let extended = name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && qualified_name_errors(&quota).is_empty();
    if errors.is_empty() && !extended {
        problems.invalid(path, &value, "is an invalid extended resource name");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, KIND, VERSION};
    use super::*;
    use crate::plugins::testing;
    use serde_json::json;

    fn parse(extenders: &str) -> Result<Config, String> {
        let text = format!("apiVersion: {VERSION}\nkind: {KIND}\nextenders: [{extenders}]\n");
        Config::parse(&text)
    }

    #[test]
    fn everything_that_a_file_may_say() {
        let config = parse(
            "{urlPrefix: 'http://may-fail:80/x/', filterVerb: f, ignorable: true}, \
             {urlPrefix: 'https://h', filterVerb: filter, prioritizeVerb: p, preemptVerb: e, bindVerb: b, weight: 7, \
              enableHTTPS: true, httpTimeout: 1m0.5s, nodeCacheCapable: true, \
              managedResources: [{name: example.com/a, ignoredByScheduler: true}, {name: example.com/b}], \
              tlsConfig: {serverName: s, certFile: /c, keyFile: /k, certData: aGk=, keyData: aGk=, caData: aGk=}}",
        );
        let config = config.unwrap();
        let [first, last] = &config.extenders[..] else {
            panic!("{:?}", config.extenders)
        };
        assert_eq!(
            (first.label(), first.timeout, first.weight),
            (
                "Extender https://h".into(),
                Duration::from_millis(60_500),
                7
            )
        );
        assert!(!first.wants_nodes() && last.wants_nodes());
        assert_eq!(
            (&first.tls.ca.data[..], first.tls.insecure),
            (&b"hi"[..], false)
        );
        assert_eq!(first.tls.certificate.read().unwrap(), b"hi");
        assert_eq!((last.ignorable, last.timeout), (true, TIMEOUT));
        let args = &config.profiles().next().unwrap().args;
        assert!(args.fit.ignores("example.com/a") && !args.fit.ignores("example.com/b"));
        // A key is nothing for a log.
        assert!(!format!("{config:?}").contains("104"));
    }

    #[test]
    fn whoever_names_no_authority_trusts_anybody_if_told_to_use_tls() {
        let insecure = |rest: &str| {
            let config = parse(&format!("{{urlPrefix: 'https://h', {rest}}}")).unwrap();
            config.extenders[0].tls.insecure
        };
        assert!(insecure("enableHTTPS: true"));
        assert!(insecure("tlsConfig: {insecure: true}"));
        assert!(!insecure("ignorable: true"));
        assert!(!insecure("enableHTTPS: true, tlsConfig: {caFile: /ca}"));
    }

    #[test]
    fn mistakes_are_told_as_in_kubernetes() {
        let table = [
            (
                "{urlPrefix: 'http://h', prioritizeVerb: p}",
                "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
            ),
            (
                "{urlPrefix: 'http://h', bindVerb: b}, {urlPrefix: 'http://i', bindVerb: b}",
                "extenders: Invalid value: \"found 2 extenders implementing bind\": only one extender can implement bind",
            ),
            (
                "{urlPrefix: 'http://h', managedResources: [{name: cpu}]}",
                "extenders[0].managedResources[0].name: Invalid value: \"cpu\": is an invalid extended resource name",
            ),
            (
                "{urlPrefix: 'http://h', managedResources: [{name: a.b/c}]}, {urlPrefix: 'http://i', managedResources: [{name: a.b/c}]}",
                "extenders[1].managedResources[0].name: Invalid value: \"a.b/c\": duplicate extender managed resource name",
            ),
            (
                "{urlPrefix: 'http://h', managedResources: [{name: a.b/-}]}",
                "extenders[0].managedResources[0].name: Invalid value: \"a.b/-\": name part must consist of alphanumeric \
                 characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or \
                 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ),
            (
                "{urlPrefix: 'http://h', tlsConfig: {insecure: true, caFile: /x}}",
                "extenders[0].tlsConfig.insecure: Invalid value: true: specifying a root certificates file with the \
                 insecure flag is not allowed",
            ),
            (
                "{urlPrefix: h}",
                "extenders[0].urlPrefix: Invalid value: \"h\": must be a URL of http or https without query",
            ),
            (
                "{urlPrefix: 'http://h', httpTimeout: '-5s'}",
                "extenders[0].httpTimeout: Invalid value: \"-5s\": must be a duration such as 5s",
            ),
            (
                "{urlPrefix: 'http://h', tlsConfig: {caData: '-'}, verb: v}",
                "strict decoding error: field \"extenders[0].tlsConfig.caData\": not base64, unknown field \"extenders[0].verb\"",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
        let odd =
            "5, null, {urlPrefix: 5, managedResources: [3, {}], tlsConfig: [], httpTimeout: 1}";
        assert!(parse(odd).is_err());
    }

    #[test]
    fn only_pods_that_ask_for_what_it_manages_are_its_business() {
        let config = parse(
            "{urlPrefix: 'http://all'}, {urlPrefix: 'http://a', managedResources: [{name: e.com/a}]}",
        );
        let config = config.unwrap();
        let asks = |requests: serde_json::Value| {
            let containers = json!([{"resources": {"requests": requests}}]);
            let pod = testing::pod(json!({"containers": [], "initContainers": containers}));
            let interested = config.extenders.iter().filter(|e| e.is_interested(&pod));
            interested.count()
        };
        assert_eq!(asks(json!({"e.com/a": "1"})), 2);
        assert_eq!(asks(json!({"e.com/a": "0"})), 2, "as in Kubernetes");
        assert_eq!(asks(json!({"e.com/b": "1", "cpu": "1"})), 1);
    }
}
