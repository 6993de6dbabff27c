//! Who else than the API server may ask this node, as a kubelet decides it: clients show a certificate of the cluster's
//! authority or a bearer token, the API says whose the token is (TokenReview) and whether its owner may do this with the
//! node (SubjectAccessReview, by the subresource that the path belongs to). What the API said is believed for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_runtime::Client;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Kubernetes' defaults: for so long an answer is believed.
const TOKEN_FOR: Duration = Duration::from_secs(120);
const ALLOWED_FOR: Duration = Duration::from_secs(300);
const DENIED_FOR: Duration = Duration::from_secs(30);
/// What is remembered of each kind.
const REMEMBERED_MAX: usize = 1024;
/// Questions at a time: strangers must not make a node flood the API.
const QUESTIONS_MAX: usize = 8;
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Who asks, as a SubjectAccessReview names him: `user`, `groups`, `uid` and `extra`.
pub(crate) type Asker = Value;

/// Whoever is known is of this group; a TokenReview says so itself.
const AUTHENTICATED: &str = "system:authenticated";

/// What a certificate says of its owner.
pub(crate) fn asker(name: &str, organizations: &[String]) -> Asker {
    let groups = organizations.iter().map(String::as_str);
    let groups = groups.filter(|group| *group != AUTHENTICATED);
    let groups: Vec<&str> = groups.chain([AUTHENTICATED]).collect();
    json!({"user": name, "groups": groups})
}

pub(crate) struct Guard {
    client: Client,
    node_name: String,
    questions: Semaphore,
    tokens: Mutex<Memory<[u8; 32], Option<Asker>>>,
    decisions: Mutex<Memory<String, bool>>,
}

/// Answers, each with the moment from which on it is not believed any more.
struct Memory<K, V>(BTreeMap<K, (Instant, V)>);

impl<K: Ord, V: Clone> Memory<K, V> {
    fn recall(&self, key: &K, now: Instant) -> Option<V> {
        let (until, value) = self.0.get(key)?;
        (now < *until).then(|| value.clone())
    }

    /// Where there is no room what is stale goes, and where that is not enough everything: then it is asked again.
    fn keep(&mut self, key: K, value: V, until: Instant, now: Instant) {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.retain(|_, (until, _)| now < *until);
        }
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        self.0.insert(key, (until, value));
    }
}

/// What a request needs: a verb, and one of these subresources of the node.
#[derive(Debug, PartialEq, Eq)]
struct Need {
    verb: &'static str,
    subresources: &'static [&'static str],
}

/// Kubernetes' mapping, but for one thing: whoever opens a stream needs `create` by whichever method he does it, so that the
/// right to read is never one to run commands.
fn need(method: &Method, path: &str) -> Need {
    let below = |root: &str| {
        let rest = path.strip_prefix(root);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let subresources: &[&str] = if below("/stats") {
        &["stats"]
    } else if below("/metrics") {
        &["metrics"]
    } else if below("/logs") {
        &["log"]
    } else if below("/pods") || below("/runningpods") {
        &["pods", "proxy"]
    } else if below("/healthz") {
        &["healthz", "proxy"]
    } else if below("/configz") {
        &["configz", "proxy"]
    } else {
        &["proxy"]
    };
    let streams = ["/exec", "/attach", "/portForward"].into_iter().any(below);
    let verb = match method.as_str() {
        _ if streams => "create",
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    };
    Need { verb, subresources }
}

/// The token that a request shows.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.trim().split_once(' ')?;
    let token = token.trim();
    let is_token = scheme.eq_ignore_ascii_case("bearer")
        && !token.is_empty()
        && token.len() <= TOKEN_BYTES_MAX
        && !token.contains(' ');
    is_token.then_some(token)
}

/// Whom a TokenReview names, if it does.
fn owner(review: &Value) -> Option<Asker> {
    let status = review.get("status")?;
    if status.get("authenticated").and_then(Value::as_bool) != Some(true) {
        return None;
    }
    let user = status.get("user")?;
    let mut asker = json!({"user": user.get("username")?});
    for field in ["groups", "uid", "extra"] {
        if let Some(value) = user.get(field) {
            asker[field] = value.clone();
        }
    }
    Some(asker)
}

fn has_error(review: &Value) -> bool {
    let error = review.pointer("/status/error").and_then(Value::as_str);
    error.is_some_and(|error| !error.is_empty())
}

fn plain(status: StatusCode, text: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, kind, text).into_response()
}

impl Guard {
    pub(crate) fn new(client: Client, node_name: &str) -> Arc<Guard> {
        Arc::new(Guard {
            client,
            node_name: node_name.to_owned(),
            questions: Semaphore::new(QUESTIONS_MAX),
            tokens: Mutex::new(Memory(BTreeMap::new())),
            decisions: Mutex::new(Memory(BTreeMap::new())),
        })
    }

    /// What answers somebody of whom a certificate says this, or nothing.
    pub(crate) fn before(self: &Arc<Guard>, router: Router, shown: Option<Asker>) -> Router {
        let state = (self.clone(), shown);
        router.layer(middleware::from_fn_with_state(state, let_in))
    }

