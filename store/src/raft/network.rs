//! Raft's network over the transport: appends as a pipelined stream, heartbeats and votes as calls, snapshots as files.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kv::mutants::{Bug, planted, remember, remembered};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::disk;
use crate::host;
use crate::metrics::METRICS;
use crate::peer::call::CallError;
use crate::peer::codec;
use crate::peer::snapshot;
use crate::peer::transport::Transport;
use crate::peer::wire::{
    AppendAnswer, Connection, FrameReader, FrameWriter, Lane, Request, Response,
};
use crate::raft::machine::{Snapshot, SnapshotData};
use crate::raft::types::{LogId, PeerNode, TypeConfig, Vote};
use crate::watch;

type Rpc<T> = Result<T, RPCError<TypeConfig>>;
type BoxFuture<'a, T> = openraft::base::BoxFuture<'a, T>;
type BoxStream<'a, T> = openraft::base::BoxStream<'a, T>;

/// A stream of appends on which nothing comes back for so long is given up.
const APPEND_IDLE: Duration = Duration::from_secs(5);

/// Makes clients.
pub struct Peers {
    transport: Arc<Transport>,
}

impl Peers {
    pub fn new(transport: Arc<Transport>) -> Peers {
        Peers { transport }
    }

    fn peer(&self, target: u64, node: &PeerNode, streams: bool) -> Peer {
        self.transport
            .learn_addresses([(target, node.peer_address.clone())]);
        Peer {
            transport: self.transport.clone(),
            target,
            streams,
            idle: None,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &PeerNode) -> Peer {
        self.peer(target, node, true)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &PeerNode) -> Peer {
        self.peer(target, node, false)
    }
}

/// A client of one member.
pub struct Peer {
    transport: Arc<Transport>,
    target: u64,
    /// Whether appends go as a stream on a connection of their own. Heartbeats do not: they are one request each.
    streams: bool,
    /// The append connection between two streams, and since when: nobody gives signs of life on it.
    idle: Option<(Connection, Instant)>,
}

fn unreachable(error: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(error))
}

fn broken(error: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(error))
}

impl Peer {
    async fn call(&self, action: RPCTypes, request: Request, option: &RPCOption) -> Rpc<Response> {
        let deadline = option.hard_ttl();
        let answer = self
            .transport
            .call(self.target, Lane::Raft, request, deadline)
            .await;
        answer.map_err(|error| match error {
            CallError::NotSent(why) => unreachable(why),
            CallError::Broken(why) => broken(why),
            CallError::TimedOut => {
                let (id, target) = (self.transport.me.member_id, self.target);
                RPCError::Timeout(Timeout {
                    action,
                    id,
                    target,
                    timeout: deadline,
                })
            }
        })
    }

    async fn stream<S>(
        &mut self,
        mut input: S,
    ) -> Rpc<BoxStream<'_, Rpc<StreamAppendResult<TypeConfig>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        // Before a member is dialled: here, openraft waits a while after it could not be reached. Who dials at once finds
        // out at once that nobody listens there, and would be asked again at once.
        let Some(first) = input.next().await else {
            return Ok(Box::pin(futures::stream::empty()));
        };
        let place = place_of_sent(self.transport.me.member_id, self.target);
        let input = futures::stream::iter([first]).chain(input);
        let input = input.inspect(move |request| remember_sent(place, request));
        let sign_of_life = self.transport.sign_of_life();
        let connection = match self.idle.take() {
            Some((connection, since)) if since.elapsed() < sign_of_life => connection,
            _ => self
                .transport
                .dial(self.target, Lane::Append)
                .await
                .map_err(unreachable)?,
        };
        let Connection { reader, writer } = connection;
        let (sent, sending) = watch::channel(0u64);
        let writing = AbortOnDropHandle::new(host::spawn(write_appends(
            writer,
            input,
            sent,
            sign_of_life,
        )));
        let state = Streaming {
            idle: &mut self.idle,
            reader,
            writing,
            sending,
            received: 0,
            place,
        };
        let answers = futures::stream::unfold(Some(state), |state| async move {
            let mut state = state?;
            match state.answer().await {
                Ok(Some(answer)) => {
                    let go_on = answer.is_ok();
                    Some((Ok(answer), go_on.then_some(state)))
                }
                Ok(None) => {
                    state.keep_connection().await;
                    None
                }
                Err(error) => Some((Err(broken(error)), None)),
            }
        });
        Ok(Box::pin(answers))
    }
}

/// The answers of a stream of appends under way.
struct Streaming<'a> {
    idle: &'a mut Option<(Connection, Instant)>,
    reader: FrameReader,
    writing: AbortOnDropHandle<io::Result<FrameWriter>>,
    /// How many appends were sent.
    sending: watch::Receiver<u64>,
    received: u64,
    /// See [`place_of_sent`].
    place: u64,
}

/// Where [`Bug::SentIsStored`] remembers the term of what was sent to a member last; the index is at its
/// complement.
fn place_of_sent(from: u64, to: u64) -> u64 {
    from.rotate_left(32) ^ to
}

fn remember_sent(place: u64, request: &AppendEntriesRequest<TypeConfig>) {
    let last = request.entries.last().map(|entry| entry.log_id);
    if planted(Bug::SentIsStored)
        && let Some(last) = last.or(request.prev_log_id)
    {
        remember(place, last.leader_id.term as i64);
        remember(!place, last.index as i64);
    }
}

