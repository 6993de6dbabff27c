//! A simulated pod as it is at some time: what is observed of it, what its probes say, and what comes next.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use super::{Life, Place};
use crate::hollow::health;
use crate::pod::backoff::Backoffs;
use crate::pod::plan::{self, Facts, Observation};
use crate::pod::probe::Results;
use crate::spec::Pod;

/// A pod as it is at some time of a step, so that nobody has to look twice while nothing changes.
#[derive(PartialEq)]
pub(super) struct View {
    pub(super) observed: Observation,
    /// What the probes say by container id, and when they say something else.
    pub(super) probes: BTreeMap<String, Results>,
    pub(super) probed_at: Option<OffsetDateTime>,
    pub(super) plan: plan::Plan,
}

impl Life {
    /// What is to be seen of the pod now, and what comes next where it lives.
    pub(super) fn view(
        &self,
        pod: &Pod,
        place: &Place<'_>,
        lives: bool,
        now: OffsetDateTime,
    ) -> View {
        let observed = self.observation(pod, place.node_name, now);
        let (probes, probed_at) = self.probes(pod, &observed, place, now);
        let none = Backoffs::default();
        let backoffs = self.trouble.as_deref();
        let backoffs = backoffs.map_or(&none, |trouble| &trouble.backoffs);
        let plan = match lives {
            true => plan::plan(&Facts {
                pod,
                observed: &observed,
                backoffs,
                probes: &probes,
                holds: &BTreeMap::new(),
                now,
            }),
            false => plan::Plan::default(),
        };
        View {
            observed,
            probes,
            probed_at,
            plan,
        }
    }

    /// What the probes say by container id, and when they say something else.
    fn probes(
        &self,
        pod: &Pod,
        observed: &Observation,
        place: &Place<'_>,
        now: OffsetDateTime,
    ) -> (BTreeMap<String, Results>, Option<OffsetDateTime>) {
        let mut next = None;
        let mut results = BTreeMap::new();
        for run in self.running(now) {
            let (result, at) = health::results(pod, run, place.pace(), now);
            next = next.into_iter().chain(at).min();
            let seen = observed.containers.get(&*run.of.container);
            let mut seen = seen.into_iter().flatten();
            let seen = seen.find(|one| one.identity.attempt == run.attempt);
            results.extend(seen.map(|one| (one.id.clone(), result)));
        }
        (results, next)
    }
}
