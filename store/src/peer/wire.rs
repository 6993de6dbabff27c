//! What members say to each other, and frames: a length (four bytes, big endian) and that many bytes. An empty frame
//! ends a stream.

use std::io;
use std::time::Duration;

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::env::ByteStream;
use crate::peer::codec::{self, FRAME_BYTES_MAX};
use crate::raft::types::{PeerNode, SnapshotMeta, TypeConfig, Vote};

/// First frame of a connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub cluster_id: u64,
    pub from: u64,
    pub to: u64,
    pub lane: Lane,
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
    Accepted,
    Refused(String),
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
    Propose(bytes::Bytes),
    /// Up to where must the log be applied to read what is acknowledged now?
    ReadIndex,
    LeaseKeepAlive(i64),
    LeaseLeft(i64),
    Member(MemberChange),
    /// Who belongs to the cluster, as far as the member knows?
    Members,
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
    /// The encoded `kv::Response`.
    Proposed(Vec<u8>),
    ReadIndex(u64),
    /// TTL in seconds; 0 where the lease is unknown.
    LeaseKeptAlive(i64),
    /// Seconds left.
    LeaseLeft(i64),
    MemberChanged,
    Members(Vec<(u64, PeerNode)>),
    Failed(Failure),
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
pub struct FrameReader(BufReader<ReadHalf<Box<dyn ByteStream>>>);

#[derive(Debug)]
pub struct FrameWriter(BufWriter<WriteHalf<Box<dyn ByteStream>>>);

/// A peer that takes this long to take one frame is stuck.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

impl Connection {
    pub fn new(stream: Box<dyn ByteStream>) -> Connection {
        let (reader, writer) = tokio::io::split(stream);
        let reader = FrameReader(BufReader::with_capacity(64 << 10, reader));
        Connection {
            reader,
            writer: FrameWriter(BufWriter::with_capacity(64 << 10, writer)),
        }
    }
}

impl FrameReader {
    /// The next frame; `None` for the empty frame that ends a stream. Waits as long as it takes.
    pub async fn frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        let len = self.0.read_u32().await? as usize;
        if len == 0 {
            return Ok(None);
        }
        if len > FRAME_BYTES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of {len} bytes"),
            ));
        }
        // Grows as bytes arrive: a length alone does not allocate.
        let mut frame = Vec::with_capacity(len.min(64 << 10));
        (&mut self.0)
            .take(len as u64)
            .read_to_end(&mut frame)
            .await?;
        if frame.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
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
        let write = async {
            self.0.write_u32(frame.len() as u32).await?;
            self.0.write_all(frame).await
        };
        timeout(WRITE_DEADLINE, write)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Sends what is buffered.
    pub async fn flush(&mut self) -> io::Result<()> {
        timeout(WRITE_DEADLINE, self.0.flush())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    pub async fn message<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        self.frame(&codec::encode(message)?).await?;
        self.flush().await
    }

    /// Ends a stream.
    pub async fn end(&mut self) -> io::Result<()> {
        self.frame(&[]).await?;
        self.flush().await
    }
}
