//! What the cache keeps, in protobuf: written from the bytes in which it is kept, without an object between.

use bytes::Bytes;
use resources::Resource;
use schema::protobuf::{Encoder, Shown};

use crate::codec::{self, Versioned};
use crate::entry::{self, Entry};
use crate::negotiate::{Encoding, Form, Output};
use crate::packed::Room;

/// What of a resource's objects is written, and under which names.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    shown: Shown,
    api_version: String,
    kind: String,
}

impl Written {
    /// None where the answer is in another encoding, or only a whole object tells what it says: a Table, and what is stored
    /// in another shape than it is shown in.
    pub(crate) fn of(output: &Output, resource: &Resource) -> Option<Written> {
        if output.encoding != Encoding::Protobuf || is_converted(resource) {
            return None;
        }
        let (api_version, kind) = match output.form {
            Form::Object => (resource.api_version(), resource.kind.to_string()),
            Form::Partial { version, .. } => {
                (version.to_owned(), "PartialObjectMetadata".to_owned())
            }
            Form::Table { .. } => return None,
        };
        Some(Written {
            shown: shown(output.form, resource)?,
            api_version,
            kind,
        })
    }

    /// One object as the body of an answer. None where it cannot be written; why not, the long way says.
    pub(crate) fn body(&self, versioned: &Versioned) -> Option<Bytes> {
        let mut room = Room::default();
        let json = match self.shown {
            Shown::Object(_) => versioned.json.read(&mut room),
            Shown::Metadata => versioned.metadata(&mut room),
        };
        let head = (self.api_version.as_str(), self.kind.as_str());
        let body = Encoder::default().body(self.shown, head, json);
        body.ok().map(Bytes::from)
    }

    /// One event of a watch about an object, of which this is the JSON.
    pub(crate) fn frame(&self, encoder: &mut Encoder, event: &str, json: &[u8]) -> Option<Vec<u8>> {
        let json = match self.shown {
            Shown::Object(_) => json,
            Shown::Metadata => codec::metadata(json)?,
        };
        let head = (self.api_version.as_str(), self.kind.as_str());
        let frame = encoder.watch_frame(event, self.shown, head, json);
        frame.ok()
    }

    /// Keeps how long the message was that was just written of an entry: a list has to know before it begins.
    pub(crate) fn keep_length(&self, encoder: &Encoder, entry: &Entry) {
        if let Shown::Object(_) = self.shown
            && let Ok(length) = u32::try_from(encoder.written())
        {
            entry.keep_protobuf_len(length);
        }
    }
}

/// What of objects is shown in a form; none where that has no message.
pub(crate) fn shown(form: Form, resource: &Resource) -> Option<Shown> {
    match form {
        Form::Object if resource.custom.is_none() => {
            let ty = schema::type_of(&resource.group, &resource.version, &resource.kind);
            ty.map(Shown::Object)
        }
        Form::Partial { .. } => Some(Shown::Metadata),
        Form::Object | Form::Table { .. } => None,
    }
}

/// Whether objects of a built-in kind are stored in the shape of another. Of those of definitions only metadata is shown,
/// which is the same in all versions.
pub(crate) fn is_converted(resource: &Resource) -> bool {
    resource.custom.is_none() && entry::is_converted(resource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn output(form: Form) -> Output {
        Output {
            encoding: Encoding::Protobuf,
            pretty: false,
            form,
        }
    }

    const PARTIAL: Form = Form::Partial {
        version: "meta.k8s.io/v1",
        of_list: false,
    };

    #[test]
    fn a_stored_object_is_written_as_what_it_says() {
        let pods = resources::find("", "v1", "pods").unwrap();
        let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "labels": {"b": "c"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let stored = Versioned::splice(&codec::encode(&pod), 42).unwrap();
        let mut whole: Value = serde_json::from_slice(&stored.json.bytes()).unwrap();
        let read = |bytes: &[u8]| schema::protobuf::decode(bytes).unwrap();
        let written = Written::of(&output(Form::Object), pods).unwrap();
        assert_eq!(read(&written.body(&stored).unwrap()), whole);
        whole.as_object_mut().unwrap().remove("spec");
        whole["kind"] = "PartialObjectMetadata".into();
        whole["apiVersion"] = "meta.k8s.io/v1".into();
        let written = Written::of(&output(PARTIAL), pods).unwrap();
        assert_eq!(read(&written.body(&stored).unwrap()), whole);
        let json = stored.json.bytes();
        let entry = Entry::for_test("/registry/pods/n/a", 42);
        let mut encoder = Encoder::default();
        written.keep_length(&encoder, &entry);
        assert_eq!(entry.protobuf_len(), None, "metadata is not all of it");
        let whole_of = Written::of(&output(Form::Object), pods).unwrap();
        let made = whole_of.frame(&mut encoder, "ADDED", &json).unwrap();
        whole_of.keep_length(&encoder, &entry);
        let length = entry.protobuf_len().unwrap() as usize;
        assert!(length > 0 && length < made.len());
        let frame = written.frame(&mut Encoder::default(), "ADDED", &json);
        let event = schema::type_named("meta.WatchEvent").unwrap();
        let event = schema::protobuf::decode_message(event, &frame.unwrap()[4..]).unwrap();
        assert_eq!(event, json!({"type": "ADDED", "object": whole}));
    }

    #[test]
    fn what_only_a_whole_object_tells_is_left_to_others() {
        let pods = resources::find("", "v1", "pods").unwrap();
        let events = resources::find("events.k8s.io", "v1", "events").unwrap();
        let table = Form::Table {
            version: "meta.k8s.io/v1",
            include: crate::negotiate::Include::Metadata,
        };
        assert!(Written::of(&output(table), pods).is_none());
        assert!(Written::of(&Output::PLAIN, pods).is_none());
        assert!(Written::of(&output(Form::Object), events).is_none());
        assert!(Written::of(&output(PARTIAL), events).is_none());
    }
}
