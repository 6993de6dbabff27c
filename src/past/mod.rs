//! `kontiki history`, `diff` and `undo`: what an object was, from the API, which shows any object as it was at a revision
//! (`resourceVersionMatch=Exact`), as far back as the store's history goes.

mod changes;
pub(crate) mod find;

use std::io::Write;

use agents::{Client, ResourceRef};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::cli::{DiffArgs, ObjectArgs, PastArgs, UndoArgs, When};
use crate::store_cli::table;
use changes::{authors, changes, is_wanted, restored, undone};
use find::explained;

/// Of a version in the table of all.
const FIELDS_SHOWN: usize = 3;

/// Lines of a table that are printed together.
const LINES_AT_ONCE: usize = 256;

/// An object, whether it is there or not.
pub(crate) struct Object {
    client: Client,
    resource: ResourceRef,
    namespace: String,
    name: String,
}

/// Why there is no older version.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum End {
    Made,
    /// The store has dropped what was before.
    Compacted,
    /// No more were asked for.
    Enough,
}

impl Object {
    async fn open(args: &ObjectArgs) -> Result<Object> {
        let (kind, name) = args.kind_and_name()?;
        let client = find::client(&args.kubeconfig())?;
        let resource = find::resource(&client, &kind).await?;
        Ok(Object::new(client, resource, &args.namespace, &name))
    }

    pub(crate) fn new(
        client: Client,
        resource: ResourceRef,
        namespace: &str,
        name: &str,
    ) -> Object {
        Object {
            client,
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn path(&self) -> String {
        let namespace = match self.resource.namespaced {
            true => self.namespace.as_str(),
            false => "",
        };
        self.resource.object_path(namespace, &self.name, None)
    }

    pub(crate) async fn now(&self) -> Result<Option<Value>> {
        match self.client.get_path(&self.path()).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code == 404 => Ok(None),
            Err(error) => Err(explained(error)),
        }
    }

    /// As it was at a revision; the end of its history where it was not there or nobody knows.
    pub(crate) async fn at(&self, revision: u64) -> Result<Result<Value, End>> {
        match revision {
            0 => Ok(Err(End::Made)),
            revision => self.of(When::Revision(revision)).await,
        }
    }

    /// As it was then.
    async fn of(&self, when: When) -> Result<Result<Value, End>> {
        let path = format!(
            "{}?resourceVersion={}&resourceVersionMatch=Exact",
            self.path(),
            when.version()
        );
        match self.client.get_path(&path).await {
            Ok(object) => Ok(Ok(object)),
            Err(error) if error.code == 404 => Ok(Err(End::Made)),
            Err(error) if error.code == 410 => Ok(Err(End::Compacted)),
            Err(error) => Err(explained(error)),
        }
    }

    /// As [`Object::of`], where it has to be.
    async fn must_be_at(&self, when: When) -> Result<Value> {
        let found = match when {
            When::Revision(0) => Err(End::Made),
            when => self.of(when).await?,
        };
        found.map_err(|end| match end {
            End::Compacted => {
                anyhow!("the store's history does not go back to {when} any more")
            }
            End::Made | End::Enough => anyhow!("{self} was not there at {when}"),
        })
    }

    fn absent(&self) -> anyhow::Error {
        anyhow!(
            "{self} is not there. One that was deleted has its history before that: name a revision at which it was there, \
             such as the resourceVersion of a list or of another object of that time"
        )
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.resource.plural, self.name)?;
        match self.resource.namespaced {
            true => write!(f, " in {}", self.namespace),
            false => Ok(()),
        }
    }
}

pub(crate) fn revision(object: &Value) -> Result<u64> {
    let text = object["metadata"]["resourceVersion"].as_str();
    text.and_then(|text| text.parse().ok())
        .context("the server's objects have no numbers as versions: it is not a Kontiki")
}

pub(crate) async fn history(args: &PastArgs) -> Result<()> {
    let object = Object::open(&args.object).await?;
    let newest = match args.at {
        Some(when) => object.must_be_at(when).await?,
        None => object.now().await?.ok_or_else(|| object.absent())?,
    };
    let head = ["REVISION", "WHEN", "WHO", "WHAT"].map(String::from);
    let mut page = Page::new(head.to_vec());
    let (mut version, mut shown) = (newest, 0);
    // Two versions are held at a time, however many there are.
    let end = loop {
        let older = object.at(revision(&version)?.saturating_sub(1)).await?;
        let end = older.as_ref().err().copied().unwrap_or(End::Enough);
        let full = page.add(line(older.as_ref().ok(), &version, end)?);
        if let Some(full) = full
            && !write(&full)?
        {
            return Ok(());
        }
        shown += 1;
        match older {
            Ok(older) if shown != args.limit => version = older,
            Ok(_) => break End::Enough,
            Err(end) => break end,
        }
    };
    print(&page.rest())?;
    if end == End::Compacted {
        eprintln!("What was before is not known any more: the store's history begins there.");
    }
    Ok(())
}

