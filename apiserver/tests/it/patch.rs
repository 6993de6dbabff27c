//! The patch types, their conflicts and their refusals.

use http::Method;
use kv::Store;
use serde_json::json;

use crate::server::{Answer, MAPS, PODS, Server, config_map, pod};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment() -> serde_json::Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [
            {"name": "one", "image": "busybox:1"}, {"name": "two", "image": "busybox:2"}]}}}})
}

#[tokio::test]
async fn every_patch_type_does_its_work() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let uri = format!("{MAPS}/a");
    let merged = server
        .patch(
            &uri,
            "merge-patch+json",
            json!({"data": {"key": null, "other": "2"}}),
        )
        .await
        .ok();
    assert_eq!(merged["data"], json!({"other": "2"}));
    let ops = json!([{"op": "test", "path": "/data/other", "value": "2"}, {"op": "add", "path": "/data/third", "value": "3"}]);
    let patched = server.patch(&uri, "json-patch+json", ops).await.ok();
    assert_eq!(patched["data"], json!({"other": "2", "third": "3"}));
    server.post(DEPLOYMENTS, deployment()).await.ok();
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "two", "image": "busybox:3"}]}}}});
    let strategic = server
        .patch(
            &format!("{DEPLOYMENTS}/web"),
            "strategic-merge-patch+json",
            image,
        )
        .await
        .ok();
    let images: Vec<&str> = strategic["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["image"].as_str().unwrap())
        .collect();
    let mut sorted = images.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["busybox:1", "busybox:3"]);
    assert_eq!(strategic["metadata"]["generation"], 2);
}

/// The one pod's status is written without a tree of its spec. A JSON patch may change anything, so that the other one's is not.
#[tokio::test]
async fn a_status_is_written_around_the_spec() {
    const MERGE: &str = "merge-patch+json";
    let server = Server::start().await;
    server.account("default").await;
    let conditions = json!([{"type": "Ready", "status": "True"}]);
    let merged =
        json!({"status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions}});
    let operations = json!([
        {"op": "add", "path": "/status/phase", "value": "Running"},
        {"op": "add", "path": "/status/podIP", "value": "10.0.0.1"},
        {"op": "add", "path": "/status/conditions", "value": conditions},
    ]);
    let mut told = Vec::new();
    for (name, kind, mut patch) in [
        ("short", "strategic-merge-patch+json", merged),
        ("long", "json-patch+json", operations),
    ] {
        server.post(PODS, pod(name)).await.ok();
        let uri = format!("{PODS}/{name}");
        let before = server.get(&uri).await.ok();
        if name == "short" {
            patch["metadata"] = json!({"uid": before["metadata"]["uid"]});
        }
        let status = format!("{uri}/status?fieldManager=node");
        let after = server.patch(&status, kind, patch.clone()).await.ok();
        assert_eq!(after, server.get(&uri).await.ok());
        assert_eq!(after["spec"], before["spec"]);
        assert_eq!(after["status"]["podIPs"], json!([{"ip": "10.0.0.1"}]));
        let again = server.patch(&status, kind, patch).await.ok();
        assert_eq!(again, after, "nothing has changed");
        let entries = after["metadata"]["managedFields"].as_array().unwrap();
        assert!(entries.contains(&before["metadata"]["managedFields"][0]));
        let entry = entries.iter().find(|entry| entry["manager"] == "node");
        let entry = entry.unwrap();
        let of = ["subresource", "fieldsV1"].map(|field| entry[field].clone());
        told.push((after["status"].clone(), of));
        let table = server
            .request(Method::PATCH, &status)
            .header("content-type", "application/merge-patch+json")
            .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
            .body(json!({"status": {"message": "m"}}).to_string().into())
            .unwrap();
        let table = server.read(table).await.ok();
        assert_eq!(table["rows"][0]["cells"][1], "0/1");
        for (patch, code) in [
            (json!({"metadata": {"resourceVersion": "1"}}), 409),
            (json!({"status": {"nominatedNodeName": "-"}}), 422),
            (json!({"metadata": {"name": "other"}}), 400),
        ] {
            let refused = server.patch(&status, MERGE, patch).await;
            assert_eq!(refused.refused().0, code, "{refused:?}");
        }
        let selected = format!("{PODS}?fieldSelector=status.phase=Running,metadata.name={name}");
        let list = server.get(&selected).await.ok();
        assert_eq!(list["items"][0]["spec"], before["spec"]);
        assert_eq!(list["items"][0]["status"]["message"], "m");
    }
    assert_eq!(told[0], told[1]);
}

/// Whoever writes to the store writes as he likes. What this server does not read it does not write in its own way either.
#[tokio::test]
async fn a_status_is_written_around_the_spec_of_somebody_else() {
    let server = Server::start().await;
    let spec = r#""spec":{ "nodeName":"m","nodeName":"\u006e","containers":[{"image":"}\"{","name":"c"}]}"#;
    let value = format!(
        r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"p","namespace":"default","uid":"u"}},{spec},"status":{{"phase":"Pending"}}}}"#
    );
    let put = kv::PutRequest {
        key: "/registry/pods/default/p".into(),
        value: value.into(),
        ..kv::PutRequest::default()
    };
    let op = kv::RequestOp {
        request: Some(kv::Request::Put(put)),
    };
    let request = kv::TxnRequest {
        success: vec![op],
        ..kv::TxnRequest::default()
    };
    server.store.txn(request).await.unwrap();
    let uri = format!("{PODS}/p");
    let status = format!("{uri}/status");
    let before = server.get(&uri).await.ok();
    for (phase, host) in [("Running", "10.0.0.1"), ("Succeeded", "10.0.0.2")] {
        let body = json!({"status": {"phase": phase, "hostIP": host}});
        let kind = "strategic-merge-patch+json";
        let patched = server.patch(&status, kind, body).await;
        assert!(patched.text.contains(spec), "{}", patched.text);
        assert_eq!(server.get(&uri).await.text, patched.text);
        let after = patched.ok();
        assert_eq!(after["spec"], before["spec"]);
        assert_eq!(after["status"]["hostIP"], host);
        let selected = format!("{PODS}?fieldSelector=spec.nodeName=n,status.phase={phase}");
        let list = server.get(&selected).await.ok();
        assert_eq!(list["items"][0]["metadata"]["name"], "p");
    }
}

