//! Tests: the volumes of one pod, and those of many pods at once, stay out of each other's way.

use serde_json::{Value, json};

use super::*;

fn pod(uid: &str, volumes: Value) -> Pod {
    Pod::decode(&json!({
        "metadata": {"name": uid, "namespace": "d", "uid": uid},
        "spec": {"volumes": volumes, "containers": [{"name": "c"}]},
    }))
    .unwrap()
}

fn made(pod: &Pod, dir: &Path, sources: &Sources) -> Paths {
    let (tokens, now) = (Tokens::new(), OffsetDateTime::UNIX_EPOCH);
    prepare(pod, dir, sources, &tokens, now).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    // What begins with two dots is how a payload is exchanged as a whole.
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("..")).collect();
    names.sort();
    names
}

#[test]
fn volumes_of_several_kinds_do_not_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources {
        config_maps: [("m".to_owned(), Some(json!({"data": {"k": "map"}})))].into(),
        secrets: [("s".to_owned(), Some(json!({"data": {"k": "c2VjcmV0"}})))].into(),
        ..Sources::default()
    };
    let pod = pod(
        "u",
        json!([
            {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "map", "configMap": {"name": "m"}},
            {"name": "empty", "emptyDir": {}},
        ]),
    );
    let paths = made(&pod, dir.path(), &sources);
    fs::write(paths["empty"].join("mine"), "1").unwrap();
    // Made again, as for every container that starts.
    assert_eq!(made(&pod, dir.path(), &sources), paths);
    for name in ["secret", "map"] {
        assert_eq!(names(&paths[name]), ["k"]);
        assert_eq!(fs::read_to_string(paths[name].join("k")).unwrap(), name);
    }
    assert_eq!(names(&paths["empty"]), ["mine"]);
    remove(dir.path()).unwrap();
}

/// As often, and as many, as the conformance suite has them.
#[test]
fn many_volumes_of_many_pods_are_made_at_once() {
    const ROUNDS: usize = 3;
    const PODS: usize = 5;
    const MAPS: usize = 50;
    let dir = tempfile::tempdir().unwrap();
    let maps: Vec<String> = (0..MAPS).map(|n| format!("map-{n}")).collect();
    let data = |name: &String| (name.clone(), Some(json!({"data": {"data-1": name}})));
    let sources = Sources {
        config_maps: maps.iter().map(data).collect(),
        ..Sources::default()
    };
    let items = json!([{"key": "data-1", "path": "data-1"}]);
    let volume = |name: &String| json!({"name": name, "configMap": {"name": name, "items": items}});
    let volumes = Value::Array(maps.iter().map(volume).collect());
    let work = |uid: String| {
        let dir = dir.path().join(&uid);
        let paths = made(&pod(&uid, volumes.clone()), &dir, &sources);
        assert_eq!(paths.len(), MAPS);
        for name in &maps {
            let text = fs::read_to_string(paths[name].join("data-1"));
            assert_eq!(&text.unwrap(), name);
        }
        remove(&dir).unwrap();
    };
    for round in 0..ROUNDS {
        std::thread::scope(|scope| {
            for n in 0..PODS {
                let work = &work;
                scope.spawn(move || work(format!("{round}-{n}")));
            }
        });
    }
    assert!(pod_uids(dir.path()).unwrap().is_empty());
}
