use super::super::effort::Effort;
use super::super::testing::{card_class, cards, devices};
use super::super::wanted::Wanted;
use super::*;
use crate::config::Profile;
use crate::object::text;
use crate::plugins::testing::{node, pod, snapshot};
use crate::schedule::{Decision, schedule};
use crate::snapshot::Snapshot;

const GPU: &str = "example.com/gpu";

/// The class `card`, whose devices stand for the resource.
pub(crate) fn gpu_class() -> Value {
    let mut class = card_class();
    class["spec"] = json!({"extendedResourceName": GPU});
    class
}

/// The spec of a pod that asks for so many of these.
fn asking(amounts: Value) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": amounts}}]})
}

/// A claim that was made for the pod of this uid.
pub(crate) fn made(name: &str, uid: &str) -> Value {
    json!({"kind": "ResourceClaim", "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1",
        "annotations": {ANNOTATION: "true"}, "ownerReferences": [{"kind": "Pod", "uid": uid, "controller": true}]}})
}

/// A node that has so much of the resource itself.
fn with_gpus(name: &str, amount: &str) -> Node {
    Node::compile(
        &json!({"metadata": {"name": name}, "status": {"allocatable": {GPU: amount, "pods": "9"}}}),
    )
}

fn bare(name: &str) -> Node {
    node(name, json!({}), json!({}))
}

#[test]
fn the_newest_class_is_behind_a_name_and_each_behind_its_own() {
    let class = |name: &str, created: &str, resource: &str| {
        json!({"kind": "DeviceClass", "metadata": {"name": name, "creationTimestamp": created},
            "spec": {"extendedResourceName": resource}})
    };
    let mut known = devices(&[
        class("a", "2026-01-01T00:00:00Z", GPU),
        class("c", "2026-01-02T00:00:00Z", GPU),
        class("b", "2026-01-02T00:00:00Z", GPU),
        card_class(),
    ]);
    let behind = |known: &Devices, resource: &str| {
        let class = known.class_behind(resource);
        class.map(|class| class.name.clone()).unwrap_or_default()
    };
    assert_eq!(behind(&known, GPU), "b");
    for class in ["a", "b", "c", "card"] {
        assert_eq!(behind(&known, &format!("{PREFIX}{class}")), class);
    }
    known.set_class("b", None);
    assert_eq!(behind(&known, GPU), "c");
    assert_eq!(behind(&known, &format!("{PREFIX}b")), "");
    assert_eq!(behind(&known, "example.com/other"), "");
}

#[test]
fn a_node_gives_devices_for_what_it_does_not_have_itself() {
    let known = devices(&[gpu_class(), cards("n", &["x"]), cards("full", &[])]);
    let implicit = format!("{PREFIX}card");
    let table = [
        (json!({GPU: "1"}), bare("n"), ""),
        (json!({GPU: "2"}), bare("n"), "cannot allocate all claims"),
        (
            json!({GPU: "1"}),
            bare("full"),
            "cannot allocate all claims",
        ),
        (json!({GPU: "2"}), with_gpus("full", "2"), ""),
        // One that it advertises and has none of counts as one that it does not have.
        (
            json!({GPU: "2"}),
            with_gpus("n", "0"),
            "cannot allocate all claims",
        ),
        (
            json!({GPU: "1", implicit.clone(): "1"}),
            bare("n"),
            "cannot allocate all claims",
        ),
        (
            json!({GPU: "1", implicit.clone(): "1"}),
            with_gpus("n", "1"),
            "",
        ),
    ];
    for (amounts, node, words) in table {
        let pod = pod(asking(amounts.clone()));
        let wanted = Wanted::of(&pod, &known, &Effort::default());
        let wanted = wanted.unwrap().expect("devices are behind it");
        let refusal = wanted.check(&node).err().unwrap_or_default();
        assert_eq!(refusal, words, "{amounts} on {}", node.name);
    }
    let other = pod(asking(json!({"example.com/other": "1"})));
    let wanted = Wanted::of(&other, &known, &Effort::default());
    assert!(wanted.unwrap().is_none());
}

#[test]
fn the_claim_is_planned_as_it_will_be_made_and_its_devices_are_promised() {
    let mut known = devices(&[gpu_class(), cards("n", &["x"])]);
    let first = pod(asking(json!({GPU: "1"})));
    let plan_of = |known: &Devices| {
        let wanted = Wanted::of(&first, known, &Effort::default())?;
        Ok::<_, String>(wanted.map(|wanted| wanted.plan(&bare("n"))))
    };
    let plan = plan_of(&known).unwrap().unwrap();
    let special = plan.special.clone().unwrap();
    let metadata = &special.body["metadata"];
    assert_eq!(metadata["generateName"], "p-extended-resources-");
    assert_eq!(metadata["annotations"][ANNOTATION], "true");
    let owner =
        json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p", "controller": true});
    assert_eq!(metadata["ownerReferences"], json!([owner]));
    let request = &special.body["spec"]["devices"]["requests"][0];
    assert_eq!(request["exactly"]["deviceClassName"], "card");
    assert_eq!(text(&special.mappings[0], "/resourceName"), GPU);
    let (json, _) = plan.steps[0].gets.as_ref().unwrap();
    assert_eq!(json["devices"]["results"][0]["request"], request["name"]);
    known.promise(&plan);
    let words = "resource claim default/<extended-resources> is in the process of being allocated";
    assert_eq!(plan_of(&known).unwrap_err(), words);
    let second = Pod {
        uid: "q".into(),
        ..first.clone()
    };
    let refused = |known: &Devices| {
        let wanted = Wanted::of(&second, known, &Effort::default());
        wanted.unwrap().unwrap().check(&bare("n")).is_err()
    };
    assert!(refused(&known));
    known.settle(&plan);
    assert!(!refused(&known));
}

