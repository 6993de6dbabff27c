//! Who has which part of a range. Plain bookkeeping: no clock, no API.

use agent_runtime::{Cidr, NodeRanges};
use std::collections::{BTreeMap, BTreeSet};

/// The ranges of the cluster and the shares of its nodes. A node keeps what it was given once until it goes, also while the
/// API does not know of it yet: asked again it gets the same.
pub(super) struct Pool {
    ranges: Vec<Parts>,
    shares: BTreeMap<String, Vec<Cidr>>,
}

/// One range, in parts of the same size.
struct Parts {
    all: Cidr,
    size: u8,
    /// How many nodes have each part; more than one only where somebody else has given them out.
    taken: BTreeMap<u64, u32>,
    /// Parts that belong to Services.
    barred: BTreeSet<(u64, u64)>,
    /// Where the search for the next free one begins: what was given back is given out as late as possible, since others
    /// may still send to it.
    next: u64,
}

/// There is no free part any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

impl Pool {
    pub(super) fn new(ranges: &NodeRanges) -> Self {
        let parts = |&(all, size): &(Cidr, u8)| Parts {
            all,
            size,
            taken: BTreeMap::new(),
            barred: ranges
                .services()
                .iter()
                .filter_map(|service| all.parts_of(size, service))
                .collect(),
            next: 0,
        };
        Self {
            ranges: ranges.ranges().iter().map(parts).collect(),
            shares: BTreeMap::new(),
        }
    }

    /// Notes what a node has, whoever has given it; whether it had something else before, which is free now.
    pub(super) fn occupy(&mut self, node: &str, shares: Vec<Cidr>) -> bool {
        if self.shares.get(node) == Some(&shares) {
            return false;
        }
        let is_released = self.release(node);
        self.count(&shares, 1);
        self.shares.insert(node.to_owned(), shares);
        is_released
    }

    /// The shares of a node: those it has, or else new ones, one of each range. What another node of its name had of somebody
    /// else is not for this one.
    pub(super) fn allocate(&mut self, node: &str) -> Result<Vec<Cidr>, Exhausted> {
        match self.shares.get(node) {
            Some(shares) if self.is_ours(shares) => return Ok(shares.clone()),
            Some(_) => drop(self.release(node)),
            None => {}
        }
        let free: Option<Vec<u64>> = self.ranges.iter().map(Parts::free).collect();
        let free = free.ok_or(Exhausted)?;
        let mut shares = Vec::new();
        for (range, index) in self.ranges.iter_mut().zip(free) {
            shares.push(range.all.part(range.size, index));
            range.next = index + 1;
        }
        self.count(&shares, 1);
        self.shares.insert(node.to_owned(), shares.clone());
        Ok(shares)
    }

    /// Whether these, which a node has, are what this pool may give: one part of each range that no other node has.
    fn is_ours(&self, shares: &[Cidr]) -> bool {
        let is_part = |(range, share): (&Parts, &Cidr)| {
            let found = range.all.parts_of(range.size, share);
            found.is_some_and(|(index, _)| {
                range.all.part(range.size, index) == *share
                    && range.taken.get(&index) == Some(&1)
                    && range.barring(index).is_none()
            })
        };
        shares.len() == self.ranges.len() && self.ranges.iter().zip(shares).all(is_part)
    }

    /// Takes back what a node had; whether that was something.
    pub(super) fn release(&mut self, node: &str) -> bool {
        let Some(shares) = self.shares.remove(node) else {
            return false;
        };
        self.count(&shares, -1);
        true
    }

    fn count(&mut self, shares: &[Cidr], change: i32) {
        for range in &mut self.ranges {
            for share in shares {
                range.count(share, change);
            }
        }
    }
}

impl Parts {
    fn count(&mut self, share: &Cidr, change: i32) {
        let Some((from, to)) = self.all.parts_of(self.size, share) else {
            // Given out of a range of before.
            return;
        };
        if to - from > MANY {
            return;
        }
        for index in from..=to {
            let holders = self.taken.entry(index).or_default();
            *holders = holders.saturating_add_signed(change);
            if *holders == 0 {
                self.taken.remove(&index);
            }
        }
    }

    /// The next part that nobody has.
    fn free(&self) -> Option<u64> {
        let count = self.all.parts(self.size);
        let next = if self.next < count { self.next } else { 0 };
        self.free_from(next, count)
            .or_else(|| self.free_from(0, next))
    }

    /// The last of those parts among which this one belongs to Services, if it does.
    fn barring(&self, index: u64) -> Option<u64> {
        let mut barred = self.barred.iter();
        let found = barred.find(|(from, to)| (*from..=*to).contains(&index));
        found.map(|(_, last)| *last)
    }

    fn free_from(&self, from: u64, end: u64) -> Option<u64> {
        let mut at = from;
        while at < end {
            if let Some(last) = self.barring(at) {
                at = last.checked_add(1)?;
            } else if self.taken.contains_key(&at) {
                at += 1;
            } else {
                return Some(at);
            }
        }
        None
    }
}

