//! The ConversionReview that a webhook gets, and what its answer is worth. Pure; texts and checks are those of Kubernetes'
//! `webhook_converter.go`.

use http::StatusCode;
use schema::field::{self, ErrorList, Path};
use serde_json::{Map, Value, json};

use crate::outgoing;
use crate::status::quoted;

/// Why there are no converted objects. The words are those of the metrics' label `failure_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Call,
    Malformed,
    Partial,
    InvalidObject,
}

impl Sort {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Sort::Call => "conversion_webhook_call_failure",
            Sort::Malformed => "conversion_webhook_malformed_response_failure",
            Sort::Partial => "conversion_webhook_partial_response_failure",
            Sort::InvalidObject => "conversion_webhook_invalid_converted_object_failure",
        }
    }
}

/// What goes behind `conversion webhook for <version and kind> `.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) sort: Sort,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(sort: Sort, text: impl std::fmt::Display) -> Failure {
        Failure {
            sort,
            text: format!("failed: {text}"),
        }
    }
}

/// The first of a definition's `conversionReviewVersions` that this server speaks.
pub(super) fn version(webhook: &Value) -> Option<&'static str> {
    let wanted = webhook.get("conversionReviewVersions")?.as_array()?;
    wanted.iter().find_map(|version| match version.as_str() {
        Some("v1") => Some("v1"),
        Some("v1beta1") => Some("v1beta1"),
        _ => None,
    })
}

/// The review as JSON, made of objects that are JSON already.
pub(super) fn request<'a>(
    version: &str,
    uid: &str,
    desired: &str,
    objects: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    let mut body = format!(
        "{{\"kind\":\"ConversionReview\",\"apiVersion\":\"apiextensions.k8s.io/{version}\",\"request\":{{\"uid\":{},\"desiredAPIVersion\":{},\"objects\":[",
        json!(uid),
        json!(desired)
    )
    .into_bytes();
    for (at, object) in objects.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(object);
    }
    body.extend_from_slice(b"]}}");
    body
}

/// The objects of an answer to a review that had `sent` so many.
pub(super) fn read(
    version: &str,
    uid: &str,
    sent: usize,
    status: StatusCode,
    body: &[u8],
) -> Result<Vec<Value>, Failure> {
    let call = |text: &dyn std::fmt::Display| Failure::new(Sort::Call, text);
    if !status.is_success() {
        return Err(call(&outgoing::unexpected(status.as_u16(), body)));
    }
    let mut review: Value = serde_json::from_slice(body).map_err(|error| {
        let text = format!("couldn't get version/kind; json parse error: {error}");
        call(&text)
    })?;
    verify(version, uid, &review).map_err(|text| Failure::new(Sort::Malformed, text))?;
    let objects = match review["response"]["convertedObjects"].take() {
        Value::Array(objects) => objects,
        _ => Vec::new(),
    };
    if objects.len() != sent {
        return Err(Failure {
            sort: Sort::Partial,
            text: format!("returned {} objects, expected {sent}", objects.len()),
        });
    }
    Ok(objects)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn verify(version: &str, uid: &str, review: &Value) -> Result<(), String> {
    let is_beta = version == "v1beta1";
    let (api_version, kind) = (text(review, "apiVersion"), text(review, "kind"));
    // The old version never was compared.
    if !is_beta && (api_version, kind) != ("apiextensions.k8s.io/v1", "ConversionReview") {
        let slash = if api_version.contains('/') { "" } else { "/" };
        return Err(format!(
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {slash}{api_version}, Kind={kind}"
        ));
    }
    let Some(response) = review.get("response").filter(|one| one.is_object()) else {
        return Err("no response provided".to_owned());
    };
    let echoed = text(response, "uid");
    if !is_beta && echoed != uid {
        return Err(format!(
            "expected response.uid={}, got {}",
            quoted(uid),
            quoted(echoed)
        ));
    }
    let result = response.get("result").unwrap_or(&Value::Null);
    match (text(result, "status"), text(result, "message")) {
        ("Success", _) => Ok(()),
        (status, "") => Err(format!(
            "response.result.status was '{status}', not 'Success'"
        )),
        (_, message) => Err(message.to_owned()),
    }
}

/// Takes over one object of an answer: nothing that names the object may differ, and of its metadata labels and
/// annotations count. `index` is its place among others, where there are any.
pub(super) fn accept(
    original: &Value,
    converted: Value,
    index: Option<usize>,
    desired: &str,
) -> Result<Value, Failure> {
    let invalid = |what: &str, text: &dyn std::fmt::Display| Failure {
        sort: Sort::InvalidObject,
        text: match index {
            Some(index) => format!("returned invalid {what} at index {index}: {text}"),
            None => format!("returned invalid {what}: {text}"),
        },
    };
    // Kubernetes has words of its own for an object that is alone.
    let (alone, same, metadata) = match index {
        Some(_) => ("converted object", "converted object", "metadata in object"),
        None => ("object at index 0", "object", "metadata"),
    };
    let object = |text: &dyn std::fmt::Display| invalid(alone, text);
    let kind = text(&converted, "kind");
    if kind.is_empty() {
        return Err(object(&format!(
            "Object 'Kind' is missing in '{}'",
            shortened(&converted)
        )));
    }
    let got = text(&converted, "apiVersion");
    if got != desired {
        let text = format!("invalid groupVersion (expected {desired}, received {got})");
        return Err(object(&text));
    }
    let expected = text(original, "kind");
    if kind != expected {
        let text = format!("invalid kind (expected {expected}, received {kind})");
        return Err(object(&text));
    }
    is_same(original, &converted).map_err(|text| invalid(same, &text))?;
    restore(original, converted).map_err(|text| invalid(metadata, &text))
}

/// Enough of an answer to recognize it by.
fn shortened(value: &Value) -> String {
    value.to_string().chars().take(256).collect()
}

fn is_same(original: &Value, converted: &Value) -> Result<(), String> {
    for (field, called) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let of = |object: &Value| text(&object["metadata"], field).to_owned();
        let (expected, got) = (of(original), of(converted));
        if expected != got {
            return Err(format!("must have the same {called}: {expected} != {got}"));
        }
    }
    Ok(())
}

