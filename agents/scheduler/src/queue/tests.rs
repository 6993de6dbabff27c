use super::*;
use crate::extender;
use serde_json::json;

fn pod(uid: &str, priority: i32) -> Arc<Pod> {
    Arc::new(Pod::compile(&json!({
        "metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": {"priority": priority},
    })))
}

fn pop(queue: &mut Queue, now: Millis) -> Option<String> {
    queue.pop(now).map(|queued| queued.pod.uid.clone())
}

#[test]
fn priority_first_then_age() {
    let mut queue = Queue::default();
    queue.set(pod("old", 0), 1);
    queue.set(pod("high", 5), 3);
    queue.set(pod("new", 0), 2);
    assert_eq!(
        [pop(&mut queue, 4), pop(&mut queue, 4), pop(&mut queue, 4)].map(Option::unwrap),
        ["high", "old", "new"]
    );
    assert_eq!(pop(&mut queue, 4), None);
}

#[test]
fn a_refused_pod_waits_for_a_change_that_its_filter_cares_about() {
    let mut queue = Queue::default();
    queue.set(pod("p", 0), 0);
    let queued = queue.pop(0).unwrap();
    queue.park(queued, BTreeSet::from(["NodeResourcesFit"]), 0);
    assert_eq!(queue.wake(&Change::Namespace, 1), 0);
    assert_eq!(pop(&mut queue, 100_000), None);
    assert_eq!(queue.wake(&Change::PodGone(pod("other", 0)), 100_000), 1);
    assert_eq!(pop(&mut queue, 100_000).unwrap(), "p");
}

#[test]
fn a_refused_pod_that_waits_in_vain_is_tried_again_after_its_backoff() {
    let mut queue = Queue::default();
    queue.set(pod("p", 0), 0);
    queue.rouse("p", 0);
    let queued = queue.pop(0).unwrap();
    queue.rouse("p", 0);
    queue.park(queued, BTreeSet::from(["NodeResourcesFit"]), 0);
    assert_eq!(pop(&mut queue, 999), None);
    queue.rouse("q", 999);
    queue.rouse("p", 999);
    let in_backoff = Counts([0, 1, 0, 0]);
    assert_eq!(queue.counts(), in_backoff, "not before its time");
    assert_eq!(pop(&mut queue, 1_000).unwrap(), "p");
}

#[test]
fn what_an_extender_refused_is_tried_again_whatever_changes() {
    let mut queue = Queue::default();
    queue.set(pod("p", 0), 0);
    let queued = queue.pop(0).unwrap();
    queue.park(queued, BTreeSet::from([extender::NAME, "NodeName"]), 0);
    assert_eq!(queue.wake(&Change::Namespace, 1), 1);
}

#[test]
fn a_pod_in_backoff_gives_way_to_active_ones_but_is_taken_when_there_are_none() {
    let mut queue = Queue::default();
    queue.set(pod("p", 0), 0);
    let queued = queue.pop(0).unwrap();
    queue.park(queued, BTreeSet::from(["NodeResourcesFit"]), 0);
    queue.wake(&Change::PodGone(pod("other", 0)), 1);
    queue.set(pod("q", -5), 2);
    assert_eq!(
        [pop(&mut queue, 2), pop(&mut queue, 2)].map(Option::unwrap),
        ["q", "p"]
    );
}

#[test]
fn errors_back_off_doubling_up_to_ten_seconds() {
    let mut queue = Queue::default();
    queue.set(pod("p", 0), 0);
    let mut now = 0;
    for expected in [1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        let queued = queue.pop(now).unwrap();
        queue.retry(queued, now);
        assert_eq!(queue.next_wakeup(), Some(now + expected));
        assert_eq!(pop(&mut queue, now + expected - 1), None);
        now += expected;
    }
}

#[test]
fn the_unschedulable_pool_is_flushed_after_five_minutes() {
    let mut queue = Queue::default();
    queue.set(pod("p", 0), 0);
    let queued = queue.pop(0).unwrap();
    queue.park(queued, BTreeSet::from(["NodeName"]), 0);
    assert_eq!(pop(&mut queue, UNSCHEDULABLE_MAX_MS - 1), None);
    assert_eq!(queue.next_wakeup(), Some(UNSCHEDULABLE_MAX_MS));
    assert_eq!(pop(&mut queue, UNSCHEDULABLE_MAX_MS).unwrap(), "p");
}

#[test]
fn gates_keep_a_pod_out_until_they_are_gone() {
    let mut queue = Queue::default();
    let gated = |gates: serde_json::Value| {
        Arc::new(Pod::compile(
            &json!({"metadata": {"uid": "p"}, "spec": {"schedulingGates": gates}}),
        ))
    };
    queue.set(gated(json!([{"name": "g"}])), 0);
    assert_eq!((pop(&mut queue, 0), queue.next_wakeup()), (None, None));
    queue.set(gated(json!([])), 1);
    assert_eq!(pop(&mut queue, 1).unwrap(), "p");
}

#[test]
fn a_changed_pod_is_tried_again_but_not_because_of_our_own_status_write() {
    let mut queue = Queue::default();
    queue.set(pod("p", 0), 0);
    let queued = queue.pop(0).unwrap();
    queue.park(queued, BTreeSet::from(["NodeAffinity"]), 0);
    let mut status = (*pod("p", 0)).clone();
    status.scheduled_condition = Some(Box::new((
        "False".into(),
        "Unschedulable".into(),
        "m".into(),
    )));
    queue.set(Arc::new(status.clone()), 5_000);
    assert_eq!(pop(&mut queue, 5_000), None);
    status.node_selector.insert("a".into(), "b".into());
    queue.set(Arc::new(status), 5_000);
    assert_eq!(pop(&mut queue, 5_000).unwrap(), "p");
    assert!(queue.is_empty());
}
