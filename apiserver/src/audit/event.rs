//! An `Event` of `audit.k8s.io/v1`, from what is known of a request.

use std::collections::BTreeMap;

use auth::User;
use auth::impersonation::Mode;
use schema::Object;
use schema::time::now_rfc3339_micro;
use serde_json::{Map, Value, json};

use super::policy::{Stage, Verdict};
use crate::request::RequestInfo;

/// Kubernetes' limit of a user agent, in bytes.
const USER_AGENT_BYTES_MAX: usize = 1_024;

/// What is told of one request. Filled while it is served.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) verdict: Verdict,
    pub(super) id: String,
    pub(super) uri: String,
    pub(super) info: RequestInfo,
    pub(super) source_ips: Vec<String>,
    pub(super) user_agent: String,
    /// Microseconds since 1970.
    pub(super) received: i64,
    pub(super) user: User,
    pub(super) impersonated: Option<(User, Mode)>,
    /// Of the object that was sent: name, namespace, uid and resourceVersion.
    pub(super) sent: [String; 4],
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) request: Option<Value>,
    /// A Status; none before there is an answer.
    pub(super) status: Option<Value>,
    pub(super) response: Option<Value>,
}

/// Name, namespace, uid and resourceVersion.
pub(super) fn identity(object: &Object) -> [String; 4] {
    [
        object.name(),
        object.namespace(),
        object.uid(),
        object.resource_version(),
    ]
    .map(str::to_owned)
}

impl Facts {
    /// The event of a stage that is reached at `now`, in microseconds since 1970.
    pub(super) fn event(&self, stage: Stage, now: i64) -> Value {
        let mut event = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": self.verdict.level.name(),
            "auditID": self.id,
            "stage": stage.name(),
            "requestURI": self.uri,
            "verb": self.info.verb,
            "user": self.user.to_user_info(),
        });
        if let Some((user, mode)) = &self.impersonated {
            event["impersonatedUser"] = user.to_user_info();
            if let Some(constraint) = mode.constraint() {
                event["authenticationMetadata"] = json!({"impersonationConstraint": constraint});
            }
        }
        if !self.source_ips.is_empty() {
            event["sourceIPs"] = self.source_ips.clone().into();
        }
        if !self.user_agent.is_empty() {
            event["userAgent"] = cut(&self.user_agent).into();
        }
        if self.info.is_resource {
            event["objectRef"] = self.object_ref();
        }
        if let Some(status) = &self.status {
            event["responseStatus"] = status.clone();
        }
        for (field, object) in [
            ("requestObject", &self.request),
            ("responseObject", &self.response),
        ] {
            if let Some(object) = object {
                event[field] = object.clone();
            }
        }
        event["requestReceivedTimestamp"] = now_rfc3339_micro(self.received).into();
        event["stageTimestamp"] = now_rfc3339_micro(now).into();
        if !self.annotations.is_empty() {
            event["annotations"] = json!(self.annotations);
        }
        event
    }

    fn object_ref(&self) -> Value {
        let info = &self.info;
        let [name, namespace, uid, version] = &self.sent;
        let or = |first: &str, second: &str| match first {
            "" => second.to_owned(),
            first => first.to_owned(),
        };
        let fields = [
            ("resource", info.resource.clone()),
            ("namespace", or(&info.namespace, namespace)),
            ("name", or(&info.name, name)),
            ("uid", uid.clone()),
            ("apiGroup", info.group.clone()),
            ("apiVersion", info.version.clone()),
            ("resourceVersion", version.clone()),
            ("subresource", info.subresource.clone()),
        ];
        let known = fields.into_iter().filter(|(_, text)| !text.is_empty());
        let known = known.map(|(field, text)| (field.to_owned(), text.into()));
        Value::Object(known.collect::<Map<_, _>>())
    }
}

fn cut(user_agent: &str) -> String {
    if user_agent.len() <= USER_AGENT_BYTES_MAX {
        return user_agent.to_owned();
    }
    let mut end = USER_AGENT_BYTES_MAX;
    while !user_agent.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...TRUNCATED", &user_agent[..end])
}

/// The part of a Status that an event has.
pub(super) fn response_status(mut status: Value) -> Value {
    if let Some(fields) = status.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
        fields.entry("metadata").or_insert_with(|| json!({}));
    }
    status
}

/// An object without its managed fields, and a list without those of its items.
pub(super) fn without_managed_fields(mut object: Value) -> Value {
    let strip = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    strip(&mut object);
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(strip);
    }
    object
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::audit::policy::Level;
    use crate::request::Query;

    #[test]
    fn an_event_has_what_is_known_and_no_empty_fields() {
        let query = Query::default();
        let path = "/apis/apps/v1/namespaces/a/deployments";
        let mut facts = Facts {
            id: "one".into(),
            uri: format!("{path}?dryRun=All"),
            info: RequestInfo::parse(&Method::POST, path, &query),
            user: User::new("jane", ["dev"]),
            sent: ["d".into(), "a".into(), String::new(), String::new()],
            received: 1,
            ..Facts::default()
        };
        facts.verdict.level = Level::Metadata;
        let event = facts.event(Stage::RequestReceived, 2);
        assert_eq!(
            event,
            json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "one",
                "stage": "RequestReceived", "requestURI": "/apis/apps/v1/namespaces/a/deployments?dryRun=All",
                "verb": "create", "user": {"username": "jane", "groups": ["dev"]},
                "objectRef": {"resource": "deployments", "namespace": "a", "name": "d", "apiGroup": "apps", "apiVersion": "v1"},
                "requestReceivedTimestamp": "1970-01-01T00:00:00.000001Z", "stageTimestamp": "1970-01-01T00:00:00.000002Z"})
        );
        facts.user_agent = "x".repeat(2_000);
        let agent = facts.event(Stage::Panic, 2)["userAgent"].to_string();
        assert_eq!(agent.len(), 1_024 + "...TRUNCATED".len() + 2);
    }

    #[test]
    fn managed_fields_are_left_out_of_lists_too() {
        let object = json!({"metadata": {"name": "a", "managedFields": [1]}});
        let bare = json!({"metadata": {"name": "a"}});
        assert_eq!(without_managed_fields(object.clone()), bare);
        let list = json!({"items": [object], "metadata": {}});
        assert_eq!(
            without_managed_fields(list),
            json!({"items": [bare], "metadata": {}})
        );
    }
}
