//! The status of ResourceQuotas: what is used, counted from the caches. Admission charges what comes; this gives back what
//! went, and what was charged for writes that failed.
//!
//! It stands here and not among the controllers since a quota can count objects of every kind, and only here there is a
//! cache of each. Every server counts; a write compares the quota's revision, and none is made where the count is right
//! already. A charge comes a moment before its object: so a count that is lower than the charges waits until the quota
//! has been left alone for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use host::HashMap;
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
/// Between the last charge and a count that is lower.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// A pod whose deletion is overdue counts no more, which no event tells.
const RECOUNTED_AFTER: Duration = Duration::from_secs(60);

pub(crate) async fn run(server: Arc<ApiServer>) {
    server.started.wait().await;
    let mut counter = Counter::default();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        counter.turn(&server).await;
    }
}

/// What was seen of each quota, by its key.
#[derive(Default)]
struct Counter {
    seen: BTreeMap<String, Seen>,
}

struct Seen {
    revision: i64,
    since: Instant,
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

    /// Adds what the object uses.
    fn add(&mut self, used: &mut Amounts, entry: &Entry, count: impl FnOnce(&Object) -> Amounts) {
        if let Some((revision, one)) = self.objects.get(entry.key())
            && *revision == entry.revision
        {
            quota::add(used, one);
            return;
        }
        let one = count(&entry.object());
        quota::add(used, &one);
        let known = (entry.revision, one);
        self.objects.insert(entry.key().to_owned(), known);
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
            let seen = seen.or_insert(Seen {
                revision: entry.revision,
                since: now,
                counted: None,
                used: Memo::default(),
            });
            if seen.revision != entry.revision {
                seen.revision = entry.revision;
                seen.since = now;
                seen.counted = None;
            }
            seen.count(server, entry, now).await;
        }
    }
}

impl Seen {
    async fn count(&mut self, server: &Arc<ApiServer>, entry: &Entry, now: Instant) {
        let quota = entry.object();
        let objects = objects(server, &quota);
        let mark = mark(&objects);
        let is_fresh = self
            .counted
            .as_ref()
            .is_some_and(|(counted, at)| *counted == mark && now - *at < RECOUNTED_AFTER);
        if is_fresh {
            return;
        }
        let seconds = crate::clock::unix_seconds();
        let mut used = quota::nothing_used(&quota);
        self.used.prepare(&quota, now);
        for (cache, entries) in &objects {
            let Some(shape) = cache.shapes.first() else {
                continue;
            };
            for entry in entries {
                self.used.add(&mut used, entry, |object| {
                    quota::used_by(&quota, &shape.group, &shape.plural, object, seconds)
                });
            }
        }
        let settled = now - self.since >= SETTLED_AFTER;
        match judge(&quota, &used, settled) {
            Verdict::Right => self.counted = Some((mark, now)),
            Verdict::Wait => {}
            Verdict::Write(counted) => write(server, &quota, *counted).await,
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

/// What follows from a count.
enum Verdict {
    Right,
    /// Less is used than charged, and the quota was charged only just now.
    Wait,
    /// The quota as it should be.
    Write(Box<Object>),
}

fn judge(quota: &Object, used: &Amounts, settled: bool) -> Verdict {
    let of = |path: &[&str]| quota::amounts(quota.get(path).unwrap_or(&Value::Null));
    let (charged, wanted) = (of(&["status", "used"]), of(&["spec", "hard"]));
    let same_limits = of(&["status", "hard"]) == wanted;
    if same_limits && charged == *used {
        return Verdict::Right;
    }
    let is_lower = same_limits
        && used
            .iter()
            .all(|(name, amount)| charged.get(name).is_some_and(|charged| amount <= charged));
    if is_lower && !settled {
        return Verdict::Wait;
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
    Verdict::Write(Box::new(counted))
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
mod tests {
    use super::*;
    use serde_json::json;

    fn told(status: Value, used: &str, settled: bool) -> String {
        let quota = json!({"spec": {"hard": {"pods": "5"}}, "status": status});
        let quota = Object::new(quota).unwrap();
        let used = quota::amounts(&json!({ "pods": used }));
        match judge(&quota, &used, settled) {
            Verdict::Right => "right".to_owned(),
            Verdict::Wait => "wait".to_owned(),
            Verdict::Write(quota) => quota.get(&["status"]).unwrap().to_string(),
        }
    }

    #[test]
    fn a_lower_count_waits_for_what_was_just_charged() {
        let status = |used: &str| json!({"hard": {"pods": "5"}, "used": {"pods": used}});
        assert_eq!(told(status("2"), "2", false), "right");
        assert_eq!(told(status("2"), "1", false), "wait");
        assert_eq!(told(status("2"), "1", true), status("1").to_string());
        assert_eq!(told(status("2"), "3", false), status("3").to_string());
        assert_eq!(told(json!({}), "0", false), status("0").to_string());
        let other = json!({"hard": {"pods": "9"}, "used": {"pods": "2"}});
        assert_eq!(told(other, "1", false), status("1").to_string());
    }
}
