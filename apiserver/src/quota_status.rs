//! The status of ResourceQuotas: what is used, counted from the caches. Admission charges what comes; this gives back what
//! went.
//!
//! It stands here and not among the controllers since a quota can count objects of every kind, and only here there is a
//! cache of each. Every server counts; a write compares the quota's revision, and none is made where the count is right
//! already. Whatever adds to a quota writes it in the same transaction: so what is counted in caches that have come to the
//! quota's revision is right for as long as the quota stays at it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use host::HashMap;
use host::watch;
use resources::quota::{self, Amounts};
use schema::Object;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::ApiServer;
use crate::cache::Cache;
use crate::entry::Entry;
use crate::status::ApiError;
use crate::write::{Extra, Step};

const EVERY: Duration = Duration::from_secs(1);
/// Before quotas that were just written are looked at, so that what comes together is looked at once.
const SOON: Duration = Duration::from_millis(25);
/// A pod whose deletion is overdue counts no more, which no event tells.
const RECOUNTED_AFTER: Duration = Duration::from_secs(60);

pub(crate) async fn run(server: Arc<ApiServer>) {
    server.started.wait().await;
    let mut counter = Counter::default();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut news = News::of(&server);
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            () = news.unsettled(&server) => {}
        }
        counter.turn(&server).await;
    }
}

/// Quotas that grant what their status does not say yet. They limit nothing until it does, so they do not wait for their
/// turn.
struct News {
    changes: Option<watch::Receiver<u64>>,
    /// The newest revision that was looked at.
    seen: i64,
}

impl News {
    fn of(server: &ApiServer) -> News {
        let quotas = server.world.named("", "resourcequotas");
        News {
            changes: quotas.map(|cache| cache.subscribe()),
            seen: 0,
        }
    }

    /// Ends when there is one. May be dropped before: a turn looks at all.
    async fn unsettled(&mut self, server: &ApiServer) {
        loop {
            let Some(changes) = &mut self.changes else {
                return std::future::pending().await;
            };
            if changes.changed().await.is_err() {
                self.changes = None;
                continue;
            }
            tokio::time::sleep(SOON).await;
            let quotas = server.world.list("", "resourcequotas", "");
            let seen = self.seen;
            for entry in &quotas {
                self.seen = self.seen.max(entry.revision);
            }
            let mut written = quotas.iter().filter(|entry| entry.revision > seen);
            if written.any(|entry| !grants_as_told(&entry.object())) {
                return;
            }
        }
    }
}

/// What was seen of each quota, by its key.
#[derive(Default)]
struct Counter {
    seen: BTreeMap<String, Seen>,
}

struct Seen {
    revision: i64,
    /// The objects that were counted last, and when; none where they have to be counted again.
    counted: Option<(Mark, Instant)>,
    used: Memo,
}

/// What single objects use, so that only those are read again that changed.
#[derive(Default)]
struct Memo {
    /// The quota's spec, for which it holds.
    spec: Value,
    since: Option<Instant>,
    /// By key: the revision of the object, and what it uses.
    objects: HashMap<String, (i64, Amounts)>,
}

impl Memo {
    /// Forgets what does not hold for this quota, or any more.
    fn prepare(&mut self, quota: &Object, now: Instant) {
        let spec = quota.get(&["spec"]).unwrap_or(&Value::Null);
        let is_old = |since: Instant| now - since >= RECOUNTED_AFTER;
        if self.spec != *spec || self.since.is_none_or(is_old) {
            *self = Memo {
                spec: spec.clone(),
                since: Some(now),
                objects: HashMap::default(),
            };
        }
    }

    /// Adds what the object of this key uses at this revision.
    fn add(
        &mut self,
        used: &mut Amounts,
        (key, revision): (&str, i64),
        count: impl FnOnce() -> Amounts,
    ) {
        if let Some((known, one)) = self.objects.get(key)
            && *known == revision
        {
            quota::add(used, one);
            return;
        }
        let one = count();
        quota::add(used, &one);
        self.objects.insert(key.to_owned(), (revision, one));
    }
}

/// Tells whether objects changed: how many there are, and their newest revision.
type Mark = Vec<(usize, i64)>;

impl Counter {
    async fn turn(&mut self, server: &Arc<ApiServer>) {
        let quotas = server.world.list("", "resourcequotas", "");
        let known: Vec<&str> = quotas.iter().map(|entry| entry.key()).collect();
        self.seen
            .retain(|key, _| known.binary_search(&key.as_str()).is_ok());
        for entry in &quotas {
            let now = Instant::now();
            let seen = self.seen.entry(entry.key().to_owned());
            let seen = seen.or_insert_with(Seen::new);
            seen.notice(entry.revision);
            seen.count(server, entry, now).await;
        }
    }
}

impl Seen {
    fn new() -> Seen {
        Seen {
            revision: 0,
            counted: None,
            used: Memo::default(),
        }
    }

    /// The quota is at this revision: if that is a new one, everything is counted again.
    fn notice(&mut self, revision: i64) {
        if self.revision != revision {
            self.revision = revision;
            self.counted = None;
        }
    }

    /// The quota as it should be; none where it is so, or was a short time ago with the same objects. `sum` adds up what
    /// these use.
    fn decide(
        &mut self,
        quota: &Object,
        mark: Mark,
        now: Instant,
        sum: impl FnOnce(&mut Memo) -> Amounts,
    ) -> Option<Object> {
        let is_fresh = self
            .counted
            .as_ref()
            .is_some_and(|(counted, at)| *counted == mark && now - *at < RECOUNTED_AFTER);
        if is_fresh {
            return None;
        }
        self.used.prepare(quota, now);
        let counted = corrected(quota, &sum(&mut self.used));
        if counted.is_none() {
            self.counted = Some((mark, now));
        }
        counted
    }