/// One version, and what it changed.
fn line(before: Option<&Value>, version: &Value, end: End) -> Result<Vec<String>> {
    let authors = authors(before, version);
    let when = authors.iter().map(|(_, time)| time).max().cloned();
    let mut who: Vec<&str> = authors.iter().map(|(who, _)| who.as_str()).collect();
    who.sort_unstable();
    who.dedup();
    let or_none = |text: String| match text.is_empty() {
        true => "-".to_owned(),
        false => text,
    };
    let what = match before {
        Some(before) => summary(&changes(before, version)),
        None if end == End::Made => "made".into(),
        None => "-".into(),
    };
    Ok(vec![
        revision(version)?.to_string(),
        or_none(when.unwrap_or_default()),
        or_none(who.join(",")),
        what,
    ])
}

fn summary(changes: &[changes::Change]) -> String {
    let shown = changes.iter().take(FIELDS_SHOWN);
    let mut text: Vec<String> = shown.map(|change| change.path.clone()).collect();
    match changes.len() {
        0 => "nothing that a client says".into(),
        all if all > FIELDS_SHOWN => {
            text.push(format!("and {} more", all - FIELDS_SHOWN));
            text.join(", ")
        }
        _ => text.join(", "),
    }
}

pub(crate) async fn diff(args: &DiffArgs) -> Result<()> {
    let object = Object::open(&args.object).await?;
    let after = match args.to {
        Some(when) => object.must_be_at(when).await?,
        None => object.now().await?.ok_or_else(|| object.absent())?,
    };
    let before = match args.from {
        Some(when) => object.must_be_at(when).await?,
        None => {
            let before = object.at(revision(&after)?.saturating_sub(1)).await?;
            before.map_err(|end| match end {
                End::Compacted => anyhow!("the version before is not known any more"),
                End::Made | End::Enough => {
                    anyhow!("{object} has no earlier version: it was made then")
                }
            })?
        }
    };
    let mut text = format!(
        "{object}: revision {} -> {}\n",
        revision(&before)?,
        revision(&after)?
    );
    for change in changes(&before, &after) {
        text += &format!("{change}\n");
    }
    print(&text)
}

pub(crate) async fn undo(args: &UndoArgs) -> Result<()> {
    let object = Object::open(&args.object).await?;
    let now = object.now().await?;
    let then = match (args.to, &now) {
        (Some(when), _) => object.must_be_at(when).await?,
        (None, Some(now)) => before_the_last_change(&object, now).await?,
        (None, None) => return Err(object.absent()),
    };
    let mut text = format!("{object}: as at revision {}\n", revision(&then)?);
    let undone = match &now {
        Some(now) => undone(&then, now),
        None => Vec::new(),
    };
    for change in &undone {
        text += &format!("{change}\n");
    }
    print(&text)?;
    if now.is_some() && undone.is_empty() {
        eprintln!("It is so already.");
        return Ok(());
    }
    if args.dry_run {
        eprintln!("Nothing is written (--dry-run).");
        return Ok(());
    }
    let body = restored(&then, now.as_ref());
    let Object {
        client,
        resource,
        namespace,
        name,
    } = &object;
    let written = match now {
        Some(_) => client.update(resource, namespace, name, &body).await,
        None => client.create(resource, namespace, &body).await,
    };
    let written = written.map_err(explained)?;
    eprintln!("Written as revision {}.", revision(&written)?);
    Ok(())
}

/// The newest version that a client's change has made another one of.
async fn before_the_last_change(object: &Object, now: &Value) -> Result<Value> {
    let mut version = now.clone();
    loop {
        match object.at(revision(&version)?.saturating_sub(1)).await? {
            Ok(older) if !undone(&older, now).iter().any(is_wanted) => version = older,
            Ok(older) => return Ok(older),
            Err(End::Compacted) => {
                bail!(
                    "what {object} was before is not known any more: the store's history begins later"
                )
            }
            Err(End::Made | End::Enough) => bail!("{object} has not changed since it was made"),
        }
    }
}

pub(crate) fn print(text: &str) -> Result<()> {
    write(text).map(|_| ())
}

/// Whether somebody still reads.
fn write(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("cannot print"),
    }
}

/// The lines of a table that are not printed yet. They stand under each other as far as they are printed together.
struct Page(Vec<Vec<String>>);

impl Page {
    fn new(head: Vec<String>) -> Page {
        Page(vec![head])
    }

    /// The page, where it is full now.
    fn add(&mut self, line: Vec<String>) -> Option<String> {
        self.0.push(line);
        (self.0.len() >= LINES_AT_ONCE).then(|| self.rest())
    }

    /// What there is of it.
    fn rest(&mut self) -> String {
        table(&std::mem::take(&mut self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_without_end_is_printed_page_by_page() {
        let mut page = Page::new(vec!["N".into(), "WHAT".into()]);
        let mut text = String::new();
        let mut held = 0;
        for at in 0..10 * LINES_AT_ONCE {
            text += &page
                .add(vec![at.to_string(), "x".into()])
                .unwrap_or_default();
            held = held.max(page.0.len());
        }
        text += &page.rest();
        assert!(held < LINES_AT_ONCE);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 10 * LINES_AT_ONCE + 1);
        assert_eq!((lines[0], lines[1]), ("N    WHAT", "0    x"));
        assert_eq!(lines.last(), Some(&"2559  x"));
        assert_eq!(page.rest(), "");
    }
}
