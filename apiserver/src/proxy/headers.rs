//! The headers of a request and an answer that pass through a proxy.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::websocket;

/// What belongs to one connection and not to the request.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// A backend does not decide who may read what this server's origin shows.
const CROSS_ORIGIN: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
];
const IMPERSONATION: &str = "impersonate-";
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_URI: &str = "x-forwarded-uri";

/// Whether the client wants to speak something else on this connection.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let named = headers.get_all(header::CONNECTION).iter();
    named
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("upgrade"))
        && headers.contains_key(header::UPGRADE)
}

/// Takes off what belongs to the connection. Of an upgrade its two headers stay.
fn drop_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    let kept = headers.get(header::UPGRADE).filter(|_| upgrade).cloned();
    let trailers = headers.get(header::TE).is_some_and(|te| {
        let mut codings = te.to_str().unwrap_or_default().split(',');
        codings.any(|one| one.trim().eq_ignore_ascii_case("trailers"))
    });
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = kept {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

/// What a backend is told of the way that a request came.
pub(crate) struct Way<'a> {
    /// Who sent it; unknown within the process.
    pub(crate) peer: Option<IpAddr>,
    /// The name under which this server was asked.
    pub(crate) host: Option<HeaderValue>,
    /// The path at this server, still encoded.
    pub(crate) path: &'a str,
    pub(crate) upgrade: bool,
}

/// The headers with which a request goes on. What proved to this server who asks stays here: whoever runs a backend
/// could otherwise act in the name of its users.
pub(crate) fn of_request(headers: &HeaderMap, way: &Way<'_>) -> HeaderMap {
    let mut new = headers.clone();
    drop_hop_by_hop(&mut new, way.upgrade);
    new.remove(header::AUTHORIZATION);
    let impersonation: Vec<HeaderName> = new
        .keys()
        .filter(|name| name.as_str().starts_with(IMPERSONATION))
        .cloned()
        .collect();
    for name in impersonation {
        new.remove(name);
    }
    if new.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        let protocols = websocket::protocols(&new);
        new.remove(header::SEC_WEBSOCKET_PROTOCOL);
        if let Ok(value) = HeaderValue::from_str(&protocols)
            && !protocols.is_empty()
        {
            new.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
    if let Some(peer) = way.peer {
        let before = new.get_all(FORWARDED_FOR).iter();
        let mut chain: Vec<String> = before
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        chain.push(peer.to_canonical().to_string());
        set(
            &mut new,
            FORWARDED_FOR,
            HeaderValue::from_str(&chain.join(", ")),
        );
    }
    set(&mut new, FORWARDED_URI, HeaderValue::from_str(way.path));
    // A proxy before this server knows better.
    if let Some(host) = &way.host
        && !new.contains_key(FORWARDED_HOST)
    {
        new.insert(FORWARDED_HOST, host.clone());
    }
    if !new.contains_key(FORWARDED_PROTO) {
        new.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
    }
    new
}

fn set(
    headers: &mut HeaderMap,
    name: &'static str,
    value: Result<HeaderValue, http::header::InvalidHeaderValue>,
) {
    if let Ok(value) = value {
        headers.insert(name, value);
    }
}

/// Makes a backend's headers those of this server's answer.
pub(crate) fn of_answer(headers: &mut HeaderMap, upgrade: bool) {
    drop_hop_by_hop(headers, upgrade);
    for name in CROSS_ORIGIN {
        headers.remove(*name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        map
    }

    fn way(upgrade: bool) -> Way<'static> {
        Way {
            peer: Some("192.0.2.7".parse().unwrap()),
            host: Some(HeaderValue::from_static("api:6443")),
            path: "/a/b",
            upgrade,
        }
    }

    #[test]
    fn credentials_and_connections_stay_here() {
        let sent = headers(&[
            ("authorization", "Bearer secret"),
            ("impersonate-user", "root"),
            ("impersonate-extra-a", "b"),
            ("connection", "keep-alive, X-Mine"),
            ("keep-alive", "5"),
            ("x-mine", "1"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("cookie", "c=1"),
            ("x-forwarded-for", "198.51.100.1"),
        ]);
        let wanted = headers(&[
            ("te", "trailers"),
            ("cookie", "c=1"),
            ("x-forwarded-for", "198.51.100.1, 192.0.2.7"),
            ("x-forwarded-uri", "/a/b"),
            ("x-forwarded-host", "api:6443"),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!(of_request(&sent, &way(false)), wanted);
    }

    #[test]
    fn an_upgrade_passes_without_the_token_in_it() {
        let sent = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            (
                "sec-websocket-protocol",
                "base64url.bearer.authorization.k8s.io.c2VjcmV0, chat",
            ),
            ("x-forwarded-host", "outer"),
        ]);
        assert!(is_upgrade(&sent));
        let passed = of_request(&sent, &way(true));
        assert_eq!(passed["connection"], "Upgrade");
        assert_eq!(passed["upgrade"], "websocket");
        assert_eq!(passed["sec-websocket-protocol"], "chat");
        assert_eq!(passed["x-forwarded-host"], "outer");
        let passed = of_request(&sent, &way(false));
        assert!(!passed.contains_key("upgrade") && !passed.contains_key("connection"));
        assert!(!is_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(!is_upgrade(&headers(&[("connection", "upgrade")])));
    }

    #[test]
    fn answers_open_no_origin() {
        let mut answer = headers(&[
            ("access-control-allow-origin", "*"),
            ("connection", "close"),
            ("etag", "x"),
        ]);
        of_answer(&mut answer, false);
        assert_eq!(answer, headers(&[("etag", "x")]));
    }
}
