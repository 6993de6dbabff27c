//! Custom resources as they are served: schemas, versions, subresources, columns, selectors.

use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::definitions::{DEFINITIONS, WIDGETS, any, definition, widget};
use crate::server::{Answer, MAPS, Server};

const MERGE: &str = "merge-patch+json";

/// A schema with a default, a range and a part where any field goes.
fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer", "minimum": 0, "default": 3},
            "color": {"type": "string"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "port": {"type": "integer"}}}}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
}

fn full() -> Value {
    let mut value = definition("example.com", "Widget", schema());
    let version = &mut value["spec"]["versions"][0];
    version["subresources"] = json!({"status": {}, "scale": {"specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"}});
    version["additionalPrinterColumns"] = json!([
        {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "How big."}]);
    version["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
    value
}

async fn start(definition: Value) -> Server {
    let server = Server::start().await;
    server.post(DEFINITIONS, definition).await.ok();
    server
}

async fn send(
    server: &Server,
    method: Method,
    uri: &str,
    (ty, accept): (&str, &str),
    body: &str,
) -> Answer {
    let request = server
        .request(method, uri)
        .header(header::CONTENT_TYPE, ty)
        .header(header::ACCEPT, accept);
    server
        .read(
            request
                .body(axum::body::Body::from(body.to_owned()))
                .unwrap(),
        )
        .await
}

fn warnings(answer: &Answer) -> Vec<&str> {
    let list = answer.headers.get_all(header::WARNING).iter();
    list.map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn whoever_uses_a_deprecated_version_is_warned() {
    let mut value = full();
    let mut other = |name: &str, extra: (&str, Value)| {
        let mut version = value["spec"]["versions"][0].clone();
        version["name"] = json!(name);
        version["storage"] = json!(false);
        version["deprecated"] = json!(true);
        version[extra.0] = extra.1;
        value["spec"]["versions"]
            .as_array_mut()
            .unwrap()
            .push(version);
    };
    other("v1beta1", ("deprecationWarning", json!("Ask for the v1.")));
    other("v1alpha1", ("served", json!(true)));
    let server = start(value).await;
    let warned = async |uri: String| {
        let answer = server.get(&uri).await;
        warnings(&answer)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(warned(WIDGETS.to_owned()).await, [] as [&str; 0]);
    assert_eq!(
        warned(WIDGETS.replace("/v1/", "/v1beta1/")).await,
        ["299 - \"Ask for the v1.\""]
    );
    assert_eq!(
        warned(WIDGETS.replace("/v1/", "/v1alpha1/")).await,
        ["299 - \"example.com/v1alpha1 Widget is deprecated; use example.com/v1 Widget\""]
    );
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_validated() {
    let server = start(full()).await;
    let created = server
        .post(
            WIDGETS,
            widget("a", json!({"color": "red", "lost": 1, "open": {"kept": 1}})),
        )
        .await
        .ok();
    assert_eq!(
        created["spec"],
        json!({"color": "red", "size": 3, "open": {"kept": 1}})
    );
    assert_eq!(created["metadata"]["generation"], 1);
    let bad = server.post(WIDGETS, widget("b", json!({"size": -1}))).await;
    let text = "Widget.example.com \"b\" is invalid: spec.size: Invalid value: -1: spec.size in body should be greater than or equal to 0";
    let text = text.replacen("spec.size: ", "[spec.size: ", 1)
        + ", .spec.size: Invalid value: -1: should be a non-negative integer]";
    assert_eq!(bad.refused(), (422, "Invalid", &*text));
    // A default that comes later is there for what is stored already.
    let patch = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/later",
        "value": {"type": "string", "default": "x"}}]);
    let uri = format!("{DEFINITIONS}/widgets.example.com");
    server.patch(&uri, "json-patch+json", patch).await.ok();
    assert_eq!(
        server.get(&format!("{WIDGETS}/a")).await.ok()["spec"]["later"],
        "x"
    );
    assert_eq!(
        server.get(WIDGETS).await.ok()["items"][0]["spec"]["later"],
        "x"
    );
}

#[tokio::test]
async fn what_is_not_below_an_object_is_not_found() {
    let server = start(full()).await;
    let text = "widgets.example.com \"a\" not found";
    let refused = server.get(&format!("{WIDGETS}/a/log")).await;
    assert_eq!(refused.refused(), (404, "NotFound", text));
    let refused = server.post(&format!("{WIDGETS}/a/log"), json!({})).await;
    assert_eq!(refused.refused(), (404, "NotFound", text));
}

#[tokio::test]
async fn objects_say_what_they_are() {
    let server = start(full()).await;
    let json = ("application/json", "application/json");
    let kindless = r#"{"apiVersion":"example.com/v1","metadata":{"name":"a"}}"#;
    let versionless = r#"{"kind":"Widget","metadata":{"name":"a"}}"#;
    let text = format!(
        "the object provided is unrecognized (must be of type Widget): Object 'Kind' is missing in '{kindless}' ({{\"apiVersion\":\"example.com/v1\" ...)"
    );
    let refused = send(&server, Method::POST, WIDGETS, json, kindless).await;
    assert_eq!(refused.refused(), (400, "BadRequest", &*text));
    let refused = send(&server, Method::POST, WIDGETS, json, versionless).await;
    let text =
        "the API version in the data () does not match the expected API version (example.com/v1)";
    assert_eq!(refused.refused(), (400, "BadRequest", text));
    server.post(WIDGETS, widget("a", json!({}))).await.ok();
    let uri = format!("{WIDGETS}/a");
    let nothing = server.get(&format!("{uri}/nothing")).await;
    assert_eq!(
        nothing.refused(),
        (404, "NotFound", r#"widgets.example.com "a" not found"#)
    );
    let refused = send(&server, Method::PUT, &uri, json, versionless).await;
    assert_eq!(refused.refused(), (400, "BadRequest", text));
    let patch = json!({"kind": null});
    let refused = server.patch(&uri, MERGE, patch).await;
    assert_eq!((refused.refused().0, refused.refused().1), (422, "Invalid"));
    let told = &refused.body["details"]["causes"][0]["message"];
    assert!(
        told.as_str().unwrap().contains("Object 'Kind' is missing"),
        "{told}"
    );
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_told_or_refused() {
    let server = start(full()).await;
    let body = r#"{"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "unknownMeta": "x"},
        "spec": {"lost": 1, "color": "a", "color": "b"}}"#;
    let json = ("application/json", "application/json");
    let strict = send(
        &server,
        Method::POST,
        &format!("{WIDGETS}?fieldValidation=Strict"),
        json,
        body,
    )
    .await;
    let (code, _, message) = strict.refused();
    assert_eq!(code, 400);
    for part in [
        r#"duplicate field "spec.color""#,
        r#"unknown field "spec.lost""#,
        r#"unknown field "metadata.unknownMeta""#,
    ] {
        assert!(message.contains(part), "{message}");
    }
    let told = send(&server, Method::POST, WIDGETS, json, body).await;
    assert_eq!(warnings(&told).len(), 3, "{:?}", warnings(&told));
    assert_eq!(told.ok()["spec"], json!({"color": "b", "size": 3}));
    let yaml = "apiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: b\nspec:\n  lost: 1\n";
    let uri = format!("{WIDGETS}/b?fieldManager=m&fieldValidation=Strict");
    let applied = send(
        &server,
        Method::PATCH,
        &uri,
        ("application/apply-patch+yaml", "application/json"),
        yaml,
    )
    .await;
    assert!(
        applied.text.contains("lost"),
        "{} {}",
        applied.code,
        applied.text
    );
    assert!(applied.code.is_client_error() || applied.code.is_server_error());
}

#[tokio::test]
async fn every_patch_but_the_strategic_one() {
    let server = start(full()).await;
    server
        .post(WIDGETS, widget("a", json!({"size": 1})))
        .await
        .ok();
    let uri = format!("{WIDGETS}/a");
    let merged = server
        .patch(&uri, MERGE, json!({"spec": {"color": "red"}}))
        .await
        .ok();
    assert_eq!(
        (&merged["spec"]["color"], &merged["metadata"]["generation"]),
        (&json!("red"), &json!(2))
    );
    let json = json!([{"op": "replace", "path": "/spec/size", "value": 5}]);
    assert_eq!(
        server.patch(&uri, "json-patch+json", json).await.ok()["spec"]["size"],
        5
    );
    let labelled = server
        .patch(&uri, MERGE, json!({"metadata": {"labels": {"l": "1"}}}))
        .await
        .ok();
    assert_eq!(
        labelled["metadata"]["generation"], 3,
        "labels are no intent"
    );
    for (uri, kind) in [
        (uri.clone(), "json"),
        (format!("{uri}/scale"), "strategic-merge-patch+json"),
    ] {
        let refused = server.patch(&uri, kind, json!({})).await;
        assert_eq!(
            refused.refused().2,
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
        );
    }
    let text = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    for kind in ["strategic-merge-patch+json", "apply-patch+cbor"] {
        let answer = server.patch(&uri, kind, json!({})).await;
        assert_eq!(answer.refused(), (415, "UnsupportedMediaType", text));
    }
    let port = |name: &str, port: i64| {
        json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "a"}, "spec": {"ports": [{"name": name, "port": port}]}})
    };
    for (manager, name) in [("one", "http"), ("two", "dns")] {
        let uri = format!("{uri}?fieldManager={manager}");
        server
            .patch(&uri, "apply-patch+yaml", port(name, 1))
            .await
            .ok();
    }
    let both = server.get(&uri).await.ok();
    assert_eq!(
        both["spec"]["ports"].as_array().unwrap().len(),
        2,
        "items have keys"
    );
    let conflict = server
        .patch(
            &format!("{uri}?fieldManager=three"),
            "apply-patch+yaml",
            port("dns", 2),
        )
        .await;
    assert_eq!(conflict.code, StatusCode::CONFLICT, "{}", conflict.text);
    let unversioned = server.put(&uri, widget("a", json!({}))).await;
    assert!(
        unversioned.refused().2.contains("metadata.resourceVersion"),
        "{}",
        unversioned.text
    );
    let gone = server.delete(&uri, Value::Null).await.ok();
    assert_eq!(
        (&gone["status"], &gone["details"]["kind"]),
        (&json!("Success"), &json!("widgets"))
    );
    server.post(WIDGETS, widget("b", json!({}))).await.ok();
    let all = server.delete(WIDGETS, Value::Null).await.ok();
    assert_eq!(all["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn protobuf_is_not_for_custom_resources() {
    let server = start(full()).await;
    let protobuf = "application/vnd.kubernetes.protobuf";
    let body = send(
        &server,
        Method::POST,
        WIDGETS,
        (protobuf, "application/json"),
        "k8s\0",
    )
    .await;
    assert_eq!(body.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = send(&server, Method::GET, WIDGETS, ("", protobuf), "").await;
    assert_eq!(answer.code, StatusCode::NOT_ACCEPTABLE);
    let accept = format!("{protobuf}, application/json");
    let either = send(&server, Method::GET, WIDGETS, ("", &accept), "").await;
    assert_eq!(either.ok()["kind"], "WidgetList");
}

#[tokio::test]
async fn status_and_scale_have_their_own_doors() {
    let server = start(full()).await;
    let mut new = widget("a", json!({"size": 2}));
    new["status"] = json!({"size": 9});
    assert_eq!(server.post(WIDGETS, new).await.ok().get("status"), None);
    let uri = format!("{WIDGETS}/a");
    let patch = json!({"spec": {"size": 7}, "metadata": {"labels": {"l": "1"}}, "status": {"size": 1, "selector": "a=b"}});
    let status = server
        .patch(&format!("{uri}/status"), MERGE, patch)
        .await
        .ok();
    assert_eq!(
        (&status["spec"]["size"], &status["status"]["size"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        (
            status["metadata"].get("labels"),
            &status["metadata"]["generation"]
        ),
        (None, &json!(1))
    );
    let main = server
        .patch(&uri, MERGE, json!({"status": {"size": 4}}))
        .await
        .ok();
    assert_eq!(main["status"]["size"], 1);
    let scale = server.get(&format!("{uri}/scale")).await.ok();
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"]),
        (&json!("Scale"), &json!(2))
    );
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "a=b"}));
    let request = server
        .request(Method::GET, &format!("{uri}/scale?includeObject=None"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Default::default())
        .unwrap();
    let table = server.read(request).await.ok();
    let row = &table["rows"][0];
    assert_eq!(row["cells"][1], scale["spec"]["replicas"]);
    assert_eq!(row["cells"][2], 1);
    // A row that holds no object says so.
    assert_eq!(row.get("object"), Some(&Value::Null));
    server
        .patch(
            &format!("{uri}/scale"),
            MERGE,
            json!({"spec": {"replicas": 6}}),
        )
        .await
        .ok();
    let below = server
        .patch(
            &format!("{uri}/scale"),
            MERGE,
            json!({"spec": {"replicas": -1}}),
        )
        .await;
    let (code, _, message) = below.refused();
    assert_eq!(code, 422);
    // The object is told of, and not the Scale.
    assert!(
        message.starts_with("Widget.example.com \"a\" is invalid: ")
            && message.contains(".spec.size: Invalid value: -1: should be a non-negative integer"),
        "{message}"
    );
    let scaled = server.get(&uri).await.ok();
    assert_eq!(
        (&scaled["spec"]["size"], &scaled["metadata"]["generation"]),
        (&json!(6), &json!(2))
    );
}

#[tokio::test]
async fn tables_show_the_columns_of_the_definition() {
    let server = start(full()).await;
    server
        .post(WIDGETS, widget("a", json!({"color": "red"})))
        .await
        .ok();
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = send(&server, Method::GET, WIDGETS, ("", accept), "")
        .await
        .ok();
    let columns: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].clone())
        .collect();
    assert_eq!(columns, ["Name", "Color", "Size"]);
    assert_eq!(table["columnDefinitions"][2]["description"], "How big.");
    assert_eq!(table["rows"][0]["cells"], json!(["a", "red", 3]));
    let mut events = Vec::new();
    let request = server
        .request(Method::GET, &format!("{WIDGETS}?watch=1"))
        .header(header::ACCEPT, accept);
    let response = server
        .send(request.body(axum::body::Body::empty()).unwrap())
        .await;
    events.push(response.status());
    assert_eq!(events, [StatusCode::OK]);
}

