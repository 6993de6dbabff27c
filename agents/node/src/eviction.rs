//! From when on a machine is short of memory or of disk: the hard thresholds of a kubelet, in the text of its
//! `--eviction-hard`.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::quantity;

/// Below which of each the node says that it is under pressure, and takes only pods that bear it. Kept free of pods:
/// `allocatable` is less by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvictionHard {
    pub(crate) memory_available: Threshold,
    pub(crate) nodefs_available: Threshold,
    pub(crate) nodefs_inodes_free: Threshold,
}

/// A part of what there is, or so much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threshold {
    Off,
    /// Bytes, or inodes.
    Amount(i64),
    /// Thousandths of a percent.
    Part(u32),
}

/// All of a percent's thousandths.
const WHOLE: u32 = 100_000;

impl Threshold {
    /// As an amount, of all that there is.
    pub(crate) fn of(self, all: i64) -> i64 {
        match self {
            Threshold::Off => 0,
            Threshold::Amount(amount) => amount,
            Threshold::Part(part) => {
                let amount = i128::from(all) * i128::from(part) / i128::from(WHOLE);
                i64::try_from(amount).unwrap_or(i64::MAX)
            }
        }
    }

    /// By Kubernetes neither no part nor the whole of something is a threshold; an amount that is more than can be is cut, and a
    /// percentage is a plain number.
    fn parse(text: &str) -> Option<Threshold> {
        let Some(percent) = text.strip_suffix('%') else {
            let amount = quantity::units(text)?;
            let cut = i64::try_from(amount).unwrap_or(i64::MAX);
            return (amount > 0).then_some(Threshold::Amount(cut));
        };
        if percent.ends_with(|last: char| last.is_ascii_alphabetic()) {
            return None;
        }
        let part = u32::try_from(quantity::milli(percent)?).ok()?;
        match part {
            0 | WHOLE => Some(Threshold::Off),
            _ => (part < WHOLE).then_some(Threshold::Part(part)),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Threshold::Off => f.write_str("0%"),
            Threshold::Amount(amount) if amount % (1 << 20) == 0 => {
                write!(f, "{}Mi", amount >> 20)
            }
            Threshold::Amount(amount) => write!(f, "{amount}"),
            Threshold::Part(part) if part % 1000 == 0 => write!(f, "{}%", part / 1000),
            Threshold::Part(part) => {
                let fraction = format!("{:03}", part % 1000);
                write!(f, "{}.{}%", part / 1000, fraction.trim_end_matches('0'))
            }
        }
    }
}

impl EvictionHard {
    /// Where nothing is ever short.
    pub const OFF: EvictionHard = EvictionHard {
        memory_available: Threshold::Off,
        nodefs_available: Threshold::Off,
        nodefs_inodes_free: Threshold::Off,
    };

    fn named(&mut self) -> [(&'static str, &mut Threshold); 3] {
        [
            ("memory.available", &mut self.memory_available),
            ("nodefs.available", &mut self.nodefs_available),
            ("nodefs.inodesFree", &mut self.nodefs_inodes_free),
        ]
    }

    /// The thresholds that are set, by signal, as a kubelet's configuration has them.
    pub(crate) fn told(mut self) -> Map<String, Value> {
        let set = self.named().into_iter();
        set.filter(|(_, threshold)| **threshold != Threshold::Off)
            .map(|(signal, threshold)| (signal.to_owned(), threshold.to_string().into()))
            .collect()
    }
}

/// `memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%`.
impl Default for EvictionHard {
    fn default() -> EvictionHard {
        EvictionHard {
            memory_available: Threshold::Amount(100 << 20),
            nodefs_available: Threshold::Part(5_000),
            nodefs_inodes_free: Threshold::Part(5_000),
        }
    }
}

impl fmt::Display for EvictionHard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = *self;
        for (number, (signal, threshold)) in all.named().into_iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{signal}<{threshold}")?;
        }
        Ok(())
    }
}

/// Of a kubelet's list: signals that it does not name have no threshold.
impl FromStr for EvictionHard {
    type Err = String;

    fn from_str(text: &str) -> Result<EvictionHard, String> {
        let mut read = EvictionHard::OFF;
        let mut seen = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (signal, value) = entry
                .split_once('<')
                .ok_or_else(|| format!("`{entry}` is not SIGNAL<QUANTITY or SIGNAL<PERCENT%"))?;
            let (signal, value) = (signal.trim(), value.trim());
            let mut named = read.named();
            let known = named.each_ref().map(|(signal, _)| *signal).join(", ");
            let of = named.iter_mut().find(|(name, _)| *name == signal);
            let (_, threshold) =
                of.ok_or_else(|| format!("there is no signal `{signal}`, only {known}"))?;
            if seen.contains(&signal) {
                return Err(format!("the signal `{signal}` is there twice"));
            }
            seen.push(signal);
            **threshold = Threshold::parse(value).ok_or_else(|| {
                format!("{signal}: `{value}` is neither a positive quantity nor a percentage from 0% to 100%")
            })?;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<EvictionHard, String> {
        text.parse()
    }

    #[test]
    fn thresholds_are_read_as_they_are_written() {
        let usual = "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%";
        assert_eq!(EvictionHard::default().to_string(), usual);
        assert_eq!(read(usual), Ok(EvictionHard::default()));
        assert_eq!(read(""), Ok(EvictionHard::OFF));
        let some = read(" nodefs.available<12.5% , memory.available < 1500,").unwrap();
        let expected = EvictionHard {
            memory_available: Threshold::Amount(1500),
            nodefs_available: Threshold::Part(12_500),
            ..EvictionHard::OFF
        };
        assert_eq!(some, expected);
        assert_eq!(read(&some.to_string()), Ok(some));
        let most = Threshold::Amount(i64::MAX);
        assert_eq!(Threshold::parse("100Ei"), Some(most));
        assert_eq!(Threshold::parse(&most.to_string()), Some(most));
        let told = Value::Object(some.told());
        let expected = serde_json::json!({"memory.available": "1500", "nodefs.available": "12.5%"});
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_no_threshold_is_told() {
        for (text, told) in [
            ("memory.available", "SIGNAL<QUANTITY"),
            ("memory.free<1", "no signal `memory.free`, only memory"),
            ("memory.available<1,memory.available<2", "is there twice"),
            ("memory.available<0", "neither a positive"),
            ("memory.available<-1", "neither a positive"),
            ("memory.available<much", "neither a positive"),
            ("nodefs.available<101%", "neither a positive"),
            ("nodefs.available<-1%", "neither a positive"),
            ("nodefs.available<%", "neither a positive"),
            ("nodefs.available<5k%", "neither a positive"),
            ("nodefs.available<500m%", "neither a positive"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn a_part_is_of_what_there_is() {
        assert_eq!(Threshold::Part(5_000).of(1_000), 50);
        assert_eq!(
            Threshold::Part(99_999).of(i64::MAX),
            9_223_279_803_134_407_259
        );
        assert_eq!(Threshold::Amount(7).of(1_000), 7);
        for whole in ["0%", "100%"] {
            assert_eq!(Threshold::parse(whole), Some(Threshold::Off));
        }
        assert_eq!(Threshold::Off.of(1_000), 0);
    }
}
