//! An object as it is stored and as its client is shown it. What could not be read again is refused.

use std::sync::Arc;

use bytes::Bytes;
use resources::Resource;
use schema::Object;
use serde_json::Value;

use crate::ApiServer;
use crate::codec::{Own, Template};
use crate::status::{ApiError, ApiResult};
use crate::{codec, entry, trees};

/// Lists and maps in each other in one object, what the server writes into it included. JSON is read to a depth of 127,
/// and a list, an event or a review has a few levels of its own.
const DEPTH_MAX: usize = 120;

/// A map whose first member has this name is read by `serde_json` as the JSON that this member has as text: whoever reads lists
/// as trees, as agents do, could read nothing beside such an object any more.
const UNREADABLE: &str = "$serde_json::private::RawValue";

/// In which version an object is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// That of the resource.
    Asked,
    /// The one in which it is stored, and stays: what is about metadata needs no other.
    Stored,
}

/// An object that is about to be written.
pub(crate) struct Written {
    /// What is stored.
    pub(crate) value: Bytes,
    pub(crate) shown: Shown,
}

/// What the answer to a write shows.
pub(crate) struct Shown {
    pub(crate) object: Object,
    /// What is stored, where that is the same.
    pub(super) stored: Option<Bytes>,
    /// About how many bytes of memory it takes, where it is read again just as it is.
    pub(super) room: Option<usize>,
}

impl Shown {
    /// What is not stored like that, if at all.
    pub(super) fn of(object: Object) -> Shown {
        Shown {
            object,
            stored: None,
            room: None,
        }
    }
}

impl ApiServer {
    /// An object of `resource` as it is stored, and as it is read again: what another version cannot hold is lost, and the
    /// client is shown that. A webhook that cannot convert back refuses the write before it is done. (Kubernetes converts
    /// back afterwards, and then fails a write that took effect.)
    pub(crate) async fn written(
        &self,
        resource: &Resource,
        version: Version,
        object: Object,
    ) -> ApiResult<Written> {
        let is_converted = version == Version::Asked && entry::is_converted(resource);
        if !is_converted {
            let found = check(&object)?;
            let value = codec::encode(object.value());
            let shown = Shown {
                object,
                stored: Some(value.clone()),
                room: found.is_exact.then_some(found.room),
            };
            return Ok(Written { value, shown });
        }
        check(&object)?;
        let Some(custom) = &resource.custom else {
            let mut stored = object.clone();
            entry::to_storage(resource, &mut stored);
            return Ok(Written {
                value: encoded(&stored)?,
                shown: Shown::of(object),
            });
        };
        let mut stored = self.converted(&custom.storage(), object).await?;
        let value = encoded(&stored)?;
        custom.read_stored(&mut stored);
        let shown = self.converted(custom, stored).await?;
        Ok(Written {
            value,
            shown: Shown::of(shown),
        })
    }

    /// What is shown of an object that would be written.
    pub(super) async fn shown(
        &self,
        resource: &Resource,
        version: Version,
        object: Object,
    ) -> ApiResult<Object> {
        if version == Version::Asked && entry::is_converted(resource) {
            let written = self.written(resource, version, object).await?;
            return Ok(written.shown.object);
        }
        check(&object)?;
        Ok(object)
    }
}

/// An object that is stored and shown as it is, and of whose `spec` only a part is in hand: all of that is this text, and its
/// managed fields are the other one.
pub(super) fn written_around(
    object: Object,
    spec: &[u8],
    entries: Option<&[u8]>,
) -> ApiResult<Written> {
    let found = check(&object)?;
    let value = codec::encode_around(object.value(), spec, entries);
    let shown = Shown {
        object,
        stored: Some(value.clone()),
        room: found.is_exact.then_some(found.room),
    };
    Ok(Written { value, shown })
}

/// What is known of an object that is like one that was written: from that it differs in who it is and when it was made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Like {
    /// About how many bytes of memory it takes.
    pub(crate) room: usize,
    /// How it is stored but for that, where it is known.
    pub(crate) template: Option<Arc<Template>>,
}

/// An object that is stored and shown as it is, and is like one that was written and [`is_exact`]: nothing of it has to be found
/// out.
pub(crate) fn written_like(object: Object, like: &Like) -> Written {
    debug_assert!(is_exact(&object), "{} is like another", object.name());
    let value = match &like.template {
        Some(template) => template.with(Own {
            name: object.name(),
            uid: object.uid(),
            time: object.creation_timestamp().unwrap_or_default(),
        }),
        None => codec::encode(object.value()),
    };
    debug_assert_eq!(value, codec::encode(object.value()));
    let shown = Shown {
        object,
        stored: Some(value.clone()),
        room: Some(like.room),
    };
    Written { value, shown }
}

