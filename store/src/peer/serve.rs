//! The listening side: who comes in, and what its connection is for.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use crate::core::Core;
use crate::disk::MembershipRecord;
use crate::env::{ByteStream, Listener};
use crate::host;
use crate::peer::codec;
use crate::peer::snapshot;
use crate::peer::tls::Proof;
use crate::peer::transport::Me;
use crate::peer::wire::{
    ANSWER_BYTES_MAX, Answer, AppendAnswer, Call, Connection, Failure, FrameReader, FrameWriter,
    Hello, Lane, Refusal, Response, SnapshotAnswer, Welcome,
};
use crate::raft::machine::{Snapshot, SnapshotData};
use crate::raft::types::{LogId, TypeConfig};
use crate::turns::gather;

/// To shake hands and say hello.
const GREETING: Duration = Duration::from_secs(5);
/// Connections at once; members have a handful each.
const CONNECTIONS: usize = 256;
/// Calls of one connection carried out at once.
const CALLS: usize = 2048;
/// So many answers are worth a write.
const ANSWERS: usize = 64;
/// For the answers that a removed member still gets.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Appends read ahead of Raft.
const APPENDS: usize = 16;
/// A larger answer goes in parts of this size, so that its length does not matter to the frame.
const PART_BYTES: usize = 4 << 20;

/// Serves members until the core stops.
pub async fn accept(core: Arc<Core>, mut listener: Box<dyn Listener>, proof: Proof) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, address)) => {
                let (core, proof) = (core.clone(), proof.clone());
                let stop = core.transport.stop.clone();
                let tasks = core.transport.tasks.clone();
                tasks.spawn(host::here(async move {
                    let _permit = permit;
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        served = serve(core, proof, &address, stream) => {
                            if let Err(error) = served {
                                tracing::debug!(%address, %error, "peer connection ended");
                            }
                        }
                    }
                }));
            }
            Err(error) => {
                // Out of file descriptors, mostly: serve those that are there and try again.
                tracing::warn!(%error, "a peer connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(
    core: Arc<Core>,
    proof: Proof,
    address: &str,
    stream: Box<dyn ByteStream>,
) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let accepted = proof.accept(core.transport.me.cluster_id, address, stream);
    let (stream, proved) = timeout(GREETING, accepted).await.map_err(late)??;
    let mut connection = Connection::new(stream);
    let hello: Hello = connection.reader.message(GREETING).await?;
    if let Err(refusal) = admit(&core, &hello, proved).await {
        tracing::warn!(from = %format!("{:016x}", hello.from), %refusal, "a peer connection is refused");
        return connection.writer.message(&Welcome::Refused(refusal)).await;
    }
    connection.is_with(hello.from);
    let incarnation = core.transport.me.incarnation;
    connection
        .writer
        .message(&Welcome::Accepted { incarnation })
        .await?;
    let mut removed = pin!(removed(core.clone(), hello.from, hello.membership));
    let gone = || Err(io::Error::other("the member was removed"));
    match hello.lane {
        Lane::Raft | Lane::Client => {
            serve_calls(core, hello.from, connection, removed.as_mut()).await
        }
        Lane::Append => tokio::select! {
            biased;
            served = serve_appends(core, connection) => served,
            () = removed => gone(),
        },
        Lane::Snapshot => tokio::select! {
            biased;
            served = serve_snapshots(core, connection) => served,
            () = removed => gone(),
        },
    }
}

async fn admit(core: &Core, hello: &Hello, proved: Option<u64>) -> Result<(), Refusal> {
    let transport = &core.transport;
    let membership = core.replica.membership().borrow().clone();
    let met = transport.incarnations.of(hello.from);
    judge(&transport.me, hello, proved, met, membership.as_deref())?;
    // Votes count from when a membership stands in the log, which may be before it is applied.
    core.learn_published();
    if hello.to_incarnation != 0 {
        transport.is_me(hello.to_incarnation)?;
    }
    transport.meet(hello.from, hello.incarnation).await
}

/// Whether a member is who it says, and one of ours. `met` is the incarnation with which it was met before.
fn judge(
    me: &Me,
    hello: &Hello,
    proved: Option<u64>,
    met: Option<u64>,
    membership: Option<&MembershipRecord>,
) -> Result<(), Refusal> {
    let &Hello {
        cluster_id: cluster,
        from,
        to,
        ..
    } = hello;
    if proved != Some(from) || cluster != me.cluster_id {
        return Err(Refusal::Stranger {
            member: from,
            cluster: me.cluster_id,
        });
    }
    if to != me.member_id || from == me.member_id {
        return Err(Refusal::Misdirected {
            me: me.member_id,
            wanted: to,
        });
    }
    let Some(membership) = membership else {
        return Ok(());
    };
    match membership.incarnation(from) {
        Some(known) if known != hello.incarnation => Err(Refusal::OtherDirectory {
            member: from,
            known,
            shown: hello.incarnation,
        }),
        _ if membership.has_removed(from, hello.membership) => Err(match met {
            // One that waits to be added was not met before: an id is used once.
            Some(other) if other != hello.incarnation => Refusal::Gone { member: from },
            _ => Refusal::Removed { member: from },
        }),
        _ => Ok(()),
    }
}

