//! A copy of the store that is taken while it is written to, and a new cluster that is made of it. It has to have the state
//! of the revision that the copy is of, to the last pair, and nobody may go on in it from where he was in the old one.

use super::door::Credentials;
use super::load::prefix_end;
use super::members::{Installation, Member};
use super::plan::Planned;
use super::program;
use super::rig::Rig;
use super::shared::KEYS;
use super::strike::OWN_CLIENT;
use super::topology::Hermit;
use super::under::Under;
use crate::etcd::client::Connection;
use crate::etcd::message::{
    RANGE, RangeAnswer, WATCH, WatchAnswer, WatchAsk, WatchCreate, WatchUnion,
};
use crate::etcd::outcome::{self, was_answered};
use crate::recording::{Found, Outcome, Pair, Put, Range, Request, Response};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// By how much the restored cluster's revision is beyond the copy's (`kontiki store restore`).
const AHEAD: i64 = 1_000_000_000;
/// The place among the members of the one that is made of the copy; there are never so many.
const PLACE: usize = 25;
/// Copies of which the revision was compacted before the cluster could be asked about it.
const ATTEMPTS: usize = 5;
const CALL: Duration = Duration::from_secs(5);
/// For the new cluster to serve.
const SERVES: Duration = Duration::from_secs(30);
/// Objects of the API's clients.
const OBJECTS: &str = "/registry/configmaps/default/";

/// What a copy is of, and how that state was when the cluster was asked about it.
struct Copy {
    file: PathBuf,
    revision: i64,
    pairs: Vec<Pair>,
    objects: Vec<Pair>,
}

/// Copies, restores, compares. Where the cluster does not serve there is no copy.
pub fn backup(rig: &Rig, fault: &Planned) -> Result<()> {
    let index = fault.victims.of(rig.members().len(), rig.shared.leader())[0];
    let words = format!("a copy of the store through {}", rig.names([index]));
    let under = Under::new(rig, fault, words, &[index]);
    let folder = Scratch::make(rig)?;
    let mut copy = None;
    for attempt in 0..ATTEMPTS {
        if rig.halt.is_halted() {
            return Ok(());
        }
        match take(
            rig,
            index,
            &folder.0.join(format!("copy-{attempt}")),
            fault.dice,
        ) {
            Ok(taken) => {
                copy = Some(taken);
                break;
            }
            Err(error) => under.note(&format!("{error:#}")),
        }
    }
    let Some(copy) = copy else { return Ok(()) };
    under.note(&format!(
        "of revision {}, {} keys",
        copy.revision,
        copy.pairs.len()
    ));
    if let Some(wrong) = restored(rig, &folder.0, &copy)? {
        let story = format!(
            "A copy of revision {} was taken through member {} under load, and restored. {wrong}.",
            copy.revision,
            rig.names([index])
        );
        rig.recorder().violation("backup: not the same", story);
        // For whoever wants to see.
        std::fs::copy(
            &copy.file,
            rig.members()[index].log().with_extension("copy"),
        )?;
    }
    under.note("restored");
    Ok(())
}

/// A folder that goes again.
struct Scratch(PathBuf);

impl Scratch {
    fn make(rig: &Rig) -> Result<Scratch> {
        let beside = &rig.members()[0].installation().bundle;
        let folder = beside.with_file_name("backup");
        std::fs::create_dir(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} is left: {error}", self.0.display());
        }
    }
}

