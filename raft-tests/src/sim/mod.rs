//! Whole clusters of the real store in one thread and in virtual time, the same again for the same seed.
//!
//! What is real: the members ([`store::Node`]) with Raft, the state machine, watches, leases, forwarding, formation and
//! snapshots, and the messages between them to the last byte. What is simulated: time, the network ([`net`]), disks
//! ([`disk`]), clocks ([`clock`]), and threads and chance of each machine ([`store::host`]). The clients are in the same
//! process and speak etcd's API with the members, as clients of a port do ([`line`]).
//!
//! A run: a cluster is formed, clients ask and watch, faults drawn by the seed are done to it ([`nemesis`]); then all is
//! healed, and the cluster has to serve again, with everything that it ever acknowledged.

pub mod batch;
pub mod check;
pub mod clients;
pub mod clock;
pub mod command;
pub mod coverage;
pub mod disk;
pub mod line;
pub mod nemesis;
pub mod net;
pub mod raft;
pub mod record;
#[cfg(test)]
mod regressions;
pub mod schedule;
pub mod smaller;
pub mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once};
use std::time::Duration;

use kv::mutants::Bug;
use kv::{MemberStatus, Store};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use store::Limits;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::clients::{Mix, Shared};
use self::command::CLUSTERS;
use self::disk::{Crash, Disk};
use self::net::address;
use self::schedule::{Schedule, Wish, by};
use self::world::World;
use crate::judge::judge;
use crate::mutants;
use crate::recording::{Dump, Range, Recording, Role, Sample, Violation};

/// One run, as asked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub seed: u64,
    /// How long harm is done, in virtual time.
    pub length: Duration,
    /// What is wrong on purpose.
    pub bug: Option<Bug>,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Ran {
    pub recording: Recording,
    pub violations: Vec<Violation>,
    /// What happened besides, with the time in nanoseconds.
    pub notes: Vec<(u64, String)>,
    /// Depends on everything that happened: equal for equal runs.
    pub trace: u64,
    /// How long it was in virtual time.
    pub lasted: Duration,
    /// Terms that had a leader.
    pub leaders: usize,
    /// Snapshots that members took from others.
    pub installed: u64,
    /// What is on the disk of each machine that ever was.
    pub disks: BTreeMap<u64, Disk>,
    /// How often a member was held against Raft's rules.
    pub looks: u64,
}

/// Between two looks at the members.
const SAMPLE: Duration = Duration::from_millis(100);
/// After the last fault, until there is a leader.
const LEADER_WITHIN: Duration = Duration::from_secs(3);
/// And until every member serves.
const SERVES_WITHIN: Duration = Duration::from_secs(5);
/// And until all have the same state.
const EQUAL_WITHIN: Duration = Duration::from_secs(12);

thread_local! {
    /// What panicked in the run on this thread; nothing while there is none.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Has panics of runs written down.
pub(crate) fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let noted = PANICS.with_borrow_mut(|panics| {
                let panics = panics.as_mut()?;
                panics.push(panic.to_string());
                Some(())
            });
            if noted.is_none() {
                before(panic);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
}

/// A panic is nothing that a member survives by design.
pub(crate) fn panics() -> Vec<Violation> {
    let found = PANICS.take().unwrap_or_default();
    let violation = |story| Violation {
        rule: "panic".into(),
        story,
        ..Violation::default()
    };
    found.into_iter().map(violation).collect()
}

/// Runs one seed to its end.
///
/// # Panics
/// Where the simulation itself is wrong.
pub fn run(options: &Options) -> Ran {
    run_schedule(options, &schedule(options))
}

/// As [`run`], with this asked and done instead of what the seed draws.
pub fn run_schedule(options: &Options, schedule: &Schedule) -> Ran {
    listen_for_panics();
    let _planted = mutants::plant(options.bug);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime needs nothing");
    runtime.block_on(run_here(options, schedule))
}

/// What a seed decides before anything else.
#[derive(Debug)]
struct Setup {
    limits: Limits,
    founders: Vec<u64>,
    mix: Mix,
}

impl Setup {
    fn draw(seed: u64) -> Setup {
        let rng = &mut SmallRng::seed_from_u64(seed);
        let mut limits = limits(rng);
        let count = [3, 3, 3, 3, 5, 1][rng.random_range(0..6)];
        let mix = Mix::draw(rng);
        // So few, sometimes, that watches have to go to the log.
        limits.watches.revisions = [2, 20, 1000][rng.random_range(0..3)];
        // Or, every other time, because all others have taken what they ask for.
        if seed.is_multiple_of(2) {
            limits.watches.taken_bytes = 0;
        }
        Setup {
            limits,
            founders: (1..=count).collect(),
            mix,
        }
    }
}

/// What a seed has asked and done.
pub fn schedule(options: &Options) -> Schedule {
    Schedule::draw(&Wish {
        seed: options.seed,
        length: options.length,
        think_max: Setup::draw(options.seed).mix.think_max,
    })
}

async fn run_here(options: &Options, schedule: &Schedule) -> Ran {
    let Setup {
        limits,
        founders,
        mix,
    } = Setup::draw(options.seed);
    let world = World::new(options.seed, limits, mutants::flaw(options.bug));
    world.found(&founders);
    founders.iter().for_each(|id| world.boot(*id));
    let shared = Shared::new(world.clone(), mix);
    let mut clients = JoinSet::new();
    for (client, turns) in by(|turn| turn.client, &schedule.turns) {
        clients.spawn(clients::talk(shared.clone(), client, turns));
    }
    for watcher in &schedule.watchers {
        clients.spawn(clients::watch(shared.clone(), watcher.clone()));
    }
    for keeper in &schedule.keepers {
        clients.spawn(clients::keep(shared.clone(), keeper.clone()));
    }
    let sampling = tokio::spawn(sample(world.clone()));
    let looking = tokio::spawn(look(world.clone()));
    torment(&world, schedule, options.length).await;
    shared.calm.store(true, Ordering::Relaxed);
    heal(&world);
    let mut rng = SmallRng::seed_from_u64(options.seed ^ 0x656e_6473);
    serve_again(&world, &shared, &mut rng).await;
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("clients take every answer");
    }
    sampling.abort();
    looking.abort();
    world
        .record
        .change(|recording| recording.run.length = world.record.now());
    finish(options, &world).await
}

