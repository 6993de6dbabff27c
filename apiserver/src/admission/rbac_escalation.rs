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
        Refusal::RoleNotFound => {
            let role = |field: &str| object.get_str(&["roleRef", field]).unwrap_or_default();
            let plural = match role("kind") {
                "Role" => "roles",
                _ => "clusterroles",
            };
            ApiError::not_found(GROUP, plural, role("name"))
        }
    })
}
