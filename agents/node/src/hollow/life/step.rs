//! What a life is told, and what it answers.

use agent_runtime::EventType;
use bytes::Bytes;
use time::OffsetDateTime;

use crate::hollow::slim::Slim;
use crate::spec::Role;

/// What happened to a pod.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::hollow) enum Event {
    /// Time, perhaps.
    Look,
    /// The API has it so: from a watch, a list, or the answer to a write.
    Seen(Slim),
    /// The API has it no more.
    Removed,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::hollow) enum Write {
    /// A strategic merge patch of the status, as text.
    Status(Bytes),
    /// The object, at once: everything has ended.
    Delete,
    /// Nothing yet: the claims on devices are to be looked at, and whether they let the pod begin is to be told
    /// ([`Life::clear`](super::Life::clear)).
    LookAtClaims,
}

/// An event to be told.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::hollow) struct Note {
    /// The container that it is about.
    pub(in crate::hollow) container: Option<(Role, String)>,
    pub(in crate::hollow) kind: EventType,
    pub(in crate::hollow) reason: &'static str,
    pub(in crate::hollow) text: String,
}

/// What follows from an event.
#[derive(Debug, Default, PartialEq)]
pub(in crate::hollow) struct Step {
    pub(in crate::hollow) write: Option<Write>,
    pub(in crate::hollow) wake: Option<OffsetDateTime>,
    pub(in crate::hollow) notes: Vec<Note>,
    /// Nothing is left of the pod.
    pub(in crate::hollow) gone: bool,
}

impl Step {
    pub(super) fn wake(&mut self, at: OffsetDateTime) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }
}
