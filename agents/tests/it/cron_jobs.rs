//! CronJobs and the Jobs that they make.

use crate::cluster::Cluster;
use crate::jobs::{job, job_is, pods_of, told};
use agent_runtime::client::Propagation;
use agent_runtime::kinds::{CronJob, Job};
use agent_runtime::resource_ref::{CRON_JOBS, JOBS, PODS};
use agent_runtime::timestamp::{self, seconds};
use agent_runtime::{DeleteParams, ListParams, PatchType};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// So many minutes ago: a schedule that said so, and the number of the minute.
fn minutes_ago(minutes: i64) -> (String, i64) {
    let minute = timestamp::now() / seconds(60) - minutes;
    (
        format!("{} {} * * *", minute % 60, minute / 60 % 24),
        minute,
    )
}

/// Makes a CronJob that should have run so many minutes ago, the last run being ten minutes old.
async fn create_cron_job(cluster: &Cluster, name: &str, minutes: i64, more: &Value) -> i64 {
    let (schedule, minute) = minutes_ago(minutes);
    let mut spec = more.clone();
    spec["schedule"] = schedule.into();
    spec["jobTemplate"] = json!({"spec": job("", json!({}), "sleep 1000")["spec"]});
    let body = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    cluster
        .client
        .create(&CRON_JOBS, "default", &body)
        .await
        .unwrap();
    let last = timestamp::time((minute - 10) * seconds(60));
    let status = json!({"status": {"lastScheduleTime": last}});
    let patched = cluster
        .client
        .patch_status(&CRON_JOBS, "default", name, PatchType::Merge, &status)
        .await;
    patched.unwrap();
    minute
}

async fn patch_cron_job(cluster: &Cluster, name: &str, spec: Value) {
    let body = json!({"spec": spec});
    let patched = cluster
        .client
        .patch(&CRON_JOBS, "default", name, PatchType::Merge, &body)
        .await;
    patched.unwrap();
}

