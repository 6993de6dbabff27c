//! Which flow a request belongs to: the first flow schema that matches it, in the order of precedence and then of name,
//! and of that schema the part that its distinguisher names. As in Kubernetes' `flowcontrol` API; pure.

use std::hash::{DefaultHasher, Hash, Hasher};

use auth::User;
use schema::Object;
use serde_json::Value;

use crate::request::RequestInfo;

/// A FlowSchema as it is asked about a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    pub(crate) name: String,
    /// The priority level of what it matches.
    pub(crate) level: String,
    precedence: i64,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Distinguisher {
    #[default]
    None,
    User,
    Namespace,
}

#[derive(Clone, Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    urls: Vec<UrlRule>,
}

#[derive(Clone, Debug)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount { namespace: String, name: String },
}

#[derive(Clone, Debug)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster: bool,
}

#[derive(Clone, Debug)]
struct UrlRule {
    verbs: Vec<String>,
    paths: Vec<String>,
}

impl Schema {
    pub(crate) fn from_object(object: &Object) -> Schema {
        let text = |path: &[&str]| {
            let text = object.get(path).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let distinguisher = match text(&["spec", "distinguisherMethod", "type"]).as_str() {
            "ByUser" => Distinguisher::User,
            "ByNamespace" => Distinguisher::Namespace,
            _ => Distinguisher::None,
        };
        let precedence = object.get(&["spec", "matchingPrecedence"]);
        Schema {
            name: object.name().to_owned(),
            level: text(&["spec", "priorityLevelConfiguration", "name"]),
            precedence: precedence.and_then(Value::as_i64).unwrap_or(1_000),
            distinguisher,
            rules: items(object.get(&["spec", "rules"]).unwrap_or(&Value::Null))
                .map(Rule::from_value)
                .collect(),
        }
    }

    /// Where it stands among others.
    pub(crate) fn order(&self) -> (i64, &str) {
        (self.precedence, &self.name)
    }

    pub(crate) fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| rule.matches(user, info))
    }

    /// What tells flows of this schema apart.
    pub(crate) fn distinguisher<'a>(&self, user: &'a str, info: &'a RequestInfo) -> &'a str {
        match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => user,
            Distinguisher::Namespace => &info.namespace,
        }
    }

    /// The flow of a request that it matches, as a number that is the same on every member.
    pub(crate) fn flow(&self, user: &User, info: &RequestInfo) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.name.hash(&mut hasher);
        self.distinguisher(&user.name, info).hash(&mut hasher);
        hasher.finish()
    }
}

impl Rule {
    fn from_value(rule: &Value) -> Rule {
        Rule {
            subjects: items(&rule["subjects"]).filter_map(subject).collect(),
            resources: items(&rule["resourceRules"])
                .map(|rule| ResourceRule {
                    verbs: texts(&rule["verbs"]),
                    groups: texts(&rule["apiGroups"]),
                    resources: texts(&rule["resources"]),
                    namespaces: texts(&rule["namespaces"]),
                    cluster: rule["clusterScope"].as_bool().unwrap_or_default(),
                })
                .collect(),
            urls: items(&rule["nonResourceRules"])
                .map(|rule| UrlRule {
                    verbs: texts(&rule["verbs"]),
                    paths: texts(&rule["nonResourceURLs"]),
                })
                .collect(),
        }
    }

    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(user)) {
            return false;
        }
        if info.is_resource {
            self.resources.iter().any(|rule| rule.matches(info))
        } else {
            self.urls.iter().any(|rule| rule.matches(info))
        }
    }
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => name == "*" || *name == user.name,
            Subject::Group(name) => name == "*" || user.in_group(name),
            Subject::ServiceAccount { namespace, name } => user
                .service_account_identity()
                .is_some_and(|own| own.0 == namespace && (name == "*" || own.1 == name)),
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        has(&self.verbs, info.verb)
            && has(&self.groups, &info.group)
            && self.has_resource(&info.resource, &info.subresource)
            && match info.namespace.is_empty() {
                true => self.cluster,
                false => has(&self.namespaces, &info.namespace),
            }
    }

    fn has_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|own| {
            let rest = own.strip_prefix(resource);
            own == "*"
                || match subresource.is_empty() {
                    true => own == resource,
                    false => rest.and_then(|rest| rest.strip_prefix('/')) == Some(subresource),
                }
        })
    }
}

