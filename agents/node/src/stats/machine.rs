//! What the whole machine uses, from `/proc`.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Memory, Used};
use crate::runtime::Identity;

/// The kernel counts in these to all programs.
const NANOS_OF_A_TICK: u64 = 10_000_000;

/// None where `/proc` cannot be read.
pub(super) fn used(now: OffsetDateTime) -> Option<Used> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let stat = read("/proc/stat")?;
    Some(of_machine(
        now,
        cpu_nanos(&stat)?,
        memory(&read("/proc/meminfo")?)?,
        started_at(&stat)?,
    ))
}

/// Since when the machine runs.
pub(super) fn booted_at() -> Option<OffsetDateTime> {
    started_at(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// What a node uses, as if it were a container.
pub(super) fn of_machine(
    at: OffsetDateTime,
    cpu_nanos: u64,
    memory: Memory,
    started_at: OffsetDateTime,
) -> Used {
    let none = String::new;
    Used {
        id: none(),
        identity: Identity {
            pod_name: none(),
            pod_namespace: none(),
            pod_uid: none(),
            container: none(),
            attempt: 0,
        },
        started_at,
        at,
        cpu_nanos,
        memory,
        network: None,
        rate: None,
    }
}

/// All time that is neither idle nor waiting; that of guests is within that of their users.
fn cpu_nanos(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line
        .split_ascii_whitespace()
        .map_while(|tick| tick.parse().ok())
        .collect();
    let [
        user,
        nice,
        system,
        _idle,
        _waiting,
        irq,
        soft_irq,
        steal,
        ..,
    ] = ticks[..]
    else {
        return None;
    };
    let busy = [user, nice, system, irq, soft_irq, steal];
    let busy = busy.into_iter().fold(0, u64::saturating_add);
    Some(busy.saturating_mul(NANOS_OF_A_TICK))
}

fn started_at(stat: &str) -> Option<OffsetDateTime> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    let seconds: u64 = line.trim().parse().ok()?;
    OffsetDateTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds).try_into().ok()?)
}

fn memory(info: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = |line: &str| {
            let rest = line.strip_prefix(name)?.strip_prefix(':')?;
            let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
            kib.checked_mul(1024)
        };
        info.lines().find_map(line)
    };
    let usage = bytes("MemTotal")?.checked_sub(bytes("MemFree")?)?;
    Some(Memory {
        usage,
        working_set: usage.saturating_sub(bytes("Inactive(file)").unwrap_or(0)),
        rss: bytes("AnonPages").unwrap_or(0),
        ..Memory::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        let stat = "cpu  100 10 20 9999 50 3 2 1 7 0\ncpu0 1 2 3 4 5 6 7 8 9 0\nbtime 1767225600\n";
        assert_eq!(cpu_nanos(stat), Some(136 * NANOS_OF_A_TICK));
        assert_eq!(started_at(stat).unwrap().unix_timestamp(), 1_767_225_600);
        assert_eq!(cpu_nanos("cpu  1 2 3\n"), None);
        let info = "MemTotal:  100 kB\nMemFree:  40 kB\nInactive:  50 kB\nInactive(file):  10 kB\nAnonPages:  20 kB\n";
        let memory = memory(info).unwrap();
        assert_eq!(
            (memory.usage, memory.working_set, memory.rss),
            (60 << 10, 50 << 10, 20 << 10)
        );
    }

    #[test]
    fn this_machine_uses_something() {
        let used = used(OffsetDateTime::now_utc()).expect("Linux has /proc");
        assert!(used.cpu_nanos > 0 && used.memory.working_set > 0 && used.started_at < used.at);
    }
}
