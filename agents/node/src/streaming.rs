//! Exec and attach over a WebSocket, in the remote command protocol of Kubernetes, versions 5, 4 and the first.
//!
//! Every binary message begins with the number of its channel. The client sends standard input, terminal sizes and (in
//! version 5) the closing of a channel; the server sends output, error output and at last one status.

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::runtime::{Output, Session};

/// Subprotocols in the order in which they are preferred.
pub(crate) const PROTOCOLS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
pub(crate) const CLOSE: u8 = 255;

/// Terminal sizes on their way; a newer one makes an older one worthless, so few are kept.
const RESIZES_MAX: usize = 4;

/// How long a client that was told how its session ended has to close.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
struct TerminalSize {
    width: u16,
    height: u16,
}

/// What a message of the client asks for.
#[derive(Debug, PartialEq, Eq)]
enum Incoming {
    Input(Bytes),
    EndOfInput,
    Resize(TerminalSize),
    Nothing,
}

/// How a subprotocol writes messages and the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dialect {
    /// Messages are text: the channel as a digit, and the content in base64.
    is_base64: bool,
    /// The first version: nothing is said of success, and of a failure its text; an empty message tells at first that the
    /// session stands.
    is_first: bool,
}

impl Dialect {
    /// Who offers no protocol speaks the first version.
    fn of(protocol: Option<&str>) -> Dialect {
        let protocol = protocol.unwrap_or_default();
        Dialect {
            is_base64: protocol.contains("base64."),
            is_first: !protocol.starts_with('v'),
        }
    }

    fn encode(self, channel: u8, content: &[u8]) -> Message {
        if self.is_base64 {
            return Message::Text(format!("{channel}{}", STANDARD.encode(content)).into());
        }
        encode(channel, content)
    }

    /// A message of the client as it would be in binary; none where it is not base64.
    fn binary(self, message: Bytes) -> Option<Bytes> {
        let Some((channel, content)) = message.split_first().filter(|_| self.is_base64) else {
            return Some(message);
        };
        let mut binary = vec![channel.wrapping_sub(b'0')];
        STANDARD.decode_vec(content, &mut binary).ok()?;
        Some(binary.into())
    }

    /// What is said of the end of a session.
    fn end(self, status: &Value) -> Option<Message> {
        if !self.is_first {
            return Some(self.encode(ERROR, status.to_string().as_bytes()));
        }
        let text = status["message"].as_str()?;
        Some(self.encode(ERROR, text.as_bytes()))
    }
}

fn decode(mut message: Bytes) -> Incoming {
    if message.is_empty() {
        return Incoming::Nothing;
    }
    let channel = message.split_to(1)[0];
    match channel {
        STDIN if !message.is_empty() => Incoming::Input(message),
        RESIZE => serde_json::from_slice(&message).map_or(Incoming::Nothing, Incoming::Resize),
        CLOSE if message.first() == Some(&STDIN) => Incoming::EndOfInput,
        _ => Incoming::Nothing,
    }
}

pub(crate) fn encode(channel: u8, content: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(content.len() + 1);
    message.put_u8(channel);
    message.extend_from_slice(content);
    Message::Binary(message.freeze())
}

/// The last message of a session: how the command ended.
pub(crate) fn exit_status(code: i64) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// The last message of a session that could not be carried through.
pub(crate) fn error_status(text: &str) -> Value {
    let message = format!("Internal error occurred: {text}");
    json!({
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    })
}

