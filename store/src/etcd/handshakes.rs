//! Connections that have not shown who they are yet: a bounded number, of which the newest are the ones that count.
//!
//! A client that means it shakes hands within milliseconds. So where there are too many, the one that has taken longest
//! has to go: those who connect and say nothing lose their places to each other, and keep nobody out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// See the module head.
#[derive(Debug)]
pub(super) struct Handshakes {
    most: usize,
    under_way: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Oldest first.
    all: VecDeque<(u64, CancellationToken)>,
}

impl Handshakes {
    pub(super) fn new(most: usize) -> Arc<Handshakes> {
        Arc::new(Handshakes {
            most,
            under_way: Mutex::default(),
        })
    }

    /// Starts one, at the expense of the oldest if there are too many.
    pub(super) fn start(self: &Arc<Self>) -> Handshake {
        let mut state = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let id = state.next;
        state.next += 1;
        let gone = CancellationToken::new();
        state.all.push_back((id, gone.clone()));
        if state.all.len() > self.most
            && let Some((_, oldest)) = state.all.pop_front()
        {
            oldest.cancel();
        }
        Handshake {
            all: self.clone(),
            id,
            gone,
        }
    }
}

/// One that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    all: Arc<Handshakes>,
    id: u64,
    /// Cancelled when it has to go.
    pub(super) gone: CancellationToken,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut state = self
            .all
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Ok(place) = state.all.binary_search_by_key(&self.id, |(id, _)| *id) {
            state.all.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_has_to_go_where_there_are_too_many() {
        let handshakes = Handshakes::new(3);
        let mut held: Vec<Handshake> = (0..3).map(|_| handshakes.start()).collect();
        assert!(held.iter().all(|one| !one.gone.is_cancelled()));
        // One that is done makes room.
        drop(held.remove(1));
        held.push(handshakes.start());
        assert!(held.iter().all(|one| !one.gone.is_cancelled()));
        held.push(handshakes.start());
        let gone: Vec<bool> = held.iter().map(|one| one.gone.is_cancelled()).collect();
        assert_eq!(gone, [true, false, false, false]);
        drop(held);
        assert!(handshakes.under_way.lock().unwrap().all.is_empty());
    }
}
