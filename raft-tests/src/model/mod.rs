//! A reference model of etcd: what each request must answer, and what each watch must get. Written from etcd's
//! documentation and behaviour, naively: every state that a key ever had is kept, nothing is cached, and nothing is
//! shared with the store that is to be judged by it.
//!
//! Keys and values are text; etcd orders keys by their bytes, and so does Rust order text.

mod check;
mod request;

#[cfg(test)]
mod against_kv;
#[cfg(test)]
mod tests;

use crate::recording::{Event, Found, Operand, Pair, Relation, Response};
use std::collections::BTreeMap;
use std::ops::Bound;

pub use check::*;
pub use request::*;

/// The state of an etcd and all its history. The revision of a new one is 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    revision: i64,
    compacted: i64,
    /// What each key was, and from which revision on; ascending.
    keys: BTreeMap<String, Vec<Moment>>,
    events: BTreeMap<i64, Vec<Event>>,
    /// Time to live by id.
    leases: BTreeMap<i64, i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Moment {
    revision: i64,
    /// Nothing after a deletion.
    pair: Option<Pair>,
}

/// etcd's text for what it does not do.
pub type Refusal = &'static str;

/// An answered transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    pub succeeded: bool,
    pub steps: Vec<Response>,
}

/// What of the keys a watch wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub key: String,
    pub end: String,
    pub no_put: bool,
    pub no_delete: bool,
}

impl Wanted {
    /// Whether the watch is to get this event.
    pub fn wants(&self, event: &Event) -> bool {
        let filtered = if event.deleted {
            self.no_delete
        } else {
            self.no_put
        };
        !filtered && contains(&self.key, &self.end, &event.pair.key)
    }
}

/// Whether a key is in a range.
pub fn contains(key: &str, end: &str, wanted: &str) -> bool {
    match end {
        "" => key == wanted,
        "\0" => key <= wanted,
        end => key <= wanted && wanted < end,
    }
}

impl Default for Model {
    fn default() -> Model {
        Model {
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            events: BTreeMap::new(),
            leases: BTreeMap::new(),
        }
    }
}

/// Reading.
impl Model {
    pub fn revision(&self) -> i64 {
        self.revision
    }

    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    pub fn leases(&self) -> impl Iterator<Item = i64> {
        self.leases.keys().copied()
    }

    /// A key as it stood at a revision, whether compacted or not.
    pub fn pair_at(&self, key: &str, revision: i64) -> Option<&Pair> {
        at(self.keys.get(key)?, revision)
    }

