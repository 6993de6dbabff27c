use super::*;
use serde_json::json;

fn object(revision: i64) -> Arc<Object> {
    let mut object = Object::empty("v1", "Pod");
    object.set_resource_version(&revision.to_string());
    Arc::new(object)
}

const SOURCE: Source<'static> = Source {
    plural: "pods",
    is_new: true,
};

fn put(trees: &Trees, key: &str, revision: i64, json_bytes: usize, now: Instant) {
    let object = object(revision);
    let room = room(object.value());
    trees.put(key, revision, (object, room), json_bytes, SOURCE, now);
}

fn revisions(trees: &Trees, key: &str, upto: i64) -> Vec<i64> {
    let kept = |revision: &i64| trees.get(key, *revision).is_some();
    (0..=upto).filter(kept).collect()
}

#[test]
fn an_object_is_kept_as_of_its_newest_revision_only() {
    let (trees, now) = (Trees::default(), Instant::now());
    put(&trees, "a", 5, 100, now);
    put(&trees, "a", 7, 100, now);
    // The answer to this write was slower.
    put(&trees, "a", 6, 100, now);
    put(&trees, "b", 6, 100, now);
    assert_eq!(revisions(&trees, "a", 9), [7]);
    assert_eq!(trees.get("a", 7).unwrap().resource_version(), "7");
    assert_eq!(revisions(&trees, "b", 9), [6]);
    assert!(revisions(&trees, "c", 9).is_empty());
    // What takes its place is too large.
    put(&trees, "a", 8, JSON_BYTES_MAX + 1, now);
    assert!(revisions(&trees, "a", 9).is_empty());
}

#[test]
fn the_past_of_an_object_becomes_its_copy() {
    let (trees, now) = (Trees::default(), Instant::now());
    let at = |object: &Object| object.resource_version().as_ptr();
    let objects: Vec<Arc<Object>> = (1..=6).map(object).collect();
    let mut objects = objects.into_iter();
    let mut put = |revision: i64| {
        let object = objects.next().unwrap();
        let place = at(&object);
        trees.put("a", revision, (object, 100), 100, SOURCE, now);
        place
    };
    let first = put(1);
    // There is nothing before it.
    assert_ne!(at(&trees.copy("a", &object(1))), first);
    let second = put(2);
    assert_eq!(trees.lock().bytes, 202);
    // It is not the newest any more.
    assert_eq!(*object(1), trees.copy("a", &object(1)));
    assert_eq!(*object(2), trees.copy("b", &object(2)));
    let mut newer = Object::clone(&object(2));
    newer.set(&["spec", "a"], 1);
    let copy = trees.copy("a", &newer);
    assert_eq!((at(&copy), &copy), (first, &newer));
    assert_eq!(trees.lock().bytes, 101);
    // It is there once.
    assert_eq!(*object(2), trees.copy("a", &object(2)));
    put(3);
    assert_eq!(at(&trees.copy("a", &object(3))), second);
    let held = trees.get("a", 3);
    put(4);
    assert_eq!(trees.lock().bytes, 202);
    let copy = trees.copy("a", &object(4));
    assert_eq!(copy, *object(4));
    assert_ne!(at(&copy), at(&held.unwrap()));
    put(5);
    // Nobody copied that.
    put(6);
    assert_eq!(trees.lock().bytes, 101);
    assert_eq!(trees.take("a", 6).unwrap().resource_version(), "6");
    assert_eq!(trees.lock().bytes, 0);
}

#[test]
fn what_is_gone_is_kept_no_longer() {
    let (trees, now) = (Trees::default(), Instant::now());
    put(&trees, "a", 5, 100, now);
    assert!(trees.take("a", 4).is_none());
    assert!(trees.take("b", 5).is_none());
    assert_eq!(trees.take("a", 5).unwrap().resource_version(), "5");
    assert!(revisions(&trees, "a", 9).is_empty());
    assert_eq!(trees.lock().bytes, 0);
    // Its mark goes with the next ones, and is not taken for that of another object of the name.
    put(&trees, "a", 7, 100, now);
    assert_eq!(revisions(&trees, "a", 9), [7]);
    trees.age(now + AGE_MAX);
    assert_eq!(trees.lock().order.capacity(), 0);
}

