//! Objects that this server has just written, as it had them in hand: whoever changes one of them next need not parse it.
//! Most objects change several times within a second after they were made, and then for long no more, so what is kept is
//! little, and not for long, and nothing of what others change next.

mod spent;
mod worth;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schema::Object;
use schema::renew::renew;
use serde_json::Value;
use tokio::time::Instant;

use spent::Spent;
pub(crate) use worth::Source;
use worth::Worths;

/// So much is kept at most: bytes, by estimate, and objects.
const BYTES_MAX: usize = 32 << 20;
const TREES_MAX: usize = 4_096;
/// Larger objects are not kept. In bytes of JSON.
const JSON_BYTES_MAX: usize = 64 << 10;
/// What a map takes for its first entries: room for some more of them. A map of one short entry takes fifty times its JSON.
const BYTES_OF_MAP: usize = 640;
/// So many entries more need as much again.
const ENTRIES_OF_ROOM: usize = 6;
/// What a text takes besides its letters.
const BYTES_OF_TEXT: usize = 16;
/// Who has not changed an object by then comes too late.
const AGE_MAX: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Trees {
    /// By storage key, each at one revision.
    kept: Mutex<Kept>,
    /// Of no object in particular.
    spent: Spent,
}

#[derive(Default)]
struct Kept {
    by_key: HashMap<Arc<str>, Tree>,
    /// As they came. Those that another revision replaced are still in it.
    order: VecDeque<Mark>,
    bytes: usize,
    worths: Worths,
}

struct Tree {
    object: Arc<Object>,
    revision: i64,
    bytes: usize,
    /// The place of its like in [`Worths`], and whether somebody asked for it.
    source: usize,
    is_asked: bool,
    /// Whether somebody made a copy to change that.
    is_copied: bool,
    /// What it was before, to be made into what it will be next: whoever copies and changes an object does so again, and in
    /// few places at a time.
    spare: Option<Spare>,
}

/// A tree that nobody will ask for.
struct Spare {
    object: Arc<Object>,
    bytes: usize,
}

impl Tree {
    /// With what it was before.
    fn all_bytes(&self) -> usize {
        self.bytes + self.spare.as_ref().map_or(0, |spare| spare.bytes)
    }
}

struct Mark {
    key: Arc<str>,
    revision: i64,
    since: Instant,
}

impl Trees {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object under `key`, where it is kept as of this revision.
    pub(crate) fn get(&self, key: &str, revision: i64) -> Option<Arc<Object>> {
        let mut kept = self.lock();
        let tree = kept.by_key.get_mut(key)?;
        let is_it = tree.revision == revision;
        tree.is_asked |= is_it;
        is_it.then(|| tree.object.clone())
    }

    /// A copy of an `object` under `key`, to be changed: the one of its past becomes it where there is one, which takes less
    /// than a new tree.
    pub(crate) fn copy(&self, key: &str, object: &Object) -> Object {
        let Some(mut copy) = self.spare(key, object.resource_version()) else {
            return object.clone();
        };
        renew(copy.value_mut(), object.value());
        debug_assert_eq!(copy, *object, "{key} is renewed");
        copy
    }

    /// The same of a part of an object, which nobody keeps: a tree of another one's part becomes it.
    pub(crate) fn copy_part(&self, part: &Object) -> Object {
        self.spent.copy(part)
    }

    /// Takes a part that nobody needs any more of an object that takes `json_bytes` in JSON, for the next [`Trees::copy_part`].
    pub(crate) fn spend_part(&self, part: Object, json_bytes: usize) {
        if json_bytes <= JSON_BYTES_MAX {
            self.spent.put(part);
        }
    }

    /// Takes the past of an object of this version, unless somebody still holds it.
    fn spare(&self, key: &str, version: &str) -> Option<Object> {
        let revision: i64 = version.parse().ok()?;
        let mut guard = self.lock();
        let kept = &mut *guard;
        let tree = kept.by_key.get_mut(key)?;
        if tree.revision != revision {
            return None;
        }
        tree.is_copied = true;
        let spare = tree.spare.take()?;
        kept.bytes -= spare.bytes;
        drop(guard);
        Arc::try_unwrap(spare.object).ok()
    }

    /// Lets go of the object under `key`, where it is kept as of this revision: nobody will ask for it as it is.
    pub(crate) fn take(&self, key: &str, revision: i64) -> Option<Arc<Object>> {
        let mut kept = self.lock();
        let known = kept.by_key.get(key)?;
        let is_it = known.revision == revision;
        let taken = if is_it { kept.remove(key) } else { None };
        drop(kept);
        taken.map(|tree| tree.object)
    }

