//! The parts of pods: every rule with the text that a client reads.

use super::*;

/// A table of fields of a container, each with all that is said of it below `spec.containers[0]`.
fn of_container(cases: &[(Value, &[&str])]) {
    for (fields, expected) in cases {
        let expected: Vec<String> = expected
            .iter()
            .map(|text| format!("spec.containers[0]{text}"))
            .collect();
        assert_eq!(errors(container(fields.clone())), expected, "{fields}");
    }
}

/// The same of a pod, below `spec`, with one container.
fn of_pod(cases: &[(Value, &[&str])]) {
    for (fields, expected) in cases {
        let mut spec = json!({"containers": [{"name": "c", "image": "busybox"}]});
        for (key, value) in fields.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let expected: Vec<String> = expected.iter().map(|text| format!("spec{text}")).collect();
        assert_eq!(errors(pod(spec)), expected, "{fields}");
    }
}

#[test]
fn resources() {
    of_container(&[
        (
            json!({"resources": {"requests": {"hugepages-2Mi": "4Mi", "cpu": 1}, "limits": {"hugepages-2Mi": "4Mi"}}}),
            &[],
        ),
        (
            json!({"resources": {"limits": {"hugepages-2Mi": "3Mi"}}}),
            &[
                ".resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                ".resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                ".resources: Forbidden: HugePages require cpu or memory",
            ],
        ),
        (
            json!({"resources": {"requests": {"example.com/gpu": "1"}}}),
            &[
                ".resources.limits: Required value: Limit must be set for non overcommitable resources",
            ],
        ),
        (
            json!({"resources": {"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "2"}}}),
            &[
                ".resources.requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2",
            ],
        ),
        (
            json!({"resources": {"limits": {"example.com/gpu": "500m"}}}),
            &[
                ".resources.limits[example.com/gpu]: Invalid value: \"500m\": must be an integer",
                ".resources.requests[example.com/gpu]: Invalid value: \"500m\": must be an integer",
            ],
        ),
        (
            json!({"resources": {"claims": [{"name": "gpu"}]}}),
            &[
                ".resources.claims[0]: Not found: \"gpu\": must be one of the names in pod.spec.resourceClaims which is empty",
            ],
        ),
        (
            json!({"resizePolicy": [{"resourceName": "disk", "restartPolicy": "Never"}]}),
            &[
                ".resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
                ".resizePolicy: Unsupported value: \"Never\": supported values: \"NotRequired\", \"RestartContainer\"",
            ],
        ),
    ]);
    of_pod(&[
        (
            json!({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "ephemeral-storage": "1"}},
                "containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": "3"}}}]}),
            &[
                ".resources.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
                ".resources.requests[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
                ".resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 1500m",
                ".resources.containers[0][cpu].limits: Invalid value: \"3\": must be less than or equal to pod limits of 2",
            ],
        ),
        (
            json!({"overhead": {"gpu": "1"}}),
            &[
                ".overhead.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
                ".overhead.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
            ],
        ),
    ]);
}

