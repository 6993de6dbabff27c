//! The operations on resources: which verbs, with which parameters and bodies.

use serde_json::{Map, Value, json};

use super::schemas::{list_name_of, name_of, subresource_name};
use super::{Edition, Served, ServedSubresource, root_path};
use crate::types::type_named;

const FORMATS: [&str; 3] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
const STREAM_FORMATS: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const PATCH_FORMATS: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// What an operation does, in the words of `x-kubernetes-action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    List,
    Get,
    Post,
    Put,
    Patch,
    Delete,
    DeleteCollection,
    Connect,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::List => "list",
            Action::Get => "get",
            Action::Post => "post",
            Action::Put => "put",
            Action::Patch => "patch",
            Action::Delete => "delete",
            Action::DeleteCollection => "deletecollection",
            Action::Connect => "connect",
        }
    }

    /// The verb that opens the operation id.
    fn id(self) -> &'static str {
        match self {
            Action::List => "list",
            Action::Get => "read",
            Action::Post => "create",
            Action::Put => "replace",
            Action::Patch => "patch",
            Action::Delete => "delete",
            Action::DeleteCollection => "deleteCollection",
            Action::Connect => "connect",
        }
    }
}

/// One operation: an action on a resource, or on one of its subresources.
struct Operation<'a> {
    edition: Edition,
    resource: &'a Served<'a>,
    subresource: Option<&'a ServedSubresource<'a>>,
    action: Action,
    method: &'static str,
    namespaced: bool,
}

