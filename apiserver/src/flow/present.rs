//! The requests that are at a level now, for people who look at it: who they are, and whether they wait or run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use auth::User;

use super::Flow;
use super::queues::Place;
use crate::request::RequestInfo;

/// A request, with as little as it can be told from.
#[derive(Clone)]
pub(crate) struct Present {
    pub(crate) flow: Arc<Flow>,
    pub(crate) user: Box<str>,
    /// Shared with the request: it is hardly ever looked at.
    pub(crate) info: Arc<RequestInfo>,
    pub(crate) seats: u32,
    /// Seats that it keeps afterwards, and for how many nanoseconds.
    pub(crate) after: (u32, u64),
    /// Nanoseconds since 1970.
    pub(crate) arrived_ns: u128,
    pub(crate) state: State,
}

#[derive(Clone, Copy)]
pub(crate) enum State {
    Arrives,
    Waits(Place),
    /// In this queue, where the level has some, since so many nanoseconds after 1970.
    Runs(Option<usize>, u128),
}

impl Present {
    pub(super) fn new(
        flow: &Arc<Flow>,
        (user, info): (&User, &Arc<RequestInfo>),
        seats: u32,
        after: Option<(u32, u64)>,
    ) -> Present {
        Present {
            flow: flow.clone(),
            user: user.name.as_str().into(),
            info: info.clone(),
            seats,
            after: after.unwrap_or_default(),
            arrived_ns: host::since_1970().as_nanos(),
            state: State::Arrives,
        }
    }

    /// What tells its flow apart from others of its schema.
    pub(super) fn distinguisher(&self) -> &str {
        self.flow.schema.distinguisher(&self.user, &self.info)
    }
}

/// All of one level, in the order in which they came.
#[derive(Default)]
pub(super) struct Presents(Mutex<All>);

#[derive(Default)]
struct All {
    next: u64,
    /// Boxed, since those that come and go move those that stay.
    present: BTreeMap<u64, Box<Present>>,
}

impl Presents {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(self: &Arc<Self>, present: Present) -> Entered {
        let present = Box::new(present);
        let mut all = self.lock();
        let id = all.next;
        all.next += 1;
        all.present.insert(id, present);
        let presents = self.clone();
        Entered { presents, id }
    }

    pub(super) fn all(&self) -> Vec<Present> {
        let all = self.lock();
        let present = all.present.values().map(|one| Present::clone(one));
        present.collect()
    }
}

/// A request is present until this is dropped.
pub(crate) struct Entered {
    presents: Arc<Presents>,
    id: u64,
}

impl Entered {
    pub(super) fn waits(&self, place: Place) {
        self.set(State::Waits(place));
    }

    pub(super) fn runs(&self, queue: Option<usize>) {
        self.set(State::Runs(queue, host::since_1970().as_nanos()));
    }

    fn set(&self, state: State) {
        if let Some(present) = self.presents.lock().present.get_mut(&self.id) {
            present.state = state;
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let gone = self.presents.lock().present.remove(&self.id);
        // Outside of the lock: it may hold the last reference to its flow and level.
        drop(gone);
    }
}