/// Carries a session until the command has ended or the client is gone.
pub(crate) async fn carry(socket: WebSocket, session: Result<Session, String>) {
    let dialect = Dialect::of(socket.protocol().and_then(|name| name.to_str().ok()));
    let (mut sink, mut stream) = socket.split();
    let status = match session {
        Err(text) => error_status(&text),
        Ok(session) => {
            let Session {
                mut output,
                input,
                control,
            } = session;
            let (resizes, mut resize_requests) = mpsc::channel::<TerminalSize>(RESIZES_MAX);
            let reading = read_client(&mut stream, dialect, input, resizes);
            let resizing = async {
                while let Some(size) = resize_requests.recv().await {
                    if let Err(error) = control.resize(size.width, size.height).await {
                        tracing::debug!(%error, "cannot resize a terminal");
                    }
                }
                futures::future::pending::<()>().await;
            };
            let writing = async {
                if dialect.is_first {
                    sink.send(dialect.encode(STDOUT, &[])).await.ok()?;
                }
                while let Some(piece) = output.next().await {
                    let message = match piece {
                        Ok(Output::Stdout(bytes)) => dialect.encode(STDOUT, &bytes),
                        Ok(Output::Stderr(bytes)) => dialect.encode(STDERR, &bytes),
                        Err(error) => return Some(error_status(&error.to_string())),
                    };
                    sink.send(message).await.ok()?;
                }
                Some(match control.exit_code().await {
                    Ok(code) => exit_status(code),
                    Err(error) => error_status(&error.to_string()),
                })
            };
            // The client first, who is not heard otherwise while a command always has more to say.
            let status = tokio::select! {
                biased;
                () = reading => None,
                () = resizing => None,
                status = writing => status,
            };
            // The client has gone: nobody wants to know how it ended.
            let Some(status) = status else { return };
            status
        }
    };
    finish(&mut sink, dialect.end(&status)).await;
    linger(&mut stream).await;
}

async fn finish(sink: &mut SplitSink<WebSocket, Message>, end: Option<Message>) {
    let sent = match end {
        Some(end) => sink.send(end).await,
        None => Ok(()),
    };
    let close = Message::Close(Some(CloseFrame {
        code: 1000,
        reason: "".into(),
    }));
    if let Err(error) = sent.and(sink.send(close).await) {
        tracing::debug!(%error, "a client left before the end of its session");
    }
}

/// Takes what the client still sends until it has closed, too: a connection that is dropped with bytes unread is reset, and
/// the status is lost with it.
async fn linger(stream: &mut SplitStream<WebSocket>) {
    let rest = async { while let Some(Ok(_)) = stream.next().await {} };
    if tokio::time::timeout(LINGER, rest).await.is_err() {
        tracing::debug!("a client did not close after the end of its session");
    }
}

