//! Streams into containers of a real Docker daemon: port-forward, attach, terminals, followed logs.

use futures::SinkExt;
use node_agent::RuntimeKind;
use serde_json::json;

use crate::api::Api;
use crate::docker::{exec_path, image_is_ready, pod, sh};
use crate::kubelet::{Node, Socket, condition, message, phase, receive};

const V4: &str = "v4.channel.k8s.io";
const V5: &str = "v5.channel.k8s.io";

/// Collects a channel until `done` is satisfied with what has come; says what came when the other side closes first.
async fn collect(socket: &mut Socket, wanted: u8, done: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    while !done(&text) {
        let Some((channel, content)) = receive(socket).await else {
            panic!("closed after {text:?}");
        };
        if channel == wanted {
            text.push_str(&String::from_utf8_lossy(&content));
        }
    }
    text
}

/// Reads the two messages that open a port.
async fn opened(socket: &mut Socket, index: u8, port: u16) {
    let port = port.to_le_bytes().to_vec();
    let mut first = Vec::new();
    while first.len() < 2 {
        first.push(receive(socket).await.unwrap());
    }
    assert_eq!(first, [(2 * index, port.clone()), (2 * index + 1, port)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded_to_the_loopback_address_of_the_pod() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, "docker-forward", dir.path(), RuntimeKind::Docker).await;
    // The web server is on the loopback address: only who enters the pod's network namespace gets to it.
    let serve = "mkdir /tmp/www; echo bye > /tmp/www/index.html; httpd -p 127.0.0.1:9001 -h /tmp/www; exec nc -ll -p 9000 -e busybox wc -c";
    api.put(
        "pods",
        pod("ports", "docker-forward", json!({"containers": [{
            "name": "c", "command": sh(serve),
            "readinessProbe": {"exec": {"command": sh("wget -q -O - http://127.0.0.1:9001/ && echo | nc 127.0.0.1 9000")}, "periodSeconds": 1, "failureThreshold": 60}}]})),
    );
    api.wait_pod("ports", "ready", |pod| condition(pod, "Ready"))
        .await;

    // Version 5: the server answers only after the end of its input.
    let mut socket = node
        .socket("/portForward/default/ports?port=9000", V5)
        .await;
    opened(&mut socket, 0, 9000).await;
    let bytes = vec![b'x'; 100_000];
    for _ in 0..10 {
        socket.send(message(0, &bytes)).await.unwrap();
    }
    socket.send(message(255, &[0])).await.unwrap();
    let count = collect(&mut socket, 0, |text| text.ends_with('\n')).await;
    assert_eq!(count.trim(), "1000000");
    assert_eq!(receive(&mut socket).await, Some((255, vec![0])));
    assert_eq!(receive(&mut socket).await, Some((255, vec![1])));
    assert_eq!(receive(&mut socket).await, None);

    // Version 4, two ports on one connection: what the pod says comes through, and its end closes the connection.
    let path = "/portForward/default/ports?ports=9001&port=9";
    let mut socket = node.socket(path, V4).await;
    let request = message(0, b"GET / HTTP/1.0\r\n\r\n");
    socket.send(request).await.unwrap();
    let mut seen = std::collections::BTreeMap::<u8, Vec<u8>>::new();
    while let Some((channel, content)) = receive(&mut socket).await {
        seen.entry(channel).or_default().extend(content);
    }
    let port = |number: u16| number.to_le_bytes().to_vec();
    assert!(seen[&0].starts_with(&port(9001)) && seen[&0].ends_with(b"\r\n\r\nbye\n"));
    assert_eq!((&seen[&1], &seen[&2]), (&port(9001), &port(9)));
    let error = String::from_utf8_lossy(&seen[&3][2..]).into_owned();
    assert!(
        error.starts_with("error forwarding port 9 to pod ports_default, uid ")
            && error.ends_with(": dial tcp 127.0.0.1:9: connect: connection refused"),
        "{error}"
    );

    api.delete_pod("ports", 0);
    api.wait_pod("ports", "gone", |pod| pod.is_none()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_attach_and_followed_logs() {
    if !image_is_ready() {
        return;
    }
    let (api, dir) = (Api::new(), tempfile::tempdir().unwrap());
    let node = Node::start(&api, "docker-streams", dir.path(), RuntimeKind::Docker).await;
    api.put("pods", pod("talk", "docker-streams", json!({"restartPolicy": "Never", "containers": [
        {"name": "echo", "command": ["cat"], "stdin": true, "stdinOnce": true},
        {"name": "count", "command": sh("for i in 1 2 3; do echo $i; sleep 0.3; done; echo bad >&2; while [ ! -e /tmp/end ]; do sleep 0.1; done; echo last")}]})));
    let running = |pod: Option<&serde_json::Value>| phase(pod) == "Running";
    api.wait_pod("talk", "running", running).await;

    // A terminal that is resized, and a key that interrupts.
    let watch = "trap 'busybox stty size' WINCH; echo ready; while :; do sleep 0.05; done";
    let path = exec_path("talk", "count", watch).replace("&error=1", "&tty=1");
    let mut socket = node.socket(&path, V5).await;
    collect(&mut socket, 1, |text| text.contains("ready")).await;
    let size = message(4, br#"{"Width":100,"Height":40}"#);
    socket.send(size).await.unwrap();
    collect(&mut socket, 1, |text| text.contains("40 100")).await;
    socket.send(message(0, b"\x03")).await.unwrap();
    let status = collect(&mut socket, 3, |text| text.ends_with('}')).await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "130");

    // Followed to the end; cut by lines, bytes, time and stream.
    let log = "/containerLogs/default/talk/count";
    let stop = exec_path("talk", "count", "touch /tmp/end");
    let follow = format!("{log}?follow=true&stream=Stdout");
    // Two streams have no order but that of arrival: what ends the one is said after the other has arrived.
    let stderr = format!("{log}?stream=Stderr");
    let arrived = async {
        while node.get(&stderr).await != (200, "bad\n".to_owned()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, arrived).await.unwrap();
    let (_, end) = tokio::join!(node.exec(&stop, b""), node.get(&follow));
    assert_eq!(end, (200, "1\n2\n3\nlast\n".to_owned()));
    for (query, expected) in [
        ("tailLines=1", "last\n"),
        ("tailLines=0", ""),
        ("limitBytes=3", "1\n2"),
        ("stream=Stderr", "bad\n"),
        ("sinceTime=2099-01-01T00:00:00Z", ""),
        ("sinceSeconds=3600&tailLines=2", "bad\nlast\n"),
    ] {
        let (status, text) = node.get(&format!("{log}?{query}")).await;
        assert_eq!((status, text.as_str()), (200, expected), "{query}");
    }

    // What is typed comes back; the end of the input ends the container and with it the session.
    let path = "/attach/default/talk/echo?input=1&output=1&error=1";
    let (out, _, status) = node.exec(path, b"hello").await;
    assert_eq!(
        (out.as_str(), &status["status"]),
        ("hello", &json!("Success"))
    );
    let done = |pod: Option<&serde_json::Value>| phase(pod) == "Succeeded";
    api.wait_pod("talk", "over", done).await;

    api.delete_pod("talk", 0);
    api.wait_pod("talk", "gone", |pod| pod.is_none()).await;
    node.stop().await;
}
