//! Pods that have a node and wait until the API server knows. Pure: says what to send next.
//!
//! A pod that is alone is sent at once. What is decided while a batch is under way waits for the next one, so batches grow
//! with the load by themselves, and nothing waits for a timer.

use crate::gang;
use crate::queue::Queued;
use crate::write::BATCH_MAX;
use std::collections::VecDeque;

/// Batches under way at once: the server works on one while the next is being decided.
const BATCHES_MAX: usize = 2;
/// A second one goes beside the first only with as many pods.
const SECOND_MIN: usize = 64;
/// Bindings under way at once where each is a request of its own.
const SINGLES_MAX: usize = 64;
/// When so many wait, deciding waits.
const WAITING_MAX: usize = 2 * BATCH_MAX;

/// A pod and the node that was found for it.
pub(crate) type Placed = (Queued, String);

/// See the module head.
#[derive(Default)]
pub(crate) struct Binder {
    /// In the order of the decisions.
    waiting: VecDeque<Placed>,
    under_way: usize,
    /// The server takes no batches.
    one_by_one: bool,
}

impl Binder {
    /// Whether the server has to catch up before more is decided.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// A pod was given a node.
    pub(crate) fn add(&mut self, queued: Queued, node: String) {
        self.waiting.push_back((queued, node));
    }

    /// What to send now; empty for nothing.
    pub(crate) fn next(&mut self) -> Vec<Placed> {
        let (room, size) = match (self.one_by_one, self.under_way) {
            (true, under_way) => (under_way < SINGLES_MAX, 1),
            (false, 0) => (true, BATCH_MAX),
            (false, under_way) => {
                let pays = self.waiting.len() >= SECOND_MIN;
                (pays && under_way < BATCHES_MAX, BATCH_MAX)
            }
        };
        let size = self.whole_gangs(size.min(self.waiting.len()));
        if !room || size == 0 {
            return Vec::new();
        }
        self.under_way += 1;
        self.waiting.drain(..size).collect()
    }

    /// Less than `size`, where that keeps a group together that stands across it and is no larger than a batch.
    fn whole_gangs(&self, size: usize) -> usize {
        let group = |at: usize| gang::key(&self.waiting.get(at)?.0.pod);
        let Some(across) = group(size).filter(|_| size > 0) else {
            return size;
        };
        let before = (0..size)
            .rev()
            .take_while(|at| group(*at).as_ref() == Some(&across));
        match before.count() {
            inside if inside < size => size - inside,
            _ => size,
        }
    }

    /// Takes out the pods of a group that were not sent yet.
    pub(crate) fn withdraw(&mut self, key: &gang::Key) -> Vec<Placed> {
        let waiting = std::mem::take(&mut self.waiting);
        let (out, rest): (Vec<Placed>, Vec<Placed>) = waiting
            .into_iter()
            .partition(|(queued, _)| gang::key(&queued.pod).as_ref() == Some(key));
        self.waiting = rest.into();
        out
    }

    /// What was sent was answered, or came to nothing.
    pub(crate) fn finish(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// The server takes no batches: these go one by one, before those that were decided after them.
    pub(crate) fn go_singly(&mut self, batch: Vec<Placed>) {
        self.one_by_one = true;
        for placed in batch.into_iter().rev() {
            self.waiting.push_front(placed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Pod;
    use crate::queue::Queue;
    use serde_json::json;
    use std::sync::Arc;

    fn placed(number: usize) -> Placed {
        let uid = number.to_string();
        let mut queue = Queue::default();
        let pod = Pod::compile(&json!({"metadata": {"name": uid, "namespace": "d", "uid": uid}}));
        queue.set(Arc::new(pod), 0);
        (queue.pop(0).unwrap(), "n".into())
    }

    fn add(binder: &mut Binder, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let (queued, node) = placed(number);
            binder.add(queued, node);
        }
    }

    fn names(batch: &[Placed]) -> Vec<&str> {
        batch.iter().map(|(queued, _)| &*queued.pod.name).collect()
    }

    #[test]
    fn one_pod_goes_at_once_and_those_behind_it_together() {
        let mut binder = Binder::default();
        assert!(binder.next().is_empty());
        add(&mut binder, 0..1);
        assert_eq!(names(&binder.next()), ["0"]);
        add(&mut binder, 1..4);
        assert!(binder.next().is_empty(), "few wait for the first");
        binder.finish();
        assert_eq!(names(&binder.next()), ["1", "2", "3"]);
    }

    #[test]
    fn batches_and_what_waits_are_bounded() {
        let mut binder = Binder::default();
        add(&mut binder, 0..WAITING_MAX - 1);
        assert!(!binder.is_full());
        add(&mut binder, 0..1);
        assert!(binder.is_full());
        assert_eq!(binder.next().len(), BATCH_MAX);
        assert_eq!(binder.next().len(), BATCH_MAX);
        add(&mut binder, 0..BATCH_MAX);
        assert!(binder.next().is_empty(), "two are under way");
        binder.finish();
        assert_eq!(binder.next().len(), BATCH_MAX);
    }

    #[test]
    fn a_group_is_not_torn_between_batches_unless_it_is_larger_than_one() {
        let member = |group: &str, number: usize| {
            let (mut queued, node) = placed(number);
            let group = crate::object::Group {
                name: group.into(),
                min_count: 2,
            };
            let pod = Arc::make_mut(&mut queued.pod);
            pod.group = Some(group);
            (queued, node)
        };
        let mut binder = Binder::default();
        add(&mut binder, 0..BATCH_MAX - 2);
        for number in 0..5 {
            let (queued, node) = member("g", number);
            binder.add(queued, node);
        }
        assert_eq!(binder.next().len(), BATCH_MAX - 2);
        binder.finish();
        assert_eq!(binder.next().len(), 5);
        binder.finish();
        for number in 0..BATCH_MAX + 3 {
            let (queued, node) = member("h", number);
            binder.add(queued, node);
        }
        assert_eq!(binder.next().len(), BATCH_MAX);
        add(&mut binder, 0..1);
        assert_eq!(binder.withdraw(&("d".into(), "h".into())).len(), 3);
        binder.finish();
        assert_eq!(names(&binder.next()), ["0"]);
    }

    #[test]
    fn what_a_server_without_batches_refused_goes_first_and_alone() {
        let mut binder = Binder::default();
        add(&mut binder, 0..3);
        let refused = binder.next();
        add(&mut binder, 3..5);
        binder.go_singly(refused);
        binder.finish();
        let sent: Vec<_> = (0..5).map(|_| binder.next()).collect();
        let sent: Vec<_> = sent.iter().map(|batch| names(batch)).collect();
        assert_eq!(sent, [["0"], ["1"], ["2"], ["3"], ["4"]]);
        add(&mut binder, 0..SINGLES_MAX);
        let more = (0..SINGLES_MAX).filter(|_| !binder.next().is_empty());
        assert_eq!(more.count(), SINGLES_MAX - 5);
    }
}
