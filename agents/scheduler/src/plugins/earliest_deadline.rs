//! EarliestDeadline: the pod whose deadline is next, also one whose deadline is past; pods without one come last, and among
//! equals priority and time decide.

use super::{SYSTEM_CRITICAL, Sort};
use crate::object::Pod;

pub(super) const SORT: Sort = Sort {
    name: "EarliestDeadline",
    rank,
    by_share: false,
};

fn rank(pod: &Pod) -> i64 {
    match pod.priority >= SYSTEM_CRITICAL {
        true => i64::MIN,
        false => pod.deadline.micros().unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::queue::Queue;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn pod(uid: usize, deadline: Option<i64>, priority: i32) -> Arc<Pod> {
        let mut pod = Pod {
            uid: format!("{uid:03}"),
            deadline: deadline.into(),
            priority,
            ..Pod::default()
        };
        pod.scheduler_name = "default-scheduler".into();
        Arc::new(pod)
    }

    fn queue() -> Queue {
        let config = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- plugins:\n    \
            queueSort: {disabled: [{name: PrioritySort}], enabled: [{name: EarliestDeadline}]}\n";
        Queue::new(Arc::new(Config::parse(config).unwrap()))
    }

    proptest! {
        #[test]
        fn pods_come_in_the_order_of_their_deadlines_then_of_priority_then_of_time(
            pods in prop::collection::vec((prop::option::of(-5_i64..5), 0..3), 1..40)
        ) {
            let mut queue = queue();
            for (at, (deadline, priority)) in pods.iter().enumerate() {
                queue.set(pod(at, *deadline, *priority), at as u64);
            }
            let mut expected: Vec<usize> = (0..pods.len()).collect();
            expected.sort_by_key(|at| {
                let (deadline, priority) = pods[*at];
                (deadline.is_none(), deadline, std::cmp::Reverse(priority), *at)
            });
            let popped = std::iter::from_fn(|| queue.pop(1_000));
            let popped: Vec<usize> = popped.map(|queued| queued.pod.uid.parse().unwrap()).collect();
            prop_assert_eq!(popped, expected);
        }
    }

    #[test]
    fn what_the_cluster_cannot_do_without_does_not_wait_for_deadlines() {
        let mut queue = queue();
        queue.set(pod(0, Some(-1_000), 0), 0);
        queue.set(pod(1, None, SYSTEM_CRITICAL), 1);
        assert_eq!(queue.pop(2).unwrap().pod.uid, "001");
    }
}
