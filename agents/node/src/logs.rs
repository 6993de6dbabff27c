//! Which log a request means, and how its lines are cut: tail, since, byte limit, timestamps.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::clock;
use crate::pod::plan::Observation;
use crate::runtime::{LogChunk, LogRequest, Observed, Output, Result, Runtime, State};

/// Query parameters of `containerLogs`, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail_lines: Option<i64>,
    pub(crate) limit_bytes: Option<u64>,
    pub(crate) since: Option<OffsetDateTime>,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Options {
    /// Reads the query; the error is the text for a 400.
    pub(crate) fn parse(
        query: &[(String, String)],
        now: OffsetDateTime,
    ) -> Result<Options, String> {
        let mut options = Options {
            stdout: true,
            stderr: true,
            ..Options::default()
        };
        for (name, value) in query {
            let truth = || match value.as_str() {
                "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
                _ => Err(format!("invalid value for {name}: {value:?}")),
            };
            let number = |least: i64| {
                let number = value
                    .parse::<i64>()
                    .map_err(|_| format!("invalid value for {name}: {value:?}"))?;
                if number < least {
                    return Err(format!(
                        "{name}: Invalid value: {number}: must be greater than or equal to {least}"
                    ));
                }
                Ok(number)
            };
            match name.as_str() {
                "follow" => options.follow = truth()?,
                "previous" => options.previous = truth()?,
                "timestamps" => options.timestamps = truth()?,
                "tailLines" => options.tail_lines = Some(number(0)?),
                "limitBytes" => options.limit_bytes = Some(number(1)?.unsigned_abs()),
                "sinceSeconds" => {
                    let ago = Duration::seconds(number(1)?);
                    options.since =
                        Some(now.checked_sub(ago).unwrap_or(OffsetDateTime::UNIX_EPOCH));
                }
                "sinceTime" => {
                    let time = clock::parse(value)
                        .ok_or_else(|| format!("invalid value for {name}: {value:?}"))?;
                    options.since = Some(time);
                }
                "stream" => match value.as_str() {
                    "Stdout" => options.stderr = false,
                    "Stderr" => options.stdout = false,
                    "All" => {}
                    _ => return Err(format!("invalid value for {name}: {value:?}")),
                },
                _ => {}
            }
        }
        Ok(options)
    }
}

/// The container whose log is meant; the error is the text for a 400.
pub(crate) fn choose<'a>(
    observed: &'a Observation,
    status: Option<&Value>,
    pod: &str,
    container: &str,
    previous: bool,
) -> Result<&'a Observed, String> {
    let attempts = observed
        .containers
        .get(container)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let ran: Vec<&Observed> = attempts
        .iter()
        .filter(|attempt| attempt.state != State::Created)
        .collect();
    let waiting = status.and_then(|status| status.pointer("/state/waiting"));
    if previous {
        // A container that waits for its restart has its last run behind it, a running one the run before.
        let index = usize::from(waiting.is_none());
        let found = ran.get(index).filter(|attempt| attempt.exit().is_some());
        return found.copied().ok_or_else(|| {
            format!("previous terminated container {container:?} in pod {pod:?} not found")
        });
    }
    if let Some(newest) = ran.first() {
        return Ok(newest);
    }
    let Some(waiting) = waiting else {
        return Err(format!(
            "container {container:?} in pod {pod:?} is not available"
        ));
    };
    let why = match waiting
        .get("reason")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        reason => reason,
    };
    Err(format!(
        "container {container:?} in pod {pod:?} is waiting to start: {why}"
    ))
}

/// The bytes of a log as a client gets them.
pub(crate) fn read(
    runtime: &dyn Runtime,
    id: &str,
    options: Options,
) -> BoxStream<'static, Result<Bytes>> {
    let request = LogRequest {
        follow: options.follow,
        tail_lines: options.tail_lines,
        stdout: options.stdout,
        stderr: options.stderr,
    };
    cut(runtime.logs(id, &request), options)
}

/// The lines of a log, cut as the options say.
pub(crate) fn cut(
    lines: BoxStream<'static, Result<LogChunk>>,
    options: Options,
) -> BoxStream<'static, Result<Bytes>> {
    let cutter = Cutter::new(options);
    // The limit ends a followed log at once, without waiting for a line that would not be shown.
    let cut = futures::stream::unfold(
        (lines, cutter, false),
        |(mut lines, mut cutter, failed)| async move {
            if failed || cutter.is_full() {
                return None;
            }
            let piece = lines.next().await?.map(|chunk| cutter.cut(chunk));
            let failed = piece.is_err();
            Some((piece, (lines, cutter, failed)))
        },
    );
    Box::pin(cut.filter(|piece| {
        let keep = !matches!(piece, Ok(bytes) if bytes.is_empty());
        futures::future::ready(keep)
    }))
}

/// Cuts pieces of a log. Pure but for what it remembers of the pieces before.
struct Cutter {
    options: Options,
    left: u64,
    /// Whether the last piece of standard output, of standard error, left its line open.
    open: [bool; 2],
}

impl Cutter {
    fn new(options: Options) -> Cutter {
        Cutter {
            left: options.limit_bytes.unwrap_or(u64::MAX),
            options,
            open: [false; 2],
        }
    }

    fn is_full(&self) -> bool {
        self.left == 0
    }

