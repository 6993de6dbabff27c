//! One run from its start to its verdict. Whatever ends it, nothing of it is left on the machine but its folder.

use super::api::Api;
use super::disk::Disk;
use super::door::Credentials;
use super::heal::Healing;
use super::links::Pick;
use super::members::{Installation, Limits, Member, find_kontiki, named_kontiki};
use super::nodes::Node;
use super::plan::{self, KINDS, Kind, Planned, Victims};
use super::recorder::Recorder;
use super::rig::Rig;
use super::shared::{self, Shared};
use super::strike::strike;
use super::topology::{self, Topology, member_name};
use super::watchers;
use super::{ChaosArgs, again, check, clock, load, rights, say};
use crate::kube::workloads::NODES;
use crate::recording::{Outcome, Recording, Run, Violation};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::RwLock;
use tokio::task::JoinSet;

/// For a new cluster to serve.
const FORMS: Duration = Duration::from_secs(60);
/// A process that ended by itself is started again after so long, as the unit in `deploy/systemd` does.
const RESTART: Duration = Duration::from_secs(2);
const SUPERVISE: Duration = Duration::from_millis(100);
/// Beyond twice the length, for the last faults.
const OVERTIME: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(200);
const PROGRESS: Duration = Duration::from_secs(5);
const SUPERVISOR: &str = "supervisor";
/// Watchers that look in.
const VISITORS: u32 = 2;
/// Clients of the recording from here on watch.
const FIRST_WATCHER: u32 = 500;

/// What a run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Sound,
    Violated,
    ProvesTooLittle,
}

/// Does what is asked, unless a signal comes first. A run that failed stays one, whatever comes while it is made smaller.
pub async fn run(args: ChaosArgs) -> Result<Verdict> {
    let mut signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
    };
    let Some(test) = Test::prepare(&args)? else {
        return Ok(Verdict::Sound);
    };
    let began = Instant::now();
    let ran = tokio::select! {
        ran = test.first() => ran?,
        how = signals.come() => bail!("{how}"),
    };
    if ran.verdict == Verdict::Violated {
        tokio::select! {
            () = again::make_small(&test, &ran, began.elapsed()) => {}
            how = signals.come() => say(&format!("{how}, while it was made smaller")),
        }
    }
    Ok(ran.verdict)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn come(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "terminated",
        }
    }
}

/// The kinds of this run, and in words which ones are left out.
fn choose(
    args: &ChaosArgs,
    seed: u64,
    given: Option<&[Planned]>,
) -> Result<(Vec<Kind>, Vec<String>)> {
    let mut wanted = args.nemesis.clone();
    wanted.extend(given.into_iter().flatten().map(|fault| fault.kind));
    if !wanted.is_empty() || given.is_some() {
        wanted.sort_unstable();
        wanted.dedup();
        let lacking: Vec<String> = wanted
            .iter()
            .flat_map(|kind| {
                let lacking = lacking_for(args, *kind).into_iter();
                lacking.map(move |it| format!("{it} for {kind}"))
            })
            .collect();
        match lacking.as_slice() {
            [] => return Ok((wanted, Vec::new())),
            lacking => bail!("this machine lacks {}", lacking.join(", ")),
        }
    }
    let mut possible = Vec::new();
    let mut left_out = Vec::new();
    for (kind, name, _) in KINDS {
        match lacking_for(args, *kind).as_slice() {
            [] => possible.push(*kind),
            lacking => left_out.push(format!("no {name}: lacking {}", lacking.join(", "))),
        }
    }
    Ok((plan::draw_mix(seed, &possible), left_out))
}

/// What a kind needs and this machine, or what was said, does not have.
fn lacking_for(args: &ChaosArgs, kind: Kind) -> Vec<String> {
    let mut lacking = rights::lacking_for(kind);
    if kind == Kind::Upgrade && args.other_binary.is_none() {
        lacking.push("--other-binary".into());
    }
    if kind == Kind::Node && args.no_nodes {
        lacking.push("nodes".into());
    }
    lacking
}

