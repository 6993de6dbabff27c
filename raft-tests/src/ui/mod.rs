//! A local page with the members of a live cluster: who leads, how far each is, what clients are told, and a switch for
//! each link and each member. [`state`] decides what is shown, [`server`] who may ask; a [`Cluster`] does it.

pub mod server;
pub mod state;

use crate::recording::{Operation, Sample};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What the page is shown of, and acts on. Members are named by their place in [`Cluster::members`]. Called from threads
/// that may block.
pub trait Cluster: Send + Sync + 'static {
    /// Nanoseconds since the recording began.
    fn now(&self) -> u64;
    fn members(&self) -> Vec<Member>;
    /// Pairs that do not hear each other, the smaller place first.
    fn cuts(&self) -> BTreeSet<(usize, usize)>;
    /// The newest of each member.
    fn samples(&self) -> Vec<Sample>;
    /// Those that were called since then, ascending.
    fn operations(&self, since: u64) -> Vec<Operation>;
    /// What is wrong with the cluster, in words: nothing that a person did to it.
    fn findings(&self) -> Vec<String>;
    fn act(&self, action: Action) -> Result<()>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    pub name: String,
    pub condition: Condition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    Running,
    Paused,
    Stopped,
}

/// What a person can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Action {
    Cut(usize, usize),
    Heal(usize, usize),
    Kill(usize),
    Start(usize),
    Pause(usize),
    Resume(usize),
}

impl Action {
    /// Whether it names members that are there, and not a link of a member to itself.
    fn fits(self, members: usize) -> bool {
        match self {
            Action::Cut(one, other) | Action::Heal(one, other) => {
                one != other && one < members && other < members
            }
            Action::Kill(one) | Action::Start(one) | Action::Pause(one) | Action::Resume(one) => {
                one < members
            }
        }
    }
}
