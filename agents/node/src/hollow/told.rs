//! A pod as a watch tells of it: its text without what is not kept, and a tree of the few fields that are looked at when it is seen.
//! A hundred thousand pods are told of several times each, and a tree of all of one takes longer than everything else that is done
//! about most of these words.

mod nulls;

use std::fmt;

use agent_runtime::watch::{Part, Unread, without};
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use self::nulls::without_nulls;
use crate::follow::Object;
use crate::pod::admission::was_taken;

/// A pod that has been told of.
#[derive(Debug)]
pub(super) struct PodTold {
    /// The whole object; where `text` is there, only what is looked at of it.
    pub(super) object: Value,
    /// The object as it is kept; none where that is still to be made of the whole object.
    pub(super) text: Option<String>,
}

impl From<Value> for PodTold {
    fn from(object: Value) -> PodTold {
        PodTold { object, text: None }
    }
}

impl Object for PodTold {
    fn listed(entry: Value) -> PodTold {
        entry.into()
    }

    fn version(&self) -> Option<&str> {
        self.object.version()
    }
}

/// What is done with a field.
#[derive(Clone, Copy)]
enum Use {
    /// It is neither kept nor looked at.
    Dropped,
    /// It is kept.
    Kept,
    /// It is kept while it is open whether the node takes the pod.
    KeptUntilTaken,
    /// A list of objects that is kept, and looked at without these fields of each.
    SeenWithout(Unread),
}

/// Fields by their names.
type Uses = &'static [(&'static str, Use)];

/// The parts of a pod that are looked at, and what is done with their fields. Fields that are not named are kept and looked at.
const PARTS: &[(&str, Uses)] = &[("metadata", METADATA), ("spec", SPEC), ("status", STATUS)];

const METADATA: Uses = &[
    ("creationTimestamp", Use::Kept),
    ("generateName", Use::Kept),
    ("managedFields", Use::Dropped),
];

const SPEC: Uses = &[
    ("affinity", Use::KeptUntilTaken),
    ("containers", Use::SeenWithout(OF_CONTAINER)),
    ("dnsPolicy", Use::Kept),
    ("enableServiceLinks", Use::Kept),
    ("ephemeralContainers", Use::Kept),
    ("initContainers", Use::SeenWithout(OF_CONTAINER)),
    ("nodeSelector", Use::Kept),
    ("preemptionPolicy", Use::Kept),
    ("restartPolicy", Use::Kept),
    ("schedulerName", Use::Kept),
    ("securityContext", Use::Kept),
    ("serviceAccount", Use::Kept),
    ("serviceAccountName", Use::Kept),
    ("terminationGracePeriodSeconds", Use::Kept),
    ("tolerations", Use::KeptUntilTaken),
    ("topologySpreadConstraints", Use::Dropped),
    ("volumes", Use::Dropped),
];

const STATUS: Uses = &[
    ("conditions", Use::Kept),
    ("containerStatuses", Use::SeenWithout(OF_CONTAINER_STATUS)),
    ("ephemeralContainerStatuses", Use::Kept),
    ("hostIP", Use::Kept),
    ("hostIPs", Use::Kept),
    (
        "initContainerStatuses",
        Use::SeenWithout(OF_CONTAINER_STATUS),
    ),
    ("podIP", Use::Kept),
    ("podIPs", Use::Kept),
];

const OF_CONTAINER: Unread = &[
    ("args", Part::Whole),
    ("command", Part::Whole),
    ("env", Part::Whole),
    ("envFrom", Part::Whole),
    ("image", Part::Whole),
    ("imagePullPolicy", Part::Whole),
    ("lifecycle", Part::Whole),
    ("livenessProbe", Part::Whole),
    ("readinessProbe", Part::Whole),
    ("securityContext", Part::Whole),
    ("startupProbe", Part::Whole),
    ("terminationMessagePath", Part::Whole),
    ("terminationMessagePolicy", Part::Whole),
    ("volumeDevices", Part::Whole),
    ("volumeMounts", Part::Whole),
];

const OF_CONTAINER_STATUS: Unread = &[
    ("containerID", Part::Whole),
    ("image", Part::Whole),
    ("imageID", Part::Whole),
    ("lastState", Part::Whole),
    ("ready", Part::Whole),
    ("restartCount", Part::Whole),
    ("started", Part::Whole),
    ("state", Part::Whole),
    ("volumeMounts", Part::Whole),
];

