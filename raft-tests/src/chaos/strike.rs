//! Each kind of fault: how it comes, and how it goes again. All of it is recorded.

use super::bandwidth::Narrow;
use super::compare::{self, Compared, Fate, Look};
use super::links::{Links, PEER_PORT, Rule, Treatment, links};
use super::plan::{Kind, Planned};
use super::program;
use super::proxy::{self, Proxy};
use super::quota::Quota;
use super::rig::Rig;
use super::road::{Manner, Road};
use super::topology::member_name;
use super::under::Under;
use super::{backup, damage, upgrade};
use crate::etcd::message::{DEFRAGMENT, Empty, MOVE_LEADER, MoveLeader, Plain};
use crate::etcd::outcome::was_answered;
use crate::recording::Request;
use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The number under which the test itself is in the recording as a client.
pub const OWN_CLIENT: u32 = 1000;
/// For a member to end that cannot go on, or that was removed.
const ENDS_BY_ITSELF: Duration = Duration::from_secs(15);
/// For a member to answer after it was started.
const ANSWERS: Duration = Duration::from_secs(30);
/// For strace to be in the way.
const ATTACH: Duration = Duration::from_secs(5);
/// Between two looks at a member with damaged files.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Behind the newest revision, for a compaction that watchers of now do not notice.
const KEPT_REVISIONS: i64 = 20;

/// Does what is planned, and undoes it. What the test itself could not do is noted as trouble.
pub fn strike(rig: &Rig, fault: &Planned) {
    let outcome = match fault.kind {
        Kind::Partition => on_links(rig, fault, Treatment::Drop),
        Kind::Loss => {
            let percent = 5 + (fault.dice % 60) as u8;
            on_links(rig, fault, Treatment::Lose(percent))
        }
        Kind::Reset => on_links(rig, fault, Treatment::Reset),
        Kind::Flapping => flap(rig, fault),
        Kind::Delay => delay(rig, fault),
        Kind::Reorder => reorder(rig, fault),
        Kind::Duplicate => duplicate(rig, fault),
        Kind::Bandwidth => bandwidth(rig, fault),
        Kind::Kill => kill(rig, fault),
        Kind::CrashLoop => crash_loop(rig, fault),
        Kind::Pause => pause(rig, fault),
        Kind::Stutter => stutter(rig, fault),
        Kind::Slow => slow(rig, fault),
        Kind::Power => power(rig, fault),
        Kind::DiskError => disk_error(rig, fault),
        Kind::SlowDisk => slow_disk(rig, fault),
        Kind::DiskFull => disk_full(rig, fault),
        Kind::Corrupt => corrupt(rig, fault),
        Kind::Clock => clock(rig, fault),
        Kind::Member => change_members(rig, fault),
        Kind::Compact => compact(rig, fault),
        Kind::MoveLeader => move_leader(rig, fault),
        Kind::Snapshot => snapshot(rig, fault),
        Kind::Restart => upgrade::restart(rig, fault),
        Kind::Upgrade => upgrade::upgrade(rig, fault),
        Kind::Backup => backup::backup(rig, fault),
        Kind::Node => node(rig, fault),
    };
    if let Err(error) = outcome {
        rig.recorder().trouble(format!("{}: {error:#}", fault.kind));
    }
}

fn victims(rig: &Rig, fault: &Planned) -> Vec<usize> {
    fault.victims.of(rig.members().len(), rig.shared.leader())
}

fn first_victim(rig: &Rig, fault: &Planned) -> usize {
    victims(rig, fault)[0]
}

/// In the words of a person: which links.
fn in_words(links: &Links) -> String {
    let arrow =
        |(from, to): &(usize, usize)| format!("{}→{}", member_name(*from), member_name(*to));
    links.iter().map(arrow).collect::<Vec<_>>().join(" ")
}

fn cut_links(rig: &Rig, fault: &Planned) -> (Links, Vec<usize>) {
    let links = links(fault.cut, rig.members().len(), rig.shared.leader());
    let mut members: Vec<usize> = links.iter().flat_map(|(from, to)| [*from, *to]).collect();
    members.sort_unstable();
    members.dedup();
    (links, members)
}

