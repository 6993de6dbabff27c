//! Starting one container: image, environment, mounts, creation, start, postStart hook; with the events and the waiting
//! reasons that a user sees on the way.

pub(crate) mod image_name;
mod login;
mod message;
mod own_files;
mod pull;
mod seccomp;

use std::time::Duration;

use agent_runtime::EventType;
use time::OffsetDateTime;

use self::own_files::{NodeFiles, own_files, read_text};
use self::seccomp::seccomp;
use super::container::{self, Prepared as ContainerParts};
use super::env;
use super::handler::{self, Outcome, Target};
use super::plan::Waiting;
use super::prepare::Prepared;
use super::worker::Worker;
use crate::clock;
use crate::etc;
use crate::runtime::{ContainerSpec, Identity, Image, RuntimeError};
use crate::spec::{Container, Pod, Role};
use crate::volumes::{self, Pinned};

/// How long a failed start is left alone before the next try.
pub(crate) const HOLD: time::Duration = time::Duration::seconds(10);
/// How long `ErrImagePull` stays visible before it becomes `ImagePullBackOff`.
pub(crate) const PULL_HOLD: time::Duration = time::Duration::seconds(3);
/// Bound of a postStart hook, which Kubernetes leaves open.
const POST_START_MAX: Duration = Duration::from_secs(600);

/// Why a container cannot be started now.
struct Obstacle {
    reason: &'static str,
    message: String,
    retry_at: OffsetDateTime,
}

impl Worker {
    /// Starts a container. What goes wrong with the container is remembered for its status, not returned.
    pub(super) async fn launch(
        &mut self,
        name: &str,
        attempt: u32,
        replaces: Option<OffsetDateTime>,
        prepared: &mut Prepared,
    ) -> Result<(), RuntimeError> {
        let pod = self.pod.clone();
        let Some((role, container)) = pod.container(name) else {
            return Ok(());
        };
        if let Some(failed_at) = replaces {
            self.backoffs.next(name, failed_at, clock::now());
        }
        match self
            .try_launch(&pod, role, container, attempt, prepared)
            .await
        {
            Ok(()) => {
                self.waiting.remove(name);
                self.holds.remove(name);
                Ok(())
            }
            Err(Failure::Obstacle(obstacle)) => {
                let waiting = Waiting {
                    reason: obstacle.reason.to_owned(),
                    message: obstacle.message,
                };
                self.waiting.insert(name.to_owned(), waiting);
                self.holds.insert(name.to_owned(), obstacle.retry_at);
                Ok(())
            }
            Err(Failure::Runtime(error)) => Err(error),
        }
    }

    async fn try_launch(
        &mut self,
        pod: &Pod,
        role: Role,
        container: &Container,
        attempt: u32,
        prepared: &mut Prepared,
    ) -> Result<(), Failure> {
        let secrets = &prepared.sources.secrets;
        let image = self.ensure_image(pod, role, container, secrets).await?;
        let Some((sandbox, ip)) = self
            .observed
            .sandbox()
            .map(|s| (s.id.clone(), s.ip.clone()))
        else {
            return Ok(());
        };
        let ip = if pod.spec.host_network {
            Some(self.agent.host_ip().to_owned())
        } else {
            ip
        };
        prepared.sources.pod_ips = ip.iter().cloned().collect();
        let parts = self
            .parts(
                pod,
                container,
                attempt,
                &sandbox,
                &image,
                prepared,
                ip.as_deref().unwrap_or_default(),
            )
            .await;
        let who = Some((role, container.name.as_str()));
        let config_error = |message| self.failed(who, "CreateContainerConfigError", message);
        let (mut parts, pins) = parts.map_err(config_error)?;
        parts.target = self.target_of(container).map_err(config_error)?;
        let spec = container::spec(pod, role, container, parts).map_err(config_error)?;
        let identity = container::identity(pod, &container.name, attempt);
        let id = self
            .create_and_start(role, &sandbox, &identity, &spec)
            .await?;
        drop(pins);
        self.event(
            who,
            EventType::Normal,
            "Started",
            "Container started".to_owned(),
        );
        self.post_start(role, container, &id, ip.unwrap_or_default())
            .await
    }

    async fn create_and_start(
        &self,
        role: Role,
        sandbox: &str,
        identity: &Identity,
        spec: &ContainerSpec,
    ) -> Result<String, Failure> {
        let name = identity.container.as_str();
        let who = Some((role, name));
        let runtime = self.agent.runtime.clone();
        let id = match runtime.create(sandbox, identity, spec).await {
            Ok(id) => id,
            Err(RuntimeError::Unavailable(text)) => {
                return Err(RuntimeError::Unavailable(text).into());
            }
            Err(error) => return Err(self.failed(who, "CreateContainerError", error.to_string())),
        };
        self.event(
            who,
            EventType::Normal,
            "Created",
            "Container created".to_owned(),
        );
        match runtime.start(&id).await {
            Ok(()) => Ok(id),
            Err(RuntimeError::Unavailable(text)) => Err(RuntimeError::Unavailable(text).into()),
            Err(error) => {
                let text = format!("failed to start container {name:?}: {error}");
                Err(self.failed(who, "RunContainerError", text))
            }
        }
    }

