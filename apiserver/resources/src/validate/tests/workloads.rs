//! The kinds that make pods from a template.

use super::*;

#[test]
fn workloads() {
    assert_eq!(errors(deployment()), none());
    let object = created(deployment());
    assert_eq!(object.get_i64(&["spec", "replicas"]), Some(1));
    assert_eq!(
        object.get(&["spec", "strategy"]),
        Some(
            &json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        )
    );
    assert_eq!(object.get(&["status"]), Some(&json!({})));
    let with = |path: &[&str], value: Value| {
        let mut object = Object::new(deployment()).unwrap();
        object.set(path, value);
        errors(object.into_value())
    };
    assert_eq!(
        with(
            &["spec", "selector"],
            json!({"matchLabels": {"app": "other"}})
        ),
        [
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"
        ]
    );
    assert_eq!(
        with(
            &["spec", "template", "spec", "restartPolicy"],
            json!("Never")
        ),
        [
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
        ]
    );
    assert_eq!(
        with(
            &["spec", "strategy"],
            json!({"type": "Recreate", "rollingUpdate": {}})
        ),
        [
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"
        ]
    );
    assert_eq!(
        with(
            &["spec", "strategy"],
            json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}})
        ),
        [
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"
        ]
    );
    assert_eq!(
        with(&["spec", "replicas"], json!(-1)),
        ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
    );
    assert_eq!(
        update_errors(deployment(), |new| {
            new.set(&["spec", "selector", "matchLabels", "x"], "y");
            new.set(&["spec", "template", "metadata", "labels", "x"], "y");
        }),
        [
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"x\":\"y\"}}: field is immutable"
        ]
    );
    for kind in ["ReplicaSet", "DaemonSet", "StatefulSet"] {
        let mut value = deployment();
        value["kind"] = kind.into();
        assert_eq!(errors(value.clone()), none(), "{kind}");
        value["spec"]["selector"] = Value::Null;
        let first = match kind {
            "DaemonSet" => {
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template \
                 `labels`"
            }
            _ => "spec.selector: Required value",
        };
        assert_eq!(errors(value)[0], first, "{kind}");
    }
    let mut bare = deployment();
    bare["spec"] = json!({});
    assert_eq!(
        errors(bare),
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            "spec.template.spec.containers: Required value"
        ]
    );
    let mut set = deployment();
    set["kind"] = "StatefulSet".into();
    assert_eq!(
        update_errors(set.clone(), |new| new.set(&["spec", "replicas"], 3)),
        none()
    );
    let refused = update_errors(set, |new| new.set(&["spec", "serviceName"], "other"));
    assert_eq!(
        refused,
        [
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
             'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
             forbidden.\nDifference causing the error:\nspec.serviceName"
        ]
    );
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "spec": {"template":
        {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}}});
    assert_eq!(errors(controller.clone()), none());
    let object = created(controller);
    assert_eq!(object.get(&["spec", "selector"]), Some(&json!({"a": "b"})));
    assert_eq!(object.label("a"), Some("b"));
}

#[test]
fn parts_of_workloads_are_refused_in_words() {
    let of = |kind: &str, path: &[&str], value: Value| {
        let mut object = Object::new(deployment()).unwrap();
        object.value_mut()["kind"] = kind.into();
        object.set(path, value);
        errors(object.into_value())
    };
    let deadline = ["spec", "template", "spec", "activeDeadlineSeconds"];
    for (kind, owner) in [
        ("Deployment", "ReplicaSet"),
        ("DaemonSet", "DaemonSet"),
        ("StatefulSet", "StatefulSet"),
    ] {
        let expected = format!(
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {owner} is not Supported"
        );
        assert_eq!(of(kind, &deadline, 5.into()), [expected]);
    }
    assert_eq!(
        of("StatefulSet", &["spec", "serviceName"], "a.b".into()),
        ["spec.serviceName: Invalid value: \"a.b\": must not contain dots"]
    );
    let policy = json!({"whenScaled": "x"});
    let field = ["spec", "persistentVolumeClaimRetentionPolicy"];
    assert_eq!(
        of("StatefulSet", &field, policy),
        [
            "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"x\": supported values: \"Retain\", \
             \"Delete\""
        ]
    );
    assert_eq!(
        of("Deployment", &["spec", "strategy"], json!({"type": "x"})),
        [
            "spec.strategy: Unsupported value: {\"type\":\"x\"}: supported values: \"Recreate\", \"RollingUpdate\""
        ]
    );
    assert_eq!(
        of(
            "Deployment",
            &["spec", "selector"],
            json!({"matchExpressions": [{"key": "a", "operator": "In"}]})
        ),
        [
            "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
            "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"In\"}]}: invalid label \
             selector"
        ]
    );
}

