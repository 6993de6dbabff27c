use super::*;
use crate::types::{type_named, type_of};
use proptest::prelude::*;
use serde_json::json;

fn deployment() -> Option<&'static Type> {
    type_of("apps", "v1", "Deployment")
}

fn strict(ty: Option<&Type>, body: &Value) -> Result<Value, String> {
    json(ty, body.to_string().as_bytes(), FieldValidation::Strict)
        .map(|d| d.value)
        .map_err(|e| e.to_string())
}

#[test]
fn unknown_and_duplicate_fields() {
    let body = br#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","name":"b","labels":{"x":"1","x":"2"}},
        "foo":{"y":1,"y":2},"spec":{"foo":1,"replicas":2,"template":{"spec":{"containers":[{"name":"c","imag":"x"}]}}}}"#;
    let decoded = json(deployment(), body, FieldValidation::Warn).unwrap();
    assert_eq!(
        decoded.unknown,
        ["foo", "spec.foo", "spec.template.spec.containers[0].imag"]
    );
    assert_eq!(decoded.duplicate, ["metadata.name", "metadata.labels.x"]);
    assert_eq!(
        decoded.value,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "b", "labels": {"x": "2"}},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "c"}]}}}})
    );
    let error = json(deployment(), body, FieldValidation::Strict).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"strict decoding error: duplicate field "metadata.name", duplicate field "metadata.labels.x", unknown field "foo", unknown field "spec.foo", unknown field "spec.template.spec.containers[0].imag""#
    );
    let silent = json(deployment(), body, FieldValidation::Ignore).unwrap();
    assert!(silent.problems.is_empty());
    assert_eq!(silent.value, decoded.value);
}

