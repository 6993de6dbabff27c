//! Pools: the slices of each, sorted out once when one of them changes, and by node.

use super::slice::{Nodes, PoolId, Slice};
use crate::selector::Labels;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known of a pool. Only its newest state counts, and that only when all of it is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pool {
    states: BTreeMap<i64, State>,
}

/// The slices of one generation, counted as they come and go: a pool of thousands of slices comes one by one.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    slices: BTreeMap<String, Arc<Slice>>,
    /// How many devices have a name.
    names: BTreeMap<Arc<str>, usize>,
    /// How many names more than one has.
    doubles: usize,
}

impl State {
    fn put(&mut self, slice: Arc<Slice>) {
        self.take(&slice.name);
        for device in &slice.devices {
            let having = self.names.entry(device.id.device.clone()).or_default();
            *having += 1;
            self.doubles += usize::from(*having == 2);
        }
        self.slices.insert(slice.name.clone(), slice);
    }

    fn take(&mut self, name: &str) {
        let Some(slice) = self.slices.remove(name) else {
            return;
        };
        for device in &slice.devices {
            let Some(having) = self.names.get_mut(&device.id.device) else {
                continue;
            };
            *having -= 1;
            self.doubles -= usize::from(*having == 1);
            if *having == 0 {
                self.names.remove(&device.id.device);
            }
        }
    }
}

impl Pool {
    fn put(&mut self, slice: Arc<Slice>) {
        self.states.entry(slice.generation).or_default().put(slice);
    }

    fn take(&mut self, slice: &Slice) {
        if let Some(state) = self.states.get_mut(&slice.generation) {
            state.take(&slice.name);
            if state.slices.is_empty() {
                self.states.remove(&slice.generation);
            }
        }
    }

    fn newest(&self) -> Option<&State> {
        self.states.last_key_value().map(|(_, state)| state)
    }

    /// The slices of the newest state, by name.
    pub fn slices(&self) -> impl Iterator<Item = &Arc<Slice>> {
        let slices = self.newest().into_iter();
        slices.flat_map(|state| state.slices.values())
    }

    /// Whether they are as many as they say.
    pub fn is_complete(&self) -> bool {
        let slices = self.newest().map(|state| &state.slices);
        slices.is_none_or(|slices| {
            let said = slices.values().next().map_or(0, |slice| slice.count);
            slices.len() == said
        })
    }

    /// Whether no two devices have the same name.
    pub fn is_valid(&self) -> bool {
        self.newest().is_none_or(|state| state.doubles == 0)
    }
}

/// All pools.
#[derive(Debug, Clone, Default)]
pub struct Pools {
    pools: BTreeMap<PoolId, Pool>,
    /// By the name of the node that slices of them name, with how many slices do.
    of_node: BTreeMap<String, BTreeMap<PoolId, usize>>,
    /// Those with slices that name no node, with how many do not.
    of_many: BTreeMap<PoolId, usize>,
}

impl Pools {
    /// A slice is now like this instead of that; either may be absent.
    pub fn set(&mut self, old: Option<&Arc<Slice>>, new: Option<&Arc<Slice>>) {
        if let Some(old) = old {
            self.leave(old);
            if let Some(pool) = self.pools.get_mut(&old.pool) {
                pool.take(old);
                if pool.states.is_empty() {
                    self.pools.remove(&old.pool);
                }
            }
        }
        if let Some(new) = new {
            self.enter(new);
            let pool = self.pools.entry(new.pool.clone()).or_default();
            pool.put(new.clone());
        }
    }

    fn enter(&mut self, slice: &Slice) {
        let pools = match &slice.nodes {
            Nodes::Named(node) => self.of_node.entry(node.clone()).or_default(),
            _ => &mut self.of_many,
        };
        *pools.entry(slice.pool.clone()).or_default() += 1;
    }

    fn leave(&mut self, slice: &Slice) {
        let pools = match &slice.nodes {
            Nodes::Named(node) => self.of_node.get_mut(node),
            _ => Some(&mut self.of_many),
        };
        let Some(pools) = pools else { return };
        if let Some(count) = pools.get_mut(&slice.pool) {
            *count -= 1;
            if *count == 0 {
                pools.remove(&slice.pool);
            }
        }
        if let Nodes::Named(node) = &slice.nodes
            && self.of_node.get(node).is_some_and(BTreeMap::is_empty)
        {
            self.of_node.remove(node);
        }
    }

    /// At how many pools [`Self::at`] looks.
    pub fn looks_at(&self, node: &str) -> u64 {
        let named = self.of_node.get(node).map_or(0, BTreeMap::len);
        (named + self.of_many.len()) as u64
    }

