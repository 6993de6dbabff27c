//! The body of a list: as a whole where it is small, else in frames, which are made as the client takes them.

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};

use super::indent::Indented;
use crate::context::Context;
use crate::flow;
use crate::negotiate;

/// Bytes of one frame of a list.
pub(super) const FRAME_BYTES: usize = 64 * 1024;

/// Small pieces of a body as frames.
pub(super) struct Joined<I> {
    pub(super) pieces: I,
}

impl<I: Iterator<Item = Bytes>> Iterator for Joined<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let first = self.pieces.next()?;
        let mut frame = BytesMut::with_capacity(FRAME_BYTES + 8 * 1024);
        frame.extend_from_slice(&first);
        while frame.len() < FRAME_BYTES
            && let Some(piece) = self.pieces.next()
        {
            frame.extend_from_slice(&piece);
        }
        Some(frame.freeze())
    }
}

/// A body of `about` so many bytes, or on many lines where it is JSON and the client is a person's.
pub(super) fn send(
    context: &Context,
    content_type: &'static str,
    about: usize,
    frames: impl Iterator<Item = Bytes> + Send + 'static,
) -> Response {
    match context.output.pretty && content_type == negotiate::JSON {
        true => send_frames(context, content_type, 2 * about, Indented::new(frames)),
        false => send_frames(context, content_type, about, frames),
    }
}

/// As a whole where it is small, else frame by frame as the client takes them.
fn send_frames(
    context: &Context,
    content_type: &'static str,
    about: usize,
    frames: impl Iterator<Item = Bytes> + Send + 'static,
) -> Response {
    if about <= negotiate::GZIP_BYTES_MIN {
        let mut body = BytesMut::with_capacity(about + 256);
        for frame in frames {
            body.extend_from_slice(&frame);
        }
        return negotiate::respond_bytes(
            &context.headers,
            StatusCode::OK,
            content_type,
            body.freeze(),
        );
    }
    let mut response = Response::new(Body::empty());
    response
        .extensions_mut()
        .insert(flow::AnswerBytes(about as u64));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    if !negotiate::accepts_gzip(&context.headers) {
        *response.body_mut() =
            Body::from_stream(futures::stream::iter(frames.map(Ok::<_, std::io::Error>)));
        return response;
    }
    response
        .headers_mut()
        .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    *response.body_mut() = Body::from_stream(futures::stream::iter(
        packed(frames).map(Ok::<_, std::io::Error>),
    ));
    response
}

/// The same bytes in gzip.
fn packed(
    mut frames: impl Iterator<Item = Bytes> + Send + 'static,
) -> impl Iterator<Item = Bytes> + Send + 'static {
    let mut encoder = Some(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    let packed = std::iter::from_fn(move || {
        use std::io::Write;
        let open = encoder.as_mut()?;
        match frames.next() {
            Some(frame) => {
                open.write_all(&frame)
                    .expect("writing to memory cannot fail");
                Some(Bytes::from(std::mem::take(open.get_mut())))
            }
            None => {
                let rest = encoder
                    .take()?
                    .finish()
                    .expect("writing to memory cannot fail");
                Some(Bytes::from(rest))
            }
        }
    });
    packed.filter(|bytes| !bytes.is_empty())
}
