//! A simulated container, whose state follows from the clock.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::NOTICE;
use super::program::Program;
use crate::runtime::{Exit, Identity, Limits, LogChunk, Output, State};
use crate::source::Owned;
use crate::stats::load::Load;

pub(super) struct Simulated {
    pub(super) identity: Identity,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) image: String,
    pub(super) created_at: OffsetDateTime,
    pub(super) ip: Option<String>,
    pub(super) program: Program,
    pub(super) limits: Option<Limits>,
    pub(super) run: Option<Run>,
    /// Tells the pod's task when the program ends by itself.
    pub(super) _timer: Option<Owned>,
}

impl Simulated {
    pub(super) fn state(&self, now: OffsetDateTime) -> State {
        let Some(run) = &self.run else {
            return State::Created;
        };
        let exited = |code: i64, finished_at: OffsetDateTime| {
            State::Exited(Exit {
                code,
                oom_killed: false,
                start_error: None,
                started_at: Some(run.started_at),
                finished_at,
            })
        };
        let natural = self
            .program
            .end
            .map(|(after, code)| (run.started_at.saturating_add(seconds(after)), code));
        match (natural, run.stopped) {
            (Some((at, code)), None) if at <= now => exited(code, at),
            (Some((at, code)), Some((stopped_at, _))) if at <= stopped_at => exited(code, at),
            (_, Some((at, code))) => exited(code, at),
            _ => State::Running {
                started_at: run.started_at,
            },
        }
    }

    pub(super) fn log(&self, now: OffsetDateTime) -> Vec<LogChunk> {
        let Some(run) = &self.run else {
            return Vec::new();
        };
        let end = match self.state(now) {
            State::Exited(exit) => exit.finished_at,
            _ => now,
        };
        let notice = (Duration::ZERO, NOTICE.to_owned());
        let lines = std::iter::once(&notice).chain(&self.program.lines);
        lines
            .map(|(after, line)| (run.started_at.saturating_add(seconds(*after)), line))
            .filter(|(at, _)| *at <= end)
            .map(|(at, line)| LogChunk {
                output: Output::Stdout(Bytes::from(format!("{line}\n"))),
                timestamp: at.format(&Rfc3339).unwrap_or_default(),
            })
            .collect()
    }
}

pub(super) struct Run {
    pub(super) started_at: OffsetDateTime,
    /// Processor time that it pretends to have used, and until when that is counted.
    spent: (u64, OffsetDateTime),
    /// Set by `stop`.
    pub(super) stopped: Option<(OffsetDateTime, i64)>,
}

impl Run {
    pub(super) fn from(now: OffsetDateTime) -> Run {
        Run {
            started_at: now,
            spent: (0, now),
            stopped: None,
        }
    }

    /// Counts on under this load, and gives what was used.
    pub(super) fn spend(&mut self, load: &Load, now: OffsetDateTime) -> u64 {
        let (spent, until) = self.spent;
        if let Ok(time) = Duration::try_from(now - until) {
            self.spent = (spent.saturating_add(load.spent(time)), now);
        }
        self.spent.0
    }
}

pub(crate) fn seconds(duration: Duration) -> time::Duration {
    time::Duration::try_from(duration).unwrap_or(time::Duration::MAX)
}
