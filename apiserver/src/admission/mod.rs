//! Admission: the ordered list of plugins that change and judge what is about to be written, and after them
//! the policies and the webhooks.
//! Plugins read the caches, never the store; what might not have arrived there yet is waited for once, in [`prefetch`].
//! Only webhooks are waited for; plugins are plain functions.

mod certificates;
mod claim_resize;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod facts;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod pod_resize;
mod pod_security;
mod pod_topology_labels;
mod policy;
mod priority;
mod rbac_escalation;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_protection;
mod taint_nodes_by_condition;
mod webhook;

use resources::Resource;
use schema::Object;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::ApiServer;
use crate::context::Context;
use crate::decode::Expected;
use crate::managed;
use crate::metrics::AskedPlugin;
use crate::status::ApiResult;
pub(crate) use facts::Facts;
pub(crate) use policy::Policies;
pub(crate) use resource_quota::{Charge, Look, Queues, charge};
pub(crate) use webhook::Webhooks;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    /// The opening of a connection.
    Connect,
}

impl Operation {
    /// Kubernetes' word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// The write that is judged.
#[derive(Clone, Copy)]
pub(crate) struct Admission<'a> {
    pub(crate) context: &'a Context,
    pub(crate) operation: Operation,
    pub(crate) resource: &'a Resource,
    /// Empty for the object itself.
    pub(crate) subresource: &'a str,
    /// The stored object, on update and delete.
    pub(crate) old: Option<&'a Object>,
    /// (group, version, kind) of what a subresource carries, where that is not the resource's own.
    pub(crate) kind: Option<(&'a str, &'a str, &'a str)>,
    pub(crate) dry_run: bool,
    /// What the client said about a deletion.
    pub(crate) delete_options: Option<&'a Value>,
    /// Whether no policy and no webhook may see the object, of which less is at hand than they would ask for.
    pub(crate) is_for_plugins: bool,
}

impl<'a> Admission<'a> {
    pub(crate) fn new(
        context: &'a Context,
        operation: Operation,
        resource: &'a Resource,
        subresource: &'a str,
        dry_run: bool,
    ) -> Admission<'a> {
        Admission {
            context,
            operation,
            resource,
            subresource,
            old: None,
            kind: None,
            dry_run,
            delete_options: None,
            is_for_plugins: false,
        }
    }

    /// The same about a change of `old`.
    pub(crate) fn of(self, old: &'a Object) -> Admission<'a> {
        Admission {
            old: Some(old),
            ..self
        }
    }

    /// The same about what a subresource carries.
    pub(crate) fn carrying(self, kind: Expected<'a>) -> Admission<'a> {
        Admission {
            kind: Some((kind.group, kind.version, kind.kind)),
            ..self
        }
    }

    /// The name of what is written; empty for one that is still to be generated.
    fn name<'b>(&self, object: Option<&'b Object>) -> &'b str
    where
        'a: 'b,
    {
        let info = &self.context.info;
        if !info.name.is_empty() && !info.is_collection() {
            return &info.name;
        }
        self.old.or(object).map(Object::name).unwrap_or_default()
    }

    /// The namespace of what is written; that of a Namespace is itself.
    fn namespace<'b>(&self, object: Option<&'b Object>) -> &'b str
    where
        'a: 'b,
    {
        if self.is("", "namespaces") {
            self.name(object)
        } else if self.resource.namespaced {
            &self.context.info.namespace
        } else {
            ""
        }
    }

    /// The options of the request, as a webhook sees them.
    fn options(&self) -> Value {
        let query = &self.context.query;
        let mut options = match self.operation {
            Operation::Connect => return Value::Null,
            Operation::Delete => {
                let mut options = self.delete_options.cloned().unwrap_or_else(|| json!({}));
                options["kind"] = "DeleteOptions".into();
                options
            }
            Operation::Create => json!({ "kind": "CreateOptions" }),
            Operation::Update => json!({ "kind": "UpdateOptions" }),
        };
        options["apiVersion"] = "meta.k8s.io/v1".into();
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        if self.operation != Operation::Delete {
            for field in ["fieldManager", "fieldValidation"] {
                if let Some(text) = query.get(field).filter(|text| !text.is_empty()) {
                    options[field] = text.into();
                }
            }
        }
        options
    }