#[test]
fn a_template_leaves_images_of_volumes_to_its_pods() {
    let mut object = deployment();
    object["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "image": {}}]);
    assert_eq!(errors(object), none());
}

#[test]
fn counts_in_a_status_fit_together() {
    let errors = |kind: &str, before: Value, status: Value| {
        let mut value = deployment();
        value["kind"] = kind.into();
        let mut old = created(value);
        old.set_resource_version("1");
        old.set(&["status"], before);
        let mut new = old.clone();
        new.set(&["status"], status);
        let errors = resource(&new).validate_subresource_update("status", &new, &old);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let more = json!({"replicas": 1, "readyReplicas": 1, "availableReplicas": 2});
    assert_eq!(
        errors("Deployment", json!({}), more.clone()),
        [
            "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas"
        ]
    );
    assert_eq!(
        errors("StatefulSet", json!({}), more)[1],
        "status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas"
    );
    assert_eq!(
        errors(
            "DaemonSet",
            json!({"collisionCount": 1}),
            json!({"numberReady": -1})
        ),
        [
            "status.numberReady: Invalid value: -1: must be greater than or equal to 0",
            "status.collisionCount: Invalid value: 0: cannot be decremented"
        ]
    );
    let fine = json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 1});
    assert_eq!(errors("ReplicaSet", json!({}), fine), none());
}

#[test]
fn pods_of_a_stateful_set_may_mount_its_claims() {
    let mut set = deployment();
    set["kind"] = "StatefulSet".into();
    set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    assert_eq!(errors(set.clone()), none());

    let mut devices = set.clone();
    let container = &mut devices["spec"]["template"]["spec"]["containers"][0];
    container["volumeMounts"] = Value::Null;
    container["volumeDevices"] = json!([{"name": "data", "devicePath": "/dev/xvda"}]);
    assert_eq!(errors(devices), none(), "a claim may be a raw device, too");

    let mut replaced = set.clone();
    replaced["spec"]["template"]["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    assert_eq!(
        errors(replaced),
        none(),
        "the claim takes the volume's place"
    );

    set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["name"] = "other".into();
    assert_eq!(
        errors(set.clone()),
        ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"other\""]
    );
    let mut bare = set.clone();
    bare["spec"]["volumeClaimTemplates"][0]["spec"]["accessModes"] = Value::Null;
    bare["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = Value::Null;
    assert_eq!(
        errors(bare),
        [
            "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required"
        ]
    );
    set["kind"] = "ReplicaSet".into();
    set["spec"]["volumeClaimTemplates"] = Value::Null;
    set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["name"] = "data".into();
    assert_eq!(
        errors(set),
        ["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""],
        "without a claim there is no volume"
    );
}

#[test]
fn a_template_inside_an_object_has_metadata() {
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "b"}],
        "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}]}});
    let made = |group: &str, kind: &str, field: &str, value: &Value| {
        let mut object = json!({"apiVersion": group, "kind": kind, "metadata": {"name": "sample"}});
        object[field] = value.clone();
        created(object).into_value()
    };
    let stored = made("v1", "PodTemplate", "template", &template);
    assert_eq!(stored["template"]["metadata"], json!({}));
    let volume = &stored["template"]["spec"]["volumes"][0];
    let claim = &volume["ephemeral"]["volumeClaimTemplate"];
    assert_eq!(claim["metadata"], json!({}));
    let pod = made("v1", "Pod", "spec", &template["spec"]);
    let claim = &pod["spec"]["volumes"][0]["ephemeral"]["volumeClaimTemplate"];
    assert_eq!(claim["metadata"], json!({}));
    let cron = json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}});
    let cron = made("batch/v1", "CronJob", "spec", &cron);
    let job = &cron["spec"]["jobTemplate"];
    assert_eq!(job["metadata"], json!({}));
    assert_eq!(job["spec"]["template"]["metadata"], json!({}));
    let claims = json!({"spec": {"devices": {}}});
    let claims = made(
        "resource.k8s.io/v1",
        "ResourceClaimTemplate",
        "spec",
        &claims,
    );
    assert_eq!(claims["spec"]["metadata"], json!({}));
}
