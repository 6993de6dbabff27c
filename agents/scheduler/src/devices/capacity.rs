//! Capacity of devices that several allocations may share: what a request takes of it, and what they all have together.
//!
//! The rules are those of Kubernetes' DRAConsumableCapacity: what is asked for is rounded up to what the device gives, and
//! where nothing is asked for, the default is taken, or everything.

use super::slice::{Amounts, DeviceId};
use crate::quantity;
use crate::resources::{items, quantity_text};
use serde_json::Value;
use std::collections::BTreeMap;

/// A quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount {
    /// As it was given.
    pub text: String,
    /// In thousandths, rounded up.
    pub thousandths: i128,
}

impl Amount {
    /// From a quantity of an object.
    pub(crate) fn compile(value: &Value) -> Amount {
        let text = quantity_text(value);
        Amount {
            thousandths: quantity::thousandths(&text),
            text,
        }
    }

    fn at(object: &Value, field: &str) -> Option<Amount> {
        let value = object.get(field).filter(|value| !value.is_null());
        value.map(Amount::compile)
    }

    /// In the notation that Kubernetes gives what it has rounded: with binary suffixes.
    fn of(thousandths: i128) -> Amount {
        let mut text = format!("{thousandths}m");
        if thousandths % 1000 == 0 {
            let (mut whole, mut suffix) = (thousandths / 1000, "");
            for next in ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"] {
                if whole == 0 || whole % 1024 != 0 {
                    break;
                }
                (whole, suffix) = (whole / 1024, next);
            }
            text = format!("{whole}{suffix}");
        }
        Amount { text, thousandths }
    }
}

/// What a device has of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// So much.
    pub value: Amount,
    /// What may be taken of it; anything where absent.
    policy: Option<Policy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Policy {
    /// What is taken by who says nothing.
    default: Option<Amount>,
    valid: Valid,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Valid {
    Anything,
    /// One of these, in rising order.
    Values(Vec<Amount>),
    Range {
        min: Amount,
        max: Option<Amount>,
        /// In steps of so many thousandths from the least on; above zero.
        step: Option<i128>,
    },
}

impl Capacity {
    /// From an entry of a device's `capacity`.
    pub(super) fn compile(object: &Value) -> Option<Capacity> {
        let policy = object.get("requestPolicy").filter(|p| p.is_object());
        Some(Capacity {
            value: Amount::at(object, "value")?,
            policy: policy.map(Policy::compile),
        })
    }

    /// What a request takes; none where the device does not give that, however empty it is.
    fn taken_by(&self, asked: Option<&Amount>) -> Option<Amount> {
        let policy = self.policy.as_ref();
        let amount = match (asked, policy) {
            (None, policy) => {
                let default = policy.and_then(|policy| policy.default.as_ref());
                default.unwrap_or(&self.value).clone()
            }
            (Some(asked), None) => asked.clone(),
            (Some(asked), Some(policy)) => policy.valid.round_up(asked),
        };
        let is_valid = policy.is_none_or(|policy| policy.allows(&amount));
        let is_there = (0..=self.value.thousandths).contains(&amount.thousandths);
        (is_valid && is_there).then_some(amount)
    }
}

impl Policy {
    fn compile(object: &Value) -> Policy {
        let values: Vec<Amount> = items(object, "validValues").map(Amount::compile).collect();
        let range = object.get("validRange").filter(|range| range.is_object());
        let valid = match range {
            Some(range) => Valid::Range {
                min: Amount::at(range, "min").unwrap_or_else(|| Amount::of(0)),
                max: Amount::at(range, "max"),
                step: Amount::at(range, "step")
                    .map(|step| step.thousandths)
                    .filter(|step| *step > 0),
            },
            None if values.is_empty() => Valid::Anything,
            None => Valid::Values(values),
        };
        Policy {
            default: Amount::at(object, "default"),
            valid,
        }
    }

    fn allows(&self, amount: &Amount) -> bool {
        let is = |other: &Amount| other.thousandths == amount.thousandths;
        if self.default.as_ref().is_some_and(is) {
            return true;
        }
        match &self.valid {
            Valid::Anything => true,
            Valid::Values(values) => values.iter().any(is),
            Valid::Range { min, max, step } => {
                let most = max.as_ref().map(|max| max.thousandths);
                let from_min = amount.thousandths.saturating_sub(min.thousandths);
                most.is_none_or(|most| amount.thousandths <= most)
                    && step.is_none_or(|step| from_min % step == 0)
            }
        }
    }
}

impl Valid {
    /// The least that is given and is enough; what is too much stays as it is, and is refused.
    fn round_up(&self, asked: &Amount) -> Amount {
        match self {
            Valid::Anything => asked.clone(),
            Valid::Values(values) => {
                let mut values = values.iter();
                let enough = values.find(|value| value.thousandths >= asked.thousandths);
                enough.unwrap_or(asked).clone()
            }
            Valid::Range { min, .. } if asked.thousandths < min.thousandths => min.clone(),
            Valid::Range { step: None, .. } => asked.clone(),
            Valid::Range {
                min,
                step: Some(step),
                ..
            } => {
                let above = asked.thousandths.saturating_sub(min.thousandths);
                let steps = above.saturating_add(step - 1) / step;
                Amount::of(min.thousandths.saturating_add(steps.saturating_mul(*step)))
            }
        }
    }
}

/// The name of a capacity without the domain, where that is the driver's: names without one are the driver's.
fn short<'a>(name: &'a str, driver: &str) -> &'a str {
    match name.split_once('/') {
        Some((domain, own)) if domain == driver => own,
        _ => name,
    }
}

