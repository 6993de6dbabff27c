//! Clients that write objects in every way that the API has (W11), and read them back. What they do is drawn by the
//! seed.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use rand::RngExt;
use serde_json::{Value, json};

use super::history::{Applied, Call, Seen, Told, Verb, key};
use super::rest::{Plan, Rest, page};
use super::schedule::Turn;

const KIND: &str = "configmaps";
/// What these clients write, and nobody else does.
pub const NAMESPACES: [&str; 2] = ["default", "kube-public"];
const NAMES: u32 = 8;
const BETWEEN_PAGES: Duration = Duration::from_millis(120);
const FINALIZER: &str = "example.com/hold";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Objects as a client saw them last.
pub type Known = BTreeMap<String, Value>;

/// Writes or reads something.
pub async fn turn(rest: &mut Rest, known: &mut Known, turn: &Turn) {
    let namespace = NAMESPACES[rest.rng.random_range(0..NAMESPACES.len())];
    let mut writer = Writer {
        value: format!("{}-{}", rest.client, turn.at_ms),
        rest,
        known,
        namespace,
    };
    writer.turn().await;
}

struct Writer<'a> {
    rest: &'a mut Rest,
    known: &'a mut Known,
    /// What is written in this turn, and in no other.
    value: String,
    namespace: &'static str,
}

