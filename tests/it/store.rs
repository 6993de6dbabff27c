//! The store as an operator has it: looked at, backed up, restored, and with members that come and go.

use crate::cluster::{Cluster, Runtime};
use crate::tools::{SOON, have, wait_for};
use crate::writer::{self, Writer};
use serde_json::Value;

/// `kontiki store status` once all members are well, as they are a moment after a change.
fn status_when_well(cluster: &Cluster, members: usize) -> Vec<Value> {
    wait_for("all members well", SOON, || {
        let said = cluster.kontiki(&["store", "status", "-o", "json"]);
        let rows: Vec<Value> = serde_json::from_str(&said.stdout).unwrap_or_default();
        match said.success && rows.len() == members {
            true => Ok(rows),
            false => Err(said.to_string()),
        }
    })
}

#[test]
fn the_store_can_be_looked_at_and_backed_up_while_it_runs() {
    let cluster = Cluster::start(3, Runtime::Hollow);
    let rows = status_when_well(&cluster, 3);
    let roles = |role: &str| rows.iter().filter(|row| row["role"] == role).count();
    assert_eq!((roles("leader"), roles("voter")), (1, 2), "{rows:?}");
    for row in &rows {
        assert!(row["lag"].as_u64() < Some(1000), "{row}");
        assert!(row["size_bytes"].as_u64() > Some(0), "{row}");
        assert!(row["compact_revision"].is_u64(), "{row}");
        assert!(row["disk_free_bytes"].as_u64() > Some(0), "{row}");
    }

    history_of_a_key(&cluster);

    // Writes go on while a copy is made, and it is one moment.
    let writer = Writer::start(&cluster, "/load/", &[1, 2, 3]);
    writer.some_more(200);
    let file = cluster.home().join("copy");
    let file = file.to_str().expect("a path");
    let saved = cluster.kontiki(&["store", "snapshot", "save", file]);
    assert!(saved.success, "{saved}");
    writer.some_more(20);
    let written = writer.finish();
    written.check(&cluster, 1);
    let contents = cluster.store_json(&["snapshot", "status", file]);
    assert!(contents["keys"].as_u64() > Some(200), "{contents}");
    assert!(
        saved
            .stdout
            .contains(contents["sha256"].as_str().expect("a hash"))
    );
    let again = cluster.kontiki(&["store", "snapshot", "save", file]);
    assert!(
        !again.success && again.stderr.contains("is there already"),
        "{again}"
    );
    let mut bytes = std::fs::read(file).expect("the copy");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).expect("written");
    let damaged = cluster.kontiki(&["store", "snapshot", "status", file]);
    assert!(!damaged.success, "{damaged}");

    // Without a quorum it is still said who is there and who is not.
    cluster.kill(2);
    cluster.kill(3);
    let said = wait_for("the loss is noticed", SOON, || {
        let said = cluster.kontiki(&["store", "status"]);
        match said.stdout.matches("does not answer").count() {
            2 if said.stdout.contains("no leader") => Ok(said),
            _ => Err(said.to_string()),
        }
    });
    assert!(
        !said.success && said.stderr.contains("3 of 3 members"),
        "{said}"
    );
    let url = format!("{}/metrics", cluster.etcd_url(1));
    if have("curl") {
        wait_for("the alert that there is no leader", SOON, || {
            let said = cluster.curl(&url);
            match said.stdout.contains("\netcd_server_has_leader 0\n") {
                true => Ok(()),
                false => Err(said.to_string()),
            }
        });
    }

    // Nor are the figures wrong after a start that finds nobody.
    let before = figures(&cluster).expect("it answers");
    cluster.restart_alone(1);
    let after = wait_for("it answers", SOON, || {
        figures(&cluster).ok_or("it does not answer yet".to_string())
    });
    assert_eq!(after[..2], before[..2], "{before:?} {after:?}");
    assert!(after[1] > 0 && after[2] > 0, "{after:?}");
}

