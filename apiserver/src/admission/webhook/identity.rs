//! What a patched object still has to be: of the kind that was sent.

use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::Value;

use crate::decode::go_package;
use crate::status::{ApiError, ApiResult, quoted};

/// Keeps a patched object what it was. One whose kind is taken away has it still, another kind is refused as by Kubernetes,
/// which finds it out when it reads the object (that of a definition: when it validates it). One that empties `managedFields`
/// has removed it: an empty list of them is never written.
pub(in crate::admission) fn keep_identity(
    new: &mut Object,
    sent: &Object,
    is_custom: bool,
) -> ApiResult<()> {
    let is = |own: &str, wanted: &str| own.is_empty() || own == wanted;
    if is_custom {
        check_custom(new, sent)?;
    } else if !is(new.kind(), sent.kind()) || !is(new.api_version(), sent.api_version()) {
        check_built_in(new, sent)?;
    }
    new.set_api_version(sent.api_version());
    new.set_kind(sent.kind());
    let managed = new.get(&["metadata", "managedFields"]);
    if managed.and_then(Value::as_array).is_some_and(Vec::is_empty) {
        new.metadata_mut().remove("managedFields");
    }
    Ok(())
}

fn check_custom(new: &Object, sent: &Object) -> ApiResult<()> {
    let fields = [
        ("kind", new.kind(), sent.kind()),
        ("apiVersion", new.api_version(), sent.api_version()),
    ];
    let changed = fields.into_iter();
    let changed = changed.filter(|(_, own, wanted)| !own.is_empty() && own != wanted);
    let errors: Vec<FieldError> = changed
        .map(|(field, own, wanted)| {
            FieldError::invalid(&Path::new(field), own, format!("must be {wanted}"))
        })
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    let kind = filled(new.kind(), sent.kind());
    Err(ApiError::invalid(sent.group(), kind, new.name(), &errors))
}

fn filled<'a>(own: &'a str, wanted: &'a str) -> &'a str {
    if own.is_empty() { wanted } else { own }
}

/// The other kind is one of Kubernetes' own, which cannot become what is written, or none at all. Another version of the same
/// is let be.
fn check_built_in(new: &Object, sent: &Object) -> ApiResult<()> {
    let kind = filled(new.kind(), sent.kind());
    let api_version = filled(new.api_version(), sent.api_version());
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if resources::by_kind(group, version, kind).is_none() {
        let (kind, api_version) = (quoted(kind), quoted(api_version));
        return Err(ApiError::internal(format!(
            "no kind {kind} is registered for version {api_version} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        )));
    }
    if kind == sent.kind() && group == sent.group() {
        return Ok(());
    }
    let (package, wanted) = (go_package(sent.group()), sent.kind());
    Err(ApiError::unknown(format!(
        "converting ({version}.{kind}) to ({package}.{wanted}): unknown conversion"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: serde_json::Value) -> Object {
        Object::new(value).unwrap()
    }

    #[test]
    fn a_patched_object_has_no_empty_owners_and_its_kind() {
        let sent = object(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "a", "managedFields": [{"manager": "m"}]}}),
        );
        let mut new = object(json!({"metadata": {"name": "a", "managedFields": []}}));
        keep_identity(&mut new, &sent, false).unwrap();
        let kept = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        assert_eq!(new.value(), &kept);
        let mut new = sent.clone();
        keep_identity(&mut new, &sent, false).unwrap();
        assert_eq!(new, sent);
    }

    #[test]
    fn another_kind_is_refused_in_kubernetes_words() {
        let of = |api_version: &str, kind: &str| {
            object(json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}}))
        };
        let scheme = "in scheme \"pkg/api/legacyscheme/scheme.go:30\"";
        for (new, sent, custom, code, text) in [
            (
                of("v1", "Secret"),
                of("v1", "ConfigMap"),
                false,
                500,
                "converting (v1.Secret) to (core.ConfigMap): unknown conversion".to_owned(),
            ),
            (
                of("v7", "ConfigMap"),
                of("v1", "ConfigMap"),
                false,
                500,
                format!("Internal error occurred: no kind \"ConfigMap\" is registered for version \"v7\" {scheme}"),
            ),
            (
                of("a.b/v1", "Gadget"),
                of("a.b/v1", "Widget"),
                true,
                422,
                "Gadget.a.b \"a\" is invalid: kind: Invalid value: \"Gadget\": must be Widget".to_owned(),
            ),
            (
                of("a.b/v2", "Widget"),
                of("a.b/v1", "Widget"),
                true,
                422,
                "Widget.a.b \"a\" is invalid: apiVersion: Invalid value: \"a.b/v2\": must be a.b/v1".to_owned(),
            ),
        ] {
            let mut new = new;
            let error = keep_identity(&mut new, &sent, custom).unwrap_err();
            assert_eq!((error.code, error.message), (code, text));
        }
        let mut other = of("autoscaling/v2", "HorizontalPodAutoscaler");
        let sent = of("autoscaling/v1", "HorizontalPodAutoscaler");
        keep_identity(&mut other, &sent, false).unwrap();
        assert_eq!(other, sent);
    }
}
