//! Who may what: roles, reviews, and requests for certificates.

use super::*;

#[test]
fn roles_and_bindings() {
    let kind = |kind: &str, extra: Value| {
        let mut value = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "system:x"}});
        for (key, field) in extra.as_object().unwrap() {
            value[key] = field.clone();
        }
        value
    };
    assert_eq!(
        errors(kind(
            "Role",
            json!({"rules": [{"verbs": []}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]})
        )),
        [
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
            "rules[1].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs"
        ]
    );
    let binding = || {
        kind(
            "ClusterRoleBinding",
            json!({"roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
        )
    };
    assert_eq!(errors(binding()), none());
    assert_eq!(
        update_errors(binding(), |new| new.set(&["roleRef", "name"], "edit")),
        [
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"edit\"}: cannot change roleRef"
        ]
    );
    assert_eq!(
        errors(kind(
            "ClusterRoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "x"}})
        )),
        ["roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\""]
    );
}

#[test]
fn reviews_have_no_metadata() {
    let said = |kind: &str, metadata: Value| {
        let asked = json!({"verb": "get", "namespace": metadata["namespace"]});
        let spec = json!({"user": "jane", "resourceAttributes": asked});
        errors(
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec}),
        )
    };
    let (own, local) = ("SelfSubjectAccessReview", "LocalSubjectAccessReview");
    for kind in [own, "SubjectAccessReview"] {
        for empty in [
            Value::Null,
            json!({}),
            json!({"name": "", "creationTimestamp": null, "labels": {}, "ownerReferences": [], "generation": 0}),
            json!({"managedFields": [{"manager": "kubectl"}]}),
        ] {
            assert_eq!(said(kind, empty.clone()), none(), "{kind} {empty}");
        }
    }
    let invalid = "metadata: Invalid value:";
    assert_eq!(
        said(own, json!({"name": "x"})),
        [format!("{invalid} {{\"name\":\"x\"}}: must be empty")]
    );
    for (kind, metadata) in [
        ("SubjectAccessReview", json!({"generateName": "x"})),
        ("SubjectAccessReview", json!({"labels": {"a": "b"}})),
        (own, json!({"finalizers": ["a/b"]})),
    ] {
        let text = format!("{invalid} {metadata}: must be empty");
        assert_eq!(said(kind, metadata), [text]);
    }
    assert_eq!(said(local, json!({"namespace": "n"})), none());
    let metadata = json!({"namespace": "n", "annotations": {"a": "b"}});
    let text = format!("{invalid} {metadata}: must be empty except for namespace");
    assert_eq!(said(local, metadata), [text]);
}

#[test]
fn selectors_of_reviews_say_one_thing_or_the_other() {
    let said = |attributes: Value| {
        errors(
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": "jane", "resourceAttributes": attributes}}),
        )
    };
    let fields = |selector: Value| said(json!({ "fieldSelector": selector }));
    let at = "spec.resourceAttributes.fieldSelector";
    assert_eq!(
        fields(json!({})),
        [format!(
            "{at}.requirements: Required value: when {at} is specified, requirements or rawSelector is required"
        )]
    );
    let term = json!({"key": "a", "operator": "In", "values": ["b"]});
    assert_eq!(
        fields(json!({"rawSelector": "foo", "requirements": [term]})),
        [format!(
            "{at}.rawSelector: Invalid value: \"foo\": may not specified at the same time as requirements"
        )]
    );
    assert_eq!(
        fields(json!({"requirements": [{"key": "", "operator": "NotIn"}]})),
        [
            format!("{at}.requirements[0].key: Required value: must be specified"),
            format!(
                "{at}.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
            )
        ]
    );
    // A newer client may know more operators, and keys of fields are no labels.
    for good in [
        json!({"rawSelector": "foo"}),
        json!({"requirements": [{"key": "a[b]", "operator": "Near"}]}),
    ] {
        assert_eq!(fields(good), none());
    }
    let labels = said(
        json!({"labelSelector": {"requirements": [{"key": "a b", "operator": "Exists", "values": ["c"]}]}}),
    );
    assert_eq!(labels.len(), 2, "{labels:?}");
}

#[test]
fn a_signing_request_holds_a_request_for_known_uses() {
    let of = |request: &str, usages: Value| {
        errors(
            json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "spec": {"request": request, "signerName": "a.b/c", "usages": usages}}),
        )
    };
    assert_eq!(
        of("YQ==", json!(["client auth"])),
        ["spec.request: Invalid value: \"YQ==\": PEM block type must be CERTIFICATE REQUEST"]
    );
    let head_alone = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K";
    assert_eq!(of(head_alone, json!(["client auth"])).len(), 1);
    let found = of(
        SIGNING_REQUEST,
        json!(["client auth", "flying", "client auth"]),
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with(
            "spec.usages[1]: Unsupported value: \"flying\": supported values: \"any\", \"cert sign\", "
        ),
        "{found:?}"
    );
    assert_eq!(found[1], "spec.usages[2]: Duplicate value: \"client auth\"");
}

#[test]
fn what_becomes_of_a_signing_request_is_checked() {
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let request = |status: Value| {
        let value = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "r", "resourceVersion": "1"}, "status": status});
        Object::new(value).unwrap()
    };
    let update = |old: Value, new: Value| -> Vec<String> {
        let (old, new) = (request(old), request(new));
        let errors = resource(&new).validate_subresource_update("approval", &new, &old);
        errors.iter().map(ToString::to_string).collect()
    };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
    let certificate = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
    let good =
        json!({"certificate": encode(certificate), "conditions": [condition("Approved", "True")]});
    assert_eq!(update(json!({}), good.clone()), none());
    for (new, expected) in [
        (
            json!({"conditions": [condition("Approved", "False"), condition("", "")]}),
            &[
                r#"status.conditions[0].status: Unsupported value: "False": supported values: "True""#,
                "status.conditions[1].type: Required value",
                "status.conditions[1].status: Required value",
            ][..],
        ),
        (
            json!({"conditions": [condition("Denied", "True"), condition("Approved", "True"), condition("Denied", "True")]}),
            &[
                r#"status.conditions: Invalid value: "Approved": Approved and Denied conditions are mutually exclusive"#,
                r#"status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive"#,
                r#"status.conditions[2].type: Duplicate value: "Denied""#,
            ],
        ),
        (
            json!({"certificate": encode("nothing")}),
            &[
                r#"status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block"#,
            ],
        ),
        (
            json!({"certificate": encode(&certificate.replace("CERTIFICATE", "KEY"))}),
            &[
                r#"status.certificate: Invalid value: "<certificate data>": only CERTIFICATE PEM blocks are allowed, found "KEY""#,
            ],
        ),
        (
            json!({"certificate": encode(&certificate.replace("MAMC", "a: b\n\nMAMC"))}),
            &[
                r#"status.certificate: Invalid value: "<certificate data>": no PEM block headers are permitted"#,
            ],
        ),
        (
            json!({"certificate": encode(&certificate.replace("MAMC", "MAQC"))}),
            &[
                r#"status.certificate: Invalid value: "<certificate data>": x509: malformed certificate"#,
            ],
        ),
    ] {
        assert_eq!(update(json!({}), new.clone()), expected, "{new}");
    }
    let other = json!({"certificate": encode(&certificate.replace("CAQA", "CAQE"))});
    assert_eq!(
        update(good, other),
        [
            r#"status.conditions: Forbidden: updates may not remove a condition of type "Approved""#,
            "status.certificate: Forbidden: updates may not modify existing certificate content",
        ]
    );
}
