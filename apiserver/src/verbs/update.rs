//! UPDATE, and what PATCH shares with it: from an existing object to its successor.

mod server_fields;

use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use kv::mutants::{Bug, planted};
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use schema::pick::Pick;
use std::borrow::Cow;

use crate::account_secret;
use crate::admission::{self, Admission, Charge, Look, Operation};
use crate::claim_rights;
use crate::context::Context;
use crate::decode::{self, Expected};
use crate::definitions;
use crate::key_pair;
use crate::managed::{self, Owner, Versions};
use crate::read_version::parse_uint;
use crate::service_allocation;
use crate::status::{ApiError, ApiResult};
use crate::subresources::scale;
use crate::verbs::create;
use crate::verbs::defaulted::defaulted;
use crate::write::{Decide, Outcome, Step};
use server_fields::carry_server_fields;

pub(crate) async fn update(
    context: &Context,
    resource: &Resource,
    subresource: &'static str,
    body: Bytes,
) -> ApiResult<Response> {
    let dry_run = context.dry_run("UpdateOptions", None)?;
    let mut first = Some(read(context, resource, &body)?);
    let manager = managed::manager(context, "UpdateOptions")?;
    let owner = Owner::Manager(&manager, subresource);
    // Few writes are tried twice: reading it again then costs less than a copy each time.
    let mut make = |_: &Object, _: &Versions<'_>| match first.take() {
        Some(object) => Ok(object),
        None => read(context, resource, &body),
    };
    let outcome = apply(context, resource, subresource, dry_run, owner, &mut make).await;
    match outcome {
        Err(error) if error.is_absence && resource.create_on_update && subresource.is_empty() => {
            admit_create_on_update(context, resource).await?;
            let mut object = read(context, resource, &body)?;
            object.set_resource_version("");
            let created = create::create_object(context, resource, object, dry_run, owner).await?;
            Ok(context.respond_outcome(StatusCode::CREATED, resource, created))
        }
        outcome => Ok(context.respond_outcome(StatusCode::OK, resource, outcome?)),
    }
}

/// What the body says, which has to be the object that the path names.
fn read(context: &Context, resource: &Resource, body: &Bytes) -> ApiResult<Object> {
    let mut object = decode::object(context, Expected::of(resource), body, "UpdateOptions")?;
    check_name(context, &object)?;
    check_namespace(context, resource, &object)?;
    create::settle_namespace(context, resource, &mut object)?;
    Ok(object)
}

/// Creating by PUT needs the right to create.
pub(crate) async fn admit_create_on_update(
    context: &Context,
    resource: &Resource,
) -> ApiResult<()> {
    let attributes = auth::Attributes {
        verb: "create",
        group: &resource.group,
        version: &resource.version,
        resource: &resource.plural,
        namespace: &context.info.namespace,
        name: &context.info.name,
        ..auth::Attributes::default()
    };
    context
        .server
        .authorizer
        .require(&context.user, &attributes)
        .await
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

/// What gets the present object and the versions of its managers, and answers what the client wants instead. Where it
/// needs another version from a webhook, it is run again when that is there.
pub(crate) type Make<'a> = dyn FnMut(&Object, &Versions<'_>) -> ApiResult<Object> + Send + 'a;

/// Changes the object that the path names.
pub(crate) async fn apply(
    context: &Context,
    resource: &Resource,
    subresource: &'static str,
    dry_run: bool,
    owner: Owner<'_>,
    make: &mut Make<'_>,
) -> ApiResult<Outcome> {
    let door = Door::new(context, resource, subresource, dry_run, owner);
    apply_around_spec(door, make, None).await
}

/// The same of a change that leaves `spec` as it is: `needed` is what the door and `make` have to know of that. None is all of
/// the object.
pub(crate) async fn apply_around_spec(
    door: Door<'_>,
    make: &mut Make<'_>,
    needed: Option<&'static Pick>,
) -> ApiResult<Outcome> {
    let (context, resource, dry_run) = (door.context, door.resource, door.dry_run);
    let (namespace, name) = place(context, resource);
    let mut update = Update { door, make, needed };
    let server = &context.server;
    server
        .change(resource, namespace, name, dry_run, &mut update)
        .await
}

/// A change of an object, through itself or one of its subresources.
struct Update<'a, 'm> {
    door: Door<'a>,
    make: &'a mut Make<'m>,
    needed: Option<&'static Pick>,
}

impl Decide for Update<'_, '_> {
    fn decide<'a>(&'a mut self, old: &'a Object) -> BoxFuture<'a, ApiResult<Step>> {
        let door = self.door;
        self.through(door, old, None)
    }

    fn needed_of_spec(&self) -> Option<&'static Pick> {
        self.needed
    }

    fn decide_around_spec<'a>(
        &'a mut self,
        old: &'a Object,
        entries: &'a mut Option<Bytes>,
    ) -> BoxFuture<'a, ApiResult<Step>> {
        let door = Door {
            is_around_spec: true,
            ..self.door
        };
        self.through(door, old, Some(entries))
    }
}

