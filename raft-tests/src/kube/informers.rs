//! Clients that list and watch (W12) as client-go's informers do, and go from member to member.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::history::{EventKind, Seen, Step};
use super::rest::{PATIENCE, Rest, Shared, page};
use super::wire::{Answer, NoEvent, request};

const AWAY_MAX: Duration = Duration::from_secs(6);

/// One that keeps a kind until it is over. `reached` tells how far it is.
pub async fn keep(
    shared: Arc<Shared>,
    client: u32,
    kind: &'static str,
    namespace: Option<&'static str>,
    reached: Arc<AtomicI64>,
    rng: SmallRng,
) {
    let path = match namespace {
        Some(namespace) => format!("/api/v1/namespaces/{namespace}/{kind}"),
        None => format!("/api/v1/{kind}"),
    };
    let prefix = match namespace {
        Some(namespace) => format!("{kind}/{namespace}/"),
        None => format!("{kind}/"),
    };
    let place = shared.scribe.informer(client, prefix);
    let mut keeper = Keeper {
        rest: Rest::new(shared, client, rng),
        kind,
        path,
        place,
        position: 0,
        initial: None,
        reached,
    };
    while !keeper.rest.shared.is_over() {
        if keeper.rest.rng.random_bool(0.5) || keeper.rest.member == 0 {
            keeper.rest.hop();
        }
        let went = match keeper.position {
            0 if keeper.rest.rng.random_bool(0.3) => keeper.watch_list().await,
            0 => keeper.list().await,
            _ => keeper.watch().await,
        };
        if went.is_none() {
            keeper.rest.hop();
        }
        // Now and then it is away for so long that what it knows is compacted.
        let most = match keeper.rest.rng.random_bool(0.1) {
            true => AWAY_MAX,
            false => Duration::from_millis(60),
        };
        keeper.rest.pause(most).await;
    }
}

struct Keeper {
    rest: Rest,
    kind: &'static str,
    path: String,
    place: usize,
    /// Version up to which it knows everything; 0: it has to list.
    position: i64,
    /// What a watch has shown of what there is, while it has not said that this is all.
    initial: Option<Vec<Seen>>,
    reached: Arc<AtomicI64>,
}

impl Keeper {
    fn step(&self, step: Step) {
        self.rest.shared.scribe.step(self.place, step);
    }

    fn reach(&mut self, revision: i64) {
        self.position = revision;
        self.reached.store(revision, Ordering::Relaxed);
    }

    /// None where the member is of no use.
    async fn list(&mut self) -> Option<()> {
        let version = match self.rest.rng.random_bool(0.6) {
            true => "?resourceVersion=0",
            false => "",
        };
        let path = format!("{}{version}", self.path);
        let (asked, answered) = self.rest.ask_as(Method::GET, &path, None).await;
        let (200, document) = answered.ok()? else {
            return None;
        };
        let (revision, items) = page(self.kind, &document);
        self.step(Step::Listed {
            member: self.rest.member,
            revision,
            items,
            asked: Some(asked),
        });
        self.reach(revision);
        Some(())
    }

    /// A watch that begins with everything that there is, and says when that was all.
    async fn watch_list(&mut self) -> Option<()> {
        let version = match self.rest.rng.random_bool(0.6) {
            true => "&resourceVersion=0",
            false => "",
        };
        let path = format!(
            "{}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true\
             &timeoutSeconds=8{version}",
            self.path
        );
        let until = Instant::now() + PATIENCE;
        let answer = self.rest.open(request(Method::GET, &path, None)).await;
        let answer = answer
            .ok()
            .filter(|answer| answer.status == StatusCode::OK)?;
        self.initial = Some(Vec::new());
        let followed = self.follow(&path, answer, until).await;
        match self.initial.take() {
            // It broke off before it had shown all, and so has shown nothing.
            Some(_) => None,
            None => {
                let lost = followed.is_none();
                self.step(Step::Left { lost });
                followed
            }
        }
    }

