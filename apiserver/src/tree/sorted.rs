//! A list in the order of keys that is searched without a look at most of the keys. These are each in a place of their own in
//! memory, and begin alike; what tells them apart stands here, side by side.

use std::sync::Arc;

use crate::entry::Entry;

/// What has a key, or is a list of what has keys.
pub(super) trait Keyed {
    /// The key; the first one of a list.
    fn first_key(&self) -> &str;
}

impl Keyed for Arc<Entry> {
    fn first_key(&self) -> &str {
        self.key()
    }
}

impl<T: Keyed, const N: usize> Keyed for Arc<Sorted<T, N>> {
    fn first_key(&self) -> &str {
        self.items.first().map_or("", Keyed::first_key)
    }
}

/// Bytes that are compared in one step.
const WORD: usize = size_of::<u128>();

/// Items in the order of their keys, no two of which are the same. Of each key `N` words of bytes stand beside those of the
/// others.
#[derive(Clone)]
pub(super) struct Sorted<T, const N: usize> {
    /// What all keys begin with.
    common: Box<str>,
    /// Of each key what follows: see [`head`].
    heads: Vec<[u128; N]>,
    items: Vec<T>,
}

impl<T, const N: usize> Default for Sorted<T, N> {
    fn default() -> Sorted<T, N> {
        Sorted {
            common: Box::default(),
            heads: Vec::new(),
            items: Vec::new(),
        }
    }
}

impl<T, const N: usize> Sorted<T, N> {
    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    /// An item that may be replaced by one with the same key.
    pub(super) fn item_mut(&mut self, at: usize) -> &mut T {
        &mut self.items[at]
    }
}

impl<T: Keyed, const N: usize> Sorted<T, N> {
    /// Of items that are in order.
    pub(super) fn of(items: Vec<T>) -> Sorted<T, N> {
        let mut sorted: Sorted<T, N> = Sorted {
            items,
            ..Sorted::default()
        };
        sorted.settle();
        sorted
    }

    /// Finds out anew what all keys have in common: what the first and the last one have.
    fn settle(&mut self) {
        let common = match (self.items.first(), self.items.last()) {
            (Some(first), Some(last)) => shared(first.first_key(), last.first_key()),
            _ => "",
        };
        let heads = self.items.iter();
        let heads = heads.map(|item| head::<N>(item.first_key(), common.len()));
        self.heads = heads.collect();
        self.common = common.into();
    }

    /// Where a key stands, or else where it would.
    pub(super) fn find(&self, key: &str) -> Result<usize, usize> {
        if !key.starts_with(&*self.common) {
            let is_before_all = *key < *self.common;
            return Err(if is_before_all { 0 } else { self.items.len() });
        }
        let head: [u128; N] = head(key, self.common.len());
        let from = self.heads.partition_point(|known| *known < head);
        // Mostly one is alike, or none: that is seen without another search.
        let alike = match self.heads.get(from + 1) {
            Some(next) if *next == head => {
                self.heads[from..].partition_point(|known| *known == head)
            }
            _ => usize::from(self.heads.get(from) == Some(&head)),
        };
        let alike = &self.items[from..from + alike];
        let found = alike.binary_search_by(|item| item.first_key().cmp(key));
        found.map(|at| from + at).map_err(|at| from + at)
    }

    /// How many keys are before this one.
    pub(super) fn rank(&self, key: &str) -> usize {
        let (Ok(at) | Err(at)) = self.find(key);
        at
    }

    /// Puts an item where it stands in order.
    pub(super) fn insert(&mut self, at: usize, item: T) {
        let key = item.first_key();
        let is_alike = !self.items.is_empty() && key.starts_with(&*self.common);
        let head: [u128; N] = head(key, self.common.len());
        self.items.insert(at, item);
        match is_alike {
            true => self.heads.insert(at, head),
            false => self.settle(),
        }
    }

    pub(super) fn remove(&mut self, at: usize) -> T {
        self.heads.remove(at);
        self.items.remove(at)
    }

    /// Leaves so many items, and answers the others.
    pub(super) fn split_off(&mut self, at: usize) -> Sorted<T, N> {
        let tail = self.items.split_off(at);
        self.settle();
        Sorted::of(tail)
    }

