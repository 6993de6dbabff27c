use super::*;
use crate::recording::{
    Event, Fault, Found, Pair, Put, Range, Request, Response, RestCall, RestFate, Sample, Watch,
    WatchMessage,
};

fn put(id: u64, client: u32, called: u64, returned: u64, revision: i64) -> Operation {
    Operation {
        id,
        client,
        member: 1,
        called,
        returned: Some(returned),
        request: Request::Put(Put {
            key: "k".into(),
            value: format!("v{id}"),
            ..Put::default()
        }),
        outcome: Outcome::Ok {
            revision,
            response: Response::Put { prev: None },
        },
    }
}

fn get(id: u64, client: u32, called: u64, returned: u64, revision: i64) -> Operation {
    Operation {
        request: Request::Range(Range {
            key: "k".into(),
            ..Range::default()
        }),
        outcome: Outcome::Ok {
            revision,
            response: Response::Range(Found::default()),
        },
        ..put(id, client, called, returned, revision)
    }
}

fn unanswered(id: u64, client: u32, called: u64) -> Operation {
    Operation {
        returned: None,
        outcome: Outcome::Unknown {
            message: "connection lost".into(),
        },
        ..put(id, client, called, called, 0)
    }
}

fn recording(operations: Vec<Operation>) -> Recording {
    let mut recording = Recording {
        operations,
        ..Recording::default()
    };
    recording.run.length = 1000;
    recording
}

fn picture(recording: &Recording) -> Picture {
    paint(recording, &[], Limits::default())
}

fn violation(operations: &[u64], watches: &[u64]) -> Violation {
    Violation {
        rule: "stale read".into(),
        story: "Client 2 read the past.".into(),
        operations: operations.to_vec(),
        watches: watches.to_vec(),
    }
}

#[test]
fn a_client_has_a_lane_and_a_row_for_each_call_at_once() {
    let recording = recording(vec![
        put(1, 4, 0, 50, 2),
        put(2, 4, 10, 20, 3),
        put(3, 4, 30, 40, 4),
        put(4, 2, 5, 6, 5),
    ]);
    let lanes = picture(&recording).lanes;
    let shape: Vec<(u32, usize)> = lanes.iter().map(|lane| (lane.client, lane.rows)).collect();
    assert_eq!(shape, [(2, 1), (4, 2)]);
    let rows: Vec<usize> = lanes[1].operations.iter().map(|bar| bar.row).collect();
    assert_eq!(rows, [0, 1, 1]);
}

#[test]
fn what_was_never_answered_is_open_to_the_next_call_or_the_end() {
    let recording = recording(vec![
        unanswered(1, 1, 100),
        put(2, 1, 300, 310, 2),
        unanswered(3, 1, 400),
    ]);
    let bars = &picture(&recording).lanes[0].operations;
    let ends: Vec<_> = bars
        .iter()
        .map(|bar| (bar.returned, bar.until, bar.sort))
        .collect();
    assert_eq!(ends, [(None, 300, 2), (Some(310), 310, 0), (None, 1000, 2)]);
    assert_eq!(bars[0].answer, "connection lost");
    assert_eq!(bars[0].row, bars[1].row);
}

#[test]
fn the_view_opens_on_the_smallest_set_and_its_clients_stand_first() {
    let recording = recording(vec![
        put(1, 1, 100, 120, 2),
        put(2, 2, 200, 240, 3),
        get(3, 3, 300, 320, 2),
    ]);
    let picture = paint(
        &recording,
        &[violation(&[3, 2, 77], &[])],
        Limits::default(),
    );
    let finding = &picture.findings[0];
    assert_eq!(finding.operations, [2, 3], "in the order of their calls");
    assert_eq!(
        finding.span,
        Some(Span {
            from: 200,
            until: 320
        })
    );
    let focus = picture.focus.unwrap();
    assert!(focus.from < 200 && focus.until > 320);
    let clients: Vec<u32> = picture.lanes.iter().map(|lane| lane.client).collect();
    assert_eq!(clients, [2, 3, 1]);
    assert_eq!(super::paint(&recording, &[], Limits::default()).focus, None);
}

