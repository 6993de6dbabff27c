//! CREATE.

mod twins;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use resources::Resource;
use schema::Object;

use crate::account_secret;
use crate::admission::{self, Admission, Look, Operation};
use crate::context::Context;
use crate::decode::{self, Expected};
use crate::definitions;
use crate::flow;
use crate::key_pair;
use crate::managed::{self, Owner};
use crate::requester;
use crate::service_allocation;
use crate::status::{ApiError, ApiResult};
use crate::write::{Commit, Like, Outcome, Version, written_like};
use twins::Ask;
pub(crate) use twins::Twins;

/// What the options of such a request are called.
const OPTIONS: &str = "CreateOptions";

/// How often a generated name may collide.
const GENERATE_ATTEMPTS: usize = 8;
/// How often an address chosen for a Service may be taken by somebody faster.
const ALLOCATE_ATTEMPTS: usize = 16;
/// How often other definitions of a group may be faster: so many of them are created at once.
const NAMES_ATTEMPTS: usize = 256;
/// Longest prefix that leaves room for the suffix.
const GENERATED_PREFIX_MAX: usize = 58;
/// Kubernetes' alphabet for generated names: no vowels, no look-alikes.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub(crate) async fn create(
    context: &Context,
    resource: &Resource,
    body: Bytes,
) -> ApiResult<Response> {
    let dry_run = context.dry_run(OPTIONS, None)?;
    let twins = &context.server.twins;
    let mut ask = Ask::of(context, resource, &body).filter(|_| !dry_run);
    let alike = ask.as_mut().and_then(|ask| twins.find(ask, context.now));
    let is_alike = alike.is_some();
    let admission = Admission::new(context, Operation::Create, resource, "", dry_run);
    let created = match alike {
        Some(object) => {
            admission::skip_changes(&admission);
            let like = ask.as_ref().map(|ask| ask.like.clone());
            store(&admission, object, false, like).await?
        }
        None => {
            let object = decode::object(context, Expected::of(resource), &body, OPTIONS)?;
            context.audit.refer(&object);
            let manager = managed::manager(context, OPTIONS)?;
            let owner = Owner::Manager(&manager, "");
            create_object(context, resource, object, dry_run, owner).await?
        }
    };
    let object = created.object.clone();
    let response = context.respond_outcome(StatusCode::CREATED, resource, created);
    match &ask {
        Some(ask) if is_alike => twins.give_back(ask, object),
        Some(ask) if context.has_no_warnings() && admission::is_by_plugins(&admission) => {
            twins.learn(ask, object, context.now);
        }
        _ => {}
    }
    Ok(response)
}

