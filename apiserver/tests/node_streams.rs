//! exec and port-forward from kubectl through the API server to a node agent, over SPDY and over WebSocket.
//!
//! The node agent is a stand-in that speaks what the real one speaks: `v5.channel.k8s.io`. Skipped, with a printed reason, where there is no kubectl.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{ApiServer, Config, KubeletIdentity, ServeLimits, Tasks, serve_tls};
use auth::User;
use auth::static_tokens::StaticTokens;
use auth::token::Signer;
use axum::body::Body;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, Request, StatusCode};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use spdy::remotecommand::channel;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{
    Request as Handshake, Response as Agreement,
};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const DEADLINE: Duration = Duration::from_secs(60);
const TOKEN: &str = "test-token";
const READER_TOKEN: &str = "reader-token";
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Cluster {
    port: u16,
    directory: tempfile::TempDir,
    _tasks: Tasks,
    _servers: JoinSet<()>,
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for 127.0.0.1 and its key, good for both ends of a connection.
    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress(LOCALHOST)];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn server_config(&self) -> Arc<rustls::ServerConfig> {
        let (certificate, key) = self.issue();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.unwrap())
    }
}

async fn start() -> Option<Cluster> {
    let found = Command::new("kubectl")
        .args(["version", "--client"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    if !found.is_ok_and(|status| status.success()) {
        #[expect(clippy::print_stdout, reason = "a skipped test must say so")]
        {
            println!("skipped: no kubectl on this machine");
        }
        return None;
    }
    let authority = Authority::new();
    let mut servers = JoinSet::new();
    let node = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let node_port = node.local_addr().unwrap().port();
    servers.spawn(node_agent(
        node,
        TlsAcceptor::from(authority.server_config()),
    ));

    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let issuer = "https://kubernetes.default.svc";
    let signer =
        Arc::new(Signer::from_pem(&KeyPair::generate().unwrap().serialize_pem(), issuer).unwrap());
    let mut config = Config::new(signer, issuer, authority.0.pem(), LOCALHOST, port);
    let (certificate, key) = authority.issue();
    config.kubelet_identity = Some(KubeletIdentity {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    });
    let mut tokens = StaticTokens::default();
    tokens.insert(TOKEN, User::new("admin", ["system:masters"]));
    tokens.insert(READER_TOKEN, User::new("reader", ["readers"]));
    config.static_tokens = tokens;
    let server = ApiServer::new(kv::mem::MemStore::new(), config);
    let tasks = server.start();
    timeout(DEADLINE, server.ready())
        .await
        .expect("the server gets ready");
    servers.spawn(serve_tls(
        listener,
        tokio::sync::watch::Sender::new(authority.server_config()).subscribe(),
        server.front(),
        ServeLimits::default(),
        CancellationToken::new(),
    ));

    create(
        &server,
        "/api/v1/namespaces/default/serviceaccounts",
        json!({"metadata": {"name": "default"}}),
    )
    .await;
    create(
        &server,
        "/api/v1/nodes",
        json!({"metadata": {"name": "n1"}}),
    )
    .await;
    let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": node_port}}});
    send(
        &server,
        "PATCH",
        "/api/v1/nodes/n1/status",
        json!({"status": status}),
    )
    .await;
    let pod = json!({"metadata": {"name": "web"}, "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "x"}]}});
    create(&server, "/api/v1/namespaces/default/pods", pod).await;
    send(
        &server,
        "PATCH",
        "/api/v1/namespaces/default/pods/web/status",
        json!({"status": {"phase": "Running"}}),
    )
    .await;

    let group = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/exec"]}]);
    create(
        &server,
        &format!("{group}/clusterroles"),
        json!({"metadata": {"name": "reader"}, "rules": rules}),
    )
    .await;
    let binding = json!({"metadata": {"name": "reader"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}]});
    create(&server, &format!("{group}/clusterrolebindings"), binding).await;

    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("ca.pem"), authority.0.pem()).unwrap();
    Some(Cluster {
        port,
        directory,
        _tasks: tasks,
        _servers: servers,
    })
}

async fn create(server: &Arc<ApiServer>, path: &str, body: Value) {
    send(server, "POST", path, body).await;
}

async fn send(server: &Arc<ApiServer>, method: &str, path: &str, body: Value) {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(Body::from(body.to_string()))
        .unwrap();
    request.extensions_mut().insert(User::loopback());
    let response = timeout(DEADLINE, server.front().oneshot(request))
        .await
        .unwrap()
        .unwrap();
    let status = response.status();
    let text = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    assert!(
        status == StatusCode::OK || status == StatusCode::CREATED,
        "{method} {path}: {status} {}",
        String::from_utf8_lossy(&text)
    );
}

async fn node_agent(listener: TcpListener, tls: TlsAcceptor) {
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let tls = tls.clone();
        connections.spawn(async move {
            let stream = tls.accept(socket).await.unwrap();
            let mut path = String::new();
            // Takes the one protocol that it speaks, whatever else is offered.
            #[expect(clippy::result_large_err, reason = "the signature is tungstenite's")]
            let agree = |request: &Handshake, mut response: Agreement| {
                path = request.uri().to_string();
                let protocol = "v5.channel.k8s.io";
                let offered = request
                    .headers()
                    .get("sec-websocket-protocol")
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default();
                assert!(
                    offered.split(", ").any(|item| item == protocol),
                    "{offered}"
                );
                response
                    .headers_mut()
                    .insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
                Ok(response)
            };
            let socket = tokio_tungstenite::accept_hdr_async(stream, agree)
                .await
                .unwrap();
            if let Some(port) = path.strip_prefix("/portForward/default/web?port=") {
                forward(port.parse().unwrap(), socket).await;
            } else {
                assert!(path.starts_with("/exec/default/web/main?"), "{path}");
                let words: Vec<&str> = path
                    .split(['?', '&'])
                    .filter_map(|item| item.strip_prefix("command="))
                    .collect();
                run(words.first().copied().unwrap_or_default(), socket).await;
            }
        });
    }
}

type Socket = WebSocketStream<tokio_rustls::server::TlsStream<TcpStream>>;

/// `cat` gives back its input; anything else fails with status 3.
async fn run(command: &str, mut socket: Socket) {
    let message =
        |number: u8, bytes: &[u8]| Message::Binary(Bytes::from([&[number], bytes].concat()));
    let status = if command == "cat" {
        while let Some(Ok(received)) = socket.next().await {
            match received.into_data().split_first() {
                Some((&channel::STDIN, bytes)) => {
                    socket.send(message(channel::STDOUT, bytes)).await.unwrap()
                }
                Some((&channel::CLOSE, _)) => break,
                _ => {}
            }
        }
        json!({"metadata": {}, "status": "Success"})
    } else {
        socket
            .send(message(channel::STDERR, b"no such command\n"))
            .await
            .unwrap();
        json!({"metadata": {}, "status": "Failure", "message": "command terminated with non-zero exit code", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]}})
    };
    socket
        .send(message(channel::ERROR, status.to_string().as_bytes()))
        .await
        .unwrap();
    // kubectl complains about a close without a code; the client may be faster to close.
    let _ = socket
        .close(Some(CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        }))
        .await;
    while let Some(Ok(_)) = socket.next().await {}
}

