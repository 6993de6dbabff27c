//! Which watches a change is for: only these are woken, and they look at nothing else.
//!
//! Watches that have in common what they demand of an object make a group: its namespace, and one value of a field or of a
//! label. A group remembers which changes in the ring are for it, so that a watch of one object among many thousands costs
//! nothing while the others change, and never falls behind for their sake.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host::watch;

use crate::entry::Entry;

/// What all objects have in common that a watch can be about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Interest {
    /// Empty: all.
    pub(crate) namespace: String,
    pub(crate) term: Term,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Term {
    #[default]
    Any,
    Field(String, String),
    Label(String, String),
}

/// Watches of the same interest.
#[derive(Debug)]
pub(crate) struct Group {
    interest: Interest,
    /// Changed while all groups are locked.
    watches: AtomicUsize,
    wake: watch::Sender<u64>,
    seen: Mutex<Seen>,
}

/// The changes that are for a group, by their sequence numbers.
#[derive(Debug)]
struct Seen {
    /// From here on `numbers` is complete.
    since: u64,
    numbers: VecDeque<u64>,
}

impl Seen {
    /// The ring begins with `first` now.
    fn age(&mut self, first: u64) {
        while let Some(old) = self.numbers.front().copied().filter(|old| *old < first) {
            self.numbers.pop_front();
            self.since = old + 1;
        }
    }
}

impl Group {
    fn new(interest: &Interest, since: u64) -> Group {
        Group {
            interest: interest.clone(),
            watches: AtomicUsize::new(0),
            wake: watch::Sender::new(0),
            seen: Mutex::new(Seen {
                since,
                numbers: VecDeque::new(),
            }),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes when there are changes for this group that the holder has not seen.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.wake.subscribe()
    }

    /// The changes from `cursor` on that are for the group, up to `max`; none where that is not known any more.
    pub(crate) fn changes(&self, cursor: u64, max: usize) -> Option<Vec<u64>> {
        let seen = self.seen();
        if cursor < seen.since {
            return None;
        }
        let from = seen.numbers.partition_point(|number| *number < cursor);
        Some(seen.numbers.iter().skip(from).take(max).copied().collect())
    }

    /// Takes note of a change; the ring begins with `first`.
    fn note(&self, number: u64, first: u64) {
        let mut seen = self.seen();
        seen.age(first);
        if seen.numbers.back() != Some(&number) {
            seen.numbers.push_back(number);
        }
    }

    fn forget(&self, since: u64) {
        let mut seen = self.seen();
        seen.numbers.clear();
        seen.since = since;
    }

    pub(crate) fn wake(&self) {
        self.wake.send_modify(|count| *count += 1);
    }
}

/// Groups by value, by the name of a field or label.
type ByValue = BTreeMap<String, BTreeMap<String, Arc<Group>>>;

/// The groups of one namespace.
#[derive(Debug, Default)]
struct Place {
    any: Option<Arc<Group>>,
    fields: ByValue,
    labels: ByValue,
}

impl Place {
    fn is_empty(&self) -> bool {
        self.any.is_none() && self.fields.is_empty() && self.labels.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Group>> {
        let by_value = self.fields.values().chain(self.labels.values());
        self.any.iter().chain(by_value.flat_map(BTreeMap::values))
    }

    fn of<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a Arc<Group>> {
        let fields = self.fields.iter();
        let fields = fields.filter_map(|(name, groups)| groups.get(entry.field(name)));
        // Watches by labels are few: most often there is nothing to look for.
        let labels = (!self.labels.is_empty()).then(|| entry.labels());
        let labels = labels.into_iter().flatten();
        let labels = labels.filter_map(|(key, value)| self.labels.get(key)?.get(value));
        self.any.iter().chain(fields).chain(labels)
    }
}

/// All groups of a cache.
#[derive(Debug, Default)]
pub(crate) struct Groups(BTreeMap<String, Place>);

impl Groups {
    /// The group of an interest. One that is made knows what comes from `next` on.
    pub(crate) fn join(&mut self, interest: &Interest, next: u64) -> Arc<Group> {
        let place = self.0.entry(interest.namespace.clone()).or_default();
        let made = || Arc::new(Group::new(interest, next));
        let group = match &interest.term {
            Term::Any => place.any.get_or_insert_with(made),
            Term::Field(name, value) => by_name(&mut place.fields, name, value, made),
            Term::Label(key, value) => by_name(&mut place.labels, key, value, made),
        };
        group.watches.fetch_add(1, Ordering::Relaxed);
        group.clone()
    }

    /// The group has one watch less; the last one takes it away.
    pub(crate) fn leave(&mut self, group: &Group) {
        if group.watches.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        let interest = &group.interest;
        let Some(place) = self.0.get_mut(&interest.namespace) else {
            return;
        };
        match &interest.term {
            Term::Any => place.any = None,
            Term::Field(name, value) => drop_name(&mut place.fields, name, value),
            Term::Label(key, value) => drop_name(&mut place.labels, key, value),
        }
        if place.is_empty() {
            self.0.remove(&interest.namespace);
        }
    }

