//! The audit log's file: a line of JSON an event, written by a thread of its own behind a bounded queue, and put aside under
//! its time when it is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use apiserver::{AuditPolicy, AuditSink, Auditing};
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;
use tracing::{error, warn};

use crate::cli::AuditArgs;
use crate::pki;

/// Events, and bytes of them, that wait to be written; more are dropped.
const QUEUE_EVENTS_MAX: usize = 16_384;
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// What is written is on the disk this much later at the latest.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// In the names of files that are full; UTC.
const STAMP: &[FormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]-[minute]-[second].[subsecond digits:3]");

/// When a file is put aside, and how long it is kept.
#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes_max: u64,
    /// 0 for all.
    files_kept: usize,
    /// Zero for ever.
    age_max: Duration,
}

/// The log of a server; dropped, it writes what waits and ends.
pub(crate) struct AuditLog {
    sender: Mutex<Option<SyncSender<Vec<u8>>>>,
    waiting: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl AuditSink for AuditLog {
    fn take(&self, line: Vec<u8>) {
        let length = line.len();
        let waiting = self.waiting.fetch_add(length, Ordering::AcqRel) + length;
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match &*sender {
            Some(sender) if waiting <= QUEUE_BYTES_MAX => sender.try_send(line).is_ok(),
            _ => false,
        };
        if !taken {
            self.waiting.fetch_sub(length, Ordering::AcqRel);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl AuditLog {
    /// Writes what waits, and ends. Blocks.
    pub(crate) fn close(&self) {
        let sender = self.sender.lock();
        drop(sender.unwrap_or_else(PoisonError::into_inner).take());
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = writer.take()
            && writer.join().is_err()
        {
            error!("the writer of the audit log broke down");
        }
    }

    fn open(path: &Path, limits: Limits) -> Result<Arc<AuditLog>> {
        let log = LogFile::open(path.to_owned(), limits)
            .with_context(|| format!("cannot write the audit log {}", path.display()))?;
        let (sender, receiver) = sync_channel(QUEUE_EVENTS_MAX);
        let (waiting, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (waiting.clone(), lost.clone());
        let writer = std::thread::Builder::new()
            .name("audit-log".into())
            .spawn(move || write_all(log, &receiver, &counters.0, &counters.1))
            .context("cannot start the thread of the audit log")?;
        Ok(Arc::new(AuditLog {
            sender: Mutex::new(Some(sender)),
            waiting,
            lost,
            writer: Mutex::new(Some(writer)),
        }))
    }
}

/// The audit log that the command line wants, if any.
pub(crate) fn of(args: &AuditArgs) -> Result<(Option<Auditing>, Option<Arc<AuditLog>>)> {
    if args.audit_log_path.is_none() && args.webhook.audit_webhook_config_file.is_none() {
        if args.audit_policy_file.is_some() {
            bail!(
                "--audit-policy-file has no effect without --audit-log-path or --audit-webhook-config-file: name one of them too"
            );
        }
        return Ok((None, None));
    }
    let policy = match &args.audit_policy_file {
        None => AuditPolicy::default_policy(),
        Some(file) => AuditPolicy::parse(&pki::read(file)?)
            .with_context(|| format!("{} (--audit-policy-file) does not hold", file.display()))?,
    };
    let told = policy.tells_secrets();
    if !told.is_empty() {
        warn!(
            resources = told.join(","),
            "the audit policy has bodies of secret objects written to the audit log: give them the level Metadata"
        );
    }
    let limits = Limits {
        bytes_max: args.audit_log_maxsize.saturating_mul(1 << 20),
        files_kept: args.audit_log_maxbackup,
        age_max: Duration::from_secs(args.audit_log_maxage.saturating_mul(86_400)),
    };
    let path = args.audit_log_path.as_ref();
    let log = path.map(|path| AuditLog::open(path, limits)).transpose()?;
    let sink = log.clone().map(|log| log as Arc<dyn AuditSink>);
    Ok((Some(Auditing { policy, sink }), log))
}

fn write_all(
    mut log: LogFile,
    receiver: &Receiver<Vec<u8>>,
    waiting: &AtomicUsize,
    lost: &AtomicU64,
) {
    let mut complained = false;
    let mut synced = Instant::now();
    loop {
        let mut written = match receiver.recv_timeout(SYNC_EVERY) {
            Ok(line) => {
                waiting.fetch_sub(line.len(), Ordering::AcqRel);
                log.write(&line)
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if synced.elapsed() >= SYNC_EVERY {
            synced = Instant::now();
            written = written.and(log.sync());
        }
        match written {
            Ok(()) => complained = false,
            Err(error) => {
                lost.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut complained, true) {
                    error!(file = %log.path.display(), %error, "the audit log cannot be written; events are lost");
                }
            }
        }
    }
    if let Err(error) = log.sync() {
        error!(file = %log.path.display(), %error, "the end of the audit log may be lost");
    }
}

struct LogFile {
    path: PathBuf,
    limits: Limits,
    file: File,
    bytes: u64,
    unsynced: bool,
}

impl LogFile {
    fn open(path: PathBuf, limits: Limits) -> io::Result<LogFile> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = opened(&path)?;
        let bytes = file.metadata()?.len();
        Ok(LogFile {
            path,
            limits,
            file,
            bytes,
            unsynced: false,
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.limits.bytes_max {
            self.rotate()?;
        }
        // In one call, so that a line is whole or the last.
        self.file.write_all(line)?;
        self.bytes += length;
        self.unsynced = true;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.unsynced) {
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Puts the file aside, whole and for good, and begins another one.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let aside = self.free_name(SystemTime::now());
        fs::rename(&self.path, &aside)?;
        self.file = opened(&self.path)?;
        self.bytes = 0;
        self.unsynced = false;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()?;
        for old in outdated(self.aside(dir)?, self.limits, SystemTime::now()) {
            fs::remove_file(old)?;
        }
        Ok(())
    }

    /// What comes before and after the time in the name of a file that is full.
    fn name_parts(&self) -> (String, String) {
        let text =
            |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let stem = text(self.path.file_stem()).unwrap_or_default();
        let extension = text(self.path.extension()).map(|extension| format!(".{extension}"));
        (format!("{stem}-"), extension.unwrap_or_default())
    }

    fn free_name(&self, mut now: SystemTime) -> PathBuf {
        let (before, after) = self.name_parts();
        loop {
            let stamp = OffsetDateTime::from(now).format(STAMP).unwrap_or_default();
            let name = self.path.with_file_name(format!("{before}{stamp}{after}"));
            if !name.exists() {
                return name;
            }
            now += Duration::from_millis(1);
        }
    }

    /// The files that are full, with their times, newest first.
    fn aside(&self, dir: &Path) -> io::Result<Vec<(SystemTime, PathBuf)>> {
        let (before, after) = self.name_parts();
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let stamp = name
                .strip_prefix(&before)
                .and_then(|rest| rest.strip_suffix(&after));
            let time = stamp.and_then(|stamp| time::PrimitiveDateTime::parse(stamp, STAMP).ok());
            if let Some(time) = time {
                found.push((SystemTime::from(time.assume_utc()), path));
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        Ok(found)
    }
}

/// For its owner alone: it tells what everybody does.
fn opened(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true).mode(0o600).open(path)
}

/// Which of the files that are full, newest first, are not kept any longer.
fn outdated(files: Vec<(SystemTime, PathBuf)>, limits: Limits, now: SystemTime) -> Vec<PathBuf> {
    let too_old = |time: SystemTime| {
        let age = now.duration_since(time).unwrap_or_default();
        !limits.age_max.is_zero() && age > limits.age_max
    };
    let too_many = |at: usize| limits.files_kept > 0 && at >= limits.files_kept;
    let files = files.into_iter().enumerate();
    let gone = files.filter(|(at, (time, _))| too_many(*at) || too_old(*time));
    gone.map(|(_, (_, path))| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bytes_max: 20,
        files_kept: 2,
        age_max: Duration::ZERO,
    };

    fn names(dir: &Path) -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/audit.log");
        let log = AuditLog::open(&path, LIMITS).unwrap();
        for at in 0..10 {
            log.take(format!("event {at} ok\n").into_bytes());
        }
        log.close();
        assert_eq!(log.lost(), 0);
        let names = names(path.parent().unwrap());
        let text = |path: &PathBuf| fs::read_to_string(path).unwrap();
        // A file holds one line; two that are full are kept, beside the one that is written.
        let texts: Vec<String> = names.iter().map(text).collect();
        assert_eq!(texts, ["event 7 ok\n", "event 8 ok\n", "event 9 ok\n"]);
        assert_eq!(names[2], path);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // What comes after the end is counted, and another start goes on with the file.
        log.take(b"late\n".to_vec());
        assert_eq!(log.lost(), 1);
        let again = AuditLog::open(&path, LIMITS).unwrap();
        again.take(b"more\n".to_vec());
        again.close();
        assert_eq!(fs::read_to_string(&path).unwrap(), "event 9 ok\nmore\n");
    }

    #[test]
    fn files_are_kept_for_their_age() {
        let day = Duration::from_secs(86_400);
        let now = SystemTime::UNIX_EPOCH + 100 * day;
        let file = |days: u32| (now - days * day, PathBuf::from(days.to_string()));
        let limits = |files_kept, days: u32| Limits {
            files_kept,
            age_max: days * day,
            ..LIMITS
        };
        let files = || vec![file(1), file(2), file(30), file(40)];
        let gone = |limits: Limits| outdated(files(), limits, now);
        assert_eq!(gone(limits(0, 0)), [] as [PathBuf; 0]);
        assert_eq!(gone(limits(3, 0)), [PathBuf::from("40")]);
        assert_eq!(gone(limits(0, 10)), ["30", "40"].map(PathBuf::from));
        assert_eq!(gone(limits(1, 35)), ["2", "30", "40"].map(PathBuf::from));
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::open(&dir.path().join("audit.log"), LIMITS).unwrap();
        log.take(vec![b'x'; QUEUE_BYTES_MAX + 1]);
        assert_eq!(log.lost(), 1);
        log.take(b"a\n".to_vec());
        log.close();
        assert_eq!(log.lost(), 1);
    }
}
