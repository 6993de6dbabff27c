//! Files for the segments to come: made and filled with zeros ahead of time, or taken from segments that are not needed
//! any more. One thread at a time does it beside the writer.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::wal::files::{DataFile, Folder};
use crate::wal::{Names, Segment};

/// Zeros are synced in pieces, so that the log's own syncs do not wait for all of them.
const PIECE: u64 = 1 << 20;
/// And written page by page: the kernel keeps what was written at once as one unit, and would count all of it as written
/// again for each frame in it.
const PAGE: usize = 4096;

/// So many are kept. What a flush of the state makes dispensable frees more than one segment.
const KEPT: usize = 4;

/// A file that was written from end to end.
pub(super) struct Spare {
    pub(super) path: String,
    pub(super) segment: Segment,
}

/// What is done beside the writer.
enum Task {
    /// Make a file of this size.
    Make(String, u64),
    /// Take a segment as a spare file.
    Recycle(u64, Spare),
    Remove(String),
}

/// See the module head.
pub(super) struct Spares {
    folder: Arc<dyn Folder>,
    names: Names,
    /// Off in tests that need each step at its time.
    beside: bool,
    ready: Vec<Spare>,
    /// Number of the next spare file.
    next: u64,
    job: Option<JoinHandle<io::Result<Option<Spare>>>>,
    /// Segments that are not needed any more and wait for the thread.
    released: VecDeque<(u64, Segment)>,
    /// Not tried again until a file is needed.
    failed: bool,
}

impl Spares {
    pub(super) fn new(folder: Arc<dyn Folder>, names: Names, beside: bool) -> Spares {
        Spares {
            folder,
            names,
            beside,
            ready: Vec::new(),
            next: 0,
            job: None,
            released: VecDeque::new(),
            failed: false,
        }
    }

    /// Takes over what is in the directory: spare files of the right size are kept, anything half made is removed.
    pub(super) fn adopt(&mut self, bytes: u64, obsolete: &[u64]) -> io::Result<()> {
        for name in self.folder.list(self.names.dir)? {
            let path = format!("{}/{name}", self.names.dir);
            if name == super::UNFINISHED {
                self.folder.remove(&path)?;
            }
            if let Some(number) = name.strip_suffix(super::SPARE_SUFFIX) {
                let number = u64::from_str_radix(number, 16).unwrap_or_default();
                self.next = self.next.max(number + 1);
                let segment = Segment::open(self.folder.as_ref(), &path)?;
                if segment.bytes >= bytes && self.ready.len() < KEPT {
                    self.ready.push(Spare { path, segment });
                } else {
                    self.folder.remove(&path)?;
                }
            }
        }
        for number in obsolete {
            self.folder.remove(&self.names.segment(*number))?;
        }
        Ok(())
    }

    /// The log has grown so far that another file of the wanted size will be needed soon.
    pub(super) fn prepare(&mut self, wanted: u64, least: u64) {
        self.poll();
        if self.job.is_some() || self.failed || self.has(wanted) {
            return;
        }
        let bytes = affordable(self.folder.as_ref(), wanted, least);
        if !self.has(bytes) {
            let path = self.path();
            self.start(Task::Make(path, bytes));
        }
    }

    fn has(&self, bytes: u64) -> bool {
        self.ready.iter().any(|spare| spare.segment.bytes >= bytes)
    }

    /// Whether one more file of this size is worth keeping; the ones that the log has outgrown make room for it.
    fn wants(&mut self, bytes: u64) -> bool {
        if self.ready.len() < KEPT {
            return true;
        }
        let outgrown = |spare: &mut Spare| spare.segment.bytes < bytes;
        let outgrown: Vec<Spare> = self.ready.extract_if(.., outgrown).collect();
        for spare in &outgrown {
            if let Err(error) = self.folder.remove(&spare.path) {
                tracing::warn!(%error, "a file of the log could not be removed");
            }
        }
        !outgrown.is_empty()
    }

    /// These segments are not needed any more, and durably so. Those of the wanted size become spare files, unless
    /// somebody still reads them.
    pub(super) fn release(&mut self, segments: Vec<(u64, Segment)>, bytes: u64) {
        self.released.extend(segments);
        self.poll();
        while self.job.is_none()
            && let Some((number, segment)) = self.released.pop_front()
        {
            let free = Arc::strong_count(&segment.file) == 1;
            let task = if free && segment.bytes >= bytes && self.wants(bytes) {
                let path = self.path();
                Task::Recycle(number, Spare { path, segment })
            } else {
                Task::Remove(self.names.segment(number))
            };
            self.start(task);
        }
    }

