//! Lanes of watches: what they were sent and when.

use super::members::Names;
use super::part::{Part, nearest};
use super::picture::{Named, Scale};
use super::words;
use crate::recording::{Recording, Watch, WatchBody, WatchMessage};
use serde::{Serialize, Serializer};

/// The watches of one client on the same keys. One that is made anew after the last was lost stands in the same lane.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WatchLane {
    pub client: u32,
    pub name: String,
    pub keys: String,
    /// One after the other.
    pub watches: Vec<WatchLine>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WatchLine {
    pub id: u64,
    pub member: String,
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
    names: &Names,
    scale: &Scale,
    notes: &mut Vec<String>,
) -> Vec<WatchLane> {
    let mut lanes = lanes(recording, named, scale.length);
    lanes.truncate(scale.limits.watches);
    let drawn: Vec<&Watch> = lanes.iter().flatten().map(|one| one.watch).collect();
    let (shown, total) = (drawn.len(), recording.all_watches().count());
    if shown < total {
        notes.push(format!("Of {total} watches this page draws {shown}."));
    }
    let messages = drawn.iter().flat_map(|watch| &watch.messages);
    let times = messages.map(|message| message.at).collect();
    let part = nearest(times, scale.centre, scale.limits.messages);
    if let Some(part) = &part {
        let (shown, total) = (part.shown, part.total);
        notes.push(format!(
            "Of {total} messages to these watches it draws {shown}."
        ));
    }
    lanes
        .into_iter()
        .map(|watches| WatchLane {
            client: watches[0].watch.client,
            name: watches[0].name(recording),
            keys: words::cut(&watches[0].keys(), scale.room),
            watches: watches
                .into_iter()
                .map(|one| line(&one, names, scale, part))
                .collect(),
        })
        .collect()
}

/// One watch, of etcd's API or of Kubernetes'.
struct One<'a> {
    id: u64,
    watch: &'a Watch,
    is_rest: bool,
}

impl One<'_> {
    /// Whose it is, and of what.
    fn lane(&self) -> (bool, u32, &str, &str) {
        let Watch {
            client, key, end, ..
        } = self.watch;
        (self.is_rest, *client, key, end)
    }

    fn name(&self, recording: &Recording) -> String {
        let client = self.watch.client;
        let named = recording.names.get(&client).filter(|_| self.is_rest);
        named.cloned().unwrap_or_else(|| format!("client {client}"))
    }

    fn keys(&self) -> String {
        words::keys(&self.watch.key, &self.watch.end)
    }
}

/// As with clients: first whoever has to do with a violation.
fn lanes<'a>(recording: &'a Recording, named: &Named, length: u64) -> Vec<Vec<One<'a>>> {
    let watches = recording.all_watches();
    let mut watches: Vec<One<'_>> = watches
        .map(|(id, watch, is_rest)| One { id, watch, is_rest })
        .collect();
    watches.sort_by(|one, other| {
        let place = |one: &One<'_>| (one.watch.called, one.id);
        one.lane()
            .cmp(&other.lane())
            .then(place(one).cmp(&place(other)))
    });
    let mut lanes: Vec<Vec<One<'_>>> = Vec::new();
    let mut group = 0;
    for watch in watches {
        if (lanes.last()).is_some_and(|lane| lane[0].lane() != watch.lane()) {
            group = lanes.len();
        }
        let free = |lane: &Vec<One<'_>>| {
            lane.last()
                .is_some_and(|last| end(last.watch, length) <= watch.watch.called)
        };
        match lanes[group..].iter_mut().find(|lane| free(lane)) {
            Some(lane) => lane.push(watch),
            None => lanes.push(vec![watch]),
        }
    }
    let other = |lane: &Vec<One<'_>>| !lane.iter().any(|one| named.watches.contains(&one.id));
    lanes.sort_by_key(other);
    lanes
}

/// Its last message at the server's word or with the connection, or else the end of the run.
fn end(watch: &Watch, length: u64) -> u64 {
    ended(watch).unwrap_or(length).max(watch.called)
}

fn ended(watch: &Watch) -> Option<u64> {
    let over =
        |body: &WatchBody| matches!(body, WatchBody::Canceled { .. } | WatchBody::Lost { .. });
    let end = watch.messages.iter().find(|message| over(&message.body));
    end.map(|message| message.at)
}

fn line(one: &One<'_>, names: &Names, scale: &Scale, part: Option<Part>) -> WatchLine {
    let watch = one.watch;
    let drawn = |message: &&WatchMessage| part.is_none_or(|part| part.span.contains(message.at));
    WatchLine {
        id: one.id,
        member: names.name(watch.member),
        title: words::cut(&title(watch), scale.room),
        from: watch.called,
        until: end(watch, scale.length),
        open: ended(watch).is_none(),
        messages: watch
            .messages
            .iter()
            .filter(drawn)
            .map(|message| dot(message, scale.room))
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
        (watch.needs_leader, "needs a leader"),
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
