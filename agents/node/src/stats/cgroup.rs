//! Where the kernel counts what a container uses, in cgroups of version 1 and 2.

use std::path::{Path, PathBuf};

use super::Memory;

const ROOT: &str = "/sys/fs/cgroup";
/// The controllers that count processor time, by the directories that they are mounted at.
const CPU_V1: &[&str] = &["cpuacct", "cpu,cpuacct", "cpuacct,cpu"];

/// The directories of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    V1 { cpu: PathBuf, memory: PathBuf },
    V2(PathBuf),
}

impl Place {
    /// From `/proc/<pid>/cgroup` of a process of the container; none where it cannot be told or cannot be read from here.
    pub(crate) fn of(pid: i64, container: &str) -> Option<Place> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let place = find(&text, container, &|path| path.is_dir())?;
        place.read().map(|_| place)
    }

    /// Processor time in nanoseconds, and memory.
    pub(crate) fn read(&self) -> Option<(u64, Memory)> {
        let text = |dir: &Path, file: &str| std::fs::read_to_string(dir.join(file)).ok();
        let number = |dir: &Path, file: &str| text(dir, file)?.trim().parse::<u64>().ok();
        match self {
            Place::V1 { cpu, memory } => {
                let usage = number(memory, "memory.usage_in_bytes")?;
                let memory = memory_v1(usage, &text(memory, "memory.stat")?);
                Some((number(cpu, "cpuacct.usage")?, memory))
            }
            Place::V2(dir) => {
                let cpu = field(&text(dir, "cpu.stat")?, "usage_usec")?;
                let usage = number(dir, "memory.current")?;
                let memory = memory_v2(usage, &text(dir, "memory.stat")?);
                Some((cpu.saturating_mul(1_000), memory))
            }
        }
    }
}

/// A line `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(line)
}

fn memory_v1(usage: u64, stat: &str) -> Memory {
    let of = |name: &str| field(stat, name).unwrap_or(0);
    Memory {
        usage,
        working_set: usage.saturating_sub(of("total_inactive_file")),
        rss: of("total_rss"),
        page_faults: of("total_pgfault"),
        major_page_faults: of("total_pgmajfault"),
    }
}

fn memory_v2(usage: u64, stat: &str) -> Memory {
    let of = |name: &str| field(stat, name).unwrap_or(0);
    Memory {
        usage,
        working_set: usage.saturating_sub(of("inactive_file")),
        rss: of("anon"),
        page_faults: of("pgfault"),
        major_page_faults: of("pgmajfault"),
    }
}

/// Memory as a runtime tells it that has read the same files.
pub(crate) fn memory_of(usage: u64, stat: impl Fn(&str) -> Option<u64>) -> Memory {
    let of = |v1: &str, v2: &str| stat(v1).or_else(|| stat(v2)).unwrap_or(0);
    Memory {
        usage,
        working_set: usage.saturating_sub(of("total_inactive_file", "inactive_file")),
        rss: of("total_rss", "anon"),
        page_faults: of("total_pgfault", "pgfault"),
        major_page_faults: of("total_pgmajfault", "pgmajfault"),
    }
}

fn find(text: &str, container: &str, is_there: &dyn Fn(&Path) -> bool) -> Option<Place> {
    // `hierarchy:controllers:path`, and `0::path` in version 2.
    let lines = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        Some((controllers, own_part(path, container)?))
    });
    let lines: Vec<(&str, &str)> = lines.collect();
    let of = |controller: &str| {
        let has = |(all, _): &&(&str, &str)| all.split(',').any(|one| one == controller);
        lines.iter().find(has).map(|(_, path)| *path)
    };
    let at = |mount: &str, path: &str| {
        let dir = Path::new(ROOT)
            .join(mount)
            .join(path.trim_start_matches('/'));
        is_there(&dir).then_some(dir)
    };
    if let (Some(cpu), Some(memory)) = (of("cpuacct"), of("memory")) {
        return Some(Place::V1 {
            cpu: CPU_V1.iter().find_map(|mount| at(mount, cpu))?,
            memory: at("memory", memory)?,
        });
    }
    at("", of("")?).map(Place::V2)
}

/// The path up to the container's own cgroup: it may have made more below. None where it leads out of what is seen here.
fn own_part<'a>(path: &'a str, container: &str) -> Option<&'a str> {
    if container.is_empty() || path.split('/').any(|part| part == "..") {
        return None;
    }
    let at = path.find(container)? + container.len();
    let rest = path[at..].find('/').map_or(path.len(), |slash| at + slash);
    Some(&path[..rest])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "f7e51d9dc90e8846ce38c0767c0fa73193ae3601f4b919e7db884b72015c8af3";

    #[test]
    fn containers_are_found_under_either_version_and_driver() {
        let there =
            |wanted: &'static str| move |path: &Path| path.to_string_lossy().contains(wanted);
        let v1 = format!("9:memory:/docker/{ID}\n4:cpu,cpuacct:/docker/{ID}\n0::/\n");
        let place = find(&v1, ID, &there("/sys/fs/cgroup/")).unwrap();
        let expected = Place::V1 {
            cpu: format!("{ROOT}/cpuacct/docker/{ID}").into(),
            memory: format!("{ROOT}/memory/docker/{ID}").into(),
        };
        assert_eq!(place, expected);
        let joint = find(&v1, ID, &|path: &Path| {
            !path.starts_with("/sys/fs/cgroup/cpuacct/")
        });
        let Some(Place::V1 { cpu, .. }) = joint else {
            panic!()
        };
        assert_eq!(cpu, Path::new(&format!("{ROOT}/cpu,cpuacct/docker/{ID}")));
        let systemd = format!("0::/system.slice/docker-{ID}.scope/init.scope\n");
        assert_eq!(
            find(&systemd, ID, &there("docker")),
            Some(Place::V2(
                format!("{ROOT}/system.slice/docker-{ID}.scope").into()
            ))
        );
    }

    #[test]
    fn what_is_not_seen_from_here_is_not_read() {
        let anywhere = |_: &Path| true;
        for text in [
            format!("0::/../{ID}\n"),
            "0::/\n".to_owned(),
            format!("4:cpuacct:/docker/{ID}\n"),
            "nonsense".to_owned(),
            String::new(),
        ] {
            assert_eq!(find(&text, ID, &anywhere), None, "{text}");
        }
        assert_eq!(
            find(&format!("0::/docker/{ID}\n"), ID, &|_: &Path| false),
            None
        );
        assert_eq!(find("0::/a\n", "", &anywhere), None);
    }

    #[test]
    fn files_of_the_kernel_are_read() {
        let v1 = "cache 5\ntotal_rss 7\ntotal_inactive_file 30\ntotal_pgfault 2\ntotal_pgmajfault 1\ninactive_file 99\n";
        let memory = memory_v1(100, v1);
        assert_eq!(
            (
                memory.working_set,
                memory.rss,
                memory.page_faults,
                memory.major_page_faults
            ),
            (70, 7, 2, 1)
        );
        let memory = memory_v2(20, "anon 7\ninactive_file 30\npgfault 2\npgmajfault 1\n");
        assert_eq!((memory.working_set, memory.rss), (0, 7));
        assert_eq!(
            field("usage_usec_x 1\nusage_usec 25\n", "usage_usec"),
            Some(25)
        );
        assert_eq!(field("usage_usec -1\n", "usage_usec"), None);
    }
}
