//! Members that are stopped and started, one after the other, while the cluster serves: the same binary again, or another
//! one, so that members of two versions make up one cluster for a while, and take over each other's data.

use super::members::Member;
use super::plan::Planned;
use super::rig::Rig;
use super::under::Under;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};

/// For a member to answer after it was started.
const ANSWERS: Duration = Duration::from_secs(30);

/// All members, with the same binary.
pub fn restart(rig: &Rig, fault: &Planned) -> Result<()> {
    let all: Vec<usize> = (0..rig.members().len()).collect();
    let words = String::from("one after the other is stopped and started");
    let under = Under::new(rig, fault, words, &all);
    for member in rig.members() {
        if rig.halt.is_halted() {
            break;
        }
        change(rig, &under, member, member.runs_other())?;
    }
    Ok(())
}

/// All members run the other binary, one after the other, and then this one again. Each time it stays so for a moment.
pub fn upgrade(rig: &Rig, fault: &Planned) -> Result<()> {
    let count = rig.members().len();
    let order: Vec<usize> = (0..count)
        .map(|place| (place + fault.dice as usize % count) % count)
        .collect();
    let words = format!(
        "{} run the other binary, and this one again",
        rig.names(order.clone())
    );
    let under = Under::new(rig, fault, words, &order);
    let stays = fault.length / (2 * count as u32);
    for other in [true, false] {
        for index in &order {
            let member = &rig.members()[*index];
            // What has begun is taken back in any case.
            if member.runs_other() == other || (other && rig.halt.is_halted()) {
                continue;
            }
            change(rig, &under, member, other)?;
            rig.halt.wait(stays);
        }
    }
    Ok(())
}

/// Stops a member and starts it, with this binary or that one.
fn change(rig: &Rig, under: &Under<'_>, member: &Member, other: bool) -> Result<()> {
    member.excuse(true);
    let began = Instant::now();
    match member.stop() {
        Ok(status) if status.success() => {
            under.note(&format!("{} in {:.1?}", member.name, began.elapsed()));
        }
        Ok(status) => rig.recorder().violation(
            "restart: ends badly",
            format!(
                "Member {} was told to stop. It ended with {status}.",
                member.name
            ),
        ),
        Err(error) => rig
            .recorder()
            .violation("restart: does not stop", format!("{error:#}.")),
    }
    member.set_other(other);
    member.start()?;
    member.excuse(false);
    if !rig.answers_within(member.index, ANSWERS) && !rig.halt.is_halted() {
        rig.recorder().violation(
            "restart: does not come back",
            format!(
                "Member {} was started with {}. It does not answer after {ANSWERS:?}.",
                member.name,
                member.binary().display()
            ),
        );
    }
    match member.pid() {
        Some(pid) => runs(pid, member.binary()),
        None => Ok(()),
    }
}

/// The test must not believe that it has changed what it has not.
fn runs(pid: u32, binary: &Path) -> Result<()> {
    // Where it has just ended by itself, the supervisor says so.
    let Ok(runs) = std::fs::read_link(format!("/proc/{pid}/exe")) else {
        return Ok(());
    };
    let binary = std::fs::canonicalize(binary)
        .with_context(|| format!("cannot find {}", binary.display()))?;
    if runs != binary {
        bail!("{} runs instead of {}", runs.display(), binary.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_looked_at() {
        let this = std::env::current_exe().unwrap();
        runs(std::process::id(), &this).unwrap();
        let other = std::fs::canonicalize("/bin/sh").unwrap();
        assert!(runs(std::process::id(), &other).is_err());
    }
}
