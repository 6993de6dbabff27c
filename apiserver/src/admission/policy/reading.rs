//! Whoever writes a policy or a binding may read the parameters that it takes: a policy tells in its messages what stands
//! in them.

use auth::Attributes;
use auth::user::GROUP_MASTERS;
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::Value;

use super::{GROUP, params};
use crate::admission::{Admission, Operation};
use crate::context::Context;
use crate::status::{ApiError, ApiResult};

/// The kinds of policies, each with its bindings.
const KINDS: &[(&str, &str)] = &[
    (
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
    ),
    (
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    ),
];

/// The policies of these bindings.
fn policies_of(bindings: &Resource) -> Option<&'static str> {
    if bindings.group != GROUP {
        return None;
    }
    let of = KINDS.iter().find(|(_, plural)| bindings.plural == *plural);
    of.map(|(policies, _)| *policies)
}

fn policy_name(binding: &Object) -> &str {
    binding.get_str(&["spec", "policyName"]).unwrap_or_default()
}

/// Waits for the policy of a new binding, which may be younger than our cache.
pub(in crate::admission) async fn prefetch(
    context: &Context,
    resource: &Resource,
    object: &Object,
) -> ApiResult<()> {
    let Some(policies) = policies_of(resource) else {
        return Ok(());
    };
    let server = &context.server;
    match server.world.get(GROUP, policies, "", policy_name(object)) {
        Some(_) => Ok(()),
        None => server
            .world
            .wait_most_recent(&*server.store)
            .await
            .map(drop),
    }
}

/// Refuses parameters, where they are new or others than before, that the writer may not read.
pub(in crate::admission) fn validate(
    admission: &Admission<'_>,
    object: Option<&Object>,
) -> ApiResult<()> {
    let resource = admission.resource;
    let Some(object) = object.filter(|_| resource.group == GROUP && writes(admission)) else {
        return Ok(());
    };
    if admission.context.user.in_group(GROUP_MASTERS) {
        return Ok(());
    }
    let is_new = |fields: &[&str]| {
        let is_there = object.get(&["spec", fields[0]]);
        let is_there = is_there.is_some_and(|value| !value.is_null());
        let same = |old: &Object| {
            let mut fields = fields.iter();
            fields.all(|field| old.get(&["spec", *field]) == object.get(&["spec", *field]))
        };
        is_there && !admission.old.is_some_and(same)
    };
    let world = &admission.context.server.world;
    if let Some(policies) = policies_of(resource) {
        if !is_new(&["paramRef", "policyName"]) {
            return Ok(());
        }
        let policy = world.get(GROUP, policies, "", policy_name(object));
        let policy = policy.map(|policy| policy.object());
        let kind = policy
            .as_ref()
            .map(|policy| super::part(policy, "paramKind"));
        let text = |field: &str| {
            object
                .get_str(&["spec", "paramRef", field])
                .unwrap_or_default()
        };
        let place = (text("namespace"), text("name"));
        if may_read(admission, &kind.unwrap_or_default(), place) {
            return Ok(());
        }
        let user = &admission.context.user.name;
        let text = format!(
            "user {user:?} does not have \"get\" permission on the object referenced by paramRef"
        );
        return Err(refusal(admission, object, "paramRef", text));
    }
    let is_policy = KINDS.iter().any(|(plural, _)| resource.plural == *plural);
    if !is_policy || !is_new(&["paramKind"]) {
        return Ok(());
    }
    let kind = super::part(object, "paramKind");
    if may_read(admission, &kind, ("*", "*")) {
        return Ok(());
    }
    let (user, kind, version) = (
        &admission.context.user.name,
        params::text(&kind, "kind"),
        params::text(&kind, "apiVersion"),
    );
    let text = format!(
        "user {user:?} must have \"get\" permission on all objects of the referenced paramKind (kind={kind}, apiVersion={version})"
    );
    Err(refusal(admission, object, "paramKind", text))
}

fn writes(admission: &Admission<'_>) -> bool {
    let operation = admission.operation;
    admission.subresource.is_empty() && matches!(operation, Operation::Create | Operation::Update)
}

/// Whether the user may read objects of this kind. One that is not known could become any.
fn may_read(
    admission: &Admission<'_>,
    param_kind: &Value,
    (namespace, name): (&str, &str),
) -> bool {
    let (group, version) = group_version(param_kind);
    let resource = params::kind(admission, param_kind);
    let attributes = Attributes {
        verb: "get",
        group,
        version,
        resource: resource.as_ref().map_or("*", |resource| &*resource.plural),
        namespace,
        name,
        ..Attributes::default()
    };
    let context = admission.context;
    let decision = context
        .server
        .authorizer
        .authorize_in_place(&context.user, &attributes);
    decision.allowed
}

fn group_version(param_kind: &Value) -> (&str, &str) {
    let text = params::text(param_kind, "apiVersion");
    match text.split_once('/') {
        None if text.is_empty() => ("*", "*"),
        None => ("", text),
        Some((_, version)) if version.contains('/') => ("*", "*"),
        Some(both) => both,
    }
}

fn refusal(admission: &Admission<'_>, object: &Object, field: &str, text: String) -> ApiError {
    let error = FieldError::forbidden(&Path::new("spec").child(field), text);
    let kind = &admission.resource.kind;
    ApiError::invalid(GROUP, kind, object.name(), &[error])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn versions_that_say_nothing_mean_any() {
        let of = |version: &str| json!({"apiVersion": version, "kind": "K"});
        assert_eq!(group_version(&of("v1")), ("", "v1"));
        assert_eq!(group_version(&of("apps/v1")), ("apps", "v1"));
        assert_eq!(group_version(&of("a/b/c")), ("*", "*"));
        assert_eq!(group_version(&Value::Null), ("*", "*"));
    }

    #[test]
    fn bindings_know_their_policies() {
        let of = |plural: &str| policies_of(resources::find(GROUP, "v1", plural).unwrap());
        for (policies, bindings) in KINDS {
            assert_eq!(of(bindings), Some(*policies));
            assert_eq!(of(policies), None);
        }
    }
}
