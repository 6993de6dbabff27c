//! A member from start to stop: wiring, and the tasks it owns. What clients see of it is in `client.rs`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kv::{BoxFuture, KeyRange, StoreError};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{LogIdOptionExt, SnapshotPolicy};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Limits};
use crate::core::{Core, Leadership, READ_QUEUE, Raft};
use crate::data_dir::{DataDir, DataDirError};
use crate::disk;
use crate::env::Engine;
use crate::hand_over::HAND_OVER_QUEUE;
use crate::history::Moment;
use crate::host;
use crate::incarnations::Incarnations;
use crate::members::MemberError;
use crate::metrics::METRICS;
use crate::peer::serve;
use crate::peer::tls::{Proof, TlsError};
use crate::peer::transport::Transport;
use crate::peer::wire::{Lane, MemberChange, Request};
use crate::raft::log::{LogStore, Writer};
use crate::raft::machine::{Machine, Replica};
use crate::raft::network::Peers;
use crate::raft::types::{LogId, PeerNode};

/// Why a member does not start. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen for other members on {address}: {source}")]
    Listen {
        address: String,
        #[source]
        source: std::io::Error,
    },
    /// Another member knows this one with another data directory.
    #[error("{0}")]
    LostData(String),
    #[error("the configuration of Raft is inconsistent: {0}")]
    Config(String),
    #[error("Raft cannot start: {0}")]
    Raft(String),
}

/// A running member of the store.
pub struct Node {
    pub(crate) core: Arc<Core>,
    log_writer: Mutex<Option<Writer>>,
    proof: Proof,
    /// Held as long as the member runs.
    _data_dir: DataDir,
}

/// For leadership to move elsewhere at a stop, and for tasks to end.
const HANDOVER: Duration = Duration::from_secs(3);

impl Node {
    /// Starts a member: opens its data, joins the others, and on a new directory forms the cluster that
    /// `initial_members` describes. It serves as soon as there is a leader; see [`Node::wait_ready`].
    pub async fn start(config: Config) -> Result<Arc<Node>, StartError> {
        let (cluster, member) = (config.cluster_id, config.member_id);
        let proof = Proof::new(&*config.network, &config.tls, cluster, member)?;
        let raft_config = Arc::new(raft_config(&config)?);
        let (data_dir, peers, (log, log_writer), replica) = open_data(&config).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let incarnation = data_dir.incarnation();
        let transport = Transport::new(
            &config,
            incarnation,
            peers,
            proof.clone(),
            tasks,
            stop.clone(),
        );
        let launched = launch(config, proof.clone(), raft_config, log, replica, transport).await;
        match launched {
            Ok(core) => Ok(Arc::new(Node {
                core,
                log_writer: Mutex::new(Some(log_writer)),
                proof,
                _data_dir: data_dir,
            })),
            Err(error) => {
                stop.cancel();
                // So that the next attempt finds the directory free.
                close_log(log_writer).await;
                Err(error)
            }
        }
    }

    /// Waits until this member has caught up with a leader: what it had acknowledged before a restart is there again.
    pub async fn wait_ready(&self) -> Result<(), StoreError> {
        self.core.catch_up().await.map(|_| ())
    }

    /// Connections to and from other members are made with these certificates from now on; those that are open stay. On an
    /// error the certificates of before stay, too.
    pub fn replace_tls(&self, identity: &crate::TlsIdentity) -> Result<(), TlsError> {
        self.proof.replace(identity)
    }

    /// Ends with the reason when this member can no longer serve, because its disk failed or its data is damaged. The
    /// process should then exit and be started again.
    pub async fn failed(&self) -> String {
        let mut failed = self.core.failed.subscribe();
        let reason = failed.wait_for(Option::is_some).await;
        reason
            .map(|reason| reason.clone().unwrap_or_default())
            .unwrap_or_default()
    }

    /// The newest revision at a time (milliseconds since 1970), as far as this member has applied.
    pub fn revision_at(&self, unix_ms: i64) -> Result<Moment, StoreError> {
        self.core.replica.revision_at(unix_ms)
    }

