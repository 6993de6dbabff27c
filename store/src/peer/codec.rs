//! Messages between members as bytes: a version byte, then bincode. Both ends run the same version of it or part: a
//! cluster is upgraded one member at a time within versions that share this number.
//!
//! Nothing of this is ever stored; what is on disk has its own formats in [`crate::disk`].

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Of the messages' encoding.
pub const VERSION: u8 = 3;

/// Largest frame. A request is at most a few megabytes; entries are cut to four per message.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

fn config() -> impl bincode::config::Config {
    // The limit also bounds what a length inside a damaged message can make us allocate.
    bincode::config::standard().with_limit::<FRAME_BYTES_MAX>()
}

pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![VERSION];
    bincode::serde::encode_into_std_write(message, &mut bytes, config())
        .map_err(io::Error::other)?;
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message is larger than a frame",
        ));
    }
    Ok(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::wire::{Hello, Lane};

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
}
