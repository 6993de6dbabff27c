//! Users and roles: replicated records, and what may be done under them.

use crate::view::View;

/// Record that holds the revision: eight bytes, big endian.
const REVISION: &[u8] = b"auth/revision";

/// Which users and roles there are, as a number that grows with every change of them; 0 before the first.
pub fn auth_revision(view: &dyn View) -> u64 {
    let record = view.record(REVISION);
    let bytes = record.and_then(|record| record.as_ref().try_into().ok());
    bytes.map_or(0, u64::from_be_bytes)
}
