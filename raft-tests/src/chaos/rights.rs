//! What a run needs of the machine it is on.

use super::plan::Kind;
use super::{program, quota};

/// Programs that every run needs, and Debian's packages of them.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("kill", "procps"),
    ("setpriv", "util-linux"),
];
/// CAP_SYS_ADMIN, for namespaces and mounts, and CAP_NET_ADMIN, by their bits.
const CAPABILITIES: &[(u32, &str)] = &[(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// What every run needs and this machine, or this user, lacks.
pub fn lacking() -> Vec<String> {
    let mut lacking = Vec::new();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = capabilities(&status);
    for (bit, name) in CAPABILITIES {
        if capabilities & (1 << bit) == 0 {
            lacking.push(format!("{name} (run as root)"));
        }
    }
    lacking.extend(missing(PROGRAMS));
    lacking
}

/// What a kind of fault needs beyond that.
pub fn lacking_for(kind: Kind) -> Vec<String> {
    let mut lacking = missing(match kind {
        Kind::Power => &[
            ("mkfs.ext4", "e2fsprogs"),
            ("mount", "mount"),
            ("python3", "python3"),
        ],
        Kind::DiskFull => &[
            ("mkfs.ext4", "e2fsprogs"),
            ("mount", "mount"),
            ("fallocate", "util-linux"),
        ],
        Kind::DiskError | Kind::SlowDisk => &[("strace", "strace")],
        Kind::Reorder | Kind::Duplicate => &[("python3", "python3")],
        Kind::Bandwidth => &[("tc", "iproute2")],
        Kind::Clock => &[("cc", "gcc")],
        _ => &[],
    });
    if kind == Kind::Slow && quota::parent().is_none() {
        lacking.push("control groups for processors".into());
    }
    lacking
}

fn missing(programs: &[(&str, &str)]) -> Vec<String> {
    let missing = programs
        .iter()
        .filter(|(program, _)| !program::have(program));
    missing
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect()
}

/// The effective ones, of `/proc/self/status`.
fn capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read() {
        let status = "Name:\tx\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n";
        assert_eq!(capabilities(status), 0x1ff_ffff_ffff);
        assert_eq!(capabilities("CapEff:\t0000000000000000\n"), 0);
        assert_eq!(capabilities(""), 0);
    }

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let missing = missing(&[("sh", "dash"), ("no-such-program", "some-package")]);
        assert_eq!(missing, ["no-such-program (package some-package)"]);
    }
}
