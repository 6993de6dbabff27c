//! The hands of the test: everything that can be done to the members, to their network, and to the cluster through
//! etcd's API.

use super::links::{PEER_PORT, Rule, ruleset};
use super::members::Member;
use super::nodes::Node;
use super::program;
use super::recorder::Recorder;
use super::shared::Shared;
use super::space::Space;
use super::topology::address;
use crate::etcd::client::Connection;
use crate::etcd::message::{
    MEMBER_ADD, MEMBER_LIST, MEMBER_PROMOTE, MEMBER_REMOVE, MemberAdd, MemberAdded, MemberId,
    MemberListRequest, Members, Plain,
};
use anyhow::{Result, anyhow, bail};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// For a call of the API on a cluster that may be electing.
const CALL: Duration = Duration::from_secs(5);
/// For such a call to succeed at all, with no other fault under way.
const INSIST: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Waits that end early when the run does.
#[derive(Default)]
pub struct Halt {
    halted: Mutex<bool>,
    changed: Condvar,
}

impl Halt {
    pub fn halt(&self) {
        *self.halted.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Answers whether the run is over.
    pub fn wait(&self, length: Duration) -> bool {
        let halted = self.halted.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(halted, length, |halted| !*halted);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub fn is_halted(&self) -> bool {
        self.wait(Duration::ZERO)
    }
}

/// See the module head. Used from threads that may block.
pub struct Rig {
    pub shared: Arc<Shared>,
    pub nodes: Vec<Arc<Node>>,
    pub halt: Arc<Halt>,
    pub runtime: Handle,
    /// The namespace of the bridge between the members.
    pub bridge: Arc<Space>,
    /// What is in force on the network, by number.
    rules: Mutex<Vec<(u64, Rule)>>,
}

impl Rig {
    pub fn new(
        shared: Arc<Shared>,
        nodes: Vec<Arc<Node>>,
        runtime: Handle,
        bridge: Arc<Space>,
    ) -> Rig {
        Rig {
            shared,
            nodes,
            halt: Arc::default(),
            runtime,
            bridge,
            rules: Mutex::default(),
        }
    }

    /// The same members for another recording.
    pub fn again(&self, recorder: Recorder) -> Rig {
        let shared = Shared::new(
            self.shared.members.clone(),
            self.shared.credentials.clone(),
            Arc::new(recorder),
        );
        Rig::new(
            Arc::new(shared),
            self.nodes.clone(),
            self.runtime.clone(),
            self.bridge.clone(),
        )
    }

    pub fn members(&self) -> &[Arc<Member>] {
        &self.shared.members
    }

    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    pub fn ids(&self, members: impl IntoIterator<Item = usize>) -> Vec<u64> {
        let ids = members.into_iter().map(|index| self.members()[index].id());
        ids.collect()
    }

    pub fn names(&self, members: impl IntoIterator<Item = usize>) -> String {
        let names: Vec<&str> = members
            .into_iter()
            .map(|index| self.members()[index].name.as_str())
            .collect();
        names.join(", ")
    }

    /// Puts a rule into force. Answers its number.
    pub fn impose(&self, rule: Rule) -> Result<u64> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let number = rules.last().map_or(0, |(number, _)| number + 1);
        rules.push((number, rule.clone()));
        self.filter(&rules, &rule)?;
        Ok(number)
    }

    pub fn lift(&self, number: u64) -> Result<()> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        match rules.iter().position(|(it, _)| *it == number) {
            Some(index) => {
                let (_, rule) = rules.remove(index);
                self.filter(&rules, &rule)
            }
            None => Ok(()),
        }
    }

    /// The filters of all members that a change of this rule touches.
    fn filter(&self, rules: &[(u64, Rule)], changed: &Rule) -> Result<()> {
        let rules: Vec<Rule> = rules.iter().map(|(_, rule)| rule.clone()).collect();
        for member in self.members() {
            if changed.links.iter().any(|(_, to)| *to == member.index) {
                let text = ruleset(member.index, &rules);
                let set = move || program::run_with("nft", &["-f", "-"], &text);
                member.space.within(set)??;
            }
        }
        Ok(())
    }

