//! A node for a test: certificates, configuration, a running agent, and a client of its server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use node_agent::{EvictionHard, NodeConfig, RuntimeKind, ServerIdentity};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

use crate::api::Api;

pub(crate) type Socket =
    tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<TcpStream>>;

/// A binary message: the number of a channel and what goes there.
pub(crate) fn message(channel: u8, content: &[u8]) -> Message {
    Message::Binary([&[channel], content].concat().into())
}

/// The next binary message, with its channel; none when the other side has closed.
pub(crate) async fn receive(socket: &mut Socket) -> Option<(u8, Vec<u8>)> {
    const DEADLINE: Duration = Duration::from_secs(30);
    loop {
        let next = tokio::time::timeout(DEADLINE, socket.next()).await;
        match next.expect("a message in time")?.unwrap() {
            Message::Binary(bytes) => return Some((bytes[0], bytes[1..].to_vec())),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

pub(crate) struct Node {
    pub(crate) api: Api,
    pub(crate) name: String,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), node_agent::Error>>,
    tls: Arc<rustls::ClientConfig>,
    stranger: Arc<rustls::ClientConfig>,
    roots: rustls::RootCertStore,
}

struct Identity {
    certificate: String,
    key: String,
}

impl Node {
    pub(crate) async fn start(api: &Api, name: &str, dir: &Path, runtime: RuntimeKind) -> Node {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &ca).unwrap();
            Identity {
                certificate: certificate.pem(),
                key: key.serialize_pem(),
            }
        };
        let server = issue("system:node:n");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        let client = |name: &str| {
            let identity = issue(name);
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>();
            let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions();
            let config = config
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_client_auth_cert(chain.unwrap(), key);
            Arc::new(config.unwrap())
        };
        let (tls, stranger) = (client("kube-apiserver-kubelet-client"), client("somebody"));
        let config = NodeConfig {
            node_name: name.to_owned(),
            data_dir: dir.to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            runtime,
            node_ip: [127, 0, 0, 1].into(),
            cluster_domain: "cluster.local".into(),
            cluster_dns: Vec::new(),
            labels: [("disk".to_owned(), "ssd".to_owned())].into(),
            taints: Vec::new(),
            max_pods: 110,
            eviction_hard: EvictionHard::OFF,
            pod_routes: false,
            server: tokio::sync::watch::Sender::new(ServerIdentity {
                certificate_pem: server.certificate,
                key_pem: server.key,
                client_ca_pem: ca.pem(),
                client_names: vec!["kube-apiserver-kubelet-client".into()],
            })
            .subscribe(),
        };
        let cancel = CancellationToken::new();
        let task = tokio::spawn(node_agent::run(config, api.client(), cancel.clone()));
        let node = Node {
            api: api.clone(),
            name: name.to_owned(),
            cancel,
            task,
            tls,
            stranger,
            roots,
        };
        node.wait_ready().await;
        node
    }

    async fn wait_ready(&self) {
        let ready = |node: Value| {
            let conditions = node
                .pointer("/status/conditions")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            conditions
                .iter()
                .any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        for _ in 0..400 {
            // After a restart the record may still show the port of the agent before.
            let recorded = self.api.get("nodes", "", &self.name).is_some_and(ready);
            if recorded && TcpStream::connect(("127.0.0.1", self.port())).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!(
            "the node never became ready: {:#}",
            self.api.get("nodes", "", &self.name).unwrap_or_default()
        );
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }

    fn port(&self) -> u16 {
        let node = self.api.get("nodes", "", &self.name).unwrap();
        u16::try_from(
            node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
                .as_u64()
                .unwrap(),
        )
        .unwrap()
    }

    async fn connect(
        &self,
        tls: &Arc<rustls::ClientConfig>,
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port()))
            .await
            .unwrap();
        let connector = tokio_rustls::TlsConnector::from(tls.clone());
        connector
            .connect(ServerName::try_from("127.0.0.1").unwrap(), stream)
            .await
            .unwrap()
    }

    /// Status and body of a GET, as the API server.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.get_as(&self.tls, path).await
    }

    /// The same as somebody whom the CA knows but the node does not.
    pub(crate) async fn get_as_stranger(&self, path: &str) -> (u16, String) {
        self.get_as(&self.stranger, path).await
    }

    /// The same as somebody who shows no certificate, and perhaps a token.
    pub(crate) async fn get_with_token(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = config
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        self.ask(&Arc::new(config), path, token).await
    }

    async fn get_as(&self, tls: &Arc<rustls::ClientConfig>, path: &str) -> (u16, String) {
        self.ask(tls, path, None).await
    }

    async fn ask(
        &self,
        tls: &Arc<rustls::ClientConfig>,
        path: &str,
        token: Option<&str>,
    ) -> (u16, String) {
        let io = hyper_util::rt::TokioIo::new(self.connect(tls).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = http::Request::get(path).header("host", "node");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(String::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        connection.abort();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    /// Opens a WebSocket of a protocol.
    pub(crate) async fn socket(&self, path: &str, protocol: &str) -> Socket {
        let mut request = format!("wss://127.0.0.1:{}{path}", self.port())
            .into_client_request()
            .unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol.parse().unwrap());
        let stream = self.connect(&self.tls).await;
        let (socket, response) = tokio_tungstenite::client_async(request, stream)
            .await
            .unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
        socket
    }

    /// Runs a command; standard output, standard error and the final status.
    pub(crate) async fn exec(&self, path: &str, input: &[u8]) -> (String, String, Value) {
        let mut socket = self.socket(path, "v5.channel.k8s.io").await;
        if !input.is_empty() {
            socket.send(message(0, input)).await.unwrap();
            socket.send(message(255, &[0])).await.unwrap();
        }
        let (mut out, mut err, mut status) = (Vec::new(), Vec::new(), Value::Null);
        while let Some((channel, content)) = receive(&mut socket).await {
            match channel {
                1 => out.extend_from_slice(&content),
                2 => err.extend_from_slice(&content),
                3 => status = serde_json::from_slice(&content).unwrap(),
                _ => {}
            }
        }
        (
            String::from_utf8_lossy(&out).into_owned(),
            String::from_utf8_lossy(&err).into_owned(),
            status,
        )
    }
}

pub(crate) fn phase(pod: Option<&Value>) -> &str {
    pod.and_then(|pod| pod.pointer("/status/phase"))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub(crate) fn condition(pod: Option<&Value>, kind: &str) -> bool {
    let conditions = pod
        .and_then(|pod| pod.pointer("/status/conditions"))
        .and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

/// Text below the first container's status.
pub(crate) fn first<'a>(pod: Option<&'a Value>, path: &str) -> &'a str {
    let found = pod.and_then(|pod| pod.pointer(&format!("/status/containerStatuses/0/{path}")));
    found.and_then(Value::as_str).unwrap_or_default()
}