#[test]
fn a_violation_of_watches_alone_opens_on_the_watch() {
    let mut recording = recording(Vec::new());
    for id in 1..=2 {
        recording.watches.push(Watch {
            id,
            called: id * 100,
            messages: vec![WatchMessage {
                at: id * 100 + 50,
                revision: 4,
                body: WatchBody::Created,
            }],
            ..Watch::default()
        });
    }
    let picture = paint(&recording, &[violation(&[], &[2])], Limits::default());
    assert_eq!(
        picture.findings[0].span,
        Some(Span {
            from: 200,
            until: 250
        })
    );
    let lanes = picture.watches.iter();
    let order: Vec<u64> = lanes.map(|lane| lane.watches[0].id).collect();
    assert_eq!(order, [2, 1]);
}

#[test]
fn faults_at_one_time_have_rows_of_their_own_and_an_open_one_lasts_to_the_end() {
    let fault = |kind: &str, from, until| Fault {
        kind: kind.into(),
        from,
        until,
        ..Fault::default()
    };
    let mut recording = recording(Vec::new());
    recording.faults = vec![
        fault("pause", 500, None),
        fault("partition", 100, Some(300)),
        fault("kill", 200, Some(200)),
        fault("kill", 400, Some(400)),
    ];
    let picture = picture(&recording);
    let bands: Vec<_> = picture
        .bands
        .iter()
        .map(|band| {
            (
                band.kind.as_str(),
                band.from,
                band.until,
                band.open,
                band.row,
            )
        })
        .collect();
    assert_eq!(
        bands,
        [
            ("partition", 100, 300, false, 0),
            ("kill", 200, 200, false, 1),
            ("kill", 400, 400, false, 0),
            ("pause", 500, 1000, true, 0),
        ]
    );
    let kinds = [("kill", 2), ("partition", 1), ("pause", 1)];
    assert_eq!(
        picture.counts.faults,
        kinds.map(|(kind, count)| (kind.to_string(), count))
    );
}

#[test]
fn strips_join_equal_samples_and_break_where_a_member_is_down() {
    let sample = |at, role, term, applied| Sample {
        at,
        member: 1,
        role,
        term,
        applied,
        revision: 1,
    };
    let mut recording = recording(Vec::new());
    recording.run.members = vec![1, 2];
    recording.samples = vec![
        sample(0, Role::Follower, 1, 5),
        sample(10, Role::Follower, 1, 5),
        sample(20, Role::Leader, 2, 9),
        sample(30, Role::Down, 2, 9),
        sample(40, Role::Follower, 3, 9),
    ];
    let picture = picture(&recording);
    let state = |from, until, role, term| members::State {
        from,
        until,
        role,
        term,
    };
    assert_eq!(
        picture.strips[0].states,
        [
            state(0, 20, Role::Follower, 1),
            state(20, 30, Role::Leader, 2),
            state(30, 40, Role::Down, 2),
            state(40, 1000, Role::Follower, 3),
        ]
    );
    assert_eq!(
        picture.strips[0].applied,
        [(0, 5), (20, 9), (30, 0), (40, 9)]
    );
    assert_eq!(
        picture.strips[1].states,
        [],
        "a member without samples has a strip"
    );
    assert_eq!((picture.counts.elections, picture.counts.term), (1, 3));
}

