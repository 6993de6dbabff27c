//! What the Pod Security Standards forbid. One function a rule; [`CHECKS`] is the list, in the order in which violations are
//! told. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Level;

/// A pod, or what pods will be made from.
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Value,
    pub(super) spec: &'a Value,
    /// Minor version of the standard; the largest number for the latest one.
    pub(super) minor: u32,
}

/// What a pod violates: the rule, and who does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    detail: String,
}

impl Violation {
    fn new(reason: &str, detail: String) -> Option<Violation> {
        Some(Violation {
            reason: reason.to_owned(),
            detail,
        })
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.reason, self.detail)
    }
}

/// One rule.
struct Check {
    level: Level,
    /// The minor version of the standard that brought it.
    since: u32,
    /// The stricter rule that takes its place in the restricted level, from that version on.
    replaced_since: Option<u32>,
    run: fn(&Pod<'_>) -> Option<Violation>,
}

const fn baseline(run: fn(&Pod<'_>) -> Option<Violation>) -> Check {
    Check {
        level: Level::Baseline,
        since: 0,
        replaced_since: None,
        run,
    }
}

const fn restricted(since: u32, run: fn(&Pod<'_>) -> Option<Violation>) -> Check {
    Check {
        level: Level::Restricted,
        since,
        ..baseline(run)
    }
}

const CHECKS: &[Check] = &[
    baseline(app_armor),
    Check {
        replaced_since: Some(22),
        ..baseline(capabilities_baseline)
    },
    baseline(host_namespaces),
    Check {
        replaced_since: Some(0),
        ..baseline(host_path_volumes)
    },
    baseline(host_ports),
    Check {
        since: 34,
        ..baseline(host_probes)
    },
    baseline(privileged),
    baseline(proc_mount),
    baseline(se_linux),
    Check {
        since: 19,
        replaced_since: Some(19),
        ..baseline(seccomp_baseline)
    },
    baseline(sysctls),
    baseline(windows_host_process),
    restricted(8, privilege_escalation),
    restricted(22, capabilities_restricted),
    restricted(0, volume_types),
    restricted(0, run_as_non_root),
    restricted(23, run_as_user),
    restricted(19, seccomp_restricted),
];

/// Everything in which the pod violates the level.
pub(super) fn violations(pod: &Pod<'_>, level: Level) -> Vec<Violation> {
    CHECKS
        .iter()
        .filter(|check| check.level <= level && check.since <= pod.minor)
        .filter(|check| {
            level < Level::Restricted || check.replaced_since.is_none_or(|since| since > pod.minor)
        })
        .filter_map(|check| (check.run)(pod))
        .collect()
}

impl<'a> Pod<'a> {
    fn list(&self, field: &str) -> &'a [Value] {
        list(self.spec, field)
    }

    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|field| self.list(field))
    }

    /// Names of the containers of which that holds.
    fn named(&self, mut holds: impl FnMut(&Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| holds(container))
            .map(|container| text(container, "/name"))
            .collect()
    }

    /// Settings for Windows are not those of this standard since 1.25.
    fn is_windows(&self) -> bool {
        self.minor >= 25 && text(self.spec, "/os/name") == "windows"
    }

    /// Since 1.35 root in a user namespace of its own is no root.
    fn has_own_users(&self) -> bool {
        self.minor >= 35 && flag(self.spec, "/hostUsers") == Some(false)
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    let list = value.get(field).and_then(Value::as_array);
    list.map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_default()
}

fn flag(value: &Value, pointer: &str) -> Option<bool> {
    value.pointer(pointer).and_then(Value::as_bool)
}

fn plural<'a>(one: &'a str, several: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { several }
}

/// `"a", "b"`
fn quoted<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<String> = texts
        .into_iter()
        .map(|text| format!("\"{}\"", text.as_ref()))
        .collect();
    quoted.join(", ")
}

/// `container "a"`, `containers "a", "b"`
fn those(names: &[&str]) -> String {
    let word = plural("container", "containers", names.len());
    format!("{word} {}", quoted(names))
}

