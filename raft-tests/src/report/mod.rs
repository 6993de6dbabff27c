//! The report of a run: one page that explains itself and needs nothing else, and what it was made of.
//!
//! [`picture`] decides what is drawn (pure, and tested as values), [`page`] puts it into HTML, and the script in
//! `assets/` draws it. Whatever comes from a run is text to the page, never markup.

mod clients;
pub mod command;
mod dumps;
mod faults;
mod members;
pub(crate) mod page;
mod part;
pub mod picture;
mod revisions;
mod watches;
pub(crate) mod words;

use crate::recording::{Recording, Violation};
use picture::{Limits, paint};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes `report.html`, `recording.json`, `faults.json` and `violations.json` into the folder, which is made where it
/// is missing. Files of before are replaced.
pub fn write(folder: &Path, recording: &Recording, violations: &[Violation]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    json(&folder.join("recording.json"), recording)?;
    json(&folder.join("faults.json"), &recording.faults)?;
    json(&folder.join("violations.json"), violations)?;
    write_page(folder, recording, violations)
}

/// Writes `report.html` alone.
pub fn write_page(
    folder: &Path,
    recording: &Recording,
    violations: &[Violation],
) -> io::Result<()> {
    let picture = paint(recording, violations, Limits::default());
    fs::write(folder.join("report.html"), page::html(&picture)?)
}

fn json<T: Serialize + ?Sized>(path: &Path, value: &T) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer(&mut file, value)?;
    file.write_all(b"\n")?;
    file.flush()
}