/// Revision, compacted revision and size, as `status` has them of the first member.
fn figures(cluster: &Cluster) -> Option<[i64; 3]> {
    let said = cluster.kontiki(&["store", "status", "-o", "json"]);
    let rows: Vec<Value> = serde_json::from_str(&said.stdout).ok()?;
    let first = rows.iter().find(|row| row["name"] == "m1")?;
    let figure = |name: &str| first[name].as_i64();
    Some([
        figure("revision")?,
        figure("compact_revision")?,
        figure("size_bytes")?,
    ])
}

fn history_of_a_key(cluster: &Cluster) {
    let put = |key: &str, value: &str| writer::put(cluster, 1, key, value);
    let first = put("/told/a", "one");
    let second = put("/told/a", "two");
    put("/told/b", "other");
    let said = cluster.etcdctl(1, &["del", "/told/a"]);
    assert!(said.success, "{said}");
    let last = put("/told/a", "three");

    let history = cluster.store_json(&["history", "/told/a"]);
    let kinds = |history: &Value| -> Vec<(String, i64)> {
        let revisions = history["revisions"].as_array().expect("a list").iter();
        revisions
            .map(|revision| {
                let kind = revision["kind"].as_str().expect("a kind");
                (
                    kind.to_string(),
                    revision["mod_revision"].as_i64().expect("a number"),
                )
            })
            .collect()
    };
    let expected = |list: &[(&str, i64)]| -> Vec<(String, i64)> {
        let list = list.iter();
        list.map(|(kind, revision)| (kind.to_string(), *revision))
            .collect()
    };
    let all = [
        ("create", first),
        ("update", second),
        ("delete", last - 1),
        ("create", last),
    ];
    assert_eq!(kinds(&history), expected(&all), "{history}");
    assert_eq!(history["revisions"][1]["value"], "two");

    // As it was, by time: the newest revision of the same millisecond counts.
    let time = |place: usize| {
        history["revisions"][place]["time"]
            .as_str()
            .expect("a time")
    };
    let same = (0..all.len()).filter(|place| time(*place) == time(1)).max();
    let at = cluster.kontiki(&["store", "get", "/told/a", "--at", time(1)]);
    let values = ["one\n", "two\n", "", "three\n"];
    assert_eq!(at.stdout, values[same.expect("itself")], "{at}");
    let at = cluster.kontiki(&["store", "get", "/told/a", "--at", time(3)]);
    assert_eq!(at.stdout, "three\n");
    let before = cluster.kontiki(&["store", "get", "/told/a", "--at", "1d"]);
    assert!(before.stderr.contains("there is no key"), "{before}");

    // And by revision.
    let get =
        |arguments: &[&str]| cluster.kontiki(&[&["store", "get", "/told/a"], arguments].concat());
    assert_eq!(get(&["--rev", &second.to_string()]).stdout, "two\n");
    assert_eq!(get(&[]).stdout, "three\n");
    let gone = get(&["--rev", &(last - 1).to_string()]);
    assert!(
        !gone.success && gone.stderr.contains("there is no key"),
        "{gone}"
    );

    // After a compaction: what it was then, and what came after.
    let said = cluster.etcdctl(2, &["compact", &(second + 1).to_string()]);
    assert!(said.success, "{said}");
    let history = cluster.store_json(&["history", "/told/a"]);
    assert_eq!(history["retained_from"], second + 1);
    assert_eq!(kinds(&history), expected(&all[1..]), "{history}");
    let begins = format!("history begins at revision {}, made at 20", second + 1);
    for early in [["--rev", &first.to_string()], ["--at", "1d"]] {
        let compacted = get(&early);
        assert!(
            !compacted.success
                && compacted.stderr.contains("has been compacted")
                && compacted.stderr.contains(&begins),
            "{compacted}"
        );
    }
    let to_come = get(&["--at", "2999-01-01T00:00:00Z"]);
    assert!(
        !to_come.success && to_come.stderr.contains("is yet to come"),
        "{to_come}"
    );
    let both = cluster.kontiki(&["store", "history", "/told/", "--prefix", "--limit", "2"]);
    assert!(both.success && both.stdout.lines().count() == 3, "{both}");
}

/// The names of all members, as the home has them.
fn names(cluster: &Cluster) -> Vec<String> {
    let members = cluster.plan()["members"].as_array().cloned();
    let members = members.unwrap_or_default().into_iter();
    members
        .map(|member| member["name"].as_str().unwrap_or_default().to_string())
        .collect()
}

