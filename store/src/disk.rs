//! What the bytes on disk mean. Everything written to the log or the state is encoded here and nowhere else.
//!
//! Fixed layouts where a record is small or hot, protobuf where it has structure. Each record starts with a format
//! byte; log records end in a CRC-32C that also covers their index, so that a record in the wrong place is found.
//!
//! Log records (big endian): entry `1 | term u64 | kind u8 | payload | crc u32` with kind 0 blank, 1 proposal (a
//! protobuf `kv::Entry`), 2 membership (protobuf [`MembershipRecord`]); vote `1 | term u64 | node u64 | committed u8 |
//! crc u32`; log id `1 | term u64 | index u64 | crc u32`.
//! State records: live key `1 | varint mod, create, version, lease | value`; event `2 | varint time in ms | protobuf
//! kv::Event` (or, as it once was, `1 | protobuf kv::Event`), under the key `revision u64 | sub u32`; lease, under `id
//! u64`, protobuf `kv::Lease`; named records, under `r | name`, as they are; position protobuf [`Position`].

use std::io;

use bytes::{Buf, BufMut, Bytes};
use kv::mutants::{Bug, planted};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use prost::Message;

use crate::raft::types::{Entry, LogId, Membership, PeerNode, Proposal, StoredMembership, Vote};

/// Format of the records below.
const FORMAT: u8 = 1;
/// Of an event that says when it happened.
const TIMED_EVENT: u8 = 2;

/// Before the payload of an entry.
const ENTRY_HEAD: usize = 10;
/// At the end of a log record.
const CHECKSUM: usize = 4;

const BLANK: u8 = 0;
const PROPOSAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

pub fn damaged(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    // To the byte for what there is most of, so that it is neither moved as it grows nor when it is shared.
    let body = match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    let mut record = Vec::with_capacity(ENTRY_HEAD + body + CHECKSUM);
    record.put_u8(FORMAT);
    record.put_u64(entry.log_id.leader_id.term);
    match &entry.payload {
        EntryPayload::Blank => record.put_u8(BLANK),
        EntryPayload::Normal(proposal) => {
            record.put_u8(PROPOSAL);
            record.put_slice(&proposal.0);
        }
        EntryPayload::Membership(membership) => {
            record.put_u8(MEMBERSHIP);
            record.put_slice(&MembershipRecord::new(None, membership).encode_to_vec());
        }
    }
    seal(record, entry.log_id.index)
}

/// A log record. One that proposes something holds that as it came, apart from what stands around it: it is copied once, to
/// where it is written from.
#[derive(Clone)]
pub struct Record(Form);

#[derive(Clone)]
enum Form {
    Whole(Bytes),
    Proposal {
        head: [u8; ENTRY_HEAD],
        proposal: Bytes,
        crc: [u8; CHECKSUM],
    },
}

impl Record {
    /// What it is put together of.
    pub fn parts(&self) -> [&[u8]; 3] {
        match &self.0 {
            Form::Whole(record) => [&[], &record[..], &[]],
            Form::Proposal {
                head,
                proposal,
                crc,
            } => [&head[..], &proposal[..], &crc[..]],
        }
    }

    /// In bytes.
    pub fn length(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Form::Whole(record) => record.clone(),
            Form::Proposal { .. } => self.parts().concat().into(),
        }
    }
}

impl From<Bytes> for Record {
    fn from(record: Bytes) -> Record {
        Record(Form::Whole(record))
    }
}

impl From<Vec<u8>> for Record {
    fn from(record: Vec<u8>) -> Record {
        Record(Form::Whole(record.into()))
    }
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.to_bytes(), f)
    }
}

/// As [`encode_entry`], and what is proposed is not copied.
pub fn entry_record(entry: &Entry) -> Record {
    let EntryPayload::Normal(Proposal(proposal)) = &entry.payload else {
        return encode_entry(entry).into();
    };
    let mut head = [0; ENTRY_HEAD];
    head[0] = FORMAT;
    head[1..ENTRY_HEAD - 1].copy_from_slice(&entry.log_id.leader_id.term.to_be_bytes());
    head[ENTRY_HEAD - 1] = PROPOSAL;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head), proposal);
    let crc = crc32c::crc32c_append(crc, &entry.log_id.index.to_be_bytes());
    Record(Form::Proposal {
        head,
        proposal: proposal.clone(),
        crc: crc.to_be_bytes(),
    })
}

