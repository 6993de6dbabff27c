//! Shuffle sharding: each flow gets a hand of a few queues out of many, so that two flows rarely share all of theirs,
//! and a flow that fills its hand leaves others a way. Pure.

/// Cards of a hand at most; Kubernetes' own limit on the entropy of a hand leaves fewer for any deck that is of use.
pub(crate) const HAND_MAX: usize = 16;

/// Calls `visit` with the `hand` different queues below `deck` that the flow has. Nothing is allocated.
pub(crate) fn deal(flow: u64, deck: usize, hand: usize, mut visit: impl FnMut(usize)) {
    let mut cards = [0usize; HAND_MAX];
    let mut rest = flow;
    for dealt in 0..hand.min(HAND_MAX).min(deck) {
        let left = (deck - dealt) as u64;
        let mut card = (rest % left) as usize;
        rest /= left;
        // The card is one of those that are left: what was dealt before it is skipped.
        let mut at = 0;
        while at < dealt && cards[at] <= card {
            card += 1;
            at += 1;
        }
        cards.copy_within(at..dealt, at + 1);
        cards[at] = card;
        visit(card);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hand(flow: u64, deck: usize, hand: usize) -> Vec<usize> {
        let mut cards = Vec::new();
        deal(flow, deck, hand, |card| cards.push(card));
        cards
    }

    proptest::proptest! {
        #[test]
        fn a_hand_is_of_different_queues(flow: u64, deck in 1usize..1_000, size in 1usize..=HAND_MAX) {
            let mut cards = hand(flow, deck, size);
            assert_eq!(cards.len(), size.min(deck));
            assert!(cards.iter().all(|card| *card < deck));
            cards.sort_unstable();
            cards.dedup();
            assert_eq!(cards.len(), size.min(deck));
        }
    }

    #[test]
    fn every_hand_comes_equally_often() {
        let mut seen = std::collections::BTreeMap::<Vec<usize>, usize>::new();
        for flow in 0..5 * 4 * 3 {
            *seen.entry(hand(flow, 5, 3)).or_default() += 1;
        }
        assert_eq!(seen.len(), 60, "every order of every three of five");
    }

    #[test]
    fn flows_seldom_share_a_hand() {
        // 64 queues and hands of 6, as for nodes: one flow that fills its hand leaves all but a few others a way.
        let hasher = |flow: u64| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            flow.hash(&mut hasher);
            hasher.finish()
        };
        let bad = hand(hasher(0), 64, 6);
        let squeezed = (1..10_000).filter(|flow| {
            let own = hand(hasher(*flow), 64, 6);
            own.iter().all(|card| bad.contains(card))
        });
        assert_eq!(squeezed.count(), 0);
    }
}
