//! The state as one number, which changes with every change by what has changed and nothing else: the sum, modulo
//! 2^128, of a hash of each part. Members whose states are the same have the same number, whatever way each has come to
//! it, so members can be compared at any moment for the cost of one number. It finds faults, not forgers.
//!
//! The hash of a part is XXH3's of 128 bits over a kind (one byte), four numbers, and the same hash of its name and of
//! its value, all little endian. It must never change: members of different versions compare.

use twox_hash::XxHash3_128;

use crate::command::Lease;
use crate::message::{KeyValue, StoredPair};

const KEY: u8 = 1;
const LEASE: u8 = 2;
const RECORD: u8 = 3;

/// Of a key, for tables in memory. It tells keys apart by chance, not for sure.
pub fn key_hash(key: &[u8]) -> u64 {
    XxHash3_128::oneshot(key) as u64
}

/// Sum over parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateHash(pub u128);

impl StateHash {
    pub fn add_key(&mut self, kv: &KeyValue) {
        self.add_pair(kv.into());
    }

    /// As [`StateHash::add_key`].
    pub fn add_pair(&mut self, pair: StoredPair<'_>) {
        self.0 = self.0.wrapping_add(of_pair(pair));
    }

    pub fn remove_key(&mut self, kv: &KeyValue) {
        self.0 = self.0.wrapping_sub(of_pair(kv.into()));
    }

    pub fn add_lease(&mut self, lease: Lease) {
        self.0 = self.0.wrapping_add(of_lease(lease));
    }

    pub fn remove_lease(&mut self, lease: Lease) {
        self.0 = self.0.wrapping_sub(of_lease(lease));
    }

    pub fn add_record(&mut self, name: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(of_record(name, value));
    }

    pub fn remove_record(&mut self, name: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(of_record(name, value));
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// `None` where these are not sixteen bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<StateHash> {
        Some(StateHash(u128::from_be_bytes(bytes.try_into().ok()?)))
    }
}

fn of_pair(pair: StoredPair<'_>) -> u128 {
    let numbers = [
        pair.create_revision as u64,
        pair.mod_revision as u64,
        pair.version as u64,
        pair.lease as u64,
    ];
    hash(KEY, numbers, pair.key, pair.value)
}

fn of_lease(lease: Lease) -> u128 {
    let numbers = [lease.id as u64, lease.ttl_seconds as u64, lease.nonce, 0];
    hash(LEASE, numbers, &[], &[])
}

fn of_record(name: &[u8], value: &[u8]) -> u128 {
    hash(RECORD, [0; 4], name, value)
}

fn hash(kind: u8, numbers: [u64; 4], name: &[u8], value: &[u8]) -> u128 {
    let mut part = [0; 65];
    let (bytes, digests) = part.split_at_mut(33);
    bytes[0] = kind;
    for (to, number) in bytes[1..].chunks_exact_mut(8).zip(numbers) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    digests[..16].copy_from_slice(&XxHash3_128::oneshot(name).to_le_bytes());
    digests[16..].copy_from_slice(&XxHash3_128::oneshot(value).to_le_bytes());
    XxHash3_128::oneshot(&part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &'static str, value: &'static str) -> KeyValue {
        KeyValue {
            key: key.into(),
            create_revision: 2,
            mod_revision: 300,
            version: 4,
            value: value.into(),
            lease: 5,
        }
    }

    /// Members of different versions compare: these numbers are for ever.
    #[test]
    fn golden_hashes() {
        let mut hash = StateHash::default();
        hash.add_key(&kv("k", "v"));
        assert_eq!(
            format!("{:032x}", hash.0),
            "47b899ee6c32f69fca52edc7ada11a41"
        );
        hash = StateHash::default();
        hash.add_lease(Lease {
            id: 7,
            ttl_seconds: 60,
            nonce: 9,
        });
        assert_eq!(
            format!("{:032x}", hash.0),
            "31bcd57615635864311165143ac1d718"
        );
        hash = StateHash::default();
        hash.add_record(b"name", b"value");
        assert_eq!(
            format!("{:032x}", hash.0),
            "ffeb95a10a80a3dbbbb99c82504e07f0"
        );
        assert_eq!(StateHash::from_bytes(&hash.to_bytes()), Some(hash));
        assert_eq!(StateHash::from_bytes(b"short"), None);
    }

    #[test]
    fn the_way_does_not_matter_and_every_field_does() {
        let mut one = StateHash::default();
        one.add_key(&kv("a", "1"));
        one.add_key(&kv("b", "2"));
        let mut other = StateHash::default();
        other.add_key(&kv("b", "2"));
        other.add_key(&kv("c", "3"));
        other.add_key(&kv("a", "1"));
        assert_ne!(one, other);
        other.remove_key(&kv("c", "3"));
        assert_eq!(one, other);
        let changes: [fn(&mut KeyValue); 6] = [
            |kv| kv.key = "ab".into(),
            |kv| kv.value = "2".into(),
            |kv| kv.create_revision += 1,
            |kv| kv.mod_revision += 1,
            |kv| kv.version += 1,
            |kv| kv.lease += 1,
        ];
        for change in changes {
            let mut changed = kv("a", "1");
            change(&mut changed);
            let mut other = one;
            other.remove_key(&kv("a", "1"));
            other.add_key(&changed);
            assert_ne!(one, other, "{changed:?}");
        }
        // A byte that moves from the key to the value is seen.
        let (mut left, mut right) = (StateHash::default(), StateHash::default());
        left.add_key(&kv("ab", "c"));
        right.add_key(&kv("a", "bc"));
        assert_ne!(left, right);
    }
}
