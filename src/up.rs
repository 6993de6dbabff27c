//! `kontiki up`, `down`, `reset` and `status`: the cluster on this machine.

mod access;
mod hollow_nodes;
mod ports;
mod progress;
mod status;
mod stop;
mod wait;

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::authorities::Rotation;
use crate::local::{self, Home, Plan, Wishes};
use crate::process::Process;
use crate::resize;
use access::print_access;
pub(crate) use access::{home_flag, shell_word};
use hollow_nodes::{start_hollow, wait_hollow};
pub(crate) use ports::is_free;
use ports::require_free;
pub(crate) use progress::{Progress, say};
pub(crate) use status::status;
pub(crate) use stop::{down, reset};
use wait::{wait_members, wait_node};

const POLL: Duration = Duration::from_millis(100);
/// More than a server's own deadlines together: only one that hangs is killed.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(40);

/// Starts what does not run, waits until the cluster serves and its node is ready, brings it to the wished number of
/// members, and says how to use it.
pub(crate) async fn up(home: &Home, wishes: &Wishes, rotation: Rotation) -> Result<()> {
    crate::pki::create_private_dir(&home.0)?;
    let _lock = lock(home)?;
    let kept = home.load()?;
    let mut plan = home.plan(wishes, &mut rand::random)?;
    let node_ip = node_ip();
    let missing = missing(home, &plan, &node_ip, kept.as_ref())?;
    if kept.as_ref() != Some(&plan) {
        home.save(&plan)?;
    }
    rotation.turn(&home.pki())?;
    local::ensure_pki(home, &plan, &node_ip, rotation.renew)?;
    let program = program()?;
    for (process, command) in &missing {
        process.start(&program, command)?;
    }
    let progress = Progress::new(match missing.is_empty() {
        true => "checking the cluster",
        false => "starting the cluster",
    });
    wait_members(home, &plan, &progress).await?;
    let mut changed = !missing.is_empty() | refresh(home, &plan, &progress).await?;
    if kept.is_some() {
        plan = resize::settle(home, plan, wishes.members, &progress).await?;
        wait_members(home, &plan, &progress).await?;
        changed |= refresh(home, &plan, &progress).await?;
    }
    start_agent(home, &plan)?;
    changed |= start_hollow(home, &plan, &progress).await?;
    wait_node(home, &plan, &progress).await?;
    wait_hollow(home, &plan, &progress).await?;
    progress.done();
    print_access(home, &plan, !changed);
    Ok(())
}

/// For a change of a cluster that is there already: nobody else changes it until the lock is dropped.
pub(crate) fn begin(home: &Home) -> Result<(fs::File, Plan)> {
    let plan = home.plan_there_is()?;
    let lock = lock(home)?;
    Ok((lock, plan))
}

/// Starts a member that does not run.
pub(crate) fn start_member(home: &Home, plan: &Plan, name: &str) -> Result<()> {
    let process = server_process(home, name);
    if process.running().is_none() {
        let command = local::server_command(home, plan, plan.member(name)?, &node_ip());
        process.start(&program()?, &command)?;
    }
    Ok(())
}

/// Starts the node agent, where it has a process of its own and does not run.
fn start_agent(home: &Home, plan: &Plan) -> Result<()> {
    let agent = agent_process(home, plan);
    if !plan.one_process() && agent.running().is_none() {
        let command = local::agent_command(home, plan, &node_ip());
        agent.start(&program()?, &command)?;
    }
    Ok(())
}

/// Starts anew, one after the other, what runs with a command line that is out of date: members of a former version
/// without a port for etcd clients, one that has the node agent in it although that stands on its own now, and an agent
/// that knows other members. True if there were any.
async fn refresh(home: &Home, plan: &Plan, progress: &Progress) -> Result<bool> {
    let mut any = false;
    for member in plan.members.iter().filter(|member| !member.leaving) {
        let process = server_process(home, &member.name);
        if !is_outdated(&process.command_line(), plan) {
            continue;
        }
        progress.say(&format!("restarting member {}", member.name));
        process.stop(STOP_PATIENCE)?;
        start_member(home, plan, &member.name)?;
        wait_members(home, plan, progress).await?;
        any = true;
    }
    let agent = agent_process(home, plan);
    if !plan.one_process() && agent.running().is_some() {
        let words = agent.command_line();
        if !words.contains(&plan.servers().join(",")) {
            progress.say("restarting the node agent");
            agent.stop(STOP_PATIENCE)?;
            start_agent(home, plan)?;
        }
    }
    Ok(any)
}

/// Whether a member that was started with these words has to be started anew for the plan.
fn is_outdated(words: &[String], plan: &Plan) -> bool {
    let has = |flag: &str| words.iter().any(|word| word == flag);
    !has("--etcd-listen") || has("--with-node") != plan.one_process()
}

