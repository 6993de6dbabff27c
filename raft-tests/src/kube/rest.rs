//! One client of the API on a machine of its own: asks, keeps to a member while it answers, and writes down what it is
//! told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use auth::User;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::Value;
use tokio::time::timeout;

use super::history::{Applied, Ask, Call, Seen, Told, Verb};
use super::schedule::Turn;
use super::scribe::Scribe;
use super::wire::{Answer, Broken, Road, request};
use crate::recording::{RestFate, rest_answer};

/// Characters of a body that are written down.
const BODY: usize = 600;
/// A client waits so long for an answer.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// What the clients of a run share.
pub struct Shared {
    pub wire: Arc<dyn Road>,
    pub scribe: Arc<Scribe>,
    pub stop: AtomicBool,
}

impl Shared {
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// See the module head.
pub struct Rest {
    pub shared: Arc<Shared>,
    pub client: u32,
    pub member: u64,
    pub rng: SmallRng,
    user: Option<User>,
    token: Option<HeaderValue>,
    /// The call that requests belong to, while there is one.
    during: Option<u64>,
}

/// What came back: the code and the document.
pub type Document = (u16, Value);

impl Rest {
    /// A client that may do everything.
    pub fn new(shared: Arc<Shared>, client: u32, rng: SmallRng) -> Rest {
        let name = format!("client-{client}");
        let user = User::new(name, [auth::user::GROUP_MASTERS]).authenticated();
        Rest::with_user(shared, client, rng, user)
    }

    /// A client that is somebody.
    pub fn with_user(shared: Arc<Shared>, client: u32, rng: SmallRng, user: User) -> Rest {
        Rest {
            shared,
            client,
            member: 0,
            rng,
            user: Some(user),
            token: None,
            during: None,
        }
    }

    /// A client that shows a token.
    pub fn with_token(shared: Arc<Shared>, client: u32, rng: SmallRng, token: &str) -> Rest {
        let header = HeaderValue::from_str(&format!("Bearer {token}"));
        Rest {
            shared,
            client,
            member: 0,
            rng,
            user: None,
            token: header.ok(),
            during: None,
        }
    }

    /// Begins a turn: at a member that serves, if there is one, and with chance of its own.
    pub fn sit(&mut self, turn: &Turn) {
        self.rng = turn.seed.rng();
        let ready = self.shared.wire.ready();
        if !ready.is_empty() {
            self.member = ready[turn.seat as usize % ready.len()];
        }
    }

    /// Goes to some member that serves.
    pub fn hop(&mut self) {
        let ready = self.shared.wire.ready();
        if !ready.is_empty() {
            self.member = ready[self.rng.random_range(0..ready.len())];
        }
    }

    /// Sends, and waits for the answer to begin.
    pub async fn open(&self, mut request: Request<Bytes>) -> Result<Answer, Broken> {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let wire = &self.shared.wire;
        let sending = wire.send(self.client, self.member, self.user.clone(), request);
        timeout(PATIENCE, sending)
            .await
            .unwrap_or(Err(Broken::Lost))
    }

    /// Asks, and waits for the whole answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Document, Broken> {
        let (_, answered) = self.ask_as(method, path, body).await;
        answered
    }

    /// As [`Rest::ask`], with the place of the request among all that was asked.
    pub async fn ask_as(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> (usize, Result<Document, Broken>) {
        let body = body.map(|(content_type, value)| (content_type, value.to_string()));
        let text = body.as_ref().map_or("", |(_, text)| text);
        let cut: String = text.chars().take(BODY).collect();
        let scribe = &self.shared.scribe;
        let place = scribe.asked(Ask {
            client: self.client,
            member: self.member,
            called: 0,
            returned: None,
            method: method.to_string().to_lowercase(),
            request: format!("{method} {path} {cut}").trim_end().into(),
            fate: RestFate::Unknown,
            answer: "no answer".into(),
            call: self.during,
        });
        let answered = self.asking(method, path, body).await;
        match &answered {
            Ok((code, document)) => {
                let (fate, answer) = rest_answer(*code, document);
                scribe.answered(place, fate, answer);
            }
            Err(Broken::Refused) => {
                scribe.answered(place, RestFate::Refused, "connection refused".into());
            }
            Err(Broken::Lost) => {}
        }
        (place, answered)
    }

    async fn asking(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, String)>,
    ) -> Result<Document, Broken> {
        let body = body.map(|(content_type, text)| (content_type, text.into_bytes()));
        let asking = async {
            let mut answer = self.open(request(method, path, body)).await?;
            let bytes = answer.whole().await?;
            let document = serde_json::from_slice(&bytes).unwrap_or_default();
            Ok((answer.status.as_u16(), document))
        };
        timeout(PATIENCE, asking).await.unwrap_or(Err(Broken::Lost))
    }

