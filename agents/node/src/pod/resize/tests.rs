use time::OffsetDateTime;

use super::*;
use crate::pod::container::{LABEL_SANDBOX, identity};
use crate::runtime::SANDBOX;

const NODE_MEMORY: i64 = 8 << 30;

fn pod(one: &str, other: &str) -> Pod {
    let container = |name: &str, memory: &str| {
        json!({"name": name, "image": "x", "resources": {"limits": {"cpu": "1", "memory": memory},
                                                        "requests": {"cpu": "500m"}}})
    };
    let mut sidecar = container("s", "64Mi");
    sidecar["restartPolicy"] = json!("Always");
    Pod::decode(&json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 2},
        "spec": {"initContainers": [{"name": "i", "image": "x"}, sidecar],
                 "containers": [container("a", one), container("b", other)]},
    }))
    .unwrap()
}

/// A container that was told what this pod says.
fn running(pod: &Pod, name: &str) -> Observed {
    let started_at = OffsetDateTime::UNIX_EPOCH;
    let found = pod.container(name);
    let hash = found.map(|(_, container)| definition_hash(container));
    Observed {
        id: format!("{name}0"),
        identity: identity(pod, name, 0),
        state: State::Running { started_at },
        created_at: started_at,
        image: "x".into(),
        image_id: String::new(),
        labels: [
            (LABEL_SANDBOX.to_owned(), format!("{SANDBOX}0")),
            (LABEL_HASH.to_owned(), hash.unwrap_or_default()),
        ]
        .into(),
        ip: None,
        pid: None,
        limits: found.map(|(role, one)| container::limits(pod, role, one, NODE_MEMORY)),
    }
}

fn world(pod: &Pod) -> Observation {
    let names = [SANDBOX, "s", "a", "b"];
    Observation::new(names.map(|name| running(pod, name)).into())
}

#[test]
fn the_amounts_on_record_are_those_that_were_given() {
    let mut pod = pod("2Gi", "1Gi");
    assert_eq!(recorded(&pod), of(&pod));
    assert!(!of(&pod).contains_key("i"), "it runs once");
    let given = json!({"name": "a", "allocatedResources": {"cpu": "0.5"},
                       "resources": {"limits": {"cpu": "1", "memory": "1024Mi"}, "requests": {"cpu": "500m"}}});
    pod.status = json!({"containerStatuses": [given]});
    let (asked, given) = (of(&pod), recorded(&pod));
    assert!(!is_same(&asked, &given));
    overlay(&mut pod, &given);
    assert_eq!(of(&pod), given);
    let as_given = self::pod("1Gi", "1Gi");
    assert!(is_same(&of(&as_given), &given), "in other words");
}

