//! A history as a [`Recording`], to be seen: every request of every client, the writes of the controllers and the pods that
//! ran as calls of lanes of their own, and the watches of informers. And what rules object to, as calls and watches of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::history::{Ask, Deed, EventKind, History, Informer, PodRun, Step, Truth};
use super::rules::{Evidence, Verdict};
use super::schedule::{Schedule, Work};
use super::{LAST_CLIENT, kubelet};
use crate::recording::{
    Event, Pair, RAN, Recording, RestCall, RestFate, Role, Violation, Watch, WatchBody,
    WatchMessage,
};

/// Lanes of what no client asked: pods by the number of their node, and controllers by their member.
const PODS: u32 = 300;
const CONTROLLERS: u32 = 400;
/// Characters of an object that are told.
const ROOM: usize = 300;

/// How many leaders there were.
pub fn leaders(recording: &Recording) -> usize {
    let leads = recording.samples.iter();
    let leads = leads.filter(|sample| sample.role == Role::Leader);
    let terms: BTreeSet<(u64, u64)> = leads.map(|sample| (sample.term, sample.member)).collect();
    terms.len()
}

/// Puts everything that happened to the API into a recording.
pub fn fill(recording: &mut Recording, history: &History, schedule: &Schedule) {
    let asks = history.asks.iter().map(asked);
    let deeds = history.deeds.iter().map(done);
    recording.rest = asks.chain(deeds).collect();
    recording.rest.extend(history.runs.iter().map(ran));
    recording.rest_watches = watches(history);
    recording.names = names(history, schedule);
}

/// What is said against a run.
pub fn violation(history: &History, verdict: Verdict) -> Violation {
    let mut found = Violation {
        rule: verdict.rule,
        story: verdict.story,
        ..Violation::default()
    };
    for evidence in verdict.evidence {
        match evidence {
            Evidence::Call(id) => {
                let asks = (0..).zip(&history.asks);
                let of_call = asks.filter(|(_, ask)| ask.call == Some(id));
                found.operations.extend(of_call.map(|(place, _)| place));
            }
            Evidence::Change(revision) => found.operations.extend(maker(history, revision)),
            Evidence::Told(place, step) => match told_by(history, place, step) {
                Some(ToldBy::Watch(id)) => found.watches.push(id),
                Some(ToldBy::List(ask)) => found.operations.push(ask),
                None => {}
            },
            Evidence::Deed(place) => found.operations.push(id_of_deed(history, place)),
            Evidence::Ran(place) => {
                let before = history.asks.len() + history.deeds.len();
                found.operations.push((before + place) as u64);
            }
            Evidence::Ask(place) => found.operations.push(place as u64),
        }
    }
    for ids in [&mut found.operations, &mut found.watches] {
        ids.sort_unstable();
        ids.dedup();
    }
    found
}

fn id_of_deed(history: &History, place: usize) -> u64 {
    (history.asks.len() + place) as u64
}

/// The id of the call that was told that it made a revision; the first, where one that changed nothing was told so, too.
fn maker(history: &History, revision: i64) -> Option<u64> {
    let writes = |ask: &Ask| matches!(ask.method.as_str(), "post" | "put" | "patch");
    let made = |ask: &Ask| writes(ask) && ask.fate == RestFate::Done(revision);
    let of_client = history.asks.iter().position(made).map(|at| at as u64);
    of_client.or_else(|| {
        let mut deeds = history.deeds.iter();
        let place = deeds.position(|deed| deed.revision == revision)?;
        Some(id_of_deed(history, place))
    })
}

fn asked(ask: &Ask) -> RestCall {
    RestCall {
        client: ask.client,
        member: ask.member,
        called: ask.called,
        returned: ask.returned,
        verb: ask.method.clone(),
        request: ask.request.clone(),
        fate: ask.fate,
        answer: ask.answer.clone(),
    }
}

fn done(deed: &Deed) -> RestCall {
    RestCall {
        client: CONTROLLERS + deed.member as u32,
        member: deed.member,
        called: deed.called,
        returned: Some(deed.returned),
        verb: deed
            .what
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_lowercase(),
        request: format!("{} as {}", deed.what, deed.who),
        fate: RestFate::Done(deed.revision),
        answer: "done".into(),
    }
}

