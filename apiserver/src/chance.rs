//! Identifiers that nobody else has.

/// A random UUID, of version 4.
pub(crate) fn uuid() -> uuid::Uuid {
    // As one number: bytes would be drawn one by one.
    let random: u128 = host::random();
    uuid::Builder::from_random_bytes(random.to_le_bytes()).into_uuid()
}

/// The text of one.
pub(crate) fn name() -> String {
    let mut room = uuid::Uuid::encode_buffer();
    let uuid = uuid();
    uuid.hyphenated().encode_lower(&mut room).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_random_uuids() {
        let (one, other) = (name(), name());
        assert_ne!(one, other);
        let read = uuid::Uuid::parse_str(&one).unwrap();
        assert_eq!(
            (read.get_version_num(), read.get_variant()),
            (4, uuid::Variant::RFC4122)
        );
        assert_eq!(read.to_string(), one);
    }
}
