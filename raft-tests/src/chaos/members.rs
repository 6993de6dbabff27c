//! The members: real processes of the binary under test, each in a namespace of its own, started as `deploy/systemd`
//! does: with the environment file that `kontiki pki` made for its machine.

use super::clock;
use super::disk::Disk;
use super::door;
use super::process::{Process, settings};
use super::program;
use super::space::Space;
use super::topology::{address, member_name};
use crate::kube::kubelet::node;
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The state is flushed after so many entries, and so many stay in the log: small, so that a member that was away for
/// some seconds needs a snapshot.
pub const SNAPSHOT_ENTRIES: u64 = 100;
pub const LOG_ENTRIES_KEPT: u64 = 50;
/// All that is stored is read again within so many seconds, so that damage is found while the run is on.
pub const SCRUB_SECONDS: u64 = 8;
/// For a command of the command line to end.
const COMMAND: Duration = Duration::from_secs(40);

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
    /// How many of the machines are nodes as well. Without any the members run no scheduler and no controllers.
    pub nodes: u32,
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
        let members = members.join(",");
        let mut words = vec!["--members", &members];
        let nodes =
            (0..self.nodes).map(|number| format!("{}={}", node(number), address(number as usize)));
        let nodes = nodes.collect::<Vec<_>>().join(",");
        if self.nodes > 0 {
            words.extend(["--nodes", &nodes]);
        }
        self.pki(&words)
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
    process: Process,
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
            process: Process::new(
                format!("member {name}"),
                &name,
                space.clone(),
                installation.clone(),
            ),
            index,
            space,
            disk,
            installation,
            id: AtomicU64::new(0),
            data,
            clock: folder.join(format!("clock-{name}")),
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

    fn environment(&self) -> Result<BTreeMap<String, String>> {
        let folder = self.folder();
        let mut environment = settings(&folder.join("server.env"))?;
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

    /// Starts it, unless it runs.
    pub fn start(&self) -> Result<()> {
        let words: &[&str] = match self.installation.nodes {
            0 => &["server", "--no-agents"],
            _ => &["server"],
        };
        self.process
            .spawn(self.binary(), words, self.environment()?)
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
}

impl Deref for Member {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
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
