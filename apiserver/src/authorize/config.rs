//! The file of `--authorization-config`, as `apiserver.config.k8s.io` has it: who is asked whether a user may do something, and
//! in which order.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use cel::types::Type;
use cel::{Environment, Program};
use schema::field::{FieldError, Path, aggregate};
use serde::Deserialize;

use crate::config_file::{self, ConfigFile};

const TYPES: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
const AUTHORIZED_TIME: Duration = Duration::from_secs(300);
const UNAUTHORIZED_TIME: Duration = Duration::from_secs(30);
const CONDITIONS_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    authorizers: Vec<AuthorizerFile>,
}

impl ConfigFile for File {
    const KIND: &str = "AuthorizationConfiguration";

    fn head(&self) -> (&str, &str) {
        (&self.kind, &self.api_version)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AuthorizerFile {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    name: String,
    webhook: Option<WebhookFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WebhookFile {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_unauthorized_requests: Option<bool>,
    timeout: Option<String>,
    #[serde(default)]
    subject_access_review_version: String,
    #[serde(default)]
    match_condition_subject_access_review_version: String,
    #[serde(default)]
    failure_policy: String,
    #[serde(default)]
    connection_info: ConnectionInfo,
    #[serde(default)]
    match_conditions: Vec<MatchCondition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConnectionInfo {
    #[serde(rename = "type", default)]
    kind: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MatchCondition {
    #[serde(default)]
    expression: String,
}

/// Who is asked.
#[derive(Debug)]
pub(super) enum Settings {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(WebhookSettings),
}

#[derive(Debug)]
pub(super) struct WebhookSettings {
    pub(super) name: String,
    /// In the form of a kubeconfig.
    pub(super) file: PathBuf,
    pub(super) version: String,
    pub(super) timeout: Duration,
    /// How long its answers hold; zero for not at all.
    pub(super) authorized_time: Duration,
    pub(super) unauthorized_time: Duration,
    /// Whether a call that fails refuses the request.
    pub(super) fails_closed: bool,
    /// It is asked only where all of these hold.
    pub(super) conditions: Vec<Program>,
}

/// The kubeconfigs that the file names; none where it cannot be read.
pub(crate) fn kubeconfigs(text: &str) -> Vec<PathBuf> {
    let file = config_file::read::<File>(text);
    let authorizers = file.map(|file| file.authorizers).unwrap_or_default();
    let webhooks = authorizers.into_iter().filter_map(|one| one.webhook);
    webhooks
        .filter_map(|webhook| webhook.connection_info.kube_config_file)
        .collect()
}

/// Reads the file.
pub(super) fn parse(text: &str) -> Result<Vec<Settings>, String> {
    let file: File = config_file::read(text)?;
    let path = Path::new("authorizers");
    let mut errors = Vec::new();
    if file.authorizers.is_empty() {
        let text = "at least one authorization mode must be defined";
        errors.push(FieldError::required(&path, text));
    }
    let (mut kinds, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut all = Vec::new();
    for (index, authorizer) in file.authorizers.into_iter().enumerate() {
        let path = path.index(index);
        let kind = authorizer.kind.as_str();
        let of_kind = path.child("type");
        match kind {
            "" => errors.push(FieldError::required(&of_kind, "")),
            known if TYPES.contains(&known) => {}
            other => errors.push(FieldError::not_supported(&of_kind, other, &TYPES)),
        }
        if kind != "Webhook" && !kinds.insert(kind.to_owned()) {
            errors.push(FieldError::duplicate(&of_kind, kind));
        }
        let of_name = path.child("name");
        match authorizer.name.as_str() {
            "" => errors.push(FieldError::required(&of_name, "")),
            name if !names.insert(name.to_owned()) => {
                errors.push(FieldError::duplicate(&of_name, name));
            }
            _ => {}
        }
        let of_webhook = path.child("webhook");
        match (kind, authorizer.webhook) {
            ("Webhook", None) => {
                let text = "required when type=Webhook";
                errors.push(FieldError::required(&of_webhook, text));
            }
            ("Webhook", Some(webhook)) => {
                let webhook = webhook_of(authorizer.name, webhook, &of_webhook, &mut errors);
                all.extend(webhook.map(Settings::Webhook));
            }
            (_, Some(_)) => {
                let text = "may only be specified when type=Webhook";
                errors.push(FieldError::invalid(&of_webhook, "non-null", text));
            }
            ("Node", None) => all.push(Settings::Node),
            ("RBAC", None) => all.push(Settings::Rbac),
            ("AlwaysAllow", None) => all.push(Settings::AlwaysAllow),
            (_, None) => all.push(Settings::AlwaysDeny),
        }
    }
    match errors.is_empty() {
        true => Ok(all),
        false => Err(aggregate(&errors)),
    }
}

fn webhook_of(
    name: String,
    file: WebhookFile,
    path: &Path,
    errors: &mut Vec<FieldError>,
) -> Option<WebhookSettings> {
    let before = errors.len();
    let mut choice = |field: &str, value: &str, known: &[&str]| {
        let path = path.child(field);
        match value {
            "" => errors.push(FieldError::required(&path, "")),
            value if known.contains(&value) => {}
            other => errors.push(FieldError::not_supported(&path, other, known)),
        }
    };
    let version = &file.subject_access_review_version;
    choice("subjectAccessReviewVersion", version, &["v1", "v1beta1"]);
    choice(
        "failurePolicy",
        &file.failure_policy,
        &["NoOpinion", "Deny"],
    );
    let of_conditions = &file.match_condition_subject_access_review_version;
    if !file.match_conditions.is_empty() || !of_conditions.is_empty() {
        let field = "matchConditionSubjectAccessReviewVersion";
        choice(field, of_conditions, &["v1"]);
    }
    let authorized_time = time(
        &file.authorized_ttl,
        AUTHORIZED_TIME,
        &path.child("authorizedTTL"),
        errors,
    );
    let unauthorized_time = time(
        &file.unauthorized_ttl,
        UNAUTHORIZED_TIME,
        &path.child("unauthorizedTTL"),
        errors,
    );
    let of_timeout = path.child("timeout");
    let timeout = time(&file.timeout, Duration::ZERO, &of_timeout, errors);
    match &file.timeout {
        None => errors.push(FieldError::required(&of_timeout, "")),
        Some(text) if timeout.is_zero() => {
            errors.push(FieldError::invalid(
                &of_timeout,
                text.as_str(),
                "must be > 0s",
            ));
        }
        Some(text) if timeout > TIMEOUT_MAX => {
            errors.push(FieldError::invalid(
                &of_timeout,
                text.as_str(),
                "must be <= 30s",
            ));
        }
        Some(_) => {}
    }
    let kubeconfig = connection(&file.connection_info, &path.child("connectionInfo"), errors);
    let conditions = conditions(
        &file.match_conditions,
        &path.child("matchConditions"),
        errors,
    );
    if errors.len() > before {
        return None;
    }
    let cached = |time: Duration, cached: Option<bool>| match cached {
        Some(false) => Duration::ZERO,
        _ => time,
    };
    Some(WebhookSettings {
        name,
        file: kubeconfig?,
        version: file.subject_access_review_version,
        timeout,
        authorized_time: cached(authorized_time, file.cache_authorized_requests),
        unauthorized_time: cached(unauthorized_time, file.cache_unauthorized_requests),
        fails_closed: file.failure_policy == "Deny",
        conditions,
    })
}

fn connection(info: &ConnectionInfo, path: &Path, errors: &mut Vec<FieldError>) -> Option<PathBuf> {
    let of_file = path.child("kubeConfigFile");
    match (info.kind.as_str(), &info.kube_config_file) {
        ("KubeConfigFile", Some(file)) if file.is_absolute() => return Some(file.clone()),
        ("KubeConfigFile", Some(file)) => {
            let file = file.display().to_string();
            errors.push(FieldError::invalid(
                &of_file,
                file,
                "must be an absolute path",
            ));
        }
        ("KubeConfigFile", None) => errors.push(FieldError::required(&of_file, "")),
        ("", _) => errors.push(FieldError::required(&path.child("type"), "")),
        // A server is not a pod.
        (other, _) => {
            let path = path.child("type");
            errors.push(FieldError::not_supported(&path, other, &["KubeConfigFile"]));
        }
    }
    None
}

fn conditions(all: &[MatchCondition], path: &Path, errors: &mut Vec<FieldError>) -> Vec<Program> {
    if all.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(path, all.len(), CONDITIONS_MAX));
        return Vec::new();
    }
    let environment = Environment::new().with("request", review_type());
    let mut seen = BTreeSet::new();
    let mut programs = Vec::new();
    for (index, condition) in all.iter().enumerate() {
        let path = path.index(index).child("expression");
        let text = condition.expression.trim();
        if text.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if !seen.insert(text) {
            errors.push(FieldError::duplicate(&path, text));
        }
        match Program::compile(&environment, text) {
            Ok(program) if matches!(program.result(), Type::Bool | Type::Dyn) => {
                programs.push(program);
            }
            Ok(_) => errors.push(FieldError::invalid(&path, text, "must evaluate to bool")),
            Err(error) => {
                let error = format!("compilation failed: {error}");
                errors.push(FieldError::invalid(&path, text, error));
            }
        }
    }
    programs
}

/// What `request` is in conditions.
pub(super) fn review_type() -> Type {
    let known = schema::types::type_named("authorization.SubjectAccessReviewSpec");
    known.map_or(Type::Dyn, cel::admission::table_type)
}

fn time(
    text: &Option<String>,
    otherwise: Duration,
    path: &Path,
    errors: &mut Vec<FieldError>,
) -> Duration {
    let Some(text) = text else { return otherwise };
    duration(text).unwrap_or_else(|| {
        let problem = "must be a duration such as 30s, 5m or 1m30s";
        errors.push(FieldError::invalid(path, text.as_str(), problem));
        otherwise
    })
}

/// A duration as Go writes it: numbers with units.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if text == "0" {
        return Some(total);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, seconds) = units
            .into_iter()
            .find(|(unit, _)| after.starts_with(unit))?;
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        rest = &after[unit.len()..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";

    fn webhook(more: &str) -> String {
        format!(
            "{HEAD}authorizers:\n- type: Webhook\n  name: hook\n  webhook:\n    timeout: 3s\n    \
             subjectAccessReviewVersion: v1\n    failurePolicy: Deny\n    connectionInfo: {{type: KubeConfigFile, \
             kubeConfigFile: /hook.yaml}}\n{more}"
        )
    }

    #[test]
    fn a_chain_is_read_in_its_order() {
        let text = format!(
            "{}- {{type: Node, name: node}}\n- {{type: RBAC, name: rbac}}\n",
            webhook(
                "    authorizedTTL: 1m30s\n    cacheUnauthorizedRequests: false\n    \
                 matchConditionSubjectAccessReviewVersion: v1\n    matchConditions:\n    - expression: \
                 has(request.resourceAttributes) && request.resourceAttributes.namespace == 'kube-system'\n"
            )
        );
        let chain = parse(&text).unwrap();
        let [Settings::Webhook(hook), Settings::Node, Settings::Rbac] = chain.as_slice() else {
            panic!("{chain:?}")
        };
        assert_eq!(
            (hook.name.as_str(), hook.timeout),
            ("hook", Duration::from_secs(3))
        );
        assert_eq!(hook.authorized_time, Duration::from_secs(90));
        assert!(hook.unauthorized_time.is_zero() && hook.fails_closed);
        assert_eq!(hook.conditions.len(), 1);
        let plain = parse(&webhook("")).unwrap();
        let [Settings::Webhook(hook)] = plain.as_slice() else {
            panic!("{plain:?}")
        };
        let times = (hook.authorized_time, hook.unauthorized_time);
        assert_eq!(times, (AUTHORIZED_TIME, UNAUTHORIZED_TIME));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let rbac = "authorizers:\n- {type: RBAC, name: a}\n";
        let condition = |expression: &str| {
            webhook(&format!(
                "    matchConditionSubjectAccessReviewVersion: v1\n    matchConditions: [{{expression: \"{expression}\"}}]\n"
            ))
        };
        for (text, problem) in [
            (
                HEAD.to_owned(),
                "authorizers: Required value: at least one authorization mode must be defined",
            ),
            (
                format!("{HEAD}{rbac}- {{type: RBAC, name: a}}\n"),
                "authorizers[1].type: Duplicate value: \"RBAC\"",
            ),
            (
                format!("{HEAD}{rbac}- {{type: Node, name: a}}\n"),
                "authorizers[1].name: Duplicate value: \"a\"",
            ),
            (
                format!("{HEAD}authorizers: [{{type: ABAC, name: a}}]"),
                "authorizers[0].type: Unsupported value: \"ABAC\"",
            ),
            (
                format!("{HEAD}authorizers: [{{type: Webhook, name: a}}]"),
                "authorizers[0].webhook: Required value",
            ),
            (
                webhook("").replace("3s", "31s"),
                "webhook.timeout: Invalid value: \"31s\": must be <= 30s",
            ),
            (
                webhook("").replace("3s", "soon"),
                "webhook.timeout: Invalid value: \"soon\"",
            ),
            (
                webhook("").replace("Deny", "Allow"),
                "webhook.failurePolicy: Unsupported value: \"Allow\"",
            ),
            (
                webhook("").replace("/hook.yaml", "hook.yaml"),
                "must be an absolute path",
            ),
            (
                condition("request.nothing == 1"),
                "matchConditions[0].expression: Invalid value",
            ),
            (condition("request.user"), "must evaluate to bool"),
            (webhook("    unknown: 1\n"), "unknown"),
            (
                "kind: AuthorizationConfiguration\napiVersion: v1\n".to_owned(),
                "not an AuthorizationConfiguration",
            ),
            ("[".to_owned(), "cannot be read"),
        ] {
            let error = parse(&text).err().unwrap_or_else(|| panic!("{text}"));
            assert!(error.contains(problem), "{problem}: {error}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("1.5s", 1_500),
            ("300ms", 300),
            ("1h2m3s", 3_723_000),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for bad in [
            "",
            "s",
            "1",
            "-1s",
            "1d",
            "1s2",
            "1e9s",
            "99999999999999999999h",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
