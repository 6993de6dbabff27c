//! Which nodes have changed since when, so that whoever keeps something about all nodes looks again at few.

use crate::selector::Labels;
use host::HashSet;

/// So many changes are remembered; who has missed more looks at every node again.
const CHANGES_MAX: usize = 1 << 16;

/// What has changed, and where.
#[derive(Debug, Clone)]
struct Change {
    slot: u32,
    /// Of the pod that came or went, if that is all.
    pod: Option<Labels>,
}

/// The slots of nodes in the order of their changes. A position in it is a number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    changes: Vec<Change>,
    /// How many changes are forgotten.
    forgotten: u64,
}

/// A copy begins where the other one ends: nothing has been counted in the copy of a cluster yet, and copies are made for single
/// decisions.
impl Clone for Journal {
    fn clone(&self) -> Journal {
        Journal {
            changes: Vec::new(),
            forgotten: self.end(),
        }
    }
}

impl Journal {
    /// Something about the node in this slot has changed.
    pub(crate) fn note(&mut self, slot: u32) {
        self.push(Change { slot, pod: None });
    }

    /// A pod with these labels has come to the node in this slot, or left it, and nothing else has changed.
    pub(crate) fn note_pod(&mut self, slot: u32, labels: &Labels) {
        let pod = Some(labels.clone());
        self.push(Change { slot, pod });
    }

    fn push(&mut self, change: Change) {
        if self.changes.len() == CHANGES_MAX {
            self.changes.drain(..CHANGES_MAX / 2);
            self.forgotten += CHANGES_MAX as u64 / 2;
        }
        self.changes.push(change);
    }

    /// The position after the last change.
    pub(crate) fn end(&self) -> u64 {
        self.forgotten + self.changes.len() as u64
    }

    /// The changes since that position; `None` if that is not known any more.
    fn since(&self, position: u64) -> Option<&[Change]> {
        let known = position.checked_sub(self.forgotten)?;
        Some(&self.changes[known as usize..])
    }
}

/// Each slot once.
fn distinct<'a>(changes: impl Iterator<Item = &'a Change>) -> Vec<u32> {
    let mut seen = HashSet::default();
    changes
        .map(|change| change.slot)
        .filter(|slot| seen.insert(*slot))
        .collect()
}

/// How far somebody has read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reader {
    /// `None` before the first time.
    position: Option<u64>,
}

impl Reader {
    /// The slots at which to look again now, each once: all of them if it is not known which have changed.
    pub(super) fn changed(&mut self, journal: &Journal, slots: usize) -> Vec<u32> {
        match self.read(journal) {
            Some([change]) => vec![change.slot],
            // To look at each once is less than to find out which these are.
            Some(changes) if changes.len() <= slots => distinct(changes.iter()),
            _ => (0..slots as u32).collect(),
        }
    }

    /// The same for one who counts only pods whose labels are `wanted`: where others came and went is nothing to look at. With
    /// a hundred owners whose pods come in turns, that is all but one of a hundred changes.
    pub(super) fn changed_by(
        &mut self,
        journal: &Journal,
        slots: usize,
        mut wanted: impl FnMut(&Labels) -> bool,
    ) -> Vec<u32> {
        let Some(changes) = self.read(journal) else {
            return (0..slots as u32).collect();
        };
        let matters = |change: &&Change| change.pod.as_ref().is_none_or(&mut wanted);
        distinct(changes.iter().filter(matters))
    }

    /// What was noted since the last time; `None` the first time, and when that is forgotten.
    fn read<'a>(&mut self, journal: &'a Journal) -> Option<&'a [Change]> {
        let position = self.position.replace(journal.end())?;
        journal.since(position)
    }

    /// Next time every slot is to be looked at.
    pub(super) fn forget(&mut self) {
        self.position = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_each_changed_slot_once_and_all_of_them_when_it_comes_too_late() {
        let mut journal = Journal::default();
        let mut reader = Reader::default();
        assert_eq!(reader.changed(&journal, 3), [0, 1, 2]);
        assert!(reader.changed(&journal, 3).is_empty());
        for slot in [2, 0, 2] {
            journal.note(slot);
        }
        assert_eq!(reader.changed(&journal, 3), [2, 0]);
        let mut late = reader;
        for _ in 0..CHANGES_MAX {
            journal.note(1);
        }
        assert_eq!(
            reader.changed(&journal, 3),
            [0, 1, 2],
            "more changes than slots"
        );
        journal.note(1);
        assert_eq!(late.changed(&journal, 3), [0, 1, 2]);
        assert_eq!(reader.changed(&journal, 3), [1]);
    }

    #[test]
    fn a_copy_remembers_only_how_much_there_was() {
        let mut journal = Journal::default();
        journal.note(1);
        let mut copy = journal.clone();
        assert_eq!((copy.end(), copy.changes.len()), (1, 0));
        let mut reader = Reader::default();
        assert_eq!(reader.changed(&copy, 3), [0, 1, 2]);
        copy.note(2);
        assert_eq!(reader.changed(&copy, 3), [2]);
    }

    #[test]
    fn one_who_counts_some_pods_does_not_look_where_others_came() {
        let labels = |app: &str| Labels::from_iter([("app".to_owned(), app.to_owned())]);
        let mine = |labels: &Labels| labels.get("app").is_some_and(|app| app == "mine");
        let mut journal = Journal::default();
        let (mut some, mut every) = (Reader::default(), Reader::default());
        assert_eq!(some.changed_by(&journal, 3, mine), [0, 1, 2]);
        every.changed(&journal, 3);
        journal.note_pod(2, &labels("others"));
        journal.note_pod(1, &labels("mine"));
        journal.note_pod(1, &labels("mine"));
        assert_eq!(some.changed_by(&journal, 3, mine), [1]);
        assert_eq!(every.changed(&journal, 3), [2, 1]);
        journal.note(2);
        journal.note_pod(0, &labels("others"));
        assert_eq!(some.changed_by(&journal, 3, mine), [2], "the node itself");
        assert!(some.changed_by(&journal, 3, mine).is_empty());
        for _ in 0..=CHANGES_MAX {
            journal.note_pod(0, &labels("others"));
        }
        assert_eq!(some.changed_by(&journal, 3, mine), [0, 1, 2], "forgotten");
    }
}
