//! Who is asking: issuers of tokens, a token webhook, front proxies, static tokens, nobody.

use std::time::{Duration, Instant};

use apiserver::{PeerCertificate, RequestHeaderConfig};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Request};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use kv::mem::MemStore;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use serde_json::{Value, json};

use crate::definitions::until;
use crate::outside::Outside;
use crate::server::{Answer, Server};

const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// Whom the server takes the owner of a token for.
async fn ask(server: &Server, token: &str) -> Answer {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = Request::builder()
        .method(Method::POST)
        .uri(SELF)
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(review.to_string().into());
    server.read(request.unwrap()).await
}

async fn user(server: &Server, token: &str) -> Value {
    ask(server, token).await.ok()["status"]["userInfo"].clone()
}

async fn is_refused(server: &Server, token: &str) {
    let refused = ask(server, token).await;
    assert_eq!(refused.refused(), (401, "Unauthorized", "Unauthorized"));
}

/// What a TokenReview says.
async fn review(server: &Server, token: &str, audiences: Value) -> Value {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": audiences}});
    server.post(REVIEWS, review).await.ok()["status"].clone()
}

/// A key that signs tokens.
struct Key {
    pem: String,
    id: String,
}

impl Key {
    fn new(id: &str) -> Key {
        Key {
            pem: KeyPair::generate().unwrap().serialize_pem(),
            id: id.to_owned(),
        }
    }

    fn private(&self) -> EncodingKey {
        EncodingKey::from_ec_pem(self.pem.as_bytes()).unwrap()
    }

    fn public(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.private(), Algorithm::ES256).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = self.id.as_str().into();
        jwk
    }

    fn sign(&self, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({"alg": "ES256", "kid": self.id});
        let message = format!("{}.{}", encode(&header), encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.private(), Algorithm::ES256);
        format!("{message}.{}", signature.unwrap())
    }
}

/// An issuer that a server knows.
struct Issuer {
    outside: Outside,
    key: Key,
}

const DISCOVERY: &str = "/.well-known/openid-configuration";

impl Issuer {
    async fn start() -> Issuer {
        let issuer = Issuer {
            outside: Outside::start().await,
            key: Key::new("first"),
        };
        issuer.publish(&[&issuer.key]);
        issuer
    }

    fn publish(&self, keys: &[&Key]) {
        let url = &self.outside.url;
        let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
        let document = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
        self.outside.answer(DISCOVERY, &document);
        self.outside.answer("/keys", &json!({ "keys": keys }));
    }

    /// An AuthenticationConfiguration with this issuer; JSON is YAML.
    fn config(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut jwt = json!({
            "issuer": {"url": self.outside.url, "certificateAuthority": self.outside.ca, "audiences": ["kontiki"]},
            "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}},
        });
        change(&mut jwt);
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [jwt]})
            .to_string()
    }

    fn claims(&self) -> Value {
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        json!({"iss": self.outside.url, "aud": "kontiki", "sub": "jane", "iat": now, "exp": now + 600,
            "groups": ["dev", "ops"], "email": "jane@example.com", "team": {"name": "blue"}})
    }

    /// A token with some claims changed.
    fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.key.sign(&claims)
    }
}

