//! A webhook that says who may do what: a SubjectAccessReview, and its answer for a while.

use std::sync::Arc;

use auth::User;
use auth::request::{Attributes, Decision};
use cel::{Value as CelValue, Variables};
use schema::selector::{FieldSelector, LabelSelector, Operator};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::config::{WebhookSettings, review_type};
use crate::outgoing::kubeconfig::Target;
use crate::outgoing::review::Reviewer;
use crate::recent::{self, Recent};
use crate::world::World;

/// Longer questions are asked each time.
const KEPT_BYTES_MAX: usize = 10_000;

pub(super) struct AccessWebhook {
    settings: WebhookSettings,
    reviewer: Reviewer,
    answers: Recent<Decision>,
}

impl AccessWebhook {
    pub(super) fn new(world: &Arc<World>, settings: WebhookSettings) -> Result<Self, String> {
        let peer = Target::read(&settings.file)?.peer(world)?;
        Ok(AccessWebhook {
            reviewer: Reviewer::new(peer),
            settings,
            answers: Recent::default(),
        })
    }

    pub(super) async fn decide(&self, user: &User, attributes: &Attributes<'_>) -> Decision {
        let spec = spec(user, attributes);
        match self.concerns(&spec) {
            Ok(true) => {}
            Ok(false) => return Decision::no_opinion(""),
            Err(error) => return self.failed(error),
        }
        let text = spec.to_string();
        let key = recent::key([text.as_str()]);
        if let Some(known) = self.answers.get(&key, Instant::now()) {
            return known;
        }
        let group = "authorization.k8s.io";
        let review = json!({
            "kind": "SubjectAccessReview", "apiVersion": format!("{group}/{}", self.settings.version),
            "metadata": {"creationTimestamp": null}, "spec": spec, "status": {"allowed": false},
        });
        let answer = self.reviewer.ask(&review, self.settings.timeout).await;
        let decision = match answer {
            Ok(status) => decision(&status),
            Err(error) => {
                tracing::warn!(
                    webhook = self.settings.name,
                    error,
                    "an authorizer does not answer"
                );
                return self.failed(error);
            }
        };
        if text.len() <= KEPT_BYTES_MAX {
            let time = match decision.allowed {
                true => self.settings.authorized_time,
                false => self.settings.unauthorized_time,
            };
            self.answers
                .put(key, decision.clone(), time, Instant::now());
        }
        decision
    }

    /// What counts where there is no answer.
    fn failed(&self, error: String) -> Decision {
        let error = format!("webhook authorizer {:?}: {error}", self.settings.name);
        let decision = match self.settings.fails_closed {
            true => Decision::deny(""),
            false => Decision::no_opinion(""),
        };
        Decision { error, ..decision }
    }

    /// Whether all conditions hold. One that does not hold outweighs those that fail.
    fn concerns(&self, spec: &Value) -> Result<bool, String> {
        let ty = review_type();
        let mut failure = None;
        for condition in &self.settings.conditions {
            let variables = Variables::new().with("request", CelValue::json(spec, &ty));
            match condition.run(&variables, None).0 {
                Ok(CelValue::Bool(true)) => {}
                Ok(CelValue::Bool(false)) => return Ok(false),
                Ok(_) => failure = Some("a match condition is no bool".to_owned()),
                Err(error) => failure = Some(format!("a match condition failed: {error}")),
            }
        }
        failure.map_or(Ok(true), Err)
    }
}

/// What is asked, as a SubjectAccessReview has it.
fn spec(user: &User, attributes: &Attributes<'_>) -> Value {
    let fields = |pairs: &[(&str, &str)]| -> Map<String, Value> {
        let set = pairs.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect()
    };
    let mut spec = fields(&[("user", &user.name), ("uid", &user.uid)]);
    if attributes.is_resource_request() {
        let mut about = fields(&[
            ("namespace", attributes.namespace),
            ("verb", attributes.verb),
            ("group", attributes.group),
            ("version", attributes.version),
            ("resource", attributes.resource),
            ("subresource", attributes.subresource),
            ("name", attributes.name),
        ]);
        let selectors = [
            ("fieldSelector", fields_of(attributes.field_selector)),
            ("labelSelector", labels_of(attributes.label_selector)),
        ];
        for (name, requirements) in selectors {
            if !requirements.is_empty() {
                about.insert(name.to_owned(), json!({ "requirements": requirements }));
            }
        }
        spec.insert("resourceAttributes".to_owned(), about.into());
    } else {
        let about = fields(&[("path", attributes.path), ("verb", attributes.verb)]);
        spec.insert("nonResourceAttributes".to_owned(), about.into());
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        let extra = user.extra.iter();
        let extra: Map<String, Value> = extra
            .map(|(key, values)| (key.clone(), values.clone().into()))
            .collect();
        spec.insert("extra".to_owned(), extra.into());
    }
    spec.into()
}