/// All paths of the resources.
pub(super) fn of(edition: Edition, resources: &[&Served<'_>]) -> Map<String, Value> {
    let mut paths = Map::new();
    for resource in resources {
        let base = format!("/{}", root_path(resource.group, resource.version));
        paths
            .entry(format!("{base}/"))
            .or_insert_with(|| api_resources(edition, resource));
        let collection = if resource.namespaced {
            format!("{base}/namespaces/{{namespace}}/{}", resource.plural)
        } else {
            format!("{base}/{}", resource.plural)
        };
        let has = |verb: &str| resource.verbs.contains(&verb);
        let operation = |action, method, namespaced| Operation {
            edition,
            resource,
            subresource: None,
            action,
            method,
            namespaced,
        };
        let named = resource.namespaced;
        let mut on_collection = PathItem::new(edition, named, false);
        on_collection.add(has("list"), operation(Action::List, "get", named));
        on_collection.add(has("create"), operation(Action::Post, "post", named));
        on_collection.add(
            has("deletecollection"),
            operation(Action::DeleteCollection, "delete", named),
        );
        on_collection.finish(&mut paths, &collection);
        if named {
            let mut everywhere = PathItem::new(edition, false, false);
            everywhere.add(has("list"), operation(Action::List, "get", false));
            // Local reviews and the like exist only inside a namespace.
            everywhere.finish(&mut paths, &format!("{base}/{}", resource.plural));
        }
        let object = format!("{collection}/{{name}}");
        let mut on_object = PathItem::new(edition, named, true);
        on_object.add(has("get"), operation(Action::Get, "get", named));
        on_object.add(has("update"), operation(Action::Put, "put", named));
        on_object.add(has("patch"), operation(Action::Patch, "patch", named));
        on_object.add(has("delete"), operation(Action::Delete, "delete", named));
        on_object.finish(&mut paths, &object);
        for sub in resource.subresources {
            subresource(edition, resource, sub, &object, &mut paths);
        }
    }
    paths
}

fn subresource(
    edition: Edition,
    resource: &Served<'_>,
    sub: &ServedSubresource<'_>,
    object: &str,
    paths: &mut Map<String, Value>,
) {
    // Streams and proxies have options in the place of a body.
    let connects = sub.kind.ends_with("Options");
    let operation = |action, method| Operation {
        edition,
        resource,
        subresource: Some(sub),
        action: if connects { Action::Connect } else { action },
        method,
        namespaced: resource.namespaced,
    };
    let has = |verb: &str| sub.verbs.contains(&verb);
    let mut item = PathItem::new(edition, resource.namespaced, true);
    item.add(has("get"), operation(Action::Get, "get"));
    item.add(has("create"), operation(Action::Post, "post"));
    item.add(has("update"), operation(Action::Put, "put"));
    item.add(has("patch"), operation(Action::Patch, "patch"));
    item.add(has("delete"), operation(Action::Delete, "delete"));
    item.finish(paths, &format!("{object}/{}", sub.name));
}

/// The operations under one path.
struct PathItem {
    item: Map<String, Value>,
    parameters: Vec<Value>,
}

impl PathItem {
    fn new(edition: Edition, in_namespace: bool, on_object: bool) -> PathItem {
        let mut parameters = Vec::new();
        if on_object {
            parameters.push(path_parameter(edition, "name", "The name of the object"));
        }
        if in_namespace {
            let text = "The namespace of the object";
            parameters.push(path_parameter(edition, "namespace", text));
        }
        parameters.push(query(
            edition,
            "pretty",
            "string",
            "Whether to indent the answer",
        ));
        PathItem {
            item: Map::new(),
            parameters,
        }
    }

    fn add(&mut self, is_served: bool, operation: Operation<'_>) {
        if is_served {
            self.item
                .insert(operation.method.to_owned(), operation.value());
        }
    }

    fn finish(mut self, paths: &mut Map<String, Value>, path: &str) {
        if !self.item.is_empty() {
            self.item
                .insert("parameters".to_owned(), self.parameters.into());
            paths.insert(path.to_owned(), self.item.into());
        }
    }
}

impl Operation<'_> {
    /// The name of the schema of the object.
    fn object(&self) -> Option<String> {
        match self.subresource {
            Some(sub) => subresource_name(self.resource, sub),
            None => name_of(self.resource),
        }
    }

    /// The name of the schema of the answer.
    fn answer(&self) -> Option<String> {
        match self.action {
            Action::List => list_name_of(self.resource),
            Action::Delete | Action::DeleteCollection => name_in_table("meta.Status"),
            Action::Connect => None,
            _ => self.object(),
        }
    }

    fn value(&self) -> Value {
        let mut value = json!({
            "description": self.description(),
            "tags": [tag(self.resource)],
            "operationId": self.id(),
            "parameters": self.parameters(),
            "responses": self.responses(),
            "x-kubernetes-action": self.action.name(),
            "x-kubernetes-group-version-kind": self.group_version_kind(),
        });
        self.add_body(&mut value);
        if self.edition == Edition::V2 {
            value["produces"] = self.formats().into();
            value["schemes"] = json!(["https"]);
            value["consumes"] = match self.action {
                Action::Patch => self.patch_formats().into(),
                _ => json!(["*/*"]),
            };
        }
        value
    }

    fn formats(&self) -> Vec<&'static str> {
        let streams = if self.resource.custom.is_some() { 1 } else { 2 };
        match self.action {
            Action::List => [self.plain_formats(), &STREAM_FORMATS[..streams]].concat(),
            Action::Connect => vec!["*/*"],
            _ => self.plain_formats().to_vec(),
        }
    }

    /// Custom resources have no protobuf, ..
    fn plain_formats(&self) -> &'static [&'static str] {
        match self.resource.custom {
            Some(_) => &FORMATS[..2],
            None => &FORMATS,
        }
    }

    /// .. and nothing that says how to merge them strategically.
    fn patch_formats(&self) -> &'static [&'static str] {
        match self.resource.custom {
            Some(_) => &PATCH_FORMATS[..3],
            None => &PATCH_FORMATS,
        }
    }

    fn description(&self) -> String {
        let kind = self.resource.kind;
        let of = match self.subresource {
            Some(sub) => format!("{} of the specified {kind}", sub.name),
            None => format!("the specified {kind}"),
        };
        match self.action {
            Action::List => format!("list or watch objects of kind {kind}"),
            Action::Get => format!("read {of}"),
            Action::Post if self.subresource.is_none() => format!("create a {kind}"),
            Action::Post => format!("create {of}"),
            Action::Put => format!("replace {of}"),
            Action::Patch => format!("partially update {of}"),
            Action::Delete if self.subresource.is_none() => format!("delete a {kind}"),
            Action::Delete => format!("delete {of}"),
            Action::DeleteCollection => format!("delete collection of {kind}"),
            Action::Connect => format!("connect {} requests to {of}", self.method.to_uppercase()),
        }
    }

    fn id(&self) -> String {
        let mut id = self.action.id().to_owned();
        if self.action == Action::Connect {
            id += &capitalized(self.method);
        }
        for part in tag(self.resource).split('_') {
            id += &capitalized(part);
        }
        if self.namespaced {
            id += "Namespaced";
        }
        id += self.resource.kind;
        if let Some(sub) = self.subresource {
            id += &capitalized(sub.name);
        } else if self.action == Action::List && self.resource.namespaced && !self.namespaced {
            id += "ForAllNamespaces";
        }
        id
    }

    fn group_version_kind(&self) -> Value {
        let resource = self.resource;
        let own =
            json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
        match self.subresource {
            None => own,
            Some(sub) if sub.group.is_empty() && sub.version.is_empty() => {
                json!({"group": resource.group, "version": resource.version, "kind": sub.kind})
            }
            Some(sub) => json!({"group": sub.group, "version": sub.version, "kind": sub.kind}),
        }
    }

    fn parameters(&self) -> Vec<Value> {
        let query = |name, ty, text| query(self.edition, name, ty, text);
        let dry_run = || query("dryRun", "string", "All: everything but storing is done");
        let writes = || {
            vec![
                dry_run(),
                query("fieldManager", "string", "The name of who makes the change"),
                query(
                    "fieldValidation",
                    "string",
                    "What to do about unknown and duplicate fields: Ignore, Warn or Strict",
                ),
            ]
        };
        match self.action {
            Action::Get | Action::Connect => Vec::new(),
            Action::Post | Action::Put => writes(),
            Action::Patch => {
                let mut parameters = writes();
                let text =
                    "Whether to take fields over from other managers; only for apply patches";
                parameters.push(query("force", "boolean", text));
                parameters
            }
            Action::Delete => {
                let mut parameters = vec![dry_run()];
                parameters.extend(deletion_parameters(self.edition));
                parameters
            }
            Action::DeleteCollection => {
                let mut parameters = vec![dry_run()];
                parameters.extend(deletion_parameters(self.edition));
                parameters.extend(selection_parameters(self.edition));
                parameters
            }
            Action::List => {
                let mut parameters = selection_parameters(self.edition);
                let text = "Whether to answer with the changes from now on";
                parameters.push(query("watch", "boolean", text));
                let text = "Whether a watch also sends bookmarks";
                parameters.push(query("allowWatchBookmarks", "boolean", text));
                parameters
            }
        }
    }

    fn add_body(&self, value: &mut Value) {
        let schema = match self.action {
            Action::Post | Action::Put => self.object(),
            Action::Patch => name_in_table("meta.Patch"),
            Action::Delete | Action::DeleteCollection => name_in_table("meta.DeleteOptions"),
            Action::Get | Action::List | Action::Connect => None,
        };
        let Some(name) = schema else { return };
        let required = !matches!(self.action, Action::Delete | Action::DeleteCollection);
        let schema = json!({"$ref": self.edition.reference(&name)});
        if self.edition == Edition::V2 {
            let mut body = json!({"name": "body", "in": "body", "schema": schema});
            if required {
                body["required"] = true.into();
            }
            if let Some(parameters) = value["parameters"].as_array_mut() {
                parameters.push(body);
            }
            return;
        }
        let formats: &[&str] = match self.action {
            Action::Patch => self.patch_formats(),
            _ => &["*/*"],
        };
        value["requestBody"] = json!({"content": content(formats, &schema)});
        if required {
            value["requestBody"]["required"] = true.into();
        }
    }

    fn responses(&self) -> Value {
        let schema = match self.answer() {
            Some(name) => json!({"$ref": self.edition.reference(&name)}),
            None => json!({"type": "string"}),
        };
        let mut responses = Map::new();
        let mut add = |code: &str, description: &str| {
            let answer = match self.edition {
                Edition::V2 => json!({"description": description, "schema": schema}),
                Edition::V3 => {
                    json!({"description": description, "content": content(&self.formats(), &schema)})
                }
            };
            responses.insert(code.to_owned(), answer);
        };
        add("200", "OK");
        if matches!(self.action, Action::Post | Action::Put | Action::Patch) {
            add("201", "Created");
        }
        if matches!(self.action, Action::Post | Action::Delete) {
            add("202", "Accepted");
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        responses.into()
    }
}

