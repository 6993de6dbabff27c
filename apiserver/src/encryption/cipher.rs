//! The ciphers of Kubernetes' providers, in its layouts. What each makes of a value begins with its random bytes:
//!
//! - `aesgcm`: a nonce of 12 bytes, the ciphertext, its tag. The storage key is authenticated with it, so that no value can
//!   be put in the place of another.
//! - `aescbc`: an initialization vector of 16 bytes, and the ciphertext of the value padded by PKCS #7. Nothing is
//!   authenticated.
//! - `secretbox`: a nonce of 24 bytes, the tag, the ciphertext (NaCl's `crypto_secretbox`: XSalsa20 and Poly1305). The value
//!   is authenticated, the storage key is not.
//!
//! The errors are those of Kubernetes, whatever they say.

use aes::cipher::consts::{U12, U16};
use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit,
    KeyInit, KeyIvInit, StreamCipher,
};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::AeadInOut;
use poly1305::Poly1305;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use salsa20::XSalsa20;

/// As many random bytes as any of them needs.
pub(super) const RANDOM: usize = BOX_NONCE;
const BLOCK: usize = 16;
const GCM_TAG: usize = 16;
const BOX_NONCE: usize = 24;
const BOX_TAG: usize = 16;

const TOO_SHORT: &str = "the stored data was shorter than the required size";
/// What Go's library says of a value that was not written with this key, or not here.
pub(super) const NOT_AUTHENTIC: &str = "cipher: message authentication failed";
const NOT_AUTHENTIC_BOX: &str = "output array was not large enough for encryption";
const NOT_WHOLE_BLOCKS: &str = "the stored data is not a multiple of the block size";
const NOT_PADDED: &str = "invalid PKCS7 data (empty or not padded)";
const BAD_PADDING: &str = "invalid padding on input";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    AesGcm,
    AesCbc,
    Secretbox,
}

impl Kind {
    /// In the configuration and in the prefix of values.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::AesGcm => "aesgcm",
            Kind::AesCbc => "aescbc",
            Kind::Secretbox => "secretbox",
        }
    }

    /// In errors.
    pub(super) fn title(self) -> &'static str {
        match self {
            Kind::AesGcm | Kind::AesCbc => "AES",
            Kind::Secretbox => "Secretbox",
        }
    }

    /// In bytes.
    pub(super) fn key_lengths(self) -> &'static [usize] {
        match self {
            Kind::AesGcm | Kind::AesCbc => &[16, 24, 32],
            Kind::Secretbox => &[32],
        }
    }

    pub(super) fn prefix(self) -> String {
        format!("k8s:enc:{}:v1:", self.name())
    }
}

/// A cipher with its key.
pub(super) enum Cipher {
    AesGcm(Gcm),
    AesCbc(Box<Aes>),
    Secretbox([u8; 32]),
}

impl Cipher {
    /// None where `secret` is not as long as it has to be.
    pub(super) fn new(kind: Kind, secret: &[u8]) -> Option<Cipher> {
        Some(match kind {
            Kind::AesGcm => Cipher::AesGcm(Gcm::new(secret)?),
            Kind::AesCbc => Cipher::AesCbc(Box::new(Aes::new(secret)?)),
            Kind::Secretbox => Cipher::Secretbox(secret.try_into().ok()?),
        })
    }

    /// Adds the value to store under `at` to `out`. Of `random` it takes what it needs. With AES-GCM two writes in 2^32 under
    /// one key have the same nonce with a probability of 2^-33.
    pub(super) fn encrypt(&self, at: &str, clear: &[u8], random: [u8; RANDOM], out: &mut Vec<u8>) {
        match self {
            Cipher::AesGcm(key) => {
                let mut nonce = [0; NONCE_LEN];
                nonce.copy_from_slice(&random[..NONCE_LEN]);
                encrypt_gcm(key, at, clear, nonce, out);
            }
            Cipher::AesCbc(key) => {
                let mut iv = [0; BLOCK];
                iv.copy_from_slice(&random[..BLOCK]);
                encrypt_cbc(key, clear, iv, out);
            }
            Cipher::Secretbox(key) => encrypt_box(key, clear, random, out),
        }
    }

    /// What was encrypted under `at`.
    pub(super) fn decrypt(&self, at: &str, sealed: &[u8]) -> Result<Vec<u8>, &'static str> {
        match self {
            Cipher::AesGcm(key) => decrypt_gcm(key, at, sealed),
            Cipher::AesCbc(key) => decrypt_cbc(key, sealed),
            Cipher::Secretbox(key) => decrypt_box(key, sealed),
        }
    }
}

