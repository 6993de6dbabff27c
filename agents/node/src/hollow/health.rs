//! What probes and hooks of simulated containers come to. Nobody is asked: when a probe passes, fails and passes again is known
//! from the beginning of a run on, by the stage and by the commands that are understood. Pure.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use super::delay::{Delay, unit};
use super::runs::{Run, slowed};
use super::stages::{Stage, exit_code, known, map, share};
use crate::pod::probe::{Kind, Results, failures, initial_delay, period, timeout};
use crate::runtime::hollow::program;
use crate::spec::{Container, Handler, Pod, Probe};

const KINDS: &[&str] = &["startup", "liveness", "readiness"];
const BAD_FIELDS: &[&str] = &["rate", "after", "for"];
const EXEC_FIELDS: &[&str] = &["exit-code", "message"];

/// Probes of a kind whose answers are bad for a time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bad {
    /// The share of runs, in [0, 1].
    rate: f64,
    /// How long a container has run before.
    after: Delay,
    /// Without it to the end of the run.
    lasts: Option<Delay>,
}

/// How commands in containers end that are not understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exec {
    pub(super) exit_code: i64,
    /// What they say.
    pub(super) message: String,
}

/// Reads `probes` of a stage, in the order of [`Kind::ALL`].
pub(super) fn read_probes(value: &Value, path: &str) -> Result<[Option<Bad>; 3], String> {
    let fields = map(value, path)?;
    known(fields, KINDS, path)?;
    let one = |name: &str| {
        let value = fields.get(name);
        let read = value.map(|value| bad(value, &format!("{path}.{name}")));
        read.transpose()
    };
    Ok([one("startup")?, one("liveness")?, one("readiness")?])
}

fn bad(value: &Value, path: &str) -> Result<Bad, String> {
    let fields = map(value, path)?;
    known(fields, BAD_FIELDS, path)?;
    let delay = |name: &str| {
        let read = fields.get(name).map(Delay::read).transpose();
        read.map_err(|text| format!("{path}.{name}: {text}"))
    };
    Ok(Bad {
        rate: match fields.get("rate") {
            Some(rate) => share(rate, path)?,
            None => 1.0,
        },
        after: delay("after")?.unwrap_or(Delay::steady(Duration::ZERO)),
        lasts: delay("for")?,
    })
}

/// Reads `exec` of a stage.
pub(super) fn read_exec(value: &Value, path: &str) -> Result<Exec, String> {
    let fields = map(value, path)?;
    known(fields, EXEC_FIELDS, path)?;
    let message = match fields.get("message") {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => return Err(format!("{path}.message: `{other}` is not a text")),
    };
    Ok(Exec {
        exit_code: exit_code(fields, 1, path)?,
        message,
    })
}

/// What a command in a container comes to.
#[derive(Default)]
struct Said {
    takes: Duration,
    code: i64,
    text: String,
}

fn command(words: &[String], stage: &Stage) -> Said {
    let simulated = program(words, &[]);
    match (simulated.end.filter(|_| stage.program), &stage.exec) {
        (Some((takes, code)), _) => {
            let lines: Vec<String> = simulated.lines.into_iter().map(|(_, line)| line).collect();
            Said {
                takes,
                code,
                text: lines.join("\n"),
            }
        }
        (None, Some(exec)) => Said {
            takes: Duration::ZERO,
            code: exec.exit_code,
            text: exec.message.clone(),
        },
        (None, None) => Said::default(),
    }
}

/// Why every answer of a probe is bad, where that is for the command that it runs.
fn failing_command(probe: &Probe, stage: &Stage) -> Option<String> {
    let exec = probe.handler.exec.as_ref()?;
    let said = command(&exec.command, stage);
    let limit = timeout(probe);
    if said.takes > limit {
        let words = exec.command.join(" ");
        return Some(format!(
            "command {words:?} timed out after {}s",
            limit.as_secs()
        ));
    }
    (said.code != 0).then_some(said.text)
}

/// How long a hook takes, and whether it succeeds.
pub(super) fn hook(handler: &Handler, stage: &Stage) -> (Duration, bool) {
    if let Some(exec) = &handler.exec {
        let said = command(&exec.command, stage);
        return (said.takes, said.code == 0);
    }
    let sleep = handler.sleep.as_ref().map_or(0, |sleep| sleep.seconds);
    (Duration::from_secs(u64::try_from(sleep).unwrap_or(0)), true)
}

/// From when to when answers are bad, as times since the beginning of a run.
type Window = (Duration, Option<Duration>);

