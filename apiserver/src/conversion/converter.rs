//! The webhook of one definition: its calls, bounded, and each entry's conversion made once however many ask for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use host::watch;
use resources::Text;
use resources::custom::Custom;
use schema::Object;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::review::{self, Failure, Sort};
use crate::entry::Entry;
use crate::metrics::Metrics;
use crate::outgoing::Peer;
use crate::status::{ApiError, ApiResult};
use crate::world::World;

/// How long one call may take, as in Kubernetes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Calls of one webhook at once; others wait.
const CALLS_MAX: usize = 16;
/// Requests that wait for one webhook; more are told to come back.
const WAITING_MAX: usize = 64;
/// Bytes of the objects of one call: an answer may be four times as large. A list that has more of them is several calls.
const CALL_BYTES_MAX: usize = 2 << 20;
/// For so long after a failed call the webhook counts as dead for those who can do without it.
const DEAD_FOR: Duration = Duration::from_secs(10);

pub(super) struct Converter {
    /// Name of the definition.
    definition: String,
    peer: Result<Peer, String>,
    /// The version of ConversionReview that both speak.
    version: Option<&'static str>,
    calls: Semaphore,
    pub(super) waiting: Semaphore,
    failed: Mutex<Option<Instant>>,
    flights: Arc<Flights>,
}

/// An object to convert, and its JSON.
pub(super) struct Sent {
    pub(super) json: Bytes,
    pub(super) object: Object,
}

impl Sent {
    pub(super) fn of(object: Object) -> Sent {
        Sent {
            json: Bytes::from(object.value().to_string()),
            object,
        }
    }

