//! Whom events of the audit log are told, and by which policy, which may change while the server runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::policy::Level;
use super::{AuditPolicy, AuditSink, Auditing};

/// None where nothing is told.
pub(crate) struct Auditors(RwLock<Option<Arc<Auditor>>>);

#[derive(Clone)]
pub(crate) struct Auditor {
    pub(super) policy: Arc<AuditPolicy>,
    /// By the names that metrics have for them.
    sinks: Vec<(&'static str, Arc<dyn AuditSink>)>,
    /// Of all policies that there were.
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    events: AtomicU64,
    /// In the order of [`Level::ALL`].
    judged: [AtomicU64; Level::ALL.len()],
}

impl Auditors {
    pub(crate) fn new(auditing: Option<Auditing>) -> Auditors {
        let auditor = auditing.map(|auditing| {
            let sinks = auditing.sink.into_iter().map(|sink| ("log", sink));
            Arc::new(Auditor {
                policy: Arc::new(auditing.policy),
                sinks: sinks.collect(),
                counts: Arc::default(),
            })
        });
        Auditors(RwLock::new(auditor))
    }

    pub(crate) fn now(&self) -> Option<Arc<Auditor>> {
        let now = self.0.read().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }

    /// Requests that come from now on are judged by this policy.
    pub(crate) fn take_policy(&self, policy: AuditPolicy) {
        self.change(|auditor| auditor.policy = Arc::new(policy));
    }

    pub(crate) fn add(&self, name: &'static str, sink: Arc<dyn AuditSink>) {
        self.change(|auditor| auditor.sinks.push((name, sink)));
    }

    fn change(&self, change: impl FnOnce(&mut Auditor)) {
        let mut now = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(auditor) = now.as_mut() {
            change(Arc::make_mut(auditor));
        }
    }
}

impl Auditor {
    pub(super) fn tell(&self, line: Vec<u8>) {
        self.counts.events.fetch_add(1, Ordering::Relaxed);
        if let Some(((_, last), others)) = self.sinks.split_last() {
            for (_, sink) in others {
                sink.take(line.clone());
            }
            last.take(line);
        }
    }

    /// The policy has said how much is told of a request.
    pub(super) fn judged(&self, level: Level) {
        let counts = Level::ALL.iter().zip(&self.counts.judged);
        for (_, count) in counts.filter(|(one, _)| **one == level) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many requests were judged, by the names of the levels.
    pub(crate) fn levels(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = Level::ALL.iter().zip(&self.counts.judged);
        counts.map(|(level, count)| (level.name(), count.load(Ordering::Relaxed)))
    }

    /// How many events there were.
    pub(crate) fn events(&self) -> u64 {
        self.counts.events.load(Ordering::Relaxed)
    }

    /// How many events each of them has lost.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.sinks.iter().map(|(name, sink)| (*name, sink.lost()))
    }
}
