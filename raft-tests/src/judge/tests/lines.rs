//! Locks, elections, and writes that are done by who has one.

use super::*;
use crate::recording::{Compare, Operand, Relation, Step, place_key};

const LINE: &str = "lock/0";

fn grant(lease: i64) -> Request {
    Request::Grant { lease, ttl: 5 }
}

fn granted() -> Response {
    Response::Lease { ttl: 5 }
}

fn lock(lease: i64) -> Request {
    let name = LINE.into();
    Request::Lock { name, lease }
}

fn held(lease: i64, revision: i64) -> Outcome {
    let key = place_key(LINE, lease);
    ok(revision, Response::Held { key, created: 0 })
}

fn elected(lease: i64, created: i64, revision: i64) -> Outcome {
    let key = place_key(LINE, lease);
    ok(revision, Response::Held { key, created })
}

fn campaign(lease: i64) -> Request {
    Request::Campaign {
        name: LINE.into(),
        lease,
        value: "v".into(),
    }
}

fn place(lease: i64, revision: i64) -> Pair {
    Pair {
        lease,
        ..first(&place_key(LINE, lease), "", revision)
    }
}

fn leader(lease: i64, created: i64, revision: i64) -> (Request, Outcome) {
    let name = LINE.into();
    let found = one(Some(Pair {
        value: "v".into(),
        ..place(lease, created)
    }));
    (
        Request::Leader { name },
        ok(revision, Response::Range(found)),
    )
}

/// A write for which the key of the place has to be there still.
fn fenced(lease: i64, created: i64, revision: i64, succeeded: bool) -> (Request, Outcome) {
    let request = Request::Txn(Txn {
        compares: vec![Compare {
            key: place_key(LINE, lease),
            relation: Relation::Equal,
            operand: Operand::CreateRevision(created),
        }],
        then: vec![Step::Put(Put {
            key: "v".into(),
            value: format!("of {lease} at {revision}"),
            ..Put::default()
        })],
        otherwise: vec![],
    });
    let steps = match succeeded {
        true => vec![Response::Put { prev: None }],
        false => vec![],
    };
    (request, ok(revision, Response::Txn { succeeded, steps }))
}

/// Leases 1 and 2 are granted.
fn in_line() -> Story {
    let mut story = Story::new();
    story.op(1, grant(1), ok(1, granted()));
    story.op(2, grant(2), ok(1, granted()));
    story
}

#[test]
fn a_lock_goes_from_one_to_the_next() {
    let mut story = in_line();
    let unlock = Request::Unlock {
        key: place_key(LINE, 1),
    };
    let (write, wrote) = fenced(1, 2, 4, true);
    let (late, refused) = fenced(1, 2, 5, false);
    let (next, done) = fenced(2, 3, 6, true);
    let value = |lease: i64, revision: i64| format!("of {lease} at {revision}");
    story
        .op(1, lock(1), held(1, 2))
        .lasting(2, 60, lock(2), held(2, 5))
        .wait(9)
        .op(1, write, wrote)
        .op(1, unlock, ok(5, Response::Done))
        .op(1, late, refused)
        .wait(40)
        .op(2, next, done)
        .watch(
            1,
            vec![
                created(1),
                events(vec![event(place(1, 2), None)]),
                events(vec![event(place(2, 3), None)]),
                events(vec![event(first("v", &value(1, 4), 4), None)]),
                events(vec![deleted(5, place(1, 2))]),
                events(vec![event(
                    pair("v", &value(2, 6), 4, 6, 2),
                    Some(first("v", &value(1, 4), 4)),
                )]),
            ],
        )
        .good();
}

#[test]
fn a_place_that_nobody_saw_the_end_of_explains_a_refusal() {
    let mut story = in_line();
    let (late, refused) = fenced(1, 2, 3, false);
    let read = Request::Range(Range {
        key: place_key(LINE, 1),
        ..Range::default()
    });
    let shown = ok(2, Response::Range(one(Some(place(1, 2)))));
    let unlock = Request::Unlock {
        key: place_key(LINE, 1),
    };
    story
        .op(1, lock(1), held(1, 2))
        .op(1, read, shown)
        .op(1, unlock, unknown())
        .op(1, late, refused)
        .good();
}

#[test]
fn two_have_a_lock_at_one_revision() {
    in_line()
        .op(1, lock(1), held(1, 3))
        .op(2, lock(2), held(2, 3))
        .bad("lock: two owners", &[3, 4], &[]);
}

#[test]
fn a_lock_is_given_while_the_lease_of_the_owner_lives() {
    in_line()
        .op(1, lock(1), held(1, 2))
        .op(2, lock(2), held(2, 3))
        .bad("lock: two owners", &[3, 4], &[]);
}

#[test]
fn a_lock_is_given_while_the_key_of_the_owner_is_there() {
    let mut story = in_line();
    let unlock = Request::Unlock {
        key: place_key(LINE, 1),
    };
    // It may have been unlocked, but was not.
    story
        .op(1, lock(1), held(1, 2))
        .op(1, unlock, unknown())
        .op(2, lock(2), held(2, 3))
        .watch(
            1,
            vec![
                created(1),
                events(vec![event(place(1, 2), None)]),
                events(vec![event(place(2, 3), None)]),
            ],
        )
        .bad("lock: two owners", &[3, 5], &[]);
}

