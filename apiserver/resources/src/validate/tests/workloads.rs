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
fn jobs() {
    let job = |restart: &str| {
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template":
            {"spec": {"restartPolicy": restart, "containers": [{"name": "c", "image": "x"}]}}}})
    };
    assert_eq!(errors(job("Never")), none());
    assert_eq!(
        errors(job("Always")),
        [
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
        ]
    );
    let managed = |by: &str| {
        let mut job = job("Never");
        job["spec"]["managedBy"] = by.into();
        errors(job)
    };
    assert_eq!(managed("example.com/other"), none());
    assert_eq!(
        managed("nodomain"),
        [
            "spec.managedBy: Invalid value: \"nodomain\": must be a domain-prefixed path (such as \"acme.io/foo\")"
        ]
    );
    assert_eq!(managed(""), ["spec.managedBy: Required value"]);
    assert_eq!(
        managed(&format!("a.io/{}", "b".repeat(59))),
        ["spec.managedBy: Too long: may not be more than 63 bytes"]
    );
    // One that was stored before this was checked can be labelled, and not be made wrong in another way.
    let mut old = job("Never");
    old["spec"]["managedBy"] = "nodomain".into();
    let labelled = |job: &mut Object| job.set_label("a", "b");
    assert_eq!(update_errors(old.clone(), labelled), none());
    let worse = |job: &mut Object| job.value_mut()["spec"]["parallelism"] = (-1).into();
    assert_eq!(
        update_errors(old, worse),
        ["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"]
    );
    let object = created(job("OnFailure"));
    assert_eq!(
        object.get(&["spec", "selector"]),
        Some(&json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "0a1b"}}))
    );
    assert_eq!(
        object.get_str(&["spec", "template", "metadata", "labels", "job-name"]),
        Some("j")
    );
    assert_eq!(object.get_i64(&["spec", "backoffLimit"]), Some(6));
    assert_eq!(
        update_errors(job("Never"), |new| new.set(&["spec", "parallelism"], 0)),
        none()
    );
    assert_eq!(
        update_errors(job("Never"), |new| new.set(&["spec", "completions"], 5)),
        ["spec.completions: Invalid value: 5: field is immutable"]
    );
    let cron = |schedule: &str| {
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "j"}, "spec": {"schedule": schedule,
            "jobTemplate": {"spec": job("Never")["spec"].clone()}}})
    };
    assert_eq!(errors(cron("*/5 * * * *")), none());
    assert_eq!(
        errors(cron("* * *")),
        ["spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]"]
    );
    let zoned = |zone: &str| {
        let mut object = cron("* * * * *");
        object["spec"]["timeZone"] = zone.into();
        errors(object)
    };
    assert_eq!(zoned("Europe/Berlin"), none());
    for zone in ["Mars/Olympus", "europe/berlin", "../etc/passwd", "/UTC"] {
        assert_eq!(
            zoned(zone),
            [format!(
                "spec.timeZone: Invalid value: \"{zone}\": unknown time zone {zone}"
            )]
        );
    }
}

fn job(extra: Value) -> Value {
    let mut spec = json!({"template":
        {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}});
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": spec})
}

