//! Everything that names openraft: types, log, state machine, network.

mod kept;
pub mod log;
pub mod machine;
pub mod network;
pub mod standing;
pub mod types;
