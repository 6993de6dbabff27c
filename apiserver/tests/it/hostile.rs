//! Input that is made to hurt: each case gets the right code soon, costs little memory, and leaves the server well. The
//! page `docs/reference/limits.md` lists the cases.

use std::time::{Duration, Instant};

use auth::User;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::server::{Answer, MAPS, Server, config_map};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// Generous: tests run side by side, and unoptimized.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Beyond what the body itself takes; most cases are far below it.
const MEMORY_KB_MAX: u64 = 192 * 1024;

struct Case {
    name: &'static str,
    method: Method,
    uri: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    code: u16,
}

fn case(name: &'static str, method: Method, uri: impl Into<String>, code: u16) -> Case {
    Case {
        name,
        method,
        uri: uri.into(),
        headers: Vec::new(),
        body: Vec::new(),
        code,
    }
}

fn post(name: &'static str, media: &str, body: impl Into<Vec<u8>>, code: u16) -> Case {
    Case {
        headers: vec![("content-type", media.to_owned())],
        body: body.into(),
        ..case(name, Method::POST, MAPS, code)
    }
}

fn get(name: &'static str, query: &str, code: u16) -> Case {
    case(name, Method::GET, format!("{MAPS}?{query}"), code)
}

fn patch(name: &'static str, media: &str, body: impl Into<Vec<u8>>, code: u16) -> Case {
    Case {
        headers: vec![("content-type", media.to_owned())],
        body: body.into(),
        ..case(name, Method::PATCH, format!("{MAPS}/there"), code)
    }
}

/// The most memory that this process had since the last call, and what it has now, in kilobytes. Zeros where the system
/// does not tell.
fn memory_kb() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let seen = (of("VmHWM:"), of("VmRSS:"));
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    seen
}

impl Case {
    /// What is wrong with how the server took it.
    async fn run(self, server: &Server) -> Vec<String> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.uri)
            .extension(User::loopback());
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let size_kb = self.body.len() as u64 / 1024;
        let request = request.body(Body::from(self.body)).unwrap();
        let (_, before) = memory_kb();
        let begun = Instant::now();
        let answer = server.read(request).await;
        let took = begun.elapsed();
        let (highest, _) = memory_kb();
        let name = self.name;
        let text: String = answer.text.chars().take(300).collect();
        let more = highest.saturating_sub(before).saturating_sub(size_kb);
        let healthy: Answer = server.get("/livez").await;
        let mut wrong = Vec::new();
        if answer.code.as_u16() != self.code {
            wrong.push(format!(
                "{name}: {} and not {}: {text}",
                answer.code, self.code
            ));
        }
        if took > TIME_MAX || more > MEMORY_KB_MAX {
            wrong.push(format!("{name}: {took:?}, {more} kB"));
        }
        if healthy.code != StatusCode::OK {
            wrong.push(format!("{name}: the server is not well"));
        }
        wrong
    }
}

async fn all(cases: Vec<Case>) {
    let server = Server::start().await;
    server.post(MAPS, config_map("there", "1")).await.ok();
    let mut wrong = Vec::new();
    for case in cases {
        wrong.extend(case.run(&server).await);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    server.post(MAPS, config_map("after", "1")).await.ok();
}

fn map_with(data: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{data}}}"#)
}

