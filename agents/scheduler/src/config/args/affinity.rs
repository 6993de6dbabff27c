//! `NodeAffinityArgs` and `InterPodAffinityArgs`.

use crate::config::fields::{Fields, Problems};
use crate::object::{preferred_terms, required_terms};
use crate::selector::NodeSelectorTerm;

/// Node affinity for every pod of a profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddedAffinity {
    /// Any of the terms; `None` when not given.
    pub required: Option<Vec<NodeSelectorTerm>>,
    /// With weights.
    pub preferred: Vec<(i64, NodeSelectorTerm)>,
}

impl AddedAffinity {
    pub(super) fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let path = fields.path_of("addedAffinity");
        let Some(affinity) = fields.value("addedAffinity") else {
            return;
        };
        self.required = required_terms(affinity);
        self.preferred = preferred_terms(affinity);
        let mut inner = Fields::of(Some(affinity), &path, problems);
        let required_path = inner.path_of("requiredDuringSchedulingIgnoredDuringExecution");
        let required = inner.value("requiredDuringSchedulingIgnoredDuringExecution");
        let terms = required.map(|r| crate::resources::items(r, "nodeSelectorTerms").count());
        // A term that does not parse would match no node, and nobody would know why.
        let understood = self.required.as_ref().map(Vec::len);
        if terms != understood || terms == Some(0) {
            let path = format!("{required_path}.nodeSelectorTerms");
            problems.required(
                &path,
                "must have at least one node selector term, each of them valid",
            );
        }
        let preferred = inner.list("preferredDuringSchedulingIgnoredDuringExecution", problems);
        if preferred.len() != self.preferred.len() {
            let path = inner.path_of("preferredDuringSchedulingIgnoredDuringExecution");
            problems.required(&path, "each must have a valid preference");
        }
        inner.end(problems);
    }
}

/// How InterPodAffinity scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffinityArgs {
    /// What a required affinity of a placed pod counts for.
    pub hard_weight: i64,
    /// Whether preferences of placed pods count for nothing if the newcomer has none.
    pub ignore_preferences_of_placed: bool,
}

impl AffinityArgs {
    pub(super) fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        if let Some(weight) = fields.number("hardPodAffinityWeight", problems) {
            let path = fields.path_of("hardPodAffinityWeight");
            problems.in_range(&path, weight, 0..=100, "not in valid range [0, 100]");
            self.hard_weight = weight;
        }
        let ignore = fields.flag("ignorePreferredTermsOfExistingPods", problems);
        self.ignore_preferences_of_placed = ignore.unwrap_or(false);
    }
}
