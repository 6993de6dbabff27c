//! What clients do that takes more than one call, the same at every level: who asks, how, and whether time passes is the
//! [`Caller`]'s affair.

use crate::recording::{
    Compare, Operand, Order, Outcome, Pair, Put, Range, Relation, Request, Response, Step, Target,
    Txn,
};
use rand::{Rng, RngExt};
use std::future::Future;

/// Lists that grow at their ends.
const LISTS: u32 = 4;
/// Then a list begins anew, so that it does not grow for ever.
const ELEMENTS_MAX: usize = 40;
/// Of locks, and of elections.
const NAMES: u32 = 2;

/// A client, or whoever stands for one.
pub trait Caller: Send {
    type Dice: Rng + Send;
    fn dice(&mut self) -> &mut Self::Dice;
    /// A number that nobody else has in this run.
    fn unique(&mut self) -> u64;
    /// The run is over, and nothing new is begun.
    fn is_over(&self) -> bool;
    /// Asks, and has it recorded.
    fn ask(&mut self, request: Request) -> impl Future<Output = Outcome> + Send;
    /// Does nothing for a while, of this range.
    fn pause(&mut self, from_ms: u64, to_ms: u64) -> impl Future<Output = ()> + Send;
    /// Renews a lease, at whatever member.
    fn renew(&mut self, lease: i64) -> impl Future<Output = Outcome> + Send {
        self.ask(Request::KeepAlive { lease })
    }
}

/// A range without keys: every other one is as it comes, the others are put in an order, or leave out what is older or newer
/// than some revision near the newest one.
pub fn an_order(rng: &mut impl Rng, newest: i64) -> Range {
    const NEAR: i64 = 60;
    let orders = [Order::None, Order::Ascend, Order::Descend];
    let targets = [
        Target::Key,
        Target::Version,
        Target::Create,
        Target::Mod,
        Target::Value,
    ];
    if rng.random_bool(0.5) {
        return Range::default();
    }
    let mut bound = || match rng.random_bool(0.2) {
        true => (newest - rng.random_range(0..NEAR)).max(1),
        false => 0,
    };
    let (min_mod, max_mod) = (bound(), bound());
    let (min_create, max_create) = (bound(), bound());
    Range {
        order: orders[rng.random_range(0..orders.len())],
        target: targets[rng.random_range(0..targets.len())],
        min_mod,
        max_mod,
        min_create,
        max_create,
        ..Range::default()
    }
}

/// One key, as it is now.
pub fn one(key: &str) -> Range {
    Range {
        key: key.into(),
        ..Range::default()
    }
}

pub fn equals(key: &str, operand: Operand) -> Compare {
    Compare {
        key: key.into(),
        relation: Relation::Equal,
        operand,
    }
}

/// Reads one, two or three lists in one transaction, and in another puts an element at the end of each, if all are still
/// the same; else reads them again.
pub async fn append(caller: &mut impl Caller) {
    let first = caller.dice().random_range(0..LISTS);
    let count = caller.dice().random_range(1..4);
    let keys: Vec<String> = (first..first + count)
        .map(|number| format!("u/list{}", number % LISTS))
        .collect();
    let read: Vec<Step> = keys.iter().map(|key| Step::Range(one(key))).collect();
    let look = Txn {
        then: read.clone(),
        ..Txn::default()
    };
    let Some(lists) = lists(&caller.ask(Request::Txn(look)).await) else {
        return;
    };
    let element = caller.unique();
    let appending = appending(&keys, &lists, element, read);
    caller.ask(Request::Txn(appending)).await;
}

fn appending(keys: &[String], lists: &[Option<Pair>], element: u64, read: Vec<Step>) -> Txn {
    let both = || keys.iter().zip(lists);
    let with_element = |(key, list): (&String, &Option<Pair>)| {
        let before = list.as_ref().map_or("", |list| &list.value);
        Step::Put(Put {
            key: key.clone(),
            value: appended(before, element),
            ..Put::default()
        })
    };
    let unchanged = |(key, list): (&String, &Option<Pair>)| {
        let modified = list.as_ref().map_or(0, |list| list.modified);
        equals(key, Operand::ModRevision(modified))
    };
    Txn {
        compares: both().map(unchanged).collect(),
        then: both().map(with_element).collect(),
        otherwise: read,
    }
}