    /// When a revision was made.
    pub fn time_of(&self, revision: i64) -> Result<Moment, StoreError> {
        self.core.replica.time_of(revision)
    }

    /// Adds a member that does not vote yet. Start it, with no initial members, after this.
    pub async fn add_learner(
        &self,
        id: u64,
        name: String,
        peer_address: String,
    ) -> Result<(), MemberError> {
        let node = PeerNode {
            name,
            peer_address,
            ..PeerNode::default()
        };
        self.core
            .change_member(MemberChange::AddLearner { id, node })
            .await
    }

    /// Lets a learner vote. It must have caught up.
    pub async fn promote(&self, id: u64) -> Result<(), MemberError> {
        self.core.change_member(MemberChange::Promote { id }).await
    }

    /// Removes a member for ever: its id is not used again.
    pub async fn remove(&self, id: u64) -> Result<(), MemberError> {
        self.core.change_member(MemberChange::Remove { id }).await
    }

    /// The members as this one knows them.
    pub fn members(&self) -> Vec<kv::MemberStatus> {
        self.core.members()
    }

    /// Hands leadership to another member, if this one leads. True where another one leads afterwards.
    pub async fn hand_over(&self) -> bool {
        let core = &self.core;
        if !core.is_leader() {
            return true;
        }
        let Some(successor) = core.successor(|_| true) else {
            return false;
        };
        if core
            .raft
            .trigger()
            .transfer_leader(successor)
            .await
            .is_err()
        {
            return false;
        }
        let mut leadership = core.leadership.subscribe();
        let me = Some(core.config.member_id);
        let moved = leadership.wait_for(|now| now.leader.is_some() && now.leader != me);
        tokio::time::timeout(HANDOVER, moved).await.is_ok()
    }

    /// Stops at once, as a power cut would: nothing is handed over or flushed. For tests of what remains.
    pub async fn kill(&self) {
        let core = &self.core;
        core.replica.hub().close();
        core.transport.stop.cancel();
        core.transport.tasks.close();
        if let Err(error) = core.raft.shutdown().await {
            tracing::debug!(%error, "Raft did not end in order");
        }
        core.transport.tasks.wait().await;
        self.close_log().await;
    }

    async fn close_log(&self) {
        let writer = self
            .log_writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            close_log(writer).await;
        }
    }

    /// Stops in good order: leadership goes elsewhere, watches end, the state is made durable.
    pub async fn shutdown(&self) {
        let core = &self.core;
        self.hand_over().await;
        core.replica.hub().close();
        core.transport.stop.cancel();
        core.transport.tasks.close();
        if tokio::time::timeout(HANDOVER, core.transport.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some tasks of the store did not end in time");
        }
        if let Err(error) = core.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not end in order");
        }
        let replica = core.replica.clone();
        let flushed = host::blocking(move || replica.disk().opened().flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the state was not flushed; the log has it");
        }
        self.close_log().await;
    }
}

type OpenedLog = (LogStore, Writer);

/// Waits until the log is closed, so that the directory can be opened again.
async fn close_log(writer: Writer) {
    match tokio::time::timeout(HANDOVER, writer.ended()).await {
        Ok(true) => {}
        _ => tracing::warn!("the log was not closed in order"),
    }
}

