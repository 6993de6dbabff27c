use super::*;
use crate::plugins::testing::node;
use crate::snapshot::ASSUMED_TTL_MS;
use serde_json::json;

fn pod(name: &str, uid: &str, on: &str) -> Arc<Pod> {
    Arc::new(Pod::compile(&json!({
        "metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {"nodeName": on, "containers": [{"resources": {"requests": {"cpu": "1"}}}]},
    })))
}

fn name(name: &str) -> Name {
    ("default".into(), name.into())
}

fn world() -> World {
    let mut world = World::new(Arc::new(Config::default()));
    world.set_node("n", Some(Arc::new(node("n", json!({}), json!({})))), 0);
    world
}

fn used(world: &World) -> i64 {
    world.snapshot.node("n").unwrap().requested.milli_cpu
}

#[test]
fn a_pod_is_queued_assumed_confirmed_and_gone() {
    let mut world = world();
    world.set_pod(name("p"), Some(pod("p", "u", "")), 0);
    let queued = world.queue.pop(0).unwrap();
    world.snapshot.assume(queued.pod.clone(), "n");
    world.set_pod(name("p"), Some(pod("p", "u", "")), 1);
    assert!(
        world.queue.is_empty(),
        "an assumed pod does not come back into the queue"
    );
    world.set_pod(name("p"), Some(pod("p", "u", "n")), 2);
    assert_eq!(used(&world), 1000);
    world.set_pod(name("p"), None, 3);
    assert_eq!(used(&world), 0);
}

#[test]
fn what_was_counted_is_forgotten_when_nothing_is_scheduled_for_long() {
    let mut world = world();
    let profile = world.config.profiles().next().unwrap().clone();
    world.set_pod(name("p"), Some(pod("p", "u", "")), 7);
    let queued = world.pop(7).unwrap();
    crate::schedule::schedule(&queued.pod, &world.snapshot, &profile, 0, &mut |_| 0);
    for now in [7, 7 + KEPT_MS - 1] {
        assert!(world.pop(now).is_none());
        assert!(!world.snapshot.kept.is_empty());
    }
    assert!(world.pop(7 + KEPT_MS).is_none());
    assert!(world.snapshot.kept.is_empty());
}

#[test]
fn a_new_incarnation_under_the_old_name_replaces_the_old() {
    let mut world = world();
    world.set_pod(name("p"), Some(pod("p", "u1", "n")), 0);
    world.set_pod(name("p"), Some(pod("p", "u2", "")), 1);
    assert_eq!(used(&world), 0);
    assert_eq!(world.queue.pop(1).unwrap().pod.uid, "u2");
}

#[test]
fn failed_binding_frees_the_room_and_tries_again_unless_the_pod_is_gone() {
    let mut world = world();
    world.set_pod(name("p"), Some(pod("p", "u", "")), 0);
    let queued = world.queue.pop(0).unwrap();
    world.snapshot.assume(queued.pod.clone(), "n");
    world.binding_failed(queued, 10);
    assert_eq!((used(&world), world.queue.next_wakeup()), (0, Some(1010)));
    let queued = world.queue.pop(1010).unwrap();
    world.snapshot.assume(queued.pod.clone(), "n");
    world.set_pod(name("p"), None, 1011);
    world.binding_failed(queued, 1012);
    assert!(world.queue.is_empty());
}

#[test]
fn an_overdue_assumption_is_given_up() {
    let mut world = world();
    world.set_pod(name("p"), Some(pod("p", "u", "")), 0);
    let queued = world.queue.pop(0).unwrap();
    world.snapshot.assume(queued.pod.clone(), "n");
    world.snapshot.finish_binding("u", 5);
    assert_eq!(world.next_wakeup(), Some(5 + ASSUMED_TTL_MS));
    world.expire(5 + ASSUMED_TTL_MS);
    assert_eq!((used(&world), world.queue.len()), (0, 1));
}

#[test]
fn a_finished_pod_frees_its_room_and_wakes_the_refused() {
    let mut world = world();
    world.set_pod(name("p"), Some(pod("p", "u", "n")), 0);
    world.set_pod(name("q"), Some(pod("q", "v", "")), 0);
    let queued = world.queue.pop(0).unwrap();
    world
        .queue
        .park(queued, BTreeSet::from(["NodeResourcesFit"]), 0);
    let mut finished = (*pod("p", "u", "n")).clone();
    finished.finished = true;
    world.set_pod(name("p"), Some(Arc::new(finished)), 20_000);
    assert_eq!(used(&world), 0);
    assert_eq!(world.queue.pop(20_000).unwrap().pod.uid, "v");
}

