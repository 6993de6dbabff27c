//! Pools: the slices of each, sorted out once when one of them changes, and by node.

use super::slice::{Nodes, PoolId, Slice};
use crate::selector::Labels;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is known of a pool. Only its newest state counts, and that only when all of it is there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pool {
    slices: BTreeMap<String, Arc<Slice>>,
    /// Those of the newest state, by name.
    current: Vec<Arc<Slice>>,
    /// Whether they are as many as they say.
    pub is_complete: bool,
    /// Whether no two devices have the same name.
    pub is_valid: bool,
}

impl Pool {
    fn set(&mut self, name: &str, slice: Option<Arc<Slice>>) {
        match slice {
            Some(slice) => drop(self.slices.insert(name.to_owned(), slice)),
            None => drop(self.slices.remove(name)),
        }
        let newest = self.slices.values().map(|slice| slice.generation).max();
        let current = self.slices.values();
        let current = current.filter(|slice| Some(slice.generation) == newest);
        self.current = current.cloned().collect();
        let said = self.current.first().map_or(0, |slice| slice.count);
        self.is_complete = self.current.len() == said;
        let mut names = BTreeSet::new();
        let mut devices = self.current.iter().flat_map(|slice| &slice.devices);
        self.is_valid = devices.all(|device| names.insert(&device.id.device));
    }

    /// The slices of the newest state.
    pub fn slices(&self) -> &[Arc<Slice>] {
        &self.current
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
            let moved = new.is_none_or(|new| new.pool != old.pool);
            if moved {
                self.put(&old.pool, &old.name, None);
            }
        }
        if let Some(new) = new {
            self.enter(new);
            self.put(&new.pool, &new.name, Some(new.clone()));
        }
    }

    fn put(&mut self, id: &PoolId, name: &str, slice: Option<Arc<Slice>>) {
        let pool = self.pools.entry(id.clone()).or_default();
        pool.set(name, slice);
        if pool.slices.is_empty() {
            self.pools.remove(id);
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

    /// The pools of which something may be reachable from the node, by driver and name.
    pub fn at(&self, node: &str, labels: &Labels) -> Vec<(&PoolId, &Pool)> {
        let named = self.of_node.get(node).into_iter().flat_map(BTreeMap::keys);
        let ids: BTreeSet<&PoolId> = named.chain(self.of_many.keys()).collect();
        let pools = ids.into_iter();
        let pools = pools.filter_map(|id| Some((id, self.pools.get(id)?)));
        pools
            .filter(|(_, pool)| {
                let mut slices = pool.current.iter();
                slices.any(|slice| slice.reaches(node, labels))
            })
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
        Some((pool.slices().len(), pool.is_complete, pool.is_valid))
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
