//! A node writes only what is its own.

use auth::node_restriction::{self, Operation as NodeOperation, Write};
use schema::Object;
use serde_json::Value;

use crate::admission::{Admission, Operation};
use crate::status::ApiResult;

pub(super) fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    let context = admission.context;
    if context.user.node_identity().is_none() {
        return Ok(());
    }
    let new = object.map_or(&Value::Null, Object::value);
    let write = Write {
        operation: match admission.operation {
            Operation::Create => NodeOperation::Create,
            Operation::Update => NodeOperation::Update,
            Operation::Delete => NodeOperation::Delete,
            // What a node may open is the authorizer's to say.
            Operation::Connect => return Ok(()),
        },
        group: &admission.resource.group,
        resource: &admission.resource.plural,
        subresource: admission.subresource,
        name: &context.info.name,
        namespace: &context.info.namespace,
        object: new,
        old: admission.old.map(Object::value),
    };
    // What the check may want to look at: the pod that is written or bound to, and the node itself.
    let bound = new
        .pointer("/spec/boundObjectRef/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let node = context.user.node_identity().unwrap_or_default();
    let wanted = [
        ("pods", write.namespace, write.name),
        ("pods", write.namespace, bound),
        ("nodes", "", node),
    ];
    let found: Vec<_> = wanted
        .into_iter()
        .filter_map(|(resource, namespace, name)| {
            let entry = context.server.world.get("", resource, namespace, name)?;
            Some(((resource, namespace, name), entry.object().into_value()))
        })
        .collect();
    let find = |resource: &str, namespace: &str, name: &str| {
        found
            .iter()
            .find(|(key, _)| *key == (resource, namespace, name))
            .map(|(_, value)| value)
    };
    let subject = admission.old.or(object);
    node_restriction::check(&context.user, &write, find).map_err(|text| match subject {
        Some(subject) => admission.forbid(subject, &text),
        None => crate::status::ApiError::forbidden(write.group, write.resource, write.name, &text),
    })
}
