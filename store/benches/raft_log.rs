//! Engines for the Raft log on the same load with the same durability: one table of medians over alternating rounds.
//!
//! `cargo bench -p store --bench raft_log [-- --rounds N] [--dir DIR] [--other NAME=PROGRAM]`. Another program, such as the
//! one in `raft-log-crate`, takes part under its name. The numbers of syncs are counted by `strace` where it is there.

mod load;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use load::{LOADS, Log, payload};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use store::disk::{self, log_id};
use store::env::{LogDisk, LogOp};
use store::raft::types::{Entry, Proposal};
use store::rocks::log::RocksLog;
use store::wal::Wal;

/// The two of this repository.
const ENGINES: [&str; 2] = ["rocksdb", "wal"];

struct Disk(Box<dyn LogDisk>);

impl Log for Disk {
    fn append(&mut self, first: u64, count: u64, bytes: usize) {
        let op = |index| {
            let proposal = Proposal(payload(index, bytes).into());
            let entry = Entry::new(log_id(1, index), EntryPayload::Normal(proposal));
            LogOp::Append {
                index,
                record: disk::entry_record(&entry),
            }
        };
        let ops: Vec<LogOp> = (first..first + count).map(op).collect();
        self.0.write(&ops, true).expect("written");
    }

    fn commit(&mut self, index: u64) {
        let committed = LogOp::Committed(Some(log_id(1, index)));
        self.0.write(&[committed], false).expect("written");
    }

    fn purge(&mut self, index: u64) {
        let purge = LogOp::Purge(log_id(1, index));
        self.0.write(&[purge], false).expect("written");
    }
}

fn open(engine: &str, dir: &Path) -> Box<dyn Log> {
    let disk: Box<dyn LogDisk> = match engine {
        "rocksdb" => Box::new(RocksLog::open(dir, true).expect("opened")),
        "wal" => Box::new(Wal::open(dir, true).expect("opened")),
        other => panic!("no engine {other}"),
    };
    Box::new(Disk(disk))
}

/// An engine and the program that runs it.
struct Candidate {
    name: String,
    program: PathBuf,
}

impl Candidate {
    fn command(&self, tracer: Option<&Path>) -> Command {
        let Some(report) = tracer else {
            return Command::new(&self.program);
        };
        let mut command = Command::new("strace");
        let calls = "trace=fsync,fdatasync,sync_file_range,msync";
        command.args(["-f", "-c", "-e", calls, "-o"]).arg(report);
        command.arg(&self.program);
        command
    }

    /// The figures of one run.
    fn run(&self, load: &str, dir: &Path, warm: bool, tracer: Option<&Path>) -> Vec<f64> {
        let place = dir.join("raft-log-bench");
        drop(std::fs::remove_dir_all(&place));
        std::fs::create_dir_all(&place).expect("a directory");
        let mut command = self.command(tracer);
        command.args(["--child", &self.name, load]).arg(&place);
        command.args(warm.then_some("warm"));
        let output = command.stderr(Stdio::inherit()).output().expect("it runs");
        assert!(output.status.success(), "{} {load}", self.name);
        std::fs::remove_dir_all(&place).expect("removed");
        let text = String::from_utf8(output.stdout).expect("text");
        let words = text.split_whitespace();
        words.map(|word| word.parse().expect("a number")).collect()
    }

    /// Syncs of the measured part, and of how many calls: none without strace.
    fn syncs(&self, load: &str, dir: &Path) -> Option<u64> {
        Command::new("strace").arg("-V").output().ok()?;
        let report = dir.join("raft-log-bench.strace");
        let count = |warm| {
            self.run(load, dir, warm, Some(&report));
            let text = std::fs::read_to_string(&report).ok()?;
            std::fs::remove_file(&report).ok()?;
            let total = text
                .lines()
                .find(|line| line.trim_end().ends_with("total"))?;
            total.split_whitespace().nth(3)?.parse::<u64>().ok()
        };
        Some(count(false)?.saturating_sub(count(true)?))
    }
}

fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|word| word != name).nth(1)
}

fn candidates() -> Vec<Candidate> {
    let program = std::env::current_exe().expect("this program");
    let own = ENGINES.map(|name| Candidate {
        name: name.into(),
        program: program.clone(),
    });
    let other = option("--other").map(|other| {
        let (name, program) = other.split_once('=').expect("NAME=PROGRAM");
        Candidate {
            name: name.into(),
            program: program.into(),
        }
    });
    own.into_iter().chain(other).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    if option("--child").is_some() {
        return load::child(&open);
    }
    let rounds: usize = option("--rounds").map_or(5, |rounds| rounds.parse().expect("a number"));
    let dir = option("--dir").map_or_else(std::env::temp_dir, PathBuf::from);
    let candidates = candidates();
    let mut out = std::io::stdout();
    let mut print = |line: String| writeln!(out, "{line}").expect("somebody reads");
    print(format!(
        "medians of {rounds} alternating rounds in {}",
        dir.display()
    ));
    print(
        "| load | engine | appends/s | p50 us | p99 us | bytes/entry | CPU us/entry | syncs |"
            .into(),
    );
    print("|---|---|---|---|---|---|---|---|".into());
    for load in LOADS {
        let mut figures = vec![Vec::new(); candidates.len()];
        for _ in 0..rounds {
            for (candidate, figures) in candidates.iter().zip(&mut figures) {
                figures.push(candidate.run(load.name, &dir, false, None));
            }
        }
        for (candidate, figures) in candidates.iter().zip(&figures) {
            let column = |at: usize| median(figures.iter().map(|run| run[at]).collect());
            let syncs = candidate.syncs(load.name, &dir);
            let syncs = syncs.map_or("not counted".into(), |syncs| {
                format!("{syncs} of {}", load.batches)
            });
            print(format!(
                "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {syncs} |",
                load.name,
                candidate.name,
                column(0),
                column(1),
                column(2),
                column(3),
                column(4),
            ));
        }
    }
}
