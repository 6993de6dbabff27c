//! Puts of 256 bytes by 1 and by 256 clients, each client waiting for its answer before the next.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::cluster::{Cluster, System};
use crate::{median, say};

const CLIENTS: [usize; 2] = [1, 256];
/// Connections that the clients share, as etcd's own benchmark does.
const CONNECTIONS_MAX: usize = 16;

struct Round {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(crate) async fn run(kontiki: &Path, rounds: usize, seconds: u64) -> Result<()> {
    let mut results: Vec<(System, usize, Round)> = Vec::new();
    for round in 0..rounds {
        for system in [System::Kontiki, System::Etcd] {
            let cluster = Cluster::start(system, kontiki, false).await?;
            for clients in CLIENTS {
                let result = load(&cluster, clients, Duration::from_secs(seconds)).await?;
                say(&format!(
                    "round {} {:<8} {clients:>3} clients: {:8.0} puts/s  p50 {:6.2} ms  p99 {:6.2} ms",
                    round + 1,
                    system.name(),
                    result.per_second,
                    result.p50_ms,
                    result.p99_ms
                ));
                results.push((system, clients, result));
            }
        }
    }
    say("");
    say("puts, medians      kontiki/s     etcd/s   ratio   kontiki p99   etcd p99");
    for clients in CLIENTS {
        let of = |system: System, value: fn(&Round) -> f64| {
            let mut values: Vec<f64> = results
                .iter()
                .filter(|(which, count, _)| *which == system && *count == clients)
                .map(|(_, _, round)| value(round))
                .collect();
            median(&mut values)
        };
        let (ours, theirs) = (
            of(System::Kontiki, |r| r.per_second),
            of(System::Etcd, |r| r.per_second),
        );
        say(&format!(
            "{clients:>3} clients       {ours:10.0} {theirs:10.0}   {:5.2} {:10.2} ms {:7.2} ms",
            ours / theirs,
            of(System::Kontiki, |r| r.p99_ms),
            of(System::Etcd, |r| r.p99_ms)
        ));
    }
    Ok(())
}

async fn load(cluster: &Cluster, clients: usize, duration: Duration) -> Result<Round> {
    let leader = cluster.leader().await?;
    let connections = (0..clients.min(CONNECTIONS_MAX))
        .map(|_| cluster.client(leader))
        .collect::<Result<Vec<_>>>()?;
    let value = Bytes::from(vec![b'v'; 256]);
    let end = Instant::now() + duration;
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|number| {
            let client = connections[number % connections.len()].clone();
            let value = value.clone();
            tokio::spawn(async move {
                let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)
                    .map_err(|error| tonic::Status::internal(error.to_string()))?;
                let mut sequence = 0u64;
                while Instant::now() < end {
                    let key = format!("bench/{number:04}/{:08}", sequence % 1000).into_bytes();
                    let sent = Instant::now();
                    client.put(key, value.clone()).await?;
                    latencies.saturating_record(sent.elapsed().as_micros() as u64);
                    sequence += 1;
                }
                Ok::<_, tonic::Status>(latencies)
            })
        })
        .collect();
    let mut all = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    for task in tasks {
        all.add(task.await??)?;
    }
    let ms = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Round {
        per_second: all.len() as f64 / began.elapsed().as_secs_f64(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
    })
}
