//! Blocks of addresses for Services, and where in them the next one is.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use schema::Object;

/// Random draws before the range is searched in order.
pub(super) const DRAWS: usize = 32;

/// A block of addresses for Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    base: u32,
    size: u32,
}

impl Range {
    /// None where the text is no IPv4 block with room for at least two addresses.
    pub(crate) fn parse(cidr: &str) -> Option<Range> {
        Range::read(cidr, 8)
    }

    /// The same of a block that somebody has added, which may be larger.
    pub(super) fn added(cidr: &str) -> Option<Range> {
        Range::read(cidr, 1)
    }

    fn read(cidr: &str, bits_min: u32) -> Option<Range> {
        let (address, bits) = cidr.split_once('/')?;
        let bits: u32 = bits.parse().ok()?;
        if !(bits_min..=30).contains(&bits) {
            return None;
        }
        let size = 1u32 << (32 - bits);
        let address: Ipv4Addr = address.parse().ok()?;
        Some(Range {
            base: u32::from(address) & !(size - 1),
            size,
        })
    }

    /// The range as text, without bits of an address in it.
    pub(crate) fn cidr(&self) -> String {
        let bits = 32 - self.size.trailing_zeros();
        format!("{}/{bits}", Ipv4Addr::from(self.base))
    }

    /// The address of the `kubernetes` Service.
    pub(crate) fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        offset > 0 && offset < self.size - 1
    }

    /// The lower addresses are left to those who choose themselves, as in Kubernetes.
    fn dynamic_start(&self) -> u32 {
        let reserved = (self.size / 16).clamp(16, 256);
        if self.size <= 32 { 1 } else { reserved }
    }

    /// A free address; `random` drives the draws.
    pub(super) fn pick(
        &self,
        used: &BTreeSet<Ipv4Addr>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Ipv4Addr> {
        let (start, end) = (self.dynamic_start(), self.size - 1);
        let at = |offset: u32| Ipv4Addr::from(self.base + offset);
        for _ in 0..DRAWS {
            let offset = start + (random() % u64::from(end - start)) as u32;
            if !used.contains(&at(offset)) {
                return Some(at(offset));
            }
        }
        (start..end)
            .chain(1..start)
            .map(at)
            .find(|address| !used.contains(address))
    }
}

/// All blocks in which Services may have addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// The one that the server was started with.
    own: Range,
    /// Those of the ServiceCIDRs that are ready.
    ready: Vec<Range>,
}

impl Ranges {
    /// A cluster has its own block as a ServiceCIDR, too; until that is there it counts without.
    pub(super) fn of<'a>(own: Range, objects: impl Iterator<Item = &'a Object>) -> Ranges {
        let mut ready = Vec::new();
        let mut are_told = false;
        for object in objects {
            are_told = true;
            let is_ready = object
                .condition_status("Ready")
                .is_none_or(|status| status == "True");
            if !is_ready || object.deletion_timestamp().is_some() {
                continue;
            }
            let cidrs = object.get_array(&["spec", "cidrs"]);
            let cidrs = cidrs.map(Vec::as_slice).unwrap_or_default();
            ready.extend(cidrs.iter().filter_map(|cidr| Range::added(cidr.as_str()?)));
        }
        if !are_told {
            ready.push(own);
        }
        Ranges { own, ready }
    }

    /// Whether a Service may have this address. The first one of the own block is there for the `kubernetes` Service whatever
    /// became of the objects.
    pub(super) fn contain(&self, address: Ipv4Addr) -> bool {
        address == self.own.first() || self.ready.iter().any(|range| range.contains(address))
    }

    /// A free address of any of them.
    pub(super) fn pick(
        &self,
        used: &BTreeSet<Ipv4Addr>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Ipv4Addr> {
        let mut used = Cow::Borrowed(used);
        if !used.contains(&self.own.first()) {
            used.to_mut().insert(self.own.first());
        }
        self.ready
            .iter()
            .find_map(|range| range.pick(&used, random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn range(name: &str, cidrs: &[&str], status: Value) -> Object {
        let object =
            json!({"metadata": {"name": name}, "spec": {"cidrs": cidrs}, "status": status});
        Object::new(object).unwrap()
    }

    #[test]
    fn services_have_addresses_of_all_ranges_that_are_ready() {
        let own = Range::parse("10.96.0.0/28").unwrap();
        let ready = |status: &str| json!({"conditions": [{"type": "Ready", "status": status}]});
        let contain = |objects: &[Object], address: &str| {
            Ranges::of(own, objects.iter()).contain(address.parse().unwrap())
        };
        let first = range("kubernetes", &["10.96.0.0/28"], ready("True"));
        let second = range("more", &["fd00::/112", "10.97.0.0/24"], json!({}));
        let both = [first.clone(), second.clone()];
        assert!(contain(&both, "10.96.0.5") && contain(&both, "10.97.0.5"));
        assert!(!contain(&both, "10.97.0.255") && !contain(&both, "10.98.0.5"));
        assert!(contain(&[], "10.96.0.5"), "nothing is told yet");
        let only = [
            range("kubernetes", &["10.96.0.0/28"], ready("False")),
            second,
        ];
        assert!(!contain(&only, "10.96.0.5") && contain(&only, "10.96.0.1"));
        let mut going = first.clone();
        let deleted = "2026-01-01T00:00:00Z";
        going
            .metadata_mut()
            .insert("deletionTimestamp".to_owned(), deleted.into());
        assert!(!contain(&[going], "10.96.0.5"));

        let ranges = Ranges::of(own, both.iter());
        let mut used = BTreeSet::new();
        while let Some(address) = ranges.pick(&used, &mut || 3) {
            assert!(used.insert(address) && ranges.contain(address));
        }
        assert_eq!(
            used.len(),
            13 + 254,
            "all but that of the kubernetes Service"
        );
    }

    #[test]
    fn the_last_block_there_is_ends_where_it_ends() {
        let last = Range::added("255.255.255.0/24").unwrap();
        assert!(last.contains(Ipv4Addr::new(255, 255, 255, 254)));
        assert!(!last.contains(Ipv4Addr::BROADCAST) && !last.contains(Ipv4Addr::UNSPECIFIED));
        assert!(Range::added("0.0.0.0/1").is_some() && Range::added("0.0.0.0/0").is_none());
    }

    #[test]
    fn ranges_pick_free_addresses_only() {
        let range = Range::parse("10.96.0.0/12").unwrap();
        assert_eq!(range.first(), Ipv4Addr::new(10, 96, 0, 1));
        assert!(
            range.contains(Ipv4Addr::new(10, 111, 255, 254))
                && !range.contains(Ipv4Addr::new(10, 112, 0, 1))
        );
        let small = Range::parse("10.0.0.0/29").unwrap();
        let mut used = BTreeSet::from([small.first()]);
        let mut seed = 7u64;
        while let Some(address) = small.pick(&used, &mut || {
            seed = seed.wrapping_mul(31).wrapping_add(1);
            seed
        }) {
            assert!(used.insert(address) && small.contains(address));
        }
        assert_eq!(used.len(), 6);
        assert!(Range::parse("10.0.0.0/33").is_none() && Range::parse("nonsense").is_none());
    }
}
