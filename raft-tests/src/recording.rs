//! A run as its clients saw it: what they asked, what they were answered and when, what watches delivered, and what
//! was done to the cluster meanwhile. Every harness writes one, every judge and the report read it.
//!
//! Times are nanoseconds since the run began, of one clock for all of it (virtual in a simulation). Keys and values
//! are text, so that a recording can be read by people. One recording is one JSON document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// See the module head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    pub run: Run,
    pub operations: Vec<Operation>,
    pub watches: Vec<Watch>,
    pub faults: Vec<Fault>,
    pub samples: Vec<Sample>,
    /// All of the state, as each member has it when the run is over and healed.
    pub dumps: Vec<Dump>,
    /// Calls of the Kubernetes API. Those who made them judge them by rules of their own; here they are to be seen. Their
    /// ids, and those of its watches, are not written: they go on behind those of the operations, and of the watches.
    #[serde(default)]
    pub rest: Vec<RestCall>,
    /// What watches of that API were told, with resource versions as revisions.
    #[serde(default)]
    pub rest_watches: Vec<Watch>,
    /// What to call clients of that API, by their number; others go by the number.
    #[serde(default)]
    pub names: BTreeMap<u32, String>,
}

impl Recording {
    /// Calls of the Kubernetes API, with their ids.
    pub fn rest_calls(&self) -> impl Iterator<Item = (u64, &RestCall)> {
        let ids = self.operations.iter().map(|operation| operation.id + 1);
        (ids.max().unwrap_or(0)..).zip(&self.rest)
    }

    /// All watches, those of the Kubernetes API last, with their ids; and whether it is one of those.
    pub fn all_watches(&self) -> impl Iterator<Item = (u64, &Watch, bool)> {
        let ids = self.watches.iter().map(|watch| watch.id + 1);
        let first = ids.max().unwrap_or(0);
        let watches = self.watches.iter().map(|watch| (watch.id, watch, false));
        let rest = (first..).zip(&self.rest_watches);
        watches.chain(rest.map(|(id, watch)| (id, watch, true)))
    }

    /// Whether somebody waited for an answer while a fault lasted: else it was in nobody's way, and proves nothing.
    pub fn is_felt(&self, fault: &Fault) -> bool {
        let operations = self.operations.iter();
        let operations = operations.map(|operation| (operation.called, operation.returned));
        let rest = self.rest.iter().filter(|call| call.verb != RAN);
        let rest = rest.map(|call| (call.called, call.returned));
        let until = fault.until.unwrap_or(u64::MAX);
        operations.chain(rest).any(|(called, returned)| {
            called <= until && returned.unwrap_or(called + PATIENCE_MIN) >= fault.from
        })
    }
}

/// Every client waits for an answer at least so long before it gives up, nanoseconds.
const PATIENCE_MIN: u64 = 2_000_000_000;

/// The verb of what is no call: a pod that ran, from `called` to `returned`.
pub const RAN: &str = "run";

/// Which run this is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `sim`, `chaos` and so on.
    pub level: String,
    pub seed: u64,
    /// The command that does the same again.
    pub replay: String,
    /// Ids of the members, ascending.
    pub members: Vec<u64>,
    pub began_unix_ms: i64,
    pub length: u64,
    /// When the last fault was taken back, and the cluster had to serve again.
    pub healed: Option<u64>,
    /// What came of making its schedule small, in words; empty where nobody tried.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub smaller: String,
}

/// One call of one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Unique in the run, ascending with `called`.
    pub id: u64,
    pub client: u32,
    /// The member that was asked.
    pub member: u64,
    pub called: u64,
    /// Nothing where no answer ever came.
    pub returned: Option<u64>,
    pub request: Request,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
    Grant {
        lease: i64,
        ttl: i64,
    },
    Revoke {
        lease: i64,
    },
    KeepAlive {
        lease: i64,
    },
    Compact {
        revision: i64,
    },
    /// Takes a place in the line of this name, and waits until nobody is before it: see [`place_key`].
    Lock {
        name: String,
        lease: i64,
    },
    /// Deletes the key, which is that of a place. The revision in the header is that of the deletion, if there was one.
    Unlock {
        key: String,
    },
    /// As [`Request::Lock`]; the key of the place has this value, also where it had another one before.
    Campaign {
        name: String,
        lease: i64,
        value: String,
    },
    /// Puts the value where the key is still the one that was created then, with the lease, else is refused.
    Proclaim {
        key: String,
        created: i64,
        lease: i64,
        value: String,
    },
    /// Deletes the key where it is still the one that was created then. Its revision is as of [`Request::Unlock`].
    Resign {
        key: String,
        created: i64,
    },
    /// The first in the line of this name, as a range of one key; refused where there is none.
    Leader {
        name: String,
    },
    /// The hash of all keys of a revision, 0 for the newest, as the member has them.
    HashKv {
        revision: i64,
    },
}

