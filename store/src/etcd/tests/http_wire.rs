use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::*;

type Plain = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

impl Bench {
    pub(super) async fn plain(&self) -> Plain {
        self.plain_with().await
    }

    pub(super) async fn plain_with<B>(&self) -> hyper::client::conn::http1::SendRequest<B>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(converse(self.front.clone(), self.client.clone(), None, far));
        let (client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near))
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> http::Response<Incoming> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "etcd")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .unwrap();
        let mut client = self.plain().await;
        let answer = tokio::time::timeout(SOON, client.send_request(request));
        answer.await.expect("an answer comes").unwrap()
    }

    async fn text(&self, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        let answer = self.ask(method, path, body).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let (status, text) = self.text("POST", path, &body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap())
    }
}

#[tokio::test]
async fn probes_say_what_is_well_and_what_is_not() {
    let bench = Bench::new().await;
    let get = async |path: &str| bench.text("GET", path, "").await;
    let ok = StatusCode::OK;
    assert_eq!(
        get("/health").await,
        (ok, r#"{"health":"true","reason":""}"#.into())
    );
    assert_eq!(get("/livez").await, (ok, "ok\n".into()));
    assert_eq!(
        get("/readyz/linearizable_read?verbose").await,
        (ok, "[+]linearizable_read ok\nok\n".into())
    );
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!(get("/readyz?verbose").await, (ok, all.into()));
    let (status, some) = get("/readyz?verbose=&exclude=non_learner&exclude=no_such").await;
    let (rest, _) = all.split_once("[+]non_learner").unwrap();
    assert_eq!((status, some), (ok, format!("{rest}ok\n")));
    *bench.backend.leader.lock().unwrap() = None;
    assert_eq!(
        get("/health").await,
        (
            StatusCode::SERVICE_UNAVAILABLE,
            r#"{"health":"false","reason":"RAFT NO LEADER"}"#.into()
        )
    );
    assert_eq!(get("/health?serializable=true").await.0, ok);
    // The read waits for a leader, and then says so.
    assert_eq!(get("/livez").await, (ok, "ok\n".into()));
    let unwell = StatusCode::SERVICE_UNAVAILABLE;
    let says = "[-]linearizable_read failed: etcdserver: no leader\n\n";
    let path = "/readyz/linearizable_read?exclude=linearizable_read";
    assert_eq!(get(path).await, (unwell, says.into()));
}

#[tokio::test]
async fn probes_know_alarms_of_their_member_and_learners() {
    let bench = Bench::new().await;
    let get = async |path: &str| bench.text("GET", path, "").await;
    let raise = |kind: kv::AlarmKind, member| {
        let alarm = kv::Alarm {
            member,
            kind: kind as i32,
        };
        let change = kv::AlarmChange {
            alarm,
            raised: true,
        };
        let command = kv::Command::Alarm(change);
        bench.backend.propose_now(command).unwrap();
    };
    let (ok, unwell) = (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE);
    raise(kv::AlarmKind::Corrupt, 2);
    assert_eq!(get("/health").await.0, ok, "of another member");
    assert_eq!(get("/readyz").await.0, ok);
    raise(kv::AlarmKind::NoSpace, 1);
    let full = r#"{"health":"false","reason":"ALARM NOSPACE"}"#;
    assert_eq!(get("/health").await, (unwell, full.into()));
    assert_eq!(get("/health?exclude=NOSPACE").await.0, ok);
    assert_eq!(get("/readyz").await.0, ok, "it may still be read");
    raise(kv::AlarmKind::Corrupt, 1);
    assert_eq!(get("/health?exclude=NOSPACE").await.0, unwell);
    let corrupt = "[-]data_corruption failed: alarm activated: CORRUPT\n\n";
    let said = get("/readyz/data_corruption").await;
    assert_eq!(said, (unwell, corrupt.into()));
    bench.backend.members.lock().unwrap()[0].is_voter = false;
    let learner = "[-]non_learner failed: not supported for learner\n\n";
    let said = get("/readyz/non_learner").await;
    assert_eq!(said, (unwell, learner.into()));
    let (_, metrics) = get("/metrics").await;
    for line in [
        r#"etcd_server_healthcheck{name="non_learner",type="readyz"} 0"#,
        r#"etcd_server_healthchecks_total{name="data_corruption",status="success",type="readyz"} 2"#,
        r#"etcd_server_healthchecks_total{name="data_corruption",status="error",type="readyz"} 1"#,
        "etcd_server_health_success 2",
        "etcd_server_health_failures 2",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line}");
    }
}

