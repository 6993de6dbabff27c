//! One cluster for all of a command, and its history in slices: each a recording of its own that is healed and judged,
//! so that neither memory nor the judges' work grows with the number of times.
//!
//! A slice begins where nothing is stored: what the one before has left is deleted, and history is compacted, so that
//! the judges need not know of it.

use super::{Task, Verdict};
use crate::chaos::heal::Healing;
use crate::chaos::members::find_kontiki;
use crate::chaos::recorder::Recorder;
use crate::chaos::rig::Rig;
use crate::chaos::run::{Setting, Stage, forms, supervise, unix_ms};
use crate::chaos::shared::{self, KEYS, Shared};
use crate::chaos::strike::OWN_CLIENT;
use crate::chaos::watchers;
use crate::chaos::{check, load, rights, say, topology};
use crate::recording::{Delete, Outcome, Range, Recording, Request, Response, Run, Violation};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// For what has to succeed between two slices, where nothing is wrong.
const INSIST: Duration = Duration::from_secs(30);
const CALL: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);
const MOMENT: Duration = Duration::from_millis(10);
/// So many numbers of clients in a recording are one slice's.
const CLIENTS: u32 = 64;
/// Numbers of watchers, which are in no other slice's way.
const FIRST_WATCHER: u32 = 1 << 24;

/// See the module head.
pub struct Ground {
    task: Task,
    stage: Stage,
    folder: PathBuf,
    began: Instant,
    slices: u32,
    sums: Sums,
    violated: bool,
    troubles: Vec<String>,
}

/// What a command has done and found.
pub struct Done {
    /// For people.
    pub lines: Vec<String>,
    pub times: usize,
}

/// Of all slices.
#[derive(Debug, Default)]
struct Sums {
    operations: usize,
    acknowledged: usize,
    unknown: usize,
    events: usize,
    leaders: usize,
    faults: BTreeMap<String, usize>,
    /// Most of any member, in KiB.
    memory: u64,
    judging: Duration,
}

impl Sums {
    fn add(&mut self, recording: &Recording) {
        self.operations += recording.operations.len();
        for operation in &recording.operations {
            match operation.outcome {
                Outcome::Ok { .. } => self.acknowledged += 1,
                Outcome::Unknown { .. } => self.unknown += 1,
                Outcome::Failed { .. } => {}
            }
        }
        let messages = recording.watches.iter().map(|watch| watch.messages.len());
        self.events += messages.sum::<usize>();
        self.leaders += check::leaders(recording).len();
        for fault in &recording.faults {
            *self.faults.entry(fault.kind.clone()).or_default() += 1;
        }
    }
}

/// One slice that is ready to be played.
pub struct Slice {
    rig: Arc<Rig>,
    number: u32,
    /// All before it is no part of it.
    revision: i64,
}

impl Slice {
    pub fn shared(&self) -> &Arc<Shared> {
        &self.rig.shared
    }

    /// Numbers from here on are its clients' own.
    pub fn first_client(&self) -> u32 {
        // Below them is the test itself.
        OWN_CLIENT + 1 + self.number * CLIENTS
    }
}

