//! Bugs on purpose, to see that the tests find them (`raft-tests mutants`).
//!
//! This is the one list of them. Where a bug stands, in the model or in what uses it, the line asks [`planted`], which
//! answers false: without the feature `mutants` it is a constant, and nothing of the bug is in the program. The product
//! refuses to be built with the feature, which raft-tests alone turns on.
//!
//! With it, [`plant`] chooses at most one bug for the thread. A thread and no process, so that several runs go on beside
//! each other: a simulated cluster is one thread, whatever it does. The model stays a function of its input, but for this.

/// Whether this program can have a bug planted.
pub const MUTANTS: bool = cfg!(feature = "mutants");

/// Which runs have to find a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Whole clusters of the store in virtual time.
    Sim,
    /// The same with API servers on top.
    KubeSim,
}

impl Level {
    /// As the command of raft-tests is called.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Sim => "sim",
            Level::KubeSim => "kube-sim",
        }
    }
}

/// One bug of the list, for people.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    pub bug: Bug,
    pub level: Level,
    /// As on the command line.
    pub name: &'static str,
    /// Where the idea comes from: a bug that somebody had (`etcd #`), or a rule that is broken.
    pub origin: &'static str,
    /// What is wrong, in a sentence.
    pub what: &'static str,
}

macro_rules! bugs {
    ($($level:ident { $($bug:ident $name:literal $origin:literal $what:literal)* })*) => {
        /// Which bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $($(#[doc = $what] $bug,)*)*
        }

        /// All of them.
        pub const BUGS: &[Mutant] = &[
            $($(Mutant {
                bug: Bug::$bug,
                level: Level::$level,
                name: $name,
                origin: $origin,
                what: $what,
            },)*)*
        ];
    };
}

bugs! {
    Sim {
        // Of the simulated disk: they need no feature.
        DiskAcksBeforeSync "disk-acks-before-sync" "FoundationDB, TigerBeetle: disks that lie"
            "The disk says that it is synced, and only means to."
        DiskForgetsVotes "disk-forgets-votes" "openraft users 2026: votes without a sync"
            "The disk loses votes at a crash."

        // The log.
        AcksUnsynced "acks-unsynced" "etcd #14370"
            "Entries are acknowledged when they are written, and not synced."
        VoteUnsynced "vote-unsynced" "openraft users 2026: votes without a sync"
            "A vote is given when it is written, and not synced."
        RetriesFailedSync "retries-failed-sync" "PostgreSQL's fsyncgate"
            "After a failed sync the member goes on, as if trying again could bring back what the system dropped."
        TruncatesInMemory "truncates-in-memory" "Raft: conflicting entries are deleted"
            "Entries that another leader's replace are taken out of memory, and stay on the disk."
        DamageAccepted "damage-accepted" "CRC of a record"
            "Checksums of the log's records are not looked at."

        // The state.
        ApplyNotAtomic "apply-not-atomic" "etcd #13766"
            "A batch and the index of its last entry are stored one after the other: a crash between them applies it twice."
        PurgesUnflushed "purges-unflushed" "etcd #14685, an analogue: housekeeping, then a crash"
            "The log is purged up to where the state was to be flushed, and the flush is forgotten."
        RevisionFromKeys "revision-from-keys" "etcd #17780"
            "At a start the revision is that of the newest key: deletions since then, and their revisions, are forgotten."
        SnapshotDropsLeases "snapshot-drops-leases" "reliability plan"
            "A state that came as a snapshot has no leases."

        // Replication.
        SentIsStored "sent-is-stored" "reliability plan: a minority commits"
            "A leader counts entries as stored on a member as soon as they are sent to it."

        // Reads and writes.
        FollowerReadsLocally "follower-reads-locally" "reliability plan"
            "Who does not lead answers linearizable reads from what it has."
        ReadIndexWithoutQuorum "read-index-without-quorum" "Raft, section 6.4"
            "A leader names the read index without asking whether it still leads."
        LeaseReadOnWallClock "lease-read-on-wall-clock" "reliability plan"
            "A leader trusts its last round for as long as a lease, by the wall clock, which jumps."
        LateReadsShareARound "late-reads-share-a-round" "etcd #20418"
            "Reads that came while a round was under way are served with what it found."
        RepeatsForwardedWrites "repeats-forwarded-writes" "write.rs: once"
            "A forwarded write whose answer was lost is sent again."
        TimeoutIsARefusal "timeout-is-a-refusal" "Jepsen: indeterminate is not failed"
            "A write whose answer did not come in time is answered as one that was not carried out."
        ReadsCompacted "reads-compacted" "etcd's KV guarantees"
            "Revisions below the compacted one are read, from what is left of them."
        TxnReadsCompacted "txn-reads-compacted" "etcd #18667"
            "A transaction that reads a compacted revision is not refused before it is carried out."
        PutUnderNoLease "put-under-no-lease" "etcd's lease guarantees"
            "A key is put under a lease that has ended."

        // Leases.
        FollowerExpires "follower-expires" "reliability plan"
            "Every member ends leases, also one that does not hear of renewals."
        DeposedLeaderRenews "deposed-leader-renews" "etcd #15247"
            "A leader renews leases without being in touch with a quorum."
        RenewsWhatEnds "renews-what-ends" "Jepsen 2020: etcd #11456"
            "A lease whose end has been proposed is renewed."
        OldDeadlinesKept "old-deadlines-kept" "lease_clock.rs: a new leader starts every lease anew"
            "Who leads again goes by what it knew of leases when it led before."
        RevokesKeyByKey "revokes-key-by-key" "etcd's watch guarantees: atomic"
            "The keys of a lease go in a revision each."

        // Watches.
        ProgressAheadOfEvents "progress-ahead-of-events" "etcd #15220"
            "A mark of progress is sent before events that it covers."
        JumpStartsWatches "jump-starts-watches" "etcd #15271"
            "After a snapshot, watches that wait for a revision to come get what was before it."
        JumpSkipsEvents "jump-skips-events" "etcd's watch guarantees: reliable"
            "After a snapshot, watches go on behind it, without what the snapshot brought."
        TxnDeliveredTwice "txn-delivered-twice" "etcd #17247"
            "The events of a transaction are sent twice."
        SlowWatchLosesEvents "slow-watch-loses-events" "etcd #17529"
            "What leaves the memory before a slow watch has taken it is not read from the log."
        CompactionLosesDeletes "compaction-loses-deletes" "etcd #18089, #19179"
            "A watch that starts at the compacted revision does not get the deletions of it."
        FutureWatchStartsNow "future-watch-starts-now" "etcd #20221"
            "A watch that starts at a revision to come gets what comes before it."
    }

    KubeSim {
        // Objects.
        BindsWithoutCompare "binds-without-compare" "reliability plan"
            "A pod is written whether or not it is as it was when its node was chosen: who binds it later wins."
        UpdatesAnyVersion "updates-any-version" "Kubernetes' API conventions: optimistic concurrency"
            "An update that demands a version replaces whatever is there."
        FinalizersIgnored "finalizers-ignored" "reliability plan"
            "A deletion takes objects away whose finalizers are still there."
        AppliesByForce "applies-by-force" "Kubernetes' server-side apply: conflicts"
            "What is applied takes fields over from whom they are, whether or not it was told to."
        ClaimsWithoutCompare "claims-without-compare" "Kubernetes: addresses of services are given once"
            "An address or a port of a service is taken without a look whether somebody else has just taken it."
        QuotasWithoutCompare "quotas-without-compare" "reliability plan: a quota is never exceeded"
            "A quota is charged by what a member knew of it, whether or not another has charged it since."

        // Lists and watches.
        LaterPagesAreNewer "later-pages-are-newer" "reliability plan"
            "The pages of a list after the first show what is there by then, as of the version of the first."
        VersionZeroIsStale "version-zero-is-stale" "Kubernetes #59848"
            "What asks for any version, resourceVersion=0, gets the past that this member's cache shows."
        WatchResumesNow "watch-resumes-now" "Kubernetes' API concepts: efficient detection of changes"
            "A watch that goes on from a version gets what comes from now on, and not what came in between."
        ExpiresForNothing "expires-for-nothing" "Kubernetes' API concepts: 410 Gone"
            "Whatever version but the newest a watch goes on from is too old, though all that came after it is there."

        // Rights.
        RevokedRightsStay "revoked-rights-stay" "rule K11"
            "A binding that is deleted gives its rights until the member starts anew."
        TokensOutliveAccounts "tokens-outlive-accounts" "rule K11"
            "A token is good after the service account that it is of is gone."
    }
}

