//! The syntax of names, labels, keys, ports and addresses, with the texts that Kubernetes gives
//! when one is wrong. Every check returns a list of messages; an empty list means valid.
//!
//! The patterns are matched by hand, since each is a few character classes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const DNS1123_LABEL_LENGTH_MAX: usize = 63;
pub const DNS1123_SUBDOMAIN_LENGTH_MAX: usize = 253;
pub const DNS1035_LABEL_LENGTH_MAX: usize = 63;
pub const LABEL_VALUE_LENGTH_MAX: usize = 63;
const QUALIFIED_NAME_LENGTH_MAX: usize = 63;

const DNS1123_LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN_FMT: &str =
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED_NAME_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// "must be no more than N characters", as Kubernetes says it of names: ASCII is all that they may have.
pub fn max_len_error(length_max: usize) -> String {
    format!("must be no more than {length_max} characters")
}

/// The same of keys and values of labels, for which Kubernetes has other words.
fn max_bytes_error(bytes_max: usize) -> String {
    format!("must be no more than {bytes_max} bytes")
}

/// "must be non-empty".
pub fn empty_error() -> String {
    "must be non-empty".to_owned()
}

/// "must be between LO and HI, inclusive".
pub fn inclusive_range_error(lo: i64, hi: i64) -> String {
    format!("must be between {lo} and {hi}, inclusive")
}

/// A message with examples and the pattern, in Kubernetes' punctuation.
pub fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{pattern}')");
    }
    let list: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{message} (e.g. {}regex used for validation is '{pattern}')",
        list.join(" or ")
    )
}

/// A label of a DNS name: `my-name`.
pub fn is_dns1123_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > DNS1123_LABEL_LENGTH_MAX {
        errors.push(max_len_error(DNS1123_LABEL_LENGTH_MAX));
    }
    if !matches_dns1123_label(text) {
        // A name that is wrong only for its dots gets the shorter text.
        if matches_dns1123_subdomain(text) {
            errors.push("must not contain dots".to_owned());
        } else {
            errors.push(regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                DNS1123_LABEL_FMT,
                &["my-name", "123-abc"],
            ));
        }
    }
    errors
}

/// A DNS name: `example.com`. The names of most objects.
pub fn is_dns1123_subdomain(text: &str) -> Vec<String> {
    subdomain_errors(text, max_len_error)
}

fn subdomain_errors(text: &str, too_long: fn(usize) -> String) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > DNS1123_SUBDOMAIN_LENGTH_MAX {
        errors.push(too_long(DNS1123_SUBDOMAIN_LENGTH_MAX));
    }
    if !matches_dns1123_subdomain(text) {
        errors.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            DNS1123_SUBDOMAIN_FMT,
            &["example.com"],
        ));
    }
    errors
}

/// A DNS name where labels may also hold underscores.
pub fn is_dns1123_subdomain_with_underscore(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > DNS1123_SUBDOMAIN_LENGTH_MAX {
        errors.push(max_len_error(DNS1123_SUBDOMAIN_LENGTH_MAX));
    }
    let ok = text.split('.').all(|l| {
        framed(l, is_lower_alnum, |c| {
            is_lower_alnum(c) || matches!(c, b'-' | b'_')
        })
    });
    if !ok {
        errors.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character",
            r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    errors
}

/// A label that does not start with a digit: the names of Services.
pub fn is_dns1035_label(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > DNS1035_LABEL_LENGTH_MAX {
        errors.push(max_len_error(DNS1035_LABEL_LENGTH_MAX));
    }
    if !(matches_dns1123_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())) {
        errors.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// `*.example.com`.
pub fn is_wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > DNS1123_SUBDOMAIN_LENGTH_MAX {
        errors.push(max_len_error(DNS1123_SUBDOMAIN_LENGTH_MAX));
    }
    if !text
        .strip_prefix("*.")
        .is_some_and(matches_dns1123_subdomain)
    {
        errors.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{DNS1123_SUBDOMAIN_FMT}"),
            &["*.example.com"],
        ));
    }
    errors
}

