use serde_json::json;

use super::*;

const FILE: &str = "
stages:
  - name: slow
    select: {namespace: [batch, ml], labels: {tier: slow}}
    start: {p50: 1s, p99: 5s}
    ready: 2s
  - name: loop
    select: {annotations: {crash: 'yes'}}
    fail: {rate: 1, after: 100ms, exit-code: 3}
  - name: short
    select: {owner: Job}
    run: {duration: 1s, jitter: 1s}
    exit-code: 4
    program: false
";

fn pod(namespace: &str, labels: Value, annotations: Value, owner: &str) -> Value {
    let owners = json!([{"kind": owner, "controller": true}]);
    json!({"metadata": {"namespace": namespace, "labels": labels, "annotations": annotations, "ownerReferences": owners}})
}

#[test]
fn the_first_stage_that_selects_a_pod_counts() {
    let stages = Stages::read(FILE).unwrap();
    for (pod, name) in [
        (
            pod(
                "ml",
                json!({"tier": "slow", "x": "y"}),
                json!({"crash": "yes"}),
                "Job",
            ),
            "slow",
        ),
        (
            pod(
                "default",
                json!({"tier": "slow"}),
                json!({"crash": "yes"}),
                "Job",
            ),
            "loop",
        ),
        (pod("default", json!({}), Value::Null, "Job"), "short"),
        (
            pod("default", json!({}), Value::Null, "ReplicaSet"),
            "default",
        ),
        (json!({}), "default"),
    ] {
        assert_eq!(stages.get(stages.choose(&pod)).name, name, "{pod}");
    }
    let own = Stages::default();
    assert_eq!(
        own.get(own.choose(&pod("d", json!({}), json!({}), "Job")))
            .name,
        "job"
    );
}

#[test]
fn rates_are_shares_of_runs_and_certain_at_their_ends() {
    let fail = |rate| Fail {
        rate,
        after: millis(0),
        exit_code: 1,
        oom: false,
    };
    let strikes = |rate: f64| {
        let fail = fail(rate);
        (0..1000)
            .filter(|attempt| fail.strikes("u", "c", *attempt))
            .count()
    };
    assert_eq!((strikes(0.0), strikes(1.0)), (0, 1000));
    assert!((150..350).contains(&strikes(0.25)), "{}", strikes(0.25));
}

#[test]
fn mistakes_are_told_with_their_place_and_what_may_stand_there() {
    let one = |text: &str| format!("stages: [{{name: a, {text}}}]");
    for (text, expected) in [
        ("stages: {".to_owned(), "not YAML"),
        ("[]".to_owned(), "a map with `stages`"),
        (
            "stage: []".to_owned(),
            "stage: there is no such field; there are stages",
        ),
        ("stages: {}".to_owned(), "`stages` has to be a list"),
        (
            "stages: [{start: 1s}]".to_owned(),
            "stages[0].name: a stage needs a name",
        ),
        (
            "stages: [{name: a}, {name: a}]".to_owned(),
            "stages[1].name: there is another stage `a`",
        ),
        (
            one("begin: 1s"),
            "stages[0].begin: there is no such field; there are name, select, start",
        ),
        (
            one("start: fast"),
            "stages[0].start: `fast` is not a time like 250ms",
        ),
        (
            one("run: {p50: 1s}"),
            "stages[0].run: p50 and p99 belong together",
        ),
        (
            one("exit-code: 300"),
            "stages[0].exit-code: `300` is not a number from 0 to 255",
        ),
        (
            one("program: 3"),
            "stages[0].program: `3` is neither true nor false",
        ),
        (
            one("select: {label: {a: b}}"),
            "stages[0].select.label: there is no such field",
        ),
        (
            one("select: {labels: {a: 1}}"),
            "stages[0].select.labels.a: `1` is not a text; numbers need quotes",
        ),
        (one("select: []"), "stages[0].select: has to be a map"),
        (
            one("fail: {}"),
            "stages[0].fail.rate: `null` is not a share from 0 to 1",
        ),
        (
            one("fail: {rate: 5}"),
            "stages[0].fail.rate: `5` is not a share",
        ),
        (one("fail: {rate: 1, exit-code: 0}"), "0 is no failure"),
        (
            one("fail: {rate: 1, reason: Bored}"),
            "stages[0].fail.reason: `\"Bored\"` is not OOMKilled",
        ),
    ] {
        let error = Stages::read(&text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
