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
pub(super) struct Range {
    family: Family,
    base: u128,
    size: u128,
}

impl Range {
    /// None where the text is no block with room for at least two addresses, or one larger than a server is started with.
    fn parse(cidr: &str) -> Option<Range> {
        Range::read(cidr, 8)
    }

    /// The same of a block that somebody has added, which may be larger.
    fn added(cidr: &str) -> Option<Range> {
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
    fn cidr(&self) -> String {
        let width = match self.family {
            Family::V4 => 32,
            Family::V6 => 128,
        };
        let bits = width - self.size.trailing_zeros();
        format!("{}/{bits}", self.at(0))
    }

    /// The address of the `kubernetes` Service, where it is of this block.
    fn first(&self) -> IpAddr {
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

/// The blocks that a server is started with: one, or one of each family, first that of Services that ask for no family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnRanges {
    primary: Range,
    secondary: Option<Range>,
}

impl OwnRanges {
    /// Reads blocks that are separated by a comma. The error says what is wrong with them.
    pub(crate) fn parse(text: &str) -> Result<OwnRanges, String> {
        let blocks: Vec<&str> = text.split(',').map(str::trim).collect();
        let read = |cidr: &str| {
            let limits = "a block of addresses for Services is of IPv4 from /8 to /30, or of IPv6 from /64 to /126";
            Range::parse(cidr).ok_or_else(|| format!("`{cidr}`: {limits}"))
        };
        match blocks[..] {
            [only] => Ok(OwnRanges {
                primary: read(only)?,
                secondary: None,
            }),
            [first, second] => {
                let (primary, secondary) = (read(first)?, read(second)?);
                if primary.family == secondary.family {
                    let family = primary.family.name();
                    return Err(format!(
                        "`{first}` and `{second}` are both of {family}: of two blocks one is of IPv4 and one of IPv6"
                    ));
                }
                Ok(OwnRanges {
                    primary,
                    secondary: Some(secondary),
                })
            }
            _ => Err(format!(
                "at most two blocks, one of IPv4 and one of IPv6, not {}",
                blocks.len()
            )),
        }
    }

    /// Whether the `kubernetes` Service, whose address is of the first block, can lead to a server at this address: the
    /// endpoints of a Service are of its families. Servers at an address of IPv6 were never refused.
    pub(crate) fn check_advertised(&self, address: IpAddr) -> Result<(), String> {
        if self.primary.family == Family::V6 && address.is_ipv4() {
            let cidr = self.primary.cidr();
            return Err(format!(
                "the first block, `{cidr}`, is of IPv6, but the API is advertised at {address}: the first block is of that address's family"
            ));
        }
        Ok(())
    }

    /// The address of the `kubernetes` Service.
    pub(crate) fn first(&self) -> IpAddr {
        self.primary.first()
    }

    /// The blocks as texts, without bits of an address in them.
    pub(crate) fn cidrs(&self) -> Vec<String> {
        self.all().map(|range| range.cidr()).collect()
    }

    fn all(self) -> impl Iterator<Item = Range> {
        std::iter::once(self.primary).chain(self.secondary)
    }
}

/// All blocks in which Services may have addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// The first one that the server was started with.
    own: Range,
    /// Those of the ServiceCIDRs that are ready.
    ready: Vec<Range>,
}

impl Ranges {
    /// A cluster has its own blocks as a ServiceCIDR, too; until that is there they count without.
    pub(super) fn of<'a>(own: OwnRanges, objects: impl Iterator<Item = &'a Object>) -> Ranges {
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
            ready.extend(own.all());
        }
        Ranges {
            own: own.primary,
            ready,
        }
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
        let own = OwnRanges::parse("10.96.0.0/28").unwrap();
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
    }

    #[test]
    fn a_server_has_one_block_or_one_of_each_family() {
        let families = |text: &str| {
            let own = OwnRanges::parse(text).unwrap();
            Ranges::of(own, std::iter::empty()).families()
        };
        assert_eq!(families("10.96.0.0/12"), [Family::V4]);
        assert_eq!(families("fd00::/112"), [Family::V6]);
        assert_eq!(
            families("10.96.0.0/12,fd00::/112"),
            [Family::V4, Family::V6]
        );
        assert_eq!(
            families("fd00::/112, 10.96.0.0/12"),
            [Family::V6, Family::V4]
        );
        let own = OwnRanges::parse("fd00::5/112,10.97.0.0/12").unwrap();
        assert_eq!(own.cidrs(), ["fd00::/112", "10.96.0.0/12"]);
        assert_eq!(own.first().to_string(), "fd00::1");
        assert!(
            own.check_advertised("192.0.2.1".parse().unwrap()).is_err(),
            "endpoints of IPv4 do not fit"
        );
        assert!(own.check_advertised("2001:db8::1".parse().unwrap()).is_ok());
        for (wrong, why) in [
            ("10.96.0.0/12,10.112.0.0/12", "are both of IPv4"),
            ("fd00::/112,fd01::/112", "are both of IPv6"),
            ("10.96.0.0/12,fd00::/48", "`fd00::/48`: a block"),
            ("10.96.0.0/33", "`10.96.0.0/33`: a block"),
            ("10.96.0.0/12,", "``: a block"),
            ("10.96.0.0/12,fd00::/112,10.112.0.0/12", "not 3"),
        ] {
            let error = OwnRanges::parse(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
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
