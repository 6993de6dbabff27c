//! Drops history that is older than [`crate::Config::history`], from the store and from the caches. Every member tries that
//! often; a key in the store lets one of them win, and what the winner wrote the time before is what is compacted, so at
//! least that much stays.

use std::sync::Arc;

use bytes::Bytes;
use kv::{
    Compare, CompareOperand, CompareResult, CompareTarget, PutRequest, RangeRequest, Request,
    RequestOp, ResponseBody, TxnRequest,
};

use crate::ApiServer;

const KEY: &[u8] = b"/kontiki/compact_rev_key";

/// What this member knows of the key: its version, and the revision that its value names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    version: i64,
    revision: i64,
}

pub(crate) async fn run(server: Arc<ApiServer>) {
    let mut seen = Seen::default();
    let mut before = 0;
    let mut ticks = tokio::time::interval(server.config.history);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Caches let go of what came before the last tick: they know as much as the store, and as long.
        server.world.age(before);
        before = server.world.revision();
        match turn(&server, seen).await {
            Ok(next) => seen = next,
            Err(error) => tracing::debug!(%error, "compaction is tried again later"),
        }
    }
}

async fn turn(server: &ApiServer, seen: Seen) -> Result<Seen, kv::StoreError> {
    let now = server.world.revision();
    if now == 0 {
        return Ok(seen);
    }
    let key = Bytes::from_static(KEY);
    let put = PutRequest {
        key: key.clone(),
        value: Bytes::from(now.to_string()),
        ..PutRequest::default()
    };
    let get = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let request = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Version as i32,
            key,
            operand: Some(CompareOperand::Version(seen.version)),
            range_end: Bytes::new(),
        }],
        success: vec![RequestOp {
            request: Some(Request::Put(put)),
        }],
        failure: vec![RequestOp {
            request: Some(Request::Range(get)),
        }],
    };
    let answer = server.store.txn(request).await?.body;
    if !answer.succeeded {
        // Somebody else's turn; remember where they are.
        let pair = answer
            .responses
            .into_iter()
            .find_map(|response| match response.response {
                Some(ResponseBody::Range(range)) => range.kvs.into_iter().next(),
                _ => None,
            });
        return Ok(pair.map_or(Seen::default(), |pair| Seen {
            version: pair.version,
            revision: std::str::from_utf8(&pair.value)
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
        }));
    }
    if seen.revision > 0 {
        match server.store.compact(seen.revision).await {
            Ok(_) | Err(kv::StoreError::Refused(kv::Refusal::Compacted { .. })) => {
                tracing::info!(revision = seen.revision, "history compacted");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Seen {
        version: seen.version + 1,
        revision: now,
    })
}
