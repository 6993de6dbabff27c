//! How a value is encrypted: the providers of Kubernetes, in its format, so that either can read what the other has stored.
//!
//! A value is `k8s:enc:PROVIDER:v1:KEY:` and then, for `aesgcm`, a nonce of 12 random bytes, the ciphertext and its tag. The
//! storage key is authenticated with it, so that no value can be put in the place of another.

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

/// What every encrypted value begins with.
pub(super) const ENCRYPTED: &[u8] = b"k8s:enc:";
/// What Go's library says of a value that was not written with this key, or not here.
const NOT_AUTHENTIC: &str = "cipher: message authentication failed";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    AesGcm,
}

impl Kind {
    /// In the configuration and in the prefix of values.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::AesGcm => "aesgcm",
        }
    }

    /// In errors.
    fn title(self) -> &'static str {
        match self {
            Kind::AesGcm => "AES-GCM",
        }
    }

    /// In bytes.
    pub(super) fn key_lengths(self) -> &'static [usize] {
        match self {
            Kind::AesGcm => &[16, 32],
        }
    }

    fn prefix(self) -> String {
        format!("k8s:enc:{}:v1:", self.name())
    }
}

pub(super) enum Provider {
    /// In clear.
    Identity,
    Keyed {
        kind: Kind,
        keys: Vec<Key>,
    },
}

pub(super) struct Key {
    /// Of the values under this key.
    prefix: String,
    mark: u32,
    key: LessSafeKey,
}

impl Key {
    /// None where `secret` is not as long as it has to be.
    pub(super) fn new(kind: Kind, name: &str, secret: &[u8]) -> Option<Key> {
        let algorithm = match secret.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        let prefix = format!("{}{name}:", kind.prefix());
        let digest = Sha256::new()
            .chain_update(&prefix)
            .chain_update(secret)
            .finalize();
        let mark = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Some(Key {
            prefix,
            // 0 is for what is in clear.
            mark: mark.max(1),
            key: LessSafeKey::new(UnboundKey::new(algorithm, secret).ok()?),
        })
    }

    /// Tells this key from others of its name, too, without telling anything of it.
    pub(super) fn mark(&self) -> u32 {
        self.mark
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The value to store under `at`. The nonce is random: two writes in 2^32 under one key have the same with a probability
    /// of 2^-33.
    pub(super) fn encrypt(&self, at: &str, clear: &[u8], nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let tag = self.key.algorithm().tag_len();
        let mut out = Vec::with_capacity(self.prefix.len() + NONCE_LEN + clear.len() + tag);
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(&nonce);
        let begin = out.len();
        out.extend_from_slice(clear);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(at), &mut out[begin..]);
        out.extend_from_slice(
            sealed
                .expect("no object is as long as AES-GCM's limit")
                .as_ref(),
        );
        out
    }

    /// What was encrypted under `at`, of a value without its prefix.
    fn decrypt(&self, at: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let Some((nonce, sealed)) = sealed.split_at_checked(NONCE_LEN) else {
            return Err("the stored data was shorter than the required size".into());
        };
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| NOT_AUTHENTIC)?;
        let mut out = sealed.to_vec();
        let clear = self.key.open_in_place(nonce, Aad::from(at), &mut out);
        let length = clear.map_err(|_| NOT_AUTHENTIC)?.len();
        out.truncate(length);
        Ok(out)
    }
}

