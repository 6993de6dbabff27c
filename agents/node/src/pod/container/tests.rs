use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> Pod {
    Pod::decode(&json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn build(pod: &Pod, image: &Image) -> Result<ContainerSpec, String> {
    let prepared = Prepared {
        sandbox: "box",
        image,
        env: vec![("A".into(), "1".into())],
        mounts: Vec::new(),
        seccomp: Some("unconfined".into()),
        target: None,
        node_memory_bytes: 1000 << 20,
    };
    spec(pod, Role::App, &pod.spec.containers[0], prepared)
}

#[test]
fn a_definition_changes_with_the_amounts_for_which_it_is_restarted() {
    let hash = |policy: &str, cpu: &str, memory: &str| {
        let pod = pod(json!({"containers": [{"name": "c", "image": "x",
            "resources": {"limits": {"cpu": cpu, "memory": memory}},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
                             {"resourceName": "memory", "restartPolicy": policy}]}]}));
        definition_hash(&pod.spec.containers[0])
    };
    let before = hash("RestartContainer", "1", "1Gi");
    assert_eq!(before, hash("RestartContainer", "2", "1024Mi"));
    let after = hash("RestartContainer", "1", "2Gi");
    assert!(is_resized(&before, &after) && !is_resized(&before, &before));
    let plain = hash("NotRequired", "1", "1Gi");
    assert_eq!(plain, hash("NotRequired", "1", "2Gi"));
    assert!(!plain.contains('-') && !is_resized("a-1", "b-1"));
}

#[test]
fn quality_of_service() {
    let cases = [
        (json!({}), Qos::BestEffort),
        (json!({"requests": {"cpu": "1"}}), Qos::Burstable),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
            Qos::Guaranteed,
        ),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}}),
            Qos::Guaranteed,
        ),
        (
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
            Qos::Burstable,
        ),
        (json!({"limits": {"cpu": "1"}}), Qos::Burstable),
        (
            json!({"requests": {"example.com/gpu": "1"}}),
            Qos::BestEffort,
        ),
    ];
    for (resources, expected) in cases {
        let pod = pod(json!({"containers": [{"name": "c", "resources": resources}]}));
        assert_eq!(Qos::of(&pod), expected, "{resources}");
    }
}

#[test]
fn resources_become_cgroup_values() {
    let pod = pod(json!({"containers": [{"name": "c", "resources": {
        "limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "100Mi"}}}]}));
    let spec = build(&pod, &Image::default()).unwrap();
    assert_eq!(
        spec.resources,
        Limits {
            cpu_shares: 256,
            cpu_quota_us: 50_000,
            cpu_period_us: 100_000,
            memory_bytes: 64 << 20,
            oom_score_adj: 900,
        }
    );
}

#[test]
fn commands_are_expanded_and_security_is_mapped() {
    let pod = pod(json!({
        "securityContext": {"fsGroup": 5, "supplementalGroups": [6], "runAsGroup": 7},
        "containers": [{"name": "c", "command": ["x", "$(A)", "$(B)"], "args": ["$$(A)"],
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true}}]}));
    let spec = build(
        &pod,
        &Image {
            user: "nobody".into(),
            ..Image::default()
        },
    )
    .unwrap();
    assert_eq!(spec.command, ["x", "1", "$(B)"]);
    assert_eq!(spec.args, ["$(A)"]);
    assert_eq!(spec.user, "nobody:7");
    assert_eq!(spec.groups, ["6", "5"]);
    assert_eq!(
        spec.security_options,
        ["seccomp=unconfined", "no-new-privileges"]
    );
    assert!(spec.read_only_root && !spec.privileged);
}

#[test]
fn non_root_is_verified() {
    let cases = [
        (
            json!({"runAsNonRoot": true}),
            "",
            Err("image will run as root"),
        ),
        (
            json!({"runAsNonRoot": true}),
            "0:0",
            Err("image will run as root"),
        ),
        (
            json!({"runAsNonRoot": true}),
            "www",
            Err("image has non-numeric user (www)"),
        ),
        (json!({"runAsNonRoot": true}), "33:33", Ok(())),
        (
            json!({"runAsNonRoot": true, "runAsUser": 0}),
            "33",
            Err("runAsUser breaks non-root policy"),
        ),
        (json!({"runAsNonRoot": true, "runAsUser": 9}), "", Ok(())),
        (json!({}), "", Ok(())),
    ];
    for (security, user, expected) in cases {
        let pod = pod(json!({"securityContext": security, "containers": [{"name": "c"}]}));
        let result = build(
            &pod,
            &Image {
                user: user.into(),
                ..Image::default()
            },
        );
        match expected {
            Ok(()) => assert!(result.is_ok(), "{security}"),
            Err(text) => assert!(result.unwrap_err().contains(text), "{security} {user}"),
        }
    }
}
