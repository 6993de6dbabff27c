//! Facts that are read from an object's text without a tree of it: every member of the control plane looks for them in every
//! object that another member has written. They are the same as [`Facts::of`] finds in the tree.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use resources::{FieldForm, Handle};
use schema::pick::leaves::{self, Leaves};
use schema::read::Json;
use serde_json::Value;

use super::{Facts, Gathered};

const LABELS: &str = "metadata.labels";
const IPS: &str = "status.podIPs";

/// How the facts of objects of some shapes are found in their texts.
pub(crate) struct ByText {
    /// The labels, and behind them the fields.
    leaves: Leaves,
    fields: Vec<Field>,
    /// Which of the fields has the addresses.
    ips: Option<usize>,
}

struct Field {
    name: Arc<str>,
    form: FieldForm,
}

impl ByText {
    /// Of shapes that are all as their objects are stored; none where more is to be said of their fields than a form.
    pub(crate) fn of(shapes: &[Handle]) -> Option<ByText> {
        let mut fields: Vec<Field> = Vec::new();
        for shape in shapes {
            for name in &shape.field_selectors {
                let form = shape.field_form(name)?;
                match fields.iter().find(|known| known.name == *name) {
                    Some(known) if known.form == form => {}
                    Some(_) => return None,
                    None => fields.push(Field {
                        name: name.clone(),
                        form,
                    }),
                }
            }
        }
        let ips = fields.iter().position(|field| &*field.name == IPS);
        let is_of_ips = |field: &Field| matches!(field.form, FieldForm::FirstIp | FieldForm::Ips);
        if ips.is_none() && fields.iter().any(is_of_ips) {
            return None;
        }
        let names = fields.iter().map(|field| &*field.name);
        let leaves = Leaves::of(std::iter::once(LABELS).chain(names))?;
        Some(ByText {
            leaves,
            fields,
            ips,
        })
    }

    /// The facts of the object whose text this is; none where it is the text of no object.
    pub(crate) fn read(&self, json: &[u8]) -> Option<Facts> {
        let found = self.leaves.read(json)?;
        let (labels, values) = found.split_first()?;
        let mut gathered = Gathered::new();
        for (key, value) in labels.map(in_order).unwrap_or_default() {
            if let Some(value) = leaves::string(value) {
                gathered.label(&key, &value);
            }
        }
        let ips = self.ips.and_then(|at| *values.get(at)?);
        let ips = ips.map(addresses).unwrap_or_default();
        for (field, text) in self.fields.iter().zip(values) {
            let value = match field.form {
                FieldForm::Plain => plain(*text),
                FieldForm::Flag if *text == Some("true") => Cow::Borrowed("true"),
                FieldForm::Flag => Cow::Borrowed("false"),
                FieldForm::FirstIp => match ips.first() {
                    Some(first) if !first.is_empty() => Cow::Borrowed(first.as_str()),
                    _ => plain(*text),
                },
                FieldForm::Ips => Cow::Owned(ips.join(",")),
            };
            gathered.field(&field.name, &value);
        }
        Some(gathered.facts())
    }
}

/// The members of the object whose text this is in the order of their names, each once; none of another value.
fn in_order(text: &str) -> Vec<(Cow<'_, str>, &str)> {
    let members = leaves::members(text).unwrap_or_default();
    if members.is_sorted_by(|(one, _), (next, _)| one < next) {
        return members;
    }
    // Of several of one name the last counts.
    let by_name: BTreeMap<_, _> = members.into_iter().collect();
    by_name.into_iter().collect()
}

/// What [`FieldForm::Plain`] says of a value's text.
fn plain(text: Option<&str>) -> Cow<'_, str> {
    let Some(text) = text else {
        return Cow::Borrowed("");
    };
    match text.as_bytes().first() {
        Some(b'"') => leaves::string(text).unwrap_or_default(),
        Some(b't' | b'f') => Cow::Borrowed(text),
        Some(b'-' | b'0'..=b'9') => match serde_json::from_str(text) {
            Ok(Value::Number(number)) => Cow::Owned(number.to_string()),
            _ => Cow::Borrowed(""),
        },
        _ => Cow::Borrowed(""),
    }
}

