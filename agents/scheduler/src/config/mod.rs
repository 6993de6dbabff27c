//! How the scheduler is configured: profiles, each with a name that pods ask for, its plugins and their arguments.
//!
//! The file is Kubernetes' `KubeSchedulerConfiguration`, read strictly: a field that is unknown, or a value that cannot
//! be, is an error that names its path, and nothing starts.

pub mod args;
pub mod extenders;
mod fields;
mod profile;
mod texts;

pub use extenders::Extender;
pub(crate) use profile::GANG_SCHEDULING;
pub use profile::Profile;

use crate::object::{DEFAULT_SCHEDULER, Pod};
use crate::plugins::Sort;
use crate::snapshot::Millis;
use fields::{Fields, Problems};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The one version of files.
const VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";
/// Fields of parts that do not exist here, since they are about being a process of its own.
const ELECTION: &[&str] = &[
    "leaderElect",
    "leaseDuration",
    "renewDeadline",
    "retryPeriod",
    "resourceLock",
    "resourceName",
    "resourceNamespace",
];
const CONNECTION: &[&str] = &[
    "kubeconfig",
    "acceptContentTypes",
    "contentType",
    "qps",
    "burst",
];

/// See the module head.
#[derive(Debug, Clone)]
pub struct Config {
    profiles: BTreeMap<String, Arc<Profile>>,
    /// Which pod is next: the same for all profiles.
    pub sort: &'static Sort,
    /// Backoff after the first attempt; doubles with each.
    pub backoff_first: Millis,
    /// Backoff never exceeds this.
    pub backoff_max: Millis,
    /// Servers that have a say in decisions, in the order in which they are asked.
    pub extenders: Vec<Extender>,
}

impl Default for Config {
    fn default() -> Config {
        let profile = Profile::default();
        Config {
            sort: profile.sort,
            profiles: BTreeMap::from([(DEFAULT_SCHEDULER.to_owned(), Arc::new(profile))]),
            backoff_first: 1_000,
            backoff_max: 10_000,
            extenders: Vec::new(),
        }
    }
}

impl Config {
    /// From the text of a file, YAML or JSON; an empty one is the default.
    pub fn parse(text: &str) -> Result<Config, String> {
        if text.trim().is_empty() {
            return Ok(Config::default());
        }
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let value: Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| format!("not YAML: {error}"))?;
        let mut problems = Problems::default();
        let config = Config::take(&value, &mut problems);
        match problems.text() {
            Some(text) => Err(text),
            None => Ok(config),
        }
    }

    fn take(value: &Value, problems: &mut Problems) -> Config {
        let mut config = Config::default();
        let mut fields = Fields::of(Some(value), "", problems);
        for (field, wanted) in [("apiVersion", VERSION), ("kind", KIND)] {
            let found = fields.text(field, problems).unwrap_or_default();
            if found != wanted {
                problems.unsupported(field, found, &[wanted]);
            }
        }
        config.take_backoff(&mut fields, problems);
        let percentage = take_percentage(&mut fields, problems);
        let profiles = fields.list("profiles", problems);
        if !profiles.is_empty() {
            config.profiles.clear();
        }
        let alone = profiles.len() == 1;
        let mut first: Option<Profile> = None;
        for (path, item) in profiles {
            let profile = Profile::take(item, &path, alone, problems);
            config.sort = profile.sort;
            same_sort(
                first.get_or_insert_with(|| profile.clone()),
                &profile,
                &path,
                problems,
            );
            let name = profile.scheduler_name.clone();
            if config
                .profiles
                .insert(name.clone(), Arc::new(profile))
                .is_some()
            {
                problems.duplicate(&fields::below(&path, "schedulerName"), &name);
            }
        }
        for profile in config.profiles.values_mut() {
            if profile.percentage.is_none() {
                Arc::make_mut(profile).percentage = percentage;
            }
        }
        config.take_extenders(&mut fields, problems);
        take_foreign(&mut fields, problems);
        fields.end(problems);
        config
    }

    fn take_extenders(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let taken = extenders::take(fields, problems);
        self.extenders = taken.extenders;
        // They come before what the arguments of a profile say, as in Kubernetes.
        for profile in self
            .profiles
            .values_mut()
            .filter(|_| !taken.ignored.is_empty())
        {
            Arc::make_mut(profile).args.fit.ignored = taken.ignored.clone();
        }
    }

    fn take_backoff(&mut self, fields: &mut Fields<'_>, problems: &mut Problems) {
        let mut seconds = |field: &'static str, default: Millis| {
            let Some(seconds) = fields.number(field, problems) else {
                return default;
            };
            if seconds <= 0 && field == "podInitialBackoffSeconds" {
                problems.invalid(field, &seconds.to_string(), "must be greater than 0");
            }
            u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)
        };
        self.backoff_first = seconds("podInitialBackoffSeconds", self.backoff_first);
        self.backoff_max = seconds("podMaxBackoffSeconds", self.backoff_max);
        if self.backoff_max < self.backoff_first {
            let why = "must be greater than or equal to PodInitialBackoffSeconds";
            let value = (self.backoff_max / 1_000).to_string();
            problems.invalid("podMaxBackoffSeconds", &value, why);
        }
    }

    /// The profile that a pod asks for, if it is one of ours.
    pub fn profile(&self, pod: &Pod) -> Option<&Arc<Profile>> {
        self.profiles.get(&pod.scheduler_name)
    }

    /// What FairShare was given; the same in all profiles.
    pub fn shares(&self) -> Option<&args::ShareArgs> {
        let first = self.profiles.values().next()?;
        self.sort.by_share.then_some(&*first.args.shares)
    }

    /// All profiles, by name.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.values()
    }
}

