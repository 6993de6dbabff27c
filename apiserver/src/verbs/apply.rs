//! Server-side apply: PATCH with a configuration. Unlike the other patches it creates what is not there, and it is
//! refused where it would change what other managers own.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use kv::mutants::{Bug, planted};
use resources::Resource;
use schema::Object;
use schema::decode::FieldValidation;
use schema::field::{FieldError, Path};
use serde_json::{Value, json};

use crate::context::Context;
use crate::decode::{self, Expected};
use crate::managed::{self, Owner, Versions};
use crate::status::{ApiError, ApiResult};
use crate::verbs::{create, update};

/// How often the object may come and go while it is applied.
const ATTEMPTS_MAX: usize = 5;

/// What a client applies.
pub(crate) struct Configuration {
    pub(crate) value: Value,
    manager: String,
    /// Takes fields over from other managers.
    force: bool,
}

impl Configuration {
    /// Reads the query and the body, which is YAML or JSON.
    pub(crate) fn read(
        context: &Context,
        expected: Expected<'_>,
        body: &Bytes,
    ) -> ApiResult<Configuration> {
        let manager = manager(context)?;
        let validation = decode::field_validation(context, "PatchOptions")?;
        let decoded = schema::decode::yaml(None, body, FieldValidation::Warn)
            .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
        let value = &decoded.value;
        // No document at all is an object of no kind.
        if !value.is_object() && !value.is_null() {
            return Err(ApiError::bad_request(format!(
                "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                schema::object::kind_of(value)
            )));
        }
        if validation == FieldValidation::Strict && !decoded.problems.is_empty() {
            return Err(ApiError::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: {}",
                decoded.strict_text()
            )));
        }
        if validation == FieldValidation::Warn {
            for problem in decoded.problems {
                context.warn(problem);
            }
        }
        let mut value = decoded.value;
        if expected.custom.is_some() {
            schema::decode::settle_numbers(&mut value);
        }
        check_kind(expected, &value)?;
        let entries = value.pointer("/metadata/managedFields");
        if entries.is_some_and(|entries| !entries.is_null()) {
            return Err(ApiError::bad_request("metadata.managedFields must be nil"));
        }
        Ok(Configuration {
            value,
            manager,
            force: context.query.flag("force") || planted(Bug::AppliesByForce),
        })
    }

    /// The same manager with another configuration.
    pub(crate) fn of(self, value: Value) -> Configuration {
        Configuration { value, ..self }
    }

    /// Whether the configuration fits the type that it names.
    pub(crate) fn check(&self, expected: Expected<'_>) -> ApiResult<()> {
        schema::apply::fits(expected.schema(), &self.value).map_err(managed::refuse)
    }

    /// The object after it, with its managed fields.
    pub(crate) fn merged(
        &self,
        context: &Context,
        resource: &Resource,
        subresource: &str,
        live: &Object,
        versions: &Versions<'_>,
    ) -> ApiResult<Object> {
        let (namespace, name) = update::place(context, resource);
        let key = resources::storage_key(resource, namespace, name);
        let copy = || context.server.trees.copy(&key, live).into_value();
        let live: (&Value, &dyn Fn() -> Value) = (live.value(), &copy);
        let (manager, versions) = ((&*self.manager, subresource), Some(versions));
        let merged = managed::with_who(context, resource, manager, versions, |who| {
            schema::apply::apply_to(resource.schema(), live, &self.value, who, self.force)
        });
        let merged = merged.map_err(|error| match subresource {
            "scale" => managed::refuse(error.of_scale()),
            _ => managed::refuse(error),
        })?;
        Object::new(merged).map_err(|error| ApiError::bad_request(error.to_string()))
    }
}

/// The manager, which nobody may leave out.
fn manager(context: &Context) -> ApiResult<String> {
    let mut errors = managed::name_errors(context);
    let name = managed::named(context);
    if name.is_none() {
        let path = Path::new("fieldManager");
        errors.insert(
            0,
            FieldError::required(&path, "is required for apply patch"),
        );
    }
    match name {
        Some(name) if errors.is_empty() => Ok(name.to_owned()),
        _ => Err(ApiError::invalid(
            "meta.k8s.io",
            "PatchOptions",
            "",
            &errors,
        )),
    }
}

fn check_kind(expected: Expected<'_>, value: &Value) -> ApiResult<()> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version == expected.api_version() && kind == expected.kind {
        return Ok(());
    }
    let slash = if api_version.contains('/') { "" } else { "/" };
    Err(ApiError::bad_request(format!(
        "invalid object type: {slash}{api_version}, Kind={kind}"
    )))
}

pub(crate) async fn apply(
    context: &Context,
    resource: &Resource,
    subresource: &'static str,
    body: &Bytes,
) -> ApiResult<Response> {
    let dry_run = context.dry_run("PatchOptions", None)?;
    let config = Configuration::read(context, Expected::of(resource), body)?;
    let owner = Owner::Entered;
    let mut make = |old: &Object, versions: &Versions<'_>| -> ApiResult<Object> {
        let mut object = config.merged(context, resource, subresource, old, versions)?;
        create::settle_namespace(context, resource, &mut object)?;
        update::check_name(context, &object)?;
        Ok(object)
    };
    for _ in 0..ATTEMPTS_MAX {
        let outcome = update::apply(context, resource, subresource, dry_run, owner, &mut make);
        match outcome.await {
            Err(error) if error.is_absence && subresource.is_empty() => {}
            outcome => {
                return Ok(context.respond_outcome(StatusCode::OK, resource, outcome?));
            }
        }
        update::admit_create_on_update(context, resource).await?;
        let object = make(&nothing(resource), &Versions::of(resource))?;
        refuse_uid(resource, &object)?;
        match create::create_object(context, resource, object, dry_run, owner).await {
            Err(error) if error.reason == "AlreadyExists" => {}
            created => return Ok(context.respond_outcome(StatusCode::CREATED, resource, created?)),
        }
    }
    Err(ApiError::modified(
        &resource.group,
        &resource.plural,
        &context.info.name,
    ))
}

/// What an object is before it is there.
fn nothing(resource: &Resource) -> Object {
    let fields = json!({
        "apiVersion": resource.api_version(), "kind": &resource.kind, "metadata": {}
    });
    Object::from(fields.as_object().cloned().unwrap_or_default())
}

/// Whoever names a uid means an object that is there.
fn refuse_uid(resource: &Resource, object: &Object) -> ApiResult<()> {
    if object.uid().is_empty() {
        return Ok(());
    }
    let cause = format!(
        "uid mismatch: the provided object specified uid {}, and no existing object was found",
        object.uid()
    );
    Err(ApiError::conflict(
        &resource.group,
        &resource.plural,
        object.name(),
        &cause,
    ))
}
