//! `raft-tests judge`: the judges again on a recording, or on recordings of perfect clusters, which they must pass.

use super::{judge, simulated};
use crate::recording::{Recording, Violation};
use crate::report;
use anyhow::{Context, Result};
use clap::Args;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Judge the recording of a run again, and write its page; or look how the judges do
#[derive(Debug, Args)]
pub struct Judge {
    /// The recording.json of a run
    #[arg(long, value_name = "FILE", required_unless_present = "perfect")]
    recording: Option<PathBuf>,
    /// Where the page and what belongs to it is written [default: nowhere]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// So many random recordings of a perfect cluster instead: whatever is said against one is wrong
    #[arg(long, value_name = "COUNT", conflicts_with = "recording", value_parser = clap::value_parser!(u64).range(1..))]
    perfect: Option<u64>,
    /// Seed of the first of them; the next one has the next
    #[arg(long, default_value_t = 1, requires = "perfect")]
    seed: u64,
    /// Each has so many steps [default: from 1 to 250, by its seed]
    #[arg(long, requires = "perfect")]
    steps: Option<usize>,
    /// Print all of a recording that something is said against
    #[arg(long)]
    show: bool,
    /// Say how long it took
    #[arg(long)]
    time: bool,
}

/// What is wrong, one line each.
pub fn run(wish: &Judge, say: &dyn Fn(String)) -> Result<Vec<String>> {
    if let Some(count) = wish.perfect {
        return Ok(perfect(wish, count, say));
    }
    let path = wish.recording.as_deref().context("no recording is named")?;
    let recording = read(path)?;
    let found = timed(wish, &recording, say);
    if let Some(folder) = &wish.out {
        report::write(folder, &recording, &found)
            .with_context(|| format!("cannot write into {}", folder.display()))?;
    }
    Ok(found.iter().map(line).collect())
}

fn perfect(wish: &Judge, count: u64, say: &dyn Fn(String)) -> Vec<String> {
    let mut lines = Vec::new();
    let mut objected = 0;
    for seed in (0..count).map(|number| wish.seed.wrapping_add(number)) {
        let steps = wish.steps.unwrap_or(usual_steps(seed));
        let recording = simulated::perfect(seed, steps);
        let found = timed(wish, &recording, say);
        objected += u64::from(!found.is_empty());
        let of_seed = |violation| format!("seed {seed}, {steps} steps: {}", line(violation));
        lines.extend(found.iter().map(of_seed));
    }
    say(format!(
        "{objected} of {count} perfect recordings were objected to"
    ));
    lines
}

/// Short ones and long ones, whatever the seeds.
fn usual_steps(seed: u64) -> usize {
    1 + (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % 250
}

fn timed(wish: &Judge, recording: &Recording, say: &dyn Fn(String)) -> Vec<Violation> {
    let began = Instant::now();
    let found = judge(recording);
    let took = began.elapsed();
    if wish.time {
        let (operations, watches) = (recording.operations.len(), recording.watches.len());
        say(format!(
            "{operations} operations, {watches} watches: judged in {took:.1?}"
        ));
    }
    if wish.show && !found.is_empty() {
        recording
            .operations
            .iter()
            .for_each(|o| say(format!("{o:?}")));
        recording.watches.iter().for_each(|w| say(format!("{w:?}")));
        recording.dumps.iter().for_each(|d| say(format!("{d:?}")));
    }
    found
}

fn line(violation: &Violation) -> String {
    format!("{}: {}", violation.rule, violation.story)
}

fn read(path: &Path) -> Result<Recording> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    serde_json::from_reader(BufReader::new(file))
        .with_context(|| format!("{} is no recording", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Dump, Pair};
    use clap::Parser;
    use std::cell::RefCell;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        judge: Judge,
    }

    fn wish(words: &[&str]) -> Judge {
        let words = ["judge"].iter().chain(words);
        Cli::try_parse_from(words).unwrap().judge
    }

    #[test]
    fn a_recording_is_judged_as_in_its_run() {
        let folder = tempfile::tempdir().unwrap();
        let dump = |member: u64, value: &str| Dump {
            member,
            revision: 2,
            pairs: vec![Pair {
                key: "k".into(),
                value: value.into(),
                created: 2,
                modified: 2,
                version: 1,
                lease: 0,
            }],
            ..Dump::default()
        };
        let recording = Recording {
            dumps: vec![dump(1, "x"), dump(2, "y")],
            ..Recording::default()
        };
        let file = folder.path().join("recording.json");
        let out = folder.path().join("out");
        std::fs::write(&file, serde_json::to_vec(&recording).unwrap()).unwrap();
        let [file, to] = [&file, &out].map(|path| path.to_str().unwrap());
        let lines = run(&wish(&["--recording", file, "--out", to]), &|_| {}).unwrap();
        assert_eq!(lines.len(), judge(&recording).len());
        assert!(!lines.is_empty());
        assert!(out.join("report.html").exists());
    }

    #[test]
    fn perfect_recordings_are_counted_and_timed() {
        let said = RefCell::new(Vec::new());
        let say = |line| said.borrow_mut().push(line);
        let wish = wish(&["--perfect", "2", "--seed", "5", "--steps", "40", "--time"]);
        assert_eq!(run(&wish, &say).unwrap(), Vec::<String>::new());
        let said = said.into_inner();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].contains(" operations, "), "{said:?}");
        assert_eq!(said[2], "0 of 2 perfect recordings were objected to");
    }
}
