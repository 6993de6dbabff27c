//! How a machine that knows nothing but a token comes to trust the cluster: the ConfigMap `kube-public/cluster-info` says where
//! the API is and who its authority is, anybody may read it, and there is a signature in it by each token that is meant for
//! that. A token signs with its secret, which is never shown.
//!
//! The ConfigMap, and the right to read it, are made here as kubeadm makes them, where there is no such ConfigMap. One that is
//! there is left as it is but for the signatures, and for the authority where it is in the form in which it is made here.

use crate::manager::{Body, Controller, TaskContext};
use crate::queue_names::queue_of;
use crate::token_cleaner::TOKEN;
use agent_runtime::kinds::{ConfigMap, Secret};
use agent_runtime::resource_ref::{CONFIG_MAPS, ROLE_BINDINGS, ROLES};
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::worker::{self, Next};
use agent_runtime::{ApiError, Key, PatchType, ResourceRef};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use ring::hmac;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "bootstrap-signer-controller",
    help: "publishes where the cluster is, signed by bootstrap tokens",
    workers: 1,
    body: Body::Task(run),
};

/// Name of the ConfigMap.
pub(crate) const NAME: &str = "cluster-info";
const NAMESPACE: &str = "kube-public";
const ROLE: &str = "kubeadm:bootstrap-signer-clusterinfo";
const CONTENT: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";
const SECRETS_NAMESPACE: &str = "kube-system";
const AUTHORITY: &str = "    certificate-authority-data: ";

fn run(context: TaskContext) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let queue = queue_of(CONTROLLER.name);
        let key = Key::new(NAMESPACE, NAME);
        queue.add(key.clone());
        let (keys, one) = (queue.clone(), key.clone());
        context.caches.cluster_infos.subscribe(move |change| {
            if change.latest().metadata.namespace == NAMESPACE {
                keys.add(one.clone());
            }
        });
        let keys = queue.clone();
        context.caches.bootstrap_tokens.subscribe(move |change| {
            if change.latest().metadata.namespace == SECRETS_NAMESPACE {
                keys.add(key.clone());
            }
        });
        let stop = context.stop.clone();
        worker::run(queue, CONTROLLER.workers, stop, move |_| {
            let context = context.clone();
            async move {
                match sync(&context).await {
                    Ok(None) => Next::Done,
                    Ok(Some(again)) => Next::After(again),
                    Err(error) => {
                        tracing::debug!(error = %error.message, "the cluster's information is signed later");
                        Next::Backoff
                    }
                }
            }
        })
        .await;
    })
}

/// One look; when to look again although nothing changes.
async fn sync(context: &TaskContext) -> Result<Option<Duration>, ApiError> {
    let now = timestamp::now();
    let ca_pem = &*context.cluster_ca_pem;
    let tokens = context
        .caches
        .bootstrap_tokens
        .in_namespace(SECRETS_NAMESPACE);
    let Some(map) = context.caches.cluster_infos.get(NAMESPACE, NAME) else {
        let url = &context.options.api_url;
        if !url.is_empty() && !ca_pem.is_empty() {
            publish(context, &kubeconfig(url, ca_pem)).await?;
        }
        return Ok(None);
    };
    if let Some(body) = patch(&map, &tokens, ca_pem, now) {
        let resource = &CONFIG_MAPS;
        let form = PatchType::Merge;
        let written = context.client.patch(resource, NAMESPACE, NAME, form, &body);
        match written.await {
            Err(error) if error.is_not_found() => {}
            other => _ = other?,
        }
    }
    Ok(next_end(&tokens, now))
}

/// Makes the ConfigMap, and before it the right of everybody to read it.
async fn publish(context: &TaskContext, content: &str) -> Result<(), ApiError> {
    for (resource, body) in published(content) {
        match context.client.create(&resource, NAMESPACE, &body).await {
            Err(error) if !error.is_already_exists() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What is made where there is no ConfigMap, in this order: of what is there already nothing is changed.
fn published(content: &str) -> [(ResourceRef, Value); 3] {
    let rbac = "rbac.authorization.k8s.io";
    let metadata = json!({"name": ROLE, "namespace": NAMESPACE});
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [NAME], "verbs": ["get"]});
    let role = json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": [rule]});
    let binding = json!({
        "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ROLE},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": "system:anonymous"}],
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": {CONTENT: content},
    });
    [(ROLES, role), (ROLE_BINDINGS, binding), (CONFIG_MAPS, map)]
}

