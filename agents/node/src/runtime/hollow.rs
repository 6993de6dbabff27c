//! Simulated containers, for machines without Docker and for tests of scale.
//!
//! Nothing runs: a container is an entry in a map whose state follows from the clock. What it "does" is decided when it
//! starts, from its command: `sleep N`, `echo`, `exit N`, `true` and `false`, alone or in a `sh -c` script, are
//! understood, anything else runs until it is stopped. The same input gives the same delays and the same addresses.
//! Every channel through which a user could mistake it for the real thing says that it is simulated.
//! Architecture invariant: no process, no network, no file system.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;
use tokio::sync::broadcast;

use crate::source::Owned;
use crate::stats::Used;
use crate::stats::load::Load;

use super::{
    ContainerSpec, ExecRequest, Exit, Identity, Image, Limits, LogChunk, LogRequest, Observed,
    Output, RegistryLogin, Result, Runtime, RuntimeError, RuntimeEvent, RuntimeInfo, SANDBOX,
    SandboxSpec, Session, SessionControl, State,
};

/// Bound of the event channel: hints that overflow are made good by the periodic look.
const EVENTS_MAX: usize = 1024;
/// Output that a simulated container may produce.
const LOG_LINES_MAX: usize = 1000;

pub(crate) const NOTICE: &str =
    "kontiki: this container is simulated by a hollow node; nothing is running";

/// How long things take and how big the pretended machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HollowConfig {
    /// Shortest time from "start" to a running container.
    pub start_delay_min: Duration,
    /// Longest such time; the delay of a container lies between, decided by its name.
    pub start_delay_max: Duration,
    /// Time from "stop" to the end of a container that runs; never longer than its grace period.
    pub stop_delay: Duration,
    /// Capacity that the node reports.
    pub cpu_count: u32,
    /// Capacity that the node reports, in bytes.
    pub memory_bytes: u64,
}

impl Default for HollowConfig {
    fn default() -> Self {
        HollowConfig {
            start_delay_min: Duration::from_millis(20),
            start_delay_max: Duration::from_millis(120),
            // As on a real node: who has just changed or deleted a pod still finds it as it was.
            stop_delay: Duration::from_millis(500),
            cpu_count: 32,
            memory_bytes: 256 << 30,
        }
    }
}

pub(crate) struct HollowRuntime {
    config: HollowConfig,
    node_name: String,
    world: Arc<Mutex<World>>,
    events: broadcast::Sender<RuntimeEvent>,
}

#[derive(Default)]
struct World {
    containers: BTreeMap<String, Simulated>,
    images: BTreeMap<String, Image>,
    sandboxes_made: u32,
}

struct Simulated {
    identity: Identity,
    labels: BTreeMap<String, String>,
    image: String,
    created_at: OffsetDateTime,
    ip: Option<String>,
    program: Program,
    limits: Option<Limits>,
    run: Option<Run>,
    /// Tells the pod's task when the program ends by itself.
    _timer: Option<Owned>,
}

struct Run {
    started_at: OffsetDateTime,
    /// Processor time that it pretends to have used, and until when that is counted.
    spent: (u64, OffsetDateTime),
    /// Set by `stop`.
    stopped: Option<(OffsetDateTime, i64)>,
}

impl Run {
    fn from(now: OffsetDateTime) -> Run {
        Run {
            started_at: now,
            spent: (0, now),
            stopped: None,
        }
    }

    /// Counts on under this load, and gives what was used.
    fn spend(&mut self, load: &Load, now: OffsetDateTime) -> u64 {
        let (spent, until) = self.spent;
        if let Ok(time) = Duration::try_from(now - until) {
            self.spent = (spent.saturating_add(load.spent(time)), now);
        }
        self.spent.0
    }
}

/// What a simulated container does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) lines: Vec<(Duration, String)>,
    /// When it ends by itself and with which code.
    pub(crate) end: Option<(Duration, i64)>,
}