/// The lists in an answer.
fn lists(outcome: &Outcome) -> Option<Vec<Option<Pair>>> {
    let Outcome::Ok {
        response: Response::Txn { steps, .. },
        ..
    } = outcome
    else {
        return None;
    };
    let list = |step: &Response| match step {
        Response::Range(found) => Some(found.pairs.first().cloned()),
        _ => None,
    };
    steps.iter().map(list).collect()
}

fn appended(list: &str, element: u64) -> String {
    match list.split(' ').count() {
        _ if list.is_empty() => element.to_string(),
        count if count >= ELEMENTS_MAX => element.to_string(),
        _ => format!("{list} {element}"),
    }
}

/// Waits for a lock, uses it for a while, and unlocks it, or leaves that to the end of its lease. That only one has it is
/// true of the store alone, not of what a client believes: its lease may have ended. So it does everything under the
/// condition that the key of its place is still the one that was created then.
pub async fn lock(caller: &mut impl Caller, lease: i64) {
    let name = format!("lock/{}", caller.dice().random_range(0..NAMES));
    let wish = Request::Lock {
        name: name.clone(),
        lease,
    };
    let Outcome::Ok {
        response: Response::Held { key, .. },
        ..
    } = caller.ask(wish).await
    else {
        return;
    };
    let Some(created) = created(&caller.ask(Request::Range(one(&key))).await) else {
        return;
    };
    for _ in 0..caller.dice().random_range(1..4) {
        let value = format!("v{}", caller.unique());
        caller.ask(fenced(&key, created, &name, value)).await;
        if caller.is_over() {
            return;
        }
        caller.pause(20, 700).await;
        if caller.dice().random_bool(0.4) {
            caller.renew(lease).await;
        }
    }
    match caller.dice().random_range(0..4) {
        0 => {}
        1 => drop(caller.ask(Request::Revoke { lease }).await),
        _ => drop(caller.ask(Request::Unlock { key }).await),
    }
}

/// The revision at which the key was created.
fn created(outcome: &Outcome) -> Option<i64> {
    match outcome {
        Outcome::Ok {
            response: Response::Range(found),
            ..
        } => found.pairs.first().map(|pair| pair.created),
        _ => None,
    }
}

/// Something that only who has the lock may do.
fn fenced(key: &str, created: i64, name: &str, value: String) -> Request {
    let mine = format!("v/{name}");
    let put = Put {
        key: mine.clone(),
        value,
        prev: true,
        ..Put::default()
    };
    Request::Txn(Txn {
        compares: vec![equals(key, Operand::CreateRevision(created))],
        then: vec![Step::Put(put)],
        otherwise: vec![Step::Range(one(&mine))],
    })
}

/// One of the elections that there are.
pub fn election(caller: &mut impl Caller) -> String {
    format!("election/{}", caller.dice().random_range(0..NAMES))
}

