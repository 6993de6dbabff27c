//! Jobs from their creation to their end.

use crate::cluster::Cluster;
use agent_runtime::client::Propagation;
use agent_runtime::kinds::{Event, Job, Pod};
use agent_runtime::resource_ref::{JOBS, PODS};
use agent_runtime::{AgentContext, Cache, DeleteParams, PatchType};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// What a Job's spec says, with containers that run this script.
pub(crate) fn job(name: &str, spec: Value, script: &str) -> Value {
    let mut spec = spec;
    spec["template"] = json!({"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "one", "command": ["sh", "-c", script]}]}});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

async fn create_job(cluster: &Cluster, body: &Value) -> Value {
    let made = cluster.client.create(&JOBS, "default", body).await;
    made.unwrap()
}

/// Waits until a Job of `default` is as `wanted`.
pub(crate) async fn job_is(
    cluster: &Cluster,
    what: &str,
    name: &str,
    wanted: impl Fn(&Job) -> bool,
) -> Arc<Job> {
    let jobs = cluster.hub.cache::<Job>();
    let found = cluster.until(what, &jobs, |jobs| {
        jobs.get("default", name).filter(|job| wanted(job))
    });
    found.await
}

fn ended(job: &Job, kind: &str, reason: &str) -> bool {
    job.finished()
        .is_some_and(|c| c.kind == kind && c.reason == reason)
}

/// The pods of a Job, by name.
pub(crate) fn pods_of(pods: &Cache<Pod>, job: &str) -> Vec<Arc<Pod>> {
    let mut pods = pods.in_namespace("default");
    pods.retain(|pod| {
        pod.metadata
            .labels
            .get("job-name")
            .is_some_and(|name| name == job)
    });
    pods
}

/// Waits for an event.
pub(crate) async fn told(cluster: &Cluster, about: &str, reason: &str) -> Arc<Event> {
    let events = cluster.hub.cache::<Event>();
    let found = cluster.until(reason, &events, |events| {
        let mut events = events.in_namespace("default").into_iter();
        events.find(|event| event.reason == reason && event.involved_object.name == about)
    });
    found.await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_run_to_their_end_on_nodes() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    create_job(
        &cluster,
        &job(
            "plain",
            json!({"completions": 3, "parallelism": 2}),
            "sleep 0.1; exit 0",
        ),
    )
    .await;
    let indexed = json!({"completions": 3, "parallelism": 3, "completionMode": "Indexed", "successPolicy": {"rules": [{"succeededIndexes": "0-2"}]}});
    create_job(&cluster, &job("indexed", indexed, "exit 0")).await;
    create_job(
        &cluster,
        &job("failing", json!({"backoffLimit": 0}), "exit 3"),
    )
    .await;
    let policy = json!({"podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]}});
    create_job(&cluster, &job("policed", policy, "exit 3")).await;
    let brief = json!({"ttlSecondsAfterFinished": 0});
    create_job(&cluster, &job("brief", brief, "exit 0")).await;

    let plain = |job: &Job| ended(job, "Complete", "CompletionsReached");
    let plain = job_is(&cluster, "three pods to succeed", "plain", plain).await;
    let status = &plain.status;
    assert_eq!(
        (
            status.succeeded,
            status.failed,
            status.active,
            status.terminating
        ),
        (3, 0, 0, Some(0))
    );
    assert_eq!(status.uncounted_terminated_pods, Some(Default::default()));
    assert!(status.start_time.is_some() && status.completion_time.is_some());
    assert_eq!(told(&cluster, "plain", "Completed").await.kind, "Normal");
    let free = cluster.until("the pods to be free", &cluster.pods, |pods| {
        let pods = pods_of(pods, "plain");
        let free =
            |pod: &Arc<Pod>| pod.metadata.finalizers.is_empty() && pod.status.phase == "Succeeded";
        (pods.len() == 3 && pods.iter().all(free)).then_some(())
    });
    free.await;

    let indexed = |job: &Job| job.finished().is_some();
    let indexed = job_is(&cluster, "all indexes", "indexed", indexed).await;
    assert_eq!(
        (
            indexed.status.completed_indexes.as_str(),
            indexed.status.succeeded
        ),
        ("0-2", 3)
    );
    for pod in pods_of(&cluster.pods, "indexed") {
        let index = &pod.metadata.annotations["batch.kubernetes.io/job-completion-index"];
        assert_eq!(
            pod.metadata.labels["batch.kubernetes.io/job-completion-index"],
            *index
        );
        assert_eq!(pod.spec.hostname, format!("indexed-{index}"));
    }

    let failing = |job: &Job| ended(job, "Failed", "BackoffLimitExceeded");
    assert_eq!(
        job_is(&cluster, "a failure", "failing", failing)
            .await
            .status
            .failed,
        1
    );
    assert_eq!(
        told(&cluster, "failing", "BackoffLimitExceeded").await.kind,
        "Warning"
    );
    let policed = |job: &Job| ended(job, "Failed", "PodFailurePolicy");
    job_is(&cluster, "a failure by the policy", "policed", policed).await;
    let jobs = cluster.hub.cache::<Job>();
    let gone = cluster.until("the brief one to go", &jobs, |jobs| {
        jobs.get("default", "brief").is_none().then_some(())
    });
    gone.await;
    let gone = cluster.until("its pods to go", &cluster.pods, |pods| {
        pods_of(pods, "brief").is_empty().then_some(())
    });
    gone.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn matching_orphans_are_adopted_and_others_released() {
    let cluster = Cluster::start().await;
    create_job(
        &cluster,
        &job(
            "adopting",
            json!({"parallelism": 2, "completions": 4}),
            "sleep 1000",
        ),
    )
    .await;
    let running = |job: &Job| job.status.active == 2 && job.status.ready == Some(2);
    let adopting = job_is(&cluster, "two pods", "adopting", running).await;
    let pod = pods_of(&cluster.pods, "adopting")[0].metadata.name.clone();
    let patch = async |body: Value| {
        let patched = cluster
            .client
            .patch(&PODS, "default", &pod, PatchType::Merge, &body)
            .await;
        patched.unwrap()
    };
    patch(json!({"metadata": {"ownerReferences": null}})).await;
    let uid = &adopting.metadata.uid;
    let ours =
        |pod: &Pod| pod.metadata.is_controlled_by(uid) && pod.metadata.finalizers == [TRACKING];
    cluster.pod("it to be adopted", &pod, ours).await;

    patch(json!({"metadata": {"labels": null}})).await;
    let free =
        |pod: &Pod| pod.metadata.owner_references.is_empty() && pod.metadata.finalizers.is_empty();
    cluster.pod("it to be released", &pod, free).await;
    let replaced = cluster.until("another in its place", &cluster.pods, |pods| {
        (pods_of(pods, "adopting").len() == 2).then_some(())
    });
    replaced.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_job_takes_its_pods_along() {
    let cluster = Cluster::start().await;
    for (name, propagation) in [
        ("a", Propagation::Foreground),
        ("b", Propagation::Background),
    ] {
        create_job(
            &cluster,
            &job(
                name,
                json!({"parallelism": 2, "completions": 2}),
                "sleep 1000",
            ),
        )
        .await;
        job_is(&cluster, "two pods", name, |job| {
            job.status.ready == Some(2)
        })
        .await;
        let how = DeleteParams {
            propagation: Some(propagation),
            ..DeleteParams::default()
        };
        cluster
            .client
            .delete(&JOBS, "default", name, &how)
            .await
            .unwrap();
        let gone = cluster.until("the pods to go", &cluster.pods, |pods| {
            pods_of(pods, name).is_empty().then_some(())
        });
        gone.await;
        let jobs = cluster.hub.cache::<Job>();
        let gone = cluster.until("the Job to go", &jobs, |jobs| {
            jobs.get("default", name).is_none().then_some(())
        });
        gone.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_suspended_and_resumed() {
    let cluster = Cluster::start().await;
    create_job(
        &cluster,
        &job(
            "held",
            json!({"parallelism": 2, "completions": 2, "suspend": true}),
            "sleep 1000",
        ),
    )
    .await;
    let suspend = async |suspend: bool| {
        let body = json!({"spec": {"suspend": suspend}});
        cluster
            .client
            .patch(&JOBS, "default", "held", PatchType::Merge, &body)
            .await
            .unwrap();
    };
    let says = |job: &Job, value: &str| {
        job.status
            .conditions
            .iter()
            .any(|c| c.kind == "Suspended" && c.status == value)
    };
    let held = job_is(&cluster, "it to be suspended", "held", |job| {
        says(job, "True")
    })
    .await;
    assert_eq!(
        (
            held.status.start_time.clone(),
            pods_of(&cluster.pods, "held").len()
        ),
        (None, 0)
    );
    suspend(false).await;
    let running = |job: &Job| {
        says(job, "False") && job.status.ready == Some(2) && job.status.start_time.is_some()
    };
    job_is(&cluster, "it to run", "held", running).await;
    suspend(true).await;
    let stopped = |job: &Job| {
        says(job, "True") && job.status.active == 0 && job.status.terminating == Some(0)
    };
    let stopped = job_is(&cluster, "its pods to go", "held", stopped).await;
    assert_eq!(
        (stopped.status.failed, stopped.status.start_time.clone()),
        (0, None)
    );
    told(&cluster, "held", "Resumed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_changes_hands_makes_no_pod_twice() {
    let (cluster, context) = Cluster::without_controllers().await;
    let made = Arc::new(Mutex::new(BTreeSet::new()));
    let names = made.clone();
    cluster.pods.subscribe(move |change| {
        if let Some(pod) = &change.new {
            names.lock().unwrap().insert(pod.metadata.name.clone());
        }
    });
    let start = |identity: &str| {
        let stop = CancellationToken::new();
        let context = AgentContext {
            identity: identity.into(),
            stop: stop.clone(),
            ..context.clone()
        };
        (stop, tokio::spawn(controllers::run(context)))
    };
    let (stop_first, first) = start("first");
    create_job(
        &cluster,
        &job(
            "many",
            json!({"parallelism": 40, "completions": 40}),
            "sleep 1000",
        ),
    )
    .await;
    let begun = cluster.until("the first pods", &cluster.pods, |pods| {
        (pods.len() > 2).then_some(())
    });
    begun.await;
    stop_first.cancel();
    first.await.unwrap();
    let (stop_second, second) = start("second");
    job_is(&cluster, "all pods", "many", |job| {
        job.status.ready == Some(40)
    })
    .await;
    assert_eq!(made.lock().unwrap().len(), 40);
    stop_second.cancel();
    second.await.unwrap();
}
