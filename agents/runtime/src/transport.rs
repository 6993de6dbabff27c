//! How a request reaches a server: a call into this process, or HTTP/2 over TLS to one of several servers.
//!
//! Failover is a shared index into the list of servers: whoever sees a failed connection moves it on by one, so that
//! requests go on with a server that worked last instead of trying a dead one first again and again.

mod connect;
mod together;

use crate::client::{Body, BoxError, InProcessService};
pub(crate) use connect::Connector;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, Uri};
use hyper_util::client::legacy::Client as PooledClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use together::UnderWay;
use tower::ServiceExt;

/// Watches come in pieces of up to this size. Where a frame holds less, which it does by default, each of its frames is a
/// write, a packet and a read of its own.
const FRAME_BYTES_MAX: u32 = 64 << 10;

/// Why a request got no answer. `sent` is false when it certainly never reached a server.
pub(crate) struct Failure {
    pub(crate) sent: bool,
    pub(crate) message: String,
}

pub(crate) enum Transport {
    InProcess(InProcessService),
    Remote(Box<Remote>),
}

pub(crate) struct Remote {
    servers: Vec<Server>,
    current: AtomicUsize,
    pool: RwLock<PooledClient<Connector, Body>>,
    under_way: UnderWay,
    authorization: Option<HeaderValue>,
}

struct Server {
    scheme: http::uri::Scheme,
    authority: http::uri::Authority,
    prefix: String,
}

impl Server {
    /// The same path and query on this server. Where all of its paths are its own, as mostly, nothing is read again.
    fn uri(&self, of: &Uri) -> Result<Uri, Failure> {
        let path = of.path_and_query().cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let builder = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone());
        let builder = match self.prefix.as_str() {
            "" => builder.path_and_query(path.clone()),
            prefix => builder.path_and_query(format!("{prefix}{path}")),
        };
        builder.build().map_err(|error| Failure {
            sent: false,
            message: format!("request path {:?}: {error}", path.as_str()),
        })
    }
}

impl Transport {
    /// Sends one request, once.
    pub(crate) fn call(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'_, Result<Response<Body>, Failure>> {
        match self {
            Self::InProcess(service) => {
                // A combinator, since rustc cannot see through an async block that holds this service (rust-lang/rust#64552).
                service
                    .clone()
                    .oneshot(request)
                    .map_err(|e| Failure {
                        sent: true,
                        message: chain(e.as_ref()),
                    })
                    .boxed()
            }
            Self::Remote(remote) => Box::pin(remote.call(request)),
        }
    }

    /// Number of servers worth trying for one request.
    pub(crate) fn servers(&self) -> usize {
        match self {
            Self::InProcess(_) => 1,
            Self::Remote(remote) => remote.servers.len(),
        }
    }

    /// Leaves the server in use for the next one, because it answered that it cannot serve.
    pub(crate) fn rotate(&self) {
        if let Self::Remote(remote) = self {
            let seen = remote.current.load(Ordering::Relaxed);
            remote.move_on(seen);
        }
    }

    /// Host and port of the server in use, for figures.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::InProcess(_) => "in-process",
            Self::Remote(remote) => remote.in_use().authority.as_str(),
        }
    }

    /// The server in use, for messages.
    pub(crate) fn current_server(&self) -> String {
        match self {
            Self::InProcess(_) => "in-process".into(),
            Self::Remote(remote) => {
                let server = remote.in_use();
                format!("{}://{}", server.scheme, server.authority)
            }
        }
    }
}

impl Remote {
    pub(crate) fn new(
        servers: &[String],
        tls: Arc<rustls::ClientConfig>,
        token: Option<&str>,
    ) -> Result<Self, String> {
        if servers.is_empty() {
            return Err("no server is given".into());
        }
        let servers = servers
            .iter()
            .map(|text| parse_server(text))
            .collect::<Result<Vec<_>, _>>()?;
        let authorization = match token {
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                    .map_err(|_| "the token has characters that no header may have".to_owned())?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let under_way = UnderWay::default();
        let connector = Connector::new(tls).counting(under_way.clone());
        Ok(Self {
            servers,
            current: AtomicUsize::new(0),
            pool: RwLock::new(pool(connector)),
            under_way,
            authorization,
        })
    }

    /// Requests go over new connections from now on; those under way end on theirs.
    pub(crate) fn replace_tls(&self, tls: Arc<rustls::ClientConfig>) {
        let connector = Connector::new(tls).counting(self.under_way.clone());
        *self.pool.write().unwrap_or_else(PoisonError::into_inner) = pool(connector);
    }

    fn pool(&self) -> PooledClient<Connector, Body> {
        self.pool
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn in_use(&self) -> &Server {
        &self.servers[self.current.load(Ordering::Relaxed) % self.servers.len()]
    }

    async fn call(&self, mut request: Request<Body>) -> Result<Response<Body>, Failure> {
        let seen = self.current.load(Ordering::Relaxed);
        let server = &self.servers[seen % self.servers.len()];
        *request.uri_mut() = server.uri(request.uri())?;
        if let Some(value) = &self.authorization {
            request
                .headers_mut()
                .insert(http::header::AUTHORIZATION, value.clone());
        }
        let on_its_way = self.under_way.one_more();
        let answer = self.pool().request(request).await;
        drop(on_its_way);
        match answer {
            Ok(response) => Ok(response.map(|body| {
                use http_body_util::BodyExt;
                body.map_err(|e| Box::new(e) as BoxError).boxed_unsync()
            })),
            Err(error) => {
                self.move_on(seen);
                Err(Failure {
                    sent: !error.is_connect(),
                    message: format!("{}: {}", server.authority, chain(&error)),
                })
            }
        }
    }

    fn move_on(&self, seen: usize) {
        let next = (seen + 1) % self.servers.len();
        // Lost races are welcome: somebody else has moved on already.
        let _ = self
            .current
            .compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

pub(crate) fn pool(connector: Connector) -> PooledClient<Connector, Body> {
    let mut builder = PooledClient::builder(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(90))
        // A peer that vanished without a reset is found by pings, as client-go does (30 s, then 15 s).
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .http2_keep_alive_while_idle(true)
        .http2_max_frame_size(FRAME_BYTES_MAX)
        .http2_adaptive_window(true);
    builder.build(connector)
}

fn parse_server(text: &str) -> Result<Server, String> {
    let with_scheme = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let parts = with_scheme
        .parse::<Uri>()
        .map_err(|e| format!("server {text:?}: {e}"))?
        .into_parts();
    let scheme = parts
        .scheme
        .ok_or_else(|| format!("server {text:?} has no scheme"))?;
    let authority = parts
        .authority
        .ok_or_else(|| format!("server {text:?} has no host"))?;
    let prefix = parts
        .path_and_query
        .map(|p| p.path().trim_end_matches('/').to_owned())
        .unwrap_or_default();
    Ok(Server {
        scheme,
        authority,
        prefix,
    })
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_request_behind_the_servers_own() {
        for (server, path, expected) in [
            (
                "10.0.0.1:6443",
                "/api/v1?a=b%20c",
                "https://10.0.0.1:6443/api/v1?a=b%20c",
            ),
            ("https://a/", "/x", "https://a/x"),
            ("http://a:1/k8s/", "/x?y", "http://a:1/k8s/x?y"),
        ] {
            let path = Uri::try_from(path).unwrap();
            let uri = parse_server(server).unwrap().uri(&path).ok().unwrap();
            assert_eq!(uri.to_string(), expected);
        }
    }
}