/// The key of the place that a lease has in a line. It is written, if it is not there, at some revision from the call
/// on, which is told nowhere; the first in a line is the one whose creation is the oldest of all keys below `name/`. It
/// is deleted by its owner, by the end of its lease, and by the server where the one who waits is gone: so a lock or
/// a campaign without a good answer may have written, and have deleted what it wrote, or not. The header of a good answer
/// has a revision at which the place was there and was the first.
pub fn place_key(name: &str, lease: i64) -> String {
    format!("{name}/{lease:x}")
}

/// As etcd's RangeRequest: one key where `end` is empty, all from `key` on where it is "\0".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub key: String,
    pub end: String,
    /// 0 for the newest.
    pub revision: i64,
    /// 0 for all.
    pub limit: i64,
    pub serializable: bool,
    pub count_only: bool,
    pub keys_only: bool,
    /// Asked as a stream of parts, and put together.
    #[serde(default)]
    pub streamed: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub order: Order,
    /// What is put in order.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target: Target,
    /// Only pairs whose last revision, and whose creation, are within these bounds; 0 is none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_mod: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_mod: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_create: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_create: i64,
}

impl Range {
    /// Whether pairs may be left out by their revisions.
    pub fn is_filtered(&self) -> bool {
        [self.min_mod, self.max_mod, self.min_create, self.max_create] != [0; 4]
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// With the numbers that etcd gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    #[default]
    None,
    Ascend,
    Descend,
}

/// As [`Order`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Put {
    pub key: String,
    pub value: String,
    /// 0 for none.
    pub lease: i64,
    pub prev: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delete {
    pub key: String,
    pub end: String,
    pub prev: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub then: Vec<Step>,
    pub otherwise: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    pub key: String,
    pub relation: Relation,
    pub operand: Operand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// What a key is compared with. A missing key has the numbers 0; its value compares as unequal to everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Operand {
    Version(i64),
    CreateRevision(i64),
    ModRevision(i64),
    Value(String),
    Lease(i64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
}

/// One call of the Kubernetes API, in words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RestCall {
    pub client: u32,
    pub member: u64,
    pub called: u64,
    pub returned: Option<u64>,
    /// Such as `create` or `list`; and [`RAN`].
    pub verb: String,
    pub request: String,
    pub fate: RestFate,
    pub answer: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestFate {
    /// At this resource version; 0 where the answer has none.
    Done(i64),
    /// Without effect.
    Refused,
    /// It may have had its effect.
    #[default]
    Unknown,
}

/// What became of a call of the Kubernetes API, and in words what the answer says.
pub fn rest_answer(status: u16, body: &Value) -> (RestFate, String) {
    let version = body["metadata"]["resourceVersion"].as_str();
    let version = version.and_then(|text| text.parse().ok()).unwrap_or(0);
    let what = match (&body["items"], &body["message"]) {
        (Value::Array(items), _) => format!("{} objects", items.len()),
        (_, Value::String(message)) => message.clone(),
        _ => body["metadata"]["name"].as_str().unwrap_or_default().into(),
    };
    let fate = match status {
        200..=299 => RestFate::Done(version),
        500.. => RestFate::Unknown,
        _ => RestFate::Refused,
    };
    (fate, format!("{status} {what}"))
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Answered. `revision` is the one in the header.
    Ok { revision: i64, response: Response },
    /// It had no effect, for certain: refused, or never sent. `code` is the gRPC status.
    Failed { code: i32, message: String },
    /// It may have had its effect, or have it later: no answer, a broken connection, a deadline.
    Unknown { message: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    Range(Found),
    Put {
        prev: Option<Pair>,
    },
    Delete {
        deleted: i64,
        prev: Vec<Pair>,
    },
    Txn {
        succeeded: bool,
        steps: Vec<Response>,
    },
    /// Granted, revoked or kept alive; 0 for a lease that is gone.
    Lease {
        ttl: i64,
    },
    Compacted,
    /// To a lock or a campaign.
    Held {
        key: String,
        /// Its creation; 0 where it is not told, as of a lock.
        created: i64,
    },
    /// Unlocked, proclaimed or resigned.
    Done,
    Hash {
        hash: u32,
        /// Of which revision.
        revision: i64,
        compacted: i64,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    pub pairs: Vec<Pair>,
    pub count: i64,
    pub more: bool,
}

/// A key as it stood.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pair {
    pub key: String,
    pub value: String,
    pub created: i64,
    pub modified: i64,
    pub version: i64,
    pub lease: i64,
}

/// One watch on one stream, from its creation to its end. A client that resumes makes a new one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Unique in the run.
    pub id: u64,
    pub client: u32,
    pub member: u64,
    pub key: String,
    pub end: String,
    /// As asked for; 0 for what comes after the creation.
    pub start_revision: i64,
    pub prev: bool,
    pub progress: bool,
    pub no_put: bool,
    pub no_delete: bool,
    /// It is to end where the member has no leader.
    #[serde(default, skip_serializing_if = "is_default")]
    pub needs_leader: bool,
    pub called: u64,
    /// In the order of arrival.
    pub messages: Vec<WatchMessage>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchMessage {
    pub at: u64,
    /// In the header.
    pub revision: i64,
    pub body: WatchBody,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WatchBody {
    Created,
    /// One answer; `fragment` where the next one goes on with the same revision.
    Events {
        events: Vec<Event>,
        fragment: bool,
    },
    /// Nothing up to and including `revision` is still to come.
    Progress,
    /// Ended by the server. `compacted` is 0 where that is not the reason.
    Canceled {
        compacted: i64,
        reason: String,
    },
    /// The connection broke.
    Lost {
        message: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    pub deleted: bool,
    /// Of a deletion: its key and `modified` only.
    pub pair: Pair,
    pub prev: Option<Pair>,
}

/// Something that was done to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Of its sort, such as `partition`, `kill` or `pause`.
    pub kind: String,
    /// In words: what exactly.
    pub what: String,
    /// Whom it hit; empty for all.
    pub members: Vec<u64>,
    pub from: u64,
    /// Nothing for what lasts to the end; `from` for what happens in a moment.
    pub until: Option<u64>,
}

/// How a member stood at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub at: u64,
    pub member: u64,
    pub role: Role,
    pub term: u64,
    pub applied: u64,
    pub revision: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    Learner,
    #[default]
    Down,
}

/// All of the state as one member has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dump {
    pub member: u64,
    pub revision: i64,
    pub compacted: i64,
    /// Ascending by key.
    pub pairs: Vec<Pair>,
}

/// What a judge has to say against a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Which rule is broken, such as `lost write` or `watch: gap`.
    pub rule: String,
    /// Two sentences for a person, with clients, keys and revisions.
    pub story: String,
    /// The operations and watches that cannot be explained together, as few as possible.
    pub operations: Vec<u64>,
    pub watches: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_felt_where_somebody_waits() {
        let felt = |verb: &str, from, until, returned| {
            let call = RestCall {
                verb: verb.into(),
                called: 10,
                returned,
                ..RestCall::default()
            };
            let fault = Fault {
                from,
                until,
                ..Fault::default()
            };
            let recording = Recording {
                rest: vec![call],
                ..Recording::default()
            };
            recording.is_felt(&fault)
        };
        assert!(felt("get", 15, Some(15), Some(20)));
        assert!(felt("get", 5, Some(10), Some(20)));
        assert!(felt("get", 5, None, Some(20)));
        assert!(felt("get", 50, Some(60), None));
        assert!(!felt("get", 21, Some(30), Some(20)));
        assert!(!felt("get", 5, Some(9), None));
        // Who has got no answer has given up long since.
        assert!(!felt("get", 11 + PATIENCE_MIN, None, None));
        assert!(!felt(RAN, 15, Some(15), Some(20)));
    }
}
