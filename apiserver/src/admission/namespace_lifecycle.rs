//! Objects live in namespaces that exist and are not being emptied; three namespaces cannot be deleted.

use resources::Resource;
use schema::Object;

use crate::admission::{Admission, Operation};
use crate::context::Context;
use crate::status::{ApiError, ApiResult};

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

/// A namespace that was created through another member may not be in this cache yet.
pub(super) async fn prefetch(context: &Context, resource: &Resource) -> ApiResult<()> {
    let server = &context.server;
    if resource.namespaced
        && server
            .world
            .get("", "namespaces", "", &context.info.namespace)
            .is_none()
    {
        server.world.wait_most_recent(&*server.store).await?;
    }
    Ok(())
}

pub(super) fn admit(admission: &Admission<'_>, object: &mut Object) -> ApiResult<()> {
    if admission.operation != Operation::Create
        || !admission.resource.namespaced
        || !admission.subresource.is_empty()
        // Who asks what one may do in a namespace makes nothing there.
        || admission.resource.is_virtual()
    {
        return Ok(());
    }
    let name = admission.context.info.namespace.as_str();
    let server = &admission.context.server;
    let Some(entry) = server.world.get("", "namespaces", "", name) else {
        return Err(ApiError::not_found("", "namespaces", name));
    };
    if entry.field("status.phase") == "Terminating" || *server.facts.leaving_namespaces.of(&entry) {
        let text = format!(
            "unable to create new content in namespace {name} because it is being terminated"
        );
        return Err(admission.forbid(object, &text).with_cause(
            "NamespaceTerminating",
            &format!("namespace {name} is being terminated"),
            "metadata.namespace",
        ));
    }
    Ok(())
}

pub(super) fn validate(admission: &Admission<'_>, _: Option<&Object>) -> ApiResult<()> {
    if admission.operation != Operation::Delete || !admission.is("", "namespaces") {
        return Ok(());
    }
    match admission.old {
        Some(old) if IMMORTAL.contains(&old.name()) => {
            Err(admission.forbid(old, "this namespace may not be deleted"))
        }
        _ => Ok(()),
    }
}
