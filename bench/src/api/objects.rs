//! What is written: pods of a size that is the same on every cluster, and definitions of custom resources, small ones and
//! such that have the schema of a pod in them.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::{Map, Value, json};

/// On everything that is made, so that it can be found and removed.
pub(super) const MARK: &str = "kontiki-bench";
pub(super) const GROUP: &str = "bench.kontiki.example";
/// Of one pod as a GET answers it, managed fields included.
pub(super) const POD_BYTES: usize = 4_300;
/// Of a definition with the schema of a pod, and of Kubernetes' texts about its fields.
pub(super) const LARGE_DEFINITION_BYTES: usize = 275_000;
/// No scheduler has this name, so that pods stay as they are.
const NO_SCHEDULER: &str = "kontiki-bench-none";
/// Schemas that contain themselves are cut here; a pod's do not.
const DEPTH_MAX: usize = 24;
/// Stands where a name is put into a text that is made once.
pub(crate) const NAME: &str = "%NAME%";

/// The text of an object, made once; a name is put into it as often as there are objects.
#[derive(Clone)]
pub(crate) struct Template(Vec<String>);

impl Template {
    pub(crate) fn new(object: &Value) -> Template {
        let text = object.to_string();
        Template(text.split(NAME).map(str::to_owned).collect())
    }

    pub(crate) fn named(&self, name: &str) -> Bytes {
        self.0.join(name).into()
    }
}

/// An object in protobuf, made once. The names that are put into it are as long as the one it was made with, since lengths
/// stand before them.
#[derive(Clone)]
pub(super) struct Message {
    before: Vec<u8>,
    name: usize,
    after: Vec<u8>,
}

impl Message {
    /// An error where the object has no form in protobuf.
    pub(super) fn new(object: &Value, name: &str) -> Result<Message> {
        // Of no letter that stands anywhere else.
        let place = "%".repeat(name.len());
        let mut object = object.clone();
        object["metadata"]["name"] = place.as_str().into();
        let encoded = schema::protobuf::encode_any(&object)?;
        let mut windows = encoded.windows(place.len());
        let at = windows.position(|window| window == place.as_bytes());
        let at = at.context("an object in protobuf without its name")?;
        Ok(Message {
            before: encoded[..at].to_vec(),
            name: name.len(),
            after: encoded[at + name.len()..].to_vec(),
        })
    }

    pub(super) fn named(&self, name: &str) -> Bytes {
        debug_assert_eq!(name.len(), self.name);
        let parts = [self.before.as_slice(), name.as_bytes(), &self.after];
        parts.concat().into()
    }
}

/// A pod as a Deployment would make it: two containers with ports, probes, variables, requests and limits.
pub(super) fn pod(app: &str, padding: usize) -> Value {
    let container = |name: &str, port: u16| {
        let probe = |path: &str| {
            json!({ "httpGet": { "path": path, "port": port, "scheme": "HTTP" },
                    "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3 })
        };
        json!({
            "name": name, "image": format!("registry.example/team/{name}:1.2.3"),
            "ports": [{ "name": "http", "containerPort": port, "protocol": "TCP" }],
            "env": [
                { "name": "LEVEL", "value": "info" },
                { "name": "POD_NAME", "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.name" } } },
            ],
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "256Mi" } },
            "readinessProbe": probe("/ready"),
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": NAME,
            "labels": { "app": app, "made-by": MARK },
            "annotations": { "padding": "x".repeat(padding), "turn": "0" },
        },
        "spec": {
            "schedulerName": NO_SCHEDULER,
            "automountServiceAccountToken": false,
            "containers": [container("main", 8080), container("side", 9090)],
            "volumes": [{ "name": "data", "emptyDir": {} }],
        },
    })
}

/// How much padding makes a pod so long that without any is answered with so many bytes.
pub(super) fn padding(bare_bytes: usize) -> usize {
    POD_BYTES.saturating_sub(bare_bytes)
}

