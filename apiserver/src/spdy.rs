//! Streams for clients before WebSockets (kubectl up to 1.30): SPDY/3.1 on the client's side, WebSocket on the node's.
//!
//! The streams of exec and attach become WebSocket channels; a port-forward is passed on as it is, in the tunnel that
//! newer clients build themselves, so that a node agent has one implementation of each.

use ::spdy::remotecommand::{NodeChannels, Options, serve_remotecommand};
use ::spdy::upgrade::{self, PORT_FORWARD_PROTOCOL, REMOTE_COMMAND_PROTOCOL};
use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::context::Context;
use crate::kubelet::{Kubelets, NodeAddress};
use crate::status::{ApiError, ApiResult};

/// What a node agent is asked to speak.
const NODE_COMMAND_PROTOCOL: &str = "v5.channel.k8s.io";
const NODE_TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// A node agent sends far smaller messages.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
const BUFFER_BYTES: usize = 32 * 1024;
/// Messages that wait between the two protocols, in each direction.
const CHANNEL_MESSAGES: usize = 8;

type Node = WebSocketStream<TokioIo<Upgraded>>;

pub(crate) fn is_requested(headers: &HeaderMap) -> bool {
    upgrade::is_upgrade(headers)
}

/// Serves `exec`, `attach` or `portforward`.
pub(crate) async fn bridge(
    context: &Context,
    address: &NodeAddress,
    path: &str,
    action: &str,
    extensions: &mut Extensions,
) -> ApiResult<Response> {
    let tunnels = action == "portforward";
    let offered = if tunnels {
        PORT_FORWARD_PROTOCOL
    } else {
        REMOTE_COMMAND_PROTOCOL
    };
    let protocol = match upgrade::negotiate(&context.headers, &[offered]) {
        Ok(protocol) => protocol,
        Err(refused) => return Ok(not_negotiated(&refused)),
    };
    let client = extensions
        .remove::<OnUpgrade>()
        .ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded; use HTTP/1.1"))?;
    let node_protocol = if tunnels {
        NODE_TUNNEL_PROTOCOL
    } else {
        NODE_COMMAND_PROTOCOL
    };
    let answer = dial(context, address, path, node_protocol).await?;
    let flag = |name: &str| context.query.flag(name);
    let options = Options {
        stdin: flag("stdin"),
        stdout: flag("stdout"),
        stderr: flag("stderr"),
        tty: flag("tty"),
    };
    let stopping = context.server.stopping.clone();
    // Ends with either side, with the server, or when nothing moves any more.
    tokio::spawn(async move {
        let serve = async {
            let client = TokioIo::new(client.await?);
            let config = WebSocketConfig::default()
                .max_message_size(Some(MESSAGE_BYTES_MAX))
                .max_frame_size(Some(MESSAGE_BYTES_MAX));
            let node = TokioIo::new(hyper::upgrade::on(answer).await?);
            let node = WebSocketStream::from_raw_socket(node, Role::Client, Some(config)).await;
            if tunnels {
                tunnel(client, node).await
            } else {
                command(client, node, options).await
            }
        };
        tokio::select! {
            outcome = serve => if let Err(error) = outcome {
                tracing::debug!(%error, "a SPDY stream to a node agent broke");
            },
            () = stopping.cancelled() => {}
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .extend(upgrade::upgrade_response_headers(protocol));
    Ok(response)
}

fn not_negotiated(refused: &upgrade::NotNegotiated) -> Response {
    let mut response = Response::new(Body::from(refused.to_string()));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response.headers_mut().extend(refused.headers());
    response
}

/// Opens a WebSocket to the node agent; the answer is its agreement to upgrade.
async fn dial(
    context: &Context,
    address: &NodeAddress,
    path: &str,
    protocol: &str,
) -> ApiResult<http::Response<hyper::body::Incoming>> {
    let key = generate_key();
    let request = Request::get(path)
        .header(header::HOST, Kubelets::host(address))
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, &key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(Body::new(Empty::<Bytes>::new()))
        .map_err(ApiError::internal)?;
    let answer = context.server.kubelets.send(address, request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = answer.status().as_u16();
        let text = crate::handler::read_body(Body::new(answer.into_body()), &HeaderMap::new())
            .await
            .unwrap_or_default();
        return Err(ApiError::from_node(
            code,
            String::from_utf8_lossy(&text).trim().to_owned(),
        ));
    }
    let has = |name: header::HeaderName, value: &str| {
        answer
            .headers()
            .get(name)
            .is_some_and(|own| own.as_bytes() == value.as_bytes())
    };
    let agreed = has(
        header::SEC_WEBSOCKET_ACCEPT,
        &derive_accept_key(key.as_bytes()),
    ) && has(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    if agreed {
        Ok(answer)
    } else {
        Err(ApiError::internal(format!(
            "the node agent does not speak {protocol}"
        )))
    }
}

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Exec and attach: streams to channels.
async fn command(client: TokioIo<Upgraded>, node: Node, options: Options) -> Outcome {
    let (to_node, from_client) = mpsc::channel(CHANNEL_MESSAGES);
    let (to_client, from_node) = mpsc::channel(CHANNEL_MESSAGES);
    let (sink, stream) = node.split();
    let carry = carry_channels(sink, stream, from_client, to_client);
    let (served, ()) = tokio::join!(
        serve_remotecommand(client, options, NodeChannels { to_node, from_node }),
        carry
    );
    Ok(served?)
}

/// Moves messages between the node's WebSocket and the channels until one of the two is over.
async fn carry_channels(
    mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
    mut stream: impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin,
    mut from_client: mpsc::Receiver<(u8, Bytes)>,
    to_client: mpsc::Sender<(u8, Bytes)>,
) {
    let outward = async {
        while let Some((number, bytes)) = from_client.recv().await {
            let mut message = BytesMut::with_capacity(1 + bytes.len());
            message.extend_from_slice(&[number]);
            message.extend_from_slice(&bytes);
            sink.send(Message::Binary(message.freeze())).await?;
        }
        // The client has gone.
        sink.close().await
    };
    let inward = async {
        while let Some(message) = stream.next().await {
            let bytes = match message? {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => break,
                _ => continue,
            };
            if let Some(number) = bytes.first().copied()
                && to_client.send((number, bytes.slice(1..))).await.is_err()
            {
                break;
            }
        }
        Ok(())
    };
    let outcome: Result<(), tungstenite::Error> = tokio::select! {
        outcome = outward => outcome,
        outcome = inward => outcome,
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "the WebSocket to a node agent broke");
    }
}

/// Port-forward: the client's bytes, whatever they say, as binary messages.
async fn tunnel(client: TokioIo<Upgraded>, node: Node) -> Outcome {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut sink, mut stream) = node.split();
    let outward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(BUFFER_BYTES);
            if from_client.read_buf(&mut buffer).await? == 0 {
                sink.close().await?;
                return Outcome::Ok(());
            }
            sink.send(Message::Binary(buffer.split().freeze())).await?;
        }
    };
    let inward = async {
        while let Some(message) = stream.next().await {
            match message? {
                Message::Binary(bytes) => {
                    to_client.write_all(&bytes).await?;
                    to_client.flush().await?;
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
        to_client.shutdown().await?;
        Outcome::Ok(())
    };
    tokio::select! {
        outcome = outward => outcome,
        outcome = inward => outcome,
    }
}
