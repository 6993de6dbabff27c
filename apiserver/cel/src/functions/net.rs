//! Addresses and prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "ip",
        signatures: &["(string) ip", "cidr.() ip"],
        native: ip,
    },
    Function {
        name: "isIP",
        signatures: &["(string) bool"],
        native: |meter, args| judge(meter, args, |text| parse_ip(text).is_ok()),
    },
    Function {
        name: "ip.isCanonical",
        signatures: &["(string) bool"],
        native: is_canonical,
    },
    Function {
        name: "family",
        signatures: &["ip.() int"],
        native: family,
    },
    Function {
        name: "isUnspecified",
        signatures: &["ip.() bool"],
        native: |_, args| of_ip(args, |ip| ip.is_unspecified()),
    },
    Function {
        name: "isLoopback",
        signatures: &["ip.() bool"],
        native: |_, args| of_ip(args, |ip| ip.is_loopback()),
    },
    Function {
        name: "isLinkLocalMulticast",
        signatures: &["ip.() bool"],
        native: |_, args| of_ip(args, is_link_local_multicast),
    },
    Function {
        name: "isLinkLocalUnicast",
        signatures: &["ip.() bool"],
        native: |_, args| of_ip(args, is_link_local),
    },
    Function {
        name: "isGlobalUnicast",
        signatures: &["ip.() bool"],
        native: |_, args| of_ip(args, is_global_unicast),
    },
    Function {
        name: "cidr",
        signatures: &["(string) cidr"],
        native: cidr,
    },
    Function {
        name: "isCIDR",
        signatures: &["(string) bool"],
        native: |meter, args| judge(meter, args, |text| parse_cidr(text).is_ok()),
    },
    Function {
        name: "containsIP",
        signatures: &["cidr.(string) bool", "cidr.(ip) bool"],
        native: contains_ip,
    },
    Function {
        name: "containsCIDR",
        signatures: &["cidr.(string) bool", "cidr.(cidr) bool"],
        native: contains_cidr,
    },
    Function {
        name: "prefixLength",
        signatures: &["cidr.() int"],
        native: prefix_length,
    },
    Function {
        name: "masked",
        signatures: &["cidr.() cidr"],
        native: masked,
    },
];

fn parse_ip(text: &str) -> Result<IpAddr, EvalError> {
    let parsed: Result<IpAddr, _> = text.parse();
    match parsed {
        Ok(ip) if is_mapped(ip) => Err(mapped(text)),
        Ok(ip) => Ok(ip),
        Err(_) if has_zone(text) => Err(EvalError::new(format!(
            "IP address {text:?} with zone value is not allowed"
        ))),
        Err(_) => Err(EvalError::new(format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        ))),
    }
}

/// An address of IPv4 in the spelling of IPv6.
fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

fn mapped(text: &str) -> EvalError {
    EvalError::new(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
}

/// An address that would do but for the interface behind it.
fn has_zone(text: &str) -> bool {
    let parts = text.split_once('%');
    parts.is_some_and(|(ip, zone)| !zone.is_empty() && ip.parse::<Ipv6Addr>().is_ok())
}

fn parse_cidr(text: &str) -> Result<(IpAddr, u8), EvalError> {
    // Kubernetes says it twice.
    const FAILED: &str = "network address parse error during conversion from string";
    let failed = |why: String| {
        EvalError::new(format!(
            "{FAILED}: {FAILED}: netip.ParsePrefix({text:?}): {why}"
        ))
    };
    let parts = text.split_once('/');
    let (ip, bits) = parts.ok_or_else(|| failed("no '/'".to_owned()))?;
    let parsed: Result<IpAddr, _> = ip.parse();
    let parsed = parsed.map_err(|_| failed(format!("ParseAddr({ip:?}): unable to parse IP")))?;
    let plain = bits.chars().all(|c| c.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let number: Option<u8> = bits.parse().ok().filter(|_| plain);
    let number = number.ok_or_else(|| failed(format!("bad bits after slash: {bits:?}")))?;
    if number > width(parsed) {
        return Err(failed("prefix length out of range".to_owned()));
    }
    if is_mapped(parsed) {
        return Err(EvalError::new(format!("{FAILED}: {}", mapped(text))));
    }
    Ok((parsed, number))
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The first address of the prefix.
fn mask(ip: IpAddr, bits: u8) -> IpAddr {
    let host = u32::from(width(ip) - bits);
    let kept = number(ip)
        .checked_shr(host)
        .unwrap_or(0)
        .checked_shl(host)
        .unwrap_or(0);
    match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(kept as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(kept)),
    }
}

fn is_link_local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !broadcast
        && !ip.is_unspecified()
        && !ip.is_loopback()
        && !ip.is_multicast()
        && !is_link_local(ip)
}

fn judge<'a>(meter: &mut Meter<'_>, args: &[Value<'a>], judge: fn(&str) -> bool) -> Outcome<'a> {
    let [Value::String(text)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(text.len())?;
    Ok(Value::Bool(judge(text)))
}

fn ip<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::String(text)] => {
            meter.walk(text.len())?;
            parse_ip(text).map(Value::Ip)
        }
        [Value::Cidr(ip, _)] => Ok(Value::Ip(*ip)),
        _ => Err(EvalError::no_overload()),
    }
}

fn is_canonical<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(text.len())?;
    Ok(Value::Bool(parse_ip(text)?.to_string() == **text))
}

fn family<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Ip(ip)] => Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
        _ => Err(EvalError::no_overload()),
    }
}

fn of_ip<'a>(args: &[Value<'a>], judge: fn(IpAddr) -> bool) -> Outcome<'a> {
    match args {
        [Value::Ip(ip)] => Ok(Value::Bool(judge(*ip))),
        _ => Err(EvalError::no_overload()),
    }
}

fn cidr<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(text.len())?;
    let (ip, bits) = parse_cidr(text)?;
    Ok(Value::Cidr(ip, bits))
}

fn contains(outer: (IpAddr, u8), ip: IpAddr) -> bool {
    outer.0.is_ipv4() == ip.is_ipv4() && mask(ip, outer.1) == mask(outer.0, outer.1)
}

fn contains_ip<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (outer, ip) = match args {
        [Value::Cidr(ip, bits), Value::Ip(inner)] => ((*ip, *bits), *inner),
        [Value::Cidr(ip, bits), Value::String(text)] => ((*ip, *bits), parse_ip(text)?),
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Value::Bool(contains(outer, ip)))
}

fn contains_cidr<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (outer, inner) = match args {
        [Value::Cidr(ip, bits), Value::Cidr(inner, inner_bits)] => {
            ((*ip, *bits), (*inner, *inner_bits))
        }
        [Value::Cidr(ip, bits), Value::String(text)] => ((*ip, *bits), parse_cidr(text)?),
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Value::Bool(contains(outer, inner.0) && outer.1 <= inner.1))
}

fn prefix_length<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Cidr(_, bits)] => Ok(Value::Int(i64::from(*bits))),
        _ => Err(EvalError::no_overload()),
    }
}

fn masked<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Cidr(ip, bits)] => Ok(Value::Cidr(mask(*ip, *bits), *bits)),
        _ => Err(EvalError::no_overload()),
    }
}