    /// The keys of a range as they stood at a revision, whether compacted or not; ascending.
    pub fn pairs_at<'a>(
        &'a self,
        key: &'a str,
        end: &'a str,
        revision: i64,
    ) -> impl Iterator<Item = &'a Pair> {
        let first = Bound::Included(key);
        let last = match end {
            "" => Bound::Included(key),
            "\0" => Bound::Unbounded,
            // A map has no range that ends before it begins.
            end if end <= key => Bound::Included(key),
            end => Bound::Excluded(end),
        };
        self.keys
            .range::<str, _>((first, last))
            .filter(move |(found, _)| contains(key, end, found))
            .filter_map(move |(_, moments)| at(moments, revision))
    }

    /// Every key that ever was; ascending.
    pub fn all_keys(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    /// Keys that have this lease at a revision; ascending.
    pub fn keys_of_lease(&self, lease: i64, revision: i64) -> Vec<String> {
        let pairs = self
            .keys
            .values()
            .filter_map(|moments| at(moments, revision));
        let own = pairs.filter(|pair| pair.lease == lease);
        own.map(|pair| pair.key.clone()).collect()
    }

    /// The last revision that changed a key, not after this one.
    pub fn last_change(&self, key: &str, revision: i64) -> Option<i64> {
        let moments = self.keys.get(key)?;
        let after = moments.partition_point(|moment| moment.revision <= revision);
        Some(moments[..after].last()?.revision)
    }

    /// All events of a revision.
    pub fn events_at(&self, revision: i64) -> &[Event] {
        self.events.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// What happened from one revision to another, both included.
    pub fn events_between(&self, from: i64, to: i64) -> impl Iterator<Item = (i64, &[Event])> {
        // A map has no range that ends before it begins.
        let events = self.events.range(from..=to.max(from));
        events
            .filter(move |(revision, _)| **revision <= to)
            .map(|(revision, events)| (*revision, events.as_slice()))
    }

    /// Answers a range.
    ///
    /// # Errors
    /// As etcd says it.
    pub fn range(&self, range: &Range) -> Result<Found, Refusal> {
        check_range(range)?;
        self.may_read(range.revision)?;
        Ok(self.found(range, self.revision))
    }

    /// What a watch from a revision on has to have got by now: whole revisions, ascending.
    ///
    /// # Errors
    /// The compacted revision, where the first wanted one is below it.
    pub fn watch(&self, wanted: &Wanted, from: i64) -> Result<Vec<(i64, Vec<Event>)>, i64> {
        if from < self.compacted {
            return Err(self.compacted);
        }
        Ok(self.history(wanted, from))
    }

    /// As [`Model::watch`], whether compacted or not.
    pub fn history(&self, wanted: &Wanted, from: i64) -> Vec<(i64, Vec<Event>)> {
        let mut seen = Vec::new();
        for (revision, events) in self.events.range(from..) {
            let own: Vec<Event> = events.iter().filter(|e| wanted.wants(e)).cloned().collect();
            if !own.is_empty() {
                seen.push((*revision, own));
            }
        }
        seen
    }

    fn may_read(&self, revision: i64) -> Result<(), Refusal> {
        match revision {
            ..=0 => Ok(()),
            _ if revision > self.revision => Err(FUTURE_REVISION),
            _ if revision < self.compacted => Err(COMPACTED),
            _ => Ok(()),
        }
    }

    /// The answer to a range that may be read; `newest` is what revision 0 means.
    pub(crate) fn found(&self, range: &Range, newest: i64) -> Found {
        let revision = if range.revision > 0 {
            range.revision
        } else {
            newest
        };
        let mut pairs: Vec<Pair> = self
            .pairs_at(&range.key, &range.end, revision)
            .cloned()
            .collect();
        let count = pairs.len() as i64;
        if range.count_only {
            return Found {
                count,
                ..Found::default()
            };
        }
        let inside = |value: i64, min: i64, max: i64| {
            (min == 0 || value >= min) && (max == 0 || value <= max)
        };
        pairs.retain(|pair| {
            inside(pair.modified, range.min_mod, range.max_mod)
                && inside(pair.created, range.min_create, range.max_create)
        });
        sort(&mut pairs, range);
        let more = range.limit > 0 && pairs.len() as i64 > range.limit;
        if more {
            pairs.truncate(range.limit as usize);
        }
        if range.keys_only {
            pairs.iter_mut().for_each(|pair| pair.value.clear());
        }
        Found { pairs, count, more }
    }

    /// The answer to a transaction in the state of a revision; nothing where it would change a key.
    pub fn answer_at(&self, txn: &Txn, revision: i64) -> Option<Answered> {
        self.read(&self.path(txn, revision), revision)
    }

    fn read(&self, path: &Path, revision: i64) -> Option<Answered> {
        let answer = |step: &Taken| match step {
            Taken::Txn(nested) => {
                let answered = self.read(nested, revision)?;
                Some(Response::Txn {
                    succeeded: answered.succeeded,
                    steps: answered.steps,
                })
            }
            Taken::Step(Step::Range(range)) => Some(Response::Range(self.found(range, revision))),
            Taken::Step(Step::Delete(delete)) => {
                let mut pairs = self.pairs_at(&delete.key, &delete.end, revision);
                pairs.next().is_none().then(|| Response::Delete {
                    deleted: 0,
                    prev: Vec::new(),
                })
            }
            Taken::Step(_) => None,
        };
        Some(Answered {
            succeeded: path.succeeded,
            steps: path.steps.iter().map(answer).collect::<Option<_>>()?,
        })
    }

    /// The branches that are taken, on all levels, by the state of a revision.
    fn path<'a>(&self, txn: &'a Txn, revision: i64) -> Path<'a> {
        let holds = |compare| self.holds(compare, revision);
        let succeeded = txn.compares.iter().all(holds);
        let steps = if succeeded { &txn.then } else { &txn.otherwise };
        let nested = |step: &'a Step| match step {
            Step::Txn(nested) => Taken::Txn(self.path(nested, revision)),
            other => Taken::Step(other),
        };
        Path {
            succeeded,
            steps: steps.iter().map(nested).collect(),
        }
    }

    fn holds(&self, compare: &Compare, revision: i64) -> bool {
        let pairs: Vec<&Pair> = self
            .pairs_at(&compare.key, &compare.end, revision)
            .collect();
        if pairs.is_empty() {
            // A value that is not there is unlike every value, also as far as "unlike" is asked for.
            let is_value = matches!(compare.operand, Operand::Value(_));
            return !is_value && pair_holds(compare, &Pair::default());
        }
        pairs.into_iter().all(|pair| pair_holds(compare, pair))
    }
}

/// Writing.
impl Model {
    /// Grants a lease.
    ///
    /// # Errors
    /// As etcd says it.
    pub fn grant(&mut self, lease: i64, ttl: i64) -> Result<i64, Refusal> {
        if ttl > 9_000_000_000 {
            return Err(LEASE_TTL_TOO_LARGE);
        }
        if self.leases.contains_key(&lease) {
            return Err(LEASE_EXISTS);
        }
        let ttl = ttl.max(1);
        self.leases.insert(lease, ttl);
        Ok(ttl)
    }

