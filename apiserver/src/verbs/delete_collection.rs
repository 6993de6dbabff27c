//! DELETE of a collection: a list, then one deletion after the other. Objects that vanish meanwhile do not matter. The answer is
//! the list as it was before.

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use resources::Handle;
use serde_json::{Value, json};

use crate::as_of;
use crate::context::Context;
use crate::conversion;
use crate::negotiate;
use crate::read_version::ListOptions;
use crate::selection::Selection;
use crate::status::ApiResult;
use crate::verbs::delete::{self, DeleteOptions};
use crate::verbs::list;
use crate::write::Version;

/// Deletions in flight at once: enough to fill the store's write batches, few enough not to crowd others out.
const IN_FLIGHT: usize = 16;

pub(crate) async fn delete_collection(
    context: &Context,
    resource: &Handle,
    body: Bytes,
) -> ApiResult<Response> {
    as_of::refuse(&context.query)?;
    let options = DeleteOptions::read(context, &body)?;
    negotiate::check_number(&context.output, resource, true)?;
    delete::warn_of_orphans(context, resource, &options);
    let selection = Selection::from_query(resource, &context.info.namespace, &context.query)?;
    let page = list::read(
        context,
        resource,
        &ListOptions::from_query(&context.query)?,
        &selection,
        Version::Stored,
    )
    .await?;
    let mut outcomes = futures::stream::iter(page.entries.clone())
        .map(|entry| {
            let options = &options;
            async move {
                delete::delete_object(context, resource, entry.namespace(), entry.name(), options)
                    .await
            }
        })
        .buffered(IN_FLIGHT);
    // What a webhook converts is shown as its deletion has left it: that was converted for it.
    let is_converted = conversion::by_webhook(resource).is_some();
    let mut items: Vec<Value> = Vec::new();
    while let Some(outcome) = outcomes.next().await {
        match outcome {
            Ok(outcome) if is_converted => {
                items.push(Arc::unwrap_or_clone(outcome.object).into_value());
            }
            Ok(_) => {}
            Err(error) if error.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    if !is_converted {
        return list::respond(context, resource, page).await;
    }
    let list = json!({
        "kind": resource.list_kind, "apiVersion": resource.api_version(),
        "metadata": page.metadata_of(resource), "items": items
    });
    Ok(context.respond_value(StatusCode::OK, &list))
}
