//! What the disk of the state has not got yet, in bytes: when there is much of it, the state is flushed. And how much of
//! the log below that is worth keeping for members that are a little behind.
//!
//! Both go by bytes, because entries have a few hundred bytes or more than a million: so many entries would be a flush
//! for nothing, or a log that fills the disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kv::Write;
use tokio::time::Instant;

use crate::core::Core;
use crate::raft::types::TypeConfig;

/// A flush takes about so long.
const FLUSH: Duration = Duration::from_secs(1);
/// Between two looks at how much there is.
const LOOK: Duration = Duration::from_secs(3);

/// When less than the limit is flushed, so that a member at rest gives the memory back: where no more than so much has come
/// between two looks, so much at least, and so seldom, that the files do not come to be many and small.
struct Pace {
    came: u64,
    least: u64,
    every: Duration,
}

/// Nothing comes any more: members tell of themselves all the time.
const CALM: Pace = Pace {
    came: 256 << 10,
    least: 4 << 20,
    every: Duration::from_secs(60),
};
/// Little comes, as from a cluster of thousands of nodes with nothing to do but to renew their leases: a megabyte a second.
const SLOW: Pace = Pace {
    came: 6 << 20,
    least: 6 << 20,
    every: Duration::from_secs(6),
};

/// Places remembered are so many bytes apart.
const STEP: u64 = 1 << 20;
/// Places remembered.
const PLACES: usize = 4096;

/// What was applied since this member started, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    total: u64,
    flushed: u64,
    /// Places on the way: the last entry of a batch, and the bytes up to it.
    reached: VecDeque<(u64, u64)>,
}

/// A moment in the backlog.
#[derive(Clone, Copy)]
pub(crate) struct Place(u64);

impl Backlog {
    /// A batch that ends with this entry was applied; answers what is not flushed.
    pub(crate) fn applied(&mut self, index: u64, bytes: u64) -> u64 {
        self.total += bytes;
        let last = self.reached.back().map_or(0, |(_, reached)| *reached);
        if self.total - last >= STEP {
            if self.reached.len() == PLACES {
                self.reached.pop_front();
            }
            self.reached.push_back((index, self.total));
        }
        self.total - self.flushed
    }

    /// All that has been applied.
    pub(crate) fn place(&self) -> Place {
        Place(self.total)
    }

    /// What was applied at that place is flushed; answers what is not.
    pub(crate) fn flushed(&mut self, place: Place) -> u64 {
        self.flushed = self.flushed.max(place.0);
        self.total - self.flushed
    }

    /// The state is another one, which is on the disk.
    pub(crate) fn replaced(&mut self) {
        self.flushed = self.total;
        self.reached.clear();
    }

    /// An entry with so many bytes after it: it and all before it need not be kept.
    pub(crate) fn dispensable(&self, kept: u64) -> Option<u64> {
        let old = (self.reached).partition_point(|(_, reached)| self.total - reached >= kept);
        old.checked_sub(1).map(|last| self.reached[last].0)
    }
}

/// Bytes that a batch takes in memory until it is flushed, nearly.
pub(crate) fn footprint(writes: &[Write]) -> u64 {
    /// Of an entry in a table in memory.
    const ENTRY: usize = 64;
    let pair = |kv: &kv::KeyValue| kv.key.len() + kv.value.len();
    let of = |write: &Write| match write {
        Write::Put(kv) => ENTRY + pair(kv),
        Write::Delete(key) => ENTRY + key.len(),
        Write::Events { events, .. } => {
            let event = |event: &kv::Event| {
                ENTRY + pair(&event.kv) + event.prev_kv.as_ref().map_or(0, pair)
            };
            events.iter().map(event).sum()
        }
        Write::Record { name, value } => {
            ENTRY + name.len() + value.as_ref().map_or(0, |value| value.len())
        }
        Write::Lease(_) | Write::LeaseEnd(_) | Write::Compact(_) => ENTRY,
        Write::Revision(_) | Write::Hash(_) => 0,
    };
    writes.iter().map(of).sum::<usize>() as u64
}