#[test]
fn a_cluster_grows_and_shrinks_under_writes() {
    let cluster = Cluster::prepare(1, Runtime::Hollow);
    let said = cluster.up();
    assert!(said.success, "{said}");
    let writer = Writer::start(&cluster, "/load/", &[1]);
    writer.some_more(20);
    for members in [3, 5, 3, 1] {
        // Where the lead is does not matter: here it is with the last one, which goes first.
        if members < 4 {
            let last = names(&cluster).pop().expect("a member");
            let moved = cluster.kontiki(&["store", "move-leader", &last]);
            assert!(moved.success, "{moved}");
        }
        let said = cluster.kontiki(&["up", "--members", &members.to_string()]);
        assert!(said.success, "{said}");
        assert_eq!(names(&cluster).len(), members, "{said}");
        let rows = status_when_well(&cluster, members);
        assert!(rows.iter().all(|row| row["role"] != "learner"), "{rows:?}");
        writer.some_more(20);
        let same = cluster.kontiki(&["up"]);
        assert!(
            same.success && same.stdout.contains("runs already"),
            "{same}"
        );
    }
    let written = writer.finish();
    written.check(&cluster, 1);
    assert!(
        !cluster.home().join("m2").exists(),
        "what left took all with it"
    );
    let status = cluster.kontiki(&["status"]);
    assert!(status.success, "{status}");
}

#[test]
fn a_dead_member_is_replaced_by_one_command() {
    let cluster = Cluster::start(3, Runtime::Hollow);
    let writer = Writer::start(&cluster, "/load/", &[1, 3]);
    writer.some_more(20);
    let running = cluster.kontiki(&["store", "replace", "m2"]);
    assert!(
        !running.success && running.stderr.contains("runs"),
        "{running}"
    );
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.data(2)).expect("removed");
    let lost = cluster.kontiki(&["up"]);
    assert!(
        !lost.success
            && lost.stderr.contains("under a new id")
            && lost.stdout.contains("store replace m2"),
        "{lost}"
    );
    let before = cluster.plan()["members"][1]["id"].clone();

    let said = cluster.kontiki(&["store", "replace", "m2"]);
    assert!(said.success, "{said}");
    assert_ne!(cluster.plan()["members"][1]["id"], before);
    let rows = status_when_well(&cluster, 3);
    assert!(rows.iter().all(|row| row["role"] != "learner"), "{rows:?}");
    writer.some_more(20);
    let written = writer.finish();
    written.check(&cluster, 2);
    // It counts: with another one gone there is a quorum, and with that one back as well.
    cluster.kill(1);
    let writer = Writer::start(&cluster, "/later/", &[2, 3]);
    writer.some_more(5);
    let up = cluster.kontiki(&["up"]);
    assert!(up.success, "{up}");
    writer.finish().check(&cluster, 1);

    // Not where those who remain are no quorum: nothing is changed then.
    cluster.kill(2);
    cluster.kill(3);
    let refused = cluster.kontiki(&["store", "replace", "m2"]);
    assert!(
        !refused.success && refused.stderr.contains("kontiki store recover"),
        "{refused}"
    );
    let up = cluster.kontiki(&["up"]);
    assert!(up.success, "{up}");
    status_when_well(&cluster, 3);

    // One that is removed by hand is not started again.
    let removed = cluster.kontiki(&["store", "member", "remove", "m3"]);
    assert!(
        removed.success && removed.stdout.contains("with its process and its data"),
        "{removed}"
    );
    assert_eq!(names(&cluster), ["m1", "m2"]);
    let up = cluster.kontiki(&["up"]);
    assert!(up.success, "{up}");
    assert!(!cluster.home().join("m3").exists(), "{up}");
    status_when_well(&cluster, 2);
}

