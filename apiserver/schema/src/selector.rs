//! Label selectors (`app=web,tier in (a,b),!old`), field selectors (`metadata.name=x`) and the
//! `LabelSelector` of objects, with the parse errors that Kubernetes gives.

mod field;
mod label;
mod parser;

pub use field::{FieldSelector, FieldTerm, escape};
pub use label::{LabelSelector, Operator, Requirement};

/// Why a selector is not valid; the text is the one of the 400 answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

fn fail<T>(text: String) -> Result<T, SelectorError> {
    Err(SelectorError(text))
}

#[cfg(test)]
mod tests;
