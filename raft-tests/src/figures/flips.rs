//! A bit is flipped in a file of a stopped member, which is started again under load. Either the member refuses, at its
//! start or later, or it can be shown that the bit says nothing: then its state is that of the others.

use super::flip::{self, Class, Flip, Now, Part};
use super::ground::{Done, Ground, answers};
use crate::chaos::compare::{self, Compared};
use crate::chaos::rig::Rig;
use crate::chaos::say;
use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Flips in one recording.
const SLICE: usize = 50;
/// For a member to refuse, or to have what the others have.
const SHOWS: Duration = Duration::from_secs(20);
/// Where the bit is still in a file that has been used: the scrub has to find it, of which a pass takes this member so
/// long at most.
const SCRUB: Duration = Duration::from_secs(20);
/// For a member to come back that was mended.
const ANSWERS: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// One in so many that refused is replaced, as the guide says; in the others the bit is turned back.
const REPLACED: u32 = 10;
const PROGRESS: usize = 10;
/// What a member says that finds its data damaged, at its start or later.
const DAMAGED: &[&str] = &[
    "damaged",
    "checksum",
    "orruption",
    "cannot be read",
    "no identity file",
];

/// What became of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// It did not start, and said that its data is damaged.
    Refused,
    /// It started, and ended when it came upon it.
    EndedLater,
    /// Not in a part of a file that says anything.
    Unused,
    /// In a filter, which saves reads, and without which RocksDB goes on.
    Filter,
    /// In text that is for people.
    Text,
    /// The file was removed or written again before anybody used it.
    NotNeeded,
}

impl End {
    fn words(self) -> &'static str {
        match self {
            End::Refused => "refused at start",
            End::EndedLater => "found later",
            End::Unused => "harmless: unused space",
            End::Filter => "harmless: a filter, which is left aside when it is damaged",
            End::Text => "harmless: text for people",
            End::NotNeeded => "harmless: removed or written over before it was used",
        }
    }
}

#[derive(Default)]
struct Found {
    ends: BTreeMap<(Class, End), usize>,
    replaced: usize,
    times: Vec<Duration>,
}

/// See the command line.
pub async fn run(ground: &mut Ground) -> Result<Done> {
    let task = ground.task().clone();
    let found = Arc::new(Mutex::new(Found::default()));
    let mut done = 0;
    while done < task.times && ground.goes_on() {
        let slice = ground.slice().await?;
        let clients = ground.load(&slice);
        let (found, times, before) = (found.clone(), SLICE.min(task.times - done), done);
        let seed = task.seed ^ (done as u64) << 32;
        done += ground
            .play(slice, clients, move |rig| {
                let mut rng = StdRng::seed_from_u64(seed);
                let mut done = 0;
                while done < times && Instant::now() < task.until && !rig.halt.is_halted() {
                    if let Err(error) = round(rig, &mut rng, &found) {
                        rig.recorder().trouble(format!("flip: {error:#}"));
                        break;
                    }
                    done += 1;
                    if (before + done).is_multiple_of(PROGRESS) {
                        say(&format!("{} flips", before + done));
                    }
                }
                done
            })
            .await?;
    }
    let found = found.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Done {
        lines: report(&found, done, task.times),
        times: done,
    })
}

fn report(found: &Found, done: usize, wanted: usize) -> Vec<String> {
    let of = |wanted: &[End]| -> usize {
        let matching = found
            .ends
            .iter()
            .filter(|((_, end), _)| wanted.contains(end));
        matching.map(|(_, count)| count).sum()
    };
    let mut lines = vec![format!(
        "{done} flips of {wanted}: {} refused at start, {} found later, {} harmless; {} members replaced",
        of(&[End::Refused]),
        of(&[End::EndedLater]),
        of(&[End::Unused, End::Filter, End::Text, End::NotNeeded]),
        found.replaced
    )];
    for ((class, end), count) in &found.ends {
        lines.push(format!("  {class}: {count} {}", end.words()));
    }
    lines.push(super::numbers::summary(
        "from the start to the refusal",
        &found.times,
        None,
    ));
    lines
}

