//! `proxy` of pods, Services and nodes. The backend is a small server on this machine, plain or under TLS, that tells what
//! reached it.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::KubeletIdentity;
use auth::User;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use kv::mem::MemStore;
use kv::{PutRequest, RequestOp, Store, TxnRequest};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::http::{Listening, admit_jane};
use crate::server::{PODS, Server, pod};

const DEADLINE: Duration = Duration::from_secs(30);
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// What came, as JSON; some paths behave differently.
async fn backend(mut request: Request) -> Response {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/page" => return ([("content-type", "text/html")], "<a href='/next'>").into_response(),
        "/moved" => {
            let to = [("location", "/there"), ("access-control-allow-origin", "*")];
            return (StatusCode::FOUND, to, "").into_response();
        }
        "/denied" => return (StatusCode::FORBIDDEN, "not you").into_response(),
        "/plain" => return "no upgrade here".into_response(),
        "/endless" => {
            let chunks = futures::stream::repeat_with(|| {
                Ok::<_, std::io::Error>(Bytes::from_static(b"tick\n"))
            });
            let paced = chunks.then(async |chunk| {
                tokio::task::yield_now().await;
                chunk
            });
            return Body::from_stream(paced).into_response();
        }
        "/tunnel" => {
            let protocol = request.headers()[header::UPGRADE].clone();
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let mut word = [0; 4];
                stream.read_exact(&mut word).await.unwrap();
                word.reverse();
                stream.write_all(&word).await.unwrap();
            });
            let query = request.uri().query().unwrap_or_default().to_owned();
            let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, protocol);
            headers.insert("x-query", query.parse().unwrap());
            return response;
        }
        _ => {}
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let headers: serde_json::Map<String, Value> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    let seen = json!({"method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&body)});
    (StatusCode::IM_A_TEAPOT, seen.to_string()).into_response()
}

/// A listening backend.
pub(crate) struct Backend {
    pub(crate) port: u16,
    _task: JoinSet<()>,
}

impl Backend {
    async fn start(tls: Option<rustls::ServerConfig>) -> Backend {
        Backend::serve(Router::new().fallback(backend), tls).await
    }

    pub(crate) async fn serve(router: Router, tls: Option<rustls::ServerConfig>) -> Backend {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = tls.map(|tls| tokio_rustls::TlsAcceptor::from(Arc::new(tls)));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                connections.spawn(async move {
                    let service = TowerToHyperService::new(router);
                    let serving = hyper::server::conn::http1::Builder::new();
                    match acceptor {
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else {
                                return;
                            };
                            let stream = TokioIo::new(stream);
                            let _ = serving
                                .serve_connection(stream, service)
                                .with_upgrades()
                                .await;
                        }
                        None => {
                            let stream = TokioIo::new(stream);
                            let _ = serving
                                .serve_connection(stream, service)
                                .with_upgrades()
                                .await;
                        }
                    }
                });
            }
        });
        Backend { port, _task: task }
    }
}

