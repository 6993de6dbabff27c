//! Objects without the record of who owns which of their fields: often a third of their text, and more of their tree.

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::fmt;

/// An object without its `metadata.managedFields`, which are passed over as it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Lean(pub Value);

impl<'de> Deserialize<'de> for Lean {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        decoder
            .deserialize_map(Fields { of_metadata: false })
            .map(Lean)
    }
}

struct Fields {
    of_metadata: bool,
}

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Value, D::Error> {
        decoder.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            match (self.of_metadata, &*key) {
                (true, "managedFields") => drop(map.next_value::<IgnoredAny>()?),
                (false, "metadata") => {
                    let metadata = map.next_value_seed(Fields { of_metadata: true })?;
                    fields.insert(key, metadata);
                }
                _ => drop(fields.insert(key, map.next_value()?)),
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_but_managed_fields_is_read() {
        let mut object = json!({"metadata": {"name": "p", "annotations": {"managedFields": "kept"},
            "managedFields": [{"manager": "m"}]}, "spec": {"metadata": {"managedFields": 1}}, "status": {"a": [1, null]}});
        let Lean(read) = serde_json::from_str(&object.to_string()).unwrap();
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        assert_eq!(read, object);
        let Lean(again) = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(again, object);
        assert!(serde_json::from_str::<Lean>("[]").is_err());
    }
}
