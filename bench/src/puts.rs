//! Puts of 256 bytes by 1 and by 256 clients at the leader, each client waiting for its answer before the next. An
//! error of any put ends the benchmark: a system that refuses work is not measured as a fast one.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::client::Client;
use crate::cluster::{Cluster, System, order};
use crate::{Setting, median, say};

const CLIENTS: [usize; 2] = [1, 256];
/// Connections that the clients share, as etcd's own benchmark does.
const CONNECTIONS_MAX: usize = 16;
/// Not counted: handshakes, first pages, first files.
const WARM_UP: Duration = Duration::from_secs(1);
const VALUE_BYTES: usize = 256;
const LATENCY_US_MAX: u64 = 60_000_000;

struct Round {
    system: System,
    clients: usize,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(crate) async fn run(setting: &Setting, seconds: u64) -> Result<()> {
    let mut results: Vec<Round> = Vec::new();
    for round in 0..setting.rounds {
        for system in order(round) {
            let cluster = Cluster::start(setting, system, false).await?;
            for clients in CLIENTS {
                let result = load(&cluster, clients, Duration::from_secs(seconds)).await?;
                setting.progress(&format!(
                    "puts, round {}/{}: {:<8} {clients:>3} clients {:8.0} puts/s  p50 {:6.2} ms  p99 {:6.2} ms",
                    round + 1,
                    setting.rounds,
                    system.name(),
                    result.per_second,
                    result.p50_ms,
                    result.p99_ms
                ));
                results.push(result);
            }
        }
    }
    say(&format!(
        "puts of {VALUE_BYTES} bytes, medians of {} rounds of {seconds} s",
        setting.rounds
    ));
    say("  clients   kontiki/s      etcd/s   ratio   kontiki p99     etcd p99   ratio");
    for clients in CLIENTS {
        let of = |system: System, value: fn(&Round) -> f64| {
            let matching = results
                .iter()
                .filter(|round| round.system == system && round.clients == clients);
            median(&matching.map(value).collect::<Vec<_>>())
        };
        let rates = [System::Kontiki, System::Etcd].map(|system| of(system, |r| r.per_second));
        let tails = [System::Kontiki, System::Etcd].map(|system| of(system, |r| r.p99_ms));
        say(&format!(
            "  {clients:>7} {:11.0} {:11.0} {:7.2} {:10.2} ms {:9.2} ms {:7.2}",
            rates[0],
            rates[1],
            rates[0] / rates[1],
            tails[0],
            tails[1],
            tails[0] / tails[1]
        ));
    }
    Ok(())
}

async fn load(cluster: &Cluster, clients: usize, duration: Duration) -> Result<Round> {
    let leader = cluster.leader().await?;
    let connections = (0..clients.min(CONNECTIONS_MAX))
        .map(|_| cluster.client(leader))
        .collect::<Result<Vec<_>>>()?;
    let counted_from = Instant::now() + WARM_UP;
    let end = counted_from + duration;
    let tasks: Vec<_> = (0..clients)
        .map(|number| {
            let client = connections[number % connections.len()].clone();
            tokio::spawn(one_client(client, number, counted_from, end))
        })
        .collect();
    let mut all = latencies()?;
    for task in tasks {
        all.add(task.await??)?;
    }
    let ms = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Round {
        system: cluster.system,
        clients,
        per_second: all.len() as f64 / duration.as_secs_f64(),
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
    })
}

fn latencies() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?)
}

/// Counts the puts that were answered within the time that counts.
async fn one_client(
    client: Client,
    number: usize,
    counted_from: Instant,
    end: Instant,
) -> Result<Histogram<u64>> {
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let mut latencies = latencies()?;
    let mut sequence = 0u64;
    loop {
        let key = format!("bench/{number:04}/{:08}", sequence % 1000).into_bytes();
        let sent = Instant::now();
        if sent >= end {
            return Ok(latencies);
        }
        client.put(key, value.clone()).await?;
        let answered = Instant::now();
        if answered >= counted_from && answered < end {
            let micros = u64::try_from((answered - sent).as_micros()).unwrap_or(u64::MAX);
            latencies.saturating_record(micros);
        }
        sequence += 1;
    }
}
