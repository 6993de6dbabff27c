//! Moving in from an etcd that runs: its keys are copied as of one revision, then every transaction of it is applied
//! here, in order, as one transaction.
//!
//! Both sides are asked through etcd's API, so the process that mirrors is a client like any other. What it has done
//! stands in the destination (`checkpoint.rs`), changed by the same transaction as the data and only if it is still what
//! this process has left there. So nothing is applied twice or left out, whatever ends it, and of two mirrors of the
//! same name one notices. `plan.rs` has all decisions about data; here is who is asked, and what follows from the
//! answers.
//!
//! Where the source has compacted what was not told yet, all keys are compared again with those of the destination; what
//! is gone in the source is deleted then, too.
//!
//! Keys come without their leases, and the end of a lease comes as a deletion: a lease here would end by the clock of the
//! destination, whatever keeps it alive in the source. At the cut-over they get the leases that they have there, which
//! begin anew.

mod checkpoint;
mod plan;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::checkpoint::{Checkpoint, Place, Stage};
use self::plan::{Backlog, Op};
use crate::etcd::client::{Client, ClientError, Keys, Page, Told};

pub use self::checkpoint::CHECKPOINTS;
pub use self::plan::Names;

/// Aim for the size of a page.
const PAGE_BYTES: usize = 2 << 20;
/// Keys of a page; the first one has the least, as nobody knows how large they are.
const PAGE_KEYS: std::ops::RangeInclusive<i64> = 32..=4096;
/// So often, changes or not, it is looked whether all have come.
const QUIET: Duration = Duration::from_millis(300);
/// Between two reports of how far it is.
const REPORT: Duration = Duration::from_secs(5);
/// That nothing has changed is written down so often.
const NOTE: Duration = Duration::from_secs(60);
/// Between attempts, doubled up to the latter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What is wanted.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Tells this mirror from others of the same destination.
    pub name: String,
    pub names: Names,
    /// Keys that are in the destination already and not in the source are deleted, others overwritten.
    pub overwrite: bool,
    /// Forget how far an earlier mirror of this name has got.
    pub restart: bool,
    /// End when the destination has all that the source has.
    pub until_synced: bool,
}

/// What a mirror has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// So many keys of this revision have been compared.
    Copying { revision: i64, keys: u64 },
    /// All keys are as they were at this revision.
    Copied { revision: i64, keys: u64 },
    /// All is applied up to a revision of the source, whose newest is `head`.
    Following {
        revision: i64,
        head: i64,
        transactions: u64,
    },
    /// Nothing is missing, but the numbers of keys differ: somebody else writes to the destination.
    Unequal { source: i64, destination: i64 },
    /// It is tried again.
    Trouble(String),
    /// All keys are compared again.
    Anew(String),
}

/// How a mirror that had an end has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Of the source: the destination has the same keys and values.
    pub revision: i64,
    pub keys: i64,
    /// Keys that have got their lease.
    pub leased: u64,
    pub transactions: u64,
}

/// Why a mirror cannot go on. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(
        "the destination has keys already, {0} among them: choose another --dest-prefix, or have what is there \
         overwritten and deleted with --overwrite"
    )]
    NotEmpty(String),
    #[error(
        "mirror {0} was begun with other prefixes: use the same, choose another --name, or begin anew with --restart"
    )]
    OtherPrefixes(String),
    #[error(
        "mirror {name} is of cluster {known:x}, and this is cluster {found:x}: choose another --name, or begin anew with \
         --restart"
    )]
    OtherSource {
        name: String,
        known: u64,
        found: u64,
    },
    #[error(
        "the checkpoint of mirror {0} cannot be read: a newer version wrote it, or somebody else"
    )]
    Unreadable(String),
    #[error("another process mirrors under the name {0}: end that one, or choose another --name")]
    TakenOver(String),
    #[error(
        "keys of the destination cannot begin with {}",
        String::from_utf8_lossy(CHECKPOINTS)
    )]
    AmongCheckpoints,
    #[error("key {key} has {bytes} bytes, which is more than the destination takes at once")]
    TooLarge { key: String, bytes: usize },
    /// Something was written between a look and a write: by this process itself, mostly.
    #[error("the checkpoint has moved")]
    Moved,
    /// The newest revision of the source is older than what came from it before.
    #[error("the source is at revision {0}, and was further before: it was restored from a backup")]
    WentBack(i64),
}

