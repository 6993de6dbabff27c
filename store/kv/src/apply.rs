//! The replicated state machine: one match, one function per command.

use crate::command::{
    Command, Done, ENTRY_VERSION, Entry, Lease, LeaseExpire, Refusal, Reply, Response,
};
use crate::view::{Broken, Staged, View};
use crate::{alarm, auth, auth_revision, compact, lease, txn};

/// Applies one entry to staged state. `term` is the term of the log entry that carries it.
///
/// # Errors
/// Only where this member cannot go on: its data cannot be read, or the entry is of a newer version. Whatever a
/// client can get wrong is inside the [`Response`].
pub fn apply(staged: &mut Staged<'_>, entry: &Entry, term: u64) -> Result<Response, Broken> {
    if entry.version > ENTRY_VERSION {
        let text = format!(
            "entry version {} is newer than {ENTRY_VERSION}: upgrade this member",
            entry.version
        );
        return Err(Broken(text));
    }
    let Some(command) = &entry.command else {
        return Err(Broken(
            "an entry of this version has a command that it does not know".into(),
        ));
    };
    staged.set_entry_time(entry.now_ms);
    let was_asked = entry.auth_revision != 0 && auth::is_enabled(staged);
    if was_asked && entry.auth_revision != auth_revision(staged) {
        return Ok(Response {
            revision: staged.revision(),
            body: Err(Refusal::AuthOldRevision),
        });
    }
    if was_asked && !auth::may_write_leases(staged, &command.leases(), &entry.lease_user)? {
        return Ok(Response {
            revision: staged.revision(),
            body: Err(Refusal::PermissionDenied),
        });
    }
    let body = match command {
        Command::Txn(request) => txn::apply(staged, request)?.map(Reply::Txn),
        Command::Compact(request) => compact::apply(staged, request.revision).map(done),
        Command::LeaseGrant(request) => lease::grant(staged, *request).map(Reply::Lease),
        Command::LeaseRevoke(request) => lease::revoke(staged, request.id)?.map(done),
        Command::LeaseExpire(request) => Ok(done(expire(staged, request, term)?)),
        Command::Alarm(change) => Ok(Reply::Alarms(alarm::apply(staged, *change))),
        Command::Auth(change) => auth::apply(staged, change)?.map(done),
    };
    Ok(Response {
        revision: staged.revision(),
        body,
    })
}

fn expire(staged: &mut Staged<'_>, request: &LeaseExpire, term: u64) -> Result<(), Broken> {
    if request.term == term {
        for (place, id) in request.ids.iter().enumerate() {
            let meant = request.nonces.get(place).copied();
            // One of the same id that was granted since is another lease.
            let is_meant = |lease: Lease| meant.is_none_or(|nonce| nonce == lease.nonce);
            if staged.lease(*id).is_some_and(is_meant) {
                // It was looked up just now, so it is there.
                let _: Result<(), Refusal> = lease::revoke(staged, *id)?;
            }
        }
    }
    Ok(())
}

fn done((): ()) -> Reply {
    Reply::Done(Done {})
}
