use super::at_rest::PACKED_BYTES_AT_ONCE;
use super::*;
use crate::codec;
use crate::interest::Term;

/// No two states of an object have the same labels: else a change would have one for both.
fn entry(name: &str, revision: i64) -> Arc<Entry> {
    labelled(name, revision, revision)
}

fn labelled(name: &str, label: i64, revision: i64) -> Arc<Entry> {
    let key = format!("/registry/pods/{name}");
    let json =
        format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"labels":{{"at":"{label}"}}}}}}"#);
    let stored = Opened::from(Bytes::from(json));
    let names_at = "/registry/pods/".len();
    Arc::new(Entry::new(&key, names_at, &stored, revision, &[], None).unwrap())
}

fn put(cache: &Cache, name: &str, revision: i64) {
    cache.apply(
        revision,
        vec![(
            format!("/registry/pods/{name}"),
            Some(entry(name, revision)),
        )],
    );
}

#[test]
fn what_this_server_wrote_is_known_without_a_look() {
    let pods = resources::find("", "v1", "pods").unwrap();
    let cache = Cache::new(vec![pods.into()], "/registry/pods/".into());
    let pod = |app: &str| {
        let pod = serde_json::json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "a", "namespace": "n", "labels": {"app": app}},
            "spec": {"nodeName": "node"}, "status": {"phase": "Running"}});
        Object::new(pod).unwrap()
    };
    let (key, stored) = ("/registry/pods/n/a", codec::encode(pod("x").value()));
    let opened = Opened::from(stored.clone());
    let looked_at = format!("{:?}", cache.entry(key, &opened, 7).unwrap());
    cache.foresee(key, &stored, &pod("x"));
    let known = cache.changed(key, &opened, 7).unwrap();
    assert_eq!(format!("{known:?}"), looked_at);
    assert_eq!(known.field("spec.nodeName"), "node");
    // Nobody looks again, so that it is this that counts.
    cache.foresee(key, &stored, &pod("y"));
    let known = cache.changed(key, &opened, 8).unwrap();
    assert_eq!(known.labels().collect::<Vec<_>>(), [("app", "y")]);
    cache.foresee(key, &stored, &pod("y"));
    cache.forget(key, &stored);
    let known = cache.changed(key, &opened, 9).unwrap();
    assert_eq!(known.labels().collect::<Vec<_>>(), [("app", "x")]);
}

#[test]
fn what_foreign_writers_store_is_read_as_it_is_shown_or_left_out() {
    for (group, plural) in [("", "pods"), ("", "events")] {
        let resource = resources::find(group, "v1", plural).unwrap();
        let prefix = format!("/registry/{plural}/");
        let cache = Cache::new(vec![resource.into()], prefix.clone());
        let entry = |stored: &'static str| {
            let opened = Opened::from(Bytes::from_static(stored.as_bytes()));
            cache.entry(&format!("{prefix}n/a"), &opened, 7)
        };
        for stored in [
            "{}",
            r#"{"kind":"K","apiVersion":"v1","metadata":{}}"#,
            r#"{"kind":"K","apiVersion":"v1","metadata":{ }}"#,
            "{\"kind\":\"K\",\"apiVersion\":\"v1\",\"metadata\":{\n\t}}",
            r#"{"kind":"K","apiVersion":"v1","metadata":{ "name":"a"} }"#,
            r#" {"kind":"K","metadata":{"name":"a"}}"#,
            r#" {"kind":"K","a":{"$serde_json::private::RawValue":"x"}}"#,
        ] {
            let object = entry(stored).unwrap().object();
            assert_eq!(object.resource_version(), "7", "{stored}");
        }
        for broken in [
            "",
            "[]",
            r#"{"kind":"K","apiVersion":"v1","metadata":{"name":"a"}"#,
            r#"{"kind":"K","apiVersion":"v1","metadata":{},"spec":{"a":}}"#,
            r#"{"kind":"K","apiVersion":"v1","metadata":{} } x"#,
            r#"{"kind":"K","apiVersion":"v1","metadata":{"name":1e999}}"#,
        ] {
            assert!(entry(broken).is_none(), "{broken}");
        }
    }
}

