//! Defaults must be what the schema demands, and have no field that it does not know.

use crate::field::{ErrorList, FieldError, Path};
use crate::structural::node::Node;
use crate::structural::{embedded, prune, validate};

/// Checks the defaults of a schema and of all below it.
pub(super) fn check(node: &Node, path: &Path, errors: &mut ErrorList) {
    if let Some(default) = node.default.as_deref() {
        let path = path.child("default");
        let mut pruned = default.clone();
        prune::prune(node, &mut pruned);
        if pruned != *default {
            let detail = "must not have unknown fields";
            errors.push(FieldError::invalid(&path, default.clone(), detail));
        }
        let before = errors.len();
        embedded::resources(node, default, &path, errors);
        if errors.len() == before {
            errors.extend(validate::values(node, default, None, Some(&path)));
        }
    }
    // There are none below `additionalProperties` that could be set.
    if let Some(items) = &node.items {
        check(items, &path.child("items"), errors);
    }
    for property in &node.properties {
        check(
            &property.node,
            &path.child("properties").key(&property.name),
            errors,
        );
    }
}