impl Update<'_, '_> {
    fn through<'a>(
        &'a mut self,
        door: Door<'a>,
        old: &'a Object,
        entries: Option<&'a mut Option<Bytes>>,
    ) -> BoxFuture<'a, ApiResult<Step>> {
        let make = &mut *self.make;
        Box::pin(async move {
            let versions = Versions::of(door.resource);
            let made = loop {
                let made = make(old, &versions);
                if !versions.answer(door.context).await {
                    break made;
                }
            };
            door.successor(made?, old, entries).await
        })
    }
}

/// What does not depend on the object.
#[derive(Clone, Copy)]
pub(crate) struct Door<'a> {
    context: &'a Context,
    resource: &'a Resource,
    subresource: &'static str,
    dry_run: bool,
    owner: Owner<'a>,
    /// Whether the object has only a part of its `spec`, and its managed fields are apart.
    is_around_spec: bool,
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

impl<'a> Door<'a> {
    pub(crate) fn new(
        context: &'a Context,
        resource: &'a Resource,
        subresource: &'static str,
        dry_run: bool,
        owner: Owner<'a>,
    ) -> Door<'a> {
        Door {
            context,
            resource,
            subresource,
            dry_run,
            owner,
            is_around_spec: false,
        }
    }
}

impl Door<'_> {
    /// Whether the kind's own rules hold: a scale is written through the object itself.
    fn is_of_object(&self) -> bool {
        matches!(self.subresource, "" | "scale")
    }

    /// Decides what to store for `new` in place of `stored`. Where the managed fields are apart, `entries` are those of the latter,
    /// as text, and become those of what is to be stored.
    async fn successor(
        &self,
        mut new: Object,
        stored: &Object,
        entries: Option<&mut Option<Bytes>>,
    ) -> ApiResult<Step> {
        let (context, resource) = (self.context, self.resource);
        let is_patch = context.info.verb == "patch";
        if !is_patch {
            create::dedup_owners(context, &mut new, "");
        }
        check_version(resource, &new, stored, is_patch)?;
        carry_server_fields(&mut new, stored);
        resource.default(&mut new);
        let old = self.as_defaulted(stored, &new);
        let old = &*old;
        match entries {
            Some(entries) => {
                managed::track_apart(context, resource, self.owner, (old, &new), entries)?;
            }
            None => managed::track(context, resource, self.owner, old, &mut new).await,
        }
        self.mutate(&mut new, old).await?;
        create::dedup_owners(context, &mut new, create::AFTER_ADMISSION);
        if self.is_of_object() {
            resource.stamp_times(&mut new, Some(old), context.now);
            resource.prepare_update(&mut new, old);
            if !self.dry_run && old.get_bool(&["immutable"]) != Some(true) {
                account_secret::fill(context, resource, &mut new).await?;
            }
        } else {
            resource.prepare_subresource_update(self.subresource, &mut new, old);
            resource.stamp_subresource_update(&mut new, old, context.now);
        }
        let extra = if self.is_of_object() {
            service_allocation::for_update(context, resource, &mut new, old).await?
        } else {
            crate::write::Extra::default()
        };
        let extra = if self.subresource.is_empty() {
            let (server, now) = (&context.server, context.now);
            extra.and(definitions::settle(server, resource, &mut new, now).await?)
        } else {
            extra
        };
        let mut errors = if self.is_of_object() {
            resource.validate_update(&new, old)
        } else {
            resource.validate_subresource_update(self.subresource, &new, old)
        };
        if claim_rights::concerns(resource, self.subresource) {
            errors.extend(claim_rights::refusals(context, &new, old).await);
        }
        if !errors.is_empty() {
            if self.is_of_object() {
                for warning in resource.rule_warnings(&new, old) {
                    context.warn(warning);
                }
            }
            return Err(ApiError::invalid(
                &resource.group,
                &resource.kind,
                old.name(),
                &errors,
            ));
        }
        self.validate(&new, old).await?;
        if self.is_of_object() {
            let about_keys = key_pair::warning(resource, &new);
            for warning in resource
                .update_warnings(&new, old)
                .into_iter()
                .chain(about_keys)
            {
                context.warn(warning);
            }
        }
        new.set_resource_version(old.resource_version());
        if is_finished(resource, &new) {
            let extra = service_allocation::for_delete(resource, &new);
            return Ok(Step::Remove(new, extra));
        }
        if self.is_the_same(&mut new, old, stored) {
            return Ok(Step::Same(new));
        }
        // The scale of something is no object that a quota counts.
        let charge = match self.subresource {
            "scale" => Charge::default(),
            _ => admission::charge(&self.admission().of(old), &new, Look::Fresh).await?,
        };
        Ok(Step::Write(new, extra.and(charge.extra)))
    }

    /// Whether there is nothing to write. Where the managed fields are apart, what changes in them alone is for who has the whole
    /// object to judge, and goes for nothing.
    fn is_the_same(&self, new: &mut Object, old: &Object, stored: &Object) -> bool {
        if self.is_around_spec {
            return managed::same_but_entries(new, old);
        }
        managed::keep_times(new, old);
        *new == *stored
    }

    /// The stored object to compare with. A default that came after it was stored is no change that a client made. What a
    /// subresource carries over is as it was stored.
    fn as_defaulted<'o>(&self, stored: &'o Object, new: &Object) -> Cow<'o, Object> {
        let resource = self.resource;
        let may_differ = resource.custom.is_none()
            && resource.has_defaults()
            && self.is_of_object()
            && !resource.is_defaulted_like(stored, new);
        match may_differ {
            true => defaulted(resource, stored),
            false => Cow::Borrowed(stored),
        }
    }

    fn admission(&self) -> Admission<'_> {
        let (context, resource) = (self.context, self.resource);
        let operation = Operation::Update;
        Admission {
            is_for_plugins: self.is_around_spec,
            ..Admission::new(context, operation, resource, self.subresource, self.dry_run)
        }
    }

    async fn mutate(&self, new: &mut Object, old: &Object) -> ApiResult<()> {
        if self.subresource == "scale" {
            return self.mutate_scale(new, old).await;
        }
        self.keep_part_from_view()?;
        let admission = self.admission().of(old);
        admission::mutate_tracked(&admission, new).await?;
        // What webhooks may not change either.
        carry_server_fields(new, old);
        Ok(())
    }

    async fn validate(&self, new: &Object, old: &Object) -> ApiResult<()> {
        self.keep_part_from_view()?;
        if self.subresource != "scale" {
            return admission::validate(&self.admission().of(old), Some(new)).await;
        }
        let (new, old) = (self.scale(new)?, self.scale(old)?);
        let admission = self.admission().carrying(scale::SCALE);
        admission::validate(&admission.of(&old), Some(&new)).await
    }

    /// Refuses where somebody could ask for an object that has only a part of its `spec`. Nobody hears of that: it is decided
    /// again on the whole one. Whoever comes a moment after this look is not asked, as of a write that came a moment before.
    fn keep_part_from_view(&self) -> ApiResult<()> {
        match self.is_around_spec && !admission::asks_nobody(&self.context.server) {
            true => Err(ApiError::internal("only a part of the object was read")),
            false => Ok(()),
        }
    }

    /// Webhooks see the Scale, not the object under it.
    async fn mutate_scale(&self, new: &mut Object, old: &Object) -> ApiResult<()> {
        let (mut wanted, old) = (self.scale(new)?, self.scale(old)?);
        let admission = self.admission().carrying(scale::SCALE);
        admission::mutate(&admission.of(&old), Some(&mut wanted)).await?;
        let replicas = wanted.get_i64(&["spec", "replicas"]).unwrap_or(0);
        self.resource.apply_scale(new, replicas);
        Ok(())
    }

    fn scale(&self, object: &Object) -> ApiResult<Object> {
        let scale = self.resource.scale_of(object);
        scale
            .and_then(|scale| Object::new(scale).ok())
            .ok_or_else(ApiError::no_such_resource)
    }
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

