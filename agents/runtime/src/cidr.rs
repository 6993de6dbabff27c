//! Ranges of IP addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, such as `10.1.0.0/16`: the first address and how many leading bits all have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    is_v6: bool,
    /// The first address as a number.
    first: u128,
    prefix: u8,
}

impl Cidr {
    /// The range with this many common bits that holds an address. None where the address has not so many bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let (is_v6, bits) = match address {
            IpAddr::V4(v4) => (false, u128::from(u32::from(v4))),
            IpAddr::V6(v6) => (true, u128::from(v6)),
        };
        let range = Self {
            is_v6,
            first: bits,
            prefix,
        };
        let host_bits = range.width().checked_sub(prefix)?;
        let first = bits.checked_shr(host_bits.into()).unwrap_or(0);
        Some(Self {
            first: first.checked_shl(host_bits.into()).unwrap_or(0),
            ..range
        })
    }

    /// Bits of an address of its family.
    fn width(&self) -> u8 {
        if self.is_v6 { 128 } else { 32 }
    }

    /// Whether it is of IPv6.
    pub fn is_v6(&self) -> bool {
        self.is_v6
    }

    /// How many leading bits are common to all its addresses.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// How many ranges with this many common bits it has; as many as can be counted at the most.
    pub fn parts(&self, prefix: u8) -> u64 {
        let more = prefix.saturating_sub(self.prefix);
        1_u64.checked_shl(more.into()).unwrap_or(u64::MAX)
    }

    /// One of these ranges.
    pub fn part(&self, prefix: u8, index: u64) -> Self {
        let shift = u32::from(self.width().saturating_sub(prefix));
        let offset = u128::from(index).checked_shl(shift).unwrap_or(0);
        Self {
            first: self.first.wrapping_add(offset),
            prefix,
            ..*self
        }
    }

    /// The first and the last of these ranges that have an address in common with `other`; none where there is none.
    pub fn parts_of(&self, prefix: u8, other: &Cidr) -> Option<(u64, u64)> {
        if !self.overlaps(other) {
            return None;
        }
        let shift = u32::from(self.width().saturating_sub(prefix));
        let index = |address: u128| {
            let parts = (address - self.first).checked_shr(shift).unwrap_or(0);
            u64::try_from(parts).unwrap_or(u64::MAX)
        };
        let (from, to) = (other.first.max(self.first), other.last().min(self.last()));
        Some((index(from), index(to)))
    }

    fn last(&self) -> u128 {
        let host_bits = u32::from(self.width().saturating_sub(self.prefix));
        let hosts = 1_u128.checked_shl(host_bits).map_or(u128::MAX, |n| n - 1);
        self.first | hosts
    }

    /// Whether all addresses of the other are in it.
    pub fn contains(&self, other: &Cidr) -> bool {
        self.overlaps(other) && self.prefix <= other.prefix
    }

    /// Whether a Service may have this address of the range: all but the first and, of IPv4, the last.
    pub fn serves(&self, address: IpAddr) -> bool {
        let Some(alone) = Self::new(address, if address.is_ipv4() { 32 } else { 128 }) else {
            return false;
        };
        let is_broadcast = !self.is_v6 && alone.first == self.last();
        self.contains(&alone) && alone.first != self.first && !is_broadcast
    }

    /// Whether they have an address in common.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.is_v6 == other.is_v6 && self.first <= other.last() && other.first <= self.last()
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("invalid CIDR address: {text}");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|_| is_number);
        Self::new(address, prefix.ok_or_else(wrong)?).ok_or_else(wrong)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match u32::try_from(self.first) {
            Ok(bits) if !self.is_v6 => IpAddr::V4(Ipv4Addr::from(bits)),
            _ => IpAddr::V6(Ipv6Addr::from(self.first)),
        };
        write!(f, "{address}/{}", self.prefix)
    }
}

/// The addresses of pods, one range or one of each family, and how large a node's share of each is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRanges {
    /// The ranges, each with the common bits of a node's share, in the order in which nodes get them.
    ranges: Vec<(Cidr, u8)>,
    /// What belongs to Services, and so to no node.
    services: Vec<Cidr>,
}

