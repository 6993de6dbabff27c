//! The control side of an exec or attach on Docker: terminal size, exit code, end.

use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::exec::ResizeExecOptions;
use bollard::query_parameters as query;

use super::answer::failure;
use super::process;
use crate::runtime::{Result, RuntimeError, SessionControl};

pub(super) struct ExecControl {
    pub(super) docker: Docker,
    pub(super) exec: String,
}

#[async_trait]
impl SessionControl for ExecControl {
    async fn resize(&self, width: u16, height: u16) -> Result<()> {
        self.docker
            .resize_exec(&self.exec, ResizeExecOptions { height, width })
            .await
            .map_err(failure)
    }

    async fn exit_code(&self) -> Result<i64> {
        // The output may end a moment before Docker has noted the end of the process.
        const WAIT_MAX: Duration = Duration::from_secs(5);
        let mut pause = Duration::from_millis(5);
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            let details = self
                .docker
                .inspect_exec(&self.exec)
                .await
                .map_err(failure)?;
            match details.exit_code {
                Some(code) if details.running != Some(true) => return Ok(code),
                _ if tokio::time::Instant::now() > deadline => {
                    return Err(RuntimeError::Refused(
                        "the command closed its output but did not end".to_owned(),
                    ));
                }
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    async fn kill(&self) -> Result<()> {
        // Docker has no call for this: the process is found by its id on the node.
        let details = self
            .docker
            .inspect_exec(&self.exec)
            .await
            .map_err(failure)?;
        let container = details.container_id.unwrap_or_default();
        let in_container = |pid: &i64| *pid > 1 && process::is_in_container(*pid, &container);
        if let Some(pid) = details.pid.filter(in_container) {
            // The shell knows how to, on machines without a program of that name as well.
            let kill = tokio::process::Command::new("sh")
                .args(["-c", &format!("kill -9 {pid}")])
                .output();
            kill.await
                .map_err(|error| RuntimeError::Refused(error.to_string()))?;
        }
        Ok(())
    }
}

pub(super) struct AttachControl {
    pub(super) docker: Docker,
    pub(super) container: String,
}

#[async_trait]
impl SessionControl for AttachControl {
    async fn resize(&self, width: u16, height: u16) -> Result<()> {
        let options = query::ResizeContainerTTYOptionsBuilder::new()
            .w(i32::from(width))
            .h(i32::from(height))
            .build();
        self.docker
            .resize_container_tty(&self.container, options)
            .await
            .map_err(failure)
    }

    async fn exit_code(&self) -> Result<i64> {
        Ok(0)
    }

    async fn kill(&self) -> Result<()> {
        Ok(())
    }
}
