//! What a leader does when its renewals meet a slow server, its own earlier writes, or a rival.

use crate::server::status;
use agent_runtime::{Body, BoxError, Client, Elector, ElectorConfig, InProcessService};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

/// What happens to a write of the lease.
#[derive(Clone, Copy)]
enum Fate {
    /// It is stored, but the answer never comes.
    Unanswered,
    /// An earlier renewal of the same holder is stored first.
    AfterOwn,
    /// A rival takes the lease first.
    AfterRival,
    /// Somebody deletes the lease first.
    AfterDeletion,
}

/// One Lease, with the versions of an API server. What is not in `fates` happens as it should.
struct Leases {
    lease: Mutex<Option<Value>>,
    version: AtomicUsize,
    fates: Mutex<VecDeque<Fate>>,
    renewals: watch::Sender<usize>,
}

impl Leases {
    fn store(&self, mut lease: Value) -> Value {
        let version = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        lease["metadata"]["resourceVersion"] = version.to_string().into();
        *self.lease.lock().unwrap() = Some(lease.clone());
        lease
    }

    fn found(&self) -> Option<Value> {
        self.lease.lock().unwrap().clone()
    }

    /// The answer, or `None` for one that never comes.
    fn answer(&self, method: &Method, body: &[u8]) -> Option<(u16, Value)> {
        match *method {
            Method::GET => Some(
                self.found()
                    .map_or_else(|| (404, status(404, "NotFound")), |lease| (200, lease)),
            ),
            Method::POST if self.found().is_some() => Some((409, status(409, "AlreadyExists"))),
            Method::POST => Some((201, self.store(serde_json::from_slice(body).unwrap()))),
            _ => self.put(serde_json::from_slice(body).unwrap()),
        }
    }

    fn put(&self, new: Value) -> Option<(u16, Value)> {
        let fate = self.fates.lock().unwrap().pop_front();
        match (fate, self.found()) {
            (Some(Fate::AfterOwn), Some(lease)) => drop(self.store(lease)),
            (Some(Fate::AfterRival), Some(mut lease)) => {
                lease["spec"]["holderIdentity"] = "rival".into();
                self.store(lease);
            }
            (Some(Fate::AfterDeletion), _) => *self.lease.lock().unwrap() = None,
            _ => {}
        }
        let Some(old) = self.found() else {
            return Some((404, status(404, "NotFound")));
        };
        if old["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"] {
            return Some((409, status(409, "Conflict")));
        }
        let stored = self.store(new);
        if matches!(fate, Some(Fate::Unanswered)) {
            return None;
        }
        self.renewals.send_modify(|count| *count += 1);
        Some((200, stored))
    }
}

struct Election {
    leases: Arc<Leases>,
    /// How often the leadership began.
    begun: Arc<AtomicUsize>,
    /// Cancelled when the first leadership ended.
    lost: CancellationToken,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Election {
    fn start(fates: &[Fate]) -> Self {
        let leases = Arc::new(Leases {
            lease: Mutex::default(),
            version: AtomicUsize::new(0),
            fates: Mutex::new(fates.iter().copied().collect()),
            renewals: watch::Sender::new(0),
        });
        let served = leases.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let leases = served.clone();
            async move {
                let method = request.method().clone();
                let body = request.into_body().collect().await?.to_bytes();
                let Some((code, value)) = leases.answer(&method, &body) else {
                    return std::future::pending().await;
                };
                let body = Full::new(Bytes::from(value.to_string()))
                    .map_err(|never| match never {})
                    .boxed_unsync();
                Ok::<_, BoxError>(Response::builder().status(code).body(body)?)
            }
        });
        let client = Client::in_process(InProcessService::new(service));
        // Only an unanswered attempt runs into a time limit here; the lease itself never does.
        let config = ElectorConfig {
            lease_duration: PATIENCE * 3,
            renew_deadline: PATIENCE * 2,
            retry: Duration::from_millis(5),
            attempt_max: Duration::from_millis(500),
            ..ElectorConfig::new("kube-system", "x", "me")
        };
        let (begun, lost, stop) = (
            Arc::new(AtomicUsize::new(0)),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let task = tokio::spawn({
            let (begun, lost, stop) = (begun.clone(), lost.clone(), stop.clone());
            async move {
                let elector = Elector::new(client, config);
                elector
                    .run(stop, |leading| {
                        let (begun, lost) = (begun.clone(), lost.clone());
                        async move {
                            begun.fetch_add(1, Ordering::SeqCst);
                            leading.cancelled().await;
                            lost.cancel();
                        }
                    })
                    .await;
            }
        });
        Self {
            leases,
            begun,
            lost,
            stop,
            task,
        }
    }

    /// Waits for so many renewals with an answer, and says how often the leadership had begun by then.
    async fn after_renewals(&self, count: usize) -> usize {
        let mut renewals = self.leases.renewals.subscribe();
        tokio::time::timeout(PATIENCE, renewals.wait_for(|n| *n >= count))
            .await
            .expect("the leader renews")
            .unwrap();
        assert!(!self.lost.is_cancelled(), "the leadership was given up");
        self.begun.load(Ordering::SeqCst)
    }

    async fn stop(self) -> Value {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("the elector stops")
            .unwrap();
        self.leases.found().unwrap()
    }
}

#[tokio::test]
async fn a_leader_goes_on_when_its_own_late_renewal_comes_first() {
    let election = Election::start(&[Fate::AfterOwn, Fate::AfterOwn]);
    assert_eq!(election.after_renewals(3).await, 1);
    let lease = election.stop().await;
    assert_eq!(lease["spec"]["holderIdentity"], "", "it was given back");
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
}

#[tokio::test]
async fn a_leader_goes_on_when_the_answer_to_a_renewal_never_comes() {
    let election = Election::start(&[Fate::Unanswered]);
    assert_eq!(election.after_renewals(2).await, 1);
    election.stop().await;
}

#[tokio::test]
async fn a_leader_makes_a_lease_anew_that_somebody_deleted() {
    let election = Election::start(&[Fate::AfterDeletion]);
    assert_eq!(election.after_renewals(2).await, 1);
    election.stop().await;
}

#[tokio::test]
async fn a_leader_whose_lease_a_rival_took_ends_its_work() {
    let election = Election::start(&[Fate::AfterRival]);
    tokio::time::timeout(PATIENCE, election.lost.cancelled())
        .await
        .expect("the leadership ends");
    let lease = election.stop().await;
    assert_eq!(lease["spec"]["holderIdentity"], "rival");
}
