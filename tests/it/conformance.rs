//! What the conformance suite does with kubectl, in the words that it looks for. Run against the cluster of `kubectl.rs`.

use crate::cluster::Cluster;
use crate::tools::{Following, Kubectl, have, run};
use serde_json::{Value, json};
use std::process::Command;

pub(crate) fn kubectl_behaviours(cluster: &Cluster) {
    let k = cluster.kubectl();
    what_there_is(&k);
    a_proxy_serves_a_port_and_a_socket(cluster, &k);
    pods_are_run_labelled_and_replaced(&k);
    a_deployment_is_compared(&k);
    a_controller_is_described(&k, &cluster.node);
}

fn what_there_is(k: &Kubectl) {
    assert!(k.ok("api-versions").lines().any(|line| line == "v1"));
    let info = k.ok("cluster-info");
    assert!(
        info.contains("Kubernetes control plane") && info.contains("is running at"),
        "{info}"
    );
    let version = k.ok("version");
    for item in ["Client Version: v", "Server Version: v"] {
        assert!(version.contains(item), "{item}: {version}");
    }
}

/// `/api` through kubectl's proxy. `curl` gets these words besides the URL.
fn asked(proxy: &[&str], url: &str) {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error"]).args(proxy).arg(url);
    let said = run(curl, "");
    let body: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(body["kind"], "APIVersions", "{said}");
    assert_eq!(body["versions"], json!(["v1"]), "{said}");
}

fn a_proxy_serves_a_port_and_a_socket(cluster: &Cluster, k: &Kubectl) {
    if !have("curl") {
        return;
    }
    let started = |proxy: &Following| {
        let line = proxy.line("the proxy to serve", |line| {
            line.starts_with("Starting to serve on ")
        });
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    let proxy = k.follow("proxy --port=0 --disable-filter");
    asked(&[], &format!("http://{}/api/", started(&proxy)));
    let socket = cluster.home().join("proxy.sock");
    let socket = socket.to_str().expect("text");
    let proxy = k.follow(&format!("proxy --unix-socket={socket}"));
    assert_eq!(started(&proxy), socket);
    asked(&["--unix-socket", socket], "http://localhost/api/");
}

fn pods_are_run_labelled_and_replaced(k: &Kubectl) {
    let image = || k.ok("get pod once -o jsonpath={.spec.containers[0].image}");
    k.ok("run once --restart=Never --pod-running-timeout=2m0s --image=httpd:1 -l run=once");
    let pod = k.json("get pod once");
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    assert_eq!(image(), "httpd:1");
    k.ok("wait --for=condition=Ready pod/once --timeout=60s");

    let other = r#"'{"spec": {"containers": [{"name": "once", "image": "busybox:1"}]}}'"#;
    k.ok(&format!("patch pod once -p {other} --dry-run=server"));
    assert_eq!(image(), "httpd:1", "a dry run changes nothing");

    let mut pod = k.json("get pod once");
    pod["spec"]["containers"][0]["image"] = "busybox:1".into();
    let replaced = k.ok_with("replace -f -", &pod.to_string());
    assert_eq!(replaced.trim(), "pod/once replaced");
    assert_eq!(image(), "busybox:1");

    k.ok("label pods once testing-label=testing-label-value");
    let shown = || k.ok("get pod once -L testing-label");
    assert!(shown().contains("testing-label-value"), "{}", shown());
    k.ok("label pods once testing-label-");
    assert!(!shown().contains("testing-label-value"), "{}", shown());
    k.ok("delete pod once --now");
}

fn a_deployment_is_compared(k: &Kubectl) {
    if !have("diff") {
        return;
    }
    let deployment = |image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "compared"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "compared"}},
                "template": {"metadata": {"labels": {"app": "compared"}},
                    "spec": {"containers": [{"name": "c", "image": image}]}}}})
        .to_string()
    };
    k.ok_with("create -f -", &deployment("httpd:1"));
    let diff = k.run_with("diff -f -", &deployment("busybox:1"));
    assert!(!diff.success, "a difference is told by the exit code, too");
    let has = |sign: char, image: &str| {
        let mut lines = diff.stdout.lines();
        lines.any(|line| line.starts_with(sign) && line.ends_with(&format!("image: {image}")))
    };
    assert!(has('-', "httpd:1") && has('+', "busybox:1"), "{diff}");
    assert_eq!(
        k.ok("get deployment compared -o jsonpath={.spec.template.spec.containers[0].image}"),
        "httpd:1"
    );
    k.ok("delete deployment compared");
}

