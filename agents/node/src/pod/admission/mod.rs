//! Whether the node takes a pod at all: who names the node in the pod's spec has not asked the scheduler.
//!
//! Pure: what the node is ([`site`]), what its pods take of it ([`share`]), and the pod decide. The reasons and messages are a
//! kubelet's, and so is their order: of several the first is told. Unlike a kubelet a node ends no other pod to make room for
//! a critical one, which it takes all the same; and what has begun is never asked again.

pub(crate) mod share;
pub(crate) mod site;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use agent_runtime::kinds::{PodPlacement, Taint, Toleration};
use serde::Deserialize;
use serde_json::Value;

use super::status::Verdict;
use share::{Share, Used};
use site::{MEMORY, OS, Site};

/// What the message of a pod begins with that was not taken; its event says only what follows.
pub(crate) const REJECTED: &str = "Pod was rejected: ";
/// From this priority on a pod is critical.
const CRITICAL_PRIORITY: i64 = 2_000_000_000;
const OS_LABEL: &str = "kubernetes.io/os";

/// Whether the pod was taken once, which nothing undoes.
pub(crate) fn was_taken(pod: &Value) -> bool {
    pod["status"]["startTime"].is_string()
}

/// Whether the API has the pod as ended: it takes nothing any more.
pub(crate) fn has_ended(pod: &Value) -> bool {
    matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    )
}

/// Who was taken, by UID, known before the API has it: whoever decides under one lock that holds this never gives anything
/// twice.
#[derive(Debug, Default)]
pub(crate) struct Admitted(BTreeSet<String>);

impl Admitted {
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.0.contains(uid)
    }

    /// Takes a pod that has begun already.
    pub(crate) fn keep(&mut self, uid: &str) {
        self.0.insert(uid.to_owned());
    }

    /// Takes a new pod that finds what it asks for beside those that are present; else says why not.
    pub(crate) fn take(
        &mut self,
        site: &Site,
        pod: &Value,
        present: &[Arc<Value>],
    ) -> Option<Verdict> {
        let uid_of = |pod: &Value| {
            pod["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let uid = uid_of(pod);
        let mut used = Used::default();
        for other in present {
            let other_uid = uid_of(other);
            let was_taken = was_taken(other) || self.0.contains(&other_uid);
            if other_uid != uid && was_taken && !has_ended(other) {
                used.add(&Share::of(other));
            }
        }
        let verdict = refusal(site, &used, pod, &Share::of(pod));
        if verdict.is_none() {
            self.0.insert(uid);
        }
        verdict
    }

    /// The pod is gone, or its task has ended.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.0.remove(uid);
    }
}

/// Those that a node has taken before come first: what they have nobody else gets. Then whoever was made first.
pub(crate) fn in_order(pods: &mut [Value]) {
    pods.sort_by_cached_key(|pod| {
        let made = pod["metadata"]["creationTimestamp"].as_str();
        (!was_taken(pod), made.unwrap_or_default().to_owned())
    });
}

/// Why a new pod that takes this share is not taken by a node of which so much is used.
pub(crate) fn refusal(site: &Site, used: &Used, pod: &Value, share: &Share) -> Option<Verdict> {
    let (reason, message) = pressed(site, pod)
        .or_else(|| unfit(site, pod))
        .or_else(|| shortage(site, used, share).filter(|_| !is_critical(pod)))
        .or_else(|| predicate(site, used, pod, share))?;
    Some(Verdict {
        reason,
        message: format!("{REJECTED}{message}"),
    })
}

