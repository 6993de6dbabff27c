//! An ordered set of keys that knows how many of them stand before any key, and how large they are in an answer.
//!
//! A B-tree in which every inner node holds the sums of its children, so that a count, or the size of an answer, is a
//! walk down two paths whatever the range. A leaf keeps what its keys have in common once and their tails in one piece
//! of memory: there are as many keys as there are objects, on every member, and an allocation for each would double
//! the cost. Keys are copied in: one that arrived as a part of a request would keep the request in memory with it.

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
            self.root = Node::Inner(Inner {
                lows: vec![Box::default(), low],
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
                Node::Leaf(leaf) => return Some(leaf.entries[leaf.search(key).ok()?].size),
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
                    let place = leaf.search(key).unwrap_or_else(|place| place);
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
            Node::Leaf(leaf) => leaf.weight_of(leaf.entries.len()),
            Node::Inner(inner) => Weight::sum(inner.weights.iter().copied()),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.entries.is_empty(),
            Node::Inner(inner) => inner.children.is_empty(),
        }
    }

    /// Whether two neighbours are better one: half full, so that the next insertion does not split it again.
    fn may_join(&self, next: &Node) -> bool {
        match (self, next) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.entries.len() + right.entries.len() <= LEAF_MAX / 2
            }
            (Node::Inner(left), Node::Inner(right)) => {
                left.children.len() + right.children.len() <= INNER_MAX / 2
            }
            _ => false,
        }
    }

    fn join(&mut self, low: Box<[u8]>, next: Node) {
        match (self, next) {
            (Node::Leaf(left), Node::Leaf(right)) => left.join(&right),
            (Node::Inner(left), Node::Inner(mut right)) => {
                right.lows[0] = low;
                left.lows.append(&mut right.lows);
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
                leaf.prefix.len()
                    + leaf.tails.capacity()
                    + leaf.entries.capacity() * size_of::<Entry>()
            }
            Node::Inner(inner) => {
                let own = inner.lows.capacity() * size_of::<Box<[u8]>>()
                    + inner.weights.capacity() * size_of::<Weight>()
                    + inner.children.capacity() * size_of::<Node>();
                let lows: usize = inner.lows.iter().map(|low| low.len()).sum();
                let children: usize = inner.children.iter().map(Node::memory_bytes).sum();
                own + lows + children
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Inner {
    /// No key of a child is smaller; that of the first is not looked at.
    lows: Vec<Box<[u8]>>,
    weights: Vec<Weight>,
    children: Vec<Node>,
}

impl Inner {
    /// The child in which the key is or would be.
    fn child_of(&self, key: &[u8]) -> usize {
        self.lows[1..].partition_point(|low| low.as_ref() <= key)
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
        self.lows.insert(at + 1, low);
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
        (old, Some((right.lows[0].clone(), Node::Inner(right))))
    }

    fn remove(&mut self, key: &[u8]) -> Option<PairSize> {
        let at = self.child_of(key);
        let old = self.children[at].remove(key)?;
        self.weights[at] = changed(self.weights[at], Some(old), None);
        if self.children[at].is_empty() {
            self.lows.remove(at);
            self.weights.remove(at);
            self.children.remove(at);
            return Some(old);
        }
        for left in [Some(at), at.checked_sub(1)].into_iter().flatten() {
            if let Some(right) = self.children.get(left + 1)
                && self.children[left].may_join(right)
            {
                let low = self.lows.remove(left + 1);
                let weight = self.weights.remove(left + 1);
                let right = self.children.remove(left + 1);
                self.weights[left] = self.weights[left].plus(weight);
                self.children[left].join(low, right);
                break;
            }
        }
        Some(old)
    }
}

/// Where to cut a full node. Keys often arrive in order: the full part is left behind when a node grows at its end.
fn cut(length: usize, grown_at: usize) -> usize {
    match grown_at + 1 == length {
        true => length - 1,
        false => length / 2,
    }
}

#[derive(Clone, Debug, Default)]
struct Leaf {
    /// What all keys begin with.
    prefix: Box<[u8]>,
    /// What follows, key after key.
    tails: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of the tail.
    end: u32,
    size: PairSize,
}

impl Leaf {
    fn start(&self, place: usize) -> usize {
        match place {
            0 => 0,
            _ => self.entries[place - 1].end as usize,
        }
    }

    fn tail(&self, place: usize) -> &[u8] {
        &self.tails[self.start(place)..self.entries[place].end as usize]
    }

    fn key(&self, place: usize) -> Box<[u8]> {
        [&self.prefix, self.tail(place)].concat().into()
    }

    /// Where the key is, or would be.
    fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(tail) = key.strip_prefix(&*self.prefix) else {
            return Err(match key < &*self.prefix {
                true => 0,
                false => self.entries.len(),
            });
        };
        let (mut low, mut high) = (0, self.entries.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.tail(middle).cmp(tail) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// What the first so many keys come to.
    fn weight_of(&self, keys: usize) -> Weight {
        Weight::sum(
            self.entries[..keys]
                .iter()
                .map(|entry| Weight::of(entry.size)),
        )
    }

    fn insert(&mut self, key: &[u8], size: PairSize) -> (Option<PairSize>, Split) {
        let place = match self.search(key) {
            Ok(place) => {
                let old = std::mem::replace(&mut self.entries[place].size, size);
                return (Some(old), None);
            }
            Err(place) => place,
        };
        if self.entries.is_empty() {
            self.prefix = key.into();
        }
        self.shorten(common(&self.prefix, key));
        let tail = &key[self.prefix.len()..];
        let start = self.start(place);
        // Doubling, as a vector grows by itself, would leave a quarter of the memory unused.
        if self.tails.capacity() - self.tails.len() < tail.len() {
            let more = tail.len().max(self.tails.len() / 8);
            self.tails.reserve_exact(more);
        }
        if self.entries.capacity() == self.entries.len() {
            self.entries.reserve_exact(LEAF_MAX / 8);
        }
        self.tails.extend_from_slice(tail);
        self.tails[start..].rotate_right(tail.len());
        let end = (start + tail.len()) as u32;
        self.entries.insert(place, Entry { end, size });
        for later in &mut self.entries[place + 1..] {
            later.end += tail.len() as u32;
        }
        if self.entries.len() <= LEAF_MAX {
            return (None, None);
        }
        let cut = cut(self.entries.len(), place);
        let right = self.part(cut..self.entries.len());
        let low = right.key(0);
        *self = self.part(0..cut);
        (None, Some((low, Node::Leaf(right))))
    }

    fn remove(&mut self, key: &[u8]) -> Option<PairSize> {
        let place = self.search(key).ok()?;
        let start = self.start(place);
        let removed = self.entries.remove(place);
        let length = removed.end - start as u32;
        self.tails.drain(start..removed.end as usize);
        for later in &mut self.entries[place..] {
            later.end -= length;
        }
        Some(removed.size)
    }

    /// Some of the keys, in no more memory than they need.
    fn part(&self, places: std::ops::Range<usize>) -> Leaf {
        let first = self.tail(places.start);
        // In order, so what the first and the last have in common they all have.
        let shared = common(first, self.tail(places.end - 1));
        let mut part = Leaf {
            prefix: [&self.prefix, &first[..shared]].concat().into(),
            tails: Vec::with_capacity(
                self.start(places.end) - self.start(places.start) - shared * places.len(),
            ),
            entries: Vec::with_capacity(places.len()),
        };
        for place in places {
            part.tails.extend_from_slice(&self.tail(place)[shared..]);
            let end = part.tails.len() as u32;
            let size = self.entries[place].size;
            part.entries.push(Entry { end, size });
        }
        part
    }

    /// Moves what is beyond so many bytes of the prefix into the tails.
    fn shorten(&mut self, length: usize) {
        if length == self.prefix.len() {
            return;
        }
        let more = self.prefix[length..].to_vec();
        let mut tails = Vec::with_capacity(self.tails.len() + more.len() * self.entries.len());
        for place in 0..self.entries.len() {
            tails.extend_from_slice(&more);
            tails.extend_from_slice(self.tail(place));
        }
        for (place, entry) in self.entries.iter_mut().enumerate() {
            entry.end += (more.len() * (place + 1)) as u32;
        }
        self.tails = tails;
        self.prefix = self.prefix[..length].into();
    }

    fn join(&mut self, next: &Leaf) {
        let length = common(&self.prefix, &next.prefix);
        self.shorten(length);
        let more = &next.prefix[length..];
        for place in 0..next.entries.len() {
            self.tails.extend_from_slice(more);
            self.tails.extend_from_slice(next.tail(place));
            let end = self.tails.len() as u32;
            let size = next.entries[place].size;
            self.entries.push(Entry { end, size });
        }
    }
}

/// How many bytes two keys have in common at their beginning.
fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
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
        assert!(matches!(&counted.root, Node::Leaf(leaf) if leaf.entries.is_empty()));
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
