//! Whatever happens to a Job and its pods, and wherever a reconcile breaks off: it ends, counted right.

use super::finalizer;
use super::indexes::completion_index;
use super::simulation::Simulation;
use agent_runtime::kinds::Pod;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Act {
    Finish(usize, i32),
    Delete(usize),
    EndDeleted,
    Wait(u64),
    Suspend(bool),
    Parallelism(i32),
    TakeOver,
    Interrupt(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0usize..8, prop_oneof![Just(0), Just(1), Just(42)]).prop_map(|(pod, code)| Act::Finish(pod, code)),
        1 => (0usize..8).prop_map(Act::Delete),
        2 => Just(Act::EndDeleted),
        2 => (1u64..700).prop_map(Act::Wait),
        1 => any::<bool>().prop_map(Act::Suspend),
        1 => (0i32..4).prop_map(Act::Parallelism),
        1 => Just(Act::TakeOver),
        3 => (0usize..5).prop_map(Act::Interrupt),
    ];
    prop::collection::vec(act, 0..30)
}

fn specs() -> impl Strategy<Value = String> {
    let limits = (
        0i32..4,
        prop::option::of(0i32..3),
        prop::option::of(0i32..3),
    );
    let policy = prop_oneof![
        Just(""),
        Just(", podReplacementPolicy: Failed"),
        Just(
            ", podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [42]}}]}"
        ),
        Just(
            ", podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}"
        ),
    ];
    let success = prop_oneof![
        Just(""),
        Just(", successPolicy: {rules: [{succeededIndexes: '1-2', succeededCount: 1}]}")
    ];
    (any::<bool>(), 1i32..4, 0i32..5, limits, policy, success).prop_map(
        |(indexed, parallelism, completions, (limit, per_index, max), policy, success)| {
            let mut spec = format!("parallelism: {parallelism}{policy}");
            if indexed {
                spec += &format!(", completions: {completions}, completionMode: Indexed{success}");
                match (per_index, max) {
                    (Some(per_index), max) => {
                        spec += &format!(
                            ", backoffLimit: 2147483647, backoffLimitPerIndex: {per_index}"
                        );
                        if let Some(max) = max {
                            spec += &format!(", maxFailedIndexes: {max}");
                        }
                    }
                    (None, _) => spec += &format!(", backoffLimit: {limit}"),
                }
            } else {
                spec += &format!(", backoffLimit: {limit}");
                if completions > 0 {
                    spec += &format!(", completions: {completions}");
                }
            }
            spec
        },
    )
}

fn act(job: &mut Simulation, act: &Act) {
    let nth = |job: &Simulation, at: usize| {
        let names: Vec<&String> = job.pods.keys().collect();
        (!names.is_empty()).then(|| names[at % names.len()].clone())
    };
    match *act {
        Act::Finish(at, code) => {
            if let Some(name) = nth(job, at) {
                job.finish(&name, code);
            }
        }
        Act::Delete(at) => {
            if let Some(name) = nth(job, at) {
                job.delete(&name);
            }
        }
        Act::EndDeleted => job.end_deleted(),
        Act::Wait(seconds) => job.seconds += seconds,
        Act::Suspend(suspend) => job.set("suspend", json!(suspend)),
        Act::Parallelism(parallelism) => job.set("parallelism", json!(parallelism)),
        Act::TakeOver => job.take_over(),
        Act::Interrupt(operations) => drop(job.interrupted(operations)),
    }
}

fn check(job: &Simulation) {
    let active: Vec<Pod> = job.pods().into_iter().filter(Pod::is_active).collect();
    let wanted = job.job["spec"]["parallelism"].as_u64().unwrap();
    // After the first success of a Job without a number all may end in peace.
    let in_peace = job.job["spec"]["completions"].is_null() && job.status().succeeded > 0;
    assert!(
        in_peace || active.len() as u64 <= wanted,
        "{} of {wanted}",
        active.len()
    );
    if job.job["spec"]["completionMode"] == "Indexed" {
        let indexes: BTreeSet<i64> = active.iter().filter_map(completion_index).collect();
        assert_eq!(indexes.len(), active.len(), "each index once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn whatever_happens_a_job_ends_counted_right(spec in specs(), acts in acts()) {
        let mut job = Simulation::new(&spec);
        let (mut succeeded, mut failed) = (0, 0);
        for next in &acts {
            act(&mut job, next);
            if !matches!(next, Act::Interrupt(_)) {
                job.settle();
                check(&job);
            }
            let status = job.status();
            prop_assert!(status.succeeded >= succeeded && status.failed >= failed);
            (succeeded, failed) = (status.succeeded, status.failed);
        }
        job.set("suspend", json!(false));
        job.set("parallelism", json!(2));
        for _ in 0..30 {
            job.settle();
            job.finish_all(0);
            job.seconds += 600;
        }
        job.settle();
        prop_assert!(job.finished(), "{:#?} {:#?}", job.job["status"], job.pods);
        prop_assert!(job.reconcile().is_empty());
        let status = job.status();
        prop_assert_eq!(status.uncounted_terminated_pods.unwrap_or_default(), Default::default());
        prop_assert!(job.pods().iter().all(|pod| !finalizer::is_tracked(pod)));
        if job.job["spec"]["completionMode"] != "Indexed" {
            prop_assert_eq!(usize::try_from(status.succeeded).unwrap(), job.successes, "each success once");
        }
        let ends = job.events.iter().filter(|event| event.starts_with("Completed: ") || event.contains("Exceeded: ") || event.starts_with("PodFailurePolicy: ") || event.starts_with("FailedIndexes: "));
        prop_assert!(ends.count() <= 1, "told once");
    }
}
