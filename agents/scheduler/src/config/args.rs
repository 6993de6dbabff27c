//! The arguments of plugins: what they are, what holds where a file says nothing, and what a file may say.

use super::fields::{Fields, Problems};
use super::texts::duration;
use crate::object::{DefaultSpread, SpreadConstraint, WEIGHT_MAX, preferred_terms, required_terms};
use crate::plugins::{dynamic_resources, pressure_aware};
use crate::selector::Labels;
use crate::selector::NodeSelectorTerm;
use agent_runtime::pressure::FIGURES;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The best score that a file can give; ours are ten times as fine.
const SCORE_MAX_IN_FILES: i64 = 10;

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

/// How the pressures on a node count, in the order of their figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PressureArgs {
    /// For pods that do not say themselves how much they mind.
    pub weights: [i64; 3],
    /// A node above that is refused.
    pub most: [Option<u8>; 3],
}

/// What the share of a namespace is divided by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareArgs {
    /// By namespace.
    weights: BTreeMap<String, u32>,
    /// A label of namespaces that has the weight of those that are not named.
    label: Option<String>,
}

/// What NodeResourcesFit looks at and how it scores.
#[derive(Debug, Clone, PartialEq)]
pub struct FitArgs {
    /// Extended resources that others care for.
    pub ignored: BTreeSet<String>,
    /// All of a domain: what stands before the slash.
    pub ignored_groups: BTreeSet<String>,
    /// Resources that count for the score, with their weights.
    pub resources: Vec<(String, i64)>,
    /// How.
    pub strategy: Strategy,
}

/// How the use of a resource becomes a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strategy {
    /// Emptier is better.
    LeastAllocated,
    /// Fuller is better.
    MostAllocated,
    /// By a line through these points: percent in use, score.
    RequestedToCapacityRatio(Vec<(i64, i64)>),
}

/// Node affinity for every pod of a profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddedAffinity {
    /// Any of the terms; `None` when not given.
    pub required: Option<Vec<NodeSelectorTerm>>,
    /// With weights.
    pub preferred: Vec<(i64, NodeSelectorTerm)>,
}

/// How InterPodAffinity scores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffinityArgs {
    /// What a required affinity of a placed pod counts for.
    pub hard_weight: i64,
    /// Whether preferences of placed pods count for nothing if the newcomer has none.
    pub ignore_preferences_of_placed: bool,
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
        // The search is bounded in steps.
        fields.text("filterTimeout", problems);
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

    fn take_spread(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let mut constraints: Vec<SpreadConstraint> = Vec::new();
        for (path, item) in fields.list("defaultConstraints", problems) {
            if let Some(constraint) = take_constraint(item, &path, problems) {
                let same = |other: &SpreadConstraint| {
                    other.topology_key == constraint.topology_key && other.hard == constraint.hard
                };
                if constraints.iter().any(same) {
                    let when = match constraint.hard {
                        true => "DoNotSchedule",
                        false => "ScheduleAnyway",
                    };
                    problems.duplicate(&path, &format!("{{{}, {when}}}", constraint.topology_key));
                }
                constraints.push(constraint);
            }
        }
        let path = fields.path_of("defaultingType");
        let by = fields.text("defaultingType", problems).unwrap_or("System");
        match by {
            "List" => self.spread = DefaultSpread::List(constraints),
            "System" if constraints.is_empty() => self.spread = DefaultSpread::System,
            "System" => problems.invalid(
                &path,
                "\"System\"",
                "when .defaultConstraints are not empty",
            ),
            other => problems.unsupported(&path, other, &["System", "List"]),
        }
    }
}

/// A constraint that says everything but whom it counts.
fn take_constraint(item: &Value, path: &str, problems: &mut Problems) -> Option<SpreadConstraint> {
    let mut fields = Fields::of(Some(item), path, problems);
    let max_skew = fields.number("maxSkew", problems).unwrap_or(0);
    if max_skew <= 0 {
        let path = fields.path_of("maxSkew");
        problems.invalid(&path, &max_skew.to_string(), "not in valid range (0, inf)");
    }
    let key = fields.text("topologyKey", problems).unwrap_or_default();
    if key.is_empty() {
        problems.required(&fields.path_of("topologyKey"), "can not be empty");
    }
    let path = fields.path_of("whenUnsatisfiable");
    match fields
        .text("whenUnsatisfiable", problems)
        .unwrap_or_default()
    {
        "" => problems.required(&path, "can not be empty"),
        "DoNotSchedule" | "ScheduleAnyway" => {}
        other => problems.unsupported(&path, other, &["DoNotSchedule", "ScheduleAnyway"]),
    }
    if fields.value("labelSelector").is_some() {
        let why = "constraint must not define a selector, as they deduced for each pod";
        problems.forbidden(&fields.path_of("labelSelector"), why);
    }
    let known = [
        "minDomains",
        "nodeAffinityPolicy",
        "nodeTaintsPolicy",
        "matchLabelKeys",
    ];
    for field in known {
        fields.value(field);
    }
    fields.end(problems);
    item.is_object()
        .then(|| SpreadConstraint::without_selector(item))
}