/// By the own command or by etcd's, and what the cluster says its revision was like.
fn take(rig: &Rig, index: usize, file: &Path, dice: u64) -> Result<Copy> {
    let member = &rig.members()[index];
    let name = file.to_string_lossy();
    match dice.is_multiple_of(2) && program::have("etcdctl") {
        true => member.etcdctl(&["snapshot", "save", &name])?,
        false => member.store_command(&["snapshot", "save", &name])?,
    };
    let kontiki = member.installation().kontiki.to_string_lossy();
    let said = program::run(
        &kontiki,
        &["store", "snapshot", "status", &name, "--output", "json"],
    )?;
    let said: Value = serde_json::from_str(&said)?;
    let revision = said["revision"]
        .as_i64()
        .context("no revision in what the copy is")?;
    let whole = |key: &str, end: &str| Range {
        key: key.into(),
        end: end.into(),
        revision,
        ..Range::default()
    };
    // In the recording, so that the judges compare it with what clients did.
    let request = Request::Range(whole(KEYS.0, KEYS.1));
    let operation = rig
        .recorder()
        .called(OWN_CLIENT, member.id(), request.clone());
    let asked = rig.at(index, |connection| async move {
        Ok(connection.perform(&request, CALL).await)
    });
    let outcome = asked.unwrap_or_else(|status| outcome::never_sent(status.message().into()));
    let answered = was_answered(&outcome);
    rig.recorder()
        .returned(operation, outcome.clone(), answered);
    let objects = whole(OBJECTS, &prefix_end(OBJECTS));
    let objects = rig.at(index, |connection| async move {
        pairs(&connection, &objects).await
    });
    let (_, objects) = objects.map_err(|status| anyhow!("{}", status.message()))?;
    match outcome {
        Outcome::Ok {
            response: Response::Range(Found { pairs, .. }),
            ..
        } => Ok(Copy {
            file: file.into(),
            revision,
            pairs,
            objects,
        }),
        Outcome::Failed { message, .. } | Outcome::Unknown { message } => bail!(message),
        Outcome::Ok { .. } => bail!("no range in the answer to one"),
    }
}

async fn pairs(connection: &Connection, range: &Range) -> Result<(i64, Vec<Pair>), tonic::Status> {
    let request = outcome::range_request(range);
    let answer: RangeAnswer = connection.unary(RANGE, request, CALL).await?;
    Ok((answer.header.revision, outcome::found(answer).pairs))
}

