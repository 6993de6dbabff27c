//! A policy rule (`rbac.authorization.k8s.io/v1 PolicyRule`): what it matches, and what it covers.

use serde_json::{Map, Value};

use crate::request::Attributes;
use schema::field::go_quote;

/// One rule of a role. An empty list of resource names means every name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// Everything on every resource of every group.
    pub fn all_resources() -> Self {
        Rule {
            verbs: star(),
            api_groups: star(),
            resources: star(),
            ..Rule::default()
        }
    }

    /// Everything on every path.
    pub fn all_paths() -> Self {
        Rule {
            verbs: star(),
            non_resource_urls: star(),
            ..Rule::default()
        }
    }

    /// Reads one rule; fields of a wrong type count as absent, which can only take rights away.
    pub fn from_value(value: &Value) -> Self {
        let list = |field: &str| -> Vec<String> {
            let items = value
                .get(field)
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            items
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        Rule {
            verbs: list("verbs"),
            api_groups: list("apiGroups"),
            resources: list("resources"),
            resource_names: list("resourceNames"),
            non_resource_urls: list("nonResourceURLs"),
        }
    }

    /// The rules of a Role or ClusterRole object.
    pub fn list_from_role(role: &Value) -> Vec<Self> {
        let rules = role
            .get("rules")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        rules.iter().map(Rule::from_value).collect()
    }

    pub fn to_value(&self) -> Value {
        let mut value = Map::new();
        for (field, list) in self.fields() {
            if !list.is_empty() {
                value.insert(field.to_owned(), list.clone().into());
            }
        }
        Value::Object(value)
    }

    /// Does this rule allow the request?
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !attributes.is_resource_request() {
            return self.matches_verb(attributes.verb) && self.matches_path(attributes.path);
        }
        self.matches_verb(attributes.verb)
            && has(&self.api_groups, "*", attributes.group)
            && self.matches_resource(attributes.resource, attributes.subresource)
            && self.matches_name(attributes.name)
    }

    fn matches_verb(&self, verb: &str) -> bool {
        has(&self.verbs, "*", verb)
    }

    fn matches_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|own| {
            if own == "*" {
                return true;
            }
            match own.split_once('/') {
                None => subresource.is_empty() && own == resource,
                Some((left, right)) => {
                    !subresource.is_empty()
                        && right == subresource
                        && (left == "*" || left == resource)
                }
            }
        })
    }

    fn matches_name(&self, name: &str) -> bool {
        self.resource_names.is_empty() || self.resource_names.iter().any(|own| own == name)
    }

    fn matches_path(&self, path: &str) -> bool {
        self.non_resource_urls
            .iter()
            .any(|own| own == "*" || path_covers(own, path))
    }

    /// Splits into rules with at most one verb, group, resource and name each.
    fn break_down(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let part = Rule {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..Rule::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                    } else {
                        parts.extend(self.resource_names.iter().map(|name| Rule {
                            resource_names: one(name),
                            ..part.clone()
                        }));
                    }
                }
            }
        }
        for url in &self.non_resource_urls {
            parts.extend(self.verbs.iter().map(|verb| Rule {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..Rule::default()
            }));
        }
        parts
    }

    /// Does this rule allow everything that `part`, a rule out of `break_down`, allows?
    fn covers_part(&self, part: &Rule) -> bool {
        let names = self.resource_names.is_empty()
            || (!part.resource_names.is_empty()
                && part
                    .resource_names
                    .iter()
                    .all(|name| self.resource_names.contains(name)));
        names
            && part.verbs.iter().all(|verb| self.matches_verb(verb))
            && part
                .api_groups
                .iter()
                .all(|group| has(&self.api_groups, "*", group))
            && part
                .resources
                .iter()
                .all(|resource| self.covers_resource(resource))
            && part.non_resource_urls.iter().all(|path| {
                self.non_resource_urls
                    .iter()
                    .any(|own| path_covers(own, path))
            })
    }

    fn covers_resource(&self, resource: &str) -> bool {
        if has(&self.resources, "*", resource) {
            return true;
        }
        let Some((_, subresource)) = resource.split_once('/') else {
            return false;
        };
        self.resources
            .iter()
            .any(|own| own.strip_prefix("*/") == Some(subresource))
    }

    /// The text of a rule in an escalation error: `{APIGroups:["apps"], Resources:["deployments"], Verbs:["get"]}`.
    pub fn compact_text(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quote_list(list)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }

    fn fields(&self) -> [(&'static str, &Vec<String>); 5] {
        [
            ("verbs", &self.verbs),
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ]
    }
}

