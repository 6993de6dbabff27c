//! From a real etcd to this store, and a store whose users have to say who they are, by the commands of the guide.

use crate::cluster::{Cluster, Runtime};
use crate::etcd::Etcd;
use crate::tools::{Following, have, run};
use crate::writer;
use std::process::{Command, Stdio};

#[test]
fn what_etcdctl_has_saved_becomes_a_cluster() {
    if !have("etcd") || !have("etcdctl") {
        return;
    }
    let etcd = Etcd::start();
    for (key, value) in [("/a", "1"), ("/a", "2"), ("/b", "gone"), ("/c", "'b c'")] {
        etcd.etcdctl(&format!("put {key} {value}"));
    }
    etcd.etcdctl("del /b");
    let granted = etcd.etcdctl("lease grant 1000");
    let lease = granted.split_whitespace().nth(1).expect("an id");
    etcd.etcdctl(&format!("put /leased x --lease={lease}"));
    let (saved, copy) = (etcd.file("saved by etcdctl"), etcd.file("a copy"));
    etcd.etcdctl(&format!("snapshot save '{saved}'"));

    let new = Cluster::prepare(1, Runtime::Hollow);
    let import = |from: &str, to: &str| new.kontiki(&["store", "import", from, "--out", to]);
    // What is damaged leaves nothing behind.
    let damaged = etcd.file("damaged");
    let mut bytes = std::fs::read(&saved).expect("saved");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).expect("written");
    let said = import(&damaged, &copy);
    assert!(
        !said.success && said.stderr.contains("hash does not fit"),
        "{said}"
    );
    let partial = format!("{copy}.partial");
    assert!(!std::fs::exists(&copy).expect("a look") && !std::fs::exists(partial).expect("a look"));

    let said = import(&saved, &copy);
    assert!(said.success && said.stdout.contains("Imported"), "{said}");
    let again = import(&saved, &copy);
    assert!(
        !again.success && again.stderr.contains("is there already"),
        "{again}"
    );
    let contents = new.store_json(&["snapshot", "status", &copy]);
    let figures = ["keys", "leases", "revision"].map(|name| contents[name].as_i64());
    assert_eq!(figures, [Some(3), Some(1), Some(7)], "{contents}");

    // Left in the environment by what was done for one member of another cluster.
    let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
    command
        .args(["store", "restore", &copy])
        .env("KONTIKI_HOME", new.home());
    let left = [
        ("DATA_DIR", etcd.file("one")),
        ("MEMBER_ID", "1".into()),
        ("CLUSTER_ID", "1".into()),
    ];
    command.envs(left.map(|(name, value)| (format!("KONTIKI_{name}"), value)));
    command.env("KONTIKI_INITIAL_MEMBERS", "a=1@h:1");
    let both = run(command, "");
    assert!(
        !both.success && both.stderr.contains("Give --home or --data-dir"),
        "{both}"
    );
    let restore = |file: &str| {
        let wishes = new.wishes();
        let mut line = vec!["store", "restore", file];
        line.extend(wishes.iter().map(String::as_str));
        new.kontiki(&line)
    };
    let wrong = restore(&saved);
    assert!(
        !wrong.success && wrong.stderr.contains("kontiki store import"),
        "{wrong}"
    );
    let said = restore(&copy);
    assert!(said.success, "{said}");
    let up = new.kontiki(&["up"]);
    assert!(up.success, "{up}");
    assert_eq!(new.kontiki(&["store", "get", "/a"]).stdout, "2\n");
    assert_eq!(new.kontiki(&["store", "get", "/c"]).stdout, "b c\n");
    assert!(!new.kontiki(&["store", "get", "/b"]).success);
    let said = new.etcdctl(1, &["lease", "timetolive", lease, "--keys"]);
    assert!(
        said.stdout.contains("granted with TTL(1000s)") && said.stdout.contains("/leased"),
        "{said}"
    );
}

