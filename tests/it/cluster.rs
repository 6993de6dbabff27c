//! A cluster of real processes, made by `kontiki up` as a user makes it.

use crate::tools::{Kubectl, Said, run, wait_for};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// What runs the containers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Runtime {
    Hollow,
    Docker,
}

/// See the module head. Taken away when dropped.
pub(crate) struct Cluster {
    home: tempfile::TempDir,
    members: usize,
    runtime: Runtime,
    api_port: u16,
    peer_port: u16,
    etcd_port: u16,
    node_port: u16,
    pub(crate) node: String,
}

impl Cluster {
    /// Makes and starts a cluster, and waits until it is ready.
    pub(crate) fn start(members: usize, runtime: Runtime) -> Cluster {
        let cluster = Cluster::prepare(members, runtime);
        let said = cluster.up();
        assert!(said.success, "{said}");
        cluster
    }

    /// Chooses ports and a directory; starts nothing.
    pub(crate) fn prepare(members: usize, runtime: Runtime) -> Cluster {
        let home = tempfile::Builder::new()
            .prefix("kontiki-it-")
            .tempdir()
            .expect("a temporary directory");
        let count = u16::try_from(members).expect("few members");
        let node = format!("it-{}", std::process::id());
        Cluster {
            home,
            members,
            runtime,
            api_port: free_ports(count),
            peer_port: free_ports(count),
            etcd_port: free_ports(count),
            node_port: free_ports(1),
            node,
        }
    }

    /// `kontiki` with this cluster's home.
    pub(crate) fn kontiki(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
        command.args(arguments).env("KONTIKI_HOME", self.home());
        // However full the machine's disk is: what is tested is another thing.
        command.env("KONTIKI_EVICTION_HARD", "");
        run(command, "")
    }

