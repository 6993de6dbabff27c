//! Retries and failover.

use crate::server::{Answer, hanging_up, listening, scripted, silent, status};
use agent_runtime::resource_ref::{CONFIG_MAPS, NODES, PODS};
use agent_runtime::{Client, ClientConfig, DeleteParams, Identity, ListParams};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

fn client(servers: Vec<String>) -> Client {
    let mut config = ClientConfig::new(servers, "", Identity::Token("secret".into()));
    config.timeout = Duration::from_secs(20);
    Client::connect(config).unwrap()
}

#[tokio::test]
async fn requests_go_on_with_the_next_server_when_one_dies() {
    let (first, task) = listening("first").await;
    let (second, _second) = listening("second").await;
    let client = client(vec![first, second]);
    assert_eq!(client.get(&NODES, "", "n").await.unwrap()["name"], "first");
    task.abort();
    let _ = task.await;
    assert_eq!(client.get(&NODES, "", "n").await.unwrap()["name"], "second");
    // A write never reached the dead server either, so it too goes to the living one.
    assert_eq!(
        client.create(&PODS, "a", &json!({})).await.unwrap()["name"],
        "second"
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_left_for_the_next() {
    let silent = silent().await;
    let (second, _second) = listening("second").await;
    let mut config = ClientConfig::new(vec![silent, second], "", Identity::Anonymous);
    config.timeout = Duration::from_millis(500);
    let client = Client::connect(config).unwrap();
    let error = client.get(&NODES, "", "n").await.unwrap_err();
    assert!(error.is_transport(), "{error:?}");
    // The time limit is short: a busy machine gets a few tries, but the silent server would fail them all.
    let mut answer = client.get(&NODES, "", "n").await;
    for _ in 0..20 {
        if answer.is_ok() {
            break;
        }
        answer = client.get(&NODES, "", "n").await;
    }
    assert_eq!(answer.unwrap()["name"], "second");
}

#[tokio::test]
async fn a_write_that_may_have_arrived_is_not_repeated() {
    let (address, count) = hanging_up().await;
    let error = client(vec![address])
        .create(&PODS, "a", &json!({}))
        .await
        .unwrap_err();
    assert!(error.is_transport(), "{error:?}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_server_may_ask_for_another_try() {
    let (client, log) = scripted(vec![
        Answer::RetryAfter(429),
        Answer::RetryAfter(503),
        Answer::Json(201, json!({"metadata": {"name": "p"}})),
    ]);
    assert_eq!(
        client.create(&PODS, "a", &json!({})).await.unwrap()["metadata"]["name"],
        "p"
    );
    assert_eq!(log.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn refusals_keep_their_reason() {
    let answers = vec![
        Answer::Json(404, status(404, "NotFound")),
        Answer::Json(409, status(409, "AlreadyExists")),
        Answer::Json(409, status(409, "Conflict")),
        Answer::Json(403, json!("text")),
        Answer::Json(410, status(410, "Expired")),
    ];
    let (client, _) = scripted(answers);
    assert!(
        client
            .get(&PODS, "a", "p")
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(
        client
            .create(&PODS, "a", &json!({}))
            .await
            .unwrap_err()
            .is_already_exists()
    );
    assert!(
        client
            .update(&PODS, "a", "p", &json!({}))
            .await
            .unwrap_err()
            .is_conflict()
    );
    assert!(
        client
            .delete(&PODS, "a", "p", &DeleteParams::default())
            .await
            .unwrap_err()
            .is_forbidden()
    );
    assert!(
        client
            .list(&PODS, "a", &ListParams::default())
            .await
            .unwrap_err()
            .is_gone()
    );
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let page = |name: &str, next: &str| {
        Answer::Json(
            200,
            json!({"metadata": {"resourceVersion": "7", "continue": next}, "items": [{"metadata": {"name": name}}]}),
        )
    };
    let (client, log) = scripted(vec![page("one", "t/1"), page("two", "")]);
    let params = ListParams {
        label_selector: "a in (b,c)".into(),
        ..ListParams::default()
    };
    let maps: Vec<agent_runtime::kinds::ConfigMap> =
        client.list_as(&CONFIG_MAPS, "n", &params).await.unwrap();
    assert_eq!(maps.len(), 2);
    let path = "GET /api/v1/namespaces/n/configmaps?labelSelector=a%20in%20%28b%2Cc%29";
    assert_eq!(
        *log.lock().unwrap(),
        [
            format!("{path}&limit=500"),
            format!("{path}&continue=t%2F1&limit=500")
        ]
    );
}