    /// A file of at least the wanted size, or where the disk is nearly full the least: one that is ready, or a new one.
    pub(super) fn take(&mut self, wanted: u64, least: u64) -> io::Result<Spare> {
        self.wait();
        self.failed = false;
        let bytes = affordable(self.folder.as_ref(), wanted, least);
        let fits = |spare: &Spare| spare.segment.bytes >= bytes;
        match self.ready.iter().position(fits) {
            Some(at) => Ok(self.ready.remove(at)),
            None => {
                let path = self.path();
                make(self.folder.as_ref(), &self.names, path, bytes)
            }
        }
    }

    fn path(&mut self) -> String {
        self.next += 1;
        self.names.spare(self.next - 1)
    }

    fn start(&mut self, task: Task) {
        let (folder, names) = (self.folder.clone(), self.names);
        let run = move || perform(folder.as_ref(), &names, task);
        if !self.beside {
            let done = run();
            self.note(done);
            return;
        }
        let thread = std::thread::Builder::new().name("raft-log-files".into());
        match thread.spawn(run) {
            Ok(job) => self.job = Some(job),
            Err(error) => self.note(Err(error)),
        }
    }

    fn poll(&mut self) {
        if self.job.as_ref().is_some_and(JoinHandle::is_finished) {
            self.wait();
        }
    }

    fn wait(&mut self) {
        if let Some(job) = self.job.take() {
            let panicked = |_| Err(io::Error::other("the thread has panicked"));
            self.note(job.join().unwrap_or_else(panicked));
        }
    }

    fn note(&mut self, done: io::Result<Option<Spare>>) {
        match done {
            Ok(spare) => self.ready.extend(spare),
            Err(error) => {
                self.failed = true;
                tracing::warn!(%error, "a file of the log could not be made ready or removed");
            }
        }
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        // Nobody may work in the directory when the log is closed.
        self.wait();
    }
}

fn perform(folder: &dyn Folder, names: &Names, task: Task) -> io::Result<Option<Spare>> {
    match task {
        Task::Make(path, bytes) => make(folder, names, path, bytes).map(Some),
        Task::Recycle(number, spare) => {
            folder.rename(&names.segment(number), &spare.path)?;
            // Else a crash could bring the name back over the content of its next life.
            folder.sync_dir(names.dir)?;
            Ok(Some(spare))
        }
        Task::Remove(path) => folder.remove(&path).map(|()| None),
    }
}

/// Size of a new file: the wanted one where as much again stays free, for the state is on the same disk. What has not
/// much room left goes on in small files instead of ending.
fn affordable(folder: &dyn Folder, wanted: u64, least: u64) -> u64 {
    match folder.room() {
        Ok(room) if room / 2 < wanted => least,
        _ => wanted,
    }
}

/// Writes a whole file of zeros.
pub(super) fn make(
    folder: &dyn Folder,
    names: &Names,
    path: String,
    bytes: u64,
) -> io::Result<Spare> {
    let unfinished = names.unfinished();
    let filled = folder.create(&unfinished).and_then(|file| {
        fill(file.as_ref(), bytes)?;
        folder.rename(&unfinished, &path)?;
        Ok(file)
    });
    match filled {
        Ok(file) => Ok(Spare {
            path,
            segment: Segment { file, bytes },
        }),
        Err(error) => {
            // It may have taken the last room, which others need.
            drop(folder.remove(&unfinished));
            let text = format!("no room can be made for {bytes} bytes of the log: {error}");
            Err(io::Error::new(error.kind(), text))
        }
    }
}

fn fill(file: &dyn DataFile, bytes: u64) -> io::Result<()> {
    let zeros = [0; PAGE];
    let mut at = 0;
    while at < bytes {
        let page = &zeros[..PAGE.min((bytes - at) as usize)];
        file.write_all_at(page, at)?;
        at += page.len() as u64;
        if at % PIECE == 0 || at == bytes {
            file.sync()?;
        }
    }
    Ok(())
}
