//! What processes have used, as Linux counts it, and the calls that strace counts.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Of `/proc/PID/stat`, on every architecture that etcd runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// Resets the peak of resident memory, by proc_pid_clear_refs(5).
const RESET_PEAK: &str = "5";

/// Sums over processes. Both only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// In user and in kernel mode, all threads.
    pub(crate) cpu_seconds: f64,
    /// Sent to the block layer; what is rewritten in the page cache in the meantime counts once.
    pub(crate) written_bytes: u64,
}

impl Usage {
    pub(crate) fn of(pids: &[u32]) -> Result<Usage> {
        let mut sum = Usage::default();
        for pid in pids {
            let stat = read(*pid, "stat")?;
            let io = read(*pid, "io")?;
            sum.cpu_seconds += cpu_seconds(&stat).context("/proc/PID/stat is not understood")?;
            sum.written_bytes += number(&io, "write_bytes:").context("no write_bytes")?;
        }
        Ok(sum)
    }

    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds - before.cpu_seconds,
            written_bytes: self.written_bytes - before.written_bytes,
        }
    }
}

/// Resident memory of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Memory {
    pub(crate) resident_bytes: u64,
    /// Without the pages of files, which the kernel can take back.
    pub(crate) anonymous_bytes: u64,
    /// Highest resident memory since [`reset_peak`].
    pub(crate) peak_bytes: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Result<Memory> {
        memory(&read(pid, "status")?).context("/proc/PID/status is not understood")
    }
}

/// Resident bytes of one process, of which pages that several have count for each of them by their part: the sum over
/// processes is what the machine has given them.
pub(crate) fn proportional_bytes(pid: u32) -> Result<u64> {
    let rollup = read(pid, "smaps_rollup")?;
    let kib = number(&rollup, "Pss:").context("/proc/PID/smaps_rollup is not understood")?;
    Ok(kib * 1024)
}

pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), RESET_PEAK).context("resetting the peak of memory")
}

/// Files that a process has open so that each write is on disk when it returns: they need no fdatasync.
pub(crate) fn synchronous_files(pid: u32) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // One may have been closed since.
        let info = fs::read_to_string(entry?.path()).unwrap_or_default();
        count += usize::from(is_synchronous(&info));
    }
    Ok(count)
}

/// Whether a tracer is attached to all threads.
pub(crate) fn is_traced(pid: u32) -> Result<bool> {
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may have ended since.
        let Ok(status) = fs::read_to_string(entry?.path().join("status")) else {
            continue;
        };
        if number(&status, "TracerPid:") == Some(0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Blocks that a directory has on disk, in bytes, reserved ones included.
pub(crate) fn disk_bytes(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        // A file may be gone since: both systems delete in the background.
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sum += disk_bytes(&entry.path())?,
            Ok(metadata) => sum += metadata.blocks() * 512,
            Err(_) => {}
        }
    }
    Ok(sum)
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has the server died?"))
}

/// Fields 14 and 15; the name before them may contain blanks and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn memory(status: &str) -> Option<Memory> {
    Some(Memory {
        resident_bytes: number(status, "VmRSS:")? * 1024,
        anonymous_bytes: number(status, "RssAnon:")? * 1024,
        peak_bytes: number(status, "VmHWM:")? * 1024,
    })
}

/// The number after a name at the beginning of a line.
fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `O_DSYNC` is one bit of `O_SYNC`, so that it is set in both.
fn is_synchronous(fdinfo: &str) -> bool {
    const O_DSYNC: u64 = 0o10000;
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & O_DSYNC != 0)
}

/// Calls by name in what `strace -c` prints.
pub(crate) fn counted_calls(table: &str) -> Vec<(String, u64)> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (name, calls) = (fields.last()?, fields.get(3)?);
        (fields[0].parse::<f64>().is_ok() && *name != "total")
            .then(|| Some((name.to_string(), calls.parse().ok()?)))?
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_after_any_name() {
        let rest = "S 1 2 3 0 -1 4194304 100 0 0 0 250 50 7 7 20 0 1 0";
        assert_eq!(cpu_seconds(&format!("42 (etcd) {rest}")), Some(3.0));
        assert_eq!(cpu_seconds(&format!("42 (a) b (c)) {rest}")), Some(3.0));
        assert_eq!(cpu_seconds("42 (etcd) S 1"), None);
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tetcd\nVmHWM:\t   30 kB\nVmRSS:\t   20 kB\nRssAnon:\t   10 kB\n";
        let expected = Memory {
            resident_bytes: 20 * 1024,
            anonymous_bytes: 10 * 1024,
            peak_bytes: 30 * 1024,
        };
        assert_eq!(memory(status), Some(expected));
        assert_eq!(memory("VmRSS:\t 20 kB\n"), None);
    }

    #[test]
    fn written_bytes_are_not_the_cancelled_ones() {
        let io = "wchar: 9\nread_bytes: 8\nwrite_bytes: 7\ncancelled_write_bytes: 6\n";
        assert_eq!(number(io, "write_bytes:"), Some(7));
    }

    #[test]
    fn what_is_used_is_a_difference() {
        let at = |cpu_seconds, written_bytes| Usage {
            cpu_seconds,
            written_bytes,
        };
        assert_eq!(at(5.0, 70).since(at(2.0, 30)), at(3.0, 40));
    }

    #[test]
    fn this_process_can_be_read() {
        let me = std::process::id();
        Usage::of(&[me, me]).unwrap();
        reset_peak(me).unwrap();
        let memory = Memory::of(me).unwrap();
        assert!(memory.peak_bytes > 0 && memory.anonymous_bytes <= memory.peak_bytes);
        assert!(Usage::of(&[u32::MAX]).is_err());
        is_traced(me).unwrap();
        synchronous_files(me).unwrap();
    }

    #[test]
    fn files_of_synchronous_writes_are_known_by_their_flags() {
        assert!(is_synchronous("pos:\t0\nflags:\t0110002\nmnt_id:\t1\n"));
        assert!(is_synchronous("flags:\t04110001\n"));
        assert!(!is_synchronous("flags:\t0100002\n"));
        assert!(!is_synchronous(""));
    }

    #[test]
    fn the_table_of_strace_is_read() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n \
                     96.10    1.500000         500      3000           fdatasync\n  \
                     3.90    0.060000         600       100         2 fsync\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    1.560000         503      3100         2 total\n";
        assert_eq!(
            counted_calls(table),
            [("fdatasync".to_string(), 3000), ("fsync".to_string(), 100)]
        );
        assert_eq!(counted_calls(""), []);
    }

    #[test]
    fn a_directory_has_the_blocks_of_all_below_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("inner")).unwrap();
        fs::write(dir.path().join("inner/file"), vec![1; 100_000]).unwrap();
        // Some file systems give blocks only when they write.
        fs::File::open(dir.path().join("inner/file"))
            .unwrap()
            .sync_all()
            .unwrap();
        assert!(disk_bytes(dir.path()).unwrap() >= 100_000);
    }
}
