//! Reviews that a webhook answers: posted, and posted again where the webhook is not there for a moment.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Peer;

/// Reviews under way at once; others wait for their turn, not longer than for an answer.
const CALLS_MAX: usize = 64;
/// Kubernetes' pauses between tries: half a second, and half as much again each time, for five tries.
const TRIES: u32 = 5;
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_GROWTH: f64 = 1.5;

/// A webhook for reviews.
pub(crate) struct Reviewer {
    peer: Peer,
    calls: Semaphore,
}

impl Reviewer {
    pub(crate) fn new(peer: Peer) -> Reviewer {
        Reviewer {
            peer,
            calls: Semaphore::new(CALLS_MAX),
        }
    }

    /// The answer's `status`, which has to be there within `patience`.
    pub(crate) async fn ask(&self, review: &Value, patience: Duration) -> Result<Value, String> {
        let deadline = Instant::now() + patience;
        let body = Bytes::from(review.to_string());
        let asking = async {
            let _turn = self.calls.acquire().await;
            let mut pause = PAUSE_MIN;
            for _ in 1..TRIES {
                match self.ask_once(&body, deadline).await {
                    Ok(status) => return Ok(status),
                    Err(Failure::Final(error)) => return Err(error),
                    Err(Failure::Passing(_)) => {}
                }
                tokio::time::sleep(pause).await;
                pause = pause.mul_f64(PAUSE_GROWTH);
            }
            let last = self.ask_once(&body, deadline).await;
            last.map_err(|(Failure::Final(error) | Failure::Passing(error))| error)
        };
        match tokio::time::timeout_at(deadline, asking).await {
            Ok(answer) => answer,
            Err(_) => Err("the webhook does not answer in time".to_owned()),
        }
    }

    async fn ask_once(&self, body: &Bytes, deadline: Instant) -> Result<Value, Failure> {
        let answer = self.peer.post("", body.clone(), deadline).await;
        let answer = answer.map_err(|error| Failure::Passing(error.to_string()))?;
        if !answer.status.is_success() {
            let error = format!("the webhook answers {}", answer.status);
            let passes =
                answer.status.is_server_error() || answer.status == StatusCode::TOO_MANY_REQUESTS;
            return Err(match passes {
                true => Failure::Passing(error),
                false => Failure::Final(error),
            });
        }
        let review: Result<Value, _> = serde_json::from_slice(&answer.body);
        let status = review
            .ok()
            .and_then(|mut review| Some(review.get_mut("status")?.take()));
        match status.filter(Value::is_object) {
            Some(status) => Ok(status),
            None => Err(Failure::Final("the webhook answers no review".to_owned())),
        }
    }
}

enum Failure {
    /// It may be over soon.
    Passing(String),
    Final(String),
}