/// The record of an entry that proposes something.
pub fn encode_proposal(id: LogId, proposal: Bytes) -> Vec<u8> {
    encode_entry(&Entry::new(id, EntryPayload::Normal(Proposal(proposal))))
}

pub fn decode_entry(index: u64, record: Bytes) -> io::Result<Entry> {
    let mut body = open(record, index, "log entry")?;
    if body.remaining() < 9 {
        return Err(damaged(format!("log entry {index} is too short")));
    }
    let log_id = log_id(body.get_u64(), index);
    let payload = match body.get_u8() {
        BLANK => EntryPayload::Blank,
        PROPOSAL => EntryPayload::Normal(Proposal(body)),
        MEMBERSHIP => EntryPayload::Membership(
            MembershipRecord::decode(body)
                .map_err(damaged)?
                .membership()?,
        ),
        kind => {
            return Err(damaged(format!(
                "log entry {index} has the unknown kind {kind}"
            )));
        }
    };
    Ok(Entry::new(log_id, payload))
}

pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut record = Vec::with_capacity(24);
    record.put_u8(FORMAT);
    record.put_u64(vote.leader_id.term);
    record.put_u64(vote.leader_id.voted_for);
    record.put_u8(u8::from(vote.committed));
    seal(record, 0)
}

pub fn decode_vote(record: Bytes) -> io::Result<Vote> {
    let mut body = open(record, 0, "vote")?;
    if body.remaining() != 17 {
        return Err(damaged("the vote has a wrong length"));
    }
    let (term, node, committed) = (body.get_u64(), body.get_u64(), body.get_u8());
    Ok(if committed == 1 {
        Vote::new_committed(term, node)
    } else {
        Vote::new(term, node)
    })
}

pub fn encode_log_id(id: &LogId) -> Vec<u8> {
    let mut record = Vec::with_capacity(24);
    record.put_u8(FORMAT);
    record.put_u64(id.leader_id.term);
    record.put_u64(id.index);
    seal(record, 0)
}

pub fn decode_log_id(record: Bytes) -> io::Result<LogId> {
    let mut body = open(record, 0, "log id")?;
    if body.remaining() != 16 {
        return Err(damaged("a log id has a wrong length"));
    }
    Ok(log_id(body.get_u64(), body.get_u64()))
}

pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// Closes a log record with its checksum.
fn seal(mut record: Vec<u8>, index: u64) -> Vec<u8> {
    let crc = checksum(&record, index);
    record.put_u32(crc);
    record
}

fn open(mut record: Bytes, index: u64, what: &str) -> io::Result<Bytes> {
    if record.len() < 5 {
        return Err(damaged(format!("{what} {index} is too short")));
    }
    let mut crc = record.split_off(record.len() - CHECKSUM);
    if crc.get_u32() != checksum(&record, index) && !planted(Bug::DamageAccepted) {
        return Err(damaged(format!("{what} {index} has a wrong checksum")));
    }
    match record.get_u8() {
        FORMAT => Ok(record),
        other => Err(damaged(format!(
            "{what} {index} has format {other}, this version knows {FORMAT}"
        ))),
    }
}

fn checksum(record: &[u8], index: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(record), &index.to_be_bytes())
}

/// The record of a live key, in the place of what `record` had.
pub fn write_value(kv: &kv::KeyValue, record: &mut Vec<u8>) {
    record.clear();
    record.put_u8(FORMAT);
    for number in [kv.mod_revision, kv.create_revision, kv.version, kv.lease] {
        prost::encoding::encode_varint(number as u64, record);
    }
    record.put_slice(&kv.value);
}

pub fn decode_value(key: Bytes, record: Bytes) -> io::Result<kv::KeyValue> {
    let pair = decode_pair(&key, &record)?;
    Ok(kv::KeyValue {
        mod_revision: pair.mod_revision,
        create_revision: pair.create_revision,
        version: pair.version,
        lease: pair.lease,
        value: record.slice_ref(pair.value),
        key,
    })
}

