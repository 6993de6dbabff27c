//! CustomResourceDefinitions: what their status says, decided from the definition and the names that others have.

use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::{Map, Value, json};

use crate::look::{Look, spec};

pub const ESTABLISHED: &str = "Established";
pub const NAMES_ACCEPTED: &str = "NamesAccepted";
pub const TERMINATING: &str = "Terminating";
const APPROVED: &str = "KubernetesAPIApprovalPolicyConformant";
/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
const APPROVAL: &str = "api-approved.kubernetes.io";
const APPROVAL_HELP: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

/// Names of one sort must be unique in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sort {
    /// Plural, singular and short names.
    Resource,
    /// Kind and kind of the list.
    Kind,
}

/// The names that a definition holds.
pub fn accepted(object: &Object) -> Vec<(Sort, String)> {
    let names = object.at("status").at("acceptedNames");
    let one = |sort: Sort, key: &str| (sort, names.text(key).to_owned());
    let mut list = vec![
        one(Sort::Resource, "plural"),
        one(Sort::Resource, "singular"),
        one(Sort::Kind, "kind"),
        one(Sort::Kind, "listKind"),
    ];
    let short = names.texts("shortNames");
    list.extend(
        short
            .iter()
            .map(|name| (Sort::Resource, (*name).to_owned())),
    );
    list.retain(|(_, name)| !name.is_empty());
    list.sort_unstable();
    list.dedup();
    list
}

/// Decides names and conditions. `taken` tells whether another definition of the group holds a name; `now` in RFC 3339.
/// Does nothing where everything is decided already.
pub fn settle(object: &mut Object, taken: &dyn Fn(Sort, &str) -> bool, now: &str) {
    let (names, condition) = names(object, taken);
    let accepted = condition.status == "True";
    object.set(&["status", "acceptedNames"], names);
    put(object, condition, now);
    let established = object.condition_status(ESTABLISHED) == Some("True");
    let condition = match (established, accepted) {
        (true, _) => None,
        (false, true) => Some(Condition::new(
            ESTABLISHED,
            "True",
            "InitialNamesAccepted",
            "the initial names have been accepted",
        )),
        (false, false) => Some(Condition::new(
            ESTABLISHED,
            "False",
            "NotAccepted",
            "not all names are accepted",
        )),
    };
    if let Some(condition) = condition {
        put(object, condition, now);
    }
    if let Some(condition) = approval(object) {
        put(object, condition, now);
    }
}

/// Begins the deletion of all objects.
pub fn terminate(object: &mut Object, now: &str) {
    let mut finalizers: Vec<String> = object.finalizers().into_iter().map(str::to_owned).collect();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
        object.set_finalizers(&finalizers);
    }
    let text =
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    put(
        object,
        Condition::new(TERMINATING, "True", "InstanceDeletionPending", text),
        now,
    );
}

/// Ends it: the objects are gone, and the definition may go.
pub fn finish(object: &mut Object, now: &str) {
    let finalizers: Vec<String> = object
        .finalizers()
        .into_iter()
        .filter(|name| *name != FINALIZER)
        .map(str::to_owned)
        .collect();
    object.set_finalizers(&finalizers);
    let text = "removed all instances";
    put(
        object,
        Condition::new(TERMINATING, "False", "InstanceDeletionCompleted", text),
        now,
    );
}

/// Whether the deletion of the objects is to be done.
pub fn is_terminating(object: &Object) -> bool {
    object.deletion_timestamp().is_some() && object.finalizers().contains(&FINALIZER)
}

/// Whether a name was refused that may be free by now.
pub fn is_refused(object: &Object) -> bool {
    object.condition_status(NAMES_ACCEPTED) != Some("True")
}