/// The certificates of a cluster: its CA, and what that signs.
pub(crate) struct Ca(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn issue(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// A server with this certificate; one that wants a certificate of `clients` where that is given.
    pub(crate) fn server(&self, names: &[&str], clients: Option<&Ca>) -> rustls::ServerConfig {
        let (certificate, key) = self.issue(names);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(clients.0.der().clone()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    provider,
                );
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![certificate.der().clone()];
        builder
            .with_single_cert(chain, key.serialize_der().try_into().unwrap())
            .unwrap()
    }
}

/// A server that may call this machine.
async fn start() -> Server {
    start_with("CA".to_owned(), |_| {}).await
}

async fn start_with(ca_pem: String, tell: impl FnOnce(&mut apiserver::Config)) -> Server {
    let store = MemStore::new();
    let server = Server::told(store.clone(), store, ca_pem, |config| {
        config.proxy_to_loopback = true;
        tell(config);
    });
    timeout(DEADLINE, server.api.ready())
        .await
        .expect("the server gets ready");
    server.account("default").await;
    server
}

/// The same with a node `n`, whose agent listens at this port and is called with a certificate of `ca`.
pub(crate) async fn start_with_node(ca: &Ca, port: u16) -> Server {
    let (certificate, key) = ca.issue(&["kubelet-client"]);
    let server = start_with(ca.0.pem(), |config| {
        config.kubelet_identity = Some(KubeletIdentity {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        });
    })
    .await;
    run_node(&server, port).await;
    server
}

/// A pod with this address.
async fn run_pod(server: &Server, name: &str, ip: &str, port: u16) {
    let mut object = pod(name);
    object["spec"]["containers"][0]["ports"] = json!([{"containerPort": port}]);
    server.post(PODS, object).await.ok();
    let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
    let uri = format!("{PODS}/{name}/status");
    server.patch(&uri, "merge-patch+json", status).await.ok();
}

async fn serve_pod(server: &Server, service: &str, endpoints: Value, port: u16) {
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service},
        "spec": {"ports": [{"name": "web", "port": 80}]}});
    server.post(SERVICES, object).await.ok();
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": service, "namespace": "default", "uid": "u", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints, "ports": [{"name": "web", "port": port, "protocol": "TCP"}]});
    // Not through the API, which takes no loopback addresses.
    let put = PutRequest {
        key: Bytes::from(format!("/registry/endpointslices/default/{service}")),
        value: Bytes::from(slice.to_string()),
        ..PutRequest::default()
    };
    let op = RequestOp {
        request: Some(kv::Request::Put(put)),
    };
    let request = TxnRequest {
        success: vec![op],
        ..TxnRequest::default()
    };
    server.store.txn(request).await.unwrap();
    // The newest read: the caches have it then.
    server.get(PODS).await.ok();
}

#[tokio::test]
async fn requests_of_any_method_reach_a_pod() {
    let (server, backend) = (start().await, Backend::start(None).await);
    run_pod(&server, "p", "127.0.0.1", backend.port).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let method: Method = method.parse().unwrap();
        let request = server
            .request(
                method.clone(),
                &format!("{PODS}/p/proxy/a%2Fb/../c/?x=%20y&x=z"),
            )
            .header("accept", "text/html")
            .header("x-own", "1")
            .header("authorization", "Bearer secret")
            .header("host", "api:6443")
            .body(Body::from("content"))
            .unwrap();
        let seen = server.read(request).await;
        assert_eq!(
            seen.code,
            StatusCode::IM_A_TEAPOT,
            "{method}: {}",
            seen.text
        );
        assert_eq!(seen.body["method"], method.as_str());
        assert_eq!(seen.body["uri"], "/c/?x=%20y&x=z");
        assert_eq!(seen.body["body"], "content");
        let headers = &seen.body["headers"];
        for (name, value) in [
            ("x-own", json!("1")),
            ("accept", json!("text/html")),
            ("authorization", Value::Null),
            ("host", json!("api:6443")),
            ("x-forwarded-host", json!("api:6443")),
            ("x-forwarded-proto", json!("https")),
            (
                "x-forwarded-uri",
                json!(format!("{PODS}/p/proxy/a%2Fb/../c/")),
            ),
        ] {
            assert_eq!(headers[name], value, "{name}");
        }
    }
    let page = server
        .get(&format!("{PODS}/p:{}/proxy/page", backend.port))
        .await;
    let prefix = format!("{PODS}/p:{}/proxy", backend.port);
    assert_eq!(page.text, format!("<a href='{prefix}/next'>"));
    let moved = server.get(&format!("{prefix}/moved")).await;
    assert_eq!(moved.code, StatusCode::FOUND);
    assert_eq!(moved.headers["location"], format!("{prefix}/there"));
    assert!(!moved.headers.contains_key("access-control-allow-origin"));
    let bare = server.get(&format!("{PODS}/p/proxy?a=b")).await;
    assert_eq!(bare.code, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(bare.headers["location"], format!("{PODS}/p/proxy/?a=b"));
    let bare = server.post(&format!("{PODS}/p/proxy"), json!(1)).await;
    assert_eq!(bare.body["uri"], "/");
}

