//! Signs of life of a node. Pure: clocks of nodes are never compared with ours, only changes are noticed, and for how long
//! there is none is measured by the clock that nobody sets.

use crate::patches;
use agent_runtime::kinds::{Condition, Lease, Node, condition};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::NODES;
use agent_runtime::timestamp::{self, Moment};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Silence after which a node is `Unknown`.
const GRACE: Duration = Duration::from_secs(50);
/// The same for a node that has never reported a status.
const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// What shows life: any change of these.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Signals {
    renew_time: Option<String>,
    heartbeat: Option<String>,
    ready: Option<String>,
}

impl Signals {
    pub(super) fn of(node: &Node, lease: Option<&Lease>) -> Self {
        let ready = node.condition("Ready");
        Self {
            renew_time: lease.and_then(|lease| lease.spec.renew_time.clone()),
            heartbeat: ready.and_then(|c| c.last_heartbeat_time.clone()),
            ready: ready
                .filter(|c| c.status != "Unknown")
                .map(|c| c.status.clone()),
        }
    }
}

/// The last signals and when they changed.
#[derive(Clone, Debug)]
pub(super) struct Health {
    signals: Option<Signals>,
    alive_at: Instant,
}

impl Health {
    pub(super) fn first(now: Instant) -> Self {
        Self {
            signals: None,
            alive_at: now,
        }
    }

    pub(super) fn seen(&self, signals: Signals, now: Instant) -> Self {
        match &self.signals {
            // `ready` turning to Unknown is our own doing, not a sign of life.
            Some(old)
                if signals.renew_time == old.renew_time
                    && signals.heartbeat == old.heartbeat
                    && (signals.ready == old.ready || signals.ready.is_none()) =>
            {
                self.clone()
            }
            _ => Self {
                signals: Some(signals),
                alive_at: now,
            },
        }
    }
}

/// The conditions of a node that has been silent for too long, unless they say so already.
pub(super) fn silence(node: &Node, health: &Health, now: Moment) -> Option<Op> {
    let reported = node.condition("Ready").is_some();
    let grace = if reported { GRACE } else { STARTUP_GRACE };
    if now.steady.saturating_duration_since(health.alive_at) <= grace {
        return None;
    }
    let mut conditions = node.status.conditions.clone();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match condition(&node.status.conditions, kind) {
            Some(current) if current.status == "Unknown" => {}
            Some(current) => {
                changed = true;
                let unknown = Condition {
                    last_heartbeat_time: current.last_heartbeat_time.clone(),
                    ..patches::condition(
                        kind,
                        "Unknown",
                        "NodeStatusUnknown",
                        "Kubelet stopped posting node status.",
                        now.wall,
                    )
                };
                conditions
                    .iter_mut()
                    .filter(|c| c.kind == kind)
                    .for_each(|c| *c = unknown.clone());
            }
            None => {
                changed = true;
                let created = node.metadata.creation_timestamp.text();
                let never = patches::condition(
                    kind,
                    "Unknown",
                    "NodeStatusNeverUpdated",
                    "Kubelet never posted node status.",
                    now.wall,
                );
                conditions.push(Condition {
                    last_heartbeat_time: created.or_else(|| Some(timestamp::time(now.wall))),
                    ..never
                });
            }
        }
    }
    changed.then(|| Op::status(&NODES, &node.metadata, json!({"conditions": conditions})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{after, object};

    fn steady(seconds: u64) -> Instant {
        after(seconds).steady
    }

    #[test]
    fn a_node_is_silent_after_fifty_seconds_without_any_change() {
        let node: Node = object(
            "{metadata: {name: n}, status: {conditions: [{type: Ready, status: 'True', lastHeartbeatTime: a}]}}",
        );
        let lease = |text: &str| object::<Lease>(&format!("{{spec: {{renewTime: {text}}}}}"));
        let first = Health::first(steady(0)).seen(Signals::of(&node, Some(&lease("x"))), steady(0));
        let renewed = first.seen(Signals::of(&node, Some(&lease("y"))), steady(40));
        let silent = renewed.seen(Signals::of(&node, Some(&lease("y"))), steady(80));
        assert!(silence(&node, &silent, after(90)).is_none());
        let op = silence(&node, &silent, after(91)).unwrap();
        let text = format!("{op:?}");
        assert!(text.contains("NodeStatusUnknown") && text.contains("NodeStatusNeverUpdated"));
    }

    #[test]
    fn our_own_verdict_is_no_sign_of_life() {
        let ready: Node = object("{status: {conditions: [{type: Ready, status: 'True'}]}}");
        let unknown: Node = object(
            "{status: {conditions: [{type: Ready, status: Unknown}, {type: MemoryPressure, status: Unknown}, {type: DiskPressure, status: Unknown}, {type: PIDPressure, status: Unknown}]}}",
        );
        let health = Health::first(steady(0))
            .seen(Signals::of(&ready, None), steady(0))
            .seen(Signals::of(&unknown, None), steady(60));
        assert_eq!(health.alive_at, steady(0));
        assert!(silence(&unknown, &health, after(61)).is_none());
        assert_eq!(
            health.seen(Signals::of(&ready, None), steady(70)).alive_at,
            steady(0)
        );
    }
}