#[test]
fn names_are_case_sensitive() {
    let body = json!({"Spec": {"replicas": 1}});
    assert_eq!(
        strict(deployment(), &body),
        Err(r#"strict decoding error: unknown field "Spec""#.to_owned())
    );
}

#[test]
fn wrong_types() {
    let pod = type_of("", "v1", "Pod");
    let container = |field: &str, value: Value| json!({"spec": {"containers": [{field: value}]}});
    for (ty, body, error) in [
        (
            deployment(),
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            deployment(),
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            deployment(),
            json!({"spec": {"replicas": 3_000_000_000u32}}),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            pod,
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            pod,
            container("env", json!([{"name": "a", "value": 1}])),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            pod,
            container("ports", json!({})),
            "json: cannot unmarshal object into Go struct field Container.spec.containers.ports of type []v1.ContainerPort",
        ),
        (
            pod,
            container("resources", json!([])),
            "json: cannot unmarshal array into Go struct field Container.spec.containers.resources of type v1.ResourceRequirements",
        ),
        (
            pod,
            json!({"spec": {"restartPolicy": 1}}),
            "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            pod,
            container("securityContext", json!({"capabilities": {"add": [true]}})),
            "json: cannot unmarshal bool into Go struct field Capabilities.spec.containers.securityContext.capabilities.add of type v1.Capability",
        ),
        (
            pod,
            container("securityContext", json!({"capabilities": {"add": "a"}})),
            "json: cannot unmarshal string into Go struct field Capabilities.spec.containers.securityContext.capabilities.add of type []v1.Capability",
        ),
        (
            pod,
            container("resources", json!({"limits": []})),
            "json: cannot unmarshal array into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
        ),
        (
            pod,
            container("resources", json!({"limits": {"cpu": true}})),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            pod,
            json!({"metadata": {"creationTimestamp": 1}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            type_of("", "v1", "Service"),
            json!({"spec": {"ports": [{"targetPort": 3_000_000_000u32}]}}),
            "json: cannot unmarshal number 3000000000 into Go struct field ServicePort.spec.ports.targetPort of type int32",
        ),
        (
            type_of("", "v1", "Service"),
            json!({"spec": {"ports": [{"targetPort": {}}]}}),
            "json: cannot unmarshal object into Go struct field ServicePort.spec.ports.targetPort of type int32",
        ),
        (
            type_of("authorization.k8s.io", "v1", "SubjectAccessReview"),
            json!({"spec": {"extra": {"a": [1]}}}),
            "json: cannot unmarshal number into Go struct field SubjectAccessReviewSpec.spec.extra of type string",
        ),
        (
            pod,
            json!({"spec": {"hostNetwork": "yes"}}),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            pod,
            container("resources", json!({"limits": {"cpu": "a"}})),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            pod,
            json!([]),
            "json: cannot unmarshal array into Go value of type v1.Pod",
        ),
        (
            type_of("", "v1", "Secret"),
            json!({"data": {"a": "***"}}),
            "illegal base64 data at input byte 0",
        ),
    ] {
        assert_eq!(strict(ty, &body), Err(error.to_owned()), "{body}");
    }
}

#[test]
fn values_are_made_canonical() {
    let body = json!({
        "metadata": {"creationTimestamp": null, "name": "a", "labels": {}, "finalizers": [], "generation": 0,
            "deletionTimestamp": "2026-11-21T03:16:31.5+01:00", "deletionGracePeriodSeconds": 0},
        "spec": {
            "containers": [{"name": "c", "command": null, "args": [], "env": [null, {"name": "x", "value": ""}],
                "resources": {"limits": {"cpu": 0.5, "memory": "1024Ki", "nvidia.com/gpu": null}},
                "securityContext": {"privileged": false}, "stdin": false}],
            "hostNetwork": false, "terminationGracePeriodSeconds": 0, "nodeName": "",
            "automountServiceAccountToken": false, "securityContext": {},
        },
        "status": {},
    });
    assert_eq!(
        strict(type_of("", "v1", "Pod"), &body).unwrap(),
        json!({
            "metadata": {"name": "a", "deletionTimestamp": "2026-11-21T02:16:31Z", "deletionGracePeriodSeconds": 0},
            "spec": {
                "containers": [{"name": "c", "env": [{}, {"name": "x"}],
                    "resources": {"limits": {"cpu": "500m", "memory": "1Mi", "nvidia.com/gpu": "0"}},
                    "securityContext": {"privileged": false}}],
                "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "securityContext": {},
            },
            "status": {},
        })
    );
}

#[test]
fn what_go_never_omits_is_there_by_whatever_way_it_came() {
    let ty = type_of("", "v1", "Pod").unwrap();
    let decoded = json!({"status": {"conditions": [
        {"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null}],
        "containerStatuses": [{"name": "c", "state": {"running": {"startedAt": null}}}]}});
    for condition in [
        json!({"type": "Ready", "status": "True"}),
        json!({"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null}),
        json!({"type": "Ready", "status": "True", "lastProbeTime": "0001-01-01T00:00:00Z"}),
    ] {
        let body = json!({"status": {"conditions": [condition],
            "containerStatuses": [{"name": "c", "state": {"running": {}}}]}});
        assert_eq!(strict(Some(ty), &body).as_ref(), Ok(&decoded), "{body}");
    }
    let text = "status:\n  conditions:\n  - {type: Ready, status: 'True'}\n  containerStatuses:\n  - {name: c, state: {running: {}}}\n";
    let from_yaml = yaml(ty, text.as_bytes(), FieldValidation::Strict).unwrap();
    assert_eq!(from_yaml.value, decoded);
    let raw = crate::protobuf::encode_message(ty, &decoded).unwrap();
    let from_protobuf = crate::protobuf::decode_message(ty, &raw).unwrap();
    assert_eq!(from_protobuf, decoded);
    // Not the times behind a pointer, nor those of metadata, which Go omits.
    let body = json!({"metadata": {"creationTimestamp": null, "deletionTimestamp": null}, "status": {"startTime": null}});
    assert_eq!(
        strict(Some(ty), &body),
        Ok(json!({"metadata": {}, "status": {}}))
    );
    assert_eq!(
        strict(
            type_of("", "v1", "Event"),
            &json!({"reportingComponent": null, "source": null})
        ),
        Ok(
            json!({"source": {}, "firstTimestamp": null, "lastTimestamp": null, "eventTime": null,
            "reportingComponent": "", "reportingInstance": ""})
        )
    );
}

#[test]
fn zeros_are_written_and_left_out_as_go_does() {
    let env = |reference: Value| json!({"spec": {"containers": [{"env": [{"valueFrom": {"resourceFieldRef": reference}}]}]}});
    for (group, kind, body, expected) in [
        (
            "rbac.authorization.k8s.io",
            "Role",
            json!({}),
            json!({"rules": null}),
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({}),
            json!({"endpoints": null, "ports": null}),
        ),
        (
            "apps",
            "StatefulSet",
            json!({"spec": {}}),
            json!({"spec": {"serviceName": ""}}),
        ),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            json!({"spec": {}}),
            json!({"spec": {"podSelector": {}}}),
        ),
        (
            "",
            "PersistentVolumeClaim",
            json!({"spec": {"dataSource": {"name": "n"}}}),
            json!({"spec": {"dataSource": {"name": "n", "apiGroup": null}}}),
        ),
        (
            "",
            "Pod",
            env(json!({"resource": "r"})),
            env(json!({"resource": "r", "divisor": "0"})),
        ),
        (
            "",
            "Pod",
            env(json!({"resource": "r", "divisor": null})),
            env(json!({"resource": "r", "divisor": "0"})),
        ),
        // Required, and left out nevertheless.
        (
            "networking.k8s.io",
            "IPAddress",
            json!({"spec": {"parentRef": {"name": ""}}}),
            json!({"spec": {"parentRef": {}}}),
        ),
        (
            "resource.k8s.io",
            "ResourceSlice",
            json!({"spec": {"devices": []}}),
            json!({"spec": {}}),
        ),
    ] {
        let ty = type_of(group, "v1", kind).unwrap();
        let decoded = strict(Some(ty), &body).unwrap();
        assert_eq!(decoded, expected, "{body}");
        let raw = crate::protobuf::encode_message(ty, &decoded).unwrap();
        assert_eq!(crate::protobuf::decode_message(ty, &raw), Ok(expected));
    }
}

#[test]
fn special_forms() {
    let service = json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 0, "targetPort": 0}]}});
    assert_eq!(
        strict(type_of("", "v1", "Service"), &service).unwrap(),
        json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 0}]}})
    );
    let crd = json!({"spec": {"group": "g", "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {
        "type": "object", "additionalProperties": false, "items": [{"type": "string"}], "default": {"any": [1, null]},
        "properties": {"a": {"x-kubernetes-preserve-unknown-fields": true, "minimum": 0, "exclusiveMinimum": false}}}}}]}});
    assert_eq!(
        strict(
            type_of("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
            &crd
        )
        .unwrap(),
        json!({"spec": {"group": "g", "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {
            "type": "object", "additionalProperties": false, "items": [{"type": "string"}], "default": {"any": [1, null]},
            "properties": {"a": {"x-kubernetes-preserve-unknown-fields": true, "minimum": 0}}}}}]}})
    );
    let lease = |time: &str| {
        let lease = json!({"spec": {"renewTime": time, "holderIdentity": ""}});
        strict(type_of("coordination.k8s.io", "v1", "Lease"), &lease)
    };
    assert_eq!(
        lease("2026-11-21T03:16:31.123456+01:00").unwrap(),
        json!({"spec": {"renewTime": "2026-11-21T02:16:31.123456Z", "holderIdentity": ""}})
    );
    assert_eq!(
        lease("2026-11-21T02:16:31Z"),
        Err(r#"parsing time "2026-11-21T02:16:31Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#.to_owned())
    );
    let revision = json!({"data": {"spec": {"anything": null}}, "revision": 1});
    assert_eq!(
        strict(type_of("apps", "v1", "ControllerRevision"), &revision).unwrap(),
        revision
    );
    let managed = json!({"metadata": {"managedFields": [{"fieldsV1": {"f:spec": {}}}]}});
    assert_eq!(strict(deployment(), &managed).unwrap(), managed);
}

