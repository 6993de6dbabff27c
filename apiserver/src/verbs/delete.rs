//! DELETE. Whether the object goes at once, waits for finalizers, or (a pod) for its grace period is decided by the
//! pure function [`plan`].

use axum::response::Response;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::StatusCode;
use kv::mutants::{Bug, planted};
use resources::{Resource, definition};
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::Value;

use crate::admission::{self, Admission, Operation};
use crate::context::Context;
use crate::decode::Expected;
use crate::definitions;
use crate::negotiate::{self, BodyFormat};
use crate::service_allocation;
use crate::status::{self, ApiError, ApiResult};
use crate::verbs::update;
use crate::write::{Decide, Extra, Outcome, Step, Version};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Kinds whose dependents stay unless a deletion says otherwise: they are older than the garbage collector.
const ORPHANS: &[(&str, &str)] = &[("", "replicationcontrollers"), ("batch", "jobs")];
/// Kinds whose deletion answers the object itself; the others answer a Status.
const RETURNS_OBJECT: &[(&str, &str)] = &[
    ("", "pods"),
    ("", "services"),
    ("", "serviceaccounts"),
    ("", "podtemplates"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "resourcequotas"),
];

/// What a client says about a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    /// The deprecated boolean was used; it changes the status code.
    orphan_dependents: Option<bool>,
    uid: Option<String>,
    resource_version: Option<String>,
    pub(crate) dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

impl DeleteOptions {
    /// From body and query; the body wins, as in Kubernetes.
    pub(crate) fn read(context: &Context, body: &Bytes) -> ApiResult<DeleteOptions> {
        let mut value = parse_body(context, body)?;
        let dry_run = context.dry_run("DeleteOptions", Some(&value))?;
        let query = &context.query;
        let mut fill = |name: &str, given: Option<Value>| {
            let absent = value.get(name).is_none_or(Value::is_null);
            if let Some(given) = given.filter(|_| absent) {
                value[name] = given;
            }
        };
        fill(
            "gracePeriodSeconds",
            crate::read_version::number(query, "gracePeriodSeconds")?.map(Value::from),
        );
        fill(
            "propagationPolicy",
            query.get("propagationPolicy").map(Value::from),
        );
        fill(
            "orphanDependents",
            query
                .get("orphanDependents")
                .map(|_| query.flag("orphanDependents").into()),
        );
        DeleteOptions::from_value(Some(&value), dry_run)
    }

    /// Narrows the deletion to this very object, and with `state` to this very state of it.
    pub(crate) fn pin(&mut self, object: &Object, state: bool) {
        self.uid = Some(object.uid().to_owned());
        if state {
            self.resource_version = Some(object.resource_version().to_owned());
        }
    }

    /// What admission webhooks see of it.
    fn to_value(&self) -> Value {
        let mut options = serde_json::Map::new();
        if let Some(seconds) = self.grace_period_seconds {
            options.insert("gracePeriodSeconds".to_owned(), seconds.into());
        }
        match (self.orphan_dependents, self.propagation) {
            (Some(orphan), _) => {
                options.insert("orphanDependents".to_owned(), orphan.into());
            }
            (None, Some(policy)) => {
                options.insert("propagationPolicy".to_owned(), format!("{policy:?}").into());
            }
            (None, None) => {}
        }
        let mut preconditions = serde_json::Map::new();
        for (field, wanted) in [
            ("uid", &self.uid),
            ("resourceVersion", &self.resource_version),
        ] {
            if let Some(wanted) = wanted {
                preconditions.insert(field.to_owned(), wanted.as_str().into());
            }
        }
        if !preconditions.is_empty() {
            options.insert("preconditions".to_owned(), Value::Object(preconditions));
        }
        Value::Object(options)
    }

