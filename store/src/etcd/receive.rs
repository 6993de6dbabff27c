//! What a client sends, until it is a message: gRPC's frames, bounded in bytes and in time.
//!
//! A message says first how long it is. A small one is just received: how many there can be at once, admission has
//! bounded. A larger one waits for room, of which each client has so much, so that those who begin requests and never
//! end them neither fill the memory nor keep others out; and one that has begun has to end soon.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;

use super::admission::{Client, Room};
use super::errors::Fault;
use super::tally::Tally;

/// A message of so many bytes needs no room.
pub(super) const SMALL_BYTES: usize = 16 << 10;
/// Before a message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// A message, with the room that it takes up as long as it is there.
pub(super) struct Received {
    pub(super) message: Bytes,
    pub(super) room: Option<Room>,
}

/// The messages of a request.
pub(super) struct Frames {
    body: Body,
    client: Arc<Client>,
    bytes_max: usize,
    /// Of a message, from its first byte on, or from the call's beginning where it has one message alone.
    within: Duration,
    /// What has come and is not part of a message yet: as it came, or put together.
    frame: Bytes,
    joined: BytesMut,
    room: Option<Room>,
    /// For the message that has begun.
    deadline: Option<Instant>,
    tally: Option<&'static Tally>,
}

impl Frames {
    pub(super) fn new(
        request: http::Request<Body>,
        client: Arc<Client>,
        bytes_max: usize,
        within: Duration,
    ) -> Result<Frames, Fault> {
        let encoding = request.headers().get("grpc-encoding");
        if let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            let text = format!("Content is compressed with `{encoding}` which isn't supported");
            return Err(Fault::Unimplemented(text));
        }
        Ok(Frames {
            tally: request.extensions().get::<&'static Tally>().copied(),
            body: request.into_body(),
            client,
            bytes_max,
            within,
            frame: Bytes::new(),
            joined: BytesMut::new(),
            room: None,
            deadline: None,
        })
    }

    /// The one message of a call that has one.
    pub(super) async fn only(&mut self) -> Result<Received, Fault> {
        self.deadline = Some(Instant::now() + self.within);
        let message = self.next().await?;
        message.ok_or_else(|| Fault::Internal("Missing request message.".into()))
    }

    /// The next message; `None` when the client has said all. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Received>, Fault> {
        loop {
            if let Some(bytes) = self.length()? {
                if bytes > SMALL_BYTES && self.room.is_none() {
                    self.room = Some(self.client.wait_for_room(bytes).await?);
                }
                if let Some(message) = self.take(bytes) {
                    let room = self.room.take();
                    self.deadline = None;
                    if let Some(tally) = self.tally {
                        tally.message_received(HEAD_BYTES + bytes);
                    }
                    return Ok(Some(Received { message, room }));
                }
            }
            match self.data().await? {
                Some(data) => self.push(data),
                None if self.waiting().is_empty() => return Ok(None),
                None => return Err(Fault::Internal("unexpected EOF".into())),
            }
        }
    }

    fn waiting(&self) -> &[u8] {
        if self.joined.is_empty() {
            &self.frame
        } else {
            &self.joined
        }
    }

    /// Of the message that has begun, as soon as it has said so.
    fn length(&self) -> Result<Option<usize>, Fault> {
        let Some((head, _)) = self.waiting().split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *head;
        let bytes = u32::from_be_bytes(length) as usize;
        // In the words of gRPC in Go.
        match compressed {
            0 if bytes > self.bytes_max => Err(Fault::TooLarge),
            0 => Ok(Some(bytes)),
            1 => Err(Fault::Internal(
                "grpc: compressed flag set with identity or empty encoding".into(),
            )),
            other => Err(Fault::Internal(format!(
                "grpc: received unexpected payload format {other}"
            ))),
        }
    }

    fn take(&mut self, bytes: usize) -> Option<Bytes> {
        if self.waiting().len() < HEAD_BYTES + bytes {
            return None;
        }
        if self.joined.is_empty() {
            self.frame.advance(HEAD_BYTES);
            return Some(self.frame.split_to(bytes));
        }
        self.joined.advance(HEAD_BYTES);
        Some(self.joined.split_to(bytes).freeze())
    }

    fn push(&mut self, data: Bytes) {
        if self.waiting().is_empty() {
            self.frame = data;
            return;
        }
        self.joined
            .extend_from_slice(&std::mem::take(&mut self.frame));
        self.joined.extend_from_slice(&data);
    }

    async fn data(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.deadline.is_none() && !self.waiting().is_empty() {
            self.deadline = Some(Instant::now() + self.within);
        }
        loop {
            let frame = self.body.frame();
            let frame = match self.deadline {
                None => frame.await,
                Some(deadline) => timeout_at(deadline, frame)
                    .await
                    .map_err(|_| Fault::DeadlineExceeded)?,
            };
            match frame {
                None => return Ok(None),
                Some(Err(status)) => return Err(broken_off(&status)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

pub(super) fn broken_off(status: &Status) -> Fault {
    Fault::BrokenOff(status.code(), status.message().into())
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;
    use crate::etcd::admission::Clients;

    const WITHIN: Duration = Duration::from_millis(50);

    /// Sent in these pieces, and then nothing more, or the end.
    fn frames(pieces: Vec<Vec<u8>>, ends: bool) -> Frames {
        let data =
            stream::iter(pieces).map(|piece| Ok::<_, tonic::Status>(Frame::data(piece.into())));
        let body = match ends {
            true => Body::new(StreamBody::new(data)),
            false => Body::new(StreamBody::new(data.chain(stream::pending()))),
        };
        let client = Clients::new(60 * WITHIN).nameless();
        Frames::new(http::Request::new(body), client, 1 << 20, WITHIN).unwrap()
    }

    fn framed(messages: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            bytes.push(0);
            bytes.extend((message.len() as u32).to_be_bytes());
            bytes.extend(*message);
        }
        bytes
    }

    async fn all(mut frames: Frames) -> Result<Vec<Bytes>, Fault> {
        let mut all = Vec::new();
        while let Some(received) = frames.next().await? {
            all.push(received.message);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn messages_are_whole_however_they_were_cut() {
        let large = vec![7; 3 * SMALL_BYTES];
        let sent: [&[u8]; 5] = [b"one", b"", &large, b"four", &large];
        let bytes = framed(&sent);
        for piece in [1, 2, 5, 6, 7, 1000, SMALL_BYTES, bytes.len()] {
            let pieces = bytes.chunks(piece).map(<[u8]>::to_vec).collect();
            assert_eq!(all(frames(pieces, true)).await.unwrap(), sent, "{piece}");
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused() {
        let wrong = async |bytes: &[u8]| all(frames(vec![bytes.to_vec()], true)).await.unwrap_err();
        let internal = |text: &str| Fault::Internal(text.into());
        let cut = internal("unexpected EOF");
        assert_eq!(wrong(&[0, 0, 0]).await, cut);
        assert_eq!(wrong(&[0, 0, 0, 0, 2, 7]).await, cut);
        assert_eq!(wrong(&[0, 0, 0, 0, 1, 7, 0]).await, cut);
        assert_eq!(wrong(&[0, 0, 0x10, 0, 1]).await, Fault::TooLarge);
        assert_eq!(wrong(&[0, 0xff, 0xff, 0xff, 0xff]).await, Fault::TooLarge);
        let compressed = "grpc: compressed flag set with identity or empty encoding";
        assert_eq!(wrong(&[1, 0, 0, 0, 1, 7]).await, internal(compressed));
        let format = "grpc: received unexpected payload format 9";
        assert_eq!(wrong(&[9, 0, 0, 0, 1, 7]).await, internal(format));
        let nothing = frames(Vec::new(), true).only().await.err().unwrap();
        assert_eq!(nothing, internal("Missing request message."));
    }

    #[tokio::test]
    async fn a_message_that_has_begun_has_to_end_and_a_quiet_stream_has_not() {
        for begun in [&b"\0"[..], &[0, 0, 0, 0, 9, 1], &[0, 0, 8, 0, 0, 1]] {
            let mut stream = frames(vec![framed(&[b"one"]), begun.to_vec()], false);
            assert_eq!(stream.next().await.unwrap().unwrap().message, "one");
            let late = stream.next().await.err();
            assert_eq!(late, Some(Fault::DeadlineExceeded));
        }
        let mut quiet = frames(vec![framed(&[b"one"])], false);
        assert_eq!(quiet.next().await.unwrap().unwrap().message, "one");
        let waits = tokio::time::timeout(2 * WITHIN, quiet.next()).await;
        assert!(waits.is_err());
        let only = frames(Vec::new(), false).only().await.err();
        assert_eq!(only, Some(Fault::DeadlineExceeded));
    }

    #[tokio::test]
    async fn large_messages_of_a_client_have_so_much_room_together() {
        let clients = Clients::new(60 * WITHIN);
        let (a, b) = (clients.named(b"a"), clients.named(b"b"));
        let begin = async |client: &Arc<Client>| {
            let begun = [&[0, 0, 8, 0, 0][..], &[1; 100]].concat();
            let data = stream::iter([Ok::<_, tonic::Status>(Frame::data(begun.into()))]);
            let body = Body::new(StreamBody::new(data.chain(stream::pending())));
            let request = http::Request::new(body);
            let mut frames = Frames::new(request, client.clone(), 1 << 20, 60 * WITHIN).unwrap();
            // Far enough to see whether there was room, with the scheduler's whole patience.
            tokio::task::yield_now().await;
            drop(futures::poll!(std::pin::pin!(frames.next())));
            frames
        };
        let mut begun = Vec::new();
        for _ in 0..1000 {
            let frames = begin(&a).await;
            if frames.room.is_none() {
                break;
            }
            begun.push(frames);
        }
        assert_eq!(begun.len(), (64 << 20) / (512 << 10));
        let mut waits = begin(&a).await;
        assert!(waits.room.is_none());
        assert!(begin(&b).await.room.is_some(), "others have their own");
        begun.pop();
        drop(futures::poll!(std::pin::pin!(waits.next())));
        assert!(waits.room.is_some());
        // Those that need none are served all the while.
        let mut small = frames(vec![framed(&[b"small"])], true);
        small.client = a;
        assert_eq!(small.only().await.unwrap().message, "small");
    }
}
