//! PodSecurity: labels of a namespace say how modest its pods have to be, and about what their authors are only warned.

mod checks;

use std::collections::BTreeMap;

use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::Value;

use crate::admission::{Admission, Operation};
use crate::status::{ApiError, ApiResult, quoted};
use checks::{Pod, Violation, violations};

/// Pods of a namespace that are looked at when its labels become stricter.
const PODS_CHECKED_MAX: usize = 3_000;
/// Doors to a pod through which its spec does not change.
const IGNORED: &[&str] = &[
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];

/// How strict, from free to strict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Level> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// A level as a version of the standard has it; no minor version is the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standard {
    level: Level,
    minor: Option<u32>,
}

impl std::fmt::Display for Standard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.minor {
            None => write!(formatter, "{}:latest", self.level.as_str()),
            Some(minor) => write!(formatter, "{}:v1.{minor}", self.level.as_str()),
        }
    }
}

/// What the labels of a namespace ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Policy {
    enforce: Standard,
    audit: Standard,
    warn: Standard,
}

/// Reads the labels. Where one is wrong the strictest reading counts, and warnings are left out.
fn policy<'a>(label: impl Fn(&str) -> Option<&'a str>) -> (Policy, Vec<FieldError>) {
    let mut errors = Vec::new();
    let mut standard = |mode: &str, fallback: Level| {
        let key = format!("pod-security.kubernetes.io/{mode}");
        let level = match label(&key) {
            None => Level::default(),
            Some(text) => Level::parse(text).unwrap_or_else(|| {
                errors.push(bad_label(
                    &key,
                    text,
                    "must be one of privileged, baseline, restricted",
                ));
                fallback
            }),
        };
        let key = format!("{key}-version");
        let minor = match label(&key) {
            None | Some("latest") => None,
            Some(text) => {
                let minor = minor(text);
                if minor.is_none() {
                    errors.push(bad_label(&key, text, "must be \"latest\" or \"v1.x\""));
                }
                minor
            }
        };
        Standard { level, minor }
    };
    let enforce = standard("enforce", Level::Restricted);
    let audit = standard("audit", Level::Privileged);
    let warn = standard("warn", Level::Privileged);
    let policy = Policy {
        enforce,
        audit,
        warn,
    };
    (policy, errors)
}

fn bad_label(key: &str, value: &str, detail: &str) -> FieldError {
    let path = Path::new("metadata").child("labels").key(key);
    FieldError::invalid(&path, value, detail)
}

