//! What the machine is and has.

use std::path::Path;

use serde_json::{Value, json};

use crate::{NodeConfig, RuntimeKind};

/// Memory kept for the system and the agent itself.
const RESERVED_MEMORY_BYTES: i64 = 100 << 20;
const DISK_AVAILABLE_PERCENT_MIN: u64 = 5;
const INODES_FREE_PERCENT_MIN: u64 = 5;
const RESERVED_DISK_PERCENT: i64 = 10;

/// What the machine has; read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) cpu_count: i64,
    pub(crate) memory_bytes: i64,
    pub(super) disk_bytes: i64,
    pub(super) pods: u32,
}

impl Capacity {
    pub(crate) fn of(config: &NodeConfig) -> Capacity {
        match &config.runtime {
            RuntimeKind::Hollow(hollow) => Capacity {
                cpu_count: i64::from(hollow.cpu_count),
                memory_bytes: i64::try_from(hollow.memory_bytes).unwrap_or(i64::MAX),
                disk_bytes: 1 << 40,
                pods: config.max_pods,
            },
            RuntimeKind::Docker | RuntimeKind::DockerAt(_) => Capacity {
                cpu_count: std::thread::available_parallelism()
                    .map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
                memory_bytes: memory("MemTotal").unwrap_or(0),
                disk_bytes: Space::of(&config.data_dir)
                    .and_then(|space| i64::try_from(space.bytes).ok())
                    .unwrap_or(0),
                pods: config.max_pods,
            },
        }
    }

    pub(crate) fn allocatable_memory_bytes(&self) -> i64 {
        (self.memory_bytes - RESERVED_MEMORY_BYTES).max(0)
    }

    pub(super) fn quantities(&self, allocatable: bool) -> Value {
        let memory = if allocatable {
            self.allocatable_memory_bytes()
        } else {
            self.memory_bytes
        };
        let kept = if allocatable {
            self.disk_bytes / 100 * RESERVED_DISK_PERCENT
        } else {
            0
        };
        let disk = match allocatable {
            true => (self.disk_bytes - kept).to_string(),
            false => format!("{}Ki", self.disk_bytes / 1024),
        };
        json!({
            "cpu": self.cpu_count.to_string(),
            "memory": format!("{}Ki", memory / 1024),
            "ephemeral-storage": disk,
            "hugepages-1Gi": "0",
            "hugepages-2Mi": "0",
            "pods": self.pods.to_string(),
        })
    }
}

/// A line of `/proc/meminfo`, in bytes.
pub(super) fn memory(field: &str) -> Option<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<i64>()
        .ok()?
        .checked_mul(1024)
}

/// A file system: its size and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    bytes: u64,
    bytes_free: u64,
    /// Zero where the file system makes them as it needs them.
    inodes: u64,
    inodes_free: u64,
}

impl Space {
    pub(super) fn of(dir: &Path) -> Option<Space> {
        let found = rustix::fs::statvfs(dir).ok()?;
        Some(Space {
            bytes: found.f_blocks.checked_mul(found.f_frsize)?,
            bytes_free: found.f_bavail.checked_mul(found.f_frsize)?,
            inodes: found.f_files,
            inodes_free: found.f_favail,
        })
    }

    pub(super) fn is_short(&self) -> bool {
        let short = |free: u64, all: u64, percent: u64| free < all / 100 * percent;
        short(self.bytes_free, self.bytes, DISK_AVAILABLE_PERCENT_MIN)
            || short(self.inodes_free, self.inodes, INODES_FREE_PERCENT_MIN)
    }
}

/// What does not change while the machine runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Machine {
    pub(super) machine_id: String,
    pub(super) system_uuid: String,
    pub(super) boot_id: String,
    pub(super) kernel_version: String,
    pub(super) os_image: String,
}

impl Machine {
    /// Of a node that has no machine: ids that follow from its name.
    pub(crate) fn pretended(name: &str) -> Machine {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(name.as_bytes());
        let id: String = digest[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Machine {
            system_uuid: id.clone(),
            boot_id: id.clone(),
            machine_id: id,
            ..Machine::default()
        }
    }

    pub(super) fn read() -> Machine {
        let text = |path: &str| {
            std::fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let release = text("/etc/os-release");
        let pretty = release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Machine {
            machine_id: text("/etc/machine-id"),
            system_uuid: text("/sys/class/dmi/id/product_uuid"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel_version: text("/proc/sys/kernel/osrelease"),
            os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_short_of_bytes_or_of_inodes() {
        let roomy = Space {
            bytes: 1000,
            bytes_free: 50,
            inodes: 1000,
            inodes_free: 50,
        };
        assert!(!roomy.is_short());
        assert!(
            Space {
                bytes_free: 49,
                ..roomy
            }
            .is_short()
        );
        assert!(
            Space {
                inodes_free: 49,
                ..roomy
            }
            .is_short()
        );
        let dynamic = Space {
            inodes: 0,
            inodes_free: 0,
            ..roomy
        };
        assert!(!dynamic.is_short());
        let here = Space::of(Path::new("/")).unwrap();
        assert!(here.bytes > 0 && here.bytes_free <= here.bytes);
    }
}
