//! Members die. Whoever talks to the others goes on; nothing acknowledged is lost; containers are not touched.

use crate::cluster::{Cluster, Runtime};
use crate::tools::{Kubectl, SOON, have, wait_for};
use crate::writer::Writer;
use std::cell::RefCell;
use std::time::Instant;

/// Who leads is told to stop, as a supervisor does. It has handed over before it ends, and whoever writes through the
/// others sees a short pause, not an election.
#[test]
fn a_leader_that_is_stopped_hands_over_first() {
    let rounds =
        std::env::var("KONTIKI_IT_ROUNDS").map_or(2, |rounds| rounds.parse().expect("a number"));
    let cluster = Cluster::start(3, Runtime::Hollow);
    let mut gaps = Vec::new();
    for round in 0..rounds {
        let leader = leader(&cluster);
        let (next, last) = (leader % 3 + 1, (leader + 1) % 3 + 1);
        let writer = Writer::start(&cluster, &format!("/round-{round}/"), &[next]);
        writer.some_more(50);
        let said_before = cluster.log(leader).len();
        cluster.terminate(leader);
        writer.some_more(50);
        let written = writer.finish();
        gaps.push(written.gap);
        written.check(&cluster, next);
        written.check(&cluster, last);
        let log = cluster.log(leader);
        let said = log.get(said_before..).unwrap_or_default();
        let at = |words: &[&str]| {
            let mut lines = said.lines();
            lines.position(|line| words.iter().all(|word| line.contains(word)))
        };
        let stopped = at(&["stopped"]).unwrap_or_else(|| panic!("not stopped in order: {said}"));
        let mut moved = [next, last].map(|other| {
            let id = cluster.plan()["members"][other - 1]["id"].as_u64();
            at(&["leadership", &format!("{:016x}", id.expect("an id"))])
        });
        moved.sort();
        assert!(
            moved[1].is_some_and(|moved| moved < stopped),
            "it did not hand over: {said}"
        );
        let said = cluster.up();
        assert!(said.success, "{said}");
    }
    gaps.sort();
    eprintln!(
        "write gaps when a leader is stopped: {gaps:?}, median {:?}",
        gaps[gaps.len() / 2]
    );
}

/// The member that leads, counted from 1.
fn leader(cluster: &Cluster) -> usize {
    wait_for("a leader", SOON, || {
        let said = cluster.kontiki(&["store", "status", "-o", "json"]);
        let rows: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let mut rows = rows.as_array().into_iter().flatten();
        let leader = rows.find(|row| row["role"] == "leader");
        let name = leader.and_then(|row| row["name"].as_str()?.strip_prefix('m')?.parse().ok());
        name.ok_or_else(|| said.to_string())
    })
}

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
fn members_may_be_killed() {
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
        a_member_dies(&cluster, killed);
    }
    assert_eq!(pods(&k), before, "pods were touched");
    // Work goes on: a controller and the scheduler lead somewhere.
    k.ok("scale deployment/web --replicas=4");
    k.until(
        "get deployment web -o jsonpath={.status.readyReplicas}",
        |out| out == "4",
    );
    all_members_die(&cluster);
}

/// One client writes through both other members while another watches through one of them. The watch shows every
/// write once and in order: what happened before, during and after the election.
fn a_member_dies(cluster: &Cluster, killed: usize) {
    let (near, far) = (killed % 3 + 1, (killed + 1) % 3 + 1);
    let (near_k, far_k) = (cluster.kubectl_through(near), cluster.kubectl_through(far));
    let watching = near_k.follow("get configmaps -w -o name");
    // The list has been read; the watch follows it without a gap, or this test fails.
    watching.line("the list", |line| line.ends_with("/kube-root-ca.crt"));

    let written = RefCell::new(Vec::new());
    let write = |k: &Kubectl, name: String| {
        create(k, &name);
        written.borrow_mut().push(format!("configmap/{name}"));
    };
    write(&near_k, format!("dies-{killed}-before"));
    write(&far_k, format!("dies-{killed}-just-before"));
    cluster.kill(killed);
    let began = Instant::now();
    write(&near_k, format!("dies-{killed}-during"));
    eprintln!(
        "member {killed} killed: the next write took {:.1} s",
        began.elapsed().as_secs_f32()
    );
    for index in 0..3 {
        write(&far_k, format!("dies-{killed}-far-{index}"));
        write(&near_k, format!("dies-{killed}-near-{index}"));
    }
    let through = |k: &Kubectl| k.ok("get configmaps -o name");
    assert_eq!(through(&near_k), through(&far_k));

    let said = cluster.up();
    assert!(said.success, "{said}");
    let caught_up = through(&cluster.kubectl_through(killed));
    for name in written.borrow().iter() {
        assert!(caught_up.contains(name.as_str()), "{name}: {caught_up}");
    }
    write(
        &cluster.kubectl_through(killed),
        format!("dies-{killed}-last"),
    );
    let last = format!("configmap/dies-{killed}-last");
    let mut seen = watching.lines_until("the last write", |line| line == last);
    // The list before it showed what earlier rounds wrote.
    seen.retain(|line| line.contains(&format!("/dies-{killed}-")));
    assert_eq!(
        seen,
        written.take(),
        "through member {near}, with {killed} killed"
    );
}

fn all_members_die(cluster: &Cluster) {
    let k = cluster.kubectl();
    for index in 0..5 {
        k.ok(&format!("create configmap kept-{index}"));
    }
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
    k.ok("run later --image=nginx:1");
    k.ok("wait --for=condition=Ready pod/later --timeout=90s");
}