#[tokio::test]
async fn an_answer_is_passed_on_while_it_comes() {
    let (server, backend) = (start().await, Backend::start(None).await);
    run_pod(&server, "p", "127.0.0.1", backend.port).await;
    let request = server.request(Method::GET, &format!("{PODS}/p/proxy/endless"));
    let response = server.send(request.body(Body::empty()).unwrap()).await;
    let mut stream = response.into_body().into_data_stream();
    for _ in 0..3 {
        let chunk = timeout(DEADLINE, stream.next()).await.expect("in time");
        assert!(!chunk.unwrap().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_service_leads_to_its_own_pods() {
    let (server, backend) = (start().await, Backend::start(None).await);
    let tls = Backend::start(Some(Ca::new().server(&["anybody"], None))).await;
    run_pod(&server, "p", "127.0.0.1", backend.port).await;
    let own = json!({"addresses": ["127.0.0.1"], "targetRef": {"kind": "Pod", "namespace": "default", "name": "p"}});
    serve_pod(&server, "plain", json!([own]), backend.port).await;
    serve_pod(&server, "tls", json!([own]), tls.port).await;
    for name in ["plain:80", "plain:web", "https:tls:80", "https:tls:web"] {
        let seen = server.get(&format!("{SERVICES}/{name}/proxy/a?b=c")).await;
        assert_eq!(seen.body["uri"], "/a?b=c", "{name}: {}", seen.text);
    }
    // One that only says that it is the pod's, and one that is no pod's.
    let stranger = json!({"addresses": ["127.0.0.2"], "targetRef": {"kind": "Pod", "namespace": "default", "name": "p"}});
    serve_pod(
        &server,
        "forged",
        json!([stranger, {"addresses": ["127.0.0.1"]}]),
        backend.port,
    )
    .await;
    serve_pod(&server, "empty", json!([]), backend.port).await;
    let none = |name: &str| format!("no endpoints available for service \"{name}\"");
    for (name, text) in [
        ("forged:80", none("forged:80")),
        ("empty:web", none("empty:web")),
        ("plain", none("plain")),
        (
            "plain:81",
            "no service port 81 found for service \"plain\"".to_owned(),
        ),
    ] {
        let refused = server.get(&format!("{SERVICES}/{name}/proxy/")).await;
        assert_eq!(
            refused.refused(),
            (503, "ServiceUnavailable", text.as_str())
        );
        assert!(!refused.headers.contains_key("retry-after"));
    }
    let missing = server.get(&format!("{SERVICES}/none:80/proxy/")).await;
    assert_eq!(
        missing.refused(),
        (404, "NotFound", "services \"none\" not found")
    );
    let odd = server.get(&format!("{SERVICES}/ftp:plain:80/proxy/")).await;
    assert_eq!(
        odd.refused(),
        (
            400,
            "BadRequest",
            "invalid service request \"ftp:plain:80\""
        )
    );
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_refused() {
    let server = start().await;
    // Nobody listens there.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    run_pod(&server, "p", "127.0.0.1", port).await;
    let refused = server.get(&format!("{PODS}/p/proxy/")).await;
    let text = format!(
        "error trying to reach service: dial tcp 127.0.0.1:{port}: connect: connection refused"
    );
    assert_eq!(
        refused.refused(),
        (503, "ServiceUnavailable", text.as_str())
    );
    let missing = server.get(&format!("{PODS}/none/proxy/")).await;
    assert_eq!(
        missing.refused(),
        (404, "NotFound", "pods \"none\" not found")
    );
    // A server as it is by default calls nobody on its own machine.
    let strict = Server::start().await;
    strict.account("default").await;
    let backend = Backend::start(None).await;
    for ip in ["127.0.0.1", "169.254.169.254", "::1"] {
        let name = format!("p{}", ip.len());
        run_pod(&strict, &name, ip, backend.port).await;
        let refused = strict.get(&format!("{PODS}/{name}/proxy/")).await;
        assert_eq!(
            refused.refused(),
            (400, "BadRequest", "address not allowed"),
            "{ip}"
        );
    }
    run_node(&strict, 10250).await;
    let refused = strict.get("/api/v1/nodes/n:80/proxy/").await;
    assert_eq!(
        refused.refused(),
        (400, "BadRequest", "address not allowed")
    );
}

async fn run_node(server: &Server, port: u16) {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    server.post("/api/v1/nodes", node).await.ok();
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    let uri = "/api/v1/nodes/n/status";
    server.patch(uri, "merge-patch+json", status).await.ok();
}

#[tokio::test]
async fn a_node_is_asked_with_the_certificate_of_this_server() {
    let ca = Ca::new();
    let agent = Backend::start(Some(ca.server(&["127.0.0.1"], Some(&ca)))).await;
    let other = Backend::start(None).await;
    let server = start_with_node(&ca, agent.port).await;
    let explicit = format!("n:{}", agent.port);
    let without = format!("n:{}", other.port);
    for name in ["n", &explicit, &without] {
        let seen = server
            .get(&format!("/api/v1/nodes/{name}/proxy/healthz"))
            .await;
        assert_eq!(seen.body["uri"], "/healthz", "{name}: {}", seen.text);
    }
    // Only the agent's own port gets that certificate.
    let to_agent = server
        .get(&format!("/api/v1/nodes/https:n:{}/proxy/", other.port))
        .await;
    assert_eq!(to_agent.code, StatusCode::SERVICE_UNAVAILABLE);
}

/// Sends over a connection of its own, and keeps it for what is agreed on.
async fn upgrade(
    listening: &Listening,
    uri: &str,
    protocol: &str,
) -> Response<hyper::body::Incoming> {
    let (mut sender, connection) = http1::handshake(listening.connect().await).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = http::Request::post(uri)
        .header("host", "api:6443")
        .header("authorization", "Bearer jane-token")
        .header("connection", "Upgrade")
        .header("upgrade", protocol)
        .header("content-length", "0")
        .body(Body::empty())
        .unwrap();
    timeout(DEADLINE, sender.send_request(request))
        .await
        .expect("in time")
        .unwrap()
}

#[tokio::test]
async fn upgrades_become_tunnels_where_the_backend_agrees() {
    let (server, backend) = (start().await, Backend::start(None).await);
    admit_jane(&server).await;
    run_pod(&server, "p", "127.0.0.1", backend.port).await;
    let listening = Listening::start(&server).await;
    for protocol in ["websocket", "SPDY/3.1"] {
        let uri = format!("{PODS}/p/proxy/tunnel?a=b");
        let answer = upgrade(&listening, &uri, protocol).await;
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()["upgrade"], protocol);
        assert_eq!(answer.headers()["x-query"], "a=b");
        let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        stream.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        timeout(DEADLINE, stream.read_exact(&mut word))
            .await
            .expect("in time")
            .unwrap();
        assert_eq!(&word, b"gnip");
        // The backend's end is the client's.
        let end = timeout(DEADLINE, stream.read(&mut word))
            .await
            .expect("in time");
        assert_eq!(end.unwrap_or(0), 0);
    }
    for (path, code, text) in [
        ("plain", 500, "invalid upgrade response: status code 200"),
        ("moved", 500, "invalid upgrade response: status code 302"),
        ("denied", 403, "not you"),
    ] {
        let answer = upgrade(&listening, &format!("{PODS}/p/proxy/{path}"), "websocket").await;
        assert_eq!(answer.status().as_u16(), code);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains(text), "{body}");
    }
}

#[tokio::test]
async fn the_sender_of_a_request_is_told() {
    let (server, backend) = (start().await, Backend::start(None).await);
    admit_jane(&server).await;
    run_pod(&server, "p", "127.0.0.1", backend.port).await;
    let listening = Listening::start(&server).await;
    let (mut sender, connection) = http1::handshake(listening.connect().await).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("{PODS}/p/proxy/x"))
        .header("host", "api:6443")
        .header("authorization", "Bearer jane-token")
        .header("x-forwarded-for", "198.51.100.1")
        .body(Body::empty())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let seen: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        seen["headers"]["x-forwarded-for"],
        "198.51.100.1, 127.0.0.1"
    );
}