fn name_in_table(short_name: &str) -> Option<String> {
    type_named(short_name).map(|ty| ty.name.clone())
}

fn content(formats: &[&str], schema: &Value) -> Map<String, Value> {
    formats
        .iter()
        .map(|f| ((*f).to_owned(), json!({"schema": schema})))
        .collect()
}

fn selection_parameters(edition: Edition) -> Vec<Value> {
    [
        ("continue", "string", "Where the last part of a list ended"),
        ("fieldSelector", "string", "Only objects with these fields"),
        ("labelSelector", "string", "Only objects with these labels"),
        ("limit", "integer", "The most objects in one answer"),
        ("resourceVersion", "string", "How new the answer must be"),
        (
            "resourceVersionMatch",
            "string",
            "How resourceVersion is meant: Exact or NotOlderThan",
        ),
        (
            "sendInitialEvents",
            "boolean",
            "Whether a watch begins with the objects that exist",
        ),
        (
            "timeoutSeconds",
            "integer",
            "How long a list or watch may take",
        ),
    ]
    .map(|(name, ty, text)| query(edition, name, ty, text))
    .into()
}

fn deletion_parameters(edition: Edition) -> Vec<Value> {
    [
        (
            "gracePeriodSeconds",
            "integer",
            "How long the object may take to end; 0 is at once",
        ),
        (
            "orphanDependents",
            "boolean",
            "Deprecated: use propagationPolicy",
        ),
        (
            "propagationPolicy",
            "string",
            "What happens to dependents: Orphan, Background or Foreground",
        ),
        (
            "ignoreStoreReadErrorWithClusterBreakingPotential",
            "boolean",
            "Whether to delete an object that cannot be read; may break the cluster",
        ),
    ]
    .map(|(name, ty, text)| query(edition, name, ty, text))
    .into()
}

