//! What a run is judged by: every change of the store, and what clients of the API asked and were told.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use crate::recording::RestFate;

/// Everything of one run. Times are nanoseconds since it began.
#[derive(Debug, Default)]
pub struct History {
    pub truth: Truth,
    /// Every request of every client, as it was sent.
    pub asks: Vec<Ask>,
    pub calls: Vec<Call>,
    pub informers: Vec<Informer>,
    pub runs: Vec<PodRun>,
    pub deeds: Vec<Deed>,
    /// Machines that stood still: member, from, until.
    pub pauses: Vec<(u64, u64, u64)>,
    pub rights: Vec<Right>,
    /// Requests, by their place among all that was asked, whose answer is nothing that this API says.
    pub nonsense: Vec<usize>,
    /// What members need not know any more; nothing where nobody sees how they begin, and then it is not judged.
    pub horizons: Option<Vec<Horizon>>,
    /// What was not as it is wanted when nobody had wished for anything new for long, with its object.
    pub missing: Vec<(String, String)>,
}

/// A write of the controllers, other than of their lease, that was acknowledged.
#[derive(Clone, Debug, Hash)]
pub struct Deed {
    /// As the lease names its holder.
    pub who: String,
    pub member: u64,
    pub called: u64,
    pub returned: u64,
    pub revision: i64,
    /// Method and path.
    pub what: String,
}

/// One request of a client, in words. No rule reads it: it is to be seen.
#[derive(Clone, Debug, Hash)]
pub struct Ask {
    pub client: u32,
    pub member: u64,
    pub called: u64,
    /// Nothing where the connection broke, or nobody waited any longer.
    pub returned: Option<u64>,
    pub method: String,
    /// With the path, and the beginning of the body.
    pub request: String,
    pub fate: RestFate,
    pub answer: String,
    /// Which of the history's calls it is, or belongs to.
    pub call: Option<u64>,
}

/// From when on a member's API server need not know changes up to a revision: it has begun behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Horizon {
    pub member: u64,
    pub at: u64,
    pub revision: i64,
    /// Its process is a new one, to which nothing of before belongs.
    pub fresh: bool,
}

/// What somebody may do, by how a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// 200.
    Allowed,
    /// 403: it is known who asks, and that he may not.
    Forbidden,
    /// 401: it is not known who asks.
    Unknown,
}

impl Access {
    /// Nothing where the answer says nothing of rights: one that says that the member cannot serve, above all.
    pub fn of(code: u16) -> Option<Access> {
        match code {
            200 => Some(Access::Allowed),
            403 => Some(Access::Forbidden),
            401 => Some(Access::Unknown),
            _ => None,
        }
    }
}

/// Whether somebody could do something, and should have been able to.
#[derive(Clone, Debug, Hash)]
pub struct Right {
    pub what: String,
    pub member: u64,
    pub expected: Access,
    /// Nothing where the member said nothing of it, as often as it was asked.
    pub found: Option<Access>,
    /// What gave it or took it away, and what found it: places among all that was asked.
    pub asks: [usize; 2],
}

/// A pod that a node's agent ran.
#[derive(Clone, Debug, Hash)]
pub struct PodRun {
    pub node: String,
    pub key: String,
    pub uid: String,
    pub from: u64,
    pub until: Option<u64>,
}

/// What was asked of the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verb {
    #[default]
    Get,
    List,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
    /// A pod gets a node.
    Bind,
}

/// One request, or the pages of one list.
#[derive(Clone, Debug, Default, Hash)]
pub struct Call {
    pub id: u64,
    pub client: u32,
    pub member: u64,
    pub called: u64,
    pub returned: Option<u64>,
    pub verb: Verb,
    /// `kind/namespace/name`; `kind/namespace/` of a collection.
    pub key: String,
    /// `resourceVersion=0`, which may be served from a cache.
    pub any_version: bool,
    /// The version that a write demanded, in its object or its preconditions.
    pub expects: Option<i64>,
    /// The uid that a deletion demanded.
    pub expects_uid: Option<String>,
    /// It leaves no finalizer.
    pub releases: bool,
    /// Of a binding: the node.
    pub node: String,
    /// Of a server-side apply: what it wants.
    pub applies: Option<Applied>,
    pub told: Told,
}