/// The pod with another annotation, as who read and changed it sends it back.
pub(super) fn turned(pod: &Value, turn: u64) -> Value {
    let mut pod = pod.clone();
    pod["metadata"]["annotations"]["turn"] = turn.to_string().into();
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    pod
}

pub(super) fn definition_name(number: u64) -> String {
    format!("kinds{number}.{GROUP}")
}

/// A definition of one version with this schema for `spec`.
pub(super) fn definition(number: u64, spec: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": definition_name(number), "labels": { "made-by": MARK } },
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": { "plural": format!("kinds{number}"), "singular": format!("kind{number}"),
                       "kind": format!("Kind{number}"), "listKind": format!("Kind{number}List") },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": {
                    "spec": spec, "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true }
                } } },
            }],
        },
    })
}

pub(super) fn small_spec() -> Value {
    json!({ "type": "object", "required": ["size"], "properties": {
        "size": { "type": "integer", "minimum": 0 }, "note": { "type": "string" },
    } })
}

/// The structural schema of a type in the server's own OpenAPI document of version 3, with texts as long as Kubernetes'
/// in all.
pub(super) fn large_spec(document: &Value, name: &str) -> Result<Value> {
    let schemas = &document["components"]["schemas"];
    if schemas[name].is_null() {
        bail!("the server's OpenAPI document has no {name}");
    }
    let mut spec = structural(schemas, &schemas[name], 0)?;
    let bare = spec.to_string().len();
    let fields = described(&mut spec, "");
    let each = LARGE_DEFINITION_BYTES.saturating_sub(bare) / fields.max(1);
    // What `"description":"",` takes is part of it.
    let text: String = "What this field is about. "
        .chars()
        .cycle()
        .take(each.saturating_sub(17))
        .collect();
    described(&mut spec, &text);
    Ok(spec)
}

/// Without references, and without what structural schemas may not have.
fn structural(schemas: &Value, schema: &Value, depth: usize) -> Result<Value> {
    if depth > DEPTH_MAX {
        return Ok(json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }));
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        let found = schemas.get(name).context("a reference to nothing")?;
        return structural(schemas, found, depth + 1);
    }
    // A reference with a default beside it is written as a list of one.
    if let Some([only]) = schema["allOf"].as_array().map(Vec::as_slice) {
        return structural(schemas, only, depth);
    }
    if schema.get("oneOf").is_some() || schema.get("anyOf").is_some() {
        return Ok(json!({ "x-kubernetes-int-or-string": true }));
    }
    let mut made = Map::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        match key.as_str() {
            "type"
            | "format"
            | "enum"
            | "required"
            | "x-kubernetes-list-type"
            | "x-kubernetes-list-map-keys"
            | "x-kubernetes-map-type" => {
                made.insert(key.clone(), value.clone());
            }
            "items" | "additionalProperties" if value.is_object() => {
                made.insert(key.clone(), structural(schemas, value, depth + 1)?);
            }
            "properties" => {
                let properties: Result<Map<String, Value>> = value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| Ok((name.clone(), structural(schemas, value, depth + 1)?)))
                    .collect();
                made.insert(key.clone(), properties?.into());
            }
            _ => {}
        }
    }
    require_map_keys(&mut made);
    if made.is_empty() {
        return Ok(json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }));
    }
    Ok(made.into())
}

/// Structural schemas want the keys of a list required, or defaulted.
fn require_map_keys(schema: &mut Map<String, Value>) {
    let Some(keys) = schema
        .get("x-kubernetes-list-map-keys")
        .and_then(Value::as_array)
    else {
        return;
    };
    let keys = keys.clone();
    let Some(items) = schema.get_mut("items").and_then(Value::as_object_mut) else {
        return;
    };
    let required = items.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        for key in keys {
            if !required.contains(&key) {
                required.push(key);
            }
        }
    }
}

