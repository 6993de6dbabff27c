//! `kontiki store get` and `history`: what keys are and what they were.

use std::io::Write;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use store::Moment;
use store::etcd::client::{Client, ClientError, Keys, Record, Revision};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Session, table};
use crate::cli::{GetArgs, HistoryArgs};
use crate::up::say;

/// Characters of a value that are shown unless all of it is asked for.
const PREVIEW: usize = 60;

pub(super) async fn get(session: &Session, args: &GetArgs) -> Result<()> {
    let shown = &args.keys;
    let keys = keys(&shown.key, shown.prefix)?;
    let client = session.any().await?;
    let read = async {
        let asked = match args.at {
            None => args.rev,
            Some(time) => as_of(&client, time).await?,
        };
        Ok(client.get(&keys, asked, args.limit).await?)
    };
    let read: Result<(i64, Vec<Record>)> = read.await;
    let (revision, records) = match read {
        Err(error) if is_of_before_history(&error) => {
            let begins = client.history_begins(&keys).await?;
            bail!(before_history(args, begins));
        }
        read => read?,
    };
    if shown.output.json() {
        let records: Vec<Value> = records.iter().map(record_json).collect();
        let answer = json!({"revision": revision, "keys": records});
        say(&serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    if shown.prefix {
        say(records_table(&records, shown.values).trim_end());
        return Ok(());
    }
    let Some(record) = records.first() else {
        bail!("there is no key {} at revision {revision}", shown.key);
    };
    // As it is: for a file or a pipe.
    let line_end: &[u8] = match record.value.last() {
        Some(b'\n') => b"",
        _ => b"\n",
    };
    let mut out = std::io::stdout().lock();
    let written = out.write_all(&[&record.value, line_end].concat());
    match written.and_then(|()| out.flush()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn is_of_before_history(error: &anyhow::Error) -> bool {
    let error: Option<&ClientError> = error.downcast_ref();
    error.is_some_and(ClientError::is_of_before_history)
}

/// The newest revision at a time, which must not be yet to come.
async fn as_of(client: &Client, time: OffsetDateTime) -> Result<i64> {
    let now = OffsetDateTime::now_utc();
    let found = client.revision_at(millis(time)?).await?;
    if is_to_come(millis(time)?, millis(now)?, found) {
        bail!(
            "{} is yet to come (here it is {}): leave --at out to read what is now",
            time.format(&Rfc3339)?,
            now.format(&Rfc3339)?
        );
    }
    Ok(found.revision)
}

fn millis(time: OffsetDateTime) -> Result<i64> {
    Ok(i64::try_from(
        time.unix_timestamp_nanos().div_euclid(1_000_000),
    )?)
}

/// Times are of the members' clocks, which may be ahead of the one here: what `history` says of the newest revision is
/// not yet to come, whatever time it is here.
fn is_to_come(asked: i64, now: i64, newest: Moment) -> bool {
    asked > now && asked > newest.unix_ms
}

/// Why what is asked for is not there, and what is.
fn before_history(args: &GetArgs, begins: Moment) -> String {
    let asked = match args.at.and_then(|time| time.format(&Rfc3339).ok()) {
        Some(time) => format!("what was there at {time}"),
        None => format!("revision {}", args.rev),
    };
    let made = match time_text(begins.unix_ms) {
        Some(time) => format!(", made at {time}"),
        None => String::new(),
    };
    format!(
        "{asked} has been compacted: history begins at revision {}{made}",
        begins.revision
    )
}

pub(super) async fn history(session: &Session, args: &HistoryArgs) -> Result<()> {
    let shown = &args.keys;
    let keys = keys(&shown.key, shown.prefix)?;
    let client = session.any().await?;
    let (begins, revisions) = client.history(&keys, args.limit).await?;
    let numbers: Vec<i64> = revisions.iter().map(number).collect();
    let times = client.times_of(&numbers).await?;
    let revisions: Vec<(Revision, i64)> = revisions.into_iter().zip(times).collect();
    if shown.output.json() {
        let revisions: Vec<Value> = revisions.iter().map(revision_json).collect();
        let answer = json!({"retained_from": begins, "revisions": revisions});
        say(&serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    if revisions.is_empty() {
        bail!(
            "nothing is retained of {}: history begins at revision {begins}",
            shown.key
        );
    }
    say(revisions_table(&revisions, shown.values).trim_end());
    if let Some(note) = untimed(&revisions, begins) {
        // Not among the lines.
        eprintln!("{note}");
    }
    Ok(())
}

/// Why there is a revision without a time.
fn untimed(revisions: &[(Revision, i64)], begins: i64) -> Option<String> {
    let untimed = revisions.iter().filter(|(_, unix_ms)| *unix_ms == 0);
    let (older, other): (Vec<i64>, Vec<i64>) = untimed
        .map(|(revision, _)| number(revision))
        .partition(|revision| *revision < begins);
    match (older.is_empty(), other.is_empty()) {
        (true, true) => None,
        (false, _) => Some(format!(
            "(No TIME: made before history begins, at revision {begins}; of that it is only known what the keys were.)"
        )),
        (true, false) => Some("(No TIME: it was not recorded when they were made.)".into()),
    }
}

fn keys(key: &str, prefix: bool) -> Result<Keys> {
    match (key.is_empty(), prefix) {
        (_, true) => Ok(Keys::prefix(key.to_string())),
        (false, false) => Ok(Keys::one(key.to_string())),
        (true, false) => bail!("a key is not empty; all keys are `--prefix ''`"),
    }
}

fn records_table(records: &[Record], whole: bool) -> String {
    let head = [
        "KEY", "MODIFIED", "CREATED", "VERSION", "LEASE", "SIZE", "VALUE",
    ];
    let mut lines = vec![head.map(String::from).to_vec()];
    lines.extend(records.iter().map(|record| {
        vec![
            text(&record.key),
            record.mod_revision.to_string(),
            record.create_revision.to_string(),
            record.version.to_string(),
            lease(record.lease),
            record.value.len().to_string(),
            shown(&record.value, whole),
        ]
    }));
    table(&lines)
}

fn number(revision: &Revision) -> i64 {
    match revision {
        Revision::Put(record) => record.mod_revision,
        Revision::Delete(_, at) => *at,
    }
}

/// A time of the store as people write it; nothing where it was not recorded.
fn time_text(unix_ms: i64) -> Option<String> {
    let nanos = i128::from(unix_ms).checked_mul(1_000_000)?;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
    let text = time.format(&Rfc3339).ok()?;
    (unix_ms != 0).then_some(text)
}

/// Revisions and when they were made.
fn revisions_table(revisions: &[(Revision, i64)], whole: bool) -> String {
    let head = [
        "REVISION", "TIME", "KIND", "KEY", "VERSION", "LEASE", "SIZE", "VALUE",
    ];
    let mut lines = vec![head.map(String::from).to_vec()];
    let time = |unix_ms: i64| time_text(unix_ms).unwrap_or_else(|| "-".into());
    lines.extend(revisions.iter().map(|(revision, unix_ms)| match revision {
        Revision::Put(record) => vec![
            record.mod_revision.to_string(),
            time(*unix_ms),
            kind(revision).into(),
            text(&record.key),
            record.version.to_string(),
            lease(record.lease),
            record.value.len().to_string(),
            shown(&record.value, whole),
        ],
        Revision::Delete(key, at) => {
            let gone = ["-", "-", "-", ""].map(String::from);
            let mut line = vec![
                at.to_string(),
                time(*unix_ms),
                kind(revision).into(),
                text(key),
            ];
            line.extend(gone);
            line
        }
    }));
    table(&lines)
}

fn kind(revision: &Revision) -> &'static str {
    match revision {
        Revision::Put(record) if record.create_revision == record.mod_revision => "create",
        Revision::Put(_) => "update",
        Revision::Delete(..) => "delete",
    }
}

fn lease(id: i64) -> String {
    match id {
        0 => "-".into(),
        id => format!("{id:x}"),
    }
}

/// Bytes as text on one line.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.into(),
        _ => bytes.escape_ascii().to_string(),
    }
}

fn shown(value: &[u8], whole: bool) -> String {
    let text = text(value);
    match whole || text.chars().count() <= PREVIEW {
        true => text,
        false => text.chars().take(PREVIEW).chain("...".chars()).collect(),
    }
}

/// A value as text where it is text, and in base64 beside it always.
fn record_json(record: &Record) -> Value {
    use base64::Engine;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    json!({
        "key": text(&record.key),
        "key_base64": encode(&record.key),
        "create_revision": record.create_revision,
        "mod_revision": record.mod_revision,
        "version": record.version,
        "lease": lease(record.lease),
        "size": record.value.len(),
        "value": std::str::from_utf8(&record.value).ok(),
        "value_base64": encode(&record.value),
    })
}

fn revision_json((revision, unix_ms): &(Revision, i64)) -> Value {
    let mut value = match revision {
        Revision::Put(record) => record_json(record),
        Revision::Delete(key, at) => json!({"key": text(key), "mod_revision": at}),
    };
    value["kind"] = kind(revision).into();
    value["time"] = time_text(*unix_ms).into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(create_revision: i64, mod_revision: i64, value: &[u8]) -> Revision {
        Revision::Put(Record {
            key: b"/registry/a"[..].to_vec().into(),
            value: value.to_vec().into(),
            create_revision,
            mod_revision,
            version: mod_revision - create_revision + 1,
            lease: 0xab,
        })
    }

    #[test]
    fn a_history_names_what_happened() {
        let revisions = [
            put(5, 5, b"one"),
            put(5, 6, &[b'x'; 100]),
            Revision::Delete(b"/registry/a"[..].to_vec().into(), 7),
            put(8, 8, b"\x00\x01"),
        ];
        // The last without a time.
        let revisions: Vec<(Revision, i64)> =
            revisions.into_iter().zip([1500, 1501, 61_000, 0]).collect();
        let text = revisions_table(&revisions, false);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            [
                "5",
                "1970-01-01T00:00:01.5Z",
                "create",
                "/registry/a",
                "1",
                "ab",
                "3",
                "one"
            ]
        );
        assert_eq!(lines[2][2], "update");
        assert_eq!(lines[2][7].len(), PREVIEW + 3);
        let deleted = [
            "7",
            "1970-01-01T00:01:01Z",
            "delete",
            "/registry/a",
            "-",
            "-",
            "-",
        ];
        assert_eq!(lines[3], deleted);
        assert_eq!(lines[4][1], "-");
        assert_eq!(lines[4][7], r"\x00\x01");
        assert!(revisions_table(&revisions, true).contains(&"x".repeat(100)));
        let json = revision_json(&revisions[3]);
        assert_eq!(
            (&json["kind"], &json["value_base64"]),
            (&"create".into(), &"AAE=".into())
        );
        assert_eq!(json["time"], Value::Null);
        let deleted = revision_json(&revisions[2]);
        assert_eq!(
            (&deleted["kind"], &deleted["time"]),
            (&"delete".into(), &"1970-01-01T00:01:01Z".into())
        );
    }

    #[test]
    fn a_time_is_to_come_if_no_clock_has_it_yet() {
        let newest = |unix_ms| Moment {
            revision: 7,
            unix_ms,
        };
        assert!(is_to_come(101, 100, newest(50)));
        assert!(!is_to_come(100, 100, newest(50)), "just now");
        assert!(!is_to_come(40, 100, newest(40)));
        // By a member whose clock is ahead.
        assert!(!is_to_come(105, 100, newest(105)));
        assert!(is_to_come(106, 100, newest(105)));
    }

    #[test]
    fn what_is_gone_is_said_with_where_history_begins() {
        use clap::Parser;
        let args = |line: &str| {
            let words = "kontiki store get /a ".to_string() + line;
            let cli = crate::cli::Cli::try_parse_from(words.split_whitespace()).unwrap();
            match cli.command {
                crate::cli::Command::Store(store) => match store.command {
                    crate::cli::StoreCommand::Get(get) => get,
                    _ => panic!("another command"),
                },
                _ => panic!("another command"),
            }
        };
        let begins = |unix_ms| Moment {
            revision: 9,
            unix_ms,
        };
        assert_eq!(
            before_history(&args("--rev 5"), begins(1500)),
            "revision 5 has been compacted: history begins at revision 9, made at 1970-01-01T00:00:01.5Z"
        );
        assert_eq!(
            before_history(&args("--at 1970-01-01T00:00:01Z"), begins(0)),
            "what was there at 1970-01-01T00:00:01Z has been compacted: history begins at revision 9"
        );
    }

    #[test]
    fn it_is_said_why_a_revision_has_no_time() {
        let revisions = |times: [i64; 2]| -> Vec<(Revision, i64)> {
            let puts = [put(5, 5, b"one"), put(5, 9, b"two")];
            puts.into_iter().zip(times).collect()
        };
        assert_eq!(untimed(&revisions([1, 2]), 7), None);
        let before = untimed(&revisions([0, 2]), 7).unwrap();
        assert!(before.contains("begins, at revision 7"), "{before}");
        let other = untimed(&revisions([0, 0]), 1).unwrap();
        assert!(other.contains("not recorded"), "{other}");
    }

    #[test]
    fn no_key_at_all_is_a_mistake_and_not_everything() {
        assert!(keys("", false).is_err());
        assert_eq!(keys("", true).unwrap(), Keys::prefix(""));
    }
}
