//! The images that one node has: what pods have run of there, since every image can be pulled at once.

use std::hash::{DefaultHasher, Hash, Hasher};

/// So many are kept; the oldest makes room, as where a node cleans up.
const KEPT: usize = 256;

/// Which are there, by their hashes: the names of the images of thousands of nodes are much the same and much text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Images(Vec<u64>);

fn hash(image: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.hash(&mut hasher);
    hasher.finish()
}

impl Images {
    pub(super) fn has(&self, image: &str) -> bool {
        self.0.contains(&hash(image))
    }

    /// Notes that it was pulled.
    pub(super) fn keep(&mut self, image: &str) {
        let hash = hash(image);
        if self.0.contains(&hash) {
            return;
        }
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pulled_is_there_until_there_are_too_many() {
        let mut images = Images::default();
        assert!(!images.has("a"));
        images.keep("a");
        images.keep("a");
        assert!(images.has("a") && !images.has("b"));
        (0..KEPT).for_each(|number| images.keep(&number.to_string()));
        assert!(!images.has("a") && images.has("0"));
    }
}
