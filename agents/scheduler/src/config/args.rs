//! The arguments of plugins: what they are, what holds where a file says nothing, and what a file may say.

mod affinity;
mod fit;
mod pressure;
mod shares;
mod spread;

pub use affinity::{AddedAffinity, AffinityArgs};
pub use fit::{FitArgs, Strategy};
pub use pressure::PressureArgs;
pub use shares::ShareArgs;

use super::fields::{Fields, Problems};
use super::texts::duration;
use crate::object::DefaultSpread;
use crate::plugins::{dynamic_resources, pressure_aware};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// The arguments of all plugins of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Args {
    /// `NodeResourcesFitArgs`.
    pub fit: FitArgs,
    /// `NodeResourcesBalancedAllocationArgs`: the resources to be balanced.
    pub balanced: Vec<String>,
    /// `NodeAffinityArgs`: what holds for every pod of the profile besides its own affinity.
    pub added_affinity: AddedAffinity,
    /// `PodTopologySpreadArgs`: for pods without constraints of their own.
    pub spread: DefaultSpread,
    /// `InterPodAffinityArgs`.
    pub affinity: AffinityArgs,
    /// `VolumeBindingArgs`: how long claims may take to get their volumes.
    pub volumes_timeout: Duration,
    /// `DynamicResourcesArgs`: how long drivers may take to make devices ready.
    pub devices_timeout: Duration,
    /// `DefaultPreemptionArgs`.
    pub preemption: PreemptionArgs,
    /// `FairShareArgs`.
    pub shares: Arc<ShareArgs>,
    /// `PressureAwareArgs`.
    pub pressure: PressureArgs,
}

/// How many nodes preemption tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreemptionArgs {
    /// This share of the nodes that come into question,
    pub percent: usize,
    /// and at least so many.
    pub at_least: usize,
}

impl Default for Args {
    fn default() -> Args {
        let usual = ["cpu", "memory"].map(String::from);
        Args {
            fit: FitArgs {
                ignored: BTreeSet::new(),
                ignored_groups: BTreeSet::new(),
                resources: usual.iter().map(|name| (name.clone(), 1)).collect(),
                strategy: Strategy::LeastAllocated,
            },
            balanced: usual.to_vec(),
            added_affinity: AddedAffinity::default(),
            spread: DefaultSpread::System,
            affinity: AffinityArgs {
                hard_weight: 1,
                ignore_preferences_of_placed: false,
            },
            volumes_timeout: Duration::from_secs(600),
            devices_timeout: Duration::from_secs(600),
            preemption: PreemptionArgs {
                percent: 10,
                at_least: 100,
            },
            shares: Arc::default(),
            pressure: PressureArgs {
                weights: [1; 3],
                most: [None; 3],
            },
        }
    }
}

impl Args {
    /// Takes the `args` of a plugin. Plugins without arguments take none.
    pub(super) fn take(
        &mut self,
        plugin: &str,
        value: Option<&Value>,
        path: &str,
        problems: &mut Problems,
    ) {
        let mut fields = Fields::of(value, path, problems);
        let kind = fields.text("kind", problems).unwrap_or_default();
        let wanted = format!("{plugin}Args");
        if !kind.is_empty() && kind != wanted {
            problems.unsupported(&fields.path_of("kind"), kind, &[&wanted]);
        }
        let version = fields
            .text("apiVersion", problems)
            .unwrap_or(super::VERSION);
        if version != super::VERSION {
            problems.unsupported(&fields.path_of("apiVersion"), version, &[super::VERSION]);
        }
        match plugin {
            "NodeResourcesFit" => self.fit.take(&mut fields, problems),
            "NodeResourcesBalancedAllocation" => self.take_balanced(&mut fields, problems),
            "NodeAffinity" => self.added_affinity.take(&mut fields, problems),
            "PodTopologySpread" => self.take_spread(&mut fields, problems),
            "InterPodAffinity" => self.affinity.take(&mut fields, problems),
            "VolumeBinding" => self.take_volume_binding(&mut fields, problems),
            "DefaultPreemption" => self.preemption.take(&mut fields, problems),
            "FairShare" => Arc::make_mut(&mut self.shares).take(&mut fields, problems),
            pressure_aware::NAME => self.pressure.take(&mut fields, problems),
            dynamic_resources::NAME => self.take_dynamic_resources(&mut fields, problems),
            _ => {}
        }
        fields.end(problems);
    }

