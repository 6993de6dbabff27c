//! A proxy in front of this server that has authenticated the client itself and says in headers who it is. It proves that it
//! is one by a client certificate of an authority that signs nothing else; from everybody else the headers mean nothing.

use std::borrow::Cow;
use std::sync::LazyLock;

use auth::User;
use http::header::AsHeaderName;
use http::{HeaderMap, HeaderName};

use crate::client_certificate::{PeerCertificate, Trust};

/// Which proxies are believed, and in which headers.
#[derive(Clone, Debug)]
pub struct RequestHeaderConfig {
    /// Authorities of the proxies' certificates, PEM.
    pub ca_pem: String,
    /// Common names of the proxies; empty for every name.
    pub allowed_names: Vec<String>,
    pub username_headers: Vec<String>,
    pub uid_headers: Vec<String>,
    pub group_headers: Vec<String>,
    pub extra_prefixes: Vec<String>,
}

impl RequestHeaderConfig {
    /// With the headers that everybody uses.
    pub fn new(ca_pem: String, allowed_names: Vec<String>) -> RequestHeaderConfig {
        let one = |name: &str| vec![name.to_owned()];
        RequestHeaderConfig {
            ca_pem,
            allowed_names,
            username_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_prefixes: one("X-Remote-Extra-"),
        }
    }
}

/// The same, ready for requests.
pub(crate) struct RequestHeader {
    trust: Trust,
    allowed_names: Vec<String>,
    headers: Headers,
}

/// Names in lower case.
struct Headers {
    username: Vec<String>,
    uid: Vec<String>,
    group: Vec<String>,
    extra: Vec<String>,
}

impl Headers {
    fn of(config: &RequestHeaderConfig) -> Result<Headers, String> {
        let names = |names: &[String]| -> Result<Vec<String>, String> {
            let lower = names.iter().map(|name| name.to_ascii_lowercase());
            let lower: Vec<String> = lower.collect();
            match lower
                .iter()
                .find(|name| name.parse::<HeaderName>().is_err())
            {
                Some(bad) => Err(format!("{bad:?} is not the name of a header")),
                None => Ok(lower),
            }
        };
        Ok(Headers {
            username: names(&config.username_headers)?,
            uid: names(&config.uid_headers)?,
            group: names(&config.group_headers)?,
            extra: names(&config.extra_prefixes)?,
        })
    }

    fn standard() -> Headers {
        let one = |name: &str| vec![name.to_owned()];
        Headers {
            username: one("x-remote-user"),
            uid: one("x-remote-uid"),
            group: one("x-remote-group"),
            extra: one("x-remote-extra-"),
        }
    }

    fn contain(&self, name: &str) -> bool {
        let whole = [&self.username, &self.uid, &self.group];
        whole.into_iter().flatten().any(|one| one == name)
            || self.extra.iter().any(|prefix| name.starts_with(&**prefix))
    }
}

impl RequestHeader {
    pub(crate) fn new(config: &RequestHeaderConfig) -> Result<RequestHeader, String> {
        if config.username_headers.is_empty() {
            return Err("a front proxy needs a header for the name of the user".to_owned());
        }
        Ok(RequestHeader {
            trust: Trust::of(&config.ca_pem)?,
            allowed_names: config.allowed_names.clone(),
            headers: Headers::of(config)?,
        })
    }

    /// Whom the proxy names; none where it is no such proxy or names nobody.
    pub(super) fn user(
        &self,
        peer: &PeerCertificate,
        headers: &HeaderMap,
        now: i64,
    ) -> Result<Option<User>, String> {
        let leaf = self.trust.verify(peer).map_err(|error| error.to_string())?;
        let proxy = auth::x509::user_from_cert(leaf, now).map_err(|error| error.to_string())?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&proxy.name) {
            return Err(format!(
                "x509: subject with cn={} is not in the allowed list",
                proxy.name
            ));
        }
        Ok(self.headers.user(headers))
    }
}

impl Headers {
    fn user(&self, headers: &HeaderMap) -> Option<User> {
        let name = first(headers, &self.username)?;
        let groups = self.group.iter().flat_map(|name| texts(headers, &**name));
        let mut user = User::new(name, groups.map(str::to_owned).collect::<Vec<_>>());
        user.uid = first(headers, &self.uid).unwrap_or_default();
        for name in headers.keys() {
            let prefixes = self.extra.iter();
            let key = prefixes.filter_map(|prefix| name.as_str().strip_prefix(&**prefix));
            for key in key {
                let values = texts(headers, name).map(str::to_owned);
                let known = user.extra.entry(unescaped(key).into_owned()).or_default();
                known.extend(values);
            }
        }
        Some(user)
    }
}

fn texts(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
    let all = headers.get_all(name).into_iter();
    all.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
}

fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    let mut all = names.iter().flat_map(|name| texts(headers, &**name));
    all.find(|text| !text.is_empty()).map(str::to_owned)
}

/// Keys may have characters that headers may not; they come with percent signs.
fn unescaped(key: &str) -> Cow<'_, str> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            return Cow::Borrowed(key);
        };
        bytes.push(byte);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(key), Cow::Owned)
}

/// Takes away what only proxies may say, and the client's own credentials, so that whatever a request is passed on to sees
/// neither.
pub(crate) fn strip(headers: &mut HeaderMap, configured: Option<&RequestHeader>) {
    static STANDARD: LazyLock<Headers> = LazyLock::new(Headers::standard);
    let named: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let own = configured.is_some_and(|proxy| proxy.headers.contain(name.as_str()));
            own || STANDARD.contain(name.as_str())
        })
        .cloned()
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(http::header::AUTHORIZATION);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn headers_name_a_user() {
        let said = headers(&[
            ("x-remote-user", ""),
            ("x-remote-user", "jane"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "ops"),
            ("x-remote-extra-scopes", "a"),
            ("x-remote-extra-scopes", "b"),
            ("x-remote-extra-example.com%2fkey", "c"),
            ("x-remote-extra-broken%zz", "d"),
        ]);
        let user = Headers::standard().user(&said).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("jane", "7"));
        assert_eq!(user.groups, ["dev", "ops"]);
        assert_eq!(user.extra["scopes"], ["a", "b"]);
        assert_eq!(user.extra["example.com/key"], ["c"]);
        assert_eq!(user.extra["broken%zz"], ["d"]);
        let nobody = headers(&[("x-remote-group", "system:masters")]);
        assert_eq!(Headers::standard().user(&nobody), None);
    }

    #[test]
    fn what_only_proxies_may_say_goes_no_further() {
        let mut said = headers(&[
            ("x-remote-user", "root"),
            ("x-remote-group", "system:masters"),
            ("x-remote-group", "x"),
            ("x-remote-extra-a", "b"),
            ("authorization", "Bearer x"),
            ("accept", "*/*"),
        ]);
        strip(&mut said, None);
        assert_eq!(said, headers(&[("accept", "*/*")]));
    }
}
