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

/// So many pods of a group that needs all of them, each with so many cores of the four of a node.
fn add_group(world: &mut World, count: u32, cpu: u8) {
    for number in 0..count {
        let name = format!("p{number}");
        let mut spec = using(&["c"]);
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
    add_group(&mut world, 3, 1);
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
    add_group(&mut world, 3, 2);
    let Verdict::Refused { fit, .. } = decide(&mut world) else {
        panic!()
    };
    assert_eq!(fit, 2);
    let devices = &world.snapshot.devices;
    assert!(!devices.is_taken(&card()) && !devices.is_promised("uid-c"));
}
