//! A pod as it is read: its spec is not made a tree of, but an outline, of which it is soon known whether another pod had the same.

use super::unread::{METADATA, SPEC, STATUS, VOLUME};
use agent_runtime::watch::{Part, Unread, Without};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// What an outline consists of: each value begins with one of these.
const NULL: u8 = b'n';
const FALSE: u8 = b'f';
const TRUE: u8 = b't';
const SIGNED: u8 = b'i';
const UNSIGNED: u8 = b'u';
const FLOAT: u8 = b'd';
/// Its length in four bytes, and itself.
const TEXT: u8 = b's';
/// Values up to [`END`].
const LIST: u8 = b'[';
/// Texts and values in turn up to [`END`].
const MAP: u8 = b'{';
const END: u8 = b'.';

/// A pod's API object without what means nothing to the scheduler.
pub(super) struct Parts {
    /// All but its spec.
    pub(super) object: Value,
    /// What its spec has as `nodeName`.
    pub(super) node: Option<Value>,
    /// The outline of its spec without the node and without void volumes; empty where it has no spec. Two that are the same are of
    /// the same spec.
    pub(super) spec: Vec<u8>,
}

/// Reads a pod.
///
/// # Errors
/// What is read is no JSON object.
pub(super) fn parts<'de, D: Deserializer<'de>>(decoder: D) -> Result<Parts, D::Error> {
    decoder.deserialize_map(InParts)
}

struct InParts;

impl<'de> Visitor<'de> for InParts {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pod")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts, A::Error> {
        let (mut object, mut node, mut spec) = (Map::new(), None, Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "spec" => {
                    node = None;
                    spec = Vec::with_capacity(1024);
                    map.next_value_seed(Outline {
                        unread: SPEC,
                        into: &mut spec,
                        node: Some(&mut node),
                    })?;
                }
                "metadata" => {
                    object.insert(name, map.next_value_seed(Without(METADATA))?);
                }
                "status" => {
                    object.insert(name, map.next_value_seed(Without(STATUS))?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let object = Value::Object(object);
        Ok(Parts { object, node, spec })
    }
}

/// Writes any value down; an object, and each object of a list, without these fields.
struct Outline<'a> {
    unread: Unread,
    into: &'a mut Vec<u8>,
    /// Of a spec: where its node goes.
    node: Option<&'a mut Option<Value>>,
}

impl Outline<'_> {
    fn all(into: &mut Vec<u8>, unread: Unread) -> Outline<'_> {
        Outline {
            unread,
            into,
            node: None,
        }
    }

    fn number(self, kind: u8, bytes: [u8; 8]) {
        self.into.push(kind);
        self.into.extend_from_slice(&bytes);
    }
}

fn write_text(into: &mut Vec<u8>, text: &str) {
    into.push(TEXT);
    into.extend_from_slice(&(text.len() as u32).to_le_bytes());
    into.extend_from_slice(text.as_bytes());
}

impl<'de> DeserializeSeed<'de> for Outline<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<(), D::Error> {
        decoder.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Outline<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.into.push(if value { TRUE } else { FALSE });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.number(SIGNED, value.to_le_bytes());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.number(UNSIGNED, value.to_le_bytes());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.number(FLOAT, value.to_le_bytes());
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        write_text(self.into, value);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.into.push(NULL);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Outline { unread, into, .. } = self;
        into.push(LIST);
        while list
            .next_element_seed(Outline::all(into, unread))?
            .is_some()
        {}
        into.push(END);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Outline { unread, into, node } = self;
        let (is_spec, mut of_spec) = (node.is_some(), None::<Value>);
        into.push(MAP);
        loop {
            let name = map.next_key_seed(Name {
                unread,
                into: &mut *into,
                is_spec,
            })?;
            match name {
                None => break,
                Some(Field::Unread) => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(Field::Read(unread)) => map.next_value_seed(Outline::all(into, unread))?,
                Some(Field::Node) => of_spec = Some(map.next_value()?),
                Some(Field::Volumes) => {
                    let mut volumes = map.next_value_seed(Without(VOLUME))?;
                    drop_void(&mut volumes);
                    let written = Outline::all(into, &[]).deserialize(&volumes);
                    written.map_err(A::Error::custom)?;
                }
            }
        }
        into.push(END);
        if let Some(node) = node {
            *node = of_spec;
        }
        Ok(())
    }
}

/// Takes out volumes that have no more than a name, or what is passed over as a pod is read. Each pod has another name for that of
/// its token.
fn drop_void(volumes: &mut Value) {
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.retain(|volume| {
            let fields = volume.as_object();
            fields.is_none_or(|fields| fields.keys().any(|name| name != "name"))
        });
    }
}

/// Writes the name of a field down, unless the field is passed over.
struct Name<'a> {
    unread: Unread,
    into: &'a mut Vec<u8>,
    is_spec: bool,
}

/// What is done with a field.
enum Field {
    Unread,
    /// It is written without these fields of its own.
    Read(Unread),
    /// `nodeName` of a spec.
    Node,
    /// `volumes` of a spec.
    Volumes,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Field, D::Error> {
        decoder.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        if self.is_spec && name == "nodeName" {
            return Ok(Field::Node);
        }
        let part = self.unread.iter().find(|(unread, _)| *unread == name);
        let within: Unread = match part.map(|(_, part)| *part) {
            Some(Part::Whole) => return Ok(Field::Unread),
            Some(Part::Of(fields)) => fields,
            None => &[],
        };
        write_text(self.into, name);
        Ok(match self.is_spec && name == "volumes" {
            true => Field::Volumes,
            false => Field::Read(within),
        })
    }
}

