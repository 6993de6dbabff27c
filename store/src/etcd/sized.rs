//! Answers as they are sent: one message, one that is not in memory as a whole (its length stands before it, so the rest
//! can follow as it is read, pulled by the client's window), or a stream of them.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use kv::{PartStream, RangeParts, RangeResponse};
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{BufferSettings, EncodeBody, SingleMessageCompressionOverride};
use tonic_prost::ProstCodec;

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

/// One message.
pub(super) fn whole(message: &impl Message) -> Result<Response<Body>, Fault> {
    let length = message.encoded_len() as u64;
    if length > MESSAGE_BYTES_MAX {
        return Err(Fault::AnswerTooLarge(length));
    }
    let mut frame = BytesMut::with_capacity(5 + length as usize);
    frame.put_u8(0);
    frame.put_u32(length as u32);
    message.encode_raw(&mut frame);
    Ok(response(stream::iter([Ok(frame.freeze())])))
}

/// Messages as they come; one that is an error is the last.
pub(super) fn streamed<A: Message + 'static>(
    answers: impl Stream<Item = Result<A, Fault>> + Send + 'static,
) -> Response<Body> {
    let encoder = ProstCodec::<A, ()>::raw_encoder(BufferSettings::default());
    let answers = answers.map(|answer| answer.map_err(Status::from));
    let once = SingleMessageCompressionOverride::default();
    let body = EncodeBody::new_server(encoder, answers, None, once, Some(usize::MAX));
    grpc(Body::new(body))
}

fn response(data: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let data = data.map(|data| data.map(Frame::data));
    let frames = data.chain(stream::iter([Ok(Frame::trailers(trailers))]));
    grpc(Body::new(StreamBody::new(frames)))
}

fn grpc(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}
