//! What tokens are verified with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};
use sha2::{Digest, Sha256};

use super::Error;

/// DER of a SubjectPublicKeyInfo for an uncompressed P-256 point, up to the point's coordinates.
const P256_SPKI_PREFIX: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// A public key with its id and the text of its web key.
#[derive(Clone)]
pub struct PublicKey {
    pub(super) id: String,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) key: DecodingKey,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Reads a public key (`-----BEGIN PUBLIC KEY-----`) in PEM form.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let key = DecodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| Error::Key)?;
        let jwk = Jwk::from_decoding_key(&key, Some(Algorithm::ES256)).map_err(|_| Error::Key)?;
        PublicKey::from_jwk(&jwk)
    }

    pub(super) fn from_jwk(jwk: &Jwk) -> Result<Self, Error> {
        let AlgorithmParameters::EllipticCurve(point) = &jwk.algorithm else {
            return Err(Error::Key);
        };
        let coordinate = |text: &str| {
            URL_SAFE_NO_PAD
                .decode(text)
                .ok()
                .filter(|bytes| bytes.len() == 32)
                .ok_or(Error::Key)
        };
        let (x, y) = (coordinate(&point.x)?, coordinate(&point.y)?);
        let key = DecodingKey::from_ec_components(&point.x, &point.y).map_err(|_| Error::Key)?;
        // The id is what Kubernetes uses: the digest of the public key's DER form.
        let spki = [P256_SPKI_PREFIX.as_slice(), &x, &y].concat();
        Ok(PublicKey {
            id: URL_SAFE_NO_PAD.encode(Sha256::digest(spki)),
            x: point.x.clone(),
            y: point.y.clone(),
            key,
        })
    }

    /// The `kid` of tokens signed with the private half.
    pub fn id(&self) -> &str {
        &self.id
    }
}
