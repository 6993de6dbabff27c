//! What only shows on a socket: bodies that are too large or too slow, over HTTP/1.1 and HTTP/2.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use apiserver::{ServeLimits, serve_tls};
use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::server::{MAPS, Server, config_map};

const DEADLINE: Duration = Duration::from_secs(60);
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) type Tls = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;

/// A listener, and a way to connect to it.
pub(crate) struct Listening {
    port: u16,
    connector: TlsConnector,
    _serving: JoinSet<()>,
}

impl Listening {
    pub(crate) async fn start(server: &Server) -> Listening {
        Listening::bounded(server, ServeLimits::default()).await
    }

    pub(crate) async fn bounded(server: &Server, limits: ServeLimits) -> Listening {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(LOCALHOST)];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut own = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        own.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(serve_tls(
            listener,
            watch::Sender::new(Arc::new(own)).subscribe(),
            server.api.front(),
            limits,
            CancellationToken::new(),
        ));
        Listening {
            port,
            connector: TlsConnector::from(Arc::new(client)),
            _serving: serving,
        }
    }

    pub(crate) async fn connect(&self) -> Tls {
        self.try_connect().await.unwrap()
    }

    /// A connection that is HTTP/2 by its handshake, as those of most clients are.
    pub(crate) async fn connect_h2(&self) -> Tls {
        let stream = TcpStream::connect((LOCALHOST, self.port)).await.unwrap();
        let connector = self.connector.with_alpn(vec![b"h2".to_vec()]);
        let stream = connector.connect(ServerName::from(LOCALHOST), stream).await;
        TokioIo::new(stream.unwrap())
    }

    pub(crate) async fn try_connect(&self) -> std::io::Result<Tls> {
        let stream = TcpStream::connect((LOCALHOST, self.port)).await?;
        let name = ServerName::from(LOCALHOST);
        let stream = self.connector.connect(name, stream).await?;
        Ok(TokioIo::new(stream))
    }

    async fn send(&self, http2: bool, request: Request<Body>) -> (StatusCode, Value) {
        let (parts, body) = self.answer(http2, request).await;
        let whole = timeout(DEADLINE, body.collect()).await.expect("in time");
        let bytes = whole.expect("a whole answer").to_bytes();
        (parts.status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    /// The head of an answer, and its body on its way.
    pub(crate) async fn answer(
        &self,
        http2: bool,
        request: Request<Body>,
    ) -> (http::response::Parts, hyper::body::Incoming) {
        let stream = self.connect().await;
        let answer = async {
            let response = if http2 {
                let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
                    .await
                    .unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await
            } else {
                let (mut sender, connection) = http1::handshake(stream).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await
            };
            response.expect("an answer").into_parts()
        };
        timeout(DEADLINE, answer).await.expect("in time")
    }
}

fn post(token: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("https://127.0.0.1{MAPS}"))
        .header("host", "127.0.0.1")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

/// Lets the owner of the one static token write.
pub(crate) async fn admit_jane(server: &Server) {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "jane"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"}});
    let uri = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    server.post(uri, binding).await.ok();
    // The newest read: from then on this member's cache knows of the binding.
    server.get(uri).await.ok();
}

#[tokio::test]
async fn large_bodies_get_an_answer_that_can_be_read() {
    let server = Server::start().await;
    admit_jane(&server).await;
    let listening = Listening::start(&server).await;
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    for http2 in [false, true] {
        let whole = Body::from(vec![b'x'; 8 << 20]);
        let chunks = vec![chunk.clone(); 128].into_iter();
        let chunks = chunks.map(Ok::<_, std::io::Error>);
        let chunked = Body::from_stream(futures::stream::iter(chunks));
        for body in [whole, chunked] {
            let (code, status) = listening.send(http2, post("jane-token", body)).await;
            assert_eq!(code, StatusCode::PAYLOAD_TOO_LARGE, "http2: {http2}");
            assert_eq!(
                (&status["kind"], &status["reason"], &status["code"]),
                (
                    &json!("Status"),
                    &json!("RequestEntityTooLarge"),
                    &json!(413)
                )
            );
        }
        // Also to one who was told to go on; only so does reading begin.
        let chunks = vec![chunk.clone(); 128].into_iter();
        let chunks = chunks.map(Ok::<_, std::io::Error>);
        let mut request = post(
            "jane-token",
            Body::from_stream(futures::stream::iter(chunks)),
        );
        let expect = http::HeaderValue::from_static("100-continue");
        request.headers_mut().insert("expect", expect);
        let (code, _) = listening.send(http2, request).await;
        assert_eq!(code, StatusCode::PAYLOAD_TOO_LARGE, "http2: {http2}");
        // Also where the body is not even looked at.
        let body = Body::from(vec![b'x'; 8 << 20]);
        let (code, status) = listening.send(http2, post("nobody", body)).await;
        assert_eq!(
            (code, &status["reason"]),
            (StatusCode::UNAUTHORIZED, &json!("Unauthorized")),
            "http2: {http2}"
        );
    }
}

#[tokio::test]
async fn a_body_without_end_is_refused_too() {
    let server = Server::start().await;
    admit_jane(&server).await;
    let listening = Listening::start(&server).await;
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let endless = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
    let request = post("jane-token", Body::from_stream(endless));
    let (code, status) = listening.send(true, request).await;
    assert_eq!(code, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(status["reason"], "RequestEntityTooLarge");
}

/// More bodies that do not come than there are places for writes, and then one that does.
#[tokio::test]
async fn slow_bodies_take_no_place() {
    use futures::StreamExt;
    let server = Server::start().await;
    admit_jane(&server).await;
    let (begun, mut seen) = tokio::sync::mpsc::channel(300);
    let mut slow = JoinSet::new();
    for _ in 0..250 {
        let begun = begun.clone();
        // One byte, then a word to the test, then nothing for ever.
        let stream = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))])
            .chain(futures::stream::once(async move {
                begun.send(()).await.unwrap();
                std::future::pending().await
            }));
        let request = post("jane-token", Body::from_stream(stream));
        let front = server.front();
        slow.spawn(async move {
            let _ = tower::ServiceExt::oneshot(front, request).await;
        });
    }
    for _ in 0..250 {
        timeout(DEADLINE, seen.recv()).await.unwrap().unwrap();
    }
    let body = Body::from(config_map("quick", "1").to_string());
    let quick = server.read(post("jane-token", body)).await;
    assert_eq!(quick.code, StatusCode::CREATED, "{}", quick.text);
}

