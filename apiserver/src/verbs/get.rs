//! GET of one object.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use kv::mutants::{Bug, planted};
use resources::Resource;
use tokio::time::Instant;

use crate::context::Context;
use crate::entry::Entry;
use crate::read_version::parse_version;
use crate::status::{ApiError, ApiResult};
use crate::world::REVISION_WAIT;

pub(crate) async fn get(context: &Context, resource: &'static Resource) -> ApiResult<Response> {
    let entry = entry(context, resource).await?;
    Ok(context.respond_entry(StatusCode::OK, resource, &entry))
}

/// The object that the path names, at the version that `resourceVersion` demands.
pub(crate) async fn entry(context: &Context, resource: &'static Resource) -> ApiResult<Arc<Entry>> {
    let world = &context.server.world;
    match parse_version(context.query.get("resourceVersion"))? {
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
    cache
        .get(&resources::storage_key(
            resource,
            &context.info.namespace,
            &context.info.name,
        ))
        .ok_or_else(|| context.not_found(resource, &context.info.name))
}
