//! A stand-in for the API server, for tests of controllers that ask in the middle of what they do. It says what it
//! serves, deletes as the API does, and does not answer writes any more from a point on. It knows no schema and checks
//! nothing else.

mod routes;

use crate::manager::TaskContext;
use crate::simulation::merge;
use crate::testing::world;
use agent_runtime::{Body, Client, EventRecorder, Hub, InProcessService, ResourceRef};
use http::Request;
use http_body_util::BodyExt;
use routes::reply;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;

/// Plural, namespace and name.
type Place = (String, String, String);
/// A status code and its reason.
type Refusal = (u16, &'static str);
type Answer = Result<Value, Refusal>;

const NOT_FOUND: Refusal = (404, "NotFound");
const CONFLICT: Refusal = (409, "Conflict");
/// When whatever is deleted was deleted.
const DELETED: &str = "2026-01-01T10:00:00Z";
const PROPAGATIONS: [(&str, &str); 2] =
    [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")];

/// A resource, and what can be done with it.
pub(crate) type Serves = (ResourceRef, &'static [&'static str]);

/// What a watch would tell: an object as it is now, or as it was at last.
pub(crate) struct News {
    pub(crate) plural: String,
    pub(crate) object: Value,
    pub(crate) is_gone: bool,
}

/// See the module head. Clones are the same.
#[derive(Clone)]
pub(crate) struct Api(Arc<Mutex<State>>);

struct State {
    serves: Vec<Serves>,
    objects: BTreeMap<Place, Value>,
    version: u64,
    /// So many writes are still answered.
    left: Option<u64>,
    news: VecDeque<News>,
    /// Answers that come from somewhere else, by path.
    others: BTreeMap<String, Answer>,
    /// Resources of which nothing can be deleted.
    undeletable: BTreeSet<String>,
}

/// A runtime whose clock goes on when nothing is left to be done.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let all = object["metadata"]["finalizers"].as_array();
    all.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

impl Api {
    pub(crate) fn new(serves: &[Serves]) -> Self {
        Self(Arc::new(Mutex::new(State {
            serves: serves.to_vec(),
            objects: BTreeMap::new(),
            version: 0,
            left: None,
            news: VecDeque::new(),
            others: BTreeMap::new(),
            undeletable: BTreeSet::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn context(&self) -> TaskContext {
        let (client, stop) = (self.client(), CancellationToken::new());
        TaskContext {
            hub: Hub::new(client.clone(), &stop),
            client,
            caches: world("").caches,
            recorder: EventRecorder::silent(),
            cluster_ca_pem: "".into(),
            options: Arc::default(),
            stop,
        }
    }

    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let answer = api.state().answer(&parts.method, parts.uri.path(), &body);
                answer.map(|(code, value)| reply(code, &value))
            }
        });
        Client::in_process(InProcessService::new(service))
    }

    /// Only so many writes are answered from now on.
    pub(crate) fn cut_off(&self, left: Option<u64>) {
        self.state().left = left;
    }

    /// Answers this wherever the path is asked for, or no more.
    pub(crate) fn answer_at(&self, path: &str, answer: Option<Answer>) {
        let mut state = self.state();
        match answer {
            Some(answer) => drop(state.others.insert(path.to_owned(), answer)),
            None => drop(state.others.remove(path)),
        }
    }

    pub(crate) fn refuse_deletions(&self, plural: &str, refuse: bool) {
        let mut state = self.state();
        if refuse {
            state.undeletable.insert(plural.to_owned());
        } else {
            state.undeletable.remove(plural);
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.state().version
    }

    pub(crate) fn take_news(&self) -> VecDeque<News> {
        std::mem::take(&mut self.state().news)
    }

    pub(crate) fn put(&self, plural: &str, object: Value) {
        self.state().put(plural, object);
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().object(plural, namespace, name).ok()
    }

    pub(crate) fn all(&self, plural: &str) -> Vec<Value> {
        self.state().in_namespace(plural, "")
    }

    /// As users delete.
    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str, propagation: &str) {
        let options = json!({"propagationPolicy": propagation});
        let deleted = self.state().delete(plural, namespace, name, &options);
        deleted.expect("an object to delete");
    }

    /// As others write.
    pub(crate) fn patch(&self, plural: &str, namespace: &str, name: &str, patch: &Value) {
        let patched = self.state().patch(plural, namespace, name, patch);
        patched.expect("an object to patch");
    }

    /// Whatever holds it.
    pub(crate) fn remove(&self, plural: &str, namespace: &str, name: &str) {
        self.state().remove(plural, namespace, name);
    }
}

impl State {
    /// Those of all namespaces where it is empty.
    fn in_namespace(&self, plural: &str, namespace: &str) -> Vec<Value> {
        let is_meant =
            |place: &Place| place.0 == plural && (namespace.is_empty() || place.1 == namespace);
        let meant = self.objects.iter().filter(|(place, _)| is_meant(place));
        meant.map(|(_, object)| object.clone()).collect()
    }

    fn object(&self, plural: &str, namespace: &str, name: &str) -> Answer {
        let found = self.objects.get(&place(plural, namespace, name));
        found.cloned().ok_or(NOT_FOUND)
    }

    /// Stores an object under its next version.
    fn put(&mut self, plural: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let place = place(plural, text("namespace"), text("name"));
        let (plural, is_gone) = (plural.to_owned(), false);
        self.objects.insert(place, object.clone());
        self.news.push_back(News {
            plural,
            object,
            is_gone,
        });
    }

    fn remove(&mut self, plural: &str, namespace: &str, name: &str) {
        let last = self.objects.remove(&place(plural, namespace, name));
        if let Some(object) = last {
            self.version += 1;
            let (plural, is_gone) = (plural.to_owned(), true);
            self.news.push_back(News {
                plural,
                object,
                is_gone,
            });
        }
    }

    fn patch(&mut self, plural: &str, namespace: &str, name: &str, patch: &Value) -> Answer {
        let before = self.object(plural, namespace, name)?;
        let mut object = before.clone();
        for field in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != before["metadata"][field] {
                return Err(CONFLICT);
            }
        }
        merge(&mut object, patch);
        if object == before {
            return Ok(before);
        }
        let was_held = !finalizers(&before).is_empty() || holds_itself(&before);
        let is_held = !finalizers(&object).is_empty() || holds_itself(&object);
        if is_deleting(&object) && was_held && !is_held {
            self.remove(plural, namespace, name);
        } else {
            self.put(plural, object.clone());
        }
        Ok(object)
    }

    fn delete(&mut self, plural: &str, namespace: &str, name: &str, options: &Value) -> Answer {
        let before = self.object(plural, namespace, name)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != before["metadata"][field] {
                return Err(CONFLICT);
            }
        }
        if self.undeletable.contains(plural) {
            return Err((403, "Forbidden"));
        }
        let mut object = before.clone();
        let kept = finalizers_for(&before, options["propagationPolicy"].as_str());
        if kept != finalizers(&before) {
            object["metadata"]["finalizers"] = json!(kept);
        }
        // Somebody runs it, and says when it has ended.
        let runs = plural == "pods" && before["status"]["phase"] == "Running";
        if !runs && kept.is_empty() && !holds_itself(&before) {
            self.remove(plural, namespace, name);
            return Ok(object);
        }
        if !is_deleting(&before) {
            object["metadata"]["deletionTimestamp"] = DELETED.into();
        }
        if object != before {
            self.put(plural, object.clone());
        }
        Ok(object)
    }
}

fn place(plural: &str, namespace: &str, name: &str) -> Place {
    (plural.to_owned(), namespace.to_owned(), name.to_owned())
}

/// Namespaces have finalizers in their spec, too.
fn holds_itself(object: &Value) -> bool {
    let own = object["spec"]["finalizers"].as_array();
    own.is_some_and(|own| !own.is_empty())
}

/// Those that a deletion leaves or adds.
fn finalizers_for<'a>(object: &'a Value, propagation: Option<&str>) -> Vec<&'a str> {
    let mut kept = finalizers(object);
    let Some(propagation) = propagation else {
        return kept;
    };
    for (policy, finalizer) in PROPAGATIONS {
        let is_there = kept.contains(&finalizer);
        if policy != propagation {
            kept.retain(|one| *one != finalizer);
        } else if !is_there {
            kept.push(finalizer);
        }
    }
    kept
}
