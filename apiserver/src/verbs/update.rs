//! UPDATE, and what PATCH shares with it: from an existing object to its successor.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use kv::mutants::{Bug, planted};
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};

use crate::admission::{self, Admission, Operation};
use crate::context::Context;
use crate::decode::{self, Expected};
use crate::managed::{self, Owner};
use crate::service_allocation;
use crate::status::{ApiError, ApiResult};
use crate::verbs::create;
use crate::write::{Outcome, Step};

pub(crate) async fn update(
    context: &Context,
    resource: &'static Resource,
    subresource: &'static str,
    body: Bytes,
) -> ApiResult<Response> {
    let dry_run = context.dry_run("UpdateOptions", None)?;
    let mut object = decode::object(context, Expected::of(resource), &body, "UpdateOptions")?;
    check_name(context, &object)?;
    check_namespace(context, resource, &object)?;
    create::settle_namespace(context, resource, &mut object)?;
    let manager = managed::manager(context, "UpdateOptions")?;
    let owner = Owner::Manager(&manager, subresource);
    let outcome = apply(context, resource, subresource, dry_run, owner, &mut |_| {
        Ok(object.clone())
    })
    .await;
    match outcome {
        Err(error)
            if error.code == 404
                && error.reason == "NotFound"
                && resource.create_on_update
                && subresource.is_empty() =>
        {
            admit_create_on_update(context, resource)?;
            let mut object = object.clone();
            object.set_resource_version("");
            let created = create::create_object(context, resource, object, dry_run, owner).await?;
            Ok(context.respond_object(StatusCode::CREATED, resource, created))
        }
        outcome => Ok(context.respond_object(StatusCode::OK, resource, outcome?.object)),
    }
}

/// Creating by PUT needs the right to create.
pub(crate) fn admit_create_on_update(context: &Context, resource: &Resource) -> ApiResult<()> {
    let attributes = auth::Attributes {
        verb: "create",
        group: resource.group,
        version: resource.version,
        resource: resource.plural,
        namespace: &context.info.namespace,
        name: &context.info.name,
        ..auth::Attributes::default()
    };
    context
        .server
        .authorizer
        .require(&context.user, &attributes)
}

pub(crate) fn check_name(context: &Context, object: &Object) -> ApiResult<()> {
    let wanted = context.info.name.as_str();
    if object.name().is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({wanted} based on URL) was undeterminable: name must be provided"
        )));
    }
    if object.name() != wanted {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({wanted})",
            object.name()
        )));
    }
    Ok(())
}

fn check_namespace(context: &Context, resource: &Resource, object: &Object) -> ApiResult<()> {
    let (own, wanted) = (object.namespace(), context.info.namespace.as_str());
    if resource.namespaced && !own.is_empty() && own != wanted {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({own}) does not match the namespace on the request ({wanted})"
        )));
    }
    Ok(())
}

/// Changes the object that the path names. `make` gets the present object and answers what the client wants instead.
pub(crate) async fn apply(
    context: &Context,
    resource: &'static Resource,
    subresource: &'static str,
    dry_run: bool,
    owner: Owner<'_>,
    make: &mut (dyn FnMut(&Object) -> ApiResult<Object> + Send),
) -> ApiResult<Outcome> {
    let (namespace, name) = place(context, resource);
    let server = &context.server;
    let mut decide = |old: &Object| {
        let new = make(old)?;
        successor(context, resource, subresource, owner, new, old)
    };
    server
        .change(resource, namespace, name, dry_run, &mut decide)
        .await
}

/// Namespace and name of the object in the path, where a namespace is its own place.
pub(crate) fn place<'a>(context: &'a Context, resource: &Resource) -> (&'a str, &'a str) {
    let namespace = if resource.namespaced {
        context.info.namespace.as_str()
    } else {
        ""
    };
    (namespace, &context.info.name)
}

