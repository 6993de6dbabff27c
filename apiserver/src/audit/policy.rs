//! What is told of which requests: Kubernetes' `Policy` (`audit.k8s.io/v1`), with its matching and limits. The first rule
//! that fits decides; where none does, nothing is told.

use serde::Deserialize;

use auth::User;

use crate::request::RequestInfo;

/// How much of a request is told; each level has all of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Level {
    #[default]
    None,
    /// Who wanted what, and what became of it.
    Metadata,
    /// What was sent, too.
    Request,
    /// What was answered, too.
    RequestResponse,
}

impl Level {
    /// In their order.
    pub(super) const ALL: [Level; 4] = [
        Level::None,
        Level::Metadata,
        Level::Request,
        Level::RequestResponse,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// At which point of a request an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Stage {
    RequestReceived,
    /// Of those only that go on for long.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

/// Why a policy is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AuditPolicyError {
    #[error("the audit policy is not a Policy: {0}")]
    Unreadable(String),
    #[error("the audit policy is invalid: {0}")]
    Invalid(String),
}

/// Which requests are told of, and how much.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuditPolicy {
    kind: String,
    api_version: String,
    #[serde(default)]
    #[expect(dead_code, reason = "files have it, and nobody needs it")]
    metadata: serde::de::IgnoredAny,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) level: Level,
    pub(crate) omit_stages: Vec<Stage>,
    pub(crate) omit_managed_fields: bool,
}

/// Bodies of these tell what nobody may know.
const SENSITIVE: [(&str, &str, &str); 4] = [
    ("", "secrets", ""),
    ("", "configmaps", ""),
    ("authentication.k8s.io", "tokenreviews", ""),
    ("", "serviceaccounts", "token"),
];

/// Who changes what, who reads secrets, and whom is refused; never a body. What nodes and the control plane write all the
/// time to show that they live is left out.
const DEFAULT: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: ['/healthz*', '/livez*', '/readyz*', '/version', '/metrics', '/openapi/*', '/api*']
- level: None
  verbs: [get, update, patch]
  resources: [{group: coordination.k8s.io, resources: [leases]}]
- level: None
  resources: [{group: '', resources: [events]}, {group: events.k8s.io, resources: [events]}]
- level: None
  userGroups: ['system:nodes']
  verbs: [update, patch]
  resources: [{group: '', resources: [nodes/status, pods/status]}]
- level: Metadata
  resources:
  - {group: '', resources: [secrets, configmaps, serviceaccounts/token]}
  - {group: authentication.k8s.io}
- level: Metadata
  resources: [{group: '', resources: [pods/exec, pods/attach, pods/portforward, pods/log, 'nodes/*']}]
- level: None
  verbs: [get, list, watch]
- level: Metadata
";

impl AuditPolicy {
    /// The policy where none is given.
    pub fn default_policy() -> AuditPolicy {
        AuditPolicy::parse(DEFAULT).expect("the default policy holds")
    }

    /// Reads a policy in YAML or JSON.
    pub fn parse(text: &str) -> Result<AuditPolicy, AuditPolicyError> {
        let policy: AuditPolicy = serde_saphyr::from_str(text)
            .map_err(|error| AuditPolicyError::Unreadable(error.to_string()))?;
        if policy.kind != "Policy" || policy.api_version != "audit.k8s.io/v1" {
            return Err(AuditPolicyError::Unreadable(format!(
                "it is a {:?} of {:?}; expected is a Policy of audit.k8s.io/v1",
                policy.kind, policy.api_version
            )));
        }
        if policy.rules.is_empty() {
            return Err(AuditPolicyError::Invalid("it has 0 rules".into()));
        }
        for (at, rule) in policy.rules.iter().enumerate() {
            rule.check().map_err(|(field, what)| {
                AuditPolicyError::Invalid(format!("rules[{at}].{field}: Invalid value: {what}"))
            })?;
        }
        Ok(policy)
    }

