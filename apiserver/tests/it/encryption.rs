//! What the store gets to see of Secrets, and what becomes of them when keys come and go.

use std::sync::Arc;
use std::time::Duration;

use apiserver::Encryption;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;
use kv::mem::MemStore;
use kv::{RangeRequest, Store};
use serde_json::{Value, json};

use crate::server::{MAPS, Server, config_map};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const CANARY: &str = "a canary in a coal mine";

/// A configuration with these keys for Secrets, the first one to write.
fn keys(names: &[&str]) -> Encryption {
    let secret = |name: &&str| STANDARD.encode([name.as_bytes()[0]; 32]);
    let keys: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "secret": secret(name)}))
        .collect();
    let config = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [
        {"resources": ["secrets"], "providers": [{"aesgcm": {"keys": keys}}, {"identity": {}}]}]});
    Encryption::parse(&config.to_string()).unwrap()
}

async fn start(store: &Arc<MemStore>, encryption: Encryption) -> Server {
    let server = Server::told(store.clone(), store.clone(), "CA".into(), |config| {
        config.encryption = encryption;
    });
    let ready = tokio::time::timeout(Duration::from_secs(30), server.api.ready());
    ready.await.expect("the server gets ready");
    server
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": CANARY}})
}

/// What the store has under the key of a Secret.
async fn stored(store: &MemStore, name: &str) -> Bytes {
    let request = RangeRequest {
        key: Bytes::from(format!("/registry/secrets/default/{name}")),
        ..RangeRequest::default()
    };
    let answer = store.range(request).await.unwrap().body;
    answer.kvs.first().expect("it is stored").value.clone()
}

