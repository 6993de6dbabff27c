use super::*;
use crate::types::{self, Form, maker::Maker, type_named, type_of};
use proptest::prelude::*;
use serde_json::json;

mod by_walk;
mod reading;

/// Bodies that kubectl sends, beside what it prints for the same command as JSON.
macro_rules! golden {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../../testdata/protobuf/", $name, ".bin")).as_slice(),
            include_str!(concat!("../../testdata/protobuf/", $name, ".json")))),*]
    };
}

#[test]
fn bodies_of_kubectl_read_as_the_json_it_prints() {
    for (name, body, text) in golden!(
        "configmap",
        "cronjob",
        "deployment",
        "ingress",
        "job",
        "namespace",
        "poddisruptionbudget",
        "priorityclass",
        "resourcequota",
        "secret",
        "service",
        "serviceaccount"
    ) {
        let value = decode(body).unwrap_or_else(|e| panic!("{name}: {e}"));
        let printed: Value = serde_json::from_str(text).unwrap();
        let ty = typed(&printed).unwrap();
        let printed = decode::value(Some(ty), printed, FieldValidation::Strict).unwrap();
        // kubectl prints the namespace only in dry runs of some commands.
        let without_namespace = |mut v: Value| {
            v["metadata"].as_object_mut().unwrap().remove("namespace");
            v
        };
        assert_eq!(
            without_namespace(value.clone()),
            without_namespace(printed.value),
            "{name}"
        );
        let again = decode(&encode(ty, &value).unwrap()).unwrap();
        assert_eq!(again, value, "{name}");
    }
}

#[test]
fn reviews_of_kubectl() {
    let body = include_bytes!("../../testdata/protobuf/tokenrequest.bin");
    assert_eq!(
        decode(body).unwrap(),
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
            "spec": {"expirationSeconds": 600}, "status": {"token": ""}})
    );
    let body = include_bytes!("../../testdata/protobuf/selfsubjectaccessreview.bin");
    assert_eq!(
        decode(body).unwrap(),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
            "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}},
            "status": {"allowed": false}})
    );
}

#[test]
fn zeros_of_pointers_stay_and_others_vanish() {
    let ty = type_of("apps", "v1", "Deployment").unwrap();
    let value = json!({"spec": {"replicas": 0, "minReadySeconds": 0, "paused": false,
        "template": {"spec": {"hostNetwork": false, "automountServiceAccountToken": false}}}});
    let raw = encode_message(ty, &value).unwrap();
    assert_eq!(
        decode_message(ty, &raw).unwrap(),
        json!({"spec": {"replicas": 0, "template": {"spec": {"automountServiceAccountToken": false}}}})
    );
}