type Why = (&'static str, String);

/// What the node is short of while it takes only those that it cannot do without, and, if it is only memory, those that have
/// asked for some or do not mind.
fn pressed(site: &Site, pod: &Value) -> Option<Why> {
    if site.pressures.is_empty() || is_critical(pod) {
        return None;
    }
    let short_of_memory = Taint {
        key: "node.kubernetes.io/memory-pressure".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let tolerations = Vec::<Toleration>::deserialize(&pod["spec"]["tolerations"]);
    let does_not_mind = || {
        let mut tolerations = tolerations.into_iter().flatten();
        pod["status"]["qosClass"] != "BestEffort"
            || tolerations.any(|one| one.tolerates(&short_of_memory))
    };
    if site.pressures == [MEMORY] && does_not_mind() {
        return None;
    }
    let message = format!("The node had condition: [{}]. ", site.pressures.join(" "));
    Some(("Evicted", message))
}

/// What no room on the node would mend.
fn unfit(site: &Site, pod: &Value) -> Option<Why> {
    let (labels, spec) = (&pod["metadata"]["labels"], &pod["spec"]);
    if labels[OS_LABEL].as_str().is_some_and(|os| os != OS) {
        let message =
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Some(("PodOSSelectorNodeLabelDoesNotMatch", message.to_owned()));
    }
    if spec["os"]["name"].as_str().is_some_and(|os| os != OS) {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Some(("PodOSNotSupported", message.to_owned()));
    }
    if spec["securityContext"]["supplementalGroupsPolicy"] == "Strict" && !site.keeps_groups_out {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return Some(("SupplementalGroupsPolicyNotSupported", message.to_owned()));
    }
    None
}

fn is_critical(pod: &Value) -> bool {
    let priority = pod["spec"]["priority"].as_i64();
    priority.is_some_and(|priority| priority >= CRITICAL_PRIORITY)
}

/// The first resource of which the pod asks for more than is left.
fn shortage(site: &Site, used: &Used, share: &Share) -> Option<Why> {
    let short = |resource: &str, requested: i64, used: i64, capacity: i64| {
        let is_short = requested > 0 && requested > capacity.saturating_sub(used);
        let message = || {
            format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            )
        };
        is_short.then(|| (out_of(resource), message()))
    };
    // An extended resource that the node does not know is somebody else's to look after.
    let is_ours = |name: &&str| !is_extended(name) || site.room.others.contains_key(*name);
    let of = |name: &str| {
        let amounts = [&share.amounts, &used.amounts, &site.room];
        let [requested, used, capacity] = amounts.map(|amounts| amounts.get(name));
        short(name, requested, used, capacity)
    };
    short("pods", 1, used.pods, site.pods)
        .or_else(|| share.amounts.names().filter(is_ours).find_map(of))
}

fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// Names of resources for which reasons are kept.
const REASONS_MAX: usize = 256;

/// The reason of a shortage. Reasons are kept for good, as events want them: there are as many as nodes have resources.
fn out_of(resource: &str) -> &'static str {
    static OTHERS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    match resource {
        "cpu" => "OutOfcpu",
        "memory" => "OutOfmemory",
        "ephemeral-storage" => "OutOfephemeral-storage",
        "pods" => "OutOfpods",
        _ => {
            let reason = format!("OutOf{resource}");
            let mut others = OTHERS.lock().unwrap_or_else(PoisonError::into_inner);
            match others.get(reason.as_str()).copied() {
                Some(known) => known,
                None if others.len() >= REASONS_MAX => "UnexpectedAdmissionError",
                None => {
                    let kept: &'static str = reason.leak();
                    others.insert(kept);
                    kept
                }
            }
        }
    }
}