/// AES-GCM with a key of any of AES' lengths. ring has it without 24 bytes, for which another library stands in.
pub(super) enum Gcm {
    Ring(Box<LessSafeKey>),
    Of192(Box<AesGcm<Aes192, U12>>),
}

impl Gcm {
    fn new(secret: &[u8]) -> Option<Gcm> {
        let algorithm = match secret.len() {
            16 => &AES_128_GCM,
            24 => {
                let key = AesGcm::new_from_slice(secret).ok()?;
                return Some(Gcm::Of192(Box::new(key)));
            }
            32 => &AES_256_GCM,
            _ => return None,
        };
        let key = UnboundKey::new(algorithm, secret).ok()?;
        Some(Gcm::Ring(Box::new(LessSafeKey::new(key))))
    }

    /// Encrypts `text` in place; its tag.
    fn seal(&self, at: &str, nonce: [u8; NONCE_LEN], text: &mut [u8]) -> [u8; GCM_TAG] {
        let tag: Option<[u8; GCM_TAG]> = match self {
            Gcm::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(at), text);
                tag.ok().and_then(|tag| tag.as_ref().try_into().ok())
            }
            Gcm::Of192(key) => {
                let nonce = Array::<u8, U12>::from(nonce);
                let tag = key.encrypt_inout_detached(&nonce, at.as_bytes(), text.into());
                tag.ok().map(Into::into)
            }
        };
        tag.expect("no object is as long as AES-GCM's limit")
    }

    /// Decrypts `text` in place. False where it is not what was sealed.
    fn open(&self, at: &str, nonce: [u8; NONCE_LEN], text: &mut [u8], tag: [u8; GCM_TAG]) -> bool {
        match self {
            Gcm::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = Tag::from(tag);
                let clear = key.open_in_place_separate_tag(nonce, Aad::from(at), tag, text, 0..);
                clear.is_ok()
            }
            Gcm::Of192(key) => {
                let nonce = Array::<u8, U12>::from(nonce);
                let tag = Array::<u8, U16>::from(tag);
                let clear = key.decrypt_inout_detached(&nonce, at.as_bytes(), text.into(), &tag);
                clear.is_ok()
            }
        }
    }
}

fn encrypt_gcm(key: &Gcm, at: &str, clear: &[u8], nonce: [u8; NONCE_LEN], out: &mut Vec<u8>) {
    out.reserve(NONCE_LEN + clear.len() + GCM_TAG);
    out.extend_from_slice(&nonce);
    let begin = out.len();
    out.extend_from_slice(clear);
    let tag = key.seal(at, nonce, &mut out[begin..]);
    out.extend_from_slice(&tag);
}

fn decrypt_gcm(key: &Gcm, at: &str, sealed: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(TOO_SHORT)?;
    let (text, tag) = sealed.split_last_chunk::<GCM_TAG>().ok_or(NOT_AUTHENTIC)?;
    let mut out = text.to_vec();
    if key.open(at, *nonce, &mut out, *tag) {
        Ok(out)
    } else {
        Err(NOT_AUTHENTIC)
    }
}

/// AES with a key of any of its lengths.
pub(super) enum Aes {
    Of128(Aes128),
    Of192(Aes192),
    Of256(Aes256),
}

impl Aes {
    fn new(secret: &[u8]) -> Option<Aes> {
        Some(match secret.len() {
            16 => Aes::Of128(Aes128::new_from_slice(secret).ok()?),
            24 => Aes::Of192(Aes192::new_from_slice(secret).ok()?),
            32 => Aes::Of256(Aes256::new_from_slice(secret).ok()?),
            _ => return None,
        })
    }

    /// Whole blocks, in place.
    fn encrypt(&self, iv: [u8; BLOCK], blocks: &mut [u8]) {
        match self {
            Aes::Of128(aes) => chain(aes, iv, blocks),
            Aes::Of192(aes) => chain(aes, iv, blocks),
            Aes::Of256(aes) => chain(aes, iv, blocks),
        }
    }

    /// Whole blocks, in place.
    fn decrypt(&self, iv: [u8; BLOCK], blocks: &mut [u8]) {
        match self {
            Aes::Of128(aes) => unchain(aes, iv, blocks),
            Aes::Of192(aes) => unchain(aes, iv, blocks),
            Aes::Of256(aes) => unchain(aes, iv, blocks),
        }
    }
}

