//! An update as kube-apiserver makes it: put if the key is still at the revision that was read, else read it. Each
//! client has keys of its own, so that none is ever refused; a refusal counts as an error.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use kv::{
    Compare, CompareOperand, CompareResult, CompareTarget, PutRequest, RangeRequest, Request,
    RequestOp, TxnRequest,
};

use super::load::{Aims, Span, drive};
use super::message::{TXN, TxnOutcome};
use super::report::{Aim, Figure};
use super::wire::{Connection, Failure};
use super::{Bench, CONNECTIONS, Stage, Workload, clients, slice_of, to_leader};
use crate::cluster::Cluster;

pub(super) const WORKLOAD: Workload = Workload {
    name: "txn",
    stage: Stage::Fresh,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

const CLIENTS: usize = 300;
const KEYS_OF_A_CLIENT: u64 = 50;
const OBJECT_BYTES: usize = 1024;
/// A warm-up in which the objects are made, by the same transaction.
const CREATION: Duration = Duration::from_secs(3);

struct Updater {
    connection: Connection,
    keys: Vec<Object>,
    turn: usize,
    noise: Bytes,
}

struct Object {
    key: Bytes,
    /// Of its last put; 0 before the first.
    revision: i64,
}

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let connections = to_leader(cluster, CONNECTIONS).await?;
    let updaters = clients(CLIENTS, &connections, |number, connection| Updater {
        connection,
        keys: (0..KEYS_OF_A_CLIENT)
            .map(|object| Object {
                key: key(number, object),
                revision: 0,
            })
            .collect(),
        turn: 0,
        noise: bench.noise.clone(),
    });
    let span = Span::Time {
        warm_up: CREATION,
        counted: bench.span,
    };
    let load = drive(cluster, span, updaters, Updater::update).await?;
    let aims = Aims {
        rate: Aim::at_least(2.0),
        p99: Aim::at_most(0.5),
    };
    Ok(load.figures("update transaction 1 KiB, 300 clients", &aims, true))
}

/// About as long as a Pod's.
fn key(client: usize, object: u64) -> Bytes {
    format!("/registry/pods/namespace-{client:04}/deployment-7d9f8b6c5d-replica-{object:06}").into()
}

impl Updater {
    fn update(&mut self, number: u64) -> BoxFuture<'_, Result<(), Failure>> {
        let turn = self.turn;
        self.turn = (turn + 1) % self.keys.len();
        let value = slice_of(&self.noise, OBJECT_BYTES, number);
        let (connection, object) = (&self.connection, &mut self.keys[turn]);
        async move {
            let request = update(&object.key, object.revision, value);
            let outcome: TxnOutcome = connection.ask(TXN, &request).await?;
            if !outcome.succeeded {
                return Err(Failure("refused, although nobody else writes".into()));
            }
            object.revision = outcome.header.map_or(0, |header| header.revision);
            Ok(())
        }
        .boxed()
    }
}

fn update(key: &Bytes, revision: i64, value: Bytes) -> TxnRequest {
    let operation = |request| RequestOp {
        request: Some(request),
    };
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: key.clone(),
            operand: Some(CompareOperand::ModRevision(revision)),
            range_end: Bytes::new(),
        }],
        success: vec![operation(Request::Put(PutRequest {
            key: key.clone(),
            value,
            ..Default::default()
        }))],
        failure: vec![operation(Request::Range(RangeRequest {
            key: key.clone(),
            ..Default::default()
        }))],
    }
}