#[tokio::test]
async fn calls_are_counted_by_method_and_by_how_they_end() {
    let bench = Bench::new().await;
    let seen = async |line: &str| {
        let (_, metrics) = bench.text("GET", "/metrics", "").await;
        metrics.contains(&format!("\n{line}\n"))
    };
    // From the beginning, so that a dashboard can take one from the other.
    for metric in ["started", "msg_received", "msg_sent"] {
        let line = format!(
            r#"grpc_server_{metric}_total{{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}} 0"#
        );
        assert!(seen(&line).await, "{line}");
    }
    bench.put("a", "1").await;
    bench.put("b", "2").await;
    bench.range(RangeRequest::default()).await.unwrap_err();
    let (status, _) = bench.post("/v3/kv/put", json!({"key": "Zm9v"})).await;
    assert_eq!(status, StatusCode::OK);
    bench.text("POST", "/v3/kv/fly", "").await;
    let unknown: Result<Empty, Status> = bench.call("/etcdserverpb.KV/Fly", Empty {}).await;
    unknown.unwrap_err();
    let line = |metric: &str, method: &str, code: &str, value: u64| {
        let code = match code {
            "" => String::new(),
            code => format!(r#"grpc_code="{code}","#),
        };
        format!(
            r#"grpc_server_{metric}{{{code}grpc_method="{method}",grpc_service="etcdserverpb.KV",grpc_type="unary"}} {value}"#
        )
    };
    for line in [
        line("started_total", "Put", "", 3),
        line("handled_total", "Put", "OK", 3),
        line("msg_received_total", "Put", "", 3),
        line("msg_sent_total", "Put", "", 3),
        line("handling_seconds_count", "Put", "", 3),
        line("handled_total", "Range", "InvalidArgument", 1),
        line("handled_total", "Range", "OK", 0),
        line("msg_sent_total", "Range", "", 0),
        r#"etcd_server_version{server_version="3.6.14"} 1"#.into(),
        r#"etcd_cluster_version{cluster_version="3.6"} 1"#.into(),
        r#"etcd_server_id{server_id="1"} 1"#.into(),
    ] {
        assert!(seen(&line).await, "{line}");
    }
    let (_, metrics) = bench.text("GET", "/metrics", "").await;
    assert!(!metrics.contains("Fly"), "no client makes series");
    for metric in ["received", "sent"] {
        let zero = format!("\netcd_network_client_grpc_{metric}_bytes_total 0\n");
        assert!(!metrics.contains(&zero), "{metric}");
    }

    // A stream goes on until its client has had enough.
    let watch = |metric: &str, code: &str, value: u64| {
        format!(
            r#"grpc_server_{metric}_total{{{code}grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}} {value}"#
        )
    };
    let mut talk = bench
        .watch(WatchCreate {
            key: bytes("a"),
            ..WatchCreate::default()
        })
        .await;
    bench.put("a", "3").await;
    talk.next().await;
    for line in [
        watch("started", "", 1),
        watch("msg_received", "", 1),
        watch("msg_sent", "", 2),
        watch("handled", r#"grpc_code="OK","#, 0),
    ] {
        assert!(seen(&line).await, "{line}");
    }
    drop(talk);
    let ended = async {
        let ways = ["OK", "Canceled"].map(|code| format!(r#"grpc_code="{code}","#));
        let ways = ways.map(|code| watch("handled", &code, 1));
        while !seen(&ways[0]).await && !seen(&ways[1]).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("it ends");
}

#[tokio::test]
async fn version_metrics_and_what_is_not_there() {
    let bench = Bench::new().await;
    let (status, version) = bench.text("GET", "/version", "").await;
    assert_eq!(status, StatusCode::OK);
    let version: Value = serde_json::from_str(&version).unwrap();
    assert_eq!(
        version,
        json!({"etcdserver": "3.6.14", "etcdcluster": "3.6.0", "storage": "3.6.0"})
    );
    let _: &crate::metrics::Metrics = &crate::metrics::METRICS;
    let (status, metrics) = bench.text("GET", "/metrics", "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(metrics.contains("etcd_server_has_leader"), "{metrics}");
    // `etcdctl check datascale` reads it here.
    assert!(
        metrics.contains("\nprocess_resident_memory_bytes "),
        "{metrics}"
    );
    let mut declared = std::collections::BTreeSet::new();
    for line in metrics.lines().filter(|line| line.starts_with("# TYPE ")) {
        assert!(declared.insert(line), "declared twice: {line}");
    }
    for path in [
        "/",
        "/nothing",
        "/livez/nothing",
        "/health/x",
        "/v3/kv/fly",
        "/v3alpha/kv/range",
        "/v3beta/kv/fly",
    ] {
        for method in ["GET", "POST"] {
            let status = bench.text(method, path, "").await.0;
            assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}");
        }
    }
    let wrong = [
        ("POST", "/health"),
        ("GET", "/v3/kv/range"),
        ("GET", "/v3beta/kv/range"),
    ];
    for (method, path) in wrong {
        let status = bench.text(method, path, "").await.0;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

#[tokio::test]
async fn the_gateway_reads_and_writes_json() {
    let bench = Bench::new().await;
    let (status, put) = bench
        .post("/v3/kv/put", json!({"key": "Zm9v", "value": "YmFy"}))
        .await;
    assert_eq!(status, StatusCode::OK);
    let header = json!({"cluster_id": "1", "member_id": "1", "revision": "2", "raft_term": "1"});
    assert_eq!(put, json!({"header": header}));
    // As etcd 3.6 has it: fields that it does not know are nothing to it, and the paths of 3.3 are served.
    for (path, more) in [
        ("/v3/kv/range", json!(null)),
        ("/v3/kv/range", json!({"deep": [1, {"key": true}]})),
        ("/v3beta/kv/range", json!("x")),
    ] {
        let request = json!({"key": "Zm9v", "no_such": more});
        let (status, range) = bench.post(path, request).await;
        assert_eq!(status, StatusCode::OK, "{path}: {range}");
        assert_eq!(range["count"], "1");
    }
    let (_, range) = bench.post("/v3/kv/range", json!({"key": "Zm9v"})).await;
    assert_eq!(
        range,
        json!({"header": header, "count": "1", "kvs": [{"key": "Zm9v", "create_revision": "2",
               "mod_revision": "2", "version": "1", "value": "YmFy"}]})
    );
    let txn = json!({"compare": [{"key": "Zm9v", "target": "VALUE", "value": "YmFy"}],
                     "success": [{"requestRange": {"key": "Zm9v"}}]});
    let (_, txn) = bench.post("/v3/kv/txn", txn).await;
    assert_eq!(txn["succeeded"], true);
    assert_eq!(txn["responses"][0]["response_range"]["count"], "1");
    let (_, status) = bench.post("/v3/maintenance/status", json!({})).await;
    assert_eq!(status["version"], "3.6.14");
    let (_, members) = bench.post("/v3/cluster/member/list", json!({})).await;
    assert_eq!(members["members"][0]["ID"], "1");
    let (_, granted) = bench
        .post("/v3/lease/grant", json!({"TTL": 60, "ID": "7"}))
        .await;
    assert_eq!(
        (&granted["ID"], &granted["TTL"]),
        (&json!("7"), &json!("60"))
    );
    let (_, left) = bench
        .post("/v3/kv/lease/timetolive", json!({"ID": 7, "keys": true}))
        .await;
    assert_eq!(left["grantedTTL"], "60");
}

#[tokio::test]
async fn the_gateway_answers_bad_requests_in_json() {
    let bench = Bench::new().await;
    let (status, answer) = bench.post("/v3/kv/range", json!({})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer,
        json!({"error": "etcdserver: key is not provided", "code": 3,
               "message": "etcdserver: key is not provided"})
    );
    for body in ["{", "[]", "7", r#"{"key": "%"}"#, r#"{"key": 1}"#, "{}{}"] {
        let (status, text) = bench.text("POST", "/v3/kv/range", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {text}");
    }
    let huge = format!(r#"{{"key": "{}"}}"#, "A".repeat(5 << 20));
    let (status, text) = bench.text("POST", "/v3/kv/range", &huge).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("request is too large"), "{text}");
    let (status, _) = bench.post("/v3/lease/revoke", json!({"ID": 404})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_watch_through_the_gateway_is_a_line_for_each_answer() {
    let bench = Bench::new().await;
    let request = json!({"create_request": {"key": "Zm9v", "start_revision": "2"}});
    let answer = bench.ask("POST", "/v3/watch", &request.to_string()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let mut body = answer.into_body();
    let mut line = async || -> Value {
        let frame = tokio::time::timeout(SOON, body.frame()).await;
        let data = frame.expect("a line comes").unwrap().unwrap();
        serde_json::from_slice(&data.into_data().unwrap()).unwrap()
    };
    assert_eq!(line().await["result"]["created"], true);
    bench.put("foo", "bar").await;
    let events = line().await["result"]["events"].clone();
    assert_eq!(events[0]["kv"]["value"], "YmFy");
    assert_eq!(
        events[0].get("type"),
        None,
        "PUT is the default, which is left out"
    );
    bench.delete("foo").await;
    assert_eq!(line().await["result"]["events"][0]["type"], "DELETE");
    bench.backend.stop.cancel();
    assert_eq!(
        line().await["error"]["message"],
        "etcdserver: server stopped"
    );
}

#[tokio::test]
async fn a_client_of_the_gateway_goes_on_asking_on_a_stream_that_is_open() {
    let bench = Bench::new().await;
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(converse(
        bench.front.clone(),
        bench.client.clone(),
        None,
        far,
    ));
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near))
        .await
        .unwrap();
    tokio::spawn(connection);
    let (say, said) = mpsc::channel::<&str>(4);
    let said = ReceiverStream::new(said).map(|text| {
        let data = hyper::body::Frame::data(Bytes::from_static(text.as_bytes()));
        Ok::<_, std::convert::Infallible>(data)
    });
    let request = Request::post("/v3/watch")
        .header("host", "etcd")
        .body(http_body_util::StreamBody::new(said))
        .unwrap();
    // Cut where it pleases the network, with a bracket in a text.
    say.send(r#"{"create_request": {"key": "Zm9v", "pre"#)
        .await
        .unwrap();
    say.send(r#"v_kv": true}} {"cancel_request": "#)
        .await
        .unwrap();
    let answer = tokio::time::timeout(SOON, client.send_request(request));
    let mut body = answer.await.unwrap().unwrap().into_body();
    let mut line = async || -> Value {
        let frame = tokio::time::timeout(SOON, body.frame()).await;
        let data = frame.expect("a line comes").unwrap().unwrap();
        serde_json::from_slice(&data.into_data().unwrap()).unwrap()
    };
    assert_eq!(line().await["result"]["created"], true);
    bench.put("foo", "bar").await;
    assert_eq!(line().await["result"]["events"][0]["kv"]["key"], "Zm9v");
    say.send(r#"{"watch_id": "0"}}"#).await.unwrap();
    assert_eq!(line().await["result"]["canceled"], true);
    say.send(r#"{"create_request": }"#).await.unwrap();
    assert!(line().await["error"]["message"].is_string());
}

#[tokio::test]
async fn an_answer_that_is_too_large_for_the_gateway_is_refused() {
    let bench = Bench::new().await;
    let parts = vec![Ok(1 << 20); 33];
    *bench.backend.parts.lock().unwrap() = Some((parts, Arc::default()));
    let (status, answer) = bench.post("/v3/kv/range", json!({"key": "Zm9v"})).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        answer["message"],
        "grpc: received message larger than max (33554432)"
    );
}
