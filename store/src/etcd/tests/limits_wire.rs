//! Clients that send too much, or never to the end, or read nothing: what they cost, and that others are served.

use std::convert::Infallible;

use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tonic::Code;
use tonic::body::Body;

use super::*;

const OVERLOADED: &str = "etcdserver: too many requests";

/// Gives up what others would wait for.
async fn impatient() -> Bench {
    let options = Options {
        received_within: Duration::from_millis(200),
        patience: Duration::from_millis(100),
        ..Options::default()
    };
    Bench::of(MemStore::new(), options).await
}

/// These bytes, and then nothing more, without an end.
fn endless(bytes: &[u8]) -> Body {
    let data = Frame::data(Bytes::copy_from_slice(bytes));
    let data = stream::iter([Ok::<_, Infallible>(data)]);
    Body::new(StreamBody::new(data.chain(stream::pending())))
}

fn framed(message: &impl Message) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend((message.encoded_len() as u32).to_be_bytes());
    frame.extend(message.encode_to_vec());
    frame
}

impl Bench {
    /// A call with this body; its status.
    async fn send(&self, path: &str, body: Body) -> Status {
        let request = http::Request::post(format!("http://pipe{path}"))
            .header("content-type", "application/grpc")
            .body(body)
            .unwrap();
        let mut channel = self.channel.clone();
        let answer = tower::ServiceExt::ready(&mut channel).await.unwrap();
        let answer = tower::Service::call(answer, request).await.unwrap();
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return status;
        }
        let body = http_body_util::BodyExt::collect(answer.into_body()).await;
        match body {
            Ok(body) => Status::from_header_map(body.trailers().unwrap()).unwrap(),
            Err(status) => status,
        }
    }

    fn left(&self, class: Class) -> usize {
        let mut places = Vec::new();
        while let Ok(place) = self.client.enter(class) {
            places.push(place);
        }
        places.len()
    }
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up_and_its_place_is_free() {
    let bench = impatient().await;
    let all = bench.left(Class::Write);
    let whole = framed(&put_of("a", "1"));
    for begun in [&[][..], &whole[..3], &whole[..7]] {
        let given_up = bench.send("/etcdserverpb.KV/Put", endless(begun));
        let given_up = tokio::time::timeout(SOON, given_up).await;
        assert_eq!(given_up.unwrap().code(), Code::DeadlineExceeded);
    }
    // A stream may say nothing for long, but not half of something.
    let mut half = framed(&create_of("a"));
    half.truncate(8);
    let given_up = bench.send("/etcdserverpb.Watch/Watch", endless(&half));
    let given_up = tokio::time::timeout(SOON, given_up).await;
    assert_eq!(given_up.unwrap().code(), Code::DeadlineExceeded);
    // One that has come whole is answered, although the client keeps its side open.
    let answered = bench.send("/etcdserverpb.KV/Put", endless(&whole)).await;
    assert_eq!(answered.code(), Code::Ok);
    while bench.left(Class::Write) < all {
        tokio::task::yield_now().await;
    }
}

fn put_of(key: &str, value: &str) -> kv::PutRequest {
    kv::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    }
}

fn create_of(key: &str) -> super::super::message::WatchRequest {
    super::super::message::WatchRequest {
        union: Some(WatchUnion::Create(WatchCreate {
            key: bytes(key),
            ..WatchCreate::default()
        })),
    }
}