/// What a seed would do.
fn show(schedule: &[Planned]) {
    for fault in schedule {
        let whom = match fault.kind.is_on_links() {
            true => fault.cut.to_string(),
            false => fault.victims.to_string(),
        };
        say(&format!(
            "{:6.1} s to {:6.1} s: {} ({whom})",
            fault.at.as_secs_f32(),
            fault.until().as_secs_f32(),
            fault.kind
        ));
    }
}

/// What is to be done, as often as it is.
pub(crate) struct Test<'a> {
    pub(crate) args: &'a ChaosArgs,
    seed: u64,
    kinds: Vec<Kind>,
    pub(crate) schedule: Vec<Planned>,
    length: Duration,
    kontiki: PathBuf,
    pub(crate) folder: PathBuf,
}

/// A run that is over.
pub(crate) struct Over {
    pub(crate) verdict: Verdict,
    pub(crate) recording: Recording,
    pub(crate) violations: Vec<Violation>,
}

impl<'a> Test<'a> {
    /// Nothing where all that is wanted is to see it.
    fn prepare(args: &'a ChaosArgs) -> Result<Option<Test<'a>>> {
        let seed = args.seed.unwrap_or_else(rand::random);
        let given = args.schedule.as_deref().map(again::read).transpose()?;
        let (kinds, left_out) = choose(args, seed, given.as_deref())?;
        let (schedule, length) = match given {
            Some(schedule) => (schedule.clone(), again::length(&schedule)),
            None => {
                let length = Duration::from_secs_f64(args.minutes * 60.0);
                (plan::plan(seed, length, args.members, &kinds), length)
            }
        };
        if args.plan {
            say(&format!("seed {seed}"));
            show(&schedule);
            return Ok(None);
        }
        let lacking = rights::lacking();
        if !lacking.is_empty() {
            bail!("this machine, or this user, lacks {}", lacking.join(", "));
        }
        let kontiki = find_kontiki(args.kontiki.as_deref())?;
        for removed in topology::remove_remains() {
            say(&format!("left by an earlier run, removed: {removed}"));
        }
        let folder = args.folder.clone().unwrap_or_else(|| {
            // Not the mark of what a later run takes away.
            std::env::temp_dir().join(format!("kontiki-recording-{seed:x}"))
        });
        let test = Test {
            args,
            seed,
            kinds,
            schedule,
            length,
            kontiki,
            folder: std::path::absolute(folder)?,
        };
        say(&format!(
            "chaos: seed {seed}, {} members, {:.1} minutes, {}",
            args.members,
            length.as_secs_f64() / 60.0,
            test.names()
        ));
        left_out.iter().for_each(|words| say(words));
        Ok(Some(test))
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        names.join(",")
    }

    /// The command that does the same again, as far as the machine's timing lets it: by the seed, or by a file.
    pub(crate) fn replay(&self, schedule: Option<&Path>) -> String {
        let args = self.args;
        let mut words = String::from("cargo run --release -p raft-tests -- chaos");
        let mut word = |text: String| {
            words.push(' ');
            words.push_str(&text);
        };
        match schedule {
            Some(file) => word(format!("--schedule {}", file.display())),
            None => word(format!("--minutes {}", args.minutes)),
        }
        let (members, clients) = (args.members, args.clients);
        word(format!(
            "--members {members} --clients {clients} --nemesis {}",
            self.names()
        ));
        if let Some(other) = &args.other_binary {
            word(format!("--other-binary {}", other.display()));
        }
        if args.no_nodes {
            word("--no-nodes".into());
        }
        if args.patience > 1 {
            word(format!("--patience {}", args.patience));
        }
        word(format!("--seed {}", self.seed));
        words
    }

    async fn first(&self) -> Result<Over> {
        let replay = self.replay(self.args.schedule.as_deref());
        self.once(&self.schedule, self.length, &self.folder, replay)
            .await
    }

    /// A cluster of its own under this schedule, and what comes of it, into this folder.
    pub(crate) async fn once(
        &self,
        schedule: &[Planned],
        length: Duration,
        folder: &Path,
        replay: String,
    ) -> Result<Over> {
        let args = self.args;
        fs::create_dir_all(folder.join("logs"))
            .with_context(|| format!("cannot make {}", folder.display()))?;
        again::write(&folder.join(again::SCHEDULE), schedule)?;
        let run = Run {
            level: "chaos".into(),
            seed: self.seed,
            replay,
            began_unix_ms: unix_ms(),
            ..Run::default()
        };
        let setting = Setting {
            members: args.members,
            kinds: &self.kinds,
            kontiki: self.kontiki.clone(),
            other: args.other_binary.as_deref(),
            limits: Limits::Small,
            nodes: if args.no_nodes { 0 } else { NODES },
        };
        let stage = Stage::set(setting, folder, run)?;
        play(args, self.seed, schedule, length, &stage).await?;
        conclude(stage, folder, schedule.len())
    }
}

pub(crate) fn unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(0))
}

