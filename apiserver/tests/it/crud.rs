//! Create, get, update: identity, versions, dry runs, generated names.

use apiserver::Body;
use http::Method;
use serde_json::{Value, json};

use crate::server::{Answer, MAPS, Server, config_map};

#[tokio::test]
async fn a_missing_name_is_told_with_whatever_else_is_wrong() {
    let server = Server::start().await;
    let mut nameless = config_map("a", "1");
    nameless["metadata"] = json!({"labels": {"-": "x"}});
    nameless["data"]["a/b"] = "1".into();
    let refused = server.post(MAPS, nameless).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    let causes = refused.body["details"]["causes"].as_array().unwrap();
    let fields: Vec<&str> = causes
        .iter()
        .map(|cause| cause["field"].as_str().unwrap())
        .collect();
    assert_eq!(
        fields,
        ["metadata.name", "metadata.labels", "data[a/b]"],
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn an_object_lives() {
    let server = Server::start().await;
    let created = server.post(MAPS, config_map("a", "1")).await;
    assert_eq!(created.code, 201);
    let created = created.ok();
    assert_eq!(
        (created["kind"].as_str(), created["apiVersion"].as_str()),
        (Some("ConfigMap"), Some("v1"))
    );
    let metadata = &created["metadata"];
    assert!(
        metadata["uid"].as_str().unwrap().len() == 36 && metadata["creationTimestamp"].is_string()
    );
    assert_eq!(metadata["namespace"], "default");
    let got = server.get(&format!("{MAPS}/a")).await.ok();
    assert_eq!(got, created);

    let mut changed = got.clone();
    changed["data"]["key"] = "2".into();
    let updated = server.put(&format!("{MAPS}/a"), changed.clone()).await.ok();
    assert_ne!(
        updated["metadata"]["resourceVersion"],
        got["metadata"]["resourceVersion"]
    );
    assert_eq!(updated["metadata"]["uid"], got["metadata"]["uid"]);

    let stale = server.put(&format!("{MAPS}/a"), changed.clone()).await;
    assert_eq!(
        stale.refused(),
        (
            409,
            "Conflict",
            "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
        )
    );
    changed["metadata"]["resourceVersion"] = serde_json::Value::Null;
    changed["data"]["key"] = "3".into();
    let unconditional = server.put(&format!("{MAPS}/a"), changed).await.ok();
    assert_eq!(unconditional["data"]["key"], "3");

    let same = server
        .put(&format!("{MAPS}/a"), unconditional.clone())
        .await
        .ok();
    assert_eq!(
        same, unconditional,
        "an update that changes nothing keeps the version"
    );

    let deleted = server.delete(&format!("{MAPS}/a"), json!(null)).await.ok();
    assert_eq!(
        (deleted["kind"].as_str(), deleted["status"].as_str()),
        (Some("Status"), Some("Success"))
    );
    assert_eq!(
        deleted["details"],
        json!({"name": "a", "kind": "configmaps", "uid": metadata["uid"]})
    );
    let gone = server.get(&format!("{MAPS}/a")).await;
    assert_eq!(
        gone.refused(),
        (404, "NotFound", "configmaps \"a\" not found")
    );
    assert_eq!(
        server
            .delete(&format!("{MAPS}/a"), json!(null))
            .await
            .refused()
            .0,
        404
    );
}

#[tokio::test]
async fn creation_is_exclusive_and_names_are_generated() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let again = server.post(MAPS, config_map("a", "1")).await;
    assert_eq!(
        again.refused(),
        (409, "AlreadyExists", "configmaps \"a\" already exists")
    );
    let mut nameless = config_map("", "1");
    nameless["metadata"] = json!({"generateName": "gen-"});
    let first = server.post(MAPS, nameless.clone()).await.ok();
    let second = server.post(MAPS, nameless).await.ok();
    let names: Vec<&str> = [&first, &second]
        .iter()
        .map(|o| o["metadata"]["name"].as_str().unwrap())
        .collect();
    assert!(names[0].starts_with("gen-") && names[0].len() == 9 && names[0] != names[1]);
    let missing = server
        .post(
            MAPS,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
        )
        .await;
    assert_eq!(missing.refused().1, "Invalid");
    assert_eq!(
        missing.body["details"]["causes"][0]["field"],
        "metadata.name"
    );
}

#[tokio::test]
async fn dry_runs_leave_nothing() {
    let server = Server::start().await;
    let answer = server
        .post(&format!("{MAPS}?dryRun=All"), config_map("a", "1"))
        .await;
    assert_eq!(answer.code, 201);
    assert!(answer.body["metadata"]["uid"].is_string());
    assert_eq!(server.get(&format!("{MAPS}/a")).await.code, 404);
    server.post(MAPS, config_map("a", "1")).await.ok();
    let changed = server
        .put(&format!("{MAPS}/a?dryRun=All"), config_map("a", "2"))
        .await
        .ok();
    assert_eq!(changed["data"]["key"], "2");
    server
        .delete(
            &format!("{MAPS}/a"),
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}),
        )
        .await
        .ok();
    assert_eq!(
        server.get(&format!("{MAPS}/a")).await.ok()["data"]["key"],
        "1"
    );
    let other = server
        .post(&format!("{MAPS}?dryRun=some"), config_map("b", "1"))
        .await;
    assert_eq!(other.refused().0, 422);
}

