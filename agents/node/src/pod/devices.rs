//! Claims of a pod on devices: which they are, and whether the pod may use them here. Nothing on this node prepares
//! devices, so that only simulated pods get beyond their claims.

use agent_runtime::Client;
use agent_runtime::resource_ref::RESOURCE_CLAIMS;
use serde_json::Value;

use crate::spec::Pod;

/// Why a pod waits, as events tell it.
pub(crate) const REASON: &str = "FailedPrepareDynamicResources";

/// Who prepares devices here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drivers {
    /// None is needed: nothing is prepared.
    Pretended,
    /// None has registered, or could.
    Missing,
}

/// A claim that the pod uses.
#[derive(Debug, PartialEq)]
pub(crate) struct Claim<'a> {
    name: &'a str,
    /// It was made for the pod, and so has to be its own.
    is_generated: bool,
}

/// The claims of a pod. An error is what is not known of one of them yet.
pub(crate) fn claims(pod: &Pod) -> impl Iterator<Item = Result<Claim<'_>, String>> {
    let entries = pod.spec.resource_claims.iter();
    let named = entries.filter_map(move |entry| {
        if let Some(name) = &entry.resource_claim_name {
            return Some(Ok(Claim {
                name,
                is_generated: false,
            }));
        }
        let pod_path = format!("{}/{}", pod.metadata.namespace, pod.metadata.name);
        if entry.resource_claim_template_name.is_none() {
            let text = format!(
                "pod {pod_path:?}, spec.resourceClaim {:?}: none of the supported fields are set",
                entry.name
            );
            return Some(Err(text));
        }
        let mut statuses = pod.status["resourceClaimStatuses"]
            .as_array()
            .into_iter()
            .flatten();
        let Some(status) = statuses.find(|status| status["name"] == *entry.name) else {
            return Some(Err(format!(
                "pod {pod_path:?}: ResourceClaim not created yet"
            )));
        };
        // Without a name none is needed.
        let name = status["resourceClaimName"].as_str()?;
        Some(Ok(Claim {
            name,
            is_generated: true,
        }))
    });
    let extended = &pod.status["extendedResourceClaimStatus"]["resourceClaimName"];
    let extended = extended.as_str().map(|name| {
        Ok(Claim {
            name,
            is_generated: false,
        })
    });
    named.chain(extended)
}

/// Whether the pod may use the claim, which is as the API has it.
fn check(pod: &Pod, claim: &Claim<'_>, object: &Value, drivers: Drivers) -> Result<(), String> {
    let (meta, name) = (&pod.metadata, claim.name);
    let mut owners = items(&object["metadata"], "ownerReferences");
    let is_own = owners.any(|owner| owner["controller"] == true && owner["uid"] == *meta.uid);
    if claim.is_generated && !is_own {
        return Err(format!(
            "ResourceClaim {}/{name} was not created for pod {}/{} (pod is not owner)",
            meta.namespace, meta.namespace, meta.name
        ));
    }
    let status = &object["status"];
    if !items(status, "reservedFor").any(|consumer| consumer["uid"] == *meta.uid) {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        return Err(format!(
            "pod {} ({}) is not allowed to use ResourceClaim {name} ({uid})",
            meta.name, meta.uid
        ));
    }
    if status["allocation"].is_null() {
        return Err(format!("ResourceClaim {name}: not allocated"));
    }
    let driver = items(&status["allocation"]["devices"], "results").next();
    match driver.map(|result| result["driver"].as_str().unwrap_or_default()) {
        Some(driver) if drivers == Drivers::Missing => {
            Err(format!("DRA driver {driver} is not registered"))
        }
        _ => Ok(()),
    }
}

fn items<'a>(object: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    object[list].as_array().into_iter().flatten()
}

