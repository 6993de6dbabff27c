//! `kontiki up`, `status`, `down` and `reset`, and what they say when something is in the way.

use crate::cluster::{Cluster, Runtime};
use crate::tools::{SOON, have, run, wait_for};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

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

    etcdctl_works_as_printed(&first.stdout);

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
    assert_eq!(status.stdout.matches(", leads").count(), 1, "{status}");
    cluster.kubectl().ok("create configmap kept");
    let began = std::time::Instant::now();
    let down = cluster.kontiki(&["down"]);
    assert!(down.success, "{down}");
    eprintln!("down took {:.1} s", began.elapsed().as_secs_f32());
    assert!(!cluster.kontiki(&["status"]).success);
    let third = cluster.up();
    assert!(third.success, "{third}");
    cluster.kubectl().ok("get configmap kept");
}

/// The printed line, word by word, and what else etcdctl finds out about the cluster through it.
fn etcdctl_works_as_printed(said: &str) {
    let line = said
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("ETCDCTL_API=3 etcdctl "));
    let line = line.expect("an etcdctl line");
    if !have("etcdctl") {
        return;
    }
    let etcdctl = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        let said = run(command, "");
        assert!(said.success, "{said}");
        said.stdout
    };
    // The urls of the others come through the membership, a moment after a member has started.
    let (front, _) = line.split_once(" --endpoints=").expect("endpoints");
    let (_, urls) = line.split_once("--endpoints=").expect("endpoints");
    let (urls, rest) = urls.split_once(' ').expect("more follows");
    let urls: Vec<&str> = urls.split(',').collect();
    assert_eq!(urls.len(), 3, "{line}");
    wait_for("client urls of all members", SOON, || {
        for at in &urls {
            let list = etcdctl(&format!("{front} --endpoints={at} {rest}"));
            let all = urls.iter().all(|url| list.contains(url));
            if !all || list.matches("started").count() != 3 {
                return Err(list);
            }
        }
        Ok(())
    });
    assert_eq!(etcdctl(line).lines().count(), 3);
    let status = line.replace("member list", "endpoint status --cluster");
    let status = etcdctl(&status);
    assert_eq!(status.lines().count(), 3, "{status}");
    assert_eq!(status.matches(", true, false, ").count(), 1, "{status}");
    let health = etcdctl(&line.replace("member list", "endpoint health --cluster 2>&1"));
    assert_eq!(health.matches("is healthy").count(), 3, "{health}");
}

#[test]
fn a_single_member_is_one_process() {
    let cluster = Cluster::prepare(1, Runtime::Hollow);
    for port in cluster.ports() {
        let _taken = TcpListener::bind(("0.0.0.0", port)).expect("the port was free");
        let said = cluster.up();
        assert!(!said.success, "{said}");
        assert!(
            said.stderr.contains(&format!("port {port} ")) && said.stderr.contains("is in use"),
            "{said}"
        );
    }
    let said = cluster.up();
    assert!(
        said.success && said.stdout.contains("is ready: one member"),
        "{said}"
    );
    let status = cluster.kontiki(&["status"]);
    assert!(
        status.success && status.stdout.contains("running (pid"),
        "{status}"
    );
    assert_eq!(
        status.stdout.matches(&cluster.pid(1).to_string()).count(),
        2,
        "member and node are one process: {status}"
    );
    // Flags that contradict what is there change nothing, and say so.
    let other = cluster.kontiki(&["up", "--node-name", "other"]);
    assert!(
        !other.success && other.stderr.contains("has --node-name"),
        "{other}"
    );
    let same = cluster.kontiki(&["up"]);
    assert!(
        same.success && same.stdout.contains("runs already"),
        "{same}"
    );

    // What is kept from a former cluster is not taken for the new one's.
    let kept = tempfile::tempdir().expect("a temporary directory");
    let former = kept.path().join("data");
    copy(&cluster.data(1), &former);
    let reset = cluster.kontiki(&["reset"]);
    assert!(reset.success && !cluster.home().exists(), "{reset}");
    let said = cluster.up();
    assert!(said.success, "{said}");
    cluster.terminate(1);
    std::fs::remove_dir_all(cluster.data(1)).expect("removed");
    copy(&former, &cluster.data(1));
    let said = cluster.up();
    assert!(
        !said.success
            && said
                .stderr
                .contains("point this member at its own directory"),
        "{said}"
    );
}

