//! CustomResourceDefinitions: their names, conditions and status, what discovery and OpenAPI say of them, their end.

use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Value, json};

use crate::server::{Answer, Server};

pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub(crate) const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// A definition of `<kind>s.<group>` whose only version is v1.
pub(crate) fn definition(group: &str, kind: &str, schema: Value) -> Value {
    let singular = kind.to_lowercase();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{singular}s.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": format!("{singular}s"), "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

pub(crate) fn any() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

pub(crate) fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

fn condition<'a>(object: &'a Value, ty: &str) -> &'a Value {
    let list = object["status"]["conditions"].as_array().unwrap();
    list.iter()
        .find(|one| one["type"] == ty)
        .unwrap_or(&Value::Null)
}

/// Asks until the answer is as wanted.
pub(crate) async fn until(server: &Server, uri: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let answer = server.get(uri).await;
        if wanted(&answer) {
            return answer;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "{uri}: {} {}",
            answer.code,
            answer.text
        );
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_definition_is_established_and_served_with_the_answer() {
    let server = Server::start().await;
    let created = server
        .post(DEFINITIONS, definition("example.com", "Widget", any()))
        .await
        .ok();
    assert_eq!(
        condition(&created, "NamesAccepted")["reason"],
        "NoConflicts"
    );
    assert_eq!(
        condition(&created, "Established")["reason"],
        "InitialNamesAccepted"
    );
    assert_eq!(created["status"]["storedVersions"], json!(["v1"]));
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
    assert_eq!(created["status"]["acceptedNames"], names);
    assert_eq!(created["metadata"]["generation"], 1);
    server
        .post(WIDGETS, widget("a", json!({"x": 1})))
        .await
        .ok();
    let list = server.get(WIDGETS).await.ok();
    assert_eq!(
        (&list["kind"], &list["items"][0]["kind"]),
        (&json!("WidgetList"), &json!("Widget"))
    );
    let definitions = server.get(DEFINITIONS).await.ok();
    assert_eq!(definitions["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn bad_schemas_are_refused_where_they_stand() {
    let server = Server::start().await;
    let schema = json!({"type": "object", "properties": {"spec": {"properties": {"a": {"type": "string"}}}}});
    let answer = server
        .post(DEFINITIONS, definition("example.com", "Widget", schema))
        .await;
    let (code, reason, message) = answer.refused();
    assert_eq!((code, reason), (422, "Invalid"));
    let wanted = "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields";
    assert!(message.contains(wanted), "{message}");
    let own = server
        .post(DEFINITIONS, definition("x.k8s.io", "Widget", any()))
        .await;
    let wanted = "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation";
    assert!(own.refused().2.contains(wanted), "{}", own.text);
}

#[tokio::test]
async fn selectable_fields_stand_where_the_schema_stands() {
    let server = Server::start().await;
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let by_a = json!([{"jsonPath": ".a"}]);
    // Whether the versions have one schema, the fields of both, and what is said of it.
    let cases = [
        (
            true,
            [by_a.clone(), Value::Null],
            Some(
                "spec.versions[0].selectableFields: Invalid value: \"\": may only be set when `version.schema.openAPIV3Schema` is not included",
            ),
        ),
        (true, [by_a.clone(), by_a.clone()], None),
        (
            false,
            [by_a.clone(), by_a.clone()],
            Some(
                "spec.selectableFields: Invalid value: \"\": may only be set when validations.schema is included",
            ),
        ),
        (false, [by_a, Value::Null], None),
    ];
    for (is_one, fields, wanted) in cases {
        let mut value = definition("example.com", "Widget", schema.clone());
        let mut versions = [0, 1].map(|_| value["spec"]["versions"][0].clone());
        versions[1]["name"] = json!("v2");
        versions[1]["storage"] = json!(false);
        if !is_one {
            versions[1]["schema"]["openAPIV3Schema"]["description"] = json!("Newer.");
        }
        for (version, fields) in versions.iter_mut().zip(fields) {
            version["selectableFields"] = fields;
        }
        value["spec"]["versions"] = json!(versions);
        let answer = server
            .post(&format!("{DEFINITIONS}?dryRun=All"), value)
            .await;
        match wanted {
            None => assert_eq!(answer.code, StatusCode::CREATED, "{}", answer.text),
            Some(wanted) => {
                let (code, _, message) = answer.refused();
                assert_eq!(code, 422);
                assert!(message.ends_with(wanted), "{message}");
            }
        }
    }
}

#[tokio::test]
async fn names_belong_to_one_definition_of_a_group() {
    let server = Server::start().await;
    let with_short = |kind: &str, name: &str| {
        let mut value = definition("example.com", kind, any());
        value["spec"]["names"]["shortNames"] = json!([name]);
        value
    };
    server
        .post(DEFINITIONS, with_short("Widget", "w"))
        .await
        .ok();
    let second = server
        .post(DEFINITIONS, with_short("Window", "w"))
        .await
        .ok();
    assert_eq!(
        condition(&second, "NamesAccepted")["reason"],
        "ShortNamesConflict"
    );
    assert_eq!(
        condition(&second, "NamesAccepted")["message"],
        "\"w\" is already in use"
    );
    assert_eq!(condition(&second, "Established")["status"], "False");
    let windows = "/apis/example.com/v1/namespaces/default/windows";
    assert_eq!(server.get(windows).await.code, StatusCode::NOT_FOUND);
    let elsewhere = with_short("Widget", "w");
    let mut elsewhere = elsewhere.clone();
    elsewhere["metadata"]["name"] = json!("widgets.example.org");
    elsewhere["spec"]["group"] = json!("example.org");
    let elsewhere = server.post(DEFINITIONS, elsewhere).await.ok();
    assert_eq!(condition(&elsewhere, "Established")["status"], "True");
    // The name comes free with its holder.
    server
        .delete(&format!("{DEFINITIONS}/widgets.example.com"), Value::Null)
        .await
        .ok();
    until(&server, windows, |answer| answer.code == StatusCode::OK).await;
}

/// Writes a definition past the API server, which leaves its names undecided.
async fn write_undecided(store: &dyn kv::Store, kind: &str) {
    let mut value = definition("example.com", kind, any());
    value["spec"]["names"]["singular"] = json!(kind.to_lowercase());
    value["spec"]["names"]["listKind"] = json!(format!("{kind}List"));
    value["metadata"]["uid"] = json!(kind);
    value["status"] = json!({"conditions": null, "storedVersions": ["v1"]});
    let name = value["metadata"]["name"].as_str().unwrap();
    let put = kv::PutRequest {
        key: format!("/registry/customresourcedefinitions/{name}").into(),
        value: value.to_string().into(),
        ..kv::PutRequest::default()
    };
    let op = kv::RequestOp {
        request: Some(kv::Request::Put(put)),
    };
    let request = kv::TxnRequest {
        success: vec![op],
        ..kv::TxnRequest::default()
    };
    store.txn(request).await.unwrap();
}

#[tokio::test]
async fn names_that_another_writer_left_undecided_are_decided() {
    let store = kv::mem::MemStore::new();
    write_undecided(&*store, "Widget").await;
    let server = Server::over(store.clone()).await;
    until(&server, WIDGETS, |answer| answer.code == StatusCode::OK).await;
    write_undecided(&*store, "Window").await;
    let windows = "/apis/example.com/v1/namespaces/default/windows";
    until(&server, windows, |answer| answer.code == StatusCode::OK).await;
}

#[tokio::test]
async fn many_definitions_of_a_group_are_created_at_once() {
    let server = Server::start().await;
    let creates = (0..40).map(|n| {
        let value = definition("example.com", &format!("Kind{n}"), any());
        server.post(DEFINITIONS, value)
    });
    for created in futures::future::join_all(creates).await {
        let created = created.ok();
        assert_eq!(condition(&created, "Established")["status"], "True");
    }
}

#[tokio::test]
async fn the_status_is_written_for_itself() {
    let server = Server::start().await;
    server
        .post(DEFINITIONS, definition("example.com", "Widget", any()))
        .await
        .ok();
    let uri = format!("{DEFINITIONS}/widgets.example.com");
    let patch = json!({"spec": {"names": {"shortNames": ["w"]}}, "status": {"conditions": [
        {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}]}});
    let patched = server
        .patch(&format!("{uri}/status"), "merge-patch+json", patch)
        .await
        .ok();
    assert_eq!(condition(&patched, "StatusUpdate")["reason"], "E2E");
    assert_eq!(patched["spec"]["names"].get("shortNames"), None);
    let mut object = server.get(&format!("{uri}/status")).await.ok();
    object["status"]["conditions"][0]["message"] = json!("again");
    let updated = server.put(&format!("{uri}/status"), object).await.ok();
    assert_eq!(condition(&updated, "StatusUpdate")["message"], "again");
    // As Kubernetes: a condition needs no type, and what is written is answered.
    let mut object = server.get(&format!("{uri}/status")).await.ok();
    let bare = json!({"type": "", "status": "", "lastTransitionTime": null, "message": "updated"});
    let conditions = object["status"]["conditions"].as_array_mut().unwrap();
    conditions.push(bare);
    let updated = server.put(&format!("{uri}/status"), object).await.ok();
    let conditions = updated["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.last().unwrap()["message"], "updated");
    let patch =
        json!([{"op": "add", "path": "/status/conditions", "value": [{"message": "patched"}]}]);
    let patched = server
        .patch(&format!("{uri}/status"), "json-patch+json", patch)
        .await
        .ok();
    let conditions = patched["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 1, "{patched}");
    assert_eq!(conditions[0]["message"], "patched");
}

#[tokio::test]
async fn watches_see_definitions_come_and_go() {
    let server = Server::start().await;
    let mut events = server.watch(&format!("{DEFINITIONS}?watch=1")).await;
    server
        .post(DEFINITIONS, definition("example.com", "Widget", any()))
        .await
        .ok();
    assert_eq!(events.line().await, "ADDED widgets.example.com");
    server
        .delete(&format!("{DEFINITIONS}/widgets.example.com"), Value::Null)
        .await
        .ok();
    let mut line = events.line().await;
    while line.starts_with("MODIFIED") {
        line = events.line().await;
    }
    assert_eq!(line, "DELETED widgets.example.com");
}

#[tokio::test]
async fn a_definition_goes_after_its_objects() {
    let server = Server::start().await;
    let uri = format!("{DEFINITIONS}/widgets.example.com");
    server
        .post(DEFINITIONS, definition("example.com", "Widget", any()))
        .await
        .ok();
    let mut held = widget("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(WIDGETS, held).await.ok();
    server.post(WIDGETS, widget("free", json!({}))).await.ok();
    let mut events = server
        .watch(&format!(
            "{WIDGETS}?watch=1&fieldSelector=metadata.name%3Dfree"
        ))
        .await;
    assert_eq!(events.line().await, "ADDED free");
    let deleted = server.delete(&uri, Value::Null).await.ok();
    assert_eq!(
        deleted["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    assert_eq!(
        condition(&deleted, "Terminating")["reason"],
        "InstanceDeletionPending"
    );
    assert_eq!(events.line().await, "DELETED free");
    let late = server.post(WIDGETS, widget("late", json!({}))).await;
    let text = "widgets.example.com \"late\" is forbidden: create not allowed while custom resource definition is terminating";
    assert_eq!(late.refused(), (403, "Forbidden", text));
    let listed = server.get("/apis/example.com/v1").await.ok();
    assert_eq!(
        listed["resources"][0]["verbs"],
        json!(["delete", "deletecollection", "get", "list", "watch"])
    );
    let release = json!({"metadata": {"finalizers": null}});
    server
        .patch(&format!("{WIDGETS}/held"), "merge-patch+json", release)
        .await
        .ok();
    until(&server, &uri, |answer| answer.code == StatusCode::NOT_FOUND).await;
    assert_eq!(server.get(WIDGETS).await.code, StatusCode::NOT_FOUND);
    // The same again finds nothing of before.
    server
        .post(DEFINITIONS, definition("example.com", "Widget", any()))
        .await
        .ok();
    assert_eq!(server.get(WIDGETS).await.ok()["items"], json!([]));
}

#[tokio::test]
async fn objects_go_with_a_definition_that_serves_no_version() {
    let server = Server::start().await;
    let created = definition("example.com", "Widget", any());
    server.post(DEFINITIONS, created.clone()).await.ok();
    server.post(WIDGETS, widget("a", json!({}))).await.ok();
    let uri = format!("{DEFINITIONS}/widgets.example.com");
    let patch = json!([{"op": "replace", "path": "/spec/versions/0/served", "value": false}]);
    server.patch(&uri, "json-patch+json", patch).await.ok();
    assert_eq!(server.get(WIDGETS).await.code, StatusCode::NOT_FOUND);
    server.delete(&uri, Value::Null).await.ok();
    until(&server, &uri, |answer| answer.code == StatusCode::NOT_FOUND).await;
    server.post(DEFINITIONS, created).await.ok();
    assert_eq!(server.get(WIDGETS).await.ok()["items"], json!([]));
}

/// What is answered to the create of a widget whose body comes after `meanwhile`.
async fn create_around(server: &Server, meanwhile: impl Future<Output = ()>) -> Answer {
    let (reading, is_read) = tokio::sync::oneshot::channel();
    let (release, released) = tokio::sync::oneshot::channel::<()>();
    let text = widget("late", json!({})).to_string();
    let body = futures::stream::once(async move {
        reading.send(()).unwrap();
        released.await.unwrap();
        Ok::<_, std::io::Error>(text)
    });
    let request = server
        .request(Method::POST, WIDGETS)
        .header(header::CONTENT_TYPE, "application/json")
        .body(axum::body::Body::from_stream(body))
        .unwrap();
    let others = async {
        is_read.await.unwrap();
        meanwhile.await;
        release.send(()).unwrap();
    };
    tokio::join!(server.read(request), others).0
}

#[tokio::test]
async fn nothing_is_created_under_a_definition_that_went_while_the_body_came() {
    let server = Server::start().await;
    let uri = format!("{DEFINITIONS}/widgets.example.com");
    let created = definition("example.com", "Widget", any());
    server.post(DEFINITIONS, created.clone()).await.ok();
    let delete = async {
        server.delete(&uri, Value::Null).await.ok();
        until(&server, &uri, |answer| answer.code == StatusCode::NOT_FOUND).await;
    };
    let late = create_around(&server, delete).await;
    assert_eq!(late.code, StatusCode::NOT_FOUND, "{}", late.text);

    // Another one of the same name has its objects elsewhere.
    server.post(DEFINITIONS, created.clone()).await.ok();
    let mut wide = created.clone();
    wide["spec"]["scope"] = json!("Cluster");
    let replace = async {
        server.delete(&uri, Value::Null).await.ok();
        until(&server, &uri, |answer| answer.code == StatusCode::NOT_FOUND).await;
        server.post(DEFINITIONS, wide).await.ok();
    };
    let late = create_around(&server, replace).await;
    assert_eq!(late.code, StatusCode::NOT_FOUND, "{}", late.text);
    let all = server.get("/apis/example.com/v1/widgets").await.ok();
    assert_eq!(all["items"], json!([]));

    server.delete(&uri, Value::Null).await.ok();
    until(&server, &uri, |answer| answer.code == StatusCode::NOT_FOUND).await;
    server.post(DEFINITIONS, created).await.ok();
    let mut held = widget("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(WIDGETS, held).await.ok();
    let begin = async {
        server.delete(&uri, Value::Null).await.ok();
    };
    let late = create_around(&server, begin).await;
    assert_eq!(late.code, StatusCode::FORBIDDEN, "{}", late.text);
}

async fn discovery(server: &Server, tag: &str) -> (StatusCode, HeaderMap, Value) {
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let request = server
        .request(Method::GET, "/apis")
        .header(header::ACCEPT, accept);
    let request = request
        .header(header::IF_NONE_MATCH, tag)
        .body(axum::body::Body::empty());
    let answer = server.read(request.unwrap()).await;
    (answer.code, answer.headers, answer.body)
}

#[tokio::test]
async fn discovery_shows_what_is_served() {
    let server = Server::start().await;
    let (_, headers, _) = discovery(&server, "").await;
    let tag = headers[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(discovery(&server, &tag).await.0, StatusCode::NOT_MODIFIED);
    let mut value = definition("example.com", "Widget", any());
    value["spec"]["names"]["shortNames"] = json!(["wd"]);
    value["spec"]["names"]["categories"] = json!(["all"]);
    let mut beta = value["spec"]["versions"][0].clone();
    beta["name"] = json!("v1beta1");
    beta["storage"] = json!(false);
    value["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    value["spec"]["versions"] = json!([beta, value["spec"]["versions"][0]]);
    server.post(DEFINITIONS, value).await.ok();
    let (code, _, body) = discovery(&server, &tag).await;
    assert_eq!(code, StatusCode::OK);
    let groups = body["items"].as_array().unwrap();
    let group = groups
        .iter()
        .find(|group| group["metadata"]["name"] == "example.com")
        .unwrap();
    assert_eq!(
        (
            &group["versions"][0]["version"],
            &group["versions"][1]["version"]
        ),
        (&json!("v1"), &json!("v1beta1"))
    );
    let shown = &group["versions"][0]["resources"][0];
    assert_eq!(
        shown["responseKind"],
        json!({"group": "example.com", "version": "v1", "kind": "Widget"})
    );
    assert_eq!(
        (&shown["shortNames"], &shown["categories"]),
        (&json!(["wd"]), &json!(["all"]))
    );
    assert_eq!(shown["subresources"][0]["responseKind"]["kind"], "Widget");
    assert_eq!(shown["singularResource"], "widget");
    let legacy = server.get("/apis/example.com").await.ok();
    assert_eq!(legacy["preferredVersion"]["groupVersion"], "example.com/v1");
    let list = server.get("/apis").await.ok();
    let named = |list: &Value| {
        list["groups"]
            .as_array()
            .unwrap()
            .iter()
            .any(|group| group["name"] == "example.com")
    };
    assert!(named(&list));
    let resources = server.get("/apis/example.com/v1").await.ok();
    let names: Vec<&Value> = resources["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, [&json!("widgets"), &json!("widgets/status")]);
    server
        .delete(&format!("{DEFINITIONS}/widgets.example.com"), Value::Null)
        .await
        .ok();
    until(&server, "/apis", |answer| !named(&answer.body)).await;
    assert_eq!(
        server.get("/apis/example.com/v1").await.code,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn openapi_follows_the_definitions() {
    let server = Server::start().await;
    let path = "apis/example.com/v1";
    let before = server.get("/openapi/v3").await.ok();
    assert_eq!(before["paths"].get(path), None);
    let pods = before["paths"]["api/v1"].clone();
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "description": "What it is.",
        "properties": {"size": {"type": "integer"}}}}});
    server
        .post(DEFINITIONS, definition("example.com", "Widget", schema))
        .await
        .ok();
    let index = server.get("/openapi/v3").await.ok();
    let url = index["paths"][path]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(index["paths"]["api/v1"], pods, "others keep their hash");
    let document = server.get(&url).await.ok();
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["properties"]["spec"]["description"], "What it is.");
    assert_eq!(
        schema["x-kubernetes-group-version-kind"][0]["kind"],
        "Widget"
    );
    let two = server.get("/openapi/v2").await.ok();
    assert!(two["definitions"].get("com.example.v1.Widget").is_some());
    let patch = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/color",
        "value": {"type": "string"}}]);
    let uri = format!("{DEFINITIONS}/widgets.example.com");
    server.patch(&uri, "json-patch+json", patch).await.ok();
    let changed = server.get("/openapi/v3").await.ok();
    assert_ne!(
        changed["paths"][path]["serverRelativeURL"]
            .as_str()
            .unwrap(),
        url
    );
    let moved = server.get(&url).await;
    assert_eq!(moved.code, StatusCode::MOVED_PERMANENTLY);
    // A version that is no longer served is no longer described.
    let patch = json!([{"op": "replace", "path": "/spec/versions/0/served", "value": false}]);
    server.patch(&uri, "json-patch+json", patch).await.ok();
    assert_eq!(
        server.get("/openapi/v3").await.ok()["paths"].get(path),
        None
    );
    assert_eq!(
        server.get("/openapi/v2").await.ok()["definitions"].get("com.example.v1.Widget"),
        None
    );
}

#[tokio::test]
async fn definitions_are_listed_and_deleted_by_their_labels() {
    let server = Server::start().await;
    for (kind, label) in [("Red", "warm"), ("Orange", "warm"), ("Blue", "cold")] {
        let mut value = definition("example.com", kind, any());
        value["metadata"]["labels"] = json!({"is": label});
        server.post(DEFINITIONS, value).await.ok();
    }
    let warm = format!("{DEFINITIONS}?labelSelector=is%3Dwarm");
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let listed = server.get(&warm).await.ok();
    assert_eq!(names(&listed), ["oranges.example.com", "reds.example.com"]);
    server.delete(&warm, Value::Null).await.ok();
    let rest = until(&server, DEFINITIONS, |answer| {
        names(&answer.body).len() == 1
    })
    .await;
    assert_eq!(names(&rest.body), ["blues.example.com"]);
}
