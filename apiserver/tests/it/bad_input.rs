//! Input that is wrong gets the right 4xx, and the server stays well.

use axum::body::Body;
use http::Method;
use serde_json::json;

use crate::server::{Answer, MAPS, PODS, Server, config_map, pod};

async fn raw(server: &Server, uri: &str, content_type: &str, body: impl Into<Body>) -> Answer {
    let request = server
        .request(Method::POST, uri)
        .header("content-type", content_type)
        .body(body.into())
        .unwrap();
    server.read(request).await
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let server = Server::start().await;
    for uri in [
        "/api/v1/namespaces/default/things",
        "/api/v2/pods",
        "/apis/apps/v9",
        "/apis/apps/v1/pods",
        "/api/v1/pods/x",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces/default/pods/x/nothing",
    ] {
        let answer = server.get(uri).await;
        assert_eq!(
            answer.refused(),
            (
                404,
                "NotFound",
                "the server could not find the requested resource"
            ),
            "{uri}"
        );
    }
    for uri in ["/apis/none/v1/things", "/apis/none", "/nothing", "/apix/v1"] {
        let answer = server.get(uri).await;
        assert_eq!(
            (answer.code.as_u16(), answer.text.as_str()),
            (404, "404 page not found\n"),
            "{uri}"
        );
        assert_eq!(answer.headers["cache-control"], "no-cache, private");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
    for (method, uri) in [
        (Method::PUT, PODS.to_owned()),
        (Method::POST, format!("{PODS}/x")),
        (Method::POST, "/api/v1/pods".to_owned()),
        (Method::DELETE, "/api/v1/namespaces".to_owned()),
    ] {
        let answer = server.call(method, &uri, json!({})).await;
        assert_eq!(
            answer.refused(),
            (
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource"
            ),
            "{uri}"
        );
    }
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_400() {
    let server = Server::start().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "",
        "{",
        "nonsense",
        "[]",
        "null",
        "7",
        "{\"a\":1} trailing",
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\"}",
        "{\"apiVersion\":\"apps/v1\",\"kind\":\"ConfigMap\"}",
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":7}",
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"data\":[]}",
        "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":1e999999}}",
        &deep,
    ] {
        let answer = raw(&server, MAPS, "application/json", body.to_owned()).await;
        assert_eq!(
            (answer.refused().0, answer.refused().1),
            (400, "BadRequest"),
            "{}",
            &body[..body.len().min(80)]
        );
    }
    assert_eq!(
        raw(&server, MAPS, "application/json", vec![0xff, 0xfe, 0x00])
            .await
            .refused()
            .0,
        400
    );
    assert_eq!(
        raw(
            &server,
            MAPS,
            "application/vnd.kubernetes.protobuf",
            vec![1, 2, 3]
        )
        .await
        .refused()
        .0,
        400
    );
    assert_eq!(
        raw(&server, MAPS, "application/cbor", "x")
            .await
            .refused()
            .0,
        415
    );
    assert_eq!(
        raw(&server, MAPS, "application/yaml", "a: &a [*a, *a]")
            .await
            .refused()
            .0,
        400
    );
    server.post(MAPS, config_map("after", "1")).await.ok();
}

#[tokio::test]
async fn large_bodies_are_413() {
    let server = Server::start().await;
    let body = "x".repeat(3 * 1024 * 1024 + 1);
    let answer = raw(&server, MAPS, "application/json", body.clone()).await;
    assert_eq!(
        (answer.refused().0, answer.refused().1),
        (413, "RequestEntityTooLarge")
    );
    let chunks = futures::stream::iter(
        body.into_bytes()
            .chunks(65_536)
            .map(|c| Ok::<_, std::io::Error>(c.to_vec()))
            .collect::<Vec<_>>(),
    );
    assert_eq!(
        raw(&server, MAPS, "application/json", Body::from_stream(chunks))
            .await
            .refused()
            .0,
        413
    );
}

#[tokio::test]
async fn invalid_objects_name_their_fields() {
    let server = Server::start().await;
    server.account("default").await;
    for (object, uri, field) in [
        (config_map("Upper_Case", "1"), MAPS, "metadata.name"),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"bad key": "x"}}}),
            MAPS,
            "metadata.labels",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}}),
            PODS,
            "spec.containers",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}}),
            PODS,
            "spec.containers[0].image",
        ),
    ] {
        let answer = server.post(uri, object).await;
        assert_eq!((answer.refused().0, answer.refused().1), (422, "Invalid"));
        let causes = answer.body["details"]["causes"].as_array().unwrap();
        assert!(
            causes.iter().any(|cause| cause["field"] == field),
            "{field}: {causes:?}"
        );
    }
    let mut elsewhere = config_map("a", "1");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    let answer = server.post(MAPS, elsewhere).await;
    assert_eq!(
        answer.refused(),
        (
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    );
    server.post(PODS, pod("ok")).await.ok();
    let other = server.put(&format!("{PODS}/ok"), pod("not-ok")).await;
    assert_eq!(
        other.refused(),
        (
            400,
            "BadRequest",
            "the name of the object (not-ok) does not match the name on the URL (ok)"
        )
    );
}

