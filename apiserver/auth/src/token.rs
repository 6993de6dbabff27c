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
mod tests {
    use rcgen::{KeyPair, PublicKeyData};
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::user::{EXTRA_CREDENTIAL_ID, EXTRA_NODE_NAME, EXTRA_POD_UID};

    const NOW: i64 = 1_800_000_000;
    const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

    fn signer() -> Signer {
        Signer::from_pem(&KeyPair::generate().unwrap().serialize_pem(), ISSUER).unwrap()
    }

    fn verifier(signer: &Signer) -> Verifier {
        Verifier::new(vec![signer.public_key().clone()], vec![ISSUER.to_owned()])
    }

    fn api() -> Vec<String> {
        vec![ISSUER.to_owned(), "api".to_owned()]
    }

    fn reference(name: &str) -> Reference {
        Reference {
            name: name.to_owned(),
            uid: format!("{name}-uid"),
        }
    }

    fn request() -> Request {
        Request {
            namespace: "ns".into(),
            service_account: reference("bot"),
            pod: Some(reference("web")),
            secret: None,
            node: Some(reference("n1")),
            audiences: vec!["api".into(), "vault".into()],
            expiration_seconds: 600,
            for_api: true,
        }
    }

    fn part(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    /// Signs whatever it is given.
    fn forge(signer: &Signer, header: &Value, payload: &Value) -> String {
        let message = format!("{}.{}", part(header), part(payload));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &signer.key, Algorithm::ES256).unwrap();
        format!("{message}.{signature}")
    }

    fn payload() -> Value {
        json!({"aud": ["api"], "exp": NOW + 600, "iat": NOW, "nbf": NOW, "iss": ISSUER, "jti": "1", "sub": "system:serviceaccount:ns:bot",
            "kubernetes.io": {"namespace": "ns", "serviceaccount": {"name": "bot", "uid": "bot-uid"}}})
    }