    /// From the JSON of a `DeleteOptions`.
    pub(crate) fn from_value(value: Option<&Value>, dry_run: bool) -> ApiResult<DeleteOptions> {
        let empty = Value::Object(serde_json::Map::new());
        let value = value.unwrap_or(&empty);
        let refuse =
            |error: FieldError| ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &[error]);
        let grace_period_seconds = match value.get("gracePeriodSeconds").filter(|seconds| !seconds.is_null()) {
            None => None,
            Some(seconds) => Some(seconds.as_i64().ok_or_else(|| {
                ApiError::bad_request(format!(
                    "json: cannot unmarshal {} into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
                    schema::object::kind_of(seconds)
                ))
            })?),
        };
        let text = |path: &str| {
            value
                .pointer(path)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let path = Path::new("propagationPolicy");
        let policy = text("/propagationPolicy");
        let propagation = match policy.as_deref() {
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                return Err(refuse(FieldError::not_supported(
                    &path,
                    other,
                    &["Foreground", "Background", "Orphan", "nil"],
                )));
            }
        };
        let orphan_dependents = value.get("orphanDependents").and_then(Value::as_bool);
        if propagation.is_some() && orphan_dependents.is_some() {
            let text = "orphanDependents and deletionPropagation cannot be both set";
            let policy = policy.unwrap_or_default();
            return Err(refuse(FieldError::invalid(&path, policy, text)));
        }
        let by_flag = orphan_dependents.map(|orphan| {
            if orphan {
                Propagation::Orphan
            } else {
                Propagation::Background
            }
        });
        Ok(DeleteOptions {
            grace_period_seconds,
            propagation: propagation.or(by_flag),
            orphan_dependents,
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
            dry_run,
        })
    }
}

fn parse_body(context: &Context, body: &Bytes) -> ApiResult<Value> {
    if body.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    let expected = Expected {
        group: "",
        version: "v1",
        kind: "DeleteOptions",
        custom: None,
    };
    let refuse = |error: &dyn std::fmt::Display| {
        ApiError::bad_request(format!(
            "unable to decode the body into {}: {error}",
            expected.kind
        ))
    };
    let ignore = schema::decode::FieldValidation::Ignore;
    let value = match negotiate::body_format(&context.headers)? {
        BodyFormat::Json => {
            schema::decode::json(None, body, ignore)
                .map_err(|error| refuse(&error))?
                .value
        }
        BodyFormat::Yaml => {
            schema::decode::yaml(None, body, ignore)
                .map_err(|error| refuse(&error))?
                .value
        }
        BodyFormat::Protobuf => schema::protobuf::decode(body).map_err(|error| refuse(&error))?,
    };
    match value.get("kind").and_then(Value::as_str) {
        None | Some("" | "DeleteOptions") if value.is_object() => Ok(value),
        // Some clients write their lack of options so, and Kubernetes takes it.
        None if value.is_null() => Ok(Value::Object(serde_json::Map::new())),
        _ => Err(refuse(&"the object provided is not DeleteOptions")),
    }
}

fn is_in(kinds: &[(&str, &str)], resource: &Resource) -> bool {
    kinds.contains(&(&resource.group, &resource.plural))
}

/// Says so where pods of a Job stay because nothing was said about them.
pub(crate) fn warn_of_orphans(context: &Context, resource: &Resource, options: &DeleteOptions) {
    if resource.group == "batch" && resource.plural == "jobs" && options.propagation.is_none() {
        context.warn(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
             them or set propagationPolicy=Orphan to suppress this warning",
        );
    }
}

pub(crate) async fn delete(
    context: &Context,
    resource: &Resource,
    body: Bytes,
) -> ApiResult<Response> {
    let options = DeleteOptions::read(context, &body)?;
    warn_of_orphans(context, resource, &options);
    let (namespace, name) = update::place(context, resource);
    let outcome = delete_object(context, resource, namespace, name, &options).await?;
    let returns_object = !outcome.removed || is_in(RETURNS_OBJECT, resource);
    if returns_object {
        let accepted = !outcome.removed && options.orphan_dependents == Some(false);
        let code = if accepted {
            StatusCode::ACCEPTED
        } else {
            StatusCode::OK
        };
        return Ok(context.respond_outcome(code, resource, outcome));
    }
    let status = status::success_deleted(
        &resource.group,
        &resource.plural,
        name,
        outcome.object.uid(),
    );
    Ok(context.respond_value(StatusCode::OK, &status))
}

