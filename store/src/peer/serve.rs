//! The listening side: who comes in, and what its connection is for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use openraft::raft::AppendEntriesRequest;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use crate::core::Core;
use crate::env::{ByteStream, Listener};
use crate::peer::codec;
use crate::peer::snapshot;
use crate::peer::tls::{Tls, member_of};
use crate::peer::wire::{
    Answer, AppendAnswer, Call, Connection, FrameReader, FrameWriter, Hello, Lane, SnapshotAnswer,
    Welcome,
};
use crate::raft::machine::{Snapshot, SnapshotData};
use crate::raft::types::TypeConfig;

/// To shake hands and say hello.
const GREETING: Duration = Duration::from_secs(5);
/// Connections at once; members have a handful each.
const CONNECTIONS: usize = 256;
/// Calls of one connection carried out at once.
const CALLS: usize = 2048;
/// Appends read ahead of Raft.
const APPENDS: usize = 16;

/// Serves members until the core stops.
pub async fn accept(core: Arc<Core>, mut listener: Box<dyn Listener>, tls: Arc<Tls>) {
    let acceptor = TlsAcceptor::from(tls.server.clone());
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, address)) => {
                let (core, acceptor) = (core.clone(), acceptor.clone());
                let stop = core.transport.stop.clone();
                let tasks = core.transport.tasks.clone();
                tasks.spawn(async move {
                    let _permit = permit;
                    tokio::select! {
                        () = stop.cancelled() => {}
                        served = serve(core, acceptor, stream) => {
                            if let Err(error) = served {
                                tracing::debug!(%address, %error, "peer connection ended");
                            }
                        }
                    }
                });
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
    acceptor: TlsAcceptor,
    stream: Box<dyn ByteStream>,
) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let stream = timeout(GREETING, acceptor.accept(stream))
        .await
        .map_err(late)??;
    let cluster_id = core.transport.cluster_id;
    let certificates = stream.get_ref().1.peer_certificates();
    let proved = certificates.and_then(|chain| member_of(chain.first()?, cluster_id));
    let mut connection = Connection::new(Box::new(stream) as Box<dyn ByteStream>);
    let hello: Hello = connection.reader.message(GREETING).await?;
    if let Some(refusal) = refuse(&core, &hello, proved) {
        tracing::warn!(from = %format!("{:016x}", hello.from), refusal, "a peer connection is refused");
        return connection.writer.message(&Welcome::Refused(refusal)).await;
    }
    connection.writer.message(&Welcome::Accepted).await?;
    match hello.lane {
        Lane::Raft | Lane::Client => serve_calls(core, hello.from, connection).await,
        Lane::Append => serve_appends(core, connection).await,
        Lane::Snapshot => serve_snapshots(core, connection).await,
    }
}

fn refuse(core: &Core, hello: &Hello, proved: Option<u64>) -> Option<String> {
    let (cluster, me) = (core.transport.cluster_id, core.transport.me);
    if proved != Some(hello.from) || hello.cluster_id != cluster {
        Some(format!(
            "the certificate is not of member {:016x} of cluster {cluster:016x}",
            hello.from
        ))
    } else if hello.to != me {
        Some(format!("this is member {me:016x}, not {:016x}", hello.to))
    } else {
        None
    }
}

async fn serve_calls(core: Arc<Core>, from: u64, connection: Connection) -> io::Result<()> {
    let Connection { mut reader, writer } = connection;
    let (answers, outgoing) = mpsc::channel(CALLS);
    let mut writing = AbortOnDropHandle::new(tokio::spawn(write_answers(writer, outgoing)));
    let permits = Arc::new(Semaphore::new(CALLS));
    loop {
        let permit = permits
            .clone()
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let frame = tokio::select! {
            frame = reader.frame() => frame?,
            ended = &mut writing => return ended.map_err(io::Error::other)?,
        };
        let Some(frame) = frame else { continue };
        let Call { id, request } = codec::decode(&frame)?;
        let (core, answers) = (core.clone(), answers.clone());
        let tasks = core.transport.tasks.clone();
        tasks.spawn(async move {
            let response = core.answer(from, request).await;
            // The connection may be gone; then nobody waits.
            drop(answers.send(Answer { id, response }).await);
            drop(permit);
        });
    }
}

async fn write_answers(
    mut writer: FrameWriter,
    mut outgoing: mpsc::Receiver<Answer>,
) -> io::Result<()> {
    while let Some(answer) = outgoing.recv().await {
        writer.frame(&codec::encode(&answer)?).await?;
        while let Ok(answer) = outgoing.try_recv() {
            writer.frame(&codec::encode(&answer)?).await?;
        }
        writer.flush().await?;
    }
    Ok(())
}

/// One stream of appends after the other: frames up to an empty one, an answer each, and an empty frame back.
async fn serve_appends(core: Arc<Core>, mut connection: Connection) -> io::Result<()> {
    loop {
        let (requests, input) = mpsc::channel(APPENDS);
        let mut answers = Box::pin(core.raft.stream_append(ReceiverStream::new(input)));
        let Connection { reader, writer } = &mut connection;
        let mut reading = Box::pin(read_appends(reader, requests));
        let mut read_to_end = false;
        loop {
            tokio::select! {
                ended = &mut reading, if !read_to_end => {
                    ended?;
                    read_to_end = true;
                }
                answer = answers.next() => {
                    let Some(answer) = answer else { break };
                    core.hear();
                    let answer: AppendAnswer = answer.map_err(|fatal| fatal.to_string());
                    let failed = !matches!(answer, Ok(Ok(_)));
                    writer.message(&answer).await?;
                    if failed {
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

async fn read_appends(
    reader: &mut FrameReader,
    requests: mpsc::Sender<AppendEntriesRequest<TypeConfig>>,
) -> io::Result<()> {
    while let Some(frame) = reader.frame().await? {
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