/// The value of an outline; none where it is empty.
pub(super) fn tree(outline: &[u8]) -> Option<Value> {
    let mut rest = outline;
    read_value(&mut rest)
}

fn read_value(rest: &mut &[u8]) -> Option<Value> {
    Some(match *take(rest, 1)?.first()? {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        SIGNED => Value::from(i64::from_le_bytes(read_number(rest)?)),
        UNSIGNED => Value::from(u64::from_le_bytes(read_number(rest)?)),
        FLOAT => Value::from(f64::from_le_bytes(read_number(rest)?)),
        TEXT => Value::String(read_text(rest)?),
        LIST => {
            let mut values = Vec::new();
            while !is_at_end(rest)? {
                values.push(read_value(rest)?);
            }
            Value::Array(values)
        }
        MAP => {
            let mut fields = Map::new();
            while !is_at_end(rest)? {
                // Each name begins like any text.
                take(rest, 1)?;
                let name = read_text(rest)?;
                fields.insert(name, read_value(rest)?);
            }
            Value::Object(fields)
        }
        _ => return None,
    })
}

fn is_at_end(rest: &mut &[u8]) -> Option<bool> {
    let is_end = *rest.first()? == END;
    if is_end {
        take(rest, 1)?;
    }
    Some(is_end)
}

fn read_number(rest: &mut &[u8]) -> Option<[u8; 8]> {
    take(rest, 8)?.try_into().ok()
}

fn read_text(rest: &mut &[u8]) -> Option<String> {
    let length = u32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
    let text = take(rest, length as usize)?;
    String::from_utf8(text.to_vec()).ok()
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let all: &'a [u8] = rest;
    let (taken, others) = all.split_at_checked(count)?;
    *rest = others;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::super::POD_UNREAD;
    use super::*;
    use agent_runtime::watch::without;
    use serde_json::json;

    /// The object that the parts are of, as a tree of what is read.
    fn put_together(parts: Parts) -> Value {
        let Parts {
            mut object,
            node,
            spec,
        } = parts;
        if let Some(mut spec) = tree(&spec) {
            if let Some(node) = node {
                spec["nodeName"] = node;
            }
            object["spec"] = spec;
        }
        object
    }

    /// The same by way of a tree of all.
    fn through_a_tree(object: &Value) -> Value {
        let mut read = without(POD_UNREAD, object.clone()).unwrap();
        if let Some(volumes) = read.pointer_mut("/spec/volumes") {
            drop_void(volumes);
        }
        let fields = read.as_object_mut().unwrap();
        fields.retain(|name, _| ["metadata", "spec", "status"].contains(&name.as_str()));
        read
    }

    #[test]
    fn the_parts_of_a_pod_are_what_is_read_of_it() {
        let container = json!({"name": "c", "image": "i\"\u{e9}\n", "env": [{"name": "e"}], "ports": [{"hostPort": 80}],
            "resources": {"requests": {"cpu": "1"}}, "volumeMounts": [{"name": "v"}]});
        let volumes = json!([{"name": "token", "projected": {}}, {"name": "d", "persistentVolumeClaim": {"claimName": "d"}}, 7, {}]);
        let numbers = json!([0, -1, u64::MAX, i64::MIN, 0.25, -0.0, 2.5, true, false, null, "", [], {}, [[]], {"": {"": []}}]);
        let metadata = json!({"name": "p", "managedFields": [{}], "ownerReferences": [{"uid": "u", "name": "o"}]});
        let status = json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "lastProbeTime": null}]});
        let specs = [
            json!({"containers": [container], "volumes": volumes, "nodeName": "n", "dnsPolicy": "Default", "x": numbers}),
            json!({"containers": {"image": "i", "env": 1}, "volumes": {"name": "x", "secret": {}}, "nodeName": null}),
            json!({"initContainers": [[container], 5], "volumes": [], "nodeName": {"nodeName": 1}, "affinity": {"nodeName": "x", "volumes": [{"name": "v"}]}}),
            json!({}),
            json!(null),
            json!([{"nodeName": "n"}, "x"]),
            json!("text"),
            numbers,
        ];
        for spec in specs {
            let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status});
            let mut found = Vec::new();
            for _ in 0..2 {
                let text = object.to_string();
                let read = parts(&mut serde_json::Deserializer::from_str(&text)).unwrap();
                found.push(read.spec.clone());
                assert_eq!(put_together(read), through_a_tree(&object), "{text}");
                let read = parts(object.clone()).unwrap();
                assert_eq!(put_together(read), through_a_tree(&object), "{text}");
                object["metadata"]["name"] = "q".into();
            }
            assert_eq!(found[0], found[1]);
        }
        let read = parts(json!({"metadata": {"name": "p"}})).unwrap();
        assert!(read.spec.is_empty() && read.node.is_none() && tree(&read.spec).is_none());
        assert!(parts(json!([])).is_err());
    }

    #[test]
    fn outlines_of_pods_that_differ_in_their_node_and_token_only_are_the_same() {
        let outline = |node: &str, token: &str, image: &str| {
            let spec = json!({"nodeName": node, "volumes": [{"name": token, "projected": {}}],
                "containers": [{"image": image, "volumeMounts": [{"name": token}]}]});
            parts(json!({ "spec": spec })).unwrap().spec
        };
        assert_eq!(outline("n", "a", "i"), outline("m", "b", "i"));
        assert_ne!(outline("n", "a", "i"), outline("n", "a", "j"));
    }
}
