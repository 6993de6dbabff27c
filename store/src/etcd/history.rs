//! Kontiki's own service `kontikipb.History`: between times and revisions, so that a range can be read as of a time.

use kv::{Refusal, StoreError};

use super::errors::Fault;
use super::headed::Headed;
use super::message::{MomentBody, RevisionAtRequest, TimesBody, TimesOfRequest};
use super::rpc::Call;
use crate::history::Moment;

/// The newest revision at a time, which may lie in the future. `mvcc: required revision has been compacted` where its
/// data is not there any more.
pub(super) async fn revision_at(
    call: Call,
    request: RevisionAtRequest,
) -> Result<Headed<MomentBody>, Fault> {
    call.front.backend.read_index().await?;
    let Moment { revision, unix_ms } = call.front.backend.revision_at(request.unix_ms)?;
    Ok(call.front.now(MomentBody { revision, unix_ms }))
}

/// Most revisions in one question.
const REVISIONS_MAX: usize = 10_000;

/// When revisions were made; 0 of one that is compacted: what a key was when history begins is older than that.
pub(super) async fn times_of(
    call: Call,
    request: TimesOfRequest,
) -> Result<Headed<TimesBody>, Fault> {
    if request.revisions.len() > REVISIONS_MAX {
        return Err(Fault::TooLarge);
    }
    call.front.backend.read_index().await?;
    let front = call.front.clone();
    // Each is a look at the disk.
    let looked_up = crate::host::blocking(move || {
        let time_of = |revision: &i64| match front.backend.time_of(*revision) {
            Err(StoreError::Refused(Refusal::Compacted { .. })) => Ok(0),
            found => found.map(|moment| moment.unix_ms),
        };
        request.revisions.iter().map(time_of).collect()
    });
    let times: Result<Vec<i64>, StoreError> = looked_up.await.map_err(|_| StoreError::Stopped)?;
    Ok(call.front.now(TimesBody { unix_ms: times? }))
}