/// Small ones, so that snapshots, purges and elections happen within seconds.
pub(crate) fn limits(rng: &mut SmallRng) -> Limits {
    let ms = Duration::from_millis;
    let pick = |rng: &mut SmallRng, of: &[u64]| of[rng.random_range(0..of.len())];
    Limits {
        heartbeat: ms(50),
        election_min: ms(500),
        election_max: ms(750),
        lease_min: ms(750),
        snapshot_entries: pick(rng, &[20, 100, 400]),
        log_entries_kept: pick(rng, &[1, 20, 100]),
        request_deadline: ms(pick(rng, &[1000, 2500])),
        compare_interval: ms(500),
        disk_interval: ms(500),
        small_keys: pick(rng, &[4, 32, 256]),
        large_ranges: pick(rng, &[2, 64, 64]) as usize,
        peer_silence: Duration::from_secs(3),
        ..Limits::default()
    }
}

async fn torment(world: &Arc<World>, schedule: &Schedule, length: Duration) {
    let until = Instant::now() + length;
    let mut torments = JoinSet::new();
    for strikes in by(|strike| strike.hand, &schedule.strikes).into_values() {
        torments.spawn(nemesis::torment(world.clone(), strikes, until));
    }
    while let Some(ended) = torments.join_next().await {
        ended.expect("what does harm comes to no harm itself");
    }
    tokio::time::sleep_until(until).await;
}

/// Takes all faults back.
pub(crate) fn heal(world: &Arc<World>) {
    world.net.heal_all();
    for id in world.members() {
        if let Some(disk) = world.disk(id) {
            disk.set_pace(None);
            disk.set_full(false);
        }
        world.set_paused(id, false);
        // One whose syncs fail has to be started anew, and one that was refused may be under way.
        if world.disk(id).is_some_and(|disk| disk.is_unwell()) {
            world.end(id, Crash::PowerLoss);
        }
        // Nobody waits any more for one that was told to stop.
        if world.is_stopping(id) {
            world.end(id, Crash::Kill);
        }
        if let Some(disk) = world.disk(id) {
            disk.mend();
        }
        world.boot(id);
    }
    world.record.all_faults_over();
}

/// Holds the members against each other after every few deliveries.
pub(crate) async fn look(world: Arc<World>) {
    loop {
        world.net.moved().await;
        world.look();
    }
}

/// Looks at who leads, and how far everybody is.
pub(crate) async fn sample(world: Arc<World>) {
    loop {
        let up: Vec<(u64, Sample)> = world
            .running()
            .into_iter()
            .map(|(id, node)| (id, sample_of(&world, id, &*node)))
            .collect();
        for id in world.ever() {
            let found = up.iter().find(|(up, _)| *up == id);
            let down = || Sample {
                at: world.record.now(),
                member: id,
                ..Sample::default()
            };
            let sample = found.map_or_else(down, |(_, sample)| sample.clone());
            world.record.sample(sample);
        }
        tokio::time::sleep(SAMPLE).await;
    }
}

fn sample_of(world: &World, id: u64, node: &impl Store) -> Sample {
    let status = node.status();
    let role = match status.leader_id {
        leader if leader == id => Role::Leader,
        _ if status.is_learner => Role::Learner,
        0 => Role::Candidate,
        _ => Role::Follower,
    };
    Sample {
        at: world.record.now(),
        member: id,
        role,
        term: status.raft_term,
        applied: status.raft_applied_index,
        revision: status.revision,
    }
}

