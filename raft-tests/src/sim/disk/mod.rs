//! A member's disk, in memory, with what disks do: what was not synced may be gone after a crash, a write that a crash
//! cut short is there in part, a sync fails, a bit is wrong later, there is no room, and all of it takes time.
//!
//! The disk outlives the processes that use it. Each process gets it under a new life; what an earlier life still wants
//! to write is refused, as a kernel that is gone would.

mod files;
mod log;
mod saved;
mod state;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use store::Space;
use store::env::{Engine, Files, LogDisk, StateDisk};

use self::files::FileTree;
use self::log::StoredLog;
use self::state::StoredState;
use super::raft::Logged;

/// How a process ended, as its disk sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is gone, and the system goes on: what it had written is there.
    Kill,
    /// The machine is gone: only what was synced is there for certain.
    PowerLoss,
}

/// What can be wrong with a disk on purpose ([`crate::mutants`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    #[default]
    None,
    /// Says that it is synced, and only means to.
    AcksBeforeSync,
    /// Loses votes at a crash.
    ForgetsVotes,
}

/// See the module head. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    rng: SmallRng,
    flaw: Flaw,
    life: u64,
    log: StoredLog,
    state: StoredState,
    files: FileTree,
    /// A sync takes up to so long.
    sync_max: Duration,
    /// Syncs fail from now on.
    broken: bool,
    full: bool,
    /// Syncs that were waited for.
    syncs: u64,
    /// Snapshots that came from elsewhere.
    installed: u64,
}

const SYNC_MAX: Duration = Duration::from_millis(4);
/// Of a sync, however fast the disk is.
const SYNC_MIN: Duration = Duration::from_micros(100);
const DISK_BYTES: u64 = 100 << 30;

impl Disk {
    pub fn new(seed: u64, flaw: Flaw) -> Disk {
        Disk(Arc::new(Mutex::new(Inner {
            rng: SmallRng::seed_from_u64(seed),
            flaw,
            life: 0,
            log: StoredLog::default(),
            state: StoredState::default(),
            files: FileTree::default(),
            sync_max: SYNC_MAX,
            broken: false,
            full: false,
            syncs: 0,
            installed: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine of the next process.
    pub fn engine(&self) -> Arc<dyn Engine> {
        let mut inner = self.lock();
        inner.life += 1;
        let life = inner.life;
        inner.files.unlock();
        drop(inner);
        Arc::new(Life {
            disk: self.clone(),
            life,
        })
    }

    /// Ends the life of the process that uses it. Chance decides what is left of what was not synced.
    pub fn crash(&self, how: Crash) {
        let inner = &mut *self.lock();
        let log = inner.log.draw_kept(how, &mut inner.rng);
        let batches = inner.state.draw_kept(&mut inner.rng);
        inner.crash(how, log, batches);
    }

    /// As [`Disk::crash`], with so many changes of the log and batches of the state left of those that were not synced.
    pub fn crash_keeping(&self, how: Crash, log: usize, batches: usize) {
        self.lock().crash(how, log, batches);
    }

    /// How long a sync takes at most from now on.
    pub fn set_pace(&self, sync_max: Option<Duration>) {
        self.lock().sync_max = sync_max.unwrap_or(SYNC_MAX).max(2 * SYNC_MIN);
    }

    /// Has every sync fail until the next crash.
    pub fn break_syncs(&self) {
        self.lock().broken = true;
    }

    /// Whether whoever uses it has to be started anew to go on.
    pub fn is_unwell(&self) -> bool {
        let inner = self.lock();
        inner.broken || inner.log.is_rotten()
    }

    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Changes a bit of an entry of the log that was synced; false where there is none.
    pub fn flip_bit(&self) -> bool {
        let inner = &mut *self.lock();
        inner.log.flip_bit(&mut inner.rng)
    }

    /// Whether a process has opened the log since then, and found nothing wrong.
    pub fn is_taken_rotten(&self) -> bool {
        self.lock().log.is_taken_rotten()
    }

    /// Takes that back, while nobody uses the disk.
    pub fn mend(&self) {
        self.lock().log.mend();
    }

    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// What of the log has become durable since the last call.
    pub fn take_journal(&self) -> Vec<Logged> {
        self.lock().log.take_journal()
    }

    /// How many snapshots have taken the place of a state.
    pub fn installed(&self) -> u64 {
        self.lock().installed
    }
}

/// The disk as one process has it.
#[derive(Clone, Debug)]
struct Life {
    disk: Disk,
    life: u64,
}

impl Life {
    /// The disk, if this process still lives.
    fn lock(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.lock();
        match inner.life == self.life {
            true => Ok(inner),
            false => Err(io::Error::other("this process is no more")),
        }
    }
}

impl Inner {
    fn crash(&mut self, how: Crash, log: usize, batches: usize) {
        self.life += 1;
        self.broken = false;
        self.log.crash(self.flaw, log);
        self.state.crash(batches);
        self.files.crash(how);
    }

    fn sync_time(&mut self) -> Duration {
        // Mostly quick, now and then as long as it can be.
        let max = match self.rng.random_range(0..20) {
            0 => self.sync_max,
            _ => (self.sync_max / 4).max(2 * SYNC_MIN),
        };
        self.rng.random_range(SYNC_MIN..max)
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.syncs += 1;
        Ok(())
    }
}

const EIO: i32 = 5;

impl Engine for Life {
    fn open_log(&self, _: &Path, create: bool) -> io::Result<Arc<dyn LogDisk>> {
        Ok(Arc::new(log::Log::open(self.clone(), create)?))
    }

    fn open_state(&self, dir: &Path, create: bool) -> io::Result<Arc<dyn StateDisk>> {
        Ok(Arc::new(state::State::open(self.clone(), dir, create)?))
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        let full = self.lock()?.full;
        Ok(Space {
            free: if full { 1 << 20 } else { DISK_BYTES / 2 },
            total: DISK_BYTES,
        })
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(self.clone())
    }
}