/// The addresses of a list of them, one for each of its elements.
fn addresses(text: &str) -> Vec<String> {
    let Ok(Json(Value::Array(ips))) = serde_json::from_str(text) else {
        return Vec::new();
    };
    let address = |ip: &Value| {
        let address = ip.get("ip").and_then(Value::as_str);
        address.unwrap_or_default().to_owned()
    };
    ips.iter().map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry;
    use proptest::prelude::*;
    use resources::Resource;
    use schema::Object;
    use serde_json::json;

    /// Whether the text tells what the tree tells.
    fn agrees(resource: &'static Resource, text: &str) {
        let shapes = [Handle::from(resource)];
        let by_text = ByText::of(&shapes).unwrap();
        let picked = entry::needed(&shapes).unwrap().read(text.as_bytes());
        let object = picked.ok().and_then(|value| Object::new(value).ok());
        let expected = object.map(|object| Facts::of(&object, std::iter::once(resource)));
        assert_eq!(by_text.read(text.as_bytes()), expected, "{text}");
    }

    fn pods() -> &'static Resource {
        resources::find("", "v1", "pods").unwrap()
    }

    /// An object all of whose fields are there, and this one has that value.
    fn object(resource: &Resource, name: &str, value: &Value) -> Object {
        let mut object = Object::new(json!({"kind": "K", "apiVersion": "v1",
            "metadata": {"labels": {"b": "1", "a": "2"}}, "spec": {}}))
        .unwrap();
        let mut set = |name: &str, value: Value| {
            let path: Vec<&str> = name.split('.').collect();
            object.set(&path, value);
        };
        for other in &resource.field_selectors {
            set(other, json!("other"));
        }
        set(name, value.clone());
        object
    }

    #[test]
    fn every_kind_tells_the_same_by_its_text_and_by_its_tree() {
        let values = [
            json!("x"),
            json!("\"a\\ü\n"),
            json!(""),
            json!(7),
            json!(-7),
            json!(1.5),
            json!(1e300),
            json!(true),
            json!(false),
            json!(null),
            json!({"ip": "1"}),
            json!([]),
            json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]),
            json!([{"ip": ""}, {"ip": 7}, "x", null, {"ip": "10.0.0.1"}]),
        ];
        let mut kinds: Vec<&str> = Vec::new();
        for resource in resources::ALL.iter() {
            let shapes = [Handle::from(resource)];
            if entry::needed(&shapes).is_none() || ByText::of(&shapes).is_none() {
                continue;
            }
            kinds.push(&resource.kind);
            let fields = resource.field_selectors.iter().map(|name| &**name);
            for name in fields.chain([LABELS]) {
                for value in &values {
                    let object = object(resource, name, value);
                    agrees(resource, &object.value().to_string());
                }
            }
        }
        for kind in ["Pod", "Node", "Secret", "ConfigMap", "Lease"] {
            assert!(kinds.contains(&kind), "{kind}");
        }
        assert!(!kinds.contains(&"Event") && !kinds.contains(&"Job"));
    }

    #[test]
    fn what_foreign_writers_store_tells_the_same() {
        for text in [
            "{}",
            "",
            "[]",
            "{",
            "{} {}",
            r#"{"spec":null,"status":"x","metadata":[]}"#,
            r#" { "metadata" : { "labels" : { "b" : "1" , "a" : "2" } } , "spec" : { "nodeName" : "n" } } "#,
            r#"{"metadata":{"labels":{"b":"1","a":"2","b":"3","c":1,"\u0061":"4"}}}"#,
            r#"{"metadata":{"labels":{"a":"1","a":2}}}"#,
            r#"{"metadata":{"labels":{"a":"1"}},"metadata":{"name":"x"},"spec":{"nodeName":"a"},"spec":{"nodeName":"b","x":1}}"#,
            r#"{"metadata":{"labels":{"a":"1"},"labels":null}}"#,
            r#"{"spec":{"hostNetwork":true},"status":{"podIP":"10.0.0.2","podIPs":[]}}"#,
            r#"{"spec":{"hostNetwork":"true"},"status":{"podIPs":[{"ip":"10.0.0.1"}],"podIPs":null,"podIP":"x"}}"#,
            r#"{"status":{"phase":"Run\u006eing","podIP":1.0}}"#,
            r#"{"status":{"phase":"Run\qning"}}"#,
            r#"{"status":{"podIPs":[{"ip":"10.0.0.1"},{"$serde_json::private::RawValue":"x"}]}}"#,
        ] {
            agrees(pods(), text);
        }
        let by_text = ByText::of(&[pods().into()]).unwrap();
        assert!(by_text.read(b"{\"a\":\"\xff\"}").is_none());
    }

    proptest! {
        #[test]
        fn pods_tell_the_same(
            labels in prop::collection::btree_map("[a-c/\"]{0,3}", "[a-c\\\\\"ü]{0,4}", 0..5),
            node in prop::option::of("[a-c\\\\\"ü.]{0,9}"),
            ips in prop::collection::vec("[0-9.:]{0,9}", 0..3),
            phase in prop::option::of("Running|Pending|"),
        ) {
            let list: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
            let pod = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"labels": labels, "name": "p"},
                "spec": {"nodeName": node, "restartPolicy": "Always", "containers": [{"name": "c"}]},
                "status": {"phase": phase, "podIP": ips.first(), "podIPs": list}});
            agrees(pods(), &pod.to_string());
        }
    }
}
