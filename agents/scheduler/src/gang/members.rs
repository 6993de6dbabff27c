//! Who is in which group, and who is kept out of the queue until the group is complete.

use super::{Key, key};
use crate::object::Pod;
use std::collections::{BTreeMap, BTreeSet};

/// See the module head.
#[derive(Debug, Default)]
pub(crate) struct Members {
    gangs: BTreeMap<Key, Gang>,
}

#[derive(Debug, Default)]
struct Gang {
    /// By uid: pods that wait and could be placed, and pods that have a node or have had one and ended well.
    there: BTreeMap<String, Member>,
    /// The counts that members name, and how many name each. The largest holds.
    counts: BTreeMap<u32, usize>,
    /// Those that wait for the others.
    kept_out: BTreeSet<String>,
}

#[derive(Debug)]
struct Member {
    min_count: u32,
    placed: bool,
}

impl Gang {
    fn min_count(&self) -> usize {
        let largest = self.counts.last_key_value();
        largest.map_or(0, |(count, _)| *count as usize)
    }

    fn is_complete(&self) -> bool {
        self.there.len() >= self.min_count()
    }

    fn forget(&mut self, uid: &str) {
        self.kept_out.remove(uid);
        let Some(member) = self.there.remove(uid) else {
            return;
        };
        if let Some(naming) = self.counts.get_mut(&member.min_count) {
            *naming -= 1;
            if *naming == 0 {
                self.counts.remove(&member.min_count);
            }
        }
    }
}

impl Members {
    /// The pod counts from now on; `placed` if the API says that it has a node.
    pub(crate) fn join(&mut self, pod: &Pod, placed: bool) {
        let (Some(key), Some(group)) = (key(pod), &pod.group) else {
            return;
        };
        let gang = self.gangs.entry(key).or_default();
        let min_count = group.min_count;
        let known = gang.there.get_mut(&pod.uid);
        if let Some(member) = known.filter(|member| member.min_count == min_count) {
            member.placed = placed;
            return;
        }
        gang.forget(&pod.uid);
        *gang.counts.entry(min_count).or_default() += 1;
        let member = Member { min_count, placed };
        gang.there.insert(pod.uid.clone(), member);
    }

    /// The pod counts no more.
    pub(crate) fn leave(&mut self, pod: &Pod) {
        let Some(key) = key(pod) else { return };
        if let Some(gang) = self.gangs.get_mut(&key) {
            gang.forget(&pod.uid);
            if gang.there.is_empty() && gang.kept_out.is_empty() {
                self.gangs.remove(&key);
            }
        }
    }

    /// All groups.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.gangs.keys()
    }

    /// Whether as many are there as the group needs.
    pub(crate) fn is_complete(&self, key: &Key) -> bool {
        self.gangs.get(key).is_some_and(Gang::is_complete)
    }

    /// How many the group needs.
    pub(crate) fn min_count(&self, key: &Key) -> usize {
        self.gangs.get(key).map_or(0, Gang::min_count)
    }

    /// The uids of those that are there, and whether the API says that they have a node.
    pub(crate) fn of(&self, key: &Key) -> impl Iterator<Item = (&str, bool)> {
        let there = self.gangs.get(key).into_iter().flat_map(|gang| &gang.there);
        there.map(|(uid, member)| (uid.as_str(), member.placed))
    }

    /// A pod waits for the others of its group.
    pub(crate) fn keep_out(&mut self, key: Key, uid: &str) {
        let gang = self.gangs.entry(key).or_default();
        gang.kept_out.insert(uid.to_owned());
    }

    /// If the group is complete: those that have waited for that.
    pub(crate) fn let_in(&mut self, key: &Key) -> BTreeSet<String> {
        match self.gangs.get_mut(key) {
            Some(gang) if gang.is_complete() => std::mem::take(&mut gang.kept_out),
            _ => BTreeSet::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Group;

    fn pod(uid: &str, min_count: u32) -> Pod {
        let mut pod = Pod {
            namespace: "d".into(),
            uid: uid.into(),
            ..Pod::default()
        };
        pod.group = Some(Group {
            name: "g".into(),
            min_count,
        });
        pod
    }

    fn key() -> Key {
        ("d".into(), "g".into())
    }

    #[test]
    fn the_largest_count_of_any_member_holds_as_long_as_that_member_is_there() {
        let mut members = Members::default();
        members.join(&pod("a", 2), false);
        assert!(!members.is_complete(&key()));
        members.join(&pod("b", 3), true);
        assert_eq!(
            (members.min_count(&key()), members.is_complete(&key())),
            (3, false)
        );
        members.join(&pod("b", 2), true);
        assert!(members.is_complete(&key()));
        assert_eq!(
            members.of(&key()).collect::<Vec<_>>(),
            [("a", false), ("b", true)]
        );
        members.leave(&pod("b", 2));
        members.leave(&pod("b", 2));
        assert!(!members.is_complete(&key()));
        members.leave(&pod("a", 2));
        assert!(members.gangs.is_empty());
    }

    #[test]
    fn those_that_wait_are_let_in_once_and_all_at_once() {
        let mut members = Members::default();
        for uid in ["a", "b"] {
            members.join(&pod(uid, 2), false);
            members.keep_out(key(), uid);
            let expected = if uid == "b" { vec!["a", "b"] } else { vec![] };
            assert_eq!(Vec::from_iter(members.let_in(&key())), expected);
        }
        assert!(members.let_in(&key()).is_empty());
    }
}