    /// Asks, and writes down what for and what was told. The answer, too, where there is one.
    pub async fn call(&mut self, plan: Plan<'_>) -> Option<Document> {
        let scribe = self.shared.scribe.clone();
        let id = scribe.called(Call {
            client: self.client,
            member: self.member,
            verb: plan.verb,
            key: plan.key.clone(),
            any_version: plan.any_version,
            expects: plan.expects,
            expects_uid: plan.expects_uid.clone(),
            releases: plan.body.is_some_and(|(_, body)| releases(plan.verb, body)),
            node: plan.node.clone(),
            applies: plan.applies.clone(),
            ..Call::default()
        });
        self.during = Some(id);
        let answered = self.ask(plan.method, &plan.path, plan.body).await;
        self.during = None;
        let told = match &answered {
            Ok((code, document)) => told(plan.kind, plan.verb, &plan.key, *code, document),
            Err(Broken::Refused) => refused(0, "connection refused"),
            Err(Broken::Lost) => Told::Unknown("connection lost, or no answer in time".into()),
        };
        if !matches!(
            &told,
            Told::Object(_) | Told::Pages(_) | Told::Done | Told::Refused { code: 400..500, .. }
        ) {
            self.hop();
        }
        scribe.returned(id, told);
        answered.ok()
    }

    /// Writes down that a watch was told what this API does not say.
    pub fn nonsense(&self, path: &str, what: String) {
        let scribe = &self.shared.scribe;
        let place = scribe.asked(Ask {
            client: self.client,
            member: self.member,
            called: 0,
            returned: None,
            method: "get".into(),
            request: format!("GET {path}"),
            fate: RestFate::Refused,
            answer: String::new(),
            call: None,
        });
        scribe.answered(place, RestFate::Refused, what);
        scribe.change(|history| history.nonsense.push(place));
    }

    /// Asks for several things that are one call, from now on until there is no call any more.
    pub fn during(&mut self, call: Option<u64>) {
        self.during = call;
    }

    /// Thinks for a while.
    pub async fn pause(&mut self, most: Duration) {
        let pause = self.rng.random_range(Duration::ZERO..most);
        tokio::time::sleep(pause).await;
    }
}

/// One request.
#[derive(Default)]
pub struct Plan<'a> {
    pub verb: Verb,
    pub kind: &'a str,
    pub key: String,
    pub method: Method,
    pub path: String,
    pub body: Option<(&'a str, &'a Value)>,
    pub any_version: bool,
    pub expects: Option<i64>,
    pub expects_uid: Option<String>,
    pub node: String,
    pub applies: Option<Applied>,
}

/// Whether a write leaves no finalizer, if it is done.
fn releases(verb: Verb, body: &Value) -> bool {
    let finalizers = &body["metadata"]["finalizers"];
    let none = finalizers.is_null() || finalizers.as_array().is_some_and(Vec::is_empty);
    match verb {
        Verb::Update => none,
        Verb::Patch => none && body["metadata"].get("finalizers").is_some(),
        _ => false,
    }
}

fn refused(code: u16, reason: &str) -> Told {
    Told::Refused {
        code,
        reason: reason.into(),
    }
}

/// What an answer says.
pub fn told(kind: &str, verb: Verb, key: &str, code: u16, document: &Value) -> Told {
    let reason = document["reason"].as_str().unwrap_or_default();
    match code {
        // It may have been done, or may be done yet.
        500.. if !matches!(verb, Verb::Get | Verb::List) => {
            return Told::Unknown(format!("{code} {reason}"));
        }
        200..300 => {}
        _ => return refused(code, reason),
    }
    if verb == Verb::List {
        return Told::Pages(vec![page(kind, document)]);
    }
    if matches!(verb, Verb::DeleteCollection | Verb::Bind) {
        return Told::Done;
    }
    let nothing = |uid: &str| Seen {
        key: key.into(),
        uid: uid.into(),
        revision: 0,
        digest: 0,
    };
    if verb == Verb::Delete && document["kind"] == "Status" {
        let uid = document["details"]["uid"].as_str();
        return Told::Object(nothing(uid.unwrap_or_default()));
    }
    // What shows no object shows none that was ever written.
    Told::Object(Seen::of(kind, document).unwrap_or_else(|| nothing("")))
}

/// The version and the objects of a list.
pub fn page(kind: &str, document: &Value) -> (i64, Vec<Seen>) {
    let items = document["items"].as_array().into_iter().flatten();
    let version = document["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let items = items.filter_map(|item| Seen::of(kind, item)).collect();
    (version.parse().unwrap_or(0), items)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::history::History;
    use super::super::rules;
    use super::*;

    #[test]
    fn an_answer_without_an_object_acknowledges_nothing() {
        for (verb, rule) in [
            (Verb::Create, "K1: lost write"),
            (Verb::Delete, "K1: lost deletion"),
            (Verb::Get, "K2: wrong state"),
        ] {
            for document in [json!({}), json!({"metadata": {"name": "a"}}), Value::Null] {
                let call = Call {
                    verb,
                    told: told("configmaps", verb, "configmaps/n/a", 200, &document),
                    ..Call::default()
                };
                let history = History {
                    calls: vec![call],
                    ..History::default()
                };
                let found = rules::check(&history);
                let rules: Vec<&str> = found.iter().map(|found| found.rule.as_str()).collect();
                assert_eq!(rules, [rule], "{document}");
            }
        }
    }
}
