//! When the decision about a pod that has its node was taken.

use anyhow::Result;
use serde_json::Value;

use crate::past::{End, Object, revision};

/// So many versions of a pod are looked at for the one that was bound.
const VERSIONS_MAX: usize = 200;

/// What is known of that.
#[derive(Debug, PartialEq)]
pub(super) enum Decided {
    /// The pod as it still waited, and the last revision at which it did.
    At(Value, u64),
    /// It had its node from the beginning on.
    Never,
    /// The server does not know any more.
    Forgotten,
}

/// Goes back through the versions of a pod that has its node.
pub(super) async fn decided(object: &Object, mut pod: Value) -> Result<Decided> {
    for _ in 0..VERSIONS_MAX {
        let newest = revision(&pod)?.saturating_sub(1);
        match object.at(newest).await? {
            Ok(older) => match step(&pod, older, newest) {
                Step::Found(decided) => return Ok(decided),
                Step::Back(older) => pod = older,
            },
            Err(End::Made) => return Ok(Decided::Never),
            Err(End::Compacted | End::Enough) => return Ok(Decided::Forgotten),
        }
    }
    Ok(Decided::Forgotten)
}

enum Step {
    Found(Decided),
    Back(Value),
}

/// What the version says that there was at revision `newest`, right before `pod` was written.
fn step(pod: &Value, older: Value, newest: u64) -> Step {
    if older["metadata"]["uid"] != pod["metadata"]["uid"] {
        return Step::Found(Decided::Never);
    }
    if is_waiting(&older) {
        return Step::Found(Decided::At(older, newest));
    }
    // Other servers answer with the newest version, whichever is asked for.
    match revision(&older) {
        Ok(revision) if revision <= newest => Step::Back(older),
        _ => Step::Found(Decided::Forgotten),
    }
}

pub(super) fn is_waiting(pod: &Value) -> bool {
    pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, revision: u64, node: &str) -> Value {
        json!({"metadata": {"uid": uid, "resourceVersion": revision.to_string()}, "spec": {"nodeName": node}})
    }

    fn found(older: Value) -> Option<Decided> {
        match step(&pod("u", 9, "n"), older, 8) {
            Step::Found(decided) => Some(decided),
            Step::Back(_) => None,
        }
    }

    #[test]
    fn the_last_version_without_a_node_is_looked_for() {
        let waiting = pod("u", 5, "");
        assert_eq!(found(waiting.clone()), Some(Decided::At(waiting, 8)));
        assert_eq!(found(pod("u", 7, "n")), None);
        assert_eq!(found(pod("other", 7, "")), Some(Decided::Never));
    }

    #[test]
    fn a_server_that_shows_no_past_is_not_asked_for_ever() {
        assert_eq!(found(pod("u", 9, "n")), Some(Decided::Forgotten));
    }

    #[test]
    fn a_pod_waits_until_it_has_a_node() {
        assert!(is_waiting(&json!({"spec": {}})));
        assert!(is_waiting(&json!({"spec": {"nodeName": ""}})));
        assert!(!is_waiting(&json!({"spec": {"nodeName": "n"}})));
    }
}
