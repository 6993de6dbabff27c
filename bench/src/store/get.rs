//! Gets of one key at the leader, linearizable and serializable, by one client and by many.

use anyhow::Result;
use futures::FutureExt;
use futures::future::BoxFuture;
use kv::{RangeRequest, RangeResponse};

use super::load::{Aims, Span, drive};
use super::message::RANGE;
use super::put::{MANY, PUTTING, Putter, key};
use super::report::{Aim, Figure};
use super::wire::{Connection, Failure};
use super::{Bench, CONNECTIONS, Stage, Workload, clients, to_leader};
use crate::cluster::Cluster;

pub(super) const WORKLOAD: Workload = Workload {
    name: "get",
    stage: Stage::Fresh,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

const KEYS: u64 = 10_000;
const PREFIX: &str = "get/";

struct Getter {
    connection: Connection,
    serializable: bool,
}

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let connections = to_leader(cluster, CONNECTIONS).await?;
    let putters = Putter::many(bench, MANY, &connections, PREFIX, KEYS);
    drive(cluster, Span::Operations(KEYS), putters, PUTTING)
        .await?
        .complete()?;
    let cases = [
        ("get linearizable, 1 client", 1, false),
        ("get linearizable, 1000 clients", MANY, false),
        ("get serializable, 1 client", 1, true),
        ("get serializable, 1000 clients", MANY, true),
    ];
    let aims = Aims {
        rate: Aim::at_least(2.5),
        p99: Aim::None,
    };
    let mut figures = Vec::new();
    for (name, count, serializable) in cases {
        let getters = clients(count, &connections, |_, connection| Getter {
            connection,
            serializable,
        });
        let load = drive(cluster, bench.span(), getters, Getter::get).await?;
        figures.extend(load.figures(name, &aims, false));
    }
    Ok(figures)
}

impl Getter {
    fn get(&mut self, number: u64) -> BoxFuture<'_, Result<(), Failure>> {
        // A prime step: neither the next key nor the same ones.
        let request = RangeRequest {
            key: key(PREFIX, number.wrapping_mul(7919) % KEYS),
            serializable: self.serializable,
            ..Default::default()
        };
        async move {
            let answer: RangeResponse = self.connection.ask(RANGE, &request).await?;
            match answer.kvs.as_slice() {
                [_] => Ok(()),
                _ => Err(Failure("the key is not there".into())),
            }
        }
        .boxed()
    }
}