/// What the scheduler would have asked, too.
fn predicate(site: &Site, used: &Used, pod: &Value, share: &Share) -> Option<Why> {
    let mut placement = PodPlacement::deserialize(&pod["spec"]).unwrap_or_default();
    let (node, name) = (site.node(), std::mem::take(&mut placement.node_name));
    let failed = |reason: &'static str, what: &str| {
        Some((reason, format!("Predicate {reason} failed: {what}")))
    };
    if !placement.selects(&node) {
        let what = "node(s) didn't match Pod's node affinity/selector";
        return failed("NodeAffinity", what);
    }
    if !name.is_empty() && name != node.metadata.name {
        return failed("NodeName", "node(s) didn't match the requested node name");
    }
    let mut ports = share.ports.iter();
    if ports.any(|port| used.ports.iter().any(|other| port.conflicts(other))) {
        let what = "node(s) didn't have free ports for the requested pod ports";
        return failed("NodePorts", what);
    }
    let tolerations = &placement.tolerations;
    let tolerated = |taint| tolerations.iter().any(|one| one.tolerates(taint));
    if !site.taints.iter().all(tolerated) {
        let what = "node(s) had taints that the pod didn't tolerate";
        return failed("TaintToleration", what);
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn site() -> Site {
        Site::of(&json!({
            "metadata": {"name": "n", "labels": {"zone": "a"}},
            "spec": {"taints": [{"key": "k", "effect": "NoExecute"}, {"key": "l", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "10Gi", "pods": "3",
                                       "hugepages-2Mi": "0", "example.com/known": "1"}},
        }))
    }

    /// A pod on the node that tolerates its taint, changed by a merge patch of spec.
    fn pod(more: Value) -> Value {
        let mut pod = json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"nodeName": "n", "tolerations": [{"key": "k", "operator": "Exists"}],
                     "containers": [{"name": "c", "image": "i"}]}});
        for (field, value) in more.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        pod
    }

    fn asking(requests: Value) -> Value {
        pod(
            json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}),
        )
    }

    fn on_port(port: Value) -> Value {
        pod(
            json!({"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}, port]}]}),
        )
    }

    fn beside(there: &[Value], pod: &Value) -> Option<(&'static str, String)> {
        let mut used = Used::default();
        there.iter().for_each(|one| used.add(&Share::of(one)));
        let verdict = refusal(&site(), &used, pod, &Share::of(pod))?;
        let message = verdict.message.strip_prefix(REJECTED).unwrap().to_owned();
        Some((verdict.reason, message))
    }

    fn reason(pod: &Value) -> Option<&'static str> {
        beside(&[], pod).map(|(reason, _)| reason)
    }

    #[test]
    fn who_asks_for_more_than_is_left_is_told_of_what() {
        let there = [asking(json!({"cpu": "1500m", "example.com/known": "1"}))];
        let why = |requests: Value| beside(&there, &asking(requests));
        let (reason, message) = why(json!({"cpu": "600m", "memory": "2Gi"})).unwrap();
        assert_eq!(reason, "OutOfcpu");
        assert_eq!(
            message,
            "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
        );
        assert_eq!(why(json!({"cpu": "500m", "memory": "1Gi"})), None);
        let reason = |requests: Value| why(requests).map(|(reason, _)| reason);
        assert_eq!(reason(json!({"memory": "2Gi"})), Some("OutOfmemory"));
        assert_eq!(
            reason(json!({"ephemeral-storage": "1Ti"})),
            Some("OutOfephemeral-storage")
        );
        assert_eq!(
            reason(json!({"hugepages-2Mi": "2Mi"})),
            Some("OutOfhugepages-2Mi")
        );
        assert_eq!(
            reason(json!({"example.com/known": "1"})),
            Some("OutOfexample.com/known")
        );
        assert_eq!(reason(json!({"example.com/unknown": "1"})), None);
        assert_eq!(reason(json!({"cpu": "0", "hugepages-1Gi": "0"})), None);
        let three = [asking(json!({})), asking(json!({})), asking(json!({}))];
        let (reason, message) = beside(&three, &asking(json!({}))).unwrap();
        assert_eq!(reason, "OutOfpods");
        assert!(message.ends_with("pods, requested: 1, used: 3, capacity: 3"));
    }

    #[test]
    fn a_critical_pod_is_taken_without_room_but_not_against_its_own_words() {
        let mut critical = asking(json!({"cpu": "8"}));
        assert_eq!(reason(&critical), Some("OutOfcpu"));
        critical["spec"]["priority"] = json!(CRITICAL_PRIORITY);
        assert_eq!(reason(&critical), None);
        critical["spec"]["nodeSelector"] = json!({"zone": "b"});
        assert_eq!(reason(&critical), Some("NodeAffinity"));
        // No pod here is made by the node itself, and anybody can say so of his.
        let mut mirror = asking(json!({"cpu": "8"}));
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        assert_eq!(reason(&mirror), Some("OutOfcpu"));
    }

    #[test]
    fn the_nodes_labels_name_and_taints_are_asked_as_the_scheduler_asks() {
        let required = |zone: &str| {
            let term =
                json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
            let selector = json!({"nodeSelectorTerms": [term]});
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}})
        };
        assert_eq!(reason(&pod(json!({"affinity": required("a")}))), None);
        let (_, message) = beside(&[], &pod(json!({"affinity": required("b")}))).unwrap();
        assert_eq!(
            message,
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        );
        assert_eq!(reason(&pod(json!({"nodeName": "other"}))), Some("NodeName"));
        let (reason, message) = beside(&[], &pod(json!({"tolerations": []}))).unwrap();
        assert_eq!(
            (reason, message.as_str()),
            (
                "TaintToleration",
                "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
            )
        );
    }

    #[test]
    fn a_node_that_is_short_takes_only_whom_it_must_or_who_does_not_mind() {
        let short_of = |kinds: &[&'static str], pod: &Value| {
            let mut site = site();
            site.pressures = kinds.to_vec();
            let verdict = refusal(&site, &Used::default(), pod, &Share::of(pod))?;
            Some((verdict.reason, verdict.message))
        };
        let of_class = |class: &str| {
            let mut pod = pod(json!({}));
            pod["status"] = json!({"qosClass": class});
            pod
        };
        let (careless, careful) = (of_class("BestEffort"), of_class("Burstable"));
        let (reason, message) = short_of(&[MEMORY], &careless).unwrap();
        assert_eq!(reason, "Evicted");
        assert_eq!(
            message,
            "Pod was rejected: The node had condition: [MemoryPressure]. "
        );
        assert_eq!(short_of(&[MEMORY], &careful), None);
        let mut content = careless.clone();
        content["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
        assert_eq!(short_of(&[MEMORY], &content), None);
        assert!(short_of(&[MEMORY, "DiskPressure"], &content).is_some());
        assert!(short_of(&["DiskPressure"], &careful).is_some());
        let mut critical = careless.clone();
        critical["spec"]["priority"] = json!(CRITICAL_PRIORITY);
        assert_eq!(short_of(&["DiskPressure"], &critical), None);
        assert_eq!(short_of(&[], &careless), None);
    }

    #[test]
    fn what_the_node_cannot_be_comes_before_what_it_lacks() {
        let with = |more: Value| {
            let mut asking = pod(more);
            asking["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "8"}});
            asking
        };
        let reason_of = |more: Value| reason(&with(more));
        assert_eq!(
            reason_of(json!({"os": {"name": "windows"}})),
            Some("PodOSNotSupported")
        );
        assert_eq!(
            reason_of(json!({"os": {"name": "linux"}})),
            Some("OutOfcpu")
        );
        let strict = json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}});
        assert_eq!(
            reason_of(strict),
            Some("SupplementalGroupsPolicyNotSupported")
        );
        let mut labelled = with(json!({}));
        labelled["metadata"]["labels"] = json!({OS_LABEL: "windows"});
        assert_eq!(
            reason(&labelled),
            Some("PodOSSelectorNodeLabelDoesNotMatch")
        );
    }

    #[test]
    fn a_pod_is_not_taken_beside_one_that_has_its_port() {
        let there = [on_port(
            json!({"containerPort": 80, "hostPort": 21017, "hostIP": "10.0.0.1"}),
        )];
        let refused = |port: Value| beside(&there, &on_port(port)).map(|(reason, _)| reason);
        let same = json!({"containerPort": 1, "hostPort": 21017, "protocol": "TCP"});
        assert_eq!(refused(same), Some("NodePorts"));
        assert_eq!(refused(json!({"hostPort": 21017, "protocol": "UDP"})), None);
        assert_eq!(refused(json!({"hostPort": 21018})), None);
        assert_eq!(
            refused(json!({"hostPort": 21017, "hostIP": "10.0.0.2"})),
            None
        );
        assert_eq!(refused(json!({"containerPort": 21017})), None);
    }

    #[test]
    fn of_two_that_come_at_once_the_first_is_taken_and_keeps_its_port_until_it_is_gone() {
        let asking = |uid: &str, status: Value| {
            let mut pod = on_port(json!({"hostPort": 21017}));
            pod["metadata"]["uid"] = uid.into();
            pod["status"] = status;
            Arc::new(pod)
        };
        let new = |uid: &str| asking(uid, json!({}));
        let both = [new("a"), new("b")];
        let site = site();
        let mut admitted = Admitted::default();
        assert!(admitted.take(&site, &new("b"), &both).is_none());
        assert!(admitted.take(&site, &new("a"), &both).is_some());
        assert!(admitted.has("b") && !admitted.has("a"));
        let ended = [new("a"), asking("b", json!({"phase": "Failed"}))];
        assert!(admitted.take(&site, &new("c"), &ended).is_none());
        admitted.forget("b");
        admitted.forget("c");
        assert!(admitted.take(&site, &new("a"), &both).is_none());
        let begun = [asking("d", json!({"startTime": "2026-01-01T00:00:00Z"}))];
        let mut admitted = Admitted::default();
        assert!(admitted.take(&site, &new("a"), &begun).is_some());
        admitted.keep("a");
        assert!(admitted.has("a"), "what has begun is not asked again");
    }

    #[test]
    fn who_was_taken_before_comes_first() {
        let pod = |uid: &str, made: &str, started: Option<&str>| {
            json!({"metadata": {"uid": uid, "creationTimestamp": format!("2026-01-01T00:00:{made}Z")},
                   "status": {"startTime": started}})
        };
        let mut pods = [
            pod("younger", "02", None),
            pod("older", "01", None),
            pod("begun", "03", Some("2026-01-01T00:00:04Z")),
        ];
        in_order(&mut pods);
        let uids = pods.each_ref().map(|pod| pod["metadata"]["uid"].as_str());
        assert_eq!(uids, [Some("begun"), Some("older"), Some("younger")]);
    }
}
