//! Pods that are like one that was created a moment ago. A controller makes many of one template: their bodies differ in the
//! end of their name, and in nothing else. So what decoding, defaults, the tracking of fields, admission and validation made
//! of the first is what they make of each, but for what tells one object from another. (The volume of the token, whose name
//! admission draws, has the same name in all of them: it has to be unique in its pod only.)
//!
//! The tree of such a pod becomes that of the next: it is neither read nor copied, and not freed in between. Its text is that of
//! the first, with what is its own in the place of that.
//!
//! That holds while nothing changes of what admission looks up in changing a pod, and where neither webhooks nor policies
//! may change it. What judges a pod without changing it, who may do what, and quotas are asked for each.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::watch;
use resources::Resource;
use schema::Object;
use schema::decode::FieldValidation;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::OPTIONS;
use crate::codec::Template;
use crate::context::Context;
use crate::negotiate::{self, BodyFormat};
use crate::world::World;
use crate::write::Like;
use crate::{chance, decode, managed, trees, write};

/// Templates that are remembered at once.
const TWINS_MAX: usize = 128;
/// Trees that wait for the next pod: of one template, and of all. One takes some tens of kilobytes mostly.
const TREES_MAX: usize = 16;
const ALL_TREES_MAX: usize = 128;
/// Longer bodies are not compared.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Pods that take more memory are not remembered: with managed fields, a short body may become a tree of some megabytes.
const TREE_BYTES_MAX: usize = 256 << 10;
/// What is not used for so long is forgotten.
const KEPT: Duration = Duration::from_secs(20);
/// Letters and digits behind the prefix of a generated name.
const END_BYTES: usize = 5;

/// What admission looks up when it changes a pod: groups and plurals.
const LOOKED_UP: [(&str, &str); 8] = [
    ("", "namespaces"),
    ("", "limitranges"),
    ("", "serviceaccounts"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("node.k8s.io", "runtimeclasses"),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
    ),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings",
    ),
];

/// The create of a pod that may be like another.
pub(super) struct Ask<'a> {
    body: &'a [u8],
    namespace: &'a str,
    manager: String,
    validation: FieldValidation,
    /// How often something had changed by then of what admission looks up.
    epoch: u64,
    /// What is known of the pod, where one like it is.
    pub(super) like: Like,
}

impl<'a> Ask<'a> {
    /// None where the create is of something else, or where each of its steps is told of or may have been asked otherwise.
    pub(super) fn of(context: &'a Context, resource: &Resource, body: &'a [u8]) -> Option<Ask<'a>> {
        let is_pod = resource.group.is_empty() && resource.plural == "pods";
        let is_plain = !context.is_own && context.audit.is_nothing();
        if !is_pod || !is_plain || body.len() > BODY_BYTES_MAX {
            return None;
        }
        if !matches!(
            negotiate::body_format(&context.headers),
            Ok(BodyFormat::Json)
        ) {
            return None;
        }
        Some(Ask {
            body,
            namespace: &context.info.namespace,
            manager: managed::manager(context, OPTIONS).ok()?,
            validation: decode::field_validation(context, OPTIONS).ok()?,
            epoch: 0,
            like: Like::default(),
        })
    }
}

/// Pods of one template.
struct Twin {
    /// The body before the end of the name, and behind it.
    head: Box<[u8]>,
    tail: Box<[u8]>,
    namespace: String,
    manager: String,
    validation: FieldValidation,
    /// How all names begin.
    prefix: String,
    first: Arc<Object>,
    like: Like,
    /// What nobody else holds.
    trees: Vec<Object>,
    used: Instant,
}

impl Twin {
    /// The end of the name in a body that is like this one.
    fn end<'b>(&self, ask: &Ask<'b>) -> Option<&'b str> {
        let body: &'b [u8] = ask.body;
        let end = body.strip_prefix(&*self.head)?;
        let end = end.strip_suffix(&*self.tail)?;
        let is_alike = is_end(end)
            && self.validation == ask.validation
            && self.namespace == ask.namespace
            && self.manager == ask.manager;
        std::str::from_utf8(end).ok().filter(|_| is_alike)
    }
}

/// Whether it is an end that any name may have: two names that differ in such ends are both allowed, or neither is.
fn is_end(end: &[u8]) -> bool {
    let is_of_end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    end.len() == END_BYTES && end.iter().all(is_of_end)
}

