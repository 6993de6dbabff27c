//! A server over the in-memory store, and a client that speaks to its service.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use apiserver::{ApiServer, Config, Front, Tasks};
use auth::User;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use kv::mem::MemStore;
use serde_json::Value;
use tower::ServiceExt;

const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtWzXhoQ/uZ7/quqU
/vSTO51zBVt5Jz61qSWzHcWz+l6hRANCAAR4YMCbzgr3tGj+XOoJSg6bAuO0RUsq
RE1BtJpI1QfTXch8rcAQAKycV+ArFvs1rLz443VsFJkGSc+S8AZgmmhx
-----END PRIVATE KEY-----
";

pub(crate) struct Server {
    pub(crate) api: Arc<ApiServer>,
    pub(crate) store: Arc<MemStore>,
    front: Front,
    _tasks: Tasks,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// The body, or a panic that shows what came instead.
    pub(crate) fn ok(self) -> Value {
        assert!(self.code.is_success(), "{} {}", self.code, self.text);
        self.body
    }

    /// The (code, reason, message) of a refusal.
    pub(crate) fn refused(&self) -> (u16, &str, &str) {
        assert_eq!(self.body["kind"], "Status", "{} {}", self.code, self.text);
        assert_eq!(self.body["status"], "Failure");
        assert_eq!(self.body["code"], self.code.as_u16());
        (
            self.code.as_u16(),
            self.body["reason"].as_str().unwrap(),
            self.body["message"].as_str().unwrap(),
        )
    }
}

impl Server {
    pub(crate) async fn start() -> Server {
        let store = MemStore::new();
        Server::over(store).await
    }

    pub(crate) async fn over(store: Arc<MemStore>) -> Server {
        Server::with(store, "CA".to_owned()).await
    }

    /// With the certificates of this CA as client certificates.
    pub(crate) async fn with(store: Arc<MemStore>, ca_pem: String) -> Server {
        Server::behind(store.clone(), store, ca_pem).await
    }

    /// Over a store that behaves oddly; `store` is the one underneath.
    pub(crate) async fn behind(
        odd: Arc<dyn kv::Store>,
        store: Arc<MemStore>,
        ca_pem: String,
    ) -> Server {
        let server = Server::unready(odd, store, ca_pem);
        let ready =
            tokio::time::timeout(std::time::Duration::from_secs(30), server.api.ready()).await;
        ready.expect("the server gets ready");
        server
    }

    /// One that has only just started.
    pub(crate) fn unready(odd: Arc<dyn kv::Store>, store: Arc<MemStore>, ca_pem: String) -> Server {
        Server::told(odd, store, ca_pem, |_| {})
    }

    /// The same, with other settings.
    pub(crate) fn told(
        odd: Arc<dyn kv::Store>,
        store: Arc<MemStore>,
        ca_pem: String,
        tell: impl FnOnce(&mut Config),
    ) -> Server {
        let issuer = "https://kubernetes.default.svc.cluster.local";
        let signer = auth::token::Signer::from_pem(KEY, issuer).unwrap();
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let mut config = Config::new(Arc::new(signer), issuer, ca_pem, address, 6443);
        config
            .static_tokens
            .insert("jane-token", User::new("jane", ["dev"]));
        tell(&mut config);
        let api = ApiServer::new(odd, config);
        let tasks = api.start();
        Server {
            front: api.front(),
            api,
            store,
            _tasks: tasks,
        }
    }

    /// Ends what runs in it. Answers that are under way end by themselves.
    pub(crate) async fn stop(self) {
        self._tasks.stop().await;
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Response {
        self.front.clone().oneshot(request).await.unwrap()
    }

    /// For requests that go on beside others.
    pub(crate) fn front(&self) -> Front {
        self.front.clone()
    }

    pub(crate) fn request(&self, method: Method, uri: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(uri)
            .extension(User::loopback())
    }

    pub(crate) async fn read(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.send(request).await.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer {
            code: parts.status,
            headers: parts.headers,
            body,
            text,
        }
    }

    pub(crate) async fn call(&self, method: Method, uri: &str, body: Value) -> Answer {
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        let request = self
            .request(method, uri)
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        self.read(request).await
    }

    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.call(Method::GET, uri, Value::Null).await
    }

    pub(crate) async fn post(&self, uri: &str, body: Value) -> Answer {
        self.call(Method::POST, uri, body).await
    }

    pub(crate) async fn put(&self, uri: &str, body: Value) -> Answer {
        self.call(Method::PUT, uri, body).await
    }

    pub(crate) async fn delete(&self, uri: &str, body: Value) -> Answer {
        self.call(Method::DELETE, uri, body).await
    }

    pub(crate) async fn patch(&self, uri: &str, kind: &str, body: Value) -> Answer {
        let request = self
            .request(Method::PATCH, uri)
            .header("content-type", format!("application/{kind}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        self.read(request).await
    }

    /// Makes the service account that a controller makes in a real cluster.
    pub(crate) async fn account(&self, namespace: &str) {
        let account = serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        self.post(
            &format!("/api/v1/namespaces/{namespace}/serviceaccounts"),
            account,
        )
        .await
        .ok();
    }

    pub(crate) async fn watch(&self, uri: &str) -> Events {
        let request = self.request(Method::GET, uri).body(Body::empty()).unwrap();
        let response = self.send(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        Events {
            body: response.into_body(),
            buffer: Vec::new(),
        }
    }
}

/// The events of a watch.
pub(crate) struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let next = tokio::time::timeout(std::time::Duration::from_secs(20), self.body.frame());
            let frame = next.await.expect("an event in time")?;
            if let Ok(data) = frame.unwrap().into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// The next event as `TYPE name`.
    pub(crate) async fn line(&mut self) -> String {
        let event = self.next().await.expect("an event");
        let kind = event["type"].as_str().unwrap().to_owned();
        match event["object"]["metadata"]["name"].as_str() {
            Some(name) => format!("{kind} {name}"),
            None => kind,
        }
    }
}

/// A ConfigMap with one value.
pub(crate) fn config_map(name: &str, value: &str) -> Value {
    serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

pub(crate) fn pod(name: &str) -> Value {
    serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]}})
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
