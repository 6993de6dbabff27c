//! What kubectl reads.

use anyhow::Result;

use crate::pki::{self, Pair};

/// A kubeconfig with one context a server: when a member is gone, `kubectl --context kontiki-2` goes to another.
pub(crate) fn kubeconfig(servers: &[String], ca_pem: &str, client: &Pair) -> Result<String> {
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let context = |index: usize| {
        if index == 0 {
            "kontiki".to_string()
        } else {
            format!("kontiki-{}", index + 1)
        }
    };
    let clusters: Vec<_> = servers.iter().enumerate().map(|(index, server)| {
        serde_json::json!({"name": context(index), "cluster": {"server": server, "certificate-authority-data": encode(ca_pem)}})
    }).collect();
    let contexts: Vec<_> = (0..servers.len()).map(|index| {
        serde_json::json!({"name": context(index), "context": {"cluster": context(index), "user": "kontiki-admin"}})
    }).collect();
    // JSON is YAML, which is all that kubectl asks for.
    Ok(serde_json::to_string_pretty(&serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "kontiki",
        "clusters": clusters, "contexts": contexts,
        "users": [{"name": "kontiki-admin", "user": {
            "client-certificate-data": encode(&pki::read(&client.cert)?),
            "client-key-data": encode(&pki::read(&client.key)?)}}],
    }))?)
}
