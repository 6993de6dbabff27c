//! Pods: their defaults, what they may say, and what may change.

use super::*;

#[test]
fn a_plain_pod_gets_its_defaults() {
    let object = created(pod(json!({"containers": [
        {"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "resources": {"limits": {"cpu": "0.5", "memory": "1024Ki"}},
            "livenessProbe": {"httpGet": {"port": 80}}}],
        "volumes": [{"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}, {"name": "c", "hostPath": {"path": "/x"}}]})));
    assert_eq!(
        object.get(&["spec"]),
        Some(&json!({
            "containers": [{
                "name": "c", "image": "nginx", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "resources": {"limits": {"cpu": "500m", "memory": "1Mi"}, "requests": {"cpu": "500m", "memory": "1Mi"}},
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}}],
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "secret": {"secretName": "s", "defaultMode": 420}},
                {"name": "c", "hostPath": {"path": "/x", "type": ""}}],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": 30, "securityContext": {}, "enableServiceLinks": true
        }))
    );
    assert_eq!(
        object.get(&["status"]),
        Some(&json!({"phase": "Pending", "qosClass": "Guaranteed"}))
    );
    assert_eq!(object.generation(), 1);
    assert_eq!(resource(&object).validate(&object), []);
}

#[test]
fn images_and_their_pull_policies() {
    use crate::defaults::pod::pull_policy;
    let cases = [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
        ("nginx:latest@sha256:abc", "Always"),
    ];
    for (image, policy) in cases {
        assert_eq!(pull_policy(image), policy, "{image}");
    }
}

#[test]
fn pods() {
    assert_eq!(
        errors(pod(json!({"containers": []}))),
        ["spec.containers: Required value"]
    );
    assert_eq!(
        errors(pod(
            json!({"containers": [{"name": "A_", "image": ""}, {"name": "b", "image": " x"}, {"name": "b", "image": "x"}]})
        )),
        [
            "spec.containers[0].name: Invalid value: \"A_\": a lowercase RFC 1123 label must consist of lower case \
             alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
             '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.containers[0].image: Required value",
            "spec.containers[2].name: Duplicate value: \"b\"",
            "spec.containers[1].image: Invalid value: \" x\": must not have leading or trailing whitespace",
        ]
    );
    let cases = [
        (
            json!({"imagePullPolicy": "Sometimes"}),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ),
        (
            json!({"ports": [{"containerPort": 0}]}),
            "spec.containers[0].ports[0].containerPort: Required value",
        ),
        (
            json!({"ports": [{"containerPort": 99999}]}),
            "spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
        ),
        (
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeSelector"}}}]}),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nodeSelector\": error converting \
             fieldPath: field label not supported: spec.nodeSelector",
        ),
        (
            json!({"envFrom": [{}]}),
            "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"resources": {"requests": {"memory": "-1"}}}),
            "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (
            json!({"livenessProbe": {}}),
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        (
            json!({"livenessProbe": {"exec": {"command": ["x"]}, "successThreshold": 2}}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            json!({"lifecycle": {"preStop": {"exec": {}}}}),
            "spec.containers[0].lifecycle.preStop.exec.command: Required value",
        ),
        (
            json!({"lifecycle": {"preStop": {"exec": {"command": ["x"]}, "httpGet": {"port": 80}}}}),
            "spec.containers[0].lifecycle.preStop.httpGet: Forbidden: may not specify more than 1 handler type",
        ),
    ];
    for (fields, error) in cases {
        assert_eq!(errors(container(fields.clone())), [error], "{fields}");
    }
}

#[test]
fn pod_specs() {
    let with = |field: &str, value: Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "busybox"}]});
        spec[field] = value;
        errors(pod(spec))
    };
    let cases = [
        (
            "restartPolicy",
            json!("Perhaps"),
            "spec.restartPolicy: Unsupported value: \"Perhaps\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            "dnsPolicy",
            json!("None"),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            "activeDeadlineSeconds",
            json!(0),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            "volumes",
            json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            "volumes",
            json!([{"name": "v"}, {"name": "v"}]),
            "spec.volumes[1].name: Duplicate value: \"v\"",
        ),
        (
            "tolerations",
            json!([{"operator": "Equal", "value": "x"}]),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \
             \"match all values and all keys\"",
        ),
        // Comparing is alpha in Kubernetes, and off.
        (
            "tolerations",
            json!([{"key": "k", "operator": "Gt", "value": "5"}]),
            "spec.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\", \"Lt\", \"Gt\"",
        ),
        (
            "topologySpreadConstraints",
            json!([{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            "ephemeralContainers",
            json!([{"name": "e", "image": "x"}]),
            "spec.ephemeralContainers: Forbidden: cannot be set on create",
        ),
        (
            "initContainers",
            json!([{"name": "i", "image": "x", "livenessProbe": {"exec": {"command": ["x"]}}}]),
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            "securityContext",
            json!({"sysctls": [{"name": "a!"}]}),
            "spec.securityContext.sysctls[0].name: Invalid value: \"a!\": must have at most 253 characters and match regex \
             ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        ),
        (
            "affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: \
             must have at least one node selector term",
        ),
    ];
    for (field, value, error) in cases {
        assert_eq!(with(field, value.clone()), [error], "{field} {value}");
    }
}

#[test]
fn a_pod_with_everything_is_valid() {
    let object = pod(json!({
        "serviceAccountName": "default", "nodeName": "n1", "hostNetwork": true, "priorityClassName": "system-node-critical",
        "imagePullSecrets": [{"name": "pull"}], "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a.b"]}],
        "tolerations": [{"operator": "Exists"}, {"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        "securityContext": {"runAsUser": 1000, "fsGroup": 0, "seccompProfile": {"type": "RuntimeDefault"}},
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm":
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}}]}},
        "initContainers": [{"name": "i", "image": "x"}, {"name": "s", "image": "x", "restartPolicy": "Always",
            "readinessProbe": {"tcpSocket": {"port": "http"}}}],
        "containers": [{"name": "c", "image": "x", "ports": [{"name": "http", "containerPort": 80}],
            "env": [{"name": "A.b-c", "value": ""}, {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}],
            "resources": {"limits": {"example.com/gpu": 1, "cpu": 1}},
            "securityContext": {"privileged": true, "capabilities": {"add": ["NET_ADMIN"]}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            "startupProbe": {"grpc": {"port": 80}},
            "volumeMounts": [{"name": "token", "mountPath": "/t", "readOnly": true}, {"name": "cm", "mountPath": "/c", "subPath": "a/b"}]}],
        "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}, {"path": "labels",
                "fieldRef": {"fieldPath": "metadata.labels"}}, {"path": "one", "fieldRef": {"fieldPath": "metadata.labels['a']"}}]}}]}},
            {"name": "cm", "configMap": {"name": "c"}}, {"name": "pvc", "persistentVolumeClaim": {"claimName": "x"}},
            {"name": "generic", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}}}]
    }));
    assert_eq!(errors(object), none());
}

