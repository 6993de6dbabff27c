//! One webhook of a configuration, read once, and which requests it is asked about.

use std::sync::Arc;
use std::time::Duration;

use cel::admission::Conditions;
use schema::Object;
use schema::selector::LabelSelector;
use serde_json::Value;

use crate::admission::Operation;
use crate::admission::policy::inputs::Named;
use crate::outgoing::Peer;
use crate::world::World;

const TIMEOUT_SECONDS_DEFAULT: u64 = 10;

/// A webhook, ready to be asked.
pub(crate) struct Hook {
    pub(crate) name: String,
    /// The name of its configuration.
    pub(crate) configuration: String,
    pub(crate) criteria: Criteria,
    pub(crate) conditions: Conditions,
    pub(in crate::admission) named: Named,
    /// Whether a call that fails refuses the request.
    pub(crate) fails_closed: bool,
    /// Whether it is asked again when others changed the object after it.
    pub(crate) reinvoked: bool,
    pub(crate) has_side_effects: bool,
    /// The version of AdmissionReview that it reads.
    pub(crate) review_version: &'static str,
    pub(crate) timeout: Duration,
    pub(crate) peer: Result<Peer, String>,
    /// What all of it was made from.
    source: Value,
}

/// Which requests a webhook, a policy or a binding concerns.
#[derive(Clone, Debug)]
pub(crate) struct Criteria {
    pub(crate) rules: Vec<Rule>,
    pub(crate) excluded: Vec<Rule>,
    /// Whether having no rules means every request rather than none.
    pub(crate) open: bool,
    /// Whether a request of another version of the kind counts as one that a rule names.
    pub(crate) equivalent: bool,
    pub(crate) namespaces: LabelSelector,
    pub(crate) objects: LabelSelector,
}

impl Criteria {
    /// Those of a webhook.
    fn of_webhook(hook: &Value) -> Criteria {
        Criteria {
            rules: list(hook, "rules").iter().map(Rule::of).collect(),
            excluded: Vec::new(),
            open: false,
            equivalent: word(hook, "matchPolicy") != "Exact",
            namespaces: selector(hook.get("namespaceSelector")),
            objects: selector(hook.get("objectSelector")),
        }
    }

    /// Those of the `matchConstraints` of a policy, or the `matchResources` of a binding.
    pub(crate) fn of_policy(resources: &Value) -> Criteria {
        let rules = |field: &str| list(resources, field).iter().map(Rule::of).collect();
        Criteria {
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            open: true,
            ..Criteria::of_webhook(resources)
        }
    }
}

/// Which requests: every list has to have the request's word, or `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Empty for any.
    names: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    operations: Vec<String>,
    scope: String,
}

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) plural: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) name: &'a str,
    /// Empty for cluster-wide kinds; the name itself for a Namespace.
    pub(crate) namespace: &'a str,
    pub(crate) operation: Operation,
}

impl Hook {
    fn of(world: &Arc<World>, configuration: &str, hook: &Value) -> Hook {
        let text = |field: &str| hook.get(field).and_then(Value::as_str).unwrap_or_default();
        let versions = texts(hook, "admissionReviewVersions");
        let known = |version: &String| match version.as_str() {
            "v1" => Some("v1"),
            "v1beta1" => Some("v1beta1"),
            _ => None,
        };
        let timeout = hook.get("timeoutSeconds").and_then(Value::as_u64);
        Hook {
            name: text("name").to_owned(),
            configuration: configuration.to_owned(),
            criteria: Criteria::of_webhook(hook),
            conditions: Conditions::compile(hook),
            named: hook
                .get("matchConditions")
                .map(Named::in_texts_of)
                .unwrap_or_default(),
            fails_closed: text("failurePolicy") != "Ignore",
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            has_side_effects: !matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            review_version: versions.iter().find_map(known).unwrap_or("v1"),
            timeout: Duration::from_secs(timeout.unwrap_or(TIMEOUT_SECONDS_DEFAULT)),
            peer: Peer::of_client_config(world, hook.get("clientConfig").unwrap_or(&Value::Null)),
            source: hook.clone(),
        }
    }

    /// The webhooks of a configuration. Those that are as they were keep their connections.
    pub(crate) fn list(
        world: &Arc<World>,
        configuration: &Object,
        before: &[Arc<Hook>],
    ) -> Vec<Arc<Hook>> {
        let hooks = configuration.get_array(&["webhooks"]);
        hooks
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(|hook| {
                let same = before
                    .iter()
                    .find(|old| old.configuration == configuration.name() && old.source == *hook);
                same.cloned()
                    .unwrap_or_else(|| Arc::new(Hook::of(world, configuration.name(), hook)))
            })
            .collect()
    }
}

