//! Kinds that come at run time: what a CustomResourceDefinition says, as [`Resource`]s.
//!
//! A definition is read when it is established; its schemas are compiled when they are first needed, since most of the
//! thousands that may be there are never asked for.

use std::sync::{Arc, OnceLock};

use cel::rules::{Judgement, Rules};
use schema::Object;
use schema::field::{ErrorKind, ErrorList, FieldError, Path};
use schema::jsonpath::{self, JsonPath};
use schema::structural::Structural;
use serde_json::Value;

use crate::builtin::{NAMESPACED, SCALE, status};
use crate::look::{Look, spec};
use crate::resource::{Column, Resource, Scale, SelectorForm, Subresource, Text};
use crate::table::human_duration;
use crate::{definition, meta};

/// Verbs of a custom resource, in Kubernetes' order.
const VERBS: &[&str] = &[
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];
/// What is left of them while the definition is deleted.
const TERMINATING_VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];
const WITH_STATUS: &[Subresource] = &[status("")];
const WITH_SCALE: &[Subresource] = &[SCALE];
const WITH_BOTH: &[Subresource] = &[SCALE, status("")];
const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const NAMED: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

/// The JSON of a definition, which somebody keeps anyway, and maybe packed: it is read once in a long while.
pub type Source = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

/// What all versions of a custom resource share.
pub struct Definition {
    /// Name of the definition: plural and group.
    pub name: String,
    /// Tells it from an earlier one of the same name.
    pub uid: String,
    /// Whether its objects are being deleted; no more may come.
    pub terminating: bool,
    /// Whether its versions differ in more than their name, so that a webhook converts.
    pub by_webhook: bool,
    group: Text,
    versions: Vec<Version>,
    storage: usize,
    source: Source,
}

struct Version {
    name: Text,
    /// What whoever uses it is warned of, where it is deprecated.
    deprecation: Option<Box<str>>,
    compiled: OnceLock<Compiled>,
}

struct Compiled {
    schema: Structural,
    /// Those of the schema; compiled when the first object is written.
    rules: OnceLock<Option<Rules>>,
    columns: Vec<(JsonPath, String)>,
}

/// One version of a custom resource.
#[derive(Clone)]
pub struct Custom {
    /// What it comes from.
    pub definition: Arc<Definition>,
    at: usize,
}

/// The served versions of an established definition; none where it is not established.
pub fn served(object: &Object, source: Source) -> Vec<Resource> {
    if object.condition_status(definition::ESTABLISHED) != Some("True") {
        return Vec::new();
    }
    let spec = spec(object);
    let versions = spec.list("versions");
    let definition = Arc::new(Definition {
        name: object.name().to_owned(),
        uid: object.uid().to_owned(),
        terminating: object.condition_status(definition::TERMINATING) == Some("True"),
        by_webhook: spec.at("conversion").text("strategy") == "Webhook",
        group: spec.text("group").to_owned().into(),
        versions: versions
            .iter()
            .map(|version| Version {
                name: version.text("name").to_owned().into(),
                deprecation: deprecation(spec, version),
                compiled: OnceLock::new(),
            })
            .collect(),
        storage: versions
            .iter()
            .position(|version| version.flag("storage"))
            .unwrap_or(0),
        source,
    });
    let mut served: Vec<(usize, &Value)> = versions
        .iter()
        .enumerate()
        .filter(|(_, version)| version.flag("served"))
        .collect();
    served.sort_by(|(_, a), (_, b)| crate::compare_versions(a.text("name"), b.text("name")));
    served
        .into_iter()
        .map(|(at, version)| {
            let definition = definition.clone();
            resource(object, version, Custom { definition, at })
        })
        .collect()
}

/// The warning of a deprecated version: its own, or the best of the versions that take its place. Texts are Kubernetes'.
fn deprecation(spec: &Value, version: &Value) -> Option<Box<str>> {
    if !version.flag("deprecated") {
        return None;
    }
    if version.has("deprecationWarning") {
        return Some(version.text("deprecationWarning").into());
    }
    let (group, kind, name) = (
        spec.text("group"),
        spec.at("names").text("kind"),
        version.text("name"),
    );
    let mut names: Vec<&str> = spec
        .list("versions")
        .iter()
        .filter(|other| other.flag("served") && !other.flag("deprecated"))
        .map(|other| other.text("name"))
        .filter(|other| crate::compare_versions(other, name).is_lt())
        .collect();
    names.sort_by(|a, b| crate::compare_versions(a, b));
    let rather = match names.first() {
        Some(better) => format!("; use {group}/{better} {kind}"),
        None => String::new(),
    };
    Some(format!("{group}/{name} {kind} is deprecated{rather}").into())
}

