//! Fills all caches: every object of the store as of one revision is read in one pass, page after page, while other threads
//! make entries of the pages before. How much of the store is in memory for that does not depend on how much there is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kv::{KeyValue, RangeRequest, Store, StoreError, WatchItem, WatchStream};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};

use super::{REGISTRY, World};
use crate::cache::Cache;
use crate::customs;
use crate::encryption::Unreadable;
use crate::entry::Entry;

/// The first key behind those of [`REGISTRY`].
const REGISTRY_END: &[u8] = b"/registry0";
/// What the pairs of a page come to.
const PAGE_BYTES: usize = 4 << 20;
/// Pages of which entries are made while the next one is read.
const UNDER_WAY: usize = 2;
/// So much history is taken in as it is read, by one task.
pub(super) const REVISIONS_ALONG: i64 = 64;
/// Of more, so much is read before it is taken in.
const ITEMS_AHEAD: usize = 64;
/// Between two questions to a store that does not answer.
const PAUSE: Duration = Duration::from_millis(200);
/// So much of what its member has is history to a fresh server at most.
const HISTORY_REVISIONS_MAX: i64 = 10_000;

/// Everything that is a Kubernetes object, as of a revision.
fn everything(revision: i64) -> RangeRequest {
    RangeRequest {
        key: Bytes::from_static(REGISTRY.as_bytes()),
        range_end: Bytes::from_static(REGISTRY_END),
        revision,
        serializable: true,
        ..RangeRequest::default()
    }
}

/// What was made of the pairs of one page, or of some that follow each other.
#[derive(Default)]
struct Loaded {
    /// Objects of built-in kinds that are neighbours, with their cache.
    runs: Vec<(Arc<Cache>, Vec<Arc<Entry>>)>,
    /// In which shapes these are shown is known when all definitions are.
    custom_objects: Vec<customs::Stored>,
    unreadable: Vec<(String, Unreadable)>,
}

impl Loaded {
    fn push(&mut self, cache: &Arc<Cache>, entry: Arc<Entry>) {
        match self.runs.last_mut() {
            Some((last, run)) if Arc::ptr_eq(last, cache) => run.push(entry),
            _ => self.runs.push((cache.clone(), vec![entry])),
        }
    }

    /// Adds what comes behind it.
    fn append(&mut self, next: Loaded) {
        for (cache, entries) in next.runs {
            match self.runs.last_mut() {
                Some((last, run)) if Arc::ptr_eq(last, &cache) => run.extend(entries),
                _ => self.runs.push((cache, entries)),
            }
        }
        self.custom_objects.extend(next.custom_objects);
        self.unreadable.extend(next.unreadable);
    }

    /// The objects of built-in kinds by the prefix of their cache.
    fn take_entries(&mut self) -> BTreeMap<String, Vec<Arc<Entry>>> {
        let mut entries: BTreeMap<String, Vec<Arc<Entry>>> = BTreeMap::new();
        for (cache, mut run) in std::mem::take(&mut self.runs) {
            let list = entries.entry(cache.prefix.clone()).or_default();
            list.append(&mut run);
        }
        entries
    }
}

/// Where the history of a server begins that starts when the store is at this revision.
fn history_begins(revision: i64, compacted: i64) -> i64 {
    let begins = compacted.max(revision - HISTORY_REVISIONS_MAX).max(1);
    begins.min(revision)
}

impl World {
    /// Reads all objects as of one revision in the retained past, so that the watch that follows also fills the
    /// history: clients of a member that restarted resume where they were.
    pub(super) async fn load(self: &Arc<Self>, store: &dyn Store) -> Result<(), StoreError> {
        let first_start = self.revision() == 0;
        let (newest, base, loaded) = match first_start {
            true => self.read_past(store).await?,
            false => {
                let newest = store.read_index().await?;
                (newest, newest, self.read_all(store, newest).await?)
            }
        };
        self.fill(loaded, base);
        if first_start {
            self.first.store(newest.max(1), Ordering::Release);
        }
        // Not yet `newest`: the watch replays the rest. Readers wait for their own revision, so none sees the past.
        self.revision.send_replace(base.max(1));
        Ok(())
    }