/// What a request takes of each capacity of a device, by the names that the device has for them. None where the device has
/// not all that is asked for, or does not give it so.
pub(super) fn taken<'a>(
    capacities: &'a BTreeMap<String, Capacity>,
    driver: &str,
    asked: &BTreeMap<String, Amount>,
) -> Option<BTreeMap<&'a str, Amount>> {
    let mut by_name: BTreeMap<&str, &Amount> = BTreeMap::new();
    for (name, amount) in asked {
        let known = by_name.entry(short(name, driver)).or_insert(amount);
        // Asked for by both of its names: the larger one is meant.
        if known.thousandths < amount.thousandths {
            *known = amount;
        }
    }
    let mut taken = BTreeMap::new();
    for (name, capacity) in capacities {
        let amount = capacity.taken_by(by_name.remove(short(name, driver)))?;
        taken.insert(name.as_str(), amount);
    }
    by_name.is_empty().then_some(taken)
}

/// What allocations have of the devices that they share.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shares {
    devices: BTreeMap<DeviceId, Share>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Share {
    /// How many there are.
    count: usize,
    /// What they have together, by names without the driver's domain.
    consumed: Amounts,
}

impl Shares {
    /// One more has a share of the device; `consumed` is by name, as results have it.
    pub fn add(&mut self, id: &DeviceId, consumed: &Amounts) {
        let share = self.devices.entry(id.clone()).or_default();
        share.count += 1;
        for (name, amount) in consumed {
            let name = short(name, &id.pool.driver).to_owned();
            let all = share.consumed.entry(name).or_default();
            *all = all.saturating_add(*amount);
        }
    }

    /// One that was added has it no longer.
    pub fn remove(&mut self, id: &DeviceId, consumed: &Amounts) {
        let Some(share) = self.devices.get_mut(id) else {
            return;
        };
        share.count -= 1;
        if share.count == 0 {
            self.devices.remove(id);
            return;
        }
        for (name, amount) in consumed {
            if let Some(all) = share.consumed.get_mut(short(name, &id.pool.driver)) {
                *all = all.saturating_sub(*amount);
            }
        }
    }

    /// Whether anybody has a share of the device.
    pub fn has(&self, id: &DeviceId) -> bool {
        self.devices.contains_key(id)
    }

    /// How much they have of a capacity, in thousandths.
    pub fn consumed(&self, id: &DeviceId, name: &str) -> i128 {
        let share = self.devices.get(id);
        let amount = share.and_then(|share| share.consumed.get(short(name, &id.pool.driver)));
        amount.copied().unwrap_or(0)
    }
}

