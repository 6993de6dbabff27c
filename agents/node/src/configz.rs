//! What `/configz` answers: the node's settings under the names that they have in a kubelet's configuration. Only those that
//! there are here, as they hold.

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};

use crate::{NodeConfig, RuntimeKind, pod};

pub(crate) const PATH: &str = "/configz";

/// What answers at this path for a node with a server of its own.
pub(crate) fn router(config: &NodeConfig, port: u16) -> Router {
    let settings = configz(config, port);
    Router::new().route(PATH, get(move || async move { Json(settings) }))
}

/// The settings of a node whose server listens at this port.
pub(crate) fn configz(config: &NodeConfig, port: u16) -> Value {
    let taints = config.taints.iter();
    let taints: Vec<Value> = taints
        .map(|taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect}))
        .collect();
    let mut all = json!({
        "enableServer": true,
        "address": config.listen.ip().to_string(),
        "port": port,
        "registerNode": true,
        "authentication": {"x509": {}, "webhook": {"enabled": true, "cacheTTL": "2m0s"}, "anonymous": {"enabled": false}},
        "authorization": {"mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"}},
        "clusterDomain": config.cluster_domain,
        "clusterDNS": config.cluster_dns,
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "5m0s",
        "nodeLeaseDurationSeconds": 40,
        "maxPods": config.max_pods,
        "podPidsLimit": -1,
        "failSwapOn": false,
        "crashLoopBackOff": {"maxContainerRestartPeriod": seconds(pod::backoff::MAX)},
        "enableDebuggingHandlers": true,
        "registerWithTaints": taints,
    });
    if !matches!(config.runtime, RuntimeKind::Hollow(_)) {
        all["evictionHard"] = Value::Object(config.eviction_hard.told());
    }
    // As Go writes them: texts, lists and maps that are empty are not there.
    let is_told = |value: &Value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let told: Map<String, Value> = match all {
        Value::Object(all) => all
            .into_iter()
            .filter(|(_, value)| is_told(value))
            .collect(),
        _ => Map::new(),
    };
    json!({"kubeletconfig": told})
}

/// A time of whole minutes and seconds, as Go prints it.
fn seconds(time: time::Duration) -> String {
    let (minutes, seconds) = (time.whole_minutes(), time.whole_seconds() % 60);
    match minutes {
        0 => format!("{seconds}s"),
        _ => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EvictionHard, HollowConfig, ServerIdentity};

    #[test]
    fn a_node_tells_its_settings_by_the_names_of_a_kubelet() {
        let nobody = ServerIdentity {
            certificate_pem: String::new(),
            key_pem: String::new(),
            client_ca_pem: String::new(),
            client_names: Vec::new(),
        };
        let mut config = NodeConfig {
            node_name: "n1".into(),
            data_dir: "/nowhere".into(),
            listen: ([127, 0, 0, 1], 0).into(),
            runtime: RuntimeKind::Docker,
            node_ip: [10, 0, 0, 1].into(),
            cluster_domain: "cluster.local".into(),
            cluster_dns: Vec::new(),
            labels: std::collections::BTreeMap::new(),
            taints: Vec::new(),
            max_pods: 17,
            eviction_hard: EvictionHard::default(),
            pod_routes: false,
            server: tokio::sync::watch::Sender::new(nobody).subscribe(),
        };
        let told = configz(&config, 10250);
        let told = &told["kubeletconfig"];
        assert_eq!(
            (&told["maxPods"], &told["port"]),
            (&json!(17), &json!(10250))
        );
        assert_eq!(told["evictionHard"]["memory.available"], "100Mi");
        let restarts = &told["crashLoopBackOff"]["maxContainerRestartPeriod"];
        assert_eq!(*restarts, "5m0s");
        assert_eq!(
            (told.get("registerWithTaints"), told.get("clusterDNS")),
            (None, None)
        );
        config.eviction_hard = EvictionHard::OFF;
        let never = configz(&config, 10250);
        assert_eq!(never["kubeletconfig"].get("evictionHard"), None);
        config.eviction_hard = EvictionHard::default();
        config.runtime = RuntimeKind::Hollow(HollowConfig::default());
        let hollow = configz(&config, 10250);
        assert_eq!(hollow["kubeletconfig"].get("evictionHard"), None);
    }
}
