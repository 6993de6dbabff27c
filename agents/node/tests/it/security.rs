//! What a container may do on a real Docker daemon: users, capabilities, its root, its part of a volume, its network.

use std::process::Command;

use node_agent::RuntimeKind;
use serde_json::{Value, json};

use crate::api::Api;
use crate::docker::{image_is_ready, pod, sh};
use crate::kubelet::{Node, first, phase};

const NODE: &str = "docker-security";

/// The log of a pod that has succeeded.
async fn said(api: &Api, node: &Node, name: &str) -> String {
    let over = |pod: Option<&Value>| matches!(phase(pod), "Succeeded" | "Failed");
    let pod = api.wait_pod(name, "over", over).await;
    let (_, log) = node.get(&format!("/containerLogs/default/{name}/c")).await;
    assert_eq!(phase(pod.as_ref()), "Succeeded", "{log}");
    log
}

fn script(name: &str, text: &str, mut container: Value, mut spec: Value) -> Value {
    container["name"] = json!("c");
    container["command"] = sh(text);
    spec["containers"] = json!([container]);
    spec["restartPolicy"] = json!("Never");
    pod(name, NODE, spec)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_may_do_what_its_pod_says() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, NODE, dir.path(), RuntimeKind::Docker).await;
    let caps = "sed -n 's/^CapBnd:[^0-9a-f]*//p' /proc/self/status";
    let caps = format!("busybox {caps}");
    api.put("pods", script("limited", &format!("id -u; id -g; busybox id -G; touch /x 2> /tmp/no || echo read-only; {caps}; busybox stat -c %g:%a /v"),
        json!({"securityContext": {"runAsUser": 1000, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
               "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "v", "mountPath": "/v"}]}),
        json!({"securityContext": {"runAsGroup": 3000, "supplementalGroups": [4000], "fsGroup": 5000, "runAsNonRoot": true},
               "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory"}}, {"name": "v", "emptyDir": {}}]})));
    let log = said(&api, &node, "limited").await;
    assert_eq!(
        log,
        "1000\n3000\n3000 4000 5000\nread-only\n0000000000000000\n5000:2777\n"
    );

    api.put(
        "pods",
        script(
            "some",
            &caps,
            json!({"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}}),
            json!({}),
        ),
    );
    assert_eq!(said(&api, &node, "some").await, "0000000000001000\n");

    api.put(
        "pods",
        script(
            "root",
            "true",
            json!({"securityContext": {"runAsNonRoot": true}}),
            json!({}),
        ),
    );
    let refused =
        |pod: Option<&Value>| first(pod, "state/waiting/reason") == "CreateContainerConfigError";
    let root = api.wait_pod("root", "refused", refused).await;
    let message = first(root.as_ref(), "state/waiting/message");
    assert!(
        message.starts_with(
            "container has runAsNonRoot and image will run as root (pod: \"root_default("
        ),
        "{message}"
    );
    api.wait_event(
        "root",
        "Failed: Error: container has runAsNonRoot and image will run as root",
    )
    .await;

    // A part of a volume that a container has turned into a link to the node's own files.
    api.put("pods", script("thief", "cat /v/shadow", json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "evil"}]}),
        json!({"volumes": [{"name": "v", "emptyDir": {}}],
               "initContainers": [{"name": "i", "command": sh("busybox ln -s /etc /v/evil"), "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]})));
    let thief = api.wait_pod("thief", "refused", refused).await;
    assert_eq!(
        first(thief.as_ref(), "state/waiting/message"),
        "failed to prepare subPath for volumeMount \"v\" of container \"c\": \"evil\" leads out of the volume"
    );

    api.put("configmaps", json!({"metadata": {"name": "cm", "namespace": "default"}, "data": {"a": "one", "b": "two"}}));
    api.put("pods", script("parts", "cat /etc/own/a.conf; echo; echo mine > /data/sub/x; cat /all/deep/er/x; busybox stat -L -c %a /modes/f; cat /proc/sys/kernel/hostname; busybox head -n 1 /etc/resolv.conf",
        json!({"volumeMounts": [
            {"name": "cm", "mountPath": "/etc/own/a.conf", "subPath": "a"},
            {"name": "v", "mountPath": "/data/sub", "subPath": "deep/er"},
            {"name": "v", "mountPath": "/all"},
            {"name": "modes", "mountPath": "/modes"}]}),
        json!({"hostname": "named", "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": ["corp.example"]},
            "volumes": [{"name": "cm", "configMap": {"name": "cm"}}, {"name": "v", "emptyDir": {}},
                {"name": "modes", "configMap": {"name": "cm", "defaultMode": 288, "items": [{"key": "b", "path": "f"}]}}]})));
    assert_eq!(
        said(&api, &node, "parts").await,
        "one\nmine\n440\nnamed\nsearch corp.example\n"
    );

    api.put(
        "pods",
        script(
            "host",
            "cat /proc/sys/kernel/hostname; busybox grep -c . /proc/net/route",
            json!({}),
            json!({"hostNetwork": true}),
        ),
    );
    let log = said(&api, &node, "host").await;
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(log.starts_with(&own), "{log}");
    let host = api.get("pods", "default", "host").unwrap();
    assert_eq!(host["status"]["podIP"], "127.0.0.1", "the node's address");

    for name in ["limited", "some", "root", "thief", "parts", "host"] {
        api.delete_pod(name, 0);
        api.wait_pod(name, "gone", |pod| pod.is_none()).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_become_cgroup_settings() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, "docker-resources", dir.path(), RuntimeKind::Docker).await;
    api.put("pods", pod("sized", "docker-resources", json!({"containers": [{"name": "c", "command": sh("sleep 3600"),
        "resources": {"requests": {"cpu": "250m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}}}]})));
    let sized = api
        .wait_pod("sized", "running", |pod| phase(pod) == "Running")
        .await;
    assert_eq!(sized.as_ref().unwrap()["status"]["qosClass"], "Burstable");
    let id = first(sized.as_ref(), "containerID")
        .trim_start_matches("docker://")
        .to_owned();
    let format = "{{with .HostConfig}}{{.CpuShares}} {{.CpuQuota}} {{.CpuPeriod}} {{.Memory}} {{.MemorySwap}}{{end}}";
    let output = Command::new("docker")
        .args(["inspect", "-f", format, &id])
        .output()
        .unwrap();
    let settings = String::from_utf8(output.stdout).unwrap();
    assert_eq!(settings.trim(), "256 50000 100000 67108864 67108864");
    api.delete_pod("sized", 0);
    api.wait_pod("sized", "gone", |pod| pod.is_none()).await;
    node.stop().await;
}
