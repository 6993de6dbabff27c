//! Each rule: what keeps it, and the least that breaks it.

use super::*;
use crate::recording::{Compare, Operand, Order, Relation, Role, Sample, Step, Target};

/// Swaps the value of a key if its last revision is this one; reads it else.
fn swap(key: &str, expected: i64, value: &str) -> Request {
    let Request::Put(new) = put(key, value) else {
        unreachable!("it is a put")
    };
    let Request::Range(old) = read(key) else {
        unreachable!("it is a read")
    };
    Request::Txn(Txn {
        compares: vec![Compare {
            key: key.into(),
            relation: Relation::Equal,
            operand: Operand::ModRevision(expected),
        }],
        then: vec![Step::Put(new)],
        otherwise: vec![Step::Range(old)],
    })
}

fn swapped(revision: i64) -> Outcome {
    let steps = vec![Response::Put { prev: None }];
    ok(
        revision,
        Response::Txn {
            succeeded: true,
            steps,
        },
    )
}

fn not_swapped(revision: i64, there: Option<Pair>) -> Outcome {
    let steps = vec![Response::Range(one(there))];
    ok(
        revision,
        Response::Txn {
            succeeded: false,
            steps,
        },
    )
}

#[test]
fn nothing_is_nothing_bad() {
    Story::new().good();
}

#[test]
fn writes_and_reads_as_they_should_be() {
    Story::new()
        .read(1, "a", None, 1)
        .put(1, "a", "1", 2)
        .op(2, swap("a", 2, "2"), swapped(3))
        .op(
            1,
            swap("a", 2, "3"),
            not_swapped(3, Some(pair("a", "2", 2, 3, 2))),
        )
        .delete(1, "a", 4)
        .read(2, "a", None, 4)
        .op(
            2,
            read_at("a", 3),
            ok(4, Response::Range(one(Some(pair("a", "2", 2, 3, 2))))),
        )
        .dump(1, 4, vec![])
        .good();
}

#[test]
fn a_wrong_value_at_its_revision() {
    Story::new()
        .put(1, "a", "1", 2)
        .put(1, "a", "2", 3)
        .read(2, "a", Some(first("a", "1", 2)), 3)
        .bad("wrong answer", &[2, 3], &[]);
}

#[test]
fn a_swap_that_should_have_failed() {
    Story::new()
        .put(1, "a", "1", 2)
        .put(1, "a", "2", 3)
        .op(2, swap("a", 2, "3"), swapped(4))
        .bad("wrong answer", &[3], &[]);
}

#[test]
fn two_swaps_of_one_revision() {
    Story::new()
        .put(1, "a", "1", 2)
        .op(2, swap("a", 2, "x"), swapped(3))
        .op(3, swap("a", 2, "y"), swapped(4))
        .bad("wrong answer", &[3], &[]);
}

#[test]
fn a_read_of_a_revision_that_is_still_to_come() {
    Story::new()
        .put(1, "a", "1", 2)
        .op(
            2,
            read_at("a", 5),
            ok(2, Response::Range(one(Some(first("a", "1", 2))))),
        )
        .bad("wrong answer", &[2], &[]);
}

#[test]
fn a_serializable_read_may_be_old_but_not_wrong() {
    let serializable = || {
        Request::Range(Range {
            key: "a".into(),
            serializable: true,
            ..Range::default()
        })
    };
    let old = |revision| ok(revision, Response::Range(one(Some(first("a", "1", 2)))));
    let mut story = Story::new();
    story.put(1, "a", "1", 2).put(1, "a", "2", 3);
    story.op(2, serializable(), old(2)).good();
    story
        .op(2, serializable(), old(3))
        .bad("wrong answer", &[2, 4], &[]);
}

#[test]
fn a_write_is_not_seen_before_it_is_asked_for() {
    Story::new()
        .read(2, "a", Some(first("a", "1", 2)), 2)
        .put(1, "a", "1", 2)
        .bad("against real time", &[1, 2], &[]);
}