#[test]
fn a_running_etcd_is_mirrored_until_the_cut_over() {
    if !have("etcd") || !have("etcdctl") {
        return;
    }
    let etcd = Etcd::start();
    for number in 0..20 {
        etcd.etcdctl(&format!("put /app/{number:02} old"));
    }
    let cluster = Cluster::start(1, Runtime::Hollow);
    let from = etcd.url();
    let mirror = |more: &[&str]| {
        let line = ["store", "mirror", "--from", &from];
        [&line, more]
            .concat()
            .into_iter()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    let kontiki = |line: &[String]| {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        cluster.kontiki(&line)
    };
    // The API server's objects are there, and nobody has asked for them to be deleted.
    let refused = kontiki(&mirror(&[]));
    assert!(
        !refused.success && refused.stderr.contains("--overwrite"),
        "{refused}"
    );
    let nobody = cluster.kontiki(&["store", "mirror", "--from", "http://127.0.0.1:1"]);
    assert!(
        !nobody.success && nobody.stderr.contains("127.0.0.1:1"),
        "{nobody}"
    );

    let mut command = Command::new(env!("CARGO_BIN_EXE_kontiki"));
    command
        .args(mirror(&["--prefix", "/app/"]))
        .env("KONTIKI_HOME", cluster.home())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let following = Following::start(command);
    following.line("the copy", |line| {
        line.contains("all 20 keys are as they were")
    });
    etcd.etcdctl("put /app/00 new");
    etcd.etcdctl("del /app/01");
    crate::tools::wait_for("the changes", crate::tools::SOON, || {
        let here = writer::list(&cluster, 1, "/app/");
        match here.len() == 19 && here["/app/00"] == "new" {
            true => Ok(()),
            false => Err(format!("{here:?}")),
        }
    });
    // Killed.
    drop(following);
    etcd.etcdctl("put /app/new later");
    etcd.etcdctl("put /elsewhere x");
    let done = kontiki(&mirror(&["--prefix", "/app/", "--until-synced"]));
    assert!(
        done.success && done.stdout.contains("All 20 keys are here"),
        "{done}"
    );
    let here = writer::list(&cluster, 1, "/app/");
    assert_eq!(
        (here["/app/00"].as_str(), here["/app/new"].as_str()),
        ("new", "later")
    );
    assert!(writer::list(&cluster, 1, "/elsewhere").is_empty());
    cluster.kubectl().ok("get namespace default");
}

#[test]
fn a_store_with_users_is_operated_as_before() {
    if !have("etcdctl") {
        return;
    }
    let cluster = Cluster::start(3, Runtime::Hollow);
    writer::put(&cluster, 1, "/own/a", "1");
    for line in ["user add root:pw", "auth enable"] {
        let words: Vec<&str> = line.split(' ').collect();
        let said = cluster.etcdctl(1, &words);
        assert!(said.success, "{said}");
    }
    // Keys are of those who may read them; the rest needs the certificate alone.
    let password = cluster.home().join("a password");
    std::fs::write(&password, "pw\n").expect("written");
    let password = password.to_str().expect("a path");
    let denied = cluster.kontiki(&["store", "get", "/own/a"]);
    assert!(
        !denied.success && denied.stderr.contains("permission denied"),
        "{denied}"
    );
    let wrong = cluster.kontiki(&["store", "get", "/own/a", "--user", "root:no"]);
    assert!(
        !wrong.success && wrong.stderr.contains("authentication failed"),
        "{wrong}"
    );
    for said in [
        cluster.kontiki(&["store", "get", "/own/a", "--user", "root:pw"]),
        cluster.kontiki(&[
            "store",
            "--user",
            "root",
            "--password-file",
            password,
            "get",
            "/own/a",
        ]),
    ] {
        assert_eq!(
            (said.success, said.stdout.as_str()),
            (true, "1\n"),
            "{said}"
        );
    }
    for line in [
        "user add alice:apw --user=root:pw",
        "role add reads --user=root:pw",
        "role grant-permission reads --prefix=true read /own/ --user=root:pw",
        "user grant-role alice reads --user=root:pw",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let said = cluster.etcdctl(1, &words);
        assert!(said.success, "{said}");
    }
    let alice = |key| cluster.kontiki(&["store", "get", key, "--user", "alice:apw"]);
    assert_eq!(alice("/own/a").stdout, "1\n");
    let denied = alice("/registry/a");
    assert!(
        !denied.success && denied.stderr.contains("permission denied"),
        "{denied}"
    );
    let history = ["store", "history", "/own/a", "--user", "root:pw"];
    let history = cluster.kontiki(&history);
    assert!(
        history.success && history.stdout.contains("create"),
        "{history}"
    );

    let file = cluster.home().join("copy");
    let file = file.to_str().expect("a path");
    let lines: [&[&str]; 8] = [
        &["store", "status"],
        &["store", "status", "-o", "json"],
        &["store", "member", "list"],
        &["store", "snapshot", "save", file],
        &["store", "snapshot", "status", file],
        &["store", "move-leader", "m2"],
        &["up", "--members", "1"],
        &["up", "--members", "3"],
    ];
    for line in lines {
        let said = cluster.kontiki(line);
        assert!(said.success, "{said}");
    }
    cluster.kill(2);
    let said = cluster.kontiki(&["store", "replace", "m2"]);
    assert!(said.success, "{said}");
    // Users come with a copy.
    let new = Cluster::prepare(1, Runtime::Hollow);
    let wishes = new.wishes();
    let mut line = vec!["store", "restore", file];
    line.extend(wishes.iter().map(String::as_str));
    for line in [&line[..], &["up"]] {
        let said = new.kontiki(line);
        assert!(said.success, "{said}");
    }
    assert!(!new.kontiki(&["store", "get", "/own/a"]).success);
    let said = new.kontiki(&["store", "get", "/own/a", "--user", "root:pw"]);
    assert_eq!(said.stdout, "1\n", "{said}");
    cluster.kubectl().ok("get namespace default");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_trouble() {
    let cluster = Cluster::start(1, Runtime::Hollow);
    // More than a pipe holds.
    writer::put(&cluster, 1, "/own/large", &"x".repeat(300_000));
    let mut shell = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_kontiki");
    let line = format!("'{program}' store get / --prefix --values | head -c 1 >/dev/null");
    shell
        .args(["-c", &line])
        .env("KONTIKI_HOME", cluster.home());
    let said = run(shell, "");
    assert!(said.success && !said.stderr.contains("panic"), "{said}");
}
