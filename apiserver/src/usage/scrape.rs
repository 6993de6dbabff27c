//! Asks nodes for their figures: each at most once in [`FRESH`], whoever wants to know, a bounded number at a time, and none
//! for longer than it is worth. What a node says replaces what it said before, and so does its silence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::figures::NodeFigures;
use crate::ApiServer;
use crate::kubelet::NodeAddress;

/// The node is named for those that share a port, as hollow ones do; others do not read it.
const PATH: &str = "/stats/summary?only_cpu_and_memory=true&node=";
/// For so long what a node said is passed on without asking again, as a metrics-server does. That it did not answer, too.
const FRESH: Duration = Duration::from_secs(15);
/// A node that is well answers in milliseconds.
const NODE_DEADLINE: Duration = Duration::from_secs(5);
/// A client gets what there is by then; the nodes that it did not wait for are left out.
const DEADLINE: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 64;
/// Hundreds of pods are far below it.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A node to ask.
pub(super) struct Asked {
    pub(super) node: String,
    pub(super) address: NodeAddress,
}

/// What nodes said last.
pub(crate) struct Scraper {
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    places: Semaphore,
}

/// Held while its node is asked, so that all who want to know wait for the same answer.
type Slot = tokio::sync::Mutex<Option<Scrape>>;

struct Scrape {
    at: Instant,
    /// Where the node was then.
    address: NodeAddress,
    /// None where it did not answer.
    figures: Option<Arc<NodeFigures>>,
}

impl Scrape {
    fn is_fresh(&self, address: &NodeAddress, now: Instant) -> bool {
        self.address == *address && now.saturating_duration_since(self.at) < FRESH
    }
}

impl Default for Scraper {
    fn default() -> Scraper {
        Scraper {
            slots: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
        }
    }
}

impl Scraper {
    /// The figures of the nodes that have any, by name.
    pub(super) async fn figures(
        &self,
        server: &ApiServer,
        asked: Vec<Asked>,
    ) -> BTreeMap<String, Arc<NodeFigures>> {
        let deadline = Instant::now() + DEADLINE;
        let mut found = BTreeMap::new();
        let mut answers: FuturesUnordered<_> = asked
            .into_iter()
            .map(|one| self.of_node(server, one))
            .collect();
        while let Ok(Some((node, figures))) =
            tokio::time::timeout_at(deadline, answers.next()).await
        {
            if let Some(figures) = figures {
                found.insert(node, figures);
            }
        }
        found
    }

    async fn of_node(
        &self,
        server: &ApiServer,
        asked: Asked,
    ) -> (String, Option<Arc<NodeFigures>>) {
        let slot = self.slot(server, &asked.node);
        let mut kept = slot.lock().await;
        if let Some(scrape) = kept
            .as_ref()
            .filter(|scrape| scrape.is_fresh(&asked.address, Instant::now()))
        {
            return (asked.node, scrape.figures.clone());
        }
        let Ok(_place) = self.places.acquire().await else {
            return (asked.node, None);
        };
        let answer = tokio::time::timeout(NODE_DEADLINE, ask(server, &asked)).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if let Err(error) = &answer {
            tracing::debug!(node = asked.node, error, "a node does not say what it uses");
        }
        let figures = answer.ok().map(Arc::new);
        *kept = Some(Scrape {
            at: Instant::now(),
            address: asked.address,
            figures: figures.clone(),
        });
        (asked.node, figures)
    }

    /// Where the node's figures are kept. Those of nodes that are gone go when there are as many as nodes.
    fn slot(&self, server: &ApiServer, node: &str) -> Arc<Slot> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(node) {
            return slot.clone();
        }
        let nodes = server
            .world
            .named("", "nodes")
            .map_or(0, |cache| cache.len());
        if slots.len() >= nodes {
            slots.retain(|name, _| server.world.get("", "nodes", "", name).is_some());
        }
        slots.entry(node.to_owned()).or_default().clone()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(server: &ApiServer, asked: &Asked) -> Result<NodeFigures, String> {
    // A node's name is a DNS name: it needs no escapes.
    let path = format!("{PATH}{}", asked.node);
    let answer = server.kubelets.get(&asked.address, &path).await;
    let answer = answer.map_err(|error| error.message)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("it answers {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await.map_err(|error| error.to_string())?;
    NodeFigures::read(&body.to_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::Object;
    use serde_json::json;

    #[test]
    fn what_was_said_holds_for_a_while_and_for_one_place() {
        let address = |host: &str| {
            let node = json!({"status": {"addresses": [{"type": "InternalIP", "address": host}]}});
            NodeAddress::of(&Object::new(node).unwrap()).unwrap()
        };
        let at = Instant::now();
        let scrape = Scrape {
            at,
            address: address("10.0.0.1"),
            figures: None,
        };
        let fresh = |host, after| scrape.is_fresh(&address(host), at + after);
        assert!(fresh("10.0.0.1", Duration::from_secs(14)));
        assert!(!fresh("10.0.0.1", FRESH));
        assert!(!fresh("10.0.0.2", Duration::ZERO));
    }
}
