//! The logins at registries that the pull secrets of a pod hold.

use std::collections::BTreeMap;

use agent_runtime::watch::tree;
use base64::Engine;
use serde_json::Value;

use super::image_name::registry;
use crate::pod::env;
use crate::runtime::RegistryLogin;
use crate::spec::Pod;

/// The login for an image among the pod's pull secrets.
pub(super) fn login(
    pod: &Pod,
    image: &str,
    secrets: &BTreeMap<String, Option<Value>>,
) -> Option<RegistryLogin> {
    let registry = registry(image);
    let bare = |server: &str| {
        let server = server
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        let host = server.split('/').next().unwrap_or_default();
        if host == "docker.io" {
            "index.docker.io".to_owned()
        } else {
            host.to_owned()
        }
    };
    let named = pod
        .spec
        .image_pull_secrets
        .iter()
        .filter_map(|reference| secrets.get(&reference.name)?.as_ref());
    for secret in named {
        let mut data = env::entries(secret, true);
        let config = data.remove(".dockerconfigjson");
        let config = tree(&config.unwrap_or_default()).unwrap_or_default();
        let auths = config.get("auths").and_then(Value::as_object);
        let entry = auths
            .into_iter()
            .flatten()
            .find(|(server, _)| bare(server) == registry);
        if let Some((server, entry)) = entry {
            let text = |field: &str| {
                entry
                    .get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(text("auth"))
                .unwrap_or_default();
            let pair = String::from_utf8_lossy(&decoded).into_owned();
            let (username, password) = match pair.split_once(':') {
                Some((username, password)) => (username.to_owned(), password.to_owned()),
                None => (text("username"), text("password")),
            };
            return Some(RegistryLogin {
                server: server.clone(),
                username,
                password,
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn logins_are_found_by_registry() {
        let pod = Pod::decode(&json!({"spec": {"imagePullSecrets": [{"name": "s"}]}})).unwrap();
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": encode("hub:one")},
            "reg.io": {"username": "me", "password": "two"},
        }});
        let secret = json!({"data": {".dockerconfigjson": encode(&config.to_string())}});
        let secrets = [("s".to_owned(), Some(secret))].into();
        let found = |image: &str| {
            login(&pod, image, &secrets).map(|login| (login.username, login.password))
        };
        assert_eq!(found("nginx:1"), Some(("hub".into(), "one".into())));
        assert_eq!(found("reg.io/a"), Some(("me".into(), "two".into())));
        assert_eq!(found("other.io/a"), None);
    }
}
