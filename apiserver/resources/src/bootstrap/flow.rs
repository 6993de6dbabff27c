//! The flow schemas and priority levels that a cluster has from its first moment, with Kubernetes' names, shares and
//! rules. The mandatory ones cannot be changed; the others are kept as they are here for as long as their annotation
//! [`AUTO_UPDATE`] says so.

use schema::Object;
use serde_json::{Value, json};

/// Whether the server keeps the spec as it is here.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
/// The group of both kinds.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Objects of both kinds with these names are the last resort, and their specs are fixed.
pub const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// A priority level that queues: name, shares, percentage that it lends, queues, size of a hand.
const QUEUED: &[(&str, u32, u32, u32, u32)] = &[
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];
const QUEUE_LENGTH: u32 = 50;

const EVERYBODY: &[&str] = &["Group:system:unauthenticated", "Group:system:authenticated"];
const CONTROLLER_MANAGER: &str = "User:system:kube-controller-manager";
const SCHEDULER: &str = "User:system:kube-scheduler";
const SYSTEM_ACCOUNTS: &str = "ServiceAccount:kube-system/*";

/// What a schema is about.
enum About {
    Everything,
    Urls(&'static [&'static str]),
    Resources(&'static [Rule]),
}

/// Verbs, group, resources, namespaces, and whether objects without a namespace are meant too.
type Rule = (
    &'static [&'static str],
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    bool,
);

struct Schema {
    name: &'static str,
    level: &'static str,
    precedence: u32,
    /// Empty: all of it is one flow.
    distinguisher: &'static str,
    subjects: &'static [&'static str],
    about: About,
}

const ELECTION: &[&str] = &["get", "create", "update"];
const LEASES: Rule = (ELECTION, "coordination.k8s.io", &["leases"], &["*"], false);

const SCHEMAS: &[Schema] = &[
    Schema {
        name: "exempt",
        level: "exempt",
        precedence: 1,
        distinguisher: "",
        subjects: &["Group:system:masters"],
        about: About::Everything,
    },
    Schema {
        name: "probes",
        level: "exempt",
        precedence: 2,
        distinguisher: "",
        subjects: EVERYBODY,
        about: About::Urls(&["/healthz", "/readyz", "/livez"]),
    },
    Schema {
        name: "system-leader-election",
        level: "leader-election",
        precedence: 100,
        distinguisher: "ByUser",
        subjects: &[CONTROLLER_MANAGER, SCHEDULER, SYSTEM_ACCOUNTS],
        about: About::Resources(&[
            (
                ELECTION,
                "",
                &["endpoints", "configmaps"],
                &["kube-system"],
                false,
            ),
            LEASES,
        ]),
    },
    Schema {
        name: "endpoint-controller",
        level: "workload-high",
        precedence: 150,
        distinguisher: "ByUser",
        subjects: &[
            CONTROLLER_MANAGER,
            "ServiceAccount:kube-system/endpoint-controller",
            "ServiceAccount:kube-system/endpointslicemirroring-controller",
        ],
        about: About::Resources(&[(ELECTION, "", &["endpoints"], &["*"], false)]),
    },
    Schema {
        name: "workload-leader-election",
        level: "leader-election",
        precedence: 200,
        distinguisher: "ByUser",
        subjects: &[SYSTEM_ACCOUNTS],
        about: About::Resources(&[
            (ELECTION, "", &["endpoints", "configmaps"], &["*"], false),
            LEASES,
        ]),
    },
    Schema {
        name: "system-node-high",
        level: "node-high",
        precedence: 400,
        distinguisher: "ByUser",
        subjects: &["Group:system:nodes"],
        about: About::Resources(&[
            (&["*"], "", &["nodes", "nodes/status"], &["*"], true),
            (&["*"], "coordination.k8s.io", &["leases"], &["*"], false),
        ]),
    },
    Schema {
        name: "system-nodes",
        level: "system",
        precedence: 500,
        distinguisher: "ByUser",
        subjects: &["Group:system:nodes"],
        about: About::Everything,
    },
    Schema {
        name: "kube-controller-manager",
        level: "workload-high",
        precedence: 800,
        distinguisher: "ByNamespace",
        subjects: &[CONTROLLER_MANAGER],
        about: About::Everything,
    },
    Schema {
        name: "kube-scheduler",
        level: "workload-high",
        precedence: 800,
        distinguisher: "ByNamespace",
        subjects: &[SCHEDULER],
        about: About::Everything,
    },
    Schema {
        name: "kube-system-service-accounts",
        level: "workload-high",
        precedence: 900,
        distinguisher: "ByNamespace",
        subjects: &[SYSTEM_ACCOUNTS],
        about: About::Everything,
    },
    Schema {
        name: "service-accounts",
        level: "workload-low",
        precedence: 9_000,
        distinguisher: "ByUser",
        subjects: &["Group:system:serviceaccounts"],
        about: About::Everything,
    },
    Schema {
        name: "global-default",
        level: "global-default",
        precedence: 9_900,
        distinguisher: "ByUser",
        subjects: EVERYBODY,
        about: About::Everything,
    },
    Schema {
        name: "catch-all",
        level: "catch-all",
        precedence: 10_000,
        distinguisher: "ByUser",
        subjects: EVERYBODY,
        about: About::Everything,
    },
];

