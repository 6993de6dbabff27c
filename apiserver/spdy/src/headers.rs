//! Name/value blocks and their compression.
//!
//! All blocks of a direction share one zlib stream, so that a block must be decompressed even when its frame is
//! refused, and one error ends the session.

use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateError, InflateFlush};

use crate::dictionary::DICTIONARY;

/// A decompressed block may not be larger: a few kilobytes of zlib can hold megabytes.
pub const BLOCK_BYTES_MAX: usize = 32 * 1024;
/// Kubernetes sends three.
pub const HEADERS_MAX: usize = 128;

/// Why a block cannot be read. Always fatal for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("header block does not decompress")]
    Compression,
    #[error("header block is too large")]
    TooLarge,
    #[error("header block is malformed")]
    Malformed,
}

/// The headers of a stream; names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<String>)>);

impl Headers {
    pub fn new(pairs: &[(&str, &str)]) -> Self {
        Headers(
            pairs
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), vec![(*value).to_owned()]))
                .collect(),
        )
    }

    /// The first value of a header; `name` in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, values) = self.0.iter().find(|(own, _)| own == name)?;
        values.first().map(String::as_str)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn to_block(&self) -> Vec<u8> {
        let mut block = Vec::new();
        push_number(&mut block, self.0.len());
        for (name, values) in &self.0 {
            let value = values.join("\0");
            push_number(&mut block, name.len());
            block.extend_from_slice(name.as_bytes());
            push_number(&mut block, value.len());
            block.extend_from_slice(value.as_bytes());
        }
        block
    }

    fn from_block(mut block: &[u8]) -> Result<Self, Error> {
        let count = take_number(&mut block)?;
        if count > HEADERS_MAX {
            return Err(Error::TooLarge);
        }
        let mut headers = Headers::default();
        for _ in 0..count {
            let name = take_text(&mut block)?.to_ascii_lowercase();
            let value = take_text(&mut block)?;
            if name.is_empty() || headers.get(&name).is_some() {
                return Err(Error::Malformed);
            }
            headers
                .0
                .push((name, value.split('\0').map(str::to_owned).collect()));
        }
        if block.is_empty() {
            Ok(headers)
        } else {
            Err(Error::Malformed)
        }
    }
}

fn push_number(block: &mut Vec<u8>, number: usize) {
    block.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

fn take_number(block: &mut &[u8]) -> Result<usize, Error> {
    let (number, rest) = block.split_first_chunk::<4>().ok_or(Error::Malformed)?;
    *block = rest;
    usize::try_from(u32::from_be_bytes(*number)).map_err(|_| Error::Malformed)
}

fn take_text(block: &mut &[u8]) -> Result<String, Error> {
    let length = take_number(block)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Error::Malformed)?;
    *block = rest;
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// Compresses the blocks of one direction.
pub struct Compressor(Deflate);

impl Default for Compressor {
    fn default() -> Self {
        let mut deflate = Deflate::new(6, true, 15);
        deflate
            .set_dictionary(&DICTIONARY)
            .expect("a fresh zlib stream takes a dictionary");
        Compressor(deflate)
    }
}

impl Compressor {
    pub fn compress(&mut self, headers: &Headers) -> Vec<u8> {
        let block = headers.to_block();
        let (mut out, mut chunk, mut consumed) = (Vec::new(), [0_u8; 1024], 0);
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let result = self
                .0
                .compress(&block[consumed..], &mut chunk, DeflateFlush::SyncFlush);
            debug_assert!(result.is_ok(), "deflate of memory to memory cannot fail");
            let written = (self.0.total_out() - before_out) as usize;
            consumed += (self.0.total_in() - before_in) as usize;
            out.extend_from_slice(&chunk[..written]);
            // A sync flush is complete once it leaves room in the output.
            if written < chunk.len() {
                return out;
            }
        }
    }
}

/// Decompresses the blocks of one direction.
pub struct Decompressor(Inflate);

impl Default for Decompressor {
    fn default() -> Self {
        Decompressor(Inflate::new(true, 15))
    }
}

