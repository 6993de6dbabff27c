//! Keeps somebody told of what the API has: a list, in pages where it may be long, then a watch, for ever.

use std::sync::Arc;
use std::time::Duration;

use agent_runtime::watch::Lean;
use agent_runtime::{ApiError, Client, ListParams, ResourceRef, Told, WatchParams};
use rand::RngExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

const PAGE: u32 = 500;
pub(crate) const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// A watch that ends sooner than this is followed by the next one only after a pause.
const LIVED: Duration = Duration::from_secs(1);
/// A server ends a watch after a time of its own, so that watches spread over the servers again and thousands do not come
/// back at once.
const WATCH_SECONDS: std::ops::Range<u32> = 300..480;

/// What is followed.
pub(crate) struct Followed {
    pub(crate) client: Client,
    pub(crate) resource: ResourceRef,
    pub(crate) namespace: String,
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    /// A list may come from the memory of the server that is asked, and in one piece; for thousands of small ones.
    pub(crate) cached: bool,
    /// Lists at the same time, of all that share it.
    pub(crate) lists: Arc<Semaphore>,
}

/// One step. The number counts the lists: what was not seen since the last one began is no more when it ends.
#[derive(Debug)]
pub(crate) enum Step<O = Value> {
    /// An entry of a list.
    Item(u64, O),
    /// A list has ended.
    Listed(u64),
    /// Made or changed since the list.
    Changed(u64, O),
    Deleted(O),
}

/// An object as its listener wants to have it, read from the text of an event.
pub(crate) trait Object: DeserializeOwned + Send {
    /// The same of an entry of a list.
    fn listed(entry: Value) -> Self;

    /// Its `metadata.resourceVersion`; none where it has none.
    fn version(&self) -> Option<&str>;
}

/// All of it.
impl Object for Value {
    fn listed(entry: Value) -> Value {
        entry
    }

    fn version(&self) -> Option<&str> {
        self["metadata"]["resourceVersion"].as_str()
    }
}

/// For whoever does not read who owns which of its fields, and does not pass that on.
impl Object for Lean {
    fn listed(entry: Value) -> Lean {
        Lean(entry)
    }

    fn version(&self) -> Option<&str> {
        self.0.version()
    }
}

/// Who is told.
pub(crate) trait Listener: Send {
    /// What it is told of, in which form.
    type Object: Object;

    /// Takes a step. False when nobody wants any more.
    fn take(&mut self, step: Step<Self::Object>) -> impl Future<Output = bool> + Send;
}

/// What came of one list or watch.
enum Turn {
    /// The version to go on from; none when a new list is needed.
    Next(Option<String>),
    /// Nobody wants any more.
    Over,
}

impl Followed {
    /// Runs until dropped, or until nobody wants any more.
    pub(crate) async fn run(self, mut listener: impl Listener) {
        let mut lists: u64 = 0;
        let mut version: Option<String> = None;
        let mut pause = RETRY_MIN;
        loop {
            let started = Instant::now();
            let turn = match version.clone() {
                None => {
                    lists += 1;
                    self.list(lists, &mut listener).await
                }
                Some(from) => self.watch(lists, from, &mut listener).await,
            };
            let wanted = match turn {
                Ok(Turn::Over) => return,
                Ok(Turn::Next(next)) => {
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
                    tracing::debug!(resource = %self.resource.plural, namespace = %self.namespace, error = %error.message, "watch interrupted");
                    if !error.is_transport() {
                        version = None;
                    }
                    error.retry_after
                }
            };
            let jitter = pause.mul_f64(rand::rng().random_range(0.5..1.5));
            tokio::time::sleep(wanted.unwrap_or(jitter)).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn list(&self, number: u64, listener: &mut impl Listener) -> Result<Turn, ApiError> {
        let _place = self.lists.acquire().await;
        let mut params = ListParams {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            limit: if self.cached { 0 } else { PAGE },
            resource_version: self.cached.then(|| "0".to_owned()),
            ..ListParams::default()
        };
        loop {
            let listed = self
                .client
                .list(&self.resource, &self.namespace, &params)
                .await;
            let mut page = listed?;
            let text = |path: &str| {
                let found = page.pointer(path).and_then(Value::as_str);
                found.unwrap_or_default().to_owned()
            };
            let (version, next) = (
                text("/metadata/resourceVersion"),
                text("/metadata/continue"),
            );
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                for item in items {
                    let item = Object::listed(item);
                    if !listener.take(Step::Item(number, item)).await {
                        return Ok(Turn::Over);
                    }
                }
            }
            if next.is_empty() {
                return Ok(match listener.take(Step::Listed(number)).await {
                    true => Turn::Next(Some(version)),
                    false => Turn::Over,
                });
            }
            params.continue_token = next;
        }
    }

    /// Follows the changes after a version.
    async fn watch<L: Listener>(
        &self,
        number: u64,
        mut version: String,
        listener: &mut L,
    ) -> Result<Turn, ApiError> {
        let params = WatchParams {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            resource_version: Some(version.clone()),
            timeout_seconds: rand::rng().random_range(WATCH_SECONDS),
            ..WatchParams::default()
        };
        let opened = self
            .client
            .watch_stream(&self.resource, &self.namespace, &params)
            .await;
        let mut events = match opened {
            Ok(events) => events,
            Err(error) if error.is_gone() => return Ok(Turn::Next(None)),
            Err(error) => return Err(error),
        };
        loop {
            let event = match events.next_told::<L::Object>().await {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Turn::Next(Some(version))),
                Err(error) if error.is_gone() => return Ok(Turn::Next(None)),
                // The connection broke: go on from the last version on another one.
                Err(error) if error.is_transport() => {
                    tracing::debug!(resource = %self.resource.plural, error = %error.message, "watch connection lost");
                    tokio::time::sleep(RETRY_MIN).await;
                    return Ok(Turn::Next(Some(version)));
                }
                Err(error) => return Err(error),
            };
            let wanted = match event {
                Told::Is(object) => {
                    keep(&mut version, object.version());
                    listener.take(Step::Changed(number, object)).await
                }
                Told::Gone(object) => {
                    keep(&mut version, object.version());
                    listener.take(Step::Deleted(object)).await
                }
                Told::Bookmark(object) => {
                    keep(&mut version, object.version());
                    true
                }
            };
            if !wanted {
                return Ok(Turn::Over);
            }
        }
    }
}

