//! Which resources the server serves, as the controllers that act on every kind need to know.

use agent_runtime::{ApiError, Client, ResourceRef};
use serde_json::Value;

/// A served resource and what can be done with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Served {
    pub(crate) resource: ResourceRef,
    pub(crate) verbs: Vec<String>,
}

impl Served {
    pub(crate) fn can(&self, verbs: &[&str]) -> bool {
        verbs
            .iter()
            .all(|verb| self.verbs.iter().any(|v| v == verb))
    }
}

/// What was found, and which groups could not be asked.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub(crate) served: Vec<Served>,
    pub(crate) failures: Vec<String>,
}

/// Asks for all resources, each in one version: the preferred one of its group where that has it. Fails only when the
/// groups themselves are unknown.
pub(crate) async fn discover(client: &Client) -> Result<Discovered, ApiError> {
    let mut found = Discovered::default();
    let groups = client.get_path("/apis").await?;
    let mut paths = vec![("/api/v1".to_owned(), "v1".to_owned())];
    let versions = versions_of(&groups).into_iter();
    paths.extend(versions.map(|version| (format!("/apis/{version}"), version)));
    for (path, version) in paths {
        match client.get_path(&path).await {
            Ok(list) => found.add(resources_of(&version, &list)),
            // A group that vanished in between is not a failure.
            Err(error) if error.is_not_found() => {}
            Err(error) => found.failures.push(format!("{version}: {}", error.message)),
        }
    }
    Ok(found)
}

impl Discovered {
    /// Takes in what no version before had.
    fn add(&mut self, served: Vec<Served>) {
        for one in served {
            let same = |known: &Served| {
                (&known.resource.group, &known.resource.plural)
                    == (&one.resource.group, &one.resource.plural)
            };
            if !self.served.iter().any(same) {
                self.served.push(one);
            }
        }
    }
}

/// All versions of all groups; of each group the preferred one first.
fn versions_of(groups: &Value) -> Vec<String> {
    let mut versions = Vec::new();
    let groups = groups.get("groups").and_then(Value::as_array);
    for group in groups.into_iter().flatten() {
        let preferred = group.get("preferredVersion");
        let others = group.get("versions").and_then(Value::as_array);
        for version in preferred.into_iter().chain(others.into_iter().flatten()) {
            if let Some(name) = version.get("groupVersion").and_then(Value::as_str)
                && !versions.iter().any(|known| known == name)
            {
                versions.push(name.to_owned());
            }
        }
    }
    versions
}

fn resources_of(group_version: &str, list: &Value) -> Vec<Served> {
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let entry = |entry: &Value| {
        let name = entry
            .get("name")
            .and_then(Value::as_str)
            .filter(|name| !name.contains('/'))?;
        let kind = entry.get("kind").and_then(Value::as_str)?;
        let namespaced = entry
            .get("namespaced")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let verbs = entry
            .get("verbs")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        Some(Served {
            resource: ResourceRef::new(group, version, name, kind, namespaced),
            verbs,
        })
    };
    list.get("resources")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(entry)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn subresources_are_left_out() {
        let list = json!({"resources": [{"name": "deployments", "kind": "Deployment", "namespaced": true, "verbs": ["list", "delete"]}, {"name": "deployments/scale", "kind": "Scale", "verbs": ["get"]}]});
        let found = resources_of("apps/v1", &list);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].resource.to_string(), "deployments.apps");
        assert!(found[0].can(&["list", "delete"]) && !found[0].can(&["watch"]));
    }
    #[test]
    fn what_only_an_older_version_has_is_found_there() {
        let groups = json!({"groups": [{"name": "x.io",
            "versions": [{"groupVersion": "x.io/v1beta1"}, {"groupVersion": "x.io/v1"}],
            "preferredVersion": {"groupVersion": "x.io/v1"}}, {"name": "empty.io"}]});
        assert_eq!(versions_of(&groups), ["x.io/v1", "x.io/v1beta1"]);
        let list = |plurals: &[&str]| {
            let entry = |plural: &&str| json!({"name": plural, "kind": plural, "verbs": ["list"]});
            json!({"resources": plurals.iter().map(entry).collect::<Vec<_>>()})
        };
        let mut found = Discovered::default();
        found.add(resources_of("x.io/v1", &list(&["as"])));
        found.add(resources_of("x.io/v1beta1", &list(&["as", "bs"])));
        found.add(resources_of("y.io/v1", &list(&["as"])));
        let found = found.served.iter().map(|served| {
            let resource = &served.resource;
            format!("{resource} {}", resource.version)
        });
        let found: Vec<_> = found.collect();
        assert_eq!(found, ["as.x.io v1", "bs.x.io v1beta1", "as.y.io v1"]);
    }
}
