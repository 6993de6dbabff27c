//! The language between the test and its members: one JSON value a line over loopback TCP, one request at a time on a
//! connection, except that a watch turns its connection into a stream.

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// A line longer than this is an error.
const LINE_BYTES_MAX: usize = 64 << 20;
/// How long an answer may take; every call of the store has a shorter deadline of its own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What a member is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Write the key.
    Put { key: String, value: String },
    /// Write the key if its last revision is this one (0: if it does not exist).
    Swap {
        key: String,
        expected: i64,
        value: String,
    },
    /// Read one key, linearizably.
    Read { key: String },
    /// Read every key, linearizably.
    Dump,
    /// Send every event from this revision on, for ever.
    Watch { from: i64 },
    /// Which member leads, by id; does not need a quorum.
    Status,
}

/// A key as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    pub key: String,
    pub value: String,
    pub created: i64,
    pub modified: i64,
    pub version: i64,
}

/// A put as a watch delivers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub key: String,
    pub value: String,
    /// Value before, if the key existed.
    pub previous: Option<String>,
}

/// What a member answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Durable on a quorum, at this revision.
    Written { revision: i64 },
    /// The comparison failed; nothing was written.
    Conflict,
    /// The pairs and the revision that they stand for.
    Pairs { revision: i64, pairs: Vec<Pair> },
    /// One revision of a watch.
    Events { revision: i64, events: Vec<Event> },
    /// This member is `member`; `leader` is 0 when it knows none.
    Status {
        member: u64,
        leader: u64,
        revision: i64,
    },
    /// Nothing was written, and it is certain that it never will be.
    Refused { text: String },
    /// It failed, and it is not known whether it took effect.
    Unknown { text: String },
}

/// Lines of JSON both ways.
pub struct Connection {
    lines: BufReader<OwnedReadHalf>,
    out: OwnedWriteHalf,
}

impl Connection {
    /// To a member on this machine.
    pub async fn open(port: u16) -> Result<Connection> {
        let connect = TcpStream::connect(("127.0.0.1", port));
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .context("connecting takes too long")??;
        Connection::over(stream)
    }

    /// Over a connection that exists.
    pub fn over(stream: TcpStream) -> Result<Connection> {
        stream.set_nodelay(true)?;
        let (read, out) = stream.into_split();
        Ok(Connection {
            lines: BufReader::new(read),
            out,
        })
    }

    /// Asks and waits for the answer.
    pub async fn call(&mut self, request: &Request) -> Result<Reply> {
        self.send(request).await?;
        tokio::time::timeout(ANSWER_TIMEOUT, self.receive())
            .await
            .context("no answer in time")?
    }

    /// Sends one value.
    pub async fn send(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        Ok(self.out.write_all(&line).await?)
    }

    /// The next value. An error when the other side is gone.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = Vec::new();
        loop {
            let chunk = self.lines.fill_buf().await?;
            if chunk.is_empty() {
                bail!("the connection has ended");
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            line.extend_from_slice(&chunk[..taken]);
            self.lines.consume(taken);
            if line.len() > LINE_BYTES_MAX {
                bail!("a line is too long");
            }
            if end.is_some() {
                return Ok(serde_json::from_slice(&line)?);
            }
        }
    }
}
