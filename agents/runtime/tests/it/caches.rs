//! What a cache does when its server refuses, forgets, or breaks off.

use crate::server::{Answer, scripted, status};
use agent_runtime::Hub;
use agent_runtime::cache::Cache;
use agent_runtime::kinds::ConfigMap;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn map(name: &str, version: &str) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": version}})
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn initial_end(version: &str) -> Value {
    event(
        "BOOKMARK",
        json!({"metadata": {"resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}}}),
    )
}

fn changes(cache: &Cache<ConfigMap>) -> Arc<Mutex<Vec<String>>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = log.clone();
    cache.subscribe(move |change| {
        let kind = match (&change.old, &change.new) {
            (None, _) => "added",
            (_, None) => "deleted",
            _ => "changed",
        };
        sink.lock()
            .unwrap()
            .push(format!("{kind} {}", change.latest().metadata.name));
    });
    log
}

async fn at(cache: &Cache<ConfigMap>, revision: u64) {
    tokio::time::timeout(Duration::from_secs(20), cache.wait_revision(revision))
        .await
        .expect("the cache gets there");
}

#[tokio::test]
async fn the_state_comes_by_the_watch_itself() {
    let (send, more) = mpsc::channel(4);
    let (client, log) = scripted(vec![Answer::Watch(
        vec![event("ADDED", map("x", "3")), initial_end("5")],
        more,
    )]);
    let hub = Hub::new(client, &CancellationToken::new());
    let cache = hub.cache::<ConfigMap>();
    let seen = changes(&cache);
    at(&cache, 5).await;
    assert!(cache.version().borrow().synced);
    send.send(event("DELETED", map("x", "6"))).await.unwrap();
    at(&cache, 6).await;
    assert_eq!(*seen.lock().unwrap(), ["added x", "deleted x"]);
    let request = log.lock().unwrap()[0].clone();
    assert!(
        request.contains("sendInitialEvents=true")
            && request.contains("resourceVersionMatch=NotOlderThan")
            && request.contains("allowWatchBookmarks=true"),
        "{request}"
    );
}

#[tokio::test]
async fn a_refusal_of_initial_events_leads_to_a_list() {
    let (_send, more) = mpsc::channel(1);
    let list = json!({"metadata": {"resourceVersion": "5"}, "items": [map("x", "3"), {"metadata": {"name": 7}}]});
    let (client, log) = scripted(vec![
        Answer::Json(422, status(422, "Invalid")),
        Answer::Json(200, list),
        Answer::Watch(vec![event("MODIFIED", map("x", "8"))], more),
    ]);
    let hub = Hub::new(client, &CancellationToken::new());
    let cache = hub.cache::<ConfigMap>();
    at(&cache, 8).await;
    assert_eq!(cache.get("a", "x").unwrap().metadata.resource_version, "8");
    let log = log.lock().unwrap();
    assert!(
        log[1].contains("limit=500") && log[2].contains("resourceVersion=5"),
        "{log:#?}"
    );
}

#[tokio::test]
async fn a_watch_that_breaks_goes_on_where_it_was_and_a_forgotten_version_starts_over() {
    let (_, ended) = mpsc::channel(1);
    let (_, ended_too) = mpsc::channel(1);
    let (_send, last) = mpsc::channel(1);
    let answers = vec![
        Answer::Watch(
            vec![
                event("ADDED", map("x", "3")),
                event("ADDED", map("y", "4")),
                initial_end("5"),
            ],
            ended,
        ),
        Answer::Watch(
            vec![
                event("MODIFIED", map("x", "6")),
                event("ERROR", status(410, "Expired")),
            ],
            ended_too,
        ),
        Answer::Watch(
            vec![
                event("ADDED", map("x", "6")),
                event("ADDED", map("z", "9")),
                initial_end("9"),
            ],
            last,
        ),
    ];
    let (client, log) = scripted(answers);
    let hub = Hub::new(client, &CancellationToken::new());
    let cache = hub.cache::<ConfigMap>();
    let seen = changes(&cache);
    at(&cache, 9).await;
    assert_eq!(
        *seen.lock().unwrap(),
        ["added x", "added y", "changed x", "deleted y", "added z"]
    );
    let log = log.lock().unwrap();
    assert!(
        log[1].contains("resourceVersion=5") && !log[1].contains("sendInitialEvents"),
        "{log:#?}"
    );
    assert!(log[2].contains("sendInitialEvents=true"), "{log:#?}");
}
