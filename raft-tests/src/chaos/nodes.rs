//! Nodes, one on each of the first machines: `kontiki agent` with simulated containers, which are gone when it is.

use super::members::Installation;
use super::process::{Process, settings};
use super::space::Space;
use anyhow::Result;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kube::kubelet::node as name_of;

/// The agent of one.
pub struct Node {
    pub name: String,
    /// What `kontiki pki` made for it.
    folder: PathBuf,
    data: PathBuf,
    installation: Arc<Installation>,
    process: Process,
}

impl Node {
    /// Not started, on the machine of this space. `folder` is for its data.
    pub fn new(
        number: u32,
        space: Arc<Space>,
        installation: Arc<Installation>,
        folder: &Path,
    ) -> Node {
        let name = name_of(number);
        let what = format!("node {name}");
        Node {
            folder: installation.bundle.join(format!("node-{name}")),
            data: folder.join(format!("data-{name}")),
            process: Process::new(what, &name, space, installation.clone()),
            installation,
            name,
        }
    }

    /// Starts its agent, unless it runs.
    pub fn start(&self) -> Result<()> {
        let mut environment = settings(&self.folder.join("agent.env"))?;
        let pki = self.folder.join("node-pki");
        let own = [
            ("KONTIKI_DATA_DIR", self.data.display().to_string()),
            ("KONTIKI_PKI_DIR", pki.display().to_string()),
            ("KONTIKI_RUNTIME", "hollow".into()),
        ];
        environment.extend(own.map(|(key, value)| (key.to_string(), value)));
        self.process
            .spawn(&self.installation.kontiki, &["agent"], environment)
    }
}

impl Deref for Node {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}
