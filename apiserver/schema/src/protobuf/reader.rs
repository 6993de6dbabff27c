//! The fields of one protobuf message, one after the other. Every length is checked against what is left.

use super::ProtobufError;

/// A cursor over the bytes of one message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// The content of one field, by wire type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// No field of the API has this type, so its value is not kept.
    Fixed32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0u64;
        for (i, byte) in self.rest.iter().enumerate() {
            if i == 10 || i == 9 && *byte > 1 {
                return Err(ProtobufError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(ProtobufError::UnexpectedEnd)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(ProtobufError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(ProtobufError::UnexpectedEnd)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next field, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Wire<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).map_err(|_| ProtobufError::Tag(key >> 3))?;
        if tag == 0 {
            return Err(ProtobufError::Tag(0));
        }
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| ProtobufError::UnexpectedEnd)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.fixed::<4>()?;
                Wire::Fixed32
            }
            wire_type => {
                return Err(ProtobufError::WireType {
                    wire_type: wire_type as u8,
                    field: tag.to_string(),
                });
            }
        };
        Ok(Some((tag, wire)))
    }
}

impl<'a> Wire<'a> {
    fn wire_type(self) -> u8 {
        match self {
            Wire::Varint(_) => 0,
            Wire::Fixed64(_) => 1,
            Wire::Bytes(_) => 2,
            Wire::Fixed32 => 5,
        }
    }

    pub(super) fn wrong(self, field: &str) -> ProtobufError {
        ProtobufError::WireType {
            wire_type: self.wire_type(),
            field: field.to_owned(),
        }
    }

    pub(super) fn bytes(self, field: &str) -> Result<&'a [u8], ProtobufError> {
        match self {
            Wire::Bytes(bytes) => Ok(bytes),
            other => Err(other.wrong(field)),
        }
    }

    pub(super) fn varint(self, field: &str) -> Result<u64, ProtobufError> {
        match self {
            Wire::Varint(value) => Ok(value),
            other => Err(other.wrong(field)),
        }
    }

    pub(super) fn text(self, field: &str) -> Result<String, ProtobufError> {
        Ok(String::from_utf8_lossy(self.bytes(field)?).into_owned())
    }
}

/// The last occurrence of a tag, which is the one that counts.
pub(super) fn last(bytes: &[u8], tag: u32) -> Result<Option<Wire<'_>>, ProtobufError> {
    let mut found = None;
    let mut reader = Reader::new(bytes);
    while let Some((t, wire)) = reader.next()? {
        if t == tag {
            found = Some(wire);
        }
    }
    Ok(found)
}
