//! Docker's answers, read: inspections, logs, errors.

use std::collections::BTreeMap;

use bollard::container::LogOutput;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerInspectResponse, HostConfig};
use futures::StreamExt;
use futures::stream::BoxStream;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{LABEL_ATTEMPT, LABEL_CONTAINER, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID};
use crate::runtime::{
    Exit, Identity, Limits, LogChunk, Observed, Output, Result, RuntimeError, SANDBOX, State,
};

/// Reads an inspection; `None` when the labels are not those of an agent's container.
pub(super) fn observed(details: ContainerInspectResponse) -> Option<Observed> {
    let limits = details.host_config.as_ref().map(limits);
    let config = details.config?;
    let labels: BTreeMap<String, String> = config.labels?.into_iter().collect();
    let label = |key: &str| labels.get(key).cloned();
    let identity = Identity {
        pod_name: label(LABEL_POD_NAME)?,
        pod_namespace: label(LABEL_POD_NAMESPACE)?,
        pod_uid: label(LABEL_POD_UID)?,
        container: label(LABEL_CONTAINER)?,
        attempt: label(LABEL_ATTEMPT)?.parse().ok()?,
    };
    let created_at = details
        .created
        .as_deref()
        .and_then(timestamp)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let docker_state = details.state.unwrap_or_default();
    let started_at = docker_state.started_at.as_deref().and_then(timestamp);
    let finished_at = docker_state.finished_at.as_deref().and_then(timestamp);
    let code = docker_state.exit_code.unwrap_or_default();
    let start_error = docker_state.error.clone().filter(|error| !error.is_empty());
    let state = if docker_state.running == Some(true) {
        State::Running {
            started_at: started_at.unwrap_or(created_at),
        }
    } else if let (Some(finished_at), Some(_)) = (finished_at, started_at) {
        State::Exited(Exit {
            code,
            oom_killed: docker_state.oom_killed == Some(true),
            start_error: None,
            started_at,
            finished_at,
        })
    } else if code != 0 || start_error.is_some() {
        State::Exited(Exit {
            code,
            oom_killed: false,
            start_error,
            started_at: None,
            finished_at: created_at,
        })
    } else {
        State::Created
    };
    let networks = details
        .network_settings
        .and_then(|settings| settings.networks)
        .unwrap_or_default();
    let ip = networks
        .into_values()
        .filter_map(|network| network.ip_address)
        .find(|address| !address.is_empty());
    Some(Observed {
        id: details.id?,
        ip: ip.filter(|_| identity.container == SANDBOX),
        identity,
        state,
        created_at,
        image: config.image.unwrap_or_default(),
        image_id: String::new(),
        pid: docker_state.pid.filter(|pid| *pid > 0),
        labels,
        limits,
    })
}

fn limits(told: &HostConfig) -> Limits {
    Limits {
        cpu_shares: told.cpu_shares.unwrap_or(0),
        cpu_quota_us: told.cpu_quota.unwrap_or(0),
        cpu_period_us: told.cpu_period.unwrap_or(0),
        memory_bytes: told.memory.unwrap_or(0),
        oom_score_adj: told.oom_score_adj.unwrap_or(0),
    }
}

/// Docker's timestamps; its year 1 means "never".
fn timestamp(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .filter(|time| time.year() > 1)
}

/// What a container status shows as imageID. Imported images have no digest of a repository.
pub(super) fn image_reference(id: &str, digests: &[String]) -> String {
    match digests.first() {
        Some(digest) => format!("docker-pullable://{digest}"),
        None => format!("docker://{id}"),
    }
}

pub(super) fn outputs(
    raw: impl futures::Stream<Item = Result<LogOutput, DockerError>> + Send + 'static,
) -> BoxStream<'static, Result<Output>> {
    Box::pin(raw.map(|piece| piece.map(output).map_err(failure)))
}

fn output(piece: LogOutput) -> Output {
    match piece {
        LogOutput::StdErr { message } => Output::Stderr(message),
        other => Output::Stdout(other.into_bytes()),
    }
}

/// Separates the timestamp that Docker puts in front of a piece of log.
pub(super) fn log_chunk(piece: LogOutput) -> LogChunk {
    let (is_error, mut bytes) = match piece {
        LogOutput::StdErr { message } => (true, message),
        other => (false, other.into_bytes()),
    };
    let timestamp = match bytes.iter().take(40).position(|byte| *byte == b' ') {
        Some(space) => {
            let stamp = bytes.split_to(space + 1);
            String::from_utf8_lossy(&stamp[..space]).into_owned()
        }
        None => String::new(),
    };
    LogChunk {
        output: if is_error {
            Output::Stderr(bytes)
        } else {
            Output::Stdout(bytes)
        },
        timestamp,
    }
}

pub(super) fn status_of(error: &DockerError) -> Option<u16> {
    match error {
        DockerError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

pub(super) fn failure(error: DockerError) -> RuntimeError {
    match error {
        DockerError::DockerResponseServerError {
            status_code: 404,
            message,
        } => RuntimeError::NotFound(format!("Error response from daemon: {message}")),
        DockerError::DockerResponseServerError { message, .. } => {
            RuntimeError::Refused(format!("Error response from daemon: {message}"))
        }
        DockerError::DockerStreamError { error } => {
            RuntimeError::Refused(format!("Error response from daemon: {error}"))
        }
        DockerError::RequestTimeoutError => {
            RuntimeError::Unavailable("Docker did not answer in time".to_owned())
        }
        DockerError::IOError { .. }
        | DockerError::HyperResponseError { .. }
        | DockerError::HyperLegacyError { .. }
        | DockerError::SocketNotFoundError(_) => {
            RuntimeError::Unavailable(format!("cannot reach the Docker daemon: {error}"))
        }
        other => RuntimeError::Refused(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_pieces_lose_their_timestamp() {
        let chunk = log_chunk(LogOutput::StdErr {
            message: "2026-01-02T03:04:05.678901234Z hello world\n".into(),
        });
        assert_eq!(chunk.timestamp, "2026-01-02T03:04:05.678901234Z");
        assert_eq!(chunk.output, Output::Stderr("hello world\n".into()));
    }

    #[test]
    fn year_one_is_never() {
        assert_eq!(timestamp("0001-01-01T00:00:00Z"), None);
        assert!(timestamp("2026-11-21T02:20:01.123456789Z").is_some());
    }
}
