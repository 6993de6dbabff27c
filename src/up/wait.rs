//! Waiting until members serve and the node is ready, with a reason where they are not.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::{POLL, Progress, agent_process, home_flag, say, server_process};
use crate::local::{Home, Member, Plan};
use crate::probe::Probe;
use crate::process::Process;

pub(super) const READY_DEADLINE: Duration = Duration::from_secs(120);

pub(super) async fn wait_members(home: &Home, plan: &Plan, progress: &Progress) -> Result<()> {
    let probe = Probe::new(&home.pki().join("ca.crt"), &home.admin())?;
    let deadline = Instant::now() + READY_DEADLINE;
    for (index, member) in plan.members.iter().enumerate() {
        if member.leaving {
            continue;
        }
        loop {
            let last = match probe.get(member.api_port, "/readyz").await {
                Ok((200, _)) => break,
                Ok((_, body)) => why_not_ready(&body),
                Err(error) => error.root_cause().to_string(),
            };
            progress.say(&format!(
                "waiting for member {} ({}/{}): {last}",
                member.name,
                index + 1,
                plan.members.len()
            ));
            let runs = |name: &str| server_process(home, name).running().is_some();
            if let Some(ended) = end_of_wait(plan, member, &runs, Instant::now() > deadline) {
                return Err(ended.told(home, plan, &last));
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

/// Why nobody waits any longer.
#[derive(Debug, PartialEq)]
enum Ended<'a> {
    Stopped(&'a Member),
    Late(&'a Member),
}

/// Looks at all members while one is waited for: it may wait for ever itself, for those that have stopped.
fn end_of_wait<'a>(
    plan: &'a Plan,
    awaited: &'a Member,
    runs: &dyn Fn(&str) -> bool,
    is_late: bool,
) -> Option<Ended<'a>> {
    let mut stay = plan.members.iter().filter(|member| !member.leaving);
    match stay.find(|member| !runs(&member.name)) {
        Some(stopped) => Some(Ended::Stopped(stopped)),
        None => is_late.then_some(Ended::Late(awaited)),
    }
}

impl Ended<'_> {
    /// Says what can be done, and answers what has happened.
    fn told(&self, home: &Home, plan: &Plan, last: &str) -> anyhow::Error {
        let (Ended::Stopped(member) | Ended::Late(member)) = self;
        let what = format!("member {}", member.name);
        let process = server_process(home, &member.name);
        if plan.members.len() > 1 {
            say(&format!(
                "If the data of {what} is lost: kontiki store replace {}{}",
                member.name,
                home_flag(home)
            ));
        }
        match self {
            Ended::Stopped(_) => has_stopped(&process, &what),
            Ended::Late(_) => is_late(&process, &what, last),
        }
    }
}

pub(super) async fn wait_node(home: &Home, plan: &Plan, progress: &Progress) -> Result<()> {
    let probe = Probe::new(&home.pki().join("ca.crt"), &home.admin())?;
    let deadline = Instant::now() + READY_DEADLINE;
    let agent = agent_process(home, plan);
    let path = format!("/api/v1/nodes/{}", plan.node.name);
    let port = plan.members[0].api_port;
    let mut last = String::from("not registered yet");
    loop {
        progress.say(&format!("waiting for node {}: {last}", plan.node.name));
        match probe.get(port, &path).await {
            Ok((200, body)) => match node_readiness(&body) {
                Ok(()) => return Ok(()),
                Err(reason) => last = reason,
            },
            Ok((404, _)) => {}
            Ok((status, _)) => last = format!("the API answers {status}"),
            Err(error) => last = error.root_cause().to_string(),
        }
        check_alive(&agent, "the node agent", deadline, &last)?;
        tokio::time::sleep(POLL).await;
    }
}

pub(super) fn check_alive(
    process: &Process,
    what: &str,
    deadline: Instant,
    last: &str,
) -> Result<()> {
    if process.running().is_none() {
        return Err(has_stopped(process, what));
    }
    if Instant::now() > deadline {
        return Err(is_late(process, what, last));
    }
    Ok(())
}

fn has_stopped(process: &Process, what: &str) -> anyhow::Error {
    anyhow!(
        "{what} stopped. The end of {}:\n{}",
        process.log_file().display(),
        process.log_tail(12)
    )
}

fn is_late(process: &Process, what: &str, last: &str) -> anyhow::Error {
    anyhow!(
        "{what} is not ready after {} s ({last}). The end of {}:\n{}",
        READY_DEADLINE.as_secs(),
        process.log_file().display(),
        process.log_tail(12)
    )
}

/// What a health answer means in which a check has failed. The checks are those of Kubernetes, which do not say why.
pub(super) fn why_not_ready(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let failed = text.lines().find_map(|line| line.strip_prefix("[-]"));
    let Some(failed) = failed else {
        return text.lines().next().unwrap_or_default().to_string();
    };
    let check = failed.split(" failed").next().unwrap_or_default();
    match check {
        "etcd" => "its store has no leader with a quorum yet".into(),
        "informer-sync" => "it is still reading what there is".into(),
        "shutdown" => "it is stopping".into(),
        hook if hook.starts_with("poststarthook/") => {
            "it is making what every cluster begins with".into()
        }
        other => format!("its check `{other}` fails"),
    }
}

/// Ok when the Node's Ready condition is True, else why not.
fn node_readiness(body: &[u8]) -> Result<(), String> {
    let node: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let conditions = node["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .find(|condition| condition["type"] == "Ready");
    match ready {
        Some(condition) if condition["status"] == "True" => Ok(()),
        Some(condition) => Err(condition["message"]
            .as_str()
            .unwrap_or("not ready")
            .to_string()),
        None => Err("no status yet".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::Wishes;

    #[test]
    fn readiness_of_a_node_is_its_ready_condition() {
        let node = |status: &str| {
            format!(
                r#"{{"status":{{"conditions":[{{"type":"Ready","status":"{status}","message":"why"}}]}}}}"#
            )
        };
        assert_eq!(node_readiness(node("True").as_bytes()), Ok(()));
        assert_eq!(node_readiness(node("False").as_bytes()), Err("why".into()));
        assert_eq!(node_readiness(b"{}"), Err("no status yet".into()));
    }

    #[test]
    fn a_failed_check_is_said_in_words() {
        let said = |check: &str| {
            let body =
                format!("[+]ping ok\n[-]{check} failed: reason withheld\nreadyz check failed\n");
            why_not_ready(body.as_bytes())
        };
        for check in [
            "etcd",
            "informer-sync",
            "poststarthook/rbac/bootstrap-roles",
            "shutdown",
            "other",
        ] {
            let said = said(check);
            assert!(!said.contains("withheld") && !said.is_empty(), "{said}");
        }
        assert!(said("etcd").contains("quorum"));
        assert_eq!(said("other"), "its check `other` fails");
        assert_eq!(why_not_ready(b"nope\n"), "nope");
    }

    #[test]
    fn all_members_are_looked_at_while_one_is_waited_for() {
        let wishes = Wishes {
            members: Some(3),
            node_name: Some("here".into()),
            ..Wishes::default()
        };
        let mut plan = Plan::new(&wishes, &mut || 8).unwrap();
        let look = |plan: &Plan, stopped: &[&str], late: bool| {
            let runs = |name: &str| !stopped.contains(&name);
            match end_of_wait(plan, &plan.members[0], &runs, late) {
                None => String::new(),
                Some(Ended::Stopped(member)) => format!("{} stopped", member.name),
                Some(Ended::Late(member)) => format!("{} late", member.name),
            }
        };
        assert_eq!(look(&plan, &[], false), "");
        assert_eq!(look(&plan, &[], true), "m1 late");
        // The one that is waited for runs, and would wait for a quorum.
        assert_eq!(look(&plan, &["m3"], false), "m3 stopped");
        assert_eq!(look(&plan, &["m1"], true), "m1 stopped");
        plan.members[2].leaving = true;
        assert_eq!(look(&plan, &["m3"], false), "");
    }
}
