//! Mirroring a real etcd in, where it is installed: killed at any time, cut off, and behind what the etcd remembers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use kv::{PutRequest, Request, RequestOp, Store, TxnRequest};
use store::etcd::client::{Client, Credentials, Keys, Login, Record, Revision};
use store::mirror::{CHECKPOINTS, Done, MirrorError, Names, Options, Report, run};
use tokio::task::JoinHandle;

use crate::etcd_front::Fronts;
use crate::from_etcd::{Etcd, etcd, etcd_with_tls, pairs};
use crate::harness::{DEADLINE, eventually, put};

/// A mirror as a task: to abort it is to kill it.
struct Mirroring {
    task: JoinHandle<Result<Done, MirrorError>>,
    reports: Arc<Mutex<Vec<Report>>>,
}

impl Mirroring {
    fn start(source: Vec<Client>, fronts: &Fronts, options: &Options) -> Mirroring {
        let reports: Arc<Mutex<Vec<Report>>> = Arc::default();
        let (destination, options) = (destination(fronts), options.clone());
        let told = reports.clone();
        let task = tokio::spawn(async move {
            let tell = |report| told.lock().unwrap().push(report);
            run(source, destination, options, &tell).await
        });
        Mirroring { task, reports }
    }

    fn said(&self) -> Vec<Report> {
        self.reports.lock().unwrap().clone()
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Report) -> bool) {
        eventually(what, || async {
            assert!(!self.task.is_finished(), "it ended before {what}");
            self.said().iter().any(&wanted).then_some(())
        })
        .await;
    }

    async fn until_copied(&self) {
        let copied = |report: &Report| matches!(report, Report::Copied { .. });
        self.until("all keys", copied).await;
    }

    /// Whether it comes to copy everything. One that was killed may have a claim under way, which ends its successor.
    async fn copies(&self) -> bool {
        let copied = |report: &Report| matches!(report, Report::Copied { .. });
        eventually("all keys, or its end", || async {
            let done = self.said().iter().any(copied);
            (done || self.task.is_finished()).then_some(done)
        })
        .await
    }

    async fn end(self) -> Result<Done, MirrorError> {
        let end = tokio::time::timeout(DEADLINE, self.task).await;
        end.expect("it ends").unwrap()
    }

    /// What it came to before may be that it gave way to a late claim, see [`Mirroring::copies`].
    async fn kill(self) {
        self.task.abort();
        match self.task.await {
            Err(error) => assert!(error.is_cancelled(), "{error}"),
            Ok(end) => assert!(matches!(end, Err(MirrorError::TakenOver(_))), "{end:?}"),
        }
    }
}

fn destination(fronts: &Fronts) -> Vec<Client> {
    let read = |name: &str| std::fs::read(fronts.file(name)).unwrap();
    let credentials = Credentials {
        ca: Some(read("ca.crt")),
        identity: Some((read("client.crt"), read("client.key"))),
        login: None,
    };
    let members = fronts.addresses.iter();
    members
        .map(|(id, _)| Client::new(&fronts.endpoint(*id), &credentials).unwrap())
        .collect()
}

fn source(etcd: &Etcd) -> Vec<Client> {
    vec![Client::new(&etcd.url, &Credentials::default()).unwrap()]
}

fn options(prefix: &'static str, dest_prefix: &'static str) -> Options {
    Options {
        name: "test".into(),
        names: Names {
            prefix: prefix.into(),
            dest_prefix: dest_prefix.into(),
        },
        ..Options::default()
    }
}

fn until_synced(options: &Options) -> Options {
    Options {
        until_synced: true,
        ..options.clone()
    }
}

/// All keys of the destination but checkpoints, at one revision.
async fn here(fronts: &Fronts) -> BTreeMap<Vec<u8>, Record> {
    let (_, records) = destination(fronts)[0]
        .get(&Keys::prefix(""), 0, 0)
        .await
        .unwrap();
    let records = records.into_iter();
    let records = records.filter(|record| !record.key.starts_with(CHECKPOINTS));
    records
        .map(|record| (record.key.to_vec(), record))
        .collect()
}

async fn same_as(etcd: &Etcd, fronts: &Fronts) -> BTreeMap<Vec<u8>, Record> {
    let here = here(fronts).await;
    let live = etcd.live().await;
    let there = live.iter().map(|(key, kv)| (key, &kv.value));
    assert!(
        here.iter()
            .map(|(key, record)| (key, &record.value))
            .eq(there)
    );
    here
}

