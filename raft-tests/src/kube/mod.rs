//! The control plane in virtual time: members of the real store as in [`crate::sim`], an API server on each, and clients of
//! it on machines of their own, all in one thread and the same again for the same seed.
//!
//! In half of the runs the scheduler and the controllers run in each member as well ([`agents`]), with small agents of nodes
//! ([`kubelet`]) and clients that want things to run ([`workloads`]).
//!
//! The API servers are real to the last byte of an answer, and called as services: HTTP's framing, TLS and sockets are
//! left out ([`wire`]). What is asked and done is a [`schedule`], drawn before the run begins. What clients ask and are told,
//! and every change of the store, is a [`history`], which is judged by [`rules`]: Kubernetes' invariants, and one that
//! Kubernetes does not promise, that no client goes back in time. For people it is a recording ([`record`]).

pub mod agents;
pub mod clients;
pub mod command;
pub mod coverage;
pub mod held;
pub mod history;
pub mod informers;
pub mod kubelet;
pub mod nemesis;
pub mod objects;
pub mod plane;
pub mod record;
pub mod rest;
pub mod rights;
pub mod rules;
pub mod schedule;
pub mod scribe;
pub mod wire;
pub mod workloads;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use http::Method;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use store::Limits;
use store::env::Clock;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::command::CONTROL_PLANES;
use self::history::{History, Informer, Truth, Verb};
use self::kubelet::Switch;
use self::plane::Plane;
use self::rest::{Rest, Shared};
use self::schedule::Schedule;
use self::scribe::Scribe;
use self::wire::Wire;
use crate::mutants;
use crate::recording::Fault;
use crate::sim::clock::BEGAN_UNIX_MS;
use crate::sim::schedule::by;
use crate::sim::world::World;
use crate::sim::{self, Options, Ran, becomes};

/// From the start of the members until one of them serves.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// After the last fault, until every member serves.
const SERVES_WITHIN: Duration = Duration::from_secs(15);
/// After the last write, until every informer knows of it.
const SETTLES_WITHIN: Duration = Duration::from_secs(15);
/// After the last wish, until it has come true. A lease of agents that are gone, and pauses between attempts, take as long.
const CONVERGES_WITHIN: Duration = Duration::from_secs(90);
/// The client that looks at the end.
const LAST_CLIENT: u32 = 900;

/// Runs one seed to its end.
///
/// # Panics
/// Where the simulation itself is wrong.
pub fn run(options: &Options) -> Ran {
    run_schedule(options, &schedule(options))
}

/// As [`run`], with this asked and done instead of what the seed draws.
pub fn run_schedule(options: &Options, schedule: &Schedule) -> Ran {
    sim::listen_for_panics();
    let _planted = mutants::plant(options.bug);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime needs nothing");
    runtime.block_on(run_here(options, schedule))
}

/// What a seed has asked and done.
pub fn schedule(options: &Options) -> Schedule {
    Schedule::draw(
        options.seed,
        options.length,
        Setup::draw(options.seed).with_agents,
    )
}

/// What a seed decides before anything else, and the chance of all that is in no schedule.
struct Setup {
    limits: Limits,
    with_agents: bool,
    rng: SmallRng,
}

impl Setup {
    fn draw(seed: u64) -> Setup {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x6b75_6265);
        Setup {
            limits: sim::limits(&mut rng),
            with_agents: rng.random_bool(0.5),
            rng,
        }
    }
}

/// The parts of a run.
pub struct Run {
    pub world: Arc<World>,
    pub plane: Plane,
    pub scribe: Arc<Scribe>,
    /// Of nodes, where there are any.
    pub kubelets: Vec<Arc<Switch>>,
    pub start: Instant,
}

async fn run_here(options: &Options, schedule: &Schedule) -> Ran {
    let Setup {
        limits,
        with_agents,
        mut rng,
    } = Setup::draw(options.seed);
    let start = Instant::now();
    let world = World::new(options.seed, limits, mutants::flaw(options.bug));
    let founders: Vec<u64> = (1..=3).collect();
    world.found(&founders);
    founders.iter().for_each(|id| world.boot(*id));
    let nodes = if with_agents { workloads::NODES } else { 0 };
    let scribe = Arc::new(Scribe::new(start));
    let run = Arc::new(Run {
        world: world.clone(),
        plane: Plane {
            wire: Arc::new(Wire::new(rng.random())),
            held: Arc::default(),
            scribe: scribe.clone(),
            crew: with_agents.then(Arc::default),
        },
        scribe,
        kubelets: (0..nodes).map(|_| Arc::default()).collect(),
        start,
    });
    let child = |rng: &mut SmallRng| SmallRng::seed_from_u64(rng.random());
    let mut background = JoinSet::new();
    background.spawn(run.plane.clone().tend(world.clone()));
    background.spawn(run.scribe.clone().follow(world.clone(), child(&mut rng)));
    background.spawn(sim::sample(world.clone()));
    background.spawn(sim::look(world.clone()));
    // Mostly there is a cluster before harm is done to it.
    if rng.random_bool(0.8) {
        wait_ready(&run, 1).await;
    }
    let began = Instant::now();
    let mut parties = Parties::start(&run, schedule, began, &mut rng);
    nemesis::torment(&run, schedule, began, began + options.length).await;
    sim::heal(&world);
    set_clocks(&world);
    run.plane.wire.heal_all();
    run.plane.held.release_all();
    for kubelet in &run.kubelets {
        kubelet.stopped.store(false, Ordering::Relaxed);
    }
    serve_again(&run, &parties, child(&mut rng)).await;
    parties.end_writers().await;
    if with_agents {
        converge(&run).await;
    }
    settle(&run, &parties).await;
    let members = world.members();
    let rights = rights::probe(
        parties.keeping.clone(),
        &members,
        LAST_CLIENT + 1,
        child(&mut rng),
    );
    if rights.await.is_none() {
        let story =
            "What an administrator asks for at the end is not done. Nobody disturbs any more.";
        world.record.violation("liveness: no service", story.into());
    }
    parties.end_all().await;
    look_again(&run, &parties, child(&mut rng)).await;
    background.shutdown().await;
    finish(options, &run, schedule)
}

