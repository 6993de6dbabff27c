//! Room on the disk. A member whose disk is nearly full raises an alarm, and ends it when there is room again: nobody
//! has to. While a quorum has raised it, or the leader, nothing that needs room is written; deleting and compacting go on,
//! which is how room is made. One full follower alone does not stop the cluster: it hands on leadership and, if it
//! comes to that, stops alone.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::core::Core;
use crate::metrics::METRICS;
use crate::raft::log::LogStore;

/// How much room there is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub free: u64,
    pub total: u64,
}

/// Asks the file system of a directory. Free is what this process may use.
pub(crate) fn space_of(dir: &Path) -> std::io::Result<Space> {
    let found = rustix::fs::statvfs(dir)?;
    Ok(Space {
        free: found.f_bavail.saturating_mul(found.f_frsize),
        total: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

/// Below this the alarm is raised: enough for the log and for compactions to go on a while.
fn low_mark(total: u64) -> u64 {
    const MOST: u64 = 512 << 20;
    (total / 20).min(MOST)
}

/// Whether the alarm should stand. Between the two marks it stays as it is, so that it does not flutter.
fn should_stand(stands: bool, space: Space) -> bool {
    let low = low_mark(space.total);
    match stands {
        false => space.free < low,
        true => space.free < low + low / 2,
    }
}

/// What a state of this size can grow to until the alarm is raised.
fn may_grow_to(size: u64, space: Space) -> u64 {
    let room = space.free.saturating_sub(low_mark(space.total));
    size.saturating_add(room)
}

/// Whether writes that need room are refused: the leader has no room, or too few voters have some.
pub(crate) fn is_full(leader: u64, voters: &BTreeSet<u64>, alarms: &[kv::Alarm]) -> bool {
    let full = full(alarms);
    let with_room = voters.difference(&full).count();
    full.contains(&leader) || with_room <= voters.len() / 2
}

/// The members without room.
fn full(alarms: &[kv::Alarm]) -> BTreeSet<u64> {
    let no_space = |alarm: &&kv::Alarm| alarm.kind == kv::AlarmKind::NoSpace as i32;
    let full = alarms.iter().filter(no_space);
    full.map(|alarm| alarm.member).collect()
}

/// Whether a command needs room that it does not give back.
pub(crate) fn needs_room(command: &kv::Command) -> bool {
    match command {
        kv::Command::Txn(request) => puts(request),
        kv::Command::LeaseGrant(_) => true,
        _ => false,
    }
}

fn puts(request: &kv::TxnRequest) -> bool {
    let ops = request.success.iter().chain(&request.failure);
    ops.flat_map(|op| &op.request).any(|request| match request {
        kv::Request::Put(_) => true,
        kv::Request::Txn(nested) => puts(nested),
        kv::Request::Range(_) | kv::Request::DeleteRange(_) => false,
    })
}

/// Up to which entry the log has to go for the rest to have half of so many bytes; nothing where it has no more than all
/// of them. Entries count as equally large.
fn surplus((entries, bytes): (Range<u64>, u64), bytes_max: u64) -> Option<u64> {
    if bytes <= bytes_max {
        return None;
    }
    let count = u128::from(entries.end.saturating_sub(entries.start));
    let stay = count * u128::from(bytes_max / 2) / u128::from(bytes);
    let end = entries.end - u64::try_from(stay).unwrap_or(0);
    (end > entries.start).then(|| end - 1)
}

/// What the log may have at most, of which normally so much is kept: much more only where entries come to nothing, which
/// the state does not grow by, and less where there is no room.
fn log_bytes_max(kept: u64, no_room: bool) -> u64 {
    if no_room { kept / 2 } else { kept * 4 }
}

impl Core {
    /// Looks after this member's disk for as long as it runs.
    pub async fn run_disk_watch(self: Arc<Self>, log: LogStore) {
        let mut ticks = tokio::time::interval(self.config.limits.disk_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mine = kv::Alarm {
            member: self.config.member_id,
            kind: kv::AlarmKind::NoSpace as i32,
        };
        loop {
            ticks.tick().await;
            let space = match self.config.engine.space(&self.config.data_dir) {
                Ok(space) => space,
                Err(error) => {
                    tracing::warn!(%error, "the room on the disk is not known");
                    continue;
                }
            };
            METRICS
                .disk_free
                .set(i64::try_from(space.free).unwrap_or(i64::MAX));
            let size = self.replica.disk().opened().size_bytes();
            let most = may_grow_to(size, space);
            METRICS
                .db_size_max
                .set(i64::try_from(most).unwrap_or(i64::MAX));
            let stands = self.replica.alarms().contains(&mine);
            let should = should_stand(stands, space);
            if stands != should {
                tracing::warn!(
                    free_mib = space.free >> 20,
                    raised = should,
                    "the disk is nearly full, or no longer so"
                );
                self.change_alarm(mine, should).await;
            }
            self.shorten(&log, should).await;
            // At each look: others may have got room meanwhile.
            if should && self.is_leader() {
                self.give_up_leading().await;
            }
        }
    }

    /// The state is flushed, and the log cut, when the state has grown so much (`backlog.rs`). By large entries that come
    /// to nothing, failed transactions, it does not grow; and a member that has just started does not know how large
    /// the entries are that it found. Where there is no room, the log must not have what deleting and compacting give back.
    async fn shorten(&self, log: &LogStore, no_room: bool) {
        let most = log_bytes_max(self.config.limits.log_bytes_kept, no_room);
        let Some(upto) = surplus(log.extent(), most) else {
            return;
        };
        // What goes has to be in the flushed state. If it is not yet, it will be at one of the next looks.
        let flushed = self.replica.flushed();
        let asked = if flushed.is_some_and(|id| id.index >= upto) {
            self.raft.trigger().purge_log(upto).await
        } else {
            self.raft.trigger().snapshot().await
        };
        if let Err(error) = asked {
            tracing::debug!(%error, "the log could not be cut");
        }
    }

    /// Hands leadership to a member whose disk has room, where there is one.
    async fn give_up_leading(&self) {
        let full = full(&self.replica.alarms());
        let Some(successor) = self.successor(|id| !full.contains(&id)) else {
            return;
        };
        if let Err(error) = self.raft.trigger().transfer_leader(successor).await {
            tracing::warn!(%error, "leadership stays with a member whose disk is nearly full");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_log_of_large_entries_is_cut_to_half_of_what_it_may_have() {
        assert_eq!(surplus((10..110, 1000), 1000), None);
        assert_eq!(surplus((10..110, 1001), 1000), Some(60), "49 stay");
        assert_eq!(surplus((10..110, 2000), 1000), Some(84), "25 stay");
        assert_eq!(
            surplus((10..11, 5000), 1000),
            Some(10),
            "one that is too large"
        );
        assert_eq!(surplus((0..0, 5000), 1000), None);
        assert_eq!(surplus((0..u64::MAX, u64::MAX), 2), Some(u64::MAX - 2));
    }

    #[test]
    fn the_state_can_grow_until_the_alarm_is_raised() {
        let space = |free| Space {
            free,
            total: 100 * GIB,
        };
        assert_eq!(may_grow_to(7, space(GIB)), 7 + GIB / 2);
        for free in [GIB / 2, GIB / 4, 0] {
            assert_eq!(may_grow_to(7, space(free)), 7, "it is full");
        }
        assert_eq!(may_grow_to(u64::MAX, space(GIB)), u64::MAX);
    }

    #[test]
    fn the_alarm_stands_between_two_marks() {
        let space = |free, total| Space { free, total };
        // On a large disk half a gigabyte is little, on a small one a twentieth.
        assert!(!should_stand(false, space(GIB, 100 * GIB)));
        assert!(should_stand(false, space(GIB / 2 - 1, 100 * GIB)));
        assert!(should_stand(true, space(GIB / 2, 100 * GIB)));
        assert!(!should_stand(false, space(GIB / 2, 100 * GIB)));
        assert!(!should_stand(true, space(GIB * 3 / 4, 100 * GIB)));
        assert!(!should_stand(false, space(GIB / 20, GIB)));
        assert!(should_stand(false, space(GIB / 20 - 1, GIB)));
    }

    fn raised(members: &[u64]) -> Vec<kv::Alarm> {
        let kind = kv::AlarmKind::NoSpace as i32;
        let of = |member: &u64| kv::Alarm {
            member: *member,
            kind,
        };
        members.iter().map(of).collect()
    }

    #[test]
    fn one_full_follower_does_not_stop_the_cluster() {
        let voters = BTreeSet::from([1, 2, 3]);
        assert!(!is_full(1, &voters, &[]));
        assert!(!is_full(1, &voters, &raised(&[2])));
        assert!(is_full(1, &voters, &raised(&[1])));
        assert!(is_full(1, &voters, &raised(&[2, 3])));
        assert!(is_full(1, &BTreeSet::from([1]), &raised(&[1])));
        assert!(is_full(1, &BTreeSet::from([1, 2]), &raised(&[2])));
        let corrupt = kv::Alarm {
            member: 1,
            kind: kv::AlarmKind::Corrupt as i32,
        };
        assert!(!is_full(1, &voters, &[corrupt]));
    }

    #[test]
    fn deleting_and_compacting_need_no_room() {
        let op = |request| kv::RequestOp {
            request: Some(request),
        };
        let txn = |request| kv::TxnRequest {
            failure: vec![op(request)],
            ..kv::TxnRequest::default()
        };
        let put = || kv::Request::Put(kv::PutRequest::default());
        let delete = kv::Request::DeleteRange(kv::DeleteRangeRequest::default());
        assert!(needs_room(&kv::Command::Txn(txn(put()))));
        let nested = kv::Request::Txn(txn(put()));
        assert!(needs_room(&kv::Command::Txn(txn(nested))));
        assert!(!needs_room(&kv::Command::Txn(txn(delete))));
        assert!(!needs_room(&kv::Command::Compact(kv::Compact {
            revision: 1
        })));
        assert!(needs_room(&kv::Command::LeaseGrant(kv::Lease::default())));
    }
}
