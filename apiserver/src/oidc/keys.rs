//! The public keys of an issuer: fetched when a token needs them, kept, and fetched again when they do not know a token.
//!
//! However many tokens wait and whatever they say, one fetch runs at a time, and not again before a pause that grows while
//! the issuer fails. A request waits for a fetch only so long; nobody waits who does not show a token of this issuer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use auth::jwt::{Keys, Token};
use host::watch;
use serde_json::Value;
use tokio::time::Instant;

use crate::outgoing::Peer;
use crate::world::World;

/// A request waits for keys so long at most.
const PATIENCE: Duration = Duration::from_secs(5);
/// Both documents have to be there after so long.
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);
/// Keys are fetched again for a token that they do not know, but not more often.
const AGE_MIN: Duration = Duration::from_secs(10);
/// Keys that are older are fetched again beside their use: the issuer may have withdrawn some.
const AGE_MAX: Duration = Duration::from_secs(600);
/// After a first failure; doubled with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Where the keys of an issuer are, and what is known of them.
pub(crate) struct IssuerKeys {
    world: Arc<World>,
    issuer: String,
    discovery_url: String,
    ca_pem: String,
    known: Mutex<Known>,
    /// Counts the fetches that have ended.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    keys: Option<Arc<Keys>>,
    /// When the last fetch ended, with keys or without.
    ended: Option<Instant>,
    /// Fetches that have failed since the last that did not.
    failures: u32,
    error: String,
    is_fetching: bool,
}

/// What to do about a token.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Keys are fetched already.
    Wait,
    Fetch,
    /// It is too early for another fetch.
    Refuse,
}

impl Known {
    fn pause(&self) -> Duration {
        match self.failures {
            0 => AGE_MIN,
            failures => PAUSE_MIN
                .saturating_mul(1 << failures.min(10).saturating_sub(1))
                .min(PAUSE_MAX),
        }
    }

    /// For a token that the known keys have not signed.
    fn step(&self, now: Instant) -> Step {
        match self.ended {
            _ if self.is_fetching => Step::Wait,
            Some(ended) if now < ended + self.pause() => Step::Refuse,
            _ => Step::Fetch,
        }
    }

    /// Whether keys that are in use should be fetched again.
    fn is_old(&self, now: Instant) -> bool {
        let old = self.ended.is_some_and(|ended| now >= ended + AGE_MAX);
        old && self.step(now) == Step::Fetch
    }

    fn end(&mut self, fetched: Result<Keys, String>, now: Instant) {
        self.is_fetching = false;
        self.ended = Some(now);
        match fetched {
            Ok(keys) => {
                self.keys = Some(Arc::new(keys));
                self.failures = 0;
                self.error.clear();
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.error = error;
            }
        }
    }
}

impl IssuerKeys {
    pub(crate) fn new(
        world: Arc<World>,
        issuer: &str,
        discovery_url: &str,
        ca_pem: &str,
    ) -> Arc<IssuerKeys> {
        Arc::new(IssuerKeys {
            world,
            issuer: issuer.to_owned(),
            discovery_url: discovery_url.to_owned(),
            ca_pem: ca_pem.to_owned(),
            known: Mutex::default(),
            ended: watch::Sender::new(0),
        })
    }

    /// Whether the issuer has signed the token.
    pub(crate) async fn verify(self: &Arc<Self>, token: &Token<'_>) -> Result<(), String> {
        let mut ended = self.ended.subscribe();
        let first = self.try_known(token);
        if first.is_ok() {
            if self.known().is_old(Instant::now()) {
                self.start_fetch();
            }
            return first;
        }
        let step = self.known().step(Instant::now());
        match step {
            // Others may have just ended a fetch.
            Step::Refuse => return self.try_known(token),
            Step::Wait => {}
            Step::Fetch => self.start_fetch(),
        }
        match tokio::time::timeout(PATIENCE, ended.changed()).await {
            Ok(_) => self.try_known(token),
            Err(_) => Err(format!("the keys of {} do not come in time", self.issuer)),
        }
    }

    fn try_known(&self, token: &Token<'_>) -> Result<(), String> {
        let (keys, error) = {
            let known = self.known();
            (known.keys.clone(), known.error.clone())
        };
        match keys {
            Some(keys) => keys.verify(token).map_err(|error| error.to_string()),
            None => Err(format!(
                "the keys of {} are not known: {error}",
                self.issuer
            )),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs by itself: whoever asked for it may go away, others wait for it as well. It ends at its deadline.
    fn start_fetch(self: &Arc<Self>) {
        let mut known = self.known();
        if known.step(Instant::now()) != Step::Fetch {
            return;
        }
        known.is_fetching = true;
        drop(known);
        let this = self.clone();
        host::spawn(async move {
            let fetched = this.fetch(Instant::now() + FETCH_TIME_MAX).await;
            if let Err(error) = &fetched {
                tracing::warn!(
                    issuer = this.issuer,
                    error,
                    "the keys of an issuer of tokens cannot be fetched"
                );
            }
            this.known().end(fetched, Instant::now());
            this.ended.send_modify(|count| *count += 1);
        });
    }

    async fn fetch(&self, deadline: Instant) -> Result<Keys, String> {
        let document = self.get(&self.discovery_url, deadline).await?;
        let document: Value = serde_json::from_slice(&document)
            .map_err(|_| "the discovery document is not JSON".to_owned())?;
        let text = |field: &str| {
            document
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        if text("issuer") != self.issuer {
            return Err(format!(
                "oidc: issuer URL provided to client ({:?}) did not match the issuer URL returned by provider ({:?})",
                self.issuer,
                text("issuer")
            ));
        }
        let keys = self.get(text("jwks_uri"), deadline).await?;
        Keys::parse(&keys).map_err(|error| error.to_string())
    }

    async fn get(&self, url: &str, deadline: Instant) -> Result<bytes::Bytes, String> {
        let peer = Peer::of_url(&self.world, url, self.ca_pem.as_bytes())?;
        let answer = peer
            .get(deadline)
            .await
            .map_err(|error| error.to_string())?;
        match answer.status.is_success() {
            true => Ok(answer.body),
            false => Err(format!("{url} answers {}", answer.status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_fails_is_asked_less_and_less() {
        let mut known = Known::default();
        let start = Instant::now();
        assert_eq!(known.step(start), Step::Fetch);
        known.is_fetching = true;
        assert_eq!(known.step(start), Step::Wait);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            known.end(Err("no".to_owned()), start);
            assert_eq!(known.step(start), Step::Refuse);
            assert_eq!(known.step(start + known.pause()), Step::Fetch);
            pauses.push(known.pause().as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        known.failures = u32::MAX;
        known.end(Err("no".to_owned()), start);
        assert_eq!(known.pause(), PAUSE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_nobody_has_signed_do_not_make_a_fetch_each() {
        let mut known = Known {
            is_fetching: true,
            ..Known::default()
        };
        let start = Instant::now();
        known.end(Err("no".to_owned()), start);
        known.failures = 0;
        assert_eq!(known.step(start + AGE_MIN / 2), Step::Refuse);
        assert_eq!(known.step(start + AGE_MIN), Step::Fetch);
        assert!(!known.is_old(start + AGE_MIN));
        assert!(known.is_old(start + AGE_MAX));
    }
}
