//! An ordered set of keys that knows how many of them stand before any key, and how large they are in an answer.
//!
//! A B-tree in which every inner node holds the sums of its children, so that a count, or the size of an answer, is a
//! walk down two paths whatever the range. The keys of a node are a [`KeyRun`]: there are as many keys as there are
//! objects, on every member.

use crate::key_run::{KeyRun, cut, make_room};
use crate::keys::KeyRange;
use crate::message::{KeyValue, StoredPair};

const LEAF_MAX: usize = 128;
const INNER_MAX: usize = 64;
/// The number of the field of pairs in a range's answer.
pub(crate) const KVS_TAG: u32 = 2;

/// Bytes of one pair in a range's answer, tag and length included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairSize {
    pub whole: u32,
    /// Without the value.
    pub keys_only: u32,
}

impl PairSize {
    pub fn of(kv: &KeyValue) -> PairSize {
        PairSize::of_pair(kv.into())
    }

    /// Of the [`KeyValue`] that it is.
    pub fn of_pair(pair: StoredPair<'_>) -> PairSize {
        // No field has a number that takes two bytes, and none is written that is empty or 0.
        let bytes = |bytes: &[u8]| match bytes.len() {
            0 => 0,
            length => 1 + prost::length_delimiter_len(length) + length,
        };
        let number = |number: i64| match number {
            0 => 0,
            number => 1 + prost::encoding::encoded_len_varint(number as u64),
        };
        let numbers = [
            pair.create_revision,
            pair.mod_revision,
            pair.version,
            pair.lease,
        ];
        let keys_only = bytes(pair.key) + numbers.map(number).iter().sum::<usize>();
        PairSize {
            whole: field(keys_only + bytes(pair.value)),
            keys_only: field(keys_only),
        }
    }
}

fn field(length: usize) -> u32 {
    let bytes = prost::encoding::key_len(KVS_TAG) + prost::length_delimiter_len(length) + length;
    u32::try_from(bytes).expect("a pair is not larger than a request")
}

/// What some keys come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    pub keys: u64,
    /// Bytes of their pairs in an answer.
    pub whole: u64,
    /// The same without values.
    pub keys_only: u64,
}

impl Weight {
    fn of(size: PairSize) -> Weight {
        Weight {
            keys: 1,
            whole: size.whole.into(),
            keys_only: size.keys_only.into(),
        }
    }

    fn plus(self, other: Weight) -> Weight {
        Weight {
            keys: self.keys + other.keys,
            whole: self.whole + other.whole,
            keys_only: self.keys_only + other.keys_only,
        }
    }

    fn minus(self, other: Weight) -> Weight {
        Weight {
            keys: self.keys - other.keys,
            whole: self.whole - other.whole,
            keys_only: self.keys_only - other.keys_only,
        }
    }

    fn sum(weights: impl Iterator<Item = Weight>) -> Weight {
        weights.fold(Weight::default(), Weight::plus)
    }
}

/// The live keys. See the module head.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedKeys {
    root: Node,
    weight: Weight,
}

impl CountedKeys {
    /// Adds a key, or gives it another size; answers the size that it had.
    pub(crate) fn insert(&mut self, key: &[u8], size: PairSize) -> Option<PairSize> {
        let (old, split) = self.root.insert(key, size);
        self.weight = changed(self.weight, old, Some(size));
        if let Some((low, right)) = split {
            let left = std::mem::take(&mut self.root);
            let mut lows = KeyRun::default();
            lows.insert(0, &low);
            self.root = Node::Inner(Inner {
                lows,
                weights: vec![left.weight(), right.weight()],
                children: vec![left, right],
            });
        }
        old
    }

