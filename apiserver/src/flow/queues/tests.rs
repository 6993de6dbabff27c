//! Stories, and laws over random loads: fair, nobody starves, nothing idles.

use std::collections::BTreeMap;

use super::*;

const MS: u64 = 1_000_000;
const QUEUED: Shape = Shape::Queue {
    queues: 16,
    hand: 4,
    length_max: 50,
};

fn room(seats: u32) -> Room {
    Room {
        seats,
        bytes: 1_000,
        flow_bytes: 400,
    }
}

fn seats(flow: u64, seats: u32) -> Want {
    Want {
        flow,
        seats,
        bytes: 0,
    }
}

fn bytes(flow: u64, bytes: u64) -> Want {
    Want {
        flow,
        seats: 1,
        bytes,
    }
}

/// A flow for each queue, so that nobody shares one.
fn alone(queue: u64) -> u64 {
    queue
}

const SINGLE: Shape = Shape::Queue {
    queues: 16,
    hand: 1,
    length_max: 50,
};

fn runs(set: &mut QueueSet<u32>, now: u64, want: Want) -> Started {
    match set.arrive(now, want, || 0) {
        Arrival::Runs(started) => started,
        other => panic!("{other:?}"),
    }
}

fn waits(set: &mut QueueSet<u32>, now: u64, want: Want, token: u32) -> Place {
    match set.arrive(now, want, || token) {
        Arrival::Waits(place) => place,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_fit_is_refused_or_waits_or_runs() {
    for (shape, expected) in [
        (Shape::Reject, "Refused(ConcurrencyLimit)"),
        (QUEUED, "Waits"),
        (Shape::Exempt, "Runs"),
    ] {
        let mut set: QueueSet<u32> = QueueSet::new(shape, room(1));
        let first = runs(&mut set, 0, seats(1, 1));
        let second = format!("{:?}", set.arrive(0, seats(1, 1), || 7));
        assert!(second.starts_with(expected), "{second}");
        set.finish(MS, &first, None);
        assert_eq!(
            set.next(MS).map(|next| next.0),
            (shape == QUEUED).then_some(7)
        );
    }
}

#[test]
fn queues_are_bounded_and_left() {
    let shape = Shape::Queue {
        queues: 1,
        hand: 1,
        length_max: 2,
    };
    let mut set: QueueSet<u32> = QueueSet::new(shape, room(1));
    let first = runs(&mut set, 0, seats(1, 1));
    let second = waits(&mut set, 0, seats(1, 1), 2);
    assert_eq!(waits(&mut set, 0, seats(1, 1), 3).length, 2);
    let full = set.arrive(0, seats(1, 1), || 4);
    assert_eq!(full, Arrival::Refused(Refusal::QueueFull));
    assert!(set.cancel(0, second) && !set.cancel(0, second));
    set.finish(MS, &first, None);
    let (token, started) = set.next(MS).unwrap();
    assert_eq!((token, set.next(MS)), (3, None));
    set.finish(2 * MS, &started, None);
    assert_eq!(set.counts(), Counts::default());
}

#[test]
fn a_wide_request_is_not_overtaken_for_ever_and_fits_alone() {
    let mut set: QueueSet<u32> = QueueSet::new(SINGLE, room(4));
    let first = runs(&mut set, 0, seats(alone(1), 3));
    waits(&mut set, 0, seats(alone(2), 9), 2);
    waits(&mut set, 0, seats(alone(3), 1), 3);
    // There is a seat, but it is kept for the one whose turn it is.
    assert_eq!(set.next(0), None);
    set.finish(MS, &first, None);
    let (token, wide) = set.next(MS).unwrap();
    assert_eq!((token, set.next(MS)), (2, None));
    set.finish(2 * MS, &wide, None);
    assert_eq!(set.next(2 * MS).map(|next| next.0), Some(3));
}

#[test]
fn what_a_write_makes_others_do_keeps_seats() {
    let mut set: QueueSet<u32> = QueueSet::new(SINGLE, room(2));
    let write = runs(&mut set, 0, seats(alone(1), 1));
    set.finish(MS, &write, Some((2, 5 * MS)));
    waits(&mut set, 2 * MS, seats(alone(2), 1), 2);
    assert_eq!(set.next(5 * MS), None);
    assert_eq!(set.next_release_ns(), Some(6 * MS));
    assert_eq!(set.next(6 * MS).map(|next| next.0), Some(2));
    assert_eq!(set.next_release_ns(), None);
}

#[test]
fn bytes_of_one_flow_do_not_keep_others_waiting() {
    let mut set: QueueSet<u32> = QueueSet::new(SINGLE, room(100));
    let (greedy, other) = (alone(1), alone(2));
    // More than a flow may have: alone it passes.
    let first = runs(&mut set, 0, bytes(greedy, 500));
    waits(&mut set, 0, bytes(greedy, 100), 1);
    waits(&mut set, 0, bytes(other, 300), 2);
    assert_eq!(set.next(0).map(|next| next.0), Some(2));
    // Nothing is sent by then: what is small runs, and what is large waits for the bytes, not for the seats.
    waits(&mut set, 0, seats(greedy, 1), 3);
    set.finish(MS, &first, None);
    assert_eq!(set.next(MS), None);
    set.free(greedy, 400);
    assert_eq!(set.next(MS).map(|next| next.0), Some(1));
    assert_eq!(set.next(MS).map(|next| next.0), Some(3));
    // The level is bounded too: 100 + 100 + 300 are on their way.
    waits(&mut set, MS, bytes(alone(3), 600), 4);
    assert_eq!(set.next(MS), None);
    set.free(other, 300);
    assert_eq!(set.next(MS).map(|next| next.0), Some(4));
}

#[test]
fn who_was_away_gets_no_more_than_a_fair_part() {
    let mut set: QueueSet<u32> = QueueSet::new(SINGLE, room(1));
    let mut now = 0;
    // One flow has the level for itself for a while.
    for _ in 0..100 {
        let started = runs(&mut set, now, seats(alone(1), 1));
        now += 10 * MS;
        set.finish(now, &started, None);
    }
    let mut running = runs(&mut set, now, seats(alone(1), 1));
    for _ in 0..20 {
        waits(&mut set, now, seats(alone(1), 1), 1);
        waits(&mut set, now, seats(alone(2), 1), 2);
    }
    let mut order = Vec::new();
    for _ in 0..20 {
        now += 10 * MS;
        set.finish(now, &running, None);
        let (token, started) = set.next(now).unwrap();
        order.push(token);
        running = started;
    }
    let of_first = order.iter().filter(|token| **token == 1).count();
    assert!((9..=11).contains(&of_first), "{order:?}");
}

/// A flow's habit: how often it asks, how wide, and how long it takes.
#[derive(Clone, Debug)]
struct Habit {
    backlog: usize,
    seats: u32,
    took_ms: u64,
}

/// Runs flows that always want more, each in its own queue; answers what each one got, in seats by milliseconds.
fn contend(habits: &[Habit], limit: u32, steps: usize) -> Vec<u64> {
    let mut set: QueueSet<u32> = QueueSet::new(SINGLE, room(limit));
    let mut got = vec![0u64; habits.len()];
    let mut waiting = vec![0usize; habits.len()];
    let mut ends: BTreeMap<(u64, usize), (u32, Started)> = BTreeMap::new();
    let mut now = 0;
    for step in 0..steps {
        for (flow, habit) in habits.iter().enumerate() {
            while waiting[flow] < habit.backlog {
                let want = seats(alone(flow as u64), habit.seats);
                match set.arrive(now, want, || flow as u32) {
                    Arrival::Runs(started) => {
                        let end = (now + habit.took_ms * MS, ends.len() + step * 1_000);
                        ends.insert(end, (flow as u32, started));
                    }
                    Arrival::Waits(_) => waiting[flow] += 1,
                    Arrival::Refused(_) => break,
                }
            }
        }
        while let Some((flow, started)) = set.next(now) {
            let habit = &habits[flow as usize];
            waiting[flow as usize] -= 1;
            let end = (now + habit.took_ms * MS, ends.len() + step * 1_000 + 500);
            ends.insert(end, (flow, started));
        }
        // Nothing idles: whoever waits does not fit.
        let counts = set.counts();
        let widest = habits.iter().map(|habit| habit.seats).max().unwrap_or(1);
        assert!(
            counts.waiting == 0 || counts.seats + widest > limit,
            "{counts:?}"
        );
        let Some((end, (flow, started))) = ends.pop_first() else {
            break;
        };
        now = end.0;
        let habit = &habits[flow as usize];
        got[flow as usize] += u64::from(habit.seats) * habit.took_ms;
        set.finish(now, &started, None);
    }
    got
}

#[test]
fn a_flood_leaves_others_their_part() {
    let mouse = Habit {
        backlog: 1,
        seats: 1,
        took_ms: 10,
    };
    let elephant = Habit {
        backlog: 40,
        seats: 4,
        took_ms: 100,
    };
    let got = contend(&[mouse.clone(), elephant, mouse], 8, 4_000);
    // One request at a time is all that a mouse wants, and it gets that as fast as seats come free.
    assert!(got[0] > got[1] / 40 && got[2] > got[1] / 40, "{got:?}");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    #[test]
    fn who_always_wants_more_gets_an_equal_part(
        habits in proptest::collection::vec((1u32..4, 1u64..50), 2..6),
        limit in 1u32..12,
    ) {
        let habits: Vec<Habit> = habits
            .into_iter()
            .map(|(seats, took_ms)| Habit { backlog: 20, seats: seats.min(limit), took_ms })
            .collect();
        let got = contend(&habits, limit, 6_000);
        let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
        // What runs at once is charged at its end: apart from that the parts are equal.
        let slack = 2 * u64::from(limit) * 50 + most / 5;
        assert!(most - least <= slack, "{got:?} of {habits:?}");
    }

    #[test]
    fn counts_end_where_they_began(
        load in proptest::collection::vec((0u64..40, 1u32..6, 0u64..600, 0u8..8), 1..400),
        shape in 0usize..3,
    ) {
        let shape = [Shape::Reject, QUEUED, Shape::Exempt][shape];
        let mut set: QueueSet<u32> = QueueSet::new(shape, room(8));
        let (mut running, mut places) = (Vec::new(), Vec::new());
        let mut now = 0;
        for (at, (flow, wide, size, what)) in load.into_iter().enumerate() {
            now += MS;
            match what {
                0 if !places.is_empty() => {
                    let place: Place = places.swap_remove(at % places.len());
                    set.cancel(now, place);
                }
                1 | 2 if !running.is_empty() => {
                    let started: Started = running.swap_remove(at % running.len());
                    set.finish(now, &started, (what == 2).then_some((3, 5 * MS)));
                    set.free(started.want.flow, started.want.bytes);
                }
                _ => match set.arrive(now, Want { flow, seats: wide, bytes: size }, || 0) {
                    Arrival::Runs(started) => running.push(started),
                    Arrival::Waits(place) => places.push(place),
                    Arrival::Refused(refusal) => assert_ne!(shape, Shape::Exempt, "{refusal:?}"),
                },
            }
            while let Some((_, started)) = set.next(now) {
                running.push(started);
            }
            let wanted: u32 = running.iter().map(|one| one.want.seats).sum();
            assert!(set.counts().seats >= wanted);
            if shape != Shape::Exempt {
                let widest = running.iter().map(|one| one.want.seats).max().unwrap_or(0);
                assert!(wanted <= 8.max(widest), "{wanted} seats of 8");
            }
        }
        // Everything ends: nobody is left behind.
        loop {
            now += 10 * MS;
            while let Some((_, started)) = set.next(now) {
                running.push(started);
            }
            if running.is_empty() {
                break;
            }
            for started in std::mem::take(&mut running) {
                set.finish(now, &started, None);
                set.free(started.want.flow, started.want.bytes);
            }
        }
        assert_eq!(set.counts(), Counts::default());
        assert!(set.flow_bytes.is_empty());
    }
}