    async fn count(&mut self, server: &Arc<ApiServer>, entry: &Entry, now: Instant) {
        if entry.revision > server.world.revision() {
            // Other caches may not have come to it yet.
            return;
        }
        let quota = entry.object();
        let objects = objects(server, &quota);
        let mark = mark(&objects);
        let seconds = crate::clock::unix_seconds();
        let counted = self.decide(&quota, mark, now, |memo| {
            let mut used = quota::nothing_used(&quota);
            for (cache, entries) in &objects {
                let Some(shape) = cache.shapes.first() else {
                    continue;
                };
                for entry in entries {
                    memo.add(&mut used, (entry.key(), entry.revision), || {
                        let object = entry.object();
                        quota::used_by(&quota, &shape.group, &shape.plural, &object, seconds)
                    });
                }
            }
            used
        });
        if let Some(counted) = counted {
            write(server, &quota, counted).await;
        }
    }
}

/// The objects in the quota's namespace that it can count.
fn objects(server: &ApiServer, quota: &Object) -> Vec<(Arc<Cache>, Vec<Arc<Entry>>)> {
    server
        .world
        .caches()
        .filter(|cache| {
            cache.shapes.first().is_some_and(|shape| {
                shape.namespaced
                    && shape.plural != "events"
                    && quota::is_counted(quota, &shape.group, &shape.plural)
            })
        })
        .map(|cache| {
            let prefix = format!("{}{}/", cache.prefix, quota.namespace());
            let snapshot = cache.snapshot(0);
            let entries = snapshot.tree.iter_prefix(&prefix).cloned().collect();
            (cache, entries)
        })
        .collect()
}

fn mark(objects: &[(Arc<Cache>, Vec<Arc<Entry>>)]) -> Mark {
    objects
        .iter()
        .map(|(_, entries)| {
            let newest = entries.iter().map(|entry| entry.revision).max();
            (entries.len(), newest.unwrap_or(0))
        })
        .collect()
}

fn amounts(quota: &Object, part: &str, field: &str) -> Amounts {
    quota::amounts(quota.get(&[part, field]).unwrap_or(&Value::Null))
}

/// Whether the status has the limits that the quota asks for, which are those that hold.
fn grants_as_told(quota: &Object) -> bool {
    amounts(quota, "status", "hard") == amounts(quota, "spec", "hard")
}

/// The quota as it should be; none where it is.
fn corrected(quota: &Object, used: &Amounts) -> Option<Object> {
    if grants_as_told(quota) && amounts(quota, "status", "used") == *used {
        return None;
    }
    let mut counted = quota.clone();
    let hard = quota.get(&["spec", "hard"]).cloned();
    counted.set(
        &["status", "hard"],
        hard.unwrap_or_else(|| Value::Object(Map::new())),
    );
    let used: Map<String, Value> = used
        .iter()
        .map(|(name, amount)| (name.clone(), amount.to_string().into()))
        .collect();
    counted.set(&["status", "used"], Value::Object(used));
    Some(counted)
}

/// Writes the count, unless somebody has written the quota since it was made.
async fn write(server: &Arc<ApiServer>, quota: &Object, counted: Object) {
    let mut decide = |old: &Object| {
        Ok(if old.resource_version() == quota.resource_version() {
            Step::Write(counted.clone(), Extra::default())
        } else {
            Step::Keep(old.clone())
        })
    };
    let resource = resources::find("", "v1", "resourcequotas");
    let outcome = match resource {
        Some(resource) => {
            let (namespace, name) = (quota.namespace(), quota.name());
            let written = server.change(resource, namespace, name, false, &mut decide);
            written.await.map(|_| ())
        }
        None => Err(ApiError::no_such_resource()),
    };
    if let Err(error) = outcome {
        tracing::debug!(
            quota = quota.name(),
            namespace = quota.namespace(),
            message = error.message,
            "the status of a quota is written later"
        );
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(status: Value, used: &str) -> Option<Value> {
        let quota = json!({"spec": {"hard": {"pods": "5"}}, "status": status});
        let quota = Object::new(quota).unwrap();
        let used = quota::amounts(&json!({ "pods": used }));
        corrected(&quota, &used).map(|quota| quota.get(&["status"]).unwrap().clone())
    }

    #[test]
    fn limits_that_hold_not_yet_are_news() {
        let told = |status: Value| {
            let quota =
                json!({"spec": {"hard": {"pods": "5", "requests.cpu": "1"}}, "status": status});
            grants_as_told(&Object::new(quota).unwrap())
        };
        let hard = |pods: &str| json!({"hard": {"pods": pods, "requests.cpu": "1"}, "used": {"pods": "7"}});
        assert!(!told(json!({})));
        assert!(!told(hard("4")));
        assert!(told(hard("5")), "whatever is used");
    }

    #[test]
    fn a_count_is_written_where_it_is_another_one() {
        let status = |used: &str| json!({"hard": {"pods": "5"}, "used": {"pods": used}});
        assert_eq!(told(status("2"), "2"), None);
        assert_eq!(told(status("2"), "1"), Some(status("1")));
        assert_eq!(told(status("2"), "3"), Some(status("3")));
        assert_eq!(told(json!({}), "0"), Some(status("0")));
        let other = json!({"hard": {"pods": "9"}, "used": {"pods": "2"}});
        assert_eq!(told(other, "1"), Some(status("1")));
    }
}
