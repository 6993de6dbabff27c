//! The rules of a connection: which streams are open, who may still send, what is answered.
//!
//! Sans I/O: bytes go in by [`Connection::receive`], events come out by [`Connection::next_event`], and bytes to send
//! gather in [`Connection::output`]. Both roles are here; the client's is used by the tests.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::frame::{self, Decoder, Encoder, Frame, SETTING_INITIAL_WINDOW, goaway, reset};
use crate::headers::Headers;

/// The window of a stream, and of the session, until somebody says otherwise.
const INITIAL_WINDOW: i64 = 64 * 1024;
/// We grant more once this much was consumed.
const WINDOW_UPDATE_AT: u32 = 32 * 1024;
/// The largest data frame that we send.
const DATA_BYTES_MAX: usize = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// What a peer did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stream was opened by the peer; it has been answered already.
    Opened {
        id: u32,
        headers: Headers,
    },
    /// The peer answered a stream that we opened.
    Replied {
        id: u32,
    },
    Data {
        id: u32,
        bytes: Bytes,
    },
    /// The peer will send no more on this stream.
    Finished {
        id: u32,
    },
    /// The stream is gone, in both directions.
    Reset {
        id: u32,
        status: u32,
    },
    /// The peer will open no more streams.
    GoAway,
}

struct StreamState {
    peer_finished: bool,
    we_finished: bool,
    send_window: i64,
    consumed: u32,
    /// Data that waits for the peer's window.
    pending: VecDeque<Bytes>,
    finish_pending: bool,
}

/// One end of a SPDY/3.1 connection.
pub struct Connection {
    decoder: Decoder,
    encoder: Encoder,
    out: BytesMut,
    events: VecDeque<Event>,
    streams: HashMap<u32, StreamState>,
    streams_max: usize,
    last_peer_id: u32,
    next_own_id: u32,
    /// True once the peer sent a WINDOW_UPDATE or an initial window: until then it is taken for one that knows no
    /// windows, as the library of the Kubernetes clients does not, and waiting for it would wait for ever.
    windows_known: bool,
    initial_window: i64,
    session_window: i64,
    session_consumed: u32,
    pending_bytes: usize,
    gone_away: bool,
}

impl Connection {
    /// `streams_max` bounds the streams that the peer may have open at once.
    pub fn new(role: Role, streams_max: usize) -> Self {
        let next_own_id = if role == Role::Client { 1 } else { 2 };
        Connection {
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            out: BytesMut::new(),
            events: VecDeque::new(),
            streams: HashMap::new(),
            streams_max,
            last_peer_id: 0,
            next_own_id,
            windows_known: false,
            initial_window: INITIAL_WINDOW,
            session_window: INITIAL_WINDOW,
            session_consumed: 0,
            pending_bytes: 0,
            gone_away: false,
        }
    }