/// A new cluster of one member, on a machine and with certificates of its own. Answers what is wrong with it.
fn restored(rig: &Rig, folder: &Path, copy: &Copy) -> Result<Option<String>> {
    let machine = Hermit::make(PLACE)?;
    let of_all = rig.members()[0].installation();
    let installation = Arc::new(Installation {
        limits: of_all.limits,
        // Whose controllers would change what is compared.
        nodes: 0,
        kontiki: of_all.kontiki.clone(),
        other: None,
        bundle: folder.join("cluster"),
        logs: of_all.logs.clone(),
        clock_library: None,
        closed: AtomicBool::new(false),
    });
    installation.make_certificates_of(&[PLACE])?;
    let member = Member::new(
        PLACE,
        machine.space.clone(),
        None,
        installation.clone(),
        folder,
    )?;
    member.restore(&copy.file)?;
    member.start()?;
    let credentials = Credentials::read(&installation.bundle)?;
    let deadline = Instant::now() + SERVES;
    let compared = loop {
        let compared = rig.runtime.block_on(async {
            let connection = Connection::open(&machine.space, &credentials).await?;
            compare(&connection, copy).await
        });
        match compared {
            Ok(compared) => break compared,
            Err(error) if Instant::now() > deadline => {
                break Some(format!(
                    "The new cluster does not serve after {SERVES:?}: {error:#}; its last words: {}",
                    member.last_words()
                ));
            }
            Err(_) if rig.halt.is_halted() => break None,
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    };
    member.kill()?;
    Ok(compared)
}

/// What is wrong with what serves there; an error where it does not serve.
async fn compare(connection: &Connection, copy: &Copy) -> Result<Option<String>> {
    let now = |key: &str, end: &str| Range {
        key: key.into(),
        end: end.into(),
        ..Range::default()
    };
    let (revision, keys) = pairs(connection, &now(KEYS.0, KEYS.1)).await?;
    let (_, objects) = pairs(connection, &now(OBJECTS, &prefix_end(OBJECTS))).await?;
    let differs = difference(&copy.pairs, &keys).or_else(|| difference(&copy.objects, &objects));
    if differs.is_some() {
        return Ok(differs);
    }
    if revision < copy.revision + AHEAD {
        return Ok(Some(format!(
            "Its revision is {revision}, which may have meant something else"
        )));
    }
    let old = Range {
        revision: copy.revision,
        ..now(KEYS.0, KEYS.1)
    };
    if let Ok((_, old)) = pairs(connection, &old).await {
        return Ok(Some(format!(
            "It shows {} keys of a revision of the old cluster",
            old.len()
        )));
    }
    if !watch_ends(connection, copy.revision + 1).await? {
        return Ok(Some(
            "A watch goes on in it from a revision of the old cluster".into(),
        ));
    }
    let put = Request::Put(Put {
        key: "restored".into(),
        ..Put::default()
    });
    match connection.perform(&put, CALL).await {
        Outcome::Ok { .. } => Ok(None),
        Outcome::Failed { message, .. } | Outcome::Unknown { message } => bail!(message),
    }
}

/// Whether a watch that goes on from this revision is told that it cannot.
async fn watch_ends(connection: &Connection, start_revision: i64) -> Result<bool> {
    let (say, said) = tokio::sync::mpsc::channel(1);
    let create = WatchCreate {
        key: outcome::bytes(KEYS.0),
        range_end: outcome::bytes(KEYS.1),
        start_revision,
        ..WatchCreate::default()
    };
    // The channel is empty and has room.
    let _ = say.try_send(WatchAsk {
        union: Some(WatchUnion::Create(create)),
    });
    let ends = async {
        let mut answers = connection
            .stream::<WatchAsk, WatchAnswer>(WATCH, said)
            .await?;
        while let Some(answer) = answers.message().await? {
            if answer.canceled {
                return Ok(answer.compact_revision > start_revision);
            }
            if !answer.events.is_empty() {
                return Ok(false);
            }
        }
        bail!("the stream ended")
    };
    match tokio::time::timeout(CALL, ends).await {
        Ok(ends) => ends,
        // It waits for what comes next.
        Err(_) => Ok(false),
    }
}

/// What of a copied state is not in the restored one, or otherwise. A lease begins anew, and may have ended since.
fn difference(copied: &[Pair], restored: &[Pair]) -> Option<String> {
    let lacks = |pair: &&Pair| pair.lease == 0 && !restored.contains(pair);
    if let Some(lost) = copied.iter().find(lacks) {
        let now = restored.iter().find(|pair| pair.key == lost.key);
        return Some(format!("{lost:?} is not there, but {now:?}"));
    }
    let more = restored
        .iter()
        .find(|pair| !copied.contains(pair) && pair.key != "restored");
    more.map(|more| format!("{more:?} is there, which was not so at that revision"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, modified: i64, lease: i64) -> Pair {
        Pair {
            key: key.into(),
            modified,
            lease,
            ..Pair::default()
        }
    }

    #[test]
    fn a_restored_state_is_the_copied_one_but_for_leases_that_have_ended() {
        let copied = [pair("a", 1, 0), pair("b", 2, 7), pair("c", 3, 0)];
        assert_eq!(difference(&copied, &copied), None);
        assert_eq!(
            difference(&copied, &[pair("a", 1, 0), pair("c", 3, 0)]),
            None
        );
        let wrong = [
            vec![pair("a", 1, 0), pair("b", 2, 7)],
            vec![pair("a", 1, 0), pair("b", 2, 7), pair("c", 4, 0)],
            vec![pair("a", 1, 0), pair("b", 2, 0), pair("c", 3, 0)],
            vec![pair("a", 1, 0), pair("c", 3, 0), pair("d", 4, 0)],
        ];
        for restored in wrong {
            assert!(difference(&copied, &restored).is_some(), "{restored:?}");
        }
    }
}