/// How fast it comes, by looks at what is not flushed.
#[derive(Default)]
struct Looks {
    /// At the last look, if there was no flush since.
    seen: u64,
    /// Between the last two looks.
    came: u64,
    flushed: Option<Instant>,
}

impl Looks {
    /// The pace at which this is the time to flush what is too little for it by itself.
    fn pace(&mut self, unflushed: u64, now: Instant) -> Option<&'static Pace> {
        let before = std::mem::replace(&mut self.seen, unflushed);
        let came = unflushed.saturating_sub(before);
        self.came = came;
        let since = self.flushed.map(|last| now.duration_since(last));
        let is_due = |pace: &&Pace| {
            let is_early = since.is_some_and(|since| since < pace.every);
            came <= pace.came && unflushed >= pace.least && !is_early
        };
        let due = [&CALM, &SLOW].into_iter().find(is_due);
        if due.is_some() {
            self.flushed = Some(now);
            self.start_anew();
        }
        due
    }

    /// Whether little has come between the last two looks.
    fn is_slow(&self) -> bool {
        self.came <= SLOW.came
    }

    /// After a flush all that is not flushed has come since. What was seen before it would hide as much.
    fn start_anew(&mut self) {
        self.seen = 0;
    }
}

/// At how many bytes a member flushes: each of a cluster at another size, within an eighth. They apply the same, and
/// would all be busy with a flush at the same moment, so that no quorum is quick.
fn flush_at(bytes: u64, member: u64) -> u64 {
    bytes - bytes / 8 * (member % 256) / 256
}

impl Core {
    /// Has the state flushed, and the log shortened, for as long as this member runs. Raft itself does both by the number
    /// of entries. And has what is held of the last writes let go of while little comes.
    pub async fn run_flushing(self: Arc<Self>) {
        let limit = flush_at(self.config.limits.snapshot_bytes, self.config.member_id);
        let mut unflushed = self.replica.unflushed();
        let mut looks = Looks::default();
        loop {
            let much = unflushed.wait_for(|bytes| *bytes >= limit);
            let much = tokio::time::timeout(LOOK, much).await;
            let goal = match much.map(|alive| alive.is_ok()) {
                Ok(true) => {
                    looks.start_anew();
                    limit
                }
                Ok(false) => return,
                Err(_) => {
                    let now = *unflushed.borrow();
                    let pace = looks.pace(now, Instant::now());
                    if looks.is_slow() {
                        self.replica.rest();
                    }
                    match pace {
                        Some(pace) => pace.least,
                        None => continue,
                    }
                }
            };
            if self.raft.trigger().snapshot().await.is_err() {
                return;
            }
            // A flush that was under way already may leave much: then again.
            let little = unflushed.wait_for(|bytes| *bytes < goal);
            let flushed = tokio::time::timeout(FLUSH, little).await;
            if flushed.is_ok_and(|alive| alive.is_ok()) {
                self.shorten_log().await;
            }
        }
    }

