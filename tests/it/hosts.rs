//! A cluster as `kontiki pki` makes it for several machines: here they are directories and ports of one. A member's
//! machine is lost and another takes its place; then all but one are lost.

use crate::cluster::free_ports;
use crate::tools::{Following, SOON, Said, have, run, wait_for};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// See the module head. Each member has an API port, a peer port and one for etcd clients, in this order.
struct Machines {
    dir: tempfile::TempDir,
    ports: RefCell<BTreeMap<&'static str, u16>>,
    running: RefCell<BTreeMap<&'static str, Child>>,
}

impl Machines {
    fn new(names: &[&'static str]) -> Machines {
        Machines {
            dir: tempfile::tempdir().expect("a temporary directory"),
            ports: RefCell::new(names.iter().map(|name| (*name, free_ports(3))).collect()),
            running: RefCell::default(),
        }
    }

    fn port(&self, name: &str) -> u16 {
        self.ports.borrow()[name]
    }

    /// etcdctl through a member; it must succeed.
    fn etcdctl(&self, name: &str, line: &str) -> String {
        let mut command = Command::new("etcdctl");
        let file = |name: &str| self.bundle().join(name).display().to_string();
        command
            .env("ETCDCTL_API", "3")
            .arg(format!(
                "--endpoints=https://127.0.0.1:{}",
                self.port(name) + 2
            ))
            .arg(format!("--cacert={}", file("ca.crt")))
            .arg(format!("--cert={}", file("store-admin.crt")))
            .arg(format!("--key={}", file("store-admin.key")))
            .args(crate::tools::words(line));
        let said = run(command, "");
        assert!(said.success, "{said}");
        said.stdout
    }

    fn bundle(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("data-{name}"))
    }

    fn kontiki(&self, line: &str) -> Said {
        run(self.command(line), "")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
        command.args(crate::tools::words(line));
        command
    }

    fn pki(&self, line: &str) {
        let said = self.kontiki(&format!("pki --dir {} {line}", self.bundle().display()));
        assert!(said.success, "{said}");
    }

    /// How `kontiki store` reaches these members.
    fn store(&self, names: &[&str], line: &str) -> String {
        let urls: Vec<String> = names
            .iter()
            .map(|name| format!("https://127.0.0.1:{}", self.port(name) + 2))
            .collect();
        let file = |name: &str| self.bundle().join(name).display().to_string();
        format!(
            "store {line} --endpoints {} --cacert {} --cert {} --key {}",
            urls.join(","),
            file("ca.crt"),
            file("store-admin.crt"),
            file("store-admin.key")
        )
    }

    /// Starts a member with its environment file, but for what machines of their own would have each.
    fn start(&self, name: &'static str) {
        self.start_with(name, true);
    }

    fn start_with(&self, name: &'static str, etcd_port: bool) {
        let folder = self.bundle().join(format!("member-{name}"));
        let text = std::fs::read_to_string(folder.join("server.env")).expect("a file");
        let mut environment: BTreeMap<String, String> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        let at = |port: u16| format!("127.0.0.1:{port}");
        let port = self.port(name);
        let members: Vec<String> = environment["KONTIKI_INITIAL_MEMBERS"]
            .split(',')
            .map(|member| {
                let (identity, _) = member.split_once('@').expect("an address");
                let (name, _) = identity.split_once('=').expect("a name");
                format!("{identity}@{}", at(self.port(name) + 1))
            })
            .collect();
        let own = [
            ("INITIAL_MEMBERS", members.join(",")),
            ("DATA_DIR", self.data(name).display().to_string()),
            ("PKI_DIR", folder.join("pki").display().to_string()),
            ("API_LISTEN", at(port)),
            ("API_ADVERTISE", at(port)),
            ("PEER_LISTEN", at(port + 1)),
            ("PEER_ADVERTISE", at(port + 1)),
            ("ETCD_LISTEN", at(port + 2)),
        ];
        environment.extend(own.map(|(key, value)| (format!("KONTIKI_{key}"), value)));
        if !etcd_port {
            environment.remove("KONTIKI_ETCD_LISTEN");
        }
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("log-{name}")))
            .expect("a log");
        let mut command = self.command("server --no-agents");
        command.envs(environment).stdin(Stdio::null());
        command.stderr(log).stdout(Stdio::null());
        let child = command.spawn().expect("it starts");
        self.running.borrow_mut().insert(name, child);
    }

    fn kill(&self, name: &str) {
        let child = self.running.borrow_mut().remove(name);
        let mut child = child.expect("it runs");
        child.kill().expect("killed");
        child.wait().expect("gone");
    }

    /// Waits until these and no others are well, as `names[0]` has it.
    fn until_well(&self, names: &[&str]) {
        wait_for(format!("{names:?} well"), SOON, || {
            let said = self.kontiki(&self.store(names, "status"));
            let lines = said.stdout.lines().count();
            match said.success && lines == names.len() + 1 && !said.stdout.contains("learner") {
                true => Ok(()),
                false => Err(said.to_string()),
            }
        });
        // Which a member publishes after it has started.
        wait_for("client URLs of all", SOON, || {
            let listed = self.etcdctl(names[0], "member list");
            let published = |line: &str| {
                let urls = line.split(", ").nth(4);
                urls.is_some_and(|urls| urls.starts_with("https://"))
            };
            match listed.lines().all(published) {
                true => Ok(()),
                false => Err(listed),
            }
        });
    }
}

