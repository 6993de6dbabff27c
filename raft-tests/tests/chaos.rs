//! Short runs on real processes and networks. They need root, and the binary that they start, which a test of the whole
//! workspace builds.

use raft_tests::chaos::bandwidth::Narrow;
use raft_tests::chaos::disk::Disk;
use raft_tests::chaos::links::{Cut, Links, Pick, Rule, Treatment, links, ruleset};
use raft_tests::chaos::members::find_kontiki;
use raft_tests::chaos::plan::Kind;
use raft_tests::chaos::road::{Manner, Road};
use raft_tests::chaos::topology::{Topology, address};
use raft_tests::chaos::{program, rights, topology};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// On a machine that does much else at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this user on this machine can do it. Where all tests have to run, as for root in `make test`, it has to be.
fn able(kinds: &[Kind]) -> bool {
    let mut lacking = rights::lacking();
    lacking.extend(kinds.iter().flat_map(|kind| rights::lacking_for(*kind)));
    if lacking.is_empty() {
        return true;
    }
    let lacking = lacking.join(", ");
    let must = std::env::var("KONTIKI_CHAOS_TESTS").is_ok_and(|wish| wish == "run");
    assert!(
        !must,
        "lacking {lacking}; KONTIKI_CHAOS_TESTS=skip leaves such tests out"
    );
    eprintln!("SKIPPED: lacking {lacking}");
    false
}

/// The binary under test, where this machine can do it.
fn kontiki() -> Option<PathBuf> {
    if !able(&[]) {
        return None;
    }
    let beside = Path::new(env!("CARGO_BIN_EXE_raft-tests")).with_file_name("kontiki");
    Some(find_kontiki(Some(&beside)).expect("`cargo build -p kontiki` makes it"))
}

fn chaos(kontiki: &Path, folder: &Path, minutes: &str, nemesis: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raft-tests"));
    command
        .args(["chaos", "--minutes", minutes, "--patience", "10"])
        .args(["--nemesis", nemesis])
        .args(["--kontiki".as_ref(), kontiki.as_os_str()])
        .args(["--folder".as_ref(), folder.as_os_str()]);
    command
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_until("the run ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

fn say(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// What a run has put on this machine, outside the folder it was given.
fn things_of(pid: u32) -> Vec<String> {
    let mark = format!("{}{pid}", topology::MARK);
    let mut things = Vec::new();
    for folder in [Path::new("/run/netns"), &std::env::temp_dir()] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        things.extend(names.filter(|name| name.starts_with(&mark)));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    things.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&mark))
            .map(String::from),
    );
    things
}

/// A run of which all members run.
fn under_way(kontiki: &Path, folder: &Path) -> Child {
    // With disks of their own, where it can be, so that there are mounts to be taken down.
    let nemesis = match rights::lacking_for(Kind::Power).as_slice() {
        [] => "partition,kill,power",
        _ => "partition,kill",
    };
    let mut command = chaos(kontiki, folder, "5", nemesis);
    command.stdout(Stdio::null()).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    let log =
        |name: &str| std::fs::read_to_string(folder.join("logs").join(name)).unwrap_or_default();
    wait_until("the members run", || {
        assert_eq!(child.try_wait().unwrap(), None, "it has ended");
        ["a.log", "b.log", "c.log"]
            .iter()
            .all(|name| log(name).contains("member started"))
    });
    assert!(things_of(child.id()).len() >= 5);
    child
}

#[test]
fn a_cluster_and_its_nodes_outlive_a_partition_a_kill_and_a_pause() {
    let Some(kontiki) = kontiki() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut output = chaos(&kontiki, folder.path(), "0.35", "partition,kill,pause,node");
    let output = output.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{said}\n{complaint}",
        output.status
    );
    assert!(said.contains("nothing is wrong"), "{said}");
    let recording = std::fs::read(folder.path().join("recording.json")).unwrap();
    let recording: raft_tests::recording::Recording = serde_json::from_slice(&recording).unwrap();
    // That some ran is demanded by the run itself.
    assert!(said.contains(" pods ran"), "{said}");
    for kind in ["partition", "kill", "pause", "node"] {
        assert!(
            recording.faults.iter().any(|fault| fault.kind == kind),
            "{kind}"
        );
    }
    assert_eq!(recording.dumps.len(), 3);
    assert!(recording.dumps.iter().all(|dump| !dump.pairs.is_empty()));
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing_behind() {
    let Some(kontiki) = kontiki() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut child = under_way(&kontiki, folder.path());
    say(child.id(), "-INT");
    assert_eq!(ended(&mut child).code(), Some(2));
    let none: [&str; 0] = [];
    assert_eq!(things_of(child.id()), none);
}

#[test]
fn what_a_killed_run_leaves_is_taken_away_by_the_next_one() {
    let Some(kontiki) = kontiki() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut child = under_way(&kontiki, folder.path());
    say(child.id(), "-KILL");
    ended(&mut child);
    assert!(!things_of(child.id()).is_empty());
    topology::remove_remains();
    let none: [&str; 0] = [];
    assert_eq!(things_of(child.id()), none);
}

