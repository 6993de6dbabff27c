use super::*;
use crate::config::Config;
use agent_runtime::ResourceRef;
use agent_runtime::resource_ref::{NODES, PODS};
use serde_json::{Value, json};

fn node(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}}})
}

fn pod(name: &str, cpu: &str, on: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"nodeName": on, "priority": 1, "containers": [{"resources": {"requests": {"cpu": cpu}}}]}})
}

fn picture(objects: &[(ResourceRef, Value)]) -> Picture {
    let mut picture = Picture::new(Config::default());
    for (resource, object) in objects {
        picture.add(resource, object);
    }
    picture
}

#[test]
fn claims_on_devices_are_told_of_and_what_a_pod_waits_for() {
    use crate::devices::testing::{card_class, cards, claim, using};
    use agent_runtime::resource_ref::{DEVICE_CLASSES, RESOURCE_CLAIMS, RESOURCE_SLICES};
    let mut asking = pod("p", "1", "");
    asking["spec"]["resourceClaims"] = using(&["c"])["resourceClaims"].clone();
    let mut objects = vec![
        (NODES, node("a", "4")),
        (NODES, node("b", "4")),
        (DEVICE_CLASSES, card_class()),
        (RESOURCE_SLICES, cards("b", &["x"])),
    ];
    let told = picture(&objects).explain(&asking).unwrap();
    let gate = told.gates.first().unwrap();
    assert_eq!(gate.plugin, "DynamicResources");
    assert_eq!(gate.message, "could not find ResourceClaim \"default/c\"");
    objects.push((RESOURCE_CLAIMS, claim("c")));
    let told = picture(&objects).explain(&asking).unwrap();
    assert_eq!((told.gates.len(), told.best), (0, vec!["b".to_string()]));
    let mut filters = told.nodes[0].filters.iter();
    let verdict = filters.find(|f| f.plugin == "DynamicResources").unwrap();
    assert_eq!(verdict.reasons, ["cannot allocate all claims"]);
    objects[3] = (RESOURCE_SLICES, cards("c", &["x"]));
    let told = picture(&objects).explain(&asking).unwrap();
    assert_eq!(
        told.message.unwrap(),
        "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, \
         preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
}

#[test]
fn of_a_bound_pod_the_devices_that_it_got_by_the_name_of_a_resource_count_as_free() {
    use crate::devices::extended::tests::{gpu_class, made};
    use crate::devices::testing::{allocated, cards};
    use agent_runtime::resource_ref::{DEVICE_CLASSES, RESOURCE_CLAIMS, RESOURCE_SLICES};
    let mut asking = pod("p", "1", "b");
    let gpu = json!({"example.com/gpu": "1"});
    asking["spec"]["containers"][0]["resources"]["requests"] = gpu;
    let mut claim = made("m", "p");
    claim["status"] = allocated("m", "b", "x", &["p"])["status"].clone();
    let objects = [
        (NODES, node("a", "4")),
        (NODES, node("b", "4")),
        (DEVICE_CLASSES, gpu_class()),
        (RESOURCE_SLICES, cards("b", &["x"])),
        (RESOURCE_CLAIMS, claim.clone()),
    ];
    let told = picture(&objects).explain(&asking).unwrap();
    assert_eq!((told.best, told.message), (vec!["b".to_string()], None));
    // To another pod the device is taken.
    asking["metadata"]["uid"] = json!("q");
    let told = picture(&objects).explain(&asking).unwrap();
    let message = told.message.unwrap();
    let words = "0/2 nodes are available: 2 cannot allocate all claims.";
    assert!(message.starts_with(words), "{message}");
}

#[test]
fn every_filter_and_every_score_is_told_for_every_node() {
    let mut cordoned = node("b", "1");
    cordoned["spec"] = json!({"unschedulable": true});
    let objects = [(NODES, node("a", "4")), (NODES, cordoned)];
    let told = picture(&objects).explain(&pod("p", "2", "")).unwrap();
    assert_eq!((told.best, told.message), (vec!["a".to_string()], None));
    let [a, b] = told.nodes.as_slice() else {
        panic!("{:?}", told.nodes)
    };
    assert!(a.feasible && a.filters.iter().all(|filter| filter.reasons.is_empty()));
    let fit = a
        .scores
        .iter()
        .find(|s| s.plugin == "NodeResourcesFit")
        .unwrap();
    assert_eq!(
        (fit.raw, fit.normalized, fit.weighted),
        (Some(73), Some(73), 73)
    );
    let sum: i64 = a.scores.iter().map(|score| score.weighted).sum();
    assert_eq!(a.total, Some(sum));
    // The scheduler would stop at the first of these.
    let refused: Vec<_> = b.filters.iter().filter(|f| !f.reasons.is_empty()).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(!b.feasible && b.total.is_none() && b.scores.is_empty());
}

#[test]
fn a_pod_that_is_placed_is_explained_as_if_it_were_not() {
    let placed = pod("p", "3", "a");
    let objects = [(NODES, node("a", "4")), (PODS, placed.clone())];
    let told = picture(&objects).explain(&placed).unwrap();
    assert_eq!(
        (told.node.as_deref(), told.best),
        (Some("a"), vec!["a".to_string()])
    );
}

#[test]
fn who_would_have_to_go_is_told() {
    let mut low = pod("low", "3", "a");
    low["spec"]["priority"] = json!(0);
    let objects = [(NODES, node("a", "4")), (PODS, low)];
    let told = picture(&objects).explain(&pod("p", "2", "")).unwrap();
    assert_eq!(
        told.message.unwrap(),
        "0/1 nodes are available: 1 Insufficient cpu."
    );
    let room = told.preemption.unwrap();
    assert_eq!(
        (room.node.as_str(), room.victims),
        ("a", vec!["default/low".to_string()])
    );
}

#[test]
fn room_that_is_kept_for_others_is_told_as_such() {
    let mut nominated = pod("n", "3", "");
    nominated["status"] = json!({"nominatedNodeName": "a"});
    let objects = [(NODES, node("a", "4")), (PODS, nominated)];
    let told = picture(&objects).explain(&pod("p", "2", "")).unwrap();
    let fit = told.nodes[0]
        .filters
        .iter()
        .find(|f| f.plugin == "NodeResourcesFit");
    assert!(fit.unwrap().for_nominated_pods);
}

#[test]
fn pressure_is_told_as_verdict_and_value_and_is_as_old_as_the_picture() {
    let config = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
        - plugins: {multiPoint: {enabled: [{name: PressureAware, weight: 2}]}}\n  pluginConfig:\n  \
        - {name: PressureAware, args: {resources: [{name: cpu}], maxPressure: {cpu: 80}}}\n";
    let told = |now: Option<&str>| {
        let mut picture = Picture::new(Config::parse(config).unwrap());
        if let Some(now) = now {
            picture.set_clock(agent_runtime::timestamp::parse(now).unwrap());
        }
        for (name, cpu) in [("a", 90), ("b", 30)] {
            let figures = json!({"at": "2026-01-01T00:00:00Z", "cpu": cpu, "memory": 0, "io": 0});
            let mut node = node(name, "4");
            node["metadata"]["annotations"] =
                json!({"node.kontiki.io/pressure": figures.to_string()});
            picture.add(&NODES, &node);
        }
        picture.explain(&pod("p", "1", "")).unwrap().nodes
    };
    let of_past = told(None);
    let refused = of_past[0].filters.last().unwrap();
    assert_eq!(refused.plugin, "PressureAware");
    assert_eq!(refused.reasons, ["node(s) had too much cpu pressure"]);
    let value = of_past[1].scores.last().unwrap();
    assert_eq!((value.raw, value.weighted), (Some(70), 140));
    let now = told(Some("2026-01-01T00:11:00Z"));
    assert!(now[0].feasible, "what was said is too old by now");
    assert_eq!(now[1].scores.last().unwrap().raw, Some(-1));
}

#[test]
fn a_pod_of_another_scheduler_is_not_ours_to_explain() {
    let mut foreign = pod("p", "2", "");
    foreign["spec"]["schedulerName"] = json!("other");
    let error = picture(&[]).explain(&foreign).unwrap_err();
    assert_eq!(
        error,
        "the pod is scheduled by \"other\", which is none of the profiles: default-scheduler"
    );
}
