//! What a container has written, as its node agent tells it: a plain body, or messages of a WebSocket.

use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt;
use http::{Extensions, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::Message;

use crate::context::Context;
use crate::kubelet::NodeAddress;
use crate::status::{ApiError, ApiResult};
use crate::{told, websocket};

/// A subprotocol of streams that are only read, and how it carries bytes. Kubernetes' names (wsstream); who offers none
/// gets binary messages.
#[derive(Clone, Copy)]
enum Carried {
    Binary,
    Base64,
}

const PROTOCOLS: &[(&str, Carried)] = &[
    ("binary.k8s.io", Carried::Binary),
    ("base64.binary.k8s.io", Carried::Base64),
];

impl Carried {
    fn message(self, bytes: Bytes) -> Message {
        match self {
            Carried::Binary => Message::Binary(bytes),
            Carried::Base64 => Message::text(STANDARD.encode(&bytes)),
        }
    }
}

/// The first of the protocols that a client offers (separated by commas) which is known here; without any, none is
/// chosen.
fn chosen(offered: &str) -> ApiResult<(Option<&'static str>, Carried)> {
    if offered.is_empty() {
        return Ok((None, Carried::Binary));
    }
    let mut names = offered.split(", ");
    let known = names.find_map(|name| PROTOCOLS.iter().find(|(known, _)| *known == name));
    known
        .map(|(name, carried)| (Some(*name), *carried))
        .ok_or_else(|| {
            ApiError::bad_request(format!(
                "requested protocol(s) are not supported: [{}]; supports [binary.k8s.io base64.binary.k8s.io]",
                offered.replace(", ", " ")
            ))
        })
}

pub(super) async fn serve(
    context: &Context,
    address: &NodeAddress,
    path: &str,
    extensions: &mut Extensions,
) -> ApiResult<Response> {
    let socket = match websocket::is_requested(&context.headers) {
        true => Some(chosen(&websocket::protocols(&context.headers))?),
        false => None,
    };
    let answer = context.server.kubelets.get(address, path).await?;
    let (parts, body) = answer.into_parts();
    if parts.status != StatusCode::OK {
        let text = crate::body::read_answer(Body::new(body))
            .await
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        return Err(ApiError::from_node(parts.status.as_u16(), text));
    }
    let body = Body::new(body);
    if let Some((protocol, carried)) = socket {
        // Kubernetes begins with an empty message, by which a client sees that the stream stands.
        let first = Ok(vec![carried.message(Bytes::new())]);
        let rest = body.into_data_stream().map(move |piece| {
            let piece = piece.map_err(std::io::Error::other)?;
            Ok(vec![carried.message(piece)])
        });
        let pieces = futures::stream::iter([first]).chain(rest).boxed();
        return told::upgrade(context, extensions, protocol, pieces, None);
    }
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain"),
        (header::CACHE_CONTROL, "no-cache, private"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_protocol_is_spoken() {
        let spoken = |offered: &str| {
            let (name, carried) = chosen(offered).ok()?;
            Some((name, carried.message(Bytes::from_static(b"a\n"))))
        };
        let binary = || Message::Binary(Bytes::from_static(b"a\n"));
        assert_eq!(spoken(""), Some((None, binary())));
        let both = "v4.channel.k8s.io, base64.binary.k8s.io, binary.k8s.io";
        let text = Message::text("YQo=");
        assert_eq!(spoken(both), Some((Some("base64.binary.k8s.io"), text)));
        let plain = spoken("binary.k8s.io");
        assert_eq!(plain, Some((Some("binary.k8s.io"), binary())));
        assert_eq!(spoken("v4.channel.k8s.io"), None);
    }
}