/// Where the name's end is in the body that a pod was made of, which is a whole one; none where that is not clear.
fn place(body: &[u8], pod: &Object) -> Option<Range<usize>> {
    let (name, prefix) = (pod.name(), pod.generate_name());
    let end = name.strip_prefix(prefix)?;
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if prefix.is_empty() || !is_end(end.as_bytes()) || !name.bytes().all(is_of_name) {
        return None;
    }
    // Without escapes every text stands there as it is. So where this one stands once, it is the name.
    let body = std::str::from_utf8(body).ok()?;
    if body.contains('\\') {
        return None;
    }
    let text = format!("\"{name}\"");
    let mut places = body.match_indices(&text);
    let (at, _) = places.next()?;
    if places.next().is_some() {
        return None;
    }
    let from = at + 1 + prefix.len();
    Some(from..from + end.len())
}

/// Whether the tree of a created pod holds nothing of its own but what [`dress`] replaces.
fn is_plain(body: &[u8], pod: &Object, now: &str) -> bool {
    // Whoever sends entries may have times in them. A pod that has a node already takes labels over from it.
    let sends_entries = body
        .windows(b"managedFields".len())
        .any(|part| part == b"managedFields");
    let time = pod.metadata().and_then(|metadata| {
        let entries = metadata.get("managedFields")?.as_array()?;
        match entries.as_slice() {
            [entry] => entry.get("time")?.as_str(),
            _ => None,
        }
    });
    let node = pod.get_str(&["spec", "nodeName"]);
    !sends_entries && time == Some(now) && node.is_none_or(str::is_empty)
}

/// Makes another pod of the tree of one: with this name, and created now.
fn dress(pod: &mut Object, name: &str, now: &str) {
    pod.set_name(name);
    pod.set_uid(&chance::name());
    pod.set_creation_timestamp(now);
    let metadata = pod.metadata_mut();
    metadata.remove("resourceVersion");
    if let Some(time) = time_of_entry(metadata) {
        *time = now.into();
    }
}

fn time_of_entry(metadata: &mut Map<String, Value>) -> Option<&mut Value> {
    let entries = metadata.get_mut("managedFields")?.as_array_mut()?;
    entries.first_mut()?.get_mut("time")
}

/// A tree for another pod.
enum Tree {
    Own(Object),
    Shared(Arc<Object>),
}

impl Tree {
    fn into_object(self) -> Object {
        match self {
            Tree::Own(object) => object,
            Tree::Shared(object) => Arc::unwrap_or_clone(object),
        }
    }
}

#[derive(Default)]
struct State {
    /// Of the caches of [`LOOKED_UP`].
    wakes: Vec<watch::Receiver<u64>>,
    epoch: u64,
    twins: Vec<Twin>,
}

impl State {
    /// Takes everything out where something has changed of what admission looks up.
    fn outdated(&mut self) -> Vec<Twin> {
        let mut changed = false;
        for wake in &mut self.wakes {
            if wake.has_changed().unwrap_or(false) {
                wake.mark_unchanged();
                changed = true;
            }
        }
        if !changed {
            return Vec::new();
        }
        self.epoch += 1;
        std::mem::take(&mut self.twins)
    }

    /// Where the template of a pod is. Most come one after the other: the last one is looked at first.
    fn place(&mut self, ask: &Ask<'_>) -> Option<usize> {
        let place = self.twins.iter().position(|twin| twin.end(ask).is_some())?;
        self.twins.swap(0, place);
        Some(0)
    }

    fn known(&mut self, ask: &Ask<'_>) -> Option<&mut Twin> {
        let place = self.place(ask)?;
        self.twins.get_mut(place)
    }

    /// A tree for the pod that is asked for, its name, and what else is known of it.
    fn take(&mut self, ask: &Ask<'_>, now: Instant) -> Option<(Tree, String, Like)> {
        let twin = self.known(ask)?;
        let name = format!("{}{}", twin.prefix, twin.end(ask)?);
        twin.used = now;
        let tree = match twin.trees.pop() {
            Some(object) => Tree::Own(object),
            None => Tree::Shared(twin.first.clone()),
        };
        Some((tree, name, twin.like.clone()))
    }

