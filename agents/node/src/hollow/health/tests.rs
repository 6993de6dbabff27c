use serde_json::json;

use super::*;
use crate::hollow::stages::Stages;

fn probe(value: Value) -> Probe {
    serde_json::from_value(value).unwrap()
}

fn stage(text: &str) -> Stage {
    let stages = Stages::read(&format!("stages: [{{name: a, {text}}}]")).unwrap();
    stages.get(0).clone()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn bad_answers_count_as_often_as_asked_for_and_good_ones_end_that() {
    // Asked at 5, 15, 25, ..; three bad ones or two good ones count.
    let probe = probe(
        json!({"initialDelaySeconds": 5, "periodSeconds": 10, "successThreshold": 2, "failureThreshold": 3}),
    );
    let beat = Beat::of(&probe, Duration::ZERO);
    // From when to when answers are bad; when it passes, fails and passes again.
    for (bad, expected) in [
        (None, [Some(15), None, None]),
        (Some((0, None)), [None, Some(25), None]),
        (Some((5, None)), [None, Some(25), None]),
        (Some((6, None)), [None, Some(35), None]),
        (Some((16, None)), [Some(15), Some(45), None]),
        (Some((16, Some(60))), [Some(15), Some(45), Some(75)]),
        // Only two answers are bad.
        (Some((16, Some(45))), [Some(15), None, None]),
        (Some((0, Some(20))), [Some(35), None, None]),
        // None is.
        (Some((16, Some(25))), [Some(15), None, None]),
    ] {
        let bad = bad.map(|(from, until): (u64, Option<u64>)| (secs(from), until.map(secs)));
        let Course {
            passes,
            fails,
            recovers,
        } = beat.course(bad);
        let found = [passes, fails, recovers].map(|at| at.map(|at| at.as_secs()));
        assert_eq!(found, expected, "{bad:?}");
    }
}

#[test]
fn answers_are_counted_up_to_now() {
    let probe = probe(json!({"initialDelaySeconds": 5, "periodSeconds": 10}));
    let beat = Beat::of(&probe, Duration::ZERO);
    for (bad, until, expected) in [
        (None, 4, [0, 0]),
        (None, 5, [1, 0]),
        (None, 30, [3, 0]),
        (Some((0, None)), 30, [0, 3]),
        (Some((15, Some(25))), 30, [2, 1]),
        (Some((6, Some(36))), 30, [1, 2]),
        (Some((60, None)), 30, [3, 0]),
    ] {
        let bad = bad.map(|(from, to): (u64, Option<u64>)| (secs(from), to.map(secs)));
        assert_eq!(beat.counts(bad, secs(until)), expected, "{bad:?} {until}");
    }
}

#[test]
fn a_startup_probe_has_one_result() {
    let [passes, fails, recovers] = [1, 2, 3].map(|at| Some(secs(at)));
    let course = |passes, fails, recovers| Course {
        passes,
        fails,
        recovers,
    };
    for (course, expected) in [
        (course(passes, fails, recovers), course(passes, None, None)),
        (course(None, fails, recovers), course(None, fails, None)),
        (course(passes, None, None), course(passes, None, None)),
    ] {
        assert_eq!(course.once(), expected);
    }
}

#[test]
fn commands_of_probes_and_hooks_come_to_what_they_say() {
    let plain = stage("ready: 1s");
    let failing = stage("exec: {exit-code: 3, message: gone}");
    let deaf = stage("program: false, exec: {exit-code: 3, message: gone}");
    let none: Option<&str> = None;
    for (stage, command, error) in [
        (&plain, json!(["true"]), none),
        (&plain, json!(["cat", "/tmp/healthy"]), none),
        (&plain, json!(["sh", "-c", "echo bad; exit 1"]), Some("bad")),
        (
            &plain,
            json!(["sleep", "2"]),
            Some("command \"sleep 2\" timed out after 1s"),
        ),
        (&failing, json!(["true"]), none),
        (&failing, json!(["cat", "/tmp/healthy"]), Some("gone")),
        (&deaf, json!(["true"]), Some("gone")),
    ] {
        let probe = probe(json!({"exec": {"command": command}}));
        let found = failing_command(&probe, stage);
        assert_eq!(found.as_deref(), error, "{command}");
        let takes = if command[0] == "sleep" { 2 } else { 0 };
        let is_good = error.is_none() || takes > 0;
        assert_eq!(hook(&probe.handler, stage), (secs(takes), is_good));
    }
    let sleep: Handler = serde_json::from_value(json!({"sleep": {"seconds": 7}})).unwrap();
    assert_eq!(hook(&sleep, &failing), (secs(7), true));
}

#[test]
fn what_failed_is_told_by_the_way_of_asking() {
    let stage = stage("probes: {liveness: {}}");
    let container = Container::default();
    for (handler, text) in [
        (
            json!({"httpGet": {"port": 80}}),
            "HTTP probe failed with statuscode: 503",
        ),
        (
            json!({"tcpSocket": {"port": 80}}),
            "dial tcp 100.64.0.1:80: connect: connection refused",
        ),
        (json!({"exec": {"command": ["x"]}}), ""),
    ] {
        let probe = probe(handler);
        let told = complaint(Kind::Liveness, (&container, &probe), &stage, "100.64.0.1");
        assert_eq!(told, format!("Liveness probe failed: {text}"));
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, expected) in [
        (
            "probes: {live: {}}",
            "stages[0].probes.live: there is no such field; there are startup",
        ),
        (
            "probes: {liveness: {rate: 2}}",
            "stages[0].probes.liveness.rate: `2` is not a share",
        ),
        (
            "probes: {liveness: {for: long}}",
            "stages[0].probes.liveness.for: `long` is not a time",
        ),
        (
            "exec: {exit-code: 300}",
            "stages[0].exec.exit-code: `300` is not a number",
        ),
        (
            "exec: {message: 3}",
            "stages[0].exec.message: `3` is not a text",
        ),
        ("exec: 3", "stages[0].exec: has to be a map"),
    ] {
        let error = Stages::read(&format!("stages: [{{name: a, {text}}}]")).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}
