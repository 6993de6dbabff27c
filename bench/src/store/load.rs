//! Clients that each wait for an answer before they ask again, what they saw, and what it cost.
//!
//! Only acknowledged operations count, and only those that were answered within the time that counts: it begins after
//! a warm-up, and the servers' use of the machine is taken at its very beginning and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::BoxFuture;

use super::process::{Memory, Usage, reset_peak};
use super::report::{Aim, ERRORS, Figure};
use super::wire::Failure;
use crate::cluster::Cluster;

/// Handshakes, first pages, first files.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);
/// For answers that are under way when the time is over.
const PATIENCE: Duration = Duration::from_secs(60);
/// After an error, so that refusals do not keep the servers busy.
const PAUSE: Duration = Duration::from_millis(10);
/// For an operation that has to be done. Each that fails is counted as an error.
const ATTEMPTS_MAX: u32 = 100;

/// What a client does as number so and so of all operations.
pub(crate) type Operation<S> = for<'a> fn(&'a mut S, u64) -> BoxFuture<'a, Result<(), Failure>>;

#[derive(Clone, Copy)]
pub(crate) enum Span {
    /// So long after the warm-up.
    Time {
        warm_up: Duration,
        counted: Duration,
    },
    /// So many operations, all of them counted.
    Operations(u64),
}

/// What a load used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) servers: Usage,
    pub(crate) client_cpu_seconds: f64,
    /// Of the member that had most.
    pub(crate) peak_bytes: u64,
}

pub(crate) struct Meter {
    pids: Vec<u32>,
    servers: Usage,
    client: Usage,
}

impl Meter {
    pub(crate) fn start(cluster: &Cluster) -> Result<Meter> {
        Meter::at(cluster.pids())
    }

    /// Of servers of which only the processes are known, if any.
    pub(crate) fn at(pids: Vec<u32>) -> Result<Meter> {
        for pid in &pids {
            reset_peak(*pid)?;
        }
        Ok(Meter {
            servers: Usage::of(&pids)?,
            client: Usage::of(&[std::process::id()])?,
            pids,
        })
    }

    pub(crate) fn stop(&self) -> Result<Cost> {
        let servers = Usage::of(&self.pids)?.since(self.servers);
        let client = Usage::of(&[std::process::id()])?.since(self.client);
        let memories = self.pids.iter().map(|pid| Memory::of(*pid));
        let memories = memories.collect::<Result<Vec<_>>>()?;
        Ok(Cost {
            servers,
            client_cpu_seconds: client.cpu_seconds,
            peak_bytes: memories.iter().map(|m| m.peak_bytes).max().unwrap_or(0),
        })
    }
}

impl Cost {
    /// In proportion to what was done for it. Bytes are told of writes only.
    pub(crate) fn figures(&self, workload: &str, operations: u64, writes: bool) -> Vec<Figure> {
        let per_million = |amount: f64| amount * 1e6 / operations as f64;
        let cpu = per_million(self.servers.cpu_seconds);
        let written = per_million(self.servers.written_bytes as f64 / 1e6);
        let client = per_million(self.client_cpu_seconds);
        let mut figures =
            vec![Figure::new(workload, "server CPU", "s/M", cpu).aim(Aim::at_most(0.4))];
        if writes {
            let written = Figure::new(workload, "written to disk", "MB/M", written);
            figures.push(written.aim(Aim::at_most(0.5)));
        }
        let peak = self.peak_bytes as f64 / 1e6;
        figures.push(Figure::new(workload, "peak memory", "MB", peak));
        figures.push(Figure::new(workload, "load generator CPU", "s/M", client));
        figures
    }
}

/// What all clients together saw.
pub(crate) struct Load {
    latencies: Latencies,
    seconds: f64,
    /// That were to be done; none where a load goes by time.
    wanted: Option<u64>,
    pub(crate) cost: Cost,
    pub(crate) errors: Errors,
}