    /// Keeps an object that takes `json_bytes` in JSON, and comes with its [`room`], where its like are asked for. It has to
    /// be what is stored at this revision, with its version.
    pub(crate) fn put(
        &self,
        key: &str,
        revision: i64,
        (object, room): (Arc<Object>, usize),
        json_bytes: usize,
        source: Source<'_>,
        now: Instant,
    ) {
        let bytes = (json_bytes <= JSON_BYTES_MAX).then(|| room + key.len());
        let mut kept = self.lock();
        let source = kept.worths.place(source);
        let bytes = bytes.filter(|_| kept.worths.keeps(source));
        let replaced = kept.put(key, revision, object, (bytes, source), now);
        let dropped = kept.shrink(now);
        drop(kept);
        // Freeing a tree takes a while, for which nobody has to wait.
        drop((replaced, dropped));
    }

    /// Lets go of what is too old.
    pub(crate) fn age(&self, now: Instant) {
        self.spent.clear();
        let mut kept = self.lock();
        let dropped = kept.shrink(now);
        if kept.by_key.is_empty() {
            *kept = Kept {
                worths: std::mem::take(&mut kept.worths),
                ..Kept::default()
            };
        }
        drop(kept);
        drop(dropped);
    }
}

/// About how many bytes of memory hang on a value.
pub(crate) fn room(value: &Value) -> usize {
    let below: usize = match value {
        Value::Array(list) => list.iter().map(room).sum(),
        Value::Object(map) => {
            let below = map.iter();
            below
                .map(|(key, value)| room_of_text(key) + room(value))
                .sum()
        }
        _ => 0,
    };
    own_room(value) + below
}

/// The same without what is below it: its keys and values.
pub(crate) fn own_room(value: &Value) -> usize {
    match value {
        Value::String(text) => room_of_text(text),
        Value::Array(list) => size_of_val(list.as_slice()),
        Value::Object(map) if !map.is_empty() => BYTES_OF_MAP * (1 + map.len() / ENTRIES_OF_ROOM),
        _ => 0,
    }
}

/// About how many bytes a text takes, or a key.
pub(crate) fn room_of_text(text: &str) -> usize {
    BYTES_OF_TEXT + text.len()
}

impl Kept {
    /// Takes an object of so many bytes; none of one that is too large or not worth it, which only ends what was known before.
    fn put(
        &mut self,
        key: &str,
        revision: i64,
        object: Arc<Object>,
        (bytes, source): (Option<usize>, usize),
        now: Instant,
    ) -> Option<Tree> {
        let known = self.by_key.get(key);
        if known.is_some_and(|known| known.revision >= revision) {
            return None;
        }
        let replaced = self.remove(key);
        let Some(bytes) = bytes else {
            return replaced;
        };
        let copied = replaced.as_ref().filter(|was| was.is_copied);
        let spare = copied.map(|was| Spare {
            object: was.object.clone(),
            bytes: was.bytes,
        });
        let key: Arc<str> = key.into();
        self.order.push_back(Mark {
            key: key.clone(),
            revision,
            since: now,
        });
        let tree = Tree {
            object,
            revision,
            bytes,
            source,
            is_asked: false,
            is_copied: false,
            spare,
        };
        self.bytes += tree.all_bytes();
        self.by_key.insert(key, tree);
        replaced
    }

    fn remove(&mut self, key: &str) -> Option<Tree> {
        let removed = self.by_key.remove(key)?;
        self.bytes -= removed.all_bytes();
        self.worths.left(removed.source, removed.is_asked);
        Some(removed)
    }

    /// Takes out the oldest ones, as far as they are too old or too many.
    fn shrink(&mut self, now: Instant) -> Vec<Tree> {
        let mut dropped = Vec::new();
        while let Some(first) = self.order.front() {
            let tree = self.by_key.get(&first.key);
            let is_kept = tree.is_some_and(|tree| tree.revision == first.revision);
            let is_over = self.bytes > BYTES_MAX
                || self.by_key.len() > TREES_MAX
                || self.order.len() > 2 * TREES_MAX
                || now.saturating_duration_since(first.since) >= AGE_MAX;
            if is_kept && !is_over {
                break;
            }
            if let Some(first) = self.order.pop_front()
                && is_kept
            {
                dropped.extend(self.remove(&first.key));
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests;
