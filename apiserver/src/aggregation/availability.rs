//! Asks the servers of remote group versions whether they are there, writes the answer into the condition `Available` of
//! their APIServices, and keeps what they say of themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use auth::User;
use auth::user::GROUP_MASTERS;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use schema::Object;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::discovered::{Discovered, part_of_v2};
use super::pass::identify;
use super::remote::{Remote, Target};
use super::state::Served;
use crate::ApiServer;
use crate::outgoing::{self, Backend, ResolveError};
use crate::status::ApiResult;
use crate::subresources::set_condition;
use crate::write::{Extra, Step};

/// A server that is there is asked again after this time, and one that is not there sooner, less and less often.
const AGAIN_MAX: Duration = Duration::from_secs(30);
const AGAIN_MIN: Duration = Duration::from_secs(1);
/// Changes within this time are looked at together.
const GATHER: Duration = Duration::from_millis(100);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);
/// One of several endpoints may be broken: another is tried before the version counts as gone.
const ATTEMPTS: usize = 3;
/// Servers that are asked at once.
const IN_FLIGHT: usize = 8;

/// What the condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Verdict {
        Verdict {
            status: "False",
            reason,
            message,
        }
    }

    pub(super) fn local() -> Verdict {
        Verdict {
            status: "True",
            reason: "Local",
            message: "Local APIServices are always available".to_owned(),
        }
    }

    fn passed() -> Verdict {
        Verdict {
            status: "True",
            reason: "Passed",
            message: "all checks passed".to_owned(),
        }
    }

    /// Whether the object says so already.
    pub(super) fn is_in(&self, object: &Object) -> bool {
        let says = |condition: &Value, field: &str, text: &str| condition[field] == text;
        object.condition("Available").is_some_and(|condition| {
            says(condition, "status", self.status)
                && says(condition, "reason", self.reason)
                && says(condition, "message", &self.message)
        })
    }

    /// The object with this as its condition.
    pub(super) fn put(&self, object: &Object, now: &str) -> Object {
        let mut new = object.clone();
        let before = object.condition("Available");
        let since = before
            .filter(|condition| condition["status"] == self.status)
            .and_then(|condition| condition["lastTransitionTime"].as_str())
            .unwrap_or(now);
        let condition = json!({"type": "Available", "status": self.status, "lastTransitionTime": since,
            "reason": self.reason, "message": self.message});
        set_condition(&mut new, condition);
        new
    }
}

/// What is wrong with the Service, before anybody is asked; none where it leads somewhere.
fn fault(target: &Target, service: Option<&Object>, slices: &[Object]) -> Option<Verdict> {
    let (name, namespace) = (&target.name, schema::field::go_quote(&target.namespace));
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace} is not present");
        return Some(Verdict::no("ServiceNotFound", message));
    };
    let error = outgoing::resolve(service, slices, target.port).err()?;
    let ports = service.get_array(&["spec", "ports"]);
    let port = ports
        .into_iter()
        .flatten()
        .find(|port| port["port"] == target.port);
    let port = port
        .and_then(|port| port["name"].as_str())
        .unwrap_or_default();
    let has_slices = slices
        .iter()
        .any(|slice| slice.label("kubernetes.io/service-name") == Some(name));
    Some(match error {
        ResolveError::NoPort(..) => Verdict::no(
            "ServicePortError",
            format!(
                "service/{name} in {namespace} is not listening on port {}",
                target.port
            ),
        ),
        ResolveError::NoEndpoints(_) if !has_slices => Verdict::no(
            "EndpointsNotFound",
            format!("cannot find endpointslices for service/{name} in {namespace}"),
        ),
        ResolveError::NoEndpoints(_) => Verdict::no(
            "MissingEndpoints",
            format!(
                "endpointslices for service/{name} in {namespace} have no addresses with port name {}",
                schema::field::go_quote(port)
            ),
        ),
        other => Verdict::no("ServiceAccessError", other.to_string()),
    })
}

