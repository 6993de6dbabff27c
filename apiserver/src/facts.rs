//! What of an object selectors ask for, in as little room as may be: there is one of these for every object, on every member.
//!
//! Objects that come one after the other mostly have the same labels, and the same in most fields. That stands in memory once
//! for all of them; what each has for itself, as its node or its address, is one block.

mod by_text;

use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use resources::Resource;
use schema::Object;

use crate::entry::{from_storage, is_made_here, is_read_converted};
pub(crate) use by_text::ByText;

/// So many different blocks are remembered by each thread, to be shared: those of some hundred templates, each of which has pods
/// in several phases.
const REMEMBERED: usize = 1_024;
/// Longer ones are not, in bytes: nobody else has them, and they would stay when their object is gone.
const SHARED_BYTES_MAX: usize = 1024;
/// Few objects have more in labels, in fields that others have alike, and for themselves. In bytes.
const LABELS_EXPECTED: usize = 256;
const FIELDS_EXPECTED: usize = 192;
const VALUES_EXPECTED: usize = 96;
/// A pod has ten.
const NAMES_EXPECTED: usize = 12;
/// Fields whose paths end with these names tell objects apart that have all else alike.
const OWN: [&str; 7] = [
    "nodeName",
    "nominatedNodeName",
    "podIP",
    "podIPs",
    "name",
    "uid",
    "resourceVersion",
];

/// See the module head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) alike: Arc<Alike>,
    /// Of the fields that it has for itself, in the order of their names.
    pub(crate) values: String,
}

/// What many objects have alike.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Alike {
    /// Keys and values in turns.
    labels: Arc<str>,
    /// The selectable fields, of every API shape of the object, that have a value: names and values in turns. Absent is empty.
    fields: Arc<str>,
    /// Of the others, which each has for itself, the names.
    names: Arc<[Arc<str>]>,
}

thread_local! {
    static TEXTS: RefCell<Vec<Arc<str>>> = const { RefCell::new(Vec::new()) };
    static NAMES: RefCell<Vec<Arc<[Arc<str>]>>> = const { RefCell::new(Vec::new()) };
    static ALIKE: RefCell<Vec<Arc<Alike>>> = const { RefCell::new(Vec::new()) };
}

impl Facts {
    pub(crate) fn of<'r>(object: &Object, shapes: impl Iterator<Item = &'r Resource>) -> Facts {
        let mut gathered = Gathered::new();
        for (key, value) in object.labels() {
            gathered.label(key, value);
        }
        let mut told: Vec<&str> = Vec::with_capacity(NAMES_EXPECTED);
        for resource in shapes {
            if resource.field_selectors.is_empty() || !is_made_here(resource, object) {
                continue;
            }
            let mut shaped = Cow::Borrowed(object);
            if is_read_converted(resource, object) {
                from_storage(resource, shaped.to_mut());
            }
            for name in &resource.field_selectors {
                let value = resource.offered_field(&shaped, name);
                if !value.is_empty() && !told.contains(&&**name) {
                    told.push(name);
                    gathered.field(name, &value);
                }
            }
        }
        gathered.facts()
    }
}

/// What facts are made of, as it is found.
struct Gathered<'n> {
    labels: String,
    fields: String,
    /// Of the values.
    names: Vec<&'n Arc<str>>,
    values: String,
}

impl<'n> Gathered<'n> {
    fn new() -> Gathered<'n> {
        // Grown byte by byte they would move several times.
        Gathered {
            labels: String::with_capacity(LABELS_EXPECTED),
            fields: String::with_capacity(FIELDS_EXPECTED),
            names: Vec::with_capacity(NAMES_EXPECTED),
            values: String::with_capacity(VALUES_EXPECTED),
        }
    }

    /// They are told in the order of their keys.
    fn label(&mut self, key: &str, value: &str) {
        push(&mut self.labels, key);
        push(&mut self.labels, value);
    }

    /// Each is told once, in the order of the shapes. An empty one is as one that is not there.
    fn field(&mut self, name: &'n Arc<str>, value: &str) {
        if value.is_empty() {
            return;
        }
        if is_own(name) {
            self.names.push(name);
            push(&mut self.values, value);
        } else {
            push(&mut self.fields, name);
            push(&mut self.fields, value);
        }
    }

    fn facts(self) -> Facts {
        Facts {
            alike: Alike::of(&self.labels, &self.fields, &self.names),
            values: self.values,
        }
    }
}

