use super::*;
use crate::types::{type_named, type_of};

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
        custom: None,
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
        custom: None,
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
        custom: None,
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
        custom: None,
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
    assert_eq!(port["containerPort"]["default"], 0);
    assert_eq!(port["hostPort"].get("default"), None);
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

/// What manifests are full of tells it for each of its fields.
#[test]
fn common_parts_are_described() {
    for name in [
        "core.ResourceRequirements",
        "core.ResourceClaim",
        "core.Affinity",
        "core.NodeAffinity",
        "core.PodAffinity",
        "core.Toleration",
        "core.HTTPGetAction",
        "core.ObjectFieldSelector",
        "apps.ReplicaSetSpec",
    ] {
        let ty = type_named(name).unwrap();
        for field in &ty.fields {
            assert!(!field.description.is_empty(), "{name}.{}", field.name);
        }
    }
}

fn with_custom<T>(schema: Value, make: impl FnOnce(&[Served<'_>]) -> T) -> T {
    let served = [Served {
        group: "stable.example.com",
        version: "v1",
        plural: "crontabs",
        singular: "crontab",
        kind: "CronTab",
        namespaced: true,
        verbs: STANDARD,
        subresources: &[
            ServedSubresource {
                name: "status",
                kind: "CronTab",
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
        custom: Some(Custom {
            list_kind: "CronTabList",
            schema: Some(&schema),
        }),
    }];
    make(&served)
}

fn cron_tab() -> Value {
    json!({"type": "object", "description": "A table.", "properties": {"spec": {
        "type": "object", "required": ["size", "when"], "oneOf": [{"required": ["size"]}], "properties": {
            "size": {"type": "integer", "default": 1, "minimum": 0, "maximum": 9.5},
            "when": {"type": "string", "nullable": true, "enum": ["a", "b"], "pattern": "^a"},
            "port": {"x-kubernetes-int-or-string": true},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}},
            "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"data": {"type": "object"}}}}}}})
}

#[test]
fn custom_resources_are_published_like_others() {
    let name = "com.example.stable.v1.CronTab";
    let document = with_custom(cron_tab(), |served| {
        v3_document(served, "stable.example.com", "v1", "v1.36.0").unwrap()
    });
    let schemas = &document["components"]["schemas"];
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        let name = reference.strip_prefix("#/components/schemas/").unwrap();
        assert!(schemas.get(name).is_some(), "{name}");
    }
    let table = &schemas[name];
    assert_eq!(table["description"], "A table.");
    assert_eq!(
        table["x-kubernetes-group-version-kind"],
        json!([{"group": "stable.example.com", "version": "v1", "kind": "CronTab"}])
    );
    let meta = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert_eq!(table["properties"]["metadata"]["allOf"][0]["$ref"], meta);
    assert_eq!(table["properties"]["kind"]["type"], "string");
    let spec = &table["properties"]["spec"];
    assert_eq!(spec["oneOf"], json!([{"required": ["size"]}]));
    assert_eq!(spec["properties"]["when"]["nullable"], true);
    assert_eq!(
        spec["properties"]["port"],
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]})
    );
    let inner = &spec["properties"]["inner"];
    assert_eq!(inner["properties"]["metadata"]["allOf"][0]["$ref"], meta);
    assert_eq!(inner["required"], json!(["kind", "apiVersion"]));
    let list = &schemas["com.example.stable.v1.CronTabList"];
    assert_eq!(
        list["properties"]["items"]["items"]["$ref"],
        format!("#/components/schemas/{name}")
    );
    let object = "/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}";
    let patch = &document["paths"][object]["patch"];
    assert_eq!(
        patch["operationId"],
        "patchStableExampleComV1NamespacedCronTab"
    );
    let formats: Vec<&String> = patch["requestBody"]["content"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(
        formats,
        [
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json"
        ]
    );
    let answer = |path: &str| {
        let content = &document["paths"][path]["get"]["responses"]["200"]["content"];
        assert!(content.get("application/vnd.kubernetes.protobuf").is_none());
        content["application/json"]["schema"]["$ref"].clone()
    };
    assert_eq!(answer(object), format!("#/components/schemas/{name}"));
    assert_eq!(
        answer(&format!("{object}/status")),
        format!("#/components/schemas/{name}")
    );
    assert_eq!(
        answer(&format!("{object}/scale")),
        "#/components/schemas/io.k8s.api.autoscaling.v1.Scale"
    );
    assert_eq!(
        answer("/apis/stable.example.com/v1/crontabs"),
        "#/components/schemas/com.example.stable.v1.CronTabList"
    );
}

#[test]
fn version_2_leaves_out_what_it_cannot_say() {
    let document = with_custom(cron_tab(), |served| v2_document(served, "v1.36.0"));
    let table = &document["definitions"]["com.example.stable.v1.CronTab"];
    let spec = &table["properties"]["spec"];
    assert_eq!(spec["required"], json!(["size"]));
    assert!(spec.get("oneOf").is_none());
    assert_eq!(
        spec["properties"]["when"],
        json!({"enum": ["a", "b"], "pattern": "^a"})
    );
    assert_eq!(
        spec["properties"]["any"],
        json!({"x-kubernetes-preserve-unknown-fields": true})
    );
    assert_eq!(
        spec["properties"]["port"],
        json!({"x-kubernetes-int-or-string": true})
    );
    assert_eq!(
        table["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    assert!(!v2_protobuf(&document).is_empty());
    // Of what has any fields nothing is said, since kubectl would forbid them.
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"spec": {"type": "object"}}});
    let document = with_custom(open, |served| v2_document(served, "v1.36.0"));
    assert_eq!(
        document["definitions"]["com.example.stable.v1.CronTab"],
        json!({"type": "object", "x-kubernetes-group-version-kind":
            [{"group": "stable.example.com", "version": "v1", "kind": "CronTab"}]})
    );
}

#[test]
fn the_hash_follows_the_schema() {
    let hash = |schema| with_custom(schema, |served| hash_of(served, "stable.example.com", "v1"));
    assert_eq!(hash(cron_tab()), hash(cron_tab()));
    assert_ne!(hash(cron_tab()), hash(json!({"type": "object"})));
}
