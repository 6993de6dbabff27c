//! What a token says.

use serde::{Deserialize, Serialize};

use crate::user::{
    EXTRA_CREDENTIAL_ID, EXTRA_NODE_NAME, EXTRA_NODE_UID, EXTRA_POD_NAME, EXTRA_POD_UID, User,
};

/// Name and uid of an object that a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    pub uid: String,
}

/// The payload of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    #[serde(with = "audiences")]
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Binding,
    pub nbf: i64,
    pub sub: String,
}

/// The claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

impl Claims {
    /// The objects that must still exist, as `(resource, namespace, reference)`. A missing node counts only
    /// for a token without a pod, since a pod outlives a re-registered node.
    pub fn bound(&self) -> Vec<(&'static str, &str, &Reference)> {
        let own = &self.kubernetes;
        let mut bound = vec![(
            "serviceaccounts",
            own.namespace.as_str(),
            &own.serviceaccount,
        )];
        bound.extend(
            own.secret
                .iter()
                .map(|secret| ("secrets", own.namespace.as_str(), secret)),
        );
        bound.extend(
            own.pod
                .iter()
                .map(|pod| ("pods", own.namespace.as_str(), pod)),
        );
        if own.pod.is_none() {
            bound.extend(own.node.iter().map(|node| ("nodes", "", node)));
        }
        bound
    }

    /// The user that the token stands for.
    pub fn user(&self) -> User {
        let own = &self.kubernetes;
        let mut user = User::service_account(
            &own.namespace,
            &own.serviceaccount.name,
            &own.serviceaccount.uid,
        );
        let mut extra = |key: &str, value: String| user.extra.insert(key.to_owned(), vec![value]);
        if !self.jti.is_empty() {
            extra(EXTRA_CREDENTIAL_ID, format!("JTI={}", self.jti));
        }
        for (reference, name_key, uid_key) in [
            (&own.pod, EXTRA_POD_NAME, EXTRA_POD_UID),
            (&own.node, EXTRA_NODE_NAME, EXTRA_NODE_UID),
        ] {
            if let Some(reference) = reference {
                extra(name_key, reference.name.clone());
                if !reference.uid.is_empty() {
                    extra(uid_key, reference.uid.clone());
                }
            }
        }
        user
    }
}

/// `aud` is a string or a list of strings; we write a list.
mod audiences {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }

    pub(super) fn serialize<S: Serializer>(
        audiences: &[String],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        audiences.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<String>, D::Error> {
        Ok(match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(audience) => vec![audience],
            OneOrMany::Many(audiences) => audiences,
        })
    }
}
