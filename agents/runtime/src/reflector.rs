//! Keeps one cache equal to the server: list then watch, or a watch that starts with the state (`sendInitialEvents`).
//!
//! The loop never gives up: an error waits (with growing, jittered pauses) and goes on from the last version seen;
//! 410 Gone starts over with a full state, from which the cache finds out what was deleted in between.

use crate::client::{Client, ListParams, WatchParams};
use crate::error::ApiError;
use crate::resource_ref::ResourceRef;
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const PAGE: u32 = 500;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// The server closes a watch after this time; the client gives up a little later.
const WATCH_SECONDS: u32 = 290;
const WATCH_GUARD: Duration = Duration::from_secs(20);
/// A server that knows `sendInitialEvents` has sent the state by then; one that ignores it is listed instead.
const INITIAL_EVENTS_MAX: Duration = Duration::from_secs(60);

/// What the reflector writes to: a cache of some kind.
pub(crate) trait Sink: Send + Sync {
    /// Starts to stage a complete state.
    fn begin(&self);
    /// Stages a page of a list; the continue token and the version.
    fn page(&self, bytes: &[u8]) -> Result<(String, String), ApiError>;
    /// Replaces the state by the staged one.
    fn commit(&self, revision: &str);
    /// Takes one watch line, into the staged state or into the live one.
    fn line(&self, line: &[u8], staging: bool) -> Result<Parsed, ApiError>;
}

/// What a line said about the watch itself.
pub(crate) struct Parsed {
    pub(crate) revision: String,
    pub(crate) initial_end: bool,
}

/// What to keep in the cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) field_selector: String,
    pub(crate) label_selector: String,
    pub(crate) metadata_only: bool,
}

pub(crate) struct Reflector {
    pub(crate) client: Client,
    pub(crate) resource: ResourceRef,
    pub(crate) scope: Scope,
    pub(crate) sink: Arc<dyn Sink>,
}

/// Where the loop is.
struct Position {
    /// The version to watch from; `None` before a complete state was seen, or after 410.
    revision: Option<String>,
    /// Whether the server is believed to stream the initial state.
    streams: bool,
}

impl Reflector {
    /// Runs until cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut position = Position {
            revision: None,
            streams: true,
        };
        let mut backoff = BACKOFF_FIRST;
        loop {
            let started = Instant::now();
            let turn = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                turn = self.turn(&mut position) => turn,
            };
            if started.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF_FIRST;
            }
            let pause = match turn {
                // The server ended a watch that had lived: normal.
                Ok(()) if started.elapsed() > Duration::from_secs(1) => continue,
                Ok(()) => backoff,
                Err(error) if error.is_gone() => {
                    tracing::debug!(resource = %self.resource, "the watch is too old, listing again");
                    position.revision = None;
                    backoff / 4
                }
                Err(error) => {
                    // Watches break when servers restart; only a long break is worth a word.
                    if backoff >= Duration::from_secs(3) {
                        tracing::warn!(resource = %self.resource, error = %error.message, "list or watch fails");
                    } else {
                        tracing::debug!(resource = %self.resource, error = %error.message, "list or watch fails");
                    }
                    if error.code == 404 {
                        position.revision = None;
                    }
                    backoff.max(error.retry_after.unwrap_or_default())
                }
            };
            backoff = (backoff * 2).min(BACKOFF_MAX);
            let jitter = 0.75 + host::random::<f64>() / 2.0;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
            }
        }
    }

    async fn turn(&self, position: &mut Position) -> Result<(), ApiError> {
        if let Some(revision) = position.revision.clone() {
            return self.watch(position, Some(revision)).await;
        }
        if position.streams {
            match self.watch(position, None).await {
                // A server that does not know the option says so with 400 or 422 (or never marks the end).
                Err(error)
                    if matches!(error.code, 400 | 422) || error.reason == "NoInitialEventsEnd" =>
                {
                    tracing::debug!(resource = %self.resource, error = %error.message, "falling back to list and watch");
                    position.streams = false;
                }
                other => return other,
            }
        }
        let revision = self.list().await?;
        position.revision = Some(revision.clone());
        self.watch(position, Some(revision)).await
    }

    async fn list(&self) -> Result<String, ApiError> {
        let mut params = ListParams {
            label_selector: self.scope.label_selector.clone(),
            field_selector: self.scope.field_selector.clone(),
            metadata_only: self.scope.metadata_only,
            limit: PAGE,
            ..ListParams::default()
        };
        self.sink.begin();
        loop {
            let bytes = self.client.list_bytes(&self.resource, "", &params).await?;
            let (next, revision) = self.sink.page(&bytes)?;
            if next.is_empty() {
                self.sink.commit(&revision);
                return Ok(revision);
            }
            params.continue_token = next;
        }
    }

    /// One watch, until it ends. From `None` it starts with the state.
    async fn watch(&self, position: &mut Position, from: Option<String>) -> Result<(), ApiError> {
        let mut staging = from.is_none();
        let seconds = WATCH_SECONDS - host::rng().random_range(0..60);
        let params = WatchParams {
            label_selector: self.scope.label_selector.clone(),
            field_selector: self.scope.field_selector.clone(),
            metadata_only: self.scope.metadata_only,
            send_initial_events: staging,
            resource_version: from,
            timeout_seconds: seconds,
        };
        let opened = Instant::now();
        let end = opened + Duration::from_secs(u64::from(seconds)) + WATCH_GUARD;
        let mut stream = self
            .client
            .watch_stream(&self.resource, "", &params)
            .await?;
        if staging {
            self.sink.begin();
        }
        loop {
            let deadline = if staging {
                opened + INITIAL_EVENTS_MAX
            } else {
                end
            };
            let line = match tokio::time::timeout_at(deadline, stream.line()).await {
                Ok(line) => line?,
                Err(_) if staging => return Err(no_initial_end()),
                Err(_) => {
                    return Err(ApiError::transport(
                        "the server did not end the watch in time",
                    ));
                }
            };
            let Some(line) = line else {
                return if staging {
                    Err(ApiError::transport(
                        "the watch ended within the initial events",
                    ))
                } else {
                    Ok(())
                };
            };
            let parsed = self.sink.line(&line, staging)?;
            if staging && parsed.initial_end {
                self.sink.commit(&parsed.revision);
                staging = false;
            }
            if !staging && !parsed.revision.is_empty() {
                position.revision = Some(parsed.revision);
            }
        }
    }
}

fn no_initial_end() -> ApiError {
    ApiError {
        reason: "NoInitialEventsEnd".into(),
        ..ApiError::transport("the server did not mark the end of the initial events")
    }
}
