//! Secrets with a token of a service account end with the account, and carry the cluster's authority beside the token. The
//! token itself is put in by the API server, with any write of a Secret that lacks it.

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::kinds::Secret;
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{SECRETS, SERVICE_ACCOUNTS};
use agent_runtime::{Key, Queue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "serviceaccount-token-controller",
    help: "completes Secrets with tokens of service accounts, and deletes those whose account is gone",
    workers: 1,
    body: Body::Keyed { wire, reconcile },
};

/// The type of these Secrets.
pub(crate) const TYPE: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .account_secrets
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let (keys, secrets) = (queue.clone(), caches.account_secrets.clone());
    caches.service_accounts.subscribe(move |change| {
        let account = &change.latest().metadata;
        for secret in secrets.in_namespace(&account.namespace) {
            if note(&secret, ACCOUNT) == account.name {
                keys.add(Key::of(&secret.metadata));
            }
        }
    });
}

fn note<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let note = secret.metadata.annotations.get(key);
    note.map(String::as_str).unwrap_or_default()
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(secret) = world.caches.account_secrets.by_key(key) else {
        return Plan::none();
    };
    let meta = &secret.metadata;
    let (name, uid) = (note(&secret, ACCOUNT), note(&secret, ACCOUNT_UID));
    if secret.kind != TYPE || name.is_empty() || meta.is_deleting() {
        return Plan::none();
    }
    let account = world.caches.service_accounts.get(&meta.namespace, name);
    let account = account.filter(|account| uid.is_empty() || account.metadata.uid == uid);
    let Some(account) = account else {
        // It may be so new that this cache has not seen it: the store has the last word.
        let absent = Op::Absent {
            resource: SERVICE_ACCOUNTS,
            namespace: meta.namespace.clone(),
            name: name.to_owned(),
            uid: uid.to_owned(),
        };
        return Plan::of(vec![absent, Op::delete(&SECRETS, meta)]);
    };
    if secret.immutable == Some(true) || is_complete(&secret, &world.cluster_ca_pem) {
        return Plan::none();
    }
    let notes = json!({ ACCOUNT_UID: account.metadata.uid });
    let mut body = json!({ "metadata": { "uid": meta.uid, "annotations": notes } });
    if !world.cluster_ca_pem.is_empty() {
        body["data"] = json!({ "ca.crt": STANDARD.encode(&*world.cluster_ca_pem) });
    }
    Plan::of(vec![Op::merge(&SECRETS, meta, body)])
}

/// Whether the Secret has a token, and the certificate of the cluster's authority where that is known.
fn is_complete(secret: &Secret, ca_pem: &str) -> bool {
    let has = |key: &str| secret.data.get(key).is_some_and(|value| !value.is_empty());
    let ca = secret.data.get("ca.crt").map(String::as_str);
    has("token") && (ca_pem.is_empty() || ca == Some(&*STANDARD.encode(ca_pem)))
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    const ACCOUNT_A: &str = "kind: ServiceAccount\nmetadata: {name: bot, namespace: ns, uid: a}\n";

    fn plan(account: &str, uid: &str, data: &str) -> Vec<String> {
        let notes = format!("{{{ACCOUNT}: bot, {ACCOUNT_UID}: '{uid}'}}");
        let metadata = format!("{{name: t, namespace: ns, uid: s, annotations: {notes}}}");
        let secret = format!("kind: Secret\nmetadata: {metadata}\ntype: {TYPE}\n{data}\n");
        let text = format!("{account}---\n{secret}");
        reconcile(&Key::new("ns", "t"), &world(&text)).lines()
    }

    #[test]
    fn the_authority_is_put_in_and_kept() {
        let done = "data: {token: eA==, ca.crt: Q0E=}";
        assert!(plan(ACCOUNT_A, "a", done).is_empty());
        let table = ["data: {}", "data: {token: eA==}", "data: {ca.crt: Q0E=}"];
        for data in table {
            let lines = plan(ACCOUNT_A, "a", data);
            let [line] = lines.as_slice() else {
                panic!("{data}: {lines:?}");
            };
            assert!(line.starts_with("patch secrets ns/t "), "{line}");
            assert!(line.contains(r#""data":{"ca.crt":"Q0E="}"#), "{line}");
        }
        assert!(plan(ACCOUNT_A, "a", "immutable: true").is_empty());
    }

    #[test]
    fn secrets_of_accounts_that_are_gone_go() {
        let table = [("", "a"), ("", ""), (ACCOUNT_A, "b")];
        for (account, uid) in table {
            let lines = plan(account, uid, "data: {token: eA==, ca.crt: Q0E=}");
            let last = lines.last().map(String::as_str);
            assert_eq!((lines.len(), last), (2, Some("delete secrets ns/t")));
        }
    }
}
