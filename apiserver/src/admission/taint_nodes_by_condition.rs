//! A new node takes no pods until its first heartbeat says that it is ready.

use schema::Object;
use serde_json::{Value, json};

use crate::admission::Admission;
use crate::status::ApiResult;

const TAINT: &str = "node.kubernetes.io/not-ready";

pub(super) fn mutate(admission: &Admission<'_>, node: &mut Object) -> ApiResult<()> {
    if !admission.creates("", "nodes") {
        return Ok(());
    }
    let mut taints: Vec<Value> = node
        .get_array(&["spec", "taints"])
        .cloned()
        .unwrap_or_default();
    let present = taints
        .iter()
        .any(|taint| taint["key"] == TAINT && taint["effect"] == "NoSchedule");
    if !present {
        taints.push(json!({ "key": TAINT, "effect": "NoSchedule" }));
        node.set(&["spec", "taints"], Value::Array(taints));
    }
    Ok(())
}
