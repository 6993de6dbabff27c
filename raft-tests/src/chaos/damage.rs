//! Damages a file of a member that does not run, as a bad disk would.

use anyhow::{Context, Result};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Files of RocksDB that say nothing of the state: damage there proves nothing.
const IDLE: &[&str] = &["LOG", "IDENTITY", "OPTIONS", "LOCK"];

/// One of ten is cut short, of the others a bit is flipped. Says what was done.
pub fn damage(data: &Path, dice: u64) -> Result<String> {
    let mut files = Vec::new();
    collect(data, &mut files)?;
    files.sort();
    let file = files
        .get((dice % files.len().max(1) as u64) as usize)
        .context("there is no file to damage")?;
    let bytes = fs::metadata(file)?.len();
    let at = (dice >> 16) % bytes;
    let name = file.strip_prefix(data).unwrap_or(file).display();
    if (dice >> 8).is_multiple_of(10) {
        OpenOptions::new().write(true).open(file)?.set_len(at)?;
        return Ok(format!("{name} cut from {bytes} to {at} bytes"));
    }
    let bit = (dice >> 60) % 8;
    let open = OpenOptions::new().read(true).write(true).open(file)?;
    let mut byte = [0];
    open.read_exact_at(&mut byte, at)?;
    byte[0] ^= 1 << bit;
    open.write_all_at(&byte, at)?;
    Ok(format!(
        "bit {bit} of byte {at} of {bytes} of {name} flipped"
    ))
}

fn is_idle(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    IDLE.iter().any(|idle| name.starts_with(idle))
}

/// All that have something in them.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.metadata()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() && kind.len() > 0 && !is_idle(&entry.path()) {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_file_differs_after_it() {
        let cuts = (0..40_u64)
            .map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .filter(|dice| {
                let folder = tempfile::tempdir().unwrap();
                let inner = folder.path().join("inner");
                fs::create_dir(&inner).unwrap();
                let files = [folder.path().join("a"), inner.join("b")];
                for file in &files {
                    fs::write(file, [0; 100]).unwrap();
                }
                fs::write(folder.path().join("empty"), []).unwrap();
                fs::write(folder.path().join("LOG.old"), "idle").unwrap();
                damage(folder.path(), *dice).unwrap();
                let read: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
                let changed = |bytes: &&Vec<u8>| bytes.as_slice() != [0; 100];
                assert_eq!(read.iter().filter(changed).count(), 1);
                read.iter().any(|bytes| bytes.len() < 100)
            })
            .count();
        assert!((1..20).contains(&cuts), "{cuts}");
    }
}