impl NodeRanges {
    /// Checks what was chosen; `mask_sizes` are those of IPv4 and of IPv6.
    pub fn new(ranges: &[Cidr], mask_sizes: (u8, u8), services: Vec<Cidr>) -> Result<Self, String> {
        let families: Vec<bool> = ranges.iter().map(Cidr::is_v6).collect();
        if !matches!(families.as_slice(), [_] | [true, false] | [false, true]) {
            return Err(
                "the cluster's addresses are one range, or one of IPv4 and one of IPv6".into(),
            );
        }
        let with_size = |range: &Cidr| {
            let size = if range.is_v6 {
                mask_sizes.1
            } else {
                mask_sizes.0
            };
            if size < range.prefix || size > range.width() {
                return Err(format!("{range} has no ranges of /{size} for nodes"));
            }
            Ok((*range, size))
        };
        Ok(Self {
            ranges: ranges.iter().map(with_size).collect::<Result<_, _>>()?,
            services,
        })
    }

    /// The ranges, each with the common bits of a node's share.
    pub fn ranges(&self) -> &[(Cidr, u8)] {
        &self.ranges
    }

    /// What belongs to Services.
    pub fn services(&self) -> &[Cidr] {
        &self.services
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_written_in_their_shortest_form() {
        for (text, shown) in [
            ("10.1.2.3/16", "10.1.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("10.0.0.1/32", "10.0.0.1/32"),
            ("fd00:1::5/32", "fd00:1::/32"),
            ("::/0", "::/0"),
            ("::1/128", "::1/128"),
        ] {
            assert_eq!(cidr(text).to_string(), shown);
        }
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "x/8",
            "10.0.0.0/+8",
            "10.0.0.0/",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_knows_its_parts_and_whose_they_are() {
        let all = cidr("10.244.0.0/16");
        assert_eq!(all.parts(24), 256);
        assert_eq!(all.part(24, 255).to_string(), "10.244.255.0/24");
        assert_eq!(all.parts_of(24, &cidr("10.244.3.0/24")), Some((3, 3)));
        assert_eq!(all.parts_of(24, &cidr("10.244.4.0/23")), Some((4, 5)));
        assert_eq!(all.parts_of(24, &cidr("10.244.3.7/32")), Some((3, 3)));
        assert_eq!(all.parts_of(24, &cidr("10.0.0.0/8")), Some((0, 255)));
        assert_eq!(all.parts_of(24, &cidr("10.245.0.0/24")), None);
        assert_eq!(all.parts_of(24, &cidr("::/0")), None);
        let six = cidr("fd00::/48");
        assert_eq!(six.parts(64), 65536);
        assert_eq!(six.part(64, 1).to_string(), "fd00:0:0:1::/64");
        assert_eq!(cidr("::/0").parts(128), u64::MAX);
    }

    #[test]
    fn the_first_and_the_last_address_of_a_range_serve_nobody() {
        let serves = |range: &str, address: &str| cidr(range).serves(address.parse().unwrap());
        for (range, address, expected) in [
            ("10.0.0.0/30", "10.0.0.0", false),
            ("10.0.0.0/30", "10.0.0.1", true),
            ("10.0.0.0/30", "10.0.0.3", false),
            ("10.0.0.0/30", "10.0.0.4", false),
            ("10.0.0.0/30", "::1", false),
            ("fd00::/112", "fd00::", false),
            ("fd00::/112", "fd00::ffff", true),
        ] {
            assert_eq!(serves(range, address), expected, "{range} {address}");
        }
        assert!(cidr("10.0.0.0/8").contains(&cidr("10.1.0.0/16")));
        assert!(cidr("10.0.0.0/8").contains(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.1.0.0/16").contains(&cidr("10.0.0.0/8")));
        assert!(!cidr("::/0").contains(&cidr("10.0.0.0/8")));
    }

    #[test]
    fn what_was_chosen_has_to_fit_together() {
        let made = |ranges: &[&str], sizes| {
            let ranges: Vec<Cidr> = ranges.iter().map(|text| cidr(text)).collect();
            NodeRanges::new(&ranges, sizes, vec![]).is_ok()
        };
        assert!(made(&["10.0.0.0/8"], (24, 64)));
        assert!(made(&["fd00::/48", "10.0.0.0/8"], (24, 64)));
        assert!(!made(&["10.0.0.0/8", "11.0.0.0/8"], (24, 64)));
        assert!(!made(&[], (24, 64)));
        assert!(!made(&["10.0.0.0/25"], (24, 64)));
        assert!(!made(&["10.0.0.0/8"], (33, 64)));
    }
}
