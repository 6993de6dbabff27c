//! Before a pod with waiting claims is bound, its volumes are: volumes that are there already are given to their claims,
//! claims that need a new one say at which node, and then the controller and the provisioners have their time.
//!
//! Whether they are through is a pure question about the objects as they are now; the waiting around it is bounded.

use crate::feed::Feed;
use crate::object::Pod;
use crate::selector::Labels;
use crate::volume::bind::{Binding, VolumePlan};
use crate::volume::object::{BOUND_BY_CONTROLLER, Claim, SELECTED_NODE, Volume};
use crate::write::bounded;
use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use agent_runtime::{ApiError, Client, PatchType};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The pod and the node are looked at this often while nothing changes about claims and volumes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What was written, with the revisions that came of it.
#[derive(Debug, Default)]
struct Written {
    bindings: Vec<(Binding, u64)>,
    provisions: Vec<(Arc<Claim>, u64)>,
}

/// Writes the plan and waits until it has come true. The error is in the words of the event.
pub(crate) async fn bind_volumes(
    client: &Client,
    feed: &Feed,
    writers: &Semaphore,
    pod: &Pod,
    node: &str,
    plan: &VolumePlan,
    timeout: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    let written = {
        let Ok(_turn) = writers.acquire().await else {
            return Err("the scheduler stops".into());
        };
        write(client, node, plan).await.map_err(|e| e.message)?
    };
    let mut claims = feed.claims.version();
    let mut volumes = feed.volumes.version();
    loop {
        claims.borrow_and_update();
        volumes.borrow_and_update();
        let progress = check(&written, node, &look(feed, pod, node)?);
        if progress.map_err(|words| format!("binding volumes: {words}"))? {
            return Ok(());
        }
        tokio::select! {
            biased;
            // First, so that changes that never end do not keep it from being looked at.
            () = tokio::time::sleep_until(deadline) => {
                return Err("binding volumes: context deadline exceeded".into());
            }
            _ = claims.changed() => {}
            _ = volumes.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn write(client: &Client, node: &str, plan: &VolumePlan) -> Result<Written, ApiError> {
    let mut written = Written::default();
    for binding in &plan.bindings {
        let body = volume_patch(binding);
        let resource = &PERSISTENT_VOLUMES;
        let name = &binding.volume.name;
        let patch = client.patch(resource, "", name, PatchType::Merge, &body);
        let revision = revision_of(&bounded(patch).await?);
        written.bindings.push((binding.clone(), revision));
    }
    for claim in &plan.provisions {
        let body = claim_patch(claim, node);
        let (namespace, name) = (&claim.namespace, &claim.name);
        let resource = &PERSISTENT_VOLUME_CLAIMS;
        let patch = client.patch(resource, namespace, name, PatchType::Merge, &body);
        let revision = revision_of(&bounded(patch).await?);
        written.provisions.push((claim.clone(), revision));
    }
    Ok(written)
}

/// Gives the volume to the claim, unless it has changed since.
fn volume_patch(Binding { claim, volume }: &Binding) -> Value {
    let mut metadata = json!({"uid": volume.uid, "resourceVersion": volume.resource_version});
    // One that a person has promised to the claim stays theirs.
    if !volume.belongs_to(claim) {
        metadata["annotations"] = json!({BOUND_BY_CONTROLLER: "yes"});
    }
    json!({"metadata": metadata, "spec": {"claimRef": {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace, "name": claim.name,
        "uid": claim.uid, "resourceVersion": claim.resource_version,
    }}})
}

/// Orders a volume at the node, unless the claim has changed since.
fn claim_patch(claim: &Claim, node: &str) -> Value {
    json!({"metadata": {
        "uid": claim.uid, "resourceVersion": claim.resource_version, "annotations": {SELECTED_NODE: node},
    }})
}

fn revision_of(object: &Value) -> u64 {
    revision(&crate::object::text(object, "/metadata/resourceVersion"))
}

/// 0 for what is no number, which is before everything.
fn revision(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// The objects as they are now.
struct Look<'a> {
    node: Arc<crate::object::Node>,
    feed: &'a dyn Objects,
}

/// Where claims and volumes are looked up.
trait Objects {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<Claim>>;
    fn volume(&self, name: &str) -> Option<Arc<Volume>>;
}

impl Objects for Feed {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<Claim>> {
        Some(self.claims.get(namespace, name)?.value.clone())
    }
    fn volume(&self, name: &str) -> Option<Arc<Volume>> {
        Some(self.volumes.get("", name)?.value.clone())
    }
}

fn look<'a>(feed: &'a Feed, pod: &Pod, node: &str) -> Result<Look<'a>, String> {
    let now = feed.pods.get(&pod.namespace, &pod.name);
    if !now.is_some_and(|now| now.value.uid == pod.uid && !now.value.deleting) {
        return Err("binding volumes: pod does not exist any more".into());
    }
    let found = feed.nodes.get("", node);
    let found = found.ok_or_else(|| {
        format!("binding volumes: failed to get node {node:?}: node {node:?} not found")
    })?;
    Ok(Look {
        node: found.value.clone(),
        feed,
    })
}

/// Whether every claim has its volume; an error when they cannot get what was decided.
fn check(written: &Written, node: &str, look: &Look<'_>) -> Result<bool, String> {
    let claim_now = |claim: &Claim, doing: &str| {
        let (namespace, name) = (&claim.namespace, &claim.name);
        let now = look.feed.claim(namespace, name);
        now.ok_or_else(|| {
            format!("failed to check {doing}: could not find v1.PersistentVolumeClaim \"{namespace}/{name}\"")
        })
    };
    for (Binding { claim, volume }, revision_written) in &written.bindings {
        let name = &volume.name;
        let now = look.feed.volume(name).ok_or_else(|| {
            format!("failed to check binding: could not find v1.PersistentVolume {name:?}")
        })?;
        let claim = claim_now(claim, "binding")?;
        if revision(&now.resource_version) < *revision_written {
            return Ok(false);
        }
        must_be_reachable(&now, node, &look.node.labels)?;
        if now.claim.as_ref().is_none_or(|claim| claim.uid.is_empty()) {
            return Err(format!("ClaimRef got reset for pv {name:?}"));
        }
        if !claim.is_bound() {
            return Ok(false);
        }
    }
    for (claim, revision_written) in &written.provisions {
        let now = claim_now(claim, "provisioning pvc")?;
        if revision(&now.resource_version) < *revision_written {
            return Ok(false);
        }
        // Whoever makes volumes takes the annotation away when they cannot.
        if now.selected_node.as_deref() != Some(node) {
            return Err(format!("provisioning failed for PVC {:?}", now.name));
        }
        if !now.volume_name.is_empty() {
            match look.feed.volume(&now.volume_name) {
                Some(volume) => must_be_reachable(&volume, node, &look.node.labels)?,
                // The two watches do not bring them at the same time.
                None => return Ok(false),
            }
        }
        if !now.is_bound() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn must_be_reachable(volume: &Volume, node: &str, labels: &Labels) -> Result<(), String> {
    match volume.reachable_from(labels) {
        true => Ok(()),
        false => Err(format!(
            "pv {:?} node affinity doesn't match node {node:?}: no matching NodeSelectorTerms",
            volume.name
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::node;
    use crate::volume::Volumes;
    use crate::volume::testing::{claim, volume, volumes};

    impl Objects for Volumes {
        fn claim(&self, namespace: &str, name: &str) -> Option<Arc<Claim>> {
            Volumes::claim(self, namespace, name).cloned()
        }
        fn volume(&self, name: &str) -> Option<Arc<Volume>> {
            Volumes::volume(self, name).cloned()
        }
    }

    fn progress(written: &Written, objects: &[Value]) -> Result<bool, String> {
        let look = Look {
            node: Arc::new(node("a", json!({"host": "a"}), json!({}))),
            feed: &volumes(objects),
        };
        check(written, "a", &look)
    }

    fn at(mut object: Value, revision: &str) -> Value {
        object["metadata"]["resourceVersion"] = json!(revision);
        object
    }

    fn compiled(object: &Value) -> Arc<Claim> {
        Arc::new(Claim::compile(object))
    }

    fn bound(mut claim: Value) -> Value {
        claim["spec"]["volumeName"] = json!("v");
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
        claim
    }

    #[test]
    fn a_given_volume_is_bound_when_the_controller_says_so() {
        let (free, waiting) = (volume("v", "w", "1Gi", &["a"]), claim("p", "w", "1Gi"));
        let binding = Binding {
            claim: compiled(&waiting),
            volume: Arc::new(Volume::compile(&free)),
        };
        let written = Written {
            bindings: vec![(binding, 5)],
            ..Written::default()
        };
        assert_eq!(
            progress(&written, &[free.clone(), waiting.clone()]),
            Ok(false)
        );
        let mut given = at(free.clone(), "5");
        given["spec"]["claimRef"] = json!({"namespace": "default", "name": "p", "uid": "uid-p"});
        assert_eq!(
            progress(&written, &[given.clone(), waiting.clone()]),
            Ok(false)
        );
        assert_eq!(
            progress(&written, &[given.clone(), bound(waiting.clone())]),
            Ok(true)
        );
        assert_eq!(
            progress(&written, &[at(free, "6"), waiting.clone()]),
            Err("ClaimRef got reset for pv \"v\"".into())
        );
        assert_eq!(
            progress(&written, &[given]),
            Err(
                "failed to check binding: could not find v1.PersistentVolumeClaim \"default/p\""
                    .into()
            )
        );
        assert_eq!(
            progress(&written, &[waiting]),
            Err("failed to check binding: could not find v1.PersistentVolume \"v\"".into())
        );
    }

    #[test]
    fn an_ordered_volume_is_there_when_its_claim_is_bound_and_fails_when_the_order_is_taken_back() {
        let waiting = claim("p", "w", "1Gi");
        let written = Written {
            provisions: vec![(compiled(&waiting), 5)],
            ..Written::default()
        };
        let ordered = |node: &str| {
            let mut claim = at(waiting.clone(), "5");
            claim["metadata"]["annotations"] = json!({SELECTED_NODE: node});
            claim
        };
        let made = |host: &str| volume("v", "w", "1Gi", &[host]);
        assert_eq!(
            progress(&written, std::slice::from_ref(&waiting)),
            Ok(false),
            "not seen yet"
        );
        assert_eq!(progress(&written, &[ordered("a")]), Ok(false));
        assert_eq!(
            progress(&written, &[bound(ordered("a"))]),
            Ok(false),
            "its volume is not seen yet"
        );
        assert_eq!(
            progress(&written, &[bound(ordered("a")), made("a")]),
            Ok(true)
        );
        let failed = Err("provisioning failed for PVC \"p\"".into());
        assert_eq!(progress(&written, &[at(waiting.clone(), "6")]), failed);
        assert_eq!(progress(&written, &[ordered("b")]), failed);
        assert_eq!(
            progress(&written, &[bound(ordered("a")), made("b")]),
            Err(
                "pv \"v\" node affinity doesn't match node \"a\": no matching NodeSelectorTerms"
                    .into()
            )
        );
    }

    #[test]
    fn what_is_written_can_only_hit_what_was_decided_about() {
        let (free, waiting) = (volume("v", "w", "1Gi", &[]), claim("p", "w", "1Gi"));
        let mut binding = Binding {
            claim: compiled(&waiting),
            volume: Arc::new(Volume::compile(&free)),
        };
        let patch = volume_patch(&binding);
        assert_eq!(patch["metadata"]["resourceVersion"], "1");
        assert_eq!(patch["metadata"]["annotations"][BOUND_BY_CONTROLLER], "yes");
        assert_eq!(patch["spec"]["claimRef"]["uid"], "uid-p");
        let mut promised = free;
        promised["spec"]["claimRef"] = json!({"namespace": "default", "name": "p"});
        binding.volume = Arc::new(Volume::compile(&promised));
        assert_eq!(volume_patch(&binding)["metadata"].get("annotations"), None);
        let patch = claim_patch(&binding.claim, "a");
        assert_eq!(patch["metadata"]["annotations"][SELECTED_NODE], "a");
        assert_eq!(patch["metadata"]["resourceVersion"], "1");
    }
}
