//! Sizes: how many replicas each set may have while the whole changes its size or its template.

use super::revisions::{DESIRED_REPLICAS, MAX_REPLICAS};
use super::{Rollout, replicas};
use crate::pod_control::reported;
use agent_runtime::kinds::ReplicaSet;
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::{DEPLOYMENTS, REPLICA_SETS};
use serde_json::json;
use std::sync::Arc;

impl Rollout<'_> {
    /// Bounds of a rolling update: surge rounds up, unavailable rounds down, and they cannot both be zero.
    fn bounds(&self) -> (i64, i64) {
        let strategy = &self.deployment.spec.strategy;
        if strategy.kind == "Recreate" {
            return (0, 0);
        }
        let update = strategy.rolling_update.clone().unwrap_or_default();
        let scaled = |bound: Option<agent_runtime::kinds::IntOrString>, up| {
            bound.map_or_else(
                || quarter(self.desired(), up),
                |b| b.scaled(self.desired(), up).unwrap_or(0),
            )
        };
        let surge = scaled(update.max_surge, true).max(0);
        let unavailable = scaled(update.max_unavailable, false).clamp(0, self.desired().max(0));
        if surge == 0 && unavailable == 0 {
            (0, 1.min(self.desired()))
        } else {
            (surge, unavailable)
        }
    }

    pub(super) fn max_surge(&self) -> i64 {
        self.bounds().0
    }

    pub(super) fn max_unavailable(&self) -> i64 {
        self.bounds().1
    }

    /// Whether the wanted size changed since the sets were last sized.
    pub(super) fn is_scaling(&self) -> bool {
        let annotated = |set: &ReplicaSet| {
            set.metadata
                .annotations
                .get(DESIRED_REPLICAS)
                .and_then(|t| t.parse::<i64>().ok())
        };
        self.all()
            .into_iter()
            .filter(|set| replicas(set) > 0)
            .any(|set| annotated(set).is_some_and(|desired| desired != self.desired()))
    }

    /// Spreads a changed size over the sets.
    pub(super) fn scale(&self) -> Vec<Op> {
        let all = self.all();
        let active: Vec<_> = all
            .iter()
            .copied()
            .filter(|set| replicas(set) > 0)
            .collect();
        if active.len() <= 1 {
            let only = active
                .first()
                .copied()
                .or(self.new.as_ref())
                .or(all.last().copied());
            return only
                .and_then(|set| self.scale_to(set, self.desired()))
                .into_iter()
                .collect();
        }
        if self.new.as_ref().is_some_and(|new| self.is_saturated(new)) {
            return self
                .old
                .iter()
                .filter(|set| replicas(set) > 0)
                .filter_map(|set| self.scale_to(set, 0))
                .collect();
        }
        if self.deployment.spec.strategy.kind == "Recreate" {
            Vec::new()
        } else {
            self.proportional(&active)
        }
    }

    fn is_saturated(&self, set: &ReplicaSet) -> bool {
        let annotated = set
            .metadata
            .annotations
            .get(DESIRED_REPLICAS)
            .and_then(|t| t.parse::<i64>().ok());
        replicas(set) == self.desired()
            && annotated == Some(self.desired())
            && i64::from(set.status.available_replicas) == self.desired()
    }

    /// In the middle of a rollout every set grows or shrinks in proportion, so that a bad new template gets no larger share.
    fn proportional(&self, active: &[&Arc<ReplicaSet>]) -> Vec<Op> {
        let total: i64 = active.iter().map(|set| replicas(set)).sum();
        let allowed = if self.desired() > 0 {
            self.desired() + self.max_surge()
        } else {
            0
        };
        let to_add = allowed - total;
        let mut sets: Vec<&Arc<ReplicaSet>> = active.to_vec();
        // The largest first; of equals the newest grows first and the oldest shrinks first.
        sets.sort_by(|a, b| {
            let age = a.metadata.created().cmp(&b.metadata.created());
            replicas(b)
                .cmp(&replicas(a))
                .then(if to_add > 0 { age.reverse() } else { age })
        });
        let mut sizes: Vec<i64> = Vec::with_capacity(sets.len());
        let mut added = 0;
        for set in &sets {
            let share = if to_add == 0 {
                0
            } else {
                self.share(set, to_add - added)
            };
            added += share;
            sizes.push(replicas(set) + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        sets.iter()
            .zip(sizes)
            .filter_map(|(set, size)| self.scale_to(set, size))
            .collect()
    }

    fn share(&self, set: &ReplicaSet, left: i64) -> i64 {
        let size = replicas(set);
        if size == 0 || left == 0 {
            return 0;
        }
        let share = if self.desired() == 0 {
            -size
        } else {
            let before = set
                .metadata
                .annotations
                .get(MAX_REPLICAS)
                .and_then(|t| t.parse().ok())
                .filter(|max| *max > 0)
                .unwrap_or_else(|| i64::from(self.deployment.status.replicas))
                .max(1);
            let scaled = size * (self.desired() + self.max_surge());
            // Rounded to the nearest.
            (2 * scaled + before).div_euclid(2 * before) - size
        };
        if left > 0 {
            share.min(left).max(0)
        } else {
            share.max(left).min(0)
        }
    }

    /// Sets the size (and the annotations that remember for which total it was meant); `None` when all is so already.
    pub(super) fn scale_to(&self, set: &ReplicaSet, size: i64) -> Option<Op> {
        let (desired, max) = (
            self.desired().to_string(),
            (self.desired() + self.max_surge()).to_string(),
        );
        let annotated =
            |key: &str, value: &String| set.metadata.annotations.get(key) == Some(value);
        let from = replicas(set);
        if from == size && annotated(DESIRED_REPLICAS, &desired) && annotated(MAX_REPLICAS, &max) {
            return None;
        }
        let body = json!({
            "metadata": {"uid": set.metadata.uid, "resourceVersion": set.metadata.resource_version, "annotations": {DESIRED_REPLICAS: desired, MAX_REPLICAS: max}},
            "spec": {"replicas": size},
        });
        let op = Op::merge(&REPLICA_SETS, &set.metadata, body);
        if from == size {
            return Some(op);
        }
        let direction = if size > from { "up" } else { "down" };
        let message = format!(
            "Scaled {direction} replica set {} from {from} to {size}",
            set.metadata.name
        );
        Some(reported(
            &DEPLOYMENTS,
            &self.deployment.metadata,
            op,
            ("ScalingReplicaSet", message),
            ("ScalingReplicaSetFailed", "Error scaling replica set: "),
        ))
    }
}

/// 25 %, the default of both bounds.
fn quarter(total: i64, round_up: bool) -> i64 {
    if round_up {
        (total * 25 + 99).div_euclid(100)
    } else {
        (total * 25).div_euclid(100)
    }
}
