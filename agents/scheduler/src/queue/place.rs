//! Where a pod stands in the queue, and what stands before it.

use crate::snapshot::Millis;
use agent_runtime::timestamp::Micros;
use std::cmp::Reverse;

/// Where a pod waits; the key by which it stands there, so that it can be found again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Active(Standing),
    Backoff(Millis, String),
    /// After an error, as opposed to a refusal; not taken early.
    ErrorBackoff(Millis, String),
    Unschedulable(Millis, String),
    Gated(String),
}

impl Place {
    /// The namespace whose turn has to come.
    pub(super) fn takes_turns(&self) -> Option<&str> {
        match self {
            Place::Active(standing) if !standing.namespace.is_empty() => Some(&standing.namespace),
            _ => None,
        }
    }

    pub(super) fn uid(&self) -> &str {
        match self {
            Place::Active(Standing { uid, .. })
            | Place::Backoff(_, uid)
            | Place::ErrorBackoff(_, uid)
            | Place::Unschedulable(_, uid)
            | Place::Gated(uid) => uid,
        }
    }
}

/// Where an active pod stands. The fields are compared in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    /// The namespace where namespaces take turns; empty for pods that are not part of that.
    pub(super) namespace: String,
    /// From the plugin that sorts.
    pub(super) rank: i64,
    pub(super) priority: Reverse<i32>,
    pub(super) since: Millis,
    pub(super) created: Micros,
    pub(super) uid: String,
}

impl Standing {
    /// Before all of the namespace.
    pub(super) fn first_of(namespace: &str) -> Standing {
        Standing {
            namespace: namespace.to_owned(),
            rank: i64::MIN,
            priority: Reverse(i32::MAX),
            since: 0,
            created: Micros::MIN,
            uid: String::new(),
        }
    }
}

pub(super) fn same_pool(a: &Place, b: &Place) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}