/// Stands for election, with a lease; who is elected says a few things and resigns, or lets its lease end.
pub async fn stand(caller: &mut impl Caller, name: String, lease: i64) {
    let campaign = Request::Campaign {
        name,
        lease,
        value: format!("v{}", caller.unique()),
    };
    let Outcome::Ok {
        response: Response::Held { key, created },
        ..
    } = caller.ask(campaign).await
    else {
        return;
    };
    for _ in 0..caller.dice().random_range(0..4) {
        if caller.is_over() {
            return;
        }
        let proclaim = Request::Proclaim {
            key: key.clone(),
            created,
            lease,
            value: format!("v{}", caller.unique()),
        };
        caller.ask(proclaim).await;
        caller.pause(20, 700).await;
        if caller.dice().random_bool(0.4) {
            caller.renew(lease).await;
        }
    }
    if caller.dice().random_bool(0.7) {
        caller.ask(Request::Resign { key, created }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Found;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn a_list_grows_by_one_and_begins_anew_when_it_is_long() {
        assert_eq!(appended("", 1), "1");
        assert_eq!(appended("1", 2), "1 2");
        let long = vec!["7"; ELEMENTS_MAX].join(" ");
        assert_eq!(appended(&long, 8), "8");
    }

    /// Answers from a script, and keeps what was asked.
    struct Script {
        dice: StdRng,
        answers: Vec<Response>,
        asked: Vec<Request>,
    }

    impl Script {
        fn new(answers: &[Response]) -> Script {
            Script {
                dice: StdRng::seed_from_u64(1),
                answers: answers.iter().rev().cloned().collect(),
                asked: Vec::new(),
            }
        }
    }

    impl Caller for Script {
        type Dice = StdRng;

        fn dice(&mut self) -> &mut StdRng {
            &mut self.dice
        }

        fn unique(&mut self) -> u64 {
            7
        }

        fn is_over(&self) -> bool {
            self.answers.is_empty()
        }

        async fn ask(&mut self, request: Request) -> Outcome {
            self.asked.push(request);
            match self.answers.pop() {
                Some(response) => Outcome::Ok {
                    revision: 9,
                    response,
                },
                None => Outcome::Unknown {
                    message: String::new(),
                },
            }
        }

        async fn pause(&mut self, _: u64, _: u64) {}
    }

    fn found(value: &str, created: i64, modified: i64) -> Response {
        Response::Range(Found {
            pairs: vec![Pair {
                value: value.into(),
                created,
                modified,
                ..Pair::default()
            }],
            ..Found::default()
        })
    }

    #[tokio::test]
    async fn an_element_is_appended_to_what_was_read_alone() {
        let mut script = Script::new(&[]);
        // As many lists as there are in the answer.
        while script.asked.last().is_none_or(|asked| match asked {
            Request::Txn(txn) => txn.compares.len() != 3,
            _ => true,
        }) {
            script.answers = vec![three()];
            append(&mut script).await;
        }
        let Some(Request::Txn(txn)) = script.asked.last() else {
            panic!("no transaction");
        };
        let expected: Vec<Operand> = [5, 0, 6].map(Operand::ModRevision).into();
        let compared: Vec<Operand> = txn.compares.iter().map(|one| one.operand.clone()).collect();
        assert_eq!(compared, expected);
        let values: Vec<&str> = txn
            .then
            .iter()
            .map(|step| match step {
                Step::Put(put) => put.value.as_str(),
                _ => "",
            })
            .collect();
        assert_eq!(values, ["1 2 7", "7", "3 7"]);
    }

    fn three() -> Response {
        Response::Txn {
            succeeded: true,
            steps: vec![
                found("1 2", 1, 5),
                Response::Range(Found::default()),
                found("3", 1, 6),
            ],
        }
    }

    #[tokio::test]
    async fn who_has_a_lock_writes_under_the_condition_that_it_still_has_it() {
        let held = Response::Held {
            key: "lock/0/1f".into(),
            created: 0,
        };
        let mut script = Script::new(&[held, found("", 4, 4), Response::Done]);
        lock(&mut script, 0x1f).await;
        let Request::Txn(txn) = &script.asked[2] else {
            panic!("{:?}", script.asked);
        };
        assert_eq!(
            txn.compares,
            [equals("lock/0/1f", Operand::CreateRevision(4))]
        );
        // One that does not get it does nothing more.
        let mut script = Script::new(&[]);
        lock(&mut script, 0x1f).await;
        assert_eq!(script.asked.len(), 1);
    }

    #[tokio::test]
    async fn who_is_elected_names_its_own_place() {
        let held = Response::Held {
            key: "election/0/1f".into(),
            created: 4,
        };
        let answers = vec![Response::Done; 40];
        let mut all = vec![held];
        all.extend(answers);
        let mut script = Script::new(&all);
        let name = election(&mut script);
        stand(&mut script, name, 0x1f).await;
        for asked in &script.asked[1..] {
            match asked {
                Request::Proclaim { key, created, .. } | Request::Resign { key, created } => {
                    assert_eq!((key.as_str(), *created), ("election/0/1f", 4));
                }
                Request::KeepAlive { lease } => assert_eq!(*lease, 0x1f),
                other => panic!("{other:?}"),
            }
        }
    }
}
