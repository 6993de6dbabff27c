//! The types with which openraft is used here.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std;
use serde::{Deserialize, Serialize};

use crate::incarnations::LEGACY;
use crate::peer::codec;

openraft::declare_raft_types!(
    /// One leader a term, so that a log id is (term, index): 16 bytes.
    pub TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = PeerNode,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = crate::host::Runtime,
);

pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
pub type Membership = openraft::Membership<u64, PeerNode>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// What is known of a member besides its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerNode {
    pub name: String,
    /// Where other members reach it.
    pub peer_address: String,
    /// Where API clients reach it. Empty until the member has published it.
    pub client_address: String,
    /// Of its data directory (see [`crate::incarnations`]); 0 until it is known.
    pub incarnation: u64,
    /// Where etcd clients reach it, as a URL. Empty where it serves none, or has not published it yet.
    pub etcd_url: String,
}

impl PeerNode {
    /// The incarnation that the member has published. One that has published its addresses and no incarnation did so
    /// before there were any.
    pub fn known_incarnation(&self) -> Option<u64> {
        match self.incarnation {
            0 if self.client_address.is_empty() => None,
            0 => Some(LEGACY),
            known => Some(known),
        }
    }
}

/// An encoded [`kv::Entry`]. It is decoded where it is applied and nowhere else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal(#[serde(deserialize_with = "codec::bytes")] pub Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry answered; nothing for entries that are Raft's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome(pub Option<kv::Response>);

impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0
            .as_ref()
            .map(kv::Response::encode)
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let unknown = || serde::de::Error::custom("not an answer of this version");
        Ok(Outcome(
            match Option::<Vec<u8>>::deserialize(deserializer)? {
                None => None,
                Some(bytes) => Some(kv::Response::decode(bytes.into()).ok_or_else(unknown)?),
            },
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_published_without_an_incarnation_has_an_old_directory() {
        let node = |client_address: &str, incarnation| PeerNode {
            client_address: client_address.into(),
            incarnation,
            ..PeerNode::default()
        };
        assert_eq!(node("", 0).known_incarnation(), None);
        assert_eq!(node("h:1", 0).known_incarnation(), Some(LEGACY));
        assert_eq!(node("h:1", 5).known_incarnation(), Some(5));
        assert_eq!(node("", 5).known_incarnation(), Some(5));
    }
}
