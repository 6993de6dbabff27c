//! What runs of control planes have to have been through, many together: see [`crate::sim::coverage`].

use super::nemesis::Kind;
use super::record::{EXPIRED, LOST};
use super::schedule::WORKLOADS;
use crate::recording::{RAN, RestCall, RestFate, WatchBody};
use crate::sim::Ran;
use crate::sim::coverage::{Coverage, Event, LEADER_CHANGES, SNAPSHOTS, messages};
use crate::sim::nemesis::Kind as OfStore;

/// All that has to happen besides faults.
const EVENTS: [Event; 18] = [
    LEADER_CHANGES,
    SNAPSHOTS,
    ("things that watches show late", late_views),
    ("informers that were told 410", |ran| {
        messages(
            &ran.recording,
            |body| matches!(body, WatchBody::Canceled { reason, .. } if reason == EXPIRED),
        )
    }),
    ("watches lost", |ran| {
        messages(
            &ran.recording,
            |body| matches!(body, WatchBody::Lost { message } if message == LOST),
        )
    }),
    ("bookmarks", |ran| {
        messages(&ran.recording, |body| matches!(body, WatchBody::Progress))
    }),
    ("conflicts", |ran| refusals(ran, "409")),
    ("fields taken over by force", |ran| {
        rest(ran, |call| {
            call.request.contains("force=true") && matches!(call.fate, RestFate::Done(_))
        })
    }),
    ("fields that were another's", |ran| {
        rest(ran, |call| {
            call.request.contains("force=false") && call.answer.starts_with("409")
        })
    }),
    ("lists whose pages were too old", |ran| refusals(ran, "410")),
    ("requests without an answer", |ran| {
        rest(ran, |call| call.returned.is_none())
    }),
    ("requests that a member could not serve", |ran| {
        rest(ran, |call| call.answer.starts_with('5'))
    }),
    ("pods that ran", |ran| rest(ran, |call| call.verb == RAN)),
    ("writes of controllers", |ran| {
        rest(ran, |call| call.request.contains(" as m"))
    }),
    ("Jobs of CronJobs", |ran| {
        rest(ran, |call| {
            let is_job = call.request.starts_with("POST") && call.request.contains("/jobs");
            is_job && call.request.contains(" as m")
        })
    }),
    ("controllers that changed their place", |ran| {
        places(ran).saturating_sub(1)
    }),
    ("bindings that came second", |ran| {
        rest(ran, |call| {
            call.request.contains("/binding") && call.fate == RestFate::Refused
        })
    }),
    ("services refused", |ran| {
        let client = |call: &RestCall| WORKLOADS.iter().any(|(client, _)| *client == call.client);
        rest(ran, |call| {
            client(call) && call.request.contains("/services") && call.answer.starts_with("422")
        })
    }),
];

fn rest(ran: &Ran, wanted: impl Fn(&RestCall) -> bool) -> u64 {
    let calls = ran.recording.rest.iter();
    calls.filter(|call| wanted(call)).count() as u64
}

fn refusals(ran: &Ran, code: &str) -> u64 {
    rest(ran, |call| call.answer.starts_with(code))
}

/// How many members' controllers wrote something.
fn places(ran: &Ran) -> u64 {
    let calls = ran.recording.rest.iter();
    let writes = calls.filter(|call| call.request.contains(" as m"));
    let mut members: Vec<u64> = writes.map(|call| call.member).collect();
    members.sort_unstable();
    members.dedup();
    members.len() as u64
}

/// What watches show at least so late, in nanoseconds.
const LATE: u64 = 500_000_000;

/// Events that came to a watch long after somebody had been told of them or of later ones.
fn late_views(ran: &Ran) -> u64 {
    let rest = ran.recording.rest.iter();
    let told = rest.filter_map(|call| match call.fate {
        RestFate::Done(revision) => Some((call.returned?, revision)),
        _ => None,
    });
    let mut told: Vec<(u64, i64)> = told.collect();
    told.sort_unstable();
    let mut newest = 0;
    for (_, known) in &mut told {
        newest = newest.max(*known);
        *known = newest;
    }
    let known = |at: u64| {
        let before = told.partition_point(|(told_at, _)| *told_at < at);
        before.checked_sub(1).map_or(0, |last| told[last].1)
    };
    let watches = ran.recording.rest_watches.iter();
    let messages = watches.flat_map(|watch| &watch.messages);
    let late = messages.filter(|message| {
        let shows = matches!(message.body, WatchBody::Events { .. });
        shows && message.revision <= known(message.at.saturating_sub(LATE))
    });
    late.count() as u64
}

/// What control planes have to go through.
pub fn of_control_planes() -> Coverage {
    let store = OfStore::ALL.iter().map(|kind| kind.name());
    let own = Kind::ALL.iter().map(|kind| kind.name());
    Coverage::new(store.chain(own).collect(), &EVENTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Recording, Watch, WatchMessage};

    fn call(called: u64, request: &str, fate: RestFate, answer: &str) -> RestCall {
        RestCall {
            called,
            returned: Some(called + 5),
            request: request.into(),
            fate,
            answer: answer.into(),
            ..RestCall::default()
        }
    }

    fn ran(rest: Vec<RestCall>) -> Ran {
        Ran {
            recording: Recording {
                rest,
                ..Recording::default()
            },
            ..Ran::default()
        }
    }

    #[test]
    fn a_watch_is_late_where_somebody_knew_long_before() {
        let event = || WatchBody::Events {
            events: Vec::new(),
            fragment: false,
        };
        let message = |at, revision, body| WatchMessage { at, revision, body };
        let late = |at, revision, body| {
            let mut ran = ran(vec![call(10, "PUT /x", RestFate::Done(9), "200 a")]);
            ran.recording.rest_watches = vec![Watch {
                messages: vec![message(at, revision, body)],
                ..Watch::default()
            }];
            late_views(&ran)
        };
        let (soon, long) = (100, 100 + LATE);
        assert_eq!(late(long, 9, event()), 1);
        assert_eq!(late(long, 8, event()), 1);
        assert_eq!(late(long, 10, event()), 0, "nobody knew of it");
        assert_eq!(late(soon, 9, event()), 0);
        assert_eq!(late(long, 9, WatchBody::Progress), 0);
    }

    #[test]
    fn what_never_happened_is_missing() {
        let mut coverage = of_control_planes();
        let all = coverage.missing();
        assert_eq!(
            all.len(),
            OfStore::ALL.len() + Kind::ALL.len() + EVENTS.len()
        );
        let deed = |member| RestCall {
            member,
            ..call(1, "PATCH /x as m1_2", RestFate::Done(3), "done")
        };
        let conflict = call(1, "PUT /x", RestFate::Refused, "409 again");
        coverage.add(&ran(vec![conflict, deed(1), deed(2)]));
        let missing = coverage.missing();
        let gone = all.iter().filter(|name| !missing.contains(name));
        let gone: Vec<&str> = gone.map(String::as_str).collect();
        let happened = [
            "conflicts",
            "writes of controllers",
            "controllers that changed their place",
        ];
        assert_eq!(gone, happened);
    }
}
