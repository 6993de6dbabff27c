//! Sessions in simulated containers.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};

use super::NOTICE;
use super::program::{Program, program};
use crate::runtime::{ExecRequest, Output, Result, Session, SessionControl};

/// How a command ends that is not understood.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Otherwise<'a> {
    pub(crate) code: i64,
    /// What it says on its standard error.
    pub(crate) message: &'a str,
    /// No command is understood.
    pub(crate) is_always: bool,
}

/// A session in which a command is simulated, and says so; one that is not understood ends well.
pub(crate) fn pretend(request: &ExecRequest) -> Session {
    pretend_or(request, None)
}

/// The same, but that what is not understood may end otherwise.
pub(crate) fn pretend_or(request: &ExecRequest, otherwise: Option<Otherwise<'_>>) -> Session {
    let mut simulated = program(&request.command, &[]);
    let otherwise = otherwise.filter(|other| other.is_always || simulated.end.is_none());
    if let Some(other) = otherwise {
        simulated = Program {
            lines: Vec::new(),
            end: Some((Duration::ZERO, other.code)),
        };
    }
    // A terminal goes down and back.
    let end = if request.tty { "\r\n" } else { "\n" };
    let mut output = vec![Output::Stderr(Bytes::from(format!("{NOTICE}{end}")))];
    let message = otherwise.map_or("", |other| other.message);
    if !message.is_empty() {
        output.push(Output::Stderr(Bytes::from(format!("{message}{end}"))));
    }
    let lines = simulated.lines.iter();
    output.extend(lines.map(|(_, line)| Output::Stdout(Bytes::from(format!("{line}{end}")))));
    let output: Vec<Result<Output>> = output
        .into_iter()
        .filter_map(|output| shown(output, request))
        .map(Ok)
        .collect();
    let (pause, code) = simulated.end.unwrap_or((Duration::ZERO, 0));
    let ended =
        stream::once(tokio::time::sleep(pause)).filter_map(|()| futures::future::ready(None));
    Session {
        output: Box::pin(stream::iter(output).chain(ended)),
        input: Box::pin(tokio::io::sink()),
        control: Box::new(HollowControl { code }),
    }
}

/// What a client sees of an output: only streams that it asked for, and on a terminal all in one.
pub(super) fn shown(output: Output, request: &ExecRequest) -> Option<Output> {
    match output {
        Output::Stderr(bytes) if request.tty => request.stdout.then_some(Output::Stdout(bytes)),
        Output::Stderr(bytes) => request.stderr.then_some(Output::Stderr(bytes)),
        Output::Stdout(bytes) => request.stdout.then_some(Output::Stdout(bytes)),
    }
}

pub(super) struct HollowControl {
    pub(super) code: i64,
}

#[async_trait]
impl SessionControl for HollowControl {
    async fn resize(&self, _width: u16, _height: u16) -> Result<()> {
        Ok(())
    }

    async fn exit_code(&self) -> Result<i64> {
        Ok(self.code)
    }

    async fn kill(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_gets_the_streams_that_it_asked_for() {
        let output = async |tty: bool, stdout: bool, stderr: bool| {
            let request = ExecRequest {
                command: vec!["echo".to_owned(), "hi".to_owned()],
                stdin: false,
                stdout,
                stderr,
                tty,
            };
            let output: Vec<_> = pretend(&request).output.collect().await;
            output
                .into_iter()
                .map(|output| match output.unwrap() {
                    Output::Stdout(bytes) => (1, bytes),
                    Output::Stderr(bytes) => (2, bytes),
                })
                .collect::<Vec<_>>()
        };
        let notice = |end: &str| Bytes::from(format!("{NOTICE}{end}"));
        let hi = Bytes::from("hi\n");
        assert_eq!(
            output(false, true, true).await,
            [(2, notice("\n")), (1, hi.clone())]
        );
        assert_eq!(output(false, true, false).await, [(1, hi)]);
        assert_eq!(output(false, false, true).await, [(2, notice("\n"))]);
        let hi = Bytes::from("hi\r\n");
        assert_eq!(
            output(true, true, false).await,
            [(1, notice("\r\n")), (1, hi)]
        );
    }
    #[tokio::test]
    async fn what_is_not_understood_ends_as_it_is_told_to() {
        for (command, is_always, code, said) in [
            ("id", false, 126, true),
            ("true", false, 0, false),
            ("true", true, 126, true),
        ] {
            let request = ExecRequest {
                command: vec![command.to_owned()],
                stderr: true,
                ..ExecRequest::default()
            };
            let otherwise = Otherwise {
                code: 126,
                message: "gone",
                is_always,
            };
            let session = pretend_or(&request, Some(otherwise));
            assert_eq!(session.control.exit_code().await.unwrap(), code);
            let output: Vec<_> = session.output.collect().await;
            assert_eq!(output.len() == 2, said, "{command}: {output:?}");
        }
    }
}