    /// The newest revision, one before it, and what was there then. What this member has is acknowledged: it is read while
    /// the store finds a leader and asks it how much there is.
    async fn read_past(
        self: &Arc<Self>,
        store: &dyn Store,
    ) -> Result<(i64, i64, Loaded), StoreError> {
        let base = history_begins(store.revision().max(1), store.status().compact_revision);
        let asking = async { Ok::<_, StoreError>(newest_of(store).await) };
        let (newest, loaded) = tokio::try_join!(asking, self.read_all(store, base))?;
        if newest - base <= 2 * HISTORY_REVISIONS_MAX {
            return Ok((newest, base, loaded));
        }
        // This member was far behind: to replay all of that would take longer than to read it.
        drop(loaded);
        let base = history_begins(newest, store.status().compact_revision);
        Ok((newest, base, self.read_all(store, base).await?))
    }

    /// Takes in the history up to a revision, which is read on another task meanwhile; answers the watch behind it. None
    /// where the history was compacted before it was read.
    pub(super) async fn catch_up(
        &self,
        mut stream: WatchStream,
        upto: i64,
    ) -> Result<Option<WatchStream>, StoreError> {
        let (ahead, mut items) = mpsc::channel(ITEMS_AHEAD);
        let reading = host::spawn(async move {
            loop {
                let item = tokio::select! {
                    biased;
                    // Nobody takes it in any more: the watch is not to outlive the server.
                    () = ahead.closed() => break,
                    item = stream.next() => item,
                };
                let Some(item) = item else { break };
                let is_last = match &item {
                    WatchItem::Events { revision, .. } | WatchItem::Progress { revision } => {
                        *revision >= upto
                    }
                    WatchItem::Compacted { .. } => true,
                };
                if ahead.send(item).await.is_err() || is_last {
                    break;
                }
            }
            stream
        });
        let mut reached = self.revision();
        while let Some(item) = items.recv().await {
            let is_progress = matches!(item, WatchItem::Progress { .. });
            let Some(revision) = self.take_in(item) else {
                return Ok(None);
            };
            // Whoever waits for the present would be woken by each revision of the past.
            if is_progress || revision - self.revision() >= REVISIONS_ALONG {
                self.advance(revision);
            }
            reached = revision;
        }
        self.advance(reached);
        let rest = reading.await.map_err(|_| StoreError::Stopped)?;
        Ok(Some(rest))
    }

    async fn read_all(
        self: &Arc<Self>,
        store: &dyn Store,
        revision: i64,
    ) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        let mut under_way = VecDeque::new();
        let reading = store.range_pages(everything(revision), PAGE_BYTES);
        let mut pages = reading.await?.body;
        while let Some(page) = pages.next().await {
            let pairs = page?;
            let world = self.clone();
            under_way.push_back(host::spawn(host::blocking(move || world.made_of(&pairs))));
            if under_way.len() > UNDER_WAY
                && let Some(oldest) = under_way.pop_front()
            {
                loaded.append(made(oldest).await?);
            }
        }
        for oldest in under_way {
            loaded.append(made(oldest).await?);
        }
        Ok(loaded)
    }

    /// What the caches hold of these pairs.
    fn made_of(&self, pairs: &[KeyValue]) -> Loaded {
        let mut loaded = Loaded::default();
        for pair in pairs {
            let Ok(key) = std::str::from_utf8(&pair.key) else {
                continue;
            };
            let built_in = self.built_in_cache_of_key(key);
            let resource = match built_in {
                Some(cache) => Some(cache.resource()),
                None => customs::resource_of(key),
            };
            let Some(resource) = resource else {
                continue;
            };
            let opened = match self.sealer.open(resource, key, &pair.value) {
                Ok(opened) => opened,
                Err(error) => {
                    loaded.unreadable.push((key.to_owned(), error));
                    continue;
                }
            };
            let Some(cache) = built_in else {
                let stored = (key.to_owned(), opened, pair.mod_revision);
                loaded.custom_objects.push(stored);
                continue;
            };
            if let Some(entry) = cache.entry(key, &opened, pair.mod_revision) {
                loaded.push(cache, entry);
            }
        }
        loaded
    }

    /// Puts it in the place of all that there was.
    fn fill(&self, mut loaded: Loaded, base: i64) {
        let mut entries = loaded.take_entries();
        for (prefix, cache) in &self.by_prefix {
            cache.reset(entries.remove(prefix).unwrap_or_default(), base);
        }
        let definitions = self.list("apiextensions.k8s.io", "customresourcedefinitions", "");
        self.customs
            .reload(&definitions, loaded.custom_objects, base);
        for (key, unreadable) in loaded.unreadable {
            if let Some(cache) = self.cache_of_key(&key, base + 1) {
                cache.lose(&key, base, unreadable);
            }
        }
        self.report_unreadable();
        self.retry_unreadable();
    }
}