/// A kubeconfig with nothing but where the API is and whose certificate it shows.
fn kubeconfig(url: &str, ca_pem: &str) -> String {
    let ca = STANDARD.encode(ca_pem);
    format!(
        "apiVersion: v1\nclusters:\n- cluster:\n{AUTHORITY}{ca}\n    server: {url}\n  name: \"\"\ncontexts: null\ncurrent-context: \"\"\nkind: Config\npreferences: {{}}\nusers: null\n"
    )
}

/// The content with the present authority, where it is one that was made here.
fn with_authority(content: &str, ca_pem: &str) -> Option<String> {
    let url = content
        .lines()
        .find_map(|line| line.strip_prefix("    server: "))?;
    let wanted = kubeconfig(url, ca_pem);
    let rest = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with(AUTHORITY));
        lines.map(str::to_owned).collect()
    };
    (!ca_pem.is_empty() && rest(content) == rest(&wanted)).then_some(wanted)
}

/// What makes the ConfigMap as it should be; refused where somebody has changed it meanwhile.
fn patch(map: &ConfigMap, tokens: &[Arc<Secret>], ca_pem: &str, now: Micros) -> Option<Value> {
    let data = changes(map, tokens, ca_pem, now)?;
    let meta = &map.metadata;
    let metadata = json!({"uid": meta.uid, "resourceVersion": meta.resource_version});
    Some(json!({"metadata": metadata, "data": data}))
}

/// What has to be written into the data of the ConfigMap; none where it is as it should be.
fn changes(map: &ConfigMap, tokens: &[Arc<Secret>], ca_pem: &str, now: Micros) -> Option<Value> {
    let present = map.data.get(CONTENT)?;
    let content = with_authority(present, ca_pem).unwrap_or_else(|| present.clone());
    let mut data = Map::new();
    if content != *present {
        data.insert(CONTENT.into(), content.clone().into());
    }
    let signatures: BTreeMap<String, String> = tokens
        .iter()
        .filter_map(|secret| Signer::of(secret, now))
        .map(|signer| (format!("{SIGNATURE}{}", signer.id), signer.sign(&content)))
        .collect();
    let old = map.data.keys().filter(|key| key.starts_with(SIGNATURE));
    for key in old.filter(|key| !signatures.contains_key(*key)) {
        data.insert(key.clone(), Value::Null);
    }
    for (key, signature) in signatures {
        if map.data.get(&key) != Some(&signature) {
            data.insert(key, signature.into());
        }
    }
    (!data.is_empty()).then(|| data.into())
}

/// When the next token ends, whose signature has to go then.
fn next_end(tokens: &[Arc<Secret>], now: Micros) -> Option<Duration> {
    let signers = tokens.iter().filter_map(|secret| Signer::of(secret, now));
    let ends = signers.filter_map(|signer| signer.end);
    let left = u64::try_from(ends.min()?.saturating_sub(now)).ok()?;
    Some(Duration::from_micros(left).max(Duration::from_secs(1)))
}

/// A token that may sign.
struct Signer {
    id: String,
    secret: String,
    end: Option<Micros>,
}

impl Signer {
    fn of(secret: &Secret, now: Micros) -> Option<Self> {
        let field = |name: &str| -> String {
            let raw = secret
                .data
                .get(name)
                .and_then(|text| STANDARD.decode(text).ok());
            raw.and_then(|raw| String::from_utf8(raw).ok())
                .unwrap_or_default()
        };
        let (id, key, expiration) = (
            field("token-id"),
            field("token-secret"),
            field("expiration"),
        );
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let is_id = id.len() == 6 && id.chars().all(is_plain);
        if secret.kind != TOKEN
            || secret.metadata.is_deleting()
            || secret.metadata.name != format!("bootstrap-token-{id}")
            || !is_id
            || key.is_empty()
            || field("usage-bootstrap-signing") != "true"
        {
            return None;
        }
        // An end that cannot be read has come, as where it is asked for who somebody is.
        let end = match expiration.as_str() {
            "" => None,
            text => Some(timestamp::parse(text).filter(|end| *end > now)?),
        };
        Some(Self {
            id,
            secret: key,
            end,
        })
    }

    /// A JSON Web Signature without the content, which stands beside it.
    fn sign(&self, content: &str) -> String {
        let header = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, self.id);
        let (header, payload) = (
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(content),
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let tag = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, object};

    fn now() -> Micros {
        timestamp::parse(NOW).unwrap()
    }

