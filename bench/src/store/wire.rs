//! gRPC on HTTP/2 and nothing else: what a client library adds to a call would be load on the two cores that the
//! servers are measured on. A call is one frame of one message; a stream is many.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::cluster::Tls;

/// Room for answers under way. A window of the standard's 64 KiB would measure round trips.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// In front of each message: whether it is compressed, and its length.
const FRAME_HEAD_BYTES: usize = 5;

/// Why an operation does not count: what the server said, or that it said nothing.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Failure {
        Failure(error.to_string())
    }
}

/// A connection; clones share it.
#[derive(Clone)]
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
}

impl Connection {
    pub(crate) async fn open(port: u16, tls: &Tls) -> Result<Connection> {
        let connector = TlsConnector::from(Arc::new(client_config(tls)?));
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let socket = connector.connect(name, socket).await?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(socket)
            .await?;
        // Ends when the last request handle is dropped, or with an error that each call on it sees.
        tokio::spawn(connection);
        Ok(Connection { requests })
    }

    /// The message of the answer, once the server has said that all is well.
    pub(crate) async fn call(&self, path: &str, message: &impl Message) -> Result<Bytes, Failure> {
        let chunks = self.call_chunks(path, message).await?;
        let (message, rest) = first_message(joined(chunks))?;
        match rest.is_empty() {
            true => Ok(message),
            false => Err(Failure("more than one answer".into())),
        }
    }

    pub(crate) async fn ask<A: Message + Default>(
        &self,
        path: &str,
        message: &impl Message,
    ) -> Result<A, Failure> {
        let answer = self.call(path, message).await?;
        A::decode(answer).map_err(|error| Failure(error.to_string()))
    }

    /// The body as it came, so that a huge one is not copied within the time that is measured.
    pub(crate) async fn call_chunks(
        &self,
        path: &str,
        message: &impl Message,
    ) -> Result<Vec<Bytes>, Failure> {
        let (response, mut body) = self.send(path).await?;
        body.send_data(framed(message), true)?;
        let (mut answer, ended) = accepted(response).await?;
        let mut chunks = Vec::new();
        if ended {
            return Ok(chunks);
        }
        while let Some(chunk) = answer.data().await {
            let chunk = chunk?;
            answer.flow_control().release_capacity(chunk.len())?;
            chunks.push(chunk);
        }
        let trailers = answer.trailers().await?;
        verdict(&trailers.ok_or_else(|| Failure("the answer has no status".into()))?)?;
        Ok(chunks)
    }

    /// Messages both ways. The first goes with it: servers say nothing before they have heard something.
    pub(crate) async fn stream(&self, path: &str, first: &impl Message) -> Result<Stream, Failure> {
        let (response, mut sender) = self.send(path).await?;
        sender.send_data(framed(first), false)?;
        Ok(Stream {
            sender,
            waiting: Some(response),
            receiver: None,
            pending: BytesMut::new(),
        })
    }

    async fn send(&self, path: &str) -> Result<(ResponseFuture, SendStream<Bytes>), Failure> {
        let request = http::Request::builder()
            .method(http::Method::POST)
            .uri(format!("https://localhost{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(())
            .map_err(|error| Failure(error.to_string()))?;
        let mut requests = self.requests.clone().ready().await?;
        Ok(requests.send_request(request, false)?)
    }
}

/// A bidirectional stream.
pub(crate) struct Stream {
    sender: SendStream<Bytes>,
    waiting: Option<ResponseFuture>,
    receiver: Option<RecvStream>,
    pending: BytesMut,
}

impl Stream {
    pub(crate) fn send(&mut self, message: &impl Message) -> Result<(), Failure> {
        Ok(self.sender.send_data(framed(message), false)?)
    }

    /// The next message; an error if the stream ended.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Failure> {
        if let Some(response) = self.waiting.take() {
            self.receiver = Some(accepted(response).await?.0);
        }
        let ended = || Failure("the stream ended".into());
        let receiver = self.receiver.as_mut().ok_or_else(ended)?;
        loop {
            if let Some(length) = whole_message(&self.pending) {
                self.pending.advance(FRAME_HEAD_BYTES);
                return Ok(self.pending.split_to(length).freeze());
            }
            let Some(chunk) = receiver.data().await else {
                if let Some(trailers) = receiver.trailers().await? {
                    verdict(&trailers)?;
                }
                return Err(ended());
            };
            let chunk = chunk?;
            receiver.flow_control().release_capacity(chunk.len())?;
            self.pending.extend_from_slice(&chunk);
        }
    }
}

/// The body, and whether there is none because the status stands in the head already.
async fn accepted(response: ResponseFuture) -> Result<(RecvStream, bool), Failure> {
    let response = response.await?;
    if response.status() != http::StatusCode::OK {
        return Err(Failure(format!("HTTP status {}", response.status())));
    }
    let ended = response.headers().contains_key("grpc-status");
    if ended {
        verdict(response.headers())?;
    }
    Ok((response.into_body(), ended))
}

fn verdict(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_string()
    };
    match text("grpc-status").as_str() {
        "0" => Ok(()),
        code => Err(Failure(format!(
            "status {code}: {}",
            text("grpc-message").replace("%20", " ")
        ))),
    }
}

fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + length);
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message
        .encode(&mut frame)
        .expect("a growing buffer has room");
    frame.freeze()
}

/// Length of the message that the buffer begins with, if all of it is there.
fn whole_message(buffer: &[u8]) -> Option<usize> {
    let head = buffer.get(1..FRAME_HEAD_BYTES)?;
    let length = u32::from_be_bytes(head.try_into().ok()?) as usize;
    (buffer.len() >= FRAME_HEAD_BYTES + length).then_some(length)
}

/// The first message of a body, and what follows it.
pub(crate) fn first_message(mut body: Bytes) -> Result<(Bytes, Bytes), Failure> {
    let length = whole_message(&body).ok_or_else(|| Failure("the answer is cut short".into()))?;
    body.advance(FRAME_HEAD_BYTES);
    let message = body.split_to(length);
    Ok((message, body))
}

pub(crate) fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    match chunks.len() {
        1 => chunks.remove(0),
        _ => chunks.concat().into(),
    }
}

/// Waits for an operation no longer than so long.
pub(crate) async fn within<A>(
    patience: Duration,
    operation: impl Future<Output = Result<A, Failure>>,
) -> Result<A, Failure> {
    match tokio::time::timeout(patience, operation).await {
        Ok(result) => result,
        Err(_) => Err(Failure(format!("no answer within {patience:?}"))),
    }
}

fn client_config(tls: &Tls) -> Result<rustls::ClientConfig> {
    let named = |path: &Path| format!("cannot read {}", path.display());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&tls.ca).with_context(|| named(&tls.ca))?)?;
    let chain = CertificateDer::pem_file_iter(&tls.cert)
        .with_context(|| named(&tls.cert))?
        .collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).with_context(|| named(&tls.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv::PutRequest;

    fn put(key: &'static str) -> PutRequest {
        PutRequest {
            key: Bytes::from_static(key.as_bytes()),
            ..Default::default()
        }
    }

    #[test]
    fn a_frame_is_read_back_and_a_cut_one_is_refused() {
        let frame = framed(&put("foo"));
        assert_eq!(whole_message(&frame), Some(frame.len() - FRAME_HEAD_BYTES));
        for length in 0..frame.len() {
            assert_eq!(whole_message(&frame[..length]), None, "{length}");
        }
        let two = joined(vec![frame.clone(), framed(&put("bar"))]);
        let (first, rest) = first_message(two).unwrap();
        assert_eq!(PutRequest::decode(first).unwrap(), put("foo"));
        let (second, rest) = first_message(rest).unwrap();
        assert_eq!(PutRequest::decode(second).unwrap(), put("bar"));
        assert!(rest.is_empty() && first_message(rest).is_err());
    }

    #[test]
    fn only_status_zero_is_an_acknowledgement() {
        let headers = |code: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", code.parse().unwrap());
            headers.insert("grpc-message", "too%20many".parse().unwrap());
            headers
        };
        assert!(verdict(&headers("0")).is_ok());
        assert_eq!(verdict(&headers("8")).unwrap_err().0, "status 8: too many");
        assert!(verdict(&HeaderMap::new()).is_err());
    }
}
