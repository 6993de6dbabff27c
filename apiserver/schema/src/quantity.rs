//! Quantities: `100m`, `1.5Gi`, `2e3`. Amounts of cpu, memory and everything counted.
//!
//! The value is held in billionths as an `i128`, which covers what Kubernetes can say: up to 2^63-1
//! whole units, down to one nano; finer parts are rounded up and larger amounts are capped there.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use serde_json::Value;

const NANO: i128 = 1_000_000_000;
const NANOS_MAX: i128 = (i64::MAX as i128) * NANO;

/// How the quantity was written, which decides how it is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    #[default]
    DecimalSi,
}

/// An exact amount and the format that it is written in. Equality is of amounts: `1` = `1000m`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is not a quantity, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Number,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// A whole amount.
    pub fn from_units(units: i64, format: Format) -> Quantity {
        Quantity {
            nanos: i128::from(units) * NANO,
            format,
        }
    }

    /// An amount in thousandths.
    pub fn from_milli(milli: i64, format: Format) -> Quantity {
        Quantity {
            nanos: i128::from(milli) * 1_000_000,
            format,
        }
    }

    /// An amount in billionths, capped to what a quantity can hold.
    pub fn from_nanos(nanos: i128, format: Format) -> Quantity {
        Quantity {
            nanos: nanos.clamp(-NANOS_MAX, NANOS_MAX),
            format,
        }
    }

    /// Reads a text.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            None => return Err(QuantityError::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let number_len = rest
            .bytes()
            .take_while(|c| c.is_ascii_digit() || *c == b'.')
            .count();
        let (number, suffix) = rest.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if !suffix_is_well_formed(suffix) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        // What is wrong with the suffix is said first.
        let (base, exponent, format) = parse_suffix(suffix)?;
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Number);
        }
        let magnitude = scaled(whole, fraction, base, exponent);
        Ok(Quantity {
            nanos: if negative { -magnitude } else { magnitude },
            format,
        })
    }

    /// The quantity in a JSON field: a string, or a number as YAML writers leave it.
    pub fn from_json(value: &Value) -> Result<Quantity, QuantityError> {
        match value {
            Value::String(s) => Quantity::parse(s),
            Value::Number(n) => Quantity::parse(&n.to_string()),
            _ => Err(QuantityError::Format),
        }
    }

    /// Whole units, rounded up (away from zero for negative amounts, as Kubernetes does).
    pub fn value(self) -> i64 {
        self.scaled_up(NANO)
    }

    /// Thousandths, rounded up.
    pub fn milli_value(self) -> i64 {
        self.scaled_up(1_000_000)
    }

    /// Billionths, exact.
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    pub fn format(self) -> Format {
        self.format
    }

    pub fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(self) -> i32 {
        self.nanos.signum() as i32
    }

    fn scaled_up(self, unit: i128) -> i64 {
        let rounded = (self.nanos.abs() + unit - 1) / unit * self.nanos.signum();
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }

    fn with(self, nanos: i128, other: Quantity) -> Quantity {
        // As Kubernetes: an empty sum takes the format of what is added.
        let format = if self.nanos == 0 {
            other.format
        } else {
            self.format
        };
        Quantity::from_nanos(nanos, format)
    }
}

/// Whether a text is the canonical one of its quantity, as one of up to three digits is. Of others this says nothing.
pub(crate) fn is_short(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let is_known = || {
        matches!(
            suffix,
            "n" | "u" | "m" | "" | "k" | "M" | "G" | "T" | "P" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi"
        )
    };
    match number.as_bytes() {
        [b'0'] => suffix.is_empty(),
        // No power of a thousand, or of 1024, is left in it.
        [b'1'..=b'9', rest @ ..] => rest.len() < 3 && is_known(),
        _ => false,
    }
}

/// `[eEinumkKMGTP]*[-+]?[0-9]*`
fn suffix_is_well_formed(suffix: &str) -> bool {
    let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let signless = letters.strip_prefix(['-', '+']).unwrap_or(letters);
    signless.bytes().all(|c| c.is_ascii_digit())
}