fn has(stored: &[u8], text: &str) -> bool {
    stored
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

fn value(secret: &Value) -> String {
    let text = secret["data"]["key"].as_str().unwrap();
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

#[tokio::test]
async fn a_secret_is_in_clear_for_clients_and_nowhere_in_the_store() {
    let store = MemStore::new();
    let server = start(&store, keys(&["one"])).await;
    let mut events = server.watch(&format!("{SECRETS}?watch=true")).await;
    let made = server.post(SECRETS, secret("a")).await.ok();
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let raw = stored(&store, "a").await;
    assert!(raw.starts_with(b"k8s:enc:aesgcm:v1:one:"));
    for text in [CANARY, &STANDARD.encode(CANARY), "Secret"] {
        assert!(!has(&raw, text), "{text}");
    }
    // Watched, read, listed, changed on what was read, and as it was.
    assert_eq!(value(&events.next().await.unwrap()["object"]), CANARY);
    let uri = format!("{SECRETS}/a");
    assert_eq!(value(&server.get(&uri).await.ok()), CANARY);
    assert_eq!(value(&server.get(SECRETS).await.ok()["items"][0]), CANARY);
    let change =
        json!({"metadata": {"resourceVersion": version}, "data": {"key": STANDARD.encode("b")}});
    server
        .patch(&uri, "merge-patch+json", change.clone())
        .await
        .ok();
    let again = server.patch(&uri, "merge-patch+json", change).await;
    assert_eq!(again.code, StatusCode::CONFLICT);
    let past = format!("resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(
        value(&server.get(&format!("{uri}?{past}")).await.ok()),
        CANARY
    );
    let list = server.get(&format!("{SECRETS}?{past}")).await.ok();
    assert_eq!(value(&list["items"][0]), CANARY);
    assert_eq!(value(&server.get(&uri).await.ok()), "b");
    // Others are as they were.
    server.post(MAPS, config_map("plain", "v")).await.ok();
    // Another member reads what this one has written.
    let other = start(&store, keys(&["one"])).await;
    assert_eq!(value(&other.get(&uri).await.ok()), "b");
    server.delete(&uri, Value::Null).await.ok();
    assert_eq!(other.get(&uri).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_was_in_clear_is_read_and_encrypted_when_it_is_written_again() {
    let store = MemStore::new();
    let server = start(&store, Encryption::default()).await;
    server.post(SECRETS, secret("a")).await.ok();
    assert!(has(&stored(&store, "a").await, &STANDARD.encode(CANARY)));
    server.api.encrypt_by(keys(&["one"]));
    let uri = format!("{SECRETS}/a");
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    for (names, prefix) in [
        (&["one"][..], "k8s:enc:aesgcm:v1:one:"),
        (&["two", "one"][..], "k8s:enc:aesgcm:v1:two:"),
    ] {
        server.api.encrypt_by(keys(names));
        let before = server.get(&uri).await.ok();
        let after = server.put(&uri, before.clone()).await.ok();
        assert_ne!(version(&before), version(&after), "it is written");
        assert!(stored(&store, "a").await.starts_with(prefix.as_bytes()));
        let again = server.put(&uri, after.clone()).await.ok();
        assert_eq!(version(&after), version(&again), "once is enough");
        assert_eq!(value(&again), CANARY);
    }
}

/// A file of a kube-apiserver with these providers, each with a key of its own named `k`, the first one to write.
fn providers(names: &[&str]) -> Encryption {
    let keys = |name: &&str| {
        let secret = STANDARD.encode([name.len() as u8; 32]);
        json!({(*name): {"keys": [{"name": "k", "secret": secret}]}})
    };
    let providers: Vec<Value> = names.iter().map(keys).collect();
    let config = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": providers}]});
    Encryption::parse(&config.to_string()).unwrap()
}

#[tokio::test]
async fn a_secret_goes_from_one_provider_to_another() {
    let store = MemStore::new();
    let server = start(&store, providers(&["aescbc"])).await;
    server.post(SECRETS, secret("a")).await.ok();
    let uri = format!("{SECRETS}/a");
    for (names, prefix) in [
        (&["aescbc"][..], "k8s:enc:aescbc:v1:k:"),
        (&["secretbox", "aescbc"][..], "k8s:enc:secretbox:v1:k:"),
        (&["aesgcm", "secretbox"][..], "k8s:enc:aesgcm:v1:k:"),
        (&["aescbc", "aesgcm"][..], "k8s:enc:aescbc:v1:k:"),
    ] {
        // A member that starts with them reads what is there, and one that runs writes it again.
        let other = start(&store, providers(names)).await;
        assert_eq!(value(&other.get(&uri).await.ok()), CANARY, "{names:?}");
        server.api.encrypt_by(providers(names));
        let object = server.get(&uri).await.ok();
        server.put(&uri, object).await.ok();
        let raw = stored(&store, "a").await;
        assert!(raw.starts_with(prefix.as_bytes()), "{names:?}");
        assert!(!has(&raw, &STANDARD.encode(CANARY)), "{names:?}");
    }
    let lost = start(&store, providers(&["secretbox"])).await;
    let text = "Internal error occurred: no matching prefix found";
    let get = lost.get(&uri).await;
    assert_eq!(get.refused(), (500, "InternalError", text));
}

#[tokio::test]
async fn without_the_key_secrets_answer_500_and_the_rest_goes_on() {
    let store = MemStore::new();
    let server = start(&store, keys(&["one"])).await;
    server.post(SECRETS, secret("a")).await.ok();
    let lost = start(&store, keys(&["two"])).await;
    let no_key = "no matching key was found for the provided AES transformer";
    let uri = format!("{SECRETS}/a");
    let text = format!("Internal error occurred: {no_key}");
    let in_list = format!(
        "Internal error occurred: unable to transform key \"/registry/secrets/default/a\": {no_key}"
    );
    let get = lost.get(&uri).await;
    assert_eq!(get.refused(), (500, "InternalError", &*text));
    let list = lost.get(SECRETS).await;
    assert_eq!(list.refused(), (500, "InternalError", &*in_list));
    let watch = lost.get(&format!("{SECRETS}?watch=true")).await;
    assert_eq!(watch.refused(), (500, "InternalError", &*in_list));
    let patch = lost
        .patch(&uri, "merge-patch+json", json!({"data": {}}))
        .await;
    assert_eq!(patch.refused(), (500, "InternalError", &*text));
    let past = "resourceVersion=1&resourceVersionMatch=Exact";
    lost.get(&format!("{SECRETS}?{past}")).await.ok();
    // Another namespace's, another resource's, and a new one.
    lost.get("/api/v1/namespaces/kube-system/secrets")
        .await
        .ok();
    lost.post(MAPS, config_map("plain", "v")).await.ok();
    let made = lost.post(SECRETS, secret("b")).await.ok();
    assert_eq!(value(&made), CANARY);
    let exists = lost.post(SECRETS, secret("a")).await;
    assert_eq!(exists.code, StatusCode::CONFLICT);
    // On the first member a watch is cut, for it cannot be told what came.
    let missing = server.get(&format!("{SECRETS}/b")).await;
    assert_eq!(missing.code, StatusCode::INTERNAL_SERVER_ERROR);
    // The keys come back, and with them the objects.
    lost.api.encrypt_by(keys(&["two", "one"]));
    let back = async {
        while lost.get(SECRETS).await.code != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let back = tokio::time::timeout(Duration::from_secs(20), back);
    back.await.expect("what can be read is read");
    assert_eq!(value(&lost.get(&uri).await.ok()), CANARY);
    lost.delete(&uri, Value::Null).await.ok();
}

#[tokio::test]
async fn a_watch_ends_at_what_cannot_be_read_and_a_deletion_mends_it() {
    let store = MemStore::new();
    let server = start(&store, keys(&["one"])).await;
    let other = start(&store, keys(&["two"])).await;
    let mut events = other.watch(&format!("{SECRETS}?watch=true")).await;
    server.post(SECRETS, secret("a")).await.ok();
    let event = events.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    assert!(events.next().await.is_none());
    assert_eq!(
        other.get(SECRETS).await.code,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    server
        .delete(&format!("{SECRETS}/a"), Value::Null)
        .await
        .ok();
    other.get(SECRETS).await.ok();
}

#[tokio::test]
async fn no_value_can_be_put_in_the_place_of_another() {
    let store = MemStore::new();
    let server = start(&store, keys(&["one"])).await;
    server.post(SECRETS, secret("a")).await.ok();
    let value = stored(&store, "a").await;
    let put = kv::PutRequest {
        key: Bytes::from_static(b"/registry/secrets/default/b"),
        value,
        ..kv::PutRequest::default()
    };
    let op = kv::RequestOp {
        request: Some(kv::Request::Put(put)),
    };
    let txn = kv::TxnRequest {
        success: vec![op],
        ..kv::TxnRequest::default()
    };
    store.txn(txn).await.unwrap();
    let moved = server.get(&format!("{SECRETS}/b")).await;
    let text = "Internal error occurred: cipher: message authentication failed";
    assert_eq!(moved.refused(), (500, "InternalError", text));
    server.get(&format!("{SECRETS}/a")).await.ok();
}