/// Completes when a member that came in is removed.
async fn removed(core: Arc<Core>, member: u64, newest_it_knows: Option<LogId>) {
    let mut membership = core.replica.membership();
    let gone = |now: &Option<Arc<MembershipRecord>>| {
        now.as_ref()
            .is_some_and(|now| now.has_removed(member, newest_it_knows))
    };
    if membership.wait_for(gone).await.is_err() {
        // The replica is gone: this member stops, and its connections are told so otherwise.
        std::future::pending::<()>().await;
    }
}

async fn serve_calls(
    core: Arc<Core>,
    from: u64,
    connection: Connection,
    mut removed: Pin<&mut impl Future<Output = ()>>,
) -> io::Result<()> {
    let Connection { mut reader, writer } = connection;
    let (answers, outgoing) = mpsc::channel(CALLS);
    let permits = Arc::new(Semaphore::new(CALLS));
    let answering = write_answers(writer, outgoing, permits.clone());
    let mut writing = AbortOnDropHandle::new(host::spawn(answering));
    let silence = core.transport.silence;
    loop {
        let permit = permits
            .clone()
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let frame = tokio::select! {
            biased;
            ended = &mut writing => return ended.map_err(io::Error::other)?,
            () = &mut removed => break,
            frame = reader.frame_from_living(silence) => frame?,
        };
        let Some(frame) = frame else { continue };
        let Call { id, request } = codec::decode(&frame)?;
        let (core, answers) = (core.clone(), answers.clone());
        let tasks = core.transport.tasks.clone();
        tasks.spawn(host::here(async move {
            let response = core.answer(from, request).await;
            // The connection may be gone; then nobody waits.
            drop(answers.send(Answer { id, response }).await);
            drop(permit);
        }));
    }
    // Nothing more is taken from it, but what it asked before is answered: its own removal, for one.
    drop(answers);
    drop(timeout(LAST_ANSWERS, writing).await);
    Err(io::Error::other("the member was removed"))
}

/// Sends answers as they come. Where more calls are being carried out, what is ready with them has its turn first: one batch of
/// the log answers many.
async fn write_answers(
    mut writer: FrameWriter,
    mut outgoing: mpsc::Receiver<Answer>,
    permits: Arc<Semaphore>,
) -> io::Result<()> {
    while let Some(first) = outgoing.recv().await {
        // One permit is the next call's, which has not come yet.
        let has_others = permits.available_permits() < CALLS - 1;
        for answer in gather(first, &mut outgoing, usize::from(has_others), ANSWERS).await {
            write_answer(&mut writer, answer).await?;
        }
        writer.flush().await?;
    }
    Ok(())
}

/// An answer of any size: a large one in parts, and one that cannot be sent as a failure of its call alone. The
/// connection has other calls under way.
async fn write_answer(writer: &mut FrameWriter, answer: Answer) -> io::Result<()> {
    let Answer { id, mut response } = answer;
    if let Response::Proposed(bytes) = &mut response {
        if bytes.len() > ANSWER_BYTES_MAX {
            response = Response::Failed(Failure::AnswerTooLarge);
        } else {
            while bytes.len() > PART_BYTES {
                let response = Response::Part(bytes.split_to(PART_BYTES));
                writer.encode(&Answer { id, response })?;
                writer.encoded().await?;
            }
        }
    }
    if let Err(error) = writer.encode(&Answer { id, response }) {
        tracing::warn!(%error, "an answer cannot be sent");
        let response = Response::Failed(Failure::AnswerTooLarge);
        writer.encode(&Answer { id, response })?;
    }
    writer.encoded().await
}

/// One stream of appends after the other: frames up to an empty one, an answer each, and an empty frame back.
async fn serve_appends(core: Arc<Core>, mut connection: Connection) -> io::Result<()> {
    loop {
        let (requests, input) = mpsc::channel(APPENDS);
        let answers = core.raft.stream_append(ReceiverStream::new(input));
        // It is asked again where it has ended while answers were gathered.
        let mut answers = Box::pin(answers.fuse());
        let Connection { reader, writer } = &mut connection;
        let mut reading = Box::pin(read_appends(reader, requests, core.transport.silence));
        let mut read_to_end = false;
        loop {
            tokio::select! {
                biased;
                ended = &mut reading, if !read_to_end => {
                    ended?;
                    read_to_end = true;
                }
                answer = answers.next() => {
                    let Some(answer) = answer else { break };
                    core.hear();
                    if !write_append_answers(writer, answer, &mut answers).await? {
                        // Raft ends the stream at the first failure; what is still on its way here is void.
                        return Ok(());
                    }
                }
            }
        }
        drop(reading);
        if !read_to_end {
            return Ok(());
        }
        connection.writer.end().await?;
    }
}