    /// The resources whose bodies the policy has told though they are secret, as `secrets`.
    pub fn tells_secrets(&self) -> Vec<String> {
        let told = SENSITIVE.iter().filter(|(group, resource, subresource)| {
            let tells = |rule: &&Rule| {
                rule.level > Level::Metadata && rule.may_concern(group, resource, subresource)
            };
            let all = |rule: &&Rule| {
                rule.is_for_everybody() && rule.may_concern(group, resource, subresource)
            };
            let mut rules = self.rules.iter();
            // Rules behind one that decides for everybody do not count.
            rules
                .find(|rule| tells(rule) || all(rule))
                .is_some_and(|rule| tells(&rule))
        });
        told.map(|(_, resource, subresource)| match *subresource {
            "" => (*resource).to_owned(),
            subresource => format!("{resource}/{subresource}"),
        })
        .collect()
    }

    pub(crate) fn judge(&self, user: &User, info: &RequestInfo) -> Verdict {
        match self.rules.iter().find(|rule| rule.fits(user, info)) {
            None => Verdict {
                level: Level::None,
                omit_stages: self.omit_stages.clone(),
                omit_managed_fields: self.omit_managed_fields,
            },
            Some(rule) => {
                let mut omit_stages = self.omit_stages.clone();
                omit_stages.extend(&rule.omit_stages);
                Verdict {
                    level: rule.level,
                    omit_stages,
                    omit_managed_fields: rule
                        .omit_managed_fields
                        .unwrap_or(self.omit_managed_fields),
                }
            }
        }
    }
}

fn has(list: &[String], one: &str) -> bool {
    list.iter().any(|item| item == one)
}

impl Rule {
    /// What is wrong, and where.
    fn check(&self) -> Result<(), (String, String)> {
        let resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if resources && !self.non_resource_urls.is_empty() {
            return Err((
                "nonResourceURLs".into(),
                "rules cannot apply to both regular resources and non-resource URLs".into(),
            ));
        }
        for (at, url) in self.non_resource_urls.iter().enumerate() {
            let field = format!("nonResourceURLs[{at}]");
            if url == "*" {
                continue;
            }
            if !url.starts_with('/') {
                return Err((
                    field,
                    format!("{url:?}: non-resource URL rules must begin with a '/' character"),
                ));
            }
            if url[..url.len() - 1].contains('*') {
                return Err((
                    field,
                    format!(
                        "{url:?}: non-resource URL wildcards '*' must be the final character of the rule"
                    ),
                ));
            }
        }
        for (at, group) in self.resources.iter().enumerate() {
            if group.group.contains('/') {
                let what = format!(
                    "{:?}: a group has no '/': it is named without its version",
                    group.group
                );
                return Err((format!("resources[{at}].group"), what));
            }
            if !group.resource_names.is_empty() && group.resources.is_empty() {
                return Err((
                    format!("resources[{at}].resourceNames"),
                    "using resourceNames requires at least one resource".into(),
                ));
            }
        }
        Ok(())
    }

    fn fits(&self, user: &User, info: &RequestInfo) -> bool {
        let who = (self.users.is_empty() || has(&self.users, &user.name))
            && (self.user_groups.is_empty()
                || user
                    .groups
                    .iter()
                    .any(|group| has(&self.user_groups, group)));
        if !who || (!self.verbs.is_empty() && !has(&self.verbs, info.verb)) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            // What has no namespace is in that of no name.
            let namespace = self.namespaces.is_empty() || has(&self.namespaces, &info.namespace);
            let mut groups = self.resources.iter();
            return info.is_resource
                && namespace
                && (self.resources.is_empty() || groups.any(|group| group.fits(info)));
        }
        if !self.non_resource_urls.is_empty() {
            let mut urls = self.non_resource_urls.iter();
            return !info.is_resource && urls.any(|url| fits_path(url, &info.path));
        }
        true
    }

    /// It decides for all requests for its resources.
    fn is_for_everybody(&self) -> bool {
        self.users.is_empty()
            && self.user_groups.is_empty()
            && self.verbs.is_empty()
            && self.namespaces.is_empty()
            && self.non_resource_urls.is_empty()
            && self
                .resources
                .iter()
                .all(|group| group.resource_names.is_empty())
    }

    fn may_concern(&self, group: &str, resource: &str, subresource: &str) -> bool {
        let names = |one: &GroupResources| {
            one.group == group
                && (one.resources.is_empty()
                    || one
                        .resources
                        .iter()
                        .any(|name| fits_name(name, resource, subresource)))
        };
        self.non_resource_urls.is_empty()
            && (self.resources.is_empty() || self.resources.iter().any(names))
    }
}

