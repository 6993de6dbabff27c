//! How a new cluster comes to be: by all its initial members together, once.
//!
//! Each of them greets each other one, which makes both store the other's incarnation (`incarnations.rs`), and answers
//! greetings with all that it has stored. When all of them have said the same, the first log entry, the membership with
//! these incarnations, is the same on all of them. No later start can come to another result: a member that lost its
//! directory in between shows another incarnation, which those who have met it do not accept. That is why all have to
//! be there for the first start, in any order, and a majority is enough only from then on.
//!
//! Who finds that others have formed it already forms nothing, but waits for their leader: it may be late, or a new
//! member that was started with a list of initial members although it joins an old cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};

use crate::core::Core;
use crate::peer::wire::{Greeting, Lane, Request, Response};
use crate::raft::types::PeerNode;

/// To answer a greeting.
const ASK: Duration = Duration::from_secs(1);
/// Between two rounds of greetings.
const PAUSE: Duration = Duration::from_millis(50);

/// What the greetings so far mean.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// With these incarnations.
    Form(BTreeMap<u64, u64>),
    /// For these members, or until they have met the others.
    Wait(BTreeSet<u64>),
    /// There is a cluster.
    Join,
    /// This member and another one contradict each other.
    Conflict(String),
}

/// `mine` is what this member would answer, `answers` what the others did.
fn decide(me: u64, mine: &Greeting, answers: &BTreeMap<u64, Greeting>) -> Verdict {
    if answers.values().any(|answer| answer.formed) {
        return Verdict::Join;
    }
    let founders: BTreeSet<u64> = mine.founders.iter().copied().collect();
    let mut missing = BTreeSet::new();
    for other in founders.iter().filter(|id| **id != me) {
        let Some(answer) = answers.get(other) else {
            missing.insert(*other);
            continue;
        };
        if answer.founders.iter().copied().collect::<BTreeSet<_>>() != founders {
            return Verdict::Conflict(format!(
                "member {other:016x} was started with other initial members: start all with the same list"
            ));
        }
        for id in &founders {
            match (mine.incarnations.get(id), answer.incarnations.get(id)) {
                (Some(one), Some(two)) if one != two => {
                    return Verdict::Conflict(format!(
                        "this member and member {other:016x} have met member {id:016x} with different data \
                         directories: one of them was lost before the cluster was formed. Empty the data directories \
                         of all members and start them again"
                    ));
                }
                (Some(_), Some(_)) => {}
                _ => {
                    missing.insert(*other);
                }
            }
        }
    }
    if !missing.is_empty() {
        return Verdict::Wait(missing);
    }
    let known = mine.incarnations.iter();
    Verdict::Form(
        known
            .filter(|(id, _)| founders.contains(id))
            .map(|(id, incarnation)| (*id, *incarnation))
            .collect(),
    )
}

impl Core {
    /// What this member answers to a greeting.
    pub fn greeting(&self, formed: bool) -> Greeting {
        let mut incarnations = self.transport.incarnations.all();
        incarnations.insert(self.config.member_id, self.transport.me.incarnation);
        let founders = self.config.initial_members.iter();
        Greeting {
            incarnations,
            founders: founders.map(|member| member.id).collect(),
            formed,
        }
    }

