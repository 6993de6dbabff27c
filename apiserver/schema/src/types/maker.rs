//! Values for tests of what must hold for objects of any type.

use serde_json::{Map, Value, json};

use super::{Container, Element, Field, Form, Type, type_by_id, type_named};

/// Values of a type from a seed: every kind of field, some left out, some zero.
pub(crate) struct Maker(pub(crate) u64);

impl Maker {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn object(&mut self, ty: &Type, depth: usize) -> Value {
        let mut map = Map::new();
        let sparse = if depth == 0 {
            2
        } else {
            4 + ty.fields.len() as u64 / 4
        };
        for field in ty.fields.iter().filter(|f| !f.tags.is_empty()) {
            if !self.next().is_multiple_of(sparse) || depth > 6 {
                continue;
            }
            let count = self.next() % 3 + 1;
            let value = match field.ty.container {
                Container::One => self.element(field.ty.element, depth),
                Container::List => (0..count).map(|_| self.item(field, depth)).collect(),
                Container::Map => Value::Object(
                    (0..count)
                        .map(|i| (format!("k{i}"), self.element(field.ty.element, depth)))
                        .collect(),
                ),
            };
            map.insert(field.name.to_owned(), value);
        }
        Value::Object(map)
    }

    /// An item of a list, nearly always with its keys.
    fn item(&mut self, field: &Field, depth: usize) -> Value {
        let mut item = self.element(field.ty.element, depth);
        let (Some(ty), Some(map)) = (field.ty.message(), item.as_object_mut()) else {
            return item;
        };
        for key in field.list_keys.iter().chain(&field.patch.key) {
            let Some(key) = ty.field(key).filter(|_| !self.next().is_multiple_of(16)) else {
                continue;
            };
            let value = self.element(key.ty.element, depth);
            map.entry(key.name).or_insert(value);
        }
        item
    }

    fn element(&mut self, element: Element, depth: usize) -> Value {
        let n = self.next();
        match element {
            Element::String => ["", "a", "é\n", "longer text"][n as usize % 4].into(),
            Element::Bool => n.is_multiple_of(2).into(),
            Element::Int32 => [0, 1, -1, i32::MAX, i32::MIN][n as usize % 5].into(),
            Element::Int64 => [0, 1, -1, i64::MAX, i64::MIN][n as usize % 5].into(),
            Element::Double => [json!(0), json!(1.5), json!(-1e300)][n as usize % 3].clone(),
            Element::Duration => ["0s", "10.5s", "-1h0m0.000000001s"][n as usize % 3].into(),
            Element::Bytes => ["", "AA==", "AP8="][n as usize % 3].into(),
            Element::StringList | Element::Verbs => json!(["a", ""]),
            Element::Message(id) => self.message(type_by_id(id), depth + 1),
        }
    }

    fn message(&mut self, ty: &Type, depth: usize) -> Value {
        let n = self.next() as usize;
        let schema = type_named("apiextensions.JSONSchemaProps").unwrap();
        match ty.form {
            Form::Object => self.object(ty, depth),
            Form::Time => ["2026-11-21T02:16:31Z", "1960-01-01T00:00:00Z"][n % 2].into(),
            Form::MicroTime => {
                ["2026-11-21T02:16:31.000001Z", "1960-01-01T00:00:00.500000Z"][n % 2].into()
            }
            Form::Quantity => ["0", "100m", "1Gi", "-5k", "2e3"][n % 5].into(),
            Form::IntOrString => [json!(0), json!(-5), json!("25%"), json!("")][n % 4].clone(),
            Form::RawExtension | Form::FieldsV1 => json!({"f:x": {}, "n": [null, 1.5]}),
            Form::Json => [json!(1), json!("x"), json!([null]), json!({"a": false})][n % 4].clone(),
            Form::SchemaOrBool if n.is_multiple_of(2) => n.is_multiple_of(4).into(),
            Form::SchemaOrArray if n.is_multiple_of(2) => json!([{"type": "string"}]),
            Form::SchemaOrStringArray if n.is_multiple_of(2) => json!(["a", ""]),
            _ => self.object(schema, depth),
        }
    }
}
