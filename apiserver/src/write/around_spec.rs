//! The short way of a change that leaves `spec` as it is and needs to know little of that: its text goes into the new state
//! as it stands in the old one, and is not made into a tree, copied, compared and taken apart again. The node that a pod gets is
//! put into that text. The managed fields stay text, too, but for the entries that the write touches. Whatever is not plainly a
//! write, decided on the cached object, goes the long way.

use std::sync::Arc;

use bytes::Bytes;
use resources::Resource;
use serde_json::Value;

use super::current::AroundSpec;
use super::written::{Shown, written_around};
use super::{Commit, Decide, Outcome, Step};
use crate::ApiServer;
use crate::codec;
use crate::status::ApiResult;

pub(super) enum Tried {
    Done(Outcome),
    /// Somebody else was faster.
    Lost,
    /// Nothing has been done.
    Left,
}

impl ApiServer {
    /// Makes the change that `decide` wants, where that can be done without the whole object.
    pub(super) async fn change_around_spec(
        &self,
        resource: &Resource,
        key: &str,
        decide: &mut dyn Decide,
    ) -> ApiResult<Tried> {
        let Some(needed) = decide.needed_of_spec() else {
            return Ok(Tried::Left);
        };
        let leaves_entries = decide.leaves_entries();
        let Some(current) = self.around_spec(resource, key, needed, leaves_entries) else {
            return Ok(Tried::Left);
        };
        let AroundSpec {
            object: mut old,
            mut entries,
            revision,
            spec,
            json_bytes,
        } = current;
        let step = decide.decide_around_spec(&old, &mut entries).await;
        let (object, spec, extra) = match step {
            Ok(Step::Write(object, extra)) => {
                let spec = spec_after(old.get(&["spec"]), object.get(&["spec"]), spec);
                self.trees.spend_part(old, json_bytes);
                (object, spec, extra)
            }
            Ok(Step::Change(change, extra)) => {
                let was = old.get(&["spec"]).cloned();
                change(&mut old);
                let spec = spec_after(was.as_ref(), old.get(&["spec"]), spec);
                (old, spec, extra)
            }
            _ => return Ok(Tried::Left),
        };
        let Some(spec) = spec else {
            return Ok(Tried::Left);
        };
        let written = written_around(object, &spec, entries.as_deref())?;
        let commit = self
            .commit_update(resource, key, revision, &written, extra)
            .await?;
        let Commit::Done(now) = commit else {
            return Ok(Tried::Lost);
        };
        // Nobody will ask for its tree.
        drop(self.trees.take(key, revision));
        let Shown {
            mut object, stored, ..
        } = written.shown;
        object.set_resource_version(&now.to_string());
        Ok(Tried::Done(Outcome {
            object: Arc::new(object),
            removed: false,
            stored,
            is_around_spec: true,
        }))
    }
}

/// The text of a `spec` of which this part has become another: the same, or with the node that it got. None where it has become
/// anything else.
fn spec_after(was: Option<&Value>, now: Option<&Value>, text: Bytes) -> Option<Bytes> {
    const NODE: &str = "nodeName";
    if was == now {
        return Some(text);
    }
    let (Value::Object(was), Value::Object(now)) = (was?, now?) else {
        return None;
    };
    let node = now.get(NODE)?;
    // What had a node before is not the same without it.
    let others = now.iter().filter(|(name, _)| *name != NODE);
    if !others.eq(was) {
        return None;
    }
    codec::with_member(&text, NODE, node).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_text_of_a_spec_gets_the_node_and_nothing_else() {
        let text = || Bytes::from_static(br#"{"containers":[],"schedulerName":"s"}"#);
        let after = |was: Value, now: Value| spec_after(Some(&was), Some(&now), text());
        let part = json!({"schedulerName": "s"});
        assert_eq!(after(part.clone(), part.clone()), Some(text()));
        let bound = json!({"schedulerName": "s", "nodeName": "n\"1"});
        assert_eq!(
            after(part.clone(), bound.clone()).unwrap(),
            r#"{"containers":[],"nodeName":"n\"1","schedulerName":"s"}"#
        );
        for (was, now) in [
            (
                bound.clone(),
                json!({"schedulerName": "s", "nodeName": "other"}),
            ),
            (bound, part.clone()),
            (part.clone(), json!({"nodeName": "n"})),
            (part.clone(), json!({"schedulerName": "t", "nodeName": "n"})),
            (part.clone(), json!({"schedulerName": "s", "priority": 1})),
            (part.clone(), Value::Null),
            (Value::Null, part.clone()),
        ] {
            assert_eq!(after(was.clone(), now.clone()), None, "{was} {now}");
        }
        assert_eq!(spec_after(Some(&part), None, text()), None);
    }
}
