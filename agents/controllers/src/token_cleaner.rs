//! Bootstrap tokens that have expired are deleted, at the moment they expire.

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::SECRETS;
use agent_runtime::{Key, Queue, timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "token-cleaner",
    help: "deletes bootstrap tokens that have expired",
    workers: 1,
    body: Body::Keyed { wire, reconcile },
};

/// The type of Secrets that are bootstrap tokens.
pub(crate) const TOKEN: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.bootstrap_tokens.subscribe(move |change| {
        if change.latest().metadata.namespace == NAMESPACE {
            keys.add(Key::of(&change.latest().metadata));
        }
    });
}

pub(crate) fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(secret) = world.caches.bootstrap_tokens.by_key(key) else {
        return Plan::none();
    };
    let Some(expiration) = secret
        .data
        .get("expiration")
        .filter(|text| !text.is_empty())
    else {
        return Plan::none();
    };
    if secret.kind != TOKEN || secret.metadata.is_deleting() {
        return Plan::none();
    }
    let bytes = STANDARD.decode(expiration).unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap_or_default();
    // What cannot be read counts as expired, as where it is asked for who somebody is.
    let left = timestamp::parse(&text).map_or(0, |at| at.saturating_sub(world.now));
    match u64::try_from(left) {
        Ok(left) if left > 0 => {
            let mut plan = Plan::none();
            plan.again(Duration::from_micros(left));
            plan
        }
        // Its time may have been made longer just now.
        _ => Plan::of(vec![Op::delete_unchanged(&SECRETS, &secret.metadata)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    #[test]
    fn tokens_go_when_they_expire() {
        let plan = |expiration: &str, kind: &str| {
            let data = match expiration {
                "" => String::new(),
                text => format!("expiration: {}", STANDARD.encode(text)),
            };
            let text = format!(
                "kind: Secret\nmetadata: {{name: t, namespace: kube-system}}\ntype: {kind}\ndata: {{{data}}}\n"
            );
            reconcile(&Key::new(NAMESPACE, "t"), &world(&text)).lines()
        };
        assert_eq!(
            plan("2026-01-01T09:59:59Z", TOKEN),
            ["delete secrets kube-system/t"]
        );
        assert_eq!(
            plan("2026-01-01T10:00:00Z", TOKEN),
            ["delete secrets kube-system/t"]
        );
        assert_eq!(plan("2026-01-01T10:01:00Z", TOKEN), ["again in 60s"]);
        assert_eq!(plan("tomorrow", TOKEN), ["delete secrets kube-system/t"]);
        assert!(plan("", TOKEN).is_empty());
        assert!(plan("2026-01-01T09:00:00Z", "Opaque").is_empty());
    }

    #[test]
    fn a_token_whose_time_was_made_longer_meanwhile_stays() {
        let expiration = STANDARD.encode("2026-01-01T09:00:00Z");
        let text = format!(
            "kind: Secret\nmetadata: {{name: t, namespace: kube-system, resourceVersion: '7'}}\ntype: {TOKEN}\ndata: {{expiration: {expiration}}}\n"
        );
        let plan = reconcile(&Key::new(NAMESPACE, "t"), &world(&text));
        let [Op::Delete { params, .. }] = plan.ops.as_slice() else {
            panic!("{plan:?}");
        };
        assert_eq!(params.resource_version.as_deref(), Some("7"));
    }
}