#[tokio::test]
async fn field_validation_ignores_warns_or_refuses() {
    let server = Server::start().await;
    let mut object = config_map("a", "1");
    object["sPec"] = json!({"x": 1});
    let ignored = server
        .post(
            &format!("{MAPS}?fieldValidation=Ignore&dryRun=All"),
            object.clone(),
        )
        .await;
    assert!(ignored.code == 201 && ignored.headers.get("warning").is_none());
    let warned = server
        .post(&format!("{MAPS}?dryRun=All"), object.clone())
        .await;
    assert_eq!(
        warned.headers.get("warning").unwrap(),
        "299 - \"unknown field \\\"sPec\\\"\""
    );
    assert!(warned.body.get("sPec").is_none());
    let strict = server
        .post(&format!("{MAPS}?fieldValidation=Strict"), object)
        .await;
    assert_eq!(
        strict.refused(),
        (
            400,
            "BadRequest",
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"sPec\""
        )
    );
    let twice = server
        .request(Method::POST, &format!("{MAPS}?fieldValidation=Strict"))
        .body(r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","name":"b"}}"#.into())
        .unwrap();
    assert!(
        server
            .read(twice)
            .await
            .refused()
            .2
            .contains("duplicate field \"metadata.name\"")
    );
    // In the order of the text, wherever they stand; a body that does not say what it is is JSON.
    let text = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "unknownMeta": "x"},
        "spec": {"unknownField": "x", "replicas": 2, "replicas": 3}}"#;
    let uri = "/apis/apps/v1/namespaces/default/deployments?fieldValidation=Strict";
    let request = server.request(Method::POST, uri).body(text.into()).unwrap();
    let refused = server.read(request).await;
    let (code, _, message) = refused.refused();
    let problems = r#"strict decoding error: unknown field "metadata.unknownMeta", unknown field "spec.unknownField", duplicate field "spec.replicas""#;
    assert_eq!(code, 400);
    assert!(message.ends_with(problems), "{message}");
}

#[tokio::test]
async fn a_restarted_server_serves_what_the_store_has() {
    let server = Server::start().await;
    let created = server.post(MAPS, config_map("a", "1")).await.ok();
    let store = server.store.clone();
    drop(server);
    let server = Server::over(store).await;
    assert_eq!(server.get(&format!("{MAPS}/a")).await.ok(), created);
    let version = created["metadata"]["resourceVersion"].as_str().unwrap();
    server.post(MAPS, config_map("b", "1")).await.ok();
    let mut events = server
        .watch(&format!("{MAPS}?watch=1&resourceVersion={version}"))
        .await;
    assert_eq!(events.line().await, "ADDED b");
}

#[tokio::test]
async fn a_taint_of_a_device_keeps_the_time_when_it_came() {
    const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";
    let server = Server::start().await;
    let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"},
        "spec": {"driver": "d.example.com", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "a", "taints": [{"key": "k", "effect": "NoExecute"}]}]}});
    let created = server.post(SLICES, slice.clone()).await.ok();
    let since =
        |slice: &serde_json::Value| slice["spec"]["devices"][0]["taints"][0]["timeAdded"].clone();
    assert!(since(&created).is_string(), "{created}");
    let again = server.put(&format!("{SLICES}/s"), slice.clone()).await.ok();
    assert_eq!(since(&again), since(&created));
    assert_eq!(
        again["metadata"]["generation"], 1,
        "publishing it again is no change"
    );
    let mut said = slice;
    said["spec"]["devices"][0]["taints"][0]["timeAdded"] = "2026-01-01T00:00:00Z".into();
    let said = server.put(&format!("{SLICES}/s"), said).await.ok();
    assert_eq!(since(&said), "2026-01-01T00:00:00Z");
}

/// RFC 7240: who needs no more of an answer than which object it is about, and its version, may say so.
#[tokio::test]
async fn a_client_may_be_content_with_little() {
    let server = Server::start().await;
    let send = async |method: Method, uri: &str, kind: &str, little: bool, body: Value| {
        let mut request = server
            .request(method, uri)
            .header("content-type", format!("application/{kind}"));
        if little {
            request = request.header("prefer", "return=minimal, wait=5");
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        server.read(request).await
    };
    let created = send(Method::POST, MAPS, "json", true, config_map("a", "1")).await;
    assert_eq!(created.code, 201);
    let applied = |answer: &Answer| {
        let said = answer.headers.get("preference-applied");
        said.is_some_and(|said| said == "return=minimal")
    };
    assert!(applied(&created));
    let uri = format!("{MAPS}/a");
    let whole = server.get(&uri).await.ok();
    let of = |whole: &Value| {
        let metadata = &whole["metadata"];
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default",
            "resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}})
    };
    assert_eq!(created.ok(), of(&whole));
    let change = json!({"data": {"key": "2"}});
    let kind = "merge-patch+json";
    let patched = send(Method::PATCH, &uri, kind, true, change.clone()).await;
    let whole = server.get(&uri).await.ok();
    assert_eq!(whole["data"]["key"], "2");
    assert_eq!(patched.ok(), of(&whole));
    // What changes nothing is answered alike; errors, reads, and who does not ask for it get all.
    let again = send(Method::PATCH, &uri, kind, true, change.clone()).await;
    assert_eq!(again.ok(), of(&whole));
    let all = send(Method::PATCH, &uri, kind, false, change).await;
    assert!(!applied(&all));
    assert_eq!(all.ok(), whole);
    let taken = send(Method::POST, MAPS, "json", true, config_map("a", "1")).await;
    assert!(!applied(&taken));
    assert_eq!(taken.refused().1, "AlreadyExists");
    let read = server
        .request(Method::GET, &uri)
        .header("prefer", "return=minimal");
    let read = read.body(Body::empty()).unwrap();
    let read = server.read(read).await;
    assert!(!applied(&read));
    assert_eq!(read.ok(), whole);
}