/// The identity of a share, as a UUID of version 4 made of what chance has given.
pub(super) fn share_id(random: u128) -> String {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0x3 << 62;
    let bits = (random & !VERSION & !VARIANT) | (0x4_u128 << 76) | (0x2_u128 << 62);
    let hex = format!("{bits:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]);
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn consumed(capacity: Value, asked: Option<&str>) -> Option<String> {
        let capacity = Capacity::compile(&capacity).unwrap();
        let asked = asked.map(|text| Amount::compile(&json!(text)));
        capacity.taken_by(asked.as_ref()).map(|amount| amount.text)
    }

    #[test]
    fn what_is_asked_for_is_rounded_up_to_what_the_device_gives() {
        let of = |policy: Value, asked: Option<&str>| {
            let taken = consumed(json!({"value": "10Gi", "requestPolicy": policy}), asked);
            taken.unwrap_or_else(|| "refused".into())
        };
        let none = json!(null);
        let values = json!({"default": "2Gi", "validValues": ["1Gi", "2Gi", "4Gi"]});
        let range =
            json!({"default": "1Gi", "validRange": {"min": "1Gi", "max": "7Gi", "step": "2Gi"}});
        let open = json!({"validRange": {"min": "1Gi"}});
        for (policy, asked, expected) in [
            (&none, None, "10Gi"),
            (&none, Some("3Gi"), "3Gi"),
            (&none, Some("11Gi"), "refused"),
            (&values, None, "2Gi"),
            (&values, Some("1"), "1Gi"),
            (&values, Some("3Gi"), "4Gi"),
            (&values, Some("5Gi"), "refused"),
            (&range, None, "1Gi"),
            (&range, Some("1M"), "1Gi"),
            (&range, Some("1025Mi"), "3Gi"),
            (&range, Some("7Gi"), "7Gi"),
            (&range, Some("7169Mi"), "refused"),
            (&open, None, "10Gi"),
            (&open, Some("1Mi"), "1Gi"),
            (&open, Some("1500Mi"), "1500Mi"),
            (&open, Some("-1"), "1Gi"),
            (&none, Some("-1"), "refused"),
        ] {
            assert_eq!(of(policy.clone(), asked), expected, "{policy} {asked:?}");
        }
        let fractions =
            json!({"value": "2", "requestPolicy": {"validRange": {"min": "500m", "step": "250m"}}});
        assert_eq!(consumed(fractions, Some("0.6")), Some("750m".into()));
    }

    #[test]
    fn names_without_domain_are_the_drivers() {
        let capacity = |value: &str| Capacity::compile(&json!({"value": value})).unwrap();
        let has = BTreeMap::from([
            ("d/memory".to_owned(), capacity("8")),
            ("cores".to_owned(), capacity("4")),
        ]);
        let ask = |asked: &[(&str, &str)]| {
            let asked = asked.iter().map(|(name, text)| {
                let amount = Amount::compile(&json!(text));
                ((*name).to_owned(), amount)
            });
            let taken = taken(&has, "d", &asked.collect())?;
            let pair = |(name, amount): (&str, Amount)| format!("{name}={}", amount.text);
            Some(taken.into_iter().map(pair).collect::<Vec<_>>().join(" "))
        };
        let told = |text: &str| Some(text.to_owned());
        assert_eq!(ask(&[]), told("cores=4 d/memory=8"));
        assert_eq!(ask(&[("memory", "2")]), told("cores=4 d/memory=2"));
        assert_eq!(ask(&[("d/cores", "1")]), told("cores=1 d/memory=8"));
        let both = [("memory", "2"), ("d/memory", "3")];
        assert_eq!(ask(&both), told("cores=4 d/memory=3"));
        assert_eq!(ask(&[("e/memory", "2")]), None);
        assert_eq!(ask(&[("lanes", "1")]), None);
    }

    #[test]
    fn shares_are_summed_up_and_leave_nothing_behind() {
        let id = DeviceId::compile(&json!({"driver": "d", "pool": "p", "device": "x"}));
        let of = |name: &str, amount: i128| Amounts::from([(name.to_owned(), amount)]);
        let mut shares = Shares::default();
        shares.add(&id, &of("memory", 3));
        shares.add(&id, &of("d/memory", 4));
        assert!(shares.has(&id));
        assert_eq!(shares.consumed(&id, "d/memory"), 7);
        shares.remove(&id, &of("memory", 3));
        assert_eq!(shares.consumed(&id, "memory"), 4);
        shares.remove(&id, &of("d/memory", 4));
        assert_eq!(shares, Shares::default());
    }

    #[test]
    fn a_share_has_an_identity_in_the_form_of_a_uuid() {
        assert_eq!(share_id(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(share_id(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
