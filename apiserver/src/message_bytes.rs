//! A WebSocket as a stream of bytes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

/// Bytes in one message that we send.
const MESSAGE_BYTES: usize = 32 * 1024;
const DATA: u8 = 0;
const ERROR: u8 = 1;
const CLOSE: u8 = 255;

/// How bytes stand in messages.
pub(crate) enum Framing {
    /// A message is nothing but bytes.
    Tunnel,
    /// `v5.channel.k8s.io` with one port: a channel for data and one for an error, whose first messages name the port.
    Port { named: [bool; 2] },
}

/// What a message says to a reader of bytes.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Data(Bytes),
    Failed(String),
    End,
    Nothing,
}

impl Framing {
    pub(crate) const PORT: Framing = Framing::Port {
        named: [false, false],
    };

    fn read(&mut self, mut message: Bytes) -> Said {
        let Framing::Port { named } = self else {
            return Said::Data(message);
        };
        if message.is_empty() {
            return Said::Nothing;
        }
        let channel = message.split_to(1)[0];
        if let Some(known) = named.get_mut(usize::from(channel))
            && !*known
        {
            *known = true;
            return Said::Nothing;
        }
        match channel {
            DATA => Said::Data(message),
            ERROR => Said::Failed(String::from_utf8_lossy(&message).into_owned()),
            CLOSE if message.first() == Some(&DATA) => Said::End,
            _ => Said::Nothing,
        }
    }

    fn write(&self, bytes: &[u8]) -> Message {
        let mut message = BytesMut::with_capacity(bytes.len() + 1);
        if let Framing::Port { .. } = self {
            message.extend_from_slice(&[DATA]);
        }
        message.extend_from_slice(bytes);
        Message::Binary(message.freeze())
    }
}

pub(crate) struct MessageBytes<S> {
    socket: WebSocketStream<S>,
    framing: Framing,
    unread: Bytes,
    /// The other side sends no more.
    ended: bool,
    /// The other side is gone: what is written is lost, as on any connection.
    gone: bool,
    /// We have said that we send no more.
    finished: bool,
}

impl<S> MessageBytes<S> {
    pub(crate) fn new(socket: WebSocketStream<S>, framing: Framing) -> MessageBytes<S> {
        MessageBytes {
            socket,
            framing,
            unread: Bytes::new(),
            ended: false,
            gone: false,
            finished: false,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for MessageBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.unread.is_empty() {
                let count = this.unread.len().min(buffer.remaining());
                buffer.put_slice(&this.unread.split_to(count));
                return Poll::Ready(Ok(()));
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(this.socket.poll_next_unpin(context)) {
                Some(Ok(Message::Binary(message))) => match this.framing.read(message) {
                    Said::Data(bytes) => this.unread = bytes,
                    Said::Failed(text) => return Poll::Ready(Err(std::io::Error::other(text))),
                    Said::End => this.ended = true,
                    Said::Nothing => {}
                },
                None
                | Some(
                    Ok(Message::Close(_))
                    | Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed),
                ) => (this.ended, this.gone) = (true, true),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(std::io::Error::other(error))),
            }
        }
    }
}

impl<S> MessageBytes<S> {
    /// A failed write. Nobody cares about one to a side that has said its last word: it may be gone by then.
    fn failed(&mut self, error: tungstenite::Error) -> std::io::Result<()> {
        if self.ended {
            self.gone = true;
            return Ok(());
        }
        Err(std::io::Error::other(error))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> MessageBytes<S> {
    /// Hands one message to the library, once it takes one.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        message: impl FnOnce(&Framing) -> Message,
    ) -> Poll<std::io::Result<()>> {
        let sent = match ready!(self.socket.poll_ready_unpin(context)) {
            Ok(()) => self.socket.start_send_unpin(message(&self.framing)),
            refused => refused,
        };
        Poll::Ready(sent.or_else(|error| self.failed(error)))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for MessageBytes<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.gone {
            return Poll::Ready(Ok(bytes.len()));
        }
        let part = &bytes[..bytes.len().min(MESSAGE_BYTES)];
        ready!(self.poll_send(context, |framing| framing.write(part)))?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.gone {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(self.socket.poll_flush_unpin(context));
        Poll::Ready(flushed.or_else(|error| self.failed(error)))
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.gone {
            return Poll::Ready(Ok(()));
        }
        if let Framing::Tunnel = self.framing {
            let closed = ready!(self.socket.poll_close_unpin(context));
            return Poll::Ready(closed.or_else(|error| self.failed(error)));
        }
        if !self.finished {
            let end = Bytes::from_static(&[CLOSE, DATA]);
            ready!(self.poll_send(context, |_| Message::Binary(end)))?;
            self.finished = true;
        }
        self.poll_flush(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[test]
    fn the_first_message_of_a_channel_is_the_port() {
        let mut framing = Framing::PORT;
        let mut read = |message: &'static [u8]| framing.read(Bytes::from_static(message));
        assert_eq!(read(b"\x00\x50\x00"), Said::Nothing);
        assert_eq!(read(b"\x00hi"), Said::Data("hi".into()));
        assert_eq!(read(b"\x01\x50\x00"), Said::Nothing);
        assert_eq!(read(b"\x01refused"), Said::Failed("refused".to_owned()));
        assert_eq!(read(b"\xff\x01"), Said::Nothing);
        assert_eq!(read(b"\xff\x00"), Said::End);
        assert_eq!(read(b""), Said::Nothing);
        assert_eq!(read(b"\x07x"), Said::Nothing);
        assert_eq!(
            Framing::Tunnel.read(Bytes::from_static(b"\xff\x00")),
            Said::Data(Bytes::from_static(b"\xff\x00"))
        );
    }

    #[tokio::test]
    async fn bytes_pass_and_each_direction_ends() {
        let (near, far) = tokio::io::duplex(1024);
        let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let mut far = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
        let mut bytes = MessageBytes::new(near, Framing::PORT);
        bytes.write_all(b"ping").await.unwrap();
        bytes.flush().await.unwrap();
        let got = far.next().await.unwrap().unwrap();
        assert_eq!(got.into_data().as_ref(), b"\x00ping");
        bytes.shutdown().await.unwrap();
        let got = far.next().await.unwrap().unwrap();
        assert_eq!(got.into_data().as_ref(), b"\xff\x00");
        for message in [&b"\x00\x50\x00"[..], b"\x00pong", b"\xff\x00"] {
            let message = Message::Binary(Bytes::copy_from_slice(message));
            far.send(message).await.unwrap();
        }
        let mut text = String::new();
        bytes.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "pong");
        // Who has ended may be gone: what is written then is lost, and no error.
        drop(far);
        for _ in 0..3 {
            bytes.write_all(b"late").await.unwrap();
            bytes.flush().await.unwrap();
        }
    }
}
