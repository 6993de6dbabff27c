//! LIST: from the cache's snapshot wherever it shows the asked revision, else from the store's history.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use kv::mutants::{Bug, planted};
use kv::{KeyValue, RangeRequest};
use resources::{Handle, Resource};
use schema::Object;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{list_forms, list_json, list_protobuf};
use crate::ApiServer;
use crate::as_of;
use crate::cache::{Cache, Snapshot};
use crate::context::Context;
use crate::conversion::{self, Asker};
use crate::entry::Entry;
use crate::negotiate::{self, Encoding, Form};
use crate::read_version::{ListOptions, ReadAt, encode_token};
use crate::selection::Selection;
use crate::status::{ApiError, ApiResult};
use crate::world::REVISION_WAIT;
use crate::write::Version;

/// Pairs read from the store at once.
const PAGE: usize = 1_000;

pub(crate) async fn list(context: &Context, resource: &Handle) -> ApiResult<Response> {
    let query = as_of::query(context).await?;
    let options = ListOptions::from_query(&query)?;
    negotiate::check_number(&context.output, resource, true)?;
    let selection = Selection::from_query(resource, &context.info.namespace, &context.query)?;
    let version = match context.output.form {
        // Metadata is the same in all versions: no webhook is asked.
        Form::Partial { .. } => Version::Stored,
        Form::Object | Form::Table { .. } => Version::Asked,
    };
    let page = read(context, resource, &options, &selection, version).await?;
    respond(context, resource, page).await
}

/// What one LIST answers.
pub(crate) struct Page {
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) revision: i64,
    token: Option<String>,
    remaining: Option<usize>,
}

impl Page {
    pub(super) fn metadata(&self) -> Value {
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".into(), self.revision.to_string().into());
        if let Some(token) = &self.token {
            metadata.insert("continue".into(), token.as_str().into());
        }
        if let Some(remaining) = self.remaining.filter(|_| self.token.is_some()) {
            metadata.insert("remainingItemCount".into(), remaining.into());
        }
        Value::Object(metadata)
    }

    /// The same of a list of whole objects: among custom ones Kubernetes also says that nothing follows.
    pub(super) fn metadata_of(&self, resource: &Resource) -> Value {
        let mut metadata = self.metadata();
        if resource.custom.is_some() && self.token.is_none() {
            metadata["continue"] = "".into();
        }
        metadata
    }
}

/// Who reads a list, and of what.
struct Reader<'a> {
    server: &'a ApiServer,
    resource: &'a Resource,
    selection: &'a Selection,
    version: Version,
}

impl Reader<'_> {
    /// Whether only the converted objects show which of them are selected.
    fn selects_converted(&self) -> bool {
        let by_labels = self.selection.has_labels() && self.version == Version::Asked;
        conversion::by_webhook(self.resource).is_some()
            && (by_labels || self.selection.has_fields())
    }

    /// Those of the entries that are selected.
    async fn select(&self, mut entries: Vec<Arc<Entry>>) -> ApiResult<Vec<Arc<Entry>>> {
        if self.selects_converted() {
            entries.retain(|entry| self.selection.may_match(entry));
            entries = self.forms(entries).await?;
        }
        entries.retain(|entry| self.selection.matches(entry));
        Ok(entries)
    }

    async fn forms(&self, entries: Vec<Arc<Entry>>) -> ApiResult<Vec<Arc<Entry>>> {
        let (server, resource) = (self.server, self.resource);
        server.forms(resource, entries, Asker::Request).await
    }

    /// The page of the newest state.
    async fn present(
        &self,
        snapshot: &Snapshot,
        revision: i64,
        options: &ListOptions,
    ) -> ApiResult<Page> {
        let page = match self.selects_converted() {
            true => self.converted_page(snapshot, revision, options).await?,
            false => from_snapshot(snapshot, revision, options, self.selection),
        };
        let lists = &self.server.metrics.storage.cached;
        lists.answered(self.resource, page.entries.len());
        Ok(page)
    }

    /// The page of a state that a webhook has to convert before anything can be selected.
    async fn converted_page(
        &self,
        snapshot: &Snapshot,
        revision: i64,
        options: &ListOptions,
    ) -> ApiResult<Page> {
        let selection = self.selection;
        let candidates: Vec<Arc<Entry>> = snapshot
            .tree
            .iter_from(&start_key(options, selection))
            .take_while(|entry| entry.key().starts_with(&selection.prefix))
            .filter(|entry| selection.may_match(entry))
            .cloned()
            .collect();
        let last = candidates.last().map(|entry| entry.key().to_owned());
        let (limit, turn) = match options.limit {
            0 => (usize::MAX, candidates.len()),
            limit => (limit, PAGE),
        };
        let mut candidates = candidates.into_iter();
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        while entries.len() < limit && candidates.len() > 0 {
            let some = candidates.by_ref().take(turn).collect();
            entries.extend(self.select(some).await?);
        }
        entries.truncate(limit);
        let end = entries.last().map(|entry| entry.key());
        let more = entries.len() == limit && end != last.as_deref();
        Ok(page(entries, revision, more, None, selection))
    }
}

