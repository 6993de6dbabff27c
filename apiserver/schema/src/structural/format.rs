//! `format`: which formats Kubernetes checks, and whether a text has one.

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, PAD};

use super::node::NodeType;
use crate::{names, time};

/// Bits of the last digit that no byte has may be anything.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, PAD.with_decode_allow_trailing_bits(true));

/// The formats of strings, without their hyphens.
const OF_STRINGS: &[&str] = &[
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "quantity",
    "k8sshortname",
    "k8slongname",
];

/// A format as it was written, when it means something for values of this type: others are ignored,
/// as in Kubernetes.
pub(super) fn canonical(format: &str, ty: Option<NodeType>) -> Option<Cow<'_, str>> {
    let known = match ty {
        None | Some(NodeType::String) => OF_STRINGS.contains(&&*plain(format)),
        Some(NodeType::Integer) => matches!(format, "int32" | "int64"),
        Some(NodeType::Number) => matches!(format, "float" | "double"),
        _ => false,
    };
    known.then_some(Cow::Borrowed(format))
}

fn plain(format: &str) -> Cow<'_, str> {
    match format.contains('-') {
        true => format.replace('-', "").into(),
        false => format.into(),
    }
}

/// Whether a text has a format; true for formats that are not known, and for those that mean any
/// text.
pub(super) fn matches(format: &str, text: &str) -> bool {
    match &*plain(format) {
        "bsonobjectid" => text.len() == 24 && is_hex(text),
        "uri" => is_request_uri(text),
        "email" => is_email(text),
        "hostname" => is_hostname(text),
        // Also where it is written as one of the newer sort.
        "ipv4" => text.contains('.') && without_zeros(text).parse::<IpAddr>().is_ok(),
        "ipv6" => text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()),
        "cidr" => text.split_once('/').is_some_and(|(address, bits)| {
            let text = format!("{}/{}", without_zeros(address), without_zeros(bits));
            names::parse_cidr(&text).is_some()
        }),
        "mac" => is_mac(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "creditcard" => is_credit_card(text),
        "ssn" => is_ssn(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && is_hex(digits)
        }
        "rgbcolor" => is_rgb_color(text),
        "byte" => !text.is_empty() && BASE64.decode(text).is_ok(),
        "date" => is_date(text),
        "duration" => is_duration(text),
        "datetime" => {
            let text = text.to_ascii_uppercase();
            text.as_bytes().get(10) == Some(&b'T') && time::parse_nanos(&text).is_some()
        }
        "k8sshortname" => names::is_dns1123_label(text).is_empty(),
        "k8slongname" => names::is_dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

/// An address without the zeros before its decimal numbers, which Kubernetes still takes in values.
fn without_zeros(text: &str) -> Cow<'_, str> {
    let (head, numbers) = match text.rfind(':') {
        Some(colon) if text.contains('.') => text.split_at(colon + 1),
        Some(_) => return text.into(),
        None => ("", text),
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let bare = numbers.split('.').map(|part| {
        let short = part.trim_start_matches('0');
        match (is_number(part), short) {
            (true, "") => "0",
            (true, short) => short,
            (false, _) => part,
        }
    });
    let bare: Vec<&str> = bare.collect();
    format!("{head}{}", bare.join(".")).into()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What Go takes as the URI of a request: a path, or anything behind a scheme.
fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) || !escapes_are_whole(text) {
        return false;
    }
    if text.starts_with('/') || text == "*" {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let in_scheme = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(in_scheme) {
        return false;
    }
    let authority = rest
        .strip_prefix("//")
        .map_or("", |rest| rest.split(['/', '?', '#']).next().unwrap_or(""));
    let port = match authority.rsplit_once(':') {
        Some((_, port)) if !port.contains(']') => port,
        _ => "",
    };
    let is_closed = authority.contains('[') == authority.contains(']');
    is_closed
        && !authority.contains([' ', '<', '>', '"'])
        && port.bytes().all(|b| b.is_ascii_digit())
}

fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

fn is_email(text: &str) -> bool {
    let address = match text.strip_suffix('>') {
        Some(text) => text.rsplit_once('<').map_or("", |(_, address)| address),
        None => text,
    };
    let in_atom =
        |c: char| c.is_ascii_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    let is_dot_atom = |text: &str| {
        text.split('.')
            .all(|atom| !atom.is_empty() && atom.chars().all(in_atom))
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
    (quoted || is_dot_atom(local)) && is_dot_atom(domain)
}

fn is_hostname(text: &str) -> bool {
    let is_label = |label: &str| {
        let inside = |c: char| c.is_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels: Vec<&str> = text.split('.').collect();
    let top = labels.last().copied().unwrap_or("");
    let has_top = labels.len() == 1 || top.len() >= 2 && top.chars().all(char::is_alphabetic);
    text.len() <= 255 && has_top && labels.into_iter().all(is_label)
}

fn is_mac(text: &str) -> bool {
    let of = |separator: char, digits: usize| {
        let groups: Vec<&str> = text.split(separator).collect();
        let bytes = groups.len() * digits / 2;
        let whole = groups.iter().all(|g| g.len() == digits && is_hex(g));
        whole && matches!(bytes, 6 | 8 | 20)
    };
    of(':', 2) || of('-', 2) || of('.', 4)
}

/// Hyphens may be left out, each for itself.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut rest = text;
    let mut digits = String::with_capacity(32);
    for (i, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        match rest.split_at_checked(length) {
            Some((group, after)) if is_hex(group) => {
                digits.push_str(group);
                rest = after;
            }
            _ => return false,
        }
    }
    let variant = digits.as_bytes()[16].to_ascii_lowercase();
    let fits = match version {
        None => true,
        Some(version) => {
            digits.as_bytes()[12] == version as u8
                && (version == '3' || matches!(variant, b'8' | b'9' | b'a' | b'b'))
        }
    };
    rest.is_empty() && fits
}

fn without(text: &str, dropped: [char; 2]) -> String {
    text.chars().filter(|c| !dropped.contains(c)).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = without(text, ['-', ' ']);
    let value = |(i, c): (usize, char)| match c {
        'X' if i == 9 => Some(10),
        _ => c.to_digit(10),
    };
    let values: Option<Vec<u32>> = digits.chars().enumerate().map(value).collect();
    values.is_some_and(|values| {
        let weighted = values.iter().zip((1..=10).rev()).map(|(v, w)| v * w);
        values.len() == 10 && weighted.sum::<u32>().is_multiple_of(11)
    })
}

fn is_isbn13(text: &str) -> bool {
    let digits = without(text, ['-', ' ']);
    let values: Option<Vec<u32>> = digits.chars().map(|c| c.to_digit(10)).collect();
    values.is_some_and(|values| {
        let weighted = values.iter().zip([1, 3].into_iter().cycle());
        values.len() == 13 && weighted.map(|(v, w)| v * w).sum::<u32>().is_multiple_of(10)
    })
}

fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let luhn = digits.iter().rev().enumerate().map(|(i, d)| match i % 2 {
        0 => *d,
        _ if *d > 4 => 2 * d - 9,
        _ => 2 * d,
    });
    let sum: u32 = luhn.sum();
    let start = |length: usize| digits.iter().take(length).fold(0, |n, d| 10 * n + d);
    let known = match digits.len() {
        13 => start(1) == 4,
        14 => matches!(start(2), 36 | 38) || (300..=305).contains(&start(3)),
        15 => matches!(start(2), 34 | 37) || matches!(start(4), 2131 | 1800),
        16 => {
            start(1) == 4
                || (51..=55).contains(&start(2))
                || start(4) == 6011
                || start(2) == 65
                || start(2) == 35
        }
        _ => false,
    };
    known && sum.is_multiple_of(10)
}

/// Both separators have to be there.
fn is_ssn(text: &str) -> bool {
    let mut rest = text;
    for (i, length) in [3, 2, 4].into_iter().enumerate() {
        if i > 0 {
            match rest.strip_prefix(['-', ' ']) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        match rest.split_at_checked(length) {
            Some((group, after)) if group.bytes().all(|b| b.is_ascii_digit()) => rest = after,
            _ => return false,
        }
    }
    rest.is_empty()
}

fn is_rgb_color(text: &str) -> bool {
    let Some(inner) = text.strip_prefix("rgb(").and_then(|t| t.strip_suffix(')')) else {
        return false;
    };
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    let is_byte = |part: &&str| {
        part.bytes().all(|b| b.is_ascii_digit())
            && part
                .parse::<u8>()
                .is_ok_and(|value| value.to_string() == *part)
    };
    parts.len() == 3 && parts.iter().all(is_byte)
}

fn is_date(text: &str) -> bool {
    let shaped = text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| match i {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        });
    shaped && time::parse(&format!("{text}T00:00:00Z")).is_some()
}

/// Go's durations (`1h30m`, `-1.5s`), and numbers with the name of a unit (`3 days`).
fn is_duration(text: &str) -> bool {
    is_go_duration(text) || is_spoken_duration(text)
}

fn is_go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(end.unwrap_or(rest.len()));
        let has_digit = number.bytes().any(|b| b.is_ascii_digit());
        if !has_digit || number.matches('.').count() > 1 {
            return false;
        }
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        // The longest unit counts: `ms` is no minute.
        let unit = units
            .iter()
            .filter(|unit| after.starts_with(**unit))
            .max_by_key(|u| u.len());
        let Some(unit) = unit else {
            return false;
        };
        rest = &after[unit.len()..];
    }
    true
}

