//! Labels, annotations, requests: text by text, a handful of pairs in each of a hundred thousand objects.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::cell::RefCell;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Index;
use std::sync::Arc;

/// A map of a few texts, sorted by key. It is one block of exactly its size, where a `BTreeMap` takes half a kilobyte for its
/// first pair. Clones share the block, and so do maps that were read one soon after the other and say the same
/// ([`Labels::shared`]). It takes one word, and nothing more where it is empty.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(Option<Arc<Pairs>>);

/// Behind a pointer of its own, so that the other one is one word.
type Pairs = Box<[(String, String)]>;

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    /// By keys and values. Most of those that say the same share a block, and need not be read for it.
    fn cmp(&self, other: &Self) -> Ordering {
        if self.is_one_with(other) {
            return Ordering::Equal;
        }
        self.pairs().cmp(other.pairs())
    }
}

/// So many different maps are remembered by each thread, to be shared. Where pods of two templates take one place in turn, each of
/// them has a map of its own.
const REMEMBERED: usize = 1024;
/// Those of more text are not: they are annotations and data that nobody else has, and would stay when their object is gone.
const SHARED_BYTES_MAX: usize = 1024;

thread_local! {
    static READ_LATELY: RefCell<Vec<Labels>> = const { RefCell::new(Vec::new()) };
}

/// The pairs of [`Labels`] in the order of their keys.
type Iter<'a> = std::iter::Map<
    std::slice::Iter<'a, (String, String)>,
    fn(&'a (String, String)) -> (&'a String, &'a String),
>;

impl Labels {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs().len()
    }

    /// Where its block is, 0 where it is empty. Two maps of which this is the same, and which are there at the same time, say the
    /// same.
    pub fn address(&self) -> usize {
        let block = self.0.as_ref();
        block.map_or(0, |pairs| Arc::as_ptr(pairs).addr())
    }

    /// The pairs in the order of their keys.
    pub fn iter(&self) -> Iter<'_> {
        self.pairs().iter().map(|(key, value)| (key, value))
    }

    /// The keys in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &String> {
        self.pairs().iter().map(|(key, _)| key)
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &String> {
        self.pairs().iter().map(|(_, value)| value)
    }

    /// The value of a key.
    pub fn get(&self, key: &(impl AsRef<str> + ?Sized)) -> Option<&String> {
        let at = self.find(key.as_ref()).ok()?;
        Some(&self.pairs()[at].1)
    }

    /// Whether a key has a value.
    pub fn contains_key(&self, key: &(impl AsRef<str> + ?Sized)) -> bool {
        self.find(key.as_ref()).is_ok()
    }

    /// Sets a value and answers the one before.
    pub fn insert(&mut self, key: String, value: String) -> Option<String> {
        match self.find(&key) {
            Ok(at) => self.change(|pairs| Some(std::mem::replace(&mut pairs[at].1, value))),
            Err(at) => {
                self.change(|pairs| pairs.insert(at, (key, value)));
                None
            }
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &(impl AsRef<str> + ?Sized)) -> Option<String> {
        let at = self.find(key.as_ref()).ok()?;
        self.change(|pairs| Some(pairs.remove(at).1))
    }

    /// Keeps the pairs that `wanted` names.
    pub fn retain(&mut self, mut wanted: impl FnMut(&String, &mut String) -> bool) {
        self.change(|pairs| pairs.retain_mut(|(key, value)| wanted(key, value)));
    }

    /// The same, in the block of an equal map that this thread has read lately. The thousand pods of one ReplicaSet have one
    /// map of labels, and who compares them all finds it in the processor's cache.
    pub fn shared(self) -> Self {
        let bytes = self.iter().map(|(key, value)| key.len() + value.len());
        if self.is_empty() || bytes.sum::<usize>() > SHARED_BYTES_MAX {
            return self;
        }
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let at = hasher.finish() as usize % REMEMBERED;
        READ_LATELY.with_borrow_mut(|read| {
            read.resize(REMEMBERED, Labels::default());
            if read[at] != self {
                read[at] = self;
            }
            read[at].clone()
        })
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.pairs()
            .binary_search_by(|(known, _)| known.as_str().cmp(key))
    }

    fn pairs(&self) -> &[(String, String)] {
        match &self.0 {
            Some(pairs) => pairs,
            None => &[],
        }
    }

    /// Whether both are the same block.
    fn is_one_with(&self, other: &Self) -> bool {
        matches!((&self.0, &other.0), (Some(one), Some(other)) if Arc::ptr_eq(one, other))
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut Vec<(String, String)>) -> R) -> R {
        let mut pairs = self.pairs().to_vec();
        let result = change(&mut pairs);
        self.0 = (!pairs.is_empty()).then(|| Arc::new(pairs.into_boxed_slice()));
        result
    }
}

