//! Many bindings in one request, for a scheduler that decides faster than requests come and go.
//!
//! `POST /kontiki/v1/bindings` with `{"items": [Binding, ..]}` answers `{"items": [Status, ..]}` in the same order. Each
//! item is what `pods/NAME/binding` would have got: the same right is asked for, the same admission and the same checks
//! take place, and its refusal is its own. It is no resource and in no discovery document; other API servers refuse the path,
//! and whoever asked goes on with single bindings.
//!
//! The items are not one transaction. In the store a transaction is one revision, and a watch that breaks off between two
//! events of one revision goes on behind it: a client would never hear of the other pods. A compare that does not hold would
//! also refuse all items for one. So each item is a transaction of its own, all of them under way together, and the log
//! syncs them together: the pods have a revision each, and share the wait.
//!
//! Items may belong together: `"together": [{"items": [0, 1, 2], "atLeast": 2}]`. Then all of them are admitted and checked
//! against their pods before any is written, and where fewer than that would go through, none is. What is left to chance is
//! what becomes of a pod in the milliseconds between its check and its write, which is no other than what may become of
//! it right behind the write, and a store that fails in between.

use std::collections::BTreeSet;
use std::sync::Arc;

use auth::User;
use auth::request::{Attributes, Forbidden};
use auth::user::{GROUP_AUTHENTICATED, GROUP_MASTERS};
use axum::response::Response;
use bytes::Bytes;
use futures::future::{join, join_all};
use http::StatusCode;
use resources::Resource;
use schema::Object;
use schema::decode::FieldValidation;
use schema::read::Json;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::authorize::{self, refusal};
use crate::context::Context;
use crate::decode;
use crate::negotiate::{self, BodyFormat};
use crate::request::RequestInfo;
use crate::status::{self, ApiError, ApiResult};
use crate::subresources::binding::{self, Admitted};

pub(crate) const PATH: &str = "/kontiki/v1/bindings";
/// What the options of each would be called.
const OPTIONS: &str = "CreateOptions";
/// Items of one request at most.
const ITEMS_MAX: usize = 256;

#[derive(Deserialize)]
struct Batch<T> {
    items: Vec<T>,
    #[serde(default)]
    together: Vec<Together>,
}

/// Items that are of use only if so many of them are carried out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Together {
    items: Vec<usize>,
    at_least: usize,
}

/// Whether a request is one.
pub(crate) fn is_asked(info: &RequestInfo) -> bool {
    !info.is_resource && info.verb == "post" && info.path == PATH
}

/// Whoever is known may ask: each item is judged for itself.
pub(crate) fn authorize(user: &User, info: &RequestInfo) -> ApiResult<()> {
    if user.in_group(GROUP_AUTHENTICATED) || user.in_group(GROUP_MASTERS) {
        return Ok(());
    }
    let attributes = Attributes {
        verb: info.verb,
        path: &info.path,
        ..Attributes::default()
    };
    Err(refusal(Forbidden::by_authorizer(user, &attributes, "")))
}

/// How many writes a body is, before any of them is looked at; at least one.
pub(crate) fn count(body: &Bytes) -> u32 {
    let items = serde_json::from_slice::<Batch<IgnoredAny>>(body).map_or(1, |b| b.items.len());
    u32::try_from(items.clamp(1, ITEMS_MAX)).unwrap_or(1)
}

