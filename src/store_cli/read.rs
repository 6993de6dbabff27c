//! `kontiki store get` and `history`: what keys are and what they were.

use std::io::Write;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use store::etcd::client::{Keys, Record, Revision};

use super::{Session, table};
use crate::cli::{GetArgs, HistoryArgs};
use crate::up::say;

/// Characters of a value that are shown unless all of it is asked for.
const PREVIEW: usize = 60;

pub(super) async fn get(session: &Session, args: &GetArgs) -> Result<()> {
    let keys = keys(&args.key, args.prefix)?;
    let client = session.any().await?;
    let (revision, records) = client.get(&keys, args.rev, args.limit).await?;
    if args.output.json() {
        let records: Vec<Value> = records.iter().map(record_json).collect();
        let answer = json!({"revision": revision, "keys": records});
        say(&serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    if args.prefix {
        say(records_table(&records, args.values).trim_end());
        return Ok(());
    }
    let Some(record) = records.first() else {
        bail!("there is no key {} at revision {revision}", args.key);
    };
    // As it is: for a file or a pipe.
    let mut out = std::io::stdout().lock();
    out.write_all(&record.value)?;
    if record.value.last() != Some(&b'\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

pub(super) async fn history(session: &Session, args: &HistoryArgs) -> Result<()> {
    let keys = keys(&args.key, args.prefix)?;
    let client = session.any().await?;
    let (begins, mut revisions) = client.history(&keys).await?;
    if args.limit > 0 {
        revisions.drain(..revisions.len().saturating_sub(args.limit));
    }
    if args.output.json() {
        let revisions: Vec<Value> = revisions.iter().map(revision_json).collect();
        let answer = json!({"retained_from": begins, "revisions": revisions});
        say(&serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    if revisions.is_empty() {
        bail!(
            "nothing is retained of {}: history begins at revision {begins}",
            args.key
        );
    }
    say(revisions_table(&revisions, args.values).trim_end());
    Ok(())
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

fn revisions_table(revisions: &[Revision], whole: bool) -> String {
    let head = [
        "REVISION", "KIND", "KEY", "VERSION", "LEASE", "SIZE", "VALUE",
    ];
    let mut lines = vec![head.map(String::from).to_vec()];
    lines.extend(revisions.iter().map(|revision| match revision {
        Revision::Put(record) => vec![
            record.mod_revision.to_string(),
            kind(revision).into(),
            text(&record.key),
            record.version.to_string(),
            lease(record.lease),
            record.value.len().to_string(),
            shown(&record.value, whole),
        ],
        Revision::Delete(key, at) => {
            let gone = ["-", "-", "-", ""].map(String::from);
            let mut line = vec![at.to_string(), kind(revision).into(), text(key)];
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

fn revision_json(revision: &Revision) -> Value {
    let mut value = match revision {
        Revision::Put(record) => record_json(record),
        Revision::Delete(key, at) => json!({"key": text(key), "mod_revision": at}),
    };
    value["kind"] = kind(revision).into();
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
        let text = revisions_table(&revisions, false);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            ["5", "create", "/registry/a", "1", "ab", "3", "one"]
        );
        assert_eq!(lines[2][..2], ["6", "update"]);
        assert_eq!(lines[2][6].len(), PREVIEW + 3);
        assert_eq!(lines[3], ["7", "delete", "/registry/a", "-", "-", "-"]);
        assert_eq!(lines[4][6], r"\x00\x01");
        assert!(revisions_table(&revisions, true).contains(&"x".repeat(100)));
        let json = revision_json(&revisions[3]);
        assert_eq!(
            (&json["kind"], &json["value_base64"]),
            (&"create".into(), &"AAE=".into())
        );
        assert_eq!(revision_json(&revisions[2])["kind"], "delete");
    }

    #[test]
    fn no_key_at_all_is_a_mistake_and_not_everything() {
        assert!(keys("", false).is_err());
        assert_eq!(keys("", true).unwrap(), Keys::prefix(""));
    }
}
