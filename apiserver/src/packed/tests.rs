use super::*;
use proptest::prelude::*;
use serde_json::json;

#[test]
fn what_is_packed_makes_no_entry_larger() {
    assert_eq!(size_of::<Json>(), size_of::<Bytes>());
}

fn pod(name: &str, node: &str, image: &str) -> Json {
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"];
    let conditions = conditions.map(
        |one| json!({"type": one, "status": "True", "lastTransitionTime": "2026-11-27T14:29:17Z"}),
    );
    let env: Vec<_> = (0..20)
        .map(|at| json!({"name": format!("SETTING_{at}"), "value": "as the template has it"}))
        .collect();
    let pod = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default", "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": image, "env": env, "resources": {"requests": {"cpu": "100m"}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]},
        "status": {"phase": "Running", "conditions": conditions}});
    Json::Plain(Bytes::from(pod.to_string()))
}

#[test]
fn pods_of_one_template_take_little_beside_the_first() {
    let mut packer = Packer::default();
    assert!(
        packer.pack(&pod("web-0", "one", "web")).is_none(),
        "others are packed against it"
    );
    for (name, node) in [("web-1", "two"), ("web-2", "three")] {
        let plain = pod(name, node, "web");
        let packed = packer.pack(&plain).unwrap();
        assert!(
            packed.room() * 50 < plain.room(),
            "{} of {}",
            packed.room(),
            plain.room()
        );
        assert_eq!((packed.bytes(), packed.len()), (plain.bytes(), plain.len()));
        assert!(packer.pack(&packed).is_none(), "it is packed already");
    }
}

#[test]
fn what_stands_elsewhere_in_the_neighbour_is_found_there() {
    let word = |at: u64| format!("{:016x}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(3);
    let words = |all: Vec<u64>| {
        let words: Vec<_> = all.into_iter().map(word).collect();
        Json::Plain(Bytes::from(
            json!({"kind": "ConfigMap", "data": words}).to_string(),
        ))
    };
    let mut packer = Packer::default();
    packer.pack(&words((1..40).collect()));
    let plain = words((1..40).rev().collect());
    let packed = packer.pack(&plain).unwrap();
    assert!(packed.room() * 4 < plain.room(), "{}", packed.room());
    let mut room = Room::default();
    assert_eq!(packed.read(&mut room), plain.bytes());
    assert_eq!((packed.bytes(), packed.len()), (plain.bytes(), plain.len()));
}

#[test]
fn one_that_is_little_like_its_neighbour_is_packed_against_what_was_before_that() {
    let object = |template: u64, number: u64| {
        let word = |at: u64| {
            format!(
                "{:016x}",
                (template * 99 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            )
        };
        let words: Vec<_> = (1..40).map(word).collect();
        let object = json!({"data": words, "kind": "ConfigMap", "name": number});
        Json::Plain(Bytes::from(object.to_string()))
    };
    let mut neighbours = Packer::default();
    neighbours.pack(&object(1, 1));
    let neighbour = neighbours.pack(&object(1, 2)).unwrap();
    let mut packer = Packer::default();
    packer.pack(&object(0, 1));
    for number in 2..9 {
        packer.pass(&neighbour);
        let plain = object(0, number);
        let packed = packer.pack(&plain).unwrap();
        assert!(packed.room() < 40, "{}", packed.room());
        assert_eq!(packed.bytes(), plain.bytes());
    }
    assert!(packer.others.len() <= OTHERS);
}

#[test]
fn small_objects_of_a_kind_are_packed_though_much_of_them_is_their_own() {
    let event = |name: &str, uid: &str, time: &str| {
        let event = json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default", "uid": uid,
            "creationTimestamp": time, "managedFields": [{"manager": "kontiki", "operation": "Update", "apiVersion": "v1", "time": time,
                "fieldsType": "FieldsV1", "fieldsV1": {"f:count": {}, "f:involvedObject": {}, "f:message": {}, "f:reason": {}, "f:type": {}}}]},
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": name, "uid": uid},
            "reason": "Scheduled", "type": "Normal", "message": format!("Successfully assigned default/{name} to a node")});
        Json::Plain(Bytes::from(event.to_string()))
    };
    let mut packer = Packer::default();
    let uid =
        |number: u64| format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(2);
    packer.pack(&event("web-0", &uid(1), "2026-11-27T14:29:17Z"));
    for number in 2..9 {
        let plain = event(
            &format!("web-{number}"),
            &uid(number),
            "2026-11-27T14:30:45Z",
        );
        let packed = packer.pack(&plain).unwrap();
        assert!(plain.room() < 1024 && packed.room() * 2 <= plain.room());
        assert_eq!(packed.bytes(), plain.bytes());
    }
}