/// Whether it is of the fields that each object has for itself.
fn is_own(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, last)| OWN.contains(&last))
}

impl Alike {
    /// The one that this thread has made lately, where it is the same.
    fn of(labels: &str, fields: &str, names: &[&Arc<str>]) -> Arc<Alike> {
        if labels.len() + fields.len() > SHARED_BYTES_MAX {
            return Arc::new(Alike {
                labels: labels.into(),
                fields: fields.into(),
                names: Alike::names(names),
            });
        }
        // Mostly the whole is there already: its parts are looked for where it is not.
        ALIKE.with_borrow_mut(|lately| {
            let place = place_of(lately, &(labels, fields, names));
            if !place.says(labels, fields, names) {
                let text = |text: &str| TEXTS.with_borrow_mut(|lately| shared(lately, text));
                *place = Arc::new(Alike {
                    labels: text(labels),
                    fields: text(fields),
                    names: Alike::names(names),
                });
            }
            place.clone()
        })
    }

    fn names(names: &[&Arc<str>]) -> Arc<[Arc<str>]> {
        let names: Vec<Arc<str>> = names.iter().copied().cloned().collect();
        NAMES.with_borrow_mut(|lately| shared(lately, &names[..]))
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        Pairs(Texts(&self.labels))
    }

    /// The value of a field of an object that has these `values` for itself; empty where it has none.
    pub(crate) fn field<'a>(&'a self, values: &'a str, name: &str) -> &'a str {
        let mut names = self.names.iter();
        let value = match names.position(|known| **known == *name) {
            Some(at) => Texts(values).nth(at),
            None => value_of(&self.fields, name),
        };
        value.unwrap_or_default()
    }

    fn says(&self, labels: &str, fields: &str, names: &[&Arc<str>]) -> bool {
        *self.labels == *labels
            && *self.fields == *fields
            && self.names.iter().eq(names.iter().copied())
    }
}

/// Where something is remembered, if it is.
fn place_of<'a, T: Default + Clone>(
    lately: &'a mut Vec<T>,
    value: &(impl Hash + ?Sized),
) -> &'a mut T {
    if lately.is_empty() {
        lately.resize(REMEMBERED, T::default());
    }
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    &mut lately[hasher.finish() as usize % REMEMBERED]
}

/// The block of an equal one that this thread has seen lately.
fn shared<T: ?Sized + Hash + PartialEq>(lately: &mut Vec<Arc<T>>, value: &T) -> Arc<T>
where
    Arc<T>: Default + for<'a> From<&'a T>,
{
    let place = place_of(lately, value);
    if **place != *value {
        *place = Arc::from(value);
    }
    place.clone()
}

/// The value behind a name in a block of both in turns.
fn value_of<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = Pairs(Texts(block));
    pairs.find_map(|(known, value)| (known == name).then_some(value))
}

/// Appends a text behind its length. Most are short, and there are several in every object: a formatter takes longer than they
/// are worth.
fn push(block: &mut String, text: &str) {
    let digit = |number: usize| char::from(b'0' + number as u8);
    match text.len() {
        len @ 0..10 => block.push(digit(len)),
        len @ 10..100 => block.extend([digit(len / 10), digit(len % 10)]),
        len => block.push_str(&len.to_string()),
    }
    block.push(':');
    block.push_str(text);
}

/// The texts of a block.
#[derive(Clone)]
struct Texts<'a>(&'a str);

impl<'a> Iterator for Texts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit);
        let rest = self.0[digits.clone().count()..].strip_prefix(':')?;
        let len = digits.fold(0_usize, |len, digit| {
            let digit = usize::from(digit - b'0');
            len.saturating_mul(10).saturating_add(digit)
        });
        let (text, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some(text)
    }
}