#[test]
fn cursors_resume_and_expire() {
    let cache = Cache::new(Vec::new(), "/registry/pods/".into());
    cache.reset(vec![entry("a", 3)], 5);
    assert_eq!(cache.cursor_after(4), Err(TooOld(5)));
    let mut cursor = cache.cursor_after(5).unwrap();
    for revision in 6..=8 {
        put(&cache, "b", revision);
    }
    assert_eq!(cache.cursor_after(7).unwrap(), cursor + 2);
    let changes = cache.read_changes(&mut cursor, 2).unwrap();
    assert_eq!(
        changes.iter().map(|c| c.revision).collect::<Vec<_>>(),
        [6, 7]
    );
    assert!(changes[0].old.is_none() && changes[1].old.as_ref().unwrap().revision == 6);
    assert_eq!(cache.read_changes(&mut cursor, 9).unwrap().len(), 1);
    for revision in 9..9 + RING_LEN_MIN as i64 + 1 {
        put(&cache, "b", revision);
    }
    assert_eq!(cache.read_changes(&mut cursor, 1).err(), Some(TooOld(9)));
    cache.reset(Vec::new(), 99_999);
    assert_eq!(cache.cursor_after(99_998), Err(TooOld(99_999)));
}

#[test]
fn objects_at_rest_are_packed_and_nobody_sees_a_difference() {
    let cache = Cache::new(Vec::new(), "/registry/pods/".into());
    let large = |key: &str, revision: i64| {
        let value = format!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"name":"{key}"}},"spec":"{}"}}"#,
            "abcdefgh".repeat(600)
        );
        let key = format!("/registry/pods/{key}");
        let stored = Opened::from(Bytes::from(value));
        cache.entry(&key, &stored, revision).unwrap()
    };
    let all = (0..600).map(|at| large(&format!("n/{at:03}"), 3)).collect();
    cache.reset(all, 5);
    put(&cache, "n/007", 6);
    let before = cache.snapshot(6);
    let room =
        |tree: &Tree| -> usize { tree.iter_from("").map(|one| one.encoded.json.room()).sum() };
    let pack = |cache: &Cache| {
        let mut rest = cache.at_rest()?;
        let mut turns = 1;
        while cache.pack(&mut rest) {
            turns += 1;
        }
        Some(turns)
    };
    assert_eq!(pack(&cache), Some(3));
    let after = cache.snapshot(6);
    assert!(room(&after.tree) * 10 < room(&before.tree));
    assert_eq!(after.tree.len(), 600);
    for (one, other) in before.tree.iter_from("").zip(after.tree.iter_from("")) {
        assert_eq!(
            (one.json(), one.json_len()),
            (other.json(), other.json_len())
        );
        assert_eq!((one.key(), one.revision), (other.key(), other.revision));
        assert_eq!(one.opened().value, other.opened().value);
    }
    let changed = before.tree.get("/registry/pods/n/007").unwrap();
    assert!(
        Arc::ptr_eq(changed, after.tree.get("/registry/pods/n/007").unwrap()),
        "the ring has it"
    );
    assert_eq!(pack(&cache), None, "there is nothing to do");
    cache.apply(
        9,
        vec![("/registry/pods/n/300".into(), Some(large("n/300", 9)))],
    );
    assert_eq!(pack(&cache), None, "nor is it forgotten yet");
    cache.write().floor = 9;
    assert_eq!(pack(&cache), Some(3));
    let changed = cache.get("/registry/pods/n/300").unwrap();
    assert!(
        changed.encoded.json.room() * 10 < changed.json_len(),
        "by itself it is packed as well"
    );
}

#[test]
fn few_large_objects_are_packed_in_one_step() {
    let cache = Cache::new(Vec::new(), "/registry/configmaps/".into());
    let large = |at: usize| {
        let data = "abcdefgh".repeat(8_000);
        let value = format!(
            r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{at}"}},"data":{{"a":"{data}"}}}}"#
        );
        let key = format!("/registry/configmaps/n/{at:03}");
        let stored = Opened::from(Bytes::from(value));
        cache.entry(&key, &stored, 3).unwrap()
    };
    cache.reset((0..100).map(large).collect(), 5);
    let mut rest = cache.at_rest().unwrap();
    let (mut steps, mut packed) = (0, 0);
    let mut goes_on = true;
    while goes_on {
        goes_on = cache.pack(&mut rest);
        let small = |entry: &&Arc<Entry>| entry.encoded.json.room() < 60_000;
        let now = cache.snapshot(5).tree.iter_from("").filter(small).count();
        assert!((now - packed) * 64_000 <= PACKED_BYTES_AT_ONCE + 64_000);
        (steps, packed) = (steps + 1, now);
    }
    assert_eq!((steps, packed), (4, 99), "others are packed against one");
}

