//! How fast the pods of silent nodes may be evicted, by zone. Pure: time is an argument.

use super::taints::Eviction;
use agent_runtime::kinds::Node;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Nodes per second that may begin to lose their pods.
const RATE: f64 = 0.1;
/// The same in a large zone of which more than the threshold is not ready.
const SECONDARY_RATE: f64 = 0.01;
const LARGE_ZONE: usize = 50;
const UNHEALTHY_THRESHOLD: f64 = 0.55;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ZoneState {
    Normal,
    /// Most nodes are not ready.
    Partial {
        large: bool,
    },
    /// No node is ready.
    Full,
}

#[derive(Default)]
pub(super) struct Zones {
    states: BTreeMap<String, ZoneState>,
    /// Tokens of each zone and when they were counted.
    budgets: BTreeMap<String, (f64, Instant)>,
    /// Nodes of each zone that are ready, and that are not.
    counts: BTreeMap<String, (usize, usize)>,
    /// Zones of nodes that have begun to lose their pods since this was last asked for.
    evicting: Vec<String>,
}

impl Zones {
    /// Each zone with how many of its nodes are ready and are not.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        let zones = self.counts.iter();
        zones.map(|(zone, (ready, unready))| (zone.as_str(), *ready, *unready))
    }

    /// Zones of nodes that have begun to lose their pods since the last call.
    pub(super) fn take_evicting(&mut self) -> Vec<String> {
        std::mem::take(&mut self.evicting)
    }

    /// Takes the state of each zone from its nodes.
    pub(super) fn assess(&mut self, nodes: &[Arc<Node>]) {
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for node in nodes {
            let (ready, unready) = counts.entry(zone_of(node)).or_default();
            if node.is_ready() {
                *ready += 1
            } else {
                *unready += 1
            }
        }
        self.states = counts
            .iter()
            .map(|(zone, (ready, unready))| (zone.clone(), state(*ready, *unready)))
            .collect();
        self.counts = counts;
        self.budgets
            .retain(|zone, _| self.states.contains_key(zone));
    }

    pub(super) fn may_taint(&mut self, node: &Node, now: Instant) -> Eviction {
        if !self.states.is_empty() && self.states.values().all(|state| *state == ZoneState::Full) {
            return Eviction::Suspended;
        }
        let zone = zone_of(node);
        let rate = match self.states.get(&zone) {
            // A small zone that is mostly down is left alone; one that is all down, beside healthy ones, is evicted normally.
            Some(ZoneState::Partial { large: false }) => 0.0,
            Some(ZoneState::Partial { large: true }) => SECONDARY_RATE,
            _ => RATE,
        };
        let (tokens, at) = self.budgets.entry(zone).or_insert((1.0, now));
        let elapsed = now.saturating_duration_since(*at);
        *tokens = (*tokens + elapsed.as_secs_f64() * rate).min(1.0);
        *at = now;
        if rate > 0.0 && *tokens >= 1.0 {
            Eviction::Allowed
        } else {
            Eviction::Later
        }
    }

    /// A node of this zone begins to lose its pods.
    pub(super) fn spend(&mut self, node: &Node) {
        let zone = zone_of(node);
        if let Some((tokens, _)) = self.budgets.get_mut(&zone) {
            *tokens -= 1.0;
        }
        self.evicting.push(zone);
    }
}

fn state(ready: usize, unready: usize) -> ZoneState {
    #[expect(clippy::cast_precision_loss, reason = "numbers of nodes are small")]
    let share = unready as f64 / (ready + unready).max(1) as f64;
    if ready == 0 && unready > 0 {
        ZoneState::Full
    } else if unready > 2 && share >= UNHEALTHY_THRESHOLD {
        ZoneState::Partial {
            large: ready + unready > LARGE_ZONE,
        }
    } else {
        ZoneState::Normal
    }
}

fn zone_of(node: &Node) -> String {
    let label = |key: &str| node.metadata.labels.get(key).map_or("", String::as_str);
    format!("{}:{}", label(REGION), label(ZONE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{after, object};

    fn node(name: &str, zone: &str, ready: bool) -> Arc<Node> {
        let status = if ready { "True" } else { "Unknown" };
        Arc::new(object(&format!(
            "{{metadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}, status: {{conditions: [{{type: Ready, status: '{status}'}}]}}}}"
        )))
    }

    #[test]
    fn nodes_are_evicted_one_in_ten_seconds() {
        let nodes = [
            node("a", "z", false),
            node("b", "z", false),
            node("c", "z", true),
            node("d", "z", true),
        ];
        let mut zones = Zones::default();
        zones.assess(&nodes);
        assert_eq!(
            zones.may_taint(&nodes[0], after(0).steady),
            Eviction::Allowed
        );
        zones.spend(&nodes[0]);
        assert_eq!(zones.take_evicting().len(), 1);
        assert!(zones.take_evicting().is_empty());
        assert_eq!(zones.may_taint(&nodes[1], after(9).steady), Eviction::Later);
        assert_eq!(
            zones.may_taint(&nodes[1], after(10).steady),
            Eviction::Allowed
        );
    }

    #[test]
    fn darkness_everywhere_suspends_and_a_small_broken_zone_is_left_alone() {
        let mut zones = Zones::default();
        let all_dark = [node("a", "y", false), node("b", "z", false)];
        zones.assess(&all_dark);
        assert_eq!(
            zones.may_taint(&all_dark[0], after(0).steady),
            Eviction::Suspended
        );
        let one_dark = [node("a", "y", false), node("b", "z", true)];
        zones.assess(&one_dark);
        assert_eq!(
            zones.may_taint(&one_dark[0], after(0).steady),
            Eviction::Allowed
        );
        let broken: Vec<_> = (0..5)
            .map(|i| node(&format!("n{i}"), "z", i == 0))
            .collect();
        zones.assess(&broken);
        assert_eq!(
            zones.may_taint(&broken[1], after(100).steady),
            Eviction::Later
        );
    }
}
