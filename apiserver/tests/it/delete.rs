//! Deletion: grace, finalizers, preconditions, collections, namespaces.

use http::Method;
use serde_json::json;

use crate::server::{MAPS, PODS, Server, config_map, pod};

#[tokio::test]
async fn options_that_are_null_are_none() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let request = server
        .request(Method::DELETE, &format!("{MAPS}/a"))
        .header("content-type", "application/json")
        .body("null".into())
        .unwrap();
    assert_eq!(server.read(request).await.ok()["status"], "Success");
}

#[tokio::test]
async fn pods_leave_with_grace() {
    let server = Server::start().await;
    server.account("default").await;
    server.post(PODS, pod("unbound")).await.ok();
    let gone = server
        .delete(&format!("{PODS}/unbound"), json!(null))
        .await
        .ok();
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(server.get(&format!("{PODS}/unbound")).await.code, 404);

    server.post(PODS, pod("bound")).await.ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "bound"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = server.post(&format!("{PODS}/bound/binding"), binding).await;
    assert_eq!(
        (bound.code.as_u16(), bound.body["status"].as_str()),
        (201, Some("Success"))
    );
    let uri = format!("{PODS}/bound");
    let leaving = server.delete(&uri, json!(null)).await.ok();
    assert_eq!(leaving["metadata"]["deletionGracePeriodSeconds"], 30);
    let again = server.delete(&uri, json!(null)).await.ok();
    assert_eq!(
        again["metadata"]["resourceVersion"],
        leaving["metadata"]["resourceVersion"]
    );
    let shorter = server
        .delete(&format!("{uri}?gracePeriodSeconds=5"), json!(null))
        .await
        .ok();
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    server
        .delete(
            &uri,
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}),
        )
        .await
        .ok();
    assert_eq!(server.get(&uri).await.code, 404);
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let server = Server::start().await;
    let mut map = config_map("a", "1");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(MAPS, map).await.ok();
    let uri = format!("{MAPS}/a");
    let marked = server.delete(&uri, json!(null)).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["example.com/hold"])
    );
    let mut events = server
        .watch(&format!(
            "{MAPS}?watch=1&resourceVersion={}",
            marked["metadata"]["resourceVersion"].as_str().unwrap()
        ))
        .await;
    server
        .patch(
            &uri,
            "merge-patch+json",
            json!({"metadata": {"finalizers": null}}),
        )
        .await
        .ok();
    assert_eq!(events.line().await, "DELETED a");
    assert_eq!(server.get(&uri).await.code, 404);

    server.post(MAPS, config_map("b", "1")).await.ok();
    let options =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"});
    let marked = server.delete(&format!("{MAPS}/b"), options).await.ok();
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
}

#[tokio::test]
async fn preconditions_are_checked() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let with = |preconditions: serde_json::Value| json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions});
    let uri = format!("{MAPS}/a");
    let wrong = server.delete(&uri, with(json!({"uid": "x"}))).await;
    assert_eq!(wrong.refused().1, "Conflict");
    assert!(wrong.refused().2.starts_with(
        "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (x) does not match the UID in record ("
    ));
    assert_eq!(
        server
            .delete(&uri, with(json!({"resourceVersion": "1"})))
            .await
            .refused()
            .0,
        409
    );
    let bad = server
        .delete(
            &uri,
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Never"}),
        )
        .await;
    assert_eq!(bad.refused().0, 422);
    let empty = server
        .delete(&format!("{uri}?propagationPolicy="), json!(null))
        .await;
    assert_eq!(empty.refused().0, 422);
    let nothing = server
        .delete(&format!("{uri}?gracePeriodSeconds="), json!(null))
        .await;
    assert_eq!(
        nothing.refused(),
        (
            400,
            "BadRequest",
            "strconv.ParseInt: parsing \"\": invalid syntax"
        )
    );
}

#[tokio::test]
async fn options_are_read_from_the_body_or_else_from_the_query() {
    let server = Server::start().await;
    let uri = format!("{MAPS}/a");
    let dry = format!("{uri}?dryRun=All");
    server.post(MAPS, config_map("a", "1")).await.ok();
    for body in [json!(null), json!({"dryRun": ["All"]})] {
        server.delete(&dry, body).await.ok();
        assert_eq!(server.get(&uri).await.code, 200);
    }
    let misread = server.delete(&dry, json!({"dryRun": "All"})).await;
    let text =
        "json: cannot unmarshal string into Go struct field DeleteOptions.dryRun of type []string";
    assert_eq!(misread.refused(), (400, "BadRequest", text));
    // The query does not count, not even where it is wrong.
    let ignored = format!("{dry}&gracePeriodSeconds=soon");
    server.delete(&ignored, json!({})).await.ok();
    assert_eq!(server.get(&uri).await.code, 404);
}