/// Notes the version of what was seen last.
fn keep(version: &mut String, seen: Option<&str>) {
    if let Some(seen) = seen {
        version.clear();
        version.push_str(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::reflect;
    use agent_runtime::resource_ref::PODS;
    use agent_runtime::{Body, BoxError, InProcessService};
    use http_body_util::{BodyExt, Full};
    use std::sync::Mutex;
    use tokio::sync::Notify;

    fn server(
        answer: impl Fn(&str) -> Option<&'static str> + Clone + Send + Sync + 'static,
    ) -> Client {
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let answer = answer.clone();
            async move {
                let Some(body) = answer(request.uri().query().unwrap_or_default()) else {
                    return std::future::pending().await;
                };
                let body = Full::from(body).map_err(BoxError::from).boxed_unsync();
                Ok::<_, BoxError>(http::Response::new(body))
            }
        });
        Client::in_process(InProcessService::new(service))
    }

    const EMPTY: &str = r#"{"metadata": {"resourceVersion": "1"}, "items": []}"#;

    /// Lists nothing and ends every watch at once, but the third, which never begins.
    fn hasty(third: Arc<Notify>) -> Client {
        let watches = Arc::new(Mutex::new(0));
        server(move |query| {
            if !query.contains("watch=1") {
                return Some(EMPTY);
            }
            let mut watches = watches.lock().unwrap();
            *watches += 1;
            if *watches < 3 {
                return Some("");
            }
            third.notify_one();
            None
        })
    }

    #[tokio::test]
    async fn a_server_that_ends_every_watch_at_once_is_not_hurried() {
        let third = Arc::new(Notify::new());
        let client = hasty(third.clone());
        let started = Instant::now();
        let reflecting = reflect(client, PODS, String::new(), String::new(), |_| {});
        tokio::select! {
            biased;
            () = reflecting => unreachable!("it goes on for ever"),
            () = third.notified() => {}
        }
        // Two pauses, the second of which is twice as long; each may be half as long as it should be.
        assert!(started.elapsed() >= (RETRY_MIN + 2 * RETRY_MIN) / 2);
    }

    struct Heard(Arc<Mutex<Vec<String>>>);

    impl Listener for Heard {
        type Object = Value;

        async fn take(&mut self, step: Step) -> bool {
            let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
            let text = match &step {
                Step::Item(number, object) => format!("{number} {}", name(object)),
                Step::Listed(number) => format!("{number} all"),
                Step::Changed(_, object) => format!("+ {}", name(object)),
                Step::Deleted(object) => format!("- {}", name(object)),
            };
            let mut told = self.0.lock().unwrap();
            told.push(text);
            // The last one that somebody wants.
            !matches!(step, Step::Deleted(_))
        }
    }

    #[tokio::test]
    async fn pages_and_changes_are_handed_on_in_their_order_while_somebody_wants_them() {
        let client = server(|query| {
            Some(if query.contains("watch=1") {
                assert!(query.contains("resourceVersion=7"), "{query}");
                "{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"b\"}}}\n{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"c\"}}}\n"
            } else if query.contains("continue=next") {
                r#"{"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "b"}}]}"#
            } else {
                r#"{"metadata": {"resourceVersion": "7", "continue": "next"}, "items": [{"metadata": {"name": "a"}}]}"#
            })
        });
        let told = Arc::new(Mutex::new(Vec::new()));
        let followed = Followed {
            client,
            resource: PODS,
            namespace: String::new(),
            label_selector: String::new(),
            field_selector: String::new(),
            cached: false,
            lists: Arc::new(Semaphore::new(1)),
        };
        followed.run(Heard(told.clone())).await;
        assert_eq!(*told.lock().unwrap(), ["1 a", "1 b", "1 all", "+ a", "- b"]);
    }
}
