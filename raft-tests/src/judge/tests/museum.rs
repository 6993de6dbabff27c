//! Bugs that etcd has had, by their numbers there, each as its clients would have seen it.

use super::*;

#[test]
fn issue_13766_a_member_applies_an_entry_twice_after_a_crash() {
    // The index of what is applied was not written together with it: one member counts the put again.
    let good = first("a", "1", 2);
    let twice = pair("a", "1", 2, 3, 2);
    Story::new()
        .put(1, "a", "1", 2)
        .dump(1, 2, vec![good.clone()])
        .dump(2, 3, vec![twice])
        .dump(3, 2, vec![good])
        .bad("members differ", &[], &[]);
}

#[test]
fn issue_14370_a_write_is_acknowledged_before_it_is_on_disk() {
    Story::new()
        .put(1, "a", "1", 2)
        .put(1, "a", "2", 3)
        .dump(1, 2, vec![first("a", "1", 2)])
        .bad("lost write", &[2], &[]);
}

#[test]
fn issue_14370_its_revision_is_given_again() {
    Story::new()
        .put(1, "a", "1", 2)
        .put(2, "b", "2", 2)
        .bad("revision given twice", &[1, 2], &[]);
}

#[test]
fn issue_15220_progress_is_ahead_of_events() {
    Story::new()
        .put(1, "a", "1", 2)
        .put(1, "a", "2", 3)
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
    let put = |revision| event(first(&format!("k{revision}"), "v", revision), None);
    Story::new()
        .put(1, "k2", "v", 2)
        .put(1, "k3", "v", 3)
        .put(1, "k4", "v", 4)
        .watch(
            2,
            vec![
                created(4),
                events(vec![put(2), put(3)]),
                events(vec![put(4)]),
                events(vec![put(3)]),
            ],
        )
        .bad("watch: out of order", &[2], &[1]);
}

#[test]
fn issue_17247_an_event_is_delivered_twice() {
    let put = || event(first("a", "1", 2), None);
    Story::new()
        .put(1, "a", "1", 2)
        .watch(
            2,
            vec![created(2), events(vec![put()]), events(vec![put()])],
        )
        .bad("watch: delivered twice", &[1], &[1]);
    Story::new()
        .put(1, "a", "1", 2)
        .watch(2, vec![created(2), events(vec![put(), put()])])
        .bad("watch: delivered twice", &[1], &[1]);
}

#[test]
fn issue_17529_a_starved_watch_loses_events() {
    let put = |revision| event(first(&format!("k{revision}"), "v", revision), None);
    Story::new()
        .put(1, "k2", "v", 2)
        .put(1, "k3", "v", 3)
        .put(1, "k4", "v", 4)
        .watch(
            2,
            vec![created(4), events(vec![put(2)]), events(vec![put(4)])],
        )
        .bad("watch: gap", &[2], &[1]);
}

#[test]
fn issue_17780_the_revision_decreases_after_a_crash() {
    Story::new()
        .put(1, "a", "1", 2)
        .put(1, "b", "1", 3)
        .read(2, "a", Some(first("a", "1", 2)), 2)
        .bad("stale read", &[2, 3], &[]);
}

#[test]
fn issue_18089_a_deletion_at_the_compacted_revision_is_lost() {
    let compact = Request::Compact { revision: 3 };
    Story::new()
        .put(1, "a", "1", 2)
        .delete(1, "a", 3)
        .put(1, "b", "1", 4)
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
    Story::new()
        .put(1, "a", "1", 2)
        .delete(1, "a", 3)
        .op(2, compact, ok(3, Response::Compacted))
        .watch(3, vec![created(3), progress(3)])
        .bad("watch: progress ahead of events", &[2], &[1]);
}

#[test]
fn issue_20221_a_watch_of_the_future_gets_the_past() {
    Story::new()
        .put(1, "a", "1", 2)
        .put(1, "b", "1", 3)
        .watch(
            5,
            vec![created(3), events(vec![event(first("b", "1", 3), None)])],
        )
        .bad("watch: before its start", &[2], &[1]);
}

#[test]
fn issue_20418_a_member_that_was_paused_answers_with_what_was() {
    let mut story = Story::new();
    story
        .put(1, "k", "1", 2)
        .put(1, "k", "2", 3)
        .read(3, "k", Some(first("k", "1", 2)), 2)
        .bad("stale read", &[2, 3], &[]);
    let story = &story.judged()[0].story;
    assert_eq!(
        story,
        "c3's read of k (operation 3, member 1) was answered at revision 2. c1's put of k=\"2\" (operation 2, \
         member 2) had come to revision 3 already at 0.015 s, before that was asked for at 0.020 s."
    );
}
