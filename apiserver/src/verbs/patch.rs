//! PATCH: the three patch types that work on any object, and the door to the fourth, server-side apply. The patch is
//! applied to whatever is there when the write succeeds; only a patch that names a resourceVersion can conflict.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use resources::Resource;
use schema::Object;
use schema::decode::{Decoded, FieldValidation};
use schema::field::{FieldError, Path};
use schema::object::kind_of;
use schema::pick::Pick;
use serde_json::{Map, Value};

use crate::admission;
use crate::context::Context;
use crate::decode::{self, Expected};
use crate::managed::{self, Owner, Versions};
use crate::negotiate;
use crate::status::{ApiError, ApiResult};
use crate::verbs::{apply, update};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";
/// Custom resources have no lists that merge by keys of Kubernetes' types.
const ACCEPTED_CUSTOM: &[&str] = &[JSON_PATCH, MERGE_PATCH, APPLY_PATCH];
const ACCEPTED: &[&str] = &[JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH];

/// The fields of an operation of a JSON patch.
const OPERATION_FIELDS: &[&str] = &["op", "path", "from", "value"];
/// As many problems of one patch are told.
const PROBLEMS_MAX: usize = 100;

/// A patch whose body was read once; applied as often as the write has to be tried.
pub(crate) struct Patch {
    form: Form,
    /// As it came.
    body: Bytes,
    /// What it names at its root.
    names: Vec<String>,
    /// What it names of the metadata; none where that may be anything of them.
    names_in_metadata: Option<Vec<String>>,
    /// What is wrong with the text of the patch itself, whatever comes of it: fields that occur twice.
    problems: Vec<String>,
    /// Why it is no list of operations, which is told where fields are validated; the patch itself says it in other words.
    misfit: Option<String>,
}

/// What was read is given away when it is applied for the first time: few writes are tried twice, and reading it again then
/// costs less than a copy each time.
enum Form {
    Json,
    Merge(Option<Value>),
    Strategic(Option<Value>),
}

impl Patch {
    /// Reads the body; 415 for other types, 400 where it does not parse.
    pub(crate) fn read(headers: &http::HeaderMap, body: &Bytes) -> ApiResult<Patch> {
        let parse = |form: fn(Option<Value>) -> Form| -> ApiResult<Patch> {
            let decoded = decoded(body, FieldValidation::Warn)?;
            let Value::Object(fields) = &decoded.value else {
                return Err(ApiError::bad_request(format!(
                    "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                    kind_of(&decoded.value)
                )));
            };
            Ok(Patch {
                names: fields.keys().cloned().collect(),
                names_in_metadata: names_in_metadata(fields),
                form: form(Some(decoded.value)),
                body: body.clone(),
                problems: decoded.problems,
                misfit: None,
            })
        };
        match negotiate::media_type(headers).as_str() {
            JSON_PATCH => {
                let (problems, misfit) = operation_problems(body);
                Ok(Patch {
                    form: Form::Json,
                    body: body.clone(),
                    names: Vec::new(),
                    names_in_metadata: None,
                    problems,
                    misfit,
                })
            }
            MERGE_PATCH => parse(Form::Merge),
            STRATEGIC_PATCH => parse(Form::Strategic),
            _ => Err(ApiError::unsupported_media(ACCEPTED)),
        }
    }

    /// Whether the patch leaves a field of the object as it is, as far as it says so itself: it does not name it. A directive
    /// may mean any field.
    pub(crate) fn leaves_alone(&self, field: &str) -> bool {
        let mut names = self.names.iter();
        match &self.form {
            Form::Merge(_) => !names.any(|name| name == field),
            Form::Strategic(_) => !names.any(|name| name == field || name.starts_with('$')),
            Form::Json => false,
        }
    }

    /// Whether it leaves the managed fields as they are.
    pub(crate) fn leaves_entries_alone(&self) -> bool {
        let is_directed = self.names.iter().any(|name| name.starts_with('$'));
        let named = self.names_in_metadata.as_ref();
        !is_directed && named.is_some_and(|named| named.iter().all(|name| name != "managedFields"))
    }

    /// Whether it has left all the metadata as they are, by what it `patched` of the `old` object: what it names of them is as it
    /// was, as a uid that has to be that of the object.
    pub(crate) fn has_left_metadata(&self, patched: &Value, old: &Value) -> bool {
        fn metadata(object: &Value) -> Option<&Map<String, Value>> {
            object.get("metadata")?.as_object()
        }
        if !self.leaves_entries_alone() {
            return false;
        }
        let (Some(is), Some(was)) = (metadata(patched), metadata(old)) else {
            return false;
        };
        let mut named = self.names_in_metadata.iter().flatten();
        is.len() == was.len() && named.all(|name| is.get(name) == was.get(name))
    }

    /// What `fieldValidation` tells of the patch itself, before what it tells of the patched object.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Refuses a JSON patch whose operations have values of other types, where fields are validated.
    pub(crate) fn check_operations(&self, validation: FieldValidation) -> ApiResult<()> {
        match &self.misfit {
            Some(text) if validation != FieldValidation::Ignore => Err(ApiError::bad_request(
                format!("error decoding patch: json: cannot unmarshal {text}"),
            )),
            _ => Ok(()),
        }
    }