/// As [`decode_value`], and nothing is copied.
pub fn decode_pair<'a>(key: &'a [u8], mut record: &'a [u8]) -> io::Result<kv::StoredPair<'a>> {
    let broken = || {
        let key = Bytes::copy_from_slice(key);
        damaged(format!("the value of key {key:?} cannot be read"))
    };
    let Ok(FORMAT) = record.try_get_u8() else {
        return Err(broken());
    };
    let mut number = || {
        prost::encoding::decode_varint(&mut record)
            .map(|n| n as i64)
            .map_err(|_| broken())
    };
    let (mod_revision, create_revision, version, lease) =
        (number()?, number()?, number()?, number()?);
    Ok(kv::StoredPair {
        key,
        mod_revision,
        create_revision,
        version,
        lease,
        value: record,
    })
}

pub fn event_key(revision: i64, sub: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&(revision as u64).to_be_bytes());
    key[8..].copy_from_slice(&sub.to_be_bytes());
    key
}

pub fn decode_event_key(key: &[u8]) -> io::Result<kv::EventId> {
    let wrong = || damaged("an event key has a wrong length");
    let (revision, sub) = key.split_at_checked(8).ok_or_else(wrong)?;
    let revision = u64::from_be_bytes(revision.try_into().map_err(|_| wrong())?) as i64;
    let sub = u32::from_be_bytes(sub.try_into().map_err(|_| wrong())?);
    Ok(kv::EventId { revision, sub })
}

/// The record of an event, in the place of what `record` had; `now_ms` is the time of the event's revision.
pub fn write_event(now_ms: i64, event: &kv::Event, record: &mut Vec<u8>) {
    record.clear();
    record.put_u8(TIMED_EVENT);
    prost::encoding::encode_varint(now_ms as u64, record);
    event.encode(record).expect("a growing buffer has room");
}

pub fn decode_event(record: Bytes) -> io::Result<kv::Event> {
    let (_, event) = split_event(record)?;
    kv::Event::decode(event).map_err(damaged)
}

