//! `scale`: the number of replicas of any scalable kind, as autoscaling/v1 Scale.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::Value;

use crate::context::Context;
use crate::decode::{self, Expected};
use crate::status::{ApiError, ApiResult};
use crate::verbs::patch::Patch;
use crate::verbs::{create, get, update};

const SCALE: Expected<'static> = Expected {
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
};

pub(super) async fn handle(
    context: &Context,
    resource: &'static Resource,
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
            apply(context, resource, dry_run, &mut |_| Ok(scale.clone())).await
        }
        _ => {
            let dry_run = context.dry_run("PatchOptions", None)?;
            let patch = Patch::read(&context.headers, body)?;
            let validation = decode::field_validation(context, "PatchOptions")?;
            apply(context, resource, dry_run, &mut |present| {
                let patched = patch.apply(SCALE, present)?;
                decode::patched(context, SCALE, patched, validation, || patch.to_string())
            })
            .await
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

/// Changes the count of the object under the scale; `make` gets the present Scale.
async fn apply(
    context: &Context,
    resource: &'static Resource,
    dry_run: bool,
    make: &mut (dyn FnMut(&Value) -> ApiResult<Object> + Send),
) -> ApiResult<Response> {
    let mut change = |old: &Object| -> ApiResult<Object> {
        let scale = make(&present(resource, old)?)?;
        update::check_name(context, &scale)?;
        let replicas = scale.get_i64(&["spec", "replicas"]).unwrap_or(0);
        if replicas < 0 {
            let path = Path::new("spec").child("replicas");
            let error = FieldError::invalid(&path, replicas, "must be greater than or equal to 0");
            return Err(ApiError::invalid(
                "autoscaling",
                "Scale",
                scale.name(),
                &[error],
            ));
        }
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
    let outcome = update::apply(context, resource, "", dry_run, &mut change).await?;
    respond(context, resource, &outcome.object)
}