/// Puts the request's namespace into the object, or refuses another one.
pub(crate) fn settle_namespace(
    context: &Context,
    resource: &Resource,
    object: &mut Object,
) -> ApiResult<()> {
    if !resource.namespaced {
        object.set_namespace("");
        return Ok(());
    }
    let wanted = context.info.namespace.as_str();
    if object.namespace().is_empty() {
        object.set_namespace(wanted);
    } else if object.namespace() != wanted {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Says in a warning that what webhooks made of an object is meant.
pub(crate) const AFTER_ADMISSION: &str = " after mutating admission happens";

/// Drops owners that an object has twice, with a warning as of Kubernetes.
pub(crate) fn dedup_owners(context: &Context, object: &mut Object, when: &str) {
    let uids = resources::meta::dedup_owners(object);
    if !uids.is_empty() {
        context.warn(format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            uids.join(", ")
        ));
    }
}

/// Defaults, admits, prepares, validates and stores a new object.
pub(crate) async fn create_object(
    context: &Context,
    resource: &Resource,
    mut object: Object,
    dry_run: bool,
    owner: Owner<'_>,
) -> ApiResult<Outcome> {
    definitions::refuse_terminating(resource, object.name())?;
    settle_namespace(context, resource, &mut object)?;
    if !object.resource_version().is_empty() && object.resource_version() != "0" {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    strip_server_fields(&mut object);
    if matches!(owner, Owner::Manager(..)) {
        dedup_owners(context, &mut object, "");
    }
    resource.default(&mut object);
    // What admission adds belongs to nobody.
    managed::track_new(context, resource, owner, &mut object).await;

    admission::prefetch(context, resource, &object).await?;
    let admission = Admission::new(context, Operation::Create, resource, "", dry_run);
    admission::mutate_tracked(&admission, &mut object).await?;
    dedup_owners(context, &mut object, AFTER_ADMISSION);
    settle_namespace(context, resource, &mut object)?;
    strip_server_fields(&mut object);
    object.set_uid(&crate::chance::uuid().to_string());
    object.set_creation_timestamp(&schema::time::now_rfc3339(context.now));
    let generated = object.name().is_empty() && !object.generate_name().is_empty();
    if generated {
        let name = generate_name(object.generate_name(), host::random());
        object.set_name(&name);
    }
    resource.stamp_times(&mut object, None, context.now);
    resource.prepare_create(&mut object);
    requester::enter(&context.user, resource, &mut object);
    flow::enter_status(context, resource, &mut object);
    if object.name().is_empty() && !resource.is_virtual() {
        // Nothing can be claimed for it; what else is wrong with it is told with the name.
        let errors = resource.validate(&object);
        return Err(ApiError::invalid(
            &resource.group,
            &resource.kind,
            "",
            &errors,
        ));
    }
    store(&admission, object, generated, None).await
}

/// Stores an object that admission has changed and that is prepared, under another name where its own was `generated` and is
/// taken. One that is `alike` is like another that was found to be valid, and nothing was said of that.
async fn store(
    admission: &Admission<'_>,
    object: Object,
    generated: bool,
    alike: Option<Like>,
) -> ApiResult<Outcome> {
    let (context, resource, dry_run) = (admission.context, admission.resource, admission.dry_run);
    let prefix = object.generate_name().to_owned();
    let plan = service_allocation::Plan::for_create(&context.server, resource, &object)?;
    let is_filled_in =
        resource.custom.is_some() || definitions::is_definition(resource) || !plan.is_nothing();
    let mut template = object;
    let attempts = match definitions::is_definition(resource) {
        true => NAMES_ATTEMPTS,
        false => ALLOCATE_ATTEMPTS,
    };
    let mut look = match dry_run {
        true => Look::Fresh,
        false => Look::Cached,
    };
    let mut collisions = 0;
    let mut has_token = false;
    for _ in 0..attempts {
        // What each attempt has to fill in anew is kept without it; all else is taken as it is, and a name that is taken
        // gives way to another one.
        let mut object = match is_filled_in {
            true => template.clone(),
            false => std::mem::take(&mut template),
        };
        if generated && collisions > 0 {
            if collisions >= GENERATE_ATTEMPTS {
                return Err(ApiError::generate_name_exhausted(
                    &resource.group,
                    &resource.plural,
                    object.name(),
                ));
            }
            resource.rename(&mut object, &generate_name(&prefix, host::random()));
            if has_token {
                account_secret::empty(&mut object);
            }
        }
        if !dry_run {
            has_token |= account_secret::fill(context, resource, &mut object).await?;
        }
        let server = &context.server;
        let mut extra = plan.fill(server, &mut object)?;
        plan.claim_address(context, &object, &mut extra).await?;
        definitions::guard(server, resource, object.name(), &mut extra)?;
        let names = definitions::settle(server, resource, &mut object, context.now).await?;
        let extra = extra.and(names);
        if alike.is_none() {
            refuse_invalid(resource, &object)?;
        }
        admission::validate(admission, Some(&object)).await?;
        if alike.is_none() {
            warn(context, resource, &object);
        }
        let charge = admission::charge(admission, &object, look).await?;
        let is_charged = !charge.extra.is_empty();
        let extra = extra.and(charge.extra.clone());
        let key = resources::storage_key(resource, object.namespace(), object.name());
        let written = match &alike {
            Some(like) => written_like(object, like),
            None => server.written(resource, Version::Asked, object).await?,
        };
        if dry_run {
            return match server.is_there(&key).await? {
                true if !generated => Err(taken(resource, &written.shown.object)),
                _ => Ok(Outcome::of(written.shown.object)),
            };
        }
        let allocates = !extra.is_empty();
        match context
            .server
            .commit_create(resource, &key, &written, extra)
            .await?
        {
            Commit::Done(revision) => {
                let outcome = server.wrote(resource, &key, revision, written.shown, true);
                definitions::wait_served(server, resource, &outcome.object).await;
                return Ok(outcome);
            }
            Commit::Lost => {
                look = Look::Fresh;
                let is_taken = !allocates || server.is_there(&key).await?;
                if is_taken && !generated {
                    return Err(taken(resource, &written.shown.object));
                }
                if !is_filled_in {
                    template = written.shown.object;
                }
                collisions += usize::from(is_taken || !is_charged);
                definitions::is_open(server, resource, template.name()).await?;
                // What the client named is in the template; what we chose may be chosen anew.
                plan.check_claims(&context.server, &template).await?;
            }
        }
    }
    Err(ApiError::too_many_requests(overtaken(resource), 1))
}

/// 422 with all that is wrong with an object.
fn refuse_invalid(resource: &Resource, object: &Object) -> ApiResult<()> {
    let errors = resource.validate(object);
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(
        &resource.group,
        &resource.kind,
        object.name(),
        &errors,
    ))
}

/// Warns of what may be wrong with an object that is valid.
fn warn(context: &Context, resource: &Resource, object: &Object) {
    let about_keys = key_pair::warning(resource, object);
    for warning in resource.warnings(object).into_iter().chain(about_keys) {
        context.warn(warning);
    }
}

/// What a client is told whose name is another object's.
fn taken(resource: &Resource, object: &Object) -> ApiError {
    ApiError::already_exists(&resource.group, &resource.plural, object.name())
}

/// What a client is told whose object lost every race for what goes with it.
fn overtaken(resource: &Resource) -> &'static str {
    if definitions::is_definition(resource) {
        return "the server could not settle the names of the definition, others of its group were always faster";
    }
    match resource.custom {
        Some(_) => "the definition of the custom resource keeps changing, please try again later",
        None if resource.group.is_empty() && resource.plural == "services" => {
            "the server could not find a free address for the service"
        }
        None => "the quotas of the namespace change too fast, please try again later",
    }
}

/// What a client may not say about a new object.
fn strip_server_fields(object: &mut Object) {
    let metadata = object.metadata_mut();
    for field in [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "resourceVersion",
        "uid",
    ] {
        metadata.remove(field);
    }
}

/// A name with Kubernetes' five-letter suffix, drawn from `random`.
pub(crate) fn generate_name(prefix: &str, mut random: u64) -> String {
    let mut end = prefix.len().min(GENERATED_PREFIX_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = prefix[..end].to_owned();
    name.push_str(&suffix(&mut random));
    name
}

/// Five letters of the alphabet that Kubernetes uses for names.
pub(crate) fn suffix(random: &mut u64) -> String {
    (0..5)
        .map(|_| {
            let letter = SUFFIX_ALPHABET[(*random % SUFFIX_ALPHABET.len() as u64) as usize];
            *random /= SUFFIX_ALPHABET.len() as u64;
            letter as char
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_a_label() {
        let name = generate_name(&"x".repeat(80), 12_345);
        assert_eq!(name.len(), 63);
        assert!(
            name.bytes()
                .skip(58)
                .all(|byte| SUFFIX_ALPHABET.contains(&byte))
        );
        assert_ne!(generate_name("a-", 1), generate_name("a-", 2));
    }
}