    /// Takes bytes from the peer. After an error the session is over: a GOAWAY is in the output.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), frame::Error> {
        self.decoder.feed(bytes);
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => self.handle(frame),
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.go_away(goaway::PROTOCOL_ERROR);
                    return Err(error);
                }
            }
        }
    }

    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes to send; the caller takes them from the front.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// Bytes that were given to [`Connection::send`] and wait for the peer's window.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Opens a stream; `None` once the ids are used up or the peer went away.
    pub fn open(&mut self, headers: &Headers) -> Option<u32> {
        if self.gone_away || self.next_own_id > 0x7fff_fffd {
            return None;
        }
        let id = self.next_own_id;
        self.next_own_id += 2;
        self.streams.insert(id, self.new_stream(false));
        self.push(&Frame::SynStream {
            id,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers: headers.clone(),
        });
        Some(id)
    }

    /// Sends data; silently dropped on a stream that is closed for us.
    pub fn send(&mut self, id: u32, bytes: Bytes) {
        let Some(stream) = self
            .streams
            .get_mut(&id)
            .filter(|stream| !stream.we_finished && !stream.finish_pending)
        else {
            return;
        };
        if !bytes.is_empty() {
            self.pending_bytes += bytes.len();
            stream.pending.push_back(bytes);
            self.flush(id);
        }
    }

    /// Says that we send no more on a stream.
    pub fn finish(&mut self, id: u32) {
        if let Some(stream) = self
            .streams
            .get_mut(&id)
            .filter(|stream| !stream.we_finished)
        {
            stream.finish_pending = true;
            self.flush(id);
        }
    }

    /// Ends a stream in both directions.
    pub fn reset(&mut self, id: u32, status: u32) {
        if self.forget(id) {
            self.push(&Frame::RstStream { id, status });
        }
    }

    /// Tells that data of a stream was taken by its reader, so that the peer may send more.
    pub fn consumed(&mut self, id: u32, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.session_consumed = self.session_consumed.saturating_add(count);
        if self.session_consumed >= WINDOW_UPDATE_AT {
            let delta = std::mem::take(&mut self.session_consumed);
            self.push(&Frame::WindowUpdate { id: 0, delta });
        }
        let Some(stream) = self
            .streams
            .get_mut(&id)
            .filter(|stream| !stream.peer_finished)
        else {
            return;
        };
        stream.consumed = stream.consumed.saturating_add(count);
        if stream.consumed >= WINDOW_UPDATE_AT {
            let delta = std::mem::take(&mut stream.consumed);
            self.push(&Frame::WindowUpdate { id, delta });
        }
    }

    /// Says that we take no more streams. Only the first call counts.
    pub fn go_away(&mut self, status: u32) {
        if !self.gone_away {
            self.gone_away = true;
            self.push(&Frame::GoAway {
                last_good: self.last_peer_id,
                status,
            });
        }
    }

    fn push(&mut self, frame: &Frame) {
        self.encoder.encode(frame, &mut self.out);
    }

    fn handle(&mut self, frame: Frame) {
        match frame {
            Frame::SynStream {
                id,
                fin,
                unidirectional,
                headers,
                ..
            } => self.opened(id, fin, unidirectional, headers),
            Frame::SynReply { id, fin, .. } => {
                if self.is_own(id) && self.streams.contains_key(&id) {
                    self.events.push_back(Event::Replied { id });
                    self.peer_sent(id, fin);
                }
            }
            Frame::RstStream { id, status } => {
                if self.forget(id) {
                    self.events.push_back(Event::Reset { id, status });
                }
            }
            Frame::Settings(settings) => settings
                .into_iter()
                .filter(|(id, _)| *id == SETTING_INITIAL_WINDOW)
                .for_each(|(_, value)| self.set_initial_window(value)),
            // A ping of our own parity would be the answer to one of ours; we send none.
            Frame::Ping(id) if !self.is_own(id) => self.push(&Frame::Ping(id)),
            Frame::Ping(_) => {}
            Frame::GoAway { .. } => self.events.push_back(Event::GoAway),
            Frame::Headers { id, fin, .. } => self.peer_sent(id, fin),
            Frame::WindowUpdate { id, delta } => self.widen(id, delta),
            Frame::Data { id, fin, bytes } => self.data(id, fin, bytes),
        }
    }

    fn opened(&mut self, id: u32, fin: bool, unidirectional: bool, headers: Headers) {
        if id == 0 || self.is_own(id) || id <= self.last_peer_id {
            // An id may be used once and only upwards; the stream that had it is not trusted any more either.
            self.forget(id);
            return self.push(&Frame::RstStream {
                id,
                status: reset::PROTOCOL_ERROR,
            });
        }
        self.last_peer_id = id;
        if self.gone_away || self.streams.len() >= self.streams_max {
            return self.push(&Frame::RstStream {
                id,
                status: reset::REFUSED_STREAM,
            });
        }
        self.streams.insert(id, self.new_stream(unidirectional));
        if !unidirectional {
            self.push(&Frame::SynReply {
                id,
                fin: false,
                headers: Headers::default(),
            });
        }
        self.events.push_back(Event::Opened { id, headers });
        self.peer_sent(id, fin);
    }

    fn data(&mut self, id: u32, fin: bool, bytes: Bytes) {
        match self.streams.get(&id) {
            None => {
                return self.push(&Frame::RstStream {
                    id,
                    status: reset::INVALID_STREAM,
                });
            }
            Some(stream) if stream.peer_finished => {
                self.reset(id, reset::STREAM_ALREADY_CLOSED);
                return self.events.push_back(Event::Reset {
                    id,
                    status: reset::STREAM_ALREADY_CLOSED,
                });
            }
            Some(_) => {}
        }
        if !bytes.is_empty() {
            self.events.push_back(Event::Data { id, bytes });
        }
        self.peer_sent(id, fin);
    }

    /// The peer's last frame on a stream closes its half.
    fn peer_sent(&mut self, id: u32, fin: bool) {
        let Some(stream) = self
            .streams
            .get_mut(&id)
            .filter(|stream| fin && !stream.peer_finished)
        else {
            return;
        };
        stream.peer_finished = true;
        self.events.push_back(Event::Finished { id });
        self.forget_if_done(id);
    }

    fn set_initial_window(&mut self, value: u32) {
        self.windows_known = true;
        let value = i64::from(value & 0x7fff_ffff);
        let difference = value - self.initial_window;
        self.initial_window = value;
        self.streams
            .values_mut()
            .for_each(|stream| stream.send_window += difference);
        self.flush_all();
    }

    fn widen(&mut self, id: u32, delta: u32) {
        self.windows_known = true;
        let window = match id {
            0 => Some(&mut self.session_window),
            id => self
                .streams
                .get_mut(&id)
                .map(|stream| &mut stream.send_window),
        };
        let Some(window) = window else { return };
        *window += i64::from(delta);
        if *window > i64::from(i32::MAX) && id != 0 {
            self.reset(id, reset::FLOW_CONTROL_ERROR);
            return self.events.push_back(Event::Reset {
                id,
                status: reset::FLOW_CONTROL_ERROR,
            });
        }
        self.session_window = self.session_window.min(i64::from(i32::MAX));
        self.flush_all();
    }

    fn flush_all(&mut self) {
        let mut ids: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, stream)| !stream.pending.is_empty())
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        ids.into_iter().for_each(|id| self.flush(id));
    }

    /// Moves what the windows allow from the stream to the output.
    fn flush(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        while let Some(front) = stream.pending.front_mut() {
            let window = if self.windows_known {
                stream.send_window.min(self.session_window)
            } else {
                i64::MAX
            };
            let allowed = usize::try_from(window)
                .unwrap_or(0)
                .min(DATA_BYTES_MAX)
                .min(front.len());
            if allowed == 0 {
                return;
            }
            let bytes = front.split_to(allowed);
            if front.is_empty() {
                stream.pending.pop_front();
            }
            // Counted also for a peer without windows: it may turn out to have them.
            stream.send_window -= allowed as i64;
            self.session_window -= allowed as i64;
            self.pending_bytes -= allowed;
            self.encoder.encode(
                &Frame::Data {
                    id,
                    fin: false,
                    bytes,
                },
                &mut self.out,
            );
        }
        if stream.finish_pending && !stream.we_finished {
            stream.we_finished = true;
            self.push(&Frame::Data {
                id,
                fin: true,
                bytes: Bytes::new(),
            });
            self.forget_if_done(id);
        }
    }

    fn forget_if_done(&mut self, id: u32) {
        if self
            .streams
            .get(&id)
            .is_some_and(|stream| stream.we_finished && stream.peer_finished)
        {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: u32) -> bool {
        let Some(stream) = self.streams.remove(&id) else {
            return false;
        };
        self.pending_bytes -= stream.pending.iter().map(Bytes::len).sum::<usize>();
        true
    }

    fn is_own(&self, id: u32) -> bool {
        id % 2 == self.next_own_id % 2
    }

    fn new_stream(&self, we_finished: bool) -> StreamState {
        StreamState {
            peer_finished: false,
            we_finished,
            send_window: self.initial_window,
            consumed: 0,
            pending: VecDeque::new(),
            finish_pending: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(connection: &mut Connection) -> Vec<Event> {
        std::iter::from_fn(|| connection.next_event()).collect()
    }

    /// Moves all output of `from` to `to`.
    fn pass(from: &mut Connection, to: &mut Connection) -> Vec<Event> {
        let bytes = from.output().split();
        to.receive(&bytes).unwrap();
        events(to)
    }

    fn pair() -> (Connection, Connection) {
        (
            Connection::new(Role::Client, 0),
            Connection::new(Role::Server, 8),
        )
    }

    /// What a server answers to raw frames.
    fn answers(frames: &[Frame]) -> Vec<Frame> {
        let mut server = Connection::new(Role::Server, 2);
        let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
        frames
            .iter()
            .for_each(|frame| encoder.encode(frame, &mut bytes));
        server.receive(&bytes).unwrap();
        let mut decoder = Decoder::default();
        decoder.feed(&server.output().split());
        std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
    }

    fn syn(id: u32) -> Frame {
        Frame::SynStream {
            id,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers: Headers::default(),
        }
    }

    fn reply(id: u32) -> Frame {
        Frame::SynReply {
            id,
            fin: false,
            headers: Headers::default(),
        }
    }

    #[test]
    fn streams_open_carry_data_and_end() {
        let (mut client, mut server) = pair();
        let headers = Headers::new(&[("streamtype", "stdin")]);
        let id = client.open(&headers).unwrap();
        client.send(id, Bytes::from_static(b"hi"));
        client.finish(id);
        assert_eq!(
            pass(&mut client, &mut server),
            [
                Event::Opened { id, headers },
                Event::Data {
                    id,
                    bytes: Bytes::from_static(b"hi")
                },
                Event::Finished { id }
            ]
        );
        server.send(id, Bytes::from_static(b"yo"));
        server.finish(id);
        server.send(id, Bytes::from_static(b"too late"));
        assert_eq!(
            pass(&mut server, &mut client),
            [
                Event::Replied { id },
                Event::Data {
                    id,
                    bytes: Bytes::from_static(b"yo")
                },
                Event::Finished { id }
            ]
        );
        assert!(client.streams.is_empty() && server.streams.is_empty());
    }

    #[test]
    fn pings_of_the_peer_are_answered() {
        assert_eq!(
            answers(&[Frame::Ping(1), Frame::Ping(2), Frame::Ping(3)]),
            [Frame::Ping(1), Frame::Ping(3)]
        );
    }

    #[test]
    fn wrong_ids_are_reset() {
        let rst = |id, status| Frame::RstStream { id, status };
        assert_eq!(answers(&[syn(2)]), [rst(2, reset::PROTOCOL_ERROR)]);
        assert_eq!(answers(&[syn(0)]), [rst(0, reset::PROTOCOL_ERROR)]);
        assert_eq!(
            answers(&[syn(3), syn(1)]),
            [reply(3), rst(1, reset::PROTOCOL_ERROR)]
        );
        assert_eq!(
            answers(&[syn(3), syn(3)]),
            [reply(3), rst(3, reset::PROTOCOL_ERROR)]
        );
        assert_eq!(
            answers(&[Frame::Data {
                id: 7,
                fin: false,
                bytes: Bytes::from_static(b"x")
            }]),
            [rst(7, reset::INVALID_STREAM)]
        );
        let fin = Frame::Data {
            id: 1,
            fin: true,
            bytes: Bytes::new(),
        };
        assert_eq!(
            answers(&[syn(1), fin.clone(), fin]),
            [reply(1), rst(1, reset::STREAM_ALREADY_CLOSED)]
        );
        // One more than the server allows at once, and again after one was reset.
        assert_eq!(
            answers(&[syn(1), syn(3), syn(5), rst(1, reset::CANCEL), syn(7)]),
            [reply(1), reply(3), rst(5, reset::REFUSED_STREAM), reply(7)]
        );
    }

    #[test]
    fn windows_bind_only_those_who_know_them() {
        let (mut client, mut server) = pair();
        let id = client.open(&Headers::default()).unwrap();
        pass(&mut client, &mut server);
        server.send(id, Bytes::from(vec![0; 200_000]));
        assert_eq!(server.pending_bytes(), 0);
        // The client turns out to have windows: both are overdrawn until it grants enough.
        client.push(&Frame::WindowUpdate { id, delta: 200_000 });
        pass(&mut client, &mut server);
        server.send(id, Bytes::from(vec![0; 1000]));
        assert_eq!(server.pending_bytes(), 1000);
        client.push(&Frame::WindowUpdate {
            id: 0,
            delta: 200_000 - 65_536 + 400,
        });
        pass(&mut client, &mut server);
        assert_eq!(server.pending_bytes(), 600);
        server.finish(id);
        client.push(&Frame::WindowUpdate { id: 0, delta: 600 });
        pass(&mut client, &mut server);
        assert_eq!(server.pending_bytes(), 0);
        let last = pass(&mut server, &mut client).pop();
        assert_eq!(last, Some(Event::Finished { id }));
    }

    #[test]
    fn consumption_is_granted_back() {
        let (mut client, mut server) = pair();
        let id = client.open(&Headers::default()).unwrap();
        pass(&mut client, &mut server);
        pass(&mut server, &mut client);
        server.consumed(id, 20_000);
        assert!(server.output().is_empty());
        server.consumed(id, 20_000);
        pass(&mut server, &mut client);
        assert!(client.windows_known);
        assert_eq!(client.streams[&id].send_window, INITIAL_WINDOW + 40_000);
        assert_eq!(client.session_window, INITIAL_WINDOW + 40_000);
    }

    #[test]
    fn settings_move_the_windows_of_open_streams() {
        let (mut client, mut server) = pair();
        let id = client.open(&Headers::default()).unwrap();
        client.push(&Frame::Settings(vec![
            (4, 10),
            (SETTING_INITIAL_WINDOW, 100),
        ]));
        pass(&mut client, &mut server);
        server.send(id, Bytes::from(vec![0; 150]));
        assert_eq!(server.pending_bytes(), 50);
        server.reset(id, reset::CANCEL);
        assert_eq!(server.pending_bytes(), 0);
    }

    #[test]
    fn garbage_ends_the_session() {
        let (mut client, mut server) = pair();
        assert!(server.receive(&[0xff; 8]).is_err());
        assert_eq!(pass(&mut server, &mut client), [Event::GoAway]);
        // What comes after that is refused.
        let id = client.open(&Headers::default()).unwrap();
        let bytes = client.output().split();
        let mut fresh = Connection::new(Role::Server, 8);
        fresh.go_away(goaway::OK);
        fresh.receive(&bytes).unwrap();
        assert_eq!(
            pass(&mut fresh, &mut client),
            [
                Event::GoAway,
                Event::Reset {
                    id,
                    status: reset::REFUSED_STREAM
                }
            ]
        );
    }
}