/// The server makes each copy of what it has left of the object's past.
#[tokio::test]
async fn an_object_that_changes_again_and_again_is_told_as_it_is() {
    let server = Server::start().await;
    server.account("default").await;
    let mut before = server.post(PODS, pod("busy")).await.ok();
    let uri = format!("{PODS}/busy");
    for turn in 0..12 {
        let turn_text = turn.to_string();
        let metadata = json!({"annotations": {"turn": turn_text}});
        let (at, kind, patch) = match turn % 3 {
            0 => (
                uri.clone(),
                "merge-patch+json",
                json!({"metadata": metadata}),
            ),
            1 => (
                uri.clone(),
                "strategic-merge-patch+json",
                json!({"metadata": metadata}),
            ),
            _ => (
                format!("{uri}?fieldManager=a&force=true"),
                "apply-patch+yaml",
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}),
            ),
        };
        let after = server.patch(&at, kind, patch).await.ok();
        assert_eq!(after, server.get(&uri).await.ok());
        before["metadata"]["annotations"]["turn"] = turn_text.into();
        for field in ["resourceVersion", "managedFields"] {
            before["metadata"][field] = after["metadata"][field].clone();
        }
        assert_eq!(after, before, "{kind}");
    }
    let gone = server.delete(&uri, json!(null)).await.ok();
    let (last, version) = (&before["metadata"], &gone["metadata"]["resourceVersion"]);
    assert_ne!(last["resourceVersion"], *version);
    before["metadata"]["resourceVersion"] = version.clone();
    assert_eq!(gone, before);
}

#[tokio::test]
async fn patches_are_refused_for_the_right_reasons() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let uri = format!("{MAPS}/a");
    let failed = server
        .patch(
            &uri,
            "json-patch+json",
            json!([{"op": "test", "path": "/data/key", "value": "no"}]),
        )
        .await;
    assert_eq!((failed.refused().0, failed.refused().1), (422, "Invalid"));
    let stale = server
        .patch(
            &uri,
            "merge-patch+json",
            json!({"metadata": {"resourceVersion": "1"}, "data": {"key": "2"}}),
        )
        .await;
    assert_eq!((stale.refused().0, stale.refused().1), (409, "Conflict"));
    let renamed = server
        .patch(&uri, "merge-patch+json", json!({"metadata": {"name": "b"}}))
        .await;
    assert_eq!(renamed.refused().0, 400);
    assert_eq!(server.patch(&uri, "json", json!({})).await.refused().0, 415);
    assert_eq!(
        server
            .patch(&uri, "merge-patch+json", json!([1]))
            .await
            .refused()
            .0,
        400
    );
    assert_eq!(
        server
            .patch(&format!("{MAPS}/none"), "merge-patch+json", json!({}))
            .await
            .refused()
            .0,
        404
    );
    let wrong = server
        .patch(&uri, "merge-patch+json", json!({"data": 7}))
        .await;
    assert_eq!((wrong.refused().0, wrong.refused().1), (422, "Invalid"));
    let unknown = server
        .patch(
            &format!("{uri}?fieldValidation=Strict"),
            "strategic-merge-patch+json",
            json!({"dta": {}}),
        )
        .await;
    assert_eq!(
        unknown.refused(),
        (
            422,
            "Invalid",
            " \"\" is invalid: patch: Invalid value: \"{\\\"dta\\\":{}}\": strict decoding error: unknown field \"dta\""
        )
    );
}

