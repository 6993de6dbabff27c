//! Acting as somebody else: the `Impersonate-*` headers.
//!
//! Every part of the wanted identity is a right of its own (`impersonate` on users, groups, serviceaccounts,
//! uids or userextras): the caller authorizes each of [`Impersonation::checks`] as the real user and only then
//! goes on as [`Impersonation::into_user`].

use std::collections::BTreeMap;

use crate::request::Attributes;
use crate::user::{
    ANONYMOUS, GROUP_AUTHENTICATED, GROUP_UNAUTHENTICATED, User, service_account_groups,
    split_service_account,
};

/// More parts than any honest client sends; each costs an authorization.
const PARTS_MAX: usize = 256;

/// The identity that a request wants to act as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Kubernetes answers 500 with this text.
    #[error("requested {0} without impersonating a user name")]
    NoUser(String),
    #[error("too many impersonation headers")]
    TooMany,
}

/// Reads the headers of a request; names are compared without regard to case. `None` without any such header.
pub fn from_headers<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Option<Impersonation>, Error> {
    let mut wanted = Impersonation::default();
    let mut parts = 0;
    for (header, value) in headers {
        let header = header.to_ascii_lowercase();
        let Some(part) = header.strip_prefix("impersonate-") else {
            continue;
        };
        match part {
            // The first value counts where a header is repeated, as in Go.
            "user" if wanted.name.is_empty() => wanted.name = value.to_owned(),
            "uid" if wanted.uid.is_empty() => wanted.uid = value.to_owned(),
            "group" => wanted.groups.push(value.to_owned()),
            _ => match part.strip_prefix("extra-") {
                Some(key) => wanted
                    .extra
                    .entry(unescape(key))
                    .or_default()
                    .push(value.to_owned()),
                None => continue,
            },
        }
        parts += 1;
        if parts > PARTS_MAX {
            return Err(Error::TooMany);
        }
    }
    if wanted == Impersonation::default() {
        return Ok(None);
    }
    if wanted.name.is_empty() {
        return Err(Error::NoUser(wanted.parts_text()));
    }
    Ok(Some(wanted))
}

impl Impersonation {
    /// The questions that the real user's authorizer must answer with yes, all of them.
    pub fn checks(&self) -> Vec<Attributes<'_>> {
        let impersonate = Attributes {
            verb: "impersonate",
            version: "v1",
            ..Attributes::default()
        };
        let authentication = Attributes {
            group: "authentication.k8s.io",
            ..impersonate
        };
        let mut checks = vec![match split_service_account(&self.name) {
            Some((namespace, name)) => Attributes {
                resource: "serviceaccounts",
                namespace,
                name,
                ..impersonate
            },
            None => Attributes {
                resource: "users",
                name: &self.name,
                ..impersonate
            },
        }];
        checks.extend(self.groups.iter().map(|name| Attributes {
            resource: "groups",
            name,
            ..impersonate
        }));
        for (subresource, values) in &self.extra {
            checks.extend(values.iter().map(|name| Attributes {
                resource: "userextras",
                subresource,
                name,
                ..authentication
            }));
        }
        if !self.uid.is_empty() {
            checks.push(Attributes {
                resource: "uids",
                name: &self.uid,
                ..authentication
            });
        }
        checks
    }

    /// The user to go on as, with the groups that follow from the name.
    pub fn into_user(self) -> User {
        let mut groups = self.groups;
        if groups.is_empty()
            && let Some((namespace, _)) = split_service_account(&self.name)
        {
            groups = service_account_groups(namespace);
        }
        let has = |group: &str| groups.iter().any(|own| own == group);
        if self.name == ANONYMOUS {
            if !has(GROUP_UNAUTHENTICATED) {
                groups.push(GROUP_UNAUTHENTICATED.to_owned());
            }
        } else if !has(GROUP_AUTHENTICATED) && !has(GROUP_UNAUTHENTICATED) {
            groups.push(GROUP_AUTHENTICATED.to_owned());
        }
        User {
            name: self.name,
            uid: self.uid,
            groups,
            extra: self.extra,
        }
    }

    fn parts_text(&self) -> String {
        let mut parts: Vec<String> = self
            .groups
            .iter()
            .map(|group| format!("Group {group}"))
            .collect();
        parts.extend(self.extra.keys().map(|key| format!("UserExtra {key}")));
        if !self.uid.is_empty() {
            parts.push(format!("UID {}", self.uid));
        }
        format!("[{}]", parts.join(" "))
    }
}