/// Reads the claims of a pod; an error says which keeps it waiting, in the words of an event.
pub(crate) async fn look(client: &Client, pod: &Pod, drivers: Drivers) -> Result<(), String> {
    let told = |text: String| {
        format!("Failed to prepare dynamic resources: prepare dynamic resources: {text}")
    };
    for claim in claims(pod) {
        let claim = claim.map_err(told)?;
        let namespace = &pod.metadata.namespace;
        let found = client.get(&RESOURCE_CLAIMS, namespace, claim.name).await;
        let found = found.map_err(|error| {
            told(format!(
                "fetch ResourceClaim {}: {}",
                claim.name, error.message
            ))
        })?;
        check(pod, &claim, &found, drivers).map_err(told)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(claims: Value, status: Value) -> Pod {
        let object = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"resourceClaims": claims}, "status": status});
        Pod::decode(&object).unwrap()
    }

    fn names(pod: &Pod) -> Vec<Result<&str, String>> {
        claims(pod).map(|claim| claim.map(|c| c.name)).collect()
    }

    #[test]
    fn a_claim_is_named_by_the_pod_or_by_its_status() {
        let entries = json!([{"name": "a", "resourceClaimName": "x"}, {"name": "b", "resourceClaimTemplateName": "t"}]);
        let status = json!({"resourceClaimStatuses": [{"name": "b", "resourceClaimName": "p-b-1"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "p-extended"}});
        let whole = pod(entries.clone(), status);
        assert_eq!(names(&whole), [Ok("x"), Ok("p-b-1"), Ok("p-extended")]);
        let unneeded = pod(
            entries.clone(),
            json!({"resourceClaimStatuses": [{"name": "b"}]}),
        );
        assert_eq!(names(&unneeded), [Ok("x")]);
        let early = pod(entries, json!({}));
        let text = "pod \"n/p\": ResourceClaim not created yet".to_owned();
        assert_eq!(names(&early), [Ok("x"), Err(text)]);
        let odd = pod(json!([{"name": "a"}]), json!({}));
        let text = "pod \"n/p\", spec.resourceClaim \"a\": none of the supported fields are set"
            .to_owned();
        assert_eq!(names(&odd), [Err(text)]);
        assert!(names(&pod(json!([]), json!({}))).is_empty());
    }

    #[test]
    fn a_claim_has_to_be_the_pods_and_allocated() {
        let pod = pod(json!([]), json!({}));
        let check = |is_generated: bool, claim: &Value, drivers| {
            let name = "c";
            check(&pod, &Claim { name, is_generated }, claim, drivers)
        };
        let mut claim = json!({"metadata": {"uid": "cu"}, "status": {}});
        let not_owner = "ResourceClaim n/c was not created for pod n/p (pod is not owner)";
        let not_allowed = "pod p (u) is not allowed to use ResourceClaim c (cu)";
        let pretended = Drivers::Pretended;
        assert_eq!(check(true, &claim, pretended), Err(not_owner.to_owned()));
        assert_eq!(check(false, &claim, pretended), Err(not_allowed.to_owned()));
        claim["metadata"]["ownerReferences"] = json!([{"uid": "u", "controller": true}]);
        assert_eq!(check(true, &claim, pretended), Err(not_allowed.to_owned()));
        claim["status"]["reservedFor"] = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
        let not_allocated = "ResourceClaim c: not allocated".to_owned();
        assert_eq!(check(true, &claim, pretended), Err(not_allocated));
        claim["status"]["allocation"] = json!({"devices": {}});
        assert_eq!(
            check(true, &claim, Drivers::Missing),
            Ok(()),
            "there is nothing to prepare"
        );
        let result = json!({"driver": "gpu.example.com", "pool": "n", "device": "d"});
        claim["status"]["allocation"]["devices"]["results"] = json!([result]);
        assert_eq!(check(true, &claim, pretended), Ok(()));
        assert_eq!(
            check(true, &claim, Drivers::Missing),
            Err("DRA driver gpu.example.com is not registered".to_owned())
        );
    }
}