/// One user fills the own share with bodies that do not end.
#[tokio::test]
async fn one_user_does_not_hold_the_room_of_others() {
    use futures::StreamExt;
    const WHOLE: usize = 3 << 20;
    // An eighth of the budget of 256 MiB.
    const BODIES: usize = 32 / 3;
    let server = Server::start().await;
    admit_jane(&server).await;
    let (begun, mut seen) = tokio::sync::mpsc::channel(BODIES);
    let whole = Bytes::from(vec![b' '; WHOLE]);
    let mut slow = JoinSet::new();
    for _ in 0..BODIES {
        let begun = begun.clone();
        let stream = futures::stream::iter([Ok::<_, std::io::Error>(whole.clone())]).chain(
            futures::stream::once(async move {
                begun.send(()).await.unwrap();
                std::future::pending().await
            }),
        );
        let request = post("jane-token", Body::from_stream(stream));
        let front = server.front();
        slow.spawn(async move {
            let _ = tower::ServiceExt::oneshot(front, request).await;
        });
    }
    for _ in 0..BODIES {
        timeout(DEADLINE, seen.recv()).await.unwrap().unwrap();
    }
    let padded = |name: &str| {
        let mut text = config_map(name, "1").to_string();
        text.push_str(&" ".repeat(WHOLE - text.len()));
        Body::from(text)
    };
    let refused = server.read(post("jane-token", padded("a"))).await;
    assert_eq!(refused.refused().0, 429);
    assert_eq!(refused.headers["retry-after"], "1");
    let request = server.request(Method::POST, MAPS);
    let request = request.header("content-type", "application/json");
    let master = server.read(request.body(padded("b")).unwrap()).await;
    assert_eq!(master.code, StatusCode::CREATED, "{}", master.text);
    slow.shutdown().await;
    let given_back = server.read(post("jane-token", padded("c"))).await;
    assert_eq!(given_back.code, StatusCode::CREATED, "{}", given_back.text);
}

#[tokio::test]
async fn a_watch_over_a_websocket_has_one_message_an_event() {
    use futures::StreamExt;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let server = Server::start().await;
    admit_jane(&server).await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    server.post(MAPS, config_map("b", "1")).await.ok();
    let listening = Listening::start(&server).await;
    let mut request = format!("wss://127.0.0.1{MAPS}?watch=1")
        .into_client_request()
        .unwrap();
    let headers = request.headers_mut();
    headers.insert("authorization", "Bearer jane-token".parse().unwrap());
    headers.insert("sec-websocket-protocol", "v1.example".parse().unwrap());
    let stream = listening.connect().await.into_inner();
    let (mut socket, answer) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "v1.example");
    let mut names = Vec::new();
    for _ in 0..3 {
        let message = timeout(DEADLINE, socket.next()).await.unwrap();
        let text = message.unwrap().unwrap().into_text().unwrap();
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["type"], "ADDED");
        names.push(event["object"]["metadata"]["name"].clone());
        if names.len() == 2 {
            server.post(MAPS, config_map("c", "1")).await.ok();
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
    socket.close(None).await.unwrap();
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(DEADLINE, ended)
        .await
        .expect("the server closes too");
    // What cannot be watched is refused before the upgrade.
    let mut request = format!("wss://127.0.0.1{MAPS}?watch=1&resourceVersion=x")
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("authorization", "Bearer jane-token".parse().unwrap());
    let stream = listening.connect().await.into_inner();
    let refused = tokio_tungstenite::client_async(request, stream).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(answer)) = refused else {
        panic!("the upgrade was not refused");
    };
    assert_eq!(answer.status().as_u16(), 422);
}