/// `pod and container "a"`: who sets something.
fn setters(pod: bool, names: &[&str]) -> String {
    let mut setters = Vec::new();
    if pod {
        setters.push("pod".to_owned());
    }
    if !names.is_empty() {
        setters.push(those(names));
    }
    setters.join(" and ")
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut bad = BTreeSet::new();
    let mut is_bad = |value: &Value| {
        let kind = text(value, "/securityContext/appArmorProfile/type");
        let is_bad = !matches!(kind, "" | "RuntimeDefault" | "Localhost");
        if is_bad {
            bad.insert(kind.to_owned());
        }
        is_bad
    };
    let of_pod = is_bad(pod.spec);
    let names = pod.named(is_bad);
    let annotations = pod.metadata.get("annotations").and_then(Value::as_object);
    let by_annotation: BTreeSet<String> = annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(ANNOTATION))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| {
            !matches!(*value, "" | "runtime/default") && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}=\"{value}\""))
        .collect();
    let mut who = setters(of_pod, &names);
    if !by_annotation.is_empty() {
        let word = plural("annotation", "annotations", by_annotation.len());
        who = if who.is_empty() {
            word.to_owned()
        } else {
            format!("{who} and {word}")
        };
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = bad.into_iter().chain(by_annotation).collect();
    Violation::new(
        plural(
            "forbidden AppArmor profile",
            "forbidden AppArmor profiles",
            values.len(),
        ),
        format!(
            "{who} must not set AppArmor profile type to {}",
            quoted(values)
        ),
    )
}

/// The containers that add capabilities besides the allowed ones, and those capabilities.
fn added<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<String>) {
    let mut bad = BTreeSet::new();
    let names = pod.named(|container| {
        let capabilities = container.pointer("/securityContext/capabilities");
        let before = list(capabilities.unwrap_or(&Value::Null), "add")
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| !allowed.contains(name));
        let mut any = false;
        for name in before {
            any = true;
            bad.insert(name.to_owned());
        }
        any
    });
    (names, bad)
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let (names, bad) = added(pod, ALLOWED);
    if names.is_empty() {
        return None;
    }
    let (who, what) = (those(&names), quoted(bad));
    Violation::new(
        "non-default capabilities",
        format!("{who} must not include {what} in securityContext.capabilities.add"),
    )
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostIPC", "hostNetwork", "hostPID"]
        .into_iter()
        .filter(|field| pod.spec.get(field).and_then(Value::as_bool) == Some(true))
        .map(|field| format!("{field}=true"))
        .collect();
    if shared.is_empty() {
        return None;
    }
    Violation::new("host namespaces", shared.join(", "))
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let names: Vec<&str> = pod
        .list("volumes")
        .iter()
        .filter(|volume| volume.get("hostPath").is_some_and(|path| !path.is_null()))
        .map(|volume| text(volume, "/name"))
        .collect();
    if names.is_empty() {
        return None;
    }
    let word = plural("volume", "volumes", names.len());
    Violation::new("hostPath volumes", format!("{word} {}", quoted(names)))
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let names = pod.named(|container| {
        let ports: Vec<String> = list(container, "ports")
            .iter()
            .filter_map(|port| port.get("hostPort")?.as_i64())
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        let any = !ports.is_empty();
        bad.extend(ports);
        any
    });
    if names.is_empty() {
        return None;
    }
    let (uses, word) = (
        plural("uses", "use", names.len()),
        plural("hostPort", "hostPorts", bad.len()),
    );
    let ports: Vec<String> = bad.into_iter().collect();
    Violation::new(
        "hostPort",
        format!("{} {uses} {word} {}", those(&names), ports.join(", ")),
    )
}