/// These words stand in this order; what is between them does not matter.
fn in_order(text: &str, items: &[&[&str]]) {
    let mut rest = text;
    for words in items {
        for (index, word) in words.iter().enumerate() {
            // The second and later words of an item stand on the line of the first.
            let within = match index {
                0 => rest,
                _ => rest.lines().next().unwrap_or_default(),
            };
            let at = within
                .find(word)
                .unwrap_or_else(|| panic!("no {word:?} of {words:?} in its place:\n{text}"));
            rest = &rest[at + word.len()..];
        }
    }
}

fn a_controller_is_described(k: &Kubectl, node: &str) {
    let labels = json!({"app": "agnhost", "role": "primary"});
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "agnhost-primary", "labels": labels},
        "spec": {"replicas": 1, "selector": labels, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "agnhost-primary", "image": "agnhost:1",
                "ports": [{"name": "agnhost-server", "containerPort": 6379}]}]}}}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "agnhost-primary", "labels": labels},
        "spec": {"ports": [{"port": 6379, "targetPort": "agnhost-server"}], "selector": labels}});
    for object in [&controller, &service] {
        k.ok_with("create -f -", &object.to_string());
    }
    let ready = "get rc agnhost-primary -o jsonpath={.status.readyReplicas}";
    k.until(ready, |out| out == "1");
    let pods = k.ok("get pods -l app=agnhost -o jsonpath={.items[*].metadata.name}");
    let namespace = k.ok(&format!(
        "get pod {pods} -o jsonpath={{.metadata.namespace}}"
    ));
    in_order(
        &k.ok(&format!("describe pod {pods}")),
        &[
            &["Name:", "agnhost-primary-"],
            &["Namespace:", &namespace],
            &["Node:", node],
            &["Labels:", "app=agnhost"],
            &["role=primary"],
            &["Annotations:"],
            &["Status:", "Running"],
            &["IP:"],
            &["Controlled By:", "ReplicationController/agnhost-primary"],
            &["Image:", "agnhost:1"],
            &["State:", "Running"],
            &["QoS Class:", "BestEffort"],
        ],
    );
    in_order(
        &k.ok("describe rc agnhost-primary"),
        &[
            &["Name:", "agnhost-primary"],
            &["Namespace:", &namespace],
            &["Selector:", "app=agnhost,role=primary"],
            &["Labels:", "app=agnhost"],
            &["role=primary"],
            &["Annotations:"],
            &["Replicas:", "1 current", "1 desired"],
            &[
                "Pods Status:",
                "1 Running",
                "0 Waiting",
                "0 Succeeded",
                "0 Failed",
            ],
            &["Pod Template:"],
            &["Image:", "agnhost:1"],
            &["Events:"],
        ],
    );
    k.until("describe service agnhost-primary", |out| {
        out.contains(":6379") && out.contains("Endpoints:")
    });
    in_order(
        &k.ok("describe service agnhost-primary"),
        &[
            &["Name:", "agnhost-primary"],
            &["Namespace:", &namespace],
            &["Labels:", "app=agnhost"],
            &["role=primary"],
            &["Annotations:"],
            &["Selector:", "app=agnhost,role=primary"],
            &["Type:", "ClusterIP"],
            &["IP:"],
            &["Port:", "<unset>", "6379/TCP"],
            &["TargetPort:", "agnhost-server/TCP"],
            &["Endpoints:", ":6379"],
            &["Session Affinity:", "None"],
        ],
    );
    in_order(
        &k.ok(&format!("describe node {node}")),
        &[
            &["Name:", node],
            &["Labels:"],
            &["Annotations:"],
            &["CreationTimestamp:"],
            &["Conditions:"],
            &[
                "Type",
                "Status",
                "LastHeartbeatTime",
                "LastTransitionTime",
                "Reason",
                "Message",
            ],
            &["Addresses:"],
            &["Capacity:"],
            &["Kernel Version:"],
            &["OS Image:"],
            &["Container Runtime Version:"],
            &["Kubelet Version:"],
        ],
    );
    in_order(
        &k.ok(&format!("describe namespace {namespace}")),
        &[
            &["Name:", &namespace],
            &["Labels:"],
            &["Annotations:"],
            &["Status:", "Active"],
        ],
    );

    k.ok(&format!(
        r#"patch pod {pods} -p '{{"metadata": {{"annotations": {{"x": "y"}}}}}}'"#
    ));
    assert_eq!(
        k.ok("get pods -l app=agnhost -o jsonpath={.items[*].metadata.annotations.x}"),
        "y"
    );
    k.ok("delete rc,service agnhost-primary");
    k.until("get pods -l app=agnhost -o name", str::is_empty);
}
