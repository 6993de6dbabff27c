//! The choice among slots by their totals.

/// The one of the slots with the highest total that is picked; `None` when there is none.
pub(super) fn nth_best(
    candidates: &[u32],
    totals: &[i64],
    pick: &mut dyn FnMut(usize) -> usize,
) -> Option<u32> {
    let highest = *totals.iter().max()?;
    let equals = totals.iter().filter(|total| **total == highest).count();
    let picked = pick(equals).min(equals - 1);
    let mut best = candidates
        .iter()
        .zip(totals)
        .filter(|(_, total)| **total == highest);
    best.nth(picked).map(|(slot, _)| *slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_best_is_picked_in_the_order_of_the_slots() {
        let totals = [3, 7, 5, 7, 7];
        for (picked, slot) in [(0, 11), (1, 13), (2, 14), (9, 14)] {
            let mut pick = |equals: usize| {
                assert_eq!(equals, 3);
                picked
            };
            let best = nth_best(&[10, 11, 12, 13, 14], &totals, &mut pick);
            assert_eq!(best, Some(slot));
        }
        let below_zero = nth_best(&[1, 2], &[-5, -2], &mut |equals| equals);
        assert_eq!(below_zero, Some(2));
        assert_eq!(nth_best(&[], &[], &mut |_| 0), None);
    }
}
