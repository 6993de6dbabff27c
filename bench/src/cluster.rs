//! Members of Kontiki or of etcd on this machine, with the same certificates, timeouts and file system: three of them, or
//! one of Kontiki where its API is measured alone.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Setting;
use crate::client::Client;
use crate::store::wire::Connection;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Kontiki,
    Etcd,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Kontiki => "kontiki",
            System::Etcd => "etcd",
        }
    }

    /// First port of the nine that a cluster takes; the two systems never share one.
    fn ports(self) -> u16 {
        match self {
            System::Kontiki => 21_000,
            System::Etcd => 22_000,
        }
    }
}

/// Who goes first changes from round to round, so that neither always finds the machine cooler or the disk emptier.
pub(crate) fn order(round: usize) -> [System; 2] {
    match round % 2 {
        0 => [System::Kontiki, System::Etcd],
        _ => [System::Etcd, System::Kontiki],
    }
}

/// Paths of the authority and of a client certificate.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) ca: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

pub(crate) struct Cluster {
    pub(crate) system: System,
    kontiki: PathBuf,
    dir: tempfile::TempDir,
    members: Vec<Option<Child>>,
    /// Is not one of those who founded the cluster.
    joining: Option<usize>,
    pub(crate) tls: Tls,
}

const NAMES: [&str; 3] = ["a", "b", "c"];
/// The most that etcd's documentation suggests: the default would refuse writes in the middle of a measurement.
const ETCD_QUOTA_BYTES: &str = "8589934592";
/// Several elections.
const LEADERLESS_MAX: Duration = Duration::from_secs(10);

impl Cluster {
    /// Starts three members with empty data and waits until each answers a linearizable read.
    pub(crate) async fn start(setting: &Setting, system: System, agents: bool) -> Result<Cluster> {
        Cluster::start_members(setting, system, agents, NAMES.len()).await
    }

    /// The same with so many members of Kontiki, three at most.
    pub(crate) async fn start_members(
        setting: &Setting,
        system: System,
        agents: bool,
        count: usize,
    ) -> Result<Cluster> {
        let dir = tempfile::Builder::new()
            .prefix("kontiki-bench-")
            .tempdir_in(&setting.dir)?;
        let kontiki = setting.kontiki.as_path();
        let pki = dir.path().join("pki");
        let members: Vec<String> = NAMES[..count]
            .iter()
            .map(|name| format!("{name}=127.0.0.1"))
            .collect();
        let made = Command::new(kontiki)
            .args(["pki", "--dir"])
            .arg(&pki)
            .args(["--members", &members.join(",")])
            .stdout(Stdio::null())
            .status()
            .context("running `kontiki pki`")?;
        if !made.success() {
            bail!("`kontiki pki` failed");
        }
        // Kontiki's store has an authority of its own for its clients; etcd trusts the one that it is told to.
        let client = match system {
            System::Kontiki => "store-admin",
            System::Etcd => "admin",
        };
        let tls = Tls {
            ca: pki.join("ca.crt"),
            cert: pki.join(format!("{client}.crt")),
            key: pki.join(format!("{client}.key")),
        };
        let mut cluster = Cluster {
            system,
            kontiki: kontiki.into(),
            dir,
            members: (0..count).map(|_| None).collect(),
            joining: None,
            tls,
        };
        for index in 0..count {
            cluster.start_member(index, agents)?;
        }
        for index in 0..count {
            cluster.wait_serving(index).await?;
        }
        Ok(cluster)
    }

    pub(crate) fn client_port(&self, index: usize) -> u16 {
        self.system.ports() + index as u16
    }

    pub(crate) fn peer_port(&self, index: usize) -> u16 {
        self.system.ports() + 10 + index as u16
    }

    /// Of Kontiki's API.
    pub(crate) fn api_port(&self, index: usize) -> u16 {
        self.system.ports() + 20 + index as u16
    }

    pub(crate) fn client(&self, index: usize) -> Result<Client> {
        Client::new(self.client_port(index), &self.tls)
    }

    /// A connection for loads, made now.
    pub(crate) async fn connect(&self, index: usize) -> Result<Connection> {
        Connection::open(self.client_port(index), &self.tls).await
    }

    pub(crate) fn start_member(&mut self, index: usize, agents: bool) -> Result<()> {
        let mut command = match self.system {
            System::Kontiki => self.kontiki_command(index, agents)?,
            System::Etcd => self.etcd_command(index),
        };
        let log = std::fs::File::create(self.dir.path().join(format!("{}.log", NAMES[index])))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", self.system.name()))?;
        self.members[index] = Some(child);
        Ok(())
    }

    fn kontiki_command(&self, index: usize, agents: bool) -> Result<Command> {
        let folder = self.folder(index);
        let environment = std::fs::read_to_string(folder.join("server.env"))?;
        let mut command = Command::new(&self.kontiki);
        for line in environment.lines() {
            if let Some((key, value)) = line.split_once('=') {
                command.env(key, value);
            }
        }
        // The environment names one port for three hosts; on one host each member needs its own.
        let mut initial = Vec::new();
        let listed = environment
            .lines()
            .find_map(|line| line.strip_prefix("KONTIKI_INITIAL_MEMBERS="))
            .unwrap_or_default();
        for (member, text) in listed.split(',').enumerate() {
            let (identity, _) = text
                .split_once('@')
                .context("no peer address in server.env")?;
            initial.push(format!("{identity}@127.0.0.1:{}", self.peer_port(member)));
        }
        let api = format!("127.0.0.1:{}", self.api_port(index));
        let peer = format!("127.0.0.1:{}", self.peer_port(index));
        command.args(["server", "--initial-members", &initial.join(",")]);
        command.args([
            "--api-listen",
            &api,
            "--api-advertise",
            &api,
            "--peer-listen",
            &peer,
            "--peer-advertise",
            &peer,
        ]);
        command.args([
            "--etcd-listen",
            &format!("127.0.0.1:{}", self.client_port(index)),
        ]);
        command
            .arg("--data-dir")
            .arg(self.data(index))
            .arg("--pki-dir")
            .arg(folder.join("pki"));
        if !agents {
            command.arg("--no-agents");
        }
        Ok(command)
    }