    #[test]
    fn issued_tokens_verify() {
        let signer = signer();
        let token = signer.issue(&request(), NOW, "an-id").unwrap();
        let claims = verifier(&signer).verify(&token, &api(), NOW + 1).unwrap();
        assert_eq!(claims.aud, ["api"]);
        assert_eq!((claims.iat, claims.nbf, claims.exp), (NOW, NOW, NOW + 600));
        assert_eq!(claims.sub, "system:serviceaccount:ns:bot");
        let bound: Vec<_> = claims
            .bound()
            .into_iter()
            .map(|(resource, namespace, reference)| {
                format!(
                    "{resource} {namespace}/{} {}",
                    reference.name, reference.uid
                )
            })
            .collect();
        assert_eq!(
            bound,
            ["serviceaccounts ns/bot bot-uid", "pods ns/web web-uid"]
        );
        let user = claims.user();
        assert_eq!(
            (user.name.as_str(), user.uid.as_str()),
            ("system:serviceaccount:ns:bot", "bot-uid")
        );
        assert_eq!(
            user.groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
        assert_eq!(user.extra[EXTRA_CREDENTIAL_ID], ["JTI=an-id"]);
        assert_eq!(user.extra[EXTRA_POD_UID], ["web-uid"]);
        assert_eq!(user.extra[EXTRA_NODE_NAME], ["n1"]);
        assert!(verifier(&signer).may_be_ours(&token));
    }

    #[test]
    fn injected_tokens_live_longer_than_they_say() {
        let signer = signer();
        let injected = Request {
            expiration_seconds: 3607,
            ..request()
        };
        let claims = |request: &Request| {
            verifier(&signer)
                .verify(&signer.issue(request, NOW, "1").unwrap(), &api(), NOW)
                .unwrap()
        };
        assert_eq!(claims(&injected).exp, NOW + 365 * 24 * 3600);
        assert_eq!(claims(&injected).kubernetes.warnafter, Some(NOW + 3607));
        assert_eq!(
            claims(&Request {
                for_api: false,
                ..injected.clone()
            })
            .exp,
            NOW + 3607
        );
        assert_eq!(
            claims(&Request {
                pod: None,
                ..injected
            })
            .kubernetes
            .warnafter,
            None
        );
    }

    #[test]
    fn time_and_audience_bound_a_token() {
        let signer = signer();
        let verifier = verifier(&signer);
        let token = signer.issue(&request(), NOW, "1").unwrap();
        let verify =
            |audiences: &[String], now| verifier.verify(&token, audiences, now).map(|_| ());
        assert_eq!(verify(&api(), NOW + 600 + 60), Ok(()));
        assert_eq!(verify(&api(), NOW + 600 + 61), Err(Error::Expired));
        assert_eq!(verify(&api(), NOW - 60), Ok(()));
        assert_eq!(verify(&api(), NOW - 61), Err(Error::NotYetValid));
        assert_eq!(verify(&["vault".into()], NOW), Ok(()));
        assert_eq!(
            verify(&[], NOW),
            Err(Error::Audience {
                audiences: request().audiences,
                targets: vec![]
            })
        );
        assert_eq!(
            verify(&["other".into()], NOW).unwrap_err().to_string(),
            r#"token audiences ["api" "vault"] is invalid for the target audiences ["other"]"#
        );
        for now in [i64::MIN, i64::MAX] {
            assert!(verify(&api(), now).is_err());
        }
    }

    #[test]
    fn keys_rotate() {
        let (old, new, foreign) = (signer(), signer(), signer());
        let both = Verifier::new(
            vec![new.public_key().clone(), old.public_key().clone()],
            vec![ISSUER.into()],
        );
        for signer in [&old, &new] {
            assert!(
                both.verify(&signer.issue(&request(), NOW, "1").unwrap(), &api(), NOW)
                    .is_ok()
            );
        }
        let token = foreign.issue(&request(), NOW, "1").unwrap();
        assert_eq!(both.verify(&token, &api(), NOW), Err(Error::UnknownKey));
        // A foreign key under a known id, and a known key without an id.
        let header = json!({"alg": "ES256", "kid": old.public_key().id()});
        assert_eq!(
            both.verify(&forge(&foreign, &header, &payload()), &api(), NOW),
            Err(Error::Signature)
        );
        assert!(
            both.verify(
                &forge(&old, &json!({"alg": "ES256"}), &payload()),
                &api(),
                NOW
            )
            .is_ok()
        );
        assert_eq!(
            both.verify(
                &forge(&foreign, &json!({"alg": "ES256"}), &payload()),
                &api(),
                NOW
            ),
            Err(Error::Signature)
        );
    }

    #[test]
    fn a_file_may_have_keys_that_are_only_accepted() {
        let keys: Vec<KeyPair> = (0..3).map(|_| KeyPair::generate().unwrap()).collect();
        let [new, old, older] = keys.as_slice() else {
            unreachable!("there are three")
        };
        let file = format!(
            "{}\n{}{}",
            new.serialize_pem(),
            old.serialize_pem(),
            older.public_key_pem()
        );
        let (signer, accepted) = signing_keys(&file, ISSUER).unwrap();
        let id = |key: &KeyPair| {
            let signer = Signer::from_pem(&key.serialize_pem(), ISSUER).unwrap();
            signer.public_key().id().to_owned()
        };
        assert_eq!(signer.public_key().id(), id(new));
        let ids: Vec<&str> = accepted.iter().map(PublicKey::id).collect();
        assert_eq!(ids, [id(old), id(older)]);
        for broken in [
            "",
            "no key",
            &format!("{file}-----BEGIN PUBLIC KEY-----\nMAo=\n"),
        ] {
            assert!(signing_keys(broken, ISSUER).is_err(), "{broken}");
        }
        // What signs moves to the front, what is known stays, and the oldest goes.
        let verifier = verifier(&signer);
        let ids = |verifier: &Verifier| -> Vec<String> {
            verifier.keys.iter().map(|key| key.id.clone()).collect()
        };
        let led = verifier.led_by(accepted);
        assert_eq!(ids(&led), [id(old), id(older), id(new)]);
        let many = (0..40).fold(led, |verifier, _| {
            verifier.led_by(vec![self::signer().public_key().clone()])
        });
        assert_eq!(many.keys.len(), KEYS_MAX);
        assert!(!ids(&many).contains(&id(new)));
    }

    #[test]
    fn forged_tokens_are_refused() {
        let signer = signer();
        let verifier = verifier(&signer);
        let kid = signer.public_key().id();
        let good = forge(&signer, &json!({"alg": "ES256", "kid": kid}), &payload());
        assert!(verifier.verify(&good, &api(), NOW).is_ok());
        let unsigned = |header: Value| format!("{}.{}.", part(&header), part(&payload()));
        let mut other_payload = payload();
        other_payload["kubernetes.io"]["serviceaccount"]["name"] = "admin".into();
        let pieces: Vec<&str> = good.split('.').collect();
        let hmac = {
            // The public key as an HMAC secret, the classic confusion.
            let message = format!(
                "{}.{}",
                part(&json!({"alg": "HS256", "kid": kid})),
                part(&payload())
            );
            let secret = EncodingKey::from_secret(signer.public_key().x.as_bytes());
            let signature =
                jsonwebtoken::crypto::sign(message.as_bytes(), &secret, Algorithm::HS256).unwrap();
            format!("{message}.{signature}")
        };
        let table = [
            (unsigned(json!({"alg": "none"})), Error::Algorithm),
            (
                unsigned(json!({"alg": "None", "kid": kid})),
                Error::Algorithm,
            ),
            (
                unsigned(json!({"alg": "ES256", "kid": kid})),
                Error::Signature,
            ),
            (
                unsigned(json!({"alg": "RS256", "kid": kid})),
                Error::Algorithm,
            ),
            (unsigned(json!({"kid": kid})), Error::Malformed),
            (hmac, Error::Algorithm),
            (
                forge(
                    &signer,
                    &json!({"alg": "ES256", "kid": "../../etc/passwd"}),
                    &payload(),
                ),
                Error::UnknownKey,
            ),
            (
                forge(
                    &signer,
                    &json!({"alg": "ES256", "kid": kid, "crit": ["b64"], "b64": false}),
                    &payload(),
                ),
                Error::Algorithm,
            ),
            (
                forge(&signer, &json!({"alg": ["ES256"]}), &payload()),
                Error::Malformed,
            ),
            (
                format!("{}.{}.{}", pieces[0], part(&other_payload), pieces[2]),
                Error::Signature,
            ),
            (
                format!(
                    "{}.{}.{}",
                    pieces[0],
                    pieces[1],
                    URL_SAFE_NO_PAD.encode([0_u8; 64])
                ),
                Error::Signature,
            ),
            (format!("{good}x"), Error::Signature),
            (format!("{good}.x"), Error::Malformed),
            (good.replace('.', ""), Error::Malformed),
            (String::new(), Error::Malformed),
            ("..".into(), Error::Malformed),
            ("é.é.é".into(), Error::Malformed),
            ("a".repeat(1 << 20), Error::Malformed),
            // Well signed, but with claims that do not fit together.
            (
                forge(&signer, &json!({"alg": "ES256"}), &other_payload),
                Error::Subject,
            ),
            (
                forge(&signer, &json!({"alg": "ES256"}), &json!({"aud": "api"})),
                Error::Malformed,
            ),
            (
                forge(&signer, &json!({"alg": "ES256"}), &json!([])),
                Error::Malformed,
            ),
        ];
        for (token, error) in table {
            let shown: String = token.chars().take(60).collect();
            assert_eq!(verifier.verify(&token, &api(), NOW), Err(error), "{shown}");
        }
        let mut foreign_issuer = payload();
        foreign_issuer["iss"] = "https://evil".into();
        let token = forge(&signer, &json!({"alg": "ES256"}), &foreign_issuer);
        assert_eq!(verifier.verify(&token, &api(), NOW), Err(Error::Issuer));
        assert!(!verifier.may_be_ours(&token));
    }

    #[test]
    fn documents_and_key_ids_are_those_of_kubernetes() {
        let pair = KeyPair::generate().unwrap();
        let signer = Signer::from_pem(&pair.serialize_pem(), ISSUER).unwrap();
        let expected = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()));
        assert_eq!(signer.public_key().id(), expected);
        assert_eq!(
            PublicKey::from_pem(&pair.public_key_pem()).unwrap().id(),
            expected
        );
        let jwks = verifier(&signer).jwks();
        assert_eq!(jwks["keys"][0]["kid"], expected);
        assert_eq!(jwks["keys"][0]["crv"], "P-256");
        assert_eq!(
            verifier(&signer).openid_configuration("https://x/openid/v1/jwks")["issuer"],
            ISSUER
        );
    }

    #[test]
    fn other_keys_are_refused() {
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert!(matches!(
            Signer::from_pem(&p384.serialize_pem(), ISSUER),
            Err(Error::Key)
        ));
        assert!(matches!(
            PublicKey::from_pem(&p384.public_key_pem()),
            Err(Error::Key)
        ));
        for pem in [
            "",
            "x",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(matches!(Signer::from_pem(pem, ISSUER), Err(Error::Key)));
        }
    }
}