    /// The id of the container whose processes an ephemeral one asks to see.
    fn target_of(&self, container: &Container) -> Result<Option<String>, String> {
        let name = container.target_container_name.as_str();
        if name.is_empty() {
            return Ok(None);
        }
        self.observed
            .current(name)
            .filter(|target| target.is_running())
            .map(|target| Some(target.id.clone()))
            .ok_or_else(|| format!("unable to find target container {name}"))
    }

    fn failed(&self, who: Option<(Role, &str)>, reason: &'static str, message: String) -> Failure {
        self.event(
            who,
            EventType::Warning,
            "Failed",
            format!("Error: {message}"),
        );
        Failure::Obstacle(Obstacle {
            reason,
            message,
            retry_at: clock::now() + HOLD,
        })
    }

    async fn post_start(
        &mut self,
        role: Role,
        container: &Container,
        id: &str,
        ip: String,
    ) -> Result<(), Failure> {
        let Some(hook) = &container.lifecycle.post_start else {
            return Ok(());
        };
        let target = Target {
            container_id: id.to_owned(),
            ip,
        };
        let outcome = handler::run_hook(
            &*self.agent.runtime,
            hook,
            container,
            &target,
            POST_START_MAX,
        )
        .await;
        let text = match outcome {
            Outcome::Success => return Ok(()),
            Outcome::Failure(text) | Outcome::Unknown(text) => text,
        };
        let who = Some((role, container.name.as_str()));
        tracing::debug!(pod = %self.pod.display(), container = %container.name, %text, "postStart hook failed");
        self.event(
            who,
            EventType::Warning,
            "FailedPostStartHook",
            "PostStartHook failed".to_owned(),
        );
        self.event(
            who,
            EventType::Normal,
            "Killing",
            "FailedPostStartHook".to_owned(),
        );
        let grace = Duration::from_secs(u64::try_from(self.pod.grace_seconds()).unwrap_or(0));
        self.agent.runtime.stop(id, grace).await?;
        let message = format!("PostStart Hook Failed: {text}");
        Err(Failure::Obstacle(Obstacle {
            reason: "PostStartHookError",
            message,
            retry_at: clock::now() + HOLD,
        }))
    }

    /// Environment, mounts and profile of a container, and what has to be held until it has been started.
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the parts of one container"
    )]
    async fn parts<'a>(
        &self,
        pod: &Pod,
        container: &Container,
        attempt: u32,
        sandbox: &'a str,
        image: &'a Image,
        prepared: &Prepared,
        ip: &str,
    ) -> Result<(ContainerParts<'a>, Vec<Pinned>), String> {
        let env = env::build(pod, container, &prepared.sources)?;
        let mut parts = ContainerParts {
            sandbox,
            image,
            env,
            mounts: Vec::new(),
            seccomp: None,
            target: None,
            node_memory_bytes: self.agent.memory_bytes(),
        };
        if self.agent.is_hollow() {
            volumes::check_parts(container, &parts.env)?;
            return Ok((parts, Vec::new()));
        }
        let files = NodeFiles {
            hosts: etc::hosts(
                pod,
                ip,
                self.agent.cluster_domain(),
                &read_text("/etc/hosts"),
            ),
            resolv_conf: etc::resolv_conf(
                pod,
                self.agent.cluster_domain(),
                self.agent.cluster_dns(),
                &read_text("/etc/resolv.conf"),
            ),
        };
        let (pod, container, pod_dir) = (pod.clone(), container.clone(), self.pod_dir());
        let (paths, env) = (prepared.paths.clone(), parts.env.clone());
        let seccomp_dir = self.agent.seccomp_dir();
        let blocking = move || {
            let read_only = |name: &str| volumes::is_read_only(&pod, name);
            let mut mounts =
                volumes::container_mounts(&container, &pod_dir, &paths, &env, &read_only)?;
            own_files(&mut mounts.binds, &pod_dir, &container, attempt, &files)
                .map_err(|error| error.to_string())?;
            Ok::<_, String>((mounts, seccomp(&pod, &container, &seccomp_dir)?))
        };
        let (mounts, seccomp) = tokio::task::spawn_blocking(blocking)
            .await
            .map_err(|error| error.to_string())??;
        parts.mounts = mounts.binds;
        parts.seccomp = seccomp;
        Ok((parts, mounts.pins))
    }
}

enum Failure {
    Obstacle(Obstacle),
    Runtime(RuntimeError),
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Failure {
        Failure::Runtime(error)
    }
}