/// One field of an object's `data`, as somebody applies it. Nobody else ever writes this value.
#[derive(Clone, Debug, Hash)]
pub struct Applied {
    pub manager: String,
    pub field: String,
    pub value: String,
    /// Takes the field over from whom it is.
    pub force: bool,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// The object: as it is, as it was written, or as a deletion left it or removed it.
    Object(Seen),
    /// Done; there is nothing to see.
    Done,
    /// Pages of one list, with the version that each says that it is of.
    Pages(Vec<(i64, Vec<Seen>)>),
    Refused {
        code: u16,
        reason: String,
    },
    /// No answer, or none that says whether it was done.
    Unknown(String),
}

impl Default for Told {
    fn default() -> Told {
        Told::Unknown("no answer before the end".into())
    }
}

impl Told {
    /// The newest version that it tells of.
    pub fn newest(&self) -> i64 {
        match self {
            Told::Object(seen) => seen.revision,
            Told::Pages(pages) => pages
                .iter()
                .map(|(revision, _)| *revision)
                .max()
                .unwrap_or(0),
            _ => 0,
        }
    }

    pub fn is_success(&self) -> bool {
        matches!(self, Told::Object(_) | Told::Done | Told::Pages(_))
    }
}

/// An object that somebody was shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub key: String,
    pub uid: String,
    pub revision: i64,
    /// Of its content, without the version.
    pub digest: u64,
}

/// A client that lists and watches and keeps what it was shown.
#[derive(Clone, Debug, Hash)]
pub struct Informer {
    pub client: u32,
    /// `kind/` or `kind/namespace/`.
    pub prefix: String,
    pub steps: Vec<Stepped>,
    /// It was given time at the end, when clients wrote no more: it has to know everything up to this revision.
    pub settled: Option<i64>,
}

/// What happened to an informer, and when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stepped {
    pub at: u64,
    pub step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Listed {
        member: u64,
        revision: i64,
        items: Vec<Seen>,
        /// The request, by its place among all that was asked; nothing where the watch that begins next has shown it.
        asked: Option<usize>,
    },
    /// A watch was opened from this version on.
    Watch {
        member: u64,
        from: i64,
    },
    Event {
        kind: EventKind,
        seen: Seen,
    },
    Bookmark {
        revision: i64,
    },
    /// It was told that a version is too old: the one up to which it knows everything, or else the one that it was told.
    Expired {
        member: u64,
        asked: Option<i64>,
        /// The oldest version after which the member says that it knows everything.
        oldest: Option<i64>,
    },
    /// Its watch is over: the client left, or the connection broke.
    Left {
        lost: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

/// Every state of every object, by key and revision: nothing where it was deleted.
#[derive(Debug, Default)]
pub struct Truth {
    changes: BTreeMap<String, BTreeMap<i64, Option<Arc<Value>>>>,
    by_revision: BTreeMap<i64, Vec<String>>,
    last: i64,
}

impl Truth {
    pub fn put(&mut self, revision: i64, key: &str, object: Option<Value>) {
        let states = self.changes.entry(key.into()).or_default();
        states.insert(revision, object.map(Arc::new));
        self.by_revision
            .entry(revision)
            .or_default()
            .push(key.into());
        self.reach(revision);
    }

    /// Nothing else has happened up to and including this revision.
    pub fn reach(&mut self, revision: i64) {
        self.last = self.last.max(revision);
    }

    /// The revision up to which everything is known.
    pub fn last(&self) -> i64 {
        self.last
    }

    /// Every object that ever was, with its states in order.
    pub fn objects(&self) -> impl Iterator<Item = (&str, &BTreeMap<i64, Option<Arc<Value>>>)> {
        self.changes
            .iter()
            .map(|(key, states)| (key.as_str(), states))
    }

    /// Everything that is known, into a number that stands for a run.
    pub fn hash_into(&self, hasher: &mut DefaultHasher) {
        for (key, states) in &self.changes {
            for (revision, state) in states {
                (key, revision, state.as_deref().map(digest)).hash(hasher);
            }
        }
    }

    fn states(&self, key: &str) -> Option<&BTreeMap<i64, Option<Arc<Value>>>> {
        self.changes.get(key)
    }

    /// The change at exactly this revision: a state, or none for a deletion.
    pub fn change(&self, key: &str, revision: i64) -> Option<Option<&Arc<Value>>> {
        Some(self.states(key)?.get(&revision)?.as_ref())
    }

    /// As of a revision, with the revision that made it so.
    pub fn at(&self, key: &str, revision: i64) -> Option<(i64, &Arc<Value>)> {
        let (made, state) = self.states(key)?.range(..=revision).next_back()?;
        Some((*made, state.as_ref()?))
    }

    /// Before a revision.
    pub fn before(&self, key: &str, revision: i64) -> Option<(i64, &Arc<Value>)> {
        self.at(key, revision - 1)
    }

    /// The first change after a revision.
    pub fn next_change(&self, key: &str, revision: i64) -> Option<i64> {
        let after = (Bound::Excluded(revision), Bound::Unbounded);
        Some(*self.states(key)?.range(after).next()?.0)
    }

    /// Keys with this prefix that are there as of a revision, with the revisions that made them so.
    pub fn list(&self, prefix: &str, revision: i64) -> Vec<(&str, i64)> {
        let from = self.changes.range(prefix.to_string()..);
        let below = from.take_while(|(key, _)| key.starts_with(prefix));
        let present = below.filter_map(|(key, _)| Some((key.as_str(), self.at(key, revision)?.0)));
        present.collect()
    }

    /// The first change below a prefix after `from` and before `until`.
    pub fn between(&self, prefix: &str, from: i64, until: i64) -> Option<(i64, &str)> {
        if from >= until {
            return None;
        }
        let inside = (Bound::Excluded(from), Bound::Excluded(until));
        let changes = self.by_revision.range(inside);
        changes
            .flat_map(|(revision, keys)| keys.iter().map(|key| (*revision, key.as_str())))
            .find(|(_, key)| key.starts_with(prefix))
    }
}

/// The uid of an object.
pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

pub fn finalizers(object: &Value) -> usize {
    object["metadata"]["finalizers"]
        .as_array()
        .map_or(0, Vec::len)
}

pub fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Of everything in an object that does not depend on who shows it.
pub fn digest(object: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    digest_into(object, 0, &mut hasher);
    hasher.finish()
}

fn digest_into(value: &Value, depth: usize, hasher: &mut DefaultHasher) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let shown = matches!(
                    (depth, name.as_str()),
                    (0, "apiVersion" | "kind") | (1, "resourceVersion")
                );
                if !shown {
                    name.hash(hasher);
                    digest_into(field, depth + 1, hasher);
                }
            }
            0xfe_u8.hash(hasher);
        }
        Value::Array(items) => {
            items
                .iter()
                .for_each(|item| digest_into(item, depth + 2, hasher));
            0xff_u8.hash(hasher);
        }
        other => other.to_string().hash(hasher),
    }
}

