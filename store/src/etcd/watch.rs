//! etcd's Watch service: many watches on one stream.
//!
//! A session owns what its client asked for; it is driven by the client's reading alone ([`Session::next`] is called
//! when there is room for an answer), so there is no queue between the store and a client that does not read. Progress
//! is exact: a mark for a revision goes out after every event up to it has gone out on the same stream, for all
//! watches of the stream (`watch_id` -1) or for the one that asked to be told now and then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::poll_fn;
use kv::{Event, EventKind, Events, StoreError, WatchItem};
use rand::RngExt;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::host;

use super::admission::{Class, Place};
use super::auth::Guard;
use super::errors::Fault;
use super::headed::Headed;
use super::message::{Preencoded, WatchBody, WatchCreate, WatchFilter, WatchRequest, WatchUnion};
use super::rpc::{Answers, Asked, Call, Incoming};
use super::watch_set::WatchSet;

/// No watch: progress of all, or one that was not created.
const NO_WATCH: i64 = -1;
/// Watches on one stream.
const WATCHES_MAX: usize = 100_000;
/// So many looks without a leader in a row end a stream that asked for one; an election's time lies between two.
const LEADERLESS_MAX: u32 = 3;

type Reply = Headed<Preencoded<WatchBody>>;

pub(super) async fn watch(
    call: Call,
    requests: Incoming<WatchRequest>,
) -> Result<Answers<Reply>, Fault> {
    let session = Session::new(call, requests);
    Ok(Box::pin(futures::stream::unfold(
        Some(session),
        |session| async {
            let mut session = session?;
            match session.next().await {
                Ok(reply) => Some((Ok(reply), Some(session))),
                Err(fault) => Some((Err(fault), None)),
            }
        },
    )))
}

/// See the module head.
struct Session {
    call: Call,
    requests: Incoming<WatchRequest>,
    /// The client may ask for more.
    open: bool,
    set: WatchSet,
    watches: BTreeMap<i64, Watch>,
    next_id: i64,
    /// What is to be sent before anything else: the rest of one step, so a handful.
    replies: VecDeque<Reply>,
    progress: Progress,
    progress_ticks: Interval,
    leader_ticks: Interval,
    leaderless: u32,
    stop: CancellationToken,
}

/// What a client asked of one watch, and how far it has come.
#[derive(Default)]
struct Watch {
    start_revision: i64,
    prev_kv: bool,
    fragment: bool,
    no_put: bool,
    no_delete: bool,
    notify: bool,
    /// Events went out since the last look of the clock.
    busy: bool,
    /// All events up to here have gone out.
    seen: i64,
    /// A mark is due for this revision.
    owed: Option<i64>,
    /// That the client may see it; as far as a test needs no client, `None`.
    guard: Option<Guard>,
    _place: Option<Place>,
}

impl Session {
    fn new(call: Call, requests: Incoming<WatchRequest>) -> Session {
        let front = &call.front;
        Session {
            requests,
            open: true,
            set: WatchSet::default(),
            watches: BTreeMap::new(),
            next_id: 0,
            replies: VecDeque::new(),
            progress: Progress::default(),
            progress_ticks: every(jittered(front.options.progress_interval)),
            leader_ticks: every(front.backend.election()),
            leaderless: 0,
            stop: front.stop.clone(),
            call,
        }
    }

    async fn next(&mut self) -> Result<Reply, Fault> {
        loop {
            if let Some(reply) = self.replies.pop_front() {
                return Ok(reply);
            }
            match self.progress.reached(&self.watches) {
                Reached::Mark(revision) => {
                    self.ask_again();
                    return Ok(self.reply(revision, of(NO_WATCH)));
                }
                Reached::Later(revision) => self.call.front.backend.request_progress(revision),
                Reached::NotYet => {}
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(StoreError::Stopped.into()),
                request = self.requests.next(), if self.open => match request? {
                    Some(asked) => self.asked(asked).await,
                    // The client has said all, and goes on listening.
                    None => self.open = false,
                },
                (id, item) = poll_fn(|context| self.set.poll(context)) => self.told(id, item)?,
                _ = self.progress_ticks.tick() => self.notify_quiet_ones(),
                _ = self.leader_ticks.tick(), if self.call.needs_leader => self.look_for_leader()?,
            }
        }
    }

