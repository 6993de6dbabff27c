//! A JSON client of the Kubernetes API.
//!
//! Every call has a deadline. Connection failures of reads are retried on the next server; a write is repeated only
//! when it certainly did not reach a server, or when the server itself asked for it (429 or 5xx with `Retry-After`).

use crate::error::ApiError;
use crate::metrics;
use crate::resource_ref::{ResourceRef, push_escaped};
use crate::transport::{Failure, Remote, Transport};
use crate::watch::WatchStream;
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use trust::Servers;

/// Any error that may cross a tower service.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body type of requests and answers; `axum::body::Body` converts to and from it with `boxed_unsync`.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// An API server in this process.
pub type InProcessService =
    tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// Answers larger than this are refused, so that a broken server cannot exhaust the agent.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const RETRIES_MAX: u32 = 10;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How the client proves who it is.
#[derive(Clone)]
pub enum Identity {
    /// No credentials.
    Anonymous,
    /// A bearer token.
    Token(String),
    /// A client certificate and its key, both PEM.
    Certificate {
        /// The chain, leaf first.
        cert_pem: String,
        /// The private key.
        key_pem: String,
    },
}

/// Where the servers are and how to talk to them.
#[derive(Clone)]
pub struct ClientConfig {
    /// Base addresses, such as `https://10.0.0.1:6443`; tried in order.
    pub servers: Vec<String>,
    /// The CA that signed the servers' certificates; empty allows only `http://` servers.
    pub ca_pem: String,
    /// Credentials.
    pub identity: Identity,
    /// Deadline of one call with all its retries (watches excepted).
    pub timeout: Duration,
    /// `User-Agent`.
    pub user_agent: String,
}

impl ClientConfig {
    /// The usual configuration: 30 s deadline.
    pub fn new(servers: Vec<String>, ca_pem: impl Into<String>, identity: Identity) -> Self {
        Self {
            servers,
            ca_pem: ca_pem.into(),
            identity,
            timeout: Duration::from_secs(30),
            user_agent: concat!("kontiki/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// A client; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Transport,
    timeout: Duration,
    user_agent: String,
}

/// Form of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge.
    Strategic,
    /// RFC 6902.
    Json,
}

impl PatchType {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Json => "application/json-patch+json",
        }
    }
}

/// What happens to dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents go after the object.
    Background,
    /// Dependents go before the object.
    Foreground,
    /// Dependents stay.
    Orphan,
}

impl Propagation {
    /// The name in `DeleteOptions`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// Options of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteParams {
    /// Seconds of grace; 0 removes at once.
    pub grace_seconds: Option<i64>,
    /// Only this incarnation.
    pub uid: Option<String>,
    /// Only this version.
    pub resource_version: Option<String>,
    /// Dependents.
    pub propagation: Option<Propagation>,
}

impl DeleteParams {
    /// Only the incarnation `uid`.
    pub fn uid(uid: impl Into<String>) -> Self {
        Self {
            uid: Some(uid.into()),
            ..Self::default()
        }
    }

    fn body(&self) -> Value {
        let mut body = serde_json::json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = self.grace_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = self.propagation {
            body["propagationPolicy"] = policy.as_str().into();
        }
        if let Some(uid) = &self.uid {
            body["preconditions"]["uid"] = uid.as_str().into();
        }
        if let Some(version) = &self.resource_version {
            body["preconditions"]["resourceVersion"] = version.as_str().into();
        }
        body
    }
}

/// Options of a list.
#[derive(Clone, Debug, Default)]
pub struct ListParams {
    /// Label selector text.
    pub label_selector: String,
    /// Field selector text.
    pub field_selector: String,
    /// Page size; 0 for everything at once.
    pub limit: u32,
    /// Token of the next page.
    pub continue_token: String,
    /// `None` for most recent (a quorum read), `0` for any.
    pub resource_version: Option<String>,
    /// Ask for `PartialObjectMetadata` only.
    pub metadata_only: bool,
}

