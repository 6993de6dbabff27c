//! The short way of a change that leaves `spec` as it is and needs to know little of that: its text goes into the new state
//! as it stands in the old one, and is not made into a tree, copied, compared and taken apart again. The managed fields stay
//! text, too, but for the entries that the write touches. Whatever is not plainly a write, decided on the cached object, goes
//! the long way.

use std::sync::Arc;

use resources::Resource;

use super::current::AroundSpec;
use super::written::{Shown, written_around};
use super::{Commit, Decide, Outcome, Step};
use crate::ApiServer;
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
        let needed = decide.needed_of_spec();
        let Some(current) = needed.and_then(|needed| self.around_spec(resource, key, needed))
        else {
            return Ok(Tried::Left);
        };
        let AroundSpec {
            object: old,
            entries,
            revision,
            spec,
        } = current;
        let step = decide.decide_around_spec(&old, entries).await;
        let Ok(Step::Write(object, extra)) = step else {
            return Ok(Tried::Left);
        };
        if object.get(&["spec"]) != old.get(&["spec"]) {
            return Ok(Tried::Left);
        }
        let written = written_around(object, &spec)?;
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
