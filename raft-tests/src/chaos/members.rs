//! The members: real processes of the binary under test, each in a namespace of its own, started as `deploy/systemd`
//! does: with the environment file that `kontiki pki` made for its machine.

use super::clock;
use super::disk::Disk;
use super::door;
use super::program;
use super::space::Space;
use super::topology::{address, member_name};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The state is flushed after so many entries, and so many stay in the log: small, so that a member that was away for
/// some seconds needs a snapshot.
pub const SNAPSHOT_ENTRIES: u64 = 100;
pub const LOG_ENTRIES_KEPT: u64 = 50;
/// All that is stored is read again within so many seconds, so that damage is found while the run is on.
pub const SCRUB_SECONDS: u64 = 8;
/// SIGTERM to the end: what the unit in `deploy/systemd` grants.
const STOP: Duration = Duration::from_secs(30);
/// For a command of the command line to end.
const COMMAND: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(10);

/// How large the log and its intervals are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// See [`SNAPSHOT_ENTRIES`].
    Small,
    /// As the program has them.
    Default,
}

/// What all members are started with.
pub struct Installation {
    pub kontiki: PathBuf,
    /// Another build, where members of two are to make up one cluster.
    pub other: Option<PathBuf>,
    pub limits: Limits,
    /// What `kontiki pki` keeps.
    pub bundle: PathBuf,
    /// Where logs go.
    pub logs: PathBuf,
    /// The library that moves clocks, where they are to be moved.
    pub clock_library: Option<PathBuf>,
    /// The run is over, and nothing is started any more.
    pub closed: AtomicBool,
}

impl Installation {
    /// Certificates of a new cluster.
    pub fn make_certificates(&self, count: usize) -> Result<()> {
        self.make_certificates_of(&(0..count).collect::<Vec<_>>())
    }

    /// Of one with these members.
    pub fn make_certificates_of(&self, members: &[usize]) -> Result<()> {
        let host = |index: &usize| format!("{}={}", member_name(*index), address(*index));
        let members: Vec<String> = members.iter().map(host).collect();
        self.pki(&["--members", &members.join(",")])
    }

    fn pki(&self, arguments: &[&str]) -> Result<()> {
        let kontiki = self.kontiki.to_string_lossy();
        let bundle = self.bundle.to_string_lossy();
        let mut words = vec!["pki", "--dir", &bundle];
        words.extend(arguments);
        program::run(&kontiki, &words).map(|_| ())
    }
}

/// One of them.
pub struct Member {
    pub index: usize,
    pub name: String,
    pub space: Arc<Space>,
    pub disk: Option<Disk>,
    installation: Arc<Installation>,
    /// Changes when it is removed and added again.
    id: AtomicU64,
    data: PathBuf,
    clock: PathBuf,
    process: Mutex<Option<Child>>,
    /// Whether it is started with the other binary.
    other: AtomicBool,
    /// A fault is under way that may end it.
    excused: AtomicBool,
}

impl Member {
    /// Not started. `folder` is for its data where it has no disk of its own, and for its clock.
    pub fn new(
        index: usize,
        space: Arc<Space>,
        disk: Option<Disk>,
        installation: Arc<Installation>,
        folder: &Path,
    ) -> Result<Member> {
        let name = member_name(index);
        let data = match &disk {
            Some(disk) => disk.point().join("data"),
            None => folder.join(format!("data-{name}")),
        };
        let member = Member {
            index,
            space,
            disk,
            installation,
            id: AtomicU64::new(0),
            data,
            clock: folder.join(format!("clock-{name}")),
            process: Mutex::new(None),
            other: AtomicBool::new(false),
            excused: AtomicBool::new(false),
            name,
        };
        clock::make(&member.clock)?;
        member.read_id()?;
        Ok(member)
    }

    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Whether it runs, or is started next, with the other binary.
    pub fn runs_other(&self) -> bool {
        self.other.load(Ordering::SeqCst)
    }

    /// From its next start on.
    pub fn set_other(&self, other: bool) {
        self.other.store(other, Ordering::SeqCst);
    }

    /// What it is started with.
    pub fn binary(&self) -> &Path {
        match &self.installation.other {
            Some(other) if self.runs_other() => other,
            _ => &self.installation.kontiki,
        }
    }

    pub fn id(&self) -> u64 {
        self.id.load(Ordering::SeqCst)
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn log(&self) -> PathBuf {
        self.installation.logs.join(format!("{}.log", self.name))
    }

    fn environment(&self) -> Result<BTreeMap<String, String>> {
        let folder = self.folder();
        let file = folder.join("server.env");
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let lines = text.lines().filter_map(|line| line.split_once('='));
        let mut environment: BTreeMap<String, String> = lines
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        let mut own = vec![
            ("KONTIKI_DATA_DIR", self.data.display().to_string()),
            ("KONTIKI_PKI_DIR", folder.join("pki").display().to_string()),
        ];
        if self.installation.limits == Limits::Small {
            own.extend([
                ("KONTIKI_SNAPSHOT_ENTRIES", SNAPSHOT_ENTRIES.to_string()),
                ("KONTIKI_LOG_ENTRIES_KEPT", LOG_ENTRIES_KEPT.to_string()),
                ("KONTIKI_SCRUB_SECONDS", SCRUB_SECONDS.to_string()),
            ]);
        }
        let own = own.into_iter();
        environment.extend(own.map(|(key, value)| (key.to_string(), value)));
        if let Some(library) = &self.installation.clock_library {
            environment.extend(clock::environment(library, &self.clock));
        }
        Ok(environment)
    }

    fn folder(&self) -> PathBuf {
        self.installation
            .bundle
            .join(format!("member-{}", self.name))
    }

    fn read_id(&self) -> Result<()> {
        let environment = self.environment()?;
        let id = environment
            .get("KONTIKI_MEMBER_ID")
            .and_then(|id| u64::from_str_radix(id, 16).ok())
            .with_context(|| format!("member {} has no id in its server.env", self.name))?;
        self.id.store(id, Ordering::SeqCst);
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it, unless it runs.
    pub fn start(&self) -> Result<()> {
        let mut process = self.process();
        if process.is_some() || self.installation.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let kontiki = self.binary().to_path_buf();
        let environment = self.environment()?;
        let spawned = self.space.within(move || {
            // When this program ends, however it does, its members end with it.
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .arg(kontiki)
                .args(["server", "--no-agents"])
                .envs(environment)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
        })?;
        *process = Some(spawned.with_context(|| format!("cannot start member {}", self.name))?);
        Ok(())
    }

    pub fn runs(&self) -> bool {
        self.process().is_some()
    }

    /// Of the process, if it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Child::id)
    }

    /// SIGKILL. Returns when the process is gone.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut process) = self.process().take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end. An error where it has to be killed.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.ends_within(STOP)?
            .with_context(|| format!("member {} did not stop in time", self.name))
    }

