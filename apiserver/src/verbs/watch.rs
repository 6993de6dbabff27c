//! WATCH: a cursor into the cache's changes, turned into newline-separated events.
//!
//! A watcher keeps no queue. It reads changes when its client takes bytes; one that falls out of the ring gets the
//! 410 event that tells every client library to list again.

mod events;
mod forms;
mod start;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use host::watch;
use http::{Extensions, HeaderValue, header};
use resources::{Handle, Resource};
use schema::protobuf::Encoder;
use tokio::time::{Instant, Sleep};

use crate::ApiServer;
use crate::cache::{Cache, Member, Watched};
use crate::context::Context;
use crate::entry::Entry;
use crate::flow;
use crate::negotiate::{self, Encoding, Form, Output};
use crate::packed::Room;
use crate::protobuf::Written;
use crate::read_version::WatchOptions;
use crate::selection::Selection;
use crate::status::{ApiError, ApiResult};
use crate::websocket;
use events::write_value;

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// The last bookmark comes this long before the end, so that it arrives.
const LAST_BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
const CHANGES_PER_TURN: usize = 256;
const FRAME_BYTES: usize = 64 * 1024;
/// What a watch is written in.
const STREAMED: &[&str] = &[negotiate::JSON, negotiate::PROTOBUF];

pub(crate) async fn watch(
    context: &Context,
    resource: &Handle,
    extensions: &mut Extensions,
    bytes: Option<flow::Bytes>,
) -> ApiResult<Response> {
    let encoding = context.output.encoding;
    if encoding == Encoding::Yaml {
        // Documents of YAML have no agreed frame in a stream.
        return Err(ApiError::not_acceptable(STREAMED));
    }
    if encoding == Encoding::Protobuf {
        has_protobuf(&context.output, resource)?;
    }
    let options = WatchOptions::from_query(&context.query)?;
    let mut selection = Selection::from_query(resource, &context.info.namespace, &context.query)?;
    // What was authorized is this name (from the path of the `/watch/` form, or from the selector): no more is served.
    selection.narrow_to_name(&context.info.name);
    let (end, frames) = match Watcher::open(context, resource, &options, selection).await {
        Ok(mut watcher) => {
            watcher.initial_bytes = bytes.map(|mut bytes| {
                let initial = watcher.initial.iter();
                bytes.settle(initial.map(|entry| entry.json_len() as u64).sum());
                bytes
            });
            let end = watcher.end;
            let frames = futures::stream::unfold(watcher, |mut watcher| async move {
                let frame = watcher.next_frame().await?;
                Some((frame, watcher))
            });
            (end, frames.boxed())
        }
        // Too old a version is told inside the stream, where client libraries look for it.
        Err(error) if error.reason == "Expired" => {
            let mut frame = BytesMut::new();
            write_value(encoding, &mut frame, "ERROR", &error.to_status());
            let frames = futures::stream::once(std::future::ready(frame.freeze()));
            (Instant::now(), frames.boxed())
        }
        Err(error) => return Err(error),
    };
    if websocket::is_requested(&context.headers) {
        return super::watch_socket::upgrade(context, extensions, frames, end);
    }
    let mut response = Response::new(Body::from_stream(frames.map(Ok::<_, std::io::Error>)));
    // Kubernetes frames watch events without `stream=watch` in JSON, and adds it for others.
    let content_type = match encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Encoding::Json | Encoding::Yaml => negotiate::JSON,
    };
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    Ok(response)
}

struct Watcher {
    resource: Handle,
    selection: Selection,
    output: Output,
    /// What is written from the bytes of an object, where that goes.
    protobuf: Option<Written>,
    /// Whether only what a webhook makes of an object shows whether it is selected.
    by_form: bool,
    bookmarks: bool,
    cache: Arc<Cache>,
    member: Member,
    server: Arc<ApiServer>,
    wake: watch::Receiver<u64>,
    /// Whether there may be changes that it was woken for and has not read.
    behind: bool,
    /// For the next bookmark or the end, whichever comes first.
    timer: Pin<Box<Sleep>>,
    /// Objects that were there at the start, still to be sent as ADDED.
    initial: VecDeque<Arc<Entry>>,
    /// Held until they are sent.
    initial_bytes: Option<flow::Bytes>,
    /// Revision of the bookmark that ends the initial events.
    initial_end: Option<i64>,
    cursor: u64,
    /// Highest revision that the client knows.
    sent: i64,
    next_bookmark: Instant,
    end: Instant,
    ended: bool,
    /// The first event of a Table watch carries the columns.
    columns_sent: bool,
    stopping: tokio_util::sync::CancellationToken,
    sent_events: crate::metrics::Sent,
    _open: crate::metrics::OpenWatch,
    _watched: Option<Watched>,
}

impl Watcher {
    fn schedule_bookmark(&mut self, now: Instant) {
        let last = self
            .end
            .checked_sub(LAST_BOOKMARK_BEFORE_END)
            .unwrap_or(now);
        let regular = now + BOOKMARK_EVERY;
        self.next_bookmark = if last > now {
            regular.min(last)
        } else {
            regular
        };
    }