#[tokio::test]
async fn tokens_of_an_issuer_name_users() {
    let (server, issuer) = (Server::start().await, Issuer::start().await);
    let good = issuer.token(|_| {});
    is_refused(&server, &good).await;
    let config = issuer.config(|jwt| {
        jwt["claimMappings"] = json!({
            "username": {"claim": "sub", "prefix": "oidc:"}, "groups": {"claim": "groups", "prefix": "g:"},
            "uid": {"expression": "claims.sub + '-uid'"},
            "extra": [{"key": "example.com/team", "valueExpression": "claims.team.name"},
                {"key": "example.com/none", "valueExpression": "''"}]});
        jwt["claimValidationRules"] = json!([
            {"expression": "claims.exp - claims.iat <= 3600", "message": "too long a life"},
            {"claim": "email", "requiredValue": "jane@example.com"}]);
        jwt["userValidationRules"] = json!([{"expression": "!user.username.startsWith('oidc:system:')"}]);
    });
    server.api.take_authentication_config(&config).unwrap();
    let expected = json!({"username": "oidc:jane", "uid": "jane-uid",
        "groups": ["g:dev", "g:ops", "system:authenticated"], "extra": {"example.com/team": ["blue"]}});
    assert_eq!(user(&server, &good).await, expected);
    let reviewed = review(&server, &good, Value::Null).await;
    assert_eq!(
        (&reviewed["authenticated"], &reviewed["user"]),
        (&json!(true), &expected)
    );
    let elsewhere = review(&server, &good, json!(["kontiki"])).await;
    assert_eq!(elsewhere["authenticated"], Value::Null);

    let several = issuer.token(|claims| claims["aud"] = json!(["other", "kontiki"]));
    assert_eq!(user(&server, &several).await["username"], "oidc:jane");
    let now = issuer.claims()["iat"].as_i64().unwrap();
    let bad: [(&str, Value); 9] = [
        ("exp", json!(now - 1)),
        ("exp", json!("soon")),
        ("nbf", json!(now + 3600)),
        ("aud", json!("other")),
        ("aud", json!(null)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!("system:admin")),
        ("email", json!("joe@example.com")),
    ];
    for (claim, value) in bad {
        let token = issuer.token(|claims| claims[claim] = value.clone());
        is_refused(&server, &token).await;
    }
    let stranger = Key::new("first").sign(&issuer.claims());
    is_refused(&server, &stranger).await;
    assert_eq!(user(&server, "jane-token").await["username"], "jane");

    // A broken file changes nothing.
    for broken in [
        "[",
        "kind: x",
        &config.replace("claims.sub + '-uid'", "claims.sub +"),
    ] {
        assert!(server.api.take_authentication_config(broken).is_err());
        assert_eq!(user(&server, &good).await, expected);
    }
    let by_name = issuer.config(|jwt| {
        jwt["claimMappings"]["username"] =
            json!({"expression": "claims.team.name + '/' + claims.sub"});
    });
    server.api.take_authentication_config(&by_name).unwrap();
    assert_eq!(user(&server, &good).await["username"], "blue/jane");
}

#[tokio::test]
async fn tokens_that_try_something_are_refused_and_cost_nothing() {
    let (server, issuer) = (Server::start().await, Issuer::start().await);
    server
        .api
        .take_authentication_config(&issuer.config(|_| {}))
        .unwrap();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = encode(&issuer.claims());
    let unsigned = format!("{}.{claims}.", encode(&json!({"alg": "none"})));
    let shared = format!(
        "{}.{claims}.c2lnbmF0dXJl",
        encode(&json!({"alg": "HS256", "kid": "first"}))
    );
    let elsewhere = format!(
        "{}.{claims}.c2lnbmF0dXJl",
        encode(
            &json!({"alg": "ES256", "kid": "../../../../etc/passwd", "jku": format!("{}/mine", issuer.outside.url)})
        )
    );
    let huge = format!("{}.{}.x", "a".repeat(500_000), "b".repeat(500_000));
    let started = Instant::now();
    for token in [&unsigned, &shared, &elsewhere, &huge, "a.b.c", ".."] {
        is_refused(&server, token).await;
        let reviewed = review(&server, token, Value::Null).await;
        assert_eq!(reviewed["authenticated"], Value::Null);
    }
    // Many keys that nobody knows are one fetch.
    for number in 0..50 {
        let token = Key::new(&format!("unknown-{number}")).sign(&issuer.claims());
        is_refused(&server, &token).await;
    }
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(issuer.outside.asked("/keys").len(), 1);
    assert!(issuer.outside.asked("/mine").is_empty());
    assert_eq!(
        user(&server, &issuer.token(|_| {})).await["username"],
        "oidc:jane"
    );
}