/// How many bytes at the beginning of a text are of such characters.
fn span(text: &str, inside: fn(char) -> bool) -> usize {
    text.find(|c: char| !inside(c)).unwrap_or(text.len())
}

/// Whether numbers with a unit are somewhere in the text; of other words nothing is said.
fn is_spoken_duration(text: &str) -> bool {
    // What begins like the last name of a unit is one too: `hours`.
    const UNITS: [&[&str]; 8] = [
        &["ns", "nano"],
        &["us", "µs", "micro"],
        &["ms", "milli"],
        &["s", "sec"],
        &["m", "min"],
        &["h", "hr", "hour"],
        &["d", "day"],
        &["w", "wk", "week"],
    ];
    let (mut rest, mut found) = (text, false);
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        rest = &rest[start..];
        let (number, after) = rest.split_at(span(rest, |c| c.is_ascii_digit()));
        let after = after.trim_start_matches(|c: char| c.is_ascii_whitespace());
        let (unit, after) = after.split_at(span(after, |c| c.is_ascii_alphabetic() || c == 'µ'));
        rest = after;
        if unit.is_empty() {
            continue;
        }
        if number.parse::<i64>().is_err() {
            return false;
        }
        let unit = unit.to_lowercase();
        found |= UNITS.iter().any(|names| {
            let is_longer = names.last().is_some_and(|last| unit.starts_with(*last));
            is_longer || names.contains(&unit.as_str())
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_strings() {
        for (format, fine, wrong) in [
            (
                "bsonobjectid",
                vec!["507f1f77bcf86cd799439011"],
                vec!["507f", "507f1f77bcf86cd79943901g"],
            ),
            (
                "uri",
                vec!["http://a.b:80/c?d#e", "/a", "urn:x"],
                vec![
                    "",
                    "a",
                    "http://a b",
                    "http://a:x",
                    "http://a/%zz",
                    "http://[::1",
                ],
            ),
            (
                "email",
                vec!["a@b", "x.y+z@example.com", "A <a@b.c>"],
                vec!["", "a", "@b", "a@", "a..b@c"],
            ),
            (
                "hostname",
                vec!["a", "a-b.example.com"],
                vec!["", "-a", "a..b", "a.1", "a."],
            ),
            (
                "ipv4",
                vec!["1.2.3.4", "01.002.0.00", "::ffff:1.2.3.4"],
                vec!["1.2.3", "::1", "1.2.3."],
            ),
            ("ipv6", vec!["::1", "fe80::1"], vec!["1.2.3.4", "::g"]),
            (
                "cidr",
                vec!["10.0.0.0/8", "::/0", "010.0.0.0/08"],
                vec!["10.0.0.0", "10.0.0.0/33"],
            ),
            (
                "mac",
                vec!["00:11:22:33:44:55", "0011.2233.4455"],
                vec!["00:11", "00:11:22:33:44:5g"],
            ),
            (
                "uuid",
                vec![
                    "550e8400-e29b-41d4-a716-446655440000",
                    "550E8400e29b41d4a716446655440000",
                ],
                vec!["550e8400", ""],
            ),
            (
                "uuid4",
                vec!["550e8400-e29b-41d4-a716-446655440000"],
                vec!["550e8400-e29b-31d4-a716-446655440000"],
            ),
            (
                "isbn",
                vec!["0321751043", "978-0321751041"],
                vec!["0321751044", "x"],
            ),
            (
                "creditcard",
                vec!["4111-1111-1111-1111"],
                vec!["4111-1111-1111-1112", ""],
            ),
            (
                "ssn",
                vec!["111-11-1111", "111 11-1111"],
                vec!["111-11-111", "111111111"],
            ),
            ("hexcolor", vec!["#FFF", "a1b2c3"], vec!["#FF", "#ggg"]),
            (
                "rgbcolor",
                vec!["rgb(1, 2,255)"],
                vec!["rgb(1,2)", "rgb(1,2,256)", "rgb(01,2,3)"],
            ),
            ("byte", vec!["YQ==", "YR=="], vec!["", "YQ", "@"]),
            (
                "date",
                vec!["2026-02-28"],
                vec!["2026-02-30", "2026-2-28", "x"],
            ),
            (
                "date-time",
                vec!["2026-02-28T01:02:03.5Z", "2026-02-28t01:02:03+01:00"],
                vec!["2026-02-28", "2026-02-28 01:02:03Z"],
            ),
            (
                "duration",
                vec![
                    "1h30m",
                    "-1.5s",
                    "0",
                    "3 days",
                    "22 ns",
                    "1..5s",
                    "2 day 3 hours",
                    "1e3s",
                ],
                vec!["", "h", "1", "1x", "1e", "99999999999999999999 s"],
            ),
            ("k8s-short-name", vec!["a-b"], vec!["A", "a.b"]),
            ("k8s-long-name", vec!["a.b"], vec!["A"]),
            ("password", vec!["", "x"], vec![]),
        ] {
            assert!(
                canonical(format, Some(NodeType::String)).is_some(),
                "{format}"
            );
            for text in fine {
                assert!(matches(format, text), "{format}: {text:?}");
            }
            for text in wrong {
                assert!(!matches(format, text), "{format}: {text:?}");
            }
        }
    }

    #[test]
    fn formats_that_are_not_known_mean_nothing() {
        assert_eq!(canonical("pineapple", Some(NodeType::String)), None);
        assert_eq!(canonical("int32", Some(NodeType::String)), None);
        assert_eq!(canonical("date", Some(NodeType::Object)), None);
        assert!(canonical("int64", Some(NodeType::Integer)).is_some());
        assert!(canonical("float", Some(NodeType::Number)).is_some());
    }
}
