//! What the figures depend on and this program cannot choose: the cores, the disk, and the versions.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{Setting, median, say};

/// Appends of this size are what a small put makes in either log.
const APPEND_BYTES: usize = 512;
const APPENDS: usize = 200;

pub(crate) fn describe(setting: &Setting) -> Result<()> {
    host(setting)?;
    say(&format!(
        "versions: {}; {}",
        first_line(Command::new(&setting.kontiki).arg("--version")),
        first_line(Command::new("etcd").arg("--version"))
    ));
    Ok(())
}

/// Where nothing else is measured beside it.
pub(crate) fn describe_alone(setting: &Setting) -> Result<()> {
    host(setting)?;
    let version = first_line(Command::new(&setting.kontiki).arg("--version"));
    say(&format!("version: {version}"));
    Ok(())
}

fn host(setting: &Setting) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    say(&format!(
        "machine: {cores} cores; data in {} ({})",
        setting.dir.display(),
        first_line(
            Command::new("stat")
                .args(["-f", "-c", "%T"])
                .arg(&setting.dir)
        )
    ));
    say(&format!(
        "disk: an append of {APPEND_BYTES} bytes with fdatasync takes {:.2} ms (median of {APPENDS})",
        sync_ms(&setting.dir)?
    ));
    Ok(())
}

fn first_line(command: &mut Command) -> String {
    match command.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().next().unwrap_or_default().to_string()
        }
        Err(error) => format!("{}: {error}", command.get_program().display()),
    }
}

fn sync_ms(dir: &Path) -> Result<f64> {
    let mut file =
        tempfile::tempfile_in(dir).with_context(|| format!("cannot write in {}", dir.display()))?;
    let mut times = Vec::new();
    for _ in 0..APPENDS {
        let began = Instant::now();
        file.write_all(&[b'x'; APPEND_BYTES])?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(&times))
}
