//! Containers that cannot begin.

use super::*;

fn with(member: &str, value: Value) -> Value {
    let mut spec = one("Always", &[]);
    spec["containers"][0][member] = value;
    spec
}

fn waiting(sim: &Sim, pod: usize) -> Value {
    sim.status(pod)["containerStatuses"][0]["state"]["waiting"].clone()
}

#[test]
fn a_name_that_is_none_waits_until_there_is_another() {
    let mut sim = Sim::new();
    let pod = sim.bind("", with("image", "No Name".into()));
    assert_eq!(waiting(&sim, pod)["reason"], "InvalidImageName");
    assert_eq!(sim.pods[pod].notes, ["InspectFailed", "Failed"]);
    let writes = sim.writes;
    sim.advance(secs(3600));
    assert_eq!(sim.writes, writes);
    assert_eq!(sim.pods[pod].notes.len(), 2, "it is told once");
    sim.pods[pod].object.as_mut().unwrap()["spec"]["containers"][0]["image"] = "name".into();
    sim.store(pod);
    sim.tell(pod);
    sim.advance(secs(2));
    assert_eq!(sim.status(pod)["phase"], "Running");
}

#[test]
fn what_must_not_be_pulled_waits_until_another_pod_has_pulled_it() {
    let mut sim = Sim::new();
    let waits = sim.bind("", with("imagePullPolicy", "Never".into()));
    let text = "Container image \"i\" is not present with pull policy of Never";
    assert_eq!(
        waiting(&sim, waits),
        json!({"reason": "ErrImageNeverPull", "message": text})
    );
    assert_eq!(sim.pods[waits].notes, ["ErrImageNeverPull", "Failed"]);
    let writes = sim.writes;
    sim.advance(secs(9));
    assert_eq!((sim.writes, sim.pods[waits].notes.len()), (writes, 2));
    sim.bind("", one("Always", &[]));
    sim.advance(secs(3));
    assert_eq!(sim.status(waits)["phase"], "Running");
    sim.restart();
    let another = sim.bind("", with("imagePullPolicy", "Never".into()));
    sim.advance(secs(2));
    assert_eq!(
        sim.status(another)["phase"],
        "Running",
        "the node has it still"
    );
}

#[test]
fn a_part_of_a_volume_that_has_no_name_keeps_its_container_waiting() {
    let mut sim = Sim::new();
    let mount = json!([{"name": "v", "mountPath": "/v", "subPathExpr": "$(WHO)"}]);
    let mut spec = with("volumeMounts", mount);
    let waits = sim.bind("", spec.clone());
    let text = "missing value for WHO";
    assert_eq!(
        waiting(&sim, waits),
        json!({"reason": "CreateContainerConfigError", "message": text})
    );
    assert_eq!(sim.pods[waits].notes, ["Failed"]);
    spec["containers"][0]["env"] =
        json!([{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    let runs = sim.bind("", spec);
    sim.advance(secs(60));
    assert_eq!(sim.status(waits)["phase"], "Pending");
    assert_eq!(sim.status(runs)["phase"], "Running");
}

#[test]
fn who_looks_at_a_container_waits_for_it() {
    let mut sim = Sim::new();
    let pod = sim.bind("", one("Always", &[]));
    sim.advance(secs(2));
    let debugger = json!({"name": "e", "image": "x", "targetContainerName": "c"});
    let lost = json!({"name": "f", "image": "x", "targetContainerName": "g"});
    sim.pods[pod].object.as_mut().unwrap()["spec"]["ephemeralContainers"] = json!([debugger, lost]);
    sim.store(pod);
    sim.tell(pod);
    sim.advance(secs(2));
    let state = |number: usize| &sim.status(pod)["ephemeralContainerStatuses"][number]["state"];
    assert!(state(0)["running"].is_object(), "{}", state(0));
    let message = &state(1)["waiting"]["message"];
    assert_eq!(message, "unable to find target container g");
}
