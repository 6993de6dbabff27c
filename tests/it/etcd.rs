//! A real etcd of one member, to move in from.

use crate::cluster::free_ports;
use crate::tools::{SOON, Said, run, wait_for, words};
use std::process::{Child, Command, Stdio};

/// See the module head. Ends with the test.
pub(crate) struct Etcd {
    dir: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Etcd {
    /// Starts one, and waits until it is healthy.
    pub(crate) fn start() -> Etcd {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let port = free_ports(2);
        let url = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{}", port + 1);
        let mut command = Command::new("etcd");
        command
            .args(["--name=m1", "--log-level=error"])
            .arg(format!("--data-dir={}", dir.path().join("data").display()))
            .arg(format!("--listen-client-urls={url}"))
            .arg(format!("--advertise-client-urls={url}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=m1={peer}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().expect("etcd starts");
        let etcd = Etcd { dir, port, process };
        wait_for("etcd healthy", SOON, || {
            let said = etcd.run("endpoint health");
            match said.success {
                true => Ok(()),
                false => Err(said.to_string()),
            }
        });
        etcd
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A file beside its data.
    pub(crate) fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn run(&self, line: &str) -> Said {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={}", self.url()))
            .args(words(line));
        run(command, "")
    }

    /// etcdctl; it must succeed.
    pub(crate) fn etcdctl(&self, line: &str) -> String {
        let said = self.run(line);
        assert!(said.success, "{said}");
        said.stdout
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
