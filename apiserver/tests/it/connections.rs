//! Connections that are made to hurt: each ends after its bound, and what it held is given back.

use std::time::Duration;

use apiserver::ServeLimits;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::http::{Listening, admit_jane};
use crate::server::{MAPS, Server, config_map};

const DEADLINE: Duration = Duration::from_secs(60);

/// Bounds that a test can wait for.
fn short() -> ServeLimits {
    ServeLimits {
        header_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(300),
        stall_timeout: Duration::from_millis(500),
        keep_alive_timeout: Duration::from_secs(1),
        ..ServeLimits::default()
    }
}

async fn started(limits: ServeLimits) -> (Server, Listening) {
    let server = Server::start().await;
    admit_jane(&server).await;
    let listening = Listening::bounded(&server, limits).await;
    (server, listening)
}

/// Reads until the server closes.
async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut seen = Vec::new();
    let read = async {
        // A reset is an end too.
        let _ = stream.read_to_end(&mut seen).await;
    };
    timeout(DEADLINE, read).await.expect("the server closes");
    seen
}

async fn healthy(server: &Server, listening: &Listening) {
    let request = Request::builder()
        .uri("https://127.0.0.1/livez/ping")
        .header("host", "127.0.0.1")
        .header("authorization", "Bearer jane-token")
        .body(Body::empty())
        .unwrap();
    let (parts, _) = listening.answer(false, request).await;
    assert_eq!(parts.status, 200);
    server.get("/readyz").await;
}

#[tokio::test]
async fn connections_that_ask_for_nothing_are_closed() {
    let (server, listening) = started(short()).await;
    for sent in [
        &b""[..],
        b"GET / HT",
        b"GET /livez HTTP/1.1\r\nhost: a\r\nx-slow: ",
        // The beginning of HTTP/2, and no more.
        b"PRI * HTTP/2.0\r\n\r\nSM\r",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ] {
        let mut stream = listening.connect().await.into_inner();
        stream.write_all(sent).await.unwrap();
        closed(&mut stream).await;
    }
    // One that has asked, and does not ask again.
    let mut stream = listening.connect().await.into_inner();
    let request = b"GET /livez/ping HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let seen = closed(&mut stream).await;
    assert!(seen.starts_with(b"HTTP/1.1 "), "{seen:?}");
    healthy(&server, &listening).await;
}

#[tokio::test]
async fn heads_that_are_too_long_or_lie_are_refused() {
    let (server, listening) = started(ServeLimits::default()).await;
    let long = format!(
        "GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "a".repeat(2 << 20)
    );
    let many = format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1_000));
    let lie = "POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n";
    let two =
        "POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef";
    for (sent, codes) in [
        (long.as_str(), &["431", "400"][..]),
        (&many, &["431", "400"]),
        (two, &["400"]),
        ("GET / HTTP/9.9\r\n\r\n", &["400", "505"]),
        ("\0\0\0\0\r\n\r\n", &["400"]),
        // Kubernetes reads such a body as chunked; what follows it must not become an answer to somebody else's question.
        (lie, &["200", "400", "401", "403"]),
    ] {
        let mut stream = listening.connect().await.into_inner();
        // The server may close while this is still being sent.
        let _ = stream.write_all(sent.as_bytes()).await;
        let _ = stream.shutdown().await;
        let seen = closed(&mut stream).await;
        let seen = String::from_utf8_lossy(&seen);
        let code = seen.split(' ').nth(1).unwrap_or_default().to_owned();
        // Closed without a word is fine for what is still being sent.
        assert!(
            code.is_empty() || codes.contains(&code.as_str()),
            "{} got {code}",
            &sent[..sent.len().min(80)]
        );
        assert!(
            !seen.contains("process_cpu"),
            "a smuggled request was served"
        );
    }
    healthy(&server, &listening).await;
}

#[tokio::test]
async fn answers_to_many_requests_at_once_are_whole() {
    let (server, listening) = started(ServeLimits::default()).await;
    let sizes = [10_usize, 3_000, 40_000, 200_000];
    for (at, size) in sizes.into_iter().enumerate() {
        let map = config_map(&format!("m{at}"), &"x".repeat(size));
        server.post(MAPS, map).await.ok();
    }
    let stream = listening.connect_h2().await;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let get = |at: usize| {
        let mut sender = sender.clone();
        let request = Request::builder().uri(format!("https://127.0.0.1{MAPS}/m{at}"));
        let request = request.header("authorization", "Bearer jane-token");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        async move {
            let response = sender.send_request(request).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let map: Value = serde_json::from_slice(&body).unwrap();
            map["data"]["key"].as_str().unwrap_or_default().len()
        }
    };
    let all = (0..60).map(|turn| get(turn % sizes.len()));
    let found = timeout(DEADLINE, futures::future::join_all(all))
        .await
        .unwrap();
    let expected = sizes.into_iter().cycle().take(60).collect::<Vec<_>>();
    assert_eq!(found, expected);
}

