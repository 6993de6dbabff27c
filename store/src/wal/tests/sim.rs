//! A disk that remembers each step, so that a test can ask what a power cut after any of them leaves: of what was not
//! synced, any sectors may be there or not, in any order.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::wal::files::{DataFile, Folder};
use crate::wal::format::SECTOR;

/// One step on the disk, or a word of the test about what happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Create {
        path: String,
        file: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        path: String,
    },
    SyncDir {
        dir: String,
    },
    Write {
        file: usize,
        at: u64,
        bytes: Vec<u8>,
    },
    Sync {
        file: usize,
    },
    /// This batch is given to the log.
    Begin(usize),
    /// It was reported as written; `true` as durable too.
    Done(usize, bool),
}

#[derive(Clone, Default)]
pub(super) struct Image {
    /// Names and what they stand for.
    pub(super) names: BTreeMap<String, usize>,
    pub(super) files: Vec<Vec<u8>>,
}

#[derive(Default)]
struct State {
    image: Image,
    journal: Vec<Step>,
    /// So many steps that change something, and then one fails.
    fail_after: Option<usize>,
    /// All bytes of all files.
    room: Option<usize>,
}

/// The disk. Clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Sim(Arc<Mutex<State>>);

struct SimFile {
    sim: Sim,
    file: usize,
}

impl Image {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Create { path, file } => {
                self.grow(*file);
                self.names.insert(path.clone(), *file);
            }
            Step::Rename { from, to } => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Step::Remove { path } => {
                self.names.remove(path);
            }
            Step::Write { file, at, bytes } => {
                self.grow(*file);
                let (at, content) = (*at as usize, &mut self.files[*file]);
                content.resize(content.len().max(at + bytes.len()), 0);
                content[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Step::SyncDir { .. } | Step::Sync { .. } | Step::Begin(_) | Step::Done(..) => {}
        }
    }

    fn grow(&mut self, file: usize) {
        self.files
            .resize(self.files.len().max(file + 1), Vec::new());
    }

    /// Bytes of all files that have a name.
    fn used(&self) -> usize {
        self.names
            .values()
            .map(|file| self.files[*file].len())
            .sum()
    }

    pub(super) fn content(&mut self, path: &str) -> &mut Vec<u8> {
        let file = self.names[path];
        &mut self.files[file]
    }
}

impl Sim {
    pub(super) fn of(image: Image) -> Sim {
        let sim = Sim::default();
        sim.lock().image = image;
        sim
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn image(&self) -> Image {
        self.lock().image.clone()
    }

    pub(super) fn journal(&self) -> Vec<Step> {
        self.lock().journal.clone()
    }

    pub(super) fn note(&self, step: Step) {
        self.lock().journal.push(step);
    }

    pub(super) fn fail_after(&self, steps: usize) {
        self.lock().fail_after = Some(steps);
    }

    /// Whether that step has not come, and will not any more.
    pub(super) fn still_to_fail(&self) -> bool {
        self.lock().fail_after.take().is_some()
    }

    pub(super) fn set_room(&self, bytes: Option<usize>) {
        self.lock().room = bytes;
    }

    pub(super) fn used(&self) -> usize {
        self.lock().image.used()
    }

    /// Does a step, unless it is the one that fails: of a write that fails, half is done.
    fn step(&self, step: Step) -> io::Result<()> {
        let mut state = self.lock();
        let mut failed = None;
        if let Some(left) = state.fail_after {
            state.fail_after = left.checked_sub(1);
            if left == 0 {
                failed = Some(io::ErrorKind::Other);
            }
        }
        if let (Some(room), Step::Write { file, at, bytes }) = (state.room, &step) {
            let used = state.image.used();
            let have = state.image.files[*file].len();
            if used + (*at as usize + bytes.len()).saturating_sub(have) > room {
                failed = Some(io::ErrorKind::StorageFull);
            }
        }
        let step = match (failed, step) {
            (None, step) => step,
            (Some(kind), Step::Write { file, at, bytes }) => {
                let bytes = bytes[..bytes.len() / 2].to_vec();
                let half = Step::Write { file, at, bytes };
                state.image.apply(&half);
                state.journal.push(half);
                return Err(kind.into());
            }
            (Some(kind), _) => return Err(kind.into()),
        };
        state.image.apply(&step);
        state.journal.push(step);
        Ok(())
    }
}

impl Folder for Sim {
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{dir}/");
        let state = self.lock();
        let names = state.image.names.keys();
        Ok(names
            .filter_map(|path| path.strip_prefix(&prefix).map(String::from))
            .collect())
    }

