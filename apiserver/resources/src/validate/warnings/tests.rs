use schema::Object;
use serde_json::{Value, json};

use super::*;

fn object(value: Value) -> Object {
    Object::new(value).unwrap()
}

fn of_spec(spec: Value) -> Vec<String> {
    pod(&object(
        json!({"apiVersion": "v1", "kind": "Pod", "spec": spec}),
    ))
}

#[test]
fn what_a_pod_says_twice_is_named() {
    let spec = json!({
        "hostAliases": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.4"}],
        "imagePullSecrets": [{"name": ""}, {"name": ""}],
        "initContainers": [{"name": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
        "containers": [{
            "name": "c",
            "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}, {"name": "A", "value": "$(A)"}],
            "ports": [
                {"containerPort": 80, "protocol": "TCP", "hostPort": 8},
                {"containerPort": 81, "protocol": "UDP"},
                {"containerPort": 81, "protocol": "UDP"},
                {"containerPort": 82, "protocol": "UDP", "hostPort": 9, "hostIP": "1.1.1.1"},
                {"containerPort": 82, "protocol": "UDP", "hostPort": 9}
            ]
        }]
    });
    assert_eq!(
        of_spec(spec),
        [
            r#"spec.hostAliases[1].ip: duplicate ip "1.2.3.4""#,
            r#"spec.imagePullSecrets[1].name: duplicate name """#,
            r#"spec.imagePullSecrets[0].name: invalid empty name """#,
            r#"spec.imagePullSecrets[1].name: invalid empty name """#,
            r#"spec.containers[0].env[2]: hides previous definition of "A", which may be dropped when using apply"#,
            "spec.containers[0].ports[0]: overlapping port definition with spec.initContainers[0].ports[0]",
            "spec.containers[0].ports[2]: duplicate port definition with spec.containers[0].ports[1]",
            "spec.containers[0].ports[4]: dangerously ambiguous port definition with spec.containers[0].ports[3]",
        ]
    );
}

#[test]
fn templates_are_told_like_pods_under_their_own_path() {
    let template = json!({
        "metadata": {"annotations": {
            "scheduler.alpha.kubernetes.io/critical-pod": "",
            "container.apparmor.security.beta.kubernetes.io/c": "runtime/default",
            "seccomp.security.alpha.kubernetes.io/pod": "x"
        }},
        "spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "terminationGracePeriodSeconds": -1,
            "topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}],
            "containers": [{"name": "c", "resources": {"requests": {"memory": "100m"}}}],
            "volumes": [{"name": "g", "glusterfs": {}}],
            "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}]}}
        }
    });
    let cron_job = object(json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "spec": {"jobTemplate": {"spec": {"template": template}}}
    }));
    let said = workload(&cron_job);
    let path = "spec.jobTemplate.spec.template.";
    let expected = [
        r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
        r#"spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#,
        "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
        r#"metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead"#,
        "spec.volumes[0].glusterfs: deprecated in v1.25, non-functional in v1.26+",
        r#"metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the "seccompProfile" field instead"#,
        r#"metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead"#,
        r#"spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer"#,
        "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: a null labelSelector results in matching no pod",
    ];
    assert_eq!(said, expected.map(|text| format!("{path}{text}")));
}

#[test]
fn a_file_that_hides_a_token_is_named() {
    let spec = json!({"volumes": [{"name": "p", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token"}},
        {"secret": {"items": [{"path": "a"}, {"path": "token"}]}}
    ]}}]});
    assert_eq!(
        of_spec(spec),
        [
            r#"spec.volumes[0].projected.sources.secrets[1]: has duplicated path with ServiceAccountToken "token""#
        ]
    );
}

#[test]
fn services_hear_what_is_ignored() {
    let made = object(json!({"spec": {
        "type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "ClientIP",
        "externalIPs": ["fd00:0::1"], "loadBalancerIP": "1.2.3.4", "externalName": "a.b",
        "trafficDistribution": "PreferClose"
    }}));
    assert_eq!(
        service(&made),
        [
            "spec.loadBalancerIP is ignored for headless services",
            "spec.externalIPs is ignored for headless services",
            "spec.SessionAffinity is ignored for headless services",
            r#"spec.externalIPs[0]: IPv6 address "fd00:0::1" should be in RFC 5952 canonical format ("fd00::1")"#,
            r#"spec.externalName is ignored when spec.type is not "ExternalName""#,
            r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#,
        ]
    );
}

#[test]
fn volumes_and_claims_hear_of_what_fields_replaced() {
    let made = object(json!({
        "metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "x", "volume.beta.kubernetes.io/mount-options": "y"}},
        "spec": {"capacity": {"storage": "1500m"}, "persistentVolumeReclaimPolicy": "Recycle", "rbd": {}}
    }));
    assert_eq!(
        volume(&made),
        [
            r#"metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead"#,
            r#"metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use "mountOptions" attribute instead"#,
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
            r#"spec.capacity[storage]: fractional byte value "1500m" is invalid, must be an integer"#,
            "spec.rbd: deprecated in v1.28, non-functional in v1.31+",
        ]
    );
}

#[test]
fn names_that_pods_cannot_be_called_by_are_told_once() {
    let job = object(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a.b"}}));
    let said = of_creation(&job);
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]"), "{said:?}");
    assert!(workload(&job).is_empty());
    let ingress = object(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}
    }));
    assert_eq!(
        of_creation(&ingress),
        [
            r#"annotation "kubernetes.io/ingress.class" is deprecated, please use 'spec.ingressClassName' instead"#
        ]
    );
}
