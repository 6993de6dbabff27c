//! One object as the cache holds it: encoded once, with the few facts that selectors ask for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use resources::{Handle, Resource, Storage, Text, custom};
use schema::Object;
use schema::pick::Pick;

use crate::codec::{self, Around, Versioned};
use crate::encryption::Opened;
use crate::facts::{Alike, Facts};
use crate::packed::{Packer, Room};

/// An object at one revision. Shared by lists, watches, admission and authorization; never changed.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its key, and behind that the values of fields that it has for itself, as its [`Facts`] had them: together they are one
    /// block, of which there is one for every object, on every member.
    text: Box<str>,
    /// Where the key ends in it.
    key_len: u32,
    /// Where namespace and name begin in it.
    names_at: u32,
    /// The object's resourceVersion.
    pub(crate) revision: i64,
    pub(crate) encoded: Versioned,
    /// What is special about an object of a custom resource; none where it is stored and shown alike.
    custom: Option<Box<OfCustom>>,
    /// The mark of the key under which it is stored; see [`Opened`].
    pub(crate) mark: u32,
    /// How long its message is in protobuf; 0 until it was written.
    protobuf_len: AtomicU32,
    /// What selectors ask for, but for the values that it has for itself.
    alike: Arc<Alike>,
}

/// What more there is to know of an object that a definition brought.
#[derive(Debug)]
struct OfCustom {
    /// The version of the encoded object: the one in which it is stored.
    version: Text,
    /// What is stored, where that is not what is shown: fields that the schema lost or got since.
    raw: Option<Bytes>,
    /// Whether it would be stored in another form now.
    is_stale: bool,
    /// What a webhook made of it, once for each version that somebody asked for: it lives as long as the entry, which the
    /// next change of the definition ends.
    forms: Mutex<Vec<Arc<Entry>>>,
}

impl Entry {
    /// None where `stored` is not an object (which only a foreign writer can cause). `needed` is what [`needed`] says of the
    /// shapes.
    pub(crate) fn new(
        key: &str,
        names_at: usize,
        opened: &Opened,
        revision: i64,
        shapes: &[Handle],
        needed: Option<&Pick>,
    ) -> Option<Entry> {
        let stored = &opened.value;
        let mut encoded = Versioned::splice(stored, revision)?;
        let mut room = Room::default();
        // Not a handle of the bytes: the first one would be an allocation more, for as long as the entry lives.
        let json = encoded.json.read(&mut room);
        let value = match needed {
            Some(pick) => pick.read(json),
            None => schema::read::json(json),
        };
        let mut object = Object::new(value.ok()?).ok()?;
        let mut of_custom = None;
        if let Some(custom) = shapes.first().and_then(|shape| shape.custom.as_ref()) {
            let before = object.clone();
            custom.read_stored(&mut object);
            let is_read = object != before;
            if is_read {
                encoded = Versioned::splice(&codec::encode(object.value()), revision)?;
            }
            let is_stale = is_read || object.version() != custom.storage_version();
            if is_stale || custom.definition.by_webhook {
                of_custom = Some(OfCustom {
                    version: Text::from(object.version().to_owned()),
                    raw: is_read.then(|| stored.clone()),
                    is_stale,
                    forms: Mutex::default(),
                });
            }
        }
        let place = (key, names_at, revision);
        let shapes = shapes.iter().map(|shape| &**shape);
        let mark = opened.mark;
        let entry = Entry::of(place, &object, encoded, shapes, of_custom);
        Some(Entry { mark, ..entry })
    }

    /// The same of an object of whose shapes [`needed`] says something, where its facts are had without a tree of it. They may be
    /// read from its text as it will be shown, and none are told of what is not the text of an object.
    pub(crate) fn with_facts(
        key: &str,
        names_at: usize,
        opened: &Opened,
        revision: i64,
        facts: impl FnOnce(&[u8]) -> Option<Facts>,
    ) -> Option<Entry> {
        let encoded = Versioned::splice(&opened.value, revision)?;
        let mut room = Room::default();
        let facts = facts(encoded.json.read(&mut room))?;
        let mark = opened.mark;
        let entry = Entry::with((key, names_at, revision), encoded, facts, None);
        Some(Entry { mark, ..entry })
    }

