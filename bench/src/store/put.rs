//! Puts of 256 bytes to a hundred thousand keys in turn: by one client, by many at the leader, by many at all members.

use anyhow::Result;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use kv::PutRequest;

use super::load::{Aims, Operation, drive};
use super::message::PUT;
use super::report::{Aim, Figure};
use super::wire::{Connection, Failure};
use super::{Bench, CONNECTIONS, Stage, VALUE_BYTES, Workload, clients, slice_of, to_leader};
use crate::cluster::Cluster;

pub(super) const WORKLOAD: Workload = Workload {
    name: "put",
    stage: Stage::Fresh,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

const KEYS: u64 = 100_000;
pub(super) const MANY: usize = 1000;

/// A client that puts; the key is the operation's number within so many, after a prefix.
pub(super) struct Putter {
    pub(super) connection: Connection,
    pub(super) prefix: &'static str,
    pub(super) keys: u64,
    pub(super) noise: Bytes,
}

impl Putter {
    pub(super) fn many(
        bench: &Bench,
        count: usize,
        connections: &[Connection],
        prefix: &'static str,
        keys: u64,
    ) -> Vec<Putter> {
        clients(count, connections, |_, connection| Putter {
            connection,
            prefix,
            keys,
            noise: bench.noise.clone(),
        })
    }

    fn put(&mut self, number: u64) -> BoxFuture<'_, Result<(), Failure>> {
        let request = PutRequest {
            key: key(self.prefix, number % self.keys),
            value: slice_of(&self.noise, VALUE_BYTES, number),
            ..Default::default()
        };
        async move { self.connection.call(PUT, &request).await.map(drop) }.boxed()
    }
}

pub(super) const PUTTING: Operation<Putter> = Putter::put;

pub(super) fn key(prefix: &str, number: u64) -> Bytes {
    format!("{prefix}{number:08}").into()
}

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let leader = to_leader(cluster, CONNECTIONS).await?;
    let mut all = Vec::new();
    for index in 0..CONNECTIONS {
        all.push(cluster.connect(index % 3).await?);
    }
    let mut figures = Vec::new();
    let cases = [
        (
            "put 256 B, 1 client",
            1,
            &leader,
            (Aim::at_least(1.2), Aim::None),
        ),
        (
            "put 256 B, 1000 clients, leader",
            MANY,
            &leader,
            (Aim::at_least(2.0), Aim::at_most(0.5)),
        ),
        (
            "put 256 B, 1000 clients, all members",
            MANY,
            &all,
            (Aim::at_least(2.0), Aim::at_most(0.5)),
        ),
    ];
    for (name, count, connections, (rate, p99)) in cases {
        let putters = Putter::many(bench, count, connections, "", KEYS);
        let load = drive(cluster, bench.span(), putters, PUTTING).await?;
        figures.extend(load.figures(name, &Aims { rate, p99 }, true));
    }
    Ok(figures)
}
