//! Plans: what a pure reconcile wants done. The executor performs them; tests read them as text.

use crate::client::{DeleteParams, PatchType};
use crate::events::EventType;
use crate::kinds::{ObjectMeta, ObjectReference};
use crate::nameless::Nameless;
use crate::resource_ref::ResourceRef;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is to be done now, in order, and when to look again although nothing changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Operations, in order; the first failure ends the plan.
    pub ops: Vec<Op>,
    /// Reconcile again after this time.
    pub again_in: Option<Duration>,
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Reads an object past all caches; the plan ends here (and is made again later) unless it is still this incarnation and not being deleted.
    Confirm {
        /// Resource.
        resource: ResourceRef,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Expected incarnation.
        uid: String,
    },
    /// Reads an object past all caches; the plan ends here (and is made again later) while this incarnation is there.
    Absent {
        /// Resource.
        resource: ResourceRef,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// The incarnation that should be gone; any, where it is empty.
        uid: String,
    },
    /// Creates an object.
    Create {
        /// Resource.
        resource: ResourceRef,
        /// Namespace.
        namespace: String,
        /// The object, with its name.
        body: Value,
    },
    /// Creates one of many objects that have all but their names alike.
    CreateLike {
        /// Resource.
        resource: ResourceRef,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// What they have alike.
        object: Arc<Nameless>,
    },
    /// Patches an object or its subresource. An object that is gone is not an error.
    Patch {
        /// Resource.
        resource: ResourceRef,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// `status` or another subresource.
        subresource: Option<&'static str>,
        /// Form of the patch.
        form: PatchType,
        /// The patch.
        body: Value,
    },
    /// Patches an object, then once more: the second is refused where somebody has changed it after the first, whose answer
    /// tells at which version that is. For what no single request can change, such as a status and finalizers.
    Follow {
        /// The first patch.
        first: Box<Op>,
        /// The second one, of the same object.
        then: Box<Op>,
    },
    /// Replaces an object or its subresource.
    Update {
        /// Resource.
        resource: ResourceRef,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// `status` or another subresource.
        subresource: Option<&'static str>,
        /// The object.
        body: Value,
    },
    /// Deletes an object. One that is gone is not an error.
    Delete {
        /// Resource.
        resource: ResourceRef,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
        /// Options.
        params: DeleteParams,
    },
    /// Records an event.
    Event(Box<Report>),
    /// Does the operation, then records one of two events.
    Reported {
        /// The operation.
        op: Box<Op>,
        /// Recorded when it succeeded.
        success: Box<Report>,
        /// Recorded when it failed, the error's text appended to the message.
        failure: Box<Report>,
    },
    /// Does the operation, and records an event when it failed.
    Refused {
        /// The operation.
        op: Box<Op>,
        /// Recorded when it failed, the error's text appended to the message.
        failure: Box<Report>,
    },
    /// Operations that need one another, in order; a failure ends them. One of several [`Op::SlowStart`] or [`Op::Parallel`] operations may be such a sequence.
    Sequence(Vec<Op>),
    /// Independent operations, started in batches of 1, 2, 4.. A batch with a failure is the last one, so that a refusal that hits all is not asked for a thousand times.
    SlowStart(Vec<Op>),
    /// Independent operations, all tried.
    Parallel(Vec<Op>),
}

/// An event to record.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What it is about.
    pub regarding: ObjectReference,
    /// Normal or warning.
    pub kind: EventType,
    /// Machine readable reason.
    pub reason: &'static str,
    /// Text for people.
    pub message: String,
}

impl Plan {
    /// Nothing to do.
    pub fn none() -> Self {
        Self::default()
    }

    /// These operations.
    pub fn of(ops: Vec<Op>) -> Self {
        Self {
            ops,
            again_in: None,
        }
    }

    /// Adds an operation.
    pub fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Looks again after `delay` at the latest.
    pub fn again(&mut self, delay: Duration) {
        self.again_in = Some(self.again_in.map_or(delay, |already| already.min(delay)));
    }

    /// One line per operation, for tests and debug logs.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for op in &self.ops {
            op.lines(&mut lines);
        }
        if let Some(delay) = self.again_in {
            lines.push(format!("again in {delay:?}"));
        }
        lines
    }
}