/// Which single rights of `wanted` are not held by `held`? Empty means covered.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let parts = wanted.iter().flat_map(Rule::break_down);
    parts
        .filter(|part| !held.iter().any(|own| own.covers_part(part)))
        .collect()
}

/// Do the held rules allow everything that the wanted rules allow?
pub fn covers(held: &[Rule], wanted: &[Rule]) -> bool {
    missing(held, wanted).is_empty()
}

/// Joins the verbs of rules that are about the same single resource; other rules stay as they are.
pub fn compact(rules: &[Rule]) -> Vec<Rule> {
    let mut compacted: Vec<Rule> = Vec::new();
    for rule in rules {
        let simple = rule.api_groups.len() == 1
            && rule.resources.len() == 1
            && rule.resource_names.len() <= 1
            && rule.non_resource_urls.is_empty();
        let same = |other: &&mut Rule| {
            other.api_groups == rule.api_groups
                && other.resources == rule.resources
                && other.resource_names == rule.resource_names
                && other.non_resource_urls.is_empty()
        };
        match compacted.iter_mut().find(same) {
            Some(other) if simple => {
                let new = rule
                    .verbs
                    .iter()
                    .filter(|verb| !other.verbs.contains(verb))
                    .cloned()
                    .collect::<Vec<_>>();
                other.verbs.extend(new);
            }
            _ => compacted.push(rule.clone()),
        }
    }
    compacted
}

fn star() -> Vec<String> {
    vec!["*".to_owned()]
}

fn has(list: &[String], wildcard: &str, item: &str) -> bool {
    list.iter().any(|own| own == wildcard || own == item)
}

/// A list as Go's `%q` prints it: `["a" "b"]`.
pub(crate) fn quote_list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| go_quote(item)).collect();
    format!("[{}]", quoted.join(" "))
}

