//! Resources that are answered and not stored: access reviews, token reviews, component statuses, bindings.

use auth::{Attributes, User};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use resources::Resource;
use schema::Object;
use schema::selector::{FieldSelector, FieldTerm, LabelSelector};
use serde_json::{Map, Value, json};

use crate::admission::{self, Admission, Operation};
use crate::authenticate;
use crate::context::Context;
use crate::decode::{self, Expected};
use crate::negotiate;
use crate::status::{ApiError, ApiResult};
use crate::subresources;

pub(crate) async fn handle(
    context: &Context,
    resource: &Resource,
    body: Bytes,
) -> ApiResult<Response> {
    if resource.plural == "componentstatuses" {
        return component_statuses(context, resource);
    }
    if context.info.verb != "create" || !context.info.name.is_empty() {
        return Err(ApiError::method_not_allowed(
            "the server does not allow this method on the requested resource",
        ));
    }
    if resource.plural == "bindings" {
        return subresources::binding::create(context, resource, &body).await;
    }
    let dry_run = context.dry_run("CreateOptions", None)?;
    let mut review = decode::object(context, Expected::of(resource), &body, "CreateOptions")?;
    let admission = Admission::new(context, Operation::Create, resource, "", dry_run);
    admission::mutate(&admission, Some(&mut review)).await?;
    if resource.namespaced {
        review.set_namespace(&context.info.namespace);
    }
    let errors = resource.validate(&review);
    if !errors.is_empty() {
        let (group, kind) = (&resource.group, &resource.kind);
        return Err(ApiError::invalid(group, kind, "", &errors));
    }
    admission::validate(&admission, Some(&review)).await?;
    let status = match &*resource.plural {
        "selfsubjectaccessreviews" => access(context, &review, User::clone(&context.user)).await,
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            access(context, &review, subject(&review)).await
        }
        "selfsubjectrulesreviews" => {
            let namespace = review.get_str(&["spec", "namespace"]).unwrap_or_default();
            if namespace.is_empty() {
                return Err(ApiError::bad_request("no namespace on request"));
            }
            context
                .server
                .authorizer
                .rules_review(&context.user, namespace)
        }
        "tokenreviews" => token_review(context, &review).await?,
        "selfsubjectreviews" => json!({ "userInfo": context.user.to_user_info() }),
        _ => return Err(ApiError::no_such_resource()),
    };
    if resource.plural == "selfsubjectreviews" {
        review.set_creation_timestamp(&schema::time::now_rfc3339(context.now));
    }
    review.set(&["status"], status);
    Ok(context.respond_value(StatusCode::CREATED, &review.into_value()))
}

