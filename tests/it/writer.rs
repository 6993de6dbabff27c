//! Somebody who writes to the store all the time, and remembers what was acknowledged.

use crate::cluster::Cluster;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::etcd::client::{Client, ClientError, Credentials, Keys};

/// See the module head.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: JoinHandle<Written>,
}

/// What a writer knows in the end.
pub(crate) struct Written {
    prefix: String,
    /// Revision by number of the key.
    acknowledged: BTreeMap<u64, i64>,
    /// The longest time between two acknowledgements.
    pub(crate) gap: Duration,
}

fn credentials(cluster: &Cluster) -> Credentials {
    let read = |name| std::fs::read(cluster.pki(name)).expect("a certificate");
    Credentials {
        ca: Some(read("ca.crt")),
        identity: Some((read("store-admin.crt"), read("store-admin.key"))),
        login: None,
    }
}

/// Runs a future to its end.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(future)
}

impl Writer {
    /// Writes through these members, counted from 1: through the next one whenever one fails.
    pub(crate) fn start(cluster: &Cluster, prefix: &str, members: &[usize]) -> Writer {
        let credentials = credentials(cluster);
        let urls: Vec<String> = members.iter().map(|m| cluster.etcd_url(*m)).collect();
        let (stop, count) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, counted, prefix) = (stop.clone(), count.clone(), prefix.to_string());
        let thread =
            std::thread::spawn(move || wait(write(urls, credentials, prefix, &stopped, &counted)));
        Writer {
            stop,
            count,
            thread,
        }
    }

    /// How many writes were acknowledged so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until there are so many more.
    pub(crate) fn some_more(&self, more: u64) {
        let enough = self.count() + more;
        crate::tools::wait_for("more writes", crate::tools::SOON, || match self.count() {
            count if count >= enough => Ok(()),
            count => Err(format!("{count} of {enough}")),
        });
    }

    pub(crate) fn finish(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer ends")
    }
}

async fn write(
    urls: Vec<String>,
    credentials: Credentials,
    prefix: String,
    stop: &AtomicBool,
    count: &AtomicU64,
) -> Written {
    let client = |url: &String| Client::new(url, &credentials).expect("a client");
    let clients: Vec<Client> = urls.iter().map(client).collect();
    let mut at = 0;
    let mut written = Written {
        prefix,
        acknowledged: BTreeMap::new(),
        gap: Duration::ZERO,
    };
    let mut last = None;
    while !stop.load(Ordering::Relaxed) {
        let number = count.load(Ordering::Relaxed);
        let key = written.key(number);
        match clients[at].put(key, number.to_string()).await {
            Ok(revision) => {
                let now = Instant::now();
                let gap = last.map_or(Duration::ZERO, |last| now - last);
                written.gap = written.gap.max(gap);
                last = Some(now);
                written.acknowledged.insert(number, revision);
                count.fetch_add(1, Ordering::Relaxed);
            }
            // It may have been written: the same once more changes nothing.
            Err(ClientError::Unavailable { .. } | ClientError::Refused { .. }) => {
                at = (at + 1) % clients.len();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    written
}

impl Written {
    fn key(&self, number: u64) -> String {
        format!("{}{number:08}", self.prefix)
    }

    /// All that was acknowledged is there, through this member, and what was written is what is there.
    pub(crate) fn check(&self, cluster: &Cluster, member: usize) {
        let there = list(cluster, member, &self.prefix);
        for number in self.acknowledged.keys() {
            let value = there.get(&self.key(*number));
            assert_eq!(value, Some(&number.to_string()), "write {number} is lost");
        }
    }
}

/// Keys and values under a prefix, through a member.
pub(crate) fn list(cluster: &Cluster, member: usize, prefix: &str) -> BTreeMap<String, String> {
    let keys = Keys::prefix(prefix.to_string());
    let read = async { client(cluster, member).get(&keys, 0, 0).await };
    let (_, records) = wait(read).expect("a list");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let pairs = records.iter();
    pairs
        .map(|record| (text(&record.key), text(&record.value)))
        .collect()
}

/// Writes a key through a member, again while it is not known whether it was written; answers the revision.
pub(crate) fn put(cluster: &Cluster, member: usize, key: &str, value: &str) -> i64 {
    crate::tools::wait_for(format!("a write of {key}"), crate::tools::SOON, || {
        let (key, value) = (key.to_string(), value.to_string());
        let written = wait(async { client(cluster, member).put(key, value).await });
        written.map_err(|error| error.to_string())
    })
}

/// A client of a member, counted from 1. It belongs to the runtime that it is made in.
fn client(cluster: &Cluster, member: usize) -> Client {
    Client::new(&cluster.etcd_url(member), &credentials(cluster)).expect("a client")
}
