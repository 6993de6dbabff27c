//! The templates that a DaemonSet or StatefulSet has or had, kept as ControllerRevisions.
//!
//! The data of a revision is the patch that brings its template back, in the form that `kubectl rollout undo` sends as it
//! is and `kubectl rollout history` reads. Two revisions are the same when their data is: nothing else is compared, so that
//! a template that comes back finds its revision however the object was written.

use crate::patches::{drop_empty_claim_metadata, without_nulls};
use crate::pod_control::controller_reference;
use crate::world::{SAFE_CHARACTERS, World};
use agent_runtime::kinds::{ControllerRevision, Labels, ObjectMeta, Pod};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::CONTROLLER_REVISIONS;
use agent_runtime::{Change, Key, Queue, ResourceRef};
use serde_json::{Value, json};
use std::sync::Arc;

/// On a pod: which revision it was made of.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";
/// As much of the owner's name as a revision's has; the API's limit is 253.
const PREFIX_BYTES_MAX: usize = 223;

/// The data of the revision of a template.
pub(crate) fn data(template: &Value) -> Value {
    let mut template = without_nulls(template);
    drop_empty_claim_metadata(&mut template);
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".into(), "replace".into());
    }
    json!({"spec": {"template": template}})
}

/// Whether this is a revision of the template whose [`data`] this is.
pub(crate) fn is_of(revision: &ControllerRevision, data: &Value) -> bool {
    let mut own = without_nulls(&revision.data);
    if let Some(template) = own.pointer_mut("/spec/template") {
        drop_empty_claim_metadata(template);
    }
    own == *data
}

/// The template of a revision.
pub(crate) fn template(revision: &ControllerRevision) -> Option<Value> {
    let mut template = revision.data.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    Some(template)
}

/// The revision that a pod was made of, by its label.
pub(crate) fn revision_of(pod: &Pod) -> &str {
    let label = pod.metadata.labels.get(REVISION_LABEL);
    label.map(String::as_str).unwrap_or_default()
}

/// Orders by number, then by age.
pub(crate) fn sort(revisions: &mut [Arc<ControllerRevision>]) {
    revisions.sort_by(|a, b| {
        let by = |r: &ControllerRevision| (r.revision, r.metadata.created());
        by(a)
            .cmp(&by(b))
            .then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
}

/// One more than any of these has.
pub(crate) fn next_number(revisions: &[Arc<ControllerRevision>]) -> i64 {
    let last = revisions.iter().map(|revision| revision.revision).max();
    last.unwrap_or(0).max(0).saturating_add(1)
}

/// A short text for data: FNV-1 of its JSON and the count of collisions, in letters that make no words.
fn hash(data: &Value, collision_count: i32) -> String {
    let mut hash: u32 = 0x811c_9dc5;
    for byte in data
        .to_string()
        .bytes()
        .chain(collision_count.to_string().bytes())
    {
        hash = hash.wrapping_mul(0x0100_0193) ^ u32::from(byte);
    }
    let digits = hash.to_string().into_bytes().into_iter();
    digits
        .map(|digit| char::from(SAFE_CHARACTERS[usize::from(digit) % SAFE_CHARACTERS.len()]))
        .collect()
}

/// Who gets a revision.
pub(crate) struct Owner<'a> {
    pub(crate) resource: ResourceRef,
    pub(crate) meta: &'a ObjectMeta,
    pub(crate) template: &'a Value,
    pub(crate) collision_count: Option<i32>,
    /// The label under which the revision carries its hash.
    pub(crate) hash_label: &'static str,
}

/// Stores the owner's template under the next number. When another revision has the name, the collision is counted
/// instead, and the next name will differ.
pub(crate) fn create(world: &World, owner: &Owner<'_>, number: i64) -> Op {
    let meta = owner.meta;
    let data = data(owner.template);
    let collisions = owner.collision_count.unwrap_or(0);
    let hash = hash(&data, collisions);
    let mut prefix = meta.name.as_str();
    while prefix.len() > PREFIX_BYTES_MAX {
        let mut chars = prefix.chars();
        chars.next_back();
        prefix = chars.as_str();
    }
    let name = format!("{prefix}-{hash}");
    let cache = &world.caches.controller_revisions;
    if cache.get(&meta.namespace, &name).is_some() {
        let count = collisions.saturating_add(1);
        return Op::status(&owner.resource, meta, json!({"collisionCount": count}));
    }
    let mut labels: Labels = owner
        .template
        .pointer("/metadata/labels")
        .and_then(|labels| serde_json::from_value(labels.clone()).ok())
        .unwrap_or_default();
    labels.insert(owner.hash_label.into(), hash);
    let body = json!({
        "apiVersion": "apps/v1", "kind": "ControllerRevision",
        "metadata": {
            "name": name, "namespace": meta.namespace, "labels": labels, "annotations": meta.annotations,
            "ownerReferences": [controller_reference(&owner.resource, meta)],
        },
        "data": data, "revision": number,
    });
    Op::create(&CONTROLLER_REVISIONS, &meta.namespace, body)
}

/// Gives a revision another number: the one of a template that has become the current one again.
pub(crate) fn renumber(revision: &ControllerRevision, number: i64) -> Op {
    let meta = &revision.metadata;
    let body = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version}, "revision": number});
    Op::merge(&CONTROLLER_REVISIONS, meta, body)
}