/// A key of labels, annotations, taints, finalizers: `name` or `example.com/name`.
pub fn is_qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) if !name.contains('/') => {
            if prefix.is_empty() {
                errors.push(format!("prefix part {}", empty_error()));
            } else {
                let of_prefix = subdomain_errors(prefix, max_bytes_error);
                errors.extend(of_prefix.into_iter().map(|e| format!("prefix part {e}")));
            }
            name
        }
        Some(_) => {
            let text = qualified_name_error();
            errors.push(format!(
                "a valid label key {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return errors;
        }
    };
    if name.is_empty() {
        errors.push(format!("name part {}", empty_error()));
    } else if name.len() > QUALIFIED_NAME_LENGTH_MAX {
        errors.push(format!(
            "name part {}",
            max_bytes_error(QUALIFIED_NAME_LENGTH_MAX)
        ));
    }
    if !matches_qualified_name(name) {
        errors.push(format!("name part {}", qualified_name_error()));
    }
    errors
}

/// The value of a label; empty is allowed.
pub fn is_valid_label_value(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > LABEL_VALUE_LENGTH_MAX {
        errors.push(max_bytes_error(LABEL_VALUE_LENGTH_MAX));
    }
    if !text.is_empty() && !matches_qualified_name(text) {
        errors.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            &format!("({QUALIFIED_NAME_FMT})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// A key of a ConfigMap or Secret.
pub fn is_config_map_key(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > DNS1123_SUBDOMAIN_LENGTH_MAX {
        errors.push(max_len_error(DNS1123_SUBDOMAIN_LENGTH_MAX));
    }
    let ok = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    if text.is_empty() || !text.bytes().all(ok) {
        errors.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    errors.extend(directory_prefix_errors(text));
    errors
}

/// The name of an environment variable, by the relaxed rule (any printable ASCII but `=`).
pub fn is_relaxed_env_var_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec![format!("environment variable name {}", empty_error())];
    }
    if text
        .bytes()
        .all(|c| (b' '..=b'~').contains(&c) && c != b'=')
    {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

/// The name of an environment variable, by the strict rule (prefixes of `envFrom`, old servers).
pub fn is_env_var_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let ok = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
    let starts_well = text.bytes().next().is_some_and(|c| !c.is_ascii_digit());
    if !(starts_well && text.bytes().all(ok)) {
        errors.push(regex_error(
            "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit",
            "[-._a-zA-Z][-._a-zA-Z0-9]*",
            &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
        ));
    }
    errors.extend(directory_prefix_errors(text));
    errors
}

/// An identifier of C: the names of variables of policies.
pub fn is_c_identifier(text: &str) -> Vec<String> {
    let ok = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let starts_well = text.bytes().next().is_some_and(|c| !c.is_ascii_digit());
    if starts_well && text.bytes().all(ok) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )]
}

/// Why the text is no reason of a condition.
pub fn is_condition_reason(text: &str) -> Vec<String> {
    let ok = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b',' | b':');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    if starts_well && text.bytes().all(ok) && !text.ends_with([',', ':']) {
        return Vec::new();
    }
    vec![regex_error(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &[
            "my_name",
            "MY_NAME",
            "MyName",
            "ReasonA,ReasonB",
            "ReasonA:ReasonB",
        ],
    )]
}

/// The name of an HTTP header.
pub fn is_http_header_name(text: &str) -> Vec<String> {
    let ok = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    if !text.is_empty() && text.bytes().all(ok) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A port number, 1 to 65535.
pub fn is_valid_port_num(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        return Vec::new();
    }
    vec![inclusive_range_error(1, 65535)]
}