/// Deletes one object, or starts its deletion.
pub(crate) async fn delete_object(
    context: &Context,
    resource: &Resource,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> ApiResult<Outcome> {
    delete_with(context, resource, (namespace, name), options, |_| {}).await
}

/// The same for an object under a definition that goes: nobody else is asked, and it stays in its version.
pub(crate) async fn delete_unasked(
    context: &Context,
    resource: &Resource,
    (namespace, name): (&str, &str),
    options: &DeleteOptions,
) -> ApiResult<Outcome> {
    let mut decide = |old: &Object| -> ApiResult<Step> {
        Ok(match plan(resource, old, options, context.now) {
            Plan::Remove => Step::RemoveAsIs(Extra::default()),
            Plan::Mark(object) => Step::Write(object, Extra::default()),
            Plan::Nothing => Step::Keep(old.clone()),
        })
    };
    let (server, place) = (&context.server, (namespace, name));
    server
        .change_in(resource, Version::Stored, place, false, &mut decide)
        .await
}

/// Deletes one object; where it stays for a while, it stays with what `note` writes on it. What a webhook cannot convert is
/// deleted in the version in which it is stored: a dead one must not keep a namespace from going.
pub(crate) async fn delete_with(
    context: &Context,
    resource: &Resource,
    place: (&str, &str),
    options: &DeleteOptions,
    note: impl Fn(&mut Object) + Send + Sync,
) -> ApiResult<Outcome> {
    let mut deletion = Deletion {
        context,
        resource,
        options,
        note,
    };
    let (server, dry_run) = (&context.server, options.dry_run);
    if !server.seems_inconvertible(resource) {
        let (namespace, name) = place;
        let outcome = server.change(resource, namespace, name, dry_run, &mut deletion);
        match outcome.await {
            Err(error) if error.is_inconvertible => {}
            outcome => return outcome,
        }
    }
    server
        .change_in(resource, Version::Stored, place, dry_run, &mut deletion)
        .await
}

struct Deletion<'a, N> {
    context: &'a Context,
    resource: &'a Resource,
    options: &'a DeleteOptions,
    note: N,
}

impl<N: Fn(&mut Object) + Send + Sync> Decide for Deletion<'_, N> {
    fn decide<'a>(&'a mut self, old: &'a Object) -> BoxFuture<'a, ApiResult<Step>> {
        Box::pin(async move {
            let resource = self.resource;
            check_preconditions(resource, old, self.options)?;
            self.admit(old).await?;
            Ok(match plan(resource, old, self.options, self.context.now) {
                Plan::Remove => Step::RemoveAsIs(service_allocation::for_delete(resource, old)),
                Plan::Mark(mut object) => {
                    (self.note)(&mut object);
                    Step::Write(object, Extra::default())
                }
                Plan::Nothing => Step::Keep(old.clone()),
            })
        })
    }
}

impl<N: Sync> Deletion<'_, N> {
    async fn admit(&self, old: &Object) -> ApiResult<()> {
        let (context, resource) = (self.context, self.resource);
        let customs = &context.server.world.customs;
        let other = (resource.custom.is_some() && old.version() != resource.version)
            .then(|| customs.find(&resource.group, old.version(), &resource.plural));
        let other = other.flatten();
        let resource = other.as_deref().unwrap_or(resource);
        if context.info.subresource == "eviction" {
            // It was admitted as an eviction.
            return Ok(());
        }
        let options = self.options.to_value();
        let dry_run = self.options.dry_run;
        let admission = Admission {
            delete_options: Some(&options),
            ..Admission::new(context, Operation::Delete, resource, "", dry_run).of(old)
        };
        admission::mutate(&admission, None).await?;
        admission::validate(&admission, None).await
    }
}

