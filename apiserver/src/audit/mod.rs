//! The audit log: who wanted what, and what became of it, as much as the policy says (`policy`), in the events of Kubernetes
//! (`event`).
//!
//! Every request carries an [`Audit`], which learns on the way what is to be told; where nothing is, it does nothing. Events
//! go to a sink that never waits. A request whose client goes away is told of too: nobody gets past the log by hanging up.

mod answer;
mod auditor;
mod event;
mod policy;
mod webhook;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use auth::User;
use auth::impersonation::Mode;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, header};
use schema::Object;
use serde_json::{Value, json};

use crate::negotiate;
use crate::request::RequestInfo;
use crate::serve::PeerAddress;
use crate::status::{ApiError, ApiResult};
pub(crate) use answer::finish;
pub(crate) use auditor::{Auditor, Auditors};
use event::Facts;
pub use policy::{AuditPolicy, AuditPolicyError};
use policy::{Level, Stage};
pub use webhook::AuditBatches;
pub(crate) use webhook::AuditWebhook;

/// Where events go, a line of JSON each.
pub trait AuditSink: Send + Sync + 'static {
    /// Takes an event, or drops and counts it where too many wait. Never blocks.
    fn take(&self, line: Vec<u8>);
    /// How many events were dropped or could not be written.
    fn lost(&self) -> u64;
}

/// Of which requests is told what, and whom.
pub struct Auditing {
    pub policy: AuditPolicy,
    /// None where only a webhook is told, with [`crate::ApiServer::audit_to`].
    pub sink: Option<Arc<dyn AuditSink>>,
}

/// What is told of one request; see the module head.
#[derive(Clone, Default)]
pub(crate) struct Audit(Option<Arc<Record>>);

struct Record {
    auditor: Arc<Auditor>,
    facts: Mutex<State>,
}

#[derive(Default)]
struct State {
    facts: Facts,
    /// Its last event was made.
    done: bool,
}

impl Audit {
    /// Of a request that has just come; nothing is told of it before it is known who sent it.
    pub(crate) fn of(
        auditor: Option<Arc<Auditor>>,
        id: &str,
        parts: &Parts,
        info: &RequestInfo,
    ) -> Audit {
        let Some(auditor) = auditor else {
            return Audit(None);
        };
        let text = |name: header::HeaderName| {
            let value = parts.headers.get(name);
            let value = value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            value.unwrap_or_default()
        };
        let facts = Facts {
            id: id.to_owned(),
            uri: parts
                .uri
                .path_and_query()
                .map_or_else(|| parts.uri.path().to_owned(), ToString::to_string),
            info: info.clone(),
            source_ips: source_ips(
                &parts.headers,
                parts.extensions.get::<PeerAddress>().copied(),
            ),
            user_agent: text(header::USER_AGENT),
            received: crate::clock::unix_micros(),
            ..Facts::default()
        };
        let state = State { facts, done: false };
        Audit(Some(Arc::new(Record {
            auditor,
            facts: Mutex::new(state),
        })))
    }

    /// Whether nothing is told of the request.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// It is known who sent it. Judges how much is told.
    pub(crate) fn begin(&self, user: &User) {
        let Some(record) = &self.0 else { return };
        let mut state = record.lock();
        let facts = &mut state.facts;
        facts.user = user.clone();
        facts.verdict = record.auditor.policy.judge(user, &facts.info);
        record.auditor.judged(facts.verdict.level);
        record.tell(&state, Stage::RequestReceived);
    }

    /// It is not known who sent it: that is told, and nothing else.
    pub(crate) fn refuse_unknown(&self, headers: &HeaderMap, error: &ApiError) {
        let Some(record) = &self.0 else { return };
        let mut state = record.lock();
        let facts = &mut state.facts;
        facts.verdict = record.auditor.policy.judge(&User::default(), &facts.info);
        record.auditor.judged(facts.verdict.level);
        let how = match headers.get(header::AUTHORIZATION) {
            Some(value) if value.as_bytes().starts_with(b"Bearer ") => "bearer",
            Some(value) if value.as_bytes().starts_with(b"Basic ") => "basic",
            Some(_) => "unknown",
            None => "x509",
        };
        facts.status = Some(
            json!({"metadata": {}, "status": "Failure", "code": error.code,
            "reason": error.reason, "message": format!("Authentication failed, attempted: {how}")}),
        );
        record.tell(&state, Stage::ResponseStarted);
        state.done = true;
    }

