//! What Prometheus reads of a whole cluster: the API's page has the figures of the agents in its process, and a node's port
//! those of the node.

use crate::cluster::{Cluster, PATIENCE};
use agent_runtime::kinds::Pod;
use serde_json::json;

/// The beginnings of lines of which none is there.
fn missing<'a>(text: &str, wanted: &[&'a str]) -> Vec<&'a str> {
    let there = |head: &&&str| text.lines().any(|line| line.starts_with(**head));
    wanted.iter().filter(|head| !there(head)).copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_figures_of_agents_and_nodes_are_there_under_kubernetes_names() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    cluster.create_deployment(1, "pause").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "pause"}]}});
    cluster.create_pod(&pod).await;
    cluster.pod("the pod to run", "p", Pod::is_ready).await;
    let of_process = [
        "workqueue_adds_total{name=\"deployment\"} ",
        "workqueue_depth{name=\"replicaset\"} ",
        "workqueue_work_duration_seconds_count{name=\"replicaset\"} ",
        "rest_client_requests_total{code=\"201\",host=\"in-process\",method=\"POST\"} ",
        "rest_client_request_duration_seconds_count{host=\"in-process\",verb=\"GET\"} ",
        "leader_election_master_status{name=\"kube-scheduler\"} 1",
        "running_managed_controllers{manager=\"kube-controller-manager\",name=\"deployment-controller\"} 1",
        "node_collector_zone_size{zone=\":\"} 1",
        "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} ",
        "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"} ",
        "scheduler_pending_pods{queue=\"active\"} 0",
        "apiserver_watch_events_total{group=\"\",resource=\"pods\",version=\"v1\"} ",
        "apiserver_admission_controller_admission_duration_seconds_count{name=\"Priority\",operation=\"CREATE\",rejected=\"false\",type=\"admit\"} ",
        "apiserver_current_inqueue_requests{request_kind=\"mutating\"} 0",
        "etcd_request_duration_seconds_count{group=\"\",operation=\"create\",resource=\"pods\"} ",
        "kubernetes_build_info{",
    ];
    let of_node = [
        "kubelet_node_name{node=\"one\"} 1",
        "kubelet_running_pods ",
        "kubelet_pod_start_duration_seconds_count ",
        "kubelet_pod_worker_duration_seconds_count{operation_type=\"create\"} ",
        "rest_client_requests_total{",
    ];
    let proxy = "/api/v1/nodes/one/proxy";
    // The loops count after the last write that was waited for.
    let complete = async {
        loop {
            let (code, text) = cluster.text("/metrics").await;
            assert_eq!(code, 200);
            let (code, node) = cluster.text(&format!("{proxy}/metrics")).await;
            assert_eq!(code, 200, "{node}");
            let missing = [missing(&text, &of_process), missing(&node, &of_node)].concat();
            if missing.is_empty() {
                return node;
            }
            tokio::task::yield_now().await;
        }
    };
    let node = tokio::time::timeout(PATIENCE, complete).await;
    let node = node.expect("all figures are there");
    assert!(!node.contains("scheduler_"), "{node}");
    let (code, containers) = cluster.text(&format!("{proxy}/metrics/cadvisor")).await;
    let of_p = "namespace=\"default\",pod=\"p\"";
    let mut lines = containers.lines();
    let used = lines.find(|line| {
        line.starts_with("container_memory_working_set_bytes{container=\"c\"")
            && line.contains(of_p)
    });
    assert!(code == 200 && used.is_some(), "{containers}");
    assert!(used.unwrap().contains("image=\"pause\""));
}
