//! The crate [`host`](::host), and what openraft takes from it.

mod runtime;

pub use ::host::*;

pub use runtime::Runtime;
