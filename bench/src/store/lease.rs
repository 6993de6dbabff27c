//! Leases: granted, and kept alive on a stream of each client's own.

use anyhow::Result;
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;

use super::load::{Aims, drive};
use super::message::{LEASE_GRANT, LEASE_KEEP_ALIVE, Lease, LeaseGrantRequest, LeaseId};
use super::put::MANY;
use super::report::{Aim, Figure};
use super::wire::{Connection, Failure, Stream};
use super::{Bench, CONNECTIONS, Stage, Workload, clients, to_leader};
use crate::cluster::Cluster;

pub(super) const WORKLOAD: Workload = Workload {
    name: "lease",
    stage: Stage::Fresh,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

/// None ends while it is measured.
const GRANT: LeaseGrantRequest = LeaseGrantRequest { ttl: 3600 };
const AIMS: Aims = Aims {
    rate: Aim::at_least(2.0),
    p99: Aim::None,
};

struct Keeper {
    id: i64,
    stream: Stream,
}

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let connections = to_leader(cluster, CONNECTIONS).await?;
    let granters = clients(MANY, &connections, |_, connection| connection);
    let load = drive(cluster, bench.span(), granters, grant).await?;
    let mut figures = load.figures("lease grant, 1000 clients", &AIMS, true);

    let mut keepers = Vec::new();
    for connection in clients(MANY, &connections, |_, connection| connection) {
        let lease: Lease = connection.ask(LEASE_GRANT, &GRANT).await?;
        let id = LeaseId { id: lease.id };
        let mut stream = connection.stream(LEASE_KEEP_ALIVE, &id).await?;
        renewed(&mut stream).await?;
        keepers.push(Keeper {
            id: lease.id,
            stream,
        });
    }
    let load = drive(cluster, bench.span(), keepers, Keeper::keep_alive).await?;
    figures.extend(load.figures("lease keepalive, 1000 clients", &AIMS, false));
    Ok(figures)
}

fn grant(connection: &mut Connection, _number: u64) -> BoxFuture<'_, Result<(), Failure>> {
    async move { connection.call(LEASE_GRANT, &GRANT).await.map(drop) }.boxed()
}

impl Keeper {
    fn keep_alive(&mut self, _number: u64) -> BoxFuture<'_, Result<(), Failure>> {
        async move {
            self.stream.send(&LeaseId { id: self.id })?;
            renewed(&mut self.stream).await
        }
        .boxed()
    }
}

async fn renewed(stream: &mut Stream) -> Result<(), Failure> {
    let answer = stream.next().await?;
    let lease = Lease::decode(answer).map_err(|error| Failure(error.to_string()))?;
    match lease.ttl {
        1.. => Ok(()),
        _ => Err(Failure("the lease has ended".into())),
    }
}
