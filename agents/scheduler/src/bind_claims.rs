//! Before a pod with claims on devices is bound, its claims are: those that get devices are told which, and all of them who
//! uses them.
//!
//! A claim is read right before it is written, and written only as it was read: what has happened since the decision is found
//! out, and who came in between is not overwritten. What to write next is a pure question about the claim as it is.

use crate::bind_special::bind_special;
use crate::devices::claim::DeviceClaim;
use crate::devices::extended::UNMADE;
use crate::devices::{ClaimPlan, ClaimStep};
use crate::feed::Feed;
use crate::object::{Pod, text};
use crate::resources::items;
use crate::write::bounded;
use agent_runtime::resource_ref::RESOURCE_CLAIMS;
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::{ApiError, Client, PatchType};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedMutexGuard, Semaphore};

/// Keeps a claim that has devices from being deleted before they are given back.
pub(crate) const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// When others write to a claim all the time, the pod is tried again later.
pub(crate) const ATTEMPTS: usize = 5;

/// What has to be written next.
#[derive(Debug, PartialEq)]
enum Next {
    /// The claim, with the finalizer; and then there is more.
    Finalizer(Value),
    /// Its status.
    Status(Value),
    /// It is all there.
    Nothing,
}

/// Writes the plan. The error is in the words of the event; `written` has what was written all the same.
pub(crate) async fn bind_claims(
    client: &Client,
    feed: &Feed,
    writers: &Semaphore,
    turns: &Turns,
    pod: &Pod,
    plan: &ClaimPlan,
    written: &mut Vec<Arc<DeviceClaim>>,
) -> Result<(), String> {
    let known = plan.steps.iter();
    for step in known.filter(|step| step.claim.name != UNMADE) {
        let uid = &step.claim.uid;
        let turn = turns.wait(uid).await;
        // Taken in turn, so that those who wait for one claim do not keep others from writing.
        let Ok(permit) = writers.acquire().await else {
            return Err("the scheduler stops".into());
        };
        let bound = bind_claim(client, pod, step).await;
        drop((permit, turn));
        turns.leave(uid);
        written.push(Arc::new(DeviceClaim::compile(&bound?)));
    }
    written.extend(bind_special(client, feed, writers, pod, plan).await?);
    Ok(())
}

/// Who writes to which claim: one after the other, where many pods share one, or each write would make the others read anew.
#[derive(Default)]
pub(crate) struct Turns(Mutex<ByClaim>);

/// By uid.
type ByClaim = BTreeMap<String, Arc<tokio::sync::Mutex<()>>>;

impl Turns {
    fn all(&self) -> MutexGuard<'_, ByClaim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for those who write to the claim and have come before.
    async fn wait(&self, uid: &str) -> OwnedMutexGuard<()> {
        let turn = self.all().entry(uid.to_owned()).or_default().clone();
        turn.lock_owned().await
    }

    /// Forgets the claim when nobody waits for it.
    fn leave(&self, uid: &str) {
        let mut all = self.all();
        if all
            .get(uid)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            all.remove(uid);
        }
    }
}

/// Gives a claim what it gets, and the pod as user. Gives back how it is then.
pub(crate) async fn bind_claim(
    client: &Client,
    pod: &Pod,
    step: &ClaimStep,
) -> Result<Value, String> {
    let DeviceClaim {
        namespace, name, ..
    } = &*step.claim;
    let resource = &RESOURCE_CLAIMS;
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let found = bounded(client.get(resource, namespace, name)).await;
        let mut found =
            found.map_err(|error| format!("get claim {namespace}/{name}: {}", error.message))?;
        let mut todo = next(&found, pod, step, timestamp::now())?;
        if let Next::Finalizer(body) = &todo {
            let update = client.update(resource, namespace, name, body);
            match bounded(update).await {
                Ok(updated) => found = updated,
                Err(error) => {
                    last = format!(
                        "add finalizer to claim {namespace}/{name}: {}",
                        error.message
                    );
                    again(&error, &last)?;
                    continue;
                }
            }
            todo = next(&found, pod, step, timestamp::now())?;
        }
        let Next::Status(body) = todo else {
            return Ok(found);
        };
        let update = client.update_status(resource, namespace, name, &body);
        match bounded(update).await {
            Ok(updated) => return Ok(updated),
            Err(error) => {
                let what = match step.gets {
                    Some(_) => "add allocation and reservation to claim",
                    None => "add reservation to claim",
                };
                last = format!("{what} {namespace}/{name}: {}", error.message);
                again(&error, &last)?;
            }
        }
    }
    Err(last)
}

/// Whether it is worth to look again at what was written in between.
fn again(error: &ApiError, words: &str) -> Result<(), String> {
    match error.is_conflict() {
        true => Ok(()),
        false => Err(words.to_owned()),
    }
}