/// What a look at a server depends on: where it has changed, the last look says nothing any more.
#[derive(PartialEq, Eq)]
struct Seen {
    target: Target,
    /// Of the Service and of its EndpointSlices.
    revisions: Vec<i64>,
}

/// When a server is asked next.
struct Plan {
    seen: Seen,
    at: Instant,
    pause: Duration,
}

pub(super) async fn run(server: &Arc<ApiServer>) {
    let world = &server.world;
    let caches = [
        world.named(super::GROUP, super::PLURAL),
        world.named("", "services"),
        world.named("discovery.k8s.io", "endpointslices"),
    ];
    let mut wakes: Vec<_> = caches
        .into_iter()
        .flatten()
        .map(|cache| cache.subscribe())
        .collect();
    let mut plans: BTreeMap<String, Plan> = BTreeMap::new();
    loop {
        wakes.iter_mut().for_each(|wake| wake.mark_unchanged());
        let all = server.aggregation.all();
        plans.retain(|name, _| all.iter().any(|one| one.remote.name == *name));
        look(server, &all, &mut plans).await;
        let next = plans.values().map(|plan| plan.at).min();
        // While nothing is registered, Services and their endpoints are of no interest.
        let watched = if all.is_empty() { 1 } else { wakes.len() };
        let changes = wakes[..watched]
            .iter_mut()
            .map(|wake| Box::pin(wake.changed()));
        let changed = futures::future::select_all(changes);
        match next {
            Some(next) => drop(tokio::time::timeout_at(next, changed).await),
            None => drop(changed.await),
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Asks those of whom it is time.
async fn look(server: &Arc<ApiServer>, all: &[Arc<Served>], plans: &mut BTreeMap<String, Plan>) {
    let now = Instant::now();
    let mut due = Vec::new();
    for served in all {
        let (seen, fault) = judge(server, &served.remote);
        let known = plans.get(&served.remote.name);
        let is_due = known.is_none_or(|plan| plan.seen != seen || plan.at <= now);
        if is_due {
            let pause = known
                .filter(|plan| plan.seen == seen)
                .map(|plan| plan.pause);
            due.push((served.clone(), seen, fault, pause.unwrap_or(AGAIN_MIN)));
        }
    }
    let mut looks = futures::stream::iter(due)
        .map(|(served, seen, fault, pause)| async move {
            let verdict = match fault {
                Some(fault) => {
                    forget(server, &served.remote);
                    fault
                }
                None => ask(server, &served).await,
            };
            let written = write(server, &served.remote, &verdict).await;
            if let Err(error) = &written {
                tracing::debug!(
                    name = served.remote.name,
                    message = error.message,
                    "an APIService's condition"
                );
            }
            let is_good = verdict.status == "True" && written.is_ok();
            let pause = if is_good { AGAIN_MAX } else { pause };
            let next = if is_good {
                AGAIN_MIN
            } else {
                (pause * 2).min(AGAIN_MAX)
            };
            (served.remote.name.clone(), seen, pause, next)
        })
        .buffer_unordered(IN_FLIGHT);
    while let Some((name, seen, wait, pause)) = looks.next().await {
        let at = Instant::now() + wait;
        plans.insert(name, Plan { seen, at, pause });
    }
}

fn judge(server: &ApiServer, remote: &Remote) -> (Seen, Option<Verdict>) {
    let target = &remote.service;
    let service = server
        .world
        .get("", "services", &target.namespace, &target.name);
    let slices = server
        .world
        .list("discovery.k8s.io", "endpointslices", &target.namespace);
    let mut own = Vec::new();
    let mut revisions = Vec::from_iter(service.as_ref().map(|service| service.revision));
    for slice in slices {
        let object = slice.object();
        if object.label("kubernetes.io/service-name") == Some(&target.name) {
            revisions.push(slice.revision);
            own.push(object);
        }
    }
    let service = service.map(|service| service.object());
    let fault = fault(target, service.as_ref(), &own);
    let seen = Seen {
        target: target.clone(),
        revisions,
    };
    (seen, fault)
}

/// What was known of it is shown on, as old.
fn forget(server: &ApiServer, remote: &Remote) {
    let known = server.aggregation.discovered(&remote.name);
    let known = known
        .map(|known| Discovered::clone(&known))
        .unwrap_or_default();
    server.aggregation.learn(
        &remote.name,
        Discovered {
            is_current: false,
            ..known
        },
    );
}

/// Asks a server for its discovery, which every one has.
async fn ask(server: &Arc<ApiServer>, served: &Served) -> Verdict {
    let remote = &served.remote;
    let failed = |text: String| Verdict::no("FailedDiscoveryCheck", text);
    let backend = match &*served.backend {
        Ok(backend) => backend,
        Err(text) => return failed(text.clone()),
    };
    let path = format!("/apis/{}/{}", remote.group, remote.version);
    let url = backend.url(&path);
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match get(backend, &path, None).await {
            Ok((status, body)) if status.is_success() => {
                learn(server, backend, remote, &body).await;
                return Verdict::passed();
            }
            Ok((status, _)) => last = format!("bad status from {url}: {}", status.as_u16()),
            Err(error) => last = error,
        }
    }
    forget(server, remote);
    failed(format!("failing or missing response from {url}: {last}"))
}

/// A request of this server's own.
async fn get(
    backend: &Backend,
    path: &str,
    accept: Option<&'static str>,
) -> Result<(StatusCode, Bytes), String> {
    let mut headers = HeaderMap::new();
    let user = User::new("system:kube-aggregator", [GROUP_MASTERS]);
    identify(&mut headers, &user).map_err(|error| error.to_string())?;
    let accept = accept.unwrap_or("application/json");
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    let url = backend.url(path);
    let mut request = Request::new(axum::body::Body::empty());
    *request.uri_mut() = url.parse().map_err(|error| format!("{error}"))?;
    *request.headers_mut() = headers;
    let answer = async {
        let answer = backend.send(request).await;
        let answer = answer.map_err(|error| format!("Get {url:?}: {error}"))?;
        let (parts, body) = answer.into_parts();
        let body = outgoing::read(&parts.headers, axum::body::Body::new(body)).await?;
        Ok((parts.status, body))
    };
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("timed out waiting for {url}")),
    }
}

