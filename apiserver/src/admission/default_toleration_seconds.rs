//! Pods stay five minutes on a node that is not ready or not reachable, unless they say otherwise.

use std::sync::LazyLock;

use schema::Object;
use serde_json::{Value, json};

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

const SECONDS: i64 = 300;
const TAINTS: &[&str] = &[
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

/// Those of [`TAINTS`]: nearly every pod gets a copy of both.
static TOLERATIONS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let of = |taint: &&str| json!({ "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS });
    TAINTS.iter().map(of).collect()
});

/// Also with an update: who replaces the tolerations by others has these again.
pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Object) -> ApiResult<()> {
    let applies = admission.is("", "pods")
        && matches!(admission.operation, Operation::Create | Operation::Update)
        && admission.subresource.is_empty();
    if applies {
        add(pod);
    }
    Ok(())
}

fn add(pod: &mut Object) {
    const PATH: &[&str] = &["spec", "tolerations"];
    let present = pod.get_array(PATH).map_or(&[][..], Vec::as_slice);
    let tolerated = |taint: &str| {
        present.iter().any(|toleration| {
            let text = |field: &str| {
                toleration
                    .get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let key = text("key") == taint || text("key").is_empty();
            key && (text("effect") == "NoExecute" || text("effect").is_empty())
        })
    };
    let missing: Vec<Value> = TAINTS
        .iter()
        .zip(&*TOLERATIONS)
        .filter(|(taint, _)| !tolerated(taint))
        .map(|(_, toleration)| toleration.clone())
        .collect();
    if missing.is_empty() {
        return;
    }
    match pod.get_mut(PATH).and_then(Value::as_array_mut) {
        Some(present) => present.extend(missing),
        None => pod.set(PATH, Value::Array(missing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_tolerated_yet_is_added() {
        let mut pod = Object::new(
            json!({"spec": {"tolerations": [{"key": TAINTS[0], "operator": "Exists"}]}}),
        )
        .unwrap();
        add(&mut pod);
        let list = pod.get_array(&["spec", "tolerations"]).unwrap();
        let added = json!({"key": TAINTS[1], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        assert_eq!((list.len(), &list[1]), (2, &added));
        let mut pod =
            Object::new(json!({"spec": {"tolerations": [{"operator": "Exists"}]}})).unwrap();
        add(&mut pod);
        assert_eq!(pod.get_array(&["spec", "tolerations"]).unwrap().len(), 1);
    }
}
