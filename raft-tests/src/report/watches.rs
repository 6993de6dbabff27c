//! A lane for each watch: what it was sent and when.

use super::part::nearest;
use super::picture::{Limits, Named};
use super::words;
use crate::recording::{Recording, Watch, WatchBody, WatchMessage};
use serde::{Serialize, Serializer};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WatchLane {
    pub id: u64,
    pub client: u32,
    pub member: u64,
    /// What is watched, and from where on.
    pub title: String,
    pub from: u64,
    pub until: u64,
    /// It was there to the end of the run.
    pub open: bool,
    pub messages: Vec<Dot>,
}

/// One message. It is written as a list, in the order of the fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    pub at: u64,
    /// In the header.
    pub revision: i64,
    pub sort: &'static str,
    /// Of the events in it, first and last; 0 where there are none.
    pub revisions: (i64, i64),
    pub text: String,
}

impl Serialize for Dot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (first, last) = self.revisions;
        (self.at, self.revision, self.sort, first, last, &self.text).serialize(serializer)
    }
}

pub(super) fn paint(
    recording: &Recording,
    named: &Named,
    length: u64,
    centre: u64,
    room: usize,
    limits: Limits,
    notes: &mut Vec<String>,
) -> Vec<WatchLane> {
    let mut watches: Vec<&Watch> = recording.watches.iter().collect();
    // As with clients: first whoever has to do with a violation.
    watches.sort_by_key(|watch| {
        let other = !named.watches.contains(&watch.id);
        (other, watch.client, watch.called, watch.id)
    });
    if watches.len() > limits.watches {
        notes.push(format!(
            "Of {} watches this page has lanes for {}.",
            watches.len(),
            limits.watches
        ));
        watches.truncate(limits.watches);
    }
    let messages = watches.iter().flat_map(|watch| &watch.messages);
    let times = messages.map(|message| message.at).collect();
    let part = nearest(times, centre, limits.messages);
    if let Some(part) = &part {
        let (shown, total) = (part.shown, part.total);
        notes.push(format!(
            "Of {total} messages to these watches it draws {shown}."
        ));
    }
    let drawn = |message: &&WatchMessage| part.is_none_or(|part| part.span.contains(message.at));
    watches
        .into_iter()
        .map(|watch| lane(watch, length, room, drawn))
        .collect()
}

fn lane(
    watch: &Watch,
    length: u64,
    room: usize,
    drawn: impl Fn(&&WatchMessage) -> bool,
) -> WatchLane {
    let end = watch.messages.iter().find(|message| {
        matches!(
            message.body,
            WatchBody::Canceled { .. } | WatchBody::Lost { .. }
        )
    });
    WatchLane {
        id: watch.id,
        client: watch.client,
        member: watch.member,
        title: words::cut(&title(watch), room),
        from: watch.called,
        until: end.map_or(length, |message| message.at),
        open: end.is_none(),
        messages: watch
            .messages
            .iter()
            .filter(drawn)
            .map(|message| dot(message, room))
            .collect(),
    }
}

fn title(watch: &Watch) -> String {
    let mut title = words::keys(&watch.key, &watch.end);
    if watch.start_revision != 0 {
        title += &format!(" from revision {}", watch.start_revision);
    }
    let options = [
        (watch.no_put, "no puts"),
        (watch.no_delete, "no deletes"),
        (watch.prev, "with what was before"),
        (watch.progress, "with progress"),
    ];
    for (_, option) in options.iter().filter(|(set, _)| *set) {
        title += ", ";
        title += option;
    }
    title
}

fn dot(message: &WatchMessage, room: usize) -> Dot {
    let (sort, text) = words::message(&message.body);
    let revisions = match &message.body {
        WatchBody::Events { events, .. } => {
            let all = || events.iter().map(|event| event.pair.modified);
            (all().min().unwrap_or(0), all().max().unwrap_or(0))
        }
        _ => (0, 0),
    };
    Dot {
        at: message.at,
        revision: message.revision,
        sort,
        revisions,
        text: words::cut(&text, room),
    }
}