impl HollowRuntime {
    pub(crate) fn new(config: HollowConfig, node_name: &str) -> HollowRuntime {
        let (events, _) = broadcast::channel(EVENTS_MAX);
        HollowRuntime {
            config,
            node_name: node_name.to_owned(),
            world: Arc::default(),
            events,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no panic while locked")
    }

    /// The same delay for the same container name, spread evenly over the configured span.
    fn delay(&self, identity: &Identity) -> Duration {
        let span = self
            .config
            .start_delay_max
            .saturating_sub(self.config.start_delay_min);
        let share = hash((&identity.pod_uid, &identity.container, identity.attempt)) % 1000;
        self.config.start_delay_min + span.mul_f64(share as f64 / 1000.0)
    }

    fn notify(&self, pod_uid: &str) {
        // Nobody listening is fine: the periodic look finds the change.
        let _ = self.events.send(RuntimeEvent {
            pod_uid: pod_uid.to_owned(),
        });
    }

    fn notify_at(&self, pod_uid: &str, after: Duration) -> Owned {
        let (events, pod_uid) = (self.events.clone(), pod_uid.to_owned());
        Owned::spawn(async move {
            tokio::time::sleep(after + Duration::from_millis(1)).await;
            let _ = events.send(RuntimeEvent { pod_uid });
        })
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn seconds(duration: Duration) -> time::Duration {
    time::Duration::try_from(duration).unwrap_or(time::Duration::MAX)
}

impl Simulated {
    fn state(&self, now: OffsetDateTime) -> State {
        let Some(run) = &self.run else {
            return State::Created;
        };
        let exited = |code: i64, finished_at: OffsetDateTime| {
            State::Exited(Exit {
                code,
                oom_killed: false,
                start_error: None,
                started_at: Some(run.started_at),
                finished_at,
            })
        };
        let natural = self
            .program
            .end
            .map(|(after, code)| (run.started_at + seconds(after), code));
        match (natural, run.stopped) {
            (Some((at, code)), None) if at <= now => exited(code, at),
            (Some((at, code)), Some((stopped_at, _))) if at <= stopped_at => exited(code, at),
            (_, Some((at, code))) => exited(code, at),
            _ => State::Running {
                started_at: run.started_at,
            },
        }
    }

    fn log(&self, now: OffsetDateTime) -> Vec<LogChunk> {
        let Some(run) = &self.run else {
            return Vec::new();
        };
        let end = match self.state(now) {
            State::Exited(exit) => exit.finished_at,
            _ => now,
        };
        let notice = (Duration::ZERO, NOTICE.to_owned());
        let lines = std::iter::once(&notice).chain(&self.program.lines);
        lines
            .map(|(after, line)| (run.started_at + seconds(*after), line))
            .filter(|(at, _)| *at <= end)
            .map(|(at, line)| LogChunk {
                output: Output::Stdout(Bytes::from(format!("{line}\n"))),
                timestamp: at.format(&Rfc3339).unwrap_or_default(),
            })
            .collect()
    }
}

/// Whether an image cannot be pulled, which its name says: so tests ask for a container that does not begin.
pub(crate) fn is_missing(image: &str) -> bool {
    let (registry, path) = image.split_once('/').unwrap_or(("", image));
    let tag = path.rsplit_once(':').map_or("", |(_, tag)| tag);
    let words = ["nonexistent", "non-existent", "doesnt-exist"];
    registry.starts_with("invalid.") || tag == "404" || words.iter().any(|word| path.contains(word))
}

/// What a registry says of such an image.
pub(crate) fn not_found(image: &str) -> String {
    format!("{image}: not found")
}

/// Reads a command line as far as it can be simulated.
pub(crate) fn program(command: &[String], args: &[String]) -> Program {
    let words: Vec<&str> = command.iter().chain(args).map(String::as_str).collect();
    let script = match words.as_slice() {
        [shell, flag, script, ..]
            if shell.ends_with("sh") && flag.starts_with('-') && flag.contains('c') =>
        {
            (*script).to_owned()
        }
        words => words.join(" "),
    };
    let mut program = Program::default();
    let mut at = Duration::ZERO;
    let mut code = 0;
    if script.trim().is_empty() {
        return program;
    }
    for statement in script
        .split([';', '\n'])
        .flat_map(|part| part.split("&&"))
        .map(str::trim)
    {
        let (verb, argument) = statement.split_once(' ').unwrap_or((statement, ""));
        match verb.rsplit('/').next().unwrap_or(verb) {
            "" | ":" | "true" => code = 0,
            "false" => code = 1,
            "echo" => {
                if program.lines.len() < LOG_LINES_MAX {
                    program
                        .lines
                        .push((at, argument.trim_matches(['"', '\'']).to_owned()));
                }
                code = 0;
            }
            "sleep" => match argument
                .trim()
                .parse::<f64>()
                .map(Duration::try_from_secs_f64)
            {
                Ok(Ok(pause)) => {
                    at = at.saturating_add(pause);
                    code = 0;
                }
                _ => return program,
            },
            "exit" => {
                program.end = Some((at, argument.trim().parse().unwrap_or(0)));
                return program;
            }
            _ => return program,
        }
    }
    program.end = Some((at, code));
    program
}

#[async_trait]
impl Runtime for HollowRuntime {
    fn scheme(&self) -> &'static str {
        "hollow"
    }

    async fn info(&self) -> Result<RuntimeInfo> {
        Ok(RuntimeInfo {
            version: concat!("hollow://", env!("CARGO_PKG_VERSION")).to_owned(),
            os_image: "simulated".to_owned(),
            kernel_version: String::new(),
            cpu_count: i64::from(self.config.cpu_count),
            memory_bytes: i64::try_from(self.config.memory_bytes).unwrap_or(i64::MAX),
            hollow: true,
        })
    }

    async fn list(&self, pod_uid: Option<&str>) -> Result<Vec<Observed>> {
        let now = OffsetDateTime::now_utc();
        let world = self.world();
        let wanted =
            |container: &&Simulated| pod_uid.is_none_or(|uid| container.identity.pod_uid == uid);
        let all = world
            .containers
            .iter()
            .filter(|(_, container)| wanted(container));
        Ok(all
            .map(|(id, container)| Observed {
                id: id.clone(),
                identity: container.identity.clone(),
                state: container.state(now),
                created_at: container.created_at,
                image: container.image.clone(),
                image_id: format!("hollow://{}", container.image),
                labels: container.labels.clone(),
                ip: container.ip.clone(),
                pid: None,
                limits: container.limits.clone(),
            })
            .collect())
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        let receiver = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
        Box::pin(receiver.filter_map(|event| futures::future::ready(event.ok())))
    }

    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<String> {
        let id = identifier(&self.node_name, &spec.identity);
        let mut world = self.world();
        world.sandboxes_made = world.sandboxes_made.wrapping_add(1);
        // Addresses of 10.128.0.0/9: a quarter of a thousand per subnet, a subnet per node name.
        let (subnet, host) = (
            hash(&self.node_name) % (1 << 15),
            world.sandboxes_made % 250 + 2,
        );
        let ip = format!(
            "10.{}.{}.{host}",
            128 + (subnet >> 8),
            (subnet + u64::from(world.sandboxes_made / 250)) & 255
        );
        let now = OffsetDateTime::now_utc();
        let sandbox = Simulated {
            identity: spec.identity.clone(),
            labels: BTreeMap::new(),
            image: String::new(),
            created_at: now,
            ip: (!spec.host_network).then_some(ip),
            program: Program::default(),
            limits: None,
            run: Some(Run::from(now)),
            _timer: None,
        };
        world.containers.insert(id.clone(), sandbox);
        drop(world);
        self.notify(&spec.identity.pod_uid);
        Ok(id)
    }

    async fn create(
        &self,
        sandbox: &str,
        identity: &Identity,
        spec: &ContainerSpec,
    ) -> Result<String> {
        let id = identifier(&self.node_name, identity);
        let mut world = self.world();
        if !world.containers.contains_key(sandbox) {
            return Err(RuntimeError::NotFound(format!(
                "no such sandbox: {sandbox}"
            )));
        }
        let container = Simulated {
            identity: identity.clone(),
            labels: spec.labels.clone(),
            image: spec.image.clone(),
            created_at: OffsetDateTime::now_utc(),
            ip: None,
            program: program(&spec.command, &spec.args),
            limits: Some(spec.resources.clone()),
            run: None,
            _timer: None,
        };
        world.containers.insert(id.clone(), container);
        Ok(id)
    }

    async fn start(&self, id: &str) -> Result<()> {
        let identity = {
            let world = self.world();
            let container = world.containers.get(id);
            container
                .map(|c| c.identity.clone())
                .ok_or_else(|| missing(id))?
        };
        tokio::time::sleep(self.delay(&identity)).await;
        {
            let mut world = self.world();
            let container = world.containers.get_mut(id).ok_or_else(|| missing(id))?;
            container.run = Some(Run::from(OffsetDateTime::now_utc()));
            let end = container.program.end;
            container._timer = end.map(|(after, _)| self.notify_at(&identity.pod_uid, after));
        }
        self.notify(&identity.pod_uid);
        Ok(())
    }

    async fn update(&self, id: &str, limits: &Limits) -> Result<()> {
        let mut world = self.world();
        let container = world.containers.get_mut(id).ok_or_else(|| missing(id))?;
        container.limits = Some(limits.clone());
        Ok(())
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let running = {
            let world = self.world();
            let state = world
                .containers
                .get(id)
                .map(|container| container.state(OffsetDateTime::now_utc()));
            matches!(state, Some(State::Running { .. }))
        };
        let pause = self.config.stop_delay.min(grace);
        if running && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let now = OffsetDateTime::now_utc();
        let uid = {
            let mut world = self.world();
            let Some(container) = world.containers.get_mut(id) else {
                return Ok(());
            };
            if !matches!(container.state(now), State::Running { .. }) {
                return Ok(());
            }
            let uid = container.identity.pod_uid.clone();
            if let Some(run) = &mut container.run {
                run.stopped = Some((now, 143));
            }
            uid
        };
        self.notify(&uid);
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let removed = self.world().containers.remove(id);
        if let Some(container) = removed {
            self.notify(&container.identity.pod_uid);
        }
        Ok(())
    }

    async fn exec(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        let now = OffsetDateTime::now_utc();
        let running = {
            let world = self.world();
            let container = world.containers.get(id).ok_or_else(|| missing(id))?;
            matches!(container.state(now), State::Running { .. })
        };
        if !running {
            return Err(RuntimeError::Refused(format!(
                "container {id} is not running"
            )));
        }
        Ok(pretend(request))
    }

    async fn attach(&self, id: &str, asked: &ExecRequest) -> Result<Session> {
        let request = LogRequest {
            follow: true,
            stdout: true,
            stderr: true,
            tail_lines: None,
        };
        let asked = asked.clone();
        let output = self.logs(id, &request).filter_map(move |chunk| {
            let output = chunk.map(|chunk| shown(chunk.output, &asked));
            futures::future::ready(output.transpose())
        });
        Ok(Session {
            output: Box::pin(output),
            input: Box::pin(tokio::io::sink()),
            control: Box::new(HollowControl { code: 0 }),
        })
    }

    async fn dial(&self, _sandbox: &str, _port: u16) -> Result<TcpStream> {
        Err(RuntimeError::Refused(NOTICE.to_owned()))
    }

    fn logs(&self, id: &str, request: &LogRequest) -> BoxStream<'static, Result<LogChunk>> {
        let (world, id, request) = (self.world.clone(), id.to_owned(), request.clone());
        let read = move |from: usize| -> Result<(Vec<LogChunk>, bool)> {
            let now = OffsetDateTime::now_utc();
            let world = world.lock().expect("no panic while locked");
            let container = world.containers.get(&id).ok_or_else(|| missing(&id))?;
            let running = matches!(container.state(now), State::Running { .. });
            Ok((
                container
                    .log(now)
                    .split_off(from.min(container.log(now).len())),
                running,
            ))
        };
        let (first, running) = match read(0) {
            Ok(first) => first,
            Err(error) => return Box::pin(stream::iter([Err(error)])),
        };
        let seen = first.len();
        let tail = request
            .tail_lines
            .map_or(seen, |lines| usize::try_from(lines).unwrap_or(0));
        let shown: Vec<_> = first
            .into_iter()
            .skip(seen.saturating_sub(tail))
            .map(Ok)
            .collect();
        if !request.follow || !running {
            return Box::pin(stream::iter(shown));
        }
        // A simulated log grows by the clock alone, so it has to be looked at.
        let more = stream::unfold((seen, false), move |(seen, ended)| {
            let read = read.clone();
            async move {
                if ended {
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                let (chunks, running) = read(seen).unwrap_or_default();
                let next = (seen + chunks.len(), !running);
                Some((stream::iter(chunks.into_iter().map(Ok)), next))
            }
        });
        Box::pin(stream::iter(shown).chain(more.flatten()))
    }

    async fn usage(&self, pods: &[Arc<Value>]) -> Result<Vec<Used>> {
        let by_uid = pods.iter().filter_map(|pod| {
            let uid = pod.pointer("/metadata/uid").and_then(Value::as_str)?;
            Some((uid, &**pod))
        });
        let by_uid: BTreeMap<&str, &Value> = by_uid.collect();
        let now = OffsetDateTime::now_utc();
        let mut used = Vec::new();
        for (id, container) in &mut self.world().containers {
            let is_running = matches!(container.state(now), State::Running { .. });
            let identity = &container.identity;
            let (Some(run), true) = (&mut container.run, is_running) else {
                continue;
            };
            if identity.container == SANDBOX {
                continue;
            }
            let pod = by_uid.get(identity.pod_uid.as_str()).copied();
            let load = Load::of(pod, &identity.pod_uid, &identity.container);
            used.push(Used {
                id: id.clone(),
                identity: identity.clone(),
                started_at: run.started_at,
                at: now,
                cpu_nanos: run.spend(&load, now),
                memory: load.memory(),
                network: None,
                rate: Some(load.rate()),
            });
        }
        Ok(used)
    }

    async fn image(&self, name: &str) -> Result<Option<Image>> {
        Ok(self.world().images.get(name).cloned())
    }

    async fn pull(&self, name: &str, _login: Option<&RegistryLogin>) -> Result<()> {
        if is_missing(name) {
            return Err(RuntimeError::NotFound(not_found(name)));
        }
        // The runtime starts containers of what this says; what a status shows is said by `image_id` alone.
        let image = Image {
            id: name.to_owned(),
            image_id: format!("hollow://{name}"),
            names: vec![name.to_owned()],
            ..Image::default()
        };
        self.world().images.insert(name.to_owned(), image);
        Ok(())
    }

    async fn images(&self) -> Result<Vec<Image>> {
        Ok(self.world().images.values().cloned().collect())
    }
}

/// A session in which a command is simulated, and says so.
pub(crate) fn pretend(request: &ExecRequest) -> Session {
    let simulated = program(&request.command, &[]);
    // A terminal goes down and back.
    let end = if request.tty { "\r\n" } else { "\n" };
    let mut output = vec![Output::Stderr(Bytes::from(format!("{NOTICE}{end}")))];
    let lines = simulated.lines.iter();
    output.extend(lines.map(|(_, line)| Output::Stdout(Bytes::from(format!("{line}{end}")))));
    let output: Vec<Result<Output>> = output
        .into_iter()
        .filter_map(|output| shown(output, request))
        .map(Ok)
        .collect();
    let (pause, code) = simulated.end.unwrap_or((Duration::ZERO, 0));
    let ended =
        stream::once(tokio::time::sleep(pause)).filter_map(|()| futures::future::ready(None));
    Session {
        output: Box::pin(stream::iter(output).chain(ended)),
        input: Box::pin(tokio::io::sink()),
        control: Box::new(HollowControl { code }),
    }
}

/// What a client sees of an output: only streams that it asked for, and on a terminal all in one.
fn shown(output: Output, request: &ExecRequest) -> Option<Output> {
    match output {
        Output::Stderr(bytes) if request.tty => request.stdout.then_some(Output::Stdout(bytes)),
        Output::Stderr(bytes) => request.stderr.then_some(Output::Stderr(bytes)),
        Output::Stdout(bytes) => request.stdout.then_some(Output::Stdout(bytes)),
    }
}

struct HollowControl {
    code: i64,
}

#[async_trait]
impl SessionControl for HollowControl {
    async fn resize(&self, _width: u16, _height: u16) -> Result<()> {
        Ok(())
    }

    async fn exit_code(&self) -> Result<i64> {
        Ok(self.code)
    }

    async fn kill(&self) -> Result<()> {
        Ok(())
    }
}

fn missing(id: &str) -> RuntimeError {
    RuntimeError::NotFound(format!("No such container: {id}"))
}

/// Looks like a container id, and is the same for the same attempt of the same container.
pub(crate) fn identifier(node: &str, identity: &Identity) -> String {
    use sha2::{Digest, Sha256};
    let text = format!(
        "{node}/{}/{}/{}",
        identity.pod_uid, identity.container, identity.attempt
    );
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_says_that_it_does_not_exist_cannot_be_pulled() {
        for image in [
            "webserver:404",
            "foo:non-existent",
            "gcr.io/google_samples/gb-redisslave:nonexistent",
            "localhost/some-image-that-doesnt-exist",
            "invalid.registry.k8s.io/invalid/alpine:3.1",
        ] {
            assert!(is_missing(image), "{image}");
        }
        for image in [
            "nginx",
            "nginx:1.404",
            "registry.k8s.io:443/pause:3.10",
            "a/404",
        ] {
            assert!(!is_missing(image), "{image}");
        }
    }

    fn spec(command: &[&str]) -> ContainerSpec {
        ContainerSpec {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn commands_are_simulated_as_far_as_they_are_understood() {
        let second = Duration::from_secs(1);
        type Case<'a> = (&'a [&'a str], Option<(Duration, i64)>);
        let cases: &[Case<'_>] = &[
            (&[], None),
            (&["nginx"], None),
            (&["sleep", "1"], Some((second, 0))),
            (&["/bin/false"], Some((Duration::ZERO, 1))),
            (&["sh", "-c", "echo hi; sleep 1; exit 3"], Some((second, 3))),
            (&["sh", "-c", "sleep 1 && serve"], None),
            (&["sleep", "infinity"], None),
            (&["sleep", "-1"], None),
        ];
        for (command, end) in cases {
            assert_eq!(
                program(&spec(command).command, &[]).end,
                *end,
                "{command:?}"
            );
        }
        assert_eq!(
            program(&spec(&["sh", "-c", "echo 'hi'"]).command, &[]).lines,
            [(Duration::ZERO, "hi".to_owned())]
        );
    }

    #[tokio::test]
    async fn a_client_gets_the_streams_that_it_asked_for() {
        let output = async |tty: bool, stdout: bool, stderr: bool| {
            let request = ExecRequest {
                command: vec!["echo".to_owned(), "hi".to_owned()],
                stdin: false,
                stdout,
                stderr,
                tty,
            };
            let output: Vec<_> = pretend(&request).output.collect().await;
            output
                .into_iter()
                .map(|output| match output.unwrap() {
                    Output::Stdout(bytes) => (1, bytes),
                    Output::Stderr(bytes) => (2, bytes),
                })
                .collect::<Vec<_>>()
        };
        let notice = |end: &str| Bytes::from(format!("{NOTICE}{end}"));
        let hi = Bytes::from("hi\n");
        assert_eq!(
            output(false, true, true).await,
            [(2, notice("\n")), (1, hi.clone())]
        );
        assert_eq!(output(false, true, false).await, [(1, hi)]);
        assert_eq!(output(false, false, true).await, [(2, notice("\n"))]);
        let hi = Bytes::from("hi\r\n");
        assert_eq!(
            output(true, true, false).await,
            [(1, notice("\r\n")), (1, hi)]
        );
    }

    fn identity(container: &str) -> Identity {
        Identity {
            pod_name: "p".into(),
            pod_namespace: "d".into(),
            pod_uid: "u".into(),
            container: container.into(),
            attempt: 0,
        }
    }

    async fn run_sandbox(runtime: &HollowRuntime) -> String {
        let sandbox = SandboxSpec {
            identity: identity(super::super::SANDBOX),
            hostname: "p".into(),
            host_network: false,
            host_ipc: false,
            host_pid: false,
            sysctls: BTreeMap::new(),
            ports: Vec::new(),
        };
        runtime.run_sandbox(&sandbox).await.unwrap()
    }

    #[tokio::test]
    async fn a_container_goes_on_for_a_moment_when_it_is_told_to_stop() {
        let config = HollowConfig {
            stop_delay: Duration::from_millis(20),
            ..HollowConfig::default()
        };
        let runtime = HollowRuntime::new(config, "n");
        let sandbox = run_sandbox(&runtime).await;
        let id = runtime
            .create(&sandbox, &identity("c"), &spec(&["serve"]))
            .await
            .unwrap();
        runtime.start(&id).await.unwrap();
        let exit = async || {
            let all = runtime.list(Some("u")).await.unwrap();
            let found = all.iter().find(|container| container.id == id);
            found.unwrap().exit().map(|exit| exit.code)
        };
        let stopping = runtime.stop(&id, Duration::from_secs(30));
        let mut stopping = std::pin::pin!(stopping);
        assert!(futures::poll!(stopping.as_mut()).is_pending());
        assert_eq!(exit().await, None, "it is still there for who looks");
        stopping.await.unwrap();
        assert_eq!(exit().await, Some(143));
        // The sandbox gets no time, and takes none.
        let mut stopping = std::pin::pin!(runtime.stop(&sandbox, Duration::ZERO));
        assert!(futures::poll!(stopping.as_mut()).is_ready());
    }

    #[tokio::test]
    async fn a_container_runs_ends_and_says_that_it_is_simulated() {
        let runtime = HollowRuntime::new(HollowConfig::default(), "n");
        let mut events = runtime.events();
        let sandbox = run_sandbox(&runtime).await;
        let id = runtime
            .create(
                &sandbox,
                &identity("c"),
                &spec(&["sh", "-c", "echo hello; exit 7"]),
            )
            .await
            .unwrap();
        runtime.start(&id).await.unwrap();
        assert_eq!(events.next().await.unwrap().pod_uid, "u");
        let listed = runtime.list(Some("u")).await.unwrap();
        assert_eq!(listed.len(), 2);
        let container = listed.iter().find(|container| container.id == id).unwrap();
        assert_eq!(container.exit().unwrap().code, 7);
        let request = LogRequest {
            stdout: true,
            ..LogRequest::default()
        };
        let lines: Vec<_> = runtime.logs(&id, &request).collect().await;
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0].as_ref().unwrap().output,
            Output::Stdout(format!("{NOTICE}\n").into())
        );
        runtime.remove(&sandbox).await.unwrap();
        assert_eq!(runtime.list(None).await.unwrap().len(), 1);
    }
}