/// What a stage is set with.
pub(crate) struct Setting<'a> {
    pub(crate) members: usize,
    /// What is going to be done, as far as the members have to be started for it.
    pub(crate) kinds: &'a [Kind],
    pub(crate) kontiki: PathBuf,
    /// See [`Installation::other`].
    pub(crate) other: Option<&'a Path>,
    pub(crate) limits: Limits,
    /// See [`Installation::nodes`].
    pub(crate) nodes: u32,
}

/// Everything that has to be taken down again.
pub(crate) struct Stage {
    pub(crate) rig: Arc<Rig>,
    api: Arc<Api>,
    installation: Arc<Installation>,
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
    work: PathBuf,
    // Last: namespaces go when nothing is in them any more.
    _topology: Topology,
}

impl Stage {
    pub(crate) fn set(setting: Setting<'_>, folder: &Path, run: Run) -> Result<Stage> {
        let kinds = setting.kinds;
        let work = Work::make()?;
        let topology = Topology::build(setting.members)?;
        let installation = Arc::new(Installation {
            kontiki: setting.kontiki,
            other: setting.other.map(named_kontiki).transpose()?,
            limits: setting.limits,
            nodes: setting.nodes,
            bundle: work.0.join("cluster"),
            logs: folder.join("logs"),
            clock_library: match kinds.contains(&Kind::Clock) {
                true => Some(clock::make_library(&work.0)?),
                false => None,
            },
            closed: AtomicBool::new(false),
        });
        installation.make_certificates(setting.members)?;
        let disks = kinds.iter().any(|kind| kind.needs_disks());
        let mut members = Vec::new();
        for (index, space) in topology.spaces().iter().enumerate() {
            let disk = match disks {
                true => Some(Disk::make(&work.0, &member_name(index))?),
                false => None,
            };
            let (space, installation) = (space.clone(), installation.clone());
            let member = Member::new(index, space, disk, installation, &work.0)?;
            members.push(Arc::new(member));
        }
        let machines = (0..).zip(topology.spaces()).take(setting.nodes as usize);
        let nodes = machines.map(|(number, space)| {
            Arc::new(Node::new(
                number,
                space.clone(),
                installation.clone(),
                &work.0,
            ))
        });
        let nodes: Vec<Arc<Node>> = nodes.collect();
        let mut ids: Vec<u64> = members.iter().map(|member| member.id()).collect();
        ids.sort_unstable();
        let recorder = Arc::new(Recorder::new(Recording {
            run: Run {
                members: ids,
                ..run
            },
            ..Recording::default()
        }));
        let credentials = Credentials::read(&installation.bundle)?;
        let shared = Arc::new(Shared::new(members, credentials, recorder));
        let api = Arc::new(Api::new(&installation.bundle, &shared, setting.nodes > 0)?);
        let runtime = tokio::runtime::Handle::current();
        Ok(Stage {
            rig: Arc::new(Rig::new(shared, nodes, runtime, topology.bridge().clone())),
            api,
            installation,
            threads: std::sync::Mutex::default(),
            work: work.keep(),
            _topology: topology,
        })
    }