pub(crate) async fn create(context: &Context, body: &Bytes) -> ApiResult<Response> {
    // An administrator's request comes here without.
    context.server.world.wait_loaded().await?;
    if negotiate::body_format(&context.headers)? != BodyFormat::Json {
        return Err(ApiError::unsupported_media(&[negotiate::JSON]));
    }
    let Batch { items, together } = parse(body)?;
    let pods = resources::find("", "v1", "pods").ok_or_else(ApiError::no_such_resource)?;
    let bound = together.iter().flat_map(|set| &set.items).copied();
    let bound: BTreeSet<usize> = bound.collect();
    let alone = (0..items.len()).filter(|at| !bound.contains(at));
    let alone = alone.map(async |at| (at, one(context, pods, &items[at]).await));
    let sets = together
        .iter()
        .map(|set| as_one(context, pods, &items, set));
    let (alone, sets) = join(join_all(alone), join_all(sets)).await;
    let mut results = vec![Value::Null; items.len()];
    for (at, answer) in alone.into_iter().chain(sets.into_iter().flatten()) {
        results[at] = answer;
    }
    Ok(context.respond_value(StatusCode::OK, &json!({ "items": results })))
}

fn parse(body: &Bytes) -> ApiResult<Batch<Value>> {
    let read: Batch<Json> = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("a list of bindings is wanted: {error}")))?;
    let items = read.items.into_iter().map(|Json(item)| item);
    let batch = Batch {
        items: items.collect(),
        together: read.together,
    };
    match batch.items.len() {
        0 => return Err(ApiError::bad_request("there are no items")),
        count if count > ITEMS_MAX => {
            return Err(ApiError::bad_request(format!(
                "{count} items are too many: at most {ITEMS_MAX} are taken at once"
            )));
        }
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for Together { items, at_least } in &batch.together {
        if items.is_empty() || *at_least > items.len() {
            return Err(ApiError::bad_request(format!(
                "{at_least} of {} items cannot be carried out together",
                items.len()
            )));
        }
        for at in items {
            if *at >= batch.items.len() || !seen.insert(at) {
                return Err(ApiError::bad_request(format!(
                    "item {at} is not there, or belongs to others already"
                )));
            }
        }
    }
    Ok(batch)
}

/// The Status of a refusal, with the pause that would have been a header.
fn told(error: &ApiError) -> Value {
    let mut status = error.to_status();
    if let Some(seconds) = error.retry_after {
        status["details"]["retryAfterSeconds"] = seconds.into();
    }
    status
}

/// Serves an item that belongs to no others.
async fn one(context: &Context, pods: &Resource, item: &Value) -> Value {
    match Part::judge(context, pods, item).await {
        Ok(part) => part.finish(true).await,
        Err(answer) => answer,
    }
}

/// Serves items that belong together.
async fn as_one(
    context: &Context,
    pods: &Resource,
    items: &[Value],
    set: &Together,
) -> Vec<(usize, Value)> {
    let judged = set.items.iter().map(async |at| {
        let mut part = Part::judge(context, pods, &items[*at]).await?;
        part.check().await;
        Ok(part)
    });
    let judged: Vec<Result<Part, Value>> = join_all(judged).await;
    let able = judged.iter().flatten().filter(|part| part.admitted.is_ok());
    // One pod counts once, however often it is named.
    let able: BTreeSet<(&str, &str)> = able
        .map(|part| {
            let info = &part.context.info;
            (info.namespace.as_str(), info.name.as_str())
        })
        .collect();
    let enough = able.len() >= set.at_least;
    let answers = judged.into_iter().map(async |part| match part {
        Ok(part) => part.finish(enough).await,
        Err(answer) => answer,
    });
    let answers = join_all(answers).await;
    set.items.iter().copied().zip(answers).collect()
}

/// An item, as if it had come alone.
struct Part {
    context: Context,
    admitted: ApiResult<Admitted>,
}

impl Part {
    /// Asks for the right to it and for all objections. The answer, where nobody can tell what it is about.
    async fn judge(context: &Context, pods: &Resource, item: &Value) -> Result<Part, Value> {
        let (namespace, name) = place(item).map_err(|error| told(&error))?;
        let context = alone(context, namespace, name);
        let admitted = admit(&context, pods, item).await;
        Ok(Part { context, admitted })
    }

    /// Whether its pod would take it now.
    async fn check(&mut self) {
        if let Ok(admitted) = &self.admitted
            && let Err(error) = binding::check(&self.context, admitted).await
        {
            self.admitted = Err(error);
        }
    }

