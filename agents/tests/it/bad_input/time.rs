//! Schedules that nobody means, and clocks that do not agree.

use super::{Leader, Line, QUIET, Scene, Terms, play, play_on_nodes, workload};
use crate::jobs::job;
use agent_runtime::kinds::{CronJob, Job, Node};
use agent_runtime::resource_ref::{CRON_JOBS, REPLICA_SETS};
use agent_runtime::timestamp::{self, seconds};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

async fn cron_job(scene: &Scene, name: &str, schedule: &str, more: Value) -> bool {
    let mut spec = more;
    spec["schedule"] = schedule.into();
    spec["jobTemplate"] = json!({"spec": job("", json!({}), "sleep 1000")["spec"]});
    let body = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let made = scene
        .cluster
        .client
        .create(&CRON_JOBS, "default", &body)
        .await;
    match made {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code, 422, "{schedule}: {}", error.message);
            false
        }
    }
}

/// The minutes for which a CronJob has a Job.
async fn minutes(scene: &Scene, name: &str) -> BTreeSet<i64> {
    let jobs = scene.cache::<Job>().await;
    let names = jobs.in_namespace("default");
    let names = names.iter().map(|job| job.metadata.name.clone());
    names
        .filter_map(|job| job.strip_prefix(&format!("{name}-"))?.parse().ok())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn schedules_that_nobody_means_cost_no_more_than_others() {
    play(async |scene| {
        let long = format!(
            "{} * * * *",
            (0..60).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
        );
        let policies = json!({"concurrencyPolicy": "Forbid"});
        let mut taken = Vec::new();
        for (name, schedule) in [
            ("never", "0 0 31 2 *"),
            ("rarely", "59 23 29 2 6"),
            ("second", "@every 1s"),
            ("none", "@every 0s"),
            ("ages", "@every 2540400h"),
            ("long", &long),
            ("reversed", "0 0 5-1 * *"),
            ("words", "at noon, or so"),
            ("reboot", "@reboot"),
        ] {
            if cron_job(&scene, name, schedule, policies.clone()).await {
                taken.push(name);
            }
        }
        assert!(
            !taken.contains(&"words") && taken.contains(&"second") && taken.contains(&"long"),
            "{taken:?}"
        );
        // Kept for every minute, with runs that were missed for ten years.
        assert!(cron_job(&scene, "minute", "* * * * *", json!({})).await);
        let long_ago = timestamp::time(timestamp::now() - seconds(10 * 365 * 24 * 3600));
        for name in ["minute", "second"] {
            let status = json!({"status": {"lastScheduleTime": long_ago}});
            let form = agent_runtime::PatchType::Merge;
            let client = &scene.cluster.client;
            let done = client
                .patch_status(&CRON_JOBS, "default", name, form, &status)
                .await;
            done.unwrap();
        }
        let began = timestamp::now() / seconds(60);
        let first = scene.lead("first", Terms::off_after("jobs", 5));
        first.is_off().await;
        let second = scene.lead("second", Terms::off_after("cronjobs", 5));
        second.is_off().await;
        scene.lead("third", Terms::default());
        scene.pass(QUIET).await;
        let lines = scene.pass(QUIET).await;
        let now = timestamp::now() / seconds(60);
        let made = minutes(&scene, "minute").await;
        let wanted: BTreeSet<i64> = (*made.first().unwrap()..now).collect();
        assert!(wanted.is_subset(&made), "{made:?} of {wanted:?}");
        assert!(
            (began - 1..=began + 1).contains(made.first().unwrap()),
            "only the last of those that were missed"
        );
        for name in ["second", "long"] {
            assert_eq!(
                minutes(&scene, name).await.len(),
                1,
                "{name}: one runs and forbids all others"
            );
        }
        let events = lines.iter().filter(|line| line.is_event()).count();
        assert!(events <= 60, "{events}");
        let writes = lines.iter().filter(|line| line.is_write()).count();
        // Of five minutes: a Job, its pod, and what is said of them; of the one that comes every second nothing.
        assert!(
            writes <= 5 * 12,
            "{:#?}",
            lines
                .iter()
                .filter(|line| line.is_write())
                .collect::<Vec<_>>()
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn members_whose_clocks_do_not_agree_lead_one_after_the_other_and_run_each_time_once() {
    play_on_nodes(3, async |scene| {
        let wrong = |clock_wrong_seconds| Terms {
            clock_wrong_seconds,
            ..Terms::default()
        };
        let all: Vec<(&str, Leader)> = [("ahead", 40), ("behind", -40), ("right", 0)]
            .into_iter()
            .map(|(name, seconds)| (name, scene.lead(name, wrong(seconds))))
            .collect();
        let made = scene
            .create(
                &REPLICA_SETS,
                workload("ReplicaSet", "a", 6, &json!({"app": "a"}), "i"),
            )
            .await;
        let set = super::uid(&made);
        assert!(
            cron_job(
                &scene,
                "minute",
                "* * * * *",
                json!({"successfulJobsHistoryLimit": 100})
            )
            .await
        );
        scene.settled(&[(&set, 6)]).await;
        let mut left: BTreeSet<&str> = all.iter().map(|(name, _)| *name).collect();
        while left.len() > 1 {
            scene.pass(Duration::from_secs(180)).await;
            let leads = leading(&scene);
            let (name, leader) = all.iter().find(|(name, _)| *name == leads).unwrap();
            leader.switch_off();
            left.remove(name);
        }
        scene.pass(Duration::from_secs(180)).await;
        assert!(
            left.contains(leading(&scene).as_str()),
            "the last one leads"
        );

        // Nobody writes while another one may still lead.
        let writes = scene.lines(Line::is_write);
        let mut turns: Vec<&str> = writes.iter().map(|line| line.leader.as_str()).collect();
        turns.dedup();
        assert_eq!(turns.len(), 3, "{turns:?}");
        for pair in writes
            .windows(2)
            .filter(|pair| pair[0].leader != pair[1].leader)
        {
            assert!(pair[1].at > pair[0].at);
        }
        let nodes = scene.cache::<Node>().await;
        assert!(
            nodes
                .list()
                .iter()
                .all(|node| node.is_ready() && node.spec.taints.is_empty())
        );
        scene.settled(&[(&set, 6)]).await;
        let mine: Vec<_> = scene
            .ever()
            .into_iter()
            .filter(|pod| pod.controllers.contains(&set))
            .collect();
        assert_eq!(mine.len(), 6);
        // Each minute once, and none is lost that a leader was there for.
        let made = minutes(&scene, "minute").await;
        let (from, to) = (*made.first().unwrap(), *made.last().unwrap());
        assert_eq!(
            i64::try_from(made.len()).unwrap(),
            to - from + 1,
            "{made:?}"
        );
        let cron_jobs = scene.cache::<CronJob>().await;
        let last = cron_jobs
            .get("default", "minute")
            .unwrap()
            .status
            .last_schedule_time
            .clone();
        assert_eq!(timestamp::parse(&last.unwrap()).unwrap() / seconds(60), to);
    })
    .await;
}

/// Who has written last.
fn leading(scene: &Scene) -> String {
    let lines = scene.lines(|line| {
        line.path.contains("/leases/") && line.status == 200 && line.method != http::Method::GET
    });
    lines.last().unwrap().leader.clone()
}
