//! Reads as of a time, which Kubernetes has not: with `resourceVersionMatch=Exact` a time (RFC 3339) as `resourceVersion` means
//! the newest version at that time, for an object and for a list.

use std::borrow::Cow;

use crate::context::Context;
use crate::request::Query;
use crate::status::{ApiError, ApiResult};

/// The query of a read, with a version where it had a time. 410 where the history does not go back to it.
pub(crate) async fn query(context: &Context) -> ApiResult<Cow<'_, Query>> {
    let Some(unix_ms) = time(&context.query) else {
        return Ok(Cow::Borrowed(&context.query));
    };
    // Hardly anybody asks: other reads need no room for it.
    let version = Box::pin(version(context, unix_ms)).await?;
    let query = context.query.with("resourceVersion", &version.to_string());
    Ok(Cow::Owned(query))
}

/// 400 for a time where nothing is read as of one: what is deleted is what is there now, and not what was there then.
pub(crate) fn refuse(query: &Query) -> ApiResult<()> {
    match time(query) {
        None => Ok(()),
        Some(_) => Err(ApiError::bad_request(
            "invalid resource version: a time is for reads alone, and what a collection was then cannot be deleted",
        )),
    }
}

async fn version(context: &Context, unix_ms: i64) -> ApiResult<i64> {
    if unix_ms > crate::clock::unix_micros() / 1_000 {
        let text = "invalid resource version: the time is yet to come";
        return Err(ApiError::bad_request(text));
    }
    let server = &context.server;
    // A member that is behind does not know yet all that was written by then.
    server.world.wait_most_recent(&*server.store).await?;
    let found = server.store.revision_as_of(unix_ms)?;
    found.ok_or_else(|| {
        ApiError::bad_request("invalid resource version: the store does not know its times")
    })
}

/// The time that a query names in the place of a version, in milliseconds since 1970.
fn time(query: &Query) -> Option<i64> {
    if query.get("resourceVersionMatch") != Some("Exact") {
        return None;
    }
    let (seconds, nanos) = schema::time::parse_nanos(query.get("resourceVersion")?)?;
    let millis = i64::from(nanos / 1_000_000);
    seconds.checked_mul(1_000)?.checked_add(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_stands_for_a_version_where_it_is_meant_exactly() {
        for (query, wanted) in [
            (
                "resourceVersion=1970-01-01T00:00:02.5Z&resourceVersionMatch=Exact",
                Some(2_500),
            ),
            (
                "resourceVersion=1970-01-01T01:00:02%2B01:00&resourceVersionMatch=Exact",
                Some(2_000),
            ),
            ("resourceVersion=1970-01-01T00:00:02Z", None),
            (
                "resourceVersion=1970-01-01T00:00:02Z&resourceVersionMatch=NotOlderThan",
                None,
            ),
            ("resourceVersion=12&resourceVersionMatch=Exact", None),
            ("resourceVersionMatch=Exact", None),
        ] {
            let query = Query::parse(Some(query));
            assert_eq!(time(&query), wanted, "{query:?}");
            assert_eq!(refuse(&query).is_err(), wanted.is_some(), "{query:?}");
        }
    }
}