/// Starts everything that runs.
async fn launch(
    config: Config,
    proof: Proof,
    raft_config: Arc<openraft::Config>,
    log: LogStore,
    replica: Arc<Replica>,
    transport: Arc<Transport>,
) -> Result<Arc<Core>, StartError> {
    let (tasks, stop) = (transport.tasks.clone(), transport.stop.clone());
    let initial = config.initial_members.iter();
    transport.learn_addresses(initial.map(|member| (member.id, member.peer_address.clone())));
    if log.is_pristine() {
        // Before it listens: members that start together for the first time would wait for each other's answers.
        refuse_amnesia(&config, &transport).await?;
    }
    let listener = config.network.listen(config.peer_listen.clone()).await;
    let listener = listener.map_err(|source| StartError::Listen {
        address: config.peer_listen.clone(),
        source,
    })?;
    let membership = replica.membership().borrow().clone();
    if let Some(record) = &membership {
        transport.learn_published(record);
    }
    transport.learn_membership(membership.and_then(|record| Some(record.log_id?.into())));
    let machine = Machine::new(replica.clone());
    let peers = Peers::new(transport.clone());
    let watched_log = log.clone();
    let raft = Raft::new(config.member_id, raft_config, peers, log, machine).await;
    let raft = raft.map_err(|error| StartError::Raft(error.to_string()))?;
    if let Some(upto) = due(
        replica.flushed(),
        watched_log.purged(),
        config.limits.log_entries_kept,
    ) {
        // Raft purges when it has had the state flushed. Whoever is stopped more often than that would keep all of its log.
        let purging = raft.trigger().purge_log(upto).await;
        purging.map_err(|error| StartError::Raft(error.to_string()))?;
    }

    let (read_queue, reads) = mpsc::channel(READ_QUEUE);
    let (hand_over_queue, proposals) = mpsc::channel(HAND_OVER_QUEUE);
    let core = Core::new(
        config,
        raft,
        replica,
        transport,
        read_queue,
        hand_over_queue,
    );
    let own = |task: BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tasks.spawn(host::here(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        }));
    };
    own(Box::pin(serve::accept(core.clone(), listener, proof)));
    own(Box::pin(core.clone().run_reads(reads)));
    own(Box::pin(core.clone().run_hand_over(proposals)));
    own(Box::pin(core.clone().run_lease_clock()));
    own(Box::pin(observe(core.clone())));
    own(Box::pin(report(core.clone(), watched_log.clone())));
    own(Box::pin(leave_when_disowned(core.clone())));
    own(Box::pin(core.clone().run_introductions()));
    let mut initial = core.config.initial_members.iter();
    if initial.any(|member| member.id == core.config.member_id) {
        own(Box::pin(core.clone().run_formation()));
    }
    own(Box::pin(core.clone().run_publish()));
    own(Box::pin(core.clone().run_round_trips()));
    own(Box::pin(core.clone().run_comparison()));
    own(Box::pin(core.clone().run_quarantine()));
    own(Box::pin(core.clone().run_disk_watch(watched_log.clone())));
    own(Box::pin(core.clone().run_scrub(watched_log)));
    own(Box::pin(core.clone().run_flushing()));
    Ok(core)
}

/// Before the state is opened, so that nothing is changed where the log does not go with it.
fn look_for_gap(engine: &dyn Engine, dir: &Path, purged: Option<LogId>) -> std::io::Result<()> {
    match engine.look_at_state(dir)? {
        Some(found) => check_no_gap(purged, found.applied.map(LogId::from)),
        None => Ok(()),
    }
}

/// The log must begin where the state ends, or before.
fn check_no_gap(purged: Option<LogId>, applied: Option<LogId>) -> std::io::Result<()> {
    if purged > applied {
        return Err(disk::damaged(format!(
            "it ends at {applied:?}, and the log begins after {purged:?}"
        )));
    }
    Ok(())
}

/// Up to which entry the log may go, where the state is flushed up to here, this much is purged, and so many are kept.
fn due(flushed: Option<LogId>, purged: Option<LogId>, kept: u64) -> Option<u64> {
    let end = flushed.next_index().saturating_sub(kept);
    (end > purged.next_index()).then(|| end - 1)
}

type OpenedData = (DataDir, Arc<Incarnations>, OpenedLog, Arc<Replica>);