fn resource(object: &Object, version: &Value, custom: Custom) -> Resource {
    let names = object.at("status").at("acceptedNames");
    let text = |key: &str| Text::from(names.text(key).to_owned());
    let texts = |key: &str| -> Vec<Text> {
        let names = names.texts(key);
        names.iter().map(|name| (*name).to_owned().into()).collect()
    };
    let subresources = version.at("subresources");
    let (has_status, has_scale) = (subresources.has("status"), subresources.has("scale"));
    let path = |key: &str| {
        let text = subresources.at("scale").text(key);
        Text::from(text.trim_start_matches('.').to_owned())
    };
    let selectable = version.list("selectableFields").iter();
    Resource {
        group: custom.definition.group.clone(),
        version: custom.definition.versions[custom.at].name.clone(),
        kind: text("kind"),
        list_kind: text("listKind"),
        // Objects are stored under it, so it is the one that cannot change.
        plural: Text::from(spec(object).at("names").text("plural").to_owned()),
        singular: text("singular"),
        short_names: texts("shortNames"),
        categories: texts("categories"),
        namespaced: spec(object).text("scope") == "Namespaced",
        verbs: VERBS,
        subresources: match (has_status, has_scale) {
            (false, false) => &[],
            (true, false) => WITH_STATUS,
            (false, true) => WITH_SCALE,
            (true, true) => WITH_BOTH,
        },
        scale: has_scale.then(|| Scale {
            spec_replicas: path("specReplicasPath"),
            status_replicas: path("statusReplicasPath"),
            selector: path("labelSelectorPath"),
            selector_form: SelectorForm::Text,
        }),
        generation: Some(&[]),
        field_selectors: selectable
            .map(|field| field.text("jsonPath").trim_start_matches('.').into())
            .collect(),
        unconditional_update: false,
        columns: columns(version),
        on_create: |_| {},
        custom: Some(custom),
        ..Resource::from(&NAMESPACED)
    }
}

fn columns(version: &Value) -> Vec<Column> {
    let name = Column {
        name: "Name".into(),
        r#type: "string".into(),
        format: "name".into(),
        description: NAMED.into(),
        priority: 0,
    };
    let own = version.list("additionalPrinterColumns");
    let mut columns = vec![name];
    if own.is_empty() {
        columns.push(Column {
            name: "Age".into(),
            r#type: "date".into(),
            format: "".into(),
            description: CREATED.into(),
            priority: 0,
        });
    }
    columns.extend(own.iter().map(|column| {
        let text = |key: &str| Text::from(column.text(key).to_owned());
        Column {
            name: text("name"),
            r#type: text("type"),
            format: text("format"),
            description: match column.text("description") {
                "" => format!(
                    "Custom resource definition column (in JSONPath format): {}",
                    column.text("jsonPath")
                )
                .into(),
                text => text.to_owned().into(),
            },
            priority: column.int("priority").unwrap_or(0) as i32,
        }
    }));
    columns
}

impl Definition {
    /// The group of its objects.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// `spec.conversion.webhook`; none where versions convert by their names.
    pub fn webhook(&self) -> Option<Value> {
        if !self.by_webhook {
            return None;
        }
        let mut object = self.written();
        Some(object["spec"]["conversion"]["webhook"].take())
    }

    fn written(&self) -> Value {
        serde_json::from_slice(&(self.source)()).unwrap_or_default()
    }