/// Of a key that is given twice the last value counts.
impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut labels = Self::new();
        labels.extend(pairs);
        labels
    }
}

impl<K: Into<String>, V: Into<String>> Extend<(K, V)> for Labels {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        self.change(|all| {
            all.extend(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.into(), value.into())),
            );
            // Stable, so that of equal keys the last given is the last one.
            all.sort_by(|(one, _), (other, _)| one.cmp(other));
            all.dedup_by(|later, earlier| {
                let same = later.0 == earlier.0;
                if same {
                    std::mem::swap(&mut later.1, &mut earlier.1);
                }
                same
            });
        });
    }
}

impl<const N: usize> From<[(String, String); N]> for Labels {
    fn from(pairs: [(String, String); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl IntoIterator for Labels {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.pairs().to_vec().into_iter()
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a String, &'a String);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Borrow<str> + ?Sized> Index<&K> for Labels {
    type Output = String;

    /// # Panics
    /// Where the key is not there.
    fn index(&self, key: &K) -> &String {
        let key = key.borrow();
        let at = self.find(key).unwrap_or_else(|_| panic!("no {key}"));
        &self.pairs()[at].1
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, encoder: S) -> Result<S::Ok, S::Error> {
        let mut map = encoder.serialize_map(Some(self.len()))?;
        for (key, value) in self {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs.into_iter().collect::<Labels>().shared())
            }
        }

        decoder.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn labels_behave_like_a_map_of_texts(steps in prop::collection::vec(("[a-d]{0,2}", "[a-c]?", 0..4u8), 0..40)) {
            let mut labels = Labels::new();
            let mut model: BTreeMap<String, String> = BTreeMap::new();
            for (key, value, step) in steps {
                match step {
                    0 | 1 => prop_assert_eq!(labels.insert(key.clone(), value.clone()), model.insert(key.clone(), value)),
                    2 => prop_assert_eq!(labels.remove(&key), model.remove(&key)),
                    _ => {
                        let more = [(key.clone(), value.clone()), (key.clone(), format!("{value}x"))];
                        labels.extend(more.clone());
                        model.extend(more);
                    }
                }
                prop_assert_eq!(labels.get(&key), model.get(&key));
                prop_assert_eq!(labels.contains_key(&key), model.contains_key(&key));
                prop_assert!(labels.iter().eq(model.iter()));
            }
            let text = serde_json::to_string(&labels).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&model).unwrap());
            prop_assert_eq!(serde_json::from_str::<Labels>(&text).unwrap(), labels);
        }
    }

    #[test]
    fn what_is_read_twice_is_there_once_until_it_is_changed() {
        let read = || serde_json::from_str::<Labels>(r#"{"app":"web"}"#).unwrap();
        let (one, mut other) = (read(), read());
        assert!(one.is_one_with(&other));
        other.insert("app".to_owned(), "db".to_owned());
        assert_eq!(
            (&one["app"], &other["app"]),
            (&"web".to_owned(), &"db".to_owned())
        );
        assert_eq!(&read()["app"], "web");
        let long = || {
            let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(SHARED_BYTES_MAX));
            serde_json::from_str::<Labels>(&text).unwrap()
        };
        assert!(!long().is_one_with(&long()) && long() == long());
        for number in 0..2 * REMEMBERED {
            let text = format!(r#"{{"app":"{number}"}}"#);
            assert_eq!(
                serde_json::from_str::<Labels>(&text).unwrap()["app"],
                number.to_string()
            );
        }
    }

    #[test]
    fn of_a_key_that_comes_twice_the_last_value_counts() {
        let labels: Labels = serde_json::from_str(r#"{"b":"1","a":"2","b":"3"}"#).unwrap();
        assert_eq!(
            labels,
            Labels::from([
                ("a".to_owned(), "2".to_owned()),
                ("b".to_owned(), "3".to_owned())
            ])
        );
    }
}