/// Keeps what a server says of itself. Its documents are read again when their hash has changed.
async fn learn(server: &Arc<ApiServer>, backend: &Backend, remote: &Remote, list: &[u8]) {
    let list: Value = serde_json::from_slice(list).unwrap_or_default();
    let known = server.aggregation.discovered(&remote.name);
    let known = known
        .map(|known| Discovered::clone(&known))
        .unwrap_or_default();
    let mut now = Discovered {
        resources: list["resources"].as_array().cloned().unwrap_or_default(),
        is_current: true,
        ..known
    };
    let entry = format!("apis/{}/{}", remote.group, remote.version);
    let index = json_of(get(backend, "/openapi/v3", None).await);
    let url = index
        .as_ref()
        .and_then(|index| index["paths"][&entry]["serverRelativeURL"].as_str());
    let hash = url
        .and_then(|url| url.split_once("hash="))
        .map(|(_, hash)| hash.to_owned());
    let is_known = hash.is_some() && now.v3.as_ref().map(|(hash, _)| hash) == hash.as_ref();
    if is_known && now.v2.is_some() {
        return server.aggregation.learn(&remote.name, now);
    }
    if let (Some(url), Some(hash)) = (url, hash)
        && url.starts_with('/')
        && let Ok((StatusCode::OK, document)) = get(backend, url, None).await
    {
        now.v3 = Some((hash, document));
    }
    if let Some(document) = json_of(get(backend, "/openapi/v2", None).await) {
        now.v2 = Some(part_of_v2(&document, &remote.group, &remote.version));
    }
    server.aggregation.learn(&remote.name, now);
}

