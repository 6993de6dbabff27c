//! What applying and updating do, example by example, as Kubernetes does it.

use serde_json::{Value, json};

use super::managers::{Managers, Who, same_but_times, updated as update};
use super::operation::{ApplyError, Conflict, apply};
use crate::types::{Type, type_of};

fn deployment() -> &'static Type {
    type_of("apps", "v1", "Deployment").unwrap()
}

fn who<'a>(manager: &'a str, now: &'a str) -> Who<'a> {
    Who {
        manager,
        api_version: "apps/v1",
        subresource: "",
        now,
        reset: &[&["status"]],
        versions: None,
    }
}

/// An object that has nothing yet.
fn nothing() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}})
}

fn config(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "n"}, "spec": spec})
}

fn container(name: &str, image: &str) -> Value {
    json!({"name": name, "image": image})
}

fn with_containers(containers: &[Value]) -> Value {
    config(json!({"template": {"spec": {"containers": containers}}}))
}

fn applied(live: &Value, config: &Value, manager: &str) -> Value {
    apply(
        deployment(),
        live,
        config,
        &who(manager, "2026-01-01T00:00:00Z"),
        false,
    )
    .unwrap()
}

fn forced(live: &Value, config: &Value, manager: &str) -> Value {
    apply(
        deployment(),
        live,
        config,
        &who(manager, "2026-01-01T00:00:00Z"),
        true,
    )
    .unwrap()
}

