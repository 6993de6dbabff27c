//! What a write of the status has to know of `spec`, which it leaves as it is.

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

static POD: LazyLock<Pick> = LazyLock::new(|| {
    let pods = crate::find("", "v1", "pods").into_iter();
    let selected = pods
        .flat_map(Resource::field_paths)
        .filter_map(|path| path.strip_prefix("spec."));
    Pick::of(selected.chain(OF_POD))
});

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
}
