//! The seams: clock, network and storage as the store sees them. Real implementations are here, in `files` and in
//! `rocks`; a simulation can stand in for each. What else a machine gives is in [`crate::host`].

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::disk::{Position, Record};
use crate::disk_space::Space;
pub use crate::files::{Files, Lock, NewFile};
use crate::history::Moment;
use crate::raft::types::{LogId, Vote};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock, milliseconds since 1970. For information only.
    fn unix_ms(&self) -> i64;
    /// Time that never goes back, since some moment in the past.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn unix_ms(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A connection: bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin + Debug> ByteStream for T {}

/// How members reach each other. Encryption and identity stand above it.
pub trait Network: Send + Sync + 'static {
    fn dial(&self, address: String) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>>;
    fn listen(&self, address: String) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;
    /// Who knows for certain which member is at the other end of a connection. Only a simulated network has somebody;
    /// on a real one members prove it to each other by certificates.
    fn voucher(&self) -> Option<Arc<dyn Voucher>> {
        None
    }
}

/// See [`Network::voucher`].
pub trait Voucher: Send + Sync + 'static {
    /// The member that an address belongs to, one that was dialled or one that a connection came from.
    fn member_at(&self, address: &str) -> Option<u64>;
}

/// Where connections come in.
pub trait Listener: Send + 'static {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, String)>>;
}

/// TCP without delay for small frames.
pub struct Tcp;

impl Network for Tcp {
    fn dial(&self, address: String) -> BoxFuture<'_, io::Result<Box<dyn ByteStream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }

    fn listen(&self, address: String) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(
            async move { Ok(Box::new(TcpListener::bind(&address).await?) as Box<dyn Listener>) },
        )
    }
}

impl Listener for TcpListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, String)>> {
        Box::pin(async move {
            let (stream, address) = TcpListener::accept(self).await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Box<dyn ByteStream>, address.to_string()))
        })
    }
}

/// Opens a member's storage in a directory that is its own and locked.
pub trait Engine: Send + Sync + 'static {
    /// With `create` for a directory without data; else data that is missing is damage.
    fn open_log(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn LogDisk>>;
    fn open_state(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn StateDisk>>;
    /// What the state would be of if it were opened, found without a change to what is stored; nothing where that is known
    /// only by opening it. Opening may be for good: an engine goes on from what it could read, and removes the rest.
    fn look_at_state(&self, dir: &Path) -> io::Result<Option<Position>> {
        let _ = dir;
        Ok(None)
    }
    /// How much room the disk of a directory has.
    fn space(&self, dir: &Path) -> io::Result<Space> {
        crate::disk_space::space_of(dir)
    }
    /// Where the small files of a directory are.
    fn files(&self) -> Arc<dyn Files> {
        crate::files::real()
    }
}

/// One change of the stored log, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum LogOp {
    /// An encoded entry.
    Append {
        index: u64,
        record: Record,
    },
    Vote(Vote),
    /// Entries from this index on are gone.
    Truncate {
        from: u64,
    },
    /// Entries up to and including this one are gone.
    Purge(LogId),
    /// How far the log is committed; need not survive a crash.
    Committed(Option<LogId>),
}

/// The log as found at start, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogFound {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
}

/// Where the log is stored. One writer; readers beside it.
pub trait LogDisk: Send + Sync + 'static {
    fn found(&self) -> LogFound;
    /// Writes all of it, and if `durable` returns only when it survives a power cut. An error is final: what has
    /// reached the disk is not known then, and nothing may be written any more.
    fn write(&self, ops: &[LogOp], durable: bool) -> io::Result<()>;
    /// Stored records of these indexes, ascending.
    fn read(&self, range: Range<u64>) -> io::Result<Vec<(u64, Bytes)>>;
    /// Bytes of all stored records. 0 where that is not counted.
    fn bytes(&self) -> u64 {
        0
    }
    /// On a simulated machine a write is told of before it is made, and this answers how long it takes: a crash in that
    /// time leaves some of it. A real disk takes its time by itself, and is not asked.
    fn begin(&self, ops: &[LogOp], durable: bool) -> Duration {
        let _: (&[LogOp], bool) = (ops, durable);
        Duration::ZERO
    }
}