#[tokio::test]
async fn a_table_of_a_scale_has_the_columns_of_scales() {
    let server = start(full()).await;
    let new = widget("a", json!({"color": "red", "size": 2}));
    server.post(WIDGETS, new).await.ok();
    let uri = format!("{WIDGETS}/a");
    let of_scale = format!("{uri}/scale");
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let shown = async || {
        let answer = send(&server, Method::GET, &of_scale, ("", accept), "").await;
        let table = answer.ok();
        let columns = table["columnDefinitions"].as_array().unwrap().iter();
        let names: Vec<Value> = columns.map(|column| column["name"].clone()).collect();
        let cells = table["rows"][0]["cells"].as_array().unwrap();
        assert_eq!(cells.len(), names.len());
        (names, cells[..3].to_vec())
    };
    let names = ["Name", "Desired", "Available", "Age"].map(Value::from);
    assert_eq!(
        shown().await,
        (names.to_vec(), vec![json!("a"), json!(2), json!(0)])
    );
    let patch = json!({"status": {"size": 1}});
    let status = format!("{uri}/status");
    server.patch(&status, MERGE, patch).await.ok();
    assert_eq!(
        shown().await,
        (names.to_vec(), vec![json!("a"), json!(2), json!(1)])
    );
}

#[tokio::test]
async fn who_watches_one_name_sees_that_one_come_change_and_go() {
    let mut cluster_wide = definition("example.com", "Widget", any());
    cluster_wide["spec"]["scope"] = "Cluster".into();
    let server = start(cluster_wide).await;
    let widgets = "/apis/example.com/v1/widgets";
    let one = |name: &str| format!("{widgets}/{name}");
    let mut watches = Vec::new();
    for name in ["a", "b"] {
        let uri = format!("{widgets}?watch=1&fieldSelector=metadata.name%3D{name}");
        watches.push((name, server.watch(&uri).await));
    }
    let mut made = Vec::new();
    for name in ["a", "b"] {
        made.push(server.post(widgets, widget(name, json!({}))).await.ok());
    }
    let dummy = json!([{"op": "add", "path": "/dummy", "value": "test"}]);
    for name in ["b", "a"] {
        let uri = one(name);
        let patched = server.patch(&uri, "json-patch+json", dummy.clone()).await;
        assert_eq!(patched.ok()["dummy"], "test");
        server.delete(&uri, Value::Null).await.ok();
    }
    for ((name, watch), made) in watches.iter_mut().zip(made) {
        let added = watch.next().await.unwrap();
        assert_eq!((&added["type"], &added["object"]), (&json!("ADDED"), &made));
        assert_eq!(watch.line().await, format!("MODIFIED {name}"));
        assert_eq!(watch.line().await, format!("DELETED {name}"));
    }
}