#[test]
fn a_copy_becomes_a_new_cluster_whose_old_watchers_list_again() {
    let old = Cluster::start(1, Runtime::Hollow);
    old.kubectl().ok("create configmap kept --from-literal=a=b");
    let revision = writer::put(&old, 1, "/own/a", "1");
    writer::put(&old, 1, "/own/b", "2");
    let file = old.home().join("copy");
    let file = file.to_str().expect("a path");
    let saved = old.kontiki(&["store", "snapshot", "save", file]);
    assert!(saved.success, "{saved}");
    writer::put(&old, 1, "/own/after", "lost");

    let new = Cluster::prepare(3, Runtime::Hollow);
    let restore = || {
        let wishes = new.wishes();
        let mut words = vec!["store", "restore", file];
        words.extend(wishes.iter().map(String::as_str));
        new.kontiki(&words)
    };
    let said = restore();
    assert!(said.success, "{said}");
    let again = restore();
    assert!(
        !again.success && again.stderr.contains("not overwritten"),
        "{again}"
    );
    let up = new.kontiki(&["up"]);
    assert!(up.success, "{up}");
    let rows = status_when_well(&new, 3);
    for row in &rows {
        assert!(
            row["revision"].as_i64() > Some(revision + 1_000_000_000),
            "{row}"
        );
    }
    new.kubectl_through(2).ok("get configmap kept");
    for member in 1..=3 {
        let own = writer::list(&new, member, "/own/");
        let own: Vec<_> = own
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(own, [("/own/a", "1"), ("/own/b", "2")]);
    }
    if have("etcdctl") {
        let from = format!("--rev={revision}");
        let watch = new.etcdctl(1, &["watch", &from, "--prefix", "/own/"]);
        assert!(watch.to_string().contains("has been compacted"), "{watch}");
    }
    // It is a cluster like any other.
    new.kill(3);
    writer::put(&new, 1, "/own/c", "3");
    let up = new.kontiki(&["up"]);
    assert!(up.success, "{up}");
}

#[test]
fn a_lost_quorum_is_recovered_from_the_one_that_is_left() {
    let cluster = Cluster::start(3, Runtime::Hollow);
    cluster.kubectl().ok("create configmap kept");
    let writer = Writer::start(&cluster, "/load/", &[1, 2, 3]);
    writer.some_more(50);
    // All have all that is acknowledged when two are lost.
    let written = writer.finish();
    written.check(&cluster, 1);
    let before = status_when_well(&cluster, 3)[0]["revision"].as_i64();
    cluster.kill(2);
    cluster.kill(3);
    let running = cluster.kontiki(&["store", "recover"]);
    assert!(
        !running.success && running.stderr.contains("kontiki down"),
        "{running}"
    );
    let down = cluster.kontiki(&["down"]);
    assert!(down.success, "{down}");
    let quorum = cluster.kontiki(&["store", "recover"]);
    assert!(
        !quorum.success && quorum.stderr.contains("nothing is lost"),
        "{quorum}"
    );
    for member in [2, 3] {
        std::fs::remove_dir_all(cluster.data(member)).expect("removed");
    }
    let dry = cluster.kontiki(&["store", "recover", "--dry-run"]);
    assert!(
        dry.success && dry.stdout.contains("longest log is that of m1"),
        "{dry}"
    );

    let said = cluster.kontiki(&["store", "recover"]);
    assert!(said.success, "{said}");
    // As if it had been cut short between its two renames.
    let data = cluster.data(1);
    std::fs::rename(&data, data.with_file_name("data.recovering")).expect("renamed");
    let up = cluster.kontiki(&["up"]);
    assert!(!up.success && up.stderr.contains("was cut short"), "{up}");
    let said = cluster.kontiki(&["store", "recover"]);
    assert!(
        said.success && said.stdout.contains("is at its end"),
        "{said}"
    );
    let up = cluster.kontiki(&["up"]);
    assert!(up.success, "{up}");
    written.check(&cluster, 1);
    let rows = status_when_well(&cluster, 1);
    assert!(
        rows[0]["revision"].as_i64() > before.map(|it| it + 1_000_000_000),
        "{rows:?}"
    );
    cluster.kubectl().ok("get configmap kept");
    let up = cluster.kontiki(&["up", "--members", "3"]);
    assert!(up.success, "{up}");
    status_when_well(&cluster, 3);
    written.check(&cluster, 3);
    cluster.kill(1);
    writer::put(&cluster, 2, "/after", "1");
}