/// One `up`, `down` or `reset` at a time. Held until dropped.
pub(crate) fn lock(home: &Home) -> Result<fs::File> {
    let file = home.lock_file();
    let lock =
        fs::File::create(&file).with_context(|| format!("cannot create {}", file.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => bail!(
            "another `kontiki up`, `down` or `reset` is at work in {}",
            home.0.display()
        ),
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", file.display()))
        }
    }
}

/// The processes of the plan that do not run, with their command lines. Nothing is done yet, and nothing is left behind
/// where a port is taken: a cluster half started helps nobody, and a new one may still choose other ports.
fn missing(
    home: &Home,
    plan: &Plan,
    node_ip: &str,
    kept: Option<&Plan>,
) -> Result<Vec<(Process, Vec<String>)>> {
    let is_new = kept.is_none();
    // A plan of a former version has just got them.
    let new_etcd_ports = kept.is_none_or(|kept| kept.etcd_urls() != plan.etcd_urls());
    let mut missing = Vec::new();
    for member in &plan.members {
        let process = server_process(home, &member.name);
        if process.running().is_some() {
            continue;
        }
        let whose = |what: &str| format!("{what} port of member {}", member.name);
        require_free(member.api_port, &whose("API"), "--api-port", is_new)?;
        require_free(member.peer_port, &whose("peer"), "--peer-port", is_new)?;
        let (etcd, flag) = (whose("etcd"), "--etcd-port");
        require_free(member.etcd_port, &etcd, flag, new_etcd_ports)?;
        missing.push((process, local::server_command(home, plan, member, node_ip)));
    }
    // A single member that has the agent in it gives it up later.
    let inside = plan.members.iter().any(|member| {
        let words = server_process(home, &member.name).command_line();
        words.iter().any(|word| word == "--with-node")
    });
    let agent = agent_process(home, plan);
    if agent.running().is_none() && !inside {
        let whose = "port of the node agent";
        require_free(plan.node.port, whose, "--node-port", is_new)?;
        if !plan.one_process() {
            missing.push((agent, local::agent_command(home, plan, node_ip)));
        }
    }
    Ok(missing)
}

pub(crate) fn server_process(home: &Home, member: &str) -> Process {
    Process {
        dir: home.process_dir(member),
        role: "server",
    }
}

/// The process with the node agent in it: its own, or a single member's.
fn agent_process(home: &Home, plan: &Plan) -> Process {
    match plan.members.first() {
        Some(member) if plan.one_process() => server_process(home, &member.name),
        _ => Process {
            dir: home.process_dir(&local::node_dir(&plan.node.name)),
            role: "agent",
        },
    }
}

/// This program's own file, to start processes from.
pub(crate) fn program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

/// The address of this machine as others see it, without sending anything; loopback where there is no network.
pub(crate) fn node_ip() -> String {
    let probe = || -> std::io::Result<String> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // TEST-NET-1: connecting a datagram socket only picks the route.
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip().to_string())
    };
    probe().unwrap_or_else(|_| "127.0.0.1".into())
}

/// Where a cluster lives unless `--home` says otherwise.
pub(crate) fn default_home() -> PathBuf {
    let base = std::env::var_os("HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from("/var/lib"));
    base.join(".kontiki")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn one_cluster_is_started_or_stopped_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home(dir.path().to_path_buf());
        let held = lock(&home).unwrap();
        assert!(lock(&home).unwrap_err().to_string().contains("at work"));
        drop(held);
        lock(&home).unwrap();
    }

    #[test]
    fn a_member_is_started_anew_for_what_its_command_line_lacks() {
        let home = Home(PathBuf::from("/h"));
        let plan = |members: usize| {
            let wishes = Wishes {
                members: Some(members),
                node_name: Some("here".into()),
                ..Wishes::default()
            };
            Plan::new(&wishes, &mut || 8).unwrap()
        };
        let words = |plan: &Plan| local::server_command(&home, plan, &plan.members[0], "10.0.0.5");
        let (one, mut three) = (plan(1), plan(3));
        assert!(!is_outdated(&words(&one), &one) && !is_outdated(&words(&three), &three));
        // The cluster has grown: the agent stands on its own, and goes on doing so.
        assert!(is_outdated(&words(&one), &three));
        three.members.truncate(1);
        three.node.apart = true;
        assert!(!is_outdated(&words(&three), &three));
        // Of a version that had no port for etcd clients.
        let mut former = words(&one);
        former.retain(|word| word != "--etcd-listen");
        assert!(is_outdated(&former, &one));
    }

    #[test]
    fn a_single_members_process_has_the_node_agent_in_it() {
        let home = Home(PathBuf::from("/h"));
        let plan = |members: usize| {
            let wishes = Wishes {
                members: Some(members),
                node_name: Some("here".into()),
                ..Wishes::default()
            };
            Plan::new(&wishes, &mut || 8).unwrap()
        };
        assert_eq!(agent_process(&home, &plan(1)).dir, Path::new("/h/m1"));
        assert_eq!(
            agent_process(&home, &plan(3)).dir,
            Path::new("/h/node-here")
        );
    }
}