impl FitArgs {
    fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        self.ignored = owned(&fields.texts("ignoredResources", problems));
        let groups = fields.texts("ignoredResourceGroups", problems);
        for (path, group) in &groups {
            if group.contains('/') {
                let why = "resource group name can't contain '/'";
                problems.invalid(path, &format!("{group:?}"), why);
            }
        }
        self.ignored_groups = owned(&groups);
        let mut strategy = fields.object("scoringStrategy", problems);
        if strategy.is_absent() {
            return;
        }
        let resources = take_resources(&mut strategy, problems);
        let path = strategy.path_of("resources");
        for (at, (name, weight)) in resources.iter().enumerate() {
            let words = format!("resource weight of {name} not in valid range (0, 100]");
            problems.in_range(&format!("{path}[{at}].weight"), *weight, 1..=100, &words);
        }
        if !resources.is_empty() {
            self.resources = resources;
        }
        let ratio_path = strategy.path_of("requestedToCapacityRatio");
        let mut ratio = strategy.object("requestedToCapacityRatio", problems);
        let ratio_given = !ratio.is_absent();
        let shape = take_shape(&mut ratio, problems);
        ratio.end(problems);
        let type_path = strategy.path_of("type");
        let by = strategy.text("type", problems).unwrap_or("LeastAllocated");
        self.strategy = match by {
            "LeastAllocated" => Strategy::LeastAllocated,
            "MostAllocated" => Strategy::MostAllocated,
            "RequestedToCapacityRatio" => Strategy::RequestedToCapacityRatio(shape),
            other => {
                let all = [
                    "LeastAllocated",
                    "MostAllocated",
                    "RequestedToCapacityRatio",
                ];
                problems.unsupported(&type_path, other, &all);
                Strategy::LeastAllocated
            }
        };
        let by_ratio = by == "RequestedToCapacityRatio";
        if by_ratio && !ratio_given {
            let why = "must be specified when type is RequestedToCapacityRatio";
            problems.required(&ratio_path, why);
        } else if !by_ratio && ratio_given {
            let why = "must be nil when type is not RequestedToCapacityRatio";
            problems.forbidden(&ratio_path, why);
        }
        strategy.end(problems);
    }

    /// Whether an extended resource is somebody else's business.
    pub fn ignores(&self, resource: &str) -> bool {
        let group = resource.split('/').next().unwrap_or_default();
        self.ignored.contains(resource) || self.ignored_groups.contains(group)
    }
}

fn owned(texts: &[(String, &str)]) -> BTreeSet<String> {
    texts.iter().map(|(_, text)| (*text).to_owned()).collect()
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

fn take_shape(fields: &mut Fields<'_>, problems: &mut Problems) -> Vec<(i64, i64)> {
    if fields.is_absent() {
        return Vec::new();
    }
    let path = fields.path_of("shape");
    let mut shape: Vec<(i64, i64)> = Vec::new();
    for (path, item) in fields.list("shape", problems) {
        let mut point = Fields::of(Some(item), &path, problems);
        let used = point.number("utilization", problems).unwrap_or(0);
        let score = point.number("score", problems).unwrap_or(0);
        let used_path = point.path_of("utilization");
        if shape.last().is_some_and(|(before, _)| *before >= used) {
            let why = "values must be sorted in increasing order";
            problems.invalid(&used_path, &used.to_string(), why);
        }
        problems.in_range(&used_path, used, 0..=100, "not in valid range [0, 100]");
        let score_path = point.path_of("score");
        let scores = 0..=SCORE_MAX_IN_FILES;
        problems.in_range(&score_path, score, scores, "not in valid range [0, 10]");
        let finer = crate::plugins::SCORE_MAX / SCORE_MAX_IN_FILES;
        shape.push((used, score.saturating_mul(finer)));
        point.end(problems);
    }
    if shape.is_empty() {
        problems.required(&path, "at least one point must be specified");
    }
    shape
}

impl AddedAffinity {
    fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
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

impl AffinityArgs {
    fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        if let Some(weight) = fields.number("hardPodAffinityWeight", problems) {
            let path = fields.path_of("hardPodAffinityWeight");
            problems.in_range(&path, weight, 0..=100, "not in valid range [0, 100]");
            self.hard_weight = weight;
        }
        let ignore = fields.flag("ignorePreferredTermsOfExistingPods", problems);
        self.ignore_preferences_of_placed = ignore.unwrap_or(false);
    }
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

impl PressureArgs {
    fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let resources = take_resources(fields, problems);
        let path = fields.path_of("resources");
        if !resources.is_empty() {
            self.weights = [0; 3];
        }
        for (at, (name, weight)) in resources.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let all = 1..=i64::from(WEIGHT_MAX);
            let words = "not in valid range [1, 100]";
            problems.in_range(&format!("{path}.weight"), *weight, all, words);
            match FIGURES.iter().position(|known| known == name) {
                None => problems.unsupported(&format!("{path}.name"), name, &FIGURES),
                Some(figure) if self.weights[figure] != 0 => {
                    problems.duplicate(&format!("{path}.name"), name);
                }
                Some(figure) => self.weights[figure] = *weight,
            }
        }
        let mut most = fields.object("maxPressure", problems);
        for (figure, name) in FIGURES.into_iter().enumerate() {
            let Some(percent) = most.number(name, problems) else {
                continue;
            };
            let words = "not in valid range [0, 100]";
            problems.in_range(&most.path_of(name), percent, 0..=100, words);
            self.most[figure] = u8::try_from(percent).ok();
        }
        most.end(problems);
    }
}

impl ShareArgs {
    const WEIGHT_MAX: u32 = 1_000_000;

    fn take(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
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
