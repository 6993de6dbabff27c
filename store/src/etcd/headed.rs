//! An answer with etcd's header: field 1 is the header, all others are the body's own.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
    #[prost(uint64, tag = "4")]
    pub(super) raft_term: u64,
}

/// `kv`'s messages leave field 1 free for the header, so an answer is the header followed by the body's fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Headed<T> {
    pub(super) header: Header,
    pub(super) body: T,
}

impl<T: Message> Message for Headed<T> {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        prost::encoding::message::encode(1, &self.header, buffer);
        self.body.encode_raw(buffer);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => prost::encoding::message::merge(wire_type, &mut self.header, buffer, context),
            _ => self.body.merge_field(tag, wire_type, buffer, context),
        }
    }

    fn encoded_len(&self) -> usize {
        prost::encoding::message::encoded_len(1, &self.header) + self.body.encoded_len()
    }

    fn clear(&mut self) {
        self.header.clear();
        self.body.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_stands_before_the_bodys_fields() {
        let answer = Headed {
            header: Header {
                revision: 5,
                ..Default::default()
            },
            body: kv::RangeResponse {
                count: 3,
                ..Default::default()
            },
        };
        // Field 1 (length 2: field 3 = 5), then field 4 = 3.
        assert_eq!(answer.encode_to_vec(), [0x0a, 2, 0x18, 5, 0x20, 3]);
        assert_eq!(
            Headed::<kv::RangeResponse>::decode(&answer.encode_to_vec()[..]).unwrap(),
            answer
        );
    }
}
