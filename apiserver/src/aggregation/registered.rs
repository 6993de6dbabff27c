//! The APIServices of what this server serves itself: made, kept as they are, and taken away with what they stand for.
//! Whoever takes the label off one has it for himself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use schema::Object;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::availability::Verdict;
use crate::ApiServer;
use crate::bootstrap;
use crate::cache::Cache;
use crate::managed::{self, Owner};
use crate::status::{ApiError, ApiResult};
use crate::verbs::create;
use crate::verbs::delete::{self, DeleteOptions};
use crate::world::REVISION_WAIT;
use crate::write::{Extra, Step};

const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// The label of those that stand for what the program has, and of those for definitions.
const BUILT_IN: &str = "onstart";
const DEFINED: &str = "true";
/// Of definitions: among the last.
const DEFINED_PRIORITIES: (i64, i64) = (1_000, 100);
/// Changes within this time are looked at together.
const GATHER: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_secs(1);

/// The spec and the label of an APIService that has to be there.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    label: &'static str,
    spec: Value,
}

impl Wanted {
    fn new(label: &'static str, group: &str, version: &str, priorities: (i64, i64)) -> Wanted {
        Wanted {
            label,
            spec: json!({"group": group, "version": version,
                "groupPriorityMinimum": priorities.0, "versionPriority": priorities.1}),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Op {
    Create,
    /// The spec is not the wanted one, or the condition is missing.
    Repair,
    Delete,
}

/// What has to be done about an APIService.
fn plan(wanted: Option<&Wanted>, present: Option<&Object>) -> Option<Op> {
    let label = |object: &Object| object.label(LABEL).map(str::to_owned);
    match (wanted, present) {
        (None, None) => None,
        (Some(_), None) => Some(Op::Create),
        (None, Some(present)) => label(present).is_some().then_some(Op::Delete),
        (Some(wanted), Some(present)) => {
            (repaired(wanted, present, "") != *present).then_some(Op::Repair)
        }
    }
}

/// The APIService as it has to be; as it is where it is somebody's own.
fn repaired(wanted: &Wanted, present: &Object, now: &str) -> Object {
    let mut new = present.clone();
    if present.label(LABEL).is_some() {
        let spec = wanted.spec.as_object().into_iter().flatten();
        let differs = spec
            .clone()
            .any(|(field, value)| present.get(&["spec", field]) != Some(value));
        let has_service = present
            .get(&["spec", "service"])
            .is_some_and(Value::is_object);
        if differs || has_service {
            new.set(&["spec"], wanted.spec.clone());
        }
    }
    let is_local = !new.get(&["spec", "service"]).is_some_and(Value::is_object);
    if is_local && !Verdict::local().is_in(&new) {
        new = Verdict::local().put(&new, now);
    }
    new
}

/// Group and version of a name: `v1.apps`, and `v1.` for the core group.
fn parse(name: &str) -> (&str, &str) {
    let (version, group) = name.split_once('.').unwrap_or((name, ""));
    (group, version)
}

fn name_of(group: &str, version: &str) -> String {
    format!("{version}.{group}")
}

/// What has to be there under a name.
fn wanted(server: &ApiServer, name: &str) -> Option<Wanted> {
    let (group, version) = parse(name);
    if resources::may_be_taken_over(group) {
        // Whoever installs a server for it makes the APIService, and some installers refuse to take over one that is there.
        return None;
    }
    if let Some(priorities) = resources::priorities(group, version) {
        return Some(Wanted::new(BUILT_IN, group, version, priorities));
    }
    let serves = |one: &resources::Handle| one.version == version;
    let is_defined = server.world.customs.of_group(group).iter().any(serves);
    is_defined.then(|| Wanted::new(DEFINED, group, version, DEFINED_PRIORITIES))
}

pub(super) async fn run(server: &Arc<ApiServer>) {
    let world = &server.world;
    let definitions = world.named("apiextensions.k8s.io", "customresourcedefinitions");
    let (Some(definitions), Some(services)) =
        (definitions, world.named(super::GROUP, super::PLURAL))
    else {
        return;
    };
    let mut wakes = [definitions.subscribe(), services.subscribe()];
    let mut known = Known::default();
    let mut todo = BTreeSet::new();
    for group in resources::groups() {
        todo.extend(
            group
                .versions
                .iter()
                .map(|version| name_of(group.name, version)),
        );
    }
    let mut cursor = None;
    loop {
        wakes.iter_mut().for_each(|wake| wake.mark_unchanged());
        // The definitions count when the world shows them, which is a little later than their cache does.
        let changed = definitions.snapshot(0).changed;
        let shown = world
            .wait_for(changed, Instant::now() + REVISION_WAIT)
            .await;
        known.follow(server, &mut todo);
        touched(services, &mut cursor, &mut todo);
        let mut again = BTreeSet::new();
        for name in std::mem::take(&mut todo) {
            if let Err(error) = settle(server, &name).await {
                tracing::debug!(
                    name,
                    message = error.message,
                    "an APIService is tried again"
                );
                again.insert(name);
            }
        }
        let is_done = again.is_empty() && shown.is_ok();
        todo = again;
        let [first, second] = &mut wakes;
        let changed = async {
            tokio::select! {
                biased;
                changed = first.changed() => changed,
                changed = second.changed() => changed,
            }
        };
        let closed = match is_done {
            true => changed.await.is_err(),
            false => matches!(tokio::time::timeout(AGAIN, changed).await, Ok(Err(_))),
        };
        if closed {
            return;
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Versions of the groups of definitions, each with the change at which they were seen.
#[derive(Default)]
struct Known(BTreeMap<String, (u64, BTreeSet<String>)>);

impl Known {
    /// Adds the names of all versions that came or went.
    fn follow(&mut self, server: &ApiServer, todo: &mut BTreeSet<String>) {
        let customs = &server.world.customs;
        let groups = customs.groups();
        for (group, changed) in &groups {
            let known = self.0.entry(group.clone()).or_default();
            if known.0 == *changed {
                continue;
            }
            let served = customs.of_group(group);
            let now: BTreeSet<String> = served.iter().map(|one| one.version.to_string()).collect();
            todo.extend(
                now.symmetric_difference(&known.1)
                    .map(|version| name_of(group, version)),
            );
            *known = (*changed, now);
        }
        let names: BTreeSet<&str> = groups.iter().map(|(group, _)| group.as_str()).collect();
        self.0.retain(|group, (_, versions)| {
            let stays = names.contains(group.as_str());
            if !stays {
                todo.extend(versions.iter().map(|version| name_of(group, version)));
            }
            stays
        });
    }
}

/// Adds the names of APIServices that changed since the last call: somebody may have deleted or bent them.
fn touched(cache: &Cache, cursor: &mut Option<u64>, todo: &mut BTreeSet<String>) {
    let read = cursor.as_mut().map(|at| cache.read_changes(at, usize::MAX));
    if let Some(Ok(changes)) = read {
        for change in changes {
            let entry = change.new.as_ref().or(change.old.as_ref());
            todo.extend(entry.map(|entry| entry.name().to_owned()));
        }
        return;
    }
    let snapshot = cache.snapshot(0);
    *cursor = Some(snapshot.cursor);
    let entries = snapshot.tree.iter_prefix(&cache.prefix);
    todo.extend(entries.map(|entry| entry.name().to_owned()));
}

/// Makes one APIService what it has to be.
async fn settle(server: &Arc<ApiServer>, name: &str) -> ApiResult<()> {
    let resource = resources::find(super::GROUP, "v1", super::PLURAL);
    let resource = resource.ok_or_else(ApiError::no_such_resource)?;
    let wanted = wanted(server, name);
    let present = server.world.get(super::GROUP, super::PLURAL, "", name);
    let present = present.map(|entry| entry.object());
    let done = match plan(wanted.as_ref(), present.as_ref()) {
        None => return local_condition(server, name, present.as_ref()).await,
        Some(Op::Delete) => {
            let context = bootstrap::internal(server, resource, "", name);
            let options = DeleteOptions::default();
            delete::delete_unasked(&context, resource, ("", name), &options)
                .await
                .map(drop)
        }
        Some(Op::Create) => {
            let Some(wanted) = wanted else { return Ok(()) };
            let object = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": name, "labels": {LABEL: wanted.label}}, "spec": wanted.spec});
            let object = Object::new(object)
                .map_err(|_| ApiError::internal("an APIService is no object"))?;
            let context = bootstrap::internal(server, resource, "", "");
            let owner = Owner::Manager(managed::SERVER, "");
            create::create_object(&context, resource, object, false, owner)
                .await
                .map(drop)
        }
        Some(Op::Repair) => {
            let Some(wanted) = wanted else { return Ok(()) };
            let now = schema::time::now_rfc3339(crate::clock::unix_seconds());
            let mut decide = |old: &Object| {
                let new = repaired(&wanted, old, &now);
                Ok(match new == *old {
                    true => Step::Keep(new),
                    false => Step::Write(new, Extra::default()),
                })
            };
            server
                .change(resource, "", name, false, &mut decide)
                .await
                .map(drop)
        }
    };
    match done {
        // Another member was faster.
        Err(error) if error.code == 404 || error.reason == "AlreadyExists" => Ok(()),
        done => done,
    }
}

/// Somebody's own APIService without a Service says that this server serves the version.
async fn local_condition(
    server: &Arc<ApiServer>,
    name: &str,
    present: Option<&Object>,
) -> ApiResult<()> {
    let is_local = |object: &Object| {
        !object
            .get(&["spec", "service"])
            .is_some_and(Value::is_object)
    };
    let lacks = |object: &Object| is_local(object) && !Verdict::local().is_in(object);
    let resource = resources::find(super::GROUP, "v1", super::PLURAL);
    let (Some(resource), true) = (resource, present.is_some_and(lacks)) else {
        return Ok(());
    };
    let now = schema::time::now_rfc3339(crate::clock::unix_seconds());
    let mut decide = |old: &Object| {
        Ok(match lacks(old) {
            true => Step::Write(Verdict::local().put(old, &now), Extra::default()),
            false => Step::Keep(old.clone()),
        })
    };
    match server.change(resource, "", name, false, &mut decide).await {
        Err(error) if error.code != 404 => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(label: Option<&str>, spec: Value) -> Object {
        let labels = label.map(|label| json!({LABEL: label}));
        let object = json!({"metadata": {"name": "v1.x.io", "labels": labels}, "spec": spec});
        Verdict::local().put(&Object::new(object).unwrap(), "t")
    }

    #[test]
    fn what_is_served_has_an_api_service() {
        let wanted = Wanted::new(DEFINED, "x.io", "v1", DEFINED_PRIORITIES);
        let same = present(Some("true"), wanted.spec.clone());
        assert_eq!(plan(None, None), None);
        assert_eq!(plan(Some(&wanted), None), Some(Op::Create));
        assert_eq!(plan(Some(&wanted), Some(&same)), None);
        assert_eq!(plan(None, Some(&same)), Some(Op::Delete));
        let mut bent = wanted.spec.clone();
        bent["versionPriority"] = 1.into();
        let bent = present(Some("true"), bent);
        assert_eq!(plan(Some(&wanted), Some(&bent)), Some(Op::Repair));
        assert_eq!(
            repaired(&wanted, &bent, "t").get(&["spec"]),
            Some(&wanted.spec)
        );
        // Fields that defaults add are no reason.
        let mut more = wanted.spec.clone();
        more["service"] = Value::Null;
        assert_eq!(
            plan(Some(&wanted), Some(&present(Some("true"), more))),
            None
        );
    }

    #[test]
    fn one_without_the_label_is_somebodys_own() {
        let wanted = Wanted::new(DEFINED, "x.io", "v1", DEFINED_PRIORITIES);
        let own = present(
            None,
            json!({"group": "x.io", "version": "v1", "service": {"name": "s"}}),
        );
        assert_eq!(plan(Some(&wanted), Some(&own)), None);
        assert_eq!(plan(None, Some(&own)), None);
    }

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(parse("v1."), ("", "v1"));
        assert_eq!(
            parse("v1beta1.metrics.k8s.io"),
            ("metrics.k8s.io", "v1beta1")
        );
        assert_eq!(name_of("", "v1"), "v1.");
    }
}