    async fn watch(&mut self) -> Option<()> {
        let seconds = self.rest.rng.random_range(2..8);
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            self.path, self.position
        );
        // Now and then it leaves by itself.
        let stay = Duration::from_millis(self.rest.rng.random_range(200..9000));
        let until = Instant::now() + stay;
        let mut answer = self
            .rest
            .open(request(Method::GET, &path, None))
            .await
            .ok()?;
        let (member, from) = (self.rest.member, self.position);
        if answer.status == StatusCode::GONE {
            let body = timeout_at(Instant::now() + PATIENCE, answer.whole()).await;
            let body = body.ok()?.ok()?;
            let status = serde_json::from_slice(&body).unwrap_or_default();
            self.step(Step::Watch { member, from });
            self.take(&path, Heard::of_error(&status));
            return Some(());
        }
        if answer.status != StatusCode::OK {
            return None;
        }
        self.step(Step::Watch { member, from });
        let followed = self.follow(&path, answer, until).await;
        let lost = followed.is_none();
        self.step(Step::Left { lost });
        followed
    }

    async fn follow(&mut self, path: &str, mut answer: Answer, until: Instant) -> Option<()> {
        while let Ok(event) = timeout_at(until, answer.event()).await {
            let heard = match event {
                Ok(Some(event)) => Heard::of(self.kind, &event),
                Ok(None) => break,
                Err(NoEvent::Garbled(what)) => Heard::Nonsense(what),
                Err(NoEvent::Broken) => return None,
            };
            if !self.take(path, heard) {
                break;
            }
        }
        Some(())
    }

    /// What was shown is all that there was.
    fn has_all(&mut self, items: Vec<Seen>, revision: i64) {
        let member = self.rest.member;
        self.step(Step::Listed {
            member,
            revision,
            items,
            asked: None,
        });
        self.step(Step::Watch {
            member,
            from: revision,
        });
        self.reach(revision);
    }

    /// False where the watch is over.
    fn take(&mut self, path: &str, heard: Heard) -> bool {
        let shows = self.initial.take();
        match (heard, shows) {
            (Heard::Nonsense(what), shows) => {
                self.initial = shows;
                self.rest.nonsense(path, what);
                self.position = 0;
                return false;
            }
            (Heard::TooOld { asked, oldest }, shows) => {
                let member = self.rest.member;
                // It knows nothing yet of which that could be said.
                let asked = shows.is_some().then_some(asked);
                if shows.is_some() {
                    self.step(Step::Watch { member, from: 0 });
                }
                self.initial = shows;
                self.step(Step::Expired {
                    member,
                    asked: asked.flatten(),
                    oldest,
                });
                self.position = 0;
                return false;
            }
            (Heard::Event(EventKind::Added, seen), Some(mut items)) => {
                items.push(seen);
                self.initial = Some(items);
            }
            (Heard::Event(kind, seen), Some(_)) => {
                let key = seen.key;
                let what = format!("{kind:?} of {key} before all that there is was shown");
                self.rest.nonsense(path, what);
                self.initial = Some(Vec::new());
                return false;
            }
            (Heard::Bookmark { revision, ends }, Some(items)) => match ends {
                true => self.has_all(items, revision),
                false => self.initial = Some(items),
            },
            (Heard::Event(kind, seen), None) => {
                let revision = seen.revision;
                self.step(Step::Event { kind, seen });
                self.reach(revision);
            }
            (Heard::Bookmark { revision, .. }, None) => {
                self.step(Step::Bookmark { revision });
                self.reach(revision);
            }
        }
        true
    }
}

/// What an event of a watch says.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Event(EventKind, Seen),
    Bookmark {
        revision: i64,
        /// All that there was has been shown.
        ends: bool,
    },
    /// 410: this version is too old, and the history begins after that one, where it says so.
    TooOld {
        asked: Option<i64>,
        oldest: Option<i64>,
    },
    /// Nothing that a watch of this API says, whatever happens to the member.
    Nonsense(String),
}

/// Characters that are told of what is no event.
const TOLD: usize = 300;

impl Heard {
    pub fn of(kind: &str, event: &Value) -> Heard {
        let object = &event["object"];
        let heard = match event["type"].as_str() {
            Some("ADDED") => Heard::of_object(EventKind::Added, kind, object),
            Some("MODIFIED") => Heard::of_object(EventKind::Modified, kind, object),
            Some("DELETED") => Heard::of_object(EventKind::Deleted, kind, object),
            Some("BOOKMARK") => Heard::of_bookmark(&object["metadata"]),
            Some("ERROR") => return Heard::of_error(object),
            _ => None,
        };
        heard.unwrap_or_else(|| Heard::nonsense(event))
    }

