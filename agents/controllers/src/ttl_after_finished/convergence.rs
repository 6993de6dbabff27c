//! Whatever happens to Jobs and their times to live, and wherever leaders are cut off, no Job goes before its time, each goes
//! after it, and then nothing is written.

use super::reconcile;
use crate::simulation::{Dice, Simulation, rest};
use crate::testing::after;
use agent_runtime::Key;
use agent_runtime::timestamp::{self, Micros};
use serde_json::{Value, json};

fn key(name: &str) -> Key {
    Key::new("a", name)
}

/// A time to live, or that there is none.
fn time_to_live(dice: &mut Dice) -> Value {
    match dice.roll(5) {
        0 => Value::Null,
        1 => json!(0),
        2 => json!(1000),
        _ => json!(100),
    }
}

/// When a Job has to go; none if it stays.
fn end(job: &Value) -> Option<Micros> {
    let seconds = job["spec"]["ttlSecondsAfterFinished"].as_i64()?;
    let finished = &job["status"]["conditions"][0];
    if finished["status"] != "True" {
        return None;
    }
    let at = finished["lastTransitionTime"].as_str()?;
    Some(timestamp::parse(at).unwrap() + timestamp::seconds(seconds))
}

/// Somebody looks at a Job, perhaps one who is cut off after so many writes. Whether there was anything to do, or will be.
fn look(cluster: &mut Simulation, name: &str, cut_off: Option<u64>, told: &str) -> bool {
    let end = end(&cluster.get("Job", name).unwrap());
    let busy = match cut_off {
        Some(writes) => {
            cluster.cut_off(&key(name), reconcile, writes);
            true
        }
        None => cluster.step(&key(name), reconcile),
    };
    let is_over = end.is_some_and(|end| end <= after(cluster.seconds).wall);
    let is_gone = cluster.get("Job", name).is_none();
    assert!(is_over || !is_gone, "{told}: {name} goes before its time");
    if cut_off.is_none() {
        assert_eq!(is_gone, is_over, "{told}: {name}");
    }
    busy
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice, turn: u64, told: &str) {
    let job = dice.pick(cluster.names("Job"));
    match (dice.roll(10), job) {
        (0 | 1, _) => {
            let seconds = time_to_live(dice);
            cluster.put(json!({
                "kind": "Job", "metadata": {"name": format!("j{turn}"), "namespace": "a", "uid": format!("u{turn}")},
                "spec": {"ttlSecondsAfterFinished": seconds},
            }));
        }
        (2, Some(job)) => {
            let spec = json!({"ttlSecondsAfterFinished": time_to_live(dice)});
            cluster.patch("Job", &job, &json!({"spec": spec}));
        }
        (3 | 4, Some(job)) => {
            let kind = if dice.roll(2) == 0 {
                "Complete"
            } else {
                "Failed"
            };
            let now = timestamp::time(after(cluster.seconds).wall);
            let condition = json!({"type": kind, "status": "True", "lastTransitionTime": now});
            cluster.patch("Job", &job, &json!({"status": {"conditions": [condition]}}));
        }
        (5, Some(job)) => cluster.remove("Job", &job),
        (6, Some(job)) => {
            look(cluster, &job, Some(dice.roll(2)), told);
        }
        (_, Some(job)) => {
            look(cluster, &job, None, told);
        }
        (_, None) => {}
    }
    cluster.seconds += dice.roll(40);
}

fn settle(cluster: &mut Simulation, told: &str) {
    rest(cluster, 100, told, |cluster| {
        let mut busy = false;
        for name in cluster.names("Job") {
            busy |= look(cluster, &name, None, told);
        }
        if busy {
            cluster.seconds += 50;
        }
        busy
    });
}

#[test]
fn jobs_go_after_their_time_and_not_before_whoever_leads() {
    for seed in 0..200 {
        let (mut cluster, mut dice) = (Simulation::new(""), Dice(seed));
        for turn in 0..80 {
            let told = format!("seed {seed}, turn {turn}");
            disturb(&mut cluster, &mut dice, turn, &told);
        }
        let told = format!("seed {seed}");
        settle(&mut cluster, &told);
        for job in cluster.all("Job") {
            assert_eq!(end(&job), None, "{told}: {job}");
        }
    }
}
