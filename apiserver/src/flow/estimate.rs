//! How much work a request is, before it is done: seats, bytes of its answer, and what a write makes watchers do. Pure;
//! with Kubernetes' constants.

use super::queues::Want;

/// Bytes of a list for which a seat is taken.
const BYTES_PER_SEAT: u64 = 100_000;
/// A list that is sent in pieces never holds more than this at once.
const STREAMED_BYTES_MAX: u64 = 1_000_000;
/// Seats of one request at most, whatever its level has.
const SEATS_MAX: u32 = 10;
const LIST_SEATS_MAX: u32 = 100;
/// One request takes so much of its level at most.
const LEVEL_PERCENT_MAX: u32 = 15;
const WATCHES_PER_SEAT: u32 = 10;
const WRITES_PER_SEAT: u32 = 32;
/// What an event to all watchers takes.
pub(crate) const EVENT_NS: u64 = 5_000_000;
/// Answers below this are not counted: there are many of them, and they are soon gone.
pub(crate) const BYTES_MIN: u64 = 64 * 1024;

/// What a request is, as far as its work goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One object, or a page that is about none.
    Small,
    /// Many objects.
    List(Stored),
    /// A write, of a resource with so many watches that see it.
    Write { watches: u32 },
    /// So many writes in one request.
    Batch { writes: u32 },
}

/// The objects that a list is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) objects: u64,
    /// Of one of them, about.
    pub(crate) object_bytes: u64,
    /// 0 is none.
    pub(crate) limit: u64,
    /// Sent as it is stored, piece by piece; else it is made before it is sent.
    pub(crate) streamed: bool,
    /// Only some of them are asked for: the answer is small, most likely.
    pub(crate) selective: bool,
}

/// The most seats of one request in a level that has so many.
pub(crate) fn seats_max(nominal: u32, is_list: bool) -> u32 {
    let of_level = (nominal * LEVEL_PERCENT_MAX).div_ceil(100).max(1);
    of_level.min(if is_list { LIST_SEATS_MAX } else { SEATS_MAX })
}

pub(crate) fn want(flow: u64, kind: Kind, nominal: u32) -> Want {
    let stored = match kind {
        Kind::List(stored) => stored,
        _ => {
            let seats = match kind {
                Kind::Batch { writes } => writes.div_ceil(WRITES_PER_SEAT),
                _ => 1,
            };
            return Want {
                flow,
                seats: seats.clamp(1, seats_max(nominal, false)),
                bytes: 0,
            };
        }
    };
    let objects = match stored.limit {
        0 => stored.objects,
        limit => stored.objects.min(limit),
    };
    let bytes = objects.saturating_mul(stored.object_bytes);
    let at_once = match stored.streamed {
        true => bytes.min(STREAMED_BYTES_MAX),
        false => bytes,
    };
    let seats = u32::try_from(at_once.div_ceil(BYTES_PER_SEAT)).unwrap_or(u32::MAX);
    let bytes = match stored.selective {
        true => bytes.min(STREAMED_BYTES_MAX),
        false => bytes,
    };
    Want {
        flow,
        seats: seats.clamp(1, seats_max(nominal, true)),
        bytes: if bytes < BYTES_MIN { 0 } else { bytes },
    }
}

/// The seats that a write keeps after its end, and for how long.
pub(crate) fn after(kind: Kind, nominal: u32) -> Option<(u32, u64)> {
    match kind {
        Kind::Write { watches } if watches >= WATCHES_PER_SEAT => {
            let seats = watches.div_ceil(WATCHES_PER_SEAT);
            Some((seats.min(seats_max(nominal, false)), EVENT_NS))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(objects: u64, object_bytes: u64, limit: u64, streamed: bool) -> (u32, u64) {
        let stored = Stored {
            objects,
            object_bytes,
            limit,
            streamed,
            selective: false,
        };
        let want = want(1, Kind::List(stored), 245);
        (want.seats, want.bytes)
    }

    #[test]
    fn lists_cost_by_their_size() {
        for (given, expected) in [
            (list(0, 0, 0, true), (1, 0)),
            (list(10, 1_000, 0, true), (1, 0)),
            (list(100, 4_000, 0, true), (4, 400_000)),
            (list(100_000, 4_000, 500, true), (10, 2_000_000)),
            // However large, a list that is streamed holds little.
            (list(100_000, 4_000, 0, true), (10, 400_000_000)),
            (list(1_000, 4_000, 0, false), (37, 4_000_000)),
            (list(500, 4_000, 0, false), (20, 2_000_000)),
        ] {
            assert_eq!(given, expected);
        }
        assert_eq!(want(1, Kind::Small, 245).seats, 1);
        let batch = |writes| want(1, Kind::Batch { writes }, 245).seats;
        assert_eq!([1, 32, 33, 256].map(batch), [1, 1, 2, 8]);
        let of_a_node = Stored {
            objects: 100_000,
            object_bytes: 4_000,
            selective: true,
            ..Stored::default()
        };
        assert_eq!(want(1, Kind::List(of_a_node), 245).bytes, 1_000_000);
    }

    #[test]
    fn writes_cost_by_their_watches() {
        for (watches, expected) in [
            (0, None),
            (9, None),
            (10, Some(1)),
            (11, Some(2)),
            (1_000, Some(10)),
        ] {
            let seats = after(Kind::Write { watches }, 245).map(|after| after.0);
            assert_eq!(seats, expected, "{watches}");
        }
        assert_eq!(
            after(Kind::Write { watches: 1_000 }, 13),
            Some((2, EVENT_NS))
        );
    }
}
