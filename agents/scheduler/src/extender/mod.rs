//! Extenders: servers of somebody else that are asked about a decision over HTTP.
//!
//! The decision itself stays pure, with what they say as a value among others: first the nodes are found that all plugins pass;
//! then the extenders are asked about these, one after the other ([`Asked`]); then it is decided with their answers
//! ([`schedule_asked`](crate::schedule::schedule_asked)). What is sent and how answers read is in [`wire`], what they say
//! of victims in [`victims`], and all that waits for them in [`reach`].
//!
//! A pod in which no extender is interested goes its way without any of this.

mod asked;
mod reach;
mod victims;
mod wire;

pub(crate) use asked::Asked;
pub(crate) use reach::{Extenders, Reached, whole};

/// What stands among the plugins that have refused a pod: whatever changes may have changed an extender's mind.
pub(crate) const NAME: &str = "Extender";