/// Of an event, only its key and whether that existed before and after. The values are passed over.
pub fn decode_change(id: kv::EventId, record: &[u8]) -> io::Result<(Bytes, kv::Change)> {
    #[derive(Clone, PartialEq, Message)]
    struct Head {
        #[prost(enumeration = "kv::EventKind", tag = "1")]
        kind: i32,
        #[prost(message, required, tag = "2")]
        kv: Key,
        #[prost(message, optional, tag = "3")]
        prev_kv: Option<Key>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Key {
        #[prost(bytes = "bytes", tag = "1")]
        key: Bytes,
    }
    let head = Head::decode(event_of(record)?.1).map_err(damaged)?;
    let after = head.kind == kv::EventKind::Put as i32;
    let change = kv::Change::new(id, head.prev_kv.is_some(), after);
    Ok((head.kv.key, change))
}

/// When an event happened, milliseconds since 1970; 0 where that was not recorded.
pub fn event_time(record: Bytes) -> io::Result<i64> {
    Ok(split_event(record)?.0)
}

fn split_event(record: Bytes) -> io::Result<(i64, Bytes)> {
    let (now_ms, event) = event_of(&record)?;
    Ok((now_ms, record.slice_ref(event)))
}

fn event_of(mut record: &[u8]) -> io::Result<(i64, &[u8])> {
    match record.try_get_u8() {
        Ok(FORMAT) => Ok((0, record)),
        Ok(TIMED_EVENT) => {
            let now_ms = prost::encoding::decode_varint(&mut record).map_err(damaged)?;
            Ok((now_ms as i64, record))
        }
        _ => Err(damaged("an event has an unknown format")),
    }
}

/// How far the state has got. Written with each batch, in the same atomic write.
#[derive(Clone, PartialEq, Message)]
pub struct Position {
    #[prost(message, optional, tag = "1")]
    pub applied: Option<LogIdRecord>,
    #[prost(message, optional, tag = "2")]
    pub membership: Option<MembershipRecord>,
    #[prost(int64, tag = "3")]
    pub revision: i64,
    #[prost(int64, tag = "4")]
    pub compact_revision: i64,
    /// The cluster whose state this is: a snapshot of another one is not installed.
    #[prost(fixed64, tag = "5")]
    pub cluster_id: u64,
    /// [`kv::StateHash`] of the state; empty where a version wrote it that did not know it.
    #[prost(bytes = "vec", tag = "6")]
    pub state_hash: Vec<u8>,
    /// [`kv::View::now_ms`] of the state.
    #[prost(int64, tag = "7")]
    pub now_ms: i64,
}

impl Position {
    /// Of this state, whatever else it says.
    #[must_use]
    pub fn of(self, state: &dyn kv::View) -> Position {
        Position {
            revision: state.revision(),
            compact_revision: state.compact_revision(),
            state_hash: state.state_hash().to_bytes().to_vec(),
            now_ms: state.now_ms(),
            ..self
        }
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct LogIdRecord {
    #[prost(uint64, tag = "1")]
    pub term: u64,
    #[prost(uint64, tag = "2")]
    pub index: u64,
}

/// A membership, and where in the log it stands.
#[derive(Clone, PartialEq, Message)]
pub struct MembershipRecord {
    #[prost(message, optional, tag = "1")]
    pub log_id: Option<LogIdRecord>,
    /// Sets of voters; more than one while they change.
    #[prost(message, repeated, tag = "2")]
    pub configs: Vec<VotersRecord>,
    #[prost(message, repeated, tag = "3")]
    pub nodes: Vec<NodeRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub struct VotersRecord {
    #[prost(uint64, repeated, tag = "1")]
    pub ids: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NodeRecord {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub peer_address: String,
    #[prost(string, tag = "4")]
    pub client_address: String,
    /// 0 where it is not known yet.
    #[prost(fixed64, tag = "5")]
    pub incarnation: u64,
    #[prost(string, tag = "6")]
    pub etcd_url: String,
}

impl NodeRecord {
    pub fn node(&self) -> PeerNode {
        PeerNode {
            name: self.name.clone(),
            peer_address: self.peer_address.clone(),
            client_address: self.client_address.clone(),
            incarnation: self.incarnation,
            etcd_url: self.etcd_url.clone(),
        }
    }
}

impl From<LogId> for LogIdRecord {
    fn from(id: LogId) -> Self {
        LogIdRecord {
            term: id.leader_id.term,
            index: id.index,
        }
    }
}

impl From<LogIdRecord> for LogId {
    fn from(record: LogIdRecord) -> Self {
        log_id(record.term, record.index)
    }
}

impl MembershipRecord {
    pub fn new(log_id: Option<LogId>, membership: &Membership) -> MembershipRecord {
        let configs = membership.get_joint_config().iter();
        let nodes = membership.nodes().map(|(id, node)| NodeRecord {
            id: *id,
            name: node.name.clone(),
            peer_address: node.peer_address.clone(),
            client_address: node.client_address.clone(),
            incarnation: node.incarnation,
            etcd_url: node.etcd_url.clone(),
        });
        MembershipRecord {
            log_id: log_id.map(LogIdRecord::from),
            configs: configs
                .map(|ids| VotersRecord {
                    ids: ids.iter().copied().collect(),
                })
                .collect(),
            nodes: nodes.collect(),
        }
    }

    pub fn membership(&self) -> io::Result<Membership> {
        let configs: Vec<_> = self
            .configs
            .iter()
            .map(|voters| voters.ids.iter().copied().collect())
            .collect();
        let nodes = self.nodes.iter().map(|record| (record.id, record.node()));
        let nodes: std::collections::BTreeMap<u64, PeerNode> = nodes.collect();
        Membership::new(configs, nodes).map_err(damaged)
    }

    /// What a member has published as its incarnation.
    pub fn incarnation(&self, member: u64) -> Option<u64> {
        let found = self.nodes.iter().find(|node| node.id == member);
        found.and_then(|node| node.node().known_incarnation())
    }

    /// Whether a member was removed, as of this membership. Not so where the member knows of a newer one: it may have
    /// been added by it.
    pub fn has_removed(&self, member: u64, newest_it_knows: Option<LogId>) -> bool {
        let newest = self.log_id.map(LogId::from);
        newest >= newest_it_knows && self.nodes.iter().all(|node| node.id != member)
    }

    pub fn stored(&self) -> io::Result<StoredMembership> {
        Ok(StoredMembership::new(
            self.log_id.map(LogId::from),
            self.membership()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn membership() -> Membership {
        let node = PeerNode {
            name: "a".into(),
            peer_address: "h:1".into(),
            client_address: "h:2".into(),
            ..PeerNode::default()
        };
        Membership::new(vec![BTreeSet::from([7])], BTreeMap::from([(7, node)])).unwrap()
    }

    /// Data directories outlive versions: these bytes must decode for ever.
    #[test]
    fn golden_log_records() {
        let proposal = Proposal(Bytes::from_static(b"xyz"));
        let cases = [
            (EntryPayload::Blank, "010000000000000002 00 2dbe9578"),
            (
                EntryPayload::Normal(proposal),
                "010000000000000002 01 78797a ea9bcf9e",
            ),
            (
                EntryPayload::Membership(membership()),
                "010000000000000002 02 12030a01071a0f08071201611a03683a312203683a32 2726b417",
            ),
        ];
        for (payload, golden) in cases {
            let entry = Entry::new(log_id(2, 9), payload);
            let record = encode_entry(&entry);
            assert_eq!(hex(&record), golden.replace(' ', ""));
            assert_eq!(decode_entry(9, record.clone().into()).unwrap(), entry);
            assert!(
                decode_entry(10, record.into()).is_err(),
                "a record in the wrong place is found"
            );
        }
        let vote = Vote::new_committed(3, 5);
        assert_eq!(
            hex(&encode_vote(&vote)),
            "010000000000000003000000000000000501f086838e"
        );
        assert_eq!(decode_vote(encode_vote(&vote).into()).unwrap(), vote);
        assert_eq!(
            hex(&encode_log_id(&log_id(3, 5))),
            "0100000000000000030000000000000005f9590487"
        );
        assert_eq!(
            decode_log_id(encode_log_id(&log_id(3, 5)).into()).unwrap(),
            log_id(3, 5)
        );
    }

    #[test]
    fn the_record_of_a_proposal_is_allocated_once() {
        let record = encode_entry(&Entry::new(
            log_id(2, 9),
            EntryPayload::Normal(Proposal(vec![7; 5000].into())),
        ));
        assert_eq!(record.len(), ENTRY_HEAD + 5000 + CHECKSUM);
        assert_eq!(record.capacity(), record.len());
    }

    /// Each in the place of something else.
    fn encode_value(kv: &kv::KeyValue) -> Vec<u8> {
        let mut record = vec![9; 3];
        write_value(kv, &mut record);
        record
    }

    fn encode_event(now_ms: i64, event: &kv::Event) -> Vec<u8> {
        let mut record = vec![9; 3];
        write_event(now_ms, event, &mut record);
        record
    }

    #[test]
    fn golden_state_records() {
        let kv = kv::KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision: 300,
            create_revision: 2,
            version: 3,
            lease: 4,
            value: Bytes::from_static(b"v"),
        };
        assert_eq!(hex(&encode_value(&kv)), "01ac0202030476");
        assert_eq!(
            decode_value(kv.key.clone(), encode_value(&kv).into()).unwrap(),
            kv
        );
        for wrong in [
            &[][..],
            &[2, 0, 0, 0, 0],
            &[1, 0, 0, 0],
            &[1, 0, 0, 0, 0x80],
        ] {
            assert!(decode_pair(b"k", wrong).is_err());
        }
        let event = kv::Event {
            kind: 0,
            kv: kv.clone(),
            prev_kv: None,
        };
        let record = Bytes::from(encode_event(300, &event));
        assert_eq!(hex(&record), "02ac02120f0a016b100218ac0220032a01763004");
        assert_eq!(decode_event(record.clone()).unwrap(), event);
        assert_eq!(event_time(record.clone()).unwrap(), 300);
        // As it once was.
        let untimed = Bytes::from([&[1], &record[3..]].concat());
        assert_eq!(decode_event(untimed.clone()).unwrap(), event);
        let id = kv::EventId {
            revision: 300,
            sub: 0,
        };
        let (created, changed) = (kv::Change::new(id, false, true), event.clone());
        let head = decode_change(id, &record).unwrap();
        assert_eq!(head, (event.kv.key.clone(), created));
        let deleted = kv::Event {
            kind: kv::EventKind::Delete as i32,
            prev_kv: Some(kv.clone()),
            ..changed
        };
        let head = decode_change(id, &encode_event(300, &deleted)).unwrap();
        assert_eq!(head.1, kv::Change::new(id, true, false));
        assert_eq!(event_time(untimed).unwrap(), 0);
        for wrong in [&[][..], &[3, 0], &[2], &[2, 0x80]] {
            assert!(event_time(Bytes::copy_from_slice(wrong)).is_err());
        }
        assert_eq!(hex(&event_key(300, 1)), "000000000000012c00000001");
        assert_eq!(
            decode_event_key(&event_key(300, 1)).unwrap(),
            kv::EventId {
                revision: 300,
                sub: 1
            }
        );
        let position = Position {
            applied: Some(log_id(2, 9).into()),
            membership: Some(MembershipRecord::new(Some(log_id(1, 1)), &membership())),
            revision: 300,
            compact_revision: 7,
            cluster_id: 1,
            state_hash: vec![7; 16],
            now_ms: 300,
        };
        let golden = "0a0408021009121c0a040801100112030a01071a0f08071201611a03683a312203683a3218ac0220072901000000\
                      0000000032100707070707070707070707070707070738ac02";
        assert_eq!(hex(&position.encode_to_vec()), golden);
        assert_eq!(
            Position::decode(position.encode_to_vec().as_slice()).unwrap(),
            position
        );
        assert_eq!(
            position.membership.unwrap().membership().unwrap(),
            membership()
        );
    }

    #[test]
    fn golden_node_record() {
        let node = NodeRecord {
            id: 7,
            name: "a".into(),
            peer_address: "h:1".into(),
            client_address: String::new(),
            incarnation: 0xab,
            etcd_url: "u".into(),
        };
        assert_eq!(
            hex(&node.encode_to_vec()),
            "08071201611a03683a3129ab00000000000000320175"
        );
        // Of before there were incarnations.
        let old = NodeRecord::decode([8, 7].as_slice()).unwrap();
        assert_eq!((old.id, old.incarnation), (7, 0));
    }

    #[test]
    fn a_member_is_removed_by_what_is_newer_than_what_it_knows() {
        let record = MembershipRecord::new(Some(log_id(2, 9)), &membership());
        assert!(!record.has_removed(7, None));
        assert!(record.has_removed(8, None));
        assert!(record.has_removed(8, Some(log_id(2, 9))));
        assert!(!record.has_removed(8, Some(log_id(2, 10))));
        assert!(!record.has_removed(8, Some(log_id(3, 1))));
    }

    #[test]
    fn a_record_in_parts_is_the_same() {
        let proposals = [0, 1, 7, 250, 70_000].map(|length| {
            let bytes = (0..length).map(|at| (at % 253) as u8);
            EntryPayload::Normal(Proposal(bytes.collect::<Vec<u8>>().into()))
        });
        let others = [EntryPayload::Blank, EntryPayload::Membership(membership())];
        for payload in proposals.into_iter().chain(others) {
            for (term, index) in [(0, 0), (2, 9), (u64::MAX, u64::MAX)] {
                let entry = Entry::new(log_id(term, index), payload.clone());
                let record = entry_record(&entry);
                let whole = encode_entry(&entry);
                assert_eq!(record.parts().concat(), whole);
                assert_eq!(record.to_bytes(), whole);
                assert_eq!(record.length(), whole.len());
                assert_eq!(decode_entry(index, record.to_bytes()).unwrap(), entry);
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_a_log_record_is_found() {
        let entry = Entry::new(
            log_id(2, 9),
            EntryPayload::Normal(Proposal(Bytes::from_static(b"payload"))),
        );
        let record = encode_entry(&entry);
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_entry(9, flipped.into()).is_err(), "bit {bit}");
        }
        for len in 0..record.len() {
            assert!(decode_entry(9, Bytes::copy_from_slice(&record[..len])).is_err());
        }
    }
}
