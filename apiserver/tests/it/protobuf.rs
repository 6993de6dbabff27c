//! Answers in Kubernetes' protobuf: what they say is what the same answers say in JSON.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::server::{MAPS, PODS, Server, config_map, pod};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PARTIAL: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const PARTIAL_LIST: &str =
    "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

async fn raw(server: &Server, uri: &str, accept: &str) -> (StatusCode, HeaderMap, Bytes) {
    let request = server
        .request(Method::GET, uri)
        .header("accept", accept)
        .body(Body::empty())
        .unwrap();
    let (parts, body) = server.send(request).await.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, bytes)
}

/// The same answer in both encodings, as values.
async fn both(server: &Server, uri: &str, form: &str) -> (Value, Value) {
    let (code, headers, bytes) = raw(server, uri, &format!("{PROTOBUF}{form}")).await;
    assert_eq!(headers["content-type"], PROTOBUF, "{uri}");
    assert_eq!(code, StatusCode::OK, "{uri}");
    let (_, _, text) = raw(server, uri, &format!("application/json{form}")).await;
    let spoken = schema::protobuf::decode(&bytes).unwrap();
    (spoken, serde_json::from_slice(&text).unwrap())
}

async fn filled() -> Server {
    let server = Server::start().await;
    server.account("default").await;
    for name in ["a", "b", "c"] {
        server.post(MAPS, config_map(name, name)).await.ok();
    }
    server.post(PODS, pod("web")).await.ok();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    server
        .post("/api/v1/namespaces/default/services", service)
        .await
        .ok();
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "busybox", "resources": {"limits": {"cpu": "100m"}}}]}}}});
    server
        .post("/apis/apps/v1/namespaces/default/deployments", deployment)
        .await
        .ok();
    let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Started",
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web"}, "count": 3,
        "eventTime": "2026-01-02T03:04:05.000006Z", "action": "a", "type": "Normal",
        "reportingComponent": "kubelet", "reportingInstance": "n"});
    server
        .post("/api/v1/namespaces/default/events", event)
        .await
        .ok();
    server
}

#[tokio::test]
async fn every_form_says_the_same_in_both_encodings() {
    let server = filled().await;
    for (uri, form) in [
        ("/api/v1/namespaces/default/configmaps/a", ""),
        ("/api/v1/namespaces/default/configmaps", ""),
        ("/api/v1/configmaps?limit=2", ""),
        (
            "/api/v1/namespaces/default/configmaps?labelSelector=none%3Dsuch",
            "",
        ),
        ("/api/v1/namespaces/default/pods/web", ""),
        ("/api/v1/namespaces/default/pods", ""),
        ("/api/v1/namespaces/default/services", ""),
        ("/api/v1/namespaces/default/events", ""),
        ("/apis/events.k8s.io/v1/namespaces/default/events", ""),
        ("/apis/events.k8s.io/v1/namespaces/default/events/e", ""),
        (
            "/apis/events.k8s.io/v1/namespaces/default/events",
            ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        ),
        ("/apis/apps/v1/namespaces/default/deployments/web", ""),
        ("/apis/apps/v1/deployments", ""),
        ("/apis/apps/v1/namespaces/default/deployments/web/scale", ""),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", ""),
        ("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", ""),
        ("/api/v1/namespaces", ""),
        ("/api", ""),
        ("/apis", ""),
        ("/apis/apps", ""),
        ("/apis/apps/v1", ""),
        ("/api/v1", ""),
        (
            "/api/v1/namespaces/default/pods/web",
            ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        ),
        (
            "/api/v1/namespaces/default/pods",
            ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        ),
    ] {
        let (mut protobuf, mut json) = both(&server, uri, form).await;
        if json.get("items").is_some() {
            // The version of the list may grow between the two answers.
            protobuf["metadata"] = Value::Null;
            json["metadata"] = Value::Null;
            // Items are messages without an envelope.
            for item in json["items"].as_array_mut().unwrap() {
                item["apiVersion"] = Value::Null;
                item["kind"] = Value::Null;
            }
        }
        assert_eq!(protobuf["kind"], json["kind"], "{uri}");
        if json.get("apiVersion").is_none() {
            // Only the envelope has it.
            assert_eq!(protobuf["apiVersion"], "v1", "{uri}");
            protobuf["apiVersion"] = Value::Null;
        }
        assert_eq!(bare(protobuf), bare(json), "{uri} {form}");
    }
}