#[test]
fn without_a_type_everything_stays() {
    let body = br#"{"a": null, "b": [1.0, {"c": "", "c": 1}]}"#;
    let decoded = json(None, body, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.value, json!({"a": null, "b": [1.0, {"c": 1}]}));
    assert_eq!(decoded.duplicate, ["b[1].c"]);
}

#[test]
fn yaml_and_patched_values_take_the_same_walk() {
    let body = b"spec:\n  replicas: 2\n  foo: 1\n  replicas: 3\n";
    let decoded = yaml(deployment(), body, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.value, json!({"spec": {"replicas": 3}}));
    assert_eq!(
        decoded.problems,
        [
            r#"line 4: key "replicas" already set in map"#,
            r#"unknown field "spec.foo""#
        ]
    );
    assert_eq!(decoded.duplicate, ["spec.replicas"]);
    let error = yaml(deployment(), body, FieldValidation::Strict).unwrap_err();
    assert_eq!(
        error.to_string(),
        "strict decoding error: yaml: unmarshal errors:\n  line 4: key \"replicas\" already set in map, unknown field \"spec.foo\""
    );
    let patched = value(
        deployment(),
        json!({"spec": {"bar": 1}}),
        FieldValidation::Strict,
    );
    assert_eq!(
        patched.unwrap_err().to_string(),
        r#"strict decoding error: unknown field "spec.bar""#
    );
}