    /// Why the request is refused, if it is.
    async fn refusal(
        &self,
        shown: Option<&Asker>,
        headers: &HeaderMap,
        need: &Need,
    ) -> Option<Response> {
        let unauthorized = || plain(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let asker = match (shown, bearer(headers)) {
            (Some(asker), _) => asker.clone(),
            (None, Some(token)) => match self.owner_of(token).await {
                Ok(Some(asker)) => asker,
                Ok(None) => return Some(unauthorized()),
                Err(error) => {
                    tracing::warn!(error, "cannot ask whose a token is");
                    return Some(unauthorized());
                }
            },
            (None, None) => return Some(unauthorized()),
        };
        let user = asker["user"].as_str().unwrap_or_default().to_owned();
        let verb = need.verb;
        for subresource in need.subresources {
            match self.may(&asker, verb, subresource).await {
                Ok(true) => return None,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(error, user, verb, subresource, "cannot ask who may do it");
                    let text = format!(
                        "Authorization error (user={user}, verb={verb}, resource=nodes, subresource={subresource})"
                    );
                    return Some(plain(StatusCode::INTERNAL_SERVER_ERROR, text));
                }
            }
        }
        let tried = need.subresources.join(" ");
        let text = format!(
            "Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{tried}])\n"
        );
        Some(plain(StatusCode::FORBIDDEN, text))
    }

    /// Asks the API, a few questions at a time.
    async fn ask(&self, path: &str, question: &Value) -> Result<Value, String> {
        let asked = async {
            let place = self.questions.acquire().await;
            let _place = place.map_err(|error| error.to_string())?;
            let answer = self.client.post_path(path, question).await;
            answer.map_err(|error| error.message)
        };
        match tokio::time::timeout(QUESTION_TIMEOUT, asked).await {
            Ok(answer) => answer,
            Err(_) => Err("the API does not answer in time".to_owned()),
        }
    }

    async fn owner_of(&self, token: &str) -> Result<Option<Asker>, String> {
        let key: [u8; 32] = Sha256::digest(token).into();
        let tokens = || self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tokens().recall(&key, Instant::now()) {
            return Ok(known);
        }
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let review = self.ask(path, &question).await?;
        let found = owner(&review);
        // With an error it may be that the server does not know yet: that is not remembered.
        if found.is_some() || !has_error(&review) {
            let now = Instant::now();
            tokens().keep(key, found.clone(), now + TOKEN_FOR, now);
        }
        Ok(found)
    }

    async fn may(&self, asker: &Asker, verb: &str, subresource: &str) -> Result<bool, String> {
        let mut spec = asker.clone();
        spec["resourceAttributes"] = json!({
            "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource,
            "name": self.node_name
        });
        let key = spec.to_string();
        let decisions = || {
            let decisions = self.decisions.lock();
            decisions.unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = decisions().recall(&key, Instant::now()) {
            return Ok(known);
        }
        let question = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = self.ask(path, &question).await?;
        let allowed = answer.pointer("/status/allowed").and_then(Value::as_bool) == Some(true);
        let now = Instant::now();
        let kept = if allowed { ALLOWED_FOR } else { DENIED_FOR };
        decisions().keep(key, allowed, now + kept, now);
        Ok(allowed)
    }
}

async fn let_in(
    State((guard, shown)): State<(Arc<Guard>, Option<Asker>)>,
    request: Request,
    next: Next,
) -> Response {
    let need = need(request.method(), request.uri().path());
    let refusal = guard.refusal(shown.as_ref(), request.headers(), &need);
    match refusal.await {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_belongs_to_a_subresource_of_the_node() {
        let get = |path: &str| need(&Method::GET, path);
        for (path, subresources) in [
            ("/metrics", &["metrics"][..]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/metricsx", &["proxy"]),
            ("/stats/summary", &["stats"]),
            ("/pods", &["pods", "proxy"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/containerLogs/d/p/c", &["proxy"]),
        ] {
            let verb = "get";
            assert_eq!(get(path), Need { verb, subresources }, "{path}");
        }
        assert_eq!(get("/exec/d/p/c").verb, "create", "reading is not running");
        assert_eq!(need(&Method::POST, "/exec/d/p/c").verb, "create");
        assert_eq!(need(&Method::OPTIONS, "/metrics").verb, "");
    }

    #[test]
    fn only_one_word_after_bearer_is_a_token() {
        let shown = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(shown("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(shown("bearer  abc ").as_deref(), Some("abc"));
        for text in ["Bearer", "Bearer ", "Basic abc", "Bearer a b"] {
            assert_eq!(shown(text), None, "{text}");
        }
        assert_eq!(
            shown(&format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1))),
            None
        );
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn a_token_has_an_owner_only_where_the_review_says_so() {
        let user = json!({"username": "u", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}});
        let asker = json!({"user": "u", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}});
        let review = |status: Value| json!({ "status": status });
        let good = review(json!({"authenticated": true, "user": user}));
        assert_eq!(owner(&good), Some(asker));
        assert_eq!(owner(&review(json!({"user": user}))), None);
        assert_eq!(owner(&review(json!({"authenticated": true}))), None);
        assert_eq!(owner(&json!({})), None);
        assert!(has_error(&review(json!({"error": "not synced"}))));
        assert!(!has_error(&review(json!({"error": ""}))) && !has_error(&good));
    }

    #[test]
    fn whoever_shows_a_certificate_is_known() {
        let groups = ["g".to_owned(), AUTHENTICATED.to_owned()];
        let shown = json!({"user": "u", "groups": ["g", "system:authenticated"]});
        assert_eq!(asker("u", &groups[..1]), shown);
        assert_eq!(asker("u", &groups), shown);
    }

    #[test]
    fn answers_are_forgotten_in_time_and_never_too_many() {
        let mut memory = Memory(BTreeMap::new());
        let now = Instant::now();
        let soon = now + Duration::from_secs(1);
        memory.keep(0, true, soon, now);
        assert_eq!(memory.recall(&0, now), Some(true));
        assert_eq!(memory.recall(&0, soon), None);
        for key in 1..3 * REMEMBERED_MAX {
            memory.keep(key, true, soon, now);
            assert!(memory.0.len() <= REMEMBERED_MAX);
            assert_eq!(memory.recall(&key, now), Some(true));
        }
    }
}