fn on_links(rig: &Rig, fault: &Planned, treatment: Treatment) -> Result<()> {
    let (links, members) = cut_links(rig, fault);
    let words = match treatment {
        Treatment::Lose(percent) => format!("{percent} % lost on {}", in_words(&links)),
        Treatment::Reset => format!("connections broken on {}", in_words(&links)),
        _ => format!("{}: no {}", fault.cut, in_words(&links)),
    };
    let _under = Under::new(rig, fault, words, &members);
    let rule = rig.impose(Rule { links, treatment })?;
    rig.halt.wait(fault.length);
    rig.lift(rule)
}

fn flap(rig: &Rig, fault: &Planned) -> Result<()> {
    let (links, members) = cut_links(rig, fault);
    let mut rng = StdRng::seed_from_u64(fault.dice);
    let words = format!("{}, on and off: {}", fault.cut, in_words(&links));
    let _under = Under::new(rig, fault, words, &members);
    let until = Instant::now() + fault.length;
    let mut wait = || {
        rig.halt
            .wait(Duration::from_millis(rng.random_range(100..900)))
    };
    while Instant::now() < until && !rig.halt.is_halted() {
        let rule = rig.impose(Rule {
            links: links.clone(),
            treatment: Treatment::Drop,
        })?;
        wait();
        rig.lift(rule)?;
        wait();
    }
    Ok(())
}

/// New connections to the members at the end of the links go through proxies; those of now are broken, so that all are
/// new.
fn delay(rig: &Rig, fault: &Planned) -> Result<()> {
    let (links, members) = cut_links(rig, fault);
    let mut rng = StdRng::seed_from_u64(fault.dice);
    let mut some = |most: u64| Duration::from_millis(rng.random_range(1..most));
    let (there, back) = (some(300), some(150));
    let words = format!("{there:?} there and {back:?} back on {}", in_words(&links));
    let _under = Under::new(rig, fault, words, &members);
    let mut proxies = Vec::new();
    for member in rig.members() {
        if links.iter().any(|(_, to)| *to == member.index) {
            proxies.push(Proxy::start(
                &rig.runtime,
                &member.space,
                PEER_PORT,
                there,
                back,
            )?);
        }
    }
    let broken = || Rule {
        links: links.clone(),
        treatment: Treatment::Reset,
    };
    let reset = rig.impose(broken())?;
    let led = rig.impose(Rule {
        links: links.clone(),
        treatment: Treatment::Redirect(proxy::PORT),
    })?;
    rig.halt.wait(Duration::from_millis(100));
    rig.lift(reset)?;
    rig.halt.wait(fault.length);
    rig.lift(led)
}

/// Each packet is late by a time of its own, so that they overtake each other.
fn reorder(rig: &Rig, fault: &Planned) -> Result<()> {
    let late = Duration::from_millis(5 + fault.dice % 60);
    let words = format!("each packet up to {late:?} late");
    let twice_percent = 0;
    on_a_road(
        rig,
        fault,
        Manner {
            late,
            twice_percent,
        },
        &words,
    )
}

/// Some packets come a second time, by then perhaps after others.
fn duplicate(rig: &Rig, fault: &Planned) -> Result<()> {
    let manner = Manner {
        late: Duration::from_millis(3),
        twice_percent: (10 + fault.dice % 60) as u8,
    };
    let words = format!("{} % of the packets come twice", manner.twice_percent);
    on_a_road(rig, fault, manner, &words)
}

fn on_a_road(rig: &Rig, fault: &Planned, manner: Manner, words: &str) -> Result<()> {
    let (links, members) = cut_links(rig, fault);
    let words = format!("{words} on {}", in_words(&links));
    let _under = Under::new(rig, fault, words, &members);
    let _road = Road::open(&rig.bridge, &links, manner, fault.dice)?;
    rig.halt.wait(fault.length);
    Ok(())
}

