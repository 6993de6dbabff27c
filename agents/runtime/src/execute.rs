//! Performs plans.

use crate::cache::Key;
use crate::client::{Client, Stored};
use crate::error::ApiError;
use crate::events::EventRecorder;
use crate::hub::Written;
use crate::plan::{Op, Plan, Report};
use crate::resource_ref::ResourceRef;
use futures::future::{BoxFuture, FutureExt, join_all};
use serde_json::Value;

/// Independent operations of a plan at a time: more would do no more in a second, and stand before what others ask for.
const PARALLEL_MAX: usize = 16;

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was stored or deleted, also when the plan failed in its middle.
    pub written: Vec<Written>,
    /// The failure that ended it.
    pub error: Option<ApiError>,
}

/// Performs the operations in order until one fails.
pub async fn execute(client: &Client, recorder: &EventRecorder, plan: Plan) -> Outcome {
    let mut outcome = Outcome::default();
    for op in plan.ops {
        if let Err(error) = perform(client, recorder, op, &mut outcome.written).await {
            outcome.error = Some(error);
            break;
        }
    }
    outcome
}

fn perform<'a>(
    client: &'a Client,
    recorder: &'a EventRecorder,
    op: Op,
    written: &'a mut Vec<Written>,
) -> BoxFuture<'a, Result<(), ApiError>> {
    async move {
        match op {
            Op::Event(report) => recorder.report(*report),
            Op::Reported {
                op,
                success,
                failure,
            } => match perform(client, recorder, *op, written).await {
                Ok(()) => recorder.report(*success),
                Err(error) => return Err(told(recorder, error, *failure)),
            },
            Op::Sequence(ops) => {
                for op in ops {
                    perform(client, recorder, op, written).await?;
                }
            }
            Op::Refused { op, failure } => {
                let performed = perform(client, recorder, *op, written).await;
                performed.map_err(|error| told(recorder, error, *failure))?;
            }
            Op::SlowStart(ops) => return slow_start(client, recorder, ops, written).await,
            Op::Parallel(ops) => return parallel(client, recorder, ops, written).await,
            Op::Confirm {
                resource,
                namespace,
                name,
                uid,
            } => confirm(client, &resource, (&namespace, &name), &uid).await?,
            Op::Absent {
                resource,
                namespace,
                name,
                uid,
            } => absent(client, &resource, (&namespace, &name), &uid).await?,
            Op::Create {
                resource,
                namespace,
                body,
            } => {
                let first = client.create_stored(&resource, &namespace, &body).await;
                let stored =
                    made(client, (&resource, &namespace), &body, named(&body), first).await?;
                written.push(Written::Version(resource, stored.revision()));
            }
            Op::CreateLike {
                resource,
                namespace,
                name,
                object,
            } => {
                let text = object.text(&name);
                let first = client.create_written(&resource, &namespace, text).await;
                let stored =
                    made(client, (&resource, &namespace), object.body(), &name, first).await?;
                written.push(Written::Version(resource, stored.revision()));
            }
            Op::Patch { .. } => {
                patch(client, op, written).await?;
            }
            Op::Follow { first, mut then } => {
                let Some(version) = patch(client, *first, written).await? else {
                    return Ok(());
                };
                if let Op::Patch { body, .. } = &mut *then {
                    body["metadata"]["resourceVersion"] = version.into();
                }
                perform(client, recorder, *then, written).await?;
            }
            Op::Update { .. } => update(client, op, written).await?,
            Op::Delete { .. } => delete(client, op, written).await?,
        }
        Ok(())
    }
    .boxed()
}

/// A failure that has the plan made again.
fn conflict(message: String) -> ApiError {
    ApiError {
        code: 409,
        reason: "Conflict".into(),
        message,
        ..ApiError::default()
    }
}

fn is_incarnation(object: &Value, uid: &str) -> bool {
    object.pointer("/metadata/uid").and_then(Value::as_str) == Some(uid)
}

/// Fails unless the object is this incarnation, and not being deleted.
async fn confirm(
    client: &Client,
    resource: &ResourceRef,
    (namespace, name): (&str, &str),
    uid: &str,
) -> Result<(), ApiError> {
    let object = client.get(resource, namespace, name).await?;
    let deleting = object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|v| !v.is_null());
    match is_incarnation(&object, uid) && !deleting {
        true => Ok(()),
        false => Err(conflict(format!(
            "{resource} {name:?} has been deleted or replaced"
        ))),
    }
}

