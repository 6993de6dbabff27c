//! `managedFields` that stand apart from their object, as the text that is stored: most writes touch no entry but that of
//! their own manager, so that the others are neither read nor written. Only what looks just like the text that would be
//! written again is taken as text; all else is read.

use std::cmp::Ordering;

use serde_json::Value;

use super::compare::{Changes, compare};
use super::element::{self, InOrder};
use super::managers::{Entry, Managers, UPDATERS_MAX, Who, carried_on, operation, skipped};
use super::set::Set;
use super::versions::Seen;
use crate::letters::printable_len;
use crate::read;
use crate::structural::Schema;
use crate::time;

/// Sets with so many levels are read: there are none.
const DEPTH_MAX: usize = 32;

/// What [`super::updated`] makes of an object where the write leaves the managers alone, so that neither object need have
/// them: they are `stored`, in JSON, and so is the answer.
///
/// # Errors
///
/// What is stored is no JSON.
pub fn updated_apart<'a>(
    schema: impl Into<Schema<'a>>,
    old: &Value,
    new: &Value,
    stored: Option<&str>,
    who: &Who<'_>,
) -> Result<Option<String>, serde_json::Error> {
    let schema = schema.into();
    let changes = compare(schema, old, new, &skipped(who));
    if let Some(told) = stored.and_then(|text| told(text, who)) {
        return match changes.is_empty() {
            true => Ok(stored.map(str::to_owned)),
            false => retold(schema, (old, new), told, changes, who),
        };
    }
    let stored = stored.map(|text| read::json(text.as_bytes())).transpose()?;
    let entries = carried_on(schema, (old, new), changes, stored, who);
    let written = entries.map(|entries| serde_json::to_string(&InOrder(&entries)));
    written.transpose()
}

/// An entry as it is stored, which would be written like that again.
#[derive(Debug)]
struct Told<'t> {
    text: &'t str,
    manager: &'t str,
    applied: bool,
    api_version: &'t str,
    subresource: &'t str,
    /// Empty where there is none.
    time: &'t str,
    /// The path elements that its set begins with.
    roots: Vec<&'t str>,
}

/// By which entries are sorted.
type Rank<'a> = (&'static str, i64, [&'a str; 3]);

impl Told<'_> {
    fn rank(&self) -> Rank<'_> {
        let seconds = time::parse(self.time).unwrap_or(0);
        let names = [self.manager, self.api_version, self.subresource];
        (operation(self.applied), seconds, names)
    }

    /// Whether it is of the same manager as another one of its version.
    fn is_same(&self, other: &Told<'_>) -> bool {
        self.applied == other.applied
            && (self.manager, self.subresource) == (other.manager, other.subresource)
    }

    /// Whether a write with these changes may make another entry of it.
    fn is_touched(&self, changes: &Changes, who: &Who<'_>) -> bool {
        let is_own =
            !self.applied && (self.manager, self.subresource) == (who.manager, who.subresource);
        let sets = [&changes.added, &changes.removed, &changes.modified];
        let changes = |root: &&str| sets.iter().any(|set| set.begins_with(root));
        is_own || self.roots.iter().any(changes)
    }

    fn read(&self) -> Result<Option<Entry>, serde_json::Error> {
        let value = read::json(self.text.as_bytes())?;
        Ok(Entry::read(value, Set::read_own))
    }
}

/// An entry after the write.
enum Line<'t> {
    Kept(Told<'t>),
    Made(Entry),
}

impl Line<'_> {
    fn rank(&self) -> Rank<'_> {
        match self {
            Line::Kept(told) => told.rank(),
            Line::Made(entry) => (operation(entry.applied), entry.seconds(), entry.names()),
        }
    }
}

/// What becomes of entries by these changes. There are some, so that the object is tracked, and too few to be capped.
fn retold(
    schema: Schema<'_>,
    objects: (&Value, &Value),
    told: Vec<Told<'_>>,
    changes: Changes,
    who: &Who<'_>,
) -> Result<Option<String>, serde_json::Error> {
    let mut managers = Managers::default();
    let mut lines = Vec::with_capacity(told.len() + 1);
    for told in told {
        match told.is_touched(&changes, who) {
            true => managers.0.extend(told.read()?),
            false => lines.push(Line::Kept(told)),
        }
    }
    let seen = Seen::of(schema, objects, changes, &managers, who);
    managers.take(seen, who);
    lines.extend(managers.0.into_iter().map(Line::Made));
    if lines.is_empty() {
        return Ok(None);
    }
    lines.sort_by(|a, b| a.rank().cmp(&b.rank()));
    let mut text = String::from("[");
    for line in lines {
        if text.len() > 1 {
            text.push(',');
        }
        match line {
            Line::Kept(told) => text.push_str(told.text),
            Line::Made(entry) => {
                let written = serde_json::to_string(&InOrder(&entry.write()))?;
                text.push_str(&written);
            }
        }
    }
    text.push(']');
    Ok(Some(text))
}

