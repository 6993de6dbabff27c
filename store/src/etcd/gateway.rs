//! The JSON gateway: `POST /v3/kv/range` and the like. A request is translated by the schema, carried out as the gRPC
//! call that it names, and the answer translated back; a stream of answers becomes a line of JSON each. A stream of
//! requests is translated as it comes, so a client may go on asking while it is answered.
//! A call has its place before anything of it is received, and what is larger than most has room like that of gRPC.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};

use super::admission::{Client, Held, Room};
use super::auth::ClientName;
use super::errors::Fault;
use super::front::Front;
use super::http::{JSON, reply};
use super::json;
use super::methods;
use super::receive::{SMALL_BYTES, broken_off};
use super::schema::{Rpc, SCHEMA};

/// Base64 makes a third more of bytes, and there are the names.
const BODY_BYTES_MAX: usize = 4 << 20;
/// JSON of an answer is in memory as a whole, several times.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Of larger answers a client has one at a time, until it is sent.
const SMALL_ANSWER_BYTES: usize = 256 << 10;

/// What a path stands for; those of etcd 3.3 are served, too, as in etcd.
pub(super) fn rpc_at(path: &str) -> Option<&'static Rpc> {
    let path = match path.strip_prefix("/v3beta/") {
        Some(rest) => format!("/v3/{rest}"),
        None => path.to_string(),
    };
    let mut rpcs = SCHEMA.rpcs.iter();
    rpcs.find(|rpc| rpc.gateway.contains(&path))
}

pub(super) async fn respond(
    front: Arc<Front>,
    rpc: &'static Rpc,
    mut request: Request<Body>,
) -> Response<Body> {
    let entered = match methods::enter(&front, &mut request, &rpc.path()) {
        Ok(entered) => entered,
        Err(status) => return failed(&status),
    };
    let client = methods::client_of(&front, &request);
    let within = front.options.received_within;
    let call = match translate(rpc, request, client.clone(), within).await {
        Ok(call) => call,
        Err(status) => return failed(&status),
    };
    let answer = entered.carry_out(front, call).await;
    if let Some(status) = Status::from_header_map(answer.headers())
        && status.code() != Code::Ok
    {
        return failed(&status);
    }
    if rpc.server_streams {
        return lines(rpc, answer.into_body());
    }
    match whole(&client, answer.into_body()).await {
        Ok(answer) => told(rpc, answer),
        Err(status) => failed(&status),
    }
}

/// The call as gRPC has it: one message, or several where the client may stream.
async fn translate(
    rpc: &'static Rpc,
    request: Request<Body>,
    client: Arc<Client>,
    within: Duration,
) -> Result<Request<Body>, Status> {
    let (parts, body) = request.into_parts();
    let body = match rpc.client_streams {
        true => Body::new(StreamBody::new(messages(rpc, body, client.clone(), within))),
        false => one_message(rpc, body, &client, within).await?,
    };
    let mut call = Request::new(body);
    call.extensions_mut().insert(client);
    *call.uri_mut() = rpc.path().parse().map_err(|_| Status::internal("a path"))?;
    // Who calls: the client of the connection, or of the token.
    if let Some(name) = parts.extensions.get::<ClientName>() {
        call.extensions_mut().insert(name.clone());
    }
    if let Some(token) = parts.headers.get(header::AUTHORIZATION) {
        call.headers_mut()
            .insert(header::AUTHORIZATION, token.clone());
    }
    for (name, value) in &parts.headers {
        // What etcd's gateway passes on.
        if let Some(name) = name.as_str().strip_prefix("grpc-metadata-")
            && let Ok(name) = header::HeaderName::try_from(name)
        {
            call.headers_mut().insert(name, value.clone());
        }
    }
    Ok(call)
}

async fn one_message(
    rpc: &Rpc,
    body: Body,
    client: &Client,
    within: Duration,
) -> Result<Body, Status> {
    let mut text = Text::new(body);
    let received = async {
        while text.more(client).await? {}
        Ok::<_, Fault>(())
    };
    match timeout(within, received).await {
        Ok(received) => received?,
        Err(_) => return Err(Fault::DeadlineExceeded.into()),
    }
    let body = &text.text;
    let mut frames = BytesMut::new();
    // No body is an empty request.
    let message = match body.trim_ascii().is_empty() {
        true => Vec::new(),
        false => encoded(rpc, body)?,
    };
    frame(&message, &mut frames);
    Ok(Body::new(Full::new(frames.freeze())))
}