/// Microseconds, sorted.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    pub(crate) fn new(mut micros: Vec<u32>) -> Latencies {
        micros.sort_unstable();
        Latencies(micros)
    }

    /// The smallest that is not below so large a share of all, in milliseconds; not a number if there are none.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        let micros = self.0.get(rank.saturating_sub(1));
        micros.map_or(f64::NAN, |micros| f64::from(*micros) / 1000.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Errors {
    pub(crate) count: u64,
    pub(crate) first: Option<String>,
}

impl Errors {
    pub(crate) fn add(&mut self, failure: &Failure) {
        self.count += 1;
        self.first.get_or_insert_with(|| failure.to_string());
    }

    fn merge(&mut self, other: Errors) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

/// Aims for the two figures that most workloads have.
pub(crate) struct Aims {
    pub(crate) rate: Aim,
    pub(crate) p99: Aim,
}

impl Load {
    pub(crate) fn operations(&self) -> u64 {
        self.latencies.len() as u64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.operations() as f64 / self.seconds
    }

    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        self.latencies.quantile_ms(share)
    }

    /// An error for those who cannot do with less than all.
    pub(crate) fn complete(&self) -> Result<()> {
        let done = self.operations();
        match self.wanted {
            Some(wanted) if done < wanted => {
                let why = self.errors.first.as_deref().unwrap_or("no error");
                bail!("{done} of {wanted} operations were acknowledged: {why}")
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn figures(&self, workload: &str, aims: &Aims, writes: bool) -> Vec<Figure> {
        let rate = self.per_second();
        let ms = |share| self.latencies.quantile_ms(share);
        let mut figures = vec![
            Figure::new(workload, "rate", "/s", rate).aim(aims.rate),
            Figure::new(workload, "latency p50", "ms", ms(0.5)),
            Figure::new(workload, "latency p99", "ms", ms(0.99)).aim(aims.p99),
        ];
        figures.extend(self.cost.figures(workload, self.operations(), writes));
        figures.push(Figure::new(workload, ERRORS, "", self.errors.count as f64));
        figures
    }
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// What the clients share.
struct Course {
    phase: AtomicU8,
    next: AtomicU64,
    /// None where the load goes by time.
    operations: Option<u64>,
}

/// Lets the clients work at once, each on a task of its own.
pub(crate) async fn drive<S: Send + 'static>(
    cluster: &Cluster,
    span: Span,
    clients: Vec<S>,
    operation: Operation<S>,
) -> Result<Load> {
    drive_at(cluster.pids(), span, clients, operation).await
}

/// The same for servers of which only the processes are known.
pub(crate) async fn drive_at<S: Send + 'static>(
    pids: Vec<u32>,
    span: Span,
    clients: Vec<S>,
    operation: Operation<S>,
) -> Result<Load> {
    let (phase, operations) = match span {
        Span::Time { .. } => (WARMING, None),
        Span::Operations(operations) => (COUNTING, Some(operations)),
    };
    let course = Arc::new(Course {
        phase: AtomicU8::new(phase),
        next: AtomicU64::new(0),
        operations,
    });
    let mut meter = Meter::at(pids.clone())?;
    let mut began = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(one_client(client, operation, course.clone())))
        .collect();
    let mut measured = None;
    if let Span::Time { warm_up, counted } = span {
        tokio::time::sleep(warm_up).await;
        meter = Meter::at(pids.clone())?;
        began = Instant::now();
        course.phase.store(COUNTING, Ordering::Relaxed);
        tokio::time::sleep(counted).await;
        course.phase.store(OVER, Ordering::Relaxed);
        measured = Some((began.elapsed(), meter.stop()?));
    }
    let (mut micros, mut errors) = (Vec::new(), Errors::default());
    let ends = async {
        for task in tasks {
            let (seen, failed) = task.await?;
            micros.extend(seen);
            errors.merge(failed);
        }
        anyhow::Ok(())
    };
    match span {
        Span::Time { .. } => tokio::time::timeout(PATIENCE, ends)
            .await
            .context("clients wait for answers without end")??,
        Span::Operations(_) => ends.await?,
    }
    let (elapsed, cost) = match measured {
        Some(measured) => measured,
        None => (began.elapsed(), meter.stop()?),
    };
    Ok(Load {
        latencies: Latencies::new(micros),
        seconds: elapsed.as_secs_f64(),
        wanted: operations,
        cost,
        errors,
    })
}

async fn one_client<S>(
    mut client: S,
    operation: Operation<S>,
    course: Arc<Course>,
) -> (Vec<u32>, Errors) {
    let (mut micros, mut errors) = (Vec::new(), Errors::default());
    let attempts = course.operations.map_or(1, |_| ATTEMPTS_MAX);
    while course.phase.load(Ordering::Relaxed) != OVER {
        let number = course.next.fetch_add(1, Ordering::Relaxed);
        if course.operations.is_some_and(|end| number >= end) {
            break;
        }
        let sent = Instant::now();
        for _ in 0..attempts {
            match operation(&mut client, number).await {
                Ok(()) => {
                    if course.phase.load(Ordering::Relaxed) == COUNTING {
                        micros.push(micros_since(sent));
                    }
                    break;
                }
                // Also after the time is over: an answer that never came is not to be overlooked.
                Err(failure) => {
                    errors.add(&failure);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
    (micros, errors)
}

pub(crate) fn micros_since(sent: Instant) -> u32 {
    u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX)
}

/// One answer of a load that runs beside something else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) at: Instant,
    pub(crate) micros: u32,
}

/// Clients that write while something else happens.
pub(crate) struct Beside {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<(Vec<Answered>, Errors)>>,
}

pub(crate) fn beside<S: Send + 'static>(clients: Vec<S>, operation: Operation<S>) -> Beside {
    let stop = Arc::new(AtomicBool::new(false));
    let next = Arc::new(AtomicU64::new(0));
    let start = |mut client: S| {
        let (stop, next) = (stop.clone(), next.clone());
        tokio::spawn(async move {
            let (mut answers, mut errors) = (Vec::new(), Errors::default());
            while !stop.load(Ordering::Relaxed) {
                let sent = Instant::now();
                match operation(&mut client, next.fetch_add(1, Ordering::Relaxed)).await {
                    Ok(()) => answers.push(Answered {
                        at: Instant::now(),
                        micros: micros_since(sent),
                    }),
                    Err(failure) => {
                        errors.add(&failure);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
            (answers, errors)
        })
    };
    let tasks = clients.into_iter().map(start).collect();
    Beside { stop, tasks }
}

impl Beside {
    pub(crate) async fn end(mut self) -> Result<(Vec<Answered>, Errors)> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answers, mut errors) = (Vec::new(), Errors::default());
        for task in std::mem::take(&mut self.tasks) {
            let (seen, failed) = task.await?;
            answers.extend(seen);
            errors.merge(failed);
        }
        Ok((answers, errors))
    }
}

/// So that a workload that fails leaves no writers behind for the next one.
impl Drop for Beside {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Latencies of what was answered in `[from, to)`.
pub(crate) fn between(answers: &[Answered], from: Instant, to: Instant) -> Latencies {
    let inside = answers.iter().filter(|a| (from..to).contains(&a.at));
    Latencies::new(inside.map(|answer| answer.micros).collect())
}

/// Longest time in `[from, to)` in which nothing was answered.
pub(crate) fn longest_silence(answers: &[Answered], from: Instant, to: Instant) -> Duration {
    let mut times: Vec<Instant> = answers.iter().map(|answer| answer.at).collect();
    times.retain(|at| (from..to).contains(at));
    times.sort_unstable();
    times.push(to);
    let mut before = from;
    let mut longest = Duration::ZERO;
    for at in times {
        longest = longest.max(at - before);
        before = at;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_latencies() {
        let hundred = Latencies::new((1..=100).rev().map(|ms| ms * 1000).collect());
        let quantiles = [0.0, 0.5, 0.99, 0.991, 1.0].map(|share| hundred.quantile_ms(share));
        assert_eq!(quantiles, [1.0, 50.0, 99.0, 100.0, 100.0]);
        assert_eq!(Latencies::new(vec![1500]).quantile_ms(0.99), 1.5);
        assert!(Latencies::default().quantile_ms(0.5).is_nan());
    }

    fn answers(base: Instant, at_ms: &[u64]) -> Vec<Answered> {
        let answer = |ms: &u64| Answered {
            at: base + Duration::from_millis(*ms),
            micros: u32::try_from(*ms).unwrap() * 1000,
        };
        at_ms.iter().map(answer).collect()
    }

    #[test]
    fn only_answers_within_the_time_count() {
        let base = Instant::now();
        let ms = |ms| base + Duration::from_millis(ms);
        let answers = answers(base, &[40, 10, 20, 30]);
        let latencies = between(&answers, ms(20), ms(40));
        assert_eq!(latencies.len(), 2);
        assert_eq!(latencies.quantile_ms(1.0), 30.0);
    }

    #[test]
    fn silence_is_counted_up_to_both_ends() {
        let base = Instant::now();
        let ms = |ms| base + Duration::from_millis(ms);
        let silence = |at: &[u64]| longest_silence(&answers(base, at), ms(100), ms(200));
        assert_eq!(silence(&[]), Duration::from_millis(100));
        assert_eq!(silence(&[150, 110, 250]), Duration::from_millis(50));
        assert_eq!(silence(&[90, 170]), Duration::from_millis(70));
    }

    fn course(phase: u8, operations: Option<u64>) -> Arc<Course> {
        Arc::new(Course {
            phase: AtomicU8::new(phase),
            next: AtomicU64::new(0),
            operations,
        })
    }

    /// Fails each second time.
    fn flaky(calls: &mut u64, _number: u64) -> BoxFuture<'_, Result<(), Failure>> {
        *calls += 1;
        let answer = match calls.is_multiple_of(2) {
            true => Ok(()),
            false => Err(Failure("refused".into())),
        };
        Box::pin(std::future::ready(answer))
    }

    #[tokio::test]
    async fn what_has_to_be_done_is_asked_for_again() {
        let (micros, errors) = one_client(0, flaky, course(COUNTING, Some(5))).await;
        assert_eq!((micros.len(), errors.count), (5, 5));
    }

    /// Ends the load with the tenth call.
    fn ending(
        (calls, course): &mut (u64, Arc<Course>),
        _number: u64,
    ) -> BoxFuture<'_, Result<(), Failure>> {
        *calls += 1;
        match *calls {
            4 => course.phase.store(COUNTING, Ordering::Relaxed),
            10 => course.phase.store(OVER, Ordering::Relaxed),
            _ => {}
        }
        let answer = match calls.is_multiple_of(3) {
            true => Err(Failure("refused".into())),
            false => Ok(()),
        };
        Box::pin(std::future::ready(answer))
    }

    #[tokio::test]
    async fn only_what_is_acknowledged_within_the_time_counts() {
        let course = course(WARMING, None);
        let (micros, errors) = one_client((0, course.clone()), ending, course).await;
        // Answered within the time: 4, 5, 7, 8. Refused at any time: 3, 6, 9.
        assert_eq!((micros.len(), errors.count), (4, 3));
    }

    #[test]
    fn a_load_is_complete_with_all_that_was_wanted() {
        let load = |done, wanted| Load {
            latencies: Latencies::new(vec![1; done]),
            seconds: 1.0,
            wanted,
            cost: Cost::default(),
            errors: Errors {
                count: 1,
                first: Some("refused".into()),
            },
        };
        assert!(load(5, Some(5)).complete().is_ok());
        assert!(load(5, None).complete().is_ok());
        let error = load(4, Some(5)).complete().unwrap_err();
        assert_eq!(
            error.to_string(),
            "4 of 5 operations were acknowledged: refused"
        );
    }

    #[test]
    fn cost_is_per_million() {
        let cost = Cost {
            servers: Usage {
                cpu_seconds: 4.0,
                written_bytes: 3_000_000,
            },
            client_cpu_seconds: 1.0,
            peak_bytes: 2_000_000,
        };
        let values = |writes| -> Vec<f64> {
            let figures = cost.figures("put", 500_000, writes);
            figures.iter().map(|figure| figure.value).collect()
        };
        assert_eq!(values(true), [8.0, 6.0, 2.0, 2.0]);
        assert_eq!(values(false), [8.0, 2.0, 2.0]);
    }

    #[test]
    fn the_first_error_is_kept() {
        let mut errors = Errors::default();
        errors.add(&Failure("one".into()));
        let mut other = Errors::default();
        other.add(&Failure("two".into()));
        errors.merge(other);
        assert_eq!((errors.count, errors.first.as_deref()), (2, Some("one")));
    }
}
