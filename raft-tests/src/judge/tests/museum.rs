//! Bugs that etcd has had, by their numbers there, each as its clients would have seen it.

use super::*;
use crate::recording::Step;

/// A client has written these keys, one after the other from revision 2 on; a value of nothing deletes.
fn after(writes: &[(&str, Option<&str>)]) -> Story {
    let mut story = Story::new();
    for ((key, value), revision) in writes.iter().zip(2..) {
        match value {
            Some(value) => story.put(1, key, value, revision),
            None => story.delete(1, key, revision),
        };
    }
    story
}

/// Three keys, named after their revisions.
fn three() -> Story {
    after(&[("k2", Some("v")), ("k3", Some("v")), ("k4", Some("v"))])
}

/// Such a key, as a watch shows it.
fn of(revision: i64) -> Event {
    event(first(&format!("k{revision}"), "v", revision), None)
}

#[test]
fn issue_13766_a_member_applies_an_entry_twice_after_a_crash() {
    // The index of what is applied was not written together with it: one member counts the put again.
    let good = first("a", "1", 2);
    let twice = pair("a", "1", 2, 3, 2);
    after(&[("a", Some("1"))])
        .dump(1, 2, vec![good.clone()])
        .dump(2, 3, vec![twice])
        .dump(3, 2, vec![good])
        .bad("members differ", &[], &[]);
}

#[test]
fn issue_14370_a_write_is_acknowledged_before_it_is_on_disk() {
    after(&[("a", Some("1")), ("a", Some("2"))])
        .dump(1, 2, vec![first("a", "1", 2)])
        .bad("lost write", &[2], &[]);
}

#[test]
fn issue_14370_its_revision_is_given_again() {
    after(&[("a", Some("1"))])
        .put(2, "b", "2", 2)
        .bad("revision given twice", &[1, 2], &[]);
}

#[test]
fn issue_15220_progress_is_ahead_of_events() {
    after(&[("a", Some("1")), ("a", Some("2"))])
        .watch(
            2,
            vec![
                created(3),
                events(vec![event(first("a", "1", 2), None)]),
                progress(3),
                events(vec![event(
                    pair("a", "2", 2, 3, 2),
                    Some(first("a", "1", 2)),
                )]),
            ],
        )
        .bad("watch: progress ahead of events", &[2], &[1]);
}

#[test]
fn issue_15271_a_watch_goes_back_in_time_after_a_snapshot() {
    three()
        .watch(
            2,
            vec![
                created(4),
                events(vec![of(2), of(3)]),
                events(vec![of(4)]),
                events(vec![of(3)]),
            ],
        )
        .bad("watch: out of order", &[2], &[1]);
}

#[test]
fn issue_17247_an_event_is_delivered_twice() {
    let put = || event(first("a", "1", 2), None);
    after(&[("a", Some("1"))])
        .watch(
            2,
            vec![created(2), events(vec![put()]), events(vec![put()])],
        )
        .bad("watch: delivered twice", &[1], &[1]);
    after(&[("a", Some("1"))])
        .watch(2, vec![created(2), events(vec![put(), put()])])
        .bad("watch: delivered twice", &[1], &[1]);
}

#[test]
fn issue_17529_a_starved_watch_loses_events() {
    three()
        .watch(
            2,
            vec![created(4), events(vec![of(2)]), events(vec![of(4)])],
        )
        .bad("watch: gap", &[2], &[1]);
}

#[test]
fn issue_17780_the_revision_decreases_after_a_crash() {
    after(&[("a", Some("1")), ("b", Some("1"))])
        .read(2, "a", Some(first("a", "1", 2)), 2)
        .bad("stale read", &[2, 3], &[]);
}

#[test]
fn issue_18089_a_deletion_at_the_compacted_revision_is_lost() {
    let compact = Request::Compact { revision: 3 };
    after(&[("a", Some("1")), ("a", None), ("b", Some("1"))])
        .op(2, compact, ok(4, Response::Compacted))
        .watch(
            3,
            vec![created(4), events(vec![event(first("b", "1", 4), None)])],
        )
        .bad("watch: gap", &[2], &[1]);
}

#[test]
fn issue_19179_the_last_deletion_before_a_compaction_is_never_shown() {
    let compact = Request::Compact { revision: 3 };
    after(&[("a", Some("1")), ("a", None)])
        .op(2, compact, ok(3, Response::Compacted))
        .watch(3, vec![created(3), progress(3)])
        .bad("watch: progress ahead of events", &[2], &[1]);
}

#[test]
fn issue_20221_a_watch_of_the_future_gets_the_past() {
    after(&[("a", Some("1")), ("b", Some("1"))])
        .watch(
            5,
            vec![created(3), events(vec![event(first("b", "1", 3), None)])],
        )
        .bad("watch: before its start", &[2], &[1]);
}

#[test]
fn issue_20418_a_member_that_was_paused_answers_with_what_was() {
    let mut story = after(&[("k", Some("1")), ("k", Some("2"))]);
    story
        .read(3, "k", Some(first("k", "1", 2)), 2)
        .bad("stale read", &[2, 3], &[]);
    let story = &story.judged()[0].story;
    assert_eq!(
        story,
        "c3's read of k (operation 3, member 1) was answered at revision 2. c1's put of k=\"2\" (operation 2, \
         member 2) had come to revision 3 already at 0.015 s, before that was asked for at 0.020 s."
    );
}

#[test]
fn issue_14685_revisions_differ_after_a_crash_while_defragmenting() {
    let (a, b) = (first("a", "1", 2), first("b", "1", 3));
    after(&[("a", Some("1")), ("b", Some("1"))])
        .dump(1, 3, vec![a.clone(), b])
        .dump(2, 2, vec![a])
        .bad("members differ", &[], &[]);
}

#[test]
fn issue_18667_a_transaction_is_refused_for_what_it_reads_and_has_written() {
    let old = Range {
        key: "a".into(),
        revision: 2,
        ..Range::default()
    };
    let write = Put {
        key: "b".into(),
        value: "1".into(),
        ..Put::default()
    };
    let request = Request::Txn(Txn {
        then: vec![Step::Put(write), Step::Range(old)],
        ..Txn::default()
    });
    let compacted = failed("etcdserver: mvcc: required revision has been compacted");
    after(&[("a", Some("1")), ("a", Some("2"))])
        .op(
            1,
            Request::Compact { revision: 3 },
            ok(3, Response::Compacted),
        )
        .op(1, request, compacted)
        .read(2, "b", Some(first("b", "1", 4)), 4)
        .bad("refused write", &[4, 5], &[]);
}
