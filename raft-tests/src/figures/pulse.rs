//! Steady writers: each asks for a write every few milliseconds, whether or not the ones before were answered, and has
//! put down when each was acknowledged.

use super::numbers::Ack;
use crate::chaos::shared::Shared;
use crate::etcd::client::Connection;
use crate::etcd::outcome::{is_of_connection, was_answered};
use crate::recording::{Outcome, Put, Request};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// Between two writes of one writer.
pub const EVERY: Duration = Duration::from_millis(5);
/// For an answer. Longer than any election.
const ANSWER: Duration = Duration::from_secs(5);
/// So many of one writer may be under way.
const UNDER_WAY: usize = 400;
/// Before a connection is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// A writer comes back to these keys.
const KEYS: u64 = 20;

/// The writers of one slice.
pub struct Pulse {
    shared: Arc<Shared>,
    acks: Mutex<Vec<Ack>>,
    /// To each member, while there is one; the number tells it from those before.
    connections: Vec<Mutex<Option<(u64, Connection)>>>,
}

impl Pulse {
    pub fn new(shared: Arc<Shared>) -> Arc<Pulse> {
        let connections = shared.members.iter().map(|_| Mutex::new(None)).collect();
        Arc::new(Pulse {
            shared,
            acks: Mutex::default(),
            connections,
        })
    }

    /// All so far.
    pub fn acks(&self) -> Vec<Ack> {
        lock(&self.acks).clone()
    }

    fn goes_on(&self) -> bool {
        !self.shared.clients_stop.load(Ordering::SeqCst)
    }

    /// Keeps a connection to a member open.
    pub async fn keep(self: Arc<Self>, member: usize) {
        let mut number = 0;
        while self.goes_on() {
            if lock(&self.connections[member]).is_none()
                && let Ok(open) = self.shared.connect(member).await
            {
                number += 1;
                *lock(&self.connections[member]) = Some((number, open));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Through its own member, or the next one to which there is a connection.
    fn connection(&self, home: usize) -> Option<(usize, u64, Connection)> {
        let count = self.connections.len();
        (0..count).find_map(|step| {
            let member = (home + step) % count;
            let (number, open) = lock(&self.connections[member]).clone()?;
            Some((member, number, open))
        })
    }

    fn broken(&self, member: usize, number: u64) {
        let mut connection = lock(&self.connections[member]);
        if connection.as_ref().is_some_and(|(it, _)| *it == number) {
            *connection = None;
        }
    }

    /// Writes until told to stop. `client` is its number in the recording.
    pub async fn beat(self: Arc<Self>, home: usize, client: u32) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut calls = JoinSet::new();
        let mut count = 0;
        while self.goes_on() {
            ticks.tick().await;
            while calls.try_join_next().is_some() {}
            let Some((member, number, open)) = self.connection(home) else {
                continue;
            };
            if calls.len() >= UNDER_WAY {
                continue;
            }
            count += 1;
            let put = Request::Put(Put {
                key: format!("pulse/{home}/{}", count % KEYS),
                value: count.to_string(),
                ..Put::default()
            });
            let pulse = self.clone();
            calls.spawn(async move {
                pulse.write(home, client, (member, number, open), put).await;
            });
        }
        // Each has its deadline.
        while calls.join_next().await.is_some() {}
    }

    async fn write(
        &self,
        home: usize,
        client: u32,
        (member, number, open): (usize, u64, Connection),
        put: Request,
    ) {
        let recorder = &self.shared.recorder;
        let id = self.shared.members[member].id();
        let called = Duration::from_nanos(recorder.now());
        let operation = recorder.called(client, id, put.clone());
        let outcome = open.perform(&put, ANSWER).await;
        let at = Duration::from_nanos(recorder.now());
        if is_of_connection(&outcome) {
            self.broken(member, number);
        }
        if let Outcome::Ok { revision, .. } = &outcome {
            self.shared.learn_revision(*revision);
            lock(&self.acks).push(Ack { home, called, at });
        }
        let answered = was_answered(&outcome);
        recorder.returned(operation, outcome, answered);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
