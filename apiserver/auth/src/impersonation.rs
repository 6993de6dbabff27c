//! Acting as somebody else: the `Impersonate-*` headers.
//!
//! Every part of the wanted identity is a right of its own (on users, nodes, groups, serviceaccounts, uids or userextras),
//! in one of several modes: the caller tries each [`Mode`] that applies, authorizes what the mode needs and each of
//! [`Impersonation::checks`] as the real user, and only then goes on as [`Impersonation::into_user`].

mod mode;

use std::collections::BTreeMap;
use std::fmt::Write;

use schema::field::go_quote as quote;

use crate::request::Attributes;
use crate::user::{
    ANONYMOUS, GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_UNAUTHENTICATED, User,
    service_account_groups, split_service_account,
};

pub use mode::Mode;

/// More parts than any honest client sends; each costs an authorization.
const PARTS_MAX: usize = 256;
/// Of so many groups, or extras, it is asked first whether all may be taken on (`manyAuthorizationChecksInLoop` in Kubernetes).
const MANY: usize = 4;

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
    /// Kubernetes answers 400 with this text, which shows a value of Go.
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
        return Err(Error::NoUser(wanted.go_text()));
    }
    Ok(Some(wanted))
}

/// One of the questions whether an identity may be taken on.
#[derive(Clone, Debug)]
pub struct Check<'a> {
    pub attributes: Attributes<'a>,
    /// Why nobody may; empty where the authorizer is asked.
    pub refusal: String,
    /// How many of the next questions need not be asked where the answer is yes. Where it is no, they are, and this one does
    /// not count. None of most.
    pub spares: usize,
}

