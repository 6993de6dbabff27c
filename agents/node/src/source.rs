//! Objects of the API that this node follows: its pods, the cluster's services, and the ConfigMaps and Secrets that its
//! pods refer to, each of the latter by a watch of its own, since a node may only read what its pods use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use agent_runtime::resource_ref::{CONFIG_MAPS, SECRETS};
use agent_runtime::{ApiError, Client, ListParams, ResourceRef, WatchParams};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::volumes::payload::ObjectKind;

const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// A watch that ends sooner than this is followed by the next one only after a pause.
const LIVED: Duration = Duration::from_secs(1);
/// A server ends a watch after this time, so that watches spread over the servers again.
const WATCH_SECONDS: u32 = 480;

/// One step of keeping a local copy equal to the API.
#[derive(Debug)]
pub(crate) enum Change {
    /// Everything there is, after a (new) list.
    Replaced(Vec<Value>),
    Applied(Value),
    Deleted(Value),
}

/// Lists and watches until dropped; `on_change` sees every step in order.
pub(crate) async fn reflect(
    client: Client,
    resource: ResourceRef,
    namespace: String,
    field_selector: String,
    mut on_change: impl FnMut(Change) + Send,
) {
    let mut pause = RETRY_MIN;
    let mut version: Option<String> = None;
    loop {
        let started = Instant::now();
        let result = match version.clone() {
            None => list(
                &client,
                &resource,
                &namespace,
                &field_selector,
                &mut on_change,
            )
            .await
            .map(Some),
            Some(from) => {
                follow(
                    &client,
                    &resource,
                    &namespace,
                    &field_selector,
                    from,
                    &mut on_change,
                )
                .await
            }
        };
        let wanted = match result {
            Ok(next) => {
                let lived = version.is_none() || started.elapsed() >= LIVED;
                version = next;
                if lived {
                    pause = RETRY_MIN;
                    continue;
                }
                // A server that ends each watch at once (it is stopping, say) would be asked again and again.
                None
            }
            Err(error) => {
                tracing::debug!(resource = %resource.plural, %namespace, error = %error.message, "watch interrupted");
                if !error.is_transport() {
                    version = None;
                }
                error.retry_after
            }
        };
        let jitter = pause.mul_f64(0.5 + f64::from(rand::random::<u8>()) / 255.0);
        tokio::time::sleep(wanted.unwrap_or(jitter)).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

async fn list(
    client: &Client,
    resource: &ResourceRef,
    namespace: &str,
    field_selector: &str,
    on_change: &mut (impl FnMut(Change) + Send),
) -> Result<String, ApiError> {
    let params = ListParams {
        field_selector: field_selector.to_owned(),
        ..ListParams::default()
    };
    let mut list = client.list(resource, namespace, &params).await?;
    let version = list
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let items = match list.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    on_change(Change::Replaced(items));
    Ok(version)
}

/// Follows the changes after a version. The version to go on from, or none when a new list is needed.
async fn follow(
    client: &Client,
    resource: &ResourceRef,
    namespace: &str,
    field_selector: &str,
    mut version: String,
    on_change: &mut (impl FnMut(Change) + Send),
) -> Result<Option<String>, ApiError> {
    let params = WatchParams {
        field_selector: field_selector.to_owned(),
        resource_version: Some(version.clone()),
        timeout_seconds: WATCH_SECONDS,
        ..WatchParams::default()
    };
    let mut events = match client.watch_stream(resource, namespace, &params).await {
        Ok(events) => events,
        Err(error) if error.is_gone() => return Ok(None),
        Err(error) => return Err(error),
    };
    loop {
        let event = match events.next().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(Some(version)),
            Err(error) if error.is_gone() => return Ok(None),
            // The connection broke: go on from the last version on another one.
            Err(error) if error.is_transport() => {
                tracing::debug!(resource = %resource.plural, error = %error.message, "watch connection lost");
                tokio::time::sleep(RETRY_MIN).await;
                return Ok(Some(version));
            }
            Err(error) => return Err(error),
        };
        if let Some(seen) = event
            .object
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
        {
            version = seen.to_owned();
        }
        match event.kind.as_str() {
            "ADDED" | "MODIFIED" => on_change(Change::Applied(event.object)),
            "DELETED" => on_change(Change::Deleted(event.object)),
            _ => {}
        }
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Owned(JoinHandle<()>);

impl Owned {
    pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Owned {
        Owned(tokio::spawn(future))
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The services of the cluster, for environment variables.
pub(crate) struct Services {
    current: Arc<RwLock<BTreeMap<String, Value>>>,
    synced: watch::Receiver<bool>,
    _task: Owned,
}

impl Services {
    pub(crate) fn follow(client: Client) -> Services {
        let current: Arc<RwLock<BTreeMap<String, Value>>> = Arc::default();
        let (synced, receiver) = watch::channel(false);
        let store = current.clone();
        let task = reflect(
            client,
            agent_runtime::resource_ref::SERVICES,
            String::new(),
            String::new(),
            move |change| {
                let mut store = store.write().expect("no panic while locked");
                match change {
                    Change::Replaced(all) => {
                        *store = all
                            .into_iter()
                            .map(|object| (key(&object), object))
                            .collect()
                    }
                    Change::Applied(object) => drop(store.insert(key(&object), object)),
                    Change::Deleted(object) => drop(store.remove(&key(&object))),
                }
                synced.send_replace(true);
            },
        );
        Services {
            current,
            synced: receiver,
            _task: Owned::spawn(task),
        }
    }

    /// Every service of a namespace and `default/kubernetes`; `None` when none have been read before the deadline.
    pub(crate) async fn visible_from(
        &self,
        namespace: &str,
        patience: Duration,
    ) -> Option<Vec<Value>> {
        let mut synced = self.synced.clone();
        tokio::time::timeout(patience, synced.wait_for(|synced| *synced))
            .await
            .ok()?
            .ok()?;
        let current = self.current.read().expect("no panic while locked");
        let prefix = format!("{namespace}/");
        let visible = current
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) || *key == "default/kubernetes");
        Some(visible.map(|(_, object)| object.clone()).collect())
    }
}

fn key(object: &Value) -> String {
    let text = |path: &str| {
        object
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"))
}

type ObjectKey = (ObjectKind, String, String);

/// ConfigMaps and Secrets, watched as long as somebody holds them.
pub(crate) struct Objects {
    client: Client,
    watched: Mutex<BTreeMap<ObjectKey, Weak<Watched>>>,
}

/// One followed object.
pub(crate) struct Watched {
    /// Outer `None`: not known yet. Inner `None`: there is no such object.
    current: watch::Receiver<Option<Option<Value>>>,
    waiting: Arc<Mutex<Vec<Weak<Notify>>>>,
    _task: Owned,
}

impl Objects {
    pub(crate) fn new(client: Client) -> Objects {
        Objects {
            client,
            watched: Mutex::default(),
        }
    }

    /// Follows an object; `wake` is notified of every change while the result is held.
    pub(crate) fn follow(
        &self,
        kind: ObjectKind,
        namespace: &str,
        name: &str,
        wake: &Arc<Notify>,
    ) -> Arc<Watched> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let mut all = self.watched.lock().expect("no panic while locked");
        let known = all.get(&key).and_then(Weak::upgrade);
        let watched = known.unwrap_or_else(|| {
            all.retain(|_, weak| weak.strong_count() > 0);
            let watched = Arc::new(self.start(&key));
            all.insert(key, Arc::downgrade(&watched));
            watched
        });
        let mut waiting = watched.waiting.lock().expect("no panic while locked");
        waiting.retain(|weak| weak.strong_count() > 0);
        let weak = Arc::downgrade(wake);
        if !waiting.iter().any(|other| other.ptr_eq(&weak)) {
            waiting.push(weak);
        }
        drop(waiting);
        watched
    }

    fn start(&self, (kind, namespace, name): &ObjectKey) -> Watched {
        let resource = match kind {
            ObjectKind::ConfigMap => CONFIG_MAPS,
            ObjectKind::Secret => SECRETS,
        };
        let (sender, current) = watch::channel(None);
        let waiting: Arc<Mutex<Vec<Weak<Notify>>>> = Arc::default();
        let wakes = waiting.clone();
        let on_change = move |change: Change| {
            let object = match change {
                Change::Replaced(all) => all.into_iter().next(),
                Change::Applied(object) => Some(object),
                Change::Deleted(_) => None,
            };
            sender.send_replace(Some(object));
            let wakes = wakes.lock().expect("no panic while locked");
            wakes
                .iter()
                .filter_map(Weak::upgrade)
                .for_each(|wake| wake.notify_one());
        };
        let selector = format!("metadata.name={name}");
        let task = reflect(
            self.client.clone(),
            resource,
            namespace.clone(),
            selector,
            on_change,
        );
        Watched {
            current,
            waiting,
            _task: Owned::spawn(task),
        }
    }
}

impl Watched {
    /// The object, waiting for the first answer; `None` when there was none before the deadline.
    pub(crate) async fn get(&self, patience: Duration) -> Option<Option<Value>> {
        let mut current = self.current.clone();
        let known = tokio::time::timeout(patience, current.wait_for(Option::is_some))
            .await
            .ok()?
            .ok()?;
        known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_runtime::resource_ref::PODS;
    use agent_runtime::{Body, BoxError, InProcessService};
    use http_body_util::{BodyExt, Full};

    /// Lists nothing and ends every watch at once, but the third, which never begins.
    fn hasty(third: Arc<Notify>) -> Client {
        let watches = Arc::new(Mutex::new(0));
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (watches, third) = (watches.clone(), third.clone());
            async move {
                let query = request.uri().query().unwrap_or_default();
                let mut body = r#"{"metadata": {"resourceVersion": "1"}, "items": []}"#;
                if query.contains("watch=1") {
                    body = "";
                    let begun = {
                        let mut watches = watches.lock().unwrap();
                        *watches += 1;
                        *watches
                    };
                    if begun == 3 {
                        third.notify_one();
                        std::future::pending::<()>().await;
                    }
                }
                let body = Full::from(body).map_err(BoxError::from).boxed_unsync();
                Ok::<_, BoxError>(http::Response::new(body))
            }
        });
        Client::in_process(InProcessService::new(service))
    }

    #[tokio::test]
    async fn a_server_that_ends_every_watch_at_once_is_not_hurried() {
        let third = Arc::new(Notify::new());
        let client = hasty(third.clone());
        let started = Instant::now();
        let reflecting = reflect(client, PODS, String::new(), String::new(), |_| {});
        tokio::select! {
            () = reflecting => unreachable!("it goes on for ever"),
            () = third.notified() => {}
        }
        // Two pauses, the second of which is twice as long; each may be half as long as it should be.
        assert!(started.elapsed() >= (RETRY_MIN + 2 * RETRY_MIN) / 2);
    }
}
