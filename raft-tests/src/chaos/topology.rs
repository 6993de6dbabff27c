//! The machines: a network namespace for each member, and one for the bridge between them. Nothing of it is in the
//! namespace of the host, where a packet filter of Docker or a firewall would drop what members say to each other.
//!
//! Names carry [`MARK`] and the process id of the run, so that a later run finds what one that was killed has left.

use super::space::Space;
use super::{program, quota};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How all names begin that a run gives to anything outside its own folder.
pub const MARK: &str = "kontiki-chaos-";

/// The commands of this program that make one.
const COMMANDS: &[&str] = &["chaos", "chaos-ui", "measure"];

/// See the module head.
pub struct Topology {
    names: Vec<String>,
    bridge: Arc<Space>,
    spaces: Vec<Arc<Space>>,
}

impl Topology {
    /// Makes it for so many members. What was made is taken down again where the rest fails.
    pub fn build(count: usize) -> Result<Topology> {
        let bridge = own_name("bridge");
        let mut topology = Topology {
            bridge: entered(&bridge)?,
            names: vec![bridge.clone()],
            spaces: Vec::new(),
        };
        let ip = |line: &str| program::run("ip", &line.split(' ').collect::<Vec<_>>());
        ip(&format!("-n {bridge} link add br0 type bridge"))?;
        ip(&format!("-n {bridge} link set br0 up"))?;
        for index in 0..count {
            let name = own_name(&member_name(index));
            topology.names.push(name.clone());
            let space = entered(&name)?;
            let (address, port) = (address(index), port(index));
            ip(&format!(
                "-n {bridge} link add {port} type veth peer name eth0 netns {name}"
            ))?;
            ip(&format!("-n {bridge} link set {port} master br0 up"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} address add {address}/24 dev eth0"))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            topology.spaces.push(space);
        }
        Ok(topology)
    }

    /// Where the bridge is.
    pub fn bridge(&self) -> &Arc<Space> {
        &self.bridge
    }

    /// Of the members.
    pub fn spaces(&self) -> &[Arc<Space>] {
        &self.spaces
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        self.spaces.clear();
        for name in &self.names {
            remove_namespace(name);
        }
    }
}

/// Of a namespace of this run.
fn own_name(part: &str) -> String {
    format!("{MARK}{}-{part}", std::process::id())
}

/// A new namespace.
fn entered(name: &str) -> Result<Arc<Space>> {
    program::run("ip", &["netns", "add", name])?;
    match Space::enter(name) {
        Ok(space) => Ok(Arc::new(space)),
        Err(error) => {
            remove_namespace(name);
            Err(error)
        }
    }
}

/// A machine of its own that is on no network.
pub struct Hermit {
    name: String,
    pub space: Arc<Space>,
}

impl Hermit {
    /// With the address of a member that there is not.
    pub fn make(index: usize) -> Result<Hermit> {
        let name = own_name(&member_name(index));
        let space = entered(&name)?;
        let hermit = Hermit { name, space };
        let ip = |line: &str| program::run("ip", &line.split(' ').collect::<Vec<_>>());
        ip(&format!("-n {} link set lo up", hermit.name))?;
        let address = address(index);
        ip(&format!(
            "-n {} address add {address}/32 dev lo",
            hermit.name
        ))?;
        Ok(hermit)
    }
}

impl Drop for Hermit {
    fn drop(&mut self) {
        remove_namespace(&self.name);
    }
}

/// Members are called a, b, c and so on.
pub fn member_name(index: usize) -> String {
    let letter = u8::try_from(index).map_or('?', |index| char::from(b'a' + index));
    letter.to_string()
}

/// Of a member on the bridge.
pub fn address(index: usize) -> String {
    format!("10.77.0.{}", index + 1)
}

/// What leads from the bridge to a member.
pub fn port(index: usize) -> String {
    format!("p{index}")
}

/// With all processes in it.
fn remove_namespace(name: &str) {
    let inside = program::run("ip", &["netns", "pids", name]).unwrap_or_default();
    for pid in inside.split_whitespace() {
        // Threads of this very process enter namespaces, and leave them by themselves.
        if pid != std::process::id().to_string() {
            let _ = program::run("kill", &["-9", pid]);
        }
    }
    if let Err(error) = program::run("ip", &["netns", "delete", name]) {
        eprintln!("the namespace {name} is left: {error:#}");
    }
}

/// The folder of a run for what is large and short-lived: disks, certificates, the members' data.
pub fn work_folder() -> PathBuf {
    std::env::temp_dir().join(format!("{MARK}{}", std::process::id()))
}

/// Takes away what runs have left that were killed. Says what.
pub fn remove_remains() -> Vec<String> {
    let mut removed = Vec::new();
    let in_folder = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| is_of_dead_run(name)).collect()
    };
    for name in in_folder(Path::new("/run/netns")) {
        remove_namespace(&name);
        removed.push(format!("namespace {name}"));
    }
    if let Some(groups) = quota::parent() {
        for name in in_folder(&groups) {
            if std::fs::remove_dir(groups.join(&name)).is_ok() {
                removed.push(format!("control group {name}"));
            }
        }
    }
    let temporary = std::env::temp_dir();
    for name in in_folder(&temporary) {
        let folder = temporary.join(&name);
        match remove_folder(&folder) {
            Ok(()) => removed.push(format!("folder {}", folder.display())),
            Err(error) => eprintln!("{} is left: {error:#}", folder.display()),
        }
    }
    removed
}

