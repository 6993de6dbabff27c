//! etcd's Auth service, as far as it is there: authentication is by certificate, and there are no users or roles.

use super::errors::Fault;
use super::headed::Headed;
use super::message::{AuthStatusBody, Empty};
use super::rpc::Call;

pub(super) async fn status(call: Call, _: Empty) -> Result<Headed<AuthStatusBody>, Fault> {
    Ok(call.front.now(AuthStatusBody {
        enabled: false,
        // Of an etcd whose users were never touched.
        auth_revision: 1,
    }))
}