#[tokio::test]
async fn an_issuer_that_is_slow_or_away_holds_up_nobody_else() {
    let (server, slow, away) = (
        Server::start().await,
        Issuer::start().await,
        Issuer::start().await,
    );
    slow.outside.hang("/keys");
    away.outside.fail(DISCOVERY, 500);
    let mut config: Value = serde_json::from_str(&slow.config(|_| {})).unwrap();
    let other: Value = serde_json::from_str(&away.config(|_| {})).unwrap();
    config["jwt"]
        .as_array_mut()
        .unwrap()
        .push(other["jwt"][0].clone());
    server
        .api
        .take_authentication_config(&config.to_string())
        .unwrap();
    let token = slow.token(|_| {});
    let waiting = ask(&server, &token);
    tokio::pin!(waiting);
    let others = async {
        assert_eq!(user(&server, "jane-token").await["username"], "jane");
        is_refused(&server, &away.token(|_| {})).await;
        is_refused(&server, "unknown").await;
    };
    tokio::select! {
        _ = &mut waiting => panic!("the issuer has not answered yet"),
        () = others => {}
    }
    let answer = tokio::time::timeout(Duration::from_secs(15), waiting).await;
    assert_eq!(answer.expect("a deadline").refused().0, 401);
    // It comes back.
    away.publish(&[&away.key]);
    let comes_back = async {
        while !ask(&server, &away.token(|_| {})).await.code.is_success() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), comes_back)
        .await
        .expect("its keys are fetched again");
}

#[tokio::test]
async fn a_webhook_knows_tokens_that_nobody_else_knows() {
    let (server, outside) = (Server::start().await, Outside::start().await);
    let answer = |status: Value| json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status});
    let file = outside.kubeconfig("/tokens");
    let time = Duration::from_secs(600);
    server.api.ask_about_tokens(&file, "v1", time).unwrap();
    outside.answer(
        "/tokens",
        &answer(
            json!({"authenticated": true, "user": {"username": "hook-jane", "uid": "7",
        "groups": ["dev"], "extra": {"a": ["b"]}}}),
        ),
    );
    for _ in 0..3 {
        let expected = json!({"username": "hook-jane", "uid": "7", "groups": ["dev", "system:authenticated"],
            "extra": {"a": ["b"]}});
        assert_eq!(user(&server, "opaque").await, expected);
    }
    assert_eq!(outside.shown("/tokens"), ["Bearer of-the-server"]);
    let asked = outside.asked("/tokens");
    assert_eq!(asked.len(), 1, "the answer is kept");
    let issuer = "https://kubernetes.default.svc.cluster.local";
    assert_eq!(
        asked[0]["spec"],
        json!({"token": "opaque", "audiences": [issuer]})
    );
    assert_eq!(asked[0]["apiVersion"], "authentication.k8s.io/v1");
    let reviewed = review(&server, "opaque", json!(["elsewhere"])).await;
    assert_eq!(reviewed["authenticated"], Value::Null);
    assert_eq!(user(&server, "jane-token").await["username"], "jane");
    let asked = outside.asked("/tokens");
    assert_eq!(asked.len(), 1, "who is known is not asked about: {asked:?}");

    outside.answer("/tokens", &answer(json!({"authenticated": false})));
    is_refused(&server, "nobodys").await;
    outside.fail("/tokens", 400);
    is_refused(&server, "other").await;
    outside.answer("/tokens", &json!(["no review"]));
    is_refused(&server, "another").await;
    assert_eq!(user(&server, "opaque").await["username"], "hook-jane");
    assert!(server.api.ask_about_tokens(&file, "v2", time).is_err());
    let missing = file.with_extension("missing");
    assert!(server.api.ask_about_tokens(&missing, "v1", time).is_err());
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn client(authority: &Authority, name: &str) -> PeerCertificate {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    PeerCertificate::new([certificate.der().clone()])
}

