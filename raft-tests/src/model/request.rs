//! What the model is asked: etcd's requests in full. A recording knows less of them, and converts.

use crate::recording::{self, Operand, Relation};

pub use crate::recording::{Delete, Order, Target};

/// As etcd's RangeRequest. A bound of 0 is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Range {
    pub key: String,
    pub end: String,
    pub revision: i64,
    pub limit: i64,
    pub order: Order,
    pub target: Target,
    pub count_only: bool,
    pub keys_only: bool,
    pub min_mod: i64,
    pub max_mod: i64,
    pub min_create: i64,
    pub max_create: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Put {
    pub key: String,
    pub value: String,
    pub lease: i64,
    pub prev: bool,
    /// Keep the value that is there.
    pub ignore_value: bool,
    /// Keep the lease that is there.
    pub ignore_lease: bool,
}

/// Holds where it holds for each key from `key` to `end`.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare {
    pub key: String,
    pub end: String,
    pub relation: Relation,
    pub operand: Operand,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub then: Vec<Step>,
    pub otherwise: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Range(Range),
    Put(Put),
    Delete(Delete),
    Txn(Txn),
}

impl From<&recording::Range> for Range {
    fn from(range: &recording::Range) -> Range {
        Range {
            key: range.key.clone(),
            end: range.end.clone(),
            revision: range.revision,
            limit: range.limit,
            order: range.order,
            target: range.target,
            count_only: range.count_only,
            keys_only: range.keys_only,
            min_mod: range.min_mod,
            max_mod: range.max_mod,
            min_create: range.min_create,
            max_create: range.max_create,
        }
    }
}

impl From<&recording::Put> for Put {
    fn from(put: &recording::Put) -> Put {
        Put {
            key: put.key.clone(),
            value: put.value.clone(),
            lease: put.lease,
            prev: put.prev,
            ..Put::default()
        }
    }
}

impl From<&recording::Compare> for Compare {
    fn from(compare: &recording::Compare) -> Compare {
        Compare {
            key: compare.key.clone(),
            end: String::new(),
            relation: compare.relation,
            operand: compare.operand.clone(),
        }
    }
}

impl From<&recording::Txn> for Txn {
    fn from(txn: &recording::Txn) -> Txn {
        Txn {
            compares: txn.compares.iter().map(Compare::from).collect(),
            then: txn.then.iter().map(Step::from).collect(),
            otherwise: txn.otherwise.iter().map(Step::from).collect(),
        }
    }
}

impl From<&recording::Step> for Step {
    fn from(step: &recording::Step) -> Step {
        match step {
            recording::Step::Range(range) => Step::Range(range.into()),
            recording::Step::Put(put) => Step::Put(put.into()),
            recording::Step::Delete(delete) => Step::Delete(delete.clone()),
            recording::Step::Txn(txn) => Step::Txn(txn.into()),
        }
    }
}