#[test]
fn special_messages() {
    let cases = [
        (
            "v1",
            "Pod",
            json!({"metadata": {"creationTimestamp": "2026-11-21T02:16:31Z", "managedFields": [{"fieldsV1": {"f:a": {}}}]},
            "spec": {"volumes": [{"name": "a", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "b", "configMap": {"name": "c", "optional": false}}],
                "containers": [{"name": "x", "resources": {"limits": {"cpu": "100m"}},
                    "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": -1},
                    "env": [{"name": "k", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "z"}}}]}],
                "ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "x"}]}}),
        ),
        (
            "coordination.k8s.io/v1",
            "Lease",
            json!({"spec": {"renewTime": "2026-11-21T02:16:31.000042Z", "acquireTime": "1969-12-31T23:59:59.500000Z"}}),
        ),
        // As the conformance suite writes them: a few seconds after the time that Go calls zero.
        (
            "coordination.k8s.io/v1",
            "Lease",
            json!({"spec": {"renewTime": "0001-01-01T00:00:05.000000Z", "acquireTime": "0001-01-01T00:00:02.000000Z"}}),
        ),
        (
            "v1",
            "Secret",
            json!({"data": {"a": "AP8=", "b": ""}, "type": "Opaque"}),
        ),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            json!({"webhooks": [{"name": "a",
            "clientConfig": {"url": "https://x"}, "rules": [{"operations": ["CREATE"], "apiGroups": [""], "scope": "*"}]}]}),
        ),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            json!({"spec": {"matchConstraints": {"resourceRules": [
            {"resourceNames": ["n"], "operations": ["CREATE"], "apiGroups": ["apps"], "resources": ["*"]}]},
            "validations": [{"expression": "true"}], "variables": [{"name": "a", "expression": "1"}]}}),
        ),
        (
            "v1",
            "PersistentVolume",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x", "type": ""}}}),
        ),
        (
            "networking.k8s.io/v1",
            "Ingress",
            json!({"spec": {"rules": [{"host": "h", "http": {"paths": [{"path": "/", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
        ),
        (
            "authentication.k8s.io/v1",
            "TokenReview",
            json!({"spec": {"token": "t"}, "status": {"user": {"username": "u", "extra": {"a": ["b", "c"], "d": []}}}}),
        ),
        (
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            json!({"spec": {"group": "g", "scope": "Namespaced", "names": {"plural": "p", "kind": "K"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"$ref": "x", "type": "object", "default": {"a": [1, null]},
                "additionalProperties": {"type": "string"}, "items": [{"type": "string"}], "not": {"items": {"type": "integer"}},
                "additionalItems": false, "dependencies": {"a": ["b"], "c": {"type": "null"}}, "maximum": 0, "x-kubernetes-validations": [{"rule": "r"}]}}}]}}),
        ),
        (
            "v1",
            "List",
            json!({"items": [{"apiVersion": "v1", "kind": "Pod"}, {"any": 1}]}),
        ),
        (
            "v1",
            "Service",
            json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8081}]}}),
        ),
        (
            "policy/v1",
            "PodDisruptionBudget",
            json!({"status": {"disruptedPods": {"p": "2026-11-21T02:16:31Z"}, "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}}),
        ),
        (
            "meta.k8s.io/v1",
            "PartialObjectMetadataList",
            json!({"metadata": {"resourceVersion": "5"}, "items": [{"metadata": {"name": "a"}}]}),
        ),
        (
            "apps/v1",
            "DeleteOptions",
            json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "propagationPolicy": "Background"}),
        ),
    ];
    for (api_version, kind, mut value) in cases {
        value["apiVersion"] = api_version.into();
        value["kind"] = kind.into();
        let ty = typed(&value).unwrap();
        let body = encode(ty, &value).unwrap();
        assert_eq!(decode(&body).unwrap(), value);
    }
}

#[test]
fn packed_and_unpacked_lists_and_unknown_tags() {
    let ty = type_named("core.PodSecurityContext").unwrap();
    // supplementalGroups = 4: packed 1, 300, then unpacked 7; an unknown tag 1000 of each wire type.
    let raw = [
        &[0x22, 3, 1, 0xac, 2][..],
        &[0x20, 7],
        &[0xc0, 0x3e, 5],
        &[0xc1, 0x3e, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0xc2, 0x3e, 2, 0xff, 0xff],
        &[0xc5, 0x3e, 0, 0, 0, 0],
    ]
    .concat();
    assert_eq!(
        decode_message(ty, &raw).unwrap(),
        json!({"supplementalGroups": [1, 300, 7]})
    );
    // A message in two parts is one.
    let pod = type_named("core.Pod").unwrap();
    let raw = [0x0a, 3, 0x0a, 1, b'a', 0x0a, 3, 0x1a, 1, b'n'];
    assert_eq!(
        decode_message(pod, &raw).unwrap(),
        json!({"metadata": {"name": "a", "namespace": "n"}})
    );
}

