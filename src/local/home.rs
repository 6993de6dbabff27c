//! Where the files of a local cluster are, and what of them goes when the cluster goes.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::{Plan, Wishes, node_dir};
use crate::hollow;
use crate::pki::{self, Pair};

/// Where the files of a local cluster are.
#[derive(Clone, Debug)]
pub(crate) struct Home(pub(crate) PathBuf);

impl Home {
    pub(crate) fn plan_file(&self) -> PathBuf {
        self.0.join("cluster.json")
    }

    /// Locked while somebody starts, stops or wipes the cluster.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.0.join("up.lock")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.0.join("pki")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// `name` is a member's or `node-<name>`.
    pub(crate) fn process_dir(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What the node agent has as its `--data-dir`.
    pub(crate) fn node_data(&self, plan: &Plan) -> PathBuf {
        self.process_dir(&node_dir(&plan.node.name)).join("data")
    }

    pub(crate) fn admin(&self) -> Pair {
        Pair::in_dir(&self.pki(), "admin")
    }

    /// Who may use the members' ports for etcd clients.
    pub(crate) fn store_admin(&self) -> Pair {
        Pair::in_dir(&self.pki(), "store-admin")
    }

    pub(crate) fn load(&self) -> Result<Option<Plan>> {
        let file = self.plan_file();
        if !file.exists() {
            return Ok(None);
        }
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let plan = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is damaged: put a copy of it back, or end the cluster's processes \
                 (`pgrep -af 'kontiki (server|agent)'` lists them) and remove {}",
                file.display(),
                self.0.display()
            )
        })?;
        Ok(Some(plan))
    }

    /// The kept plan, completed; an error where there is none.
    pub(crate) fn plan_there_is(&self) -> Result<Plan> {
        match self.load()? {
            Some(plan) => plan.complete(None),
            None => bail!(
                "there is no cluster in {}; `kontiki up` makes one",
                self.0.display()
            ),
        }
    }

    pub(crate) fn save(&self, plan: &Plan) -> Result<()> {
        pki::create_private_dir(&self.0)?;
        pki::write_secret(&self.plan_file(), &serde_json::to_vec_pretty(plan)?)
    }

    /// The kept plan, or a new one; refuses wishes that contradict the kept one. What it was completed with is not kept
    /// yet.
    pub(crate) fn plan(&self, wishes: &Wishes, random: &mut dyn FnMut() -> u64) -> Result<Plan> {
        let Some(plan) = self.load()? else {
            return Plan::new(wishes, random);
        };
        let plan = plan.complete(wishes.etcd_port)?;
        if let Some((flag, kept, wished)) = plan.contradiction(wishes) {
            bail!(
                "the cluster in {} has {flag} {kept}, not {wished}: leave the flag out, choose another --home, or wipe \
                 the cluster with `kontiki reset`",
                self.0.display()
            );
        }
        plan.with_hollow(&wishes.hollow)?.complete(None)
    }

    /// Removes what a cluster of this plan put here, and the directory where nothing else is in it. True if it is gone.
    pub(crate) fn wipe(&self, plan: &Plan) -> Result<bool> {
        let names = plan.members.iter().map(|member| member.name.clone());
        let folders = names.chain([node_dir(&plan.node.name), hollow::ROLE.into(), "pki".into()]);
        for folder in folders.map(|name| self.process_dir(&name)) {
            absent_is_fine(fs::remove_dir_all(&folder))
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        // The plan goes last: without it the rest could not be found again.
        for file in [self.kubeconfig(), self.plan_file(), self.lock_file()] {
            absent_is_fine(fs::remove_file(&file))
                .with_context(|| format!("cannot remove {}", file.display()))?;
        }
        match fs::remove_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
            other => {
                other.with_context(|| format!("cannot remove {}", self.0.display()))?;
                Ok(true)
            }
        }
    }
}

fn absent_is_fine(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