/// What is done to a member's data, and words of what the member then says.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path), &'a [&'a str]);

#[test]
fn a_member_refuses_data_that_is_not_its_own_or_damaged() {
    if !have("kubectl") {
        return;
    }
    let cluster = Cluster::start(3, Runtime::Hollow);
    cluster.kubectl().ok("create configmap kept");
    cluster.terminate(1);
    let data = cluster.data(1);
    let intact = data.with_file_name("intact");
    std::fs::rename(&data, &intact).expect("the data can be moved");
    let refuses = |name: &str, words: &[&str]| {
        let said = cluster.up();
        let last = said.stderr.lines().last().unwrap_or_default();
        assert!(!said.success, "{name}: {said}");
        for word in words {
            assert!(last.contains(word), "{name}, {word:?}: {said}");
        }
    };

    let damages: [Damage; 6] = [
        (
            "another member's",
            &|data| {
                std::fs::copy(cluster.data(2).join("identity"), data.join("identity"))
                    .expect("a copy");
            },
            &[
                "belongs to member",
                "point this member at its own directory",
            ],
        ),
        (
            "a flipped bit",
            &|data| flip(&newest_log(data)),
            &["the log is damaged", "Nothing was changed"],
        ),
        (
            "cut in half",
            &|data| cut(&newest_log(data)),
            &["the log is damaged", "Nothing was changed"],
        ),
        (
            "no identity",
            &|data| std::fs::remove_file(data.join("identity")).expect("removed"),
            &["holds data but no identity file"],
        ),
        (
            "a log that is gone",
            &|data| std::fs::remove_dir_all(data.join("wal")).expect("removed"),
            &["the log is damaged"],
        ),
        (
            "all data gone",
            &|data| {
                std::fs::remove_dir_all(data).expect("removed");
            },
            &["under a new id"],
        ),
    ];
    for (name, damage, words) in damages {
        copy(&intact, &data);
        damage(&data);
        refuses(name, words);
        // A refusal leaves everything as it was: for a look, or for another attempt.
        refuses(name, words);
        std::fs::remove_dir_all(&data).expect("removed");
    }
    for (name, options, words) in [
        ("read-only", "ro", "mount it writable"),
        ("full", "size=16k", "the disk is full: make room"),
    ] {
        std::fs::create_dir(&data).expect("a directory");
        if let Some(_mount) = Mount::make(&data, options) {
            refuses(name, &[words]);
        }
        std::fs::remove_dir_all(&data).expect("removed");
    }

    // With its own data again it goes on as if nothing had been.
    std::fs::rename(&intact, &data).expect("the data can be moved");
    let said = cluster.up();
    assert!(said.success, "{said}");
    cluster.kubectl_through(1).ok("get configmap kept");
}

fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    let said = run(command, "");
    assert!(said.success, "{said}");
}

/// The segment that the last writes went to: they are numbered.
fn newest_log(data: &Path) -> PathBuf {
    let files = std::fs::read_dir(data.join("wal")).expect("a log");
    let logs = files
        .map(|file| file.expect("a file").path())
        .filter(|file| file.extension().is_some_and(|kind| kind == "seg"));
    logs.max().expect("a segment")
}

/// In the middle of what was written; the rest of a segment is zeros.
fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).expect("it can be read");
    let written = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("something");
    let middle = written / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(file, bytes).expect("it can be written");
}

fn cut(file: &Path) {
    let bytes = std::fs::read(file).expect("it can be read");
    std::fs::write(file, &bytes[..bytes.len() / 2]).expect("it can be written");
}

/// A file system in memory. Taken away when dropped.
struct Mount(PathBuf);

impl Mount {
    /// None, and says so, where this user may not mount.
    fn make(at: &Path, options: &str) -> Option<Mount> {
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", options, "kontiki-it"])
            .arg(at);
        let said = run(command, "");
        if !said.success {
            eprintln!("SKIPPED: no file system can be mounted here: {said}");
            return None;
        }
        Some(Mount(at.to_path_buf()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}
