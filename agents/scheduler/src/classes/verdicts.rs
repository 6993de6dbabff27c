//! What was found for maps of labels lately. Pods of one owner share their map, so it is found once and not for each of them.

use crate::selector::Labels;

/// So many are remembered.
const REMEMBERED: usize = 256;
/// The blocks of two maps are at least so many bytes apart.
const BLOCK: usize = 32;

/// See the module head. All questions to one of these have to be the same.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// By where the map is. It is kept, so that no other one can come to be there.
    known: Vec<Option<(Labels, bool)>>,
}

impl Verdicts {
    /// The verdict on these labels; `judge` is asked if it is not remembered.
    pub(super) fn of(&mut self, labels: &Labels, judge: impl FnOnce(&Labels) -> bool) -> bool {
        if self.known.is_empty() {
            self.known.resize_with(REMEMBERED, || None);
        }
        let address = labels.address();
        let known = &mut self.known[address / BLOCK % REMEMBERED];
        if let Some((of, verdict)) = known
            && of.address() == address
        {
            return *verdict;
        }
        let verdict = judge(labels);
        *known = Some((labels.clone(), verdict));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_map_is_judged_once_and_a_new_one_in_its_place_anew() {
        let labels = |app: usize| Labels::from_iter([("app".to_owned(), app.to_string())]);
        let mut verdicts = Verdicts::default();
        let mut judged = 0;
        let mut of = |labels: &Labels| {
            verdicts.of(labels, |labels| {
                judged += 1;
                labels.get("app").is_some_and(|app| app == "1")
            })
        };
        let (one, none) = (labels(1), Labels::new());
        for _ in 0..2 {
            assert!(of(&one) && of(&one.clone()) && !of(&none));
        }
        // More than are remembered, and each is gone before the next one comes.
        for app in 2..5 * REMEMBERED {
            assert!(!of(&labels(app)), "{app}");
            assert!(of(&labels(1)));
        }
        assert!(of(&one) && !of(&none));
        let mut few = Verdicts::default();
        assert!(few.of(&one, |_| true) && few.of(&one, |_| unreachable!()));
        assert!(judged > 2);
    }
}
