//! Identifiers that nobody else has.

/// A random UUID, of version 4.
pub(crate) fn uuid() -> uuid::Uuid {
    uuid::Builder::from_random_bytes(host::random()).into_uuid()
}