#[test]
fn containers_are_told_and_those_that_shrink_first() {
    let before = pod("1Gi", "2Gi");
    let observed = world(&before);
    assert!(updates(&before, &observed, &BTreeMap::new(), NODE_MEMORY).is_empty());
    let after = pod("2Gi", "1Gi");
    let told = updates(&after, &observed, &BTreeMap::new(), NODE_MEMORY);
    let names: Vec<&str> = told.iter().map(|one| one.container.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(told[0].lower_memory(), Some(1 << 30));
    assert_eq!(told[1].lower_memory(), None);
    assert_eq!(told[1].limits.memory_bytes, 2 << 30);
    let lagging: Vec<String> = lagging(&after, &observed, &told).into_keys().collect();
    assert_eq!(lagging, ["a", "b"]);
    // Whatever the runtime shows afterwards, it has been told.
    let told = told.into_iter().map(|one| (one.id, one.limits)).collect();
    assert!(updates(&after, &observed, &told, NODE_MEMORY).is_empty());
}

#[test]
fn one_that_is_made_anew_is_not_told_but_waited_for() {
    let with_policy = |memory: &str| {
        let mut pod = pod(memory, "1Gi");
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        pod.spec.containers[0].resize_policy = serde_json::from_value(policy).unwrap();
        pod
    };
    let observed = world(&with_policy("1Gi"));
    let mut after = with_policy("2Gi");
    let has = json!({"limits": {"memory": "1Gi"}});
    after.status = json!({"containerStatuses": [{"name": "a", "resources": has}]});
    assert!(updates(&after, &observed, &BTreeMap::new(), NODE_MEMORY).is_empty());
    let lagging = lagging(&after, &observed, &[]);
    assert_eq!(lagging["a"].limits["memory"], "1Gi");
    assert_eq!(lagging.len(), 1);
}

#[test]
fn no_limit_goes_below_what_is_used() {
    let observed = world(&pod("1Gi", "1Gi"));
    let after = pod("1Mi", "2Mi");
    let updates = updates(&after, &observed, &BTreeMap::new(), NODE_MEMORY);
    assert_eq!(obstacle(&updates, |_| Some(1 << 20)), None);
    assert_eq!(obstacle(&updates, |_| None), None);
    let one =
        "attempting to set container \"a\" memory limit (1048576) below current usage (2097152)";
    let text = obstacle(&updates, |_| Some(2 << 20));
    assert_eq!(text, Some(format!("cannot decrease memory limits: {one}")));
    let both = obstacle(&updates, |_| Some(3 << 20)).unwrap();
    assert!(
        both.starts_with("cannot decrease memory limits: [attempting"),
        "{both}"
    );
}

#[test]
fn events_tell_the_amounts() {
    let mut pod = pod("1Gi", "2Gi");
    pod.spec.init_containers.clear();
    pod.spec.containers.truncate(1);
    let resources = r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"500m"}}"#;
    assert_eq!(
        text("Deferred", &pod, 2, Some("a \"b\"")),
        format!(
            r#"Pod resize Deferred: {{"containers":[{{"name":"a","resources":{resources}}}],"generation":2,"error":"a \"b\""}}"#
        )
    );
    assert!(text("completed", &pod, 2, None).ends_with(r#""generation":2}"#));
}

#[test]
fn a_resize_is_taken_over_from_the_record() {
    let mut pod = pod("1Gi", "1Gi");
    assert_eq!(Resize::recorded(&pod), Resize::default());
    pod.status = json!({"conditions": [
        {"type": PENDING, "status": "True", "reason": "Infeasible", "message": "m", "observedGeneration": 2},
        {"type": IN_PROGRESS, "status": "True", "observedGeneration": 1}]});
    let resize = Resize::recorded(&pod);
    let pending = resize.pending.unwrap();
    assert_eq!((pending.reason, pending.generation), (INFEASIBLE, 2));
    let progress = Progress {
        generation: 1,
        error: None,
    };
    assert_eq!(resize.progress, Some(progress));
}

#[test]
fn limits_are_compared_by_what_they_mean() {
    let object = |list: &str, policy: &str, asked: Value, told: Value| {
        let statuses = match list {
            "containers" => "containerStatuses",
            _ => "initContainerStatuses",
        };
        let container =
            json!({"name": "a", "restartPolicy": policy, "resources": {"limits": asked}});
        json!({"spec": {list: [container]}, "status": {statuses: [{"name": "a", "resources": told}]}})
    };
    let one = json!({"cpu": "1"});
    for (list, policy, told, expected) in [
        ("containers", "", json!({"limits": {"cpu": "1000m"}}), false),
        ("containers", "", json!({"limits": {"cpu": "2"}}), true),
        ("containers", "", json!({}), true),
        ("containers", "", Value::Null, false),
        (
            "initContainers",
            "Always",
            json!({"limits": {"cpu": "2"}}),
            true,
        ),
        ("initContainers", "", json!({"limits": {"cpu": "2"}}), false),
    ] {
        let object = object(list, policy, one.clone(), told);
        assert_eq!(has_other_limits(&object), expected, "{object}");
    }
    assert!(!has_other_limits(&object(
        "containers",
        "",
        Value::Null,
        json!({})
    )));
    assert!(has_other_limits(&object(
        "containers",
        "",
        Value::Null,
        json!({"limits": one})
    )));
    assert!(!has_other_limits(
        &json!({"spec": {"containers": [{"name": "a"}]}})
    ));
}
