//! Request bodies into objects, with Kubernetes' strictness about unknown and duplicate fields.

use bytes::Bytes;
use resources::Resource;
use resources::custom::Custom;
use schema::Object;
use schema::decode::{DecodeError, Decoded, FieldValidation};
use schema::field::{FieldError, Path};
use schema::structural::{Schema, Structural};
use serde_json::{Map, Value};

use crate::context::Context;
use crate::negotiate::{self, BodyFormat};
use crate::status::{ApiError, ApiResult};
use crate::verbs::patch::Patch;

/// What a body has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
    /// The schema of a custom resource.
    pub(crate) custom: Option<&'a Structural>,
}

impl<'a> Expected<'a> {
    pub(crate) fn of(resource: &'a Resource) -> Expected<'a> {
        Expected {
            group: &resource.group,
            version: &resource.version,
            kind: &resource.kind,
            custom: resource.custom.as_ref().map(Custom::schema),
        }
    }

    /// What describes such objects.
    pub(crate) fn schema(&self) -> Schema<'a> {
        match self.custom {
            Some(custom) => custom.into(),
            None => schema::type_of(self.group, self.version, self.kind).into(),
        }
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// The query's `fieldValidation`; Warn where it says nothing.
pub(crate) fn field_validation(
    context: &Context,
    options_kind: &str,
) -> ApiResult<FieldValidation> {
    match context.query.get("fieldValidation") {
        None | Some("" | "Warn") => Ok(FieldValidation::Warn),
        Some("Ignore") => Ok(FieldValidation::Ignore),
        Some("Strict") => Ok(FieldValidation::Strict),
        Some(other) => {
            let path = schema::field::Path::new("fieldValidation");
            let error = schema::field::FieldError::not_supported(
                &path,
                other,
                &["", "Ignore", "Strict", "Warn"],
            );
            Err(ApiError::invalid("meta.k8s.io", options_kind, "", &[error]))
        }
    }
}

/// Decodes the body of a create or update.
pub(crate) fn object(
    context: &Context,
    expected: Expected<'_>,
    body: &Bytes,
    options_kind: &str,
) -> ApiResult<Object> {
    let validation = field_validation(context, options_kind)?;
    let format = negotiate::body_format(&context.headers)?;
    let value = value(context, expected, body, format, validation)?;
    if expected.custom.is_some() && is_kindless(&value) {
        let text = match format {
            BodyFormat::Json => missing_kind(String::from_utf8_lossy(body)),
            BodyFormat::Yaml | BodyFormat::Protobuf => missing_kind(&value),
        };
        return Err(refuse_text(expected, body, &text));
    }
    typed(expected, value, || body.clone())
}

/// Checks what a patch made of an `old` object: its fields get the checks that a body gets, but for those that the patch left
/// alone, which got them when they came. What is wrong then is the patch. What is wrong with its own text is told first.
pub(crate) fn patched(
    context: &Context,
    expected: Expected<'_>,
    (mut patched, old): (Value, &Value),
    validation: FieldValidation,
    patch: &Patch,
) -> ApiResult<Object> {
    let shown = || patch.to_string();
    let ty = expected.schema();
    let left_alone = match expected.custom {
        Some(_) => Map::new(),
        None => take_left_alone(&mut patched, old, patch),
    };
    let entries = match expected.custom {
        None if patch.leaves_entries_alone() => take_entries(&mut patched),
        _ => None,
    };
    let own = patch.problems().join(", ");
    let decoded = match schema::decode::value(ty, patched, validation) {
        Ok(_) if validation == FieldValidation::Strict && !own.is_empty() => {
            Err(DecodeError::Strict(own))
        }
        Err(DecodeError::Strict(others)) if !own.is_empty() => {
            Err(DecodeError::Strict(format!("{own}, {others}")))
        }
        other => other,
    };
    let mut decoded = decoded.map_err(|error| {
        let error = FieldError::invalid(&Path::new("patch"), shown(), error.to_string());
        ApiError::invalid("", "", "", &[error])
    })?;
    if validation == FieldValidation::Warn {
        for problem in patch.problems() {
            context.warn(problem.clone());
        }
        warn(context, &decoded);
    }
    if expected.custom.is_some() && is_kindless(&decoded.value) {
        let text = missing_kind(decoded.value.to_string());
        let error = FieldError::invalid(&Path::new("patch"), shown(), text);
        return Err(ApiError::invalid("", "", "", &[error]));
    }
    if let Value::Object(fields) = &mut decoded.value {
        fields.extend(left_alone);
    }
    put_entries(&mut decoded.value, entries);
    typed(expected, decoded.value, headless)
}

/// Takes the fields out of a patched object that the patch has left as they were.
fn take_left_alone(patched: &mut Value, old: &Value, patch: &Patch) -> Map<String, Value> {
    let has_left_metadata = patch.has_left_metadata(patched, old);
    let mut taken = take_equal(patched, old, |name| patch.leaves_alone(name));
    if has_left_metadata && let Value::Object(fields) = patched {
        taken.extend(fields.remove_entry("metadata"));
    }
    taken
}

/// Takes the fields out of a patched object that are as they were before, but for those that say what it is. Those that are
/// `left_alone` need not be compared.
fn take_equal(
    patched: &mut Value,
    old: &Value,
    left_alone: impl Fn(&str) -> bool,
) -> Map<String, Value> {
    let (Value::Object(patched), Value::Object(old)) = (patched, old) else {
        return Map::new();
    };
    let is_equal = |name: &str, value: &Value| {
        !matches!(name, "apiVersion" | "kind" | "metadata")
            && (left_alone(name) || old.get(name) == Some(value))
    };
    let equal = patched.iter().filter(|(name, value)| is_equal(name, value));
    let names: Vec<String> = equal.map(|(name, _)| name.clone()).collect();
    let taken = names.iter().filter_map(|name| patched.remove_entry(name));
    taken.collect()
}

/// Takes the managed fields out of a patched object, where the patch leaves them alone: the server has written them, and
/// nothing in them is to be checked, nor to be brought into form.
fn take_entries(patched: &mut Value) -> Option<Value> {
    let metadata = patched.get_mut("metadata")?.as_object_mut()?;
    metadata.remove("managedFields")
}

/// Puts them back.
fn put_entries(decoded: &mut Value, entries: Option<Value>) {
    let metadata = decoded.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(metadata), Some(entries)) = (metadata, entries) {
        metadata.insert("managedFields".to_owned(), entries);
    }
}

fn is_kindless(value: &Value) -> bool {
    let kind = value.get("kind").and_then(Value::as_str);
    kind.unwrap_or_default().is_empty()
}

fn missing_kind(shown: impl std::fmt::Display) -> String {
    format!("Object 'Kind' is missing in '{shown}'")
}

/// The version and kind of what is no object and has neither, as a body for error texts.
fn headless() -> Bytes {
    Bytes::from_static(br#"{"apiVersion":null,"kind":null}"#)
}

fn warn(context: &Context, decoded: &Decoded) {
    for problem in &decoded.problems {
        context.warn(problem.clone());
    }
}

fn value(
    context: &Context,
    expected: Expected<'_>,
    body: &Bytes,
    format: BodyFormat,
    validation: FieldValidation,
) -> ApiResult<Value> {
    let ty = expected.schema();
    let refuse = |error: &dyn std::fmt::Display| refuse(expected, body, format, error);
    let decoded = match format {
        BodyFormat::Json => {
            schema::decode::json(ty, body, validation).map_err(|error| refuse(&error))?
        }
        BodyFormat::Yaml => {
            schema::decode::yaml(ty, body, validation).map_err(|error| refuse(&error))?
        }
        BodyFormat::Protobuf => {
            let built_in = match ty {
                Schema::BuiltIn(ty) => Some(ty),
                Schema::Custom(_) => {
                    return Err(ApiError::unsupported_media(&[
                        negotiate::JSON,
                        negotiate::YAML,
                    ]));
                }
                Schema::Any => None,
            };
            return schema::protobuf::decode_or(body, built_in).map_err(|error| refuse(&error));
        }
    };
    if validation == FieldValidation::Warn {
        warn(context, &decoded);
    }
    Ok(decoded.value)
}

/// Checks kind and version; fills in what is missing, which is of built-in kinds only: the type of all custom objects
/// is the same, so that they have to say what they are.
fn typed(expected: Expected<'_>, value: Value, body: impl FnOnce() -> Bytes) -> ApiResult<Object> {
    let mut object = Object::new(value).map_err(|_| {
        refuse(
            expected,
            &body(),
            BodyFormat::Json,
            &"json: cannot unmarshal into Go value of type map[string]interface {}",
        )
    })?;
    let api_version = expected.api_version();
    if object.kind() == expected.kind && object.api_version() == api_version {
        return Ok(object);
    }
    // What the path says already may be left out, each for itself.
    if object.kind().is_empty() {
        object.set_kind(expected.kind);
    }
    if object.api_version().is_empty() && expected.custom.is_none() {
        object.set_api_version(&api_version);
    }
    let is_strange = object.kind() != expected.kind || object.group() != expected.group;
    if is_strange && expected.custom.is_none() {
        return Err(strange_kind(expected, &object));
    }
    if object.api_version() != api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({api_version})",
            object.api_version()
        )));
    }
    if is_strange {
        // The objects of definitions have one type, so that their kind is a field like others.
        let text = format!("must be {}", expected.kind);
        let error = FieldError::invalid(&Path::new("kind"), object.kind(), text);
        let name = object.name();
        return Err(ApiError::invalid(
            expected.group,
            object.kind(),
            name,
            &[error],
        ));
    }
    Ok(object)
}

