//! Every error of the API server becomes a `metav1.Status` here, and only here: Kubernetes' reasons, codes and texts
//! are what clients branch on (`apierrors.IsConflict` and friends), so they stand side by side in one file.

use std::borrow::Cow;

use http::StatusCode;
use schema::field::FieldError;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// The fields of a Status, of its details and of a cause in them, in the order of Kubernetes' types.
const STATUS_FIELDS: &[&str] = &[
    "kind",
    "apiVersion",
    "metadata",
    "status",
    "message",
    "reason",
    "details",
    "code",
];
const DETAILS_FIELDS: &[&str] = &[
    "name",
    "group",
    "kind",
    "uid",
    "causes",
    "retryAfterSeconds",
];
const CAUSE_FIELDS: &[&str] = &["reason", "message", "field"];

/// What a failed request answers. Built by the constructors below; turned into bytes by [`ApiError::to_status`].
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) message: String,
    pub(crate) details: Option<Value>,
    /// Seconds for a `Retry-After` header.
    pub(crate) retry_after: Option<u32>,
    /// Metadata of the Status, used for the fresh continue token of an expired list.
    pub(crate) continue_token: Option<String>,
    /// Whether it is the store that says so: the object that was to be changed is not there. Code and reason do not tell,
    /// for webhooks choose theirs freely.
    pub(crate) is_absence: bool,
    /// Whether a webhook that converts failed: who needs the object in no special version may go on with the stored one.
    pub(crate) is_inconvertible: bool,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// `deployments.apps`, or `pods` for the core group: how Kubernetes names a resource in texts.