/// Keys of extras may be percent-encoded, since not every key is a valid header name.
fn unescape(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let escaped = (bytes[index] == b'%')
            .then(|| bytes.get(index + 1..index + 3))
            .flatten();
        match escaped
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        {
            Some(byte) => {
                out.push(byte);
                index += 3;
            }
            None => {
                out.push(bytes[index]);
                index += 1;
            }
        }
    }
    // Kubernetes keeps the raw text when it does not decode.
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(headers: &[(&'static str, &'static str)]) -> Result<Option<Impersonation>, Error> {
        from_headers(headers.iter().copied())
    }

    #[test]
    fn every_part_is_checked() {
        let wanted = parse(&[
            ("Accept", "x"),
            ("Impersonate-User", "jane"),
            ("impersonate-group", "dev"),
            ("Impersonate-Group", "ops"),
            ("Impersonate-Uid", "7"),
            ("Impersonate-Extra-acme.com%2Fproject", "p1"),
            ("Impersonate-Extra-Scopes", "a"),
        ])
        .unwrap()
        .unwrap();
        let checks: Vec<String> = wanted
            .checks()
            .iter()
            .map(|check| {
                format!(
                    "{}/{}/{}/{}",
                    check.group, check.resource, check.subresource, check.name
                )
            })
            .collect();
        assert_eq!(
            checks,
            [
                "/users//jane",
                "/groups//dev",
                "/groups//ops",
                "authentication.k8s.io/userextras/acme.com/project/p1",
                "authentication.k8s.io/userextras/scopes/a",
                "authentication.k8s.io/uids//7"
            ]
        );
        let user = wanted.into_user();
        assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(user.extra["acme.com/project"], ["p1"]);
    }

    #[test]
    fn service_accounts_get_their_groups() {
        let wanted = parse(&[("Impersonate-User", "system:serviceaccount:ns:bot")])
            .unwrap()
            .unwrap();
        assert_eq!(
            (
                wanted.checks()[0].resource,
                wanted.checks()[0].namespace,
                wanted.checks()[0].name
            ),
            ("serviceaccounts", "ns", "bot")
        );
        assert_eq!(
            wanted.into_user().groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
        let anonymous = parse(&[("Impersonate-User", ANONYMOUS)])
            .unwrap()
            .unwrap()
            .into_user();
        assert_eq!(anonymous.groups, [GROUP_UNAUTHENTICATED]);
    }

    #[test]
    fn without_a_user_it_fails() {
        assert_eq!(parse(&[("X", "y")]), Ok(None));
        assert_eq!(parse(&[("Impersonate-Other", "y")]), Ok(None));
        assert_eq!(
            parse(&[("Impersonate-Group", "system:masters")])
                .unwrap_err()
                .to_string(),
            "requested [Group system:masters] without impersonating a user name"
        );
        assert!(parse(&[("Impersonate-Uid", "1")]).is_err());
        assert!(parse(&[("Impersonate-Extra-a", "1")]).is_err());
        let flood = vec![("Impersonate-Group", "g"); PARTS_MAX + 1];
        assert_eq!(parse(&flood), Err(Error::TooMany));
    }

    #[test]
    fn bad_escapes_stay_as_they_are() {
        assert_eq!(unescape("a%2fb%zz%2"), "a/b%zz%2");
        assert_eq!(unescape("%ff"), "%ff");
    }
}
