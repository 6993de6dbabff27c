//! A profile: which plugins work at which point, with what weight and arguments, for pods that ask for it by name.

use super::args::Args;
use super::fields::{Fields, Problems, below};
use super::take_percentage;
use crate::object::DEFAULT_SCHEDULER;
use crate::plugins::{
    FILTERS, Filter, GATES, Gate, SCORES, SORTS, Score, Sort, dynamic_resources, pressure_aware,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Everywhere where a plugin has something to do.
const EVERYWHERE: &str = "multiPoint";

/// The points of a file, in the order of a decision.
const POINTS: &[&str] = &[
    "preEnqueue",
    "queueSort",
    "preFilter",
    "filter",
    "postFilter",
    "preScore",
    "score",
    "reserve",
    "permit",
    "preBind",
    "bind",
    "postBind",
];

/// The plugins of the default profile in their order, with the points where they work. What is done before filters and
/// scores is part of them here, so that only their own points switch them.
const PLUGINS: &[(&str, &[&str])] = &[
    ("SchedulingGates", &["preEnqueue"]),
    ("PrioritySort", &["queueSort"]),
    ("NodeUnschedulable", &["filter"]),
    ("NodeName", &["filter"]),
    ("TaintToleration", &["filter", "preScore", "score"]),
    (
        "NodeAffinity",
        &["preFilter", "filter", "preScore", "score"],
    ),
    ("NodePorts", &["preFilter", "filter"]),
    (
        "NodeResourcesFit",
        &["preFilter", "filter", "preScore", "score"],
    ),
    ("VolumeRestrictions", &["preFilter", "filter"]),
    ("NodeVolumeLimits", &["preFilter", "filter"]),
    (
        "VolumeBinding",
        &[
            "preFilter",
            "filter",
            "preScore",
            "score",
            "reserve",
            "preBind",
        ],
    ),
    ("VolumeZone", &["preFilter", "filter"]),
    (
        "PodTopologySpread",
        &["preFilter", "filter", "preScore", "score"],
    ),
    (
        "InterPodAffinity",
        &["preFilter", "filter", "preScore", "score"],
    ),
    (
        dynamic_resources::NAME,
        &[
            "preEnqueue",
            "preFilter",
            "filter",
            "postFilter",
            "score",
            "reserve",
            "preBind",
        ],
    ),
    ("DefaultPreemption", &["preEnqueue", "postFilter"]),
    ("NodeResourcesBalancedAllocation", &["preScore", "score"]),
    ("ImageLocality", &["score"]),
    ("DefaultBinder", &["bind"]),
];

/// Those that work only where a file enables them, which Kubernetes does not have or does not have by default.
const OPTIONAL: &[(&str, &[&str])] = &[
    (GANG_SCHEDULING, &["preEnqueue", "permit"]),
    ("FairShare", &["queueSort"]),
    ("EarliestDeadline", &["queueSort"]),
    ("DataLocality", &["score"]),
    (pressure_aware::NAME, &["filter", "preScore", "score"]),
];

/// The plugin that places the pods of a group together: it works at both of its points or not at all.
pub(crate) const GANG_SCHEDULING: &str = "GangScheduling";

/// See the module head.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The `schedulerName` of its pods.
    pub scheduler_name: String,
    /// What keeps pods out of the queue.
    pub gates: Vec<&'static Gate>,
    /// Which pod is next.
    pub sort: &'static Sort,
    /// Whether groups of pods are placed together or not at all.
    pub gangs: bool,
    /// Filters in the order in which they are asked.
    pub filters: Vec<&'static Filter>,
    /// Scores with their weights.
    pub scores: Vec<(&'static Score, i64)>,
    /// Whether others may have to make room.
    pub preempts: bool,
    /// Whether volumes are bound before pods.
    pub binds_volumes: bool,
    /// Whether claims get their devices before pods are bound.
    pub allocates_devices: bool,
    /// Whether claims that nobody uses give their devices back for a pod that finds no node.
    pub deallocates: bool,
    /// How many of the nodes are looked at until enough are found; `None` for all of them, 0 for a share that shrinks
    /// as the cluster grows.
    pub percentage: Option<u8>,
    /// Of all plugins.
    pub args: Args,
}

impl Default for Profile {
    fn default() -> Profile {
        let plugins = Plugins::default();
        let mut problems = Problems::default();
        plugins.profile(DEFAULT_SCHEDULER, "", &mut problems)
    }
}

impl Profile {
    /// One without a name is the default scheduler's, if it is the only one.
    pub(super) fn take(item: &Value, path: &str, alone: bool, problems: &mut Problems) -> Profile {
        let mut fields = Fields::of(Some(item), path, problems);
        let name = fields.text("schedulerName", problems);
        let unnamed = if alone { DEFAULT_SCHEDULER } else { "" };
        let name = name.unwrap_or(unnamed).to_owned();
        if name.is_empty() {
            problems.required(&fields.path_of("schedulerName"), "");
        }
        let mut given = fields.object("plugins", problems);
        let plugins = Plugins::take(&mut given, problems);
        let mut profile = plugins.profile(&name, &given.path, problems);
        given.end(problems);
        profile.percentage = take_percentage(&mut fields, problems);
        let mut seen = BTreeSet::new();
        for (path, item) in fields.list("pluginConfig", problems) {
            let mut config = Fields::of(Some(item), &path, problems);
            let plugin = config.text("name", problems).unwrap_or_default();
            if !seen.insert(plugin) {
                problems.duplicate(&path, plugin);
            } else if works_at(plugin).is_none() {
                let why = format!("plugin {plugin:?} does not exist");
                problems.invalid(&config.path_of("name"), &format!("{plugin:?}"), &why);
            } else {
                let args = config.value("args");
                let path = config.path_of("args");
                profile.args.take(plugin, args, &path, problems);
            }
            config.value("args");
            config.end(problems);
        }
        fields.end(problems);
        profile
    }

    /// Whether it goes by the pressure on nodes.
    pub fn heeds_pressure(&self) -> bool {
        let name = pressure_aware::NAME;
        self.filters.iter().any(|filter| filter.name == name)
            || self.scores.iter().any(|(score, _)| score.name == name)
    }

    /// How many feasible nodes are enough among so many.
    pub fn enough(&self, nodes: usize) -> usize {
        const NODES_MIN: usize = 100;
        const PERCENT_MIN: usize = 5;
        let percent = match self.percentage {
            None | Some(100) => return nodes,
            Some(0) => 50_usize.saturating_sub(nodes / 125).max(PERCENT_MIN),
            Some(percent) => usize::from(percent),
        };
        match nodes < NODES_MIN {
            true => nodes,
            false => (nodes * percent / 100).max(NODES_MIN),
        }
    }
}

/// Where a plugin works, if there is such a plugin.
fn works_at(plugin: &str) -> Option<&'static [&'static str]> {
    let mut all = PLUGINS.iter().chain(OPTIONAL);
    let found = all.find(|(name, _)| *name == plugin);
    found.map(|(_, points)| *points)
}

