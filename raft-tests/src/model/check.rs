//! What is refused whatever the state is, and etcd's texts for all refusals.

use super::{Delete, Put, Range, Refusal, Step, Txn};
use std::collections::BTreeSet;

pub const EMPTY_KEY: Refusal = "etcdserver: key is not provided";
pub const KEY_NOT_FOUND: Refusal = "etcdserver: key not found";
pub const VALUE_PROVIDED: Refusal = "etcdserver: value is provided";
pub const LEASE_PROVIDED: Refusal = "etcdserver: lease is provided";
pub const TOO_MANY_OPS: Refusal = "etcdserver: too many operations in txn request";
pub const DUPLICATE_KEY: Refusal = "etcdserver: duplicate key given in txn request";
pub const COMPACTED: Refusal = "etcdserver: mvcc: required revision has been compacted";
pub const FUTURE_REVISION: Refusal = "etcdserver: mvcc: required revision is a future revision";
pub const LEASE_NOT_FOUND: Refusal = "etcdserver: requested lease not found";
pub const LEASE_EXISTS: Refusal = "etcdserver: lease already exists";
pub const LEASE_TTL_TOO_LARGE: Refusal = "etcdserver: too large lease TTL";

/// Steps of one list; what is nested has only what the level around it leaves.
const TXN_STEPS_MAX: usize = 128;

pub(super) fn check_range(range: &Range) -> Result<(), Refusal> {
    not_empty(&range.key)
}

pub(super) fn check_txn(txn: &Txn) -> Result<(), Refusal> {
    check_shape(txn, TXN_STEPS_MAX)?;
    changed(&txn.then)?;
    changed(&txn.otherwise)?;
    Ok(())
}

fn not_empty(key: &str) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(EMPTY_KEY);
    }
    Ok(())
}

fn check_put(put: &Put) -> Result<(), Refusal> {
    not_empty(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(VALUE_PROVIDED);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(LEASE_PROVIDED);
    }
    Ok(())
}

fn check_shape(txn: &Txn, steps_max: usize) -> Result<(), Refusal> {
    let lists = [txn.compares.len(), txn.then.len(), txn.otherwise.len()];
    let longest = lists.into_iter().max().unwrap_or(0);
    if longest > steps_max {
        return Err(TOO_MANY_OPS);
    }
    for compare in &txn.compares {
        not_empty(&compare.key)?;
    }
    for step in txn.then.iter().chain(&txn.otherwise) {
        match step {
            Step::Range(range) => check_range(range)?,
            Step::Put(put) => check_put(put)?,
            Step::Delete(delete) => not_empty(&delete.key)?,
            Step::Txn(nested) => check_shape(nested, steps_max - longest)?,
        }
    }
    Ok(())
}

/// What a list of steps may change, on all levels below it.
#[derive(Default)]
struct Changed {
    puts: BTreeSet<String>,
    /// Those of them that keep a value or a lease.
    keeping: BTreeSet<String>,
    deletes: Vec<Delete>,
}

impl Changed {
    fn deletes(&self, key: &str) -> bool {
        // Here, and only here, etcd takes the end literally: "\0" ends before every key.
        let hits = |delete: &Delete| match delete.end.as_str() {
            "" => delete.key == key,
            end => delete.key.as_str() <= key && key < end,
        };
        self.deletes.iter().any(hits)
    }

    /// etcd comes to a panic where what is to be kept is deleted from a key on; that is better refused.
    fn deletes_kept(&self, key: &str) -> bool {
        let hits = |delete: &Delete| delete.end == "\0" && delete.key.as_str() <= key;
        self.deletes.iter().any(hits)
    }

    fn put(&mut self, key: String, keeps: bool) -> Result<(), Refusal> {
        if keeps {
            if self.deletes_kept(&key) {
                return Err(DUPLICATE_KEY);
            }
            self.keeping.insert(key.clone());
        }
        if self.deletes(&key) || !self.puts.insert(key) {
            return Err(DUPLICATE_KEY);
        }
        Ok(())
    }
}

/// A key may be put once, and not be deleted by the same list, nor by a transaction before it in the list.
fn changed(steps: &[Step]) -> Result<Changed, Refusal> {
    let mut all = Changed::default();
    for step in steps {
        if let Step::Delete(delete) = step {
            all.deletes.push(delete.clone());
        }
    }
    for step in steps {
        if let Step::Txn(nested) = step {
            let then = changed(&nested.then)?;
            let otherwise = changed(&nested.otherwise)?;
            // Only one of the two branches is taken, so both may put the same key.
            for key in then.puts.union(&otherwise.puts) {
                let keeps = then.keeping.contains(key) || otherwise.keeping.contains(key);
                all.put(key.clone(), keeps)?;
            }
            all.deletes.extend(then.deletes);
            all.deletes.extend(otherwise.deletes);
        }
    }
    for step in steps {
        if let Step::Put(put) = step {
            all.put(put.key.clone(), put.ignore_value || put.ignore_lease)?;
        }
    }
    Ok(all)
}
