//! What is told besides: a bounded number of events, and in the log how far it is.

use std::time::Duration;

use agent_runtime::EventType;
use agent_runtime::kinds::ObjectReference;

use super::{Engine, TELL_EVERY};
use crate::hollow::life::Note;
use crate::node::news_text;
use crate::runtime::hollow::NOTICE;

impl Engine {
    /// Whether one more event may be told.
    fn may_tell(&mut self, elapsed: Duration) -> bool {
        let rate = f64::from(self.config.events_per_second);
        let (left, since) = self.budget;
        let left = (left + elapsed.saturating_sub(since).as_secs_f64() * rate).min(rate * 5.0);
        let may = left >= 1.0;
        self.budget = (if may { left - 1.0 } else { left }, elapsed);
        may
    }

    pub(super) fn note(
        &mut self,
        uid: &str,
        (namespace, name): (&str, &str),
        note: Note,
        elapsed: Duration,
    ) {
        if !self.may_tell(elapsed) {
            return;
        }
        let field_path = note
            .container
            .map(|(role, name)| format!("{}{{{name}}}", role.field()));
        let regarding = ObjectReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            field_path: field_path.unwrap_or_default(),
            ..ObjectReference::default()
        };
        self.events
            .event(regarding, note.kind, note.reason, note.text);
    }

    /// Says of a node that it is hollow.
    pub(super) fn note_hollow(&mut self, number: u32, elapsed: Duration) {
        let notice = NOTICE.to_owned();
        self.note_node(number, EventType::Warning, ("HollowNode", notice), elapsed);
    }

    /// Says what of a node is otherwise now.
    pub(super) fn note_news(&mut self, number: u32, reason: &'static str, elapsed: Duration) {
        let text = news_text(&self.names.of(number), reason);
        self.note_node(number, EventType::Normal, (reason, text), elapsed);
    }

    fn note_node(
        &mut self,
        number: u32,
        kind: EventType,
        (reason, text): (&'static str, String),
        elapsed: Duration,
    ) {
        if !self.may_tell(elapsed) {
            return;
        }
        let name = self.names.of(number);
        let regarding = ObjectReference {
            kind: "Node".to_owned(),
            uid: name.clone(),
            name,
            ..ObjectReference::default()
        };
        self.events.event(regarding, kind, reason, text);
    }

    /// Says in the log how far it is, while that changes.
    pub(super) fn tell_progress(&mut self) {
        let now = self.clock.elapsed();
        let (before, at) = self.told;
        if now < at + TELL_EVERY && before != usize::MAX {
            return;
        }
        let progress = self.world().progress();
        if progress.ready != before {
            tracing::info!(
                ready = progress.ready,
                nodes = progress.nodes,
                pods = progress.pods,
                "hollow nodes"
            );
        }
        self.told = (progress.ready, now);
    }
}