    /// A thread that ends when the run is halted.
    fn spawn(&self, name: &str, work: impl FnOnce(&Rig) + Send + 'static) -> Result<()> {
        let rig = self.rig.clone();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || work(&rig))?;
        if let Ok(mut threads) = self.threads.lock() {
            threads.push(thread);
        }
        Ok(())
    }

    /// Whether no thread but the supervisor's is at work.
    fn faults_are_over(&self) -> bool {
        let Ok(threads) = self.threads.lock() else {
            return true;
        };
        let mut at_work = threads.iter().filter(|thread| !thread.is_finished());
        at_work.all(|thread| thread.thread().name() == Some(SUPERVISOR))
    }

    /// Nothing is done to the cluster by itself any more.
    fn join(&self) {
        let threads = match self.threads.lock() {
            Ok(mut threads) => std::mem::take(&mut *threads),
            Err(_) => return,
        };
        for thread in threads {
            if thread.join().is_err() {
                self.rig.recorder().trouble("a thread has panicked".into());
            }
        }
    }

    /// What was on the members' disks, for whoever wants to see why. They must have ended.
    pub(crate) fn keep_data(&self, folder: &Path) {
        for member in self.rig.members() {
            let to = folder.join(format!("data-{}", member.name));
            let (from, to) = (member.data().to_string_lossy(), to.to_string_lossy());
            if let Err(error) = super::program::run("cp", &["-a", "--sparse=always", &from, &to]) {
                eprintln!("the data of {} is not kept: {error:#}", member.name);
            }
        }
    }

    pub(crate) fn end_members(&self) {
        self.installation.closed.store(true, Ordering::SeqCst);
        for member in self.rig.members() {
            if let Err(error) = member.kill() {
                eprintln!("member {} is left: {error:#}", member.name);
            }
        }
        for node in &self.rig.nodes {
            if let Err(error) = node.kill() {
                eprintln!("node {} is left: {error:#}", node.name);
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.installation.closed.store(true, Ordering::SeqCst);
        self.rig.shared.stop.store(true, Ordering::SeqCst);
        self.rig.shared.clients_stop.store(true, Ordering::SeqCst);
        self.rig.halt.halt();
        self.join();
        self.end_members();
        if let Err(error) = topology::remove_folder(&self.work) {
            eprintln!("{} is left: {error:#}", self.work.display());
        }
    }
}

/// The folder for what goes with the run, gone again where setting the stage fails.
struct Work(PathBuf);

impl Work {
    fn make() -> Result<Work> {
        let folder = topology::work_folder();
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Work(folder))
    }

    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty()
            && let Err(error) = topology::remove_folder(&self.0)
        {
            eprintln!("{} is left: {error:#}", self.0.display());
        }
    }
}

