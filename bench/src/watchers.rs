//! What watchers cost a server's memory: ten thousand watches on one stream, ten thousand streams of one watch each, and
//! events that none of them reads.

use anyhow::{Context, Result};
use bytes::Bytes;
use kv::PutRequest;

use crate::cluster::{Cluster, System};
use crate::store::message::{PUT, WATCH, WatchCreate, WatchRequest};
use crate::store::wire::{Connection, Failure, Stream};
use crate::{Setting, say};

const WATCHERS: usize = 10_000;
/// Streams of one connection: Go's servers take no more than 250.
const STREAMS: usize = 200;
/// Puts that go to two watchers each, of so many bytes.
const UNREAD: usize = 2000;
const VALUE_BYTES: usize = 10_000;

pub(crate) async fn run(setting: &Setting) -> Result<()> {
    for system in [System::Kontiki, System::Etcd] {
        setting.progress(&format!(
            "watchers: twice {WATCHERS} watches of {}",
            system.name()
        ));
        let cluster = Cluster::start(setting, system, false).await?;
        let leader = cluster.leader().await?;
        let resident = || cluster.resident_bytes(leader);
        let line = |what: &str, bytes: f64, unit: &str| {
            say(&format!("{what}, {:<8} {bytes:9.1} {unit}", system.name()));
        };
        let each = |before: u64| resident().saturating_sub(before) as f64 / WATCHERS as f64 / 1e3;

        let before = resident();
        let one = cluster.connect(leader).await?;
        let mut stream = watching(&one, 0).await?;
        for number in 1..WATCHERS {
            stream.send(&watch(number))?;
            stream.next().await?;
        }
        line(
            "memory of a watch on a stream with others",
            each(before),
            "kB",
        );

        let before = resident();
        let mut connections = Vec::new();
        let mut streams = Vec::new();
        for number in 0..WATCHERS {
            if number % STREAMS == 0 {
                connections.push(cluster.connect(leader).await?);
            }
            let connection = connections.last().context("one is made before")?;
            streams.push(watching(connection, number).await?);
        }
        line(
            "memory of a watch on a stream of its own",
            each(before),
            "kB",
        );

        // Nobody reads, and the server has to know what it owes.
        let before = resident();
        let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
        let writer = cluster.connect(leader).await?;
        for number in 0..UNREAD {
            let request = PutRequest {
                key: key(number),
                value: value.clone(),
                ..Default::default()
            };
            writer.call(PUT, &request).await?;
        }
        let more = resident().saturating_sub(before) as f64 / 1e6;
        let what = format!(
            "memory of {UNREAD} events of {VALUE_BYTES} B that two watchers each do not read"
        );
        line(&what, more, "MB");
    }
    Ok(())
}

fn key(number: usize) -> Bytes {
    format!("/registry/pods/key{number:05}").into()
}

fn watch(number: usize) -> WatchRequest {
    WatchRequest {
        create: Some(WatchCreate {
            key: key(number),
            ..WatchCreate::default()
        }),
    }
}

/// A stream with one watch, which is there.
async fn watching(connection: &Connection, number: usize) -> Result<Stream, Failure> {
    let mut stream = connection.stream(WATCH, &watch(number)).await?;
    stream.next().await?;
    Ok(stream)
}
