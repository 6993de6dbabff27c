//! How long something takes: a steady time, one with jitter, or a distribution that is told by two of its percentiles.
//!
//! Pure: a sample follows from what is sampled, so the same pod takes the same time in every run.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::Value;

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874;
/// No sample is longer.
const MAX: Duration = Duration::from_secs(24 * 3600);

/// A time that is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// At least `duration`, and evenly up to `jitter` more.
    Even {
        /// The shortest time.
        duration: Duration,
        /// What may come on top.
        jitter: Duration,
    },
    /// Log-normal, as start times of real containers roughly are.
    Percentiles {
        /// Half take no longer.
        p50: Duration,
        /// One in a hundred takes longer.
        p99: Duration,
    },
}

impl Delay {
    /// Always the same.
    pub const fn steady(duration: Duration) -> Delay {
        Delay::Even {
            duration,
            jitter: Duration::ZERO,
        }
    }

    /// The time for what is called so.
    pub(super) fn sample(&self, what: impl Hash) -> Duration {
        let sampled = match *self {
            Delay::Even { duration, jitter } => {
                duration.saturating_add(jitter.mul_f64(unit((&what, "even"))))
            }
            Delay::Percentiles { p50, p99 } => {
                let (least, spread) = (p50.as_secs_f64().max(1e-6), p99.as_secs_f64().max(1e-6));
                let seconds = least * (normal(&what) * (spread / least).ln() / Z99).exp();
                Duration::try_from_secs_f64(seconds).unwrap_or(MAX)
            }
        };
        sampled.min(MAX)
    }

    /// From `1s`, `{duration: 1s, jitter: 500ms}` or `{p50: 200ms, p99: 2s}`; the error says what is wrong with it.
    pub(super) fn read(value: &Value) -> Result<Delay, String> {
        let Some(fields) = value.as_object() else {
            return duration(value).map(Delay::steady);
        };
        let field = |name: &str| {
            let found = fields.get(name).map(duration).transpose();
            found.map_err(|text| format!("{name}: {text}"))
        };
        let known = ["duration", "jitter", "p50", "p99"];
        if let Some(other) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!(
                "unknown field `{other}`: a time is `1s`, {{duration: 1s, jitter: 500ms}} or {{p50: 200ms, p99: 2s}}"
            ));
        }
        match (
            field("duration")?,
            field("jitter")?,
            field("p50")?,
            field("p99")?,
        ) {
            (Some(duration), jitter, None, None) => Ok(Delay::Even {
                duration,
                jitter: jitter.unwrap_or_default(),
            }),
            (None, None, Some(p50), Some(p99)) if p50 <= p99 => Ok(Delay::Percentiles { p50, p99 }),
            (None, None, Some(_), Some(_)) => Err("p99 is shorter than p50".to_owned()),
            (None, None, ..) => Err("p50 and p99 belong together".to_owned()),
            (None, ..) => Err("jitter comes on top of a duration, which is missing".to_owned()),
            _ => Err("either duration and jitter, or p50 and p99".to_owned()),
        }
    }
}

/// `250ms`, `1.5s`, `2m`, `1h`, `0`.
fn duration(value: &Value) -> Result<Duration, String> {
    let wrong = |text: &str| format!("`{text}` is not a time like 250ms, 1.5s, 2m or 1h");
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) if number.as_f64() == Some(0.0) => return Ok(Duration::ZERO),
        other => return Err(wrong(&other.to_string())),
    };
    let end = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" if number == "0" => 0.0,
        _ => return Err(wrong(&text)),
    };
    let number: f64 = number.parse().map_err(|_| wrong(&text))?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(duration) if duration <= MAX => Ok(duration),
        Ok(_) => Err(format!("`{text}` is longer than a day")),
        Err(_) => Err(wrong(&text)),
    }
}

/// Evenly in [0, 1), the same for the same input.
pub(super) fn unit(what: impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Of the standard normal distribution, by the method of Box and Muller.
fn normal(what: impl Hash) -> f64 {
    let (radius, angle) = (unit((&what, "radius")), unit((&what, "angle")));
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn percentiles_are_met_and_samples_repeat() {
        let (p50, p99) = (Duration::from_millis(100), Duration::from_secs(2));
        let delay = Delay::Percentiles { p50, p99 };
        let mut all: Vec<Duration> = (0..20_000).map(|n| delay.sample(n)).collect();
        assert_eq!(all[7], delay.sample(7));
        all.sort_unstable();
        let near = |found: Duration, wanted: Duration| {
            (0.85..1.15).contains(&(found.as_secs_f64() / wanted.as_secs_f64()))
        };
        assert!(near(all[10_000], p50), "{:?}", all[10_000]);
        assert!(near(all[19_800], p99), "{:?}", all[19_800]);
    }

    #[test]
    fn times_are_read_in_three_forms() {
        let ms = Duration::from_millis;
        let even = |duration, jitter| Delay::Even { duration, jitter };
        for (value, expected) in [
            (json!("250ms"), even(ms(250), ms(0))),
            (json!("1.5s"), even(ms(1500), ms(0))),
            (json!(0), even(ms(0), ms(0))),
            (
                json!({"duration": "1m", "jitter": "2s"}),
                even(ms(60_000), ms(2000)),
            ),
            (
                json!({"p50": "1s", "p99": "1s"}),
                Delay::Percentiles {
                    p50: ms(1000),
                    p99: ms(1000),
                },
            ),
        ] {
            assert_eq!(Delay::read(&value), Ok(expected), "{value}");
        }
        let delay = even(ms(10), ms(5));
        assert!((0..100).all(|n| (ms(10)..ms(15)).contains(&delay.sample(n))));
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_would_be_one() {
        for (value, expected) in [
            (json!(5), "`5` is not a time like 250ms"),
            (json!("soon"), "`soon` is not a time"),
            (json!("-1s"), "`-1s` is not a time"),
            (json!("NaNs"), "is not a time"),
            (json!("25h"), "longer than a day"),
            (json!({"p50": "1s"}), "p50 and p99 belong together"),
            (json!({"p50": "2s", "p99": "1s"}), "p99 is shorter than p50"),
            (json!({"jitter": "2s"}), "a duration, which is missing"),
            (
                json!({"duration": "2s", "p50": "1s", "p99": "2s"}),
                "either duration and jitter",
            ),
            (json!({"mean": "2s"}), "unknown field `mean`"),
        ] {
            let error = Delay::read(&value).unwrap_err();
            assert!(error.contains(expected), "{value}: {error}");
        }
    }
}
