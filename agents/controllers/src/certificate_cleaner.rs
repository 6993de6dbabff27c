//! Signing requests of certificates that nobody needs any more are deleted: an hour after the certificate was issued or the
//! request denied or failed, or when the certificate ends before; a day after a request that nobody has decided about.

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::kinds::CertificateSigningRequest;
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::CERTIFICATE_SIGNING_REQUESTS;
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::{Key, Queue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "certificatesigningrequest-cleaner-controller",
    help: "deletes signing requests that are done with",
    workers: 1,
    body: Body::Keyed { wire, reconcile },
};

const DECIDED: Micros = timestamp::seconds(60 * 60);
const UNDECIDED: Micros = timestamp::seconds(24 * 60 * 60);

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.signing_requests.subscribe(move |change| {
        if change.new.is_some() {
            keys.add(Key::of(&change.latest().metadata));
        }
    });
}

pub(crate) fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(request) = world.caches.signing_requests.by_key(key) else {
        return Plan::none();
    };
    if request.metadata.is_deleting() {
        return Plan::none();
    }
    let Some(due) = due(&request) else {
        return Plan::none();
    };
    match u64::try_from(due.saturating_sub(world.now)) {
        Ok(left) if left > 0 => {
            let mut plan = Plan::none();
            plan.again(Duration::from_micros(left));
            plan
        }
        // It may have been approved just now.
        _ => Plan::of(vec![Op::delete_unchanged(
            &CERTIFICATE_SIGNING_REQUESTS,
            &request.metadata,
        )]),
    }
}

/// When the request is done with; never, while it is approved and waits for its certificate.
fn due(request: &CertificateSigningRequest) -> Option<Micros> {
    let status = &request.status;
    if status.conditions.is_empty() {
        return Some(request.metadata.created().saturating_add(UNDECIDED));
    }
    let ends = |kind: &str| match kind {
        "Approved" => !status.certificate.is_empty(),
        kind => matches!(kind, "Denied" | "Failed"),
    };
    let ended = status
        .conditions
        .iter()
        .filter(|condition| ends(&condition.kind));
    let times = ended.filter_map(|condition| {
        let updated = condition.last_update_time.as_deref();
        let changed = condition.last_transition_time.as_deref();
        updated.or(changed).and_then(timestamp::parse)
    });
    let decided = times.min().map(|time| time.saturating_add(DECIDED));
    let is_approved = status.conditions.iter().any(|c| c.kind == "Approved");
    let ended = is_approved.then(|| end(&status.certificate)).flatten();
    decided.into_iter().chain(ended).min()
}

/// When the certificate ends, where there is one that can be read.
fn end(certificate: &str) -> Option<Micros> {
    let text = STANDARD.decode(certificate).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    Some(timestamp::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    #[test]
    fn requests_go_when_they_are_done_with() {
        let plan = |created: &str, status: &str| {
            let text = format!(
                "kind: CertificateSigningRequest\nmetadata: {{name: r, creationTimestamp: '{created}'}}\nstatus: {{{status}}}\n"
            );
            reconcile(&Key::new("", "r"), &world(&text)).lines()
        };
        let gone = ["delete certificatesigningrequests.certificates.k8s.io r"];
        let condition = |kind: &str, time: &str| {
            format!(
                "conditions: [{{type: {kind}, status: 'True', lastUpdateTime: '2026-01-01T{time}:00Z'}}]"
            )
        };
        let today = "2026-01-01T08:00:00Z";
        assert_eq!(plan("2025-12-31T10:00:00Z", ""), gone);
        assert_eq!(plan("2025-12-31T10:00:01Z", ""), ["again in 1s"]);
        for kind in ["Denied", "Failed"] {
            assert_eq!(plan(today, &condition(kind, "09:00")), gone);
            assert_eq!(plan(today, &condition(kind, "09:01")), ["again in 60s"]);
        }
        let old = "2025-01-01T00:00:00Z";
        assert!(
            plan(old, &condition("Approved", "08:30")).is_empty(),
            "it may still be signed"
        );
        let issued = format!("certificate: eA==, {}", condition("Approved", "08:30"));
        assert_eq!(plan(old, &issued), gone);
        // A certificate of a shorter life is not kept for the whole hour.
        let short = |end: i64| {
            let mut params = rcgen::CertificateParams::default();
            let end = world("").now / 1_000_000 + end;
            params.not_after = time::OffsetDateTime::from_unix_timestamp(end).unwrap();
            let key = rcgen::KeyPair::generate().unwrap();
            let pem = STANDARD.encode(params.self_signed(&key).unwrap().pem());
            plan(
                today,
                &format!("certificate: {pem}, {}", condition("Approved", "09:45")),
            )
        };
        assert_eq!(short(0), gone);
        assert_eq!(short(60), ["again in 60s"]);
        assert_eq!(short(50 * 60), ["again in 2700s"]);
    }
}