#[test]
fn a_pod_asks_for_what_its_containers_ask_for() {
    let object = created(pod(
        json!({"resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
        "containers": [{"name": "a", "image": "x", "resources": {"requests": {"cpu": "300m"}}},
            {"name": "b", "image": "x", "resources": {"requests": {"cpu": "200m"}}}]}),
    ));
    assert_eq!(
        object.get(&["spec", "resources"]),
        Some(
            &json!({"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}})
        )
    );
}

#[test]
fn environments() {
    let from = |source: Value| json!({"env": [{"name": "A", "valueFrom": source}]});
    of_container(&[
        (
            from(json!({"fieldRef": {"fieldPath": "metadata.labels"}})),
            &[
                ".env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"metadata.labels\": supported values: \
                 \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \
                 \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            ],
        ),
        (
            from(json!({"fieldRef": {"fieldPath": "metadata.labels['a']"}})),
            &[],
        ),
        (
            from(json!({"fieldRef": {"fieldPath": "spec.x['a']"}})),
            &[
                ".env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x['a']\": error converting fieldPath: \
                 field label does not support subscript: spec.x['a']",
            ],
        ),
        (
            from(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}})),
            &[
                ".env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are \
                 supported with the cpu resource",
            ],
        ),
        (
            from(
                json!({"configMapKeyRef": {"name": "c", "key": "a/b"}, "secretKeyRef": {"name": "s"}}),
            ),
            &[
                ".env[0].valueFrom.configMapKeyRef.key: Invalid value: \"a/b\": a valid config key must consist of alphanumeric \
                 characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
                 '[-._a-zA-Z0-9]+')",
                ".env[0].valueFrom.secretKeyRef.key: Required value",
                ".env[0].valueFrom: Invalid value: \"\": may not have more than one field specified at a time",
            ],
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": "a"}, "secretRef": {"name": "b"}}]}),
            &[
                ".envFrom: Invalid value: \"\": may not have more than one field specified at a time",
            ],
        ),
    ]);
    let file = |volumes: Value| {
        errors(pod(
            json!({"volumes": volumes, "containers": [{"name": "c", "image": "x", "env": [
            {"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "x", "key": "K"}}}]}]}),
        ))
    };
    let path = "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName";
    assert_eq!(file(json!([])), [format!("{path}: Not found: \"v\"")]);
    assert_eq!(
        file(json!([{"name": "v", "configMap": {"name": "c"}}])),
        [format!(
            "{path}: Invalid value: \"v\": referenced volume must be of type emptyDir"
        )]
    );
    assert_eq!(file(json!([{"name": "v", "emptyDir": {}}])), none());
}

#[test]
fn handlers_and_restarts() {
    of_container(&[
        (
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
            &[
                ".lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        ),
        (
            json!({"lifecycle": {"preStop": {"sleep": {"seconds": 0}}}}),
            &[],
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "a b", "value": "c"}]}}}),
            &[
                ".livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric \
                 characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
            ],
        ),
        (
            json!({"readinessProbe": {"tcpSocket": {"port": 80}, "terminationGracePeriodSeconds": 5}}),
            &[
                ".readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            ],
        ),
        (
            json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}),
            &[],
        ),
        (
            json!({"restartPolicyRules": [{"action": "Stop"}]}),
            &[
                ".restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                ".restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\"",
                ".restartPolicyRules[0].exitCodes: Required value: must be specified",
            ],
        ),
        (
            json!({"securityContext": {"procMount": "Unmasked", "seccompProfile": {"type": "Localhost", "localhostProfile": "/a"}}}),
            &[
                ".securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
                ".securityContext.seccompProfile.localhostProfile: Invalid value: \"/a\": must be a relative path",
            ],
        ),
        (
            json!({"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": " a"}, "seccompProfile": {}}}),
            &[
                ".securityContext.seccompProfile.type: Required value: type is required when seccompProfile is set",
                ".securityContext.appArmorProfile.localhostProfile: Invalid value: \" a\": must not be padded with whitespace",
            ],
        ),
    ]);
}

#[test]
fn mounts_and_devices() {
    let with = |mount: Value| {
        let mut spec =
            json!({"volumes": [{"name": "v"}], "containers": [{"name": "c", "image": "x"}]});
        spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        for (key, value) in mount.as_object().unwrap() {
            spec["containers"][0]["volumeMounts"][0][key] = value.clone();
        }
        errors(pod(spec))
    };
    let list = "spec.containers[0].volumeMounts";
    for (mount, expected) in [
        (
            json!({"subPath": "/a"}),
            "subPath: Invalid value: \"/a\": must be a relative path",
        ),
        (
            json!({"mountPropagation": "Bidirectional"}),
            "mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
        ),
        (
            json!({"recursiveReadOnly": "Enabled"}),
            "recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
        ),
        (
            json!({"recursiveReadOnly": "Always", "readOnly": true}),
            "recursiveReadOnly: Unsupported value: \"Always\": supported values: \"Disabled\", \"Enabled\", \"IfPossible\"",
        ),
    ] {
        assert_eq!(with(mount), [format!("{list}.{expected}")]);
    }
    let devices = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}], "containers": [{"name": "c",
        "image": "x", "volumeDevices": [{"name": "v", "devicePath": "/dev/a/.."}, {"name": "v", "devicePath": "/dev/a"}],
        "volumeMounts": [{"name": "v", "mountPath": "/dev/a"}]}]});
    let container = "spec.containers[0]";
    assert_eq!(
        errors(pod(devices)),
        [
            format!(
                "{container}.volumeMounts[0].name: Invalid value: \"v\": must not already exist in volumeDevices"
            ),
            format!(
                "{container}.volumeMounts[0].mountPath: Invalid value: \"/dev/a\": must not already exist as a path in volumeDevices"
            ),
            format!(
                "{container}.volumeDevices[0].devicePath: Invalid value: \"/dev/a/..\": can not contain backsteps ('..')"
            ),
            format!(
                "{container}.volumeDevices[0].name: Invalid value: \"v\": must not already exist in volumeMounts"
            ),
            format!("{container}.volumeDevices[1].name: Invalid value: \"v\": must be unique"),
            format!(
                "{container}.volumeDevices[1].name: Invalid value: \"v\": must not already exist in volumeMounts"
            ),
            format!(
                "{container}.volumeDevices[1].devicePath: Invalid value: \"/dev/a\": must not already exist as a path in volumeMounts"
            ),
        ]
    );
}