/// What a value is in clear, and the mark of the key under which it was; or why it cannot be read. The texts are
/// Kubernetes'.
pub(super) fn open(
    providers: &[&Provider],
    at: &str,
    stored: &[u8],
) -> Result<Option<(Vec<u8>, u32)>, String> {
    let is_encrypted = stored.starts_with(ENCRYPTED);
    if providers.is_empty() {
        return match is_encrypted {
            true => Err("identity transformer tried to read encrypted data".into()),
            false => Ok(None),
        };
    }
    let mut errors = Vec::new();
    for provider in providers {
        match provider {
            Provider::Identity if !is_encrypted => return Ok(None),
            Provider::Identity => {}
            Provider::Keyed { kind, keys } => {
                if !stored.starts_with(kind.prefix().as_bytes()) {
                    continue;
                }
                // Several keys may have one name.
                let mut known = keys
                    .iter()
                    .filter_map(|key| Some((key, stored.strip_prefix(key.prefix.as_bytes())?)))
                    .peekable();
                if known.peek().is_none() {
                    errors.push(format!(
                        "no matching key was found for the provided {} transformer",
                        kind.title()
                    ));
                }
                for (key, sealed) in known {
                    match key.decrypt(at, sealed) {
                        Ok(clear) => return Ok(Some((clear, key.mark))),
                        Err(error) => errors.push(error),
                    }
                }
            }
        }
    }
    errors.dedup();
    match errors.as_slice() {
        [] => Err("no matching prefix found".into()),
        [one] => Err(one.clone()),
        more => Err(format!("[{}]", more.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "/registry/secrets/default/a";

    fn provider(names: &[(&str, u8)]) -> Provider {
        let keys = names.iter();
        let keys = keys.map(|(name, byte)| Key::new(Kind::AesGcm, name, &[*byte; 32]).unwrap());
        Provider::Keyed {
            kind: Kind::AesGcm,
            keys: keys.collect(),
        }
    }

    /// Test case 16 of the specification of GCM (McGrew and Viega), and its shape in the store.
    #[test]
    fn a_value_is_what_the_specification_says() {
        let hex = |text: &str| -> Vec<u8> {
            let digits = text.as_bytes().chunks(2);
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
            digits.map(|pair| byte(pair).unwrap()).collect()
        };
        let secret = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let key = Key::new(Kind::AesGcm, "k", &secret).unwrap();
        let nonce: [u8; 12] = hex("cafebabefacedbaddecaf888").try_into().unwrap();
        let clear = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        );
        let stored = key.encrypt("", &clear, nonce);
        let rest = stored.strip_prefix(b"k8s:enc:aesgcm:v1:k:").unwrap();
        assert_eq!(rest[..12], nonce);
        let expected = hex(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
        );
        assert_eq!(rest[12..rest.len() - 16], expected);
        assert_eq!(key.decrypt("", rest).unwrap(), clear);
    }

    #[test]
    fn a_value_is_read_where_it_was_written_and_nowhere_else() {
        let Provider::Keyed { keys, .. } = provider(&[("a", 1)]) else {
            unreachable!()
        };
        let stored = keys[0].encrypt(AT, b"clear", [7; 12]);
        let read = |providers: &[&Provider], at: &str, stored: &[u8]| open(providers, at, stored);
        let (a, b) = (provider(&[("a", 1)]), provider(&[("b", 2)]));
        let mark = keys[0].mark();
        let clear = Ok(Some((b"clear".to_vec(), mark)));
        assert_eq!(read(&[&a], AT, &stored), clear);
        assert_eq!(read(&[&Provider::Identity, &b, &a], AT, &stored), clear);
        // A key of the same name that is being rotated out.
        assert_eq!(
            read(&[&provider(&[("a", 9), ("a", 1)])], AT, &stored),
            clear
        );
        let refused = |text: &str| Err(text.to_owned());
        assert_eq!(
            read(&[&a], "/registry/secrets/default/b", &stored),
            refused(NOT_AUTHENTIC)
        );
        let mut changed = stored.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(read(&[&a], AT, &changed), refused(NOT_AUTHENTIC));
        assert_eq!(
            read(&[&b, &Provider::Identity], AT, &stored),
            refused("no matching key was found for the provided AES-GCM transformer")
        );
        assert_eq!(
            read(&[], AT, &stored),
            refused("identity transformer tried to read encrypted data")
        );
        assert_eq!(
            read(&[&a], AT, b"k8s:enc:aesgcm:v1:a:short"),
            refused("the stored data was shorter than the required size")
        );
        assert_eq!(
            read(&[&a], AT, b"k8s:enc:"),
            refused("no matching prefix found")
        );
        assert_eq!(read(&[&a], AT, b"{}"), refused("no matching prefix found"));
        assert_eq!(read(&[&a, &Provider::Identity], AT, b"{}"), Ok(None));
        assert_eq!(read(&[], AT, b"{}"), Ok(None));
    }
}