#[test]
fn broken_bodies_are_refused() {
    let pod = |raw: &[u8]| {
        let mut body = MAGIC.to_vec();
        body.extend(b"\x0a\x09\x0a\x02v1\x12\x03Pod\x12");
        body.push(raw.len() as u8);
        body.extend(raw);
        decode(&body)
    };
    assert_eq!(pod(&[]), Ok(json!({"apiVersion": "v1", "kind": "Pod"})));
    assert_eq!(decode(b""), Err(ProtobufError::Magic));
    assert_eq!(decode(b"{}"), Err(ProtobufError::Magic));
    assert_eq!(pod(&[0x0a, 5, 1]), Err(ProtobufError::UnexpectedEnd));
    assert_eq!(pod(&[0x0a]), Err(ProtobufError::UnexpectedEnd));
    assert_eq!(
        pod(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        Err(ProtobufError::UnexpectedEnd)
    );
    assert_eq!(pod(&[0xff; 11]), Err(ProtobufError::Overflow));
    assert_eq!(pod(&[0x00, 0]), Err(ProtobufError::Tag(0)));
    assert!(matches!(
        pod(&[0x08, 1]),
        Err(ProtobufError::WireType { wire_type: 0, .. })
    ));
    assert!(matches!(
        pod(&[0x0b]),
        Err(ProtobufError::WireType { wire_type: 3, .. })
    ));
    let unknown = write::enveloped("v1", "Pot", b"");
    assert_eq!(
        decode(&unknown).unwrap_err().to_string(),
        "no kind \"Pot\" is registered for version \"v1\""
    );
    // A schema that nests itself, and a list that holds a list that ..
    let ty = type_named("apiextensions.JSONSchemaProps").unwrap();
    let nest = |tag: u32, wrap: fn(Vec<u8>) -> Vec<u8>| {
        let mut raw = Vec::new();
        for _ in 0..2000 {
            let mut outer = Vec::new();
            let inner = wrap(raw);
            write_bytes(tag, &inner, &mut outer);
            raw = outer;
        }
        raw
    };
    let not = ty.field("not").unwrap().tags[0];
    assert_eq!(
        decode_message(ty, &nest(not, |raw| raw)),
        Err(ProtobufError::Depth)
    );
    let list = type_named("core.List").unwrap();
    let in_list = |raw: Vec<u8>| {
        let mut extension = Vec::new();
        write_bytes(1, &write::enveloped("v1", "List", &raw), &mut extension);
        extension
    };
    assert_eq!(
        decode_message(list, &nest(2, in_list)),
        Err(ProtobufError::Depth)
    );
}

fn write_bytes(tag: u32, value: &[u8], out: &mut Vec<u8>) {
    let varint = |mut v: u64, out: &mut Vec<u8>| {
        while v >= 0x80 {
            out.push(v as u8 | 0x80);
            v >>= 7;
        }
        out.push(v as u8);
    };
    varint(u64::from(tag) << 3 | 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

#[test]
fn frames_of_a_watch() {
    let ty = type_named("core.Pod").unwrap();
    let object = encode(ty, &json!({"metadata": {"name": "a"}})).unwrap();
    let frame = watch_frame("ADDED", &object);
    let length = u32::from_be_bytes(frame[..4].try_into().unwrap());
    assert_eq!(length as usize, frame.len() - 4);
    let event = decode_message(type_named("meta.WatchEvent").unwrap(), &frame[4..]).unwrap();
    assert_eq!(
        event,
        json!({"type": "ADDED", "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}})
    );
}

#[test]
fn every_type_survives_the_round_trip() {
    for ty in types::all().iter().filter(|t| t.form == Form::Object) {
        for seed in 0..20 {
            let value = Maker(seed).object(ty, 0);
            let normal = decode::value(Some(ty), value, FieldValidation::Strict)
                .unwrap()
                .value;
            let raw = encode_message(ty, &normal).unwrap();
            let again = decode_message(ty, &raw).unwrap_or_else(|e| panic!("{}: {e}", ty.name));
            assert_eq!(again, normal, "{} seed {seed}", ty.name);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(raw in proptest::collection::vec(any::<u8>(), 0..200), index in any::<prop::sample::Index>()) {
        let ty = &types::all()[index.index(types::all().len())];
        if let Ok(value) = decode_message(ty, &raw) {
            prop_assert_eq!(Ok(value), by_walk::decode_message(ty, &raw));
        }
        let _ = decode(&raw);
        let _ = decode(&write::enveloped("v1", "Pod", &raw));
    }

    #[test]
    fn damaged_bodies_are_read_or_refused(seed in any::<u64>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let ty = type_named("core.Pod").unwrap();
        let value = Maker(seed).object(ty, 0);
        let mut body = encode(ty, &value).unwrap();
        let at = at.index(body.len());
        body[at] = byte;
        for body in [&body[..], &body[..at]] {
            if let Ok(value) = decode(body) {
                prop_assert_eq!(Ok(value), by_walk::decode_or(body, None));
            }
        }
    }
}