    fn etcd_command(&self, index: usize) -> Command {
        let folder = self.folder(index).join("pki");
        let initial: Vec<String> = (0..3)
            .map(|member| {
                format!(
                    "{}=https://127.0.0.1:{}",
                    NAMES[member],
                    self.peer_port(member)
                )
            })
            .collect();
        let client = format!("https://127.0.0.1:{}", self.client_port(index));
        let peer = format!("https://127.0.0.1:{}", self.peer_port(index));
        let mut command = Command::new("etcd");
        command
            .args([
                "--name",
                NAMES[index],
                "--initial-cluster",
                &initial.join(","),
            ])
            .arg("--data-dir")
            .arg(self.data(index));
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args([
            "--heartbeat-interval",
            "100",
            "--election-timeout",
            "1000",
            "--log-level",
            "error",
            "--quota-backend-bytes",
            ETCD_QUOTA_BYTES,
        ]);
        if self.joining == Some(index) {
            command.args(["--initial-cluster-state", "existing"]);
        }
        command
            .arg("--cert-file")
            .arg(folder.join("server.crt"))
            .arg("--key-file")
            .arg(folder.join("server.key"));
        command
            .arg("--trusted-ca-file")
            .arg(&self.tls.ca)
            .arg("--client-cert-auth");
        command
            .arg("--peer-cert-file")
            .arg(folder.join("peer.crt"))
            .arg("--peer-key-file")
            .arg(folder.join("peer.key"));
        command
            .arg("--peer-trusted-ca-file")
            .arg(folder.join("peer-ca.crt"))
            .arg("--peer-client-cert-auth");
        command
    }

    /// What `kontiki pki` made for a member; etcd takes the same certificates.
    pub(crate) fn folder(&self, index: usize) -> PathBuf {
        let name = format!("member-{}", NAMES[index]);
        self.dir.path().join("pki").join(name)
    }

    pub(crate) fn data(&self, index: usize) -> PathBuf {
        self.dir.path().join(format!("data-{}", NAMES[index]))
    }

    pub(crate) async fn wait_serving(&self, index: usize) -> Result<()> {
        let client = self.client(index)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let error = match client.get(b"bench/ready").await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                bail!(
                    "{} member {} does not serve: {error}\n{}",
                    self.system.name(),
                    NAMES[index],
                    self.last_words(index)
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn last_words(&self, index: usize) -> String {
        let log = self.dir.path().join(format!("{}.log", NAMES[index]));
        let log = std::fs::read_to_string(log).unwrap_or_default();
        let mut tail: Vec<&str> = log.lines().rev().take(8).collect();
        tail.reverse();
        tail.join("\n")
    }

    /// Members that ended by themselves, and what they said last; empty if there are none.
    pub(crate) fn casualties(&mut self) -> String {
        let ended = |child: &mut Option<Child>| {
            let status = child.as_mut().map(|child| child.try_wait());
            matches!(status, Some(Ok(Some(_))))
        };
        let ended: Vec<usize> = (0..self.members.len())
            .filter(|index| ended(&mut self.members[*index]))
            .collect();
        let told = ended.iter().map(|index| {
            let words = self.last_words(*index);
            format!("member {} ended by itself:\n{words}", NAMES[*index])
        });
        told.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn pid(&self, index: usize) -> Result<u32> {
        let child = self.members[index].as_ref();
        Ok(child.context("the member does not run")?.id())
    }

    /// Of the members that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().flatten().map(Child::id).collect()
    }

    /// Where the cluster's authorities are.
    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.path().join("pki")
    }

    /// Makes a place for a new member where one was killed: without data, and to join those who are left.
    pub(crate) fn vacate(&mut self, index: usize) -> Result<()> {
        std::fs::remove_dir_all(self.data(index))?;
        self.joining = Some(index);
        Ok(())
    }

    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        if let Some(mut child) = self.members[index].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Kills and starts one member after the other, each when the one before it serves again.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        for index in 0..self.members.len() {
            self.kill(index)?;
            self.start_member(index, false)?;
            self.wait_serving(index).await?;
        }
        Ok(())
    }

    /// The member that leads by its own word: found by asking each, since both systems answer Status.
    pub(crate) async fn leader(&self) -> Result<usize> {
        let deadline = Instant::now() + LEADERLESS_MAX;
        loop {
            for index in 0..self.members.len() {
                let runs = self.members[index].is_some();
                if runs && self.client(index)?.leads().await.unwrap_or(false) {
                    return Ok(index);
                }
            }
            if Instant::now() > deadline {
                bail!("no member of {} leads", self.system.name());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn resident_bytes(&self, index: usize) -> u64 {
        let Some(child) = &self.members[index] else {
            return 0;
        };
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| {
            line.trim()
                .trim_end_matches(" kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0)
            * 1024
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            let _ = self.kill(index);
        }
    }
}

/// The release binary beside this one.
pub(crate) fn built_kontiki() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let binary = here.parent().context("no folder")?.join("kontiki");
    if !binary.exists() {
        bail!(
            "{} is not there: run `make build` first, or name it with --kontiki",
            binary.display()
        );
    }
    Ok(binary)
}
