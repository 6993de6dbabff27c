//! Groups such that each pair is in one of them.

use std::collections::BTreeSet;

/// Of the numbers below `count`, in groups of at most `size`. Not the fewest possible, but not many more: each group
/// takes in what has met least yet.
pub fn cover(count: usize, size: usize) -> Vec<Vec<usize>> {
    let mut open: BTreeSet<(usize, usize)> = BTreeSet::new();
    for one in 0..count {
        open.extend((one + 1..count).map(|other| (one, other)));
    }
    let mut groups = Vec::new();
    if count == 1 {
        groups.push(vec![0]);
    }
    while let Some(first) = open.first().copied() {
        let mut group = vec![first.0, first.1];
        while group.len() < size.min(count) {
            let met = |number: usize| {
                let pairs = group.iter();
                pairs
                    .filter(|it| open.contains(&pair(**it, number)))
                    .count()
            };
            let candidates = (0..count).filter(|number| !group.contains(number));
            // The first of the best.
            let best = candidates.max_by_key(|number| (met(*number), usize::MAX - number));
            match best {
                Some(best) if met(best) > 0 => group.push(best),
                _ => break,
            }
        }
        group.sort_unstable();
        for (place, one) in group.iter().enumerate() {
            for other in &group[place + 1..] {
                open.remove(&(*one, *other));
            }
        }
        groups.push(group);
    }
    groups
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_is_in_a_group_and_groups_are_few() {
        for count in 1..25 {
            let groups = cover(count, 5);
            for one in 0..count {
                for other in 0..count {
                    let both = |group: &&Vec<usize>| group.contains(&one) && group.contains(&other);
                    assert!(
                        groups.iter().any(|group| both(&group)),
                        "{one} {other} of {count}"
                    );
                }
            }
            assert!(groups.iter().all(|group| group.len() <= 5));
            let pairs = count * (count - 1) / 2;
            assert!(
                groups.len() <= pairs / 5 + 3,
                "{} for {count}",
                groups.len()
            );
        }
        assert!(cover(0, 5).is_empty());
    }
}
