use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::hollow::slim::Slim;
use crate::hollow::stages::Stages;

/// What a hollow node makes of a pod that a list tells of, and of the same one that a watch tells of.
fn both(object: &Value) -> [(u16, Option<Slim>); 2] {
    let stages = Stages::read(
        r#"{"stages": [{"name": "s", "select": {"labels": {"app": "b"}, "annotations": {"x": "y"}, "namespace": "d"}}]}"#,
    );
    let stages = stages.unwrap();
    let read: PodTold = serde_json::from_str(&object.to_string()).unwrap();
    assert_eq!(read.version(), PodTold::listed(object.clone()).version());
    assert_eq!(read.object["spec"]["nodeName"], object["spec"]["nodeName"]);
    [PodTold::from(object.clone()), read].map(|told| {
        let stage = stages.choose(&told.object);
        (stage, Slim::of_told(told))
    })
}

/// Both are the same but for the order in which their texts have their members.
fn check(object: &Value) {
    let [(listed_stage, listed), (stage, told)] = both(object);
    assert_eq!(stage, listed_stage);
    let (Some(listed), Some(told)) = (listed.as_ref(), told.as_ref()) else {
        assert_eq!(listed, told, "{object}");
        return;
    };
    assert_eq!(told.object(), listed.object());
    // What is wrong with one stands elsewhere in the other.
    assert_eq!(told.pod().ok(), listed.pod().ok());
    assert_eq!(
        (&told.uid, &told.name, told.version, &told.kind, &told.asks),
        (
            &listed.uid,
            &listed.name,
            listed.version,
            &listed.kind,
            &listed.asks
        )
    );
    assert_eq!(
        (told.is_taken, told.is_over, told.shape),
        (listed.is_taken, listed.is_over, listed.shape)
    );
}

fn pod() -> Value {
    let resources = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"memory": "1Gi"}});
    let container = |name: &str| {
        json!({"name": name, "image": "i:1", "imagePullPolicy": "Always", "command": ["sh"], "args": ["-c", "null"],
            "env": [{"name": "A", "value": "\"null\":null"}], "resources": resources("100m"), "restartPolicy": "Always",
            "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "UDP", "hostIP": null}],
            "livenessProbe": {"exec": {"command": ["true"]}}, "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
    };
    let status = |name: &str| {
        json!({"name": name, "image": "i:1", "imageID": "x", "ready": true, "started": true, "restartCount": 1,
            "containerID": "hollow://1", "state": {"running": {"startedAt": null}}, "lastState": {},
            "resources": resources("50m"), "allocatedResources": {"cpu": "50m"}})
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p", "namespace": "d", "uid": "u", "resourceVersion": "7", "generation": 2, "generateName": "p-",
            "creationTimestamp": "2026-01-01T00:00:00Z", "deletionTimestamp": null, "labels": {"app": "b"},
            "annotations": {"x": "y", "kontiki.io/\"odd\"": "{\"null\":null}"},
            "ownerReferences": [{"kind": "Job", "name": "j", "uid": "o", "controller": true}],
            "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {
            "nodeName": "n", "priority": 5, "hostNetwork": true, "restartPolicy": "Always", "schedulerName": "s",
            "containers": [container("a"), container("b")], "initContainers": [container("i")],
            "tolerations": [{"key": "k", "tolerationSeconds": null}], "affinity": {"nodeAffinity": {}},
            "volumes": [{"name": "v"}], "topologySpreadConstraints": [{}], "overhead": {"cpu": "1m"},
            "resources": resources("1"), "terminationGracePeriodSeconds": 30, "odd field\n": {"a": [null, {"b": null}]},
        },
        "status": {
            "phase": "Running", "qosClass": "Burstable", "startTime": "2026-01-01T00:00:01Z", "podIP": "10.1.1.1",
            "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null}], "message": null,
            "containerStatuses": [status("a"), status("b")], "initContainerStatuses": [status("i")],
            "extendedResourceClaimStatus": {"requestMappings": [{"resourceName": "x/y"}]},
        },
    })
}

/// The paths of all members, those of members in lists among them.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{path}/{}", escaped(name));
                paths(member, &path, found);
                found.push(path);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                paths(item, &format!("{path}/{at}"), found);
            }
        }
        _ => {}
    }
}

/// Takes a member away, or makes it null.
fn spoil(object: &mut Value, path: &str, is_null: bool) {
    let Some((parent, name)) = path.rsplit_once('/') else {
        return;
    };
    let name = name.replace("~1", "/").replace("~0", "~");
    let Some(members) = object.pointer_mut(parent).and_then(Value::as_object_mut) else {
        return;
    };
    match is_null {
        true => drop(members.insert(name, Value::Null)),
        false => drop(members.remove(&name)),
    }
}

#[test]
fn a_watch_tells_what_a_list_tells() {
    check(&pod());
    let mut all = Vec::new();
    paths(&pod(), "", &mut all);
    for path in all {
        for is_null in [false, true] {
            let mut object = pod();
            spoil(&mut object, &path, is_null);
            check(&object);
        }
    }
    check(&json!({"metadata": {"uid": "u"}}));
    check(&json!({"metadata": {"uid": "u"}, "spec": null, "status": {}}));
    check(&json!({"metadata": {"uid": "u"}, "spec": {"affinity": {}}, "status": {}}));
    check(&json!({}));
}

#[test]
fn little_is_looked_at_and_what_counts_is_kept() {
    let read: PodTold = serde_json::from_str(&pod().to_string()).unwrap();
    let text = read.text.unwrap();
    assert!(text.contains("livenessProbe") && !text.contains("managedFields"));
    let seen = read.object.to_string();
    assert!(!seen.contains("livenessProbe") && !seen.contains("conditions"));
    assert!(!text.contains("tolerations"), "it has been taken");
    let mut open = pod();
    spoil(&mut open, "/status/startTime", false);
    let read: PodTold = serde_json::from_str(&open.to_string()).unwrap();
    assert!(read.text.unwrap().contains("tolerations"));
}

proptest! {
    #[test]
    fn whatever_is_missing_or_null(spoilt in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..30)) {
        let mut object = pod();
        let mut all = Vec::new();
        paths(&object, "", &mut all);
        for (which, is_null) in spoilt {
            spoil(&mut object, which.get::<String>(&all), is_null);
        }
        check(&object);
    }
}