/// `v1.30`
fn minor(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("v1.")?;
    let plain = digits == "0" || !digits.starts_with('0');
    (plain && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

fn judged(standard: Standard, metadata: &Value, spec: &Value) -> Vec<Violation> {
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let pod = Pod {
        metadata,
        spec,
        minor: standard.minor.unwrap_or(u32::MAX),
    };
    violations(&pod, standard.level)
}

fn told(violations: &[Violation]) -> String {
    let texts: Vec<String> = violations.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

pub(super) fn validate(admission: &Admission<'_>, object: Option<&Object>) -> ApiResult<()> {
    let Some(object) = object else { return Ok(()) };
    if !matches!(admission.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    if admission.is("", "namespaces") {
        return if admission.subresource.is_empty() {
            namespace(admission, object)
        } else {
            Ok(())
        };
    }
    if admission.is("", "pods") {
        return pod(admission, object);
    }
    if admission.subresource.is_empty()
        && let Some(template) = template(admission, object)
    {
        let (policy, _) = policy_of(admission);
        tell(admission, &policy, template);
    }
    Ok(())
}

/// The policy of the request's namespace.
fn policy_of(admission: &Admission<'_>) -> (Policy, Vec<FieldError>) {
    let context = admission.context;
    let namespace = context
        .server
        .world
        .get("", "namespaces", "", &context.info.namespace);
    let Some(namespace) = namespace else {
        return (Policy::default(), Vec::new());
    };
    let mut labels = namespace
        .labels()
        .filter(|(key, _)| key.starts_with("pod-security.kubernetes.io/"))
        .peekable();
    if labels.peek().is_none() {
        return (Policy::default(), Vec::new());
    }
    let labels: BTreeMap<&str, &str> = labels.collect();
    policy(|key| labels.get(key).copied())
}

fn pod(admission: &Admission<'_>, pod: &Object) -> ApiResult<()> {
    if IGNORED.contains(&admission.subresource) {
        return Ok(());
    }
    let (policy, _) = policy_of(admission);
    if policy == Policy::default() {
        return Ok(());
    }
    if let Some(old) = admission.old
        && !is_significant(pod.value(), old.value())
    {
        return Ok(());
    }
    admission.context.audit.annotate(
        "pod-security.kubernetes.io/enforce-policy",
        &policy.enforce.to_string(),
    );
    let refused = judged(
        policy.enforce,
        &pod.value()["metadata"],
        &pod.value()["spec"],
    );
    if !refused.is_empty() {
        let text = format!(
            "violates PodSecurity {}: {}",
            quoted(&policy.enforce.to_string()),
            told(&refused)
        );
        return Err(admission.forbid(pod, &text));
    }
    tell(admission, &policy, pod.value());
    Ok(())
}

/// Tells the client and the audit log what they are to know.
fn tell(admission: &Admission<'_>, policy: &Policy, template: &Value) {
    let violation = |standard: Standard| {
        let violated = judged(standard, &template["metadata"], &template["spec"]);
        let standard = quoted(&standard.to_string());
        let text = || format!("would violate PodSecurity {standard}: {}", told(&violated));
        (!violated.is_empty()).then(text)
    };
    if let Some(text) = violation(policy.audit) {
        let key = "pod-security.kubernetes.io/audit-violations";
        admission.context.audit.annotate(key, &text);
    }
    if let Some(text) = violation(policy.warn) {
        admission.context.warn(text);
    }
}

/// What the object makes pods from.
fn template<'a>(admission: &Admission<'_>, object: &'a Object) -> Option<&'a Value> {
    let path: &[&str] = match (&*admission.resource.group, &*admission.resource.plural) {
        ("", "podtemplates") => &["template"],
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &["spec", "template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    };
    object.get(path).filter(|template| template.is_object())
}

/// Whether an update changes what the standards look at: images, and which containers there are.
fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, field: &str| -> Vec<(String, String)> {
        let containers = pod["spec"][field].as_array();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        containers
            .into_iter()
            .flatten()
            .map(|one| (text(&one["name"]), text(&one["image"])))
            .collect()
    };
    ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .any(|field| images(new, field) != images(old, field))
}

/// Labels have to be right where they are set; and who makes them stricter hears of the pods that would not pass.
fn namespace(admission: &Admission<'_>, namespace: &Object) -> ApiResult<()> {
    let (new, errors) = policy(|key| namespace.label(key));
    let (old, old_errors) = match admission.old {
        Some(old) => policy(|key| old.label(key)),
        None => (Policy::default(), Vec::new()),
    };
    if !errors.is_empty() && errors != old_errors {
        return Err(ApiError::invalid(
            "",
            "Namespace",
            namespace.name(),
            &errors,
        ));
    }
    let relaxed = new.enforce.minor == old.enforce.minor && new.enforce.level <= old.enforce.level;
    if admission.old.is_none()
        || new.enforce == old.enforce
        || new.enforce.level == Level::Privileged
        || relaxed
    {
        return Ok(());
    }
    let pods = admission
        .context
        .server
        .world
        .list("", "pods", namespace.name());
    let count = pods.len();
    let judged = pods.iter().take(PODS_CHECKED_MAX).map(|entry| {
        let pod = entry.object();
        let violated = judged(new.enforce, &pod.value()["metadata"], &pod.value()["spec"]);
        let reasons: Vec<String> = violated.into_iter().map(|one| one.reason).collect();
        (entry.name().to_owned(), reasons.join(", "))
    });
    for warning in about_pods(namespace.name(), new.enforce, count, judged) {
        admission.context.warn(warning);
    }
    Ok(())
}

/// The warnings about (name, what it violates) of the pods of a namespace.
fn about_pods(
    namespace: &str,
    standard: Standard,
    count: usize,
    pods: impl Iterator<Item = (String, String)>,
) -> Vec<String> {
    let mut by_reason: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for (name, reason) in pods.filter(|(_, reason)| !reason.is_empty()) {
        let (first, count) = by_reason.entry(reason).or_insert((name.clone(), 0));
        *count += 1;
        if name < *first {
            *first = name;
        }
    }
    let mut warnings = Vec::new();
    if count > PODS_CHECKED_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_CHECKED_MAX} of {count} existing pods"
        ));
    }
    if !by_reason.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {} violate the new PodSecurity enforce level {}",
            quoted(namespace),
            quoted(&standard.to_string())
        ));
    }
    let mut lines: Vec<String> = by_reason
        .into_iter()
        .map(|(reason, (name, count))| match count {
            1 => format!("{name}: {reason}"),
            2 => format!("{name} (and 1 other pod): {reason}"),
            count => format!("{name} (and {} other pods): {reason}", count - 1),
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_a_policy() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            let labels: BTreeMap<String, &'static str> = pairs
                .iter()
                .map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), *value))
                .collect();
            policy(|key| labels.get(key).copied())
        };
        assert_eq!(read(&[]), (Policy::default(), Vec::new()));
        let (known, errors) = read(&[("enforce", "baseline"), ("enforce-version", "v1.30")]);
        assert!(errors.is_empty());
        assert_eq!(known.enforce.to_string(), "baseline:v1.30");
        assert_eq!(known.warn.to_string(), "privileged:latest");
        let (strict, errors) = read(&[("enforce", "strict"), ("warn-version", "v1.01")]);
        assert_eq!(strict.enforce.to_string(), "restricted:latest");
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\""
            ]
        );
    }

    #[test]
    fn pods_with_the_same_faults_are_told_together() {
        let pods = ["b", "a", "c", "d"].into_iter().map(|name| {
            let reason = if name == "d" {
                "privileged"
            } else {
                "hostPort"
            };
            (name.to_owned(), reason.to_owned())
        });
        let standard = Standard {
            level: Level::Restricted,
            minor: None,
        };
        assert_eq!(
            about_pods("n", standard, 4, pods),
            [
                "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"restricted:latest\"",
                "a (and 2 other pods): hostPort",
                "d: privileged"
            ]
        );
        assert!(about_pods("n", standard, 0, std::iter::empty()).is_empty());
    }

    #[test]
    fn labels_of_a_pod_are_no_reason_to_judge_it_again() {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        let mut labelled = pod.clone();
        labelled["metadata"] = json!({"labels": {"a": "b"}});
        assert!(!is_significant(&labelled, &pod));
        let mut other = pod.clone();
        other["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "x"}]);
        assert!(is_significant(&other, &pod));
    }
}