/// What has come of a body, up to so much, with room for it where it is more than most.
struct Text {
    body: Body,
    text: BytesMut,
    room: Option<Room>,
}

impl Text {
    fn new(body: Body) -> Text {
        Text {
            body,
            text: BytesMut::new(),
            room: None,
        }
    }

    /// Receives more; false where there is no more. May be dropped and called again.
    async fn more(&mut self, client: &Client) -> Result<bool, Fault> {
        if self.text.len() > BODY_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        if self.text.len() > SMALL_BYTES && self.room.is_none() {
            self.room = Some(client.wait_for_room(BODY_BYTES_MAX).await?);
        }
        match self.body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.text.extend_from_slice(&data);
                }
                Ok(true)
            }
            Some(Err(status)) => Err(broken_off(&status)),
            None => Ok(false),
        }
    }

    fn take(&mut self, end: usize) -> BytesMut {
        let taken = self.text.split_to(end);
        if self.text.len() <= SMALL_BYTES {
            self.room = None;
        }
        taken
    }
}

fn encoded(rpc: &Rpc, text: &[u8]) -> Result<Vec<u8>, Status> {
    let value: Value = serde_json::from_slice(text)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    json::encode(&rpc.request, &value).map_err(Status::invalid_argument)
}

/// A frame for each object of the body, when it is there. One that has begun has to end in time.
fn messages(
    rpc: &'static Rpc,
    body: Body,
    client: Arc<Client>,
    within: Duration,
) -> impl Stream<Item = Result<hyper::body::Frame<Bytes>, Status>> {
    let state = (Text::new(body), Objects::default());
    futures::stream::unfold(Some(state), move |state| {
        let client = client.clone();
        async move {
            let (mut text, mut objects) = state?;
            match object(&mut text, &mut objects, &client, within).await {
                Ok(Some(object)) => Some(match encoded(rpc, &object) {
                    Ok(message) => {
                        let mut frames = BytesMut::new();
                        frame(&message, &mut frames);
                        let data = hyper::body::Frame::data(frames.freeze());
                        (Ok(data), Some((text, objects)))
                    }
                    Err(status) => (Err(status), None),
                }),
                Ok(None) if text.text.trim_ascii().is_empty() => None,
                Ok(None) => {
                    let unfinished = encoded(rpc, &text.text).err();
                    let status = unfinished
                        .unwrap_or_else(|| Status::invalid_argument("one object is expected"));
                    Some((Err(status), None))
                }
                Err(fault) => Some((Err(fault.into()), None)),
            }
        }
    })
}

/// The next object; `None` where the body ends before it does.
async fn object(
    text: &mut Text,
    objects: &mut Objects,
    client: &Client,
    within: Duration,
) -> Result<Option<BytesMut>, Fault> {
    let mut deadline = None;
    loop {
        if let Some(end) = objects.end_of_first(&text.text) {
            return Ok(Some(text.take(end)));
        }
        let begun = text.text.len() > SMALL_BYTES || !text.text.trim_ascii().is_empty();
        if begun && deadline.is_none() {
            deadline = Some(Instant::now() + within);
        }
        let more = match deadline {
            None => text.more(client).await?,
            Some(deadline) => timeout_at(deadline, text.more(client))
                .await
                .map_err(|_| Fault::DeadlineExceeded)??,
        };
        if !more {
            return Ok(None);
        }
    }
}

