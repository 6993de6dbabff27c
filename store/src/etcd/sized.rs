//! An answer of one message that is not in memory as a whole: its length stands before it, so the rest can follow as it
//! is read, pulled by the client's window.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use kv::{PartStream, RangeParts, RangeResponse};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use super::errors::Fault;
use super::headed::Header;

/// Largest message of gRPC in Go.
const MESSAGE_BYTES_MAX: u64 = i32::MAX as u64;
/// An answer of so many bytes is sent in one piece.
const WHOLE_BYTES: u64 = 64 << 10;

/// See the module head. Encoded fields, in the order in which they are sent.
pub(super) struct SizedAnswer {
    before: Bytes,
    bytes: u64,
    parts: PartStream,
    after: Bytes,
}

impl SizedAnswer {
    pub(super) fn of_range(header: &Header, range: RangeParts) -> SizedAnswer {
        let mut before = Vec::new();
        prost::encoding::message::encode(1, header, &mut before);
        let after = RangeResponse {
            kvs: Vec::new(),
            more: range.more,
            count: range.count,
        };
        SizedAnswer {
            before: before.into(),
            bytes: range.bytes,
            parts: range.parts,
            after: after.encode_to_vec().into(),
        }
    }

    /// As a response of gRPC. What fails before its first byte is a status; later the stream is reset, so that nobody
    /// takes a part for the whole.
    pub(super) async fn into_http(mut self) -> Result<Response<Body>, Fault> {
        let length = self.before.len() as u64 + self.bytes + self.after.len() as u64;
        if length > MESSAGE_BYTES_MAX {
            return Err(Fault::AnswerTooLarge(length));
        }
        let whole = self.bytes <= WHOLE_BYTES;
        let pairs = if whole { self.bytes as usize } else { 0 };
        let mut first = BytesMut::with_capacity(5 + self.before.len() + pairs + self.after.len());
        first.put_u8(0);
        first.put_u32(length as u32);
        first.put_slice(&self.before);
        if !whole {
            let rest = self.parts.chain(stream::iter([Ok(self.after)]));
            let rest = rest.map(|part| part.map_err(|error| Status::from(Fault::from(error))));
            return Ok(response(stream::iter([Ok(first.freeze())]).chain(rest)));
        }
        while let Some(part) = self.parts.next().await {
            first.put_slice(&part?);
        }
        first.put_slice(&self.after);
        Ok(response(stream::iter([Ok(first.freeze())])))
    }
}

fn response(data: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let data = data.map(|data| data.map(Frame::data));
    let frames = data.chain(stream::iter([Ok(Frame::trailers(trailers))]));
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}