/// Enqueues whom a change of a revision concerns: its owner of this kind before and after, or, for a revision without one,
/// all whose selector matches (`selecting` lists them).
pub(crate) fn enqueue_owners(
    queue: &Queue<Key>,
    kind: &str,
    change: &Change<ControllerRevision>,
    selecting: impl Fn(&ObjectMeta) -> Vec<Key>,
) {
    for revision in change.sides() {
        let meta = &revision.metadata;
        match meta.controller() {
            Some(owner) if owner.kind == kind => queue.add(Key::new(&meta.namespace, &owner.name)),
            Some(_) => {}
            None => selecting(meta).into_iter().for_each(|key| queue.add(key)),
        }
    }
}

/// Whether somebody has added a revision of a template that its owner has one of already. Both stay until the owner is
/// looked at for another reason: nothing has changed for its pods, and who has made it may still want it.
pub(crate) fn joins_its_like(
    change: &Change<ControllerRevision>,
    of_owner: impl Fn(&str) -> Vec<Arc<ControllerRevision>>,
) -> bool {
    let (None, Some(added)) = (&change.old, &change.new) else {
        return false;
    };
    let Some(owner) = added.metadata.controller() else {
        return false;
    };
    let is_like = |other: &Arc<ControllerRevision>| {
        other.metadata.uid != added.metadata.uid && other.data == added.data
    };
    of_owner(&owner.uid).iter().any(is_like)
}

