//! `raft-tests report`: the page again, from a recording.

use super::write;
use crate::judge::judge;
use crate::recording::{Recording, Violation};
use anyhow::{Context, Result};
use clap::Args;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Write the page of a run again, from its recording
#[derive(Debug, Args)]
pub struct Report {
    /// The recording.json of a run. A violations.json beside it is taken along; where there is none, the
    /// judges are asked
    #[arg(long, value_name = "FILE")]
    recording: PathBuf,
    /// Where report.html and what belongs to it is written [default: beside the recording]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Writes it, and gives the path of the page.
pub fn run(report: &Report) -> Result<PathBuf> {
    let beside = report.recording.parent().unwrap_or(Path::new(""));
    let recording: Recording = read(&report.recording)?;
    let found = beside.join("violations.json");
    let violations: Vec<Violation> = match found.exists() {
        true => read(&found)?,
        false => judge(&recording),
    };
    let folder = report.out.as_deref().unwrap_or(beside);
    write(folder, &recording, &violations)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    Ok(folder.join("report.html"))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    serde_json::from_reader(BufReader::new(file))
        .with_context(|| format!("{} is not what it should be", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Dump;
    use std::fs;

    fn recording() -> Recording {
        let mut recording = Recording::default();
        recording.run.level = "sim".into();
        recording.run.seed = u64::MAX;
        recording
    }

    #[test]
    fn the_page_is_written_again_with_what_was_found() {
        let folder = tempfile::tempdir().unwrap();
        let violation = Violation {
            rule: "lost write".into(),
            ..Violation::default()
        };
        write(folder.path(), &recording(), &[violation]).unwrap();
        let first = fs::read_to_string(folder.path().join("report.html")).unwrap();
        let again = Report {
            recording: folder.path().join("recording.json"),
            out: Some(folder.path().join("deeper/again")),
        };
        let page = fs::read_to_string(run(&again).unwrap()).unwrap();
        assert!(first.contains("lost write") && page == first);
        let copy = folder.path().join("deeper/again/recording.json");
        assert_eq!(read::<Recording>(&copy).unwrap(), recording());
        let faults = folder.path().join("deeper/again/faults.json");
        assert_eq!(fs::read_to_string(faults).unwrap(), "[]\n");
    }

    #[test]
    fn a_recording_alone_is_judged() {
        let folder = tempfile::tempdir().unwrap();
        let mut recording = recording();
        let dump = |member, revision| Dump {
            member,
            revision,
            ..Dump::default()
        };
        recording.dumps = vec![dump(1, 5), dump(2, 6)];
        write(folder.path(), &recording, &[]).unwrap();
        fs::remove_file(folder.path().join("violations.json")).unwrap();
        let report = Report {
            recording: folder.path().join("recording.json"),
            out: None,
        };
        let page = fs::read_to_string(run(&report).unwrap()).unwrap();
        assert!(page.contains(">Failed</span>"));
    }

    #[test]
    fn what_is_no_recording_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recording.json");
        fs::write(&file, "{}").unwrap();
        let report = Report {
            recording: file,
            out: None,
        };
        let error = format!("{:#}", run(&report).unwrap_err());
        assert!(
            error.contains("recording.json is not what it should be"),
            "{error}"
        );
        assert!(error.contains("missing field"), "{error}");
    }
}