#[test]
fn a_write_without_an_answer_may_have_happened_once() {
    let mut story = Story::new();
    story.lost_put(1, "a", "1").wait(50);
    story.read(2, "a", None, 1);
    story.read(2, "a", Some(first("a", "1", 2)), 2).good();
    story
        .put(2, "b", "1", 3)
        .read(2, "a", Some(pair("a", "1", 2, 4, 2)), 4)
        .bad("done twice", &[1, 5], &[]);
}

#[test]
fn a_write_without_an_answer_may_have_gone_under() {
    // Nobody has seen the first put of a, but the second one is version 2.
    Story::new()
        .lost_put(1, "a", "1")
        .put(2, "a", "2", 3)
        .read(3, "a", Some(pair("a", "2", 2, 3, 2)), 3)
        .good();
    // Nor the second deletion, but what is put afterwards is new.
    Story::new()
        .op(1, delete("a"), unknown())
        .put(2, "a", "0", 2)
        .op(3, delete("a"), unknown())
        .put(2, "a", "2", 4)
        .read(3, "a", Some(first("a", "2", 4)), 4)
        .good();
}

#[test]
fn no_placing_of_an_unanswered_write_explains_it() {
    // The deletion may have come between, but then the version would be 1.
    let mut story = Story::new();
    story
        .put(2, "a", "1", 2)
        .op(3, delete("a"), unknown())
        .put(2, "a", "2", 4)
        .read(3, "a", Some(pair("a", "2", 4, 4, 3)), 4)
        .bad("not linearizable", &[3, 4], &[]);
}

#[test]
fn an_unanswered_write_is_not_where_a_watch_would_have_shown_it() {
    let put = |key: &str, revision| event(first(key, "1", revision), None);
    let mut story = Story::new();
    story
        .put(2, "a", "1", 2)
        .op(3, delete("a"), unknown())
        .put(2, "b", "1", 4);
    let without = vec![
        created(4),
        events(vec![put("a", 2)]),
        events(vec![put("b", 4)]),
    ];
    story.watch_of("a", "c", 2, without);
    story
        .read(3, "a", None, 4)
        .bad("not linearizable", &[1, 4], &[]);
}

#[test]
fn what_was_refused_does_not_show() {
    Story::new()
        .op(1, put("a", "1"), failed("etcdserver: no leader"))
        .put(2, "b", "1", 3)
        .read(2, "a", Some(first("a", "1", 2)), 3)
        .bad("refused write", &[1, 3], &[]);
}

#[test]
fn what_nobody_wrote_does_not_show() {
    Story::new()
        .put(2, "a", "1", 3)
        .dump(1, 3, vec![first("a", "1", 3), first("x", "?", 2)])
        .bad("phantom write", &[], &[]);
}

#[test]
fn what_the_api_server_writes_is_not_judged() {
    Story::new()
        .put(2, "a", "1", 3)
        .dump(1, 3, vec![first("/registry/x", "?", 2), first("a", "1", 3)])
        .good();
}

#[test]
fn history_is_there_until_it_is_compacted() {
    let compact = || Request::Compact { revision: 3 };
    let old = ok(3, Response::Range(one(Some(first("a", "1", 2)))));
    let refusal = "etcdserver: mvcc: required revision has been compacted";
    let mut story = Story::new();
    story.put(1, "a", "1", 2).put(1, "a", "2", 3);
    story.op(2, read_at("a", 2), old.clone()).good();
    story
        .op(2, compact(), ok(3, Response::Compacted))
        .op(2, read_at("a", 2), failed(refusal))
        .good();
    story
        .op(2, read_at("a", 2), old)
        .bad("read of what is compacted", &[4, 6], &[]);
    Story::new()
        .put(1, "a", "1", 2)
        .op(2, read_at("a", 2), failed(refusal))
        .bad("compacted for nothing", &[2], &[]);
    let refusal = "etcdserver: mvcc: required revision is a future revision";
    Story::new()
        .put(1, "a", "1", 2)
        .op(2, read_at("a", 2), failed(refusal))
        .bad("stale read", &[1, 2], &[]);
}