#[test]
fn volumes() {
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        for (key, value) in source.as_object().unwrap() {
            volume[key] = value.clone();
        }
        json!({ "volumes": [volume] })
    };
    of_pod(&[
        (
            volume(json!({"nfs": {"server": "s", "path": "a"}})),
            &[".volumes[0].nfs.path: Invalid value: \"a\": must be an absolute path"],
        ),
        (
            volume(json!({"iscsi": {"targetPortal": "p", "iqn": "abc", "lun": 300}})),
            &[
                ".volumes[0].iscsi.iqn: Invalid value: \"abc\": must be valid format starting with iqn, eui, or naa",
                ".volumes[0].iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive",
            ],
        ),
        (
            volume(
                json!({"iscsi": {"targetPortal": "p", "iqn": "iqn.2001-04.com.example:storage.kube", "lun": 0}}),
            ),
            &[],
        ),
        (
            volume(json!({"gcePersistentDisk": {}})),
            &[".volumes[0].persistentDisk.pdName: Required value"],
        ),
        (
            volume(json!({"csi": {"driver": "a_b"}})),
            &[
                ".volumes[0].csi.driver: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
                 regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            volume(json!({"emptyDir": {"sizeLimit": "-1"}})),
            &[
                ".volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
            ],
        ),
        (
            volume(json!({"image": {}})),
            &[".volumes[0].image.reference: Required value"],
        ),
        (volume(json!({"projected": {"sources": [{}]}})), &[]),
        (
            volume(json!({"projected": {"sources": [
                {"secret": {"name": "s", "items": [{"key": "a", "path": "x"}]}},
                {"configMap": {"name": "c", "items": [{"key": "a", "path": "x"}]}, "downwardAPI": {"items": []}}]}})),
            &[
                ".volumes[0].projected: Invalid value: \"c\": conflicting duplicate paths",
                ".volumes[0].projected.sources[1]: Forbidden: may not specify more than 1 volume type per source",
            ],
        ),
        (
            volume(
                json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 60}}]}}),
            ),
            &[
                ".volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a \
                 duration less than 10 minutes",
                ".volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName \
                 is not set",
            ],
        ),
        (
            volume(
                json!({"ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "x"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "0"}}}}}}),
            ),
            &[
                ".volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                ".volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            ],
        ),
    ]);
}

#[test]
fn places_and_names() {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let term = |term: Value| json!({"affinity": {"podAffinity": {required: [term]}}});
    let path = ".affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
    let unset = format!(
        "{path}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"
    );
    let both = format!(
        "{path}.matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and mismatchLabelKeys"
    );
    of_pod(&[
        (
            term(json!({"topologyKey": "zone", "matchLabelKeys": ["a"]})),
            &[&*unset],
        ),
        (
            term(
                json!({"topologyKey": "zone", "matchLabelKeys": ["a"], "mismatchLabelKeys": ["a"], "labelSelector": {}}),
            ),
            &[&*both],
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "any key", "whenUnsatisfiable": "Never", "minDomains": 2}]}),
            &[
                ".topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Never\": supported values: \
                 \"DoNotSchedule\", \"ScheduleAnyway\"",
                ".topologySpreadConstraints[0].minDomains: Invalid value: 2: can only use minDomains if \
                 whenUnsatisfiable=DoNotSchedule, not Never",
            ],
        ),
        (
            json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]}),
            &[
                ".tolerations[0].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
            ],
        ),
        (
            json!({"hostUsers": false, "hostNetwork": true, "hostPID": true}),
            &[
                ".hostNetwork: Forbidden: when `hostUsers` is false",
                ".HostPID: Forbidden: when `hostUsers` is false",
            ],
        ),
        (
            json!({"hostNetwork": true, "containers": [{"name": "c", "image": "x", "ports": [{"containerPort": 80, "hostPort": 81}]}]}),
            &[
                ".containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
            ],
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "x", "ports": [{"containerPort": 80, "hostPort": 80}]},
                {"name": "j", "image": "x", "ports": [{"containerPort": 80, "hostPort": 80}]}]}),
            &[],
        ),
        (
            json!({"hostnameOverride": "a", "setHostnameAsFQDN": true}),
            &[".hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true"],
        ),
        (
            json!({"hostAliases": [{"ip": "010.0.0.1", "hostnames": ["A"]}]}),
            &[
                ".hostAliases[0].ip: Invalid value: \"010.0.0.1\": must not have leading 0s",
                ".hostAliases[0].hostnames[0]: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', \
                 regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            json!({"os": {"name": "windows"}, "hostPID": true, "resources": {}}),
            &[
                ".resources: Forbidden: may not be set for a windows pod",
                ".hostPID: Forbidden: cannot be set for a windows pod",
            ],
        ),
        (
            json!({"resourceClaims": [{"name": "a"}, {"name": "a", "resourceClaimName": "x"}]}),
            &[
                ".resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
                ".resourceClaims[1].name: Duplicate value: \"a\"",
            ],
        ),
    ]);
}