fn chain<C: BlockCipherEncrypt<BlockSize = U16>>(cipher: &C, iv: [u8; BLOCK], blocks: &mut [u8]) {
    let (blocks, _) = Array::<u8, U16>::slice_as_chunks_mut(blocks);
    let iv = Array::<u8, U16>::from(iv);
    cbc::Encryptor::<&C>::inner_iv_init(cipher, &iv).encrypt_blocks(blocks);
}

fn unchain<C: BlockCipherDecrypt<BlockSize = U16>>(cipher: &C, iv: [u8; BLOCK], blocks: &mut [u8]) {
    let (blocks, _) = Array::<u8, U16>::slice_as_chunks_mut(blocks);
    let iv = Array::<u8, U16>::from(iv);
    cbc::Decryptor::<&C>::inner_iv_init(cipher, &iv).decrypt_blocks(blocks);
}

fn encrypt_cbc(key: &Aes, clear: &[u8], iv: [u8; BLOCK], out: &mut Vec<u8>) {
    let padding = BLOCK - clear.len() % BLOCK;
    out.reserve(BLOCK + clear.len() + padding);
    out.extend_from_slice(&iv);
    let begin = out.len();
    out.extend_from_slice(clear);
    // As many bytes as are missing, each of which says how many they are.
    out.resize(out.len() + padding, padding as u8);
    key.encrypt(iv, &mut out[begin..]);
}

fn decrypt_cbc(key: &Aes, sealed: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (iv, sealed) = sealed.split_first_chunk::<BLOCK>().ok_or(TOO_SHORT)?;
    if !sealed.len().is_multiple_of(BLOCK) {
        return Err(NOT_WHOLE_BLOCKS);
    }
    let mut out = sealed.to_vec();
    key.decrypt(*iv, &mut out);
    let last = out.last().copied().unwrap_or_default();
    let length = match out.len().checked_sub(usize::from(last)) {
        Some(length) if last != 0 => length,
        _ => return Err(NOT_PADDED),
    };
    if out[length..].iter().any(|byte| *byte != last) {
        return Err(BAD_PADDING);
    }
    out.truncate(length);
    Ok(out)
}

/// The authenticator of a box and the stream that its text is encrypted with: the first 32 bytes of XSalsa20's are the key of
/// Poly1305 ("Cryptography in NaCl", of `crypto_secretbox`).
fn box_parts(key: &[u8; 32], nonce: &[u8; BOX_NONCE]) -> (Poly1305, XSalsa20) {
    let (key, nonce) = (salsa20::Key::from(*key), salsa20::XNonce::from(*nonce));
    let mut stream = <XSalsa20 as KeyIvInit>::new(&key, &nonce);
    let mut first = [0u8; 32];
    stream.write_keystream(&mut first);
    let first = poly1305::Key::from(first);
    (<Poly1305 as KeyInit>::new(&first), stream)
}

fn encrypt_box(key: &[u8; 32], clear: &[u8], nonce: [u8; BOX_NONCE], out: &mut Vec<u8>) {
    let (authenticator, mut stream) = box_parts(key, &nonce);
    out.reserve(BOX_NONCE + BOX_TAG + clear.len());
    out.extend_from_slice(&nonce);
    let begin = out.len();
    out.extend_from_slice(&[0; BOX_TAG]);
    out.extend_from_slice(clear);
    let (tag, text) = out[begin..].split_at_mut(BOX_TAG);
    stream.apply_keystream(text);
    tag.copy_from_slice(authenticator.compute_unpadded(text).as_slice());
}