    fn reply(&self, revision: i64, body: WatchBody) -> Reply {
        Headed {
            header: self.call.front.header(revision),
            body: body.into(),
        }
    }

    fn now(&self) -> i64 {
        self.call.front.backend.revision()
    }

    async fn asked(&mut self, asked: Asked<WatchRequest>) {
        match asked.request.union {
            Some(WatchUnion::Create(create)) => {
                // From before the watch begins: who takes it up again from here misses nothing.
                let revision = self.now();
                let body = match self.create(create, asked.allowed).await {
                    Ok(id) => WatchBody {
                        created: true,
                        ..of(id)
                    },
                    Err(reason) => WatchBody {
                        created: true,
                        canceled: true,
                        cancel_reason: reason,
                        ..of(NO_WATCH)
                    },
                };
                // First of all that is said of this watch: nothing is taken from it before.
                let reply = self.reply(revision, body);
                self.replies.push_back(reply);
            }
            Some(WatchUnion::Cancel(cancel)) => {
                let id = cancel.watch_id;
                if self.set.remove(id) {
                    self.forget(id);
                    let body = WatchBody {
                        canceled: true,
                        ..of(id)
                    };
                    let reply = self.reply(self.now(), body);
                    self.replies.push_back(reply);
                }
            }
            Some(WatchUnion::Progress(_)) => self.ask_progress(),
            // Of a newer etcd: left alone, as etcd does.
            None => {}
        }
    }

    async fn create(
        &mut self,
        create: WatchCreate,
        allowed: Result<Guard, Fault>,
    ) -> Result<i64, String> {
        if create.start_revision < 0 {
            return Err("etcdserver: mvcc: required revision has been compacted".into());
        }
        let guard = allowed.map_err(refusal)?;
        let (key, range_end) = range_of(&create)?;
        if self.set.len() >= WATCHES_MAX {
            return Err(StoreError::Overloaded.to_string());
        }
        let place = self.call.client.enter(Class::Watch);
        let place = place.map_err(|error| error.to_string())?;
        let id = self.number(create.watch_id)?;
        // "From now on" is said as a revision, so that what was seen before the first event is known.
        let now = self.now();
        let from = if create.start_revision > 0 {
            create.start_revision
        } else {
            now + 1
        };
        let request = kv::WatchRequest {
            key,
            range_end,
            start_revision: from,
        };
        let stream = self.call.front.backend.watch(request).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let wants = |filter: WatchFilter| create.filters.contains(&(filter as i32));
        let watch = Watch {
            start_revision: create.start_revision,
            prev_kv: create.prev_kv,
            fragment: create.fragment,
            no_put: wants(WatchFilter::NoPut),
            no_delete: wants(WatchFilter::NoDelete),
            notify: create.progress_notify,
            busy: false,
            seen: from - 1,
            owed: None,
            guard: Some(guard),
            _place: Some(place),
        };
        self.progress.created(id, &watch, self.now());
        self.set.add(id, stream);
        self.watches.insert(id, watch);
        Ok(id)
    }

