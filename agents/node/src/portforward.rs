//! Port-forward over a WebSocket, in the channel protocol of Kubernetes: two channels for each port, data and error.
//!
//! Channel `2i` carries the bytes of the i-th port of the query, channel `2i + 1` one text if something goes wrong; the
//! first message on either is the port, two bytes, little endian. Version 4 cannot say that one direction has ended: a
//! port is over when the pod closes its connection. Version 5 adds what it adds to exec, a message of channel 255 that
//! names a channel, here from either side: its sender will send no more on it. SPDY, which kubectl speaks, ends in the
//! API server, which opens one such WebSocket for every connection.
//!
//! A pod that does not read holds up the client, and with it the news that the client is gone: that is found out by
//! writing to it. Where nothing moves for hours, nobody is taken to be interested.

use std::future::Future;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesUnordered, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::streaming::{CLOSE, encode, next_content};

/// Subprotocols in the order in which they are preferred.
pub(crate) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Two channels each, in one byte whose highest value is taken.
const PORTS_MAX: usize = 127;
const READ_BYTES: usize = 32 * 1024;
/// Messages that wait for a port or for the client; a full queue holds up who fills it.
const QUEUED_MAX: usize = 8;
/// For the client to leave when all is said.
const LEAVE_MAX: Duration = Duration::from_secs(5);

/// How long a forward is kept for a client of which nothing is heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Between two messages that are sent only to see whether the client is there.
    pub(crate) ping_period: Duration,
    /// For the next bytes of any port, in either direction.
    pub(crate) idle_max: Duration,
}

impl Patience {
    /// Kubernetes ends an idle stream after the same time.
    pub(crate) const DEFAULT: Patience = Patience {
        ping_period: Duration::from_secs(30),
        idle_max: Duration::from_secs(4 * 60 * 60),
    };
}

/// The ports of a query (`port=80&port=81`, or `ports=80,81`); the error is the text for a 400.
pub(crate) fn ports(query: &[(String, String)]) -> Result<Vec<u16>, String> {
    let values = query
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "port" | "ports"));
    let mut ports = Vec::new();
    for text in values.flat_map(|(_, value)| value.split(',')) {
        match text.parse::<u16>() {
            Ok(0) => return Err(format!("port {text:?} must be > 0")),
            Ok(port) => ports.push(port),
            Err(_) => return Err(format!("unable to parse {text:?} as a port")),
        }
    }
    match ports.len() {
        0 => Err("query parameter \"port\" is required".to_owned()),
        1..=PORTS_MAX => Ok(ports),
        _ => Err(format!("more than {PORTS_MAX} ports")),
    }
}

/// What a message of the client means.
#[derive(Debug, PartialEq, Eq)]
enum Incoming {
    Data(usize, Bytes),
    EndOfData(usize),
    Nothing,
}

fn decode(mut message: Bytes, half_close: bool) -> Incoming {
    if message.is_empty() {
        return Incoming::Nothing;
    }
    let channel = message.split_to(1)[0];
    let index = |channel: u8| usize::from(channel / 2);
    match (channel, message.first()) {
        (CLOSE, Some(closed)) if half_close && closed % 2 == 0 => {
            Incoming::EndOfData(index(*closed))
        }
        // Nobody reads what a client writes on an error channel.
        (CLOSE, _) | (_, None) => Incoming::Nothing,
        (data, Some(_)) if data % 2 == 0 => Incoming::Data(index(data), message),
        _ => Incoming::Nothing,
    }
}

/// Carries the ports until all are over or the client is gone; `dial` connects to a port of the pod.
pub(crate) async fn carry<F, T>(
    socket: WebSocket,
    ports: Vec<u16>,
    patience: Patience,
    dial: impl Fn(u16) -> F,
) where
    F: Future<Output = Result<T, String>>,
    T: AsyncRead + AsyncWrite,
{
    // Without a subprotocol a client gets what Kubernetes gives it: version 4.
    let half_close = socket
        .protocol()
        .is_some_and(|protocol| protocol.as_bytes() == PROTOCOLS[0].as_bytes());
    let (mut sink, mut stream) = socket.split();
    let (to_client, mut from_ports) = mpsc::channel(QUEUED_MAX);
    let mut inputs = Vec::new();
    let mut running = FuturesUnordered::new();
    for (index, port) in ports.into_iter().enumerate() {
        let (input, from_client) = mpsc::channel(QUEUED_MAX);
        inputs.push(Some(input));
        let port = Port {
            number: port,
            // In range: there are at most PORTS_MAX.
            data: index as u8 * 2,
            half_close,
            to_client: to_client.clone(),
        };
        let dialled = dial(port.number);
        running.push(port.forward(dialled, from_client));
    }
    drop(to_client);
    let (moved, movements) = watch::channel(());
    let forwarding = async {
        while running.next().await.is_some() {}
        Ok::<(), Gone>(())
    };
    let mut pings =
        tokio::time::interval_at(Instant::now() + patience.ping_period, patience.ping_period);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let writing = async {
        loop {
            let message = tokio::select! {
                biased;
                _ = pings.tick() => Message::Ping(Bytes::new()),
                message = from_ports.recv() => match message {
                    Some(message) => message,
                    None => return Ok::<(), Gone>(()),
                },
            };
            let is_ping = matches!(message, Message::Ping(_));
            sink.send(message).await.map_err(|_| Gone)?;
            if !is_ping {
                moved.send_replace(());
            }
        }
    };
    // A failed write is the end, also of ports that wait for their pod.
    let over = tokio::select! {
        biased;
        () = idle(movements, patience.idle_max) => false,
        () = read_client(&mut stream, inputs, half_close, &moved) => false,
        ended = async { tokio::try_join!(forwarding, writing) } => ended.is_ok(),
    };
    if over {
        let close = Message::Close(Some(CloseFrame {
            code: 1000,
            reason: "".into(),
        }));
        // Fails only when the client has left, who then need not be told.
        let _ = sink.send(close).await;
        // A connection that is dropped while bytes of the client are unread is reset, and takes along what was said last.
        let leaving = async { while let Some(Ok(_)) = stream.next().await {} };
        let _ = tokio::time::timeout(LEAVE_MAX, leaving).await;
    }
}

