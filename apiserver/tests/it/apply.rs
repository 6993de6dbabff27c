//! Server-side apply and managed fields, over HTTP.

use axum::body::Body;
use http::Method;
use serde_json::{Value, json};

use crate::server::{Answer, MAPS, PODS, Server, config_map, pod};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";

fn deployment(replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "main", "image": "busybox", "ports": [{"containerPort": 443}, {"containerPort": 80}]}]}}}})
}

async fn apply(server: &Server, uri: &str, body: impl Into<Body>) -> Answer {
    let request = server
        .request(Method::PATCH, uri)
        .header("content-type", "application/apply-patch+yaml")
        .body(body.into())
        .unwrap();
    server.read(request).await
}

/// Applies as `manager`; the query goes on with `&..`.
async fn apply_as(server: &Server, uri: &str, manager: &str, config: &Value) -> Answer {
    let uri = format!("{uri}?fieldManager={manager}");
    apply(server, &uri, config.to_string()).await
}

/// `manager operation subresource` of every entry.
fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let text = |entry: &Value| {
        let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        [field("manager"), field("operation"), field("subresource")].join(" ")
    };
    entries.into_iter().flatten().map(text).collect()
}

#[tokio::test]
async fn what_is_applied_is_made_and_changed_and_taken_back() {
    let server = Server::start().await;
    let created = apply_as(&server, WEB, "one", &deployment(1)).await;
    assert_eq!(created.code, 201);
    let created = created.ok();
    assert_eq!(created["spec"]["strategy"]["type"], "RollingUpdate");
    assert_eq!(managers(&created), ["one Apply "]);
    assert_eq!(
        created["metadata"]["managedFields"][0]["apiVersion"],
        "apps/v1"
    );
    // Again: not even a new version.
    let again = apply_as(&server, WEB, "one", &deployment(1)).await;
    assert_eq!(again.code, 200);
    assert_eq!(again.ok(), created);

    let mut other = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "b"}}});
    let labelled = apply_as(&server, WEB, "two", &other).await.ok();
    assert_eq!(managers(&labelled), ["one Apply ", "two Apply "]);
    other["metadata"]["labels"] = json!({});
    let bare = apply_as(&server, WEB, "two", &other).await.ok();
    assert_eq!(bare["metadata"]["labels"].get("a"), None);
    assert_eq!(bare["spec"], created["spec"]);

    // YAML, and a dry run.
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  a: b\n";
    let uri = format!("{MAPS}/m?fieldManager=x");
    let dry = apply(&server, &format!("{uri}&dryRun=All"), yaml).await;
    assert_eq!(dry.code, 201);
    assert_eq!(server.get(&format!("{MAPS}/m")).await.code, 404);
    assert_eq!(apply(&server, &uri, yaml).await.ok()["data"]["a"], "b");
    let none = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\n";
    assert_eq!(apply(&server, &uri, none).await.ok().get("data"), None);
}

