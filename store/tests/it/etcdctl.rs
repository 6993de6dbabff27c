//! Forms of `etcdctl`'s commands, each against a real member. Those that operate a cluster are in `etcd_front.rs`, users
//! and roles in `etcd_auth.rs`, `make-mirror` in `from_etcd.rs`.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use crate::etcd_front::{Fronts, have_etcdctl};
use crate::harness::DEADLINE;

/// What is typed behind `etcdctl`, and what is printed.
type Case = (&'static str, &'static str);

impl Fronts {
    async fn all_print(&self, cases: &[Case]) {
        for (line, wanted) in cases {
            let printed = self.etcdctl(&words(line)).await;
            assert_eq!(printed, *wanted, "{line}");
        }
    }

    /// A command that is talked with.
    fn talk(&self, line: &str) -> Talk {
        let mut child = self
            .command(&self.endpoint(1), &words(line))
            .spawn()
            .unwrap();
        Talk {
            say: child.stdin.take().unwrap(),
            heard: BufReader::new(child.stdout.take().unwrap()).lines(),
            _child: child,
        }
    }
}

/// `''` is the empty word.
fn words(line: &str) -> Vec<&str> {
    let words = line.split_whitespace();
    words.map(|word| word.trim_matches('\'')).collect()
}

struct Talk {
    say: ChildStdin,
    heard: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Talk {
    async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.say.write_all(line.as_bytes()).await.unwrap();
    }

    /// The next line that is not empty.
    async fn hear(&mut self) -> String {
        loop {
            let line = tokio::time::timeout(DEADLINE, self.heard.next_line()).await;
            let line = line.expect("something is printed").unwrap();
            let line = line.expect("it goes on");
            if !line.is_empty() {
                return line;
            }
        }
    }