    /// The next bytes for the client; none when the watch is over.
    async fn next_frame(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut frame = BytesMut::new();
        if let Err(error) = self.write_initial(&mut frame).await {
            return self.end_with(frame, error);
        }
        if frame.len() >= FRAME_BYTES {
            return Some(frame.freeze());
        }
        if let Some(revision) = self.initial_end.take() {
            self.write_bookmark(&mut frame, revision, true);
        }
        if !frame.is_empty() {
            return Some(frame.freeze());
        }
        self.initial_bytes = None;
        self.next_changes().await
    }

    /// Objects that were there at the start, until they fill a frame or all are sent.
    async fn write_initial(&mut self, frame: &mut BytesMut) -> ApiResult<()> {
        let (mut room, mut encoder) = (Room::default(), Encoder::default());
        while !self.initial.is_empty() && frame.len() < FRAME_BYTES {
            let count = self.initial.len().min(CHANGES_PER_TURN);
            let some: Vec<Arc<Entry>> = self.initial.drain(..count).collect();
            let forms = self.forms(some).await?;
            for entry in forms {
                if !self.by_form || self.selection.matches(&entry) {
                    let before = frame.len();
                    let json = entry.encoded.json.read(&mut room);
                    self.write(frame, "ADDED", json, &entry, &mut encoder);
                    self.sent_events.event(frame.len() - before);
                }
            }
        }
        Ok(())
    }

    /// The next events or the next bookmark, when there are any.
    async fn next_changes(&mut self) -> Option<Bytes> {
        let mut frame = BytesMut::new();
        loop {
            if !self.behind {
                self.rest().await?;
            }
            // Before the changes are read: whatever is at or below it is in the ring by then.
            let complete = self.server.world.revision();
            // This first: a close or a stop in between would be looked for and be forgotten.
            self.wake.mark_unchanged();
            let closed = self.cache.is_closed();
            let stopping = self.stopping.is_cancelled();
            let read = self
                .cache
                .changes_for(&self.member, &mut self.cursor, CHANGES_PER_TURN);
            match read {
                Err(oldest) => {
                    self.ended = true;
                    self.write_error(&mut frame, &ApiError::too_old(self.sent, oldest.0));
                    return Some(frame.freeze());
                }
                Ok(changes) if !changes.is_empty() => {
                    self.behind = closed || stopping || changes.len() == CHANGES_PER_TURN;
                    let changes = match self.changes(changes).await {
                        Ok(changes) => changes,
                        Err(error) => return self.end_with(frame, error),
                    };
                    if let Some(frame) = self.frame_of(&changes) {
                        self.ended = Instant::now() >= self.end;
                        return Some(frame);
                    }
                    if Instant::now() < self.end {
                        // Changes that are not for this watcher: others may have their turn.
                        tokio::task::yield_now().await;
                        continue;
                    }
                }
                Ok(_) => self.behind = false,
            }
            if stopping {
                return None;
            }
            if closed {
                // The definition changed: the client comes back, and is served as it says now.
                self.ended = true;
                return None;
            }
            let now = Instant::now();
            if now >= self.end {
                self.ended = true;
                return None;
            }
            if now >= self.next_bookmark {
                self.schedule_bookmark(now);
                if self.bookmarks {
                    self.sent = self.sent.max(complete);
                    self.write_bookmark(&mut frame, self.sent, false);
                    return Some(frame.freeze());
                }
            }
        }
    }

    /// Waits for a change, for the end of the cache or of the server, or until it is time for a bookmark or for the end. An
    /// event costs each watch one wait: the timer stays as it is, and a stop comes as a change does.
    async fn rest(&mut self) -> Option<()> {
        let due = self.next_bookmark.min(self.end);
        if self.timer.deadline() != due {
            self.timer.as_mut().reset(due);
        }
        tokio::select! {
            biased;
            changed = self.wake.changed() => changed.ok(),
            () = self.timer.as_mut() => Some(()),
        }
    }

    /// Ends the watch for a reason that the client is told.
    fn end_with(&mut self, mut frame: BytesMut, error: ApiError) -> Option<Bytes> {
        self.ended = true;
        if self.stopping.is_cancelled() {
            return None;
        }
        self.write_error(&mut frame, &error);
        Some(frame.freeze())
    }
}

/// Refuses a watch in protobuf of what has no form in it.
fn has_protobuf(output: &Output, resource: &Resource) -> ApiResult<()> {
    let kind = match output.form {
        Form::Partial { .. } => return Ok(()),
        Form::Object => &resource.kind,
        Form::Table { .. } => "Table",
    };
    if kind == resource.kind && schema::type_of(&resource.group, &resource.version, kind).is_some()
    {
        return Ok(());
    }
    Err(ApiError::not_acceptable(STREAMED))
}
