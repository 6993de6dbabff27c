//! Between times and revisions. Each retained revision says when it was made (by the clock of who proposed it), and those
//! times grow with the revisions, so a time is found by halving.

use kv::{Broken, Refusal};

/// A revision and when it was made, milliseconds since 1970; 0 where that was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub revision: i64,
    pub unix_ms: i64,
}

/// The retained revisions of a state.
pub(crate) struct Retained<'a> {
    /// 0 where all are there.
    pub(crate) compact_revision: i64,
    pub(crate) revision: i64,
    /// The first retained revision from this one on, up to the newest. There may be gaps: after a restore, say.
    pub(crate) next: &'a dyn Fn(i64) -> Result<Option<Moment>, Broken>,
}

type Found = Result<Result<Moment, Refusal>, Broken>;

impl Retained<'_> {
    /// The newest revision at a time.
    pub(crate) fn at(&self, unix_ms: i64) -> Found {
        let (mut low, mut high) = (self.compact_revision.max(1), self.revision);
        let mut found = None;
        while low <= high {
            let middle = low + (high - low) / 2;
            match (self.next)(middle)? {
                Some(moment) if moment.unix_ms <= unix_ms => {
                    found = Some(moment);
                    low = moment.revision + 1;
                }
                // Nothing from the middle on, or nothing that early.
                _ => high = middle - 1,
            }
        }
        Ok(match found {
            Some(moment) => Ok(moment),
            // Before the first write there was an empty store.
            None if self.compact_revision <= 1 => Ok(Moment {
                revision: 1,
                unix_ms: 0,
            }),
            None => Err(Refusal::Compacted {
                compact_revision: self.compact_revision,
            }),
        })
    }

    /// When a revision was made.
    pub(crate) fn time_of(&self, revision: i64) -> Found {
        if revision > self.revision {
            return Ok(Err(Refusal::FutureRevision));
        }
        if revision < self.compact_revision {
            return Ok(Err(Refusal::Compacted {
                compact_revision: self.compact_revision,
            }));
        }
        let made = (self.next)(revision)?.filter(|moment| moment.revision == revision);
        Ok(Ok(made.unwrap_or(Moment {
            revision,
            unix_ms: 0,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search in a list, against looking through all of it.
    #[test]
    fn a_time_is_the_newest_revision_that_is_not_later() {
        // Two in one millisecond, a gap as after a restore, and an end that is not a revision.
        let times = [(4, 10), (5, 20), (6, 20), (1000, 30), (1001, 50)];
        let next = |from: i64| {
            let found = times.iter().find(|(revision, _)| *revision >= from);
            Ok(found.map(|(revision, unix_ms)| Moment {
                revision: *revision,
                unix_ms: *unix_ms,
            }))
        };
        let retained = |compact_revision| Retained {
            compact_revision,
            revision: 1005,
            next: &next,
        };
        for unix_ms in 0..60 {
            let newest = times.iter().rev().find(|(_, time)| *time <= unix_ms);
            let found = retained(4).at(unix_ms).unwrap();
            match newest {
                Some((revision, time)) => {
                    let moment = found.unwrap();
                    assert_eq!((moment.revision, moment.unix_ms), (*revision, *time));
                }
                None => {
                    let compacted = Refusal::Compacted {
                        compact_revision: 4,
                    };
                    assert_eq!(found, Err(compacted));
                }
            }
        }
        let empty = Moment {
            revision: 1,
            unix_ms: 0,
        };
        assert_eq!(retained(0).at(9).unwrap(), Ok(empty));
        assert_eq!(retained(4).time_of(5).unwrap().unwrap().unix_ms, 20);
        assert_eq!(retained(4).time_of(7).unwrap().unwrap().unix_ms, 0);
        assert_eq!(
            retained(4).time_of(1006).unwrap(),
            Err(Refusal::FutureRevision)
        );
        assert!(retained(4).time_of(3).unwrap().is_err());
    }
}