fn bandwidth(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = first_victim(rig, fault);
    let member = &rig.members()[index];
    let rate_kbit = [64, 256, 1024][(fault.dice % 3) as usize];
    let words = format!("{} has {rate_kbit} kbit/s each way", member.name);
    let _under = Under::new(rig, fault, words, &[index]);
    let _narrow = Narrow::make(&member.space, &rig.bridge, index, rate_kbit)?;
    rig.halt.wait(fault.length);
    Ok(())
}

fn kill(rig: &Rig, fault: &Planned) -> Result<()> {
    let hit = victims(rig, fault);
    let words = format!(
        "{} killed, back after {:?}",
        rig.names(hit.clone()),
        fault.length
    );
    let _under = Under::new(rig, fault, words, &hit);
    for index in &hit {
        rig.members()[*index].kill()?;
    }
    rig.halt.wait(fault.length);
    hit.iter()
        .try_for_each(|index| rig.members()[*index].start())
}

fn crash_loop(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = first_victim(rig, fault);
    let member = &rig.members()[index];
    let mut rng = StdRng::seed_from_u64(fault.dice);
    let words = format!("{} killed again and again", member.name);
    let under = Under::new(rig, fault, words, &[index]);
    let until = Instant::now() + fault.length;
    let mut times = 0;
    while Instant::now() < until && !rig.halt.is_halted() {
        member.kill()?;
        times += 1;
        member.start()?;
        rig.halt
            .wait(Duration::from_millis(rng.random_range(20..1200)));
    }
    under.note(&format!("{times} times"));
    Ok(())
}

fn pause(rig: &Rig, fault: &Planned) -> Result<()> {
    let hit = victims(rig, fault);
    let words = format!("{} stopped for {:?}", rig.names(hit.clone()), fault.length);
    let _under = Under::new(rig, fault, words, &hit);
    for index in &hit {
        rig.members()[*index].signal("STOP")?;
    }
    rig.halt.wait(fault.length);
    hit.iter()
        .try_for_each(|index| rig.members()[*index].signal("CONT"))
}

/// With a node's agent goes what it runs; while it stands still that goes on, and nobody looks after it.
fn node(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = (fault.dice >> 1) as usize % rig.nodes.len().max(1);
    let node = rig.nodes.get(index).context("there are no nodes")?;
    let (kills, length) = (fault.dice.is_multiple_of(2), fault.length);
    let words = match kills {
        true => format!("{} killed, back after {length:?}", node.name),
        false => format!("{} stopped for {length:?}", node.name),
    };
    let _under = Under::new(rig, fault, words, &[]);
    if kills {
        node.kill()?;
        rig.halt.wait(length);
        return node.start();
    }
    node.signal("STOP")?;
    rig.halt.wait(length);
    node.signal("CONT")
}

/// Stopped and let go on, several times a second, as on a machine with too many others.
fn stutter(rig: &Rig, fault: &Planned) -> Result<()> {
    let hit = victims(rig, fault);
    let mut rng = StdRng::seed_from_u64(fault.dice);
    let words = format!(
        "{} stopped again and again for some moments",
        rig.names(hit.clone())
    );
    let _under = Under::new(rig, fault, words, &hit);
    let until = Instant::now() + fault.length;
    let mut all = |name: &str, most_ms: u64| -> Result<()> {
        for index in &hit {
            rig.members()[*index].signal(name)?;
        }
        rig.halt
            .wait(Duration::from_millis(rng.random_range(10..most_ms)));
        Ok(())
    };
    while Instant::now() < until && !rig.halt.is_halted() {
        all("STOP", 250)?;
        all("CONT", 80)?;
    }
    Ok(())
}

fn slow(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = first_victim(rig, fault);
    let member = &rig.members()[index];
    let words = format!("{} has a twentieth of a processor", member.name);
    let _under = Under::new(rig, fault, words, &[index]);
    let pid = member.pid().context("it does not run")?;
    let _quota = Quota::impose(pid)?;
    rig.halt.wait(fault.length);
    Ok(())
}