    /// Carries it out if `enough` of those that it belongs to can be, and tells the audit log of it as of a request that came
    /// alone.
    async fn finish(self, enough: bool) -> Value {
        let Part { context, admitted } = self;
        let result = match admitted {
            Ok(admitted) if enough => binding::carry_out(&context, &admitted).await,
            Ok(_) => Err(ApiError::withheld(format!(
                "pod {} is not bound: too few of the bindings that belong together can be carried out",
                context.info.name
            ))),
            Err(error) => Err(error),
        };
        let answer = match &result {
            Ok(()) => status::success_created(),
            Err(error) => told(error),
        };
        context.audit.finish_part(&result, &answer);
        answer
    }
}

/// Namespace and name of the pod.
fn place(item: &Value) -> ApiResult<(&str, &str)> {
    let metadata = item.get("metadata").and_then(Value::as_object);
    let text = |field: &str| metadata.and_then(|of| of.get(field)?.as_str());
    let (Some(namespace), Some(name)) = (text("namespace"), text("name")) else {
        return Err(ApiError::bad_request(
            "a binding in a list has a namespace and a name",
        ));
    };
    if namespace.is_empty() || name.is_empty() {
        return Err(ApiError::bad_request(
            "the namespace and the name of a binding are not empty",
        ));
    }
    Ok((namespace, name))
}

async fn admit(context: &Context, pods: &Resource, item: &Value) -> ApiResult<Admitted> {
    let attributes = Attributes {
        verb: "create",
        version: "v1",
        resource: "pods",
        subresource: "binding",
        namespace: &context.info.namespace,
        name: &context.info.name,
        ..Attributes::default()
    };
    let authorizer = &context.server.authorizer;
    let decision = authorizer.authorize(&context.user, &attributes).await;
    context.audit.decide(decision.allowed, &decision.reason);
    authorize::required(&context.user, &attributes, &decision)?;
    let dry_run = context.dry_run(OPTIONS, None)?;
    let validation = decode::field_validation(context, OPTIONS);
    let at_hand = match validation {
        Ok(validation) if context.audit.is_nothing() => decoded_as_it_is(item, validation),
        _ => None,
    };
    let decoded = match at_hand {
        Some(decoded) => decoded,
        None => {
            let body = Bytes::from(item.to_string());
            context.audit.sent(&context.headers, &body);
            decode::object(context, binding::BINDING, &body, OPTIONS)?
        }
    };
    binding::admit(context, pods, decoded, dry_run).await
}

/// Decodes a binding as our scheduler writes it, which need not be written as text once more: nothing in it is unknown, of
/// another type, or left to be filled in.
fn decoded_as_it_is(item: &Value, validation: FieldValidation) -> Option<Object> {
    let texts = |field: &str, names: &[&str]| {
        let Some(Value::Object(fields)) = item.get(field) else {
            return false;
        };
        let is_text = |name: &&str| matches!(fields.get(*name), Some(Value::String(text)) if !text.is_empty());
        fields.len() == names.len() && names.iter().all(is_text)
    };
    let is_plain = item.as_object().is_some_and(|fields| fields.len() == 4)
        && item["apiVersion"] == "v1"
        && item["kind"] == "Binding"
        && texts("metadata", &["name", "namespace", "uid"])
        && texts("target", &["kind", "name"]);
    if !is_plain {
        return None;
    }
    let schema = binding::BINDING.schema();
    let decoded = schema::decode::value(schema, item.clone(), validation).ok()?;
    Object::new(decoded.value).ok()
}