/// Asks until there is an answer: what was read meanwhile need not be read again when there is a leader at last.
async fn newest_of(store: &dyn Store) -> i64 {
    loop {
        match store.read_index().await {
            Ok(newest) => return newest,
            Err(error) => tracing::info!(%error, "the caches wait for the store"),
        }
        // The store is electing, starting or stopping: there is no condition to wait for but its answer.
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for what is made of a page.
async fn made(making: JoinHandle<Result<Loaded, JoinError>>) -> Result<Loaded, StoreError> {
    match making.await {
        Ok(Ok(loaded)) => Ok(loaded),
        Ok(Err(_)) | Err(_) => Err(StoreError::Stopped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_watch_that_is_read_ahead_ends_with_who_takes_it_in() {
        let world = World::new(&resources::ALL, crate::Encryption::default());
        let (held, gone) = tokio::sync::oneshot::channel::<()>();
        let progress = WatchItem::Progress { revision: 2 };
        let stream = futures::stream::once(async move { progress }).chain(futures::stream::once(
            async move {
                let never = std::future::pending::<WatchItem>().await;
                drop(held);
                never
            },
        ));
        let mut catching_up = Box::pin(world.catch_up(stream.boxed(), 5));
        let mut revision = world.revision.subscribe();
        let two = revision.wait_for(|now| *now == 2);
        let read = tokio::time::timeout(DEADLINE, async {
            tokio::select! {
                biased;
                _ = &mut catching_up => false,
                two = two => two.is_ok(),
            }
        });
        assert_eq!(read.await, Ok(true));
        drop(catching_up);
        let gone = tokio::time::timeout(DEADLINE, gone).await;
        assert!(gone.expect("in time").is_err());
    }

    #[test]
    fn everything_is_all_that_is_under_the_registry() {
        let mut end = REGISTRY.as_bytes().to_vec();
        *end.last_mut().unwrap() += 1;
        assert_eq!(end, REGISTRY_END);
        let request = everything(7);
        assert_eq!(
            (&request.key[..], request.revision),
            (REGISTRY.as_bytes(), 7)
        );
        assert_eq!(request.range_end[..], *REGISTRY_END);
        assert!(request.is_in_key_order() && request.limit == 0);
    }

    #[test]
    fn history_begins_in_the_retained_past() {
        for (revision, compacted, begins) in [
            (1, 0, 1),
            (50, 0, 1),
            (50, 20, 20),
            (30_000, 0, 20_000),
            (30_000, 25_000, 25_000),
            (30_000, 30_000, 30_000),
        ] {
            assert_eq!(history_begins(revision, compacted), begins, "{revision}");
        }
    }

    #[test]
    fn objects_of_pages_are_one_run_for_each_kind() {
        let cache = |kind: &str| Arc::new(Cache::new(Vec::new(), format!("/registry/{kind}/")));
        let (pods, nodes) = (cache("pods"), cache("nodes"));
        let entry = |key: &str| Arc::new(Entry::for_test(key, 1));
        let mut loaded = Loaded::default();
        loaded.push(&nodes, entry("/registry/nodes/a"));
        loaded.push(&pods, entry("/registry/pods/a"));
        let mut next = Loaded::default();
        next.push(&pods, entry("/registry/pods/b"));
        loaded.append(next);
        assert_eq!(loaded.runs.len(), 2);
        let entries = loaded.take_entries();
        let keys = entries["/registry/pods/"].iter().map(|one| one.key());
        assert!(keys.eq(["/registry/pods/a", "/registry/pods/b"]));
        assert_eq!(entries["/registry/nodes/"].len(), 1);
    }
}
