//! `kontiki store snapshot`: a copy of the store in a file, taken while it runs.

use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use store::backup::{Contents, verify};
use store::etcd::client::{Client, ClientError};

use super::{Session, bytes};
use crate::up::say;

/// Saves under another name, verifies what was written, and only then gives it its name.
pub(super) async fn save(session: &Session, file: &Path) -> Result<()> {
    if file.exists() {
        bail!("{} is there already: choose another name", file.display());
    }
    let client = session.any().await?;
    // That member's state is copied: it shall have all that is acknowledged now.
    client.members(true).await?;
    let partial = partial(file);
    let saved = match receive(&client, &partial).await {
        Ok(()) => verify(&partial).context("what was received is not whole"),
        Err(error) => Err(error),
    };
    let contents = named(saved, &partial, file)?;
    say(&format!("Saved {}:", file.display()));
    say(render(&contents).trim_end());
    Ok(())
}

/// Makes a saved copy out of an etcd's snapshot, in the same way.
pub(super) fn import(etcd: &Path, file: &Path) -> Result<()> {
    if file.exists() {
        bail!("{} is there already: choose another name", file.display());
    }
    let partial = partial(file);
    let mut imported = store::import::Imported::default();
    let saved = create(&partial).and_then(|mut out| {
        imported = store::import::etcd_snapshot(etcd, &mut out)
            .with_context(|| format!("cannot import {}", etcd.display()))?;
        out.sync_all()?;
        verify(&partial).context("what was written is not whole")
    });
    let contents = named(saved, &partial, file)?;
    say(&format!(
        "Imported {} as {}:",
        etcd.display(),
        file.display()
    ));
    say(render(&contents).trim_end());
    if imported.leaseless > 0 {
        say(&format!(
            "{} keys are of a lease that the etcd has no more; they have none now.",
            imported.leaseless
        ));
    }
    Ok(())
}

/// Gives what was saved its name, or takes it away if it is no copy of a store.
fn named(saved: Result<Contents>, partial: &Path, file: &Path) -> Result<Contents> {
    let contents = match saved {
        Ok(contents) => contents,
        Err(error) => {
            // Whatever it is, it is no copy of the store.
            let _ = fs::remove_file(partial);
            return Err(error.context("nothing was saved"));
        }
    };
    fs::rename(partial, file)
        .with_context(|| format!("cannot rename {} to {}", partial.display(), file.display()))?;
    sync_parent(file)?;
    Ok(contents)
}

fn create(partial: &Path) -> Result<File> {
    // What an earlier attempt has left may be open to others, or lead elsewhere.
    let _ = fs::remove_file(partial);
    // Every Secret is in it.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(partial)
        .with_context(|| format!("cannot write {}", partial.display()))
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

async fn receive(client: &Client, partial: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}", partial.display());
    let mut out = create(partial)?;
    let progress = Progress::new();
    let mut received = 0;
    let keep = &mut |part: &[u8], left: u64| {
        received += part.len() as u64;
        progress.show(received, left);
        out.write_all(part)
    };
    let received = client.snapshot(keep).await;
    progress.done();
    received.map_err(|error| match error {
        ClientError::Io(error) => anyhow::Error::new(error).context(cannot()),
        // Of the member, not of the file.
        other => other.into(),
    })?;
    out.sync_all().with_context(cannot)
}

/// So that the name survives a power cut, too.
fn sync_parent(file: &Path) -> Result<()> {
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let sync = File::open(parent).and_then(|dir| dir.sync_all());
    sync.with_context(|| format!("cannot sync {}", parent.display()))
}

pub(super) fn status(file: &Path, json: bool) -> Result<()> {
    let contents = verify(file).with_context(|| format!("{} is not usable", file.display()))?;
    match json {
        false => say(render(&contents).trim_end()),
        true => say(&serde_json::to_string_pretty(&as_json(&contents))?),
    }
    Ok(())
}

fn render(contents: &Contents) -> String {
    let lines = [
        ("revision", contents.revision.to_string()),
        ("keys", contents.keys.to_string()),
        ("leases", contents.leases.to_string()),
        ("size", bytes(contents.size_bytes)),
        ("cluster", format!("{:x}", contents.cluster_id)),
        ("taken from member", format!("{:x}", contents.member_id)),
        ("sha256", hex(&contents.sha256)),
    ];
    // What came from an etcd is of no cluster.
    let origin = ["cluster", "taken from member"];
    let lines = lines
        .into_iter()
        .filter(|(name, _)| contents.member_id != 0 || !origin.contains(name));
    let lines: Vec<_> = lines
        .map(|(name, value)| vec![format!("  {name}"), value])
        .collect();
    super::table(&lines)
}

fn as_json(contents: &Contents) -> serde_json::Value {
    serde_json::json!({
        "revision": contents.revision,
        "compact_revision": contents.compact_revision,
        "keys": contents.keys,
        "leases": contents.leases,
        "size_bytes": contents.size_bytes,
        "cluster_id": format!("{:x}", contents.cluster_id),
        "member_id": format!("{:x}", contents.member_id),
        "sha256": hex(&contents.sha256),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How far it is, on a terminal.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(
                "{spinner} {elapsed:>3} {bytes} of about {total_bytes}, {bytes_per_sec}",
            );
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        Progress(bar)
    }

    fn show(&self, received: u64, left: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(received + left);
            bar.set_position(received);
        }
    }

    fn done(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
