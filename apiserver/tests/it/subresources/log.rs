//! `log` of pods, as a plain body and over a WebSocket. The node agent is a small server that tells a log in pieces.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::proxy::{Backend, Ca, start_with_node};
use crate::http::{Listening, admit_jane};
use crate::server::{PODS, Server, pod};

const DEADLINE: Duration = Duration::from_secs(30);

/// What a node agent answers for logs.
async fn agent(request: Request) -> Response {
    match request.uri().path() {
        "/containerLogs/default/p/main" => {
            let pieces =
                ["one\n", "two\n"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
            Body::from_stream(futures::stream::iter(pieces)).into_response()
        }
        _ => (StatusCode::NOT_FOUND, "no such container\n").into_response(),
    }
}

/// A server whose node runs the pods `p` and `gone`, of which the agent knows only the first; `waits` has no node.
async fn start() -> (Server, Backend) {
    let ca = Ca::new();
    let tls = ca.server(&["127.0.0.1"], Some(&ca));
    let node = Backend::serve(Router::new().fallback(agent), Some(tls)).await;
    let server = start_with_node(&ca, node.port).await;
    admit_jane(&server).await;
    for (name, placed) in [("p", true), ("gone", true), ("waits", false)] {
        let mut object = pod(name);
        if placed {
            object["spec"]["nodeName"] = "n".into();
        }
        server.post(PODS, object).await.ok();
    }
    // A read of the newest: the caches have the node then.
    server.get(PODS).await.ok();
    (server, node)
}

type Told = Result<(Option<String>, Vec<Message>), u16>;

/// The protocol that was chosen and the messages that came, or the code of the refusal.
async fn told(listening: &Listening, pod: &str, protocols: Option<&str>) -> Told {
    let mut request = format!("wss://127.0.0.1{PODS}/{pod}/log")
        .into_client_request()
        .unwrap();
    let headers = request.headers_mut();
    headers.insert("authorization", "Bearer jane-token".parse().unwrap());
    if let Some(protocols) = protocols {
        headers.insert("sec-websocket-protocol", protocols.parse().unwrap());
    }
    let stream = listening.connect().await.into_inner();
    let (mut socket, answer) = match tokio_tungstenite::client_async(request, stream).await {
        Ok(open) => open,
        Err(Error::Http(answer)) => return Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    };
    let chosen = answer.headers().get("sec-websocket-protocol");
    let chosen = chosen.map(|value| value.to_str().unwrap().to_owned());
    let mut messages = Vec::new();
    let reading = async {
        while let Some(Ok(message)) = socket.next().await {
            messages.push(message);
        }
    };
    timeout(DEADLINE, reading).await.expect("the log ends");
    Ok((chosen, messages))
}

fn joined(messages: &[Message]) -> Vec<u8> {
    let data = messages.iter().filter(|message| message.is_binary());
    data.flat_map(|message| message.clone().into_data())
        .collect()
}

#[tokio::test]
async fn a_log_over_a_websocket_is_binary_messages() {
    let (server, _node) = start().await;
    let listening = Listening::start(&server).await;
    for offered in [None, Some("binary.k8s.io")] {
        let (chosen, messages) = told(&listening, "p", offered).await.unwrap();
        assert_eq!(chosen.as_deref(), offered);
        // An empty one comes first, as in Kubernetes.
        assert_eq!(messages[0], Message::Binary(Bytes::new()));
        assert_eq!(joined(&messages), b"one\ntwo\n");
        assert!(matches!(messages.last(), Some(Message::Close(_))));
    }
}

#[tokio::test]
async fn a_log_over_a_websocket_may_be_text() {
    let (server, _node) = start().await;
    let listening = Listening::start(&server).await;
    let offered = "base64.binary.k8s.io";
    let (chosen, messages) = told(&listening, "p", Some(offered)).await.unwrap();
    assert_eq!(chosen.as_deref(), Some(offered));
    assert_eq!(messages[0], Message::text(""));
    // "one\n" and "two\n", alone or together.
    let text: Vec<&str> = messages
        .iter()
        .filter_map(|one| one.to_text().ok())
        .collect();
    let text = text.concat();
    assert!(
        text == "b25lCg==dHdvCg==" || text == "b25lCnR3bwo=",
        "{text}"
    );
}

#[tokio::test]
async fn what_cannot_be_told_is_refused_before_the_upgrade() {
    let (server, _node) = start().await;
    let listening = Listening::start(&server).await;
    let unknown = told(&listening, "p", Some("v4.channel.k8s.io")).await;
    assert_eq!(unknown, Err(400));
    assert_eq!(told(&listening, "gone", None).await, Err(404));
    assert_eq!(told(&listening, "nobody", None).await, Err(404));
}

#[tokio::test]
async fn a_log_is_a_plain_body_and_nothing_where_no_node_is() {
    let (server, _node) = start().await;
    let log = server.get(&format!("{PODS}/p/log")).await;
    assert_eq!(
        (log.code, log.text.as_str()),
        (StatusCode::OK, "one\ntwo\n")
    );
    let waits = server.get(&format!("{PODS}/waits/log")).await;
    assert_eq!(
        (waits.code, waits.text.as_str()),
        (StatusCode::NO_CONTENT, "")
    );
}
