//! A scheduler that is configured by a file, and `kontiki explain`.

use crate::cluster::{Cluster, Runtime};
use crate::tools::{SOON, Said, have, run, wait_for};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const CONFIG: &str = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: fuller
  plugins:
    score:
      disabled: [{name: '*'}]
      enabled: [{name: NodeResourcesFit, weight: 7}]
";

fn pod(name: &str, scheduler: &str, cpu: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  schedulerName: {scheduler}\n  containers:\n  \
         - name: c\n    image: pause\n    resources: {{requests: {{cpu: '{cpu}'}}}}\n"
    )
}

/// `kontiki up` with a scheduler that is configured by this file.
fn up(cluster: &Cluster, config: &Path) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
    command.arg("up").args(cluster.wishes());
    command.env("KONTIKI_HOME", cluster.home());
    command.env("KONTIKI_SCHEDULER_CONFIG", config);
    run(command, "")
}

#[test]
fn profiles_come_from_a_file_and_decisions_are_explained() {
    if !have("kubectl") {
        return;
    }
    let cluster = Cluster::prepare(1, Runtime::Hollow);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let wrong = file(
        "wrong",
        &CONFIG.replace("NodeResourcesFit", "NodeResourcesFat"),
    );
    let refused = up(&cluster, &wrong);
    assert!(!refused.success, "{refused}");
    assert!(
        refused.stderr.contains(
            "profiles[1].plugins.score.enabled[0]: Invalid value: \"NodeResourcesFat\": plugin \"NodeResourcesFat\" does not exist"
        ),
        "{refused}"
    );

    let config = file("config", CONFIG);
    let started = up(&cluster, &config);
    assert!(started.success, "{started}");
    let explain = |words: &[&str], input: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
        command.args(["explain", "pod"]).args(words);
        command.env("KUBECONFIG", cluster.kubeconfig());
        run(command, input)
    };
    let kubectl = cluster.kubectl();
    let pods = [
        pod("huge", "fuller", "1000"),
        pod("small", "fuller", "10m"),
        pod("stranger", "nobody", "10m"),
    ];
    wait_for("the pods to be made", SOON, || {
        let made = kubectl.run_with("apply -f -", &pods.join("---\n"));
        made.success.then_some(()).ok_or(made.to_string())
    });
    let why = "get pod huge -o jsonpath={.status.conditions[0].reason}";
    kubectl.until(why, |reason| reason == "Unschedulable");
    let node = "get pod small -o jsonpath={.spec.nodeName}";
    kubectl.until(node, |node| !node.is_empty());

    // One that has its node, as things were then.
    let config = config.to_str().unwrap();
    let json = |said: Said| -> Value {
        assert!(said.success, "{said}");
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let small = json(explain(
        &["small", "--scheduler-config", config, "-o", "json"],
        "",
    ));
    assert_eq!(small["best"], serde_json::json!([cluster.node]));
    assert_eq!(small["node"], *cluster.node);
    assert!(
        small["basis"]
            .as_str()
            .unwrap()
            .contains("right before the pod was bound"),
        "{small:#}"
    );
    let scores = small["nodes"][0]["scores"].as_array().unwrap();
    assert_eq!((scores.len(), &scores[0]["weight"]), (1, &7.into()));

    // One that waits, and with a node that would take it.
    let told = explain(&["huge", "--scheduler-config", config], "");
    assert!(
        told.stdout
            .contains("0/1 nodes are available: 1 Insufficient cpu."),
        "{told}"
    );
    let node = "kind: Node\nmetadata: {name: big}\nstatus: {capacity: {cpu: 2k, memory: 1Gi}}\n";
    let what_if = ["huge", "--scheduler-config", config, "--what-if", "-"];
    let told = explain(&what_if, node);
    assert!(told.stdout.contains("The best node is big."), "{told}");
    // One that is not there at all, and nothing is made of it.
    let told = explain(&["--what-if", "-"], &pod("new", "default-scheduler", "10m"));
    let best = format!("The best node is {}.", cluster.node);
    assert!(told.stdout.contains(&best), "{told}");
    assert!(!told.stdout.contains("would not take it"), "{told}");
    assert!(kubectl.fails("get pod new").contains("NotFound"));

    for (words, reason) in [
        (
            ["small", "-n", "other"],
            "there is no pod \"small\" in namespace \"other\"",
        ),
        (
            ["stranger", "-n", "default"],
            "none of the profiles: default-scheduler.",
        ),
        (
            ["small", "--kubeconfig", "/no/such"],
            "name a kubeconfig by --kubeconfig",
        ),
        (
            ["small", "--scheduler-config", "/no/such"],
            "--scheduler-config: cannot read /no/such",
        ),
    ] {
        let told = explain(&words, "");
        assert!(!told.success && told.stderr.contains(reason), "{told}");
    }
}
