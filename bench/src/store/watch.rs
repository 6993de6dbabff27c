//! A thousand watchers on one prefix, with the previous value: at a hundred puts a second, how late events are; and
//! with puts as fast as they go, how many events reach the watchers in a second until each of them has all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use kv::PutRequest;

use super::load::{Cost, Errors, Latencies, Meter, Span, drive, micros_since};
use super::message::{PUT, WATCH, WatchCreate, WatchRequest};
use super::report::{Aim, ERRORS, Figure};
use super::wire::{Connection, Failure, Stream};
use super::{Bench, Stage, VALUE_BYTES, Workload, clients, prefix_end, scan, slice_of, to_leader};
use crate::cluster::Cluster;

pub(super) const WORKLOAD: Workload = Workload {
    name: "watch",
    stage: Stage::Fresh,
    run: |bench, cluster| run(bench, cluster).boxed(),
};

const PREFIX: &str = "/registry/watch/";
const STREAMS: usize = 10;
const WATCHERS_OF_A_STREAM: usize = 100;
const WATCHERS: u64 = (STREAMS * WATCHERS_OF_A_STREAM) as u64;
const KEYS: u64 = 100;
const PUTS_PER_SECOND: u32 = 100;
/// As fast as they go, by so many clients.
const WRITERS: usize = 10;
const FAST_PUTS: u64 = 500;
/// Until the last event has come.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Field numbers.
const EVENTS: u64 = 11;
const PAIR: u64 = 2;
const VALUE: u64 = 5;

/// What the watchers of all streams have seen.
#[derive(Default)]
struct Seen {
    events: AtomicU64,
    /// Of events whose value says when it was sent.
    micros: Mutex<Vec<u32>>,
    broken: Mutex<Option<String>>,
}

async fn run(bench: &Bench, cluster: &mut Cluster) -> Result<Vec<Figure>> {
    let writers = to_leader(cluster, WRITERS).await?;
    let began = Instant::now();
    let seen = Arc::new(Seen::default());
    let mut readers = Vec::new();
    for connection in to_leader(cluster, STREAMS).await? {
        let stream = subscribed(&connection).await?;
        readers.push(Reader(tokio::spawn(read(stream, began, seen.clone()))));
    }
    // So that there are previous values.
    let first = writing(bench, &writers);
    drive(cluster, Span::Operations(KEYS), first, Writer::put)
        .await?
        .complete()?;
    delivered(&seen, 0, KEYS * WATCHERS).await?;

    let mut figures = paced(bench, cluster, &writers[0], began, &seen).await?;
    figures.extend(fast(bench, cluster, &writers, &seen).await?);
    Ok(figures)
}

/// Reads until it is dropped.
struct Reader(tokio::task::JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn paced(
    bench: &Bench,
    cluster: &Cluster,
    connection: &Connection,
    began: Instant,
    seen: &Seen,
) -> Result<Vec<Figure>> {
    let name = format!("{WATCHERS} watchers, {PUTS_PER_SECOND} puts/s");
    let puts = bench.span.as_secs() * u64::from(PUTS_PER_SECOND);
    let before = seen.events.load(Ordering::Relaxed);
    let meter = Meter::start(cluster)?;
    let started = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / PUTS_PER_SECOND);
    let mut answers = Vec::new();
    for number in 0..puts {
        ticks.tick().await;
        let connection = connection.clone();
        let request = PutRequest {
            key: key(number),
            value: stamped(
                micros_since(began),
                &slice_of(&bench.noise, VALUE_BYTES, number),
            ),
            ..Default::default()
        };
        // Not one after the other: a slow answer must not make the next put come later.
        answers.push(tokio::spawn(async move {
            connection.call(PUT, &request).await.map(drop)
        }));
    }
    let mut errors = Errors::default();
    for answer in join_all(answers).await {
        if let Err(failure) = answer? {
            errors.add(&failure);
        }
    }
    delivered(seen, before, (puts - errors.count) * WATCHERS).await?;
    let seconds = started.elapsed().as_secs_f64();
    let cost = meter.stop()?;
    let events = seen.events.load(Ordering::Relaxed) - before;
    let micros = std::mem::take(&mut *seen.micros.lock().unwrap_or_else(PoisonError::into_inner));
    let latencies = Latencies::new(micros);
    let mut figures = delivery(&name, events, seconds, Aim::None, &cost);
    figures.push(Figure::new(
        &name,
        "latency p50",
        "ms",
        latencies.quantile_ms(0.5),
    ));
    figures.push(
        Figure::new(&name, "latency p99", "ms", latencies.quantile_ms(0.99)).aim(Aim::at_most(0.7)),
    );
    figures.push(Figure::new(&name, ERRORS, "", errors.count as f64));
    Ok(figures)
}

async fn fast(
    bench: &Bench,
    cluster: &Cluster,
    writers: &[Connection],
    seen: &Seen,
) -> Result<Vec<Figure>> {
    let name = format!("{WATCHERS} watchers, puts at full speed");
    let before = seen.events.load(Ordering::Relaxed);
    let meter = Meter::start(cluster)?;
    let started = Instant::now();
    let load = drive(
        cluster,
        Span::Operations(FAST_PUTS),
        writing(bench, writers),
        Writer::put,
    )
    .await?;
    delivered(seen, before, load.operations() * WATCHERS).await?;
    let seconds = started.elapsed().as_secs_f64();
    let cost = meter.stop()?;
    let events = seen.events.load(Ordering::Relaxed) - before;
    let mut figures = delivery(&name, events, seconds, Aim::at_least(4.0), &cost);
    figures.push(Figure::new(&name, ERRORS, "", load.errors.count as f64));
    Ok(figures)
}

