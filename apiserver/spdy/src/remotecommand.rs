//! Exec and attach: the streams of a SPDY session as the channels of a WebSocket to the node.
//!
//! Both carry the same bytes under other names. The client opens one stream each for `error`, `stdin`, `stdout`,
//! `stderr` and `resize`; the node speaks `v5.channel.k8s.io`, where a number stands before each message and
//! channel 255 closes another. The exit status is a `Status` object on the error channel in both.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::session::{self, Limits, Session, Stream, StreamReader, StreamWriter};

/// Channels of `v5.channel.k8s.io`.
pub mod channel {
    pub const STDIN: u8 = 0;
    pub const STDOUT: u8 = 1;
    pub const STDERR: u8 = 2;
    pub const ERROR: u8 = 3;
    pub const RESIZE: u8 = 4;
    /// Closes the channel whose number is its payload.
    pub const CLOSE: u8 = 255;
}

/// As long as the kubelet waits for a client to open its streams.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams that a session may have: the five expected ones and some room for mistakes.
const STREAMS_MAX: usize = 16;
/// What the client is told when the node's connection ends without an exit status.
const LOST: &str = r#"{"metadata":{},"status":"Failure","message":"the connection to the node was lost before the command ended","reason":"InternalError","code":500}"#;

/// What the client asked for in the query of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// The connection to the node as channels of `(channel number, payload)`. It is over when the receiver ends.
pub struct NodeChannels {
    pub to_node: mpsc::Sender<(u8, Bytes)>,
    pub from_node: mpsc::Receiver<(u8, Bytes)>,
}

/// Why a session did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Session(#[from] session::Error),
    #[error("timed out waiting for the client to create its streams")]
    NoStreams,
}

/// Serves an exec or attach session over an upgraded connection until the node or the client ends it.
///
/// The senders and receivers of `node` are dropped when it returns; whoever holds their other ends closes the
/// connection to the node then.
pub async fn serve_remotecommand<IO>(
    io: IO,
    options: Options,
    node: NodeChannels,
) -> Result<(), Error>
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    serve_within(STREAMS_TIMEOUT, io, options, node).await
}

async fn serve_within<IO>(
    streams_timeout: Duration,
    io: IO,
    options: Options,
    node: NodeChannels,
) -> Result<(), Error>
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let (session, driver) = session::server(
        io,
        Limits {
            streams_max: STREAMS_MAX,
            ..Limits::default()
        },
    );
    let (driven, bridged) = tokio::join!(driver, bridge(streams_timeout, session, options, node));
    driven?;
    bridged
}

#[derive(Default)]
struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Streams {
    /// The place for a stream, if it is expected and still free.
    fn place(&mut self, kind: &str, options: Options) -> Option<&mut Option<Stream>> {
        let place = match kind {
            "error" => &mut self.error,
            "stdin" if options.stdin => &mut self.stdin,
            "stdout" if options.stdout => &mut self.stdout,
            "stderr" if options.stderr && !options.tty => &mut self.stderr,
            "resize" if options.tty => &mut self.resize,
            _ => return None,
        };
        place.is_none().then_some(place)
    }

    fn complete(&self, options: Options) -> bool {
        let there = |wanted: bool, stream: &Option<Stream>| !wanted || stream.is_some();
        self.error.is_some()
            && there(options.stdin, &self.stdin)
            && there(options.stdout, &self.stdout)
            && there(options.stderr && !options.tty, &self.stderr)
            && there(options.tty, &self.resize)
    }
}

async fn bridge(
    streams_timeout: Duration,
    mut session: Session,
    options: Options,
    node: NodeChannels,
) -> Result<(), Error> {
    let streams = timeout(streams_timeout, collect(&mut session, options))
        .await
        .map_err(|_| Error::NoStreams)?;
    // Without streams the client is gone, which is no error of the session.
    let Some(streams) = streams else {
        return Ok(());
    };
    let NodeChannels { to_node, from_node } = node;
    let (stdin, keep_stdin) = split(streams.stdin);
    let (resize, keep_resize) = split(streams.resize);
    let writer = |stream: Option<Stream>| stream.map(|stream| stream.writer);
    let output = Output {
        stdout: writer(streams.stdout),
        stderr: writer(streams.stderr),
        error: writer(streams.error),
        status_seen: false,
    };
    let input = async {
        tokio::join!(
            pump(stdin, channel::STDIN, &to_node),
            pump(resize, channel::RESIZE, &to_node)
        );
        // The node decides when the session ends.
        std::future::pending::<()>().await;
    };
    let client_gone = async {
        while let Some(unexpected) = session.accept().await {
            unexpected.refuse().await;
        }
    };
    tokio::select! {
        () = output.run(from_node) => {}
        () = input => {}
        () = client_gone => {}
    }
    for half in [keep_stdin, keep_resize].into_iter().flatten() {
        // The session may be closed already.
        let _ = half.finish().await;
    }
    Ok(())
}

