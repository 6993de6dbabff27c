//! JSON web tokens that somebody else has signed: whose one claims to be, and whether a key of that issuer says so too.
//!
//! Nothing of a token is believed before [`Keys::verify`]. The algorithms are a list of ours, all of them with public keys:
//! a token without a signature, or with one made of what everybody knows, is of no algorithm.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

/// No honest token is longer. Longer ones are not even decoded.
pub const TOKEN_BYTES_MAX: usize = 64 << 10;
/// Keys of one issuer that are looked at.
const KEYS_MAX: usize = 256;

/// What tokens may be signed with. Kubernetes has ES512 as well, which the library at hand does not know.
const ALGORITHMS: [(&str, Algorithm); 8] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
];

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("malformed token")]
    Malformed,
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("unexpected signature algorithm {0:?}")]
    Algorithm(String),
    #[error("failed to verify signature: no key of the issuer has signed this token")]
    Signature,
    #[error("the issuer's keys are not a JSON web key set")]
    Keys,
}

/// A token taken apart. Its claims are what it says itself.
#[derive(Debug)]
pub struct Token<'a> {
    message: &'a str,
    signature: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
    pub claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    pub fn parse(text: &'a str) -> Result<Token<'a>, Error> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(Error::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Error::Malformed)?;
        if claims.contains('.') {
            return Err(Error::Malformed);
        }
        let (header, claims) = (object(header)?, object(claims)?);
        // Extensions that must be understood; we understand none.
        if header.contains_key("crit") {
            return Err(Error::Malformed);
        }
        let name = header.get("alg").and_then(Value::as_str);
        let name = name.ok_or(Error::Malformed)?;
        let algorithm = ALGORITHMS.iter().find(|(known, _)| *known == name);
        let (_, algorithm) = algorithm.ok_or_else(|| {
            let shown: String = name.chars().take(32).collect();
            Error::Algorithm(shown)
        })?;
        let key_id = header.get("kid").and_then(Value::as_str);
        Ok(Token {
            message,
            signature,
            algorithm: *algorithm,
            key_id: key_id.map(str::to_owned),
            claims,
        })
    }

    /// Whose it claims to be.
    pub fn issuer(&self) -> &str {
        let issuer = self.claims.get("iss").and_then(Value::as_str);
        issuer.unwrap_or_default()
    }

    /// For whom it is: one name or several.
    pub fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// A time among the claims, in seconds since 1970.
    pub fn time(&self, claim: &str) -> Option<i64> {
        let number = self.claims.get(claim)?;
        // Some issuers have fractions of a second; the cast saturates.
        number
            .as_i64()
            .or_else(|| number.as_f64().map(|seconds| seconds as i64))
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Error::Malformed)
}

/// The public keys of an issuer.
pub struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    algorithm: Option<String>,
    key: DecodingKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// Reads a JSON web key set. Keys that are not for signatures, or of a sort that is not known, are left out; an error
    /// where none is left.
    pub fn parse(text: &[u8]) -> Result<Keys, Error> {
        let set: Value = serde_json::from_slice(text).map_err(|_| Error::Keys)?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.into_iter().flatten().filter_map(Key::of);
        let keys: Vec<Key> = keys.take(KEYS_MAX).collect();
        match keys.is_empty() {
            true => Err(Error::Keys),
            false => Ok(Keys(keys)),
        }
    }

    /// Whether one of the keys has signed the token. The `kid` of a token is compared and nothing else.
    pub fn verify(&self, token: &Token<'_>) -> Result<(), Error> {
        let named = |key: &&Key| match (&token.key_id, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        let algorithm = ALGORITHMS.iter().find(|(_, one)| *one == token.algorithm);
        let fits = |key: &&Key| match (&key.algorithm, algorithm) {
            (Some(of_key), Some((of_token, _))) => of_key == of_token,
            _ => true,
        };
        let mut candidates = self.0.iter().filter(named).filter(fits);
        let signed = candidates.any(|key| {
            let message = token.message.as_bytes();
            jsonwebtoken::crypto::verify(token.signature, message, &key.key, token.algorithm)
                .unwrap_or(false)
        });
        if signed {
            Ok(())
        } else {
            Err(Error::Signature)
        }
    }
}