    /// Forms the cluster, or waits until others have.
    pub async fn run_formation(self: Arc<Self>) {
        let (mut told, mut joining) = (BTreeSet::new(), false);
        loop {
            // Formed before, or reached by a leader meanwhile.
            match self.raft.is_initialized().await {
                Ok(false) => {}
                Ok(true) => return,
                Err(fatal) => return self.fail(&fatal.to_string()),
            }
            let answers = self.greet().await;
            match decide(self.config.member_id, &self.greeting(false), &answers) {
                Verdict::Form(incarnations) => {
                    if let Err(error) = self.form(&incarnations).await {
                        self.fail(&error);
                    }
                    return;
                }
                Verdict::Wait(missing) => {
                    if missing != told {
                        let names = self.config.initial_members.iter();
                        let names = names.filter(|member| missing.contains(&member.id));
                        let names: Vec<&str> = names.map(|member| member.name.as_str()).collect();
                        tracing::info!(members = names.join(","), "waiting for initial members");
                        told = missing;
                    }
                }
                Verdict::Join => {
                    if !std::mem::replace(&mut joining, true) {
                        tracing::info!("the cluster is formed; waiting for its leader");
                    }
                }
                Verdict::Conflict(why) => return self.fail(&why),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn greet(self: &Arc<Self>) -> BTreeMap<u64, Greeting> {
        let founders = self.config.initial_members.iter().map(|member| member.id);
        let others = founders.filter(|id| *id != self.config.member_id);
        let asked = others.map(|id| async move {
            let answer = self.transport.call(id, Lane::Client, Request::Greet, ASK);
            match answer.await {
                Ok(Response::Greeting(greeting)) => Some((id, greeting)),
                _ => None,
            }
        });
        let answers = futures::future::join_all(asked).await;
        answers.into_iter().flatten().collect()
    }

    /// Writes the first log entry.
    async fn form(&self, incarnations: &BTreeMap<u64, u64>) -> Result<(), String> {
        let members = self.config.initial_members.iter().map(|member| {
            let node = PeerNode {
                name: member.name.clone(),
                peer_address: member.peer_address.clone(),
                client_address: String::new(),
                incarnation: incarnations.get(&member.id).copied().unwrap_or(0),
                etcd_url: String::new(),
            };
            (member.id, node)
        });
        let members: BTreeMap<u64, PeerNode> = members.collect();
        match self.raft.initialize(members).await {
            Ok(()) => Ok(()),
            // Another member was faster and has reached this one already.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(incarnations: &[(u64, u64)]) -> Greeting {
        Greeting {
            incarnations: incarnations.iter().copied().collect(),
            founders: vec![3, 1, 2],
            formed: false,
        }
    }

    #[test]
    fn a_cluster_is_formed_when_all_have_met_all() {
        let whole = greeting(&[(1, 11), (2, 12), (3, 13)]);
        let mut answers = BTreeMap::new();
        let alone = greeting(&[(1, 11)]);
        assert_eq!(
            decide(1, &alone, &answers),
            Verdict::Wait(BTreeSet::from([2, 3]))
        );
        answers.insert(2, whole.clone());
        // The other two have met, and the third is known, but has not said so to this one.
        assert_eq!(
            decide(1, &whole, &answers),
            Verdict::Wait(BTreeSet::from([3]))
        );
        answers.insert(3, greeting(&[(1, 11), (3, 13)]));
        assert_eq!(
            decide(1, &whole, &answers),
            Verdict::Wait(BTreeSet::from([3]))
        );
        // Whom else they have met does not matter.
        answers.insert(3, greeting(&[(1, 11), (2, 12), (3, 13), (9, 99)]));
        assert_eq!(
            decide(1, &whole, &answers),
            Verdict::Form(whole.incarnations.clone())
        );
    }

    #[test]
    fn who_lost_its_directory_meanwhile_forms_nothing() {
        // Member 3 was met by 2 and then wiped; member 1 has met the new one.
        let mine = greeting(&[(1, 11), (2, 12), (3, 99)]);
        let answers = BTreeMap::from([
            (2, greeting(&[(1, 11), (2, 12), (3, 13)])),
            (3, greeting(&[(1, 11), (3, 99)])),
        ]);
        assert!(
            matches!(decide(1, &mine, &answers), Verdict::Conflict(why) if why.contains("Empty the data"))
        );
    }

    #[test]
    fn who_finds_a_cluster_forms_no_other() {
        let mine = greeting(&[(1, 11), (2, 12), (3, 13)]);
        let formed = Greeting {
            founders: vec![2, 3, 4],
            formed: true,
            ..mine.clone()
        };
        let answers = BTreeMap::from([(2, formed), (3, mine.clone())]);
        assert_eq!(decide(1, &mine, &answers), Verdict::Join);
    }

    #[test]
    fn different_lists_form_nothing() {
        let mine = greeting(&[(1, 11), (2, 12), (3, 13)]);
        let other = Greeting {
            founders: vec![1, 2],
            ..mine.clone()
        };
        let answers = BTreeMap::from([(2, other), (3, mine.clone())]);
        assert!(
            matches!(decide(1, &mine, &answers), Verdict::Conflict(why) if why.contains("same list"))
        );
    }
}
