//! Tokens: a user's name, signed with a key that all members have, so that a token is good on each of them. Like etcd's
//! it lasts for five minutes after it was given out, and on a member that it is used on for five minutes after the last
//! use. It is void at once when the user is deleted or gets another password (the generation is another one), and when
//! authentication is disabled (the key goes).

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use prost::Message;
use sha2::Sha256;

/// In seconds.
const LIFETIME_S: i64 = 300;
/// Tokens whose use is remembered; beyond, they last as long as they were given out for.
const REMEMBERED: usize = 65_536;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Token {
    #[prost(string, tag = "1")]
    pub(super) user: String,
    #[prost(uint64, tag = "2")]
    pub(super) generation: u64,
    /// Wall clock of the member that gave it out, seconds since 1970.
    #[prost(int64, tag = "3")]
    pub(super) issued_s: i64,
    /// No two are the same.
    #[prost(fixed64, tag = "4")]
    pub(super) salt: u64,
}

pub(super) type Signature = [u8; 32];

impl Token {
    /// As it is sent.
    pub(super) fn signed(&self, key: &[u8]) -> String {
        let body = self.encode_to_vec();
        let signature = mac(key, &body).finalize().into_bytes();
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        format!("{}.{}", text(&body), text(&signature))
    }

    /// What was signed with this key; whether it is still good is another question.
    pub(super) fn open(key: &[u8], text: &[u8]) -> Option<(Token, Signature)> {
        if key.is_empty() {
            return None;
        }
        let (body, signature) = std::str::from_utf8(text).ok()?.split_once('.')?;
        let bytes = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let (body, signature) = (bytes(body)?, bytes(signature)?);
        mac(key, &body).verify_slice(&signature).ok()?;
        let token = Token::decode(body.as_slice()).ok()?;
        Some((token, signature.try_into().ok()?))
    }
}

fn mac(key: &[u8], body: &[u8]) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key);
    mac.expect("a key may be of any length").chain_update(body)
}

/// When tokens were last used on this member, seconds since 1970.
#[derive(Default)]
pub(super) struct Sessions(HashMap<Signature, i64>);

impl Sessions {
    /// Whether the token is still good. If so, it is for longer.
    pub(super) fn renew(&mut self, token: &Token, signature: Signature, now_s: i64) -> bool {
        let used = self.0.get(&signature).copied();
        // Clocks of members differ, both ways.
        let is_fresh = |since: i64| since.abs_diff(now_s) <= LIFETIME_S as u64;
        if !is_fresh(token.issued_s) && !used.is_some_and(is_fresh) {
            self.0.remove(&signature);
            return false;
        }
        if used.is_none() && self.0.len() >= REMEMBERED {
            self.0.retain(|_, used| is_fresh(*used));
        }
        if used.is_some() || self.0.len() < REMEMBERED {
            self.0.insert(signature, now_s);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(issued_s: i64) -> Token {
        Token {
            user: "u".into(),
            generation: 7,
            issued_s,
            salt: issued_s as u64,
        }
    }

    #[test]
    fn a_token_opens_with_its_key_and_unchanged_alone() {
        let text = token(1000).signed(b"key");
        let (opened, _) = Token::open(b"key", text.as_bytes()).unwrap();
        assert_eq!(opened, token(1000));
        assert!(Token::open(b"other", text.as_bytes()).is_none());
        for place in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] = match changed[place] {
                b'A' => b'B',
                _ => b'A',
            };
            let opened = Token::open(b"key", &changed);
            assert!(opened.is_none_or(|(opened, _)| opened == token(1000)));
        }
        // Without a key nothing is signed.
        let unsigned = token(1000).signed(b"");
        for bad in [unsigned.as_str(), "", ".", "a.b", "\u{e9}.\u{e9}"] {
            assert!(Token::open(b"", bad.as_bytes()).is_none(), "{bad}");
            assert!(Token::open(b"key", bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn use_renews_a_token_and_five_minutes_without_end_it() {
        let mut sessions = Sessions::default();
        let used = token(1000);
        assert!(sessions.renew(&used, [1; 32], 1300));
        assert!(sessions.renew(&used, [1; 32], 1600));
        assert!(!sessions.renew(&used, [1; 32], 1901));
        assert!(!sessions.renew(&used, [1; 32], 1902));
        // A clock that is behind, or far behind.
        assert!(sessions.renew(&used, [2; 32], 700));
        assert!(!sessions.renew(&used, [3; 32], 699));
    }

    #[test]
    fn only_so_many_are_remembered_and_old_ones_make_room() {
        let mut sessions = Sessions::default();
        let signature = |n: usize| {
            let mut signature = [0; 32];
            signature[..8].copy_from_slice(&n.to_le_bytes());
            signature
        };
        for n in 0..REMEMBERED + 5 {
            assert!(sessions.renew(&token(1000), signature(n), 1000));
        }
        assert_eq!(sessions.0.len(), REMEMBERED);
        assert!(sessions.renew(&token(2000), [9; 32], 2000));
        assert_eq!(sessions.0.len(), 1);
    }
}
