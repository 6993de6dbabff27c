//! `binding`: the scheduler's word on which node a pod runs, written once.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use schema::pick::Pick;
use serde_json::json;

use crate::admission::{self, Admission, Operation};
use crate::context::Context;
use crate::decode::{self, Expected};
use crate::status::{self, ApiError, ApiResult};
use crate::verbs::create;
use crate::write::{Change, Decide, Extra, Step};

pub(crate) const BINDING: Expected<'static> = Expected {
    group: "",
    version: "v1",
    kind: "Binding",
    custom: None,
};

/// Serves both `pods/<name>/binding` and the older `bindings`.
pub(crate) async fn create(
    context: &Context,
    resource: &Resource,
    body: &Bytes,
) -> ApiResult<Response> {
    let dry_run = context.dry_run("CreateOptions", None)?;
    let binding = decode::object(context, BINDING, body, "CreateOptions")?;
    bind(context, resource, binding, dry_run).await?;
    Ok(context.respond_value(StatusCode::CREATED, &status::success_created()))
}

/// A binding that nobody objects to.
pub(crate) struct Admitted {
    /// Of the pod.
    name: String,
    binding: Arc<Object>,
    dry_run: bool,
}

/// Admits and carries out one binding.
async fn bind(
    context: &Context,
    resource: &Resource,
    binding: Object,
    dry_run: bool,
) -> ApiResult<()> {
    let admitted = admit(context, resource, binding, dry_run).await?;
    carry_out(context, &admitted).await
}

/// Asks everybody who may object.
pub(crate) async fn admit(
    context: &Context,
    resource: &Resource,
    mut binding: Object,
    dry_run: bool,
) -> ApiResult<Admitted> {
    create::settle_namespace(context, resource, &mut binding)?;
    let name = if context.info.name.is_empty() {
        binding.name().to_owned()
    } else {
        context.info.name.clone()
    };
    if !binding.name().is_empty() && binding.name() != name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({name})",
            binding.name()
        )));
    }
    // The older door is a resource of its own.
    let subresource = context.info.subresource.as_str();
    let admission = Admission::new(context, Operation::Create, resource, subresource, dry_run)
        .carrying(BINDING);
    admission::mutate(&admission, Some(&mut binding)).await?;
    check_target(&binding)?;
    admission::validate(&admission, Some(&binding)).await?;
    Ok(Admitted {
        name,
        binding: Arc::new(binding),
        dry_run,
    })
}

/// Whether the pod as it is now would take it.
pub(crate) async fn check(context: &Context, admitted: &Admitted) -> ApiResult<()> {
    change(context, admitted, true).await
}

/// Writes it into the pod.
pub(crate) async fn carry_out(context: &Context, admitted: &Admitted) -> ApiResult<()> {
    change(context, admitted, admitted.dry_run).await
}

async fn change(context: &Context, admitted: &Admitted, dry_run: bool) -> ApiResult<()> {
    let pods = resources::find("", "v1", "pods").ok_or_else(ApiError::no_such_resource)?;
    let Admitted { name, binding, .. } = admitted;
    let (server, namespace) = (&context.server, context.info.namespace.as_str());
    let mut bind = Bind {
        binding,
        now: schema::time::now_rfc3339(context.now),
    };
    server
        .change(pods, namespace, name, dry_run, &mut bind)
        .await?;
    Ok(())
}

/// The change of a pod that is bound.
struct Bind<'a> {
    binding: &'a Arc<Object>,
    now: String,
}

impl Bind<'_> {
    fn step(&self, old: &Object) -> ApiResult<Step> {
        check_free(old, self.binding)?;
        let (binding, now) = (self.binding.clone(), self.now.clone());
        let change: Change = Box::new(move |pod: &mut Object| assign(pod, &binding, &now));
        Ok(Step::Change(change, Extra::default()))
    }
}

impl Decide for Bind<'_> {
    fn decide<'a>(&'a mut self, old: &'a Object) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(std::future::ready(self.step(old)))
    }

    fn needed_of_spec(&self) -> Option<&'static Pick> {
        Some(resources::needed_to_bind())
    }

    fn leaves_entries(&self) -> bool {
        true
    }
}

fn check_target(binding: &Object) -> ApiResult<()> {
    let target = Path::new("target");
    let kind = binding.get_str(&["target", "kind"]).unwrap_or_default();
    let mut errors = Vec::new();
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(
            &target.child("kind"),
            kind,
            &["Node", "<empty>"],
        ));
    }
    if binding
        .get_str(&["target", "name"])
        .unwrap_or_default()
        .is_empty()
    {
        errors.push(FieldError::required(&target.child("name"), ""));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid("", "Binding", binding.name(), &errors))
    }
}

/// Whether a pod can be bound, or why not.
fn check_free(old: &Object, binding: &Object) -> ApiResult<()> {
    let name = old.name();
    let refuse = |cause: String| Err(ApiError::conflict("", "pods/binding", name, &cause));
    for (what, wanted, is) in [
        ("UID", binding.uid(), old.uid()),
        (
            "ResourceVersion",
            binding.resource_version(),
            old.resource_version(),
        ),
    ] {
        if !wanted.is_empty() && wanted != is {
            return refuse(format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}"
            ));
        }
    }
    if old.deletion_timestamp().is_some() {
        return refuse(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    if let Some(node) = old
        .get_str(&["spec", "nodeName"])
        .filter(|node| !node.is_empty())
    {
        return refuse(format!("pod {name} is already assigned to node {node:?}"));
    }
    if old
        .get_array(&["spec", "schedulingGates"])
        .is_some_and(|gates| !gates.is_empty())
    {
        return refuse(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    Ok(())
}

/// Puts a pod on its node.
fn assign(pod: &mut Object, binding: &Object, now: &str) {
    pod.set(
        &["spec", "nodeName"],
        binding.get_str(&["target", "name"]).unwrap_or_default(),
    );
    // Where the pod was expected says nothing more, and autoscalers would still count on it.
    pod.remove(&["status", "nominatedNodeName"]);
    for (key, value) in binding.annotations() {
        pod.set_annotation(key, value);
    }
    for (key, value) in binding.labels() {
        pod.set_label(key, value);
    }
    let condition = json!({ "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now });
    super::set_condition(pod, condition);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let pod = Object::new(
            json!({"metadata": {"name": "p", "uid": "u"}, "spec": {}, "status": {"nominatedNodeName": "n1", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}}),
        )
        .unwrap();
        let binding = Object::new(
            json!({"metadata": {"name": "p", "annotations": {"a": "b"}}, "target": {"name": "n1"}}),
        )
        .unwrap();
        check_free(&pod, &binding).unwrap();
        let mut bound = pod;
        assign(&mut bound, &binding, "now");
        assert_eq!(bound.get_str(&["spec", "nodeName"]), Some("n1"));
        assert_eq!(bound.condition_status("PodScheduled"), Some("True"));
        assert_eq!(bound.annotation("a"), Some("b"));
        assert_eq!(bound.get(&["status", "nominatedNodeName"]), None);
        for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            let mut other = binding.clone();
            other.set(&["metadata", field], "7");
            let refused = check_free(&bound, &other).unwrap_err();
            let text = format!("Precondition failed: {what} in precondition: 7,");
            assert!(refused.message.contains(&text), "{}", refused.message);
        }
        let again = check_free(&bound, &binding).unwrap_err();
        assert_eq!(
            again.message,
            "Operation cannot be fulfilled on pods/binding \"p\": pod p is already assigned to node \"n1\""
        );
    }
}