/// Base, exponent and format of a suffix.
fn parse_suffix(suffix: &str) -> Result<(u32, i32, Format), QuantityError> {
    let si = |exponent| Ok((10, exponent, Format::DecimalSi));
    let binary = |exponent| Ok((2, exponent, Format::BinarySi));
    match suffix {
        "n" => si(-9),
        "u" => si(-6),
        "m" => si(-3),
        "" => si(0),
        "k" => si(3),
        "M" => si(6),
        "G" => si(9),
        "T" => si(12),
        "P" => si(15),
        "E" => si(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => match suffix.strip_prefix(['e', 'E']) {
            Some(digits) => {
                let exponent = digits.parse().map_err(|_| QuantityError::Suffix)?;
                Ok((10, exponent, Format::DecimalExponent))
            }
            None => Err(QuantityError::Suffix),
        },
    }
}

/// `whole.fraction * base^exponent` in nanos, rounded up and capped. The digits are taken one at a
/// time, so that a long text costs time linear in its length and no big numbers.
fn scaled(whole: &str, fraction: &str, base: u32, exponent: i32) -> i128 {
    let digits = whole
        .bytes()
        .chain(fraction.bytes())
        .map(|c| i128::from(c - b'0'));
    if base == 2 {
        let mut value: i128 = 0;
        for digit in whole.bytes().map(|c| i128::from(c - b'0')) {
            value = (value * 10 + digit).min(NANOS_MAX);
        }
        let unit = 1i128 << exponent;
        let mut nanos = value.saturating_mul(unit).saturating_mul(NANO);
        // The fraction as a ratio of at most 18 digits; what is beyond only rounds up.
        let (mut numerator, mut denominator, mut rest) = (0i128, 1i128, false);
        for (i, digit) in fraction.bytes().map(|c| i128::from(c - b'0')).enumerate() {
            if i < 10 {
                numerator = numerator * 10 + digit;
                denominator *= 10;
            } else {
                rest |= digit != 0;
            }
        }
        let scaled = numerator.saturating_mul(unit).saturating_mul(NANO);
        let up = scaled % denominator != 0 || rest;
        nanos = nanos.saturating_add(scaled / denominator + i128::from(up));
        return nanos.min(NANOS_MAX);
    }
    // The place of the last digit, in powers of ten of a nano.
    let place = i64::from(exponent) + 9 - fraction.len() as i64;
    let count = (whole.len() + fraction.len()) as i64;
    let mut nanos: i128 = 0;
    let mut rest = false;
    for (i, digit) in digits.enumerate() {
        let digit_place = place + (count - 1 - i as i64);
        if digit_place >= 0 {
            nanos = (nanos * 10 + digit).min(NANOS_MAX);
        } else {
            rest |= digit != 0;
        }
    }
    for _ in 0..place.max(0) {
        if nanos == 0 || nanos == NANOS_MAX {
            break;
        }
        nanos = (nanos * 10).min(NANOS_MAX);
    }
    (nanos + i128::from(rest)).min(NANOS_MAX)
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        Quantity::parse(text)
    }
}

impl fmt::Display for Quantity {
    /// The canonical text: no fraction, the largest suffix that needs none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let is_whole = self.nanos % NANO == 0;
        let units = self.nanos / NANO;
        if self.format == Format::BinarySi && is_whole && units.abs() >= 1024 {
            let mut amount = units;
            let mut steps = 0;
            while amount % 1024 == 0 && steps < 6 {
                amount /= 1024;
                steps += 1;
            }
            return write!(
                f,
                "{amount}{}",
                ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][steps]
            );
        }
        let mut amount = self.nanos;
        let mut steps = 0;
        while amount % 1000 == 0 && steps < 9 {
            amount /= 1000;
            steps += 1;
        }
        match (self.format, steps) {
            (Format::DecimalExponent, 3) => write!(f, "{amount}"),
            (Format::DecimalExponent, _) => write!(f, "{amount}e{}", steps as i32 * 3 - 9),
            _ => {
                let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][steps];
                write!(f, "{amount}{suffix}")
            }
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Add for Quantity {
    type Output = Quantity;
    fn add(self, other: Quantity) -> Quantity {
        self.with(self.nanos + other.nanos, other)
    }
}