/// Whether an object can be read again, and just as it was written.
pub(crate) fn is_exact(object: &Object) -> bool {
    check(object).is_ok_and(|found| found.is_exact)
}

/// The bytes of an object that is stored like that. Refuses what could not be read again.
fn encoded(object: &Object) -> ApiResult<Bytes> {
    check(object)?;
    Ok(codec::encode(object.value()))
}

/// What one walk along an object finds out.
#[derive(Debug)]
struct Found {
    /// Whether it is read just as it was written: a fraction need not be, by its last digit.
    is_exact: bool,
    /// Whether none of its members is called [`UNREADABLE`].
    is_readable: bool,
    /// What [`trees::room`] says of it. Now it is at hand, and after the write it would have to be fetched from memory again.
    room: usize,
}

/// Refuses what could not be read again.
fn check(object: &Object) -> ApiResult<Found> {
    let mut found = Found {
        is_exact: true,
        is_readable: true,
        room: 0,
    };
    if !fits(object.value(), DEPTH_MAX, &mut found) {
        return Err(ApiError::bad_request(format!(
            "the object is nested deeper than {DEPTH_MAX} levels"
        )));
    }
    if !found.is_readable {
        return Err(ApiError::bad_request(format!(
            "the object has a member with the name {UNREADABLE}"
        )));
    }
    Ok(found)
}

/// Whether lists and maps are nested no deeper than `levels`. Looks no deeper itself, and then has not `found` all.
fn fits(value: &Value, levels: usize, found: &mut Found) -> bool {
    found.room += trees::own_room(value);
    let below = levels.checked_sub(1);
    match value {
        Value::Array(list) => {
            below.is_some_and(|below| list.iter().all(|item| fits(item, below, found)))
        }
        Value::Object(map) => below.is_some_and(|below| {
            map.iter().all(|(key, item)| {
                found.is_readable &= key != UNREADABLE;
                found.room += trees::room_of_text(key);
                fits(item, below, found)
            })
        }),
        Value::Number(number) => {
            found.is_exact &= !number.is_f64();
            true
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_can_be_read() {
        let nested = |levels: usize| {
            let data = (1..levels).fold(Value::Null, |inner, level| match level % 2 {
                0 => Value::Array(vec![inner]),
                _ => serde_json::json!({"a": inner}),
            });
            let value = serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"name": "x"}, "data": data});
            Object::new(value).unwrap()
        };
        let bytes = encoded(&nested(DEPTH_MAX)).unwrap();
        let read = entry::Entry::new("/registry/configmaps/n/x", 21, &bytes.into(), 7, &[], None);
        assert!(read.is_some());
        assert_eq!(encoded(&nested(DEPTH_MAX + 1)).unwrap_err().code, 400);
        let mut deep = nested(2);
        let fields = nested(DEPTH_MAX).get(&["data"]).unwrap().clone();
        deep.metadata_mut()
            .insert("managedFields".to_owned(), fields);
        assert!(encoded(&deep).is_err());
    }

    #[test]
    fn what_is_no_map_to_whoever_reads_it_as_a_tree_is_not_stored() {
        let of = |data: Value| {
            let value = serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"name": "x"}, "data": data});
            Object::new(value).unwrap()
        };
        let attributes = serde_json::Map::from_iter([(UNREADABLE.to_owned(), "x".into())]);
        let attributes = Value::Object(attributes);
        assert!(serde_json::from_str::<Value>(&attributes.to_string()).is_err());
        let refused = encoded(&of(serde_json::json!([{"a": attributes}]))).unwrap_err();
        assert_eq!(refused.code, 400);
        assert!(encoded(&of(serde_json::json!({"a": UNREADABLE}))).is_ok());
    }

    #[test]
    fn what_is_kept_is_what_is_read() {
        let of = |data: Value| {
            let labels = serde_json::json!({ "a\u{1}\"ü": "\u{2028}\\" });
            Object::new(serde_json::json!({"kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"name": "x", "resourceVersion": "6", "labels": labels}, "data": data}))
            .unwrap()
        };
        let mut object = of(
            serde_json::json!([null, true, i64::MIN, u64::MAX, 0, -1, "", {}, [], {"z": 1, "": 2}]),
        );
        assert!(check(&object).unwrap().is_exact);
        let bytes = encoded(&object).unwrap();
        let read = entry::Entry::new("/registry/configmaps/n/x", 21, &bytes.into(), 7, &[], None);
        object.set_resource_version("7");
        assert_eq!(read.unwrap().object(), object);
        let fraction = of(serde_json::json!([{"a": 0.1}, 1]));
        assert!(!check(&fraction).unwrap().is_exact);
        for object in [object, fraction, Object::default()] {
            let room = check(&object).unwrap().room;
            assert_eq!(room, trees::room(object.value()));
        }
    }
}