impl Rule {
    fn of(rule: &Value) -> Rule {
        Rule {
            names: texts(rule, "resourceNames"),
            groups: texts(rule, "apiGroups"),
            versions: texts(rule, "apiVersions"),
            resources: texts(rule, "resources"),
            operations: texts(rule, "operations"),
            scope: word(rule, "scope"),
        }
    }

    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        self.has_scope(subject)
            && has(&self.operations, subject.operation.as_str())
            && has(&self.groups, subject.group)
            && has(&self.versions, subject.version)
            && self.has_resource(subject)
            && (self.names.is_empty() || self.names.iter().any(|name| name == subject.name))
    }

    fn has_scope(&self, subject: &Subject<'_>) -> bool {
        let of_namespace = subject.group.is_empty() && subject.plural == "namespaces";
        let is_cluster_wide = of_namespace || subject.namespace.is_empty();
        match self.scope.as_str() {
            "" | "*" => true,
            "Namespaced" => !is_cluster_wide,
            "Cluster" => is_cluster_wide,
            _ => false,
        }
    }

    /// `pods`, `pods/status`, `pods/*`, `*/scale`, `*` (no subresource) or `*/*`.
    fn has_resource(&self, subject: &Subject<'_>) -> bool {
        self.resources.iter().any(|entry| {
            let (resource, subresource) = entry.split_once('/').unwrap_or((entry, ""));
            (resource == "*" || resource == subject.plural)
                && (subresource == "*" || subresource == subject.subresource)
        })
    }
}

fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|one| one == "*" || one == word)
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    let list = value.get(field).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    list(value, field)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn word(value: &Value, field: &str) -> String {
    let word = value.get(field).and_then(Value::as_str);
    word.unwrap_or_default().to_owned()
}

/// Here an absent selector selects everything. Validation has let no other through that does not parse.
fn selector(value: Option<&Value>) -> LabelSelector {
    match value.filter(|value| !value.is_null()) {
        None => LabelSelector::everything(),
        some => LabelSelector::from_object(some).unwrap_or_else(|_| LabelSelector::everything()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn subject<'a>(plural: &'a str, subresource: &'a str, namespace: &'a str) -> Subject<'a> {
        Subject {
            group: if plural == "deployments" { "apps" } else { "" },
            version: "v1",
            plural,
            subresource,
            name: "a",
            namespace,
            operation: Operation::Create,
        }
    }

    fn rule(resources: &[&str], scope: &str) -> Rule {
        Rule::of(
            &json!({"apiGroups": ["*"], "apiVersions": ["v1"], "resources": resources,
            "operations": ["CREATE"], "scope": scope}),
        )
    }

    #[test]
    fn resources_and_subresources() {
        let pods = subject("pods", "", "n");
        let status = subject("pods", "status", "n");
        for (resources, on_pods, on_status) in [
            (&["pods"][..], true, false),
            (&["pods/status"], false, true),
            (&["pods/*"], true, true),
            (&["*"], true, false),
            (&["*/status"], false, true),
            (&["*/*"], true, true),
            (&["services", "pods"], true, false),
            (&[], false, false),
        ] {
            assert_eq!(
                rule(resources, "*").matches(&pods),
                on_pods,
                "{resources:?}"
            );
            assert_eq!(rule(resources, "*").matches(&status), on_status);
        }
    }

    #[test]
    fn namespaces_are_cluster_wide() {
        for (scope, pod, node, namespace) in [
            ("*", true, true, true),
            ("", true, true, true),
            ("Namespaced", true, false, false),
            ("Cluster", false, true, true),
        ] {
            let rule = rule(&["*"], scope);
            assert_eq!(rule.matches(&subject("pods", "", "n")), pod, "{scope}");
            assert_eq!(rule.matches(&subject("nodes", "", "")), node, "{scope}");
            assert_eq!(
                rule.matches(&subject("namespaces", "", "n")),
                namespace,
                "{scope}"
            );
        }
    }

    #[test]
    fn operations_groups_and_versions() {
        let pods = subject("pods", "", "n");
        let with = |field: &str, value: Value| {
            let mut rule = json!({"apiGroups": ["", "apps"], "apiVersions": ["*"],
                "resources": ["*"], "operations": ["*"]});
            rule[field] = value;
            Rule::of(&rule)
        };
        assert!(with("operations", json!(["UPDATE", "CREATE"])).matches(&pods));
        assert!(!with("operations", json!(["UPDATE", "DELETE"])).matches(&pods));
        assert!(!with("apiGroups", json!(["apps"])).matches(&pods));
        assert!(with("apiGroups", json!(["apps"])).matches(&subject("deployments", "", "n")));
        assert!(!with("apiVersions", json!(["v1beta1"])).matches(&pods));
        assert!(with("resourceNames", json!(["b", "a"])).matches(&pods));
        assert!(!with("resourceNames", json!(["b"])).matches(&pods));
    }
}