fn refused(live: &Value, config: &Value, manager: &str) -> String {
    match apply(
        deployment(),
        live,
        config,
        &who(manager, "2026-01-01T00:00:00Z"),
        false,
    ) {
        Err(error @ ApplyError::Conflicts { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// An ordinary write of what `change` makes of the object.
fn updated(live: &Value, manager: &str, now: &str, change: impl Fn(&mut Value)) -> Value {
    let mut new = live.clone();
    change(&mut new);
    let sent = new["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    let entries = update(deployment(), live, &new, sent, &who(manager, now));
    let metadata = new["metadata"].as_object_mut().unwrap();
    match entries {
        Some(entries) => metadata.insert("managedFields".into(), entries),
        None => metadata.remove("managedFields"),
    };
    new
}

/// `manager/operation: fields` of every entry.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let text = |entry: &Value| {
        format!(
            "{}/{}: {}",
            entry["manager"].as_str().unwrap(),
            entry["operation"].as_str().unwrap(),
            entry["fieldsV1"]
        )
    };
    entries.into_iter().flatten().map(text).collect()
}

fn images(object: &Value) -> Vec<&str> {
    let list = object.pointer("/spec/template/spec/containers");
    let list = list
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    list.iter().map(|c| c["image"].as_str().unwrap()).collect()
}

#[test]
fn a_create_owns_what_it_says() {
    let new = config(
        json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "strategy": {"rollingUpdate": {"maxSurge": 1}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"securityContext": {}, "containers": [
            {"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]}}}),
    );
    let entries = update(deployment(), &nothing(), &new, None, &who("m", "t")).unwrap();
    let written = json!([entries[0]["fieldsV1"]]).to_string();
    // As a real cluster shows it: `.` for what is behind a pointer, none for what is not.
    assert_eq!(
        written,
        json!([{"f:spec": {"f:replicas": {}, "f:selector": {}, "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
            "f:template": {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:securityContext": {}, "f:containers": {
                "k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}, "f:ports": {
                    ".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}}}}])
        .to_string()
    );
}

#[test]
fn updates_take_fields_from_others() {
    let live = updated(&nothing(), "one", "2026-01-01T00:00:01Z", |o| {
        *o = config(json!({"replicas": 1, "paused": true}))
    });
    let live = updated(&live, "two", "2026-01-01T00:00:02Z", |o| {
        o["spec"]["replicas"] = 2.into()
    });
    assert_eq!(
        owners(&live),
        [
            r#"one/Update: {"f:spec":{"f:paused":{}}}"#,
            r#"two/Update: {"f:spec":{"f:replicas":{}}}"#
        ]
    );
    // Who removes a field takes nothing; a write without a change changes no owner and no time.
    let live = updated(&live, "three", "2026-01-01T00:00:03Z", |o| {
        o["spec"].as_object_mut().unwrap().remove("paused");
    });
    assert_eq!(
        owners(&live),
        [r#"two/Update: {"f:spec":{"f:replicas":{}}}"#]
    );
    let again = updated(&live, "four", "2026-01-01T00:00:04Z", |_| {});
    assert_eq!(again, live);
    assert_eq!(
        live["metadata"]["managedFields"][0]["time"],
        "2026-01-01T00:00:02Z"
    );
}

#[test]
fn clients_can_reset_the_managers_but_not_lose_them() {
    let live = updated(&nothing(), "one", "2026-01-01T00:00:01Z", |o| {
        *o = config(json!({"replicas": 1}))
    });
    let send = |sent: Value| {
        updated(&live, "two", "2026-01-01T00:00:02Z", |o| {
            o["metadata"]["managedFields"] = sent.clone();
        })
    };
    for reset in [json!([]), json!([{}])] {
        assert_eq!(owners(&send(reset)), [""; 0]);
    }
    for kept in [
        json!(null),
        json!([{"manager": "x"}]),
        json!([{"manager": "x", "operation": "Update",
        "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"nonsense": {}}}]),
    ] {
        assert_eq!(owners(&send(kept)), owners(&live));
    }
    let other = json!([{"manager": "x", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    assert_eq!(
        owners(&send(other.clone())),
        [r#"x/Apply: {"f:spec":{"f:replicas":{}}}"#]
    );
    // A subresource has no say.
    let status = Who {
        subresource: "status",
        ..who("two", "2026-01-01T00:00:02Z")
    };
    let entries = update(deployment(), &live, &live, Some(other), &status);
    assert_eq!(entries.as_ref(), live.pointer("/metadata/managedFields"));
}

#[test]
fn the_oldest_of_many_updaters_become_one() {
    let mut live = nothing();
    for i in 0..14 {
        let (manager, now) = (format!("m{i:02}"), format!("2026-01-01T00:00:{i:02}Z"));
        live = updated(&live, &manager, &now, |o| {
            o["metadata"]["labels"][format!("l{i}")] = "x".into();
        });
    }
    let owners = owners(&live);
    assert_eq!(owners.len(), 10);
    assert_eq!(
        owners[0],
        r#"ancient-changes/Update: {"f:metadata":{"f:labels":{".":{},"f:l0":{},"f:l1":{},"f:l2":{},"f:l3":{},"f:l4":{}}}}"#
    );
    assert_eq!(
        live["metadata"]["managedFields"][0]["time"],
        "2026-01-01T00:00:04Z"
    );
    assert!(owners[9].starts_with("m13/"));
}

#[test]
fn what_is_applied_no_longer_goes() {
    let two = with_containers(&[container("a", "1"), container("b", "2")]);
    let live = applied(&nothing(), &two, "one");
    assert_eq!(images(&live), ["1", "2"]);
    let live = applied(&live, &with_containers(&[container("b", "2")]), "one");
    assert_eq!(images(&live), ["2"]);
    assert_eq!(
        owners(&live),
        [
            r#"one/Apply: {"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"b\"}":{".":{},"f:image":{},"f:name":{}}}}}}}"#
        ]
    );
    // Nothing is left of a spec that nobody applies.
    let live = applied(
        &live,
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}),
        "one",
    );
    assert_eq!(live.get("spec"), None);
    assert_eq!(owners(&live), [""; 0]);
}

#[test]
fn what_others_own_stays() {
    let live = applied(&nothing(), &with_containers(&[container("a", "1")]), "one");
    let live = applied(&live, &with_containers(&[container("b", "2")]), "two");
    assert_eq!(images(&live), ["1", "2"]);
    // Both own the item; only its image is one's alone.
    let live = applied(
        &live,
        &with_containers(&[json!({"name": "b", "tty": true})]),
        "one",
    );
    assert_eq!(images(&live), ["2"]);
    let live = applied(&live, &with_containers(&[]), "one");
    assert_eq!(images(&live), ["2"]);
    assert_eq!(live.pointer("/spec/template/spec/containers/0/tty"), None);
    // What an updater added under an applier's item goes with the item.
    let live = updated(&live, "three", "2026-01-01T00:00:09Z", |o| {
        o["spec"]["template"]["spec"]["containers"][0]["stdin"] = true.into();
    });
    let live = applied(&live, &with_containers(&[]), "two");
    assert_eq!(live.get("spec"), None);
}

#[test]
fn conflicts_name_their_owners() {
    let live = updated(&nothing(), "edit", "2026-01-01T00:00:01Z", |o| {
        *o = config(json!({"replicas": 1, "paused": true}));
    });
    let live = applied(&live, &config(json!({"minReadySeconds": 5})), "two");
    let wanted = config(json!({"replicas": 2}));
    assert_eq!(
        refused(&live, &wanted, "one"),
        r#"Apply failed with 1 conflict: conflict with "edit" using apps/v1: .spec.replicas"#
    );
    let more = config(json!({"replicas": 2, "minReadySeconds": 6, "paused": true}));
    assert_eq!(
        refused(&live, &more, "one"),
        "Apply failed with 2 conflicts: conflicts with \"edit\" using apps/v1:\n- .spec.replicas\nconflicts with \"two\":\n- .spec.minReadySeconds"
    );
    let forced = forced(&live, &more, "one");
    assert_eq!(
        owners(&forced),
        [
            r#"one/Apply: {"f:spec":{"f:minReadySeconds":{},"f:paused":{},"f:replicas":{}}}"#,
            r#"edit/Update: {"f:spec":{"f:paused":{}}}"#
        ]
    );
    // The same value is no conflict: both own it.
    let shared = applied(&live, &config(json!({"replicas": 1})), "one");
    assert_eq!(owners(&shared).len(), 3);
}

#[test]
fn a_field_is_the_same_in_every_version() {
    let old = Who {
        api_version: "apps/v1beta2",
        ..who("old", "2026-01-01T00:00:01Z")
    };
    let mut live = config(json!({"replicas": 1, "paused": true}));
    live["metadata"]["managedFields"] =
        update(deployment(), &nothing(), &live, None, &old).unwrap();
    assert_eq!(
        refused(&live, &config(json!({"replicas": 2})), "one"),
        r#"Apply failed with 1 conflict: conflict with "old" using apps/v1beta2: .spec.replicas"#
    );
    let live = updated(&live, "new", "2026-01-01T00:00:02Z", |o| {
        o["spec"]["replicas"] = 2.into();
    });
    assert_eq!(
        owners(&live),
        [
            r#"old/Update: {"f:spec":{"f:paused":{}}}"#,
            r#"new/Update: {"f:spec":{"f:replicas":{}}}"#
        ]
    );
}

#[test]
fn applying_again_changes_nothing() {
    let spec = json!({"replicas": 1, "template": {"spec": {"hostNetwork": false, "containers": [
        {"name": "a", "resources": {"requests": {"cpu": "1000m"}}, "ports": [{"containerPort": 80}]}]}}});
    let live = applied(&nothing(), &config(spec.clone()), "one");
    let cpu = "/spec/template/spec/containers/0/resources/requests/cpu";
    assert_eq!(live.pointer(cpu), Some(&json!("1")));
    let later = apply(
        deployment(),
        &live,
        &config(spec),
        &who("one", "2027-01-01T00:00:00Z"),
        false,
    );
    assert_eq!(later.unwrap(), live);
}

#[test]
fn items_come_in_the_order_of_the_configuration() {
    let names = |object: &Value| -> String {
        let list = object.pointer("/spec/template/spec/containers").unwrap();
        list.as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect()
    };
    let of = |names: &str| {
        let all: Vec<Value> = names
            .chars()
            .map(|n| container(&n.to_string(), "i"))
            .collect();
        with_containers(&all)
    };
    for (live, config, merged) in [
        ("abc", "ac", "abc"),
        ("abc", "ca", "bca"),
        ("ab", "xa", "xab"),
        ("ab", "bxa", "bxa"),
        ("abcd", "dxb", "acdxb"),
        ("a", "xyz", "axyz"),
    ] {
        let before = applied(&nothing(), &of(live), "one");
        assert_eq!(
            names(&applied(&before, &of(config), "two")),
            merged,
            "{live} {config}"
        );
    }
}

#[test]
fn only_a_change_of_the_object_has_a_time() {
    let apply_at = |live: &Value, spec: Value, manager: &str, now: &str| {
        apply(deployment(), live, &config(spec), &who(manager, now), false).unwrap()
    };
    let times = |object: &Value| -> Vec<Value> {
        let entries = object["metadata"]["managedFields"].as_array();
        entries.unwrap().iter().map(|e| e["time"].clone()).collect()
    };
    let both = json!({"replicas": 1, "paused": true});
    let live = apply_at(&nothing(), both, "one", "2026-01-01T00:00:00Z");
    let one = json!({"replicas": 1});
    let live = apply_at(&live, one.clone(), "two", "2026-01-01T00:00:01Z");
    // Who joins the owners has none, and stands first.
    assert_eq!(times(&live), [json!(null), json!("2026-01-01T00:00:00Z")]);
    assert!(owners(&live)[0].starts_with("two/Apply"));
    let paused = json!({"paused": true});
    let live = apply_at(&live, paused.clone(), "one", "2026-01-01T00:00:02Z");
    assert_eq!(times(&live), [json!(null), json!("2026-01-01T00:00:00Z")]);
    assert!(owners(&live)[1].ends_with(r#"{"f:spec":{"f:paused":{}}}"#));
    let live = apply_at(&live, json!({"replicas": 2}), "two", "2026-01-01T00:00:03Z");
    assert_eq!(
        times(&live),
        [json!("2026-01-01T00:00:00Z"), json!("2026-01-01T00:00:03Z")]
    );
}

#[test]
fn another_order_of_items_has_a_time() {
    let of = |names: [&str; 2]| with_containers(&names.map(|name| container(name, "i")));
    let live = applied(&nothing(), &of(["a", "b"]), "one");
    let turned = apply(
        deployment(),
        &live,
        &of(["b", "a"]),
        &who("one", "2027-01-01T00:00:00Z"),
        false,
    );
    let turned = turned.unwrap();
    let entry = &turned["metadata"]["managedFields"][0];
    assert_eq!(entry["time"], "2027-01-01T00:00:00Z");
}

#[test]
fn a_fraction_of_zero_is_no_change() {
    let schema = crate::Structural::compile(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "n": {"type": "number", "default": 2.0}, "m": {"type": "number"}}}}}))
    .unwrap();
    let object = |n: Value| json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": {"n": n}});
    let writer = Who {
        api_version: "a/v1",
        ..who("one", "2026-01-01T00:00:00Z")
    };
    // As an earlier server stored it.
    let mut live = object(json!(1.0));
    live["metadata"]["uid"] = "u".into();
    let entries = update(&schema, &json!({"metadata": {}}), &live, None, &writer).unwrap();
    live["metadata"]["managedFields"] = entries;
    let other = Who {
        manager: "two",
        ..writer
    };
    let mut config = object(json!(1));
    config["spec"] = json!({"m": 1});
    let merged = apply(&schema, &live, &config, &other, false).unwrap();
    assert_eq!(
        owners(&merged),
        [
            r#"two/Apply: {"f:spec":{"f:m":{}}}"#,
            r#"one/Update: {"f:spec":{".":{},"f:n":{}}}"#
        ]
    );
    let mut filled = json!({"spec": {}});
    schema.default(&mut filled);
    assert_eq!(filled.to_string(), r#"{"spec":{"n":2}}"#);
}

#[test]
fn a_null_takes_a_value_away() {
    let live = applied(
        &nothing(),
        &config(json!({"replicas": 1, "paused": true})),
        "one",
    );
    let live = applied(
        &live,
        &config(json!({"replicas": null, "paused": true, "template": null})),
        "one",
    );
    assert_eq!(live["spec"], json!({"paused": true}));
}

#[test]
fn kubectl_takes_over_what_it_applied_itself() {
    let last = config(json!({"replicas": 1, "paused": true}));
    let live = updated(
        &nothing(),
        "kubectl-client-side-apply",
        "2026-01-01T00:00:01Z",
        |o| {
            *o = last.clone();
            o["metadata"]["annotations"] =
                json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
        },
    );
    let wanted = config(json!({"replicas": 3, "paused": true}));
    assert!(refused(&live, &wanted, "flux").contains(".spec.replicas"));
    let taken = applied(&live, &wanted, "kubectl");
    assert_eq!(taken["spec"]["replicas"], 3);
    let annotation =
        &taken["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    let synced: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
    assert_eq!(synced, wanted);
    // Not what somebody else has changed since.
    let scaled = updated(&live, "hpa", "2026-01-01T00:00:02Z", |o| {
        o["spec"]["replicas"] = 9.into();
    });
    assert_eq!(
        refused(&scaled, &wanted, "kubectl"),
        r#"Apply failed with 1 conflict: conflict with "hpa" using apps/v1: .spec.replicas"#
    );
}

#[test]
fn other_doors_own_other_fields() {
    let status = Who {
        subresource: "status",
        reset: &[&["spec"]],
        versions: None,
        ..who("controller", "2026-01-01T00:00:05Z")
    };
    let live = applied(&nothing(), &config(json!({"replicas": 1})), "one");
    let mut wanted = config(json!({"replicas": 7}));
    wanted["status"] =
        json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    let live = apply(deployment(), &live, &wanted, &status, false).unwrap();
    assert_eq!(
        owners(&live),
        [
            r#"one/Apply: {"f:spec":{"f:replicas":{}}}"#,
            r#"controller/Apply: {"f:status":{"f:conditions":{"k:{\"type\":\"Available\"}":{".":{},"f:status":{},"f:type":{}}},"f:replicas":{}}}"#
        ]
    );
    assert_eq!(
        live["metadata"]["managedFields"][1]["subresource"],
        "status"
    );
}

#[test]
fn a_time_that_is_applied_no_longer_is_null() {
    let status = Who {
        subresource: "status",
        reset: &[&["spec"]],
        ..who("controller", "2026-01-01T00:00:05Z")
    };
    let live = applied(&nothing(), &config(json!({"replicas": 1})), "one");
    let mut wanted = config(json!({"replicas": 1}));
    wanted["status"] = json!({"conditions": [
        {"type": "Available", "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"}]});
    let live = apply(deployment(), &live, &wanted, &status, false).unwrap();
    assert_eq!(
        live["status"]["conditions"],
        json!([{"type": "Available", "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": null}])
    );
    wanted["status"] = json!({"conditions": [{"type": "Available", "status": "True"}]});
    let live = apply(deployment(), &live, &wanted, &status, false).unwrap();
    assert_eq!(
        live["status"]["conditions"],
        json!([{"type": "Available", "status": "True", "lastUpdateTime": null, "lastTransitionTime": null}])
    );
}

#[test]
fn what_nobody_was_entered_for_was_there_before() {
    let mut live = config(json!({"replicas": 1, "template": {"spec": {"hostPID": true}}}));
    live["metadata"]["uid"] = "u".into();
    let untracked = updated(&live, "edit", "2026-01-01T00:00:01Z", |o| {
        o["spec"]["replicas"] = 2.into();
    });
    assert_eq!(owners(&untracked), [""; 0]);
    assert_eq!(
        refused(&untracked, &config(json!({"replicas": 3})), "one"),
        r#"Apply failed with 1 conflict: conflict with "before-first-apply" using apps/v1: .spec.replicas"#
    );
    let shared = applied(&untracked, &config(json!({"replicas": 2})), "one");
    assert_eq!(
        owners(&shared),
        [
            r#"one/Apply: {"f:spec":{"f:replicas":{}}}"#,
            r#"before-first-apply/Update: {"f:spec":{"f:replicas":{},"f:template":{"f:spec":{"f:hostPID":{}}}}}"#
        ]
    );
}

#[test]
fn the_deepest_objects_fit_the_stack() {
    let run = || {
        let ty = type_of("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
        let who = Who {
            api_version: "apiextensions.k8s.io/v1",
            ..who("one", "2026-01-01T00:00:00Z")
        };
        let object = |levels: usize, leaf: &str| {
            let mut schema = json!({ "type": leaf });
            for _ in 0..levels {
                schema = json!({ "not": schema });
            }
            json!({"apiVersion": who.api_version, "kind": "CustomResourceDefinition", "metadata": {},
                "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}], "scope": "x"}})
        };
        let live = apply(ty, &json!({}), &object(500, "a"), &who, false).unwrap();
        let live = apply(ty, &live, &object(500, "b"), &who, false).unwrap();
        let entries = update(ty, &live, &object(400, "a"), None, &who);
        assert!(Managers::read(entries.as_ref()).is_some_and(|managers| !managers.0.is_empty()));
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(run);
    thread.unwrap().join().unwrap();
}

#[test]
fn misfits_are_refused() {
    let wrong = config(json!({"replcas": 1}));
    let error = apply(deployment(), &nothing(), &wrong, &who("one", "t"), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to create typed patch object (n/web; apps/v1, Kind=Deployment): .spec.replcas: field not declared in schema"
    );
}

#[test]
fn times_do_not_make_a_difference() {
    let live = updated(&nothing(), "one", "2026-01-01T00:00:01Z", |o| {
        *o = config(json!({"replicas": 1}));
    });
    let mut later = live["metadata"]["managedFields"].clone();
    later[0]["time"] = "2026-01-01T00:00:09Z".into();
    assert!(same_but_times(
        Some(&later),
        live.pointer("/metadata/managedFields")
    ));
    later[0]["manager"] = "two".into();
    assert!(!same_but_times(
        Some(&later),
        live.pointer("/metadata/managedFields")
    ));
}

/// Applies to a custom resource.
fn custom(schema: &crate::Structural, live: &Value, config: &Value, manager: &str) -> Value {
    apply(
        schema,
        live,
        config,
        &who(manager, "2026-01-01T00:00:00Z"),
        false,
    )
    .unwrap()
}

/// What a manager owns.
fn owned_by(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["manager"] == manager);
    entry.unwrap()["fieldsV1"].clone()
}

#[test]
fn custom_resources_are_applied_along_their_schema() {
    let schema = crate::Structural::compile(&json!({"type": "object", "properties": {"spec": {
        "type": "object", "properties": {
            "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "required": ["k"], "properties": {
                    "k": {"type": "string"}, "v": {"x-kubernetes-int-or-string": true}}}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "list": {"type": "array", "items": {"type": "string"}},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}}}))
    .unwrap();
    let nothing = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {}});
    let config = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x", "labels": {"l": "1"}},
        "spec": {"keyed": [{"k": "a", "v": 1}], "set": ["s"], "list": ["l"], "whole": {"w": "1"},
            "open": {"x": {"y": 1}, "z": [{"k": 1}]},
            "inner": {"apiVersion": "v1", "kind": "P", "metadata": {"labels": {"m": "2"}}, "data": {"d": "1"}}}});
    let live = custom(&schema, &nothing, &config, "one");
    assert_eq!(
        owned_by(&live, "one"),
        json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:spec": {
            "f:keyed": {"k:{\"k\":\"a\"}": {".": {}, "f:k": {}, "f:v": {}}},
            "f:set": {"v:\"s\"": {}}, "f:list": {}, "f:whole": {},
            "f:open": {"f:x": {".": {}, "f:y": {}}, "f:z": {}},
            "f:inner": {"f:apiVersion": {}, "f:kind": {}, "f:metadata": {"f:labels": {"f:m": {}}},
                "f:data": {".": {}, "f:d": {}}}}})
    );
    let more = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": {
        "keyed": [{"k": "b"}], "set": ["t"], "open": {"x": {"u": 2}}}});
    let live = custom(&schema, &live, &more, "two");
    assert_eq!(
        live["spec"]["keyed"],
        json!([{"k": "a", "v": 1}, {"k": "b"}])
    );
    assert_eq!(live["spec"]["set"], json!(["s", "t"]));
    assert_eq!(live["spec"]["open"]["x"], json!({"y": 1, "u": 2}));
    // Lists without a type, and maps that say so, change hands as a whole.
    for field in ["list", "whole"] {
        let value = if field == "list" {
            json!(["m"])
        } else {
            json!({"v": "1"})
        };
        let config = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": {field: value}});
        let result = apply(
            &schema,
            &live,
            &config,
            &who("two", "2026-01-01T00:00:00Z"),
            false,
        );
        let Err(ApplyError::Conflicts { conflicts, .. }) = result else {
            panic!("{field}: {result:?}");
        };
        assert_eq!(conflicts[0].path, format!(".spec.{field}"));
    }
    let unknown =
        json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": {"no": 1}});
    let error = apply(
        &schema,
        &live,
        &unknown,
        &who("two", "2026-01-01T00:00:00Z"),
        false,
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .ends_with(": .spec.no: field not declared in schema")
    );
    // Without a schema everything is taken as it looks.
    let live = custom(crate::Structural::open(), &nothing, &config, "one");
    assert_eq!(owned_by(&live, "one")["f:spec"]["f:keyed"], json!({}));
    assert_eq!(
        owned_by(&live, "one")["f:spec"]["f:whole"],
        json!({".": {}, "f:w": {}})
    );
}

#[test]
fn conflicts_of_a_scale_are_told_in_its_terms() {
    let conflict = |owner: &str| Conflict {
        owner: owner.to_owned(),
        path: ".spec.size".to_owned(),
    };
    for (owners, text) in [
        (
            &[r#""a" with subresource "scale" using x.io/v1"#][..],
            r#"Apply failed with 1 conflict: conflict with "a" with subresource "scale" using autoscaling/v1: .spec.replicas"#,
        ),
        (
            &[
                r#""a using b""#,
                r#""c" using x.io/v1"#,
                r#""c" using x.io/v2"#,
            ][..],
            "Apply failed with 2 conflicts: conflicts with \"a using b\":\n- .spec.replicas\nconflicts with \"c\" using autoscaling/v1:\n- .spec.replicas",
        ),
    ] {
        let conflicts = owners.iter().map(|owner| conflict(owner)).collect();
        let message = String::new();
        let error = ApplyError::Conflicts { message, conflicts };
        assert_eq!(error.of_scale().to_string(), text);
    }
    let misfit = ApplyError::Misfit("no".to_owned());
    assert_eq!(misfit.clone().of_scale(), misfit);
}
