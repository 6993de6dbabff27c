//! Amounts in thousandths: of a processor, of whatever an autoscaler measures.

use agent_runtime::quantity::unit;
use serde_json::Value;

/// Rounded up; none where it is no amount.
pub(crate) fn milli(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => milli_of_text(text),
        Value::Number(number) => milli_of_text(&number.to_string()),
        _ => None,
    }
}

/// The same of a text.
pub(crate) fn milli_of_text(text: &str) -> Option<i64> {
    let (sign, body) = match text.strip_prefix('-') {
        Some(body) => (-1, body),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let is_digit = |c: char| c.is_ascii_digit() || c == '.';
    let end = body.find(|c| !is_digit(c)).unwrap_or(body.len());
    let (number, suffix) = body.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 30 {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (multiplier, divisor) = scale(suffix)?;
    let tens = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let divisor = divisor.checked_mul(tens)?;
    let scaled = mantissa.checked_mul(multiplier)?.checked_mul(1000)?;
    let signed = scaled.checked_mul(sign)?;
    let up = signed.div_euclid(divisor) + i128::from(signed.rem_euclid(divisor) != 0);
    Some(i64::try_from(up).unwrap_or(if sign < 0 { i64::MIN } else { i64::MAX }))
}

/// Multiplier and divisor of a suffix.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    unit(suffix).or_else(|| {
        let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        let power = 10_i128.pow(exponent.unsigned_abs().min(18));
        Some(if exponent < 0 { (1, power) } else { (power, 1) })
    })
}

/// As Kubernetes writes it: with the largest suffix that leaves a whole number.
pub(crate) fn text(milli: i64) -> String {
    if milli == 0 {
        return "0".to_owned();
    }
    let (mut number, mut suffix) = (milli, 0);
    const SUFFIXES: [&str; 7] = ["m", "", "k", "M", "G", "T", "P"];
    while number % 1000 == 0 && suffix + 1 < SUFFIXES.len() {
        number /= 1000;
        suffix += 1;
    }
    format!("{number}{}", SUFFIXES[suffix])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written() {
        for (text, expected) in [
            ("250m", Some(250)),
            ("1", Some(1000)),
            ("0.5", Some(500)),
            ("1234567n", Some(2)),
            ("-1500u", Some(-1)),
            ("64Mi", Some(64 * 1024 * 1024 * 1000)),
            ("1e3", Some(1_000_000)),
            ("1e-3", Some(1)),
            ("9E", Some(i64::MAX)),
            ("", None),
            ("1.2.3", None),
            ("ten", None),
            ("1000000000000000000000000000000000", None),
        ] {
            assert_eq!(milli(&text.into()), expected, "{text}");
        }
        assert_eq!(milli(&serde_json::json!(2)), Some(2000));
        assert_eq!(milli(&Value::Null), None);
        let written = [0, 250, 1000, 1500, 2_000_000, -500, i64::MAX].map(text);
        let expected = [
            "0",
            "250m",
            "1",
            "1500m",
            "2k",
            "-500m",
            "9223372036854775807m",
        ];
        assert_eq!(written, expected);
    }
}
