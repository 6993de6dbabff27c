//! What is done to a container to hear of it or to tell it: probes and hooks.

use serde::Deserialize;

use super::{Container, NameValue};

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Lifecycle {
    pub(crate) post_start: Option<Handler>,
    pub(crate) pre_stop: Option<Handler>,
    pub(crate) stop_signal: Option<String>,
}

/// What a probe or a hook does; exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Handler {
    pub(crate) exec: Option<ExecHandler>,
    pub(crate) http_get: Option<HttpHandler>,
    pub(crate) tcp_socket: Option<TcpHandler>,
    pub(crate) grpc: Option<GrpcHandler>,
    pub(crate) sleep: Option<SleepHandler>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ExecHandler {
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HttpHandler {
    pub(crate) path: String,
    pub(crate) port: PortRef,
    pub(crate) host: String,
    pub(crate) scheme: String,
    pub(crate) http_headers: Vec<NameValue>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TcpHandler {
    pub(crate) port: PortRef,
    pub(crate) host: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct GrpcHandler {
    pub(crate) port: u16,
    pub(crate) service: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SleepHandler {
    pub(crate) seconds: i64,
}

/// A port by number or by the name that a container gave it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum PortRef {
    Number(i64),
    Name(String),
}

impl Default for PortRef {
    fn default() -> Self {
        PortRef::Number(0)
    }
}

impl PortRef {
    /// The number, looked up among the container's ports when this is a name.
    pub(crate) fn resolve(&self, container: &Container) -> Option<u16> {
        match self {
            PortRef::Number(number) => u16::try_from(*number).ok().filter(|port| *port > 0),
            PortRef::Name(name) => container
                .ports
                .iter()
                .find(|port| port.name == *name)
                .map(|port| port.container_port)
                .or_else(|| name.parse().ok()),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Probe {
    #[serde(flatten)]
    pub(crate) handler: Handler,
    pub(crate) initial_delay_seconds: i64,
    pub(crate) timeout_seconds: i64,
    pub(crate) period_seconds: i64,
    pub(crate) success_threshold: i64,
    pub(crate) failure_threshold: i64,
    pub(crate) termination_grace_period_seconds: Option<i64>,
}
