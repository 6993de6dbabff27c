//! A simulated disk as a directory of the product's own files, so that its offline tools read it.

use std::io;
use std::path::Path;

use store::config::engine;
use store::env::LogOp;

use super::Disk;

impl Disk {
    /// Writes what the next process would find in the data directory `home` into the new directory `to`, in the product's
    /// own formats. What is wrong on purpose is wrong there, too. Nothing where no member has ever begun to use it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, home: &Path, to: &Path) -> io::Result<()> {
        let inner = self.lock();
        let Some((writes, position)) = inner.state.stored() else {
            return Ok(());
        };
        std::fs::create_dir_all(to)?;
        for (name, contents) in inner.files.below(home) {
            let file = to.join(name);
            file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            std::fs::write(file, contents)?;
        }
        let ops: Vec<LogOp> = inner.log.as_ops();
        drop(inner);
        let engine = engine();
        engine.open_log(to, true)?.write(&ops, true)?;
        let state = engine.open_state(to, true)?.opened();
        state.write(&writes, &position)?;
        state.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use store::config::engine;

    use crate::sim::Options;
    use crate::sim::command::CLUSTERS;
    use crate::sim::world::home;

    /// What a run leaves is what the product finds: the same log, and a state that is what its hash says.
    #[test]
    fn the_product_opens_what_is_saved() {
        let options = Options {
            seed: 11,
            length: Duration::from_secs(2),
            bug: None,
        };
        let ran = (CLUSTERS.run)(&options, &(CLUSTERS.schedule)(&options));
        assert!(ran.disks.len() >= 3);
        let folder = tempfile::tempdir().unwrap();
        for (id, disk) in &ran.disks {
            let (home, to) = (home(*id), folder.path().join(id.to_string()));
            disk.save(&home, &to).unwrap();
            let engine = engine();
            let log = engine.open_log(&to, false).unwrap();
            let simulated = disk.engine();
            let expected = simulated.open_log(&home, false).unwrap();
            assert_eq!(log.found(), expected.found());
            assert!(log.found().last.is_some());
            let state = engine.open_state(&to, false).unwrap().opened();
            let expected = simulated.open_state(&home, false).unwrap().opened();
            assert_eq!(state.load().unwrap().0, expected.load().unwrap().0);
            let identity = std::fs::read_to_string(to.join("identity")).unwrap();
            assert!(identity.contains("incarnation"), "{identity}");
        }
    }
}