/// A trailing `*` is the only wildcard of a path.
fn path_covers(own: &str, path: &str) -> bool {
    own == path || (own.ends_with('*') && path.starts_with(own.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(
        groups: &[&str],
        resources: &[&str],
        verbs: &[&str],
        names: &[&str],
        urls: &[&str],
    ) -> Rule {
        let own = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        Rule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            non_resource_urls: own(urls),
        }
    }

    fn get<'a>(
        group: &'a str,
        resource: &'a str,
        subresource: &'a str,
        name: &'a str,
    ) -> Attributes<'a> {
        Attributes {
            verb: "get",
            group,
            resource,
            subresource,
            name,
            ..Attributes::default()
        }
    }

    #[test]
    fn resources_match() {
        let table: &[(&[&str], &str, &str, bool)] = &[
            (&["pods"], "pods", "", true),
            (&["pods"], "pods", "log", false),
            (&["pods/log"], "pods", "log", true),
            (&["pods/log"], "pods", "", false),
            (&["*"], "pods", "log", true),
            (&["*/scale"], "deployments", "scale", true),
            (&["*/scale"], "deployments", "", false),
            (&["*/scale"], "deployments", "status", false),
            // Kubernetes knows no wildcard on the right side.
            (&["pods/*"], "pods", "log", false),
            (&["pods/*"], "pods", "*", true),
            (&[], "pods", "", false),
        ];
        for (resources, resource, subresource, expected) in table {
            let rule = rule(&[""], resources, &["get"], &[], &[]);
            assert_eq!(
                rule.allows(&get("", resource, subresource, "x")),
                *expected,
                "{resources:?} {resource}/{subresource}"
            );
        }
    }

    #[test]
    fn groups_verbs_and_names_match() {
        let named = rule(&["apps"], &["deployments"], &["get", "list"], &["web"], &[]);
        assert!(named.allows(&get("apps", "deployments", "", "web")));
        assert!(!named.allows(&get("apps", "deployments", "", "other")));
        assert!(!named.allows(&get("apps", "deployments", "", "")));
        assert!(!named.allows(&get("", "deployments", "", "web")));
        assert!(!named.allows(&Attributes {
            verb: "delete",
            ..get("apps", "deployments", "", "web")
        }));
        assert!(Rule::all_resources().allows(&get("any", "thing", "sub", "x")));
        assert!(!Rule::all_resources().allows(&Attributes {
            verb: "get",
            path: "/metrics",
            ..Attributes::default()
        }));
        assert!(!Rule::all_paths().allows(&get("", "pods", "", "x")));
    }

    #[test]
    fn paths_match() {
        let table = [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/x", false),
            ("/api/*", "/api/v1", true),
            ("/api/*", "/apis", false),
            ("*", "/x", true),
            ("/a*b", "/aXb", false),
        ];
        for (own, path, expected) in table {
            let rule = rule(&[], &[], &["get"], &[], &[own]);
            assert_eq!(
                rule.allows(&Attributes {
                    verb: "get",
                    path,
                    ..Attributes::default()
                }),
                expected,
                "{own} {path}"
            );
        }
    }

    #[test]
    fn cover() {
        let held = [
            rule(
                &["", "apps"],
                &["pods", "*/scale"],
                &["get", "list"],
                &[],
                &[],
            ),
            rule(&[""], &["secrets"], &["get"], &["a", "b"], &[]),
            rule(&[], &[], &["get"], &[], &["/api/*"]),
        ];
        let table = [
            (rule(&[""], &["pods"], &["list"], &[], &[]), true),
            (rule(&[""], &["pods"], &["get"], &["x"], &[]), true),
            (
                rule(&["apps"], &["deployments/scale"], &["get"], &[], &[]),
                true,
            ),
            (rule(&["apps"], &["deployments"], &["get"], &[], &[]), false),
            (rule(&[""], &["pods"], &["*"], &[], &[]), false),
            (rule(&[""], &["secrets"], &["get"], &["a"], &[]), true),
            (rule(&[""], &["secrets"], &["get"], &["a", "c"], &[]), false),
            (rule(&[""], &["secrets"], &["get"], &[], &[]), false),
            (rule(&["*"], &["pods"], &["get"], &[], &[]), false),
            (
                rule(&[], &[], &["get"], &[], &["/api/v1", "/api/v2*"]),
                true,
            ),
            (rule(&[], &[], &["get"], &[], &["*"]), false),
            (rule(&[""], &["pods"], &[], &[], &[]), true),
        ];
        for (wanted, expected) in table {
            assert_eq!(
                covers(&held, std::slice::from_ref(&wanted)),
                expected,
                "{}",
                wanted.compact_text()
            );
        }
        let masters = [Rule::all_resources(), Rule::all_paths()];
        assert!(covers(&masters, &masters));
        assert!(!covers(&[Rule::all_resources()], &masters));
    }

    #[test]
    fn missing_rights_are_joined_and_printed() {
        let wanted = [
            rule(&[""], &["pods"], &["get", "list"], &[], &[]),
            rule(&[], &[], &["get"], &[], &["/x"]),
        ];
        let texts: Vec<String> = compact(&missing(&[], &wanted))
            .iter()
            .map(Rule::compact_text)
            .collect();
        assert_eq!(
            texts,
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#,
                r#"{NonResourceURLs:["/x"], Verbs:["get"]}"#
            ]
        );
    }
}