/// A share of more parts than this is nonsense, and is not counted one by one.
const MANY: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn pool(ranges: &[&str], sizes: (u8, u8), services: &[&str]) -> Pool {
        let ranges: Vec<Cidr> = ranges.iter().map(|text| cidr(text)).collect();
        let services = services.iter().map(|text| cidr(text)).collect();
        Pool::new(&NodeRanges::new(&ranges, sizes, services).unwrap())
    }

    fn shares(pool: &mut Pool, node: &str) -> String {
        let shares = pool.allocate(node).map(|shares| {
            let texts: Vec<String> = shares.iter().map(ToString::to_string).collect();
            texts.join(",")
        });
        shares.unwrap_or_else(|_| "none".into())
    }

    #[test]
    fn each_node_gets_a_part_and_keeps_it() {
        let mut pool = pool(&["10.0.0.0/22"], (24, 64), &[]);
        assert_eq!(shares(&mut pool, "a"), "10.0.0.0/24");
        assert_eq!(shares(&mut pool, "b"), "10.0.1.0/24");
        assert_eq!(shares(&mut pool, "a"), "10.0.0.0/24");
        assert!(pool.release("a") && !pool.release("a"));
        assert_eq!(
            shares(&mut pool, "c"),
            "10.0.2.0/24",
            "the freed one comes last"
        );
        assert_eq!(shares(&mut pool, "d"), "10.0.3.0/24");
        assert_eq!(shares(&mut pool, "e"), "10.0.0.0/24");
        assert_eq!(shares(&mut pool, "f"), "none");
    }

    #[test]
    fn a_node_does_not_inherit_what_was_never_to_give() {
        let mut pool = pool(&["10.0.0.0/23"], (24, 64), &[]);
        pool.occupy("a", vec![cidr("192.168.0.0/24")]);
        assert_eq!(shares(&mut pool, "a"), "10.0.0.0/24");
        pool.occupy("b", vec![cidr("10.0.1.0/25")]);
        assert_eq!(shares(&mut pool, "b"), "10.0.1.0/24");
        assert_eq!(shares(&mut pool, "c"), "none");
    }

    #[test]
    fn a_node_does_not_inherit_what_others_have_too() {
        let mut pool = pool(&["10.0.0.0/22"], (24, 64), &["10.0.3.0/24"]);
        for node in ["old", "twice"] {
            pool.occupy(node, vec![cidr("10.0.1.0/24")]);
        }
        pool.occupy("odd", vec![cidr("10.0.3.0/24")]);
        assert_eq!(shares(&mut pool, "twice"), "10.0.0.0/24");
        assert_eq!(shares(&mut pool, "old"), "10.0.1.0/24");
        assert_eq!(shares(&mut pool, "odd"), "10.0.2.0/24");
    }

    #[test]
    fn two_families_are_given_together_or_not_at_all() {
        let mut pool = pool(&["10.0.0.0/24", "fd00::/63"], (24, 64), &[]);
        assert_eq!(shares(&mut pool, "a"), "10.0.0.0/24,fd00::/64");
        assert_eq!(shares(&mut pool, "b"), "none");
        pool.release("a");
        assert_eq!(shares(&mut pool, "b"), "10.0.0.0/24,fd00:0:0:1::/64");
    }

    #[test]
    fn what_is_known_to_be_taken_is_not_given_again() {
        let mut pool = pool(&["10.0.0.0/22"], (24, 64), &["10.0.0.128/25"]);
        pool.occupy("old", vec![cidr("10.0.1.0/24")]);
        pool.occupy("twice", vec![cidr("10.0.1.0/24")]);
        // Given out when nodes had larger shares; and out of another range, which costs nothing.
        pool.occupy("large", vec![cidr("10.0.2.0/23"), cidr("fd00::/64")]);
        pool.occupy("all", vec![cidr("192.168.0.0/24")]);
        assert_eq!(shares(&mut pool, "new"), "none");
        pool.release("old");
        assert_eq!(shares(&mut pool, "new"), "none", "another one still has it");
        pool.occupy("twice", vec![cidr("10.0.3.0/24")]);
        assert_eq!(shares(&mut pool, "new"), "10.0.1.0/24");
        pool.release("large");
        assert_eq!(shares(&mut pool, "newer"), "10.0.2.0/24");
        assert_eq!(shares(&mut pool, "newest"), "none");
    }

    proptest! {
        /// Whatever comes and goes, and wherever the bookkeeping begins anew from what nodes say: no part has two nodes, none
        /// is refused while one is free, and who asks again gets the same.
        #[test]
        fn no_two_nodes_share(steps in prop::collection::vec((0_u8..12, 0_u8..4), 0..200)) {
            let fresh = || pool(&["10.0.0.0/21"], (24, 64), &["10.0.7.0/24"]);
            let mut pool = fresh();
            let mut known: BTreeMap<String, Vec<Cidr>> = BTreeMap::new();
            for (node, what) in steps {
                let node = format!("n{node}");
                match what {
                    0 => {
                        pool.release(&node);
                        known.remove(&node);
                    }
                    1 => {
                        pool = fresh();
                        for (node, shares) in &known {
                            pool.occupy(node, shares.clone());
                        }
                    }
                    _ => match pool.allocate(&node) {
                        Ok(shares) => {
                            let before = known.insert(node, shares.clone());
                            prop_assert!(before.is_none_or(|before| before == shares));
                        }
                        Err(Exhausted) => prop_assert_eq!(known.len(), 7),
                    },
                }
                let all: Vec<&Cidr> = known.values().flatten().collect();
                for (at, one) in all.iter().enumerate() {
                    prop_assert!(all[..at].iter().all(|other| !other.overlaps(one)));
                    prop_assert!(!one.overlaps(&cidr("10.0.7.0/24")));
                }
            }
        }
    }
}