#[tokio::test]
async fn every_method_is_a_right_of_its_own() {
    let (server, backend) = (start().await, Backend::start(None).await);
    run_pod(&server, "p", "127.0.0.1", backend.port).await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "see"},
        "rules": [{"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get", "create"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "see"},
        "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "Role", "name": "see", "apiGroup": "rbac.authorization.k8s.io"}});
    let group = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    server.post(&format!("{group}/roles"), role).await.ok();
    server
        .post(&format!("{group}/rolebindings"), binding)
        .await
        .ok();
    server.get(PODS).await.ok();
    for (method, allowed) in [
        ("GET", true),
        ("HEAD", true),
        ("POST", true),
        ("PUT", false),
        ("PATCH", false),
        ("DELETE", false),
        ("OPTIONS", false),
    ] {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{PODS}/p:{}/proxy/x", backend.port))
            .extension(User::new("jane", ["dev"]))
            .body(Body::empty())
            .unwrap();
        let code = server.send(request).await.status();
        let wanted = if allowed {
            StatusCode::IM_A_TEAPOT
        } else {
            StatusCode::FORBIDDEN
        };
        assert_eq!(code, wanted, "{method}");
    }
}

#[tokio::test]
async fn policies_judge_the_path() {
    let (server, backend) = (start().await, Backend::start(None).await);
    run_pod(&server, "p", "127.0.0.1", backend.port).await;
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "paths"}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/proxy"]}]},
            "validations": [{"expression": "request.kind.kind == 'PodProxyOptions' && object.path != '/admin/x'", "message": "not there"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "paths"}, "spec": {"policyName": "paths", "validationActions": ["Deny"]}});
    let group = "/apis/admissionregistration.k8s.io/v1";
    server
        .post(&format!("{group}/validatingadmissionpolicies"), policy)
        .await
        .ok();
    server
        .post(
            &format!("{group}/validatingadmissionpolicybindings"),
            binding,
        )
        .await
        .ok();
    let until = async {
        loop {
            let refused = server.get(&format!("{PODS}/p/proxy/admin//x")).await;
            if refused.code.as_u16() == 422 {
                assert!(refused.text.contains("not there"), "{}", refused.text);
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, until)
        .await
        .expect("the policy comes into force");
    let seen = server.get(&format!("{PODS}/p/proxy/other")).await;
    assert_eq!(seen.body["uri"], "/other", "{}", seen.text);
}

#[tokio::test]
async fn policies_may_lead_to_another_path() {
    let (server, backend) = (start().await, Backend::start(None).await);
    run_pod(&server, "p", "127.0.0.1", backend.port).await;
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "paths"}, "spec": {"reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/proxy"]}]},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {
                "expression": "[JSONPatch{op: 'replace', path: '/path', value: '/safe place' + object.path}]"}}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": "paths"}, "spec": {"policyName": "paths"}});
    let group = "/apis/admissionregistration.k8s.io/v1";
    for (plural, object) in [
        ("mutatingadmissionpolicies", policy),
        ("mutatingadmissionpolicybindings", binding),
    ] {
        server.post(&format!("{group}/{plural}"), object).await.ok();
    }
    let until = async {
        loop {
            let seen = server.get(&format!("{PODS}/p/proxy/a/../b/?c=d")).await;
            if seen.body["uri"] == "/safe%20place/b/?c=d" {
                return;
            }
            assert_eq!(seen.body["uri"], "/b/?c=d", "{}", seen.text);
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, until)
        .await
        .expect("the policy comes into force");
}

