//! Pods of groups: one decision for all of a group that wait, and what is told to them.

use super::refusals::Eviction;
use super::{Scheduler, WRITES_MAX};
use crate::binder::Placed;
use crate::gang::{self, Bound, Released, Relief, Verdict, place};
use crate::metrics::{self, Outcome};
use crate::object::Pod;
use crate::queue::Queued;
use crate::write;
use agent_runtime::{EventType, timestamp};
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// What a pod of a group is to be told.
pub(super) struct Report {
    pod: Arc<Pod>,
    message: String,
}

impl Scheduler {
    /// Decides about a pod and all of its group that wait with it.
    pub(super) async fn decide_gang(&mut self, key: gang::Key, first: Queued) {
        let mut waiting = self.world.queue.take_gang(&key);
        waiting.push(first);
        self.world.snapshot.effort.renew(waiting.len());
        let begun = Instant::now();
        for queued in &mut waiting {
            queued.begun = Some(begun);
        }
        match self.ask_for_all(&waiting).await {
            Ok(asked) => self.world.asked = asked,
            Err(error) => {
                for queued in waiting {
                    self.fail(queued, &error);
                }
                return;
            }
        }
        let pick = &mut |n| host::rng().random_range(0..n);
        let now = self.now();
        let kept = self.world.rooms_of(&waiting);
        let verdict = place(&mut self.world, &key, waiting, &mut self.start, pick);
        metrics::decided(begun.elapsed());
        self.world.asked.clear();
        match verdict {
            Verdict::Placed { bound, refused } => {
                self.bind_gang(key, bound);
                self.world.tell_of_rooms(kept, now);
                for (queued, diagnosis) in refused {
                    metrics::ended(&queued, Outcome::Unschedulable);
                    self.report(&queued.pod, diagnosis.message(None));
                    self.world.queue.park(queued, diagnosis.plugins, now);
                }
            }
            Verdict::Refused {
                waiting,
                message,
                plugins,
                relief,
                ..
            } => {
                metrics::preempted(match &relief {
                    Relief::Evict { victims, .. } => Some(victims.len()),
                    _ => None,
                });
                self.relieve(relief);
                self.world.tell_of_rooms(kept, now);
                for queued in waiting {
                    metrics::ended(&queued, Outcome::Unschedulable);
                    self.report(&queued.pod, message.clone());
                    self.world.queue.park(queued, plugins.clone(), now);
                }
            }
            Verdict::Incomplete(waiting) => {
                for queued in waiting {
                    self.world.queue.put_back(queued, now);
                }
            }
        }
    }

    /// Keeps the room that is made, and makes it.
    fn relieve(&mut self, relief: Relief) {
        let Relief::Evict { nodes, victims } = relief else {
            return;
        };
        for (pod, node) in nodes {
            self.world.snapshot.nominate(pod, &node);
        }
        let eviction = |(victim, pod): (Arc<Pod>, Arc<Pod>)| {
            let node = self.world.snapshot.node_of(&victim.uid).unwrap_or_default();
            let node = node.to_owned();
            Eviction { victim, pod, node }
        };
        let evictions = victims.into_iter().map(eviction).collect();
        self.evict(None, evictions);
    }

    /// Binds the volumes and devices of those that need it, and then all pods right after each other.
    fn bind_gang(&mut self, key: gang::Key, bound: Vec<Bound>) {
        let (ready, open): (Vec<Bound>, Vec<Bound>) =
            bound.into_iter().partition(|bound| bound.plan.is_empty());
        let ready: Vec<Placed> = ready.into_iter().map(|b| (b.queued, b.node)).collect();
        if open.is_empty() {
            return self.bind_together(ready);
        }
        let number = self.held.begin(key, ready, open.len());
        for Bound { queued, node, plan } in open {
            match self.world.config.profile(&queued.pod).cloned() {
                Some(profile) => self.pre_bind(queued, node, plan, &profile, Some(number)),
                None => self.finish_held(number, None),
            }
        }
    }

    /// Which pods of a batch are of use only if some of the others are bound with them.
    pub(super) fn together(&self, batch: &[Placed]) -> Vec<write::Together> {
        let mut sets: BTreeMap<gang::Key, Vec<usize>> = BTreeMap::new();
        for (at, (queued, _)) in batch.iter().enumerate() {
            if let Some(key) = self.world.queue.gang_of(&queued.pod) {
                sets.entry(key).or_default().push(at);
            }
        }
        let sets = sets.into_iter().map(|(key, items)| {
            let uids = items.iter().map(|at| &*batch[*at].0.pod.uid);
            let at_least = self.world.needed_of(&key, uids).min(items.len());
            write::Together { items, at_least }
        });
        sets.filter(|set| set.at_least > 1).collect()
    }

    fn bind_together(&mut self, placed: Vec<Placed>) {
        for (queued, node) in placed {
            self.bind_placed(queued, node);
        }
    }

    /// The volumes and devices of a pod of a group are bound, or will not be.
    pub(super) fn finish_held(&mut self, number: u64, ready: Option<Placed>) {
        match self.held.finish(number, ready) {
            Released::Nothing => {}
            // Some may have been deleted meanwhile.
            Released::Bind(key, placed) => match self.world.is_gang_placed(&key) {
                true => self.bind_together(placed),
                false => self.give_back(placed),
            },
            Released::GiveBack(placed) => self.give_back(placed),
        }
    }

    /// A pod of the group was not bound: if too few are left, those that were not sent yet are not sent. What is bound already
    /// stays, and counts when the others are tried again.
    pub(super) fn withdraw_gang(&mut self, key: &gang::Key) {
        if !self.world.is_gang_placed(key) {
            let placed = self.binder.withdraw(key);
            self.give_back(placed);
        }
    }

    fn give_back(&mut self, placed: Vec<Placed>) {
        let now = self.now();
        for (queued, _) in placed {
            self.unreserve(&queued.pod);
            self.world.binding_failed(queued, now);
        }
    }

    fn report(&mut self, pod: &Arc<Pod>, message: String) {
        tracing::debug!(
            namespace = pod.namespace,
            name = pod.name,
            message,
            "unschedulable"
        );
        let pod = pod.clone();
        self.reports.push_back(Report { pod, message });
    }

    /// Tells pods why they wait, as long as there is room for writes.
    pub(super) fn send_reports(&mut self) {
        for pod in self.world.queue.take_kept_out() {
            self.report(&pod, gang::INCOMPLETE.into());
        }
        while self.writes.len() < WRITES_MAX
            && let Some(Report { pod, message }) = self.reports.pop_front()
        {
            let outdated = message == gang::INCOMPLETE && !self.world.queue.is_kept_out(&pod);
            let Some(pod) = self.world.pod(&pod).filter(|_| !outdated).cloned() else {
                continue;
            };
            if self.world.snapshot.holds(&pod.uid) || pod.deleting || pod.finished {
                continue;
            }
            let now = timestamp::time(timestamp::now());
            let nominated = self.world.snapshot.nominated_node(&pod.uid);
            let nominated = nominated.unwrap_or_default();
            let Some(status) = write::refusal(&pod, "Unschedulable", &message, nominated, &now)
            else {
                continue;
            };
            self.tell(&pod, EventType::Warning, "FailedScheduling", &message);
            self.write_status(pod, status);
        }
    }
}