fn window(pod: &Pod, run: &Run, (kind, probe): (Kind, &Probe), stage: &Stage) -> Option<Window> {
    if failing_command(probe, stage).is_some() {
        return Some((Duration::ZERO, None));
    }
    let bad = stage.probes[kind as usize].as_ref()?;
    let what = (
        &pod.metadata.uid,
        &run.of.container,
        run.attempt,
        kind.title(),
    );
    if unit((what, "bad")) >= bad.rate {
        return None;
    }
    let from = bad.after.sample((what, "after"));
    let lasts = bad.lasts.map(|lasts| lasts.sample((what, "for")));
    Some((from, lasts.map(|lasts| from.saturating_add(lasts))))
}

/// When a probe is asked, and how long good or bad answers take to count after the first one.
#[derive(Debug, Clone, Copy)]
struct Beat {
    start: Duration,
    period: Duration,
    good: Duration,
    bad: Duration,
}

impl Beat {
    fn of(probe: &Probe, gate: Duration) -> Beat {
        let period = period(probe);
        let counts = |threshold: i64| {
            let more = u32::try_from(threshold.saturating_sub(1)).unwrap_or(0);
            period.saturating_mul(more)
        };
        Beat {
            start: initial_delay(probe).max(gate),
            period,
            good: counts(probe.success_threshold),
            bad: counts(failures(probe)),
        }
    }

    /// The first time at which it is asked from then on.
    fn next(&self, from: Duration) -> Duration {
        let Some(left) = from.checked_sub(self.start) else {
            return self.start;
        };
        let turns = left.as_nanos().div_ceil(self.period.as_nanos().max(1));
        let turns = u32::try_from(turns).unwrap_or(u32::MAX);
        self.start.saturating_add(self.period.saturating_mul(turns))
    }

    /// How often it has been asked by then: with good answers, and with bad ones.
    fn counts(&self, bad: Option<Window>, until: Duration) -> [u64; 2] {
        let period = self.period.as_nanos().max(1);
        // Before a time, or up to it.
        let before = |time: Duration| match time.checked_sub(self.start) {
            Some(left) => left.as_nanos().div_ceil(period),
            None => 0,
        };
        let all = before(until.saturating_add(Duration::from_nanos(1)));
        let bad = bad.map_or(0, |(from, to)| {
            let last = to.map_or(all, |to| before(to).min(all));
            last.saturating_sub(before(from))
        });
        [all - bad, bad].map(|count| u64::try_from(count).unwrap_or(u64::MAX))
    }

    fn course(&self, bad: Option<Window>) -> Course {
        let steady = Course {
            passes: Some(self.start.saturating_add(self.good)),
            ..Course::default()
        };
        let Some((from, until)) = bad else {
            return steady;
        };
        let first = self.next(from);
        if until.is_some_and(|until| first >= until) {
            return steady;
        }
        let passes = steady.passes.filter(|at| *at < first);
        let fails = first.saturating_add(self.bad);
        let fails = until.is_none_or(|until| fails < until).then_some(fails);
        let recovers = until.map(|until| self.next(until).saturating_add(self.good));
        match (passes, fails) {
            // So few bad answers count for nothing, but that those before them are not counted either.
            (Some(_), None) => steady,
            (None, None) => Course {
                passes: recovers,
                ..Course::default()
            },
            _ => Course {
                passes,
                fails,
                recovers,
            },
        }
    }
}

/// When the result of a probe changes, as times since the beginning of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Course {
    passes: Option<Duration>,
    fails: Option<Duration>,
    recovers: Option<Duration>,
}

impl Course {
    /// Of a probe whose first result is its last.
    fn once(self) -> Course {
        Course {
            passes: self.passes,
            fails: self.fails.filter(|_| self.passes.is_none()),
            recovers: None,
        }
    }

    /// The result at a time, and when there is another one.
    fn found(
        &self,
        now: OffsetDateTime,
        at: impl Fn(Duration) -> Option<OffsetDateTime>,
    ) -> (Option<bool>, Option<OffsetDateTime>) {
        let (mut result, mut next) = (None, None);
        for (after, is_good) in [
            (self.passes, true),
            (self.fails, false),
            (self.recovers, true),
        ] {
            match after.and_then(&at) {
                Some(at) if at <= now => result = Some(is_good),
                later => next = next.into_iter().chain(later).min(),
            }
        }
        (result, next)
    }
}