    /// Ends a lease and deletes its keys, all in one revision.
    ///
    /// # Errors
    /// As etcd says it.
    pub fn revoke(&mut self, lease: i64) -> Result<(), Refusal> {
        if self.leases.remove(&lease).is_none() {
            return Err(LEASE_NOT_FOUND);
        }
        let mut events = Vec::new();
        for key in self.keys_of_lease(lease, self.revision) {
            self.delete_key(&key, &mut events);
        }
        self.seal(events);
        Ok(())
    }

    /// Drops history below a revision.
    ///
    /// # Errors
    /// As etcd says it.
    pub fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(COMPACTED);
        }
        if revision > self.revision {
            return Err(FUTURE_REVISION);
        }
        self.compacted = revision;
        Ok(())
    }

    /// Answers a transaction.
    ///
    /// # Errors
    /// As etcd says it; then nothing is changed.
    pub fn txn(&mut self, txn: &Txn) -> Result<Answered, Refusal> {
        check_txn(txn)?;
        // Which branches are taken is decided for all levels by the state before.
        let path = self.path(txn, self.revision);
        self.may_do(&path)?;
        let mut events = Vec::new();
        let answered = self.carry_out(&path, &mut events);
        self.seal(events);
        Ok(answered)
    }

    /// What can only be refused when the state is known.
    fn may_do(&self, path: &Path) -> Result<(), Refusal> {
        for step in &path.steps {
            match step {
                Taken::Txn(nested) => self.may_do(nested)?,
                Taken::Step(Step::Range(range)) => self.may_read(range.revision)?,
                Taken::Step(Step::Put(put)) => {
                    let keeps = put.ignore_value || put.ignore_lease;
                    if keeps && self.pair_at(&put.key, self.revision).is_none() {
                        return Err(KEY_NOT_FOUND);
                    }
                    if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                        return Err(LEASE_NOT_FOUND);
                    }
                }
                Taken::Step(_) => {}
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, path: &Path, events: &mut Vec<Event>) -> Answered {
        let mut steps = Vec::new();
        for step in &path.steps {
            let newest = self.revision + i64::from(!events.is_empty());
            steps.push(match step {
                Taken::Txn(nested) => {
                    let answered = self.carry_out(nested, events);
                    Response::Txn {
                        succeeded: answered.succeeded,
                        steps: answered.steps,
                    }
                }
                Taken::Step(Step::Range(range)) => Response::Range(self.found(range, newest)),
                Taken::Step(Step::Put(put)) => {
                    let prev = self.put_key(put, events);
                    Response::Put {
                        prev: prev.filter(|_| put.prev),
                    }
                }
                Taken::Step(Step::Delete(delete)) => {
                    let pairs = self.pairs_at(&delete.key, &delete.end, newest);
                    let mut prev: Vec<Pair> = pairs.cloned().collect();
                    for pair in &prev {
                        self.delete_key(&pair.key, events);
                    }
                    let deleted = prev.len() as i64;
                    if !delete.prev {
                        prev.clear();
                    }
                    Response::Delete { deleted, prev }
                }
                Taken::Step(Step::Txn(_)) => unreachable!("the path has taken a branch of it"),
            });
        }
        Answered {
            succeeded: path.succeeded,
            steps,
        }
    }

    fn put_key(&mut self, put: &Put, events: &mut Vec<Event>) -> Option<Pair> {
        let revision = self.revision + 1;
        let before = self.pair_at(&put.key, revision).cloned();
        let kept = before.clone().unwrap_or_default();
        let pair = Pair {
            key: put.key.clone(),
            value: if put.ignore_value {
                kept.value
            } else {
                put.value.clone()
            },
            created: before.as_ref().map_or(revision, |pair| pair.created),
            modified: revision,
            version: kept.version + 1,
            lease: if put.ignore_lease {
                kept.lease
            } else {
                put.lease
            },
        };
        self.change(Some(pair.clone()), &put.key);
        events.push(Event {
            deleted: false,
            pair,
            prev: before.clone(),
        });
        before
    }

    fn delete_key(&mut self, key: &str, events: &mut Vec<Event>) {
        let revision = self.revision + 1;
        let before = self.pair_at(key, revision).cloned();
        self.change(None, key);
        events.push(Event {
            deleted: true,
            pair: Pair {
                key: key.to_string(),
                modified: revision,
                ..Pair::default()
            },
            prev: before,
        });
    }

    fn change(&mut self, pair: Option<Pair>, key: &str) {
        let moment = Moment {
            revision: self.revision + 1,
            pair,
        };
        match self.keys.get_mut(key) {
            Some(moments) => moments.push(moment),
            None => {
                self.keys.insert(key.to_string(), vec![moment]);
            }
        }
    }

    /// A request that has changed something has made a revision; others make none.
    fn seal(&mut self, events: Vec<Event>) {
        if !events.is_empty() {
            self.revision += 1;
            self.events.insert(self.revision, events);
        }
    }
}

