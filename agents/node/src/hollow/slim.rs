//! A pod as a hollow node keeps it: the API's object as text, without what plays no role here. A hundred thousand trees
//! would take gigabytes; a text is read again when something is to be decided, which is a few times in a pod's life, and kept
//! as what differs from another of the same owner.

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::interned::{Interned, group};
use super::text::Text;
use super::told::PodTold;
use super::world::Uid;
use crate::pod::admission::preempt::Rank;
use crate::pod::admission::share::Share;
use crate::pod::admission::{has_ended, was_taken};
use crate::pod::resize::has_other_limits;
use crate::spec::Pod;

/// Nothing simulated depends on these, and they are much of an object.
const NOT_KEPT: &[&str] = &["volumes", "topologySpreadConstraints"];
/// These count only while it is open whether the node takes the pod.
const KEPT_UNTIL_TAKEN: &[&str] = &["affinity", "tolerations"];

/// By what of its metadata and by which generation of its spec a pod behaves: the stage that it is in is chosen by these, too.
const COUNTS: [&str; 6] = [
    "annotations",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "labels",
    "ownerReferences",
];

thread_local! {
    static KINDS: RefCell<Interned<Kind>> = const { RefCell::new(Interned::new()) };
}

/// What a pod has in common with the others of its owner, kept once for all of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Kind {
    pub(super) namespace: Box<str>,
    /// What it takes of the node.
    pub(super) share: Share,
    /// For whom it may have to go.
    pub(super) rank: Rank,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Slim {
    pub(super) uid: Uid,
    pub(super) name: Box<str>,
    pub(super) version: u64,
    pub(super) kind: Arc<Kind>,
    /// What it asks for, where the node has given it something else; that may be other limits only.
    pub(super) asks: Option<Box<Share>>,
    /// Whether the API has it as taken by the node, and as ended.
    pub(super) is_taken: bool,
    pub(super) is_over: bool,
    /// Stands for all but the status, where the API counts the generations of pods: another one where that is another one.
    pub(super) shape: u32,
    text: Text,
}

impl Slim {
    /// Of a pod that was told of. None where it is no pod with a UID.
    pub(super) fn of_told(told: PodTold) -> Option<Slim> {
        match &told.text {
            Some(text) => Slim::with(&told.object, text),
            None => Slim::of(told.object),
        }
    }

    /// Of a whole object. None where it is no pod with a UID.
    pub(super) fn of(mut object: Value) -> Option<Slim> {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        let is_taken = was_taken(&object);
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            NOT_KEPT.iter().for_each(|field| drop(spec.remove(*field)));
            if is_taken {
                let fields = KEPT_UNTIL_TAKEN.iter();
                fields.for_each(|field| drop(spec.remove(*field)));
            }
        }
        drop_nulls(&mut object);
        // A tree can always be written: its keys are texts.
        let whole = serde_json::to_string(&object).unwrap_or_default();
        Slim::with(&object, &whole)
    }

    /// Of what is looked at of an object, and of its text as it is kept.
    fn with(object: &Value, whole: &str) -> Option<Slim> {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        let uid = Uid::from(text("uid"));
        if uid.is_empty() {
            return None;
        }
        let is_taken = was_taken(object);
        let owner = metadata["ownerReferences"][0]["uid"].as_str();
        let owner = owner.unwrap_or_default();
        let kind = Kind {
            namespace: text("namespace").into(),
            share: Share::of(object),
            rank: Rank::of(object),
        };
        let asked = is_taken.then(|| Share::asked(object));
        Some(Slim {
            name: text("name").into(),
            asks: asked
                .filter(|asked| *asked != kind.share || has_other_limits(object))
                .map(Box::new),
            kind: KINDS.with_borrow_mut(|kinds| kinds.share(group(owner), kind)),
            is_over: has_ended(object),
            shape: group(COUNTS.map(|field| &metadata[field])) as u32,
            is_taken,
            version: text("resourceVersion").parse().unwrap_or(0),
            uid,
            text: Text::of(whole, owner),
        })
    }

    pub(super) fn pod(&self) -> Result<Pod, String> {
        serde_json::from_str(&self.text.whole()).map_err(|error| error.to_string())
    }

    pub(super) fn object(&self) -> Value {
        serde_json::from_str(&self.text.whole()).unwrap_or_default()
    }
}

/// Kubernetes reads a member that is null as absent.
pub(super) fn drop_nulls(value: &mut Value) {
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
        assert_eq!(
            (slim.version, &*slim.name, &*slim.kind.namespace),
            (7, "p", "d")
        );
        let text = slim.text.whole();
        assert!(!text.contains("managedFields") && !text.contains("null"));
        let mut whole = Pod::decode(&object).unwrap();
        whole.spec.volumes.clear();
        assert_eq!(slim.pod().unwrap(), whole);
        assert_eq!(Slim::of(json!({"metadata": {"name": "p"}})), None);
        assert!(text.contains("tolerations") && !slim.is_taken && !slim.is_over);
        let mut object = object;
        object["status"] = json!({"phase": "Failed", "startTime": "2026-01-01T00:00:00Z"});
        let slim = Slim::of(object).unwrap();
        assert!(!slim.text.whole().contains("tolerations") && slim.is_taken && slim.is_over);
    }

    #[test]
    fn pods_of_an_owner_have_in_common_what_is_alike() {
        let pod = |uid: &str, cpu: &str| {
            Slim::of(json!({
                "metadata": {"name": uid, "namespace": "d", "uid": uid, "ownerReferences": [{"uid": "o"}]},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
            }))
            .unwrap()
        };
        let [a, b, other] = [pod("a", "1"), pod("b", "1"), pod("c", "2")];
        assert!(Arc::ptr_eq(&a.kind, &b.kind) && a != b);
        assert_ne!(a.kind.share, other.kind.share);
        assert_eq!(pod("a", "1"), a, "also after another one");
    }
}