#[test]
fn a_large_definition_is_packed_as_soon_as_it_comes() {
    let description = "what every field of a pod says again. ".repeat(1_000);
    let stored = format!(
        r#"{{"kind":"X","apiVersion":"v1","metadata":{{"name":"x"}},"spec":{{"description":"{description}"}}}}"#
    );
    let stored = Opened::from(Bytes::from(stored));
    let of = |plural: &str| {
        let cache = Cache::new(Vec::new(), format!("/registry/{plural}/"));
        let key = format!("/registry/{plural}/x");
        cache.entry(&key, &stored, 3).unwrap()
    };
    let (definition, other) = (of("customresourcedefinitions"), of("configmaps"));
    assert_eq!(other.encoded.json.room(), other.json_len());
    assert!(definition.encoded.json.room() * 10 < definition.json_len());
    assert_eq!(definition.json(), other.json());
    assert_eq!(definition.opened().value, stored.value);
}

#[test]
fn what_changed_while_it_was_packed_stays_changed() {
    let mut tree = Tree::default();
    let entry = |revision| Arc::new(Entry::for_test("/registry/pods/a", revision));
    let (old, new, packed) = (entry(1), entry(2), entry(1));
    tree.replace(&old, &packed);
    assert_eq!(tree.len(), 0, "it was deleted");
    tree.insert(new.clone());
    tree.replace(&old, &packed);
    assert!(Arc::ptr_eq(tree.get("/registry/pods/a").unwrap(), &new));
    tree.replace(&new, &packed);
    assert!(Arc::ptr_eq(tree.get("/registry/pods/a").unwrap(), &packed));
}

#[test]
fn what_is_old_goes_but_for_the_latest_few_and_whoever_knows_them_resumes() {
    let cache = Arc::new(Cache::new(Vec::new(), "/registry/pods/".into()));
    cache.reset(vec![entry("n/a", 3)], 5);
    let interest = Interest {
        namespace: "n".into(),
        term: Term::Field("metadata.name".into(), "a".into()),
    };
    let member = cache.join(&interest);
    put(&cache, "n/a", 6);
    let mut cursor = cache.cursor_after(6).unwrap();
    for revision in 7..=306 {
        put(&cache, "n/b", revision);
    }
    let bytes = |cache: &Cache| cache.read().bytes;
    let before = bytes(&cache);
    cache.age(0);
    assert_eq!((bytes(&cache), cache.cursor_after(5)), (before, Ok(1)));
    cache.age(250);
    assert_eq!(cache.cursor_after(205), Err(TooOld(206)), "100 are left");
    cache.age(306);
    assert_eq!(cache.cursor_after(206).unwrap(), cursor + 200);
    assert!(bytes(&cache) < before / 2);
    assert!(cache.read().ring.capacity() < 300);
    assert!(
        cache
            .changes_for(&member, &mut cursor, 9)
            .unwrap()
            .is_empty(),
        "a watch that has slept for long is not behind"
    );
    put(&cache, "n/a", 307);
    let told = cache.changes_for(&member, &mut cursor, 9).unwrap();
    assert_eq!(told[0].revision, 307);
}

#[test]
fn what_no_selector_tells_from_what_it_has_become_is_not_kept() {
    let cache = Cache::new(Vec::new(), "/registry/pods/".into());
    let put = |cache: &Cache, label: i64, revision: i64| {
        let key = "/registry/pods/n/a".to_owned();
        cache.apply(
            revision,
            vec![(key, Some(labelled("n/a", label, revision)))],
        );
    };
    cache.reset(vec![labelled("n/a", 1, 3)], 5);
    let mut cursor = cache.cursor_after(5).unwrap();
    put(&cache, 1, 6);
    assert_eq!(cache.read().bytes, 0);
    put(&cache, 2, 7);
    let before = cache.read().bytes;
    assert_eq!(before, labelled("n/a", 1, 6).json_len());
    // What the change before this one has is no longer what is there.
    put(&cache, 2, 8);
    let superseded = labelled("n/a", 2, 7).json_len();
    assert_eq!(cache.read().bytes, before + superseded);
    cache.apply(9, vec![("/registry/pods/n/a".to_owned(), None)]);
    let changes = cache.read_changes(&mut cursor, 9).unwrap();
    let revision = |state: &Option<Arc<Entry>>| state.as_ref().map(|one| one.revision);
    let told = changes
        .iter()
        .map(|change| (revision(&change.old), revision(&change.new)));
    assert!(told.eq([
        (Some(6), Some(6)),
        (Some(6), Some(7)),
        (Some(8), Some(8)),
        (Some(8), None)
    ]));
    // How a definition was is asked for by those who look after its names.
    let prefix = PACKED_AT_ONCE_OF;
    let cache = Cache::new(Vec::new(), prefix.into());
    let definition = |revision| {
        let stored = Opened::from(Bytes::from(
            r#"{"kind":"X","apiVersion":"v1","metadata":{}}"#,
        ));
        let key = format!("{prefix}x");
        let entry = cache.entry(&key, &stored, revision).unwrap();
        (key, Some(entry))
    };
    for revision in [6, 7] {
        cache.apply(revision, vec![definition(revision)]);
    }
    let state = cache.read();
    assert_eq!(revision_of_old(&state.ring[1]), Some(6));
}