#[derive(Clone)]
struct Pairs<'a>(Texts<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        Some((self.0.next()?, self.0.next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    impl Facts {
        fn labels(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
            self.alike.labels()
        }

        fn field(&self, name: &str) -> &str {
            self.alike.field(&self.values, name)
        }
    }

    fn facts(app: &str, node: &str) -> Facts {
        let pods = resources::find("", "v1", "pods").unwrap();
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "labels": {"app": app, "tier": ""}},
            "spec": {"nodeName": node, "restartPolicy": "Always"}, "status": {"phase": "Running"}});
        let object = Object::new(pod).unwrap();
        Facts::of(&object, std::iter::once(pods))
    }

    #[test]
    fn labels_and_fields_are_told_as_they_are() {
        let one = facts("web", "n1");
        assert_eq!(
            one.labels().collect::<Vec<_>>(),
            [("app", "web"), ("tier", "")]
        );
        let fields = ["spec.nodeName", "status.phase", "spec.restartPolicy"];
        assert_eq!(
            fields.map(|name| one.field(name)),
            ["n1", "Running", "Always"]
        );
        assert_eq!((one.field("status.podIP"), one.field("x")), ("", ""));
        assert_eq!(facts("web", "").field("spec.nodeName"), "");
        assert!(one == facts("web", "n1") && one != facts("db", "n1") && one != facts("web", "n2"));
        let none = Facts::default();
        assert!(none.labels().next().is_none() && none.field("spec.nodeName").is_empty());
    }

    #[test]
    fn an_event_tells_the_fields_of_both_shapes_as_it_is_stored() {
        let core = resources::find("", "v1", "events").unwrap();
        let new = resources::find("events.k8s.io", "v1", "events").unwrap();
        let pick = crate::entry::needed(&[core.into(), new.into()]).expect("not all is needed");
        let about = json!({"kind": "Pod", "name": "p", "uid": "u", "fieldPath": 7});
        for event in [
            json!({"involvedObject": about, "reason": "r", "type": "Normal", "source": {"component": "c"}, "reportingComponent": "k"}),
            json!({"involvedObject": about, "reportingComponent": "", "reportingInstance": "", "note": "n"}),
            json!({"involvedObject": null, "reportingComponent": null}),
            json!({"involvedObject": about, "regarding": {"name": "other"}, "reportingComponent": "k", "reportingController": "l"}),
            json!({"regarding": {"name": "other"}, "reportingController": "l", "type": "Warning"}),
            json!({"regarding": "odd", "involvedObject": "odd", "source": "odd"}),
            json!({}),
        ] {
            let stored = Object::new(event.clone()).unwrap();
            let mut shown = stored.clone();
            from_storage(new, &mut shown);
            let picked = pick.read(event.to_string().as_bytes()).unwrap();
            let picked = Object::new(picked).unwrap();
            for object in [&stored, &picked] {
                let facts = Facts::of(object, [core, new].into_iter());
                for (resource, object) in [(core, &stored), (new, &shown)] {
                    for name in &resource.field_selectors {
                        let expected = resource.offered_field(object, name);
                        assert_eq!(facts.field(name), expected, "{name} of {event}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_alike_is_there_once() {
        let (one, other) = (facts("web", "n1"), facts("web", "n2"));
        assert!(Arc::ptr_eq(&one.alike, &other.alike) && one != other);
        assert_eq!(one.values, "2:n1", "all else is alike");
        let long = || facts(&"x".repeat(SHARED_BYTES_MAX), "n1");
        assert!(!Arc::ptr_eq(&long().alike, &long().alike) && long() == long());
        for number in 0..2 * REMEMBERED {
            let app = number.to_string();
            assert_eq!(
                facts(&app, "n").labels().next(),
                Some(("app", app.as_str()))
            );
        }
    }

    #[test]
    fn an_entry_is_small() {
        // There is one for each object, on each member: with the two counts of its Arc it fills one of the allocator's sizes.
        let entry = size_of::<crate::entry::Entry>();
        assert!(entry <= 112 - 16, "{entry}");
    }

    proptest! {
        #[test]
        fn texts_of_any_kind_come_back(texts in prop::collection::vec(".{0,20}|[0-9:]{0,4}|[ab]{95,105}", 0..12)) {
            let mut block = String::new();
            texts.iter().for_each(|text| push(&mut block, text));
            prop_assert_eq!(Texts(&block).collect::<Vec<_>>(), texts);
        }
    }
}