#[test]
fn a_claim_that_is_left_over_keeps_its_pod_waiting_until_it_is_gone() {
    let mut known = devices(&[gpu_class(), cards("n", &["x"]), made("m", "p")]);
    let own = pod(asking(json!({GPU: "1"})));
    let refusal = |known: &Devices| Wanted::of(&own, known, &Effort::default()).err();
    assert_eq!(refusal(&known).as_deref(), Some(LEFT_OVER));
    assert_eq!(known.made_for("p").unwrap().name, "m");
    assert!(known.made_for("q").is_none());
    let mut explained = known.clone();
    explained.forget_made_for("p");
    assert_eq!(refusal(&explained), None);
    known.set_claim(("default".into(), "m".into()), None);
    assert_eq!(refusal(&known), None);
    assert!(known.made.0.is_empty());
    // What anybody else has written into a claim does not make it one of these.
    let mut foreign = made("m", "p");
    foreign["metadata"]["annotations"] = json!({ANNOTATION: "yes"});
    assert!(devices(&[foreign]).made_for("p").is_none());
}

/// The node that the pod gets, or why it gets none and what it waits for.
fn decide(pod: &Pod, cluster: &Snapshot) -> Result<String, (String, Vec<&'static str>)> {
    match schedule(pod, cluster, &Profile::default(), 0, &mut |_| 0) {
        Decision::Bind { node, .. } => Ok(node),
        Decision::Unschedulable(diagnosis) => {
            let message = diagnosis.message(None);
            Err((message, diagnosis.plugins.into_iter().collect()))
        }
    }
}

#[test]
fn a_pod_goes_where_devices_stand_for_what_it_asks_as_long_as_a_class_says_so() {
    let mut cluster = snapshot(vec![bare("a"), bare("b")], vec![]);
    let asking = pod(asking(json!({GPU: "1"})));
    let refused = |plugins: &[&'static str]| {
        let words = "0/2 nodes are available: 2 Insufficient example.com/gpu.";
        Err((words.to_owned(), plugins.to_vec()))
    };
    assert_eq!(decide(&asking, &cluster), refused(&["NodeResourcesFit"]));
    let offer = cards("b", &["x"]);
    cluster.devices = Arc::new(devices(&[gpu_class(), offer.clone()]));
    assert_eq!(decide(&asking, &cluster), Ok("b".to_owned()));
    // What was found out about the nodes for such pods before holds no more.
    cluster.devices = Arc::new(devices(&[card_class(), offer.clone()]));
    assert_eq!(decide(&asking, &cluster), refused(&["NodeResourcesFit"]));
    cluster.devices = Arc::new(devices(&[gpu_class(), offer, cards("a", &["y"])]));
    cluster.remove_node("b");
    assert_eq!(decide(&asking, &cluster), Ok("a".to_owned()));
}

#[test]
fn a_pod_waits_for_devices_whichever_filter_was_first() {
    let mut spec = asking(json!({GPU: "1", "cpu": "64"}));
    let mut cluster = snapshot(vec![bare("a")], vec![]);
    cluster.devices = Arc::new(devices(&[gpu_class()]));
    let both = vec!["DynamicResources", "NodeResourcesFit"];
    let (message, plugins) = decide(&pod(spec.clone()), &cluster).unwrap_err();
    assert_eq!(message, "0/1 nodes are available: 1 Insufficient cpu.");
    assert_eq!(plugins, both);
    spec["containers"][0]["resources"]["requests"] = json!({GPU: "1"});
    let (message, plugins) = decide(&pod(spec), &cluster).unwrap_err();
    let words = "0/1 nodes are available: 1 cannot allocate all claims.";
    assert_eq!((&*message, plugins), (words, vec!["DynamicResources"]));
}

#[test]
fn only_a_claim_with_the_mark_and_this_owner_was_made_for_the_pod() {
    let mut claim = made("m", "p");
    let is_of = |claim: &Value, pod: &str| DeviceClaim::compile(claim).was_made_for(pod);
    assert!(is_of(&claim, "p") && !is_of(&claim, "q"));
    claim["metadata"]["annotations"] = json!({});
    assert!(!is_of(&claim, "p"));
}