/// Reads what a list is about. In the stored `version` nobody is asked to convert, and the entries are as they are stored.
pub(crate) async fn read(
    context: &Context,
    resource: &Resource,
    options: &ListOptions,
    selection: &Selection,
    version: Version,
) -> ApiResult<Page> {
    let reader = Reader {
        server: &context.server,
        resource,
        selection,
        version,
    };
    let mut page = read_stored(context, &reader, options).await?;
    if version == Version::Asked {
        page.entries = reader.forms(page.entries).await?;
    }
    Ok(page)
}

async fn read_stored(
    context: &Context,
    reader: &Reader<'_>,
    options: &ListOptions,
) -> ApiResult<Page> {
    let resource = reader.resource;
    let world = &context.server.world;
    let store = &*context.server.store;
    match options.at {
        ReadAt::MostRecent => {
            world.wait_most_recent(store).await?;
        }
        ReadAt::NotOlderThan(revision) | ReadAt::Exact(revision) => {
            world
                .wait_for(revision, Instant::now() + REVISION_WAIT)
                .await?;
        }
    }
    // Only now: while the request waited, a definition may have changed, and another cache have come with it.
    let (cache, snapshot) = world
        .snapshot_of(resource)
        .ok_or_else(ApiError::no_such_resource)?;
    match options.at {
        // What could not be read then is found out by reading it.
        ReadAt::Exact(revision) if snapshot.changed > revision => {}
        _ => snapshot.check_readable(&reader.selection.prefix)?,
    }
    match options.at {
        ReadAt::Exact(revision) if planted(Bug::LaterPagesAreNewer) && options.continued => {
            reader.present(&snapshot, revision, options).await
        }
        // Its history is dropped: its pages end then, also where nothing of this resource changed since.
        ReadAt::Exact(revision) if revision < store.status().compact_revision => {
            Err(expired(options))
        }
        // Nothing of this resource changed since: the newest state is the asked one.
        ReadAt::Exact(revision) if snapshot.changed <= revision => {
            reader.present(&snapshot, revision, options).await
        }
        ReadAt::Exact(revision) => {
            match from_store(&context.server, &cache, revision, options, reader).await {
                Err(error) if error.reason == "Expired" => Err(expired(options)),
                Err(error) => Err(error),
                Ok(page) => {
                    let lists = &context.server.metrics.storage.stored;
                    lists.answered(resource, page.entries.len());
                    Ok(page)
                }
            }
        }
        _ => reader.present(&snapshot, snapshot.revision, options).await,
    }
}

/// What a list of a state that nobody knows any more is told; pages have a way on.
fn expired(options: &ListOptions) -> ApiError {
    if !options.continued {
        return ApiError::list_too_old();
    }
    let start = options.start.as_deref().unwrap_or_default();
    ApiError::continue_expired(Some(encode_token(-1, start)))
}

/// The prefix of the collection: continue tokens are relative to it.
fn start_key(options: &ListOptions, selection: &Selection) -> String {
    format!(
        "{}{}",
        selection.prefix,
        options.start.as_deref().unwrap_or_default()
    )
}

fn from_snapshot(
    snapshot: &Snapshot,
    revision: i64,
    options: &ListOptions,
    selection: &Selection,
) -> Page {
    let start = start_key(options, selection);
    let limit = if options.limit == 0 {
        usize::MAX
    } else {
        options.limit
    };
    let mut rest = snapshot
        .tree
        .iter_from(&start)
        .take_while(|entry| entry.key().starts_with(&selection.prefix))
        .filter(|entry| selection.is_plain() || selection.matches(entry));
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    while entries.len() < limit {
        match rest.next() {
            Some(entry) => entries.push(entry.clone()),
            None => break,
        }
    }
    let after = if entries.len() < limit {
        0
    } else if selection.is_plain() {
        rest.count()
    } else {
        usize::from(rest.next().is_some())
    };
    page(
        entries,
        revision,
        after > 0,
        selection.is_plain().then_some(after),
        selection,
    )
}

