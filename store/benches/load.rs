//! One run of one log engine, in a process of its own, so that what the kernel counts for the process is the engine's:
//! the load as Raft makes it, and what it took.

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A Raft log as its single writer uses it. Everything panics that fails: there is no figure for a failed run.
pub(crate) trait Log {
    /// Appends entries of a size from an index on, and returns when they are durable.
    fn append(&mut self, first: u64, count: u64, bytes: usize);
    /// Notes how far the log is committed, without a sync.
    fn commit(&mut self, index: u64);
    /// Takes out entries up to this one, without a sync.
    fn purge(&mut self, index: u64);
}

/// What is written at once, and how often.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) count: u64,
    pub(crate) bytes: usize,
    pub(crate) batches: u64,
}

pub(crate) const LOADS: &[Load] = &[
    Load {
        name: "1x256",
        count: 1,
        bytes: 256,
        batches: 4000,
    },
    Load {
        name: "64x256",
        count: 64,
        bytes: 256,
        batches: 1500,
    },
    Load {
        name: "64x1024",
        count: 64,
        bytes: 1024,
        batches: 1500,
    },
];

/// Before the clock starts: an engine shall be measured as it is after an hour and not in its first second.
const WARM_UP_BYTES: u64 = 200 << 20;
/// A store flushes its state after so many entries and keeps as many in the log.
const KEPT: u64 = 10_000;

/// Entry payloads are not zeros, which an engine could compress.
pub(crate) fn payload(index: u64, bytes: usize) -> Vec<u8> {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    let noise = NOISE.get_or_init(|| {
        let mut state = 1u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..64 << 10).map(|_| next()).collect()
    });
    let at = (index as usize * 4099) % (noise.len() - bytes);
    noise[at..at + bytes].to_vec()
}

struct Writer<'a> {
    log: &'a mut dyn Log,
    next: u64,
    purged: u64,
}

impl Writer<'_> {
    fn batch(&mut self, count: u64, bytes: usize) -> Duration {
        let start = Instant::now();
        self.log.append(self.next, count, bytes);
        let took = start.elapsed();
        self.next += count;
        self.log.commit(self.next - 1);
        if self.next > self.purged + 2 * KEPT {
            self.purged = self.next - KEPT;
            self.log.purge(self.purged - 1);
        }
        took
    }
}

/// Runs `ENGINE LOAD DIR` of the arguments and prints one line of figures; with `warm` behind them the warm-up alone.
pub(crate) fn child(open: &dyn Fn(&str, &Path) -> Box<dyn Log>) {
    let arguments: Vec<String> = std::env::args()
        .skip_while(|word| word != "--child")
        .collect();
    let [_, engine, load, dir, rest @ ..] = arguments.as_slice() else {
        panic!("--child ENGINE LOAD DIR [warm]");
    };
    let load = LOADS.iter().find(|one| one.name == load).expect("a load");
    let mut log = open(engine, Path::new(dir));
    let mut writer = Writer {
        log: log.as_mut(),
        next: 0,
        purged: 0,
    };
    while writer.next * 16_384 < WARM_UP_BYTES {
        writer.batch(128, 16_384);
    }
    while writer.next < 2 * KEPT + 1 {
        writer.batch(500, 64);
    }
    if rest.first().is_some_and(|word| word == "warm") {
        return;
    }
    let (bytes, cpu, start) = (bytes_written(), cpu_seconds(), Instant::now());
    let mut took: Vec<Duration> = (0..load.batches)
        .map(|_| writer.batch(load.count, load.bytes))
        .collect();
    let seconds = start.elapsed().as_secs_f64();
    let (bytes, cpu) = (bytes_written() - bytes, cpu_seconds() - cpu);
    took.sort();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
    let entries = (load.batches * load.count) as f64;
    let figures = [
        entries / seconds,
        at(0.5),
        at(0.99),
        bytes as f64 / entries,
        cpu * 1e6 / entries,
    ];
    let line: Vec<String> = figures.iter().map(f64::to_string).collect();
    writeln!(std::io::stdout(), "{}", line.join(" ")).expect("somebody reads");
}

/// Pages that this process has made dirty, as the kernel counts them.
fn bytes_written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("Linux");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok())
        .expect("a number")
}

/// In user and kernel mode, all threads, ended ones too; in steps of 10 ms.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = text.rsplit_once(") ").expect("a command in parentheses");
    let ticks = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / 100.0
}
