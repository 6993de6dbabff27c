//! What members say to each other, and frames: a length (four bytes, big endian) and that many bytes. An empty frame
//! ends a stream; the length [`ALIVE`] stands alone and says that the peer is still there.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use prometheus::IntCounter;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::data_dir::REPLACE;
use crate::divergence::Digest;
use crate::env::ByteStream;
use crate::metrics::{METRICS, label_of};
use crate::peer::codec::{self, FRAME_BYTES_MAX};
use crate::raft::types::{LogId, PeerNode, SnapshotMeta, TypeConfig, Vote};

/// First frame of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub cluster_id: u64,
    pub from: u64,
    pub to: u64,
    pub lane: Lane,
    /// Of the data directory of `from`.
    pub incarnation: u64,
    /// Of the data directory of `to`, as `from` has met it; 0 where it has not.
    pub to_incarnation: u64,
    /// Where the newest membership that `from` knows stands in the log.
    pub membership: Option<LogId>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// Calls of Raft: votes and heartbeats.
    Raft,
    /// Calls for clients: writes, read indexes, leases.
    Client,
    /// Appends and their answers, in order.
    Append,
    /// One snapshot at a time.
    Snapshot,
}

/// Answer to [`Hello`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Welcome {
    /// By the member with this incarnation.
    Accepted {
        incarnation: u64,
    },
    Refused(Refusal),
}

/// Why a member is not let in. The texts say what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("the certificate is not of member {member:016x} of cluster {cluster:016x}")]
    Stranger { member: u64, cluster: u64 },
    #[error("this is member {me:016x}, not {wanted:016x}")]
    Misdirected { me: u64, wanted: u64 },
    #[error(
        "member {member:016x} has another data directory than before (incarnation {shown:016x}, it was {known:016x}): \
         its data was lost or exchanged. It must not take part under its old id, because it may have promised what it \
         has forgotten. Give it its old directory back; or put a new member in its place, under a new id: {REPLACE}. If \
         the cluster has never worked yet, empty the data directories of all its members and start them again"
    )]
    OtherDirectory { member: u64, known: u64, shown: u64 },
    #[error(
        "member {member:016x} is not in the cluster (any more). Its id is not used again: to bring the machine back, add \
         a member under a new id and start it with an empty data directory"
    )]
    Removed { member: u64 },
    #[error("the introduction could not be stored: {0}")]
    NotStored(String),
    /// As [`Refusal::Removed`], and it will never be added: its id was another directory's.
    #[error(
        "member {member:016x} is not in the cluster any more: it was removed, and this is another data directory than it \
         had. Its id is not used again: to bring the machine back, put a new member on it, under a new id: {REPLACE}"
    )]
    Gone { member: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    pub id: u64,
    pub request: Request,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    pub id: u64,
    pub response: Response,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    TransferLeader(TransferLeaderRequest<TypeConfig>),
    /// An encoded `kv::Entry` for the leader.
    Propose(#[serde(deserialize_with = "codec::bytes")] Bytes),
    /// Up to where must the log be applied to read what is acknowledged now?
    ReadIndex,
    LeaseKeepAlive(i64),
    LeaseLeft(i64),
    Member(MemberChange),
    /// Before there is a cluster: whom has the member met, and who shall form it?
    Greet,
    /// What is the member's state after this entry of the log?
    StateDigest(u64),
    /// What does the member say of itself?
    Report,
}

/// A change of the membership, carried out by the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MemberChange {
    AddLearner {
        id: u64,
        node: PeerNode,
    },
    Promote {
        id: u64,
    },
    Remove {
        id: u64,
    },
    /// A member tells under which addresses it can be reached.
    Describe {
        id: u64,
        node: PeerNode,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    Append(AppendEntriesResponse<TypeConfig>),
    Vote(VoteResponse<TypeConfig>),
    TransferLeader(TransferLeaderResponse<TypeConfig>),
    /// The encoded `kv::Response`, or the end of it after the parts.
    Proposed(#[serde(deserialize_with = "codec::bytes")] Bytes),
    /// The next part of an answer that is too large for one frame.
    Part(#[serde(deserialize_with = "codec::bytes")] Bytes),
    ReadIndex(u64),
    /// TTL in seconds; 0 where the lease is unknown.
    LeaseKeptAlive(i64),
    /// Seconds left.
    LeaseLeft(i64),
    MemberChanged,
    Greeting(Greeting),
    Failed(Failure),
    /// Nothing where the entry is not applied yet, or was too long ago.
    StateDigest(Option<Digest>),
    /// An encoded [`crate::MemberReport`].
    Report(Bytes),
}

/// What a member knows before there is a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Of itself and of all it has met, stored durably.
    pub incarnations: BTreeMap<u64, u64>,
    /// The initial members it was started with.
    pub founders: Vec<u64>,
    /// Whether it has a log already, or has voted.
    pub formed: bool,
}

/// Why a call was not carried out. Nothing was written, except where it says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Failure {
    NotLeader,
    Overloaded,
    Stopped,
    /// Leadership was lost while a write was under way: it may have taken effect.
    LeaderChanged,
    /// Written, but not committed in time: it may still take effect.
    TimedOut,
    /// Carried out, but the answer is too large to bring over.
    AnswerTooLarge,
    /// Refused, in words.
    Refused(String),
}

/// First frame on the snapshot lane; the files follow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotHeader {
    pub vote: Vote,
    pub meta: SnapshotMeta,
    pub files: Vec<SnapshotFile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotFile {
    pub name: String,
    pub bytes: u64,
}

/// Ends a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotFileEnd {
    pub crc32c: u32,
}

