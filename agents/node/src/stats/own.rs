//! The figures of the node agent itself that are read off a snapshot, for its `/metrics`.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::Snapshot;
use super::cadvisor::{gauge, quoted};
use crate::KUBELET_VERSION;

/// The text: what the node is called, what of it is known, and how much runs on it.
pub(crate) fn own(node_name: &str, snapshot: Option<&Snapshot>) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "# HELP kubelet_node_name The node's name. The value is always 1.\n# TYPE kubelet_node_name gauge\n\
         kubelet_node_name{{node=\"{}\"}} 1\n",
        quoted(node_name)
    );
    let build = "kubernetes_build_info";
    let version = KUBELET_VERSION.trim_start_matches('v');
    let mut numbers = version.split('.');
    let (major, minor) = (numbers.next(), numbers.next());
    let _ = write!(
        text,
        "# HELP {build} 1 for the version of Kubernetes that this node is like.\n# TYPE {build} gauge\n\
         {build}{{git_version=\"{KUBELET_VERSION}\",major=\"{}\",minor=\"{}\"}} 1\n",
        major.unwrap_or_default(),
        minor.unwrap_or_default()
    );
    let Some(snapshot) = snapshot else {
        return text;
    };
    let running = |one: &&super::Measured| !one.is_sandbox();
    let containers = snapshot.containers.iter().filter(running).count();
    let pods: BTreeSet<&str> = snapshot
        .containers
        .iter()
        .map(|one| one.used.identity.pod_uid.as_str())
        .collect();
    let pods = i64::try_from(pods.len()).unwrap_or(i64::MAX);
    let help = "Pods of which something runs.";
    gauge(&mut text, "kubelet_running_pods", help, pods);
    let name = "kubelet_running_containers";
    let _ = write!(
        text,
        "# HELP {name} Containers by their state.\n# TYPE {name} gauge\n\
         {name}{{container_state=\"running\"}} {containers}\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SANDBOX;
    use crate::stats::summary::tests::{measured, snapshot};

    #[test]
    fn what_runs_is_counted_by_pods_and_by_containers() {
        let all = vec![
            measured(SANDBOX, None),
            measured("a", None),
            measured("b", None),
        ];
        let text = own("n1", Some(&snapshot(all)));
        for line in [
            "kubelet_node_name{node=\"n1\"} 1",
            "kubelet_running_pods 1",
            "kubelet_running_containers{container_state=\"running\"} 2",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        let version = format!("git_version=\"{KUBELET_VERSION}\",major=\"1\",minor=\"36\"");
        assert!(text.contains(&version), "{text}");
        assert!(!own("n1", None).contains("running"));
    }
}