async fn open_data(config: &Config) -> Result<OpenedData, StartError> {
    let (path, cluster, member) = (config.data_dir.clone(), config.cluster_id, config.member_id);
    let (engine, watches) = (config.engine.clone(), config.limits.watches);
    let open = move || {
        let dir = DataDir::open(engine.files(), &path, cluster, member)?;
        let create = dir.is_fresh();
        let peers = dir.peers()?;
        let log = engine.open_log(dir.path(), create);
        let log = log.map_err(|error| dir.failed("the log", error))?;
        if !create {
            look_for_gap(engine.as_ref(), dir.path(), log.found().purged)
                .map_err(|error| dir.failed("the state", error))?;
        }
        let state = engine.open_state(dir.path(), create);
        let state = state.map_err(|error| dir.failed("the state", error))?;
        let replica = Replica::load_with(cluster, state, watches);
        let replica = replica.map_err(|error| dir.failed("the state", error))?;
        let (purged, applied) = (log.found().purged, replica.position().applied);
        check_no_gap(purged, applied.map(LogId::from))
            .map_err(|error| dir.failed("the state", error))?;
        let log = LogStore::start_here(log).map_err(|error| dir.failed("the log", error))?;
        dir.created()?;
        Ok((dir, peers, log, replica))
    };
    let opened = host::blocking(open).await;
    opened.map_err(|error| StartError::Raft(error.to_string()))?
}

fn raft_config(config: &Config) -> Result<openraft::Config, StartError> {
    let limits: &Limits = &config.limits;
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    // openraft waits for the end of the lease and only then for the random time, so both together are the silence that
    // starts an election; the lease is as long as its longest random time.
    let lease = ms(limits.leader_lease());
    let raft = openraft::Config {
        cluster_name: format!("{:016x}", config.cluster_id),
        heartbeat_interval: ms(limits.heartbeat),
        // A heartbeat right after an append that was answered says nothing new.
        heartbeat_min_interval: Some(ms(limits.heartbeat) * 4 / 5),
        election_timeout_min: ms(limits.election_min).saturating_sub(lease),
        election_timeout_max: lease,
        enable_pre_vote: Some(true),
        // A leader that lost its quorum falls silent for a while, so that those who still hear it can elect another.
        quorum_loss_probe_interval: Some(2 * lease + ms(limits.heartbeat)),
        // After a restart everybody asks first: leases, for one, must not outlive a leader's memory.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(limits.snapshot_entries),
        max_in_snapshot_log_to_keep: limits.log_entries_kept,
        purge_batch_size: limits.log_entries_kept.clamp(1, 512),
        replication_lag_threshold: limits.snapshot_entries + limits.log_entries_kept + 1,
        max_payload_entries: 1024,
        // A whole snapshot, which may be gigabytes.
        install_snapshot_timeout: 600_000,
        // A member that comes back shall not wait long for what it has missed: it may be needed for the quorum.
        backoff: "50ms 100ms 200ms 200ms 200ms".into(),
        ..openraft::Config::default()
    };
    raft.validate()
        .map_err(|error| StartError::Config(error.to_string()))
}

/// On an empty directory: asks the other initial members whether they know this one with another directory. At the
/// first start of all there is nobody to say so; whoever cannot be asked now says so later (see
/// [`leave_when_disowned`]), and does not let this member take part. So this is not for safety, but to say it at once.
async fn refuse_amnesia(config: &Config, transport: &Arc<Transport>) -> Result<(), StartError> {
    const ASK: Duration = Duration::from_secs(1);
    let others = config
        .initial_members
        .iter()
        .map(|member| member.id)
        .filter(|id| *id != config.member_id);
    let asked = others.map(|id| transport.call(id, Lane::Client, Request::Greet, ASK));
    futures::future::join_all(asked).await;
    let disowned = transport.disowned.borrow().clone();
    match disowned {
        None => Ok(()),
        Some(why) => {
            transport.stop.cancel();
            Err(StartError::LostData(why))
        }
    }
}

/// Ends this member when another one finds that it has lost its data, or was removed.
async fn leave_when_disowned(core: Arc<Core>) {
    let mut disowned = core.transport.disowned.subscribe();
    let why = match disowned.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => return,
    };
    core.fail(&why);
    if let Err(error) = core.raft.shutdown().await {
        tracing::debug!(%error, "Raft did not end in order");
    }
}

