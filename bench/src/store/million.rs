//! A million keys: put one by one, as they would come, and what they take in memory and on disk.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use kv::{PutRequest, Request, RequestOp, TxnRequest};

use super::load::{Aims, Operation, Span, drive};
use super::message::{TXN, TxnOutcome};
use super::process::{Memory, disk_bytes};
use super::put::{MANY, PUTTING, Putter, key};
use super::report::{Aim, Figure};
use super::wire::{Connection, Failure};
use super::{
    BULK_PUTS, Bench, CONNECTIONS, Stage, Workload, clients, grouped, slice_of, to_leader,
};
use crate::cluster::Cluster;
use crate::median;

pub(super) const WORKLOAD: Workload = Workload {
    name: "million",
    stage: Stage::Loaded,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

pub(super) const PREFIX: &str = "/registry/bench/";
/// For flushes and garbage collections that are put off.
const IDLE: Duration = Duration::from_secs(3);

pub(super) async fn load(bench: &Bench, cluster: &Cluster) -> Result<Vec<Figure>> {
    let connections = to_leader(cluster, CONNECTIONS).await?;
    let putters = Putter::many(bench, MANY, &connections, PREFIX, bench.keys);
    let load = drive(cluster, Span::Operations(bench.keys), putters, PUTTING).await?;
    load.complete()?;
    let name = format!("put of {} keys, 1000 clients", grouped(bench.keys));
    let aims = Aims {
        rate: Aim::at_least(2.0),
        p99: Aim::at_most(0.5),
    };
    Ok(load.figures(&name, &aims, true))
}

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    tokio::time::sleep(IDLE).await;
    let name = format!("{} keys of {} B", grouped(bench.keys), super::VALUE_BYTES);
    let memories = cluster.pids().into_iter().map(Memory::of);
    let memories = memories.collect::<Result<Vec<_>>>()?;
    let largest = memories
        .iter()
        .max_by_key(|memory| memory.resident_bytes)
        .context("no member runs")?;
    let disks = (0..3).map(|index| Ok(disk_bytes(&cluster.data(index))? as f64 / 1e6));
    let disks = disks.collect::<Result<Vec<_>>>()?;
    Ok(vec![
        Figure::new(
            &name,
            "memory, largest member",
            "MB",
            largest.resident_bytes as f64 / 1e6,
        )
        .aim(Aim::at_most(0.5)),
        Figure::new(
            &name,
            "of it not of files",
            "MB",
            largest.anonymous_bytes as f64 / 1e6,
        ),
        Figure::new(&name, "disk, median member", "MB", median(&disks)).aim(Aim::at_most(0.4)),
    ])
}

/// A client that only prepares data: so many puts in one transaction, as fast as it goes.
pub(super) struct Bulk {
    connection: Connection,
    prefix: &'static str,
    keys: u64,
    bytes: usize,
    /// Another value for the same key with another one.
    salt: u64,
    noise: Bytes,
}

/// Enough to keep a server busy.
const BULK_CLIENTS: usize = 8;

/// Puts each of so many keys once.
pub(super) async fn bulk(
    bench: &Bench,
    cluster: &Cluster,
    connections: &[Connection],
    (prefix, keys, bytes, salt): (&'static str, u64, usize, u64),
) -> Result<()> {
    let bulks = clients(BULK_CLIENTS, connections, |_, connection| Bulk {
        connection,
        prefix,
        keys,
        bytes,
        salt,
        noise: bench.noise.clone(),
    });
    let span = Span::Operations(keys.div_ceil(BULK_PUTS));
    drive(cluster, span, bulks, BULK_PUTTING).await?.complete()
}

const BULK_PUTTING: Operation<Bulk> = Bulk::put;

impl Bulk {
    fn put(&mut self, number: u64) -> BoxFuture<'_, Result<(), Failure>> {
        let from = number * BULK_PUTS;
        let put = |number| RequestOp {
            request: Some(Request::Put(PutRequest {
                key: key(self.prefix, number),
                value: slice_of(&self.noise, self.bytes, number ^ self.salt),
                ..Default::default()
            })),
        };
        let request = TxnRequest {
            success: (from..self.keys.min(from + BULK_PUTS)).map(put).collect(),
            ..Default::default()
        };
        async move {
            let outcome: TxnOutcome = self.connection.ask(TXN, &request).await?;
            match outcome.succeeded {
                true => Ok(()),
                false => Err(Failure(
                    "a transaction without conditions was refused".into(),
                )),
            }
        }
        .boxed()
    }
}
