//! The store's model and the reference model get the same commands and have to say the same: answers, refusals with
//! their texts, every key at every revision, leases, and what watches deliver. `PROPTEST_CASES` runs more of them.

use super::*;
use crate::recording::Delete;
use futures::FutureExt;
use kv::mem::MemStore;
use kv::{Answer, HubLimits, KeyValue, Store, StoreError, WatchItem, WatchStream};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const CASES: u32 = 1000;
const COMMANDS_MAX: usize = 40;
const LEASES: i64 = 3;

#[derive(Clone, Debug)]
enum Command {
    Range(Range),
    Txn(Txn),
    Grant {
        lease: i64,
        ttl: i64,
    },
    Revoke(i64),
    Compact(i64),
    Watch {
        key: String,
        end: String,
        from: i64,
    },
    /// All watches take what is there for them; else they lag.
    Take,
}

/// Always the same commands, or as many new ones as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok();
    let wanted = wanted.and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: wanted.unwrap_or(CASES),
        rng_seed: wanted.map_or(RngSeed::Fixed(1), |_: u32| RngSeed::Random),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn they_say_the_same(commands in vec(command(), 1..COMMANDS_MAX)) {
        let mut pair = Both::new();
        for command in commands {
            pair.run(&command)?;
        }
        pair.compare_all()?;
    }
}

fn key() -> impl Strategy<Value = String> {
    let keys = [
        "a",
        "a/1",
        "a/2",
        "a/2\0",
        "b",
        "b/1",
        "é",
        "\u{10ffff}",
        "\0",
    ];
    prop_oneof![60 => proptest::sample::select(keys.to_vec()).prop_map(String::from), 1 => Just(String::new())]
}

fn end() -> impl Strategy<Value = String> {
    let ends = ["\0", "a", "a/2", "a0", "b", "b0", "ê", "\u{10ffff}"];
    prop_oneof![3 => Just(String::new()), 4 => proptest::sample::select(ends.to_vec()).prop_map(String::from)]
}

fn value() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["", "1", "2", "3", "é"]).prop_map(String::from)
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 3 => 1..=LEASES, 1 => Just(99)]
}

fn rarely(one_in: u32) -> impl Strategy<Value = bool> {
    (0..one_in).prop_map(|drawn| drawn == 1)
}

/// A bound or revision: mostly none.
fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0), 5 => 1_i64..30]
}

fn range() -> impl Strategy<Value = Range> {
    let orders = [Order::None, Order::Ascend, Order::Descend];
    let targets = [
        Target::Key,
        Target::Version,
        Target::Create,
        Target::Mod,
        Target::Value,
    ];
    let bounds = || prop_oneof![6 => Just(0), 1 => 1_i64..30];
    (
        (
            key(),
            end(),
            revision(),
            prop_oneof![2 => Just(0), 2 => 1_i64..4, 1 => Just(-1)],
        ),
        (
            proptest::sample::select(orders.to_vec()),
            proptest::sample::select(targets.to_vec()),
        ),
        (rarely(6), rarely(6)),
        (bounds(), bounds(), bounds(), bounds()),
    )
        .prop_map(
            |((key, end, revision, limit), (order, target), flags, bounds)| Range {
                key,
                end,
                revision,
                limit,
                order,
                target,
                count_only: flags.0,
                keys_only: flags.1,
                min_mod: bounds.0,
                max_mod: bounds.1,
                min_create: bounds.2,
                max_create: bounds.3,
            },
        )
}

