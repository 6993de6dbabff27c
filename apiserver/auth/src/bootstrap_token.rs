//! Bootstrap tokens: what a machine that joins shows before it has a certificate. `ID.SECRET` is good as long as the
//! Secret `kube-system/bootstrap-token-ID` says so.
//!
//! Source of names and rules: Kubernetes, "Authenticating with Bootstrap Tokens".

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::user::User;

/// The namespace of the Secrets.
pub const NAMESPACE: &str = "kube-system";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 16;
const GROUP_REST_BYTES_MAX: usize = 256;

/// A token taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootstrapToken<'a> {
    id: &'a str,
    secret: &'a str,
}

/// Why a token that has the form of one is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the secret of the token is of another type, or about another token")]
    Secret,
    #[error("the token's secret does not match")]
    Mismatch,
    #[error("the token is expired")]
    Expired,
    #[error("the token is not meant for authentication")]
    Usage,
    #[error("auth-extra-groups has a group that does not begin with system:bootstrappers:")]
    Group,
}

impl<'a> BootstrapToken<'a> {
    /// None where the text has another form.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (id, secret) = token.split_once('.')?;
        let is_lower = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        let fits = id.len() == ID_BYTES && secret.len() == SECRET_BYTES;
        (fits && is_lower(id) && is_lower(secret)).then_some(BootstrapToken { id, secret })
    }

    /// The name of the Secret that decides.
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }

    /// The user, by the type and the data (in base64) of that Secret.
    pub fn user(
        &self,
        secret_type: &str,
        data: &BTreeMap<&str, &str>,
        now: i64,
    ) -> Result<User, Error> {
        let field = |name: &str| -> String {
            let raw = data.get(name).and_then(|text| STANDARD.decode(text).ok());
            raw.and_then(|raw| String::from_utf8(raw).ok())
                .unwrap_or_default()
        };
        if secret_type != SECRET_TYPE || field("token-id") != self.id {
            return Err(Error::Secret);
        }
        if !same(&field("token-secret"), self.secret) {
            return Err(Error::Mismatch);
        }
        let expiration = field("expiration");
        // One that cannot be read counts as over.
        if !expiration.is_empty() && schema::time::parse(&expiration).is_none_or(|end| end <= now) {
            return Err(Error::Expired);
        }
        if field("usage-bootstrap-authentication") != "true" {
            return Err(Error::Usage);
        }
        let mut groups = vec![GROUP.to_owned()];
        for group in field("auth-extra-groups").split(',') {
            let group = group.trim();
            match group {
                "" => {}
                group if is_extra(group) => groups.push(group.to_owned()),
                _ => return Err(Error::Group),
            }
        }
        Ok(User::new(format!("system:bootstrap:{}", self.id), groups))
    }
}

/// `system:bootstrappers:` and lower-case letters, digits, `:` and `-`, of which `:` and `-` do not end it.
fn is_extra(group: &str) -> bool {
    let Some(rest) = group
        .strip_prefix(GROUP)
        .and_then(|rest| rest.strip_prefix(':'))
    else {
        return false;
    };
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    rest.len() <= GROUP_REST_BYTES_MAX
        && rest.bytes().last().is_some_and(is_word)
        && rest
            .bytes()
            .all(|byte| is_word(byte) || matches!(byte, b':' | b'-'))
}

/// In a time that does not depend on where the texts differ.
fn same(known: &str, shown: &str) -> bool {
    let difference = known
        .bytes()
        .zip(shown.bytes())
        .fold(0_u8, |sum, (a, b)| sum | (a ^ b));
    known.len() == shown.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn judged(changes: &[(&'static str, &str)]) -> Result<User, Error> {
        let mut plain = BTreeMap::from([
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ]);
        plain.extend(changes.iter().copied());
        let kind = plain.remove("type").unwrap_or(SECRET_TYPE);
        let encoded: Vec<(&str, String)> = plain
            .into_iter()
            .map(|(key, value)| (key, STANDARD.encode(value)))
            .collect();
        let data = encoded.iter().map(|(key, value)| (*key, value.as_str()));
        let token = BootstrapToken::parse("abcdef.0123456789abcdef").unwrap();
        token.user(kind, &data.collect(), NOW)
    }

    #[test]
    fn a_token_has_two_parts() {
        let token = BootstrapToken::parse("abcdef.0123456789abcdef").unwrap();
        assert_eq!(token.secret_name(), "bootstrap-token-abcdef");
        for other in [
            "",
            ".",
            "abcdef.0123456789abcde",
            "abcdef.0123456789abcdefg",
            "abcde.0123456789abcdef",
            "Abcdef.0123456789abcdef",
            "abcdef.0123456789abcde.",
            "abcdef0123456789abcdef",
            "a.b.c",
        ] {
            assert_eq!(BootstrapToken::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_secret_decides() {
        let user = judged(&[]).unwrap();
        assert_eq!(user, User::new("system:bootstrap:abcdef", [GROUP]));
        let groups = "system:bootstrappers:kubeadm:default-node-token, system:bootstrappers:a";
        let user = judged(&[("auth-extra-groups", groups)]).unwrap();
        assert_eq!(
            user.groups,
            [
                GROUP,
                "system:bootstrappers:kubeadm:default-node-token",
                "system:bootstrappers:a"
            ]
        );
        assert!(judged(&[("expiration", "2030-01-01T00:00:00Z")]).is_ok());
        for (change, error) in [
            (("type", "Opaque"), Error::Secret),
            (("token-id", "abcdeg"), Error::Secret),
            (("token-secret", "0123456789abcdeg"), Error::Mismatch),
            (("token-secret", ""), Error::Mismatch),
            (("token-secret", "0123456789abcdef0"), Error::Mismatch),
            (("expiration", "2020-01-01T00:00:00Z"), Error::Expired),
            (("expiration", "tomorrow"), Error::Expired),
            (("usage-bootstrap-authentication", "yes"), Error::Usage),
            (("usage-bootstrap-authentication", ""), Error::Usage),
            (("auth-extra-groups", "system:masters"), Error::Group),
            (("auth-extra-groups", "system:bootstrappers:"), Error::Group),
            (
                ("auth-extra-groups", "system:bootstrappers:A"),
                Error::Group,
            ),
            (
                ("auth-extra-groups", "system:bootstrappers:a-"),
                Error::Group,
            ),
            (
                ("auth-extra-groups", "system:bootstrappersx:a"),
                Error::Group,
            ),
        ] {
            assert_eq!(judged(&[change]), Err(error), "{change:?}");
        }
    }
}
