//! Whole sessions over an in-memory pipe, with a client made from the same connection rules in the other role.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use spdy::connection::{Connection, Event, Role};
use spdy::frame::{Encoder, Frame, reset};
use spdy::headers::Headers;
use spdy::remotecommand::channel;
use spdy::{NodeChannels, Options, serve_remotecommand};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

/// A client such as kubectl, one step at a time.
struct Client {
    io: DuplexStream,
    connection: Connection,
    names: BTreeMap<u32, &'static str>,
    received: BTreeMap<&'static str, Vec<u8>>,
    finished: Vec<&'static str>,
    resets: Vec<(u32, u32)>,
    replies: usize,
    went_away: bool,
    eof: bool,
    /// False for a client without windows, such as kubectl.
    grants: bool,
}

impl Client {
    fn new(io: DuplexStream) -> Self {
        Client {
            io,
            connection: Connection::new(Role::Client, 0),
            names: BTreeMap::new(),
            received: BTreeMap::new(),
            finished: Vec::new(),
            resets: Vec::new(),
            replies: 0,
            went_away: false,
            eof: false,
            grants: false,
        }
    }

    fn open(&mut self, name: &'static str, headers: &[(&str, &str)]) -> u32 {
        let id = self
            .connection
            .open(&Headers::new(headers))
            .expect("an id is free");
        self.names.insert(id, name);
        id
    }

    fn open_streams(&mut self, names: &[&'static str]) -> BTreeMap<&'static str, u32> {
        names
            .iter()
            .map(|name| (*name, self.open(name, &[("streamType", name)])))
            .collect()
    }

    async fn flush(&mut self) {
        let output = self.connection.output().split();
        self.io.write_all(&output).await.unwrap();
    }

    /// Sends what there is and receives until `done`, or until the server closes.
    async fn until(&mut self, done: impl Fn(&Client) -> bool) {
        let step = async {
            let mut buffer = vec![0; 4096];
            while !done(self) && !self.eof {
                self.flush().await;
                let count = self.io.read(&mut buffer).await.unwrap();
                self.eof = count == 0;
                self.connection.receive(&buffer[..count]).unwrap();
                while let Some(event) = self.connection.next_event() {
                    self.note(event);
                }
            }
            self.flush().await;
        };
        timeout(DEADLINE, step)
            .await
            .expect("the server answers in time");
        assert!(done(self), "the server closed before that");
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Opened { .. } => panic!("the server opened a stream"),
            Event::Replied { .. } => self.replies += 1,
            Event::Data { id, bytes } => {
                if self.grants {
                    self.connection.consumed(id, bytes.len());
                }
                self.received
                    .entry(self.names[&id])
                    .or_default()
                    .extend_from_slice(&bytes);
            }
            Event::Finished { id } => self.finished.push(self.names[&id]),
            Event::Reset { id, status } => self.resets.push((id, status)),
            Event::GoAway => self.went_away = true,
        }
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(
            self.received
                .get(name)
                .map(Vec::as_slice)
                .unwrap_or_default(),
        )
        .into_owned()
    }
}

struct Node {
    from_client: mpsc::Receiver<(u8, Bytes)>,
    to_client: mpsc::Sender<(u8, Bytes)>,
}

impl Node {
    async fn next(&mut self) -> Option<(u8, Bytes)> {
        timeout(DEADLINE, self.from_client.recv())
            .await
            .expect("the client's bytes arrive in time")
    }