/// Clients and faults at the same time; then healing.
async fn play(
    args: &ChaosArgs,
    seed: u64,
    schedule: &[Planned],
    length: Duration,
    stage: &Stage,
) -> Result<()> {
    let rig = &stage.rig;
    let shared = rig.shared.clone();
    for member in rig.members() {
        member.start()?;
    }
    // Dropped, and so ended, when this is left early.
    let _samplers = shared::sample_all(&shared);
    forms(rig).await?;
    for node in &rig.nodes {
        node.start()?;
    }
    let began = Instant::now();
    stage.spawn(SUPERVISOR, supervise)?;

    let mut clients = JoinSet::new();
    for number in 0..args.clients {
        clients.spawn(load::work_on(shared.clone(), number, seed));
    }
    for number in 0..VISITORS {
        let client = FIRST_WATCHER + 100 + number;
        clients.spawn(watchers::visit(shared.clone(), client, seed));
    }
    stage.api.start(&shared, &mut clients, seed);
    let (_watching, followers) = watchers::follow_all(&shared, FIRST_WATCHER, 0);

    faults(stage, schedule, began)?;
    progress(stage, began, length).await;
    change_leader(rig, schedule);
    // A thread that is within a fault still undoes it.
    let rig_there = rig.clone();
    rig.halt.halt();
    tokio::task::block_in_place(|| {
        stage.join();
        rig_there.undo_all()
    })
    .context("the faults cannot be taken back")?;
    say(&format!(
        "{:6.1} s: all faults taken back",
        began.elapsed().as_secs_f32()
    ));

    let healing = Healing {
        rig,
        factor: args.patience,
    };
    healing
        .conclude(clients, &followers, Some(&*stage.api))
        .await
}