/// One flip, from the end of the process to a member that is as it was.
fn round(rig: &Rig, rng: &mut StdRng, found: &Mutex<Found>) -> Result<()> {
    let index = rng.random_range(0..rig.members().len());
    let member = &rig.members()[index];
    rig.halt
        .wait(Duration::from_millis(rng.random_range(50..400)));
    let fault = rig.recorder().fault(
        "corrupt",
        format!("{} killed", member.name),
        rig.ids([index]),
    );
    member.excuse(true);
    member.kill()?;
    let flip = flip::flip(member.data(), rng)?;
    let flipped = flip::byte(member.data(), &flip)?.context("the byte is gone")?;
    rig.recorder().noted(fault, &format!("{flip} flipped"));
    let (log, goal) = (member.log_bytes(), rig.goal(index));
    let began = Instant::now();
    member.start()?;
    let end = watch(rig, index, &flip, flipped, goal)?;
    let took = began.elapsed();
    let end = match end {
        Some(end) => end,
        None => {
            rig.recorder().violation(
                "damage: not found",
                format!(
                    "Member {} runs on with {flip} flipped in a file that it uses.",
                    member.name
                ),
            );
            End::NotNeeded
        }
    };
    rig.recorder().noted(fault, end.words());
    if matches!(end, End::Refused | End::EndedLater) {
        if !DAMAGED.iter().any(|words| member.says_since(log, words)) {
            rig.recorder().violation(
                "damage: no reason given",
                format!(
                    "Member {} ended with {flip} flipped, and does not say that its data is damaged: {}",
                    member.name,
                    member.last_words()
                ),
            );
        }
        lock(found).times.push(took);
    }
    *lock(found).ends.entry((flip.class, end)).or_default() += 1;
    mend(rig, index, &flip, flipped, end, rng, found)?;
    member.excuse(false);
    rig.recorder().undone(fault);
    Ok(())
}

/// Looks what the member does with it. Nothing where it goes on though it should not.
fn watch(rig: &Rig, index: usize, flip: &Flip, flipped: u8, goal: u64) -> Result<Option<End>> {
    let member = &rig.members()[index];
    let (began, mut deadline) = (Instant::now(), Instant::now() + SHOWS);
    let mut answered = false;
    let mut compared = false;
    loop {
        if let Some(status) = member.take_ended()? {
            if status.success() {
                bail!("member {} ended without an error", member.name);
            }
            return Ok(Some(match answered {
                false => End::Refused,
                true => End::EndedLater,
            }));
        }
        let view = rig.shared.view(index).filter(|view| view.at > began);
        answered |= view.is_some();
        let caught_up = view.is_some_and(|view| view.applied >= goal);
        if !compared && caught_up && is_compared(rig, index) {
            compared = true;
            deadline = Instant::now() + SCRUB;
        }
        if compared {
            let harmless = match flip::now(member.data(), flip, flipped)? {
                Now::Gone | Now::WrittenOver => Some(End::NotNeeded),
                Now::AsFlipped if flip.part == Part::Nothing => Some(End::Unused),
                Now::AsFlipped if flip.part == Part::Filter => Some(End::Filter),
                Now::AsFlipped if flip.class == Class::Text => Some(End::Text),
                Now::AsFlipped => None,
            };
            // One that has come upon it meanwhile is on its way out.
            if harmless.is_some() && member.take_ended()?.is_none() {
                return Ok(harmless);
            }
        }
        if Instant::now() > deadline {
            match compared {
                true => return Ok(None),
                false => bail!(
                    "inconclusive: member {} neither refuses nor can be compared with the others within {SHOWS:?}: {}",
                    member.name,
                    member.last_words()
                ),
            }
        }
        std::thread::sleep(POLL);
    }
}

/// Whether it could be seen whether the member has what another one has. Where it has not, that is told.
fn is_compared(rig: &Rig, index: usize) -> bool {
    match compare::compare(rig, index) {
        Compared::Same => true,
        Compared::Differs(how) => {
            let story = format!(
                "Member {} runs with a flipped bit. {how}.",
                rig.names([index])
            );
            rig.recorder().violation("damage: not found", story);
            true
        }
        // A member that ends meanwhile, or a compaction.
        Compared::NotNow(_) => false,
    }
}

/// The member is there again: with the bit turned back, or replaced.
fn mend(
    rig: &Rig,
    index: usize,
    flip: &Flip,
    flipped: u8,
    end: End,
    rng: &mut StdRng,
    found: &Mutex<Found>,
) -> Result<()> {
    let member = &rig.members()[index];
    if !matches!(end, End::Refused | End::EndedLater) {
        // It runs. What nobody reads may stay as it is.
        return member.start();
    }
    if rng.random_range(0..REPLACED) == 0 {
        lock(found).replaced += 1;
        rig.replace(index)?;
        return caught_up(rig, index);
    }
    flip::undo(member.data(), flip, flipped)?;
    let began = Instant::now();
    member.start()?;
    if !answers(rig, index, began, ANSWERS) && !rig.halt.is_halted() {
        rig.recorder().violation(
            "damage: changed something",
            format!(
                "Member {} refused with {flip} flipped. With the bit turned back it does not start: {}",
                member.name,
                member.last_words()
            ),
        );
    }
    Ok(())
}

fn caught_up(rig: &Rig, index: usize) -> Result<()> {
    match answers(rig, index, Instant::now(), ANSWERS) || rig.halt.is_halted() {
        true => Ok(()),
        false => bail!("the new member does not answer"),
    }
}

fn lock(found: &Mutex<Found>) -> std::sync::MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}
