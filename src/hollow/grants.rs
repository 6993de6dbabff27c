//! What the hollow nodes of a cluster may do: their process is one user for all of them, so neither the node authorizer nor
//! NodeRestriction, which know one node each, have an opinion about it, and both stay what they are for real nodes.
//!
//! `kontiki up --hollow` gives that user a role with what nodes need, and an admission policy that keeps it to nodes of the
//! type `hollow` and to the pods on them. A cluster without hollow nodes has none of this.

use agents::{Client, ClientConfig, Identity, PatchType, ResourceRef};
use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::USER;
use crate::local::{Home, Plan};
use crate::pki;

const NAME: &str = "kontiki-hollow-nodes";
const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const FLOW: &str = "flowcontrol.apiserver.k8s.io";
const LEASES_NAMESPACE: &str = "kube-node-lease";

/// Makes what is missing of it, as the administrator, and what a former version made otherwise.
pub(crate) async fn ensure(home: &Home, plan: &Plan) -> Result<()> {
    let admin = home.admin();
    let identity = Identity::Certificate {
        cert_pem: pki::read(&admin.cert)?,
        key_pem: pki::read(&admin.key)?,
    };
    let ca = pki::read(&home.pki().join("ca.crt"))?;
    let config = ClientConfig::new(plan.servers(), ca, identity);
    let client = Client::connect(config).map_err(|text| anyhow!(text))?;
    for (resource, namespace, object) in objects() {
        let mut written = client.create(&resource, namespace, &object).await;
        if written
            .as_ref()
            .is_err_and(|error| error.is_already_exists())
        {
            let patch = client.patch(&resource, namespace, NAME, PatchType::Merge, &object);
            written = patch.await;
        }
        written
            .map_err(|error| anyhow!("cannot make {} {NAME}: {}", resource.kind, error.message))?;
    }
    Ok(())
}

fn objects() -> Vec<(ResourceRef, &'static str, Value)> {
    let rbac = |plural: &str, kind: &str, namespaced| {
        ResourceRef::new(RBAC, "v1", plural, kind, namespaced)
    };
    let subjects = json!([{"kind": "User", "name": USER, "apiGroup": RBAC}]);
    let made = |resource: ResourceRef, namespace: &'static str, mut object: Value| {
        object["apiVersion"] = resource.api_version().into();
        object["kind"] = resource.kind.as_ref().into();
        object["metadata"] = json!({"name": NAME});
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = namespace.into();
        }
        (resource, namespace, object)
    };
    let rule = |group: &str, resources: Value, verbs: Value| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let of_cluster = json!([
        rule(
            "",
            json!(["nodes"]),
            json!(["get", "list", "watch", "create", "patch"])
        ),
        rule("", json!(["nodes/status", "pods/status"]), json!(["patch"])),
        rule(
            "",
            json!(["pods"]),
            json!(["get", "list", "watch", "delete"])
        ),
        rule("", json!(["events"]), json!(["create", "patch"])),
        // Whether what a pod claims is allocated and reserved for it.
        rule("resource.k8s.io", json!(["resourceclaims"]), json!(["get"])),
    ]);
    let of_leases = json!([rule(
        "coordination.k8s.io",
        json!(["leases"]),
        json!(["create", "patch"])
    )]);
    let bound = |kind: &str| json!({"subjects": subjects, "roleRef": {"apiGroup": RBAC, "kind": kind, "name": NAME}});
    let policies =
        |plural: &str, kind: &str| ResourceRef::new(ADMISSION, "v1", plural, kind, false);
    vec![
        made(
            rbac("clusterroles", "ClusterRole", false),
            "",
            json!({"rules": of_cluster}),
        ),
        made(
            rbac("clusterrolebindings", "ClusterRoleBinding", false),
            "",
            bound("ClusterRole"),
        ),
        made(
            rbac("roles", "Role", true),
            LEASES_NAMESPACE,
            json!({"rules": of_leases}),
        ),
        made(
            rbac("rolebindings", "RoleBinding", true),
            LEASES_NAMESPACE,
            bound("Role"),
        ),
        made(
            policies("validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
            "",
            json!({"spec": policy()}),
        ),
        made(
            policies(
                "validatingadmissionpolicybindings",
                "ValidatingAdmissionPolicyBinding",
            ),
            "",
            json!({"spec": {"policyName": NAME, "validationActions": ["Deny"]}}),
        ),
        made(
            ResourceRef::new(FLOW, "v1", "flowschemas", "FlowSchema", false),
            "",
            json!({"spec": flow()}),
        ),
    ]
}

/// It writes nodes that are hollow and stay so, and pods of such nodes.
fn policy() -> Value {
    let of = |resources: &[&str], operations: &[&str]| json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": operations, "resources": resources});
    let hollow = |object: &str| {
        format!(
            "has({object}.metadata.labels) && 'type' in {object}.metadata.labels && {object}.metadata.labels['type'] == 'hollow'"
        )
    };
    let node = format!(
        "request.resource.resource != 'nodes' || (({}) && (oldObject == null || ({})))",
        hollow("object"),
        hollow("oldObject")
    );
    let pod = "request.resource.resource != 'pods' || (has(oldObject.spec.nodeName) && oldObject.spec.nodeName.matches('-[0-9]{5}$'))";
    json!({
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [
            of(&["nodes", "nodes/status"], &["CREATE", "UPDATE"]),
            of(&["pods", "pods/status"], &["UPDATE", "DELETE"]),
        ]},
        "matchConditions": [{"name": "hollow-nodes", "expression": format!("request.userInfo.username == '{USER}'")}],
        "validations": [
            {"expression": node, "message": "hollow nodes may only write nodes with the label type=hollow"},
            {"expression": pod, "message": "hollow nodes may only write pods of hollow nodes"},
        ],
    })
}

/// They are served as nodes are, not behind everybody else.
fn flow() -> Value {
    let all = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"], "namespaces": ["*"], "clusterScope": true});
    json!({
        "matchingPrecedence": 450,
        "priorityLevelConfiguration": {"name": "system"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": USER}}], "resourceRules": [all]}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hollow_nodes_may_read_the_claims_of_their_pods_and_change_none() {
        let objects = objects();
        let role = objects
            .iter()
            .find(|(resource, ..)| resource.kind == "ClusterRole");
        let rules = role.unwrap().2["rules"].as_array().unwrap();
        let of_claims: Vec<_> = rules
            .iter()
            .filter(|rule| rule["resources"] == json!(["resourceclaims"]))
            .collect();
        assert_eq!(of_claims.len(), 1);
        assert_eq!(of_claims[0]["apiGroups"], json!(["resource.k8s.io"]));
        assert_eq!(of_claims[0]["verbs"], json!(["get"]));
    }
}