/// The clients of a run.
struct Parties {
    writing: Arc<Shared>,
    keeping: Arc<Shared>,
    writers: JoinSet<()>,
    keepers: JoinSet<()>,
    reached: Vec<Arc<AtomicI64>>,
}

impl Parties {
    fn start(run: &Run, schedule: &Schedule, began: Instant, rng: &mut SmallRng) -> Parties {
        let shared = || {
            Arc::new(Shared {
                wire: Arc::new(run.plane.wire.clone()),
                scribe: run.scribe.clone(),
                stop: AtomicBool::new(false),
            })
        };
        let (writing, keeping) = (shared(), shared());
        let mut parties = Parties {
            writing,
            keeping,
            writers: JoinSet::new(),
            keepers: JoinSet::new(),
            reached: Vec::new(),
        };
        for (client, turns) in by(|turn| turn.client, &schedule.turns) {
            let talk = clients::talk(parties.writing.clone(), client, turns, began);
            parties.writers.spawn(talk);
        }
        for informer in &schedule.informers {
            let reached = Arc::new(AtomicI64::new(0));
            parties.reached.push(reached.clone());
            let namespace = informer.of_one.then_some(objects::NAMESPACES[0]);
            let (shared, client) = (parties.keeping.clone(), informer.client);
            let rng = informer.seed.rng();
            let keeper = informers::keep(shared, client, "configmaps", namespace, reached, rng);
            parties.keepers.spawn(keeper);
        }
        // There as long as anything is to become as it is wanted.
        for (number, switch) in (0..).zip(&run.kubelets) {
            let own = SmallRng::seed_from_u64(rng.random());
            let kubelet = kubelet::run(parties.keeping.clone(), number, switch.clone(), own);
            parties.keepers.spawn(kubelet);
        }
        parties
    }

    async fn end_writers(&mut self) {
        self.writing.stop.store(true, Ordering::Relaxed);
        ended(&mut self.writers).await;
    }

    async fn end_all(&mut self) {
        self.keeping.stop.store(true, Ordering::Relaxed);
        ended(&mut self.keepers).await;
    }
}

async fn ended(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("clients take every answer");
    }
}

/// Waits until so many members serve.
async fn wait_ready(run: &Run, count: usize) {
    let ready = becomes(READY_WITHIN, async || run.plane.wire.ready().len() >= count).await;
    if !ready {
        let story = format!(
            "No member serves {READY_WITHIN:?} after the start of a cluster that nobody disturbs."
        );
        run.world.record.violation("liveness: not ready", story);
    }
}

/// What is demanded of a control plane that nobody disturbs any more.
async fn serve_again(run: &Run, parties: &Parties, rng: SmallRng) {
    let record = &run.world.record;
    let led = becomes(SERVES_WITHIN, async || run.world.leader().is_some()).await;
    if !led {
        let story = format!("There is no leader {SERVES_WITHIN:?} after the last fault.");
        return record.violation("liveness: no leader", story);
    }
    drop(sim::settle_membership(&run.world).await);
    let mut client = Rest::new(parties.writing.clone(), LAST_CLIENT, rng);
    for member in run.world.members() {
        let served = becomes(SERVES_WITHIN, async || {
            client.member = member;
            run.plane.wire.ready().contains(&member) && list_all(&mut client).await.is_ok()
        });
        if !served.await {
            let refused = record.refusals();
            let story = format!(
                "Member {member} does not serve the API {SERVES_WITHIN:?} after the last fault; starts that were refused: \
                 {refused:?}"
            );
            record.violation("liveness: no service", story);
        }
    }
}

/// Asks for everything, and says what came instead of it.
pub(crate) async fn list_all(client: &mut Rest) -> Result<(), String> {
    let plan = rest::Plan {
        verb: Verb::List,
        kind: "configmaps",
        key: "configmaps/".into(),
        method: Method::GET,
        path: "/api/v1/configmaps".into(),
        ..rest::Plan::default()
    };
    match client.call(plan).await {
        Some((200, _)) => Ok(()),
        Some((code, document)) => Err(format!("{code} {}", document["message"])),
        None => Err("nothing".into()),
    }
}