fn page(
    entries: Vec<Arc<Entry>>,
    revision: i64,
    more: bool,
    remaining: Option<usize>,
    selection: &Selection,
) -> Page {
    let token = entries.last().filter(|_| more).map(|last| {
        encode_token(
            revision,
            &format!("{}\0", &last.key()[selection.prefix.len()..]),
        )
    });
    Page {
        entries,
        revision,
        token,
        remaining,
    }
}

async fn from_store(
    server: &ApiServer,
    cache: &Cache,
    revision: i64,
    options: &ListOptions,
    reader: &Reader<'_>,
) -> ApiResult<Page> {
    let selection = reader.selection;
    let mut from = Bytes::from(start_key(options, selection));
    let mut end = selection.prefix.clone().into_bytes();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let end = Bytes::from(end);
    let limit = if options.limit == 0 {
        usize::MAX
    } else {
        options.limit
    };
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    loop {
        let request = RangeRequest {
            key: from.clone(),
            range_end: end.clone(),
            limit: limit.min(PAGE) as i64,
            revision,
            serializable: true,
            ..RangeRequest::default()
        };
        let answer = server.store.range(request).await?.body;
        let total = usize::try_from(answer.count).unwrap_or(0);
        let read = opened(server, cache, &answer.kvs)?;
        for entry in reader.select(read).await? {
            let key = entry.key().to_owned();
            entries.push(entry);
            if entries.len() == limit {
                let before = answer.kvs.iter();
                let before = before.take_while(|pair| *pair.key <= *key.as_bytes());
                let after = total.saturating_sub(before.count());
                return Ok(page(
                    entries,
                    revision,
                    after > 0,
                    selection.is_plain().then_some(after),
                    selection,
                ));
            }
        }
        match answer.kvs.last() {
            Some(last) if answer.more => {
                let mut next = last.key.to_vec();
                next.push(0);
                from = Bytes::from(next);
            }
            _ => return Ok(page(entries, revision, false, None, selection)),
        }
    }
}

/// What the store has, as the cache would keep it.
fn opened(server: &ApiServer, cache: &Cache, pairs: &[KeyValue]) -> ApiResult<Vec<Arc<Entry>>> {
    let read = pairs.iter().filter_map(|pair| {
        let key = String::from_utf8_lossy(&pair.key);
        let sealer = &server.world.sealer;
        match sealer.open(cache.resource(), &key, &pair.value) {
            Ok(opened) => cache.entry(&key, &opened, pair.mod_revision).map(Ok),
            Err(error) => Some(Err(ApiError::unreadable_in_list(&key, &error.why))),
        }
    });
    read.collect()
}

/// The page in the form and the encoding that were asked for.
pub(super) async fn respond(
    context: &Context,
    resource: &Handle,
    page: Page,
) -> ApiResult<Response> {
    let output = &context.output;
    match (output.encoding, output.form) {
        (Encoding::Json, Form::Object) => return Ok(list_json::respond(context, resource, page)),
        (Encoding::Protobuf, Form::Object | Form::Partial { .. }) => {
            return list_protobuf::respond(context, resource, page).await;
        }
        _ => {}
    }
    if let Some(response) = list_forms::respond(context, resource, &page) {
        return Ok(response);
    }
    let metadata = page.metadata();
    let objects = page.entries.iter().map(|entry| entry.object_as(resource));
    let value = match context.output.form {
        Form::Object => {
            let items: Vec<Value> = objects.map(Object::into_value).collect();
            json!({ "kind": resource.list_kind, "apiVersion": resource.api_version(),
                "metadata": page.metadata_of(resource), "items": items })
        }
        Form::Partial { version, .. } => {
            let items: Vec<Value> = objects
                .map(|object| negotiate::partial(&object, version))
                .collect();
            json!({ "kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": metadata, "items": items })
        }
        Form::Table { version, include } => {
            let objects: Vec<Object> = objects.collect();
            negotiate::table(
                resource,
                &objects,
                metadata,
                (version, include),
                true,
                context.now,
            )
        }
    };
    Ok(context.respond_value(StatusCode::OK, &value))
}