impl Streaming<'_> {
    /// Of [`Bug::SentIsStored`]: whatever was sent counts as answered.
    async fn as_if_stored(&mut self) -> io::Result<Option<StreamAppendResult<TypeConfig>>> {
        while *self.sending.borrow_and_update() <= self.received {
            if self.sending.changed().await.is_err() {
                return Ok(None);
            }
        }
        self.received += 1;
        let sent = |place| remembered(place).map(|number| number as u64);
        let last = sent(self.place).zip(sent(!self.place));
        Ok(Some(
            Ok(last.map(|(term, index)| disk::log_id(term, index))),
        ))
    }

    /// The next answer; `None` where the stream ended well.
    async fn answer(&mut self) -> io::Result<Option<StreamAppendResult<TypeConfig>>> {
        if planted(Bug::SentIsStored) {
            return self.as_if_stored().await;
        }
        let frame = {
            let mut reading = std::pin::pin!(self.reader.frame());
            loop {
                // Silence counts only while an answer is owed.
                let owed = *self.sending.borrow_and_update() > self.received;
                tokio::select! {
                    biased;
                    frame = &mut reading => break frame?,
                    changed = self.sending.changed() => {
                        if changed.is_err() {
                            let last = tokio::time::timeout(APPEND_IDLE, &mut reading).await;
                            break last.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                        }
                    }
                    () = tokio::time::sleep(APPEND_IDLE), if owed => {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "appends are not answered"));
                    }
                }
            }
        };
        let Some(frame) = frame else { return Ok(None) };
        self.received += 1;
        let answer: AppendAnswer = codec::decode(&frame)?;
        answer.map(Some).map_err(io::Error::other)
    }

    async fn keep_connection(self) {
        if let Ok(Ok(writer)) = self.writing.await {
            let reader = self.reader;
            *self.idle = Some((Connection { reader, writer }, Instant::now()));
        }
    }
}

/// Sends appends as they come, then ends the stream.
async fn write_appends<S>(
    mut writer: FrameWriter,
    mut input: S,
    sent: watch::Sender<u64>,
    sign_of_life: Duration,
) -> io::Result<FrameWriter>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    loop {
        match tokio::time::timeout(sign_of_life, input.next()).await {
            Err(_) => writer.alive().await?,
            Ok(None) => break,
            Ok(Some(request)) => {
                writer.message(&request).await?;
                sent.send_modify(|count| *count += 1);
            }
        }
    }
    writer.end().await?;
    Ok(writer)
}

fn unexpected<T>(response: &Response) -> Rpc<T> {
    Err(broken(format!("an unexpected answer: {response:?}")))
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        match self
            .call(RPCTypes::AppendEntries, Request::Append(rpc), &option)
            .await?
        {
            Response::Append(response) => Ok(response),
            other => unexpected(&other),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.streams {
            Box::pin(self.stream(input))
        } else {
            stream_append_sequential(self, input, option)
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        match self
            .call(RPCTypes::Vote, Request::Vote(rpc), &option)
            .await?
        {
            Response::Vote(response) => Ok(response),
            other => unexpected(&other),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        match self
            .call(RPCTypes::Vote, Request::PreVote(rpc), &option)
            .await?
        {
            Response::Vote(response) => Ok(response),
            other => unexpected(&other),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = self.send_snapshot(vote, snapshot);
        tokio::select! {
            biased;
            sent = send => Ok(SnapshotResponse::new(sent.map_err(NetworkError::from_string)?)),
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        match self
            .call(
                RPCTypes::TransferLeader,
                Request::TransferLeader(request),
                &option,
            )
            .await?
        {
            Response::TransferLeader(response) => Ok(response),
            other => unexpected(&other),
        }
    }
}

impl Peer {
    /// Sends the state as it is now, which includes what `snapshot` promises.
    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> io::Result<Vote> {
        let SnapshotData::Live(replica) = snapshot.snapshot else {
            return Err(io::Error::other("only this member's own state is sent"));
        };
        let mut connection = self.transport.dial(self.target, Lane::Snapshot).await?;
        let staging = replica.disk().staging()?;
        let path = staging.path().join("state");
        let (source, target) = (replica.clone(), path.clone());
        let meta = host::blocking(move || source.checkpoint(&target));
        let meta = meta.await.map_err(io::Error::other)??;
        if meta.last_log_id < snapshot.meta.last_log_id {
            return Err(disk::damaged("the checkpoint is older than the snapshot"));
        }
        let last: Option<LogId> = meta.last_log_id;
        let vote = snapshot::send(&mut connection, vote, meta, staging.files(), &path).await?;
        METRICS.snapshots_sent.inc();
        tracing::info!(peer = %format!("{:016x}", self.target), ?last, "snapshot sent");
        Ok(vote)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::peer::wire::ALIVE;

    /// The listener closes what is silent (`FrameReader::frame_from_living`).
    #[tokio::test]
    async fn a_stream_without_appends_gives_signs_of_life() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let writer = Connection::new(Box::new(near)).writer;
        let (sent, _) = watch::channel(0);
        let nothing = futures::stream::pending();
        let writing = write_appends(writer, nothing, sent, Duration::from_millis(5));
        let listening = async {
            for _ in 0..3 {
                assert_eq!(far.read_u32().await.unwrap(), ALIVE);
            }
        };
        tokio::select! {
            ended = writing => panic!("{ended:?}"),
            () = listening => {}
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("no sign of life"),
        }
    }
}
