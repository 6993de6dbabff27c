//! Service account tokens: ES256 JSON web tokens that are bound to objects.
//!
//! A token is only as good as what it is bound to. [`Verifier::verify`] checks everything that the token itself
//! can prove; the caller then checks that the service account and each bound object still exist with the uid
//! of the claims ([`Claims::bound`]).

mod claims;
mod legacy;
mod public_key;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::user::service_account_username;
pub use claims::{Binding, Claims, Reference};
pub use legacy::{SecretClaims, may_be_of_secret};
pub use public_key::PublicKey;

/// Clocks of clients and servers may differ by this much.
pub const LEEWAY_SECONDS: i64 = 60;
/// The shortest lifetime that can be asked for.
pub const EXPIRATION_SECONDS_MIN: i64 = 600;
/// The lifetime when none is asked for.
pub const EXPIRATION_SECONDS_DEFAULT: i64 = 3600;
/// Kubernetes refuses to issue for longer than 2^32 seconds.
pub const EXPIRATION_SECONDS_MAX: i64 = 1 << 32;
/// The lifetime that the admission plugin writes into the volumes of pods. Such tokens live for a year in
/// truth, since old clients read the file only once; `warnafter` tells when they should have read it again.
const INJECTED_EXPIRATION_SECONDS: i64 = 3607;
const EXTENDED_EXPIRATION_SECONDS: i64 = 365 * 24 * 3600;
/// No honest token is longer.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Why a key cannot be used, or a token does not identify anybody (401).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("not an ECDSA P-256 key in PEM form")]
    Key,
    #[error("cannot sign the token")]
    Sign,
    #[error("malformed token")]
    Malformed,
    #[error("unexpected signature algorithm")]
    Algorithm,
    #[error("invalid signature, no keys found")]
    UnknownKey,
    #[error("invalid bearer token")]
    Signature,
    #[error("token was issued by somebody else")]
    Issuer,
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotYetValid,
    #[error(
        "token audiences {} is invalid for the target audiences {}",
        quoted(.audiences),
        quoted(.targets)
    )]
    Audience {
        audiences: Vec<String>,
        targets: Vec<String>,
    },
    #[error("sub claim does not match the service account")]
    Subject,
}

/// A list as Go prints it with `%q`.
fn quoted(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", texts.join(" "))
}

/// What a token is to say; the caller has looked up the objects.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub namespace: String,
    pub service_account: Reference,
    pub pod: Option<Reference>,
    pub secret: Option<Reference>,
    pub node: Option<Reference>,
    pub audiences: Vec<String>,
    /// As asked for, within the bounds of [`EXPIRATION_SECONDS_MIN`] and [`EXPIRATION_SECONDS_MAX`].
    pub expiration_seconds: i64,
    /// True when the audiences are the apiserver's own: only then may a token live longer than asked for.
    pub for_api: bool,
}

/// Issues tokens. Holds the private key; deliberately without `Debug`.
pub struct Signer {
    key: EncodingKey,
    public: PublicKey,
    issuer: String,
}

impl Signer {
    /// `pem` is a P-256 private key in PKCS#8 form; `issuer` is the URL that goes into `iss`.
    pub fn from_pem(pem: &str, issuer: &str) -> Result<Self, Error> {
        let key = EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| Error::Key)?;
        let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(|_| Error::Key)?;
        Ok(Signer {
            key,
            public: PublicKey::from_jwk(&jwk)?,
            issuer: issuer.to_owned(),
        })
    }

    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a token that is valid from `now` (seconds since 1970); `token_id` is a fresh UUID.
    ///
    /// The answer's `status.expirationTimestamp` is `now + request.expiration_seconds` even where the token
    /// itself lives longer.
    pub fn issue(&self, request: &Request, now: i64, token_id: &str) -> Result<String, Error> {
        let extended = request.for_api
            && request.pod.is_some()
            && request.expiration_seconds == INJECTED_EXPIRATION_SECONDS;
        let lifetime = if extended {
            EXTENDED_EXPIRATION_SECONDS
        } else {
            request.expiration_seconds
        };
        let claims = Claims {
            aud: request.audiences.clone(),
            exp: now.saturating_add(lifetime),
            iat: now,
            iss: self.issuer.clone(),
            jti: token_id.to_owned(),
            kubernetes: Binding {
                namespace: request.namespace.clone(),
                node: request.node.clone(),
                pod: request.pod.clone(),
                secret: request.secret.clone(),
                serviceaccount: request.service_account.clone(),
                warnafter: extended.then(|| now.saturating_add(request.expiration_seconds)),
            },
            nbf: now,
            sub: service_account_username(&request.namespace, &request.service_account.name),
        };
        self.sign(&claims)
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, Error> {
        let header = json!({"alg": "ES256", "kid": self.public.id});
        let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
        let payload = serde_json::to_vec(claims).map_err(|_| Error::Sign)?;
        let message = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(&payload)
        );
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, Algorithm::ES256)
            .map_err(|_| Error::Sign)?;
        Ok(format!("{message}.{signature}"))
    }
}