/// What Go calls the type of a decoded value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// The converted object with the metadata that it had before, but for the labels and annotations that it has now.
fn restore(original: &Value, mut converted: Value) -> Result<Value, String> {
    let Some(answered) = converted.get_mut("metadata") else {
        return Err("missing metadata in converted object".to_owned());
    };
    let Value::Object(mut answered) = answered.take() else {
        return Err(format!(
            "invalid metadata of type {} in converted object",
            go_type(answered)
        ));
    };
    let mut metadata = match original.get("metadata") {
        Some(Value::Object(metadata)) => metadata.clone(),
        _ => Map::new(),
    };
    for field in ["labels", "annotations"] {
        match answered.remove(field) {
            None | Some(Value::Null) => {
                metadata.remove(field);
            }
            Some(map) => {
                check_map(field, metadata.get(field), &map)?;
                metadata.insert(field.to_owned(), map);
            }
        }
    }
    converted["metadata"] = Value::Object(metadata);
    Ok(converted)
}

/// Labels or annotations: texts, and valid ones where they changed.
fn check_map(field: &str, before: Option<&Value>, after: &Value) -> Result<(), String> {
    let Some(map) = after.as_object() else {
        return Err(format!(
            "invalid metadata.{field} of type {} in converted object",
            go_type(after)
        ));
    };
    if let Some((key, value)) = map.iter().find(|(_, value)| !value.is_string()) {
        return Err(format!(
            "metadata.{field}[{key}] must be a string, but is {} in converted object",
            go_type(value)
        ));
    }
    if before == Some(after) {
        return Ok(());
    }
    let mut errors = ErrorList::new();
    let metadata = Path::new("metadata");
    match field {
        "labels" => resources::meta::labels(after, &metadata.child("labels"), &mut errors),
        // Kubernetes' spelling.
        _ => resources::meta::annotations(after, &metadata.child("annotation"), &mut errors),
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(field::aggregate(&errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(version: &str, response: Value) -> Vec<u8> {
        let api_version = format!("apiextensions.k8s.io/{version}");
        json!({"apiVersion": api_version, "kind": "ConversionReview", "response": response})
            .to_string()
            .into_bytes()
    }

    fn read_v1(response: Value) -> Result<Vec<Value>, Failure> {
        read("v1", "u", 1, StatusCode::OK, &answer("v1", response))
    }

    #[test]
    fn the_first_version_that_both_speak() {
        let of = |versions: Value| version(&json!({"conversionReviewVersions": versions}));
        assert_eq!(of(json!(["v7", "v1beta1", "v1"])), Some("v1beta1"));
        assert_eq!(of(json!(["v1", "v1beta1"])), Some("v1"));
        assert_eq!(of(json!(["v7"])), None);
        assert_eq!(version(&Value::Null), None);
    }

    #[test]
    fn a_review_is_json() {
        let objects = [br#"{"a":1}"#.as_slice(), b"{}"];
        let body = request("v1", "u", "x.io/v2", objects.into_iter());
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
                "request": {"uid": "u", "desiredAPIVersion": "x.io/v2", "objects": [{"a": 1}, {}]}})
        );
    }

    #[test]
    fn answers_that_are_none() {
        for (response, text) in [
            (Value::Null, "failed: no response provided"),
            (
                json!({"uid": "x"}),
                "failed: expected response.uid=\"u\", got \"x\"",
            ),
            (
                json!({"uid": "u"}),
                "failed: response.result.status was '', not 'Success'",
            ),
            (
                json!({"uid": "u", "result": {"status": "Failed", "message": "cannot"}}),
                "failed: cannot",
            ),
            (
                json!({"uid": "u", "result": {"status": "Success"}}),
                "returned 0 objects, expected 1",
            ),
        ] {
            assert_eq!(read_v1(response).unwrap_err().text, text);
        }
        let strange = read("v1", "u", 1, StatusCode::OK, &answer("v2", json!({})));
        assert_eq!(
            strange.unwrap_err().text,
            "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got apiextensions.k8s.io/v2, Kind=ConversionReview"
        );
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let failure = read("v1", "u", 1, status, b"oh").unwrap_err();
        assert_eq!(
            failure.text,
            "failed: an error on the server (\"oh\") has prevented the request from succeeding"
        );
        assert_eq!(failure.sort, Sort::Call);
        assert!(read("v1", "u", 1, StatusCode::OK, b"<html>").is_err());
    }

    #[test]
    fn the_old_version_is_read_as_it_was() {
        let response = json!({"result": {"status": "Success"}, "convertedObjects": [{}]});
        let body = answer("v1", response);
        let objects = read("v1beta1", "u", 1, StatusCode::OK, &body);
        assert_eq!(objects.unwrap().len(), 1);
    }

    fn object(metadata: Value) -> Value {
        json!({"apiVersion": "x.io/v1", "kind": "X", "metadata": metadata})
    }

    fn accepted(change: impl Fn(&mut Value)) -> Result<Value, Failure> {
        let original = object(
            json!({"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
            "finalizers": ["f"], "labels": {"Ä": "kept"}}),
        );
        let mut converted = original.clone();
        converted["apiVersion"] = "x.io/v2".into();
        change(&mut converted);
        accept(&original, converted, Some(0), "x.io/v2")
    }

    #[test]
    fn of_the_metadata_labels_and_annotations_count() {
        let changed = accepted(|object| {
            object["spec"] = json!({"moved": 1});
            object["metadata"]["finalizers"] = json!(["other"]);
            object["metadata"]["resourceVersion"] = "8".into();
            object["metadata"]["annotations"] = json!({"was": "x"});
        })
        .unwrap();
        assert_eq!(
            changed["metadata"],
            json!({"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "finalizers": ["f"], "labels": {"Ä": "kept"}, "annotations": {"was": "x"}})
        );
        assert_eq!(changed["spec"], json!({"moved": 1}));
        let without = accepted(|object| object["metadata"]["labels"] = Value::Null).unwrap();
        assert_eq!(without["metadata"].get("labels"), None);
    }

    #[test]
    fn an_object_that_is_alone_has_no_place() {
        let original = object(json!({"name": "a", "uid": "u"}));
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 3] = [
            (
                |object| object["kind"] = "Y".into(),
                "object at index 0: invalid kind (expected X, received Y)",
            ),
            (
                |object| object["metadata"]["name"] = "b".into(),
                "object: must have the same name: a != b",
            ),
            (
                |object| object["metadata"]["labels"] = json!({"a": 1}),
                "metadata: metadata.labels[a] must be a string, but is int64 in converted object",
            ),
        ];
        for (change, text) in cases {
            let mut converted = original.clone();
            converted["apiVersion"] = "x.io/v2".into();
            change(&mut converted);
            let failure = accept(&original, converted, None, "x.io/v2").unwrap_err();
            assert_eq!(failure.text, format!("returned invalid {text}"));
        }
    }

    #[test]
    fn another_object_is_refused() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 9] = [
            (
                |object| object["apiVersion"] = "x.io/v3".into(),
                "converted object at index 0: invalid groupVersion (expected x.io/v2, received x.io/v3)",
            ),
            (
                |object| object["kind"] = "Y".into(),
                "converted object at index 0: invalid kind (expected X, received Y)",
            ),
            (
                |object| *object = json!({}),
                "converted object at index 0: Object 'Kind' is missing in '{}'",
            ),
            (
                |object| object["metadata"]["name"] = "b".into(),
                "converted object at index 0: must have the same name: a != b",
            ),
            (
                |object| object["metadata"]["namespace"] = "m".into(),
                "converted object at index 0: must have the same namespace: n != m",
            ),
            (
                |object| object["metadata"]["uid"] = "v".into(),
                "converted object at index 0: must have the same UID: u != v",
            ),
            (
                |object| object["metadata"]["labels"] = json!(["l"]),
                "metadata in object at index 0: invalid metadata.labels of type []interface {} in converted object",
            ),
            (
                |object| object["metadata"]["annotations"] = json!({"a": 1}),
                "metadata in object at index 0: metadata.annotations[a] must be a string, but is int64 in converted object",
            ),
            (
                |object| object["metadata"]["labels"] = json!({"a": "no label"}),
                "metadata in object at index 0: metadata.labels: Invalid value: \"no label\"",
            ),
        ];
        for (change, text) in cases {
            let failure = accepted(change).unwrap_err();
            let text = format!("returned invalid {text}");
            assert!(failure.text.starts_with(&text), "{}", failure.text);
            assert_eq!(failure.sort, Sort::InvalidObject);
        }
    }
}