    /// Waits for a process that is to end by itself. It is killed where it does not, and then there is no status.
    pub fn ends_within(&self, patience: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.take_ended()? {
                return Ok(Some(status));
            }
            if !self.runs() {
                bail!("member {} does not run", self.name);
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
        let mut process = self.process();
        let Some(child) = process.as_mut() else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            *process = None;
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

    /// Whether a fault is under way that may end it.
    pub fn is_excused(&self) -> bool {
        self.excused.load(Ordering::SeqCst)
    }

    pub fn excuse(&self, excused: bool) {
        self.excused.store(excused, Ordering::SeqCst);
    }

    /// So many seconds ahead of the true time, or behind it.
    pub fn set_clock(&self, seconds: i64) -> Result<()> {
        clock::set(&self.clock, seconds)
    }

    /// Empties its data directory, and makes it the member of this id.
    pub fn begin_anew(&self, id: u64) -> Result<()> {
        if self.data.exists() {
            std::fs::remove_dir_all(&self.data)?;
        }
        let host = format!("{}={}", self.name, address(self.index));
        let id = format!("{id:x}");
        self.installation
            .pki(&["--add-member", &host, "--member-id", &id])?;
        self.read_id()
    }

    /// `kontiki store` with these words, on this member's machine. Answers what it printed.
    pub fn store_command(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.installation.kontiki);
        let file = |name: &str| self.installation.bundle.join(name);
        command
            .arg("store")
            .args(words)
            .args(["--endpoints", &format!("https://127.0.0.1:{}", door::PORT)])
            .args(["--cacert".as_ref(), file("ca.crt").as_os_str()])
            .args(["--cert".as_ref(), file("store-admin.crt").as_os_str()])
            .args(["--key".as_ref(), file("store-admin.key").as_os_str()]);
        self.space
            .within(move || program::finish(command, "", COMMAND))?
    }

    /// etcd's own client with these words, on this member's machine. Answers what it printed.
    pub fn etcdctl(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("etcdctl");
        let file = |name: &str| self.installation.bundle.join(name);
        command
            .env("ETCDCTL_API", "3")
            .args(words)
            .arg(format!("--endpoints=https://127.0.0.1:{}", door::PORT))
            .args(["--cacert".as_ref(), file("ca.crt").as_os_str()])
            .args(["--cert".as_ref(), file("store-admin.crt").as_os_str()])
            .args(["--key".as_ref(), file("store-admin.key").as_os_str()]);
        self.space
            .within(move || program::finish(command, "", COMMAND))?
    }

    /// Makes its data directory out of a saved copy, as the guide for several hosts says.
    pub fn restore(&self, file: &Path) -> Result<()> {
        let mut command = Command::new(&self.installation.kontiki);
        command
            .args(["store", "restore"])
            .arg(file)
            .envs(self.environment()?);
        program::finish(command, "", COMMAND).map(|_| ())
    }

    /// The last lines of its log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Bytes of its log so far.
    pub fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.log()).map_or(0, |log| log.len())
    }
}

impl Member {
    /// Whether it has said this since its log had so many bytes.
    pub fn says_since(&self, bytes: u64, words: &str) -> bool {
        let log = std::fs::read(self.log()).unwrap_or_default();
        let since = log.get(bytes as usize..).unwrap_or_default();
        String::from_utf8_lossy(since).contains(words)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("member {} is left: {error}", self.name);
        }
    }
}

/// The binary under test: the one that was named, or the one beside this program, where one build puts both.
pub fn find_kontiki(named: Option<&Path>) -> Result<PathBuf> {
    let beside = || -> Result<PathBuf> {
        let program = std::env::current_exe()?;
        let folders = program.ancestors().skip(1).take(2);
        let mut found = folders.map(|folder| folder.join("kontiki"));
        found.find(|path| path.is_file()).ok_or_else(|| {
            anyhow!(
                "there is no kontiki beside {}: build it (cargo build -p kontiki, in the same profile), or say where it \
                 is with --kontiki",
                program.display()
            )
        })
    };
    named_kontiki(&named.map_or_else(beside, |path| Ok(path.to_path_buf()))?)
}

/// One that was named.
pub fn named_kontiki(path: &Path) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("there is no {}", path.display());
    }
    Ok(std::path::absolute(path)?)
}
