//! Objects that have all but their names alike: their text is written once for all of them.

use crate::client::encode;
use bytes::Bytes;
use serde_json::Value;

/// Stands for the name where the text is cut.
const MARK: &str = "\"=name=\"";

/// An object that has no name yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Nameless {
    body: Value,
    /// The text before the name and after it. None where it cannot be told where that is.
    around: Option<(String, String)>,
}

impl Nameless {
    /// Of an object with metadata. What name it has is of no account.
    pub fn new(body: Value) -> Self {
        let mut marked = Self { body, around: None };
        let text = marked.object(MARK.trim_matches('"')).to_string();
        let parts = text.split_once(MARK);
        let parts = parts.filter(|(_, after)| !after.contains(MARK));
        marked.around = parts.map(|(before, after)| (before.to_owned(), after.to_owned()));
        marked
    }

    /// The object without a name, or with another one.
    pub fn body(&self) -> &Value {
        &self.body
    }

    /// The object of this name.
    pub fn object(&self, name: &str) -> Value {
        let mut object = self.body.clone();
        object["metadata"]["name"] = name.into();
        object
    }

    /// The text of the object of this name.
    pub fn text(&self, name: &str) -> Bytes {
        match &self.around {
            Some((before, after)) => {
                let name = Value::from(name).to_string();
                Bytes::from([before.as_str(), &name, after].concat())
            }
            None => encode(&self.object(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_is_that_of_the_object() {
        let bodies = [
            json!({"kind": "Pod", "metadata": {"generateName": "a-", "labels": {"name": "b"}, "namespace": "d"}, "spec": {"x": [1]}}),
            json!({"metadata": {"name": "other"}, "spec": {"name": ""}}),
            json!({"kind": "Pod", "metadata": null}),
            // What looks like the mark.
            json!({"kind": "=name=", "metadata": {}}),
            json!({"metadata": {"name": "=name="}, "spec": ["=name="]}),
            json!({"metadata": {"labels": {"=name=": "\"=name=\""}}, "spec": "\"=name="}),
        ];
        for body in bodies {
            let alike = Nameless::new(body.clone());
            for name in ["a-1", "", "\"\\\n\u{1f600}", "=name="] {
                let mut expected = body.clone();
                expected["metadata"]["name"] = name.into();
                assert_eq!(alike.object(name), expected);
                assert_eq!(alike.text(name), serde_json::to_vec(&expected).unwrap());
            }
            assert_eq!(alike.body(), &body);
        }
    }

    #[test]
    fn most_are_written_once() {
        let around = |body: Value| Nameless::new(body).around.is_some();
        assert!(around(json!({"metadata": {"name": ""}, "spec": {}})));
        assert!(!around(json!({"metadata": {}, "spec": "=name="})));
    }
}
