//! The three patch types that change a stored object: JSON patch, merge patch and strategic merge
//! patch. Each is a function from the object and the patch to the new object, whose fields the
//! caller then checks like those of any body (`decode::value`).

pub mod json;
pub mod merge;
pub mod strategic;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is not well formed: 400.
    #[error("{0}")]
    BadRequest(String),
    /// The patch does not fit the object: 422.
    #[error("{0}")]
    Unprocessable(String),
    /// The patch does not fit a list of the object, or says what no patch can say. Kubernetes answers 500 without a reason.
    #[error("{0}")]
    Refused(String),
    /// The patch asks for too much: 413.
    #[error("{0}")]
    TooLarge(String),
}

impl PatchError {
    /// Whether a `test` of the patch did not hold.
    pub fn is_failed_test(&self) -> bool {
        matches!(self, PatchError::Unprocessable(text) if text.ends_with(": test failed"))
    }
}