fn ran(run: &PodRun) -> RestCall {
    RestCall {
        client: PODS + number_of(&run.node),
        called: run.from,
        returned: run.until,
        verb: RAN.into(),
        request: format!("{} with uid {}", run.key, run.uid),
        fate: match run.until {
            Some(_) => RestFate::Done(0),
            None => RestFate::Unknown,
        },
        answer: match run.until {
            Some(_) => "ended".into(),
            None => "it runs to the end".into(),
        },
        ..RestCall::default()
    }
}

fn number_of(node: &str) -> u32 {
    let numbers = 0..super::workloads::NODES;
    let mut numbers = numbers.filter(|number| kubelet::node(*number) == node);
    numbers.next().unwrap_or(super::workloads::NODES)
}

/// What the lanes are called.
fn names(history: &History, schedule: &Schedule) -> BTreeMap<u32, String> {
    let turns = schedule.turns.iter();
    let mut names: BTreeMap<u32, String> = turns
        .map(|turn| (turn.client, format!("{} {}", turn.work.name(), turn.client)))
        .collect();
    let binds = schedule
        .turns
        .iter()
        .find(|turn| turn.work == Work::Bindings);
    let second = binds.map(|turn| turn.client + 1);
    names.extend(second.map(|client| (client, format!("{} {client}", Work::Bindings.name()))));
    let informers = history.informers.iter();
    names.extend(informers.map(|one| (one.client, format!("informer {}", one.client))));
    for number in 0..super::workloads::NODES {
        let node = kubelet::node(number);
        names.insert(200 + number, format!("agent of {node}"));
        names.insert(PODS + number, format!("pods on {node}"));
    }
    let controllers = history.deeds.iter().map(|deed| deed.member);
    names.extend(controllers.map(|id| (CONTROLLERS + id as u32, format!("controllers of {id}"))));
    let last = ["last look", "administrator", "eve", "account"];
    names.extend((LAST_CLIENT..).zip(last.map(String::from)));
    names
}

/// For each step of an informer the watch that it belongs to, by number from `next` on.
fn watch_of_steps(informer: &Informer, next: &mut u64) -> Vec<Option<u64>> {
    let mut now = None;
    let steps = informer.steps.iter().map(|stepped| {
        match stepped.step {
            Step::Watch { .. } => {
                now = Some(*next);
                *next += 1;
            }
            Step::Listed { .. } => now = None,
            _ => {}
        }
        now
    });
    steps.collect()
}

enum ToldBy {
    Watch(u64),
    /// By the request's place.
    List(u64),
}

/// What told an informer what it was told in a step.
fn told_by(history: &History, place: usize, step: usize) -> Option<ToldBy> {
    let mut next = 0;
    let mut of_steps = Vec::new();
    for informer in &history.informers[..=place] {
        of_steps = watch_of_steps(informer, &mut next);
    }
    let watch = |step: usize| Some(ToldBy::Watch((*of_steps.get(step)?)?));
    match history.informers[place].steps.get(step)?.step {
        Step::Listed {
            asked: Some(asked), ..
        } => Some(ToldBy::List(asked as u64)),
        Step::Listed { asked: None, .. } => watch(step + 1),
        _ => watch(step),
    }
}

fn watches(history: &History) -> Vec<Watch> {
    let (mut next, mut watches) = (0, Vec::<Watch>::new());
    for informer in &history.informers {
        let of_steps = watch_of_steps(informer, &mut next);
        for (stepped, id) in informer.steps.iter().zip(of_steps) {
            let Some(id) = id else {
                continue;
            };
            if let Step::Watch { member, from } = stepped.step {
                watches.push(Watch {
                    id,
                    client: informer.client,
                    member,
                    key: informer.prefix.clone(),
                    end: informer.prefix.trim_end_matches('/').to_string() + "0",
                    start_revision: from,
                    progress: true,
                    called: stepped.at,
                    ..Watch::default()
                });
            }
            let message = message(&history.truth, &stepped.step);
            if let (Some((revision, body)), Some(watch)) = (message, watches.last_mut()) {
                let at = stepped.at;
                watch.messages.push(WatchMessage { at, revision, body });
            }
        }
    }
    watches
}

