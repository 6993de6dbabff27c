//! Blocks of addresses for Services, and where in them the next one is.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schema::Object;

use super::families::Family;

/// Random draws before the range is searched in order.
pub(super) const DRAWS: usize = 32;

/// A block of addresses for Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    family: Family,
    base: u128,
    size: u128,
}

impl Range {
    /// None where the text is no IPv4 block with room for at least two addresses.
    pub(crate) fn parse(cidr: &str) -> Option<Range> {
        let range = Range::read(cidr, 8)?;
        (range.family == Family::V4).then_some(range)
    }

    /// The same of a block that somebody has added, which may be larger, or of IPv6.
    pub(super) fn added(cidr: &str) -> Option<Range> {
        Range::read(cidr, 1)
    }

    fn read(cidr: &str, bits_min: u32) -> Option<Range> {
        let (address, bits) = cidr.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok()?;
        let family = Family::of(address);
        // As in Kubernetes a block of IPv6 has at most 2^64 addresses.
        let (bits_min, width) = match family {
            Family::V4 => (bits_min, 32),
            Family::V6 => (64, 128),
        };
        if !(bits_min..=width - 2).contains(&bits) {
            return None;
        }
        let size = 1u128 << (width - bits);
        let base = number(address) & !(size - 1);
        Some(Range { family, base, size })
    }

    /// The range as text, without bits of an address in it.
    pub(crate) fn cidr(&self) -> String {
        let width = match self.family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        let bits = width - self.size.trailing_zeros();
        format!("{}/{bits}", self.at(0))
    }

    /// The address of the `kubernetes` Service.
    pub(crate) fn first(&self) -> IpAddr {
        self.at(1)
    }

    fn at(&self, offset: u128) -> IpAddr {
        let number = self.base + offset;
        match self.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }

    /// Past the last one: the last address of an IPv4 block is everybody's.
    fn end(&self) -> u128 {
        match self.family {
            Family::V4 => self.size - 1,
            Family::V6 => self.size,
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let offset = number(address).wrapping_sub(self.base);
        Family::of(address) == self.family && (1..self.end()).contains(&offset)
    }

    /// The lower addresses are left to those who choose themselves, as in Kubernetes.
    fn dynamic_start(&self) -> u128 {
        let reserved = (self.size / 16).clamp(16, 256);
        if self.size <= 32 { 1 } else { reserved }
    }

    /// A free address; `random` drives the draws. The search in order ends soon even in the largest block: it meets used
    /// addresses only until the first free one.
    pub(super) fn pick(
        &self,
        used: &BTreeSet<IpAddr>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<IpAddr> {
        let (start, end) = (self.dynamic_start(), self.end());
        for _ in 0..DRAWS {
            let address = self.at(start + u128::from(random()) % (end - start));
            if !used.contains(&address) {
                return Some(address);
            }
        }
        (start..end)
            .chain(1..start)
            .map(|offset| self.at(offset))
            .find(|address| !used.contains(address))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
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
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        address == self.own.first() || self.ready.iter().any(|range| range.contains(address))
    }

    /// What the cluster has addresses of, first that of Services that ask for none.
    pub(super) fn families(&self) -> Vec<Family> {
        let own = self.own.family;
        let mut others = self.ready.iter().map(|range| range.family);
        let other = others.find(|family| *family != own);
        std::iter::once(own).chain(other).collect()
    }

    /// A free address of any of them.
    pub(super) fn pick(
        &self,
        family: Family,
        used: &BTreeSet<IpAddr>,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<IpAddr> {
        let mut used = Cow::Borrowed(used);
        if !used.contains(&self.own.first()) {
            used.to_mut().insert(self.own.first());
        }
        let mut ranges = self.ready.iter().filter(|range| range.family == family);
        ranges.find_map(|range| range.pick(&used, random))
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
        assert!(contain(&both, "fd00::ffff") && !contain(&both, "fd00::1:0"));
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
        assert_eq!(ranges.families(), [Family::V4, Family::V6]);
        while let Some(address) = ranges.pick(Family::V4, &used, &mut || 3) {
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
        let contains = |address: &str| last.contains(address.parse().unwrap());
        assert!(contains("255.255.255.254") && !contains("::ffff:ff01"));
        assert!(!contains("255.255.255.255") && !contains("0.0.0.0"));
        assert!(Range::added("0.0.0.0/1").is_some() && Range::added("0.0.0.0/0").is_none());
    }

    #[test]
    fn blocks_of_ipv6_may_be_vast_and_have_a_last_address() {
        let vast = Range::added("fd00:1::/64").unwrap();
        assert_eq!(vast.cidr(), "fd00:1::/64");
        let mut used = BTreeSet::new();
        for expected in ["fd00:1::100", "fd00:1::101", "fd00:1::102"] {
            let address = vast.pick(&used, &mut || 0).unwrap();
            assert_eq!(
                address.to_string(),
                expected,
                "the lower ones are for those who choose"
            );
            used.insert(address);
        }
        let high = vast.pick(&used, &mut || u64::MAX - 256).unwrap();
        assert_eq!(high.to_string(), "fd00:1::ffff:ffff:ffff:ffff");
        assert!(vast.contains(high) && !vast.contains("fd00:1::".parse().unwrap()));
        for cidr in ["fd00::/63", "fd00::/127", "fd00::/129", "fd00::"] {
            assert_eq!(Range::added(cidr), None, "{cidr}");
        }
        assert_eq!(
            Range::parse("fd00::/112"),
            None,
            "a cluster's own block is of IPv4"
        );
    }

    #[test]
    fn ranges_pick_free_addresses_only() {
        let range = Range::parse("10.96.0.0/12").unwrap();
        assert_eq!(range.first().to_string(), "10.96.0.1");
        let contains = |address: &str| range.contains(address.parse().unwrap());
        assert!(contains("10.111.255.254") && !contains("10.112.0.1"));
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
