//! How full the volumes of claims are, for the node's `/metrics`: what alerts about disks that fill up ask for.
//!
//! A volume may be a file system that does not answer any more. They are looked at by one thread at a time, which nobody who
//! asks waits for; what was seen too long ago is told to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::StatVfs;
use serde_json::Value;
use time::OffsetDateTime;

use super::cadvisor::quoted;
use crate::agent::Agent;
use crate::clock;
use crate::volumes::claimed::Claimed;

/// As in Kubernetes.
const PERIOD: Duration = Duration::from_secs(60);
const STALE: Duration = Duration::from_secs(300);

/// Namespace and name of a claim.
type Claim = (String, String);

/// The volumes of the node's pods, and the last look at them.
#[derive(Debug, Default)]
pub(crate) struct Volumes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By the claim and the UID of a pod that uses it.
    places: BTreeMap<(Claim, String), PathBuf>,
    at: Option<OffsetDateTime>,
    sizes: BTreeMap<Claim, Size>,
}

/// What a file system says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    capacity: u64,
    /// To those who are not root.
    available: u64,
    used: u64,
    inodes: u64,
    inodes_free: u64,
}

impl Size {
    fn of(read: &StatVfs) -> Size {
        let bytes = |blocks: u64| blocks.saturating_mul(read.f_frsize);
        Size {
            capacity: bytes(read.f_blocks),
            available: bytes(read.f_bavail),
            used: bytes(read.f_blocks.saturating_sub(read.f_bfree)),
            inodes: read.f_files,
            inodes_free: read.f_ffree,
        }
    }
}

/// A figure, its name and what it tells.
type Figure = (&'static str, &'static str, fn(&Size) -> u64);

const FIGURES: &[Figure] = &[
    (
        "kubelet_volume_stats_available_bytes",
        "Number of available bytes in the volume",
        |size| size.available,
    ),
    (
        "kubelet_volume_stats_capacity_bytes",
        "Capacity in bytes of the volume",
        |size| size.capacity,
    ),
    (
        "kubelet_volume_stats_inodes",
        "Maximum number of inodes in the volume",
        |size| size.inodes,
    ),
    (
        "kubelet_volume_stats_inodes_free",
        "Number of free inodes in the volume",
        |size| size.inodes_free,
    ),
    (
        "kubelet_volume_stats_inodes_used",
        "Number of used inodes in the volume",
        |size| size.inodes.saturating_sub(size.inodes_free),
    ),
    (
        "kubelet_volume_stats_used_bytes",
        "Number of used bytes in the volume",
        |size| size.used,
    ),
];

impl Volumes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod with this UID uses this claim, whose volume is there.
    pub(crate) fn found(&self, namespace: &str, claim: &str, pod_uid: &str, place: &Claimed) {
        let path = match place {
            Claimed::Path(path) => PathBuf::from(&path.path),
            Claimed::Directory(path) => path.clone(),
        };
        let claim = (namespace.to_owned(), claim.to_owned());
        let key = (claim, pod_uid.to_owned());
        self.state().places.insert(key, path);
    }

    /// Forgets the volumes of pods that are not among these; gives the rest.
    fn used_by(&self, pod_uids: &BTreeSet<String>) -> BTreeMap<Claim, PathBuf> {
        let mut state = self.state();
        state.places.retain(|(_, uid), _| pod_uids.contains(uid));
        let places = state.places.iter();
        places
            .map(|((claim, _), path)| (claim.clone(), path.clone()))
            .collect()
    }

    fn take(&self, at: OffsetDateTime, sizes: BTreeMap<Claim, Size>) {
        let mut state = self.state();
        (state.at, state.sizes) = (Some(at), sizes);
    }

    /// The text for Prometheus; none where there is no volume, or where none was looked at for a while.
    pub(crate) fn exposed(&self, now: OffsetDateTime) -> String {
        let mut text = String::new();
        let state = self.state();
        let is_fresh = state.at.is_some_and(|at| (now - at).abs() < STALE);
        if !is_fresh || state.sizes.is_empty() {
            return text;
        }
        for (name, help, figure) in FIGURES {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
            for ((namespace, claim), size) in &state.sizes {
                let (namespace, claim) = (quoted(namespace), quoted(claim));
                let _ = writeln!(
                    text,
                    "{name}{{namespace=\"{namespace}\",persistentvolumeclaim=\"{claim}\"}} {}",
                    figure(size)
                );
            }
        }
        text
    }
}

/// What cannot be read is left out.
fn read(places: BTreeMap<Claim, PathBuf>) -> BTreeMap<Claim, Size> {
    let sizes = places.into_iter().filter_map(|(claim, path)| {
        let read = rustix::fs::statvfs(&path).ok()?;
        Some((claim, Size::of(&read)))
    });
    sizes.collect()
}

fn uid(pod: &Value) -> Option<String> {
    let uid = pod.pointer("/metadata/uid")?.as_str()?;
    Some(uid.to_owned())
}

/// Looks at the volumes at a steady pace; runs until dropped.
pub(crate) async fn keep(agent: Arc<Agent>) {
    if agent.is_hollow() {
        // Its pods have no volumes.
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let pods = agent.pod_objects();
        let uids = pods.iter().filter_map(|pod| uid(pod)).collect();
        let places = agent.stats.volumes.used_by(&uids);
        if let Ok(sizes) = tokio::task::spawn_blocking(move || read(places)).await {
            agent.stats.volumes.take(clock::now(), sizes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_told_of_by_their_claims_for_as_long_as_a_pod_uses_them() {
        let volumes = Volumes::default();
        let here = Claimed::Directory(PathBuf::from("/"));
        let nowhere = Claimed::Directory(PathBuf::from("/nowhere/at/all"));
        volumes.found("d", "data", "one", &here);
        volumes.found("d", "data", "two", &here);
        volumes.found("d", "gone", "two", &nowhere);
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let uids = |all: &[&str]| all.iter().map(|uid| (*uid).to_owned()).collect();
        assert_eq!(volumes.exposed(now), "", "nobody has looked yet");

        volumes.take(now, read(volumes.used_by(&uids(&["two"]))));
        let text = volumes.exposed(now);
        let of = "{namespace=\"d\",persistentvolumeclaim=\"data\"} ";
        for (name, ..) in FIGURES {
            let head = format!("{name}{of}");
            let line = text.lines().find_map(|line| line.strip_prefix(&*head));
            assert!(
                line.is_some_and(|value| value.parse::<u64>().is_ok()),
                "{name}\n{text}"
            );
        }
        assert!(!text.contains("gone"), "{text}");
        assert_eq!(volumes.exposed(now + STALE), "");

        volumes.take(now, read(volumes.used_by(&uids(&["three"]))));
        assert_eq!(volumes.exposed(now), "");
    }

    #[test]
    fn what_is_kept_for_root_is_neither_available_nor_used() {
        let size = Size {
            capacity: 1_000,
            available: 300,
            used: 600,
            inodes: 10,
            inodes_free: 7,
        };
        let value = |name: &str| {
            let found = FIGURES.iter().find(|(known, ..)| known.ends_with(name));
            found.map(|(_, _, figure)| figure(&size))
        };
        let names = [
            "_capacity_bytes",
            "_available_bytes",
            "_used_bytes",
            "_inodes_used",
        ];
        assert_eq!(names.map(value), [1_000, 300, 600, 3].map(Some));
    }
}
