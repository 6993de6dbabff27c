//! Where a request carries its bearer token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The prefix of the WebSocket subprotocol in which a browser sends a token, since it cannot set a header.
const WEBSOCKET_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The token of an `Authorization` header; `None` for another scheme or an empty token.
pub fn from_header(authorization: &str) -> Option<&str> {
    let mut parts = authorization.trim().splitn(3, ' ');
    let scheme = parts.next()?;
    let token = parts.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The outcome of looking for a token in `Sec-WebSocket-Protocol`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSocketToken {
    Absent,
    /// The token, and the other protocols, which are what the server may choose from.
    Present {
        token: String,
        protocols: Vec<String>,
    },
    /// Two tokens, a token that is not base64url, or no other protocol next to it: answer 401.
    Invalid,
}

/// Finds the token among WebSocket subprotocols.
pub fn from_websocket_protocols(header: &str) -> WebSocketToken {
    let (tokens, protocols): (Vec<&str>, Vec<&str>) = header
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .partition(|item| item.starts_with(WEBSOCKET_PREFIX));
    let encoded = match tokens.as_slice() {
        [] => return WebSocketToken::Absent,
        [token] if !protocols.is_empty() => token.trim_start_matches(WEBSOCKET_PREFIX),
        _ => return WebSocketToken::Invalid,
    };
    match URL_SAFE_NO_PAD
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
    {
        Some(token) if !token.is_empty() => WebSocketToken::Present {
            token,
            protocols: protocols.into_iter().map(str::to_owned).collect(),
        },
        _ => WebSocketToken::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header() {
        for (header, token) in [
            ("Bearer abc", Some("abc")),
            ("bEARER abc def", Some("abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer  abc", None),
            ("", None),
        ] {
            assert_eq!(from_header(header), token, "{header:?}");
        }
    }

    #[test]
    fn websocket() {
        let good = format!(
            "{WEBSOCKET_PREFIX}{}, v5.channel.k8s.io",
            URL_SAFE_NO_PAD.encode("abc")
        );
        assert_eq!(
            from_websocket_protocols(&good),
            WebSocketToken::Present {
                token: "abc".into(),
                protocols: vec!["v5.channel.k8s.io".into()]
            }
        );
        assert_eq!(
            from_websocket_protocols("v5.channel.k8s.io"),
            WebSocketToken::Absent
        );
        for bad in [
            format!("{WEBSOCKET_PREFIX}YWJj"),
            format!("{WEBSOCKET_PREFIX}!!, v5"),
            format!("{WEBSOCKET_PREFIX}, v5"),
            format!("{good}, {good}"),
        ] {
            assert_eq!(
                from_websocket_protocols(&bad),
                WebSocketToken::Invalid,
                "{bad}"
            );
        }
    }
}