/// Finds where an object of JSON ends, looking at each byte once.
#[derive(Debug, Default)]
struct Objects {
    looked: usize,
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Objects {
    /// The end of the first object of a text that has grown since the last look. The object is taken off then.
    fn end_of_first(&mut self, text: &[u8]) -> Option<usize> {
        while let Some(byte) = text.get(self.looked) {
            self.looked += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' => self.depth += 1,
                b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(std::mem::take(self).looked);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

fn frame(message: &[u8], frames: &mut BytesMut) {
    frames.put_u8(0);
    frames.put_u32(message.len() as u32);
    frames.put_slice(message);
}

/// Takes a whole message off the front, if there is one.
fn unframe(frames: &mut BytesMut) -> Option<Bytes> {
    let length = frames.get(1..5)?.get_u32() as usize;
    if frames.len() < 5 + length {
        return None;
    }
    frames.advance(5);
    Some(frames.split_to(length).freeze())
}

/// An answer, and the place of a large one.
type Answer = (Bytes, Option<OwnedSemaphorePermit>);

async fn whole(client: &Client, mut body: Body) -> Result<Answer, Status> {
    let mut frames = BytesMut::new();
    let mut place = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => frames.extend_from_slice(&data),
            Err(frame) => {
                let trailers = frame.into_trailers().ok();
                let status = trailers.as_ref().and_then(Status::from_header_map);
                if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                    return Err(status);
                }
            }
        }
        if frames.len() > ANSWER_BYTES_MAX {
            let text = format!("grpc: received message larger than max ({ANSWER_BYTES_MAX})");
            return Err(Status::resource_exhausted(text));
        }
        if frames.len() > SMALL_ANSWER_BYTES && place.is_none() {
            let waited = client.wait_for_large_json().await;
            place = Some(waited.map_err(Fault::from)?);
        }
    }
    Ok((unframe(&mut frames).unwrap_or_default(), place))
}

fn told(rpc: &Rpc, (answer, place): Answer) -> Response<Body> {
    match json::decode(&rpc.response, &answer) {
        Ok(value) => reply(StatusCode::OK, JSON, value.to_string()).map(|body| {
            // The text is as large.
            Body::new(Held { body, _kept: place })
        }),
        Err(why) => failed(&Status::internal(why)),
    }
}

/// A line for each message, written when there is room for it.
fn lines(rpc: &'static Rpc, body: Body) -> Response<Body> {
    let state = (BodyStream::new(body), BytesMut::new());
    let lines = futures::stream::unfold(Some(state), move |state| async move {
        let (mut body, mut frames) = state?;
        loop {
            if let Some(message) = unframe(&mut frames) {
                let line = match json::decode(&rpc.response, &message) {
                    Ok(value) => json!({"result": value}),
                    Err(why) => json!({"error": error_value(&Status::internal(why))}),
                };
                return Some((line, Some((body, frames))));
            }
            match body.next().await? {
                Ok(part) => match part.into_data() {
                    Ok(data) => frames.extend_from_slice(&data),
                    Err(part) => {
                        let trailers = part.into_trailers().ok()?;
                        let status = Status::from_header_map(&trailers)?;
                        if status.code() == Code::Ok {
                            return None;
                        }
                        return Some((json!({"error": error_value(&status)}), None));
                    }
                },
                Err(status) => return Some((json!({"error": error_value(&status)}), None)),
            }
        }
    });
    let lines = lines.map(|line| {
        let line = Bytes::from(format!("{line}\n"));
        Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(line))
    });
    let mut response = Response::new(Body::new(StreamBody::new(lines)));
    let content_type = http::HeaderValue::from_static(JSON);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

fn failed(status: &Status) -> Response<Body> {
    reply(
        http_status(status.code()),
        JSON,
        error_value(status).to_string(),
    )
}

fn error_value(status: &Status) -> Value {
    json!({"error": status.message(), "code": status.code() as i32, "message": status.message()})
}

/// As gRPC's gateways map codes.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_end_where_their_brackets_do() {
        let mut objects = Objects::default();
        let mut text = Vec::new();
        let mut found = Vec::new();
        for byte in br#" {"a": {"b": "}\"}"}} {} {"c": "#.iter() {
            text.push(*byte);
            if let Some(end) = objects.end_of_first(&text) {
                found.push(String::from_utf8(text.drain(..end).collect()).unwrap());
            }
        }
        assert_eq!(found, [r#" {"a": {"b": "}\"}"}}"#, " {}"]);
    }
}