/// Answers a snapshot: the receiver's vote, or why it was not installed.
pub type SnapshotAnswer = Result<Vote, String>;

/// One answer on the append lane, or why the member cannot answer any more.
pub type AppendAnswer = Result<StreamAppendResult<TypeConfig>, String>;

/// A connection, encrypted and welcome.
#[derive(Debug)]
pub struct Connection {
    pub reader: FrameReader,
    pub writer: FrameWriter,
}

#[derive(Debug)]
pub struct FrameReader {
    stream: BufReader<ReadHalf<Box<dyn ByteStream>>>,
    /// Of the bytes of frames; none before it is known whose they are.
    received: Option<IntCounter>,
}

#[derive(Debug)]
pub struct FrameWriter {
    stream: BufWriter<WriteHalf<Box<dyn ByteStream>>>,
    sent: Option<IntCounter>,
    /// The last message, and room for the next.
    encoded: Vec<u8>,
}

/// Largest answer to a call, in parts; who asks collects it in memory.
pub const ANSWER_BYTES_MAX: usize = 1 << 30;

/// Before a frame.
const LENGTH_BYTES: usize = 4;

/// In the place of a length: no frame follows.
pub(crate) const ALIVE: u32 = u32::MAX;

/// Of the memory of a message, kept for the next one.
const ROOM_BYTES: usize = 256 << 10;

/// What a record of TLS brings, at most. The rest of a larger frame is read to its place without a copy.
const READ_BYTES: usize = 16 << 10;
/// What is gathered before it is sent.
const WRITE_BYTES: usize = 64 << 10;
/// A frame that is not larger is not moved as it arrives: a batch of writes is not.
const FRAME_ROOM: usize = 512 << 10;

/// A peer that takes this long to take one frame is stuck.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

impl Connection {
    pub fn new(stream: Box<dyn ByteStream>) -> Connection {
        let (reader, writer) = tokio::io::split(stream);
        Connection {
            reader: FrameReader {
                stream: BufReader::with_capacity(READ_BYTES, reader),
                received: None,
            },
            writer: FrameWriter {
                stream: BufWriter::with_capacity(WRITE_BYTES, writer),
                sent: None,
                encoded: Vec::new(),
            },
        }
    }

    /// From now on it counts as this member's.
    pub fn is_with(&mut self, member: u64) {
        let member = [label_of(member)];
        let received = METRICS.peer_received_bytes.with_label_values(&member);
        self.reader.received = Some(received);
        let sent = METRICS.peer_sent_bytes.with_label_values(&member);
        self.writer.sent = Some(sent);
    }
}

impl FrameReader {
    /// The next frame; `None` for the empty frame that ends a stream. Waits as long as it takes.
    pub async fn frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let len = self.stream.read_u32().await?;
            if len != ALIVE {
                return self.body(len as usize).await;
            }
        }
    }

    /// The next frame, if there is a sign of life at least this often: the dialling end gives one when it has nothing to
    /// say, so a connection that is silent for longer leads nowhere.
    pub async fn frame_from_living(&mut self, silence: Duration) -> io::Result<Option<Vec<u8>>> {
        let silent = |_| io::Error::new(io::ErrorKind::TimedOut, "the peer gives no sign of life");
        loop {
            let len = timeout(silence, self.stream.read_u32())
                .await
                .map_err(silent)??;
            if len != ALIVE {
                let body = self.body(len as usize);
                return timeout(silence, body).await.map_err(silent)?;
            }
        }
    }

    async fn body(&mut self, len: usize) -> io::Result<Option<Vec<u8>>> {
        if len == 0 {
            return Ok(None);
        }
        if len > FRAME_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of {len} bytes"),
            ));
        }
        // A larger one grows as bytes arrive: a length alone does not allocate much.
        let mut frame = Vec::with_capacity(len.min(FRAME_ROOM));
        (&mut self.stream)
            .take(len as u64)
            .read_to_end(&mut frame)
            .await?;
        if frame.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(received) = &self.received {
            received.inc_by((LENGTH_BYTES + len) as u64);
        }
        Ok(Some(frame))
    }

    /// The next frame as a message, which must come within the deadline.
    pub async fn message<T: serde::de::DeserializeOwned>(
        &mut self,
        deadline: Duration,
    ) -> io::Result<T> {
        let frame = timeout(deadline, self.frame())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        codec::decode(&frame.ok_or(io::ErrorKind::UnexpectedEof)?)
    }
}

