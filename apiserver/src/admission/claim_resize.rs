//! PersistentVolumeClaimResize: a claim grows only where its storage class lets it.

use schema::Object;
use schema::quantity::Quantity;

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

pub(super) fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    let (Some(new), Some(old)) = (object, admission.old) else {
        return Ok(());
    };
    if admission.operation != Operation::Update
        || !admission.is("", "persistentvolumeclaims")
        || !admission.subresource.is_empty()
    {
        return Ok(());
    }
    let world = &admission.context.server.world;
    let grows = |class: &str| {
        let class = world.get("storage.k8s.io", "storageclasses", "", class);
        class.is_some_and(|class| class.object().get_bool(&["allowVolumeExpansion"]) == Some(true))
    };
    refusal(new, old, grows).map_or(Ok(()), |text| Err(admission.forbid(new, text)))
}

/// Why the claim may not become what it should; `grows` tells whether volumes of a class do.
fn refusal(new: &Object, old: &Object, grows: impl Fn(&str) -> bool) -> Option<&'static str> {
    let size = |claim: &Object| {
        let size = claim.get(&["spec", "resources", "requests", "storage"]);
        size.and_then(|size| Quantity::from_json(size).ok())
            .unwrap_or(Quantity::ZERO)
    };
    if size(new) <= size(old) {
        return None;
    }
    if old.get_str(&["status", "phase"]) != Some("Bound") {
        return Some("Only bound persistent volume claims can be expanded");
    }
    let class = |claim: &Object| {
        let by_annotation = claim.annotation("volume.beta.kubernetes.io/storage-class");
        let class = by_annotation.or(claim.get_str(&["spec", "storageClassName"]));
        class.unwrap_or_default().to_owned()
    };
    let name = class(new);
    if name.is_empty() || name != class(old) || !grows(&name) {
        return Some(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bound_claims_of_classes_that_expand_grow() {
        let claim = |size: &str, phase: &str, class: &str| {
            Object::new(json!({"spec": {"resources": {"requests": {"storage": size}}, "storageClassName": class}, "status": {"phase": phase}})).unwrap()
        };
        let refused = |new: &Object, old: &Object| refusal(new, old, |class| class == "elastic");
        let (small, large) = (
            claim("1Gi", "Bound", "elastic"),
            claim("2Gi", "Bound", "elastic"),
        );
        assert_eq!(refused(&large, &small), None);
        assert_eq!(refused(&small, &large), None);
        assert!(
            refused(&large, &claim("1Gi", "Pending", "elastic"))
                .unwrap()
                .starts_with("Only bound")
        );
        let (small, large) = (
            claim("1Gi", "Bound", "stiff"),
            claim("2Gi", "Bound", "stiff"),
        );
        assert!(
            refused(&large, &small)
                .unwrap()
                .starts_with("only dynamically")
        );
    }
}
