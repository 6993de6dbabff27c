//! What a write of the status has to know of `spec`, which it leaves as it is.

use std::sync::LazyLock;

use schema::pick::Pick;

use crate::Resource;

/// What the rules for a pod's status look at, and what defaults would set again where it is missing.
const OF_POD: [&str; 5] = [
    "resourceClaims",
    "dnsPolicy",
    "enableServiceLinks",
    "securityContext",
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