impl Key {
    fn of(value: &Value) -> Option<Key> {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        if !matches!(text("kty"), Some("RSA" | "EC")) || text("use").is_some_and(|it| it != "sig") {
            return None;
        }
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        Some(Key {
            id: text("kid").map(str::to_owned),
            algorithm: text("alg").map(str::to_owned),
            key: DecodingKey::from_jwk(&jwk).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::EncodingKey;
    use serde_json::json;

    const EC: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg0eKziTOBtjuFNi+9
urJ8erUSRvUIPPNZHiDF54gZCMWhRANCAAQWFgu1gxQPYKq5teFnQcKE/Ddn1biO
bK40/g21JIL+ej0wnxqNoDaJ5WnasvaXpypU4Zy63XxrwtRyTocqGpgB
-----END PRIVATE KEY-----";
    /// Of tests alone.
    const RSA: &str = "-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCun2GkqptcuIg5
O4f/BUN6efAdMWaGbB9rJ+pYAZuzEHrbFNK/IRdbs5WeUu2o3pPfRn68jcS9QPqI
zl4x527N1POeY6UOKRu9eTIzappADPjvgkQSRusHfisb2NSXKOFtJHTM/sBqMw+G
MBw6QbKjQi6yPrkI0/frKpufY0SAN/EtmLco/7kwf4OqooN6/4BdaKDOt1L6mzl+
WMLHpHiP6EqYZ57UJRkIFXKd8oWVtYKN/l8SM+3t5lYDvFGoVeWMiXpB6f2ZgpDU
LN+uGbKlGM1L052nkdMBFvmSBx2qrPIABHBSS1Qck5CsXiPn3JDsYjz8ZIcTUVJM
Ll5M2k6ZAgMBAAECggEABjC1uivnHooXICpFV6vE2NxmP+6uowDFu1t6ofyKm7Yv
mMEb+HUQmipbWTW44ZXkWZOq7f27lfbt+rgQHEZHRgowybJgGUipSFX5yttSVQdw
srLkPV6guc8F8bKF1Mb4+NDESDkWsp0VRY1Cjukhz0pLE/wHvLGg9gf4ZNXUyZPD
GHu3QwW1yJyS8LDqgBwJrOoZN6EwbUb7m/WicrC9h+pAZMuxEaitsJWD+NSkpkNo
FICWRc5hersjoMP7nepivi4rkCTGGDyPCU7FQ51hS7HhjK31tK8pVRv1K1wx9Qsu
gBLsUO/Py2HU4gSCb+BZ4xlwvGshD5jrr7JA2KdloQKBgQDfPxoZfBIqREdu/tjj
2ZW4CRfe9wiJS5QmTAVfif/4dVIt+2lvW9G39BdjmB5ffvP1zmdsd2yKPyc7fOki
oDHvTgpG2bNPULY0qEB+q8udHV56st9MdSCoFsTR5a0QYTkLfHGY17Al8GymSTcn
OdTXanADL0EQHs44wyPPCC2ICQKBgQDIPgSNj7sHoORbmsBfvqohQiGi4aNERjgK
I8gBxOFwW2b/teoCCG10t9m+p+Du3cD9EfBIJtdyGvDCjNFvAjCdyA08rwBbsgpz
KTeoni5b7wMMiYbT+i1J2VjfmejoCzUWR+n1mpo34BtQ/cLpWpyeNp9aZ9xd1ZQC
oV9YtOeWEQKBgQCaDGoPId1LCzibsAGsII2+o4+0TJS4YM3HK3gduBVItnRRxIW5
0QtDO40ULXjv/qOLf7VAVJwyPWfuFcCuIwqyDhDrWPfxiElixqNShWuIbCaw1lNd
6Ajz1FpWWH12qw/5DBM7G8KyO1hN2oHTcIWdbBYFLIth+0/kPUutZgA9OQKBgCz1
D5yg2oL58otGkU5txlC1QkwJkNhxU3+jTPJou5y4SMW8mA9gyQJdjLurgWrfysaG
0oXAgrqRpeBoMVVVDok+Mwqe19u+e24joOVwrkPhw7N65RSOpMBh1fxN1+bRLVgV
SUflMB6/aCKk9q/hsiwrY1eu3eELZLG6fWezJhOhAoGAD7oLWPQrlw7jjMllpxO+
Qj0UrRYE6/O6lkFqiJn2S8zhB1+sh06mWO+mjkyYx0KwS4bwUEE4gMgLIhLeUZib
iLM2XoZzcdZzPilOkKzoe8KynwJpCEfT0OHXvAZ9iOM1rinUGYVblwg0hRMhyy7x
EyUf7MrkePNWG1aa+Fn+gS4=
-----END PRIVATE KEY-----";

    fn key(algorithm: Algorithm) -> EncodingKey {
        match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(EC.as_bytes()).unwrap(),
            _ => EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(),
        }
    }

    fn encode(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn sign(algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key(algorithm), algorithm);
        format!("{message}.{}", signature.unwrap())
    }

    fn public(algorithm: Algorithm, id: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&key(algorithm), algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = id.into();
        jwk.as_object_mut().unwrap().remove("alg");
        jwk
    }

    fn keys(keys: Value) -> Result<Keys, Error> {
        Keys::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn judge(keys: &Keys, token: &str) -> Result<(), Error> {
        keys.verify(&Token::parse(token)?)
    }

    #[test]
    fn tokens_of_every_sort_of_key_are_verified() {
        let all = keys(json!([
            public(Algorithm::ES256, "e"),
            public(Algorithm::RS256, "r")
        ]))
        .unwrap();
        let claims = json!({"iss": "https://a", "aud": ["x", "y"], "exp": 12.9});
        for (name, algorithm, id) in [
            ("ES256", Algorithm::ES256, "e"),
            ("RS256", Algorithm::RS256, "r"),
            ("RS512", Algorithm::RS512, "r"),
            ("PS384", Algorithm::PS384, "r"),
        ] {
            let token = sign(algorithm, &json!({"alg": name, "kid": id}), &claims);
            assert_eq!(judge(&all, &token), Ok(()), "{name}");
            let nameless = sign(algorithm, &json!({"alg": name}), &claims);
            assert_eq!(judge(&all, &nameless), Ok(()), "{name}");
            let other = sign(algorithm, &json!({"alg": name, "kid": "other"}), &claims);
            assert_eq!(judge(&all, &other), Err(Error::Signature), "{name}");
            let parsed = Token::parse(&token).unwrap();
            assert_eq!(
                (parsed.issuer(), parsed.time("exp")),
                ("https://a", Some(12))
            );
            assert_eq!(parsed.audiences(), ["x", "y"]);
            let (message, signature) = token.rsplit_once('.').unwrap();
            let (head, _) = message.split_once('.').unwrap();
            let forged = encode(&json!({"iss": "https://a", "sub": "root"}));
            let forged = format!("{head}.{forged}.{signature}");
            assert_eq!(judge(&all, &forged), Err(Error::Signature), "{name}");
        }
    }

    #[test]
    fn a_token_does_not_choose_how_it_is_verified() {
        let all = keys(json!([public(Algorithm::RS256, "r")])).unwrap();
        for algorithm in ["none", "None", "HS256", "HS512", "EdDSA", ""] {
            let header = encode(&json!({"alg": algorithm}));
            let token = format!("{header}.{}.", encode(&json!({"sub": "root"})));
            assert_eq!(judge(&all, &token), Err(Error::Algorithm(algorithm.into())));
        }
        // A key that says what it is for is for nothing else.
        let mut only = public(Algorithm::RS256, "r");
        only["alg"] = "RS512".into();
        let only = keys(json!([only])).unwrap();
        let token = |name: &str, algorithm| sign(algorithm, &json!({"alg": name}), &json!({}));
        assert!(judge(&only, &token("RS512", Algorithm::RS512)).is_ok());
        assert!(judge(&only, &token("RS256", Algorithm::RS256)).is_err());
        let critical = json!({"alg": "RS256", "crit": ["b64"], "b64": false});
        let critical = sign(Algorithm::RS256, &critical, &json!({}));
        assert_eq!(judge(&all, &critical), Err(Error::Malformed));
    }

    #[test]
    fn what_is_no_token_is_refused_without_much_ado() {
        let long = format!("{}.{}.x", "a".repeat(1 << 19), "b".repeat(1 << 19));
        assert_eq!(Token::parse(&long).unwrap_err(), Error::TooLong);
        let deep = URL_SAFE_NO_PAD.encode("[".repeat(10_000));
        let header = encode(&json!({"alg": "RS256"}));
        for bad in [
            "",
            ".",
            "..",
            "a.b",
            "a.b.c.d",
            "e30.e30.e30",
            &format!("{deep}.{deep}.x"),
            &format!("{header}.{deep}.x"),
            &format!("{header}.bnVsbA.x"),
            "\u{e9}.\u{e9}.\u{e9}",
        ] {
            assert_eq!(Token::parse(bad).unwrap_err(), Error::Malformed, "{bad}");
        }
    }

    #[test]
    fn keys_that_are_no_use_are_left_out() {
        let good = public(Algorithm::ES256, "e");
        let mut for_secrets = good.clone();
        for_secrets["use"] = "enc".into();
        let symmetric = json!({"kty": "oct", "k": "c2VjcmV0", "kid": "s"});
        let odd = json!({"kty": "EC", "crv": "P-256", "x": "", "y": 7});
        let several = json!([for_secrets, symmetric, odd, {}, 1, good]);
        assert_eq!(keys(several).unwrap().0.len(), 1);
        for none in [json!([]), json!([symmetric]), json!(null), json!("x")] {
            assert_eq!(keys(none).unwrap_err(), Error::Keys);
        }
        assert_eq!(Keys::parse(b"<html>").unwrap_err(), Error::Keys);
    }
}
