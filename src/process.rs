//! Background processes of a local cluster: start with a log file, find again by pid file, stop.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// One process, known by the directory that its pid file and log are in.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) dir: PathBuf,
    /// Second word of its command line: `server`, `agent` or `hollow`.
    pub(crate) role: &'static str,
}

impl Process {
    fn pid_file(&self) -> PathBuf {
        self.dir.join("pid")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The pid, if the process runs. A pid that has gone to another program does not count.
    pub(crate) fn running(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(self.pid_file())
            .ok()?
            .trim()
            .parse()
            .ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        // Hollow nodes have no data.
        let dirs = ["data", "pki"].map(|name| self.dir.join(name));
        let is_dir = |word: &[u8]| {
            let mut dirs = dirs.iter();
            dirs.any(|dir| dir.as_os_str().as_encoded_bytes() == word)
        };
        let ours =
            words.get(1) == Some(&self.role.as_bytes()) && words.iter().any(|word| is_dir(word));
        (ours && !is_zombie(pid)).then_some(pid)
    }

    /// The words of its command line, after the program; none if it does not run.
    pub(crate) fn command_line(&self) -> Vec<String> {
        let line = self
            .running()
            .and_then(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok());
        let line = line.unwrap_or_default();
        let words = line.split(|byte| *byte == 0).skip(1);
        words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }

    /// Starts `program` in the background as `kontiki <arguments>`, its output appended to the log.
    pub(crate) fn start(&self, program: &Path, arguments: &[String]) -> Result<u32> {
        crate::pki::create_private_dir(&self.dir)?;
        let log = self.log_file();
        let open = || OpenOptions::new().create(true).append(true).open(&log);
        let out: File = open().with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone()?;
        let child = Command::new(program)
            .arg0("kontiki")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // Not in the terminal's foreground group: Ctrl-C in the shell that ran `up` is not for the cluster.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let pid = child.id();
        fs::write(self.pid_file(), pid.to_string()).context("cannot write the pid file")?;
        // Between the spawn and the end of its exec the child has no command line yet, and would not look like ours.
        let patience = Instant::now() + Duration::from_secs(2);
        while fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty())
            && !is_zombie(pid)
            && Instant::now() < patience
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A child that ends while `up` still waits would stay a zombie, and look alive: reap it.
        std::thread::spawn(move || {
            let mut child = child;
            let _ = child.wait();
        });
        Ok(pid)
    }

    /// SIGTERM, and SIGKILL after `patience`. True if it ran.
    pub(crate) fn stop(&self, patience: Duration) -> Result<bool> {
        let Some(pid) = self.running() else {
            return Ok(false);
        };
        signal(pid, "TERM")?;
        let deadline = Instant::now() + patience;
        while self.running().is_some() {
            if Instant::now() > deadline {
                signal(pid, "KILL")?;
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        while self.running().is_some() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(true)
    }

    /// The last lines of the log, for an error message.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

fn signal(pid: u32, name: &str) -> Result<()> {
    // `kill` is in every Debian; calling it keeps this program free of unsafe code.
    let status = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid.to_string())
        .status();
    status.with_context(|| format!("cannot send SIG{name} to {pid}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_of_another_program_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let process = Process {
            dir: dir.path().to_path_buf(),
            role: "server",
        };
        assert_eq!(process.running(), None);
        fs::write(dir.path().join("pid"), std::process::id().to_string()).unwrap();
        assert_eq!(process.running(), None);
    }

    #[test]
    fn starts_finds_and_stops() {
        let dir = tempfile::tempdir().unwrap();
        let process = Process {
            dir: dir.path().to_path_buf(),
            role: "-c",
        };
        let data = dir.path().join("data").display().to_string();
        // `sh -c script name args`: the script waits for a signal, and takes its child with it; the data directory
        // stands in its arguments.
        let script = "trap 'kill $!; exit' TERM; sleep 1000 & wait";
        let line = ["-c", script, "kontiki", &data].map(String::from);
        process.start(Path::new("/bin/sh"), &line).unwrap();
        assert!(process.running().is_some());
        assert!(process.stop(Duration::from_secs(5)).unwrap());
        assert!(!process.stop(Duration::from_secs(5)).unwrap());
    }
}