#[tokio::test]
async fn every_write_has_an_owner() {
    let server = Server::start().await;
    let request = server
        .request(Method::POST, &format!("{DEPLOYMENTS}?fieldManager=maker"))
        .body(Body::from(deployment(1).to_string()))
        .unwrap();
    let created = server.read(request).await.ok();
    let fields = &created["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(fields["f:replicas"], json!({}));
    // Defaults are the creator's, as in Kubernetes.
    assert_eq!(fields["f:revisionHistoryLimit"], json!({}));

    let request = server
        .request(Method::PATCH, WEB)
        .header("content-type", "application/merge-patch+json")
        .header("user-agent", "tool/1.2 (linux)")
        .body(Body::from(r#"{"spec": {"replicas": 2}}"#))
        .unwrap();
    let patched = server.read(request).await.ok();
    assert_eq!(managers(&patched), ["maker Update ", "tool Update "]);
    assert_eq!(
        patched["metadata"]["managedFields"][1]["fieldsV1"],
        json!({"f:spec": {"f:replicas": {}}})
    );
    let mut status = patched.clone();
    status["status"] = json!({"replicas": 2});
    status["spec"]["replicas"] = 9.into();
    let uri = format!("{WEB}/status?fieldManager=controller");
    let updated = server.put(&uri, status).await.ok();
    assert!(managers(&updated).contains(&"tool Update ".to_owned()));
    assert!(managers(&updated).contains(&"controller Update status".to_owned()));
    let scaled = server
        .patch(
            &format!("{WEB}/scale?fieldManager=hpa"),
            "merge-patch+json",
            json!({"spec": {"replicas": 5}}),
        )
        .await
        .ok();
    assert_eq!(scaled["metadata"].get("managedFields"), None);
    let stored = server.get(WEB).await;
    let object = stored.body.clone();
    // They stand in the order of the seconds in which they wrote.
    let mut owners = managers(&object);
    owners.sort();
    assert_eq!(
        owners,
        [
            "controller Update status",
            "hpa Update scale",
            "maker Update "
        ]
    );
    // Items that are told apart by numbers are stored by size.
    let at = |port: u32| {
        stored
            .text
            .find(&format!("{{\\\"containerPort\\\":{port},"))
            .unwrap()
    };
    assert!(at(80) < at(443), "{}", stored.text);

    // A write without a change is none; a client that sends no managed fields does not lose them.
    let mut same = object.clone();
    same["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    assert_eq!(server.put(WEB, same.clone()).await.ok(), object);
    same["metadata"]["managedFields"] = json!([]);
    let reset = server
        .put(&format!("{WEB}?fieldManager=x"), same)
        .await
        .ok();
    assert_eq!(managers(&reset), [""; 0]);
}

#[tokio::test]
async fn what_admission_adds_belongs_to_nobody() {
    let server = Server::start().await;
    server.account("default").await;
    let created = server
        .post(&format!("{PODS}?fieldManager=x"), pod("p"))
        .await
        .ok();
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    let fields = &created["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(fields["f:restartPolicy"], json!({}));
    assert_eq!(fields.get("f:serviceAccountName"), None);
}

#[tokio::test]
async fn conflicts_are_told_and_can_be_forced() {
    let server = Server::start().await;
    server
        .post(&format!("{DEPLOYMENTS}?fieldManager=maker"), deployment(1))
        .await
        .ok();
    let refused = apply_as(&server, WEB, "one", &deployment(3)).await;
    let message =
        r#"Apply failed with 1 conflict: conflict with "maker" using apps/v1: .spec.replicas"#;
    assert_eq!(refused.refused(), (409, "Conflict", message));
    assert_eq!(
        refused.body["details"],
        json!({"causes": [{"reason": "FieldManagerConflict", "field": ".spec.replicas",
            "message": "conflict with \"maker\" using apps/v1"}]})
    );
    assert_eq!(server.get(WEB).await.ok()["spec"]["replicas"], 1);
    let forced = apply_as(&server, WEB, "one&force=true", &deployment(3))
        .await
        .ok();
    assert_eq!(forced["spec"]["replicas"], 3);
    let old = &forced["metadata"]["managedFields"][1];
    assert_eq!(
        (&old["manager"], old["fieldsV1"]["f:spec"].get("f:replicas")),
        (&json!("maker"), None)
    );
}

#[tokio::test]
async fn status_and_scale_are_applied_through_their_doors() {
    let server = Server::start().await;
    apply_as(&server, WEB, "one", &deployment(1)).await.ok();
    let mut status = deployment(7);
    status["status"] = json!({"replicas": 1});
    let applied = apply_as(&server, &format!("{WEB}/status"), "two", &status)
        .await
        .ok();
    assert_eq!(
        (&applied["spec"]["replicas"], &applied["status"]["replicas"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(managers(&applied), ["one Apply ", "two Apply status"]);
    assert_eq!(
        applied["metadata"]["managedFields"][1]["fieldsV1"],
        json!({"f:status": {"f:replicas": {}}})
    );
    let uri = format!("{WEB}/scale");
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "default"}, "spec": {"replicas": 4}});
    let refused = apply_as(&server, &uri, "three", &scale).await;
    assert_eq!(
        refused.refused().2,
        r#"Apply failed with 1 conflict: conflict with "one": .spec.replicas"#
    );
    let scaled = apply_as(&server, &uri, "three&force=true", &scale)
        .await
        .ok();
    assert_eq!(
        (&scaled["kind"], &scaled["spec"]["replicas"]),
        (&json!("Scale"), &json!(4))
    );
    let object = server.get(WEB).await.ok();
    assert_eq!(
        managers(&object),
        ["one Apply ", "three Apply scale", "two Apply status"]
    );
    let updated = json!({"spec": {"replicas": 5}});
    let hpa = format!("{WEB}?fieldManager=hpa");
    server.patch(&hpa, "merge-patch+json", updated).await.ok();
    let refused = apply_as(&server, &uri, "three", &scale).await;
    assert_eq!(
        refused.refused().2,
        r#"Apply failed with 1 conflict: conflict with "hpa" using autoscaling/v1: .spec.replicas"#
    );
    for gone in ["status", "scale"] {
        let uri = format!("{DEPLOYMENTS}/none/{gone}");
        let mut config = if gone == "scale" {
            scale.clone()
        } else {
            status.clone()
        };
        config["metadata"]["name"] = "none".into();
        assert_eq!(apply_as(&server, &uri, "x", &config).await.refused().0, 404);
    }
}

#[tokio::test]
async fn bad_configurations_are_refused_with_kubernetes_texts() {
    let server = Server::start().await;
    let map = |fields: Value| {
        let mut map = config_map("m", "v");
        for (key, value) in fields.as_object().unwrap() {
            map[key] = value.clone();
        }
        map.to_string()
    };
    let fine = map(json!({}));
    let long = "x".repeat(129);
    let required = r#"PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch"#;
    for (query, body, code, message) in [
        ("", fine.clone(), 422, required),
        ("fieldManager=", fine.clone(), 422, required),
        (
            &format!("fieldManager={long}"),
            fine.clone(),
            422,
            r#"PatchOptions.meta.k8s.io "" is invalid: fieldManager: Too long: may not be more than 128 bytes"#,
        ),
        (
            "fieldManager=x",
            String::new(),
            400,
            "invalid object type: /, Kind=",
        ),
        (
            "fieldManager=x",
            map(json!({"kind": "Secret"})),
            400,
            "invalid object type: /v1, Kind=Secret",
        ),
        (
            "fieldManager=x",
            map(json!({"apiVersion": "apps/v1"})),
            400,
            "invalid object type: apps/v1, Kind=ConfigMap",
        ),
        (
            "fieldManager=x",
            map(json!({"metadata": {"name": "m", "managedFields": []}})),
            400,
            "metadata.managedFields must be nil",
        ),
        (
            "fieldManager=x",
            map(json!({"metadata": {"name": "other"}})),
            400,
            "the name of the object (other) does not match the name on the URL (m)",
        ),
        (
            "fieldManager=x&fieldValidation=Strict",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: b, a: c}\n".to_owned(),
            400,
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 4: key \"a\" already set in map",
        ),
    ] {
        let answer = apply(&server, &format!("{MAPS}/m?{query}"), body).await;
        assert_eq!(
            (answer.refused().0, answer.refused().2),
            (code, message),
            "{query}"
        );
    }
    let answer = apply(
        &server,
        &format!("{MAPS}/m?fieldManager=x"),
        map(json!({"dta": 1})),
    )
    .await;
    assert_eq!(answer.code, 500);
    assert_eq!(
        answer.body["message"],
        "failed to create typed patch object (/m; /v1, Kind=ConfigMap): .dta: field not declared in schema"
    );
    assert_eq!(answer.body.get("reason"), None);
    for body in ["", "- a", "{", "a: [", "7"] {
        let answer = apply(&server, &format!("{MAPS}/m?fieldManager=x"), body).await;
        assert_eq!(answer.refused().0, 400, "{body}");
    }
    let uid = map(json!({"metadata": {"name": "m", "uid": "u"}}));
    let answer = apply(&server, &format!("{MAPS}/m?fieldManager=x"), uid.clone()).await;
    assert_eq!(
        answer.refused(),
        (
            409,
            "Conflict",
            "Operation cannot be fulfilled on configmaps \"m\": uid mismatch: the provided object specified uid u, and no existing object was found"
        )
    );
    server.post(MAPS, config_map("m", "v")).await.ok();
    assert_eq!(
        apply(&server, &format!("{MAPS}/m?fieldManager=x"), uid)
            .await
            .refused()
            .0,
        422
    );
    let stale = map(json!({"metadata": {"name": "m", "resourceVersion": "1"}}));
    assert_eq!(
        apply(&server, &format!("{MAPS}/m?fieldManager=x"), stale)
            .await
            .refused()
            .0,
        409
    );

    let forced = server
        .patch(
            &format!("{MAPS}/m?force=true"),
            "merge-patch+json",
            json!({}),
        )
        .await;
    assert_eq!(
        forced.refused().2,
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    let cbor = server
        .patch(
            &format!("{MAPS}/m?fieldManager=x"),
            "apply-patch+cbor",
            json!({}),
        )
        .await;
    assert_eq!(cbor.refused().0, 415);
    let manager = server
        .post(&format!("{MAPS}?fieldManager={long}"), config_map("n", "v"))
        .await;
    assert_eq!(manager.refused().0, 422);
}

#[tokio::test]
async fn many_appliers_race_and_none_is_lost() {
    let server = Server::start().await;
    let uri = format!("{MAPS}/m");
    let appliers = (0..8).map(|i| {
        let (server, uri) = (&server, &uri);
        async move {
            let mut map = config_map("m", "v");
            let mut data = serde_json::Map::new();
            data.insert(format!("k{i}"), "x".into());
            map["data"] = data.into();
            apply_as(server, uri, &format!("m{i}"), &map).await.ok()
        }
    });
    futures::future::join_all(appliers).await;
    let object = server.get(&uri).await.ok();
    assert_eq!(object["data"].as_object().unwrap().len(), 8);
    assert_eq!(managers(&object).len(), 8);
}

#[tokio::test]
async fn an_autoscaler_has_the_same_owners_in_both_versions() {
    let server = Server::start().await;
    let uri = |version: &str| {
        format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/h")
    };
    let scaler = |version: &str, spec: Value| {
        let mut object = json!({"apiVersion": format!("autoscaling/{version}"), "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h"}, "spec": spec});
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        object["spec"]["scaleTargetRef"] = target;
        object["spec"]["maxReplicas"] = 3.into();
        object
    };
    let metrics = |percent: i64| {
        json!({"metrics": [{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": percent}}}]})
    };
    let first = scaler("v1", json!({"targetCPUUtilizationPercentage": 50}));
    apply_as(&server, &uri("v1"), "one", &first).await.ok();
    let same = apply_as(&server, &uri("v2"), "two", &scaler("v2", metrics(50))).await;
    // Who changes nothing has no time, and stands first.
    assert_eq!(managers(&same.ok()), ["two Apply ", "one Apply "]);
    let refused = apply_as(&server, &uri("v2"), "two", &scaler("v2", metrics(60))).await;
    assert_eq!(
        refused.refused().2,
        "Apply failed with 1 conflict: conflict with \"one\": .spec.targetCPUUtilizationPercentage"
    );
    // What an entry of a version says that is gone, nobody knows.
    let entries = json!({"metadata": {"managedFields": [{"manager": "old", "operation": "Update",
        "apiVersion": "autoscaling/v2beta2", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:x": {}}}}]}});
    let patched = server
        .patch(&uri("v2"), "merge-patch+json", entries)
        .await
        .ok();
    assert_eq!(managers(&patched), Vec::<String>::new());
}

#[tokio::test]
async fn managers_that_come_with_a_new_object_lose_what_is_set_by_it() {
    let server = Server::start().await;
    let uri = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers?fieldManager=maker";
    let entry = |manager: &str, api_version: &str, fields: Value| {
        json!({"manager": manager, "operation": "Update", "apiVersion": api_version,
            "fieldsType": "FieldsV1", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields})
    };
    let created = server
        .post(
            uri,
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "h", "managedFields": [
                    entry("new", "autoscaling/v2", json!({"f:spec": {"f:maxReplicas": {}}})),
                    entry("old", "autoscaling/v1", json!({"f:spec": {"f:maxReplicas": {}}})),
                ]},
                "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
        )
        .await
        .ok();
    assert_eq!(managers(&created), ["maker Update "]);
}
