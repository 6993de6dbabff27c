//! What claims have, counted by device: alone, or in shares.

use super::capacity::Shares;
use super::claim::Allocation;
use super::slice::DeviceId;
use std::collections::BTreeMap;

/// See the module head.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    /// How many claims have a device that is not to be shared.
    alone: BTreeMap<DeviceId, usize>,
    pub(super) shares: Shares,
}

impl Taken {
    pub(super) fn take(&mut self, allocation: &Allocation) {
        for had in allocation.taken() {
            match &had.share {
                Some(share) => self.shares.add(&had.id, &share.consumed),
                None => *self.alone.entry(had.id.clone()).or_default() += 1,
            }
        }
    }

    pub(super) fn give_back(&mut self, allocation: &Allocation) {
        for had in allocation.taken() {
            match &had.share {
                Some(share) => self.shares.remove(&had.id, &share.consumed),
                None => self.give_back_alone(&had.id),
            }
        }
    }

    fn give_back_alone(&mut self, id: &DeviceId) {
        if let Some(count) = self.alone.get_mut(id) {
            *count -= 1;
            if *count == 0 {
                self.alone.remove(id);
            }
        }
    }

    /// Whether a claim has all of the device.
    pub(super) fn is_alone(&self, id: &DeviceId) -> bool {
        self.alone.contains_key(id)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.alone.is_empty() && self.shares == Shares::default()
    }
}
