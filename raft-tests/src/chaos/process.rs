//! A process of the binary under test on one of the machines, which a unit of `deploy/systemd` would keep running there.

use super::members::Installation;
use super::program;
use super::space::Space;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// SIGTERM to the end: what the units in `deploy/systemd` grant.
const STOP: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// Running, or not. It ends with this.
pub struct Process {
    /// For people.
    what: String,
    space: Arc<Space>,
    installation: Arc<Installation>,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Not started. `name` is that of its log.
    pub fn new(
        what: String,
        name: &str,
        space: Arc<Space>,
        installation: Arc<Installation>,
    ) -> Process {
        Process {
            log: installation.logs.join(format!("{name}.log")),
            what,
            space,
            installation,
            child: Mutex::default(),
        }
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it with these words and this environment, unless it runs, or the run is over.
    pub fn spawn(
        &self,
        binary: &Path,
        words: &'static [&'static str],
        environment: BTreeMap<String, String>,
    ) -> Result<()> {
        let mut child = self.child();
        if child.is_some() || self.installation.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let binary = binary.to_path_buf();
        let spawned = self.space.within(move || {
            // When this program ends, however it does, its processes end with it.
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .arg(binary)
                .args(words)
                .envs(environment)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
        })?;
        *child = Some(spawned.with_context(|| format!("cannot start {}", self.what))?);
        Ok(())
    }

    pub fn runs(&self) -> bool {
        self.child().is_some()
    }

    /// Of the process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// SIGKILL. Returns when the process is gone.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut child) = self.child().take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end. An error where it has to be killed.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.ends_within(STOP)?
            .with_context(|| format!("{} did not stop in time", self.what))
    }

    /// Waits for a process that is to end by itself. It is killed where it does not, and then there is no status.
    pub fn ends_within(&self, patience: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.take_ended()? {
                return Ok(Some(status));
            }
            if !self.runs() {
                bail!("{} does not run", self.what);
            }
            if Instant::now() > deadline {
                self.kill()?;
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// How the process ended, if it has; then none runs any more.
    pub fn take_ended(&self) -> Result<Option<ExitStatus>> {
        let mut running = self.child();
        let Some(child) = running.as_mut() else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            *running = None;
        }
        Ok(status)
    }

    /// By its name without SIG. Nothing happens where no process runs.
    pub fn signal(&self, name: &str) -> Result<()> {
        match self.pid() {
            Some(pid) => program::run("kill", &[&format!("-{name}"), &pid.to_string()]).map(|_| ()),
            None => Ok(()),
        }
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Bytes of its log so far.
    pub fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// Whether it has said this since its log had so many bytes.
    pub fn says_since(&self, bytes: u64, words: &str) -> bool {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let since = log.get(bytes as usize..).unwrap_or_default();
        String::from_utf8_lossy(since).contains(words)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{} is left: {error}", self.what);
        }
    }
}

/// What an environment file sets.
pub fn settings(file: &Path) -> Result<BTreeMap<String, String>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let settings = lines.map(|(key, value)| (key.to_string(), value.to_string()));
    Ok(settings.collect())
}
