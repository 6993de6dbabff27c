//! Pods as they are read from a watch: without what is not compiled, which is most of their text.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// A part of a pod, or a list of such parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Pod,
    Metadata,
    Spec,
    Container,
    Volume,
    Status,
    Condition,
    ContainerStatus,
    /// Of which everything is read.
    Whole,
}

impl Part {
    /// As what a field of it is read; none where nobody looks.
    fn field(self, name: &str) -> Option<Part> {
        match (self, name) {
            (Part::Pod, "metadata") => Some(Part::Metadata),
            (Part::Pod, "spec") => Some(Part::Spec),
            (Part::Pod, "status") => Some(Part::Status),
            (Part::Spec, "containers" | "initContainers") => Some(Part::Container),
            (Part::Spec, "volumes") => Some(Part::Volume),
            (Part::Status, "conditions") => Some(Part::Condition),
            (Part::Status, "containerStatuses" | "initContainerStatuses") => {
                Some(Part::ContainerStatus)
            }
            _ => (!self.unread().contains(&name)).then_some(Part::Whole),
        }
    }

    /// Its fields that nothing is compiled from. What is not named here is read, whatever it is.
    fn unread(self) -> &'static [&'static str] {
        match self {
            Part::Pod => &["apiVersion", "kind"],
            Part::Metadata => &["managedFields", "generateName", "selfLink", "finalizers"],
            Part::Spec => &[
                "dnsPolicy",
                "enableServiceLinks",
                "priorityClassName",
                "restartPolicy",
                "securityContext",
                "serviceAccount",
                "serviceAccountName",
                "terminationGracePeriodSeconds",
            ],
            Part::Container => &[
                "args",
                "command",
                "env",
                "envFrom",
                "imagePullPolicy",
                "lifecycle",
                "livenessProbe",
                "readinessProbe",
                "securityContext",
                "startupProbe",
                "terminationMessagePath",
                "terminationMessagePolicy",
                "volumeMounts",
                "workingDir",
            ],
            Part::Volume => &[
                "configMap",
                "downwardAPI",
                "emptyDir",
                "hostPath",
                "projected",
                "secret",
            ],
            Part::Status => &[
                "hostIP",
                "hostIPs",
                "message",
                "observedGeneration",
                "podIP",
                "podIPs",
                "qosClass",
                "reason",
            ],
            Part::Condition => &["lastProbeTime", "lastTransitionTime", "observedGeneration"],
            Part::ContainerStatus => &[
                "containerID",
                "image",
                "imageID",
                "lastState",
                "ready",
                "restartCount",
                "started",
                "state",
                "user",
                "volumeMounts",
            ],
            Part::Whole => &[],
        }
    }

    /// Whether an element of a list may be left out: a volume that is on every node.
    fn is_void(self, element: &Value) -> bool {
        let fields = element.as_object().filter(|_| self == Part::Volume);
        fields.is_some_and(|fields| fields.keys().all(|name| name == "name"))
    }
}

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Value, D::Error> {
        match self {
            Part::Whole => Value::deserialize(decoder),
            // An object without an identity is none.
            Part::Pod | Part::Metadata => decoder.deserialize_map(self),
            _ => decoder.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Part {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(field) = map.next_key_seed(Field { of: self })? {
            match field {
                Some((name, part)) => drop(fields.insert(name, map.next_value_seed(part)?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element_seed(self)? {
            if !self.is_void(&element) {
                elements.push(element);
            }
        }
        Ok(Value::Array(elements))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// The name of a field, made a text only where the field is read.
struct Field {
    of: Part,
}

impl<'de> DeserializeSeed<'de> for Field {
    type Value = Option<(String, Part)>;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Self::Value, D::Error> {
        decoder.deserialize_str(self)
    }
}

impl Visitor<'_> for Field {
    type Value = Option<(String, Part)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.of.field(name).map(|part| (name.to_owned(), part)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(object: &Value) -> serde_json::Result<Value> {
        let text = object.to_string();
        let read = Part::Pod.deserialize(&mut serde_json::Deserializer::from_str(&text))?;
        assert_eq!(Part::Pod.deserialize(object.clone())?, read);
        Ok(read)
    }

    #[test]
    fn what_nobody_looks_at_is_left_out() {
        let pod = json!({"kind": "Pod", "metadata": {"name": "p", "managedFields": [{}], "labels": {"env": "x"}},
            "spec": {"restartPolicy": "Always", "nodeSelector": {"secret": "s"},
                "containers": [{"name": "c", "env": [{"name": "e"}], "resources": {"requests": {"cpu": 1.5}}}],
                "volumes": [{"name": "v", "projected": {}}, {"name": "w", "persistentVolumeClaim": {"claimName": "d"}}]},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "lastProbeTime": null}],
                "containerStatuses": [{"name": "c", "state": {}, "allocatedResources": {"cpu": "1"}}]}});
        let expected = json!({"metadata": {"name": "p", "labels": {"env": "x"}},
            "spec": {"nodeSelector": {"secret": "s"}, "containers": [{"name": "c", "resources": {"requests": {"cpu": 1.5}}}],
                "volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "d"}}]},
            "status": {"conditions": [{"type": "Ready"}],
                "containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "1"}}]}});
        assert_eq!(read(&pod).unwrap(), expected);
    }

    #[test]
    fn odd_parts_are_read_as_they_are() {
        for part in [
            json!(null),
            json!(-5),
            json!(5),
            json!(0.5),
            json!(true),
            json!("x"),
            json!([[1], {}]),
        ] {
            let pod = json!({"metadata": {}, "spec": part, "status": {"conditions": part}});
            assert_eq!(read(&pod).unwrap(), pod);
        }
        assert!(read(&json!([])).is_err() && read(&json!({"metadata": null})).is_err());
    }
}
