//! Members die. Whoever talks to the others goes on; nothing acknowledged is lost; containers are not touched.

use crate::cluster::{Cluster, Runtime};
use crate::tools::{Kubectl, SOON, have, wait_for};
use std::time::Instant;

/// Creates a ConfigMap, again and again until it is acknowledged.
fn create(k: &Kubectl, name: &str) {
    wait_for(format!("configmap {name}"), SOON, || {
        let said = k.run(&format!("create configmap {name} --request-timeout=10s"));
        // An earlier attempt whose answer was lost may have succeeded.
        if said.success || said.stderr.contains("AlreadyExists") {
            Ok(())
        } else {
            Err(said.to_string())
        }
    });
}

/// Uids and restart counts of all pods.
fn pods(k: &Kubectl) -> String {
    k.ok("get pods -o jsonpath='{range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}'")
}

#[test]
fn any_member_may_be_killed() {
    if !have("kubectl") {
        return;
    }
    let cluster = Cluster::start(3, Runtime::Hollow);
    let k = cluster.kubectl();
    k.ok("create deployment web --image=web:1 --replicas=3");
    k.ok("rollout status deployment/web --timeout=90s");
    let before = pods(&k);

    // Each member in turn, so the leader and a follower are certainly among them.
    for killed in 1..=3 {
        let (near, far) = (killed % 3 + 1, (killed + 1) % 3 + 1);
        let watching = cluster
            .kubectl_through(near)
            .follow("get configmaps -w -o name");
        create(&cluster.kubectl_through(near), &format!("before-{killed}"));
        watching.line("the watch", |line| {
            line.ends_with(&format!("/before-{killed}"))
        });

        cluster.kill(killed);
        let began = Instant::now();
        create(&cluster.kubectl_through(near), &format!("during-{killed}"));
        eprintln!(
            "member {killed} killed: the next write took {:.1} s",
            began.elapsed().as_secs_f32()
        );
        create(&cluster.kubectl_through(far), &format!("through-{killed}"));
        watching.line("the watch to go on", |line| {
            line.ends_with(&format!("/during-{killed}"))
        });
        watching.line("the watch to go on", |line| {
            line.ends_with(&format!("/through-{killed}"))
        });
        let through = |member| cluster.kubectl_through(member).ok("get configmaps -o name");
        assert_eq!(through(near), through(far));

        let said = cluster.up();
        assert!(said.success, "{said}");
        let back = cluster.kubectl_through(killed);
        let caught_up = back.ok("get configmaps -o name");
        assert!(
            caught_up.contains(&format!("configmap/through-{killed}")),
            "{caught_up}"
        );
    }
    assert_eq!(pods(&k), before, "pods were touched");

    // Work goes on: a controller and the scheduler lead somewhere.
    k.ok("scale deployment/web --replicas=4");
    k.until(
        "get deployment web -o jsonpath={.status.readyReplicas}",
        |out| out == "4",
    );
}

#[test]
fn all_members_may_be_killed() {
    if !have("kubectl") {
        return;
    }
    let cluster = Cluster::start(3, Runtime::Hollow);
    let k = cluster.kubectl();
    for index in 0..10 {
        k.ok(&format!("create configmap kept-{index}"));
    }
    k.ok("run ngx --image=nginx:1");
    k.ok("wait --for=condition=Ready pod/ngx --timeout=60s");
    let (maps, pods) = (k.ok("get configmaps -o name"), pods(&k));
    (1..=3).for_each(|member| cluster.kill(member));
    let said = cluster.up();
    assert!(said.success, "{said}");
    for member in 1..=3 {
        assert_eq!(
            cluster.kubectl_through(member).ok("get configmaps -o name"),
            maps
        );
    }
    assert_eq!(self::pods(&k), pods);
    k.ok("run second --image=nginx:1");
    k.ok("wait --for=condition=Ready pod/second --timeout=90s");
}
