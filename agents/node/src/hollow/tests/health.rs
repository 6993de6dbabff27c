//! Probes that fail, and hooks that take their time.

use super::*;

fn container(sim: &Sim, pod: usize) -> &Value {
    &sim.status(pod)["containerStatuses"][0]
}

#[test]
fn a_container_whose_liveness_probe_fails_is_killed_and_runs_again_where_it_may() {
    for (policy, phase) in [("Always", "Running"), ("Never", "Failed")] {
        let mut sim = Sim::new();
        let pod = sim.bind("sick", probed(policy));
        sim.advance(secs(9));
        assert_eq!(container(&sim, pod)["ready"], true);
        assert_eq!(container(&sim, pod)["restartCount"], 0);
        // It fails two periods of a second after the tenth, and is gone a moment later.
        sim.advance(secs(6));
        assert_eq!(sim.status(pod)["phase"], phase);
        let restarts = u64::from(policy == "Always");
        assert_eq!(container(&sim, pod)["restartCount"], restarts, "{policy}");
        assert_eq!(
            sim.pods[pod].notes[..3],
            ["Started", "Unhealthy", "Killing"]
        );
        let state = match policy {
            "Always" => &container(&sim, pod)["lastState"],
            _ => &container(&sim, pod)["state"],
        };
        assert_eq!(state["terminated"]["exitCode"], 143);
    }
}

#[test]
fn a_container_is_unready_while_its_probe_fails() {
    let mut sim = Sim::new();
    let pod = sim.bind("blinking", probed("Always"));
    for (seconds, ready) in [(8, "True"), (6, "False"), (10, "False"), (12, "True")] {
        sim.advance(secs(seconds));
        assert_eq!(sim.condition(pod, "Ready"), ready);
    }
    assert_eq!(container(&sim, pod)["restartCount"], 0);
    assert_eq!(sim.pods[pod].notes, ["Started", "Unhealthy"]);
    let writes = sim.writes;
    sim.advance(secs(3600));
    assert_eq!(sim.writes, writes);
}

#[test]
fn what_never_starts_is_killed_again_and_again() {
    let mut sim = Sim::new();
    let pod = sim.bind("stillborn", probed("Always"));
    sim.advance(secs(2));
    let state = container(&sim, pod);
    assert_eq!([&state["started"], &state["ready"]], [false, false]);
    sim.advance(secs(60));
    let state = container(&sim, pod);
    assert!(state["restartCount"].as_u64() >= Some(2), "{state}");
    assert_eq!(state["ready"], false);
}

#[test]
fn a_pod_leaves_when_its_hook_is_done() {
    let mut sim = Sim::new();
    let with = |hook: Value| {
        let mut spec = one("Always", &[]);
        spec["containers"][0]["lifecycle"] = json!({"preStop": hook});
        spec
    };
    let sleeps = sim.bind("", with(json!({"sleep": {"seconds": 5}})));
    let fails = sim.bind("", with(json!({"exec": {"command": ["false"]}})));
    sim.advance(secs(2));
    sim.delete(sleeps, 30);
    sim.delete(fails, 30);
    sim.advance(secs(4));
    assert_eq!(sim.status(sleeps)["phase"], "Running");
    assert!(sim.pods[fails].object.is_none());
    let told = ["Started", "Killing", "FailedPreStopHook"];
    assert_eq!(sim.pods[fails].notes, told);
    sim.advance(secs(2));
    assert!(sim.pods[sleeps].object.is_none());
}

#[test]
fn a_container_runs_when_its_first_hook_is_done() {
    let mut sim = Sim::new();
    let mut spec = one("Always", &[]);
    spec["containers"][0]["lifecycle"] =
        json!({"postStart": {"exec": {"command": ["sleep", "5"]}}});
    let pod = sim.bind("", spec);
    sim.advance(secs(4));
    assert_eq!(sim.status(pod)["phase"], "Pending");
    sim.advance(secs(3));
    assert_eq!(sim.status(pod)["phase"], "Running");
}

#[test]
fn a_container_whose_first_hook_fails_is_killed_and_tried_again() {
    let mut sim = Sim::new();
    let mut spec = one("Always", &[]);
    spec["containers"][0]["lifecycle"] = json!({"postStart": {"exec": {"command": ["false"]}}});
    let pod = sim.bind("", spec);
    sim.advance(secs(5));
    let state = container(&sim, pod);
    assert_eq!(state["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(state["lastState"]["terminated"]["exitCode"], 137);
    let told = ["Started", "FailedPostStartHook", "Killing"];
    assert_eq!(sim.pods[pod].notes[..3], told);
}

#[test]
fn sidecars_share_the_grace_period_of_the_others() {
    let mut sim = Sim::new();
    let mut spec = one("Always", &[]);
    spec["initContainers"] = json!([{"name": "s", "image": "x", "restartPolicy": "Always"}]);
    let pod = sim.bind("stubborn", spec);
    sim.advance(secs(3));
    sim.delete(pod, 10);
    sim.advance(secs(11));
    let state = |list: &str| &sim.status(pod)[list][0]["state"];
    assert!(state("initContainerStatuses")["running"].is_object());
    sim.advance(secs(2));
    assert!(sim.pods[pod].object.is_none(), "it had two seconds");
}
