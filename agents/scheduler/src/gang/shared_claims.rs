//! Pods of a group that use one claim, which has no devices before they are placed.

use super::{Key, Verdict, place};
use crate::config::Config;
use crate::devices::claim::{DeviceClaim, DeviceClass};
use crate::devices::slice::{DeviceId, Slice};
use crate::devices::testing::{card_class, cards, claim, using};
use crate::object::Pod;
use crate::plugins::testing::node;
use crate::world::World;
use serde_json::json;
use std::sync::Arc;

const CONFIG: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
    - plugins: {multiPoint: {enabled: [{name: GangScheduling}]}}\n";

/// Two nodes, of which only `b` has a card, and a claim on one.
fn world() -> World {
    let mut world = World::new(Arc::new(Config::parse(CONFIG).unwrap()));
    for name in ["a", "b"] {
        let node = node(name, json!({}), json!({}));
        world.set_node(name, Some(Arc::new(node)), 0);
    }
    let class = DeviceClass::compile(&card_class());
    world.set_device_class("card", Some(Arc::new(class)), 0);
    let slice = Slice::compile(&cards("b", &["x"]));
    world.set_slice("b", Some(Arc::new(slice)), 0);
    let claim = Arc::new(DeviceClaim::compile(&claim("c")));
    world.set_device_claim(claim.key(), Some(claim), 0);
    world
}

/// So many pods of a group that needs all of them, each with so much of the four cores of a node.
fn add_group(world: &mut World, count: u32, cpu: &str, claims: &[&str]) {
    for number in 0..count {
        let name = format!("p{number}");
        let mut spec = using(claims);
        spec["containers"] = json!([{"resources": {"requests": {"cpu": cpu}}}]);
        let body = json!({"metadata": {"name": name, "namespace": "default", "uid": name,
            "labels": {"scheduling.kontiki.io/pod-group": "g"},
            "annotations": {"scheduling.kontiki.io/pod-group-min-count": count.to_string()}}, "spec": spec});
        let pod = Arc::new(Pod::compile(&body));
        world.set_pod(("default".into(), name), Some(pod), 0);
    }
}

fn decide(world: &mut World) -> Verdict {
    let key: Key = ("default".into(), "g".into());
    let first = world.pop(0).unwrap();
    let mut waiting = world.queue.take_gang(&key);
    waiting.push(first);
    place(world, &key, waiting, &mut 0, &mut |_| 0)
}

fn card() -> DeviceId {
    DeviceId::compile(&json!({"driver": "d", "pool": "b", "device": "x"}))
}

#[test]
fn the_first_gets_the_devices_and_the_others_join_it() {
    let mut world = world();
    add_group(&mut world, 3, "1", &["c"]);
    let Verdict::Placed { bound, refused } = decide(&mut world) else {
        panic!()
    };
    assert_eq!((bound.len(), refused.len()), (3, 0));
    let steps: Vec<_> = bound.iter().map(|one| &one.plan.claims.steps).collect();
    assert!(steps[0][0].gets.is_some() && steps[0][0].claim.allocation.is_none());
    assert!(bound.iter().all(|one| one.node == "b"));
    assert!(steps.iter().all(|step| *step == steps[0]));
    // The devices are promised until the last has written or given up.
    for one in &bound {
        assert!(world.snapshot.devices.is_taken(&card()));
        world.revert_plan(&one.plan, 0);
    }
    assert!(!world.snapshot.devices.is_taken(&card()));
}

#[test]
fn nothing_is_promised_where_too_few_of_them_fit() {
    let mut world = world();
    add_group(&mut world, 3, "2", &["c"]);
    let Verdict::Refused { fit, .. } = decide(&mut world) else {
        panic!()
    };
    assert_eq!(fit, 2);
    let devices = &world.snapshot.devices;
    assert!(!devices.is_taken(&card()) && !devices.is_promised("uid-c"));
}

/// The same with two nodes more, and a card that all of them reach.
fn large_world() -> World {
    let mut world = world();
    for name in ["c", "d"] {
        let node = node(name, json!({}), json!({}));
        world.set_node(name, Some(Arc::new(node)), 0);
    }
    let mut everywhere = cards("net", &["y"]);
    everywhere["spec"]["nodeName"] = json!("");
    everywhere["spec"]["allNodes"] = json!(true);
    world.set_slice("b", None, 0);
    world.set_slice("net", Some(Arc::new(Slice::compile(&everywhere))), 0);
    world
}

#[test]
fn a_group_larger_than_a_request_is_placed_as_one_or_not_at_all() {
    let mut world = large_world();
    add_group(&mut world, 440, "1m", &[]);
    let Verdict::Placed { bound, refused } = decide(&mut world) else {
        panic!()
    };
    assert_eq!((bound.len(), refused.len()), (440, 0));
    let mut world = large_world();
    add_group(&mut world, 441, "1m", &[]);
    let Verdict::Refused { fit, waiting, .. } = decide(&mut world) else {
        panic!()
    };
    assert_eq!((fit, waiting.len()), (440, 441));
    assert!(world.snapshot.nodes().all(|info| info.pods.is_empty()));
}

#[test]
fn no_more_share_a_claim_than_can_use_it() {
    let mut world = large_world();
    add_group(&mut world, 257, "1m", &["c"]);
    let Verdict::Refused { fit, message, .. } = decide(&mut world) else {
        panic!()
    };
    assert_eq!(fit, 256);
    assert!(message.contains("resourceclaim in use"), "{message}");
    assert!(!world.snapshot.devices.is_promised("uid-c"));
}
