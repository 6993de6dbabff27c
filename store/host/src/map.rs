//! Hash tables whose order is drawn by lot, as the standard library's is, and the same every time on a simulated machine.

use std::hash::{BuildHasher, DefaultHasher, RandomState};

/// [`std::collections::HashMap`]; made by `default`, `collect` or `with_capacity_and_hasher`.
pub type HashMap<K, V> = std::collections::HashMap<K, V, Hashing>;
/// [`std::collections::HashSet`].
pub type HashSet<T> = std::collections::HashSet<T, Hashing>;

/// Keys of the hash function: secret in the product, so that nobody can choose names that collide.
#[derive(Clone, Debug)]
pub struct Hashing(Option<RandomState>);

impl Default for Hashing {
    fn default() -> Hashing {
        Hashing((!crate::is_simulated()).then(RandomState::new))
    }
}

impl BuildHasher for Hashing {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        match &self.0 {
            Some(random) => random.build_hasher(),
            None => DefaultHasher::new(),
        }
    }
}