/// The user that a SubjectAccessReview names.
fn subject(review: &Object) -> User {
    let texts = |path: &[&str]| -> Vec<String> {
        let list = review
            .get_array(path)
            .map(Vec::as_slice)
            .unwrap_or_default();
        list.iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let mut user = User::new(
        review.get_str(&["spec", "user"]).unwrap_or_default(),
        texts(&["spec", "groups"]),
    );
    user.uid = review
        .get_str(&["spec", "uid"])
        .unwrap_or_default()
        .to_owned();
    for (key, values) in review.get_object(&["spec", "extra"]).into_iter().flatten() {
        let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
        user.extra.insert(
            key.clone(),
            values
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        );
    }
    user
}

async fn access(context: &Context, review: &Object, user: User) -> Value {
    let about = review.get_object(&["spec", "resourceAttributes"]);
    let path = review.get_object(&["spec", "nonResourceAttributes"]);
    let text = |from: Option<&Map<String, Value>>, field: &str| {
        from.and_then(|map| map.get(field))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let fields: Vec<String> = [
        "verb",
        "group",
        "version",
        "resource",
        "subresource",
        "namespace",
        "name",
    ]
    .iter()
    .map(|field| text(about, field))
    .collect();
    let (field_selector, field_problem) = selector(about, "fieldSelector", field_terms);
    let (label_selector, label_problem) = selector(about, "labelSelector", label_terms);
    let (path_verb, path_text) = (text(path, "verb"), text(path, "path"));
    let attributes = if about.is_some() {
        Attributes {
            verb: &fields[0],
            group: &fields[1],
            version: match &*fields[2] {
                "" => "*",
                version => version,
            },
            resource: &fields[3],
            subresource: &fields[4],
            namespace: &fields[5],
            name: &fields[6],
            field_selector: &field_selector,
            label_selector: &label_selector,
            ..Attributes::default()
        }
    } else {
        Attributes {
            verb: &path_verb,
            path: &path_text,
            ..Attributes::default()
        }
    };
    let authorizer = &context.server.authorizer;
    let decision = authorizer.authorize(&user, &attributes).await;
    let mut status = json!({ "allowed": decision.allowed });
    if decision.denied {
        status["denied"] = true.into();
    }
    let own = Some(decision.error).filter(|error| !error.is_empty());
    let problems = own.into_iter().chain(field_problem).chain(label_problem);
    let problems: Vec<String> = problems.collect();
    if !problems.is_empty() {
        status["evaluationError"] = problems.join("; ").into();
    }
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    status
}

/// A selector of a review as the query of a request would have it, and what is said where not all of it can be read: what is
/// left out only asks about more.
fn selector(
    about: Option<&Map<String, Value>>,
    field: &str,
    read: fn(Asked<'_>) -> Option<String>,
) -> (String, Option<String>) {
    let Some(selector) = about
        .and_then(|about| about.get(field))
        .filter(|one| one.is_object())
    else {
        return (String::new(), None);
    };
    let requirements = selector["requirements"].as_array();
    let requirements = requirements.map(Vec::as_slice).unwrap_or_default();
    let raw = selector["rawSelector"].as_str().unwrap_or_default();
    let terms: Vec<Option<String>> = match requirements {
        [] => vec![read(Asked::Raw(raw))],
        terms => terms.iter().map(|one| read(Asked::Term(one))).collect(),
    };
    let count = terms.len();
    let known: Vec<String> = terms.into_iter().flatten().collect();
    let how = match known.len() {
        all if all == count => None,
        0 => Some("ignored"),
        _ => Some("partially ignored"),
    };
    let problem =
        how.map(|how| format!("spec.resourceAttributes.{field} {how} due to parse error"));
    (known.join(","), problem)
}

/// What a review says of a selector: all of it as text, or one term.
enum Asked<'a> {
    Raw(&'a str),
    Term(&'a Value),
}

/// The text of what can be read of a field selector.
fn field_terms(asked: Asked<'_>) -> Option<String> {
    let term = match asked {
        Asked::Raw(text) => return FieldSelector::parse(text).ok().map(|_| text.to_owned()),
        Asked::Term(term) => term,
    };
    let equal = match term["operator"].as_str()? {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    let [value] = term["values"].as_array()?.as_slice() else {
        return None;
    };
    let term = FieldTerm {
        field: term["key"].as_str()?.to_owned(),
        equal,
        value: value.as_str()?.to_owned(),
    };
    let selector = FieldSelector { terms: vec![term] };
    let text = selector.to_string();
    // A key may look like a term of its own.
    (FieldSelector::parse(&text).ok()? == selector).then_some(text)
}

/// The same of a label selector.
fn label_terms(asked: Asked<'_>) -> Option<String> {
    let term = match asked {
        Asked::Raw(text) => return LabelSelector::parse(text).ok().map(|_| text.to_owned()),
        Asked::Term(term) => term,
    };
    let selector = LabelSelector::from_object(Some(&json!({ "matchExpressions": [term] })));
    let selector = selector.ok()?;
    let text = selector.to_string();
    (LabelSelector::parse(&text).ok()? == selector).then_some(text)
}

/// For whom a token is to be good, as the review says, or else for this API.
pub(crate) fn audiences(review: &Object, own: &[String]) -> Vec<String> {
    let asked = review.get_array(&["spec", "audiences"]);
    let asked = asked.into_iter().flatten().filter_map(Value::as_str);
    let asked: Vec<String> = asked.map(str::to_owned).collect();
    if asked.is_empty() {
        own.to_vec()
    } else {
        asked
    }
}

async fn token_review(context: &Context, review: &Object) -> ApiResult<Value> {
    let token = review.get_str(&["spec", "token"]).unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let audiences = audiences(review, &context.server.config.api_audiences);
    Ok(
        match authenticate::user_of_token(&context.server, token, &audiences, context.now).await {
            Ok((user, good_for)) => {
                json!({ "authenticated": true, "user": user.to_user_info(), "audiences": good_for })
            }
            Err(error) => {
                // Where the server could not find out, it is not the token's fault.
                let why = (error.code == 401).then(|| {
                    authenticate::refusal_of(&context.server, token, &audiences, context.now)
                });
                let why = why.flatten();
                let why = why.as_deref().unwrap_or("unknown");
                json!({ "user": {}, "error": format!("[invalid bearer token, {why}]") })
            }
        },
    )
}

/// The deprecated health list. Everything runs in this process, so everything is as healthy as it.
fn component_statuses(context: &Context, resource: &Resource) -> ApiResult<Response> {
    context.warn("v1 ComponentStatus is deprecated in v1.19+");
    let leader = context.server.store.status().leader_id != 0;
    let status = |name: &str, healthy: bool| {
        json!({
            "kind": "ComponentStatus", "apiVersion": "v1",
            "metadata": { "name": name, "creationTimestamp": null },
            "conditions": [{
                "type": "Healthy", "status": if healthy { "True" } else { "False" },
                "message": if healthy { "ok" } else { "no leader" }
            }]
        })
    };
    let items = [
        status("controller-manager", true),
        status("etcd-0", leader),
        status("scheduler", true),
    ];
    let objects: Vec<Object> = items
        .into_iter()
        .filter_map(|item| Object::new(item).ok())
        .collect();
    if context.info.verb == "get" {
        let object = objects
            .into_iter()
            .find(|object| object.name() == context.info.name);
        let object = object.ok_or_else(|| context.not_found(resource, &context.info.name))?;
        return Ok(context.respond_object(StatusCode::OK, resource, object));
    }
    if let negotiate::Form::Table { version, include } = context.output.form {
        let table = negotiate::table(
            resource,
            &objects,
            json!({}),
            (version, include),
            true,
            context.now,
        );
        return Ok(context.respond_value(StatusCode::OK, &table));
    }
    let items: Vec<Value> = objects.into_iter().map(Object::into_value).collect();
    let list = json!({ "kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": items });
    Ok(context.respond_value(StatusCode::OK, &list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_of_reviews_are_read_as_far_as_they_can_be() {
        let part = |how: &str| {
            Some(format!(
                "spec.resourceAttributes.f {how} due to parse error"
            ))
        };
        let read = |said: Value, read: fn(Asked<'_>) -> Option<String>| {
            let about = json!({ "f": said });
            selector(about.as_object(), "f", read)
        };
        let fields = |said| read(said, field_terms);
        let labels = |said| read(said, label_terms);
        let of = |requirements: Value| json!({ "requirements": requirements });
        let same = |text: &str| (text.to_owned(), None::<String>);
        assert_eq!(fields(Value::Null), same(""));
        assert_eq!(fields(json!({"rawSelector": "a=b,c!=d"})), same("a=b,c!=d"));
        assert_eq!(
            fields(json!({"rawSelector": "a"})),
            (String::new(), part("ignored"))
        );
        let node = json!({"key": "spec.nodeName", "operator": "In", "values": ["n,1"]});
        let not = json!({"key": "a", "operator": "NotIn", "values": ["b"]});
        assert_eq!(
            fields(of(json!([node, not]))),
            same("spec.nodeName=n\\,1,a!=b")
        );
        for odd in [
            json!({"key": "a", "operator": "Exists"}),
            json!({"key": "a", "operator": "In", "values": ["b", "c"]}),
            json!({"key": "a", "operator": "Other", "values": ["b"]}),
            json!({"key": "x=y,a", "operator": "In", "values": ["b"]}),
        ] {
            assert_eq!(
                fields(of(json!([odd]))),
                (String::new(), part("ignored")),
                "{odd}"
            );
            assert_eq!(
                fields(of(json!([odd, not]))),
                ("a!=b".to_owned(), part("partially ignored"))
            );
        }
        let among = json!({"key": "app", "operator": "In", "values": ["b", "a"]});
        let there = json!({"key": "tier", "operator": "Exists"});
        assert_eq!(labels(of(json!([among, there]))), same("app in (a,b),tier"));
        let odd = json!({"key": "app", "operator": "Near", "values": ["b"]});
        assert_eq!(
            labels(of(json!([odd, there]))),
            ("tier".to_owned(), part("partially ignored"))
        );
    }
}
