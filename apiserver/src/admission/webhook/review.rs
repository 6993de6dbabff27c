//! The AdmissionReview that a webhook gets, and what its answer says. Pure.

use auth::User;
use base64::{DecodeError, Engine};
use http::StatusCode;
use resources::Resource;
use schema::decode::FieldValidation;
use schema::structural::Schema;
use serde_json::{Map, Value, json};

use crate::admission::Operation;
use crate::outgoing;
use crate::status::{ApiError, quoted};

/// Everything that a review tells.
pub(crate) struct Request<'a> {
    pub(crate) uid: &'a str,
    /// In which shape the objects are sent.
    pub(crate) resource: &'a Resource,
    /// What the client asked for.
    pub(crate) requested: &'a Resource,
    pub(crate) subresource: &'a str,
    /// (group, version, kind) of what a subresource carries; none where it is the resource's.
    pub(crate) kind: Option<(&'a str, &'a str, &'a str)>,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) operation: Operation,
    pub(crate) user: &'a User,
    pub(crate) object: Option<&'a Value>,
    pub(crate) old: Option<&'a Value>,
    pub(crate) dry_run: bool,
    pub(crate) options: &'a Value,
}

impl Request<'_> {
    /// The review as JSON, in this version of admission.k8s.io.
    pub(crate) fn to_json(&self, version: &str) -> Value {
        let gvk = |of: &Resource| match self.kind {
            Some((group, version, kind)) => {
                json!({ "group": group, "version": version, "kind": kind })
            }
            None => json!({ "group": of.group, "version": of.version, "kind": of.kind }),
        };
        let gvr = |of: &Resource| json!({ "group": of.group, "version": of.version, "resource": of.plural });
        // By json! a tree in another one would be copied as a whole, as often as it is in one.
        let mut request = Map::new();
        let mut put = |field: &str, value: Value| request.insert(field.to_owned(), value);
        put("uid", self.uid.into());
        put("kind", gvk(self.resource));
        put("resource", gvr(self.resource));
        put("requestKind", gvk(self.requested));
        put("requestResource", gvr(self.requested));
        put("operation", self.operation.as_str().into());
        put("userInfo", self.user.to_user_info());
        put("object", self.object.cloned().unwrap_or_default());
        put("oldObject", self.old.cloned().unwrap_or_default());
        put("dryRun", self.dry_run.into());
        put("options", self.options.clone());
        for (field, text) in [
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
            ("name", self.name),
            ("namespace", self.namespace),
        ] {
            if !text.is_empty() {
                put(field, text.into());
            }
        }
        let mut review = json!({
            "kind": "AdmissionReview",
            "apiVersion": format!("admission.k8s.io/{version}"),
        });
        review["request"] = Value::Object(request);
        review
    }
}

/// What a webhook answered.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    /// The Status that it gave with a refusal.
    result: Value,
    /// A JSON patch.
    pub(crate) patch: Vec<u8>,
    pub(crate) patch_type: String,
    pub(crate) warnings: Vec<String>,
    /// For the audit log, under the webhook's name.
    pub(crate) annotations: Vec<(String, String)>,
}

