//! Classes and claims of devices.

use super::*;

#[test]
fn claims_of_devices_name_what_there_is() {
    let claim = |devices: Value| {
        errors(
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c"},
            "spec": {"devices": devices}}),
        )
    };
    let requests = json!([{"name": "a", "exactly": {"deviceClassName": "gpu"}},
        {"name": "b", "firstAvailable": [{"name": "big", "deviceClassName": "gpu"}]}]);
    let with = |field: &str, value: Value| {
        let mut devices = json!({"requests": requests});
        devices[field] = value;
        claim(devices)
    };
    let fine = json!([{"requests": ["a", "b/big"], "matchAttribute": "example.com/numa"}]);
    assert_eq!(with("constraints", fine), none());
    let named = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    assert_eq!(
        with(
            "constraints",
            json!([{"requests": ["c", "b/small", "a"], "matchAttribute": "numa"}, {}])
        ),
        [
            format!("spec.devices.constraints[0].requests[0]: Invalid value: \"c\": {named}"),
            format!("spec.devices.constraints[0].requests[1]: Invalid value: \"b/small\": {named}"),
            "spec.devices.constraints[0].matchAttribute: Invalid value: \"numa\": must include a domain".to_owned(),
            "spec.devices.constraints[1]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set".to_owned(),
        ]
    );
    assert_eq!(
        with("config", json!([{"requests": ["a"]}])),
        ["spec.devices.config[0].opaque: Required value"]
    );
    let selected = |selector: Value| {
        errors(
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "c"},
            "spec": {"selectors": [selector]}}),
        )
    };
    let stands_for = |resource: &str| {
        errors(
            json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "c"},
            "spec": {"extendedResourceName": resource}}),
        )
    };
    assert_eq!(stands_for("example.com/gpu"), none());
    for wrong in [
        "gpu",
        "kubernetes.io/gpu",
        "requests.example.com/gpu",
        "example.com/g p u",
    ] {
        let words = "must be a valid extended resource name";
        assert_eq!(
            stands_for(wrong),
            [format!(
                "spec.extendedResourceName: Invalid value: {wrong:?}: {words}"
            )]
        );
    }
    let fine = json!({"cel": {"expression": "device.driver == 'x' && device.attributes['x'].big"}});
    assert_eq!(selected(fine), none());
    assert_eq!(
        selected(json!({})),
        ["spec.selectors[0].cel: Required value"]
    );
    let broken = selected(json!({"cel": {"expression": "device."}}));
    assert!(
        broken[0].starts_with(
            "spec.selectors[0].cel.expression: Invalid value: \"device.\": compilation failed: ERROR: <input>:1:8: Syntax error"
        ),
        "{broken:?}"
    );
}

#[test]
fn a_claim_is_reserved_where_it_has_devices() {
    let claim = |status: Value| {
        let object = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "1"},
            "spec": {"devices": {"requests": [{"name": "r", "exactly": {}}]}}, "status": status});
        Object::new(object).unwrap()
    };
    let told = |old: &Object, new: Value| {
        let mut new = claim(new);
        let resource = resource(old);
        resource.prepare_subresource_update("status", &mut new, old);
        let errors = resource.validate_subresource_update("status", &new, old);
        let shown: Vec<String> = errors.iter().map(|error| error.body()).collect();
        (shown, new)
    };
    let result = |device: &str| json!({"driver": "d", "pool": "p", "device": device});
    let devices =
        |names: &[&str]| -> Vec<Value> { names.iter().map(|name| result(name)).collect() };
    let allocation = |names: &[&str]| {
        let mut results = devices(names);
        results
            .iter_mut()
            .for_each(|result| result["request"] = "r".into());
        json!({"devices": {"results": results}})
    };
    let user = |uid: &str| json!({"resource": "pods", "name": uid, "uid": uid});
    let (free, held) = (
        claim(json!({})),
        claim(json!({"allocation": allocation(&["a", "b"]), "devices": devices(&["a", "b"])})),
    );

    let both = json!({"allocation": allocation(&["a"]), "reservedFor": [user("x"), user("y")]});
    assert_eq!(told(&free, both).0, none());
    assert_eq!(
        told(&free, json!({"reservedFor": [user("x")]})).0,
        ["Forbidden: may not be specified when `allocated` is not set"]
    );
    let twice = json!({"allocation": allocation(&["a"]), "reservedFor": [user("x"), user("x")]});
    assert_eq!(told(&free, twice).0, ["Duplicate value: \"x\""]);
    let many: Vec<Value> = (0..257).map(|n| user(&n.to_string())).collect();
    let many = json!({"allocation": allocation(&["a"]), "reservedFor": many});
    assert_eq!(told(&free, many).0.len(), 1);
    let too_many = json!({"allocation": allocation(&["a"; 33])});
    assert_eq!(
        told(&free, too_many).0,
        ["Too many: 33: must have at most 32 items"]
    );
    assert_eq!(
        told(&free, json!({"allocation": allocation(&["a"; 32])})).0,
        none()
    );
    let other = json!({"allocation": allocation(&["a"])});
    assert!(told(&held, other).0[0].ends_with("field is immutable"));

    let (errors, freed) = told(&held, json!({"devices": devices(&["a", "b"])}));
    assert_eq!(errors, none());
    assert_eq!(freed.get(&["status", "devices"]), None, "nobody has them");
    let kept = json!({"allocation": allocation(&["a", "b"]), "devices": devices(&["b"])});
    let (errors, kept) = told(&held, kept);
    assert_eq!(errors, none());
    assert_eq!(
        kept.get(&["status", "devices"]),
        Some(&devices(&["b"]).into())
    );

    let stray = json!({"allocation": allocation(&["a", "b"]), "devices": devices(&["c"])});
    assert_eq!(
        told(&held, stray.clone()).0,
        ["Invalid value: \"d/p/c\": must be an allocated device in the claim"]
    );
    let older = claim(stray.clone());
    let mut used = stray;
    used["reservedFor"] = json!([user("x")]);
    assert_eq!(told(&older, used).0, none(), "it is as wrong as it was");

    let mut going = held.clone();
    going.metadata_mut().insert(
        "deletionTimestamp".to_owned(),
        "2026-01-01T00:00:00Z".into(),
    );
    let late = json!({"allocation": allocation(&["a", "b"]), "reservedFor": [user("x")]});
    assert_eq!(
        told(&going, late).0,
        [
            "Forbidden: new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"
        ]
    );
}
