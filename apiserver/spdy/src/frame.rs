//! Frames of SPDY/3.1 and their bytes.
//!
//! The decoder is fed with whatever arrives. It never holds more than one control frame: the payload of a data frame
//! is handed on as it comes, so that a frame's announced length, up to 16 MiB, costs nothing.

use bytes::{Buf, Bytes, BytesMut};

use crate::headers::{self, Compressor, Decompressor, Headers};

/// A control frame may not be larger than this on the wire.
pub const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// The three bytes of a length.
const LENGTH_MAX: usize = (1 << 24) - 1;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
const ID_MASK: u32 = 0x7fff_ffff;

/// Status codes of RST_STREAM.
pub mod reset {
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INVALID_STREAM: u32 = 2;
    pub const REFUSED_STREAM: u32 = 3;
    pub const CANCEL: u32 = 5;
    pub const INTERNAL_ERROR: u32 = 6;
    pub const FLOW_CONTROL_ERROR: u32 = 7;
    pub const STREAM_ALREADY_CLOSED: u32 = 9;
}

/// Status codes of GOAWAY.
pub mod goaway {
    pub const OK: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
}

/// The setting for the initial window of streams.
pub const SETTING_INITIAL_WINDOW: u32 = 7;

/// One frame. `Data` may be a part of a frame; `fin` then comes with the last part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        id: u32,
        associated: u32,
        priority: u8,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    },
    SynReply {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    RstStream {
        id: u32,
        status: u32,
    },
    /// `(id, value)` of each setting.
    Settings(Vec<(u32, u32)>),
    Ping(u32),
    GoAway {
        last_good: u32,
        status: u32,
    },
    Headers {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    WindowUpdate {
        id: u32,
        delta: u32,
    },
    Data {
        id: u32,
        fin: bool,
        bytes: Bytes,
    },
}

/// Why the bytes of a peer are not SPDY/3. Always fatal for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unsupported SPDY version {0}")]
    Version(u16),
    #[error("control frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("malformed frame of type {0}")]
    Malformed(u16),
    #[error(transparent)]
    Headers(#[from] headers::Error),
}

/// Takes bytes, gives frames.
#[derive(Default)]
pub struct Decoder {
    buffer: BytesMut,
    decompressor: Decompressor,
    data: Option<DataFrame>,
}

struct DataFrame {
    id: u32,
    fin: bool,
    remaining: usize,
}

impl Decoder {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, or `None` when more bytes are needed. Unknown control frames are skipped.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(data) = &mut self.data {
                if data.remaining > 0 && self.buffer.is_empty() {
                    return Ok(None);
                }
                let bytes = self
                    .buffer
                    .split_to(data.remaining.min(self.buffer.len()))
                    .freeze();
                data.remaining -= bytes.len();
                let (id, last) = (data.id, data.remaining == 0);
                let fin = last && data.fin;
                if last {
                    self.data = None;
                }
                return Ok(Some(Frame::Data { id, fin, bytes }));
            }
            let Some(head) = self.buffer.first_chunk::<8>() else {
                return Ok(None);
            };
            let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let flags = head[4];
            let length =
                usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
            if first & !ID_MASK == 0 {
                self.buffer.advance(8);
                self.data = Some(DataFrame {
                    id: first,
                    fin: flags & FLAG_FIN != 0,
                    remaining: length,
                });
                continue;
            }
            let (version, kind) = ((first >> 16 & 0x7fff) as u16, (first & 0xffff) as u16);
            if version != VERSION {
                return Err(Error::Version(version));
            }
            if length > CONTROL_BYTES_MAX {
                return Err(Error::TooLarge(length));
            }
            if self.buffer.len() < 8 + length {
                return Ok(None);
            }
            self.buffer.advance(8);
            let payload = self.buffer.split_to(length);
            if let Some(frame) = self.control(kind, flags, &payload)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> Result<Option<Frame>, Error> {
        let malformed = Error::Malformed(kind);
        let number = |index: usize| -> Result<u32, Error> {
            let bytes = payload
                .get(index * 4..)
                .and_then(|rest| rest.first_chunk::<4>())
                .ok_or(malformed)?;
            Ok(u32::from_be_bytes(*bytes))
        };
        let id = |index: usize| number(index).map(|number| number & ID_MASK);
        let exactly = |length: usize| {
            if payload.len() == length {
                Ok(())
            } else {
                Err(malformed)
            }
        };
        let fin = flags & FLAG_FIN != 0;
        let frame = match kind {
            1 => {
                let block = payload.get(10..).ok_or(malformed)?;
                let headers = self.decompressor.decompress(block)?;
                let unidirectional = flags & FLAG_UNIDIRECTIONAL != 0;
                Frame::SynStream {
                    id: id(0)?,
                    associated: id(1)?,
                    priority: payload[8] >> 5,
                    fin,
                    unidirectional,
                    headers,
                }
            }
            2 => Frame::SynReply {
                id: id(0)?,
                fin,
                headers: self
                    .decompressor
                    .decompress(payload.get(4..).ok_or(malformed)?)?,
            },
            3 => {
                exactly(8)?;
                Frame::RstStream {
                    id: id(0)?,
                    status: number(1)?,
                }
            }
            4 => {
                let count = number(0)? as usize;
                exactly(
                    count
                        .checked_mul(8)
                        .and_then(|bytes| bytes.checked_add(4))
                        .ok_or(malformed)?,
                )?;
                let settings = (0..count).map(|index| {
                    Ok((number(1 + 2 * index)? & 0x00ff_ffff, number(2 + 2 * index)?))
                });
                Frame::Settings(settings.collect::<Result<_, Error>>()?)
            }
            6 => {
                exactly(4)?;
                Frame::Ping(number(0)?)
            }
            7 => {
                exactly(8)?;
                Frame::GoAway {
                    last_good: id(0)?,
                    status: number(1)?,
                }
            }
            8 => Frame::Headers {
                id: id(0)?,
                fin,
                headers: self
                    .decompressor
                    .decompress(payload.get(4..).ok_or(malformed)?)?,
            },
            9 => {
                exactly(8)?;
                Frame::WindowUpdate {
                    id: id(0)?,
                    delta: id(1)?,
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(frame))
    }
}

/// Takes frames, gives bytes.
#[derive(Default)]
pub struct Encoder {
    compressor: Compressor,
}

impl Encoder {
    /// Appends the bytes of a frame. Data of more than 16 MiB is split.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) {
        let fin_flag = |fin: bool| if fin { FLAG_FIN } else { 0 };
        match frame {
            Frame::SynStream {
                id,
                associated,
                priority,
                fin,
                unidirectional,
                headers,
            } => {
                let flags = fin_flag(*fin)
                    | if *unidirectional {
                        FLAG_UNIDIRECTIONAL
                    } else {
                        0
                    };
                let block = self.compressor.compress(headers);
                control(
                    out,
                    1,
                    flags,
                    &[
                        &id.to_be_bytes(),
                        &associated.to_be_bytes(),
                        &[priority << 5, 0],
                        &block,
                    ],
                );
            }
            Frame::SynReply { id, fin, headers } => {
                let block = self.compressor.compress(headers);
                control(out, 2, fin_flag(*fin), &[&id.to_be_bytes(), &block]);
            }
            Frame::RstStream { id, status } => {
                control(out, 3, 0, &[&id.to_be_bytes(), &status.to_be_bytes()])
            }
            Frame::Settings(settings) => {
                let count = u32::try_from(settings.len())
                    .unwrap_or(u32::MAX)
                    .to_be_bytes();
                let entries: Vec<u8> = settings
                    .iter()
                    .flat_map(|(id, value)| [id.to_be_bytes(), value.to_be_bytes()].concat())
                    .collect();
                control(out, 4, 0, &[&count, &entries]);
            }
            Frame::Ping(id) => control(out, 6, 0, &[&id.to_be_bytes()]),
            Frame::GoAway { last_good, status } => control(
                out,
                7,
                0,
                &[&last_good.to_be_bytes(), &status.to_be_bytes()],
            ),
            Frame::Headers { id, fin, headers } => {
                let block = self.compressor.compress(headers);
                control(out, 8, fin_flag(*fin), &[&id.to_be_bytes(), &block]);
            }
            Frame::WindowUpdate { id, delta } => {
                control(out, 9, 0, &[&id.to_be_bytes(), &delta.to_be_bytes()])
            }
            Frame::Data { id, fin, bytes } => {
                let mut rest = bytes.as_ref();
                loop {
                    let (part, after) = rest.split_at(rest.len().min(LENGTH_MAX));
                    rest = after;
                    out.extend_from_slice(&id.to_be_bytes());
                    flags_and_length(out, fin_flag(*fin && rest.is_empty()), part.len());
                    out.extend_from_slice(part);
                    if rest.is_empty() {
                        break;
                    }
                }
            }
        }
    }
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, parts: &[&[u8]]) {
    out.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    flags_and_length(out, flags, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn flags_and_length(out: &mut BytesMut, flags: u8, length: usize) {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[flags, length[1], length[2], length[3]]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> Vec<Frame> {
        let headers = Headers::new(&[("streamtype", "stdin")]);
        vec![
            Frame::SynStream {
                id: 1,
                associated: 0,
                priority: 3,
                fin: false,
                unidirectional: true,
                headers: headers.clone(),
            },
            Frame::SynReply {
                id: 1,
                fin: true,
                headers: Headers::default(),
            },
            Frame::RstStream {
                id: 3,
                status: reset::CANCEL,
            },
            Frame::Settings(vec![(SETTING_INITIAL_WINDOW, 65536), (4, 100)]),
            Frame::Ping(u32::MAX),
            Frame::GoAway {
                last_good: 5,
                status: goaway::OK,
            },
            Frame::Headers {
                id: 1,
                fin: false,
                headers,
            },
            Frame::WindowUpdate { id: 1, delta: 10 },
            Frame::Data {
                id: 1,
                fin: false,
                bytes: Bytes::from_static(b"hello"),
            },
            Frame::Data {
                id: 1,
                fin: true,
                bytes: Bytes::new(),
            },
        ]
    }

    fn encode(frames: &[Frame]) -> BytesMut {
        let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
        frames
            .iter()
            .for_each(|frame| encoder.encode(frame, &mut out));
        out
    }

    fn decode(bytes: &[u8], chunk: usize) -> Result<Vec<Frame>, Error> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        for part in bytes.chunks(chunk) {
            decoder.feed(part);
            while let Some(frame) = decoder.next_frame()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_round_trip_whole_and_byte_by_byte() {
        let bytes = encode(&frames());
        assert_eq!(decode(&bytes, bytes.len()), Ok(frames()));
        let parts = decode(&bytes, 1).unwrap();
        let data: Vec<u8> = parts
            .iter()
            .filter_map(|frame| {
                if let Frame::Data { bytes, .. } = frame {
                    Some(bytes.to_vec())
                } else {
                    None
                }
            })
            .flatten()
            .collect();
        assert_eq!(data, b"hello");
        assert_eq!(
            parts.last(),
            Some(&Frame::Data {
                id: 1,
                fin: true,
                bytes: Bytes::new()
            })
        );
    }

    #[test]
    fn bytes_are_those_of_the_protocol() {
        let bytes = encode(&[
            Frame::Ping(1),
            Frame::RstStream { id: 1, status: 3 },
            Frame::Data {
                id: 5,
                fin: true,
                bytes: Bytes::from_static(b"ab"),
            },
        ]);
        assert_eq!(
            bytes.as_ref(),
            [
                [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1].as_slice(),
                &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 3],
                &[0, 0, 0, 5, 1, 0, 0, 2, b'a', b'b']
            ]
            .concat()
        );
    }

    #[test]
    fn large_lengths_cost_nothing() {
        // A data frame of 16 MiB of which only the head arrives.
        let mut decoder = Decoder::default();
        decoder.feed(&[0, 0, 0, 1, 1, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.feed(b"xyz");
        assert_eq!(
            decoder.next_frame(),
            Ok(Some(Frame::Data {
                id: 1,
                fin: false,
                bytes: Bytes::from_static(b"xyz")
            }))
        );
        assert!(decoder.buffer.is_empty());
        // A control frame of that length is refused before anything of it is read.
        assert_eq!(
            decode(&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff], 8),
            Err(Error::TooLarge(0xff_ffff))
        );
    }

    #[test]
    fn malformed_frames_are_refused() {
        let table: &[(&[u8], Error)] = &[
            (&[0x80, 2, 0, 1, 0, 0, 0, 0], Error::Version(2)),
            (&[0x80, 3, 0, 6, 0, 0, 0, 3, 1, 2, 3], Error::Malformed(6)),
            (
                &[0x80, 3, 0, 1, 0, 0, 0, 4, 1, 2, 3, 4],
                Error::Malformed(1),
            ),
            (
                &[0x80, 3, 0, 4, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff],
                Error::Malformed(4),
            ),
            (
                &[0x80, 3, 0, 4, 0, 0, 0, 4, 0x20, 0, 0, 0],
                Error::Malformed(4),
            ),
            (&[0x80, 3, 0, 7, 0, 0, 0, 0], Error::Malformed(7)),
            (
                &[0x80, 3, 0, 2, 0, 0, 0, 8, 0, 0, 0, 1, 1, 2, 3, 4],
                Error::Headers(headers::Error::Compression),
            ),
        ];
        for (bytes, error) in table {
            assert_eq!(decode(bytes, bytes.len()), Err(*error), "{bytes:?}");
        }
        // An unknown type is skipped.
        assert_eq!(
            decode(
                &[
                    0x80, 3, 0, 10, 0, 0, 0, 2, 1, 2, 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9
                ],
                3
            ),
            Ok(vec![Frame::Ping(9)])
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), chunk in 1_usize..50) {
            let _ = decode(&bytes, chunk);
        }

        #[test]
        fn no_control_frame_panics(kind in 0_u8..12, flags: u8, payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            let bytes = [&[0x80, 3, 0, kind, flags, 0, 0, payload.len() as u8], payload.as_slice()].concat();
            let _ = decode(&bytes, 7);
        }
    }
}
