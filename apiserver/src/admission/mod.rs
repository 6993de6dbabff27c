//! Admission: the ordered list of plugins that change and judge what is about to be written. Plugins read the caches,
//! never the store; what might not have arrived there yet is waited for once, in [`prefetch`].

mod default_storage_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod priority;
mod rbac_escalation;
mod service_account;
mod taint_nodes_by_condition;

use resources::Resource;
use schema::Object;

use crate::context::Context;
use crate::status::ApiResult;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// The write that is judged.
pub(crate) struct Admission<'a> {
    pub(crate) context: &'a Context,
    pub(crate) operation: Operation,
    pub(crate) resource: &'static Resource,
    /// Empty for the object itself.
    pub(crate) subresource: &'a str,
    /// The stored object, on update and delete.
    pub(crate) old: Option<&'a Object>,
}

impl Admission<'_> {
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    pub(crate) fn creates(&self, group: &str, plural: &str) -> bool {
        self.operation == Operation::Create && self.subresource.is_empty() && self.is(group, plural)
    }

    /// A 403 about this object.
    pub(crate) fn forbid(&self, object: &Object, text: &str) -> crate::status::ApiError {
        crate::status::ApiError::forbidden(
            self.resource.group,
            self.resource.plural,
            object.name(),
            text,
        )
    }
}

type Mutate = fn(&Admission<'_>, &mut Object) -> ApiResult<()>;
type Validate = fn(&Admission<'_>, Option<&Object>) -> ApiResult<()>;

/// One admission plugin; either half may do nothing.
struct Plugin {
    /// Kubernetes' name of the plugin.
    #[cfg_attr(not(test), allow(dead_code))]
    name: &'static str,
    mutate: Mutate,
    validate: Validate,
}

fn no_mutation(_: &Admission<'_>, _: &mut Object) -> ApiResult<()> {
    Ok(())
}

fn no_validation(_: &Admission<'_>, _: Option<&Object>) -> ApiResult<()> {
    Ok(())
}

/// All plugins, in Kubernetes' order.
const PLUGINS: &[Plugin] = &[
    Plugin {
        name: "NamespaceLifecycle",
        mutate: namespace_lifecycle::admit,
        validate: namespace_lifecycle::validate,
    },
    Plugin {
        name: "LimitRanger",
        mutate: limit_ranger::mutate,
        validate: limit_ranger::validate,
    },
    Plugin {
        name: "ServiceAccount",
        mutate: service_account::mutate,
        validate: no_validation,
    },
    Plugin {
        name: "NodeRestriction",
        mutate: no_mutation,
        validate: node_restriction::validate,
    },
    Plugin {
        name: "TaintNodesByCondition",
        mutate: taint_nodes_by_condition::mutate,
        validate: no_validation,
    },
    Plugin {
        name: "Priority",
        mutate: priority::mutate,
        validate: priority::validate,
    },
    Plugin {
        name: "DefaultTolerationSeconds",
        mutate: default_toleration_seconds::mutate,
        validate: no_validation,
    },
    Plugin {
        name: "DefaultStorageClass",
        mutate: default_storage_class::mutate,
        validate: no_validation,
    },
    Plugin {
        name: "RBACEscalation",
        mutate: no_mutation,
        validate: rbac_escalation::validate,
    },
];

/// Waits for what the plugins will look for in the caches, where it is not there yet.
pub(crate) async fn prefetch(
    context: &Context,
    resource: &Resource,
    object: &Object,
) -> ApiResult<()> {
    namespace_lifecycle::prefetch(context, resource).await?;
    service_account::prefetch(context, resource, object).await
}

/// Lets every plugin change the object.
pub(crate) fn mutate(admission: &Admission<'_>, object: &mut Object) -> ApiResult<()> {
    PLUGINS
        .iter()
        .try_for_each(|plugin| (plugin.mutate)(admission, object))
}

/// Lets every plugin refuse the write. `object` is none on delete.
pub(crate) fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    PLUGINS
        .iter()
        .try_for_each(|plugin| (plugin.validate)(admission, object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_stands_once() {
        let mut names: Vec<&str> = PLUGINS.iter().map(|plugin| plugin.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PLUGINS.len());
    }
}
