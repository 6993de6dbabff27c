//! Containers on a Docker daemon, 20.10 or newer, through its API.
//!
//! A pod is a pause container that owns the network and IPC namespaces, and containers that join it. Labels say which
//! pod, which container, which attempt and which agent a container belongs to; several agents may share a daemon.
//! The client timeout covers one request; calls that may take long by design (stop, pull) get their own.

mod answer;
mod body;
mod images;
mod process;
mod session;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters as query;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use tokio::net::TcpStream;

use self::answer::{failure, log_chunk, observed, status_of};
use self::body::{container_body, container_update, sandbox_body};
use self::usage::Watched;
use super::netns::{self, Namespace};
use super::{
    ContainerSpec, ExecRequest, Identity, Image, Limits, LogChunk, LogRequest, Observed,
    RegistryLogin, Result, Runtime, RuntimeError, RuntimeEvent, RuntimeInfo, SandboxSpec, Session,
};
use crate::stats::Used;

const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
const LABEL_CONTAINER: &str = "io.kubernetes.container.name";
const LABEL_ATTEMPT: &str = "io.kontiki.attempt";
pub(crate) const LABEL_OWNER: &str = "io.kontiki.owner";

const REQUEST_TIMEOUT_S: u64 = 60;
/// Inspections in flight during a list.
const INSPECTIONS_MAX: usize = 8;

pub(crate) struct DockerRuntime {
    socket: Option<PathBuf>,
    /// Connected at the first use that finds a daemon: an agent may be started before it.
    connection: tokio::sync::OnceCell<Docker>,
    /// Marks the containers of this agent among those of other agents on the same daemon.
    owner: String,
    /// Status references of images by id, since every container status needs one.
    image_ids: Mutex<BTreeMap<String, String>>,
    /// Running containers and where they are measured.
    watched: usage::Known,
    /// Held while the pause image is looked for and imported, so that many first pods import it once.
    importing: tokio::sync::Mutex<()>,
    /// The lowest score that this machine lets a process have.
    oom_score_adj_min: i64,
}

impl DockerRuntime {
    /// Uses the daemon at this socket; without one at its usual socket (or at `DOCKER_HOST` when that names one).
    pub(crate) fn new(owner: String, socket: Option<PathBuf>) -> DockerRuntime {
        DockerRuntime {
            socket,
            connection: tokio::sync::OnceCell::new(),
            owner,
            image_ids: Mutex::default(),
            watched: usage::Known::default(),
            importing: tokio::sync::Mutex::default(),
            oom_score_adj_min: oom_score_adj_min(),
        }
    }

    async fn docker(&self) -> Result<&Docker> {
        let connect = || async {
            let named = self.socket.as_ref().map(|path| path.display().to_string());
            let socket = named.or_else(|| {
                let host = std::env::var("DOCKER_HOST").ok();
                host.filter(|host| host.starts_with("unix://"))
            });
            let docker = match &socket {
                Some(path) => {
                    Docker::connect_with_unix(path, REQUEST_TIMEOUT_S, bollard::API_DEFAULT_VERSION)
                }
                None => Docker::connect_with_unix_defaults(),
            };
            let docker = docker
                .map_err(failure)?
                .with_timeout(Duration::from_secs(REQUEST_TIMEOUT_S));
            docker.negotiate_version().await.map_err(failure)
        };
        self.connection.get_or_try_init(connect).await
    }

    /// The connection where no other call can be awaited first.
    fn connected(&self) -> Result<&Docker> {
        self.connection.get().ok_or_else(|| {
            RuntimeError::Unavailable("not connected to a Docker daemon yet".to_owned())
        })
    }