struct Condition {
    ty: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn new(
        ty: &'static str,
        status: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Condition {
        Condition {
            ty,
            status,
            reason,
            message: message.into(),
        }
    }
}

/// Puts a condition in the place of the one of its type; the time is that of the last change of its status.
fn put(object: &mut Object, condition: Condition, now: &str) {
    let mut list = object
        .get_array(&["status", "conditions"])
        .cloned()
        .unwrap_or_default();
    let mut value = json!({"type": condition.ty, "status": condition.status, "lastTransitionTime": now,
        "reason": condition.reason, "message": condition.message});
    match list
        .iter_mut()
        .find(|present| present["type"] == condition.ty)
    {
        Some(present) => {
            if present["status"] == condition.status && present.has("lastTransitionTime") {
                value["lastTransitionTime"] = present["lastTransitionTime"].clone();
            }
            *present = value;
        }
        None => list.push(value),
    }
    object.set(&["status", "conditions"], Value::Array(list));
}

fn names(object: &Object, taken: &dyn Fn(Sort, &str) -> bool) -> (Value, Condition) {
    let wanted = spec(object).at("names");
    let held = object.at("status").at("acceptedNames");
    let mut names: Map<String, Value> = held.as_object().cloned().unwrap_or_default();
    let mut refusal = None;
    for (key, sort, reason) in [
        ("plural", Sort::Resource, "PluralConflict"),
        ("singular", Sort::Resource, "SingularConflict"),
        ("shortNames", Sort::Resource, "ShortNamesConflict"),
        ("kind", Sort::Kind, "KindConflict"),
        ("listKind", Sort::Kind, "ListKindConflict"),
    ] {
        let present = held.texts(key);
        let (list, present) = match key {
            "shortNames" => (wanted.texts(key), present),
            _ => (vec![wanted.text(key)], vec![held.text(key)]),
        };
        let lost: Vec<String> = list
            .iter()
            .filter(|name| !present.contains(*name) && taken(sort, name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        match lost.as_slice() {
            [] if wanted.has(key) => {
                names.insert(key.to_owned(), wanted.at(key).clone());
            }
            [] => {
                names.remove(key);
            }
            [one] => refusal = Some((reason, one.clone())),
            several => refusal = Some((reason, format!("[{}]", several.join(", ")))),
        }
    }
    match wanted.at("categories") {
        Value::Null => names.remove("categories"),
        categories => names.insert("categories".to_owned(), categories.clone()),
    };
    let condition = match refusal {
        None => Condition::new(NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found"),
        Some((reason, text)) => Condition::new(NAMES_ACCEPTED, "False", reason, text),
    };
    (Value::Object(names), condition)
}

/// Whether a group is Kubernetes' own.
fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|own| {
        group
            .strip_suffix(own)
            .is_some_and(|head| head.is_empty() || head.ends_with('.'))
    })
}

/// What Kubernetes says about definitions in its own groups.
fn approval(object: &Object) -> Option<Condition> {
    if !is_protected(spec(object).text("group")) {
        return None;
    }
    let needs = format!("protected groups must have approval annotation {APPROVAL:?}");
    let text = object.annotation(APPROVAL).unwrap_or_default();
    let is_url = text.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/')
    });
    let (status, reason, message) = match text {
        "" => (
            "False",
            "MissingAnnotation",
            format!("{needs}, {APPROVAL_HELP}"),
        ),
        text if text.starts_with("unapproved") => (
            "False",
            "UnapprovedAnnotation",
            format!("not approved: {text:?}"),
        ),
        text if is_url => ("True", "ApprovedAnnotation", format!("approved in {text}")),
        _ => (
            "False",
            "InvalidAnnotation",
            format!(
                "{needs} with either a URL or a reason starting with \"unapproved\", {APPROVAL_HELP}"
            ),
        ),
    };
    Some(Condition::new(APPROVED, status, reason, message))
}

/// What a new definition in one of Kubernetes' groups lacks; none where nothing.
pub(crate) fn approval_problem(object: &Object, path: &Path) -> Option<FieldError> {
    let condition = approval(object)?;
    match condition.reason {
        "MissingAnnotation" => Some(FieldError::required(path, condition.message)),
        "InvalidAnnotation" => {
            let text = object.annotation(APPROVAL).unwrap_or_default();
            Some(FieldError::invalid(path, text, condition.message))
        }
        _ => None,
    }
}