    fn cut(&mut self, chunk: LogChunk) -> Bytes {
        let (stream, content) = match chunk.output {
            Output::Stdout(bytes) => (0, bytes),
            Output::Stderr(bytes) => (1, bytes),
        };
        let continued = std::mem::replace(&mut self.open[stream], !content.ends_with(b"\n"));
        if let (Some(since), Some(written)) = (self.options.since, clock::parse(&chunk.timestamp))
            && written < since
        {
            return Bytes::new();
        }
        let mut line = BytesMut::new();
        if self.options.timestamps && !continued {
            line.extend_from_slice(chunk.timestamp.as_bytes());
            line.extend_from_slice(b" ");
        }
        line.extend_from_slice(&content);
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        line.truncate(room);
        self.left -= line.len() as u64;
        line.freeze()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::{Exit, Identity};

    fn parse(query: &[(&str, &str)]) -> Result<Options, String> {
        let query: Vec<_> = query
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Options::parse(&query, OffsetDateTime::UNIX_EPOCH + Duration::seconds(100))
    }

    #[test]
    fn queries() {
        let options = parse(&[
            ("follow", "true"),
            ("tailLines", "3"),
            ("sinceSeconds", "40"),
            ("limitBytes", "9"),
        ]);
        let options = options.unwrap();
        assert!(options.follow && !options.previous);
        assert_eq!(
            (options.tail_lines, options.limit_bytes),
            (Some(3), Some(9))
        );
        assert_eq!(
            options.since,
            Some(OffsetDateTime::UNIX_EPOCH + Duration::seconds(60))
        );
        for bad in [
            ("tailLines", "-1"),
            ("tailLines", "x"),
            ("limitBytes", "0"),
            ("follow", "maybe"),
            ("sinceTime", "noon"),
        ] {
            assert!(parse(&[bad]).is_err(), "{bad:?}");
        }
    }

    fn observation(states: &[State]) -> Observation {
        let count = states.len() as u32;
        let containers = states.iter().enumerate().map(|(index, state)| Observed {
            id: format!("c{}", count - 1 - index as u32),
            identity: Identity {
                pod_name: "p".into(),
                pod_namespace: "d".into(),
                pod_uid: "u".into(),
                container: "c".into(),
                attempt: count - 1 - index as u32,
            },
            state: state.clone(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            image: String::new(),
            image_id: String::new(),
            labels: Default::default(),
            ip: None,
            pid: None,
            limits: None,
        });
        Observation::new(containers.collect())
    }

    #[test]
    fn the_right_attempt_is_chosen() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let running = State::Running { started_at: at };
        let exited = State::Exited(Exit {
            code: 1,
            oom_killed: false,
            start_error: None,
            started_at: Some(at),
            finished_at: at,
        });
        let waiting = |reason: &str| json!({"state": {"waiting": {"reason": reason}}});
        let up = json!({"state": {"running": {}}});
        let not_found = "previous terminated container \"c\" in pod \"p\" not found";
        type Case<'a> = (Vec<State>, Value, bool, Result<&'a str, &'a str>);
        let cases: Vec<Case<'_>> = vec![
            (vec![running.clone()], up.clone(), false, Ok("c0")),
            (vec![running.clone()], up.clone(), true, Err(not_found)),
            (
                vec![running.clone(), exited.clone()],
                up.clone(),
                true,
                Ok("c0"),
            ),
            (
                vec![exited.clone(), exited.clone()],
                waiting("CrashLoopBackOff"),
                true,
                Ok("c1"),
            ),
            (
                vec![exited.clone()],
                waiting("CrashLoopBackOff"),
                false,
                Ok("c0"),
            ),
            (vec![], waiting("ContainerCreating"), true, Err(not_found)),
            (
                vec![State::Created],
                waiting("ContainerCreating"),
                false,
                Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
            ),
            (
                vec![],
                waiting("ImagePullBackOff"),
                false,
                Err(
                    "container \"c\" in pod \"p\" is waiting to start: trying and failing to pull image",
                ),
            ),
        ];
        for (states, status, previous, expected) in cases {
            let observed = observation(&states);
            let chosen =
                choose(&observed, Some(&status), "p", "c", previous).map(|c| c.id.as_str());
            assert_eq!(
                chosen,
                expected.map_err(str::to_owned),
                "{status} {previous}"
            );
        }
    }

    fn chunk(second: i64, text: &str) -> LogChunk {
        let at = clock::format(OffsetDateTime::UNIX_EPOCH + Duration::seconds(second));
        LogChunk {
            output: Output::Stdout(text.to_owned().into()),
            timestamp: at,
        }
    }

    #[test]
    fn lines_are_cut() {
        let mut cutter = Cutter::new(Options {
            timestamps: true,
            limit_bytes: Some(40),
            ..Options::default()
        });
        assert_eq!(cutter.cut(chunk(1, "long ")), "1970-01-01T00:00:01Z long ");
        assert_eq!(
            cutter.cut(chunk(2, "line\n")),
            "line\n",
            "a continued line has its timestamp already"
        );
        assert_eq!(cutter.cut(chunk(3, "more\n")), "1970-01-0");
        assert!(cutter.is_full());
        let since = Some(OffsetDateTime::UNIX_EPOCH + Duration::seconds(2));
        let mut cutter = Cutter::new(Options {
            since,
            ..Options::default()
        });
        assert_eq!(cutter.cut(chunk(1, "a\n")), "");
        assert_eq!(cutter.cut(chunk(2, "b\n")), "b\n");
    }
}