/// Waits until these Jobs of a CronJob are the active ones.
async fn active_are(cluster: &Cluster, name: &str, minutes: &[i64]) {
    let wanted: BTreeSet<String> = minutes
        .iter()
        .map(|minute| format!("{name}-{minute}"))
        .collect();
    let cron_jobs = cluster.hub.cache::<CronJob>();
    let found = cluster.until("the active Jobs", &cron_jobs, |cron_jobs| {
        let cron_job = cron_jobs.get("default", name)?;
        let active = cron_job
            .status
            .active
            .iter()
            .map(|entry| entry.name.clone());
        (active.collect::<BTreeSet<_>>() == wanted).then_some(())
    });
    found.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cron_jobs_run_beside_each_other() {
    let cluster = Cluster::start().await;
    let first = create_cron_job(&cluster, "both", 3, &json!({"concurrencyPolicy": "Allow"})).await;
    active_are(&cluster, "both", &[first]).await;
    let made = job_is(
        &cluster,
        "the Job to run",
        &format!("both-{first}"),
        |job| job.status.ready == Some(1),
    )
    .await;
    let scheduled = timestamp::time(first * seconds(60));
    assert_eq!(
        made.metadata.annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"],
        scheduled
    );
    let (schedule, second) = minutes_ago(1);
    patch_cron_job(&cluster, "both", json!({"schedule": schedule})).await;
    active_are(&cluster, "both", &[first, second]).await;
    let cron_job = cluster
        .client
        .get_as::<CronJob>(&CRON_JOBS, "default", "both")
        .await
        .unwrap();
    assert_eq!(
        cron_job.status.last_schedule_time,
        Some(timestamp::time(second * seconds(60)))
    );
    told(&cluster, "both", "SuccessfulCreate").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forbidden_second_run_waits_for_the_first() {
    let cluster = Cluster::start().await;
    let first = create_cron_job(&cluster, "one", 3, &json!({"concurrencyPolicy": "Forbid"})).await;
    active_are(&cluster, "one", &[first]).await;
    let (schedule, second) = minutes_ago(1);
    patch_cron_job(&cluster, "one", json!({"schedule": schedule})).await;
    told(&cluster, "one", "JobAlreadyActive").await;
    let all = cluster
        .client
        .list(&JOBS, "default", &ListParams::default())
        .await;
    assert_eq!(all.unwrap()["items"].as_array().unwrap().len(), 1);
    active_are(&cluster, "one", &[first]).await;
    let how = DeleteParams {
        propagation: Some(Propagation::Background),
        ..DeleteParams::default()
    };
    cluster
        .client
        .delete(&JOBS, "default", &format!("one-{first}"), &how)
        .await
        .unwrap();
    active_are(&cluster, "one", &[second]).await;
    told(&cluster, "one", "MissingJob").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_replaced_by_the_next() {
    let cluster = Cluster::start().await;
    let first = create_cron_job(
        &cluster,
        "next",
        3,
        &json!({"concurrencyPolicy": "Replace"}),
    )
    .await;
    active_are(&cluster, "next", &[first]).await;
    let old = format!("next-{first}");
    let runs = |job: &Job| job.status.ready == Some(1);
    job_is(&cluster, "the first to run", &old, runs).await;
    let (schedule, second) = minutes_ago(1);
    patch_cron_job(&cluster, "next", json!({"schedule": schedule})).await;
    active_are(&cluster, "next", &[second]).await;
    let jobs = cluster.hub.cache::<Job>();
    let gone = cluster.until("the first to go", &jobs, |jobs| {
        jobs.get("default", &old).is_none().then_some(())
    });
    gone.await;
    let gone = cluster.until("its pods to go", &cluster.pods, |pods| {
        pods_of(pods, &old).is_empty().then_some(())
    });
    gone.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_cron_job_does_not_run() {
    let cluster = Cluster::start().await;
    let held = create_cron_job(&cluster, "held", 3, &json!({"suspend": true})).await;
    // By the time that the second has run, the first has been looked at.
    let witness = create_cron_job(&cluster, "witness", 3, &json!({})).await;
    active_are(&cluster, "witness", &[witness]).await;
    let name = format!("held-{held}");
    let made = cluster.client.get(&JOBS, "default", &name).await;
    assert!(made.unwrap_err().is_not_found());
    active_are(&cluster, "held", &[]).await;
    patch_cron_job(&cluster, "held", json!({"suspend": false})).await;
    active_are(&cluster, "held", &[held]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finished_runs_are_remembered_and_cleared_away() {
    let cluster = Cluster::start().await;
    let made = create_cron_job(
        &cluster,
        "tidy",
        3,
        &json!({"successfulJobsHistoryLimit": 0}),
    )
    .await;
    let name = format!("tidy-{made}");
    job_is(&cluster, "the Job to run", &name, |job| {
        job.status.ready == Some(1)
    })
    .await;
    let pod = pods_of(&cluster.pods, &name)[0].metadata.name.clone();
    let succeeded = json!({"status": {"phase": "Succeeded"}});
    cluster
        .client
        .patch_status(&PODS, "default", &pod, PatchType::Merge, &succeeded)
        .await
        .unwrap();
    told(&cluster, "tidy", "SawCompletedJob").await;
    told(&cluster, "tidy", "SuccessfulDelete").await;
    let cron_jobs = cluster.hub.cache::<CronJob>();
    let found = cluster.until("the success", &cron_jobs, |cron_jobs| {
        cron_jobs
            .get("default", "tidy")
            .filter(|c| c.status.last_successful_time.is_some() && c.status.active.is_empty())
    });
    found.await;
    let jobs = cluster.hub.cache::<Job>();
    let gone = cluster.until("the Job to go", &jobs, |jobs| {
        jobs.get("default", &name).is_none().then_some(())
    });
    gone.await;
}
