//! How the fields of a schedule are written, with the messages that users know.

use agent_runtime::timestamp::Micros;

/// Bounds and names of a field.
pub(super) struct Bounds {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

pub(super) const MINUTES: Bounds = Bounds {
    low: 0,
    high: 59,
    names: &[],
};
pub(super) const HOURS: Bounds = Bounds {
    low: 0,
    high: 23,
    names: &[],
};
pub(super) const DAYS: Bounds = Bounds {
    low: 1,
    high: 31,
    names: &[],
};
pub(super) const MONTHS: Bounds = Bounds {
    low: 1,
    high: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
pub(super) const WEEKDAYS: Bounds = Bounds {
    low: 0,
    high: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// What a field, or a part of it, allows, and whether it is a star.
#[derive(Default)]
pub(super) struct Allowed {
    pub(super) bits: u64,
    pub(super) any: bool,
}

/// Reads a field.
pub(super) fn field(text: &str, bounds: &Bounds) -> Result<Allowed, String> {
    let mut all = Allowed::default();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let part = range(part, bounds)?;
        all.bits |= part.bits;
        all.any |= part.any;
    }
    Ok(all)
}

/// `*`, `7`, `1-5`, each with `/step`; `7/2` goes on to the end.
fn range(text: &str, bounds: &Bounds) -> Result<Allowed, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts[0].split('-').collect();
    let star = matches!(ends[0], "*" | "?");
    let (start, mut end) = match ends[..] {
        _ if star => (bounds.low, bounds.high),
        [one] => {
            let one = number(one, bounds)?;
            (one, one)
        }
        [start, end] => (number(start, bounds)?, number(end, bounds)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match parts[..] {
        [_] => 1,
        [_, step] => plain_number(step)?,
        _ => return Err(format!("too many slashes: {text}")),
    };
    if parts.len() == 2 && ends.len() == 1 && !star {
        end = bounds.high;
    }
    let (low, high) = (bounds.low, bounds.high);
    if start < low {
        return Err(format!(
            "beginning of range ({start}) below minimum ({low}): {text}"
        ));
    }
    if end > high {
        return Err(format!(
            "end of range ({end}) above maximum ({high}): {text}"
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    let step_by = usize::try_from(step).unwrap_or(usize::MAX);
    let bits = (start..=end)
        .step_by(step_by)
        .fold(0, |bits, value| bits | 1 << value);
    Ok(Allowed {
        bits,
        any: star && step == 1,
    })
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(bounds.low + u32::try_from(at).unwrap_or(0)),
        None => plain_number(text),
    }
}

fn plain_number(text: &str) -> Result<u32, String> {
    let number: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })?;
    u32::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

/// A Go duration such as `1h30m`, not longer than such a one can be.
pub(super) fn go_duration(text: &str) -> Option<Micros> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..unit].parse().ok()?;
        const UNITS: [(&str, f64); 8] = [
            ("ns", 1.0),
            ("us", 1e3),
            ("µs", 1e3),
            ("μs", 1e3),
            ("ms", 1e6),
            ("s", 1e9),
            ("m", 6e10),
            ("h", 3.6e12),
        ];
        let (name, size) = UNITS
            .iter()
            .find(|(name, _)| rest[unit..].starts_with(name))?;
        nanos += amount * size;
        rest = &rest[unit + name.len()..];
    }
    if nanos >= 9_223_372_036_854_775_807.0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the line above")]
    let micros = (nanos / 1e3) as Micros;
    Some(if negative { -micros } else { micros })
}