/// What is to be done with the claim as it is; an error when the pod cannot have it any more.
fn next(found: &Value, pod: &Pod, step: &ClaimStep, moment: Micros) -> Result<Next, String> {
    let now = DeviceClaim::compile(found);
    let name = step.claim.full_name();
    if now.uid != step.claim.uid {
        return Err(format!("claim {name} was made anew in the meantime"));
    }
    if now.deleting {
        return Err(format!("claim {name} got deleted in the meantime"));
    }
    let mut body = found.clone();
    match (&step.gets, &now.allocation) {
        (Some((_, gets)), Some(has)) => {
            // A write of ours whose answer was lost, or of a pod of the same group that was faster.
            if gets != has {
                return Err(format!(
                    "claim {name} got allocated elsewhere in the meantime"
                ));
            }
        }
        (Some((gets, _)), None) => {
            let finalizers = found.pointer("/metadata/finalizers");
            let finalizers = finalizers.and_then(Value::as_array);
            let mut finalizers = finalizers.cloned().unwrap_or_default();
            if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
                finalizers.push(FINALIZER.into());
                body["metadata"]["finalizers"] = finalizers.into();
                return Ok(Next::Finalizer(body));
            }
            body["status"]["allocation"] = gets.clone();
            body["status"]["allocation"]["allocationTimestamp"] = timestamp::time(moment).into();
        }
        (None, None) => {
            return Err(format!("claim {name} got deallocated in the meantime"));
        }
        (None, Some(has)) => {
            if step.claim.allocation.as_ref() != Some(has) {
                return Err(format!(
                    "claim {name} got allocated elsewhere in the meantime"
                ));
            }
        }
    }
    if now.is_reserved_for(&pod.uid) {
        return Ok(Next::Nothing);
    }
    let status = found.get("status").unwrap_or(&Value::Null);
    let mut users: Vec<Value> = items(status, "reservedFor").cloned().collect();
    users.push(json!({"resource": "pods", "name": pod.name, "uid": pod.uid}));
    body["status"]["reservedFor"] = users.into();
    Ok(Next::Status(body))
}

/// The pod does not use the claims after all: they are told again if it finds a node. Gives them back as they are then.
pub(crate) async fn unreserve(
    client: &Client,
    pod: &Pod,
    claims: Vec<Arc<DeviceClaim>>,
) -> Vec<Arc<DeviceClaim>> {
    let mut now = Vec::with_capacity(claims.len());
    for claim in claims {
        let written = unreserve_one(client, pod, &claim).await;
        now.push(written.unwrap_or(claim));
    }
    now
}

async fn unreserve_one(
    client: &Client,
    pod: &Pod,
    claim: &DeviceClaim,
) -> Option<Arc<DeviceClaim>> {
    let body = json!({
        "metadata": {"uid": claim.uid},
        "status": {"reservedFor": [{"$patch": "delete", "uid": pod.uid}]},
    });
    let (namespace, name) = (&claim.namespace, &claim.name);
    let kind = PatchType::Strategic;
    let resource = &RESOURCE_CLAIMS;
    let patch = client.patch_status(resource, namespace, name, kind, &body);
    match bounded(patch).await {
        Ok(written) => Some(Arc::new(DeviceClaim::compile(&written))),
        Err(error) => {
            if !error.is_not_found() {
                tracing::warn!(namespace, name, %error, "a claim could not be told that a pod does not use it");
            }
            None
        }
    }
}

/// A claim that nobody uses gives its devices back, unless somebody has come to use it.
pub(crate) async fn deallocate(client: &Client, pod: &Pod, claim: &DeviceClaim) {
    let (namespace, name) = (&claim.namespace, &claim.name);
    let resource = &RESOURCE_CLAIMS;
    let found = bounded(client.get(resource, namespace, name)).await;
    let written = match found {
        Ok(found) => match without_devices(&found, pod, claim) {
            Some(body) => {
                let update = client.update_status(resource, namespace, name, &body);
                bounded(update).await.map(drop)
            }
            None => Ok(()),
        },
        Err(error) => Err(error),
    };
    if let Err(error) = written
        && !error.is_not_found()
    {
        tracing::warn!(namespace, name, %error, "a claim could not be made to give back its devices");
    }
}