    /// Takes the tree of a pod of a known template, unless that has enough. What is to be freed for it: where all have too
    /// many, it is one of the template that was not used for the longest time.
    fn give_back(&mut self, ask: &Ask<'_>, tree: Object) -> Option<Object> {
        let known = self.place(ask);
        let Some(at) = known.filter(|at| self.twins[*at].trees.len() < TREES_MAX) else {
            return Some(tree);
        };
        let all: usize = self.twins.iter().map(|twin| twin.trees.len()).sum();
        self.twins[at].trees.push(tree);
        if all < ALL_TREES_MAX {
            return None;
        }
        let others = self.twins.iter_mut().enumerate();
        let others = others.filter(|(other, twin)| *other != at && !twin.trees.is_empty());
        let (_, idle) = others.min_by_key(|(_, twin)| twin.used)?;
        idle.trees.pop()
    }

    /// Remembers a template. The one that has to go for it.
    fn learn(&mut self, twin: Twin) -> Option<Twin> {
        let oldest = (0..self.twins.len()).min_by_key(|at| self.twins[*at].used);
        let full = self.twins.len() >= TWINS_MAX;
        let gone = oldest.filter(|_| full).map(|at| self.twins.swap_remove(at));
        self.twins.push(twin);
        gone
    }
}

/// See the module head.
pub(crate) struct Twins(Mutex<State>);

impl Twins {
    pub(crate) fn new(world: &World) -> Twins {
        let caches = LOOKED_UP.iter().filter_map(|(group, plural)| {
            // What is not there never changes.
            world.named(group, plural)
        });
        Twins(Mutex::new(State {
            wakes: caches.map(|cache| cache.subscribe()).collect(),
            ..State::default()
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod that is asked for as it is about to be stored, where one like it was created. `now` is in seconds since 1970.
    pub(super) fn find(&self, ask: &mut Ask<'_>, now: i64) -> Option<Object> {
        let used = Instant::now();
        let mut state = self.lock();
        let outdated = state.outdated();
        ask.epoch = state.epoch;
        let found = state.take(ask, used);
        drop(state);
        // Freeing trees takes a while.
        drop(outdated);
        let (tree, name, like) = found?;
        ask.like = like;
        let mut pod = tree.into_object();
        dress(&mut pod, &name, &schema::time::now_rfc3339(now));
        Some(pod)
    }

    /// Takes the tree of a pod back that [`Twins::find`] gave, for the next.
    pub(super) fn give_back(&self, ask: &Ask<'_>, pod: Arc<Object>) {
        let Some(pod) = Arc::into_inner(pod) else {
            return;
        };
        let mut state = self.lock();
        let outdated = state.outdated();
        let rest = match state.epoch == ask.epoch {
            true => state.give_back(ask, pod),
            false => Some(pod),
        };
        drop(state);
        drop((outdated, rest));
    }

    /// Remembers a pod that was created as it was asked for, and of which nothing was said, for those that are like it.
    pub(super) fn learn(&self, ask: &Ask<'_>, pod: Arc<Object>, now: i64) {
        let now = schema::time::now_rfc3339(now);
        let Some(place) = place(ask.body, &pod).filter(|_| is_plain(ask.body, &pod, &now)) else {
            return;
        };
        let room = trees::room(pod.value());
        if room > TREE_BYTES_MAX || !write::is_exact(&pod) {
            return;
        }
        let template = Template::of(pod.value()).map(Arc::new);
        let twin = Twin {
            head: Box::from(&ask.body[..place.start]),
            tail: Box::from(&ask.body[place.end..]),
            namespace: ask.namespace.to_owned(),
            manager: ask.manager.clone(),
            validation: ask.validation,
            prefix: pod.generate_name().to_owned(),
            first: pod,
            like: Like { room, template },
            trees: Vec::new(),
            used: Instant::now(),
        };
        let mut state = self.lock();
        let outdated = state.outdated();
        // Somebody may have been faster with one like it.
        let is_new = state.epoch == ask.epoch && state.known(ask).is_none();
        let gone = match is_new {
            true => state.learn(twin),
            false => Some(twin),
        };
        drop(state);
        drop((outdated, gone));
    }

    /// Forgets what was not used lately.
    pub(crate) fn age(&self, now: Instant) {
        let mut state = self.lock();
        let is_idle = |twin: &mut Twin| now.saturating_duration_since(twin.used) >= KEPT;
        let gone: Vec<Twin> = state.twins.extract_if(.., is_idle).collect();
        drop(state);
        drop(gone);
    }
}

#[cfg(test)]
mod tests;
