//! Sizes of volumes: quantities in whole bytes.

use agent_runtime::quantity::unit;
use serde_json::Value;
use std::collections::BTreeMap;

/// The `storage` of capacities or requests in bytes, rounded up; 0 where there is none.
pub(super) fn storage(amounts: &BTreeMap<String, Value>) -> i128 {
    let bytes = match amounts.get("storage") {
        Some(Value::String(text)) => bytes(text),
        Some(Value::Number(number)) => bytes(&number.to_string()),
        _ => None,
    };
    bytes.unwrap_or(0)
}

/// None for what is no quantity; what is too large to be counted is none either.
fn bytes(text: &str) -> Option<i128> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // More digits behind the point than a quantity can have do not change its bytes.
    let fraction = &fraction[..fraction.len().min(12)];
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (times, over) = scale(suffix)?;
    let over = over.checked_mul(10i128.checked_pow(fraction.len().try_into().ok()?)?)?;
    let product = digits.checked_mul(times)?;
    let bytes = product / over + i128::from(product % over != 0);
    Some(if is_negative { -bytes } else { bytes })
}

/// What a suffix multiplies by and divides by.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    unit(suffix).or_else(|| {
        let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        let power = 10i128.checked_pow(exponent.unsigned_abs())?;
        Some(if exponent < 0 { (1, power) } else { (power, 1) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_bytes() {
        for (text, expected) in [
            ("1Gi", Some(1 << 30)),
            ("1.5Ki", Some(1536)),
            ("500m", Some(1)),
            ("2e3", Some(2000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("-1k", Some(-1000)),
            ("+7", Some(7)),
            (".5M", Some(500_000)),
            ("", None),
            ("Gi", None),
            ("1.2.3", None),
            ("1Qi", None),
            ("1e99", None),
            ("é", None),
            ("99999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        assert_eq!(storage(&[("storage".to_owned(), 5.into())].into()), 5);
        assert_eq!(storage(&BTreeMap::new()), 0);
    }
}
