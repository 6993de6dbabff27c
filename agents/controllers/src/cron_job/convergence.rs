//! Whenever leaders are cut off, each time has its Job once, the policy holds, and then nothing is written.

use super::reconcile;
use crate::simulation::{Dice, Simulation};
use crate::testing::after;
use agent_runtime::{Key, timestamp};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The beginning, in minutes since 1970.
const BEGIN_MINUTES: u64 = 29_454_360;

fn cluster(policy: &str) -> Simulation {
    Simulation::new(&format!(
        "kind: CronJob\nmetadata: {{name: c, namespace: a, uid: c, creationTimestamp: '2026-01-01T10:00:00Z'}}\n\
         spec: {{schedule: '* * * * *', concurrencyPolicy: {policy}, successfulJobsHistoryLimit: 2, failedJobsHistoryLimit: 1, \
         jobTemplate: {{spec: {{template: {{spec: {{restartPolicy: Never}}}}}}}}}}\n"
    ))
}

fn key() -> Key {
    Key::new("a", "c")
}

fn has_ended(job: &Value) -> bool {
    !job["status"]["conditions"].is_null()
}

fn end(cluster: &mut Simulation, name: &str, how: &str) {
    if cluster.get("Job", name).is_some_and(|job| has_ended(&job)) {
        return;
    }
    let now = timestamp::time(after(cluster.seconds).wall);
    let mut status =
        json!({"conditions": [{"type": how, "status": "True", "lastTransitionTime": now}]});
    if how == "Complete" {
        status["completionTime"] = now.into();
    }
    cluster.patch("Job", name, &json!({"status": status}));
}

/// A minute or less passes, some Jobs end, and somebody looks, perhaps after one who was cut off.
fn turn(cluster: &mut Simulation, dice: &mut Dice, ever: &mut BTreeSet<String>) {
    cluster.seconds += dice.roll(50);
    for name in cluster.names("Job") {
        match dice.roll(6) {
            0 => end(cluster, &name, "Complete"),
            1 => end(cluster, &name, "Failed"),
            _ => {}
        }
    }
    if dice.roll(3) == 0 {
        cluster.cut_off(&key(), reconcile, dice.roll(4));
        ever.extend(cluster.names("Job"));
    }
    cluster.step(&key(), reconcile);
    ever.extend(cluster.names("Job"));
}

/// All ends, and what is left to do is done.
fn settle(cluster: &mut Simulation) {
    for _ in 0..10 {
        for name in cluster.names("Job") {
            end(cluster, &name, "Complete");
        }
        cluster.step(&key(), reconcile);
    }
    let plan = reconcile(&key(), &cluster.world());
    assert!(plan.ops.is_empty(), "{:#?}", plan.lines());
}

fn has_arrived(cluster: &Simulation, told: &str) {
    let status = &cluster.get("CronJob", "c").unwrap()["status"];
    let last = after(cluster.seconds - cluster.seconds % 60).wall;
    assert_eq!(status["lastScheduleTime"], timestamp::time(last), "{told}");
    assert!(status["active"].is_null(), "{told}");
    let jobs = cluster.all("Job");
    let of = |how: &str| {
        let ended = jobs.iter();
        let ended = ended.filter(|job| job["status"]["conditions"][0]["type"] == how);
        ended.count()
    };
    assert!(of("Complete") <= 2 && of("Failed") <= 1, "{told}");
}

#[test]
fn each_time_has_its_job_once_whoever_leads() {
    for policy in ["Allow", "Forbid", "Replace"] {
        for seed in 0..60 {
            let told = format!("{policy}, seed {seed}");
            let (mut cluster, mut dice) = (cluster(policy), Dice(seed));
            let mut ever = BTreeSet::new();
            for _ in 0..60 {
                turn(&mut cluster, &mut dice, &mut ever);
                let jobs = cluster.all("Job");
                let running = jobs.iter().filter(|job| !has_ended(job)).count();
                assert!(policy == "Allow" || running <= 1, "{told}: {running} run");
            }
            settle(&mut cluster);
            has_arrived(&cluster, &told);
            let minutes = (1..=cluster.seconds / 60).map(|minute| BEGIN_MINUTES + minute);
            let wanted: BTreeSet<String> = minutes.map(|minute| format!("c-{minute}")).collect();
            assert!(ever.is_subset(&wanted), "{told}");
            // Forbidden ones are left out where the next time comes before the end of the one that runs.
            assert!(policy == "Forbid" || ever == wanted, "{told}");
        }
    }
}