impl Seen {
    /// What an answer shows; none where it is no object.
    pub fn of(kind: &str, object: &Value) -> Option<Seen> {
        let metadata = object.get("metadata")?;
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        Some(Seen {
            key: key(kind, text("namespace"), text("name")),
            uid: text("uid").into(),
            revision: text("resourceVersion").parse().ok()?,
            digest: digest(object),
        })
    }
}

/// As objects are named here; without the namespace where there is none.
pub fn key(kind: &str, namespace: &str, name: &str) -> String {
    match namespace {
        "" => format!("{kind}/{name}"),
        _ => format!("{kind}/{namespace}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_truth_of_any_revision_is_known() {
        let mut truth = Truth::default();
        truth.put(3, "a/x", Some(json!({"v": 1})));
        truth.put(5, "a/y", Some(json!({"v": 2})));
        truth.put(6, "b/z", Some(json!({"v": 3})));
        truth.put(8, "a/x", None);
        assert_eq!(truth.last(), 8);
        assert_eq!(truth.list("a/", 5), [("a/x", 3), ("a/y", 5)]);
        assert_eq!(truth.list("a/", 8), [("a/y", 5)]);
        assert_eq!(truth.at("a/x", 7).map(|(made, _)| made), Some(3));
        assert_eq!(truth.at("a/x", 8), None);
        assert_eq!(truth.change("a/x", 8), Some(None));
        assert_eq!(truth.next_change("a/x", 3), Some(8));
        assert_eq!(truth.between("a/", 5, 8), None);
        assert_eq!(truth.between("a/", 5, 9), Some((8, "a/x")));
        assert_eq!(truth.between("", 5, 9), Some((6, "b/z")));
    }

    #[test]
    fn a_digest_is_of_the_content_alone() {
        let one = json!({"kind": "A", "metadata": {"name": "a", "resourceVersion": "1"}, "data": {"k": "v"}});
        let again = json!({"metadata": {"name": "a", "resourceVersion": "2"}, "data": {"k": "v"}});
        let other = json!({"metadata": {"name": "a", "resourceVersion": "1"}, "data": {"k": "w"}});
        assert_eq!(digest(&one), digest(&again));
        assert_ne!(digest(&one), digest(&other));
        let inner = |version: &str| json!({"data": {"x": {"resourceVersion": version}}});
        assert_ne!(digest(&inner("1")), digest(&inner("2")));
    }
}
