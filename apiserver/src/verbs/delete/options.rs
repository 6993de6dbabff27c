//! What a client says about a deletion, in the body or in the query.

use bytes::Bytes;
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::Value;

use crate::context::{Context, dry_run_of, is_dry_run};
use crate::decode::Expected;
use crate::negotiate::{self, BodyFormat};
use crate::request::Query;
use crate::status::{ApiError, ApiResult};

/// What a client says about a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    /// The deprecated boolean was used; it changes the status code.
    pub(super) orphan_dependents: Option<bool>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl DeleteOptions {
    /// From the body, or from the query where there is none: Kubernetes reads one of both.
    pub(crate) fn read(context: &Context, body: &Bytes) -> ApiResult<DeleteOptions> {
        let value = if body.is_empty() {
            from_query(&context.query)?
        } else {
            parse_body(context, body)?
        };
        let dry_run = is_dry_run("DeleteOptions", dry_run_of(&value))?;
        DeleteOptions::from_value(Some(&value), dry_run)
    }

    /// Narrows the deletion to this very object, and with `state` to this very state of it.
    pub(crate) fn pin(&mut self, object: &Object, state: bool) {
        self.uid = Some(object.uid().to_owned());
        if state {
            self.resource_version = Some(object.resource_version().to_owned());
        }
    }

    /// What admission webhooks see of it.
    pub(super) fn to_value(&self) -> Value {
        let mut options = serde_json::Map::new();
        if let Some(seconds) = self.grace_period_seconds {
            options.insert("gracePeriodSeconds".to_owned(), seconds.into());
        }
        match (self.orphan_dependents, self.propagation) {
            (Some(orphan), _) => {
                options.insert("orphanDependents".to_owned(), orphan.into());
            }
            (None, Some(policy)) => {
                options.insert("propagationPolicy".to_owned(), format!("{policy:?}").into());
            }
            (None, None) => {}
        }
        let mut preconditions = serde_json::Map::new();
        for (field, wanted) in [
            ("uid", &self.uid),
            ("resourceVersion", &self.resource_version),
        ] {
            if let Some(wanted) = wanted {
                preconditions.insert(field.to_owned(), wanted.as_str().into());
            }
        }
        if !preconditions.is_empty() {
            options.insert("preconditions".to_owned(), Value::Object(preconditions));
        }
        Value::Object(options)
    }

    /// From the JSON of a `DeleteOptions`.
    pub(crate) fn from_value(value: Option<&Value>, dry_run: bool) -> ApiResult<DeleteOptions> {
        let empty = Value::Object(serde_json::Map::new());
        let value = value.unwrap_or(&empty);
        let refuse =
            |error: FieldError| ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &[error]);
        let grace_period_seconds = grace_period_seconds(value)?;
        let text = |path: &str| {
            value
                .pointer(path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let path = Path::new("propagationPolicy");
        let policy = text("/propagationPolicy");
        let propagation = match policy.as_deref() {
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                return Err(refuse(FieldError::not_supported(
                    &path,
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                )));
            }
        };
        let orphan_dependents = value.get("orphanDependents").and_then(Value::as_bool);
        if propagation.is_some() && orphan_dependents.is_some() {
            let text = "orphanDependents and deletionPropagation cannot be both set";
            let policy = policy.unwrap_or_default();
            return Err(refuse(FieldError::invalid(&path, policy, text)));
        }
        let by_flag = orphan_dependents.map(|orphan| {
            if orphan {
                Propagation::Orphan
            } else {
                Propagation::Background
            }
        });
        Ok(DeleteOptions {
            grace_period_seconds,
            propagation: propagation.or(by_flag),
            orphan_dependents,
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run,
        })
    }
}

fn grace_period_seconds(value: &Value) -> ApiResult<Option<i64>> {
    let seconds = value.get("gracePeriodSeconds");
    let Some(seconds) = seconds.filter(|seconds| !seconds.is_null()) else {
        return Ok(None);
    };
    seconds.as_i64().map(Some).ok_or_else(|| {
        ApiError::bad_request(format!(
            "json: cannot unmarshal {} into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
            schema::object::kind_of(seconds)
        ))
    })
}

/// The options that a query has, in the form of a body. The version of a collection's list is one that its objects have to
/// have, too, as in Kubernetes.
fn from_query(query: &Query) -> ApiResult<Value> {
    let mut options = serde_json::Map::new();
    if let Some(seconds) = crate::read_version::number(query, "gracePeriodSeconds")? {
        options.insert("gracePeriodSeconds".to_owned(), seconds.into());
    }
    if let Some(policy) = query.get("propagationPolicy") {
        options.insert("propagationPolicy".to_owned(), policy.into());
    }
    if query.get("orphanDependents").is_some() {
        let orphan = query.flag("orphanDependents");
        options.insert("orphanDependents".to_owned(), orphan.into());
    }
    let dry_run: Vec<Value> = query.all("dryRun").map(Value::from).collect();
    if !dry_run.is_empty() {
        options.insert("dryRun".to_owned(), dry_run.into());
    }
    let mut preconditions = serde_json::Map::new();
    for field in ["uid", "resourceVersion"] {
        if let Some(wanted) = query.get(field).filter(|wanted| !wanted.is_empty()) {
            preconditions.insert(field.to_owned(), wanted.into());
        }
    }
    if !preconditions.is_empty() {
        options.insert("preconditions".to_owned(), preconditions.into());
    }
    Ok(Value::Object(options))
}

/// A body, which is not empty, as a `DeleteOptions` whose fields are of their types.
fn parse_body(context: &Context, body: &Bytes) -> ApiResult<Value> {
    let expected = Expected {
        group: "",
        version: "v1",
        kind: "DeleteOptions",
        custom: None,
    };
    let refuse = |error: &dyn std::fmt::Display| {
        ApiError::bad_request(format!(
            "unable to decode the body into {}: {error}",
            expected.kind
        ))
    };
    let ignore = schema::decode::FieldValidation::Ignore;
    let value = match negotiate::body_format(&context.headers)? {
        BodyFormat::Json => {
            schema::decode::json(None, body, ignore)
                .map_err(|error| refuse(&error))?
                .value
        }
        BodyFormat::Yaml => {
            schema::decode::yaml(None, body, ignore)
                .map_err(|error| refuse(&error))?
                .value
        }
        BodyFormat::Protobuf => schema::protobuf::decode(body).map_err(|error| refuse(&error))?,
    };
    match value.get("kind").and_then(Value::as_str) {
        None | Some("" | "DeleteOptions") if value.is_object() => {
            let ty = schema::type_of(expected.group, expected.version, expected.kind);
            let typed = schema::decode::value(ty, value, ignore);
            Ok(typed
                .map_err(|error| ApiError::bad_request(error.to_string()))?
                .value)
        }
        // Some clients write their lack of options so, and Kubernetes takes it.
        None if value.is_null() => Ok(Value::Object(serde_json::Map::new())),
        _ => Err(refuse(&"the object provided is not DeleteOptions")),
    }
}
