//! What a stranger shows to say who he is.

use super::text;
use crate::{Target, samples};
use auth::static_tokens::StaticTokens;
use auth::{bearer, jwt, x509};

const NOW: i64 = 1_767_225_600;

pub(crate) const TOKENS: Target = Target {
    name: "tokens",
    help: "tokens, the headers that bring them, key sets and token files",
    seeds: || {
        samples::texts(&[
            "eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJpc3MiOiJodHRwczovL2EiLCJhdWQiOlsiYSJdLCJleHAiOjE3NjcyMjU2MDB9.AAAA",
            "Bearer  abc",
            "base64url.bearer.authorization.k8s.io.YWJj, v5.channel.k8s.io",
            r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","alg":"RS256","kid":"a","use":"sig"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#,
            "token,user,uid,\"a,b\"\n\nt2,\"u\"\"2\",3\n",
        ])
    },
    run: |bytes| {
        let text = text(bytes);
        let token = jwt::Token::parse(&text);
        if let Ok(token) = &token {
            let _ = (token.issuer(), token.audiences(), token.time("exp"));
        }
        if let (Ok(keys), Ok(token)) = (jwt::Keys::parse(bytes), &token) {
            assert!(keys.verify(token).is_err(), "nobody signed it");
        }
        let _ = bearer::from_header(&text);
        let _ = bearer::from_websocket_protocols(&text);
        if let Ok(tokens) = StaticTokens::from_csv(&text) {
            assert!(tokens.authenticate("").is_none());
        }
    },
};

pub(crate) const CERTIFICATE: Target = Target {
    name: "certificate",
    help: "a client certificate in DER: nobody has an empty name",
    // The head of one, since there is none here that is not made at run time: the guided driver finds its way from it.
    seeds: || {
        vec![vec![
            0x30, 0x82, 0x01, 0x0a, 0x30, 0x81, 0xb1, 0xa0, 0x03, 0x02, 0x01, 0x02, 0x02, 0x01,
            0x01, 0x30, 0x0a,
        ]]
    },
    run: |bytes| {
        if let Ok(user) = x509::user_from_cert(bytes, NOW) {
            assert!(!user.name.is_empty());
        }
    },
};