    async fn send(&self, number: u8, bytes: &'static [u8]) {
        timeout(
            DEADLINE,
            self.to_client.send((number, Bytes::from_static(bytes))),
        )
        .await
        .unwrap()
        .unwrap();
    }
}

fn start(
    options: Options,
) -> (
    Client,
    Node,
    JoinHandle<Result<(), spdy::remotecommand::Error>>,
) {
    let (io, server_io) = tokio::io::duplex(4096);
    let (to_node, from_client) = mpsc::channel(4);
    let (to_client, from_node) = mpsc::channel(4);
    let server = tokio::spawn(serve_remotecommand(
        server_io,
        options,
        NodeChannels { to_node, from_node },
    ));
    (
        Client::new(io),
        Node {
            from_client,
            to_client,
        },
        server,
    )
}

async fn ended<T>(server: JoinHandle<T>) -> T {
    timeout(DEADLINE, server)
        .await
        .expect("the server ends in time")
        .unwrap()
}

const ALL: Options = Options {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

#[tokio::test]
async fn a_command_with_input_output_and_status() {
    let (mut client, mut node, server) = start(ALL);
    let ids = client.open_streams(&["error", "stdin", "stdout", "stderr"]);
    client.until(|client| client.replies == 4).await;

    client
        .connection
        .send(ids["stdin"], Bytes::from_static(b"question"));
    client.connection.finish(ids["stdin"]);
    client.flush().await;
    assert_eq!(
        node.next().await,
        Some((channel::STDIN, Bytes::from_static(b"question")))
    );
    assert_eq!(
        node.next().await,
        Some((channel::CLOSE, Bytes::from_static(&[channel::STDIN])))
    );

    node.send(channel::STDOUT, b"").await;
    node.send(channel::STDOUT, b"answer").await;
    node.send(channel::STDERR, b"warning").await;
    node.send(channel::CLOSE, &[channel::STDERR]).await;
    node.send(99, b"unknown").await;
    client.until(|client| client.finished == ["stderr"]).await;
    node.send(channel::STDOUT, b" at last").await;
    node.send(channel::ERROR, br#"{"metadata":{},"status":"Success"}"#)
        .await;
    drop(node);
    client.until(|client| client.eof).await;

    assert_eq!(client.text("stdout"), "answer at last");
    assert_eq!(client.text("stderr"), "warning");
    assert_eq!(
        client.text("error"),
        r#"{"metadata":{},"status":"Success"}"#
    );
    assert!(client.finished.contains(&"stdout") && client.finished.contains(&"error"));
    assert!(client.went_away);
    drop(client);
    ended(server).await.unwrap();
}

#[tokio::test]
async fn a_terminal_resizes_and_has_no_stderr() {
    let (mut client, mut node, server) = start(Options { tty: true, ..ALL });
    let ids = client.open_streams(&["error", "stdin", "stdout", "stderr", "resize"]);
    client
        .until(|client| client.replies == 5 && client.resets.len() == 1)
        .await;
    assert_eq!(client.resets, [(ids["stderr"], reset::REFUSED_STREAM)]);
    client.connection.send(
        ids["resize"],
        Bytes::from_static(br#"{"Width":80,"Height":24}"#),
    );
    client.flush().await;
    assert_eq!(
        node.next().await,
        Some((
            channel::RESIZE,
            Bytes::from_static(br#"{"Width":80,"Height":24}"#)
        ))
    );
    drop(client);
    ended(server).await.unwrap();
}

#[tokio::test]
async fn a_lost_node_is_told() {
    let (mut client, node, server) = start(Options {
        stdout: true,
        ..Options::default()
    });
    client.open_streams(&["error", "stdout"]);
    client.until(|client| client.replies == 2).await;
    drop(node);
    client.until(|client| client.eof).await;
    assert!(
        client
            .text("error")
            .contains("the connection to the node was lost")
    );
    drop(client);
    ended(server).await.unwrap();
}

#[tokio::test]
async fn a_lost_client_frees_the_node() {
    let (mut client, mut node, server) = start(ALL);
    client.open_streams(&["error", "stdin", "stdout", "stderr"]);
    client.until(|client| client.replies == 4).await;
    drop(client);
    ended(server).await.unwrap();
    // The end of stdin may be told first.
    while node.next().await.is_some() {}
    assert!(node.to_client.is_closed());
}

#[tokio::test]
async fn large_transfers_flow_both_ways() {
    for grants in [false, true] {
        large_transfer(grants).await;
    }
}

/// Much more than any buffer and any window, both ways.
async fn large_transfer(grants: bool) {
    const SIZE: usize = 3_000_000;
    let (mut client, mut node, server) = start(ALL);
    let ids = client.open_streams(&["error", "stdin", "stdout", "stderr"]);
    client.until(|client| client.replies == 4).await;

    client.grants = grants;
    let receive = tokio::spawn(async move {
        let mut received = 0;
        while let Some((number, bytes)) = node.next().await {
            if number == channel::CLOSE {
                break;
            }
            assert!(bytes.iter().all(|byte| *byte == 7));
            received += bytes.len();
        }
        for _ in 0..SIZE / 50_000 {
            node.to_client
                .send((channel::STDOUT, Bytes::from(vec![9; 50_000])))
                .await
                .unwrap();
        }
        node.send(channel::ERROR, br#"{"status":"Success"}"#).await;
        received
    });
    // Past the windows on purpose: raw frames.
    let mut encoder = Encoder::default();
    for index in 0..SIZE / 100_000 {
        let fin = (index + 1) * 100_000 == SIZE;
        let mut bytes = bytes::BytesMut::new();
        encoder.encode(
            &Frame::Data {
                id: ids["stdin"],
                fin,
                bytes: Bytes::from(vec![7; 100_000]),
            },
            &mut bytes,
        );
        timeout(DEADLINE, client.io.write_all_buf(&mut bytes))
            .await
            .unwrap()
            .unwrap();
    }
    client.until(|client| client.eof).await;
    assert_eq!(timeout(DEADLINE, receive).await.unwrap().unwrap(), SIZE);
    assert_eq!(client.received["stdout"].len(), SIZE);
    assert!(client.received["stdout"].iter().all(|byte| *byte == 9));
    drop(client);
    ended(server).await.unwrap();
}

/// A command that reads nothing must not stop its own output.
#[tokio::test]
async fn blocked_input_does_not_block_output() {
    let (mut client, node, server) = start(ALL);
    let ids = client.open_streams(&["error", "stdin", "stdout", "stderr"]);
    client.until(|client| client.replies == 4).await;
    let (mut read_half, mut write_half) = tokio::io::split(client.io);
    let flood = tokio::spawn(async move {
        let mut encoder = Encoder::default();
        loop {
            let mut bytes = bytes::BytesMut::new();
            encoder.encode(
                &Frame::Data {
                    id: ids["stdin"],
                    fin: false,
                    bytes: Bytes::from(vec![0; 20_000]),
                },
                &mut bytes,
            );
            if write_half.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    node.send(channel::STDOUT, b"still here").await;
    let mut seen = Vec::new();
    let wait = async {
        while !seen.windows(10).any(|window| window == b"still here") {
            let mut buffer = [0; 1024];
            let count = read_half.read(&mut buffer).await.unwrap();
            assert!(count > 0);
            seen.extend_from_slice(&buffer[..count]);
        }
    };
    timeout(DEADLINE, wait).await.expect("output flows");
    flood.abort();
    drop(node);
    drop(read_half);
    // The aborted task may hold its half a moment longer.
    let _ = flood.await;
    // The client left in the middle of everything: whether that is an error depends on what was under way.
    let _ = ended(server).await;
}

#[tokio::test]
async fn garbage_ends_a_session_with_goaway() {
    for garbage in [
        &b"\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        &[
            0x80, 3, 0, 1, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2,
        ],
    ] {
        let (mut client, _node, server) = start(ALL);
        client.io.write_all(garbage).await.unwrap();
        client.until(|client| client.went_away).await;
        drop(client);
        let result = ended(server).await;
        assert!(
            matches!(
                result,
                Err(spdy::remotecommand::Error::Session(
                    spdy::session::Error::Protocol(_)
                ))
            ),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn surplus_streams_are_refused() {
    let (mut client, node, server) = start(Options {
        stdout: true,
        ..Options::default()
    });
    client.open_streams(&["error", "stdout"]);
    let again = client.open("again", &[("streamtype", "stdout")]);
    let nameless = client.open("nameless", &[]);
    client.until(|client| client.resets.len() == 2).await;
    assert_eq!(
        client.resets,
        [
            (again, reset::REFUSED_STREAM),
            (nameless, reset::REFUSED_STREAM)
        ]
    );
    for _ in 0..100 {
        client.open("flood", &[("streamtype", "stdin")]);
    }
    client.until(|client| client.resets.len() == 102).await;
    node.send(channel::STDOUT, b"unharmed").await;
    client
        .until(|client| client.text("stdout") == "unharmed")
        .await;
    drop(client);
    ended(server).await.unwrap();
}

#[tokio::test]
async fn ports_are_forwarded() {
    let (io, server_io) = tokio::io::duplex(4096);
    let (targets, mut target) = mpsc::channel::<(u16, DuplexStream)>(4);
    let server = tokio::spawn(spdy::portforward::serve_portforward(
        server_io,
        move |port| {
            let targets = targets.clone();
            async move {
                if port == 81 {
                    return Err(std::io::Error::other("connection refused"));
                }
                let (near, far) = tokio::io::duplex(1024);
                targets.send((port, far)).await.unwrap();
                Ok(near)
            }
        },
    ));
    let mut client = Client::new(io);
    let headers = |kind, port, id| [("streamType", kind), ("port", port), ("requestID", id)];
    client.open("error", &headers("error", "80", "0"));
    let data = client.open("data", &headers("data", "80", "0"));
    client.open("error81", &headers("error", "81", "1"));
    let data81 = client.open("data81", &headers("data", "81", "1"));
    let bad = client.open("bad", &headers("data", "99999", "2"));
    client.connection.send(data, Bytes::from_static(b"ping"));
    client.connection.finish(data);
    client
        .until(|client| client.resets.len() == 2 && client.finished.contains(&"error81"))
        .await;
    assert!(
        client.resets.contains(&(bad, reset::REFUSED_STREAM))
            && client.resets.contains(&(data81, reset::CANCEL))
    );
    assert_eq!(client.text("error81"), "connection refused");

    let (port, mut far) = timeout(DEADLINE, target.recv()).await.unwrap().unwrap();
    assert_eq!(port, 80);
    let mut request = Vec::new();
    timeout(DEADLINE, far.read_to_end(&mut request))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(request, b"ping");
    far.write_all(b"pong").await.unwrap();
    drop(far);
    client
        .until(|client| client.finished.contains(&"data") && client.finished.contains(&"error"))
        .await;
    assert_eq!(client.text("data"), "pong");
    assert_eq!(client.text("error"), "");
    drop(client);
    ended(server).await.unwrap();
}

/// A port that has gone, and says why only to who reads after a write that failed.
#[derive(Default)]
struct Gone {
    refused: bool,
    reader: Option<Waker>,
}

impl AsyncRead for Gone {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.refused {
            return Poll::Ready(Err(io::Error::other("nothing listens")));
        }
        self.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Gone {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.refused = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_a_port_says_last_is_told_before_that_it_is_gone() {
    let (io, server_io) = tokio::io::duplex(4096);
    let server = tokio::spawn(spdy::portforward::serve_portforward(server_io, |_| async {
        Ok(Gone::default())
    }));
    let mut client = Client::new(io);
    let headers = |kind| [("streamType", kind), ("port", "80"), ("requestID", "0")];
    client.open("error", &headers("error"));
    let data = client.open("data", &headers("data"));
    client.connection.send(data, Bytes::from_static(b"ping"));
    client
        .until(|client| client.finished.contains(&"error"))
        .await;
    assert_eq!(client.text("error"), "nothing listens");
    drop(client);
    ended(server).await.unwrap();
}
