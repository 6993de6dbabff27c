//! Indexes, and the policies of failure, replacement and success.

use super::finalizer;
use super::indexes::completion_index;
use super::simulation::Simulation;
use agent_runtime::kinds::Pod;
use serde_json::json;
use std::collections::BTreeSet;

fn index_of(pod: &Pod) -> i64 {
    completion_index(pod).expect("an index")
}

#[test]
fn indexed_pods_know_their_index() {
    let spec = "parallelism: 3, completions: 3, completionMode: Indexed, template: {spec: {initContainers: [{name: i, env: [{name: JOB_COMPLETION_INDEX, value: mine}]}]}}";
    let mut job = Simulation::new(spec);
    job.settle();
    for (name, pod) in &job.pods {
        let index = pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]
            .as_str()
            .unwrap();
        assert!(name.starts_with(&format!("j-{index}-")), "{name}");
        assert_eq!(pod["metadata"]["generateName"], format!("j-{index}-"));
        assert_eq!(
            pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"],
            index
        );
        assert_eq!(
            pod["metadata"]["annotations"].get("batch.kubernetes.io/job-index-failure-count"),
            None
        );
        assert_eq!(pod["spec"]["hostname"], format!("j-{index}"));
        let variable = json!([{"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-completion-index']"}}}]);
        assert_eq!(pod["spec"]["containers"][0]["env"], variable);
        assert_eq!(
            pod["spec"]["initContainers"][0]["env"],
            json!([{"name": "JOB_COMPLETION_INDEX", "value": "mine"}])
        );
    }
    let of_index = |job: &Simulation, index: i64| {
        let pods = job.pods().into_iter().filter(Pod::is_active);
        pods.filter(|pod| index_of(pod) == index)
            .map(|pod| pod.metadata.name)
            .next()
    };
    let (zero, two) = (of_index(&job, 0).unwrap(), of_index(&job, 2).unwrap());
    job.finish(&two, 0);
    job.finish(&zero, 1);
    job.settle();
    assert_eq!(
        (job.status().completed_indexes.as_str(), job.status().failed),
        ("2", 1)
    );
    job.seconds += 10;
    job.settle();
    let again = of_index(&job, 0).expect("the failed index is tried again");
    job.finish(&again, 0);
    job.finish_all(0);
    job.settle();
    assert_eq!(
        (
            job.status().completed_indexes.as_str(),
            job.status().succeeded
        ),
        ("0-2", 3)
    );
    assert_eq!(job.conditions()[1], "Complete CompletionsReached");
}

#[test]
fn an_elastic_job_grows_and_shrinks() {
    let mut job = Simulation::new("parallelism: 2, completions: 2, completionMode: Indexed");
    job.settle();
    job.set("parallelism", json!(4));
    job.set("completions", json!(4));
    job.settle();
    assert_eq!(job.active().len(), 4);
    let three = job
        .pods()
        .into_iter()
        .find(|pod| index_of(pod) == 3)
        .unwrap();
    job.finish(&three.metadata.name, 0);
    job.settle();
    assert_eq!(job.status().completed_indexes, "3");
    job.set("parallelism", json!(2));
    job.set("completions", json!(2));
    job.settle();
    job.end_deleted();
    job.settle();
    let left: BTreeSet<i64> = job
        .pods()
        .iter()
        .filter(|pod| pod.is_active())
        .map(index_of)
        .collect();
    assert_eq!(left, BTreeSet::from([0, 1]));
    assert_eq!(
        (
            job.status().completed_indexes.as_str(),
            job.status().succeeded,
            job.status().failed
        ),
        ("", 0, 0)
    );
}

#[test]
fn each_index_has_its_own_limit_and_its_pods_bear_the_count() {
    let mut job = Simulation::new(
        "parallelism: 2, completions: 2, completionMode: Indexed, backoffLimitPerIndex: 1, backoffLimit: 2147483647",
    );
    job.settle();
    assert!(job.pods.values().all(
        |pod| pod["metadata"]["annotations"]["batch.kubernetes.io/job-index-failure-count"] == "0"
    ));
    let zero = job
        .pods()
        .into_iter()
        .find(|pod| index_of(pod) == 0)
        .unwrap();
    job.finish(&zero.metadata.name, 1);
    assert_eq!(job.settle(), ["again in 10s"]);
    let kept = &job.pods[&zero.metadata.name]["metadata"]["finalizers"];
    assert_eq!(
        *kept,
        json!([finalizer::TRACKING]),
        "kept until it is replaced"
    );
    job.seconds += 10;
    job.settle();
    assert_eq!(
        job.pods[&zero.metadata.name]["metadata"]["finalizers"],
        json!([])
    );
    let next = job
        .pods()
        .into_iter()
        .find(|pod| index_of(pod) == 0 && pod.is_active())
        .unwrap();
    assert_eq!(
        next.metadata.annotations["batch.kubernetes.io/job-index-failure-count"],
        "1"
    );
    job.finish(&next.metadata.name, 1);
    job.settle();
    assert_eq!(job.status().failed_indexes.as_deref(), Some("0"));
    assert!(!job.finished(), "the other index runs on");
    job.finish_all(0);
    job.settle();
    assert_eq!(job.conditions()[1], "Failed FailedIndexes");
    assert_eq!((job.status().succeeded, job.status().failed), (1, 2));
}

