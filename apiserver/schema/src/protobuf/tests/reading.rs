//! What is read in one go against the slow way.

use super::*;

/// What is read in one go is what comes of the slow way.
fn agrees(ty: &Type, raw: &[u8]) {
    let slow = by_walk::decode_message(ty, raw);
    match decode_message(ty, raw) {
        Ok(value) => assert_eq!(Ok(value), slow, "{} {raw:?}", ty.name),
        Err(_) => assert!(slow.is_err(), "{} {raw:?}", ty.name),
    }
}

#[test]
fn every_type_is_read_as_by_the_slow_way() {
    for ty in types::all().iter().filter(|t| t.form == Form::Object) {
        for seed in 0..20 {
            let message = |seed| encode_message(ty, &Maker(seed).object(ty, 0)).unwrap();
            let (one, other) = (message(seed), message(seed + 1_000));
            agrees(ty, &one);
            // Messages that come in parts, and values that come twice.
            agrees(ty, &[one, other].concat());
        }
    }
    agrees(type_named("quantity.Quantity").unwrap(), b"");
}

#[test]
fn odd_fields_are_read_as_by_the_slow_way() {
    let nested = |tag: u32, inner: &[u8]| {
        let mut raw = Vec::new();
        write_bytes(tag, inner, &mut raw);
        raw
    };
    let number = |tag: u32, value: u64| {
        let mut raw = Vec::new();
        wire::number(tag, value, &mut raw);
        raw
    };
    let time = |seconds: i64, nanos: i64| {
        let parts = [number(1, seconds as u64), number(2, nanos as u64)];
        parts.concat()
    };
    let lease = type_named("coordination.LeaseSpec").unwrap();
    let metadata = type_named("meta.ObjectMeta").unwrap();
    let renewed = lease.field("renewTime").unwrap().tags[0];
    let created = metadata.field("creationTimestamp").unwrap().tags[0];
    for seconds in [
        0,
        1,
        -1,
        -62_135_596_800,
        -62_135_596_799,
        i64::MIN,
        i64::MAX,
    ] {
        for nanos in [0, 1, 999, 1_000, 999_999_999, -1, i64::MAX] {
            agrees(lease, &nested(renewed, &time(seconds, nanos)));
            agrees(metadata, &nested(created, &time(seconds, nanos)));
        }
    }
    let fields = type_named("meta.ManagedFieldsEntry").unwrap();
    let tag = fields.field("fieldsV1").unwrap().tags[0];
    for json in [
        "{}",
        "null",
        "[]",
        "1",
        "",
        "{",
        r#"{"f:a":{},"f:a":{"b":null}}"#,
    ] {
        agrees(fields, &nested(tag, &nested(1, json.as_bytes())));
    }
    agrees(fields, &nested(tag, b""));
    let needs = type_named("core.ResourceRequirements").unwrap();
    let tag = needs.field("limits").unwrap().tags[0];
    for text in ["1500m", "0", "", "1.5Gi", "lots", "-1", "1e3"] {
        let entry = [nested(1, b"cpu"), nested(2, &nested(1, text.as_bytes()))];
        agrees(needs, &nested(tag, &entry.concat()));
    }
    // An entry without a value, or with neither; numbers that are packed, and none of them.
    agrees(needs, &nested(tag, &nested(1, b"cpu")));
    agrees(needs, &nested(tag, b""));
    let security = type_named("core.PodSecurityContext").unwrap();
    for packed in [&b""[..], &[1, 0xac, 2], &[0xff]] {
        agrees(security, &nested(4, packed));
    }
    let port = type_named("core.ServicePort").unwrap();
    let tag = port.field("targetPort").unwrap().tags[0];
    for inner in [&b""[..], &number(2, 0), &number(2, u64::MAX), &number(1, 1)] {
        agrees(port, &nested(tag, inner));
    }
    // Objects in objects: as protobuf, as JSON, of no known kind.
    let list = type_named("core.List").unwrap();
    let pod = [nested(2, &number(11, 0)), nested(1, &nested(1, b""))].concat();
    for item in [
        write::enveloped("v1", "Pod", &pod),
        write::enveloped("v1", "None", b""),
        br#"{"kind":"Pod","spec":{"priority":null}}"#.to_vec(),
        Vec::new(),
    ] {
        agrees(list, &nested(2, &nested(1, &item)));
    }
}

#[test]
fn an_envelope_may_hold_json_and_leave_out_the_kind() {
    let service = type_of("", "v1", "Service").unwrap();
    let mut body = MAGIC.to_vec();
    let json = br#"{"apiVersion":"v1","kind":"Service","spec":{"type":"","ports":null}}"#;
    write_bytes(2, json, &mut body);
    write_bytes(4, b"application/json", &mut body);
    let nameless = write::enveloped(
        "",
        "",
        &encode_message(service, &json!({"spec": {}})).unwrap(),
    );
    for (body, fallback) in [
        (&body, None),
        (&body, Some(service)),
        (&nameless, Some(service)),
        (&nameless, None),
        (&write::enveloped("v1", "", b""), Some(service)),
    ] {
        assert_eq!(
            decode_or(body, fallback),
            by_walk::decode_or(body, fallback)
        );
    }
    let read = decode(&body).unwrap();
    assert_eq!(
        read,
        json!({"apiVersion": "v1", "kind": "Service", "spec": {}})
    );
}