impl<'a> Check<'a> {
    fn ask(attributes: Attributes<'a>) -> Check<'a> {
        Check {
            attributes,
            refusal: String::new(),
            spares: 0,
        }
    }

    fn refuse(attributes: Attributes<'a>, refusal: String) -> Check<'a> {
        Check {
            attributes,
            refusal,
            spares: 0,
        }
    }

    /// Whether `count` of a sort may all be taken on; none where they are few, and where there were no bounds once.
    fn all(mode: Mode, attributes: Attributes<'a>, count: usize) -> Option<Check<'a>> {
        (mode != Mode::Legacy && count >= MANY).then(|| Check {
            attributes,
            refusal: String::new(),
            spares: count,
        })
    }
}

impl Impersonation {
    /// The questions that the real user's authorizer must answer with yes, all of them.
    pub fn checks(&self, mode: Mode) -> Vec<Check<'_>> {
        let part = Attributes {
            verb: mode.verb(),
            group: "authentication.k8s.io",
            version: "v1",
            ..Attributes::default()
        };
        // The old right on names and groups is one of the core group.
        let named = match mode {
            Mode::Legacy => Attributes { group: "", ..part },
            _ => part,
        };
        let mut checks = vec![Check::ask(self.name_check(mode, named))];
        if !self.uid.is_empty() {
            checks.push(Check::ask(Attributes {
                resource: "uids",
                name: &self.uid,
                ..part
            }));
        }
        let of_groups = Attributes {
            resource: "groups",
            ..named
        };
        let of_extra = Attributes {
            resource: "userextras",
            ..part
        };
        if mode != Mode::Legacy {
            checks.extend(
                self.refused_group().map(|(name, refusal)| {
                    Check::refuse(Attributes { name, ..of_groups }, refusal)
                }),
            );
        }
        let every = Attributes {
            name: "*",
            ..of_groups
        };
        checks.extend(Check::all(mode, every, self.groups.len()));
        checks.extend(
            self.groups
                .iter()
                .map(|name| Check::ask(Attributes { name, ..of_groups })),
        );
        if mode != Mode::Legacy {
            let refused = self.refused_extra();
            checks.extend(refused.map(|refusal| Check::refuse(of_extra, refusal)));
        }
        let every = Attributes {
            subresource: "*",
            name: "*",
            ..of_extra
        };
        let values = self.extra.values().map(Vec::len).sum();
        checks.extend(Check::all(mode, every, values));
        for (subresource, values) in &self.extra {
            checks.extend(values.iter().map(|name| {
                Check::ask(Attributes {
                    subresource,
                    name,
                    ..of_extra
                })
            }));
        }
        checks
    }

    fn name_check<'a>(&'a self, mode: Mode, named: Attributes<'a>) -> Attributes<'a> {
        let node = match mode {
            // The right holds for whichever node the account's pod runs on.
            Mode::AssociatedNode => Some("*"),
            Mode::ArbitraryNode => mode::node_name(&self.name),
            _ => None,
        };
        if let Some(name) = node {
            return Attributes {
                resource: "nodes",
                name,
                ..named
            };
        }
        match split_service_account(&self.name) {
            Some((namespace, name)) => Attributes {
                resource: "serviceaccounts",
                namespace,
                name,
                ..named
            },
            None => Attributes {
                resource: "users",
                name: &self.name,
                ..named
            },
        }
    }

    /// A group that only the old right can give, and why.
    fn refused_group(&self) -> Option<(&'static str, String)> {
        let has = |group: &str| self.groups.iter().any(|own| own == group);
        if has("") {
            let why = "impersonating the empty string group is not allowed";
            return Some(("", why.to_owned()));
        }
        let why = "impersonating the system:masters group is not allowed";
        has(GROUP_MASTERS).then(|| (GROUP_MASTERS, why.to_owned()))
    }

    /// Why only the old right can give these extras.
    fn refused_extra(&self) -> Option<String> {
        let mut all = self.extra.iter();
        all.find_map(|(key, values)| {
            key_problem(key).or_else(|| {
                values.iter().any(String::is_empty).then(|| {
                    "impersonating the empty string value in extra is not allowed".to_owned()
                })
            })
        })
    }

    fn is_only_a_name(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }

    /// The user to go on as, with the groups that follow from the name.
    pub fn into_user(self, mode: Mode) -> User {
        let mut groups = mode.groups().unwrap_or(self.groups);
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

    /// As Go prints it.
    fn go_text(&self) -> String {
        let list = |values: &[String]| {
            let values: Vec<String> = values.iter().map(|value| quote(value)).collect();
            format!("[]string{{{}}}", values.join(", "))
        };
        let groups = match self.groups.as_slice() {
            [] => "[]string(nil)".to_owned(),
            groups => list(groups),
        };
        let mut extra = "map[string][]string".to_owned();
        if self.extra.is_empty() {
            extra.push_str("(nil)");
        } else {
            let pairs = self.extra.iter();
            let pairs: Vec<String> = pairs
                .map(|(key, values)| format!("{}:{}", quote(key), list(values)))
                .collect();
            let _ = write!(extra, "{{{}}}", pairs.join(", "));
        }
        format!(
            "&user.DefaultInfo{{Name:{}, UID:{}, Groups:{groups}, Extra:{extra}}}",
            quote(&self.name),
            quote(&self.uid)
        )
    }
}

/// What is wrong with the key of an extra that is given with bounds.
fn key_problem(key: &str) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let in_paths = |char: char| char.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(char);
    let invalid =
        |value: &str, why: &str| format!("extra.key: Invalid value: {}: {why}", quote(value));
    let mut problems = Vec::new();
    match key.split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            let wrong = schema::names::is_dns1123_subdomain(host);
            problems.extend(wrong.iter().map(|why| invalid(host, why)));
            if !path.chars().all(in_paths) {
                let why = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                problems.push(invalid(path, why));
            }
        }
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            problems.push(invalid(key, why));
        }
    }
    let text = match problems.as_slice() {
        [] if key.chars().any(char::is_uppercase) => {
            let key = quote(key);
            return Some(format!(
                "impersonating a non-lowercase key in extra is not allowed: {key}"
            ));
        }
        [] => return None,
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    Some(format!(
        "impersonating an invalid key in extra is not allowed: {text}"
    ))
}