    fn take_balanced(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let resources = take_resources(fields, problems);
        let path = fields.path_of("resources");
        let mut seen = BTreeSet::new();
        for (at, (name, weight)) in resources.iter().enumerate() {
            if !seen.insert(name) {
                problems.duplicate(&format!("{path}[{at}].name"), name);
            }
            if *weight != 1 {
                let path = format!("{path}[{at}].weight");
                problems.invalid(&path, &weight.to_string(), "must be 1");
            }
        }
        if !resources.is_empty() {
            self.balanced = resources.into_iter().map(|(name, _)| name).collect();
        }
    }

    fn take_volume_binding(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        if let Some(seconds) = fields.number("bindTimeoutSeconds", problems) {
            match u64::try_from(seconds) {
                Ok(seconds) => self.volumes_timeout = Duration::from_secs(seconds),
                Err(_) => problems.invalid(
                    &fields.path_of("bindTimeoutSeconds"),
                    &seconds.to_string(),
                    "invalid BindTimeoutSeconds, should not be a negative value",
                ),
            }
        }
        if let Some(shape) = fields.value("shape") {
            let words = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring";
            problems.invalid(&fields.path_of("shape"), &shape.to_string(), words);
        }
    }

    fn take_dynamic_resources(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        // Checked only: the search is bounded in steps.
        if let Some(text) = fields.text("filterTimeout", problems)
            && duration(text).is_none()
        {
            let path = fields.path_of("filterTimeout");
            problems.invalid(&path, &format!("{text:?}"), "must be zero or positive");
        }
        let Some(text) = fields.text("bindingTimeout", problems) else {
            return;
        };
        match duration(text).filter(|timeout| *timeout >= Duration::from_secs(1)) {
            Some(timeout) => self.devices_timeout = timeout,
            None => {
                let path = fields.path_of("bindingTimeout");
                problems.invalid(&path, &format!("{text:?}"), "must be at least 1 second");
            }
        }
    }
}

/// `resources`: names with weights.
fn take_resources(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<(String, i64)> {
    let mut resources = Vec::new();
    for (path, item) in fields.list("resources", problems) {
        let mut resource = Fields::of(Some(item), &path, problems);
        let name = resource.text("name", problems).unwrap_or_default();
        // 0 is as good as absent, as in Kubernetes.
        let weight = resource.number("weight", problems).filter(|w| *w != 0);
        resources.push((name.to_owned(), weight.unwrap_or(1)));
        resource.end(problems);
    }
    resources
}

impl PreemptionArgs {
    fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let (percent_path, least_path) = (
            fields.path_of("minCandidateNodesPercentage"),
            fields.path_of("minCandidateNodesAbsolute"),
        );
        if let Some(percent) = fields.number("minCandidateNodesPercentage", problems) {
            problems.in_range(
                &percent_path,
                percent,
                0..=100,
                "not in valid range [0, 100]",
            );
            self.percent = usize::try_from(percent).unwrap_or(0);
        }
        if let Some(least) = fields.number("minCandidateNodesAbsolute", problems) {
            let most = i64::from(i32::MAX);
            problems.in_range(&least_path, least, 0..=most, "not in valid range [0, inf)");
            self.at_least = usize::try_from(least).unwrap_or(0);
        }
        if (self.percent, self.at_least) == (0, 0) {
            let zero = |other: &str| format!("cannot be zero at the same time as {other}");
            problems.invalid(&percent_path, "0", &zero("minCandidateNodesAbsolute"));
            problems.invalid(&least_path, "0", &zero("minCandidateNodesPercentage"));
        }
    }
}