/// What the request would be if the item had come alone.
fn alone(context: &Context, namespace: &str, name: &str) -> Context {
    let info = RequestInfo {
        path: format!("/api/v1/namespaces/{namespace}/pods/{name}/binding"),
        verb: "create",
        is_resource: true,
        version: "v1".into(),
        namespace: namespace.into(),
        resource: "pods".into(),
        subresource: "binding".into(),
        name: name.into(),
        ..RequestInfo::default()
    };
    Context {
        server: context.server.clone(),
        audit: context.audit.part(&info),
        info: Arc::new(info),
        query: context.query.clone(),
        headers: context.headers.clone(),
        user: context.user.clone(),
        output: context.output,
        warnings: context.warnings.clone(),
        outside: context.outside.clone(),
        ..*context
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(items: usize) -> Bytes {
        Bytes::from(json!({ "items": vec![json!({}); items] }).to_string())
    }

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        assert_eq!(parse(&body(ITEMS_MAX)).unwrap().items.len(), ITEMS_MAX);
        for wrong in [
            body(0),
            body(ITEMS_MAX + 1),
            "[]".into(),
            "{".into(),
            "".into(),
        ] {
            assert_eq!(parse(&wrong).err().unwrap().code, 400, "{wrong:?}");
        }
    }

    #[test]
    fn items_belong_to_one_set_at_most_and_are_there() {
        let with = |together: Value| {
            let body = json!({"items": [{}, {}, {}], "together": together});
            parse(&Bytes::from(body.to_string())).map(|batch| batch.together.len())
        };
        let fine = json!([{"items": [2, 0], "atLeast": 2}, {"items": [1], "atLeast": 0}]);
        assert_eq!(with(fine).ok(), Some(2));
        for wrong in [
            json!([{"items": [], "atLeast": 0}]),
            json!([{"items": [0, 1], "atLeast": 3}]),
            json!([{"items": [3], "atLeast": 1}]),
            json!([{"items": [0, 0], "atLeast": 1}]),
            json!([{"items": [0], "atLeast": 1}, {"items": [0], "atLeast": 1}]),
            json!([{"items": [0], "atLeast": -1}]),
            json!([{"items": [0]}]),
            json!([{"items": [0], "atLeast": 1, "atMost": 1}]),
            json!({}),
        ] {
            let refused = with(wrong.clone()).err().map(|error| error.code);
            assert_eq!(refused, Some(400), "{wrong}");
        }
    }

    #[test]
    fn a_binding_is_decoded_the_same_without_its_text() {
        let plain = json!({"apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": "p\n", "namespace": "n", "uid": "\u{e9}\""}, "target": {"kind": "Node", "name": "a"}});
        let change = |pointer: &str, value: Value| {
            let mut changed = plain.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            changed
        };
        let mut more = plain.clone();
        more["metadata"]["labels"] = json!({});
        let mut less = plain.clone();
        less["target"].as_object_mut().unwrap().remove("kind");
        let mut odd = plain.clone();
        odd["spec"] = "".into();
        for (item, taken) in [
            (plain.clone(), true),
            (change("/kind", "Pod".into()), false),
            (change("/apiVersion", Value::Null), false),
            (change("/metadata/uid", "".into()), false),
            (change("/metadata/uid", 7.into()), false),
            (change("/target", json!([])), false),
            (more, false),
            (less, false),
            (odd, false),
            (json!([]), false),
        ] {
            let validation = FieldValidation::Strict;
            let short = decoded_as_it_is(&item, validation).map(Object::into_value);
            assert_eq!(short.is_some(), taken, "{item}");
            if let Some(short) = short {
                let schema = binding::BINDING.schema();
                let text = item.to_string();
                let long = schema::decode::json(schema, text.as_bytes(), validation).unwrap();
                assert_eq!(short, long.value);
            }
        }
    }

    #[test]
    fn the_work_is_known_before_it_is_done() {
        assert_eq!(count(&body(17)), 17);
        assert_eq!((count(&body(0)), count(&"{".into())), (1, 1));
        assert_eq!(count(&body(5_000)), 256);
    }

    #[test]
    fn a_pause_that_is_asked_for_is_in_the_status() {
        let error = ApiError::too_many_requests("later", 3);
        assert_eq!(told(&error)["details"]["retryAfterSeconds"], 3);
    }
}