#[test]
fn policies_of_jobs_are_refused_in_words() {
    let rule = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let at = "spec.podFailurePolicy.rules[0]";
    for (extra, expected) in [
        (
            rule(json!({"action": "FailIndex"})),
            vec![
                format!("{at}.action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set"),
                format!("{at}: Invalid value: specifying one of OnExitCodes and OnPodConditions is required"),
            ],
        ),
        (
            rule(json!({"onExitCodes": {"operator": "In", "values": [2, 1, 0], "containerName": "x"}})),
            vec![
                format!("{at}.action: Required value: valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]"),
                format!(
                    "{at}.onExitCodes.containerName: Invalid value: \"x\": must be one of the container or initContainer \
                     names in the pod template"
                ),
                format!("{at}.onExitCodes.values[2]: Invalid value: 0: must not be 0 for the In operator"),
                format!("{at}.onExitCodes.values: Invalid value: [2,1,0]: must be ordered"),
            ],
        ),
        (
            json!({"podFailurePolicy": {"rules": []}, "podReplacementPolicy": "TerminatingOrFailed"}),
            vec![
                "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\""
                    .to_owned(),
            ],
        ),
        (
            json!({"successPolicy": {"rules": [{}]}, "completionMode": "Indexed", "completions": 2}),
            vec![
                "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be \
                 specified"
                    .to_owned(),
            ],
        ),
        (
            json!({"successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 3}]},
                "completionMode": "Indexed", "completions": 2}),
            vec![
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number \
                 of specified completions)"
                    .to_owned(),
                "spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number \
                 of indexes in the specified succeededIndexes field)"
                    .to_owned(),
            ],
        ),
        (
            json!({"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 1, "maxFailedIndexes": 4}),
            vec!["spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions".to_owned()],
        ),
    ] {
        assert_eq!(errors(job(extra.clone())), expected, "{extra}");
    }
}

#[test]
fn a_copy_of_a_job_has_labels_of_another() {
    let mut copy =
        job(json!({"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "old"}}}));
    copy["spec"]["template"]["metadata"] =
        json!({"labels": {"batch.kubernetes.io/controller-uid": "old"}});
    let found = errors(copy);
    assert_eq!(
        found[0],
        "spec.template.metadata.labels[batch.kubernetes.io/controller-uid]: Invalid value: \
         {\"batch.kubernetes.io/controller-uid\":\"old\",\"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"0a1b\",\
         \"job-name\":\"j\"}: must be '0a1b'"
    );
    assert_eq!(
        found[1..],
        [
            "spec.selector: Invalid value: {\"matchLabels\":{\"batch.kubernetes.io/controller-uid\":\"old\"}}: `selector` \
             not auto-generated"
        ]
    );
}

#[test]
fn a_job_that_rests_takes_other_resources_and_nodes() {
    let resting = || job(json!({"suspend": true}));
    let template = ["spec", "template", "spec"];
    let container = |new: &mut Object, field: &str, value: Value| {
        new.value_mut()["spec"]["template"]["spec"]["containers"][0][field] = value;
    };
    let resources = json!({"requests": {"cpu": "1"}});
    let selector = |new: &mut Object| {
        new.set(
            &[&template[..], &["nodeSelector"][..]].concat(),
            json!({"a": "b"}),
        );
        new.set(
            &[&template[..], &["affinity"][..]].concat(),
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}}}),
        );
    };
    assert_eq!(
        update_errors(resting(), |new| container(
            new,
            "resources",
            resources.clone()
        )),
        none()
    );
    assert_eq!(update_errors(resting(), selector), none());
    let image = |new: &mut Object| container(new, "image", "y".into());
    let refused = update_errors(resting(), image);
    assert!(
        refused.len() == 1
            && refused[0].starts_with("spec.template.spec: Invalid value: ")
            && refused[0].ends_with(": field is immutable"),
        "{refused:?}"
    );
    let refused = update_errors(job(json!({})), selector);
    assert!(
        refused[0].starts_with("spec.template: Invalid value: "),
        "{refused:?}"
    );
    let indexed = job(json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}));
    assert_eq!(
        update_errors(indexed, |new| new.set(&["spec", "completions"], 3)),
        [
            "spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"
        ]
    );
}

#[test]
fn cron_jobs_are_refused_in_words() {
    let cron = |name: &str, extra: Value| {
        let mut spec = json!({"schedule": "* * * * *", "jobTemplate": {"spec": job(json!({}))["spec"].clone()}});
        for (field, value) in extra.as_object().unwrap() {
            spec[field] = value.clone();
        }
        errors(
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}),
        )
    };
    let long = "c".repeat(53);
    assert_eq!(
        cron(&long, json!({})),
        [format!(
            "metadata.name: Invalid value: \"{long}\": must be no more than 52 characters"
        )]
    );
    assert_eq!(
        cron("c", json!({"timeZone": "Europe/../Berlin"})),
        ["spec.timeZone: Invalid value: \"Europe/../Berlin\": unknown time zone Europe/../Berlin"]
    );
    assert_eq!(
        cron("c", json!({"schedule": "TZ=UTC * * * * *"})),
        [
            "spec.schedule: Invalid value: \"TZ=UTC * * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field \
             instead"
        ]
    );
    let spec = job(json!({"selector": {"matchLabels": {"a": "b"}}}))["spec"].clone();
    assert_eq!(
        cron("c", json!({"jobTemplate": {"spec": spec}})),
        [
            "spec.jobTemplate.spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` will be auto-generated"
        ]
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

#[test]
fn the_labels_of_a_job_have_the_name_that_was_free() {
    let job = |labels: Value| {
        created(
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a-1", "generateName": "a-"},
            "spec": {"template": {"metadata": {"labels": labels},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}),
        )
    };
    let renamed = |labels: Value| {
        let mut job = job(labels);
        resource(&job).rename(&mut job, "a-2");
        assert_eq!(job.name(), "a-2");
        let labels = job.get(&["spec", "template", "metadata", "labels"]);
        ["batch.kubernetes.io/job-name", "job-name"]
            .map(|key| labels.unwrap()[key].as_str().unwrap().to_owned())
    };
    assert_eq!(renamed(json!({})), ["a-2", "a-2"]);
    assert_eq!(renamed(json!({"job-name": "mine"})), ["a-2", "mine"]);
    let mut map =
        created(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}));
    resource(&map).rename(&mut map, "b");
    assert_eq!(map.name(), "b");
}