    fn make_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DataFile>> {
        let file = {
            let mut state = self.lock();
            state.image.files.push(Vec::new());
            state.image.files.len() - 1
        };
        self.step(Step::Create {
            path: path.into(),
            file,
        })?;
        Ok(Arc::new(SimFile {
            sim: self.clone(),
            file,
        }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DataFile>> {
        let file = self.lock().image.names.get(path).copied();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile {
            sim: self.clone(),
            file,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step(Step::Rename {
            from: from.into(),
            to: to.into(),
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.step(Step::Remove { path: path.into() })
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.step(Step::SyncDir { dir: dir.into() })
    }

    fn room(&self) -> io::Result<u64> {
        let state = self.lock();
        let left = |room: usize| room.saturating_sub(state.image.used()) as u64;
        Ok(state.room.map_or(u64::MAX, left))
    }
}

impl DataFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.sim.lock().image.files[self.file].len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.sim.lock();
        let content = state.image.files[self.file].get(offset as usize..);
        let content = content.and_then(|content| content.get(..buffer.len()));
        buffer.copy_from_slice(content.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.sim.step(Step::Write {
            file: self.file,
            at: offset,
            bytes: bytes.to_vec(),
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.sim.step(Step::Sync { file: self.file })
    }
}

/// What a power cut may leave after these steps, on a disk that was like this before.
pub(super) struct PowerCut {
    durable: Image,
    /// Sectors that were written and not synced, in order.
    sectors: Vec<Step>,
    /// Names that were changed and not synced, in order.
    names: Vec<Step>,
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn in_sectors(file: usize, at: u64, bytes: &[u8]) -> Vec<Step> {
    let sector = |(number, bytes): (usize, &[u8])| Step::Write {
        file,
        at: at + (number * SECTOR) as u64,
        bytes: bytes.to_vec(),
    };
    bytes.chunks(SECTOR).enumerate().map(sector).collect()
}

impl PowerCut {
    pub(super) fn after(before: &Image, steps: &[Step]) -> PowerCut {
        let mut cut = PowerCut {
            durable: before.clone(),
            sectors: Vec::new(),
            names: Vec::new(),
        };
        for step in steps {
            match step {
                Step::Write { file, at, bytes } => {
                    cut.sectors.extend(in_sectors(*file, *at, bytes))
                }
                Step::Sync { file } => {
                    let of_file =
                        |step: &Step| matches!(step, Step::Write { file: of, .. } if of == file);
                    let (synced, left) = cut.sectors.drain(..).partition(of_file);
                    cut.sectors = left;
                    cut.settle(synced);
                }
                Step::SyncDir { dir } => {
                    let of_dir = |step: &Step| match step {
                        Step::Create { path, .. } | Step::Remove { path } => directory(path) == dir,
                        Step::Rename { to, .. } => directory(to) == dir,
                        _ => false,
                    };
                    let (synced, left) = cut.names.drain(..).partition(of_dir);
                    cut.names = left;
                    cut.settle(synced);
                }
                Step::Begin(_) | Step::Done(..) => {}
                named => cut.names.push(named.clone()),
            }
        }
        cut
    }

    fn settle(&mut self, steps: Vec<Step>) {
        steps.iter().for_each(|step| self.durable.apply(step));
    }

    fn image(&self, names: usize, sector: impl Fn(usize) -> bool) -> Image {
        let mut image = self.durable.clone();
        let kept = (0..self.sectors.len()).filter(|at| sector(*at));
        kept.for_each(|at| image.apply(&self.sectors[at]));
        self.names[..names]
            .iter()
            .for_each(|step| image.apply(step));
        let all = self.names.iter().chain(&self.sectors);
        all.for_each(|step| {
            if let Step::Create { file, .. } | Step::Write { file, .. } = step {
                image.grow(*file);
            }
        });
        image
    }

    /// Every number of sectors from the first on, and from the last on; each alone, and each missing; some at random;
    /// each with every number of the changed names.
    pub(super) fn images(&self, random: &mut impl FnMut() -> u64) -> Vec<Image> {
        let count = self.sectors.len();
        let mut images = Vec::new();
        for names in 0..=self.names.len() {
            images.push(self.image(names, |_| false));
            for of in 0..count {
                images.push(self.image(names, |at| at <= of));
                if count > 1 {
                    images.push(self.image(names, |at| at >= of));
                    images.push(self.image(names, |at| at == of));
                    images.push(self.image(names, |at| at != of));
                }
            }
            for _ in 0..if count > 2 { 6 } else { 0 } {
                let bits = random();
                images.push(self.image(names, |at| bits >> (at % 64) & 1 == 1));
            }
        }
        images
    }

    /// What the death of the process leaves: everything.
    pub(super) fn process_death(&self) -> Image {
        self.image(self.names.len(), |_| true)
    }
}