/// What the client says next; none when it is gone. A client that always has more to say shall not keep what it is told from
/// its turn in the same task: this yields at every message.
pub(crate) async fn next_content(stream: &mut SplitStream<WebSocket>) -> Option<Bytes> {
    while let Some(Ok(message)) = stream.next().await {
        tokio::task::yield_now().await;
        match message {
            Message::Binary(content) => return Some(content),
            Message::Text(text) => return Some(Bytes::from(text.to_string())),
            Message::Close(_) => return None,
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    None
}

/// Passes on what the client sends; ends when the client is gone.
async fn read_client(
    stream: &mut SplitStream<WebSocket>,
    dialect: Dialect,
    input: Pin<Box<dyn AsyncWrite + Send>>,
    resizes: mpsc::Sender<TerminalSize>,
) {
    let mut input = Some(input);
    while let Some(content) = next_content(stream).await {
        let Some(content) = dialect.binary(content) else {
            continue;
        };
        match decode(content) {
            Incoming::Input(bytes) => {
                let written = match &mut input {
                    Some(input) => write(input, &bytes).await,
                    None => Ok(()),
                };
                if written.is_err() {
                    // The command reads no more; its output may still come.
                    input = None;
                }
            }
            Incoming::EndOfInput => {
                if let Some(mut input) = input.take()
                    && let Err(error) = input.shutdown().await
                {
                    tracing::debug!(%error, "cannot close a standard input");
                }
            }
            Incoming::Resize(size) => {
                // When sizes come faster than they can be set, one of the next will do.
                let _ = resizes.try_send(size);
            }
            Incoming::Nothing => {}
        }
    }
}

async fn write(input: &mut Pin<Box<dyn AsyncWrite + Send>>, bytes: &[u8]) -> std::io::Result<()> {
    input.write_all(bytes).await?;
    input.flush().await
}

#[cfg(test)]
mod tests {
    use axum::extract::ws::WebSocketUpgrade;
    use hyper_util::rt::TokioIo;
    use hyper_util::service::TowerToHyperService;
    use tokio_tungstenite::client_async;
    use tokio_tungstenite::tungstenite::Message as ClientMessage;

    use super::*;

    #[tokio::test]
    async fn a_client_that_still_sends_is_told_how_it_ended() {
        let serve = |upgrade: WebSocketUpgrade| async move {
            upgrade.on_upgrade(|socket| carry(socket, Err("no such command".to_owned())))
        };
        let router = axum::Router::new().route("/", axum::routing::any(serve));
        let (near, far) = tokio::io::duplex(1 << 16);
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(far), TowerToHyperService::new(router))
            .with_upgrades();
        tokio::spawn(connection);
        let (mut client, _) = client_async("ws://node/", near).await.unwrap();
        let session = async {
            // More than is on its way at once: it has to be read, or the client's writing breaks.
            for _ in 0..64 {
                let message = ClientMessage::binary([&[STDIN][..], &[b'x'; 1 << 14]].concat());
                client.send(message).await.unwrap();
            }
            let status = client.next().await.unwrap().unwrap().into_data();
            assert_eq!(status[0], ERROR);
            assert_eq!(&status[1..], b"Internal error occurred: no such command");
            assert!(client.next().await.unwrap().unwrap().is_close());
        };
        tokio::time::timeout(Duration::from_secs(20), session)
            .await
            .unwrap();
    }

    #[test]
    fn messages_of_a_client() {
        let cases: &[(&[u8], Incoming)] = &[
            (b"", Incoming::Nothing),
            (b"\x00", Incoming::Nothing),
            (b"\x00hi", Incoming::Input("hi".into())),
            (
                b"\x04{\"Width\":80,\"Height\":24}",
                Incoming::Resize(TerminalSize {
                    width: 80,
                    height: 24,
                }),
            ),
            (b"\x04{\"Width\":-1}", Incoming::Nothing),
            (b"\xff\x00", Incoming::EndOfInput),
            (b"\xff\x01", Incoming::Nothing),
            (b"\x09x", Incoming::Nothing),
        ];
        for (message, expected) in cases {
            assert_eq!(
                decode(Bytes::copy_from_slice(message)),
                *expected,
                "{message:?}"
            );
        }
    }

    #[test]
    fn the_first_version_says_nothing_of_success() {
        let first = Dialect::of(Some("channel.k8s.io"));
        assert_eq!(first, Dialect::of(None));
        assert_eq!(first.end(&exit_status(0)), None);
        let text = "command terminated with non-zero exit code: exit status 7";
        let failed = first.end(&exit_status(7));
        assert_eq!(failed, Some(encode(ERROR, text.as_bytes())));
        let fourth = Dialect::of(Some("v4.channel.k8s.io"));
        let success = exit_status(0).to_string();
        let told = fourth.end(&exit_status(0));
        assert_eq!(told, Some(encode(ERROR, success.as_bytes())));
    }

    #[test]
    fn messages_may_be_base64() {
        for name in ["base64.channel.k8s.io", "v4.base64.channel.k8s.io"] {
            let dialect = Dialect::of(Some(name));
            assert_eq!(
                dialect.encode(STDOUT, b"a\n"),
                Message::Text("1YQo=".into())
            );
            let input = dialect.binary(Bytes::from_static(b"0YQo="));
            assert_eq!(decode(input.unwrap()), Incoming::Input("a\n".into()));
            assert_eq!(dialect.binary(Bytes::from_static(b"0?")), None);
            assert_eq!(dialect.binary(Bytes::new()), Some(Bytes::new()));
        }
        let fifth = Dialect::of(Some("v5.channel.k8s.io"));
        let message = Bytes::from_static(b"\0a");
        assert_eq!(fifth.binary(message.clone()), Some(message));
    }

    #[test]
    fn statuses() {
        assert_eq!(exit_status(0)["status"], "Success");
        let failed = exit_status(7);
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(
            failed["details"]["causes"][0],
            json!({"reason": "ExitCode", "message": "7"})
        );
    }
}