fn without_devices(found: &Value, pod: &Pod, claim: &DeviceClaim) -> Option<Value> {
    let now = DeviceClaim::compile(found);
    let same = now.uid == claim.uid && now.allocation == claim.allocation;
    if !same || !now.is_idle_but_for(&pod.uid) || text(found, "/metadata/name").is_empty() {
        return None;
    }
    let mut body = found.clone();
    let status = body.get_mut("status")?.as_object_mut()?;
    for field in ["allocation", "reservedFor", "devices"] {
        status.remove(field);
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::claim::Allocation;
    use crate::devices::testing::{allocated, claim, using};
    use crate::plugins::testing::pod;

    fn step(claim: &Value, gets: Option<&str>) -> ClaimStep {
        let gets = gets.map(|device| {
            let json = allocated("c", "n", device, &[])["status"]["allocation"].clone();
            let allocation = Allocation::compile(&json);
            (json, allocation)
        });
        ClaimStep {
            claim: Arc::new(DeviceClaim::compile(claim)),
            gets,
        }
    }

    fn protected(mut claim: Value) -> Value {
        claim["metadata"]["finalizers"] = json!([FINALIZER]);
        claim
    }

    fn ask(found: &Value, step: &ClaimStep) -> Result<Next, String> {
        next(found, &pod(using(&["c"])), step, 0)
    }

    #[tokio::test]
    async fn pods_write_to_a_claim_in_turn_and_nothing_is_kept_of_it_afterwards() {
        let turns = Turns::default();
        let first = turns.wait("c").await;
        let mut second = Box::pin(turns.wait("c"));
        tokio::select! {
            biased;
            _ = &mut second => panic!("both at once"),
            other = turns.wait("d") => drop(other),
        }
        turns.leave("c");
        assert_eq!(turns.all().len(), 2, "somebody waits for it");
        drop(first);
        turns.leave("c");
        drop(second.await);
        turns.leave("c");
        turns.leave("d");
        assert!(turns.all().is_empty());
    }

    #[test]
    fn a_claim_is_protected_before_it_gets_devices() {
        let step = step(&claim("c"), Some("a"));
        let mut others = claim("c");
        others["metadata"]["finalizers"] = json!(["x/y"]);
        let Ok(Next::Finalizer(body)) = ask(&others, &step) else {
            panic!()
        };
        assert_eq!(body["metadata"]["finalizers"], json!(["x/y", FINALIZER]));
        assert_eq!(body["metadata"]["resourceVersion"], "1");
        let Ok(Next::Status(body)) = ask(&protected(claim("c")), &step) else {
            panic!()
        };
        let allocation = &body["status"]["allocation"];
        assert_eq!(allocation["devices"]["results"][0]["device"], "a");
        assert_eq!(allocation["allocationTimestamp"], "1970-01-01T00:00:00Z");
        assert_eq!(
            body["status"]["reservedFor"],
            json!([{"resource": "pods", "name": "p", "uid": "p"}])
        );
    }

    #[test]
    fn a_claim_that_has_devices_gets_one_more_user() {
        let shared = allocated("c", "n", "a", &["q"]);
        let Ok(Next::Status(body)) = ask(&shared, &step(&shared, None)) else {
            panic!()
        };
        let users = body["status"]["reservedFor"].as_array().unwrap();
        assert_eq!((users.len(), &users[1]["uid"]), (2, &json!("p")));
        assert_eq!(body["status"]["allocation"], shared["status"]["allocation"]);
    }

    #[test]
    fn a_pod_whose_group_has_given_the_claim_its_devices_only_joins_in() {
        let faster = protected(allocated("c", "n", "a", &["q"]));
        let Ok(Next::Status(body)) = ask(&faster, &step(&claim("c"), Some("a"))) else {
            panic!()
        };
        assert_eq!(body["status"]["allocation"], faster["status"]["allocation"]);
        let users = body["status"]["reservedFor"].as_array().unwrap();
        assert_eq!((users.len(), &users[1]["uid"]), (2, &json!("p")));
    }

    #[test]
    fn what_was_written_already_is_not_written_again() {
        let done = protected(allocated("c", "n", "a", &["p"]));
        assert_eq!(ask(&done, &step(&claim("c"), Some("a"))), Ok(Next::Nothing));
        assert_eq!(ask(&done, &step(&done, None)), Ok(Next::Nothing));
    }

    #[test]
    fn what_has_happened_in_between_is_told() {
        let gets = step(&claim("c"), Some("a"));
        let told = |found: &Value, step: &ClaimStep| ask(found, step).unwrap_err();
        assert_eq!(
            told(&allocated("c", "n", "b", &["p"]), &gets),
            "claim default/c got allocated elsewhere in the meantime"
        );
        let mut leaving = claim("c");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(
            told(&leaving, &gets),
            "claim default/c got deleted in the meantime"
        );
        let mut anew = claim("c");
        anew["metadata"]["uid"] = json!("other");
        assert_eq!(
            told(&anew, &gets),
            "claim default/c was made anew in the meantime"
        );
        let had = step(&allocated("c", "n", "a", &[]), None);
        assert_eq!(
            told(&claim("c"), &had),
            "claim default/c got deallocated in the meantime"
        );
        assert_eq!(
            told(&allocated("c", "m", "a", &[]), &had),
            "claim default/c got allocated elsewhere in the meantime"
        );
    }

    #[test]
    fn devices_are_given_back_only_while_nobody_uses_them() {
        let waiting = pod(using(&["c"]));
        let idle = allocated("c", "n", "a", &["p"]);
        let compiled = DeviceClaim::compile(&idle);
        let without = without_devices(&idle, &waiting, &compiled).unwrap();
        assert_eq!(without["status"], json!({}));
        assert_eq!(without["metadata"]["resourceVersion"], "1");
        let used = allocated("c", "n", "a", &["p", "q"]);
        assert_eq!(without_devices(&used, &waiting, &compiled), None);
        let moved = allocated("c", "m", "a", &[]);
        assert_eq!(without_devices(&moved, &waiting, &compiled), None);
    }
}
