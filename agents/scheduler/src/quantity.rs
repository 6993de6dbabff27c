//! Resource quantities (`100m`, `1.5Gi`, `2e3`) as whole numbers.
//!
//! The scheduler compares cpu in thousandths and everything else in whole units, both rounded up, as Kubernetes
//! does. A quantity that does not parse counts as zero: the API server has validated it, and a wrong object must not
//! stop the scheduling of others.

use agent_runtime::quantity::unit;

/// The quantity in thousandths, rounded up: `100m` is 100, `2` is 2000.
pub fn milli_value(text: &str) -> i64 {
    scaled(text, 1000)
}

/// The quantity in whole units, rounded up: `1Ki` is 1024, `100m` is 1.
pub fn value(text: &str) -> i64 {
    scaled(text, 1)
}

/// The quantity in thousandths, rounded up, for amounts beyond those of `i64`.
pub fn thousandths(text: &str) -> i128 {
    parse(text, 1000).unwrap_or(0)
}

/// Quantity times `scale`, rounded away from zero, saturating.
fn scaled(text: &str, scale: i128) -> i64 {
    parse(text, scale).map_or(0, |number| {
        number.clamp(i64::MIN as i128, i64::MAX as i128) as i64
    })
}

fn parse(text: &str, scale: i128) -> Option<i128> {
    let text = text.trim();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (numerator, denominator) = multiplier(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let fraction_digits = fraction.len().min(18);
    let mut mantissa: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes().take(fraction_digits)) {
        mantissa = mantissa
            .checked_mul(10)?
            .checked_add(i128::from(digit - b'0'))?;
    }
    let up = mantissa.checked_mul(numerator)?.checked_mul(scale)?;
    let down = denominator.checked_mul(10i128.checked_pow(fraction_digits as u32)?)?;
    let magnitude = up.checked_add(down - 1)? / down;
    Some(if negative { -magnitude } else { magnitude })
}

/// What the suffix multiplies by, as a fraction.
fn multiplier(suffix: &str) -> Option<(i128, i128)> {
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
    fn quantities_round_up_to_the_unit_asked_for() {
        let milli = [
            ("100m", 100),
            ("2", 2000),
            ("0.5", 500),
            ("1.5k", 1_500_000),
            ("1n", 1),
            ("-1", -1000),
        ];
        for (text, expected) in milli {
            assert_eq!(milli_value(text), expected, "{text}");
        }
        let whole = [
            ("1Ki", 1024),
            ("1.5Gi", 1_610_612_736),
            ("100m", 1),
            ("2e3", 2000),
            ("5E-1", 1),
            ("1E", 1_000_000_000_000_000_000),
        ];
        for (text, expected) in whole {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn nonsense_counts_as_zero_and_huge_numbers_saturate() {
        for text in ["", "x", "1.2.3", "1Qi", "1e99", "."] {
            assert_eq!(value(text), 0, "{text}");
        }
        assert_eq!(value("100E"), i64::MAX);
    }
}