/// The value of a metric.
async fn metric(server: &Server, line: &str) -> f64 {
    let text = server.get("/metrics").await.text;
    let found = text.lines().find_map(|one| one.strip_prefix(line));
    found.map_or(0.0, |value| value.trim().parse().unwrap())
}

async fn until(server: &Server, line: &str, is_right: impl Fn(f64) -> bool) {
    let waited = async {
        while !is_right(metric(server, line).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, waited).await.expect(line);
}

const BYTES: &str = "apiserver_flowcontrol_response_bytes{priority_level=\"global-default\"}";
const WATCHES: &str = "apiserver_longrunning_requests{component=\"apiserver\",group=\"\",resource=\"configmaps\",scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"}";

/// A list of 24 MB: more than sockets and buffers take.
async fn fill(server: &Server) {
    for at in 0..24 {
        let map = config_map(&format!("m{at}"), &"x".repeat(1_000_000));
        server.post(MAPS, map).await.ok();
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_its_list_loses_it() {
    let (server, listening) = started(short()).await;
    fill(&server).await;
    // HTTP/1.1: the whole connection stands still.
    let mut stream = listening.connect().await.into_inner();
    let request =
        format!("GET {MAPS} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer jane-token\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    timeout(DEADLINE, stream.read_exact(&mut head))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    until(&server, BYTES, |bytes| bytes == 0.0).await;
    let rest = closed(&mut stream).await;
    assert!(!rest.ends_with(b"]}\n"), "the list was cut");
    // HTTP/2: one stream stands still, and the others of its connection go on.
    let stream = listening.connect().await;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let ask = |uri: &str| {
        let request = Request::builder().uri(format!("https://127.0.0.1{uri}"));
        let request = request.header("authorization", "Bearer jane-token");
        request.body(Empty::<Bytes>::new()).unwrap()
    };
    let list = sender.send_request(ask(MAPS)).await.unwrap();
    assert_eq!(list.status(), 200);
    until(&server, BYTES, |bytes| bytes == 0.0).await;
    let other = sender.send_request(ask("/livez/ping")).await.unwrap();
    assert_eq!(other.status(), 200);
    let cut = timeout(DEADLINE, list.into_body().collect()).await.unwrap();
    assert!(cut.is_err(), "the list was cut");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_watch_loses_it() {
    let (server, listening) = started(short()).await;
    fill(&server).await;
    let mut stream = listening.connect().await.into_inner();
    let request = format!(
        "GET {MAPS}?watch=1 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer jane-token\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    until(&server, WATCHES, |count| count == 1.0).await;
    until(&server, WATCHES, |count| count == 0.0).await;
    closed(&mut stream).await;
    // One that reads is kept, however little there is to read.
    let (parts, mut body) = listening
        .answer(true, {
            let uri = format!(
                "https://127.0.0.1{MAPS}?watch=1&resourceVersion={}",
                newest(&server).await
            );
            let request = Request::builder().uri(uri);
            let request = request.header("authorization", "Bearer jane-token");
            request.body(Body::empty()).unwrap()
        })
        .await;
    assert_eq!(parts.status, 200);
    tokio::time::sleep(3 * short().stall_timeout).await;
    server.post(MAPS, config_map("late", "1")).await.ok();
    let frame = timeout(DEADLINE, body.frame())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let event: Value = serde_json::from_slice(frame.data_ref().unwrap()).unwrap();
    assert_eq!(event["object"]["metadata"]["name"], "late");
}

async fn newest(server: &Server) -> String {
    let list = server.get(&format!("{MAPS}?limit=1")).await.ok();
    list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_end_their_connection() {
    let (server, listening) = started(ServeLimits::default()).await;
    let mut stream = listening.connect().await.into_inner();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for at in 0..20_000u32 {
        let id = (2 * at + 1).to_be_bytes();
        // HEADERS with `:method GET`, `:scheme https`, `:path /`; then RST_STREAM.
        sent.extend_from_slice(&[0, 0, 3, 1, 5]);
        sent.extend_from_slice(&id);
        sent.extend_from_slice(&[0x82, 0x87, 0x84]);
        sent.extend_from_slice(&[0, 0, 4, 3, 0]);
        sent.extend_from_slice(&id);
        sent.extend_from_slice(&[0, 0, 0, 8]);
    }
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let writing = async {
        // It is refused in the middle.
        let _ = writer.write_all(&sent).await;
        let _ = writer.flush().await;
    };
    let reading = async { closed(&mut reader).await };
    let ((), seen) = timeout(DEADLINE, async { tokio::join!(writing, reading) })
        .await
        .unwrap();
    // GOAWAY with ENHANCE_YOUR_CALM, or closed at once.
    let goes_away = seen.windows(4).any(|bytes| bytes == [0, 0, 0, 11]);
    assert!(goes_away || seen.len() < 1 << 20, "{} bytes", seen.len());
    healthy(&server, &listening).await;
}

#[tokio::test]
async fn a_head_without_end_ends_its_connection() {
    let (server, listening) = started(ServeLimits::default()).await;
    let mut stream = listening.connect().await.into_inner();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // HEADERS that do not end, and CONTINUATION after CONTINUATION of nothing.
    sent.extend_from_slice(&[0, 0, 3, 1, 0, 0, 0, 0, 1, 0x82, 0x87, 0x84]);
    for _ in 0..200_000 {
        sent.extend_from_slice(&[0, 0, 0, 9, 0, 0, 0, 0, 1]);
    }
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let writing = async {
        let _ = writer.write_all(&sent).await;
        let _ = writer.flush().await;
    };
    let reading = async { closed(&mut reader).await };
    timeout(DEADLINE, async { tokio::join!(writing, reading) })
        .await
        .expect("the server gives up");
    healthy(&server, &listening).await;
}

#[tokio::test]
async fn one_address_does_not_take_all_connections() {
    let limits = ServeLimits {
        connections_per_address_max: 3,
        ..ServeLimits::default()
    };
    let (_server, listening) = started(limits).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(listening.connect().await);
    }
    assert!(listening.try_connect().await.is_err());
    held.pop();
    let again = async {
        while listening.try_connect().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, again).await.expect("room comes back");
}

/// A body that comes byte by byte takes no longer than a request may.
#[tokio::test]
async fn a_body_that_trickles_has_a_deadline() {
    let server = Server::start().await;
    tokio::time::pause();
    let trickle = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
    });
    let request = server
        .request(http::Method::POST, MAPS)
        .header("content-type", "application/json")
        .body(Body::from_stream(trickle))
        .unwrap();
    let begun = tokio::time::Instant::now();
    let answer = server.read(request).await;
    assert_eq!(answer.code, http::StatusCode::GATEWAY_TIMEOUT);
    // The rest of the body is taken for ten seconds more, so that the answer can be read.
    assert!(
        begun.elapsed() <= Duration::from_secs(75),
        "{:?}",
        begun.elapsed()
    );
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header of HPACK that no table has; `name` is its code in the static table, or its text.
fn header(name: Result<u8, &str>, value: &str) -> Vec<u8> {
    let mut header = Vec::new();
    let put = |text: &str, header: &mut Vec<u8>| {
        header.push(u8::try_from(text.len()).unwrap());
        header.extend_from_slice(text.as_bytes());
    };
    match name {
        Ok(code) => header.push(code),
        Err(name) => {
            header.push(0);
            put(name, &mut header);
        }
    }
    put(value, &mut header);
    header
}

#[tokio::test]
async fn ten_thousand_watches_on_one_connection_are_as_many_as_a_connection_may_have() {
    const WATCHES: u32 = 10_000;
    let limits = ServeLimits::default();
    let streams_max = limits.streams_max as usize;
    let (server, listening) = started(limits).await;
    let path = format!("{MAPS}?watch=1&resourceVersion={}", newest(&server).await);
    let head = [
        // GET, https
        vec![0x82, 0x87],
        header(Ok(0x04), &path),
        header(Ok(0x01), "127.0.0.1"),
        header(Err("authorization"), "Bearer jane-token"),
    ]
    .concat();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(4, 0, 0, &[]));
    for at in 0..WATCHES {
        sent.extend(frame(1, 5, 2 * at + 1, &head));
    }
    let stream = listening.connect().await.into_inner();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        // It may be closed in the middle.
        let _ = writer.write_all(&sent).await;
        writer
    });
    let (mut answered, mut refused) = (0, 0);
    let reading = async {
        while answered + refused < WATCHES as usize {
            let mut head = [0; 9];
            if reader.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            if reader.read_exact(&mut payload).await.is_err() {
                return;
            }
            match head[3] {
                // HEADERS; RST_STREAM with REFUSED_STREAM.
                1 => answered += 1,
                3 if payload == [0, 0, 0, 7] => refused += 1,
                // GOAWAY: the server has had enough.
                7 => return,
                0 | 4 | 6 | 8 => {}
                other => panic!("a frame of type {other}: {payload:?}"),
            }
        }
    };
    timeout(DEADLINE, reading).await.expect("all are answered");
    assert!(answered <= streams_max, "{answered} watches at once");
    assert!(
        refused > 0 || answered < streams_max,
        "{answered} {refused}"
    );
    healthy(&server, &listening).await;
    // What they held is given back with the connection.
    drop((reader, writing.await.unwrap()));
    let watches = "apiserver_longrunning_requests";
    let open = async || {
        let text = server.get("/metrics").await.text;
        let lines = text.lines().filter(|line| {
            line.starts_with(watches) && line.contains("configmaps") && line.contains("WATCH")
        });
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>()
    };
    let ended = async {
        while open().await > 0.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, ended).await.expect("the watches end");
    healthy(&server, &listening).await;
}