/// Whatever ends a slice, its tasks and threads end with it.
struct Ends(Arc<Rig>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.halt.halt();
        self.0.shared.clients_stop.store(true, Ordering::SeqCst);
        self.0.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Ground {
    /// Machines and members, which are not started.
    pub fn prepare(task: Task, kontiki: Option<&Path>, folder: Option<&Path>) -> Result<Ground> {
        let mut lacking = rights::lacking();
        lacking.extend(
            task.kinds
                .iter()
                .flat_map(|kind| rights::lacking_for(*kind)),
        );
        if !lacking.is_empty() {
            bail!("this machine, or this user, lacks {}", lacking.join(", "));
        }
        let kontiki = find_kontiki(kontiki)?;
        for removed in topology::remove_remains() {
            say(&format!("left by an earlier run, removed: {removed}"));
        }
        let folder = folder.map_or_else(
            || std::env::temp_dir().join(format!("kontiki-{}-{:x}", task.name, task.seed)),
            Path::to_path_buf,
        );
        fs::create_dir_all(folder.join("logs"))
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let folder = std::path::absolute(folder)?;
        let setting = Setting {
            members: task.members,
            kinds: task.kinds,
            kontiki,
            other: None,
            limits: task.limits,
            nodes: 0,
        };
        let stage = Stage::set(setting, &folder, Run::default())?;
        Ok(Ground {
            task,
            stage,
            folder,
            began: Instant::now(),
            slices: 0,
            sums: Sums::default(),
            violated: false,
            troubles: Vec::new(),
        })
    }

    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Whether there is time for more, and a reason for it.
    pub fn goes_on(&self) -> bool {
        !self.violated && self.troubles.is_empty() && Instant::now() < self.task.until
    }

    /// The next slice: all members run and serve, and nothing is stored.
    pub async fn slice(&mut self) -> Result<Slice> {
        let first = self.slices == 0;
        let members = &self.stage.rig.shared.members;
        let mut ids: Vec<u64> = members.iter().map(|member| member.id()).collect();
        ids.sort_unstable();
        let recorder = Recorder::new(Recording {
            run: Run {
                level: self.task.name.into(),
                seed: self.task.seed,
                replay: self.task.replay.clone(),
                members: ids,
                began_unix_ms: unix_ms(),
                ..Run::default()
            },
            ..Recording::default()
        });
        let mut slice = Slice {
            rig: Arc::new(self.stage.rig.again(recorder)),
            number: self.slices,
            revision: 0,
        };
        self.slices += 1;
        for member in slice.rig.members() {
            member.start()?;
        }
        if !first {
            slice.revision = sweep(&slice.rig).await.context("between two slices")?;
        }
        Ok(slice)
    }

    /// Lets clients work while `strike` does something to the cluster, from a thread that may block; then all is healed
    /// and judged. Answers what `strike` does.
    pub async fn play<T: Send + 'static>(
        &mut self,
        slice: Slice,
        clients: JoinSet<()>,
        strike: impl FnOnce(&Rig) -> T + Send + 'static,
    ) -> Result<T> {
        let rig = slice.rig.clone();
        let shared = rig.shared.clone();
        let _ends = Ends(rig.clone());
        // Dropped, and so ended, when this is left early.
        let _samplers = shared::sample_all(&shared);
        forms(&rig).await?;
        let supervisor = rig.clone();
        let supervisor = tokio::task::spawn_blocking(move || supervise(&supervisor));
        let (_watching, followers) = watchers::follow_all(&shared, FIRST_WATCHER, slice.revision);
        let hands = rig.clone();
        let struck = tokio::task::spawn_blocking(move || strike(&hands)).await?;
        rig.halt.halt();
        supervisor.await?;
        let mended = rig.clone();
        tokio::task::spawn_blocking(move || mended.undo_all())
            .await?
            .context("the faults cannot be taken back")?;
        let healing = Healing {
            rig: &rig,
            factor: self.task.patience,
        };
        healing.conclude(clients, &followers, None).await?;
        self.judge(&rig, slice.number)?;
        Ok(struck)
    }

    /// Puts the recording aside, in a folder where something is wrong.
    fn judge(&mut self, rig: &Rig, number: u32) -> Result<()> {
        let (recording, mut violations, mut troubles) = rig.recorder().taken();
        let began = Instant::now();
        violations.extend(crate::judge::judge(&recording));
        violations.extend(check::violations(&recording));
        self.sums.judging += began.elapsed();
        let good = recording.operations.iter();
        let good = good.filter(|operation| matches!(operation.outcome, Outcome::Ok { .. }));
        // One a second, on the slowest of machines.
        if (good.count() as u64) < recording.run.length / 1_000_000_000 {
            troubles.push("fewer calls were answered well than the run has seconds".into());
        }
        self.sums.add(&recording);
        let memory = rig
            .members()
            .iter()
            .filter_map(|member| memory(member.pid()?));
        self.sums.memory = memory.max().unwrap_or(0).max(self.sums.memory);
        say(&format!(
            "{:6.1} s: slice {number}: {} calls, {} faults, {} violations, judged in {:.1} s",
            self.began.elapsed().as_secs_f32(),
            recording.operations.len(),
            recording.faults.len(),
            violations.len(),
            began.elapsed().as_secs_f32()
        ));
        if !violations.is_empty() || !troubles.is_empty() {
            let folder = self.folder.join(format!("slice-{number}"));
            crate::report::write(&folder, &recording, &violations)
                .with_context(|| format!("cannot write into {}", folder.display()))?;
            say(&format!("see {}", folder.join("report.html").display()));
        }
        self.tell(&violations);
        self.troubles.extend(troubles);
        Ok(())
    }

    fn tell(&mut self, violations: &[Violation]) {
        for violation in violations {
            say(&format!(
                "VIOLATION: {}: {}",
                violation.rule, violation.story
            ));
        }
        self.violated |= !violations.is_empty();
    }

    /// Clients of the chaos runs.
    pub fn load(&self, slice: &Slice) -> JoinSet<()> {
        let mut clients = JoinSet::new();
        for number in 0..self.task.clients {
            let client = slice.first_client() + number;
            clients.spawn(load::work_on(
                slice.shared().clone(),
                client,
                self.task.seed,
            ));
        }
        clients
    }

    /// Says what all of it came to, with what the command found.
    pub fn conclude(&mut self, done: &Done) -> Verdict {
        self.stage.end_members();
        if self.violated {
            self.stage.keep_data(&self.folder);
        }
        let sums = &self.sums;
        let faults: Vec<String> = sums
            .faults
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        for line in &done.lines {
            say(line);
        }
        say(&format!(
            "{:.0} s in {} slices: {} calls ({} acknowledged, {} unknown), {} messages of watches, {} leaders; faults: {}",
            self.began.elapsed().as_secs_f32(),
            self.slices,
            sums.operations,
            sums.acknowledged,
            sums.unknown,
            sums.events,
            sums.leaders,
            faults.join(", ")
        ));
        say(&format!(
            "most memory of a member {} MiB; judged in {:.0} s",
            sums.memory / 1024,
            sums.judging.as_secs_f32()
        ));
        for words in &self.troubles {
            say(&format!("the run does not count: {words}"));
        }
        let verdict = match (self.violated, self.troubles.is_empty()) {
            (true, _) => Verdict::Violated,
            (false, true) if done.times >= self.task.times => Verdict::Sound,
            (false, _) => Verdict::Incomplete,
        };
        say(match verdict {
            Verdict::Sound => "nothing is wrong, 0 acknowledged writes lost",
            Verdict::Violated => "SOMETHING IS WRONG",
            Verdict::Incomplete => "nothing is wrong as far as it went: fewer times than asked for",
        });
        say(&format!(
            "logs: {}; again: {}",
            self.folder.join("logs").display(),
            self.task.replay
        ));
        verdict
    }
}

