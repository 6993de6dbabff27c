//! WATCH: a cursor into the cache's changes, turned into newline-separated events.
//!
//! A watcher keeps no queue. It reads changes when its client takes bytes; one that falls out of the ring gets the
//! 410 event that tells every client library to list again.

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
use kv::mutants::{Bug, planted};
use resources::{Handle, Resource};
use schema::Object;
use schema::protobuf::Encoder;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};

use crate::ApiServer;
use crate::cache::{Cache, Change, FrameOf, Member, Watched};
use crate::context::Context;
use crate::conversion::{self, Asker};
use crate::entry::{self, Entry};
use crate::flow;
use crate::negotiate::{self, Encoding, Form, Output};
use crate::packed::Room;
use crate::protobuf::Written;
use crate::read_version::WatchOptions;
use crate::selection::Selection;
use crate::status::{self, ApiError, ApiResult};
use crate::websocket;
use crate::world::REVISION_WAIT;

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// The last bookmark comes this long before the end, so that it arrives.
const LAST_BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
const TIMEOUT_SECONDS_MIN: u64 = 1_800;
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
    async fn open(
        context: &Context,
        resource: &Handle,
        options: &WatchOptions,
        selection: Selection,
    ) -> ApiResult<Watcher> {
        let server = &context.server;
        let world = server.world.clone();
        match options.version {
            Some(version) if version > 0 => {
                world
                    .wait_for(version, Instant::now() + REVISION_WAIT)
                    .await?
            }
            // "Most recent" for both forms of a watch, and for 0 as well: see `ReadAt::MostRecent`.
            Some(_) | None => {
                world.wait_most_recent(&*server.store).await?;
            }
        }
        let from_state = options.initial_events || options.version.unwrap_or(0) == 0;
        // sendInitialEvents=false says that the client knows the state, or does not want it.
        let skip_state =
            !options.initial_events && context.query.get("sendInitialEvents").is_some();
        let by_form = selects_forms(context.output.form, resource, &selection);
        // Only now: while the request waited, a definition may have changed, and another cache have come with it.
        let (cache, (initial, cursor, sent)) = if from_state {
            let (cache, snapshot) = world
                .snapshot_of(resource)
                .ok_or_else(ApiError::no_such_resource)?;
            snapshot.check_readable(&selection.prefix)?;
            let initial = if skip_state {
                VecDeque::new()
            } else {
                snapshot
                    .tree
                    .iter_prefix(&selection.prefix)
                    .filter(|entry| match by_form {
                        true => selection.may_match(entry),
                        false => selection.matches(entry),
                    })
                    .cloned()
                    .collect()
            };
            (cache, (initial, snapshot.cursor, snapshot.revision))
        } else {
            // One that is closed is read to its end and sends nothing that it does not have: the client comes back.
            let cache = world
                .cache(resource)
                .ok_or_else(ApiError::no_such_resource)?;
            cache.check_readable(&selection.prefix)?;
            let version = options.version.unwrap_or(0);
            let from = match planted(Bug::WatchResumesNow) {
                true => world.revision(),
                false => version,
            };
            if planted(Bug::ExpiresForNothing) && version < world.revision() {
                return Err(ApiError::too_old(version, world.revision()));
            }
            let cursor = cache
                .cursor_after(from)
                .map_err(|oldest| ApiError::too_old(version, oldest.0));
            match cursor {
                Ok(cursor) => (cache, (VecDeque::new(), cursor, version)),
                Err(error) => return Err(error),
            }
        };
        let member = cache.join(&selection.interest(&cache.prefix, by_form));
        let wake = member.subscribe();
        let seconds = options.timeout_seconds.unwrap_or_else(|| {
            TIMEOUT_SECONDS_MIN + u64::from(host::random::<u16>()) % TIMEOUT_SECONDS_MIN
        });
        let now = Instant::now();
        let end = now + Duration::from_secs(seconds.min(7 * 86_400));
        let namespace = match selection.prefix == cache.prefix {
            true => "",
            false => &context.info.namespace,
        };
        let watched = selection.is_wide().then(|| cache.watched(namespace));
        let initial_end = options.initial_events.then_some(sent);
        let mut watcher = Watcher {
            resource: resource.clone(),
            selection,
            output: context.output,
            protobuf: Written::of(&context.output, resource),
            bookmarks: options.bookmarks,
            cache,
            member,
            server: server.clone(),
            by_form,
            wake,
            behind: true,
            timer: Box::pin(tokio::time::sleep_until(end)),
            initial,
            initial_bytes: None,
            initial_end,
            cursor,
            sent,
            next_bookmark: now + BOOKMARK_EVERY,
            end,
            ended: false,
            columns_sent: false,
            // One of its own: it is asked at each event, and all watches would meet at one lock.
            stopping: server.stopping.child_token(),
            sent_events: server.metrics.sent_to_watches(resource),
            _open: server.metrics.open_watch(&context.info, resource),
            _watched: watched,
        };
        watcher.schedule_bookmark(now);
        Ok(watcher)
    }

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
        let (mut room, mut encoder) = (Room::default(), Encoder::default());
        while !self.initial.is_empty() {
            let count = self.initial.len().min(CHANGES_PER_TURN);
            let some: Vec<Arc<Entry>> = self.initial.drain(..count).collect();
            let forms = match self.forms(some).await {
                Ok(forms) => forms,
                Err(error) => return self.end_with(frame, error),
            };
            for entry in forms {
                if !self.by_form || self.selection.matches(&entry) {
                    let before = frame.len();
                    let json = entry.encoded.json.read(&mut room);
                    self.write(&mut frame, "ADDED", json, &entry, &mut encoder);
                    self.sent_events.event(frame.len() - before);
                }
            }
            if frame.len() >= FRAME_BYTES {
                return Some(frame.freeze());
            }
        }
        // A watch waits for long.
        drop((room, encoder));
        if let Some(revision) = self.initial_end.take() {
            self.write_bookmark(&mut frame, revision, true);
        }
        if !frame.is_empty() {
            return Some(frame.freeze());
        }
        self.initial_bytes = None;
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

    /// Whether what is sent is what a webhook makes of the stored objects.
    fn sends_forms(&self) -> bool {
        let is_whole = !matches!(self.output.form, Form::Partial { .. });
        conversion::by_webhook(&self.resource).is_some() && (is_whole || self.by_form)
    }

    /// The entries as they are sent. A watch that waits for a webhook holds up nobody but its own client.
    async fn forms(&self, entries: Vec<Arc<Entry>>) -> ApiResult<Vec<Arc<Entry>>> {
        if !self.sends_forms() {
            return Ok(entries);
        }
        let forms = self.server.forms(&self.resource, entries, Asker::Watch);
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(ApiError::unavailable("the server is stopping")),
            forms = forms => forms,
        }
    }

    /// The changes with their entries as they are sent.
    async fn changes(&self, changes: Vec<Arc<Change>>) -> ApiResult<Vec<Arc<Change>>> {
        if !self.sends_forms() {
            return Ok(changes);
        }
        // What was there before matters where it may have been selected, or is shown for the last time.
        let wanted = |change: &Change| {
            let may = |entry: &&Arc<Entry>| self.selection.may_match(entry);
            let new = change.new.as_ref().filter(may);
            let old = change.old.as_ref().filter(may);
            let old = old.filter(|_| self.by_form || new.is_none());
            [old.cloned(), new.cloned()]
        };
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let mut places = Vec::with_capacity(changes.len());
        for change in &changes {
            places.push(wanted(change).map(|entry| {
                entries.extend(entry);
                entries.len()
            }));
        }
        let forms = self.forms(entries).await?;
        let mut from = 0;
        let mut at = |end: usize| {
            let form = (end > from).then(|| forms[end - 1].clone());
            from = end;
            form
        };
        let shown = changes.iter().zip(places).map(|(change, [old, new])| {
            let (old, new) = (at(old), at(new));
            // One that stays selected need not be known as it was.
            let old = old.or_else(|| change.old.clone().filter(|_| new.is_some()));
            Arc::new(Change::as_shown(change.revision, old, new, None))
        });
        Ok(shown.collect())
    }

    /// The events of these changes that are for this client; none where there are none.
    fn frame_of(&mut self, changes: &[Arc<Change>]) -> Option<Bytes> {
        if let [change] = changes {
            self.sent = change.revision;
            return self.event(change).filter(|event| !event.is_empty());
        }
        let mut frame = BytesMut::new();
        for change in changes {
            self.sent = change.revision;
            frame.extend(self.event(change));
        }
        (!frame.is_empty()).then(|| frame.freeze())
    }

    /// An object that starts or stops to match is added or deleted for this client.
    fn event(&mut self, change: &Change) -> Option<Bytes> {
        let old = change
            .old
            .as_ref()
            .filter(|entry| self.selection.matches(entry));
        let new = change
            .new
            .as_ref()
            .filter(|entry| self.selection.matches(entry));
        let event = match (old, new) {
            (None, Some(new)) => Some(self.framed(change, "ADDED", None, new)),
            (Some(_), Some(new)) => Some(self.framed(change, "MODIFIED", None, new)),
            (Some(old), None) => {
                let gone = change
                    .gone
                    .clone()
                    .unwrap_or_else(|| old.encoded.with_revision(change.revision));
                Some(self.framed(change, "DELETED", Some(gone), old))
            }
            (None, None) => None,
        };
        event.inspect(|event| self.sent_events.event(event.len()))
    }

    /// One event, of the JSON that is in the place of the entry's own if there is any. Rows of a Table are of this moment and
    /// this client, all else is the same for others.
    fn framed(
        &mut self,
        change: &Change,
        kind: &'static str,
        json: Option<Bytes>,
        entry: &Arc<Entry>,
    ) -> Bytes {
        let (encoding, form) = (self.output.encoding, self.output.form);
        let of = FrameOf {
            kind,
            encoding,
            form,
            group: self.resource.group.clone(),
            version: self.resource.version.clone(),
        };
        let make = || {
            let json = json.unwrap_or_else(|| entry.json());
            let mut frame = BytesMut::new();
            self.write(&mut frame, kind, &json, entry, &mut Encoder::default());
            frame.freeze()
        };
        match form {
            Form::Table { .. } => make(),
            Form::Object | Form::Partial { .. } => change.frame(of, make),
        }
    }

    fn write(
        &mut self,
        frame: &mut BytesMut,
        kind: &str,
        json: &[u8],
        entry: &Arc<Entry>,
        encoder: &mut Encoder,
    ) {
        let plain = self.output.encoding == Encoding::Json
            && self.output.form == Form::Object
            && entry.is_as(&self.resource);
        if plain {
            write_event(frame, kind, json);
            return;
        }
        if let Some(written) = &self.protobuf
            && let Some(made) = written.frame(encoder, kind, json)
        {
            // An object that is gone is shown in another version than its entry has.
            if kind != "DELETED" {
                written.keep_length(encoder, entry);
            }
            frame.extend_from_slice(&made);
            return;
        }
        let value: Value = serde_json::from_slice(json).unwrap_or_default();
        let Ok(mut object) = Object::new(value) else {
            return;
        };
        entry::from_storage(&self.resource, &mut object);
        let value = self.shape(object);
        write_value(self.output.encoding, frame, kind, &value);
    }

    fn shape(&mut self, object: Object) -> Value {
        match self.output.form {
            Form::Object => object.into_value(),
            Form::Partial { version, .. } => negotiate::partial(&object, version),
            Form::Table { version, include } => {
                let metadata = json!({ "resourceVersion": object.resource_version() });
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                let now = crate::clock::unix_seconds();
                negotiate::table(
                    &self.resource,
                    &[object],
                    metadata,
                    (version, include),
                    columns,
                    now,
                )
            }
        }
    }

    fn write_bookmark(&mut self, frame: &mut BytesMut, revision: i64, ends_initial: bool) {
        let mut metadata =
            json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if ends_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let value = match self.output.form {
            Form::Object => {
                json!({ "kind": &self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata })
            }
            Form::Partial { version, .. } => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata })
            }
            Form::Table { version, .. } => {
                let object = json!({ "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata });
                json!({
                    "kind": "Table", "apiVersion": version, "metadata": { "resourceVersion": revision.to_string() },
                    "columnDefinitions": null,
                    "rows": [{ "cells": vec![Value::Null; self.resource.columns.len()], "object": object }]
                })
            }
        };
        let before = frame.len();
        write_value(self.output.encoding, frame, "BOOKMARK", &value);
        self.sent_events.event(frame.len() - before);
    }

    fn write_error(&self, frame: &mut BytesMut, error: &ApiError) {
        write_value(self.output.encoding, frame, "ERROR", &error.to_status());
    }
}

