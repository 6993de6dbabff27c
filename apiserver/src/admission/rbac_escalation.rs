//! Nobody grants rights that they do not hold.

use auth::escalation::{self, Refusal};
use schema::Object;

use crate::admission::{Admission, Operation};
use crate::authorize;
use crate::status::{ApiError, ApiResult};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    if admission.resource.group != GROUP || admission.operation == Operation::Delete {
        return Ok(());
    }
    let Some(object) = object else { return Ok(()) };
    let context = admission.context;
    let new = object.value();
    let old = admission.old.map(Object::value);
    let namespace = if admission.resource.namespaced {
        context.info.namespace.as_str()
    } else {
        ""
    };
    let checked =
        context
            .server
            .authorizer
            .with_policy(|policy| match &*admission.resource.plural {
                "roles" | "clusterroles" => {
                    escalation::check_role(policy, &context.user, namespace, new, old)
                }
                _ => escalation::check_binding(policy, &context.user, namespace, new, old),
            });
    checked.map_err(|refusal| match refusal {
        Refusal::Forbidden(forbidden) => authorize::refusal(forbidden),
        Refusal::RoleNotFound(name) => {
            let role = object
                .get_str(&["roleRef", "kind"])
                .unwrap_or("ClusterRole");
            ApiError::not_found(
                GROUP,
                if role == "Role" {
                    "roles"
                } else {
                    "clusterroles"
                },
                &name,
            )
        }
    })
}