#[test]
fn watches_as_they_should_be() {
    let one = || event(first("a", "1", 2), None);
    let two = || event(pair("a", "2", 2, 3, 2), Some(first("a", "1", 2)));
    let gone = || deleted(4, pair("a", "2", 2, 3, 2));
    let mut story = Story::new();
    story
        .put(1, "a", "1", 2)
        .put(1, "a", "2", 3)
        .delete(1, "a", 4);
    story.watch(
        2,
        vec![created(4), events(vec![one(), two(), gone()]), progress(4)],
    );
    story.watch(
        3,
        vec![
            created(4),
            events(vec![two()]),
            progress(3),
            events(vec![gone()]),
        ],
    );
    story.watch_of("a", "", 4, vec![created(4), events(vec![gone()])]);
    story.watch(0, vec![created(4), progress(4)]);
    story.watch(0, vec![created(2), events(vec![two()])]);
    story.watch(9, vec![created(4)]);
    story.good();
}

fn two_keys(messages: Vec<WatchMessage>) -> Story {
    let both = Request::Txn(Txn {
        then: ["a", "b"]
            .map(|key| {
                Step::Put(crate::recording::Put {
                    key: key.into(),
                    value: "1".into(),
                    ..Default::default()
                })
            })
            .to_vec(),
        ..Txn::default()
    });
    let steps = vec![Response::Put { prev: None }, Response::Put { prev: None }];
    let answer = Response::Txn {
        succeeded: true,
        steps,
    };
    let mut story = Story::new();
    story.op(1, both, ok(2, answer)).put(1, "a", "2", 3);
    story.watch(2, messages);
    story
}

fn put_event(key: &str) -> Event {
    event(first(key, "1", 2), None)
}

#[test]
fn a_revision_comes_whole_or_in_fragments() {
    let fragment = |key: &str, fragment| {
        let events = vec![put_event(key)];
        message(2, WatchBody::Events { events, fragment })
    };
    two_keys(vec![created(2), fragment("a", true), fragment("b", false)]).good();
    two_keys(vec![created(2), fragment("a", false), fragment("b", false)]).bad(
        "watch: revision split",
        &[1],
        &[1],
    );
    two_keys(vec![created(2), fragment("a", false)]).bad("watch: part of a revision", &[1], &[1]);
    two_keys(vec![
        created(2),
        events(vec![put_event("b"), put_event("a")]),
    ])
    .bad("watch: out of order", &[1], &[1]);
}

#[test]
fn an_event_is_what_happened() {
    let story = |pair: Pair, prev: Option<Pair>| {
        let last = events(vec![event(pair, prev)]);
        let first = events(vec![put_event("a"), put_event("b")]);
        two_keys(vec![created(2), first, last])
    };
    let good = || pair("a", "2", 2, 3, 2);
    let prev = || Some(first("a", "1", 2));
    story(good(), prev()).good();
    story(pair("a", "x", 2, 3, 2), prev()).bad("watch: wrong event", &[2], &[1]);
    story(pair("a", "2", 3, 3, 1), prev()).bad("watch: wrong creation", &[2], &[1]);
    story(good(), Some(first("a", "0", 2))).bad("watch: wrong previous value", &[1], &[1]);
    story(good(), None).bad("watch: wrong previous value", &[1], &[1]);
    story(pair("c", "2", 2, 3, 2), prev()).bad("watch: phantom event", &[2], &[1]);
}

#[test]
fn a_watch_gets_what_it_asked_for() {
    let mut story = Story::new();
    story.put(1, "a", "1", 2).delete(1, "a", 3);
    let put = || events(vec![event(first("a", "1", 2), None)]);
    story.watch_of("b", "c", 2, vec![created(3), put()]);
    story.bad("watch: not asked for", &[1], &[1]);
    story.recording.watches.clear();
    story.watch(2, vec![created(3), put()]);
    story.recording.watches[0].no_delete = true;
    story.good();
    story.recording.watches[0].no_put = true;
    story.bad("watch: not asked for", &[1], &[1]);
}