    fn of<'r>(
        place: (&str, usize, i64),
        object: &Object,
        encoded: Versioned,
        shapes: impl Iterator<Item = &'r Resource>,
        custom: Option<OfCustom>,
    ) -> Entry {
        Entry::with(place, encoded, Facts::of(object, shapes), custom)
    }

    fn with(
        (key, names_at, revision): (&str, usize, i64),
        encoded: Versioned,
        facts: Facts,
        custom: Option<OfCustom>,
    ) -> Entry {
        Entry {
            text: [key, facts.values.as_str()].concat().into(),
            key_len: key.len() as u32,
            names_at: names_at as u32,
            revision,
            encoded,
            custom: custom.map(Box::new),
            mark: 0,
            protobuf_len: AtomicU32::default(),
            alike: facts.alike,
        }
    }

    /// What a webhook made of it for `resource`, kept for the next who asks.
    pub(crate) fn keep_form(&self, resource: &Resource, object: &Object) -> Option<Arc<Entry>> {
        let custom = self.custom.as_ref()?;
        let encoded = Versioned::splice(&codec::encode(object.value()), self.revision)?;
        let of_custom = OfCustom {
            version: resource.version.clone(),
            raw: None,
            is_stale: custom.is_stale,
            forms: Mutex::default(),
        };
        let place = (self.key(), self.names_at as usize, self.revision);
        let shapes = std::iter::once(resource);
        let mark = self.mark;
        let form = Entry::of(place, object, encoded, shapes, Some(of_custom));
        let form = Arc::new(Entry { mark, ..form });
        let mut forms = custom.forms.lock().unwrap_or_else(PoisonError::into_inner);
        forms.retain(|one| !one.is_as(resource));
        forms.push(form.clone());
        Some(form)
    }

    /// What a webhook made of it for `resource` before.
    pub(crate) fn form(&self, resource: &Resource) -> Option<Arc<Entry>> {
        let custom = self.custom.as_ref()?;
        let forms = custom.forms.lock().unwrap_or_else(PoisonError::into_inner);
        forms.iter().find(|one| one.is_as(resource)).cloned()
    }

    /// Whether the encoded object is one of `resource`, as it is shown.
    pub(crate) fn is_as(&self, resource: &Resource) -> bool {
        match &self.custom {
            Some(custom) if resource.custom.is_some() => custom.version == resource.version,
            _ => !is_converted(resource),
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test(key: &str, revision: i64) -> Entry {
        let stored = Bytes::from_static(br#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#);
        let names_at = "/registry/pods/".len();
        Entry::new(key, names_at, &stored.into(), revision, &[], None).unwrap()
    }

    /// The storage key.
    pub(crate) fn key(&self) -> &str {
        &self.text[..self.key_len as usize]
    }

    /// `namespace/name`, or `name` where the kind has no namespace.
    pub(crate) fn names(&self) -> &str {
        &self.text[self.names_at as usize..self.key_len as usize]
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

    /// What the store has, in clear.
    pub(crate) fn opened(&self) -> Opened {
        let raw = self.custom.as_ref().and_then(|custom| custom.raw.clone());
        let value = raw.unwrap_or_else(|| self.encoded.stored());
        let mark = self.mark;
        Opened { value, mark }
    }

    /// Whether the store has another form of the object than is shown.
    pub(crate) fn is_stale(&self) -> bool {
        self.custom.as_ref().is_some_and(|custom| custom.is_stale)
    }

    /// The complete object as JSON, resourceVersion included.
    pub(crate) fn json(&self) -> Bytes {
        self.encoded.json.bytes()
    }

    /// The same as often as it is asked for. Shared with the entry, packed where that is.
    pub(crate) fn source(&self) -> custom::Source {
        let json = self.encoded.json.clone();
        Arc::new(move || Vec::from(json.bytes()))
    }

    /// How many bytes that is.
    pub(crate) fn json_len(&self) -> usize {
        self.encoded.json.len()
    }

    /// The bytes of its message in protobuf, where they were counted before.
    pub(crate) fn protobuf_len(&self) -> Option<u32> {
        let known = self.protobuf_len.load(Ordering::Relaxed);
        (known > 0).then_some(known)
    }

    /// Keeps their number, which is the same whenever the object is written.
    pub(crate) fn keep_protobuf_len(&self, bytes: u32) {
        self.protobuf_len.store(bytes, Ordering::Relaxed);
    }

    /// The same entry with its bytes packed; none where they stay as they are.
    pub(crate) fn packed(&self, packer: &mut Packer) -> Option<Entry> {
        if self.custom.is_some() {
            return None;
        }
        let encoded = self.encoded.with_json(packer.pack(&self.encoded.json)?);
        Some(Entry {
            text: self.text.clone(),
            key_len: self.key_len,
            names_at: self.names_at,
            revision: self.revision,
            encoded,
            custom: None,
            mark: self.mark,
            protobuf_len: AtomicU32::new(self.protobuf_len.load(Ordering::Relaxed)),
            alike: self.alike.clone(),
        })
    }

    /// The same entry with its bytes packed by themselves, where that is worth it: for what is large, and seldom read.
    pub(crate) fn packed_alone(self) -> Entry {
        match self.encoded.json.alone() {
            Some(json) => Entry {
                encoded: self.encoded.with_json(json),
                ..self
            },
            None => self,
        }
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.alike.labels()
    }

    /// Whether nothing that selects objects tells two states of one from each other.
    pub(crate) fn is_selected_as(&self, other: &Entry) -> bool {
        let is_plain = self.custom.is_none() && other.custom.is_none();
        let is_alike = Arc::ptr_eq(&self.alike, &other.alike) || self.alike == other.alike;
        is_plain && is_alike && self.key_len == other.key_len && self.text == other.text
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        match name {
            "metadata.name" => self.name(),
            "metadata.namespace" => self.namespace(),
            _ => self.alike.field(&self.text[self.key_len as usize..], name),
        }
    }

    /// The object, parsed afresh: the cache keeps bytes, which take a sixth of the room.
    pub(crate) fn object(&self) -> Object {
        let value = schema::read::json(&self.json()).expect("parsed when it entered the cache");
        Object::new(value).expect("checked when it entered the cache")
    }

    /// Some members of the object.
    pub(crate) fn part(&self, pick: &Pick) -> Object {
        let value = pick.read(&self.json());
        let value = value.expect("parsed when it entered the cache");
        Object::new(value).expect("checked when it entered the cache")
    }

    /// The object with no more of its `spec` than what is picked, and all of that as text, and its managed fields; none where it
    /// is not laid out as this server does it. Only of what is stored as it is shown.
    pub(crate) fn around_spec(&self, pick: &Pick) -> Option<Around> {
        self.encoded.around_spec(pick)
    }

    /// The object in the shape of `resource`, which shares this storage. Where a webhook has to convert, the caller sees
    /// to that first ([`crate::conversion`]); else the object stays what it is.
    pub(crate) fn object_as(&self, resource: &Resource) -> Object {
        let mut object = self.object();
        from_storage(resource, &mut object);
        object
    }
}

/// What of an object an entry of these shapes is made of; none where that may be all of it.
pub(crate) fn needed(shapes: &[Handle]) -> Option<Pick> {
    let is_told = |shape: &Handle| !is_converted(shape) || is_read_as_stored(shape);
    let is_whole = |shape: &Handle| shape.custom.is_some() || !is_told(shape);
    if shapes.iter().any(is_whole) {
        return None;
    }
    let fields = shapes.iter().flat_map(|shape| shape.field_paths());
    Some(Pick::of(std::iter::once("metadata.labels").chain(fields)))
}

/// Whether objects of `resource` are stored in another resource's shape.
pub(crate) fn is_converted(resource: &Resource) -> bool {
    match &resource.custom {
        Some(custom) => !custom.is_storage(),
        None => matches!(resource.storage, Storage::Shared(_)),
    }
}

/// Whether selectable fields of `resource`, which is stored in another shape, are read from that as well. Events have names of
/// their own for what is the same in both.
fn is_read_as_stored(resource: &Resource) -> bool {
    resource.custom.is_none() && &*resource.kind == "Event"
}

/// Whether the fields of `resource` are read from its shape of the object only. So they are of an event that has got a name
/// of the shape in which it is not stored.
pub(crate) fn is_read_converted(resource: &Resource, object: &Object) -> bool {
    let has = |name: &str| object.value().get(name).is_some();
    let is_mixed = || has("regarding") || has("reportingController");
    is_converted(resource) && (!is_read_as_stored(resource) || is_mixed())
}

/// Whether the object can be had in the shape of `resource` without asking anybody.
pub(crate) fn is_made_here(resource: &Resource, object: &Object) -> bool {
    let custom = resource.custom.as_ref();
    custom
        .is_none_or(|custom| !custom.definition.by_webhook || object.version() == resource.version)
}

/// The object in the shape of `resource`, as far as no webhook is needed.
pub(crate) fn from_storage(resource: &Resource, object: &mut Object) {
    if let Some(custom) = resource
        .custom
        .as_ref()
        .filter(|_| is_made_here(resource, object))
    {
        custom.rename(object);
    }
    if let Storage::Shared(shared) = resource.storage {
        (shared.from_storage)(object);
    }
}

/// The object of a built-in `resource` as it is stored.
pub(crate) fn to_storage(resource: &Resource, object: &mut Object) {
    if let Storage::Shared(shared) = resource.storage {
        (shared.to_storage)(object);
    }
}
