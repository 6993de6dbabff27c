//! Where the volume of a claim is on this node.
//!
//! Pure: the claim and the volume come in as the API has them.

use std::path::PathBuf;

use agent_runtime::local_path::PROVISIONER;
use serde_json::Value;

use crate::spec::{HostPathVolume, Pod, Volume};

/// The place of a claim's volume.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Claimed {
    /// A path that somebody has chosen.
    Path(HostPathVolume),
    /// A directory that was made for the claim; who runs in the pod may write there.
    Directory(PathBuf),
}

/// The claim that a volume of the pod is; an ephemeral one has a claim that is made for the pod.
pub(crate) fn claim_name(pod: &Pod, volume: &Volume) -> Option<String> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.metadata.name, volume.name)),
        (None, None) => None,
    }
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or("")
}

/// The name of the volume that the claim is bound to.
pub(crate) fn bound_to(pod: &Pod, volume: &Volume, claim: &Value) -> Result<String, String> {
    let owners = claim
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    let is_owner =
        |owner: &Value| owner["controller"] == true && text(owner, "/uid") == pod.metadata.uid;
    if volume.ephemeral.is_some() && !owners.into_iter().flatten().any(is_owner) {
        return Err("PVC was not created for the pod (pod is not owner)".into());
    }
    let name = text(claim, "/spec/volumeName");
    if text(claim, "/status/phase") != "Bound" || name.is_empty() {
        return Err("PVC is not bound".into());
    }
    Ok(name.to_owned())
}

/// Where that volume is, on the node of this name.
pub(crate) fn place(claim: &Value, volume: &Value, node: &str) -> Result<Claimed, String> {
    let name = text(volume, "/metadata/name");
    let is_for = text(volume, "/spec/claimRef/uid") == text(claim, "/metadata/uid");
    if !is_for {
        return Err(format!("volume \"{name}\" is bound to another claim"));
    }
    if text(volume, "/spec/volumeMode") == "Block" {
        return Err("this node does not support block volumes".into());
    }
    if volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] == PROVISIONER {
        let terms = "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values/0";
        let host = text(volume, terms);
        if host != node {
            return Err(format!(
                "volume \"{name}\" is a directory of node \"{host}\""
            ));
        }
        return Ok(Claimed::Directory(
            text(volume, "/spec/hostPath/path").into(),
        ));
    }
    if volume["spec"]["hostPath"].is_object() {
        return Ok(Claimed::Path(HostPathVolume {
            path: text(volume, "/spec/hostPath/path").to_owned(),
            kind: text(volume, "/spec/hostPath/type").to_owned(),
        }));
    }
    if volume["spec"]["local"].is_object() {
        return Ok(Claimed::Path(HostPathVolume {
            path: text(volume, "/spec/local/path").to_owned(),
            kind: "Directory".to_owned(),
        }));
    }
    Err(format!(
        "this node does not support the kind of volume \"{name}\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(volume: &Value) -> Pod {
        let metadata = json!({"name": "p", "namespace": "d", "uid": "pu"});
        Pod::decode(&json!({"metadata": metadata, "spec": {"volumes": [volume], "containers": []}}))
            .unwrap()
    }

    #[test]
    fn only_a_bound_claim_of_the_pod_has_a_place() {
        let bound = |volume: Value, claim: Value| {
            let pod = pod(&volume);
            let volume = &pod.spec.volumes[0];
            let bound = bound_to(&pod, volume, &claim).unwrap_or_else(|text| text);
            format!("{} {bound}", claim_name(&pod, volume).unwrap())
        };
        let claimed = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        let claim = json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
        assert_eq!(bound(claimed.clone(), claim.clone()), "c pv");
        let lost = json!({"spec": {"volumeName": "pv"}, "status": {"phase": "Lost"}});
        assert_eq!(bound(claimed, lost), "c PVC is not bound");
        let ephemeral = json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {}}});
        assert!(bound(ephemeral.clone(), claim.clone()).ends_with("(pod is not owner)"));
        let mut owned = claim;
        owned["metadata"] = json!({"ownerReferences": [{"uid": "pu", "controller": true}]});
        assert_eq!(bound(ephemeral, owned), "p-v pv");
    }

    #[test]
    fn directories_belong_to_one_node() {
        let claim = json!({"metadata": {"uid": "cu"}});
        let volume = |source: Value| {
            let mut spec = source;
            spec["claimRef"] = json!({"uid": "cu"});
            json!({"metadata": {"name": "pv"}, "spec": spec})
        };
        let path = |path: &str, kind: &str| {
            Claimed::Path(HostPathVolume {
                path: path.into(),
                kind: kind.into(),
            })
        };
        let host = volume(json!({"hostPath": {"path": "/x", "type": "File"}}));
        assert_eq!(place(&claim, &host, "n"), Ok(path("/x", "File")));
        let local = volume(json!({"local": {"path": "/y"}}));
        assert_eq!(place(&claim, &local, "n"), Ok(path("/y", "Directory")));
        assert!(place(&json!({"metadata": {"uid": "other"}}), &host, "n").is_err());
        assert!(place(&claim, &volume(json!({"nfs": {}})), "n").is_err());
        assert!(
            place(
                &claim,
                &volume(json!({"hostPath": {"path": "/x"}, "volumeMode": "Block"})),
                "n"
            )
            .is_err()
        );
        let mut made = volume(
            json!({"hostPath": {"path": "/d/pvc-1"}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]}]}}}),
        );
        made["metadata"]["annotations"] = json!({"pv.kubernetes.io/provisioned-by": PROVISIONER});
        assert_eq!(
            place(&claim, &made, "n"),
            Ok(Claimed::Directory("/d/pvc-1".into()))
        );
        assert_eq!(
            place(&claim, &made, "m").unwrap_err(),
            "volume \"pv\" is a directory of node \"n\""
        );
    }
}