/// The terms of a field selector, as a review has them. One that cannot be read narrows nothing.
fn fields_of(selector: &str) -> Vec<Value> {
    let selector = FieldSelector::parse(selector).unwrap_or_default();
    let terms = selector.terms.into_iter();
    terms
        .map(|term| {
            let operator = if term.equal { "In" } else { "NotIn" };
            json!({"key": term.field, "operator": operator, "values": [term.value]})
        })
        .collect()
}

/// The same of a label selector. A term that a review has no word for is left out: what is asked then is more.
fn labels_of(selector: &str) -> Vec<Value> {
    let selector = LabelSelector::parse(selector).unwrap_or_default();
    let requirements = selector.requirements().iter();
    requirements
        .filter_map(|one| {
            let operator = match one.operator {
                Operator::Equals | Operator::DoubleEquals | Operator::In => "In",
                Operator::NotEquals | Operator::NotIn => "NotIn",
                Operator::Exists => "Exists",
                Operator::DoesNotExist => "DoesNotExist",
                Operator::GreaterThan | Operator::LessThan => return None,
            };
            let mut said = json!({"key": one.key, "operator": operator});
            if !one.values.is_empty() {
                said["values"] = json!(one.values);
            }
            Some(said)
        })
        .collect()
}

/// What the status of a review says. One that says both is a refusal, whatever counts where there is no answer.
fn decision(status: &Value) -> Decision {
    let is = |field: &str| status[field] == Value::Bool(true);
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    let mut decision = match (is("allowed"), is("denied")) {
        (true, true) => Decision {
            error: "webhook subject access review returned both allow and deny response".to_owned(),
            ..Decision::deny(text("reason"))
        },
        (true, false) => Decision::allow(text("reason")),
        (false, true) => Decision::deny(text("reason")),
        (false, false) => Decision::no_opinion(text("reason")),
    };
    decision
        .reason
        .truncate(decision.reason.floor_char_boundary(1_024));
    decision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_narrows_a_list_is_told() {
        let user = User::new("jane", Vec::<String>::new());
        let about = |fields, labels| {
            let attributes = Attributes {
                verb: "list",
                resource: "pods",
                field_selector: fields,
                label_selector: labels,
                ..Attributes::default()
            };
            spec(&user, &attributes)["resourceAttributes"].clone()
        };
        let plain = json!({"verb": "list", "resource": "pods"});
        assert_eq!(about("", ""), plain);
        // What cannot be read, and what a review cannot say, narrows nothing.
        assert_eq!(about("spec.nodeName", "a in (b"), plain);
        assert_eq!(about("", "a>1"), plain);
        let all = about(
            "spec.nodeName=n,status.phase!=Failed",
            "!a,b in (y,x),c!=z,d",
        );
        assert_eq!(
            all["fieldSelector"]["requirements"],
            json!([{"key": "spec.nodeName", "operator": "In", "values": ["n"]},
                {"key": "status.phase", "operator": "NotIn", "values": ["Failed"]}])
        );
        assert_eq!(
            all["labelSelector"]["requirements"],
            json!([{"key": "a", "operator": "DoesNotExist"},
                {"key": "b", "operator": "In", "values": ["x", "y"]},
                {"key": "c", "operator": "NotIn", "values": ["z"]}, {"key": "d", "operator": "Exists"}])
        );
    }

    #[test]
    fn an_answer_that_says_both_refuses() {
        let both = decision(&json!({"allowed": true, "denied": true, "reason": "?"}));
        assert!(both.denied && !both.allowed && !both.error.is_empty());
    }

    #[test]
    fn questions_are_asked_as_kubernetes_asks_them() {
        let mut user = User::new("jane", ["dev"]);
        user.extra.insert("a".to_owned(), vec!["b".to_owned()]);
        let pods = Attributes {
            verb: "get",
            version: "v1",
            resource: "pods",
            namespace: "n",
            name: "p",
            ..Attributes::default()
        };
        assert_eq!(
            spec(&user, &pods),
            json!({"user": "jane", "groups": ["dev"], "extra": {"a": ["b"]},
                "resourceAttributes": {"namespace": "n", "verb": "get", "version": "v1", "resource": "pods", "name": "p"}})
        );
        let path = Attributes {
            verb: "get",
            path: "/version",
            ..Attributes::default()
        };
        let asked =
            json!({"user": "joe", "nonResourceAttributes": {"path": "/version", "verb": "get"}});
        assert_eq!(spec(&User::new("joe", [""; 0]), &path), asked);
    }

    #[test]
    fn answers_allow_deny_or_say_nothing() {
        let of = |status: Value| decision(&status);
        assert_eq!(
            of(json!({"allowed": true, "reason": "r"})),
            Decision::allow("r")
        );
        assert_eq!(
            of(json!({"allowed": false, "denied": true})),
            Decision::deny("")
        );
        for nothing in [
            json!({}),
            json!({"allowed": "true"}),
            json!({"allowed": 1, "denied": null}),
        ] {
            assert_eq!(of(nothing), Decision::no_opinion(""));
        }
        let long = of(json!({"reason": "\u{e9}".repeat(9_000)}));
        assert!(long.reason.len() <= 1_024);
    }
}