/// For those who reconstruct what happened.
impl Model {
    /// Goes on at a later revision, as if what lies between had touched no key.
    pub fn skip_to(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
    }

    /// Takes back that revisions without a change were passed over.
    pub fn go_back_to(&mut self, revision: i64) {
        let newest = self.events.keys().last().copied().unwrap_or(1);
        self.revision = revision.max(newest);
    }

    /// A lease is there, whatever was known of it.
    pub fn assume_lease(&mut self, lease: i64) {
        self.leases.entry(lease).or_insert(1);
    }

    /// Makes the next revision of changes that are known only by their effects.
    pub fn force(&mut self, changes: &[Event]) {
        let mut events = Vec::new();
        for change in changes {
            if change.deleted {
                self.delete_key(&change.pair.key, &mut events);
            } else {
                let prev = self.pair_at(&change.pair.key, self.revision + 1).cloned();
                self.change(Some(change.pair.clone()), &change.pair.key);
                events.push(Event {
                    prev,
                    ..change.clone()
                });
            }
        }
        self.seal(events);
    }

    /// Takes the newest revision back, where it has changed keys.
    pub fn undo(&mut self) {
        let Some(events) = self.events.remove(&self.revision) else {
            return;
        };
        for event in &events {
            if let Some(moments) = self.keys.get_mut(&event.pair.key) {
                while moments
                    .pop_if(|moment| moment.revision >= self.revision)
                    .is_some()
                {}
                if moments.is_empty() {
                    self.keys.remove(&event.pair.key);
                }
            }
        }
        self.revision -= 1;
    }

    /// The wanted keys as they stood at a revision, without what led there.
    pub fn section(&self, revision: i64, wanted: impl Fn(&str) -> bool) -> Model {
        let keys = self.keys.iter().filter(|(key, _)| wanted(key));
        let keys = keys.filter_map(|(key, moments)| {
            let pair = at(moments, revision)?.clone();
            let moment = Moment {
                revision: pair.modified,
                pair: Some(pair),
            };
            Some((key.clone(), vec![moment]))
        });
        Model {
            revision,
            compacted: 0,
            keys: keys.collect(),
            events: BTreeMap::new(),
            leases: self.leases.clone(),
        }
    }

    /// Forgets everything but the state.
    pub fn forget_history(&mut self) {
        self.events.clear();
        self.keys.retain(|_, moments| {
            let newest = moments.pop().filter(|moment| moment.pair.is_some());
            *moments = newest.into_iter().collect();
            !moments.is_empty()
        });
    }
}

/// The branches that a transaction takes.
struct Path<'a> {
    succeeded: bool,
    steps: Vec<Taken<'a>>,
}

enum Taken<'a> {
    Step(&'a Step),
    Txn(Path<'a>),
}

fn at(moments: &[Moment], revision: i64) -> Option<&Pair> {
    let after = moments.partition_point(|moment| moment.revision <= revision);
    moments[..after].last()?.pair.as_ref()
}

fn pair_holds(compare: &Compare, pair: &Pair) -> bool {
    let order = match &compare.operand {
        Operand::Version(wanted) => pair.version.cmp(wanted),
        Operand::CreateRevision(wanted) => pair.created.cmp(wanted),
        Operand::ModRevision(wanted) => pair.modified.cmp(wanted),
        Operand::Value(wanted) => pair.value.as_str().cmp(wanted),
        Operand::Lease(wanted) => pair.lease.cmp(wanted),
    };
    match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
        Relation::NotEqual => order.is_ne(),
    }
}

/// Pairs come by key. Among equals the order by key stays, in both directions.
fn sort(pairs: &mut [Pair], range: &Range) {
    let descending = match (range.order, range.target) {
        (Order::None, Target::Key) => return,
        (Order::None | Order::Ascend, _) => false,
        (Order::Descend, _) => true,
    };
    let ascending = |a: &Pair, b: &Pair| match range.target {
        Target::Key => a.key.cmp(&b.key),
        Target::Version => a.version.cmp(&b.version),
        Target::Create => a.created.cmp(&b.created),
        Target::Mod => a.modified.cmp(&b.modified),
        Target::Value => a.value.cmp(&b.value),
    };
    pairs.sort_by(|a, b| {
        if descending {
            ascending(b, a)
        } else {
            ascending(a, b)
        }
    });
}
