//! The process of hollow nodes among those of a cluster on this machine.

use std::time::Instant;

use anyhow::{Result, bail};

use super::ports::require_free;
use super::wait::{READY_DEADLINE, check_alive};
use super::{POLL, Progress, STOP_PATIENCE, node_ip, program};
use crate::hollow::{self, Hollow};
use crate::local::{Home, Plan};
use crate::probe::Probe;
use crate::process::Process;

pub(super) fn hollow_process(home: &Home) -> Process {
    Process {
        dir: home.process_dir(hollow::ROLE),
        role: hollow::ROLE,
    }
}

/// Starts the hollow nodes, or starts them anew where they run otherwise than the plan says, or stops them where it has
/// none. True if anything was to do.
pub(super) async fn start_hollow(home: &Home, plan: &Plan, progress: &Progress) -> Result<bool> {
    let process = hollow_process(home);
    let Some(hollow) = &plan.hollow else {
        return process.stop(STOP_PATIENCE);
    };
    hollow::grants::ensure(home, plan).await?;
    let command = hollow::command(home, plan, hollow, &node_ip());
    if process.running().is_some() {
        let words = process.command_line();
        if words
            .iter()
            .filter(|word| !word.is_empty())
            .eq(command.iter())
        {
            return Ok(false);
        }
        progress.say("restarting the hollow nodes");
        process.stop(STOP_PATIENCE)?;
    }
    require_free(
        hollow.port,
        "port of the hollow nodes",
        "--hollow-port",
        true,
    )?;
    process.start(&program()?, &command)?;
    Ok(true)
}

/// Waits until every hollow node has told of itself once.
pub(super) async fn wait_hollow(home: &Home, plan: &Plan, progress: &Progress) -> Result<()> {
    let Some(hollow) = &plan.hollow else {
        return Ok(());
    };
    let probe = Probe::new(&home.pki().join("ca.crt"), &home.admin())?;
    let process = hollow_process(home);
    let mut deadline = Instant::now() + READY_DEADLINE;
    let (mut last, mut best) = (String::from("not started yet"), 0);
    loop {
        progress.say(&format!("waiting for hollow nodes: {last}"));
        match hollow_state(&probe, hollow).await {
            Ok(state) if state.waiting == 0 => return Ok(()),
            Ok(state) => {
                last = format!("{} of {} are ready", state.ready, hollow.nodes);
                if state.ready > best {
                    // Thousands take their time; only a standstill ends the patience.
                    (best, deadline) = (state.ready, Instant::now() + READY_DEADLINE);
                }
            }
            Err(error) => last = error.root_cause().to_string(),
        }
        check_alive(&process, "the process of the hollow nodes", deadline, &last)?;
        tokio::time::sleep(POLL * 5).await;
    }
}

/// How far hollow nodes are, as their process says it.
#[derive(serde::Deserialize)]
pub(super) struct HollowState {
    pub(super) ready: u64,
    pub(super) waiting: u64,
    pub(super) silent: u64,
    pub(super) pods: u64,
}

pub(super) async fn hollow_state(probe: &Probe, hollow: &Hollow) -> Result<HollowState> {
    match probe.get(hollow.port, "/progress").await? {
        (200, body) => Ok(serde_json::from_slice(&body)?),
        (status, _) => bail!("they answer {status}"),
    }
}