fn message(truth: &Truth, step: &Step) -> Option<(i64, WatchBody)> {
    Some(match step {
        Step::Listed { .. } => return None,
        Step::Watch { from, .. } => (*from, WatchBody::Created),
        Step::Event { kind, seen } => {
            let state = truth.change(&seen.key, seen.revision).flatten();
            let event = Event {
                deleted: *kind == EventKind::Deleted,
                pair: Pair {
                    key: seen.key.clone(),
                    value: state.map_or_else(String::new, |object| in_words(object)),
                    modified: seen.revision,
                    ..Pair::default()
                },
                prev: None,
            };
            let body = WatchBody::Events {
                events: vec![event],
                fragment: false,
            };
            (seen.revision, body)
        }
        Step::Bookmark { revision } => (*revision, WatchBody::Progress),
        Step::Expired { .. } => {
            let reason = EXPIRED.into();
            (
                0,
                WatchBody::Canceled {
                    compacted: 0,
                    reason,
                },
            )
        }
        Step::Left { lost } => {
            let message = if *lost {
                LOST
            } else {
                "the client goes on elsewhere"
            };
            (
                0,
                WatchBody::Lost {
                    message: message.into(),
                },
            )
        }
    })
}

/// How the end of a watch is told where its version is too old, and where its connection broke.
pub const EXPIRED: &str = "410: too old a version";
pub const LOST: &str = "connection lost";