/// A plugin that was asked for; weight 0 for none.
#[derive(Debug, Clone)]
struct Asked {
    name: String,
    weight: i64,
    path: String,
}

/// What is said about one point.
#[derive(Debug, Default)]
struct Set {
    enabled: Vec<Asked>,
    disabled: BTreeSet<String>,
}

impl Set {
    fn take(fields: &mut Fields<'_>, problems: &mut Problems) -> Set {
        let mut set = Set::default();
        for (path, item) in fields.list("enabled", problems) {
            let mut plugin = Fields::of(Some(item), &path, problems);
            let name = plugin.text("name", problems).unwrap_or_default().to_owned();
            let weight = plugin.number("weight", problems).unwrap_or(0);
            plugin.end(problems);
            if weight < 0 || weight > i64::from(i32::MAX) {
                let path = below(&path, "weight");
                problems.invalid(
                    &path,
                    &weight.to_string(),
                    "not in valid range [0, 2147483647]",
                );
            }
            if set.enabled.iter().any(|other| other.name == name) {
                problems.duplicate(&path, &name);
            } else {
                set.enabled.push(Asked { name, weight, path });
            }
        }
        for (path, item) in fields.list("disabled", problems) {
            let mut plugin = Fields::of(Some(item), &path, problems);
            let name = plugin.text("name", problems).unwrap_or_default();
            set.disabled.insert(name.to_owned());
            plugin.number("weight", problems);
            plugin.end(problems);
        }
        set
    }