#[test]
fn a_revision_was_made_between_the_call_and_its_first_sight() {
    let mut recording = recording(vec![
        put(1, 1, 100, 200, 11),
        get(2, 2, 120, 150, 11),
        get(3, 2, 210, 250, 13),
        put(4, 1, 220, 300, 13),
    ]);
    recording.watches.push(Watch {
        messages: vec![WatchMessage {
            at: 130,
            revision: 11,
            body: WatchBody::Progress,
        }],
        ..Watch::default()
    });
    let made = picture(&recording).revisions;
    let made: Vec<_> = made
        .iter()
        .map(|made| (made.revision, made.called, made.operation, made.seen))
        .collect();
    // 12 was made by a call without an answer.
    assert_eq!(
        made,
        [
            (11, Some(100), Some(1), 130),
            (12, None, None, 250),
            (13, Some(220), Some(4), 250),
        ]
    );
}

#[test]
fn a_watch_says_what_it_was_sent_and_how_it_ended() {
    let mut recording = recording(Vec::new());
    let event = |modified| Event {
        deleted: false,
        pair: Pair {
            key: "k".into(),
            value: "v".into(),
            modified,
            ..Pair::default()
        },
        prev: None,
    };
    let message = |at, body| WatchMessage {
        at,
        revision: 9,
        body,
    };
    let lost = WatchBody::Lost {
        message: "reset".into(),
    };
    let events = WatchBody::Events {
        events: vec![event(8), event(9)],
        fragment: false,
    };
    recording.watches.push(Watch {
        id: 5,
        key: "k".into(),
        start_revision: 8,
        called: 10,
        messages: vec![message(20, events), message(30, lost)],
        ..Watch::default()
    });
    let picture = picture(&recording);
    let lane = &picture.watches[0].watches[0];
    assert_eq!((lane.from, lane.until, lane.open), (10, 30, false));
    assert_eq!(lane.title, "k from revision 8");
    assert_eq!(lane.messages[0].revisions, (8, 9));
    assert_eq!(lane.messages[0].text, "k = v (rev 8); k = v (rev 9)");
    assert_eq!(lane.messages[1].sort, "lost");
    assert_eq!((picture.counts.watches, picture.counts.events), (1, 2));
}

#[test]
fn a_watch_that_is_made_anew_stands_in_the_lane_of_the_one_that_was_lost() {
    let mut recording = recording(Vec::new());
    let watch = |id, key: &str, called, lost: Option<u64>| Watch {
        id,
        key: key.into(),
        called,
        messages: lost
            .map(|at| WatchMessage {
                at,
                revision: 0,
                body: WatchBody::Lost {
                    message: String::new(),
                },
            })
            .into_iter()
            .collect(),
        ..Watch::default()
    };
    recording.watches = vec![
        watch(1, "a", 0, Some(50)),
        watch(2, "b", 10, None),
        watch(3, "a", 60, None),
        watch(4, "a", 70, Some(80)),
        watch(5, "a", 90, None),
    ];
    let lanes = picture(&recording).watches;
    let ids: Vec<Vec<u64>> = lanes
        .iter()
        .map(|lane| lane.watches.iter().map(|watch| watch.id).collect())
        .collect();
    assert_eq!(ids, [vec![1, 3], vec![4, 5], vec![2]]);
    let limits = Limits {
        watches: 1,
        ..Limits::default()
    };
    let first = paint(&recording, &[violation(&[], &[2])], limits);
    assert_eq!(first.watches.len(), 1);
    assert_eq!(first.watches[0].keys, "b");
    assert_eq!(first.notes[0], "Of 5 watches this page draws 1.");
}

#[test]
fn members_with_long_ids_have_short_names_that_tell_them_apart() {
    let mut recording = recording(vec![put(1, 1, 0, 5, 2)]);
    recording.run.members = vec![0x3dfa_9100_0000_0001, 0x3dfa_9200_0000_0002];
    recording.operations[0].member = 0x3dfa_9200_0000_0002;
    recording.faults.push(Fault {
        members: vec![0x3dfa_9100_0000_0001],
        ..Fault::default()
    });
    let picture = picture(&recording);
    assert_eq!(picture.run.members, ["3dfa91", "3dfa92"]);
    assert_eq!(picture.lanes[0].operations[0].member, "3dfa92");
    assert_eq!(picture.bands[0].members, ["3dfa91"]);
    let strips: Vec<_> = picture
        .strips
        .iter()
        .map(|strip| strip.id.as_str())
        .collect();
    assert_eq!(strips, ["4466041409677295617", "4466042509188923394"]);
}

