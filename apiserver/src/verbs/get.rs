//! GET of one object.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use kv::RangeRequest;
use kv::mutants::{Bug, planted};
use resources::Resource;
use tokio::time::Instant;

use crate::ApiServer;
use crate::as_of;
use crate::cache::Cache;
use crate::context::Context;
use crate::entry::Entry;
use crate::negotiate::{self, Form};
use crate::read_version::{exact_version, parse_version};
use crate::status::{ApiError, ApiResult};
use crate::world::REVISION_WAIT;

pub(crate) async fn get(context: &Context, resource: &Resource) -> ApiResult<Response> {
    let entry = match context.output.form {
        // Metadata is the same in all versions: no webhook is asked.
        Form::Partial { .. } => stored(context, resource).await?,
        Form::Object | Form::Table { .. } => entry(context, resource).await?,
    };
    negotiate::check_number(&context.output, resource, false)?;
    Ok(context.respond_entry(StatusCode::OK, resource, &entry))
}

/// The object that the path names, as the resource shows it.
pub(crate) async fn entry(context: &Context, resource: &Resource) -> ApiResult<Arc<Entry>> {
    let stored = stored(context, resource).await?;
    context.server.form(resource, stored).await
}

/// The object that the path names as it is stored, at the version that `resourceVersion` demands. With `resourceVersionMatch=Exact` as it
/// was then, which Kubernetes has for lists only: 404 where it was not there, 410 where its history is compacted.
async fn stored(context: &Context, resource: &Resource) -> ApiResult<Arc<Entry>> {
    let world = &context.server.world;
    let query = as_of::query(context).await?;
    let wanted = parse_version(query.get("resourceVersion"))?;
    let exact = exact_version(&query, wanted)?;
    match wanted {
        Some(0) if planted(Bug::VersionZeroIsStale) => {}
        None | Some(0) => {
            world.wait_most_recent(&*context.server.store).await?;
        }
        Some(version) => {
            world
                .wait_for(version, Instant::now() + REVISION_WAIT)
                .await?
        }
    }
    let cache = world
        .cache(resource)
        .ok_or_else(ApiError::no_such_resource)?;
    let key = resources::storage_key(resource, &context.info.namespace, &context.info.name);
    let found = match exact {
        None => cache.find(&key)?,
        Some(version) => match cache.get(&key) {
            Some(entry) if entry.revision <= version => Some(entry),
            // Hardly anybody asks: the answers to others need no room for it.
            _ => Box::pin(past(&context.server, &cache, &key, version)).await?,
        },
    };
    found.ok_or_else(|| context.not_found(resource, &context.info.name))
}

/// The object under `key` as it was at a revision.
async fn past(
    server: &ApiServer,
    cache: &Cache,
    key: &str,
    revision: i64,
) -> ApiResult<Option<Arc<Entry>>> {
    let request = RangeRequest {
        key: Bytes::from(key.to_owned()),
        revision,
        serializable: true,
        ..RangeRequest::default()
    };
    let store = &server.store;
    match store.range(request).await.map_err(ApiError::from) {
        Err(error) if error.reason == "Expired" => {
            Err(ApiError::too_old(revision, store.status().compact_revision))
        }
        Err(error) => Err(error),
        Ok(answer) => {
            let Some(pair) = answer.body.kvs.first() else {
                return Ok(None);
            };
            let sealer = &server.world.sealer;
            let opened = sealer.open(cache.resource(), key, &pair.value);
            let opened = opened.map_err(|unreadable| ApiError::internal(unreadable.why))?;
            Ok(cache.entry(key, &opened, pair.mod_revision))
        }
    }
}