/// The name of a port.
pub fn is_valid_port_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push(max_len_error(15));
    }
    let ok = |c: u8| is_lower_alnum(c) || c == b'-';
    if text.is_empty() || !text.bytes().all(ok) {
        errors.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// A user or group id, 0 to 2147483647.
pub fn is_valid_id(id: i64) -> Vec<String> {
    if (0..=i64::from(i32::MAX)).contains(&id) {
        return Vec::new();
    }
    vec![inclusive_range_error(0, i64::from(i32::MAX))]
}

/// `25%`.
pub fn is_valid_percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
        return Vec::new();
    }
    vec![regex_error(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// An IPv4 or IPv6 address in a form that all programs read alike: no leading zeros, and no IPv4 address in the shape of
/// an IPv6 one.
pub fn is_valid_ip(text: &str) -> Vec<String> {
    let problem = match text.parse::<IpAddr>() {
        Ok(address) if is_mapped(address) => "must not be an IPv4-mapped IPv6 address",
        Ok(_) => return Vec::new(),
        Err(_) if without_leading_zeros(text).parse::<IpAddr>().is_ok() => {
            "must not have leading 0s"
        }
        Err(_) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    };
    vec![problem.to_owned()]
}

/// An address block: `10.9.8.0/24`. What lies beyond the prefix is zero.
pub fn is_valid_cidr(text: &str) -> Vec<String> {
    let problem = match parse_cidr(text) {
        Some((address, _)) if is_mapped(address) => "must not have an IPv4-mapped IPv6 address",
        Some((address, bits)) if masked(address, bits) != address => {
            "must not have bits set beyond the prefix length"
        }
        Some(_) => return Vec::new(),
        None if is_cidr_with_leading_zeros(text) => {
            "must not have leading 0s in IP or prefix length"
        }
        None => "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
    };
    vec![problem.to_owned()]
}

fn is_mapped(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    }
}

/// The first address of the block that an address lies in.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let zeros = |width: u32| width.saturating_sub(u32::from(bits));
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(zeros(32)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(zeros(128)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// The text with the decimal numbers of an IPv4 address as they should be.
fn without_leading_zeros(text: &str) -> String {
    let (head, tail) = match text.rfind(':') {
        Some(at) => text.split_at(at + 1),
        None => ("", text),
    };
    if !tail.contains('.') {
        return text.to_owned();
    }
    let numbers: Vec<&str> = tail.split('.').map(without_zeros).collect();
    format!("{head}{}", numbers.join("."))
}

fn without_zeros(number: &str) -> &str {
    match number.trim_start_matches('0') {
        "" if !number.is_empty() => "0",
        rest => rest,
    }
}

fn is_cidr_with_leading_zeros(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, bits)| {
        let address = without_leading_zeros(address);
        parse_cidr(&format!("{address}/{}", without_zeros(bits))).is_some()
    })
}

/// The address as written and the length of the prefix.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let well_formed = bits.len() <= 3
        && bits.bytes().all(|c| c.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = well_formed.then(|| bits.parse().ok())??;
    let address: IpAddr = address.parse().ok()?;
    let bits_max = match address {
        IpAddr::V4(Ipv4Addr { .. }) => 32,
        IpAddr::V6(Ipv6Addr { .. }) => 128,
    };
    (bits <= bits_max).then_some((address, bits))
}

/// A name that may stand in a URL path: the only rule for names of roles and bindings.
pub fn is_valid_path_segment_name(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|bad| text.contains(bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

/// A name with at least two labels: the domain of a finalizer, a CRD's group.
pub fn is_fully_qualified_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["Required value".to_owned()];
    }
    let errors = is_dns1123_subdomain(text);
    if errors.is_empty() && text.split('.').count() < 3 {
        return vec![
            "should be a domain with at least three segments separated by dots".to_owned(),
        ];
    }
    errors
}

/// `generateName` ends where the random part begins, so a dash at its end is fine: this gives the
/// text to check in its place.
pub fn mask_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(head) if !head.is_empty() => {
            let mut chars = head.chars();
            chars.next_back();
            format!("{}a", chars.as_str())
        }
        _ => prefix.to_owned(),
    }
}

fn qualified_name_error() -> String {
    regex_error(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
        QUALIFIED_NAME_FMT,
        &["MyName", "my.name", "123-abc"],
    )
}

fn directory_prefix_errors(text: &str) -> Vec<String> {
    match text {
        "." => vec!["must not be '.'".to_owned()],
        ".." => vec!["must not be '..'".to_owned()],
        t if t.starts_with("..") => vec!["must not start with '..'".to_owned()],
        _ => Vec::new(),
    }
}

fn matches_dns1123_label(text: &str) -> bool {
    framed(text, is_lower_alnum, |c| is_lower_alnum(c) || c == b'-')
}

fn matches_dns1123_subdomain(text: &str) -> bool {
    text.split('.').all(matches_dns1123_label)
}

fn matches_qualified_name(text: &str) -> bool {
    framed(
        text,
        |c| c.is_ascii_alphanumeric(),
        |c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'),
    )
}