#[tokio::test]
async fn a_call_through_the_gateway_that_never_ends_is_given_up() {
    let bench = impatient().await;
    let post = async |path: &str, begun: &str| {
        let request = http::Request::post(path)
            .header("host", "etcd")
            .body(endless(begun.as_bytes()))
            .unwrap();
        let mut plain = bench.plain_with::<Body>().await;
        let answer = tokio::time::timeout(SOON, plain.send_request(request));
        answer.await.unwrap().unwrap()
    };
    for begun in ["", "{", r#"{"key": "Zm9v"}"#] {
        let answer = post("/v3/kv/range", begun).await;
        assert_eq!(answer.status(), 504, "{begun}");
    }
    let mut answers = post("/v3/watch", r#"{"create_request": "#)
        .await
        .into_body();
    let line = http_body_util::BodyExt::frame(&mut answers);
    let line = tokio::time::timeout(SOON, line).await;
    let line = line.unwrap().unwrap().unwrap().into_data().unwrap();
    let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(line["error"]["code"], Code::DeadlineExceeded as i32);
    // Before a place is there nothing is received.
    let mut places = Vec::new();
    while let Ok(place) = bench.client.enter(Class::Read) {
        places.push(place);
    }
    let refused = post("/v3/kv/range", "").await;
    assert_eq!(refused.status(), 429);
}

#[tokio::test]
async fn a_client_has_one_large_answer_of_the_gateway_at_a_time() {
    let bench = impatient().await;
    let list = async || {
        let parts = vec![Ok(300 << 10)];
        *bench.backend.parts.lock().unwrap() = Some((parts, Arc::default()));
        let body = r#"{"key": "Zm9v"}"#;
        bench.ask("POST", "/v3/kv/range", body).await
    };
    let unread = bench.client.wait_for_large_json().await.unwrap();
    assert_eq!(list().await.status(), 429);
    let small = bench
        .ask("POST", "/v3/kv/range", r#"{"key": "Zm9v"}"#)
        .await;
    assert_eq!(small.status(), 200);
    drop(unread);
    // Zeros are no pairs, but that is found when all of it is there.
    assert_eq!(list().await.status(), 500);
    assert!(bench.client.wait_for_large_json().await.is_ok());
}

#[tokio::test]
async fn hashes_wait_like_large_ranges() {
    let bench = impatient().await;
    let mut places = Vec::new();
    while let Ok(place) = bench.client.wait_for_large_range().await {
        places.push(place);
    }
    let path = "/etcdserverpb.Maintenance/HashKV";
    let refused: Result<Headed<HashKvBody>, _> = bench.call(path, HashKvRequest::default()).await;
    assert_eq!(refused.unwrap_err().message(), OVERLOADED);
    places.pop();
    let hashed: Result<Headed<HashKvBody>, _> = bench.call(path, HashKvRequest::default()).await;
    assert!(hashed.is_ok());
}

#[tokio::test]
async fn watches_of_a_client_are_bounded_on_all_its_streams_together() {
    let bench = Bench::new().await;
    let all = bench.left(Class::Watch);
    let mut places: Vec<_> = (1..all)
        .map(|_| bench.client.enter(Class::Watch).unwrap())
        .collect();
    let mut talk: Talk<_, Headed<WatchBody>> = bench
        .both("/etcdserverpb.Watch/Watch", false)
        .await
        .unwrap();
    talk.say(create_of("a")).await;
    assert!(!talk.next().await.body.canceled);
    talk.say(create_of("b")).await;
    let refused = talk.next().await.body;
    assert!(refused.created && refused.canceled);
    assert_eq!(refused.cancel_reason, OVERLOADED);
    talk.say(super::super::message::WatchRequest {
        union: Some(WatchUnion::Cancel(WatchCancel { watch_id: 0 })),
    })
    .await;
    assert!(talk.next().await.body.canceled);
    talk.say(create_of("b")).await;
    assert!(!talk.next().await.body.canceled);
    places.clear();
}

#[tokio::test]
async fn who_signs_in_too_often_at_once_keeps_nobody_else_out() {
    let bench = Bench::new().await;
    let mut places = Vec::new();
    while let Ok(place) = bench.client.enter(Class::Password) {
        places.push(place);
    }
    let sign_in = || super::super::auth::AuthenticateRequest::default();
    let path = "/etcdserverpb.Auth/Authenticate";
    let refused: Result<Headed<Empty>, _> = bench.call(path, sign_in()).await;
    assert_eq!(refused.unwrap_err().message(), OVERLOADED);
    let other = bench.front.clients.nameless();
    assert!(other.enter(Class::Password).is_ok());
    assert_eq!(bench.put("a", "1").await, 2);
}

/// HTTP/2 by hand: what no library would send.
struct Raw(DuplexStream);

impl Raw {
    /// After the preface and the settings; the client's window is as large as can be.
    async fn new(bench: &Bench) -> Raw {
        let mut raw = Raw::silent(bench);
        raw.0
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        // INITIAL_WINDOW_SIZE, and as much for the connection.
        raw.frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]).await;
        raw.frame(8, 0, 0, &[0x7f, 0xfe, 0xff, 0xff]).await;
        raw
    }

    fn silent(bench: &Bench) -> Raw {
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(converse(
            bench.front.clone(),
            bench.front.clients.nameless(),
            None,
            far,
        ));
        Raw(near)
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // Who was thrown out already cannot say more.
        drop(self.0.write_all(&frame).await);
    }

    /// The head of a call, without an end of it.
    async fn call(&mut self, stream: u32, path: &str) {
        let mut head = vec![0x83, 0x86];
        for (name, value) in [(4, path), (1, "pipe"), (31, "application/grpc")] {
            // A literal with an indexed name; the last needs two bytes.
            match name {
                31 => head.extend([0x0f, 0x10]),
                name => head.push(name),
            }
            head.push(value.len() as u8);
            head.extend(value.as_bytes());
        }
        self.frame(1, 4, stream, &head).await;
    }

    /// Reads until the server closes the connection.
    async fn closed(mut self) {
        let mut all = Vec::new();
        let closed = tokio::time::timeout(SOON, self.0.read_to_end(&mut all));
        drop(closed.await.expect("it is closed"));
    }
}

#[tokio::test]
async fn frames_that_are_none_end_their_connection_and_no_other() {
    let bench = Bench::new().await;
    for broken in 0..6 {
        let mut raw = match broken {
            0 => Raw::silent(&bench),
            _ => Raw::new(&bench).await,
        };
        match broken {
            0 => raw.0.write_all(&[0xff; 100]).await.unwrap(),
            // Data of no stream; a frame larger than was agreed; headers that are none; an even stream; a window of nothing.
            1 => raw.frame(0, 0, 0, b"data").await,
            2 => raw.frame(0, 0, 1, &vec![0; (1 << 14) + 1]).await,
            3 => raw.frame(1, 5, 1, &[0xff; 40]).await,
            4 => raw.frame(1, 5, 2, &[0x83]).await,
            _ => raw.frame(8, 0, 0, &[0; 4]).await,
        }
        raw.closed().await;
        assert_eq!(bench.put("a", "1").await, 2 + broken);
    }
}

#[tokio::test]
async fn a_client_with_a_large_window_that_does_not_read_its_socket_costs_little() {
    const PART: usize = 16 << 10;
    let bench = Bench::new().await;
    let taken = Arc::new(AtomicUsize::new(0));
    *bench.backend.parts.lock().unwrap() = Some((vec![Ok(PART); 1000], taken.clone()));
    let mut raw = Raw::new(&bench).await;
    raw.call(1, "/etcdserverpb.KV/Range").await;
    raw.frame(0, 1, 1, &framed(&everything())).await;
    let begun = async {
        while taken.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, begun).await.unwrap();
    for n in 0..200 {
        bench.put("a", &n.to_string()).await;
    }
    let taken = taken.load(Ordering::SeqCst);
    // What is in the pipe, what waits for it, and one more.
    assert!(taken <= 12, "{taken} parts of 1000");
}