#[test]
fn pod_updates() {
    let old = || container(json!({}));
    assert_eq!(update_errors(old(), |new| new.set_label("a", "b")), none());
    assert_eq!(
        update_errors(old(), |new| {
            new.get_mut(&["spec", "containers"]).unwrap()[0]["image"] = "other".into();
        }),
        none()
    );
    assert_eq!(
        update_errors(old(), |new| new.set(&["spec", "activeDeadlineSeconds"], 5)),
        none()
    );
    assert_eq!(
        update_errors(old(), |new| new.set(&["spec", "nodeName"], "n2")),
        [
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
          `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
          tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n\
          changed: spec.nodeName"
        ]
    );
    assert_eq!(
        update_errors(old(), |new| new.set(
            &["spec", "containers"],
            json!([{"name": "c", "image": "x"}, {"name": "d", "image": "x"}])
        )),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
}

#[test]
fn claims_in_the_status_are_those_of_the_spec() {
    let mut old = created(container(json!({})));
    old.set_resource_version("1");
    old.set(
        &["spec", "resourceClaims"],
        json!([{"name": "a", "resourceClaimTemplateName": "t"}]),
    );
    let told = |statuses: Value| {
        let mut new = old.clone();
        new.set(&["status", "resourceClaimStatuses"], statuses);
        let errors = resource(&old).validate_subresource_update("status", &new, &old);
        let errors = errors.iter().map(|error| error.body());
        errors.collect::<Vec<String>>()
    };
    assert_eq!(
        told(json!([{"name": "a", "resourceClaimName": "p-a-x"}])),
        none()
    );
    assert_eq!(told(json!([{"name": "a"}])), none());
    assert_eq!(
        told(json!([{"name": "a"}, {"name": "a"}, {"name": "b"}])),
        [
            "Duplicate value: \"a\"",
            "Invalid value: \"b\": must match the name of an entry in `spec.resourceClaims`"
        ]
    );
    assert_eq!(
        told(json!([{"name": "a", "resourceClaimName": "X"}])).len(),
        1
    );
}

#[test]
fn doors_of_the_pod() {
    let mut old = created(container(json!({})));
    old.set_resource_version("1");
    let pods = resource(&old);
    let mut new = old.clone();
    new.set(
        &["spec", "ephemeralContainers"],
        json!([{"name": "debug", "image": "x"}]),
    );
    new.set(&["spec", "nodeName"], "forged");
    pods.default(&mut new);
    pods.prepare_subresource_update("ephemeralcontainers", &mut new, &old);
    assert_eq!(
        pods.validate_subresource_update("ephemeralcontainers", &new, &old),
        []
    );
    assert_eq!(new.get(&["spec", "nodeName"]), None);
    assert_eq!(new.generation(), 2);
    let mut new = old.clone();
    new.set(
        &["status"],
        json!({"phase": "Running", "podIP": "10.0.0.9", "qosClass": "Guaranteed"}),
    );
    new.set(&["spec", "nodeName"], "forged");
    pods.prepare_status_update(&mut new, &old);
    assert_eq!(
        new.get(&["status"]),
        Some(
            &json!({"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}], "qosClass": "BestEffort"})
        )
    );
    assert_eq!(
        (new.get(&["spec", "nodeName"]), new.generation()),
        (None, 1)
    );
}

#[test]
fn an_update_that_names_no_version_is_none_of_a_new_pod() {
    let mut old = created(container(json!({})));
    old.set_resource_version("1");
    let look = json!({"name": "look", "image": "x", "imagePullPolicy": "Always",
        "terminationMessagePolicy": "File"});
    old.set(&["spec", "ephemeralContainers"], json!([look]));
    let mut new = old.clone();
    new.set_resource_version("");
    new.set_annotation("a", "b");
    let pods = resource(&new);
    pods.default(&mut new);
    pods.default(&mut old);
    pods.prepare_update(&mut new, &old);
    let errors = pods.validate_update(&new, &old);
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn a_pod_gets_no_field_of_a_feature_that_is_off() {
    let told = || container(json!({"lifecycle": {"stopSignal": "SIGINT"}}));
    let at = "/spec/containers/0/lifecycle";
    let old = created(told());
    assert_eq!(old.value().pointer(at), None);
    let mut new = Object::new(told()).unwrap();
    resource(&new).prepare_update(&mut new, &old);
    assert_eq!(new.value().pointer(at), None);
}