#[test]
fn a_watch_has_its_forms() {
    let put = || events(vec![event(first("a", "1", 2), None)]);
    let with = |messages: Vec<WatchMessage>| {
        let mut story = Story::new();
        story.put(1, "a", "1", 2).watch(2, messages);
        story
    };
    with(vec![put(), created(2)]).bad("watch: events before its creation", &[1], &[1]);
    let lost = message(
        0,
        WatchBody::Lost {
            message: "reset".into(),
        },
    );
    with(vec![created(2), lost, put()]).bad("watch: after its end", &[], &[1]);
    let mut behind = put();
    behind.revision = 1;
    with(vec![created(1), behind]).bad("watch: header behind its events", &[1], &[1]);
    with(vec![created(2), put(), progress(1)]).bad("watch: out of order", &[], &[1]);
}

#[test]
fn a_watch_ends_for_a_reason() {
    let ended = |compacted| {
        let reason = String::new();
        vec![
            created(4),
            message(4, WatchBody::Canceled { compacted, reason }),
        ]
    };
    let story = |start, compacted| {
        let mut story = Story::new();
        let compact = Request::Compact { revision: 3 };
        story
            .put(1, "a", "1", 2)
            .put(1, "a", "2", 3)
            .put(1, "a", "3", 4)
            .op(2, compact, ok(4, Response::Compacted))
            .watch(start, ended(compacted));
        story
    };
    story(2, 3).good();
    story(2, 0).good();
    story(3, 3).bad("watch: ended for nothing", &[], &[1]);
    story(2, 4).bad("watch: ended for nothing", &[], &[1]);
}

#[test]
fn a_healed_watch_catches_up() {
    let story = |messages: Vec<WatchMessage>| {
        let mut story = Story::new();
        story.watch(2, messages).put(1, "a", "1", 2);
        story.recording.run.healed = Some(story.now);
        story.recording.run.length = story.now + 6000 * MS;
        story
    };
    story(vec![created(1)]).bad("watch: not caught up", &[1], &[1]);
    let lost = WatchBody::Lost {
        message: String::new(),
    };
    story(vec![created(1), message(0, lost)]).good();
}

/// A lease of two seconds, from 0 on, with two keys.
fn with_lease() -> Story {
    let mut story = Story::new();
    let grant = Request::Grant { lease: 7, ttl: 2 };
    story
        .op(1, grant, ok(1, Response::Lease { ttl: 2 }))
        .op(1, leased("a", "1", 7), done(2))
        .op(1, leased("b", "1", 7), done(3));
    story
}

fn of_lease(key: &str, revision: i64) -> Pair {
    Pair {
        lease: 7,
        ..first(key, "1", revision)
    }
}

fn both_gone() -> Vec<WatchMessage> {
    let gone = vec![deleted(4, of_lease("a", 2)), deleted(4, of_lease("b", 3))];
    vec![created(3), events(gone)]
}

#[test]
fn a_lease_lives_as_long_as_it_was_renewed_for() {
    let mut story = with_lease();
    story.wait(2000).watch(0, both_gone()).good();
    let mut story = with_lease();
    story
        .wait(1000)
        .watch(0, both_gone())
        .bad("lease: ended early", &[1], &[1]);
    let renew = Request::KeepAlive { lease: 7 };
    let mut story = with_lease();
    story
        .wait(1000)
        .op(1, renew, ok(3, Response::Lease { ttl: 2 }))
        .wait(1500)
        .watch(0, both_gone())
        .bad("lease: ended early", &[4], &[1]);
}

#[test]
fn a_lease_takes_all_its_keys_at_once() {
    let mut story = with_lease();
    let one = vec![deleted(4, of_lease("a", 2))];
    let other = vec![deleted(5, of_lease("b", 3))];
    story
        .wait(2000)
        .watch(0, vec![created(3), events(one), events(other)])
        .bad("lease: keys went one by one", &[], &[1]);
}

#[test]
fn a_lease_ends_in_time_once_all_is_healed() {
    let late = |length: u64| {
        let mut story = with_lease();
        story.recording.run.healed = Some(story.now);
        story.recording.run.length = story.now + length * MS;
        story.dump(1, 3, vec![of_lease("a", 2), of_lease("b", 3)]);
        story
    };
    late(6_900).good();
    late(7_100).bad("lease: ended late", &[], &[]);
    // A new leader gives it its whole time again.
    let mut led = late(7_100);
    led.recording.samples.push(Sample {
        at: 1000 * MS,
        role: Role::Leader,
        term: 2,
        ..Sample::default()
    });
    led.good();
}

