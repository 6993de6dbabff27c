//! What runs containers, as the agent sees it: a small trait with two bodies, `docker` and `hollow`.
//!
//! The truth about containers lives in the runtime, never in the agent: everything needed to adopt a container after a
//! restart of the agent is in its labels, and `list` is the only source of state. Events are hints to look again.

pub(crate) mod docker;
pub(crate) mod hollow;
mod netns;
pub(crate) mod pause;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use crate::stats::Used;

/// A call into the runtime failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// The daemon does not answer: nothing is known about the containers. Try again later, change nothing.
    #[error("{0}")]
    Unavailable(String),
    /// The named container or image does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The runtime refused; the text is fit for an event.
    #[error("{0}")]
    Refused(String),
}

pub(crate) type Result<T, E = RuntimeError> = std::result::Result<T, E>;

/// Which container of which pod, which try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pod_name: String,
    pub(crate) pod_namespace: String,
    pub(crate) pod_uid: String,
    /// Name in the pod's spec; [`SANDBOX`] for the sandbox.
    pub(crate) container: String,
    /// Counts restarts of a container, re-creations of a sandbox.
    pub(crate) attempt: u32,
}

/// The container name that marks a sandbox.
pub(crate) const SANDBOX: &str = "POD";

/// What the sandbox of a pod shall look like.
#[derive(Debug, Clone)]
pub(crate) struct SandboxSpec {
    pub(crate) identity: Identity,
    pub(crate) hostname: String,
    pub(crate) host_network: bool,
    pub(crate) host_ipc: bool,
    pub(crate) host_pid: bool,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) ports: Vec<HostPort>,
}

/// A port of the node that leads into the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) container_port: u16,
    pub(crate) host_port: u16,
    pub(crate) host_ip: String,
    /// `tcp`, `udp` or `sctp`.
    pub(crate) protocol: String,
}

/// What one container shall look like; every reference is resolved.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ContainerSpec {
    pub(crate) image: String,
    /// Empty means what the image says.
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) mounts: Vec<BindMount>,
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
    pub(crate) privileged: bool,
    pub(crate) read_only_root: bool,
    pub(crate) capabilities_add: Vec<String>,
    pub(crate) capabilities_drop: Vec<String>,
    pub(crate) security_options: Vec<String>,
    pub(crate) unmask_proc: bool,
    pub(crate) share_pid_with_sandbox: bool,
    /// Id of another container whose processes it sees, where it shares them with no sandbox and not with the node.
    pub(crate) pid_of: Option<String>,
    pub(crate) host_network: bool,
    pub(crate) host_pid: bool,
    pub(crate) host_ipc: bool,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
    pub(crate) stop_signal: Option<String>,
    pub(crate) resources: Limits,
    /// Kept with the container, given back by `list`.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Cgroup settings; zero leaves a value to the kernel.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Limits {
    pub(crate) cpu_shares: i64,
    pub(crate) cpu_quota_us: i64,
    pub(crate) cpu_period_us: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) oom_score_adj: i64,
}

impl Limits {
    /// Whether a container that keeps to these need not be told the others: all that an update changes is the same.
    pub(crate) fn binds_like(&self, other: &Limits) -> bool {
        let told = |limits: &Limits| (limits.cpu_shares, limits.cpu_quota_us, limits.memory_bytes);
        told(self) == told(other)
    }
}

/// A path of the node that appears in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindMount {
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    /// `rprivate`, `rslave` or `rshared`.
    pub(crate) propagation: &'static str,
}

/// What the runtime knows about one container or sandbox.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observed {
    /// Identifier within the runtime, without a scheme.
    pub(crate) id: String,
    pub(crate) identity: Identity,
    pub(crate) state: State,
    pub(crate) created_at: OffsetDateTime,
    /// Image as it was asked for.
    pub(crate) image: String,
    /// Content address of the image, e.g. `docker://sha256:..` or `docker-pullable://name@sha256:..`.
    pub(crate) image_id: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Address of a sandbox, when it has one of its own.
    pub(crate) ip: Option<String>,
    /// Process id of the first process while running.
    pub(crate) pid: Option<i64>,
    /// What it was last told to keep to; `None` where the runtime does not say.
    pub(crate) limits: Option<Limits>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    Created,
    Running { started_at: OffsetDateTime },
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exit {
    pub(crate) code: i64,
    pub(crate) oom_killed: bool,
    /// The container never ran: the runtime could not start it, for this reason.
    pub(crate) start_error: Option<String>,
    pub(crate) started_at: Option<OffsetDateTime>,
    pub(crate) finished_at: OffsetDateTime,
}

impl Observed {
    pub(crate) fn is_sandbox(&self) -> bool {
        self.identity.container == SANDBOX
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

/// Something may have changed for this pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuntimeEvent {
    pub(crate) pod_uid: String,
}

/// An image that is present on the node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Image {
    pub(crate) id: String,
    /// Reference that goes into a container status.
    pub(crate) image_id: String,
    pub(crate) names: Vec<String>,
    pub(crate) size_bytes: i64,
    /// `USER` of the image: a name or a number, with or without group.
    pub(crate) user: String,
}

/// Login for a registry.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RegistryLogin {
    pub(crate) server: String,
    pub(crate) username: String,
    pub(crate) password: String,
}

