//! Wall clocks that jump, each for one member: a small library in C, made for the run by the machine's compiler and
//! loaded before the C library. libfaketime is of no use here: it allocates memory before it knows the time, and the
//! binary's allocator asks for the time before it has any.

use super::program;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

const SOURCE: &str = include_str!("clock.c");
/// Where a process finds its clock.
const VARIABLE: &str = "KONTIKI_CHAOS_CLOCK";

/// Makes the library.
pub fn make_library(folder: &Path) -> Result<PathBuf> {
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    fs::write(&source, SOURCE)?;
    let (from, to) = (source.to_string_lossy(), library.to_string_lossy());
    program::run("cc", &["-shared", "-fPIC", "-O2", "-o", &to, &from])
        .context("cannot make the library for clocks")?;
    Ok(library)
}

/// A clock that is right. The file stays the same one, which processes have mapped.
pub fn make(file: &Path) -> Result<()> {
    Ok(fs::write(file, 0_i64.to_ne_bytes())?)
}

/// Sets it so many seconds ahead of the true time, or behind.
pub fn set(file: &Path, seconds: i64) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(file)?;
    Ok(file.write_all_at(&seconds.to_ne_bytes(), 0)?)
}

/// What a process is started with that has this clock.
pub fn environment(library: &Path, file: &Path) -> [(String, String); 2] {
    [
        ("LD_PRELOAD".into(), library.display().to_string()),
        (VARIABLE.into(), file.display().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn a_clock_is_set_for_one_process_alone() {
        if !program::have("cc") {
            eprintln!("SKIPPED: cc is not installed");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let library = make_library(folder.path()).unwrap();
        let file = folder.path().join("clock");
        make(&file).unwrap();
        let seen = || -> i64 {
            let mut date = Command::new("date");
            date.arg("+%s").envs(environment(&library, &file));
            let said = program::finish(date, "", std::time::Duration::from_secs(10)).unwrap();
            said.trim().parse().unwrap()
        };
        let now = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            i64::try_from(now.as_secs()).unwrap()
        };
        assert!((seen() - now()).abs() < 60);
        set(&file, -3500).unwrap();
        assert!((seen() + 3500 - now()).abs() < 60);
    }
}
