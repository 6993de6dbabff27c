//! Names of resources - cpu, storage, pods, example.com/gpu - and what holds for amounts of each.

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use schema::quantity::Quantity;
use serde_json::Value;

use super::{amount, complain};

/// What containers can ask for by a name of Kubernetes' own.
const OF_CONTAINERS: &[&str] = &["cpu", "ephemeral-storage", "memory"];

/// Objects and ports that are counted, so that no part of one makes sense.
const COUNTED: &[&str] = &[
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

/// Computing power and space, as quotas count them.
const COMPUTED: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
];

/// Huge pages of one size.
pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// A resource that Kubernetes defines.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource that somebody else defines, in a form that quotas can count.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::is_qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether a container may be promised less than it may use.
pub(crate) fn may_be_overcommitted(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Whether amounts are numbers of things.
pub(crate) fn is_whole(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// A resource of Kubernetes that a quota can limit.
pub(crate) fn is_of_quotas(name: &str) -> bool {
    OF_CONTAINERS.contains(&name)
        || COUNTED.contains(&name)
        || COMPUTED.contains(&name)
        || is_huge_page(name.strip_prefix("requests.").unwrap_or(name))
}

/// Any resource. False when the name has not even the form of one.
pub(crate) fn any(name: &str, path: &Path, errors: &mut ErrorList) -> bool {
    let messages = names::is_qualified_name(name);
    if !messages.is_empty() {
        complain(messages, path, name, errors);
        return false;
    }
    let is_known = name.contains('/') || name == "storage" || is_of_quotas(name);
    if !is_known {
        let detail = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(path, name, detail));
    }
    is_known
}

/// A resource that a container asks for.
pub(crate) fn of_container(name: &str, path: &Path, errors: &mut ErrorList) {
    any(name, path, errors);
    let detail = if !name.contains('/') {
        if OF_CONTAINERS.contains(&name) || is_huge_page(name) {
            return;
        }
        "must be a standard resource for containers"
    } else if is_native(name) || is_extended(name) {
        return;
    } else {
        "doesn't follow extended resource name standard"
    };
    errors.push(FieldError::invalid(path, name, detail));
}

/// A resource that a pod asks for as a whole.
pub(crate) fn of_pod(name: &str, path: &Path, errors: &mut ErrorList) {
    if any(name, path, errors) && !is_of_whole_pods(name) {
        let supported = ["cpu", "hugepages-", "memory"];
        errors.push(FieldError::not_supported(path, name, &supported));
    }
}

/// Whether a pod can ask for it as a whole.
pub(crate) fn is_of_whole_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

/// A resource that a quota limits.
pub(crate) fn of_quota(name: &str, path: &Path, errors: &mut ErrorList) {
    any(name, path, errors);
    if !name.contains('/') && !is_of_quotas(name) {
        let detail = "must be a standard resource for quota";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

/// An amount of a resource: not negative, and whole where it is a number of things.
pub(crate) fn value(
    name: &str,
    value: &Value,
    path: &Path,
    errors: &mut ErrorList,
) -> Option<Quantity> {
    let quantity = amount(value, path, errors)?;
    if is_whole(name) && quantity.milli_value() % 1000 != 0 {
        errors.push(FieldError::invalid(
            path,
            quantity.to_string(),
            "must be an integer",
        ));
    }
    Some(quantity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_somebody() {
        let errors = |rule: fn(&str, &Path, &mut ErrorList), name: &str| -> Vec<String> {
            let mut errors = ErrorList::new();
            rule(name, &Path::new("r"), &mut errors);
            errors.iter().map(ToString::to_string).collect()
        };
        for name in ["cpu", "hugepages-2Mi", "example.com/gpu", "kubernetes.io/x"] {
            assert!(errors(of_container, name).is_empty(), "{name}");
        }
        assert_eq!(
            errors(of_container, "gpu"),
            [
                "r: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                "r: Invalid value: \"gpu\": must be a standard resource for containers"
            ]
        );
        assert_eq!(
            errors(of_container, "pods"),
            ["r: Invalid value: \"pods\": must be a standard resource for containers"]
        );
        assert_eq!(
            errors(of_container, "requests.example.com/gpu"),
            [
                "r: Invalid value: \"requests.example.com/gpu\": doesn't follow extended resource name standard"
            ]
        );
        assert_eq!(
            errors(of_pod, "ephemeral-storage"),
            [
                "r: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\""
            ]
        );
        for name in [
            "pods",
            "requests.hugepages-1Gi",
            "count/jobs.batch",
            "limits.cpu",
        ] {
            assert!(errors(of_quota, name).is_empty(), "{name}");
        }
        assert_eq!(
            errors(of_quota, "requests.pods"),
            [
                "r: Invalid value: \"requests.pods\": must be a standard resource type or fully qualified",
                "r: Invalid value: \"requests.pods\": must be a standard resource for quota"
            ]
        );
    }
}
