//! The addresses of one node's pods: of a range that follows from the node's number, each given to one pod at a time.

use std::net::Ipv4Addr;

/// The shared address space of RFC 6598, which nothing else here uses.
const FIRST: u32 = 100 << 24 | 64 << 16;
/// Ranges that it has room for, and so the most hollow nodes.
pub const NODES_MAX: u32 = 1 << 14;
/// Addresses of a range, without the first and the last one.
pub(super) const PODS_MAX: u32 = 254;

/// Which are taken: a bit each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    taken: [u64; 4],
    /// Where the search goes on, so that an address rests before it is given again.
    next: u8,
}

/// `100.64.7.0/24`
pub(super) fn range(node: u32) -> String {
    format!("{}/24", Ipv4Addr::from(FIRST + (node << 8)))
}

fn of(node: u32, host: u8) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + (node << 8) + u32::from(host))
}

impl Addresses {
    fn is_taken(&self, host: u8) -> bool {
        self.taken[usize::from(host / 64)] >> (host % 64) & 1 == 1
    }

    /// An address that nobody has; none when all are taken.
    pub(super) fn take(&mut self, node: u32) -> Option<Ipv4Addr> {
        let mut host = self.next;
        for _ in 0..=u8::MAX {
            let usable = (1..=254).contains(&host);
            if usable && !self.is_taken(host) {
                self.taken[usize::from(host / 64)] |= 1 << (host % 64);
                self.next = host.wrapping_add(1);
                return Some(of(node, host));
            }
            host = host.wrapping_add(1);
        }
        None
    }

    /// Takes this one, which a pod has on record. False where it is another node's or another pod's.
    pub(super) fn claim(&mut self, node: u32, address: Ipv4Addr) -> bool {
        let host = address.octets()[3];
        if of(node, host) != address || !(1..=254).contains(&host) || self.is_taken(host) {
            return false;
        }
        self.taken[usize::from(host / 64)] |= 1 << (host % 64);
        true
    }

    pub(super) fn free(&mut self, node: u32, address: Ipv4Addr) {
        let host = address.octets()[3];
        if of(node, host) == address {
            self.taken[usize::from(host / 64)] &= !(1 << (host % 64));
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u32 {
        self.taken.iter().map(|word| word.count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_address_of_a_range_is_given_once_until_it_is_free_again() {
        let mut addresses = Addresses::default();
        let all: BTreeSet<Ipv4Addr> = std::iter::from_fn(|| addresses.take(5000)).collect();
        assert_eq!(all.len(), PODS_MAX as usize);
        assert_eq!(range(5000), "100.83.136.0/24");
        assert!(all.iter().all(|one| one.octets()[..3] == [100, 83, 136]));
        let one = Ipv4Addr::new(100, 83, 136, 9);
        assert!(!addresses.claim(5000, one));
        addresses.free(4999, one);
        assert_eq!(addresses.take(5000), None);
        addresses.free(5000, one);
        assert_eq!(addresses.take(5000), Some(one));
    }

    #[test]
    fn a_freed_address_rests_and_a_claimed_one_is_not_given() {
        let mut addresses = Addresses::default();
        let first = addresses.take(1).unwrap();
        addresses.free(1, first);
        assert_ne!(addresses.take(1), Some(first));
        let mut restarted = Addresses::default();
        assert!(restarted.claim(1, first));
        assert!(!restarted.claim(1, Ipv4Addr::new(10, 0, 0, 1)));
        assert_ne!(restarted.take(1), Some(first));
        assert_eq!(restarted.count(), 2);
    }

    #[test]
    fn the_last_range_lies_within_the_shared_space() {
        assert_eq!(range(NODES_MAX - 1), "100.127.255.0/24");
    }
}