    /// The number that the client chose, or the next free one.
    fn number(&mut self, wanted: i64) -> Result<i64, String> {
        if wanted != 0 {
            return match self.set.contains(wanted) {
                true => Err("mvcc: duplicate watch ID provided on the WatchStream".into()),
                false => Ok(wanted),
            };
        }
        while self.set.contains(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    fn forget(&mut self, id: i64) {
        self.watches.remove(&id);
        self.progress.gone(id);
    }

    fn told(&mut self, id: i64, item: Option<WatchItem>) -> Result<(), Fault> {
        let watch = self.watches.get_mut(&id);
        let guard = watch.and_then(|watch| watch.guard.as_mut());
        if let Some(Err(fault)) = guard.map(Guard::still) {
            self.cancel(id, refusal(fault));
            return Ok(());
        }
        match item {
            Some(WatchItem::Events { revision, events }) => {
                self.send_events(id, revision, &events);
                self.progress.sent(revision);
                self.seen(id, revision);
            }
            Some(WatchItem::Progress { revision }) => self.seen(id, revision),
            Some(WatchItem::Compacted { compact_revision }) => {
                self.set.remove(id);
                self.forget(id);
                let body = WatchBody {
                    canceled: true,
                    compact_revision,
                    ..of(id)
                };
                let reply = self.reply(self.now(), body);
                self.replies.push_back(reply);
            }
            None => return Err(StoreError::Stopped.into()),
        }
        Ok(())
    }

    fn cancel(&mut self, id: i64, cancel_reason: String) {
        self.set.remove(id);
        self.forget(id);
        let body = WatchBody {
            canceled: true,
            cancel_reason,
            ..of(id)
        };
        let reply = self.reply(self.now(), body);
        self.replies.push_back(reply);
    }

    fn send_events(&mut self, id: i64, revision: i64, events: &Events) {
        let limit = self.call.front.fragment_bytes();
        let Some(watch) = self.watches.get_mut(&id) else {
            return;
        };
        let pieces = watch.shown(events, limit);
        watch.busy |= !pieces.is_empty();
        let header = self.call.front.header(revision);
        let count = pieces.len();
        let replies = pieces.into_iter().enumerate().map(|(place, encoded)| {
            let fragment = place + 1 < count;
            let body = WatchBody { fragment, ..of(id) };
            Headed {
                header: header.clone(),
                body: Preencoded { body, encoded },
            }
        });
        self.replies.extend(replies);
    }

    fn seen(&mut self, id: i64, revision: i64) {
        let Some(watch) = self.watches.get_mut(&id) else {
            return;
        };
        watch.seen = watch.seen.max(revision);
        self.progress.seen(id, watch.seen);
        if watch.owed.take_if(|owed| *owed <= watch.seen).is_some() {
            // Not what was asked for: an event of a later revision may have gone out meanwhile.
            let seen = watch.seen;
            let reply = self.reply(seen, of(id));
            self.replies.push_back(reply);
        }
    }

    fn ask_progress(&mut self) {
        let revision = self.now();
        if self.progress.ask(revision, &self.watches) {
            self.call.front.backend.request_progress(revision);
        }
    }

    fn ask_again(&mut self) {
        if std::mem::take(&mut self.progress.again) {
            self.ask_progress();
        }
    }

    /// Watches that have said nothing for a whole interval say how far they are.
    fn notify_quiet_ones(&mut self) {
        let now = self.now();
        let mut asked = false;
        let mut due = Vec::new();
        for (id, watch) in self.watches.iter_mut().filter(|(_, watch)| watch.notify) {
            if std::mem::take(&mut watch.busy) || now < watch.start_revision {
                continue;
            }
            if watch.seen >= now {
                due.push(*id);
            } else {
                watch.owed = Some(now);
                asked = true;
            }
        }
        let header = self.call.front.header(now);
        self.replies.extend(due.into_iter().map(|id| Headed {
            header: header.clone(),
            body: of(id).into(),
        }));
        if asked {
            self.call.front.backend.request_progress(now);
        }
    }

    fn look_for_leader(&mut self) -> Result<(), Fault> {
        if self.call.front.backend.leader().is_some() {
            self.leaderless = 0;
            return Ok(());
        }
        self.leaderless += 1;
        if self.leaderless >= LEADERLESS_MAX {
            return Err(StoreError::NoLeader.into());
        }
        Ok(())
    }
}

fn every(interval: Duration) -> Interval {
    let mut ticks = interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// So that streams which began together do not all speak at once.
fn jittered(interval: Duration) -> Duration {
    interval + interval.mul_f64(host::rng().random_range(0.0..0.1))
}

/// The words in which clients look for a reason to sign in anew.
fn refusal(fault: Fault) -> String {
    match fault.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
            format!("rpc error: code = {:?} desc = {fault}", fault.code())
        }
        _ => fault.to_string(),
    }
}

/// An answer about this watch that says nothing yet.
fn of(watch_id: i64) -> WatchBody {
    WatchBody {
        watch_id,
        ..WatchBody::default()
    }
}

/// The keys to watch. The empty key is the smallest there is, and a range must hold something.
pub(super) fn range_of(create: &WatchCreate) -> Result<(Bytes, Bytes), String> {
    let key = match create.key.is_empty() {
        true => Bytes::from_static(&[0]),
        false => create.key.clone(),
    };
    let range_end = create.range_end.clone();
    if kv::KeyRange::new(&key, &range_end).is_empty() {
        return Err("mvcc: watcher range is empty".into());
    }
    Ok((key, range_end))
}

/// For what stands around the events of an answer.
const AROUND_BYTES: usize = 16;

impl Watch {
    fn wants(&self, event: &Event) -> bool {
        match event.kind == EventKind::Delete as i32 {
            true => !self.no_delete,
            false => !self.no_put,
        }
    }