#[tokio::test]
async fn selectable_fields_select_in_lists_and_watches() {
    let server = start(full()).await;
    for (name, color) in [("a", "red"), ("b", "blue")] {
        server
            .post(WIDGETS, widget(name, json!({"color": color})))
            .await
            .ok();
    }
    let list = server
        .get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dblue"))
        .await
        .ok();
    assert_eq!(
        (
            list["items"].as_array().unwrap().len(),
            &list["items"][0]["metadata"]["name"]
        ),
        (1, &json!("b"))
    );
    let other = server
        .get(&format!("{WIDGETS}?fieldSelector=spec.size%3D3"))
        .await;
    assert_eq!(other.code, StatusCode::BAD_REQUEST);
    let mut events = server
        .watch(&format!("{WIDGETS}?watch=1&fieldSelector=spec.color%3Dred"))
        .await;
    assert_eq!(events.line().await, "ADDED a");
    server
        .patch(
            &format!("{WIDGETS}/b"),
            MERGE,
            json!({"spec": {"color": "red"}}),
        )
        .await
        .ok();
    assert_eq!(events.line().await, "ADDED b");
    server
        .patch(
            &format!("{WIDGETS}/a"),
            MERGE,
            json!({"spec": {"color": "blue"}}),
        )
        .await
        .ok();
    assert_eq!(events.line().await, "DELETED a");
}