/// Looks at a state before it is put in place.
pub type StateCheck<'a> = dyn FnMut(&dyn StateDb) -> io::Result<()> + 'a;

/// The state on disk. It can be replaced as a whole, while readers of the old one finish.
pub trait StateDisk: Send + Sync + 'static {
    fn opened(&self) -> Arc<dyn StateDb>;
    /// A directory on the same file system, for a snapshot on its way in or out.
    fn staging(&self) -> io::Result<tempdir::StagingDir>;
    /// Puts the database in this directory in the place of the state, if `check` accepts it: all of it or, after a
    /// crash or a refusal, nothing. The answer shows it to new readers, which is quick: `opened` is the old one until
    /// then, so that nobody waits for the slow part.
    fn install(&self, from: &Path, check: &mut StateCheck<'_>) -> io::Result<ShowState<'_>>;
    /// Begins to read all of it again, from the disk and not from any memory. Nothing where there is none to be read.
    fn scrub(&self) -> io::Result<Option<Box<dyn ScrubPass>>> {
        Ok(None)
    }
}

/// A look at all that is stored, a little at a time.
pub trait ScrubPass: Send {
    /// Reads on. Answers how many bytes that was, and nothing at the end. An error of the kind `InvalidData` where what
    /// is there is not what was written. Blocks.
    fn step(&mut self) -> io::Result<Option<u64>>;
}

/// See [`StateDisk::install`].
pub type ShowState<'a> = Box<dyn FnOnce() + Send + 'a>;

/// One opened state.
pub trait StateDb: kv::Data + Send + Sync + 'static {
    /// Where it stands, and the catalog of what it holds. Reads everything once.
    fn load(&self) -> io::Result<(Position, kv::Catalog)>;
    /// Stores a batch atomically. It is durable only after the next `flush`.
    fn write(&self, writes: &[kv::Write], position: &Position) -> io::Result<()>;
    /// What was written before the call is durable after it.
    fn flush(&self) -> io::Result<()>;
    /// Writes a consistent, durable copy into a directory that does not exist yet; answers where the copy stands.
    fn checkpoint(&self, to: &Path) -> io::Result<Position>;
    /// The data as it is at this moment, whatever is written later.
    fn snapshot(&self) -> Box<dyn kv::Data + '_>;
    /// The first revision from this one on that has events, and when it was made.
    fn next_moment(&self, from: i64) -> Result<Option<Moment>, kv::Broken>;
    /// As `snapshot`, for one pass over much: what is read does not take the place of what is read often.
    fn scan_snapshot(&self) -> Box<dyn kv::Data + '_>;
    /// Events from one revision to another, ascending, until the visitor answers false.
    fn events(
        &self,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(kv::EventId, kv::Event) -> bool,
    ) -> Result<(), kv::Broken>;
    /// Bytes on disk and in memory tables.
    fn size_bytes(&self) -> u64;
}

/// Directories that go away with their owner.
pub mod tempdir {
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use super::Files;

    /// A directory that is removed when this is dropped.
    #[derive(Debug)]
    pub struct StagingDir {
        path: PathBuf,
        files: Arc<dyn Files>,
    }

    impl StagingDir {
        pub fn create(path: PathBuf) -> io::Result<StagingDir> {
            StagingDir::create_in(crate::files::real(), path)
        }

        pub fn create_in(files: Arc<dyn Files>, path: PathBuf) -> io::Result<StagingDir> {
            files.create_dir(&path)?;
            Ok(StagingDir { path, files })
        }

        pub fn path(&self) -> &Path {
            &self.path
        }

        pub fn files(&self) -> &Arc<dyn Files> {
            &self.files
        }
    }

    impl Drop for StagingDir {
        fn drop(&mut self) {
            if let Err(error) = self.files.remove(&self.path) {
                tracing::warn!(path = %self.path.display(), %error, "a temporary directory was left behind");
            }
        }
    }
}
