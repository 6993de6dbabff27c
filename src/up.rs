//! `kontiki up`, `down`, `reset` and `status`: the cluster on this machine.

use std::fs;
use std::io::IsTerminal;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::local::{self, Home, Plan, Wishes};
use crate::probe::Probe;
use crate::process::Process;

const READY_DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Starts what does not run, waits until the cluster serves and its node is ready, and says how to use it.
pub(crate) async fn up(home: &Home, wishes: &Wishes) -> Result<()> {
    crate::pki::create_private_dir(&home.0)?;
    let lock = fs::File::create(home.0.join("up.lock")).context("cannot create the lock file")?;
    lock.try_lock()
        .map_err(|_| anyhow::anyhow!("another `kontiki up` is at work in {}", home.0.display()))?;

    let plan = home.plan(wishes, &mut rand::random)?;
    let node_ip = node_ip();
    local::ensure_pki(home, &plan, &node_ip)?;
    let started = start_missing(home, &plan, &node_ip)?;
    let progress = Progress::new(if started == 0 {
        "checking the cluster"
    } else {
        "starting the cluster"
    });
    wait_ready(home, &plan, &progress).await?;
    progress.done();
    print_access(home, &plan, started == 0);
    Ok(())
}

/// Starts each process of the plan that does not run. Answers how many that were.
fn start_missing(home: &Home, plan: &Plan, node_ip: &str) -> Result<usize> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut started = 0;
    for member in &plan.members {
        let process = server_process(home, &member.name);
        if process.running().is_some() {
            continue;
        }
        for (port, what, flag) in [
            (member.api_port, "API", "--api-port"),
            (member.peer_port, "peer", "--peer-port"),
        ] {
            require_free(
                port,
                &format!("{what} port of member {}", member.name),
                flag,
            )?;
        }
        process.start(
            &program,
            &local::server_command(home, plan, member, node_ip),
        )?;
        started += 1;
    }
    let agent = agent_process(home, plan);
    if !plan.one_process() && agent.running().is_none() {
        require_free(plan.node.port, "port of the node agent", "--node-port")?;
        agent.start(&program, &local::agent_command(home, plan, node_ip))?;
        started += 1;
    }
    Ok(started)
}

fn server_process(home: &Home, member: &str) -> Process {
    Process {
        dir: home.process_dir(member),
        role: "server",
    }
}

/// The process with the node agent in it.
fn agent_process(home: &Home, plan: &Plan) -> Process {
    Process {
        dir: home.process_dir(&local::node_dir(&plan.node.name)),
        role: "agent",
    }
}

fn require_free(port: u16, what: &str, flag: &str) -> Result<()> {
    match TcpListener::bind(("0.0.0.0", port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {port} ({what}) is in use by another program. `ss -ltnp 'sport = :{port}'` shows which. \
             Stop it, or make a cluster on other ports: `kontiki reset`, then `kontiki up {flag} PORT`"
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on port {port} ({what})")),
    }
}

async fn wait_ready(home: &Home, plan: &Plan, progress: &Progress) -> Result<()> {
    let probe = Probe::new(&home.pki().join("ca.crt"), &home.admin())?;
    let deadline = Instant::now() + READY_DEADLINE;
    for (index, member) in plan.members.iter().enumerate() {
        let process = server_process(home, &member.name);
        let mut last = String::from("no answer yet");
        loop {
            progress.say(&format!(
                "waiting for member {} ({}/{}): {last}",
                member.name,
                index + 1,
                plan.members.len()
            ));
            match probe.get(member.api_port, "/readyz").await {
                Ok((200, _)) => break,
                Ok((status, body)) => last = format!("{status} {}", first_failed_check(&body)),
                Err(error) => last = error.root_cause().to_string(),
            }
            check_alive(
                &process,
                &format!("member {}", member.name),
                deadline,
                &last,
            )?;
            tokio::time::sleep(POLL).await;
        }
    }
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
        bail!(
            "{what} stopped. The end of {}:\n{}",
            process.log_file().display(),
            process.log_tail(12)
        );
    }
    if Instant::now() > deadline {
        bail!(
            "{what} is not ready after {} s ({last}). The end of {}:\n{}",
            READY_DEADLINE.as_secs(),
            process.log_file().display(),
            process.log_tail(12)
        );
    }
    Ok(())
}

