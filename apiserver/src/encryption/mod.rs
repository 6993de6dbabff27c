//! Encryption at rest: what is stored of an object is encrypted before the store sees it, and decrypted once a member when
//! it comes back, so that what the store has of it (log, state, snapshots, backups, what its port for etcd clients shows)
//! is never in clear.
//!
//! `config` reads Kubernetes' `EncryptionConfiguration`, `pattern` says which of its rules holds for a resource, `provider`
//! has the keys and the format of values, `cipher` what is done with them. Here is what holds at the moment, and who asks
//! for it.

mod cipher;
mod config;
mod pattern;
mod provider;

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use prometheus::{IntCounterVec, Opts};

pub use config::{Encryption, EncryptionError};
use provider::Provider;

/// What was stored, in clear.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Opened {
    pub(crate) value: Bytes,
    /// Under which key it was; see [`Sealer::mark`].
    pub(crate) mark: u32,
}

impl From<Bytes> for Opened {
    fn from(value: Bytes) -> Opened {
        Opened { value, mark: 0 }
    }
}

/// A stored value for which there is no key, or which was changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unreadable {
    pub(crate) why: String,
    /// The configuration with which it was tried, by number.
    pub(crate) tried: u64,
}

/// Encrypts and decrypts by the configuration that holds now.
pub(crate) struct Sealer {
    now: RwLock<(Arc<Encryption>, u64)>,
    operations: IntCounterVec,
}

impl Default for Sealer {
    fn default() -> Sealer {
        Sealer::new(Encryption::default())
    }
}

impl Sealer {
    pub(crate) fn new(encryption: Encryption) -> Sealer {
        let operations = IntCounterVec::new(
            Opts::new(
                "apiserver_storage_transformation_operations_total",
                "Total number of transformations. Successful transformation will have a status 'OK' and a varied status string when the transformation fails.",
            ),
            &[
                "resource",
                "transformation_type",
                "transformer_prefix",
                "status",
            ],
        );
        Sealer {
            now: RwLock::new((Arc::new(encryption), 0)),
            operations: operations.expect("names and labels are constants"),
        }
    }

    /// Counts what was encrypted and decrypted.
    pub(crate) fn operations(&self) -> &IntCounterVec {
        &self.operations
    }

    fn now(&self) -> (Arc<Encryption>, u64) {
        self.now
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From now on another configuration holds.
    pub(crate) fn replace(&self, encryption: Encryption) {
        let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
        *now = (Arc::new(encryption), now.1 + 1);
    }

    /// Which configuration holds; it grows with each.
    pub(crate) fn version(&self) -> u64 {
        self.now().1
    }

    /// The value to store under `key` for an object of a resource, which is that of its storage.
    pub(crate) fn seal(&self, resource: (&str, &str), key: &str, clear: Bytes) -> Bytes {
        let (encryption, _) = self.now();
        match encryption.providers(resource.0, resource.1).first() {
            Some(Provider::Keyed { keys, .. }) if !keys.is_empty() => {
                self.count(resource, "to_storage", keys[0].prefix(), "OK");
                Bytes::from(keys[0].encrypt(key, &clear, host::random()))
            }
            _ => clear,
        }
    }

    /// What is stored under `key`, in clear.
    pub(crate) fn open(
        &self,
        resource: (&str, &str),
        key: &str,
        stored: &Bytes,
    ) -> Result<Opened, Unreadable> {
        let (encryption, tried) = self.now();
        let providers = encryption.providers(resource.0, resource.1);
        match provider::open(&providers, key, stored) {
            Ok(None) => Ok(stored.clone().into()),
            Ok(Some((value, mark))) => {
                self.count(resource, "from_storage", prefix_of(stored), "OK");
                Ok(Opened {
                    value: value.into(),
                    mark,
                })
            }
            Err(why) => {
                self.count(resource, "from_storage", "unknown", "Unknown");
                Err(Unreadable { why, tried })
            }
        }
    }

    /// The mark of the key under which objects of a resource are written now; 0 where that is in clear. An object that has
    /// another one is written again when a client writes it unchanged.
    pub(crate) fn mark(&self, resource: (&str, &str)) -> u32 {
        let (encryption, _) = self.now();
        match encryption.providers(resource.0, resource.1).first() {
            Some(Provider::Keyed { keys, .. }) => keys.first().map_or(0, |key| key.mark()),
            _ => 0,
        }
    }

    fn count(&self, (group, plural): (&str, &str), kind: &str, prefix: &str, status: &str) {
        let name = match group {
            "" => plural.to_owned(),
            group => format!("{plural}.{group}"),
        };
        self.operations
            .with_label_values(&[&name, kind, prefix, status])
            .inc();
    }
}

/// `k8s:enc:aesgcm:v1:key:` of an encrypted value.
fn prefix_of(stored: &[u8]) -> &str {
    let colons = stored.iter().enumerate().filter(|(_, byte)| **byte == b':');
    let end = colons.map(|(at, _)| at + 1).nth(4).unwrap_or(0);
    std::str::from_utf8(&stored[..end]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRETS: (&str, &str) = ("", "secrets");
    const AT: &str = "/registry/secrets/n/a";

    fn encryption(keys: &[(&str, u8)]) -> Encryption {
        use base64::Engine;
        let encode = |byte: u8| base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        let keys: Vec<String> = keys
            .iter()
            .map(|(name, byte)| format!("{{name: {name}, secret: {}}}", encode(*byte)))
            .collect();
        Encryption::parse(&format!(
            "{{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{{resources: [secrets], \
             providers: [{{aesgcm: {{keys: [{}]}}}}, {{identity: {{}}}}]}}]}}",
            keys.join(", ")
        ))
        .unwrap()
    }

    #[test]
    fn what_was_written_before_is_read_and_stale() {
        let sealer = Sealer::default();
        let clear = Bytes::from_static(b"{\"data\":\"canary\"}");
        assert_eq!(sealer.seal(SECRETS, AT, clear.clone()), clear);
        assert_eq!(sealer.mark(SECRETS), 0);
        sealer.replace(encryption(&[("one", 1)]));
        let open = |stored: &Bytes| sealer.open(SECRETS, AT, stored);
        let stale = |stored: &Bytes| open(stored).unwrap().mark != sealer.mark(SECRETS);
        assert!(stale(&clear));
        let first = sealer.seal(SECRETS, AT, clear.clone());
        assert_eq!(prefix_of(&first), "k8s:enc:aesgcm:v1:one:");
        assert!(!first.windows(6).any(|part| part == b"canary"));
        assert!(!stale(&first));
        assert_ne!(
            sealer.seal(SECRETS, AT, clear.clone()),
            first,
            "a nonce of its own"
        );
        // Another key of the same name.
        sealer.replace(encryption(&[("one", 2), ("one", 1)]));
        assert_eq!(open(&first).unwrap().value, clear);
        assert!(stale(&first));
        sealer.replace(encryption(&[("two", 2)]));
        assert_eq!(open(&first).unwrap_err().tried, 3);
        // Nothing is said of others.
        assert_eq!(sealer.seal(("", "pods"), AT, clear.clone()), clear);
        assert_eq!(sealer.open(("", "pods"), AT, &clear).unwrap().mark, 0);
    }
}