    fn disables(&self, name: &str) -> bool {
        self.disabled.contains("*") || self.disabled.contains(name)
    }

    fn asked(&self, name: &str) -> Option<&Asked> {
        self.enabled.iter().find(|asked| asked.name == name)
    }
}

/// What is said about all points.
struct Plugins {
    everywhere: Vec<Asked>,
    points: Vec<(&'static str, Set)>,
}

impl Default for Plugins {
    fn default() -> Plugins {
        Plugins {
            everywhere: defaults(&Set::default()),
            points: Vec::new(),
        }
    }
}

/// The default plugins as changed by what is said about everywhere: those that are asked for again stand where they
/// stood, others behind.
fn defaults(set: &Set) -> Vec<Asked> {
    let names = PLUGINS.iter().map(|(name, _)| *name);
    let mut plugins: Vec<Asked> = names
        .filter(|name| !set.disables(name))
        .map(|name| match set.asked(name) {
            Some(asked) => asked.clone(),
            None => Asked {
                name: name.to_owned(),
                weight: 0,
                path: String::new(),
            },
        })
        .collect();
    for asked in &set.enabled {
        if !plugins.iter().any(|plugin| plugin.name == asked.name) {
            plugins.push(asked.clone());
        }
    }
    plugins
}

impl Plugins {
    fn take(fields: &mut Fields<'_>, problems: &mut Problems) -> Plugins {
        let mut set = |fields: &mut Fields<'_>, point: &'static str| {
            let mut inner = fields.object(point, problems);
            let set = Set::take(&mut inner, problems);
            inner.end(problems);
            set
        };
        let everywhere = set(fields, EVERYWHERE);
        let points: Vec<_> = POINTS
            .iter()
            .map(|point| (*point, set(fields, point)))
            .collect();
        Plugins {
            everywhere: defaults(&everywhere),
            points,
        }
    }

    /// The plugins of a point in their order: those weighed both there and everywhere, those from everywhere, those only
    /// from there.
    fn at(&self, point: &str) -> Vec<&Asked> {
        let set = self.points.iter().find(|(name, _)| *name == point);
        let set = set.map(|(_, set)| set);
        let enabled: &[Asked] = set.map_or(&[], |set| &set.enabled);
        let works = |asked: &&Asked| works_at(&asked.name).is_none_or(|at| at.contains(&point));
        let disabled = |asked: &Asked| set.is_some_and(|set| set.disables(&asked.name));
        let everywhere: Vec<&Asked> = self
            .everywhere
            .iter()
            .filter(|asked| works(asked) && !disabled(asked))
            .collect();
        let both = |asked: &&Asked| everywhere.iter().any(|other| other.name == asked.name);
        let (first, last): (Vec<&Asked>, Vec<&Asked>) = enabled.iter().partition(both);
        let middle = everywhere
            .iter()
            .filter(|asked| !enabled.iter().any(|other| other.name == asked.name))
            .copied();
        first.into_iter().chain(middle).chain(last).collect()
    }

    fn profile(&self, name: &str, path: &str, problems: &mut Problems) -> Profile {
        self.check(name, path, problems);
        let weight = |asked: &Asked, default: i64| {
            let everywhere = self.everywhere.iter().find(|e| e.name == asked.name);
            let given = [asked.weight, everywhere.map_or(0, |e| e.weight)];
            given.into_iter().find(|w| *w > 0).unwrap_or(default)
        };
        let has = |point: &str, name: &str| self.at(point).iter().any(|asked| asked.name == name);
        let gang = ["preEnqueue", "permit"].map(|point| has(point, GANG_SCHEDULING));
        if gang[0] != gang[1] {
            let why = "must be enabled both at preEnqueue and at permit";
            problems.invalid(path, &format!("{GANG_SCHEDULING:?}"), why);
        }
        let scores = self.at("score");
        Profile {
            scheduler_name: name.to_owned(),
            gates: named(GATES, &self.at("preEnqueue"), |gate| gate.name),
            sort: named(SORTS, &self.at("queueSort"), |sort| sort.name)
                .first()
                .copied()
                .unwrap_or(&SORTS[0]),
            gangs: gang == [true, true],
            filters: named(FILTERS, &self.at("filter"), |filter| filter.name),
            scores: scores
                .iter()
                .filter_map(|asked| {
                    let score = SCORES.iter().find(|score| score.name == asked.name)?;
                    Some((score, weight(asked, score.weight)))
                })
                .collect(),
            preempts: has("postFilter", "DefaultPreemption"),
            binds_volumes: has("reserve", "VolumeBinding") && has("preBind", "VolumeBinding"),
            allocates_devices: has("reserve", dynamic_resources::NAME)
                && has("preBind", dynamic_resources::NAME),
            deallocates: has("postFilter", dynamic_resources::NAME),
            percentage: None,
            args: Args::default(),
        }
    }