/// Options of a watch.
#[derive(Clone, Debug, Default)]
pub struct WatchParams {
    /// Label selector text.
    pub label_selector: String,
    /// Field selector text.
    pub field_selector: String,
    /// Where to start; `None` from now on.
    pub resource_version: Option<String>,
    /// Stream the present state first, closed by a marked bookmark.
    pub send_initial_events: bool,
    /// Server side end of the watch, seconds.
    pub timeout_seconds: u32,
    /// Ask for `PartialObjectMetadata` only.
    pub metadata_only: bool,
}

const ACCEPT: &str = "application/json";
const ACCEPT_METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const ACCEPT_METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

impl Client {
    /// A client of remote servers. Fails on unusable addresses, certificates or keys; it does not connect yet.
    pub fn connect(config: ClientConfig) -> Result<Self, String> {
        let tls = tls_config(&config.servers, &config.ca_pem, &config.identity)?;
        let token = match &config.identity {
            Identity::Token(token) => Some(token.trim()),
            _ => None,
        };
        let remote = Remote::new(&config.servers, Arc::new(tls), token)?;
        Ok(Self {
            inner: Arc::new(Inner {
                transport: Transport::Remote(Box::new(remote)),
                timeout: config.timeout,
                user_agent: config.user_agent,
            }),
        })
    }

    /// From now on servers are checked against this CA, and a certificate among the credentials is shown to them; a token
    /// stays what it is. Requests under way end as they began. On an error nothing changes.
    pub fn replace_tls(
        &self,
        servers: &[String],
        ca_pem: &str,
        identity: &Identity,
    ) -> Result<(), String> {
        if let Transport::Remote(remote) = &self.inner.transport {
            remote.replace_tls(Arc::new(tls_config(servers, ca_pem, identity)?));
        }
        Ok(())
    }

    /// A client that calls an API server in this process. The service decides who the caller is.
    pub fn in_process(service: InProcessService) -> Self {
        let user_agent = concat!("kontiki/", env!("CARGO_PKG_VERSION")).into();
        Self {
            inner: Arc::new(Inner {
                transport: Transport::InProcess(service),
                timeout: Duration::from_secs(30),
                user_agent,
            }),
        }
    }

    /// The server in use, for messages.
    pub fn server(&self) -> String {
        self.inner.transport.current_server()
    }

    /// One object.
    pub async fn get(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
    ) -> Result<Value, ApiError> {
        self.read(&resource.object_path(namespace, name, None), ACCEPT)
            .await
    }

    /// One object as a typed struct.
    pub async fn get_as<T: DeserializeOwned>(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
    ) -> Result<T, ApiError> {
        typed(self.get(resource, namespace, name).await?)
    }

    /// Only the metadata of one object.
    pub async fn get_metadata(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
    ) -> Result<Value, ApiError> {
        self.read(
            &resource.object_path(namespace, name, None),
            ACCEPT_METADATA,
        )
        .await
    }

    /// A subresource.
    pub async fn get_sub(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        sub: &str,
    ) -> Result<Value, ApiError> {
        self.read(&resource.object_path(namespace, name, Some(sub)), ACCEPT)
            .await
    }

