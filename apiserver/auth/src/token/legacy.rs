//! Tokens that live in Secrets of type `kubernetes.io/service-account-token`. Nothing in them expires: they are good while
//! their Secret holds them and their account lives, which the caller checks. Claims and issuer are those of Kubernetes'
//! `pkg/serviceaccount/legacy.go`.

use serde::{Deserialize, Serialize};

use super::{Error, Reference, Signer, Verifier, has_issuer};
use crate::user::{User, service_account_username};

/// The issuer of all of them, in every cluster.
pub(super) const ISSUER: &str = "kubernetes/serviceaccount";

/// The payload of such a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretClaims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    /// The name of the Secret that holds the token.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
    sub: String,
}

impl SecretClaims {
    pub fn new(namespace: &str, secret: &str, account: &Reference) -> SecretClaims {
        SecretClaims {
            iss: ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.name.clone(),
            account_uid: account.uid.clone(),
            sub: service_account_username(namespace, &account.name),
        }
    }

    /// The user that the token stands for.
    pub fn user(&self) -> User {
        User::service_account(&self.namespace, &self.account, &self.account_uid)
    }

    /// Whether the claims fit together, and name all that is to be looked up.
    fn is_whole(&self) -> bool {
        let named = [
            &self.namespace,
            &self.secret,
            &self.account,
            &self.account_uid,
        ];
        named.iter().all(|text| !text.is_empty())
            && self.sub == service_account_username(&self.namespace, &self.account)
    }
}

impl Signer {
    /// Signs a token for a Secret.
    pub fn issue_for_secret(&self, claims: &SecretClaims) -> Result<String, Error> {
        self.sign(claims)
    }
}

impl Verifier {
    /// Checks what the token itself can prove: form, algorithm, key, signature, issuer and that the claims fit together.
    pub fn verify_of_secret(&self, token: &str) -> Result<SecretClaims, Error> {
        let claims: SecretClaims = self.verify_signature(token)?;
        if claims.iss != ISSUER {
            return Err(Error::Issuer);
        }
        if !claims.is_whole() {
            return Err(Error::Subject);
        }
        Ok(claims)
    }
}

/// True when the token says, without any check, that it is one of a Secret.
pub fn may_be_of_secret(token: &str) -> bool {
    has_issuer(token, |issuer| issuer == ISSUER)
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;

    fn signer() -> Signer {
        let pem = KeyPair::generate().unwrap().serialize_pem();
        Signer::from_pem(&pem, "https://api").unwrap()
    }

    fn verifier(signer: &Signer) -> Verifier {
        Verifier::new(
            vec![signer.public_key().clone()],
            vec!["https://api".into()],
        )
    }

    fn claims() -> SecretClaims {
        let account = Reference {
            name: "bot".into(),
            uid: "bot-uid".into(),
        };
        SecretClaims::new("ns", "bot-token", &account)
    }

    #[test]
    fn a_token_says_what_kubernetes_says() {
        let said = serde_json::to_value(claims()).unwrap();
        let expected = serde_json::json!({
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": "ns",
            "kubernetes.io/serviceaccount/secret.name": "bot-token",
            "kubernetes.io/serviceaccount/service-account.name": "bot",
            "kubernetes.io/serviceaccount/service-account.uid": "bot-uid",
            "sub": "system:serviceaccount:ns:bot"
        });
        assert_eq!(said, expected);
    }

    #[test]
    fn only_whole_tokens_of_our_keys_count() {
        let (signer, foreign) = (signer(), signer());
        let verifier = verifier(&signer);
        let token = signer.issue_for_secret(&claims()).unwrap();
        assert!(may_be_of_secret(&token) && !verifier.may_be_ours(&token));
        assert_eq!(verifier.verify_of_secret(&token), Ok(claims()));
        assert_eq!(claims().user().name, "system:serviceaccount:ns:bot");
        // Nor is it one of those that expire.
        let as_other = verifier.verify(&token, &["https://api".into()], 0);
        assert_eq!(as_other, Err(Error::Malformed));
        let by_foreign = foreign.issue_for_secret(&claims()).unwrap();
        assert_eq!(
            verifier.verify_of_secret(&by_foreign),
            Err(Error::UnknownKey)
        );
        type Breaks = fn(&mut SecretClaims);
        let broken: [(Breaks, Error); 4] = [
            (|claims| claims.iss = "https://api".into(), Error::Issuer),
            (|claims| claims.account = "admin".into(), Error::Subject),
            (|claims| claims.secret = String::new(), Error::Subject),
            (|claims| claims.account_uid = String::new(), Error::Subject),
        ];
        for (change, error) in broken {
            let mut claims = claims();
            change(&mut claims);
            let token = signer.issue_for_secret(&claims).unwrap();
            assert_eq!(verifier.verify_of_secret(&token), Err(error), "{claims:?}");
        }
    }
}