fn host_probes(pod: &Pod<'_>) -> Option<Violation> {
    const HANDLERS: &[&str] = &[
        "/livenessProbe",
        "/readinessProbe",
        "/startupProbe",
        "/lifecycle/postStart",
        "/lifecycle/preStop",
    ];
    let mut bad = BTreeSet::new();
    let names = pod.named(|container| {
        let mut any = false;
        for handler in HANDLERS {
            for kind in ["httpGet", "tcpSocket"] {
                let host = text(container, &format!("{handler}/{kind}/host"));
                if !host.is_empty() {
                    any = true;
                    bad.insert(host.to_owned());
                }
            }
        }
        any
    });
    if names.is_empty() {
        return None;
    }
    let names: BTreeSet<&str> = names.into_iter().collect();
    let names: Vec<&str> = names.into_iter().collect();
    let uses = plural("uses", "use", names.len());
    let word = plural(
        "probe or lifecycle host",
        "probe or lifecycle hosts",
        bad.len(),
    );
    Violation::new(
        "probe or lifecycle host",
        format!("{} {uses} {word} {}", those(&names), quoted(bad)),
    )
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.named(|container| flag(container, "/securityContext/privileged") == Some(true));
    if names.is_empty() {
        return None;
    }
    Violation::new(
        "privileged",
        format!(
            "{} must not set securityContext.privileged=true",
            those(&names)
        ),
    )
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() {
        return None;
    }
    let mut bad = BTreeSet::new();
    let names = pod.named(|container| {
        let kind = text(container, "/securityContext/procMount");
        let is_bad = !matches!(kind, "" | "Default");
        if is_bad {
            bad.insert(kind.to_owned());
        }
        is_bad
    });
    if names.is_empty() {
        return None;
    }
    let (who, what) = (those(&names), quoted(bad));
    Violation::new(
        "procMount",
        format!("{who} must not set securityContext.procMount to {what}"),
    )
}

fn se_linux(pod: &Pod<'_>) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let minor = pod.minor;
    let mut is_bad = |value: &Value| {
        let of = |field: &str| text(value, &format!("/securityContext/seLinuxOptions/{field}"));
        let kind = of("type");
        let known = matches!(
            kind,
            "" | "container_t" | "container_init_t" | "container_kvm_t"
        ) || (minor >= 31 && kind == "container_engine_t");
        if !known {
            types.insert(kind.to_owned());
        }
        user |= !of("user").is_empty();
        role |= !of("role").is_empty();
        !known || !of("user").is_empty() || !of("role").is_empty()
    };
    let of_pod = is_bad(pod.spec);
    let names = pod.named(is_bad);
    if !of_pod && names.is_empty() {
        return None;
    }
    let mut bad = Vec::new();
    if !types.is_empty() {
        let word = plural("type", "types", types.len());
        bad.push(format!("{word} {}", quoted(types)));
    }
    if user {
        bad.push("user may not be set".to_owned());
    }
    if role {
        bad.push("role may not be set".to_owned());
    }
    Violation::new(
        "seLinuxOptions",
        format!(
            "{} set forbidden securityContext.seLinuxOptions: {}",
            setters(of_pod, &names),
            bad.join("; ")
        ),
    )
}

const SECCOMP: &str = "/securityContext/seccompProfile/type";

fn has_seccomp(value: &Value) -> bool {
    value
        .pointer("/securityContext/seccompProfile")
        .is_some_and(|profile| !profile.is_null())
}

fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let mut is_bad = |value: &Value| {
        let kind = text(value, SECCOMP);
        let is_bad = has_seccomp(value) && !matches!(kind, "RuntimeDefault" | "Localhost");
        if is_bad {
            bad.insert(kind.to_owned());
        }
        is_bad
    };
    let of_pod = is_bad(pod.spec);
    let names = pod.named(is_bad);
    if !of_pod && names.is_empty() {
        return None;
    }
    let (who, what) = (setters(of_pod, &names), quoted(bad));
    Violation::new(
        "seccompProfile",
        format!("{who} must not set securityContext.seccompProfile.type to {what}"),
    )
}

fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    if let Some(explicit) = seccomp_baseline(pod) {
        return Some(explicit);
    }
    if has_seccomp(pod.spec) {
        return None;
    }
    let names = pod.named(|container| !has_seccomp(container));
    if names.is_empty() {
        return None;
    }
    Violation::new(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            those(&names)
        ),
    )
}

fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    /// Allowed ones, and since which minor version of the standard.
    const ALLOWED: &[(&str, u32)] = &[
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_port_range", 0),
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.ip_unprivileged_port_start", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_keepalive_intvl", 29),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_wmem", 32),
    ];
    let context = pod.spec.get("securityContext").unwrap_or(&Value::Null);
    let bad: Vec<&str> = list(context, "sysctls")
        .iter()
        .map(|sysctl| text(sysctl, "/name"))
        .filter(|name| {
            !ALLOWED
                .iter()
                .any(|(allowed, since)| allowed == name && *since <= pod.minor)
        })
        .collect();
    if bad.is_empty() {
        return None;
    }
    Violation::new("forbidden sysctls", bad.join(", "))
}

fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let is_bad =
        |value: &Value| flag(value, "/securityContext/windowsOptions/hostProcess") == Some(true);
    let (of_pod, names) = (is_bad(pod.spec), pod.named(is_bad));
    if !of_pod && names.is_empty() {
        return None;
    }
    Violation::new(
        "hostProcess",
        format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            setters(of_pod, &names)
        ),
    )
}

fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    let names = pod.named(|container| {
        flag(container, "/securityContext/allowPrivilegeEscalation") != Some(false)
    });
    if names.is_empty() {
        return None;
    }
    Violation::new(
        "allowPrivilegeEscalation != false",
        format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            those(&names)
        ),
    )
}

fn capabilities_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    let keeping = pod.named(|container| {
        let capabilities = container.pointer("/securityContext/capabilities");
        !list(capabilities.unwrap_or(&Value::Null), "drop")
            .iter()
            .any(|name| name == "ALL")
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = those(&keeping);
        details.push(format!(
            "{who} must set securityContext.capabilities.drop=[\"ALL\"]"
        ));
    }
    let (adding, bad) = added(pod, &["NET_BIND_SERVICE"]);
    if !adding.is_empty() {
        let (who, what) = (those(&adding), quoted(bad));
        details.push(format!(
            "{who} must not include {what} in securityContext.capabilities.add"
        ));
    }
    if details.is_empty() {
        return None;
    }
    Violation::new("unrestricted capabilities", details.join("; "))
}

