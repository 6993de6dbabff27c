//! One pod on this node: what to do next ([`plan`]), doing it ([`worker`]), and reporting it ([`status`]).

pub(crate) mod admission;
pub(crate) mod backoff;
mod conditions;
pub(crate) mod container;
pub(crate) mod desired;
pub(crate) mod devices;
mod durations;
pub(crate) mod env;
pub(crate) mod handler;
pub(crate) mod launch;
pub(crate) mod plan;
mod prepare;
pub(crate) mod probe;
pub(crate) mod resize;
pub(crate) mod status;
pub(crate) mod stop;
mod terminate;
pub(crate) mod worker;
