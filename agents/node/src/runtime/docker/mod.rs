//! Containers on a Docker daemon, 20.10 or newer, through its API.
//!
//! A pod is a pause container that owns the network and IPC namespaces, and containers that join it. Labels say which
//! pod, which container, which attempt and which agent a container belongs to; several agents may share a daemon.
//! The client timeout covers one request; calls that may take long by design (stop, pull) get their own.

mod answer;
mod body;
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
use bollard::auth::DockerCredentials;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HealthConfig, HostConfig, HostConfigLogConfig,
};
use bollard::query_parameters as query;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use tokio::net::TcpStream;

use self::answer::{failure, image_reference, log_chunk, observed, outputs, status_of};
use self::body::{container_host_config, container_update, no_restart, port_bindings};
use self::session::{AttachControl, ExecControl};
use self::usage::Watched;
use super::netns::{self, Namespace};
use super::{
    ContainerSpec, ExecRequest, Identity, Image, Limits, LogChunk, LogRequest, Observed,
    RegistryLogin, Result, Runtime, RuntimeError, RuntimeEvent, RuntimeInfo, SandboxSpec, Session,
    pause,
};
use crate::stats::Used;

const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
const LABEL_CONTAINER: &str = "io.kubernetes.container.name";
const LABEL_ATTEMPT: &str = "io.kontiki.attempt";
const LABEL_OWNER: &str = "io.kontiki.owner";

