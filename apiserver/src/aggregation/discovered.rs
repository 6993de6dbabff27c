//! What the server of a remote group version says of itself, and how that stands in this server's own documents.

use bytes::Bytes;
use serde_json::{Value, json};

/// What was heard at the last look.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Discovered {
    /// The items of its APIResourceList.
    pub(crate) resources: Vec<Value>,
    /// Whether the last look succeeded: what is shown may be of an earlier one.
    pub(crate) is_current: bool,
    /// The document of OpenAPI v3 and its hash; none where it has none.
    pub(crate) v3: Option<(String, Bytes)>,
    /// The paths of its group version in OpenAPI v2, and what they refer to.
    pub(crate) v2: Option<Value>,
}

/// The version as aggregated discovery shows it. `found` is none where the server never answered.
pub(crate) fn aggregated(group: &str, version: &str, found: Option<&Discovered>) -> Value {
    let is_current = found.is_some_and(|found| found.is_current);
    let resources: &[Value] = found.map_or(&[], |found| &found.resources);
    json!({
        "version": version,
        "resources": converted(group, version, resources),
        "freshness": if is_current { "Current" } else { "Stale" }
    })
}

/// Legacy discovery lists subresources beside their resources; aggregated discovery has them within.
fn converted(group: &str, version: &str, list: &[Value]) -> Vec<Value> {
    let mut resources: Vec<Value> = Vec::new();
    for item in list {
        let name = text(item, "name");
        if name.is_empty() || name.contains('/') {
            continue;
        }
        let mut resource = json!({
            "resource": name,
            "responseKind": response_kind(item, group, version),
            "scope": if item.get("namespaced").and_then(Value::as_bool) == Some(true) { "Namespaced" } else { "Cluster" },
            "singularResource": text(item, "singularName"),
            "verbs": item.get("verbs").cloned().unwrap_or_else(|| json!([]))
        });
        for field in ["shortNames", "categories"] {
            if let Some(names) = item.get(field).filter(|names| names.is_array()) {
                resource[field] = names.clone();
            }
        }
        let within: Vec<Value> = list
            .iter()
            .filter_map(|item| Some((text(item, "name").split_once('/')?, item)))
            .filter(|((parent, _), _)| *parent == name)
            .map(|((_, subresource), item)| {
                json!({
                    "subresource": subresource,
                    "responseKind": response_kind(item, group, version),
                    "verbs": item.get("verbs").cloned().unwrap_or_else(|| json!([]))
                })
            })
            .collect();
        if !within.is_empty() {
            resource["subresources"] = within.into();
        }
        resources.push(resource);
    }
    resources
}

fn response_kind(item: &Value, group: &str, version: &str) -> Value {
    // Both or none, as an empty group may be the core one.
    let (group, version) = match text(item, "version") {
        "" => (group, version),
        own => (text(item, "group"), own),
    };
    json!({ "group": group, "version": version, "kind": text(item, "kind") })
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The part of an OpenAPI v2 document that is about one group version: its paths and everything that they refer to.
pub(crate) fn part_of_v2(document: &Value, group: &str, version: &str) -> Value {
    let root = format!("/apis/{group}/{version}/");
    let own = |path: &str| format!("{path}/").starts_with(&root);
    let mut paths = serde_json::Map::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        if own(path) {
            paths.insert(path.clone(), item.clone());
        }
    }
    let mut definitions = serde_json::Map::new();
    let mut todo: Vec<String> = Vec::new();
    for item in paths.values() {
        references(item, &mut todo);
    }
    while let Some(name) = todo.pop() {
        if definitions.contains_key(&name) {
            continue;
        }
        if let Some(definition) = document["definitions"].get(&name) {
            references(definition, &mut todo);
            definitions.insert(name, definition.clone());
        }
    }
    json!({ "paths": paths, "definitions": definitions })
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().filter(|_| key == "$ref") {
                    Some(target) => {
                        found.extend(target.strip_prefix("#/definitions/").map(str::to_owned));
                    }
                    None => references(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// Adds such a part to this server's document. Definitions of the same name mean the same types, or else ours stays.
pub(crate) fn add_to_v2(document: &mut Value, part: &Value) {
    for field in ["paths", "definitions"] {
        let Some(all) = document.get_mut(field).and_then(Value::as_object_mut) else {
            continue;
        };
        for (name, value) in part[field].as_object().into_iter().flatten() {
            if !all.contains_key(name) {
                all.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_move_into_their_resources() {
        let list = json!([
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"], "shortNames": ["fl"]},
            {"name": "flunders/scale", "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["get", "update"]},
            {"name": "fischers", "kind": "Fischer", "namespaced": false, "verbs": []},
            {"name": "orphans/status", "kind": "Orphan", "verbs": []}
        ]);
        let found = Discovered {
            resources: list.as_array().unwrap().clone(),
            is_current: true,
            ..Discovered::default()
        };
        let shown = aggregated("w.io", "v1", Some(&found));
        let kind = |group: &str, kind: &str| json!({"group": group, "version": "v1", "kind": kind});
        let flunders = json!({"resource": "flunders", "singularResource": "flunder", "scope": "Namespaced",
            "responseKind": kind("w.io", "Flunder"), "verbs": ["get"], "shortNames": ["fl"], "subresources": [
                {"subresource": "scale", "responseKind": kind("autoscaling", "Scale"), "verbs": ["get", "update"]}]});
        let fischers = json!({"resource": "fischers", "singularResource": "", "scope": "Cluster",
            "responseKind": kind("w.io", "Fischer"), "verbs": []});
        let wanted =
            json!({"version": "v1", "freshness": "Current", "resources": [flunders, fischers]});
        assert_eq!(shown, wanted);
        let never = json!({"version": "v1", "freshness": "Stale", "resources": []});
        assert_eq!(aggregated("w.io", "v1", None), never);
    }

    #[test]
    fn only_the_own_part_of_a_document_is_added() {
        let refer = |name: &str| json!({"$ref": format!("#/definitions/{name}")});
        let theirs = json!({
            "paths": {"/apis/w.io/v1/": {"get": refer("A")}, "/apis/w.io/v1/x": {}, "/apis/w.io/v10/x": {}, "/version": {}},
            "definitions": {"A": {"items": [refer("B")]}, "B": {"a": refer("A"), "c": refer("missing")}, "C": {}}
        });
        let part = part_of_v2(&theirs, "w.io", "v1");
        let mut ours =
            json!({"paths": {"/version": {"ours": 1}}, "definitions": {"B": {"ours": 1}}});
        add_to_v2(&mut ours, &part);
        let wanted = json!({
            "paths": {"/version": {"ours": 1}, "/apis/w.io/v1/": {"get": refer("A")}, "/apis/w.io/v1/x": {}},
            "definitions": {"B": {"ours": 1}, "A": {"items": [refer("B")]}}
        });
        assert_eq!(ours, wanted);
    }
}