#[test]
fn large_states_that_no_selector_tells_apart_do_not_fill_the_memory() {
    let cache = Cache::new(Vec::new(), "/registry/configmaps/".into());
    let data = "x".repeat(RING_BYTES_MAX / 16);
    let value = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{}},"data":{{"a":"{data}"}}}}"#
    );
    let stored = Opened::from(Bytes::from(value));
    let key = "/registry/configmaps/n/a";
    for revision in 1..=20 {
        let entry = cache.entry(key, &stored, revision);
        cache.apply(revision, vec![(key.to_owned(), entry)]);
    }
    let held = |cache: &Cache| -> usize {
        let state = cache.read();
        let states = state.ring.iter().filter_map(|change| change.new.as_ref());
        states.map(|one| one.json_len()).sum()
    };
    assert!((RING_BYTES_MAX / 2..=RING_BYTES_MAX).contains(&held(&cache)));
    cache.age(20);
    assert_eq!((held(&cache), cache.read().bytes), (0, 0));
}

fn revision_of_old(change: &Change) -> Option<i64> {
    change.old.as_ref().map(|old| old.revision)
}

#[test]
fn of_many_objects_more_changes_are_kept() {
    for (objects, changes) in [
        (0, RING_LEN_MIN),
        (RING_LEN_MIN + 1, RING_LEN_MIN + 1),
        (100_000, RING_LEN_MAX),
    ] {
        assert_eq!(ring_len_max(objects), changes);
    }
    let cache = Cache::new(Vec::new(), "/registry/pods/".into());
    let many = RING_LEN_MIN + 10;
    let all = (0..many).map(|at| entry(&format!("n/{at:05}"), 3));
    cache.reset(all.collect(), 5);
    let last = 5 + many as i64;
    for revision in 6..=last {
        put(&cache, "n/00001", revision);
    }
    assert_eq!(cache.cursor_after(5), Ok(1));
    put(&cache, "n/00001", last + 1);
    assert_eq!(cache.cursor_after(5), Err(TooOld(6)));
    let shrunk = (0..20).map(|at| (format!("/registry/pods/n/{at:05}"), None));
    cache.apply(last + 2, shrunk.collect());
    assert_eq!(cache.read().ring.len(), RING_LEN_MIN, "there are fewer now");
}

#[test]
fn of_what_is_no_longer_fresh_much_goes_and_little_stays() {
    let cache = Cache::new(Vec::new(), "/registry/pods/".into());
    cache.reset(vec![entry("n/a", 3)], 5);
    let last = 5 + 2 * CALMED.changes as i64;
    for revision in 6..=last {
        put(&cache, "n/a", revision);
    }
    let len = |cache: &Cache| cache.read().ring.len();
    cache.calm(5);
    assert_eq!(len(&cache), 2 * CALMED.changes);
    cache.calm(105);
    assert_eq!(cache.cursor_after(104), Err(TooOld(105)));
    assert!(cache.cursor_after(105).is_ok(), "the others are fresh");
    for _ in 0..2 {
        cache.calm(last);
        assert_eq!(len(&cache), CALMED.changes);
    }
    cache.age(last);
    assert_eq!(len(&cache), AGED.changes);
}

