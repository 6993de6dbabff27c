//! What every verb gets to know about its request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth::User;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use resources::Resource;
use schema::Object;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::ApiServer;
use crate::audit::Audit;
use crate::entry::Entry;
use crate::negotiate::{self, Form, Output};
use crate::prefer;
use crate::protobuf::Written;
use crate::request::{Query, RequestInfo};
use crate::status::{ApiError, ApiResult};
use crate::write::Outcome;

/// Letters of all warnings of an answer together; where there are more, each one is cut, and the last ones are left out.
const WARNINGS_LETTERS_MAX: usize = 4_096;
const CUT_WARNING_LETTERS: usize = 256;

/// What the answer warns of. Shared with whoever sends the answer, for refusals warn too.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    texts: Vec<String>,
    /// Of all texts, each as long as it may be where they are cut.
    letters: usize,
}

impl Warnings {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, text: String) {
        let mut said = self.lock();
        // What comes behind those that fill the answer would be left out, and an object can be warned of without end.
        if said.letters > WARNINGS_LETTERS_MAX || text.is_empty() || said.texts.contains(&text) {
            return;
        }
        said.letters += text.chars().take(CUT_WARNING_LETTERS).count();
        said.texts.push(text);
    }

    /// As many of them as an answer takes.
    pub(crate) fn take(&self) -> Vec<String> {
        bounded(std::mem::take(&mut *self.lock()).texts)
    }
}

/// What of a request's time was not this server's own: waiting for a place, and for webhooks. Shared as warnings are.
#[derive(Clone, Default)]
pub(crate) struct Outside(Arc<AtomicU64>);

impl Outside {
    pub(crate) fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

pub(crate) struct Context {
    pub(crate) server: Arc<ApiServer>,
    pub(crate) info: Arc<RequestInfo>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) user: Arc<User>,
    pub(crate) output: Output,
    /// When the answer has to be there (not for long-running requests).
    pub(crate) deadline: Instant,
    /// Unix seconds at which the request arrived.
    pub(crate) now: i64,
    /// The server asks itself, for what it needs to be ready.
    pub(crate) is_own: bool,
    pub(crate) warnings: Warnings,
    pub(crate) outside: Outside,
    /// What is told of the request.
    pub(crate) audit: Audit,
}

impl Context {
    pub(crate) fn new(
        server: Arc<ApiServer>,
        info: RequestInfo,
        query: Query,
        headers: HeaderMap,
        user: User,
        output: Output,
    ) -> Context {
        Context {
            server,
            info: Arc::new(info),
            query,
            headers,
            user: Arc::new(user),
            output,
            deadline: Instant::now() + crate::handler::REQUEST_TIMEOUT,
            now: crate::clock::unix_seconds(),
            is_own: false,
            warnings: Warnings::default(),
            outside: Outside::default(),
            audit: Audit::default(),
        }
    }

