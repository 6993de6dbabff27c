//! A claim that names no storage class gets the default one, if there is one.

use schema::Object;

use crate::admission::Admission;
use crate::status::ApiResult;

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const DEFAULT_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";

pub(super) fn mutate(admission: &Admission<'_>, claim: &mut Object) -> ApiResult<()> {
    let unset = claim
        .get(&["spec", "storageClassName"])
        .is_none_or(serde_json::Value::is_null);
    if !admission.creates("", "persistentvolumeclaims") || !unset {
        return Ok(());
    }
    let classes = admission
        .context
        .server
        .world
        .list("storage.k8s.io", "storageclasses", "");
    let default = classes
        .iter()
        .map(|entry| entry.object())
        .filter(|class| {
            class.annotation(DEFAULT) == Some("true")
                || class.annotation(DEFAULT_BETA) == Some("true")
        })
        // The newest default counts where there are several.
        .max_by(|a, b| {
            a.creation_timestamp()
                .cmp(&b.creation_timestamp())
                .then(b.name().cmp(a.name()))
        });
    if let Some(class) = default {
        claim.set(&["spec", "storageClassName"], class.name());
    }
    Ok(())
}