impl Machines {
    /// On machines of their own each member has its port on its own loopback, where nobody else gets. Here they have none,
    /// and all is said and known through the one that is reached.
    fn are_seen_through_one(&self) {
        for name in ["b", "c"] {
            self.kill(name);
            self.start_with(name, false);
        }
        wait_for("b and c through a", SOON, || {
            let said = self.kontiki(&self.store(&["a"], "status -o json"));
            let rows: Vec<serde_json::Value> =
                serde_json::from_str(&said.stdout).unwrap_or_default();
            let known =
                |row: &serde_json::Value| row["revision"].is_u64() && row["client_url"] == "";
            match said.success
                && rows.len() == 3
                && rows.iter().filter(|row| known(row)).count() == 2
            {
                true => Ok(()),
                false => Err(said.to_string()),
            }
        });
        let alive = self.kontiki(&self.store(&["a"], "member replace b --peer 127.0.0.1:1"));
        assert!(
            !alive.success && alive.stderr.contains("must have ended"),
            "{alive}"
        );
        let slip = self.kontiki(&self.store(&["a"], "member replace bb --peer 127.0.0.1:1"));
        assert!(
            !slip.success && slip.stderr.contains("nothing is replaced"),
            "{slip}"
        );
        for name in ["b", "c"] {
            self.kill(name);
            self.start(name);
        }
        self.until_well(&["a", "b", "c"]);
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for child in self.running.get_mut().values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for name in self.ports.get_mut().keys() {
                let log = self.dir.path().join(format!("log-{name}"));
                let log = std::fs::read_to_string(log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(25)..].join("\n");
                eprintln!("=== {name}\n{end}");
            }
        }
    }
}

#[test]
fn a_lost_machine_is_replaced_and_a_lost_quorum_recovered() {
    if !have("etcdctl") {
        return;
    }
    let machines = Machines::new(&["a", "b", "c"]);
    machines.pki("--members a=127.0.0.1,b=127.0.0.1,c=127.0.0.1");
    for name in ["a", "b", "c"] {
        machines.start(name);
    }
    machines.until_well(&["a", "b", "c"]);
    machines.etcdctl("a", "put kept first");

    machines.are_seen_through_one();
    machines.kill("b");
    std::fs::remove_dir_all(machines.data("b")).expect("removed");
    // The new machine of b has another address.
    machines.ports.borrow_mut().insert("b", free_ports(3));
    let peer = format!("127.0.0.1:{}", machines.port("b") + 1);
    let line = machines.store(&["a", "c"], &format!("member replace b --peer {peer}"));
    let mut command = machines.command(&line);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let replacing = Following::start(command);
    let said = replacing.line("how it is started", |line| line.contains("--member-id"));
    let (_, added) = said.split_once(" --add-member").expect("the command");
    machines.pki(&format!("--add-member{added}"));
    machines.start("b");
    replacing.line("the end", |line| line.contains("has caught up, and votes"));
    machines.until_well(&["a", "b", "c"]);
    machines.etcdctl("b", "put kept second");
    let listed = machines.kontiki(&machines.store(&["c"], "member list"));
    assert!(listed.stdout.contains(&peer), "{listed}");

    for name in ["a", "b", "c"] {
        machines.kill(name);
    }
    for name in ["b", "c"] {
        std::fs::remove_dir_all(machines.data(name)).expect("removed");
    }
    let recover = format!("store recover --data-dir {}", machines.data("a").display());
    let dry = machines.kontiki(&format!("{recover} --dry-run"));
    assert!(dry.success && !dry.stdout.contains("--recovered"), "{dry}");
    let said = machines.kontiki(&recover);
    assert!(said.success, "{said}");
    let (_, made) = said.stdout.split_once("--recovered").expect("the command");
    let (made, _) = made.split_once('\n').expect("a line");
    machines.pki(&format!("--recovered{made}"));
    machines.start("a");
    machines.until_well(&["a"]);
    assert!(machines.etcdctl("a", "get kept").contains("second"));
}