impl GroupResources {
    fn fits(&self, info: &RequestInfo) -> bool {
        let names = || self.resource_names.is_empty() || has(&self.resource_names, &info.name);
        let resource = |name: &String| fits_name(name, &info.resource, &info.subresource);
        self.group == info.group
            && (self.resources.is_empty() || (names() && self.resources.iter().any(resource)))
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, and `*` for everything.
fn fits_name(name: &str, resource: &str, subresource: &str) -> bool {
    match name.split_once('/') {
        None => name == "*" || (name == resource && subresource.is_empty()),
        Some((one, "*")) => one == resource,
        Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
        Some((one, sub)) => one == resource && sub == subresource,
    }
}

fn fits_path(url: &str, path: &str) -> bool {
    match url.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => url == path,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::request::Query;

    fn policy(rules: &str) -> Result<AuditPolicy, AuditPolicyError> {
        AuditPolicy::parse(&format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n{rules}"
        ))
    }

    fn info(method: &Method, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::parse(method, path, &Query::parse(Some(query)))
    }

    fn level(policy: &AuditPolicy, user: &User, method: Method, uri: &str) -> Level {
        policy.judge(user, &info(&method, uri)).level
    }

    /// Each rule alone, and requests that it is and is not for.
    #[test]
    fn a_rule_is_for_what_it_says() {
        let jane = User::new("jane", ["dev"]);
        let base = "/api/v1/namespaces/a";
        for (rule, fits, others) in [
            ("users: [jane]", &["/x"][..], &[][..]),
            ("users: [ann]", &[], &["/x", "/api/v1/pods"]),
            ("userGroups: [dev, ops]", &["/x", "/api/v1/pods"], &[]),
            (
                "verbs: [list]",
                &["/api/v1/pods"],
                &["/x", "/api/v1/nodes/n"],
            ),
            (
                "nonResourceURLs: ['/x*', /y]",
                &["/x", "/x/z", "/y"],
                &["/yz", "/api/v1/pods"],
            ),
            ("nonResourceURLs: ['*']", &["/x"], &["/api/v1/pods"]),
            (
                "namespaces: [a]",
                &["/api/v1/namespaces/a/pods"],
                &["/api/v1/pods", "/x"],
            ),
            (
                "namespaces: ['']",
                &["/api/v1/nodes"],
                &["/api/v1/namespaces/a/pods"],
            ),
            (
                "resources: [{group: '', resources: [pods]}]",
                &["/api/v1/namespaces/a/pods/p", "/api/v1/pods"],
                &[
                    "/api/v1/namespaces/a/pods/p/log",
                    "/apis/x.io/v1/pods",
                    "/x",
                ],
            ),
            (
                "resources: [{group: '', resources: ['pods/*']}]",
                &[
                    "/api/v1/namespaces/a/pods/p",
                    "/api/v1/namespaces/a/pods/p/log",
                ],
                &["/api/v1/nodes"],
            ),
            (
                "resources: [{group: apps, resources: ['*/scale']}]",
                &["/apis/apps/v1/namespaces/a/deployments/d/scale"],
                &["/apis/apps/v1/namespaces/a/deployments/d"],
            ),
            (
                "resources: [{group: ''}]",
                &["/api/v1/pods", "/api/v1/namespaces/a/pods/p/log"],
                &["/apis/apps/v1/deployments"],
            ),
            (
                "resources: [{group: '', resources: [secrets], resourceNames: [one]}]",
                &[
                    "/api/v1/namespaces/a/secrets/one",
                    "/api/v1/secrets?fieldSelector=metadata.name%3Done",
                ],
                &["/api/v1/namespaces/a/secrets/two", "/api/v1/secrets"],
            ),
        ] {
            let policy = policy(&format!("- level: Request\n  {rule}")).unwrap();
            for uri in fits {
                assert_eq!(
                    level(&policy, &jane, Method::GET, uri),
                    Level::Request,
                    "{rule} {uri}"
                );
            }
            for uri in others {
                assert_eq!(
                    level(&policy, &jane, Method::GET, uri),
                    Level::None,
                    "{rule} {uri}"
                );
            }
        }
        let first = policy("- {level: None, verbs: [get]}\n- {level: Metadata, omitStages: [Panic], omitManagedFields: true}").unwrap();
        assert_eq!(
            level(&first, &jane, Method::GET, &format!("{base}/pods/p")),
            Level::None
        );
        let verdict = first.judge(&jane, &info(&Method::POST, base));
        assert_eq!(verdict.level, Level::Metadata);
        assert_eq!(verdict.omit_stages, [Stage::RequestReceived, Stage::Panic]);
        assert!(verdict.omit_managed_fields);
    }

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        for (rules, part) in [
            ("- level: Everything", "Everything"),
            ("- {level: None, user: [a]}", "user"),
            (
                "- {level: None, namespaces: [a], nonResourceURLs: [/x]}",
                "rules[0].nonResourceURLs: Invalid value: rules cannot apply to both",
            ),
            (
                "- {level: None, nonResourceURLs: [x]}",
                "must begin with a '/'",
            ),
            (
                "- {level: None, nonResourceURLs: ['/x*y']}",
                "must be the final character",
            ),
            (
                "- {level: None, resources: [{group: '', resourceNames: [a]}]}",
                "requires at least one resource",
            ),
            (
                "- {level: None, resources: [{group: apps/v1}]}",
                "a group has no '/'",
            ),
        ] {
            let text = policy(rules).unwrap_err().to_string();
            assert!(text.contains(part), "{rules}: {text}");
        }
        let none = AuditPolicy::parse("apiVersion: audit.k8s.io/v1\nkind: Policy").unwrap_err();
        assert!(none.to_string().contains("0 rules"));
        let beta = AuditPolicy::parse("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: []");
        assert!(beta.unwrap_err().to_string().contains("expected is"));
    }