/// The entries of a text, where that would be written like that again, all of them are of the version of the request, and
/// there are so few that one more is not too many.
fn told<'t>(text: &'t str, who: &Who<'_>) -> Option<Vec<Told<'t>>> {
    let mut scanner = Scanner { text, at: 0 };
    let mut all: Vec<Told<'t>> = Vec::new();
    scanner.word("[")?;
    loop {
        let told = scanner.entry()?;
        let is_in_order = all.last().is_none_or(|last| last.rank() < told.rank());
        let is_again = all.iter().any(|known| known.is_same(&told));
        if !is_in_order || is_again || told.api_version != who.api_version {
            return None;
        }
        all.push(told);
        if all.len() >= UPDATERS_MAX {
            return None;
        }
        if scanner.word("]").is_some() {
            return (scanner.at == text.len()).then_some(all);
        }
        scanner.word(",")?;
    }
}

/// Goes through a text as long as it is just as it would be written.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scanner<'t> {
    fn word(&mut self, word: &str) -> Option<()> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return None;
        }
        self.at += word.len();
        Some(())
    }

    /// What stands between the quotes of a string, as it is written.
    fn string(&mut self) -> Option<&'t str> {
        self.word("\"")?;
        let start = self.at;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = printable_len(rest);
            self.at += plain;
            match &rest[plain..] {
                [b'"', ..] => break,
                // What is written in no other way.
                [b'\\', b'"' | b'\\', ..] => self.at += 2,
                _ => return None,
            }
        }
        let string = &self.text[start..self.at];
        self.at += 1;
        string.is_ascii().then_some(string)
    }

    /// A string that says something, and all of it as it is.
    fn plain(&mut self) -> Option<&'t str> {
        let string = self.string()?;
        (!string.is_empty() && !string.contains('\\')).then_some(string)
    }

    /// The string of a member that may be there, else an empty one.
    fn optional(&mut self, name: &str) -> Option<&'t str> {
        match self.word(name) {
            Some(()) => self.plain(),
            None => Some(""),
        }
    }

    fn entry(&mut self) -> Option<Told<'t>> {
        let start = self.at;
        self.word(r#"{"apiVersion":"#)?;
        let api_version = self.plain()?;
        self.word(r#","fieldsType":"FieldsV1","fieldsV1":"#)?;
        let mut roots = Vec::new();
        self.place(0, &mut roots)?;
        let manager = self.optional(r#","manager":"#)?;
        self.word(r#","operation":"#)?;
        let applied = match self.plain()? {
            "Apply" => true,
            "Update" => false,
            _ => return None,
        };
        let subresource = self.optional(r#","subresource":"#)?;
        let time = self.optional(r#","time":"#)?;
        self.word("}")?;
        Some(Told {
            text: &self.text[start..self.at],
            manager,
            applied,
            api_version,
            subresource,
            time,
            roots,
        })
    }

    /// A place of a set, which is not empty itself. Its path elements are the `roots`.
    fn place(&mut self, depth: usize, roots: &mut Vec<&'t str>) -> Option<()> {
        self.word("{")?;
        if self.word("}").is_some() {
            return (depth > 0).then_some(());
        }
        if depth > DEPTH_MAX {
            return None;
        }
        if depth > 0 {
            // The place itself stands before all others, and not alone.
            let _is_member = self.word(r#"".":{},"#);
        }
        let mut before: Option<&str> = None;
        loop {
            let element = self.string()?;
            if !is_element(element) || before.is_some_and(|before| !are_in_order(before, element)) {
                return None;
            }
            if depth == 0 {
                // They are compared as they are written.
                if element.contains('\\') {
                    return None;
                }
                roots.push(element);
            }
            self.word(":")?;
            self.place(depth + 1, roots)?;
            before = Some(element);
            if self.word("}").is_some() {
                return Some(());
            }
            self.word(",")?;
        }
    }
}

fn is_element(text: &str) -> bool {
    matches!(text.as_bytes(), [b'f' | b'k' | b'v' | b'i', b':', ..])
}

/// Whether one path element goes before another, both as JSON writes them.
fn are_in_order(one: &str, other: &str) -> bool {
    if !one.contains('\\') && !other.contains('\\') {
        return element::order(one, other) == Ordering::Less;
    }
    let read = |text: &str| serde_json::from_str::<String>(&format!("\"{text}\"")).ok();
    match (read(one), read(other)) {
        (Some(one), Some(other)) => element::order(&one, &other) == Ordering::Less,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