    /// The patched value of `object`, whose type is `expected`. `copy` makes a copy of it.
    pub(crate) fn apply(
        &mut self,
        expected: Expected<'_>,
        object: &Value,
        copy: impl FnOnce() -> Value,
    ) -> ApiResult<Value> {
        let body = &self.body;
        let again = |read: &mut Option<Value>| match read.take() {
            Some(value) => Ok(value),
            None => decoded(body, FieldValidation::Ignore).map(|decoded| decoded.value),
        };
        let patched = match &mut self.form {
            Form::Json => schema::patch::json::apply(object, body),
            Form::Merge(read) => schema::patch::merge::apply_to(copy(), again(read)?),
            Form::Strategic(read) => {
                let ty = schema::type_of(expected.group, expected.version, expected.kind)
                    .ok_or_else(|| ApiError::unsupported_media(&[JSON_PATCH, MERGE_PATCH]))?;
                schema::patch::strategic::apply_to(Some(ty), copy(), again(read)?)
            }
        };
        patched.map_err(|error| refuse(&error))
    }
}

/// What a patch with these fields names of the metadata; none where it has a directive for them, or something else in their place.
fn names_in_metadata(fields: &Map<String, Value>) -> Option<Vec<String>> {
    match fields.get("metadata") {
        None => Some(Vec::new()),
        Some(Value::Object(metadata)) => {
            let is_directed = metadata.keys().any(|name| name.starts_with('$'));
            (!is_directed).then(|| metadata.keys().cloned().collect())
        }
        Some(_) => None,
    }
}

/// What a body says that has to be JSON.
fn decoded(body: &Bytes, validation: FieldValidation) -> ApiResult<Decoded> {
    schema::decode::json(None, body, validation)
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))
}

impl std::fmt::Display for Patch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let read = match self.form {
            Form::Json => None,
            Form::Merge(_) | Form::Strategic(_) => {
                decoded(&self.body, FieldValidation::Ignore).ok()
            }
        };
        match read {
            Some(read) => write!(formatter, "{}", read.value),
            None => formatter.write_str(&String::from_utf8_lossy(&self.body)),
        }
    }
}

/// Fields of a JSON patch that occur twice, and those that no operation has, and why it is no list of operations; none where
/// it cannot be read, which is told when it is applied.
fn operation_problems(body: &Bytes) -> (Vec<String>, Option<String>) {
    let Ok(decoded) = schema::decode::json(None, body, FieldValidation::Warn) else {
        return (Vec::new(), None);
    };
    let operations = decoded
        .value
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let unknown = operations.iter().enumerate().flat_map(|(at, operation)| {
        let names = operation.as_object().into_iter().flat_map(Map::keys);
        names
            .filter(|name| !OPERATION_FIELDS.contains(&name.as_str()))
            .map(move |name| format!("unknown field \"[{at}].{name}\""))
    });
    let all = decoded.problems.iter().cloned().chain(unknown);
    let problems = all
        .take(PROBLEMS_MAX)
        .map(|problem| format!("json patch {problem}"))
        .collect();
    (problems, misfit(&decoded.value))
}

/// What Go's decoder says of a value that is no list of operations. A null fits anywhere.
fn misfit(patch: &Value) -> Option<String> {
    let into = |value: &Value, place: &str| Some(format!("{} into Go {place}", kind_of(value)));
    let operations = match patch {
        Value::Null => return None,
        Value::Array(operations) => operations,
        other => return into(other, "value of type []handlers.jsonPatchOp"),
    };
    operations.iter().find_map(|operation| match operation {
        Value::Null => None,
        Value::Object(fields) => ["op", "path", "from"].into_iter().find_map(|name| {
            let value = fields.get(name)?;
            match value {
                Value::Null | Value::String(_) => None,
                other => into(
                    other,
                    &format!("struct field jsonPatchOp.{name} of type string"),
                ),
            }
        }),
        other => into(other, "value of type handlers.jsonPatchOp"),
    })
}

fn refuse(error: &schema::patch::PatchError) -> ApiError {
    match error {
        schema::patch::PatchError::BadRequest(text) => ApiError::bad_request(text),
        schema::patch::PatchError::Refused(text) => ApiError::unknown(text),
        schema::patch::PatchError::TooLarge(text) => {
            ApiError::too_large_text(format!("Request entity too large: {text}"))
        }
        schema::patch::PatchError::Unprocessable(text) => ApiError::unprocessable(
            "the server rejected our request due to an error in our request",
        )
        .with_cause("UnexpectedServerResponse", text, ""),
    }
}

/// Whether the request is a server-side apply.
pub(crate) fn is_apply(context: &Context) -> bool {
    is_applied(&context.headers)
}

/// The same, by the headers of a patch.
pub(crate) fn is_applied(headers: &HeaderMap) -> bool {
    negotiate::media_type(headers) == APPLY_PATCH
}