const REQUEST_TIMEOUT_S: u64 = 60;
const PULL_TIMEOUT: Duration = Duration::from_secs(30 * 60);
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

    async fn ensure_pause_image(&self) -> Result<()> {
        let _one_at_a_time = self.importing.lock().await;
        match self.docker().await?.inspect_image(pause::IMAGE).await {
            Ok(_) => return Ok(()),
            Err(error) if status_of(&error) == Some(404) => {}
            Err(error) => return Err(failure(error)),
        }
        let architecture = std::env::consts::ARCH;
        let archive = pause::archive(architecture).ok_or_else(|| {
            RuntimeError::Refused(format!("no pause program for architecture {architecture}"))
        })?;
        let (repository, tag) = pause::IMAGE
            .split_once(':')
            .unwrap_or((pause::IMAGE, "latest"));
        let options = query::CreateImageOptionsBuilder::new()
            .from_src("-")
            .repo(repository)
            .tag(tag)
            .build();
        let import = self.docker().await?.create_image(
            Some(options),
            Some(bollard::body_full(archive.into())),
            None,
        );
        import.try_collect::<Vec<_>>().await.map_err(failure)?;
        tracing::info!(image = pause::IMAGE, "imported the pause image");
        Ok(())
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

    async fn status_image_id(&self, id: &str) -> Result<String> {
        let known = |cache: &Mutex<BTreeMap<String, String>>| {
            cache
                .lock()
                .expect("no panic while locked")
                .get(id)
                .cloned()
        };
        if let Some(reference) = known(&self.image_ids) {
            return Ok(reference);
        }
        let reference = match self.docker().await?.inspect_image(id).await {
            Ok(details) => image_reference(id, details.repo_digests.as_deref().unwrap_or_default()),
            Err(error) if status_of(&error) == Some(404) => image_reference(id, &[]),
            Err(error) => return Err(failure(error)),
        };
        self.image_ids
            .lock()
            .expect("no panic while locked")
            .insert(id.to_owned(), reference.clone());
        Ok(reference)
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
        let (exposed, bindings) = port_bindings(spec);
        let host = |on: bool| on.then(|| "host".to_owned());
        let host_config = HostConfig {
            network_mode: Some(host(spec.host_network).unwrap_or_else(|| "bridge".to_owned())),
            ipc_mode: Some(host(spec.host_ipc).unwrap_or_else(|| "shareable".to_owned())),
            pid_mode: host(spec.host_pid),
            port_bindings: Some(bindings),
            oom_score_adj: Some(self.oom_score_adj_min.max(-998)),
            cpu_shares: Some(2),
            security_opt: Some(vec!["seccomp=unconfined".to_owned()]),
            sysctls: Some(spec.sysctls.clone().into_iter().collect()),
            log_config: Some(HostConfigLogConfig {
                typ: Some("none".to_owned()),
                config: None,
            }),
            restart_policy: Some(no_restart()),
            ..HostConfig::default()
        };
        let body = ContainerCreateBody {
            image: Some(pause::IMAGE.to_owned()),
            entrypoint: Some(vec![pause::PROGRAM.to_owned()]),
            // Docker refuses a hostname in the host's network namespace: the pod has the node's.
            hostname: (!spec.host_network).then(|| spec.hostname.clone()),
            labels: Some(self.labels(&spec.identity)),
            exposed_ports: Some(exposed),
            host_config: Some(host_config),
            ..ContainerCreateBody::default()
        };
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
        let body = ContainerCreateBody {
            image: Some(spec.image.clone()),
            entrypoint: (!spec.command.is_empty()).then(|| spec.command.clone()),
            cmd: (!spec.args.is_empty()).then(|| spec.args.clone()),
            env: Some(
                spec.env
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect(),
            ),
            working_dir: (!spec.working_dir.is_empty()).then(|| spec.working_dir.clone()),
            user: (!spec.user.is_empty()).then(|| spec.user.clone()),
            labels: Some(labels),
            open_stdin: Some(spec.stdin),
            stdin_once: Some(spec.stdin_once),
            tty: Some(spec.tty),
            stop_signal: spec.stop_signal.clone(),
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            host_config: Some(container_host_config(sandbox, spec, self.oom_score_adj_min)),
            ..ContainerCreateBody::default()
        };
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
        let options = CreateExecOptions {
            attach_stdin: Some(request.stdin),
            attach_stdout: Some(request.stdout),
            attach_stderr: Some(request.stderr && !request.tty),
            tty: Some(request.tty),
            cmd: Some(request.command.clone()),
            ..CreateExecOptions::default()
        };
        let exec = self
            .docker()
            .await?
            .create_exec(id, options)
            .await
            .map_err(failure)?
            .id;
        let start = StartExecOptions {
            detach: false,
            tty: request.tty,
            output_capacity: Some(32 * 1024),
        };
        match self
            .docker()
            .await?
            .start_exec(&exec, Some(start))
            .await
            .map_err(failure)?
        {
            StartExecResults::Attached { output, input } => Ok(Session {
                output: outputs(output),
                input,
                control: Box::new(ExecControl {
                    docker: self.docker().await?.clone(),
                    exec,
                }),
            }),
            StartExecResults::Detached => {
                Err(RuntimeError::Refused("exec was not attached".to_owned()))
            }
        }
    }

    async fn attach(&self, id: &str, request: &ExecRequest) -> Result<Session> {
        let options = query::AttachContainerOptionsBuilder::new()
            .stream(true)
            .stdin(request.stdin)
            .stdout(request.stdout)
            .stderr(request.stderr)
            .build();
        let attached = self
            .docker()
            .await?
            .attach_container(id, Some(options))
            .await
            .map_err(failure)?;
        Ok(Session {
            output: outputs(attached.output),
            input: attached.input,
            control: Box::new(AttachControl {
                docker: self.docker().await?.clone(),
                container: id.to_owned(),
            }),
        })
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
        match self.docker().await?.inspect_image(name).await {
            Ok(details) => {
                let id = details.id.unwrap_or_default();
                let digests = details.repo_digests.unwrap_or_default();
                Ok(Some(Image {
                    image_id: image_reference(&id, &digests),
                    id,
                    names: digests
                        .into_iter()
                        .chain(details.repo_tags.unwrap_or_default())
                        .collect(),
                    size_bytes: details.size.unwrap_or_default(),
                    user: details
                        .config
                        .and_then(|config| config.user)
                        .unwrap_or_default(),
                }))
            }
            Err(error) if status_of(&error) == Some(404) => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    async fn pull(&self, name: &str, login: Option<&RegistryLogin>) -> Result<()> {
        let (repository, tag) = split_reference(name);
        let options = query::CreateImageOptionsBuilder::new()
            .from_image(repository)
            .tag(tag)
            .build();
        let credentials = login.map(|login| DockerCredentials {
            username: Some(login.username.clone()),
            password: Some(login.password.clone()),
            serveraddress: Some(login.server.clone()),
            ..DockerCredentials::default()
        });
        let patient = self.docker().await?.clone().with_timeout(PULL_TIMEOUT);
        let progress = patient.create_image(Some(options), None, credentials);
        let pull = progress.try_for_each(|_| futures::future::ready(Ok(())));
        match tokio::time::timeout(PULL_TIMEOUT, pull).await {
            Ok(result) => result.map_err(failure),
            Err(_) => Err(RuntimeError::Refused(format!(
                "pulling {name} took longer than {PULL_TIMEOUT:?}"
            ))),
        }
    }

    async fn images(&self) -> Result<Vec<Image>> {
        let listed = self
            .docker()
            .await?
            .list_images(None::<query::ListImagesOptions>)
            .await
            .map_err(failure)?;
        let named = listed.into_iter().map(|image| Image {
            image_id: image_reference(&image.id, &image.repo_digests),
            id: image.id,
            names: image
                .repo_digests
                .into_iter()
                .chain(image.repo_tags)
                .filter(|name| !name.starts_with("<none>"))
                .collect(),
            size_bytes: image.size,
            user: String::new(),
        });
        Ok(named.filter(|image| !image.names.is_empty()).collect())
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

/// Splits `registry:5000/name:tag` or `name@digest` for a pull. Without a tag Docker would pull all of them.
fn split_reference(name: &str) -> (&str, &str) {
    if let Some((repository, digest)) = name.split_once('@') {
        return (repository, digest);
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_split_so_that_one_image_is_pulled() {
        let cases = [
            ("nginx", ("nginx", "latest")),
            ("nginx:1.2", ("nginx", "1.2")),
            ("reg:5000/a/b", ("reg:5000/a/b", "latest")),
            ("reg:5000/a/b:x", ("reg:5000/a/b", "x")),
            ("a@sha256:00", ("a", "sha256:00")),
        ];
        for (name, expected) in cases {
            assert_eq!(split_reference(name), expected, "{name}");
        }
    }

    #[test]
    fn a_grace_period_is_not_cut_short() {
        let seconds = |millis| whole_seconds(Duration::from_millis(millis));
        assert_eq!([0, 1, 1000, 29_998].map(seconds), [0, 1, 1, 30]);
        assert_eq!(whole_seconds(Duration::MAX), i32::MAX);
    }
}
