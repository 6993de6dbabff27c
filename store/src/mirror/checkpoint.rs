//! How far a mirror has got. It is a key of the destination, written in the same transaction as the data, so that
//! whatever ends a mirror, the next one goes on exactly there.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::plan::Names;

/// What all checkpoints begin with. Keys that begin so are never mirrored.
pub const CHECKPOINTS: &[u8] = b"/kontiki/mirror/";

const FORMAT: u32 = 1;

/// From where the source is followed: of `revision` the first `done` changes are applied, and all of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) revision: i64,
    pub(super) done: usize,
}

impl Place {
    pub(super) fn after(revision: i64) -> Place {
        Place {
            revision: revision + 1,
            done: 0,
        }
    }
}

/// What a mirror is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Making the destination what the source is at a revision; it is that up to this key of the source.
    Copying {
        revision: i64,
        after: Bytes,
    },
    Following(Place),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Id of the cluster that is mirrored.
    pub(super) source: u64,
    pub(super) names: Names,
    /// Of the process that wrote it: another one that works at the same time is noticed by it.
    pub(super) session: u64,
    pub(super) stage: Stage,
}

/// As it is written: JSON, for people who look at it.
#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    source_cluster: String,
    prefix: String,
    dest_prefix: String,
    session: String,
    /// Copied as of this revision, or followed from this one on.
    revision: i64,
    #[serde(default)]
    done: usize,
    /// While it is copied: the last key, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copied_to: Option<String>,
}

impl Checkpoint {
    pub(super) fn encode(&self) -> Bytes {
        let encode = |bytes: &Bytes| BASE64_STANDARD.encode(bytes);
        let (revision, done, copied_to) = match &self.stage {
            Stage::Copying { revision, after } => (*revision, 0, Some(encode(after))),
            Stage::Following(place) => (place.revision, place.done, None),
        };
        let written = Written {
            format: FORMAT,
            source_cluster: format!("{:x}", self.source),
            prefix: encode(&self.names.prefix),
            dest_prefix: encode(&self.names.dest_prefix),
            session: format!("{:016x}", self.session),
            revision,
            done,
            copied_to,
        };
        let json = serde_json::to_vec(&written);
        json.expect("text and numbers can be written as JSON")
            .into()
    }

    /// Nothing where it cannot be read.
    pub(super) fn decode(value: &[u8]) -> Option<Checkpoint> {
        let written: Written = serde_json::from_slice(value).ok()?;
        if written.format != FORMAT {
            return None;
        }
        let bytes = |text: &str| BASE64_STANDARD.decode(text).ok().map(Bytes::from);
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let stage = match &written.copied_to {
            Some(after) => Stage::Copying {
                revision: written.revision,
                after: bytes(after)?,
            },
            None => Stage::Following(Place {
                revision: written.revision,
                done: written.done,
            }),
        };
        Some(Checkpoint {
            source: number(&written.source_cluster)?,
            names: Names {
                prefix: bytes(&written.prefix)?,
                dest_prefix: bytes(&written.dest_prefix)?,
            },
            session: number(&written.session)?,
            stage,
        })
    }
}

/// The key of the checkpoint of the mirror of this name.
pub(super) fn key(name: &str) -> Bytes {
    [CHECKPOINTS, name.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let checkpoint = |stage| Checkpoint {
            source: 0xabc,
            names: Names {
                prefix: "/registry/\u{fffd}".into(),
                dest_prefix: Bytes::new(),
            },
            session: 7,
            stage,
        };
        let after = Bytes::from_static(b"/registry/\xff");
        let copying = |after| checkpoint(Stage::Copying { revision: 5, after });
        let place = Place {
            revision: 9,
            done: 3,
        };
        let all = [
            copying(after),
            copying(Bytes::new()),
            checkpoint(Stage::Following(place)),
        ];
        for written in all {
            assert_eq!(Checkpoint::decode(&written.encode()), Some(written));
        }
    }

    /// Destinations outlive versions: this must be readable for ever.
    #[test]
    fn golden_checkpoint() {
        let golden = br#"{"format":1,"source_cluster":"abc","prefix":"L2E=","dest_prefix":"","session":"0000000000000007","revision":9,"done":3}"#;
        let checkpoint = Checkpoint::decode(golden).unwrap();
        assert_eq!((checkpoint.source, checkpoint.session), (0xabc, 7));
        assert_eq!(&checkpoint.names.prefix[..], b"/a");
        assert_eq!(checkpoint.encode(), &golden[..]);
        for (from, to) in [("\"format\":1", "\"format\":2"), ("abc", "xyz")] {
            let other = String::from_utf8_lossy(golden).replace(from, to);
            assert_eq!(Checkpoint::decode(other.as_bytes()), None, "{from}");
        }
    }
}