#[tokio::test]
async fn a_version_that_becomes_served_selects_what_was_there_before() {
    let mut value = definition("example.com", "Widget", schema());
    let mut beta = value["spec"]["versions"][0].clone();
    beta["name"] = json!("v1beta1");
    beta["storage"] = json!(false);
    beta["served"] = json!(false);
    beta["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
    // Versions of one schema have their selectable fields in common, too.
    beta["schema"]["openAPIV3Schema"]["description"] = json!("Beta.");
    value["spec"]["versions"] = json!([value["spec"]["versions"][0], beta]);
    let server = start(value).await;
    for (name, color) in [("a", "red"), ("b", "blue")] {
        let object = widget(name, json!({"color": color}));
        server.post(WIDGETS, object).await.ok();
    }
    let patch = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": true}]);
    let uri = format!("{DEFINITIONS}/widgets.example.com");
    server.patch(&uri, "json-patch+json", patch).await.ok();
    let red = "/apis/example.com/v1beta1/widgets?fieldSelector=spec.color%3Dred";
    let list = server.get(red).await.ok();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
}

#[tokio::test]
async fn versions_show_the_same_objects() {
    let mut value = definition("example.com", "Widget", any());
    let mut second = value["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"] = schema();
    value["spec"]["versions"] = json!([value["spec"]["versions"][0], second]);
    let server = start(value.clone()).await;
    server
        .post(WIDGETS, widget("a", json!({"color": "red", "extra": 1})))
        .await
        .ok();
    let newer = WIDGETS.replace("/v1/", "/v2/");
    let shown = server.get(&format!("{newer}/a")).await.ok();
    // What the version that is stored does not default, others do not either.
    assert_eq!(
        (&shown["apiVersion"], &shown["spec"]),
        (&json!("example.com/v2"), &json!({"color": "red"}))
    );
    let list = server.get(&newer).await.ok();
    assert_eq!(
        (&list["apiVersion"], &list["items"][0]["apiVersion"]),
        (&json!("example.com/v2"), &json!("example.com/v2"))
    );
    assert_eq!(
        server.get(&format!("{WIDGETS}/a")).await.ok()["spec"]["extra"],
        1
    );
    let mut events = server.watch(&format!("{newer}?watch=1")).await;
    assert_eq!(
        events.next().await.unwrap()["object"]["apiVersion"],
        "example.com/v2"
    );
    // Another version becomes the stored one: what is there is rewritten by an update that changes nothing.
    for version in value["spec"]["versions"].as_array_mut().unwrap() {
        version["storage"] = json!(version["name"] == "v2");
    }
    let uri = format!("{DEFINITIONS}/widgets.example.com");
    let spec = json!({"spec": {"versions": value["spec"]["versions"]}});
    let definition = server.patch(&uri, MERGE, spec).await.ok();
    assert_eq!(definition["status"]["storedVersions"], json!(["v1", "v2"]));
    assert!(
        events.next().await.is_none(),
        "the watch ends, and is opened again"
    );
    let before = server.get(&format!("{newer}/a")).await.ok();
    let after = server.put(&format!("{newer}/a"), before.clone()).await.ok();
    assert_ne!(
        after["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
    let again = server.put(&format!("{newer}/a"), after.clone()).await.ok();
    assert_eq!(
        again["metadata"]["resourceVersion"],
        after["metadata"]["resourceVersion"]
    );
    let dropped = json!([{"op": "remove", "path": "/status/storedVersions/0"}]);
    server
        .patch(&format!("{uri}/status"), "json-patch+json", dropped)
        .await
        .ok();
}

/// As Kubernetes writes lists that have no Go type.
#[tokio::test]
async fn a_list_says_that_nothing_follows() {
    let server = start(full()).await;
    for name in ["a", "b"] {
        let widget = widget(name, json!({"size": 1}));
        server.post(WIDGETS, widget).await.ok();
    }
    let list = server.get(WIDGETS).await.ok();
    assert_eq!(list["metadata"]["continue"], "");
    let page = server.get(&format!("{WIDGETS}?limit=1")).await.ok();
    assert_ne!(page["metadata"]["continue"], "");
    let maps = server.get(MAPS).await.ok();
    assert_eq!(maps["metadata"].get("continue"), None);
    let gone = server.delete(WIDGETS, json!(null)).await.ok();
    assert_eq!(gone["metadata"]["continue"], "");
}

#[tokio::test]
async fn what_could_not_be_read_again_is_not_stored() {
    let server = start(full()).await;
    let deep = (0..200).fold(json!(1), |inner, _| json!({"a": inner}));
    let deep = widget("a", json!({"open": {"deep": deep}}));
    for uri in [WIDGETS.to_owned(), format!("{WIDGETS}?dryRun=All")] {
        let answer = server.post(&uri, deep.clone()).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{uri}");
    }
    let kept = server
        .post(WIDGETS, widget("a", json!({"size": 1})))
        .await
        .ok();
    let patch = json!({"spec": deep["spec"]});
    let refused = server.patch(&format!("{WIDGETS}/a"), MERGE, patch).await;
    assert_eq!(refused.code, StatusCode::BAD_REQUEST);
    assert_eq!(server.get(&format!("{WIDGETS}/a")).await.ok(), kept);
}

#[tokio::test]
async fn a_server_that_starts_knows_what_is_there() {
    let server = start(full()).await;
    server
        .post(WIDGETS, widget("a", json!({"color": "red"})))
        .await
        .ok();
    let version = server.get(WIDGETS).await.ok()["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = Server::over(server.store.clone()).await;
    let list = other
        .get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred"))
        .await
        .ok();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    // What one member establishes the other serves at once.
    server
        .post(DEFINITIONS, definition("example.org", "Thing", any()))
        .await
        .ok();
    let things = "/apis/example.org/v1/namespaces/default/things";
    let thing = json!({"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "t"}});
    other.post(things, thing).await.ok();
    assert_eq!(
        server.get(things).await.ok()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let mut events = other
        .watch(&format!("{WIDGETS}?watch=1&resourceVersion={version}"))
        .await;
    server.post(WIDGETS, widget("b", json!({}))).await.ok();
    assert_eq!(events.line().await, "ADDED b");
}

#[tokio::test]
async fn finalizers_without_a_domain_are_advised_against() {
    let server = start(full()).await;
    let mut object = widget("a", json!({"size": 1}));
    object["metadata"]["finalizers"] = json!(["foo", "a.b", "example.com/c", "orphan"]);
    let created = server.post(WIDGETS, object).await;
    let advice = |name: &str, form: &str| {
        format!(
            "299 - \"metadata.finalizers: \\\"{name}\\\": prefer a domain-qualified finalizer {form} to avoid accidental conflicts with other finalizer writers\""
        )
    };
    let foo = advice("foo", "name");
    assert_eq!(
        warnings(&created),
        [advice("a.b", "name including a path (/)"), foo]
    );
    // Those that the object had before are not mentioned again.
    let uri = format!("{WIDGETS}/a");
    let more = json!({"metadata": {"finalizers": ["foo", "a.b", "bar"]}});
    let patched = server.patch(&uri, MERGE, more).await;
    assert_eq!(warnings(&patched), [advice("bar", "name")]);
}

#[tokio::test]
async fn an_update_has_to_name_the_version_that_it_changes() {
    let server = start(full()).await;
    let object = || widget("a", json!({"size": 1}));
    server.post(WIDGETS, object()).await.ok();
    let refused = server.put(&format!("{WIDGETS}/a"), object()).await;
    let text = "widgets.example.com \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update";
    assert_eq!(refused.refused(), (422, "Invalid", text));
}

#[tokio::test]
async fn verbs_that_custom_resources_lack_are_named() {
    let server = start(full()).await;
    for (method, uri, verb) in [
        (Method::DELETE, format!("{WIDGETS}/a/status"), "delete"),
        (Method::POST, format!("{WIDGETS}/a/scale"), "create"),
        (Method::OPTIONS, WIDGETS.to_owned(), ""),
    ] {
        let refused = server.call(method, &uri, Value::Null).await;
        let text = format!("{verb} is not supported on resources of kind \"widgets.example.com\"");
        assert_eq!(
            refused.refused(),
            (405, "MethodNotAllowed", &*text),
            "{uri}"
        );
    }
    // Over all namespaces there is nothing but to read.
    let everywhere = "/apis/example.com/v1/widgets";
    for method in [Method::POST, Method::DELETE] {
        let missing = server
            .call(method, everywhere, widget("b", json!({"size": 1})))
            .await;
        assert_eq!(
            (missing.code, &*missing.text),
            (StatusCode::NOT_FOUND, "404 page not found\n")
        );
    }
    let uri = format!("{everywhere}?limit=1");
    assert_eq!(server.get(&uri).await.code, StatusCode::OK);
}