    /// One page of a list (all of it when `limit` is 0).
    pub async fn list(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        params: &ListParams,
    ) -> Result<Value, ApiError> {
        let bytes = self.list_bytes(resource, namespace, params).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| ApiError::malformed(format!("list of {resource}: {e}")))
    }

    /// One page of a list, undecoded.
    pub(crate) async fn list_bytes(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        params: &ListParams,
    ) -> Result<Bytes, ApiError> {
        let mut query = Query::default();
        query.add("labelSelector", &params.label_selector);
        query.add("fieldSelector", &params.field_selector);
        query.add("continue", &params.continue_token);
        if params.limit > 0 {
            query.add("limit", &params.limit.to_string());
        }
        if let Some(version) = &params.resource_version {
            query.add("resourceVersion", version);
        }
        let accept = if params.metadata_only {
            ACCEPT_METADATA_LIST
        } else {
            ACCEPT
        };
        self.bytes(
            Method::GET,
            &query.onto(resource.collection_path(namespace)),
            accept,
            "",
            Bytes::new(),
        )
        .await
    }

    /// All items of a list, page by page, as typed structs.
    pub async fn list_as<T: DeserializeOwned>(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        params: &ListParams,
    ) -> Result<Vec<T>, ApiError> {
        let mut params = ListParams {
            limit: if params.limit == 0 { 500 } else { params.limit },
            ..params.clone()
        };
        let mut items = Vec::new();
        loop {
            let mut page = self.list(resource, namespace, &params).await?;
            let next = page
                .pointer("/metadata/continue")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            if let Some(Value::Array(values)) = page.get_mut("items").map(Value::take) {
                for value in values {
                    items.push(typed(value)?);
                }
            }
            if next.is_empty() {
                return Ok(items);
            }
            params.continue_token = next;
            params.resource_version = None;
        }
    }

    /// Creates an object; the answer is what was stored.
    pub async fn create(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.write(
            Method::POST,
            &resource.collection_path(namespace),
            ACCEPT,
            body,
        )
        .await
    }

    /// What an object would be if it were created: with defaults, and as admission has it. Nothing is stored.
    pub async fn create_dry_run(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let mut query = Query::default();
        query.add("dryRun", "All");
        query.add("fieldValidation", "Strict");
        let path = query.onto(resource.collection_path(namespace));
        self.write(Method::POST, &path, ACCEPT, body).await
    }

    /// Creates a subresource (binding, eviction, token, scale..).
    pub async fn create_sub(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        sub: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.write(
            Method::POST,
            &resource.object_path(namespace, name, Some(sub)),
            ACCEPT,
            body,
        )
        .await
    }

    /// Replaces an object; `metadata.resourceVersion` in the body guards against lost updates.
    pub async fn update(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.write(
            Method::PUT,
            &resource.object_path(namespace, name, None),
            ACCEPT,
            body,
        )
        .await
    }

    /// Replaces a subresource.
    pub async fn update_sub(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        sub: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.write(
            Method::PUT,
            &resource.object_path(namespace, name, Some(sub)),
            ACCEPT,
            body,
        )
        .await
    }

    /// Replaces the status.
    pub async fn update_status(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.update_sub(resource, namespace, name, "status", body)
            .await
    }

    /// Patches an object.
    pub async fn patch(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        kind: PatchType,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.write(
            Method::PATCH,
            &resource.object_path(namespace, name, None),
            kind.content_type(),
            body,
        )
        .await
    }

    /// The same where the answer is of no interest: it is taken off the connection, and not read.
    pub async fn patch_blindly(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        kind: PatchType,
        body: &Value,
    ) -> Result<(), ApiError> {
        let path = resource.object_path(namespace, name, None);
        self.bytes(
            Method::PATCH,
            &path,
            ACCEPT,
            kind.content_type(),
            encode(body),
        )
        .await
        .map(drop)
    }

    /// Patches a subresource.
    pub async fn patch_sub(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        sub: &str,
        kind: PatchType,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.write(
            Method::PATCH,
            &resource.object_path(namespace, name, Some(sub)),
            kind.content_type(),
            body,
        )
        .await
    }

    /// Patches the status.
    pub async fn patch_status(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        kind: PatchType,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.patch_sub(resource, namespace, name, "status", kind, body)
            .await
    }

    /// Deletes an object; the answer is the object (when it goes gracefully) or a `Status`.
    pub async fn delete(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        name: &str,
        params: &DeleteParams,
    ) -> Result<Value, ApiError> {
        self.write(
            Method::DELETE,
            &resource.object_path(namespace, name, None),
            ACCEPT,
            &params.body(),
        )
        .await
    }

    /// Deletes all objects of a collection that match.
    pub async fn delete_collection(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        list: &ListParams,
        params: &DeleteParams,
    ) -> Result<Value, ApiError> {
        let mut query = Query::default();
        query.add("labelSelector", &list.label_selector);
        query.add("fieldSelector", &list.field_selector);
        self.write(
            Method::DELETE,
            &query.onto(resource.collection_path(namespace)),
            ACCEPT,
            &params.body(),
        )
        .await
    }

    /// Any path with a JSON answer (discovery, `/version`).
    pub async fn get_path(&self, path: &str) -> Result<Value, ApiError> {
        self.read(path, ACCEPT).await
    }

    /// Posts to any path; the answer is JSON.
    pub async fn post_path(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.write(Method::POST, path, ACCEPT, body).await
    }

    /// Opens a watch. Errors before the first event (410 among them) are the error of this call.
    pub async fn watch_stream(
        &self,
        resource: &ResourceRef,
        namespace: &str,
        params: &WatchParams,
    ) -> Result<WatchStream, ApiError> {
        let mut query = Query::default();
        query.add("watch", "1");
        query.add("allowWatchBookmarks", "true");
        query.add("labelSelector", &params.label_selector);
        query.add("fieldSelector", &params.field_selector);
        if let Some(version) = &params.resource_version {
            query.add("resourceVersion", version);
        }
        if params.send_initial_events {
            query.add("sendInitialEvents", "true");
            query.add("resourceVersionMatch", "NotOlderThan");
        }
        if params.timeout_seconds > 0 {
            query.add("timeoutSeconds", &params.timeout_seconds.to_string());
        }
        let accept = if params.metadata_only {
            ACCEPT_METADATA
        } else {
            ACCEPT
        };
        let path = query.onto(resource.collection_path(namespace));
        let deadline = Instant::now() + self.inner.timeout;
        let response = self
            .send(Method::GET, &path, accept, "", Bytes::new(), deadline)
            .await?;
        Ok(WatchStream::new(response.into_body()))
    }

    async fn read(&self, path: &str, accept: &str) -> Result<Value, ApiError> {
        self.json(Method::GET, path, accept, "", Bytes::new()).await
    }

    async fn write(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        self.json(method, path, ACCEPT, content_type, encode(body))
            .await
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Value, ApiError> {
        let bytes = self.bytes(method, path, accept, content_type, body).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| ApiError::malformed(format!("answer of {path}: {e}")))
    }

    async fn bytes(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Bytes, ApiError> {
        let deadline = Instant::now() + self.inner.timeout;
        let retry_read = method == Method::GET;
        let mut again = true;
        loop {
            let response = self
                .send(
                    method.clone(),
                    path,
                    accept,
                    content_type,
                    body.clone(),
                    deadline,
                )
                .await?;
            match collect(response.into_body(), deadline).await {
                // A connection may die in the middle of an answer; a read is asked once more.
                Err(error) if retry_read && again && error.is_transport() => again = false,
                other => return other,
            }
        }
    }

    /// Sends with retries until there is an answer of success.
    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Response<Body>, ApiError> {
        let mut attempt: u32 = 0;
        let mut backoff = BACKOFF_FIRST;
        loop {
            attempt += 1;
            let request = self.request(&method, path, accept, content_type, body.clone())?;
            let begun = Instant::now();
            let (error, wait) =
                match tokio::time::timeout_at(deadline, self.call(&method, request)).await {
                    Err(_) => {
                        let host = self.inner.transport.host();
                        metrics::requested(&method, host, None, begun.elapsed());
                        // Whoever does not answer may have stopped; the next call goes to another.
                        self.inner.transport.rotate();
                        return Err(ApiError::transport(format!(
                            "{method} {path}: no answer in time"
                        )));
                    }
                    Ok(Ok(response)) if response.status().is_success() => return Ok(response),
                    Ok(Ok(response)) => {
                        let error = refused(response, deadline).await;
                        let may = error
                            .retry_after
                            .filter(|_| error.code == 429 || error.code >= 500);
                        let Some(wait) = may else { return Err(error) };
                        if error.code == 503 {
                            self.inner.transport.rotate();
                        }
                        (error, wait)
                    }
                    Ok(Err(failure)) => {
                        let error =
                            ApiError::transport(format!("{method} {path}: {}", failure.message));
                        if failure.sent && method != Method::GET {
                            return Err(error);
                        }
                        // The other servers are tried at once; only a full round waits.
                        let round_done =
                            (attempt as usize).is_multiple_of(self.inner.transport.servers());
                        (error, if round_done { backoff } else { Duration::ZERO })
                    }
                };
            if attempt > RETRIES_MAX || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(%method, path, attempt, error = %error.message, "retrying");
            tokio::time::sleep(wait).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Sends one request, once, and counts it.
    async fn call(
        &self,
        method: &Method,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let transport = &self.inner.transport;
        let (host, begun) = (transport.host(), Instant::now());
        let outcome = transport.call(request).await;
        let code = outcome.as_ref().ok();
        let code = code.map(|response| response.status().as_u16());
        metrics::requested(method, host, code, begun.elapsed());
        outcome
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<Request<Body>, ApiError> {
        let mut builder = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, &self.inner.user_agent);
        if !content_type.is_empty() {
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        let body = Full::new(body)
            .map_err(|never| match never {})
            .boxed_unsync();
        builder
            .body(body)
            .map_err(|e| ApiError::malformed(format!("request {path:?}: {e}")))
    }
}

async fn refused(response: Response<Body>, deadline: Instant) -> ApiError {
    let code = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse().ok())
        .map(Duration::from_secs);
    let body = collect(response.into_body(), deadline)
        .await
        .unwrap_or_default();
    // A redirect or another answer without success is not part of the API.
    let code = if code == StatusCode::OK {
        500
    } else {
        code.as_u16()
    };
    ApiError::from_response(code, retry_after, &body)
}

async fn collect(body: Body, deadline: Instant) -> Result<Bytes, ApiError> {
    tokio::time::timeout_at(deadline, read_all(body, ANSWER_BYTES_MAX))
        .await
        .unwrap_or_else(|_| Err(ApiError::transport("reading the answer timed out")))
}

/// The whole body, which may be so large.
pub(crate) async fn read_all(mut body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| ApiError::transport(format!("reading the answer: {error}")))?;
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > bytes_max {
                return Err(ApiError::malformed("the answer is too large"));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

fn encode(body: &Value) -> Bytes {
    Bytes::from(body.to_string())
}

/// A JSON value as a typed struct.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value)
        .map_err(|e| ApiError::malformed(format!("unexpected form of an object: {e}")))
}

#[derive(Default)]
struct Query(String);

impl Query {
    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(name);
            self.0.push('=');
            push_escaped(&mut self.0, value);
        }
    }

    fn onto(self, mut path: String) -> String {
        path.push_str(&self.0);
        path
    }
}

fn tls_config(
    servers: &[String],
    ca_pem: &str,
    identity: &Identity,
) -> Result<rustls::ClientConfig, String> {
    let authorities = trust::authorities(ca_pem.as_bytes());
    let authorities = authorities.map_err(|error| format!("CA certificate: {error}"))?;
    if authorities.is_empty() && servers.iter().any(|s| !s.starts_with("http://")) {
        return Err("no CA certificate is given for a TLS server".into());
    }
    let shown = match identity {
        Identity::Certificate { cert_pem, key_pem } => {
            Some((cert_pem.as_bytes(), key_pem.as_bytes()))
        }
        _ => None,
    };
    let mut tls = trust::client_config(Servers::Of(authorities), shown)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}