#[tokio::test]
async fn json_that_is_made_to_hurt() {
    let deep = |open: &str, close: &str, depth: usize| {
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    };
    let keys: Vec<String> = (0..220_000).map(|at| format!("\"k{at}\":\"\"")).collect();
    let keys = format!("{{{}}}", keys.join(","));
    let names: Vec<String> = (0..200_000).map(|at| format!("\"x{at}\":1")).collect();
    let unknown = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"u"}},{}}}"#,
        names.join(",")
    );
    let mut strict = post(
        "keys that occur twice",
        JSON,
        map_with(r#"{"a":"1","a":"2"}"#),
        400,
    );
    strict.uri.push_str("?fieldValidation=Strict");
    let mut strange = post("unknown keys, hundreds of thousands", JSON, unknown, 400);
    strange.uri.push_str("?fieldValidation=Strict");
    let mut zipped = post("a bomb of gzip", JSON, vec![0x1f, 0x8b, 8, 0], 415);
    zipped.headers.push(("content-encoding", "gzip".into()));
    all(vec![
        post(
            "lists in lists, a million",
            JSON,
            deep("[", "]", 1_000_000),
            400,
        ),
        post(
            "maps in maps",
            JSON,
            map_with(&deep("{\"a\":", "}", 400_000)),
            400,
        ),
        post("hundreds of thousands of keys", JSON, map_with(&keys), 413),
        strict,
        strange,
        post(
            "half of a surrogate pair",
            JSON,
            map_with(r#"{"a":"\ud800"}"#),
            201,
        ),
        post(
            "a NUL in a key",
            JSON,
            map_with("{\"a\\u0000\":\"1\"}"),
            422,
        ),
        post(
            "no UTF-8 in a text",
            JSON,
            map_with("{\"a\":\"\u{1}")
                .into_bytes()
                .into_iter()
                .chain([0xff])
                .collect::<Vec<u8>>(),
            400,
        ),
        post(
            "a mark of byte order",
            JSON,
            format!("\u{feff}{}", map_with("{}")),
            400,
        ),
        post(
            "a number without bounds",
            JSON,
            map_with("{\"a\":1e999999}"),
            400,
        ),
        post(
            "a million digits",
            JSON,
            map_with(&format!("{{\"a\":{}}}", "9".repeat(1_000_000))),
            400,
        ),
        zipped,
    ])
    .await;
}

#[tokio::test]
async fn yaml_and_protobuf_that_are_made_to_hurt() {
    let mut laughs = String::from("a0: &a0 [x, x]\n");
    for at in 1..40 {
        let before = at - 1;
        laughs.push_str(&format!("a{at}: &a{at} [*a{before}, *a{before}]\n"));
    }
    let flow = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
    let envelope = |unknown: &[u8]| [b"k8s\0".as_slice(), unknown].concat();
    // Field 3 of a group that opens, a million times.
    let groups = envelope(&vec![0x1b; 1_000_000]);
    // Field 2, a length of 2^63.
    let huge = envelope(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let endless = envelope(&[&[0x12][..], &[0xff; 64]].concat());
    all(vec![
        post("anchors that double", YAML, laughs, 400),
        post("an anchor in itself", YAML, "a: &a\n  b: *a\n", 400),
        post("flow lists in lists", YAML, flow, 400),
        post(
            "binary",
            YAML,
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: !!binary \"%%%\"}\n",
            400,
        ),
        post("two documents", YAML, "a: 1\n---\nb: 2\n", 400),
        post("an envelope without its magic", PROTOBUF, "k8t\0", 400),
        post("groups in groups", PROTOBUF, groups, 400),
        post("a length beyond the end", PROTOBUF, huge, 400),
        post("a number without end", PROTOBUF, endless, 400),
    ])
    .await;
}

#[tokio::test]
async fn patches_that_are_made_to_hurt() {
    let add = json!({"op": "add", "path": "/data/a", "value": "1"});
    let many = Value::Array(vec![add; 10_001]).to_string();
    let mut double = vec![json!({"op": "add", "path": "/data/a", "value": "x".repeat(100_000)})];
    double.extend(
        (0..64).map(|at| json!({"op": "copy", "from": "/data", "path": format!("/data/b{at}")})),
    );
    let fields: Value = (0..50_000)
        .map(|at| (format!("f:k{at}"), json!({})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": fields}});
    let managed = json!({"metadata": {"managedFields": [entry]}}).to_string();
    let deep = format!("{}1{}", "{\"a\":".repeat(200_000), "}".repeat(200_000));
    let (ops, merge, strategic) = (
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    );
    let mut apply = patch(
        "managed fields by the ten thousand",
        "application/apply-patch+yaml",
        managed,
        400,
    );
    apply.uri.push_str("?fieldManager=m");
    all(vec![
        patch("ten thousand operations and one", ops, many, 413),
        patch(
            "copies that double",
            ops,
            Value::Array(double).to_string(),
            422,
        ),
        patch(
            "an escape that is none",
            ops,
            r#"[{"op":"add","path":"/data/~2","value":"1"}]"#,
            422,
        ),
        patch(
            "an index below zero",
            ops,
            r#"[{"op":"remove","path":"/metadata/managedFields/-9"}]"#,
            422,
        ),
        patch(
            "a directive that is none",
            strategic,
            r#"{"data":{"$patch":"explode"}}"#,
            500,
        ),
        patch(
            "an order that is no list",
            strategic,
            r#"{"metadata":{"$setElementOrder/ownerReferences":7}}"#,
            500,
        ),
        patch("maps in maps", merge, deep, 400),
        apply,
    ])
    .await;
}

#[tokio::test]
async fn reads_that_are_made_to_hurt() {
    let terms: Vec<String> = (0..5_000).map(|at| format!("l{at}%3Dv")).collect();
    let labels = format!("labelSelector={}", terms.join(","));
    let names: Vec<String> = (0..2_500)
        .map(|at| format!("metadata.name!%3Dn{at}"))
        .collect();
    let fields = format!("fieldSelector={}", names.join(","));
    let open = format!("labelSelector=a+in+({}", "b,".repeat(30_000));
    all(vec![
        get("a version below zero", "watch=1&resourceVersion=-1", 422),
        get("a version of 65 bits", "watch=1&resourceVersion=18446744073709551616", 422),
        get("a version far ahead", "watch=1&resourceVersion=9223372036854775807", 504),
        get("no time at all", "watch=1&timeoutSeconds=0&resourceVersion=0&allowWatchBookmarks=x&sendInitialEvents=true", 422),
        get("time without end", "watch=1&timeoutSeconds=9223372036854775808", 400),
        get("a limit of 64 bits", "limit=9223372036854775808", 400),
        get("a limit below zero", "limit=-1", 200),
        get("a token that is forged", "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLi9zZWNyZXRzLyJ9", 400),
        get("a token that is long", &format!("continue={}", "A".repeat(60_000)), 400),
        get("a match of nothing", "resourceVersionMatch=Exact", 422),
        get("a match of zero", "resourceVersionMatch=Exact&resourceVersion=0", 422),
        get("a match with a token", "resourceVersionMatch=Exact&resourceVersion=1&continue=abc", 422),
        get("labels by the thousand", &labels, 200),
        get("names by the thousand", &fields, 200),
        get("a list of values without end", &open, 400),
    ])
    .await;
}

/// What a client without rights gets for a path, with the loopback's rights left out.
#[tokio::test]
async fn credentials_and_paths_that_are_made_to_hurt() {
    let server = Server::start().await;
    server.post(MAPS, config_map("there", "1")).await.ok();
    let head = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    let token = |header: &str| format!("Bearer {}.{}.c2ln", head(header), head("{\"sub\":\"x\"}"));
    for (name, value) in [
        ("no algorithm", token(r#"{"alg":"none"}"#)),
        ("a key for all", token(r#"{"alg":"HS256"}"#)),
        (
            "a key that is a path",
            token(r#"{"alg":"ES256","kid":"../../etc/passwd"}"#),
        ),
        (
            "a header in a header",
            token(r#"{"alg":"ES256","jku":"http://192.0.2.1/","jwk":{}}"#),
        ),
        ("a megabyte", format!("Bearer {}", "a".repeat(1 << 20))),
        ("dots", format!("Bearer {}", ".".repeat(100_000))),
    ] {
        let request = Request::builder().uri(MAPS).header("authorization", value);
        let begun = Instant::now();
        let answer = server.read(request.body(Body::empty()).unwrap()).await;
        assert_eq!(
            answer.code,
            StatusCode::UNAUTHORIZED,
            "{name}: {}",
            answer.text
        );
        assert!(begun.elapsed() < TIME_MAX, "{name}");
    }
    // Nobody gets further by another spelling of a path, or by asking to become somebody else.
    for uri in [
        "//api/v1/namespaces/default/configmaps/there",
        "/api//v1/namespaces/default/configmaps/there",
        "/livez/../api/v1/namespaces/default/configmaps/there",
        "/livez/%2e%2e/api/v1/namespaces/default/configmaps/there",
        "/api/v1/namespaces/default%2Fconfigmaps/there",
        "/api/v1/namespaces/default/configmaps/%74here",
        "/api/v1/namespaces/default/configmaps/there/",
        "/version/../metrics",
        "/livez%2f..%2fmetrics",
        "/API/v1/namespaces/default/configmaps/there",
    ] {
        for header in [
            "impersonate-user",
            "impersonate-group",
            "x-remote-user",
            "upgrade",
        ] {
            let request = Request::builder()
                .uri(uri)
                .header(header, "system:masters")
                .header("connection", "upgrade");
            let answer = server.read(request.body(Body::empty()).unwrap()).await;
            let code = answer.code.as_u16();
            // A path below a probe may be asked for, and is none.
            let is_probe = uri.starts_with("/livez");
            // Kubernetes' code for a group without a user.
            let is_half = header == "impersonate-group" && code == 400;
            assert!(
                matches!(code, 401 | 403) || is_half || (is_probe && code == 404),
                "{uri} {header}: {code} {}",
                answer.text
            );
            assert!(!answer.text.contains("\"key\":\"1\""), "{uri}");
        }
    }
    assert_eq!(server.get("/livez").await.code, StatusCode::OK);
}