    /// Whether it has a version, served or not.
    pub fn has_version(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    fn position(&self, version: &str) -> Option<usize> {
        self.versions.iter().position(|one| one.name == version)
    }

    fn position_of(&self, api_version: &str) -> Option<usize> {
        let (group, version) = api_version.rsplit_once('/')?;
        self.position(version).filter(|_| group == self.group)
    }

    fn compiled(&self, at: usize) -> &Compiled {
        self.versions[at].compiled.get_or_init(|| {
            let object = self.written();
            let version = object.at("spec").list("versions").get(at);
            let version = version.unwrap_or(&Value::Null);
            let schema = version.at("schema").at("openAPIV3Schema");
            let columns = version.list("additionalPrinterColumns").iter();
            let columns = columns.map(|column| {
                let path = JsonPath::parse(column.text("jsonPath"));
                path.ok().map(|path| (path, column.text("type").to_owned()))
            });
            let age = || JsonPath::parse(".metadata.creationTimestamp").ok();
            let mut columns: Vec<(JsonPath, String)> = columns.flatten().collect();
            if version.list("additionalPrinterColumns").is_empty() {
                columns.extend(age().map(|path| (path, "date".to_owned())));
            }
            Compiled {
                schema: Structural::compile(schema).unwrap_or_else(|| Structural::open().clone()),
                rules: OnceLock::new(),
                columns,
            }
        })
    }
}

impl Custom {
    /// The verbs that discovery lists.
    pub fn listed_verbs(&self) -> &'static [&'static str] {
        match self.definition.terminating {
            true => TERMINATING_VERBS,
            false => VERBS,
        }
    }

    /// The schema of this version.
    pub fn schema(&self) -> &Structural {
        &self.definition.compiled(self.at).schema
    }

    /// The schema as it was written.
    pub fn written_schema(&self) -> Value {
        let object = self.definition.written();
        let version = object.at("spec").list("versions").get(self.at);
        version
            .unwrap_or(&Value::Null)
            .at("schema")
            .at("openAPIV3Schema")
            .clone()
    }

    /// The version in which objects are stored.
    pub fn storage_version(&self) -> &str {
        &self.definition.versions[self.definition.storage].name
    }

    /// Whether objects are stored in this version.
    pub fn is_storage(&self) -> bool {
        self.at == self.definition.storage
    }

    /// The version in which objects are stored, served or not.
    pub fn storage(&self) -> Custom {
        Custom {
            definition: self.definition.clone(),
            at: self.definition.storage,
        }
    }

    /// Another version of the same definition, served or not, by the `group/version` of its objects.
    pub fn sibling(&self, api_version: &str) -> Option<Custom> {
        let at = self.definition.position_of(api_version)?;
        let definition = self.definition.clone();
        Some(Custom { definition, at })
    }

    /// Its schema.
    pub fn sibling_schema(&self, api_version: &str) -> Option<&Structural> {
        let at = self.definition.position_of(api_version)?;
        Some(&self.definition.compiled(at).schema)
    }

    /// The name of this version.
    pub fn version(&self) -> &Text {
        &self.definition.versions[self.at].name
    }

    /// What whoever uses this version is warned of, where it is deprecated.
    pub fn deprecation(&self) -> Option<&str> {
        self.definition.versions[self.at].deprecation.as_deref()
    }