    /// The pools of which something may be reachable from the node, by driver and name.
    pub fn at(&self, node: &str, labels: &Labels) -> Vec<(&PoolId, &Pool)> {
        let named = self.of_node.get(node).into_iter().flat_map(BTreeMap::keys);
        let ids: BTreeSet<&PoolId> = named.chain(self.of_many.keys()).collect();
        let pools = ids.into_iter();
        let pools = pools.filter_map(|id| Some((id, self.pools.get(id)?)));
        pools
            .filter(|(_, pool)| pool.slices().any(|slice| slice.reaches(node, labels)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(name: &str, generation: i64, count: i64, node: &str, devices: &[&str]) -> Arc<Slice> {
        let devices: Vec<_> = devices.iter().map(|name| json!({"name": name})).collect();
        Arc::new(Slice::compile(
            &json!({"metadata": {"name": name}, "spec": {
            "driver": "d", "pool": {"name": "p", "generation": generation, "resourceSliceCount": count},
            "nodeName": node, "devices": devices}}),
        ))
    }

    fn state(slices: &[Arc<Slice>], node: &str) -> Option<(usize, bool, bool)> {
        let mut pools = Pools::default();
        for slice in slices {
            pools.set(None, Some(slice));
        }
        let found = pools.at(node, &Labels::new());
        let (_, pool) = found.first()?;
        Some((pool.slices().count(), pool.is_complete(), pool.is_valid()))
    }

    #[test]
    fn only_the_newest_state_counts_and_it_has_to_be_whole() {
        let old = slice("a", 1, 1, "n", &["x"]);
        assert_eq!(
            state(std::slice::from_ref(&old), "n"),
            Some((1, true, true))
        );
        let new = slice("b", 2, 2, "n", &["x"]);
        assert_eq!(
            state(&[old.clone(), new.clone()], "n"),
            Some((1, false, true))
        );
        let rest = slice("c", 2, 2, "m", &["y"]);
        assert_eq!(state(&[old, new, rest], "n"), Some((2, true, true)));
    }

    #[test]
    fn devices_of_the_same_name_spoil_a_pool() {
        let (a, b) = (slice("a", 1, 2, "n", &["x"]), slice("b", 1, 2, "n", &["x"]));
        assert_eq!(state(&[a, b], "n"), Some((2, true, false)));
    }

    #[test]
    fn a_pool_is_what_its_slices_are_in_whatever_order_they_came_and_went() {
        let kept = [
            slice("a", 2, 3, "n", &["x", "y"]),
            slice("b", 2, 3, "n", &["z"]),
            slice("c", 2, 3, "m", &[]),
        ];
        let gone = [
            slice("b", 2, 3, "n", &["x", "x", "y"]),
            slice("d", 3, 1, "n", &["x"]),
            slice("e", 1, 1, "n", &["z"]),
        ];
        let mut expected = Pools::default();
        kept.iter().for_each(|one| expected.set(None, Some(one)));
        let mut pools = Pools::default();
        pools.set(None, Some(&kept[2]));
        gone.iter().for_each(|one| pools.set(None, Some(one)));
        pools.set(None, Some(&kept[0]));
        let found = |pools: &Pools| {
            let at = pools.at("n", &Labels::new());
            at.first()
                .map(|(_, pool)| (pool.is_complete(), pool.is_valid()))
        };
        assert_eq!(found(&pools), Some((true, true)), "the newest has one");
        pools.set(Some(&gone[1]), None);
        assert_eq!(found(&pools), Some((true, false)));
        pools.set(Some(&gone[0]), Some(&kept[1]));
        pools.set(Some(&gone[2]), None);
        assert_eq!(found(&pools), Some((true, true)));
        assert_eq!(pools.pools, expected.pools);
    }

    #[test]
    fn a_pool_is_found_only_from_the_nodes_of_its_newest_state() {
        let (old, new) = (slice("a", 1, 1, "n", &["x"]), slice("b", 2, 1, "m", &["x"]));
        assert_eq!(state(&[old.clone(), new.clone()], "n"), None);
        assert!(state(&[old.clone(), new.clone()], "m").is_some());
        let mut pools = Pools::default();
        let moved = slice("a", 2, 1, "m", &["x"]);
        pools.set(None, Some(&old));
        pools.set(Some(&old), Some(&moved));
        pools.set(Some(&moved), None);
        assert!(pools.pools.is_empty() && pools.of_node.is_empty() && pools.of_many.is_empty());
    }
}