/// There is one queue, so all profiles have to sort it alike.
fn same_sort(first: &Profile, profile: &Profile, path: &str, problems: &mut Problems) {
    let why = "queueSort must be the same for all profiles";
    let value = format!("{:?}", profile.sort.name);
    if first.sort != profile.sort {
        problems.invalid(&fields::below(path, "plugins.queueSort"), &value, why);
    } else if profile.sort.by_share && first.args.shares != profile.args.shares {
        problems.invalid(&fields::below(path, "pluginConfig.args"), &value, why);
    }
}

/// `percentageOfNodesToScore`, of the file or of a profile.
fn take_percentage(fields: &mut Fields<'_>, problems: &mut Problems) -> Option<u8> {
    let percentage = fields.number("percentageOfNodesToScore", problems)?;
    let path = fields.path_of("percentageOfNodesToScore");
    let words = "not in valid range [0-100]";
    problems.in_range(&path, percentage, 0..=100, words);
    u8::try_from(percentage).ok()
}

/// Fields that a file may have and that mean nothing here.
fn take_foreign(fields: &mut Fields<'_>, problems: &mut Problems) {
    if let Some(parallelism) = fields.number("parallelism", problems)
        && parallelism <= 0
    {
        let why = "should be an integer value greater than zero";
        problems.invalid("parallelism", &parallelism.to_string(), why);
    }
    for flag in [
        "enableProfiling",
        "enableContentionProfiling",
        "delayCacheUntilActive",
    ] {
        fields.flag(flag, problems);
    }
    for (field, known) in [
        ("leaderElection", ELECTION),
        ("clientConnection", CONNECTION),
    ] {
        let mut inner = fields.object(field, problems);
        for field in known {
            inner.value(field);
        }
        inner.end(problems);
    }
}

#[cfg(test)]
mod tests {
    use super::args::Strategy;
    use super::*;
    use crate::object::DefaultSpread;

    fn parse(rest: &str) -> Result<Config, String> {
        Config::parse(&format!("apiVersion: {VERSION}\nkind: {KIND}\n{rest}"))
    }

    fn profile(config: &Config, name: &str) -> Arc<Profile> {
        let found = config.profiles().find(|p| p.scheduler_name == name);
        found.unwrap().clone()
    }

    /// The profile of a file with one, as `names of filters; score=weight ..`.
    fn plugins(plugins: &str) -> String {
        let config = parse(&format!("profiles:\n- plugins: {plugins}")).unwrap();
        let profile = profile(&config, DEFAULT_SCHEDULER);
        let filters: Vec<_> = profile.filters.iter().map(|f| f.name).collect();
        let scores: Vec<_> = profile
            .scores
            .iter()
            .map(|(score, weight)| format!("{}={weight}", score.name))
            .collect();
        format!("{}; {}", filters.join(" "), scores.join(" "))
    }

