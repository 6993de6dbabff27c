//! `kontiki status`.

use anyhow::{Result, bail};

use super::hollow_nodes::{hollow_process, hollow_state};
use super::wait::why_not_ready;
use super::{agent_process, say, server_process};
use crate::local::Home;
use crate::probe::Probe;

/// One line a process: whether it runs and what its readiness check says. An error if anything is not well.
pub(crate) async fn status(home: &Home) -> Result<()> {
    let plan = home.plan_there_is()?;
    let probe = Probe::new(&home.pki().join("ca.crt"), &home.admin())?;
    let mut well = true;
    for member in &plan.members {
        let process = server_process(home, &member.name);
        let state = match process.running() {
            None => "stopped".to_string(),
            Some(pid) => match probe.get(member.api_port, "/readyz").await {
                Ok((200, _)) => {
                    let metrics = probe.get(member.api_port, "/metrics").await;
                    let leads = metrics.is_ok_and(|(_, body)| leads(&body));
                    format!("ready (pid {pid}){}", if leads { ", leads" } else { "" })
                }
                Ok((_, body)) => format!("not ready (pid {pid}): {}", why_not_ready(&body)),
                Err(error) => format!("not ready (pid {pid}): {}", error.root_cause()),
            },
        };
        well &= state.starts_with("ready");
        say(&format!(
            "member {:<4} https://127.0.0.1:{}  {state}",
            member.name, member.api_port
        ));
    }
    let agent = agent_process(home, &plan).running();
    well &= agent.is_some();
    let state = agent.map_or("stopped".to_string(), |pid| format!("running (pid {pid})"));
    say(&format!("node   {}  {state}", plan.node.name));
    if let Some(hollow) = &plan.hollow {
        let state = match hollow_process(home).running() {
            None => "stopped".to_string(),
            Some(pid) => match hollow_state(&probe, hollow).await {
                Ok(it) => format!(
                    "running (pid {pid}): {} ready, {} silent, {} pods",
                    it.ready, it.silent, it.pods
                ),
                Err(error) => format!("not ready (pid {pid}): {}", error.root_cause()),
            },
        };
        well &= state.starts_with("running");
        say(&format!("hollow {} nodes  {state}", hollow.nodes));
    }
    if !well {
        bail!("not everything runs; `kontiki up` starts what is missing");
    }
    Ok(())
}

/// Whether a member's metrics say that it leads the store.
fn leads(metrics: &[u8]) -> bool {
    let text = String::from_utf8_lossy(metrics);
    let mut lines = text.lines();
    lines.any(|line| line == "etcd_server_is_leader 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_stands_in_the_metrics() {
        assert!(leads(
            b"# TYPE etcd_server_is_leader gauge\netcd_server_is_leader 1\n"
        ));
        assert!(!leads(
            b"etcd_server_has_leader 1\netcd_server_is_leader 0\n"
        ));
    }
}
