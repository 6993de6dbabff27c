//! All changes of the API's objects, as the store's own watch tells them, from the first on. Several follow, each from where
//! all of them together are, so that one that is cut off does not miss what is compacted meanwhile.

use super::shared::Shared;
use crate::etcd::message::{Empty, WATCH, WatchAnswer, WatchAsk, WatchCreate, WatchUnion};
use crate::etcd::outcome::bytes;
use crate::kube::scribe::Scribe;
use anyhow::{Result, bail};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

const OBJECTS: (&str, &str) = ("/registry/", "/registry0");
/// How often a stream is asked how far it is.
const ASK: Duration = Duration::from_millis(300);
/// A stream that says nothing for so long, though asked, is given up.
const SILENCE: Duration = Duration::from_secs(3);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// For another one to know what was compacted here.
const OTHERS_KNOW: Duration = Duration::from_secs(5);

/// Follows until all ends: always at this member, or at the next one each time. `lost` where nobody has seen a part.
pub async fn follow(
    shared: Arc<Shared>,
    scribe: Arc<Scribe>,
    lost: Arc<AtomicBool>,
    pinned: Option<usize>,
) {
    let mut member = pinned.unwrap_or(0);
    while !shared.stop.load(Ordering::SeqCst) {
        if let Ok(Some(compacted)) = stream(&shared, &scribe, member).await {
            let until = Instant::now() + OTHERS_KNOW;
            while scribe.followed() + 1 < compacted && Instant::now() < until {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            if scribe.followed() + 1 < compacted {
                lost.store(true, Ordering::Relaxed);
                scribe.change(|history| history.truth.reach(compacted - 1));
            }
        }
        if pinned.is_none() {
            member = (member + 1) % shared.members.len();
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Until the stream breaks, or is told that what it wants is compacted: up to which revision.
async fn stream(shared: &Shared, scribe: &Scribe, member: usize) -> Result<Option<i64>> {
    let connection = shared.connect(member).await?;
    let (say, said) = mpsc::channel(4);
    let create = WatchCreate {
        key: bytes(OBJECTS.0),
        range_end: bytes(OBJECTS.1),
        start_revision: scribe.followed() + 1,
        ..WatchCreate::default()
    };
    // The channel is empty and has room.
    let _ = say.try_send(WatchAsk {
        union: Some(WatchUnion::Create(create)),
    });
    let open = connection.stream::<WatchAsk, WatchAnswer>(WATCH, said);
    let mut answers = tokio::time::timeout(SILENCE, open).await??;
    let mut ask = tokio::time::interval(ASK);
    let mut heard = Instant::now();
    while !shared.stop.load(Ordering::SeqCst) && heard.elapsed() < SILENCE {
        let answer = tokio::select! {
            answer = answers.message() => answer?,
            _ = ask.tick() => {
                // Where the channel is full, it has been asked.
                let _ = say.try_send(WatchAsk { union: Some(WatchUnion::Progress(Empty {})) });
                continue;
            }
        };
        let Some(answer) = answer else {
            bail!("the stream ended")
        };
        heard = Instant::now();
        if answer.canceled {
            return Ok((answer.compact_revision > 0).then_some(answer.compact_revision));
        }
        hear(scribe, &answer);
    }
    Ok(None)
}

/// An answer may have several revisions, each of them whole.
fn hear(scribe: &Scribe, answer: &WatchAnswer) {
    for events in answer
        .events
        .chunk_by(|one, next| one.kv.mod_revision == next.kv.mod_revision)
    {
        scribe.learn(events[0].kv.mod_revision, events);
    }
    if answer.events.is_empty() && !answer.created {
        scribe.change(|history| history.truth.reach(answer.header.revision));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::message::Header;
    use kv::{Event, EventKind, KeyValue};

    fn event(key: &str, revision: i64, deleted: bool) -> Event {
        Event {
            kind: match deleted {
                true => EventKind::Delete as i32,
                false => EventKind::Put as i32,
            },
            kv: KeyValue {
                key: bytes(key),
                value: bytes("{\"v\": 1}"),
                mod_revision: revision,
                ..KeyValue::default()
            },
            ..Event::default()
        }
    }

    fn answer(revision: i64, events: Vec<Event>) -> WatchAnswer {
        WatchAnswer {
            header: Header {
                revision,
                ..Header::default()
            },
            events,
            ..WatchAnswer::default()
        }
    }

    #[tokio::test]
    async fn revisions_are_learnt_once_and_whole() {
        let scribe = Scribe::new(Instant::now());
        let (one, other) = ("/registry/configmaps/n/a", "/registry/configmaps/n/b");
        let both = vec![
            event(one, 3, false),
            event(other, 3, false),
            event(one, 4, true),
        ];
        hear(&scribe, &answer(4, both.clone()));
        // Of another stream, which is behind.
        hear(&scribe, &answer(4, both[..2].to_vec()));
        hear(&scribe, &answer(9, Vec::new()));
        scribe.change(|history| {
            assert_eq!(history.truth.list("configmaps/n/", 3).len(), 2);
            assert_eq!(
                history.truth.list("configmaps/n/", 9),
                [("configmaps/n/b", 3)]
            );
            assert_eq!(history.truth.last(), 9);
        });
    }
}
