//! How a value is encrypted: the providers of Kubernetes, in its format, so that either can read what the other has stored.
//! A value is `k8s:enc:PROVIDER:v1:KEY:` and then what the provider's cipher makes of it.

use sha2::{Digest, Sha256};

use super::cipher::{Cipher, Kind, RANDOM};

/// What every encrypted value begins with.
pub(super) const ENCRYPTED: &[u8] = b"k8s:enc:";

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
    cipher: Cipher,
}

impl Key {
    /// None where `secret` is not as long as it has to be.
    pub(super) fn new(kind: Kind, name: &str, secret: &[u8]) -> Option<Key> {
        let cipher = Cipher::new(kind, secret)?;
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
            cipher,
        })
    }

    /// Tells this key from others of its name, too, without telling anything of it.
    pub(super) fn mark(&self) -> u32 {
        self.mark
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The value to store under `at`. No two may have the same `random` bytes.
    pub(super) fn encrypt(&self, at: &str, clear: &[u8], random: [u8; RANDOM]) -> Vec<u8> {
        let mut out = self.prefix.clone().into_bytes();
        self.cipher.encrypt(at, clear, random, &mut out);
        out
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
                    match key.cipher.decrypt(at, sealed) {
                        Ok(clear) => return Ok(Some((clear, key.mark))),
                        Err(error) => errors.push(error.to_owned()),
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
    use super::super::cipher::NOT_AUTHENTIC;
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
        let nonce = hex("cafebabefacedbaddecaf888");
        let mut random = [0; RANDOM];
        random[..12].copy_from_slice(&nonce);
        let clear = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        );
        let stored = key.encrypt("", &clear, random);
        let rest = stored.strip_prefix(b"k8s:enc:aesgcm:v1:k:").unwrap();
        assert_eq!(rest[..12], nonce);
        let expected = hex(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
        );
        assert_eq!(rest[12..rest.len() - 16], expected);
        assert_eq!(key.cipher.decrypt("", rest).unwrap(), clear);
    }

    #[test]
    fn a_value_is_read_where_it_was_written_and_nowhere_else() {
        let Provider::Keyed { keys, .. } = provider(&[("a", 1)]) else {
            unreachable!()
        };
        let stored = keys[0].encrypt(AT, b"clear", [7; RANDOM]);
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
            refused("no matching key was found for the provided AES transformer")
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

    /// A provider that is rotated out reads what it wrote; a key of the same name of another kind is not tried.
    #[test]
    fn providers_of_all_kinds_read_what_each_of_them_wrote() {
        let kinds = [Kind::AesGcm, Kind::AesCbc, Kind::Secretbox];
        let all = kinds.map(|kind| Provider::Keyed {
            kind,
            keys: vec![Key::new(kind, "a", &[1; 32]).unwrap()],
        });
        let mut marks = Vec::new();
        for (kind, prefix, title) in [
            (Kind::AesGcm, "k8s:enc:aesgcm:v1:a:", "AES"),
            (Kind::AesCbc, "k8s:enc:aescbc:v1:a:", "AES"),
            (Kind::Secretbox, "k8s:enc:secretbox:v1:a:", "Secretbox"),
        ] {
            let key = Key::new(kind, "a", &[1; 32]).unwrap();
            let stored = key.encrypt(AT, b"clear", [7; RANDOM]);
            assert!(stored.starts_with(prefix.as_bytes()));
            assert!(!marks.contains(&key.mark()), "each is another key");
            marks.push(key.mark());
            let providers: Vec<&Provider> = all.iter().rev().collect();
            let clear = Ok(Some((b"clear".to_vec(), key.mark())));
            assert_eq!(open(&providers, AT, &stored), clear);
            let other = Provider::Keyed {
                kind,
                keys: vec![Key::new(kind, "b", &[1; 32]).unwrap()],
            };
            let text = format!("no matching key was found for the provided {title} transformer");
            assert_eq!(open(&[&other], AT, &stored), Err(text));
        }
    }
}
