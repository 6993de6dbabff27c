//! A real cluster under clients that a person breaks, on a page: the rig of a chaos run without its schedule.

use super::links::{Rule, Treatment};
use super::members::{self, Limits, find_kontiki};
use super::rig::Rig;
use super::run::{Setting, Stage, forms, unix_ms};
use super::{load, rights, say, shared, topology};
use crate::judge::judge;
use crate::recording::{Operation, Recording, Run, Sample, Violation};
use crate::ui::{Action, Cluster, Condition, Member, server};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How often members are looked after.
const LOOK: Duration = Duration::from_millis(100);
/// The last quarter of an hour is in the recording, so that it does not grow for ever.
const KEPT_NS: u64 = 15 * 60 * 1_000_000_000;

/// What `raft-tests chaos-ui` is told.
#[derive(Args, Clone, Debug)]
pub struct UiArgs {
    /// Members of the cluster
    #[arg(long, default_value_t = 3, value_parser = super::members_count)]
    members: usize,
    /// Clients that read and write
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..50))]
    clients: u32,
    /// The binary under test [default: the one beside this program]
    #[arg(long)]
    kontiki: Option<PathBuf>,
    /// Where the recording, the report and the logs go at the end [default: a new one among the temporary files]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Port of the page on 127.0.0.1, 0 for a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Until it is interrupted. Exit code 1 where something is wrong with the store, 2 where it could not be done.
pub async fn main(args: UiArgs) -> ExitCode {
    match perform(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("chaos-ui: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing is wrong.
async fn perform(args: &UiArgs) -> Result<bool> {
    // From here on a signal ends it in good order.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let lacking = rights::lacking();
    if !lacking.is_empty() {
        bail!("this machine, or this user, lacks {}", lacking.join(", "));
    }
    let kontiki = find_kontiki(args.kontiki.as_deref())?;
    for removed in topology::remove_remains() {
        say(&format!("left by an earlier run, removed: {removed}"));
    }
    let seed: u64 = rand::random();
    let folder = args
        .folder
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("kontiki-recording-{seed:x}")));
    fs::create_dir_all(folder.join("logs"))
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = std::path::absolute(folder)?;
    let run = Run {
        level: "chaos-ui".into(),
        seed,
        replay: "none: it was broken by hand".into(),
        began_unix_ms: unix_ms(),
        ..Run::default()
    };
    let setting = Setting {
        members: args.members,
        kinds: &[],
        kontiki,
        other: None,
        limits: Limits::Small,
        nodes: 0,
    };
    let stage = Stage::set(setting, &folder, run)?;
    tokio::select! {
        served = serve(args, seed, &stage) => served?,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    let rig = stage.rig.clone();
    let length = rig.recorder().now();
    rig.recorder()
        .change(|recording| recording.run.length = length);
    stage.end_members();
    let (recording, mut violations, _) = rig.recorder().taken();
    let recording = from_its_beginning(recording);
    drop(stage);
    match judged(&recording) {
        Some(found) => violations.extend(found),
        None => say("it was longer than what is kept, and so is not judged"),
    }
    crate::report::write(&folder, &recording, &violations)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    say(&format!(
        "what happened: {}",
        folder.join("report.html").display()
    ));
    for Violation { rule, story, .. } in &violations {
        say(&format!("VIOLATION: {rule}: {story}"));
    }
    Ok(violations.is_empty())
}

/// What clients were told and should not have been. Nothing where the beginning is forgotten: then nobody knows what was
/// there before.
fn judged(recording: &Recording) -> Option<Vec<Violation>> {
    let first = recording.operations.first();
    first
        .is_none_or(|first| first.id == 0)
        .then(|| judge(recording))
}

/// Starts the members, then clients and the page.
async fn serve(args: &UiArgs, seed: u64, stage: &Stage) -> Result<()> {
    let rig = &stage.rig;
    for member in rig.members() {
        member.start()?;
    }
    // Dropped, and so ended, when this is left.
    let mut work = shared::sample_all(&rig.shared);
    forms(rig).await?;
    for number in 0..args.clients {
        work.spawn(load::work_on(rig.shared.clone(), number, seed));
    }
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await?;
    let token = format!("{:032x}", rand::random::<u128>());
    say(&server::url(listener.local_addr()?, &token));
    say("interrupt this program to end it");
    let live = Arc::new(Live {
        rig: rig.clone(),
        wounds: Mutex::default(),
    });
    work.spawn(look_after(live.clone()));
    let served = server::serve(listener, token, live).await;
    rig.shared.clients_stop.store(true, Ordering::SeqCst);
    Ok(served?)
}

/// With the times since the first call that was kept.
fn from_its_beginning(mut recording: Recording) -> Recording {
    let by = recording.operations.first().map_or(0, |first| first.called);
    let earlier = |at: u64| at.saturating_sub(by);
    for operation in &mut recording.operations {
        operation.called = earlier(operation.called);
        operation.returned = operation.returned.map(earlier);
    }
    for sample in &mut recording.samples {
        sample.at = earlier(sample.at);
    }
    recording
        .faults
        .retain(|fault| fault.until.is_none_or(|until| until >= by));
    for fault in &mut recording.faults {
        fault.from = earlier(fault.from);
        fault.until = fault.until.map(earlier);
    }
    recording.run.length = earlier(recording.run.length);
    recording.run.began_unix_ms += i64::try_from(by / 1_000_000).unwrap_or(0);
    recording
}

/// Notices who ends by himself, also where nobody looks at the page, and keeps the recording within bounds.
async fn look_after(live: Arc<Live>) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let wounds = live.wounds();
        for member in live.rig.members() {
            live.note_end(&wounds, member);
        }
        let recorder = live.rig.recorder();
        recorder.forget(recorder.now().saturating_sub(KEPT_NS));
    }
}

