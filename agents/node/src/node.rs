//! The Node object: registration, status, and the Lease that says that the node lives.
//!
//! The lease is renewed every ten seconds and is all that the node controller needs to see; the status is written when
//! it changes, when the API shows another one, and every five minutes, since it is large. A node that was taken for dead is
//! so ready again at once, and not after its pods have been driven out.

mod conditions;
mod health;
mod lease;
mod machine;
mod object;

use std::sync::Arc;
use std::time::Duration;

use agent_runtime::pressure::Pressure;
use agent_runtime::resource_ref::NODES;
use agent_runtime::{ApiError, EventType, PatchType, timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::NodeConfig;
use crate::agent::Agent;
use crate::clock;
use crate::pod::admission::site::Site;
use crate::stats;
use conditions::is_contradicted;
pub(crate) use conditions::{Conditions, Transitions, conditions_of, news, stamp, transitions_of};
pub(crate) use health::{Health, told_of};
use health::{measure, measured_pressure};
pub(crate) use lease::keep_lease;
pub(crate) use machine::{Capacity, Machine};
pub(crate) use object::{extended, object, status};

const LEASE_RETRY: Duration = Duration::from_secs(1);
/// How often the node looks at itself.
const CHECK_PERIOD: Duration = Duration::from_secs(10);
/// How often an unchanged status is written.
const REPORT_PERIOD: Duration = Duration::from_secs(300);

/// Registers the node and keeps its status current; runs until dropped.
pub(crate) async fn keep_status(agent: Arc<Agent>, port: u16) {
    let machine = Machine::of(&agent.config);
    while let Err(error) = register(&agent).await {
        tracing::warn!(error = %error.message, "cannot register the node yet");
        tokio::time::sleep(LEASE_RETRY).await;
    }
    agent.node_event(
        EventType::Normal,
        "Starting",
        "Starting kubelet.".to_owned(),
    );
    if agent.is_hollow() {
        let text = "This node is hollow: its containers are simulated, nothing runs.".to_owned();
        agent.node_event(EventType::Warning, "HollowNode", text);
    }
    let mut recorded: Option<(Health, Instant)> = None;
    // What was told of how long work waits here; it goes with the status.
    let mut told_pressure: Option<Pressure> = None;
    let mut transitions = transitions_of(&shown(&agent).await.unwrap_or_default());
    let on_record = transitions
        .iter()
        .map(|(kind, (status, _))| (kind.clone(), status.clone()));
    let mut told: Conditions = on_record.collect();
    loop {
        let health = measure(&agent).await;
        let pressure = measured_pressure(&agent).await;
        let node = match recorded {
            Some(_) => shown(&agent).await,
            None => None,
        };
        if let Some(node) = &node
            && is_contradicted(&told, node)
        {
            (told, transitions) = (conditions_of(&node["status"]), transitions_of(node));
            recorded = None;
        }
        let extended = node.as_ref().map(extended).unwrap_or_default();
        let due = !extended.is_empty()
            || recorded.as_ref().is_none_or(|(old, at)| {
                *old != health
                    || at.elapsed() >= REPORT_PERIOD
                    || stats::pressure::is_news(told_pressure, pressure, at.elapsed())
            });
        if due {
            let now = clock::now();
            let mut status = status(&agent.config, &agent.capacity, &machine, &health, port);
            stamp(&mut status, &mut transitions, now);
            if let Some(allocatable) = status["allocatable"].as_object_mut() {
                allocatable.extend(extended);
            }
            let mut patch = json!({"status": &status});
            if !agent.is_hollow() {
                patch["metadata"] = told_of(pressure, timestamp::now());
            }
            let name = &agent.config.node_name;
            match agent
                .client
                .patch_status(&NODES, "", name, PatchType::Strategic, &patch)
                .await
            {
                Ok(_) => {
                    let current = conditions_of(&status);
                    for reason in news(&told, &current) {
                        announce(&agent, reason);
                    }
                    told = current;
                    told_pressure = pressure;
                    recorded = Some((health, Instant::now()));
                }
                Err(error) if error.is_not_found() => {
                    // Somebody has deleted the node; it is here, so it comes back.
                    if let Err(error) = register(&agent).await {
                        tracing::warn!(error = %error.message, "cannot register the node again");
                    }
                    tokio::time::sleep(LEASE_RETRY).await;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(error = %error.message, "cannot write the node's status");
                    tokio::time::sleep(LEASE_RETRY).await;
                    continue;
                }
            }
        }
        tokio::time::sleep(CHECK_PERIOD).await;
    }
}

fn announce(agent: &Agent, reason: &'static str) {
    let name = &agent.config.node_name;
    agent.node_event(EventType::Normal, reason, news_text(name, reason));
}

/// What the event of such a change says.
pub(crate) fn news_text(name: &str, reason: &str) -> String {
    format!("Node {name} status is now: {reason}")
}

/// Makes the Node object, or brings the labels of an existing one up to date.
async fn register(agent: &Agent) -> Result<(), ApiError> {
    let node = object(&agent.config);
    let name = &agent.config.node_name;
    match agent.client.create(&NODES, "", &node).await {
        Ok(_) => {
            tracing::info!(node = %name, "registered the node");
            Ok(())
        }
        Err(error) if error.is_already_exists() => {
            let metadata = json!({"labels": node["metadata"]["labels"], "annotations": node["metadata"]["annotations"]});
            let patch = json!({"metadata": metadata});
            agent
                .client
                .patch(&NODES, "", name, PatchType::Merge, &patch)
                .await
                .map(|_| ())
        }
        Err(error) => Err(error),
    }
}

/// The node as the API shows it, from what the server that is asked knows; none where there is none, or no answer.
async fn shown(agent: &Agent) -> Option<Value> {
    let path = NODES.object_path("", &agent.config.node_name, None);
    let asked = agent
        .client
        .get_path(&format!("{path}?resourceVersion=0"))
        .await;
    let node = asked.ok()?;
    let site = site(Some(&node), &agent.config, &agent.capacity);
    agent.see_site(Arc::new(site));
    Some(node)
}

/// The node as it decides about pods, as the API has it now; where that does not answer, as it was seen last.
pub(crate) async fn look(agent: &Agent) -> Arc<Site> {
    let asked = agent.client.get(&NODES, "", &agent.config.node_name).await;
    let seen = match (asked, agent.site()) {
        (Err(_), Some(seen)) => return seen,
        (asked, _) => asked.ok(),
    };
    let site = Arc::new(site(seen.as_ref(), &agent.config, &agent.capacity));
    agent.see_site(site.clone());
    site
}

/// What of a node decides about pods. What the API does not say of it yet is what it will be told.
pub(crate) fn site(node: Option<&Value>, config: &NodeConfig, capacity: &Capacity) -> Site {
    match node {
        Some(node) if node["status"]["allocatable"].is_object() => Site::of(node),
        Some(node) => {
            let (metadata, spec) = (&node["metadata"], &node["spec"]);
            let status = json!({"allocatable": capacity.quantities(true)});
            Site::of(&json!({"metadata": metadata, "spec": spec, "status": status}))
        }
        None => site(Some(&object(config)), config, capacity),
    }
}