    /// Adds a `Warning` header to the answer; the same text only once.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.warnings.add(text.into());
    }

    /// Whether the answer warns of nothing so far.
    pub(crate) fn has_no_warnings(&self) -> bool {
        self.warnings.lock().texts.is_empty()
    }

    /// Whether the query, or the options in `body`, ask for a dry run.
    pub(crate) fn dry_run(&self, options_kind: &str, body: Option<&Value>) -> ApiResult<bool> {
        let mut asked: Vec<String> = self.query.all("dryRun").map(str::to_owned).collect();
        if let Some(options) = body {
            asked.extend(dry_run_of(options));
        }
        is_dry_run(options_kind, asked)
    }

    /// An answer of one value, as it is.
    pub(crate) fn respond_value(&self, code: StatusCode, value: &Value) -> Response {
        if value["kind"] == "Status" {
            self.audit.answer(value);
        }
        negotiate::respond_value(&self.headers, &self.output, code, value)
    }

    /// An answer of one object in the form that was asked for.
    pub(crate) fn respond_object(
        &self,
        code: StatusCode,
        resource: &Resource,
        object: Object,
    ) -> Response {
        let value = negotiate::shape(&self.output, resource, object, self.now);
        self.respond_value(code, &value)
    }

    /// An answer of what a write left: the bytes that were stored, unless another form was asked for.
    pub(crate) fn respond_outcome(
        &self,
        code: StatusCode,
        resource: &Resource,
        outcome: Outcome,
    ) -> Response {
        if self.wants_little()
            && let Ok(body) = identity(&outcome.object)
        {
            let mut response = self.respond_bytes(code, body.into());
            prefer::applied(response.headers_mut());
            return response;
        }
        let protobuf = Written::of(&self.output, resource);
        if (self.output.is_plain() || protobuf.is_some())
            && let Some(stored) = outcome.versioned()
        {
            let body = match protobuf {
                Some(written) => written.body(&stored),
                None => Some(stored.json.bytes()),
            };
            if let Some(body) = body {
                return self.respond_bytes(code, body);
            }
        }
        self.respond_shared(code, resource, &outcome.whole())
    }

    /// Whether the client is content with [`identity`]. Who is told of answers is told of the whole one.
    fn wants_little(&self) -> bool {
        self.output.is_plain() && self.audit.is_nothing() && prefer::wants_minimal(&self.headers)
    }

    /// An answer of an object that others may hold as well.
    fn respond_shared(&self, code: StatusCode, resource: &Resource, object: &Object) -> Response {
        match self.output.form {
            Form::Object => self.respond_value(code, object.value()),
            _ => self.respond_object(code, resource, object.clone()),
        }
    }

    /// An answer of one cached object: its bytes, unless another form was asked for.
    pub(crate) fn respond_entry(
        &self,
        code: StatusCode,
        resource: &Resource,
        entry: &Entry,
    ) -> Response {
        if self.output.is_plain() && entry.is_as(resource) {
            return self.respond_bytes(code, entry.json());
        }
        let protobuf = Written::of(&self.output, resource);
        if let Some(body) = protobuf.and_then(|written| written.body(&entry.encoded)) {
            return self.respond_bytes(code, body);
        }
        self.respond_object(code, resource, entry.object_as(resource))
    }

    /// An answer of bytes in the encoding that was asked for.
    fn respond_bytes(&self, code: StatusCode, body: Bytes) -> Response {
        negotiate::respond_bytes(&self.headers, code, self.output.content_type(), body)
    }

    pub(crate) fn not_found(&self, resource: &Resource, name: &str) -> ApiError {
        ApiError::not_found(&resource.group, &resource.plural, name)
    }
}

/// Which object it is, and its version, in JSON.
fn identity(object: &Object) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Identity<'a> {
        api_version: &'a str,
        kind: &'a str,
        metadata: Metadata<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata<'a> {
        name: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        namespace: &'a str,
        resource_version: &'a str,
        uid: &'a str,
    }
    serde_json::to_vec(&Identity {
        api_version: object.api_version(),
        kind: object.kind(),
        metadata: Metadata {
            name: object.name(),
            namespace: object.namespace(),
            resource_version: object.resource_version(),
            uid: object.uid(),
        },
    })
}

/// What options in a body say of a dry run.
pub(crate) fn dry_run_of(options: &Value) -> Vec<String> {
    let list = options.get("dryRun").and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// Whether a dry run is `asked` for; the one value there is is `All`.
pub(crate) fn is_dry_run(options_kind: &str, asked: Vec<String>) -> ApiResult<bool> {
    if asked.iter().any(|value| value != "All") {
        let path = schema::field::Path::new("dryRun");
        let error = schema::field::FieldError::not_supported(&path, asked, &["All"]);
        return Err(ApiError::invalid("meta.k8s.io", options_kind, "", &[error]));
    }
    Ok(!asked.is_empty())
}

/// Warnings as Kubernetes bounds them: a webhook may send any number, of any length.
fn bounded(warnings: Vec<String>) -> Vec<String> {
    let letters = |text: &String| text.chars().count();
    if warnings.iter().map(letters).sum::<usize>() <= WARNINGS_LETTERS_MAX {
        return warnings;
    }
    let mut written = 0;
    warnings
        .into_iter()
        .map(|text| text.chars().take(CUT_WARNING_LETTERS).collect())
        .take_while(|text: &String| {
            written += letters(text);
            written <= WARNINGS_LETTERS_MAX
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_bounded() {
        let short = vec!["a".to_owned(), "b".repeat(4_000)];
        assert_eq!(bounded(short.clone()), short);
        let long = vec!["ü".repeat(300); 100];
        let cut = bounded(long);
        assert_eq!(cut.len(), 16);
        assert!(cut.iter().all(|text| text.chars().count() == 256));
    }

    #[test]
    fn no_more_warnings_are_held_than_are_told() {
        let (warnings, mut all) = (Warnings::default(), Vec::new());
        for number in 0..1_000 {
            let text = format!("{number:0>300}");
            warnings.add(text.clone());
            warnings.add(text.clone());
            all.push(text);
        }
        assert_eq!(warnings.lock().texts.len(), 17);
        assert_eq!(warnings.take(), bounded(all));
    }
}
