//! Somebody outside of the server that it calls over HTTPS: an issuer of tokens, or a webhook.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// See the module head.
pub(crate) struct Outside {
    pub(crate) url: String,
    pub(crate) ca: String,
    known: Arc<Known>,
    dir: TempDir,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Known {
    /// By path.
    answers: Mutex<HashMap<String, Answer>>,
    asked: Mutex<Vec<(String, Value, Option<String>)>>,
}

#[derive(Clone)]
enum Answer {
    Never,
    Text(u16, String),
}

async fn serve(
    State(known): State<Arc<Known>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let authorization = headers.get("authorization");
    let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
    let path = uri.path().to_owned();
    known
        .asked
        .lock()
        .unwrap()
        .push((path.clone(), body, authorization));
    let answer = known.answers.lock().unwrap().get(&path).cloned();
    match answer {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(Answer::Never) => std::future::pending().await,
        Some(Answer::Text(code, text)) => {
            (StatusCode::from_u16(code).unwrap(), text).into_response()
        }
    }
}

impl Outside {
    pub(crate) async fn start() -> Outside {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::default();
        let address = [127, 0, 0, 1].into();
        params.subject_alt_names = vec![SanType::IpAddress(address)];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let known: Arc<Known> = Arc::default();
        let router = Router::new().fallback(serve).with_state(known.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let serving =
                        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let service = TowerToHyperService::new(router);
                    let _ = serving
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Outside {
            url: format!("https://127.0.0.1:{port}"),
            ca: authority.pem(),
            known,
            dir: TempDir::new().unwrap(),
            _task: task,
        }
    }

    fn set(&self, path: &str, answer: Answer) {
        self.known
            .answers
            .lock()
            .unwrap()
            .insert(path.to_owned(), answer);
    }

    pub(crate) fn answer(&self, path: &str, answer: &Value) {
        self.set(path, Answer::Text(200, answer.to_string()));
    }

    pub(crate) fn fail(&self, path: &str, code: u16) {
        self.set(path, Answer::Text(code, "no".to_owned()));
    }

    /// Takes the question and says nothing.
    pub(crate) fn hang(&self, path: &str) {
        self.set(path, Answer::Never);
    }

    /// What it was asked at a path since the last look.
    pub(crate) fn asked(&self, path: &str) -> Vec<Value> {
        let mut asked = self.known.asked.lock().unwrap();
        let (here, others) = std::mem::take(&mut *asked)
            .into_iter()
            .partition(|one| one.0 == path);
        *asked = others;
        let here: Vec<(String, Value, Option<String>)> = here;
        here.into_iter().map(|(_, body, _)| body).collect()
    }

    /// The header `Authorization` of the questions at a path.
    pub(crate) fn shown(&self, path: &str) -> Vec<String> {
        let asked = self.known.asked.lock().unwrap();
        let here = asked.iter().filter(|one| one.0 == path);
        here.filter_map(|one| one.2.clone()).collect()
    }

    /// A file in the form of a kubeconfig that names it.
    pub(crate) fn kubeconfig(&self, path: &str) -> PathBuf {
        let file = self.dir.path().join(path.replace('/', "_"));
        std::fs::write(self.dir.path().join("ca.crt"), &self.ca).unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("{}{path}", self.url), "certificate-authority": "ca.crt"}}],
            "users": [{"name": "u", "user": {"token": "of-the-server"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        });
        std::fs::write(&file, config.to_string()).unwrap();
        file
    }
}