/// Waits until everything is as it is wanted, or has to be.
async fn converge(run: &Run) {
    let until = Instant::now() + CONVERGES_WITHIN;
    loop {
        let missing = run
            .scribe
            .change(|history| rules::unfinished(&history.truth));
        // What is missing then is missed by the rules.
        if missing.is_empty() {
            return;
        }
        if Instant::now() > until {
            return run.scribe.change(|history| history.missing = missing);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until the informers know everything; from then on they have to.
async fn settle(run: &Run, parties: &Parties) {
    let scribe = &run.scribe;
    let newest = scribe.change(|history| newest_shown(history));
    becomes(SETTLES_WITHIN, async || {
        scribe.followed() >= newest
            && scribe.change(|history| {
                let informers = history.informers.iter().zip(&parties.reached);
                let mut unsettled = informers.filter(|(informer, reached)| {
                    !knows_all(&history.truth, informer, reached.load(Ordering::Relaxed))
                });
                unsettled.next().is_none()
            })
    })
    .await;
    scribe.change(|history| {
        let last = history.truth.last();
        for informer in &mut history.informers {
            informer.settled = Some(last);
        }
    });
}

pub(crate) fn knows_all(truth: &Truth, informer: &Informer, reached: i64) -> bool {
    reached > 0
        && truth
            .between(&informer.prefix, reached, truth.last() + 1)
            .is_none()
}

/// The newest version that anybody was told of.
pub(crate) fn newest_shown(history: &History) -> i64 {
    history
        .calls
        .iter()
        .map(|call| call.told.newest())
        .max()
        .unwrap_or(0)
}

/// A last look at all members; what they show is judged as any answer is.
async fn look_again(run: &Run, parties: &Parties, rng: SmallRng) {
    let mut client = Rest::new(parties.keeping.clone(), LAST_CLIENT, rng);
    for member in run.world.members() {
        client.member = member;
        if let Err(said) = list_all(&mut client).await {
            let story = format!(
                "Member {member} does not answer at the end, when nobody disturbs it; it says: {said}"
            );
            run.world.record.violation("liveness: no service", story);
        }
    }
    let newest = run.scribe.change(|history| newest_shown(history));
    if !becomes(SETTLES_WITHIN, async || run.scribe.followed() >= newest).await {
        let story = format!(
            "The store's own watch has come to {} and not to {newest}, which clients were shown.",
            run.scribe.followed()
        );
        run.world.record.violation("liveness: watch", story);
    }
}

fn finish(options: &Options, run: &Run, schedule: &Schedule) -> Ran {
    let world = &run.world;
    let lasted = Duration::from_nanos(world.record.now());
    let (net, deliveries) = world.net.trace();
    let mut history = run.scribe.change(std::mem::take);
    let (mut recording, mut violations, notes) = world.record.take();
    let leaders = record::leaders(&recording);
    history.pauses = pauses(&recording.faults);
    recording.run.level = CONTROL_PLANES.name.into();
    recording.run.seed = options.seed;
    recording.run.replay = CONTROL_PLANES.replay(options);
    recording.run.members = world.ever();
    recording.run.began_unix_ms = BEGAN_UNIX_MS;
    recording.run.length = world.record.now();
    record::fill(&mut recording, &history, schedule);
    let verdicts = rules::check(&history).into_iter();
    violations.extend(verdicts.map(|verdict| record::violation(&history, verdict)));
    violations.extend(sim::coverage::demand(&recording));
    world.look();
    violations.extend(world.oracle().violations());
    violations.extend(sim::panics());
    let mut trace = DefaultHasher::new();
    (net, deliveries, lasted).hash(&mut trace);
    history.asks.hash(&mut trace);
    history.calls.hash(&mut trace);
    history.informers.hash(&mut trace);
    history.runs.hash(&mut trace);
    history.deeds.hash(&mut trace);
    history.rights.hash(&mut trace);
    history.horizons.hash(&mut trace);
    history.truth.hash_into(&mut trace);
    Ran {
        recording,
        violations,
        notes,
        trace: trace.finish(),
        lasted,
        leaders,
        installed: world.installed(),
        disks: world.disks(),
        looks: world.oracle().looks(),
    }
}

/// Sets the wall clocks right: tokens are good for an hour, and to machines that are further off they are not.
fn set_clocks(world: &World) {
    let right = BEGAN_UNIX_MS + (world.record.now() / 1_000_000) as i64;
    for clock in world.members().into_iter().filter_map(|id| world.clock(id)) {
        clock.jump(right - clock.unix_ms());
    }
}

/// Which machines stood still, and when.
fn pauses(faults: &[Fault]) -> Vec<(u64, u64, u64)> {
    let pauses = faults.iter().filter(|fault| fault.kind == "pause");
    pauses
        .flat_map(|fault| {
            let until = fault.until.unwrap_or(u64::MAX);
            fault
                .members
                .iter()
                .map(move |member| (*member, fault.from, until))
        })
        .collect()
}