fn puts(pairs: &[(&str, String)]) -> TxnRequest {
    let op = |(key, value): &(&str, String)| RequestOp {
        request: Some(Request::Put(PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: value.clone().into(),
            ..PutRequest::default()
        })),
    };
    TxnRequest {
        success: pairs.iter().map(op).collect(),
        ..TxnRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_transaction_is_applied_once_and_whole_however_often_the_mirror_is_killed() {
    const TRANSACTIONS: usize = 400;
    let Some(etcd) = etcd().await else {
        return;
    };
    let fronts = Fronts::start(3).await;
    etcd.put_all(&pairs(0..3000, "first")).await;
    let options = options("", "");
    // Killed while it copies, too.
    for _ in 0..3 {
        let mirroring = Mirroring::start(source(&etcd), &fronts, &options);
        tokio::time::sleep(Duration::from_millis(40)).await;
        mirroring.kill().await;
    }
    let mirroring = loop {
        let mirroring = Mirroring::start(source(&etcd), &fronts, &options);
        if mirroring.copies().await {
            break mirroring;
        }
        eprintln!("{:?}", mirroring.end().await.err());
    };
    same_as(&etcd, &fronts).await;

    let writer = source(&etcd).remove(0);
    let writing = tokio::spawn(async move {
        for number in 0..TRANSACTIONS {
            let number = number.to_string();
            let both = [("/pair/left", number.clone()), ("/pair/right", number)];
            writer.txn(puts(&both)).await.unwrap();
        }
    });
    mirroring.kill().await;
    let mut kills = 0;
    while !writing.is_finished() {
        let mirroring = Mirroring::start(source(&etcd), &fronts, &options);
        tokio::time::sleep(Duration::from_millis(60)).await;
        mirroring.kill().await;
        kills += 1;
    }
    writing.await.unwrap();
    etcd.etcdctl(&["del", "--prefix", "/registry/k001"]).await;
    let done = loop {
        let last = Mirroring::start(source(&etcd), &fronts, &until_synced(&options));
        match last.end().await {
            Err(MirrorError::TakenOver(_)) => {}
            end => break end.unwrap(),
        }
    };
    let here = same_as(&etcd, &fronts).await;
    assert_eq!(done.keys, here.len() as i64);
    assert_eq!(done.revision, etcd.revision().await);
    eprintln!("killed {kills} times");

    // Once each, in order, and both keys of each transaction in one revision.
    assert_eq!(here[&b"/pair/left"[..]].version, TRANSACTIONS as i64);
    let pair = Keys::prefix("/pair/");
    let (_, history) = destination(&fronts)[1].history(&pair, 0).await.unwrap();
    let mut revisions: BTreeMap<i64, Vec<Bytes>> = BTreeMap::new();
    for revision in history {
        let Revision::Put(record) = revision else {
            panic!("{revision:?}")
        };
        let values = revisions.entry(record.mod_revision).or_default();
        values.push(record.value);
    }
    let told: Vec<Vec<Bytes>> = revisions.into_values().collect();
    let expected = (0..TRANSACTIONS).map(|number| vec![Bytes::from(number.to_string()); 2]);
    assert!(expected.eq(told));
    fronts.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_etcd_has_forgotten_is_found_by_comparing_all_keys() {
    let Some(mut etcd) = etcd().await else {
        return;
    };
    let fronts = Fronts::start(1).await;
    let node = fronts.cluster.node(1);
    etcd.put_all(&pairs(0..6000, "first")).await;
    etcd.etcdctl(&["put", "/other", "x"]).await;
    let options = options("/registry/", "/moved/");
    // What is not under the prefix is left alone; what is would be deleted, so it is asked for.
    put(node, "/own", "kept").await;
    put(node, "/moved/k00000", "in the way").await;
    put(node, "/moved/zzz", "in the way").await;
    let refused = Mirroring::start(source(&etcd), &fronts, &options)
        .end()
        .await;
    assert!(
        matches!(refused, Err(MirrorError::NotEmpty(_))),
        "{refused:?}"
    );
    let overwriting = Options {
        overwrite: true,
        ..options.clone()
    };
    let mirroring = Mirroring::start(source(&etcd), &fronts, &overwriting);
    mirroring.until_copied().await;
    let moved = |here: &BTreeMap<Vec<u8>, Record>| here.len() - 1;
    let first = here(&fronts).await;
    assert_eq!(
        (moved(&first), &first[&b"/own"[..]].value[..]),
        (6000, &b"kept"[..])
    );
    assert!(!first.contains_key(&b"/moved/zzz"[..]));

    // A single revision of the etcd that fits into no transaction, while it is connected again and again.
    etcd.restart().await;
    etcd.etcdctl(&["del", "--prefix", "/registry/"]).await;
    etcd.put_all(&pairs(0..300, "second")).await;
    eventually("all of it", || async {
        assert!(!mirroring.task.is_finished(), "it goes on");
        let here = here(&fronts).await;
        let changed = here.get(&b"/moved/k00299"[..]);
        let changed = changed.is_some_and(|record| record.value.starts_with(b"second"));
        (moved(&here) == 300 && changed).then_some(())
    })
    .await;
    let trouble = |report: &Report| matches!(report, Report::Trouble(_));
    assert!(
        mirroring.said().iter().any(trouble),
        "{:?}",
        mirroring.said()
    );
    mirroring.kill().await;

    // Nobody looks, and what has happened meanwhile is not remembered.
    etcd.put_all(&pairs(0..10, "third")).await;
    etcd.etcdctl(&["del", "--prefix", "/registry/k0002"]).await;
    let now = etcd.revision().await.to_string();
    etcd.etcdctl(&["compaction", &now]).await;
    let before = here(&fronts).await;
    let mirroring = Mirroring::start(source(&etcd), &fronts, &until_synced(&options));
    let reports = mirroring.reports.clone();
    let done = mirroring.end().await.unwrap();
    let anew = |report: &Report| matches!(report, Report::Anew(_));
    assert!(reports.lock().unwrap().iter().any(anew), "{reports:?}");
    let after = here(&fronts).await;
    assert_eq!((moved(&after), done.keys), (290, 290));
    assert!(after[&b"/moved/k00009"[..]].value.starts_with(b"third"));
    let (untouched, changed) = (&b"/moved/k00011"[..], &b"/moved/k00009"[..]);
    assert_eq!(
        after[untouched], before[untouched],
        "what is the same is not written"
    );
    assert_ne!(after[changed].mod_revision, before[changed].mod_revision);

    // With other prefixes it would be another mirror.
    let other = Options {
        names: Names::default(),
        ..options.clone()
    };
    let refused = Mirroring::start(source(&etcd), &fronts, &other).end().await;
    assert!(
        matches!(refused, Err(MirrorError::OtherPrefixes(_))),
        "{refused:?}"
    );
    fronts.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_with_certificates_and_users_is_mirrored_by_one_who_may_only_read() {
    let fronts = Fronts::start(1).await;
    let Some(mut etcd) = etcd_with_tls(&fronts).await else {
        return;
    };
    etcd.put_all(&pairs(0..50, "first")).await;
    etcd.etcdctl(&["put", "/secret", "x"]).await;
    let lease = etcd.grant("1000").await;
    for key in ["/registry/leased", "/registry/leased-too", "/secret-lease"] {
        etcd.etcdctl(&["put", key, "x", &format!("--lease={lease}")])
            .await;
    }
    let lines = [
        "user add root:pw",
        "user add reader:r:w",
        "role add reads",
        "role grant-permission reads --prefix=true read /registry/",
        "user grant-role reader reads",
        "auth enable",
    ];
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        etcd.etcdctl(&words).await;
    }
    let url = etcd.url.clone();
    let client = |password: &str| {
        let read = |name: &str| std::fs::read(fronts.file(name)).unwrap();
        let credentials = Credentials {
            ca: Some(read("ca.crt")),
            identity: Some((read("client.crt"), read("client.key"))),
            login: Some(Login {
                name: "reader".into(),
                password: password.into(),
            }),
        };
        vec![Client::new(&url, &credentials).unwrap()]
    };
    let options = options("/registry/", "/registry/");
    let wrong = Mirroring::start(client("no"), &fronts, &options)
        .end()
        .await;
    assert!(
        wrong
            .unwrap_err()
            .to_string()
            .contains("authentication failed")
    );
    let all = self::options("", "");
    let denied = Mirroring::start(client("r:w"), &fronts, &all).end().await;
    assert!(
        denied
            .unwrap_err()
            .to_string()
            .contains("permission denied")
    );

    let mirroring = Mirroring::start(client("r:w"), &fronts, &options);
    mirroring.until_copied().await;
    // The tokens that this etcd has given are void when it starts again.
    etcd.restart().await;
    let root = "--user=root:pw";
    etcd.etcdctl(&["put", "/registry/new", "1", root]).await;
    etcd.etcdctl(&["del", "/registry/k00001", root]).await;
    eventually("what came later", || async {
        assert!(!mirroring.task.is_finished(), "it goes on");
        let here = here(&fronts).await;
        let gone = !here.contains_key(&b"/registry/k00001"[..]);
        (gone && here.contains_key(&b"/registry/new"[..])).then_some(())
    })
    .await;
    mirroring.kill().await;
    let before = here(&fronts).await;
    assert_eq!(
        before[&b"/registry/leased"[..]].lease,
        0,
        "not before the cut-over"
    );
    for leased in [2, 0] {
        let last = Mirroring::start(client("r:w"), &fronts, &until_synced(&options));
        let done = last.end().await.unwrap();
        assert_eq!((done.keys, done.leased), (52, leased));
    }
    let id = i64::from_str_radix(&lease, 16).unwrap();
    let status = fronts
        .cluster
        .node(1)
        .lease_time_to_live(id, true)
        .await
        .unwrap()
        .body;
    assert_eq!((status.granted_ttl_seconds, status.keys.len()), (1000, 2));
    let after = here(&fronts).await;
    let leased = &after[&b"/registry/leased"[..]];
    assert_eq!((leased.lease, &leased.value[..]), (id, &b"x"[..]));
    fronts.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_mirrors_of_one_name_the_first_gives_way() {
    let Some(etcd) = etcd().await else {
        return;
    };
    let fronts = Fronts::start(1).await;
    etcd.put_all(&pairs(0..20, "first")).await;
    let options = options("", "");
    let first = Mirroring::start(source(&etcd), &fronts, &options);
    first.until_copied().await;
    let second = Mirroring::start(source(&etcd), &fronts, &options);
    // Whoever writes first goes on.
    let mut number = 0;
    while !first.task.is_finished() && !second.task.is_finished() {
        etcd.etcdctl(&["put", "/n", &number.to_string()]).await;
        number += 1;
        assert!(number < 500, "neither gives way");
    }
    let (ended, going) = match first.task.is_finished() {
        true => (first, second),
        false => (second, first),
    };
    let ended = ended.end().await;
    assert!(matches!(ended, Err(MirrorError::TakenOver(_))), "{ended:?}");
    going.kill().await;
    // What the killed one has sent may still come through, in place of what this one writes.
    let last = Mirroring::start(source(&etcd), &fronts, &until_synced(&options));
    if let Err(error) = last.end().await {
        assert!(matches!(error, MirrorError::TakenOver(_)), "{error}");
        let last = Mirroring::start(source(&etcd), &fronts, &until_synced(&options));
        last.end().await.unwrap();
    }
    let here = same_as(&etcd, &fronts).await;
    assert_eq!(here[&b"/n"[..]].version, number, "once each");
    // Another etcd at the same address is another one.
    let others = Fronts::start(1).await;
    put(others.cluster.node(1), "/n", "other").await;
    let refused = Mirroring::start(destination(&others), &fronts, &options)
        .end()
        .await;
    assert!(
        matches!(refused, Err(MirrorError::OtherSource { .. })),
        "{refused:?}"
    );
    let anew = Options {
        restart: true,
        ..until_synced(&options)
    };
    let done = Mirroring::start(destination(&others), &fronts, &anew)
        .end()
        .await;
    assert_eq!(done.unwrap().keys, 1);
    assert_eq!(
        fronts.cluster.node(1).status().revision,
        done_revision(&fronts).await
    );
    fronts.stop.cancel();
    others.stop.cancel();
}

/// Where the checkpoint was written: nothing comes after it.
async fn done_revision(fronts: &Fronts) -> i64 {
    let keys = Keys::prefix(CHECKPOINTS);
    let (_, records) = destination(fronts)[0].get(&keys, 0, 0).await.unwrap();
    records[0].mod_revision
}