fn put() -> impl Strategy<Value = Put> {
    (key(), value(), lease(), any::<bool>(), rarely(8), rarely(8)).prop_map(
        |(key, value, lease, prev, ignore_value, ignore_lease)| Put {
            key,
            // Mostly as it has to be, so that more than the refusal is seen.
            value: if ignore_value && prev {
                String::new()
            } else {
                value
            },
            lease: if ignore_lease && prev { 0 } else { lease },
            prev,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = Delete> {
    (key(), end(), any::<bool>()).prop_map(|(key, end, prev)| Delete { key, end, prev })
}

fn compare() -> impl Strategy<Value = Compare> {
    let relations = [
        Relation::Equal,
        Relation::Greater,
        Relation::Less,
        Relation::NotEqual,
    ];
    let operand = prop_oneof![
        (0_i64..4).prop_map(Operand::Version),
        (0_i64..20).prop_map(Operand::CreateRevision),
        (0_i64..20).prop_map(Operand::ModRevision),
        value().prop_map(Operand::Value),
        lease().prop_map(Operand::Lease),
    ];
    (
        key(),
        end(),
        proptest::sample::select(relations.to_vec()),
        operand,
    )
        .prop_map(|(key, end, relation, operand)| Compare {
            key,
            end,
            relation,
            operand,
        })
}

fn txn() -> impl Strategy<Value = Txn> {
    let step = prop_oneof![
        2 => range().prop_map(Step::Range),
        3 => put().prop_map(Step::Put),
        1 => delete().prop_map(Step::Delete),
    ];
    let flat = |step: BoxedStrategy<Step>| {
        (
            vec(compare(), 0..3),
            vec(step.clone(), 0..4),
            vec(step, 0..3),
        )
            .prop_map(|(compares, then, otherwise)| Txn {
                compares,
                then,
                otherwise,
            })
    };
    let step = step.boxed();
    let nested = prop_oneof![3 => step.clone(), 1 => flat(step).prop_map(Step::Txn)].boxed();
    let twice = prop_oneof![4 => nested.clone(), 1 => flat(nested).prop_map(Step::Txn)].boxed();
    flat(twice)
}

/// A put or a deletion by itself is a transaction of one step.
fn command() -> impl Strategy<Value = Command> {
    let one = |step: Step| {
        Command::Txn(Txn {
            then: vec![step],
            ..Txn::default()
        })
    };
    prop_oneof![
        6 => put().prop_map(move |put| one(Step::Put(put))),
        2 => delete().prop_map(move |delete| one(Step::Delete(delete))),
        6 => txn().prop_map(Command::Txn),
        5 => range().prop_map(Command::Range),
        2 => (1..=LEASES, prop_oneof![9 => -1_i64..100, 1 => Just(9_000_000_001)])
            .prop_map(|(lease, ttl)| Command::Grant { lease, ttl }),
        1 => (1..=LEASES).prop_map(Command::Revoke),
        1 => (1_i64..30).prop_map(Command::Compact),
        2 => (key(), end(), revision()).prop_map(|(key, end, from)| Command::Watch { key, end, from }),
        2 => Just(Command::Take),
    ]
}

/// Both models.
struct Both {
    model: Model,
    store: Arc<MemStore>,
    watches: Vec<Watching>,
}

struct Watching {
    stream: WatchStream,
    wanted: Wanted,
    /// First revision that it wants.
    from: i64,
    got: Vec<(i64, Vec<Event>)>,
    /// The mark below which nothing may come any more.
    progress: i64,
    /// The compacted revision at which it has ended.
    ended: Option<i64>,
}

impl Both {
    fn new() -> Both {
        // Small, so that watches also come to read the log.
        let limits = HubLimits {
            revisions: 4,
            ..HubLimits::default()
        };
        Both {
            model: Model::default(),
            store: MemStore::with_limits(limits),
            watches: Vec::new(),
        }
    }

    fn run(&mut self, command: &Command) -> Result<(), TestCaseError> {
        match command {
            Command::Range(range) => {
                let answer = now(self.store.range(range_request(range)));
                let answer = answer.map(|answer| with(&answer, found(&answer.body)));
                self.same(self.model.range(range), answer)
            }
            Command::Txn(txn) => {
                let answer = now(self.store.txn(txn_request(txn)));
                let answer = answer.map(|answer| with(&answer, answered(&answer.body)));
                let expected = self.model.txn(txn);
                self.same(expected, answer)
            }
            Command::Grant { lease, ttl } => {
                let answer = now(self.store.lease_grant(*lease, *ttl));
                let answer = answer.map(|answer| with(&answer, answer.body.1));
                let expected = self.model.grant(*lease, *ttl);
                self.same(expected, answer)
            }
            Command::Revoke(lease) => {
                let answer = now(self.store.lease_revoke(*lease));
                let expected = self.model.revoke(*lease);
                self.same(expected, answer)
            }
            Command::Compact(revision) => {
                let answer = now(self.store.compact(*revision));
                let expected = self.model.compact(*revision);
                self.same(expected, answer)
            }
            Command::Watch { key, end, from } => {
                if !key.is_empty() {
                    self.watch(key, end, *from);
                }
                Ok(())
            }
            Command::Take => self.take(),
        }
    }

    fn same<T: PartialEq + std::fmt::Debug>(
        &self,
        expected: Result<T, Refusal>,
        answer: Result<Answer<T>, StoreError>,
    ) -> Result<(), TestCaseError> {
        let answer = match answer {
            Ok(answer) => {
                prop_assert_eq!(answer.revision, self.model.revision(), "revision");
                Ok(answer.body)
            }
            Err(error) => Err(error.to_string()),
        };
        prop_assert_eq!(expected.map_err(String::from), answer);
        Ok(())
    }

    fn watch(&mut self, key: &str, end: &str, from: i64) {
        let request = kv::WatchRequest {
            key: key.to_string().into(),
            range_end: end.to_string().into(),
            start_revision: from,
        };
        let wanted = Wanted {
            key: key.to_string(),
            end: end.to_string(),
            ..Wanted::default()
        };
        self.watches.push(Watching {
            stream: now(self.store.watch(request)).expect("the key is not empty"),
            wanted,
            from: if from == 0 {
                self.model.revision() + 1
            } else {
                from
            },
            got: Vec::new(),
            progress: 0,
            ended: None,
        });
    }

    fn take(&mut self) -> Result<(), TestCaseError> {
        self.store.request_progress(self.model.revision());
        for watching in &mut self.watches {
            watching.take();
            watching.check(&self.model)?;
        }
        Ok(())
    }

    /// Everything that can be looked at.
    fn compare_all(&mut self) -> Result<(), TestCaseError> {
        self.take()?;
        for revision in 1..=self.model.revision() + 1 {
            let everything = Range {
                key: "\0".into(),
                end: "\0".into(),
                revision,
                ..Range::default()
            };
            self.run(&Command::Range(everything))?;
        }
        let ids = now(self.store.leases()).expect("leases are listed").body;
        prop_assert_eq!(self.model.leases().collect::<Vec<_>>(), ids.clone());
        for lease in ids {
            let status = now(self.store.lease_time_to_live(lease, true));
            let keys = status.expect("the lease is there").body.keys;
            let keys: Vec<String> = keys.iter().map(|key| text(key)).collect();
            prop_assert_eq!(self.model.keys_of_lease(lease, self.model.revision()), keys);
        }
        Ok(())
    }
}

impl Watching {
    fn take(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(item)) = self.stream.as_mut().poll_next(&mut context) {
            match item {
                WatchItem::Events { revision, events } => {
                    self.got
                        .push((revision, events.iter().map(event).collect()));
                }
                WatchItem::Progress { revision } => self.progress = self.progress.max(revision),
                WatchItem::Compacted { compact_revision } => self.ended = Some(compact_revision),
            }
        }
    }

    fn check(&self, model: &Model) -> Result<(), TestCaseError> {
        let due = model.history(&self.wanted, self.from);
        let Some(compacted) = self.ended else {
            prop_assert_eq!(&self.got, &due, "{:?} from {}", self.wanted, self.from);
            return Ok(());
        };
        prop_assert_eq!(&self.got, &due[..self.got.len().min(due.len())]);
        let last = self.got.last().map_or(0, |(revision, _)| revision + 1);
        prop_assert!(compacted <= model.compacted());
        prop_assert!(self.from.max(last) < compacted, "ended for nothing");
        prop_assert!(self.progress < compacted, "ended for nothing");
        Ok(())
    }
}

/// The store in memory answers at once.
fn now<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("nothing is waited for")
}

fn with<A, B>(answer: &Answer<A>, body: B) -> Answer<B> {
    Answer {
        revision: answer.revision,
        body,
    }
}

fn range_request(range: &Range) -> kv::RangeRequest {
    kv::RangeRequest {
        key: range.key.clone().into(),
        range_end: range.end.clone().into(),
        limit: range.limit,
        revision: range.revision,
        sort_order: range.order as i32,
        sort_target: range.target as i32,
        serializable: false,
        keys_only: range.keys_only,
        count_only: range.count_only,
        min_mod_revision: range.min_mod,
        max_mod_revision: range.max_mod,
        min_create_revision: range.min_create,
        max_create_revision: range.max_create,
    }
}

fn txn_request(txn: &Txn) -> kv::TxnRequest {
    kv::TxnRequest {
        compare: txn.compares.iter().map(compare_request).collect(),
        success: txn.then.iter().map(step_request).collect(),
        failure: txn.otherwise.iter().map(step_request).collect(),
    }
}

fn step_request(step: &Step) -> kv::RequestOp {
    let request = match step {
        Step::Range(range) => kv::Request::Range(range_request(range)),
        Step::Put(put) => kv::Request::Put(kv::PutRequest {
            key: put.key.clone().into(),
            value: put.value.clone().into(),
            lease: put.lease,
            prev_kv: put.prev,
            ignore_value: put.ignore_value,
            ignore_lease: put.ignore_lease,
        }),
        Step::Delete(delete) => kv::Request::DeleteRange(kv::DeleteRangeRequest {
            key: delete.key.clone().into(),
            range_end: delete.end.clone().into(),
            prev_kv: delete.prev,
        }),
        Step::Txn(nested) => kv::Request::Txn(txn_request(nested)),
    };
    kv::RequestOp {
        request: Some(request),
    }
}

fn compare_request(compare: &Compare) -> kv::Compare {
    use kv::{CompareOperand, CompareResult, CompareTarget};
    let (target, operand) = match &compare.operand {
        Operand::Version(n) => (CompareTarget::Version, CompareOperand::Version(*n)),
        Operand::CreateRevision(n) => (CompareTarget::Create, CompareOperand::CreateRevision(*n)),
        Operand::ModRevision(n) => (CompareTarget::Mod, CompareOperand::ModRevision(*n)),
        Operand::Value(value) => (
            CompareTarget::Value,
            CompareOperand::Value(value.clone().into()),
        ),
        Operand::Lease(n) => (CompareTarget::Lease, CompareOperand::Lease(*n)),
    };
    let result = match compare.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
        Relation::NotEqual => CompareResult::NotEqual,
    };
    kv::Compare {
        result: result as i32,
        target: target as i32,
        key: compare.key.clone().into(),
        operand: Some(operand),
        range_end: compare.end.clone().into(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("only text was written")
}

fn pair(kv: &KeyValue) -> Pair {
    Pair {
        key: text(&kv.key),
        value: text(&kv.value),
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

fn event(event: &kv::Event) -> Event {
    Event {
        deleted: event.kind == kv::EventKind::Delete as i32,
        pair: pair(&event.kv),
        prev: event.prev_kv.as_ref().map(pair),
    }
}

fn found(response: &kv::RangeResponse) -> Found {
    Found {
        pairs: response.kvs.iter().map(pair).collect(),
        count: response.count,
        more: response.more,
    }
}

fn answered(response: &kv::TxnResponse) -> Answered {
    Answered {
        succeeded: response.succeeded,
        steps: response.responses.iter().map(step_answer).collect(),
    }
}

fn step_answer(step: &kv::ResponseOp) -> Response {
    match step.response.as_ref().expect("every step is answered") {
        kv::ResponseBody::Range(range) => Response::Range(found(range)),
        kv::ResponseBody::Put(put) => Response::Put {
            prev: put.prev_kv.as_ref().map(pair),
        },
        kv::ResponseBody::DeleteRange(delete) => Response::Delete {
            deleted: delete.deleted,
            prev: delete.prev_kvs.iter().map(pair).collect(),
        },
        kv::ResponseBody::Txn(txn) => {
            let answered = answered(txn);
            Response::Txn {
                succeeded: answered.succeeded,
                steps: answered.steps,
            }
        }
    }
}
