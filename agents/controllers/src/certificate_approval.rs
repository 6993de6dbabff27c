//! Approves the certificate requests of nodes: those that a node, or a machine that joins, makes for the identity of a node,
//! where whoever made it may do that. Whether he may is asked of the API, by a SubjectAccessReview.

use crate::certificate_signing::holds;
use crate::certificate_signing::request::Request;
use crate::certificate_signing::rules::{KUBELET_CLIENT, kubelet_client};
use crate::manager::{Body, Controller, TaskContext};
use crate::queue_names::queue_of;
use agent_runtime::kinds::{CertificateSigningRequest, Condition};
use agent_runtime::resource_ref::{CERTIFICATE_SIGNING_REQUESTS, SUBJECT_ACCESS_REVIEWS};
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::worker::{self, Next};
use agent_runtime::{ApiError, Key, PatchType};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-approving-controller",
    help: "approves the certificates of nodes",
    workers: 2,
    body: Body::Task(run),
};

/// The right that is needed, and what is said when it is there.
pub(crate) type Ground = (&'static str, &'static str);

const SELF: Ground = (
    "selfnodeclient",
    "Auto approving self kubelet client certificate after SubjectAccessReview.",
);
const OTHER: Ground = (
    "nodeclient",
    "Auto approving kubelet client certificate after SubjectAccessReview.",
);

fn run(context: TaskContext) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let queue = queue_of(CONTROLLER.name);
        let keys = queue.clone();
        context.caches.signing_requests.subscribe(move |change| {
            let undecided = |request: &Arc<CertificateSigningRequest>| is_undecided(request);
            if change.new.as_ref().is_some_and(undecided) {
                keys.add(Key::of(&change.latest().metadata));
            }
        });
        let stop = context.stop.clone();
        worker::run(queue, CONTROLLER.workers, stop, move |key| {
            let context = context.clone();
            async move {
                let request = context.caches.signing_requests.by_key(&key);
                let Some(request) = request else {
                    return Next::Done;
                };
                let (next, error) = match sync(&context, &request).await {
                    Ok(next) => (next, None),
                    Err(error) => (Next::Backoff, Some(error)),
                };
                if let Some(error) = error.filter(|error| !error.is_conflict()) {
                    tracing::warn!(request = %key.name, error = %error.message, "a certificate request is decided about later");
                }
                next
            }
        })
        .await;
    })
}

fn is_undecided(request: &CertificateSigningRequest) -> bool {
    let status = &request.status;
    request.spec.signer_name == KUBELET_CLIENT
        && status.certificate.is_empty()
        && !holds(status, "Approved")
        && !holds(status, "Denied")
        && !request.metadata.is_deleting()
}

async fn sync(
    context: &TaskContext,
    request: &CertificateSigningRequest,
) -> Result<Next, ApiError> {
    let grounds = grounds(request);
    for (right, text) in &grounds {
        let question = question(request, right);
        let reviews = &SUBJECT_ACCESS_REVIEWS;
        let answer = context.client.create(reviews, "", &question).await?;
        if answer["status"]["allowed"] != true {
            continue;
        }
        let patch = approval(request, text, timestamp::now());
        let name = &request.metadata.name;
        let resource = &CERTIFICATE_SIGNING_REQUESTS;
        let done =
            context
                .client
                .patch_sub(resource, "", name, "approval", PatchType::Merge, &patch);
        return match done.await {
            Ok(_) => Ok(Next::Done),
            Err(error) if error.is_not_found() => Ok(Next::Done),
            Err(error) => Err(error),
        };
    }
    if grounds.is_empty() {
        return Ok(Next::Done);
    }
    // The right may be given later, and a request does not change by that.
    tracing::debug!(request = %request.metadata.name, "recognized, but the subject access review was not approved");
    Ok(Next::Backoff)
}

/// The grounds on which it may be approved; none where it is not the request of a node.
pub(crate) fn grounds(request: &CertificateSigningRequest) -> Vec<Ground> {
    if !is_undecided(request) {
        return Vec::new();
    }
    let Ok(read) = Request::read(&request.spec.request) else {
        return Vec::new();
    };
    if kubelet_client(&read, &request.spec.usages).is_err() {
        return Vec::new();
    }
    let is_self = request.spec.username == read.common_name;
    let own = is_self.then_some(SELF);
    own.into_iter().chain([OTHER]).collect()
}