/// Reads an answer to a review of this `version`. The error is the reason why it is none, in Kubernetes' words.
pub(crate) fn read(
    status: StatusCode,
    body: &[u8],
    (uid, version): (&str, &str),
    mutating: bool,
) -> Result<Verdict, String> {
    if !status.is_success() {
        return Err(format!(
            "failed to call webhook: {}",
            outgoing::unexpected(status.as_u16(), body)
        ));
    }
    let decoded = schema::decode::json(Schema::Any, body, FieldValidation::Ignore);
    let decoded = decoded.map_err(|error| {
        format!("failed to call webhook: couldn't get version/kind; json parse error: {error}")
    })?;
    let review = decoded.value;
    let told = |field: &str| {
        review
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let call = |reason: String| format!("failed to call webhook: {reason}");
    if !review.is_object() {
        let kind = schema::object::kind_of(&review);
        return Err(call(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {kind} into Go value of type {GO_TYPE}"
        )));
    }
    // What is not said is what was asked for.
    let other = match (told("apiVersion"), told("kind")) {
        ("admission.k8s.io/v1", "AdmissionReview" | "") => "v1",
        ("admission.k8s.io/v1beta1", "AdmissionReview" | "") => "v1beta1",
        ("", "AdmissionReview" | "") => version,
        (api_version, kind) => {
            let asked = format!("admission.k8s.io/{version}");
            let or = |told: &str, default: &str| match told {
                "" => quoted(default),
                told => quoted(told),
            };
            return Err(call(format!(
                "no kind {} is registered for version {} in scheme \"k8s.io/apiserver/pkg/util/webhook/client.go:71\"",
                or(kind, "AdmissionReview"),
                or(api_version, &asked)
            )));
        }
    };
    if other != version && told("kind") == "AdmissionReview" {
        return Err(call(format!(
            "converting ({other}.AdmissionReview) to ({version}.AdmissionReview): unknown conversion"
        )));
    }
    let response = review.get("response").unwrap_or(&Value::Null);
    if let Some(reason) = mistyped(response) {
        return Err(call(reason));
    }
    let patch = patch_of(response).map_err(call)?;
    verify(&review, patch, (uid, version), mutating)
        .map_err(|reason| format!("received invalid webhook response: {reason}"))
}

/// What Go reads the head of an answer into.
const GO_TYPE: &str = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

/// Go's text about a field of the response that is not of its type: such an answer says nothing.
fn mistyped(response: &Value) -> Option<String> {
    let warnings = response.get("warnings").and_then(Value::as_array);
    let fields = [
        ("uid", "types.UID", response["uid"].is_string()),
        ("allowed", "bool", response["allowed"].is_boolean()),
        (
            "patchType",
            "v1.PatchType",
            response["patchType"].is_string(),
        ),
        ("warnings", "[]string", warnings.is_some()),
        (
            "auditAnnotations",
            "map[string]string",
            response["auditAnnotations"].is_object(),
        ),
    ];
    let wrong = fields
        .into_iter()
        .find(|(field, _, fits)| !fits && !response[*field].is_null());
    wrong.map(|(field, go, _)| {
        let kind = schema::object::kind_of(&response[field]);
        format!(
            "json: cannot unmarshal {kind} into Go struct field AdmissionResponse.response.{field} of type {go}"
        )
    })
}

/// The patch, which is in base64; Go passes over the ends of its lines.
fn patch_of(response: &Value) -> Result<Vec<u8>, String> {
    let text = response.get("patch").and_then(Value::as_str);
    let text = text.unwrap_or_default().replace(['\r', '\n'], "");
    let decoded = base64::engine::general_purpose::STANDARD.decode(&text);
    decoded.map_err(|error| {
        let at = match error {
            DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
            _ => text.len(),
        };
        format!("illegal base64 data at input byte {at}")
    })
}

fn verify(
    review: &Value,
    patch: Vec<u8>,
    (uid, version): (&str, &str),
    mutating: bool,
) -> Result<Verdict, String> {
    let text = |value: &Value, field: &str| {
        let text = value.get(field).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let Some(response) = review.get("response").filter(|one| one.is_object()) else {
        return Err("webhook response was absent".to_owned());
    };
    let (api_version, kind) = (text(review, "apiVersion"), text(review, "kind"));
    // The old version was never checked.
    let is_beta = version == "v1beta1";
    let patch_type = response.get("patchType").filter(|one| !one.is_null());
    if !is_beta {
        let echoed = text(response, "uid");
        if echoed != uid {
            return Err(format!(
                "expected response.uid={}, got {}",
                quoted(uid),
                quoted(&echoed)
            ));
        }
        if api_version != "admission.k8s.io/v1" || kind != "AdmissionReview" {
            let version = if api_version.contains('/') || api_version.is_empty() {
                api_version
            } else {
                format!("/{api_version}")
            };
            let version = if version.is_empty() { "/" } else { &version };
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {version}, Kind={kind}"
            ));
        }
        match (mutating, patch.is_empty(), patch_type) {
            (true, false, None) => {
                return Err("webhook returned response.patch but not response.patchType".to_owned());
            }
            (true, true, Some(_)) => {
                return Err("webhook returned response.patchType but not response.patch".to_owned());
            }
            (true, false, Some(kind)) if kind.as_str().is_none_or(str::is_empty) => {
                return Err("webhook returned invalid response.patchType of \"\"".to_owned());
            }
            (false, false, _) => {
                return Err("validating webhook may not return response.patch".to_owned());
            }
            (false, _, Some(_)) => {
                return Err("validating webhook may not return response.patchType".to_owned());
            }
            _ => {}
        }
    }
    let patch_type = patch_type.and_then(Value::as_str);
    let warnings = response.get("warnings").and_then(Value::as_array);
    let annotations = response.get("auditAnnotations").and_then(Value::as_object);
    Ok(Verdict {
        allowed: response.get("allowed").and_then(Value::as_bool) == Some(true),
        result: response.get("status").cloned().unwrap_or_default(),
        // The old version knows one type only.
        patch_type: patch_type
            .unwrap_or(if is_beta { "JSONPatch" } else { "" })
            .to_owned(),
        patch,
        warnings: warnings
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        annotations: annotations
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    })
}