async fn collect(session: &mut Session, options: Options) -> Option<Streams> {
    let mut streams = Streams::default();
    while !streams.complete(options) {
        let stream = session.accept().await?;
        let kind = stream
            .headers
            .get("streamtype")
            .unwrap_or_default()
            .to_owned();
        match streams.place(&kind, options) {
            Some(place) => *place = Some(stream),
            None => {
                tracing::debug!(kind, "unexpected stream");
                stream.refuse().await;
            }
        }
    }
    Some(streams)
}

fn split(stream: Option<Stream>) -> (Option<StreamReader>, Option<StreamWriter>) {
    match stream {
        Some(stream) => (Some(stream.reader), Some(stream.writer)),
        None => (None, None),
    }
}

/// Moves a stream of the client to a channel of the node, and its end too.
async fn pump(reader: Option<StreamReader>, number: u8, to_node: &mpsc::Sender<(u8, Bytes)>) {
    let Some(mut reader) = reader else { return };
    while let Some(bytes) = reader.read().await {
        if to_node.send((number, bytes)).await.is_err() {
            return;
        }
    }
    // If the node is gone the output side knows.
    let _ = to_node
        .send((channel::CLOSE, Bytes::copy_from_slice(&[number])))
        .await;
}

/// The streams to the client.
struct Output {
    stdout: Option<StreamWriter>,
    stderr: Option<StreamWriter>,
    error: Option<StreamWriter>,
    status_seen: bool,
}

impl Output {
    async fn run(mut self, mut from_node: mpsc::Receiver<(u8, Bytes)>) {
        while let Some((number, bytes)) = from_node.recv().await {
            let closes = (number == channel::CLOSE)
                .then(|| bytes.first().copied())
                .flatten();
            if let Some(closed) = closes {
                if let Some(writer) = self.place(closed).and_then(Option::take) {
                    // The session may be closed already.
                    let _ = writer.finish().await;
                }
                continue;
            }
            if bytes.is_empty() {
                continue;
            }
            self.status_seen |= number == channel::ERROR;
            if let Some(writer) = self.place(number).and_then(|place| place.as_ref())
                && writer.write(bytes).await.is_err()
            {
                return;
            }
        }
        if !self.status_seen
            && let Some(error) = &self.error
        {
            let _ = error.write(Bytes::from_static(LOST.as_bytes())).await;
        }
        for writer in [self.stdout, self.stderr, self.error].into_iter().flatten() {
            let _ = writer.finish().await;
        }
    }

    fn place(&mut self, number: u8) -> Option<&mut Option<StreamWriter>> {
        match number {
            channel::STDOUT => Some(&mut self.stdout),
            channel::STDERR => Some(&mut self.stderr),
            channel::ERROR => Some(&mut self.error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_without_streams_is_given_up() {
        let (client, io) = tokio::io::duplex(1024);
        let (to_node, _from_client) = mpsc::channel(1);
        let (_to_client, from_node) = mpsc::channel(1);
        let options = Options {
            stdout: true,
            ..Options::default()
        };
        let served = tokio::spawn(serve_within(
            Duration::from_millis(20),
            io,
            options,
            NodeChannels { to_node, from_node },
        ));
        let (mut reader, _writer) = tokio::io::split(client);
        // The GOAWAY, and then the end.
        let mut goodbye = [0; 16];
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut goodbye)
            .await
            .unwrap();
        assert_eq!(goodbye[..4], [0x80, 3, 0, 7]);
        drop((reader, _writer));
        assert!(matches!(served.await.unwrap(), Err(Error::NoStreams)));
    }
}