/// Without what JSON may leave out or say as nothing: empty lists and null.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, bare(value)))
            .filter(|(_, value)| !value.is_null() && *value != json!([]) && *value != json!({}))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(bare).collect(),
        other => other,
    }
}

#[tokio::test]
async fn writes_and_refusals_are_answered_in_protobuf() {
    let server = filled().await;
    let ty = schema::type_of("", "v1", "ConfigMap").unwrap();
    let body = schema::protobuf::encode(ty, &config_map("d", "1")).unwrap();
    let post = |body: Vec<u8>| {
        server
            .request(Method::POST, MAPS)
            .header("content-type", PROTOBUF)
            .header("accept", PROTOBUF)
            .body(Body::from(body))
            .unwrap()
    };
    for (code, kind, reason) in [
        (201, "ConfigMap", Value::Null),
        (409, "Status", "AlreadyExists".into()),
    ] {
        let response = server.send(post(body.clone())).await;
        assert_eq!(response.status().as_u16(), code);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let answer = schema::protobuf::decode(&bytes).unwrap();
        assert_eq!(
            (&answer["kind"], &answer["reason"]),
            (&kind.into(), &reason)
        );
    }
    let missing = format!("{MAPS}/none");
    let (code, headers, bytes) = raw(&server, &missing, PROTOBUF).await;
    assert_eq!(
        (code.as_u16(), &headers["content-type"]),
        (404, &PROTOBUF.parse().unwrap())
    );
    let status = schema::protobuf::decode(&bytes).unwrap();
    let text = server.get(&missing).await;
    assert_eq!(bare(status), bare(text.body));
}

#[tokio::test]
async fn what_has_no_protobuf_is_not_acceptable() {
    let server = filled().await;
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    let (code, _, bytes) = raw(&server, MAPS, &table).await;
    assert_eq!(code.as_u16(), 406);
    let status = schema::protobuf::decode(&bytes).unwrap();
    assert_eq!(
        status["message"],
        "object *v1.Table does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
    );
    let (code, _, _) = raw(&server, &format!("{MAPS}?watch=1"), &table).await;
    assert_eq!(code.as_u16(), 406);
    // The version is JSON for everyone.
    let (code, headers, _) = raw(&server, "/version", PROTOBUF).await;
    assert_eq!(
        (code.as_u16(), headers["content-type"].to_str().unwrap()),
        (200, "application/json")
    );
    let (code, _, text) = raw(&server, MAPS, "application/cbor").await;
    assert_eq!(code.as_u16(), 406);
    let status: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        status["message"],
        "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
}

/// The events in a body of frames: type and object.
fn events(mut body: &[u8]) -> Vec<(String, Value)> {
    let event = schema::types::type_named("meta.WatchEvent").unwrap();
    let mut events = Vec::new();
    while let Some((length, rest)) = body.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let frame = schema::protobuf::decode_message(event, frame).unwrap();
        events.push((
            frame["type"].as_str().unwrap().to_owned(),
            frame["object"].clone(),
        ));
        body = rest;
    }
    events
}

