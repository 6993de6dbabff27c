//! Starting one container: image, environment, mounts, creation, start, postStart hook; with the events and the waiting
//! reasons that a user sees on the way.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_runtime::EventType;
use base64::Engine;
use serde_json::Value;
use time::OffsetDateTime;

use super::container::{self, Prepared as ContainerParts};
use super::durations::go_millis;
use super::env;
use super::handler::{self, Outcome, Target};
use super::plan::Waiting;
use super::prepare::Prepared;
use super::worker::Worker;
use crate::clock;
use crate::etc;
use crate::runtime::{BindMount, Image, Observed, RegistryLogin, RuntimeError};
use crate::spec::{Container, Pod, Role};
use crate::volumes::{self, Pinned};

/// How long a failed start is left alone before the next try.
const HOLD: time::Duration = time::Duration::seconds(10);
/// How long `ErrImagePull` stays visible before it becomes `ImagePullBackOff`.
pub(crate) const PULL_HOLD: time::Duration = time::Duration::seconds(3);
/// Bound of a postStart hook, which Kubernetes leaves open.
const POST_START_MAX: Duration = Duration::from_secs(600);

const MESSAGE_BYTES_MAX: usize = 4096;
const MESSAGE_LOG_BYTES_MAX: usize = 2048;
const MESSAGE_LOG_LINES: i64 = 80;

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
        let runtime = self.agent.runtime.clone();
        let id = match runtime.create(&sandbox, &identity, &spec).await {
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
            Ok(()) => {}
            Err(RuntimeError::Unavailable(text)) => {
                return Err(RuntimeError::Unavailable(text).into());
            }
            Err(error) => {
                let text = format!("failed to start container {:?}: {error}", container.name);
                return Err(self.failed(who, "RunContainerError", text));
            }
        }
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

    /// Makes sure that the image is there, according to the pull policy.
    async fn ensure_image(
        &mut self,
        pod: &Pod,
        role: Role,
        container: &Container,
        secrets: &BTreeMap<String, Option<Value>>,
    ) -> Result<Image, Failure> {
        let image = container.image.as_str();
        let who = Some((role, container.name.as_str()));
        let obstacle = |reason, message: String, hold| {
            Failure::Obstacle(Obstacle {
                reason,
                message,
                retry_at: clock::now() + hold,
            })
        };
        if !is_image_name(image) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
            );
            self.event(who, EventType::Warning, "InspectFailed", message.clone());
            self.event(
                who,
                EventType::Warning,
                "Failed",
                "Error: InvalidImageName".to_owned(),
            );
            return Err(obstacle("InvalidImageName", message, HOLD));
        }
        let runtime = self.agent.runtime.clone();
        let present = runtime.image(image).await?;
        let policy = match container.image_pull_policy.as_str() {
            "" if has_latest_tag(image) => "Always",
            "" => "IfNotPresent",
            policy => policy,
        };
        match (policy, present) {
            ("Never", None) => {
                let message =
                    format!("Container image {image:?} is not present with pull policy of Never");
                self.event(
                    who,
                    EventType::Warning,
                    "ErrImageNeverPull",
                    message.clone(),
                );
                self.event(
                    who,
                    EventType::Warning,
                    "Failed",
                    "Error: ErrImageNeverPull".to_owned(),
                );
                return Err(obstacle("ErrImageNeverPull", message, HOLD));
            }
            ("Never" | "IfNotPresent", Some(present)) => {
                let text = format!(
                    "Container image {image:?} already present on machine and can be accessed by the pod"
                );
                self.event(who, EventType::Normal, "Pulled", text);
                return Ok(present);
            }
            _ => {}
        }
        let now = clock::now();
        if let Some((failed_at, text)) = self.image_failures.get(image)
            && let Some((until, _)) = self.image_backoffs.waiting(image, *failed_at, now)
        {
            let message = format!("Back-off pulling image {image:?}: ErrImagePull: {text}");
            self.event(
                who,
                EventType::Normal,
                "BackOff",
                format!("Back-off pulling image {image:?}"),
            );
            self.event(
                who,
                EventType::Warning,
                "Failed",
                "Error: ImagePullBackOff".to_owned(),
            );
            let obstacle = Obstacle {
                reason: "ImagePullBackOff",
                message,
                retry_at: until,
            };
            return Err(Failure::Obstacle(obstacle));
        }
        self.event(
            who,
            EventType::Normal,
            "Pulling",
            format!("Pulling image {image:?}"),
        );
        let started = Instant::now();
        let pulled = match runtime
            .pull(image, login(pod, image, secrets).as_ref())
            .await
        {
            Ok(()) => runtime
                .image(image)
                .await?
                .ok_or_else(|| format!("no such image after pulling: {image}")),
            Err(RuntimeError::Unavailable(text)) => {
                return Err(RuntimeError::Unavailable(text).into());
            }
            Err(error) => Err(error.to_string()),
        };
        match pulled {
            Ok(present) => {
                let took = go_millis(started.elapsed());
                let text = format!(
                    "Successfully pulled image {image:?} in {took} ({took} including waiting). Image size: {} bytes.",
                    present.size_bytes
                );
                self.event(who, EventType::Normal, "Pulled", text);
                self.image_failures.remove(image);
                self.image_backoffs.reset(image);
                Ok(present)
            }
            Err(text) => {
                let now = clock::now();
                self.image_backoffs.next(image, now, now);
                self.image_failures
                    .insert(image.to_owned(), (now, text.clone()));
                self.event(
                    who,
                    EventType::Warning,
                    "Failed",
                    format!("Failed to pull image {image:?}: {text}"),
                );
                self.event(
                    who,
                    EventType::Warning,
                    "Failed",
                    "Error: ErrImagePull".to_owned(),
                );
                Err(obstacle("ErrImagePull", text, PULL_HOLD))
            }
        }
    }

    /// What a dead container has left behind for its status.
    pub(super) async fn termination_message(&self, dead: &Observed) -> String {
        let Some((_, container)) = self.pod.container(&dead.identity.container) else {
            return String::new();
        };
        let path = message_path(&self.pod_dir(), &container.name, dead.identity.attempt);
        let mut message = tokio::task::spawn_blocking(move || {
            // The container writes this file: no more of it is read than is kept.
            let mut bytes = Vec::new();
            if let Ok(file) = std::fs::File::open(path) {
                let _ = file.take(MESSAGE_BYTES_MAX as u64).read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        })
        .await
        .unwrap_or_default();
        let failed = dead
            .exit()
            .is_some_and(|exit| exit.code != 0 && exit.start_error.is_none());
        if message.is_empty()
            && failed
            && container.termination_message_policy == "FallbackToLogsOnError"
        {
            message = self.log_tail(&dead.id).await;
        }
        message
    }

    async fn log_tail(&self, id: &str) -> String {
        use crate::runtime::{LogRequest, Output};
        use futures::StreamExt;
        let request = LogRequest {
            follow: false,
            tail_lines: Some(MESSAGE_LOG_LINES),
            stdout: true,
            stderr: true,
        };
        let mut lines = self.agent.runtime.logs(id, &request);
        let mut text = Vec::new();
        while let Some(Ok(chunk)) = lines.next().await {
            let (Output::Stdout(bytes) | Output::Stderr(bytes)) = chunk.output;
            text.extend_from_slice(&bytes);
            let excess = text.len().saturating_sub(MESSAGE_LOG_BYTES_MAX);
            text.drain(..excess);
        }
        String::from_utf8_lossy(&text).into_owned()
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

struct NodeFiles {
    hosts: String,
    resolv_conf: String,
}

fn read_text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn message_path(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir
        .join("containers")
        .join(container)
        .join(format!("termination-{attempt}"))
}

/// Writes and mounts the files that the node owns, unless the pod mounts something of its own there.
fn own_files(
    mounts: &mut Vec<BindMount>,
    pod_dir: &Path,
    container: &Container,
    attempt: u32,
    files: &NodeFiles,
) -> std::io::Result<()> {
    let message = message_path(pod_dir, &container.name, attempt);
    if let Some(parent) = message.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&message, b"")?;
    // The container of that attempt is gone, or goes now: two are kept.
    if let Some(old) = attempt.checked_sub(2) {
        remove_if_there(&message_path(pod_dir, &container.name, old))?;
    }
    // Whatever user the container runs as may write here.
    std::fs::set_permissions(&message, std::fs::Permissions::from_mode(0o666))?;
    let message_target = match container.termination_message_path.as_str() {
        "" => "/dev/termination-log",
        path => path,
    };
    let (hosts, resolv) = (pod_dir.join("etc-hosts"), pod_dir.join("resolv.conf"));
    write_if_changed(&hosts, &files.hosts)?;
    write_if_changed(&resolv, &files.resolv_conf)?;
    for (source, target) in [
        (hosts, "/etc/hosts"),
        (resolv, "/etc/resolv.conf"),
        (message, message_target),
    ] {
        if mounts.iter().any(|mount| mount.target == target) {
            continue;
        }
        mounts.push(BindMount {
            source: source.to_string_lossy().into_owned(),
            target: target.to_owned(),
            read_only: false,
            propagation: "rprivate",
        });
    }
    Ok(())
}

/// Leaves a file alone that says so already: other containers of the pod may be reading it.
fn write_if_changed(path: &Path, text: &str) -> std::io::Result<()> {
    match std::fs::read(path) {
        Ok(current) if current == text.as_bytes() => Ok(()),
        _ => std::fs::write(path, text),
    }
}

fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Docker's own default profile has 12 kB.
const PROFILE_BYTES_MAX: u64 = 1 << 20;

fn seccomp(pod: &Pod, container: &Container, profiles: &Path) -> Result<Option<String>, String> {
    match container::seccomp_profile(pod, container) {
        None => Ok(Some("unconfined".to_owned())),
        Some(profile) => match (profile.kind.as_str(), &profile.localhost_profile) {
            ("RuntimeDefault", _) => Ok(None),
            ("Localhost", Some(name)) => {
                let inside = Path::new(name)
                    .components()
                    .all(|c| matches!(c, std::path::Component::Normal(_)));
                let refused = || format!("cannot load seccomp profile {name:?}");
                if !inside {
                    return Err(refused());
                }
                // Only a file of sensible size: a device or a pipe would be read for ever.
                let path = profiles.join(name);
                let sensible = std::fs::metadata(&path)
                    .is_ok_and(|file| file.is_file() && file.len() <= PROFILE_BYTES_MAX);
                let text = sensible
                    .then(|| std::fs::read_to_string(&path).ok())
                    .flatten();
                text.map(Some).ok_or_else(refused)
            }
            _ => Ok(Some("unconfined".to_owned())),
        },
    }
}

/// Whether the text can be an image reference: `[host[:port]/]path[:tag][@digest]` in the allowed characters.
fn is_image_name(image: &str) -> bool {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    let tag_ok = tag.is_none_or(|tag| {
        let mut bytes = tag.bytes();
        let first = bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        first
            && tag.len() <= 128
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    });
    let digest_ok = digest.is_none_or(|digest| {
        let hex = digest
            .split_once(':')
            .map(|(_, hex)| hex)
            .unwrap_or_default();
        hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    let mut parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost") {
        parts.remove(0);
    }
    let part_ok = |part: &&str| {
        let edge = |byte: Option<&u8>| {
            byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let bytes = part.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(byte)
            })
    };
    name.len() <= 255 && tag_ok && digest_ok && parts.iter().all(part_ok)
}

fn has_latest_tag(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    match image.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => tag == "latest",
        _ => true,
    }
}