/// Gives every property this text; how many there are.
fn described(schema: &mut Value, text: &str) -> usize {
    let mut count = 0;
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for property in properties.values_mut() {
            property["description"] = text.into();
            count += 1 + described(property, text);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(key) {
            count += described(inner, text);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_a_pod_of_that_name() {
        let template = Template::new(&pod("app", 100));
        let named: Value = serde_json::from_slice(&template.named("one")).unwrap();
        assert_eq!(named["metadata"]["name"], "one");
        let annotations = &named["metadata"]["annotations"];
        assert_eq!(annotations["padding"].as_str().unwrap().len(), 100);
        assert_eq!(named["spec"]["containers"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn a_message_is_a_pod_of_that_name() {
        let mut pod = pod("app", 300);
        let message = Message::new(&pod, "pod-0000").unwrap();
        pod["metadata"]["name"] = "pod-1234".into();
        let expected = schema::protobuf::encode_any(&pod).unwrap();
        assert!(message.named("pod-1234") == expected);
        let unknown = json!({ "apiVersion": "v1", "kind": "None", "metadata": {} });
        assert!(Message::new(&unknown, "a").is_err());
    }

    #[test]
    fn padding_fills_up_and_never_below_nothing() {
        assert_eq!(padding(POD_BYTES - 7), 7);
        assert_eq!(padding(POD_BYTES + 1), 0);
    }

    #[test]
    fn who_sends_a_pod_back_does_not_insist_on_a_version() {
        let mut read = pod("app", 0);
        read["metadata"]["resourceVersion"] = "7".into();
        let sent = turned(&read, 3);
        assert_eq!(sent["metadata"]["annotations"]["turn"], "3");
        assert!(sent["metadata"].get("resourceVersion").is_none());
        assert_eq!(sent["spec"], read["spec"]);
    }

    fn document() -> Value {
        json!({ "components": { "schemas": {
            "Spec": { "type": "object", "required": ["size"], "properties": {
                "size": { "allOf": [{ "$ref": "#/components/schemas/Quantity" }], "default": {} },
                "ports": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                    "x-kubernetes-patch-merge-key": "port", "items": { "$ref": "#/components/schemas/Port" } },
                "more": { "type": "object", "additionalProperties": { "type": "string" } },
                "any": {},
            } },
            "Quantity": { "oneOf": [{ "type": "string" }, { "type": "number" }] },
            "Port": { "type": "object", "properties": { "port": { "type": "integer", "default": 0 } } },
            "Loop": { "type": "object", "properties": { "next": { "$ref": "#/components/schemas/Loop" } } },
        } } })
    }

    #[test]
    fn a_schema_becomes_structural() {
        let schemas = &document()["components"]["schemas"];
        let made = structural(schemas, &schemas["Spec"], 0).unwrap();
        assert_eq!(
            made,
            json!({ "type": "object", "required": ["size"], "properties": {
                "size": { "x-kubernetes-int-or-string": true },
                "ports": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                    "items": { "type": "object", "required": ["port"], "properties": { "port": { "type": "integer" } } } },
                "more": { "type": "object", "additionalProperties": { "type": "string" } },
                "any": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
            } })
        );
        assert!(structural(schemas, &schemas["Loop"], 0).is_ok());
    }

    #[test]
    fn a_large_definition_has_its_size() {
        let spec = large_spec(&document(), "Spec").unwrap();
        let bytes = definition(3, &spec).to_string().len();
        let most = LARGE_DEFINITION_BYTES + 1_000;
        assert!(
            (LARGE_DEFINITION_BYTES - 1_000..most).contains(&bytes),
            "{bytes}"
        );
        assert!(large_spec(&document(), "None").is_err());
    }

    #[test]
    fn definitions_have_names_of_their_own() {
        let one = definition(1, &small_spec());
        assert_eq!(one["metadata"]["name"], definition_name(1));
        assert_ne!(definition_name(1), definition_name(11));
    }
}