    fn error(rest: &str) -> String {
        parse(rest).unwrap_err()
    }

    #[test]
    fn nothing_said_is_the_default_of_kubernetes() {
        for text in [
            "",
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n",
        ] {
            let config = Config::parse(text).unwrap();
            let profile = profile(&config, DEFAULT_SCHEDULER);
            assert_eq!(*profile, Profile::default());
            assert_eq!((config.backoff_first, config.backoff_max), (1_000, 10_000));
        }
        assert_eq!(
            plugins("{}"),
            "NodeUnschedulable NodeName TaintToleration NodeAffinity NodePorts NodeResourcesFit VolumeRestrictions \
             NodeVolumeLimits VolumeBinding VolumeZone PodTopologySpread InterPodAffinity DynamicResources; TaintToleration=3 \
             NodeAffinity=2 NodeResourcesFit=1 PodTopologySpread=2 InterPodAffinity=2 \
             DynamicResources=1 NodeResourcesBalancedAllocation=1 ImageLocality=1"
        );
    }

    #[test]
    fn plugins_are_switched_off_and_weighed_by_point_or_everywhere() {
        let scores = |text: &str| plugins(text).split_once("; ").unwrap().1.to_owned();
        assert_eq!(
            scores(
                "{score: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit, weight: 5}, {name: ImageLocality}]}}"
            ),
            "NodeResourcesFit=5 ImageLocality=1"
        );
        assert_eq!(
            scores(
                "{multiPoint: {disabled: [{name: '*'}], enabled: [{name: NodeAffinity, weight: 7}, {name: DefaultBinder}, {name: PrioritySort}]}}"
            ),
            "NodeAffinity=7"
        );
        // What is weighed at its point comes first, as in Kubernetes.
        assert_eq!(
            scores("{score: {enabled: [{name: ImageLocality, weight: 9}]}}"),
            "ImageLocality=9 TaintToleration=3 NodeAffinity=2 NodeResourcesFit=1 PodTopologySpread=2 InterPodAffinity=2 \
             DynamicResources=1 NodeResourcesBalancedAllocation=1"
        );
        let without = plugins("{filter: {disabled: [{name: NodePorts}]}}");
        assert!(!without.contains("NodePorts") && without.contains("NodeName"));
        let without = plugins("{multiPoint: {disabled: [{name: TaintToleration}]}}");
        assert!(!without.contains("TaintToleration"));
        let again = plugins("{multiPoint: {enabled: [{name: TaintToleration, weight: 8}]}}");
        assert!(
            again.contains("TaintToleration=8 NodeAffinity=2"),
            "{again}"
        );
    }

    #[test]
    fn a_plugin_must_exist_and_do_what_it_is_asked_for() {
        assert_eq!(
            error("profiles:\n- plugins: {filter: {enabled: [{name: Magic}]}}"),
            "profiles[0].plugins.filter.enabled[0]: Invalid value: \"Magic\": plugin \"Magic\" does not exist"
        );
        assert_eq!(
            error("profiles:\n- plugins: {filter: {enabled: [{name: ImageLocality}]}}"),
            "profiles[0].plugins.filter.enabled[0]: Invalid value: \"ImageLocality\": plugin \"ImageLocality\" does not extend filter plugin"
        );
        assert_eq!(
            error("profiles:\n- plugins: {bind: {disabled: [{name: '*'}]}}"),
            "profiles[0].plugins.bind: Invalid value: \"default-scheduler\": at least one bind plugin is needed for profile with scheduler name \"default-scheduler\""
        );
        assert_eq!(
            error("profiles:\n- plugins: {queueSort: {disabled: [{name: PrioritySort}]}}"),
            "profiles[0].plugins.queueSort: Invalid value: \"default-scheduler\": only one queue sort plugin required for profile with scheduler name \"default-scheduler\", but got 0"
        );
        assert_eq!(
            error(
                "profiles:\n- plugins: {score: {enabled: [{name: NodeAffinity}, {name: NodeAffinity}]}}"
            ),
            "profiles[0].plugins.score.enabled[1]: Duplicate value: \"NodeAffinity\""
        );
    }

