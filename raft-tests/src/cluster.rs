//! Three members as processes of this program, on loopback ports, in a temporary directory.

use crate::member::Config;
use crate::wire::{Connection, Reply, Request};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The members.
pub struct Cluster {
    program: PathBuf,
    dir: tempfile::TempDir,
    members: Vec<Member>,
}

struct Member {
    config: Config,
    file: PathBuf,
    process: Option<Child>,
}

impl Cluster {
    /// Makes certificates and configuration; starts nothing. `program` is this crate's binary.
    pub fn new(program: &Path, count: usize, ids: &mut dyn FnMut() -> u64) -> Result<Cluster> {
        let dir = tempfile::Builder::new()
            .prefix("kontiki-crash-")
            .tempdir()?;
        let configs = crate::member::configs(dir.path(), count, &free_ports(2 * count)?, ids)?;
        let mut members = Vec::new();
        for config in configs {
            let file = dir.path().join(format!("{}.json", config.name));
            fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
            members.push(Member {
                config,
                file,
                process: None,
            });
        }
        Ok(Cluster {
            program: program.to_path_buf(),
            dir,
            members,
        })
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members' client ports.
    pub fn ports(&self) -> Vec<u16> {
        self.members
            .iter()
            .map(|member| member.config.client_port)
            .collect()
    }

    /// Starts a member that does not run.
    pub fn start(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        let log = self.dir.path().join(format!("{}.log", member.config.name));
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.program);
        command
            .arg("member")
            .arg(&member.file)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        member.process = Some(command.spawn().context("starting a member")?);
        Ok(())
    }

    /// SIGKILL: the process gets no chance to do anything. Returns when it is gone.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        if let Some(mut process) = self.members[index].process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// A member that has ended by itself, with how.
    pub fn fallen(&mut self) -> Option<String> {
        self.members.iter_mut().find_map(|member| {
            let status = member.process.as_mut()?.try_wait().ok()??;
            Some(format!(
                "member {} ended by itself: {status}",
                member.config.name
            ))
        })
    }

    /// Index of the member that leads according to any member that answers.
    pub async fn leader(&self) -> Option<usize> {
        for port in self.ports() {
            let Ok(mut connection) = Connection::open(port).await else {
                continue;
            };
            if let Ok(Reply::Status { leader, .. }) = connection.call(&Request::Status).await
                && let Some(index) = self
                    .members
                    .iter()
                    .position(|member| member.config.id == leader)
            {
                return Some(index);
            }
        }
        None
    }

    /// Name of a member.
    pub fn name(&self, index: usize) -> &str {
        &self.members[index].config.name
    }

    /// Leaves data and logs behind for inspection, and says where.
    pub fn keep(mut self) -> PathBuf {
        for index in 0..self.members.len() {
            let _ = self.kill(index);
        }
        self.dir.disable_cleanup(true);
        self.dir.path().to_path_buf()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            let _ = self.kill(index);
        }
    }
}

/// Ports that are free now, all different.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<std::io::Result<_>>()?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}
