//! Whatever happens in whatever order.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Bind(usize, usize, usize),
    Advance(u64),
    Delete(usize, i64),
    Force(usize),
    Tell(usize),
    Restart,
    Slow(u32),
}

const KINDS: [&str; 10] = [
    "",
    "unready",
    "crashing",
    "flaky",
    "stubborn",
    "ending",
    "slow",
    "sick",
    "blinking",
    "stillborn",
];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..KINDS.len(), 0..3_usize, 0..5_usize).prop_map(|(stage, policy, form)| Op::Bind(stage, policy, form)),
        4 => (0..40_000_u64).prop_map(Op::Advance),
        2 => (0..8_usize, 0..30_i64).prop_map(|(pod, grace)| Op::Delete(pod, grace)),
        1 => (0..8_usize).prop_map(Op::Force),
        1 => (0..8_usize).prop_map(Op::Tell),
        1 => Just(Op::Restart),
        1 => (1..20_u32).prop_map(Op::Slow),
    ]
}

fn spec(policy: usize, form: usize) -> Value {
    let policy = ["Always", "OnFailure", "Never"][policy];
    let mut spec = match form {
        0 => one(policy, &[]),
        1 => one(policy, &["sh", "-c", "sleep 3; exit 1"]),
        2 => one(policy, &["sleep", "7"]),
        3 => probed(policy),
        _ => {
            json!({"restartPolicy": policy, "initContainers": [{"name": "i", "image": "x"}, {"name": "s", "image": "x", "restartPolicy": "Always"}],
                    "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x", "command": ["sleep", "2"]}]})
        }
    };
    spec["terminationGracePeriodSeconds"] = 30.into();
    spec
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Phases and restarts only go forwards and addresses are unique after every step (see `patch` and `check`); in the end
    /// what is deleted is gone, and what is left has nothing more to say.
    #[test]
    fn any_interleaving_converges(ops in prop::collection::vec(op(), 1..40)) {
        let mut sim = Sim::new();
        for op in ops {
            match op {
                Op::Bind(stage, policy, form) => {
                    sim.bind(KINDS[stage], spec(policy, form));
                }
                Op::Advance(millis) => sim.advance(Duration::from_millis(millis)),
                Op::Delete(pod, grace) if pod < sim.pods.len() => sim.delete(pod, grace),
                Op::Force(pod) if pod < sim.pods.len() => {
                    sim.pods[pod].object = None;
                    sim.tell(pod);
                }
                Op::Tell(pod) if pod < sim.pods.len() => sim.tell(pod),
                Op::Restart => sim.restart(),
                Op::Slow(factor) => sim.slow = factor,
                _ => {}
            }
            sim.check();
        }
        for pod in 0..sim.pods.len() {
            if pod % 2 == 0 {
                sim.delete(pod, 10);
            }
        }
        sim.advance(secs(3600));
        for pod in 0..sim.pods.len() {
            if pod % 2 == 0 {
                prop_assert!(sim.pods[pod].object.is_none());
                continue;
            }
            let before = sim.writes;
            if sim.pods[pod].object.is_some() {
                sim.step(pod, Event::Look);
                prop_assert_ne!(sim.status(pod)["phase"].as_str(), Some("Pending"));
            }
            prop_assert_eq!(sim.writes, before);
        }
        sim.check();
    }
}
