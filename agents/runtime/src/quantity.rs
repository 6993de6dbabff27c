//! The suffixes of resource quantities (`500m`, `64Mi`).
//!
//! Who reads quantities differs in unit, rounding and bounds; what a suffix stands for is the same for all.

/// What a suffix multiplies by and divides by; `None` where it is none of those with a name, as an exponent is.
pub fn unit(suffix: &str) -> Option<(i128, i128)> {
    let decimal = |power: u32| 10_i128.pow(power);
    Some(match suffix {
        "n" => (1, decimal(9)),
        "u" => (1, decimal(6)),
        "m" => (1, decimal(3)),
        "" => (1, 1),
        "k" => (decimal(3), 1),
        "M" => (decimal(6), 1),
        "G" => (decimal(9), 1),
        "T" => (decimal(12), 1),
        "P" => (decimal(15), 1),
        "E" => (decimal(18), 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn suffixes_are_decimal_or_binary() {
        for (suffix, expected) in [
            ("", Some((1, 1))),
            ("n", Some((1, 1_000_000_000))),
            ("k", Some((1000, 1))),
            ("E", Some((1_000_000_000_000_000_000, 1))),
            ("Ei", Some((1_152_921_504_606_846_976, 1))),
            ("K", None),
            ("e3", None),
        ] {
            assert_eq!(unit(suffix), expected, "{suffix}");
        }
    }
}
