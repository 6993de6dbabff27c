//! `fuzz-seeds` lists the targets; `fuzz-seeds FOLDER` writes their seeds there, a folder for each.

use std::io::Write;
use std::path::Path;

fn main() -> std::io::Result<()> {
    match std::env::args_os().nth(1) {
        Some(folder) => write(Path::new(&folder)),
        None => list(),
    }
}

fn list() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for target in fuzz::TARGETS {
        writeln!(out, "{:<16} {}", target.name, target.help)?;
    }
    Ok(())
}

fn write(folder: &Path) -> std::io::Result<()> {
    for target in fuzz::TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
