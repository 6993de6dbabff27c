//! What nodes say of the pressure on them counts for a while, by the wall clock. When that is over, a node is as one that has
//! said nothing, and everything that goes by it hears of that as of any other change of the node.

use super::World;
use crate::object::Node;
use crate::snapshot::Millis;
use agent_runtime::pressure::{expires, is_fresh};
use agent_runtime::timestamp::Micros;
use std::sync::Arc;

impl World {
    /// The wall clock says this now. A clock that was set back makes nothing young again.
    pub fn set_clock(&mut self, clock: Micros, now: Millis) {
        self.clock = clock;
        while self.expiries.first().is_some_and(|(at, _)| *at <= clock) {
            let Some((_, name)) = self.expiries.pop_first() else {
                return;
            };
            if let Some(node) = self.nodes.get(&name) {
                let mut silent = (**node).clone();
                silent.pressure = None;
                self.put_node(&name, Arc::new(silent), now);
            }
        }
    }

    /// The wall clock as it was last told.
    pub fn clock(&self) -> Micros {
        self.clock
    }

    /// The node without what does not count of it. What was of the future when it was heard does not count later either: nobody
    /// knows what it is of.
    pub(super) fn heard(&mut self, name: &str, mut node: Arc<Node>) -> Arc<Node> {
        self.forget_pressure(name);
        let Some(told) = node.pressure else {
            return node;
        };
        match self.heeds_pressure && is_fresh(told.at, self.clock) {
            true => drop(self.expiries.insert((expires(told.at), name.to_owned()))),
            false => Arc::make_mut(&mut node).pressure = None,
        }
        node
    }

    /// Nothing is to become old any more.
    pub(super) fn forget_pressure(&mut self, name: &str) {
        let told = self.nodes.get(name).and_then(|node| node.pressure);
        if let Some(told) = told {
            self.expiries.remove(&(expires(told.at), name.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use agent_runtime::pressure::{AGE_MAX, AHEAD_MAX, ANNOTATION, Pressure};
    use agent_runtime::timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    const CONFIG: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
        - plugins: {multiPoint: {enabled: [{name: PressureAware}]}}\n";
    const SECOND: Micros = timestamp::seconds(1);

    fn node(name: &str, told: Option<(u8, Micros)>) -> Arc<Node> {
        let annotation = told.map(|(cpu, at)| Pressure::of([cpu, 0, 0]).tell(at));
        let metadata = json!({"name": name, "annotations": {ANNOTATION: annotation}});
        Arc::new(Node::compile(&json!({"metadata": metadata})))
    }

    fn cpu(world: &World, name: &str) -> Option<u8> {
        let node = world.snapshot.node(name)?.node.as_ref()?;
        Some(node.pressure?.pressure.cpu)
    }

    #[test]
    fn nobody_hears_of_it_where_no_profile_asks() {
        let mut world = World::new(Arc::new(Config::default()));
        world.set_clock(SECOND, 0);
        world.set_node("n", Some(node("n", Some((50, SECOND)))), 0);
        assert_eq!(cpu(&world, "n"), None);
        assert!(world.expiries.is_empty());
    }

    proptest! {
        #[test]
        fn at_any_time_what_counts_is_what_was_said_last_if_that_is_recent(
            steps in prop::collection::vec((0..3_usize, prop::option::of((0..=100_u8, -900..900_i64)), any::<bool>(), 0..500_i64), 1..60)
        ) {
            let mut world = World::new(Arc::new(Config::parse(CONFIG).unwrap()));
            let mut clock = timestamp::seconds(10_000);
            // By node: what it said, if that counted when it was heard.
            let mut said: [Option<(u8, Micros)>; 3] = [None; 3];
            world.set_clock(clock, 0);
            for (at, told, there, passes) in steps {
                let name = format!("n{at}");
                let told = told.map(|(cpu, ago)| (cpu, clock - ago * SECOND));
                world.set_node(&name, there.then(|| node(&name, told)), 0);
                let heard = told.filter(|(_, at)| there && *at <= clock + AHEAD_MAX);
                said[at] = heard.filter(|(_, at)| clock < at + AGE_MAX);
                clock += passes * SECOND;
                world.set_clock(clock, 0);
                for (at, said) in said.iter_mut().enumerate() {
                    *said = said.filter(|(_, at)| clock < at + AGE_MAX);
                    prop_assert_eq!(cpu(&world, &format!("n{at}")), said.map(|(cpu, _)| cpu));
                }
                let counting = said.iter().flatten().count();
                prop_assert_eq!(world.expiries.len(), counting, "nothing is remembered that need not be");
            }
        }
    }
}
