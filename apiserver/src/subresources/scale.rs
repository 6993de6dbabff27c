//! `scale`: the number of replicas of any scalable kind, as autoscaling/v1 Scale.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::{Value, json};

use crate::context::Context;
use crate::decode::{self, Expected};
use crate::managed::{self, Owner, Versions};
use crate::status::{ApiError, ApiResult};
use crate::verbs::apply::Configuration;
use crate::verbs::patch::{self, Patch};
use crate::verbs::{create, get, update};

pub(crate) const SCALE: Expected<'static> = Expected {
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    custom: None,
};

pub(super) async fn handle(
    context: &Context,
    resource: &Resource,
    verb: &str,
    body: &Bytes,
) -> ApiResult<Response> {
    match verb {
        "get" => {
            let object = get::entry(context, resource).await?.object_as(resource);
            respond(context, resource, &object)
        }
        "update" => {
            let dry_run = context.dry_run("UpdateOptions", None)?;
            let mut scale = decode::object(context, SCALE, body, "UpdateOptions")?;
            create::settle_namespace(context, resource, &mut scale)?;
            update::check_name(context, &scale)?;
            let manager = managed::manager(context, "UpdateOptions")?;
            let mut make = |_: &Value| Ok(scale.clone());
            replace(context, resource, dry_run, &manager, &mut make).await
        }
        _ if patch::is_apply(context) => apply(context, resource, body).await,
        _ => {
            let dry_run = context.dry_run("PatchOptions", None)?;
            patch::check_type(context, resource)?;
            let mut patch = Patch::read(&context.headers, body)?;
            let manager = patch::manager(context)?;
            let validation = decode::field_validation(context, "PatchOptions")?;
            patch.check_operations(validation)?;
            let mut make = |present: &Value| {
                let patched = (patch.apply(SCALE, present, || present.clone())?, present);
                decode::patched(context, SCALE, patched, validation, &patch)
            };
            replace(context, resource, dry_run, &manager, &mut make).await
        }
    }
}

fn present(resource: &Resource, object: &Object) -> ApiResult<Value> {
    resource
        .scale_of(object)
        .ok_or_else(ApiError::no_such_resource)
}

fn respond(context: &Context, resource: &Resource, object: &Object) -> ApiResult<Response> {
    let scale =
        Object::new(present(resource, object)?).map_err(|_| ApiError::no_such_resource())?;
    Ok(context.respond_object(StatusCode::OK, &resource.as_scale(), scale))
}

/// Applies the count: its owner owns it in the object under the scale.
async fn apply(context: &Context, resource: &Resource, body: &Bytes) -> ApiResult<Response> {
    let dry_run = context.dry_run("PatchOptions", None)?;
    let config = Configuration::read(context, SCALE, body)?;
    config.check(SCALE)?;
    let scale = Object::new(config.value.clone()).map_err(|_| ApiError::no_such_resource())?;
    let paths = resource.scale.as_ref();
    let replicas_at = paths.ok_or_else(ApiError::no_such_resource)?.spec_fields();
    let mut of_object = Object::new(json!({ "metadata": scale.metadata() }))
        .map_err(|_| ApiError::no_such_resource())?;
    of_object.set_kind(&resource.kind);
    of_object.set_api_version(&resource.api_version());
    if let Some(replicas) = scale.get(&["spec", "replicas"]) {
        of_object.set(&replicas_at, replicas.clone());
    }
    // Of the metadata only what says which object is meant.
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        of_object.metadata_mut().remove(field);
    }
    let config = config.of(of_object.into_value());
    let mut change = |old: &Object, versions: &Versions<'_>| -> ApiResult<Object> {
        let new = config.merged(context, resource, "scale", old, versions)?;
        update::check_name(context, &new)?;
        let replicas = new.get_i64(&replicas_at).unwrap_or(0);
        check_count(resource, scale.name(), replicas)?;
        Ok(new)
    };
    let outcome = update::apply(
        context,
        resource,
        "scale",
        dry_run,
        Owner::Entered,
        &mut change,
    )
    .await?;
    respond(context, resource, &outcome.object)
}

/// Of a custom resource the object under the scale is told of, when it is validated as a whole.
fn check_count(resource: &Resource, name: &str, replicas: i64) -> ApiResult<()> {
    if replicas >= 0 || resource.custom.is_some() {
        return Ok(());
    }
    let path = Path::new("spec").child("replicas");
    let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
    Err(ApiError::invalid("autoscaling", "Scale", name, &[error]))
}

/// Changes the count of the object under the scale; `make` gets the present Scale.
async fn replace(
    context: &Context,
    resource: &Resource,
    dry_run: bool,
    manager: &str,
    make: &mut (dyn FnMut(&Value) -> ApiResult<Object> + Send),
) -> ApiResult<Response> {
    let mut change = |old: &Object, _: &Versions<'_>| -> ApiResult<Object> {
        let scale = make(&present(resource, old)?)?;
        update::check_name(context, &scale)?;
        let replicas = scale.get_i64(&["spec", "replicas"]).unwrap_or(0);
        check_count(resource, scale.name(), replicas)?;
        let mut new = old.clone();
        resource.apply_scale(&mut new, replicas);
        // The versions that the client saw are compared like those of any update.
        new.set_resource_version(scale.resource_version());
        if scale.resource_version().is_empty() {
            new.set_resource_version(old.resource_version());
        }
        if !scale.uid().is_empty() {
            new.set_uid(scale.uid());
        }
        Ok(new)
    };
    let owner = Owner::Manager(manager, "scale");
    let outcome = update::apply(context, resource, "scale", dry_run, owner, &mut change).await?;
    respond(context, resource, &outcome.object)
}