#[test]
fn a_lease_is_of_no_use_after_its_end() {
    let revoke = Request::Revoke { lease: 7 };
    let revoked = ok(4, Response::Lease { ttl: 0 });
    let renew = || Request::KeepAlive { lease: 7 };
    let mut story = with_lease();
    story
        .op(1, revoke.clone(), revoked.clone())
        .op(1, renew(), ok(4, Response::Lease { ttl: 0 }))
        .read(2, "a", None, 4)
        .good();
    story.op(1, renew(), ok(4, Response::Lease { ttl: 2 })).bad(
        "lease: used after its end",
        &[4, 7],
        &[],
    );
    let mut story = with_lease();
    story
        .op(1, revoke, revoked)
        .op(1, leased("c", "1", 7), done(5))
        .bad("lease: used after its end", &[4, 5], &[]);
}

#[test]
fn members_end_with_what_was_acknowledged() {
    let mut story = Story::new();
    story.put(1, "a", "1", 2).put(1, "a", "2", 3);
    story.dump(1, 3, vec![pair("a", "2", 2, 3, 2)]).good();
    story.dump(2, 3, vec![]).bad("members differ", &[], &[]);
    story.bad("lost write", &[2], &[]);
    story.recording.dumps.clear();
    story
        .dump(1, 3, vec![pair("a", "3", 2, 3, 2)])
        .bad("wrong state", &[2], &[]);
}

#[test]
fn what_was_not_answered_may_be_done_after_the_end() {
    let mut story = with_lease();
    let ended = vec![deleted(4, of_lease("a", 2)), deleted(4, of_lease("b", 3))];
    story
        .op(1, Request::Revoke { lease: 7 }, unknown())
        .dump(1, 3, vec![of_lease("a", 2), of_lease("b", 3)])
        .watch(0, vec![created(3), events(ended)])
        .good();
}

#[test]
fn sets_only_grow() {
    let add = |value: &str, expected| swap("set/s", expected, value);
    let mut story = Story::new();
    story
        .op(1, add("x", 0), swapped(2))
        .op(2, add("x y", 2), swapped(3))
        .read(3, "set/s", Some(pair("set/s", "x y", 2, 3, 2)), 3)
        .good();
    let mut lost = Story::new();
    lost.op(1, add("x", 0), swapped(2))
        .op(2, add("y", 2), swapped(3))
        .read(3, "set/s", Some(pair("set/s", "y", 2, 3, 2)), 3)
        .bad("set: lost element", &[1, 3], &[]);
    story
        .read(3, "set/s", Some(first("set/s", "x", 2)), 3)
        .read(3, "set/s", Some(pair("set/s", "x y", 2, 3, 2)), 3)
        .bad("set: stale read", &[2, 4], &[]);
    let mut phantom = Story::new();
    phantom
        .op(1, add("x", 0), failed("etcdserver: no leader"))
        .read(3, "set/s", Some(first("set/s", "x", 2)), 2)
        .bad("set: phantom element", &[1, 2], &[]);
}

#[test]
fn a_key_of_a_set_that_may_be_gone_excuses_itself_alone() {
    let delete = |key: &str| {
        Request::Delete(Delete {
            key: key.into(),
            ..Delete::default()
        })
    };
    let deleted = || {
        let (deleted, prev) = (1, Vec::new());
        ok(3, Response::Delete { deleted, prev })
    };
    let mut story = Story::new();
    story
        .op(1, swap("set/s", 0, "x"), swapped(2))
        .op(1, delete("set/s"), deleted())
        .read(2, "set/s", None, 3)
        .good();
    // Another key of a set: what was deleted, or was given a lease, is no excuse for what was not.
    story
        .op(1, swap("set/t", 0, "y"), swapped(4))
        .op(1, swap("set/u", 0, "z"), swapped(5))
        .read(2, "set/u", None, 5)
        .bad("set: lost element", &[5, 6], &[]);
    let mut before = Story::new();
    before
        .op(1, delete("set/s"), {
            let (deleted, prev) = (0, Vec::new());
            ok(1, Response::Delete { deleted, prev })
        })
        .op(1, swap("set/s", 0, "x"), swapped(2))
        .read(2, "set/s", None, 2)
        .bad("set: lost element", &[2, 3], &[]);
    let leased = Put {
        key: "set/s".into(),
        value: "x".into(),
        lease: 7,
        ..Put::default()
    };
    let mut story = with_lease();
    story
        .op(1, Request::Put(leased), ok(4, Response::Put { prev: None }))
        .op(
            1,
            Request::Revoke { lease: 7 },
            ok(5, Response::Lease { ttl: 0 }),
        )
        .read(2, "set/s", None, 5)
        .good();
}

