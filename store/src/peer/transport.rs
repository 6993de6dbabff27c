//! Connections to other members: where they are, dialling them, and one caller for each member and lane.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::disk::MembershipRecord;
use crate::env::Network;
use crate::incarnations::{Incarnations, NotMet};
use crate::metrics::{METRICS, label_of};
use crate::peer::call::{CallError, Caller};
use crate::peer::tls::Proof;
use crate::peer::wire::{Connection, Hello, Lane, Refusal, Request, Response, Welcome};
use crate::raft::types::LogId;
use crate::watch;

/// To reach a member, shake hands and be welcome.
const DIAL_DEADLINE: Duration = Duration::from_secs(2);

/// Who this member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Me {
    pub cluster_id: u64,
    pub member_id: u64,
    pub incarnation: u64,
}

/// See the module head.
pub struct Transport {
    pub me: Me,
    pub incarnations: Arc<Incarnations>,
    /// After so much silence an incoming connection is closed; an idle outgoing one gives a sign of life thrice as often.
    pub silence: Duration,
    /// Set once, with the reason, when another member says that this one has lost its data, or was removed.
    pub disowned: watch::Sender<Option<String>>,
    network: Arc<dyn Network>,
    proof: Proof,
    membership: Mutex<Option<LogId>>,
    /// Incarnations that the applied membership names.
    published: Mutex<BTreeMap<u64, u64>>,
    /// What others last refused, so that it is logged once.
    refusals: Mutex<BTreeMap<u64, Refusal>>,
    addresses: RwLock<BTreeMap<u64, String>>,
    callers: Mutex<BTreeMap<(u64, Lane), Caller>>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Transport {
    pub fn new(
        config: &Config,
        incarnation: u64,
        incarnations: Arc<Incarnations>,
        proof: Proof,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Transport> {
        Arc::new(Transport {
            me: Me {
                cluster_id: config.cluster_id,
                member_id: config.member_id,
                incarnation,
            },
            incarnations,
            silence: config.limits.peer_silence,
            disowned: watch::Sender::default(),
            network: config.network.clone(),
            proof,
            membership: Mutex::default(),
            published: Mutex::default(),
            refusals: Mutex::default(),
            addresses: RwLock::default(),
            callers: Mutex::default(),
            tasks,
            stop,
        })
    }

    /// How often an idle outgoing connection gives a sign of life.
    pub fn sign_of_life(&self) -> Duration {
        self.silence / 3
    }

    /// Where the newest membership that this member knows stands.
    pub fn learn_membership(&self, at: Option<LogId>) {
        *self
            .membership
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// What the members have published, as of the membership that is applied here.
    pub fn learn_published(&self, membership: &MembershipRecord) {
        let known = membership.nodes.iter().filter_map(|record| {
            let incarnation = record.node().known_incarnation()?;
            Some((record.id, incarnation))
        });
        let mut published = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *published = known.collect();
    }

    fn published(&self, member: u64) -> Option<u64> {
        let published = self.published.lock();
        published
            .unwrap_or_else(PoisonError::into_inner)
            .get(&member)
            .copied()
    }

    /// Takes note that another member says that this one must not take part.
    pub fn disown(&self, why: &Refusal) {
        self.disowned.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert_with(|| why.to_string());
            first
        });
    }

    /// Whether the member is, or from now on counts as, the one that is known under this id.
    pub async fn meet(&self, member: u64, incarnation: u64) -> Result<(), Refusal> {
        agrees(member, self.published(member), incarnation)?;
        let met = self.incarnations.meet(member, incarnation).await;
        met.map_err(|error| match error {
            NotMet::Known(known) => Refusal::OtherDirectory {
                member,
                known,
                shown: incarnation,
            },
            NotMet::NotStored(error) => Refusal::NotStored(error.to_string()),
        })
    }

    /// Whether the cluster knows this member with the directory that it has.
    pub fn is_me(&self, incarnation: u64) -> Result<(), Refusal> {
        if incarnation == self.me.incarnation {
            return Ok(());
        }
        let refusal = Refusal::OtherDirectory {
            member: self.me.member_id,
            known: incarnation,
            shown: self.me.incarnation,
        };
        self.disown(&refusal);
        Err(refusal)
    }

    /// Whether this member has ever known a membership: it only comes to those who are in it.
    fn was_member(&self) -> bool {
        let newest = self.membership.lock();
        newest.unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn note_refusal(&self, by: u64, refusal: Option<&Refusal>) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(refusal) = refusal else {
            refusals.remove(&by);
            return;
        };
        if refusals.insert(by, refusal.clone()).as_ref() != Some(refusal) {
            tracing::warn!(peer = %format!("{by:016x}"), %refusal, "no connection to a member");
        }
        let about_me = match refusal {
            Refusal::OtherDirectory { member, .. } | Refusal::Gone { member } => {
                *member == self.me.member_id
            }
            // Who was never a member yet is to be added, perhaps.
            Refusal::Removed { member } => *member == self.me.member_id && self.was_member(),
            _ => false,
        };
        if about_me {
            self.disown(refusal);
        }
    }

    /// Learns where members are. The newest word counts.
    pub fn learn_addresses(&self, known: impl IntoIterator<Item = (u64, String)>) {
        let mut addresses = self
            .addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        addresses.extend(known.into_iter().filter(|(_, address)| !address.is_empty()));
    }

    /// A new connection to a member, proved to be that member of this cluster.
    pub async fn dial(&self, to: u64, lane: Lane) -> io::Result<Connection> {
        let dial = async {
            let address = self
                .addresses
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&to)
                .cloned();
            let unknown = || {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("no address of member {to:016x}"),
                )
            };
            let address = address.ok_or_else(unknown)?;
            let stream = self.network.dial(address.clone()).await?;
            let stream = self.proof.connect(to, &address, stream).await?;
            let mut connection = Connection::new(stream);
            connection.writer.message(&self.hello(to, lane)).await?;
            let refusal = match connection.reader.message(DIAL_DEADLINE).await? {
                Welcome::Accepted { incarnation } => self.meet(to, incarnation).await.err(),
                Welcome::Refused(why) => Some(why),
            };
            self.note_refusal(to, refusal.as_ref());
            connection.is_with(to);
            match refusal {
                None => Ok(connection),
                Some(why) => Err(io::Error::new(io::ErrorKind::ConnectionRefused, why)),
            }
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection within the deadline");
        let dialled = timeout(DIAL_DEADLINE, dial).await.map_err(late);
        let dialled = dialled.and_then(std::convert::identity);
        if dialled.is_err() {
            note_failure(to);
        }
        dialled
    }

