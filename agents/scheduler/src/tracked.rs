//! A value that counts its changes, for whoever keeps something that was made from it.

use std::ops::{Deref, DerefMut};

/// A value that knows whether it may have changed: whoever takes it by `&mut` counts as a change.
#[derive(Debug, Clone, Default)]
pub struct Tracked<T> {
    value: T,
    changes: u64,
}

impl<T> Tracked<T> {
    /// How often it may have changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }
}

impl<T> Deref for Tracked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Tracked<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changes += 1;
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_no_change_and_taking_it_for_writing_is() {
        let mut tracked: Tracked<Vec<u8>> = Tracked::default();
        assert!(tracked.is_empty());
        assert_eq!(tracked.changes(), 0);
        tracked.push(1);
        tracked.clear();
        assert_eq!((tracked.len(), tracked.changes()), (0, 2));
    }
}
