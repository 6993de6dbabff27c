//! Which trees are worth their room: those of writes after which somebody asks for what was written while it is kept. Where
//! the next one to change an object comes to another member, or when thousands of others were written, nobody does, and then
//! a tree that is kept only makes the others leave sooner, and is freed when no processor has it at hand any more.

/// So many trees that nobody asked for tell that their like are not worth it, ..
const UNASKED_MIN: u32 = 128;
/// .. where there are so many of them for each that somebody asked for.
const UNASKED_FOR_ONE: u32 = 8;
/// Of trees that are not worth it one in so many is kept all the same, which shows when they become so.
const PROBED: u32 = 16;
/// What was seen before so many trees counts half.
const LOOKED_AT: u32 = 512;

/// What kind of a write made a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    /// Of the resource.
    pub(crate) plural: &'a str,
    /// Whether the object was not there before.
    pub(crate) is_new: bool,
}

/// What is known of each kind of writes, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Worths(Vec<Worth>);

#[derive(Debug)]
struct Worth {
    plural: Box<str>,
    is_new: bool,
    /// Of its trees that are kept no longer, so many were asked for, ..
    asked: u32,
    /// .. and so many were not.
    unasked: u32,
    /// Since one was kept.
    passed: u32,
}

impl Worths {
    /// Where a kind of writes stands.
    pub(super) fn place(&mut self, source: Source<'_>) -> usize {
        let Source { plural, is_new } = source;
        let is_it = |worth: &Worth| worth.is_new == is_new && *worth.plural == *plural;
        let known = self.0.iter().position(is_it);
        known.unwrap_or_else(|| {
            self.0.push(Worth {
                plural: plural.into(),
                is_new,
                asked: 0,
                unasked: 0,
                passed: 0,
            });
            self.0.len() - 1
        })
    }

    /// Whether to keep the next tree of a kind of writes.
    pub(super) fn keeps(&mut self, place: usize) -> bool {
        let Some(worth) = self.0.get_mut(place) else {
            return true;
        };
        let is_worth_it =
            worth.unasked < UNASKED_MIN || worth.asked * UNASKED_FOR_ONE >= worth.unasked;
        worth.passed = match is_worth_it {
            true => 0,
            false => (worth.passed + 1) % PROBED,
        };
        worth.passed == 0
    }

    /// A tree is kept no longer.
    pub(super) fn left(&mut self, place: usize, was_asked_for: bool) {
        let Some(worth) = self.0.get_mut(place) else {
            return;
        };
        match was_asked_for {
            true => worth.asked += 1,
            false => worth.unasked += 1,
        }
        if worth.asked + worth.unasked >= LOOKED_AT {
            worth.asked /= 2;
            worth.unasked /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(worths: &mut Worths, place: usize) -> usize {
        (0..10 * PROBED).filter(|_| worths.keeps(place)).count()
    }

    #[test]
    fn what_nobody_asks_for_is_seldom_kept() {
        let mut worths = Worths::default();
        let source = |plural, is_new| Source { plural, is_new };
        let [pods, changed, others] = [("pods", true), ("pods", false), ("nodes", true)]
            .map(|(plural, is_new)| worths.place(source(plural, is_new)));
        assert_eq!(worths.place(source("pods", true)), pods);
        for _ in 0..UNASKED_MIN - 1 {
            worths.left(pods, false);
        }
        assert_eq!(kept(&mut worths, pods), 160);
        // It is not told apart by few.
        for _ in 0..10 * LOOKED_AT {
            worths.left(pods, false);
        }
        assert_eq!(kept(&mut worths, pods), 10);
        assert_eq!(kept(&mut worths, changed), 160);
        assert_eq!(kept(&mut worths, others), 160);
        // Those that are kept all the same are asked for.
        for _ in 0..LOOKED_AT / UNASKED_FOR_ONE {
            worths.left(pods, true);
        }
        assert_eq!(kept(&mut worths, pods), 160);
    }

    #[test]
    fn one_in_a_few_that_is_asked_for_is_enough() {
        let mut worths = Worths::default();
        let source = Source {
            plural: "pods",
            is_new: false,
        };
        let pods = worths.place(source);
        for at in 0..10 * LOOKED_AT {
            worths.left(pods, at % UNASKED_FOR_ONE == 0);
        }
        assert_eq!(kept(&mut worths, pods), 160);
    }
}
