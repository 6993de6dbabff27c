use serde_json::json;

use super::*;

#[test]
fn nulls_are_absent_and_roles_follow_the_spec() {
    let pod = Pod::decode(&json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": null},
        "spec": {
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always", "env": null}],
            "containers": [{"name": "c", "livenessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 3},
                            "ports": [{"name": "web", "containerPort": 80}]}],
            "ephemeralContainers": [{"name": "e", "targetContainerName": "c"}],
            "volumes": [{"name": "x", "secret": {"secretName": "tls"}}, {"name": "y", "nfs": {"server": "z"}}],
        },
    }))
    .unwrap();
    let roles: Vec<_> = pod
        .all_containers()
        .map(|(role, c)| (role, c.name.as_str()))
        .collect();
    assert_eq!(
        roles,
        [
            (Role::Init, "i"),
            (Role::Sidecar, "s"),
            (Role::App, "c"),
            (Role::Ephemeral, "e")
        ]
    );
    let probe = pod.spec.containers[0].liveness_probe.as_ref().unwrap();
    assert_eq!(
        probe
            .handler
            .http_get
            .as_ref()
            .unwrap()
            .port
            .resolve(&pod.spec.containers[0]),
        Some(80)
    );
    assert_eq!(pod.spec.volumes[0].secret.as_ref().unwrap().name, "tls");
    assert!(pod.spec.volumes[1].other.contains_key("nfs"));
    assert_eq!(pod.display(), "p_d(u)");
}

#[test]
fn wrong_types_are_an_error_not_a_panic() {
    assert!(Pod::decode(&json!({"spec": {"containers": "no"}})).is_err());
    assert!(Pod::decode(&json!(3)).is_err());
}

#[test]
fn a_grace_period_can_be_added_to_a_time() {
    for (asked, found) in [(5, 5), (-1, 0), (i64::MAX, GRACE_SECONDS_MAX)] {
        let spec = json!({"terminationGracePeriodSeconds": asked});
        let pod = Pod::decode(&json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        assert_eq!(pod.grace_seconds(), found, "{asked}");
    }
}
