//! Whether the node takes a pod at all: who names the node in the pod's spec has not asked the scheduler.
//!
//! Pure: what the node is ([`site`]), what its pods take of it ([`share`]), and the pod decide. The reasons and messages are a
//! kubelet's, and so is their order: of several the first is told. For a critical pod that does not fit less important ones are
//! ended ([`preempt`]); what has begun is never asked again.

pub(crate) mod preempt;
pub(crate) mod resize;
pub(crate) mod share;
pub(crate) mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use agent_runtime::kinds::{PodPlacement, Taint, Toleration};
use serde::Deserialize;
use serde_json::Value;

use super::status::Verdict;
use preempt::{Holder, Missing, Rank};
use resize::{Order, Outcome};
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

/// What becomes of a new pod.
#[derive(Debug, PartialEq)]
pub(crate) enum Admission {
    Taken,
    Refused(Verdict),
    /// It is taken when these have been ended.
    InPlaceOf(Vec<String>),
}

/// Who was taken, by UID, known before the API has it: whoever decides under one lock that holds this never gives anything
/// twice.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    taken: BTreeSet<String>,
    /// Those that are being ended for critical pods, which have their place already.
    leaving: BTreeSet<String>,
    /// What those have that were given other amounts than when they were taken.
    resized: BTreeMap<String, Share>,
    /// Those that wait for other amounts, with their turn: the longer one waits the lower it is.
    deferred: BTreeMap<String, u64>,
    turns: u64,
}

impl Admitted {
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.taken.contains(uid)
    }

    /// Takes a pod that has begun already.
    pub(crate) fn keep(&mut self, uid: &str) {
        self.taken.insert(uid.to_owned());
    }

    /// Takes a pod in the place of these, which are to be ended.
    pub(crate) fn replace(&mut self, uid: &str, victims: &[String]) {
        self.keep(uid);
        self.leaving.extend(victims.iter().cloned());
    }

    /// Takes a new pod that finds what it asks for beside those that are present; else says why not, or what it takes.
    pub(crate) fn take(&mut self, site: &Site, pod: &Value, present: &[Arc<Value>]) -> Admission {
        let uid = uid_of(pod);
        let mut shares = Vec::new();
        for other in present {
            let other_uid = uid_of(other);
            let was_taken = was_taken(other) || self.has(&other_uid);
            let makes_room = is_critical(pod) && self.leaving.contains(&other_uid);
            if other_uid != uid && was_taken && !has_ended(other) && !makes_room {
                let share = self.share_of(other);
                shares.push((other_uid, share, Rank::of(other)));
            }
        }
        let holders = shares.iter();
        let holders = holders.map(|(uid, share, rank)| Holder::new(uid, share, *rank));
        let holders: Vec<Holder<'_>> = holders.collect();
        let admission = admission(site, &holders, pod, &Share::of(pod));
        if admission == Admission::Taken {
            self.taken.insert(uid);
        }
        admission
    }

    fn share_of(&self, pod: &Value) -> Share {
        let resized = self.resized.get(&uid_of(pod)).cloned();
        resized.unwrap_or_else(|| Share::of(pod))
    }

    /// Gives a pod what it asks for by now, if that is there beside what the others have. Of several that wait for more, the
    /// one whose turn it is gets it first, whoever asks: what it gets is kept for it.
    pub(crate) fn resize(&mut self, site: &Site, pod: &Value, present: &[Arc<Value>]) -> Outcome {
        let uid = uid_of(pod);
        if !self.deferred.contains_key(&uid) {
            self.turns += 1;
            self.deferred.insert(uid.clone(), self.turns);
        }
        let mut waiting: Vec<(Order, String, &Value)> = Vec::new();
        for (other, turn) in &self.deferred {
            let mut objects = present.iter().map(|object| &**object);
            let found = match *other == uid {
                true => Some(pod),
                false => objects.find(|object| uid_of(object) == *other),
            };
            if let Some(object) = found {
                let order = Order::of(object, &self.share_of(object), *turn);
                waiting.push((order, other.clone(), object));
            }
        }
        waiting.sort_by_key(|(order, ..)| *order);
        let mut outcome = Outcome::Fits;
        for (_, other, object) in waiting {
            let told = self.try_resize(site, object, &other, present);
            if told == Outcome::Fits {
                self.resized.insert(other.clone(), Share::asked(object));
            }
            if other == uid {
                outcome = told;
            }
        }
        // Others take what is kept for them when they ask.
        if !matches!(outcome, Outcome::Deferred(_)) {
            self.deferred.remove(&uid);
        }
        outcome
    }

    fn try_resize(&self, site: &Site, pod: &Value, uid: &str, present: &[Arc<Value>]) -> Outcome {
        let mut used = Used::default();
        for other in present {
            let other_uid = uid_of(other);
            let was_taken = was_taken(other) || self.has(&other_uid);
            if other_uid != uid && was_taken && !has_ended(other) {
                used.add(&self.share_of(other));
            }
        }
        resize::decide(site, &used, &Share::asked(pod))
    }

    /// The pod asks for what it has.
    pub(crate) fn settle(&mut self, uid: &str, pod: &Value) {
        self.deferred.remove(uid);
        if let Some(share) = self.resized.get_mut(uid) {
            *share = Share::asked(pod);
        }
    }

    /// Those that wait for others to have less.
    pub(crate) fn deferred(&self) -> Vec<String> {
        self.deferred.keys().cloned().collect()
    }

    /// The pod is gone, or its task has ended.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.taken.remove(uid);
        self.leaving.remove(uid);
        self.resized.remove(uid);
        self.deferred.remove(uid);
    }
}

