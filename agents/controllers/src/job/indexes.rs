//! Sets of completion indexes, written as in a Job's status: `0-2,5,7`.

use agent_runtime::kinds::Pod;
use std::fmt;

/// Where a pod says which index it is; an annotation and a label.
pub(super) const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The index of a pod.
pub(super) fn completion_index(pod: &Pod) -> Option<i64> {
    let text = pod.metadata.annotations.get(COMPLETION_INDEX)?;
    text.parse().ok().filter(|index| *index >= 0)
}

/// Ordered intervals, first and last included, with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Intervals(Vec<(i64, i64)>);

impl Intervals {
    /// Reads a text, as far as it is below `completions`. What cannot be read is left out, as in Kubernetes.
    pub(super) fn parse(text: &str, completions: i64) -> Self {
        let interval = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: i64 = first.parse().ok().filter(|first| *first >= 0)?;
            let last: i64 = last.parse().ok()?;
            Some((first, last.min(completions - 1)))
        };
        Self::of(text.split(',').filter_map(interval).collect())
    }

    fn of(mut intervals: Vec<(i64, i64)>) -> Self {
        intervals.retain(|(first, last)| first <= last);
        intervals.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::new();
        for (first, last) in intervals {
            match merged.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// With these as well.
    pub(super) fn with(&self, indexes: impl Iterator<Item = i64>) -> Self {
        let more = indexes.map(|index| (index, index));
        Self::of(self.0.iter().copied().chain(more).collect())
    }

    /// All that are in either.
    pub(super) fn union(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied().collect())
    }

    /// How many there are.
    pub(super) fn total(&self) -> i64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(super) fn has(&self, index: i64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many are in both.
    pub(super) fn overlap(&self, other: &Self) -> i64 {
        let (mut a, mut b, mut count) = (0, 0, 0);
        while let (Some(x), Some(y)) = (self.0.get(a), other.0.get(b)) {
            count += (x.1.min(y.1) - x.0.max(y.0) + 1).max(0);
            if x.1 <= y.1 {
                a += 1;
            } else {
                b += 1;
            }
        }
        count
    }

    /// The first `count` indexes below `completions` that are not here.
    pub(super) fn first_missing(&self, count: usize, completions: i64) -> Vec<i64> {
        let mut missing = Vec::new();
        let mut next = 0;
        for (first, last) in self.0.iter().copied().chain([(completions, completions)]) {
            let room = count - missing.len();
            missing.extend((next..first.min(completions)).take(room));
            next = last.saturating_add(1);
        }
        missing
    }
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn texts_are_read_and_written_as_in_kubernetes() {
        for (text, completions, written) in [
            ("", 5, ""),
            ("0", 5, "0"),
            ("0,1", 5, "0,1"),
            ("0-2,4", 5, "0-2,4"),
            ("0,1,2", 5, "0-2"),
            ("0-9", 5, "0-4"),
            ("3,7-9", 5, "3"),
            ("1-x,x,-3,3,-", 5, "3"),
            ("4-2,3", 5, "3"),
            ("99999999999999999999,1", 5, "1"),
            ("0-9223372036854775807", 3, "0-2"),
        ] {
            let read = Intervals::parse(text, completions);
            assert_eq!(read.to_string(), written, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn intervals_are_sets(a in prop::collection::btree_set(0i64..40, 0..30), b in prop::collection::btree_set(0i64..40, 0..30), count in 0usize..50) {
            let set = |of: &BTreeSet<i64>| Intervals::default().with(of.iter().copied());
            let (x, y) = (set(&a), set(&b));
            prop_assert_eq!(Intervals::parse(&x.to_string(), 40), x.clone());
            prop_assert_eq!(x.total(), i64::try_from(a.len()).unwrap());
            prop_assert_eq!(x.union(&y), set(&a.union(&b).copied().collect()));
            prop_assert_eq!(x.overlap(&y), i64::try_from(a.intersection(&b).count()).unwrap());
            prop_assert!((0..40).all(|i| x.has(i) == a.contains(&i)));
            let missing: Vec<i64> = (0..40).filter(|i| !a.contains(i)).take(count).collect();
            prop_assert_eq!(x.first_missing(count, 40), missing);
        }
    }
}
