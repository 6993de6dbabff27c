//! What a write of the status has to know of `spec`, which it leaves as it is, and what a binding has to know of that.

use std::sync::LazyLock;

use schema::pick::Pick;

use crate::Resource;

/// What the rules for a pod's status look at, and what defaults would set again where it is missing.
const OF_POD: [&str; 6] = [
    "resourceClaims",
    "dnsPolicy",
    "enableServiceLinks",
    "securityContext",
    "serviceAccount",
    "terminationGracePeriodSeconds",
];

static POD: LazyLock<Pick> = LazyLock::new(|| Pick::of(selected_of_pod().chain(OF_POD)));
/// Besides what is selectable, what tells whether a pod may be bound.
static POD_TO_BIND: LazyLock<Pick> =
    LazyLock::new(|| Pick::of(selected_of_pod().chain(["nodeName", "schedulingGates"])));

/// What of a pod's `spec` its selectable fields are made of.
fn selected_of_pod() -> impl Iterator<Item = &'static str> {
    let pods = crate::find("", "v1", "pods").into_iter();
    pods.flat_map(Resource::field_paths)
        .filter_map(|path| path.strip_prefix("spec."))
}

/// Which members of a pod's `spec` its binding has to know, selectable fields included.
pub fn needed_to_bind() -> &'static Pick {
    &POD_TO_BIND
}

impl Resource {
    /// Which members of an object's `spec` a write through `status` has to know, selectable fields included: with nothing else
    /// in it, the object is prepared and judged alike. None where that may be all of them.
    pub fn needed_for_status(&self) -> Option<&'static Pick> {
        let is_pod = self.custom.is_none() && self.group.is_empty() && self.plural == "pods";
        is_pod.then_some(&*POD)
    }
}

#[cfg(test)]
mod tests {
    use schema::Object;
    use serde_json::json;

    /// What they set again would be compared and taken out again, with every write.
    #[test]
    fn defaults_have_nothing_to_add_to_what_is_known_of_a_pod() {
        let resource = crate::by_kind("", "v1", "Pod").unwrap();
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
            "spec": {"serviceAccountName": "a", "containers": [{"name": "c", "image": "i"}]}});
        let mut pod = Object::new(pod).unwrap();
        resource.default(&mut pod);
        let spec = pod.get(&["spec"]).unwrap().to_string();
        let part = resource.needed_for_status().unwrap().read(spec.as_bytes());
        pod.set(&["spec"], part.unwrap());
        assert!(pod.get(&["spec", "containers"]).is_none());
        let known = pod.clone();
        resource.default(&mut pod);
        assert_eq!(pod, known);
    }

    #[test]
    fn what_is_known_of_a_pod_to_bind_tells_whether_it_may_be_and_who_selects_it() {
        let resource = crate::by_kind("", "v1", "Pod").unwrap();
        let spec = json!({"nodeName": "n", "schedulingGates": [{"name": "g"}], "restartPolicy": "Never",
            "schedulerName": "s", "hostNetwork": true, "serviceAccountName": "a", "priority": 1,
            "containers": [{"name": "c", "image": "i"}]});
        let part = super::needed_to_bind().read(spec.to_string().as_bytes());
        let part = part.unwrap();
        assert!(part.get("containers").is_none());
        for field in ["nodeName", "schedulingGates"] {
            assert_eq!(part[field], spec[field]);
        }
        let pod = |spec: serde_json::Value| {
            Object::new(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
        };
        let (part, whole) = (pod(part), pod(spec));
        for name in &resource.field_selectors {
            let [part, whole] = [&part, &whole].map(|pod| resource.offered_field(pod, name));
            assert_eq!(part, whole, "{name}");
        }
    }
}
