//! Lists: selectors, pages, versions, forms.

use std::time::Duration;

use http::Method;
use kv::mem::MemStore;
use serde_json::{Value, json};

use crate::server::{MAPS, Server, config_map};

async fn fill(server: &Server, count: usize) {
    for index in 0..count {
        let mut map = config_map(&format!("m{index:02}"), "1");
        map["metadata"]["labels"] = json!({"parity": if index % 2 == 0 { "even" } else { "odd" }});
        server.post(MAPS, map).await.ok();
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn lists_have_the_shape_of_kubernetes() {
    let server = Server::start().await;
    fill(&server, 3).await;
    let list = server.get(MAPS).await.ok();
    assert_eq!(
        (list["kind"].as_str(), list["apiVersion"].as_str()),
        (Some("ConfigMapList"), Some("v1"))
    );
    assert_eq!(names(&list), ["m00", "m01", "m02"]);
    assert!(list["items"][0].get("kind").is_none());
    let newest = list["items"][2]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse::<i64>()
        .unwrap();
    assert!(
        list["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<i64>()
            .unwrap()
            >= newest
    );
    let all = server.get("/api/v1/configmaps").await.ok();
    assert_eq!(
        names(&all),
        [
            "m00",
            "m01",
            "m02",
            "extension-apiserver-authentication",
            "kube-apiserver-legacy-service-account-token-tracking"
        ]
    );
    let empty = server
        .get("/apis/apps/v1/namespaces/default/deployments")
        .await
        .ok();
    assert_eq!(empty["items"], json!([]));
}

#[tokio::test]
async fn selectors_choose() {
    let server = Server::start().await;
    fill(&server, 5).await;
    for (query, expected) in [
        ("labelSelector=parity%3Deven", vec!["m00", "m02", "m04"]),
        ("labelSelector=parity+notin+(even)", vec!["m01", "m03"]),
        ("labelSelector=!parity", vec![]),
        ("fieldSelector=metadata.name%3Dm01", vec!["m01"]),
        (
            "fieldSelector=metadata.name!%3Dm01,metadata.namespace%3Ddefault",
            vec!["m00", "m02", "m03", "m04"],
        ),
    ] {
        assert_eq!(
            names(&server.get(&format!("{MAPS}?{query}")).await.ok()),
            expected,
            "{query}"
        );
    }
    assert_eq!(
        server
            .get(&format!("{MAPS}?labelSelector=a%20b%20c"))
            .await
            .refused()
            .0,
        400
    );
    let unknown = server
        .get(&format!("{MAPS}?fieldSelector=spec.x%3D1"))
        .await;
    assert_eq!(
        unknown.refused().2,
        "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
}

#[tokio::test]
async fn pages_are_consistent() {
    let server = Server::start().await;
    fill(&server, 7).await;
    let first = server.get(&format!("{MAPS}?limit=3")).await.ok();
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["m00", "m01", "m02"], &json!(4))
    );
    server
        .delete(&format!("{MAPS}/m04"), json!(null))
        .await
        .ok();
    server.post(MAPS, config_map("m03a", "1")).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server
        .get(&format!("{MAPS}?limit=3&continue={token}"))
        .await
        .ok();
    assert_eq!(
        names(&second),
        ["m03", "m04", "m05"],
        "the second page shows the state of the first"
    );
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = server
        .get(&format!("{MAPS}?limit=3&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&third), ["m06"]);
    assert!(third["metadata"].get("continue").is_none());
    let selected = server
        .get(&format!("{MAPS}?limit=2&labelSelector=parity%3Deven"))
        .await
        .ok();
    assert!(
        selected["metadata"].get("remainingItemCount").is_none()
            && selected["metadata"]["continue"].is_string()
    );
}

#[tokio::test]
async fn expired_pages_offer_a_way_on() {
    use kv::Store;
    let server = Server::start().await;
    fill(&server, 4).await;
    let first = server.get(&format!("{MAPS}?limit=2")).await.ok();
    let last = server.post(MAPS, config_map("m01a", "1")).await.ok();
    let revision = last["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    server.get(MAPS).await.ok();
    server.store.compact(revision).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let expired = server
        .get(&format!("{MAPS}?limit=2&continue={token}"))
        .await;
    assert_eq!((expired.refused().0, expired.refused().1), (410, "Expired"));
    let token = expired.body["metadata"]["continue"].as_str().unwrap();
    let rest = server.get(&format!("{MAPS}?continue={token}")).await.ok();
    assert_eq!(
        names(&rest),
        ["m01a", "m02", "m03"],
        "from there on it is the newest state"
    );
    let exact = format!(
        "{MAPS}?resourceVersion={}&resourceVersionMatch=Exact",
        revision - 1
    );
    assert_eq!(
        server.get(&exact).await.refused(),
        (
            410,
            "Expired",
            "The resourceVersion for the provided list is too old."
        )
    );
}

/// Who waits for the end of a state gets it, also where nothing of the kind has changed since.
#[tokio::test]
async fn pages_of_a_kind_at_rest_expire_too() {
    use kv::Store;
    let server = Server::start().await;
    fill(&server, 4).await;
    let first = server.get(&format!("{MAPS}?limit=2")).await.ok();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let secrets = "/api/v1/namespaces/default/secrets";
    let other = server
        .post(secrets, json!({"metadata": {"name": "other"}}))
        .await
        .ok();
    let second = format!("{MAPS}?limit=1&continue={token}");
    assert_eq!(names(&server.get(&second).await.ok()), ["m02"]);
    let revision = other["metadata"]["resourceVersion"].as_str().unwrap();
    server
        .store
        .compact(revision.parse().unwrap())
        .await
        .unwrap();
    let expired = server.get(&second).await;
    assert_eq!((expired.refused().0, expired.refused().1), (410, "Expired"));
    let token = expired.body["metadata"]["continue"].as_str().unwrap();
    let rest = format!("{MAPS}?limit=1&continue={token}");
    let rest = server.get(&rest).await.ok();
    assert_eq!(names(&rest), ["m02"]);
    assert_eq!(rest["metadata"]["remainingItemCount"], 1);
    assert_ne!(rest["metadata"]["resourceVersion"], version);
    // From there on it is one state again, whatever else goes on.
    server
        .post(secrets, json!({"metadata": {"name": "later"}}))
        .await
        .ok();
    let token = rest["metadata"]["continue"].as_str().unwrap();
    let last = server.get(&format!("{MAPS}?continue={token}")).await.ok();
    assert_eq!(names(&last), ["m03"]);
    assert_eq!(last["metadata"].get("continue"), None);
    let versions = [&rest, &last].map(|list| list["metadata"]["resourceVersion"].clone());
    assert_eq!(versions[0], versions[1]);
    let exact = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(server.get(&exact).await.code, 410);
}

#[tokio::test]
async fn versions_are_honoured() {
    let server = Server::start().await;
    fill(&server, 2).await;
    let list = server.get(MAPS).await.ok();
    let version: i64 = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    server.post(MAPS, config_map("m99", "1")).await.ok();
    assert_eq!(names(&server.get(MAPS).await.ok()).len(), 3);
    let exact = server
        .get(&format!(
            "{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact"
        ))
        .await
        .ok();
    assert_eq!(names(&exact), ["m00", "m01"]);
    assert_eq!(exact["metadata"]["resourceVersion"], version.to_string());
    let newer = server
        .get(&format!(
            "{MAPS}?resourceVersion={version}&resourceVersionMatch=NotOlderThan"
        ))
        .await
        .ok();
    assert_eq!(names(&newer).len(), 3);
    assert_eq!(
        names(&server.get(&format!("{MAPS}?resourceVersion=0")).await.ok()).len(),
        3
    );
}

/// One object as it was: more than Kubernetes has, which knows `Exact` for lists alone.
#[tokio::test(start_paused = true)]
async fn an_object_is_shown_as_it_was() {
    use kv::Store;
    let server = Server::start().await;
    let uri = format!("{MAPS}/a");
    let version = |object: &Value| -> i64 {
        let text = object["metadata"]["resourceVersion"].as_str().unwrap();
        text.parse().unwrap()
    };
    let at = |version: i64| format!("{uri}?resourceVersion={version}&resourceVersionMatch=Exact");
    let made = server.post(MAPS, config_map("a", "1")).await.ok();
    let mut next = made.clone();
    next["data"]["key"] = "2".into();
    let changed = server.put(&uri, next).await.ok();
    let other = server.post(MAPS, config_map("b", "1")).await.ok();
    server.delete(&uri, Value::Null).await.ok();
    let later = server.post(MAPS, config_map("c", "1")).await.ok();

    assert_eq!(server.get(&at(version(&made))).await.ok(), made);
    assert_eq!(server.get(&at(version(&changed))).await.ok(), changed);
    assert_eq!(server.get(&at(version(&other))).await.ok(), changed);
    for absent in [version(&made) - 1, version(&later)] {
        assert_eq!(server.get(&at(absent)).await.refused().1, "NotFound");
    }
    assert_eq!(server.get(&uri).await.refused().1, "NotFound");
    // As lists.
    assert_eq!(server.get(&at(0)).await.refused().0, 422);
    let without = format!("{uri}?resourceVersionMatch=Exact");
    assert_eq!(server.get(&without).await.refused().0, 422);
    assert_eq!(
        server.get(&at(version(&later) + 999)).await.refused().0,
        504
    );
    // As in Kubernetes, which does not look at it.
    let not_older = format!("{MAPS}/b?resourceVersionMatch=NotOlderThan");
    assert_eq!(server.get(&not_older).await.ok(), other);

    server.store.compact(version(&changed)).await.unwrap();
    let old = server.get(&at(version(&made))).await;
    assert_eq!((old.refused().0, old.refused().1), (410, "Expired"));
    assert_eq!(server.get(&at(version(&changed))).await.ok(), changed);
}

/// By the store's clock, which the test moves.
#[tokio::test(start_paused = true)]
async fn the_past_is_shown_as_of_a_time() {
    use kv::Store;
    let server = Server::start().await;
    server.api.ready().await;
    let uri = format!("{MAPS}/a");
    let at = |uri: &str, second: u32| {
        format!("{uri}?resourceVersion=1970-01-01T00:00:{second:02}Z&resourceVersionMatch=Exact")
    };
    server.store.expire(10_000);
    let made = server.post(MAPS, config_map("a", "1")).await.ok();
    server.post(MAPS, config_map("b", "1")).await.ok();
    server.store.expire(20_000);
    let mut next = made.clone();
    next["data"]["key"] = "2".into();
    let changed = server.put(&uri, next).await.ok();
    server.store.expire(30_000);
    server.delete(&uri, Value::Null).await.ok();

    for (second, wanted) in [(10, &made), (19, &made), (20, &changed), (29, &changed)] {
        assert_eq!(&server.get(&at(&uri, second)).await.ok(), wanted);
    }
    for absent in [9, 30, 59] {
        assert_eq!(server.get(&at(&uri, absent)).await.refused().0, 404);
    }
    // A list, page by page: the token has the version.
    let first = format!("{}&limit=1", at(MAPS, 15));
    let first = server.get(&first).await.ok();
    assert_eq!(first["items"][0]["metadata"], made["metadata"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = server.get(&format!("{MAPS}?continue={token}")).await.ok();
    assert_eq!(names(&rest), ["b"]);
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let chosen = format!("{}&fieldSelector=metadata.name%3Da", at(MAPS, 25));
    let chosen = server.get(&chosen).await.ok();
    assert_eq!(names(&chosen), ["a"]);
    assert_eq!(chosen["items"][0]["metadata"], changed["metadata"]);
    // A time is no version anywhere else, and what is yet to come was never.
    let at_least = format!("{MAPS}?resourceVersion=1970-01-01T00:00:15Z");
    assert_eq!(server.get(&at_least).await.refused().0, 400);
    let later = format!("{MAPS}?resourceVersion=9999-01-01T00:00:00Z&resourceVersionMatch=Exact");
    assert_eq!(server.get(&later).await.refused().0, 400);
    let refused = server.delete(&at(MAPS, 25), Value::Null).await;
    let (code, _, text) = refused.refused();
    assert!(
        code == 400 && text.contains("a time is for reads"),
        "{text}"
    );
    assert_eq!(names(&server.get(MAPS).await.ok()), ["b"]);

    let version = changed["metadata"]["resourceVersion"].as_str().unwrap();
    server
        .store
        .compact(version.parse().unwrap())
        .await
        .unwrap();
    for uri in [uri.as_str(), MAPS] {
        assert_eq!(server.get(&at(uri, 10)).await.refused().0, 410);
    }
    assert_eq!(server.get(&at(&uri, 29)).await.ok(), changed);
}

/// In the time of the test's clock.
#[tokio::test(start_paused = true)]
async fn the_past_is_kept_as_long_as_it_was_told_to_be() {
    const MINUTE: Duration = Duration::from_secs(60);
    for (kept, there, gone) in [(5, 5, 11), (60, 60, 121)] {
        let store = MemStore::new();
        let tell = |config: &mut apiserver::Config| config.history = kept * MINUTE;
        let server = Server::told(store.clone(), store, "CA".to_owned(), tell);
        server.api.ready().await;
        let made = server.post(MAPS, config_map("a", "1")).await.ok();
        let mut next = made.clone();
        next["data"]["key"] = "2".into();
        server.put(&format!("{MAPS}/a"), next).await.ok();
        let version = made["metadata"]["resourceVersion"].as_str().unwrap();
        let then = format!("{MAPS}/a?resourceVersion={version}&resourceVersionMatch=Exact");
        let began = tokio::time::Instant::now();
        for (minute, code) in [(there, 200), (gone, 410)] {
            tokio::time::sleep_until(began + minute * MINUTE).await;
            assert_eq!(
                server.get(&then).await.code,
                code,
                "minute {minute} of {kept}"
            );
        }
    }
}

#[tokio::test]
async fn future_versions_time_out() {
    let server = Server::start().await;
    let uris = [
        "?resourceVersion=999999",
        "/x?resourceVersion=999999",
        "?watch=1&resourceVersion=999999",
    ];
    let answers = uris.map(|rest| {
        let server = &server;
        async move { server.get(&format!("{MAPS}{rest}")).await }
    });
    for answer in futures::future::join_all(answers).await {
        assert_eq!((answer.refused().0, answer.refused().1), (504, "Timeout"));
        assert_eq!(
            answer.body["details"]["causes"][0]["reason"],
            "ResourceVersionTooLarge"
        );
    }
}

#[tokio::test]
async fn tables_and_metadata_are_other_forms() {
    let server = Server::start().await;
    fill(&server, 2).await;
    let with = |accept: &'static str, uri: String| {
        let request = server
            .request(Method::GET, &uri)
            .header("accept", accept)
            .body(Default::default())
            .unwrap();
        server.read(request)
    };
    let table = with(
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        MAPS.to_owned(),
    )
    .await
    .ok();
    assert_eq!(
        (table["kind"].as_str(), table["apiVersion"].as_str()),
        (Some("Table"), Some("meta.k8s.io/v1"))
    );
    let columns: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["Name", "Data", "Age"]);
    assert_eq!(table["rows"][0]["cells"][0], "m00");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let full = with(
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        format!("{MAPS}/m01?includeObject=Object"),
    )
    .await
    .ok();
    assert_eq!(full["rows"][0]["object"]["data"]["key"], "1");
    let partial = with(
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        MAPS.to_owned(),
    )
    .await
    .ok();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert!(partial["items"][0].get("data").is_none());
    // The number has to be right, too.
    for (accept, uri, text) in [
        (
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            MAPS.to_owned(),
            "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
        ),
        (
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            format!("{MAPS}/m01"),
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)",
        ),
    ] {
        let refused = with(accept, uri).await;
        assert_eq!(refused.code, 406);
        assert_eq!(refused.body["reason"], "NotAcceptable");
        assert_eq!(refused.body["message"], text);
    }
    assert_eq!(with("application/cbor", MAPS.to_owned()).await.code, 406);
    let yaml = with("application/yaml", format!("{MAPS}/m01")).await;
    assert!(yaml.text.contains("kind: ConfigMap"));
}

#[tokio::test]
async fn large_lists_come_in_frames_and_gzip() {
    use std::io::Read;
    let server = Server::start().await;
    let value = "x".repeat(40_000);
    for index in 0..8 {
        server
            .post(MAPS, config_map(&format!("big{index}"), &value))
            .await
            .ok();
    }
    let list = server.get(MAPS).await.ok();
    assert_eq!(names(&list).len(), 8);
    let request = server
        .request(Method::GET, MAPS)
        .header("accept-encoding", "gzip")
        .body(Default::default())
        .unwrap();
    let response = server.send(request).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let bytes = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), list);
}