/// Decides what to store for `new` in place of `old`.
fn successor(
    context: &Context,
    resource: &'static Resource,
    subresource: &'static str,
    owner: Owner<'_>,
    mut new: Object,
    old: &Object,
) -> ApiResult<Step> {
    check_version(resource, &new, old)?;
    carry_server_fields(&mut new, old);
    resource.default(&mut new);
    managed::track(context, resource, owner, Some(old), &mut new);
    let admission = Admission {
        context,
        operation: Operation::Update,
        resource,
        subresource,
        old: Some(old),
    };
    if subresource.is_empty() {
        admission::mutate(&admission, &mut new)?;
        resource.prepare_update(&mut new, old);
    } else {
        resource.prepare_subresource_update(subresource, &mut new, old);
    }
    let extra = if subresource.is_empty() {
        service_allocation::for_update(&context.server, resource, &mut new, old)?
    } else {
        crate::write::Extra::default()
    };
    let errors = if subresource.is_empty() {
        resource.validate_update(&new, old)
    } else {
        resource.validate_subresource_update(subresource, &new, old)
    };
    if !errors.is_empty() {
        return Err(ApiError::invalid(
            resource.group,
            resource.kind,
            old.name(),
            &errors,
        ));
    }
    admission::validate(&admission, Some(&new))?;
    if subresource.is_empty() {
        for warning in resource.warnings(&new) {
            context.warn(warning);
        }
    }
    new.set_resource_version(old.resource_version());
    if is_finished(resource, &new) {
        let extra = service_allocation::for_delete(resource, &new);
        return Ok(Step::Remove(new, extra));
    }
    managed::keep_times(&mut new, old);
    if new == *old {
        return Ok(Step::Keep(new));
    }
    Ok(Step::Write(new, extra))
}

/// Whether an object whose deletion was asked for has nothing left to wait for.
fn is_finished(resource: &Resource, object: &Object) -> bool {
    if object.deletion_timestamp().is_none() || !object.finalizers().is_empty() {
        return false;
    }
    if resource.group.is_empty() && resource.plural == "namespaces" {
        return object
            .get_array(&["spec", "finalizers"])
            .is_none_or(Vec::is_empty);
    }
    object
        .deletion_grace_period_seconds()
        .is_none_or(|seconds| seconds == 0)
}

/// Optimistic concurrency: the version and uid that the client saw must be those that are there.
fn check_version(resource: &Resource, new: &Object, old: &Object) -> ApiResult<()> {
    let (group, plural) = (resource.group, resource.plural);
    if !new.uid().is_empty() && new.uid() != old.uid() {
        let cause = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            new.uid(),
            old.uid()
        );
        return Err(ApiError::conflict(group, plural, old.name(), &cause));
    }
    match new.resource_version() {
        "" | "0" if resource.unconditional_update => Ok(()),
        "" | "0" => {
            let path = Path::new("metadata").child("resourceVersion");
            let error = FieldError::invalid(
                &path,
                new.resource_version(),
                "must be specified for an update",
            );
            Err(ApiError::invalid(
                group,
                resource.kind,
                old.name(),
                &[error],
            ))
        }
        version if version == old.resource_version() || planted(Bug::UpdatesAnyVersion) => Ok(()),
        version if version.parse::<u64>().is_err() => {
            let path = Path::new("metadata").child("resourceVersion");
            let error = FieldError::invalid(
                &path,
                version,
                format!("strconv.ParseUint: parsing {version:?}: invalid syntax"),
            );
            Err(ApiError::invalid(
                group,
                resource.kind,
                old.name(),
                &[error],
            ))
        }
        _ => Err(ApiError::modified(group, plural, old.name())),
    }
}

/// What only the server writes stays as it was.
fn carry_server_fields(new: &mut Object, old: &Object) {
    let kept: Vec<(&str, Option<serde_json::Value>)> = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
        "selfLink",
    ]
    .into_iter()
    .map(|field| {
        (
            field,
            old.metadata()
                .and_then(|metadata| metadata.get(field))
                .cloned(),
        )
    })
    .collect();
    let metadata = new.metadata_mut();
    for (field, value) in kept {
        match (field, value) {
            // A client that names another generateName is refused by validation-free Kubernetes too: it is kept.
            (_, Some(value)) => {
                metadata.insert(field.to_owned(), value);
            }
            (_, None) => {
                metadata.remove(field);
            }
        }
    }
}
