//! DELETE. Whether the object goes at once, waits for finalizers, or (a pod) for its grace period is decided by the
//! pure function [`plan`].

mod decision;
mod options;

use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use resources::Resource;
use schema::Object;

use crate::admission::{self, Admission, Operation};
use crate::context::Context;
use crate::service_allocation;
use crate::status::{self, ApiError, ApiResult};
use crate::verbs::update;
use crate::write::{Decide, Extra, Outcome, Step, Version};
use decision::{Plan, plan};
pub(crate) use options::DeleteOptions;

/// Kinds whose deletion answers the object itself; the others answer a Status.
const RETURNS_OBJECT: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "services"),
    ("", "serviceaccounts"),
    ("", "podtemplates"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "resourcequotas"),
];

fn is_in(kinds: &[(&str, &str)], resource: &Resource) -> bool {
    kinds.contains(&(&resource.group, &resource.plural))
}

/// Says so where pods of a Job stay because nothing was said about them.
pub(crate) fn warn_of_orphans(context: &Context, resource: &Resource, options: &DeleteOptions) {
    if resource.group == "batch" && resource.plural == "jobs" && options.propagation.is_none() {
        context.warn(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
             them or set propagationPolicy=Orphan to suppress this warning",
        );
    }
}

pub(crate) async fn delete(
    context: &Context,
    resource: &Resource,
    body: Bytes,
) -> ApiResult<Response> {
    let options = DeleteOptions::read(context, &body)?;
    warn_of_orphans(context, resource, &options);
    let (namespace, name) = update::place(context, resource);
    let outcome = delete_object(context, resource, namespace, name, &options).await?;
    let returns_object = !outcome.removed || is_in(RETURNS_OBJECT, resource);
    if returns_object {
        let accepted = !outcome.removed && options.orphan_dependents == Some(false);
        let code = if accepted {
            StatusCode::ACCEPTED
        } else {
            StatusCode::OK
        };
        return Ok(context.respond_outcome(code, resource, outcome));
    }
    let status = status::success_deleted(
        &resource.group,
        &resource.plural,
        name,
        outcome.object.uid(),
    );
    Ok(context.respond_value(StatusCode::OK, &status))
}

/// Deletes one object, or starts its deletion.
pub(crate) async fn delete_object(
    context: &Context,
    resource: &Resource,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> ApiResult<Outcome> {
    delete_with(context, resource, (namespace, name), options, |_| {}).await
}

/// The same for an object under a definition that goes: nobody else is asked, and it stays in its version.
pub(crate) async fn delete_unasked(
    context: &Context,
    resource: &Resource,
    (namespace, name): (&str, &str),
    options: &DeleteOptions,
) -> ApiResult<Outcome> {
    let mut decide = |old: &Object| -> ApiResult<Step> {
        Ok(match plan(resource, old, options, context.now) {
            Plan::Remove => Step::RemoveAsIs(Extra::default()),
            Plan::Mark(object) => Step::Write(object, Extra::default()),
            Plan::Nothing => Step::Keep(old.clone()),
        })
    };
    let (server, place) = (&context.server, (namespace, name));
    server
        .change_in(resource, Version::Stored, place, false, &mut decide)
        .await
}

/// Deletes one object; where it stays for a while, it stays with what `note` writes on it. What a webhook cannot convert is
/// deleted in the version in which it is stored: a dead one must not keep a namespace from going.
pub(crate) async fn delete_with(
    context: &Context,
    resource: &Resource,
    place: (&str, &str),
    options: &DeleteOptions,
    note: impl Fn(&mut Object) + Send + Sync,
) -> ApiResult<Outcome> {
    let mut deletion = Deletion {
        context,
        resource,
        options,
        note,
    };
    let (server, dry_run) = (&context.server, options.dry_run);
    if !server.seems_inconvertible(resource) {
        let (namespace, name) = place;
        let outcome = server.change(resource, namespace, name, dry_run, &mut deletion);
        match outcome.await {
            Err(error) if error.is_inconvertible => {}
            outcome => return outcome,
        }
    }
    server
        .change_in(resource, Version::Stored, place, dry_run, &mut deletion)
        .await
}

struct Deletion<'a, N> {
    context: &'a Context,
    resource: &'a Resource,
    options: &'a DeleteOptions,
    note: N,
}

impl<N: Fn(&mut Object) + Send + Sync> Decide for Deletion<'_, N> {
    fn decide<'a>(&'a mut self, old: &'a Object) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            let resource = self.resource;
            check_preconditions(resource, old, self.options)?;
            self.admit(old).await?;
            Ok(match plan(resource, old, self.options, self.context.now) {
                Plan::Remove => Step::RemoveAsIs(service_allocation::for_delete(resource, old)),
                Plan::Mark(mut object) => {
                    (self.note)(&mut object);
                    Step::Write(object, Extra::default())
                }
                Plan::Nothing => Step::Keep(old.clone()),
            })
        })
    }
}

impl<N: Sync> Deletion<'_, N> {
    async fn admit(&self, old: &Object) -> ApiResult<()> {
        let (context, resource) = (self.context, self.resource);
        let customs = &context.server.world.customs;
        let other = (resource.custom.is_some() && old.version() != resource.version)
            .then(|| customs.find(&resource.group, old.version(), &resource.plural));
        let other = other.flatten();
        let resource = other.as_deref().unwrap_or(resource);
        if context.info.subresource == "eviction" {
            // It was admitted as an eviction.
            return Ok(());
        }
        let options = self.options.to_value();
        let dry_run = self.options.dry_run;
        let admission = Admission {
            delete_options: Some(&options),
            ..Admission::new(context, Operation::Delete, resource, "", dry_run).of(old)
        };
        admission::mutate(&admission, None).await?;
        admission::validate(&admission, None).await
    }
}

pub(crate) fn check_preconditions(
    resource: &Resource,
    object: &Object,
    options: &DeleteOptions,
) -> ApiResult<()> {
    // Kubernetes names the kind here, not the resource.
    let refuse = |what: &str, wanted: &str, is: &str, guess: &str| {
        let cause = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been {guess}"
        );
        Err(ApiError::conflict(
            &resource.group,
            &resource.kind,
            object.name(),
            &cause,
        ))
    };
    match (&options.uid, &options.resource_version) {
        (Some(uid), _) if uid != object.uid() => {
            refuse("UID", uid, object.uid(), "deleted and then recreated")
        }
        (_, Some(version)) if version != object.resource_version() => {
            let is = object.resource_version();
            refuse("ResourceVersion", version, is, "modified")
        }
        _ => Ok(()),
    }
}