impl Verdict {
    /// The refusal as the client gets it: the webhook's code, reason and details, under its name.
    pub(crate) fn refusal(&self, webhook: &str) -> ApiError {
        let text = |field: &str| {
            let text = self.result.get(field).and_then(Value::as_str);
            text.unwrap_or_default()
        };
        let head = format!("admission webhook {} denied the request", quoted(webhook));
        let message = match (text("message"), text("reason")) {
            ("", "") => format!("{head} without explanation"),
            ("", reason) => format!("{head}: {reason}"),
            (message, _) => format!("{head}: {message}"),
        };
        let code = self.result.get("code").and_then(Value::as_u64);
        let code = code.and_then(|code| u16::try_from(code).ok());
        let code = code
            .filter(|code| (400..1_000).contains(code))
            .unwrap_or(400);
        let details = self.result.get("details").filter(|one| one.is_object());
        ApiError::by_webhook(code, text("reason"), message, details.cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Vec<u8> {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        review.to_string().into_bytes()
    }

    fn read_ok(response: Value, mutating: bool) -> Result<Verdict, String> {
        read(StatusCode::OK, &answer(response), ("u", "v1"), mutating)
    }

    #[test]
    fn answers_that_are_none() {
        for (response, mutating, reason) in [
            (json!(null), false, "webhook response was absent"),
            (
                json!({"uid": "x"}),
                false,
                "expected response.uid=\"u\", got \"x\"",
            ),
            (
                json!({"uid": "u", "patch": "W10="}),
                false,
                "validating webhook may not return response.patch",
            ),
            (
                json!({"uid": "u", "patchType": "JSONPatch"}),
                false,
                "validating webhook may not return response.patchType",
            ),
            (
                json!({"uid": "u", "patch": "W10="}),
                true,
                "webhook returned response.patch but not response.patchType",
            ),
            (
                json!({"uid": "u", "patchType": "JSONPatch"}),
                true,
                "webhook returned response.patchType but not response.patch",
            ),
            (
                json!({"uid": "u", "patch": "W10=", "patchType": ""}),
                true,
                "webhook returned invalid response.patchType of \"\"",
            ),
        ] {
            assert_eq!(
                read_ok(response, mutating).unwrap_err(),
                format!("received invalid webhook response: {reason}")
            );
        }
        let strange = json!({"response": {"uid": "u"}}).to_string();
        assert_eq!(
            read(StatusCode::OK, strange.as_bytes(), ("u", "v1"), false).unwrap_err(),
            "received invalid webhook response: expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="
        );
        assert_eq!(
            read(StatusCode::OK, b"<html>", ("u", "v1"), false).unwrap_err(),
            "failed to call webhook: couldn't get version/kind; json parse error: invalid character '<' looking for beginning of value"
        );
        assert_eq!(
            read(
                StatusCode::NOT_FOUND,
                b"404 page not found",
                ("u", "v1"),
                false
            )
            .unwrap_err(),
            "failed to call webhook: the server could not find the requested resource"
        );
        assert_eq!(
            read(
                StatusCode::INTERNAL_SERVER_ERROR,
                b"oh\n",
                ("u", "v1"),
                false
            )
            .unwrap_err(),
            "failed to call webhook: an error on the server (\"oh\") has prevented the request from succeeding"
        );
    }

    #[test]
    fn a_patch_may_be_broken_into_lines() {
        let response = json!({"patch": "W3sib3Ai\r\nOiAiYSJ9\nXQ==\n"});
        assert_eq!(patch_of(&response).unwrap(), br#"[{"op": "a"}]"#);
    }

    #[test]
    fn answers_that_go_could_not_read_are_failed_calls() {
        let failed = |body: &str| {
            let read = read(StatusCode::OK, body.as_bytes(), ("u", "v1"), true);
            let text = read.unwrap_err();
            let reason = text.strip_prefix("failed to call webhook: ");
            reason.unwrap_or(&text).to_owned()
        };
        let of = |response: &Value| failed(&String::from_utf8(answer(response.clone())).unwrap());
        let head = "json: cannot unmarshal";
        let field = "into Go struct field AdmissionResponse.response";
        assert_eq!(
            of(&json!({"uid": "u", "allowed": "yes"})),
            format!("{head} string {field}.allowed of type bool")
        );
        assert_eq!(
            of(&json!({"uid": 1, "allowed": true})),
            format!("{head} number {field}.uid of type types.UID")
        );
        assert_eq!(
            of(&json!({"uid": "other", "patch": "AA!=", "patchType": "JSONPatch"})),
            "illegal base64 data at input byte 2"
        );
        assert_eq!(
            failed("[]"),
            format!(
                "couldn't get version/kind; json parse error: {head} array into Go value of type {GO_TYPE}"
            )
        );
        let scheme = "in scheme \"k8s.io/apiserver/pkg/util/webhook/client.go:71\"";
        for (api_version, kind) in [("v1", "Pod"), ("admission.k8s.io/v2", "AdmissionReview")] {
            let body = json!({"apiVersion": api_version, "kind": kind}).to_string();
            assert_eq!(
                failed(&body),
                format!("no kind \"{kind}\" is registered for version \"{api_version}\" {scheme}")
            );
        }
    }

    #[test]
    fn refusals_carry_what_the_webhook_said() {
        let refused = |status: Value| {
            let verdict = read_ok(
                json!({"uid": "u", "allowed": false, "status": status}),
                false,
            );
            let error = verdict.unwrap().refusal("hook.example.com");
            (error.code, error.reason.to_string(), error.message)
        };
        let head = "admission webhook \"hook.example.com\" denied the request";
        assert_eq!(
            refused(json!(null)),
            (400, String::new(), format!("{head} without explanation"))
        );
        assert_eq!(
            refused(json!({"message": "no", "code": 403, "reason": "Forbidden"})),
            (403, "Forbidden".to_owned(), format!("{head}: no"))
        );
        assert_eq!(
            refused(json!({"reason": "too green", "code": 200})),
            (400, "too green".to_owned(), format!("{head}: too green"))
        );
        assert_eq!(refused(json!({"code": 700})).0, 700);
        let later = json!({"code": 429, "details": {"retryAfterSeconds": 3}});
        let later = json!({"uid": "u", "allowed": false, "status": later});
        let later = read_ok(later, false).unwrap().refusal("hook.example.com");
        assert_eq!(later.retry_after, Some(3));
    }

    #[test]
    fn the_old_version_of_the_review_is_read_as_it_was() {
        let review = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview",
            "response": {"allowed": true, "patch": "W10="}});
        let review = review.to_string();
        let read = |version: &str| read(StatusCode::OK, review.as_bytes(), ("u", version), true);
        assert_eq!(
            read("v1").unwrap_err(),
            "failed to call webhook: converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion"
        );
        let verdict = read("v1beta1").unwrap();
        assert!(verdict.allowed);
        assert_eq!(
            (verdict.patch.as_slice(), verdict.patch_type.as_str()),
            (&b"[]"[..], "JSONPatch")
        );
    }
}
