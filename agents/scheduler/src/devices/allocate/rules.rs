//! What holds between the devices of a claim, kept while devices are put and taken back, the last one first.

use crate::devices::claim::{Ask, Rule};
use crate::devices::slice::{Attribute, Device};

/// A rule and the values of the devices that it is about so far.
pub(super) struct RuleState<'a> {
    rule: &'a Rule,
    /// Whether all are to be the same, or no two.
    same: bool,
    values: Vec<&'a Attribute>,
}

impl<'a> RuleState<'a> {
    /// None for a rule of a kind that we do not know.
    pub(super) fn of(rule: &'a Rule) -> Option<RuleState<'a>> {
        Some(RuleState {
            rule,
            same: rule.same?,
            values: Vec::new(),
        })
    }

    fn is_about(&self, request: &str, ask: &Ask) -> bool {
        let named = |name: &String| *name == request || *name == ask.full_name;
        self.rule.requests.is_empty() || self.rule.requests.iter().any(named)
    }

    /// Whether the device may be one of them; then it is.
    pub(super) fn add(&mut self, request: &str, ask: &Ask, device: &'a Device) -> bool {
        if !self.is_about(request, ask) {
            return true;
        }
        let Some(value) = device.attribute(&self.rule.attribute) else {
            return false;
        };
        let fits = match (self.same, self.values.first()) {
            (_, None) => true,
            (true, Some(first)) => *value != Attribute::Unknown && *first == value,
            (false, Some(_)) => *value != Attribute::Unknown && !self.values.contains(&value),
        };
        if fits {
            self.values.push(value);
        }
        fits
    }

    /// The device that was added last is none of them any more.
    pub(super) fn remove(&mut self, request: &str, ask: &Ask) {
        if self.is_about(request, ask) {
            self.values.pop();
        }
    }
}
