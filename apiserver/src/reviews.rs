//! Resources that are answered and not stored: access reviews, token reviews, component statuses, bindings.

use auth::{Attributes, User};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::{Value, json};

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
    admission::validate(&admission, Some(&review)).await?;
    let status = match &*resource.plural {
        "selfsubjectaccessreviews" => {
            access(context, resource, &review, User::clone(&context.user)).await?
        }
        "subjectaccessreviews" => {
            access(context, resource, &review, subject(resource, &review)?).await?
        }
        "localsubjectaccessreviews" => {
            if review.get_str(&["spec", "resourceAttributes", "namespace"])
                != Some(context.info.namespace.as_str())
            {
                let path = Path::new("spec")
                    .child("resourceAttributes")
                    .child("namespace");
                let value = review
                    .get_str(&["spec", "resourceAttributes", "namespace"])
                    .unwrap_or_default();
                let error = FieldError::invalid(&path, value, "must match metadata.namespace");
                return Err(ApiError::invalid(
                    &resource.group,
                    &resource.kind,
                    "",
                    &[error],
                ));
            }
            review.set_namespace(&context.info.namespace);
            access(context, resource, &review, subject(resource, &review)?).await?
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
fn subject(resource: &Resource, review: &Object) -> ApiResult<User> {
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
    if user.name.is_empty() && user.groups.is_empty() {
        let error = FieldError::invalid(
            &Path::new("spec").child("user"),
            "",
            "at least one of user or group must be specified",
        );
        return Err(ApiError::invalid(
            &resource.group,
            &resource.kind,
            "",
            &[error],
        ));
    }
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
    Ok(user)
}

async fn access(
    context: &Context,
    resource: &Resource,
    review: &Object,
    user: User,
) -> ApiResult<Value> {
    let about = review.get_object(&["spec", "resourceAttributes"]);
    let path = review.get_object(&["spec", "nonResourceAttributes"]);
    let text = |from: Option<&serde_json::Map<String, Value>>, field: &str| {
        from.and_then(|map| map.get(field))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let spec = Path::new("spec");
    let problem = match (about, path) {
        (Some(_), Some(path)) => Some(FieldError::invalid(
            &spec.child("nonResourceAttributes"),
            Value::Object(path.clone()),
            "cannot be specified in combination with resourceAttributes",
        )),
        (None, None) => Some(FieldError::invalid(
            &spec.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => None,
    };
    if let Some(problem) = problem {
        return Err(ApiError::invalid(
            &resource.group,
            &resource.kind,
            "",
            &[problem],
        ));
    }
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
    let (path_verb, path_text) = (text(path, "verb"), text(path, "path"));
    let attributes = if about.is_some() {
        Attributes {
            verb: &fields[0],
            group: &fields[1],
            version: &fields[2],
            resource: &fields[3],
            subresource: &fields[4],
            namespace: &fields[5],
            name: &fields[6],
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
    if !decision.error.is_empty() {
        status["evaluationError"] = decision.error.into();
    }
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    Ok(status)
}

async fn token_review(context: &Context, review: &Object) -> ApiResult<Value> {
    let token = review.get_str(&["spec", "token"]).unwrap_or_default();
    if token.is_empty() {
        return Err(ApiError::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked: Vec<String> = review
        .get_array(&["spec", "audiences"])
        .map(|list| {
            list.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default();
    let audiences = if asked.is_empty() {
        context.server.config.api_audiences.clone()
    } else {
        asked
    };
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