impl FrameWriter {
    /// Buffers a frame.
    pub async fn frame(&mut self, frame: &[u8]) -> io::Result<()> {
        if let Some(sent) = &self.sent {
            sent.inc_by((LENGTH_BYTES + frame.len()) as u64);
        }
        let write = async {
            self.stream.write_u32(frame.len() as u32).await?;
            // A large frame would push out its length, which would wake the other end for four bytes.
            let room = WRITE_BYTES.saturating_sub(self.stream.buffer().len());
            let (first, rest) = frame.split_at(room.min(frame.len()));
            self.stream.write_all(first).await?;
            self.stream.write_all(rest).await
        };
        timeout(WRITE_DEADLINE, write)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Sends what is buffered.
    pub async fn flush(&mut self) -> io::Result<()> {
        timeout(WRITE_DEADLINE, self.stream.flush())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Encodes a message, in memory that the one before has left; [`FrameWriter::encoded`] buffers it.
    pub fn encode<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let encoded = codec::encode_into(message, &mut self.encoded);
        if encoded.is_err() {
            // It may have been larger than any frame, and the connection may be kept without another message.
            self.encoded = Vec::new();
        }
        encoded
    }

    /// Buffers the message that was encoded last.
    pub async fn encoded(&mut self) -> io::Result<()> {
        let encoded = std::mem::take(&mut self.encoded);
        self.frame(&encoded).await?;
        if encoded.capacity() <= ROOM_BYTES {
            self.encoded = encoded;
        }
        Ok(())
    }

    pub async fn message<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        self.encode(message)?;
        self.encoded().await?;
        self.flush().await
    }

    /// Gives a sign of life.
    pub async fn alive(&mut self) -> io::Result<()> {
        let write = self.stream.write_u32(ALIVE);
        timeout(WRITE_DEADLINE, write)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        self.flush().await
    }

    /// Ends a stream.
    pub async fn end(&mut self) -> io::Result<()> {
        self.frame(&[]).await?;
        self.flush().await
    }
}

/// A stream whose writes are counted.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Counted {
    stream: tokio::io::DuplexStream,
    writes: Lengths,
}

/// Of writes, in their order.
#[cfg(test)]
type Lengths = std::sync::Arc<std::sync::Mutex<Vec<usize>>>;

#[cfg(test)]
mod counted {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

    use super::*;

    impl Counted {
        pub(crate) fn new(stream: DuplexStream) -> (Counted, Lengths) {
            let writes = Lengths::default();
            let counted = Counted {
                stream,
                writes: writes.clone(),
            };
            (counted, writes)
        }
    }

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = Pin::new(&mut self.stream).poll_write(context, bytes);
            if let Poll::Ready(Ok(count)) = &written {
                self.writes.lock().unwrap().push(*count);
            }
            written
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_length_of_a_frame_goes_with_its_beginning() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (near, writes) = Counted::new(near);
        let mut writer = Connection::new(Box::new(near)).writer;
        let mut reader = Connection::new(Box::new(far)).reader;
        let whole = WRITE_BYTES - LENGTH_BYTES;
        for len in [1, whole - 1, whole, whole + 1, 2 * WRITE_BYTES, 300_000] {
            let frame: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            writer.frame(&frame).await.unwrap();
            writer.flush().await.unwrap();
            let sent = std::mem::take(&mut *writes.lock().unwrap());
            assert_eq!(sent[0], WRITE_BYTES.min(LENGTH_BYTES + len), "{len}");
            assert_eq!(sent.iter().sum::<usize>(), LENGTH_BYTES + len, "{len}");
            let received = reader.frame().await.unwrap();
            assert!(received.as_ref() == Some(&frame), "{len}");
        }
        // Behind one that waits to be sent.
        for len in [WRITE_BYTES / 2, WRITE_BYTES, 300_000] {
            writer.frame(&vec![1; WRITE_BYTES / 2]).await.unwrap();
            writer.frame(&vec![2; len]).await.unwrap();
            writer.flush().await.unwrap();
            let first = reader.frame().await.unwrap();
            assert!(first == Some(vec![1; WRITE_BYTES / 2]), "{len}");
            assert!(reader.frame().await.unwrap() == Some(vec![2; len]), "{len}");
        }
    }

    #[tokio::test]
    async fn signs_of_life_are_no_frames_and_silence_is_an_end() {
        let (near, far) = tokio::io::duplex(1 << 10);
        let mut writer = Connection::new(Box::new(near)).writer;
        let mut reader = Connection::new(Box::new(far)).reader;
        for _ in 0..3 {
            writer.alive().await.unwrap();
        }
        writer.frame(b"frame").await.unwrap();
        writer.alive().await.unwrap();
        writer.end().await.unwrap();
        let long = Duration::from_secs(30);
        let frame = reader.frame_from_living(long).await.unwrap();
        assert_eq!(frame.as_deref(), Some(b"frame".as_slice()));
        assert_eq!(reader.frame_from_living(long).await.unwrap(), None);
        writer.alive().await.unwrap();
        let silent = reader.frame_from_living(Duration::from_millis(20)).await;
        assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
