//! One object as the cache holds it: encoded once, with the few facts that selectors ask for.

use std::sync::Arc;

use bytes::Bytes;
use resources::{Handle, Resource, Storage};
use schema::Object;
use serde_json::Value;

use crate::codec::{self, Versioned};

/// An object at one revision. Shared by lists, watches, admission and authorization; never changed.
#[derive(Debug)]
pub(crate) struct Entry {
    key: Box<str>,
    /// Where namespace and name begin in `key`.
    names_at: usize,
    /// The object's resourceVersion.
    pub(crate) revision: i64,
    pub(crate) encoded: Versioned,
    /// What is stored, where that is not what is shown: another version, or fields that the schema lost since.
    raw: Option<Box<Bytes>>,
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
        let mut encoded = Versioned::splice(stored, revision)?;
        let mut object = Object::new(serde_json::from_slice(&encoded.json).ok()?).ok()?;
        let mut raw = None;
        if let Some(custom) = shapes.first().and_then(|shape| shape.custom.as_ref()) {
            let before = object.clone();
            custom.read_stored(&mut object);
            if object != before {
                raw = Some(Box::new(stored.clone()));
                encoded = Versioned::splice(&codec::encode(object.value()), revision)?;
            }
        }
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
            raw,
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

    /// The bytes in the store.
    pub(crate) fn stored(&self) -> Bytes {
        match &self.raw {
            Some(raw) => (**raw).clone(),
            None => self.encoded.stored(),
        }
    }

    /// Whether the store has another form of the object than is shown.
    pub(crate) fn is_stale(&self) -> bool {
        self.raw.is_some()
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
    match &resource.custom {
        Some(custom) => !custom.is_storage(),
        None => matches!(resource.storage, Storage::Shared(_)),
    }
}

pub(crate) fn from_storage(resource: &Resource, object: &mut Object) {
    if let Some(custom) = &resource.custom {
        custom.read(object);
    }
    if let Storage::Shared(shared) = resource.storage {
        (shared.from_storage)(object);
    }
}

pub(crate) fn to_storage(resource: &Resource, object: &mut Object) {
    if let Some(custom) = &resource.custom {
        custom.write(object);
    }
    if let Storage::Shared(shared) = resource.storage {
        (shared.to_storage)(object);
    }
}