    async fn hears(&mut self, wanted: &[&str]) {
        for wanted in wanted {
            assert_eq!(self.hear().await, *wanted);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gets_puts_and_deletes_in_all_their_forms() {
    if !have_etcdctl() {
        return;
    }
    let fronts = Fronts::start(1).await;
    // Revisions 2 to 6; the values are in another order than the keys, and the versions, too.
    fronts
        .all_print(&[
            ("put a 3", "OK"),
            ("put b 1", "OK"),
            ("put c 2", "OK"),
            ("put c 2", "OK"),
            ("put b 1", "OK"),
            ("put c 2 --prev-kv", "OK\nc\n2"),
            ("get b", "b\n1"),
            ("get b c", "b\n1"),
            ("get a c", "a\n3\nb\n1"),
            ("get c a", ""),
            ("get b --from-key", "b\n1\nc\n2"),
            ("get '' --prefix", "a\n3\nb\n1\nc\n2"),
            ("get '' --from-key --limit=2", "a\n3\nb\n1"),
            ("get '' --prefix --keys-only", "a\n\nb\n\nc"),
            ("get '' --prefix --print-value-only", "3\n1\n2"),
            ("get b --rev=2", ""),
            ("get a --rev=2 --consistency=s", "a\n3"),
            ("get a --hex", "\\x61\n\\x33"),
        ])
        .await;
    let sorted: &[Case] = &[
        ("KEY --order=ASCEND", "312"),
        ("KEY --order=DESCEND", "213"),
        ("VALUE", "123"),
        ("VALUE --order=DESCEND", "321"),
        ("CREATE", "312"),
        ("CREATE --order=DESCEND", "213"),
        ("MODIFY", "312"),
        ("MODIFY --order=DESCEND", "213"),
        ("VERSION", "312"),
        ("VERSION --order=DESCEND --limit=1", "2"),
    ];
    for (by, wanted) in sorted {
        let sort = format!("--sort-by={by}");
        let mut line = vec!["get", "", "--prefix", "--print-value-only"];
        line.extend(sort.split(' '));
        let printed = fronts.etcdctl(&line).await;
        assert_eq!(printed.replace('\n', ""), *wanted, "{by}");
    }
    let json = fronts.etcdctl(&["get", "a", "-w=json"]).await;
    assert!(json.contains(r#""revision":7"#) && json.contains(r#""count":1"#));
    for format in ["fields", "protobuf", "table"] {
        let (_, text) = fronts
            .run(&fronts.endpoint(1), &["get", "a", "-w", format], "")
            .await;
        assert!(!text.is_empty(), "{format}");
    }
    let (good, text) = fronts
        .run(&fronts.endpoint(1), &["put", "in"], "typed")
        .await;
    assert!(good, "{text}");
    fronts
        .all_print(&[
            ("get in", "in\ntyped"),
            ("put in --ignore-value", "OK"),
            ("get in", "in\ntyped"),
            ("put in other --ignore-lease", "OK"),
            ("get in", "in\nother"),
            ("del in --prev-kv", "1\nin\nother"),
            ("del in", "0"),
            ("del b c", "1"),
            ("del c --from-key", "1"),
            ("del '' --prefix", "1"),
        ])
        .await;
    for (line, words) in [
        (vec!["put", "", "x"], "key is not provided"),
        (vec!["put", "none", "--ignore-value"], "key not found"),
        (
            vec!["put", "k", "v", "--lease=77"],
            "requested lease not found",
        ),
        (vec!["get", "a", "--rev=1000"], "is a future revision"),
        (vec!["compaction", "1000"], "is a future revision"),
        (vec!["lease", "revoke", "77"], "requested lease not found"),
    ] {
        let (good, text) = fronts.run(&fronts.endpoint(1), &line, "").await;
        assert!(!good && text.contains(words), "{line:?}: {text}");
    }
    let physical = fronts.etcdctl(&["compaction", "--physical", "5"]).await;
    assert_eq!(physical, "compacted revision 5");
    fronts.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_compare_all_that_they_can() {
    if !have_etcdctl() {
        return;
    }
    let fronts = Fronts::start(1).await;
    fronts
        .all_print(&[("put a 1", "OK"), ("put a 2", "OK")])
        .await;
    let cases = [
        (r#"value("a") = "2""#, true),
        (r#"value("a") > "2""#, false),
        (r#"value("a") != "1""#, true),
        (r#"mod("a") = "3""#, true),
        (r#"create("a") < "3""#, true),
        (r#"version("a") > "2""#, false),
        (r#"create("none") = "0""#, true),
        (r#"value("none") = """#, false),
    ];
    for (compare, holds) in cases {
        let asked = format!("{compare}\n\nget a\n\nput b else\nget b\n\n");
        for line in [&["txn", "-i"][..], &["txn"]] {
            let (good, text) = fronts.run(&fronts.endpoint(1), line, &asked).await;
            let said = if holds { "SUCCESS" } else { "FAILURE" };
            let shown = if holds { "a\n2" } else { "b\nelse" };
            assert!(
                good && text.contains(said) && text.contains(shown),
                "{text}"
            );
        }
    }
    let twice = "\nput a 1\nput a 2\n\n\n";
    let (good, text) = fronts.run(&fronts.endpoint(1), &["txn"], twice).await;
    assert!(!good && text.contains("duplicate key given"), "{text}");
    let many: String = (0..129).map(|n| format!("put k{n} x\n")).collect();
    let many = format!("\n{many}\n\n");
    let (good, text) = fronts.run(&fronts.endpoint(1), &["txn"], &many).await;
    assert!(!good && text.contains("too many operations"), "{text}");
    fronts.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_are_talked_with_and_run_commands() {
    if !have_etcdctl() {
        return;
    }
    let fronts = Fronts::start(1).await;
    fronts
        .all_print(&[("put b/1 old", "OK"), ("put d gone", "OK")])
        .await;
    let mut talk = fronts.talk("watch -i");
    talk.say("watch a").await;
    talk.say("watch --prefix b/ --prev-kv").await;
    talk.say("watch --rev=2 c e").await;
    talk.hears(&["PUT", "d", "gone"]).await;
    // Those before it are there, too, since they came on one stream.
    talk.say("progress").await;
    // For each of the three.
    talk.hears(&["progress notify: 3"; 3]).await;
    fronts.all_print(&[("put a 1", "OK")]).await;
    talk.hears(&["PUT", "a", "1"]).await;
    fronts.all_print(&[("put b/1 new", "OK")]).await;
    talk.hears(&["PUT", "b/1", "old", "b/1", "new"]).await;
    fronts
        .all_print(&[("put none x", "OK"), ("del b/1", "1")])
        .await;
    talk.hears(&["DELETE", "b/1", "new", "b/1"]).await;
    let mut hooked = fronts.talk("watch --rev=4 a -- printenv ETCD_WATCH_KEY ETCD_WATCH_VALUE");
    hooked.hears(&["PUT", "a", "1", "\"a\"", "\"1\""]).await;
    fronts.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_kept_and_locks_and_seats_pass_on() {
    if !have_etcdctl() {
        return;
    }
    let fronts = Fronts::start(1).await;
    let granted = fronts.etcdctl(&["lease", "grant", "2"]).await;
    let lease = granted.split_whitespace().nth(1).unwrap().to_string();
    let mut kept = fronts.talk(&format!("lease keep-alive {lease}"));
    let renewed = format!("lease {lease} keepalived with TTL(2)");
    kept.hears(&[&renewed]).await;
    let put = ["put", "leased", "x", &format!("--lease={lease}")];
    fronts.etcdctl(&put).await;
    // Longer than it lasts by itself.
    let since = std::time::Instant::now();
    while since.elapsed() < Duration::from_secs(4) {
        kept.hears(&[&renewed]).await;
    }
    assert_eq!(fronts.etcdctl(&["get", "leased"]).await, "leased\nx");
    drop(kept);
    crate::harness::eventually("the lease ends", || async {
        fronts
            .etcdctl(&["get", "leased"])
            .await
            .is_empty()
            .then_some(())
    })
    .await;
    let mut first = fronts.talk("lock mine --ttl=10");
    let held = first.hear().await;
    assert!(held.starts_with("mine/"), "{held}");
    let mut second = fronts.talk("lock mine");
    crate::harness::eventually("two in line", || async {
        let line = ["get", "mine/", "--prefix", "--keys-only"];
        (fronts.etcdctl(&line).await.matches("mine/").count() == 2).then_some(())
    })
    .await;
    fronts.etcdctl(&["del", &held]).await;
    assert!(second.hear().await.starts_with("mine/"));
    let mut elected = fronts.talk("elect seat one");
    assert!(elected.hear().await.starts_with("seat/"));
    elected.hears(&["one"]).await;
    let mut listening = fronts.talk("elect -l seat");
    assert!(listening.hear().await.starts_with("seat/"));
    listening.hears(&["one"]).await;
    fronts.stop.cancel();
}

/// It puts for a minute, and prints what it thinks of the speed, which says nothing on a machine that is busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_perf_comes_to_its_end() {
    if !have_etcdctl() {
        return;
    }
    let fronts = Fronts::start(1).await;
    let line = ["check", "perf", "--load=s", "--auto-compact"];
    let mut command = fronts.command(&fronts.endpoint(1), &line);
    let output = tokio::time::timeout(3 * DEADLINE, command.output()).await;
    let output = output.expect("it ends").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("hroughput") && text.contains("Slowest request"),
        "{text}"
    );
    assert!(!text.contains("FAIL: too many errors"), "{text}");
    let left = fronts
        .etcdctl(&["get", "/etcdctl-check-perf/", "--prefix", "--keys-only"])
        .await;
    assert_eq!(left, "", "it has cleaned up");
    fronts.stop.cancel();
}