/// Without it a power loss in a run would prove nothing.
#[test]
fn a_disk_without_power_has_what_was_synced_alone() {
    if !able(&[Kind::Power]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::make(folder.path(), "x").unwrap();
    let file = |name: &str| disk.point().join(name);
    let mut synced = std::fs::File::create(file("synced")).unwrap();
    synced.write_all(b"there").unwrap();
    synced.sync_all().unwrap();
    std::fs::File::open(disk.point())
        .unwrap()
        .sync_all()
        .unwrap();
    synced.write_all(b" and more").unwrap();
    std::fs::write(file("unsynced"), "gone").unwrap();
    disk.power_off().unwrap();
    assert!(
        synced.sync_all().is_err(),
        "nothing gets to the disk any more"
    );
    drop(synced);
    disk.power_on().unwrap();
    let found = std::fs::read_to_string(file("synced"));
    let gone = !file("unsynced").exists();
    topology::remove_folder(folder.path()).unwrap();
    assert_eq!(found.unwrap(), "there");
    assert!(gone);
}

#[test]
fn a_cut_takes_away_its_links_and_no_others() {
    if !able(&[]) {
        return;
    }
    const PORT: u16 = 7000;
    let machines = Topology::build(3).unwrap();
    // The kernel answers for them: whoever connects waits in a queue.
    let _listeners: Vec<_> = machines
        .spaces()
        .iter()
        .map(|space| space.listen(PORT).unwrap())
        .collect();
    let hears = |from: usize, to: usize| {
        let at: SocketAddr = format!("{}:{PORT}", address(to)).parse().unwrap();
        let connect = move || TcpStream::connect_timeout(&at, Duration::from_millis(400)).is_ok();
        machines.spaces()[from].within(connect).unwrap()
    };
    let filter = |rules: &[Rule]| {
        for (member, space) in machines.spaces().iter().enumerate() {
            let text = ruleset(member, rules);
            let set = move || program::run_with("nft", &["-f", "-"], &text);
            space.within(set).unwrap().unwrap();
        }
    };
    let others = |cut: bool| {
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
            assert_eq!(hears(from, to), !cut, "{from} to {to}");
        }
        assert!(hears(1, 2) && hears(2, 1) && hears(0, 0));
    };
    others(false);
    let alone = |treatment| Rule {
        links: links(Cut::Alone(Pick::Member(0)), 3, None),
        treatment,
    };
    for treatment in [Treatment::Drop, Treatment::Reset] {
        filter(&[alone(treatment)]);
        others(true);
    }
    filter(&[]);
    others(false);
}

/// The numbers from 0 to `count`, each a packet from the first member to the second, as they come there.
fn packets(machines: &Topology, count: u32) -> Vec<u32> {
    const PORT: u16 = 7001;
    let socket = |member: usize, port: u16| {
        let make = move || UdpSocket::bind(("0.0.0.0", port)).unwrap();
        machines.spaces()[member].within(make).unwrap()
    };
    let (near, far) = (socket(0, 0), socket(1, PORT));
    let to: SocketAddr = format!("{}:{PORT}", address(1)).parse().unwrap();
    for number in 0..count {
        near.send_to(&number.to_be_bytes(), to).unwrap();
    }
    let mut came = Vec::new();
    let mut missing: BTreeSet<u32> = (0..count).collect();
    let mut number = [0; 4];
    loop {
        // When all have come, some may still come a second time.
        let patience = match missing.is_empty() {
            true => Duration::from_millis(300),
            false => PATIENCE,
        };
        far.set_read_timeout(Some(patience)).unwrap();
        if far.recv(&mut number).is_err() {
            break;
        }
        came.push(u32::from_be_bytes(number));
        missing.remove(&u32::from_be_bytes(number));
    }
    came
}

#[test]
fn packets_overtake_each_other_and_come_twice_and_none_is_lost() {
    if !able(&[Kind::Reorder]) {
        return;
    }
    const COUNT: u32 = 100;
    let machines = Topology::build(2).unwrap();
    let in_order: Vec<u32> = (0..COUNT).collect();
    let road = |late_ms, twice_percent| {
        let manner = Manner {
            late: Duration::from_millis(late_ms),
            twice_percent,
        };
        Road::open(machines.bridge(), &Links::from([(0, 1)]), manner, 1).unwrap()
    };
    assert_eq!(packets(&machines, COUNT), in_order);
    {
        let _road = road(100, 0);
        let mut came = packets(&machines, COUNT);
        assert_ne!(came, in_order);
        came.sort_unstable();
        assert_eq!(came, in_order);
    }
    {
        let _road = road(0, 50);
        let mut came = packets(&machines, COUNT);
        assert!(
            (COUNT + COUNT / 5..2 * COUNT).contains(&(came.len() as u32)),
            "{}",
            came.len()
        );
        came.sort_unstable();
        came.dedup();
        assert_eq!(came, in_order);
    }
    assert_eq!(packets(&machines, COUNT), in_order);
}

#[test]
fn a_narrow_line_takes_its_time() {
    if !able(&[Kind::Bandwidth]) {
        return;
    }
    const PORT: u16 = 7002;
    const BYTES: usize = 100_000;
    let machines = Topology::build(2).unwrap();
    let listener = machines.spaces()[1].listen(PORT).unwrap();
    listener.set_nonblocking(false).unwrap();
    let takes = |from: usize| {
        let to: SocketAddr = format!("{}:{PORT}", address(1)).parse().unwrap();
        let connect = move || TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        let mut near = machines.spaces()[from].within(connect).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let began = Instant::now();
        let read = std::thread::spawn(move || far.read_to_end(&mut Vec::new()).unwrap());
        near.write_all(&[7; BYTES]).unwrap();
        drop(near);
        assert_eq!(read.join().unwrap(), BYTES);
        began.elapsed()
    };
    takes(0);
    // What the buckets hold at first goes at once, and the rest takes its time at least, however fast the machine is.
    let least = Duration::from_secs_f64((BYTES - 40_000) as f64 * 8.0 / 512_000.0);
    for narrow in [0, 1] {
        let _line =
            Narrow::make(&machines.spaces()[narrow], machines.bridge(), narrow, 512).unwrap();
        let took = takes(0);
        assert!(took > least, "{took:?}");
    }
}
