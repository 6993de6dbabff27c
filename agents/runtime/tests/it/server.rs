//! Servers of canned answers: in this process, or on a socket.

use agent_runtime::{Body, BoxError, Client, InProcessService};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

/// How a request is answered.
pub(crate) enum Answer {
    Json(u16, Value),
    /// An error with `Retry-After` of zero seconds.
    RetryAfter(u16),
    /// A watch: these lines, then whatever is sent, until the sender is dropped.
    Watch(Vec<Value>, mpsc::Receiver<Value>),
}

pub(crate) type Log = Arc<Mutex<Vec<String>>>;

/// A client of a server that gives these answers in turn, and the log of requests.
pub(crate) fn scripted(answers: Vec<Answer>) -> (Client, Log) {
    let log: Log = Arc::default();
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let requests = log.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        requests
            .lock()
            .unwrap()
            .push(format!("{} {}", request.method(), request.uri()));
        let answer = answers.lock().unwrap().pop_front();
        async move {
            Ok::<_, BoxError>(response(
                answer.unwrap_or_else(|| Answer::Json(500, status(500, "InternalError"))),
            ))
        }
    });
    (Client::in_process(InProcessService::new(service)), log)
}

pub(crate) fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": format!("scripted {reason}")})
}

fn response(answer: Answer) -> Response<Body> {
    match answer {
        Answer::Json(code, value) => whole(code, value.to_string()),
        Answer::RetryAfter(code) => {
            let mut response = whole(code, status(code, "TooManyRequests").to_string());
            response
                .headers_mut()
                .insert("retry-after", "0".parse().unwrap());
            response
        }
        Answer::Watch(lines, more) => {
            let first = futures::stream::iter(lines);
            let rest = tokio_stream::wrappers::ReceiverStream::new(more);
            let lines = futures::StreamExt::chain(first, rest);
            let frames = futures::StreamExt::map(lines, |line: Value| {
                Ok::<_, BoxError>(http_body::Frame::data(Bytes::from(format!("{line}\n"))))
            });
            Response::new(StreamBody::new(frames).boxed_unsync())
        }
    }
}

fn whole(code: u16, text: String) -> Response<Body> {
    let body = http_body_util::Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder()
        .status(StatusCode::from_u16(code).unwrap())
        .body(body)
        .unwrap()
}

/// A server on a socket that answers every request with its name.
pub(crate) async fn listening(name: &'static str) -> (String, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(move |_| async move {
                Ok::<_, std::convert::Infallible>(whole(200, json!({"name": name}).to_string()))
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
            connections.spawn(async move { drop(connection.await) });
        }
    });
    (address, task)
}

/// A server on a socket that takes requests and closes the connection without an answer.
pub(crate) async fn hanging_up() -> (String, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await;
            seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    (address, count)
}

/// A server on a socket that takes requests and never answers.
pub(crate) async fn silent() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    address
}
