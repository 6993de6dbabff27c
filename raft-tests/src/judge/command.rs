//! `raft-tests judge`: the judges again, on a recording.

use super::judge;
use crate::recording::Recording;
use crate::report;
use anyhow::{Context, Result};
use clap::Args;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Judge the recording of a run again, and write its page
#[derive(Debug, Args)]
pub struct Judge {
    /// The recording.json of a run
    #[arg(long, value_name = "FILE")]
    recording: PathBuf,
    /// Where the page and what belongs to it is written [default: nowhere]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// What is wrong, one line each.
pub fn run(wish: &Judge) -> Result<Vec<String>> {
    let recording = read(&wish.recording)?;
    let found = judge(&recording);
    if let Some(folder) = &wish.out {
        report::write(folder, &recording, &found)
            .with_context(|| format!("cannot write into {}", folder.display()))?;
    }
    let line = |violation: &crate::recording::Violation| {
        format!("{}: {}", violation.rule, violation.story)
    };
    Ok(found.iter().map(line).collect())
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
        std::fs::write(&file, serde_json::to_vec(&recording).unwrap()).unwrap();
        let wish = Judge {
            recording: file,
            out: Some(folder.path().join("out")),
        };
        let lines = run(&wish).unwrap();
        assert_eq!(lines.len(), judge(&recording).len());
        assert!(!lines.is_empty());
        assert!(folder.path().join("out/report.html").exists());
    }
}
