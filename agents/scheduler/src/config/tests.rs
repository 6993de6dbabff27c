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
         DynamicResources=2 NodeResourcesBalancedAllocation=1 ImageLocality=1"
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
         DynamicResources=2 NodeResourcesBalancedAllocation=1"
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
            "profiles:\n- pluginConfig:\n  - name: DynamicResources\n    args: {filterTimeout: -1s}\n",
            "profiles[0].pluginConfig[0].args.filterTimeout: Invalid value: \"-1s\": must be zero or positive",
        ),
        (
            "leaderElection: {retryPeriod: -2s}",
            "leaderElection.retryPeriod: Invalid value: \"-2s\": must be greater than zero",
        ),
        (
            "leaderElection: {leaseDuration: 9s}",
            "leaderElection.leaseDuration: Invalid value: \"10s\": LeaseDuration must be greater than RenewDeadline",
        ),
        (
            "clientConnection: {burst: -1}",
            "clientConnection.burst: Invalid value: -1: must be non-negative",
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