impl Op {
    /// A merge patch of an object.
    pub fn merge(resource: &ResourceRef, meta: &ObjectMeta, body: Value) -> Self {
        Self::Patch {
            resource: resource.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            subresource: None,
            form: PatchType::Merge,
            body,
        }
    }

    /// A merge patch of an object's status, refused if the object has changed since `meta`.
    pub fn status(resource: &ResourceRef, meta: &ObjectMeta, status: Value) -> Self {
        let body = serde_json::json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, "status": status});
        Self::Patch {
            resource: resource.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            subresource: Some("status"),
            form: PatchType::Merge,
            body,
        }
    }

    /// Deletes this incarnation of an object.
    pub fn delete(resource: &ResourceRef, meta: &ObjectMeta) -> Self {
        Self::Delete {
            resource: resource.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            params: DeleteParams::uid(&meta.uid),
        }
    }

    /// Deletes an object if it is still as in `meta`: for what somebody may change at the last moment.
    pub fn delete_unchanged(resource: &ResourceRef, meta: &ObjectMeta) -> Self {
        let version = Some(meta.resource_version.to_string()).filter(|version| !version.is_empty());
        Self::Delete {
            resource: resource.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            params: DeleteParams {
                resource_version: version,
                ..DeleteParams::uid(&meta.uid)
            },
        }
    }

    /// Creates an object.
    pub fn create(resource: &ResourceRef, namespace: &str, body: Value) -> Self {
        Self::Create {
            resource: resource.clone(),
            namespace: namespace.to_owned(),
            body,
        }
    }

    /// Confirms an object by a live read.
    pub fn confirm(resource: &ResourceRef, meta: &ObjectMeta) -> Self {
        Self::Confirm {
            resource: resource.clone(),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
        }
    }

    fn lines(&self, out: &mut Vec<String>) {
        match self {
            Self::Reported { op, success, .. } => {
                op.lines(out);
                out.push(format!("  then {success}"));
            }
            Self::Refused { op, .. } => op.lines(out),
            Self::Follow { first, then } => {
                first.lines(out);
                then.lines(out);
            }
            Self::Sequence(ops) | Self::SlowStart(ops) | Self::Parallel(ops) => {
                for op in ops {
                    op.lines(out);
                }
            }
            Self::Event(report) => out.push(report.to_string()),
            Self::Confirm {
                resource,
                namespace,
                name,
                ..
            } => out.push(format!("confirm {resource} {}", path(namespace, name))),
            Self::Absent {
                resource,
                namespace,
                name,
                ..
            } => out.push(format!("absent {resource} {}", path(namespace, name))),
            Self::Create {
                resource,
                namespace,
                body,
            } => {
                let name = body
                    .pointer("/metadata/name")
                    .and_then(Value::as_str)
                    .unwrap_or("?");
                out.push(format!("create {resource} {}", path(namespace, name)));
            }
            Self::CreateLike {
                resource,
                namespace,
                name,
                ..
            } => out.push(format!("create {resource} {}", path(namespace, name))),
            Self::Patch {
                resource,
                namespace,
                name,
                subresource,
                body,
                ..
            } => {
                let sub = subresource.map(|s| format!("/{s}")).unwrap_or_default();
                out.push(format!(
                    "patch {resource}{sub} {} {}",
                    path(namespace, name),
                    without_preconditions(body)
                ));
            }
            Self::Update {
                resource,
                namespace,
                name,
                subresource,
                body,
            } => {
                let sub = subresource.map(|s| format!("/{s}")).unwrap_or_default();
                out.push(format!(
                    "update {resource}{sub} {} {body}",
                    path(namespace, name)
                ));
            }
            Self::Delete {
                resource,
                namespace,
                name,
                ..
            } => out.push(format!("delete {resource} {}", path(namespace, name))),
        }
    }
}

fn path(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

/// A patch without `uid` and `resourceVersion`, which say nothing to the reader of a test.
fn without_preconditions(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("uid");
        metadata.remove("resourceVersion");
        if metadata.is_empty() {
            body.as_object_mut().map(|b| b.remove("metadata"));
        }
    }
    body
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "event {} {} {}: {}",
            self.kind.as_str(),
            path(&self.regarding.namespace, &self.regarding.name),
            self.reason,
            self.message
        )
    }
}
