//! A server behind a Service to which requests are passed on, whatever they are.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioTimer;
use trust::Servers;

use super::connect::{Connector, OnHost};
use super::{Destination, IDLE_MAX, IDLE_TIME_MAX, reason};
use crate::world::World;

/// Whom to take for the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trust<'a> {
    /// Who has a certificate of these authorities, PEM in base64; of the system's where it is empty.
    Bundle(&'a str),
    /// Whoever answers.
    Anyone,
}

/// The way there. Connections are kept open and used again.
pub(crate) struct Backend {
    authority: String,
    client: Client<Connector, Body>,
}

impl Backend {
    /// `identity` is the certificate and the key that this server shows there, PEM.
    pub(crate) fn new(
        world: &Arc<World>,
        destination: Destination,
        trust: Trust<'_>,
        identity: Option<(&str, &str)>,
    ) -> Result<Backend, String> {
        let pem;
        let servers = match trust {
            Trust::Anyone => Servers::Anyone,
            Trust::Bundle(bundle) => {
                let bundle = base64::engine::general_purpose::STANDARD.decode(bundle);
                pem =
                    bundle.map_err(|error| format!("unable to load root certificates: {error}"))?;
                Servers::Bundle(&pem)
            }
        };
        let identity = identity.map(|(certificate, key)| (certificate.as_bytes(), key.as_bytes()));
        let tls = trust::client_config(servers, identity)?;
        let authority = destination.authority();
        let connector = Connector::new(world.clone(), destination, tls)?;
        let client = Client::builder(OnHost)
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME_MAX)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Ok(Backend { authority, client })
    }

    /// The URL of a path and its query.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.authority)
    }

    /// Sends a request; the reason, in the words of Go's dialer, where there is no answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, String> {
        let sent = self.client.request(request).await;
        sent.map_err(|error| reason(&error))
    }
}
