//! Which part of a long run a page draws one by one.

use serde::{Serialize, Serializer};

/// From one time to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: u64,
    pub until: u64,
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.from, self.until).serialize(serializer)
    }
}

impl Span {
    pub(super) fn contains(&self, at: u64) -> bool {
        (self.from..=self.until).contains(&at)
    }

    pub(super) fn middle(&self) -> u64 {
        self.from + (self.until - self.from) / 2
    }

    /// With a quarter of it on either side, and never so short that nothing can be told apart.
    pub(super) fn padded(&self, length: u64) -> Span {
        let pad = ((self.until - self.from) / 4).max(length / 2000).max(1000);
        Span {
            from: self.from.saturating_sub(pad),
            until: (self.until + pad).min(length.max(self.until)),
        }
    }

    pub(super) fn joined(span: Option<Span>, from: u64, until: Option<u64>) -> Option<Span> {
        let until = until.unwrap_or(from).max(from);
        Some(span.map_or(Span { from, until }, |span| Span {
            from: span.from.min(from),
            until: span.until.max(until),
        }))
    }
}

/// What is drawn one by one, of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    pub span: Span,
    pub shown: usize,
    pub total: usize,
}

/// The `most` of these times that stand around `centre`, half before and half after where there are so many; nothing
/// where all of them fit. More than `most` are shown only where many are one and the same time.
pub(super) fn nearest(mut times: Vec<u64>, centre: u64, most: usize) -> Option<Part> {
    let total = times.len();
    if total <= most || most == 0 {
        return None;
    }
    times.sort_unstable();
    let middle = times.partition_point(|time| *time < centre);
    let first = middle.saturating_sub(most / 2).min(total - most);
    let span = Span {
        from: times[first],
        until: times[first + most - 1],
    };
    let shown = times.iter().filter(|time| span.contains(**time)).count();
    Some(Part { span, shown, total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_drawn_where_they_fit() {
        assert_eq!(nearest(vec![3, 1, 2], 2, 3), None);
    }

    #[test]
    fn the_part_stands_around_the_centre_and_keeps_its_size_at_the_ends() {
        let times: Vec<u64> = (0..100).collect();
        let span = |centre| {
            let part = nearest(times.clone(), centre, 10).unwrap();
            assert_eq!((part.shown, part.total), (10, 100));
            (part.span.from, part.span.until)
        };
        assert_eq!(span(50), (45, 54));
        assert_eq!(span(0), (0, 9));
        assert_eq!(span(1000), (90, 99));
    }

    #[test]
    fn a_span_is_padded_within_the_run() {
        let span = Span {
            from: 1_000_000,
            until: 1_400_000,
        };
        let padded = span.padded(2_000_000);
        assert_eq!((padded.from, padded.until), (900_000, 1_500_000));
        let moment = Span { from: 0, until: 0 };
        let padded = moment.padded(10_000_000);
        assert_eq!((padded.from, padded.until), (0, 5_000));
    }
}