/// Optimistic concurrency: the version and uid that the client saw must be those that are there. A patch that names another
/// uid is no conflict: it is invalid, by which controllers tell that the object is not the one they mean.
fn check_version(resource: &Resource, new: &Object, old: &Object, is_patch: bool) -> ApiResult<()> {
    let (group, plural) = (&resource.group, &resource.plural);
    if !is_patch && !new.uid().is_empty() && new.uid() != old.uid() {
        let cause = format!(
            "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {}, UID in object meta: {}",
            resources::storage_key(resource, old.namespace(), old.name()),
            new.uid(),
            old.uid()
        );
        return Err(ApiError::conflict(group, plural, old.name(), &cause));
    }
    match new.resource_version() {
        "" | "0" if resource.unconditional_update => Ok(()),
        "" | "0" => {
            let path = Path::new("metadata").child("resourceVersion");
            let error = FieldError::invalid(&path, 0, "must be specified for an update");
            // Kubernetes' storage knows no kinds: it names the resource.
            Err(ApiError::invalid(group, plural, old.name(), &[error]))
        }
        version if version == old.resource_version() || planted(Bug::UpdatesAnyVersion) => Ok(()),
        version => match parse_uint(version) {
            Ok(_) => Err(ApiError::modified(group, plural, old.name())),
            Err(detail) => {
                let path = Path::new("metadata").child("resourceVersion");
                let error = FieldError::invalid(&path, version, detail);
                let kind = &resource.kind;
                Err(ApiError::invalid(group, kind, old.name(), &[error]))
            }
        },
    }
}
