//! A snapshot from member to member: a header, then the files of a checkpoint one after the other, each in frames of
//! at most a megabyte and closed by its checksum. The receiver collects them in a staging directory and syncs them
//! before it hands them to Raft.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::disk;
use crate::env::tempdir::StagingDir;
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
    dir: &Path,
) -> io::Result<Vote> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| disk::damaged("a file name is not text"))?;
        if name == "LOCK" || name.starts_with("LOG") {
            continue;
        }
        files.push(SnapshotFile {
            name,
            bytes: entry.metadata()?.len(),
        });
    }
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
        let mut source = File::open(dir.join(&file.name)).await?;
        let (mut crc, mut left) = (0, file.bytes);
        while left > 0 {
            let want = left.min(CHUNK as u64) as usize;
            source.read_exact(&mut buffer[..want]).await?;
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
    tokio::fs::create_dir_all(&state).await?;
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
        receive_file(reader, &state.join(&file.name), file.bytes).await?;
    }
    File::open(&state).await?.sync_all().await?;
    Ok(header)
}

async fn receive_file(reader: &mut FrameReader, path: &Path, bytes: u64) -> io::Result<()> {
    let mut target = File::create_new(path).await?;
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
        target.write_all(&frame).await?;
        left -= frame.len() as u64;
    }
    let end: SnapshotFileEnd = codec::decode(&next(reader).await?)?;
    if end.crc32c != crc {
        return Err(disk::damaged(format!(
            "{} arrived with a wrong checksum",
            path.display()
        )));
    }
    target.sync_all().await
}

async fn next(reader: &mut FrameReader) -> io::Result<Vec<u8>> {
    let frame = tokio::time::timeout(IDLE, reader.frame()).await;
    frame
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