    #[test]
    fn profiles_have_names_of_their_own_and_what_holds_for_all() {
        let config = parse(
            "percentageOfNodesToScore: 30\npodInitialBackoffSeconds: 2\npodMaxBackoffSeconds: 20\n\
             profiles:\n- schedulerName: a\n- schedulerName: b\n  percentageOfNodesToScore: 0\n",
        )
        .unwrap();
        assert_eq!(profile(&config, "a").percentage, Some(30));
        assert_eq!(profile(&config, "b").percentage, Some(0));
        assert_eq!((config.backoff_first, config.backoff_max), (2_000, 20_000));
        assert!(
            config
                .profiles()
                .all(|p| p.scheduler_name != DEFAULT_SCHEDULER)
        );
        assert_eq!(
            error("profiles:\n- schedulerName: a\n- schedulerName: a\n"),
            "profiles[1].schedulerName: Duplicate value: \"a\""
        );
        // Only one that is alone has the usual name.
        assert_eq!(
            error("profiles:\n- schedulerName: a\n- {}\n"),
            "profiles[1].schedulerName: Required value"
        );
    }

    #[test]
    fn plugins_that_are_not_there_by_default() {
        let config = parse(
            "profiles:\n- plugins:\n    multiPoint: {disabled: [{name: PrioritySort}], enabled: [{name: GangScheduling}, {name: FairShare}]}\n    \
             score: {enabled: [{name: DataLocality, weight: 3}]}\n  pluginConfig:\n  - name: FairShare\n    args: {kind: FairShareArgs, \
             weights: [{namespace: a, weight: 3}, {namespace: b}], weightLabel: team.example/weight}\n",
        )
        .unwrap();
        let profile = profile(&config, DEFAULT_SCHEDULER);
        assert!(profile.gangs);
        assert_eq!(
            (config.sort.name, profile.sort.name),
            ("FairShare", "FairShare")
        );
        let last = profile
            .scores
            .last()
            .map(|(score, weight)| (score.name, *weight));
        assert_eq!(last, Some(("DataLocality", 3)));
        let labels = |value: &str| -> crate::selector::Labels {
            [("team.example/weight".to_owned(), value.to_owned())].into()
        };
        let shares = config.shares().unwrap();
        assert_eq!(shares.weight("a", Some(&labels("7"))), 3);
        assert_eq!(shares.weight("b", None), 1);
        assert_eq!(shares.weight("c", Some(&labels("7"))), 7);
        for odd in ["", "0", "-1", "x", "99999999999999999999"] {
            assert_eq!(shares.weight("c", Some(&labels(odd))), 1, "{odd}");
        }
        assert_eq!(Config::default().shares(), None);
        assert!(Config::default().profiles().all(|profile| !profile.gangs));
    }

    #[test]
    fn pressure_counts_by_weights_and_up_to_limits() {
        let with = |args: &str| {
            let plugins = "plugins: {multiPoint: {enabled: [{name: PressureAware, weight: 4}]}}";
            parse(&format!(
                "profiles:\n- {plugins}\n  pluginConfig: [{{name: PressureAware, args: {args}}}]\n"
            ))
        };
        let found = with("{resources: [{name: io, weight: 5}], maxPressure: {cpu: 80}}").unwrap();
        let found = profile(&found, DEFAULT_SCHEDULER);
        assert!(found.heeds_pressure() && !Profile::default().heeds_pressure());
        assert_eq!(found.filters.last().unwrap().name, "PressureAware");
        assert_eq!(found.scores.last().unwrap().1, 4);
        assert_eq!(found.args.pressure.weights, [0, 0, 5]);
        assert_eq!(found.args.pressure.most, [Some(80), None, None]);
        assert_eq!(
            with("{resources: [{name: gpu}, {name: io, weight: 101}, {name: io}], maxPressure: {cpu: 101}}").unwrap_err(),
            "[profiles[0].pluginConfig[0].args.resources[0].name: Unsupported value: \"gpu\": supported values: \"cpu\", \"memory\", \"io\", \
             profiles[0].pluginConfig[0].args.resources[1].weight: Invalid value: 101: not in valid range [1, 100], \
             profiles[0].pluginConfig[0].args.resources[2].name: Duplicate value: \"io\", \
             profiles[0].pluginConfig[0].args.maxPressure.cpu: Invalid value: 101: not in valid range [0, 100]]"
        );
    }