/// See the module head.
struct Live {
    rig: Arc<Rig>,
    wounds: Mutex<Wounds>,
}

/// What was done and not yet taken back, with its number in the recording.
#[derive(Default)]
struct Wounds {
    /// With the number of the rule, too.
    cuts: BTreeMap<(usize, usize), (u64, usize)>,
    paused: BTreeMap<usize, usize>,
    killed: BTreeMap<usize, usize>,
}

impl Live {
    fn wounds(&self) -> MutexGuard<'_, Wounds> {
        self.wounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, kind: &str, what: String, members: &[usize]) -> usize {
        let ids = self.rig.ids(members.iter().copied());
        self.rig.recorder().fault(kind, what, ids)
    }

    /// Says so where a member has ended though nobody killed it: under the lock that whoever kills one has.
    fn note_end(&self, _: &Wounds, member: &members::Member) {
        // Where this fails, whether it runs is still known.
        let Ok(Some(status)) = member.take_ended() else {
            return;
        };
        let story = format!(
            "Member {} ended by itself: {status}. Its last words: {}",
            member.name,
            member.last_words()
        );
        self.rig.recorder().violation("a member ended", story);
    }

    fn name(&self, member: usize) -> &str {
        &self.rig.members()[member].name
    }

    fn cut(&self, one: usize, other: usize) -> Result<()> {
        let mut wounds = self.wounds();
        let link = (one.min(other), one.max(other));
        if wounds.cuts.contains_key(&link) {
            return Ok(());
        }
        let rule = self.rig.impose(Rule {
            links: BTreeSet::from([(one, other), (other, one)]),
            treatment: Treatment::Drop,
        })?;
        let (one, other) = link;
        let what = format!(
            "{} and {} do not hear each other",
            self.name(one),
            self.name(other)
        );
        wounds
            .cuts
            .insert(link, (rule, self.fault("partition", what, &[one, other])));
        Ok(())
    }

    fn heal(&self, one: usize, other: usize) -> Result<()> {
        let mut wounds = self.wounds();
        let link = (one.min(other), one.max(other));
        let Some((rule, fault)) = wounds.cuts.remove(&link) else {
            return Ok(());
        };
        self.rig.recorder().undone(fault);
        self.rig.lift(rule)
    }

    fn kill(&self, member: usize) -> Result<()> {
        let mut wounds = self.wounds();
        self.rig.members()[member].kill()?;
        if let Some(fault) = wounds.paused.remove(&member) {
            self.rig.recorder().undone(fault);
        }
        let what = format!("{} killed", self.name(member));
        wounds
            .killed
            .entry(member)
            .or_insert_with(|| self.fault("kill", what, &[member]));
        Ok(())
    }

    fn start(&self, member: usize) -> Result<()> {
        let mut wounds = self.wounds();
        // One that ended by itself is to be started, too.
        self.note_end(&wounds, &self.rig.members()[member]);
        self.rig.members()[member].start()?;
        if let Some(fault) = wounds.killed.remove(&member) {
            self.rig.recorder().undone(fault);
        }
        Ok(())
    }

    fn pause(&self, member: usize) -> Result<()> {
        let mut wounds = self.wounds();
        if !self.rig.members()[member].runs() || wounds.paused.contains_key(&member) {
            return Ok(());
        }
        self.rig.members()[member].signal("STOP")?;
        let what = format!("{} stopped, to go on later", self.name(member));
        wounds
            .paused
            .insert(member, self.fault("pause", what, &[member]));
        Ok(())
    }

    fn resume(&self, member: usize) -> Result<()> {
        let mut wounds = self.wounds();
        if let Some(fault) = wounds.paused.remove(&member) {
            self.rig.members()[member].signal("CONT")?;
            self.rig.recorder().undone(fault);
        }
        Ok(())
    }
}

