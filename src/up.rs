//! `kontiki up`, `down`, `reset` and `status`: the cluster on this machine.

mod hollow_nodes;

use std::fs;
use std::io::{IsTerminal, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::authorities::Rotation;
use crate::local::{self, Home, Member, Plan, Wishes};
use crate::probe::Probe;
use crate::process::Process;
use crate::resize;
use hollow_nodes::{hollow_process, hollow_state, start_hollow, wait_hollow};

const READY_DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
const PORT_PATIENCE: Duration = Duration::from_secs(5);
/// More than a server's own deadlines together: only one that hangs is killed.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_secs(25);

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

fn require_free(port: u16, what: &str, flag: &str, is_new: bool) -> Result<()> {
    let other = match is_new {
        true => format!("choose another with {flag}"),
        false => format!(
            "make the cluster anew on another: `kontiki reset`, then `kontiki up {flag} PORT`"
        ),
    };
    // A member that was just killed has its ports for a moment longer than its process can be seen.
    let patience = if is_new {
        Duration::ZERO
    } else {
        PORT_PATIENCE
    };
    match bind_within(port, patience) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {port} ({what}) is in use by another program. `ss -ltnp 'sport = :{port}'` shows which. Stop it, or {other}"
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on port {port} ({what})")),
    }
}

pub(crate) fn is_free(port: u16) -> bool {
    bind_within(port, Duration::ZERO).is_ok()
}

/// Whether the port can be had, tried again and again while it is in use.
fn bind_within(port: u16, patience: Duration) -> std::io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match TcpListener::bind(("0.0.0.0", port)) {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                std::thread::sleep(POLL);
            }
            bound => return bound.map(drop),
        }
    }
}

async fn wait_members(home: &Home, plan: &Plan, progress: &Progress) -> Result<()> {
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

async fn wait_node(home: &Home, plan: &Plan, progress: &Progress) -> Result<()> {
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

fn check_alive(process: &Process, what: &str, deadline: Instant, last: &str) -> Result<()> {
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
fn why_not_ready(body: &[u8]) -> String {
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

/// Whether a member's metrics say that it leads the store.
fn leads(metrics: &[u8]) -> bool {
    let text = String::from_utf8_lossy(metrics);
    let mut lines = text.lines();
    lines.any(|line| line == "etcd_server_is_leader 1")
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

fn print_access(home: &Home, plan: &Plan, ran_already: bool) {
    let admin = home.admin();
    let count = plan.members.len();
    let members = if count == 1 {
        "one member".to_string()
    } else {
        format!("{count} members")
    };
    let state = if ran_already {
        "runs already"
    } else {
        "is ready"
    };
    say(&format!(
        "The cluster {state}: {members}, node {} ({}).",
        plan.node.name, plan.node.runtime
    ));
    if let Some(hollow) = &plan.hollow {
        let tainted = match plan.node.runtime.as_str() {
            "hollow" => "",
            _ => "; pods come to them that tolerate kontiki.io/hollow",
        };
        say(&format!(
            "Besides, {} hollow nodes: what runs there is simulated{tainted}.",
            hollow.nodes
        ));
    }
    say("");
    say(&format!(
        "  export KUBECONFIG={}",
        shell_word(&home.kubeconfig())
    ));
    say("  kubectl get nodes");
    say(&format!(
        "  curl --cacert {} --cert {} --key {} https://127.0.0.1:{}/api/v1/namespaces",
        shell_word(&home.pki().join("ca.crt")),
        shell_word(&admin.cert),
        shell_word(&admin.key),
        plan.members[0].api_port
    ));
    say(&format!(
        "  ETCDCTL_API=3 etcdctl --endpoints={} {} member list",
        plan.etcd_urls().join(","),
        etcdctl_flags(home)
    ));
    if count > 1 {
        say(&format!(
            "  kubectl --context kontiki-2 get nodes     # through the second of the {count} members"
        ));
    }
    say("");
    let of = home_flag(home);
    say(&format!(
        "Logs are in {}/*/log. To stop: make down (or `kontiki down{of}`).",
        home.0.display()
    ));
    say(&format!(
        "To stop and wipe all data: make reset (or `kontiki reset{of}`)."
    ));
}

/// What a command of this program needs to mean this home.
pub(crate) fn home_flag(home: &Home) -> String {
    match home.0 == default_home() {
        true => String::new(),
        false => format!(" --home {}", shell_word(&home.0)),
    }
}

/// How etcdctl proves that it may use the members' ports for etcd clients.
pub(crate) fn etcdctl_flags(home: &Home) -> String {
    let admin = home.store_admin();
    format!(
        "--cacert={} --cert={} --key={}",
        shell_word(&home.pki().join("ca.crt")),
        shell_word(&admin.cert),
        shell_word(&admin.key)
    )
}

/// This program's own file, to start processes from.
pub(crate) fn program() -> Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

/// A path as one word of a shell's command line.
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

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
        remove_containers(&plan.node.name);
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
fn remove_containers(node: &str) {
    let filter = format!("label=io.kontiki.node={node}");
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

/// The command line's answer. What is under way goes on where nobody reads it any more.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
}

/// A spinner on a terminal, a line for each change elsewhere.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: Mutex<String>,
    began: Instant,
}

impl Progress {
    pub(crate) fn new(title: &str) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>3} {msg}");
            ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        let progress = Progress {
            bar,
            last: Default::default(),
            began: Instant::now(),
        };
        progress.say(title);
        progress
    }

    pub(crate) fn say(&self, message: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(message.to_string());
                bar.tick();
            }
            None => {
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                if *last != message {
                    eprintln!("[{:4.1} s] {message}", self.began.elapsed().as_secs_f32());
                    *last = message.to_string();
                }
            }
        }
    }

    pub(crate) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_taken_port_is_named_with_the_way_out() {
        let taken = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = require_free(port, "API port of member m1", "--api-port", true)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("--api-port"),
            "{error}"
        );
    }

    #[test]
    fn a_port_that_is_given_up_in_a_moment_is_waited_for() {
        let taken = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind_within(port, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| bind_within(port, Duration::from_secs(60)));
            drop(taken);
            assert!(waiting.join().unwrap().is_ok());
        });
    }

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

    #[test]
    fn printed_paths_are_one_word_in_a_shell() {
        assert_eq!(
            shell_word(Path::new("/home/me/.kontiki/a")),
            "/home/me/.kontiki/a"
        );
        assert_eq!(shell_word(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }

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

    #[test]
    fn who_leads_stands_in_the_metrics() {
        assert!(leads(
            b"# TYPE etcd_server_is_leader gauge\netcd_server_is_leader 1\n"
        ));
        assert!(!leads(
            b"etcd_server_has_leader 1\netcd_server_is_leader 0\n"
        ));
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
