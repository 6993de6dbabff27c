//! What the machine is and has.

use std::path::Path;

use serde_json::{Value, json};

use crate::eviction::Threshold;
use crate::{EvictionHard, NodeConfig, RuntimeKind};

/// What the machine has; read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) cpu_count: i64,
    pub(crate) memory_bytes: i64,
    pub(super) disk_bytes: i64,
    pub(super) pods: u32,
    /// Of memory and disk as much as this is kept from pods.
    pub(super) eviction_hard: EvictionHard,
}

impl Capacity {
    pub(crate) fn of(config: &NodeConfig) -> Capacity {
        match &config.runtime {
            RuntimeKind::Hollow(hollow) => Capacity {
                cpu_count: i64::from(hollow.cpu_count),
                memory_bytes: i64::try_from(hollow.memory_bytes).unwrap_or(i64::MAX),
                disk_bytes: 1 << 40,
                pods: config.max_pods,
                eviction_hard: config.eviction_hard,
            },
            RuntimeKind::Docker | RuntimeKind::DockerAt(_) => Capacity {
                cpu_count: std::thread::available_parallelism()
                    .map_or(1, |n| i64::try_from(n.get()).unwrap_or(1)),
                memory_bytes: memory("MemTotal").unwrap_or(0),
                disk_bytes: Space::of(&config.data_dir)
                    .and_then(|space| i64::try_from(space.bytes).ok())
                    .unwrap_or(0),
                pods: config.max_pods,
                eviction_hard: config.eviction_hard,
            },
        }
    }

    pub(crate) fn allocatable_memory_bytes(&self) -> i64 {
        let kept = self.eviction_hard.memory_available.of(self.memory_bytes);
        (self.memory_bytes - kept).max(0)
    }

    pub(super) fn quantities(&self, allocatable: bool) -> Value {
        let memory = if allocatable {
            self.allocatable_memory_bytes()
        } else {
            self.memory_bytes
        };
        let disk = if allocatable {
            let kept = self.eviction_hard.nodefs_available.of(self.disk_bytes);
            (self.disk_bytes - kept).max(0).to_string()
        } else {
            format!("{}Ki", self.disk_bytes / 1024)
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

    pub(super) fn is_short(&self, limits: &EvictionHard) -> bool {
        let short = |free: u64, all: u64, limit: Threshold| {
            let all = i64::try_from(all).unwrap_or(i64::MAX);
            all > 0 && i64::try_from(free).unwrap_or(i64::MAX) < limit.of(all)
        };
        short(self.bytes_free, self.bytes, limits.nodefs_available)
            || short(self.inodes_free, self.inodes, limits.nodefs_inodes_free)
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

/// Where a kubelet looks for the ids of a machine and of its board, in this order. Of the latter the first is root's to read.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
const BOARD_IDS: [&str; 4] = [
    "/sys/class/dmi/id/product_uuid",
    "/proc/device-tree/system-id",
    "/proc/device-tree/vm,uuid",
    "/etc/machine-id",
];

impl Machine {
    /// Of a node that has no machine: ids that follow from its name.
    pub(crate) fn pretended(name: &str) -> Machine {
        let simulated = || "simulated".to_owned();
        Machine {
            kernel_version: simulated(),
            os_image: simulated(),
            ..Machine::default()
        }
        .identified(name)
    }

    /// Of the machine that a node runs on; one that only pretends to be a machine has ids of its own.
    pub(super) fn of(config: &NodeConfig) -> Machine {
        let machine = Machine::read();
        let ours = match config.runtime {
            RuntimeKind::Hollow(_) => Machine {
                kernel_version: machine.kernel_version,
                os_image: machine.os_image,
                ..Machine::default()
            },
            RuntimeKind::Docker | RuntimeKind::DockerAt(_) => machine,
        };
        ours.identified(&config.node_name)
    }

    /// Gives it those of the ids that it lacks, in the forms in which machines have them: they follow from the node's name, and
    /// so stay the same. Who tells nodes apart by them finds none that is empty.
    fn identified(mut self, name: &str) -> Machine {
        use sha2::{Digest, Sha256};
        let digest = |what: &str| -> [u8; 32] { Sha256::digest(format!("{what}\0{name}")).into() };
        if self.machine_id.is_empty() {
            let digest = digest("machine");
            self.machine_id = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
        }
        let uuid = |what: &str| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&digest(what)[..16]);
            uuid::Builder::from_custom_bytes(bytes)
                .into_uuid()
                .to_string()
        };
        if self.system_uuid.is_empty() {
            self.system_uuid = uuid("system");
        }
        if self.boot_id.is_empty() {
            self.boot_id = uuid("boot");
        }
        self
    }

    fn read() -> Machine {
        // Texts of the device tree end with a zero.
        let text = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.trim_matches(|c: char| c == '\0' || c.is_whitespace())
                .to_owned()
        };
        let first = |paths: &[&str]| {
            let mut found = paths.iter().map(|path| text(path));
            found.find(|id| !id.is_empty()).unwrap_or_default()
        };
        let release = text("/etc/os-release");
        let pretty = release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Machine {
            machine_id: first(&MACHINE_IDS),
            system_uuid: first(&BOARD_IDS),
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
        let usual = EvictionHard::default();
        let roomy = Space {
            bytes: 1000,
            bytes_free: 50,
            inodes: 1000,
            inodes_free: 50,
        };
        assert!(!roomy.is_short(&usual));
        assert!(
            Space {
                bytes_free: 49,
                ..roomy
            }
            .is_short(&usual)
        );
        assert!(
            Space {
                inodes_free: 49,
                ..roomy
            }
            .is_short(&usual)
        );
        let dynamic = Space {
            inodes: 0,
            inodes_free: 0,
            ..roomy
        };
        assert!(!dynamic.is_short(&usual));
        let absolute: EvictionHard = "nodefs.available<51".parse().unwrap();
        assert!(roomy.is_short(&absolute));
        let full = Space {
            bytes_free: 0,
            inodes_free: 0,
            ..roomy
        };
        assert!(full.is_short(&usual) && !full.is_short(&EvictionHard::OFF));
        let here = Space::of(Path::new("/")).unwrap();
        assert!(here.bytes > 0 && here.bytes_free <= here.bytes);
    }

    #[test]
    fn ids_are_there_stay_and_differ_from_node_to_node() {
        let ids = |machine: &Machine| {
            let all = [&machine.machine_id, &machine.system_uuid, &machine.boot_id];
            all.map(String::clone)
        };
        let one = Machine::pretended("n1");
        assert_eq!(one, Machine::pretended("n1"));
        assert_eq!(one.machine_id.len(), 32);
        for (id, other) in ids(&one).iter().zip(ids(&Machine::pretended("n2"))) {
            assert_ne!(*id, other);
        }
        let uuid = uuid::Uuid::parse_str(&one.system_uuid).unwrap();
        assert_eq!(uuid.to_string(), one.system_uuid);
        assert_ne!(one.system_uuid, one.boot_id);
        // What the machine says itself stays.
        let known = Machine {
            boot_id: "b".to_owned(),
            ..Machine::default()
        };
        assert_eq!(known.identified("n1").boot_id, "b");
        assert!(
            ids(&Machine::read().identified("n1"))
                .iter()
                .all(|id| !id.is_empty())
        );
    }
}
