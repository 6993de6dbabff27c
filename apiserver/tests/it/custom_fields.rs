//! Field validation of custom resources that are applied as YAML: what is unknown, what occurs
//! twice, and what is fine.

use http::{Method, header};
use serde_json::{Value, json};

use crate::definitions::{DEFINITIONS, WIDGETS, any, definition};
use crate::server::{Answer, Server};

const NOTHING: [&str; 2] = ["", ""];

/// A spec with a pattern and a list with two keys; `more` comes on top.
fn schema(more: Value) -> Value {
    let mut spec = json!({"type": "object", "properties": {
        "foo": {"type": "string"},
        "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
        "ports": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
            "items": {"type": "object", "required": ["containerPort", "protocol"], "properties": {
                "containerPort": {"type": "integer", "format": "int32"},
                "name": {"type": "string"}, "protocol": {"type": "string"}}}}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        match value {
            Value::Object(inner) => spec[key].as_object_mut().unwrap().extend(inner.clone()),
            other => spec[key] = other.clone(),
        }
    }
    json!({"type": "object", "properties": {"spec": spec}})
}

/// The answer to a strict apply of this text behind the usual head, which is eight lines; `meta` and
/// `root` are what metadata and the object have on top.
async fn apply(schema: Value, [meta, root]: [&str; 2], spec: &str) -> Answer {
    let server = Server::start().await;
    let definition = definition("example.com", "Widget", schema);
    server.post(DEFINITIONS, definition).await.ok();
    let body = format!(
        "\napiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: mytest\n{meta}  finalizers:\n  - test-finalizer\n{root}spec:\n{spec}  cronSpec: \"* * * * */5\"\n  ports:\n  - name: x\n    containerPort: 80\n    protocol: TCP"
    );
    let uri = format!("{WIDGETS}/mytest?fieldManager=m&fieldValidation=Strict");
    let request = server
        .request(Method::PATCH, &uri)
        .header(header::CONTENT_TYPE, "application/apply-patch+yaml")
        .body(body.into())
        .unwrap();
    server.read(request).await
}

fn refusal(answer: &Answer) -> &str {
    assert!(!answer.code.is_success(), "{}", answer.text);
    answer.body["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_valid_custom_resource_is_applied() {
    let answer = apply(schema(json!({})), NOTHING, "  foo: foo1\n").await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    assert_eq!(answer.ok()["spec"]["ports"][0]["containerPort"], 80);
}

#[tokio::test]
async fn without_a_schema_unknown_fields_are_taken() {
    let answer = apply(any(), NOTHING, "  unknown: uk1\n").await;
    assert_eq!(answer.ok()["spec"]["unknown"], "uk1");
}

#[tokio::test]
async fn fields_beyond_the_schema_are_refused() {
    let unknown = ["", "unknownField: unknown\n"];
    for (top, spec, wanted) in [
        (NOTHING, "  extra: 1\n", ".spec.extra"),
        (unknown, "  foo: foo1\n", ".unknownField"),
    ] {
        let answer = apply(schema(json!({})), top, spec).await;
        let wanted = format!("{wanted}: field not declared in schema");
        let message = refusal(&answer);
        assert!(message.contains(&wanted), "{message}");
    }
}

#[tokio::test]
async fn unknown_metadata_is_refused_at_the_root_and_in_embedded_objects() {
    let template = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        "spec": {"type": "object"}}});
    let schema = schema(json!({"x-kubernetes-preserve-unknown-fields": true,
        "properties": {"template": template}}));
    // Also where the resource within does not say what it is.
    for version in ["apiVersion", "apiversion"] {
        let spec = format!(
            "  template:\n    {version}: foo/v1\n    kind: Sub\n    metadata:\n      unknownSubMeta: unknown\n      name: subobject\n      namespace: default\n"
        );
        let answer = apply(schema.clone(), ["  unknownMeta: unknown\n", ""], &spec).await;
        let message = refusal(&answer);
        for wanted in [
            ".metadata.unknownMeta: field not declared in schema",
            ".spec.template.metadata.unknownSubMeta: field not declared in schema",
        ] {
            assert!(message.contains(wanted), "{message}");
        }
    }
}

#[tokio::test]
async fn duplicates_are_found_where_any_field_goes() {
    let schema = schema(json!({"x-kubernetes-preserve-unknown-fields": true}));
    let spec = "  unknown: uk1\n  foo: foo1\n  foo: foo2\n";
    let answer = apply(schema, NOTHING, spec).await;
    let message = refusal(&answer);
    assert!(
        message.contains(r#"line 11: key "foo" already set in map"#),
        "{message}"
    );
}
