//! The changes of one revision, shared by all who watch them: they are encoded once, however many there are.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use crate::message::Event;

/// The number of the field of events in a watch's answer.
const EVENTS_TAG: u32 = 11;

/// See the module head.
#[derive(Clone, Debug)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    events: Arc<[Event]>,
    /// Without and with the previous values, for who asks first and all after it.
    encoded: [OnceLock<Bytes>; 2],
}

impl From<Arc<[Event]>> for Events {
    fn from(events: Arc<[Event]>) -> Events {
        Events(Arc::new(Shared {
            events,
            encoded: Default::default(),
        }))
    }
}

impl Deref for Events {
    type Target = [Event];

    fn deref(&self) -> &[Event] {
        &self.0.events
    }
}

impl Events {
    /// As the field `events` of etcd's `WatchResponse`.
    pub fn encoded(&self, prev_kv: bool) -> Bytes {
        let encoded = &self.0.encoded[usize::from(prev_kv)];
        encoded
            .get_or_init(|| Events::encode(self.iter(), prev_kv))
            .clone()
    }

    /// Some events as [`Events::encoded`] has all of them.
    pub fn encode<'a>(events: impl Iterator<Item = &'a Event> + Clone, prev_kv: bool) -> Bytes {
        let shown = |event: &Event| Event {
            kind: event.kind,
            kv: event.kv.clone(),
            prev_kv: event.prev_kv.clone().filter(|_| prev_kv),
        };
        let length = |event: &Event| prost::encoding::message::encoded_len(EVENTS_TAG, event);
        let bytes = events.clone().map(|event| length(&shown(event))).sum();
        let mut encoded = BytesMut::with_capacity(bytes);
        for event in events {
            prost::encoding::message::encode(EVENTS_TAG, &shown(event), &mut encoded);
        }
        encoded.freeze()
    }

    /// Memory that they hold, roughly: keys, values and what is around them.
    pub(crate) fn memory_bytes(&self) -> usize {
        let one = |event: &Event| {
            let prev = event.prev_kv.as_ref().map_or(0, |prev| prev.value.len());
            event.kv.key.len() + event.kv.value.len() + prev + 128
        };
        self.iter().map(one).sum()
    }

    /// True where both are the same, not just alike.
    #[cfg(test)]
    pub(crate) fn is_shared_with(&self, other: &Events) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::message::{EventKind, KeyValue};

    #[derive(Clone, PartialEq, prost::Message)]
    struct Answer {
        #[prost(message, repeated, tag = "11")]
        events: Vec<Event>,
    }

    #[test]
    fn they_are_encoded_once_in_each_form() {
        let kv = |value: &'static str| KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(value.as_bytes()),
            mod_revision: 7,
            ..KeyValue::default()
        };
        let put = Event {
            kind: EventKind::Put as i32,
            kv: kv("new"),
            prev_kv: Some(kv("old")),
        };
        let delete = Event {
            kind: EventKind::Delete as i32,
            prev_kv: Some(kv("new")),
            ..put.clone()
        };
        let list = vec![put, delete];
        let events = Events::from(Arc::from(list.clone()));
        let whole = events.encoded(true);
        assert_eq!(Answer::decode(whole.clone()).unwrap().events, list);
        assert_eq!(events.encoded(true).as_ptr(), whole.as_ptr(), "shared");
        let bare = Answer::decode(events.encoded(false)).unwrap().events;
        assert!(bare.iter().all(|event| event.prev_kv.is_none()));
        assert_eq!(bare[0].kv, list[0].kv);
        let one = Events::encode(list[1..].iter(), true);
        assert_eq!(Answer::decode(one).unwrap().events, list[1..]);
    }
}