    /// `group/version` of objects of this version.
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.definition.group, self.version())
    }

    /// What is stored, as it is read: pruned and with its defaults by the schema of the version that it is stored in,
    /// which need not be the one in which objects are stored now. As in Kubernetes, other versions are made of that, and
    /// get no defaults of their own.
    pub fn read_stored(&self, object: &mut Object) {
        let definition = &self.definition;
        let at = match definition.position(object.version()) {
            Some(at) => at,
            // Only a foreign writer or an edited status can leave that. No webhook knows such a version.
            None if definition.by_webhook => return,
            None => {
                object.set_api_version(&self.storage().api_version());
                definition.storage
            }
        };
        let schema = &definition.compiled(at).schema;
        schema.prune(object.value_mut());
        schema.default(object.value_mut());
    }

    /// Makes an object of another version one of this, where versions differ in nothing but their names and fields.
    pub fn rename(&self, object: &mut Object) {
        if object.version() != *self.version() {
            object.set_api_version(&self.api_version());
            self.prune(object);
        }
    }

    /// Drops what this version does not have.
    pub fn prune(&self, object: &mut Object) {
        self.schema().prune(object.value_mut());
    }

    /// The cells of a row.
    pub(crate) fn cells(&self, object: &Object, now: i64) -> Vec<Value> {
        let columns = &self.definition.compiled(self.at).columns;
        let age = |then: i64| human_duration(now - then);
        let own = columns
            .iter()
            .map(|(path, ty)| jsonpath::cell(path, ty, object.value(), age));
        std::iter::once(object.name().into()).chain(own).collect()
    }

    /// What is wrong with an object besides its metadata.
    pub(crate) fn check(
        &self,
        resource: &Resource,
        object: &Object,
        old: Option<&Object>,
    ) -> ErrorList {
        let mut errors = self
            .schema()
            .validate(object.value(), old.map(Object::value));
        if let Some(scale) = &resource.scale {
            check_scale(scale, object, &mut errors);
        }
        if self.rules().is_some() && errors.iter().any(is_blocking) {
            let path = Path::new("<nil>");
            errors.push(FieldError::invalid(&path, Value::Null, NOT_CHECKED));
        } else {
            errors.extend(self.judge(object, old).errors);
        }
        errors
    }

    fn rules(&self) -> Option<&Rules> {
        let compiled = self.definition.compiled(self.at);
        let rules = compiled
            .rules
            .get_or_init(|| Rules::compile(&compiled.schema));
        rules.as_ref()
    }

    /// What the rules of the schema say of an object.
    pub(crate) fn judge(&self, object: &Object, old: Option<&Object>) -> Judgement {
        let old = old.map(Object::value);
        let rules = self
            .rules()
            .map(|rules| rules.validate(object.value(), old));
        rules.unwrap_or_default()
    }
}

const NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

/// Whether rules could meet values that their types do not allow.
fn is_blocking(error: &FieldError) -> bool {
    matches!(
        error.kind,
        ErrorKind::NotSupported
            | ErrorKind::Required
            | ErrorKind::TooLong
            | ErrorKind::TooMany
            | ErrorKind::TypeInvalid
    )
}

fn check_scale(scale: &Scale, object: &Object, errors: &mut ErrorList) {
    for path in [&scale.spec_replicas, &scale.status_replicas] {
        let fields: Vec<&str> = path.split('.').collect();
        if let Some(count) = object.get_i64(&fields).filter(|count| *count < 0) {
            // As the definition writes it, in the form of a JSON path.
            let at = Path::new(&format!(".{path}"));
            let detail = "should be a non-negative integer";
            errors.push(FieldError::invalid(&at, count, detail));
        }
    }
}

/// The generation of a changed object: everything counts but its metadata and, where that is written for itself, its
/// status.
pub(crate) fn is_changed(resource: &Resource, new: &Object, old: &Object) -> bool {
    let counts = |key: &str| key != "metadata" && !(key == "status" && resource.has_status());
    fn fields(object: &Object) -> impl Iterator<Item = (&String, &Value)> {
        object.value().as_object().into_iter().flatten()
    }
    let of = |object| -> Vec<(&String, &Value)> {
        fields(object).filter(|(key, _)| counts(key)).collect()
    };
    of(new) != of(old)
}