#[test]
fn objects_are_kept_for_a_while() {
    let (trees, now) = (Trees::default(), Instant::now());
    put(&trees, "a", 1, 100, now);
    put(&trees, "b", 2, 100, now + AGE_MAX / 2);
    trees.age(now + AGE_MAX);
    assert!(revisions(&trees, "a", 9).is_empty());
    assert_eq!(revisions(&trees, "b", 9), [2]);
    put(&trees, "b", 3, 100, now + AGE_MAX);
    trees.age(now + AGE_MAX * 3 / 2);
    assert_eq!(revisions(&trees, "b", 9), [3]);
    trees.age(now + AGE_MAX * 2);
    assert!(revisions(&trees, "b", 9).is_empty());
    assert_eq!(trees.lock().bytes, 0);
    assert_eq!(trees.lock().order.capacity(), 0);
}

#[test]
fn the_oldest_go_first_where_there_are_too_many() {
    let (trees, now) = (Trees::default(), Instant::now());
    let many = TREES_MAX as i64 + 10;
    for revision in 1..=many {
        put(&trees, &revision.to_string(), revision, 1, now);
    }
    assert_eq!(trees.lock().by_key.len(), TREES_MAX);
    assert!(trees.get("10", 10).is_none());
    assert!(trees.get("11", 11).is_some());
}

#[test]
fn many_small_maps_are_not_taken_for_little() {
    let mut object = Object::empty("v1", "ServiceAccount");
    object.set(&["secrets"], vec![json!({ "name": "a" }); 1_000]);
    let json_bytes = object.value().to_string().len();
    assert!(json_bytes < JSON_BYTES_MAX);
    let room = room(object.value());
    assert!(room > 40 * json_bytes);
    let (trees, now, object) = (Trees::default(), Instant::now(), Arc::new(object));
    for revision in 1..=100 {
        let key = revision.to_string();
        trees.put(
            &key,
            revision,
            (object.clone(), room),
            json_bytes,
            SOURCE,
            now,
        );
    }
    assert!(trees.lock().bytes <= BYTES_MAX);
    assert!(trees.get("1", 1).is_none());
    assert!(trees.get("100", 100).is_some());
}

#[test]
fn the_part_of_a_large_object_waits_for_nobody() {
    const LONG: usize = 1_000;
    let part = |name: &str| {
        let mut part = Object::empty("v1", "Pod");
        part.set_name(name);
        part
    };
    // What is renewed keeps the room of its texts.
    let room_of_copy = |json_bytes: usize| {
        let trees = Trees::default();
        trees.spend_part(part(&"a".repeat(LONG)), json_bytes);
        let mut copy = trees.copy_part(&part("b"));
        assert_eq!(copy, part("b"));
        match copy.get_mut(&["metadata", "name"]) {
            Some(Value::String(name)) => name.capacity(),
            other => panic!("{other:?}"),
        }
    };
    assert!(room_of_copy(JSON_BYTES_MAX) >= LONG);
    assert!(room_of_copy(JSON_BYTES_MAX + 1) < LONG);
}

#[test]
fn an_object_that_changes_all_the_time_takes_no_more_room() {
    let (trees, now) = (Trees::default(), Instant::now());
    put(&trees, "quiet", 1, 100, now);
    for revision in 2..50_000 {
        put(&trees, "busy", revision, 100, now);
        assert!(trees.get("busy", revision).is_some());
    }
    let kept = trees.lock();
    assert!(kept.order.len() <= 2 * TREES_MAX + 1);
    let bytes: usize = kept.by_key.values().map(Tree::all_bytes).sum();
    assert_eq!(kept.bytes, bytes);
    drop(kept);
    assert_eq!(revisions(&trees, "busy", 50_000), [49_999]);
}

#[test]
fn what_nobody_asks_for_is_kept_no_more() {
    let (trees, mut now) = (Trees::default(), Instant::now());
    let mut write = |is_new: bool| {
        let source = Source { is_new, ..SOURCE };
        for revision in 1..=160 {
            let (key, object) = (revision.to_string(), object(revision));
            trees.put(&key, revision, (object, 100), 100, source, now);
        }
        let kept = trees.lock().by_key.len();
        now += AGE_MAX;
        trees.age(now);
        kept
    };
    assert_eq!((write(true), write(true), write(false)), (160, 10, 160));
    assert_eq!(trees.lock().bytes, 0);
    // One that is not worth it still ends what was known before.
    let kept = (1..=32).filter(|revision| {
        put(&trees, "a", *revision, 100, now);
        trees.lock().by_key.contains_key("a")
    });
    assert_eq!(kept.count(), 2);
}
