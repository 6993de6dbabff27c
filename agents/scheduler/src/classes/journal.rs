//! Which nodes have changed since when, so that whoever keeps something about all nodes looks again at few.

use host::HashSet;

/// So many changes are remembered; who has missed more looks at every node again.
const CHANGES_MAX: usize = 1 << 16;

/// The slots of nodes in the order of their changes. A position in it is a number that only grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal {
    changes: Vec<u32>,
    /// How many changes are forgotten.
    forgotten: u64,
}

impl Journal {
    /// Something about the node in this slot has changed.
    pub(crate) fn note(&mut self, slot: u32) {
        if self.changes.len() == CHANGES_MAX {
            self.changes.drain(..CHANGES_MAX / 2);
            self.forgotten += CHANGES_MAX as u64 / 2;
        }
        self.changes.push(slot);
    }

    /// The position after the last change.
    pub(crate) fn end(&self) -> u64 {
        self.forgotten + self.changes.len() as u64
    }

    /// The slots that have changed since that position, each once; all of them if that is not known any more.
    fn since(&self, position: u64, slots: usize) -> Vec<u32> {
        let all = || (0..slots as u32).collect();
        let Some(known) = position.checked_sub(self.forgotten) else {
            return all();
        };
        let changes = &self.changes[known as usize..];
        match changes {
            [] | [_] => changes.to_vec(),
            // To look at each once is less than to find out which these are.
            many if many.len() > slots => all(),
            many => {
                let mut seen = HashSet::default();
                let first = |slot: &u32| seen.insert(*slot);
                many.iter().copied().filter(first).collect()
            }
        }
    }
}

/// How far somebody has read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reader {
    /// `None` before the first time.
    position: Option<u64>,
}

impl Reader {
    /// The slots at which to look again now.
    pub(super) fn changed(&mut self, journal: &Journal, slots: usize) -> Vec<u32> {
        let position = self.position.replace(journal.end());
        match position {
            Some(position) => journal.since(position, slots),
            None => (0..slots as u32).collect(),
        }
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
}