fn decrypt_box(key: &[u8; 32], sealed: &[u8]) -> Result<Vec<u8>, &'static str> {
    let parts = sealed.split_first_chunk::<BOX_NONCE>();
    let parts = parts.and_then(|(nonce, rest)| Some((nonce, rest.split_at_checked(BOX_TAG)?)));
    let (nonce, (tag, text)) = parts.ok_or(TOO_SHORT)?;
    let (authenticator, mut stream) = box_parts(key, nonce);
    let expected = authenticator.compute_unpadded(text);
    // All of it is compared, so that the time does not tell how much of it fits.
    let pairs = expected.as_slice().iter().zip(tag);
    if pairs.fold(0u8, |differs, (a, b)| differs | (a ^ b)) != 0 {
        return Err(NOT_AUTHENTIC_BOX);
    }
    let mut out = text.to_vec();
    stream.apply_keystream(&mut out);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "/registry/secrets/default/a";
    const OBJECT: &str =
        r#"{"kind":"Secret","apiVersion":"v1","data":{"key":"dmFsdWU="},"pad":"0123456789"}"#;

    fn hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.map(|pair| byte(pair).unwrap()).collect()
    }

    /// As many of the random bytes as are asked for, and no others.
    fn random(given: &[u8]) -> [u8; RANDOM] {
        let mut random = [0; RANDOM];
        random[..given.len()].copy_from_slice(given);
        random
    }

    fn cipher(kind: Kind, secret: &[u8]) -> Cipher {
        Cipher::new(kind, secret).unwrap()
    }

    fn encrypted(cipher: &Cipher, clear: &[u8], given: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        cipher.encrypt(AT, clear, random(given), &mut out);
        out
    }

    /// NIST SP 800-38A, F.2: what it has in four blocks, and one of padding after them.
    #[test]
    fn cbc_is_what_the_specification_says() {
        let iv = hex("000102030405060708090a0b0c0d0e0f");
        let clear = hex(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        for (secret, expected) in [
            (
                "2b7e151628aed2a6abf7158809cf4f3c",
                "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
            ),
            (
                "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
                "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
            ),
            (
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
            ),
        ] {
            let cipher = cipher(Kind::AesCbc, &hex(secret));
            let stored = encrypted(&cipher, &clear, &iv);
            assert_eq!(stored[..16], iv);
            assert_eq!(stored[16..80], hex(expected));
            assert_eq!(stored.len(), 96);
            assert_eq!(cipher.decrypt("elsewhere", &stored).unwrap(), clear);
        }
    }

    /// Made by OpenSSL under `AT`, with the first bytes of 00, 01, 02, .. as the key.
    #[test]
    fn gcm_takes_keys_of_24_bytes() {
        let secret: Vec<u8> = (0..24).collect();
        let cipher = cipher(Kind::AesGcm, &secret);
        for (clear, stored) in [
            (
                "clear",
                "6465666768696a6b6c6d6e6f8a04de1d20b65a47d68fd8e0e11b93e1f29cf6e9de",
            ),
            (
                OBJECT,
                "6465666768696a6b6c6d6e6f924ad0153ccb2c02f18287628897ef9cf17b3fba93df149df22a27a49454ba366b762bbd3c7430d15ca91893476759ce5a4c4a35c77ec64aecac7472bf43a1518e1a87324da2bf48863647254d02aa6478eccb8b2b6240dac6768d21da549daa",
            ),
        ] {
            let mut stored = hex(stored);
            assert_eq!(cipher.decrypt(AT, &stored).as_deref(), Ok(clear.as_bytes()));
            assert_eq!(encrypted(&cipher, clear.as_bytes(), &stored[..12]), stored);
            assert_eq!(cipher.decrypt("elsewhere", &stored), Err(NOT_AUTHENTIC));
            stored[12] ^= 1;
            assert_eq!(cipher.decrypt(AT, &stored), Err(NOT_AUTHENTIC));
        }
    }

    /// The example of "Cryptography in NaCl" (Bernstein).
    #[test]
    fn a_box_is_what_the_specification_says() {
        let secret = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let clear = hex(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705",
        );
        let cipher = cipher(Kind::Secretbox, &secret);
        let stored = encrypted(&cipher, &clear, &nonce);
        assert_eq!(stored[..24], nonce);
        assert_eq!(
            stored[24..],
            hex(
                "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"
            )
        );
        assert_eq!(cipher.decrypt("elsewhere", &stored).unwrap(), clear);
    }

    /// Written by the transformers of k8s.io/apiserver under `AT`, with the first bytes of 00, 01, 02, .. as the key.
    #[test]
    fn what_kubernetes_has_written_is_read_and_would_be_written() {
        let secret: Vec<u8> = (0..32).collect();
        for (kind, length, clear, stored) in [
            (
                Kind::AesGcm,
                16,
                "clear",
                "d64b117f4c65ca1bc3934506f79d1f2d34008cb682d17fbb9872b3d79b0d7f4847",
            ),
            (
                Kind::AesGcm,
                32,
                OBJECT,
                "3cfb01643d8c4e2b8cae084ddc0e965a3434654fea180d172d8698aef4a347938733379976fb92646fac86d14ce9dcef7d7e82550b993b73256bff0ad70877bff9b1126a156d80947c56f1e8156e133009b3d5a6d34804abb46c9e1262bbc1998a7f41c2c059223f07212230",
            ),
            (
                Kind::AesCbc,
                16,
                "clear",
                "5667062d0952c651ea6f22c6861f2bfd17a2acd23d50292d4df5b696bdd45c41",
            ),
            (
                Kind::AesCbc,
                24,
                "sixteen bytes ..",
                "244e7836965837d3867112c20cd384901fba41503d06bdd5d781a57312c49c702b214d6623096b7bfe8fff06d26e29cd",
            ),
            (
                Kind::AesCbc,
                32,
                "",
                "0256f4d37d60237151668f36ad5e87de86883c9b56e94410eec93d6ca5f026d6",
            ),
            (
                Kind::AesCbc,
                32,
                OBJECT,
                "17a651cdd51cff07372558e739d81729e7b0754590a52f6393bb76508305b8a195beb6fda148d167f3af6fef3a7b8ae124fe621eceeb33b3af3c9ba6d0fa32b887048388f03424434f02157c600fdd1396a43e6d89aa2016c1d2db145a222f5d461e39d89835afc78571d98a75677512",
            ),
            (
                Kind::Secretbox,
                32,
                "",
                "cab1ccd0c5e1f289ecbeb45e64384a0bf444da17517ee4bf61b56efbf21e1a31a29c9cc94f6dfba3",
            ),
            (
                Kind::Secretbox,
                32,
                "clear",
                "5376c01fd7512bc6af24f8b2970c1304b1625f6115aafc8f629cbc73c8a1834aafe5808dcd605fd4815d667edf",
            ),
            (
                Kind::Secretbox,
                32,
                OBJECT,
                "5936428715b50f170ca2376ebbf8493b984f5367af7f1be7b659937e0da7727c3e371c1be37d5aaa1fb75ec28820656f29e7195762370fe0d81062d3aa82a82bc9588644ad2bf5e8996206dcf1b286889c45fede51506aea2d041d13a2417a9cde470f968b9b3369d03b15adc37fe5b0eb001ada94ae6e76",
            ),
        ] {
            let cipher = cipher(kind, &secret[..length]);
            let stored = hex(stored);
            let read = cipher.decrypt(AT, &stored);
            assert_eq!(read.as_deref(), Ok(clear.as_bytes()), "{kind:?}");
            let given = match kind {
                Kind::AesGcm => 12,
                Kind::AesCbc => 16,
                Kind::Secretbox => 24,
            };
            let written = encrypted(&cipher, clear.as_bytes(), &stored[..given]);
            assert_eq!(written, stored, "{kind:?}");
        }
    }

    #[test]
    fn what_was_changed_is_refused_in_kubernetes_words() {
        let cbc = cipher(Kind::AesCbc, &[1; 24]);
        let boxed = cipher(Kind::Secretbox, &[1; 32]);
        // A value of which the last block is in clear what it is here.
        let ending = |last: [u8; 16]| {
            let stored = encrypted(&cbc, &last, &[7; 16]);
            cbc.decrypt(AT, &stored[..32])
        };
        assert_eq!(ending([0; 16]), Err(NOT_PADDED));
        assert_eq!(ending([33; 16]), Err(NOT_PADDED));
        assert_eq!(ending([16; 16]), Ok(Vec::new()));
        let mut last = [2; 16];
        last[14] = 3;
        assert_eq!(ending(last), Err(BAD_PADDING));
        assert_eq!(cbc.decrypt(AT, &[0; 15]), Err(TOO_SHORT));
        assert_eq!(cbc.decrypt(AT, &[0; 16]), Err(NOT_PADDED));
        assert_eq!(cbc.decrypt(AT, &[0; 33]), Err(NOT_WHOLE_BLOCKS));
        let stored = encrypted(&boxed, b"clear", &[7; 24]);
        assert_eq!(boxed.decrypt(AT, &stored[..39]), Err(TOO_SHORT));
        for at in [0, 24, 39, 40, stored.len() - 1] {
            let mut changed = stored.clone();
            changed[at] ^= 1;
            assert_eq!(boxed.decrypt(AT, &changed), Err(NOT_AUTHENTIC_BOX), "{at}");
        }
    }

    #[test]
    fn a_key_has_one_of_the_lengths_of_its_kind() {
        for kind in [Kind::AesGcm, Kind::AesCbc, Kind::Secretbox] {
            for length in 0..40 {
                let taken = Cipher::new(kind, &vec![0; length]).is_some();
                assert_eq!(taken, kind.key_lengths().contains(&length), "{kind:?}");
            }
        }
    }
}