/// Most pods have less text.
const TEXT_BYTES: usize = 2048;

impl<'de> Deserialize<'de> for PodTold {
    /// Only from JSON text.
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<PodTold, D::Error> {
        decoder.deserialize_map(Whole)
    }
}

struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = PodTold;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pod")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<PodTold, A::Error> {
        let mut kept = Kept::default();
        let mut object = Map::new();
        kept.text.reserve(TEXT_BYTES);
        kept.text.push('{');
        while let Some(name) = members.next_key::<String>()? {
            let Some(&(_, uses)) = PARTS.iter().find(|(part, _)| *part == name) else {
                let raw = without_nulls(members.next_value::<&RawValue>()?.get());
                if raw != "null" {
                    begin(&mut kept.text, &name);
                    kept.text.push_str(&raw);
                }
                continue;
            };
            let before = kept.text.len();
            begin(&mut kept.text, &name);
            let part = Fields {
                uses,
                kept: &mut kept,
            };
            match members.next_value_seed(part)? {
                Value::Null => kept.text.truncate(before),
                fields => drop(object.insert(name, fields)),
            }
        }
        kept.text.push('}');
        let object = Value::Object(object);
        let text = kept.finish(was_taken(&object));
        Ok(PodTold {
            object,
            text: Some(text),
        })
    }
}

/// The text that is kept, as far as it is written.
#[derive(Default)]
struct Kept {
    text: String,
    /// Members that are kept until the pod is taken, and where they would stand.
    until_taken: String,
    at: usize,
}

impl Kept {
    /// The whole text.
    fn finish(mut self, is_taken: bool) -> String {
        if !is_taken && !self.until_taken.is_empty() {
            if !self.text[..self.at].ends_with('{') {
                self.until_taken.insert(0, ',');
            }
            self.text.insert_str(self.at, &self.until_taken);
        }
        self.text
    }
}

/// Writes the name of another member of an object.
fn begin(text: &mut String, name: &str) {
    // No value ends so: behind it stands the first member.
    if !text.is_empty() && !text.ends_with('{') {
        text.push(',');
    }
    match name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        true => {
            text.push('"');
            text.push_str(name);
            text.push('"');
        }
        false => text.push_str(&Value::from(name).to_string()),
    }
    text.push(':');
}

/// Reads a part of the pod: writes down what is kept of it, and gives what is looked at.
struct Fields<'a> {
    uses: Uses,
    kept: &'a mut Kept,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Value, D::Error> {
        decoder.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a pod")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let Fields { uses, kept } = self;
        let mut fields = Map::new();
        kept.text.push('{');
        while let Some(name) = members.next_key::<String>()? {
            let known = uses.iter().find(|(known, _)| *known == name);
            let known = known.map(|(_, known)| *known);
            if matches!(known, Some(Use::Dropped)) {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let raw = without_nulls(members.next_value::<&RawValue>()?.get());
            if raw == "null" {
                continue;
            }
            let text = match known {
                Some(Use::KeptUntilTaken) => &mut kept.until_taken,
                _ => &mut kept.text,
            };
            begin(text, &name);
            text.push_str(&raw);
            let seen = match known {
                Some(Use::SeenWithout(unread)) => list(&raw, unread),
                None => serde_json::from_str(&raw),
                Some(_) => continue,
            };
            fields.insert(name, seen.map_err(A::Error::custom)?);
        }
        if uses
            .iter()
            .any(|(_, known)| matches!(known, Use::KeptUntilTaken))
        {
            kept.at = kept.text.len();
        }
        kept.text.push('}');
        Ok(Value::Object(fields))
    }
}

/// A list of objects without these fields of each.
fn list(raw: &str, unread: Unread) -> serde_json::Result<Value> {
    let mut decoder = serde_json::Deserializer::from_str(raw);
    let items = decoder.deserialize_seq(Items(unread));
    // Something else may be in it.
    items.or_else(|_| serde_json::from_str(raw))
}

struct Items(Unread);

impl<'de> Visitor<'de> for Items {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(Item(self.0))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
}

struct Item(Unread);

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Value, D::Error> {
        without(self.0, decoder)
    }
}

#[cfg(test)]
mod tests;
