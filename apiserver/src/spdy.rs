//! Streams for clients before WebSockets (kubectl up to 1.30): SPDY/3.1 on the client's side, WebSocket on the node's.
//! The streams of exec and attach become WebSocket channels, so that a node agent has one implementation of each.

use ::spdy::remotecommand::{NodeChannels, Options, serve_remotecommand};
use ::spdy::upgrade::{self, REMOTE_COMMAND_PROTOCOL};
use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::ApiServer;
use crate::context::Context;
use crate::kubelet::{Kubelets, NodeAddress};
use crate::request::Query;
use crate::status::{ApiError, ApiResult};

/// What a node agent is asked to speak.
const NODE_COMMAND_PROTOCOL: &str = "v5.channel.k8s.io";
/// A node agent sends far smaller messages.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Messages that wait between the two protocols, in each direction.
const CHANNEL_MESSAGES: usize = 8;

/// A WebSocket to a node agent.
pub(crate) type Node = WebSocketStream<TokioIo<Upgraded>>;

pub(crate) fn is_requested(headers: &HeaderMap) -> bool {
    upgrade::is_upgrade(headers)
}

/// Serves `exec` or `attach`; `query` says which streams there are.
pub(crate) async fn bridge(
    context: &Context,
    query: &Query,
    (address, path): (&NodeAddress, &str),
    extensions: &mut Extensions,
) -> ApiResult<Response> {
    let protocol = match upgrade::negotiate(&context.headers, &[REMOTE_COMMAND_PROTOCOL]) {
        Ok(protocol) => protocol,
        Err(refused) => return Ok(not_negotiated(&refused)),
    };
    let client = extensions
        .remove::<OnUpgrade>()
        .ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded; use HTTP/1.1"))?;
    let node = dial(&context.server, address, path, NODE_COMMAND_PROTOCOL).await?;
    let flag = |name: &str| query.flag(name);
    let options = Options {
        stdin: flag("stdin"),
        stdout: flag("stdout"),
        stderr: flag("stderr"),
        tty: flag("tty"),
    };
    let stopping = context.server.stopping.clone();
    // Ends with either side, with the server, or when nothing moves any more, which the session watches.
    tokio::spawn(async move {
        let serve = async { command(TokioIo::new(client.await?), node, options).await };
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

pub(crate) fn not_negotiated(refused: &upgrade::NotNegotiated) -> Response {
    let mut response = Response::new(Body::from(refused.to_string()));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response.headers_mut().extend(refused.headers());
    response
}

/// Opens a WebSocket to the node agent.
pub(crate) async fn dial(
    server: &ApiServer,
    address: &NodeAddress,
    path: &str,
    protocol: &str,
) -> ApiResult<Node> {
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
    let answer = server.kubelets.upgrade(address, request).await?;
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
    if !agreed {
        return Err(ApiError::internal(format!(
            "the node agent does not speak {protocol}"
        )));
    }
    let upgraded = hyper::upgrade::on(answer).await;
    let upgraded = TokioIo::new(upgraded.map_err(ApiError::internal)?);
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
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
