//! `FairShareArgs`.

use crate::config::fields::{Fields, Problems};
use crate::selector::Labels;
use std::collections::BTreeMap;

/// What the share of a namespace is divided by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareArgs {
    /// By namespace.
    weights: BTreeMap<String, u32>,
    /// A label of namespaces that has the weight of those that are not named.
    label: Option<String>,
}

impl ShareArgs {
    const WEIGHT_MAX: u32 = 1_000_000;

    pub(super) fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        for (path, item) in fields.list("weights", problems) {
            let mut entry = Fields::of(Some(item), &path, problems);
            let namespace = entry.text("namespace", problems).unwrap_or_default();
            let weight = entry.number("weight", problems).unwrap_or(1);
            let (namespace_path, weight_path) =
                (entry.path_of("namespace"), entry.path_of("weight"));
            entry.end(problems);
            let all = 1..=i64::from(Self::WEIGHT_MAX);
            problems.in_range(&weight_path, weight, all, "not in valid range [1, 1000000]");
            let weight = u32::try_from(weight).unwrap_or(1);
            if namespace.is_empty() {
                problems.required(&namespace_path, "");
            } else if self.weights.insert(namespace.to_owned(), weight).is_some() {
                problems.duplicate(&namespace_path, namespace);
            }
        }
        self.label = fields.text("weightLabel", problems).map(str::to_owned);
    }

    /// The weight of a namespace: the one that is given, that of its label, or 1. A label that is no such number is as
    /// good as none.
    pub fn weight(&self, namespace: &str, labels: Option<&Labels>) -> u32 {
        let labelled = || {
            let value = labels?.get(self.label.as_ref()?)?;
            let weight = value.parse().ok()?;
            (1..=Self::WEIGHT_MAX).contains(&weight).then_some(weight)
        };
        let given = self.weights.get(namespace).copied();
        given.or_else(labelled).unwrap_or(1)
    }
}