    /// Has what need not be kept taken out of the log, which Raft does only where it knows of the flush.
    async fn shorten_log(&self) {
        let flushed = self.replica.flushed();
        let knows = |metrics: &openraft::RaftMetrics<TypeConfig>| metrics.snapshot >= flushed;
        let Some(index) = self.replica.dispensable(self.config.limits.log_bytes_kept) else {
            return;
        };
        let raft = self.raft.wait(Some(FLUSH));
        if let Err(error) = raft.metrics(knows, "a flush").await {
            tracing::debug!(%error, "the log is shortened after the next flush");
        } else if let Err(error) = self.raft.trigger().purge_log(index).await {
            tracing::debug!(%error, "the log is not shortened");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_while_a_flush_ran_waits_for_the_next() {
        let mut backlog = Backlog::default();
        backlog.applied(1, 60);
        assert_eq!(backlog.applied(2, 60), 120);
        let place = backlog.place();
        backlog.applied(3, 7);
        assert_eq!(backlog.flushed(place), 7);
        assert_eq!(backlog.flushed(place), 7);
        backlog.replaced();
        assert_eq!(backlog.applied(4, 1), 1);
    }

    #[test]
    fn what_is_little_is_flushed_once_nothing_comes_any_more() {
        let start = Instant::now();
        let mut looks = Looks::default();
        let mut is_flushed = |seconds, unflushed| {
            let now = start + Duration::from_secs(seconds);
            looks.pace(unflushed, now).map(|pace| pace.least)
        };
        let some = CALM.least + CALM.came;
        assert_eq!(is_flushed(0, CALM.least), None, "it comes");
        assert_eq!(is_flushed(5, some + 1), None, "it comes still");
        assert_eq!(is_flushed(10, some + CALM.came), Some(CALM.least));
        assert_eq!(is_flushed(15, 0), None, "there is nothing");
        assert_eq!(is_flushed(20, some), None);
        assert_eq!(is_flushed(69, some), None, "too soon");
        assert_eq!(is_flushed(70, some), Some(CALM.least));
        assert_eq!(is_flushed(200, CALM.least - 1), None, "too little");
    }

    #[test]
    fn a_little_at_a_time_does_not_wait_until_it_is_much() {
        let start = Instant::now();
        let mut looks = Looks::default();
        let mut is_flushed = |seconds, unflushed| {
            let now = start + Duration::from_secs(seconds);
            looks.pace(unflushed, now).is_some()
        };
        let third = SLOW.least / 3;
        assert!(!is_flushed(0, third));
        assert!(!is_flushed(3, 2 * third + 1));
        assert!(is_flushed(6, SLOW.least));
        assert!(!is_flushed(9, third));
        assert!(!is_flushed(11, SLOW.least), "too soon");
        assert!(is_flushed(12, SLOW.least + third));
        // Where much comes, the limit counts.
        assert!(!is_flushed(21, 1));
        assert!(!is_flushed(24, 2 + SLOW.came));
        assert!(!is_flushed(27, 3 + 2 * SLOW.came));
        assert!(is_flushed(30, 3 + 3 * SLOW.came));
    }

    #[test]
    fn it_is_slow_where_little_came_between_two_looks() {
        let start = Instant::now();
        let mut looks = Looks::default();
        let mut is_slow = |seconds, unflushed| {
            looks.pace(unflushed, start + Duration::from_secs(seconds));
            looks.is_slow()
        };
        assert!(!is_slow(0, SLOW.came + 1));
        assert!(is_slow(3, 2 * SLOW.came + 1));
        assert!(!is_slow(6, 4 * SLOW.came));
        assert!(is_slow(9, 4 * SLOW.came));
        assert!(is_slow(12, 0));
    }

    #[test]
    fn what_is_flushed_as_much_does_not_hide_how_fast_it_comes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut looks = Looks::default();
        // The limit is reached between two looks, again and again.
        for turn in 0..5 {
            let due = looks.pace(4 * SLOW.came, at(100 * turn));
            assert!(due.is_none(), "{turn}");
            looks.start_anew();
        }
        let due = looks.pace(SLOW.least, at(900));
        assert!(due.is_some(), "it comes slowly now");
    }

    #[test]
    fn members_flush_at_different_sizes() {
        assert_eq!(flush_at(32 << 20, 0), 32 << 20);
        assert_eq!(flush_at(32 << 20, 128), 30 << 20);
        assert!(flush_at(32 << 20, 255) > 28 << 20);
    }

    #[test]
    fn so_much_of_the_log_is_kept_and_no_less() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.dispensable(0), None);
        for index in 1..=30 {
            backlog.applied(index, STEP);
        }
        assert_eq!(backlog.dispensable(30 * STEP), None);
        assert_eq!(backlog.dispensable(10 * STEP), Some(20));
        // Small ones are not each remembered, and what lies between two places is kept.
        for index in 31..=40 {
            backlog.applied(index, 1);
        }
        assert_eq!(backlog.dispensable(10 * STEP + 10), Some(20));
        assert_eq!(backlog.dispensable(10 * STEP + 11), Some(19));
        assert_eq!(backlog.dispensable(1), Some(30));
        for index in 0..3 * PLACES as u64 {
            backlog.applied(41 + index, STEP);
        }
        assert_eq!(backlog.reached.len(), PLACES);
    }
}