fn is_lower_alnum(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Not empty, first and last byte of class `edge`, all bytes of class `inner`.
fn framed(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|c| edge(*c))
        && bytes.last().is_some_and(|c| edge(*c))
        && bytes.iter().all(|c| inner(*c))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str) -> Vec<String>;

    #[test]
    fn good_and_bad() {
        let long = "a".repeat(64);
        let cases: [(Check, &[&str], &[&str]); 13] = [
            (
                is_dns1123_label,
                &["a", "0", "a-b", "9z"],
                &["", "-a", "a-", "A", "a.b", "a_b", &long],
            ),
            (
                is_dns1123_subdomain,
                &["a.b", "a", "0.0"],
                &["", ".", "a.", "a..b", "A.b", "a/b"],
            ),
            (is_dns1035_label, &["a", "a-0"], &["0a", "a-", ""]),
            (
                is_wildcard_dns1123_subdomain,
                &["*.a.b"],
                &["*", "a.b", "*.", "*.*.a"],
            ),
            (
                is_qualified_name,
                &["a", "A_.b", "a.b/c", "0"],
                &["", "/a", "a/", "a/b/c", "-a", "A/b", &long],
            ),
            (
                is_valid_label_value,
                &["", "a", "A.b_c-d"],
                &["-", "a b", "a/b", &long],
            ),
            (
                is_config_map_key,
                &["a", ".a", "_", "A.b-c"],
                &["", ".", "..", "..a", "a/b"],
            ),
            (
                is_env_var_name,
                &["A", "_a", "a.b"],
                &["", "0a", "a=b", ".."],
            ),
            (is_relaxed_env_var_name, &["0", "a b"], &["", "a=b", "\n"]),
            (
                is_valid_port_name,
                &["http", "a-1"],
                &["", "0", "a--b", "-a", "A", "abcdefghijklmnop"],
            ),
            (
                is_valid_cidr,
                &["10.0.0.0/8", "::/0", "10.0.0.1/32"],
                &["10.0.0.0", "1/8", "10.0.0.0/33", "::/129", "10.0.0.0/08"],
            ),
            (
                is_valid_ip,
                &["10.0.0.1", "::1", "fd00::a"],
                &["", "10.0.0", "::g", "10.0.0.1%eth0"],
            ),
            (is_valid_percent, &["0%", "100%"], &["", "%", "5", "-5%"]),
        ];
        for (check, good, bad) in cases {
            for text in good {
                assert_eq!(check(text), Vec::<String>::new(), "{text:?}");
            }
            for text in bad {
                assert_ne!(check(text), Vec::<String>::new(), "{text:?}");
            }
        }
    }

    #[test]
    fn texts_are_those_of_kubernetes() {
        assert_eq!(
            is_dns1123_subdomain("A"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            is_qualified_name("-"),
            [
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ]
        );
        assert_eq!(
            is_dns1123_label(&"a".repeat(64)),
            ["must be no more than 63 characters"]
        );
        let long = "a".repeat(254);
        assert_eq!(
            is_qualified_name(&format!("{long}/{long}")),
            [
                "prefix part must be no more than 253 bytes",
                "name part must be no more than 63 bytes"
            ]
        );
        assert_eq!(
            is_valid_label_value(&long),
            ["must be no more than 63 bytes"]
        );
        assert!(is_qualified_name("a/b/c")[0].starts_with("a valid label key must consist of"));
    }

    #[test]
    fn addresses_have_one_meaning() {
        for (text, problem) in [
            ("010.0.0.1", "must not have leading 0s"),
            ("::ffff:10.0.0.1", "must not be an IPv4-mapped IPv6 address"),
            (
                "10.0.0.256",
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
        ] {
            assert_eq!(is_valid_ip(text), [problem], "{text}");
        }
        for (text, problem) in [
            (
                "10.0.0.1/8",
                "must not have bits set beyond the prefix length",
            ),
            (
                "fd00::1/64",
                "must not have bits set beyond the prefix length",
            ),
            (
                "10.0.0.0/08",
                "must not have leading 0s in IP or prefix length",
            ),
            (
                "010.0.0.0/8",
                "must not have leading 0s in IP or prefix length",
            ),
            (
                "::ffff:10.0.0.0/104",
                "must not have an IPv4-mapped IPv6 address",
            ),
            (
                "10.0.0.0",
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
        ] {
            assert_eq!(is_valid_cidr(text), [problem], "{text}");
        }
        assert_eq!(is_valid_cidr("0.0.0.0/0"), Vec::<String>::new());
    }

    #[test]
    fn trailing_dash_of_a_generated_name() {
        assert_eq!(mask_trailing_dash("web-"), "wea");
        assert_eq!(mask_trailing_dash("web"), "web");
        assert_eq!(mask_trailing_dash("-"), "-");
        assert_eq!(mask_trailing_dash("é-"), "a");
    }
}