#[test]
fn too_many_failed_indexes_end_the_others() {
    let mut job = Simulation::new(
        "parallelism: 3, completions: 3, completionMode: Indexed, backoffLimitPerIndex: 0, maxFailedIndexes: 0, backoffLimit: 2147483647",
    );
    job.settle();
    let one = job.active()[0].clone();
    job.finish(&one, 1);
    job.settle();
    job.end_deleted();
    job.settle();
    assert_eq!(
        job.conditions(),
        [
            "FailureTarget MaxFailedIndexesExceeded",
            "Failed MaxFailedIndexesExceeded"
        ]
    );
}

#[test]
fn the_failure_policy_ignores_ends_indexes_and_ends_the_job() {
    let policy = |action: &str| {
        format!(
            "podFailurePolicy: {{rules: [{{action: {action}, onExitCodes: {{operator: In, values: [42]}}}}]}}"
        )
    };
    let mut job = Simulation::new(&format!(
        "parallelism: 1, completions: 1, backoffLimit: 0, {}",
        policy("Ignore")
    ));
    job.settle();
    job.finish_all(42);
    job.settle();
    assert_eq!((job.status().failed, job.finished()), (0, false));
    job.seconds += 10;
    job.settle();
    assert_eq!(job.active().len(), 1);

    let mut job = Simulation::new(&format!(
        "parallelism: 2, completions: 2, {}",
        policy("FailJob")
    ));
    job.settle();
    let one = job.active()[0].clone();
    job.finish(&one, 42);
    job.settle();
    job.end_deleted();
    job.settle();
    assert_eq!(
        job.conditions(),
        ["FailureTarget PodFailurePolicy", "Failed PodFailurePolicy"]
    );
    let message = &job.status().conditions[1].message;
    assert_eq!(
        *message,
        format!(
            "Container c for pod a/{one} failed with exit code 42 matching FailJob rule at index 0"
        )
    );

    let spec = format!(
        "parallelism: 1, completions: 2, completionMode: Indexed, backoffLimitPerIndex: 5, backoffLimit: 2147483647, {}",
        policy("FailIndex")
    );
    let mut job = Simulation::new(&spec);
    job.settle();
    job.finish_all(42);
    job.settle();
    assert_eq!(job.status().failed_indexes.as_deref(), Some("0"));
    assert_eq!(
        job.active().len(),
        1,
        "the next index is tried without a pause"
    );
}

#[test]
fn with_a_failure_policy_a_pod_is_replaced_when_it_has_ended() {
    for (spec, terminating) in [
        ("podReplacementPolicy: TerminatingOrFailed", 1),
        ("podReplacementPolicy: Failed", 0),
        ("podFailurePolicy: {rules: []}", 0),
    ] {
        let mut job = Simulation::new(&format!("parallelism: 1, completions: 1, {spec}"));
        job.settle();
        let one = job.active()[0].clone();
        job.delete(&one);
        job.settle();
        job.seconds += 20;
        job.settle();
        assert_eq!(job.active().len(), terminating, "{spec}");
        assert_eq!(
            (job.status().failed, job.status().terminating),
            (i32::try_from(terminating).unwrap(), Some(1))
        );
        job.end_deleted();
        job.settle();
        job.seconds += 20;
        job.settle();
        assert_eq!((job.active().len(), job.status().failed), (1, 1), "{spec}");
    }
}

#[test]
fn the_success_policy_ends_the_rest() {
    for (rule, enough) in [
        ("{succeededIndexes: '0,2'}", false),
        ("{succeededIndexes: '0,2', succeededCount: 1}", true),
        ("{succeededIndexes: '0'}", true),
        ("{succeededCount: 1}", true),
        ("{succeededCount: 2}", false),
        ("{succeededIndexes: 'x'}", false),
    ] {
        let spec = format!(
            "parallelism: 3, completions: 3, completionMode: Indexed, successPolicy: {{rules: [{{succeededCount: 9}}, {rule}]}}"
        );
        let mut job = Simulation::new(&spec);
        job.settle();
        let zero = job
            .pods()
            .into_iter()
            .find(|pod| index_of(pod) == 0)
            .unwrap();
        job.finish(&zero.metadata.name, 0);
        job.settle();
        if !enough {
            assert_eq!(job.conditions(), Vec::<String>::new(), "{rule}");
            continue;
        }
        assert_eq!(
            job.conditions(),
            ["SuccessCriteriaMet SuccessPolicy"],
            "two still run: {rule}"
        );
        assert_eq!(
            job.status().conditions[0].message,
            "Matched rules at index 1"
        );
        job.end_deleted();
        job.settle();
        assert_eq!(job.conditions()[1], "Complete SuccessPolicy");
        assert_eq!(
            (job.status().succeeded, job.status().failed),
            (1, 0),
            "what was stopped is no failure"
        );
    }
}