    /// Takes a key out; answers the size that it had.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<PairSize> {
        let old = self.root.remove(key);
        self.weight = changed(self.weight, old, None);
        while let Node::Inner(inner) = &mut self.root
            && inner.children.len() < 2
        {
            self.root = inner.children.pop().unwrap_or_default();
        }
        old
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.size(key).is_some()
    }

    fn size(&self, key: &[u8]) -> Option<PairSize> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return Some(leaf.sizes[leaf.keys.search(key).ok()?]),
                Node::Inner(inner) => node = &inner.children[inner.child_of(key)],
            }
        }
    }

    /// What the keys of a range come to.
    pub(crate) fn weigh(&self, range: &KeyRange) -> Weight {
        match range {
            KeyRange::One(key) => self.size(key).map(Weight::of).unwrap_or_default(),
            KeyRange::From(start) => self.weight.minus(self.before(start)),
            KeyRange::Span { start, end } if start < end => {
                self.before(end).minus(self.before(start))
            }
            KeyRange::Span { .. } => Weight::default(),
        }
    }

    /// What the first so many keys of a range come to.
    pub(crate) fn weigh_first(&self, range: &KeyRange, keys: u64) -> Weight {
        let all = self.weigh(range);
        if all.keys <= keys {
            return all;
        }
        let before = self.before(range.start());
        self.first(before.keys + keys).minus(before)
    }

    /// What the keys that are smaller than this one come to.
    fn before(&self, key: &[u8]) -> Weight {
        let mut sum = Weight::default();
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let place = leaf.keys.search(key).unwrap_or_else(|place| place);
                    return sum.plus(leaf.weight_of(place));
                }
                Node::Inner(inner) => {
                    let at = inner.child_of(key);
                    sum = sum.plus(Weight::sum(inner.weights[..at].iter().copied()));
                    node = &inner.children[at];
                }
            }
        }
    }

    /// What the smallest so many keys come to. There must be as many.
    fn first(&self, keys: u64) -> Weight {
        let mut sum = Weight::default();
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return sum.plus(leaf.weight_of((keys - sum.keys) as usize)),
                Node::Inner(inner) => {
                    let mut at = 0;
                    while sum.keys + inner.weights[at].keys < keys {
                        sum = sum.plus(inner.weights[at]);
                        at += 1;
                    }
                    node = &inner.children[at];
                }
            }
        }
    }

    /// Bytes of memory that the set has allocated, without what the allocator adds.
    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> usize {
        self.root.memory_bytes()
    }
}