    #[test]
    fn what_the_documentation_shows_can_be_used() {
        let page = include_str!("../../../../docs/reference/scheduling.md");
        let blocks = page.split("```yaml\n").skip(1);
        let files = blocks.filter_map(|rest| rest.split("```").next());
        let files: Vec<&str> = files.filter(|text| text.contains(KIND)).collect();
        assert!(files.len() >= 5, "{files:?}");
        for file in files {
            Config::parse(file).unwrap_or_else(|error| panic!("{error}\n{file}"));
        }
    }

    #[test]
    fn one_queue_is_sorted_in_one_way() {
        let sorted = |plugin: &str, rest: &str| {
            format!(
                "plugins: {{queueSort: {{disabled: [{{name: '*'}}], enabled: [{{name: {plugin}}}]}}}}{rest}"
            )
        };
        let fair = |weight: u8| {
            let args = format!(
                "\n  pluginConfig: [{{name: FairShare, args: {{weights: [{{namespace: a, weight: {weight}}}]}}}}]"
            );
            sorted("FairShare", &args)
        };
        let two = |one: &str, other: &str| {
            format!("profiles:\n- schedulerName: a\n  {one}\n- schedulerName: b\n  {other}\n")
        };
        assert!(parse(&two(&fair(2), &fair(2))).is_ok());
        let deadlines = sorted("EarliestDeadline", "");
        assert!(parse(&two(&deadlines, &deadlines)).is_ok());
        assert_eq!(
            error(&two(&deadlines, "plugins: {}")),
            "profiles[1].plugins.queueSort: Invalid value: \"PrioritySort\": queueSort must be the same for all profiles"
        );
        assert_eq!(
            error(&two(&fair(2), &fair(3))),
            "profiles[1].pluginConfig.args: Invalid value: \"FairShare\": queueSort must be the same for all profiles"
        );
        assert_eq!(
            error("profiles:\n- plugins: {queueSort: {enabled: [{name: FairShare}]}}"),
            "profiles[0].plugins.queueSort: Invalid value: \"default-scheduler\": only one queue sort plugin required for profile with scheduler name \"default-scheduler\", but got 2"
        );
        assert_eq!(
            error("profiles:\n- plugins: {permit: {enabled: [{name: GangScheduling}]}}"),
            "profiles[0].plugins: Invalid value: \"GangScheduling\": must be enabled both at preEnqueue and at permit"
        );
        assert_eq!(
            error(
                "profiles: [{pluginConfig: [{name: FairShare, args: {weights: [{namespace: a, weight: 0}, {namespace: a, weight: 2}, {}]}}]}]"
            ),
            "[profiles[0].pluginConfig[0].args.weights[0].weight: Invalid value: 0: not in valid range [1, 1000000], \
             profiles[0].pluginConfig[0].args.weights[1].namespace: Duplicate value: \"a\", \
             profiles[0].pluginConfig[0].args.weights[2].namespace: Required value]"
        );
    }

