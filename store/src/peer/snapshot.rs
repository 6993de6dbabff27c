//! A snapshot from member to member: a header, then the files of a checkpoint one after the other, each in frames of
//! at most a megabyte and closed by its checksum. The receiver collects them in a staging directory and syncs them
//! before it hands them to Raft.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::disk;
use crate::env::Files;
use crate::env::tempdir::StagingDir;
use crate::host;
use crate::peer::codec;
use crate::peer::wire::{
    Connection, FrameReader, SnapshotAnswer, SnapshotFile, SnapshotFileEnd, SnapshotHeader,
};
use crate::raft::types::{SnapshotMeta, Vote};

const CHUNK: usize = 1 << 20;
/// Between two frames.
const IDLE: Duration = Duration::from_secs(30);
/// To verify and open what was received.
const INSTALL: Duration = Duration::from_secs(600);

/// Sends the checkpoint in `dir`. Answers the receiver's vote.
pub async fn send(
    connection: &mut Connection,
    vote: Vote,
    meta: SnapshotMeta,
    disk: &Arc<dyn Files>,
    dir: &Path,
) -> io::Result<Vote> {
    let listed = disk.list(dir)?.into_iter();
    let needed = listed.filter(|(name, _)| name != "LOCK" && !name.starts_with("LOG"));
    let files: Vec<_> = needed
        .map(|(name, bytes)| SnapshotFile { name, bytes })
        .collect();
    let writer = &mut connection.writer;
    writer
        .message(&SnapshotHeader {
            vote,
            meta,
            files: files.clone(),
        })
        .await?;
    let mut buffer = vec![0; CHUNK];
    for file in files {
        let mut source = disk.open(&dir.join(&file.name))?;
        let (mut crc, mut left) = (0, file.bytes);
        while left > 0 {
            let want = left.min(CHUNK as u64) as usize;
            let read = host::blocking(move || {
                let read = source.read_exact(&mut buffer[..want]);
                read.map(|()| (source, buffer))
            });
            (source, buffer) = read.await.map_err(io::Error::other)??;
            crc = crc32c::crc32c_append(crc, &buffer[..want]);
            writer.frame(&buffer[..want]).await?;
            left -= want as u64;
        }
        writer.message(&SnapshotFileEnd { crc32c: crc }).await?;
    }
    let answer: SnapshotAnswer = connection.reader.message(INSTALL).await?;
    answer.map_err(io::Error::other)
}

/// Receives a snapshot into `dir/state`.
pub async fn receive(reader: &mut FrameReader, dir: &StagingDir) -> io::Result<SnapshotHeader> {
    let header: SnapshotHeader = reader.message(IDLE).await?;
    let state = dir.path().join("state");
    dir.files().create_dir(&state)?;
    for file in &header.files {
        let plain = !file.name.is_empty()
            && !file.name.starts_with('.')
            && !file.name.contains(['/', '\\', '\0']);
        if !plain {
            return Err(disk::damaged(format!(
                "the snapshot has a file named {:?}",
                file.name
            )));
        }
        receive_file(reader, dir.files(), &state.join(&file.name), file.bytes).await?;
    }
    let files = dir.files().clone();
    let synced = host::blocking(move || files.sync_dir(&state)).await;
    synced.map_err(io::Error::other)??;
    Ok(header)
}

async fn receive_file(
    reader: &mut FrameReader,
    files: &Arc<dyn Files>,
    path: &Path,
    bytes: u64,
) -> io::Result<()> {
    let mut target = files.create(path)?;
    let (mut crc, mut left) = (0, bytes);
    while left > 0 {
        let frame = next(reader).await?;
        if frame.len() as u64 > left {
            return Err(disk::damaged(format!(
                "{} is longer than announced",
                path.display()
            )));
        }
        crc = crc32c::crc32c_append(crc, &frame);
        left -= frame.len() as u64;
        let written = host::blocking(move || target.write_all(&frame).map(|()| target));
        target = written.await.map_err(io::Error::other)??;
    }
    let end: SnapshotFileEnd = codec::decode(&next(reader).await?)?;
    if end.crc32c != crc {
        return Err(disk::damaged(format!(
            "{} arrived with a wrong checksum",
            path.display()
        )));
    }
    let synced = host::blocking(move || target.sync()).await;
    synced.map_err(io::Error::other)?
}

async fn next(reader: &mut FrameReader) -> io::Result<Vec<u8>> {
    let frame = tokio::time::timeout(IDLE, reader.frame()).await;
    frame
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
