//! `kontiki up`, `status`, `down` and `reset`, and what they say when something is in the way.

use crate::cluster::{Cluster, Runtime};
use crate::tools::have;
use std::net::TcpListener;

#[test]
fn up_again_changes_nothing_and_down_keeps_the_data() {
    if !have("kubectl") {
        return;
    }
    let cluster = Cluster::prepare(3, Runtime::Hollow);
    let first = cluster.up();
    assert!(first.success, "{first}");
    let pids: Vec<u32> = (1..=3).map(|member| cluster.pid(member)).collect();
    assert!(
        first.stdout.contains(&format!(
            "export KUBECONFIG={}",
            cluster.kubeconfig().display()
        )),
        "{first}"
    );

    // The printed curl line works as printed.
    let curl = first
        .stdout
        .lines()
        .find(|line| line.trim().starts_with("curl "))
        .expect("a curl line")
        .trim();
    let answer = std::process::Command::new("sh")
        .args(["-c", &format!("{curl} --silent")])
        .output()
        .expect("sh runs");
    assert!(
        String::from_utf8_lossy(&answer.stdout).contains("NamespaceList"),
        "{answer:?}"
    );

    let second = cluster.up();
    assert!(
        second.success && second.stdout.contains("runs already"),
        "{second}"
    );
    let without_state = |text: &str| text.lines().skip(1).map(str::to_string).collect::<Vec<_>>();
    assert_eq!(without_state(&first.stdout), without_state(&second.stdout));
    assert_eq!(
        pids,
        (1..=3)
            .map(|member| cluster.pid(member))
            .collect::<Vec<_>>()
    );
    for pid in pids {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).expect("the process runs");
        assert!(
            line.starts_with(b"kontiki\0server\0"),
            "{}",
            String::from_utf8_lossy(&line)
        );
    }

    let status = cluster.kontiki(&["status"]);
    assert!(
        status.success && status.stdout.matches("ready (pid").count() == 3,
        "{status}"
    );
    cluster.kubectl().ok("create configmap kept");
    let down = cluster.kontiki(&["down"]);
    assert!(down.success, "{down}");
    assert!(!cluster.kontiki(&["status"]).success);
    let third = cluster.up();
    assert!(third.success, "{third}");
    cluster.kubectl().ok("get configmap kept");
}

#[test]
fn a_port_in_use_is_named() {
    let cluster = Cluster::prepare(1, Runtime::Hollow);
    let _taken = TcpListener::bind(("0.0.0.0", cluster.api_port())).expect("the port was free");
    let said = cluster.up();
    assert!(!said.success, "{said}");
    assert!(
        said.stderr
            .contains(&format!("port {}", cluster.api_port()))
            && said.stderr.contains("is in use"),
        "{said}"
    );
}
