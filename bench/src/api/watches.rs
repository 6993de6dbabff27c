//! Watches: to open a thousand, to deliver an event to each of them, and to pass by those whose selector does not match.
//! Every watcher has a connection of its own, as the node agents of so many machines do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use h2::RecvStream;
use serde_json::json;
use tokio::task::JoinSet;

use super::http::{Connection, MERGE_PATCH, Request, next_chunk};
use super::plane::{Plane, WRITTEN, pods};
use super::report::{self, Row};
use super::{Bench, Rows};
use crate::store::load::{Latencies, Meter, micros_since};

/// Watches that are opened at once.
const OPENING: usize = 32;
/// Writers of a burst, each with a pod of its own.
const WRITERS: usize = 8;
/// Between two events that are to be delivered one by one.
const PACE: Duration = Duration::from_millis(40);
/// For events that are under way.
const PATIENCE: Duration = Duration::from_secs(60);
const LABEL: &str = "watched";

pub(super) async fn run(bench: &Bench<'_>, plane: &Plane, rows: &mut Rows<'_>) -> Result<()> {
    let count = usize::from(bench.args.watchers);
    let turns = bench.args.events;
    let note = format!("{count} watchers");
    make_pods(plane).await?;
    let unwatched = write(plane, turns, 1, Some(PACE)).await?;
    let unwatched_burst = write(plane, turns, WRITERS, None).await?;

    bench.progress(plane, &format!("opens {count} watches that match"));
    let before = plane.memory()?;
    let (matching, opened) = open(plane, count, LABEL).await?;
    rows.keep(opened);
    let each = (plane.memory()? - before) / count as f64 / 1e3;
    rows.keep(Row::amount(&plane.name, report::WATCH_BYTES, each, "kB").note(note.clone()));
    for (operation, writers, pace, without) in [
        (report::DELIVER, 1, Some(PACE), unwatched),
        (report::DELIVER_BURST, WRITERS, None, unwatched_burst),
    ] {
        let delivered = turns * count as u64;
        let seen = matching.events.load(Ordering::Relaxed);
        let meter = Meter::at(plane.pids())?;
        write(plane, turns, writers, pace).await?;
        matching.wait(seen + delivered).await?;
        let cpu = meter.stop()?.servers.cpu_seconds - without;
        rows.keep(row(plane, operation, above_ticks(cpu), delivered, &note));
    }
    drop(matching);

    bench.progress(plane, &format!("opens {count} watches that do not match"));
    let (others, _) = open(plane, count, "nobody").await?;
    let meter = Meter::at(plane.pids())?;
    write(plane, turns, 1, Some(PACE)).await?;
    let cpu = meter.stop()?.servers.cpu_seconds - unwatched;
    rows.keep(row(
        plane,
        report::PASS_BY,
        cpu,
        turns * count as u64,
        &note,
    ));
    match others.events.load(Ordering::Relaxed) {
        0 => Ok(()),
        some => bail!("{some} events came to watchers that had asked for others"),
    }
}

fn row(plane: &Plane, operation: &str, cpu_seconds: f64, events: u64, note: &str) -> Row {
    let micros = match plane.knows_processes() {
        true => no_less_than_nothing(cpu_seconds) * 1e6 / events as f64,
        false => f64::NAN,
    };
    Row::cpu(&plane.name, operation, micros).note(note)
}

/// What is not a number stays so.
fn no_less_than_nothing(cpu_seconds: f64) -> f64 {
    match cpu_seconds < 0.0 {
        true => 0.0,
        false => cpu_seconds,
    }
}

/// A difference that is not lost in how coarsely CPU time is counted.
fn above_ticks(cpu_seconds: f64) -> f64 {
    const TICKS: f64 = 0.05;
    match cpu_seconds >= TICKS {
        true => cpu_seconds,
        false => f64::NAN,
    }
}

/// The pods whose changes are watched.
async fn make_pods(plane: &Plane) -> Result<()> {
    let connection = plane.connect().await?;
    let template = plane.pod(LABEL).await?;
    for writer in 0..WRITERS {
        let _left_over = connection.call(&Request::delete(path(writer))).await?;
        let request = Request::post(pods(WRITTEN), template.named(&name(writer)));
        connection.ask(&request).await?;
    }
    Ok(())
}

fn name(writer: usize) -> String {
    format!("watched-{writer}")
}

fn path(writer: usize) -> String {
    format!("{}/{}", pods(WRITTEN), name(writer))
}

