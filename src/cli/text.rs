//! Texts that flags take: names, ids and times.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A name of a machine: that of a Node in Kubernetes, and a folder's here.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(inner)
    };
    // 63 and not 253: the name is also the value of a label.
    match text.len() <= 63 && text.split('.').all(label) {
        true => Ok(text.into()),
        false => Err(format!(
            "`{text}` is not at most 63 lower case letters, digits, `-` and `.`, with a letter or digit at each end"
        )),
    }
}

/// The host name in the form that a Node's name must have.
pub(crate) fn host_name() -> String {
    let raw = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    node_name_of(&raw)
}

fn node_name_of(host: &str) -> String {
    let allowed: String = host
        .trim()
        .to_ascii_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .take(63)
        .collect();
    name(allowed.trim_matches(['-', '.'])).unwrap_or_else(|_| "node-1".into())
}

/// A time, or how long ago.
pub(super) fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let ago = || {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        let seconds = digits.parse::<u32>().ok()?.checked_mul(seconds)?;
        OffsetDateTime::now_utc().checked_sub(time::Duration::seconds(seconds.into()))
    };
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .or_else(ago)
        .ok_or_else(|| {
            format!("`{text}` is neither a time like 2026-11-25T20:19:10Z nor a span like 10m")
        })
}

pub(super) fn hex(text: &str) -> Result<u64, String> {
    match u64::from_str_radix(text.trim_start_matches("0x"), 16) {
        Ok(0) => Err("an id is not 0".into()),
        Ok(id) => Ok(id),
        Err(_) => Err(format!(
            "`{text}` is not a hexadecimal number of at most 64 bits"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_a_node_may_be_called() {
        for good in ["a", "w1", "node-1.example.org"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "A",
            "a_b",
            "-a",
            "a-",
            "a..b",
            "../a",
            "a/b",
            &"a".repeat(64),
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_is_named_or_some_time_ago() {
        let named = moment("2026-11-25T20:19:10.5+01:00").unwrap();
        assert_eq!(named.unix_timestamp_nanos(), 1_795_634_350_500_000_000);
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)] {
            let then = moment(text).unwrap();
            let ago = OffsetDateTime::now_utc() - then;
            assert!(
                (seconds..seconds + 60).contains(&ago.whole_seconds()),
                "{text}"
            );
        }
        for bad in [
            "",
            "m",
            "-5m",
            "5",
            "5w",
            "99999999999d",
            "2026-11-25",
            "\u{e9}",
        ] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn any_host_name_gives_a_node_name() {
        assert_eq!(node_name_of("Build_Host.lan\n"), "build-host.lan");
        assert_eq!(node_name_of("a_.b"), "node-1");
        assert_eq!(node_name_of("(none)"), "none");
        assert_eq!(node_name_of(""), "node-1");
    }
}
