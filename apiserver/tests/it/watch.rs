//! Watches: order, resumption, selectors, initial events, expiry.

use http::Method;
use serde_json::{Value, json};

use crate::server::{MAPS, Server, config_map};

#[tokio::test]
async fn changes_arrive_in_order_with_versions() {
    let server = Server::start().await;
    let list = server.get(MAPS).await.ok();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut events = server
        .watch(&format!("{MAPS}?watch=1&resourceVersion={version}"))
        .await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    server
        .put(&format!("{MAPS}/a"), config_map("a", "2"))
        .await
        .ok();
    server.delete(&format!("{MAPS}/a"), json!(null)).await.ok();
    let mut last = version.parse::<i64>().unwrap();
    for expected in ["ADDED", "MODIFIED", "DELETED"] {
        let event = events.next().await.unwrap();
        assert_eq!(
            (event["type"].as_str(), event["object"]["kind"].as_str()),
            (Some(expected), Some("ConfigMap"))
        );
        let version = event["object"]["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<i64>()
            .unwrap();
        assert!(version > last);
        last = version;
        if expected == "DELETED" {
            assert_eq!(event["object"]["data"]["key"], "2");
        }
    }
}

/// From whatever version, and beside others: a watch sees what came later, all of it, and in the order of the others.
#[tokio::test]
async fn every_watch_sees_the_rest_in_the_same_order() {
    let server = Server::start().await;
    let list = server.get(MAPS).await.ok();
    let from = |version: &Value| {
        let version = version.as_str().unwrap();
        format!("{MAPS}?watch=1&labelSelector=on%3Dyes&resourceVersion={version}")
    };
    let mut first = server
        .watch(&from(&list["metadata"]["resourceVersion"]))
        .await;
    for (name, turns) in [("a", 2), ("b", 1), ("c", 2)] {
        let mut map = config_map(name, "0");
        map["metadata"]["labels"] = json!({"on": "yes"});
        server.post(MAPS, map).await.ok();
        for turn in 1..=turns {
            let change = json!({"data": {"key": turn.to_string()}});
            let uri = format!("{MAPS}/{name}");
            server.patch(&uri, "merge-patch+json", change).await.ok();
        }
        // Nobody who chose by the label sees this one.
        let other = format!("other-{name}");
        server.post(MAPS, config_map(&other, "0")).await.ok();
    }
    for name in ["b", "a"] {
        let uri = format!("{MAPS}/{name}");
        server.delete(&uri, Value::Null).await.ok();
    }
    let expected = [
        "ADDED a",
        "MODIFIED a",
        "MODIFIED a",
        "ADDED b",
        "MODIFIED b",
        "ADDED c",
        "MODIFIED c",
        "MODIFIED c",
        "DELETED b",
        "DELETED a",
    ];
    let mut seen = Vec::new();
    for line in expected {
        let event = first.next().await.unwrap();
        let name = event["object"]["metadata"]["name"].as_str().unwrap();
        assert_eq!(format!("{} {name}", event["type"].as_str().unwrap()), line);
        seen.push(event);
    }
    let mut watches = Vec::new();
    for event in &seen {
        let version = &event["object"]["metadata"]["resourceVersion"];
        watches.push(server.watch(&from(version)).await);
    }
    let mut last = config_map("last", "0");
    last["metadata"]["labels"] = json!({"on": "yes"});
    server.post(MAPS, last).await.ok();
    seen.push(first.next().await.unwrap());
    for (at, watch) in watches.iter_mut().enumerate() {
        for event in &seen[at + 1..] {
            assert_eq!(&watch.next().await.unwrap(), event, "from event {at}");
        }
    }
}

#[tokio::test]
async fn selectors_turn_changes_into_additions_and_deletions() {
    let server = Server::start().await;
    let mut events = server
        .watch(&format!("{MAPS}?watch=1&labelSelector=on%3Dyes"))
        .await;
    let label = |value: &str| json!({"metadata": {"labels": {"on": value}}});
    server.post(MAPS, config_map("a", "1")).await.ok();
    let kind = "merge-patch+json";
    server
        .patch(&format!("{MAPS}/a"), kind, label("yes"))
        .await
        .ok();
    server
        .patch(&format!("{MAPS}/a"), kind, json!({"data": {"key": "2"}}))
        .await
        .ok();
    server
        .patch(&format!("{MAPS}/a"), kind, label("no"))
        .await
        .ok();
    server
        .patch(&format!("{MAPS}/a"), kind, label("yes"))
        .await
        .ok();
    for expected in ["ADDED a", "MODIFIED a", "DELETED a", "ADDED a"] {
        assert_eq!(events.line().await, expected);
    }
    let mut one = server
        .watch(&format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Db"))
        .await;
    server.post(MAPS, config_map("c", "1")).await.ok();
    server.post(MAPS, config_map("b", "1")).await.ok();
    assert_eq!(one.line().await, "ADDED b");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    server.post(MAPS, config_map("b", "1")).await.ok();
    let query =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = server.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(
        (events.line().await, events.line().await),
        ("ADDED a".to_owned(), "ADDED b".to_owned())
    );
    let end = events.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(
        end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(
        (
            end["object"]["kind"].as_str(),
            end["object"]["apiVersion"].as_str()
        ),
        (Some("ConfigMap"), Some("v1"))
    );
    server.post(MAPS, config_map("c", "1")).await.ok();
    assert_eq!(events.line().await, "ADDED c");
    let refused = server
        .get(&format!("{MAPS}?watch=1&sendInitialEvents=true"))
        .await;
    assert_eq!(refused.refused().0, 422);
}

#[tokio::test]
async fn bookmarks_come_and_the_watch_ends() {
    let server = Server::start().await;
    let list = server.get(MAPS).await.ok();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let uri = format!(
        "{MAPS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion={version}"
    );
    let mut events = server.watch(&uri).await;
    server
        .post(
            "/api/v1/namespaces/default/secrets",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
        )
        .await
        .ok();
    let mut bookmarks = 0;
    while let Some(event) = events.next().await {
        assert_eq!(event["type"], "BOOKMARK");
        assert!(
            event["object"]["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse::<i64>()
                .unwrap()
                > version.parse().unwrap()
        );
        bookmarks += 1;
    }
    assert!(bookmarks >= 1, "{bookmarks}");
}

#[tokio::test]
async fn too_old_a_version_is_a_410_event() {
    use kv::Store;
    let server = Server::start().await;
    let list = server.get(MAPS).await.ok();
    let version: i64 = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let last = server.post(MAPS, config_map("a", "1")).await.ok();
    server
        .store
        .compact(
            last["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap(),
        )
        .await
        .unwrap();
    let store = server.store.clone();
    drop(server);
    let server = Server::over(store).await;
    let mut events = server
        .watch(&format!("{MAPS}?watch=1&resourceVersion={version}"))
        .await;
    let event = events.next().await.unwrap();
    assert_eq!(
        (event["type"].as_str(), event["object"]["code"].as_i64()),
        (Some("ERROR"), Some(410))
    );
    assert_eq!(event["object"]["reason"], "Expired");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut_off() {
    let server = Server::start().await;
    let mut events = server.watch(&format!("{MAPS}?watch=1")).await;
    server.post(MAPS, config_map("first", "0")).await.ok();
    assert_eq!(events.line().await, "ADDED first");
    let value = "x".repeat(900_000);
    for turn in 0..80 {
        server
            .put(
                &format!("{MAPS}/first"),
                config_map("first", &format!("{turn}{value}")),
            )
            .await
            .ok();
    }
    let mut last = events.next().await.unwrap();
    while let Some(event) = events.next().await {
        last = event;
    }
    assert_eq!(
        (last["type"].as_str(), last["object"]["code"].as_i64()),
        (Some("ERROR"), Some(410))
    );
}

#[tokio::test]
async fn tables_can_be_watched() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let request = server
        .request(Method::GET, &format!("{MAPS}?watch=1"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Default::default())
        .unwrap();
    let response = server.send(request).await;
    let frame = http_body_util::BodyExt::frame(&mut response.into_body())
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    let event: serde_json::Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(
        (event["type"].as_str(), event["object"]["kind"].as_str()),
        (Some("ADDED"), Some("Table"))
    );
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
    let yaml = server
        .request(Method::GET, &format!("{MAPS}?watch=1"))
        .header("accept", "application/yaml")
        .body(Default::default())
        .unwrap();
    assert_eq!(server.read(yaml).await.code, 406);
}

#[tokio::test]
async fn a_watch_that_rests_ends_with_the_server() {
    let server = Server::start().await;
    let mut events = server.watch(&format!("{MAPS}?watch=true")).await;
    server.post(MAPS, config_map("a", "value")).await.ok();
    assert_eq!(events.line().await, "ADDED a");
    let mut next = Box::pin(events.next());
    assert!(futures::poll!(&mut next).is_pending());
    server.stop().await;
    assert!(next.await.is_none());
}

/// Nothing more happens that would wake it.
#[tokio::test]
async fn a_watch_that_is_far_behind_reads_all_there_is_before_it_rests() {
    const CHANGES: usize = 600;
    let server = Server::start().await;
    let list = server.get(MAPS).await.ok();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let name = |number: usize| format!("map-{number:03}");
    for number in 0..CHANGES {
        let new = config_map(&name(number), "value");
        server.post(MAPS, new).await.ok();
    }
    let mut events = server
        .watch(&format!("{MAPS}?watch=true&resourceVersion={version}"))
        .await;
    for number in 0..CHANGES {
        let expected = format!("ADDED {}", name(number));
        assert_eq!(events.line().await, expected);
    }
}
