//! Which data directory stands behind each member's id.
//!
//! What a member has promised, its votes and what it acknowledged, is in its data directory. A member that comes back
//! with another directory has forgotten its promises, and if it took part under its old id, a quorum could be counted
//! that is none. So each directory gets a random number when it is made, its incarnation, and every connection begins
//! with both ends saying theirs. The first one that is met under an id is the only one ever accepted under it: it is
//! stored here, durably, before the two exchange anything else. Where it was not met it is learned from the membership,
//! in which each member publishes its own.
//!
//! A member whose directory is lost comes back under a new id: it is removed and added (`members.rs`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::RngExt;

use crate::disk;
use crate::files::Files;
use crate::host;

/// Of a directory that was made before there were incarnations.
pub const LEGACY: u64 = 1;

const FILE: &str = "peers";
const HEAD: &str = "kontiki peers\nformat 1\n";

/// See the module head.
#[derive(Debug)]
pub struct Incarnations {
    files: Arc<dyn Files>,
    dir: PathBuf,
    known: Mutex<BTreeMap<u64, u64>>,
    /// Held while the file is written, which the other lock must not be: connections wait for it.
    writing: Mutex<()>,
}

/// Why a member is not accepted.
#[derive(Debug)]
pub enum NotMet {
    /// It was met before with this incarnation.
    Known(u64),
    /// It could not be stored, so it must not count as met.
    NotStored(io::Error),
}

/// For a new data directory; never [`LEGACY`] and never 0, which on the wire means that none is known.
pub fn mint() -> u64 {
    host::rng().random_range(LEGACY + 1..=u64::MAX)
}

impl Incarnations {
    /// Reads what was met, from a directory that is this member's; makes the file where `create` is set.
    pub fn open(files: Arc<dyn Files>, dir: &Path, create: bool) -> io::Result<Arc<Incarnations>> {
        let known = match files.read(&dir.join(FILE)) {
            Ok(text) => decode(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                store(&*files, dir, &BTreeMap::new())?;
                BTreeMap::new()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(disk::damaged("the file of known peers is missing"));
            }
            Err(error) => return Err(error),
        };
        Ok(Arc::new(Incarnations {
            files,
            dir: dir.into(),
            known: Mutex::new(known),
            writing: Mutex::new(()),
        }))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn of(&self, member: u64) -> Option<u64> {
        self.known().get(&member).copied()
    }

    pub fn all(&self) -> BTreeMap<u64, u64> {
        self.known().clone()
    }

    /// Accepts a member with this incarnation, if it is the known one or the first.
    pub async fn meet(self: &Arc<Self>, member: u64, incarnation: u64) -> Result<(), NotMet> {
        match self.of(member) {
            Some(known) if known == incarnation => return Ok(()),
            Some(known) => return Err(NotMet::Known(known)),
            None => {}
        }
        let this = self.clone();
        let first = host::blocking(move || this.meet_first(member, incarnation));
        first
            .await
            .map_err(|error| NotMet::NotStored(io::Error::other(error)))?
    }

    fn meet_first(&self, member: u64, incarnation: u64) -> Result<(), NotMet> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.all();
        match all.get(&member) {
            // Somebody was faster.
            Some(known) if *known == incarnation => return Ok(()),
            Some(known) => return Err(NotMet::Known(*known)),
            None => all.insert(member, incarnation),
        };
        store(&*self.files, &self.dir, &all).map_err(NotMet::NotStored)?;
        *self.known() = all;
        Ok(())
    }
}

fn encode(known: &BTreeMap<u64, u64>) -> String {
    let lines = known
        .iter()
        .map(|(member, incarnation)| format!("member {member:016x} {incarnation:016x}\n"));
    let body = HEAD.to_string() + &lines.collect::<String>();
    format!("{body}checksum {:08x}\n", crc32c::crc32c(body.as_bytes()))
}

fn decode(text: &str) -> io::Result<BTreeMap<u64, u64>> {
    let wrong = || disk::damaged("the file of known peers cannot be read");
    let number = |text: &str| u64::from_str_radix(text, 16).map_err(|_| wrong());
    let mut known = BTreeMap::new();
    for line in text.lines() {
        if let Some(pair) = line.strip_prefix("member ") {
            let (member, incarnation) = pair.split_once(' ').ok_or_else(wrong)?;
            known.insert(number(member)?, number(incarnation)?);
        }
    }
    if encode(&known) != text {
        return Err(wrong());
    }
    Ok(known)
}

/// Writes what was met, durably.
pub(crate) fn store(files: &dyn Files, dir: &Path, known: &BTreeMap<u64, u64>) -> io::Result<()> {
    let new = dir.join("peers.new");
    files.write(&new, encode(known).as_bytes())?;
    files.rename(&new, &dir.join(FILE))?;
    files.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::real;

    #[tokio::test]
    async fn the_first_one_is_the_only_one_even_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            Incarnations::open(real(), dir.path(), false).is_err(),
            "one that is missing is not made anew"
        );
        let peers = Incarnations::open(real(), dir.path(), true).unwrap();
        assert!(peers.meet(7, 100).await.is_ok());
        for peers in [
            peers,
            Incarnations::open(real(), dir.path(), false).unwrap(),
        ] {
            assert!(peers.meet(7, 100).await.is_ok());
            let other = peers.meet(7, 101).await;
            assert!(matches!(other, Err(NotMet::Known(100))), "{other:?}");
            assert_eq!(peers.of(7), Some(100));
        }
    }

    #[tokio::test]
    async fn who_cannot_be_stored_is_not_met() {
        let dir = tempfile::tempdir().unwrap();
        let peers = Incarnations::open(real(), dir.path(), true).unwrap();
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(matches!(
            peers.meet(7, 100).await,
            Err(NotMet::NotStored(_))
        ));
        assert_eq!(peers.of(7), None);
    }

    /// Data directories outlive versions: this must be readable for ever.
    #[test]
    fn golden_peers_file() {
        let known = BTreeMap::from([(1, 2), (0xab, u64::MAX)]);
        let golden = "kontiki peers\nformat 1\nmember 0000000000000001 0000000000000002\n\
                      member 00000000000000ab ffffffffffffffff\nchecksum 5dd4d0a5\n";
        assert_eq!(encode(&known), golden);
        assert_eq!(decode(golden).unwrap(), known);
        for (from, to) in [
            ("ab", "ac"),
            ("format 1", "format 2"),
            ("member 0", "memb 0"),
        ] {
            assert!(decode(&golden.replace(from, to)).is_err(), "{from}");
        }
    }
}
