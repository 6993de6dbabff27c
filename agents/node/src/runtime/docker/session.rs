//! An exec or attach on Docker: its streams, and its control side with terminal size, exit code and end.

use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters as query;

use super::answer::{failure, outputs};
use super::{DockerRuntime, process};
use crate::runtime::{ExecRequest, Result, RuntimeError, Session, SessionControl};

impl DockerRuntime {
    pub(super) async fn open_exec(&self, id: &str, request: &ExecRequest) -> Result<Session> {
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

    pub(super) async fn open_attach(&self, id: &str, request: &ExecRequest) -> Result<Session> {
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
}

struct ExecControl {
    docker: Docker,
    exec: String,
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

struct AttachControl {
    docker: Docker,
    container: String,
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