fn power(rig: &Rig, fault: &Planned) -> Result<()> {
    let hit = victims(rig, fault);
    let words = format!(
        "{} without power for {:?}",
        rig.names(hit.clone()),
        fault.length
    );
    let _under = Under::new(rig, fault, words, &hit);
    let disk = |index: usize| {
        let disk = rig.members()[index].disk.as_ref();
        disk.context("the member has no disk of its own")
    };
    for index in &hit {
        rig.members()[*index].excuse(true);
    }
    // All at the same moment, or nearly so.
    std::thread::scope(|scope| {
        let off = |index: usize| disk(index)?.power_off();
        let threads: Vec<_> = hit
            .iter()
            .map(|index| scope.spawn(move || off(*index)))
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .collect::<Result<()>>()
    })?;
    for index in &hit {
        rig.members()[*index].kill()?;
    }
    rig.halt.wait(fault.length);
    for index in &hit {
        // It may have ended before it was killed.
        let _ = rig.members()[*index].take_ended()?;
        disk(*index)?.power_on()?;
        rig.members()[*index].start()?;
        rig.members()[*index].excuse(false);
    }
    Ok(())
}

/// strace, which does something to a call of the system each time that the member makes it.
struct Strace(Child);

impl Strace {
    fn attach(rig: &Rig, index: usize, does: &str) -> Result<Strace> {
        let pid = rig.members()[index].pid().context("it does not run")?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "strace", "-qq", "-f"])
            .args(["-e", "trace=fdatasync,fsync"])
            .args(["-e", &format!("inject=fdatasync,fsync:{does}")])
            .args(["-o", "/dev/null", "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let strace = Strace(child);
        let traced = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let tracer = status.lines().find(|line| line.starts_with("TracerPid:"));
            tracer.is_some_and(|line| !line.ends_with("\t0"))
        };
        let deadline = Instant::now() + ATTACH;
        while !traced() {
            if Instant::now() > deadline {
                bail!("strace does not attach");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(strace)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Not SIGKILL: it is to let go of the member in good order.
        let _ = program::run("kill", &["-INT", &self.0.id().to_string()]);
        let deadline = Instant::now() + ATTACH;
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn disk_error(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = first_victim(rig, fault);
    let member = &rig.members()[index];
    let words = format!("each fsync of {} fails", member.name);
    let under = Under::new(rig, fault, words, &[index]);
    member.excuse(true);
    let strace = Strace::attach(rig, index, "error=EIO")?;
    let began = Instant::now();
    let ended = member.ends_within(ENDS_BY_ITSELF)?;
    let after = began.elapsed();
    drop(strace);
    match ended {
        Some(status) => under.note(&format!("it ended after {after:.1?}: {status}")),
        None => rig.recorder().violation(
            "disk error: goes on",
            format!(
                "Each fsync of member {} failed for {after:.1?}. It went on all the same.",
                member.name
            ),
        ),
    }
    rig.halt.wait(fault.length);
    member.start()?;
    member.excuse(false);
    Ok(())
}

fn slow_disk(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = first_victim(rig, fault);
    let milliseconds = 20 + fault.dice % 400;
    let words = format!(
        "each fsync of {} takes {milliseconds} ms longer",
        rig.names([index])
    );
    let _under = Under::new(rig, fault, words, &[index]);
    let does = format!("delay_enter={}", milliseconds * 1000);
    let _strace = Strace::attach(rig, index, &does)?;
    rig.halt.wait(fault.length);
    Ok(())
}

fn disk_full(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = first_victim(rig, fault);
    let member = &rig.members()[index];
    let disk = member
        .disk
        .as_ref()
        .context("the member has no disk of its own")?;
    let words = format!("the disk of {} is full", member.name);
    let under = Under::new(rig, fault, words, &[index]);
    member.excuse(true);
    disk.fill()?;
    rig.halt.wait(fault.length);
    disk.clear()?;
    if let Some(status) = member.take_ended()? {
        under.note(&format!("it ended: {status}"));
    }
    member.start()?;
    member.excuse(false);
    Ok(())
}

fn clock(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = first_victim(rig, fault);
    let member = &rig.members()[index];
    let far = [3, 45, 600, 3500][(fault.dice % 4) as usize];
    let seconds = if fault.dice % 8 < 4 { far } else { -far };
    let words = format!("the wall clock of {} jumps by {seconds} s", member.name);
    let _under = Under::new(rig, fault, words, &[index]);
    member.set_clock(seconds)?;
    rig.halt.wait(fault.length);
    member.set_clock(0)
}

fn change_members(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = first_victim(rig, fault);
    let member = &rig.members()[index];
    let words = format!("{} is removed, and added with an empty disk", member.name);
    let _under = Under::new(rig, fault, words, &[index]);
    member.excuse(true);
    let changed = (|| {
        rig.remove(index)?;
        if member.ends_within(ENDS_BY_ITSELF)?.is_none() {
            rig.recorder().violation(
                "membership: goes on",
                format!(
                    "Member {} was removed. Its process has not ended after {ENDS_BY_ITSELF:?}.",
                    member.name
                ),
            );
        }
        rig.add(index)
    })();
    member.excuse(false);
    stands(rig, "membership: no change", changed)
}

/// What has to be possible where no other fault is under way.
fn stands(rig: &Rig, rule: &str, outcome: Result<()>) -> Result<()> {
    if let Err(error) = outcome
        && !rig.halt.is_halted()
    {
        rig.recorder().violation(rule, format!("{error:#}."));
    }
    Ok(())
}

fn corrupt(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = first_victim(rig, fault);
    let member = &rig.members()[index];
    let under = Under::new(rig, fault, format!("{} killed", member.name), &[index]);
    member.excuse(true);
    member.kill()?;
    under.note(&damage::damage(member.data(), fault.dice)?);
    let goal = rig.goal(index);
    member.start()?;
    match becomes(rig, index, goal)? {
        Fate::Refused(how) => under.note(&format!("it refused: {how}")),
        Fate::Harmless => under.note("it runs, and has what the others have"),
        Fate::Wrong(how) => {
            under.note("it runs");
            let story = format!("Member {} runs with a damaged file. {how}.", member.name);
            rig.recorder().violation("damage: not found", story);
        }
        Fate::Inconclusive(why) => {
            under.note("inconclusive");
            rig.recorder().trouble(format!(
                "inconclusive: member {} runs with a damaged file, and could not be compared with the others: {why}",
                member.name
            ));
        }
    }
    member.kill()?;
    let replaced = rig.replace(index);
    member.excuse(false);
    stands(rig, "damage: not replaced", replaced)
}

/// What a member with a damaged file comes to, which was started now, and has to get as far as `goal`.
fn becomes(rig: &Rig, index: usize, goal: u64) -> Result<Fate> {
    let member = &rig.members()[index];
    let began = Instant::now();
    loop {
        let look = match member.take_ended()? {
            Some(status) => Look::Ended(status.to_string()),
            None => Look::Runs(match rig.shared.view(index) {
                Some(view) if view.at > began && view.applied >= goal => {
                    compare::compare(rig, index)
                }
                Some(view) if view.at > began => {
                    Compared::NotNow(format!("it is at entry {}, not at {goal}", view.applied))
                }
                _ => Compared::NotNow("it does not answer".into()),
            }),
        };
        // It may have ended while it was looked at, and not because of what was seen.
        let look = match (look, member.take_ended()?) {
            (Look::Runs(_), Some(status)) => Look::Ended(status.to_string()),
            (look, _) => look,
        };
        if let Some(fate) = compare::fate(look, began.elapsed(), rig.halt.is_halted()) {
            return Ok(fate);
        }
        rig.halt.wait(LOOK_AGAIN);
    }
}

fn compact(rig: &Rig, fault: &Planned) -> Result<()> {
    let newest = rig.shared.newest.load(Ordering::SeqCst);
    let revision = newest - KEPT_REVISIONS;
    let words = format!("compaction up to {revision}, and defragmentation");
    let all: Vec<usize> = (0..rig.members().len()).collect();
    let _under = Under::new(rig, fault, words, &all);
    let patience = Duration::from_secs(3);
    let asked = rig.shared.leader().unwrap_or(0);
    if revision > 0 {
        let request = Request::Compact { revision };
        let id = rig.members()[asked].id();
        let operation = rig.recorder().called(OWN_CLIENT, id, request.clone());
        let outcome = rig.at(asked, |connection| async move {
            Ok(connection.perform(&request, patience).await)
        });
        let outcome = outcome.unwrap_or_else(|status| {
            crate::etcd::outcome::never_sent(status.message().to_string())
        });
        let answered = was_answered(&outcome);
        rig.recorder().returned(operation, outcome, answered);
    }
    for index in all {
        // A member that is down, or has no leader, need not do it.
        let _ = rig.at(index, |connection| async move {
            connection
                .unary::<_, Plain>(DEFRAGMENT, Empty {}, patience)
                .await
        });
    }
    Ok(())
}

fn move_leader(rig: &Rig, fault: &Planned) -> Result<()> {
    let Some(leader) = rig.shared.leader() else {
        let words = String::from("nobody leads who could hand over");
        Under::new(rig, fault, words, &[]);
        return Ok(());
    };
    let count = rig.members().len();
    let steps = 1 + (fault.dice as usize) % (count - 1);
    let target = (leader + steps) % count;
    let words = format!(
        "{} hands over to {}",
        rig.names([leader]),
        rig.names([target])
    );
    let under = Under::new(rig, fault, words, &[leader, target]);
    let request = MoveLeader {
        target_id: rig.members()[target].id(),
    };
    let moved = rig.at(leader, |connection| async move {
        let patience = Duration::from_secs(5);
        connection
            .unary::<_, Plain>(MOVE_LEADER, request, patience)
            .await
    });
    if let Err(status) = moved {
        under.note(status.message());
    }
    Ok(())
}

/// Down until the others' logs have gone past it.
fn snapshot(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = first_victim(rig, fault);
    let member = &rig.members()[index];
    let words = format!(
        "{} is down until the others' logs have gone on",
        member.name
    );
    let under = Under::new(rig, fault, words, &[index]);
    let applied = || {
        let view = rig
            .shared
            .leader()
            .and_then(|leader| rig.shared.view(leader));
        view.map_or(0, |view| view.applied)
    };
    member.kill()?;
    let before = applied();
    let until = Instant::now() + 2 * fault.length;
    let wanted = 2 * super::members::SNAPSHOT_ENTRIES + super::members::LOG_ENTRIES_KEPT;
    let gone_on = || before > 0 && applied() > before + wanted;
    while !gone_on() && Instant::now() < until && !rig.halt.wait(Duration::from_millis(100)) {}
    let entries = applied().saturating_sub(before);
    let others = || rig.members().iter().filter(|other| other.index != index);
    let logs: Vec<u64> = others().map(|other| other.log_bytes()).collect();
    member.start()?;
    let answers = rig.answers_within(index, ANSWERS);
    let until = Instant::now() + ANSWERS;
    let behind = || {
        let view = rig.shared.view(index);
        view.is_none_or(|view| view.applied < before + entries)
    };
    while answers && behind() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let installed = others()
        .zip(logs)
        .any(|(other, log)| other.says_since(log, "snapshot sent"));
    let how = if installed {
        "by a snapshot"
    } else {
        "from the log"
    };
    under.note(&format!("{entries} entries behind, caught up {how}"));
    if behind() && !rig.halt.is_halted() {
        rig.recorder().violation(
            "liveness: does not catch up",
            format!(
                "Member {} was {entries} entries behind when it was started. It has not caught up after {ANSWERS:?}.",
                member.name
            ),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_said_in_names() {
        assert_eq!(in_words(&Links::from([(0, 1), (2, 0)])), "a→b c→a");
    }
}