#[test]
fn of_a_long_run_the_part_around_the_violation_is_drawn_and_the_page_says_so() {
    let operations: Vec<Operation> = (0..1000)
        .map(|id| put(id, (id % 3) as u32, id * 10, id * 10 + 5, id as i64 + 2))
        .collect();
    let recording = recording(operations);
    let limits = Limits {
        operations: 100,
        ..Limits::default()
    };
    // One of the two is far away, and drawn all the same.
    let picture = paint(&recording, &[violation(&[3, 700], &[])], limits);
    let centre = 10 * (3 + 700) / 2;
    let part = picture.part.unwrap();
    assert_eq!((part.shown, part.total), (100, 1000));
    assert!(part.span.contains(centre));
    let drawn: Vec<u64> = picture
        .lanes
        .iter()
        .flat_map(|lane| lane.operations.iter().map(|bar| bar.id))
        .collect();
    assert_eq!(drawn.len(), 102);
    assert!(drawn.contains(&3) && drawn.contains(&700));
    assert!(picture.notes[0].starts_with("Of 1000 operations this page draws 100"));
    assert!(picture.notes[1].contains("recording.json"));
    // The rest is still counted, for the run and for each client.
    let all = |overview: &Overview| -> u32 { overview.buckets.iter().flatten().sum() };
    assert_eq!(all(&picture.overview), 1000);
    let lanes: u32 = picture
        .lanes
        .iter()
        .map(|lane| all(lane.overview.as_ref().unwrap()))
        .sum();
    assert_eq!(lanes, 1000);
    assert_eq!(picture.counts.ok, 1000);
    assert!(
        picture
            .revisions
            .iter()
            .all(|made| part.span.contains(made.seen))
    );
}

#[test]
fn a_run_that_fits_is_drawn_whole_and_without_notes() {
    let picture = picture(&recording(vec![put(1, 1, 0, 5, 2)]));
    assert_eq!((picture.part, picture.notes.len()), (None, 0));
    assert!(picture.lanes[0].overview.is_none());
}

#[test]
fn long_words_are_cut_so_that_the_page_stays_small() {
    let mut long = put(1, 1, 0, 5, 2);
    long.request = Request::Put(Put {
        key: "k".into(),
        value: "x".repeat(1 << 20),
        ..Put::default()
    });
    let picture = picture(&recording(vec![long]));
    let request = &picture.lanes[0].operations[0].request;
    assert!(request.chars().count() < 4100, "{}", request.len());
    assert!(request.ends_with(" characters)"));
}

#[test]
fn an_empty_run_and_one_without_a_length_can_be_drawn() {
    let nothing = picture(&Recording::default());
    assert_eq!(nothing.run.length, 1);
    assert!(nothing.lanes.is_empty() && nothing.revisions.is_empty());
    let mut open = recording(vec![put(1, 1, 0, 5000, 2)]);
    open.run.length = 0;
    assert_eq!(picture(&open).run.length, 5000);
}

#[test]
fn dates_are_those_of_the_calendar() {
    assert_eq!(date(0), "");
    assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00 UTC");
    assert_eq!(date(1_795_662_062_000), "2026-11-26 03:01:02 UTC");
    assert_eq!(date(-1000), "1969-12-31 23:59:59 UTC");
}

#[test]
fn operations_are_written_as_lists() {
    let picture = picture(&recording(vec![put(7, 1, 3, 5, 2)]));
    let json = serde_json::to_value(&picture).unwrap();
    assert_eq!(
        json["lanes"][0]["operations"][0],
        serde_json::json!([7, 0, "1", 3, 5, 5, 0, 2, "put", "put k = v7", "written"])
    );
    assert_eq!(json["revisions"][0], serde_json::json!([2, 3, 7, 5]));
}