/// Ends when nothing has moved for so long.
async fn idle(mut movements: watch::Receiver<()>, idle_max: Duration) {
    while let Ok(Ok(())) = tokio::time::timeout(idle_max, movements.changed()).await {}
}

/// Hands what the client sends to its port; ends when the client is gone.
async fn read_client(
    stream: &mut SplitStream<WebSocket>,
    mut inputs: Vec<Option<mpsc::Sender<Bytes>>>,
    half_close: bool,
    moved: &watch::Sender<()>,
) {
    while let Some(content) = next_content(stream).await {
        match decode(content, half_close) {
            Incoming::Data(index, bytes) => {
                if let Some(Some(input)) = inputs.get(index)
                    && input.send(bytes).await.is_err()
                {
                    // The port is over; other ports of this client may not be.
                    inputs[index] = None;
                }
                moved.send_replace(());
            }
            Incoming::EndOfData(index) => {
                if let Some(input) = inputs.get_mut(index) {
                    *input = None;
                }
            }
            Incoming::Nothing => {}
        }
    }
}

struct Port {
    number: u16,
    data: u8,
    half_close: bool,
    to_client: mpsc::Sender<Message>,
}

/// The client has gone.
struct Gone;

impl Port {
    async fn forward<T: AsyncRead + AsyncWrite>(
        self,
        dialled: impl Future<Output = Result<T, String>>,
        from_client: mpsc::Receiver<Bytes>,
    ) -> Result<(), Gone> {
        let (data, error) = (self.data, self.data + 1);
        for channel in [data, error] {
            self.send(channel, &self.number.to_le_bytes()).await?;
        }
        let outcome = match dialled.await {
            Ok(target) => self.copy(from_client, target).await?,
            Err(text) => Err(text),
        };
        if let Err(text) = outcome {
            self.send(error, text.as_bytes()).await?;
            self.end(data).await?;
        }
        self.end(error).await
    }

