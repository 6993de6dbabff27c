//! Compaction: what may be forgotten.
//!
//! Events below the compacted revision go; events at it stay, because a watch may start exactly there, and so do all
//! later ones, whose previous values rebuild any revision from there on. Live keys are never touched.

use crate::command::Refusal;
use crate::view::{Staged, View};

pub(crate) fn apply(staged: &mut Staged<'_>, revision: i64) -> Result<(), Refusal> {
    let compact_revision = staged.compact_revision();
    if revision <= compact_revision {
        return Err(Refusal::Compacted { compact_revision });
    }
    if revision > staged.revision() {
        return Err(Refusal::FutureRevision);
    }
    staged.set_compact_revision(revision);
    Ok(())
}
