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
    let plain =
        json!({"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]});
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