impl Sub for Quantity {
    type Output = Quantity;
    fn sub(self, other: Quantity) -> Quantity {
        self.with(self.nanos - other.nanos, other)
    }
}

impl Neg for Quantity {
    type Output = Quantity;
    fn neg(self) -> Quantity {
        Quantity {
            nanos: -self.nanos,
            ..self
        }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_texts() {
        let cases = [
            ("0", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1000m", "1"),
            ("1000", "1k"),
            ("1500", "1500"),
            ("+1.5k", "1500"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1536Ki", "1536Ki"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1Gi", "1Gi"),
            ("1023Ki", "1023Ki"),
            ("0.1Ki", "102400m"),
            ("12e6", "12e6"),
            ("12E6", "12e6"),
            ("1e3", "1e3"),
            ("100e-3", "100e-3"),
            ("1e0", "1"),
            ("1E", "1E"),
            ("1u", "1u"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("-1Ki", "-1Ki"),
            ("9223372036854775807", "9223372036854775807"),
            ("100E", "9223372036854775807"),
            ("1e1000", "9223372036854775807"),
            ("0e1000", "0"),
            ("1e-1000", "1e-9"),
            ("00001", "1"),
            ("16777216Ki", "16Gi"),
        ];
        for (text, canonical) in cases {
            let q = Quantity::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(q.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn refuses() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("5é", QuantityError::Format),
            ("-", QuantityError::Number),
            ("Gi", QuantityError::Number),
            ("nm", QuantityError::Suffix),
            ("1ki", QuantityError::Suffix),
            ("1K", QuantityError::Suffix),
            ("1ee3", QuantityError::Suffix),
            ("1e99999999999", QuantityError::Suffix),
            ("1Gi5", QuantityError::Suffix),
        ] {
            assert_eq!(Quantity::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn arithmetic_and_rounding() {
        let q = |t: &str| Quantity::parse(t).unwrap();
        assert_eq!(q("1.1").value(), 2);
        assert_eq!(q("-1.1").value(), -2);
        assert_eq!(q("100m").milli_value(), 100);
        assert_eq!(q("1u").milli_value(), 1);
        assert_eq!((q("1Gi") + q("1Gi")).to_string(), "2Gi");
        assert_eq!((Quantity::ZERO + q("1Mi")).to_string(), "1Mi");
        assert_eq!((q("1") - q("100m")).to_string(), "900m");
        assert_eq!(q("100E") + q("100E"), q("100E"));
        assert_eq!(Quantity::from_json(&Value::from(2)).unwrap(), q("2"));
        assert_eq!(Quantity::from_json(&Value::from(0.5)).unwrap(), q("500m"));
        assert!(Quantity::from_json(&Value::Null).is_err());
    }

    #[test]
    fn short_texts_are_canonical() {
        let suffixes = [
            "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
            "e3", "K", "x", ".5", "i",
        ];
        let mut short = 0;
        for number in 0..1100 {
            for suffix in suffixes {
                for padding in ["", "0", "+", "-"] {
                    let text = format!("{padding}{number}{suffix}");
                    let canonical = Quantity::parse(&text).map(|quantity| quantity.to_string());
                    if is_short(&text) {
                        assert_eq!(canonical, Ok(text));
                        short += 1;
                    }
                }
            }
        }
        assert_eq!(short, 1 + 999 * 14);
        assert!(!is_short(""));
    }

    proptest! {
        #[test]
        fn what_is_short_is_canonical(text in "[0-9]{0,4}[eEinumkKMGTP]{0,2}|\\PC{0,6}") {
            if is_short(&text) {
                prop_assert_eq!(Quantity::parse(&text).unwrap().to_string(), text);
            }
        }

        #[test]
        fn never_panics_and_canonical_is_a_fixed_point(text in "[-+]?[0-9.]{0,30}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,4}") {
            if let Ok(q) = Quantity::parse(&text) {
                let canonical = q.to_string();
                let again = Quantity::parse(&canonical).unwrap();
                prop_assert_eq!(again, q);
                prop_assert_eq!(again.to_string(), canonical);
            }
        }
    }
}