/// When a probe of a run is asked that may begin at `gate`. What the stage says of readiness goes before what the probe says.
fn beat(
    pod: &Pod,
    run: &Run,
    (kind, probe): (Kind, &Probe),
    stage: &Stage,
    gate: Duration,
) -> Beat {
    let beat = Beat::of(probe, gate);
    let what = (&pod.metadata.uid, &run.of.container, run.attempt);
    let start = match (stage.ready, kind) {
        (None, _) | (_, Kind::Liveness) => return beat,
        (Some(_), Kind::Startup) => gate,
        (Some(ready), Kind::Readiness) => ready.sample((what, "ready")).max(gate),
    };
    Beat {
        start,
        good: Duration::ZERO,
        ..beat
    }
}

/// The courses of a run's probes, in the order of [`Kind::ALL`].
fn courses(pod: &Pod, run: &Run, container: &Container, stage: &Stage) -> [Course; 3] {
    let of = |kind: Kind, gate: Duration| {
        let Some(probe) = kind.of(container) else {
            return Course {
                passes: Some(Duration::ZERO),
                ..Course::default()
            };
        };
        let beat = beat(pod, run, (kind, probe), stage, gate);
        beat.course(window(pod, run, (kind, probe), stage))
    };
    let startup = of(Kind::Startup, Duration::ZERO).once();
    let Some(gate) = startup.passes else {
        return [startup, Course::default(), Course::default()];
    };
    // That it lives is taken for granted until it fails.
    let liveness = Course {
        fails: of(Kind::Liveness, gate).fails,
        ..Course::default()
    };
    [startup, liveness, of(Kind::Readiness, gate)]
}

/// What probes have found of a run that goes on, and when they find something else.
pub(super) fn results(
    pod: &Pod,
    run: &Run,
    (stage, slow): (&Stage, u32),
    now: OffsetDateTime,
) -> (Results, Option<OffsetDateTime>) {
    let good = Results {
        startup: Some(true),
        liveness: Some(true),
        readiness: Some(true),
    };
    let Some((_, container)) = pod.container(&run.of.container) else {
        return (good, None);
    };
    let at = |after: Duration| run.begins.checked_add(slowed(after, slow));
    let courses = courses(pod, run, container, stage);
    let [startup, liveness, readiness] = courses.map(|course| course.found(now, at));
    let results = Results {
        startup: startup.0,
        liveness: liveness.0.or(good.liveness),
        readiness: readiness.0,
    };
    let next = [startup.1, liveness.1, readiness.1];
    (results, next.into_iter().flatten().min())
}

/// How often the probes of a run that goes on have had good answers, and bad ones.
pub(super) fn counts(
    pod: &Pod,
    run: &Run,
    (stage, slow): (&Stage, u32),
    now: OffsetDateTime,
) -> Vec<(Kind, [u64; 2])> {
    let Some((_, container)) = pod.container(&run.of.container) else {
        return Vec::new();
    };
    let age = Duration::try_from(now - run.begins).unwrap_or_default() / slow.max(1);
    let [startup, ..] = courses(pod, run, container, stage);
    let mut all = Vec::new();
    for kind in Kind::ALL {
        // A startup probe is asked until it has a result, and the others when that is a good one.
        let (gate, until) = match kind {
            Kind::Startup => (Some(Duration::ZERO), startup.passes.or(startup.fails)),
            Kind::Liveness | Kind::Readiness => (startup.passes, None),
        };
        let (Some(probe), Some(gate)) = (kind.of(container), gate.filter(|gate| *gate <= age))
        else {
            continue;
        };
        let bad = window(pod, run, (kind, probe), stage);
        let until = until.map_or(age, |until| until.min(age));
        let beat = beat(pod, run, (kind, probe), stage, gate);
        all.push((kind, beat.counts(bad, until)));
    }
    all
}

/// What is told of a probe that has failed, as a real node tells it.
pub(super) fn complaint(
    kind: Kind,
    (container, probe): (&Container, &Probe),
    stage: &Stage,
    ip: &str,
) -> String {
    let Handler {
        http_get,
        tcp_socket,
        grpc,
        ..
    } = &probe.handler;
    let text = failing_command(probe, stage).unwrap_or_else(|| {
        if http_get.is_some() {
            "HTTP probe failed with statuscode: 503".to_owned()
        } else if let Some(tcp) = tcp_socket {
            let port = tcp.port.resolve(container).unwrap_or(0);
            format!("dial tcp {ip}:{port}: connect: connection refused")
        } else if grpc.is_some() {
            "service unhealthy (responded with \"NOT_SERVING\")".to_owned()
        } else {
            String::new()
        }
    });
    format!("{} probe failed: {text}", kind.title())
}

#[cfg(test)]
mod tests;
