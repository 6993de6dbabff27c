//! `kontiki down` and `reset`.

use std::fs;
use std::path::{Path, PathBuf};

use agents::container_label;
use anyhow::{Result, anyhow};

use super::hollow_nodes::hollow_process;
use super::{STOP_PATIENCE, agent_process, lock, say, server_process};
use crate::local::{Home, Plan};
use crate::process::Process;

/// Stops the node agent and then the members. Containers keep running; `up` finds them again.
pub(crate) fn down(home: &Home) -> Result<()> {
    let Some(plan) = home.load()? else {
        say(&format!("There is no cluster in {}.", home.0.display()));
        return Ok(());
    };
    let _lock = lock(home)?;
    say(&match stop(home, &plan)? {
        0 => "The cluster was not running.".to_string(),
        1 => "Stopped 1 process. The data is kept; `up` goes on from here.".to_string(),
        count => format!("Stopped {count} processes. The data is kept; `up` goes on from here."),
    });
    Ok(())
}

/// The agent first, while it can still say what it knows; then all members at once, so that each waits for its own end
/// only. Answers how many processes ran.
fn stop(home: &Home, plan: &Plan) -> Result<usize> {
    let mut stopped = usize::from(hollow_process(home).stop(STOP_PATIENCE)?);
    if !plan.one_process() {
        stopped += usize::from(agent_process(home, plan).stop(STOP_PATIENCE)?);
    }
    let members = plan.members.iter();
    let processes: Vec<Process> = members
        .map(|member| server_process(home, &member.name))
        .collect();
    std::thread::scope(|scope| {
        let stopping: Vec<_> = processes
            .iter()
            .map(|process| scope.spawn(|| process.stop(STOP_PATIENCE)))
            .collect();
        for handle in stopping {
            let ended = handle.join();
            stopped += usize::from(ended.map_err(|_| anyhow!("stopping a member panicked"))??);
        }
        Ok(stopped)
    })
}

/// Stops everything, removes the cluster's containers and wipes what it has in its directory.
pub(crate) fn reset(home: &Home) -> Result<()> {
    let Some(plan) = home.load()? else {
        say(&format!("There is no cluster in {}.", home.0.display()));
        return Ok(());
    };
    let _lock = lock(home)?;
    stop(home, &plan)?;
    if plan.node.runtime == "docker" {
        remove_containers(&container_label(&plan.node.name, &home.node_data(&plan)));
    }
    unmount_below(home);
    let gone = home.wipe(&plan)?;
    say(&match gone {
        true => format!("Wiped {}.", home.0.display()),
        false => format!(
            "Wiped the cluster in {}; what else is there was left.",
            home.0.display()
        ),
    });
    Ok(())
}

/// Containers outlive the agent by design, so a reset has to take them away; without Docker there are none.
fn remove_containers(label: &str) {
    let filter = format!("label={label}");
    let list = std::process::Command::new("docker")
        .args(["ps", "-aq", "--filter", &filter])
        .output();
    let Ok(list) = list else { return };
    let ids: Vec<String> = String::from_utf8_lossy(&list.stdout)
        .split_whitespace()
        .map(String::from)
        .collect();
    if ids.is_empty() {
        return;
    }
    let removed = std::process::Command::new("docker")
        .args(["rm", "-f", "-v"])
        .args(&ids)
        .output();
    match removed {
        Ok(output) if output.status.success() => say(&format!("Removed {} containers.", ids.len())),
        Ok(output) => say(&format!(
            "docker rm: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => say(&format!("docker rm: {error}")),
    }
}

/// Memory volumes are mounts inside the data directory; they would make its removal fail.
fn unmount_below(home: &Home) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // The kernel names mounts by their real path.
    let real = fs::canonicalize(&home.0).unwrap_or_else(|_| home.0.clone());
    for point in mounts_below(&mounts, &real).iter().rev() {
        let _ = std::process::Command::new("umount").arg(point).status();
    }
}

/// The mount points inside `dir`, in the order in which they were mounted.
fn mounts_below(mounts: &str, dir: &Path) -> Vec<PathBuf> {
    // The kernel writes these four characters as octal escapes; the backslash itself must come last.
    let plain = |point: &str| {
        [
            ("\\040", " "),
            ("\\011", "\t"),
            ("\\012", "\n"),
            ("\\134", "\\"),
        ]
        .iter()
        .fold(point.to_string(), |point, (escape, character)| {
            point.replace(escape, character)
        })
    };
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    points
        .map(|point| PathBuf::from(plain(point)))
        .filter(|point| point.starts_with(dir) && point != dir)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_inside_the_home_are_unmounted() {
        let mounts = "tmpfs /h/.kontiki/node-a/data/pods/1/v tmpfs rw 0 0\n\
                      tmpfs /h/.kontiki-other/data tmpfs rw 0 0\n\
                      /dev/a /h/.kontiki ext4 rw 0 0\n\
                      tmpfs /h/.kontiki/a\\040b tmpfs rw 0 0\n";
        assert_eq!(
            mounts_below(mounts, Path::new("/h/.kontiki")),
            [
                Path::new("/h/.kontiki/node-a/data/pods/1/v"),
                Path::new("/h/.kontiki/a b")
            ]
        );
    }
}