    /// Whether policies and webhooks have a say as well.
    fn asks_others(&self) -> bool {
        !self.context.is_own && !self.is_for_plugins
    }

    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.resource.group == group && self.resource.plural == plural
    }

    pub(crate) fn creates(&self, group: &str, plural: &str) -> bool {
        self.operation == Operation::Create && self.subresource.is_empty() && self.is(group, plural)
    }

    /// A 403 about this object, whose name may still have to be generated.
    pub(crate) fn forbid(&self, object: &Object, text: &str) -> crate::status::ApiError {
        let name = match (object.name(), object.generate_name()) {
            ("", prefix) => prefix,
            (name, _) => name,
        };
        crate::status::ApiError::forbidden(&self.resource.group, &self.resource.plural, name, text)
    }
}

type Mutate = fn(&Admission<'_>, &mut Object) -> ApiResult<()>;
type Validate = fn(&Admission<'_>, Option<&Object>) -> ApiResult<()>;

/// One admission plugin; either half may do nothing.
struct Plugin {
    /// Kubernetes' name of the plugin.
    name: &'static str,
    mutate: Option<Mutate>,
    validate: Option<Validate>,
}

/// Asks the plugins one after the other until one refuses, and counts how long each takes. `ask` has nothing for a plugin
/// without that half.
fn ask_each(
    admission: &Admission<'_>,
    step: &'static str,
    mut ask: impl FnMut(&Plugin) -> Option<ApiResult<()>>,
) -> ApiResult<()> {
    let figures = &admission.context.server.metrics.plugins;
    let mut since = Instant::now();
    for (place, plugin) in PLUGINS.iter().enumerate() {
        let Some(outcome) = ask(plugin) else {
            continue;
        };
        let asked = AskedPlugin {
            place,
            name: plugin.name,
            step,
            operation: admission.operation,
        };
        let now = Instant::now();
        figures.took(asked, outcome.is_err(), now - since);
        since = now;
        outcome?;
    }
    Ok(())
}

/// All plugins, in Kubernetes' order.
const PLUGINS: &[Plugin] = &[
    Plugin {
        name: "NamespaceLifecycle",
        mutate: Some(namespace_lifecycle::admit),
        validate: Some(namespace_lifecycle::validate),
    },
    Plugin {
        name: "LimitRanger",
        mutate: Some(limit_ranger::mutate),
        validate: Some(limit_ranger::validate),
    },
    Plugin {
        name: "ServiceAccount",
        mutate: Some(service_account::mutate),
        validate: None,
    },
    Plugin {
        name: "NodeRestriction",
        mutate: None,
        validate: Some(node_restriction::validate),
    },
    Plugin {
        name: "TaintNodesByCondition",
        mutate: Some(taint_nodes_by_condition::mutate),
        validate: None,
    },
    Plugin {
        name: "PodSecurity",
        mutate: None,
        validate: Some(pod_security::validate),
    },
    Plugin {
        name: "Priority",
        mutate: Some(priority::mutate),
        validate: Some(priority::validate),
    },
    Plugin {
        name: "DefaultTolerationSeconds",
        mutate: Some(default_toleration_seconds::mutate),
        validate: None,
    },
    Plugin {
        name: "DefaultStorageClass",
        mutate: Some(default_storage_class::mutate),
        validate: None,
    },
    Plugin {
        name: "StorageObjectInUseProtection",
        mutate: Some(storage_protection::mutate),
        validate: None,
    },
    Plugin {
        name: "PersistentVolumeClaimResize",
        mutate: None,
        validate: Some(claim_resize::validate),
    },
    Plugin {
        name: "RuntimeClass",
        mutate: Some(runtime_class::mutate),
        validate: Some(runtime_class::validate),
    },
    Plugin {
        name: "CertificateApproval",
        mutate: None,
        validate: Some(certificates::approval),
    },
    Plugin {
        name: "CertificateSigning",
        mutate: None,
        validate: Some(certificates::signing),
    },
    Plugin {
        name: "CertificateSubjectRestriction",
        mutate: None,
        validate: Some(certificates::subject),
    },
    Plugin {
        name: "DefaultIngressClass",
        mutate: Some(default_ingress_class::mutate),
        validate: None,
    },
    Plugin {
        name: "PodTopologyLabels",
        mutate: Some(pod_topology_labels::mutate),
        validate: None,
    },
    Plugin {
        name: "PodResizeValidator",
        mutate: None,
        validate: Some(pod_resize::validate),
    },
    Plugin {
        name: "RBACEscalation",
        mutate: None,
        validate: Some(rbac_escalation::validate),
    },
    // In Kubernetes a check of the kinds' own, as the one before.
    Plugin {
        name: "PolicyParameters",
        mutate: None,
        validate: Some(policy::reading::validate),
    },
];

/// Whether there is no policy and no webhook that could ask for an object.
pub(crate) fn asks_nobody(server: &ApiServer) -> bool {
    server.webhooks.has_none() && server.policies.has_none()
}

/// Waits for what the plugins will look for in the caches, where it is not there yet.
pub(crate) async fn prefetch(
    context: &Context,
    resource: &Resource,
    object: &Object,
) -> ApiResult<()> {
    namespace_lifecycle::prefetch(context, resource).await?;
    runtime_class::prefetch(context, object).await?;
    policy::reading::prefetch(context, resource, object).await?;
    service_account::prefetch(context, resource, object).await
}

/// Lets every plugin and webhook change the object, which is none on delete. Where a webhook changed it, the plugins run
/// once more, and with them the webhooks that wish to.
pub(crate) async fn mutate(
    admission: &Admission<'_>,
    object: Option<&mut Object>,
) -> ApiResult<()> {
    mutate_measured(admission, object, false).await
}

/// The same, and puts the managed fields of the object back where a policy or a webhook broke them.
pub(crate) async fn mutate_tracked(
    admission: &Admission<'_>,
    object: &mut Object,
) -> ApiResult<()> {
    mutate_measured(admission, Some(object), true).await
}

/// Whether no webhook and no policy may change what is written: what becomes of it is up to the plugins.
pub(crate) fn is_by_plugins(admission: &Admission<'_>) -> bool {
    webhook::Rounds::new(admission).is_nothing() && policy::Rounds::new(admission).is_nothing()
}

/// Counts the changes as made where those of an earlier write are taken.
pub(crate) fn skip_changes(admission: &Admission<'_>) {
    measure(admission, "admit", Instant::now(), false);
}

async fn mutate_measured(
    admission: &Admission<'_>,
    object: Option<&mut Object>,
    tracked: bool,
) -> ApiResult<()> {
    let begun = Instant::now();
    let outcome = mutate_in_rounds(admission, object, tracked).await;
    measure(admission, "admit", begun, outcome.is_err());
    outcome
}

/// Counts a step and its time.
fn measure(admission: &Admission<'_>, step: &'static str, begun: Instant, rejected: bool) {
    let calls = &admission.context.server.metrics.calls;
    calls.admitted(
        step,
        admission.operation.as_str(),
        rejected,
        begun.elapsed(),
    );
}

async fn mutate_in_rounds(
    admission: &Admission<'_>,
    mut object: Option<&mut Object>,
    tracked: bool,
) -> ApiResult<()> {
    let mut rounds = webhook::Rounds::new(admission);
    let mut policies = policy::Rounds::new(admission);
    // Plugins leave the managed fields alone: where nobody else is asked, nothing has to be remembered.
    let remembers = tracked && !(rounds.is_nothing() && policies.is_nothing());
    let tracked = object.as_deref().filter(|_| remembers);
    let tracked = tracked.map(|object| managed::entries(object).cloned());
    loop {
        if let Some(object) = object.as_deref_mut() {
            ask_each(admission, "admit", |plugin| {
                plugin.mutate.map(|mutate| mutate(admission, object))
            })?;
        }
        if !admission.asks_others() {
            break;
        }
        if policies
            .mutate(admission, object.as_deref_mut(), rounds.is_again())
            .await?
        {
            rounds.note_other_change();
        }
        webhook::mutate(admission, object.as_deref_mut(), &mut rounds).await?;
        if !rounds.go_again() {
            break;
        }
    }
    if let (Some(tracked), Some(object)) = (tracked, object) {
        managed::restore_where_broken(admission.context, tracked, object);
    }
    Ok(())
}

/// Lets every plugin and webhook refuse the write. `object` is none on delete. Quotas come after it, with [`charge`].
pub(crate) async fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    let begun = Instant::now();
    let outcome = validate_by_all(admission, object).await;
    measure(admission, "validate", begun, outcome.is_err());
    outcome
}

async fn validate_by_all(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    ask_each(admission, "validate", |plugin| {
        plugin.validate.map(|validate| validate(admission, object))
    })?;
    if admission.asks_others() {
        policy::validate(admission, object).await?;
        webhook::validate(admission, object).await?;
    }
    Ok(())
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
