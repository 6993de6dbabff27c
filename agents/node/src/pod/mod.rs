//! One pod on this node: what to do next ([`plan`]), doing it ([`worker`]), and reporting it ([`status`]).

pub(crate) mod backoff;
pub(crate) mod container;
pub(crate) mod env;
pub(crate) mod handler;
mod launch;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod status;
mod stop;
pub(crate) mod worker;
