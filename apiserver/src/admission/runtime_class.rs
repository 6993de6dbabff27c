//! RuntimeClass: a pod gets the overhead of its runtime class, and runs where that class can.

use schema::Object;
use schema::quantity::Quantity;
use serde_json::{Map, Value};

use crate::admission::Admission;
use crate::context::Context;
use crate::status::ApiResult;

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn class_name(pod: &Object) -> Option<&str> {
    pod.get_str(&["spec", "runtimeClassName"])
        .filter(|name| !name.is_empty())
}

fn find(context: &Context, name: &str) -> Option<Object> {
    let world = &context.server.world;
    let entry = world.get("node.k8s.io", "runtimeclasses", "", name)?;
    Some(entry.object())
}

/// The class may have been made a moment ago through another member.
pub(super) async fn prefetch(context: &Context, object: &Object) -> ApiResult<()> {
    if object.kind() == "Pod"
        && let Some(name) = class_name(object)
        && find(context, name).is_none()
    {
        let server = &context.server;
        server.world.wait_most_recent(&*server.store).await?;
    }
    Ok(())
}

pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Object) -> ApiResult<()> {
    if !admission.creates("", "pods") {
        return Ok(());
    }
    let Some(name) = class_name(pod) else {
        return Ok(());
    };
    let Some(class) = find(admission.context, name) else {
        let text = format!("pod rejected: RuntimeClass {name:?} not found");
        return Err(admission.forbid(pod, &text));
    };
    apply(&class, pod).map_err(|text| admission.forbid(pod, &text))
}

pub(super) fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    let Some(pod) = object.filter(|_| admission.creates("", "pods")) else {
        return Ok(());
    };
    let class = class_name(pod).and_then(|name| find(admission.context, name));
    let fixed = class.as_ref().and_then(pod_fixed);
    let own = pod.get_object(&["spec", "overhead"]);
    match (fixed, own.filter(|own| !own.is_empty())) {
        (None, None) => Ok(()),
        (Some(fixed), Some(own)) if same(fixed, own) => Ok(()),
        (Some(_), _) => Err(admission.forbid(pod, MISMATCH)),
        (None, Some(_)) => Err(admission.forbid(
            pod,
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        )),
    }
}

fn pod_fixed(class: &Object) -> Option<&Map<String, Value>> {
    class
        .get_object(&["overhead", "podFixed"])
        .filter(|fixed| !fixed.is_empty())
}

/// Equal amounts, however they are written.
fn same(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len()
        && a.iter().all(|(name, amount)| {
            let other = b.get(name).map(Quantity::from_json);
            matches!((Quantity::from_json(amount), other), (Ok(a), Some(Ok(b))) if a == b)
        })
}

/// Puts into the pod what its class says.
fn apply(class: &Object, pod: &mut Object) -> Result<(), String> {
    if let Some(fixed) = pod_fixed(class) {
        let own = pod.get_object(&["spec", "overhead"]);
        if own.is_some_and(|own| !own.is_empty() && !same(own, fixed)) {
            return Err(MISMATCH.to_owned());
        }
        pod.set(&["spec", "overhead"], Value::Object(fixed.clone()));
    }
    if let Some(wanted) = class.get_object(&["scheduling", "nodeSelector"]) {
        let own = pod.get_object(&["spec", "nodeSelector"]);
        let mut selector = own.cloned().unwrap_or_default();
        for (key, value) in wanted {
            match selector.get(key) {
                Some(own) if own != value => {
                    let (own, value) = (plain(own), plain(value));
                    return Err(format!(
                        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
                    ));
                }
                _ => {
                    selector.insert(key.clone(), value.clone());
                }
            }
        }
        if !selector.is_empty() {
            pod.set(&["spec", "nodeSelector"], Value::Object(selector));
        }
    }
    if let Some(tolerations) = class.get_array(&["scheduling", "tolerations"]) {
        let own = pod.get_array(&["spec", "tolerations"]);
        let mut all = own.cloned().unwrap_or_default();
        for toleration in tolerations {
            if !all.contains(toleration) {
                all.push(toleration.clone());
            }
        }
        pod.set(&["spec", "tolerations"], Value::Array(all));
    }
    Ok(())
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_gets_what_its_class_says() {
        let class = Object::new(json!({
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k"}]}
        }))
        .unwrap();
        let applied = |spec: Value| {
            let mut pod = Object::new(json!({ "spec": spec })).unwrap();
            apply(&class, &mut pod).map(|()| pod.get(&["spec"]).cloned().unwrap())
        };
        assert_eq!(
            applied(json!({"nodeSelector": {"c": "d"}, "tolerations": [{"key": "k"}]})).unwrap(),
            json!({"overhead": {"cpu": "250m"}, "nodeSelector": {"a": "b", "c": "d"}, "tolerations": [{"key": "k"}]})
        );
        assert!(applied(json!({"overhead": {"cpu": "0.25"}})).is_ok());
        assert_eq!(
            applied(json!({"overhead": {"cpu": "1"}})).unwrap_err(),
            MISMATCH
        );
        assert_eq!(
            applied(json!({"nodeSelector": {"a": "c"}})).unwrap_err(),
            "conflict: runtimeClass.scheduling.nodeSelector[a] = b; pod.spec.nodeSelector[a] = c"
        );
    }
}