#[test]
fn a_body_with_a_million_problems_lists_a_hundred() {
    let fields: Vec<String> = (0..100_000).map(|i| format!("\"x{i}\":1")).collect();
    let body = format!("{{{}}}", fields.join(","));
    let decoded = json(deployment(), body.as_bytes(), FieldValidation::Warn).unwrap();
    assert_eq!(decoded.unknown.len(), PROBLEMS_MAX);
}

/// Threads of the server have 2 MiB of stack; half of that must do for the deepest bodies.
#[test]
fn the_deepest_bodies_fit_the_stack() {
    let on_small_stack = |run: fn()| {
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(run);
        thread.unwrap().join().unwrap();
    };
    on_small_stack(|| {
        let levels = DEPTH_MAX - 1;
        let body = format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        let decoded = json(None, body.as_bytes(), FieldValidation::Strict).unwrap();
        assert_eq!(decoded.value.clone().to_string(), body);
        let merged = crate::patch::merge::apply(&decoded.value, &decoded.value).unwrap();
        let strategic = crate::patch::strategic::apply(None, &merged, &decoded.value).unwrap();
        assert_eq!(strategic.to_string(), body);
    });
    on_small_stack(|| {
        let ty = type_named("apiextensions.JSONSchemaProps");
        let levels = DEPTH_MAX - 1;
        let body = format!("{}{{}}{}", "{\"not\":".repeat(levels), "}".repeat(levels));
        let decoded = json(ty, body.as_bytes(), FieldValidation::Strict).unwrap();
        assert_eq!(decoded.value.to_string(), body);
        let raw = crate::protobuf::encode_message(ty.unwrap(), &decoded.value).unwrap();
        assert!(crate::protobuf::decode_message(ty.unwrap(), &raw).is_err());
    });
    on_small_stack(|| {
        let body = format!("{}1{}", "[".repeat(255), "]".repeat(255));
        assert!(yaml(None, body.as_bytes(), FieldValidation::Strict).is_ok());
        for (levels, told) in [(60, "line 1: key"), (250, "duplicate field")] {
            let (open, close) = ("{a: ".repeat(levels), "}".repeat(levels));
            let body = format!("{open}{{b: 1, b: 2}}{close}");
            let decoded = yaml(None, body.as_bytes(), FieldValidation::Warn).unwrap();
            assert!(decoded.problems[0].starts_with(told), "{levels}");
        }
    });
}

#[test]
fn every_type_accepts_its_own_empty_object() {
    for ty in crate::types::all()
        .iter()
        .filter(|t| t.form == Form::Object)
    {
        let decoded = json(Some(ty), b"{}", FieldValidation::Strict).unwrap();
        let mut written = Map::new();
        super::write_unset(ty, &mut written);
        assert_eq!(decoded.value, Value::Object(written), "{}", ty.name);
    }
    assert!(type_named("core.Pod").is_some());
}

proptest! {
    #[test]
    fn decoding_twice_changes_nothing(replicas in any::<i64>(), name in ".*", cpu in "[0-9.]{0,5}[mkMGi]{0,2}") {
        let body = json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "template": {"spec": {
            "containers": [{"name": "", "resources": {"limits": {"cpu": cpu}}}]}}}});
        if let Ok(once) = strict(deployment(), &body) {
            prop_assert_eq!(strict(deployment(), &once), Ok(once));
        }
    }
}