/// Whether somebody has changed nothing of a revision that its owner looks at, but a label or annotation of their own, say
/// (`selecting` lists whose selector matches). Who is woken by that finds what they add next sooner than they may use it.
pub(crate) fn is_as_before(
    change: &Change<ControllerRevision>,
    selecting: impl Fn(&ObjectMeta) -> Vec<Key>,
) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return false;
    };
    let (was, is) = (&old.metadata, &new.metadata);
    was.owner_references == is.owner_references
        && was.is_deleting() == is.is_deleting()
        && was.labels.get(REVISION_LABEL) == is.labels.get(REVISION_LABEL)
        && (old.revision, &old.data) == (new.revision, &new.data)
        && selecting(was) == selecting(is)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, world};
    use agent_runtime::resource_ref::STATEFUL_SETS;

    fn created(owner: &ObjectMeta, template: &Value, collisions: Option<i32>) -> Op {
        let owner = Owner {
            resource: STATEFUL_SETS,
            meta: owner,
            template,
            collision_count: collisions,
            hash_label: "controller.kubernetes.io/hash",
        };
        create(&world(""), &owner, 3)
    }

    fn name(op: &Op) -> String {
        let Op::Create { body, .. } = op else {
            panic!("{op:?}")
        };
        body["metadata"]["name"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_revision_that_is_added_beside_its_like_wakes_nobody() {
        let revision = |uid: &str, image: &str| -> Arc<ControllerRevision> {
            let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "ds", "controller": true});
            let whole = json!({
                "metadata": {"name": uid, "namespace": "a", "uid": uid, "ownerReferences": [owner]},
                "data": {"spec": {"template": image}}, "revision": 1,
            });
            Arc::new(serde_json::from_value(whole).unwrap())
        };
        let (old, new) = (revision("r1", "i"), revision("r2", "i"));
        let there = |uid: &str| match uid {
            "ds" => vec![revision("r1", "i"), revision("r2", "i")],
            _ => Vec::new(),
        };
        let added = |new: &Arc<ControllerRevision>| Change {
            old: None,
            new: Some(new.clone()),
        };
        assert!(joins_its_like(&added(&new), there));
        assert!(!joins_its_like(&added(&revision("r3", "other")), there));
        assert!(!joins_its_like(&added(&new), |_| vec![revision("r2", "i")]));
        let changed = Change {
            old: Some(old.clone()),
            new: Some(new),
        };
        assert!(!joins_its_like(&changed, there));
        let gone = Change {
            old: Some(old),
            new: None,
        };
        assert!(!joins_its_like(&gone, there));
    }

    #[test]
    fn a_change_of_a_revision_that_its_owner_does_not_look_at_wakes_nobody() {
        let owner = |uid: &str| json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": uid, "controller": true}]);
        let before = json!({
            "metadata": {"name": "r", "namespace": "a", "labels": {"app": "d", REVISION_LABEL: "x"}, "ownerReferences": owner("u")},
            "data": {"spec": 1}, "revision": 1,
        });
        let selecting = |meta: &ObjectMeta| -> Vec<Key> {
            let app = meta.labels.get("app").into_iter();
            app.map(|app| Key::new("a", app)).collect()
        };
        let read = |whole: &Value| -> Option<Arc<ControllerRevision>> {
            Some(Arc::new(serde_json::from_value(whole.clone()).unwrap()))
        };
        for (path, value, same) in [
            (
                "/metadata/labels",
                json!({"app": "d", REVISION_LABEL: "x", "mine": "y"}),
                true,
            ),
            (
                "/metadata/labels",
                json!({"app": "e", REVISION_LABEL: "x"}),
                false,
            ),
            (
                "/metadata/labels",
                json!({"app": "d", REVISION_LABEL: "y"}),
                false,
            ),
            ("/metadata/labels", json!({"app": "d"}), false),
            ("/metadata/ownerReferences", json!([]), false),
            ("/metadata/ownerReferences", owner("other"), false),
            ("/revision", json!(2), false),
            ("/data", json!({"spec": 2}), false),
        ] {
            let mut after = before.clone();
            *after.pointer_mut(path).unwrap() = value;
            let change = Change {
                old: read(&before),
                new: read(&after),
            };
            assert_eq!(is_as_before(&change, selecting), same, "{after}");
        }
        let mut after = before.clone();
        after["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let changes = [
            (read(&before), read(&after)),
            (None, read(&before)),
            (read(&before), None),
        ];
        for (old, new) in changes {
            assert!(!is_as_before(&Change { old, new }, selecting));
        }
    }

    #[test]
    fn the_data_is_the_patch_that_replaces_the_template() {
        let written = json!({"metadata": {"creationTimestamp": null, "labels": {"a": "b"}}, "spec": {"containers": []}});
        let stored = data(&written);
        assert_eq!(
            stored.to_string(),
            r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"b"}},"spec":{"containers":[]}}}}"#
        );
        let revision = ControllerRevision {
            data: stored.clone(),
            ..ControllerRevision::default()
        };
        assert!(is_of(&revision, &stored) && !is_of(&revision, &data(&json!({}))));
        assert_eq!(template(&revision), Some(without_nulls(&written)));
        assert_eq!(template(&ControllerRevision::default()), None);
    }

    #[test]
    fn names_are_hashes_that_differ_by_template_and_collision() {
        let owner: ObjectMeta = object("{name: web, namespace: a, uid: u}");
        let (one, two) = (json!({"spec": {"x": 1}}), json!({"spec": {"x": 2}}));
        let first = name(&created(&owner, &one, None));
        assert_eq!(first, name(&created(&owner, &one, Some(0))));
        assert_ne!(first, name(&created(&owner, &two, None)));
        assert_ne!(first, name(&created(&owner, &one, Some(1))));
        let owner = ObjectMeta {
            name: "x".repeat(253),
            ..owner
        };
        assert!(name(&created(&owner, &one, None)).len() <= 253);
    }

    #[test]
    fn metadata_that_is_there_by_default_makes_no_other_revision_of_a_template() {
        let template = |claim: Value| json!({"spec": {"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": claim}}]}});
        let spec = json!({"storageClassName": "fast"});
        let bare = template(json!({"spec": spec}));
        let empty = template(json!({"metadata": {}, "spec": spec}));
        let named = template(json!({"metadata": {"labels": {"a": "b"}}, "spec": spec}));
        let stored = |template: &Value| ControllerRevision {
            data: json!({"spec": {"template": template}}),
            ..ControllerRevision::default()
        };
        let mut wanted = empty.clone();
        wanted["$patch"] = "replace".into();
        let mut before = bare.clone();
        before["$patch"] = "replace".into();
        for revision in [stored(&wanted), stored(&before)] {
            assert!(is_of(&revision, &data(&empty)) && is_of(&revision, &data(&bare)));
            assert!(!is_of(&revision, &data(&named)));
        }
        let owner: ObjectMeta = object("{name: web, namespace: a, uid: u}");
        let name_of = |template: &Value| name(&created(&owner, template, None));
        assert_eq!(name_of(&empty), name_of(&bare));
        assert_ne!(name_of(&empty), name_of(&named));
    }

    #[test]
    fn the_hash_is_that_of_kubernetes() {
        // FNV-1 of `{}0`, 32 bits, in decimal, in the safe alphabet.
        let mut expected: u64 = 2_166_136_261;
        for byte in *b"{}0" {
            expected = (expected * 16_777_619) % (1 << 32);
            expected ^= u64::from(byte);
        }
        let digits = "bcdfghjklmnpqrstvwxz2456789".as_bytes();
        let letters: String = expected
            .to_string()
            .bytes()
            .map(|digit| char::from(digits[usize::from(digit) % 27]))
            .collect();
        assert_eq!(hash(&json!({}), 0), letters);
    }

    #[test]
    fn numbers_go_on_and_never_overflow() {
        let numbered = |revision| {
            Arc::new(ControllerRevision {
                revision,
                ..ControllerRevision::default()
            })
        };
        assert_eq!(next_number(&[]), 1);
        assert_eq!(next_number(&[numbered(4), numbered(2)]), 5);
        assert_eq!(next_number(&[numbered(i64::MAX)]), i64::MAX);
    }
}