    /// Takes note of a change from `old` to `new`, and answers the groups that it is for.
    pub(crate) fn note<'a>(
        &'a self,
        (old, new): (Option<&'a Entry>, Option<&'a Entry>),
        number: u64,
        first: u64,
    ) -> impl Iterator<Item = &'a Arc<Group>> {
        let places = |entry: &'a Entry| {
            let own = Some(entry.namespace()).filter(|namespace| !namespace.is_empty());
            let places = std::iter::once("").chain(own);
            let places = places.filter_map(|namespace| self.0.get(namespace));
            places.flat_map(|place| place.of(entry))
        };
        let groups = old.into_iter().chain(new).flat_map(places);
        groups.inspect(move |group| group.note(number, first))
    }

    /// All changes before `next` are gone from the ring, and nobody may go on from there.
    pub(crate) fn forget(&self, next: u64) {
        self.all().for_each(|group| group.forget(next));
    }

    /// The ring begins with `first` now; who knows what came before may go on.
    pub(crate) fn age(&self, first: u64) {
        self.all().for_each(|group| group.seen().age(first));
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.0.values().flat_map(Place::all)
    }
}

fn by_name<'a>(
    groups: &'a mut ByValue,
    name: &str,
    value: &str,
    made: impl FnOnce() -> Arc<Group>,
) -> &'a mut Arc<Group> {
    let of_name = groups.entry(name.to_owned()).or_default();
    of_name.entry(value.to_owned()).or_insert_with(made)
}

fn drop_name(groups: &mut ByValue, name: &str, value: &str) {
    if let Some(of_name) = groups.get_mut(name) {
        of_name.remove(value);
        if of_name.is_empty() {
            groups.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(namespace: &str, term: Term) -> Interest {
        Interest {
            namespace: namespace.to_owned(),
            term,
        }
    }

    fn pod(name: &str, app: &str) -> Entry {
        let json = format!(
            r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"labels":{{"app":"{app}"}}}}}}"#
        );
        let key = format!("/registry/pods/{name}");
        let names_at = "/registry/pods/".len();
        Entry::new(
            &key,
            names_at,
            &bytes::Bytes::from(json).into(),
            1,
            &[],
            None,
        )
        .unwrap()
    }

    fn field(value: &str) -> Term {
        Term::Field("metadata.name".into(), value.into())
    }

    fn label(value: &str) -> Term {
        Term::Label("app".into(), value.into())
    }

    #[test]
    fn a_change_is_for_whoever_may_see_it_before_or_after() {
        let mut groups = Groups::default();
        let wanted = [
            ("", Term::Any, true),
            ("n", Term::Any, true),
            ("m", Term::Any, false),
            ("n", field("p"), true),
            ("", field("q"), false),
            ("n", label("old"), true),
            ("", label("new"), true),
            ("m", label("new"), false),
            ("n", label("other"), false),
            (
                "n",
                Term::Field("spec.nodeName".into(), String::new()),
                true,
            ),
        ];
        let joined: Vec<_> = wanted
            .iter()
            .map(|(namespace, term, _)| groups.join(&interest(namespace, term.clone()), 5))
            .collect();
        let (old, new) = (pod("n/p", "old"), pod("n/p", "new"));
        let noted = groups.note((Some(&old), Some(&new)), 7, 0).count();
        assert!(noted > 0);
        for (group, (.., concerned)) in joined.iter().zip(&wanted) {
            let expected = if *concerned { vec![7] } else { vec![] };
            let changes = group.changes(5, 10);
            assert_eq!(changes, Some(expected), "{:?}", group.interest);
            assert_eq!(group.changes(4, 10), None);
            assert_eq!(group.changes(8, 10), Some(vec![]));
        }
        for group in &joined {
            groups.leave(group);
        }
        assert!(groups.0.is_empty());
    }

    #[test]
    fn a_group_stays_until_its_last_watch_leaves() {
        let mut groups = Groups::default();
        let of = interest("n", label("a"));
        let (first, second) = (groups.join(&of, 1), groups.join(&of, 9));
        assert!(Arc::ptr_eq(&first, &second));
        groups.leave(&first);
        assert_eq!(groups.all().count(), 1);
        groups.leave(&second);
        assert_eq!(groups.all().count(), 0);
    }

    #[test]
    fn what_left_the_ring_is_forgotten() {
        let mut groups = Groups::default();
        let group = groups.join(&Interest::default(), 1);
        let entry = pod("n/p", "a");
        for number in 1..=6 {
            let first = if number == 6 { 4 } else { 0 };
            groups
                .note((None, Some(&entry)), number, first)
                .for_each(drop);
        }
        assert_eq!(group.changes(3, 9), None);
        assert_eq!(group.changes(4, 2), Some(vec![4, 5]));
        groups.forget(8);
        assert_eq!(
            (group.changes(7, 9), group.changes(8, 9)),
            (None, Some(vec![]))
        );
    }
}