/// Reads the keys of a file: the first one signs, the others are only accepted, be they private or public. A key that is
/// replaced stays behind the new one until its tokens have run out.
pub fn signing_keys(pem: &str, issuer: &str) -> Result<(Signer, Vec<PublicKey>), Error> {
    const BEGIN: &str = "-----BEGIN ";
    let mut blocks = pem
        .match_indices(BEGIN)
        .map(|(at, _)| &pem[at..])
        .map(|rest| {
            let end = rest[BEGIN.len()..].find(BEGIN);
            end.map_or(rest, |end| &rest[..BEGIN.len() + end])
        });
    let signer = Signer::from_pem(blocks.next().unwrap_or(pem), issuer)?;
    let others = blocks.map(|block| match block.contains("PRIVATE KEY") {
        true => Signer::from_pem(block, issuer).map(|signer| signer.public),
        false => PublicKey::from_pem(block),
    });
    let others: Result<Vec<PublicKey>, Error> = others.collect();
    Ok((signer, others?))
}

/// Keys that are accepted at most; beyond them the oldest goes.
const KEYS_MAX: usize = 16;

/// Checks tokens against a list of public keys: the current one and those that are being rotated out.
#[derive(Clone, Debug)]
pub struct Verifier {
    keys: Vec<PublicKey>,
    issuers: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that must be understood; we understand none.
    crit: Option<Value>,
}

impl Verifier {
    /// The first issuer is the one that tokens are issued for; the others are accepted.
    pub fn new(keys: Vec<PublicKey>, issuers: Vec<String>) -> Self {
        Verifier { keys, issuers }
    }

    /// The same with other keys before those that there are.
    pub fn led_by(&self, mut keys: Vec<PublicKey>) -> Verifier {
        let is_new = |key: &&PublicKey| !keys.iter().any(|known| known.id == key.id);
        let kept: Vec<PublicKey> = self.keys.iter().filter(is_new).cloned().collect();
        keys.extend(kept);
        keys.truncate(KEYS_MAX);
        Verifier {
            keys,
            issuers: self.issuers.clone(),
        }
    }

    /// Whose tokens these are.
    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    /// Checks form, algorithm, key, signature, issuer, time and audience. A token must be for at least one of
    /// `audiences`; those it is for are left in the claims.
    pub fn verify(&self, token: &str, audiences: &[String], now: i64) -> Result<Claims, Error> {
        let claims: Claims = self.verify_signature(token)?;
        if !self.issuers.contains(&claims.iss) {
            return Err(Error::Issuer);
        }
        if now.saturating_sub(LEEWAY_SECONDS) > claims.exp {
            return Err(Error::Expired);
        }
        if now.saturating_add(LEEWAY_SECONDS) < claims.nbf.max(claims.iat) {
            return Err(Error::NotYetValid);
        }
        if claims.sub
            != service_account_username(
                &claims.kubernetes.namespace,
                &claims.kubernetes.serviceaccount.name,
            )
        {
            return Err(Error::Subject);
        }
        let common: Vec<String> = claims
            .aud
            .iter()
            .filter(|audience| audiences.contains(audience))
            .cloned()
            .collect();
        if common.is_empty() {
            return Err(Error::Audience {
                audiences: claims.aud,
                targets: audiences.to_vec(),
            });
        }
        Ok(Claims {
            aud: common,
            ..claims
        })
    }

    fn verify_signature<T: DeserializeOwned>(&self, token: &str) -> Result<T, Error> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::Malformed);
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts.as_slice() else {
            return Err(Error::Malformed);
        };
        let header: Header = decode_part(header)?;
        // The algorithm is ours to choose, never the token's: this refuses none, HMAC with a public key, and RSA.
        if header.alg != "ES256" || header.crit.is_some() {
            return Err(Error::Algorithm);
        }
        let mut candidates = self
            .keys
            .iter()
            .filter(|key| header.kid.is_empty() || key.id == header.kid)
            .peekable();
        if candidates.peek().is_none() {
            return Err(Error::UnknownKey);
        }
        let message = &token[..token.len() - signature.len() - 1];
        let valid = candidates.any(|key| {
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.key, Algorithm::ES256)
                .unwrap_or(false)
        });
        if !valid {
            return Err(Error::Signature);
        }
        decode_part(payload)
    }

    /// True when the token names one of our issuers, without any check: tells whose token it claims to be, so
    /// that other authenticators can be asked about other tokens.
    pub fn may_be_ours(&self, token: &str) -> bool {
        has_issuer(token, |issuer| self.issuers.iter().any(|own| own == issuer))
    }

    /// The document at `/openid/v1/jwks` (`application/jwk-set+json`).
    pub fn jwks(&self) -> Value {
        let keys: Vec<Value> = self.keys.iter().map(|key| json!({"use": "sig", "kty": "EC", "kid": key.id, "crv": "P-256", "alg": "ES256", "x": key.x, "y": key.y})).collect();
        json!({ "keys": keys })
    }

    /// The document at `/.well-known/openid-configuration`.
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuers.first().map(String::as_str).unwrap_or_default(),
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

/// What the token says about its issuer, without any check.
fn has_issuer(token: &str, is_wanted: impl Fn(&str) -> bool) -> bool {
    #[derive(Deserialize)]
    struct Issuer {
        iss: String,
    }
    let payload = token
        .split('.')
        .nth(1)
        .filter(|_| token.len() <= TOKEN_BYTES_MAX);
    payload
        .and_then(|payload| decode_part::<Issuer>(payload).ok())
        .is_some_and(|claims| is_wanted(&claims.iss))
}

fn decode_part<T: DeserializeOwned>(part: &str) -> Result<T, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Error::Malformed)
}

#[cfg(test)]
mod tests;
