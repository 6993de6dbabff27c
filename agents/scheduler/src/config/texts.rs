//! Texts that a file may have, with the words of Kubernetes for those that cannot be.

use std::time::Duration;

/// `1m0.5s`, as Go writes durations; none below zero.
pub(super) fn duration(text: &str) -> Option<Duration> {
    const UNITS: &[(&str, f64)] = &[
        ("ms", 1e-3),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ns", 1e-9),
        ("h", 3600.0),
        ("m", 60.0),
        ("s", 1.0),
    ];
    let (mut seconds, mut rest) = (0.0, text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit = |(unit, factor): &(&str, f64)| Some((rest[end..].strip_prefix(unit)?, *factor));
        let (behind, factor) = UNITS.iter().find_map(unit)?;
        seconds += number * factor;
        rest = behind;
    }
    let duration = Duration::try_from_secs_f64(seconds).ok()?;
    (!text.is_empty()).then_some(duration)
}

/// What is wrong with `name` or `example.com/name`, in the words of Kubernetes.
pub(super) fn qualified_name_errors(text: &str) -> Vec<String> {
    const CHARACTERS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
        alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    const SUBDOMAIN: &str = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
        characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used \
        for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let mut errors = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        ["", name] => {
            errors.push("prefix part must be non-empty".to_owned());
            *name
        }
        [prefix, name] => {
            if prefix.len() > 253 {
                errors.push("prefix part must be no more than 253 bytes".to_owned());
            }
            let lower = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
            let is_label = |label: &str| framed(label, lower, |c| lower(c) || c == b'-');
            if !prefix.split('.').all(is_label) {
                errors.push(SUBDOMAIN.to_owned());
            }
            *name
        }
        _ => {
            return vec![format!(
                "a qualified name {CHARACTERS} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errors.push("name part must be no more than 63 bytes".to_owned());
    }
    let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    if !framed(name, |c| c.is_ascii_alphanumeric(), inner) {
        errors.push(format!("name part {CHARACTERS}"));
    }
    errors
}

/// Whether the first and the last byte, and all in between, are such.
fn framed(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let edges = bytes.first().zip(bytes.last());
    edges.is_some_and(|(first, last)| edge(*first) && edge(*last))
        && bytes.iter().all(|c| inner(*c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let table = [
            ("5s", Some(5_000)),
            ("1h2m3.5s", Some(3_723_500)),
            ("250ms", Some(250)),
            ("0", Some(0)),
            ("", None),
            ("5", None),
            ("-1s", None),
            ("1d", None),
            ("99999999999999999999999h", None),
        ];
        for (text, millis) in table {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        let errors = |name: &str| qualified_name_errors(name).len();
        let long = "a".repeat(64);
        for good in ["a", "a.b/C_d", "example.com/x-1"] {
            assert_eq!(errors(good), 0, "{good}");
        }
        for bad in ["/a", "A/b", "a/-b", "a/b/c", &long] {
            assert_eq!(errors(bad), 1, "{bad}");
        }
        assert_eq!(errors("a/"), 2);
    }
}
