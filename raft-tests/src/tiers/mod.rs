//! Tiers: many commands one after the other within a time, whatever becomes of each, and a page about it. `smoke` is
//! for a change that is being made, `nightly` for a night.

pub mod page;
pub mod pairs;
pub mod parts;

use crate::chaos::plan::Kind;
use crate::chaos::{program, rights, say};
use crate::recording::Fault;
use anyhow::{Context, Result};
use clap::Args;
use page::Head;
use parts::{NIGHTLY, Often, Part, Program, SMOKE, groups};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Beyond its time, for a command to judge, to clean up and to end; and after it was told to end.
const OVERTIME: Duration = Duration::from_secs(300);
const ENDS: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// Less than this is not worth beginning with.
const LEAST: Duration = Duration::from_secs(5);
/// Of a part's time that is filled with what is fitted; some of it takes longer than the rest.
const FILLED: f64 = 0.9;
/// A chaos run of 45 seconds with all that comes before and after.
const GROUP: Duration = Duration::from_secs(100);

/// What `raft-tests nightly` is told.
#[derive(Args, Clone, Debug)]
pub struct NightlyArgs {
    /// How long all of it takes, or `short` for a quarter of an hour
    #[arg(long, default_value = "8", value_parser = hours)]
    hours: f64,
    #[command(flatten)]
    tier: TierArgs,
}