impl Decompressor {
    pub fn decompress(&mut self, input: &[u8]) -> Result<Headers, Error> {
        let (mut block, mut chunk, mut consumed) = (Vec::new(), [0_u8; 4096], 0);
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let result = self
                .0
                .decompress(&input[consumed..], &mut chunk, InflateFlush::SyncFlush);
            let written = (self.0.total_out() - before_out) as usize;
            consumed += (self.0.total_in() - before_in) as usize;
            match result {
                Err(InflateError::NeedDict { .. }) => {
                    // Fails when the peer means another dictionary.
                    self.0
                        .set_dictionary(&DICTIONARY)
                        .map_err(|_| Error::Compression)?;
                    continue;
                }
                // The stream of a session never ends.
                Err(_) | Ok(zlib_rs::Status::StreamEnd) => return Err(Error::Compression),
                Ok(_) => {}
            }
            block.extend_from_slice(&chunk[..written]);
            if block.len() > BLOCK_BYTES_MAX {
                return Err(Error::TooLarge);
            }
            if written < chunk.len() {
                break;
            }
        }
        if consumed < input.len() {
            return Err(Error::Compression);
        }
        Headers::from_block(&block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_direction_round_trip() {
        let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
        let long = "x".repeat(9000);
        let all = [
            Headers::new(&[("streamType", "stdin")]),
            Headers::default(),
            Headers::new(&[("streamtype", "data"), ("port", "8080"), ("requestid", "0")]),
            Headers::new(&[("long", &long)]),
            Headers(vec![("many".into(), vec!["a".into(), "b".into()])]),
        ];
        for headers in all {
            let block = compressor.compress(&headers);
            assert_eq!(decompressor.decompress(&block), Ok(headers));
        }
    }

    #[test]
    fn blocks_name_the_dictionary() {
        let block = Compressor::default().compress(&Headers::new(&[("streamtype", "error")]));
        // zlib header with FDICT set, then the dictionary's Adler-32.
        assert_eq!(block[1] & 0x20, 0x20);
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
        assert_eq!(block[block.len() - 4..], [0, 0, 0xff, 0xff]);
    }

    #[test]
    fn bombs_and_garbage_are_refused() {
        let bomb = Compressor::default().compress(&Headers::new(&[("a", &"x".repeat(10_000_000))]));
        assert!(bomb.len() < 20_000);
        assert_eq!(
            Decompressor::default().decompress(&bomb),
            Err(Error::TooLarge)
        );
        for garbage in [
            &b"garbage"[..],
            &[0x78, 0x9c, 0xff, 0xff],
            &[0x78, 0xbb, 0, 0, 0, 1, 0],
        ] {
            assert_eq!(
                Decompressor::default().decompress(garbage),
                Err(Error::Compression),
                "{garbage:?}"
            );
        }
        // Too short to be a block, which is not an error of zlib.
        assert_eq!(
            Decompressor::default().decompress(&[]),
            Err(Error::Malformed)
        );
    }

    #[test]
    fn malformed_blocks_are_refused() {
        let number = |number: u32| number.to_be_bytes().to_vec();
        let pair = |name: &[u8], value: &[u8]| {
            [
                number(name.len() as u32),
                name.to_vec(),
                number(value.len() as u32),
                value.to_vec(),
            ]
            .concat()
        };
        let table = [
            (number(u32::MAX), Error::TooLarge),
            (number(1), Error::Malformed),
            ([number(1), number(u32::MAX)].concat(), Error::Malformed),
            ([number(1), pair(b"", b"x")].concat(), Error::Malformed),
            (
                [number(2), pair(b"a", b"x"), pair(b"A", b"y")].concat(),
                Error::Malformed,
            ),
            (
                [number(1), pair(b"a", b"x"), vec![0]].concat(),
                Error::Malformed,
            ),
        ];
        for (block, error) in table {
            assert_eq!(Headers::from_block(&block), Err(error), "{block:?}");
        }
    }
}
