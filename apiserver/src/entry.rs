//! One object as the cache holds it: encoded once, with the few facts that selectors ask for.

use std::sync::Arc;

use bytes::Bytes;
use resources::{Handle, Resource, Storage};
use schema::Object;
use serde_json::Value;

use crate::codec::Versioned;

/// An object at one revision. Shared by lists, watches, admission and authorization; never changed.
#[derive(Debug)]
pub(crate) struct Entry {
    key: Box<str>,
    /// Where namespace and name begin in `key`.
    names_at: usize,
    /// The object's resourceVersion.
    pub(crate) revision: i64,
    pub(crate) encoded: Versioned,
    labels: Box<[(Box<str>, Box<str>)]>,
    /// Values of the selectable fields of every API shape of the object; absent is empty.
    fields: Box<[(Arc<str>, Box<str>)]>,
}

impl Entry {
    /// None where `stored` is not an object (which only a foreign writer can cause).
    pub(crate) fn new(
        key: &str,
        names_at: usize,
        stored: &Bytes,
        revision: i64,
        shapes: &[Handle],
    ) -> Option<Entry> {
        let encoded = Versioned::splice(stored, revision)?;
        let object = Object::new(serde_json::from_slice(&encoded.json).ok()?).ok()?;
        let labels = object
            .labels()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        let mut fields = Vec::new();
        for resource in shapes {
            if resource.field_selectors.is_empty() {
                continue;
            }
            let mut shaped = object.clone();
            from_storage(resource, &mut shaped);
            for name in &resource.field_selectors {
                if let Some(value) = resource
                    .field(&shaped, name)
                    .filter(|value| !value.is_empty())
                    && !fields.iter().any(|(known, _)| known == name)
                {
                    fields.push((name.clone(), value.into_boxed_str()));
                }
            }
        }
        Some(Entry {
            key: key.into(),
            names_at,
            revision,
            encoded,
            labels,
            fields: fields.into_boxed_slice(),
        })
    }

    #[cfg(test)]
    pub(crate) fn for_test(key: &str, revision: i64) -> Entry {
        let stored = Bytes::from_static(br#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#);
        Entry::new(key, "/registry/pods/".len(), &stored, revision, &[]).unwrap()
    }

    /// The storage key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// `namespace/name`, or `name` where the kind has no namespace.
    pub(crate) fn names(&self) -> &str {
        &self.key[self.names_at..]
    }

    pub(crate) fn name(&self) -> &str {
        self.names()
            .rsplit_once('/')
            .map_or(self.names(), |(_, name)| name)
    }

    pub(crate) fn namespace(&self) -> &str {
        self.names()
            .rsplit_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    /// The complete object as JSON, resourceVersion included.
    pub(crate) fn json(&self) -> &Bytes {
        &self.encoded.json
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.labels.iter().map(|(key, value)| (&**key, &**value))
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        match name {
            "metadata.name" => self.name(),
            "metadata.namespace" => self.namespace(),
            _ => self
                .fields
                .iter()
                .find(|(known, _)| **known == *name)
                .map_or("", |(_, value)| value),
        }
    }

    /// The object, parsed afresh: the cache keeps bytes, which take a sixth of the room.
    pub(crate) fn object(&self) -> Object {
        let value: Value =
            serde_json::from_slice(self.json()).expect("parsed when it entered the cache");
        Object::new(value).expect("checked when it entered the cache")
    }

    /// The object in the shape of `resource`, which shares this storage.
    pub(crate) fn object_as(&self, resource: &Resource) -> Object {
        let mut object = self.object();
        from_storage(resource, &mut object);
        object
    }
}

/// Whether objects of `resource` are stored in another resource's shape.
pub(crate) fn is_converted(resource: &Resource) -> bool {
    matches!(resource.storage, Storage::Shared(_))
}

pub(crate) fn from_storage(resource: &Resource, object: &mut Object) {
    if let Storage::Shared(shared) = resource.storage {
        (shared.from_storage)(object);
    }
}

pub(crate) fn to_storage(resource: &Resource, object: &mut Object) {
    if let Storage::Shared(shared) = resource.storage {
        (shared.to_storage)(object);
    }
}
