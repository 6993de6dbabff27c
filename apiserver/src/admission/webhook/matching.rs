//! Whether a webhook or a policy is asked about a request, and in which shape it gets the object.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::LazyLock;

use resources::{Handle, Resource};
use schema::Object;
use schema::selector::LabelSelector;

use super::hook::{Criteria, Rule, Subject};
use crate::admission::{Admission, Operation};
use crate::status::{ApiError, ApiResult};
use crate::world::World;

/// Kinds that no webhook judges: a broken one could not be taken away any more.
const EXEMPT: &[&str] = &[
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

pub(crate) fn is_exempt(resource: &Resource) -> bool {
    resource.group == "admissionregistration.k8s.io" && EXEMPT.contains(&&*resource.kind)
}

/// The resource in whose shape an object is seen.
#[derive(Clone)]
pub(crate) enum Shape<'a> {
    /// That of the request.
    Own(&'a Resource),
    /// Another one of the same objects.
    Other(Handle),
}

impl Deref for Shape<'_> {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        match self {
            Shape::Own(resource) => resource,
            Shape::Other(resource) => resource,
        }
    }
}

/// The shape in which it gets the object; none where it is not asked.
pub(crate) async fn shape<'a>(
    admission: &Admission<'a>,
    criteria: &Criteria,
    object: Option<&Object>,
) -> ApiResult<Option<Shape<'a>>> {
    let namespace = admission.namespace(object);
    let Some(shape) = by_rules(admission, criteria, namespace, object) else {
        return Ok(None);
    };
    if !objects_match(&criteria.objects, object, admission.old) {
        return Ok(None);
    }
    if !namespace_matches(admission, &criteria.namespaces, object, namespace).await? {
        return Ok(None);
    }
    Ok(Some(shape))
}

/// The shape that a rule names: the request's own, else another one of the same objects.
fn by_rules<'a>(
    admission: &Admission<'a>,
    criteria: &Criteria,
    namespace: &str,
    object: Option<&Object>,
) -> Option<Shape<'a>> {
    let own = admission.resource;
    if criteria.open && criteria.rules.is_empty() && criteria.excluded.is_empty() {
        return Some(Shape::Own(own));
    }
    let first = |rules: &[Rule], resource: &Resource| {
        let subject = Subject {
            group: &resource.group,
            version: &resource.version,
            plural: &resource.plural,
            subresource: admission.subresource,
            name: admission.name(object),
            namespace,
            operation: admission.operation,
        };
        rules.iter().position(|rule| rule.matches(&subject))
    };
    let excluded = |resource: &Resource| first(&criteria.excluded, resource).is_some();
    let others = || equivalents(&admission.context.server.world, own);
    if excluded(own) || criteria.equivalent && others().iter().any(|other| excluded(other)) {
        return None;
    }
    let named = |resource: &Resource| match criteria.open && criteria.rules.is_empty() {
        true => Some(0),
        false => first(&criteria.rules, resource),
    };
    if named(own).is_some() {
        return Some(Shape::Own(own));
    }
    if !criteria.equivalent {
        return None;
    }
    let others = others().into_iter();
    let others = others.filter_map(|other| Some((named(&other)?, other)));
    let first = others.min_by_key(|(rule, _)| *rule);
    first.map(|(_, other)| Shape::Other(other))
}

/// Other resources that show the same stored objects: the other group of events, other versions of a definition.
fn equivalents(world: &World, own: &Resource) -> Vec<Handle> {
    if own.custom.is_some() {
        let mut others = world.customs.of_group(&own.group);
        others.retain(|other| other.plural == own.plural && other.version != own.version);
        return others;
    }
    if own.is_virtual() {
        return Vec::new();
    }
    let name = (&*own.group, &*own.version, &*own.plural);
    BUILT_IN.get(&name).cloned().unwrap_or_default()
}

/// Group, version and plural.
type Name = (&'static str, &'static str, &'static str);

/// [`equivalents`] of the built-in resources that have some, by group, version and plural: found once, asked by each request.
static BUILT_IN: LazyLock<BTreeMap<Name, Vec<Handle>>> = LazyLock::new(|| {
    let stored = || resources::ALL.iter().filter(|one| !one.is_virtual());
    let of = |own: &Resource| {
        let prefix = resources::storage_prefix(own);
        let others = stored().filter(|other| {
            let is_own = other.group == own.group && other.version == own.version;
            !is_own && resources::storage_prefix(other) == prefix
        });
        others.map(Handle::from).collect::<Vec<_>>()
    };
    let all = stored().map(|own| ((&*own.group, &*own.version, &*own.plural), of(own)));
    all.filter(|(_, others)| !others.is_empty()).collect()
});

/// Either the new or the old object has the labels.
fn objects_match(selector: &LabelSelector, new: Option<&Object>, old: Option<&Object>) -> bool {
    selector.is_empty()
        || [new, old]
            .into_iter()
            .flatten()
            .any(|object| selector.matches(object.labels()))
}

async fn namespace_matches(
    admission: &Admission<'_>,
    selector: &LabelSelector,
    object: Option<&Object>,
    namespace: &str,
) -> ApiResult<bool> {
    if selector.is_empty() || namespace.is_empty() {
        return Ok(true);
    }
    // A Namespace that is being written is judged by its own new labels.
    if admission.is("", "namespaces")
        && admission.subresource.is_empty()
        && matches!(admission.operation, Operation::Create | Operation::Update)
        && let Some(object) = object
    {
        return Ok(selector.matches(object.labels()));
    }
    let server = &admission.context.server;
    let find = || server.world.get("", "namespaces", "", namespace);
    let found = match find() {
        None => {
            server.world.wait_most_recent(&*server.store).await?;
            find()
        }
        found => found,
    };
    match found {
        Some(entry) => Ok(selector.matches(entry.labels())),
        None => Err(ApiError::not_found("", "namespaces", namespace)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_the_same_in_both_groups() {
        let world = World::new(&resources::ALL, crate::Encryption::default());
        let equivalents = |plural: &str| {
            let own = resources::find("", "v1", plural).unwrap();
            equivalents(&world, own)
        };
        let others = equivalents("events");
        assert_eq!(others.len(), 1);
        assert_eq!(others[0].group, "events.k8s.io");
        assert!(equivalents("pods").is_empty());
    }

    #[test]
    fn labels_of_the_old_or_the_new_object() {
        let labelled =
            |value: &str| Object::new(json!({"metadata": {"labels": {"app": value}}})).unwrap();
        let selector =
            LabelSelector::from_object(Some(&json!({"matchLabels": {"app": "x"}}))).unwrap();
        let (x, y) = (labelled("x"), labelled("y"));
        assert!(objects_match(&selector, Some(&x), None));
        assert!(objects_match(&selector, Some(&y), Some(&x)));
        assert!(!objects_match(&selector, Some(&y), Some(&y)));
        assert!(!objects_match(&selector, None, None));
        assert!(objects_match(&LabelSelector::everything(), None, None));
    }

    #[test]
    fn configurations_are_exempt() {
        let exempt = |plural: &str| {
            is_exempt(resources::find("admissionregistration.k8s.io", "v1", plural).unwrap())
        };
        assert!(exempt("validatingwebhookconfigurations"));
        assert!(exempt("mutatingadmissionpolicies"));
        assert!(!is_exempt(resources::find("", "v1", "pods").unwrap()));
    }
}