impl UrlRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let is_meant = |own: &String| match own.strip_suffix('*') {
            Some(prefix) => info.path.starts_with(prefix),
            None => *own == info.path,
        };
        has(&self.verbs, info.verb) && self.paths.iter().any(is_meant)
    }
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|own| own == "*" || own == text)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = items(value).filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn subject(value: &Value) -> Option<Subject> {
    let text = |pointer: &str| {
        let text = value.pointer(pointer).and_then(Value::as_str);
        text.map(str::to_owned)
    };
    match value["kind"].as_str()? {
        "User" => text("/user/name").map(Subject::User),
        "Group" => text("/group/name").map(Subject::Group),
        "ServiceAccount" => Some(Subject::ServiceAccount {
            namespace: text("/serviceAccount/namespace")?,
            name: text("/serviceAccount/name")?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Query;
    use http::Method;
    use resources::bootstrap::flow;

    fn schemas() -> Vec<Schema> {
        let mut schemas: Vec<Schema> = flow::flow_schemas()
            .iter()
            .map(Schema::from_object)
            .collect();
        schemas.sort_by(|a, b| a.order().cmp(&b.order()));
        schemas
    }

    fn info(method: Method, uri: &str) -> RequestInfo {
        RequestInfo::parse(&method, uri, &Query::parse(None))
    }

    #[test]
    fn requests_go_where_they_go_in_kubernetes() {
        let schemas = schemas();
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x";
        let pods = "/api/v1/namespaces/a/pods";
        let master = User::new("admin", ["system:masters"]);
        let manager = User::component("kube-controller-manager");
        let jane = User::new("jane", ["dev"]).authenticated();
        for (user, method, uri, expected) in [
            (&master, Method::DELETE, pods, "exempt exempt"),
            (&User::anonymous(), Method::GET, "/readyz", "probes exempt"),
            (
                &User::anonymous(),
                Method::GET,
                "/readyz/ping",
                "global-default global-default",
            ),
            (
                &manager,
                Method::PUT,
                leases,
                "system-leader-election leader-election",
            ),
            (
                &manager,
                Method::DELETE,
                leases,
                "kube-controller-manager workload-high",
            ),
            (
                &manager,
                Method::PUT,
                "/api/v1/namespaces/a/endpoints/x",
                "endpoint-controller workload-high",
            ),
            (
                &User::component("kube-scheduler"),
                Method::POST,
                "/api/v1/namespaces/a/pods/x/binding",
                "kube-scheduler workload-high",
            ),
            (
                &User::node("n"),
                Method::PATCH,
                "/api/v1/nodes/n/status",
                "system-node-high node-high",
            ),
            (
                &User::node("n"),
                Method::PUT,
                "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n",
                "system-node-high node-high",
            ),
            (&User::node("n"), Method::GET, pods, "system-nodes system"),
            (
                &User::service_account("kube-system", "dns", ""),
                Method::GET,
                pods,
                "kube-system-service-accounts workload-high",
            ),
            (
                &User::service_account("a", "dns", ""),
                Method::GET,
                pods,
                "service-accounts workload-low",
            ),
            (&jane, Method::GET, pods, "global-default global-default"),
            // Who is in neither group that everybody is in.
            (&User::new("odd", ["dev"]), Method::GET, pods, "none"),
        ] {
            let info = info(method, uri);
            let found = schemas.iter().find(|schema| schema.matches(user, &info));
            let found = found.map_or("none".to_owned(), |one| {
                format!("{} {}", one.name, one.level)
            });
            assert_eq!(found, expected, "{} {uri}", user.name);
        }
    }

    #[test]
    fn rules_name_scopes_subresources_and_paths() {
        let schema = |rule: Value| {
            let mut rule = rule;
            rule["subjects"] = serde_json::json!([{"kind": "User", "user": {"name": "*"}}]);
            let spec = serde_json::json!({"metadata": {"name": "x"}, "spec": {"rules": [rule]}});
            Schema::from_object(&Object::new(spec).unwrap())
        };
        let of = |resources: &str, namespaces: &str, cluster: bool| {
            schema(
                serde_json::json!({"resourceRules": [{"verbs": ["get"], "apiGroups": [""],
                "resources": [resources], "namespaces": [namespaces], "clusterScope": cluster}]}),
            )
        };
        let paths = |path: &str| {
            schema(
                serde_json::json!({"nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": [path]}]}),
            )
        };
        for (schema, uri, expected) in [
            (of("pods", "a", false), "/api/v1/namespaces/a/pods/x", true),
            (of("pods", "a", false), "/api/v1/namespaces/b/pods/x", false),
            (
                of("pods", "a", false),
                "/api/v1/namespaces/a/pods/x/log",
                false,
            ),
            (
                of("pods/log", "a", false),
                "/api/v1/namespaces/a/pods/x/log",
                true,
            ),
            (
                of("pods/log", "a", false),
                "/api/v1/namespaces/a/pods/x",
                false,
            ),
            (of("nodes", "*", false), "/api/v1/nodes/x", false),
            (of("nodes", "*", true), "/api/v1/nodes/x", true),
            (
                of("*", "*", true),
                "/apis/apps/v1/namespaces/a/deployments/x",
                false,
            ),
            (of("*", "*", true), "/version", false),
            (paths("/version"), "/version", true),
            (paths("/version"), "/version/x", false),
            (paths("/apis/*"), "/apis/apps", true),
            (paths("/apis/*"), "/apis", false),
            (paths("*"), "/metrics", true),
            (paths("*"), "/api/v1/nodes/x", false),
        ] {
            let info = info(Method::GET, uri);
            let matches = schema.matches(&User::new("jane", ["dev"]), &info);
            assert_eq!(matches, expected, "{schema:?} {uri}");
        }
    }

    #[test]
    fn flows_of_a_schema_are_told_apart() {
        let all = schemas();
        let named = |name: &str| all.iter().find(|schema| schema.name == name).unwrap();
        let flow = |schema: &str, user: &str, namespace: &str| {
            let uri = format!("/api/v1/namespaces/{namespace}/pods");
            named(schema).flow(
                &User::new(user, ["system:authenticated"]),
                &info(Method::GET, &uri),
            )
        };
        let by_user = "global-default";
        assert_eq!(flow(by_user, "jane", "a"), flow(by_user, "jane", "b"));
        assert_ne!(flow(by_user, "jane", "a"), flow(by_user, "ann", "a"));
        let by_namespace = "kube-scheduler";
        assert_eq!(flow(by_namespace, "x", "a"), flow(by_namespace, "y", "a"));
        assert_ne!(flow(by_namespace, "x", "a"), flow(by_namespace, "x", "b"));
        assert_ne!(flow(by_user, "x", "a"), flow("service-accounts", "x", "a"));
    }
}