pub(crate) fn check_preconditions(
    resource: &Resource,
    object: &Object,
    options: &DeleteOptions,
) -> ApiResult<()> {
    // Kubernetes names the kind here, not the resource.
    let refuse = |what: &str, wanted: &str, is: &str, guess: &str| {
        let cause = format!(
            "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been {guess}"
        );
        Err(ApiError::conflict(
            &resource.group,
            &resource.kind,
            object.name(),
            &cause,
        ))
    };
    match (&options.uid, &options.resource_version) {
        (Some(uid), _) if uid != object.uid() => {
            refuse("UID", uid, object.uid(), "deleted and then recreated")
        }
        (_, Some(version)) if version != object.resource_version() => {
            let is = object.resource_version();
            refuse("ResourceVersion", version, is, "modified")
        }
        _ => Ok(()),
    }
}

/// What a deletion does to an object.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan {
    Remove,
    /// Store this: the object that is being deleted.
    Mark(Object),
    /// The deletion is under way and this request does not speed it up.
    Nothing,
}

/// Decides a deletion. `now` in unix seconds.
pub(crate) fn plan(
    resource: &Resource,
    object: &Object,
    options: &DeleteOptions,
    now: i64,
) -> Plan {
    let terminated;
    let mut object = object;
    if definitions::is_definition(resource) && object.deletion_timestamp().is_none() {
        terminated = terminated_at(object, now);
        object = &terminated;
    }
    let finalizers = finalizers_for(resource, object, options.propagation);
    let finalizers_changed = finalizers != object.finalizers();
    // What goes at once needs no copy.
    let with_finalizers = || {
        let mut marked = object.clone();
        if finalizers_changed {
            marked.set_finalizers(&finalizers);
        }
        marked
    };
    if resource.group.is_empty() && resource.plural == "namespaces" {
        return plan_namespace(with_finalizers(), now);
    }
    let waits = |seconds: i64| seconds > 0 || !finalizers.is_empty();
    match graceful(resource, object, options) {
        Grace::Pending if !finalizers_changed => Plan::Nothing,
        Grace::Pending => Plan::Mark(with_finalizers()),
        Grace::Shorten(seconds) if waits(seconds) => {
            let mut marked = with_finalizers();
            let old_seconds = object.deletion_grace_period_seconds().unwrap_or(0);
            let old_time = object
                .deletion_timestamp()
                .and_then(schema::time::parse)
                .unwrap_or(now);
            let time = schema::time::now_rfc3339(old_time - old_seconds + seconds);
            marked.set_deletion_timestamp(Some(&time));
            marked.set_deletion_grace_period_seconds(Some(seconds));
            Plan::Mark(marked)
        }
        Grace::Start(seconds) if waits(seconds) => {
            let mut marked = with_finalizers();
            mark(&mut marked, now + seconds, seconds);
            Plan::Mark(marked)
        }
        Grace::Shorten(_) | Grace::Start(_) => Plan::Remove,
        Grace::None if finalizers.is_empty() || planted(Bug::FinalizersIgnored) => Plan::Remove,
        Grace::None => {
            let mut marked = with_finalizers();
            if object.deletion_timestamp().is_none() {
                mark(&mut marked, now, 0);
            } else if object.deletion_grace_period_seconds().unwrap_or(1) != 0 {
                marked.set_deletion_grace_period_seconds(Some(0));
            }
            if marked == *object {
                Plan::Nothing
            } else {
                Plan::Mark(marked)
            }
        }
    }
}

/// A definition whose objects go first.
fn terminated_at(object: &Object, now: i64) -> Object {
    let mut object = object.clone();
    definition::terminate(&mut object, &schema::time::now_rfc3339(now));
    object
}

fn mark(object: &mut Object, at: i64, seconds: i64) {
    object.set_deletion_timestamp(Some(&schema::time::now_rfc3339(at)));
    object.set_deletion_grace_period_seconds(Some(seconds));
    if object.generation() > 0 {
        object.set_generation(object.generation().saturating_add(1));
    }
}

/// A namespace empties itself first; the namespace controller takes its finalizer away.
fn plan_namespace(mut marked: Object, now: i64) -> Plan {
    let started = marked.deletion_timestamp().is_some();
    let held = marked
        .get_array(&["spec", "finalizers"])
        .is_some_and(|list| !list.is_empty());
    if !held && marked.finalizers().is_empty() {
        return Plan::Remove;
    }
    if started && marked.get_str(&["status", "phase"]) == Some("Terminating") {
        return Plan::Nothing;
    }
    if !started {
        marked.set_deletion_timestamp(Some(&schema::time::now_rfc3339(now)));
    }
    marked.set(&["status", "phase"], "Terminating");
    Plan::Mark(marked)
}