pub(crate) fn qualified(group: &str, plural: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

fn qualified_kind(group: &str, kind: &str) -> String {
    if group.is_empty() {
        kind.to_owned()
    } else {
        format!("{kind}.{group}")
    }
}

fn details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = serde_json::Map::new();
    if !name.is_empty() {
        details.insert("name".into(), name.into());
    }
    if !group.is_empty() {
        details.insert("group".into(), group.into());
    }
    if !kind.is_empty() {
        details.insert("kind".into(), kind.into());
    }
    Value::Object(details)
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> ApiError {
        ApiError {
            code,
            reason: Cow::Borrowed(reason),
            message: message.into(),
            details: None,
            retry_after: None,
            continue_token: None,
            is_absence: false,
            is_inconvertible: false,
        }
    }

    fn with_details(mut self, details: Value) -> ApiError {
        self.details = Some(details);
        self
    }

    pub(crate) fn not_found(group: &str, plural: &str, name: &str) -> ApiError {
        ApiError::new(
            404,
            "NotFound",
            format!("{} {} not found", qualified(group, plural), quoted(name)),
        )
        .with_details(details(group, plural, name))
    }

    /// The object that was to be changed is not there.
    pub(crate) fn absent(group: &str, plural: &str, name: &str) -> ApiError {
        ApiError {
            is_absence: true,
            ..ApiError::not_found(group, plural, name)
        }
    }

    /// The path exists but the server has no such thing (unknown subresource, unserved verb target).
    pub(crate) fn no_such_resource() -> ApiError {
        ApiError::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
        .with_details(json!({}))
    }

    pub(crate) fn already_exists(group: &str, plural: &str, name: &str) -> ApiError {
        ApiError::new(
            409,
            "AlreadyExists",
            format!(
                "{} {} already exists",
                qualified(group, plural),
                quoted(name)
            ),
        )
        .with_details(details(group, plural, name))
    }

    /// `generateName` found no free name.
    pub(crate) fn generate_name_exhausted(group: &str, plural: &str, name: &str) -> ApiError {
        let mut error = ApiError::new(
            409,
            "AlreadyExists",
            format!(
                "{} {} already exists, the server was not able to generate a unique name for the object",
                qualified(group, plural),
                quoted(name)
            ),
        )
        .with_details(details(group, plural, name));
        error.retry_after = Some(1);
        error
    }

    /// What would have been done and was not, since too little of what belongs to it can be. Kubernetes has no reason for it.
    pub(crate) fn withheld(message: impl Into<String>) -> ApiError {
        ApiError::new(424, "", message)
    }

    pub(crate) fn conflict(group: &str, plural: &str, name: &str, cause: &str) -> ApiError {
        ApiError::new(
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {} {}: {cause}",
                qualified(group, plural),
                quoted(name)
            ),
        )
        .with_details(details(group, plural, name))
    }

    pub(crate) fn modified(group: &str, plural: &str, name: &str) -> ApiError {
        ApiError::conflict(
            group,
            plural,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// An applied configuration that would change what others own.
    pub(crate) fn apply_conflict(
        message: String,
        conflicts: &[schema::apply::Conflict],
    ) -> ApiError {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|conflict| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {}", conflict.owner),
                    "field": conflict.path
                })
            })
            .collect();
        ApiError::new(409, "Conflict", message).with_details(json!({ "causes": causes }))
    }

    /// What Kubernetes answers to a configuration that does not fit its type: an error without a reason.
    /// No object of the version that was asked for: the webhook that makes it failed. Kubernetes gives no reason either.
    pub(crate) fn not_converted(message: String) -> ApiError {
        let mut error = ApiError::unknown(message);
        error.is_inconvertible = true;
        error
    }

    pub(crate) fn unknown(message: impl Into<String>) -> ApiError {
        ApiError::new(500, "", message)
    }

    pub(crate) fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> ApiError {
        let joined = schema::field::aggregate(errors);
        let mut body = details(group, kind, name);
        body["causes"] = Value::Array(schema::field::causes(errors));
        ApiError::new(
            422,
            "Invalid",
            format!(
                "{} {} is invalid: {joined}",
                qualified_kind(group, kind),
                quoted(name)
            ),
        )
        .with_details(body)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "BadRequest", message)
    }

    /// 422 without a field: `metadata.generateName`-less creates and the like carry causes, this one does not.
    pub(crate) fn unprocessable(message: impl Into<String>) -> ApiError {
        ApiError::new(422, "Invalid", message).with_details(json!({}))
    }

    /// 422 that says nothing but its message.
    pub(crate) fn invalid_text(message: impl Into<String>) -> ApiError {
        ApiError::new(422, "Invalid", message)
    }

    pub(crate) fn unauthorized() -> ApiError {
        ApiError::new(401, "Unauthorized", "Unauthorized")
    }

    pub(crate) fn forbidden(group: &str, plural: &str, name: &str, cause: &str) -> ApiError {
        let target = match (plural.is_empty(), name.is_empty()) {
            (true, _) => "forbidden".to_owned(),
            (false, true) => format!("{} is forbidden", qualified(group, plural)),
            (false, false) => format!("{} {} is forbidden", qualified(group, plural), quoted(name)),
        };
        ApiError::new(403, "Forbidden", format!("{target}: {cause}"))
            .with_details(details(group, plural, name))
    }

    /// A refusal whose whole text the authorizer gave.
    pub(crate) fn forbidden_by(group: &str, plural: &str, name: &str, message: String) -> ApiError {
        ApiError::new(403, "Forbidden", message).with_details(details(group, plural, name))
    }

    /// A refusal whose Status lists a machine-readable cause, as the namespace plugin does.
    pub(crate) fn with_cause(mut self, reason: &str, message: &str, field: &str) -> ApiError {
        let mut cause = json!({ "reason": reason });
        if !message.is_empty() {
            cause["message"] = message.into();
        }
        if !field.is_empty() {
            cause["field"] = field.into();
        }
        let details = self.details.get_or_insert_with(|| json!({}));
        match details.get_mut("causes").and_then(Value::as_array_mut) {
            Some(causes) => causes.push(cause),
            None => details["causes"] = json!([cause]),
        }
        self
    }

    pub(crate) fn method_not_allowed(message: &str) -> ApiError {
        ApiError::new(405, "MethodNotAllowed", message).with_details(json!({}))
    }

    /// A verb, empty where the method is none, that a resource does not have.
    pub(crate) fn method_not_supported(group: &str, plural: &str, verb: &str) -> ApiError {
        let resource = quoted(&qualified(group, plural));
        ApiError::new(
            405,
            "MethodNotAllowed",
            format!("{verb} is not supported on resources of kind {resource}"),
        )
        .with_details(details(group, plural, ""))
    }

    pub(crate) fn not_acceptable(accepted: &[&str]) -> ApiError {
        ApiError::new(
            406,
            "NotAcceptable",
            format!(
                "only the following media types are accepted: {}",
                accepted.join(", ")
            ),
        )
    }

    /// A form that was asked for and that what is shown does not have.
    pub(crate) fn not_acceptable_text(message: impl Into<String>) -> ApiError {
        ApiError::new(406, "NotAcceptable", message)
    }

    /// A kind, as `v1.Table`, that has no form in protobuf.
    pub(crate) fn not_marshalable(kind: &str) -> ApiError {
        ApiError::new(
            406,
            "NotAcceptable",
            format!(
                "object *{kind} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
            ),
        )
    }

    pub(crate) fn unsupported_media(accepted: &[&str]) -> ApiError {
        ApiError::new(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted.join(", ")
            ),
        )
    }

    pub(crate) fn unsupported_media_text(message: impl Into<String>) -> ApiError {
        ApiError::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn too_large(limit_bytes: usize) -> ApiError {
        ApiError::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit_bytes}"),
        )
    }

    pub(crate) fn too_large_text(message: impl Into<String>) -> ApiError {
        ApiError::new(413, "RequestEntityTooLarge", message)
    }

    /// The revision asked for is no longer in the history.
    pub(crate) fn expired(message: impl Into<String>) -> ApiError {
        ApiError::new(410, "Expired", message)
    }

    pub(crate) fn too_old(asked: i64, oldest: i64) -> ApiError {
        ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
    }

    /// A list of a state that is not kept any more.
    pub(crate) fn list_too_old() -> ApiError {
        ApiError::expired("The resourceVersion for the provided list is too old.")
    }

    pub(crate) fn continue_expired(token: Option<String>) -> ApiError {
        let mut error = match &token {
            None => ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
            ),
            Some(_) => ApiError::expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
            ),
        };
        error.continue_token = token;
        error
    }

    /// The revision asked for has not been reached here yet.
    pub(crate) fn revision_too_large(asked: i64, current: i64) -> ApiError {
        let mut error = ApiError::new(504, "Timeout", format!("Timeout: Too large resource version: {asked}, current: {current}"))
            .with_details(json!({
                "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
                "retryAfterSeconds": 1
            }));
        error.retry_after = Some(1);
        error
    }

    pub(crate) fn timeout(message: &str) -> ApiError {
        ApiError::new(504, "Timeout", format!("Timeout: {message}")).with_details(json!({}))
    }

    pub(crate) fn internal(message: impl std::fmt::Display) -> ApiError {
        ApiError::new(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
        )
        .with_details(json!({ "causes": [{ "message": message.to_string() }] }))
    }

    /// What Kubernetes answers to a list of which one object cannot be decrypted.
    pub(crate) fn unreadable_in_list(key: &str, why: &str) -> ApiError {
        ApiError::internal(format!("unable to transform key {}: {why}", quoted(key)))
    }

    /// 0 seconds say nothing of when to ask again.
    pub(crate) fn too_many_requests(message: impl Into<String>, seconds: u32) -> ApiError {
        let error = ApiError::new(429, "TooManyRequests", message);
        if seconds == 0 {
            return error.with_details(json!({}));
        }
        ApiError {
            retry_after: Some(seconds),
            ..error.with_details(json!({ "retryAfterSeconds": seconds }))
        }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> ApiError {
        let mut error = ApiError::new(503, "ServiceUnavailable", message)
            .with_details(json!({ "retryAfterSeconds": 1 }));
        error.retry_after = Some(1);
        error
    }

    /// A backend that cannot be reached, or is not there. Without `Retry-After`: its owner has to act first.
    pub(crate) fn unreachable(message: impl Into<String>) -> ApiError {
        ApiError::new(503, "ServiceUnavailable", message)
    }

    /// A write that may or may not have happened. Without `Retry-After`, on which client libraries would repeat it.
    pub(crate) fn fate_unknown(error: kv::StoreError) -> ApiError {
        match error {
            kv::StoreError::TimedOut => error.into(),
            error => ApiError::internal(error),
        }
    }

    /// A refusal that the node agent gave, passed on with its own code.
    pub(crate) fn from_node(code: u16, message: String) -> ApiError {
        match code {
            400 => ApiError::bad_request(message),
            404 => ApiError::new(404, "NotFound", message).with_details(json!({})),
            _ => ApiError::internal(message),
        }
    }

    /// A refusal with the code, reason and details that an admission webhook chose.
    pub(crate) fn by_webhook(
        code: u16,
        reason: &str,
        message: String,
        details: Option<Value>,
    ) -> ApiError {
        let mut error = ApiError::new(code, "", message);
        error.reason = Cow::Owned(reason.to_owned());
        let seconds = details
            .as_ref()
            .and_then(|details| details.get("retryAfterSeconds"));
        let seconds = seconds
            .and_then(Value::as_u64)
            .filter(|&seconds| seconds > 0);
        error.retry_after = seconds.and_then(|seconds| u32::try_from(seconds).ok());
        error.details = details;
        error
    }

    pub(crate) fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body of the answer.
    pub(crate) fn to_status(&self) -> Value {
        let mut metadata = serde_json::Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), token.as_str().into());
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata,
            "status": "Failure", "message": self.message, "code": self.code
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.as_ref().into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }
}

