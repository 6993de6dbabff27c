//! What of an object selectors ask for, in as little room as may be: there is one of these for every object, on every member.
//!
//! Objects that come one after the other mostly have the same labels, and values for the same fields. Both stand in memory
//! once for all of them; what each has for itself, the values, is one block.

use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use resources::Resource;
use schema::Object;

use crate::entry::{from_storage, is_converted, is_made_here};

/// So many different blocks are remembered by each thread, to be shared.
const REMEMBERED: usize = 256;
/// Longer ones are not, in bytes: nobody else has them, and they would stay when their object is gone.
const SHARED_BYTES_MAX: usize = 1024;

/// See the module head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Keys and values in turns.
    labels: Arc<str>,
    /// The selectable fields, of every API shape of the object, that have a value; absent is empty.
    names: Arc<[Arc<str>]>,
    /// Their values in the same order.
    values: Box<str>,
}

thread_local! {
    static LABELS: RefCell<Vec<Arc<str>>> = const { RefCell::new(Vec::new()) };
    static NAMES: RefCell<Vec<Arc<[Arc<str>]>>> = const { RefCell::new(Vec::new()) };
}

impl Facts {
    pub(crate) fn of<'r>(object: &Object, shapes: impl Iterator<Item = &'r Resource>) -> Facts {
        let mut labels = String::new();
        for (key, value) in object.labels() {
            push(&mut labels, key);
            push(&mut labels, value);
        }
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut values = String::new();
        for resource in shapes {
            if resource.field_selectors.is_empty() || !is_made_here(resource, object) {
                continue;
            }
            let mut shaped = Cow::Borrowed(object);
            if is_converted(resource) {
                from_storage(resource, shaped.to_mut());
            }
            for name in &resource.field_selectors {
                let value = resource.field(&shaped, name);
                if let Some(value) = value.filter(|value| !value.is_empty())
                    && !names.contains(name)
                {
                    names.push(name.clone());
                    push(&mut values, &value);
                }
            }
        }
        Facts {
            labels: match labels.len() <= SHARED_BYTES_MAX {
                true => LABELS.with_borrow_mut(|lately| shared(lately, &*labels)),
                false => labels.into(),
            },
            names: NAMES.with_borrow_mut(|lately| shared(lately, &*names)),
            values: values.into(),
        }
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        Pairs(Texts(&self.labels))
    }

    /// The value of a field; empty where it has none.
    pub(crate) fn field(&self, name: &str) -> &str {
        let at = self.names.iter().position(|known| **known == *name);
        at.and_then(|at| Texts(&self.values).nth(at))
            .unwrap_or_default()
    }
}

/// The block of an equal one that this thread has seen lately.
fn shared<T: ?Sized + Hash + PartialEq>(lately: &mut Vec<Arc<T>>, value: &T) -> Arc<T>
where
    Arc<T>: Default + for<'a> From<&'a T>,
{
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    let at = hasher.finish() as usize % REMEMBERED;
    if lately.is_empty() {
        lately.resize_with(REMEMBERED, Default::default);
    }
    if *lately[at] != *value {
        lately[at] = Arc::from(value);
    }
    lately[at].clone()
}

/// Appends a text behind its length.
fn push(block: &mut String, text: &str) {
    block.push_str(&text.len().to_string());
    block.push(':');
    block.push_str(text);
}

/// The texts of a block.
#[derive(Clone)]
struct Texts<'a>(&'a str);

impl<'a> Iterator for Texts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (len, rest) = self.0.split_once(':')?;
        let (text, rest) = rest.split_at_checked(len.parse().ok()?)?;
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
    fn what_is_alike_is_there_once() {
        let (one, other) = (facts("web", "n1"), facts("web", "n2"));
        assert!(Arc::ptr_eq(&one.labels, &other.labels) && Arc::ptr_eq(&one.names, &other.names));
        let long = || facts(&"x".repeat(SHARED_BYTES_MAX), "n1");
        assert!(!Arc::ptr_eq(&long().labels, &long().labels) && long() == long());
        for number in 0..2 * REMEMBERED {
            let app = number.to_string();
            assert_eq!(
                facts(&app, "n").labels().next(),
                Some(("app", app.as_str()))
            );
        }
    }

    proptest! {
        #[test]
        fn texts_of_any_kind_come_back(texts in prop::collection::vec(".{0,20}|[0-9:]{0,4}", 0..12)) {
            let mut block = String::new();
            texts.iter().for_each(|text| push(&mut block, text));
            prop_assert_eq!(Texts(&block).collect::<Vec<_>>(), texts);
        }
    }
}
