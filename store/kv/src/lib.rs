//! The model: a revisioned key-value store as a pure state machine.

mod command;
mod message;
mod store;

pub use command::Refusal;
pub use message::*;
pub use store::*;