/// The Status of a deletion that removed the object.
pub(crate) fn success_deleted(group: &str, plural: &str, name: &str, uid: &str) -> Value {
    let mut body = details(group, plural, name);
    body["uid"] = uid.into();
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": body })
}

/// The Status of a creating subresource that has nothing to show (binding, eviction).
pub(crate) fn success_created() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 })
}

impl From<kv::StoreError> for ApiError {
    fn from(error: kv::StoreError) -> ApiError {
        use kv::{Refusal, StoreError};
        match error {
            StoreError::Refused(Refusal::Compacted { .. }) => ApiError::list_too_old(),
            StoreError::Refused(Refusal::TooLarge) => ApiError::new(
                413,
                "RequestEntityTooLarge",
                "etcdserver: request is too large",
            ),
            StoreError::Refused(refusal) => ApiError::internal(refusal),
            StoreError::Unreadable(_) | StoreError::AnswerTooLarge => ApiError::internal(error),
            StoreError::Overloaded => {
                ApiError::too_many_requests("etcdserver: too many requests", 1)
            }
            StoreError::TimedOut => {
                ApiError::timeout("request did not complete within the allotted timeout")
            }
            StoreError::NoLeader | StoreError::LeaderChanged | StoreError::Stopped => {
                ApiError::unavailable(error.to_string())
            }
        }
    }
}

