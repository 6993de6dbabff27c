//! etcd's Election service.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use kv::{
    Answer, Event, EventKind, KeyValue, PutRequest, Request as Operation, StoreError, TxnRequest,
    WatchItem, WatchRequest, WatchStream,
};

use super::auth::to_campaign;
use super::errors::Fault;
use super::front::Front;
use super::headed::Headed;
use super::message::{
    CampaignBody, CampaignRequest, Empty, LeaderBody, LeaderKey, LeaderRequest, ProclaimRequest,
    ResignRequest,
};
use super::rpc::{Answers, Call};
use super::turn::{Place, created_at, delete_if, first_under, op, prefix_of, under};

/// Waits until it is elected. A client that goes away while it waits does not stand any more.
pub(super) async fn campaign(
    call: Call,
    request: CampaignRequest,
) -> Result<Headed<CampaignBody>, Fault> {
    let front = &call.front;
    let needs = to_campaign(&request)?;
    let value = request.value.clone();
    let (place, stood) = Place::take(front, &request.name, request.lease, value).await?;
    let leader = LeaderKey {
        name: request.name,
        key: place.key.clone(),
        rev: place.revision,
        lease: place.lease,
    };
    if stood.is_some_and(|kv| kv.value != request.value) {
        announce(front, &leader, request.value).await?;
    }
    let revision = place.wait().await?.ok_or(Fault::NotElected)?;
    // It may have been long: who may not stand any more is not elected.
    call.admit(needs).await?;
    place.keep();
    Ok(front.headed(Answer {
        revision,
        body: CampaignBody {
            leader: Some(leader),
        },
    }))
}

pub(super) async fn proclaim(call: Call, request: ProclaimRequest) -> Result<Headed<Empty>, Fault> {
    let leader = request.leader.ok_or(Fault::LeaderMissing)?;
    let revision = announce(&call.front, &leader, request.value).await?;
    Ok(call.front.headed(Answer {
        revision,
        body: Empty {},
    }))
}

/// Puts a new value as long as the key is still the one that was elected.
async fn announce(front: &Front, leader: &LeaderKey, value: Bytes) -> Result<i64, Fault> {
    let put = PutRequest {
        key: leader.key.clone(),
        value,
        lease: leader.lease,
        ..PutRequest::default()
    };
    let txn = TxnRequest {
        compare: vec![created_at(&leader.key, leader.rev)],
        success: vec![op(Operation::Put(put))],
        failure: Vec::new(),
    };
    let answer = front.backend.txn(txn).await?;
    match answer.body.succeeded {
        true => Ok(answer.revision),
        false => Err(Fault::NotElected),
    }
}

pub(super) async fn leader(
    call: Call,
    request: LeaderRequest,
) -> Result<Headed<LeaderBody>, Fault> {
    let answer = elected(&call.front, &prefix_of(&request.name)).await?;
    let kv = answer.body.ok_or(Fault::NobodyElected)?;
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body: LeaderBody { kv: Some(kv) },
    }))
}

async fn elected(front: &Front, prefix: &Bytes) -> Result<Answer<Option<KeyValue>>, StoreError> {
    let answer = front.backend.range(first_under(prefix)).await?;
    Ok(Answer {
        revision: answer.revision,
        body: answer.body.kvs.into_iter().next(),
    })
}

pub(super) async fn resign(call: Call, request: ResignRequest) -> Result<Headed<Empty>, Fault> {
    let leader = request.leader.ok_or(Fault::LeaderMissing)?;
    let txn = delete_if(&leader.key, leader.rev);
    let answer = call.front.backend.txn(txn).await?;
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body: Empty {},
    }))
}

/// Each leader, and all that it proclaims, in order; from who leads now on.
pub(super) async fn observe(
    call: Call,
    request: LeaderRequest,
) -> Result<Answers<Headed<LeaderBody>>, Fault> {
    let observer = Observer {
        front: call.front,
        prefix: prefix_of(&request.name),
        leader: None,
        watch: None,
        said: VecDeque::new(),
    };
    Ok(Box::pin(futures::stream::unfold(
        Some(observer),
        |observer| async {
            let mut observer = observer?;
            match observer.next().await {
                Ok(answer) => Some((Ok(answer), Some(observer))),
                Err(fault) => Some((Err(fault), None)),
            }
        },
    )))
}

struct Observer {
    front: Arc<Front>,
    prefix: Bytes,
    /// Key and creation of who leads, as far as it is known.
    leader: Option<(Bytes, i64)>,
    /// From right after the last look.
    watch: Option<WatchStream>,
    said: VecDeque<Headed<LeaderBody>>,
}

impl Observer {
    async fn next(&mut self) -> Result<Headed<LeaderBody>, Fault> {
        loop {
            if let Some(said) = self.said.pop_front() {
                return Ok(said);
            }
            match &mut self.watch {
                None => self.look().await?,
                Some(watch) => {
                    let stop = self.front.stop.clone();
                    let item = tokio::select! {
                        biased;
                        () = stop.cancelled() => None,
                        item = watch.next() => item,
                    };
                    match item {
                        Some(WatchItem::Events { revision, events }) => {
                            self.hear(revision, &events)
                        }
                        Some(WatchItem::Progress { .. }) => {}
                        Some(WatchItem::Compacted { .. }) => self.watch = None,
                        None => return Err(StoreError::Stopped.into()),
                    }
                }
            }
        }
    }

    /// Finds out who leads, and watches on from there.
    async fn look(&mut self) -> Result<(), Fault> {
        let answer = elected(&self.front, &self.prefix).await?;
        let range = under(&self.prefix);
        let request = WatchRequest {
            key: range.key,
            range_end: range.range_end,
            start_revision: answer.revision + 1,
        };
        self.watch = Some(self.front.backend.watch(request).await?);
        self.leader = None;
        if let Some(kv) = answer.body {
            self.leader = Some((kv.key.clone(), kv.create_revision));
            self.say(answer.revision, kv);
        }
        Ok(())
    }

    fn hear(&mut self, revision: i64, events: &[Event]) {
        for event in events {
            match &self.leader {
                Some((key, _)) if *key != event.kv.key => {}
                Some(_) if event.kind == EventKind::Put as i32 => {
                    self.say(revision, event.kv.clone());
                }
                // The leader went, or somebody came where nobody led.
                _ => {
                    self.watch = None;
                    return;
                }
            }
        }
    }

    fn say(&mut self, revision: i64, kv: KeyValue) {
        let said = self.front.headed(Answer {
            revision,
            body: LeaderBody { kv: Some(kv) },
        });
        self.said.push_back(said);
    }
}