#[tokio::test]
async fn a_watch_sends_frames() {
    let server = filled().await;
    let watch = "watch=1&timeoutSeconds=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    for accept in [PROTOBUF, PARTIAL, PARTIAL_LIST] {
        let (code, headers, bytes) = raw(&server, &format!("{MAPS}?{watch}"), accept).await;
        assert_eq!(code, StatusCode::OK);
        assert_eq!(
            headers["content-type"],
            "application/vnd.kubernetes.protobuf;stream=watch"
        );
        let events = events(&bytes);
        let seen: Vec<(&str, &str)> = events
            .iter()
            .map(|(kind, object)| {
                (
                    kind.as_str(),
                    object["metadata"]["name"].as_str().unwrap_or_default(),
                )
            })
            .collect();
        assert_eq!(
            seen[..4],
            [
                ("ADDED", "a"),
                ("ADDED", "b"),
                ("ADDED", "c"),
                ("BOOKMARK", "")
            ]
        );
        let kind = if accept == PROTOBUF {
            "ConfigMap"
        } else {
            "PartialObjectMetadata"
        };
        assert!(
            events.iter().all(|(_, object)| object["kind"] == kind),
            "{accept}"
        );
        let end = &events[3].1["metadata"]["annotations"]["k8s.io/initial-events-end"];
        assert_eq!(*end, "true");
    }
    let a = server.get(&format!("{MAPS}/a")).await.ok();
    let (_, _, bytes) = raw(&server, &format!("{MAPS}?{watch}"), PROTOBUF).await;
    assert_eq!(events(&bytes)[0].1, a);
}

/// The events in a body of lines.
fn told(body: &[u8]) -> Vec<(String, Value)> {
    let lines = body.split(|byte| *byte == b'\n');
    let events = lines.filter(|line| !line.is_empty()).map(|line| {
        let event: Value = serde_json::from_slice(line).unwrap();
        let kind = event["type"].as_str().unwrap().to_owned();
        (kind, event["object"].clone())
    });
    events.collect()
}

#[tokio::test]
async fn changes_are_told_alike_in_both_encodings() {
    let server = filled().await;
    let list = server.get(MAPS).await.ok();
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let odd = "\u{e9}\u{1f600}\"\\\n\u{1}".repeat(40);
    server.post(MAPS, config_map("d", &odd)).await.ok();
    let one = format!("{MAPS}/d");
    server.put(&one, config_map("d", "2")).await.ok();
    server.delete(&one, Value::Null).await.ok();
    let watch = format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={from}");
    for form in ["", ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"] {
        let (protobuf, json) = (
            format!("{PROTOBUF}{form}"),
            format!("application/json{form}"),
        );
        // One of the first two is sent what was made for the other.
        let (frames, same, lines) = tokio::join!(
            raw(&server, &watch, &protobuf),
            raw(&server, &watch, &protobuf),
            raw(&server, &watch, &json),
        );
        assert!(frames.2 == same.2);
        let events = events(&frames.2);
        assert_eq!(events, told(&lines.2), "{form}");
        let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED"], "{form}");
    }
}

#[tokio::test]
async fn a_watch_from_too_old_a_version_says_so_in_a_frame() {
    use kv::Store;
    let server = filled().await;
    let last = server.post(MAPS, config_map("d", "1")).await.ok();
    let last = last["metadata"]["resourceVersion"].as_str().unwrap();
    let store = server.store.clone();
    store.compact(last.parse().unwrap()).await.unwrap();
    drop(server);
    let server = Server::over(store).await;
    let uri = format!("{MAPS}?watch=1&resourceVersion=1");
    let (code, _, bytes) = raw(&server, &uri, PROTOBUF).await;
    assert_eq!(code, StatusCode::OK);
    let events = events(&bytes);
    assert_eq!((events.len(), events[0].0.as_str()), (1, "ERROR"));
    assert_eq!(events[0].1["code"], 410);
}

#[tokio::test]
async fn a_large_list_comes_in_frames_and_compressed() {
    let server = Server::start().await;
    let text = "x".repeat(100 * 1024);
    for name in ["a", "b", "c", "d"] {
        server.post(MAPS, config_map(name, &text)).await.ok();
    }
    let (plain, json) = both(&server, MAPS, "").await;
    assert_eq!(plain["items"], json["items"]);
    let request = server
        .request(Method::GET, MAPS)
        .header("accept", PROTOBUF)
        .header("accept-encoding", "gzip")
        .body(Body::empty())
        .unwrap();
    let response = server.send(request).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut all).unwrap();
    let unpacked = schema::protobuf::decode(&all).unwrap();
    assert_eq!(unpacked["items"], json["items"]);
}
