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
use super::wire::{Answer, request};

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
        let followed = self.follow(answer, until).await;
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
        let answer = self
            .rest
            .open(request(Method::GET, &path, None))
            .await
            .ok()?;
        let (member, from) = (self.rest.member, self.position);
        if answer.status == StatusCode::GONE {
            self.step(Step::Watch { member, from });
            self.step(Step::Expired);
            self.position = 0;
            return Some(());
        }
        if answer.status != StatusCode::OK {
            return None;
        }
        self.step(Step::Watch { member, from });
        let followed = self.follow(answer, until).await;
        let lost = followed.is_none();
        self.step(Step::Left { lost });
        followed
    }

    async fn follow(&mut self, mut answer: Answer, until: Instant) -> Option<()> {
        while let Ok(event) = timeout_at(until, answer.event()).await {
            match event.ok()? {
                Some(event) if self.take(&event) => {}
                _ => break,
            }
        }
        Some(())
    }

    /// What was shown is a list, if this is the bookmark that says so.
    fn has_all(&mut self, bookmark: &Value) {
        let metadata = &bookmark["metadata"];
        let is_end = metadata["annotations"]["k8s.io/initial-events-end"] == "true";
        let version = metadata["resourceVersion"].as_str();
        let (true, Some(revision)) = (is_end, version.and_then(|text| text.parse().ok())) else {
            return;
        };
        let member = self.rest.member;
        let items = self.initial.take().unwrap_or_default();
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
    fn take(&mut self, event: &Value) -> bool {
        if let Some(items) = &mut self.initial {
            let object = &event["object"];
            match event["type"].as_str() {
                Some("ADDED") => items.extend(Seen::of(self.kind, object)),
                Some("BOOKMARK") => self.has_all(object),
                _ => return false,
            }
            return true;
        }
        let kind = match event["type"].as_str() {
            Some("ADDED") => EventKind::Added,
            Some("MODIFIED") => EventKind::Modified,
            Some("DELETED") => EventKind::Deleted,
            Some("BOOKMARK") => {
                let version = event["object"]["metadata"]["resourceVersion"].as_str();
                if let Some(revision) = version.and_then(|text| text.parse().ok()) {
                    self.step(Step::Bookmark { revision });
                    self.reach(revision);
                }
                return true;
            }
            _ => {
                self.step(Step::Expired);
                self.position = 0;
                return false;
            }
        };
        if let Some(seen) = Seen::of(self.kind, &event["object"]) {
            let revision = seen.revision;
            self.step(Step::Event { kind, seen });
            self.reach(revision);
        }
        true
    }
}
