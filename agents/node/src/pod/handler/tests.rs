use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::runtime::hollow::{HollowConfig, HollowRuntime};
use crate::spec::handler::{PortRef, TcpHandler};

async fn answering(answers: &'static [&'static str]) -> u16 {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

fn getting(port: u16, path: &str) -> Handler {
    Handler {
        http_get: Some(HttpHandler {
            path: path.into(),
            port: PortRef::Number(port.into()),
            ..Default::default()
        }),
        ..Handler::default()
    }
}

const TIMEOUT: Duration = Duration::from_secs(2);

fn world() -> (HollowRuntime, Container, Target) {
    let target = Target {
        container_id: "c".into(),
        ip: "127.0.0.1".into(),
    };
    let runtime = HollowRuntime::new(HollowConfig::default(), "n");
    (runtime, Container::default(), target)
}

async fn get(port: u16, path: &str) -> Outcome {
    let (runtime, container, target) = world();
    run_probe(&runtime, &getting(port, path), &container, &target, TIMEOUT).await
}

#[tokio::test]
async fn http_answers_are_judged_by_their_status() {
    let port = answering(&[
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\nno",
        "HTTP/1.1 302 Found\r\nlocation: /there\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
    ])
    .await;
    assert_eq!(get(port, "/a").await, Outcome::Success);
    assert_eq!(
        get(port, "a").await,
        Outcome::Failure("HTTP probe failed with statuscode: 500".into())
    );
    assert_eq!(get(port, "/redirected").await, Outcome::Success);
    assert_eq!(get(port, "/elsewhere").await, Outcome::Success);
}

#[tokio::test]
async fn any_answer_satisfies_a_hook() {
    let port = answering(&["HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\nno"]).await;
    let (runtime, container, target) = world();
    let hook = |port| {
        let handler = getting(port, "/");
        let (runtime, container, target) = (&runtime, &container, &target);
        async move { run_hook(runtime, &handler, container, target, TIMEOUT).await }
    };
    assert_eq!(hook(port).await, Outcome::Success);
    assert!(
        matches!(hook(port).await, Outcome::Failure(_)),
        "nobody answers"
    );
}

#[tokio::test]
async fn refused_connections_read_as_in_go() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let text = format!(
        "Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused"
    );
    assert_eq!(get(port, "/").await, Outcome::Failure(text));
    let (runtime, container, target) = world();
    let handler = Handler {
        tcp_socket: Some(TcpHandler {
            port: PortRef::Number(port.into()),
            host: String::new(),
        }),
        ..Handler::default()
    };
    let outcome = run_probe(&runtime, &handler, &container, &target, TIMEOUT).await;
    assert_eq!(
        outcome,
        Outcome::Failure(format!(
            "dial tcp 127.0.0.1:{port}: connect: connection refused"
        ))
    );
}

/// Answers health checks: `good` serves, `bad` does not, others are not known.
async fn health_service() -> u16 {
    use http_body_util::StreamBody;
    use hyper::body::{Frame, Incoming};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = |request: http::Request<Incoming>| async move {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let body = request.into_body().collect().await?.to_bytes();
        let (code, message) = match body.as_ref() {
            body if body == health_request("good") => ("0", &[0, 0, 0, 0, 2, 8, 1][..]),
            body if body == health_request("bad") => ("0", &[0, 0, 0, 0, 2, 8, 2][..]),
            _ => ("5", &[][..]),
        };
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", code.parse().unwrap());
        let frames = [
            Frame::data(Bytes::from_static(message)),
            Frame::trailers(trailers),
        ];
        let frames = futures::stream::iter(frames.map(Ok::<_, hyper::Error>));
        Ok::<_, hyper::Error>(http::Response::new(StreamBody::new(frames)))
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(answer);
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}

#[tokio::test]
async fn grpc_services_say_how_they_are() {
    let port = health_service().await;
    let (runtime, container, target) = world();
    let check = |service: &str| {
        let handler = Handler {
            grpc: Some(GrpcHandler {
                port,
                service: Some(service.to_owned()),
            }),
            ..Handler::default()
        };
        let (runtime, container, target) = (&runtime, &container, &target);
        async move { run_probe(runtime, &handler, container, target, TIMEOUT).await }
    };
    let failure = |text: &str| Outcome::Failure(text.to_owned());
    assert_eq!(check("good").await, Outcome::Success);
    assert_eq!(
        check("bad").await,
        failure("service unhealthy (responded with \"NOT_SERVING\")")
    );
    assert_eq!(
        check("other").await,
        failure("error: health rpc failed with code 5")
    );
}

#[test]
fn grpc_frames() {
    assert_eq!(&health_request("")[..], [0, 0, 0, 0, 0]);
    assert_eq!(
        &health_request("ab")[..],
        [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']
    );
    assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), 1);
    assert_eq!(serving_status(&[0, 0, 0, 0, 0]), 0);
}