#[tokio::test]
async fn preconditions_hold_for_each_of_a_collection_and_may_stand_in_the_query() {
    let server = Server::start().await;
    for name in ["a", "b"] {
        server.post(MAPS, config_map(name, "1")).await.ok();
    }
    let uri = format!("{MAPS}/a");
    let first = server.get(&uri).await.ok();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let only = format!("{MAPS}?fieldSelector=metadata.name%3Da");
    let with = |version: &str| json!({"preconditions": {"resourceVersion": version}});
    assert_eq!(server.delete(&only, with("1")).await.refused().0, 409);
    for query in ["uid=x", "resourceVersion=1"] {
        let one = format!("{uri}?{query}");
        assert_eq!(server.delete(&one, json!(null)).await.refused().0, 409);
        let all = format!("{only}&{query}");
        assert_eq!(server.delete(&all, json!(null)).await.refused().0, 409);
    }
    assert_eq!(server.get(&uri).await.code, 200);
    let gone = format!("{only}&resourceVersion={version}");
    server.delete(&gone, json!(null)).await.ok();
    assert_eq!(server.get(&uri).await.code, 404);
    assert_eq!(server.get(&format!("{MAPS}/b")).await.code, 200);
}

#[tokio::test]
async fn collections_go_by_selector() {
    let server = Server::start().await;
    for (name, tier) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut map = config_map(name, "1");
        map["metadata"]["labels"] = json!({"tier": tier});
        server.post(MAPS, map).await.ok();
    }
    let of_tier = format!("{MAPS}?labelSelector=tier%3Dx");
    let counted = server
        .delete(&format!("{of_tier}&limit=1&dryRun=All"), json!(null))
        .await
        .ok();
    assert_eq!(counted["items"].as_array().unwrap().len(), 1);
    assert!(counted["metadata"]["continue"].is_string(), "{counted}");
    // It is a list like any other: its items are as they were before, and have no kinds.
    let marked = json!({"metadata": {"finalizers": ["example.com/wait"]}});
    let held = format!("{MAPS}/a");
    server.patch(&held, "merge-patch+json", marked).await.ok();
    let deleted = server.delete(&of_tier, json!(null)).await.ok();
    let items = deleted["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["metadata"].get("deletionTimestamp"), None);
    assert_eq!(items[0].get("kind"), None);
    let held_on = server.get(&held).await.ok();
    assert!(held_on["metadata"]["deletionTimestamp"].is_string());
    let request = server
        .request(Method::DELETE, &of_tier)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Default::default())
        .unwrap();
    let table = server.read(request).await.ok();
    assert_eq!(
        (&table["kind"], &table["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("a"))
    );
    let free = json!({"metadata": {"finalizers": null}});
    server.patch(&held, "merge-patch+json", free).await.ok();
    let left = server.get(MAPS).await.ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn namespaces_end_in_two_steps() {
    let server = Server::start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    let created = server.post("/api/v1/namespaces", namespace).await.ok();
    assert_eq!(created["spec"]["finalizers"], json!(["kubernetes"]));
    let leaving = server
        .delete("/api/v1/namespaces/team", json!(null))
        .await
        .ok();
    assert_eq!(
        (
            leaving["kind"].as_str(),
            leaving["status"]["phase"].as_str()
        ),
        (Some("Namespace"), Some("Terminating"))
    );
    let refused = server
        .post("/api/v1/namespaces/team/configmaps", config_map("a", "1"))
        .await;
    assert_eq!(refused.refused().0, 403);
    assert!(
        refused.refused().2.contains(
            "unable to create new content in namespace team because it is being terminated"
        )
    );
    assert_eq!(
        refused.body["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    let mut finalized = leaving.clone();
    finalized["spec"]["finalizers"] = json!([]);
    server
        .put("/api/v1/namespaces/team/finalize", finalized)
        .await
        .ok();
    assert_eq!(server.get("/api/v1/namespaces/team").await.code, 404);
    let immortal = server
        .delete("/api/v1/namespaces/default", json!(null))
        .await;
    assert_eq!(
        immortal.refused(),
        (
            403,
            "Forbidden",
            "namespaces \"default\" is forbidden: this namespace may not be deleted"
        )
    );
    let missing = server
        .post("/api/v1/namespaces/none/configmaps", config_map("a", "1"))
        .await;
    assert_eq!(
        missing.refused(),
        (404, "NotFound", "namespaces \"none\" not found")
    );
}
