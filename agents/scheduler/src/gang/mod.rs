//! GangScheduling: the pods of a group are placed together or not at all.
//!
//! A pod of a group waits outside the queue until as many of its group are there as the group needs ([`Members`]). Then all
//! that wait are decided about in one go, each over what was decided for those before it ([`place`]). If too few find a
//! node, nothing is kept, and less important pods may have to make room ([`room`]). If enough do, they wait for the volumes of each other ([`Held`]) and are bound right after each
//! other. Groups are decided about one after the other, so two of them never hold what the other one needs.

mod held;
mod members;
mod others;
mod place;
#[cfg(test)]
mod property;
mod room;
#[cfg(test)]
mod room_property;
#[cfg(test)]
mod shared_claims;

pub(crate) use held::{Held, Released};
pub(crate) use members::Members;
pub(crate) use others::Others;
pub(crate) use place::{Bound, Verdict, place};
pub(crate) use room::Relief;

use crate::object::Pod;

/// Namespace and name of a group.
pub(crate) type Key = (String, String);

/// What is said of a pod whose group is not there yet, as in Kubernetes.
pub(crate) const INCOMPLETE: &str =
    "waiting for minCount pods from a gang to appear in scheduling queue";

/// The group of a pod, if it has one.
pub(crate) fn key(pod: &Pod) -> Option<Key> {
    let group = pod.group.as_ref()?;
    Some((pod.namespace.clone(), group.name.clone()))
}
