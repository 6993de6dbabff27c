//! What a container leaves behind when it ends, for its status.

use std::io::Read;
use std::path::{Path, PathBuf};

use futures::StreamExt;

use crate::pod::worker::Worker;
use crate::runtime::{LogRequest, Observed, Output};

const MESSAGE_BYTES_MAX: usize = 4096;
const MESSAGE_LOG_BYTES_MAX: usize = 2048;
const MESSAGE_LOG_LINES: i64 = 80;

impl Worker {
    /// What a dead container has left behind for its status.
    pub(in crate::pod) async fn termination_message(&self, dead: &Observed) -> String {
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

/// The file of one attempt.
pub(super) fn message_path(pod_dir: &Path, container: &str, attempt: u32) -> PathBuf {
    pod_dir
        .join("containers")
        .join(container)
        .join(format!("termination-{attempt}"))
}
