//! Reads the current context of a kubeconfig file into a [`ClientConfig`].

use crate::client::{ClientConfig, Identity};
use base64::Engine;
use serde_json::Value;
use std::path::Path;

/// Reads and resolves a kubeconfig file; relative paths in it are relative to its directory.
pub fn load(path: &Path) -> Result<ClientConfig, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    parse(&text, path.parent().unwrap_or(Path::new(".")))
        .map_err(|e| format!("{}: {e}", path.display()))
}

/// Resolves the current context of a kubeconfig text.
pub fn parse(text: &str, directory: &Path) -> Result<ClientConfig, String> {
    let config: Value =
        serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
            .map_err(|e| format!("not YAML: {e}"))?;
    let current = config
        .get("current-context")
        .and_then(Value::as_str)
        .ok_or("no current-context")?;
    let context = named(&config, "contexts", current, "context")?;
    let cluster = named(&config, "clusters", text_of(context, "cluster")?, "cluster")?;
    let user = named(&config, "users", text_of(context, "user")?, "user")?;
    let ca_pem = material(cluster, "certificate-authority", directory)?.unwrap_or_default();
    let identity = if let Some(cert_pem) = material(user, "client-certificate", directory)? {
        let key_pem = material(user, "client-key", directory)?
            .ok_or("a client certificate without its key")?;
        Identity::Certificate { cert_pem, key_pem }
    } else if let Some(token) = user.get("token").and_then(Value::as_str) {
        Identity::Token(token.to_owned())
    } else if let Some(file) = user.get("tokenFile").and_then(Value::as_str) {
        let path = directory.join(file);
        Identity::Token(
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?,
        )
    } else {
        Identity::Anonymous
    };
    Ok(ClientConfig::new(
        vec![text_of(cluster, "server")?.to_owned()],
        ca_pem,
        identity,
    ))
}

fn named<'a>(config: &'a Value, list: &str, name: &str, field: &str) -> Result<&'a Value, String> {
    let entries = config
        .get(list)
        .and_then(Value::as_array)
        .ok_or_else(|| format!("no {list}"))?;
    let entry = entries
        .iter()
        .find(|e| e.get("name").and_then(Value::as_str) == Some(name));
    entry
        .and_then(|e| e.get(field))
        .ok_or_else(|| format!("{list} has no {name:?}"))
}

fn text_of<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("no {key}"))
}

/// `<key>-data` in base64, or the file named by `<key>`.
fn material(value: &Value, key: &str, directory: &Path) -> Result<Option<String>, String> {
    if let Some(data) = value.get(format!("{key}-data")).and_then(Value::as_str) {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data.trim())
            .map_err(|e| format!("{key}-data: {e}"))?;
        return String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| format!("{key}-data is not text"));
    }
    let Some(file) = value.get(key).and_then(Value::as_str) else {
        return Ok(None);
    };
    let path = directory.join(file);
    std::fs::read_to_string(&path)
        .map(Some)
        .map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_context_is_resolved() {
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- name: a\n  context: {cluster: c, user: u}\nclusters:\n- name: c\n  cluster: {server: 'https://h:1', certificate-authority-data: aGk=}\nusers:\n- name: u\n  user: {token: t}\n";
        let config = parse(text, Path::new("/")).unwrap();
        assert_eq!(config.servers, ["https://h:1"]);
        assert_eq!(config.ca_pem, "hi");
        assert!(matches!(config.identity, Identity::Token(t) if t == "t"));
        assert!(parse("current-context: b\n", Path::new("/")).is_err());
    }
}
