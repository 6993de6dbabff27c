//! A share of a processor for one process, by a control group, of the first version of their interface or the second.

use super::topology::MARK;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Of each hundred milliseconds.
const PERIOD_US: u32 = 100_000;
const QUOTA_US: u32 = 5_000;

/// While it lives, the process has no more.
pub struct Quota {
    parent: PathBuf,
    group: PathBuf,
    pid: u32,
}

/// Where groups with a share of the processor are made on this machine.
pub fn parent() -> Option<PathBuf> {
    let first = Path::new("/sys/fs/cgroup/cpu");
    if first.join("cpu.cfs_quota_us").exists() {
        return Some(first.into());
    }
    let second = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_to_string(second.join("cgroup.subtree_control")).ok()?;
    controllers
        .split_whitespace()
        .any(|controller| controller == "cpu")
        .then(|| second.into())
}

impl Quota {
    pub fn impose(pid: u32) -> Result<Quota> {
        let Some(parent) = parent() else {
            bail!("there are no control groups for processors");
        };
        let group = parent.join(format!("{MARK}{}-{pid}", std::process::id()));
        fs::create_dir(&group).with_context(|| format!("cannot make {}", group.display()))?;
        let quota = Quota { parent, group, pid };
        let first = quota.group.join("cpu.cfs_quota_us");
        match first.exists() {
            true => {
                fs::write(quota.group.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
                fs::write(first, QUOTA_US.to_string())?;
            }
            false => fs::write(
                quota.group.join("cpu.max"),
                format!("{QUOTA_US} {PERIOD_US}"),
            )?,
        }
        fs::write(quota.group.join("cgroup.procs"), pid.to_string())?;
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // It may have ended, and then it is not in the group any more.
        let _ = fs::write(self.parent.join("cgroup.procs"), self.pid.to_string());
        if let Err(error) = fs::remove_dir(&self.group) {
            eprintln!("{} is left: {error}", self.group.display());
        }
    }
}
