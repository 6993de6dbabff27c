//! Leader election by a Lease.
//!
//! The holder renews every `retry`; who fails to renew for `renew_deadline` stops its work before anybody else may
//! begin (`lease_duration` later than its last renewal, seen from everybody's own clock: clocks need not agree).
//!
//! A renewal counts from when it was sent. One without an answer may have been stored, or may be stored later, and the
//! next one then meets a newer version of our own making: who wins a conflict is read from the record, not guessed.

use crate::client::{Client, typed};
use crate::error::ApiError;
use crate::kinds::{Lease, LeaseSpec};
use crate::metrics;
use crate::resource_ref::LEASES;
use crate::timestamp::{self, Micros};
use serde_json::{Value, json};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Names and times of an election.
#[derive(Clone, Debug)]
pub struct ElectorConfig {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who we are; unique per process.
    pub identity: String,
    /// How long a lease holds without renewal.
    pub lease_duration: Duration,
    /// How long the leader goes on without a successful renewal.
    pub renew_deadline: Duration,
    /// Pause between attempts.
    pub retry: Duration,
    /// How long one attempt may take, so that a server that hangs leaves time for another try.
    pub attempt_max: Duration,
}

impl ElectorConfig {
    /// The times of Kubernetes: 15 s, 10 s, 2 s, and half of the renewal's time for one attempt.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
            attempt_max: Duration::from_secs(5),
        }
    }
}

/// See the module head.
pub struct Elector {
    client: Client,
    config: ElectorConfig,
    /// The holder's record as last seen, and when it changed by our clock.
    observed: Option<(LeaseSpec, Instant)>,
    /// The lease as our last write left it: while nobody else writes, a renewal needs no read.
    written: Option<Value>,
}

/// Conflicts in a row that one attempt follows up before it leaves the rest to the next.
const CONFLICTS_MAX: usize = 3;

/// What to do about the lease. Pure, so that the rules can be tested without a server.
#[derive(Debug, PartialEq)]
enum Attempt {
    /// It belongs to somebody who may still be alive.
    Wait,
    /// Write this specification.
    Take(Value),
}

impl Elector {
    /// An elector; nothing happens before [`Elector::run`].
    pub fn new(client: Client, config: ElectorConfig) -> Self {
        Self {
            client,
            config,
            observed: None,
            written: None,
        }
    }

    /// Competes until `stop`; whenever elected, runs `lead` with a token that is cancelled as soon as the leadership is
    /// lost or `stop` comes. The work is dropped if it has not ended by the time the lease may pass to another.
    pub async fn run<F, Fut>(mut self, stop: CancellationToken, lead: F)
    where
        F: Fn(CancellationToken) -> Fut,
        Fut: Future<Output = ()>,
    {
        metrics::competes(&self.config.name);
        while !stop.is_cancelled() {
            let since = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                since = self.acquire() => since,
            };
            tracing::info!(lease = %self.config.name, identity = %self.config.identity, "elected leader");
            let leading = stop.child_token();
            {
                let _shown = metrics::leads(&self.config.name);
                let work = lead(leading.clone());
                tokio::pin!(work);
                let ended = tokio::select! {
                    biased;
                    () = &mut work => true,
                    () = self.renew(since) => false,
                    () = stop.cancelled() => false,
                };
                leading.cancel();
                if ended {
                    // Work that ends by itself is begun again, but not in a tight loop.
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(self.config.retry) => {}
                    }
                } else {
                    let margin = self
                        .config
                        .lease_duration
                        .saturating_sub(self.config.renew_deadline)
                        / 2;
                    let _ = tokio::time::timeout(margin, &mut work).await;
                }
            }
            if stop.is_cancelled() {
                self.release().await;
            } else {
                tracing::warn!(lease = %self.config.name, "leadership lost");
            }
        }
    }

    /// Waits for the leadership; answers from when the lease counts.
    async fn acquire(&mut self) -> Instant {
        loop {
            let started = Instant::now();
            match self.attempt(started + self.config.attempt_max).await {
                Ok(true) => return started,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(lease = %self.config.name, error = %error.message, "the lease could not be taken")
                }
            }
            // Jitter keeps candidates from meeting in step.
            tokio::time::sleep(self.config.retry.mul_f64(1.0 + host::random::<f64>() * 0.2)).await;
        }
    }

    /// Renews the lease, which counts from `renewed`; returns when the leadership is lost.
    async fn renew(&mut self, mut renewed: Instant) {
        loop {
            let deadline = renewed + self.config.renew_deadline;
            tokio::time::sleep_until(deadline.min(Instant::now() + self.config.retry)).await;
            let started = Instant::now();
            match self
                .attempt(deadline.min(started + self.config.attempt_max))
                .await
            {
                // The lease counts from when the renewal was sent, not from when the answer came.
                Ok(true) => renewed = started,
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(lease = %self.config.name, error = %error.message, "the lease could not be renewed");
                    if Instant::now() >= deadline {
                        return;
                    }
                }
            }
        }
    }

    /// One attempt, bounded in time. Without an answer nobody knows whether it succeeded; the next one reads it.
    async fn attempt(&mut self, until: Instant) -> Result<bool, ApiError> {
        tokio::time::timeout_at(until, self.try_hold())
            .await
            .unwrap_or_else(|_| Err(ApiError::transport("no answer in time")))
    }

    /// Whether the lease is ours now.
    async fn try_hold(&mut self) -> Result<bool, ApiError> {
        let mut conflict = ApiError::default();
        for _ in 0..CONFLICTS_MAX {
            // Taken out before the write: after one without an answer the record is read again.
            let known = self.written.take();
            match self.try_once(known).await {
                // A rival was faster, or an earlier write of our own: the record tells which.
                Err(error) if overtaken(&error) => conflict = error,
                other => return other,
            }
        }
        Err(conflict)
    }

    async fn try_once(&mut self, known: Option<Value>) -> Result<bool, ApiError> {
        let ElectorConfig {
            namespace, name, ..
        } = &self.config;
        let now = timestamp::now();
        let live = match known {
            Some(lease) => lease,
            None => match self.client.get(&LEASES, namespace, name).await {
                Ok(lease) => lease,
                Err(error) if error.is_not_found() => {
                    let spec = fresh_spec(&self.config, now, 0);
                    let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name, "namespace": namespace}, "spec": spec});
                    self.written = Some(self.client.create(&LEASES, namespace, &body).await?);
                    return Ok(true);
                }
                Err(error) => return Err(error),
            },
        };
        let found: Lease = typed(live.clone())?;
        let since = observe(&mut self.observed, &found.spec);
        match attempt(&self.config, &found.spec, since, now) {
            Attempt::Wait => Ok(false),
            Attempt::Take(spec) => {
                let body = with_spec(live, spec);
                self.written = Some(self.client.update(&LEASES, namespace, name, &body).await?);
                Ok(true)
            }
        }
    }

    async fn release(&mut self) {
        let ElectorConfig {
            namespace,
            name,
            identity,
            ..
        } = &self.config;
        let released = async {
            let live = self.client.get(&LEASES, namespace, name).await?;
            let lease: Lease = typed(live.clone())?;
            if lease.spec.holder_identity.as_deref() != Some(identity) {
                return Ok(());
            }
            let released = json!({"holderIdentity": "", "leaseDurationSeconds": 1});
            let body = with_spec(live, released);
            self.client
                .update(&LEASES, namespace, name, &body)
                .await
                .map(drop)
        };
        if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), released).await {
            tracing::debug!(lease = %name, error = %error.message, "the lease could not be released");
        }
    }
}

