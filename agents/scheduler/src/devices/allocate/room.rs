//! What is left of the capacity of devices that allocations share, kept while shares are given and taken back, the last one
//! first.

use crate::devices::capacity::Shares;
use crate::devices::claim::Ask;
use crate::devices::slice::{Amounts, Device};
use std::collections::BTreeMap;

/// What the search has given of each candidate that is shared, by the names of its capacities.
#[derive(Default)]
pub(super) struct Room {
    given: BTreeMap<usize, Vec<Amounts>>,
}

impl Room {
    /// Whether the search has given somebody a share of the candidate.
    pub(super) fn is_used(&self, candidate: usize) -> bool {
        self.given.contains_key(&candidate)
    }

    /// In how many steps [`Self::take`] finds out.
    pub(super) fn cost(&self, candidate: usize, device: &Device) -> u64 {
        match device.shared {
            true => {
                let given = self.given.get(&candidate).map_or(0, Vec::len);
                (device.capacity.len() * (1 + given)) as u64
            }
            false => 0,
        }
    }

    /// Takes what is asked for, if that is left.
    pub(super) fn take(
        &mut self,
        candidate: usize,
        device: &Device,
        ask: &Ask,
        shares: &Shares,
    ) -> bool {
        let given = self.given.get(&candidate).map(Vec::as_slice);
        let given = given.unwrap_or_default();
        let Some(taken) = fits(device, ask, shares, given) else {
            return false;
        };
        self.given.entry(candidate).or_default().push(taken);
        true
    }

    /// What was taken last of the candidate is not taken after all.
    pub(super) fn give_back(&mut self, candidate: usize) {
        if let Some(given) = self.given.get_mut(&candidate) {
            given.pop();
            if given.is_empty() {
                self.given.remove(&candidate);
            }
        }
    }
}

/// What is asked for of a device that is shared, if that is left beside what others have and the search has given.
pub(super) fn fits(
    device: &Device,
    ask: &Ask,
    shares: &Shares,
    given: &[Amounts],
) -> Option<Amounts> {
    let mut taken = Amounts::new();
    for (name, amount) in device.taken_by(&ask.capacity)? {
        let had = shares.consumed(&device.id, name);
        let given = given.iter().filter_map(|given| given.get(name));
        let all = given.fold(had.saturating_add(amount.thousandths), |all, more| {
            all.saturating_add(*more)
        });
        if all > device.capacity.get(name)?.value.thousandths {
            return None;
        }
        taken.insert(name.to_owned(), amount.thousandths);
    }
    Some(taken)
}
