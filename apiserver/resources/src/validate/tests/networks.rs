//! Ingresses, policies of networks, and ranges of addresses.

use super::*;

fn of(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": kind, "metadata": {"name": "sample"}, "spec": spec})
}

#[test]
fn ingresses_are_refused_in_words() {
    let backend = |backend: Value| of("Ingress", json!({ "defaultBackend": backend }));
    for (object, expected) in [
        (
            of("Ingress", json!({})),
            vec!["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
        ),
        (
            backend(json!({})),
            vec![
                "spec.defaultBackend: Invalid value: \"\": resource or service backend is required",
            ],
        ),
        (
            backend(json!({"service": {"name": "s"}})),
            vec!["spec.defaultBackend: Required value: port name or number is required"],
        ),
        (
            backend(json!({"service": {"name": "s", "port": {"name": "a", "number": 1}}})),
            vec![
                "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
            ],
        ),
        (
            backend(json!({"service": {"name": "1a", "port": {"number": 1}}})),
            vec![],
        ),
        (
            backend(json!({"resource": {"kind": "a/b", "name": "x"}})),
            vec!["spec.defaultBackend.resource.kind: Invalid value: \"a/b\": may not contain '/'"],
        ),
        (
            of(
                "Ingress",
                json!({"rules": [{"http": {"paths": [{"path": "a//b", "pathType": "Exact",
                "backend": {"service": {"name": "s", "port": {"number": 1}}}}]}}]}),
            ),
            vec![
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must be an absolute path",
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must not contain '//'",
            ],
        ),
    ] {
        assert_eq!(errors(object.clone()), expected, "{object}");
    }
    let mut classed = backend(json!({"service": {"name": "s", "port": {"number": 1}}}));
    classed["spec"]["ingressClassName"] = "a".into();
    classed["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "b"});
    assert_eq!(
        errors(classed),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"b\": must match `ingressClassName` when both are \
             specified"
        ]
    );
}

#[test]
fn other_networks_are_refused_in_words() {
    let port = |port: Value| {
        of(
            "NetworkPolicy",
            json!({"podSelector": {}, "ingress": [{ "ports": [port] }]}),
        )
    };
    let at = "spec.ingress[0].ports[0]";
    for (object, expected) in [
        (
            port(json!({"endPort": 90})),
            vec![format!("{at}.endPort: Invalid value: 90: may not be specified when `port` is not specified")],
        ),
        (
            port(json!({"port": 80, "endPort": 70000, "protocol": "x"})),
            vec![
                format!("{at}.protocol: Unsupported value: \"x\": supported values: \"TCP\", \"UDP\", \"SCTP\""),
                format!("{at}.endPort: Invalid value: 70000: must be between 1 and 65535, inclusive"),
            ],
        ),
        (
            of("NetworkPolicy", json!({"policyTypes": ["x"]})),
            vec!["spec.policyTypes[0]: Unsupported value: \"x\": supported values: \"Ingress\", \"Egress\"".to_owned()],
        ),
        (
            of("IngressClass", json!({})),
            vec!["spec.controller: Required value".to_owned()],
        ),
        (
            of("ServiceCIDR", json!({"cidrs": ["10.0.0.0/24", "10.1.0.0/24"]})),
            vec![
                "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one IP for each IP \
                 family, i.e 192.168.0.0/24 and 2001:db8::/64"
                    .to_owned(),
            ],
        ),
    ] {
        assert_eq!(errors(object.clone()), expected, "{object}");
    }
    let range = || of("ServiceCIDR", json!({"cidrs": ["10.0.0.0/24"]}));
    let set = |cidrs: Value| move |new: &mut Object| new.set(&["spec", "cidrs"], cidrs);
    assert_eq!(
        update_errors(range(), set(json!(["10.1.0.0/24"]))),
        ["spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable"]
    );
    assert_eq!(
        update_errors(range(), set(json!(["10.0.0.0/24", "fd00::/112"]))),
        none()
    );
}
