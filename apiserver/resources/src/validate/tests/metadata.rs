//! What every kind says of itself: names, labels, owners and finalizers.

use super::*;

#[test]
fn finalizers_of_built_in_kinds_say_whose_they_are() {
    let told = |at: usize, name: &str| {
        format!(
            "metadata.finalizers[{at}]: Invalid value: \"{name}\": name is neither a standard finalizer name nor is it fully qualified"
        )
    };
    let map = |finalizers: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": finalizers}});
    assert_eq!(
        errors(map(json!(["kubernetes", "orphan", "a.b/c"]))),
        none()
    );
    assert_eq!(errors(map(json!(["a.b/c", "foo"]))), [told(1, "foo")]);
    // Held by what an older server let in, it can still be changed.
    assert_eq!(
        update_errors(map(json!(["foo"])), |new| new
            .set_finalizers(&["foo", "bar"])),
        [told(1, "bar")]
    );
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "a", "namespace": "default", "finalizers": ["foo"]}});
    assert_eq!(errors(lease), none());
}

#[test]
fn metadata() {
    let with = |metadata: Value| {
        errors(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))
    };
    assert_eq!(with(json!({"name": "a.b-c"})), none());
    assert_eq!(
        with(json!({"name": "A"})),
        [
            "metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
          characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
          validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        ]
    );
    let errors = with(
        json!({"name": "a", "annotations": {"x": "y".repeat(300_000)}, "labels": {"a b": "c"},
        "finalizers": ["orphan", "foregroundDeletion"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "", "controller": true},
            {"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "u", "controller": true}]}),
    );
    let starts: Vec<&str> = errors
        .iter()
        .map(|error| error.split(':').next().unwrap())
        .collect();
    assert_eq!(
        starts,
        [
            "metadata.labels",
            "metadata.annotations",
            "metadata.ownerReferences.uid",
            "metadata.ownerReferences",
            "metadata.finalizers"
        ]
    );
    assert_eq!(
        errors[2],
        "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"
    );
    let map = || json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    assert_eq!(
        update_errors(map(), |new| new.set_uid("other")),
        ["metadata.uid: Invalid value: \"other\": field is immutable"]
    );
    assert_eq!(
        update_errors(map(), |new| new
            .set_deletion_timestamp(Some("2026-01-01T00:00:00Z"))),
        ["metadata.deletionTimestamp: Invalid value: \"2026-01-01T00:00:00Z\": field is immutable"]
    );
    assert_eq!(update_errors(map(), |new| new.set_uid("")), none());
    let named = |kind: &str, name: &str| {
        let mut object = match kind {
            "Service" => service(json!({"ports": [{"port": 80}]})),
            _ => deployment(),
        };
        object["kind"] = kind.into();
        object["metadata"]["name"] = name.into();
        super::errors(object)
    };
    assert_eq!(
        named("Service", "1a"),
        none(),
        "names may start with digits"
    );
    for kind in ["Service", "StatefulSet"] {
        assert_eq!(
            named(kind, "a.b"),
            ["metadata.name: Invalid value: \"a.b\": must not contain dots"]
        );
    }
    let namespaced =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "namespace": "x"}});
    assert_eq!(
        super::errors(namespaced),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
}
