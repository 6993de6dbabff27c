//! Whether an object goes, given what became of its owners. Pure.

use super::{FOREGROUND, ORPHAN, has_finalizer};
use agent_runtime::Propagation;
use agent_runtime::kinds::{ObjectMeta, OwnerReference};

/// An owner, as a live read found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    /// It exists.
    Solid,
    /// It is being deleted in the foreground and waits for its dependents.
    WaitsForDependents,
    /// It does not exist (or another incarnation does).
    Absent,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Keep,
    /// Another owner keeps it: the references to these go.
    DropReferences(Vec<String>),
    /// It goes. `unblock`: it must first stop blocking owners that wait for it.
    Delete {
        policy: Propagation,
        unblock: bool,
    },
}

pub(super) fn decide(
    meta: &ObjectMeta,
    owners: &[(OwnerReference, OwnerState)],
    has_dependents: bool,
    dependents_wait: bool,
) -> Decision {
    // What is being deleted needs no second push, and what has no owners is nobody's dependent.
    if owners.is_empty() || meta.is_deleting() {
        return Decision::Keep;
    }
    let with = |state: OwnerState| {
        owners
            .iter()
            .filter(move |(_, s)| *s == state)
            .map(|(reference, _)| reference.uid.clone())
    };
    if with(OwnerState::Solid).next().is_some() {
        let lost: Vec<String> = with(OwnerState::Absent)
            .chain(with(OwnerState::WaitsForDependents))
            .collect();
        return if lost.is_empty() {
            Decision::Keep
        } else {
            Decision::DropReferences(lost)
        };
    }
    if with(OwnerState::WaitsForDependents).next().is_some() && has_dependents {
        return Decision::Delete {
            policy: Propagation::Foreground,
            unblock: dependents_wait,
        };
    }
    let policy = if has_finalizer(meta, ORPHAN) {
        Propagation::Orphan
    } else if has_finalizer(meta, FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    Decision::Delete {
        policy,
        unblock: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_solid_owner_is_enough() {
        use OwnerState::{Absent, Solid, WaitsForDependents};
        let meta = ObjectMeta::default();
        let owners = |states: &[OwnerState]| {
            states
                .iter()
                .enumerate()
                .map(|(i, s)| {
                    (
                        OwnerReference {
                            uid: i.to_string(),
                            ..OwnerReference::default()
                        },
                        *s,
                    )
                })
                .collect::<Vec<_>>()
        };
        let background = Decision::Delete {
            policy: Propagation::Background,
            unblock: false,
        };
        assert_eq!(decide(&meta, &[], true, false), Decision::Keep);
        assert_eq!(
            decide(&meta, &owners(&[Solid]), false, false),
            Decision::Keep
        );
        assert_eq!(
            decide(&meta, &owners(&[Absent, Solid]), false, false),
            Decision::DropReferences(vec!["0".into()])
        );
        assert_eq!(decide(&meta, &owners(&[Absent]), true, false), background);
        assert_eq!(
            decide(&meta, &owners(&[WaitsForDependents]), false, false),
            background
        );
        assert_eq!(
            decide(&meta, &owners(&[WaitsForDependents, Absent]), true, true),
            Decision::Delete {
                policy: Propagation::Foreground,
                unblock: true
            }
        );
        let deleting = ObjectMeta {
            deletion_timestamp: Some(Box::new("x".into())),
            ..ObjectMeta::default()
        };
        assert_eq!(
            decide(&deleting, &owners(&[Absent]), false, false),
            Decision::Keep
        );
    }
}