#[test]
fn at_most_so_many_of_a_rule_are_told() {
    let mut story = Story::new();
    story.put(1, "a", "1", 2);
    for _ in 0..3 * crate::judge::TOLD_MAX {
        story.read(2, "a", None, 2);
    }
    assert_eq!(story.judged().len(), crate::judge::TOLD_MAX);
}

fn hashed(asked: i64, revision: i64, hash: u32) -> (Request, Outcome) {
    let response = Response::Hash {
        hash,
        revision,
        compacted: 1,
    };
    (Request::HashKv { revision: asked }, ok(3, response))
}

#[test]
fn hashes_of_one_revision_are_one() {
    let mut story = Story::new();
    for (asked, revision, hash) in [(0, 3, 7), (3, 3, 7), (2, 2, 8)] {
        let (request, outcome) = hashed(asked, revision, hash);
        story.op(1, request, outcome);
    }
    story.good();
    let (request, outcome) = hashed(0, 3, 9);
    story
        .op(1, request, outcome)
        .bad("members differ", &[1, 4], &[]);
}

#[test]
fn a_hash_is_of_the_revision_that_was_asked_for() {
    for (asked, revision) in [(2, 3), (0, 4)] {
        let (request, outcome) = hashed(asked, revision, 7);
        Story::new()
            .op(1, request, outcome)
            .bad("wrong answer", &[1], &[]);
    }
}

#[test]
fn a_range_is_in_the_order_and_within_the_bounds_that_it_asks_for() {
    let all = |order, target, min_mod, max_create| {
        Request::Range(Range {
            key: "a".into(),
            end: "c".into(),
            order,
            target,
            min_mod,
            max_create,
            ..Range::default()
        })
    };
    let (a, b) = (pair("a", "3", 2, 4, 2), first("b", "2", 3));
    let found = |pairs: &[&Pair]| {
        let found = Found {
            pairs: pairs.iter().map(|pair| (*pair).clone()).collect(),
            count: 2,
            more: false,
        };
        ok(4, Response::Range(found))
    };
    let mut story = Story::new();
    story
        .put(1, "a", "1", 2)
        .put(1, "b", "2", 3)
        .put(1, "a", "3", 4);
    let asked = [
        (all(Order::None, Target::Key, 0, 0), found(&[&a, &b])),
        (all(Order::Ascend, Target::Mod, 0, 0), found(&[&b, &a])),
        (all(Order::Descend, Target::Value, 0, 0), found(&[&a, &b])),
        (all(Order::None, Target::Key, 4, 0), found(&[&a])),
        (all(Order::None, Target::Key, 0, 2), found(&[&a])),
    ];
    for (request, outcome) in &asked {
        story.op(2, request.clone(), outcome.clone());
    }
    story.good();
    for (number, wrong) in [
        found(&[&b, &a]),
        found(&[&a, &b]),
        found(&[&b, &a]),
        found(&[&a, &b]),
        found(&[&b]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut story = Story::new();
        story
            .put(1, "a", "1", 2)
            .put(1, "b", "2", 3)
            .put(1, "a", "3", 4);
        story.op(2, asked[number].0.clone(), wrong);
        let found = story.judged();
        assert!(
            found.iter().any(|found| found.rule == "wrong answer"),
            "{number}"
        );
    }
}
