//! Durations as Go writes them, such as `1h30m`, with Go's messages about wrong ones.

/// The magnitude of the longest negative one, in nanoseconds. Beyond it nothing is counted.
const MOST: u64 = 1 << 63;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Nanoseconds.
pub(crate) fn parse(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit());
        let (name, after) = after.split_at(end.unwrap_or(after.len()));
        let Some((_, unit)) = UNITS.iter().find(|(unit, _)| *unit == name) else {
            let whole = quoted(text);
            return Err(match name {
                "" => format!("time: missing unit in duration {whole}"),
                name => format!("time: unknown unit {} in duration {whole}", quoted(name)),
            });
        };
        let part = amount(whole, fraction, *unit).ok_or_else(invalid)?;
        total = total
            .checked_add(part)
            .filter(|total| *total <= MOST)
            .ok_or_else(invalid)?;
        rest = after;
    }
    match negative {
        true => Ok(0_i64.wrapping_sub_unsigned(total)),
        false => i64::try_from(total).map_err(|_| invalid()),
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// So many units and the fraction of one; `None` if that is too long. Digits beyond a nanosecond do not count.
fn amount(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    const DIGITS_MAX: usize = 18;
    let whole: u64 = match whole {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    let fraction = &fraction[..fraction.len().min(DIGITS_MAX)];
    let parts: u128 = match fraction {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let below = u64::try_from(parts * u128::from(unit) / scale).ok()?;
    let nanos = whole.checked_mul(unit)?.checked_add(below)?;
    Some(nanos).filter(|nanos| *nanos <= MOST)
}

/// As Go quotes what is in such a message.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..0x80 => quoted.push(char::from(byte)),
            _ => quoted += &format!("\\x{byte:02x}"),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5us", 500),
            ("5.s", 5_000_000_000),
            ("1\u{b5}s1\u{3bc}s", 2_000),
            ("-1ms2ns", -1_000_002),
            ("0.3333333333333333333333s", 333_333_333),
            ("-9223372036854775808ns", i64::MIN),
            ("9223372036854775807ns", i64::MAX),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_told_as_go_tells_it() {
        for (text, told) in [
            ("", "invalid duration \"\""),
            ("-", "invalid duration \"-\""),
            ("+-5s", "invalid duration \"+-5s\""),
            (".s", "invalid duration \".s\""),
            ("x", "invalid duration \"x\""),
            ("5", "missing unit in duration \"5\""),
            ("1.2.3s", "missing unit in duration \"1.2.3s\""),
            ("5d", "unknown unit \"d\" in duration \"5d\""),
            ("5 s", "unknown unit \" s\" in duration \"5 s\""),
            (
                "5\u{e9}",
                "unknown unit \"\\xc3\\xa9\" in duration \"5\\xc3\\xa9\"",
            ),
            (
                "9223372036854775808ns",
                "invalid duration \"9223372036854775808ns\"",
            ),
            (
                "99999999999999999999s",
                "invalid duration \"99999999999999999999s\"",
            ),
            ("2562047h2562047h", "invalid duration \"2562047h2562047h\""),
        ] {
            assert_eq!(parse(text), Err(format!("time: {told}")), "{text}");
        }
    }
}
