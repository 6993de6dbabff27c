//! Aggregated ClusterRoles: a role with an `aggregationRule` holds the rules of all roles its selectors pick.
//!
//! The controller that keeps them up to date calls [`due`] whenever a ClusterRole changes.

use schema::selector::LabelSelector;
use serde_json::Value;

/// The aggregated roles that do not hold what they should, by name, with the rules that they should hold.
///
/// What they hold now counts for nothing: rules are gathered from the roles that have their own. So roles that select one
/// another come to an end, and keep nothing alive among them that nobody grants any more.
pub fn due(roles: &[Value]) -> Vec<(&str, Vec<Value>)> {
    let mut gathered = roles.to_vec();
    let mut aggregated = 0;
    for role in gathered.iter_mut().filter(|role| is_aggregated(role)) {
        role["rules"] = Value::Array(Vec::new());
        aggregated += 1;
    }
    // Each pass carries rules at least one role further. Among roles that select one another the order need not settle, but
    // so many passes always come to the same.
    for _ in 0..=aggregated {
        let mut is_settled = true;
        for at in 0..gathered.len() {
            if let Some(wanted) = rules(&gathered[at], &gathered) {
                gathered[at]["rules"] = Value::Array(wanted);
                is_settled = false;
            }
        }
        if is_settled {
            break;
        }
    }
    let pairs = roles.iter().zip(&gathered);
    let pairs = pairs.filter(|(role, wanted)| {
        is_aggregated(role) && list(role.get("rules")) != list(wanted.get("rules"))
    });
    pairs
        .map(|(role, wanted)| (name(role), list(wanted.get("rules")).to_vec()))
        .collect()
}

/// Whether a role holds the rules of others, and none of its own.
pub fn is_aggregated(role: &Value) -> bool {
    role.get("aggregationRule").is_some_and(Value::is_object)
}

/// The rules that an aggregated role should hold now; `None` when the role does not aggregate or holds exactly
/// these rules already. A selector that does not parse picks nothing.
///
/// The order is that of Kubernetes: by selector, then by role name, each rule once.
fn rules<'a>(role: &Value, all: impl IntoIterator<Item = &'a Value>) -> Option<Vec<Value>> {
    let selectors = role
        .get("aggregationRule")
        .filter(|rule| rule.is_object())?
        .get("clusterRoleSelectors");
    let mut others: Vec<&Value> = all
        .into_iter()
        .filter(|other| name(other) != name(role))
        .collect();
    others.sort_by_key(|other| name(other));
    let mut wanted: Vec<Value> = Vec::new();
    for selector in list(selectors)
        .iter()
        .filter_map(|selector| LabelSelector::from_object(Some(selector)).ok())
    {
        for other in others
            .iter()
            .filter(|other| selector.matches(labels(other)))
        {
            for rule in list(other.get("rules")) {
                if !wanted.contains(rule) {
                    wanted.push(rule.clone());
                }
            }
        }
    }
    (list(role.get("rules")) != wanted).then_some(wanted)
}

fn name(role: &Value) -> &str {
    role.get("metadata")
        .and_then(|metadata| metadata.get("name"))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn labels(role: &Value) -> impl Iterator<Item = (&str, &str)> + Clone {
    let labels = role
        .get("metadata")
        .and_then(|metadata| metadata.get("labels"))
        .and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

fn list(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn role(name: &str, label: &str, resource: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]})
    }

    #[test]
    fn rules_are_gathered_once_in_order() {
        let all = [
            role("c", "to-admin", "secrets"),
            role("a", "to-admin", "pods"),
            role("b", "to-view", "nodes"),
            role("d", "to-admin", "pods"),
        ];
        let mut admin = json!({"metadata": {"name": "admin", "labels": {"to-admin": "true"}}, "aggregationRule": {"clusterRoleSelectors": [
            {"matchLabels": {"to-view": "true"}}, {"matchExpressions": [{"key": "to-admin", "operator": "In", "values": ["true"]}]}]}, "rules": [{"verbs": ["own"]}]});
        let with_self: Vec<&Value> = all.iter().chain([&admin]).collect();
        let gathered = rules(&admin, with_self).unwrap();
        let resources: Vec<&str> = gathered
            .iter()
            .map(|rule| rule["resources"][0].as_str().unwrap())
            .collect();
        assert_eq!(resources, ["nodes", "pods", "secrets"]);
        admin["rules"] = gathered.into();
        assert_eq!(rules(&admin, &all), None);
        assert_eq!(rules(&admin, &all[..0]), Some(vec![]));
    }

    fn aggregated(name: &str, own: &str, selected: &str, resource: &str) -> Value {
        let mut role = role(name, own, resource);
        let selector = json!({"matchLabels": {selected: "true"}});
        role["aggregationRule"] = json!({"clusterRoleSelectors": [selector]});
        role
    }

    #[test]
    fn roles_that_select_one_another_come_to_an_end() {
        let plain = role("c", "to-a", "pods");
        let mut all = vec![
            aggregated("a", "to-b", "to-a", "forgotten"),
            aggregated("b", "to-a", "to-b", "nodes"),
            plain.clone(),
        ];
        let pods: Vec<Value> = plain["rules"].as_array().unwrap().clone();
        assert_eq!(due(&all), [("a", pods.clone()), ("b", pods.clone())]);
        for role in &mut all {
            role["rules"] = pods.clone().into();
        }
        assert!(due(&all).is_empty());
    }

    #[test]
    fn other_roles_are_left_alone() {
        assert_eq!(rules(&role("a", "x", "pods"), []), None);
        assert_eq!(rules(&json!({"aggregationRule": null}), []), None);
        let broken = json!({"aggregationRule": {"clusterRoleSelectors": [{"matchExpressions": [{"key": "k", "operator": "??"}]}, 3]}});
        assert_eq!(rules(&broken, [&role("a", "k", "pods")]), None);
    }
}