/// The priority levels; not defaulted, without uid and timestamps.
pub fn priority_levels() -> Vec<Object> {
    let exempt =
        json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let catch_all = json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0,
        "limitResponse": {"type": "Reject"}}});
    let mut levels = vec![
        named("PriorityLevelConfiguration", "exempt", exempt),
        named("PriorityLevelConfiguration", "catch-all", catch_all),
    ];
    levels.extend(QUEUED.iter().map(|(name, shares, lendable, queues, hand)| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": QUEUE_LENGTH});
        let spec = json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares,
            "lendablePercent": lendable, "limitResponse": {"type": "Queue", "queuing": queuing}}});
        named("PriorityLevelConfiguration", name, spec)
    }));
    levels
}

/// The flow schemas, in the order of their precedence.
pub fn flow_schemas() -> Vec<Object> {
    let spec = |schema: &Schema| {
        let subjects: Vec<Value> = schema.subjects.iter().map(|text| subject(text)).collect();
        let mut rule = json!({ "subjects": subjects });
        if let Some(resources) = resource_rules(&schema.about) {
            rule["resourceRules"] = resources;
        }
        if let Some(urls) = url_rules(&schema.about) {
            rule["nonResourceRules"] = urls;
        }
        let mut spec = json!({"priorityLevelConfiguration": {"name": schema.level},
            "matchingPrecedence": schema.precedence, "rules": [rule]});
        if !schema.distinguisher.is_empty() {
            spec["distinguisherMethod"] = json!({ "type": schema.distinguisher });
        }
        spec
    };
    let object = |schema: &Schema| named("FlowSchema", schema.name, spec(schema));
    SCHEMAS.iter().map(object).collect()
}

fn named(kind: &str, name: &str, spec: Value) -> Object {
    super::object(json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}}, "spec": spec}))
}

/// `User:name`, `Group:name` or `ServiceAccount:namespace/name`.
fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once(':').unwrap_or(("User", text));
    match (kind, name.split_once('/')) {
        ("ServiceAccount", Some((namespace, name))) => {
            json!({"kind": kind, "serviceAccount": {"namespace": namespace, "name": name}})
        }
        ("Group", _) => json!({"kind": kind, "group": {"name": name}}),
        _ => json!({"kind": "User", "user": {"name": name}}),
    }
}

fn resource_rules(about: &About) -> Option<Value> {
    let rule = |(verbs, group, resources, namespaces, cluster): &Rule| {
        let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": namespaces});
        if *cluster {
            rule["clusterScope"] = true.into();
        }
        rule
    };
    match about {
        About::Everything => Some(json!([rule(&(&["*"], "*", &["*"], &["*"], true))])),
        About::Resources(rules) => Some(rules.iter().map(rule).collect()),
        About::Urls(_) => None,
    }
}

fn url_rules(about: &About) -> Option<Value> {
    match about {
        About::Everything => Some(json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}])),
        About::Urls(urls) => Some(json!([{"verbs": ["get"], "nonResourceURLs": urls}])),
        About::Resources(_) => None,
    }
}