fn json_of(answer: Result<(StatusCode, Bytes), String>) -> Option<Value> {
    let (status, body) = answer.ok()?;
    let is_good = status == StatusCode::OK;
    is_good
        .then(|| serde_json::from_slice(&body).ok())
        .flatten()
}

async fn write(server: &Arc<ApiServer>, remote: &Remote, verdict: &Verdict) -> ApiResult<()> {
    let Some(resource) = resources::find(super::GROUP, "v1", super::PLURAL) else {
        return Ok(());
    };
    let now = schema::time::now_rfc3339(crate::clock::unix_seconds());
    let mut falls = false;
    let mut decide = |old: &Object| {
        // One that means another server by now is judged for itself.
        let is_meant = Remote::of(old).is_some_and(|one| one.service == remote.service);
        let writes = is_meant && !verdict.is_in(old);
        let was_there = old.condition_status("Available") == Some("True");
        falls = writes && was_there && verdict.status != "True";
        Ok(match writes {
            true => Step::Write(verdict.put(old, &now), Extra::default()),
            false => Step::Keep(old.clone()),
        })
    };
    let written = server
        .change(resource, "", &remote.name, false, &mut decide)
        .await;
    match written {
        Err(error) if error.code != 404 => Err(error),
        Ok(_) if falls => {
            let storage = &server.metrics.storage;
            storage.service_fell(&remote.name, verdict.reason);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_leads_nowhere_is_a_fault() {
        let target = Target {
            namespace: "n".to_owned(),
            name: "s".to_owned(),
            port: 443,
            ca_bundle: String::new(),
            insecure: false,
        };
        let object = |value: Value| Object::new(value).unwrap();
        let service = |port: u16| {
            object(
                json!({"metadata": {"name": "s"}, "spec": {"ports": [{"name": "https", "port": port}]}}),
            )
        };
        let slice = |endpoints: Value| {
            object(
                json!({"metadata": {"name": "x", "labels": {"kubernetes.io/service-name": "s"}},
                "endpoints": endpoints, "ports": [{"name": "https", "port": 8443}]}),
            )
        };
        let said = |service: Option<&Object>, slices: &[Object]| {
            fault(&target, service, slices)
                .map(|verdict| format!("{} {}", verdict.reason, verdict.message))
        };
        for (service, slices, wanted) in [
            (
                None,
                vec![],
                Some("ServiceNotFound service/s in \"n\" is not present"),
            ),
            (
                Some(service(80)),
                vec![],
                Some("ServicePortError service/s in \"n\" is not listening on port 443"),
            ),
            (
                Some(service(443)),
                vec![],
                Some("EndpointsNotFound cannot find endpointslices for service/s in \"n\""),
            ),
            (
                Some(service(443)),
                vec![slice(json!([]))],
                Some(
                    "MissingEndpoints endpointslices for service/s in \"n\" have no addresses with port name \"https\"",
                ),
            ),
            (
                Some(service(443)),
                vec![slice(json!([{"addresses": ["10.0.0.1"]}]))],
                None,
            ),
        ] {
            assert_eq!(said(service.as_ref(), &slices).as_deref(), wanted);
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_it_says_the_same() {
        let empty = Object::new(json!({"metadata": {"name": "v1.x"}})).unwrap();
        let first = Verdict::no("ServiceNotFound", "a".to_owned()).put(&empty, "t1");
        let second = Verdict::no("MissingEndpoints", "b".to_owned());
        assert!(!second.is_in(&first));
        let second = second.put(&first, "t2");
        let third = Verdict::passed().put(&second, "t3");
        let times = [&first, &second, &third].map(|object| {
            let condition = object.condition("Available").unwrap();
            condition["lastTransitionTime"].as_str().unwrap().to_owned()
        });
        assert_eq!(times, ["t1", "t1", "t3"]);
        assert!(Verdict::passed().is_in(&third));
    }
}
