//! Ports that pods take on their hosts.

use super::text;
use crate::resources::items;
use serde_json::Value;

/// A port that a pod takes on its host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// `0.0.0.0` takes every address.
    pub ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port number.
    pub port: u16,
}

impl HostPort {
    /// Whether both cannot be on one host.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        const ANY: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ANY || other.ip == ANY)
    }
}

pub(super) fn host_ports(spec: &Value) -> Vec<HostPort> {
    let sidecars = items(spec, "initContainers").filter(|c| text(c, "/restartPolicy") == "Always");
    let mut ports = Vec::new();
    for port in items(spec, "containers")
        .chain(sidecars)
        .flat_map(|c| items(c, "ports"))
    {
        let number = port
            .get("hostPort")
            .and_then(Value::as_u64)
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(0);
        if number == 0 {
            continue;
        }
        let or = |field: &str, default: &str| {
            Some(text(port, field))
                .filter(|t| !t.is_empty())
                .unwrap_or(default.into())
        };
        ports.push(HostPort {
            ip: or("/hostIP", "0.0.0.0"),
            protocol: or("/protocol", "TCP"),
            port: number,
        });
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ports_conflict_by_address_protocol_and_port() {
        let port = |ip: &str, protocol: &str, port| HostPort {
            ip: ip.into(),
            protocol: protocol.into(),
            port,
        };
        assert!(port("0.0.0.0", "TCP", 80).conflicts(&port("10.0.0.1", "TCP", 80)));
        assert!(!port("10.0.0.2", "TCP", 80).conflicts(&port("10.0.0.1", "TCP", 80)));
        assert!(!port("0.0.0.0", "UDP", 80).conflicts(&port("0.0.0.0", "TCP", 80)));
    }
}