#[test]
fn a_volume_is_given_once_although_nothing_is_written_yet() {
    use crate::schedule::{Decision, schedule};
    use crate::volume::testing::{claim, class, using, volume};
    let mut world = world();
    let waits = class("w", "kubernetes.io/no-provisioner", "WaitForFirstConsumer");
    world.set_class("w", Some(Arc::new(Class::compile(&waits))), 0);
    let only = volume("v", "w", "1Gi", &[]);
    world.set_volume("v", Some(Arc::new(Volume::compile(&only))), 0);
    let mut decide = |uid: &str, claim_name: &str| {
        let of_claim = claim(claim_name, "w", "1Gi");
        world.set_claim(
            name(claim_name),
            Some(Arc::new(Claim::compile(&of_claim))),
            0,
        );
        let pod = Pod::compile(&json!({
            "metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": using(&[claim_name]),
        }));
        let decision = schedule(&pod, &world.snapshot, &Profile::default(), 0, &mut |_| 0);
        let plan = world.plan(&pod, "n", &Profile::default());
        plan.assume(&mut world.snapshot, "n");
        (matches!(decision, Decision::Bind { .. }), plan)
    };
    let (first, plan) = decide("a", "p");
    assert!(first && plan.volumes.bindings.len() == 1);
    assert!(!decide("b", "q").0, "the volume is promised to the first");
    assert!(decide("a", "p").0, "which may try again");
    plan.revert(&mut world.snapshot);
    let again = Pod::compile(&json!({
        "metadata": {"name": "b", "namespace": "default", "uid": "b"}, "spec": using(&["q"]),
    }));
    let plan = world.plan(&again, "n", &Profile::default());
    assert_eq!(plan.volumes.bindings.len(), 1);
}

#[test]
fn pods_of_other_schedulers_are_left_alone() {
    let mut world = world();
    let mut foreign = (*pod("p", "u", "")).clone();
    foreign.scheduler_name = "other".into();
    world.set_pod(name("p"), Some(Arc::new(foreign)), 0);
    assert!(world.queue.is_empty());
}

#[test]
fn a_placed_pod_that_asks_for_less_under_new_labels_wakes_the_refused() {
    let mut world = world();
    world.set_pod(name("p"), Some(pod("p", "u", "n")), 0);
    world.set_pod(name("q"), Some(pod("q", "v", "")), 0);
    let queued = world.queue.pop(0).unwrap();
    world
        .queue
        .park(queued, BTreeSet::from(["NodeResourcesFit"]), 0);
    let smaller = Pod::compile(&json!({
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "labels": {"size": "small"}},
        "spec": {"nodeName": "n", "containers": [{}]},
    }));
    world.set_pod(name("p"), Some(Arc::new(smaller)), 20_000);
    assert_eq!(world.queue.pop(20_000).unwrap().pod.uid, "v");
}

#[test]
fn who_was_refused_for_kept_room_is_woken_when_it_is_kept_no_more() {
    let gone = |world: &mut World, now| world.set_pod(name("p"), None, now);
    let going = |world: &mut World, now| {
        let mut going = (*pod("p", "u", "")).clone();
        going.deleting = true;
        world.set_pod(name("p"), Some(Arc::new(going)), now);
    };
    let no_more = |world: &mut World, now| world.set_pod(name("p"), Some(pod("p", "u", "")), now);
    let elsewhere = |world: &mut World, now| {
        let mut elsewhere = (*pod("p", "u", "")).clone();
        elsewhere.nominated_node = "m".into();
        world.set_pod(name("p"), Some(Arc::new(elsewhere)), now);
    };
    type End<'a> = (&'a dyn Fn(&mut World, Millis), Option<&'a str>);
    let ends: [End<'_>; 4] = [
        (&gone, None),
        (&going, None),
        (&no_more, None),
        (&elsewhere, Some("m")),
    ];
    for (end, kept) in ends {
        let mut world = world();
        let mut nominated = (*pod("p", "u", "")).clone();
        nominated.nominated_node = "n".into();
        world.set_pod(name("p"), Some(Arc::new(nominated)), 0);
        world.set_pod(name("q"), Some(pod("q", "v", "")), 0);
        for _ in 0..2 {
            let queued = world.queue.pop(0).unwrap();
            world
                .queue
                .park(queued, BTreeSet::from(["NodeResourcesFit"]), 0);
        }
        end(&mut world, 20_000);
        assert_eq!(world.snapshot.nominated_node("u"), kept);
        let mut woken = std::iter::from_fn(|| world.queue.pop(20_000));
        assert!(woken.any(|queued| queued.pod.uid == "v"));
    }
}

#[test]
fn a_placed_pod_with_other_labels_wakes_who_keeps_away_from_it() {
    let mut world = world();
    world.set_pod(name("p"), Some(pod("p", "u", "n")), 0);
    let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "p"}}});
    let away = json!({"requiredDuringSchedulingIgnoredDuringExecution": [term]});
    let new = Pod::compile(&json!({
        "metadata": {"name": "q", "namespace": "default", "uid": "v"},
        "spec": {"affinity": {"podAntiAffinity": away}},
    }));
    world.set_pod(name("q"), Some(Arc::new(new)), 0);
    let queued = world.queue.pop(0).unwrap();
    world
        .queue
        .park(queued, BTreeSet::from(["InterPodAffinity"]), 0);
    world.set_pod(name("r"), Some(pod("r", "w", "n")), 20_000);
    assert!(
        world.queue.pop(20_000).is_none(),
        "one that comes is of no help"
    );
    let mut relabelled = (*pod("p", "u", "n")).clone();
    relabelled.labels = Labels::from_iter([("app", "other")]);
    world.set_pod(name("p"), Some(Arc::new(relabelled)), 20_000);
    assert_eq!(world.queue.pop(20_000).unwrap().pod.uid, "v");
}