/// The first `[-]check failed` line of a verbose health answer, or its first line.
fn first_failed_check(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let failed = text.lines().find(|line| line.starts_with("[-]"));
    failed
        .or_else(|| text.lines().next())
        .unwrap_or_default()
        .to_string()
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
    say("");
    say(&format!(
        "  export KUBECONFIG={}",
        home.kubeconfig().display()
    ));
    say("  kubectl get nodes");
    say(&format!(
        "  curl --cacert {} --cert {} --key {} https://127.0.0.1:{}/api/v1/namespaces",
        home.pki().join("ca.crt").display(),
        admin.cert.display(),
        admin.key.display(),
        plan.members[0].api_port
    ));
    if count > 1 {
        say(&format!(
            "  kubectl --context kontiki-2 get nodes     # through the second of the {count} members"
        ));
    }
    say("");
    say(&format!(
        "Logs are in {}/*/log. To stop: make down (or `kontiki down`).",
        home.0.display()
    ));
    say("To stop and wipe all data: make reset (or `kontiki reset`).");
}

/// Stops the node agent and then the members. Containers keep running; `up` finds them again.
pub(crate) fn down(home: &Home) -> Result<()> {
    let Some(plan) = home.load()? else {
        say(&format!("There is no cluster in {}.", home.0.display()));
        return Ok(());
    };
    let mut stopped = 0;
    if !plan.one_process() {
        stopped += usize::from(agent_process(home, &plan).stop(STOP_PATIENCE)?);
    }
    for member in &plan.members {
        stopped += usize::from(server_process(home, &member.name).stop(STOP_PATIENCE)?);
    }
    say(&match stopped {
        0 => "The cluster was not running.".to_string(),
        count => {
            format!("Stopped {count} processes. The data is kept; `make up` goes on from here.")
        }
    });
    Ok(())
}

/// Stops everything, removes the cluster's containers and wipes its directory.
pub(crate) async fn reset(home: &Home) -> Result<()> {
    let Some(plan) = home.load()? else {
        say(&format!("There is no cluster in {}.", home.0.display()));
        return Ok(());
    };
    down(home)?;
    if plan.node.runtime == "docker" {
        remove_containers(&plan.node.name);
    }
    unmount_below(home);
    fs::remove_dir_all(&home.0).with_context(|| format!("cannot remove {}", home.0.display()))?;
    say(&format!("Wiped {}.", home.0.display()));
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
    let prefix = home.0.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut points: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    points.retain(|point| point.starts_with(&prefix));
    for point in points.iter().rev() {
        let _ = std::process::Command::new("umount").arg(point).status();
    }
}

/// One line a process: whether it runs and what its readiness check says. An error if anything is not well.
pub(crate) async fn status(home: &Home) -> Result<()> {
    let Some(plan) = home.load()? else {
        bail!(
            "there is no cluster in {}; `kontiki up` makes one",
            home.0.display()
        );
    };
    let probe = Probe::new(&home.pki().join("ca.crt"), &home.admin())?;
    let mut well = true;
    for member in &plan.members {
        let process = server_process(home, &member.name);
        let state = match process.running() {
            None => "stopped".to_string(),
            Some(pid) => match probe.get(member.api_port, "/readyz").await {
                Ok((200, _)) => format!("ready (pid {pid})"),
                Ok((status, body)) => format!(
                    "not ready (pid {pid}): {status} {}",
                    first_failed_check(&body)
                ),
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

#[expect(clippy::print_stdout, reason = "this is the command line's answer")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// A spinner on a terminal, a line for each change elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    last: std::cell::RefCell<String>,
    began: Instant,
}

impl Progress {
    fn new(title: &str) -> Progress {
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

    fn say(&self, message: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(message.to_string());
                bar.tick();
            }
            None if *self.last.borrow() != message => {
                eprintln!("[{:4.1} s] {message}", self.began.elapsed().as_secs_f32());
                *self.last.borrow_mut() = message.to_string();
            }
            None => {}
        }
    }

    fn done(&self) {
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
        let error = require_free(port, "API port of member m1", "--api-port")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("--api-port"),
            "{error}"
        );
    }

    #[test]
    fn the_failed_check_is_what_is_shown() {
        assert_eq!(
            first_failed_check(b"[+]ping ok\n[-]store failed: no leader\n"),
            "[-]store failed: no leader"
        );
        assert_eq!(first_failed_check(b"nope\n"), "nope");
    }
}