/// Fails while this incarnation is there; while any is, where it is empty.
async fn absent(
    client: &Client,
    resource: &ResourceRef,
    (namespace, name): (&str, &str),
    uid: &str,
) -> Result<(), ApiError> {
    match client.get(resource, namespace, name).await {
        Ok(object) if uid.is_empty() || is_incarnation(&object, uid) => {
            Err(conflict(format!("{resource} {name:?} is still there")))
        }
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Replaces an object or its subresource.
async fn update(client: &Client, op: Op, written: &mut Vec<Written>) -> Result<(), ApiError> {
    let Op::Update {
        resource,
        namespace,
        name,
        subresource,
        body,
    } = op
    else {
        return Ok(());
    };
    let stored = match subresource {
        Some(sub) => {
            client
                .update_sub(&resource, &namespace, &name, sub, &body)
                .await?
        }
        None => client.update(&resource, &namespace, &name, &body).await?,
    };
    if subresource.is_none_or(|s| s == "status") {
        written.push(Written::Version(resource, revision(&stored)));
    }
    Ok(())
}

/// Deletes an object, which may be gone.
async fn delete(client: &Client, op: Op, written: &mut Vec<Written>) -> Result<(), ApiError> {
    let Op::Delete {
        resource,
        namespace,
        name,
        params,
    } = op
    else {
        return Ok(());
    };
    match client.delete(&resource, &namespace, &name, &params).await {
        Ok(_) => {
            let uid = params.uid.unwrap_or_default();
            if !uid.is_empty() {
                written.push(Written::Deleted(resource, Key::new(&namespace, &name), uid));
            }
            Ok(())
        }
        // Gone, or another incarnation has the name: either way the deed is done.
        Err(error)
            if error.is_not_found() || (error.is_conflict() && names_another(&error.message)) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Patches an object. Its version then; none where it is gone.
async fn patch(
    client: &Client,
    op: Op,
    written: &mut Vec<Written>,
) -> Result<Option<String>, ApiError> {
    let Op::Patch {
        resource,
        namespace,
        name,
        subresource,
        form,
        body,
    } = op
    else {
        return Ok(None);
    };
    let answer = client
        .patch_stored(&resource, (&namespace, &name), subresource, form, &body)
        .await;
    let stored = match answer {
        Ok(stored) => stored,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    if subresource.is_none_or(|s| s == "status") {
        written.push(Written::Version(resource, stored.revision()));
    }
    Ok(Some(stored.revision().to_string()))
}

/// Whether a delete was refused because its object is gone and another one has the name.
fn names_another(message: &str) -> bool {
    // The second is what servers of earlier versions say.
    message.contains("the UID in the precondition") || message.contains("UID in precondition")
}

/// Records a failure. A namespace that goes away refuses creates, and a stale copy is read again and the plan made anew:
/// nothing that anybody should read about.
fn told(recorder: &EventRecorder, error: ApiError, mut failure: Report) -> ApiError {
    if !error.is_namespace_terminating() && !error.is_conflict() && !error.is_already_exists() {
        failure.message.push_str(&error.message);
        recorder.report(failure);
    }
    error
}

fn named(body: &Value) -> &str {
    let name = body.pointer("/metadata/name").and_then(Value::as_str);
    name.unwrap_or_default()
}

/// What has been created at the first attempt. When nobody knows whether that was stored, the name that was chosen for it tells:
/// else the same would soon be made once more under another name.
async fn made(
    client: &Client,
    (resource, namespace): (&ResourceRef, &str),
    body: &Value,
    name: &str,
    first: Result<Stored, ApiError>,
) -> Result<Stored, ApiError> {
    let error = match first {
        Err(error) if may_be_stored(&error) => error,
        other => return other,
    };
    if name.is_empty() || controller_uid(body).is_none() {
        return Err(error);
    }
    match client.get(resource, namespace, name).await {
        Ok(stored) if controller_uid(&stored) == controller_uid(body) => {
            serde_json::from_value(stored).map_err(|_| error)
        }
        _ => Err(error),
    }
}

/// The client repeats what the server asks it to repeat, so that a name may be taken by our own first attempt.
fn may_be_stored(error: &ApiError) -> bool {
    error.is_transport() || error.code >= 500 || error.is_already_exists()
}

fn controller_uid(object: &Value) -> Option<&str> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    owners
        .iter()
        .find(|owner| owner["controller"] == true)
        .and_then(|owner| owner["uid"].as_str())
}

async fn slow_start(
    client: &Client,
    recorder: &EventRecorder,
    ops: Vec<Op>,
    written: &mut Vec<Written>,
) -> Result<(), ApiError> {
    let mut rest = ops.into_iter();
    let mut size = 1;
    loop {
        let batch: Vec<Op> = rest.by_ref().take(size).collect();
        if batch.is_empty() {
            return Ok(());
        }
        parallel(client, recorder, batch, written).await?;
        size = (size * 2).min(PARALLEL_MAX);
    }
}

/// All are tried; the first error is the answer.
async fn parallel(
    client: &Client,
    recorder: &EventRecorder,
    ops: Vec<Op>,
    written: &mut Vec<Written>,
) -> Result<(), ApiError> {
    let mut failure = None;
    let mut rest = ops.into_iter();
    loop {
        let batch: Vec<Op> = rest.by_ref().take(PARALLEL_MAX).collect();
        if batch.is_empty() {
            return failure.map_or(Ok(()), Err);
        }
        let done = join_all(batch.into_iter().map(|op| async move {
            let mut written = Vec::new();
            let result = perform(client, recorder, op, &mut written).await;
            (result, written)
        }));
        for (result, more) in done.await {
            written.extend(more);
            if let Err(error) = result {
                failure.get_or_insert(error);
            }
        }
    }
}

fn revision(stored: &Value) -> u64 {
    stored
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}
