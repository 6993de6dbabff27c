//! The whole state at one moment, for archives.

use std::ops::ControlFlow;

use bytes::Bytes;
use kv::{KeyRange, StoreError};

use crate::raft::machine::Replica;

/// A part of an export; the head comes first, then leases, then records, then live keys in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Exported {
    Head {
        revision: i64,
        compact_revision: i64,
    },
    Lease(kv::Lease),
    Record {
        name: Bytes,
        value: Bytes,
    },
    Key(kv::KeyValue),
}

pub(crate) type Visit<'a> = &'a mut dyn FnMut(Exported) -> ControlFlow<()>;

impl Replica {
    /// Shows the visitor the state as it is at the call, whatever is written meanwhile. Blocks.
    pub(crate) fn export(&self, visit: Visit<'_>) -> Result<(), StoreError> {
        let catalog = self.catalog();
        let db = self.disk().opened();
        let data = db.scan_snapshot();
        let leases: Vec<kv::Lease> = catalog.leases().map(|record| record.lease).collect();
        let records: Vec<Exported> = catalog
            .records(b"")
            .map(|(name, value)| Exported::Record {
                name: name.clone(),
                value: value.clone(),
            })
            .collect();
        let head = Exported::Head {
            revision: catalog.revision(),
            compact_revision: catalog.compact_revision(),
        };
        // From here on the snapshot keeps what was then; the catalog is for the writers again.
        drop(catalog);
        let leases = leases.into_iter().map(Exported::Lease);
        let parts = std::iter::once(head).chain(leases).chain(records);
        for part in parts {
            if visit(part).is_break() {
                return Ok(());
            }
        }
        let scanned = data.scan(&KeyRange::all(), &mut |kv| visit(Exported::Key(kv)));
        scanned.map_err(|broken| {
            tracing::error!(error = %broken, "the state cannot be read");
            StoreError::Stopped
        })
    }
}