#[test]
fn issue_11456_a_lock_is_given_to_one_whose_lease_is_over() {
    let revoke = Request::Revoke { lease: 2 };
    in_line()
        .op(1, lock(1), held(1, 2))
        .lasting(2, 60, lock(2), held(2, 6))
        .op(3, revoke, ok(4, Response::Lease { ttl: 0 }))
        .bad("lock: lease was over", &[4, 5], &[]);
}

#[test]
fn a_lock_is_given_to_one_whose_key_is_gone() {
    in_line()
        .op(2, lock(2), held(2, 3))
        .watch(
            2,
            vec![
                created(2),
                events(vec![event(place(2, 2), None)]),
                events(vec![deleted(3, place(2, 2))]),
            ],
        )
        .bad("lock: lease was over", &[3], &[]);
}

#[test]
fn who_has_lost_the_lock_writes() {
    let mut story = in_line();
    let (late, done) = fenced(1, 2, 4, true);
    let value = "of 1 at 4";
    story
        .op(1, lock(1), held(1, 2))
        .op(1, late, done)
        .watch(
            1,
            vec![
                created(1),
                events(vec![event(place(1, 2), None)]),
                events(vec![deleted(3, place(1, 2))]),
                events(vec![event(first("v", value, 4), None)]),
            ],
        )
        .bad("wrong answer", &[4], &[]);
}

#[test]
fn leaders_come_one_after_the_other() {
    let resign = Request::Resign {
        key: place_key(LINE, 1),
        created: 2,
    };
    let ((ask, one), (again, other)) = (leader(1, 2, 2), leader(2, 4, 4));
    in_line()
        .op(1, campaign(1), elected(1, 2, 2))
        .op(3, ask, one)
        .op(1, resign, ok(3, Response::Done))
        .op(2, campaign(2), elected(2, 4, 4))
        .op(3, again, other)
        .good();
}

#[test]
fn a_leader_of_before_is_seen_again() {
    let resign = Request::Resign {
        key: place_key(LINE, 1),
        created: 2,
    };
    let (ask, one) = leader(1, 2, 5);
    in_line()
        .op(1, campaign(1), elected(1, 2, 2))
        .op(1, resign, ok(3, Response::Done))
        .op(2, campaign(2), elected(2, 4, 4))
        .op(3, ask, one)
        .bad("lock: back in time", &[5, 6], &[]);
}

#[test]
fn a_leader_is_asked_for_and_a_member_answers_with_what_was() {
    let (ask, one) = leader(1, 2, 2);
    in_line()
        .op(1, campaign(1), elected(1, 2, 2))
        .put(2, "other", "1", 3)
        .op(3, ask, one)
        .bad("stale read", &[4, 5], &[]);
}

/// Locks 1 and 2, the second one after the lease of the first had ended, and each writes what needs its place.
fn two_after_each_other() -> Story {
    let mut story = in_line();
    let read = |lease: i64| {
        Request::Range(Range {
            key: place_key(LINE, lease),
            ..Range::default()
        })
    };
    let shown = |lease: i64, created: i64| {
        let found = one(Some(place(lease, created)));
        ok(created, Response::Range(found))
    };
    let (first, wrote) = fenced(1, 2, 3, true);
    let (second, wrote_too) = fenced(2, 5, 6, true);
    story
        .op(1, lock(1), held(1, 2))
        .op(1, read(1), shown(1, 2))
        .op(1, first, wrote)
        .wait(7000)
        .op(2, lock(2), held(2, 5))
        .op(2, read(2), shown(2, 5))
        .op(2, second, wrote_too);
    story
}

/// What is there after the second one has written.
fn written_by_both() -> Pair {
    pair("v", "of 2 at 6", 3, 6, 2)
}

#[test]
fn places_that_end_with_their_leases_are_not_in_the_last_state() {
    let mut story = two_after_each_other();
    let put = Request::Put(Put {
        key: "k".into(),
        value: "w".into(),
        ..Put::default()
    });
    story
        .wait(7000)
        .op(3, put, ok(8, Response::Put { prev: None }))
        .dump(1, 8, vec![first("k", "w", 8), written_by_both()])
        .good();
}

#[test]
fn a_place_in_line_is_lost() {
    // There is no revision at which the second one may have been left.
    let mut story = two_after_each_other();
    story
        .wait(7000)
        .dump(1, 6, vec![written_by_both()])
        .bad("not linearizable", &[], &[]);
}

#[test]
fn a_place_is_left_when_the_owner_is_told_so() {
    // The one open revision but that of the answer is taken by the end of another lease.
    let mut story = in_line();
    let leased = |key: &str| {
        Request::Put(Put {
            key: key.into(),
            lease: 2,
            ..Put::default()
        })
    };
    let read = Request::Range(Range {
        key: place_key(LINE, 1),
        ..Range::default()
    });
    let unlock = Request::Unlock {
        key: place_key(LINE, 1),
    };
    story
        .op(2, leased("k"), ok(2, Response::Put { prev: None }))
        .op(1, lock(1), held(1, 3))
        .op(1, read, ok(3, Response::Range(one(Some(place(1, 3))))))
        .op(1, unlock, ok(4, Response::Done))
        .wait(7000)
        .op(3, put("l", "w"), ok(6, Response::Put { prev: None }))
        .dump(1, 6, vec![first("l", "w", 6)])
        .good();
}
