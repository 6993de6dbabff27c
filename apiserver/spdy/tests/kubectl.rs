//! The real client: kubectl, told not to use WebSocket, against a server that knows one pod.
//!
//! The server speaks just enough HTTP/1.1 by hand. Skipped, with a printed reason, where there is no kubectl.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use spdy::remotecommand::channel;
use spdy::upgrade::{PORT_FORWARD_PROTOCOL, REMOTE_COMMAND_PROTOCOL};
use spdy::{
    NodeChannels, Options, is_upgrade, negotiate, serve_remotecommand, upgrade_response_headers,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

async fn kubectl_is_there() -> bool {
    let found = Command::new("kubectl")
        .args(["version", "--client"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    let there = found.is_ok_and(|status| status.success());
    if !there {
        #[expect(clippy::print_stdout, reason = "a skipped test must say so")]
        {
            println!("skipped: no kubectl on this machine");
        }
    }
    there
}

/// Starts the server; it ends with the returned set.
async fn serve() -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            connections.spawn(handle(socket));
        }
    });
    (port, tasks)
}

async fn handle(mut socket: TcpStream) {
    while let Some((line, headers)) = read_head(&mut socket).await {
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        if is_upgrade(&headers) {
            return upgrade(socket, &path, &headers).await;
        }
        let body = answer(&path);
        let status = if body.is_empty() {
            "404 Not Found"
        } else {
            "200 OK"
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if socket.write_all(head.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Byte by byte, so that nothing of what follows the head is swallowed.
async fn read_head(socket: &mut TcpStream) -> Option<(String, HeaderMap)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.trim_end().lines();
    let request = lines.next()?.to_owned();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers.append(
            http::HeaderName::from_bytes(name.as_bytes()).ok()?,
            value.trim().parse().ok()?,
        );
    }
    Some((request, headers))
}

fn answer(path: &str) -> &'static str {
    match path.split('?').next().unwrap_or_default() {
        "/api" => r#"{"kind":"APIVersions","versions":["v1"]}"#,
        "/apis" => r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#,
        "/api/v1" => {
            r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get"]}]}"#
        }
        "/api/v1/namespaces/default/pods/web" => {
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","namespace":"default"},"spec":{"containers":[{"name":"main"}]},"status":{"phase":"Running"}}"#
        }
        _ => "",
    }
}

async fn upgrade(mut socket: TcpStream, path: &str, headers: &HeaderMap) {
    let is_exec = path.contains("/exec");
    let protocol = negotiate(
        headers,
        &[if is_exec {
            REMOTE_COMMAND_PROTOCOL
        } else {
            PORT_FORWARD_PROTOCOL
        }],
    )
    .unwrap();
    let mut head = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
    for (name, value) in upgrade_response_headers(protocol) {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    if !is_exec {
        let (target, other_end) = tokio::io::duplex(1024);
        let target = std::sync::Mutex::new(Some(target));
        let echo = async {
            let mut pipe = other_end;
            let mut request = [0; 5];
            pipe.read_exact(&mut request).await.unwrap();
            pipe.write_all(b"pong of ").await.unwrap();
            pipe.write_all(&request).await.unwrap();
        };
        let connect = |_| {
            std::future::ready(
                target
                    .lock()
                    .unwrap()
                    .take()
                    .ok_or_else(|| std::io::Error::other("taken")),
            )
        };
        let (served, ()) =
            tokio::join!(spdy::portforward::serve_portforward(socket, connect), echo);
        // kubectl is killed at the end of the test.
        drop(served);
        return;
    }
    let asks = |name: &str| path.contains(&format!("{name}=true"));
    let options = Options {
        stdin: asks("stdin"),
        stdout: asks("stdout"),
        stderr: asks("stderr"),
        tty: asks("tty"),
    };
    let (to_node, from_client) = mpsc::channel(4);
    let (to_client, from_node) = mpsc::channel(4);
    let command: String = path
        .split('&')
        .filter_map(|item| item.split_once("command="))
        .map(|(_, word)| word)
        .collect();
    let node = run(command, from_client, to_client);
    let (served, ()) = tokio::join!(
        serve_remotecommand(socket, options, NodeChannels { to_node, from_node }),
        node
    );
    served.unwrap();
}

/// The node: `cat` gives back its input, `big` prints much, anything else fails with status 3.
async fn run(
    command: String,
    mut input: mpsc::Receiver<(u8, Bytes)>,
    output: mpsc::Sender<(u8, Bytes)>,
) {
    let success = Bytes::from_static(br#"{"metadata":{},"status":"Success"}"#);
    match command.as_str() {
        "cat" => {
            while let Some((number, bytes)) = input.recv().await {
                if number == channel::CLOSE {
                    break;
                }
                output.send((channel::STDOUT, bytes)).await.unwrap();
            }
            output.send((channel::ERROR, success)).await.unwrap();
        }
        "big" => {
            for _ in 0..300 {
                output
                    .send((channel::STDOUT, Bytes::from(vec![b'x'; 10_000])))
                    .await
                    .unwrap();
            }
            output.send((channel::ERROR, success)).await.unwrap();
        }
        _ => {
            output
                .send((channel::STDERR, Bytes::from_static(b"no such command\n")))
                .await
                .unwrap();
            let status = br#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;
            output
                .send((channel::ERROR, Bytes::from_static(status)))
                .await
                .unwrap();
        }
    }
}

fn kubectl(port: u16, arguments: &[&str]) -> Child {
    let cache =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kubectl-cache-{port}"));
    Command::new("kubectl")
        .args(["--kubeconfig=/dev/null", "--namespace=default"])
        .arg(format!("--server=http://127.0.0.1:{port}"))
        .arg(format!("--cache-dir={}", cache.display()))
        .args(arguments)
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false")
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn exec(port: u16, command: &str, input: Option<Vec<u8>>) -> (Option<i32>, Vec<u8>, String) {
    let arguments: &[&str] = if input.is_some() {
        &["exec", "-i", "web", "--", command]
    } else {
        &["exec", "web", "--", command]
    };
    let mut child = kubectl(port, arguments);
    let mut stdin = child.stdin.take().unwrap();
    let feed = tokio::spawn(async move {
        if let Some(input) = input {
            stdin.write_all(&input).await.unwrap();
        }
    });
    let output = timeout(DEADLINE, child.wait_with_output())
        .await
        .expect("kubectl ends in time")
        .unwrap();
    feed.await.unwrap();
    (
        output.status.code(),
        output.stdout,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[tokio::test]
async fn exec_with_input_output_and_status() {
    if !kubectl_is_there().await {
        return;
    }
    let (port, _server) = serve().await;
    let input: Vec<u8> = (0..1_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let (status, stdout, stderr) = exec(port, "cat", Some(input.clone())).await;
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert!(stdout == input, "{} bytes came back", stdout.len());

    let (status, stdout, stderr) = exec(port, "big", None).await;
    assert_eq!(
        (status, stderr.as_str(), stdout.len()),
        (Some(0), "", 3_000_000)
    );

    let (status, stdout, stderr) = exec(port, "fail", None).await;
    assert_eq!((status, stdout.len()), (Some(3), 0));
    assert_eq!(
        stderr,
        "no such command\ncommand terminated with exit code 3\n"
    );
}

#[tokio::test]
async fn port_forward() {
    if !kubectl_is_there().await {
        return;
    }
    let (port, _server) = serve().await;
    let mut child = kubectl(
        port,
        &["port-forward", "pod/web", ":80", "--address=127.0.0.1"],
    );
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .expect("kubectl says where it listens");
    let address = line
        .strip_prefix("Forwarding from ")
        .and_then(|rest| rest.split(' ').next())
        .unwrap()
        .to_owned();
    let mut local = TcpStream::connect(address).await.unwrap();
    local.write_all(b"ping!").await.unwrap();
    let mut reply = Vec::new();
    timeout(DEADLINE, local.read_to_end(&mut reply))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(reply, b"pong of ping!");
    child.kill().await.unwrap();
}