/// Who owns what a patch of the other types changes.
pub(crate) fn manager(context: &Context) -> ApiResult<String> {
    if context.query.get("force").is_some() {
        let path = Path::new("force");
        let error = FieldError::forbidden(&path, "may not be specified for non-apply patch");
        return Err(ApiError::invalid(
            "meta.k8s.io",
            "PatchOptions",
            "",
            &[error],
        ));
    }
    managed::manager(context, "PatchOptions")
}

/// 415 for a patch of a type that custom resources do not take.
pub(crate) fn check_type(context: &Context, resource: &Resource) -> ApiResult<()> {
    let said = negotiate::media_type(&context.headers);
    if resource.custom.is_some() && !ACCEPTED_CUSTOM.contains(&said.as_str()) {
        return Err(ApiError::unsupported_media(ACCEPTED_CUSTOM));
    }
    Ok(())
}

/// What has to be known of an object's `spec` to apply a patch that leaves that and the managed fields alone; none where that may
/// be all of it.
fn needed_of_spec(
    context: &Context,
    resource: &Resource,
    subresource: &str,
    patch: &Patch,
) -> Option<&'static Pick> {
    let is_apart =
        subresource == "status" && patch.leaves_alone("spec") && patch.leaves_entries_alone();
    match is_apart && admission::asks_nobody(&context.server) {
        true => resource.needed_for_status(),
        false => None,
    }
}

pub(crate) async fn patch(
    context: &Context,
    resource: &Resource,
    subresource: &'static str,
    body: Bytes,
) -> ApiResult<Response> {
    if is_apply(context) {
        return apply::apply(context, resource, subresource, &body).await;
    }
    let dry_run = context.dry_run("PatchOptions", None)?;
    check_type(context, resource)?;
    let mut patch = Patch::read(&context.headers, &body)?;
    let manager = manager(context)?;
    let validation = decode::field_validation(context, "PatchOptions")?;
    patch.check_operations(validation)?;
    let expected = Expected::of(resource);
    let needed = needed_of_spec(context, resource, subresource, &patch);
    let trees = &context.server.trees;
    let (namespace, name) = update::place(context, resource);
    let key = resources::storage_key(resource, namespace, name);
    let mut make = |old: &Object, _: &Versions<'_>| -> ApiResult<Object> {
        let copy = || match needed {
            Some(_) => trees.copy_part(old).into_value(),
            None => trees.copy(&key, old).into_value(),
        };
        let patched = patch.apply(expected, old.value(), copy)?;
        let patched = (patched, old.value());
        let mut object = decode::patched(context, expected, patched, validation, &patch)?;
        crate::verbs::create::settle_namespace(context, resource, &mut object)?;
        update::check_name(context, &object)?;
        Ok(object)
    };
    let owner = Owner::Manager(&manager, subresource);
    let door = update::Door::new(context, resource, subresource, dry_run, owner);
    let outcome = update::apply_around_spec(door, &mut make, needed).await?;
    Ok(context.respond_outcome(StatusCode::OK, resource, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_of_operations_is_said_in_the_words_of_go() {
        let said = |patch: &str| operation_problems(&Bytes::from(patch.to_owned())).1;
        for fine in [
            "null",
            "[]",
            "[null]",
            r#"[{"op": "add", "path": null, "value": 1}]"#,
            "{",
        ] {
            assert_eq!(said(fine), None, "{fine}");
        }
        for (patch, text) in [
            ("{}", "object into Go value of type []handlers.jsonPatchOp"),
            (
                "[{}, 1]",
                "number into Go value of type handlers.jsonPatchOp",
            ),
            (
                r#"[{"op": "add", "path": 1}]"#,
                "number into Go struct field jsonPatchOp.path of type string",
            ),
        ] {
            assert_eq!(said(patch).as_deref(), Some(text), "{patch}");
        }
    }

    /// What is read again is what was read, for the object and for who is told of the patch.
    #[test]
    fn a_patch_is_applied_as_often_as_it_has_to_be() {
        let pod = Expected {
            group: "",
            version: "v1",
            kind: "Pod",
            custom: None,
        };
        let old = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}, "status": {"phase": "Running"}});
        for (form, body) in [
            (
                MERGE_PATCH,
                r#"{"z": {"y": null, "a": 1.50}, "metadata": {"labels": {"a": null, "c": "\u00fc"}}, "z": {}}"#,
            ),
            (
                STRATEGIC_PATCH,
                r#"{"status": {"phase": "Failed"}, "spec": {"containers": [{"image": "j", "name": "c"}]}}"#,
            ),
            (JSON_PATCH, r#"[{"op": "remove", "path": "/spec"}]"#),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CONTENT_TYPE, form.parse().unwrap());
            let mut patch = Patch::read(&headers, &Bytes::from(body)).unwrap();
            let shown = patch.to_string();
            let first = patch.apply(pod, &old, || old.clone()).unwrap();
            assert_eq!(patch.apply(pod, &old, || old.clone()).unwrap(), first);
            assert_ne!(first, old);
            assert_eq!(patch.to_string(), shown);
        }
    }
}