    /// What of these events the client wants to see, encoded. In pieces, if it can put them together and all would be
    /// larger than this.
    fn shown(&self, events: &Events, bytes_max: usize) -> Vec<Bytes> {
        let wanted = events.iter().filter(|event| self.wants(event));
        let whole = match wanted.clone().count() {
            0 => return Vec::new(),
            // The same bytes for all who see the same.
            count if count == events.len() => events.encoded(self.prev_kv),
            _ => Events::encode(wanted.clone(), self.prev_kv),
        };
        if !self.fragment || whole.len() + AROUND_BYTES < bytes_max {
            return vec![whole];
        }
        let each = wanted.map(|event| Events::encode(std::iter::once(event), self.prev_kv));
        fragments(each, bytes_max.saturating_sub(AROUND_BYTES))
    }
}

/// Large answers in pieces below the limit. A single event is never cut.
fn fragments(events: impl Iterator<Item = Bytes>, bytes_max: usize) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    let mut piece = BytesMut::new();
    for event in events {
        if !piece.is_empty() && piece.len() + event.len() >= bytes_max {
            pieces.push(piece.split().freeze());
        }
        piece.extend_from_slice(&event);
    }
    pieces.push(piece.freeze());
    pieces
}

/// The question how far all watches of the stream are, and who has yet to answer.
#[derive(Debug, Default)]
struct Progress {
    asked: Option<i64>,
    behind: BTreeSet<i64>,
    /// Asked again while the question was open.
    again: bool,
    /// Of the events that went out, or of where a watch began, the last. A client takes a mark for where it is, and one
    /// before this would bring it back: it would be told events twice, or be told some from before its beginning.
    sent: i64,
}

/// What came of the question.
#[derive(Debug, PartialEq)]
enum Reached {
    NotYet,
    /// All have to see this as well.
    Later(i64),
    /// All have seen everything up to this.
    Mark(i64),
}

impl Progress {
    /// True where somebody is behind and has to be asked. A stream without watches, or with one that begins in the
    /// future, has no progress to report: the question is dropped, as in etcd.
    fn ask(&mut self, revision: i64, watches: &BTreeMap<i64, Watch>) -> bool {
        if self.asked.is_some() {
            self.again = true;
            return false;
        }
        if watches.is_empty()
            || watches
                .values()
                .any(|watch| revision < watch.start_revision)
        {
            return false;
        }
        self.wait(revision, watches);
        !self.behind.is_empty()
    }

    fn wait(&mut self, revision: i64, watches: &BTreeMap<i64, Watch>) {
        self.asked = Some(revision);
        let behind = watches.iter().filter(|(_, watch)| watch.seen < revision);
        self.behind = behind.map(|(id, _)| *id).collect();
    }