    /// `kontiki up`: starts whatever does not run.
    pub(crate) fn up(&self) -> Said {
        let words = [vec!["up".to_string()], self.wishes()].concat();
        self.kontiki(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The flags that choose what the cluster is like.
    pub(crate) fn wishes(&self) -> Vec<String> {
        let runtime = match self.runtime {
            Runtime::Hollow => "hollow",
            Runtime::Docker => "docker",
        };
        let flags = [
            ("members", self.members.to_string()),
            ("runtime", runtime.to_string()),
            ("api-port", self.api_port.to_string()),
            ("peer-port", self.peer_port.to_string()),
            ("etcd-port", self.etcd_port.to_string()),
            ("node-port", self.node_port.to_string()),
            ("node-name", self.node.clone()),
        ];
        let flags = flags.into_iter();
        flags
            .flat_map(|(flag, value)| [format!("--{flag}"), value])
            .collect()
    }

    /// What the home has of the cluster.
    pub(crate) fn plan(&self) -> serde_json::Value {
        let text = std::fs::read(self.home().join("cluster.json")).expect("a plan");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// Where its files are.
    pub(crate) fn home(&self) -> PathBuf {
        self.home.path().join("home")
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.home().join("kubeconfig")
    }

    /// kubectl through the first member.
    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig())
    }

    /// kubectl through a member, counted from 1.
    pub(crate) fn kubectl_through(&self, member: usize) -> Kubectl {
        match member {
            1 => self.kubectl(),
            _ => self.kubectl().context(&format!("kontiki-{member}")),
        }
    }

    /// Base URL of a member, counted from 1.
    pub(crate) fn url(&self, member: usize) -> String {
        format!("https://127.0.0.1:{}", self.api_port as usize + member - 1)
    }

    /// Where etcd clients reach a member, counted from 1.
    pub(crate) fn etcd_url(&self, member: usize) -> String {
        let port = &self.plan()["members"][member - 1]["etcd_port"];
        format!("https://127.0.0.1:{port}")
    }

    /// etcdctl through a member, counted from 1.
    pub(crate) fn etcdctl(&self, member: usize, arguments: &[&str]) -> Said {
        run(self.etcdctl_command(member, arguments), "")
    }

    /// The same, not started yet.
    pub(crate) fn etcdctl_command(&self, member: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        let pki = |name: &str| self.pki(name).display().to_string();
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.etcd_url(member)))
            .arg(format!("--cacert={}", pki("ca.crt")))
            .arg(format!("--cert={}", pki("store-admin.crt")))
            .arg(format!("--key={}", pki("store-admin.key")))
            .args(arguments);
        command
    }

    /// `kontiki store ... -o json`, which must succeed.
    pub(crate) fn store_json(&self, arguments: &[&str]) -> serde_json::Value {
        let words = [&["store"], arguments, &["-o", "json"]].concat();
        let said = self.kontiki(&words);
        assert!(said.success, "{said}");
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// A file of the cluster's certificates.
    pub(crate) fn pki(&self, name: &str) -> PathBuf {
        self.home().join("pki").join(name)
    }

    /// Directory of a member's data, counted from 1.
    pub(crate) fn data(&self, member: usize) -> PathBuf {
        self.home().join(format!("m{member}/data"))
    }

    /// First port of each sort: API, peers, etcd clients, node agent.
    pub(crate) fn ports(&self) -> [u16; 4] {
        [
            self.api_port,
            self.peer_port,
            self.etcd_port,
            self.node_port,
        ]
    }

    /// The process of a member, counted from 1.
    pub(crate) fn pid(&self, member: usize) -> u32 {
        pid_in(&self.home().join(format!("m{member}"))).expect("the member runs")
    }

    /// What a member has logged, counted from 1.
    pub(crate) fn log(&self, member: usize) -> String {
        let log = self.home().join(format!("m{member}/log"));
        std::fs::read_to_string(log).unwrap_or_default()
    }

    /// SIGKILL for a member, counted from 1. Returns when it is gone.
    pub(crate) fn kill(&self, member: usize) {
        end("-KILL", self.pid(member));
    }

    /// SIGTERM for a member, counted from 1. Returns when it is gone, which may take no longer than a supervisor waits.
    pub(crate) fn terminate(&self, member: usize) {
        end("-TERM", self.pid(member));
    }

    /// Stops a member, counted from 1, and starts it as it was, whatever the others do.
    pub(crate) fn restart_alone(&self, member: usize) {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid(member)));
        let line = String::from_utf8(line.expect("it runs")).expect("text");
        self.terminate(member);
        let dir = self.home().join(format!("m{member}"));
        let log = std::fs::File::options().append(true).open(dir.join("log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
        command
            .args(line.trim_end_matches('\0').split('\0').skip(1))
            .stdin(Stdio::null())
            .stderr(log.expect("the log"));
        let mut child = command.spawn().expect("it starts");
        std::fs::write(dir.join("pid"), child.id().to_string()).expect("the pid");
        // So that it is not there any more when it has ended.
        std::thread::spawn(move || child.wait());
    }

    /// curl with the certificate for the store's own port.
    pub(crate) fn curl(&self, url: &str) -> Said {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", url]);
        for (flag, file) in [
            ("--cacert", "ca.crt"),
            ("--cert", "store-admin.crt"),
            ("--key", "store-admin.key"),
        ] {
            command.arg(flag).arg(self.pki(file));
        }
        run(command, "")
    }

    /// SIGKILL for the node agent.
    pub(crate) fn kill_agent(&self) {
        let dir = self.home().join(format!("node-{}", self.node));
        end("-KILL", pid_in(&dir).expect("the agent runs"));
    }

    /// What the processes said last, for a failed test.
    fn logs(&self) -> String {
        let mut text = String::new();
        let dirs = std::fs::read_dir(self.home())
            .into_iter()
            .flatten()
            .flatten();
        for log in dirs
            .map(|dir| dir.path().join("log"))
            .filter(|log| log.is_file())
        {
            let all = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = all.lines().collect();
            text += &format!(
                "=== {}\n{}\n",
                log.display(),
                lines[lines.len().saturating_sub(25)..].join("\n")
            );
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
        command.arg("reset").env("KONTIKI_HOME", self.home());
        match command.output() {
            Ok(output) if output.status.success() => {}
            other => eprintln!("the cluster could not be taken away: {other:?}"),
        }
    }
}

fn pid_in(dir: &Path) -> Option<u32> {
    std::fs::read_to_string(dir.join("pid"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn end(signal: &str, pid: u32) {
    let killed = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(killed.success(), "process {pid} cannot be signalled");
    let gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let dead = stat.is_empty()
            || stat
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('Z'));
        if dead { Ok(()) } else { Err(stat) }
    };
    wait_for(format!("process {pid} gone"), Duration::from_secs(25), gone);
}

/// The first of `count` neighbouring ports that are free now. Ports below the range that the kernel gives away itself.
pub(crate) fn free_ports(count: u16) -> u16 {
    const FIRST: u16 = 12_000;
    const RANGE: u16 = 18_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % u32::from(RANGE)).expect("below the range");
    loop {
        let step = NEXT.fetch_add(count, Ordering::Relaxed);
        let first = FIRST + offset.wrapping_add(step) % RANGE;
        let free = |port: u16| TcpListener::bind(("0.0.0.0", port)).is_ok();
        if (first..first + count).all(free) {
            return first;
        }
    }
}