    fn token(id: &str, changes: &[(&str, &str)]) -> Arc<Secret> {
        let mut fields = BTreeMap::from([
            ("name", format!("bootstrap-token-{id}")),
            ("type", TOKEN.to_owned()),
            ("token-id", id.to_owned()),
            ("token-secret", "0123456789abcdef".to_owned()),
            ("usage-bootstrap-signing", "true".to_owned()),
        ]);
        fields.extend(
            changes
                .iter()
                .map(|(key, value)| (*key, (*value).to_owned())),
        );
        let (name, kind) = (fields.remove("name"), fields.remove("type"));
        let data: BTreeMap<&str, String> = fields
            .into_iter()
            .map(|(key, value)| (key, STANDARD.encode(value)))
            .collect();
        let secret = json!({"metadata": {"name": name, "namespace": SECRETS_NAMESPACE}, "type": kind, "data": data});
        Arc::new(serde_json::from_value(secret).unwrap())
    }

    /// The example of Kubernetes' own tests of these signatures.
    #[test]
    fn a_signature_is_the_one_that_kubernetes_makes() {
        let signer = Signer {
            id: "joshua".into(),
            secret: "my voice is my passcode".into(),
            end: None,
        };
        assert_eq!(
            signer.sign("Hello from the other side. I must have called a thousand times."),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
        );
    }

    #[test]
    fn only_tokens_that_are_meant_for_it_sign() {
        let signs =
            |changes: &[(&str, &str)]| Signer::of(&token("abcdef", changes), now()).is_some();
        assert!(signs(&[]));
        assert!(signs(&[("expiration", "2026-01-01T10:00:01Z")]));
        for change in [
            ("expiration", "2026-01-01T10:00:00Z"),
            ("expiration", "tomorrow"),
            ("usage-bootstrap-signing", "false"),
            ("usage-bootstrap-signing", ""),
            ("token-id", "abcdeg"),
            ("token-secret", ""),
            ("type", "Opaque"),
            ("name", "bootstrap-token-other1"),
        ] {
            assert!(!signs(&[change]), "{change:?}");
        }
        assert!(Signer::of(&token("ABCDEF", &[]), now()).is_none());
    }

    fn map(data: &Value) -> ConfigMap {
        object(&json!({"metadata": {"name": NAME}, "data": data}).to_string())
    }

    #[test]
    fn signatures_come_and_go_with_their_tokens() {
        let (a, b) = (token("aaaaaa", &[]), token("bbbbbb", &[]));
        let content = kubeconfig("https://10.0.0.1:6443", "CA");
        let sign = |token: &Secret| Signer::of(token, now()).unwrap().sign(&content);
        let stale = map(
            &json!({CONTENT: content, "jws-kubeconfig-aaaaaa": "old", "jws-kubeconfig-cccccc": "gone", "x": "y"}),
        );
        let tokens = [a.clone(), b.clone()];
        let written = changes(&stale, &tokens, "CA", now()).unwrap();
        let wanted = json!({
            "jws-kubeconfig-aaaaaa": sign(&a), "jws-kubeconfig-bbbbbb": sign(&b), "jws-kubeconfig-cccccc": null,
        });
        assert_eq!(written, wanted);
        let fresh = map(&json!({CONTENT: content, "jws-kubeconfig-aaaaaa": sign(&a)}));
        assert_eq!(changes(&fresh, &[a], "CA", now()), None);
        assert_eq!(
            changes(&map(&json!({"x": "y"})), &tokens, "CA", now()),
            None
        );
    }

    #[test]
    fn a_new_authority_is_told_and_signed_where_the_rest_is_ours() {
        let a = [token("aaaaaa", &[])];
        let (old, new) = (
            kubeconfig("https://h:1", "OLD"),
            kubeconfig("https://h:1", "NEW"),
        );
        let signature = Signer::of(&a[0], now()).unwrap().sign(&new);
        let written = changes(&map(&json!({ CONTENT: old })), &a, "NEW", now()).unwrap();
        assert_eq!(
            written,
            json!({CONTENT: new, "jws-kubeconfig-aaaaaa": signature})
        );
        for other in ["kind: Config\n", &format!("{old}# mine\n")] {
            let written = changes(&map(&json!({ CONTENT: other })), &[], "NEW", now());
            assert_eq!(written, None, "{other}");
        }
    }

    #[test]
    fn it_is_looked_again_when_a_token_ends() {
        let ends = |text: &str| token("aaaaaa", &[("expiration", text)]);
        let tokens = [
            ends("2026-01-01T10:01:00Z"),
            ends("2026-01-01T10:00:30Z"),
            token("bbbbbb", &[]),
        ];
        assert_eq!(next_end(&tokens, now()), Some(Duration::from_secs(30)));
        assert_eq!(next_end(&tokens[2..], now()), None);
    }
}
