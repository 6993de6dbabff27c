//! Every pod runs as a service account and, unless told otherwise, gets its token, the cluster CA and its namespace
//! as a projected volume.

use std::sync::LazyLock;
use std::time::Duration;

use resources::Resource;
use schema::Object;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::admission::Admission;
use crate::context::Context;
use crate::status::ApiResult;
use crate::verbs::create::suffix;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Kubernetes' lifetime of injected tokens; the signer knows it and extends the token behind it.
const TOKEN_SECONDS: i64 = 3_607;
/// How long a pod waits for the `default` account of a namespace that has only just been made.
const ACCOUNT_WAIT: Duration = Duration::from_secs(1);

fn account_name(pod: &Object) -> &str {
    let named = pod
        .get_str(&["spec", "serviceAccountName"])
        .filter(|name| !name.is_empty());
    named
        .or_else(|| {
            pod.get_str(&["spec", "serviceAccount"])
                .filter(|name| !name.is_empty())
        })
        .unwrap_or("default")
}

/// The account may have been made a moment ago by a controller or through another member.
pub(super) async fn prefetch(
    context: &Context,
    resource: &Resource,
    object: &Object,
) -> ApiResult<()> {
    if !resource.group.is_empty() || resource.plural != "pods" {
        return Ok(());
    }
    let server = &context.server;
    let (namespace, name) = (context.info.namespace.as_str(), account_name(object));
    let present = || {
        server
            .world
            .get("", "serviceaccounts", namespace, name)
            .is_some()
    };
    if present() {
        return Ok(());
    }
    server.world.wait_most_recent(&*server.store).await?;
    let namespace_exists = server.world.get("", "namespaces", "", namespace).is_some();
    if present() || name != "default" || !namespace_exists {
        return Ok(());
    }
    let Some(cache) = server.world.named("", "serviceaccounts") else {
        return Ok(());
    };
    let mut wake = cache.subscribe();
    let deadline = Instant::now() + ACCOUNT_WAIT;
    while !present() {
        if !matches!(
            tokio::time::timeout_at(deadline, wake.changed()).await,
            Ok(Ok(()))
        ) {
            break;
        }
    }
    Ok(())
}

pub(super) fn mutate(admission: &Admission<'_>, pod: &mut Object) -> ApiResult<()> {
    if !admission.creates("", "pods") || pod.annotation(MIRROR).is_some() {
        return Ok(());
    }
    let namespace = admission.context.info.namespace.as_str();
    let name = account_name(pod).to_owned();
    pod.set(&["spec", "serviceAccountName"], name.as_str());
    pod.set(&["spec", "serviceAccount"], name.as_str());
    let server = &admission.context.server;
    let Some(entry) = server.world.get("", "serviceaccounts", namespace, &name) else {
        let text = format!(
            "error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found"
        );
        return Err(admission.forbid(pod, &text));
    };
    let account = server.facts.accounts.of(&entry);
    let automount = pod
        .get_bool(&["spec", "automountServiceAccountToken"])
        .or(account.mounts_token)
        .unwrap_or(true);
    if automount {
        mount_token(pod, &suffix(&mut host::random()));
    }
    let own_secrets = pod
        .get_array(&["spec", "imagePullSecrets"])
        .is_some_and(|list| !list.is_empty());
    if let Some(secrets) = account.pull_secrets.as_ref().filter(|_| !own_secrets) {
        pod.set(&["spec", "imagePullSecrets"], secrets.clone());
    }
    Ok(())
}

fn mounts_token(container: &Value) -> bool {
    let mounts = container.get("volumeMounts").and_then(Value::as_array);
    mounts.is_some_and(|mounts| {
        mounts
            .iter()
            .any(|mount| mount.get("mountPath").and_then(Value::as_str) == Some(MOUNT_PATH))
    })
}

/// What is projected, the same for every pod: a copy takes less than to build it.
static PROJECTED: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "defaultMode": 420,
        "sources": [
            { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{
                "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" }
            }] } }
        ]
    })
});

fn projected(volume: String) -> Value {
    let mut fields = Map::new();
    fields.insert("name".to_owned(), Value::String(volume));
    fields.insert("projected".to_owned(), PROJECTED.clone());
    Value::Object(fields)
}

/// Adds the projected volume and mounts it wherever nothing is mounted at its place.
fn mount_token(pod: &mut Object, suffix: &str) {
    let existing = pod.get_array(&["spec", "volumes"]).and_then(|volumes| {
        volumes
            .iter()
            .filter_map(|volume| volume.get("name").and_then(Value::as_str))
            .find(|name| name.starts_with("kube-api-access-"))
            .map(str::to_owned)
    });
    let volume_exists = existing.is_some();
    let volume = existing.unwrap_or_else(|| format!("kube-api-access-{suffix}"));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let Some(Value::Array(containers)) = pod.get_mut(&["spec", list]) else {
            continue;
        };
        for container in containers
            .iter_mut()
            .filter(|container| !mounts_token(container))
        {
            let Some(container) = container.as_object_mut() else {
                continue;
            };
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            if mounts.is_null() {
                *mounts = json!([]);
            }
            if let Some(mounts) = mounts.as_array_mut() {
                mounts.push(json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH }));
                mounted = true;
            }
        }
    }
    if !mounted || volume_exists {
        return;
    }
    let projected = projected(volume);
    match pod
        .get_mut(&["spec", "volumes"])
        .and_then(Value::as_array_mut)
    {
        Some(volumes) => volumes.push(projected),
        None => pod.set(&["spec", "volumes"], Value::Array(vec![projected])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_mounted_where_nothing_else_is() {
        let mut pod = Object::new(json!({"spec": {"containers": [
            {"name": "a"}, {"name": "b", "volumeMounts": [{"name": "mine", "mountPath": MOUNT_PATH}]}]}})).unwrap();
        mount_token(&mut pod, "abcde");
        assert_eq!(
            pod.get(&["spec", "containers"]).unwrap()[0]["volumeMounts"][0]["name"],
            "kube-api-access-abcde"
        );
        assert_eq!(
            pod.get(&["spec", "containers"]).unwrap()[1]["volumeMounts"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        let volumes = pod.get_array(&["spec", "volumes"]).unwrap();
        let sources = json!([
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}]);
        let projected = json!({"defaultMode": 420, "sources": sources});
        let volume = json!({"name": "kube-api-access-abcde", "projected": projected});
        assert_eq!(*volumes, [volume]);
    }
}