/// What is told of an object: its content, or else what it is to be.
fn in_words(object: &Value) -> String {
    let content = match &object["data"] {
        Value::Null => &object["spec"],
        data => data,
    };
    let ending = match super::history::is_deleting(object) {
        true => ", being deleted",
        false => "",
    };
    let text: String = content.to_string().chars().take(ROOM).collect();
    text + ending
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::history::{Access, Right, Seen, Stepped};
    use super::*;

    fn ask(method: &str, fate: RestFate, call: Option<u64>) -> Ask {
        Ask {
            client: 1,
            member: 2,
            called: 10,
            returned: Some(20),
            method: method.into(),
            request: method.to_uppercase(),
            fate,
            answer: "200".into(),
            call,
        }
    }

    fn history() -> History {
        let mut truth = Truth::default();
        let object = json!({"metadata": {"uid": "u"}, "data": {"v": "1"}});
        truth.put(7, "configmaps/n/a", Some(object));
        let seen = Seen {
            key: "configmaps/n/a".into(),
            uid: "u".into(),
            revision: 7,
            digest: 0,
        };
        let listed = Step::Listed {
            member: 1,
            revision: 5,
            items: Vec::new(),
            asked: Some(2),
        };
        let kind = EventKind::Added;
        let steps = [
            listed.clone(),
            Step::Watch { member: 1, from: 5 },
            Step::Event { kind, seen },
            Step::Left { lost: true },
            Step::Watch { member: 3, from: 7 },
            Step::Expired {
                member: 3,
                asked: None,
                oldest: Some(8),
            },
            listed,
        ];
        let steps = (100..).zip(steps).map(|(at, step)| Stepped { at, step });
        let informer = Informer {
            client: 100,
            prefix: "configmaps/".into(),
            steps: steps.collect(),
            settled: None,
        };
        let run = |node: &str| PodRun {
            node: node.into(),
            key: "pods/n/p".into(),
            uid: "u".into(),
            from: 5,
            until: None,
        };
        History {
            truth,
            asks: vec![
                ask("post", RestFate::Done(7), Some(4)),
                ask("get", RestFate::Done(7), Some(5)),
                ask("get", RestFate::Done(5), None),
                ask("get", RestFate::Done(7), Some(5)),
            ],
            deeds: vec![Deed {
                who: "m2_1".into(),
                member: 2,
                called: 1,
                returned: 2,
                revision: 9,
                what: "PATCH /x".into(),
            }],
            runs: vec![run("n0"), run("n2")],
            informers: vec![informer.clone(), informer],
            rights: vec![Right {
                what: "x".into(),
                member: 1,
                expected: Access::Allowed,
                found: Some(Access::Allowed),
                asks: [0, 1],
            }],
            ..History::default()
        }
    }

    fn ids(evidence: Vec<Evidence>) -> (Vec<u64>, Vec<u64>) {
        let verdict = Verdict {
            rule: "K1: lost write".into(),
            story: "One. Two.".into(),
            evidence,
        };
        let found = violation(&history(), verdict);
        assert_eq!(
            (found.rule.as_str(), found.story.as_str()),
            ("K1: lost write", "One. Two.")
        );
        (found.operations, found.watches)
    }

    #[test]
    fn what_a_verdict_points_at_is_in_the_recording() {
        assert_eq!(ids(vec![Evidence::Call(5)]).0, [1, 3], "both pages");
        assert_eq!(ids(vec![Evidence::Change(7)]).0, [0], "no read made it");
        assert_eq!(ids(vec![Evidence::Change(9)]).0, [4], "a controller did");
        assert_eq!(ids(vec![Evidence::Change(8)]).0, [0_u64; 0]);
        assert_eq!(ids(vec![Evidence::Ran(1), Evidence::Deed(0)]).0, [4, 6]);
        assert_eq!(ids(vec![Evidence::Ask(2), Evidence::Ask(2)]).0, [2]);
        // The second informer's watches come after those of the first.
        let watch = |place, step| ids(vec![Evidence::Told(place, step)]);
        assert_eq!(watch(0, 2), (vec![], vec![0]));
        assert_eq!(watch(1, 5), (vec![], vec![3]));
        assert_eq!(watch(1, 6), (vec![2], vec![]), "a list");
    }

    #[test]
    fn everything_has_its_lane() {
        let mut recording = Recording::default();
        let drawn = Schedule::draw(1, std::time::Duration::from_secs(1), true);
        fill(&mut recording, &history(), &drawn);
        let clients: Vec<u32> = recording.rest.iter().map(|call| call.client).collect();
        assert_eq!(clients, [1, 1, 1, 1, 402, 300, 302]);
        let name = |client| recording.names[&client].as_str();
        let named = [0, 52, 53, 100, 302, 402, 900].map(name);
        let wanted = [
            "objects 0",
            "bindings 52",
            "bindings 53",
            "informer 100",
            "pods on n2",
            "controllers of 2",
            "last look",
        ];
        assert_eq!(named, wanted);
        let ids: Vec<u64> = recording
            .rest_watches
            .iter()
            .map(|watch| watch.id)
            .collect();
        assert_eq!(ids, [0, 1, 2, 3]);
        let bodies = |at: usize| {
            let messages = recording.rest_watches[at].messages.iter();
            messages
                .map(|message| message.body.clone())
                .collect::<Vec<_>>()
        };
        assert!(
            matches!(&bodies(2)[..], [WatchBody::Created, WatchBody::Events { events, .. }, WatchBody::Lost { .. }]
                if events[0].pair.modified == 7 && events[0].pair.value == r#"{"v":"1"}"#)
        );
        let expired = |body: &WatchBody| matches!(body, WatchBody::Canceled { reason, .. } if reason == EXPIRED);
        assert!(expired(&bodies(3)[1]));
        let prefix = (
            recording.rest_watches[0].key.as_str(),
            recording.rest_watches[0].end.as_str(),
        );
        assert_eq!(prefix, ("configmaps/", "configmaps0"));
    }

    #[test]
    fn a_leader_counts_once_a_term() {
        use crate::recording::Sample;
        let sample = |member, role, term| Sample {
            member,
            role,
            term,
            ..Sample::default()
        };
        let recording = Recording {
            samples: vec![
                sample(1, Role::Leader, 1),
                sample(2, Role::Follower, 1),
                sample(1, Role::Leader, 1),
                sample(2, Role::Leader, 3),
            ],
            ..Recording::default()
        };
        assert_eq!(leaders(&recording), 2);
    }
}