impl Cluster for Live {
    fn now(&self) -> u64 {
        self.rig.recorder().now()
    }

    fn members(&self) -> Vec<Member> {
        let wounds = self.wounds();
        let members = self.rig.members().iter().enumerate();
        members
            .map(|(index, member)| {
                self.note_end(&wounds, member);
                Member {
                    id: member.id(),
                    name: member.name.clone(),
                    condition: match (wounds.paused.contains_key(&index), member.runs()) {
                        (_, false) => Condition::Stopped,
                        (true, true) => Condition::Paused,
                        (false, true) => Condition::Running,
                    },
                }
            })
            .collect()
    }

    fn cuts(&self) -> BTreeSet<(usize, usize)> {
        self.wounds().cuts.keys().copied().collect()
    }

    fn samples(&self) -> Vec<Sample> {
        let mut newest: BTreeMap<u64, Sample> = BTreeMap::new();
        self.rig.recorder().change(|recording| {
            // Some seconds of all members.
            for sample in recording.samples.iter().rev().take(100) {
                newest
                    .entry(sample.member)
                    .or_insert_with(|| sample.clone());
            }
        });
        newest.into_values().collect()
    }

    fn operations(&self, since: u64) -> Vec<Operation> {
        let mut operations = Vec::new();
        self.rig.recorder().change(|recording| {
            let first = recording
                .operations
                .partition_point(|one| one.called < since);
            operations = recording.operations[first..].to_vec();
        });
        operations
    }

    fn findings(&self) -> Vec<String> {
        let violations = self.rig.recorder().violations();
        violations.into_iter().map(|found| found.story).collect()
    }

    fn act(&self, action: Action) -> Result<()> {
        match action {
            Action::Cut(one, other) => self.cut(one, other),
            Action::Heal(one, other) => self.heal(one, other),
            Action::Kill(member) => self.kill(member),
            Action::Start(member) => self.start(member),
            Action::Pause(member) => self.pause(member),
            Action::Resume(member) => self.resume(member),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Fault, Found, Outcome, Pair, Range, Request, Response};

    #[test]
    fn what_has_its_beginning_is_judged() {
        let pair = Pair {
            key: "mix/1".into(),
            created: 7,
            modified: 7,
            version: 1,
            ..Pair::default()
        };
        let found = Found {
            pairs: vec![pair],
            count: 1,
            more: false,
        };
        let range = Range {
            key: "mix/1".into(),
            ..Range::default()
        };
        let read = |id| Operation {
            id,
            client: 1,
            member: 1,
            called: 1,
            returned: Some(5),
            request: Request::Range(range.clone()),
            outcome: Outcome::Ok {
                revision: 9,
                response: Response::Range(found.clone()),
            },
        };
        let of = |id| Recording {
            operations: vec![read(id)],
            ..Recording::default()
        };
        // Nobody has written it, as far as is known.
        assert!(!judged(&of(0)).unwrap().is_empty());
        assert_eq!(judged(&of(3)), None);
        assert_eq!(judged(&Recording::default()), Some(Vec::new()));
    }

    #[test]
    fn a_recording_begins_with_what_was_kept() {
        let operation = |called| Operation {
            id: called,
            client: 1,
            member: 1,
            called,
            returned: Some(called + 5),
            request: Request::Compact { revision: 1 },
            outcome: Outcome::Unknown {
                message: String::new(),
            },
        };
        let fault = |from, until| Fault {
            from,
            until,
            ..Fault::default()
        };
        let mut recording = Recording {
            operations: vec![operation(7_000_000), operation(7_000_020)],
            faults: vec![
                fault(1, Some(9)),
                fault(1, Some(7_000_009)),
                fault(7_000_001, None),
            ],
            ..Recording::default()
        };
        recording.run.length = 7_000_100;
        let recording = from_its_beginning(recording);
        let calls: Vec<_> = recording
            .operations
            .iter()
            .map(|it| (it.called, it.returned))
            .collect();
        assert_eq!(calls, [(0, Some(5)), (20, Some(25))]);
        let faults: Vec<_> = recording
            .faults
            .iter()
            .map(|it| (it.from, it.until))
            .collect();
        assert_eq!(faults, [(0, Some(9)), (1, None)]);
        assert_eq!(
            (recording.run.length, recording.run.began_unix_ms),
            (100, 7)
        );
    }
}