impl Writer<'_> {
    async fn turn(&mut self) {
        match self.rest.rng.random_range(0..100) {
            0..22 => self.create().await,
            22..40 => self.update().await,
            40..49 => self.patch().await,
            49..55 => self.apply().await,
            55..66 => self.delete().await,
            66..70 => self.let_go().await,
            70..71 => self.delete_all().await,
            71..85 => self.get().await,
            85..93 => self.list().await,
            _ => self.list_in_pages().await,
        }
    }

    fn collection(&self) -> String {
        format!("/api/v1/namespaces/{}/{KIND}", self.namespace)
    }

    fn one(&self, name: &str) -> String {
        format!("{}/{name}", self.collection())
    }

    fn name(&mut self) -> String {
        format!("o{}", self.rest.rng.random_range(0..NAMES))
    }

    /// An object that this client knows, in the namespace of this turn: its name, uid, version and content.
    fn some_known(&mut self) -> Option<Value> {
        let prefix = format!("{KIND}/{}/", self.namespace);
        let known: Vec<&Value> = self
            .known
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .map(|(_, object)| object)
            .collect();
        match known.len() {
            0 => None,
            count => Some(known[self.rest.rng.random_range(0..count)].clone()),
        }
    }

    fn plan<'a>(&self, verb: Verb, name: &str, method: Method) -> Plan<'a> {
        let (key, path) = match name {
            "" => (format!("{KIND}/{}/", self.namespace), self.collection()),
            _ => (key(KIND, self.namespace, name), self.one(name)),
        };
        Plan {
            verb,
            kind: KIND,
            key,
            method,
            path,
            ..Plan::default()
        }
    }

    /// Keeps in mind what an answer shows.
    fn learn(&mut self, key: &str, answer: Option<(u16, Value)>) {
        match answer {
            Some((200..300, object)) if object["kind"] == "ConfigMap" => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                let key = super::history::key(KIND, self.namespace, name);
                self.known.insert(key, object);
            }
            Some((404, _)) => {
                self.known.remove(key);
            }
            _ => {}
        }
    }

    async fn create(&mut self) {
        let mut metadata = json!({});
        match self.rest.rng.random_bool(0.3) {
            true => metadata["generateName"] = "g".into(),
            false => metadata["name"] = self.name().into(),
        }
        if self.rest.rng.random_bool(0.2) {
            metadata["finalizers"] = json!([FINALIZER]);
        }
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": self.value}
        });
        let plan = Plan {
            body: Some((JSON, &body)),
            ..self.plan(Verb::Create, "", Method::POST)
        };
        let answer = self.rest.call(plan).await;
        self.learn("", answer);
    }

    async fn update(&mut self) {
        let Some(mut object) = self.some_known() else {
            return self.get().await;
        };
        let name = text(&object, "name");
        let mut expects = text(&object, "resourceVersion").parse().ok();
        if self.rest.rng.random_bool(0.2) {
            // Whatever is there is replaced.
            expects = None;
            object["metadata"]["resourceVersion"] = Value::Null;
            object["metadata"]["uid"] = Value::Null;
        }
        object["data"] = json!({"value": self.value});
        let plan = Plan {
            body: Some((JSON, &object)),
            expects,
            ..self.plan(Verb::Update, &name, Method::PUT)
        };
        let key = plan.key.clone();
        let answer = self.rest.call(plan).await;
        if matches!(answer, Some((409, _))) {
            return self.get_named(&name).await;
        }
        self.learn(&key, answer);
    }

    async fn patch(&mut self) {
        let value = self.value.clone();
        let known = self.some_known();
        let name = known
            .as_ref()
            .map_or_else(|| "o0".into(), |object| text(object, "name"));
        let mut expects = None;
        let (content_type, body) = match self.rest.rng.random_range(0..4) {
            0 => (MERGE, json!({"data": {"value": value}})),
            1 => (STRATEGIC, json!({"metadata": {"labels": {"by": value}}})),
            2 => (
                JSON_PATCH,
                json!([{"op": "add", "path": "/data/value", "value": value}]),
            ),
            // One that demands a version.
            _ => {
                let version = known.as_ref().map(|object| text(object, "resourceVersion"));
                let version = version.unwrap_or_else(|| "1".into());
                expects = version.parse().ok();
                (
                    MERGE,
                    json!({"metadata": {"resourceVersion": version}, "data": {"value": value}}),
                )
            }
        };
        let plan = Plan {
            body: Some((content_type, &body)),
            expects,
            ..self.plan(Verb::Patch, &name, Method::PATCH)
        };
        let key = plan.key.clone();
        let answer = self.rest.call(plan).await;
        self.learn(&key, answer);
    }

    /// A field of its own, or one that all want and that the other writes own as well.
    async fn apply(&mut self) {
        let name = match self.some_known().filter(|_| self.rest.rng.random_bool(0.7)) {
            Some(object) => text(&object, "name"),
            None => self.name(),
        };
        let manager = format!("client-{}", self.rest.client);
        let applied = Applied {
            field: match self.rest.rng.random_bool(0.5) {
                true => manager.clone(),
                false => "value".into(),
            },
            manager,
            value: self.value.clone(),
            force: self.rest.rng.random_bool(0.4),
        };
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
            "data": {&applied.field: applied.value}
        });
        let mut plan = Plan {
            body: Some((APPLY, &body)),
            ..self.plan(Verb::Patch, &name, Method::PATCH)
        };
        let (manager, force) = (&applied.manager, applied.force);
        plan.path = format!("{}?fieldManager={manager}&force={force}", plan.path);
        plan.applies = Some(applied);
        let key = plan.key.clone();
        let answer = self.rest.call(plan).await;
        self.learn(&key, answer);
    }

    async fn delete(&mut self) {
        let known = self.some_known();
        let name = match &known {
            Some(object) => text(object, "name"),
            None => self.name(),
        };
        let mut expects_uid = None;
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(object) = known.filter(|_| self.rest.rng.random_bool(0.5)) {
            let uid = text(&object, "uid");
            body["preconditions"] = json!({"uid": uid});
            if self.rest.rng.random_bool(0.5) {
                body["preconditions"]["resourceVersion"] = text(&object, "resourceVersion").into();
            }
            expects_uid = Some(uid);
        }
        let plan = Plan {
            body: Some((JSON, &body)),
            expects_uid,
            ..self.plan(Verb::Delete, &name, Method::DELETE)
        };
        let key = plan.key.clone();
        let answer = self.rest.call(plan).await;
        if matches!(answer, Some((200..300, _))) {
            self.known.remove(&key);
        }
    }

    /// Removes the finalizer of something, which may be what keeps it.
    async fn let_go(&mut self) {
        let Some(object) = self.some_known() else {
            return;
        };
        let name = text(&object, "name");
        let body = json!({"metadata": {"finalizers": null}});
        let plan = Plan {
            body: Some((MERGE, &body)),
            ..self.plan(Verb::Patch, &name, Method::PATCH)
        };
        // It may be shown as it was when it went, at a version at which it was not there.
        let key = plan.key.clone();
        self.rest.call(plan).await;
        self.known.remove(&key);
    }

    async fn delete_all(&mut self) {
        let plan = self.plan(Verb::DeleteCollection, "", Method::DELETE);
        self.rest.call(plan).await;
        self.known.clear();
    }

    async fn get(&mut self) {
        let name = match self.rest.rng.random_bool(0.5) {
            true => self.some_known().map(|object| text(&object, "name")),
            false => None,
        };
        let name = name.unwrap_or_else(|| self.name());
        self.get_named(&name).await;
    }

    async fn get_named(&mut self, name: &str) {
        let mut plan = self.plan(Verb::Get, name, Method::GET);
        self.any_version(&mut plan, '?');
        let key = plan.key.clone();
        let answer = self.rest.call(plan).await;
        self.learn(&key, answer);
    }

    /// Now and then any version will do.
    fn any_version(&mut self, plan: &mut Plan<'_>, joint: char) {
        if self.rest.rng.random_bool(0.4) {
            plan.any_version = true;
            plan.path.push(joint);
            plan.path.push_str("resourceVersion=0");
        }
    }

    async fn list(&mut self) {
        let mut plan = self.plan(Verb::List, "", Method::GET);
        if self.rest.rng.random_bool(0.3) {
            // Of all namespaces.
            (plan.key, plan.path) = (format!("{KIND}/"), format!("/api/v1/{KIND}"));
        }
        self.any_version(&mut plan, '?');
        self.rest.call(plan).await;
    }

    /// All pages of a list, each from another member now and then, while others write.
    async fn list_in_pages(&mut self) {
        let limit = self.rest.rng.random_range(1..4);
        let plan = self.plan(Verb::List, "", Method::GET);
        let scribe = self.rest.shared.scribe.clone();
        let id = scribe.called(Call {
            client: self.rest.client,
            member: self.rest.member,
            verb: Verb::List,
            key: plan.key.clone(),
            ..Call::default()
        });
        self.rest.during(Some(id));
        let told = self.pages(&plan.path, limit).await;
        self.rest.during(None);
        scribe.returned(id, told);
    }

    async fn pages(&mut self, path: &str, limit: u32) -> Told {
        let mut pages: Vec<(i64, Vec<Seen>)> = Vec::new();
        let mut token = String::new();
        loop {
            let path = format!("{path}?limit={limit}&continue={token}");
            let answered = self.rest.ask(Method::GET, &path, None).await;
            match answered {
                Ok((200, document)) => {
                    pages.push(page(KIND, &document));
                    match document["metadata"]["continue"].as_str() {
                        Some(next) if !next.is_empty() => token = next.into(),
                        _ => return Told::Pages(pages),
                    }
                }
                Ok((code, document)) => {
                    let reason = document["reason"].as_str().unwrap_or_default().into();
                    return Told::Refused { code, reason };
                }
                Err(_) => {
                    self.rest.hop();
                    return Told::Unknown("connection lost, or no answer in time".into());
                }
            }
            self.rest.pause(BETWEEN_PAGES).await;
            if self.rest.rng.random_bool(0.4) {
                self.rest.hop();
            }
        }
    }
}

fn text(object: &Value, field: &str) -> String {
    object["metadata"][field]
        .as_str()
        .unwrap_or_default()
        .into()
}