#[test]
fn annotations() {
    let with = |annotations: Value, spec: Value| {
        let mut object = container(spec);
        object["metadata"]["annotations"] = annotations;
        errors(object)
    };
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    assert_eq!(with(json!({cost: "-10"}), json!({})), none());
    assert_eq!(
        with(json!({cost: "+10"}), json!({})),
        [format!(
            "metadata.annotations[{cost}]: Invalid value: \"+10\": must be a 32bit integer"
        )]
    );
    let app_armor = "container.apparmor.security.beta.kubernetes.io/c";
    let profile = json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}});
    assert_eq!(
        with(json!({app_armor: "unconfined"}), profile.clone()),
        [
            "spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match"
        ]
    );
    assert_eq!(with(json!({app_armor: "runtime/default"}), profile), none());
    assert_eq!(
        update_errors(container(json!({})), |new| {
            new.set_annotation(app_armor, "unconfined");
        }),
        [format!(
            "metadata.annotations[{app_armor}]: Forbidden: may not add AppArmor annotations"
        )]
    );
}

#[test]
fn a_gated_pod_may_be_bound_to_fewer_nodes() {
    let gated = || {
        pod(
            json!({"schedulingGates": [{"name": "a"}], "nodeSelector": {"x": "y"}, "containers": [{"name": "c", "image": "x"}]}),
        )
    };
    assert_eq!(
        update_errors(gated(), |new| new.set(&["spec", "nodeSelector", "z"], "1")),
        none()
    );
    assert_eq!(
        update_errors(gated(), |new| new
            .set(&["spec", "nodeSelector"], json!({"x": "z"}))),
        [
            "spec.nodeSelector: Invalid value: {\"x\":\"z\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        ]
    );
    assert_eq!(
        update_errors(gated(), |new| new.set(
            &["spec", "schedulingGates"],
            json!([{"name": "a"}, {"name": "b"}])
        )),
        [
            "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'b'"
        ]
    );
}

#[test]
fn containers_for_a_look_do_no_work() {
    let mut old = created(container(json!({})));
    old.set_resource_version("1");
    let pods = resource(&old);
    let told = |fields: Value| -> Vec<String> {
        let mut look = json!({"name": "look", "image": "x"});
        for (key, value) in fields.as_object().unwrap() {
            look[key] = value.clone();
        }
        let mut new = old.clone();
        new.set(&["spec", "ephemeralContainers"], json!([look]));
        pods.default(&mut new);
        pods.prepare_subresource_update("ephemeralcontainers", &mut new, &old);
        let errors = pods.validate_subresource_update("ephemeralcontainers", &new, &old);
        errors.iter().map(ToString::to_string).collect()
    };
    assert_eq!(told(json!({"targetContainerName": "c"})), none());
    let path = "spec.ephemeralContainers[0]";
    assert_eq!(
        told(
            json!({"targetContainerName": "d", "ports": [{"containerPort": 80}], "restartPolicy": "Never",
            "livenessProbe": {"tcpSocket": {"port": 80}}})
        ),
        [
            format!("{path}.targetContainerName: Not found: \"d\""),
            format!("{path}.ports: Forbidden: cannot be set for an Ephemeral Container"),
            format!("{path}.restartPolicy: Forbidden: cannot be set for an Ephemeral Container"),
            format!("{path}.livenessProbe: Forbidden: cannot be set for an Ephemeral Container"),
        ]
    );
}