/// Waits until something is so; false if it is not within the time.
pub async fn becomes(within: Duration, mut so: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    while !so().await {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

/// What is demanded of a cluster that nobody disturbs any more.
async fn serve_again(world: &Arc<World>, shared: &Arc<Shared>, rng: &mut SmallRng) {
    let record = &world.record;
    let led = becomes(LEADER_WITHIN, async || world.leader().is_some()).await;
    if !led {
        let story = format!("There is no leader {LEADER_WITHIN:?} after the last fault.");
        return record.violation("liveness: no leader", story);
    }
    let voters = settle_membership(world).await;
    if let Some(leader) = world.leader() {
        tokio::spawn(clients::keep_watch(shared.clone(), leader));
    }
    for id in voters {
        let mut told = String::new();
        let served = becomes(SERVES_WITHIN, async || {
            // It may have been on its way out.
            if !world.members().contains(&id) {
                return true;
            }
            for request in check::last_words(id) {
                let outcome = shared.ask(rng, 900, id, request).await;
                if !check::is_answered(&outcome) {
                    told = format!("{outcome:?}");
                    return false;
                }
            }
            true
        });
        if !served.await {
            let refused = record.refusals();
            let story = format!(
                "Member {id} does not serve {SERVES_WITHIN:?} after the last fault. It says: {told}; starts that were \
                 refused: {refused:?}"
            );
            record.violation("liveness: no service", story);
        }
    }
}

/// Who votes in the cluster, as its leader says. Who is not in it is switched off.
pub(crate) async fn settle_membership(world: &Arc<World>) -> Vec<u64> {
    let asked = async {
        let leader = world.leader()?;
        let asked = world.ask(leader, Duration::from_secs(1), |node| async move {
            node.members()
        });
        asked.await.ok()
    };
    let Some(members) = asked.await else {
        return world.members();
    };
    for id in world.members() {
        // One that never got its address is known to nobody.
        let known = |member: &MemberStatus| member.id == id && member.peer_address == address(id);
        if !members.iter().any(known) {
            world.set_removed(id);
            world.end(id, Crash::Kill);
        }
    }
    let voters = members.iter().filter(|member| member.is_voter);
    voters.map(|member| member.id).collect()
}

/// Everything that a member has.
async fn dump(world: &Arc<World>, id: u64) -> Option<Dump> {
    let all = Range {
        key: "\0".into(),
        end: "\0".into(),
        serializable: true,
        ..Range::default()
    };
    let within = Duration::from_secs(1);
    let line = world.line(id, "dump")?;
    let (revision, found) = line.range(&all, within).await.ok()?;
    let asked = world.ask(id, within, |node| async move { node.status() });
    Some(Dump {
        member: id,
        revision,
        compacted: asked.await.ok()?.compact_revision,
        pairs: found.pairs,
    })
}

/// Has everybody come to the same state, and judges.
async fn finish(options: &Options, world: &Arc<World>) -> Ran {
    let record = &world.record;
    let mut dumps = Vec::new();
    let equal = becomes(EQUAL_WITHIN, async || {
        let before = std::mem::take(&mut dumps);
        for id in world.members() {
            dumps.extend(dump(world, id).await);
        }
        let state = |dump: &Dump| (dump.revision, dump.compacted, dump.pairs.clone());
        let first = dumps.first().map(state);
        // Also equal to what they were a moment ago: then watches have got all of it, and nothing after it.
        dumps.len() == world.members().len()
            && dumps.iter().all(|dump| Some(state(dump)) == first)
            && dumps == before
    });
    if !equal.await {
        let place = |dump: &Dump| (dump.member, dump.revision, dump.compacted, dump.pairs.len());
        let places: Vec<_> = dumps.iter().map(place).collect();
        let story = format!(
            "The members are not equal {EQUAL_WITHIN:?} after the end of all requests: (member, revision, compacted, \
             keys) are {places:?}."
        );
        record.violation("liveness: members differ", story);
    }
    let lasted = Duration::from_nanos(record.now());
    let (net, deliveries) = world.net.trace();
    let syncs = world.syncs();
    let ever = world.ever();
    let (mut recording, mut violations, notes) = record.take();
    recording.dumps = dumps;
    recording.run.level = CLUSTERS.name.into();
    recording.run.seed = options.seed;
    recording.run.replay = CLUSTERS.replay(options);
    recording.run.members = ever;
    recording.run.began_unix_ms = clock::BEGAN_UNIX_MS;
    world.look();
    violations.extend(judge(&recording));
    violations.extend(coverage::demand(&recording));
    let oracle = world.oracle();
    violations.extend(oracle.violations());
    let (leaders, looks) = (oracle.leaders(), oracle.looks());
    drop(oracle);
    violations.extend(panics());
    let mut trace = DefaultHasher::new();
    (net, deliveries, syncs, lasted).hash(&mut trace);
    let text = serde_json::to_vec(&recording).expect("a recording is text");
    text.hash(&mut trace);
    Ran {
        recording,
        violations,
        notes,
        trace: trace.finish(),
        lasted,
        leaders,
        installed: world.installed(),
        disks: world.disks(),
        looks,
    }
}