/// A backend that answers everything with what `answer` says, and the paths that it was asked for.
async fn recording(
    tls: Option<rustls::ServerConfig>,
    answer: impl Fn() -> Response + Clone + Send + Sync + 'static,
) -> (Backend, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = asked.clone();
    let router = Router::new().fallback(move |request: Request| {
        seen.lock().unwrap().push(request.uri().path().to_owned());
        std::future::ready(answer())
    });
    (Backend::serve(router, tls).await, asked)
}

/// Who is refused an upgrade by a backend must not be left with an open way to it, which nobody authorizes any more.
#[tokio::test]
async fn cve_2018_1002105_a_refused_upgrade_leaves_no_tunnel() {
    let refusal = || (StatusCode::BAD_REQUEST, "no upgrade").into_response();
    let (backend, asked) = recording(None, refusal).await;
    let server = start().await;
    admit_jane(&server).await;
    run_pod(&server, "p", "127.0.0.1", backend.port).await;
    // The agent's own port, where this server shows a certificate, is another one.
    run_node(&server, 1).await;
    let own = json!({"addresses": ["127.0.0.1"], "targetRef": {"kind": "Pod", "namespace": "default", "name": "p"}});
    serve_pod(&server, "s", json!([own]), backend.port).await;
    let listening = Listening::start(&server).await;
    for way in [
        format!("{PODS}/p/proxy"),
        format!("{SERVICES}/s:web/proxy"),
        format!("/api/v1/nodes/n:{}/proxy", backend.port),
    ] {
        refused_upgrade_leads_nowhere(&listening, &way).await;
        assert_eq!(*asked.lock().unwrap(), ["/first"], "{way}");
        asked.lock().unwrap().clear();
    }
}

