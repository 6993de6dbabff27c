//! Port-forward as kubectl speaks it: SPDY, bare or (from 1.31 on) inside the messages of a WebSocket. It ends here;
//! every connection to a port becomes a WebSocket to the node agent, which so has one simple protocol to speak.

use ::spdy::portforward::serve_portforward;
use ::spdy::upgrade::{self, PORT_FORWARD_PROTOCOL};
use axum::body::Body;
use axum::response::Response;
use http::{Extensions, HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::context::Context;
use crate::kubelet::NodeAddress;
use crate::message_bytes::{Framing, MessageBytes};
use crate::status::{ApiError, ApiResult};
use crate::{spdy, websocket};

/// SPDY in the messages of a WebSocket.
const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// What a node agent is asked to speak: a channel of data, a channel for an error, and a word for the end of either.
const NODE_PROTOCOL: &str = "v5.channel.k8s.io";
/// A client sends far smaller messages.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Whether the client speaks SPDY in one of its two disguises.
pub(crate) fn is_requested(headers: &HeaderMap) -> bool {
    spdy::is_requested(headers) || is_tunnel(headers)
}

fn is_tunnel(headers: &HeaderMap) -> bool {
    websocket::is_requested(headers)
        && websocket::protocols(headers)
            .split(", ")
            .any(|offered| offered == TUNNEL_PROTOCOL)
}

/// Serves a session; `path` is the pod's at the node agent, without ports.
pub(crate) async fn serve(
    context: &Context,
    address: NodeAddress,
    path: String,
    extensions: &mut Extensions,
) -> ApiResult<Response> {
    let tunnel = is_tunnel(&context.headers);
    let (client, response) = if tunnel {
        websocket::accept(context, extensions, Some(TUNNEL_PROTOCOL))?
    } else {
        match upgrade::negotiate(&context.headers, &[PORT_FORWARD_PROTOCOL]) {
            Ok(protocol) => accept(extensions, protocol)?,
            Err(refused) => return Ok(spdy::not_negotiated(&refused)),
        }
    };
    let server = context.server.clone();
    let pod = context.info.name.clone();
    let connect = move |port: u16| {
        let (server, address, pod) = (server.clone(), address.clone(), pod.clone());
        let path = format!("{path}?port={port}");
        async move {
            let socket = spdy::dial(&server, &address, &path, NODE_PROTOCOL).await;
            let socket = socket.map_err(|error| {
                let why = error.message;
                std::io::Error::other(format!("error forwarding port {port} to pod {pod}: {why}"))
            })?;
            Ok::<_, std::io::Error>(MessageBytes::new(socket, Framing::PORT))
        }
    };
    let stopping = context.server.stopping.clone();
    // Ends with the client, with the server, or when nothing moves any more, which the session watches.
    tokio::spawn(async move {
        let serve = async {
            let client = TokioIo::new(client.await?);
            if tunnel {
                let config = WebSocketConfig::default()
                    .max_message_size(Some(MESSAGE_BYTES_MAX))
                    .max_frame_size(Some(MESSAGE_BYTES_MAX));
                let socket =
                    WebSocketStream::from_raw_socket(client, Role::Server, Some(config)).await;
                serve_portforward(MessageBytes::new(socket, Framing::Tunnel), connect).await?;
            } else {
                serve_portforward(client, connect).await?;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        };
        tokio::select! {
            outcome = serve => if let Err(error) = outcome {
                tracing::debug!(%error, "a port-forward broke");
            },
            () = stopping.cancelled() => {}
        }
    });
    Ok(response)
}

/// Agrees to bare SPDY.
fn accept(extensions: &mut Extensions, protocol: &'static str) -> ApiResult<(OnUpgrade, Response)> {
    let client = extensions
        .remove::<OnUpgrade>()
        .ok_or_else(|| ApiError::bad_request("this connection cannot be upgraded; use HTTP/1.1"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .extend(upgrade::upgrade_response_headers(protocol));
    Ok((client, response))
}
