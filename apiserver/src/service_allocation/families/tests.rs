//! Services, and the families of addresses that they are given.

use super::*;
use serde_json::json;

const ONE: &[Family] = &[Family::V4];
const BOTH: &[Family] = &[Family::V4, Family::V6];

fn service(spec: Value) -> Object {
    let mut service = Object::new(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
    service.set_default(&["spec", "selector"], json!({"a": "b"}));
    service
}

/// Policy and families, or what is wrong.
fn settled(spec: Value, old: Option<Value>, configured: &[Family]) -> String {
    let (mut new, old) = (service(spec), old.map(service));
    if let Some(old) = &old {
        carry_over(&mut new, old);
    }
    align(&mut new);
    match settle(&mut new, old.as_ref(), configured) {
        Ok(()) => {
            let policy = new.get_str(&["spec", "ipFamilyPolicy"]).unwrap_or("-");
            let addresses = texts(&new, "clusterIPs").join(",");
            let families = texts(&new, "ipFamilies").join(",");
            format!("{policy} {families} [{addresses}]")
        }
        Err(errors) => schema::field::aggregate(&errors),
    }
}

#[test]
fn new_services_have_the_families_that_they_ask_for() {
    for (spec, configured, expected) in [
        (json!({}), BOTH, "SingleStack IPv4 []"),
        (
            json!({"clusterIP": "fd00::5"}),
            BOTH,
            "SingleStack IPv6 [fd00::5]",
        ),
        (
            json!({"clusterIP": "FD00:0::5"}),
            BOTH,
            "SingleStack IPv6 [fd00::5]",
        ),
        (json!({"ipFamilies": ["IPv6"]}), BOTH, "SingleStack IPv6 []"),
        (
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            ONE,
            "PreferDualStack IPv4 []",
        ),
        (
            json!({"ipFamilyPolicy": "PreferDualStack"}),
            BOTH,
            "PreferDualStack IPv4,IPv6 []",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
            BOTH,
            "RequireDualStack IPv6,IPv4 []",
        ),
        (
            json!({"ipFamilyPolicy": "RequireDualStack", "clusterIPs": ["fd00::5", "10.0.0.5"]}),
            BOTH,
            "RequireDualStack IPv6,IPv4 [fd00::5,10.0.0.5]",
        ),
        (
            json!({"clusterIP": "None", "selector": {}}),
            ONE,
            "RequireDualStack IPv4,IPv6 [None]",
        ),
        (
            json!({"clusterIP": "None"}),
            BOTH,
            "SingleStack IPv4 [None]",
        ),
        (json!({"type": "ExternalName"}), ONE, "-  []"),
    ] {
        assert_eq!(settled(spec.clone(), None, configured), expected, "{spec}");
    }
}

#[test]
fn what_does_not_fit_together_or_into_the_cluster_is_refused() {
    for (spec, expected) in [
        (
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}),
            "[spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services, spec.ipFamilies[1]: Invalid value: \"IPv6\": not configured on this cluster]",
        ),
        (
            json!({"clusterIP": "fd00::5"}),
            "spec.clusterIPs[0]: Invalid value: [\"fd00::5\"]: IPv6 is not configured on this cluster",
        ),
        (
            json!({"ipFamilies": ["IPv6"], "clusterIP": "10.0.0.5"}),
            "spec.clusterIPs[0]: Invalid value: \"10.0.0.5\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            json!({"clusterIPs": ["10.0.0.5", "10.0.0.6"]}),
            "spec.clusterIPs: Invalid value: [\"10.0.0.5\",\"10.0.0.6\"]: may specify no more than one IP for each IP family",
        ),
        (
            json!({"clusterIPs": ["None", "10.0.0.6"]}),
            "spec.clusterIPs: Invalid value: [\"None\",\"10.0.0.6\"]: 'None' must be the first and only value",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"]}),
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
        ),
    ] {
        assert_eq!(settled(spec.clone(), None, ONE), expected, "{spec}");
    }
    let single = json!({"ipFamilies": ["IPv4", "IPv6"]});
    assert_eq!(
        settled(single, None, BOTH),
        "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified"
    );
}

#[test]
fn a_second_family_comes_and_goes_by_the_policy_alone() {
    let one = json!({"clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5"],
        "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]});
    let two = json!({"clusterIP": "10.0.0.5", "clusterIPs": ["10.0.0.5", "fd00::5"],
        "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"]});
    let with = |base: &Value, policy: &str| {
        let mut spec = base.clone();
        spec["ipFamilyPolicy"] = policy.into();
        spec
    };
    for (spec, old, configured, expected) in [
        (
            json!({}),
            &two,
            BOTH,
            "PreferDualStack IPv4,IPv6 [10.0.0.5,fd00::5]",
        ),
        (
            json!({}),
            &two,
            ONE,
            "PreferDualStack IPv4,IPv6 [10.0.0.5,fd00::5]",
        ),
        (
            with(&one, "RequireDualStack"),
            &one,
            BOTH,
            "RequireDualStack IPv4,IPv6 [10.0.0.5]",
        ),
        (
            with(&one, "PreferDualStack"),
            &one,
            ONE,
            "PreferDualStack IPv4 [10.0.0.5]",
        ),
        (
            with(&two, "SingleStack"),
            &two,
            BOTH,
            "SingleStack IPv4 [10.0.0.5]",
        ),
        (
            json!({"ipFamilyPolicy": "SingleStack"}),
            &two,
            BOTH,
            "SingleStack IPv4 [10.0.0.5]",
        ),
        (
            with(&one, "PreferDualStack"),
            &two,
            BOTH,
            "[spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP, spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary IP family]",
        ),
        (
            json!({"clusterIPs": ["10.0.0.5", "fd00::6"], "clusterIP": "10.0.0.5"}),
            &two,
            BOTH,
            "spec.clusterIPs[1]: Invalid value: [\"10.0.0.5\",\"fd00::6\"]: may not change once set",
        ),
        (
            json!({"ipFamilies": ["IPv6", "IPv4"], "clusterIPs": []}),
            &json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}),
            BOTH,
            "spec.ipFamilies[0]: Invalid value: [\"IPv6\",\"IPv4\"]: may not change once set",
        ),
    ] {
        let found = settled(spec.clone(), Some(old.clone()), configured);
        assert_eq!(found, expected, "{spec} after {old}");
    }
}