#[test]
fn calls_of_the_api_have_lanes_of_their_own() {
    let mut recording = recording(vec![put(1, 4, 10, 20, 1)]);
    let call = |client, called, returned, fate| RestCall {
        client,
        member: 9,
        called,
        returned,
        fate,
        ..RestCall::default()
    };
    recording.rest = vec![
        call(4, 30, Some(40), RestFate::Done(7)),
        call(5, 35, None, RestFate::Unknown),
        call(4, 5, Some(2000), RestFate::Refused),
    ];
    let picture = picture(&recording);
    let lanes: Vec<(u32, bool, usize)> = picture
        .lanes
        .iter()
        .map(|lane| (lane.client, lane.rest, lane.rows))
        .collect();
    assert_eq!(lanes, [(4, false, 1), (4, true, 2), (5, true, 1)]);
    let bars = &picture.lanes[1].operations;
    let sorts: Vec<(u64, usize, i64)> = bars
        .iter()
        .map(|bar| (bar.id, bar.sort, bar.revision))
        .collect();
    assert_eq!(sorts, [(4, 1, 0), (2, 0, 7)]);
    // Nobody answered: it lasts to the end, which is when the last answer came.
    assert_eq!(picture.lanes[2].operations[0].until, 2000);
    assert_eq!(
        (
            picture.counts.ok,
            picture.counts.failed,
            picture.counts.unknown
        ),
        (2, 1, 1)
    );
    assert_eq!(picture.counts.clients, 3);
}

#[test]
fn calls_of_the_api_can_be_what_cannot_be_explained() {
    let mut recording = recording(vec![put(1, 4, 10, 20, 1)]);
    let call = |client, called, verb: &str, revision| RestCall {
        client,
        called,
        returned: Some(called + 10),
        verb: verb.into(),
        fate: RestFate::Done(revision),
        ..RestCall::default()
    };
    recording.rest = vec![
        call(5, 30, "post", 7),
        call(6, 50, "get", 7),
        call(7, 70, "patch", 7),
        call(7, 90, "delete", 9),
    ];
    recording.names = [(6, "informer 6".to_string())].into();
    let watch = |client| Watch {
        id: 1,
        client,
        ..Watch::default()
    };
    recording.watches = vec![watch(6)];
    recording.rest_watches = vec![watch(5), watch(6)];
    // Ids go on behind that of the put, and of the first watch.
    let violation = Violation {
        operations: vec![4, 3, 77],
        watches: vec![3],
        ..Violation::default()
    };
    let picture = paint(&recording, &[violation], Limits::default());
    assert_eq!(picture.findings[0].operations, [3, 4]);
    let span = picture.findings[0].span.unwrap();
    assert_eq!((span.from, span.until), (50, 80));
    let names: Vec<&str> = picture
        .lanes
        .iter()
        .map(|lane| lane.name.as_str())
        .collect();
    let wanted = ["informer 6", "API client 7", "client 4", "API client 5"];
    assert_eq!(names, wanted, "first those that have to do with it");
    let names: Vec<&str> = picture
        .watches
        .iter()
        .map(|lane| lane.name.as_str())
        .collect();
    assert_eq!(names, ["informer 6", "client 6", "client 5"]);
    assert_eq!(picture.findings[0].watches, [3]);
    assert_eq!(picture.watches[0].watches[0].id, 3);
    // A write that changed nothing is told the same revision, and a deletion the last one of what is gone.
    let made = |revision| {
        picture
            .revisions
            .iter()
            .find(|made| made.revision == revision)
    };
    assert_eq!(made(7).unwrap().operation, Some(2));
    assert_eq!(
        (made(9).unwrap().operation, made(9).unwrap().seen),
        (None, 100)
    );
}