/// An object of another built-in kind, or of none.
fn strange_kind(expected: Expected<'_>, object: &Object) -> ApiError {
    let (kind, version) = (object.kind(), object.version());
    let why = match resources::by_kind(object.group(), version, kind) {
        // In Kubernetes' words, which are Go's names of the types.
        Some(_) => format!(
            "converting ({version}.{kind}) to ({}.{}): unknown conversion",
            go_package(expected.group),
            expected.kind
        ),
        None => format!(
            "no kind {kind:?} is registered for version {:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            object.api_version()
        ),
    };
    ApiError::bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {}: {why}",
        expected.kind
    ))
}

/// The package that holds the types of a group.
pub(crate) fn go_package(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        _ => group.split('.').next().unwrap_or(group),
    }
}

fn refuse(
    expected: Expected<'_>,
    body: &Bytes,
    format: BodyFormat,
    error: &dyn std::fmt::Display,
) -> ApiError {
    let read = match format {
        BodyFormat::Json => schema::decode::json(Schema::Any, body, FieldValidation::Ignore),
        BodyFormat::Yaml => schema::decode::yaml(Schema::Any, body, FieldValidation::Ignore),
        BodyFormat::Protobuf => return refuse_text(expected, body, &error.to_string()),
    };
    // Kubernetes looks for version and kind first, and says more of a body that has them.
    let head = match &read {
        Ok(decoded) => head_of(expected, &decoded.value),
        Err(error) if format == BodyFormat::Json => Err(error.to_string()),
        Err(error) => return refuse_text(expected, body, &error.to_string()),
    };
    match head {
        Ok((kind, version)) => ApiError::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: {error}",
            expected.kind
        )),
        Err(error) => {
            let text = format!("couldn't get version/kind; json parse error: {error}");
            refuse_text(expected, body, &text)
        }
    }
}