/// Sends an answer together with those that are there already: appends that one sync has stored are answered by one write.
/// False after a failure.
async fn write_append_answers<E: ToString>(
    writer: &mut FrameWriter,
    first: Result<StreamAppendResult<TypeConfig>, E>,
    later: &mut (impl Stream<Item = Result<StreamAppendResult<TypeConfig>, E>> + Unpin),
) -> io::Result<bool> {
    let mut next = Some(first);
    let mut go_on = true;
    while let Some(answer) = next.take() {
        let answer: AppendAnswer = answer.map_err(|fatal| fatal.to_string());
        go_on = matches!(answer, Ok(Ok(_)));
        writer.encode(&answer)?;
        writer.encoded().await?;
        if go_on {
            next = later.next().now_or_never().flatten();
        }
    }
    writer.flush().await?;
    Ok(go_on)
}

async fn read_appends(
    reader: &mut FrameReader,
    requests: mpsc::Sender<AppendEntriesRequest<TypeConfig>>,
    silence: Duration,
) -> io::Result<()> {
    while let Some(frame) = reader.frame_from_living(silence).await? {
        if requests.send(codec::decode(&frame)?).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn serve_snapshots(core: Arc<Core>, mut connection: Connection) -> io::Result<()> {
    let Ok(_one_at_a_time) = core.incoming_snapshot.try_acquire() else {
        let busy: SnapshotAnswer = Err("another snapshot is being received".into());
        return connection.writer.message(&busy).await;
    };
    let dir = core.replica.disk().staging()?;
    let answer: SnapshotAnswer = match snapshot::receive(&mut connection.reader, &dir).await {
        Ok(header) => {
            let path = dir.path().join("state");
            let snapshot = Snapshot {
                meta: header.meta,
                snapshot: SnapshotData::Received { dir, path },
            };
            let installed = core.raft.install_full_snapshot(header.vote, snapshot).await;
            installed
                .map(|response| response.vote)
                .map_err(|fatal| fatal.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    connection.writer.message(&answer).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{LogIdRecord, NodeRecord, log_id};
    use crate::incarnations::LEGACY;

    const ME: Me = Me {
        cluster_id: 7,
        member_id: 1,
        incarnation: 11,
    };

    fn hello() -> Hello {
        Hello {
            cluster_id: 7,
            from: 2,
            to: 1,
            lane: Lane::Raft,
            incarnation: 12,
            to_incarnation: 11,
            membership: Some(log_id(1, 5)),
        }
    }

    fn membership(nodes: &[(u64, &str, u64)]) -> MembershipRecord {
        let node = |(id, client_address, incarnation): &(u64, &str, u64)| NodeRecord {
            id: *id,
            client_address: client_address.to_string(),
            incarnation: *incarnation,
            ..NodeRecord::default()
        };
        MembershipRecord {
            log_id: Some(LogIdRecord { term: 1, index: 5 }),
            nodes: nodes.iter().map(node).collect(),
            ..MembershipRecord::default()
        }
    }

    #[tokio::test]
    async fn answers_that_are_there_go_together_up_to_a_failure() {
        use crate::peer::wire::FrameReader;

        async fn next(reader: &mut FrameReader) -> AppendAnswer {
            reader.message(GREETING).await.unwrap()
        }

        let (near, far) = tokio::io::duplex(1 << 10);
        let mut writer = Connection::new(Box::new(near)).writer;
        let mut reader = Connection::new(Box::new(far)).reader;
        let stored = |index| Ok::<_, String>(Ok(Some(log_id(1, index))));
        // One that is not there yet is not waited for.
        let ready = futures::stream::iter([stored(2), stored(3)]);
        let mut later = ready.chain(futures::stream::pending());
        let went_on = write_append_answers(&mut writer, stored(1), &mut later).await;
        assert!(went_on.unwrap());
        for index in 1..=3 {
            let answer = next(&mut reader).await;
            assert!(matches!(answer, Ok(Ok(Some(id))) if id.index == index));
        }
        let mut later = futures::stream::iter([Err("stopped".to_string()), stored(5)]);
        let went_on = write_append_answers(&mut writer, stored(4), &mut later).await;
        assert!(!went_on.unwrap());
        assert!(next(&mut reader).await.is_ok());
        assert!(next(&mut reader).await.is_err());
        drop(writer);
        assert!(reader.frame().await.is_err(), "nothing after a failure");
    }

    /// Of answers that come one each turn of a task, while so many calls are being carried out.
    async fn writes_of_answers(under_way: u32) -> Vec<usize> {
        use crate::peer::wire::Counted;
        use crate::turns::others_first;

        let (near, _far) = tokio::io::duplex(1 << 16);
        let (stream, writes) = Counted::new(near);
        let writer = Connection::new(Box::new(stream)).writer;
        let permits = Arc::new(Semaphore::new(CALLS));
        // And that of the next call.
        let _held = permits
            .clone()
            .try_acquire_many_owned(under_way + 1)
            .unwrap();
        let (answers, outgoing) = mpsc::channel(CALLS);
        let local = tokio::task::LocalSet::new();
        let answering = local.spawn_local(async move {
            for id in 1..=8 {
                let response = Response::MemberChanged;
                answers.send(Answer { id, response }).await.unwrap();
                others_first().await;
            }
        });
        let writing = local.spawn_local(write_answers(writer, outgoing, permits));
        local.run_until(answering).await.unwrap();
        local.run_until(writing).await.unwrap().unwrap();
        writes.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn answers_go_together_while_there_are_other_calls() {
        let apart = writes_of_answers(0).await;
        assert_eq!(apart.len(), 8);
        let together = writes_of_answers(3).await;
        assert_eq!(together.iter().sum::<usize>(), apart.iter().sum::<usize>());
        assert!(together.len() <= 4, "{together:?}");
    }

    #[test]
    fn only_who_proves_it_and_means_this_member_is_let_in() {
        assert_eq!(judge(&ME, &hello(), Some(2), None, None), Ok(()));
        for proved in [None, Some(3)] {
            let refused = judge(&ME, &hello(), proved, None, None);
            assert!(matches!(refused, Err(Refusal::Stranger { .. })));
        }
        let other = Hello {
            cluster_id: 8,
            ..hello()
        };
        let refused = judge(&ME, &other, Some(2), None, None);
        assert!(matches!(refused, Err(Refusal::Stranger { .. })));
        for (from, to) in [(2, 3), (1, 1)] {
            let other = Hello {
                from,
                to,
                ..hello()
            };
            let refused = judge(&ME, &other, Some(from), None, None);
            assert!(matches!(refused, Err(Refusal::Misdirected { .. })));
        }
    }

    #[test]
    fn a_member_with_another_directory_is_refused() {
        let known = |incarnation| membership(&[(1, "h", 11), (2, "", incarnation)]);
        assert_eq!(
            judge(&ME, &hello(), Some(2), None, Some(&known(12))),
            Ok(())
        );
        assert_eq!(
            judge(&ME, &hello(), Some(2), None, Some(&known(0))),
            Ok(()),
            "not known yet"
        );
        let refused = judge(&ME, &hello(), Some(2), None, Some(&known(13)));
        let expected = Refusal::OtherDirectory {
            member: 2,
            known: 13,
            shown: 12,
        };
        assert_eq!(refused, Err(expected));
        // It took part before there were incarnations: only the directory of that time is welcome.
        let old = membership(&[(2, "h", 0)]);
        assert!(judge(&ME, &hello(), Some(2), None, Some(&old)).is_err());
        let old_directory = Hello {
            incarnation: LEGACY,
            ..hello()
        };
        assert_eq!(
            judge(&ME, &old_directory, Some(2), None, Some(&old)),
            Ok(())
        );
    }

    #[test]
    fn a_removed_member_is_refused_and_one_that_may_be_new_is_not() {
        let without = membership(&[(1, "h", 11)]);
        let judged_if = |met, membership| {
            let hello = Hello {
                membership,
                ..hello()
            };
            judge(&ME, &hello, Some(2), met, Some(&without))
        };
        let judged = |membership| judged_if(Some(12), membership);
        let removed = Err(Refusal::Removed { member: 2 });
        assert_eq!(judged(Some(log_id(1, 5))), removed);
        assert_eq!(judged(Some(log_id(1, 2))), removed);
        assert_eq!(judged(None), removed);
        assert_eq!(judged(Some(log_id(1, 6))), Ok(()));
        assert_eq!(judged(Some(log_id(2, 1))), Ok(()));
        // With an empty directory it knows nothing: one that may be added yet, or one that will never be.
        assert_eq!(judged_if(None, None), removed);
        let gone = Err(Refusal::Gone { member: 2 });
        assert_eq!(judged_if(Some(13), None), gone);
        assert_eq!(judged_if(Some(13), Some(log_id(1, 6))), Ok(()));
    }
}
