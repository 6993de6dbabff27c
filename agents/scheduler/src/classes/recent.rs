//! A few things of a kind, the one used last in front. What has not been used for long is dropped.

/// Entries per kind.
const ENTRIES_MAX: usize = 256;
/// Numbers that all entries of a kind may hold, as a bound on their memory: about 8 bytes each.
const NUMBERS_MAX: usize = 8 << 20;
/// An entry that was not used for so many decisions is not used any more.
const IDLE_MAX: u64 = 1 << 16;

/// See the module head.
#[derive(Debug)]
pub(super) struct Recent<T> {
    entries: Vec<Entry<T>>,
    uses: u64,
}

#[derive(Debug)]
struct Entry<T> {
    used: u64,
    // Boxed, because entries change places often.
    value: Box<T>,
}

impl<T> Default for Recent<T> {
    fn default() -> Recent<T> {
        Recent {
            entries: Vec::new(),
            uses: 0,
        }
    }
}

impl<T> Recent<T> {
    /// The entry that is the wanted one, made if it is not there. `numbers` are held by one entry.
    pub(super) fn get(
        &mut self,
        numbers: usize,
        wanted: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> &mut T {
        self.uses += 1;
        let found = self.entries.iter().position(|entry| wanted(&entry.value));
        match found {
            Some(at) => self.entries[..=at].rotate_right(1),
            None => {
                let most = (NUMBERS_MAX / numbers.max(1)).clamp(1, ENTRIES_MAX);
                self.entries.truncate(most - 1);
                let value = Box::new(make());
                self.entries.insert(0, Entry { used: 0, value });
            }
        }
        self.entries[0].used = self.uses;
        if self
            .entries
            .last()
            .is_some_and(|last| last.used + IDLE_MAX < self.uses)
        {
            self.entries.pop();
        }
        &mut self.entries[0].value
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_not_used_for_longest_makes_room() {
        let mut recent = Recent::default();
        let get = |recent: &mut Recent<u32>, wanted: u32, made: &mut bool| {
            *made = false;
            recent.get(
                NUMBERS_MAX / 3,
                |entry| *entry == wanted,
                || {
                    *made = true;
                    wanted
                },
            );
        };
        let mut made = false;
        for wanted in [1, 2, 3, 1, 4] {
            get(&mut recent, wanted, &mut made);
        }
        assert_eq!(recent.len(), 3);
        get(&mut recent, 1, &mut made);
        assert!(!made, "it was used again in between");
        get(&mut recent, 2, &mut made);
        assert!(made);
        for _ in 0..=IDLE_MAX + 2 {
            get(&mut recent, 2, &mut made);
        }
        assert_eq!(recent.len(), 1);
    }
}
