//! One of the five fields.

use std::num::IntErrorKind;

/// Bounds and names of a field.
pub(crate) struct Bounds {
    low: u64,
    high: u64,
    names: &'static [&'static str],
}

pub(crate) const MINUTES: Bounds = Bounds {
    low: 0,
    high: 59,
    names: &[],
};
pub(crate) const HOURS: Bounds = Bounds {
    low: 0,
    high: 23,
    names: &[],
};
pub(crate) const DAYS: Bounds = Bounds {
    low: 1,
    high: 31,
    names: &[],
};
pub(crate) const MONTHS: Bounds = Bounds {
    low: 1,
    high: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
pub(crate) const WEEKDAYS: Bounds = Bounds {
    low: 0,
    high: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// What a field, or a part of it, allows, and whether it is a star.
#[derive(Default)]
pub(crate) struct Allowed {
    pub(crate) bits: u64,
    pub(crate) any: bool,
}

/// Reads a field: parts with commas between them.
pub(crate) fn field(text: &str, bounds: &Bounds) -> Result<Allowed, String> {
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

fn number(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(bounds.low + u64::try_from(at).unwrap_or(0)),
        None => plain_number(text),
    }
}

fn plain_number(text: &str) -> Result<u64, String> {
    let number: i64 = text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}")
    })?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}
