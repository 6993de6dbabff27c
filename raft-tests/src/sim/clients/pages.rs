//! What takes more than one request, without waiting: lists in pages, and appending to several lists at once.

use rand::RngExt;

use super::Client;
use super::requests::{equals, one};
use crate::recording::{Operand, Outcome, Pair, Put, Range, Request, Response, Step, Txn};

const LISTS: u32 = 4;
/// Then a list begins anew, so that it does not grow for ever.
const ELEMENTS_MAX: usize = 40;

impl Client<'_> {
    /// As the API server lists: the first page of now, the others of the same revision, each after the last key.
    pub(super) async fn leaf_through(&mut self) {
        let mut range = Range {
            key: "r/".into(),
            end: "y".into(),
            limit: self.rng.random_range(1..12),
            ..Range::default()
        };
        loop {
            range.streamed = self.rng.random_bool(0.3);
            let outcome = self.ask(Request::Range(range.clone())).await;
            let Outcome::Ok {
                revision,
                response: Response::Range(found),
            } = outcome
            else {
                return;
            };
            let Some(last) = found.pairs.last().filter(|_| found.more) else {
                return;
            };
            range.key = format!("{}\0", last.key);
            if range.revision == 0 {
                range.revision = revision;
            }
            if self.rng.random_bool(0.3) {
                self.move_on();
            }
        }
    }

    /// Reads one, two or three lists in one transaction, and in another puts an element at the end of each, if all are
    /// still the same; else reads them again.
    pub(super) async fn append(&mut self) {
        let first = self.rng.random_range(0..LISTS);
        let count = self.rng.random_range(1..4);
        let keys: Vec<String> = (first..first + count)
            .map(|number| format!("u/list{}", number % LISTS))
            .collect();
        let read: Vec<Step> = keys.iter().map(|key| Step::Range(one(key))).collect();
        let look = Txn {
            then: read.clone(),
            ..Txn::default()
        };
        let Some(lists) = lists(&self.ask(Request::Txn(look)).await) else {
            return;
        };
        let element = self.shared.unique();
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
        let both = || keys.iter().zip(&lists);
        let append = Txn {
            compares: both().map(unchanged).collect(),
            then: both().map(with_element).collect(),
            otherwise: read,
        };
        self.ask(Request::Txn(append)).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_grows_by_one_and_begins_anew_when_it_is_long() {
        assert_eq!(appended("", 1), "1");
        assert_eq!(appended("1", 2), "1 2");
        let long = vec!["7"; ELEMENTS_MAX].join(" ");
        assert_eq!(appended(&long, 8), "8");
    }
}
