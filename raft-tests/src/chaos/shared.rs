//! What clients, watchers and samplers have in common.

use super::door::Credentials;
use super::members::Member;
use super::recorder::Recorder;
use crate::etcd::client::Connection;
use crate::recording::{Role, Sample};
use anyhow::Result;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// From where to where the keys of the clients are; the API server's own, which begin with a slash, are not among them.
pub const KEYS: (&str, &str) = ("a", "~");
/// How often a member is asked how it stands.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// One that does not say so in time counts as down.
const SAMPLE_PATIENCE: Duration = Duration::from_millis(400);
/// What a member said longer ago does not count.
const VIEW_LASTS: Duration = Duration::from_secs(1);

/// See the module head.
pub struct Shared {
    pub members: Vec<Arc<Member>>,
    pub credentials: Credentials,
    pub recorder: Arc<Recorder>,
    /// Set when the clients are to end.
    pub clients_stop: AtomicBool,
    /// Set when all are to end.
    pub stop: AtomicBool,
    /// Watchers that have seen all up to this revision are done.
    pub watch_until: AtomicI64,
    /// The newest revision that any client was told.
    pub newest: AtomicI64,
    /// Calls of the workload on registers, which go on to new keys by it.
    pub register_calls: AtomicU64,
    pub views: Mutex<Vec<Option<View>>>,
}

/// What a member said last of how it stands.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub at: Instant,
    pub leader: u64,
    pub term: u64,
    pub applied: u64,
}

impl Shared {
    pub fn new(
        members: Vec<Arc<Member>>,
        credentials: Credentials,
        recorder: Arc<Recorder>,
    ) -> Shared {
        Shared {
            views: Mutex::new(vec![None; members.len()]),
            members,
            credentials,
            recorder,
            clients_stop: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            watch_until: AtomicI64::new(i64::MAX),
            newest: AtomicI64::new(0),
            register_calls: AtomicU64::new(0),
        }
    }

    pub async fn connect(&self, member: usize) -> Result<Connection> {
        Connection::open(&self.members[member].space, &self.credentials).await
    }

    /// The member that leads, by what the members say of themselves.
    pub fn leader(&self) -> Option<usize> {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let leader = newest_leader(&views)?;
        self.members.iter().position(|member| member.id() == leader)
    }

    /// The last that a member said, if it is not too long ago.
    pub fn view(&self, member: usize) -> Option<View> {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views[member].filter(|view| view.at.elapsed() < VIEW_LASTS)
    }

    fn see(&self, member: usize, view: Option<View>) {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)[member] = view;
    }

    pub fn learn_revision(&self, revision: i64) {
        self.newest.fetch_max(revision, Ordering::SeqCst);
    }
}

fn newest_leader(views: &[Option<View>]) -> Option<u64> {
    let fresh = views.iter().flatten();
    let fresh = fresh.filter(|view| view.at.elapsed() < VIEW_LASTS && view.leader != 0);
    fresh.max_by_key(|view| view.term).map(|view| view.leader)
}

/// Asks each member again and again how it stands, until all ends.
pub fn sample_all(shared: &Arc<Shared>) -> JoinSet<()> {
    let all = 0..shared.members.len();
    all.map(|member| sample(shared.clone(), member)).collect()
}

async fn sample(shared: Arc<Shared>, member: usize) {
    let mut ticks = tokio::time::interval(SAMPLE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut connection = None;
    while !shared.stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        let id = shared.members[member].id();
        let status = async {
            if connection.is_none() {
                connection = Some(shared.connect(member).await.ok()?);
            }
            let open: &Connection = connection.as_ref()?;
            open.status(SAMPLE_PATIENCE).await.ok()
        };
        let status = tokio::time::timeout(SAMPLE_PATIENCE, status).await;
        let sample = match status.ok().flatten() {
            Some(status) => {
                shared.see(
                    member,
                    Some(View {
                        at: Instant::now(),
                        leader: status.leader,
                        term: status.raft_term,
                        applied: status.raft_applied_index,
                    }),
                );
                Sample {
                    at: shared.recorder.now(),
                    member: id,
                    role: role(&status),
                    term: status.raft_term,
                    applied: status.raft_applied_index,
                    revision: status.header.revision,
                }
            }
            None => {
                connection = None;
                shared.see(member, None);
                Sample {
                    at: shared.recorder.now(),
                    member: id,
                    role: Role::Down,
                    ..Sample::default()
                }
            }
        };
        shared.recorder.sample(sample);
    }
}

fn role(status: &crate::etcd::message::Status) -> Role {
    match status.leader {
        _ if status.is_learner => Role::Learner,
        0 => Role::Candidate,
        leader if leader == status.header.member_id => Role::Leader,
        _ => Role::Follower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_of_the_newest_term_counts() {
        let view = |leader, term| {
            Some(View {
                at: Instant::now(),
                leader,
                term,
                applied: 0,
            })
        };
        assert_eq!(newest_leader(&[view(7, 3), None, view(8, 4)]), Some(8));
        assert_eq!(newest_leader(&[view(7, 3), view(0, 4)]), Some(7));
        assert_eq!(newest_leader(&[None, view(0, 4)]), None);
    }
}
