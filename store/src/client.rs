//! What clients in the same process see of a member: [`kv::Store`].

use kv::{
    Answer, BoxFuture, LeaseStatus, PageStream, Refusal, Reply, Store, StoreError, StoreResult,
    StoreStatus, WatchRequest, WatchStream,
};
use prost::Message;
use rand::RngExt;

use crate::host;
use crate::node::Node;

impl Store for Node {
    fn range(&self, request: kv::RangeRequest) -> BoxFuture<'_, StoreResult<kv::RangeResponse>> {
        Box::pin(async move {
            kv::check_range(&request)?;
            if !request.serializable {
                self.core.catch_up().await?;
            }
            self.core.replica.range(request).await
        })
    }

    fn range_parts(
        &self,
        request: kv::RangeRequest,
        part_bytes: usize,
    ) -> BoxFuture<'_, StoreResult<kv::RangeParts>> {
        Box::pin(async move {
            kv::check_range(&request)?;
            if !request.serializable {
                self.core.catch_up().await?;
            }
            self.core.range_parts(request, part_bytes).await
        })
    }

    fn range_pages(
        &self,
        request: kv::RangeRequest,
        page_bytes: usize,
    ) -> BoxFuture<'_, StoreResult<PageStream>> {
        Box::pin(async move {
            kv::check_range(&request)?;
            if !request.serializable {
                self.core.catch_up().await?;
            }
            self.core.range_pages(request, page_bytes).await
        })
    }

    fn txn(&self, request: kv::TxnRequest) -> BoxFuture<'_, StoreResult<kv::TxnResponse>> {
        Box::pin(async move {
            kv::check_txn(&request)?;
            if kv::is_read_only(&request) {
                if !kv::is_serializable(&request) {
                    self.core.catch_up().await?;
                }
                return self.core.read_txn(request).await;
            }
            self.core.check_reads(&request)?;
            if request.encoded_len() > self.core.config.limits.request_bytes {
                return Err(Refusal::TooLarge.into());
            }
            let answer = self.core.propose(kv::Command::Txn(request)).await?;
            match answer.body {
                Reply::Txn(body) => Ok(Answer {
                    revision: answer.revision,
                    body,
                }),
                _ => Err(StoreError::LeaderChanged),
            }
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        Box::pin(async move {
            if request.key.is_empty() {
                return Err(Refusal::EmptyKey.into());
            }
            if self.core.failed.borrow().is_some() || self.core.transport.stop.is_cancelled() {
                return Err(StoreError::Stopped);
            }
            // A start ahead of this member is silent until it has come so far, so no watch travels back in time.
            Ok(Box::pin(self.core.replica.hub().watch(&request)) as WatchStream)
        })
    }

    fn read_index(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        Box::pin(async move {
            let revision = self.core.catch_up().await?;
            self.core.replica.hub().request_progress(revision);
            Ok(revision)
        })
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(async move {
            let answer = self
                .core
                .propose(kv::Command::Compact(kv::Compact { revision }))
                .await?;
            Ok(Answer {
                revision: answer.revision,
                body: (),
            })
        })
    }

    fn lease_grant(&self, id: i64, ttl_seconds: i64) -> BoxFuture<'_, StoreResult<(i64, i64)>> {
        Box::pin(async move {
            let shortest = self.core.config.limits.lease_min;
            let shortest = shortest.as_millis().div_ceil(1000);
            let ttl_seconds = ttl_seconds.max(i64::try_from(shortest).unwrap_or(i64::MAX));
            loop {
                let chosen = if id != 0 {
                    id
                } else {
                    host::rng().random_range(1..i64::MAX)
                };
                let command = kv::Command::LeaseGrant(kv::Lease {
                    id: chosen,
                    ttl_seconds,
                    nonce: host::rng().random_range(1..u64::MAX),
                });
                match self.core.propose(command).await {
                    Ok(Answer {
                        revision,
                        body: Reply::Lease(lease),
                    }) => {
                        return Ok(Answer {
                            revision,
                            body: (lease.id, lease.ttl_seconds),
                        });
                    }
                    Ok(_) => return Err(StoreError::LeaderChanged),
                    Err(StoreError::Refused(Refusal::LeaseExists)) if id == 0 => {}
                    Err(error) => return Err(error),
                }
            }
        })
    }

    fn lease_revoke(&self, id: i64) -> BoxFuture<'_, StoreResult<()>> {
        Box::pin(async move {
            let answer = self
                .core
                .propose(kv::Command::LeaseRevoke(kv::LeaseRevoke { id }))
                .await?;
            Ok(Answer {
                revision: answer.revision,
                body: (),
            })
        })
    }

    fn lease_keep_alive(&self, id: i64) -> BoxFuture<'_, StoreResult<i64>> {
        Box::pin(async move {
            // Before the renewal: success is never reported at a revision after the lease's end.
            let revision = self.core.replica.catalog().revision();
            Ok(Answer {
                revision,
                body: self.core.keep_alive(id).await?,
            })
        })
    }

    fn lease_time_to_live(&self, id: i64, keys: bool) -> BoxFuture<'_, StoreResult<LeaseStatus>> {
        Box::pin(async move {
            self.core.catch_up().await?;
            let left = self.core.lease_left(id).await?;
            Ok(self.core.replica.lease_status(id, keys, left))
        })
    }

    fn leases(&self) -> BoxFuture<'_, StoreResult<Vec<i64>>> {
        Box::pin(async move {
            self.core.catch_up().await?;
            let catalog = self.core.replica.catalog();
            let body = catalog.leases().map(|record| record.lease.id).collect();
            Ok(Answer {
                revision: catalog.revision(),
                body,
            })
        })
    }

    fn status(&self) -> StoreStatus {
        let members = self.core.members();
        let position = self.core.replica.position();
        let leadership = *self.core.leadership.borrow();
        let me = self.core.config.member_id;
        let size_bytes = self.core.replica.disk().opened().size_bytes();
        StoreStatus {
            cluster_id: self.core.config.cluster_id,
            member_id: me,
            leader_id: leadership.leader.unwrap_or(0),
            raft_term: leadership.term,
            raft_index: self.core.last_log_index(),
            raft_applied_index: position.applied.map_or(0, |id| id.index),
            revision: position.revision,
            compact_revision: position.compact_revision,
            size_bytes,
            is_learner: !members
                .iter()
                .any(|member| member.id == me && member.is_voter),
            members,
        }
    }

    fn raft_term(&self) -> u64 {
        self.core.leadership.borrow().term
    }

    fn revision(&self) -> i64 {
        self.core.replica.applied().borrow().revision
    }

    fn revision_as_of(&self, unix_ms: i64) -> Result<Option<i64>, StoreError> {
        let found = self.core.replica.revision_at(unix_ms)?;
        Ok(Some(found.revision))
    }

    fn request_progress(&self, revision: i64) {
        self.core.replica.hub().request_progress(revision);
    }
}
