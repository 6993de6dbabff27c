//! What a node says of itself in `/stats/summary`, as far as it is of use here.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

/// Node agents measure about so often where they do not say over what time an average is.
const WINDOW: Duration = Duration::from_secs(10);

/// An amount at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figure {
    /// Unix time in nanoseconds: the end of the window.
    pub(super) at: i128,
    pub(super) window_nanos: u64,
    pub(super) cpu_nanocores: u64,
    /// The working set.
    pub(super) memory_bytes: u64,
}

/// Everything that a node said at one time.
#[derive(Debug, Default, PartialEq)]
pub(super) struct NodeFigures {
    pub(super) node: Option<Figure>,
    /// By namespace and name.
    pods: BTreeMap<(String, String), Pod>,
}

#[derive(Debug, PartialEq)]
struct Pod {
    uid: String,
    containers: Vec<(String, Figure)>,
}

impl NodeFigures {
    /// The incarnation of a pod that was measured, and its containers.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<(&str, &[(String, Figure)])> {
        let found = self.pods.get(&(namespace.to_owned(), name.to_owned()))?;
        Some((&found.uid, &found.containers))
    }

    /// Reads a summary. What is not measured yet is left out; a pod with one such container as a whole, for the rest of it
    /// would be taken for all that it uses.
    pub(super) fn read(body: &[u8]) -> Result<NodeFigures, serde_json::Error> {
        let summary: Summary = serde_json::from_slice(body)?;
        let mut figures = NodeFigures {
            node: summary.node.figure(),
            pods: BTreeMap::new(),
        };
        for pod in summary.pods {
            let all = pod.containers.into_iter();
            let measured = all.map(|one| Some((one.name.clone(), one.measured.figure()?)));
            let containers: Option<Vec<(String, Figure)>> = measured.collect();
            if let Some(containers) = containers.filter(|all| !all.is_empty()) {
                let (key, uid) = ((pod.pod.namespace, pod.pod.name), pod.pod.uid);
                figures.pods.insert(key, Pod { uid, containers });
            }
        }
        Ok(figures)
    }
}

#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    node: Measured,
    #[serde(default)]
    pods: Vec<PodStats>,
}

#[derive(Deserialize)]
struct PodStats {
    #[serde(rename = "podRef")]
    pod: PodReference,
    #[serde(default)]
    containers: Vec<ContainerStats>,
}

#[derive(Deserialize)]
struct PodReference {
    name: String,
    namespace: String,
    #[serde(default)]
    uid: String,
}

#[derive(Deserialize)]
struct ContainerStats {
    name: String,
    #[serde(flatten)]
    measured: Measured,
}

#[derive(Default, Deserialize)]
struct Measured {
    cpu: Option<CpuStats>,
    memory: Option<MemoryStats>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CpuStats {
    time: String,
    usage_nano_cores: Option<u64>,
    /// Not of Kubernetes: Kontiki's own nodes say over what time the average is.
    usage_window_nano_seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MemoryStats {
    working_set_bytes: Option<u64>,
}

impl Measured {
    fn figure(&self) -> Option<Figure> {
        let (cpu, memory) = (self.cpu.as_ref()?, self.memory.as_ref()?);
        let (seconds, nanos) = schema::time::parse_nanos(&cpu.time)?;
        let window = cpu.usage_window_nano_seconds;
        Some(Figure {
            at: i128::from(seconds) * 1_000_000_000 + i128::from(nanos),
            window_nanos: window.unwrap_or(WINDOW.as_nanos() as u64),
            cpu_nanocores: cpu.usage_nano_cores?,
            memory_bytes: memory.working_set_bytes?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_summary_is_read_and_pods_that_are_measured_in_part_are_left_out() {
        let cpu = json!({"time": "2026-01-01T00:00:01.5Z", "usageNanoCores": 7, "usageWindowNanoSeconds": 5_000_000_000_u64});
        let memory =
            json!({"time": "2026-01-01T00:00:01Z", "workingSetBytes": 9, "usageBytes": 10});
        let whole = json!({"name": "a", "cpu": cpu, "memory": memory, "rootfs": {}});
        let fresh = json!({"name": "b", "cpu": {"time": "2026-01-01T00:00:01Z", "usageCoreNanoSeconds": 1}, "memory": memory});
        let pod = |name: &str, containers: serde_json::Value| json!({"podRef": {"name": name, "namespace": "n", "uid": "u"}, "containers": containers});
        let summary = json!({"node": {"nodeName": "x", "cpu": {"time": "2026-01-01T00:00:01Z", "usageNanoCores": 3}, "memory": memory},
            "pods": [pod("whole", json!([whole])), pod("part", json!([whole, fresh])), pod("none", json!([]))]});
        let figures = NodeFigures::read(summary.to_string().as_bytes()).unwrap();
        let at = 1_767_225_601_500_000_000;
        let figure = Figure {
            at,
            window_nanos: 5_000_000_000,
            cpu_nanocores: 7,
            memory_bytes: 9,
        };
        assert_eq!(
            figures.pod("n", "whole"),
            Some(("u", &[("a".to_owned(), figure)][..]))
        );
        assert_eq!(figures.pod("n", "part"), None);
        assert_eq!(figures.pod("n", "none"), None);
        let node = figures.node.unwrap();
        assert_eq!((node.cpu_nanocores, node.window_nanos), (3, 10_000_000_000));
    }

    #[test]
    fn what_is_no_summary_is_refused_and_odd_figures_are_none() {
        assert!(NodeFigures::read(b"no").is_err());
        assert!(NodeFigures::read(br#"{"pods": 1}"#).is_err());
        assert_eq!(NodeFigures::read(b"{}").unwrap(), NodeFigures::default());
        let odd = br#"{"node": {"cpu": {"time": "never", "usageNanoCores": 1}, "memory": {"workingSetBytes": 1}}}"#;
        assert_eq!(NodeFigures::read(odd).unwrap().node, None);
    }
}