/// Waits until the new cluster serves.
pub(crate) async fn forms(rig: &Arc<Rig>) -> Result<()> {
    let deadline = Instant::now() + FORMS;
    loop {
        let all = (0..rig.members().len()).all(|index| rig.shared.view(index).is_some());
        if all && rig.shared.leader().is_some() {
            return Ok(());
        }
        for member in rig.members() {
            if let Some(status) = member.take_ended()? {
                bail!(
                    "member {} does not start: {status}\n{}",
                    member.name,
                    member.last_words()
                );
            }
        }
        if Instant::now() > deadline {
            bail!(
                "the new cluster does not serve within {} s",
                FORMS.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts again what ends by itself, which no member may that no fault excuses.
pub(crate) fn supervise(rig: &Rig) {
    while !rig.halt.wait(SUPERVISE) {
        for member in rig.members() {
            if member.is_excused() {
                continue;
            }
            let Ok(Some(status)) = member.take_ended() else {
                continue;
            };
            rig.recorder().violation(
                "a member ended",
                format!(
                    "Member {} ended by itself: {status}. Its last words: {}",
                    member.name,
                    member.last_words()
                ),
            );
            rig.halt.wait(RESTART);
            if let Err(error) = member.start() {
                rig.recorder().trouble(format!("{error:#}"));
            }
        }
        for node in &rig.nodes {
            let Ok(Some(status)) = node.take_ended() else {
                continue;
            };
            let story = format!(
                "The agent of node {} ended by itself: {status}. Its last words: {}",
                node.name,
                node.last_words()
            );
            rig.recorder().violation("an agent ended", story);
            rig.halt.wait(RESTART);
            if let Err(error) = node.start() {
                rig.recorder().trouble(format!("{error:#}"));
            }
        }
    }
}

/// Two threads: one for faults of the network, one for all others. One that has to be alone waits for the other.
fn faults(stage: &Stage, schedule: &[Planned], began: Instant) -> Result<()> {
    let alone = Arc::new(RwLock::new(()));
    for network in [false, true] {
        let faults: Vec<Planned> = schedule
            .iter()
            .filter(|fault| fault.kind.is_of_network() == network)
            .cloned()
            .collect();
        let alone = alone.clone();
        stage.spawn(if network { "network" } else { "members" }, move |rig| {
            // A fault that took longer than planned moves all that follow, so that the cluster has its rest between.
            let mut late = Duration::ZERO;
            for fault in faults {
                let wait = (began + fault.at + late).saturating_duration_since(Instant::now());
                if rig.halt.wait(wait) {
                    return;
                }
                match fault.kind.is_alone() {
                    true => {
                        let _all = alone.blocking_write();
                        strike(rig, &fault);
                    }
                    false => {
                        let _one = alone.blocking_read();
                        strike(rig, &fault);
                    }
                }
                late = began.elapsed().saturating_sub(fault.until()).max(late);
            }
        })?;
    }
    Ok(())
}

/// Says how it goes until all faults have come and gone. What waits for conditions may take longer than planned.
async fn progress(stage: &Stage, began: Instant, length: Duration) {
    let rig = &stage.rig;
    let deadline = began + 2 * length + OVERTIME;
    let mut said = Instant::now();
    while Instant::now() < deadline && !(began.elapsed() >= length && stage.faults_are_over()) {
        tokio::time::sleep(MOMENT).await;
        if said.elapsed() < PROGRESS {
            continue;
        }
        said = Instant::now();
        let tally = rig.recorder().tally();
        let leader = rig.shared.leader();
        let leader = leader.map_or("nobody".into(), member_name);
        say(&format!(
            "{:6.1} s: {} calls ({} ok, {} failed, {} unknown), {} events watched, {} faults, {leader} leads",
            began.elapsed().as_secs_f32(),
            tally.operations,
            tally.good,
            tally.failed,
            tally.unknown,
            tally.events,
            tally.faults
        ));
    }
}

/// A run in which the leader never changed proves little. Where one of the kinds could have changed it and none has, it
/// does now.
fn change_leader(rig: &Rig, schedule: &[Planned]) {
    let (recording, _, _) = rig.recorder().taken();
    let changes = |fault: &&Planned| check::changes_leader(fault.kind.name());
    if check::leaders(&recording).len() < 2
        && let Some(fault) = schedule.iter().find(changes)
    {
        let last = Planned {
            victims: Victims::One(Pick::Leader),
            length: Duration::from_secs(2),
            ..fault.clone()
        };
        tokio::task::block_in_place(|| strike(rig, &last));
    }
}

/// What the judges say, put into the folder, and in short on standard output.
fn conclude(stage: Stage, folder: &Path, planned: usize) -> Result<Over> {
    stage.end_members();
    let (recording, mut violations, mut trouble) = stage.rig.recorder().taken();
    violations.extend(crate::judge::judge(&recording));
    violations.extend(check::violations(&recording));
    trouble.extend(check::lacks(&recording, planned));
    crate::report::write(folder, &recording, &violations)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    if !violations.is_empty() {
        stage.keep_data(folder);
    }
    drop(stage);
    summarize(&recording, &violations, &trouble);
    say(&format!(
        "all of it is on {}",
        folder.join("report.html").display()
    ));
    let verdict = match (violations.is_empty(), trouble.is_empty()) {
        (false, _) => Verdict::Violated,
        (true, false) => Verdict::ProvesTooLittle,
        (true, true) => Verdict::Sound,
    };
    Ok(Over {
        verdict,
        recording,
        violations,
    })
}

fn summarize(recording: &Recording, violations: &[Violation], trouble: &[String]) {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for fault in &recording.faults {
        *kinds.entry(&fault.kind).or_default() += 1;
    }
    let kinds: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let of = |wanted: fn(&Outcome) -> bool| {
        let outcomes = recording.operations.iter().map(|it| &it.outcome);
        outcomes.filter(|outcome| wanted(outcome)).count()
    };
    say(&format!(
        "{:.1} s, {} calls: {} ok, {} failed, {} unknown",
        recording.run.length as f64 / 1e9,
        recording.operations.len(),
        of(|it| matches!(it, Outcome::Ok { .. })),
        of(|it| matches!(it, Outcome::Failed { .. })),
        of(|it| matches!(it, Outcome::Unknown { .. })),
    ));
    say(&format!("faults: {}", kinds.join(", ")));
    say(&format!(
        "{} watches, {} leaders",
        recording.watches.len(),
        check::leaders(recording).len()
    ));
    for violation in violations {
        say(&format!(
            "VIOLATION: {}: {}",
            violation.rule, violation.story
        ));
    }
    for words in trouble {
        say(&format!("the run does not count: {words}"));
    }
    if violations.is_empty() && trouble.is_empty() {
        say("nothing is wrong");
    }
    say(&format!("again: {}", recording.run.replay));
}
