//! What devices take from the counters that the devices of a pool share: parts of one card, say.

use super::prepare::Candidate;
use crate::devices::pool::Pool;
use crate::devices::slice::{Device, DeviceId, PoolId};
use std::collections::BTreeMap;

/// What is left, by pool, set and counter.
#[derive(Default)]
pub(super) struct Counters<'a> {
    left: BTreeMap<&'a PoolId, BTreeMap<(&'a str, &'a str), i128>>,
}

impl<'a> Counters<'a> {
    /// In how many steps [`Self::take`] finds out.
    pub(super) fn cost(&self, candidate: Candidate<'a>) -> u64 {
        let Candidate { device, pool, .. } = candidate;
        if device.consumes.is_empty() {
            return 0;
        }
        let consumed = device.consumes.iter().map(|one| one.counters.len());
        let first = match self.left.contains_key(&device.id.pool) {
            true => 0,
            false => pool
                .slices()
                .map(|slice| slice.devices.len())
                .sum::<usize>(),
        };
        (first + consumed.sum::<usize>()) as u64
    }

    /// Takes what the device needs, if that is left.
    pub(super) fn take(
        &mut self,
        candidate: Candidate<'a>,
        in_use: &dyn Fn(&DeviceId) -> bool,
    ) -> bool {
        let Candidate { device, pool, .. } = candidate;
        if device.consumes.is_empty() {
            return true;
        }
        let left = self.left.entry(&device.id.pool);
        let left = left.or_insert_with(|| in_pool(pool, in_use));
        let needs = needs(device);
        let enough = |((set, counter), amount): (&(&str, &str), &i128)| {
            left.get(&(*set, *counter))
                .is_none_or(|left| left >= amount)
        };
        if !needs.iter().all(enough) {
            return false;
        }
        for (counter, amount) in needs {
            if let Some(left) = left.get_mut(&counter) {
                *left = left.saturating_sub(amount);
            }
        }
        true
    }

    /// The device is not taken after all.
    pub(super) fn give_back(&mut self, candidate: Candidate<'a>) {
        if candidate.device.consumes.is_empty() {
            return;
        }
        let Some(left) = self.left.get_mut(&candidate.device.id.pool) else {
            return;
        };
        for (counter, amount) in needs(candidate.device) {
            if let Some(left) = left.get_mut(&counter) {
                *left = left.saturating_add(amount);
            }
        }
    }
}

fn needs(device: &Device) -> BTreeMap<(&str, &str), i128> {
    let mut needs = BTreeMap::new();
    for consumption in &device.consumes {
        for (counter, amount) in &consumption.counters {
            let need: &mut i128 = needs
                .entry((consumption.set.as_str(), counter.as_str()))
                .or_default();
            *need = need.saturating_add(*amount);
        }
    }
    needs
}

/// What the devices in use have left of each counter; less than nothing where they have too much.
fn in_pool<'a>(
    pool: &'a Pool,
    in_use: &dyn Fn(&DeviceId) -> bool,
) -> BTreeMap<(&'a str, &'a str), i128> {
    let sets = pool.slices().flat_map(|slice| &slice.counters);
    let counters = sets.flat_map(|(set, counters)| {
        let counters = counters.iter();
        counters.map(move |(name, amount)| ((set.as_str(), name.as_str()), *amount))
    });
    let mut left: BTreeMap<(&str, &str), i128> = counters.collect();
    let devices = pool.slices().flat_map(|slice| &slice.devices);
    for device in devices.filter(|device| !device.consumes.is_empty() && in_use(&device.id)) {
        for (counter, amount) in needs(device) {
            if let Some(left) = left.get_mut(&counter) {
                *left = left.saturating_sub(amount);
            }
        }
    }
    left
}
