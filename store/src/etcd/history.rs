//! Kontiki's own service `kontikipb.History`: between times and revisions, so that a range can be read as of a time.

use super::errors::Fault;
use super::headed::Headed;
use super::message::{MomentBody, RevisionAtRequest, TimeOfRequest};
use super::rpc::Call;
use crate::history::Moment;

/// The newest revision at a time, which may lie in the future. `mvcc: required revision has been compacted` where its
/// data is not there any more.
pub(super) async fn revision_at(
    call: Call,
    request: RevisionAtRequest,
) -> Result<Headed<MomentBody>, Fault> {
    call.front.backend.read_index().await?;
    let moment = call.front.backend.revision_at(request.unix_ms)?;
    Ok(call.front.now(body(moment)))
}

/// When a revision was made. Refused as a read at that revision would be.
pub(super) async fn time_of(
    call: Call,
    request: TimeOfRequest,
) -> Result<Headed<MomentBody>, Fault> {
    call.front.backend.read_index().await?;
    let moment = call.front.backend.time_of(request.revision)?;
    Ok(call.front.now(body(moment)))
}

fn body(moment: Moment) -> MomentBody {
    MomentBody {
        revision: moment.revision,
        unix_ms: moment.unix_ms,
    }
}