#[tokio::test]
async fn wrong_tokens_are_401() {
    let server = Server::start().await;
    for value in [
        "Bearer nonsense",
        "Bearer a.b.c",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ] {
        let request = http::Request::builder()
            .uri("/version")
            .header("authorization", value)
            .body(Body::empty())
            .unwrap();
        assert_eq!(
            server.read(request).await.refused(),
            (401, "Unauthorized", "Unauthorized"),
            "{value}"
        );
    }
    // What is no token is no credential: whoever sends it is nobody, and may do what nobody may.
    for value in [
        "Basic amFuZTpwdw==",
        "Bearer",
        "Bearer  ",
        "Custom abc",
        "abc",
    ] {
        let of = |uri: &str| {
            http::Request::builder()
                .uri(uri)
                .header("authorization", value)
                .body(Body::empty())
                .unwrap()
        };
        assert_eq!(server.read(of("/version")).await.code, 200, "{value}");
        let answer = server.read(of(MAPS)).await;
        let (code, _, message) = answer.refused();
        assert_eq!(code, 403, "{value}");
        assert!(message.contains("system:anonymous"), "{message}");
    }
}

#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let server = Server::start().await;
    server.post(MAPS, config_map("a", "1")).await.ok();
    let uri = format!("{MAPS}/a");
    let nameless = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    assert_eq!(
        server.put(&uri, nameless).await.refused().2,
        "the name of the object (a based on URL) was undeterminable: name must be provided"
    );
    let mut elsewhere = config_map("a", "1");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    assert_eq!(
        server.put(&uri, elsewhere).await.refused().2,
        "the namespace of the object (kube-system) does not match the namespace on the request (default)"
    );
    let selector = format!("{MAPS}?labelSelector=a%20b");
    assert_eq!(
        server.get(&selector).await.refused().2,
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
    );
    server.account("default").await;
    server.post(PODS, pod("p")).await.ok();
    for (query, text) in [
        (
            "tailLines=-1",
            "tailLines: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "limitBytes=0",
            "limitBytes: Invalid value: 0: must be greater than 0",
        ),
        (
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
            "sinceTime: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
    ] {
        let answer = server.get(&format!("{PODS}/p/log?{query}")).await;
        assert_eq!(
            answer.refused(),
            (
                422,
                "Invalid",
                format!("PodLogOptions \"p\" is invalid: {text}").as_str()
            )
        );
    }
}

#[tokio::test]
async fn queries_are_checked() {
    let server = Server::start().await;
    for (query, code) in [
        ("limit=9223372036854775808", 400),
        ("limit=x", 400),
        ("continue=%21", 400),
        ("resourceVersion=abc", 400),
        ("resourceVersion=-1", 400),
        ("watch=1&resourceVersion=abc", 422),
        ("watch=1&timeoutSeconds=x", 400),
        ("resourceVersionMatch=Exact", 422),
        ("labelSelector=a+in", 400),
        ("fieldSelector=a", 400),
    ] {
        assert_eq!(
            server.get(&format!("{MAPS}?{query}")).await.refused().0,
            code,
            "{query}"
        );
    }
    let dry = format!("{MAPS}?dryRun=All&dryRun=some");
    assert_eq!(
        server.post(&dry, config_map("a", "1")).await.refused().2,
        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"All\",\"some\"]: supported values: \"All\""
    );
    for (name, text) in [
        ("%2e%2e", r#"Name parameter invalid: "..": may not be '..'"#),
        (
            "a%2Fb",
            r#"Name parameter invalid: "a/b": may not contain '/'"#,
        ),
    ] {
        let refused = server.get(&format!("{MAPS}/{name}")).await;
        assert_eq!(refused.refused(), (400, "BadRequest", text));
    }
    for name in [
        "..",
        "%2e%2e",
        "a%2Fb",
        "%00",
        "x".repeat(254).as_str(),
        "constructor",
    ] {
        assert!(
            server
                .get(&format!("{MAPS}/{name}"))
                .await
                .code
                .is_client_error(),
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_said_in_kubernetes_words() {
    let server = Server::start().await;
    for (body, text) in [
        (
            "{\"kind\":\"ConfigMap\"",
            r#"the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({"kind":"ConfigMap")"#,
        ),
        (
            "[]",
            r#"the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b5d)"#,
        ),
        (
            "",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
        ),
        (
            "{\"metadata\":{\"name\":\"a\"},\"data\":{\"a\":1}}",
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string"#,
        ),
        (
            "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\"}",
            r#"Deployment in version "v1" cannot be handled as a ConfigMap: converting (v1.Deployment) to (core.ConfigMap): unknown conversion"#,
        ),
        (
            "{\"apiVersion\":\"v1\",\"kind\":\"Nothing\"}",
            r#"Nothing in version "v1" cannot be handled as a ConfigMap: no kind "Nothing" is registered for version "v1" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
        ),
    ] {
        let answer = raw(&server, MAPS, "application/json", body).await;
        assert_eq!(answer.refused(), (400, "BadRequest", text));
    }
}
