//! Before a pod is bound whose devices have to be made ready, their drivers have their time: until they have said in the
//! status of the claims that the devices are, or cannot be.
//!
//! How far they are is a pure question about the claims as they are now; the waiting around it is bounded.

use crate::devices::ClaimPlan;
use crate::devices::claim::DeviceClaim;
use crate::devices::readiness::Readiness;
use crate::feed::Feed;
use crate::object::Pod;
use agent_runtime::timestamp::{self, Micros};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The claims are looked at this often while nothing changes about them: what they say themselves may be too long ago.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why the pod cannot have its devices.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct NotReady {
    /// In the words of the event.
    pub(crate) words: String,
    /// The claims whose devices were not ready in time.
    pub(crate) given_up: Vec<Arc<DeviceClaim>>,
}

impl From<String> for NotReady {
    fn from(words: String) -> NotReady {
        NotReady {
            words,
            given_up: Vec::new(),
        }
    }
}

/// Whether there is anything to wait for once the plan is written.
pub(crate) fn has_to_wait(plan: &ClaimPlan) -> bool {
    plan.steps.iter().any(|step| match &step.gets {
        Some((_, allocation)) => allocation.waits(),
        None => step.claim.allocation.as_ref().is_some_and(|a| a.waits()),
    })
}

/// Waits until the devices are ready, no longer than the timeout, which also runs since they were allocated. `written`: the
/// claims of the pod, as they were written for it.
pub(crate) async fn wait_for_devices(
    feed: &Feed,
    pod: &Pod,
    written: &[Arc<DeviceClaim>],
    timeout: Duration,
) -> Result<(), NotReady> {
    let waits = |claim: &Arc<DeviceClaim>| claim.allocation.as_ref().is_some_and(|a| a.waits());
    let written: Vec<Arc<DeviceClaim>> = written.iter().filter(|c| waits(c)).cloned().collect();
    if written.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + timeout;
    let mut version = feed.device_claims.version();
    loop {
        version.borrow_and_update();
        let there = feed.pods.get(&pod.namespace, &pod.name);
        if !there.is_some_and(|now| now.value.uid == pod.uid && !now.value.deleting) {
            return Err("pod does not exist any more".to_owned().into());
        }
        let found = |claim: &DeviceClaim| {
            let seen = feed.device_claims.get(&claim.namespace, &claim.name)?;
            Some(seen.value.clone())
        };
        let now = as_they_are(&written, found)?;
        if are_ready(&now, timeout, timestamp::now())? {
            return Ok(());
        }
        tokio::select! {
            biased;
            // First, so that changes that never end do not keep it from being looked at.
            () = tokio::time::sleep_until(deadline) => {
                return Err(too_late("device binding timeout".into(), &now));
            }
            _ = version.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// The claims as the watch shows them, or as they were written where it lags behind; an error when they have not got any more
/// what they had.
fn as_they_are(
    written: &[Arc<DeviceClaim>],
    found: impl Fn(&DeviceClaim) -> Option<Arc<DeviceClaim>>,
) -> Result<Vec<Arc<DeviceClaim>>, NotReady> {
    let revision = |claim: &DeviceClaim| claim.resource_version.parse().unwrap_or(0u64);
    let now = written
        .iter()
        .map(|claim| -> Result<Arc<DeviceClaim>, NotReady> {
            let name = claim.full_name();
            let Some(now) = found(claim) else {
                return Err(format!("could not find ResourceClaim {name:?}").into());
            };
            if revision(&now) < revision(claim) {
                return Ok(claim.clone());
            }
            match now.uid == claim.uid && now.allocation == claim.allocation {
                true => Ok(now),
                false => Err(format!("claim {name} got deallocated in the meantime").into()),
            }
        });
    now.collect()
}

/// Whether the devices of all claims are ready; an error when those of one cannot be made so, or have had their time.
fn are_ready(
    claims: &[Arc<DeviceClaim>],
    timeout: Duration,
    now: Micros,
) -> Result<bool, NotReady> {
    let mut all = true;
    for claim in claims {
        match &claim.readiness {
            Readiness::Ready => {}
            Readiness::Failed(words) => return Err(words.clone().into()),
            Readiness::Waiting if is_overdue(claim, timeout, now) => {
                let words = format!("claim {} binding timeout", claim.name);
                return Err(too_late(words, std::slice::from_ref(claim)));
            }
            Readiness::Waiting => all = false,
        }
    }
    Ok(all)
}

fn is_overdue(claim: &DeviceClaim, timeout: Duration, now: Micros) -> bool {
    let timeout = i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX);
    let since = claim.allocated_at;
    since.is_some_and(|since| since.saturating_add(timeout) < now)
}

fn too_late(words: String, claims: &[Arc<DeviceClaim>]) -> NotReady {
    let waiting = claims.iter().filter(|c| c.readiness == Readiness::Waiting);
    NotReady {
        words,
        given_up: waiting.cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::{allocated, conditional};
    use serde_json::{Value, json};

    const TIMEOUT: Duration = Duration::from_secs(600);

    fn claim(name: &str, told: &[(&str, &str)]) -> Value {
        let mut claim = conditional(allocated(name, "n", "a", &["p"]), told);
        claim["status"]["allocation"]["allocationTimestamp"] = json!("2026-01-01T00:00:00Z");
        claim
    }

    fn compiled(claim: &Value) -> Arc<DeviceClaim> {
        Arc::new(DeviceClaim::compile(claim))
    }

    fn after(seconds: i64) -> Micros {
        timestamp::parse("2026-01-01T00:00:00Z").unwrap() + timestamp::seconds(seconds)
    }

    #[test]
    fn a_pod_has_its_devices_when_all_of_them_are_ready() {
        let ready = compiled(&claim("c", &[("attached", "True")]));
        let waiting = compiled(&claim("d", &[]));
        let ask = |claims: &[Arc<DeviceClaim>]| are_ready(claims, TIMEOUT, after(600));
        assert_eq!(ask(&[]), Ok(true));
        assert_eq!(ask(std::slice::from_ref(&ready)), Ok(true));
        assert_eq!(ask(&[ready, waiting]), Ok(false));
    }

    #[test]
    fn a_failure_ends_the_waiting_and_so_does_the_time() {
        let failed = compiled(&claim("c", &[("lost", "True")]));
        let error = are_ready(&[failed], TIMEOUT, after(1)).unwrap_err();
        assert_eq!(
            error.words,
            "claim c binding failed: reason=R, message=\"m\""
        );
        assert!(error.given_up.is_empty());
        let waiting = compiled(&claim("d", &[]));
        let late = are_ready(std::slice::from_ref(&waiting), TIMEOUT, after(601)).unwrap_err();
        assert_eq!(late.words, "claim d binding timeout");
        assert_eq!(late.given_up, [waiting]);
    }

    #[test]
    fn what_the_watch_shows_late_is_no_news_and_what_is_lost_is_told() {
        let mut object = claim("c", &[]);
        object["metadata"]["resourceVersion"] = json!("5");
        let written = compiled(&object);
        let looked = |shown: Option<&Value>| {
            let shown = shown.map(compiled);
            as_they_are(std::slice::from_ref(&written), |_| shown.clone())
        };
        let mut before = object.clone();
        before["metadata"]["resourceVersion"] = json!("4");
        before["status"] = json!({});
        assert_eq!(
            looked(Some(&before)).unwrap(),
            std::slice::from_ref(&written)
        );
        let mut after = claim("c", &[("attached", "True")]);
        after["metadata"]["resourceVersion"] = json!("6");
        let now = looked(Some(&after)).unwrap();
        assert_eq!(now[0].readiness, Readiness::Ready);
        after["status"] = json!({});
        assert_eq!(
            looked(Some(&after)).unwrap_err().words,
            "claim default/c got deallocated in the meantime"
        );
        assert_eq!(
            looked(None).unwrap_err().words,
            "could not find ResourceClaim \"default/c\""
        );
    }
}