#[tokio::test]
async fn front_proxies_name_users_and_nobody_else_does() {
    let (clients, proxies) = (authority(), authority());
    let store = MemStore::new();
    let server = Server::told(store.clone(), store, clients.pem(), |config| {
        let names = vec!["front".to_owned()];
        config.request_header = Some(RequestHeaderConfig::new(proxies.pem(), names));
    });
    server.api.ready().await;
    let say = async |peer: Option<PeerCertificate>, named: bool, token: Option<&str>| {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(SELF)
            .header("content-type", "application/json");
        if named {
            request = request
                .header("x-remote-user", "jane")
                .header("x-remote-uid", "7")
                .header("x-remote-group", "dev")
                .header("x-remote-group", "system:masters")
                .header("x-remote-extra-scope", "a");
        }
        if let Some(peer) = peer {
            request = request.extension(peer);
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = review.to_string().into();
        server.read(request.body(body).unwrap()).await
    };
    let info = |answer: Answer| answer.ok()["status"]["userInfo"].clone();
    let proxy = || Some(client(&proxies, "front"));
    let expected = json!({"username": "jane", "uid": "7", "groups": ["dev", "system:masters", "system:authenticated"],
        "extra": {"scope": ["a"]}});
    assert_eq!(info(say(proxy(), true, None).await), expected);
    // What the proxy says outweighs a token that it passes on.
    assert_eq!(info(say(proxy(), true, Some("jane-token")).await), expected);
    // A proxy that names nobody is nobody, and a client of it may still have a token.
    assert_eq!(say(proxy(), false, None).await.refused().0, 401);
    let by_token = info(say(proxy(), false, Some("jane-token")).await);
    assert_eq!(by_token["groups"], json!(["dev", "system:authenticated"]));
    // Others say it in vain.
    let other_name = Some(client(&proxies, "other"));
    assert_eq!(say(other_name, true, None).await.refused().0, 401);
    let own = info(say(Some(client(&clients, "ann")), true, None).await);
    let expected_of_ann = (&json!("ann"), &json!(["system:authenticated"]));
    assert_eq!((&own["username"], &own["groups"]), expected_of_ann);
    let forged = Some(client(&authority(), "front"));
    assert_eq!(say(forged, true, None).await.refused().0, 401);
    let nobody = say(None, true, None).await;
    assert!(
        nobody.refused().2.contains("system:anonymous"),
        "{nobody:?}"
    );

    // Another authority, taken while the server runs.
    let next = authority();
    let config = RequestHeaderConfig::new(next.pem(), Vec::new());
    server.api.trust_front_proxies(&config).unwrap();
    assert_eq!(say(proxy(), true, None).await.refused().0, 401);
    let any_name = Some(client(&next, "any"));
    assert_eq!(info(say(any_name, true, None).await), expected);
    let broken = RequestHeaderConfig::new("no certificate".to_owned(), Vec::new());
    assert!(server.api.trust_front_proxies(&broken).is_err());
    let any_name = Some(client(&next, "any"));
    assert_eq!(info(say(any_name, true, None).await), expected);
}

#[tokio::test]
async fn authorities_of_clients_overlap_and_change() {
    let (first, second) = (authority(), authority());
    let server = Server::with(MemStore::new(), first.pem()).await;
    let (old, new) = (client(&first, "ann"), client(&second, "bob"));
    let code = async |peer: &PeerCertificate| {
        let request = Request::builder().uri("/version").extension(peer.clone());
        let answer = server.read(request.body(Default::default()).unwrap()).await;
        answer.code.as_u16()
    };
    assert_eq!((code(&old).await, code(&new).await), (200, 401));
    let both = [first.pem(), second.pem()].concat();
    server.api.trust_clients_of(&both).unwrap();
    assert_eq!((code(&old).await, code(&new).await), (200, 200));
    for broken in [
        "",
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n",
    ] {
        assert!(server.api.trust_clients_of(broken).is_err());
    }
    server.api.trust_clients_of(&second.pem()).unwrap();
    // Also over connections that were made before.
    assert_eq!((code(&old).await, code(&new).await), (401, 200));
    // Other servers are told.
    let uri = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    until(&server, uri, |answer| {
        answer.body["data"]["client-ca-file"] == second.pem()
    })
    .await;
}

#[tokio::test]
async fn the_key_of_account_tokens_changes_and_tokens_of_before_go_on() {
    let server = Server::start().await;
    server.account("default").await;
    let uri = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let issue = async || {
        let request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let issued = server.post(uri, request).await.ok();
        issued["status"]["token"].as_str().unwrap().to_owned()
    };
    let name = "system:serviceaccount:default:default";
    let before = issue().await;
    assert_eq!(user(&server, &before).await["username"], name);
    let keys = || rcgen::KeyPair::generate().unwrap().serialize_pem();
    let next = keys();
    server.api.sign_tokens_with(&next).unwrap();
    assert!(server.api.sign_tokens_with("no key").is_err());
    let after = issue().await;
    let header = |token: &str| token.split('.').next().unwrap().to_owned();
    assert_ne!(header(&before), header(&after));
    for token in [&before, &after] {
        assert_eq!(user(&server, token).await["username"], name);
    }
    let published = server.get("/openid/v1/jwks").await.ok();
    assert_eq!(published["keys"].as_array().unwrap().len(), 2);
    // A key that nobody was told of is none.
    let foreign = Server::start().await;
    foreign.account("default").await;
    foreign.api.sign_tokens_with(&keys()).unwrap();
    is_refused(&foreign, &after).await;
}

#[tokio::test]
async fn static_tokens_are_taken_anew() {
    let server = Server::start().await;
    server
        .api
        .take_token_file("t1,ann,1,\"dev,ops\"\nt2,bob,2\n")
        .unwrap();
    let ann =
        json!({"username": "ann", "uid": "1", "groups": ["dev", "ops", "system:authenticated"]});
    assert_eq!(user(&server, "t1").await, ann);
    is_refused(&server, "jane-token").await;
    assert!(server.api.take_token_file("t1,ann").is_err());
    assert_eq!(user(&server, "t1").await, ann);
    server.api.take_token_file("t2,bob,2\n").unwrap();
    is_refused(&server, "t1").await;
}

#[tokio::test]
async fn nobody_may_ask_for_some_paths_only() {
    let server = Server::start().await;
    let code = async |path: &str| {
        let request = Request::get(path).body(Default::default()).unwrap();
        server.read(request).await.code.as_u16()
    };
    let config = |anonymous: Value| {
        let kind = "AuthenticationConfiguration";
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": kind, "anonymous": anonymous})
            .to_string()
    };
    assert_eq!((code("/healthz").await, code("/version").await), (200, 200));
    let some = config(json!({"enabled": true, "conditions": [{"path": "/livez"}]}));
    server.api.take_authentication_config(&some).unwrap();
    assert_eq!((code("/livez").await, code("/version").await), (200, 401));
    assert_eq!(code("/livez/ping").await, 401);
    let none = config(json!({"enabled": false}));
    server.api.take_authentication_config(&none).unwrap();
    assert_eq!((code("/livez").await, code("/version").await), (401, 401));
    let contradiction = config(json!({"enabled": false, "conditions": [{"path": "/livez"}]}));
    let error = server
        .api
        .take_authentication_config(&contradiction)
        .unwrap_err();
    assert!(error.contains("enabled should be set to true when conditions are defined"));
    let silent = config(json!(null));
    server.api.take_authentication_config(&silent).unwrap();
    assert_eq!(code("/version").await, 200);
}