    fn of_object(event: EventKind, kind: &str, object: &Value) -> Option<Heard> {
        Some(Heard::Event(event, Seen::of(kind, object)?))
    }

    fn of_bookmark(metadata: &Value) -> Option<Heard> {
        Some(Heard::Bookmark {
            revision: metadata["resourceVersion"].as_str()?.parse().ok()?,
            ends: metadata["annotations"]["k8s.io/initial-events-end"] == "true",
        })
    }

    /// By a Status. That a version is too old is all that may be said instead of events.
    pub fn of_error(status: &Value) -> Heard {
        let reason = status["reason"].as_str().unwrap_or_default();
        let is_too_old = status["kind"] == "Status"
            && status["code"] == 410
            && matches!(reason, "Expired" | "Gone");
        if !is_too_old {
            return Heard::nonsense(status);
        }
        let (asked, oldest) = too_old(status["message"].as_str().unwrap_or_default());
        Heard::TooOld { asked, oldest }
    }

    fn nonsense(told: &Value) -> Heard {
        Heard::Nonsense(told.to_string().chars().take(TOLD).collect())
    }
}

/// The versions in `too old resource version: 4 (7)`: what was asked for, and the oldest.
fn too_old(message: &str) -> (Option<i64>, Option<i64>) {
    let numbers = message.strip_prefix("too old resource version: ");
    let numbers = numbers.and_then(|rest| rest.strip_suffix(')')?.split_once(" ("));
    match numbers {
        Some((asked, oldest)) => (asked.parse().ok(), oldest.parse().ok()),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(status: Value) -> Heard {
        Heard::of("configmaps", &json!({"type": "ERROR", "object": status}))
    }

    #[test]
    fn only_a_410_says_that_a_version_is_too_old() {
        let told = "too old resource version: 4 (7)";
        let with = |code: u16, reason: &str, message: &str| {
            error(json!({"kind": "Status", "code": code, "reason": reason, "message": message}))
        };
        let (asked, oldest) = (Some(4), Some(7));
        assert_eq!(with(410, "Expired", told), Heard::TooOld { asked, oldest });
        assert_eq!(with(410, "Gone", told), Heard::TooOld { asked, oldest });
        let (asked, oldest) = (None, None);
        assert_eq!(with(410, "Expired", "x"), Heard::TooOld { asked, oldest });
        let is_nonsense = |heard: Heard| matches!(heard, Heard::Nonsense(_));
        assert!(is_nonsense(with(500, "InternalError", told)));
        assert!(is_nonsense(with(504, "Expired", told)));
        assert!(is_nonsense(with(410, "Conflict", told)));
        assert!(is_nonsense(error(json!({"code": 410, "reason": "Gone"}))));
        assert!(is_nonsense(error(Value::Null)));
    }

    #[test]
    fn what_shows_nothing_is_no_event() {
        let object = json!({"metadata": {"namespace": "n", "name": "a", "resourceVersion": "5"}});
        let of = |kind: &str, object: &Value| {
            Heard::of("configmaps", &json!({"type": kind, "object": object}))
        };
        let Heard::Event(EventKind::Modified, seen) = of("MODIFIED", &object) else {
            panic!("an event");
        };
        assert_eq!((seen.key.as_str(), seen.revision), ("configmaps/n/a", 5));
        let (revision, ends) = (5, false);
        assert_eq!(of("BOOKMARK", &object), Heard::Bookmark { revision, ends });
        let last = json!({"metadata": {
            "resourceVersion": "5",
            "annotations": {"k8s.io/initial-events-end": "true"}
        }});
        assert!(matches!(
            of("BOOKMARK", &last),
            Heard::Bookmark { ends: true, .. }
        ));
        for kind in ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"] {
            for wrong in [json!({}), json!({"metadata": {"name": "a"}})] {
                assert!(matches!(of(kind, &wrong), Heard::Nonsense(_)), "{kind}");
            }
        }
        assert!(matches!(of("RENAMED", &object), Heard::Nonsense(_)));
        let nothing = Heard::of("configmaps", &json!({"object": object}));
        assert!(matches!(nothing, Heard::Nonsense(_)));
    }
}