/// Whether only what a webhook makes of an object shows whether it is selected: its own fields, and its labels as this
/// version has them. Of metadata alone the labels are those that are stored.
fn selects_forms(form: Form, resource: &Resource, selection: &Selection) -> bool {
    let by_labels = selection.has_labels() && !matches!(form, Form::Partial { .. });
    conversion::by_webhook(resource).is_some() && (by_labels || selection.has_fields())
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

fn write_value(encoding: Encoding, frame: &mut BytesMut, kind: &str, object: &Value) {
    if encoding != Encoding::Protobuf {
        let text = match status::in_order(object) {
            Some(status) => serde_json::to_string(&status).unwrap_or_default(),
            None => object.to_string(),
        };
        write_event(frame, kind, text.as_bytes());
        return;
    }
    match schema::protobuf::encode_any(object) {
        Ok(encoded) => {
            frame.extend_from_slice(&schema::protobuf::watch_frame(kind, &encoded));
        }
        // Nothing that is stored fails to encode; if it did, skipping it would leave the client with a hole.
        Err(error) => {
            let status = ApiError::internal(error.to_string()).to_status();
            let status = schema::protobuf::encode_any(&status).unwrap_or_default();
            frame.extend_from_slice(&schema::protobuf::watch_frame("ERROR", &status));
        }
    }
}

fn write_event(frame: &mut BytesMut, kind: &str, object: &[u8]) {
    frame.reserve(object.len() + 40);
    frame.extend_from_slice(b"{\"type\":\"");
    frame.extend_from_slice(kind.as_bytes());
    frame.extend_from_slice(b"\",\"object\":");
    frame.extend_from_slice(object);
    frame.extend_from_slice(b"}\n");
}
