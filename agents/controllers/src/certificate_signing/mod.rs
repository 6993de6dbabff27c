//! Signs approved certificate requests of Kubernetes' own signers with the key of the cluster's authority, where this
//! process was given it. A request that a signer does not sign is marked as failed, with Kubernetes' words for why.

#[cfg(test)]
mod convergence;
mod issue;
pub(crate) mod request;
pub(crate) mod rules;
#[cfg(test)]
mod tests;

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::kinds::{CertificateSigningRequest, CertificateSigningRequestStatus, Condition};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::CERTIFICATE_SIGNING_REQUESTS;
use agent_runtime::{Key, Queue, SigningPair, timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use issue::Terms;
use request::Request;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-signing-controller",
    help: "signs the certificates of approved requests",
    workers: 2,
    body: Body::Keyed { wire, reconcile },
};

/// How often it is looked whether there is a key by now, or a usable one.
const KEY_AWAITED: Duration = Duration::from_secs(30);

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.signing_requests.subscribe(move |change| {
        if change.new.as_ref().is_some_and(|request| waits(request)) {
            keys.add(Key::of(&change.latest().metadata));
        }
    });
}

/// Whether it is one of ours and approved, and neither signed nor given up.
fn waits(request: &CertificateSigningRequest) -> bool {
    let status = &request.status;
    rules::is_own(&request.spec.signer_name)
        && status.certificate.is_empty()
        && holds(status, "Approved")
        && !holds(status, "Denied")
        && !holds(status, "Failed")
        && !request.metadata.is_deleting()
}

pub(crate) fn holds(status: &CertificateSigningRequestStatus, kind: &str) -> bool {
    // An absent status of a condition is one of before it had any, and means that it holds.
    let is_it = |c: &Condition| c.kind == kind && (c.is_true() || c.status.is_empty());
    status.conditions.iter().any(is_it)
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let request = world.caches.signing_requests.by_key(key);
    let Some(request) = request.filter(|request| waits(request)) else {
        world.ages(key, &[]);
        return Plan::none();
    };
    let name = &key.name;
    let spec = &request.spec;
    let read = match Request::read(&spec.request) {
        Ok(read) => read,
        Err(error) => {
            // It cannot change, so there is nothing to try again.
            tracing::warn!(%name, %error, "a certificate request cannot be read");
            return Plan::none();
        }
    };
    if let Err(text) = rules::check(&spec.signer_name, &read, &spec.usages) {
        return Plan::of(vec![failed(&request, text, world)]);
    }
    let pair = world.options.signing.pair();
    let answer = match pair {
        Some(pair) => sign(&request, &read, &pair, world),
        None => Err("this control plane has no key to sign certificates with".into()),
    };
    match answer {
        Ok(pem) => {
            world.ages(key, &[]);
            Plan::of(vec![write(
                &request,
                json!({"certificate": STANDARD.encode(pem)}),
            )])
        }
        Err(error) => {
            // Said once of each request, not at every look.
            if world.ages(key, std::slice::from_ref(&error)) == [Duration::ZERO] {
                tracing::warn!(%name, %error, "an approved certificate request stays unsigned");
            }
            let mut plan = Plan::none();
            plan.again(KEY_AWAITED);
            plan
        }
    }
}

fn sign(
    request: &CertificateSigningRequest,
    read: &Request,
    pair: &SigningPair,
    world: &World,
) -> Result<String, String> {
    let spec = &request.spec;
    let terms = Terms {
        usages: &spec.usages,
        seconds: spec.expiration_seconds,
        longest: world.options.signing_duration,
        now: world.now,
        serial: (u128::from(world.random_bits()) << 64) | u128::from(world.random_bits()),
    };
    issue::issue(read, pair, &terms)
}

fn failed(request: &CertificateSigningRequest, text: String, world: &World) -> Op {
    let now = Some(timestamp::time(world.now));
    let mut conditions = request.status.conditions.clone();
    conditions.push(Condition {
        kind: "Failed".into(),
        status: "True".into(),
        reason: "SignerValidationFailure".into(),
        message: text,
        last_update_time: now.clone(),
        last_transition_time: now,
        ..Condition::default()
    });
    write(request, json!({ "conditions": conditions }))
}

fn write(request: &CertificateSigningRequest, status: Value) -> Op {
    Op::status(&CERTIFICATE_SIGNING_REQUESTS, &request.metadata, status)
}
