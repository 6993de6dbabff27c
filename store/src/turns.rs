//! The turns of tasks. Whoever takes from many what is sent, written or told at once lets those who are ready give theirs first:
//! a task that is woken goes next, so it would come for each of them alone.
//!
//! Nothing is waited for. Where no other task is ready, a round takes no time; where many are, the processor is busy with them.

use std::future::poll_fn;
use std::task::Poll;

use tokio::sync::mpsc;

/// Ends when the tasks that are ready have had their turn. tokio's own way to yield comes back only when no task is ready at
/// all, or after sixty of them.
pub(crate) async fn others_first() {
    let mut asked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Of a queue its first, those that are there, and what comes while the others have their turns: round after round, so many
/// at most, for as long as each brings something and there are not enough.
pub(crate) async fn gather<T>(
    first: T,
    queue: &mut mpsc::Receiver<T>,
    rounds: usize,
    enough: usize,
) -> Vec<T> {
    let mut gathered = vec![first];
    take(queue, &mut gathered);
    for _ in 0..rounds {
        let before = gathered.len();
        if before >= enough {
            break;
        }
        others_first().await;
        take(queue, &mut gathered);
        if gathered.len() == before {
            break;
        }
    }
    gathered
}

/// No more than there is room for in the queue: others may fill it while it is emptied.
fn take<T>(queue: &mut mpsc::Receiver<T>, taken: &mut Vec<T>) {
    for _ in 0..queue.max_capacity() {
        match queue.try_recv() {
            Ok(next) => taken.push(next),
            Err(_) => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[tokio::test]
    async fn who_is_ready_goes_first_and_who_is_not_is_not_waited_for() {
        let local = tokio::task::LocalSet::new();
        let order = Rc::new(RefCell::new(Vec::new()));
        let said = |what: &'static str| {
            let order = order.clone();
            move || order.borrow_mut().push(what)
        };
        let (last, ready, never) = (said("last"), said("ready"), said("never"));
        local.spawn_local(async move {
            others_first().await;
            last();
        });
        local.spawn_local(async move { ready() });
        local.spawn_local(async move {
            std::future::pending::<()>().await;
            never();
        });
        local
            .run_until(async {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        assert_eq!(*order.borrow(), ["ready", "last"]);
    }

    /// What is gathered beside a task that sends so many each time it has a turn, for so many turns.
    async fn gathered(turns: usize, each: usize, rounds: usize, enough: usize) -> usize {
        let (sender, mut queue) = mpsc::channel(100);
        let local = tokio::task::LocalSet::new();
        let gathering =
            local.spawn_local(async move { gather(0, &mut queue, rounds, enough).await.len() });
        local.spawn_local(async move {
            for _ in 0..turns {
                for number in 0..each {
                    if sender.try_send(number).is_err() {
                        return;
                    }
                }
                others_first().await;
            }
            std::future::pending::<()>().await;
        });
        local.run_until(gathering).await.unwrap()
    }

    #[tokio::test]
    async fn rounds_go_on_while_they_bring_something_and_it_is_not_enough() {
        for (turns, each, rounds, enough, expected) in [
            (9, 1, 0, 100, 1),
            (9, 1, 1, 100, 2),
            (9, 1, 3, 100, 4),
            (2, 1, 9, 100, 3),
            (0, 0, 9, 100, 1),
            (9, 3, 9, 5, 7),
        ] {
            let found = gathered(turns, each, rounds, enough).await;
            assert_eq!(found, expected, "{turns} {each} {rounds} {enough}");
        }
    }

    #[tokio::test]
    async fn what_is_there_is_taken_without_a_round_and_in_order() {
        let (sender, mut queue) = mpsc::channel(10);
        for number in 1..=5 {
            sender.try_send(number).unwrap();
        }
        assert_eq!(gather(0, &mut queue, 0, 3).await, [0, 1, 2, 3, 4, 5]);
    }
}