fn query(edition: Edition, name: &str, ty: &str, text: &str) -> Value {
    match edition {
        Edition::V2 => {
            json!({"name": name, "in": "query", "description": text, "type": ty, "uniqueItems": true})
        }
        Edition::V3 => json!({"name": name, "in": "query", "description": text,
            "schema": {"type": ty, "uniqueItems": true}}),
    }
}

fn path_parameter(edition: Edition, name: &str, text: &str) -> Value {
    let mut parameter = query(edition, name, "string", text);
    parameter["in"] = "path".into();
    parameter["required"] = true.into();
    parameter
}

/// `core_v1`, `apps_v1`, `rbacAuthorization_v1`.
fn tag(resource: &Served<'_>) -> String {
    let group = match resource.group {
        "" => "core".to_owned(),
        group => {
            let group = group.strip_suffix(".k8s.io").unwrap_or(group);
            let mut words = group.split(['.', '-']);
            let first = words.next().unwrap_or("").to_owned();
            words.fold(first, |name, word| name + &capitalized(word))
        }
    };
    format!("{group}_{}", resource.version)
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().collect::<String>() + chars.as_str(),
        None => String::new(),
    }
}

fn api_resources(edition: Edition, resource: &Served<'_>) -> Value {
    let schema = type_named("meta.APIResourceList")
        .map(|ty| json!({"$ref": edition.reference(&ty.name)}))
        .unwrap_or_default();
    let ok = match edition {
        Edition::V2 => json!({"description": "OK", "schema": schema}),
        Edition::V3 => json!({"description": "OK", "content": content(&FORMATS, &schema)}),
    };
    let id: String = tag(resource).split('_').map(capitalized).collect();
    let mut get = json!({
        "description": "get available resources",
        "tags": [tag(resource)],
        "operationId": format!("get{id}APIResources"),
        "responses": {"200": ok, "401": {"description": "Unauthorized"}},
    });
    if edition == Edition::V2 {
        get["consumes"] = FORMATS.to_vec().into();
        get["produces"] = FORMATS.to_vec().into();
        get["schemes"] = json!(["https"]);
    }
    json!({"get": get})
}
