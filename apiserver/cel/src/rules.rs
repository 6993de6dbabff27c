//! `x-kubernetes-validations` of custom resources: compiled with the schema, run when objects are written.
//!
//! - `types`: what a schema says about values, as types of the language
//! - `compile`: the rules of a schema, and what is wrong with them
//! - `estimate`: what a rule may cost at most
//! - `validate`: an object against them

mod compile;
mod estimate;
mod types;
mod validate;

#[cfg(test)]
mod tests;

pub use compile::{Rules, check};
pub use validate::Judgement;
pub(crate) use validate::fit as fit_message;
