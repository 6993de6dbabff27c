//! Simulated containers, for machines without Docker and for tests of scale.
//!
//! Nothing runs: a container is an entry in a map whose state follows from the clock. What it "does" is decided when it
//! starts, from its command: `sleep N`, `echo`, `exit N`, `true` and `false`, alone or in a `sh -c` script, are
//! understood, anything else runs until it is stopped. The same input gives the same delays and the same addresses.
//! Every channel through which a user could mistake it for the real thing says that it is simulated.
//! Architecture invariant: no process, no network, no file system.

mod image;
mod log;
mod program;
mod session;
mod simulated;

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::sync::broadcast;

pub(crate) use self::image::{is_missing, not_found};
use self::program::Program;
pub(crate) use self::program::program;
use self::session::{HollowControl, shown};
pub(crate) use self::session::{Otherwise, pretend, pretend_or};
pub(crate) use self::simulated::seconds;
use self::simulated::{Run, Simulated};
use crate::source::Owned;
use crate::stats::Used;
use crate::stats::load::Load;

use super::{
    ContainerSpec, ExecRequest, Identity, Image, Limits, LogChunk, LogRequest, Observed,
    RegistryLogin, Result, Runtime, RuntimeError, RuntimeEvent, RuntimeInfo, SANDBOX, SandboxSpec,
    Session, State, hex,
};

/// Bound of the event channel: hints that overflow are made good by the periodic look.
const EVENTS_MAX: usize = 1024;
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
            tokio::time::sleep(after.saturating_add(Duration::from_millis(1))).await;
            let _ = events.send(RuntimeEvent { pod_uid });
        })
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
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
        log::lines(self.world.clone(), id.to_owned(), request)
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
    hex(&Sha256::digest(text.as_bytes())[..])
}

#[cfg(test)]
mod tests;