    #[test]
    fn the_default_policy_tells_of_writes_and_secrets_and_never_a_body() {
        let policy = AuditPolicy::default_policy();
        let (jane, node) = (User::new("jane", ["dev"]), User::node("n1"));
        let level = |user: &User, method: Method, uri: &str| level(&policy, user, method, uri);
        let ns = "/api/v1/namespaces/a";
        for (method, uri) in [
            (Method::POST, format!("{ns}/pods")),
            (Method::DELETE, format!("{ns}/pods/p")),
            (Method::GET, format!("{ns}/secrets/s")),
            (Method::GET, "/api/v1/secrets".into()),
            (Method::GET, format!("{ns}/pods/p/exec")),
            (Method::POST, format!("{ns}/serviceaccounts/d/token")),
            (
                Method::POST,
                "/apis/authentication.k8s.io/v1/tokenreviews".into(),
            ),
        ] {
            assert_eq!(level(&jane, method, &uri), Level::Metadata, "{uri}");
        }
        for uri in ["/healthz", "/readyz/log", "/apis/apps/v1", "/api/v1/pods"] {
            assert_eq!(level(&jane, Method::GET, uri), Level::None, "{uri}");
        }
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";
        assert_eq!(level(&node, Method::PUT, lease), Level::None);
        assert_eq!(
            level(&node, Method::PATCH, "/api/v1/nodes/n1/status"),
            Level::None
        );
        assert_eq!(
            level(&node, Method::PATCH, "/api/v1/nodes/n1"),
            Level::Metadata
        );
        assert!(
            policy
                .rules
                .iter()
                .all(|rule| rule.level <= Level::Metadata)
        );
        assert!(policy.tells_secrets().is_empty());
    }

    #[test]
    fn a_policy_that_tells_secrets_is_known() {
        let told = |rules: &str| policy(rules).unwrap().tells_secrets();
        assert_eq!(
            told("- level: RequestResponse"),
            [
                "secrets",
                "configmaps",
                "tokenreviews",
                "serviceaccounts/token"
            ]
        );
        let secrets = "resources: [{group: '', resources: [secrets, configmaps]}]";
        assert_eq!(
            told(&format!(
                "- {{level: Metadata, {secrets}}}\n- level: Request"
            )),
            ["tokenreviews", "serviceaccounts/token"]
        );
        assert_eq!(
            told(&format!(
                "- {{level: Metadata, users: [a], {secrets}}}\n- level: Request"
            ))
            .len(),
            4
        );
    }
}
