//! Jobs, and those that make them by the clock.

use super::*;

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