impl Bug {
    /// Its line of the list.
    ///
    /// # Panics
    /// Never: the list and the names are made of the same lines.
    pub fn mutant(self) -> &'static Mutant {
        let found = BUGS.iter().find(|mutant| mutant.bug == self);
        found.expect("every bug has its line")
    }
}

#[cfg(not(feature = "mutants"))]
mod selection {
    use super::Bug;

    /// Whether this bug is the one that was chosen: not in this program.
    pub const fn planted(_: Bug) -> bool {
        false
    }

    /// What a bug remembers: nothing.
    pub const fn remember(_: u64, _: i64) -> Option<i64> {
        None
    }

    /// See [`remember`].
    pub const fn remembered(_: u64) -> Option<i64> {
        None
    }
}

#[cfg(feature = "mutants")]
mod selection {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static PASSED: Cell<u64> = const { Cell::new(0) };
        static MEMORY: RefCell<BTreeMap<u64, i64>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Chooses the bug of this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
        MEMORY.with_borrow_mut(BTreeMap::clear);
    }

    /// Whether this bug is the one that was chosen.
    pub fn planted(bug: Bug) -> bool {
        let here = PLANTED.get() == Some(bug);
        if here {
            PASSED.set(PASSED.get() + 1);
        }
        here
    }

    /// How often this thread has come by where its bug stands, since it was asked last: a bug that nobody finds may be one
    /// that never does anything.
    pub fn passed() -> u64 {
        PASSED.take()
    }

    /// For bugs that need to know something of before; answers what was there.
    pub fn remember(place: u64, value: i64) -> Option<i64> {
        MEMORY.with_borrow_mut(|memory| memory.insert(place, value))
    }

    /// What was remembered there.
    pub fn remembered(place: u64) -> Option<i64> {
        MEMORY.with_borrow(|memory| memory.get(&place).copied())
    }
}

pub use selection::*;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        let names: BTreeSet<_> = BUGS.iter().map(|mutant| mutant.name).collect();
        let bugs: BTreeSet<_> = BUGS.iter().map(|mutant| mutant.bug).collect();
        assert_eq!((names.len(), bugs.len()), (BUGS.len(), BUGS.len()));
        let plain = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(names.into_iter().all(plain));
        assert!(BUGS.iter().all(|mutant| mutant.what.ends_with('.')));
    }

    #[test]
    fn nothing_is_planted_by_itself() {
        assert!(BUGS.iter().all(|mutant| !planted(mutant.bug)));
    }
}