fn volume_types(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: &[&str] = &[
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let (mut names, mut types) = (Vec::new(), BTreeSet::new());
    for volume in pod.list("volumes") {
        let fields = volume.as_object().into_iter().flatten();
        let mut sources = fields
            .filter(|(field, value)| *field != "name" && !value.is_null())
            .map(|(field, _)| field.as_str())
            .peekable();
        let first = sources.peek().copied().unwrap_or("unknown");
        if !sources.any(|source| ALLOWED.contains(&source)) {
            names.push(text(volume, "/name"));
            types.insert(first);
        }
    }
    if names.is_empty() {
        return None;
    }
    let volumes = plural("volume", "volumes", names.len());
    let uses = plural("uses", "use", names.len());
    let word = plural(
        "restricted volume type",
        "restricted volume types",
        types.len(),
    );
    Violation::new(
        "restricted volume types",
        format!(
            "{volumes} {} {uses} {word} {}",
            quoted(names),
            quoted(types)
        ),
    )
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    const FIELD: &str = "/securityContext/runAsNonRoot";
    const REASON: &str = "runAsNonRoot != true";
    if pod.has_own_users() {
        return None;
    }
    let of_pod = flag(pod.spec, FIELD);
    let as_root = pod.named(|container| flag(container, FIELD) == Some(false));
    if of_pod == Some(false) || !as_root.is_empty() {
        let who = setters(of_pod == Some(false), &as_root);
        return Violation::new(
            REASON,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        );
    }
    let silent = pod.named(|container| flag(container, FIELD).is_none());
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    let who = those(&silent);
    Violation::new(
        REASON,
        format!("pod or {who} must set securityContext.runAsNonRoot=true"),
    )
}

fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_own_users() {
        return None;
    }
    let is_root = |value: &Value| {
        let user = value.pointer("/securityContext/runAsUser");
        user.and_then(Value::as_i64) == Some(0)
    };
    let (of_pod, names) = (is_root(pod.spec), pod.named(is_root));
    if !of_pod && names.is_empty() {
        return None;
    }
    let who = setters(of_pod, &names);
    Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LATEST: u32 = u32::MAX;

    fn told(spec: Value, level: Level, minor: u32) -> Vec<String> {
        let metadata = json!({});
        let pod = Pod {
            metadata: &metadata,
            spec: &spec,
            minor,
        };
        let violations = violations(&pod, level);
        violations.iter().map(ToString::to_string).collect()
    }

    /// A pod that the restricted level takes.
    fn modest() -> Value {
        json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut spec = modest();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[field] = value;
        spec
    }

    #[test]
    fn a_plain_pod_is_baseline_and_not_restricted() {
        let plain = json!({"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]});
        assert_eq!(told(plain.clone(), Level::Baseline, LATEST), [""; 0]);
        assert_eq!(
            told(plain, Level::Restricted, LATEST),
            [
                "allowPrivilegeEscalation != false (containers \"i\", \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false)",
                "unrestricted capabilities (containers \"i\", \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"])",
                "runAsNonRoot != true (pod or containers \"i\", \"a\", \"b\" must set securityContext.runAsNonRoot=true)",
                "seccompProfile (pod or containers \"i\", \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
            ]
        );
        assert_eq!(told(modest(), Level::Restricted, LATEST), [""; 0]);
    }

    #[test]
    fn what_baseline_forbids() {
        for (pointer, value, text) in [
            ("/hostPID", json!(true), "host namespaces (hostPID=true)"),
            (
                "/volumes",
                json!([{"name": "v", "hostPath": {"path": "/"}}]),
                "hostPath volumes (volume \"v\")",
            ),
            (
                "/containers/0/ports",
                json!([{"hostPort": 80}, {"hostPort": 443}]),
                "hostPort (container \"a\" uses hostPorts 443, 80)",
            ),
            (
                "/containers/0/livenessProbe",
                json!({"httpGet": {"host": "x", "port": 1}}),
                "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"x\")",
            ),
            (
                "/containers/0/securityContext/privileged",
                json!(true),
                "privileged (container \"a\" must not set securityContext.privileged=true)",
            ),
            (
                "/containers/0/securityContext/procMount",
                json!("Unmasked"),
                "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
            ),
            (
                "/containers/0/securityContext/capabilities",
                json!({"drop": ["ALL"], "add": ["SYS_TIME", "CHOWN"]}),
                "non-default capabilities (container \"a\" must not include \"SYS_TIME\" in securityContext.capabilities.add)",
            ),
            (
                "/securityContext/seLinuxOptions",
                json!({"type": "t", "user": "u"}),
                "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"t\"; user may not be set)",
            ),
            (
                "/securityContext/seccompProfile",
                json!({"type": "Unconfined"}),
                "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
            ),
            (
                "/securityContext/sysctls",
                json!([{"name": "a.b"}, {"name": "net.ipv4.tcp_rmem"}]),
                "forbidden sysctls (a.b)",
            ),
            (
                "/securityContext/windowsOptions",
                json!({"hostProcess": true}),
                "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
            ),
            (
                "/securityContext/appArmorProfile",
                json!({"type": "Unconfined"}),
                "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
            ),
        ] {
            assert_eq!(
                told(with(pointer, value), Level::Baseline, LATEST),
                [text],
                "{pointer}"
            );
        }
    }

    #[test]
    fn what_only_restricted_forbids() {
        for (pointer, value, text) in [
            (
                "/volumes",
                json!([{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "emptyDir": {}}]),
                "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")",
            ),
            (
                "/securityContext/runAsUser",
                json!(0),
                "runAsUser=0 (pod must not set runAsUser=0)",
            ),
            (
                "/containers/0/securityContext/runAsNonRoot",
                json!(false),
                "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
            ),
            (
                "/containers/0/securityContext/capabilities",
                json!({"add": ["CHOWN"]}),
                "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
            ),
        ] {
            assert_eq!(
                told(with(pointer, value), Level::Restricted, LATEST),
                [text],
                "{pointer}"
            );
        }
    }

    #[test]
    fn versions_know_what_they_knew() {
        let probe = json!({"httpGet": {"host": "x", "port": 1}});
        let probing = with("/containers/0/livenessProbe", probe);
        assert_eq!(told(probing, Level::Baseline, 33), [""; 0]);
        let sysctl = json!([{"name": "net.ipv4.tcp_rmem"}]);
        let tuning = with("/securityContext/sysctls", sysctl);
        assert_eq!(told(tuning.clone(), Level::Baseline, 31).len(), 1);
        assert_eq!(told(tuning, Level::Baseline, 32), [""; 0]);
        let mut root = with("/hostUsers", json!(false));
        root["securityContext"]["runAsUser"] = json!(0);
        assert_eq!(told(root.clone(), Level::Restricted, 34).len(), 1);
        assert_eq!(told(root, Level::Restricted, LATEST), [""; 0]);
    }
}