    /// An item has another key now, with which it stands where it stood.
    pub(super) fn rekeyed(&mut self, at: usize) {
        let key = self.items[at].first_key();
        if key.starts_with(&*self.common) {
            self.heads[at] = head(key, self.common.len());
        } else {
            self.settle();
        }
    }
}

/// The bytes of a key from a place on, the first one as the highest of its word: of two keys that are alike up to there, the one
/// with the lesser words is the lesser; where both have the same, their keys tell.
fn head<const N: usize>(key: &str, from: usize) -> [u128; N] {
    let rest = key.as_bytes().get(from..).unwrap_or_default();
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(rest.chunks(WORD)) {
        let mut whole = [0; WORD];
        match bytes.first_chunk::<WORD>() {
            Some(bytes) => whole = *bytes,
            None => whole[..bytes.len()].copy_from_slice(bytes),
        }
        *word = u128::from_be_bytes(whole);
    }
    words
}

/// What two texts begin with alike.
fn shared<'a>(one: &'a str, other: &str) -> &'a str {
    let both = one.bytes().zip(other.bytes());
    let mut len = both.take_while(|(a, b)| a == b).count();
    while !one.is_char_boundary(len) {
        len -= 1;
    }
    &one[..len]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Keyed for String {
        fn first_key(&self) -> &str {
            self
        }
    }

    fn agrees<const N: usize>(sorted: &Sorted<String, N>, key: &str) {
        assert!(sorted.items.is_sorted());
        assert_eq!(sorted.items.len(), sorted.heads.len());
        let by_keys = sorted.items.binary_search_by(|item| item.as_str().cmp(key));
        assert_eq!(sorted.find(key), by_keys, "{key:?} in {:?}", sorted.items);
    }

    fn behaves<const N: usize>(keys: &[String], half: usize) {
        let mut sorted = Sorted::<String, N>::default();
        for key in keys {
            match sorted.find(key) {
                Ok(at) => *sorted.item_mut(at) = key.clone(),
                Err(at) => sorted.insert(at, key.clone()),
            }
            keys.iter().for_each(|key| agrees(&sorted, key));
        }
        let built = Sorted::<String, N>::of(sorted.items.clone());
        keys.iter().for_each(|key| agrees(&built, key));
        let tail = sorted.split_off(half.min(sorted.items.len()));
        keys.iter().for_each(|key| agrees(&sorted, key));
        keys.iter().for_each(|key| agrees(&tail, key));
        while !sorted.items.is_empty() {
            let at = half % sorted.items.len();
            let mut longer = sorted.items[at].clone();
            longer.push('\u{0}');
            let next = sorted.items.get(at + 1);
            let fits = next.is_none_or(|next| *next > longer);
            // Another key in the same place, with which all may have less in common.
            let key = if at == 0 { String::new() } else { longer };
            if at == 0 || fits {
                *sorted.item_mut(at) = key;
                sorted.rekeyed(at);
            }
            keys.iter().for_each(|key| agrees(&sorted, key));
            sorted.remove(at);
            keys.iter().for_each(|key| agrees(&sorted, key));
        }
    }

    proptest! {
        #[test]
        fn heads_are_in_the_order_of_what_they_are_of(one in "[ab\u{0}ü]{0,40}", other in "[ab\u{0}ü]{0,40}", from in 0..3_usize) {
            fn bytes<const N: usize>(key: &str, from: usize) -> Vec<u8> {
                let mut bytes = key.as_bytes().get(from..).unwrap_or_default().to_vec();
                bytes.resize(N * WORD, 0);
                bytes
            }
            let of = |key: &str| (head::<2>(key, from), bytes::<2>(key, from));
            let (one, other) = (of(&one), of(&other));
            prop_assert_eq!(one.0.cmp(&other.0), one.1.cmp(&other.1));
        }

        /// Keys of all sorts: short ones, such as begin with each other, such as differ late, and letters of several bytes.
        #[test]
        fn a_key_is_found_as_by_its_text(
            keys in prop::collection::vec("(/r/)?(a|default/)?[ab\u{0}]{0,3}(xxxxxxxxxxxxxxxx)?[aüö]{0,2}", 1..60),
            half in 0..30_usize,
        ) {
            behaves::<0>(&keys, half);
            behaves::<1>(&keys, half);
            behaves::<2>(&keys, half);
        }
    }
}