/// Makes so many changes in all; the CPU seconds that the servers took meanwhile.
async fn write(plane: &Plane, turns: u64, writers: usize, pace: Option<Duration>) -> Result<f64> {
    let meter = Meter::at(plane.pids())?;
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let (connection, next) = (plane.connect().await?, next.clone());
        tasks.spawn(async move {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= turns {
                    return anyhow::Ok(());
                }
                let began = Instant::now();
                // Never what it was before, also when this is done again: that would be no change.
                let turn = format!("{turn}-{}", rand::random::<u32>());
                let patch = json!({ "metadata": { "annotations": { "turn": turn } } });
                let request = Request::patch(path(writer), MERGE_PATCH, patch.to_string());
                connection.ask(&request).await?;
                if let Some(pace) = pace {
                    tokio::time::sleep(pace.saturating_sub(began.elapsed())).await;
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(meter.stop()?.servers.cpu_seconds)
}

/// Watches that are read as fast as they come. They end when this is dropped.
struct Watchers {
    tasks: JoinSet<()>,
    events: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
}

async fn open(plane: &Plane, count: usize, app: &str) -> Result<(Watchers, Row)> {
    let version = plane.connect().await?;
    let version = version
        .ask(&Request::get(format!("{}?limit=1", pods(WRITTEN))))
        .await?;
    let version = version.json()?["metadata"]["resourceVersion"]
        .as_str()
        .context("a list without a version")?
        .to_owned();
    let path = format!(
        "{}?watch=true&labelSelector=app%3D{app}&resourceVersion={version}",
        pods(WRITTEN)
    );
    let request = Request::get(path);
    let mut watchers = Watchers {
        tasks: JoinSet::new(),
        events: Arc::default(),
        ended: Arc::default(),
    };
    let meter = Meter::at(plane.pids())?;
    let began = Instant::now();
    let mut opening = futures::stream::iter(0..count)
        .map(|number| {
            let endpoint = &plane.endpoints[number % plane.endpoints.len()];
            let request = &request;
            async move {
                let began = Instant::now();
                let connection = Connection::open(endpoint).await?;
                let body = connection.stream(request).await?;
                anyhow::Ok((connection, body, micros_since(began)))
            }
        })
        .buffer_unordered(OPENING);
    let mut micros = Vec::new();
    while let Some(opened) = opening.next().await {
        let (connection, body, took) = opened?;
        micros.push(took);
        let (events, ended) = (watchers.events.clone(), watchers.ended.clone());
        watchers.tasks.spawn(async move {
            // The connection ends with its last handle.
            let _connection = connection;
            read(body, &events).await;
            ended.fetch_add(1, Ordering::Relaxed);
        });
    }
    drop(opening);
    let seconds = began.elapsed().as_secs_f64();
    let cpu = meter.stop()?.servers.cpu_seconds;
    let latencies = Latencies::new(micros);
    let row = Row {
        per_second: count as f64 / seconds,
        p50_ms: latencies.quantile_ms(0.5),
        p99_ms: latencies.quantile_ms(0.99),
        ..row(
            plane,
            report::OPEN,
            cpu,
            count as u64,
            &format!("{OPENING} at once"),
        )
    };
    Ok((watchers, row))
}

/// Events end with a line's end, and there is none within them.
async fn read(mut body: RecvStream, events: &AtomicU64) {
    while let Ok(Some(chunk)) = next_chunk(&mut body).await {
        events.fetch_add(lines(&chunk), Ordering::Relaxed);
    }
}

fn lines(chunk: &[u8]) -> u64 {
    chunk.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl Watchers {
    /// Until all of them together have seen so many events.
    async fn wait(&self, events: u64) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(2);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.events.load(Ordering::Relaxed);
            let ended = self.ended.load(Ordering::Relaxed);
            if seen >= events {
                return Ok(());
            }
            if ended > 0 || Instant::now() > deadline {
                bail!(
                    "{seen} of {events} events came; {ended} watches of {} ended",
                    self.tasks.len()
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_a_few_ticks_is_no_figure() {
        assert!(above_ticks(0.02).is_nan() && above_ticks(-1.0).is_nan());
        assert_eq!(above_ticks(0.4), 0.4);
    }

    #[test]
    fn events_are_counted_by_their_ends() {
        assert_eq!(lines(b"{\"type\":\"ADDED\"}\n{\"type\":"), 1);
        assert_eq!(lines(b"\"MODIFIED\"}\n"), 1);
        assert_eq!(lines(b""), 0);
    }
}
