//! The one error of API calls: what the server's `Status` said, or why there was no answer.

use serde_json::Value;
use std::time::Duration;

/// Nobody is asked to stay away for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A refused or failed API call. `code` is 0 when no answer arrived; then `reason` is `Transport`.
#[derive(Clone, Debug, Default, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status, or 0 without an answer.
    pub code: u16,
    /// Machine readable reason of `metav1.Status`, such as `NotFound`.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// `details` of the Status.
    pub details: Option<Value>,
    /// When the server asked to come back.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// No (usable) answer arrived: connection refused, reset, timed out, or not JSON.
    pub fn transport(message: impl Into<String>) -> Self {
        Self {
            code: 0,
            reason: "Transport".into(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// An answer that is not what the API promises.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self {
            code: 0,
            reason: "Malformed".into(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// From an HTTP status and its body, which is normally a `metav1.Status`.
    pub fn from_response(code: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let retry_after = retry_after.map(|after| after.min(RETRY_AFTER_MAX));
        match serde_json::from_slice::<Value>(body) {
            Ok(status) if status.get("kind").and_then(Value::as_str) == Some("Status") => {
                let mut error = Self::from_status(&status);
                error.code = code;
                error.retry_after = retry_after.or(error.retry_after);
                error
            }
            _ => {
                let text = String::from_utf8_lossy(&body[..body.len().min(512)])
                    .trim()
                    .to_owned();
                let message = if text.is_empty() {
                    format!("the server answered with status {code}")
                } else {
                    text
                };
                Self {
                    code,
                    reason: reason_of(code).into(),
                    message,
                    details: None,
                    retry_after,
                }
            }
        }
    }

    /// From a `metav1.Status` object (an error body, or the object of an `ERROR` watch event).
    pub fn from_status(status: &Value) -> Self {
        let text = |key: &str| {
            status
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let code = status
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|c| u16::try_from(c).ok())
            .unwrap_or(500);
        let seconds = status
            .pointer("/details/retryAfterSeconds")
            .and_then(Value::as_u64)
            .filter(|s| *s > 0);
        Self {
            code,
            reason: text("reason"),
            message: text("message"),
            details: status.get("details").cloned(),
            retry_after: seconds.map(|after| Duration::from_secs(after).min(RETRY_AFTER_MAX)),
        }
    }

    /// The object (or the resource) does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }
    /// Somebody else wrote in between, or a precondition does not hold: also that the object is the one with this uid.
    pub fn is_conflict(&self) -> bool {
        (self.code == 409 && self.reason != "AlreadyExists") || self.is_of_another()
    }
    /// A patch named the uid of an object whose name another one has now, which validation refuses.
    fn is_of_another(&self) -> bool {
        let causes = self
            .details
            .as_ref()
            .and_then(|details| details.get("causes"));
        let mut causes = causes.and_then(Value::as_array).into_iter().flatten();
        self.code == 422 && causes.any(|cause| cause["field"] == "metadata.uid")
    }
    /// A create hit an existing name.
    pub fn is_already_exists(&self) -> bool {
        self.code == 409 && self.reason == "AlreadyExists"
    }
    /// The resource version is compacted; list again.
    pub fn is_gone(&self) -> bool {
        self.code == 410
    }
    /// The object was refused by validation, and is the one that is meant.
    pub fn is_invalid(&self) -> bool {
        self.code == 422 && !self.is_of_another()
    }
    /// RBAC, quota or another admission said no.
    pub fn is_forbidden(&self) -> bool {
        self.code == 403
    }
    /// Without (valid) credentials.
    pub fn is_unauthorized(&self) -> bool {
        self.code == 401
    }
    /// The server asks for patience.
    pub fn is_too_many_requests(&self) -> bool {
        self.code == 429
    }
    /// No answer arrived.
    pub fn is_transport(&self) -> bool {
        self.code == 0
    }
    /// A create in a namespace that is being deleted: retrying is useless.
    pub fn is_namespace_terminating(&self) -> bool {
        self.code == 403
            && (self
                .details
                .as_ref()
                .and_then(|d| d.get("causes"))
                .and_then(Value::as_array)
                .is_some_and(|causes| {
                    causes.iter().any(|c| {
                        c.get("reason").and_then(Value::as_str) == Some("NamespaceTerminating")
                    })
                })
                || self.message.contains("because it is being terminated"))
    }
}

fn reason_of(code: u16) -> &'static str {
    match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        409 => "Conflict",
        410 => "Expired",
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn another_object_of_the_name_is_a_conflict() {
        let refused = |field: &str| {
            ApiError::from_status(&json!({"code": 422, "reason": "Invalid", "message": "m",
                "details": {"causes": [{"field": "spec"}, {"field": field}]}}))
        };
        let other = refused("metadata.uid");
        assert!(other.is_conflict() && !other.is_invalid());
        let wrong = refused("status");
        assert!(!wrong.is_conflict() && wrong.is_invalid());
    }

    #[test]
    fn who_is_asked_to_stay_away_for_ever_comes_back() {
        let seconds = |asked: u64| {
            let status =
                json!({"kind": "Status", "code": 429, "details": {"retryAfterSeconds": asked}});
            let told = ApiError::from_status(&status).retry_after;
            let header = Some(Duration::from_secs(asked));
            let said = ApiError::from_response(429, header, b"").retry_after;
            [told, said].map(|after| after.unwrap().as_secs())
        };
        assert_eq!([seconds(7), seconds(u64::MAX)], [[7, 7], [3600, 3600]]);
    }
}