/// Kind and version of a body; what it does not say, the path does.
fn head_of<'a>(expected: Expected<'a>, body: &'a Value) -> Result<(&'a str, &'a str), String> {
    let found = match body {
        Value::Object(_) | Value::Null => None,
        Value::Array(_) => Some("array"),
        Value::String(_) => Some("string"),
        Value::Number(_) => Some("number"),
        Value::Bool(_) => Some("bool"),
    };
    if let Some(found) = found {
        return Err(format!(
            r#"json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }}"#
        ));
    }
    let text = |field: &str, otherwise: &'a str| {
        let text = body.get(field).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).unwrap_or(otherwise)
    };
    let version = text("apiVersion", expected.version);
    let version = version
        .rsplit_once('/')
        .map_or(version, |(_, version)| version);
    Ok((text("kind", expected.kind), version))
}

fn refuse_text(expected: Expected<'_>, body: &Bytes, error: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {error} ({})",
        expected.kind,
        summary(body)
    ))
}

/// The first bytes of a body, as Kubernetes shows them: what begins like JSON as it is, anything else in hexadecimal digits.
fn summary(body: &[u8]) -> String {
    const SHOWN_BYTES: usize = 30;
    let head = &body[..body.len().min(SHOWN_BYTES)];
    let mut shown = match head.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(head).into_owned(),
        Some(_) => head.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if body.len() > SHOWN_BYTES {
        shown.push_str(" ...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_body_its_beginning_is_shown() {
        let cases: [(&[u8], &str); 6] = [
            (b"", "<empty>"),
            (b"{", "{"),
            (b"[]", "5b5d"),
            (b"{\"a\":\"\xff\"}", "{\"a\":\"\u{fffd}\"}"),
            (
                b"{\"a\": \"1234567890123456789012\"}",
                "{\"a\": \"1234567890123456789012\" ...",
            ),
            (
                b"0123456789012345678901234567890",
                "303132333435363738393031323334353637383930313233343536373839 ...",
            ),
        ];
        for (body, shown) in cases {
            assert_eq!(summary(body), shown);
        }
    }

    #[test]
    fn what_a_patch_leaves_alone_is_told_from_what_it_changes() {
        let old = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "gone": 1,
            "spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running"}});
        let mut patched = old.clone();
        patched["status"]["phase"] = "Failed".into();
        patched["new"] = json!({});
        patched.as_object_mut().unwrap().remove("gone");
        let whole = patched.clone();
        let taken = take_equal(&mut patched, &old, |_| false);
        assert_eq!(Value::from(taken.clone()), json!({"spec": old["spec"]}));
        assert_eq!(patched.get("spec"), None);
        assert_eq!(patched["metadata"], old["metadata"]);
        patched.as_object_mut().unwrap().extend(taken);
        assert_eq!(patched, whole);
        assert!(take_equal(&mut json!([1]), &old, |_| false).is_empty());
    }

    /// What the server writes into managed fields comes out of the checks of a body as it is.
    #[test]
    fn managed_fields_need_no_check() {
        let pods = resources::find("", "v1", "pods").unwrap();
        let metadata = json!({"name": "a", "uid": "u", "managedFields": [
            {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:nodeName": {}, "f:odd": {}}}},
            {"manager": "n", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "subresource": "status",
                "fieldsV1": {"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Ready\"}": {}}}}}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": "Running"}});
        let checked = |value: Value| {
            let schema = Expected::of(pods).schema();
            let decoded = schema::decode::value(schema, value, FieldValidation::Strict);
            decoded.unwrap().value
        };
        let mut without = pod.clone();
        let entries = take_entries(&mut without);
        assert_eq!(without["metadata"].get("managedFields"), None);
        let mut short = checked(without);
        put_entries(&mut short, entries);
        assert_eq!(short, checked(pod));
    }

    /// What a patch says of itself, against comparing what it made.
    #[test]
    fn what_a_patch_does_not_name_it_leaves_alone() {
        let pod = Expected {
            group: "",
            version: "v1",
            kind: "Pod",
            custom: None,
        };
        let old = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},
            "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}, {"name": "d"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let mut old = old;
        old["metadata"]["managedFields"] = json!([{"manager": "a", "time": null}]);
        let (mut left_alone, mut kept, mut whole) = (0, 0, 0);
        for patch in [
            json!({}),
            json!({"metadata": {}}),
            json!({"metadata": {"name": "a", "labels": null}, "status": {"phase": "Failed"}}),
            json!({"metadata": {"name": "b"}}),
            json!({"metadata": {"$retainKeys": ["name"], "name": "a"}}),
            json!({"metadata": "a"}),
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"uid": "u"}, "status": {"phase": "Failed"}}),
            json!({"metadata": {"managedFields": []}}),
            json!({"metadata": {"managedFields": null}}),
            json!({"metadata": {"$patch": "replace", "name": "a"}}),
            json!({"metadata": null}),
            json!({"spec": null}),
            json!({"spec": {"nodeName": "m"}}),
            json!({"spec": {"containers": [{"name": "c", "image": "j"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "d"}, {"name": "c"}]}}),
            json!({"status": {"$patch": "delete"}}),
            json!({"$retainKeys": ["apiVersion", "kind", "metadata", "status"], "status": {}}),
            json!({"$patch": "replace", "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}),
            json!({"$patch": "delete"}),
        ] {
            let json_patch = json!([{"op": "remove", "path": "/spec"}]);
            for (form, body) in [
                ("merge-patch", &patch),
                ("strategic-merge-patch", &patch),
                ("json-patch", &json_patch),
            ] {
                let mut headers = http::HeaderMap::new();
                let form = format!("application/{form}+json").parse().unwrap();
                headers.insert(http::header::CONTENT_TYPE, form);
                let mut patch = Patch::read(&headers, &body.to_string().into()).unwrap();
                let Ok(mut long) = patch.apply(pod, &old, || old.clone()) else {
                    continue;
                };
                if patch.has_left_metadata(&long, &old) {
                    assert_eq!(long["metadata"], old["metadata"], "{patch}");
                    whole += 1;
                }
                if patch.leaves_entries_alone() {
                    let entries = |pod: &Value| pod.pointer("/metadata/managedFields").cloned();
                    assert_eq!(entries(&long), entries(&old), "{patch}");
                    kept += 1;
                }
                let mut short = long.clone();
                let taken = take_equal(&mut long, &old, |_| false);
                let told = take_equal(&mut short, &old, |name| patch.leaves_alone(name));
                assert_eq!((told, short), (taken, long), "{patch}");
                let names = ["spec", "status"].iter();
                left_alone += names.filter(|name| patch.leaves_alone(name)).count();
            }
        }
        assert!(left_alone > 10 && kept > 10 && whole > 10);
    }

    /// What of a patched object is not checked again comes out of the checks as it is, where it was checked before.
    #[test]
    fn what_was_left_alone_needs_no_check() {
        let pods = resources::find("", "v1", "pods").unwrap();
        let checked = |value: Value| {
            let schema = Expected::of(pods).schema();
            let decoded = schema::decode::value(schema, value, FieldValidation::Warn).unwrap();
            (decoded.value, decoded.problems)
        };
        let metadata = json!({"name": "a", "uid": "u", "generation": 0, "labels": {"a": "b", "c": null}, "annotations": {},
            "creationTimestamp": "2026-01-01T00:00:00+01:00", "deletionGracePeriodSeconds": 0, "finalizers": [null], "odd": 1,
            "ownerReferences": [{"kind": "Job", "name": "j", "uid": "", "controller": false, "odd": {}}],
            "managedFields": [{"manager": "m", "time": "2026-01-01T00:00:00.5Z", "fieldsV1": {"f:spec": {}}}]});
        let (mut same, mut changed) = (0, 0);
        for metadata in [
            metadata,
            json!({}),
            json!({"name": "a"}),
            json!({"uid": "u"}),
        ] {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n"}});
            let (mut old, _) = checked(pod);
            if old.get("metadata").is_none() {
                old["metadata"] = json!({"name": "b"});
            }
            for body in [
                json!({"status": {"phase": "Running", "odd": 1}}),
                json!({"metadata": {"uid": "u"}, "status": {"startTime": "2026-01-01T00:00:00+01:00"}}),
                json!({"metadata": {"labels": {"a": ""}, "odd": 2}}),
                json!({"metadata": {"annotations": {"a": null}}}),
                json!({"metadata": {"deletionTimestamp": null}, "spec": null}),
            ] {
                let mut headers = http::HeaderMap::new();
                let form = "application/merge-patch+json".parse().unwrap();
                headers.insert(http::header::CONTENT_TYPE, form);
                let mut patch = Patch::read(&headers, &body.to_string().into()).unwrap();
                let patched = patch
                    .apply(Expected::of(pods), &old, || old.clone())
                    .unwrap();
                let mut rest = patched.clone();
                let taken = take_left_alone(&mut rest, &old, &patch);
                match taken.contains_key("metadata") {
                    true => same += 1,
                    false => changed += 1,
                }
                let (mut short, problems) = checked(rest);
                short.as_object_mut().unwrap().extend(taken);
                assert_eq!((short, problems), checked(patched), "{body}");
            }
        }
        assert!(same > 5 && changed > 5, "{same} {changed}");
    }
}
