//! Roles and bindings.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};

use super::{items, label_selector, require};
use crate::look::Look;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Role.
pub(crate) fn role(object: &Object, errors: &mut ErrorList) {
    rules(object, true, errors);
}

/// ClusterRole, which may be put together from others.
pub(crate) fn cluster_role(object: &Object, errors: &mut ErrorList) {
    rules(object, false, errors);
    let aggregation = object.at("aggregationRule");
    if aggregation.is_object() {
        let path = Path::new("aggregationRule");
        if aggregation.list("clusterRoleSelectors").is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.push(FieldError::required(
                &path.child("clusterRoleSelectors"),
                detail,
            ));
        }
        for (path, selector) in items(aggregation, "clusterRoleSelectors", &path) {
            label_selector(selector, &path, errors);
        }
    }
}

fn rules(object: &Object, namespaced: bool, errors: &mut ErrorList) {
    for (path, rule) in items(object, "rules", &Path::root()) {
        if rule.list("verbs").is_empty() {
            errors.push(FieldError::required(
                &path.child("verbs"),
                "verbs must contain at least one value",
            ));
        }
        let urls = rule.list("nonResourceURLs");
        if !urls.is_empty() {
            let urls_path = path.child("nonResourceURLs");
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(&urls_path, urls.to_vec(), detail));
            }
            let named = ["apiGroups", "resources", "resourceNames"]
                .iter()
                .any(|field| !rule.list(field).is_empty());
            if named {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(&urls_path, urls.to_vec(), detail));
            }
            continue;
        }
        if rule.list("apiGroups").is_empty() {
            let detail = "resource rules must supply at least one api group";
            errors.push(FieldError::required(&path.child("apiGroups"), detail));
        }
        if rule.list("resources").is_empty() {
            let detail = "resource rules must supply at least one resource";
            errors.push(FieldError::required(&path.child("resources"), detail));
        }
    }
}

/// RoleBinding.
pub(crate) fn role_binding(object: &Object, errors: &mut ErrorList) {
    binding(object, &["Role", "ClusterRole"], errors);
}

/// ClusterRoleBinding.
pub(crate) fn cluster_role_binding(object: &Object, errors: &mut ErrorList) {
    binding(object, &["ClusterRole"], errors);
}

fn binding(object: &Object, kinds: &[&str], errors: &mut ErrorList) {
    let (role, path) = (object.at("roleRef"), Path::new("roleRef"));
    if role.text("apiGroup") != GROUP {
        errors.push(FieldError::not_supported(
            &path.child("apiGroup"),
            role.text("apiGroup"),
            &[GROUP],
        ));
    }
    if !kinds.contains(&role.text("kind")) {
        errors.push(FieldError::not_supported(
            &path.child("kind"),
            role.text("kind"),
            kinds,
        ));
    }
    if require(role, "name", &path, errors) {
        let name = role.text("name");
        super::complain(
            schema::names::is_valid_path_segment_name(name),
            &path.child("name"),
            name,
            errors,
        );
    }
    for (path, subject) in items(object, "subjects", &Path::root()) {
        require(subject, "name", &path, errors);
        let group = subject.text("apiGroup");
        match subject.text("kind") {
            "ServiceAccount" => {
                let name = subject.text("name");
                if !name.is_empty() {
                    super::complain(
                        schema::names::is_dns1123_subdomain(name),
                        &path.child("name"),
                        name,
                        errors,
                    );
                }
                if !group.is_empty() {
                    errors.push(FieldError::not_supported(
                        &path.child("apiGroup"),
                        group,
                        &[""],
                    ));
                }
                let needs_namespace = subject.text("namespace").is_empty();
                if needs_namespace && object.kind() == "ClusterRoleBinding" {
                    errors.push(FieldError::required(&path.child("namespace"), ""));
                }
            }
            kind @ ("User" | "Group") => {
                if subject.text("name").is_empty() {
                    let detail = format!("{} name cannot be empty", kind.to_lowercase());
                    errors.push(FieldError::invalid(&path.child("name"), "", detail));
                }
                if group != GROUP {
                    errors.push(FieldError::not_supported(
                        &path.child("apiGroup"),
                        group,
                        &[GROUP],
                    ));
                }
            }
            kind => errors.push(FieldError::not_supported(
                &path.child("kind"),
                kind,
                &["ServiceAccount", "User", "Group"],
            )),
        }
    }
}

/// What is bound never changes; delete the binding and make another.
pub(crate) fn binding_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    if new.at("roleRef") != old.at("roleRef") {
        let role = new.at("roleRef").clone();
        errors.push(FieldError::invalid(
            &Path::new("roleRef"),
            role,
            "cannot change roleRef",
        ));
    }
}