/// What follows from an error.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// It may pass.
    Again,
    /// All keys have to be compared.
    Anew,
    End,
}

fn then(error: &MirrorError) -> Then {
    const PASSING: [&str; 4] = [
        "too many requests",
        "database space exceeded",
        "not supported for learner",
        "not leader",
    ];
    match error {
        MirrorError::Client(ClientError::Unavailable { .. }) | MirrorError::Moved => Then::Again,
        MirrorError::Client(ClientError::Compacted(_)) | MirrorError::WentBack(_) => Then::Anew,
        MirrorError::Client(ClientError::Refused { text, .. }) => {
            let gone = ["has been compacted", "is a future revision"];
            if gone.iter().any(|known| text.contains(known)) {
                Then::Anew
            } else if PASSING.iter().any(|known| text.contains(known)) {
                Then::Again
            } else {
                Then::End
            }
        }
        _ => Then::End,
    }
}

type Reports<'a> = &'a (dyn Fn(Report) + Sync);

/// Mirrors until it is told to end or cannot go on. Members that do not answer are waited for, the others of the same
/// side meanwhile asked; but for the first contact, where what is wrong is most likely the address.
pub async fn run(
    source: Vec<Client>,
    destination: Vec<Client>,
    options: Options,
    reports: Reports<'_>,
) -> Result<Done, MirrorError> {
    if options.names.are_checkpoints() {
        return Err(MirrorError::AmongCheckpoints);
    }
    let mut mirror = Mirror::begin(source, destination, options, reports).await?;
    let mut pause = PAUSE.0;
    loop {
        let before = mirror.transactions;
        let error = match mirror.go_on().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if mirror.transactions > before {
            pause = PAUSE.0;
        }
        match then(&error) {
            Then::End => return Err(error),
            Then::Anew => {
                (mirror.reports)(Report::Anew(error.to_string()));
                mirror.anew = true;
            }
            Then::Again => {
                if !matches!(error, MirrorError::Moved) {
                    (mirror.reports)(Report::Trouble(error.to_string()));
                }
                mirror.source.ask_another();
                mirror.destination.ask_another();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// The members of one side, of which one is asked.
struct Side {
    members: Vec<Client>,
    asked: usize,
}

impl Side {
    /// The first one that answers, or what the last one said.
    async fn find(members: Vec<Client>, keys: &Keys) -> Result<(Side, u64), ClientError> {
        let mut why = ClientError::Unusable {
            url: String::new(),
            text: "no endpoints are given".into(),
        };
        for asked in 0..members.len() {
            match members[asked].page(keys, &[], 0, 1).await {
                Ok(page) => return Ok((Side { members, asked }, page.cluster_id)),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn member(&self) -> Client {
        self.members[self.asked].clone()
    }

    fn ask_another(&mut self) {
        self.asked = (self.asked + 1) % self.members.len();
    }
}

/// See [`run`].
struct Mirror<'a> {
    source: Side,
    destination: Side,
    options: Options,
    reports: Reports<'a>,
    /// Of the checkpoint.
    key: Bytes,
    checkpoint: Checkpoint,
    /// Revision of the destination at which the checkpoint was written; 0 of one that was not.
    written_at: i64,
    session: u64,
    /// Whatever the checkpoint says, all keys are to be compared from the first one on.
    anew: bool,
    page_keys: i64,
    transactions: u64,
    /// Leases that are in the destination.
    granted: BTreeSet<i64>,
    /// Leases that were found to have ended in the source.
    gone: BTreeSet<i64>,
    leased: u64,
    noted: Instant,
    reported: Option<Instant>,
}

impl<'a> Mirror<'a> {
    async fn begin(
        source: Vec<Client>,
        destination: Vec<Client>,
        options: Options,
        reports: Reports<'a>,
    ) -> Result<Mirror<'a>, MirrorError> {
        let names = options.names.clone();
        let (source, cluster) = Side::find(source, &names.source()).await?;
        let key = checkpoint::key(&options.name);
        let (destination, _) = Side::find(destination, &Keys::one(key.clone())).await?;
        let session = rand::random();
        let copying = Stage::Copying {
            revision: 0,
            after: Bytes::new(),
        };
        let checkpoint = Checkpoint {
            source: cluster,
            names,
            session,
            stage: copying,
        };
        let mut mirror = Mirror {
            source,
            destination,
            reports,
            key,
            checkpoint,
            written_at: 0,
            session,
            anew: false,
            page_keys: *PAGE_KEYS.start(),
            transactions: 0,
            granted: BTreeSet::new(),
            gone: BTreeSet::new(),
            leased: 0,
            noted: Instant::now(),
            reported: None,
            options,
        };
        mirror.take_up(cluster).await?;
        Ok(mirror)
    }

    /// Goes on from the checkpoint of an earlier process, or makes sure that there is nothing in the way of a first one.
    async fn take_up(&mut self, cluster: u64) -> Result<(), MirrorError> {
        let name = self.options.name.clone();
        let Some((found, written_at)) = self.look_up().await? else {
            return match self.first_key().await? {
                Some(key) if !self.options.overwrite => {
                    Err(MirrorError::NotEmpty(String::from_utf8_lossy(&key).into()))
                }
                _ => Ok(()),
            };
        };
        self.written_at = written_at;
        if self.options.restart {
            self.anew = true;
            return Ok(());
        }
        let found = found.ok_or_else(|| MirrorError::Unreadable(name.clone()))?;
        if found.names != self.options.names {
            return Err(MirrorError::OtherPrefixes(name));
        }
        if found.source != cluster {
            return Err(MirrorError::OtherSource {
                name,
                known: found.source,
                found: cluster,
            });
        }
        self.checkpoint.stage = found.stage;
        Ok(())
    }

    /// The checkpoint as it stands in the destination, if it can be read, and when it was written.
    async fn look_up(&self) -> Result<Option<(Option<Checkpoint>, i64)>, ClientError> {
        let member = self.destination.member();
        let keys = Keys::one(self.key.clone());
        let mut page = member.page(&keys, &[], 0, 1).await?;
        let record = page.records.pop();
        Ok(record.map(|record| (Checkpoint::decode(&record.value), record.mod_revision)))
    }

    /// Of the keys that the destination has, the first one that is no checkpoint.
    async fn first_key(&self) -> Result<Option<Bytes>, ClientError> {
        let (keys, mut after) = (self.options.names.destination(), Bytes::new());
        loop {
            let member = self.destination.member();
            let page = member.page(&keys, &after, 0, *PAGE_KEYS.start()).await?;
            let mut found = page.records.iter().map(|record| &record.key);
            if let Some(key) = found.find(|key| !key.starts_with(CHECKPOINTS)) {
                return Ok(Some(key.clone()));
            }
            match page.records.last() {
                Some(last) if page.more => after = last.key.clone(),
                _ => return Ok(None),
            }
        }
    }

    /// What it was at when it ended: a write whose answer did not come may have been carried out.
    async fn see_what_is_written(&mut self) -> Result<(), MirrorError> {
        let found = self.look_up().await?;
        let written_at = found.as_ref().map_or(0, |(_, written_at)| *written_at);
        if written_at == self.written_at {
            return Ok(());
        }
        match found {
            Some((Some(found), written_at)) if found.session == self.session => {
                self.checkpoint = found;
                self.written_at = written_at;
                Ok(())
            }
            _ => Err(MirrorError::TakenOver(self.options.name.clone())),
        }
    }

    async fn go_on(&mut self) -> Result<Done, MirrorError> {
        self.see_what_is_written().await?;
        if self.anew {
            self.checkpoint.stage = Stage::Copying {
                revision: 0,
                after: Bytes::new(),
            };
        }
        self.require_same_source().await?;
        self.copy().await?;
        self.follow().await
    }

    /// Nobody else has taken its address, and it has not lost what was taken over already.
    async fn require_same_source(&self) -> Result<(), MirrorError> {
        let head = self.head().await?;
        let (known, found) = (self.checkpoint.source, head.cluster_id);
        if known != found {
            let name = self.options.name.clone();
            return Err(MirrorError::OtherSource { name, known, found });
        }
        match &self.checkpoint.stage {
            Stage::Following(place) if head.revision + 1 < place.revision => {
                Err(MirrorError::WentBack(head.revision))
            }
            Stage::Copying { revision, .. } if head.revision < *revision => {
                Err(MirrorError::WentBack(head.revision))
            }
            _ => Ok(()),
        }
    }

    /// The newest of the source, by a key that whoever may read the prefix may read.
    async fn head(&self) -> Result<Page, ClientError> {
        let first = match self.options.names.prefix.is_empty() {
            true => Bytes::from_static(&[0]),
            false => self.options.names.prefix.clone(),
        };
        self.source
            .member()
            .page(&Keys::one(first), &[], 0, 1)
            .await
    }

    /// Makes the destination what the source is at one revision, page by page.
    async fn copy(&mut self) -> Result<(), MirrorError> {
        let mut keys = 0;
        while let Stage::Copying { revision, after } = self.checkpoint.stage.clone() {
            let names = self.options.names.clone();
            let (mut source, mut destination) = self.pages(&after, revision).await?;
            let revision = if revision == 0 {
                source.revision
            } else {
                revision
            };
            let end = plan::cut_to_common_end(&names, &mut source, &mut destination);
            keys += source.records.len() as u64;
            let ops = plan::difference(&names, &source.records, &destination.records);
            let copied = match &end {
                Some(end) => Stage::Copying {
                    revision,
                    after: names.place_here(end),
                },
                None => Stage::Following(Place::after(revision)),
            };
            self.write_page(ops, revision, copied).await?;
            if self.is_time_to_report() {
                (self.reports)(Report::Copying { revision, keys });
            }
            if end.is_none() {
                (self.reports)(Report::Copied { revision, keys });
            }
        }
        Ok(())
    }

    /// What both sides have after this key of the source: there as of the revision (0: the newest), here as of now.
    async fn pages(&mut self, after: &[u8], revision: i64) -> Result<(Page, Page), ClientError> {
        let names = &self.options.names;
        let (limit, there) = (self.page_keys, names.place_there(after));
        let member = self.source.member();
        let source = member.page(&names.source(), after, revision, limit).await?;
        let member = self.destination.member();
        let destination = member.page(&names.destination(), &there, 0, limit).await?;
        let records = source.records.iter();
        let bytes = records.map(|record| record.key.len() + record.value.len());
        self.page_keys = keys_of_next_page(source.records.len(), bytes.sum());
        Ok((source, destination))
    }

    /// Writes what a page takes, in order of the keys, so that the end of each part is a place to go on from.
    async fn write_page(
        &mut self,
        ops: Vec<Op>,
        revision: i64,
        copied: Stage,
    ) -> Result<(), MirrorError> {
        let mut parts = plan::parts(ops).into_iter().peekable();
        if parts.peek().is_none() && matches!(copied, Stage::Copying { .. }) {
            // Whoever has to begin again compares it again.
            self.checkpoint.stage = copied;
            return Ok(());
        }
        while let Some(part) = parts.next() {
            let last = part.last().filter(|_| parts.peek().is_some());
            let stage = match last {
                Some(op) => Stage::Copying {
                    revision,
                    after: self.options.names.place_here(op.key()),
                },
                None => copied.clone(),
            };
            self.apply(part, stage).await?;
        }
        if self.checkpoint.stage != copied {
            self.apply(Vec::new(), copied).await?;
        }
        Ok(())
    }

    /// One transaction of the destination.
    async fn apply(&mut self, ops: Vec<Op>, stage: Stage) -> Result<(), MirrorError> {
        let checkpoint = Checkpoint {
            stage,
            session: self.session,
            ..self.checkpoint.clone()
        };
        let alone = match ops.as_slice() {
            [op] => Some((op.key().clone(), op.bytes())),
            _ => None,
        };
        let request = plan::transaction(ops, &self.key, &checkpoint, self.written_at);
        let answer = self.destination.member().txn(request).await;
        let (held, revision) = answer.map_err(|error| match (&error, alone) {
            (ClientError::Refused { text, .. }, Some((key, bytes)))
                if text.contains("too large") =>
            {
                let key = String::from_utf8_lossy(&key).into();
                MirrorError::TooLarge { key, bytes }
            }
            _ => error.into(),
        })?;
        if !held {
            return Err(MirrorError::Moved);
        }
        (self.checkpoint, self.written_at) = (checkpoint, revision);
        self.anew = false;
        self.transactions += 1;
        self.noted = Instant::now();
        Ok(())
    }

    /// Applies what happens, from the checkpoint on.
    async fn follow(&mut self) -> Result<Done, MirrorError> {
        let Stage::Following(place) = self.checkpoint.stage else {
            return Err(MirrorError::Moved);
        };
        let names = self.options.names.clone();
        let member = self.source.member();
        let mut changes = member.watch(&names.source(), place.revision).await?;
        let mut backlog = Backlog::new(names, place);
        let mut looked = Instant::now();
        loop {
            if let Ok(told) = tokio::time::timeout(QUIET, changes.next()).await {
                hear(&mut backlog, told?);
            }
            while !backlog.is_large() {
                let Some(told) = changes.next_if_ready() else {
                    break;
                };
                hear(&mut backlog, told?);
            }
            while let Some(batch) = backlog.batch() {
                self.apply(batch.ops, Stage::Following(batch.next)).await?;
            }
            if self.options.until_synced && looked.elapsed() >= QUIET {
                if let Some(done) = self.synced(&mut backlog).await?
                    && self.hand_over_leases(&done).await?
                {
                    return Ok(Done {
                        leased: self.leased,
                        transactions: self.transactions,
                        ..done
                    });
                }
                looked = Instant::now();
            }
            self.note(backlog.next()).await?;
            self.report(backlog.next()).await?;
        }
    }

    /// Writes down that nothing has changed, so that the next process does not begin where the source has forgotten.
    async fn note(&mut self, next: Place) -> Result<(), MirrorError> {
        let stage = Stage::Following(next);
        if self.noted.elapsed() < NOTE || self.checkpoint.stage == stage {
            return Ok(());
        }
        self.apply(Vec::new(), stage).await
    }

    fn is_time_to_report(&mut self) -> bool {
        let due = self.reported.is_none_or(|last| last.elapsed() >= REPORT);
        if due {
            self.reported = Some(Instant::now());
        }
        due
    }

    async fn report(&mut self, next: Place) -> Result<(), MirrorError> {
        if self.is_time_to_report() {
            let head = self.head().await?.revision;
            (self.reports)(Report::Following {
                revision: next.revision - 1,
                head,
                transactions: self.transactions,
            });
        }
        Ok(())
    }

    /// Whether the destination has all that the source has. A watch that is silent does not say so, as what it has to
    /// say may be on its way: but where no key was written since what has come, and both sides have as many, they have
    /// the same.
    async fn synced(&mut self, backlog: &mut Backlog) -> Result<Option<Done>, MirrorError> {
        let next = backlog.next();
        if next.done > 0 || !backlog.is_empty() {
            return Ok(None);
        }
        let names = self.options.names.clone();
        let (source, keys) = (self.source.member(), names.source());
        let head = source.count(&keys).await?;
        let behind = next.revision <= head.revision;
        if behind
            && source
                .written_since(&keys, head.revision, next.revision)
                .await?
        {
            return Ok(None);
        }
        let (mut wanted, member) = (head.count, self.destination.member());
        let mut have = member.count(&names.destination()).await?.count;
        if names.have_checkpoints() {
            let not_mirrored = Keys::prefix(names.place_here(CHECKPOINTS));
            wanted -= source.count(&not_mirrored).await?.count;
            have -= member.count(&Keys::prefix(CHECKPOINTS)).await?.count;
        }
        if wanted != have {
            if self.is_time_to_report() {
                let (source, destination) = (wanted, have);
                (self.reports)(Report::Unequal {
                    source,
                    destination,
                });
            }
            return Ok(None);
        }
        backlog.progress(head.revision);
        self.apply(Vec::new(), Stage::Following(backlog.next()))
            .await?;
        Ok(Some(Done {
            revision: head.revision,
            keys: have,
            ..Done::default()
        }))
    }

    /// Attaches the keys to the leases that they have in the source as of then. True where none was left to do: else
    /// something may have happened meanwhile.
    async fn hand_over_leases(&mut self, synced: &Done) -> Result<bool, MirrorError> {
        let names = self.options.names.clone();
        let next = Place::after(synced.revision);
        let (mut after, mut all_done) = (Bytes::new(), true);
        loop {
            let (mut source, mut destination) = self.pages(&after, synced.revision).await?;
            let end = plan::cut_to_common_end(&names, &mut source, &mut destination);
            let mut ops = plan::unleased(&names, &source.records, &destination.records);
            ops.retain(|op| !self.gone.contains(&op.lease()));
            all_done &= ops.is_empty();
            let ops = self.with_leases(ops).await?;
            for part in plan::parts(ops) {
                self.leased += part.len() as u64;
                self.apply(part, Stage::Following(next)).await?;
            }
            match end {
                Some(end) => after = names.place_here(&end),
                None => return Ok(all_done),
            }
        }
    }

    /// Sees that the leases are there. The keys of one that has ended meanwhile are left out: they are about to be deleted.
    /// Where they are still there at the next look, the source has them without a lease, whatever it says.
    async fn with_leases(&mut self, mut ops: Vec<Op>) -> Result<Vec<Op>, MirrorError> {
        for id in ops.iter().map(Op::lease).collect::<BTreeSet<i64>>() {
            if self.granted.contains(&id) {
                continue;
            }
            match self.source.member().granted_ttl(id).await? {
                Some(ttl) => {
                    self.destination.member().grant(id, ttl).await?;
                    self.granted.insert(id);
                }
                None => {
                    self.gone.insert(id);
                    ops.retain(|op| op.lease() != id);
                }
            }
        }
        Ok(ops)
    }
}

fn hear(backlog: &mut Backlog, told: Told) {
    match told {
        Told::Events { events, whole } => backlog.take(events, whole),
        Told::Progress(revision) => backlog.progress(revision),
    }
}

/// So that a page has about the size that is aimed for, if what follows is like what came.
fn keys_of_next_page(keys: usize, bytes: usize) -> i64 {
    let (least, most) = PAGE_KEYS.into_inner();
    let fitting = (keys.max(1) * PAGE_BYTES) / bytes.max(1);
    i64::try_from(fitting).unwrap_or(most).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_waited_for_and_what_is_gone_is_compared() {
        let refused = |text: &str| {
            MirrorError::Client(ClientError::Refused {
                url: "u".into(),
                text: text.into(),
            })
        };
        let unavailable = MirrorError::Client(ClientError::Unavailable {
            url: "u".into(),
            text: "gone".into(),
        });
        let cases = [
            (unavailable, Then::Again),
            (refused("mvcc: database space exceeded"), Then::Again),
            (
                refused("mvcc: required revision has been compacted"),
                Then::Anew,
            ),
            (MirrorError::Client(ClientError::Compacted(7)), Then::Anew),
            (MirrorError::WentBack(3), Then::Anew),
            (refused("permission denied"), Then::End),
            (refused("request is too large"), Then::End),
            (MirrorError::TakenOver("m".into()), Then::End),
        ];
        for (error, expected) in cases {
            assert_eq!(then(&error), expected, "{error}");
        }
    }

    #[test]
    fn pages_are_of_a_size() {
        assert_eq!(keys_of_next_page(32, 32 << 10), 2048);
        assert_eq!(keys_of_next_page(32, 32 << 20), 32);
        assert_eq!(keys_of_next_page(0, 0), 4096);
        assert_eq!(keys_of_next_page(32, 64), 4096);
    }
}