/// A folder with all that is mounted below it.
pub fn remove_folder(folder: &Path) -> Result<()> {
    for point in mounts_below(folder, &std::fs::read_to_string("/proc/self/mounts")?) {
        if program::run("umount", &[&point]).is_err() {
            program::run("umount", &["--lazy", &point])?;
        }
    }
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// Mount points below a folder, innermost first.
fn mounts_below(folder: &Path, mounts: &str) -> Vec<String> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let below = points.filter(|point| Path::new(point).starts_with(folder));
    let mut below: Vec<String> = below.map(String::from).collect();
    below.reverse();
    below
}

fn is_of_dead_run(name: &str) -> bool {
    owner(name).is_some_and(|pid| !is_run(pid))
}

/// The process id in a name that a run has given.
fn owner(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(MARK)?;
    rest.split('-').next()?.parse().ok()
}

/// Whether this process is a run; its number may have gone to another program.
fn is_run(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    is_command_of_run(&line)
}

fn is_command_of_run(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let command = words.next().unwrap_or_default();
    program.ends_with(b"raft-tests") && COMMANDS.iter().any(|it| it.as_bytes() == command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_left_is_told_from_what_a_living_one_needs() {
        assert_eq!(owner("kontiki-chaos-123-bridge"), Some(123));
        assert_eq!(owner("kontiki-chaos-123"), Some(123));
        assert_eq!(owner("kontiki-chaos-x"), None);
        assert_eq!(owner("other-123"), None);
        assert!(is_command_of_run(b"/x/raft-tests\0chaos\0--seed\x001\0"));
        assert!(is_command_of_run(b"/x/raft-tests\0chaos-ui\0"));
        assert!(is_command_of_run(b"/x/raft-tests\0measure\0kills\0"));
        assert!(!is_command_of_run(b"/x/raft-tests\0crash\0"));
        assert!(!is_command_of_run(b"/bin/vi\0chaos\0"));
        // Never the number of a process of Linux: above its largest.
        assert!(is_of_dead_run("kontiki-chaos-99999999-a"));
        assert!(!is_of_dead_run("some-99999999-a"));
    }

    #[test]
    fn mounts_are_taken_down_from_the_inside() {
        let mounts = "/dev/root / ext4 rw 0 0\n/dev/loop0 /tmp/x/a ext4 rw 0 0\n\
                      /dev/loop1 /tmp/x/a/b ext4 rw 0 0\n/dev/loop2 /tmp/xy ext4 rw 0 0\n";
        let points = mounts_below(Path::new("/tmp/x"), mounts);
        assert_eq!(points, ["/tmp/x/a/b", "/tmp/x/a"]);
    }
}
