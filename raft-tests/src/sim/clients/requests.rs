//! Single requests, and a pair.

use std::sync::atomic::Ordering;

use rand::RngExt;

use super::{Client, Shared, Work};
use crate::etcd::turns::{equals, one};
use crate::recording::{
    Compare, Delete, Operand, Outcome, Pair, Put, Range, Relation, Request, Step, Txn,
};

/// Keys that are read and written several at a time.
const MIXED: u32 = 6;

impl Client<'_> {
    pub(super) fn register(&mut self) -> String {
        format!(
            "r/{:02}",
            self.rng.random_range(0..self.shared.mix.registers)
        )
    }

    /// Writes, and reads that on another member: nowhere may it be unknown.
    pub(super) async fn echo(&mut self) {
        let key = self.register();
        let put = put(self.shared, key.clone(), false);
        self.ask(Request::Put(put)).await;
        self.move_on();
        self.ask(Request::Range(one(&key))).await;
    }

    /// What work of a single request asks for. `seen` is a register as it was read last.
    pub(super) fn request(&mut self, work: Work, seen: &Pair) -> Request {
        let key = self.register();
        match work {
            Work::Get => Request::Range(one(&key)),
            Work::GetSerializable => Request::Range(Range {
                serializable: true,
                ..one(&key)
            }),
            Work::GetOld => Request::Range(self.old_range(&key)),
            Work::Range => Request::Range(Range {
                key: "r/".into(),
                end: "t".into(),
                limit: self.rng.random_range(0..4),
                serializable: self.rng.random_bool(0.2),
                count_only: self.rng.random_bool(0.2),
                keys_only: self.rng.random_bool(0.1),
                streamed: self.rng.random_bool(0.3),
                ..Range::default()
            }),
            Work::Swap => swap(self.shared, key, seen, self.rng.random_bool(0.2)),
            Work::Delete => Request::Delete(Delete {
                key,
                prev: self.rng.random_bool(0.5),
                ..Delete::default()
            }),
            Work::DeleteRange => Request::Delete(Delete {
                key: "r/".into(),
                end: self.register(),
                prev: true,
            }),
            Work::Add => add(self.shared),
            Work::Many => Request::Txn(self.transaction(2)),
            _ => Request::Put(put(self.shared, key, self.rng.random_bool(0.3))),
        }
    }

    /// Of the past, around what is compacted, and of what is to come.
    fn old_range(&mut self, key: &str) -> Range {
        let newest = self.shared.newest();
        let compacted = self.shared.compacted.load(Ordering::Relaxed);
        let revision = match self.rng.random_range(0..4) {
            0 => compacted + self.rng.random_range(-3..4),
            1 => newest + self.rng.random_range(-2..3),
            _ => newest - self.rng.random_range(0..60),
        };
        let whole = Range {
            key: "r/".into(),
            end: "y".into(),
            limit: self.rng.random_range(0..6) * self.rng.random_range(0..3),
            ..Range::default()
        };
        let range = match self.rng.random_bool(0.3) {
            true => one(key),
            false => whole,
        };
        Range {
            revision: revision.max(1),
            serializable: self.rng.random_bool(0.3),
            count_only: self.rng.random_bool(0.1),
            keys_only: self.rng.random_bool(0.1),
            streamed: self.rng.random_bool(0.5),
            ..range
        }
    }

    /// Compacts what is older than a little while, or to the last deletion: at that revision it is still to be seen, and the
    /// key is not.
    pub(super) async fn compact(&mut self) {
        let revision = match self.rng.random_bool(0.5) {
            true => self.shared.deleted.load(Ordering::Relaxed),
            false => self.shared.newest() - self.rng.random_range(1..60),
        };
        let revision = revision.max(1);
        let outcome = self.ask(Request::Compact { revision }).await;
        if let Outcome::Ok { .. } = outcome {
            self.shared.compacted.fetch_max(revision, Ordering::Relaxed);
        }
    }

    /// Several keys in one, with comparisons; `depth` transactions in another at most.
    fn transaction(&mut self, depth: u32) -> Txn {
        let compares = (0..self.rng.random_range(0..3)).map(|_| self.compare());
        let compares = compares.collect();
        // Different keys in all of it: two writes of one in a transaction are refused.
        let first = self.rng.random_range(0..MIXED);
        Txn {
            compares,
            then: self.steps(first, 4, depth),
            otherwise: self.steps(first, 2, depth),
        }
    }

    fn compare(&mut self) -> Compare {
        let newest = self.shared.newest();
        let operand = match self.rng.random_range(0..4) {
            0 => Operand::CreateRevision(0),
            1 => Operand::Version(self.rng.random_range(0..4)),
            2 => Operand::Value(format!("v{}", self.rng.random_range(0..newest.max(1)))),
            _ => Operand::ModRevision(newest - self.rng.random_range(0..6)),
        };
        let relation = match self.rng.random_range(0..4) {
            0 => Relation::Equal,
            1 => Relation::Greater,
            2 => Relation::Less,
            _ => Relation::NotEqual,
        };
        Compare {
            key: mixed(self.rng.random_range(0..MIXED)),
            relation,
            operand,
        }
    }

    /// A key as it was, or is; of a revision that may be compacted by the time it is read.
    fn past(&mut self, key: &str) -> Range {
        let revision = self.shared.newest() - self.rng.random_range(0..60);
        let is_past = self.rng.random_bool(0.5);
        Range {
            revision: if is_past { revision.max(1) } else { 0 },
            ..one(key)
        }
    }

    fn steps(&mut self, first: u32, most: u32, depth: u32) -> Vec<Step> {
        let count = self.rng.random_range(1..=most);
        (0..count)
            .map(|number| {
                let key = mixed((first + number) % MIXED);
                match self.rng.random_range(0..8) {
                    0 => Step::Range(one(&key)),
                    1 => Step::Range(self.past(&key)),
                    2 => Step::Delete(Delete {
                        key,
                        prev: true,
                        ..Delete::default()
                    }),
                    3 if depth > 0 => Step::Txn(Txn {
                        compares: vec![self.compare()],
                        then: vec![Step::Put(put(self.shared, key.clone(), true))],
                        otherwise: vec![Step::Range(one(&key))],
                    }),
                    _ => Step::Put(put(self.shared, key, self.rng.random_bool(0.5))),
                }
            })
            .collect()
    }
}

fn mixed(number: u32) -> String {
    format!("x/{number}")
}

fn put(shared: &Shared, key: String, prev: bool) -> Put {
    Put {
        key,
        value: format!("v{}", shared.unique()),
        lease: 0,
        prev,
    }
}

/// Changes or deletes a key that has not changed since it was read, or reads it.
fn swap(shared: &Shared, other: String, seen: &Pair, delete: bool) -> Request {
    let (key, modified) = match seen.key.is_empty() {
        true => (other, 0),
        false => (seen.key.clone(), seen.modified),
    };
    let then = match delete && modified > 0 {
        true => Step::Delete(Delete {
            key: key.clone(),
            ..Delete::default()
        }),
        false => Step::Put(put(shared, key.clone(), false)),
    };
    Request::Txn(Txn {
        compares: vec![equals(&key, Operand::ModRevision(modified))],
        then: vec![then],
        otherwise: vec![Step::Range(one(&key))],
    })
}

/// A key that is there once and never goes.
fn add(shared: &Shared) -> Request {
    let key = format!("set/{:05}", shared.unique());
    Request::Txn(Txn {
        compares: vec![equals(&key, Operand::CreateRevision(0))],
        then: vec![Step::Put(put(shared, key, false))],
        otherwise: Vec::new(),
    })
}
