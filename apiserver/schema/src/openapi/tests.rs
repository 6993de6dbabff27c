use super::*;
use crate::types::type_of;

const STANDARD: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

const SERVED: &[Served<'static>] = &[
    Served {
        group: "apps",
        version: "v1",
        plural: "deployments",
        singular: "deployment",
        kind: "Deployment",
        namespaced: true,
        verbs: STANDARD,
        subresources: &[
            ServedSubresource {
                name: "status",
                kind: "Deployment",
                group: "",
                version: "",
                verbs: &["get", "patch", "update"],
            },
            ServedSubresource {
                name: "scale",
                kind: "Scale",
                group: "autoscaling",
                version: "v1",
                verbs: &["get", "patch", "update"],
            },
        ],
    },
    Served {
        group: "",
        version: "v1",
        plural: "pods",
        singular: "pod",
        kind: "Pod",
        namespaced: true,
        verbs: STANDARD,
        subresources: &[
            ServedSubresource {
                name: "exec",
                kind: "PodExecOptions",
                group: "",
                version: "",
                verbs: &["create", "get"],
            },
            ServedSubresource {
                name: "eviction",
                kind: "Eviction",
                group: "policy",
                version: "v1",
                verbs: &["create"],
            },
        ],
    },
    Served {
        group: "",
        version: "v1",
        plural: "nodes",
        singular: "node",
        kind: "Node",
        namespaced: false,
        verbs: STANDARD,
        subresources: &[],
    },
    Served {
        group: "rbac.authorization.k8s.io",
        version: "v1",
        plural: "roles",
        singular: "role",
        kind: "Role",
        namespaced: true,
        verbs: &["get"],
        subresources: &[],
    },
];

/// Every `$ref` below a value.
fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|v| references(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

#[test]
fn every_reference_resolves() {
    let v2 = v2_document(SERVED, "v1.36.0");
    let v3 = v3_document(SERVED, "", "v1", "v1.36.0").unwrap();
    for document in [v2, v3] {
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 100, "{}", found.len());
        for reference in found {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }
}

#[test]
fn the_index_names_the_documents() {
    let index = v3_index(SERVED);
    let paths: Vec<&String> = index["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        paths,
        [
            "api/v1",
            "apis/apps/v1",
            "apis/rbac.authorization.k8s.io/v1"
        ]
    );
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    assert_ne!(hash_of(SERVED, "", "v1"), hash_of(SERVED, "apps", "v1"));
    assert_eq!(
        hash_of(SERVED, "apps", "v1"),
        hash_of(&SERVED[..1], "apps", "v1")
    );
    assert!(v3_document(SERVED, "apps", "v2", "").is_none());
}

#[test]
fn operations_say_what_kubectl_looks_for() {
    let document = v3_document(SERVED, "apps", "v1", "v1.36.0").unwrap();
    let object = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    let patch = &document["paths"][object]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    assert_eq!(patch["x-kubernetes-action"], "patch");
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|p| p["name"].as_str())
        .collect();
    assert_eq!(
        names,
        ["dryRun", "fieldManager", "fieldValidation", "force"]
    );
    let formats: Vec<&String> = patch["requestBody"]["content"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(formats, PATCH_FORMATS);
    let paths = document["paths"].as_object().unwrap();
    let methods = |path: &str| {
        paths[path]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        methods(object),
        ["delete", "get", "parameters", "patch", "put"]
    );
    assert_eq!(
        methods("/apis/apps/v1/namespaces/{namespace}/deployments"),
        ["delete", "get", "parameters", "post"]
    );
    assert_eq!(methods("/apis/apps/v1/deployments"), ["get", "parameters"]);
    assert_eq!(methods("/apis/apps/v1/"), ["get"]);
    let scale = &paths[&format!("{object}/scale")]["get"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    let core = v3_document(SERVED, "", "v1", "v1.36.0").unwrap();
    let exec = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"];
    assert_eq!(exec["x-kubernetes-action"], "connect");
    assert!(core["paths"]["/api/v1/nodes/{name}"]["put"].is_object());
}

const PATCH_FORMATS: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

#[test]
fn schemas_have_the_extensions() {
    let document = v3_document(SERVED, "", "v1", "v1.36.0").unwrap();
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"];
    let containers = &spec["properties"]["containers"];
    assert_eq!(containers["type"], "array");
    assert_eq!(
        containers["items"],
        json!({"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}], "default": {}})
    );
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(
        spec["properties"]["volumes"]["x-kubernetes-patch-strategy"],
        "merge,retainKeys"
    );
    assert_eq!(spec["required"], json!(["containers"]));
    assert_eq!(
        spec["properties"]["restartPolicy"]["enum"],
        json!(["Always", "Never", "OnFailure"])
    );
    let port = &schemas["io.k8s.api.core.v1.ContainerPort"]["properties"];
    assert_eq!(port["protocol"]["default"], "TCP");
    assert_eq!(
        schemas["io.k8s.api.core.v1.Pod"]["x-kubernetes-group-version-kind"],
        json!([{"group": "", "version": "v1", "kind": "Pod"}])
    );
    assert_eq!(
        schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"],
        "int-or-string"
    );
    let v2 = v2_document(SERVED, "v1.36.0");
    let definitions = &v2["definitions"];
    assert_eq!(
        definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"],
        "string"
    );
    assert_eq!(
        definitions["io.k8s.api.core.v1.PodSpec"]["properties"]["affinity"]["$ref"],
        "#/definitions/io.k8s.api.core.v1.Affinity"
    );
}

#[test]
fn version_2_as_protobuf() {
    let bytes = v2_protobuf(&v2_document(SERVED, "v1.36.0"));
    // swagger = 1: "2.0", info = 2: {title = 1, version = 2}
    let head = b"\x0a\x032.0\x12\x15\x0a\x0aKubernetes\x12\x07v1.36.0";
    assert_eq!(&bytes[..head.len()], head);
    let has = |text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
    assert!(has(b"x-kubernetes-patch-merge-key"));
    assert!(has(
        br#"[{"group":"apps","kind":"Deployment","version":"v1"}]"#
    ));
}

/// Every kind that has fields of its own tells what it is.
#[test]
fn common_kinds_are_described() {
    for (group, kind) in [
        ("", "Pod"),
        ("", "Service"),
        ("", "Node"),
        ("", "ConfigMap"),
        ("apps", "Deployment"),
        ("batch", "Job"),
    ] {
        let ty = type_of(group, "v1", kind).unwrap();
        assert!(!ty.description.is_empty(), "{kind}");
        for field in &ty.fields {
            assert!(!field.description.is_empty(), "{kind}.{}", field.name);
        }
    }
}
