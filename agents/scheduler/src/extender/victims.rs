//! What extenders say of who is to make room.

use super::wire::{Leaving, leaving};
use crate::config::Extender;
use crate::preempt::Candidate;
use crate::snapshot::Snapshot;
use serde_json::Value;
use std::sync::Arc;

/// What an extender leaves of the nodes where room could be made. One that may fail changes nothing when it does.
pub(crate) fn narrow(
    extender: &Extender,
    answer: Result<Value, String>,
    candidates: Vec<Candidate>,
    snapshot: &Snapshot,
) -> Result<Vec<Candidate>, String> {
    let read = answer.and_then(|answer| {
        let nodes = leaving(&answer)?.into_iter();
        let found = nodes.map(|(node, leaving)| candidate(extender, node, &leaving, snapshot));
        found.collect::<Result<Vec<Candidate>, String>>()
    });
    let mut left = match read {
        Ok(left) => left,
        Err(error) if extender.ignorable => {
            tracing::info!(
                extender = extender.url_prefix,
                error,
                "an extender is passed over"
            );
            return Ok(candidates);
        }
        Err(error) => return Err(error),
    };
    let nobody = left.iter().find(|candidate| candidate.victims.is_empty());
    if let Some(nobody) = nobody.filter(|_| !extender.ignorable) {
        let node = &nobody.node;
        return Err(format!("expected at least one victim pod on node {node:?}"));
    }
    left.retain(|candidate| !candidate.victims.is_empty());
    Ok(left)
}

fn candidate(
    extender: &Extender,
    node: String,
    leaving: &Leaving,
    snapshot: &Snapshot,
) -> Result<Candidate, String> {
    let info = snapshot.node(&node);
    let info = info.ok_or_else(|| format!("nodeinfo not found for node name {node:?}"))?;
    let victims = leaving.uids.iter().map(|uid| {
        info.pods.get(uid).map(Arc::clone).ok_or_else(|| {
            let who = &extender.url_prefix;
            format!(
                "extender: {who} claims to preempt pod (UID: &{{{uid}}}) on node: {node}, but the pod is not found on that node"
            )
        })
    });
    Ok(Candidate {
        victims: victims.collect::<Result<_, _>>()?,
        violations: leaving.violations,
        node: node.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::plugins::testing::{labelled_pod, node, snapshot};
    use serde_json::json;

    /// Two nodes, each with two pods.
    fn cluster() -> Snapshot {
        let on = |name: &str, on: &str| labelled_pod(name, json!({}), json!({"nodeName": on}));
        let pods = vec![on("a1", "a"), on("a2", "a"), on("b1", "b"), on("b2", "b")];
        let nodes = ["a", "b"].map(|name| node(name, json!({}), json!({})));
        snapshot(nodes.to_vec(), pods)
    }

    fn told(ignorable: bool, answer: Result<Value, String>) -> Result<String, String> {
        let text = format!(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nextenders: \
             [{{urlPrefix: 'http://e', preemptVerb: p, ignorable: {ignorable}}}]"
        );
        let config = Config::parse(&text).unwrap();
        let cluster = cluster();
        let all = ["a", "b"].map(|name| Candidate {
            node: name.into(),
            victims: cluster.node(name).unwrap().pods.values().cloned().collect(),
            violations: 0,
        });
        let left = narrow(&config.extenders[0], answer, all.into(), &cluster)?;
        let told = left.iter().map(|candidate| {
            let names = candidate.victims.iter().map(|victim| &*victim.name);
            let names: Vec<&str> = names.collect();
            let (node, violations) = (&candidate.node, candidate.violations);
            format!("{node}: {} ({violations})", names.join(" "))
        });
        Ok(told.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn it_may_take_nodes_out_and_name_other_victims() {
        let answer = json!({"NodeNameToMetaVictims": {"b": {"Pods": [{"UID": "b2"}], "NumPDBViolations": 3}}});
        assert_eq!(told(false, Ok(answer)).unwrap(), "b: b2 (3)");
        let none = json!({"NodeNameToMetaVictims": {}});
        assert_eq!(told(false, Ok(none)).unwrap(), "");
    }

    #[test]
    fn what_cannot_be_fails_unless_it_may() {
        let all = "a: a1 a2 (0), b: b1 b2 (0)";
        let table = [
            (Err("no answer".to_owned()), "no answer", all),
            (
                Ok(json!({"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "b1"}]}}})),
                "extender: http://e claims to preempt pod (UID: &{b1}) on node: a, but the pod is not found on that node",
                all,
            ),
            (
                Ok(json!({"NodeNameToMetaVictims": {"x": {"Pods": []}}})),
                "nodeinfo not found for node name \"x\"",
                all,
            ),
            (
                Ok(json!({"NodeNameToMetaVictims": {"a": null, "b": {"Pods": [{"UID": "b1"}]}}})),
                "expected at least one victim pod on node \"a\"",
                "b: b1 (0)",
            ),
        ];
        for (answer, fails, goes_on) in table {
            assert_eq!(told(false, answer.clone()).unwrap_err(), fails);
            assert_eq!(told(true, answer).unwrap(), goes_on);
        }
    }
}