    /// Copies both ways until both have ended or one has failed.
    async fn copy<T: AsyncRead + AsyncWrite>(
        &self,
        mut from_client: mpsc::Receiver<Bytes>,
        target: T,
    ) -> Result<Result<(), String>, Gone> {
        let (mut from_target, mut to_target) = tokio::io::split(target);
        let inward = async {
            while let Some(bytes) = from_client.recv().await {
                to_target.write_all(&bytes).await?;
                to_target.flush().await?;
            }
            to_target.shutdown().await
        };
        let outward = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(READ_BYTES);
                match from_target.read_buf(&mut buffer).await {
                    Ok(0) => return self.end(self.data).await.map(Ok),
                    Ok(_) => self.send(self.data, &buffer.split()).await?,
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        tokio::pin!(inward, outward);
        // A client that cannot end its direction alone waits for the pod's end, which is then the end of both.
        let outcome = tokio::select! {
            biased;
            sent = &mut outward => match sent? {
                Ok(()) if self.half_close => inward.await,
                ended => ended,
            },
            written = &mut inward => match written {
                Ok(()) => outward.await?,
                Err(error) => Err(error),
            },
        };
        let text =
            |error: std::io::Error| format!("error forwarding port {}: {error}", self.number);
        Ok(outcome.map_err(text))
    }

    async fn send(&self, channel: u8, content: &[u8]) -> Result<(), Gone> {
        let message = encode(channel, content);
        self.to_client.send(message).await.map_err(|_| Gone)
    }

    /// Says that nothing more comes on a channel, where the protocol has a word for it.
    async fn end(&self, channel: u8) -> Result<(), Gone> {
        match self.half_close {
            true => self.send(CLOSE, &[channel]).await,
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::extract::ws::WebSocketUpgrade;
    use hyper_util::rt::TokioIo;
    use hyper_util::service::TowerToHyperService;
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::Message as ClientMessage;
    use tokio_tungstenite::{WebSocketStream, client_async};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);
    const NEVER: Duration = Duration::from_secs(60 * 60);

    /// One port, forwarded to a pod that does nothing.
    struct Forward {
        client: WebSocketStream<DuplexStream>,
        /// Held, or the port would be over.
        _pod: DuplexStream,
        over: mpsc::Receiver<()>,
    }

    impl Forward {
        async fn start(patience: Patience) -> Forward {
            let (pod, dialled) = tokio::io::duplex(16);
            Forward::with(patience, Some(dialled), pod).await
        }

        async fn with(
            patience: Patience,
            dialled: Option<DuplexStream>,
            pod: DuplexStream,
        ) -> Forward {
            let dialled = Arc::new(Mutex::new(dialled));
            let (ended, over) = mpsc::channel(1);
            let serve = move |upgrade: WebSocketUpgrade| async move {
                upgrade.on_upgrade(move |socket| async move {
                    let dial = |_| {
                        let dialled = dialled.lock().unwrap().take();
                        async move { dialled.ok_or_else(|| "nothing to dial".to_owned()) }
                    };
                    carry(socket, vec![80], patience, dial).await;
                    ended.send(()).await.unwrap();
                })
            };
            let router = axum::Router::new().route("/", axum::routing::any(serve));
            let (near, far) = tokio::io::duplex(1 << 20);
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(far), TowerToHyperService::new(router))
                .with_upgrades();
            tokio::spawn(connection);
            let (client, _) = client_async("ws://node/", near).await.unwrap();
            Forward {
                client,
                _pod: pod,
                over,
            }
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_ends_a_port_whose_pod_does_not_read() {
        let mut forward = Forward::start(Patience {
            ping_period: Duration::from_millis(10),
            idle_max: NEVER,
        })
        .await;
        // More than the queues hold: the end of the connection comes behind what nobody takes.
        for _ in 0..QUEUED_MAX * 8 {
            let message = ClientMessage::binary([&[0][..], &[b'x'; 1024]].concat());
            forward.client.send(message).await.unwrap();
        }
        drop(forward.client);
        let over = tokio::time::timeout(DEADLINE, forward.over.recv()).await;
        assert_eq!(over, Ok(Some(())));
    }

    #[tokio::test]
    async fn a_client_has_the_time_to_hear_why_a_port_is_over() {
        let patience = Patience {
            ping_period: NEVER,
            idle_max: NEVER,
        };
        let (pod, _) = tokio::io::duplex(16);
        let mut forward = Forward::with(patience, None, pod).await;
        let message = ClientMessage::binary(&b"\x00hello"[..]);
        forward.client.send(message).await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"nothing to dial") {
            let next = tokio::time::timeout(DEADLINE, forward.client.next()).await;
            said = next.unwrap().unwrap().unwrap().into_data().to_vec();
        }
        let early = tokio::time::timeout(Duration::from_millis(100), forward.over.recv()).await;
        assert!(early.is_err(), "the client is still there");
        drop(forward.client);
        let over = tokio::time::timeout(DEADLINE, forward.over.recv()).await;
        assert_eq!(over, Ok(Some(())));
    }

    #[tokio::test]
    async fn a_client_that_only_answers_pings_is_idle() {
        let mut forward = Forward::start(Patience {
            ping_period: Duration::from_millis(10),
            idle_max: Duration::from_millis(500),
        })
        .await;
        let mut pings = 0;
        let reading = async {
            while let Some(Ok(message)) = forward.client.next().await {
                pings += u32::from(message.is_ping());
            }
        };
        tokio::time::timeout(DEADLINE, reading).await.unwrap();
        let over = tokio::time::timeout(DEADLINE, forward.over.recv()).await;
        assert_eq!(over, Ok(Some(())));
        assert!(pings > 1, "it was asked whether it is there");
    }

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn ports_come_under_both_names() {
        let good = ports(&query(&[("port", "80"), ("x", "y"), ("ports", "81,65535")]));
        assert_eq!(good, Ok(vec![80, 81, 65535]));
        let many = vec!["1"; PORTS_MAX + 1].join(",");
        for bad in [
            &[][..],
            &[("port", "0")],
            &[("port", "")],
            &[("port", "65536")],
            &[("port", "http")],
            &[("ports", &many)],
        ] {
            assert!(ports(&query(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn messages_of_a_client() {
        let cases: &[(&[u8], bool, Incoming)] = &[
            (b"", true, Incoming::Nothing),
            (b"\x00", true, Incoming::Nothing),
            (b"\x00hi", false, Incoming::Data(0, "hi".into())),
            (b"\x04hi", true, Incoming::Data(2, "hi".into())),
            (b"\x01hi", true, Incoming::Nothing),
            (b"\xff\x02", true, Incoming::EndOfData(1)),
            (b"\xff\x02", false, Incoming::Nothing),
            (b"\xff\x03", true, Incoming::Nothing),
            (b"\xff", true, Incoming::Nothing),
        ];
        for (message, half_close, expected) in cases {
            let decoded = decode(Bytes::copy_from_slice(message), *half_close);
            assert_eq!(decoded, *expected, "{message:?}");
        }
    }
}
