//! Spans of time as Go reads and writes them. Whole nanoseconds.

const SECOND: i128 = 1_000_000_000;

/// Nanoseconds of `1h2m3.5s`.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        total = total.checked_add(amount(number, unit)?)?;
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn amount(number: &str, unit: &str) -> Option<i128> {
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() || whole.len() > 20 || part.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let part = &part[..part.len().min(18)];
    let scale = 10i128.pow(part.len() as u32);
    let part: i128 = if part.is_empty() {
        0
    } else {
        part.parse().ok()?
    };
    Some(whole * unit + part * unit / scale)
}

/// Such a text, in Go's spelling.
pub fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (unit, per_unit) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
    let mut text = (rest / per_unit).to_string();
    if rest % per_unit > 0 {
        let places = per_unit.ilog10() as usize;
        let fraction = format!(".{:0places$}", rest % per_unit);
        text.push_str(fraction.trim_end_matches('0'));
    }
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{text}{unit}"),
        (0, minutes) => format!("{sign}{minutes}m{text}{unit}"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{text}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does_and_read_again() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (999_999_999, "999.999999ms"),
            (1_000_000_000, "1s"),
            (10_250_000_000, "10.25s"),
            (60_000_000_000, "1m0s"),
            (-3_600_000_000_001, "-1h0m0.000000001s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(duration_text(nanos), text);
            assert_eq!(parse_duration(text), Some(nanos), "{text}");
        }
        assert_eq!(parse_duration("1h1m.5s"), Some(3_660_500_000_000));
        for bad in ["", "1", "-", "1x", ".s", "1.2.3s", "9999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
