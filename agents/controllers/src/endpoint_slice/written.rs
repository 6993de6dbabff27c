//! Endpoints and ports as they are written, and compared with what was read.

use agent_runtime::kinds::{Endpoint, EndpointConditions, EndpointPort};
use serde_json::{Value, json};

/// Endpoints as JSON; conditions are written in full, `false` included.
pub(crate) fn written(endpoints: &[Endpoint]) -> Value {
    endpoints
        .iter()
        .map(|endpoint| {
            let mut value = json!(endpoint);
            let EndpointConditions {
                ready,
                serving,
                terminating,
            } = endpoint.conditions;
            value["conditions"] =
                json!({"ready": ready, "serving": serving, "terminating": terminating});
            value
        })
        .collect()
}

/// Ports as JSON; the name is written although it be empty.
pub(crate) fn written_ports(ports: &[EndpointPort]) -> Value {
    ports
        .iter()
        .map(|port| {
            let mut value = json!(port);
            value["name"] = port.name.clone().unwrap_or_default().into();
            value
        })
        .collect()
}

/// A server may leave out an empty name.
pub(crate) fn same_ports(a: &[EndpointPort], b: &[EndpointPort]) -> bool {
    let named = |ports: &[EndpointPort]| {
        ports
            .iter()
            .map(|p| EndpointPort {
                name: Some(p.name.clone().unwrap_or_default()),
                ..p.clone()
            })
            .collect::<Vec<_>>()
    };
    named(a) == named(b)
}