/// An update through the status of a custom resource changes nothing else.
pub(crate) fn keep_all_but_status(new: &mut Object, old: &Object) {
    meta::keep_client_metadata(new, old);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(extra: Value) -> Object {
        let mut value = json!({"metadata": {"name": "widgets.example.com"}, "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets"}, "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object",
                    "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}}}}}}},
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                    "x-kubernetes-preserve-unknown-fields": true}},
                    "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.count", "statusReplicasPath": ".status.count"}},
                    "selectableFields": [{"jsonPath": ".spec.color"}],
                    "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"}]}]},
            "status": {"acceptedNames": {"plural": "moved", "singular": "widget", "kind": "Widget", "listKind": "WidgetList",
                "shortNames": ["wd"]}, "conditions": [{"type": "Established", "status": "True"}]}});
        if let (Some(spec), Some(extra)) = (value["spec"].as_object_mut(), extra.as_object()) {
            spec.extend(extra.clone());
        }
        Object::new(value).unwrap()
    }

    fn of(object: &Object) -> Vec<Resource> {
        let json = object.value().to_string().into_bytes();
        served(object, Arc::new(move || json.clone()))
    }

    #[test]
    fn a_definition_is_its_served_versions() {
        let resources = of(&definition(json!({})));
        let versions: Vec<_> = resources.iter().map(Resource::api_version).collect();
        assert_eq!(versions, ["example.com/v1", "example.com/v1beta1"]);
        let v1 = &resources[0];
        assert_eq!(
            crate::storage_key(v1, "n", "x"),
            "/registry/example.com/widgets/n/x"
        );
        assert!(v1.has_status() && v1.scale.is_some() && v1.selects_by("spec.color"));
        assert!(!resources[1].has_status() && !resources[1].selects_by("spec.color"));
        let mut pending = definition(json!({}));
        pending.set(&["status", "conditions"], json!([]));
        assert_eq!(of(&pending).len(), 0);
    }

    #[test]
    fn versions_convert_by_their_name() {
        let resources = of(&definition(json!({})));
        let stored = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "x"},
            "spec": {"color": "red"}, "more": 1});
        let mut object = Object::new(stored.clone()).unwrap();
        let (v1, beta) = (&resources[0], &resources[1]);
        let of = |resource: &Resource| resource.custom.clone().unwrap();
        of(beta).read_stored(&mut object);
        assert_eq!(object.value(), &stored, "read as what it is");
        of(beta).rename(&mut object);
        assert_eq!(object.api_version(), "example.com/v1beta1");
        assert_eq!(object.value()["spec"], json!({}));
        assert_eq!(object.value()["more"], Value::Null);
        of(v1).rename(&mut object);
        assert_eq!(object.api_version(), "example.com/v1");
        assert!(of(beta).storage().is_storage());
    }

    #[test]
    fn what_was_stored_before_is_read_by_its_own_schema() {
        let resources = of(&definition(json!({})));
        let v1 = resources[0].custom.clone().unwrap();
        let older = |version: &str| {
            let stored = json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget",
                "metadata": {"name": "x"}, "spec": {"color": "red"}});
            let mut object = Object::new(stored).unwrap();
            v1.read_stored(&mut object);
            object.into_value()
        };
        assert_eq!(older("v1beta1")["spec"], json!({"size": 3}));
        assert_eq!(older("v1beta1")["apiVersion"], "example.com/v1beta1");
        assert_eq!(older("gone")["apiVersion"], "example.com/v1");
        assert_eq!(older("gone")["spec"], json!({"color": "red"}));
        let by_webhook = json!({"conversion": {"strategy": "Webhook", "webhook": {"a": 1}}});
        let by_webhook = of(&definition(by_webhook))[0].custom.clone().unwrap();
        let mut object = Object::new(json!({"apiVersion": "example.com/gone", "lost": 1})).unwrap();
        by_webhook.read_stored(&mut object);
        assert_eq!(object.value()["lost"], 1, "nobody knows what it is");
        assert_eq!(by_webhook.definition.webhook(), Some(json!({"a": 1})));
        assert_eq!(v1.definition.webhook(), None);
    }

    #[test]
    fn rows_show_the_columns_of_the_definition() {
        let resources = of(&definition(json!({})));
        let object = Object::new(
            json!({"metadata": {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"color": "red"}}),
        )
        .unwrap();
        assert_eq!(
            crate::table(&resources[0], &object, 90),
            [json!("x"), json!("red")]
        );
        assert_eq!(
            crate::table(&resources[1], &object, 90),
            [json!("x"), json!("90s")]
        );
        let names = |at: usize| resources[at].columns.iter().map(|c| c.name.to_string());
        assert_eq!(names(1).collect::<Vec<_>>(), ["Name", "Age"]);
    }

    #[test]
    fn generations_count_intents() {
        let resources = of(&definition(json!({})));
        let object = |spec: i64, status: i64, label: &str| {
            Object::new(
                json!({"metadata": {"labels": {"l": label}}, "spec": spec, "status": status}),
            )
            .unwrap()
        };
        let changed = |at: usize, new: &Object| is_changed(&resources[at], new, &object(1, 1, "a"));
        assert!(!changed(0, &object(1, 1, "b")) && changed(0, &object(2, 1, "a")));
        assert!(
            !changed(0, &object(1, 2, "a")),
            "status is written for itself"
        );
        assert!(
            changed(1, &object(1, 2, "a")),
            "status is a field like others"
        );
    }
}