fn delivery(name: &str, events: u64, seconds: f64, aim: Aim, cost: &Cost) -> Vec<Figure> {
    let rate = events as f64 / seconds;
    let mut figures = vec![Figure::new(name, "events", "/s", rate).aim(aim)];
    figures.extend(cost.figures(name, events, false));
    figures
}

struct Writer {
    connection: Connection,
    noise: Bytes,
}

fn writing(bench: &Bench, connections: &[Connection]) -> Vec<Writer> {
    clients(WRITERS, connections, |_, connection| Writer {
        connection,
        noise: bench.noise.clone(),
    })
}

impl Writer {
    fn put(&mut self, number: u64) -> BoxFuture<'_, Result<(), Failure>> {
        let request = PutRequest {
            key: key(number),
            value: stamped(UNTIMED, &slice_of(&self.noise, VALUE_BYTES, number)),
            ..Default::default()
        };
        async move { self.connection.call(PUT, &request).await.map(drop) }.boxed()
    }
}

fn key(number: u64) -> Bytes {
    super::put::key(PREFIX, number % KEYS)
}

/// In the place of a time: do not measure.
const UNTIMED: u32 = u32::MAX;

/// The value with the time at which it was sent in front, in microseconds since the beginning.
fn stamped(micros: u32, value: &[u8]) -> Bytes {
    let mut stamped = BytesMut::from(&micros.to_le_bytes()[..]);
    stamped.extend_from_slice(&value[size_of::<u32>()..]);
    stamped.freeze()
}

/// The times in the values of the events in an answer.
fn stamps(answer: &[u8]) -> impl Iterator<Item = Option<u32>> {
    let events = scan::parts(answer).filter(|(number, _)| *number == EVENTS);
    events.map(|(_, event)| {
        let value = scan::part(scan::part(event, PAIR)?, VALUE)?;
        let (stamp, _) = value.split_first_chunk()?;
        Some(u32::from_le_bytes(*stamp))
    })
}

/// A stream whose watchers are all there.
async fn subscribed(connection: &Connection) -> Result<Stream, Failure> {
    let create = WatchRequest {
        create: Some(WatchCreate {
            key: PREFIX.into(),
            range_end: prefix_end(PREFIX),
            prev_kv: true,
        }),
    };
    let mut stream = connection.stream(WATCH, &create).await?;
    for _ in 1..WATCHERS_OF_A_STREAM {
        stream.send(&create)?;
    }
    for _ in 0..WATCHERS_OF_A_STREAM {
        stream.next().await?;
    }
    Ok(stream)
}

async fn read(mut stream: Stream, began: Instant, seen: Arc<Seen>) {
    loop {
        let answer = match stream.next().await {
            Ok(answer) => answer,
            Err(failure) => {
                let mut broken = seen.broken.lock().unwrap_or_else(PoisonError::into_inner);
                broken.get_or_insert(failure.to_string());
                return;
            }
        };
        let now = micros_since(began);
        let mut events = 0;
        let mut latencies = Vec::new();
        for stamp in stamps(&answer).flatten() {
            events += 1;
            if stamp != UNTIMED {
                latencies.push(now.saturating_sub(stamp));
            }
        }
        if !latencies.is_empty() {
            let mut micros = seen.micros.lock().unwrap_or_else(PoisonError::into_inner);
            micros.extend(latencies);
        }
        seen.events.fetch_add(events, Ordering::Relaxed);
    }
}

/// Waits until so many events more have come, and not one too many.
async fn delivered(seen: &Seen, before: u64, expected: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let events = seen.events.load(Ordering::Relaxed) - before;
        let broken = seen
            .broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(why) = broken {
            bail!("a watch ended after {events} of {expected} events: {why}");
        }
        match events.cmp(&expected) {
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Greater => bail!("{events} events came of {expected}"),
            std::cmp::Ordering::Less if Instant::now() > deadline => {
                bail!("{events} of {expected} events came within {PATIENCE:?}")
            }
            std::cmp::Ordering::Less => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv::{Event, KeyValue};
    use prost::Message;

    #[derive(Clone, PartialEq, prost::Message)]
    struct WatchResponse {
        #[prost(int64, tag = "2")]
        watch_id: i64,
        #[prost(message, repeated, tag = "11")]
        events: Vec<Event>,
    }

    fn pair(value: Bytes) -> KeyValue {
        KeyValue {
            key: "k".into(),
            mod_revision: 7,
            value,
            ..Default::default()
        }
    }

    #[test]
    fn the_stamp_is_that_of_the_new_value() {
        let event = Event {
            kv: pair(stamped(1234, &[9; 256])),
            prev_kv: Some(pair(stamped(99, &[9; 256]))),
            ..Default::default()
        };
        let answer = WatchResponse {
            watch_id: 5,
            events: vec![event.clone(), event],
        };
        let bytes = answer.encode_to_vec();
        let found: Vec<_> = stamps(&bytes).collect();
        assert_eq!(found, [Some(1234), Some(1234)]);
    }

    #[test]
    fn a_value_without_stamp_is_no_event() {
        let deleted = Event {
            kv: pair(Bytes::new()),
            ..Default::default()
        };
        let answer = WatchResponse {
            watch_id: 0,
            events: vec![deleted],
        };
        let found: Vec<_> = stamps(&answer.encode_to_vec()).collect();
        assert_eq!(found, [None]);
    }

    #[test]
    fn a_stamp_does_not_make_a_value_longer() {
        assert_eq!(stamped(1, &[0; 256]).len(), 256);
    }
}