/// Controllers that patch an object by its uid take it for another one where that is invalid.
#[tokio::test]
async fn what_only_the_server_writes_is_invalid_in_a_patch() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let uri = format!("{MAPS}/a");
    for (field, value) in [
        ("uid", json!("other")),
        ("deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ("deletionGracePeriodSeconds", json!(1)),
    ] {
        let mut patch = json!({"metadata": {}});
        patch["metadata"][field] = value;
        let answer = server.patch(&uri, "merge-patch+json", patch).await;
        let (code, reason, text) = answer.refused();
        assert_eq!((code, reason), (422, "Invalid"), "{field}");
        assert!(text.contains(&format!("metadata.{field}: ")), "{text}");
        assert!(text.ends_with(": field is immutable"), "{text}");
    }
    let renamed = json!({"metadata": {"generateName": "a-", "creationTimestamp": null}});
    let renamed = server.patch(&uri, "merge-patch+json", renamed).await.ok();
    assert_eq!(renamed["metadata"]["generateName"], "a-");
    assert!(renamed["metadata"]["creationTimestamp"].is_string());
    let mut other = config_map("a", "1");
    other["metadata"]["uid"] = "other".into();
    assert_eq!(server.put(&uri, other).await.refused().0, 409);
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "b", "uid": "u"});
    let twice = json!({"metadata": {"ownerReferences": [owner, owner]}});
    let owned = server.patch(&uri, "merge-patch+json", twice).await.ok();
    assert_eq!(owned["metadata"]["ownerReferences"], json!([owner]));
}

/// Sends a patch as text, which may have a field twice.
async fn patch_text(server: &Server, uri: &str, kind: &str, text: &'static str) -> Answer {
    let request = server
        .request(Method::PATCH, uri)
        .header("content-type", format!("application/{kind}"))
        .body(text.into())
        .unwrap();
    server.read(request).await
}

#[tokio::test]
async fn fields_that_a_patch_has_twice_are_told_or_refused() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let uri = format!("{MAPS}/a");
    let merge = r#"{"data": {"x": "1", "x": "2"}, "dta": 1}"#;
    let merge_problems = r#"duplicate field "data.x", unknown field "dta""#;
    let json = r#"[{"op": "add", "path": "/data/x", "value": "1", "value": "2", "values": "3"}]"#;
    let json_problems =
        r#"json patch duplicate field "[0].value", json patch unknown field "[0].values""#;
    let cases = [
        ("merge-patch+json", merge, merge_problems),
        ("strategic-merge-patch+json", merge, merge_problems),
        ("json-patch+json", json, json_problems),
    ];
    for (kind, text, problems) in cases {
        let strict = format!("{uri}?fieldValidation=Strict");
        let refused = patch_text(&server, &strict, kind, text).await;
        let (code, reason, message) = refused.refused();
        assert_eq!((code, reason), (422, "Invalid"), "{kind}");
        let end = format!("strict decoding error: {problems}");
        assert!(message.ends_with(&end), "{kind}: {message}");

        let told = patch_text(&server, &uri, kind, text).await;
        let warnings: Vec<String> = told
            .headers
            .get_all("warning")
            .iter()
            .map(|warning| warning.to_str().unwrap().replace('\\', ""))
            .collect();
        let expected: Vec<String> = problems
            .split(", ")
            .map(|problem| format!("299 - \"{problem}\""))
            .collect();
        assert_eq!(warnings, expected, "{kind}");
        assert_eq!(told.ok()["data"]["x"], "2", "{kind}");

        let ignored = format!("{uri}?fieldValidation=Ignore");
        let silent = patch_text(&server, &ignored, kind, text).await;
        assert!(silent.headers.get("warning").is_none(), "{kind}");
        silent.ok();
    }
}

#[tokio::test]
async fn racing_patches_all_win() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let uri = format!("{MAPS}/a");
    let patches = (0..12).map(|index| {
        let mut data = serde_json::Map::new();
        data.insert(format!("k{index}"), "x".into());
        server.patch(&uri, "merge-patch+json", json!({"data": data}))
    });
    for answer in futures::future::join_all(patches).await {
        answer.ok();
    }
    assert_eq!(
        server.get(&uri).await.ok()["data"]
            .as_object()
            .unwrap()
            .len(),
        13
    );
}
