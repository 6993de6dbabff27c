//! From a kubeconfig to the server, and from what a person calls a kind to the resource that it serves.

use std::path::Path;

use agents::{ApiError, Client, ResourceRef};
use anyhow::{Result, anyhow};
use serde_json::Value;

/// A client of the server that the current context of a kubeconfig names.
pub(crate) fn client(kubeconfig: &Path) -> Result<Client> {
    let config = agents::kubeconfig::load(kubeconfig)
        .map_err(|error| anyhow!("{error}; name a kubeconfig by --kubeconfig or KUBECONFIG"))?;
    Client::connect(config).map_err(|error| anyhow!(error))
}

/// The resource that `word` means: its plural, singular or short name or its kind, with or without its group
/// (`deployments.apps`). The core group comes first, as for kubectl.
pub(crate) async fn resource(client: &Client, word: &str) -> Result<ResourceRef> {
    let mut versions = vec![("/api/v1".to_owned(), String::new(), "v1".to_owned())];
    let groups = client.get_path("/apis").await.map_err(explained)?;
    for group in groups["groups"].as_array().into_iter().flatten() {
        let preferred = &group["preferredVersion"];
        if let (Some(name), Some(gv), Some(version)) = (
            group["name"].as_str(),
            preferred["groupVersion"].as_str(),
            preferred["version"].as_str(),
        ) {
            versions.push((format!("/apis/{gv}"), name.to_owned(), version.to_owned()));
        }
    }
    for (path, group, version) in versions {
        let list = client.get_path(&path).await.map_err(explained)?;
        if let Some(found) = in_list(&list, &group, &version, word) {
            return Ok(found);
        }
    }
    Err(anyhow!(
        "the server has no resource {word:?}; `kubectl api-resources` lists those that it has"
    ))
}

fn in_list(list: &Value, group: &str, version: &str, word: &str) -> Option<ResourceRef> {
    let word = word.to_lowercase();
    let name = match word.split_once('.') {
        Some((name, of)) if of == group && !group.is_empty() => name,
        Some(_) => return None,
        None => &word,
    };
    let is = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| text.to_lowercase() == name)
    };
    let resources = list["resources"].as_array()?;
    let found = resources.iter().find(|resource| {
        // Not a subresource.
        let whole = resource["name"]
            .as_str()
            .is_some_and(|name| !name.contains('/'));
        let short = resource["shortNames"].as_array().into_iter().flatten();
        let names = [
            &resource["name"],
            &resource["singularName"],
            &resource["kind"],
        ];
        whole && names.into_iter().chain(short).any(is)
    })?;
    Some(ResourceRef::new(
        group,
        version,
        found["name"].as_str()?,
        found["kind"].as_str()?,
        found["namespaced"].as_bool()?,
    ))
}

/// What the server said, or that none answered.
pub(crate) fn explained(error: ApiError) -> anyhow::Error {
    match error.code {
        0 => anyhow!(
            "the API server does not answer: {error}. `kontiki status` shows whether a cluster on this machine runs; \
             --kubeconfig or KUBECONFIG names another one"
        ),
        _ => anyhow!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_resource_has_many_names() {
        let list = json!({"resources": [
            {"name": "deployments/scale", "singularName": "", "kind": "Scale", "namespaced": true},
            {"name": "deployments", "singularName": "deployment", "kind": "Deployment", "namespaced": true, "shortNames": ["deploy"]},
        ]});
        let find = |word: &str| in_list(&list, "apps", "v1", word);
        for word in [
            "deployments",
            "deployment",
            "Deployment",
            "deploy",
            "deploy.apps",
        ] {
            let found = find(word).unwrap();
            assert_eq!((&*found.plural, found.namespaced), ("deployments", true));
        }
        for word in ["scale", "deployments/scale", "deploy.core", "pods", ""] {
            assert!(find(word).is_none(), "{word}");
        }
    }
}
