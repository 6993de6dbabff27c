//! Kontiki's own service `kontikipb.Members`: what all members say of themselves, through any of them.

use super::errors::Fault;
use super::headed::Headed;
use super::message::{Empty, ReportsBody};
use super::rpc::Call;

/// Those that answer; served without a quorum.
pub(super) async fn reports(call: Call, _: Empty) -> Result<Headed<ReportsBody>, Fault> {
    let reports = call.front.backend.reports().await;
    Ok(call.front.now(ReportsBody { reports }))
}
