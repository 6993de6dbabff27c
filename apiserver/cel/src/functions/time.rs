//! Timestamps and durations. Both are whole nanoseconds.

use ::time::{OffsetDateTime, UtcOffset};
pub(crate) use schema::time::parse_duration;

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::Value;

const SECOND: i128 = 1_000_000_000;
/// The years 1 to 9999.
const TIMESTAMP_MIN: i128 = -62_135_596_800 * SECOND;
const TIMESTAMP_MAX: i128 = 253_402_300_800 * SECOND - 1;

const PARTS: &[&str] = &["timestamp.() int", "timestamp.(string) int"];
const PARTS_OF_BOTH: &[&str] = &[
    "timestamp.() int",
    "timestamp.(string) int",
    "duration.() int",
];

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "timestamp",
        signatures: &[
            "(timestamp) timestamp",
            "(string) timestamp",
            "(int) timestamp",
        ],
        native: to_timestamp,
    },
    Function {
        name: "duration",
        signatures: &["(duration) duration", "(string) duration", "(int) duration"],
        native: to_duration,
    },
    Function {
        name: "getFullYear",
        signatures: PARTS,
        native: |_, args| part(args, |t| i64::from(t.year())),
    },
    Function {
        name: "getMonth",
        signatures: PARTS,
        native: |_, args| part(args, |t| i64::from(u8::from(t.month())) - 1),
    },
    Function {
        name: "getDate",
        signatures: PARTS,
        native: |_, args| part(args, |t| i64::from(t.day())),
    },
    Function {
        name: "getDayOfMonth",
        signatures: PARTS,
        native: |_, args| part(args, |t| i64::from(t.day()) - 1),
    },
    Function {
        name: "getDayOfWeek",
        signatures: PARTS,
        native: |_, args| part(args, |t| i64::from(t.weekday().number_days_from_sunday())),
    },
    Function {
        name: "getDayOfYear",
        signatures: PARTS,
        native: |_, args| part(args, |t| i64::from(t.ordinal()) - 1),
    },
    Function {
        name: "getHours",
        signatures: PARTS_OF_BOTH,
        native: |_, args| whole(args, 3_600 * SECOND, |t| i64::from(t.hour())),
    },
    Function {
        name: "getMinutes",
        signatures: PARTS_OF_BOTH,
        native: |_, args| whole(args, 60 * SECOND, |t| i64::from(t.minute())),
    },
    Function {
        name: "getSeconds",
        signatures: PARTS_OF_BOTH,
        native: |_, args| whole(args, SECOND, |t| i64::from(t.second())),
    },
    Function {
        name: "getMilliseconds",
        signatures: PARTS_OF_BOTH,
        native: |_, args| whole(args, 1_000_000, |t| i64::from(t.millisecond())),
    },
];

pub(crate) fn is_in_range(nanos: i128) -> bool {
    (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&nanos)
}

/// RFC 3339.
pub(crate) fn parse_timestamp(text: &str) -> Option<i128> {
    let (seconds, nanos) = schema::time::parse_nanos(text)?;
    let nanos = i128::from(seconds) * SECOND + i128::from(nanos);
    is_in_range(nanos).then_some(nanos)
}

/// A day (`2000-12-31`), which is its first moment.
pub(crate) fn parse_date(text: &str) -> Option<i128> {
    parse_timestamp(&format!("{text}T00:00:00Z"))
}

pub(crate) fn format_timestamp(nanos: i128) -> String {
    let text = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    let text = text.and_then(|time| {
        time.format(&::time::format_description::well_known::Rfc3339)
            .ok()
    });
    text.unwrap_or_default()
}

/// Seconds, as protobuf's JSON has it.
pub(crate) fn format_duration(nanos: i64) -> String {
    let (sign, nanos) = if nanos < 0 {
        ("-", nanos.unsigned_abs())
    } else {
        ("", nanos as u64)
    };
    let (seconds, part) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if part == 0 {
        return format!("{sign}{seconds}s");
    }
    let part = format!("{part:09}");
    format!("{sign}{seconds}.{}s", part.trim_end_matches('0'))
}

fn to_timestamp<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Timestamp(nanos)] => Ok(Value::Timestamp(*nanos)),
        [Value::Int(seconds)] if is_in_range(i128::from(*seconds) * SECOND) => {
            Ok(Value::Timestamp(i128::from(*seconds) * SECOND))
        }
        [Value::Int(_)] => Err(EvalError::new("timestamp overflow")),
        [Value::String(text)] => parse_timestamp(text)
            .map(Value::Timestamp)
            .ok_or_else(|| not_a_timestamp(text)),
        _ => Err(EvalError::no_overload()),
    }
}

pub(crate) fn not_a_timestamp(text: &str) -> EvalError {
    EvalError::new(format!(
        "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?}"
    ))
}

fn to_duration<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::Int(nanos)] => Ok(Value::Duration(*nanos)),
        [Value::String(text)] => {
            let parsed = parse_duration(text).map(Value::Duration);
            parsed.ok_or_else(|| EvalError::new(format!("time: invalid duration {:?}", &**text)))
        }
        _ => Err(EvalError::no_overload()),
    }
}

/// The timestamp in the zone of the second argument: UTC or an offset.
fn zoned(args: &[Value<'_>]) -> Result<OffsetDateTime, EvalError> {
    let (nanos, zone) = match args {
        [Value::Timestamp(nanos)] => (*nanos, UtcOffset::UTC),
        [Value::Timestamp(nanos), Value::String(zone)] => {
            let offset = offset(zone)
                .ok_or_else(|| EvalError::new(format!("unknown time zone {}", &**zone)))?;
            (*nanos, offset)
        }
        _ => return Err(EvalError::no_overload()),
    };
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    let time = time.and_then(|time| time.checked_to_offset(zone));
    time.ok_or_else(|| EvalError::new("timestamp overflow"))
}

fn offset(zone: &str) -> Option<UtcOffset> {
    if matches!(zone, "" | "UTC" | "Z") {
        return Some(UtcOffset::UTC);
    }
    let (sign, rest) = match zone.as_bytes().first()? {
        b'-' => (-1, &zone[1..]),
        b'+' => (1, &zone[1..]),
        _ => (1, zone),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i8, i8) = (hours.parse().ok()?, minutes.parse().ok()?);
    if !(0..=23).contains(&hours) || !(0..=59).contains(&minutes) {
        return None;
    }
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

fn part<'a>(args: &[Value<'a>], of: fn(OffsetDateTime) -> i64) -> Outcome<'a> {
    Ok(Value::Int(of(zoned(args)?)))
}

/// A part of a timestamp, or all of a duration in that unit.
fn whole<'a>(args: &[Value<'a>], unit: i128, of: fn(OffsetDateTime) -> i64) -> Outcome<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int((i128::from(*nanos) / unit) as i64)),
        args => part(args, of),
    }
}