/// What tiers have in common.
#[derive(Args, Clone, Debug)]
pub struct TierArgs {
    /// Draw the same again, as far as the machine's timing lets it [default: something new]
    #[arg(long)]
    seed: Option<u64>,
    /// Only these parts, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the page and what failed go [default: a new one among the temporary files]
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse() {
        _ if text == "short" => Ok(0.25),
        Ok(hours) if (0.01..=200.0).contains(&hours) => Ok(hours),
        _ => Err("between 0.01 and 200, or `short`".into()),
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Sound,
    /// Something is wrong.
    Violated,
    /// As far as it went nothing is wrong.
    Incomplete,
    /// It could not be run, or had to be ended.
    Failed,
}

/// One run of a part.
#[derive(Clone, Debug)]
pub struct Ran {
    pub name: &'static str,
    pub command: String,
    /// Of its own, within that of the tier.
    pub folder: String,
    pub ended: Ended,
    pub seconds: u64,
    pub output: String,
    /// Of a chaos run, by kind.
    pub faults: BTreeMap<String, usize>,
    /// It was told when to end, and is incomplete then.
    pub bounded: bool,
}

impl Ran {
    pub fn is_bad(&self) -> bool {
        matches!(self.ended, Ended::Violated | Ended::Failed)
    }
}

/// `known` are the commands of this program.
pub async fn nightly(args: NightlyArgs, known: Vec<String>) -> ExitCode {
    let time = Duration::from_secs_f64(args.hours * 3600.0);
    tier("nightly", NIGHTLY, time, args.tier, known).await
}

/// The same with little time.
pub async fn smoke(args: TierArgs, known: Vec<String>) -> ExitCode {
    // Each of its parts ends by itself long before.
    tier("smoke", SMOKE, Duration::from_secs(60), args, known).await
}

async fn tier(
    name: &'static str,
    parts: &'static [Part],
    time: Duration,
    args: TierArgs,
    known: Vec<String>,
) -> ExitCode {
    if let Some(unknown) = unknown(parts, &args.only) {
        eprintln!("{name}: {unknown}");
        return ExitCode::from(2);
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = stopped.clone();
    let all = tokio::task::spawn_blocking(move || {
        let seed = args
            .seed
            .unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let folder = args
            .folder
            .unwrap_or_else(|| std::env::temp_dir().join(format!("kontiki-{name}-{seed:x}")));
        let mut tier = Tier::new(name, time, seed, folder, stop)?;
        tier.all(parts, &args.only, &known);
        tier.conclude()
    });
    let outcome = tokio::select! {
        outcome = all => outcome,
        () = interrupted() => {
            // What runs is told to end, and cleans up; this program ends with it.
            stopped.store(true, Ordering::SeqCst);
            say("interrupted");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            eprintln!("{name}: {error:#}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(2)
        }
    }
}

/// What is wished for and is no part, in words.
fn unknown(parts: &[Part], only: &[String]) -> Option<String> {
    let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
    let unknown = only.iter().find(|name| !names.contains(&name.as_str()))?;
    Some(format!(
        "there is no part {unknown}, only {}",
        names.join(", ")
    ))
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

struct Tier {
    head: Head,
    began: Instant,
    until: Instant,
    seed: u64,
    folder: PathBuf,
    /// A copy: what is built meanwhile does not change what is tested.
    program: PathBuf,
    stopped: Arc<AtomicBool>,
    ran: Vec<Ran>,
    missing: Vec<String>,
    /// Runs so far, also of the seed.
    runs: u64,
}

impl Tier {
    fn new(
        name: &str,
        time: Duration,
        seed: u64,
        folder: PathBuf,
        stopped: Arc<AtomicBool>,
    ) -> Result<Tier> {
        let bin = folder.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        let own = std::env::current_exe()?;
        let program = bin.join("raft-tests");
        fs::copy(&own, &program)?;
        if let Ok(kontiki) = crate::chaos::members::find_kontiki(None) {
            fs::copy(kontiki, bin.join("kontiki"))?;
        }
        let head = Head {
            tier: name.into(),
            commit: commit(),
            machine: machine(),
            began: said("date", &["-u", "+%F %T"]),
            seed,
            ..Head::default()
        };
        Ok(Tier {
            head,
            began: Instant::now(),
            until: Instant::now() + time,
            seed,
            folder: std::path::absolute(folder)?,
            program: std::path::absolute(program)?,
            stopped,
            ran: Vec::new(),
            missing: Vec::new(),
            runs: 0,
        })
    }

    fn all(&mut self, parts: &[Part], only: &[String], known: &[String]) {
        let wanted = |part: &&Part| only.is_empty() || only.iter().any(|it| it == part.name);
        let mut run: Vec<&Part> = Vec::new();
        for part in parts.iter().filter(wanted) {
            match lacking(part, known) {
                None => run.push(part),
                Some(why) => self.missing.push(format!("{}: {why}", part.name)),
            }
        }
        for (place, part) in run.iter().enumerate() {
            let shares: u32 = run[place..].iter().map(|part| part.share).sum();
            let left = self.until.saturating_duration_since(Instant::now());
            let time = left.mul_f64(f64::from(part.share) / f64::from(shares));
            if !self.is_stopped() {
                self.part(part, time);
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn part(&mut self, part: &Part, time: Duration) {
        let began = Instant::now();
        let left = || time.saturating_sub(began.elapsed());
        match part.often {
            Often::Once => self.run(part, time, 0, ""),
            Often::Fitted(trial) => {
                self.run(part, time, trial, "");
                let each = began.elapsed().as_secs_f64() / trial as f64;
                let count = (left().as_secs_f64() * FILLED / each) as u64;
                if count > 0 && left() > LEAST {
                    self.run(part, left(), count, "");
                }
            }
            Often::Groups => {
                let possible = |name: &str| {
                    let kind = name.parse::<Kind>();
                    // There is one build here.
                    let kind = kind.ok().filter(|kind| *kind != Kind::Upgrade);
                    kind.is_some_and(|kind| rights::lacking_for(kind).is_empty())
                };
                let groups = groups(possible);
                // Another one is the first each time, for where there is no time for all.
                let first = self.seed as usize % groups.len().max(1);
                for kinds in groups.iter().cycle().skip(first) {
                    if left() < GROUP || self.is_stopped() {
                        break;
                    }
                    self.run(part, GROUP, 0, kinds);
                }
            }
        }
    }

    /// Once. The folder stays where something is wrong.
    fn run(&mut self, part: &Part, time: Duration, count: u64, kinds: &str) {
        self.runs += 1;
        let name = format!("{}-{}", part.name, self.runs);
        let folder = self.folder.join(&name);
        let filled = [
            (
                "{seed}",
                self.seed.wrapping_add(1_000_000 * self.runs).to_string(),
            ),
            ("{count}", count.to_string()),
            ("{kinds}", kinds.to_string()),
            ("{seconds}", time.as_secs().max(1).to_string()),
            ("{folder}", folder.display().to_string()),
        ];
        let words: Vec<String> = part.words.iter().map(|word| fill(word, &filled)).collect();
        let mut command = match part.program {
            Program::Own => Command::new(&self.program),
            Program::With(feature) => {
                let mut cargo = Command::new("cargo");
                let build = "run --quiet --release --locked -p raft-tests --features";
                cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
                cargo.args(build.split(' ')).args([feature, "--"]);
                cargo
            }
        };
        command.args(&words);
        let shown = std::iter::once("raft-tests").chain(words.iter().map(String::as_str));
        let shown: Vec<&str> = shown.collect();
        say(&format!("== {}", shown.join(" ")));
        let began = Instant::now();
        let log = self.folder.join(format!("{name}.log"));
        let ended = self.finish(command, &log, time + OVERTIME);
        let ended = ended.unwrap_or_else(|error| {
            say(&format!("{name}: {error:#}"));
            Ended::Failed
        });
        let ran = Ran {
            name: part.name,
            command: shown.join(" "),
            folder: folder.display().to_string(),
            ended,
            seconds: began.elapsed().as_secs(),
            output: fs::read_to_string(&log).unwrap_or_default(),
            faults: faults(&folder),
            bounded: part.words.contains(&"{seconds}"),
        };
        let last = ran.output.lines().rfind(|line| !line.is_empty());
        say(&format!(
            "{ended:?} after {} s: {}",
            ran.seconds,
            last.unwrap_or_default()
        ));
        if !ran.is_bad() && folder.exists() {
            // What it holds can be large.
            let _ = fs::remove_dir_all(&folder);
        }
        self.ran.push(ran);
        if let Err(error) = self.write() {
            say(&format!("no page: {error:#}"));
        }
    }

    fn finish(&self, mut command: Command, log: &Path, patience: Duration) -> Result<Ended> {
        let out = File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let mut child = command.spawn().context("cannot be started")?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(match status.code() {
                    Some(0) => Ended::Sound,
                    Some(1) => Ended::Violated,
                    Some(2) => Ended::Incomplete,
                    _ => Ended::Failed,
                });
            }
            if Instant::now() > deadline || self.is_stopped() {
                end(&mut child)?;
                return Ok(Ended::Failed);
            }
            std::thread::sleep(POLL);
        }
    }

    fn write(&mut self) -> Result<PathBuf> {
        self.head.seconds = self.began.elapsed().as_secs();
        let path = self.folder.join(format!("{}.md", self.head.tier));
        fs::write(&path, page::page(&self.head, &self.ran, &self.missing))?;
        Ok(path)
    }

    fn conclude(mut self) -> Result<ExitCode> {
        let path = self.write()?;
        let _ = fs::remove_dir_all(self.folder.join("bin"));
        for words in &self.missing {
            say(&format!("not run: {words}"));
        }
        say(&format!(
            "{} runs in {} s: {}; see {}",
            self.ran.len(),
            self.head.seconds,
            page::verdict(&self.ran),
            path.display()
        ));
        Ok(match page::is_sound(&self.ran) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// SIGTERM, on which it cleans up; SIGKILL where it does not.
fn end(child: &mut Child) -> Result<()> {
    program::run("kill", &["-TERM", &child.id().to_string()])?;
    let deadline = Instant::now() + ENDS;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn fill(word: &str, with: &[(&str, String)]) -> String {
    let filled = with.iter().find(|(name, _)| *name == word);
    filled.map_or_else(|| word.to_string(), |(_, value)| value.clone())
}

/// Why a part cannot be run here, if so.
fn lacking(part: &Part, known: &[String]) -> Option<String> {
    let first = part.words[0];
    match part.program {
        Program::With(feature) => {
            let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
            let manifest = fs::read_to_string(manifest).unwrap_or_default();
            let has = manifest
                .lines()
                .any(|line| line.starts_with(&format!("{feature} = ")));
            (!has).then(|| format!("there is no feature {feature} to build"))
        }
        Program::Own if !known.iter().any(|it| it == first) => {
            Some(format!("this program has no command {first}"))
        }
        Program::Own if ["chaos", "measure"].contains(&first) => {
            let lacking = rights::lacking();
            (!lacking.is_empty()).then(|| format!("lacking: {}", lacking.join(", ")))
        }
        Program::Own => None,
    }
}

fn faults(folder: &Path) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    let text = fs::read_to_string(folder.join("faults.json")).unwrap_or_default();
    let faults: Vec<Fault> = serde_json::from_str(&text).unwrap_or_default();
    for fault in faults {
        *count.entry(fault.kind).or_default() += 1;
    }
    count
}

/// What a program says, on one line; nothing where it cannot be asked.
fn said(program: &str, arguments: &[&str]) -> String {
    let said = program::run(program, arguments).unwrap_or_default();
    said.trim().to_string()
}

fn commit() -> String {
    let here = env!("CARGO_MANIFEST_DIR");
    said("git", &["-C", here, "describe", "--always", "--dirty"])
}

fn machine() -> String {
    let field = |path: &str, name: &str| -> String {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(':'));
        line.map_or(String::new(), |(_, value)| value.trim().to_string())
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{processors} x {}, memory {}, Linux {}",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        said("uname", &["-r"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_are_filled_in() {
        let with = [("{seed}", "7".to_string())];
        assert_eq!(fill("{seed}", &with), "7");
        assert_eq!(fill("--seed", &with), "--seed");
    }

    #[test]
    fn a_part_without_its_command_is_left_out() {
        let part = &NIGHTLY[2];
        assert!(lacking(part, &["sim".into()]).is_none());
        assert!(
            lacking(part, &["chaos".into()])
                .unwrap()
                .contains("no command sim")
        );
    }

    #[test]
    fn only_parts_are_wished_for() {
        assert_eq!(unknown(SMOKE, &["chaos".into(), "sim".into()]), None);
        let said = unknown(SMOKE, &["sim".into(), "sims".into()]);
        assert_eq!(
            said.as_deref(),
            Some("there is no part sims, only sim, chaos")
        );
    }

    #[test]
    fn hours_are_bounded() {
        assert_eq!(hours("short"), Ok(0.25));
        assert_eq!(hours("8"), Ok(8.0));
        assert!(hours("0").is_err() && hours("x").is_err());
    }

    /// Whatever becomes of the ones before, the others are run, and the page tells of all.
    #[test]
    fn a_failure_does_not_end_the_tier() {
        let folder = tempfile::tempdir().unwrap();
        let mut tier = Tier {
            head: Head::default(),
            began: Instant::now(),
            until: Instant::now() + Duration::from_secs(60),
            seed: 1,
            folder: folder.path().into(),
            program: "sh".into(),
            stopped: Arc::default(),
            ran: Vec::new(),
            missing: Vec::new(),
            runs: 0,
        };
        let part = |name, words| Part {
            name,
            program: Program::Own,
            words,
            share: 1,
            often: Often::Once,
        };
        let parts = [
            part("a", &["-c", "echo bad; exit 1"]),
            part("b", &["-c", "exit 2"]),
            part("c", &["-c", "kill -9 $$"]),
            part("d", &["-c", "echo good"]),
        ];
        tier.all(
            &parts,
            &["a".into(), "b".into(), "c".into(), "d".into()],
            &["-c".into()],
        );
        let ended: Vec<Ended> = tier.ran.iter().map(|run| run.ended).collect();
        let expected = [
            Ended::Violated,
            Ended::Incomplete,
            Ended::Failed,
            Ended::Sound,
        ];
        assert_eq!(ended, expected);
        assert_eq!(tier.ran[3].output, "good\n");
        assert_eq!(tier.conclude().unwrap(), ExitCode::FAILURE);
        let page = fs::read_to_string(folder.path().join(".md")).unwrap();
        assert!(page.contains("FAILED") && page.contains("good"));
    }
}
