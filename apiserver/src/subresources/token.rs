//! `serviceaccounts/token`: a bound token for a service account.

use std::sync::Arc;

use auth::token::{
    EXPIRATION_SECONDS_DEFAULT, EXPIRATION_SECONDS_MAX, EXPIRATION_SECONDS_MIN, Reference, Request,
};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use resources::Resource;
use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::{Value, json};

use crate::admission::{self, Admission, Operation};
use crate::context::Context;
use crate::decode::{self, Expected};
use crate::reviews;
use crate::status::{ApiError, ApiResult};

const TOKEN_REQUEST: Expected<'static> = Expected {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenRequest",
    custom: None,
};

pub(super) async fn create(
    context: &Context,
    resource: &Resource,
    body: &Bytes,
) -> ApiResult<Response> {
    let dry_run = context.dry_run("CreateOptions", None)?;
    let mut review = decode::object(context, TOKEN_REQUEST, body, "CreateOptions")?;
    let (namespace, name) = (context.info.namespace.as_str(), context.info.name.as_str());
    let account = find(context, "serviceaccounts", namespace, name).await?;
    let admission = Admission::new(context, Operation::Create, resource, "token", dry_run)
        .carrying(TOKEN_REQUEST);
    admission::mutate(&admission, Some(&mut review)).await?;
    admission::validate(&admission, Some(&review)).await?;
    let seconds = review
        .get_i64(&["spec", "expirationSeconds"])
        .unwrap_or(EXPIRATION_SECONDS_DEFAULT);
    let path = Path::new("spec").child("expirationSeconds");
    let problem = if seconds < EXPIRATION_SECONDS_MIN {
        Some("may not specify a duration less than 10 minutes")
    } else if seconds > EXPIRATION_SECONDS_MAX {
        Some("may not specify a duration larger than 2^32 seconds")
    } else {
        None
    };
    if let Some(problem) = problem {
        let error = FieldError::invalid(&path, seconds, problem);
        return Err(ApiError::invalid(
            "authentication.k8s.io",
            "TokenRequest",
            "",
            &[error],
        ));
    }
    let own = &context.server.config.api_audiences;
    let audiences = reviews::audiences(&review, own);
    let mut request = Request {
        namespace: namespace.to_owned(),
        service_account: reference(&account),
        for_api: audiences.iter().all(|audience| own.contains(audience)),
        audiences,
        expiration_seconds: seconds,
        ..Request::default()
    };
    bind(context, &review, &account, &mut request).await?;
    let id = crate::chance::uuid().to_string();
    let token = context
        .server
        .account_tokens
        .now()
        .signer
        .issue(&request, context.now, &id)
        .map_err(ApiError::internal)?;
    review.set_name(name);
    review.set_namespace(namespace);
    review.set_creation_timestamp(&schema::time::now_rfc3339(context.now));
    review.set(&["spec", "audiences"], json!(request.audiences));
    review.set(&["spec", "expirationSeconds"], seconds);
    review.set_default(&["spec", "boundObjectRef"], Value::Null);
    let expires = schema::time::now_rfc3339(context.now.saturating_add(seconds));
    review.set(
        &["status"],
        json!({ "token": token, "expirationTimestamp": expires }),
    );
    Ok(context.respond_value(StatusCode::CREATED, &review.into_value()))
}

async fn find(context: &Context, plural: &str, namespace: &str, name: &str) -> ApiResult<Object> {
    let resource = resources::find("", "v1", plural).ok_or_else(ApiError::no_such_resource)?;
    let key = resources::storage_key(resource, namespace, name);
    let current = context.server.current(resource, &key, true).await?;
    let current = current.ok_or_else(|| ApiError::not_found("", plural, name))?;
    Ok(Arc::unwrap_or_clone(current.object))
}

fn reference(object: &Object) -> Reference {
    Reference {
        name: object.name().to_owned(),
        uid: object.uid().to_owned(),
    }
}

/// Ties the token to the pod, secret or node that the request names: it dies with it.
async fn bind(
    context: &Context,
    review: &Object,
    account: &Object,
    request: &mut Request,
) -> ApiResult<()> {
    let Some(bound) = review.get_object(&["spec", "boundObjectRef"]) else {
        return Ok(());
    };
    let text = |field: &str| bound.get(field).and_then(Value::as_str).unwrap_or_default();
    let namespace = context.info.namespace.as_str();
    let plural = match (text("apiVersion"), text("kind")) {
        ("v1", "Pod") => "pods",
        ("v1", "Secret") => "secrets",
        ("v1", "Node") => "nodes",
        (version, kind) => {
            // The core group has no name, and its slash all the same.
            let slash = if version.contains('/') { "" } else { "/" };
            return Err(ApiError::bad_request(format!(
                "cannot bind token for serviceaccount to object of type {slash}{version}, Kind={kind}"
            )));
        }
    };
    let object = find(
        context,
        plural,
        if plural == "nodes" { "" } else { namespace },
        text("name"),
    )
    .await?;
    if !text("uid").is_empty() && text("uid") != object.uid() {
        let cause = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(ApiError::conflict("", plural, object.name(), &cause));
    }
    match plural {
        "pods" => {
            let user = object
                .get_str(&["spec", "serviceAccountName"])
                .unwrap_or_default();
            if user != account.name() {
                return Err(ApiError::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    account.name()
                )));
            }
            request.pod = Some(reference(&object));
            if let Some(node) = object
                .get_str(&["spec", "nodeName"])
                .filter(|node| !node.is_empty())
            {
                let uid = context
                    .server
                    .world
                    .get("", "nodes", "", node)
                    .map(|entry| entry.object().uid().to_owned());
                request.node = Some(Reference {
                    name: node.to_owned(),
                    uid: uid.unwrap_or_default(),
                });
            }
        }
        "secrets" => request.secret = Some(reference(&object)),
        _ => request.node = Some(reference(&object)),
    }
    Ok(())
}