fn question(request: &CertificateSigningRequest, right: &str) -> Value {
    let spec = &request.spec;
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
            "resourceAttributes": {
                "group": "certificates.k8s.io", "version": "*", "resource": "certificatesigningrequests",
                "subresource": right, "verb": "create",
            },
        },
    })
}

pub(crate) fn approval(request: &CertificateSigningRequest, text: &str, now: Micros) -> Value {
    let meta = &request.metadata;
    let now = Some(timestamp::time(now));
    let mut conditions = request.status.conditions.clone();
    conditions.push(Condition {
        kind: "Approved".into(),
        status: "True".into(),
        reason: "AutoApproved".into(),
        message: text.into(),
        last_update_time: now.clone(),
        last_transition_time: now,
        ..Condition::default()
    });
    json!({
        "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
        "status": {"conditions": conditions},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn request(
        user: &str,
        name: &str,
        organization: &str,
        changes: Value,
    ) -> CertificateSigningRequest {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let mut object = json!({
            "metadata": {"name": "r", "uid": "u", "resourceVersion": "7"},
            "spec": {
                "signerName": KUBELET_CLIENT, "request": STANDARD.encode(pem), "username": user,
                "groups": ["g"], "extra": {"k": ["v"]}, "usages": ["digital signature", "client auth"],
            },
        });
        for (field, value) in changes.as_object().unwrap() {
            let place = if field == "status" {
                &mut object
            } else {
                &mut object["spec"]
            };
            place[field] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn nodes_are_recognized_by_what_they_ask_for() {
        const NODE: &str = "system:node:n1";
        let rights = |user: &str, name: &str, organization: &str, changes: Value| -> Vec<&str> {
            let request = request(user, name, organization, changes);
            grounds(&request).iter().map(|(right, _)| *right).collect()
        };
        let nodes = "system:nodes";
        assert_eq!(
            rights(NODE, NODE, nodes, json!({})),
            ["selfnodeclient", "nodeclient"]
        );
        assert_eq!(
            rights("system:bootstrap:abcdef", NODE, nodes, json!({})),
            ["nodeclient"]
        );
        assert_eq!(
            rights("system:node:n2", NODE, nodes, json!({})),
            ["nodeclient"]
        );
        let none: [&str; 0] = [];
        assert_eq!(rights(NODE, NODE, "dev", json!({})), none);
        assert_eq!(rights("jane", "jane", nodes, json!({})), none);
        for changes in [
            json!({"signerName": "kubernetes.io/kubelet-serving"}),
            json!({"usages": ["digital signature", "server auth"]}),
            json!({"request": "eA=="}),
            json!({"status": {"conditions": [{"type": "Denied", "status": "True"}]}}),
            json!({"status": {"conditions": [{"type": "Approved", "status": "True"}]}}),
            json!({"status": {"certificate": "eA=="}}),
        ] {
            assert_eq!(
                rights(NODE, NODE, nodes, changes.clone()),
                none,
                "{changes}"
            );
        }
    }

    #[test]
    fn it_is_asked_about_who_made_the_request_and_nothing_else_is_changed() {
        let request = request(
            "boot",
            "system:node:n1",
            "system:nodes",
            json!({"status": {"conditions": [{"type": "Other", "status": "True"}]}}),
        );
        let asked = question(&request, "nodeclient");
        assert_eq!(asked["spec"]["user"], "boot");
        assert_eq!(asked["spec"]["groups"], json!(["g"]));
        assert_eq!(asked["spec"]["extra"], json!({"k": ["v"]}));
        assert_eq!(
            asked["spec"]["resourceAttributes"]["subresource"],
            "nodeclient"
        );
        let patch = approval(&request, OTHER.1, timestamp::parse(NOW).unwrap());
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["status"]["conditions"][0]["type"], "Other");
        let condition = &patch["status"]["conditions"][1];
        assert_eq!(condition["reason"], "AutoApproved");
        assert_eq!(
            condition["message"],
            "Auto approving kubelet client certificate after SubjectAccessReview."
        );
    }
}
