//! A stand-in for the API server: objects in a map, lists, watches, patches of status, graceful deletion. It knows no
//! schema and checks nothing; what it does is what the agent relies on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_runtime::{Body, Client};
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::{Value, json};
use tokio::sync::broadcast;

type Key = (String, String, String);

#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<(String, &'static str, Value)>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Value>,
    version: u64,
}

impl Api {
    pub(crate) fn new() -> Api {
        Api {
            state: Arc::default(),
            events: broadcast::channel(10_000).0,
        }
    }

    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        Client::in_process(tower::util::BoxCloneSyncService::new(tower::service_fn(
            move |request| {
                let api = api.clone();
                async move { Ok::<_, agent_runtime::BoxError>(api.answer(request).await) }
            },
        )))
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.state.lock().unwrap().objects.get(&key).cloned()
    }

    /// The object, once it is there.
    pub(crate) async fn wait_object(&self, plural: &str, namespace: &str, name: &str) -> Value {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let mut events = self.events.subscribe();
        loop {
            if let Some(object) = self.get(plural, namespace, name) {
                return object;
            }
            // Not every write is announced: the deadline of one look is short.
            let look = tokio::time::Instant::now() + Duration::from_millis(200);
            let _ = tokio::time::timeout_at(look, events.recv()).await;
            assert!(tokio::time::Instant::now() < deadline, "no {plural} {name}");
        }
    }

    pub(crate) fn put(&self, plural: &str, mut object: Value) -> Value {
        let text = |path: &str| {
            object
                .pointer(path)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let key = (
            plural.to_owned(),
            text("/metadata/namespace"),
            text("/metadata/name"),
        );
        let mut state = self.state.lock().unwrap();
        state.version += 1;
        if object.pointer("/metadata/uid").is_none() {
            object["metadata"]["uid"] =
                json!(format!("uid-{}-{}", std::process::id(), state.version));
        }
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let kind = if state.objects.insert(key, object.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        let _ = self.events.send((plural.to_owned(), kind, object.clone()));
        object
    }

    fn remove(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let mut state = self.state.lock().unwrap();
        let mut object =
            state
                .objects
                .remove(&(plural.to_owned(), namespace.to_owned(), name.to_owned()))?;
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let _ = self
            .events
            .send((plural.to_owned(), "DELETED", object.clone()));
        Some(object)
    }

    /// Deletes as `kubectl delete` does.
    pub(crate) fn delete_pod(&self, name: &str, grace: i64) {
        let Some(mut pod) = self.get("pods", "default", name) else {
            return;
        };
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        self.put("pods", pod);
    }

    /// Waits until the condition holds for the pod; fails with its last state.
    pub(crate) async fn wait_pod(
        &self,
        name: &str,
        what: &str,
        condition: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        self.wait("pods", "default", name, what, condition).await
    }

    /// The same for any object.
    pub(crate) async fn wait(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        what: &str,
        condition: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut events = self.events.subscribe();
        loop {
            let object = self.get(plural, namespace, name);
            if condition(object.as_ref()) {
                return object;
            }
            if tokio::time::timeout_at(deadline, events.recv())
                .await
                .is_err()
            {
                panic!(
                    "{name} never got to: {what}\n{:#}\nevents: {:#?}",
                    object.unwrap_or_default()["status"],
                    self.events_of(name)
                );
            }
        }
    }

    /// Reasons and messages of the events about a pod.
    pub(crate) fn events_of(&self, name: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let of_pod = |event: &&Value| {
            ["/involvedObject/name", "/regarding/name"]
                .iter()
                .any(|path| event.pointer(path) == Some(&json!(name)))
        };
        let events = state
            .objects
            .iter()
            .filter(|((plural, _, _), _)| plural == "events")
            .map(|(_, event)| event);
        let text = |event: &Value, field: &str| {
            event
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let note = |event: &Value| {
            if text(event, "message").is_empty() {
                text(event, "note")
            } else {
                text(event, "message")
            }
        };
        events
            .filter(of_pod)
            .map(|event| format!("{}: {}", text(event, "reason"), note(event)))
            .collect()
    }

    pub(crate) async fn wait_event(&self, name: &str, start: &str) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let mut events = self.events.subscribe();
        while !self
            .events_of(name)
            .iter()
            .any(|event| event.starts_with(start))
        {
            if tokio::time::timeout_at(deadline, events.recv())
                .await
                .is_err()
            {
                panic!("no event {start:?} for {name}: {:#?}", self.events_of(name));
            }
        }
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path: Vec<&str> = parts
            .uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let skip = if path[0] == "api" { 2 } else { 3 };
        let (namespace, rest) = match &path[skip..] {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let query: BTreeMap<&str, String> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name, value.replace("%3D", "=").replace("%2F", "/")))
            .collect();
        let selector = query.get("fieldSelector").cloned().unwrap_or_default();
        let watch = query
            .get("watch")
            .is_some_and(|watch| watch == "1" || watch == "true");
        match (&parts.method, rest) {
            (&Method::GET, [plural]) if watch => self.watch(plural, namespace, &selector),
            (&Method::GET, [plural]) => {
                let state = self.state.lock().unwrap();
                let items: Vec<&Value> = state
                    .objects
                    .iter()
                    .filter(|((p, ..), object)| {
                        p == plural && selected(object, namespace, &selector)
                    })
                    .map(|(_, object)| object)
                    .collect();
                reply(
                    StatusCode::OK,
                    &json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items}),
                )
            }
            (&Method::GET, [plural, name]) => self.found(self.get(plural, namespace, name)),
            (&Method::POST, [plural @ ("tokenreviews" | "subjectaccessreviews")]) => {
                reply(StatusCode::CREATED, &reviewed(plural, &body["spec"]))
            }
            (&Method::POST, [plural]) => {
                let name = body
                    .pointer("/metadata/name")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                if self.get(plural, namespace, name).is_some() {
                    return failure(StatusCode::CONFLICT, "AlreadyExists");
                }
                reply(StatusCode::CREATED, &self.put(plural, body))
            }
            (&Method::POST, ["serviceaccounts", name, "token"]) => {
                let token = format!("token-of-{namespace}-{name}");
                reply(
                    StatusCode::CREATED,
                    &json!({"status": {"token": token, "expirationTimestamp": "2099-01-01T00:00:00Z"}}),
                )
            }
            (&Method::PUT, [plural, ..]) => reply(StatusCode::OK, &self.put(plural, body)),
            (&Method::PATCH, [plural, name, ..]) => match self.get(plural, namespace, name) {
                Some(mut object) => {
                    merge(&mut object, &body);
                    reply(StatusCode::OK, &self.put(plural, object))
                }
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
            },
            (&Method::DELETE, [plural, name]) => self.found(self.remove(plural, namespace, name)),
            _ => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn found(&self, object: Option<Value>) -> Response<Body> {
        match object {
            Some(object) => reply(StatusCode::OK, &object),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    fn watch(&self, plural: &str, namespace: &str, selector: &str) -> Response<Body> {
        let (plural, namespace, selector) =
            (plural.to_owned(), namespace.to_owned(), selector.to_owned());
        // Whatever changed between the list and now is sent as well: a repeated state does no harm.
        let current: Vec<_> = {
            let state = self.state.lock().unwrap();
            let all = state.objects.iter().filter(|((p, ..), _)| *p == plural);
            all.map(|((p, ..), object)| (p.clone(), "MODIFIED", object.clone()))
                .collect()
        };
        let later = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
        let later = later.filter_map(|event| futures::future::ready(event.ok()));
        let lines =
            futures::stream::iter(current)
                .chain(later)
                .filter_map(move |(kind, event, object)| {
                    let wanted = kind == plural && selected(&object, &namespace, &selector);
                    let line = wanted.then(|| {
                        Bytes::from(format!("{}\n", json!({"type": event, "object": object})))
                    });
                    futures::future::ready(line.map(|line| Ok(http_body::Frame::data(line))))
                });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

/// There is one token, `good`, of somebody who may read figures and run commands nowhere.
fn reviewed(plural: &str, spec: &Value) -> Value {
    let asked = &spec["resourceAttributes"];
    match plural {
        "tokenreviews" if spec["token"] == "good" => {
            json!({"status": {"authenticated": true, "user": {"username": "scraper", "groups": ["monitoring"]}}})
        }
        "tokenreviews" => json!({"status": {"error": "no such token"}}),
        _ => {
            let allowed = spec["groups"] == json!(["monitoring"])
                && asked["resource"] == "nodes"
                && (asked["subresource"] == "metrics" || asked["subresource"] == "proxy")
                && asked["verb"] == "get";
            json!({"status": {"allowed": allowed}})
        }
    }
}

fn selected(object: &Value, namespace: &str, selector: &str) -> bool {
    let in_namespace =
        namespace.is_empty() || object.pointer("/metadata/namespace") == Some(&json!(namespace));
    let matches = selector.split_once('=').is_none_or(|(field, value)| {
        object.pointer(&format!("/{}", field.replace('.', "/"))) == Some(&json!(value))
    });
    in_namespace && matches
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else if name == "conditions" && target.get(name).is_some() {
            for condition in value.as_array().unwrap() {
                let list = target[name].as_array_mut().unwrap();
                if condition["$patch"] == "delete" {
                    list.retain(|other| other["type"] != condition["type"]);
                    continue;
                }
                match list
                    .iter_mut()
                    .find(|other| other["type"] == condition["type"])
                {
                    Some(other) => merge(other, condition),
                    None => list.push(condition.clone()),
                }
            }
        } else if let Some(items) = value.as_array() {
            target[name] = items
                .iter()
                .filter(|item| item.get("$patch").is_none())
                .cloned()
                .collect();
        } else {
            merge(&mut target[name], value);
        }
    }
}

fn reply(status: StatusCode, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

fn failure(status: StatusCode, reason: &str) -> Response<Body> {
    reply(
        status,
        &json!({"kind": "Status", "status": "Failure", "code": status.as_u16(), "reason": reason, "message": reason}),
    )
}