    #[test]
    fn arguments_of_plugins() {
        let config = parse(
            "profiles:\n- pluginConfig:\n  - name: NodeResourcesFit\n    args:\n      apiVersion: kubescheduler.config.k8s.io/v1\n      \
             kind: NodeResourcesFitArgs\n      ignoredResourceGroups: [example.com]\n      scoringStrategy:\n        \
             type: RequestedToCapacityRatio\n        resources: [{name: cpu, weight: 3}, {name: example.com/gpu}]\n        \
             requestedToCapacityRatio: {shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]}\n  \
             - name: PodTopologySpread\n    args:\n      defaultingType: List\n      defaultConstraints:\n      \
             - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}\n  \
             - name: InterPodAffinity\n    args: {hardPodAffinityWeight: 7, ignorePreferredTermsOfExistingPods: true}\n  \
             - name: DefaultPreemption\n    args: {minCandidateNodesPercentage: 20, minCandidateNodesAbsolute: 5}\n  \
             - name: DynamicResources\n    args: {filterTimeout: 10s, bindingTimeout: 1m30s}\n  \
             - name: VolumeBinding\n    args: {bindTimeoutSeconds: 30}\n",
        )
        .unwrap();
        let args = &profile(&config, DEFAULT_SCHEDULER).args;
        let shape = vec![(0, 0), (100, 100)];
        assert_eq!(args.fit.strategy, Strategy::RequestedToCapacityRatio(shape));
        assert_eq!(
            args.fit.resources,
            [("cpu".into(), 3), ("example.com/gpu".into(), 1)]
        );
        assert!(args.fit.ignores("example.com/gpu") && !args.fit.ignores("other.com/gpu"));
        assert!(
            matches!(&args.spread, DefaultSpread::List(list) if list[0].hard && list[0].topology_key == "zone")
        );
        assert_eq!(
            (
                args.affinity.hard_weight,
                args.affinity.ignore_preferences_of_placed
            ),
            (7, true)
        );
        assert_eq!((args.preemption.percent, args.preemption.at_least), (20, 5));
        assert_eq!(args.volumes_timeout.as_secs(), 30);
        assert_eq!(args.devices_timeout.as_secs(), 90);
    }

    #[test]
    fn mistakes_are_told_with_their_path() {
        let table = [
            (
                "profile: []",
                "strict decoding error: unknown field \"profile\"",
            ),
            (
                "profiles:\n- schedulrName: a\n  plugins: {filters: {}}\n",
                "strict decoding error: unknown field \"profiles[0].plugins.filters\", unknown field \"profiles[0].schedulrName\"",
            ),
            (
                "profiles: 5",
                "strict decoding error: field \"profiles\": number where array is expected",
            ),
            (
                "percentageOfNodesToScore: 101",
                "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
            ),
            (
                "profiles:\n- pluginConfig:\n  - name: DynamicResources\n    args: {bindingTimeout: 900ms}\n",
                "profiles[0].pluginConfig[0].args.bindingTimeout: Invalid value: \"900ms\": must be at least 1 second",
            ),
            (
                "podInitialBackoffSeconds: 30",
                "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds",
            ),
            (
                "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]}]",
                "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
            ),
            (
                "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Best}}}]}]",
                "profiles[0].pluginConfig[0].args.scoringStrategy.type: Unsupported value: \"Best\": supported values: \
                 \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"",
            ),
            (
                "profiles: [{pluginConfig: [{name: NodeAffinity, args: {kind: FooArgs}}, {name: NodeAffinity}]}]",
                "[profiles[0].pluginConfig[0].args.kind: Unsupported value: \"FooArgs\": supported values: \
                 \"NodeAffinityArgs\", profiles[0].pluginConfig[1]: Duplicate value: \"NodeAffinity\"]",
            ),
            (
                "profiles: [{pluginConfig: [{name: NodeAffinity, args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{}]}}}}]}]",
                "profiles[0].pluginConfig[0].args.addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: \
                 Required value: must have at least one node selector term, each of them valid",
            ),
            (
                "profiles: [{pluginConfig: [{name: PodTopologySpread, args: {defaultConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}]}}]}]",
                "profiles[0].pluginConfig[0].args.defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(error(text), expected, "{text}");
        }
        assert_eq!(
            Config::parse("kind: Pod").unwrap_err(),
            "[apiVersion: Unsupported value: \"\": supported values: \"kubescheduler.config.k8s.io/v1\", \
             kind: Unsupported value: \"Pod\": supported values: \"KubeSchedulerConfiguration\"]"
        );
        assert!(Config::parse("{").unwrap_err().starts_with("not YAML: "));
        for odd in [
            "[]",
            "5",
            "profiles: [5, null]",
            "profiles: [{plugins: 5, pluginConfig: [3, {args: 5}]}]",
        ] {
            assert!(Config::parse(odd).is_err(), "{odd}");
        }
    }
}