/// Asks for an upgrade, which is refused, and at once for something more over the same connection.
async fn refused_upgrade_leads_nowhere(listening: &Listening, way: &str) {
    let mut stream = listening.connect().await.into_inner();
    let upgrade = format!(
        "GET {way}/first HTTP/1.1\r\nhost: api\r\nauthorization: Bearer jane-token\r\n\
         connection: Upgrade\r\nupgrade: websocket\r\n\r\n"
    );
    let smuggled = "GET /second HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    stream.write_all(smuggled.as_bytes()).await.unwrap();
    let mut answers = Vec::new();
    let read = async {
        let _ = stream.read_to_end(&mut answers).await;
    };
    timeout(DEADLINE, read).await.expect("the server closes");
    let answers = String::from_utf8_lossy(&answers).into_owned();
    assert!(answers.starts_with("HTTP/1.1 400 "), "{answers}");
    // What follows is a request to the API server, of somebody whom it does not know.
    if let Some((_, second)) = answers[1..].split_once("HTTP/1.1 ") {
        assert!(second.starts_with("403 "), "{answers}");
    }
}

/// A node that answers an upgrade with a redirect must not choose who else gets the request and this server's certificate.
#[tokio::test]
async fn cve_2020_8559_a_redirected_upgrade_leads_nowhere() {
    let ca = Ca::new();
    let tls = || Some(ca.server(&["127.0.0.1"], Some(&ca)));
    let (elsewhere, led) = recording(tls(), || StatusCode::OK.into_response()).await;
    let location = format!("https://127.0.0.1:{}/exec/default/p/main", elsewhere.port);
    let redirect = move || (StatusCode::FOUND, [("location", location.clone())]).into_response();
    let (node, asked) = recording(tls(), redirect).await;
    let server = start_with_node(&ca, node.port).await;
    admit_jane(&server).await;
    let mut object = pod("p");
    object["spec"]["nodeName"] = "n".into();
    server.post(PODS, object).await.ok();
    let listening = Listening::start(&server).await;
    for (uri, protocol) in [
        (
            "/api/v1/nodes/n/proxy/exec/default/p/main".to_owned(),
            "SPDY/3.1",
        ),
        (format!("{PODS}/p/exec?command=ls&stdout=true"), "SPDY/3.1"),
        (format!("{PODS}/p/exec?command=ls&stdout=true"), "websocket"),
    ] {
        let (mut sender, connection) = http1::handshake(listening.connect().await).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        let request = http::Request::get(&uri)
            .header("host", "api:6443")
            .header("authorization", "Bearer jane-token")
            .header("connection", "Upgrade")
            .header("upgrade", protocol)
            .header("x-stream-protocol-version", "v4.channel.k8s.io")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", "v4.channel.k8s.io")
            .body(Body::empty())
            .unwrap();
        let answer = timeout(DEADLINE, sender.send_request(request)).await;
        let answer = answer.expect("in time").unwrap();
        assert!(
            answer.status().is_server_error(),
            "{uri}: {}",
            answer.status()
        );
        assert!(!answer.headers().contains_key("location"), "{uri}");
        assert_eq!(asked.lock().unwrap().drain(..).count(), 1, "{uri}");
    }
    assert!(led.lock().unwrap().is_empty(), "{:?}", led.lock().unwrap());
}