/// The versions in which objects may be stored: the present one comes to those of before.
pub(crate) fn add_stored_version(object: &mut Object) {
    let storage = spec(object)
        .list("versions")
        .iter()
        .find(|version| version.flag("storage"));
    let Some(storage) = storage.map(|version| version.at("name").clone()) else {
        return;
    };
    let mut stored = object.at("status").list("storedVersions").to_vec();
    if !stored.contains(&storage) {
        stored.push(storage);
        object.set(&["status", "storedVersions"], stored);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(names: Value) -> Object {
        Object::new(
            json!({"metadata": {"name": "as.x.io"}, "spec": {"group": "x.io", "names": names}}),
        )
        .unwrap()
    }

    fn names(plural: &str, short: &[&str]) -> Value {
        json!({"plural": plural, "singular": "a", "kind": "A", "listKind": "AList", "shortNames": short})
    }

    #[test]
    fn free_names_establish_at_once() {
        let mut object = crd(names("as", &["s"]));
        settle(&mut object, &|_, _| false, "T");
        assert_eq!(
            object.at("status").at("acceptedNames"),
            object.get(&["spec", "names"]).unwrap()
        );
        assert_eq!(
            object.condition(NAMES_ACCEPTED).unwrap()["reason"],
            "NoConflicts"
        );
        assert_eq!(
            object.condition(ESTABLISHED).unwrap()["reason"],
            "InitialNamesAccepted"
        );
        assert!(object.condition(APPROVED).is_none());
        let before = object.clone();
        settle(&mut object, &|_, _| false, "later");
        assert_eq!(object, before, "nothing is decided twice");
        assert_eq!(accepted(&object).len(), 5);
    }

    #[test]
    fn names_of_others_are_refused_and_may_come_free() {
        let mut object = crd(names("as", &["s", "t", "u"]));
        let taken = |sort: Sort, name: &str| sort == Sort::Resource && matches!(name, "s" | "t");
        settle(&mut object, &taken, "T");
        let refused = object.condition(NAMES_ACCEPTED).unwrap();
        assert_eq!(
            (&refused["status"], &refused["reason"]),
            (&json!("False"), &json!("ShortNamesConflict"))
        );
        assert_eq!(
            refused["message"],
            "[\"s\" is already in use, \"t\" is already in use]"
        );
        assert_eq!(
            object.condition(ESTABLISHED).unwrap()["reason"],
            "NotAccepted"
        );
        assert_eq!(object.get(&["status", "acceptedNames", "shortNames"]), None);
        assert!(is_refused(&object));
        settle(&mut object, &|_, _| false, "later");
        assert_eq!(
            object.condition(ESTABLISHED).unwrap()["lastTransitionTime"],
            "later"
        );
    }

    #[test]
    fn what_is_established_stays_so() {
        let mut object = crd(names("as", &["s"]));
        settle(&mut object, &|_, _| false, "T");
        object.set(&["spec", "names", "shortNames"], json!(["s", "z"]));
        settle(&mut object, &|_, name| name == "z" || name == "s", "later");
        assert_eq!(object.condition_status(NAMES_ACCEPTED), Some("False"));
        assert_eq!(object.condition_status(ESTABLISHED), Some("True"));
        assert_eq!(
            object.get(&["status", "acceptedNames", "shortNames"]),
            Some(&json!(["s"]))
        );
    }

    #[test]
    fn groups_of_kubernetes_want_an_approval() {
        for (text, status, reason) in [
            ("", "False", "MissingAnnotation"),
            ("unapproved, experimental", "False", "UnapprovedAnnotation"),
            (
                "https://github.com/kubernetes/kubernetes/pull/1",
                "True",
                "ApprovedAnnotation",
            ),
            ("yes", "False", "InvalidAnnotation"),
        ] {
            let mut object = crd(names("as", &[]));
            object.set(&["spec", "group"], "a.k8s.io");
            object.set_annotation(APPROVAL, text);
            settle(&mut object, &|_, _| false, "T");
            let condition = object.condition(APPROVED).unwrap();
            assert_eq!(
                (&condition["status"], &condition["reason"]),
                (&json!(status), &json!(reason)),
                "{text}"
            );
        }
        assert!(
            is_protected("k8s.io") && is_protected("a.kubernetes.io") && !is_protected("ak8s.io")
        );
    }

    #[test]
    fn deletion_waits_for_the_objects() {
        let mut object = crd(names("as", &[]));
        terminate(&mut object, "T");
        assert_eq!(object.finalizers(), [FINALIZER]);
        assert_eq!(object.condition_status(TERMINATING), Some("True"));
        finish(&mut object, "later");
        assert_eq!(object.finalizers(), [] as [&str; 0]);
        assert_eq!(object.condition_status(TERMINATING), Some("False"));
    }
}