/// Port 80 of the pod answers what it gets; the others refuse.
async fn forward(port: u16, mut socket: Socket) {
    let message =
        |number: u8, bytes: &[u8]| Message::Binary(Bytes::from([&[number], bytes].concat()));
    for number in [0, 1] {
        let named = message(number, &port.to_le_bytes());
        socket.send(named).await.unwrap();
    }
    if port == 80 {
        let request = socket.next().await.unwrap().unwrap().into_data();
        assert_eq!(request.as_ref(), b"\0ping!");
        let reply = [b"pong of ", &request[1..]].concat();
        socket.send(message(0, &reply)).await.unwrap();
    } else {
        let text = format!("error forwarding port {port} to pod web_default: connection refused");
        socket.send(message(1, text.as_bytes())).await.unwrap();
    }
    for number in [0, 1] {
        socket
            .send(message(channel::CLOSE, &[number]))
            .await
            .unwrap();
    }
    // The API server may be faster to close.
    let _ = socket.close(None).await;
    while let Some(Ok(_)) = socket.next().await {}
}

impl Cluster {
    fn kubectl(&self, token: &str, websockets: bool, arguments: &[&str]) -> Child {
        let path = |name: &str| -> PathBuf { self.directory.path().join(name) };
        Command::new("kubectl")
            .args(["--kubeconfig=/dev/null", "--namespace=default"])
            .arg(format!("--server=https://127.0.0.1:{}", self.port))
            .arg(format!("--token={token}"))
            .arg(format!(
                "--certificate-authority={}",
                path("ca.pem").display()
            ))
            .arg(format!("--cache-dir={}", path("cache").display()))
            .args(arguments)
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets.to_string())
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn exec(
        &self,
        token: &str,
        websockets: bool,
        command: &str,
        input: Vec<u8>,
    ) -> (Option<i32>, Vec<u8>, String) {
        let mut child = self.kubectl(token, websockets, &["exec", "-i", "web", "--", command]);
        let mut stdin = child.stdin.take().unwrap();
        let feed = tokio::spawn(async move {
            // A command that fails does not read its input.
            let _ = stdin.write_all(&input).await;
        });
        let output = timeout(DEADLINE, child.wait_with_output())
            .await
            .expect("kubectl ends in time")
            .unwrap();
        feed.await.unwrap();
        (
            output.status.code(),
            output.stdout,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }
}

#[tokio::test]
async fn exec_over_both_protocols() {
    let Some(cluster) = start().await else { return };
    for websockets in [false, true] {
        let input: Vec<u8> = (0..500_000_u32)
            .map(|number| (number % 251) as u8)
            .collect();
        let (status, stdout, stderr) = cluster.exec(TOKEN, websockets, "cat", input.clone()).await;
        assert_eq!(
            (status, stderr.as_str()),
            (Some(0), ""),
            "websockets: {websockets}"
        );
        assert!(
            stdout == input,
            "websockets: {websockets}: {} bytes came back",
            stdout.len()
        );
        let (status, _, stderr) = cluster.exec(TOKEN, websockets, "fail", Vec::new()).await;
        assert_eq!(
            (status, stderr.as_str()),
            (
                Some(3),
                "no such command\ncommand terminated with exit code 3\n"
            )
        );
    }
}

/// A WebSocket begins with GET, and yet the right to read is not enough.
#[tokio::test]
async fn exec_needs_the_right_to_create() {
    let Some(cluster) = start().await else { return };
    for websockets in [false, true] {
        let (status, stdout, stderr) = cluster
            .exec(READER_TOKEN, websockets, "cat", b"secret".to_vec())
            .await;
        assert_eq!(
            (status, stdout.as_slice()),
            (Some(1), b"".as_slice()),
            "websockets: {websockets}"
        );
        let text = r#"pods "web" is forbidden: User "reader" cannot create resource "pods/exec" in API group "" in the namespace "default""#;
        assert!(stderr.contains(text), "{stderr}");
    }
}

#[tokio::test]
async fn port_forward_over_both_protocols() {
    let Some(cluster) = start().await else { return };
    for websockets in [false, true] {
        let mut child = cluster.kubectl(
            TOKEN,
            websockets,
            &["port-forward", "pod/web", ":80", "--address=127.0.0.1"],
        );
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(DEADLINE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .expect("kubectl says where it listens");
        let address = line
            .strip_prefix("Forwarding from ")
            .and_then(|rest| rest.split(' ').next())
            .unwrap()
            .to_owned();
        let mut local = TcpStream::connect(address).await.unwrap();
        local.write_all(b"ping!").await.unwrap();
        let mut reply = Vec::new();
        timeout(DEADLINE, local.read_to_end(&mut reply))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(reply, b"pong of ping!", "websockets: {websockets}");
        child.kill().await.unwrap();
    }
}

#[tokio::test]
async fn a_port_that_refuses_is_told() {
    let Some(cluster) = start().await else { return };
    for websockets in [false, true] {
        let forward = ["port-forward", "pod/web", ":81", "--address=127.0.0.1"];
        let mut child = cluster.kubectl(TOKEN, websockets, &forward);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap();
        let line = line.unwrap().expect("kubectl says where it listens");
        let rest = line.strip_prefix("Forwarding from ").unwrap();
        let address = rest.split(' ').next().unwrap().to_owned();
        let mut local = TcpStream::connect(address).await.unwrap();
        let mut reply = Vec::new();
        // kubectl closes or resets, depending on what it notices first.
        let _ = timeout(DEADLINE, local.read_to_end(&mut reply))
            .await
            .expect("the connection ends");
        assert!(reply.is_empty());
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let complaint = async {
            while let Some(line) = errors.next_line().await.unwrap() {
                if line.contains("error forwarding port 81 to pod web_default: connection refused")
                {
                    return;
                }
            }
            panic!("kubectl did not say why, websockets: {websockets}");
        };
        timeout(DEADLINE, complaint)
            .await
            .expect("kubectl complains");
        child.kill().await.unwrap();
    }
}