#[test]
fn a_watch_of_one_object_sleeps_while_others_change_and_never_falls_behind() {
    let cache = Arc::new(Cache::new(Vec::new(), "/registry/pods/".into()));
    cache.reset(vec![entry("n/a", 3)], 5);
    let mut cursor = cache.cursor_after(5).unwrap();
    let interest = Interest {
        namespace: "n".into(),
        term: Term::Field("metadata.name".into(), "a".into()),
    };
    let member = cache.join(&interest);
    let mut wake = member.subscribe();
    put(&cache, "n/a", 6);
    assert!(wake.has_changed().unwrap());
    wake.mark_unchanged();
    let read = |cursor: &mut u64| -> Result<Vec<i64>, TooOld> {
        let changes = cache.changes_for(&member, cursor, 9)?;
        Ok(changes.iter().map(|change| change.revision).collect())
    };
    assert_eq!(read(&mut cursor), Ok(vec![6]));
    let last = 7 + RING_LEN_MIN as i64;
    for revision in 7..=last {
        put(&cache, "n/b", revision);
    }
    assert!(!wake.has_changed().unwrap());
    put(&cache, "n/a", last + 1);
    assert!(wake.has_changed().unwrap());
    assert_eq!(read(&mut cursor), Ok(vec![last + 1]));
    put(&cache, "n/a", last + 2);
    wake.mark_unchanged();
    cache.reset(Vec::new(), last + 9);
    assert!(wake.has_changed().unwrap());
    assert_eq!(read(&mut cursor), Err(TooOld(last + 9)));
}

#[test]
fn an_event_is_written_once_for_all_watches_of_a_sort_that_read_in_time() {
    let of = |kind| FrameOf {
        kind,
        encoding: Encoding::Json,
        form: Form::Object,
        group: "".into(),
        version: "v1".into(),
    };
    let change = Change::new(3, None, Some(entry("n/a", 3)));
    let first = change.frame(of("ADDED"), || Bytes::from_static(b"first"));
    let second = change.frame(of("ADDED"), || Bytes::from_static(b"second"));
    assert_eq!((&first[..], &second[..]), (&b"first"[..], &b"first"[..]));
    let other = change.frame(of("MODIFIED"), || Bytes::from_static(b"other"));
    assert_eq!(&other[..], b"other");
    change.drop_frames();
    for made in ["a", "b"] {
        assert_eq!(change.frame(of("ADDED"), || Bytes::from(made)), made);
    }
}

#[test]
fn a_deletion_shows_the_last_state_at_its_own_revision() {
    let cache = Cache::new(Vec::new(), "/registry/pods/".into());
    put(&cache, "a", 2);
    let mut cursor = cache.cursor_after(2).unwrap();
    cache.apply(
        4,
        vec![
            ("/registry/pods/a".into(), None),
            ("/registry/pods/ghost".into(), None),
        ],
    );
    let changes = cache.read_changes(&mut cursor, 9).unwrap();
    assert_eq!(changes.len(), 1);
    let gone: serde_json::Value =
        serde_json::from_slice(changes[0].gone.as_ref().unwrap()).unwrap();
    assert_eq!(gone["metadata"]["resourceVersion"], "4");
    assert_eq!((cache.len(), cache.snapshot(3).revision), (0, 4));
    assert_eq!(cache.size("/registry/pods/"), (0, 0));
}

#[test]
fn it_knows_how_much_there_is_and_who_sees_it() {
    let cache = Arc::new(Cache::new(Vec::new(), "/registry/pods/".into()));
    let bytes = entry("n/a", 3).json_len();
    cache.reset(vec![entry("n/a", 3), entry("n/b", 4), entry("na/c", 5)], 5);
    assert_eq!(cache.size("/registry/pods/"), (3, bytes));
    assert_eq!(cache.size("/registry/pods/n/"), (2, bytes));
    put(&cache, "n/a", 6);
    assert_eq!(cache.size("/registry/pods/n/"), (2, bytes));
    let (all, some) = (cache.watched(""), cache.watched("n"));
    let of = |namespace| cache.watches_of(namespace);
    assert_eq!((of("n"), of("m"), of("")), (2, 1, 1));
    drop((all, some));
    assert_eq!((of("n"), cache.watches().len()), (0, 0));
}

#[test]
fn what_was_seen_is_counted_and_taken_over() {
    let maps = resources::find("", "v1", "configmaps").unwrap();
    let cache = Cache::since(vec![maps.into()], "/registry/configmaps/".into(), 1);
    assert_eq!(
        cache.seen(),
        Seen {
            changes: 0,
            loads: 1
        }
    );
    cache.reset(Vec::new(), 4);
    for alike in [true, false] {
        let other = cache.reshaped(vec![maps.into()], alike, 5);
        let loads = if alike { 2 } else { 3 };
        assert_eq!(other.seen(), Seen { changes: 0, loads });
    }
}