    /// Nothing is done to the network and the processes any more, and all members and nodes run.
    pub fn undo_all(&self) -> Result<()> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.clear();
        for member in self.members() {
            let clear = || program::run_with("nft", &["-f", "-"], &ruleset(0, &[]));
            member.space.within(clear)??;
            member.set_clock(0)?;
            if let Some(disk) = &member.disk {
                disk.clear()?;
            }
            member.signal("CONT")?;
            if member.runs_other() {
                member.excuse(true);
                member.stop()?;
                member.set_other(false);
            }
            // One that a fault has ended is started again; whoever ends from now on has no excuse.
            if member.is_excused() {
                let _ = member.take_ended()?;
                member.excuse(false);
            }
            member.start()?;
        }
        for node in &self.nodes {
            node.signal("CONT")?;
            node.start()?;
        }
        Ok(())
    }

    /// Does something over a new connection to one member.
    pub fn at<T, F>(
        &self,
        member: usize,
        ask: impl FnOnce(Connection) -> F + Send,
    ) -> Result<T, tonic::Status>
    where
        F: Future<Output = Result<T, tonic::Status>>,
    {
        self.runtime.block_on(async {
            let connection = self.shared.connect(member).await;
            let connection =
                connection.map_err(|error| tonic::Status::unavailable(format!("{error:#}")))?;
            ask(connection).await
        })
    }

    /// Asks the other members one after the other until one does it.
    fn insist<Q, A>(&self, except: usize, path: &'static str, request: &Q) -> Result<A>
    where
        Q: prost::Message + Clone + 'static,
        A: prost::Message + Default + 'static,
    {
        let deadline = Instant::now() + INSIST;
        let count = self.members().len();
        let mut turn = 0;
        loop {
            turn += 1;
            let member = (except + 1 + turn % (count - 1)) % count;
            let request = request.clone();
            match self.at(member, |connection| async move {
                connection.unary::<Q, A>(path, request, CALL).await
            }) {
                Ok(answer) => return Ok(answer),
                // Done by an attempt of which nothing was heard.
                Err(status) if status.message() == "etcdserver: member not found" => {
                    return Ok(A::default());
                }
                Err(status) if Instant::now() > deadline || self.halt.is_halted() => {
                    bail!("{path}: {:?}: {}", status.code(), status.message())
                }
                Err(_) => std::thread::sleep(RETRY_PAUSE),
            }
        }
    }

    /// Takes a member out of the membership.
    pub fn remove(&self, index: usize) -> Result<()> {
        let request = MemberId {
            id: self.members()[index].id(),
        };
        self.insist::<_, Plain>(index, MEMBER_REMOVE, &request)
            .map(|_| ())
    }

    /// Adds one that was removed, with nothing on its disk: a learner until it has caught up. Its process must have
    /// ended.
    pub fn add(&self, index: usize) -> Result<()> {
        let url = format!("https://{}:{PEER_PORT}", address(index));
        let id = self.add_learner(index, &url)?;
        self.join(index, id)
    }

    /// Takes one out whose process has ended, and puts an empty one in its place, as the guide for several hosts says.
    pub fn replace(&self, index: usize) -> Result<()> {
        let count = self.members().len();
        let deadline = Instant::now() + INSIST;
        let mut asked = index;
        loop {
            asked = (asked + 1) % count;
            let asked = match asked == index {
                true => (asked + 1) % count,
                false => asked,
            };
            let name = &self.members()[index].name;
            let peer = format!("{}:{PEER_PORT}", address(index));
            let words = ["member", "replace", name, "--peer", &peer, "--no-wait"];
            let error = match self.members()[asked].store_command(&words) {
                Ok(said) => return self.join(index, new_id(&said)?),
                Err(error) => error,
            };
            if Instant::now() > deadline || self.halt.is_halted() {
                return Err(error);
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }

    /// Starts a member that was added, with an empty disk, and lets it vote when it has caught up.
    fn join(&self, index: usize, id: u64) -> Result<()> {
        let member = &self.members()[index];
        member.begin_anew(id)?;
        self.recorder().change(|recording| {
            recording.run.members.push(id);
            recording.run.members.sort_unstable();
        });
        member.start()?;
        self.insist::<_, Plain>(index, MEMBER_PROMOTE, &MemberId { id })
            .map(|_| ())
    }

    fn add_learner(&self, index: usize, url: &str) -> Result<u64> {
        let request = MemberAdd {
            peer_urls: vec![url.into()],
            is_learner: true,
        };
        let added: Result<MemberAdded> = self.insist(index, MEMBER_ADD, &request);
        if let Ok(MemberAdded {
            member: Some(member),
            ..
        }) = &added
        {
            return Ok(member.id);
        }
        // An attempt of which nothing was heard may have added it.
        let list = MemberListRequest { linearizable: true };
        let members: Members = self.insist(index, MEMBER_LIST, &list)?;
        let found = members
            .members
            .iter()
            .find(|member| member.peer_urls.iter().any(|it| it == url));
        match (found, added) {
            (Some(member), _) => Ok(member.id),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(anyhow!("the member that was added is not listed")),
        }
    }

    /// How far the others are, which this member has to get to.
    pub fn goal(&self, index: usize) -> u64 {
        let others = (0..self.members().len()).filter(|other| *other != index);
        let applied = others.filter_map(|other| Some(self.shared.view(other)?.applied));
        applied.max().unwrap_or(0)
    }

    /// Waits until a member says how it stands: from now on, for what it said before it was started anew is still known.
    /// Answers whether it does in time.
    pub fn answers_within(&self, index: usize, patience: Duration) -> bool {
        let asked = Instant::now();
        while asked.elapsed() < patience {
            let view = self.shared.view(index);
            if view.is_some_and(|view| view.at > asked) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// The id in what `kontiki store member replace` says.
fn new_id(said: &str) -> Result<u64> {
    let words: Vec<&str> = said.split_whitespace().collect();
    let id = words
        .iter()
        .position(|word| *word == "--member-id")
        .and_then(|at| words.get(at + 1))
        .and_then(|id| u64::from_str_radix(id, 16).ok());
    id.ok_or_else(|| anyhow!("`kontiki store member replace` says no id: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_the_new_member_is_read() {
        let said = "Member b (1f) is removed.\n  kontiki pki --dir ./cluster --add-member b=10.0.0.4 --member-id 2ad\n";
        assert_eq!(new_id(said).unwrap(), 0x2ad);
        assert!(new_id("Member b (1f) is removed.").is_err());
    }

    #[test]
    fn a_wait_ends_with_the_run() {
        let halt = Halt::default();
        assert!(!halt.wait(Duration::from_millis(1)));
        let began = Instant::now();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| halt.wait(Duration::from_secs(60)));
            halt.halt();
            assert!(waiter.join().unwrap());
        });
        assert!(began.elapsed() < Duration::from_secs(30));
        assert!(halt.is_halted());
    }
}
