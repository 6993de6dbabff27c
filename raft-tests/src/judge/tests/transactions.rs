//! What is not strictly serializable, by the names that it has: the order of the revisions is the order of the
//! transactions, so each of them is an answer that the state of its revision does not give.

use super::*;
use crate::recording::{Compare, Operand, Relation, Step};

fn unchanged(key: &str, modified: i64) -> Compare {
    Compare {
        key: key.into(),
        relation: Relation::Equal,
        operand: Operand::ModRevision(modified),
    }
}

fn sets(key: &str, value: &str) -> Step {
    Step::Put(Put {
        key: key.into(),
        value: value.into(),
        ..Put::default()
    })
}

fn reads(key: &str) -> Step {
    Step::Range(Range {
        key: key.into(),
        ..Range::default()
    })
}

fn shows(pair: Pair) -> Response {
    Response::Range(one(Some(pair)))
}

fn wrote() -> Response {
    Response::Put { prev: None }
}

fn txn(compares: Vec<Compare>, then: Vec<Step>) -> Request {
    Request::Txn(Txn {
        compares,
        then,
        otherwise: vec![],
    })
}

fn held(revision: i64, steps: Vec<Response>) -> Outcome {
    let succeeded = true;
    ok(revision, Response::Txn { succeeded, steps })
}

/// `x` and `y` are 0, of one transaction at revision 2.
fn zeros() -> Story {
    let mut story = Story::new();
    let both = txn(vec![], vec![sets("x", "0"), sets("y", "0")]);
    story.op(1, both, held(2, vec![wrote(), wrote()]));
    story
}

#[test]
fn transactions_that_are_serializable() {
    let append = |list: &str, modified: i64| {
        let compares = vec![unchanged("x", modified), unchanged("y", 2)];
        txn(compares, vec![sets("x", list), reads("y")])
    };
    zeros()
        .op(
            1,
            append("0 1", 2),
            held(3, vec![wrote(), shows(first("y", "0", 2))]),
        )
        .op(
            2,
            append("0 1 2", 3),
            held(4, vec![wrote(), shows(first("y", "0", 2))]),
        )
        .op(
            3,
            txn(vec![], vec![reads("x"), reads("y")]),
            held(
                4,
                vec![
                    shows(pair("x", "0 1 2", 2, 4, 3)),
                    shows(first("y", "0", 2)),
                ],
            ),
        )
        .good();
}

#[test]
fn a_lost_append() {
    // Both append to what they have read at revision 2.
    let append = |list: &str| txn(vec![unchanged("x", 2)], vec![sets("x", list)]);
    zeros()
        .op(1, append("0 1"), held(3, vec![wrote()]))
        .op(2, append("0 2"), held(4, vec![wrote()]))
        .bad("wrong answer", &[3], &[]);
}

#[test]
fn a_lost_append_without_an_answer_is_lost_all_the_same() {
    let append =
        |list: &str, modified: i64| txn(vec![unchanged("x", modified)], vec![sets("x", list)]);
    zeros()
        .op(1, append("0 1", 2), held(3, vec![wrote()]))
        .op(2, append("0 1 2", 3), unknown())
        .op(3, append("0 1 3", 3), held(5, vec![wrote()]))
        .watch(
            3,
            vec![
                created(3),
                events(vec![event(
                    pair("x", "0 1", 2, 3, 2),
                    Some(first("x", "0", 2)),
                )]),
                events(vec![event(
                    pair("x", "0 1 2", 2, 4, 3),
                    Some(pair("x", "0 1", 2, 3, 2)),
                )]),
            ],
        )
        .bad("wrong answer", &[4], &[]);
}

#[test]
fn a_dirty_read() {
    zeros()
        .op(
            1,
            txn(vec![], vec![sets("x", "1"), sets("y", "1")]),
            failed("etcdserver: no leader"),
        )
        .read(2, "x", Some(pair("x", "1", 2, 3, 2)), 3)
        .bad("refused write", &[2, 3], &[]);
}

#[test]
fn a_read_of_half_a_transaction() {
    let both = Request::Range(Range {
        key: "x".into(),
        end: "z".into(),
        ..Range::default()
    });
    let half = Found {
        pairs: vec![pair("x", "1", 2, 3, 2), first("y", "0", 2)],
        count: 2,
        more: false,
    };
    zeros()
        .op(
            1,
            txn(vec![], vec![sets("x", "1"), sets("y", "1")]),
            held(3, vec![wrote(), wrote()]),
        )
        .op(2, both, ok(3, Response::Range(half)))
        .bad("wrong answer", &[2, 3], &[]);
}

#[test]
fn a_write_skew() {
    // Each writes one because the other is still 0.
    let compares = || vec![unchanged("x", 2), unchanged("y", 2)];
    zeros()
        .op(
            1,
            txn(compares(), vec![sets("x", "1")]),
            held(3, vec![wrote()]),
        )
        .op(
            2,
            txn(compares(), vec![sets("y", "1")]),
            held(4, vec![wrote()]),
        )
        .bad("wrong answer", &[3], &[]);
}

#[test]
fn a_read_skew() {
    // G-single: x of before the other transaction, y of after it.
    zeros()
        .op(
            1,
            txn(vec![], vec![sets("x", "1"), sets("y", "1")]),
            held(3, vec![wrote(), wrote()]),
        )
        .op(
            2,
            txn(vec![], vec![reads("x"), reads("y"), sets("z", "1")]),
            held(
                4,
                vec![
                    shows(first("x", "0", 2)),
                    shows(pair("y", "1", 2, 3, 2)),
                    wrote(),
                ],
            ),
        )
        .bad("wrong answer", &[2, 3], &[]);
}

#[test]
fn a_cycle_through_real_time() {
    // Serializable, but not in the order in which they were done.
    zeros()
        .op(1, txn(vec![], vec![sets("x", "1")]), held(4, vec![wrote()]))
        .op(2, txn(vec![], vec![sets("y", "1")]), held(3, vec![wrote()]))
        .bad("against real time", &[2, 3], &[]);
}