#[test]
fn pods_of_another_template_are_soon_packed_against_one_of_theirs() {
    let mut packer = Packer::default();
    let noise = |seed: u64| -> String {
        let numbers = (1..=16).map(|at| (seed * 16 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        numbers.map(|number| format!("{number:016x}")).collect()
    };
    let mut last = 0;
    for template in 0..3 {
        for number in 0..40 {
            let plain = pod(&format!("web-{template}-{number}"), "one", &noise(template));
            let Some(packed) = packer.pack(&plain) else {
                assert_eq!((template, number), (0, 0));
                continue;
            };
            assert_eq!(packed.bytes(), plain.bytes());
            last = packed.room();
            assert!(template == 0 || number > 0 || last > 128, "{last}");
        }
        assert!(last < 40, "{last}");
    }
}

#[test]
fn one_is_packed_against_what_its_neighbour_is_packed_against() {
    let mut packer = Packer::default();
    packer.pack(&pod("web-0", "one", "web"));
    let neighbour = packer.pack(&pod("web-1", "two", "web")).unwrap();
    let mut later = Packer::default();
    later.pass(&neighbour);
    let packed = later.pack(&pod("web-2", "three", "web")).unwrap();
    assert_eq!(packed.bytes(), pod("web-2", "three", "web").bytes());
    let mut again = Packer::default();
    assert!(again.pack(&neighbour).is_none());
    assert!(again.pack(&pod("web-2", "three", "web")).is_some());
    let mut beside = Packer::default();
    beside.pass(&pod("web-0", "one", "web"));
    assert!(beside.pack(&pod("web-2", "three", "web")).is_some());
}

#[test]
fn what_is_small_or_large_or_unlike_stays_as_it_is() {
    let mut packer = Packer::default();
    let noise = |seed: u64, len: usize| {
        let mut state = seed;
        let bytes = (0..len).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        });
        Json::Plain(bytes.collect())
    };
    for len in [0, 1, BYTES_MIN - 1] {
        assert!(packer.pack(&Json::Plain(vec![b'a'; len].into())).is_none());
    }
    assert!(packer.pack(&noise(3, BYTES_MAX + 1)).is_none());
    assert!(packer.like.is_none(), "nor is anything packed against it");
    assert!(packer.pack(&noise(1, 2000)).is_none());
    assert!(packer.pack(&noise(2, 2000)).is_none());
    assert!(packer.like.is_none(), "the next is tried against another");
}

#[test]
fn a_large_object_is_packed_by_itself_and_others_not_against_it() {
    let mut packer = Packer::default();
    let large = Json::Plain(Bytes::from("what it says it says again. ".repeat(10_000)));
    let packed = packer.pack(&large).unwrap();
    assert!(packer.like.is_none());
    assert!(packed.room() * 10 < large.room());
    assert_eq!((packed.bytes(), packed.len()), (large.bytes(), large.len()));
    assert!(packed.alone().is_none(), "it is packed already");
    assert!(packer.pack(&packed).is_none() && packer.like.is_none());
    assert!(
        pod("web-0", "one", "web").alone().is_none(),
        "it is too small for that"
    );
}

#[test]
fn one_room_serves_for_objects_of_any_size() {
    let large = Json::Plain(Bytes::from("again and ".repeat(9_000)));
    let mut packer = Packer::default();
    packer.pack(&pod("web-0", "one", "web"));
    let mut room = Room::default();
    let small = pod("web-1", "two", "web");
    let packed = packer.pack(&small).unwrap();
    for (json, plain) in [
        (&packed, &small),
        (&large.alone().unwrap(), &large),
        (&packed, &small),
        (&small, &small),
    ] {
        assert_eq!(json.read(&mut room), plain.bytes());
    }
}

proptest! {
    #[test]
    fn what_is_packed_is_the_same_again(texts in prop::collection::vec("[ab]{0,3}(abcd|web-[0-9]|.){200,900}", 2..6)) {
        let mut packer = Packer::default();
        let mut room = Room::default();
        for text in texts {
            let plain = Json::Plain(Bytes::from(text));
            if let Some(packed) = packer.pack(&plain) {
                prop_assert_eq!(packed.bytes(), plain.bytes());
                prop_assert_eq!(packed.read(&mut room), &plain.bytes()[..]);
                prop_assert!(packed.room() * 2 <= plain.len());
            }
        }
    }
}