    fn hello(&self, to: u64, lane: Lane) -> Hello {
        let membership = self
            .membership
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Hello {
            cluster_id: self.me.cluster_id,
            from: self.me.member_id,
            to,
            lane,
            incarnation: self.me.incarnation,
            to_incarnation: (self.published(to))
                .or_else(|| self.incarnations.of(to))
                .unwrap_or(0),
            membership: *membership,
        }
    }

    /// Calls a member and waits for its answer, at most this long.
    pub async fn call(
        self: &Arc<Self>,
        to: u64,
        lane: Lane,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, CallError> {
        let caller = {
            let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
            callers
                .entry((to, lane))
                .or_insert_with(|| Caller::start(self, to, lane))
                .clone()
        };
        let answer = caller.call(request, deadline).await;
        // What was not sent is counted where the connection fails.
        if let Err(CallError::Broken(_) | CallError::TimedOut) = &answer {
            note_failure(to);
        }
        answer
    }
}

fn note_failure(to: u64) {
    let failures = &METRICS.peer_sent_failures;
    failures.with_label_values(&[label_of(to)]).inc();
}

/// Whether a member shows the directory that it has published. One that was met here under its id before it published
/// its own, and is another one, is not it.
fn agrees(member: u64, published: Option<u64>, shown: u64) -> Result<(), Refusal> {
    match published {
        Some(known) if known != shown => Err(Refusal::OtherDirectory {
            member,
            known,
            shown,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_has_published_counts_before_who_is_met_first() {
        assert_eq!(agrees(2, None, 5), Ok(()));
        assert_eq!(agrees(2, Some(5), 5), Ok(()));
        let refused = agrees(2, Some(5), 6);
        let expected = Refusal::OtherDirectory {
            member: 2,
            known: 5,
            shown: 6,
        };
        assert_eq!(refused, Err(expected));
    }
}