/// Keys of extras may be percent-encoded, since not every key is a valid header name.
fn unescape(key: &str) -> String {
    let mut rest = key.as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let Some(byte) = after.first_chunk::<2>().and_then(from_hex) else {
            return key.to_owned();
        };
        out.push(byte);
        rest = &after[2..];
    }
    // Kubernetes keeps the raw text when it does not decode.
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

fn from_hex(digits: &[u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(headers: &[(&'static str, &'static str)]) -> Result<Option<Impersonation>, Error> {
        from_headers(headers.iter().copied())
    }

    /// The questions as `verb group/resource/subresource/name`, with what is refused after a colon.
    fn asked(wanted: &Impersonation, mode: Mode) -> Vec<String> {
        let checks = wanted.checks(mode).into_iter();
        checks
            .map(
                |Check {
                     attributes: check,
                     refusal,
                     spares,
                 }| {
                    let mut text = format!(
                        "{} {}/{}/{}/{}",
                        check.verb, check.group, check.resource, check.subresource, check.name
                    );
                    if !refusal.is_empty() {
                        text = format!("{text}: {refusal}");
                    }
                    if spares > 0 {
                        text = format!("{text} for {spares}");
                    }
                    text
                },
            )
            .collect()
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
        assert_eq!(
            asked(&wanted, Mode::Legacy),
            [
                "impersonate /users//jane",
                "impersonate authentication.k8s.io/uids//7",
                "impersonate /groups//dev",
                "impersonate /groups//ops",
                "impersonate authentication.k8s.io/userextras/acme.com/project/p1",
                "impersonate authentication.k8s.io/userextras/scopes/a",
            ]
        );
        let text = "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: \"scopes\": must be a domain-prefixed path (such as \"acme.io/foo\")";
        assert_eq!(
            asked(&wanted, Mode::UserInfo)[..5],
            [
                "impersonate:user-info authentication.k8s.io/users//jane".to_owned(),
                "impersonate:user-info authentication.k8s.io/uids//7".to_owned(),
                "impersonate:user-info authentication.k8s.io/groups//dev".to_owned(),
                "impersonate:user-info authentication.k8s.io/groups//ops".to_owned(),
                format!("impersonate:user-info authentication.k8s.io/userextras//: {text}"),
            ]
        );
        let user = wanted.into_user(Mode::Legacy);
        assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(user.extra["acme.com/project"], ["p1"]);
    }

    #[test]
    fn of_many_parts_it_is_asked_first_whether_all_may_be_taken_on() {
        let mut wanted = Impersonation {
            name: "jane".to_owned(),
            groups: ["a", "b", "c"].map(str::to_owned).to_vec(),
            ..Impersonation::default()
        };
        let scopes = ["1", "2", "3", "4"].map(str::to_owned).to_vec();
        wanted.extra.insert("a.b/c".to_owned(), scopes);
        let of = |wanted: &Impersonation, mode| {
            let mut asked = asked(wanted, mode);
            asked.retain(|text| text.contains('*'));
            asked
        };
        let extras = "impersonate:user-info authentication.k8s.io/userextras/*/* for 4";
        assert_eq!(of(&wanted, Mode::UserInfo), [extras]);
        wanted.groups.push("d".to_owned());
        let groups = "impersonate:user-info authentication.k8s.io/groups//* for 4";
        assert_eq!(of(&wanted, Mode::UserInfo), [groups, extras]);
        assert_eq!(asked(&wanted, Mode::UserInfo).len(), 1 + 5 + 5);
        assert!(of(&wanted, Mode::Legacy).is_empty());
    }

    #[test]
    fn names_of_a_kind_get_their_groups() {
        let named = |name: &'static str| parse(&[("Impersonate-User", name)]).unwrap().unwrap();
        let account = named("system:serviceaccount:ns:bot");
        let checks = account.checks(Mode::Legacy);
        let check = checks[0].attributes;
        assert_eq!(
            (check.resource, check.namespace, check.name),
            ("serviceaccounts", "ns", "bot")
        );
        assert_eq!(
            asked(&account, Mode::ServiceAccount),
            ["impersonate:serviceaccount authentication.k8s.io/serviceaccounts//bot"]
        );
        assert_eq!(
            account.into_user(Mode::ServiceAccount).groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
        let anonymous = named(ANONYMOUS).into_user(Mode::UserInfo);
        assert_eq!(anonymous.groups, [GROUP_UNAUTHENTICATED]);
        let node = named("system:node:n1");
        assert_eq!(
            asked(&node, Mode::ArbitraryNode),
            ["impersonate:arbitrary-node authentication.k8s.io/nodes//n1"]
        );
        assert_eq!(
            asked(&node, Mode::AssociatedNode),
            ["impersonate:associated-node authentication.k8s.io/nodes//*"]
        );
        assert_eq!(
            asked(&node, Mode::Legacy),
            ["impersonate /users//system:node:n1"]
        );
        assert_eq!(
            node.clone().into_user(Mode::Legacy).groups,
            ["system:authenticated"]
        );
        assert_eq!(
            node.into_user(Mode::ArbitraryNode).groups,
            ["system:nodes", "system:authenticated"]
        );
    }

    #[test]
    fn some_parts_are_refused_with_bounds() {
        let refusals = |headers: &[(&'static str, &'static str)]| -> Vec<String> {
            let user = [("Impersonate-User", "jane")];
            let wanted = parse(&[&user[..], headers].concat()).unwrap().unwrap();
            let legacy = wanted.checks(Mode::Legacy);
            assert!(legacy.iter().all(|check| check.refusal.is_empty()));
            let checks = wanted.checks(Mode::UserInfo).into_iter();
            checks
                .map(|check| check.refusal)
                .filter(|refusal| !refusal.is_empty())
                .collect()
        };
        assert!(
            refusals(&[
                ("Impersonate-Extra-a.b%2Fc", "1"),
                ("Impersonate-Group", "g")
            ])
            .is_empty()
        );
        for (header, value, why) in [
            ("Impersonate-Group", "", "the empty string group"),
            (
                "Impersonate-Group",
                "system:masters",
                "the system:masters group",
            ),
            ("Impersonate-Extra-", "1", "the empty string key"),
            ("Impersonate-Extra-a.b%2Fc", "", "the empty string value"),
            ("Impersonate-Extra-a.b%2F%43", "1", "a non-lowercase key"),
            (
                "Impersonate-Extra-_%2F%20",
                "1",
                "an invalid key in extra is not allowed: [extra.key: ",
            ),
        ] {
            let refusals = refusals(&[(header, value)]);
            assert_eq!(refusals.len(), 1, "{header}");
            assert!(
                refusals[0].starts_with(&format!("impersonating {why}")),
                "{refusals:?}"
            );
        }
    }

    #[test]
    fn without_a_user_it_fails() {
        assert_eq!(parse(&[("X", "y")]), Ok(None));
        assert_eq!(parse(&[("Impersonate-Other", "y")]), Ok(None));
        assert_eq!(
            parse(&[("Impersonate-Group", "g1")])
                .unwrap_err()
                .to_string(),
            "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"g1\"}, Extra:map[string][]string(nil)} without impersonating a user name"
        );
        assert_eq!(
            parse(&[("Impersonate-Uid", "7"), ("Impersonate-Extra-a", "1")]),
            Err(Error::NoUser(
                "&user.DefaultInfo{Name:\"\", UID:\"7\", Groups:[]string(nil), Extra:map[string][]string{\"a\":[]string{\"1\"}}}".to_owned()
            ))
        );
        assert!(parse(&[("Impersonate-Uid", "1")]).is_err());
        assert!(parse(&[("Impersonate-Extra-a", "1")]).is_err());
        let flood = vec![("Impersonate-Group", "g"); PARTS_MAX + 1];
        assert_eq!(parse(&flood), Err(Error::TooMany));
    }

    #[test]
    fn bad_escapes_stay_as_they_are() {
        assert_eq!(unescape("a%2fb%2F"), "a/b/");
        for bad in ["a%2fb%zz", "a%2fb%2", "a%", "%+f"] {
            assert_eq!(unescape(bad), bad);
        }
        assert_eq!(unescape("%ff"), "%ff");
    }
}
