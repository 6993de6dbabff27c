//! DefaultIngressClass: an Ingress that names no class gets the default one, if there is one.

use schema::Object;

use crate::admission::Admission;
use crate::status::ApiResult;

const GROUP: &str = "networking.k8s.io";
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// The name of a class as it was given before there were classes.
const OLD_NAME: &str = "kubernetes.io/ingress.class";

pub(super) fn mutate(admission: &Admission<'_>, ingress: &mut Object) -> ApiResult<()> {
    let named = ingress.get_str(&["spec", "ingressClassName"]).is_some()
        || ingress.annotation(OLD_NAME).is_some();
    if named || !admission.creates(GROUP, "ingresses") {
        return Ok(());
    }
    let classes = admission
        .context
        .server
        .world
        .list(GROUP, "ingressclasses", "");
    let classes: Vec<Object> = classes.iter().map(|entry| entry.object()).collect();
    if let Some(class) = default(&classes) {
        ingress.set(&["spec", "ingressClassName"], class.name());
    }
    Ok(())
}

/// The newest default counts where there are several, and of these the first by name.
fn default(classes: &[Object]) -> Option<&Object> {
    classes
        .iter()
        .filter(|class| class.annotation(DEFAULT) == Some("true"))
        .max_by(|a, b| {
            a.creation_timestamp()
                .cmp(&b.creation_timestamp())
                .then(b.name().cmp(a.name()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_default_counts() {
        let class = |name: &str, default: &str, at: &str| {
            Object::new(json!({"metadata": {"name": name, "creationTimestamp": at, "annotations": {DEFAULT: default}}})).unwrap()
        };
        let classes = [
            class("b", "true", "2026-01-02T00:00:00Z"),
            class("a", "true", "2026-01-02T00:00:00Z"),
            class("old", "true", "2026-01-01T00:00:00Z"),
            class("new", "false", "2026-01-03T00:00:00Z"),
        ];
        assert_eq!(default(&classes).map(Object::name), Some("a"));
        assert!(default(&classes[3..]).is_none());
    }
}