/// The registry of an image reference; Docker Hub when it names none.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "index.docker.io",
    }
}

/// The login for an image among the pod's pull secrets.
fn login(
    pod: &Pod,
    image: &str,
    secrets: &BTreeMap<String, Option<Value>>,
) -> Option<RegistryLogin> {
    let registry = registry(image);
    let bare = |server: &str| {
        let server = server
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        let host = server.split('/').next().unwrap_or_default();
        if host == "docker.io" {
            "index.docker.io".to_owned()
        } else {
            host.to_owned()
        }
    };
    let named = pod
        .spec
        .image_pull_secrets
        .iter()
        .filter_map(|reference| secrets.get(&reference.name)?.as_ref());
    for secret in named {
        let mut data = env::entries(secret, true);
        let config = data.remove(".dockerconfigjson");
        let config: Value = serde_json::from_slice(&config.unwrap_or_default()).unwrap_or_default();
        let auths = config.get("auths").and_then(Value::as_object);
        let entry = auths
            .into_iter()
            .flatten()
            .find(|(server, _)| bare(server) == registry);
        if let Some((server, entry)) = entry {
            let text = |field: &str| {
                entry
                    .get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(text("auth"))
                .unwrap_or_default();
            let pair = String::from_utf8_lossy(&decoded).into_owned();
            let (username, password) = match pair.split_once(':') {
                Some((username, password)) => (username.to_owned(), password.to_owned()),
                None => (text("username"), text("password")),
            };
            return Some(RegistryLogin {
                server: server.clone(),
                username,
                password,
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn image_names() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for good in [
            "nginx",
            "nginx:1.2",
            "reg.io:5000/a/b:x",
            "localhost/a",
            "a_b/c-d",
            digest.as_str(),
        ] {
            assert!(is_image_name(good), "{good}");
        }
        for bad in [
            "",
            "Nginx",
            "a b",
            "a:",
            "a:-x",
            "/a",
            "a/",
            "a@sha256:xyz",
            "ein/Übel",
            "a//b",
        ] {
            assert!(!is_image_name(bad), "{bad}");
        }
        assert!(
            has_latest_tag("nginx") && has_latest_tag("r:5000/nginx") && has_latest_tag("a:latest")
        );
        assert!(!has_latest_tag("a:1") && !has_latest_tag(&digest));
    }

    #[test]
    fn own_files_are_mounted_kept_and_tidied() {
        let dir = tempfile::tempdir().unwrap();
        let files = NodeFiles {
            hosts: "1.2.3.4 p".into(),
            resolv_conf: String::new(),
        };
        let container = Container {
            name: "c".into(),
            termination_message_path: "/said".into(),
            ..Container::default()
        };
        let mounted = |attempt, mut mounts: Vec<BindMount>| {
            own_files(&mut mounts, dir.path(), &container, attempt, &files).unwrap();
            mounts
        };
        let targets: Vec<String> = mounted(0, Vec::new())
            .into_iter()
            .map(|m| m.target)
            .collect();
        assert_eq!(targets, ["/etc/hosts", "/etc/resolv.conf", "/said"]);
        let own = BindMount {
            source: "/own".into(),
            target: "/etc/hosts".into(),
            read_only: true,
            propagation: "rprivate",
        };
        assert_eq!(mounted(0, vec![own.clone()])[0], own);
        let hosts = dir.path().join("etc-hosts");
        let old = std::time::SystemTime::UNIX_EPOCH;
        let file = std::fs::File::options().write(true).open(&hosts).unwrap();
        file.set_modified(old).unwrap();
        mounted(1, Vec::new());
        mounted(2, Vec::new());
        let unchanged = std::fs::metadata(&hosts).unwrap().modified().unwrap();
        assert_eq!(unchanged, old, "a reader never sees it empty");
        let left = |attempt| message_path(dir.path(), "c", attempt).exists();
        assert_eq!([left(0), left(1), left(2)], [false, true, true]);
    }

    #[test]
    fn logins_are_found_by_registry() {
        let pod = Pod::decode(&json!({"spec": {"imagePullSecrets": [{"name": "s"}]}})).unwrap();
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": encode("hub:one")},
            "reg.io": {"username": "me", "password": "two"},
        }});
        let secret = json!({"data": {".dockerconfigjson": encode(&config.to_string())}});
        let secrets = [("s".to_owned(), Some(secret))].into();
        let found = |image: &str| {
            login(&pod, image, &secrets).map(|login| (login.username, login.password))
        };
        assert_eq!(found("nginx:1"), Some(("hub".into(), "one".into())));
        assert_eq!(found("reg.io/a"), Some(("me".into(), "two".into())));
        assert_eq!(found("other.io/a"), None);
    }
}
