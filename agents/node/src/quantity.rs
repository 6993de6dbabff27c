//! Resource quantities (`500m`, `64Mi`, `1e3`) as whole numbers.
//!
//! The node needs them in two units only: thousandths (CPU) and ones rounded up (memory, storage), so a quantity is
//! an `i128` count of thousandths here. Architecture invariant: no floating point, hence no platform differences.

use agent_runtime::quantity::unit;
use serde_json::Value;

/// Thousandths of a unit, rounded up; `None` when the text is not a quantity.
pub(crate) fn milli(text: &str) -> Option<i128> {
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits_end = body
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(body.len());
    let (number, suffix) = body.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 20 {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(9)];
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    // The value is mantissa / 10^fraction.len() * multiplier / divisor.
    let (multiplier, divisor) = scale(suffix)?;
    let divisor = divisor.checked_mul(10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let scaled = mantissa.checked_mul(multiplier)?.checked_mul(1000)?;
    let rounded = scaled / divisor + i128::from(scaled % divisor != 0);
    Some(if negative { -rounded } else { rounded })
}

/// Whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<i128> {
    milli(text).map(|milli| milli.div_euclid(1000) + i128::from(milli.rem_euclid(1000) != 0))
}

/// Thousandths of a JSON value: quantities may be written as strings or as bare numbers.
pub(crate) fn milli_of(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => milli(text),
        Value::Number(number) => milli(&number.to_string()),
        _ => None,
    }
}

/// Whole units of a JSON value, rounded up.
pub(crate) fn units_of(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => units(text),
        Value::Number(number) => units(&number.to_string()),
        _ => None,
    }
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    unit(suffix).or_else(|| {
        let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        let power = 10i128.checked_pow(exponent.unsigned_abs().min(18))?;
        Some(if exponent < 0 { (1, power) } else { (power, 1) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_kubernetes_writes() {
        let cases: &[(&str, Option<i128>)] = &[
            ("1", Some(1000)),
            ("500m", Some(500)),
            ("0.5", Some(500)),
            (".5", Some(500)),
            ("64Mi", Some(64 * 1024 * 1024 * 1000)),
            ("1k", Some(1_000_000)),
            ("1e3", Some(1_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("100n", Some(1)),
            ("-2", Some(-2000)),
            ("", None),
            ("x", None),
            ("1.2.3", None),
            ("1Zi", None),
            ("99999999999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milli(text), *expected, "{text}");
        }
        assert_eq!(units("100m"), Some(1));
        assert_eq!(units("1500m"), Some(2));
        assert_eq!(units("2Gi"), Some(2 << 30));
    }
}