/// Of a process, at its most, in KiB.
fn memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Deletes everything and compacts history, on all members. What is in the recording of it is what the judges have to
/// know: that nothing is there, and up to where history is gone.
async fn sweep(rig: &Rig) -> Result<i64> {
    let deadline = Instant::now() + INSIST;
    let mut attempt = 0;
    let revision = loop {
        attempt += 1;
        let member = attempt % rig.members().len();
        match swept(rig, member).await {
            Ok(revision) => break revision,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    };
    rig.shared.learn_revision(revision);
    for index in 0..rig.members().len() {
        while !is_compacted(rig, index, revision).await {
            if Instant::now() > deadline {
                bail!("member {} does not compact", rig.members()[index].name);
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(revision)
}

/// Waits until a member says how it stands, after this moment. Answers whether it does in time.
pub fn answers(rig: &Rig, index: usize, since: Instant, patience: Duration) -> bool {
    while since.elapsed() < patience && !rig.halt.is_halted() {
        if rig.shared.view(index).is_some_and(|view| view.at > since) {
            return true;
        }
        std::thread::sleep(MOMENT);
    }
    false
}

async fn swept(rig: &Rig, member: usize) -> Result<i64> {
    let connection = rig.shared.connect(member).await?;
    let all = Delete {
        key: KEYS.0.into(),
        end: KEYS.1.into(),
        prev: false,
    };
    // Of no recording: it is the end of the slice before.
    connection.perform(&Request::Delete(all), CALL).await;
    let recorder = rig.recorder();
    let ask = async |request: Request| -> Result<(i64, Response)> {
        let id = rig.members()[member].id();
        let operation = recorder.called(OWN_CLIENT, id, request.clone());
        let outcome = connection.perform(&request, CALL).await;
        recorder.returned(operation, outcome.clone(), true);
        match outcome {
            Outcome::Ok { revision, response } => Ok((revision, response)),
            Outcome::Failed { message, .. } | Outcome::Unknown { message } => Err(anyhow!(message)),
        }
    };
    let everything = Range {
        key: KEYS.0.into(),
        end: KEYS.1.into(),
        ..Range::default()
    };
    let (revision, _) = ask(Request::Range(everything)).await?;
    ask(Request::Compact { revision }).await?;
    Ok(revision)
}

/// Whether a member has done this compaction.
async fn is_compacted(rig: &Rig, index: usize, revision: i64) -> bool {
    use crate::etcd::message::{HASH_KV, HashKv, HashKvRequest};
    let Ok(connection) = rig.shared.connect(index).await else {
        return false;
    };
    let request = HashKvRequest { revision: 0 };
    let hash: Result<HashKv, _> = connection.unary(HASH_KV, request, CALL).await;
    hash.is_ok_and(|hash| hash.compact_revision >= revision)
}