    /// In whose name it is done, and within which bounds. That holds for its parts too, which may be told of where the whole
    /// is not.
    pub(crate) fn impersonate(&self, user: &User, mode: Mode) {
        if let Some(record) = &self.0 {
            record.lock().facts.impersonated = Some((user.clone(), mode));
        }
    }

    /// One of the requests that a request holds. It is judged and told of as if it had come alone, and names the whole.
    pub(crate) fn part(&self, info: &RequestInfo) -> Audit {
        let Some(record) = &self.0 else {
            return Audit(None);
        };
        let whole = record.lock();
        let whole = &whole.facts;
        let mut facts = Facts {
            verdict: record.auditor.policy.judge(&whole.user, info),
            id: crate::chance::uuid().to_string(),
            uri: info.path.clone(),
            info: info.clone(),
            source_ips: whole.source_ips.clone(),
            user_agent: whole.user_agent.clone(),
            received: crate::clock::unix_micros(),
            user: whole.user.clone(),
            impersonated: whole.impersonated.clone(),
            ..Facts::default()
        };
        let (key, id) = ("kontiki.io/part-of", whole.id.clone());
        facts.annotations.insert(key.to_owned(), id);
        let state = State { facts, done: false };
        record.tell(&state, Stage::RequestReceived);
        Audit(Some(Arc::new(Record {
            auditor: record.auditor.clone(),
            facts: Mutex::new(state),
        })))
    }

    /// What became of a part.
    pub(crate) fn finish_part(&self, result: &ApiResult<()>, answer: &Value) {
        let code = match result {
            Ok(()) => 201,
            Err(error) => {
                self.fail(error);
                error.code
            }
        };
        if self.tells_answer() {
            self.change(|facts| {
                facts.status = Some(event::response_status(answer.clone()));
                facts.response = Some(answer.clone());
            });
        }
        self.code(code);
        self.end(Stage::ResponseComplete);
    }

    /// What the authorizer has said.
    pub(crate) fn decide(&self, allowed: bool, reason: &str) {
        let decision = if allowed { "allow" } else { "forbid" };
        self.annotate("authorization.k8s.io/decision", decision);
        self.annotate("authorization.k8s.io/reason", reason);
    }

    /// Says something more; the first to say something under a key is heard.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        self.change(|facts| {
            let known = facts.annotations.entry(key.to_owned());
            known.or_insert_with(|| value.to_owned());
        });
    }

    /// Whether what was sent is told, too.
    pub(crate) fn tells_bodies(&self) -> bool {
        self.level() >= Level::Request
    }

    /// Says one thing more under a key, behind what was said before.
    pub(crate) fn annotate_also(&self, key: &str, value: &str) {
        self.change(|facts| match facts.annotations.get_mut(key) {
            Some(said) if said.split(", ").any(|one| one == value) => {}
            Some(said) => *said = format!("{said}, {value}"),
            None => {
                facts.annotations.insert(key.to_owned(), value.to_owned());
            }
        });
    }

    /// Adds to the JSON list under a key.
    pub(crate) fn annotate_one_more(&self, key: &str, item: Value) {
        self.change(|facts| {
            let text = facts.annotations.get(key).map_or("[]", String::as_str);
            let mut list: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
            list.push(item);
            let text = Value::Array(list).to_string();
            facts.annotations.insert(key.to_owned(), text);
        });
    }

    /// The object that was sent, by which a new one is named.
    pub(crate) fn refer(&self, object: &Object) {
        self.change(|facts| facts.sent = event::identity(object));
    }

    /// The body that was sent.
    pub(crate) fn sent(&self, headers: &HeaderMap, body: &[u8]) {
        if self.level() >= Level::Request && !body.is_empty() {
            let object = read(&negotiate::media_type(headers), body);
            self.change(|facts| {
                let strip = facts.verdict.omit_managed_fields;
                facts.request = object.map(|object| match strip {
                    true => event::without_managed_fields(object),
                    false => object,
                });
            });
        }
    }

    /// Whether the answer has to be read, too.
    pub(crate) fn tells_answer(&self) -> bool {
        self.level() == Level::RequestResponse
    }

    /// The answer is an error.
    pub(crate) fn fail(&self, error: &ApiError) {
        self.change(|facts| facts.status = Some(event::response_status(error.to_status())));
    }

    /// The handler broke down.
    pub(crate) fn panicked(&self) {
        self.change(|facts| {
            facts.status = Some(
                json!({"metadata": {}, "status": "Failure", "reason": "InternalError",
                "message": "APIServer panic'd", "code": 500}),
            );
        });
        self.end(Stage::Panic);
    }

    fn start(&self, code: u16) {
        self.code(code);
        if let Some(record) = &self.0 {
            let state = record.lock();
            if !state.done {
                record.tell(&state, Stage::ResponseStarted);
            }
        }
    }

    /// The answer is a Status, of which an event has more than the code.
    pub(crate) fn answer(&self, status: &Value) {
        self.change(|facts| facts.status = Some(event::response_status(status.clone())));
    }

    fn code(&self, code: u16) {
        self.change(|facts| {
            let status = facts.status.get_or_insert_with(|| json!({"metadata": {}}));
            status["code"] = code.into();
        });
    }

    fn end(&self, stage: Stage) {
        if let Some(record) = &self.0 {
            let mut state = record.lock();
            if !std::mem::replace(&mut state.done, true) {
                record.tell(&state, stage);
            }
        }
    }

    fn level(&self) -> Level {
        let record = self.0.as_ref();
        record.map_or(Level::None, |record| record.lock().facts.verdict.level)
    }

    fn change(&self, change: impl FnOnce(&mut Facts)) {
        if let Some(record) = &self.0 {
            let mut state = record.lock();
            if state.facts.verdict.level > Level::None {
                change(&mut state.facts);
            }
        }
    }
}

