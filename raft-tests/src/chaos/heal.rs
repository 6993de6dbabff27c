//! The end of a run: nothing is done to the cluster any more, and it has to serve again, soon and everywhere.

use super::api::Api;
use super::rig::Rig;
use super::shared::KEYS;
use super::strike::OWN_CLIENT;
use super::watchers::Follower;
use crate::etcd::client::Connection;
use crate::etcd::message::{HASH_KV, HashKv, HashKvRequest, RANGE, RangeAnswer};
use crate::etcd::outcome::{self, was_answered};
use crate::recording::{Dump, Outcome, Put, Range, Request, Response};
use anyhow::{Context, Result, anyhow, bail};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// For the last process to start and answer.
const ANSWERS: Duration = Duration::from_secs(30);
/// What a healed cluster may take, before the user's factor for slow machines.
const LEADER: Duration = Duration::from_secs(3);
const SERVES: Duration = Duration::from_secs(5);
const CATCHES_UP: Duration = Duration::from_secs(10);
/// For clients to end, which they do after the call that they are in.
const CLIENTS_END: Duration = Duration::from_secs(30);
const CALL: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);

/// Tries again until it succeeds; at last the error says how long that was tried.
async fn insist<T>(patience: Duration, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if Instant::now() > deadline {
            return Err(error.context(format!("not within {patience:?}")));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// See the module head.
pub struct Healing<'a> {
    pub rig: &'a Rig,
    /// By how much this machine is slower than one for which the limits are meant.
    pub factor: u32,
}

impl Healing<'_> {
    fn found(&self, rule: &str, error: &anyhow::Error) {
        let story = format!("All faults were taken back. {error:#}.");
        self.rig.recorder().violation(rule, story);
    }

    /// The cluster serves, clients end, and then there is one state, which all of them were told.
    pub async fn conclude(
        &self,
        mut clients: JoinSet<()>,
        followers: &[Arc<Follower>],
        api: Option<&Api>,
    ) -> Result<()> {
        let shared = &self.rig.shared;
        self.serves().await;
        shared.clients_stop.store(true, Ordering::SeqCst);
        if let Some(api) = api {
            api.stop_writers();
        }
        let ended = tokio::time::timeout(CLIENTS_END, async {
            while let Some(client) = clients.join_next().await {
                if client.is_err() {
                    let words = "a client has panicked";
                    self.rig.recorder().trouble(words.into());
                }
            }
        });
        ended.await.context("the clients do not end")?;
        self.agrees(followers).await;
        if let Some(api) = api {
            api.conclude(self, CATCHES_UP * self.factor).await;
        }
        shared.stop.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// A leader, and a write and a read through each member. Clients go on meanwhile.
    async fn serves(&self) {
        let shared = &self.rig.shared;
        for index in 0..shared.members.len() {
            if let Err(error) = insist(ANSWERS, async || self.status(index).await).await {
                let name = &shared.members[index].name;
                let error = error.context(format!("member {name} does not answer"));
                self.found("liveness: does not come back", &error);
            }
        }
        let healed = self.rig.recorder().now();
        self.rig
            .recorder()
            .change(|recording| recording.run.healed = Some(healed));
        let began = Instant::now();
        let leads = insist(LEADER * self.factor, async || self.one_leader().await).await;
        let led = began.elapsed();
        if let Err(error) = leads {
            self.found("liveness: no leader", &error);
        }
        for index in 0..shared.members.len() {
            let left = (SERVES * self.factor).saturating_sub(began.elapsed());
            if let Err(error) = insist(left, async || self.write_and_read(index).await).await {
                let name = &shared.members[index].name;
                let error = error.context(format!("member {name} does not serve"));
                self.found("liveness: does not serve", &error);
            }
        }
        super::say(&format!(
            "one leader after {:.1} s, a write and a read through each member after {:.1} s",
            led.as_secs_f32(),
            began.elapsed().as_secs_f32()
        ));
    }

    async fn status(&self, index: usize) -> Result<crate::etcd::message::Status> {
        let connection = self.rig.shared.connect(index).await?;
        connection.status(CALL).await.map_err(said)
    }

    async fn one_leader(&self) -> Result<()> {
        let mut seen = Vec::new();
        for index in 0..self.rig.members().len() {
            let status = self.status(index).await?;
            seen.push((status.leader, status.raft_term));
        }
        let ids = self.rig.ids(0..self.rig.members().len());
        match seen.iter().all(|view| *view == seen[0]) && ids.contains(&seen[0].0) {
            true => Ok(()),
            false => bail!("there is not one leader: (leader, term) at each member: {seen:x?}"),
        }
    }

    async fn write_and_read(&self, index: usize) -> Result<()> {
        let member = &self.rig.members()[index];
        let connection = self.rig.shared.connect(index).await?;
        let key = format!("healed/{}", member.name);
        let put = Request::Put(Put {
            key: key.clone(),
            value: "healed".into(),
            ..Put::default()
        });
        self.recorded(&connection, member.id(), put).await?;
        let range = Request::Range(Range {
            key,
            ..Range::default()
        });
        self.recorded(&connection, member.id(), range).await?;
        Ok(())
    }

    async fn recorded(
        &self,
        connection: &Connection,
        member: u64,
        request: Request,
    ) -> Result<(i64, Response)> {
        let recorder = self.rig.recorder();
        let operation = recorder.called(OWN_CLIENT, member, request.clone());
        let outcome = connection.perform(&request, CALL).await;
        recorder.returned(operation, outcome.clone(), was_answered(&outcome));
        match outcome {
            Outcome::Ok { revision, response } => Ok((revision, response)),
            Outcome::Failed { message, .. } | Outcome::Unknown { message } => Err(anyhow!(message)),
        }
    }

    /// All have one state, watchers have seen all of it, and it is put down. Clients have ended. To the judges this is the
    /// end of the run: what goes by itself later, with its lease, is there in this state.
    async fn agrees(&self, followers: &[Arc<Follower>]) {
        let recorder = self.rig.recorder();
        let mut asked = recorder.now();
        let newest = insist(SERVES * self.factor, async || {
            asked = recorder.now();
            self.newest().await
        });
        let newest = newest.await;
        recorder.change(|recording| recording.run.length = asked);
        let revision = match newest {
            Ok(revision) => revision,
            Err(error) => return self.found("liveness: does not serve", &error),
        };
        self.rig
            .shared
            .watch_until
            .store(revision, Ordering::SeqCst);
        let patience = CATCHES_UP * self.factor;
        if let Err(error) = insist(patience, async || self.same_hash(revision).await).await {
            self.found("replicas differ", &error);
        }
        for follower in followers {
            let caught_up = insist(patience, async || {
                let seen = follower.seen.load(Ordering::SeqCst);
                match seen >= revision {
                    true => Ok(()),
                    false => bail!(
                        "watcher {} has seen all up to revision {seen}, and not up to {revision}",
                        follower.client
                    ),
                }
            });
            if let Err(error) = caught_up.await {
                self.found("liveness: watcher is behind", &error);
            }
        }
        let mut dumps = Vec::new();
        for index in 0..self.rig.members().len() {
            match insist(patience, async || self.dump(index, revision).await).await {
                Ok(dump) => dumps.push(dump),
                Err(error) => self.found("liveness: cannot be read", &error),
            }
        }
        recorder.change(|recording| recording.dumps = dumps);
    }

    async fn newest(&self) -> Result<i64> {
        for index in 0..self.rig.members().len() {
            let Ok(connection) = self.rig.shared.connect(index).await else {
                continue;
            };
            let request = kv::RangeRequest {
                key: outcome::bytes(KEYS.0),
                ..kv::RangeRequest::default()
            };
            let answer = connection.unary::<_, RangeAnswer>(RANGE, request, CALL);
            if let Ok(answer) = answer.await {
                return Ok(answer.header.revision);
            }
        }
        bail!("no member answers a linearizable read")
    }

    async fn same_hash(&self, revision: i64) -> Result<()> {
        let mut hashes = Vec::new();
        for index in 0..self.rig.members().len() {
            let hash = self.hash(index, revision).await?;
            hashes.push((hash.hash, hash.compact_revision));
        }
        match hashes.iter().all(|hash| *hash == hashes[0]) {
            true => Ok(()),
            false => {
                bail!("the members differ at revision {revision}: (HashKV, compacted): {hashes:x?}")
            }
        }
    }

    async fn hash(&self, index: usize, revision: i64) -> Result<HashKv> {
        let connection = self.rig.shared.connect(index).await?;
        let request = HashKvRequest { revision };
        connection
            .unary(HASH_KV, request, CALL)
            .await
            .map_err(said)
            .with_context(|| format!("HashKV of {}", self.rig.members()[index].name))
    }

    async fn dump(&self, index: usize, revision: i64) -> Result<Dump> {
        let hash = self.hash(index, revision).await?;
        let connection = self.rig.shared.connect(index).await?;
        let request = kv::RangeRequest {
            key: outcome::bytes(KEYS.0),
            range_end: outcome::bytes(KEYS.1),
            revision,
            serializable: true,
            ..kv::RangeRequest::default()
        };
        let answer: RangeAnswer = connection
            .unary(RANGE, request, CATCHES_UP)
            .await
            .map_err(said)?;
        Ok(Dump {
            member: self.rig.members()[index].id(),
            revision,
            compacted: hash.compact_revision,
            pairs: answer.kvs.iter().map(outcome::pair).collect(),
        })
    }
}

fn said(status: tonic::Status) -> anyhow::Error {
    anyhow!("{:?}: {}", status.code(), status.message())
}
