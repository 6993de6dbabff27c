//! The parameters that a binding gives its policy.

use std::sync::Arc;

use resources::{Handle, Resource};
use schema::Object;
use schema::selector::LabelSelector;
use serde_json::Value;

use super::{Binding, Policy};
use crate::admission::Admission;
use crate::conversion::Asker;
use crate::entry::Entry;
use crate::status::ApiResult;

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    let text = value.get(field).and_then(Value::as_str);
    text.unwrap_or_default()
}

/// Why a policy or a binding cannot be used.
pub(super) enum Unfit {
    Policy(String),
    Binding(String),
}

impl Unfit {
    /// Kubernetes' text.
    pub(super) fn text(&self) -> String {
        match self {
            Unfit::Policy(reason) => format!("failed to configure policy: {reason}"),
            Unfit::Binding(reason) => format!("failed to configure binding: {reason}"),
        }
    }
}

/// The parameters, each of which the policy is asked with: one null where there are none to be had.
pub(super) async fn collect<C>(
    admission: &Admission<'_>,
    policy: &Policy<C>,
    binding: &Binding,
) -> ApiResult<Result<Vec<Value>, Unfit>> {
    if policy.param_kind.is_null() {
        return Ok(Ok(vec![Value::Null]));
    }
    let Some(resource) = kind(admission, &policy.param_kind) else {
        let (version, kind) = (
            text(&policy.param_kind, "apiVersion"),
            text(&policy.param_kind, "kind"),
        );
        let reason =
            format!("failed to find resource referenced by paramKind: '{version}, Kind={kind}'");
        return Ok(Err(Unfit::Policy(reason)));
    };
    if binding.param_ref.is_null() {
        return Ok(Ok(vec![Value::Null]));
    }
    let namespace = match place(admission, &resource, text(&binding.param_ref, "namespace")) {
        Ok(namespace) => namespace.to_owned(),
        Err(reason) => return Ok(Err(Unfit::Binding(reason.to_owned()))),
    };
    let mut found = find(admission, &resource, &namespace, &binding.param_ref).await?;
    if found.is_empty() {
        // They may be younger than our cache.
        let server = &admission.context.server;
        server.world.wait_most_recent(&*server.store).await?;
        found = find(admission, &resource, &namespace, &binding.param_ref).await?;
    }
    if found.is_empty() && text(&binding.param_ref, "parameterNotFoundAction") == "Deny" {
        let reason = "no params found for policy binding with `Deny` parameterNotFoundAction";
        return Ok(Err(Unfit::Binding(reason.to_owned())));
    }
    Ok(Ok(found))
}

/// Stands between two sets of parameters. Each has a budget of its own, as in Kubernetes, and one selector may find
/// thousands: here a request ends that has no time left or no client, and other requests get their turn.
pub(super) async fn pause() {
    tokio::task::yield_now().await;
}

pub(super) fn kind(admission: &Admission<'_>, param_kind: &Value) -> Option<Handle> {
    let (version, kind) = (text(param_kind, "apiVersion"), text(param_kind, "kind"));
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    if let Some(resource) = resources::by_kind(group, version, kind) {
        return Some(resource.into());
    }
    let customs = admission.context.server.world.customs.of_group(group);
    let mut of_kind = customs.into_iter().filter(|one| one.kind == kind);
    of_kind.find(|one| one.version == version)
}

/// The namespace where the parameters are.
fn place<'a>(
    admission: &'a Admission<'_>,
    resource: &Resource,
    asked: &'a str,
) -> Result<&'a str, &'static str> {
    match (resource.namespaced, asked) {
        (false, "") => Ok(""),
        (false, _) => {
            Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
        }
        (true, "") if !admission.resource.namespaced => Err(
            "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources",
        ),
        (true, "") => Ok(&admission.context.info.namespace),
        (true, asked) => Ok(asked),
    }
}

async fn find(
    admission: &Admission<'_>,
    resource: &Resource,
    namespace: &str,
    reference: &Value,
) -> ApiResult<Vec<Value>> {
    let server = &admission.context.server;
    let Some(cache) = server.world.cache(resource) else {
        return Ok(Vec::new());
    };
    let name = text(reference, "name");
    if !name.is_empty() {
        let entry = cache.get(&resources::storage_key(resource, namespace, name));
        return shown(admission, resource, entry.into_iter().collect()).await;
    }
    let Ok(selector) = LabelSelector::from_object(reference.get("selector")) else {
        return Ok(Vec::new());
    };
    let prefix = if namespace.is_empty() {
        cache.prefix.clone()
    } else {
        format!("{}{namespace}/", cache.prefix)
    };
    let snapshot = cache.snapshot(0);
    let all = snapshot.tree.iter_prefix(&prefix);
    let selected = all.filter(|entry| selector.matches(entry.labels()));
    shown(admission, resource, selected.cloned().collect()).await
}

/// The objects of entries, in the version that the policy names.
async fn shown(
    admission: &Admission<'_>,
    resource: &Resource,
    entries: Vec<Arc<Entry>>,
) -> ApiResult<Vec<Value>> {
    let server = &admission.context.server;
    let forms = server.forms(resource, entries, Asker::Request).await?;
    let objects = forms.iter().map(|entry| entry.object_as(resource));
    Ok(objects.map(Object::into_value).collect())
}