/// For how long the record has not changed, by our clock.
fn observe(observed: &mut Option<(LeaseSpec, Instant)>, spec: &LeaseSpec) -> Duration {
    match observed {
        Some((seen, at)) if seen == spec => at.elapsed(),
        _ => {
            *observed = Some((spec.clone(), Instant::now()));
            Duration::ZERO
        }
    }
}

/// Whether the record has changed since it was read (or was made, or was deleted).
fn overtaken(error: &ApiError) -> bool {
    error.is_conflict() || error.is_already_exists() || error.is_not_found()
}

/// The lease with these fields of its spec set. An update and not a patch: that is what the bootstrap roles allow on
/// a component's own lease. The resourceVersion in it makes it conditional.
fn with_spec(mut lease: Value, spec: Value) -> Value {
    match (lease["spec"].as_object_mut(), spec) {
        (Some(target), Value::Object(fields)) => target.extend(fields),
        // A lease that somebody made without a spec.
        (_, spec) => lease["spec"] = spec,
    }
    lease
}

fn attempt(
    config: &ElectorConfig,
    spec: &LeaseSpec,
    unchanged_for: Duration,
    now: Micros,
) -> Attempt {
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder == config.identity {
        return Attempt::Take(
            json!({"renewTime": timestamp::micro_time(now), "leaseDurationSeconds": config.lease_duration.as_secs()}),
        );
    }
    let duration = Duration::from_secs(
        spec.lease_duration_seconds
            .and_then(|s| u64::try_from(s).ok())
            .unwrap_or(0),
    )
    .max(Duration::from_secs(1));
    if !holder.is_empty() && unchanged_for < duration {
        return Attempt::Wait;
    }
    Attempt::Take(fresh_spec(
        config,
        now,
        spec.lease_transitions.unwrap_or(0).saturating_add(1),
    ))
}

fn fresh_spec(config: &ElectorConfig, now: Micros, transitions: i32) -> Value {
    let time = timestamp::micro_time(now);
    json!({
        "holderIdentity": config.identity, "leaseDurationSeconds": config.lease_duration.as_secs(),
        "acquireTime": time, "renewTime": time, "leaseTransitions": transitions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_from_the_silent() {
        let config = ElectorConfig::new("kube-system", "x", "me");
        let held = LeaseSpec {
            holder_identity: Some("you".into()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        assert_eq!(
            attempt(&config, &held, Duration::from_secs(14), 0),
            Attempt::Wait
        );
        assert!(
            matches!(attempt(&config, &held, Duration::from_secs(15), 0), Attempt::Take(spec) if spec["leaseTransitions"] == 4 && spec["holderIdentity"] == "me")
        );
        let released = LeaseSpec {
            holder_identity: Some(String::new()),
            ..held.clone()
        };
        assert!(matches!(
            attempt(&config, &released, Duration::ZERO, 0),
            Attempt::Take(_)
        ));
        let mine = LeaseSpec {
            holder_identity: Some("me".into()),
            ..held
        };
        assert!(
            matches!(attempt(&config, &mine, Duration::ZERO, 0), Attempt::Take(spec) if spec.get("acquireTime").is_none())
        );
    }

    #[test]
    fn a_lease_without_a_spec_gets_one() {
        let spec = json!({"holderIdentity": "me"});
        for bare in [
            json!({"metadata": {}}),
            json!({"spec": null}),
            json!({"spec": {}}),
        ] {
            assert_eq!(with_spec(bare, spec.clone())["spec"], spec);
        }
        let kept = with_spec(json!({"spec": {"acquireTime": "t"}}), spec);
        assert_eq!(
            kept["spec"],
            json!({"acquireTime": "t", "holderIdentity": "me"})
        );
    }
}
