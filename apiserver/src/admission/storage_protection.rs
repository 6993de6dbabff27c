//! StorageObjectInUseProtection: claims and volumes get the finalizer that holds them while they are in use. A controller
//! takes it away.

use schema::Object;

use crate::admission::Admission;
use crate::status::ApiResult;

const FINALIZERS: &[(&str, &str)] = &[
    ("persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("persistentvolumes", "kubernetes.io/pv-protection"),
];

pub(super) fn mutate(admission: &Admission<'_>, object: &mut Object) -> ApiResult<()> {
    for (plural, finalizer) in FINALIZERS {
        if admission.creates("", plural) {
            protect(object, finalizer);
        }
    }
    Ok(())
}

fn protect(object: &mut Object, finalizer: &str) {
    let mut all: Vec<String> = object.finalizers().into_iter().map(str::to_owned).collect();
    if !all.iter().any(|name| name == finalizer) {
        all.push(finalizer.to_owned());
        object.set_finalizers(&all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_finalizer_is_enough() {
        let mut claim = Object::new(json!({"metadata": {"finalizers": ["x/y"]}})).unwrap();
        protect(&mut claim, "a/b");
        protect(&mut claim, "a/b");
        assert_eq!(claim.finalizers(), ["x/y", "a/b"]);
    }
}