/// The finalizers that the propagation policy asks for; others stay. Without a policy, what the object says itself holds,
/// and then what is usual for its kind.
fn finalizers_for<'a>(
    resource: &Resource,
    object: &'a Object,
    propagation: Option<Propagation>,
) -> Vec<&'a str> {
    let mut list = object.finalizers();
    let Some(propagation) = propagation else {
        let says = |name: &&str| *name == FOREGROUND || *name == ORPHAN;
        if is_in(ORPHANS, resource) && !list.iter().any(says) {
            list.push(ORPHAN);
        }
        return list;
    };
    list.retain(|name| *name != FOREGROUND && *name != ORPHAN);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => list.push(FOREGROUND),
        Propagation::Orphan => list.push(ORPHAN),
    }
    // An unchanged set keeps its order, so that nothing is written.
    let before = object.finalizers();
    if list.len() == before.len() && list.iter().all(|name| before.contains(name)) {
        before
    } else {
        list
    }
}

enum Grace {
    /// The kind knows no grace.
    None,
    Start(i64),
    Shorten(i64),
    Pending,
}

fn graceful(resource: &Resource, object: &Object, options: &DeleteOptions) -> Grace {
    if !resource.graceful {
        return Grace::None;
    }
    let asked = options.grace_period_seconds.map(bounded_grace);
    if object.deletion_timestamp().is_some() {
        let Some(present) = object.deletion_grace_period_seconds() else {
            return Grace::None;
        };
        return match asked {
            Some(seconds) if seconds < present => Grace::Shorten(seconds),
            // Asking again for zero finishes a deletion that only its finalizers held up.
            Some(0) if present == 0 && object.finalizers().is_empty() => Grace::Shorten(0),
            _ => Grace::Pending,
        };
    }
    let bound = object
        .get_str(&["spec", "nodeName"])
        .is_some_and(|node| !node.is_empty());
    let ended = matches!(
        object.get_str(&["status", "phase"]),
        Some("Succeeded" | "Failed")
    );
    if !bound || ended {
        return Grace::Start(0);
    }
    let own = object
        .get_i64(&["spec", "terminationGracePeriodSeconds"])
        .unwrap_or(30);
    let seconds = asked.unwrap_or(own);
    Grace::Start(bounded_grace(seconds))
}

