//! Many watches on one stream: which of them an answer is about, and what it says, in the words of a recording.

use super::message::{WatchAnswer, WatchCreate};
use super::outcome::{bytes, event};
use crate::recording::{Watch, WatchBody};
use std::collections::{BTreeMap, VecDeque};

/// All watches of the stream.
const ALL: i64 = -1;

/// The watches of one stream.
#[derive(Default)]
pub struct Watches {
    /// Asked for and not answered yet, by their ids in the recording, in the order of the questions.
    asked: VecDeque<u64>,
    /// By their numbers on the stream. Those that have ended too: nothing may come of them any more.
    known: BTreeMap<i64, Known>,
    /// Answers about watches that nobody asked for.
    pub strays: usize,
}

struct Known {
    watch: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Live,
    /// The client wants no more.
    Left,
    Ended,
}

/// Something that was said of one watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its id in the recording.
    pub watch: u64,
    pub revision: i64,
    pub body: WatchBody,
}

impl Watches {
    /// This one is asked for next.
    pub fn ask(&mut self, watch: u64) {
        self.asked.push_back(watch);
    }

    /// Its number on the stream, where it is there to be left. The client wants no more of it.
    pub fn leave(&mut self, watch: u64) -> Option<i64> {
        let mut known = self.known.iter_mut();
        let (number, known) =
            known.find(|(_, known)| known.watch == watch && known.state == State::Live)?;
        known.state = State::Left;
        Some(*number)
    }

    /// Those that more may come of, or that were not answered.
    pub fn open(&self) -> Vec<u64> {
        let known = self.known.values();
        let open = known.filter(|known| known.state != State::Ended);
        open.map(|known| known.watch)
            .chain(self.asked.iter().copied())
            .collect()
    }

    /// What an answer says of each watch that it is about.
    pub fn hear(&mut self, answer: WatchAnswer) -> Vec<Told> {
        let (number, revision) = (answer.watch_id, answer.header.revision);
        let told = |watch, body| Told {
            watch,
            revision,
            body,
        };
        if answer.created {
            let Some(watch) = self.asked.pop_front() else {
                self.strays += 1;
                return Vec::new();
            };
            if !answer.canceled {
                let state = State::Live;
                self.known.insert(number, Known { watch, state });
            }
            return vec![told(watch, body(answer))];
        }
        if number == ALL {
            let live = self
                .known
                .values()
                .filter(|known| known.state != State::Ended);
            let body = body(answer);
            return live.map(|known| told(known.watch, body.clone())).collect();
        }
        let Some(known) = self.known.get_mut(&number) else {
            self.strays += 1;
            return Vec::new();
        };
        let mut said = body(answer);
        if let WatchBody::Canceled { compacted, .. } = said {
            let left = known.state == State::Left && compacted == 0;
            known.state = State::Ended;
            if left {
                // Nothing is missed of what would have come.
                let message = "the client has left".into();
                said = WatchBody::Lost { message };
            }
        }
        vec![told(known.watch, said)]
    }
}

/// The request for a watch. `fragment` lets large answers come in pieces; `number` is its own on the stream, 0 for any.
pub fn create(watch: &Watch, fragment: bool, number: i64) -> WatchCreate {
    let filters = [(watch.no_put, 0), (watch.no_delete, 1)];
    WatchCreate {
        key: bytes(&watch.key),
        range_end: bytes(&watch.end),
        start_revision: watch.start_revision,
        progress_notify: watch.progress,
        filters: filters
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, filter)| *filter)
            .collect(),
        prev_kv: watch.prev,
        watch_id: number,
        fragment,
    }
}

/// What an answer says.
pub fn body(answer: WatchAnswer) -> WatchBody {
    match answer {
        answer if answer.canceled => WatchBody::Canceled {
            compacted: answer.compact_revision,
            reason: answer.cancel_reason,
        },
        answer if answer.created => WatchBody::Created,
        answer if answer.events.is_empty() => WatchBody::Progress,
        answer => WatchBody::Events {
            events: answer.events.iter().map(event).collect(),
            fragment: answer.fragment,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::message::Header;

    fn answer(number: i64, revision: i64) -> WatchAnswer {
        WatchAnswer {
            header: Header {
                revision,
                ..Header::default()
            },
            watch_id: number,
            ..WatchAnswer::default()
        }
    }

    fn created(number: i64) -> WatchAnswer {
        WatchAnswer {
            created: true,
            ..answer(number, 1)
        }
    }

    fn canceled(number: i64, compact_revision: i64) -> WatchAnswer {
        WatchAnswer {
            canceled: true,
            compact_revision,
            ..answer(number, 9)
        }
    }

    fn told(watches: &mut Watches, answer: WatchAnswer) -> Vec<(u64, WatchBody)> {
        let told = watches.hear(answer).into_iter();
        told.map(|told| (told.watch, told.body)).collect()
    }

    #[test]
    fn messages_are_told_apart() {
        assert_eq!(body(created(3)), WatchBody::Created);
        let refused = WatchAnswer {
            canceled: true,
            compact_revision: 7,
            ..created(-1)
        };
        let expected = WatchBody::Canceled {
            compacted: 7,
            reason: String::new(),
        };
        assert_eq!(body(refused), expected);
        assert_eq!(body(WatchAnswer::default()), WatchBody::Progress);
        let event = WatchAnswer {
            events: vec![kv::Event::default()],
            ..WatchAnswer::default()
        };
        assert!(matches!(body(event), WatchBody::Events { .. }));
    }

    #[test]
    fn filters_have_etcds_numbers() {
        let watch = Watch {
            key: "a".into(),
            end: "~".into(),
            no_delete: true,
            ..Watch::default()
        };
        let request = create(&watch, true, 5);
        assert_eq!(request.filters, [1]);
        assert_eq!(request.range_end.as_ref(), b"~");
        assert!(request.fragment && request.watch_id == 5);
    }

    #[test]
    fn answers_find_their_watches() {
        let mut watches = Watches::default();
        watches.ask(10);
        watches.ask(11);
        assert_eq!(
            told(&mut watches, created(0)),
            [(10, WatchBody::Created)],
            "in the order of the questions"
        );
        assert_eq!(told(&mut watches, created(7)), [(11, WatchBody::Created)]);
        assert_eq!(told(&mut watches, answer(7, 5))[0].0, 11);
        let all = told(&mut watches, answer(-1, 6));
        assert_eq!(all, [(10, WatchBody::Progress), (11, WatchBody::Progress)]);
        told(&mut watches, answer(3, 6));
        told(&mut watches, created(3));
        assert_eq!(watches.strays, 2);
    }

    #[test]
    fn who_leaves_is_not_thrown_out() {
        let mut watches = Watches::default();
        for watch in 0..3 {
            watches.ask(watch);
            watches.hear(created(watch as i64));
        }
        assert_eq!(watches.leave(1), Some(1));
        assert_eq!(watches.leave(1), None);
        assert_eq!(told(&mut watches, answer(1, 3))[0].1, WatchBody::Progress);
        let left = &told(&mut watches, canceled(1, 0))[0].1;
        assert!(matches!(left, WatchBody::Lost { .. }));
        watches.leave(2);
        let compacted = &told(&mut watches, canceled(2, 4))[0].1;
        assert!(matches!(compacted, WatchBody::Canceled { .. }));
        let thrown = &told(&mut watches, canceled(0, 0))[0].1;
        assert!(matches!(thrown, WatchBody::Canceled { .. }));
        assert_eq!(watches.open(), [] as [u64; 0]);
        assert_eq!(
            told(&mut watches, answer(1, 9))[0].0,
            1,
            "it is written down"
        );
    }
}