impl Record {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: &State, stage: Stage) {
        let verdict = &state.facts.verdict;
        if verdict.level == Level::None || verdict.omit_stages.contains(&stage) {
            return;
        }
        let event = state.facts.event(stage, crate::clock::unix_micros());
        let mut line = serde_json::to_vec(&event).expect("a JSON value always encodes");
        line.push(b'\n');
        self.auditor.tell(line);
    }
}

/// Whoever goes away before there is an answer is told of as well.
impl Drop for Record {
    fn drop(&mut self) {
        let mut state = self.lock();
        if state.done {
            return;
        }
        state.facts.status.get_or_insert_with(|| {
            json!({"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200})
        });
        self.tell(&state, Stage::ResponseComplete);
    }
}

/// What a body says, where it can be read.
fn read(media: &str, body: &[u8]) -> Option<Value> {
    match media {
        negotiate::PROTOBUF => schema::protobuf::decode(body).ok(),
        _ if media.ends_with("yaml") => {
            serde_saphyr::from_str(std::str::from_utf8(body).ok()?).ok()
        }
        // Names of members mean nothing to it, and it goes no deeper than it may.
        _ => schema::read::json(body).ok(),
    }
}

/// Where it came from: what proxies say of it, and the other end of the connection.
fn source_ips(headers: &HeaderMap, peer: Option<PeerAddress>) -> Vec<String> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let forwarded = text("x-forwarded-for").unwrap_or_default().split(',');
    let named = forwarded.chain(text("x-real-ip"));
    let named = named.filter_map(|text| text.trim().parse().ok());
    let mut ips: Vec<std::net::IpAddr> = Vec::new();
    for ip in named.chain(peer.map(|PeerAddress(address)| address.ip().to_canonical())) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    ips.iter().map(ToString::to_string).collect()
}

/// The body of an answer in a form that can be told.
fn told(headers: &HeaderMap, body: &Bytes) -> Option<Value> {
    read(&negotiate::media_type(headers), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_came_from_whoever_is_named_and_from_the_connection() {
        let mut headers = HeaderMap::new();
        let peer = PeerAddress("[::ffff:10.0.0.9]:4711".parse().unwrap());
        assert_eq!(source_ips(&headers, Some(peer)), ["10.0.0.9"]);
        headers.insert(
            "x-forwarded-for",
            "192.0.2.1, nobody, 10.0.0.9".parse().unwrap(),
        );
        headers.insert("x-real-ip", "192.0.2.1".parse().unwrap());
        assert_eq!(source_ips(&headers, Some(peer)), ["192.0.2.1", "10.0.0.9"]);
        assert!(source_ips(&HeaderMap::new(), None).is_empty());
    }
}