/// A Status that is written with its fields in Kubernetes' order: people read it. None for anything else.
pub(crate) fn in_order(value: &Value) -> Option<InOrder<'_>> {
    let is = |field: &str, text: &str| value.get(field).and_then(Value::as_str) == Some(text);
    (is("kind", "Status") && is("apiVersion", "v1")).then_some(InOrder {
        value,
        fields: STATUS_FIELDS,
    })
}

/// A value whose known fields come first, in their order. The others follow as they are.
pub(crate) struct InOrder<'a> {
    value: &'a Value,
    fields: &'static [&'static str],
}

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let map = match self.value {
            Value::Object(map) => map,
            Value::Array(items) => {
                let fields = self.fields;
                return serializer.collect_seq(items.iter().map(|value| InOrder { value, fields }));
            }
            other => return other.serialize(serializer),
        };
        let known = self.fields.iter().copied();
        let known = known.filter_map(|name| map.get(name).map(|value| (name, value)));
        let others = map.iter().map(|(name, value)| (name.as_str(), value));
        let others = others.filter(|(name, _)| !self.fields.contains(name));
        serializer.collect_map(known.chain(others).map(|(name, value)| {
            let fields: &'static [&'static str] = match name {
                "details" => DETAILS_FIELDS,
                "causes" => CAUSE_FIELDS,
                _ => &[],
            };
            (name, InOrder { value, fields })
        }))
    }
}

/// Go's `%q` for names: what Kubernetes prints around them.
pub(crate) fn quoted(text: &str) -> String {
    schema::field::go_quote(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_kubernetes() {
        assert_eq!(
            ApiError::modified("apps", "deployments", "x").message,
            "Operation cannot be fulfilled on deployments.apps \"x\": the object has been modified; please apply your changes to the latest version and try again"
        );
        assert_eq!(
            ApiError::not_found("", "pods", "a").message,
            "pods \"a\" not found"
        );
        assert_eq!(
            ApiError::not_found("", "pods", "a").to_status()["details"],
            json!({"name": "a", "kind": "pods"})
        );
        assert_eq!(
            ApiError::forbidden("apps", "deployments", "", "User \"a\" cannot list").message,
            "deployments.apps is forbidden: User \"a\" cannot list"
        );
        assert_eq!(
            ApiError::revision_too_large(9, 3).to_status()["details"]["causes"][0]["reason"],
            "ResourceVersionTooLarge"
        );
        assert_eq!(ApiError::too_old(1, 5).code, 410);
    }

    #[test]
    fn a_status_is_written_in_the_order_of_its_type() {
        let error = FieldError::invalid(&schema::field::Path::new("a"), "x", "no");
        let status = ApiError::invalid("apps", "Deployment", "d", &[error]).to_status();
        assert_eq!(
            serde_json::to_string(&in_order(&status).unwrap()).unwrap(),
            concat!(
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
                r#""message":"Deployment.apps \"d\" is invalid: a: Invalid value: \"x\": no","reason":"Invalid","#,
                r#""details":{"name":"d","group":"apps","kind":"Deployment","causes":["#,
                r#"{"reason":"FieldValueInvalid","message":"Invalid value: \"x\": no","field":"a"}]},"code":422}"#
            )
        );
        let odd = json!({"zone": 1, "apiVersion": "v1", "kind": "Status", "details": "none"});
        assert_eq!(
            serde_json::to_string(&in_order(&odd).unwrap()).unwrap(),
            r#"{"kind":"Status","apiVersion":"v1","details":"none","zone":1}"#
        );
        for other in [
            json!({"apiVersion": "v1", "kind": "Pod", "status": {}}),
            json!({"apiVersion": "example.com/v1", "kind": "Status"}),
            json!([]),
        ] {
            assert!(in_order(&other).is_none(), "{other}");
        }
    }
}