/// Follows who leads and where members are.
async fn observe(core: Arc<Core>) {
    let mut metrics = core.raft.server_metrics();
    loop {
        let now = metrics.borrow_watched().clone();
        let addresses = now
            .membership_config
            .nodes()
            .map(|(id, node)| (*id, node.peer_address.clone()));
        core.transport.learn_addresses(addresses);
        core.transport
            .learn_membership(*now.membership_config.log_id());
        core.learn_published();
        let leadership = Leadership {
            leader: now.current_leader,
            term: now.vote.leader_id.term,
        };
        let changed = core.leadership.send_if_modified(|known| {
            let new_leader = leadership.leader.is_some() && leadership.leader != known.leader;
            if new_leader {
                METRICS.leader_changes.inc();
            }
            let changed = *known != leadership;
            *known = leadership;
            changed
        });
        if changed {
            let leader = leadership.leader.map(|id| format!("{id:016x}"));
            tracing::info!(
                raft.term = leadership.term,
                leader = leader.as_deref().unwrap_or("none"),
                "leadership"
            );
            METRICS
                .has_leader
                .set(i64::from(leadership.leader.is_some()));
            METRICS
                .is_leader
                .set(i64::from(leadership.leader == Some(core.config.member_id)));
        }
        if metrics.changed().await.is_err() {
            let running = core.raft.metrics().borrow_watched().running_state.clone();
            core.fail(
                &running
                    .err()
                    .map_or("Raft has ended".into(), |fatal| fatal.to_string()),
            );
            return;
        }
    }
}

/// Looks at things now and then: gauges, progress marks for idle watchers, and whether Raft and the log are alive.
async fn report(core: Arc<Core>, log: LogStore) {
    const TICK: Duration = Duration::from_millis(500);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (running, committed, learner) = {
            let metrics = core.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voter = metrics
                .membership_config
                .voter_ids()
                .any(|id| id == core.config.member_id);
            let committed = metrics.local_committed.map_or(0, |id| id.index);
            (metrics.running_state.clone(), committed, !voter)
        };
        if let Err(fatal) = running {
            core.fail(&fatal.to_string());
            return;
        }
        if let Some(why) = log.stopped() {
            core.fail(&format!("the log cannot be written: {why}"));
            return;
        }
        METRICS.proposals_committed.set(committed as i64);
        // Raft goes on naming one that has fallen silent.
        let leader = core.leader_in_touch();
        METRICS.has_leader.set(i64::from(leader.is_some()));
        METRICS
            .is_leader
            .set(i64::from(leader == Some(core.config.member_id)));
        METRICS.is_learner.set(i64::from(learner));
        let hub = core.replica.hub();
        METRICS.watchers.set(hub.watchers() as i64);
        METRICS
            .keys
            .set(core.replica.catalog().count(&KeyRange::all()));
        core.replica.show_size();
        // So that a watcher of quiet keys does not fall behind the compacted revision.
        hub.request_progress(hub.published());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_flushed_and_not_to_be_kept_is_due() {
        let id = |index| Some(disk::log_id(1, index));
        assert_eq!(due(None, None, 10), None);
        assert_eq!(due(id(8), None, 10), None);
        assert_eq!(due(id(10), None, 10), Some(0), "the entries 1 to 10 stay");
        assert_eq!(due(id(99), None, 10), Some(89));
        assert_eq!(due(id(99), id(88), 10), Some(89));
        assert_eq!(due(id(99), id(89), 10), None);
        assert_eq!(due(id(99), id(99), 0), None);
        assert_eq!(due(id(99), id(50), 0), Some(99));
    }

    #[test]
    fn an_election_starts_after_the_silence_that_the_limits_name() {
        let tls = crate::TlsIdentity {
            ca_pem: Vec::new(),
            cert_pem: Vec::new(),
            key_pem: Vec::new(),
        };
        let config = Config::new("unused".into(), 1, 1, tls);
        let raft = raft_config(&config).unwrap();
        // openraft's lease is its longest timeout; a random timeout between its two comes on top.
        let silence = |timeout: u64| Duration::from_millis(raft.election_timeout_max + timeout);
        assert_eq!(
            silence(raft.election_timeout_min),
            config.limits.election_min
        );
        assert_eq!(
            silence(raft.election_timeout_max),
            config.limits.election_max
        );
        assert!(config.limits.leader_lease() > 5 * config.limits.heartbeat);
    }
}
