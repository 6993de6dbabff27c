//! What the expressions of policies and of the conditions of webhooks look at.

use std::borrow::Cow;

use auth::User;
use auth::request::Attributes;
use cel::admission::Inputs;
use cel::authorizer::{Authorizer, Check, Decision};
use resources::Resource;
use schema::Object;
use serde_json::Value;

use crate::ApiServer;
use crate::admission::Admission;
use crate::admission::webhook::{review, shaped};
use crate::context::Context;
use crate::status::ApiResult;

static NULL: Value = Value::Null;

/// Which of the inputs that take some work the expressions of an owner name. A text that only looks like it counts, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::admission) struct Named {
    request: bool,
    namespace: bool,
}

impl Named {
    /// What is named anywhere in the JSON of an owner.
    pub(in crate::admission) fn in_texts_of(owner: &Value) -> Named {
        match owner {
            Value::String(text) => Named {
                // `authorizer.requestResource` is made from it.
                request: text.contains("request"),
                namespace: text.contains("namespaceObject"),
            },
            Value::Array(list) => Named::in_any(list.iter()),
            Value::Object(fields) => Named::in_any(fields.values()),
            _ => Named::default(),
        }
    }

    fn in_any<'v>(values: impl Iterator<Item = &'v Value>) -> Named {
        values
            .map(Named::in_texts_of)
            .fold(Named::default(), |all, one| Named {
                request: all.request || one.request,
                namespace: all.namespace || one.namespace,
            })
    }
}

/// The request in one shape of its objects.
pub(in crate::admission) struct Seen<'a> {
    object: Option<Cow<'a, Object>>,
    old: Option<Cow<'a, Object>>,
    /// Null where nobody names it.
    request: Value,
}

/// An object as `shape` has it; the same where that is the shape of the request.
async fn in_shape<'a>(
    admission: &Admission<'_>,
    object: Option<&'a Object>,
    shape: &Resource,
) -> ApiResult<Option<Cow<'a, Object>>> {
    let Some(object) = object else {
        return Ok(None);
    };
    if std::ptr::eq(shape, admission.resource) {
        return Ok(Some(Cow::Borrowed(object)));
    }
    let shaped = shaped(admission, object, shape).await?;
    Ok(Some(Cow::Owned(shaped)))
}

impl<'a> Seen<'a> {
    pub(in crate::admission) async fn new(
        admission: &Admission<'a>,
        object: Option<&'a Object>,
        shape: &Resource,
        named: Named,
    ) -> ApiResult<Seen<'a>> {
        let request = match named.request {
            true => request(admission, object, shape),
            false => Value::Null,
        };
        Ok(Seen {
            object: in_shape(admission, object, shape).await?,
            old: in_shape(admission, admission.old, shape).await?,
            request,
        })
    }

    pub(in crate::admission) fn inputs<'b>(
        &'b self,
        params: &'b Value,
        namespace: &'b Value,
        rights: &'b Rights<'_>,
    ) -> Inputs<'b> {
        let value =
            |object: &'b Option<Cow<'a, Object>>| object.as_ref().map(|object| object.value());
        Inputs {
            object: value(&self.object).unwrap_or(&NULL),
            old: value(&self.old).unwrap_or(&NULL),
            request: &self.request,
            params,
            namespace,
            authorizer: Some(rights),
        }
    }
}

/// The AdmissionRequest without its objects.
fn request<'a>(admission: &Admission<'a>, object: Option<&'a Object>, shape: &Resource) -> Value {
    let options = admission.options();
    let request = review::Request {
        uid: "",
        resource: shape,
        requested: admission.resource,
        subresource: admission.subresource,
        kind: admission.kind,
        name: admission.name(object),
        namespace: admission.namespace(object),
        operation: admission.operation,
        user: &admission.context.user,
        object: None,
        old: None,
        dry_run: admission.dry_run,
        options: &options,
    };
    let mut request = request.to_json("v1")["request"].take();
    if let Some(fields) = request.as_object_mut() {
        for field in ["uid", "object", "oldObject"] {
            fields.remove(field);
        }
    }
    request
}

/// The namespace of what is written, as policies see it; null for what is in none, and where nobody names it.
pub(in crate::admission) fn namespace(admission: &Admission<'_>, named: Named) -> Value {
    if !admission.resource.namespaced || !named.namespace {
        return Value::Null;
    }
    let name = &admission.context.info.namespace;
    let found = admission
        .context
        .server
        .world
        .get("", "namespaces", "", name);
    let Some(entry) = found else {
        return Value::Null;
    };
    let mut namespace = entry.object();
    for field in ["managedFields", "ownerReferences", "selfLink"] {
        namespace.metadata_mut().remove(field);
    }
    namespace.into_value()
}

/// What the user of the request may do.
pub(in crate::admission) struct Rights<'a> {
    server: &'a ApiServer,
    user: &'a User,
}

impl<'a> Rights<'a> {
    pub(in crate::admission) fn new(context: &'a Context) -> Rights<'a> {
        Rights {
            server: &context.server,
            user: &context.user,
        }
    }
}

impl Authorizer for Rights<'_> {
    fn decide(&self, check: &Check) -> Decision {
        let attributes = Attributes {
            verb: &check.verb,
            group: &check.group,
            version: "*",
            resource: &check.resource,
            subresource: &check.subresource,
            namespace: &check.namespace,
            name: &check.name,
            path: &check.path,
            field_selector: &check.field_selector,
            label_selector: &check.label_selector,
        };
        let decision = match &check.service_account {
            None => self
                .server
                .authorizer
                .authorize_in_place(self.user, &attributes),
            Some((namespace, name)) => {
                let account = User::service_account(namespace, name, "").authenticated();
                self.server
                    .authorizer
                    .authorize_in_place(&account, &attributes)
            }
        };
        Decision {
            allowed: decision.allowed,
            reason: decision.reason,
            error: decision.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_named_anywhere_is_made() {
        let named = |spec: &Value| {
            let Named { request, namespace } = Named::in_texts_of(spec);
            (request, namespace)
        };
        let with = |expression: &str| {
            json!({"failurePolicy": "Fail", "variables": [{"name": "v", "expression": "1"}],
                "validations": [{"expression": "object.spec.replicas < 5", "messageExpression": expression}]})
        };
        assert_eq!(named(&with("string(object.spec.replicas)")), (false, false));
        assert_eq!(named(&with("request.name")), (true, false));
        let check = "authorizer.requestResource.check('get').allowed() ? 'a' : 'b'";
        assert_eq!(named(&with(check)), (true, false));
        let both = "namespaceObject.metadata.name + request.operation";
        assert_eq!(named(&with(both)), (true, true));
        assert_eq!(named(&with("string(namespaceObject)")), (false, true));
        assert_eq!(named(&Value::Null), (false, false));
    }
}
