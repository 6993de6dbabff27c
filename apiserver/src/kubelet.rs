//! Calls to node agents: TLS with the cluster CA on their side and this server's client certificate on ours.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use schema::Object;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trust::Servers;

use crate::config::{Config, KubeletIdentity};
use crate::held::Held;
use crate::status::{ApiError, ApiResult};

const PORT_DEFAULT: u16 = 10_250;
/// A node agent that is there answers the first bytes within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const NO_CERTIFICATE: &str = "this server has no client certificate for node agents";
/// Kubernetes' order of preference.
const ADDRESS_TYPES: &[&str] = &[
    "InternalIP",
    "Hostname",
    "InternalDNS",
    "ExternalIP",
    "ExternalDNS",
];

/// Where a node agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeAddress {
    host: String,
    port: u16,
}

impl NodeAddress {
    /// From the Node's status; none where it names no address.
    pub(crate) fn of(node: &Object) -> Option<NodeAddress> {
        let addresses = node.get_array(&["status", "addresses"])?;
        let of_type = |kind: &str| {
            let found = addresses
                .iter()
                .find(|address| address.get("type").and_then(Value::as_str) == Some(kind))?;
            found
                .get("address")
                .and_then(Value::as_str)
                .filter(|address| !address.is_empty())
        };
        let host = ADDRESS_TYPES
            .iter()
            .find_map(|kind| of_type(kind))?
            .to_owned();
        let port = node.get_i64(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
        let port = port
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .unwrap_or(PORT_DEFAULT);
        Some(NodeAddress { host, port })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

pub(crate) struct Kubelets {
    tls: Held<Option<TlsConnector>>,
}

impl Kubelets {
    pub(crate) fn new(config: &Config) -> Kubelets {
        let tls = config.kubelet_identity.as_ref().and_then(|identity| {
            let made = connector(&config.ca_pem, identity);
            if let Err(error) = &made {
                tracing::error!(
                    error,
                    "the client certificate for node agents is not usable"
                );
            }
            made.ok()
        });
        Kubelets {
            tls: Held::new(tls),
        }
    }

    /// Connections are made so from now on; those that are open stay.
    pub(crate) fn call_as(&self, ca_pem: &str, identity: &KubeletIdentity) -> Result<(), String> {
        self.tls.set(Some(connector(ca_pem, identity)?));
        Ok(())
    }

    /// Opens a connection, as the server that node agents know.
    pub(crate) async fn connect(
        &self,
        address: &NodeAddress,
    ) -> Result<TlsStream<TcpStream>, String> {
        let tls = self.tls.get();
        let tls = tls.as_ref().as_ref().ok_or(NO_CERTIFICATE)?;
        let name = ServerName::try_from(address.host.clone());
        let name = name.map_err(|error| error.to_string())?;
        let connect = async {
            let stream = TcpStream::connect(address.authority()).await?;
            stream.set_nodelay(true)?;
            tls.connect(name, stream).await
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err("dial tcp: i/o timeout".to_owned()),
        }
    }

    /// Opens a connection and sends one request; the connection lives as long as the answer.
    pub(crate) async fn send(
        &self,
        address: &NodeAddress,
        request: Request<Body>,
    ) -> ApiResult<Response<Incoming>> {
        if self.tls.get().is_none() {
            return Err(ApiError::unavailable(NO_CERTIFICATE));
        }
        let failed = |error: &dyn std::fmt::Display| {
            ApiError::internal(format!("error dialing backend: {error}"))
        };
        let stream = self
            .connect(address)
            .await
            .map_err(|error| failed(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
        // The connection ends with the answer's body or its upgraded stream: both sides of a dropped stream go away.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "connection to a node agent ended");
            }
        });
        match tokio::time::timeout(ANSWER_TIMEOUT, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|error| failed(&error)),
            Err(_) => Err(failed(&"timeout awaiting response headers")),
        }
    }

    /// The same for a request of another protocol, which the node has to agree to: a tunnel to something that did not would
    /// be a way around authorization.
    pub(crate) async fn upgrade(
        &self,
        address: &NodeAddress,
        request: Request<Body>,
    ) -> ApiResult<Response<Incoming>> {
        let answer = self.send(address, request).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let code = answer.status().as_u16();
        let text = crate::body::read_answer(Body::new(answer.into_body())).await;
        let text = text.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        Err(ApiError::from_node(code, text))
    }

    pub(crate) async fn get(
        &self,
        address: &NodeAddress,
        path: &str,
    ) -> ApiResult<Response<Incoming>> {
        let request = Request::get(path)
            .header(header::HOST, address.authority())
            .body(Body::new(Empty::<Bytes>::new()))
            .map_err(ApiError::internal)?;
        self.send(address, request).await
    }

    pub(crate) fn host(address: &NodeAddress) -> String {
        address.authority()
    }
}

fn connector(ca_pem: &str, identity: &KubeletIdentity) -> Result<TlsConnector, String> {
    let servers = Servers::Of(trust::authorities(ca_pem.as_bytes())?);
    let certificate = identity.certificate_pem.as_bytes();
    let shown = (certificate, identity.key_pem.as_bytes());
    let config = trust::client_config(servers, Some(shown))?;
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_come_from_the_status() {
        let node = Object::new(json!({"status": {"addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "10.0.0.7"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}}}})).unwrap();
        assert_eq!(
            NodeAddress::of(&node).unwrap().authority(),
            "10.0.0.7:10251"
        );
        let node = Object::new(
            json!({"status": {"addresses": [{"type": "InternalIP", "address": "::1"}]}}),
        )
        .unwrap();
        assert_eq!(NodeAddress::of(&node).unwrap().authority(), "[::1]:10250");
        assert!(NodeAddress::of(&Object::new(json!({"status": {}})).unwrap()).is_none());
    }
}
