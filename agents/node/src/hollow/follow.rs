//! Keeps the hollow nodes told of what the API has: a list in pages, then a watch, for ever. Unlike [`crate::source::reflect`]
//! it hands objects on one by one, since there may be a hundred thousand, and waits while whoever takes them is busy.

use std::sync::Arc;
use std::time::Duration;

use agent_runtime::{ApiError, Client, ListParams, ResourceRef, WatchParams};
use rand::RngExt;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

const PAGE: u32 = 500;
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
const LIVED: Duration = Duration::from_secs(1);
/// Watches end after a time of their own, so that thousands do not come back at once.
const WATCH_SECONDS: std::ops::Range<u32> = 300..480;

/// What is followed.
pub(super) struct Followed {
    pub(super) client: Client,
    pub(super) resource: ResourceRef,
    pub(super) label_selector: String,
    pub(super) field_selector: String,
    /// A list may come from the memory of the server that is asked; for thousands of small ones.
    pub(super) cached: bool,
    /// Lists at the same time.
    pub(super) lists: Arc<Semaphore>,
}

/// One step of it. The number counts the lists: what was not seen since the last one began is no more when it ends.
pub(super) enum Change {
    Present(u64, Value),
    Deleted(Value),
    Listed(u64),
}

/// Who takes the changes, in which form.
struct Sink<T, F> {
    sender: mpsc::Sender<T>,
    convert: F,
}

impl<T: Send, F: Fn(Change) -> Option<T>> Sink<T, F> {
    /// False when nobody takes them any more.
    async fn send(&self, change: Change) -> bool {
        match (self.convert)(change) {
            Some(told) => self.sender.send(told).await.is_ok(),
            None => true,
        }
    }
}

impl Followed {
    /// Runs until dropped, or until nobody takes the changes.
    pub(super) async fn run<T: Send>(
        self,
        sender: mpsc::Sender<T>,
        convert: impl Fn(Change) -> Option<T> + Send + Sync,
    ) {
        let mut lists: u64 = 0;
        let mut version: Option<String> = None;
        let mut pause = RETRY_MIN;
        let sink = Sink { sender, convert };
        while !sink.sender.is_closed() {
            let started = Instant::now();
            let turn = match version.clone() {
                None => {
                    lists += 1;
                    self.list(lists, &sink).await.map(Some)
                }
                Some(from) => self.watch(lists, from, &sink).await,
            };
            let wanted = match turn {
                Ok(next) => {
                    let lived = version.is_none() || started.elapsed() >= LIVED;
                    version = next;
                    if lived {
                        pause = RETRY_MIN;
                        continue;
                    }
                    None
                }
                Err(error) => {
                    tracing::debug!(resource = %self.resource.plural, error = %error.message, "watch interrupted");
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

    async fn list<T: Send, F: Fn(Change) -> Option<T> + Send + Sync>(
        &self,
        number: u64,
        sink: &Sink<T, F>,
    ) -> Result<String, ApiError> {
        let _place = self.lists.acquire().await;
        let mut params = ListParams {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            limit: if self.cached { 0 } else { PAGE },
            resource_version: self.cached.then(|| "0".to_owned()),
            ..ListParams::default()
        };
        loop {
            let mut page = self.client.list(&self.resource, "", &params).await?;
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
                    sink.send(Change::Present(number, item)).await;
                }
            }
            if next.is_empty() {
                sink.send(Change::Listed(number)).await;
                return Ok(version);
            }
            params.continue_token = next;
        }
    }

    /// The version to go on from, or none when a new list is needed.
    async fn watch<T: Send, F: Fn(Change) -> Option<T> + Send + Sync>(
        &self,
        number: u64,
        mut version: String,
        sink: &Sink<T, F>,
    ) -> Result<Option<String>, ApiError> {
        let params = WatchParams {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            resource_version: Some(version.clone()),
            timeout_seconds: rand::rng().random_range(WATCH_SECONDS),
            ..WatchParams::default()
        };
        let opened = self.client.watch_stream(&self.resource, "", &params).await;
        let mut events = match opened {
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
                    tracing::debug!(resource = %self.resource.plural, error = %error.message, "watch connection lost");
                    tokio::time::sleep(RETRY_MIN).await;
                    return Ok(Some(version));
                }
                Err(error) => return Err(error),
            };
            let seen = event.object.pointer("/metadata/resourceVersion");
            if let Some(seen) = seen.and_then(Value::as_str) {
                version = seen.to_owned();
            }
            let taken = match event.kind.as_str() {
                "ADDED" | "MODIFIED" => sink.send(Change::Present(number, event.object)).await,
                "DELETED" => sink.send(Change::Deleted(event.object)).await,
                _ => true,
            };
            if !taken {
                return Ok(Some(version));
            }
        }
    }
}
