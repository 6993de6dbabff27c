//! Messages between members as bytes: a version byte, then bincode. Both ends run the same version of it or part: a
//! cluster is upgraded one member at a time within versions that share this number.
//!
//! Nothing of this is ever stored; what is on disk has its own formats in [`crate::disk`].

use std::{fmt, io};

use bytes::Bytes;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserializer, Serialize};

/// Of the messages' encoding.
pub const VERSION: u8 = 3;

/// Largest frame. A request is at most a few megabytes; entries are cut to four per message.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

fn config() -> impl bincode::config::Config {
    // The limit also bounds what a length inside a damaged message can make us allocate.
    bincode::config::standard().with_limit::<FRAME_BYTES_MAX>()
}

pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode_into(message, &mut bytes)?;
    Ok(bytes)
}

/// As [`encode`], in the place of what is in `bytes`. After an error nobody knows what is.
pub fn encode_into<T: Serialize>(message: &T, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    bytes.push(VERSION);
    bincode::serde::encode_into_std_write(message, bytes, config()).map_err(io::Error::other)?;
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message is larger than a frame",
        ));
    }
    Ok(())
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    match bytes.split_first() {
        Some((&VERSION, body)) => {
            let (message, used) = bincode::serde::decode_from_slice(body, config())
                .map_err(|error| invalid(error.to_string()))?;
            if used != body.len() {
                return Err(invalid(format!(
                    "{} bytes follow the message",
                    body.len() - used
                )));
            }
            Ok(message)
        }
        Some((other, _)) => Err(invalid(format!(
            "message version {other}; this member speaks {VERSION}"
        ))),
        None => Err(invalid("an empty message".into())),
    }
}

/// Takes [`Bytes`] out of a message by one copy. Their own way to do so makes as many zeros first.
pub fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    struct Copied;

    impl Visitor<'_> for Copied {
        type Value = Bytes;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            Ok(Bytes::copy_from_slice(bytes))
        }
    }

    deserializer.deserialize_bytes(Copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::wire::{Call, Hello, Lane, Request};
    use crate::raft::types::Proposal;

    #[test]
    fn refuses_other_versions_and_trailing_bytes() {
        let hello = Hello {
            cluster_id: 1,
            from: 2,
            to: 3,
            lane: Lane::Append,
            incarnation: 4,
            to_incarnation: 5,
            membership: None,
        };
        let bytes = encode(&hello).unwrap();
        assert_eq!(decode::<Hello>(&bytes).unwrap(), hello);
        let mut other = bytes.clone();
        other[0] = 9;
        assert!(
            decode::<Hello>(&other)
                .unwrap_err()
                .to_string()
                .contains("version 9")
        );
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode::<Hello>(&longer).is_err());
        for len in 0..bytes.len() {
            assert!(decode::<Hello>(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn a_lying_length_does_not_allocate() {
        // A vector that claims 2^60 elements.
        let lie = [VERSION, 253, 0, 0, 0, 0, 0, 0, 0, 16];
        assert!(decode::<Vec<u8>>(&lie).is_err());
    }

    #[test]
    fn bytes_are_on_the_wire_what_they_always_were() {
        for length in [0, 1, 250, 251, 70_000] {
            let bytes = Bytes::from(vec![7; length]);
            let plain = encode(&bytes).unwrap();
            assert_eq!(decode::<Bytes>(&plain).unwrap(), bytes);
            let proposal = Proposal(bytes.clone());
            assert_eq!(encode(&proposal).unwrap(), plain);
            assert_eq!(decode::<Proposal>(&plain).unwrap(), proposal);
            let request = Request::Propose(bytes.clone());
            let mut call = encode(&Call { id: 1, request }).unwrap();
            let Request::Propose(found) = decode::<Call>(&call).unwrap().request else {
                panic!("another request");
            };
            assert_eq!(found, bytes);
            if length > 0 {
                call.pop();
                assert!(decode::<Call>(&call).is_err());
            }
        }
    }

    #[test]
    fn what_was_encoded_before_is_replaced() {
        let mut bytes = encode(&"a".repeat(100)).unwrap();
        encode_into(&5_u64, &mut bytes).unwrap();
        assert_eq!(bytes, encode(&5_u64).unwrap());
    }
}