    /// That everything asked for exists and works where it is asked for.
    fn check(&self, name: &str, path: &str, problems: &mut Problems) {
        let unknown = |asked: &Asked, problems: &mut Problems| {
            let quoted = format!("{:?}", asked.name);
            let why = format!("plugin {quoted} does not exist");
            problems.invalid(&asked.path, &quoted, &why);
        };
        for asked in &self.everywhere {
            if works_at(&asked.name).is_none() {
                unknown(asked, problems);
            }
        }
        for (point, set) in &self.points {
            for asked in &set.enabled {
                match works_at(&asked.name) {
                    None => unknown(asked, problems),
                    Some(at) if !at.contains(point) => {
                        let quoted = format!("{:?}", asked.name);
                        let why = format!("plugin {quoted} does not extend {point} plugin");
                        problems.invalid(&asked.path, &quoted, &why);
                    }
                    Some(_) => {}
                }
            }
        }
        if self.at("bind").is_empty() {
            let words = "at least one bind plugin is needed";
            let why = format!("{words} for profile with scheduler name {name:?}");
            problems.invalid(&below(path, "bind"), &format!("{name:?}"), &why);
        }
        let sorts = self.at("queueSort").len();
        if sorts != 1 {
            let words = "only one queue sort plugin required";
            let why = format!("{words} for profile with scheduler name {name:?}, but got {sorts}");
            problems.invalid(&below(path, "queueSort"), &format!("{name:?}"), &why);
        }
    }
}

/// Those that were asked for, in that order.
fn named<T>(all: &'static [T], asked: &[&Asked], name: fn(&T) -> &'static str) -> Vec<&'static T> {
    let find = |asked: &&Asked| all.iter().find(|plugin| name(plugin) == asked.name);
    asked.iter().filter_map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_of_the_lists_can_be_named_in_a_file() {
        let listed = GATES.iter().map(|g| (g.name, "preEnqueue"));
        let listed = listed
            .chain(SORTS.iter().map(|s| (s.name, "queueSort")))
            .chain(FILTERS.iter().map(|f| (f.name, "filter")))
            .chain(SCORES.iter().map(|s| (s.name, "score")));
        for (name, point) in listed {
            assert!(
                works_at(name).is_some_and(|at| at.contains(&point)),
                "{name} {point}"
            );
        }
        let by_default = Profile::default();
        let optional = |name: &str| OPTIONAL.iter().any(|(other, _)| *other == name);
        let usual = |name: &&str| !optional(name);
        let filters = FILTERS.iter().map(|f| f.name).filter(usual).count();
        let scores = SCORES.iter().map(|s| s.name).filter(usual).count();
        assert_eq!(by_default.filters.len(), filters);
        assert_eq!(by_default.scores.len(), scores);
        assert!(by_default.preempts && by_default.binds_volumes);
        assert!(by_default.allocates_devices && by_default.deallocates);
        assert!(!by_default.gangs && by_default.sort.name == "PrioritySort");
    }

    #[test]
    fn enough_nodes_as_kubernetes_counts() {
        let of = |percentage, nodes| {
            let profile = Profile {
                percentage,
                ..Profile::default()
            };
            profile.enough(nodes)
        };
        assert_eq!(of(None, 5_000), 5_000);
        assert_eq!(of(Some(100), 5_000), 5_000);
        assert_eq!(of(Some(0), 5_000), 500);
        assert_eq!(of(Some(0), 50), 50);
        assert_eq!(of(Some(0), 1_000), 420);
        assert_eq!(of(Some(0), 20_000), 1_000);
        assert_eq!(of(Some(30), 200), 100);
        assert_eq!(of(Some(30), 1_000), 300);
    }
}
