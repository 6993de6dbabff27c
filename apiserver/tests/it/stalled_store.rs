//! A store that holds back writes under a prefix until the test lets them go on.

use std::sync::Arc;

use kv::mem::MemStore;
use kv::{
    BoxFuture, LeaseStatus, RangeRequest, RangeResponse, Request, Store, StoreError, StoreResult,
    StoreStatus, TxnRequest, TxnResponse, WatchRequest, WatchStream,
};
use tokio::sync::watch;

pub(crate) struct Stalled {
    inner: Arc<MemStore>,
    prefix: &'static str,
    goes_on: watch::Sender<bool>,
    arrived: watch::Sender<usize>,
}

impl Stalled {
    pub(crate) fn over(inner: Arc<MemStore>, prefix: &'static str) -> Arc<Stalled> {
        Arc::new(Stalled {
            inner,
            prefix,
            goes_on: watch::Sender::new(true),
            arrived: watch::Sender::new(0),
        })
    }

    pub(crate) fn stall(&self) {
        self.goes_on.send_replace(false);
    }

    pub(crate) fn go_on(&self) {
        self.goes_on.send_replace(true);
    }

    /// Waits until so many writes are held back.
    pub(crate) async fn arrived(&self, count: usize) {
        let mut arrived = self.arrived.subscribe();
        let wait = arrived.wait_for(|now| *now >= count);
        let wait = tokio::time::timeout(std::time::Duration::from_secs(30), wait).await;
        wait.expect("the writes arrive").unwrap();
    }

    fn is_meant(&self, request: &TxnRequest) -> bool {
        let key = match request.success.first().map(|op| &op.request) {
            Some(Some(Request::Put(put))) => &put.key,
            Some(Some(Request::DeleteRange(delete))) => &delete.key,
            _ => return false,
        };
        key.starts_with(self.prefix.as_bytes())
    }
}

impl Store for Stalled {
    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, StoreResult<TxnResponse>> {
        let mut goes_on = self.goes_on.subscribe();
        if !self.is_meant(&request) || *goes_on.borrow() {
            return self.inner.txn(request);
        }
        Box::pin(async move {
            self.arrived.send_modify(|count| *count += 1);
            let waited = goes_on.wait_for(|goes_on| *goes_on).await;
            waited.map_err(|_| StoreError::Stopped)?;
            self.inner.txn(request).await
        })
    }

    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>> {
        self.inner.range(request)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        self.inner.watch(request)
    }

    fn read_index(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        self.inner.read_index()
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, StoreResult<()>> {
        self.inner.compact(revision)
    }

    fn lease_grant(&self, id: i64, ttl_seconds: i64) -> BoxFuture<'_, StoreResult<(i64, i64)>> {
        self.inner.lease_grant(id, ttl_seconds)
    }

    fn lease_revoke(&self, id: i64) -> BoxFuture<'_, StoreResult<()>> {
        self.inner.lease_revoke(id)
    }

    fn lease_keep_alive(&self, id: i64) -> BoxFuture<'_, StoreResult<i64>> {
        self.inner.lease_keep_alive(id)
    }

    fn lease_time_to_live(&self, id: i64, keys: bool) -> BoxFuture<'_, StoreResult<LeaseStatus>> {
        self.inner.lease_time_to_live(id, keys)
    }

    fn leases(&self) -> BoxFuture<'_, StoreResult<Vec<i64>>> {
        self.inner.leases()
    }

    fn status(&self) -> StoreStatus {
        self.inner.status()
    }
}
