//! The targets, by what they read.

pub(crate) mod bodies;
pub(crate) mod credentials;
pub(crate) mod kinds;
pub(crate) mod patches;
pub(crate) mod texts;
pub(crate) mod tunnels;

/// The input as text, as far as it is text.
fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