    fn created(&mut self, id: i64, watch: &Watch, now: i64) {
        if watch.seen > now {
            // It begins in the future: see `ask`.
            self.asked = None;
            self.behind.clear();
            return;
        }
        self.sent(watch.seen);
        if self.asked.is_some_and(|revision| watch.seen < revision) {
            self.behind.insert(id);
        }
    }

    fn sent(&mut self, revision: i64) {
        self.sent = self.sent.max(revision);
    }

    fn seen(&mut self, id: i64, seen: i64) {
        if self.asked.is_some_and(|revision| seen >= revision) {
            self.behind.remove(&id);
        }
    }

    fn gone(&mut self, id: i64) {
        self.behind.remove(&id);
    }

    /// Once for a question.
    fn reached(&mut self, watches: &BTreeMap<i64, Watch>) -> Reached {
        match self.asked {
            Some(asked) if self.behind.is_empty() => {
                if self.sent > asked {
                    self.wait(self.sent, watches);
                }
                if self.behind.is_empty() {
                    self.asked.take().map_or(Reached::NotYet, Reached::Mark)
                } else {
                    Reached::Later(self.sent)
                }
            }
            _ => Reached::NotYet,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message;

    use super::*;

    fn event(kind: EventKind, bytes: usize) -> Event {
        Event {
            kind: kind as i32,
            kv: kv::KeyValue {
                key: Bytes::from_static(b"k"),
                value: vec![b'x'; bytes].into(),
                ..Default::default()
            },
            prev_kv: Some(kv::KeyValue::default()),
        }
    }

    fn shared(events: Vec<Event>) -> Events {
        Arc::<[Event]>::from(events).into()
    }

    fn decoded(piece: &Bytes) -> Vec<Event> {
        WatchBody::decode(piece.clone()).unwrap().events
    }

    #[test]
    fn filters_and_previous_values() {
        let events = shared(vec![event(EventKind::Put, 1), event(EventKind::Delete, 0)]);
        let kinds = |watch: Watch| -> Vec<(i32, bool)> {
            let shown = watch.shown(&events, 1 << 20);
            let shown = shown.iter().flat_map(decoded);
            shown
                .map(|event| (event.kind, event.prev_kv.is_some()))
                .collect()
        };
        assert_eq!(kinds(Watch::default()), [(0, false), (1, false)]);
        let prev_kv = Watch {
            prev_kv: true,
            no_put: true,
            ..Watch::default()
        };
        assert_eq!(kinds(prev_kv), [(1, true)]);
        let no_delete = Watch {
            no_delete: true,
            ..Watch::default()
        };
        assert_eq!(kinds(no_delete), [(0, false)]);
        let neither = Watch {
            no_put: true,
            no_delete: true,
            ..Watch::default()
        };
        assert!(neither.shown(&events, 1 << 20).is_empty());
    }

    #[test]
    fn who_sees_the_same_is_sent_the_same_bytes() {
        let events = shared(vec![event(EventKind::Put, 1), event(EventKind::Put, 2)]);
        let shown = |watch: Watch| watch.shown(&events, 1 << 20)[0].as_ptr();
        let all = shown(Watch::default());
        let puts = Watch {
            no_delete: true,
            ..Watch::default()
        };
        assert_eq!(shown(puts), all);
        let prev_kv = || Watch {
            prev_kv: true,
            ..Watch::default()
        };
        assert_eq!(shown(prev_kv()), shown(prev_kv()));
        assert_ne!(shown(prev_kv()), all);
    }

    #[test]
    fn fragments_are_whole_events_below_the_limit() {
        let list: Vec<_> = (0..10).map(|_| event(EventKind::Put, 100)).collect();
        let events = shared(list.clone());
        let watch = |fragment| Watch {
            fragment,
            prev_kv: true,
            ..Watch::default()
        };
        assert_eq!(watch(true).shown(&events, 1 << 20).len(), 1);
        assert_eq!(watch(false).shown(&events, 400).len(), 1);
        let pieces = watch(true).shown(&events, 400);
        assert!(pieces.len() > 2);
        assert!(pieces.iter().all(|piece| piece.len() + AROUND_BYTES < 400));
        assert_eq!(pieces.iter().flat_map(decoded).collect::<Vec<_>>(), list);
        // Larger than the limit alone: sent as it is.
        let large = shared(vec![
            event(EventKind::Put, 1000),
            event(EventKind::Put, 1000),
        ]);
        assert_eq!(watch(true).shown(&large, 400).len(), 2);
    }

    fn watches(seen: &[(i64, i64)]) -> BTreeMap<i64, Watch> {
        let watch = |seen: i64| Watch {
            seen,
            ..Watch::default()
        };
        seen.iter().map(|(id, at)| (*id, watch(*at))).collect()
    }

    #[test]
    fn progress_of_all_waits_for_the_last() {
        let mut progress = Progress::default();
        let all = watches(&[(0, 7), (1, 5), (2, 6)]);
        assert!(progress.ask(7, &all));
        assert_eq!(progress.reached(&all), Reached::NotYet);
        progress.seen(1, 6);
        progress.seen(2, 7);
        assert_eq!(progress.reached(&all), Reached::NotYet);
        progress.seen(1, 9);
        assert_eq!(progress.reached(&all), Reached::Mark(7));
        assert_eq!(progress.reached(&all), Reached::NotYet, "once");
    }

    #[test]
    fn no_mark_stands_behind_an_event_that_went_out_before_it() {
        let mut progress = Progress::default();
        let one = watches(&[(0, 5)]);
        progress.ask(7, &one);
        progress.sent(9);
        progress.seen(0, 9);
        assert_eq!(progress.reached(&watches(&[(0, 9)])), Reached::Mark(9));
        // The other one has to get there too.
        progress.ask(10, &watches(&[(0, 9), (1, 5)]));
        progress.sent(12);
        progress.seen(0, 12);
        progress.seen(1, 10);
        let now = watches(&[(0, 12), (1, 10)]);
        assert_eq!(progress.reached(&now), Reached::Later(12));
        assert_eq!(progress.reached(&now), Reached::NotYet);
        progress.seen(1, 13);
        let now = watches(&[(0, 12), (1, 13)]);
        assert_eq!(progress.reached(&now), Reached::Mark(12));
    }

    #[test]
    fn progress_of_all_does_not_wait_for_one_that_left_and_waits_for_one_that_came() {
        let mut progress = Progress::default();
        let all = watches(&[(0, 7), (1, 5)]);
        progress.ask(7, &all);
        let watch = |seen| Watch {
            seen,
            ..Watch::default()
        };
        progress.created(2, &watch(3), 7);
        progress.gone(1);
        assert_eq!(progress.reached(&all), Reached::NotYet);
        progress.seen(2, 7);
        assert_eq!(progress.reached(&all), Reached::Mark(7));
        // A mark from before its beginning would bring it there.
        progress.ask(7, &watches(&[(0, 6)]));
        progress.created(3, &watch(9), 9);
        progress.seen(0, 7);
        let all = watches(&[(0, 7), (3, 9)]);
        assert_eq!(progress.reached(&all), Reached::Later(9));
        progress.created(4, &watch(20), 9);
        progress.seen(0, 9);
        assert_eq!(progress.reached(&all), Reached::NotYet, "one is to come");
    }

    #[test]
    fn no_progress_without_watches_or_before_the_start_of_one() {
        let mut progress = Progress::default();
        let none = BTreeMap::new();
        assert!(!progress.ask(7, &none));
        assert_eq!(progress.reached(&none), Reached::NotYet);
        let mut future = watches(&[(0, 7)]);
        future.insert(
            1,
            Watch {
                start_revision: 9,
                seen: 8,
                ..Watch::default()
            },
        );
        assert!(!progress.ask(7, &future));
        assert_eq!(progress.reached(&future), Reached::NotYet);
    }
}