/// Negative is one second, as in Kubernetes; and no more than a time can be added to.
fn bounded_grace(seconds: i64) -> i64 {
    if seconds < 0 {
        1
    } else {
        seconds.min(i64::from(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(extra: Value) -> Object {
        let mut value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "generation": 1},
            "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
        schema_merge(&mut value, &extra);
        Object::new(value).unwrap()
    }

    fn schema_merge(into: &mut Value, from: &Value) {
        if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
            for (key, value) in from {
                if into.get(key).is_some_and(Value::is_object) && value.is_object() {
                    schema_merge(into.get_mut(key).unwrap(), value);
                } else {
                    into.insert(key.clone(), value.clone());
                }
            }
        }
    }

    fn pods() -> &'static Resource {
        resources::find("", "v1", "pods").unwrap()
    }

    fn seconds(seconds: i64) -> DeleteOptions {
        DeleteOptions {
            grace_period_seconds: Some(seconds),
            ..DeleteOptions::default()
        }
    }

    #[test]
    fn pods_get_their_grace_and_may_only_lose_it() {
        let Plan::Mark(first) = plan(pods(), &pod(json!({})), &DeleteOptions::default(), 1_000)
        else {
            panic!()
        };
        assert_eq!(first.deletion_grace_period_seconds(), Some(30));
        assert_eq!(first.deletion_timestamp(), Some("1970-01-01T00:17:10Z"));
        assert_eq!(first.generation(), 2);
        assert_eq!(
            plan(pods(), &first, &DeleteOptions::default(), 1_001),
            Plan::Nothing
        );
        assert_eq!(plan(pods(), &first, &seconds(60), 1_001), Plan::Nothing);
        let Plan::Mark(second) = plan(pods(), &first, &seconds(5), 1_001) else {
            panic!()
        };
        assert_eq!(second.deletion_timestamp(), Some("1970-01-01T00:16:45Z"));
        assert_eq!(plan(pods(), &second, &seconds(0), 1_001), Plan::Remove);
    }

    #[test]
    fn pods_that_run_nowhere_go_at_once() {
        assert_eq!(
            plan(
                pods(),
                &pod(json!({"spec": {"nodeName": ""}})),
                &DeleteOptions::default(),
                1
            ),
            Plan::Remove
        );
        assert_eq!(
            plan(
                pods(),
                &pod(json!({"status": {"phase": "Failed"}})),
                &DeleteOptions::default(),
                1
            ),
            Plan::Remove
        );
        assert_eq!(plan(pods(), &pod(json!({})), &seconds(0), 1), Plan::Remove);
    }

    #[test]
    fn finalizers_hold_and_policies_add_them() {
        let maps = resources::find("", "v1", "configmaps").unwrap();
        let object = Object::new(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}),
        )
        .unwrap();
        assert_eq!(
            plan(maps, &object, &DeleteOptions::default(), 5),
            Plan::Remove
        );
        let foreground = DeleteOptions {
            propagation: Some(Propagation::Foreground),
            ..DeleteOptions::default()
        };
        let Plan::Mark(marked) = plan(maps, &object, &foreground, 5) else {
            panic!()
        };
        assert_eq!(marked.finalizers(), [FOREGROUND]);
        assert_eq!(marked.deletion_grace_period_seconds(), Some(0));
        assert_eq!(plan(maps, &marked, &foreground, 9), Plan::Nothing);
        let background = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        assert_eq!(plan(maps, &marked, &background, 9), Plan::Remove);
    }

    #[test]
    fn old_kinds_leave_their_dependents_unless_told_otherwise() {
        let with = |resource: &Resource, finalizers: &[&str], propagation| {
            let kind = (resource.api_version(), &resource.kind);
            let metadata = json!({"name": "o", "finalizers": finalizers});
            let object = json!({"apiVersion": kind.0, "kind": kind.1, "metadata": metadata});
            let options = DeleteOptions {
                propagation,
                ..DeleteOptions::default()
            };
            match plan(resource, &Object::new(object).unwrap(), &options, 5) {
                Plan::Mark(marked) => marked.finalizers().join(","),
                Plan::Remove => String::new(),
                Plan::Nothing => panic!("it is not being deleted yet"),
            }
        };
        let controllers = resources::find("", "v1", "replicationcontrollers").unwrap();
        let jobs = resources::find("batch", "v1", "jobs").unwrap();
        for old in [controllers, jobs] {
            assert_eq!(with(old, &[], None), ORPHAN);
            assert_eq!(with(old, &["x"], None), "x,orphan");
            assert_eq!(with(old, &[FOREGROUND], None), FOREGROUND);
            assert_eq!(with(old, &[], Some(Propagation::Background)), "");
        }
        let sets = resources::find("apps", "v1", "replicasets").unwrap();
        assert_eq!(with(sets, &[], None), "");
    }

    #[test]
    fn namespaces_wait_for_their_own_finalizer() {
        let namespaces = resources::find("", "v1", "namespaces").unwrap();
        let object = Object::new(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
        )
        .unwrap();
        let Plan::Mark(mut marked) = plan(namespaces, &object, &DeleteOptions::default(), 5) else {
            panic!()
        };
        assert_eq!(marked.get_str(&["status", "phase"]), Some("Terminating"));
        assert_eq!(
            plan(namespaces, &marked, &DeleteOptions::default(), 6),
            Plan::Nothing
        );
        marked.set(&["spec", "finalizers"], json!([]));
        assert_eq!(
            plan(namespaces, &marked, &DeleteOptions::default(), 6),
            Plan::Remove
        );
    }
}