    pub(super) fn entry(entry: &Entry) -> Sent {
        Sent {
            json: entry.json(),
            object: entry.object(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Converter {
    /// `webhook` is `spec.conversion.webhook`.
    pub(super) fn new(world: &Arc<World>, definition: &str, webhook: &Value) -> Converter {
        let config = webhook.get("clientConfig").unwrap_or(&Value::Null);
        Converter {
            definition: definition.to_owned(),
            peer: Peer::of_client_config(world, config),
            version: review::version(webhook),
            calls: Semaphore::new(CALLS_MAX),
            waiting: Semaphore::new(WAITING_MAX),
            failed: Mutex::default(),
            flights: Arc::default(),
        }
    }

    pub(super) fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    /// Whether the webhook did not answer a moment ago.
    pub(super) fn seems_dead(&self) -> bool {
        lock(&self.failed).is_some_and(|at| at.elapsed() < DEAD_FOR)
    }

    /// Objects of other versions as those of `to`, pruned by its schema.
    pub(super) async fn convert(
        &self,
        metrics: &Metrics,
        sent: &[Sent],
        to: &Custom,
    ) -> ApiResult<Vec<Object>> {
        for one in sent {
            check_version(to, &one.object)?;
        }
        let mut converted = Vec::with_capacity(sent.len());
        for batch in batches(sent) {
            let closed = "the semaphore of a converter is never closed";
            let _permit = self.calls.acquire().await.expect(closed);
            let from = &batch[0].object;
            let started = Instant::now();
            let outcome = self.call(batch, to).await;
            let sort = outcome.as_ref().err().map(|failure| failure.sort.as_str());
            let versions = (from.version(), &**to.version());
            metrics.observe_conversion(&self.definition, versions, sort, started.elapsed());
            *lock(&self.failed) = match &outcome {
                Err(failure) if failure.sort == Sort::Call => Some(Instant::now()),
                _ => None,
            };
            let objects = outcome.map_err(|failure| {
                let text = format!(
                    "conversion webhook for {}, Kind={} {}",
                    from.api_version(),
                    from.kind(),
                    failure.text
                );
                tracing::warn!(definition = self.definition, text, "no conversion");
                ApiError::not_converted(text)
            })?;
            converted.extend(objects);
        }
        Ok(converted)
    }

    async fn call(&self, batch: &[Sent], to: &Custom) -> Result<Vec<Object>, Failure> {
        let failed = |text: &dyn std::fmt::Display| Failure::new(Sort::Call, text);
        let peer = self.peer.as_ref().map_err(|error| failed(error))?;
        let version = self.version;
        let version = version.ok_or_else(|| failed(&"no supported conversion review versions"))?;
        let uid = crate::chance::uuid().to_string();
        let desired = to.api_version();
        let objects = batch.iter().map(|one| &*one.json);
        let body = review::request(version, &uid, &desired, objects);
        let query = format!("timeout={}s", TIMEOUT.as_secs());
        let answer = peer.post(&query, Bytes::from(body), Instant::now() + TIMEOUT);
        let answer = answer.await.map_err(|error| failed(&error))?;
        let objects = review::read(version, &uid, batch.len(), answer.status, &answer.body)?;
        let accepted = objects.into_iter().zip(batch).enumerate();
        let accepted = accepted.map(|(index, (object, sent))| {
            let index = (batch.len() > 1).then_some(index);
            let object = review::accept(sent.object.value(), object, index, &desired)?;
            let mut object =
                Object::new(object).map_err(|error| Failure::new(Sort::InvalidObject, error))?;
            to.prune(&mut object);
            Ok(object)
        });
        accepted.collect()
    }
}

/// Only versions that the definition has are converted.
fn check_version(to: &Custom, object: &Object) -> ApiResult<()> {
    let definition = &to.definition;
    let api_version = object.api_version();
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    if group == definition.group() && definition.has_version(object.version()) {
        return Ok(());
    }
    Err(ApiError::not_converted(format!(
        "request to convert CR from an invalid group/version: {api_version}"
    )))
}

/// As many objects for a call as fit, one at least.
fn batches(sent: &[Sent]) -> impl Iterator<Item = &[Sent]> {
    let mut rest = sent;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|one| {
            bytes += one.json.len();
            bytes <= CALL_BYTES_MAX
        });
        let count = fits.count().max(1).min(rest.len());
        let (batch, left) = rest.split_at(count);
        rest = left;
        (!batch.is_empty()).then_some(batch)
    })
}

/// An entry, by its address, and the version that it is converted to.
type Key = (usize, Text);
/// How a conversion ended: none while it goes on, then what was wrong.
type Ended = Option<Result<(), ApiError>>;

/// Conversions of entries that go on. Whoever needs one of them waits for it instead of asking once more: all watches of a
/// version wake at the same change.
#[derive(Default)]
pub(super) struct Flights(Mutex<BTreeMap<Key, watch::Receiver<Ended>>>);

/// What somebody who needs conversions has to do.
pub(super) enum Turn {
    /// To make these, of those that were asked for.
    Mine(Vec<usize>, Flight),
    /// To wait for somebody who makes one of them.
    Theirs(watch::Receiver<Ended>),
}

/// Conversions that somebody makes. Those who wait for it find out when it is dropped.
pub(super) struct Flight {
    flights: Arc<Flights>,
    keys: Vec<Key>,
    ended: watch::Sender<Ended>,
}

impl Flights {
    /// `missing` are positions in `entries`, at least one.
    pub(super) fn join(
        self: &Arc<Self>,
        entries: &[Arc<Entry>],
        missing: &[usize],
        version: &Text,
    ) -> Turn {
        let key = |at: &usize| (Arc::as_ptr(&entries[*at]).addr(), version.clone());
        let mut all = lock(&self.0);
        let free: Vec<usize> = missing
            .iter()
            .filter(|at| !all.contains_key(&key(at)))
            .copied()
            .collect();
        if free.is_empty()
            && let Some(theirs) = missing.first().and_then(|at| all.get(&key(at)))
        {
            return Turn::Theirs(theirs.clone());
        }
        let (ended, receiver) = watch::channel(None);
        let keys: Vec<Key> = free.iter().map(key).collect();
        for key in &keys {
            all.insert(key.clone(), receiver.clone());
        }
        drop(all);
        let flights = self.clone();
        let flight = Flight {
            flights,
            keys,
            ended,
        };
        Turn::Mine(free, flight)
    }
}

impl Flight {
    pub(super) fn end(self, outcome: Result<(), ApiError>) {
        self.ended.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut all = lock(&self.flights.0);
        for key in &self.keys {
            all.remove(key);
        }
    }
}

/// Waits for somebody else's conversion. Where that one went away without an end, the caller looks again.
pub(super) async fn wait(mut theirs: watch::Receiver<Ended>) -> ApiResult<()> {
    let ended = theirs.wait_for(Option::is_some).await;
    let ended = ended.ok().and_then(|ended| ended.clone());
    ended.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(bytes: usize) -> Sent {
        Sent {
            json: Bytes::from(vec![b' '; bytes]),
            object: Object::from(serde_json::Map::new()),
        }
    }

    #[test]
    fn calls_are_bounded_and_lose_nothing() {
        let of = |sizes: &[usize]| -> Vec<usize> {
            let sent: Vec<Sent> = sizes.iter().map(|bytes| sent(*bytes)).collect();
            batches(&sent).map(<[Sent]>::len).collect()
        };
        assert_eq!(of(&[1; 3_000]), [3_000]);
        let half = CALL_BYTES_MAX / 2;
        assert_eq!(of(&[half, half, 1, 2 * half + 1, half]), [2, 1, 1, 1]);
        assert!(of(&[]).is_empty());
    }

    #[tokio::test]
    async fn one_asks_and_the_others_wait() {
        let flights = Arc::<Flights>::default();
        let entries = [Arc::new(Entry::for_test("/registry/pods/a", 1))];
        let version = Text::from("v2");
        let join = || flights.join(&entries, &[0], &version);
        let Turn::Mine(mine, flight) = join() else {
            panic!("nobody else is at it");
        };
        assert_eq!(mine, [0]);
        let Turn::Theirs(theirs) = join() else {
            panic!("somebody is at it");
        };
        flight.end(Err(ApiError::not_converted("no".to_owned())));
        assert_eq!(wait(theirs).await.unwrap_err().message, "no");
        // One that is given up leaves the others free to try.
        let Turn::Mine(_, given_up) = join() else {
            panic!("it is over");
        };
        let Turn::Theirs(theirs) = join() else {
            panic!("somebody is at it again");
        };
        drop(given_up);
        assert!(wait(theirs).await.is_ok());
        assert!(matches!(join(), Turn::Mine(..)));
    }
}