/// Name and versions for the node's status.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RuntimeInfo {
    /// `docker://20.10.24`
    pub(crate) version: String,
    pub(crate) os_image: String,
    pub(crate) kernel_version: String,
    pub(crate) cpu_count: i64,
    pub(crate) memory_bytes: i64,
    /// Whether containers are simulated.
    pub(crate) hollow: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ExecRequest {
    pub(crate) command: Vec<String>,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// A piece of output with the stream it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// A running exec or attach: streams, and two calls for the control side.
pub(crate) struct Session {
    pub(crate) output: BoxStream<'static, Result<Output>>,
    /// Closing (shutdown) is the end of the standard input.
    pub(crate) input: Pin<Box<dyn AsyncWrite + Send>>,
    pub(crate) control: Box<dyn SessionControl>,
}

#[async_trait]
pub(crate) trait SessionControl: Send + Sync {
    async fn resize(&self, width: u16, height: u16) -> Result<()>;
    /// Exit code once the output has ended; zero for attach.
    async fn exit_code(&self) -> Result<i64>;
    /// Ends an exec whose caller has lost patience; nothing for attach.
    async fn kill(&self) -> Result<()>;
}

/// Which lines of a container's output.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LogRequest {
    pub(crate) follow: bool,
    pub(crate) tail_lines: Option<i64>,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// A line, or the next part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogChunk {
    pub(crate) output: Output,
    /// When the line was written, RFC 3339 with nanoseconds as the runtime recorded it.
    pub(crate) timestamp: String,
}

#[async_trait]
pub(crate) trait Runtime: Send + Sync {
    /// The scheme of container identifiers: `docker`, `hollow`.
    fn scheme(&self) -> &'static str;

    /// Versions and sizes; an error says that the runtime is not usable now.
    async fn info(&self) -> Result<RuntimeInfo>;

    /// Containers and sandboxes of this node, of one pod when a UID is given. Complete or an error.
    async fn list(&self, pod_uid: Option<&str>) -> Result<Vec<Observed>>;

    /// Hints that a pod changed; ends when the connection is lost.
    fn events(&self) -> BoxStream<'static, RuntimeEvent>;

    /// Creates and starts a sandbox; one left over from a failed try under the same name is replaced.
    async fn run_sandbox(&self, spec: &SandboxSpec) -> Result<String>;

    /// Creates a container in a sandbox and gives its id; a leftover of the same name is replaced.
    async fn create(
        &self,
        sandbox: &str,
        identity: &Identity,
        spec: &ContainerSpec,
    ) -> Result<String>;

    async fn start(&self, id: &str) -> Result<()>;

    /// Makes a container keep to other limits while it runs; what is zero stays as it is, and so does the score.
    async fn update(&self, id: &str, limits: &Limits) -> Result<()>;

    /// Stop signal, then SIGKILL after `grace`. Not an error when it does not run.
    async fn stop(&self, id: &str, grace: Duration) -> Result<()>;

    /// Removes a container or sandbox whatever its state. Not an error when it is not there.
    async fn remove(&self, id: &str) -> Result<()>;

    async fn exec(&self, id: &str, request: &ExecRequest) -> Result<Session>;

    async fn attach(&self, id: &str, request: &ExecRequest) -> Result<Session>;

    /// Connects to a port as seen from inside a sandbox, where servers may listen on its loopback address only.
    async fn dial(&self, sandbox: &str, port: u16) -> Result<TcpStream>;

    fn logs(&self, id: &str, request: &LogRequest) -> BoxStream<'static, Result<LogChunk>>;

    /// What the running containers and sandboxes of this node have used; one that cannot be measured is left out. `pods`
    /// are the node's pods as the API has them: what is simulated uses what they say.
    async fn usage(&self, pods: &[Arc<Value>]) -> Result<Vec<Used>>;

    /// The image of that name if it is present.
    async fn image(&self, name: &str) -> Result<Option<Image>>;

    async fn pull(&self, name: &str, login: Option<&RegistryLogin>) -> Result<()>;

    async fn images(&self) -> Result<Vec<Image>>;
}

/// Bytes as ids are written: two digits each, small letters.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |number: u8| char::from(DIGITS[usize::from(number & 15)]);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(*byte));
    }
    text
}

/// Runs a command to its end and gives exit code and (bounded) output, or `None` when the deadline passed and the
/// command was killed: what exec probes and hooks need.
pub(crate) async fn exec_sync(
    runtime: &dyn Runtime,
    id: &str,
    command: &[String],
    timeout: Duration,
) -> Result<Option<(i64, Vec<u8>)>> {
    use futures::StreamExt;
    const OUTPUT_BYTES_MAX: usize = 10 * 1024;
    let request = ExecRequest {
        command: command.to_vec(),
        stdout: true,
        stderr: true,
        ..ExecRequest::default()
    };
    let deadline = tokio::time::Instant::now() + timeout;
    let mut session = match tokio::time::timeout_at(deadline, runtime.exec(id, &request)).await {
        Ok(session) => session?,
        Err(_) => return Ok(None),
    };
    let run = async {
        let mut collected = Vec::new();
        while let Some(piece) = session.output.next().await {
            let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece?;
            let room = OUTPUT_BYTES_MAX.saturating_sub(collected.len());
            collected.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Ok((session.control.exit_code().await?, collected))
    };
    if let Ok(result) = tokio::time::timeout_at(deadline, run).await {
        return result.map(Some);
    }
    session.control.kill().await?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_two_digits_each() {
        let bytes: Vec<u8> = (0..=255).collect();
        let each = bytes.iter().map(|byte| format!("{byte:02x}"));
        assert_eq!(hex(&bytes), each.collect::<String>());
    }
}