/// A weight after a key has got another size, has come (`old` is none) or has gone (`new` is none).
fn changed(weight: Weight, old: Option<PairSize>, new: Option<PairSize>) -> Weight {
    let of = |size: Option<PairSize>| size.map(Weight::of).unwrap_or_default();
    weight.plus(of(new)).minus(of(old))
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

impl Default for Node {
    fn default() -> Node {
        Node::Leaf(Leaf::default())
    }
}

/// A node that became too large gives away its right part, under the smallest key of it.
type Split = Option<(Box<[u8]>, Node)>;

impl Node {
    fn insert(&mut self, key: &[u8], size: PairSize) -> (Option<PairSize>, Split) {
        match self {
            Node::Leaf(leaf) => leaf.insert(key, size),
            Node::Inner(inner) => inner.insert(key, size),
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<PairSize> {
        match self {
            Node::Leaf(leaf) => leaf.remove(key),
            Node::Inner(inner) => inner.remove(key),
        }
    }

    fn weight(&self) -> Weight {
        match self {
            Node::Leaf(leaf) => leaf.weight_of(leaf.sizes.len()),
            Node::Inner(inner) => Weight::sum(inner.weights.iter().copied()),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.sizes.is_empty(),
            Node::Inner(inner) => inner.children.is_empty(),
        }
    }

    /// Whether two neighbours are better one: half full, so that the next insertion does not split it again.
    fn may_join(&self, next: &Node) -> bool {
        match (self, next) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.sizes.len() + right.sizes.len() <= LEAF_MAX / 2
            }
            (Node::Inner(left), Node::Inner(right)) => {
                left.children.len() + right.children.len() <= INNER_MAX / 2
            }
            _ => false,
        }
    }

    /// Takes over the node after it, none of whose keys is smaller than `low`.
    fn join(&mut self, low: &[u8], next: Node) {
        match (self, next) {
            (Node::Leaf(left), Node::Leaf(mut right)) => {
                left.keys.join(&right.keys);
                left.sizes.append(&mut right.sizes);
            }
            (Node::Inner(left), Node::Inner(mut right)) => {
                left.lows.insert(left.lows.len(), low);
                left.lows.join(&right.lows);
                left.weights.append(&mut right.weights);
                left.children.append(&mut right.children);
            }
            _ => unreachable!("all leaves are equally deep"),
        }
    }

    #[cfg(test)]
    fn memory_bytes(&self) -> usize {
        match self {
            Node::Leaf(leaf) => {
                leaf.keys.memory_bytes() + leaf.sizes.capacity() * size_of::<PairSize>()
            }
            Node::Inner(inner) => {
                let own = inner.lows.memory_bytes()
                    + inner.weights.capacity() * size_of::<Weight>()
                    + inner.children.capacity() * size_of::<Node>();
                let children: usize = inner.children.iter().map(Node::memory_bytes).sum();
                own + children
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Inner {
    /// For each child but the first a key that is not larger than any of its own, and larger than all before.
    lows: KeyRun,
    weights: Vec<Weight>,
    children: Vec<Node>,
}

impl Inner {
    /// The child in which the key is or would be.
    fn child_of(&self, key: &[u8]) -> usize {
        match self.lows.search(key) {
            Ok(place) => place + 1,
            Err(place) => place,
        }
    }

    fn insert(&mut self, key: &[u8], size: PairSize) -> (Option<PairSize>, Split) {
        let at = self.child_of(key);
        let (old, split) = self.children[at].insert(key, size);
        self.weights[at] = changed(self.weights[at], old, Some(size));
        let Some((low, right)) = split else {
            return (old, None);
        };
        let weight = right.weight();
        self.weights[at] = self.weights[at].minus(weight);
        self.lows.insert(at, &low);
        self.weights.insert(at + 1, weight);
        self.children.insert(at + 1, right);
        if self.children.len() <= INNER_MAX {
            return (old, None);
        }
        let cut = cut(self.children.len(), at + 1);
        let right = Inner {
            lows: self.lows.split_off(cut),
            weights: self.weights.split_off(cut),
            children: self.children.split_off(cut),
        };
        // That of the first child of the right part stands above it from now on.
        let low = self.lows.key(cut - 1);
        self.lows.remove(cut - 1);
        (old, Some((low, Node::Inner(right))))
    }

    fn remove(&mut self, key: &[u8]) -> Option<PairSize> {
        let at = self.child_of(key);
        let old = self.children[at].remove(key)?;
        self.weights[at] = changed(self.weights[at], Some(old), None);
        if self.children[at].is_empty() {
            if !self.lows.is_empty() {
                self.lows.remove(at.saturating_sub(1));
            }
            self.weights.remove(at);
            self.children.remove(at);
            return Some(old);
        }
        for left in [Some(at), at.checked_sub(1)].into_iter().flatten() {
            if let Some(right) = self.children.get(left + 1)
                && self.children[left].may_join(right)
            {
                let low = self.lows.key(left);
                self.lows.remove(left);
                let weight = self.weights.remove(left + 1);
                let right = self.children.remove(left + 1);
                self.weights[left] = self.weights[left].plus(weight);
                self.children[left].join(&low, right);
                break;
            }
        }
        Some(old)
    }
}

#[derive(Clone, Debug, Default)]
struct Leaf {
    keys: KeyRun,
    /// Of the pair of each key.
    sizes: Vec<PairSize>,
}

impl Leaf {
    /// What the first so many keys come to.
    fn weight_of(&self, keys: usize) -> Weight {
        Weight::sum(self.sizes[..keys].iter().map(|size| Weight::of(*size)))
    }

    fn insert(&mut self, key: &[u8], size: PairSize) -> (Option<PairSize>, Split) {
        let place = match self.keys.search(key) {
            Ok(place) => {
                let old = std::mem::replace(&mut self.sizes[place], size);
                return (Some(old), None);
            }
            Err(place) => place,
        };
        self.keys.insert(place, key);
        make_room(&mut self.sizes);
        self.sizes.insert(place, size);
        if self.sizes.len() <= LEAF_MAX {
            return (None, None);
        }
        let cut = cut(self.sizes.len(), place);
        let right = Leaf {
            keys: self.keys.split_off(cut),
            sizes: self.sizes.split_off(cut),
        };
        self.sizes.shrink_to_fit();
        let low = right.keys.key(0);
        (None, Some((low, Node::Leaf(right))))
    }

    fn remove(&mut self, key: &[u8]) -> Option<PairSize> {
        let place = self.keys.search(key).ok()?;
        self.keys.remove(place);
        Some(self.sizes.remove(place))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn size(n: u32) -> PairSize {
        PairSize {
            whole: n * 3 + 7,
            keys_only: n + 1,
        }
    }

    fn weight<'a>(sizes: impl Iterator<Item = &'a PairSize>) -> Weight {
        Weight::sum(sizes.map(|size| Weight::of(*size)))
    }

    /// Keys of several lengths, some of which are prefixes of others.
    fn key(n: u16) -> Bytes {
        let text = match n % 3 {
            0 => format!("/registry/pods/{:03}", n / 3),
            1 => format!("/registry/pods/{:03}/status", n / 3),
            _ => format!("{:03}", n / 3),
        };
        Bytes::from(text)
    }

    proptest! {
        #[test]
        fn counts_and_weighs_as_a_plain_map(
            ops in proptest::collection::vec((0u8..5, 0u16..3000, 0u32..1000), 1..6000),
            remove in 1u8..5,
            ranges in proptest::collection::vec((0u16..3000, 0u16..3000, 0u64..3000), 20),
        ) {
            let mut counted = CountedKeys::default();
            let mut plain = BTreeMap::new();
            // First mostly growing, then mostly shrinking.
            let half = ops.len() / 2;
            for (i, (kind, n, bytes)) in ops.into_iter().enumerate() {
                let add = if i < half { kind >= remove } else { kind < 2 };
                if add {
                    prop_assert_eq!(counted.insert(&key(n), size(bytes)), plain.insert(key(n), size(bytes)));
                } else {
                    prop_assert_eq!(counted.remove(&key(n)), plain.remove(&key(n)));
                }
            }
            prop_assert_eq!(counted.weigh(&KeyRange::all()), weight(plain.values()));
            for (from, to, first) in ranges {
                let (from, to) = (key(from), key(to));
                let span = KeyRange::Span { start: from.clone(), end: to };
                let inside: Vec<PairSize> = span
                    .bounds()
                    .map(|bounds| plain.range::<[u8], _>(bounds).map(|(_, size)| *size).collect())
                    .unwrap_or_default();
                prop_assert_eq!(counted.weigh(&span), weight(inside.iter()));
                prop_assert_eq!(counted.weigh_first(&span, first), weight(inside.iter().take(first as usize)));
                let after = plain.range(from.clone()..).map(|(_, size)| size);
                prop_assert_eq!(counted.weigh(&KeyRange::From(from.clone())), weight(after));
                let one = plain.get(&from);
                prop_assert_eq!(counted.contains(&from), one.is_some());
                prop_assert_eq!(counted.weigh(&KeyRange::One(from)), weight(one.into_iter()));
            }
        }
    }

    #[test]
    fn a_pair_is_as_large_as_it_is_in_an_answer() {
        let mut kv = KeyValue {
            key: Bytes::from_static(b"/registry/pods/a"),
            create_revision: 3,
            mod_revision: 1 << 40,
            version: 128,
            value: Bytes::from(vec![b'v'; 1000]),
            lease: -1,
        };
        let len = |kv: &KeyValue| prost::encoding::message::encoded_len(KVS_TAG, kv) as u32;
        let sizes = PairSize::of(&kv);
        assert_eq!(sizes.whole, len(&kv));
        kv.value = Bytes::new();
        assert_eq!(sizes.keys_only, len(&kv));
        assert_eq!(PairSize::of(&kv).whole, PairSize::of(&kv).keys_only);
        kv = KeyValue::default();
        assert_eq!(PairSize::of(&kv).whole, len(&kv));
    }

    #[test]
    fn the_tree_shrinks_with_its_keys() {
        let mut counted = CountedKeys::default();
        let keys: Vec<String> = (0..50_000).map(|n| format!("{n:05}")).collect();
        for key in &keys {
            counted.insert(key.as_bytes(), size(1));
        }
        let full = counted.memory_bytes();
        for key in keys.iter().filter(|key| !key.ends_with("00")) {
            counted.remove(key.as_bytes());
        }
        assert_eq!(counted.weigh(&KeyRange::all()).keys, 500);
        let left = counted.memory_bytes();
        assert!(left < full / 10, "{left} of {full} bytes are left");
        for key in &keys {
            counted.remove(key.as_bytes());
        }
        assert!(matches!(&counted.root, Node::Leaf(leaf) if leaf.sizes.is_empty()));
    }

    #[test]
    fn a_key_of_seventy_bytes_costs_less_than_a_hundred() {
        const KEYS: u64 = 50_000;
        // Digits that have nothing in common, and names as the API server gives them, in no order.
        let mixed = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let random = |n: u64| format!("{:016x}{:016x}{:038x}", mixed(n), mixed(!n), mixed(n + 7));
        let named = |n: u64| {
            let (namespace, name) = (n % 1000, mixed(n));
            format!("/registry/configmaps/namespace-{namespace:04}/a-name-of-length-{name:017x}")
        };
        for key in [&random as &dyn Fn(u64) -> String, &named] {
            assert_eq!(key(1).len(), 70);
            let mut counted = CountedKeys::default();
            for n in 0..KEYS {
                counted.insert(key(n).as_bytes(), size(1));
            }
            assert_eq!(counted.weigh(&KeyRange::all()).keys, KEYS);
            let each = counted.memory_bytes() as u64 / KEYS;
            assert!(each < 100, "{each} bytes a key");
        }
    }
}