    fn labels(&self, identity: &Identity) -> HashMap<String, String> {
        [
            (LABEL_POD_NAME, identity.pod_name.clone()),
            (LABEL_POD_NAMESPACE, identity.pod_namespace.clone()),
            (LABEL_POD_UID, identity.pod_uid.clone()),
            (LABEL_CONTAINER, identity.container.clone()),
            (LABEL_ATTEMPT, identity.attempt.to_string()),
            (LABEL_OWNER, self.owner.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    fn container_name(identity: &Identity) -> String {
        let Identity {
            pod_name,
            pod_namespace,
            pod_uid,
            container,
            attempt,
        } = identity;
        format!("k8s_{container}_{pod_name}_{pod_namespace}_{pod_uid}_{attempt}")
    }

    /// Creates under a name, replacing what a crashed try may have left there. When Docker still holds the name of
    /// something that it cannot find any more, a suffix gets around it.
    async fn create_replacing(&self, name: &str, body: ContainerCreateBody) -> Result<String> {
        let docker = self.docker().await?;
        let create = |name: String| {
            let options = query::CreateContainerOptionsBuilder::new()
                .name(&name)
                .build();
            docker.create_container(Some(options), body.clone())
        };
        let conflict = match create(name.to_owned()).await {
            Ok(created) => return Ok(created.id),
            Err(error) if status_of(&error) == Some(409) => error,
            Err(error) => return Err(failure(error)),
        };
        tracing::warn!(container = name, error = %conflict, "replacing a leftover container of the same name");
        self.remove(name).await?;
        match create(name.to_owned()).await {
            Ok(created) => Ok(created.id),
            Err(error) if status_of(&error) == Some(409) => {
                let suffix = uuid::Uuid::new_v4().simple().to_string();
                create(format!("{name}_{}", &suffix[..8]))
                    .await
                    .map(|created| created.id)
                    .map_err(failure)
            }
            Err(error) => Err(failure(error)),
        }
    }

    async fn observe(&self, id: &str) -> Result<Option<Observed>> {
        match self.docker().await?.inspect_container(id, None).await {
            Ok(details) => self.observed(details).await,
            Err(error) if status_of(&error) == Some(404) => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    async fn observed(&self, details: ContainerInspectResponse) -> Result<Option<Observed>> {
        let image = details.image.clone().unwrap_or_default();
        let Some(mut observed) = observed(details) else {
            return Ok(None);
        };
        if !observed.is_sandbox() {
            observed.image_id = self.status_image_id(&image).await?;
        }
        Ok(Some(observed))
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn scheme(&self) -> &'static str {
        "docker"
    }

    async fn info(&self) -> Result<RuntimeInfo> {
        let info = self.docker().await?.info().await.map_err(failure)?;
        Ok(RuntimeInfo {
            version: format!("docker://{}", info.server_version.unwrap_or_default()),
            os_image: info.operating_system.unwrap_or_default(),
            kernel_version: info.kernel_version.unwrap_or_default(),
            cpu_count: info.ncpu.unwrap_or_default(),
            memory_bytes: info.mem_total.unwrap_or_default(),
            hollow: false,
        })
    }

    async fn list(&self, pod_uid: Option<&str>) -> Result<Vec<Observed>> {
        let mut labels = vec![format!("{LABEL_OWNER}={}", self.owner)];
        labels.extend(pod_uid.map(|uid| format!("{LABEL_POD_UID}={uid}")));
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = query::ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let listed = self
            .docker()
            .await?
            .list_containers(Some(options))
            .await
            .map_err(failure)?;
        let ids = listed.into_iter().filter_map(|summary| summary.id);
        let inspections =
            futures::stream::iter(ids.map(|id| async move { self.observe(&id).await }));
        let observed: Vec<Option<Observed>> = inspections
            .buffer_unordered(INSPECTIONS_MAX)
            .try_collect()
            .await?;
        Ok(observed.into_iter().flatten().collect())
    }

    fn events(&self) -> BoxStream<'static, RuntimeEvent> {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            (
                "label".to_owned(),
                vec![format!("{LABEL_OWNER}={}", self.owner)],
            ),
            (
                "event".to_owned(),
                ["start", "die", "oom", "destroy"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
        ]);
        let options = query::EventsOptionsBuilder::new().filters(&filters).build();
        let events = match self.connected() {
            Ok(docker) => docker.events(Some(options)),
            Err(_) => return Box::pin(futures::stream::empty()),
        };
        let hints = events
            .take_while(|event| futures::future::ready(event.is_ok()))
            .filter_map(|event| async move {
                let uid = event.ok()?.actor?.attributes?.remove(LABEL_POD_UID)?;
                Some(RuntimeEvent { pod_uid: uid })
            });
        Box::pin(hints)
    }

    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<String> {
        self.ensure_pause_image().await?;
        let labels = self.labels(&spec.identity);
        let body = sandbox_body(spec, labels, self.oom_score_adj_min);
        let id = self
            .create_replacing(&Self::container_name(&spec.identity), body)
            .await?;
        if let Err(error) = self.start(&id).await {
            // A sandbox that cannot start (a host port that is taken) must not linger under its name.
            if let Err(removal) = self.remove(&id).await {
                tracing::warn!(%id, error = %removal, "cannot remove a sandbox that did not start");
            }
            return Err(error);
        }
        Ok(id)
    }

    async fn create(
        &self,
        sandbox: &str,
        identity: &Identity,
        spec: &ContainerSpec,
    ) -> Result<String> {
        let mut labels = self.labels(identity);
        labels.extend(spec.labels.clone());
        let body = container_body(sandbox, spec, labels, self.oom_score_adj_min);
        self.create_replacing(&Self::container_name(identity), body)
            .await
    }

    async fn start(&self, id: &str) -> Result<()> {
        match self.docker().await?.start_container(id, None).await {
            Err(error) if status_of(&error) == Some(304) => Ok(()),
            result => result.map_err(failure),
        }
    }

    async fn update(&self, id: &str, limits: &Limits) -> Result<()> {
        let docker = self.docker().await?;
        let updated = docker.update_container(id, container_update(limits)).await;
        updated.map_err(failure)
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let seconds = whole_seconds(grace);
        let options = query::StopContainerOptionsBuilder::new().t(seconds).build();
        let patient = self
            .docker()
            .await?
            .clone()
            .with_timeout(grace.saturating_add(Duration::from_secs(REQUEST_TIMEOUT_S)));
        match patient.stop_container(id, Some(options)).await {
            Err(error) if matches!(status_of(&error), Some(304 | 404)) => Ok(()),
            result => result.map_err(failure),
        }
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let options = query::RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        match self
            .docker()
            .await?
            .remove_container(id, Some(options))
            .await
        {
            Err(error) if status_of(&error) == Some(404) => Ok(()),
            // "removal of container is already in progress": somebody else's removal will do.
            Err(error) if status_of(&error) == Some(409) => Ok(()),
            result => result.map_err(failure),
        }
    }

    async fn exec(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        self.open_exec(id, request).await
    }

    async fn attach(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        self.open_attach(id, request).await
    }

    async fn dial(&self, sandbox: &str, port: u16) -> Result<TcpStream> {
        let gone = || RuntimeError::NotFound("the pod's sandbox does not run".to_owned());
        let before = self.observe(sandbox).await?.ok_or_else(gone)?;
        let pid = before.pid.ok_or_else(gone)?;
        let namespace = match process::is_in_container(pid, sandbox) {
            true => Namespace::of(pid),
            false => Err(std::io::Error::new(
                ErrorKind::PermissionDenied,
                "the sandbox's process cannot be seen from here",
            )),
        };
        // The sandbox must not have ended before its namespace was opened: the number may be another process's by now.
        if self.observe(sandbox).await?.and_then(|after| after.pid) != Some(pid) {
            return Err(gone());
        }
        let dialled = match (namespace, before.ip) {
            (Ok(namespace), _) => namespace.dial(port).await,
            // An agent that may not enter the namespace, or cannot see it, reaches what listens on the pod's address.
            (Err(error), Some(ip)) if error.kind() == ErrorKind::PermissionDenied => {
                netns::connect(&ip, port).await
            }
            (Err(error), _) => Err(error.to_string()),
        };
        dialled.map_err(RuntimeError::Refused)
    }

    fn logs(&self, id: &str, request: &LogRequest) -> BoxStream<'static, Result<LogChunk>> {
        let options = query::LogsOptionsBuilder::new()
            .follow(request.follow)
            .stdout(request.stdout)
            .stderr(request.stderr)
            .timestamps(true)
            .tail(
                &request
                    .tail_lines
                    .map_or_else(|| "all".to_owned(), |lines| lines.max(0).to_string()),
            )
            .build();
        let lines = match self.connected() {
            Ok(docker) => docker.logs(id, Some(options)),
            Err(error) => return Box::pin(futures::stream::iter([Err(error)])),
        };
        Box::pin(lines.map(|line| line.map(log_chunk).map_err(failure)))
    }

    async fn usage(&self, _pods: &[Arc<Value>]) -> Result<Vec<Used>> {
        let filters = HashMap::from([(
            "label".to_owned(),
            vec![format!("{LABEL_OWNER}={}", self.owner)],
        )]);
        let options = query::ListContainersOptionsBuilder::new()
            .filters(&filters)
            .build();
        let docker = self.docker().await?;
        let listed = docker.list_containers(Some(options)).await;
        let listed = listed.map_err(failure)?.into_iter();
        let running: Vec<String> = listed.filter_map(|summary| summary.id).collect();
        for id in self.watched.keep(&running) {
            if let Some(watched) = self.observe(&id).await?.and_then(Watched::of) {
                self.watched.add(watched);
            }
        }
        usage::measure(docker, &self.watched).await
    }

    async fn image(&self, name: &str) -> Result<Option<Image>> {
        self.inspect_image(name).await
    }

    async fn pull(&self, name: &str, login: Option<&RegistryLogin>) -> Result<()> {
        self.pull_image(name, login).await
    }

    async fn images(&self) -> Result<Vec<Image>> {
        self.list_images().await
    }
}

/// Lowering a score below one's own needs a capability that containers and some machines do not have; Docker shares
/// this agent's fate there, and refuses to start what asks for more.
fn oom_score_adj_min() -> i64 {
    const CAP_SYS_RESOURCE: u32 = 24;
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let status = text("/proc/self/status");
    let capabilities = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(u64::MAX);
    match capabilities >> CAP_SYS_RESOURCE & 1 {
        1 => -1000,
        _ => text("/proc/self/oom_score_adj").trim().parse().unwrap_or(0),
    }
}

/// Docker counts in seconds; a grace period is never cut short.
fn whole_seconds(grace: Duration) -> i32 {
    let started = u64::from(grace.subsec_nanos() > 0);
    let up = grace.as_secs().saturating_add(started);
    i32::try_from(up).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_period_is_not_cut_short() {
        let seconds = |millis| whole_seconds(Duration::from_millis(millis));
        assert_eq!([0, 1, 1000, 29_998].map(seconds), [0, 1, 1, 30]);
        assert_eq!(whole_seconds(Duration::MAX), i32::MAX);
    }
}
