//! A pod as a hollow node keeps it: the API's object as text, without what plays no role here. A hundred thousand trees
//! would take gigabytes; a text is read again when something is to be decided, which is a few times in a pod's life.

use serde_json::{Map, Value};

use crate::pod::desired::version;
use crate::spec::Pod;

/// Nothing simulated depends on these, and they are much of an object.
const NOT_KEPT: &[&str] = &[
    "volumes",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
];

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Slim {
    pub(super) uid: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Of the node that it is bound to.
    pub(super) node: String,
    pub(super) version: u64,
    /// It asks for ports of the node.
    pub(super) takes_ports: bool,
    text: Box<str>,
}

impl Slim {
    /// None where it is no pod with a UID.
    pub(super) fn of(mut object: Value) -> Option<Slim> {
        let version = version(&object);
        let text = |object: &Value, path: &str| {
            let found = object.pointer(path).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let uid = text(&object, "/metadata/uid");
        if uid.is_empty() {
            return None;
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            NOT_KEPT.iter().for_each(|field| drop(spec.remove(*field)));
        }
        drop_nulls(&mut object);
        Some(Slim {
            namespace: text(&object, "/metadata/namespace"),
            name: text(&object, "/metadata/name"),
            node: text(&object, "/spec/nodeName"),
            takes_ports: takes_ports(&object),
            version,
            uid,
            text: object.to_string().into(),
        })
    }

    pub(super) fn pod(&self) -> Result<Pod, String> {
        serde_json::from_str(&self.text).map_err(|error| error.to_string())
    }

    pub(super) fn object(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

fn takes_ports(object: &Value) -> bool {
    let lists = ["/spec/containers", "/spec/initContainers"];
    let containers = lists
        .iter()
        .filter_map(|path| object.pointer(path)?.as_array());
    let ports = containers
        .flatten()
        .filter_map(|container| container.get("ports")?.as_array());
    ports
        .flatten()
        .any(|port| port.get("hostPort").is_some_and(|port| *port != 0))
}

/// Kubernetes reads a member that is null as absent.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            Map::retain(members, |_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_decodes_to_the_same_pod() {
        let object = json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "7", "managedFields": [1], "labels": null},
            "spec": {"nodeName": "n", "volumes": [{"name": "v"}], "tolerations": [{}],
                     "containers": [{"name": "c", "image": "i", "env": null}]},
            "status": {"phase": "Pending", "message": null},
        });
        let slim = Slim::of(object.clone()).unwrap();
        assert_eq!((slim.version, slim.node.as_str()), (7, "n"));
        assert!(!slim.text.contains("managedFields") && !slim.text.contains("null"));
        let mut whole = Pod::decode(&object).unwrap();
        whole.spec.volumes.clear();
        assert_eq!(slim.pod().unwrap(), whole);
        assert_eq!(Slim::of(json!({"metadata": {"name": "p"}})), None);
        assert!(!slim.takes_ports);
        let mut object = object;
        object["spec"]["containers"][0]["ports"] = json!([{"containerPort": 1}, {"hostPort": 2}]);
        assert!(Slim::of(object).unwrap().takes_ports);
    }
}