#[test]
fn whole_numbers_of_custom_resources_have_no_fraction() {
    let schema = crate::Structural::compile(&json!({"type": "object",
        "x-kubernetes-preserve-unknown-fields": true}))
    .unwrap();
    for (written, kept) in [
        ("1.0", "1"),
        ("1e2", "100"),
        ("-3.0", "-3"),
        ("1.5", "1.5"),
        ("7", "7"),
        ("[{\"b\":2.0}]", "[{\"b\":2}]"),
    ] {
        let body = format!(r#"{{"a":{written}}}"#);
        let decoded = json(&schema, body.as_bytes(), FieldValidation::Ignore).unwrap();
        assert_eq!(decoded.value.to_string(), format!(r#"{{"a":{kept}}}"#));
    }
}

#[test]
fn custom_resources_are_pruned_and_their_metadata_is_typed() {
    let schema = crate::Structural::compile(&json!({"type": "object", "properties": {"spec": {
        "type": "object", "properties": {
            "size": {"type": "integer"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true}}}}}))
    .unwrap();
    let body = br#"{"apiVersion":"a/v1","kind":"A","metadata":{"name":"x","nope":1,"creationTimestamp":null},
        "extra":1,"spec":{"size":1,"size":2,"no":true,"open":{"x":{"y":1}},"list":[{"a":"b"},{"c":1}],
        "labels":{"any":"thing"},"inner":{"apiVersion":"v1","kind":"P","metadata":{"no":1,"name":"p"},"z":1}}}"#;
    let decoded = json(&schema, body, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.duplicate, ["spec.size"]);
    assert_eq!(
        decoded.unknown,
        [
            "metadata.nope",
            "extra",
            "spec.list[1].c",
            "spec.no",
            "spec.inner.metadata.no"
        ]
    );
    assert_eq!(
        decoded.value,
        json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": {"size": 2,
            "open": {"x": {"y": 1}}, "list": [{"a": "b"}, {}], "labels": {"any": "thing"},
            "inner": {"apiVersion": "v1", "kind": "P", "metadata": {"name": "p"}, "z": 1}}})
    );
    let error = json(
        &schema,
        br#"{"spec":{"no":1,"no":2}}"#,
        FieldValidation::Strict,
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"strict decoding error: duplicate field "spec.no", unknown field "spec.no""#
    );
    let error = json(
        &schema,
        br#"{"spec":{"inner":{"kind":1}}}"#,
        FieldValidation::Ignore,
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "spec.inner.kind: Invalid value: 1: must be a string"
    );
    for (body, error) in [
        (
            &b"[]"[..],
            "json: cannot unmarshal array into Go value of type map[string]interface {}",
        ),
        (
            br#"{"metadata":1}"#,
            "json: cannot unmarshal number into Go value of type v1.ObjectMeta",
        ),
        (
            br#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string",
        ),
    ] {
        let found = json(&schema, body, FieldValidation::Ignore).unwrap_err();
        assert_eq!(found.to_string(), error);
    }
    let decoded = yaml(
        &schema,
        b"spec: {size: 1, size: 2, nope: 1}",
        FieldValidation::Warn,
    )
    .unwrap();
    assert_eq!(
        decoded.problems,
        [
            r#"line 1: key "size" already set in map"#,
            r#"unknown field "spec.nope""#
        ]
    );
    let both = json!({"Spec": 1, "metadata": {"no": 1}, "spec": {"no": 1}});
    assert_eq!(
        value(&schema, both, FieldValidation::Warn)
            .unwrap()
            .problems,
        [
            r#"unknown field "metadata.no""#,
            r#"unknown field "Spec""#,
            r#"unknown field "spec.no""#
        ]
    );
    let patched = value(&schema, json!({"spec": {"no": 1}}), FieldValidation::Strict);
    assert_eq!(
        patched.unwrap_err().to_string(),
        r#"strict decoding error: unknown field "spec.no""#
    );
    // Without a schema everything is kept, but the metadata is that of every object.
    let decoded = json(crate::Structural::open(), body, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.unknown, ["metadata.nope"]);
    assert_eq!(decoded.value["spec"]["no"], json!(true));
}

#[test]
fn defaults_fill_what_is_absent_or_null() {
    let schema = crate::Structural::compile(&json!({"type": "object", "properties": {"spec": {
        "type": "object", "default": {}, "properties": {
            "a": {"type": "string", "default": "x"},
            "n": {"type": "string", "nullable": true, "default": "x"},
            "drop": {"type": "string"},
            "list": {"type": "array", "items": {"type": "object", "properties": {"b": {"type": "integer", "default": 5}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"c": {"type": "boolean", "default": true}}}}}}}}))
    .unwrap();
    for (before, after) in [
        (json!({}), json!({"spec": {"a": "x", "n": "x"}})),
        (
            json!({"spec": {"a": null, "n": null, "drop": null, "list": [{}, {"b": 1}], "map": {"k": {}}}}),
            json!({"spec": {"a": "x", "n": null, "list": [{"b": 5}, {"b": 1}], "map": {"k": {"c": true}}}}),
        ),
    ] {
        let mut object = before;
        schema.default(&mut object);
        assert_eq!(object, after);
        schema.default(&mut object);
        assert_eq!(object, after);
    }
}

#[test]
fn a_double_is_the_same_by_whatever_way_it_came() {
    let schema = type_named("apiextensions.JSONSchemaProps");
    for (text, expected) in [
        (r#"{"maximum":7.0}"#, r#"{"maximum":7}"#),
        (r#"{"maximum":7}"#, r#"{"maximum":7}"#),
        (r#"{"maximum":1e2}"#, r#"{"maximum":100}"#),
        (r#"{"maximum":1.5}"#, r#"{"maximum":1.5}"#),
    ] {
        let read = json(schema, text.as_bytes(), FieldValidation::Strict).unwrap();
        assert_eq!(read.value.to_string(), expected, "{text}");
    }
}