fn uid_of(pod: &Value) -> String {
    let uid = pod["metadata"]["uid"].as_str();
    uid.unwrap_or_default().to_owned()
}

/// Those that a node has taken before come first: what they have nobody else gets. Then whoever was made first.
pub(crate) fn in_order(pods: &mut [Value]) {
    pods.sort_by_cached_key(|pod| {
        let made = pod["metadata"]["creationTimestamp"].as_str();
        (!was_taken(pod), made.unwrap_or_default().to_owned())
    });
}

/// What becomes of a new pod that takes this share on a node of which these hold theirs.
pub(crate) fn admission(
    site: &Site,
    holders: &[Holder<'_>],
    pod: &Value,
    share: &Share,
) -> Admission {
    let mut used = Used::default();
    holders.iter().for_each(|holder| used.add(holder.share()));
    if let Some(verdict) = refusal(site, &used, pod, share) {
        return Admission::Refused(verdict);
    }
    // Others that do not fit were refused.
    let missing = shortages(site, &used, share).into_iter();
    let missing: Vec<Missing> = missing.map(|short| short.missing()).collect();
    if missing.is_empty() {
        return Admission::Taken;
    }
    match preempt::victims(pod, &missing, holders) {
        Ok(victims) => Admission::InPlaceOf(victims),
        Err(message) => Admission::Refused(Verdict {
            reason: preempt::IN_VAIN,
            message: format!("{REJECTED}{message}"),
        }),
    }
}

/// Why a new pod that takes this share is not taken by a node of which so much is used. A critical one may have too little room.
fn refusal(site: &Site, used: &Used, pod: &Value, share: &Share) -> Option<Verdict> {
    let (reason, message) = pressed(site, pod)
        .or_else(|| unfit(site, pod))
        .or_else(|| match is_critical(pod) {
            true => None,
            false => shortages(site, used, share).first().map(Short::why),
        })
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

fn priority(pod: &Value) -> Option<i64> {
    pod["spec"]["priority"].as_i64()
}

pub(crate) fn is_critical(pod: &Value) -> bool {
    priority(pod).is_some_and(|priority| priority >= CRITICAL_PRIORITY)
}

/// What a pod asks for of a resource, and what there is.
struct Short<'a> {
    resource: &'a str,
    requested: i64,
    used: i64,
    capacity: i64,
}

impl Short<'_> {
    fn left(&self) -> i64 {
        self.capacity.saturating_sub(self.used)
    }

    fn is_short(&self) -> bool {
        self.requested > 0 && self.requested > self.left()
    }

    fn missing(&self) -> Missing {
        Missing {
            resource: self.resource.to_owned(),
            amount: self.requested.saturating_sub(self.left()),
        }
    }

    fn why(&self) -> Why {
        let Short {
            resource,
            requested,
            used,
            capacity,
        } = self;
        let message = format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        (out_of(resource), message)
    }
}

/// The resources of which the pod asks for more than is left.
fn shortages<'a>(site: &Site, used: &Used, share: &'a Share) -> Vec<Short<'a>> {
    let pods = Short {
        resource: "pods",
        requested: 1,
        used: used.pods,
        capacity: site.pods,
    };
    // An extended resource that the node does not know is somebody else's to look after.
    let is_ours = |name: &&str| !is_extended(name) || site.room.others.contains_key(*name);
    let amounts = share.amounts.names().filter(is_ours).map(|name| Short {
        resource: name,
        requested: share.amounts.get(name),
        used: used.amounts.get(name),
        capacity: site.room.get(name),
    });
    let all = std::iter::once(pods).chain(amounts);
    all.filter(Short::is_short).collect()
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
mod tests;
