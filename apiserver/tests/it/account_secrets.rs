//! Secrets with tokens of service accounts: the token comes with the write, and is good while its Secret and its account live.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::definitions::until;
use crate::server::{Answer, Server};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const SECRET: &str = "/api/v1/namespaces/default/secrets/robot";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";

fn secret(metadata: Value) -> Value {
    let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata,
        "type": "kubernetes.io/service-account-token"});
    secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
    secret
}

fn token(secret: &Value) -> String {
    let text = secret["data"]["token"].as_str().expect("a token");
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

async fn ask(server: &Server, token: &str) -> Answer {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body("{}".into());
    server.read(request.unwrap()).await
}

async fn is_refused(server: &Server, token: &str) {
    // A read of now brings the caches up to it.
    server.get(SECRETS).await.ok();
    assert_eq!(ask(server, token).await.code.as_u16(), 401);
}

#[tokio::test]
async fn a_secret_has_its_token_with_its_creation() {
    let server = Server::start().await;
    server.account("default").await;
    let made = server.post(SECRETS, secret(json!({"name": "robot"}))).await;
    let made = made.ok();
    let account = server.get(&format!("{ACCOUNTS}/default")).await.ok();
    let notes = &made["metadata"]["annotations"];
    assert_eq!(
        notes["kubernetes.io/service-account.uid"],
        account["metadata"]["uid"]
    );
    assert_eq!(made["data"]["namespace"], STANDARD.encode("default"));
    let user = ask(&server, &token(&made)).await.ok()["status"]["userInfo"].clone();
    assert_eq!(user["username"], "system:serviceaccount:default:default");
    assert_eq!(user["uid"], account["metadata"]["uid"]);
    let groups = [
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    ];
    assert_eq!(user["groups"], json!(groups));
    until(&server, SECRET, |answer| {
        answer.body["metadata"]["labels"][LAST_USED].is_string()
    })
    .await;
    // A name that the server chooses is in the token too.
    let named = secret(json!({"generateName": "robot-"}));
    let named = server.post(SECRETS, named).await.ok();
    ask(&server, &token(&named)).await.ok();
}

#[tokio::test]
async fn no_token_is_made_for_nobody() {
    let server = Server::start().await;
    let made = server.post(SECRETS, secret(json!({"name": "robot"}))).await;
    assert!(made.ok()["data"]["token"].is_null());
    // With the next write after the account is there, it comes.
    server.account("default").await;
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let patched = server.patch(SECRET, "merge-patch+json", labels).await.ok();
    ask(&server, &token(&patched)).await.ok();
    let dry = format!("{SECRETS}?dryRun=All");
    let dry = server.post(&dry, secret(json!({"name": "other"}))).await;
    assert!(dry.ok()["data"]["token"].is_null());
}

#[tokio::test]
async fn a_token_dies_with_what_it_comes_from() {
    let server = Server::start().await;
    server.account("default").await;
    let made = server.post(SECRETS, secret(json!({"name": "robot"}))).await;
    let first = token(&made.ok());
    // Taken out of its Secret it comes again, and says the same.
    let without = json!({"data": {"token": null}});
    let patched = server.patch(SECRET, "merge-patch+json", without).await;
    let second = token(&patched.ok());
    ask(&server, &second).await.ok();
    // Another text in its place is not good, and neither is what stood there.
    let other = json!({"data": {"token": "bm90aGluZw=="}});
    let patched = server.patch(SECRET, "merge-patch+json", other).await;
    patched.ok();
    is_refused(&server, &first).await;
    server.delete(SECRET, json!({})).await.ok();
    is_refused(&server, &second).await;
    let made = server.post(SECRETS, secret(json!({"name": "robot"}))).await;
    let third = token(&made.ok());
    ask(&server, &third).await.ok();
    // Nor does another account of the same name own it.
    let account = format!("{ACCOUNTS}/default");
    server.delete(&account, json!({})).await.ok();
    is_refused(&server, &third).await;
    server.account("default").await;
    is_refused(&server, &third).await;
}

#[tokio::test]
async fn a_review_says_why_a_token_is_not_good() {
    let server = Server::start().await;
    server.account("default").await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": ["vault", "shop"]}});
    let uri = format!("{ACCOUNTS}/default/token");
    let issued = server.post(&uri, request).await.ok();
    let issued = issued["status"]["token"].as_str().unwrap();
    let error = async |token: &str, audiences: Value| {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences}});
        let uri = "/apis/authentication.k8s.io/v1/tokenreviews";
        server.post(uri, review).await.ok()["status"]["error"].clone()
    };
    assert!(error(issued, json!(["shop"])).await.is_null());
    assert_eq!(
        error(issued, json!(["other"])).await,
        r#"[invalid bearer token, token audiences ["vault" "shop"] is invalid for the target audiences ["other"]]"#
    );
    let unknown = "[invalid bearer token, unknown]";
    assert_eq!(error("nobody's", json!([])).await, unknown);
    let account = format!("{ACCOUNTS}/default");
    server.delete(&account, json!({})).await.ok();
    // A read of now brings the caches up to it.
    server.get(ACCOUNTS).await.ok();
    assert_eq!(
        error(issued, json!(["shop"])).await,
        "[invalid bearer token, service account token has been invalidated]"
    );
}
