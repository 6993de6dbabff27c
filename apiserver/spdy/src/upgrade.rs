//! The HTTP/1.1 upgrade that starts a session.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};

/// The only exchange of exec and attach that is spoken: every client from Kubernetes 1.4 on offers it.
pub const REMOTE_COMMAND_PROTOCOL: &str = "v4.channel.k8s.io";
pub const PORT_FORWARD_PROTOCOL: &str = "portforward.k8s.io";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");

/// Answer this with 403: the text is the body, the header lists what would be accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unable to upgrade: unable to negotiate protocol: client supports [{client}], server accepts [{server}]"
)]
pub struct NotNegotiated {
    client: String,
    server: String,
}

impl NotNegotiated {
    pub fn headers(&self) -> Option<(HeaderName, HeaderValue)> {
        Some((
            ACCEPTED_PROTOCOLS,
            HeaderValue::from_str(&self.server).ok()?,
        ))
    }
}

/// Does the request ask for SPDY/3.1?
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, token: &str| {
        let values = headers
            .get_all(name)
            .into_iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "SPDY/3.1")
}

/// Picks the first of the client's protocols that the server speaks.
pub fn negotiate<'a>(headers: &HeaderMap, supported: &[&'a str]) -> Result<&'a str, NotNegotiated> {
    let values = headers
        .get_all(STREAM_PROTOCOL)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect();
    let common = offered
        .iter()
        .find_map(|offer| supported.iter().find(|own| *own == offer));
    common.copied().ok_or_else(|| NotNegotiated {
        client: offered.join(" "),
        server: supported.join(" "),
    })
}

/// The headers of the answer 101.
pub fn upgrade_response_headers(protocol: &'static str) -> [(HeaderName, HeaderValue); 3] {
    [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("SPDY/3.1")),
        (STREAM_PROTOCOL, HeaderValue::from_static(protocol)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.clone(), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn requests_are_recognized() {
        assert!(is_upgrade(&headers(&[
            (CONNECTION, "keep-alive, Upgrade"),
            (UPGRADE, "spdy/3.1")
        ])));
        assert!(!is_upgrade(&headers(&[
            (CONNECTION, "Upgrade"),
            (UPGRADE, "websocket")
        ])));
        assert!(!is_upgrade(&headers(&[(UPGRADE, "SPDY/3.1")])));
    }

    #[test]
    fn protocols_are_negotiated() {
        let kubectl = headers(&[
            (STREAM_PROTOCOL, "v5.channel.k8s.io"),
            (STREAM_PROTOCOL, "v4.channel.k8s.io"),
            (STREAM_PROTOCOL, "channel.k8s.io"),
        ]);
        assert_eq!(
            negotiate(&kubectl, &[REMOTE_COMMAND_PROTOCOL]),
            Ok(REMOTE_COMMAND_PROTOCOL)
        );
        assert_eq!(
            negotiate(
                &headers(&[(STREAM_PROTOCOL, "a, v4.channel.k8s.io")]),
                &[REMOTE_COMMAND_PROTOCOL]
            ),
            Ok(REMOTE_COMMAND_PROTOCOL)
        );
        let refused = negotiate(
            &headers(&[(STREAM_PROTOCOL, "channel.k8s.io")]),
            &[REMOTE_COMMAND_PROTOCOL],
        )
        .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "unable to upgrade: unable to negotiate protocol: client supports [channel.k8s.io], server accepts [v4.channel.k8s.io]"
        );
        assert!(refused.headers().is_some());
        assert!(negotiate(&HeaderMap::new(), &[REMOTE_COMMAND_PROTOCOL]).is_err());
    }
}
